use std::{path::PathBuf, sync::Arc};

use icecore_ledger::{ChunkId, LedgerRange, LedgerSeq};

/// Everything that the engine can refuse or end in.
///
/// [`is_fatal`](Error::is_fatal) ones stop the engine for good, after any other its work is tried again.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The catalog refused: its lock, a pin that changed, damage.
    #[error(transparent)]
    Catalog(#[from] icecore_catalog::Error),
    /// A frozen file is damaged or could not be written.
    #[error(transparent)]
    Cold(#[from] icecore_cold::Error),
    /// A hot chunk refused.
    #[error(transparent)]
    Hot(#[from] icecore_hotchunk::Error),
    /// A source or the decoder refused.
    #[error(transparent)]
    Ledger(#[from] icecore_ledger::Error),
    /// A file or directory could not be read or written.
    #[error(transparent)]
    Disk(#[from] icecore_diskio::Error),
    /// Event files are damaged, or an event is refused.
    #[error(transparent)]
    Events(#[from] icecore_events::Error),
    /// A hash run or window index is damaged.
    #[error(transparent)]
    TxIndex(#[from] icecore_txindex::Error),
    /// A hot chunk that the catalog calls ready does not open: its ledgers are lost, and nothing pretends otherwise.
    #[error(
        "hot chunk {chunk} at {} is lost: {source}; put the directory back, or run `icecore recover --hot` for its ledgers, \
         which are then fetched again", path.display()
    )]
    HotStoreLost {
        /// The chunk.
        chunk: ChunkId,
        /// Its directory.
        path: PathBuf,
        /// Why it does not open.
        source: Box<icecore_hotchunk::Error>,
    },
    /// The first start, and the bulk source does not say how far it has come.
    #[error("{place} gives no tip, without which nothing can be begun: {source}")]
    NoTip {
        /// The source.
        place: String,
        /// What it says.
        source: Box<icecore_ledger::Error>,
    },
    /// The earliest ledger to keep lies past what the source has.
    #[error(
        "the earliest ledger to keep is {earliest}, but {place} has come only to {tip}: name an earlier one, or wait"
    )]
    FloorPastTip {
        /// What was asked for.
        earliest: LedgerSeq,
        /// The source.
        place: String,
        /// Its last ledger.
        tip: LedgerSeq,
    },
    /// The bulk source does not have what it was waited for.
    #[error("{place} does not have ledgers {}..={} after {waited_seconds} s: {source}", wanted.first, wanted.last)]
    SourceLags {
        /// The source.
        place: String,
        /// The ledgers.
        wanted: LedgerRange,
        /// How long it was waited for.
        waited_seconds: u64,
        /// What it said last.
        source: Box<Error>,
    },
    /// A source gave a ledger that is not the one it said.
    #[error("{place} said ledger {expected}, but gave another one: {source}")]
    Lied {
        /// The source.
        place: String,
        /// The ledger that was due.
        expected: LedgerSeq,
        /// What the ledger is refused for.
        source: Box<icecore_hotchunk::Error>,
    },
    /// Sequences, or the names of files, come to their end.
    #[error("the history ends with ledger {last}: no chunk can be numbered after it")]
    EndOfHistory {
        /// The last ledger.
        last: LedgerSeq,
    },
    /// Nothing that is kept is here yet.
    #[error("there are no ledgers here yet: ask again once the first ones are fetched")]
    Empty,
    /// A request for ledgers below the floor, or past the latest one.
    #[error("ledger {asked} is not kept here: ledgers {}..={} are", available.first, available.last)]
    OutOfBounds {
        /// What was asked for.
        asked: LedgerSeq,
        /// What there is.
        available: LedgerRange,
    },
    /// A request for ledgers that are still being fetched.
    #[error("ledger {asked} is not here yet: chunk {chunk} is still being built; of {}..={} it is missing for now",
        available.first, available.last)]
    NotYet {
        /// What was asked for.
        asked: LedgerSeq,
        /// The chunk that lacks.
        chunk: ChunkId,
        /// What there will be.
        available: LedgerRange,
    },
    /// A request whose range ends before it begins.
    #[error("a range of ledgers ends with {last}, before its first, {first}")]
    Inverted {
        /// Its first ledger.
        first: LedgerSeq,
        /// Its last.
        last: LedgerSeq,
    },
    /// A cursor that none of these reads gave.
    #[error("{text:?} is no cursor: one has the form LEDGER-TX-OP-EVENT, in decimal numbers")]
    BadCursor {
        /// What was given, cut short.
        text: String,
    },
    /// What is planned does not fit the disk.
    #[error(
        "{needed_bytes} bytes are needed at {} and {free_bytes} are free: make room, keep fewer chunks, or insist with \
         allow_full_disk", path.display()
    )]
    DiskTooSmall {
        /// The file system, by a directory on it.
        path: PathBuf,
        /// What the plan needs at its peak.
        needed_bytes: u64,
        /// What is free.
        free_bytes: u64,
    },
    /// A task waited for chunks that could not be built.
    #[error("it waited for chunk {chunk}, which failed")]
    ChunkFailed {
        /// The chunk.
        chunk: ChunkId,
    },
    /// A worker panicked: a mistake in this program.
    #[error(
        "{worker} panicked: {message}; this is a bug, please report it; nothing that was acknowledged is lost"
    )]
    Panicked {
        /// Which one.
        worker: &'static str,
        /// What it said.
        message: String,
    },
    /// The engine ended by itself.
    #[error("the engine stopped: {source}")]
    Stopped {
        /// Why.
        source: Arc<Error>,
    },
    /// Told to end. What was finished is kept.
    #[error("stopped on request")]
    Cancelled,
    /// A worker of the engine could not be started.
    #[error("cannot start {worker}: {why}")]
    NotStarted {
        /// Which one.
        worker: &'static str,
        /// The registry's answer.
        why: String,
    },
}

impl Error {
    /// True where trying again is of no use, or would hide a loss: somebody has to do something.
    pub fn is_fatal(&self) -> bool {
        use icecore_catalog::{Class, Error as Catalog};
        match self {
            Error::HotStoreLost { .. }
            | Error::NoTip { .. }
            | Error::FloorPastTip { .. }
            | Error::DiskTooSmall { .. }
            | Error::EndOfHistory { .. }
            | Error::Panicked { .. } => true,
            Error::Stopped { .. } => true,
            Error::Catalog(e) => e.class() == Class::Fatal || matches!(e, Catalog::PinChanged { .. }),
            _ => false,
        }
    }

    /// A word for metrics that stays the same.
    pub fn tag(&self) -> &'static str {
        match self {
            Error::Catalog(_) => "catalog",
            Error::Cold(_) => "cold",
            Error::Hot(_) => "hot",
            Error::Ledger(_) => "source",
            Error::Disk(_) => "disk",
            Error::Events(_) => "events",
            Error::TxIndex(_) => "txindex",
            Error::HotStoreLost { .. } => "hot_store_lost",
            Error::NoTip { .. } => "no_tip",
            Error::FloorPastTip { .. } => "floor_past_tip",
            Error::SourceLags { .. } => "source_lags",
            Error::Lied { .. } => "source_lied",
            Error::EndOfHistory { .. } => "end_of_history",
            Error::Empty | Error::OutOfBounds { .. } | Error::Inverted { .. } | Error::BadCursor { .. } => {
                "request"
            }
            Error::NotYet { .. } => "not_yet",
            Error::DiskTooSmall { .. } => "disk_too_small",
            Error::ChunkFailed { .. } => "chunk_failed",
            Error::Panicked { .. } => "panicked",
            Error::Stopped { source } => source.tag(),
            Error::Cancelled => "cancelled",
            Error::NotStarted { .. } => "not_started",
        }
    }

    /// True where a file was not there: a view may have been held for longer than the grace.
    pub(crate) fn is_not_found(&self) -> bool {
        match self {
            Error::Disk(e) | Error::Cold(icecore_cold::Error::Disk(e)) => e.is_not_found(),
            Error::Cold(icecore_cold::Error::Packfile(e)) => e.is_not_found(),
            Error::Events(e) => e.is_not_found(),
            Error::TxIndex(icecore_txindex::Error::MissingRun { .. }) => true,
            _ => false,
        }
    }
}

/// The result of anything done with the engine.
pub type Result<T, E = Error> = std::result::Result<T, E>;
