use std::path::{Path, PathBuf};

use icecore_ledger::LedgerSeq;

/// Everything that writing, reading and checking a chunk's events can refuse.
///
/// Cheap to clone, so that a writer can repeat its first error for ever. [`is_corrupt`](Error::is_corrupt) and
/// [`is_retryable`](Error::is_retryable) tell damage from bad luck; the rest is a caller's mistake or a format's limit.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The disk refused.
    #[error(transparent)]
    Disk(#[from] icecore_diskio::Error),
    /// An item file refused.
    #[error(transparent)]
    Packfile(#[from] icecore_packfile::Error),
    /// The index over the term keys refused.
    #[error(transparent)]
    Streamhash(#[from] icecore_streamhash::Error),
    /// Bytes that are not one whole event record.
    #[error("not an event record ({len_bytes} bytes): {what}")]
    BadRecord {
        /// How many bytes there are.
        len_bytes: usize,
        /// What is wrong with them.
        what: &'static str,
    },
    /// Bytes that are not one whole bitmap in the portable roaring serialization.
    #[error("not a bitmap of event ids ({len_bytes} bytes): {what}")]
    BadBitmap {
        /// How many bytes there are.
        len_bytes: usize,
        /// What is wrong with them.
        what: String,
    },
    /// A file's bytes contradict the format, one another, or the chunk's other files.
    #[error("{} is damaged, or is not of the same chunk: {what}; restore it or build it again", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// The contradiction, and where.
        what: String,
    },
    /// Written by a later version of this format.
    #[error("{} has version {version} of event app data, this program reads version 1: use a newer one", path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// The version found.
        version: u8,
    },
    /// The body of a stored event is not what the chain's decoder accepts.
    #[error("{}: the body of event {id} does not decode: {source}", path.display())]
    Body {
        /// The file.
        path: PathBuf,
        /// The event.
        id: u32,
        /// The decoder's reason.
        source: icecore_ledger::Error,
    },
    /// A ledger is missing between two that were written.
    #[error("{} got ledger {found} where {expected} is next: ledgers are missing between", path.display())]
    Gap {
        /// The events file being written, or the hot chunk.
        path: PathBuf,
        /// The ledger that should have come.
        expected: LedgerSeq,
        /// The one that came.
        found: LedgerSeq,
    },
    /// A ledger came again, or out of order.
    #[error("{} got ledger {found} where {expected} is next: a repeat, or out of order", path.display())]
    Repeat {
        /// The events file being written, or the hot chunk.
        path: PathBuf,
        /// The ledger that should have come.
        expected: LedgerSeq,
        /// The one that came.
        found: LedgerSeq,
    },
    /// The events of a ledger do not ascend by (transaction, operation, event), on which paging relies.
    #[error(
        "event {index} of ledger {ledger} does not come after the one before it by (transaction, operation, event)"
    )]
    Disordered {
        /// The ledger.
        ledger: LedgerSeq,
        /// The event's place among the events of the ledger, from 0.
        index: usize,
    },
    /// Event ids must be given in ascending order.
    #[error("event id {id} comes after {last}: ids must ascend")]
    Descending {
        /// The highest id so far.
        last: u32,
        /// The one that came.
        id: u32,
    },
    /// More than the format has room for.
    #[error("{what}: {size} is more than the format can hold")]
    TooLarge {
        /// What is too large.
        what: &'static str,
        /// Its size.
        size: u64,
    },
    /// There is no such event.
    #[error("{} has {events} events, there is no event {id}", path.display())]
    NoEvent {
        /// The file.
        path: PathBuf,
        /// The event asked for.
        id: u32,
        /// How many there are.
        events: u32,
    },
    /// There is no such ledger.
    #[error("{} has {ledgers} ledgers from {first}, not ledger {seq}", path.display())]
    NoLedger {
        /// The file.
        path: PathBuf,
        /// The ledger asked for.
        seq: LedgerSeq,
        /// The first ledger there is.
        first: LedgerSeq,
        /// How many there are.
        ledgers: u32,
    },
}

impl Error {
    /// True where a file itself is at fault: it must be restored or built again.
    pub fn is_corrupt(&self) -> bool {
        match self {
            Error::BadRecord { .. }
            | Error::BadBitmap { .. }
            | Error::Corrupt { .. }
            | Error::Body { .. } => true,
            Error::Packfile(e) => e.is_corrupt(),
            Error::Streamhash(e) => e.is_corrupt(),
            _ => false,
        }
    }

    /// True where the same call may succeed later with nothing changed but the machine's state.
    pub fn is_retryable(&self) -> bool {
        self.disk().is_some_and(icecore_diskio::Error::is_retryable)
    }

    /// True where there was no file to begin with.
    pub fn is_not_found(&self) -> bool {
        self.disk().is_some_and(icecore_diskio::Error::is_not_found)
    }

    /// The disk's refusal, where that is what it comes down to.
    pub(crate) fn disk(&self) -> Option<&icecore_diskio::Error> {
        use icecore_packfile::Error as Packfile;
        use icecore_streamhash::Error as Streamhash;
        match self {
            Error::Disk(e) | Error::Packfile(Packfile::Io(e)) | Error::Streamhash(Streamhash::Disk(e)) => {
                Some(e)
            }
            _ => None,
        }
    }

    pub(crate) fn corrupt(path: &Path, what: impl Into<String>) -> Self {
        Error::Corrupt { path: path.to_path_buf(), what: what.into() }
    }
}

/// The result of anything done with events.
pub type Result<T, E = Error> = std::result::Result<T, E>;
