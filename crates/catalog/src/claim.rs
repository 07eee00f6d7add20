//! Who has a catalog open: one handle in this process, one process on this machine.
//!
//! ```text
//! Claim   this process: a table of open catalogs by canonical path and by device and inode
//! Owner   all processes: `catalog/owner`, locked for as long as the catalog is open; says who
//! ```
//!
//! The claim is taken before anything is opened and given back after everything is closed, so that a second handle is told
//! of the first one instead of running into its locks.

use std::{
    fmt,
    fs::{self, File, OpenOptions, TryLockError},
    io::{Read, Seek, SeekFrom, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use icecore_diskio::{Error as DiskError, Op};
use serde::{Deserialize, Serialize};

use crate::{Error, Result, mutants};

/// Process-wide by its nature: it keeps one part of a process from what another part has open.
static CLAIMS: Mutex<Vec<(PathBuf, Inode)>> = Mutex::new(Vec::new());

/// Device and inode.
type Inode = (u64, u64);

/// The right of this process's one handle to a directory.
#[derive(Debug)]
pub(crate) struct Claim {
    path: PathBuf,
}

impl Claim {
    /// Claims a directory, whatever the spelling of its path.
    pub(crate) fn take(dir: &Path) -> Result<Self> {
        let wrap = |e| DiskError::from_io(Op::Open, dir, e);
        let by_spelling = mutants::on("claim_by_spelling");
        let path = if by_spelling { dir.to_path_buf() } else { fs::canonicalize(dir).map_err(wrap)? };
        let meta = fs::metadata(dir).map_err(wrap)?;
        let inode = (meta.dev(), meta.ino());
        let mut claims = claims();
        let taken =
            |(held, held_inode): &&(PathBuf, Inode)| *held == path || (*held_inode == inode && !by_spelling);
        if let Some((held, _)) = claims.iter().find(taken) {
            return Err(Error::AlreadyOpen { path: held.clone() });
        }
        claims.push((path.clone(), inode));
        Ok(Claim { path })
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        claims().retain(|(held, _)| *held != self.path);
    }
}

fn claims() -> MutexGuard<'static, Vec<(PathBuf, Inode)>> {
    CLAIMS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Who has a catalog open, as far as is known.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// The process.
    pub pid: Option<u32>,
    /// When it opened the catalog, in UTC.
    pub since: Option<String>,
    /// What it says of itself, such as the address of its admin port.
    pub note: Option<String>,
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.pid {
            Some(pid) => write!(f, "process {pid}")?,
            None => f.write_str("another process")?,
        }
        if let Some(since) = &self.since {
            write!(f, " since {since}")?;
        }
        self.note.as_ref().map_or(Ok(()), |note| write!(f, " ({note})"))
    }
}

/// The most of an owner file that is read.
const MAX_OWNER_BYTES: u64 = 4 << 10;

/// The lock that other processes see.
#[derive(Debug)]
pub(crate) struct OwnerLock {
    file: File,
    path: PathBuf,
    owner: Owner,
}

impl OwnerLock {
    /// Takes the lock of a catalog's directory; `Err` of the inner result is who has it.
    pub(crate) fn take(dir: &Path) -> Result<Result<Self, Owner>> {
        let path = dir.join("owner");
        let wrap = |e| DiskError::from_io(Op::Open, &path, e);
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        // Whoever could put a link there must not make us empty some other file.
        let file = options.mode(0o600).custom_flags(libc::O_NOFOLLOW).open(&path).map_err(wrap)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(Err(read(file))),
            Err(TryLockError::Error(e)) => return Err(wrap(e).into()),
        }
        let since = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let owner = Owner { pid: Some(std::process::id()), since: Some(since), note: None };
        let mut lock = OwnerLock { file, path, owner };
        lock.write()?;
        Ok(Ok(lock))
    }

    /// Says more to whoever finds the catalog in use.
    pub(crate) fn set_note(&mut self, note: &str) -> Result<()> {
        self.owner.note = Some(note.chars().take(256).collect());
        self.write()
    }

    fn write(&mut self) -> Result<()> {
        let text = serde_json::to_vec(&self.owner).unwrap_or_default();
        let written = self.file.set_len(0);
        let written = written.and_then(|()| self.file.seek(SeekFrom::Start(0)).map(drop));
        written
            .and_then(|()| self.file.write_all(&text))
            .map_err(|e| DiskError::from_io(Op::Write, &self.path, e).into())
    }
}

impl Drop for OwnerLock {
    fn drop(&mut self) {
        // The file stays: whoever removed it could pull it from under the next owner.
        let _ = self.file.set_len(0);
        // Closing is not enough: a child process that is being started has the file open for a moment.
        let _ = self.file.unlock();
    }
}

/// Who has a catalog's directory open, without touching its lock: an owner that was killed is told by its process being gone.
pub(crate) fn holder(dir: &Path) -> Result<Option<Owner>> {
    let path = dir.join("owner");
    let file = match OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW).open(&path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        opened => opened.map_err(|e| DiskError::from_io(Op::Open, &path, e))?,
    };
    let owner = read(file);
    let Some(pid) = owner.pid else { return Ok(None) };
    let processes = Path::new("/proc");
    let gone = processes.join("self").exists() && !processes.join(pid.to_string()).exists();
    Ok((!gone).then_some(owner))
}

/// Who has a locked owner file; it may be in the middle of writing it.
fn read(file: File) -> Owner {
    let mut text = Vec::new();
    let _ = file.take(MAX_OWNER_BYTES).read_to_end(&mut text);
    serde_json::from_slice(&text).unwrap_or_default()
}
