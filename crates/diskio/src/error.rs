use std::{fmt, io, path::PathBuf, sync::Arc};

/// What was being done to a path when it failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Op {
    /// Opening an existing file.
    Open,
    /// Creating a file.
    Create,
    /// A positioned read.
    Read,
    /// A positioned write.
    Write,
    /// Making file contents or directory entries durable.
    Sync,
    /// Renaming a file.
    Rename,
    /// Removing a file.
    Remove,
    /// Creating a directory.
    CreateDir,
    /// Listing a directory.
    List,
    /// A step of somebody else's, see [`Disk::step`](crate::Disk::step); its name stands for the path.
    Step,
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Op::Open => "open",
            Op::Create => "create",
            Op::Read => "read",
            Op::Write => "write",
            Op::Sync => "sync",
            Op::Rename => "rename",
            Op::Remove => "remove",
            Op::CreateDir => "create directory",
            Op::List => "list",
            Op::Step => "go on",
        })
    }
}

/// Everything that can go wrong with a file, told apart by what a caller can do about it.
///
/// Cheap to clone, so that a writer can repeat its first error for ever.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused; the source says why.
    #[error("cannot {op} {}: {source}", path.display())]
    Io {
        /// What was tried.
        op: Op,
        /// On which path.
        path: PathBuf,
        /// The system's answer.
        source: Arc<io::Error>,
    },
    /// The path is taken and overwriting was not asked for.
    #[error("{} exists already: remove it, or allow overwriting", path.display())]
    Exists {
        /// The path that is taken.
        path: PathBuf,
    },
    /// There is nothing at the path.
    #[error("cannot {op} {}: no such file or directory", path.display())]
    NotFound {
        /// What was tried.
        op: Op,
        /// On which path.
        path: PathBuf,
    },
    /// The file system is full. Nothing was sealed; the same call succeeds once there is room.
    #[error("cannot {op} {}: the disk is full; make room and run it again", path.display())]
    DiskFull {
        /// What was tried.
        op: Op,
        /// On which path.
        path: PathBuf,
    },
    /// Another writer is at work on the same path.
    #[error("{} is being written by another process or thread; wait for it to end", path.display())]
    Busy {
        /// The contested path.
        path: PathBuf,
    },
    /// A read reached past the end of the file: whoever asked trusted a length that the file does not have.
    #[error("{} is {len_bytes} bytes long, a read of {want_bytes} at offset {offset} goes past its end", path.display())]
    PastEnd {
        /// The file.
        path: PathBuf,
        /// Its length.
        len_bytes: u64,
        /// Where the read began.
        offset: u64,
        /// How much it wanted.
        want_bytes: u64,
    },
}

impl Error {
    /// Wraps an [`io::Error`], sorting it by what can be done about it.
    pub fn from_io(op: Op, path: impl Into<PathBuf>, source: io::Error) -> Self {
        let path = path.into();
        match source.kind() {
            io::ErrorKind::NotFound => Error::NotFound { op, path },
            io::ErrorKind::AlreadyExists => Error::Exists { path },
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Error::DiskFull { op, path },
            _ => Error::Io { op, path, source: Arc::new(source) },
        }
    }

    /// True where the same call may succeed later with nothing changed but the machine's state.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Error::DiskFull { .. } | Error::Busy { .. } | Error::Io { .. })
    }

    /// True where there was no file to begin with.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Error::NotFound { .. })
    }
}

/// The result of a disk operation.
pub type Result<T, E = Error> = std::result::Result<T, E>;
