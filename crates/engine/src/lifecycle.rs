//! A lifecycle run: execute what is planned, discard hot chunks that cold files serve, demote what is no longer wanted, and
//! destroy, after the grace, what was demoted.
//!
//! ```text
//! demote ─▶ destroy ─▶ plan ─▶ execute ─▶ discard ─▶ demote ─▶ destroy        each computed from durable keys alone
//! ```
//!
//! The stages do not depend on each other: a disk too full to freeze does not keep from pruning. A run does part of a large
//! plan, so that new chunks, and a retention that was changed, do not wait for a long backfill; it is settled when a second
//! scan finds nothing. One run at a time; ingestion owns the highest hot chunk, the lifecycle everything below.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use icecore_catalog::{FileState, Key, State};
use icecore_hotchunk::HotChunk;
use icecore_ledger::ChunkId;
use icecore_registry::CancelToken;

use crate::{
    Error, Result, Task,
    executor::execute,
    metrics::{self, Op},
    mutants,
    plan::last_frozen,
    shared::Shared,
};

/// How many chunks of a plan one run builds, by worker.
const CHUNKS_PER_WORKER: usize = 4;

/// How often the lifecycle looks whether it is to end, and whether somebody let go of what is to be destroyed.
const LOOK: Duration = Duration::from_millis(100);

/// What is remembered from run to run. Nothing of it is needed to be right: what was demoted is known from its key.
#[derive(Default)]
pub(crate) struct Sweep {
    /// When keys that are `pruning` may be destroyed.
    due: BTreeMap<Key, Duration>,
    /// Hot chunks on their way out which readers may still hold.
    going: BTreeMap<ChunkId, Arc<HotChunk>>,
    /// Chunks whose build failed in the last run.
    failed: BTreeSet<ChunkId>,
}

impl Sweep {
    /// At a process's first look nobody has a view from before: what was demoted then has no grace.
    pub(crate) fn new(state: &State) -> Self {
        let due = pruning(state).into_iter().map(|key| (key, Duration::ZERO)).collect();
        Sweep { due, ..Sweep::default() }
    }

    pub(crate) fn going(&self) -> usize {
        self.going.len()
    }
}

/// What a run did.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct RunReport {
    /// Chunks that were planned, and indexes.
    pub planned: (usize, usize),
    /// Chunks that were frozen.
    pub chunks: u64,
    /// Indexes that were built.
    pub indexes: u64,
    /// Hot chunks that were removed.
    pub discarded: u64,
    /// Keys that were demoted.
    pub demoted: u64,
    /// Keys that were destroyed with their files.
    pub destroyed: u64,
    /// What failed, and in which stage.
    pub failed: Vec<(String, Error)>,
    /// When something is due that waits for its grace or its readers.
    pub due: Option<Duration>,
    /// Whether a scan after the run found nothing to do.
    pub is_settled: bool,
}

impl RunReport {
    /// Whether anything was done.
    pub fn has_acted(&self) -> bool {
        self.chunks + self.indexes + self.discarded + self.demoted + self.destroyed > 0
    }

    fn fail(&mut self, stage: impl ToString, error: Error) {
        metrics::failed("lifecycle", &error);
        self.failed.push((stage.to_string(), error));
    }
}

/// The lifecycle of a store.
pub(crate) struct Lifecycle<'a> {
    pub(crate) shared: &'a Shared,
    pub(crate) stop: &'a CancelToken,
}

impl Lifecycle<'_> {
    /// Runs when it is told that there is something to do, or when something is due; ends when told to, or for an error that
    /// somebody has to look at.
    pub(crate) fn serve(&self) -> Result<()> {
        let Shared { bell, clock, config, .. } = self.shared;
        let mut failed = 0;
        let mut next = Duration::ZERO;
        while !self.stop.is_cancelled() {
            let is_due = clock.now() >= next;
            if !bell.wait(if is_due { Duration::ZERO } else { LOOK }) && !is_due {
                continue;
            }
            let report = self.run();
            if let Some(at) = report.failed.iter().position(|(_, error)| error.is_fatal()) {
                return Err(report.failed.into_iter().nth(at).map_or(Error::Cancelled, |(_, error)| error));
            }
            failed = match report.failed.is_empty() {
                true => 0,
                // What failed does not hold up what does not.
                false if report.chunks > 0 => 1,
                false => failed + 1,
            };
            next = match (failed, report.is_settled) {
                (0, true) => Duration::MAX,
                (0, false) if report.has_acted() => Duration::ZERO,
                (0, false) => report.due.unwrap_or(Duration::ZERO).max(clock.now() + LOOK),
                (failed, _) => clock.now() + config.pause(failed),
            };
        }
        Ok(())
    }

    /// One run.
    pub(crate) fn run(&self) -> RunReport {
        let begun = Instant::now();
        let mut report = RunReport::default();
        // First what needs no room and may make some: nothing that fails later keeps from it.
        self.demote(&mut report);
        self.destroy(&mut report);
        report.due = None;
        self.build(&mut report);
        self.show();
        if self.stop.is_cancelled() {
            // Whoever gave the order may not wait for long.
            return report;
        }
        self.discard(&mut report);
        self.demote(&mut report);
        self.destroy(&mut report);
        let shared = self.shared;
        let (scope, state) = (shared.scope(), shared.state());
        let (complete, target) = (shared.published.complete(), shared.published.target());
        report.is_settled =
            scope.is_settled(&state, complete, target, self.live()) && shared.sweep().going.is_empty();
        metrics::took(Op::Run, begun.elapsed().as_secs_f64());
        metrics::chunks(&state, scope.resolve(&state, target).chunks.len());
        metrics::oldest_view(shared.ages.oldest(shared.clock.now()));
        shared.journal.ran(&report);
        report
    }

    fn build(&self, report: &mut RunReport) {
        let shared = self.shared;
        let target = shared.published.target();
        let plan = shared.scope().resolve(&shared.state(), target);
        report.planned = (plan.chunks.len(), plan.indexes.len());
        metrics::planned(plan.chunks.len(), plan.indexes.len());
        if plan.is_empty() {
            return;
        }
        tracing::info!(
            chunks = plan.chunks.len(),
            indexes = plan.indexes.len(),
            target = target.map(|chunk| chunk.0),
            "planned"
        );
        let part = plan.part(shared.config.workers.max(1) * CHUNKS_PER_WORKER, &shared.sweep().failed);
        let done = execute(shared, part, self.stop);
        (report.chunks, report.indexes) = (done.chunks, done.indexes);
        shared.sweep().failed = done.failed.iter().filter_map(|(task, _)| task.chunk()).collect();
        for (task, error) in done.failed {
            if !matches!(error, Error::Cancelled) {
                tracing::error!(%task, %error, "a task was given up");
                report.fail(task, error);
            }
        }
    }

    /// Shows the last chunk that is frozen where ingestion went on after it before it was there.
    fn show(&self) {
        let published = &self.shared.published;
        let frozen = last_frozen(&self.shared.state());
        if let Some(ledgers) = frozen.and_then(|chunk| self.shared.ledgers_of(chunk).ok()) {
            published.show(ledgers.last);
            published.set_complete(frozen);
        }
    }

    /// Hides what is discarded, and removes it once no reader has it.
    pub(crate) fn discard(&self, report: &mut RunReport) {
        let shared = self.shared;
        let complete = shared.published.complete();
        for chunk in shared.scope().discards(&shared.state(), complete, self.live()) {
            match self.discard_one(chunk) {
                Ok(true) => report.discarded += 1,
                Ok(false) => report.due = Some(shared.clock.now() + LOOK),
                Err(error) => {
                    tracing::error!(%chunk, %error, "cannot discard a hot chunk");
                    report.fail(format!("discarding hot chunk {chunk}"), error);
                }
            }
        }
        metrics::going(shared.sweep().going.len());
    }

    /// The hot chunk that is not the lifecycle's. Without ingestion nobody says which one that is, so the highest is.
    fn live(&self) -> Option<ChunkId> {
        let highest = || self.shared.state().hot.keys().next_back().copied();
        self.shared.published.live().or_else(highest)
    }

    /// Before ingestion begins: discards everything that is not needed, wherever it is, and tells what could not be.
    pub(crate) fn discard_all(&self, complete: Option<ChunkId>) -> Vec<(String, Error)> {
        let mut failed = Vec::new();
        for chunk in self.shared.scope().discards(&self.shared.state(), complete, None) {
            if let Err(error) = self.discard_one(chunk) {
                failed.push((format!("discarding hot chunk {chunk}"), error));
            }
        }
        failed
    }

    /// Whether the chunk is gone; else somebody still reads it.
    fn discard_one(&self, chunk: ChunkId) -> Result<bool> {
        let begun = Instant::now();
        let shared = self.shared;
        let hidden = shared.hide_hot(chunk)?;
        let mut sweep = shared.sweep();
        if let Some(hot) = hidden {
            sweep.going.insert(chunk, hot);
        }
        // Hidden, it can only become less used.
        if let Some(hot) = sweep.going.get(&chunk) {
            if Arc::strong_count(hot) > 1 && !mutants::on("discard_beside_readers") {
                return Ok(false);
            }
            hot.close();
            sweep.going.remove(&chunk);
        }
        drop(sweep);
        shared.remove_hot(chunk)?;
        metrics::took(Op::Discard, begun.elapsed().as_secs_f64());
        Ok(true)
    }

    pub(crate) fn demote(&self, report: &mut RunReport) {
        let shared = self.shared;
        let (scope, state) = (shared.scope(), shared.state());
        let complete = shared.published.complete();
        let mut keys = scope.prunes(&state, complete, shared.published.target());
        let already = pruning(&state);
        keys.retain(|key| !already.contains(key));
        if keys.is_empty() {
            return;
        }
        tracing::info!(keys = keys.len(), floor = %scope.floor(complete), "demoted");
        match shared.catalog.demote(&keys) {
            Ok(()) => report.demoted += keys.len() as u64,
            Err(error) => report.fail("demoting", error.into()),
        }
    }

    /// Destroys what was demoted long enough ago.
    pub(crate) fn destroy(&self, report: &mut RunReport) {
        let shared = self.shared;
        let now = shared.clock.now();
        let keys = pruning(&shared.state());
        let mut due = {
            let mut sweep = shared.sweep();
            sweep.due.retain(|key, _| keys.contains(key));
            for key in keys {
                sweep.due.entry(key).or_insert_with(|| now.saturating_add(shared.config.grace));
            }
            sweep.due.clone()
        };
        let begun = Instant::now();
        due.retain(|key, at| {
            // Told to end it still does some: where works begin and end quickly, room is made all the same.
            if *at > now || self.stop.is_cancelled() && begun.elapsed() > LOOK {
                return true;
            }
            match shared.destroy(key) {
                Ok(()) => report.destroyed += 1,
                Err(error) => report.fail(format!("destroying {key}"), error),
            }
            false
        });
        metrics::demoted(due.len());
        report.due = report.due.into_iter().chain(due.values().copied()).min();
    }
}

/// The keys that are on their way out.
fn pruning(state: &State) -> BTreeSet<Key> {
    let artifacts = state.artifacts.iter().filter(|(_, file)| **file == FileState::Pruning);
    let indexes = state.indexes.iter().filter(|(_, file)| **file == FileState::Pruning);
    let artifacts = artifacts.map(|(&(chunk, artifact), _)| Key::Chunk(chunk, artifact));
    artifacts.chain(indexes.map(|(&coverage, _)| Key::Index(coverage))).collect()
}

impl Task {
    /// The stage that a task belongs to, for metrics.
    pub fn stage(&self) -> &'static str {
        match self {
            Task::Chunk(_) => "freeze",
            Task::Index(_) => "rebuild",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{common::last_of, crash_matrix::world::World};

    #[test]
    fn whoever_is_told_to_end_still_makes_room_and_does_no_more() {
        let world = World::new();
        let process = world.open(last_of(5) + 1, 0).unwrap();
        process.live(last_of(5) + 1).unwrap();
        process.engine.set_retention(2).unwrap();
        let mut report = RunReport::default();
        process.lifecycle(|lifecycle| {
            lifecycle.demote(&mut report);
            lifecycle.destroy(&mut report);
        });
        assert!(report.demoted > 0 && report.destroyed == 0, "{report:?}");
        // There is something to build, too.
        process.engine.shared.published.set_target(Some(ChunkId(50)));
        process.clock.advance(Duration::from_secs(3600));
        let stop = CancelToken::new();
        stop.cancel();
        let report = Lifecycle { shared: &process.engine.shared, stop: &stop }.run();
        assert!(report.destroyed > 0, "{report:?}");
        assert_eq!((report.chunks, report.discarded, report.demoted), (0, 0, 0), "{report:?}");
    }
}
