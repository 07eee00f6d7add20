//! Beginning the work: what a process that ended left behind, how far the history is, and where it goes on; and the worker
//! that does so again after each error.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Weak},
    time::Duration,
};

use icecore_catalog::HotState;
use icecore_ledger::LedgerSeq;
use icecore_registry::{CancelToken, Registry, StartOutcome, WorkerConfig};

use crate::{
    Error, Result, Worker, ingest::Ingestion, lifecycle::Lifecycle, metrics, plan::Resume, shared::Shared,
};

/// How often whoever waits for the lifecycle's rest looks whether it has come.
const LOOK: Duration = Duration::from_millis(20);

impl Shared {
    /// Takes up what is there: removes hot chunks that nobody needs, opens all others, and shows how far the history is.
    /// Changes nothing that a second call would find otherwise. Ingestion and lifecycle must be at rest.
    pub(crate) fn take_up(&self, stop: &CancelToken) -> Result<LedgerSeq> {
        self.published.set_live(None);
        let scope = self.scope();
        let held = |chunk| Ok::<_, Error>(self.ready_hot(chunk)?.max_committed()?);
        let last = scope.last_committed(&self.state(), held)?;
        let complete = scope.last_whole(&self.state(), held)?;
        // One that cannot be removed now is tried again by the first run.
        for (stage, error) in (Lifecycle { shared: self, stop }).discard_all(complete) {
            self.journal.trouble(stage, &error);
        }
        for (&chunk, &hot) in &self.state().hot {
            if hot == HotState::Ready {
                self.ready_hot(chunk)?;
            }
        }
        if last >= scope.earliest {
            self.published.show(last);
        }
        self.published.set_complete(complete);
        self.published.set_target(scope.geometry.last_complete_chunk(last));
        tracing::info!(last = last.0, complete = complete.map(|chunk| chunk.0), floor = %scope.floor(complete), "taken up");
        Ok(last)
    }

    /// Decides where ingestion goes on: samples the source's tip, without which there is no start.
    pub(crate) fn decide(&self, last: LedgerSeq) -> Result<Resume> {
        let scope = self.scope();
        let is_first = last < scope.earliest;
        let place = || self.sources.bulk.describe();
        let tip = match self.tip() {
            Ok(tip) => tip,
            Err(e) if is_first => return Err(Error::NoTip { place: place(), source: Box::new(e) }),
            Err(error) if self.sources.live.is_some() => {
                tracing::warn!(%error, "the bulk source gives no tip: the live one is followed from what is here");
                last
            }
            Err(e) => return Err(e.into()),
        };
        if is_first && u64::from(scope.earliest.0) > u64::from(tip.0) + 1 {
            return Err(Error::FloorPastTip { earliest: scope.earliest, place: place(), tip });
        }
        let resume = scope.resume(last, tip).ok_or(Error::EndOfHistory { last })?;
        tracing::info!(
            last = last.0, tip = tip.0, chunk = %resume.chunk, next = resume.next.0,
            complete = resume.complete.map(|chunk| chunk.0), "resuming"
        );
        Ok(resume)
    }
}

/// The worker that ingests: begins all work, and does so again, after a pause, when it ended in an error.
pub(crate) fn supervise(
    shared: &Arc<Shared>,
    registry: &Weak<Registry<Worker>>,
    stop: &CancelToken,
) -> Result<()> {
    let mut failed = 0;
    let mut has_room = shared.config.allow_full_disk;
    while !stop.is_cancelled() && !shared.is_halted() {
        let before = shared.published.latest();
        let ended = guarded("ingestion", || work(shared, registry, stop, &mut has_room));
        if stop.is_cancelled() {
            // Whoever told this worker tells the others in their turn.
            return Ok(());
        }
        match ended {
            _ if shared.is_halted() => break,
            Err(error) if error.is_fatal() => {
                shared.journal.trouble("ingestion", &error);
                shared.halt(error);
                break;
            }
            Ok(()) | Err(Error::Cancelled) => {}
            Err(error) => {
                metrics::failed("ingest", &error);
                shared.journal.trouble("ingestion", &error);
                tracing::error!(%error, "ingestion ended, it is begun anew");
            }
        }
        failed = if shared.published.latest() > before { 1 } else { failed + 1 };
        metrics::restarted();
        shared.journal.pages().restarts += 1;
        // The lifecycle is at work meanwhile: it may be what makes the room that ingestion lacked.
        if shared.clock.pause(shared.config.pause(failed), stop) || !at_rest(registry, stop) {
            return Ok(());
        }
    }
    if let Some(registry) = registry.upgrade() {
        registry.quiesce_blocking(Worker::Lifecycle);
    }
    shared.fatal().map_or(Ok(()), |source| Err(Error::Stopped { source }))
}

/// Brings the lifecycle to rest, however long it is stuck in a source: two of them never work at once. False when this worker
/// is told to end first.
fn at_rest(registry: &Weak<Registry<Worker>>, stop: &CancelToken) -> bool {
    let Some(registry) = registry.upgrade() else { return false };
    let status = registry.quiesce_blocking(Worker::Lifecycle);
    tracing::debug!(%status, "the lifecycle was told to rest");
    while registry.any_alive_for(Worker::Lifecycle) {
        if stop.wait_timeout(LOOK) {
            return false;
        }
    }
    true
}

/// One life of the work: start-up, then ingestion beside the lifecycle.
fn work(
    shared: &Arc<Shared>,
    registry: &Weak<Registry<Worker>>,
    stop: &CancelToken,
    has_room: &mut bool,
) -> Result<()> {
    let last = shared.take_up(stop)?;
    let resume = shared.decide(last)?;
    shared.published.set_target(resume.complete);
    if !*has_room {
        shared.estimate()?.require_room()?;
        *has_room = true;
    }
    // The lifecycle first: where the disk is too full to make a hot chunk, it is what makes room.
    shared.published.set_live(Some(resume.chunk));
    start_lifecycle(shared, registry)?;
    let mut ingestion = Ingestion::begin(shared, stop, &resume)?;
    ingestion.follow()
}

fn start_lifecycle(shared: &Arc<Shared>, registry: &Weak<Registry<Worker>>) -> Result<()> {
    let Some(registry) = registry.upgrade() else { return Err(Error::Cancelled) };
    shared.bell.ring();
    let config = WorkerConfig {
        weight: Worker::Lifecycle.weight(),
        join_budget: shared.config.shutdown,
        ..WorkerConfig::default()
    };
    let shared = Arc::clone(shared);
    let outcome = registry.start_thread(Worker::Lifecycle, config, move |stop| {
        let served = guarded("the lifecycle", || Lifecycle { shared: &shared, stop: &stop }.serve());
        if let Err(error) = served {
            let text = error.to_string();
            shared.journal.trouble("the lifecycle", &error);
            shared.halt(error);
            return Err(text);
        }
        Ok(())
    });
    started("the lifecycle", outcome)
}

/// Makes a panic an error, so that a worker that is gone does not go unnoticed.
pub(crate) fn guarded(worker: &'static str, work: impl FnOnce() -> Result<()>) -> Result<()> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
        Err(Error::Panicked { worker, message: text.unwrap_or_else(|| "nothing".to_owned()) })
    })
}

/// A start's outcome as a result.
pub(crate) fn started(worker: &'static str, outcome: StartOutcome) -> Result<()> {
    match outcome {
        StartOutcome::Started(_) => Ok(()),
        StartOutcome::Closing => Err(Error::Cancelled),
        other => Err(Error::NotStarted { worker, why: format!("{other:?}") }),
    }
}
