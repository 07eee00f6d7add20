use std::{io, sync::Arc};

use crate::{LedgerRange, LedgerSeq};

/// Everything that sources, decoders and the arithmetic of a history can refuse.
///
/// `place` says where: a path, an object's name, a generator's description.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Not 64 hexadecimal digits.
    #[error("{text:?} is not a transaction hash: 64 hexadecimal digits are expected")]
    BadHash {
        /// What was given, cut short.
        text: String,
    },
    /// A range that ends before it begins.
    #[error("the range {first}..={last} ends before it begins")]
    BadRange {
        /// Its first ledger.
        first: LedgerSeq,
        /// Its last ledger.
        last: LedgerSeq,
    },
    /// A geometry that no index can serve.
    #[error(
        "{ledgers_per_chunk} ledgers to a chunk and {chunks_per_window} chunks to a window: both must be at least 1, \
         and a window may span at most 16777216 ledgers"
    )]
    BadGeometry {
        /// Ledgers to a chunk.
        ledgers_per_chunk: u32,
        /// Chunks to a window.
        chunks_per_window: u32,
    },
    /// Settings of a source that make no sense or contradict what it holds.
    #[error("{place}: {what}")]
    Config {
        /// The source or the setting.
        place: String,
        /// What is wrong and what to do.
        what: String,
    },
    /// A source without a single ledger.
    #[error("{place} holds no ledgers")]
    Empty {
        /// The source.
        place: String,
    },
    /// Ledgers were asked for that the source does not have.
    #[error("{place} has ledgers {}..={}, not {}..={}", has.first, has.last, wanted.first, wanted.last)]
    OutOfRange {
        /// The source.
        place: String,
        /// What it has.
        has: LedgerRange,
        /// What was asked for.
        wanted: LedgerRange,
    },
    /// A ledger is missing between two that are there.
    #[error("{place} has a gap: ledger {expected} is missing, {found} comes in its place")]
    Gap {
        /// The source.
        place: String,
        /// The ledger that should have come.
        expected: LedgerSeq,
        /// The one that came.
        found: LedgerSeq,
    },
    /// A ledger came again, or out of order.
    #[error("{place} gives ledger {found} where {expected} is next: a repeat, or out of order")]
    Repeat {
        /// The source.
        place: String,
        /// The ledger that should have come.
        expected: LedgerSeq,
        /// The one that came.
        found: LedgerSeq,
    },
    /// Something holds another ledger than its name or place says.
    #[error("{place} should hold ledger {expected}, but holds {found}")]
    Foreign {
        /// The object or file.
        place: String,
        /// The ledger that belongs there.
        expected: LedgerSeq,
        /// The one that is there.
        found: LedgerSeq,
    },
    /// An object that belongs between others, or to the range asked for, is not there.
    #[error("{place} is missing: it should hold ledger {expected}")]
    Missing {
        /// The object or file.
        place: String,
        /// The ledger that it should hold.
        expected: LedgerSeq,
    },
    /// The bytes end in the middle of something.
    #[error("{place} ends at byte {offset}, in the middle of {what}")]
    Truncated {
        /// The object or file.
        place: String,
        /// Where it ends.
        offset: u64,
        /// What was being read.
        what: String,
    },
    /// The container around ledgers is damaged.
    #[error("{place} is damaged at byte {offset}: {what}")]
    Corrupt {
        /// The object or file.
        place: String,
        /// Where.
        offset: u64,
        /// How.
        what: String,
    },
    /// The bytes of a ledger, or of an event, are not what the chain defines.
    #[error("not a valid {what} at byte {offset}: {why}")]
    Malformed {
        /// What was being decoded.
        what: &'static str,
        /// Where in the bytes given.
        offset: u64,
        /// Why it is refused.
        why: String,
    },
    /// Whoever sent ledgers as they closed is gone. Opening the source again may help.
    #[error("{place} has ended: {how}")]
    Ended {
        /// The source.
        place: String,
        /// How, and where: between two ledgers, or in the middle of one.
        how: String,
    },
    /// A read failed. Trying again may help.
    #[error("cannot read {place}: {source}")]
    Io {
        /// The object or file.
        place: String,
        /// The system's answer.
        source: Arc<io::Error>,
    },
}

impl Error {
    /// True where the same call may succeed later with nothing changed.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Error::Io { .. } | Error::Ended { .. })
    }

    /// True where bytes are damaged: trying again cannot help, another copy can.
    pub fn is_corrupt(&self) -> bool {
        use Error::*;
        matches!(self, Foreign { .. } | Truncated { .. } | Corrupt { .. } | Malformed { .. })
    }
}

/// The result of reading or decoding ledgers.
pub type Result<T, E = Error> = std::result::Result<T, E>;
