//! A view as a source of ledgers: what a chunk is frozen from.

use std::{io, sync::Arc};

use icecore_ledger::{LedgerRange, LedgerStream, RawLedger, Result, Source};

use crate::{Error, Ledgers, View};

impl Source for View {
    fn describe(&self) -> String {
        self.shared.path.display().to_string()
    }

    fn range(&self) -> Result<LedgerRange> {
        View::range(self).ok_or_else(|| icecore_ledger::Error::Empty { place: self.describe() })
    }

    fn stream(&self, ledgers: LedgerRange) -> Result<Box<dyn LedgerStream + '_>> {
        let has = Source::range(self)?;
        if has.intersect(ledgers) != Some(ledgers) {
            return Err(icecore_ledger::Error::OutOfRange { place: self.describe(), has, wanted: ledgers });
        }
        Ok(Box::new(self.ledgers(ledgers).map_err(|e| told(self, &e))?))
    }
}

impl LedgerStream for Ledgers<'_> {
    fn next_ledger(&mut self) -> Result<Option<RawLedger<'_>>> {
        let view = self.view();
        match Ledgers::next_ledger(self) {
            Ok(next) => Ok(next.map(|(seq, bytes)| RawLedger { seq, bytes })),
            Err(error) => Err(told(view, &error)),
        }
    }
}

/// An error in the words of sources.
fn told(view: &View, error: &Error) -> icecore_ledger::Error {
    let place = view.describe();
    if error.is_corrupt() {
        icecore_ledger::Error::Corrupt { place, offset: 0, what: error.to_string() }
    } else {
        icecore_ledger::Error::Io { place, source: Arc::new(io::Error::other(error.to_string())) }
    }
}
