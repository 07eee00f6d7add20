use std::path::PathBuf;

use icecore_ledger::{LedgerRange, LedgerSeq};

/// Everything that a hot chunk can refuse.
///
/// [`is_retryable`](Error::is_retryable) and [`is_corrupt`](Error::is_corrupt) sort the variants; the rest is a caller's
/// mistake, a handle that is closed, or a view that was overtaken.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The store underneath refused.
    #[error(transparent)]
    Store(#[from] icecore_rockstore::Error),
    /// The event index, or an event, is at fault.
    #[error(transparent)]
    Events(#[from] icecore_events::Error),
    /// A ledger to be committed that the chain's decoder refuses. Nothing was changed.
    #[error("{} cannot take ledger {expected}: {source}", path.display())]
    Decode {
        /// The store.
        path: PathBuf,
        /// The ledger that was due.
        expected: LedgerSeq,
        /// What the decoder says.
        source: icecore_ledger::Error,
    },
    /// A ledger is missing before the one to be committed. Nothing was changed.
    #[error("{} got ledger {found} where {expected} is next: ledgers are missing between", path.display())]
    Gap {
        /// The store.
        path: PathBuf,
        /// The ledger that was due.
        expected: LedgerSeq,
        /// The one that came.
        found: LedgerSeq,
    },
    /// A ledger that is there already. Nothing was changed.
    #[error("{} got ledger {found} where {expected} is next: it is there already", path.display())]
    Repeat {
        /// The store.
        path: PathBuf,
        /// The ledger that was due.
        expected: LedgerSeq,
        /// The one that came.
        found: LedgerSeq,
    },
    /// A ledger of another chunk. Nothing was changed.
    #[error("{} holds ledgers {}..={}, not {found}", path.display(), chunk.first, chunk.last)]
    OutOfChunk {
        /// The store.
        path: PathBuf,
        /// The ledgers of its chunk.
        chunk: LedgerRange,
        /// The one that came.
        found: LedgerSeq,
    },
    /// A ledger beyond what a store takes. Nothing was changed.
    #[error("{} cannot take ledger {expected}: its {len_bytes} bytes are more than {max_bytes}", path.display())]
    TooLarge {
        /// The store.
        path: PathBuf,
        /// The ledger that was due.
        expected: LedgerSeq,
        /// Its size.
        len_bytes: u64,
        /// What is allowed.
        max_bytes: u64,
    },
    /// Ledgers that can be no chunk.
    #[error("{}: ledgers {}..={} are no chunk: the first ledger of all is 2", path.display(), chunk.first, chunk.last)]
    BadChunk {
        /// The store.
        path: PathBuf,
        /// What was asked for.
        chunk: LedgerRange,
    },
    /// The store of another chunk.
    #[error(
        "{} holds ledger {found}, which is not of its chunk, {}..={}: it is another chunk's store; put it back into its \
         place", path.display(), chunk.first, chunk.last
    )]
    WrongChunk {
        /// The store.
        path: PathBuf,
        /// The ledgers that it should hold.
        chunk: LedgerRange,
        /// A ledger that it does hold.
        found: LedgerSeq,
    },
    /// Rows contradict each other.
    #[error(
        "{}, chunk of ledgers {}..={}: {what}; what can be read is safe to read, but nothing may be committed: move the \
         directory away and ingest the chunk again", path.display(), chunk.first, chunk.last
    )]
    Corrupt {
        /// The store.
        path: PathBuf,
        /// The ledgers of its chunk.
        chunk: LedgerRange,
        /// The contradiction.
        what: String,
    },
    /// A change through a handle that was opened for reading only.
    #[error("{} is open for reading only", path.display())]
    ReadOnly {
        /// The store.
        path: PathBuf,
    },
    /// Events were asked of a handle that was opened for reading only, without the event index.
    #[error("{} is open without the index that finds events: open it with them, or for writing", path.display())]
    NoEventIndex {
        /// The store.
        path: PathBuf,
    },
    /// Ledgers were removed after the view was taken.
    #[error("{}: ledgers were removed while they were read; take a new view", path.display())]
    Overtaken {
        /// The store.
        path: PathBuf,
    },
}

impl Error {
    /// True where the same call may succeed later with nothing changed but the machine's state.
    pub fn is_retryable(&self) -> bool {
        match self {
            Error::Store(e) => e.is_retryable(),
            Error::Events(e) => e.is_retryable(),
            Error::Decode { source, .. } => source.is_retryable(),
            Error::Overtaken { .. } => true,
            _ => false,
        }
    }

    /// True where what is stored is damaged: trying again cannot help, ingesting again can.
    pub fn is_corrupt(&self) -> bool {
        match self {
            Error::Store(e) => e.is_corrupt(),
            Error::Events(e) => e.is_corrupt(),
            Error::Corrupt { .. } => true,
            _ => false,
        }
    }
}

/// The result of anything done with a hot chunk.
pub type Result<T, E = Error> = std::result::Result<T, E>;
