//! A disk in memory that fails when told to, and forgets what was not made durable.
//!
//! ```text
//! inode:      live bytes    ── sync ──▶ durable bytes
//! directory:  live names    ── sync_dir ──▶ durable names
//! crash():    a new disk that holds durable names over durable bytes, nothing else
//! ```
//!
//! Every call that changes something counts as one operation, numbered from 0 (making a directory is two: the directory,
//! and syncing its parent), and so does every [`Disk::step`]; a fault is planted at a number, so a test counts the operations of a clean run and then
//! repeats it once per number and kind of fault. Opening and reading are counted apart, in the same way.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::{Disk, Error, IfExists, Op, ReadAt, Result, WriteAt, check_bounds};

/// What goes wrong at the chosen operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The operation fails with an I/O error and does nothing; later ones work.
    Io,
    /// The operation fails for want of space and does nothing; later ones work.
    DiskFull,
    /// A write puts down half of its bytes, then fails; any other operation fails as with [`Fault::Io`].
    ShortWrite,
    /// Power is lost: this operation and all later ones fail, reads included.
    PowerCut,
    /// The operation panics, as a disk of somebody's own might; later ones work.
    Panic,
}

#[derive(Clone, Default)]
struct Inode {
    live: Vec<u8>,
    durable: Vec<u8>,
    owned: bool,
}

/// Operations of one kind: how many were tried, and which are to fail.
#[derive(Default)]
struct Counter {
    tried: u64,
    faults: BTreeMap<u64, Fault>,
}

#[derive(Default)]
struct State {
    inodes: Vec<Inode>,
    live_names: BTreeMap<PathBuf, usize>,
    durable_names: BTreeMap<PathBuf, usize>,
    live_dirs: BTreeSet<PathBuf>,
    durable_dirs: BTreeSet<PathBuf>,
    changes: Counter,
    labels: Vec<String>,
    reads: Counter,
    cut: bool,
}

/// A disk in memory with planted faults; clones share it.
#[derive(Clone, Default)]
pub struct FaultyDisk {
    state: Arc<Mutex<State>>,
}

impl fmt::Debug for FaultyDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.lock();
        write!(f, "FaultyDisk({} files, {} operations)", state.live_names.len(), state.changes.tried)
    }
}

impl State {
    /// Counts an operation; `Ok(true)` asks a write to put down half of its bytes before it fails.
    fn step(&mut self, op: Op, path: &Path) -> Result<bool> {
        let is_read = matches!(op, Op::Open | Op::Read);
        if !is_read {
            self.labels.push(match op {
                Op::Step => path.display().to_string(),
                _ => format!("{op} {}", path.display()),
            });
        }
        let counter = if is_read { &mut self.reads } else { &mut self.changes };
        let number = counter.tried;
        counter.tried += 1;
        let fail = |kind: io::ErrorKind| Err(Error::from_io(op, path, io::Error::new(kind, "planted fault")));
        if self.cut {
            return fail(io::ErrorKind::NotConnected);
        }
        match counter.faults.get(&number) {
            None => Ok(false),
            Some(Fault::Io) => fail(io::ErrorKind::Other),
            Some(Fault::DiskFull) => fail(io::ErrorKind::StorageFull),
            Some(Fault::ShortWrite) if op == Op::Write => Ok(true),
            Some(Fault::ShortWrite) => fail(io::ErrorKind::Other),
            Some(Fault::PowerCut) => {
                self.cut = true;
                fail(io::ErrorKind::NotConnected)
            }
            #[allow(clippy::panic)]
            Some(Fault::Panic) => panic!("planted panic"),
        }
    }

    fn new_inode(&mut self, owned: bool) -> usize {
        self.inodes.push(Inode { owned, ..Inode::default() });
        self.inodes.len() - 1
    }

    fn dir_exists(&self, dir: &Path) -> bool {
        dir.parent().is_none() || dir.as_os_str().is_empty() || self.live_dirs.contains(dir)
    }

    fn durable_dir(&self, dir: &Path) -> bool {
        dir.ancestors()
            .all(|d| d.parent().is_none() || d.as_os_str().is_empty() || self.durable_dirs.contains(d))
    }
}

impl FaultyDisk {
    /// An empty disk without faults.
    pub fn new() -> Self {
        Self::default()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many operations have been tried so far.
    pub fn operations(&self) -> u64 {
        self.lock().changes.tried
    }

    /// How many files have been opened and reads been tried so far.
    pub fn reads(&self) -> u64 {
        self.lock().reads.tried
    }

    /// What each operation so far was, by its number: a step by its name, any other as its kind and path.
    pub fn labels(&self) -> Vec<String> {
        self.lock().labels.clone()
    }

    /// Plants a fault at an operation number.
    pub fn fail_at(&self, operation: u64, fault: Fault) {
        self.lock().changes.faults.insert(operation, fault);
    }

    /// Plants a fault at the number of an opening or a read.
    pub fn fail_read_at(&self, read: u64, fault: Fault) {
        self.lock().reads.faults.insert(read, fault);
    }

    /// What a machine that lost power now would find when it starts again, with no faults planted.
    pub fn after_crash(&self) -> FaultyDisk {
        let state = self.lock();
        let mut next = State {
            live_dirs: state.durable_dirs.iter().filter(|d| state.durable_dir(d)).cloned().collect(),
            ..State::default()
        };
        for (path, &inode) in &state.durable_names {
            if path.parent().is_none_or(|dir| state.durable_dir(dir)) {
                let durable = state.inodes[inode].durable.clone();
                next.inodes.push(Inode { live: durable.clone(), durable, owned: false });
                next.live_names.insert(path.clone(), next.inodes.len() - 1);
            }
        }
        next.durable_dirs = next.live_dirs.clone();
        next.durable_names = next.live_names.clone();
        FaultyDisk { state: Arc::new(Mutex::new(next)) }
    }

    /// What is found by the next process when this one is killed now: nothing is lost, no file is owned, no fault planted.
    pub fn after_kill(&self) -> FaultyDisk {
        let state = self.lock();
        let mut next = State {
            inodes: state.inodes.clone(),
            live_names: state.live_names.clone(),
            durable_names: state.durable_names.clone(),
            live_dirs: state.live_dirs.clone(),
            durable_dirs: state.durable_dirs.clone(),
            ..State::default()
        };
        next.inodes.iter_mut().for_each(|inode| inode.owned = false);
        FaultyDisk { state: Arc::new(Mutex::new(next)) }
    }

    /// Every file on the disk, in order.
    pub fn paths(&self) -> Vec<PathBuf> {
        self.lock().live_names.keys().cloned().collect()
    }
}

struct FaultyFile {
    disk: FaultyDisk,
    inode: usize,
    path: PathBuf,
}

impl WriteAt for FaultyFile {
    fn write_all_at(&self, buf: &[u8], offset: u64) -> Result<()> {
        let mut state = self.disk.lock();
        let short = state.step(Op::Write, &self.path)?;
        let buf = if short { &buf[..buf.len() / 2] } else { buf };
        let live = &mut state.inodes[self.inode].live;
        let (start, end) = (offset as usize, offset as usize + buf.len());
        if live.len() < end {
            live.resize(end, 0);
        }
        live[start..end].copy_from_slice(buf);
        if short {
            return Err(Error::from_io(Op::Write, &self.path, io::Error::other("planted short write")));
        }
        Ok(())
    }

    fn read_back_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        let mut state = self.disk.lock();
        state.step(Op::Read, &self.path)?;
        state.inodes[self.inode].live.as_slice().read_exact_at(buf, offset)
    }

    fn sync(&self) -> Result<()> {
        let mut state = self.disk.lock();
        state.step(Op::Sync, &self.path)?;
        let inode = &mut state.inodes[self.inode];
        inode.durable = inode.live.clone();
        Ok(())
    }
}

impl Drop for FaultyFile {
    fn drop(&mut self) {
        self.disk.lock().inodes[self.inode].owned = false;
    }
}

/// An opened file: its bytes at that time.
struct FaultySource {
    disk: FaultyDisk,
    bytes: Vec<u8>,
    path: PathBuf,
}

impl ReadAt for FaultySource {
    fn len_bytes(&self) -> u64 {
        self.bytes.len_bytes()
    }

    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        self.disk.lock().step(Op::Read, &self.path)?;
        check_bounds(&self.path, self.len_bytes(), offset, buf.len())?;
        self.bytes.read_exact_at(buf, offset)
    }

    fn as_bytes(&self) -> Option<&[u8]> {
        (!self.disk.lock().cut).then_some(&self.bytes)
    }

    fn path(&self) -> &Path {
        &self.path
    }
}

impl Disk for FaultyDisk {
    fn open(&self, path: &Path) -> Result<Box<dyn ReadAt>> {
        let mut state = self.lock();
        state.step(Op::Open, path)?;
        match state.live_names.get(path) {
            Some(&inode) => {
                let bytes = state.inodes[inode].live.clone();
                Ok(Box::new(FaultySource { disk: self.clone(), bytes, path: path.to_path_buf() }))
            }
            None => Err(Error::NotFound { op: Op::Open, path: path.to_path_buf() }),
        }
    }

    fn create_exclusive(&self, path: &Path) -> Result<Box<dyn WriteAt>> {
        let mut state = self.lock();
        state.step(Op::Create, path)?;
        if !path.parent().is_none_or(|dir| state.dir_exists(dir)) {
            return Err(Error::NotFound { op: Op::Create, path: path.to_path_buf() });
        }
        let inode = match state.live_names.get(path) {
            Some(&inode) if state.inodes[inode].owned => {
                return Err(Error::Busy { path: path.to_path_buf() });
            }
            Some(&inode) => inode,
            None => {
                let inode = state.new_inode(true);
                state.live_names.insert(path.to_path_buf(), inode);
                inode
            }
        };
        state.inodes[inode].live.clear();
        state.inodes[inode].owned = true;
        Ok(Box::new(FaultyFile { disk: self.clone(), inode, path: path.to_path_buf() }))
    }

    fn scratch(&self, dir: &Path) -> Result<Box<dyn WriteAt>> {
        let mut state = self.lock();
        state.step(Op::Create, dir)?;
        let inode = state.new_inode(true);
        let path = dir.join("(scratch)");
        Ok(Box::new(FaultyFile { disk: self.clone(), inode, path }))
    }

    fn rename(&self, from: &Path, to: &Path, if_exists: IfExists) -> Result<()> {
        let mut state = self.lock();
        state.step(Op::Rename, to)?;
        if if_exists == IfExists::Fail && state.live_names.contains_key(to) {
            return Err(Error::Exists { path: to.to_path_buf() });
        }
        let Some(inode) = state.live_names.remove(from) else {
            return Err(Error::NotFound { op: Op::Rename, path: from.to_path_buf() });
        };
        state.live_names.insert(to.to_path_buf(), inode);
        Ok(())
    }

    fn remove(&self, path: &Path) -> Result<()> {
        let mut state = self.lock();
        state.step(Op::Remove, path)?;
        match state.live_names.remove(path) {
            Some(_) => Ok(()),
            None => Err(Error::NotFound { op: Op::Remove, path: path.to_path_buf() }),
        }
    }

    fn create_dir_all(&self, dir: &Path) -> Result<()> {
        let Some(parent) = dir.parent() else { return Ok(()) };
        if !self.lock().dir_exists(dir) {
            self.create_dir_all(parent)?;
            let mut state = self.lock();
            state.step(Op::CreateDir, dir)?;
            state.live_dirs.insert(dir.to_path_buf());
        }
        self.sync_dir(parent)
    }

    fn sync_dir(&self, dir: &Path) -> Result<()> {
        let mut guard = self.lock();
        guard.step(Op::Sync, dir)?;
        let state = &mut *guard;
        let inside = |path: &Path| path.parent() == Some(dir);
        state.durable_names.retain(|path, _| !inside(path));
        let names = state.live_names.iter().filter(|(path, _)| inside(path));
        state.durable_names.extend(names.map(|(path, &inode)| (path.clone(), inode)));
        state.durable_dirs.extend(state.live_dirs.iter().filter(|path| inside(path)).cloned());
        Ok(())
    }

    fn file_len(&self, path: &Path) -> Result<Option<u64>> {
        let state = self.lock();
        Ok(state.live_names.get(path).map(|&inode| state.inodes[inode].live.len() as u64))
    }

    fn list(&self, dir: &Path) -> Result<Vec<String>> {
        let state = self.lock();
        let files = state.live_names.keys();
        let names = files.chain(&state.live_dirs).filter(|path| path.parent() == Some(dir));
        let names: BTreeSet<_> = names.filter_map(|path| path.file_name()?.to_str()).collect();
        Ok(names.into_iter().map(str::to_owned).collect())
    }

    fn step(&self, what: &str) -> Result<()> {
        self.lock().step(Op::Step, Path::new(what)).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_count_among_the_operations_and_fail_like_them() {
        let disk = FaultyDisk::new();
        disk.create_exclusive(Path::new("/f")).unwrap();
        disk.step("before batch").unwrap();
        disk.fail_at(2, Fault::DiskFull);
        disk.fail_at(4, Fault::PowerCut);
        assert!(matches!(disk.step("after batch"), Err(Error::DiskFull { .. })));
        disk.step("before batch").unwrap();
        assert!(disk.step("after batch").is_err() && disk.remove(Path::new("/f")).is_err());
        let expected =
            ["create /f", "before batch", "after batch", "before batch", "after batch", "remove /f"];
        assert_eq!(disk.labels(), expected);
    }

    #[test]
    fn a_kill_loses_nothing_and_frees_what_was_owned() {
        let disk = FaultyDisk::new();
        let path = Path::new("/f");
        let file = disk.create_exclusive(path).unwrap();
        file.write_all_at(b"bytes", 0).unwrap();
        disk.fail_at(disk.operations(), Fault::PowerCut);
        assert!(file.sync().is_err());
        assert_eq!(disk.after_crash().file_len(path).unwrap(), None);
        let next = disk.after_kill();
        assert_eq!(next.file_len(path).unwrap(), Some(5));
        next.create_exclusive(path).unwrap();
    }
}
