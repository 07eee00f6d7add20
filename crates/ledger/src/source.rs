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

/// Where ledgers come from as they close.
///
/// What it gives is not believed to be whole: a stream may begin before the ledger asked for, or after it, skip, repeat
/// and go back. Whoever reads leaves out what is there already, and fetches elsewhere what is missing.
///
/// ```
/// use icecore_ledger::{LedgerSeq, LiveSource, Result};
///
/// /// Counts the ledgers that come before `stop` says that it is enough.
/// fn count(live: &dyn LiveSource, stop: &(dyn Fn() -> bool + Sync)) -> Result<u64> {
///     let mut stream = live.open(LedgerSeq(2), stop)?;
///     let mut seen = 0;
///     while let Some(ledger) = stream.next_ledger()? {
///         println!("{}: {} bytes", ledger.seq, ledger.bytes.len());
///         seen += 1;
///     }
///     Ok(seen)
/// }
/// ```
pub trait LiveSource: Send + Sync {
    /// What this is, for messages: a path, a command.
    fn describe(&self) -> String;

    /// Ledgers from about `from` on, as they come. A source that runs a program starts it here, anew each time. One
    /// stream is open at a time.
    ///
    /// `stop` is asked at least every 100 milliseconds, also while nothing comes.
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io) and [`Error::Config`](crate::Error::Config) when it cannot be opened.
    fn open<'a>(
        &'a self,
        from: LedgerSeq,
        stop: &'a (dyn Fn() -> bool + Sync),
    ) -> Result<Box<dyn LiveStream + 'a>>;
}

/// Ledgers one after the other, without an end of their own.
pub trait LiveStream: Send {
    /// Waits for the next ledger. `None` once `stop` said so, and only then; after an error the stream is over. The
    /// sequence is the ledger's own word; the rest of its bytes may not have been looked at.
    ///
    /// # Errors
    /// [`Error::Ended`](crate::Error::Ended) when whoever sent the ledgers is gone, also in the middle of one, and
    /// [`Error::Io`](crate::Error::Io): opening again may help, so [`is_retryable`](crate::Error::is_retryable).
    /// [`Error::Corrupt`](crate::Error::Corrupt) and other damage: what comes is no ledger, or longer than allowed.
    fn next_ledger(&mut self) -> Result<Option<RawLedger<'_>>>;
}
