//! One task, done: a chunk's files from the nearest source of its ledgers, or a window's index from its runs. Each goes
//! through the catalog's one write protocol: key to `freezing`, files and their names durable, key to `frozen`.

use std::{sync::Arc, time::Instant};

use icecore_catalog::{Artifact, HotState, Key};
use icecore_cold::{ChunkBuild as Builder, ChunkCounts, Control, Coverage, LedgerPack};
use icecore_diskio::IfExists;
use icecore_hotchunk::HotChunk;
use icecore_ledger::{ChunkId, LedgerRange, Source};
use icecore_registry::CancelToken;

use crate::{
    Error, Result,
    metrics::{self, Op},
    plan::ChunkBuild,
    shared::Shared,
};

/// Where the ledgers of a chunk were read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Origin {
    Hot,
    Pack,
    Bulk,
}

impl Origin {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Origin::Hot => "hot",
            Origin::Pack => "pack",
            Origin::Bulk => "bulk",
        }
    }
}

/// An [`Origin`] that is open.
enum Nearest {
    Hot(Arc<HotChunk>),
    Pack(Arc<LedgerPack>),
    Bulk,
}

/// What does tasks, one at a time; threads share it.
pub(crate) struct Actor<'a> {
    pub(crate) shared: &'a Shared,
    pub(crate) stop: &'a CancelToken,
    pub(crate) control: &'a Control,
    /// Threads for each task, beside its own.
    pub(crate) threads: usize,
}

impl Actor<'_> {
    /// Makes the artifacts of a chunk that are missing.
    pub(crate) fn build_chunk(&self, build: &ChunkBuild) -> Result<ChunkCounts> {
        let begun = Instant::now();
        let keys = build.keys();
        self.forget(&keys);
        let (origin, counts) = self.shared.catalog.build(&keys, || self.write_chunk(build))?;
        let seconds = begun.elapsed().as_secs_f64();
        metrics::froze(origin, seconds, counts.raw_bytes);
        self.shared.journal.froze(&counts, seconds);
        tracing::info!(
            chunk = %build.chunk, from = origin.name(), artifacts = ?build.artifacts, ledgers = counts.ledgers,
            transactions = counts.transactions, events = counts.events, seconds, "chunk frozen"
        );
        Ok(counts)
    }

    /// Builds and commits the index of a window, in place of the one that it has.
    pub(crate) fn build_index(&self, coverage: Coverage) -> Result<u64> {
        let begun = Instant::now();
        self.forget(&[Key::Index(coverage)]);
        let Shared { catalog, .. } = self.shared;
        let geometry = catalog.pins().geometry;
        let (disk, layout, threads) = (catalog.disk(), catalog.layout(), self.threads.max(1));
        // What is kept may have been widened since this was planned.
        let floor = || self.shared.scope().floor(self.shared.published.target());
        let keys = catalog.build_index_above(coverage, floor, || {
            icecore_cold::build_index(disk, layout, &geometry, &coverage, threads, self.control)
                .map_err(stopped)
        })?;
        let seconds = begun.elapsed().as_secs_f64();
        metrics::took(Op::Rebuild, seconds);
        self.shared.journal.rebuilt(keys, seconds);
        tracing::info!(
            window = %coverage.window, first = %coverage.first, last = %coverage.last, keys, seconds, "window indexed"
        );
        Ok(keys)
    }

    /// Lets go of files that are about to be replaced.
    fn forget(&self, keys: &[Key]) {
        keys.iter().for_each(|key| self.shared.files.forget(key));
    }

    fn write_chunk(&self, build: &ChunkBuild) -> Result<(Origin, ChunkCounts)> {
        let ledgers = self.shared.ledgers_of(build.chunk)?;
        match self.nearest(build, ledgers)? {
            Nearest::Hot(hot) => Ok((Origin::Hot, self.write_from(build, ledgers, &hot.view()?)?)),
            Nearest::Pack(pack) => Ok((Origin::Pack, self.write_from(build, ledgers, &*pack)?)),
            Nearest::Bulk => Ok((Origin::Bulk, self.write_from_bulk(build, ledgers)?)),
        }
    }

    /// The source that costs least: the chunk's own hot store, if it is complete; its own pack; else where all came from.
    fn nearest(&self, build: &ChunkBuild, ledgers: LedgerRange) -> Result<Nearest> {
        let state = self.shared.state();
        if state.hot(build.chunk) == Some(HotState::Ready) {
            let hot = self.shared.ready_hot(build.chunk)?;
            if hot.max_committed()? == Some(ledgers.last) {
                return Ok(Nearest::Hot(hot));
            }
            tracing::info!(chunk = %build.chunk, "its hot store is incomplete: another source is used");
        }
        if state.has(build.chunk, Artifact::Ledgers) && !build.artifacts.contains(&Artifact::Ledgers) {
            return Ok(Nearest::Pack(self.shared.pack(build.chunk)?));
        }
        Ok(Nearest::Bulk)
    }

    fn write_from(
        &self,
        build: &ChunkBuild,
        ledgers: LedgerRange,
        source: &dyn Source,
    ) -> Result<ChunkCounts> {
        let kinds: Vec<_> =
            build.artifacts.iter().flat_map(|artifact| artifact.kinds().iter().copied()).collect();
        let builder = Builder {
            disk: self.shared.disk(),
            layout: self.shared.catalog.layout(),
            decoder: &*self.shared.decoder,
            control: self.control,
            threads: self.threads,
            if_exists: IfExists::Replace,
        };
        let mut stream = source.stream(ledgers)?;
        builder.run(build.chunk, ledgers, &kinds, &mut *stream).map_err(stopped)
    }

    /// Waits for a bulk source that has not come so far, but not for ever.
    fn write_from_bulk(&self, build: &ChunkBuild, ledgers: LedgerRange) -> Result<ChunkCounts> {
        let bulk = &self.shared.sources.bulk;
        self.shared.when_reached(self.stop, ledgers, || self.write_from(build, ledgers, &**bulk))
    }
}

impl Shared {
    /// Tries until the bulk source has come so far, for as long as it is waited for.
    pub(crate) fn when_reached<T>(
        &self,
        stop: &CancelToken,
        wanted: LedgerRange,
        mut attempt: impl FnMut() -> Result<T>,
    ) -> Result<T> {
        let begun = self.clock.now();
        let bulk = &self.sources.bulk;
        let mut attempt = || {
            // Where that costs little it is asked first: an attempt may do much before it finds out.
            if bulk.random_access() {
                let has = bulk.range()?;
                if has.last < wanted.last {
                    let place = bulk.describe();
                    return Err(icecore_ledger::Error::OutOfRange { place, has, wanted }.into());
                }
            }
            attempt()
        };
        loop {
            let source = match attempt() {
                Err(e) if lags(&e) => Box::new(e),
                tried => return tried,
            };
            let waited = self.clock.now().saturating_sub(begun);
            if waited >= self.config.bulk_wait {
                let place = self.sources.bulk.describe();
                return Err(Error::SourceLags { place, wanted, waited_seconds: waited.as_secs(), source });
            }
            tracing::debug!(first = wanted.first.0, last = wanted.last.0, "waiting for the bulk source");
            if self.clock.pause(self.config.poll, stop) || self.is_halted() {
                return Err(Error::Cancelled);
            }
        }
    }

    /// Unlinks the files of a key that is on its way out, and deletes the key.
    pub(crate) fn destroy(&self, key: &Key) -> Result<()> {
        let begun = Instant::now();
        self.catalog.destroy(key)?;
        self.files.forget(key);
        metrics::took(Op::Destroy, begun.elapsed().as_secs_f64());
        tracing::info!(%key, "destroyed");
        Ok(())
    }
}

/// Whether a source has not come so far yet.
fn lags(error: &Error) -> bool {
    use icecore_ledger::Error as Source;
    match error {
        Error::Ledger(e) | Error::Cold(icecore_cold::Error::Ledger(e)) => {
            matches!(e, Source::OutOfRange { .. } | Source::Empty { .. })
        }
        Error::Cold(icecore_cold::Error::Truncated { .. }) => true,
        _ => false,
    }
}

/// What a build that was stopped says.
fn stopped(error: icecore_cold::Error) -> Error {
    match error {
        icecore_cold::Error::Cancelled => Error::Cancelled,
        error => error.into(),
    }
}

/// What a task works on, for messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Task {
    /// A chunk is frozen.
    Chunk(ChunkId),
    /// A window is indexed.
    Index(Coverage),
}

impl std::fmt::Display for Task {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Task::Chunk(chunk) => write!(f, "chunk {chunk}"),
            Task::Index(coverage) => {
                write!(f, "the index of chunks {} to {}", coverage.first, coverage.last)
            }
        }
    }
}
