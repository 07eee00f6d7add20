//! The handle. Who owns what:
//!
//! ```text
//! Store ── slot ──▶ Core (the open database) ◀── every Reader, and so every value, iterator and snapshot
//!       ── writer   one write at a time; remembers a failed one until it is settled
//!       ── ended    counts the Cores there are: the last owner of a Core closes the database and says so here
//! ```
//!
//! Closing takes the Core out of the slot, so that nobody new gets at it, and waits for its last owner.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
    time::Duration,
};

use rocksdb::{DB, DBRecoveryMode, ReadOptions, WriteOptions, checkpoint::Checkpoint};

use crate::{Batch, Error, Family, FamilyId, Reader, Result, Stats, StoreOptions, inspect, log};

/// How long settling a failed write waits for the operations in flight.
const PATIENCE: Duration = Duration::from_secs(10);

/// One RocksDB with several families: any number of threads read, one at a time writes.
///
/// Everything that reads goes through a [`Reader`], which counts as an operation in flight for as long as it lives.
#[derive(Debug)]
pub struct Store {
    path: PathBuf,
    families: Vec<Family>,
    options: StoreOptions,
    read_only: bool,
    slot: RwLock<Slot>,
    writer: Mutex<Option<Failed>>,
    ended: Arc<Ended>,
}

#[derive(Debug)]
enum Slot {
    Open(Arc<Core>),
    /// Neither open nor closed: a failed write could not be settled.
    Down,
    Closed,
}

/// An open database.
pub(crate) struct Core {
    // Fields are dropped in this order: the database is closed before its end is told.
    pub(crate) db: DB,
    pub(crate) path: PathBuf,
    pub(crate) families: Vec<Family>,
    pub(crate) options: rocksdb::Options,
    pub(crate) read_options: ReadOptions,
    _live: Live,
}

/// A write that failed: the number of the last row before it.
#[derive(Debug)]
struct Failed {
    last_row: u64,
}

/// What became of a batch whose write had failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settled {
    /// No write had failed.
    NothingToDo,
    /// All of it is there, and durable.
    Kept,
    /// Nothing of it is there.
    Dropped,
}

impl Store {
    /// Makes a new store, with its families, and opens it. A store under this name is whole: it is made aside, under
    /// the name with `.creating` at its end, and what a crash left there is finished by the next attempt.
    ///
    /// # Errors
    /// [`Error::Exists`] for anything but an empty directory or nothing at the path; [`Error::Locked`] when another is
    /// making it.
    pub fn create(path: impl AsRef<Path>, families: &[Family], options: &StoreOptions) -> Result<Self> {
        let path = path.as_ref();
        let exists = || Error::Exists { path: path.to_path_buf() };
        let taken = match fs::read_dir(path) {
            Ok(mut entries) => entries.next().is_some(),
            Err(e) => e.kind() != io::ErrorKind::NotFound,
        };
        if taken {
            return Err(exists());
        }
        let aside = inspect::unfinished(path);
        let mut rocksdb = options.rocksdb(path)?;
        rocksdb.create_if_missing(true);
        rocksdb.create_missing_column_families(true);
        let made = DB::open_cf_descriptors(&rocksdb, &aside, options.descriptors(families));
        drop(made.map_err(|e| inspect::explain(&aside, "create the store", &e))?);
        fs::rename(&aside, path).map_err(|e| match e.kind() {
            io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists => exists(),
            _ => Error::io(path, "name the store", &e),
        })?;
        inspect::sync_parent(path)?;
        Self::open(path, families, options)
    }

    /// Opens a store that is there, with exactly these families in the order of its creation.
    ///
    /// # Errors
    /// [`Error::Missing`], [`Error::Gutted`], [`Error::Foreign`], [`Error::Newer`]: then nothing was created or changed.
    /// [`Error::Locked`] when it is open for writing already, [`Error::Corrupt`] for damage that shows.
    pub fn open(path: impl AsRef<Path>, families: &[Family], options: &StoreOptions) -> Result<Self> {
        Self::open_as(path.as_ref(), families, options, false)
    }

    /// Opens a store that is there for reading only: as it was when it was opened, its log replayed in memory. Changes
    /// nothing and takes no lock. Where another handle writes at the same time, a file can vanish in between: that shows
    /// as [`Error::Io`] or [`Error::Corrupt`], or as the newest rows missing; opening again helps. So does it where one
    /// [destroys](Store::destroy) it: then the last opening is refused.
    ///
    /// # Errors
    /// As of [`open`](Store::open), but never [`Error::Locked`].
    pub fn open_read_only(
        path: impl AsRef<Path>,
        families: &[Family],
        options: &StoreOptions,
    ) -> Result<Self> {
        Self::open_as(path.as_ref(), families, options, true)
    }

    /// Removes a store that nobody has open for writing, or what is left of one; nothing where there is none. Its first step
    /// makes it unreadable, so that whoever opens it meanwhile for reading is told, and never takes a part for the whole.
    ///
    /// # Errors
    /// [`Error::Io`]; doing it again goes on.
    pub fn destroy(path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        let gone = |removed: io::Result<()>| match removed {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(Error::io(path, "remove the store", &e)),
            _ => Ok(()),
        };
        gone(fs::remove_file(path.join(inspect::CURRENT)))?;
        gone(fs::remove_dir_all(path))
    }

    fn open_as(path: &Path, families: &[Family], options: &StoreOptions, read_only: bool) -> Result<Self> {
        let store = Store {
            path: path.to_path_buf(),
            families: families.to_vec(),
            options: options.clone(),
            read_only,
            slot: RwLock::new(Slot::Closed),
            writer: Mutex::new(None),
            ended: Arc::default(),
        };
        *store.slot_mut() = Slot::Open(store.open_core(read_only)?);
        Ok(store)
    }

    fn open_core(&self, read_only: bool) -> Result<Arc<Core>> {
        let path = &self.path;
        inspect::check_present(path)?;
        let mut options = self.options.rocksdb(path)?;
        inspect::check_families(path, &options, &self.families)?;
        let open = |options: &rocksdb::Options| {
            let descriptors = self.options.descriptors(&self.families);
            let opened = if read_only {
                DB::open_cf_descriptors_read_only(options, path, descriptors, false)
            } else {
                DB::open_cf_descriptors(options, path, descriptors)
            };
            opened.map_err(|e| inspect::explain(path, "open the store", &e))
        };
        let db = match open(&options) {
            // What a loss of power leaves of a write that was never acknowledged.
            Err(Error::Corrupt { .. }) if log::ends_torn(path).unwrap_or(false) => {
                options.set_wal_recovery_mode(DBRecoveryMode::PointInTime);
                open(&options)?
            }
            opened => opened?,
        };
        inspect::check_numbers(path, &db, &self.families)?;
        Ok(Arc::new(Core {
            db,
            path: path.clone(),
            families: self.families.clone(),
            options,
            read_options: ReadOptions::default(),
            _live: Live::new(&self.ended),
        }))
    }

    /// Where the store is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The families it was opened with.
    pub fn families(&self) -> &[Family] {
        &self.families
    }

    /// True when it was opened for reading only.
    pub fn is_read_only(&self) -> bool {
        self.read_only
    }

    /// Begins to read: the store is not closed before the reader is dropped.
    ///
    /// # Errors
    /// [`Error::Closed`]; [`Error::Unsettled`] when a failed write has left the database shut.
    pub fn reader(&self) -> Result<Reader> {
        self.core().map(Reader::new)
    }

    /// A row's value, copied.
    ///
    /// # Errors
    /// As of [`reader`](Store::reader) and [`Reads::get`](crate::Reads::get).
    pub fn get(&self, family: FamilyId, key: &[u8]) -> Result<Option<Vec<u8>>> {
        use crate::Reads;
        Ok(self.reader()?.get(family, key)?.map(|value| value.to_vec()))
    }

    /// Writes a batch: when this returns without error, all of it is there and survives a loss of power. Writers take
    /// turns. The batch is left as it is; an empty one is not written.
    ///
    /// # Errors
    /// After [`Error::DiskFull`], [`Error::Io`], [`Error::Corrupt`] or [`Error::Refused`] nothing of the batch is seen by
    /// readers, and [`recover`](Store::recover) says what became of it; until then every write is [`Error::Unsettled`].
    /// After any other error, such as [`Error::NoFamily`], nothing was tried.
    pub fn write(&self, batch: &Batch) -> Result<()> {
        let path = || self.path.clone();
        if self.read_only {
            return Err(Error::ReadOnly { path: path() });
        }
        let mut failed = lock(&self.writer);
        let core = self.core()?;
        if failed.is_some() {
            return Err(Error::Unsettled { path: path() });
        }
        if batch.is_empty() {
            return Ok(());
        }
        // RocksDB would see it only after it has logged the batch.
        core.family(batch.last_family())?;
        let rows = batch.to_rocksdb().ok_or_else(|| Error::TooLarge { path: path() })?;
        let last_row = core.db.latest_sequence_number();
        let mut options = WriteOptions::default();
        options.set_sync(true);
        core.db.write_opt(rows, &options).map_err(|e| {
            *failed = Some(Failed { last_row });
            Error::of(&self.path, "write a batch", &e)
        })
    }

    /// Makes the store writable again after a failed write, and says what became of that batch. RocksDB takes no write
    /// after one that failed, so the database is closed and opened anew: operations in flight are waited for, new ones
    /// wait meanwhile. A thread that holds a reader must not call this.
    ///
    /// # Errors
    /// [`Error::Busy`] when operations in flight did not end within ten seconds; whatever opening gives while the
    /// trouble lasts, [`Error::DiskFull`] foremost. Reads go on then, from before the failed write or, where that was
    /// the last thing to reach the log, after it; call it again later.
    pub fn recover(&self) -> Result<Settled> {
        let mut failed = lock(&self.writer);
        let Some(Failed { last_row }) = *failed else { return Ok(Settled::NothingToDo) };
        let mut slot = self.slot_mut();
        match std::mem::replace(&mut *slot, Slot::Down) {
            Slot::Open(core) => {
                let weak = Arc::downgrade(&core);
                drop(core);
                if !self.ended.wait(Some(PATIENCE)) {
                    if let Some(core) = weak.upgrade() {
                        *slot = Slot::Open(core);
                        return Err(Error::Busy { path: self.path.clone() });
                    }
                    self.ended.wait(None);
                }
            }
            Slot::Down => {}
            Slot::Closed => {
                *slot = Slot::Closed;
                return Err(Error::Closed { path: self.path.clone() });
            }
        }
        match self.open_core(false) {
            Ok(core) => {
                let kept = core.db.latest_sequence_number() > last_row;
                *slot = Slot::Open(core);
                *failed = None;
                Ok(if kept { Settled::Kept } else { Settled::Dropped })
            }
            Err(error) => {
                // Reading needs no room.
                if let Ok(core) = self.open_core(true) {
                    *slot = Slot::Open(core);
                }
                Err(error)
            }
        }
    }

    /// Writes all rows that are in memory to files, so that the next opening has nothing to replay.
    ///
    /// # Errors
    /// [`Error::Closed`], [`Error::ReadOnly`], [`Error::DiskFull`], [`Error::Io`].
    pub fn flush(&self) -> Result<()> {
        if self.read_only {
            return Err(Error::ReadOnly { path: self.path.clone() });
        }
        let core = self.core()?;
        let handles: Vec<_> =
            core.families.iter().filter_map(|family| core.db.cf_handle(family.name())).collect();
        let flushed = core.db.flush_cfs_opt(&handles, &rocksdb::FlushOptions::default());
        flushed.map_err(|e| Error::of(&self.path, "write out memory", &e))
    }

    /// Makes a copy of the store as it is now, at a path where there is nothing; files are linked where the file system can.
    ///
    /// # Errors
    /// [`Error::Exists`], [`Error::Closed`], [`Error::DiskFull`], [`Error::Io`].
    pub fn checkpoint(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        if fs::symlink_metadata(path).is_ok() {
            return Err(Error::Exists { path: path.to_path_buf() });
        }
        let core = self.core()?;
        let made = Checkpoint::new(&core.db).and_then(|checkpoint| checkpoint.create_checkpoint(path));
        made.map_err(|e| Error::of(path, "make a checkpoint", &e))?;
        inspect::sync_parent(path)
    }

    /// Figures about the store, for metrics.
    ///
    /// # Errors
    /// [`Error::Closed`], [`Error::Unsettled`].
    pub fn stats(&self) -> Result<Stats> {
        Ok(Stats::of(&*self.core()?, &self.options))
    }

    /// Closes the store and returns when it is closed: new operations get [`Error::Closed`] at once, those in flight are
    /// waited for, among them readers with their iterators and snapshots. So a thread that holds one must not call this.
    /// Closing again does nothing more.
    pub fn close(&self) {
        let slot = std::mem::replace(&mut *self.slot_mut(), Slot::Closed);
        drop(slot);
        self.ended.wait(None);
    }

    /// Closes the store if no operation is in flight.
    ///
    /// # Errors
    /// [`Error::Busy`]: then it stays open.
    pub fn close_if_idle(&self) -> Result<()> {
        let mut slot = self.slot_mut();
        match &*slot {
            // Nobody can become an owner while the slot is held, and there are no weak ones now.
            Slot::Open(core) if Arc::strong_count(core) > 1 => {
                return Err(Error::Busy { path: self.path.clone() });
            }
            _ => *slot = Slot::Closed,
        }
        drop(slot);
        self.ended.wait(None);
        Ok(())
    }

    fn core(&self) -> Result<Arc<Core>> {
        match &*self.slot() {
            Slot::Open(core) => Ok(Arc::clone(core)),
            Slot::Down => Err(Error::Unsettled { path: self.path.clone() }),
            Slot::Closed => Err(Error::Closed { path: self.path.clone() }),
        }
    }

    fn slot(&self) -> RwLockReadGuard<'_, Slot> {
        self.slot.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn slot_mut(&self) -> RwLockWriteGuard<'_, Slot> {
        self.slot.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Core {
    pub(crate) fn family(&self, id: FamilyId) -> Result<(&Family, &rocksdb::ColumnFamily)> {
        let family = self.families.get(id.0);
        let found = family.and_then(|family| Some((family, self.db.cf_handle(family.name())?)));
        found.ok_or_else(|| Error::NoFamily { path: self.path.clone(), family: id.0 })
    }
}

impl std::fmt::Debug for Core {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Core").field("path", &self.path).finish_non_exhaustive()
    }
}

/// How many databases a store has open: one, or none.
#[derive(Debug, Default)]
struct Ended {
    open: Mutex<usize>,
    changed: Condvar,
}

impl Ended {
    /// Waits until none is; false when that took too long.
    fn wait(&self, patience: Option<Duration>) -> bool {
        let open = lock(&self.open);
        match patience {
            None => {
                let ended = self.changed.wait_while(open, |open| *open > 0);
                drop(ended.unwrap_or_else(PoisonError::into_inner));
                true
            }
            Some(patience) => {
                let waited = self.changed.wait_timeout_while(open, patience, |open| *open > 0);
                *waited.unwrap_or_else(PoisonError::into_inner).0 == 0
            }
        }
    }
}

/// One open database, as counted.
struct Live(Arc<Ended>);

impl Live {
    fn new(ended: &Arc<Ended>) -> Self {
        *lock(&ended.open) += 1;
        Live(Arc::clone(ended))
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        *lock(&self.0.open) -= 1;
        self.0.changed.notify_all();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Reads;

    #[test]
    fn a_batch_that_reached_the_log_before_its_write_failed_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let families = [Family::new("a")];
        let store = Store::create(dir.path().join("s"), &families, &StoreOptions::default()).unwrap();
        let mut batch = Batch::new();
        (0..3u8).for_each(|key| batch.put(FamilyId(0), &[key], b"value"));
        for settled in [Settled::Kept, Settled::Dropped] {
            let last_row = store.core().unwrap().db.latest_sequence_number();
            if settled == Settled::Kept {
                store.write(&batch).unwrap();
            }
            *lock(&store.writer) = Some(Failed { last_row });
            assert!(matches!(store.write(&batch), Err(Error::Unsettled { .. })));
            assert_eq!(store.recover().unwrap(), settled);
            assert_eq!(
                store.reader().unwrap().get(FamilyId(0), &[2]).unwrap().as_deref(),
                Some(&b"value"[..])
            );
            store.write(&batch).unwrap();
        }
        *lock(&store.writer) = Some(Failed { last_row: 0 });
        store.close();
        assert!(matches!(store.recover(), Err(Error::Closed { .. })));
    }
}
