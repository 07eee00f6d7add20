use std::{
    fmt,
    path::{Path, PathBuf},
};

/// Everything that opening, reading and writing a store can refuse, told apart by what a caller can do about it.
///
/// [`is_retryable`](Error::is_retryable) and [`is_corrupt`](Error::is_corrupt) sort the variants; what is neither is a
/// caller's mistake, or a handle that is closed.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is nothing at the path. Opening never creates.
    #[error("{} does not exist: create it, or name another directory", path.display())]
    Missing {
        /// The directory.
        path: PathBuf,
    },
    /// The path is taken.
    #[error("{} exists already: open it, or name another directory", path.display())]
    Exists {
        /// The directory.
        path: PathBuf,
    },
    /// A directory that has lost files without which it is no store.
    #[error("{} is not a whole store: {what}; restore it from a copy", path.display())]
    Gutted {
        /// The directory.
        path: PathBuf,
        /// What is missing.
        what: String,
    },
    /// A store of something else.
    #[error("{} is another kind of store: {what}", path.display())]
    Foreign {
        /// The directory.
        path: PathBuf,
        /// How it differs from what was expected.
        what: String,
    },
    /// Written by a later RocksDB, in a way this one does not understand.
    #[error("{} was written by RocksDB {found}, this program has {ours}: use a newer one ({what})", path.display())]
    Newer {
        /// The directory.
        path: PathBuf,
        /// The version that wrote it.
        found: String,
        /// The version of this program.
        ours: String,
        /// What RocksDB says.
        what: String,
    },
    /// Somebody has the store open for writing.
    #[error("{} is in use by {holder}: wait, or stop that one", path.display())]
    Locked {
        /// The directory.
        path: PathBuf,
        /// Who has it.
        holder: Holder,
    },
    /// This handle was closed.
    #[error("{} was closed", path.display())]
    Closed {
        /// The directory.
        path: PathBuf,
    },
    /// Operations are in flight, and waiting for them was not asked for or took too long.
    #[error("{} is busy: operations are in flight, iterators and snapshots among them", path.display())]
    Busy {
        /// The directory.
        path: PathBuf,
    },
    /// A write through a handle that was opened for reading only.
    #[error("{} is open for reading only", path.display())]
    ReadOnly {
        /// The directory.
        path: PathBuf,
    },
    /// A write failed before, and whether its batch is there is not settled yet.
    #[error("{}: an earlier write failed; call `recover` before writing again", path.display())]
    Unsettled {
        /// The directory.
        path: PathBuf,
    },
    /// Bytes on disk are damaged.
    #[error("{}: cannot {op}: {what}; restore the store from a copy, or build it again", path.display())]
    Corrupt {
        /// The directory.
        path: PathBuf,
        /// What was tried.
        op: &'static str,
        /// What RocksDB says.
        what: String,
    },
    /// The file system is full.
    #[error("{}: cannot {op}: the disk is full; make room and try again ({what})", path.display())]
    DiskFull {
        /// The directory.
        path: PathBuf,
        /// What was tried.
        op: &'static str,
        /// What RocksDB says.
        what: String,
    },
    /// The operating system refused. Trying again may help.
    #[error("{}: cannot {op}: {what}", path.display())]
    Io {
        /// The directory.
        path: PathBuf,
        /// What was tried.
        op: &'static str,
        /// What RocksDB or the system says.
        what: String,
    },
    /// A key, a value or a batch of 2^32 bytes or rows, or more.
    #[error("{}: a batch, or one of its keys or values, is too large: 2^32 bytes or rows", path.display())]
    TooLarge {
        /// The directory.
        path: PathBuf,
    },
    /// A family that the store was not opened with.
    #[error("{} has no family {family}", path.display())]
    NoFamily {
        /// The directory.
        path: PathBuf,
        /// The number asked for.
        family: usize,
    },
    /// RocksDB refused for a reason that neither time nor another copy mends.
    #[error("{}: cannot {op}: {what}", path.display())]
    Refused {
        /// The directory.
        path: PathBuf,
        /// What was tried.
        op: &'static str,
        /// What RocksDB says.
        what: String,
    },
}

/// Who has a store open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Holder {
    /// A handle in this process.
    ThisProcess,
    /// Another process.
    Process(u32),
    /// Another process, and the system does not say which.
    Unknown,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Holder::ThisProcess => f.write_str("this process"),
            Holder::Process(pid) => write!(f, "process {pid}"),
            Holder::Unknown => f.write_str("another process"),
        }
    }
}

impl Error {
    /// True where the same call may succeed later with nothing changed but the machine's state.
    pub fn is_retryable(&self) -> bool {
        use Error::*;
        matches!(self, Locked { .. } | Busy { .. } | DiskFull { .. } | Io { .. } | Unsettled { .. })
    }

    /// True where what is stored is damaged: trying again cannot help, another copy can.
    pub fn is_corrupt(&self) -> bool {
        matches!(self, Error::Corrupt { .. } | Error::Gutted { .. })
    }

    /// Sorts what RocksDB says. It gives words only; this is the one place that reads them.
    pub(crate) fn of(path: &Path, op: &'static str, error: &rocksdb::Error) -> Self {
        let (path, what) = (path.to_path_buf(), error.to_string());
        let full = ["No space left on device", "Disk quota exceeded"];
        match error.kind() {
            rocksdb::ErrorKind::Corruption => Error::Corrupt { path, op, what },
            _ if full.iter().any(|words| what.contains(words)) => Error::DiskFull { path, op, what },
            rocksdb::ErrorKind::IOError
            | rocksdb::ErrorKind::Incomplete
            | rocksdb::ErrorKind::TimedOut
            | rocksdb::ErrorKind::Busy
            | rocksdb::ErrorKind::TryAgain
            | rocksdb::ErrorKind::Aborted => Error::Io { path, op, what },
            _ => Error::Refused { path, op, what },
        }
    }

    pub(crate) fn io(path: &Path, op: &'static str, error: &std::io::Error) -> Self {
        let (path, what) = (path.to_path_buf(), error.to_string());
        match error.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
                Error::DiskFull { path, op, what }
            }
            _ => Error::Io { path, op, what },
        }
    }
}

/// The result of anything done with a store.
pub type Result<T, E = Error> = std::result::Result<T, E>;
