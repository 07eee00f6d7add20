//! What the store asks of a database, and the two backends that need none.

use std::{
    collections::BTreeMap,
    fmt,
    ops::Bound,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::Result;

/// The kinds of record. A backend keeps each apart from the others, under keys of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    /// One record: what the database was made with.
    Store,
    /// The changing half of a transaction, with its first page of outputs.
    Master,
    /// A further page of outputs.
    Extra,
    /// The half of a transaction that never changes.
    Facts,
    /// Which transactions fall due at which height.
    Due,
    /// Who is creating a transaction of several records.
    Lock,
    /// What a committed batch still owes other records.
    FollowUp,
    /// What a run over several transactions is about to do.
    Intent,
}

impl Family {
    /// All of them.
    pub const ALL: [Family; 8] = [
        Family::Store,
        Family::Master,
        Family::Extra,
        Family::Facts,
        Family::Due,
        Family::Lock,
        Family::FollowUp,
        Family::Intent,
    ];

    /// The name a database knows it by.
    pub fn name(self) -> &'static str {
        match self {
            Family::Store => "store",
            Family::Master => "master",
            Family::Extra => "extra",
            Family::Facts => "facts",
            Family::Due => "due",
            Family::Lock => "lock",
            Family::FollowUp => "follow_up",
            Family::Intent => "intent",
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Changes that become durable together or not at all: a value to put under a key, or `None` to delete it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// The changes; no key occurs twice.
    pub changes: Vec<(Family, Vec<u8>, Option<Vec<u8>>)>,
}

/// A database, reduced to what the store asks of it. All semantics live above, so every backend has the same.
pub trait Backend: Send + Sync {
    /// Reads the values under `keys`, in their order; each answer stands alone.
    fn read(&self, family: Family, keys: &[Vec<u8>]) -> Vec<Result<Option<Vec<u8>>>>;

    /// Applies a batch; on `Ok` it is durable, on `Err` nothing of it is there, and on
    /// [`Unknown`](crate::Error::Unknown) it is one or the other.
    fn commit(&self, batch: Batch) -> Result<()>;

    /// Visits the records of a family from the key `from` on, in key order, until `each` returns false.
    fn scan(&self, family: Family, from: &[u8], each: &mut dyn FnMut(&[u8], &[u8]) -> bool) -> Result<()>;

    /// Ends all use of the database. Called once, after everything else.
    fn close(&self) -> Result<()>;
}

type Records = BTreeMap<(Family, Vec<u8>), Vec<u8>>;

/// Everything in memory. Clones share the records, so that a store can be closed and opened again.
#[derive(Clone, Debug, Default)]
pub struct MemoryBackend {
    records: Arc<Mutex<Records>>,
}

impl MemoryBackend {
    /// An empty database.
    pub fn new() -> Self {
        Self::default()
    }

    fn records(&self) -> MutexGuard<'_, Records> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Backend for MemoryBackend {
    fn read(&self, family: Family, keys: &[Vec<u8>]) -> Vec<Result<Option<Vec<u8>>>> {
        let records = self.records();
        keys.iter().map(|key| Ok(records.get(&(family, key.clone())).cloned())).collect()
    }

    fn commit(&self, batch: Batch) -> Result<()> {
        let mut records = self.records();
        for (family, key, value) in batch.changes {
            match value {
                Some(value) => records.insert((family, key), value),
                None => records.remove(&(family, key)),
            };
        }
        Ok(())
    }

    fn scan(&self, family: Family, from: &[u8], each: &mut dyn FnMut(&[u8], &[u8]) -> bool) -> Result<()> {
        let start = Bound::Included((family, from.to_vec()));
        let records = self.records();
        let mut family_from = records.range((start, Bound::Unbounded)).take_while(|((f, _), _)| *f == family);
        family_from.all(|((_, key), value)| each(key, value));
        Ok(())
    }

    fn close(&self) -> Result<()> {
        Ok(())
    }
}

/// Keeps nothing: every create succeeds, nothing is ever found, and closing does nothing. What the queues cost alone.
#[derive(Clone, Copy, Debug, Default)]
pub struct NullBackend;

impl Backend for NullBackend {
    fn read(&self, _: Family, keys: &[Vec<u8>]) -> Vec<Result<Option<Vec<u8>>>> {
        keys.iter().map(|_| Ok(None)).collect()
    }

    fn commit(&self, _: Batch) -> Result<()> {
        Ok(())
    }

    fn scan(&self, _: Family, _: &[u8], _: &mut dyn FnMut(&[u8], &[u8]) -> bool) -> Result<()> {
        Ok(())
    }

    fn close(&self) -> Result<()> {
        Ok(())
    }
}
