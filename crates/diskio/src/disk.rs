use std::{
    fmt,
    fs::{self, File, OpenOptions, TryLockError},
    io,
    os::unix::fs::{FileExt, MetadataExt},
    path::{Path, PathBuf},
};

use crate::{Error, FileReader, Op, ReadAt, Result};

/// A file that is being written: positioned writes, reads of what was written, and the barrier that makes it durable.
pub trait WriteAt: Send + Sync {
    /// Writes all of `buf` at `offset`, extending the file where needed.
    fn write_all_at(&self, buf: &[u8], offset: u64) -> Result<()>;

    /// Fills `buf` from `offset` with what was written there.
    fn read_back_at(&self, buf: &mut [u8], offset: u64) -> Result<()>;

    /// Returns once contents and length are durable.
    fn sync(&self) -> Result<()>;

    /// Asks the system to begin writing a range back, so that the final [`sync`](WriteAt::sync) has less to do. A hint.
    fn start_writeback(&self, offset: u64, len_bytes: u64) {
        let _ = (offset, len_bytes);
    }
}

/// What a new file does to an old one of the same name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IfExists {
    /// Refuse with [`Error::Exists`].
    #[default]
    Fail,
    /// Take its place, in one step, when the new file is sealed.
    Replace,
}

/// The few things a storage engine asks of a disk, so that a test can put a faulty one in its place.
///
/// Paths are plain; nothing is durable until [`WriteAt::sync`] (contents) and [`Disk::sync_dir`] (names) return.
pub trait Disk: Send + Sync + fmt::Debug {
    /// Opens a sealed file.
    fn open(&self, path: &Path) -> Result<Box<dyn ReadAt>>;

    /// Creates, or empties, a file that one writer owns until it is dropped; [`Error::Busy`] when another one does.
    fn create_exclusive(&self, path: &Path) -> Result<Box<dyn WriteAt>>;

    /// A nameless file on the file system of `dir` that vanishes with its handle, on any exit.
    fn scratch(&self, dir: &Path) -> Result<Box<dyn WriteAt>>;

    /// Gives a file its name in one step.
    fn rename(&self, from: &Path, to: &Path, if_exists: IfExists) -> Result<()>;

    /// Removes a file.
    fn remove(&self, path: &Path) -> Result<()>;

    /// Creates a directory and what is missing above it, each durable in its parent.
    fn create_dir_all(&self, dir: &Path) -> Result<()>;

    /// Makes the names in a directory durable.
    fn sync_dir(&self, dir: &Path) -> Result<()>;

    /// The length of a file, `None` where there is none.
    fn file_len(&self, path: &Path) -> Result<Option<u64>>;

    /// The names in a directory, sorted; empty where there is no directory.
    fn list(&self, dir: &Path) -> Result<Vec<String>>;

    /// Says that a durable step which is not this disk's own, such as the batch of a database, is about to be taken or was
    /// just taken. Nothing on a real disk; a faulty one fails there when told to, so that every step is a fault point.
    fn step(&self, what: &str) -> Result<()> {
        let _ = what;
        Ok(())
    }
}

/// The disk of this machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealDisk;

struct RealFile {
    file: File,
    path: PathBuf,
}

impl WriteAt for RealFile {
    fn write_all_at(&self, buf: &[u8], offset: u64) -> Result<()> {
        self.file.write_all_at(buf, offset).map_err(|e| Error::from_io(Op::Write, &self.path, e))
    }

    fn read_back_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        self.file.read_exact_at(buf, offset).map_err(|e| Error::from_io(Op::Read, &self.path, e))
    }

    fn sync(&self) -> Result<()> {
        self.file.sync_all().map_err(|e| Error::from_io(Op::Sync, &self.path, e))
    }

    fn start_writeback(&self, offset: u64, len_bytes: u64) {
        crate::writeback::start(&self.file, offset, len_bytes);
    }
}

impl RealDisk {
    /// True when `path` still names the inode behind `file`.
    fn names(path: &Path, file: &File) -> io::Result<bool> {
        let held = file.metadata()?;
        match fs::metadata(path) {
            Ok(named) => Ok((named.dev(), named.ino()) == (held.dev(), held.ino())),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(e) => Err(e),
        }
    }
}

impl Disk for RealDisk {
    fn open(&self, path: &Path) -> Result<Box<dyn ReadAt>> {
        Ok(Box::new(FileReader::open(path)?))
    }

    fn create_exclusive(&self, path: &Path) -> Result<Box<dyn WriteAt>> {
        let wrap = |e| Error::from_io(Op::Create, path, e);
        loop {
            let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
            let file = file.map_err(wrap)?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Err(Error::Busy { path: path.to_path_buf() }),
                Err(TryLockError::Error(e)) => return Err(wrap(e)),
            }
            // Between open and lock the former owner may have renamed its file away: then the lock is on a sealed
            // file that is not ours to empty.
            if Self::names(path, &file).map_err(wrap)? {
                if file.metadata().map_err(wrap)?.nlink() > 1 {
                    // A former owner was killed after it had linked its file to the final name: that one stays.
                    fs::remove_file(path).map_err(wrap)?;
                    continue;
                }
                file.set_len(0).map_err(wrap)?;
                return Ok(Box::new(RealFile { file, path: path.to_path_buf() }));
            }
        }
    }

    fn scratch(&self, dir: &Path) -> Result<Box<dyn WriteAt>> {
        let file = tempfile::tempfile_in(dir).map_err(|e| Error::from_io(Op::Create, dir, e))?;
        Ok(Box::new(RealFile { file, path: dir.join("(scratch)") }))
    }

    fn rename(&self, from: &Path, to: &Path, if_exists: IfExists) -> Result<()> {
        match if_exists {
            IfExists::Replace => fs::rename(from, to),
            IfExists::Fail => crate::rename::no_replace(from, to),
        }
        .map_err(|e| Error::from_io(Op::Rename, to, e))
    }

    fn remove(&self, path: &Path) -> Result<()> {
        fs::remove_file(path).map_err(|e| Error::from_io(Op::Remove, path, e))
    }

    fn create_dir_all(&self, dir: &Path) -> Result<()> {
        let Some(parent) = dir.parent() else { return Ok(()) };
        let was_there = dir.is_dir();
        if !was_there {
            self.create_dir_all(parent)?;
            match fs::create_dir(dir) {
                Ok(()) => {}
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists && dir.is_dir() => {}
                Err(e) => return Err(Error::from_io(Op::CreateDir, dir, e)),
            }
        }
        // Also where it was there: whoever made it may have failed here. A parent that must not be opened is not ours.
        match self.sync_dir(parent) {
            Err(Error::Io { source, .. })
                if was_there && source.kind() == io::ErrorKind::PermissionDenied =>
            {
                Ok(())
            }
            synced => synced,
        }
    }

    fn sync_dir(&self, dir: &Path) -> Result<()> {
        let dir = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
        File::open(dir).and_then(|d| d.sync_all()).map_err(|e| Error::from_io(Op::Sync, dir, e))
    }

    fn file_len(&self, path: &Path) -> Result<Option<u64>> {
        match fs::metadata(path) {
            Ok(meta) => Ok(Some(meta.len())),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(Error::from_io(Op::Open, path, e)),
        }
    }

    fn list(&self, dir: &Path) -> Result<Vec<String>> {
        let wrap = |e| Error::from_io(Op::List, dir, e);
        let entries = match fs::read_dir(dir) {
            Ok(entries) => entries,
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Ok(Vec::new());
            }
            Err(e) => return Err(wrap(e)),
        };
        let mut names = Vec::new();
        for entry in entries {
            // A name that is not UTF-8 is none of ours.
            names.extend(entry.map_err(wrap)?.file_name().into_string().ok());
        }
        names.sort();
        Ok(names)
    }
}
