//! Live ingestion: ledger after ledger into the hot chunk, and from each full chunk to the next.
//!
//! ```text
//! take ─▶ skipped, refetched or next ─▶ commit, one synced batch ─▶ shown to readers ─▶ at a chunk's end: roll over
//! roll over: make the next hot chunk ─▶ publish that this one is complete ─▶ ring for the lifecycle
//! ```
//!
//! A live source is not believed: what is there already is skipped, what it left out comes from the bulk source, and a ledger
//! that is not the one it said ends the run.

use std::{cmp::Ordering, sync::Arc};

use icecore_cold::Layout;
use icecore_hotchunk::{Error as HotError, HotChunk};
use icecore_ledger::{ChunkId, LedgerRange, LedgerSeq, LiveSource};
use icecore_registry::CancelToken;

use crate::{Error, Result, metrics, mutants, plan::Resume, shared::Shared, steps};

/// The place in the history where ledgers are added.
pub(crate) struct Ingestion<'a> {
    shared: &'a Shared,
    stop: &'a CancelToken,
    chunk: ChunkId,
    ledgers: LedgerRange,
    hot: Arc<HotChunk>,
    next: LedgerSeq,
}

impl<'a> Ingestion<'a> {
    /// Opens or makes the hot chunk that is ingested into, and claims it.
    pub(crate) fn begin(shared: &'a Shared, stop: &'a CancelToken, resume: &Resume) -> Result<Self> {
        let (chunk, ledgers) = (resume.chunk, shared.ledgers_of(resume.chunk)?);
        let hot = shared.live_hot(chunk)?;
        shared.published.set_live(Some(chunk));
        tracing::info!(%chunk, next = resume.next.0, "ingestion begins");
        Ok(Ingestion { shared, stop, chunk, ledgers, hot, next: resume.next })
    }

    fn is_over(&self) -> bool {
        self.stop.is_cancelled() || self.shared.is_halted()
    }

    /// Commits whatever comes, until it is told to end.
    pub(crate) fn follow(&mut self) -> Result<()> {
        match self.shared.sources.live.as_deref() {
            Some(live) => self.follow_live(live),
            None => self.follow_bulk(),
        }
    }

    /// Opens the live source again, after a pause, when it ended: what the lifecycle does meanwhile is not disturbed. One that
    /// gives nothing several times in a row ends the run.
    fn follow_live(&mut self, live: &dyn LiveSource) -> Result<()> {
        let Shared { config, clock, journal, .. } = self.shared;
        let mut failed = 0;
        loop {
            let before = self.next;
            let ended = self.follow_stream(live);
            if self.next > before {
                failed = 0;
            }
            match ended {
                Err(Error::Ledger(error)) if error.is_retryable() && failed < config.max_retries => {
                    failed += 1;
                    let error = error.into();
                    metrics::failed("ingest", &error);
                    tracing::warn!(%error, failed, "the live source ended, it is opened again");
                    journal.trouble("following the live source", &error);
                    if clock.pause(config.pause(failed), self.stop) {
                        return Ok(());
                    }
                }
                ended => return ended,
            }
        }
    }

    fn follow_stream(&mut self, live: &dyn LiveSource) -> Result<()> {
        let (stop, shared) = (self.stop, self.shared);
        let is_over = || stop.is_cancelled() || shared.is_halted();
        let mut stream = live.open(self.next, &is_over)?;
        while let Some(raw) = stream.next_ledger()? {
            shared.published.see_tip(raw.seq);
            match raw.seq.cmp(&self.next) {
                Ordering::Less => {
                    metrics::skipped();
                    tracing::debug!(
                        ledger = raw.seq.0,
                        next = self.next.0,
                        "skipped a ledger that is there already"
                    );
                    continue;
                }
                Ordering::Greater => self.refetch(LedgerSeq(raw.seq.0 - 1))?,
                Ordering::Equal => {}
            }
            self.commit(raw.bytes, &|| live.describe())?;
        }
        Ok(())
    }

    /// Follows the bulk source as it grows.
    fn follow_bulk(&mut self) -> Result<()> {
        let Shared { config, clock, sources, .. } = self.shared;
        // One that has to read all of itself to say how far it has come is not asked as often.
        let pause = if sources.bulk.random_access() { config.poll } else { config.poll * 30 };
        while !self.is_over() {
            match self.shared.tip() {
                Ok(tip) if tip >= self.next => self.copy_through(tip)?,
                // It lags behind what is there already, or is being filled.
                Ok(_) | Err(icecore_ledger::Error::Empty { .. }) => {
                    clock.pause(pause, self.stop);
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Fetches what the live source left out.
    fn refetch(&mut self, last: LedgerSeq) -> Result<()> {
        let (shared, stop) = (self.shared, self.stop);
        let wanted = LedgerRange { first: self.next, last };
        tracing::warn!(
            first = wanted.first.0,
            last = last.0,
            "the live source left ledgers out: they are fetched"
        );
        shared.when_reached(stop, wanted, || self.copy_through(last))?;
        metrics::refetched(wanted.count());
        Ok(())
    }

    /// Commits ledgers of the bulk source, up to and with `last`.
    pub(crate) fn copy_through(&mut self, last: LedgerSeq) -> Result<()> {
        let bulk = &self.shared.sources.bulk;
        if self.next > last {
            return Ok(());
        }
        let mut stream = bulk.stream(LedgerRange { first: self.next, last })?;
        while self.next <= last {
            if self.is_over() {
                return Err(Error::Cancelled);
            }
            let raw = stream.next_ledger()?.ok_or_else(|| {
                let (place, expected) = (bulk.describe(), self.next);
                icecore_cold::Error::Truncated { place, expected }
            })?;
            self.commit(raw.bytes, &|| bulk.describe())?;
        }
        Ok(())
    }

    /// Commits the next ledger and shows it, last of all.
    fn commit(&mut self, raw: &[u8], place: &dyn Fn() -> String) -> Result<()> {
        let Shared { published, decoder, .. } = self.shared;
        if mutants::on("show_before_commit") {
            published.show(self.next);
        }
        self.shared.before(steps::COMMIT)?;
        let committed =
            self.hot.commit(raw, &**decoder).map_err(|failed| self.refused(*failed.source, place))?;
        self.shared.after(steps::COMMIT)?;
        metrics::committed(&committed.report);
        published.show(committed.seq);
        metrics::progress(committed.seq, published.latest().unwrap_or(committed.seq), published.tip());
        if committed.seq == self.ledgers.last {
            return self.roll_over();
        }
        self.next = LedgerSeq(committed.seq.0 + 1);
        Ok(())
    }

    fn refused(&self, source: HotError, place: &dyn Fn() -> String) -> Error {
        match source {
            HotError::Gap { .. } | HotError::Repeat { .. } | HotError::OutOfChunk { .. } => {
                Error::Lied { place: place(), expected: self.next, source: Box::new(source) }
            }
            source => source.into(),
        }
    }

    /// Goes on to the next chunk. The full one is left to the lifecycle.
    fn roll_over(&mut self) -> Result<()> {
        let (full, end) = (self.chunk, Error::EndOfHistory { last: self.ledgers.last });
        let next = ChunkId(full.0.saturating_add(1));
        if next > Layout::LAST_CHUNK || self.ledgers.last.0 == u32::MAX {
            return Err(end);
        }
        let ledgers = self.shared.ledgers_of(next).map_err(|_| end)?;
        self.hot = self.shared.live_hot(next)?;
        (self.chunk, self.ledgers, self.next) = (next, ledgers, ledgers.first);
        self.shared.published.set_live(Some(next));
        self.shared.published.set_complete(Some(full));
        tracing::info!(chunk = %full, %next, "chunk complete");
        self.shared.bell.ring();
        Ok(())
    }
}
