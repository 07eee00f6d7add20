use std::path::PathBuf;

use icecore_ledger::{ChunkId, Geometry, LedgerRange, LedgerSeq, TxHash};

/// Everything that building, reading and verifying cold chunks can end in.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file or directory could not be read or written.
    #[error(transparent)]
    Disk(#[from] icecore_diskio::Error),
    /// A packfile is damaged or could not be written.
    #[error(transparent)]
    Packfile(#[from] icecore_packfile::Error),
    /// A hash run or window index is damaged or could not be built.
    #[error(transparent)]
    TxIndex(#[from] icecore_txindex::Error),
    /// An events file is damaged or could not be built.
    #[error(transparent)]
    Events(#[from] icecore_events::Error),
    /// The source or the decoder refused.
    #[error(transparent)]
    Ledger(#[from] icecore_ledger::Error),
    /// A ledger of a chunk could not be decoded.
    #[error("chunk {chunk}, ledger {seq}: {source}")]
    Decode {
        /// The chunk being built or read.
        chunk: ChunkId,
        /// The ledger.
        seq: LedgerSeq,
        /// What the decoder says.
        source: icecore_ledger::Error,
    },
    /// A ledger lies where another belongs.
    #[error("{place}: ledger {found} lies where {expected} belongs")]
    Foreign {
        /// The file or source.
        place: String,
        /// The ledger that belongs there.
        expected: LedgerSeq,
        /// The one that is there.
        found: LedgerSeq,
    },
    /// A source that ended before a chunk was complete.
    #[error("{place} ends before ledger {expected}")]
    Truncated {
        /// The source.
        place: String,
        /// The ledger that should have come.
        expected: LedgerSeq,
    },
    /// A directory without `icecore.json`.
    #[error("{} is not a store: it has no icecore.json; `icecore build` makes one", path.display())]
    NotAStore {
        /// The directory.
        path: PathBuf,
    },
    /// An `icecore.json` that cannot be used.
    #[error("{}: {what}; restore it from a copy of the store", path.display())]
    Manifest {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// Trees of a store that lie in one another.
    #[error(
        "the directory for {second}, {}, and the one for {first}, {}, lie in one another: give each a place of its own",
        second_dir.display(), first_dir.display()
    )]
    Overlap {
        /// What one directory is for.
        first: &'static str,
        /// That directory.
        first_dir: PathBuf,
        /// What the other is for.
        second: &'static str,
        /// That one.
        second_dir: PathBuf,
    },
    /// A store asked to change how it is cut.
    #[error(
        "{} was begun with {} ledgers to a chunk and {} chunks to a window, {} and {} were asked for: leave the options \
         out, or build into another directory",
        path.display(), found.ledgers_per_chunk(), found.chunks_per_window(), asked.0, asked.1
    )]
    GeometryChanged {
        /// The manifest.
        path: PathBuf,
        /// The geometry that the store has.
        found: Geometry,
        /// The ledgers to a chunk and chunks to a window that were asked for.
        asked: (u32, u32),
    },
    /// Ledgers of another network than the store's.
    #[error("{} holds the network {found:?}, the source is of {asked:?}: build into another directory", path.display())]
    NetworkChanged {
        /// The manifest.
        path: PathBuf,
        /// The store's network.
        found: String,
        /// The source's.
        asked: String,
    },
    /// A range without a single complete chunk.
    #[error(
        "no complete chunk lies in ledgers {}..={}: with {ledgers_per_chunk} ledgers to a chunk the first one that \
         begins there is {}..={}",
        range.first, range.last, next.first, next.last
    )]
    NoCompleteChunk {
        /// The range that was asked for.
        range: LedgerRange,
        /// The geometry's chunk size.
        ledgers_per_chunk: u32,
        /// The first chunk that begins in or after the range.
        next: LedgerRange,
    },
    /// A chunk whose ledgers, or whose files, cannot be numbered.
    #[error(
        "chunk {chunk} is past what ledger sequences, or the eight digits of file names, can number: make chunks larger"
    )]
    ChunkOutOfRange {
        /// The chunk.
        chunk: ChunkId,
    },
    /// A chunk's pack is not of that chunk.
    #[error("{}: {what}; remove the file and build the chunk again", path.display())]
    BadPack {
        /// The pack.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// A sealed file differs from what its chunk's ledgers say it must be.
    #[error("{} differs from what its ledgers give: {what}; remove it and build again", path.display())]
    Differs {
        /// The file.
        path: PathBuf,
        /// The first difference.
        what: String,
    },
    /// An index does not lead a hash to its ledger.
    #[error("{} does not lead {hash} to ledger {seq}; remove it and build again", path.display())]
    Unresolved {
        /// The index.
        path: PathBuf,
        /// The hash.
        hash: TxHash,
        /// The ledger that has it.
        seq: LedgerSeq,
    },
    /// Something that a chunk should have is not there.
    #[error("{} is missing; run the build again", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// A chunk that no index covers: its transactions are not found by hash.
    #[error("no index covers chunk {chunk}; run the build again")]
    NotIndexed {
        /// The chunk.
        chunk: ChunkId,
    },
    /// Another process is doing the same kind of work in the same directory.
    #[error("another process is writing to {}; wait for it to end", path.display())]
    Busy {
        /// The store.
        path: PathBuf,
    },
    /// The caller asked to stop. Finished chunks are kept, nothing half-made is left.
    #[error("stopped on request; finished files are kept, the same command goes on from there")]
    Cancelled,
}

impl Error {
    /// True where the same call may succeed later with nothing changed but the machine's state.
    pub fn is_retryable(&self) -> bool {
        match self {
            Error::Disk(e) => e.is_retryable(),
            Error::Packfile(e) => e.is_retryable(),
            Error::TxIndex(e) => e.is_retryable(),
            Error::Events(e) => e.is_retryable(),
            Error::Ledger(e) | Error::Decode { source: e, .. } => e.is_retryable(),
            Error::Busy { .. } | Error::Cancelled => true,
            _ => false,
        }
    }

    /// True where stored bytes are damaged: trying again cannot help, another copy or a rebuild can.
    pub fn is_corrupt(&self) -> bool {
        match self {
            Error::Packfile(e) => e.is_corrupt(),
            Error::TxIndex(e) => e.is_corrupt(),
            Error::Events(e) => e.is_corrupt(),
            Error::Ledger(e) | Error::Decode { source: e, .. } => e.is_corrupt(),
            Error::Foreign { .. } | Error::Manifest { .. } | Error::BadPack { .. } => true,
            Error::Differs { .. }
            | Error::Unresolved { .. }
            | Error::Missing { .. }
            | Error::NotIndexed { .. } => true,
            _ => false,
        }
    }
}

/// The result of working on cold chunks.
pub type Result<T, E = Error> = std::result::Result<T, E>;
