//! A bed to test a store in: one endpoint that can be opened again and again, and a backend that fails when told to.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use icecore_batcher::TriggerMode;
use icecore_diskio::FaultyDisk;

use crate::{
    record::{FollowUp, Stored},
    *,
};

/// Longer than anything takes that works.
pub(crate) const GUARD: Duration = Duration::from_secs(10);
pub(crate) const PAGE_SIZE: u32 = 4;
pub(crate) const RETENTION: u32 = 10;

/// What a read is to give instead of the record.
#[derive(Clone)]
pub(crate) enum Instead {
    Garbage,
    Failure,
    /// These bytes, the first time.
    Once(Vec<u8>),
}

type Fault = Box<dyn FnMut(u64, &Batch) -> Option<Error> + Send>;

#[derive(Default)]
struct ControlState {
    current: Option<Arc<dyn Backend>>,
    gate_closed: bool,
    /// How many commits a closed gate still lets through.
    passes: usize,
    at_gate: usize,
    instead: BTreeMap<(Family, Vec<u8>), Instead>,
    fault: Option<Fault>,
    log: Vec<(Family, Vec<u8>, bool)>,
}

/// What a test tells the backend to do, and what it learns from it.
#[derive(Default)]
pub(crate) struct Control {
    state: Mutex<ControlState>,
    moved: Condvar,
    pub(crate) connects: AtomicU64,
    pub(crate) closes: AtomicU64,
    pub(crate) fail_close: AtomicBool,
    commits: AtomicU64,
}

impl Control {
    /// Commits wait at a closed gate.
    pub(crate) fn close_gate(&self) {
        self.state.lock().unwrap().gate_closed = true;
    }

    pub(crate) fn open_gate(&self) {
        self.state.lock().unwrap().gate_closed = false;
        self.moved.notify_all();
    }

    /// Lets one commit through the closed gate.
    pub(crate) fn let_one_through(&self) {
        self.state.lock().unwrap().passes += 1;
        self.moved.notify_all();
    }

    /// Waits until so many commits are at the gate, at most so long; says whether they are.
    pub(crate) fn wait_at_gate(&self, commits: usize, limit: Duration) -> bool {
        let until = Instant::now() + limit;
        let mut state = self.state.lock().unwrap();
        while state.at_gate < commits {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            state = self.moved.wait_timeout(state, left).unwrap().0;
        }
        true
    }

    pub(crate) fn read_instead<R: Stored>(&self, key: &R::Key, instead: Option<Instead>) {
        let key = (R::FAMILY, R::key(key));
        let map = &mut self.state.lock().unwrap().instead;
        match instead {
            Some(instead) => drop(map.insert(key, instead)),
            None => drop(map.remove(&key)),
        }
    }

    /// Asked for every commit, by its number from now on, whether it fails.
    pub(crate) fn fail_commits(&self, fault: impl FnMut(u64, &Batch) -> Option<Error> + Send + 'static) {
        self.commits.store(0, Ordering::SeqCst);
        self.state.lock().unwrap().fault = Some(Box::new(fault));
    }

    pub(crate) fn fail_no_more(&self) {
        self.state.lock().unwrap().fault = None;
    }

    /// How often keys of a family that begin like this were put so far.
    pub(crate) fn puts(&self, family: Family, contains: &[u8]) -> usize {
        let state = self.state.lock().unwrap();
        let is_it = |(f, key, put): &&(Family, Vec<u8>, bool)| {
            *f == family && *put && key.windows(contains.len()).any(|window| window == contains)
        };
        state.log.iter().filter(is_it).count()
    }
}

pub(crate) fn disk_full() -> Error {
    Error::Unavailable { what: "the disk is full".into() }
}

/// A backend under the control of a test.
struct Stub {
    inner: Arc<dyn Backend>,
    control: Arc<Control>,
}

impl Backend for Stub {
    fn read(&self, family: Family, keys: &[Vec<u8>]) -> Vec<Result<Option<Vec<u8>>>> {
        let mut found = self.inner.read(family, keys);
        let mut state = self.control.state.lock().unwrap();
        for (key, found) in keys.iter().zip(&mut found) {
            let key = (family, key.clone());
            match state.instead.get(&key) {
                Some(Instead::Garbage) => *found = Ok(Some(b"garbage".to_vec())),
                Some(Instead::Failure) => *found = Err(disk_full()),
                Some(Instead::Once(bytes)) => {
                    *found = Ok(Some(bytes.clone()));
                    state.instead.remove(&key);
                }
                None => {}
            }
        }
        found
    }

    fn commit(&self, batch: Batch) -> Result<()> {
        let number = self.control.commits.fetch_add(1, Ordering::SeqCst);
        let mut state = self.control.state.lock().unwrap();
        state.at_gate += 1;
        self.control.moved.notify_all();
        while state.gate_closed && state.passes == 0 {
            let (next, timeout) = self.control.moved.wait_timeout(state, GUARD).unwrap();
            assert!(!timeout.timed_out(), "nobody opens the gate");
            state = next;
        }
        state.passes = state.passes.saturating_sub(1);
        state.at_gate -= 1;
        if let Some(error) = state.fault.as_mut().and_then(|fault| fault(number, &batch)) {
            return Err(error);
        }
        state
            .log
            .extend(batch.changes.iter().map(|(family, key, value)| (*family, key.clone(), value.is_some())));
        drop(state);
        self.inner.commit(batch)
    }

    fn scan(&self, family: Family, from: &[u8], each: &mut dyn FnMut(&[u8], &[u8]) -> bool) -> Result<()> {
        self.inner.scan(family, from, each)
    }

    fn close(&self) -> Result<()> {
        self.control.closes.fetch_add(1, Ordering::SeqCst);
        self.control.state.lock().unwrap().current = None;
        self.inner.close()?;
        if self.control.fail_close.load(Ordering::SeqCst) { Err(disk_full()) } else { Ok(()) }
    }
}

enum Place {
    Memory(MemoryBackend),
    #[cfg(feature = "rocksdb")]
    Rocks(tempfile::TempDir),
}

/// One endpoint.
pub(crate) struct Bed {
    pub(crate) clients: Clients,
    pub(crate) control: Arc<Control>,
    pub(crate) disk: FaultyDisk,
    pub(crate) now_ms: Arc<AtomicU64>,
    place: Place,
}

impl Bed {
    fn new(place: Place) -> Self {
        let (clients, control, disk) = (Clients::new(), Arc::default(), FaultyDisk::new());
        Bed { clients, control, disk, now_ms: Arc::new(AtomicU64::new(1_000_000)), place }
    }

    pub(crate) fn memory() -> Self {
        Self::new(Place::Memory(MemoryBackend::new()))
    }

    #[cfg(feature = "rocksdb")]
    pub(crate) fn rocksdb() -> Self {
        Self::new(Place::Rocks(scratch()))
    }

    pub(crate) fn options(&self) -> Options {
        let now_ms = Arc::clone(&self.now_ms);
        Options::new()
            .page_size(PAGE_SIZE)
            .retention_blocks(RETENTION)
            .coinbase_maturity_blocks(5)
            .disk(Arc::new(self.disk.clone()))
            .clock_ms(move || now_ms.load(Ordering::SeqCst))
    }

    fn connect(&self) -> Result<Arc<dyn Backend>> {
        Ok(match &self.place {
            Place::Memory(backend) => Arc::new(backend.clone()),
            #[cfg(feature = "rocksdb")]
            Place::Rocks(dir) => Arc::new(RocksBackend::open(dir.path().join("db"), &Default::default())?),
        })
    }

    pub(crate) fn try_open(&self, options: Options) -> Result<UtxoStore> {
        UtxoStore::open_with(&self.clients, "memory:///bed", "/bodies", options, || {
            self.control.connects.fetch_add(1, Ordering::SeqCst);
            let inner = self.connect()?;
            self.control.state.lock().unwrap().current = Some(Arc::clone(&inner));
            Ok(Arc::new(Stub { inner, control: Arc::clone(&self.control) }))
        })
    }

    pub(crate) fn open_with(&self, options: Options) -> UtxoStore {
        self.try_open(options).unwrap()
    }

    pub(crate) fn open(&self) -> UtxoStore {
        self.open_with(self.options())
    }

    /// Closes and opens again.
    pub(crate) fn reopen(&self, store: UtxoStore) -> UtxoStore {
        store.close(GUARD).unwrap();
        self.open()
    }

    /// The backend itself, open or not, with nothing between.
    pub(crate) fn raw<T>(&self, run: impl FnOnce(&dyn Backend) -> T) -> T {
        let current = self.control.state.lock().unwrap().current.clone();
        if let Some(backend) = current {
            return run(&*backend);
        }
        let backend = self.connect().unwrap();
        let out = run(&*backend);
        backend.close().unwrap();
        out
    }

    pub(crate) fn raw_get<R: Stored>(&self, key: &R::Key) -> Option<R> {
        let found = self.raw(|backend| backend.read(R::FAMILY, &[R::key(key)])).pop().unwrap().unwrap();
        found.map(|bytes| R::decode(key, PAGE_SIZE, &bytes).unwrap())
    }

    /// Puts a record past all semantics.
    pub(crate) fn raw_put<R: Stored>(&self, key: &R::Key, record: &R) {
        let bytes = record.encode(&R::key(key));
        let batch = Batch { changes: vec![(R::FAMILY, R::key(key), Some(bytes))] };
        self.raw(|backend| backend.commit(batch)).unwrap();
    }

    pub(crate) fn owed(&self) -> usize {
        let mut owed = 0;
        let mut count = |_: &[u8], _: &[u8]| {
            owed += 1;
            true
        };
        self.raw(|backend| backend.scan(FollowUp::FAMILY, &[], &mut count)).unwrap();
        owed
    }
}

/// A directory; in memory where the system has a place for that, for what is tested here survives the end of a process
/// and not a loss of power, and fsync of a real disk would be most of the time.
#[cfg(feature = "rocksdb")]
pub(crate) fn scratch() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

/// A queue that makes no batch before its store closes.
pub(crate) fn held() -> QueueOptions {
    let hour = Duration::from_secs(3600);
    QueueOptions { size: 1000, timeout: hour, mode: TriggerMode::Accumulate, ..QueueOptions::default() }
}

pub(crate) fn txid(n: u64) -> TxId {
    let mut id = [0xEE; 32];
    id[..8].copy_from_slice(&n.to_be_bytes());
    TxId(id)
}

pub(crate) fn outpoint(n: u64, vout: u32) -> Outpoint {
    Outpoint { txid: txid(n), vout }
}

pub(crate) fn hash(n: u64, vout: u32) -> OutputHash {
    let mut hash = txid(n).0;
    hash[8..12].copy_from_slice(&vout.to_be_bytes());
    OutputHash(hash)
}

pub(crate) fn tx(n: u64, outputs: u32) -> NewTx {
    NewTx {
        body: n.to_be_bytes().to_vec(),
        ..NewTx::new(txid(n), (0..outputs).map(|v| Some(hash(n, v))).collect())
    }
}

/// The same, spending outputs of others.
pub(crate) fn child(n: u64, outputs: u32, spends: &[(u64, u32)]) -> NewTx {
    NewTx { inpoints: spends.iter().map(|&(n, v)| outpoint(n, v)).collect(), ..tx(n, outputs) }
}

pub(crate) fn spending(n: u64, spends: &[(u64, u32)]) -> SpendTx {
    let input = |&(n, v): &(u64, u32)| SpendInput { outpoint: outpoint(n, v), hash: hash(n, v) };
    SpendTx { txid: txid(n), inputs: spends.iter().map(input).collect() }
}

pub(crate) fn by(n: u64, input: u32) -> Spender {
    Spender { txid: txid(n), input }
}

pub(crate) fn unspend(n: u64, vout: u32, by: Spender) -> Unspend {
    Unspend { outpoint: outpoint(n, vout), by }
}

pub(crate) fn block(block_id: u32, height: u32) -> BlockRef {
    BlockRef { block_id, height, subtree: 0 }
}

pub(crate) fn mined(block_id: u32, height: u32) -> MinedInfo {
    MinedInfo { block: block(block_id, height), on_longest_chain: true }
}

pub(crate) fn mined_at(height: u32) -> CreateOptions {
    CreateOptions { mined: vec![block(height, height)], ..CreateOptions::default() }
}

impl UtxoStore {
    pub(crate) fn put(&self, tx: NewTx, height: u32) {
        self.create(tx, height, CreateOptions::default()).unwrap();
    }

    pub(crate) fn take(&self, n: u64, spends: &[(u64, u32)], height: u32) -> Result<()> {
        self.spend(spending(n, spends), height, SpendFlags::default())
    }

    pub(crate) fn all_of(&self, n: u64) -> StoredTx {
        self.get(&txid(n), Fields::ALL).unwrap()
    }

    pub(crate) fn spender(&self, n: u64, vout: u32) -> Option<Spender> {
        self.outputs(&[outpoint(n, vout)]).pop().unwrap().unwrap().spender()
    }

    pub(crate) fn dah(&self, n: u64) -> Option<u32> {
        let tx = self.all_of(n);
        let height = tx.master.page.delete_at_height;
        assert!(
            tx.extras.iter().all(|extra| extra.page.delete_at_height == height),
            "extra records follow the master"
        );
        height
    }
}

/// The error of one input of a spend that failed.
pub(crate) fn input_error(result: Result<()>, input: usize) -> Error {
    match result {
        Err(Error::Spend(error)) => error.inputs[input].clone().unwrap_err(),
        other => panic!("{other:?}"),
    }
}

impl Bed {
    pub(crate) fn is_memory(&self) -> bool {
        matches!(self.place, Place::Memory(_))
    }

    /// Another one of the same kind.
    pub(crate) fn fresh(&self) -> Bed {
        match &self.place {
            Place::Memory(_) => Bed::memory(),
            #[cfg(feature = "rocksdb")]
            Place::Rocks(_) => Bed::rocksdb(),
        }
    }
}

/// What a test does to a disk that no program would.
pub(crate) trait RemoveAll {
    fn remove_all_of(&self, txid: &TxId);
}

impl RemoveAll for FaultyDisk {
    fn remove_all_of(&self, txid: &TxId) {
        let name = txid.to_string();
        let paths = self.paths().into_iter().filter(|path| path.to_string_lossy().contains(&name));
        paths.for_each(|path| icecore_diskio::Disk::remove(self, &path).unwrap());
    }
}
