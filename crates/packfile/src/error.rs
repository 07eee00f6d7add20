use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

/// What a codec or an extract function may fail with.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The part of a file that an error is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Place {
    /// The fixed bytes at the end.
    Trailer,
    /// The sizes of the records.
    OffsetIndex,
    /// A record, by number.
    Record(u32),
    /// All items together.
    ContentHash,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Trailer => f.write_str("trailer"),
            Place::OffsetIndex => f.write_str("offset index"),
            Place::Record(record) => write!(f, "record {record}"),
            Place::ContentHash => f.write_str("content hash"),
        }
    }
}

/// Everything that can go wrong with a packfile.
///
/// Cheap to clone, so that a writer can repeat its first error for ever. [`is_corrupt`](Error::is_corrupt) and
/// [`is_retryable`](Error::is_retryable) tell damage from bad luck; the rest is a caller's mistake.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The disk refused.
    #[error(transparent)]
    Io(#[from] icecore_diskio::Error),
    /// Too short for a packfile, or without its magic number: another kind of file, or one that was cut off.
    #[error("{} is not a packfile, or lacks its end: {what}", path.display())]
    NotAPackfile {
        /// The file.
        path: PathBuf,
        /// What is missing.
        what: &'static str,
    },
    /// Written by a later version of this format.
    #[error("{} has packfile version {version}, this program reads version 1: use a newer one", path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// The version in its trailer.
        version: u8,
    },
    /// The bytes contradict each other.
    #[error("{} is damaged ({place}): {what}; restore it or build it again", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// Where in the file.
        place: Place,
        /// The contradiction.
        what: &'static str,
    },
    /// A checksum is not that of the bytes it covers.
    #[error("{} is damaged ({place}): checksum mismatch; restore it or build it again", path.display())]
    Checksum {
        /// The file.
        path: PathBuf,
        /// Where in the file.
        place: Place,
    },
    /// A record's codec could not decode it, or the extract function of a check one of its items: it is damaged, or was
    /// written with another codec or function.
    #[error("{} is damaged, or was written with another codec (record {record}): {source}", path.display())]
    Decode {
        /// The file.
        path: PathBuf,
        /// The record.
        record: u32,
        /// The codec's or the function's reason.
        source: Arc<dyn std::error::Error + Send + Sync>,
    },
    /// A codec could not encode a record.
    #[error("cannot encode record {record} of {}: {source}", path.display())]
    Encode {
        /// The file.
        path: PathBuf,
        /// The record.
        record: u32,
        /// The codec's reason.
        source: Arc<dyn std::error::Error + Send + Sync>,
    },
    /// The extract function could not tell what to hash of an item that is being written.
    #[error("cannot extract what to hash from an item of record {record} of {}: {source}", path.display())]
    Extract {
        /// The file.
        path: PathBuf,
        /// The record that holds the item.
        record: u32,
        /// The function's reason.
        source: Arc<dyn std::error::Error + Send + Sync>,
    },
    /// There is no such item.
    #[error("{} has {item_count} items, there is none at position {position}", path.display())]
    OutOfRange {
        /// The file.
        path: PathBuf,
        /// The position asked for.
        position: u64,
        /// How many items there are.
        item_count: u32,
    },
    /// Positions for a batched read must not descend.
    #[error("positions for {} must be sorted: {position} follows {before}", path.display())]
    Unsorted {
        /// The file.
        path: PathBuf,
        /// The larger position.
        before: u32,
        /// The smaller position after it.
        position: u32,
    },
    /// More than the format has room for.
    #[error("{} cannot hold this: {what} of {size} exceeds 2^32-1", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// What is too large.
        what: &'static str,
        /// Its size.
        size: u64,
    },
    /// The system has no memory for what a file rightly asks for.
    #[error("cannot read {}: no memory for {what} ({size} bytes)", path.display())]
    NoMemory {
        /// The file.
        path: PathBuf,
        /// What the memory is for.
        what: &'static str,
        /// How much, in bytes.
        size: u64,
    },
    /// A record must hold at least one item.
    #[error("cannot write {}: items_per_record must be at least 1", path.display())]
    NoItemsPerRecord {
        /// The file.
        path: PathBuf,
    },
    /// A thread that worked for this file panicked, or could not be started.
    #[error("a thread that worked on {} was lost: {what}", path.display())]
    Thread {
        /// The file.
        path: PathBuf,
        /// What became of it.
        what: String,
    },
}

impl Error {
    /// True where the file itself is at fault: it must be restored or built again.
    pub fn is_corrupt(&self) -> bool {
        use Error::*;
        matches!(self, NotAPackfile { .. } | Corrupt { .. } | Checksum { .. } | Decode { .. })
    }

    /// True where the same call may succeed later.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Error::Io(e) if e.is_retryable())
    }

    /// True where there was no file to begin with.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Error::Io(e) if e.is_not_found())
    }

    pub(crate) fn corrupt(path: &Path, place: Place, what: &'static str) -> Self {
        Error::Corrupt { path: path.to_path_buf(), place, what }
    }

    pub(crate) fn checksum(path: &Path, place: Place) -> Self {
        Error::Checksum { path: path.to_path_buf(), place }
    }

    pub(crate) fn too_large(path: &Path, what: &'static str, size: u64) -> Self {
        Error::TooLarge { path: path.to_path_buf(), what, size }
    }
}

pub(crate) fn thread_error(path: &Path, what: impl fmt::Display) -> Error {
    Error::Thread { path: path.to_path_buf(), what: what.to_string() }
}

/// The result of a packfile operation.
pub type Result<T, E = Error> = std::result::Result<T, E>;
