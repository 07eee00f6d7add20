//! A disk in memory that fails when told to, and forgets what was not made durable.
//!
//! ```text
//! inode:      live bytes    ── sync ──▶ durable bytes
//! directory:  live names    ── sync_dir ──▶ durable names
//! crash():    a new disk that holds durable names over durable bytes, nothing else
//! ```
//!
//! Every call that changes something counts as one operation, numbered from 0; a fault is planted at a number, so a
//! test counts the operations of a clean run and then repeats it once per number and kind of fault.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::{Disk, Error, IfExists, Op, ReadAt, Result, WriteAt};

/// What goes wrong at the chosen operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The operation fails with an I/O error and does nothing; later ones work.
    Io,
    /// The operation fails for want of space and does nothing; later ones work.
    DiskFull,
    /// A write puts down half of its bytes, then fails; any other operation fails as with [`Fault::Io`].
    ShortWrite,
    /// Power is lost: this operation and all later ones fail.
    PowerCut,
}

#[derive(Clone, Default)]
struct Inode {
    live: Vec<u8>,
    durable: Vec<u8>,
    owned: bool,
}

#[derive(Default)]
struct State {
    inodes: Vec<Inode>,
    live_names: BTreeMap<PathBuf, usize>,
    durable_names: BTreeMap<PathBuf, usize>,
    live_dirs: BTreeSet<PathBuf>,
    durable_dirs: BTreeSet<PathBuf>,
    operations: u64,
    faults: BTreeMap<u64, Fault>,
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
        write!(f, "FaultyDisk({} files, {} operations)", state.live_names.len(), state.operations)
    }
}

impl State {
    /// Counts an operation; `Ok(true)` asks a write to put down half of its bytes before it fails.
    fn step(&mut self, op: Op, path: &Path) -> Result<bool> {
        let number = self.operations;
        self.operations += 1;
        let fail = |kind: io::ErrorKind| Err(Error::from_io(op, path, io::Error::new(kind, "planted fault")));
        if self.cut {
            return fail(io::ErrorKind::NotConnected);
        }
        match self.faults.get(&number) {
            None => Ok(false),
            Some(Fault::Io) => fail(io::ErrorKind::Other),
            Some(Fault::DiskFull) => fail(io::ErrorKind::StorageFull),
            Some(Fault::ShortWrite) if op == Op::Write => Ok(true),
            Some(Fault::ShortWrite) => fail(io::ErrorKind::Other),
            Some(Fault::PowerCut) => {
                self.cut = true;
                fail(io::ErrorKind::NotConnected)
            }
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
        self.lock().operations
    }

    /// Plants a fault at an operation number.
    pub fn fail_at(&self, operation: u64, fault: Fault) {
        self.lock().faults.insert(operation, fault);
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
        self.disk.lock().inodes[self.inode].live.as_slice().read_exact_at(buf, offset)
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

impl Disk for FaultyDisk {
    fn open(&self, path: &Path) -> Result<Box<dyn ReadAt>> {
        let state = self.lock();
        match state.live_names.get(path) {
            Some(&inode) => Ok(Box::new(state.inodes[inode].live.clone())),
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
        let mut state = self.lock();
        state.step(Op::CreateDir, dir)?;
        for ancestor in dir.ancestors().filter(|d| !d.as_os_str().is_empty() && d.parent().is_some()) {
            state.live_dirs.insert(ancestor.to_path_buf());
            state.durable_dirs.insert(ancestor.to_path_buf());
        }
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> Result<()> {
        let mut state = self.lock();
        state.step(Op::Sync, dir)?;
        state.durable_names.retain(|path, _| path.parent() != Some(dir));
        let live: Vec<_> = state.live_names.iter().map(|(p, &i)| (p.clone(), i)).collect();
        state.durable_names.extend(live.into_iter().filter(|(p, _)| p.parent() == Some(dir)));
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
}
