use crate::{LedgerRange, LedgerSeq, Result};

/// A raw ledger, borrowed from the stream that read it.
#[derive(Clone, Copy, Debug)]
pub struct RawLedger<'a> {
    /// Its sequence number.
    pub seq: LedgerSeq,
    /// Its bytes in the chain's own encoding.
    pub bytes: &'a [u8],
}

/// Where ledgers come from.
pub trait Source: Send + Sync {
    /// What this is, for messages: a path or a description.
    fn describe(&self) -> String;

    /// The ledgers it has now. May read much where the source keeps no index.
    ///
    /// # Errors
    /// As of [`stream`](Source::stream); [`Error::Empty`](crate::Error::Empty) when there is none.
    fn range(&self) -> Result<LedgerRange>;

    /// False where a stream that begins late must read everything before; then few long streams beat many short ones.
    fn random_access(&self) -> bool {
        true
    }

    /// The ledgers of a range, in order.
    ///
    /// # Errors
    /// [`Error::OutOfRange`](crate::Error::OutOfRange) when the source does not have them all, where that is known
    /// at once.
    fn stream(&self, ledgers: LedgerRange) -> Result<Box<dyn LedgerStream + '_>>;
}

/// Ledgers one after the other.
pub trait LedgerStream: Send {
    /// The next ledger, `None` after the last one asked for. Exactly the sequences of the range come, in order, each
    /// once; after an error the stream is over.
    ///
    /// # Errors
    /// [`Error::Gap`](crate::Error::Gap) and [`Error::Repeat`](crate::Error::Repeat) when the source skips or goes
    /// back, [`Error::Truncated`](crate::Error::Truncated), [`Error::Corrupt`](crate::Error::Corrupt) and
    /// [`Error::Malformed`](crate::Error::Malformed) for damage, [`Error::Io`](crate::Error::Io) for reads that failed.
    fn next_ledger(&mut self) -> Result<Option<RawLedger<'_>>>;
}
