use std::{io, path::PathBuf, sync::Arc};

use icecore_ledger::{LedgerRange, LedgerSeq};

use crate::Key;

/// Everything that can go wrong with runs and window indexes, told apart by what a caller can do about it.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The disk refused.
    #[error(transparent)]
    Disk(#[from] icecore_diskio::Error),
    /// The index file underneath refused, or could not be built.
    #[error(transparent)]
    Index(icecore_streamhash::Error),
    /// The run of a chunk is not there. Write it again from the chunk's ledgers.
    #[error("the sorted run {} is missing; write it again from its ledgers", path.display())]
    MissingRun {
        /// Where it should be.
        path: PathBuf,
    },
    /// A file is not a whole run, or not what it was a moment ago.
    #[error("{} is damaged: {what}; write the run again from its ledgers", path.display())]
    CorruptRun {
        /// The run.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// The keys of a run do not ascend.
    #[error("{} is damaged: entry {position} is smaller than the one before; write the run again", path.display())]
    UnsortedRun {
        /// The run.
        path: PathBuf,
        /// The entry that comes too late, from 0.
        position: u64,
    },
    /// An entry names a ledger that the index is not to cover.
    #[error(
        "entry {position} of {} is of ledger {seq}, the index covers {}..={}",
        path.display(), coverage.first, coverage.last
    )]
    OutsideCoverage {
        /// The run.
        path: PathBuf,
        /// The entry, from 0.
        position: u64,
        /// The ledger it names.
        seq: LedgerSeq,
        /// What the index covers.
        coverage: LedgerRange,
    },
    /// The same 16 bytes begin two hashes: an index would be ambiguous. Either a run was given twice, or the history
    /// has the same transaction twice.
    #[error(
        "key {} occurs twice, in ledger {first} and in ledger {second}; no index can hold both",
        hex(key)
    )]
    DuplicateKey {
        /// The key.
        key: Key,
        /// A ledger it occurs in.
        first: LedgerSeq,
        /// The other one; may be the same.
        second: LedgerSeq,
    },
    /// The keys crowd together as hashes never do.
    #[error(
        "{found} keys fall where hashes would put {expected} at the most: these are not the hashes of transactions"
    )]
    NotUniform {
        /// The most that there would ever be between two cuts of the key space.
        expected: u64,
        /// How many there were.
        found: u64,
    },
    /// The coverage is empty, or wider than a 24-bit distance can say.
    #[error("an index cannot cover {}..={}: it needs at least one ledger and at most 16777216", coverage.first, coverage.last)]
    BadCoverage {
        /// What was to be covered.
        coverage: LedgerRange,
    },
    /// An index file, but not one that finds transactions.
    #[error("{} is not a window index: {what}", path.display())]
    NotAWindowIndex {
        /// The file.
        path: PathBuf,
        /// What is different.
        what: String,
    },
    /// A window index that says something impossible. Build it again from its runs.
    #[error("{} is damaged: {what}; build it again from its runs", path.display())]
    CorruptIndex {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// The system gave no thread to a worker.
    #[error("cannot start a worker thread: {source}; ask for fewer workers")]
    Thread {
        /// The system's answer.
        source: Arc<io::Error>,
    },
    /// The caller's progress function asked to stop.
    #[error("the build was cancelled; nothing was written")]
    Cancelled,
}

impl Error {
    /// True where a file is at fault: damaged, cut short or of another kind. It can be made again from what it was
    /// made from.
    pub fn is_corrupt(&self) -> bool {
        match self {
            Error::Index(e) => e.is_corrupt(),
            Error::Disk(icecore_diskio::Error::PastEnd { .. }) => true,
            Error::CorruptRun { .. } | Error::UnsortedRun { .. } => true,
            Error::NotAWindowIndex { .. } | Error::CorruptIndex { .. } => true,
            _ => false,
        }
    }

    /// True where the same call may succeed later with nothing changed but the machine's state.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Error::Disk(e) if e.is_retryable())
    }
}

impl From<icecore_streamhash::Error> for Error {
    fn from(e: icecore_streamhash::Error) -> Self {
        match e {
            icecore_streamhash::Error::Disk(e) => Error::Disk(e),
            e => Error::Index(e),
        }
    }
}

fn hex(key: &Key) -> String {
    key.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The result of anything done with runs and window indexes.
pub type Result<T, E = Error> = std::result::Result<T, E>;
