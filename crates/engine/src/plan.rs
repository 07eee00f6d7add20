//! What is to be done, decided without doing anything: functions of the catalog's state and of how far the history is.
//!
//! ```text
//! floor      the first chunk that is kept          resolve    chunks and indexes that are to be built, newest first
//! resume     where ingestion goes on               discards   hot chunks that are no longer needed
//! progress   the last committed ledger             prunes     keys of what is no longer wanted
//! ```
//!
//! All read durable keys only, so a restart neither repeats nor skips, and executing what they list leaves nothing to list.
//! "Before the first chunk is complete" is `None` throughout.

use std::collections::BTreeSet;

use icecore_catalog::{Artifact, FileState, HotState, Key, State};
use icecore_cold::Coverage;
use icecore_ledger::{ChunkId, GENESIS, Geometry, LedgerSeq, WindowId};

use crate::mutants;

/// What is kept: the numbers from which the floor follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scope {
    /// How the history is cut.
    pub geometry: Geometry,
    /// The first ledger that is ever kept; a chunk begins with it.
    pub earliest: LedgerSeq,
    /// How many complete chunks are kept; 0 keeps all.
    pub retention_chunks: u32,
}

/// The artifacts of one chunk that are to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChunkBuild {
    /// The chunk.
    pub chunk: ChunkId,
    /// What it lacks, in the order of [`Artifact::ALL`].
    pub artifacts: Vec<Artifact>,
}

impl ChunkBuild {
    /// The keys of what is made.
    pub fn keys(&self) -> Vec<Key> {
        self.artifacts.iter().map(|&artifact| Key::Chunk(self.chunk, artifact)).collect()
    }
}

/// What is missing, newest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Chunks with artifacts to make.
    pub chunks: Vec<ChunkBuild>,
    /// Indexes to build, each once the chunks that it covers are there.
    pub indexes: Vec<Coverage>,
}

impl Plan {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.chunks.is_empty() && self.indexes.is_empty()
    }

    /// The part to do next: at most `chunks` chunk builds, those that failed before last, and the indexes that wait for
    /// nothing else.
    #[must_use]
    pub fn part(mut self, chunks: usize, failed: &BTreeSet<ChunkId>) -> Plan {
        self.chunks.sort_by_key(|build| failed.contains(&build.chunk));
        let later = self.chunks.split_off(chunks.min(self.chunks.len()));
        self.indexes.retain(|index| !later.iter().any(|build| index.covers(build.chunk)));
        self
    }
}

/// Where ingestion goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resume {
    /// The chunk that is ingested into.
    pub chunk: ChunkId,
    /// The first ledger to commit.
    pub next: LedgerSeq,
    /// The last complete chunk of the source; all from the floor to it are built where they are missing.
    pub complete: Option<ChunkId>,
}

impl Scope {
    /// The first chunk that is kept, with `complete` the last complete one. Readers and pruning use this same function.
    pub fn floor(&self, complete: Option<ChunkId>) -> ChunkId {
        let earliest = self.geometry.chunk_of(self.earliest.max(GENESIS)).unwrap_or(ChunkId(0));
        match (complete, self.retention_chunks) {
            (None, _) | (_, 0) => earliest,
            (Some(last), keep) => earliest.max(ChunkId((last.0 + 1).saturating_sub(keep))),
        }
    }

    /// The last committed ledger, from durable keys: that of the highest chunk whose ledgers are frozen, or, where higher hot
    /// chunks are ready, what `hot` says was last committed to the highest that is not empty; the one before `earliest` where
    /// there is nothing.
    ///
    /// # Errors
    /// Those of `hot`.
    pub fn last_committed<E>(
        &self,
        state: &State,
        mut hot: impl FnMut(ChunkId) -> Result<Option<LedgerSeq>, E>,
    ) -> Result<LedgerSeq, E> {
        let frozen = state.artifacts.iter().rev().find_map(|(&(chunk, artifact), &file)| {
            (artifact == Artifact::Ledgers && file == FileState::Frozen).then_some(chunk)
        });
        let before = LedgerSeq(self.earliest.max(GENESIS).0 - 1);
        for chunk in ready_above(state, frozen) {
            // An empty one says where somebody meant to go on, not what is here.
            if let Some(last) = hot(chunk)? {
                return Ok(last.max(before));
            }
        }
        let last = frozen.and_then(|chunk| self.geometry.ledgers_of(chunk)).map(|ledgers| ledgers.last);
        Ok(last.unwrap_or(before).max(before))
    }

    /// The last complete chunk that is here, from durable keys: the highest that is frozen, or a higher hot chunk to which
    /// `hot` says that all of its ledgers were committed.
    ///
    /// # Errors
    /// Those of `hot`.
    pub fn last_whole<E>(
        &self,
        state: &State,
        mut hot: impl FnMut(ChunkId) -> Result<Option<LedgerSeq>, E>,
    ) -> Result<Option<ChunkId>, E> {
        let frozen = last_frozen(state);
        for chunk in ready_above(state, frozen) {
            let end = self.geometry.ledgers_of(chunk).map(|ledgers| ledgers.last);
            if end.is_some() && hot(chunk)? == end {
                return Ok(Some(chunk));
            }
        }
        Ok(frozen)
    }

    /// Where ingestion goes on after `last`, when the source has come to `tip`. A chunk that was begun and is within one
    /// chunk of the tip is left to ingestion; where more is missing, all chunks that are complete at the tip are backfilled.
    /// `None` where sequences, or the names of files, come to their end.
    pub fn resume(&self, last: LedgerSeq, tip: LedgerSeq) -> Option<Resume> {
        let next = LedgerSeq(last.0.checked_add(1)?);
        let chunk = self.geometry.chunk_of(next)?;
        let begun = self.geometry.ledgers_of(chunk)?.first < next;
        match self.geometry.last_complete_chunk(tip) {
            Some(complete) if complete > chunk || (complete == chunk && !begun) => {
                let chunk = ChunkId(complete.0.checked_add(1)?);
                let next = self.geometry.ledgers_of(chunk)?.first;
                Some(Resume { chunk, next, complete: Some(complete) })
            }
            _ => Some(Resume { chunk, next, complete: self.geometry.last_complete_chunk(last) }),
        }
    }

    /// The chunks of a window, first and last.
    fn chunks_of(&self, window: WindowId) -> (ChunkId, ChunkId) {
        let per_window = self.geometry.chunks_per_window();
        let first = window.0.saturating_mul(per_window);
        (ChunkId(first), ChunkId(first.saturating_add(per_window - 1)))
    }

    /// What a window's index must cover of chunks `first..=last`; `None` where they do not meet.
    fn wanted(&self, window: WindowId, first: ChunkId, last: ChunkId) -> Option<Coverage> {
        let (lowest, highest) = self.chunks_of(window);
        let (first, last) = (first.max(lowest), last.min(highest));
        (first <= last).then_some(Coverage { window, first, last })
    }

    /// Whether a window is done with its hash runs: its index covers what it must, up to the window's last chunk.
    fn is_terminal(&self, state: &State, wanted: &Coverage) -> bool {
        let (_, highest) = self.chunks_of(wanted.window);
        state.frozen_index(wanted.window).is_some_and(|has| has.contains(wanted) && has.last == highest)
    }

    /// Lists what is missing of all chunks from the floor to the last complete one.
    pub fn resolve(&self, state: &State, complete: Option<ChunkId>) -> Plan {
        let mut plan = Plan::default();
        let floor = self.floor(complete);
        let Some(last) = complete.filter(|last| *last >= floor) else { return plan };
        let windows = self.geometry.window_of(floor).0..=self.geometry.window_of(last).0;
        for wanted in windows.rev().filter_map(|window| self.wanted(WindowId(window), floor, last)) {
            let needs_runs = !self.is_terminal(state, &wanted);
            for chunk in (wanted.first.0..=wanted.last.0).rev().map(ChunkId) {
                let mut artifacts = Artifact::ALL.to_vec();
                artifacts.retain(|&artifact| {
                    (artifact != Artifact::TxHash || needs_runs)
                        && state.artifact(chunk, artifact) != Some(FileState::Frozen)
                });
                if !artifacts.is_empty() {
                    plan.chunks.push(ChunkBuild { chunk, artifacts });
                }
            }
            if !state.frozen_index(wanted.window).is_some_and(|has| has.contains(&wanted)) {
                plan.indexes.push(wanted);
            }
        }
        plan
    }

    /// Lists the hot chunks that are no longer needed, below `live`, which ingestion owns. With none, before ingestion has
    /// begun, also what was being made or removed when a process ended, wherever it is.
    pub fn discards(&self, state: &State, complete: Option<ChunkId>, live: Option<ChunkId>) -> Vec<ChunkId> {
        let floor = self.floor(complete);
        let served = |chunk| {
            let frozen = |artifact| state.artifact(chunk, artifact) == Some(FileState::Frozen);
            let covered = state.covered(chunk) || mutants::on("discard_before_index");
            frozen(Artifact::Ledgers) && frozen(Artifact::Events) && covered
        };
        let ours = state.hot.iter().filter(|(chunk, _)| live.is_none_or(|live| **chunk < live));
        ours.filter(|&(&chunk, &hot)| hot == HotState::Transient || chunk < floor || served(chunk))
            .map(|(&chunk, _)| chunk)
            .collect()
    }

    /// Lists the keys of what is no longer wanted: what is being removed, what lies wholly below the floor, what was begun
    /// and is not to be built, and the hash runs of windows that are done with them.
    ///
    /// The floor follows from `complete`, which is here; what is to be built from `target`, which may still be on its way: what
    /// is old goes when what is new has come.
    pub fn prunes(&self, state: &State, complete: Option<ChunkId>, target: Option<ChunkId>) -> Vec<Key> {
        let (floor, built_from) = (self.floor(complete), self.floor(target));
        let plan = self.resolve(state, target);
        let wanted: BTreeSet<(ChunkId, Artifact)> = plan
            .chunks
            .iter()
            .flat_map(|build| build.artifacts.iter().map(|&artifact| (build.chunk, artifact)))
            .collect();
        let done_with_runs = |chunk| {
            let window = self.geometry.window_of(chunk);
            let coverage = target.and_then(|last| self.wanted(window, built_from, last));
            coverage.is_some_and(|wanted| wanted.covers(chunk) && self.is_terminal(state, &wanted))
        };
        let indexes = state.indexes.iter().filter(|&(coverage, &file)| {
            file != FileState::Frozen || coverage.last < floor || mutants::on("prune_live_index")
        });
        let artifacts = state.artifacts.iter().filter(|&(&(chunk, artifact), &file)| match file {
            _ if chunk < floor => true,
            FileState::Pruning => true,
            FileState::Freezing => !wanted.contains(&(chunk, artifact)),
            FileState::Frozen => artifact == Artifact::TxHash && done_with_runs(chunk),
        });
        let indexes = indexes.map(|(&coverage, _)| Key::Index(coverage));
        indexes.chain(artifacts.map(|(&(chunk, artifact), _)| Key::Chunk(chunk, artifact))).collect()
    }

    /// Whether there is nothing to build, to discard or to prune.
    pub fn is_settled(
        &self,
        state: &State,
        complete: Option<ChunkId>,
        target: Option<ChunkId>,
        live: Option<ChunkId>,
    ) -> bool {
        self.resolve(state, target).is_empty()
            && self.discards(state, complete, live).is_empty()
            && self.prunes(state, complete, target).is_empty()
    }
}

/// Hot chunks that are ready, above another chunk, the highest first.
fn ready_above(state: &State, other: Option<ChunkId>) -> impl Iterator<Item = ChunkId> {
    let ready = state.hot.iter().rev().filter(|(_, hot)| **hot == HotState::Ready).map(|(&chunk, _)| chunk);
    ready.take_while(move |chunk| other.is_none_or(|other| *chunk > other))
}

/// The highest chunk that can be read from frozen files.
pub fn last_frozen(state: &State) -> Option<ChunkId> {
    let mut chunks = state.artifacts.keys().rev().map(|(chunk, _)| *chunk);
    chunks.find(|&chunk| state.has(chunk, Artifact::Ledgers) && state.has(chunk, Artifact::Events))
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
