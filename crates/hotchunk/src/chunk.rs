//! The handle: making and opening a hot chunk, its parts, closing.
//!
//! ```text
//! HotChunk ── store                  rows; RocksDB's own lock keeps a second writer out
//!          ── writer (mutex)         who commits or truncates: the writing side of the event index, buffers for reuse
//!          ── index                  the reading side: what it shows is what is committed, and nothing else says so
//!          ── changes                odd while ledgers are being removed; a view taken before that is overtaken
//! ```

use std::{
    collections::BTreeSet,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use icecore_events::{EventCounts, EventRecord, HotIndex, HotIndexWriter, Query};
use icecore_ledger::{Decoder, GENESIS, LedgerRange, LedgerSeq, TxHash};
use icecore_rockstore::{Cache, Store, StoreOptions};

use crate::{
    Error, Found, Result, View, WarmUp,
    commit::Writer,
    format::{FAMILIES, MAX_LOG_BYTES},
    warmup::{self, Contents},
};

/// How a hot chunk is opened.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct HotOptions {
    /// Memory for blocks that were read, where it is to be shared; else 32 MiB.
    pub cache: Option<Cache>,
}

impl HotOptions {
    /// Shares a cache with other stores.
    #[must_use]
    pub fn cache(mut self, cache: Cache) -> Self {
        self.cache = Some(cache);
        self
    }

    fn store(&self) -> StoreOptions {
        let options = StoreOptions::default().max_log_bytes(MAX_LOG_BYTES);
        match &self.cache {
            Some(cache) => options.cache(cache.clone()),
            None => options,
        }
    }
}

/// The hot store of one chunk: one thread commits, any number read.
#[derive(Debug)]
pub struct HotChunk {
    pub(crate) shared: Arc<Shared>,
    pub(crate) store: Store,
    mode: Mode,
}

#[derive(Debug)]
enum Mode {
    Write {
        writer: Box<Mutex<Writer>>,
        index: HotIndex,
    },
    /// With the last ledger there was, and the event index where it was asked for.
    Read {
        last: Option<LedgerSeq>,
        index: Option<HotIndex>,
    },
}

/// What the handle and its views share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) path: PathBuf,
    pub(crate) chunk: LedgerRange,
    /// Odd while ledgers are being removed.
    changes: AtomicU64,
}

impl HotChunk {
    /// Makes the store of a new chunk, which will hold exactly these ledgers.
    ///
    /// # Errors
    /// [`Error::BadChunk`]; [`Error::Store`] where something is at the path.
    pub fn create(path: impl AsRef<Path>, chunk: LedgerRange, options: &HotOptions) -> Result<Self> {
        let shared = Shared::new(path.as_ref(), chunk)?;
        let store = Store::create(path, &FAMILIES, &options.store())?;
        let index = HotIndexWriter::new(&shared.path, chunk.first);
        Self::writing(shared, store, index)
    }

    /// Opens the store of a chunk that is there, checks that its rows fit together, and builds the event index from them.
    ///
    /// # Errors
    /// [`Error::Store`] with [`Missing`](icecore_rockstore::Error::Missing) and the like: nothing is ever created.
    /// [`Error::WrongChunk`]; [`Error::Corrupt`] where rows contradict each other.
    pub fn open(path: impl AsRef<Path>, chunk: LedgerRange, options: &HotOptions) -> Result<Self> {
        Self::open_with_progress(path, chunk, options, &mut |_| {})
    }

    /// Opens like [`open`](HotChunk::open) and tells how far the event index is, from time to time and at the end.
    ///
    /// # Errors
    /// As of [`open`](HotChunk::open).
    pub fn open_with_progress(
        path: impl AsRef<Path>,
        chunk: LedgerRange,
        options: &HotOptions,
        progress: &mut dyn FnMut(WarmUp),
    ) -> Result<Self> {
        let shared = Shared::new(path.as_ref(), chunk)?;
        let store = Store::open(path, &FAMILIES, &options.store())?;
        let reader = store.reader()?;
        let contents = Contents::check(&shared, &reader)?;
        let index = warmup::load_index(&shared, &reader, &contents, progress)?;
        drop(reader);
        Self::writing(shared, store, index)
    }

    /// Opens for reading only: what was committed when it was opened. Without the event index, so it takes no time;
    /// searches for events are refused. Takes no lock and changes nothing.
    ///
    /// # Errors
    /// As of [`open`](HotChunk::open).
    pub fn open_read_only(path: impl AsRef<Path>, chunk: LedgerRange, options: &HotOptions) -> Result<Self> {
        Self::reading(path.as_ref(), chunk, options, None)
    }

    /// Opens like [`open_read_only`](HotChunk::open_read_only), and builds the event index too, telling how far it is, so
    /// that events can be searched beside whoever writes.
    ///
    /// # Errors
    /// As of [`open`](HotChunk::open).
    pub fn open_read_only_with_events(
        path: impl AsRef<Path>,
        chunk: LedgerRange,
        options: &HotOptions,
        progress: &mut dyn FnMut(WarmUp),
    ) -> Result<Self> {
        Self::reading(path.as_ref(), chunk, options, Some(progress))
    }

    /// Where somebody commits at the same time, or removes the chunk, files go while they are looked at, so that rows seem to
    /// contradict each other, or to be missing. So trouble is believed only if no file came or went meanwhile, and rows only
    /// if none went.
    fn reading(
        path: &Path,
        chunk: LedgerRange,
        options: &HotOptions,
        mut events: Option<&mut dyn FnMut(WarmUp)>,
    ) -> Result<Self> {
        loop {
            let before = file_names(path);
            match Self::reading_once(path, chunk, options, &mut events) {
                Err(e) if (e.is_corrupt() || e.is_retryable()) && file_names(path) != before => {}
                Ok(_) if !file_names(path).is_superset(&before) => {}
                opened => return opened,
            }
        }
    }

    fn reading_once(
        path: &Path,
        chunk: LedgerRange,
        options: &HotOptions,
        events: &mut Option<&mut dyn FnMut(WarmUp)>,
    ) -> Result<Self> {
        let shared = Shared::new(path, chunk)?;
        let store = Store::open_read_only(path, &FAMILIES, &options.store())?;
        let reader = store.reader()?;
        let contents = Contents::check(&shared, &reader)?;
        let index = match events {
            Some(progress) => Some(warmup::load_index(&shared, &reader, &contents, &mut **progress)?.index()),
            None => None,
        };
        drop(reader);
        let mode = Mode::Read { last: contents.last(), index };
        Ok(HotChunk { shared: Arc::new(shared), store, mode })
    }

    fn writing(shared: Shared, store: Store, index: HotIndexWriter) -> Result<Self> {
        let shown = index.index();
        let writer = Writer::new(index).map_err(|e| shared.refused("make a compressor", &e))?;
        let mode = Mode::Write { writer: Box::new(Mutex::new(writer)), index: shown };
        Ok(HotChunk { shared: Arc::new(shared), store, mode })
    }

    /// Where the store is.
    pub fn path(&self) -> &Path {
        &self.shared.path
    }

    /// The ledgers that the chunk is to hold.
    pub fn chunk(&self) -> LedgerRange {
        self.shared.chunk
    }

    /// What is committed now, to be read as it is.
    ///
    /// # Errors
    /// [`Error::Store`] with [`Closed`](icecore_rockstore::Error::Closed).
    pub fn view(&self) -> Result<View> {
        loop {
            let changes = self.shared.changes();
            if changes % 2 == 1 {
                // Whoever removes ledgers holds the writer.
                drop(self.writer()?);
                continue;
            }
            let reader = self.store.reader()?;
            let (index, last) = match &self.mode {
                Mode::Write { index, .. } => {
                    let view = index.view();
                    let last = view.last();
                    (Some(view), last)
                }
                Mode::Read { last, index } => (index.as_ref().map(HotIndex::view), *last),
            };
            if self.shared.changes() == changes {
                return Ok(View { shared: Arc::clone(&self.shared), reader, index, last, changes });
            }
        }
    }

    /// The last ledger that is there; `None` when there is none.
    ///
    /// # Errors
    /// As of [`view`](HotChunk::view).
    pub fn max_committed(&self) -> Result<Option<LedgerSeq>> {
        Ok(self.view()?.last())
    }

    /// One raw ledger; `None` when it is not there.
    ///
    /// # Errors
    /// As of [`View::ledger`], but never [`Error::Overtaken`].
    pub fn ledger(&self, seq: LedgerSeq) -> Result<Option<Vec<u8>>> {
        self.read(|view| view.ledger(seq))
    }

    /// The ledger that holds a transaction, by its hash or the hash of the transaction inside it.
    ///
    /// # Errors
    /// As of [`View::transaction`], but never [`Error::Overtaken`].
    pub fn transaction(&self, hash: &TxHash) -> Result<Option<Found>> {
        self.read(|view| view.transaction(hash))
    }

    /// The events that a query finds.
    ///
    /// # Errors
    /// As of [`View::events`], but never [`Error::Overtaken`].
    pub fn events(&self, query: &Query, decoder: &dyn Decoder) -> Result<Vec<EventRecord>> {
        self.read(|view| view.events(query, decoder))
    }

    /// Reads through a view, and again through a new one where ledgers were removed meanwhile.
    fn read<T>(&self, read: impl Fn(&View) -> Result<T>) -> Result<T> {
        loop {
            match read(&self.view()?) {
                Err(Error::Overtaken { .. }) => {}
                answer => return answer,
            }
        }
    }

    /// Figures about the store, for metrics.
    ///
    /// # Errors
    /// [`Error::Store`] with [`Closed`](icecore_rockstore::Error::Closed).
    pub fn stats(&self) -> Result<HotStats> {
        let index = match &self.mode {
            Mode::Write { index, .. } => Some(index),
            Mode::Read { index, .. } => index.as_ref(),
        };
        let (terms, index_bytes) = index.map_or((0, 0), |index| (index.term_count(), index.heap_bytes()));
        Ok(HotStats { store: self.store.stats()?, terms, index_bytes })
    }

    /// Writes what is in memory to files, so that the next opening has no log to replay.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub fn flush(&self) -> Result<()> {
        Ok(self.store.flush()?)
    }

    /// Closes the store when everything in flight has ended, views and streams among it; new calls get
    /// [`Closed`](icecore_rockstore::Error::Closed) at once. A thread that holds a view must not call this.
    pub fn close(&self) {
        self.store.close();
    }

    /// Closes the store if nothing is in flight.
    ///
    /// # Errors
    /// [`Error::Store`] with [`Busy`](icecore_rockstore::Error::Busy): then it stays open.
    pub fn close_if_idle(&self) -> Result<()> {
        Ok(self.store.close_if_idle()?)
    }

    /// The writing side; waits for its turn.
    pub(crate) fn writer(&self) -> Result<MutexGuard<'_, Writer>> {
        match &self.mode {
            Mode::Write { writer, .. } => Ok(writer.lock().unwrap_or_else(PoisonError::into_inner)),
            Mode::Read { .. } => Err(Error::ReadOnly { path: self.shared.path.clone() }),
        }
    }
}

/// What is in a directory; RocksDB never gives a name twice.
fn file_names(path: &Path) -> BTreeSet<OsString> {
    fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.file_name()).collect()
}

/// Figures about a hot chunk.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct HotStats {
    /// Of the store underneath.
    pub store: icecore_rockstore::Stats,
    /// Terms in the event index.
    pub terms: u64,
    /// Memory that the event index holds.
    pub index_bytes: usize,
}

impl Shared {
    fn new(path: &Path, chunk: LedgerRange) -> Result<Self> {
        let path = path.to_path_buf();
        if chunk.first < GENESIS {
            return Err(Error::BadChunk { path, chunk });
        }
        Ok(Shared { path, chunk, changes: AtomicU64::new(0) })
    }

    pub(crate) fn corrupt(&self, what: impl Into<String>) -> Error {
        Error::Corrupt { path: self.path.clone(), chunk: self.chunk, what: what.into() }
    }

    /// A refusal of the machine's, not of the rows'.
    pub(crate) fn refused(&self, op: &'static str, error: &std::io::Error) -> Error {
        Error::Store(icecore_rockstore::Error::Io { path: self.path.clone(), op, what: error.to_string() })
    }

    /// How often the removal of ledgers has begun and ended.
    pub(crate) fn changes(&self) -> u64 {
        self.changes.load(Ordering::SeqCst)
    }

    /// Begins or ends the removal of ledgers.
    pub(crate) fn change(&self) {
        self.changes.fetch_add(1, Ordering::SeqCst);
    }
}
