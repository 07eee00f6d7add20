//! A lake that grows.

use std::time::{Duration, Instant};

use icecore_ledger::{Error, GENESIS, LedgerSeq, LiveSource, LiveStream, RawLedger, Result, Source};

use super::poll::pause;
use crate::source::{Lake, io_error, lake::batch::Batch};

/// Each batch is asked for by its name; when it should be there and is not, the lake is looked over.
impl LiveSource for Lake {
    fn describe(&self) -> String {
        Source::describe(self)
    }

    /// The stream begins with `from`, or with the lake's first ledger where that is later.
    ///
    /// # Errors
    /// [`Error::Io`] and [`Error::Config`] when the lake cannot be listed.
    fn open<'a>(
        &'a self,
        from: LedgerSeq,
        stop: &'a (dyn Fn() -> bool + Sync),
    ) -> Result<Box<dyn LiveStream + 'a>> {
        let next = match self.range() {
            Ok(has) => from.max(has.first),
            Err(Error::Empty { .. }) => from.max(GENESIS),
            Err(error) => return Err(error),
        };
        Ok(Box::new(Growing { lake: self, next: Some(next), batch: None, since: None, looked: None, stop }))
    }
}

struct Growing<'a> {
    lake: &'a Lake,
    /// `None` after an error.
    next: Option<LedgerSeq>,
    batch: Option<Batch>,
    /// Since when the next batch is known to be overdue.
    since: Option<Instant>,
    /// When the lake was looked over.
    looked: Option<Instant>,
    stop: &'a (dyn Fn() -> bool + Sync),
}

impl LiveStream for Growing<'_> {
    fn next_ledger(&mut self) -> Result<Option<RawLedger<'_>>> {
        let ended = |how: &str| Error::Ended { place: Source::describe(self.lake), how: how.to_owned() };
        let seq =
            self.next.take().ok_or_else(|| ended("it failed before, or the last sequence was reached"))?;
        while self.batch.as_ref().is_none_or(|batch| batch.ledger(seq).is_none()) {
            if (self.stop)() {
                self.next = Some(seq);
                return Ok(None);
            }
            // Its memory is free before the next batch takes its own.
            self.batch = None;
            self.fetch(seq)?;
        }
        self.next = seq.0.checked_add(1).map(LedgerSeq);
        Ok(self.batch.as_ref().and_then(|batch| batch.ledger(seq)))
    }
}

impl Growing<'_> {
    /// Fetches the batch of a ledger; where it is not whole yet, waits a little and comes back without.
    fn fetch(&mut self, seq: LedgerSeq) -> Result<()> {
        let name = self.lake.layout().batch_of(seq);
        let why = match self.lake.fetch(name) {
            Ok(batch) => {
                (self.batch, self.since) = (Some(batch), None);
                return Ok(());
            }
            // A batch that is being written is short.
            Err(error @ Error::Truncated { .. }) => error,
            Err(error @ Error::Missing { .. }) if self.is_overtaken(name.last)? => error,
            Err(Error::Missing { .. }) => {
                self.since = None;
                return self.pause();
            }
            Err(error) => return Err(error),
        };
        let overdue = self.since.get_or_insert_with(Instant::now).elapsed();
        if overdue >= self.lake.options().patience { Err(why) } else { self.pause() }
    }

    /// True when the lake has a batch after the one that ends with `last`. To list a lake costs more than to ask for a
    /// batch, so it is not done each time.
    fn is_overtaken(&mut self, last: LedgerSeq) -> Result<bool> {
        if self.looked.is_some_and(|at| at.elapsed() < self.lake.options().patience / 4) {
            return Ok(self.since.is_some());
        }
        self.looked = Some(Instant::now());
        match self.lake.newest() {
            Ok(newest) => Ok(newest > last),
            Err(Error::Empty { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn pause(&self) -> Result<()> {
        let every = self.lake.options().ask_every.max(Duration::from_millis(1));
        let paused = pause(every, self.stop);
        paused.map(drop).map_err(|error| io_error(&Source::describe(self.lake), error))
    }
}
