//! What migrations need of a store: an ordered map of keys, changed in atomic steps.

use std::{
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use super::MigError;

/// A key and its value.
pub type Row = (Vec<u8>, Vec<u8>);

/// A store that migrations run on. Their bookkeeping lies in it too, one row for each: `migration:NAME`.
pub trait MigDb: Send + Sync + 'static {
    /// What it is called in errors and logs.
    fn name(&self) -> String;

    /// Which database this is: two handles of one database have the same.
    fn identity(&self) -> Identity;

    /// How long a run is believed to be alive after it was last heard of; `None` for a store that one process at a time
    /// can open, whose lock says it better.
    fn lease(&self) -> Option<Duration> {
        None
    }

    /// One atomic step: `step` reads, and collects changes, which are durable when this returns without error; none are
    /// made when `step` fails. No other step, of any handle in any process, comes in between.
    ///
    /// # Errors
    /// What `step` says; [`MigError::StoreClosed`]; [`MigError::Store`].
    fn transact(&self, turn: Turn, step: &mut Step<'_>) -> Result<(), MigError>;

    /// Reads the rows of one moment. Waits for nobody's step, however long that takes.
    ///
    /// # Errors
    /// What `look` says; [`MigError::StoreClosed`]; [`MigError::Store`].
    fn read(&self, look: &mut Look<'_>) -> Result<(), MigError>;
}

/// What is done within one atomic step.
pub type Step<'a> = dyn FnMut(&dyn Rows, &mut Changes) -> Result<(), MigError> + 'a;

/// What is done with the rows of one moment.
pub type Look<'a> = dyn FnMut(&dyn Rows) -> Result<(), MigError> + 'a;

/// The rows of a store as they are before the step's own changes.
pub trait Rows {
    /// A row's value.
    ///
    /// # Errors
    /// [`MigError::Store`]; so for all methods.
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, MigError>;

    /// The first `limit` rows with `from <= key < to`, in order.
    ///
    /// # Errors
    /// As of [`get`](Rows::get).
    fn scan(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<Row>, MigError>;

    /// The last key with `from <= key < to`.
    ///
    /// # Errors
    /// As of [`get`](Rows::get).
    fn last_key(&self, from: &[u8], to: &[u8]) -> Result<Option<Vec<u8>>, MigError>;
}

/// Rows to be set and removed together; later ones win over earlier ones.
#[derive(Debug, Default)]
pub struct Changes {
    rows: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

impl Changes {
    /// Sets a row.
    pub fn put(&mut self, key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) {
        self.rows.push((key.into(), Some(value.into())));
    }

    /// Removes a row, where there is one.
    pub fn delete(&mut self, key: impl Into<Vec<u8>>) {
        self.rows.push((key.into(), None));
    }

    /// The changes in order: a key, and its new value or `None` where it is removed.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], Option<&[u8]>)> {
        self.rows.iter().map(|(key, value)| (key.as_slice(), value.as_deref()))
    }

    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    pub(super) fn undo_to(&mut self, len: usize) {
        self.rows.truncate(len);
    }
}

/// Whose step it is: one of live work never waits for more than the step that is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// Of live work, and of the runner's bookkeeping.
    Live,
    /// Of a migration.
    Migration,
}

/// Which database a handle is of.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Identity {
    /// One on disk: its canonical path, and what the file system calls it.
    Path {
        /// The path, without links.
        path: PathBuf,
        /// The device.
        device: u64,
        /// The inode.
        inode: u64,
    },
    /// One in memory.
    Unique(u64),
}

impl Identity {
    /// Of a database on disk.
    ///
    /// # Errors
    /// Of the file system.
    pub fn of_path(path: &Path) -> std::io::Result<Self> {
        use std::os::unix::fs::MetadataExt;
        let path = path.canonicalize()?;
        let found = path.metadata()?;
        Ok(Identity::Path { path, device: found.dev(), inode: found.ino() })
    }

    /// Of a database in memory: one that is like no other in this process.
    pub fn unique() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Identity::Unique(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}
