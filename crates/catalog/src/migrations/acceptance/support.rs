//! Stores, clocks and gates that the tests share.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use icecore_cold::Layout;
use icecore_diskio::RealDisk;
use icecore_ledger::{GENESIS, Geometry};
use jiff::Timestamp;

use crate::{Catalog, Pins};

use crate::migrations::{
    Cancel, Changes, Clock, Identity, Look, MigDb, MigError, Row, Rows, Runner, Slots, Status, StatusRow,
    Step, Turn, WaitOutcome, run::later,
};

/// No step of a test takes as long as this, unless it hangs.
pub(super) const LIMIT: Duration = Duration::from_secs(10);

/// What a store is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Rocks,
    Shared,
}

/// A store in a directory of its own: opened, closed, opened again.
pub(super) struct Place {
    dir: tempfile::TempDir,
    kind: Kind,
    open: Mutex<Opened>,
}

#[derive(Default)]
struct Opened {
    catalog: Option<Arc<Catalog>>,
    closed: Arc<AtomicBool>,
    slots: Arc<Slots<()>>,
}

impl Place {
    pub(super) fn new(kind: Kind) -> Self {
        // In memory, where there is such a file system: the tests sync thousands of times.
        let memory = Path::new("/dev/shm");
        let dir = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
        Place { dir: dir.unwrap(), kind, open: Mutex::default() }
    }

    pub(super) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// One more handle; of a catalog there is one, so this is the same for all.
    pub(super) fn open(&self) -> Arc<dyn MigDb> {
        match self.kind {
            Kind::Rocks => self.catalog(),
            Kind::Shared => {
                let open = self.open.lock().unwrap();
                let (closed, slots) = (Arc::clone(&open.closed), Arc::clone(&open.slots));
                Arc::new(Shared { closed, slots, ..Shared::open(self.dir()) })
            }
        }
    }

    pub(super) fn catalog(&self) -> Arc<Catalog> {
        let mut open = self.open.lock().unwrap();
        Arc::clone(open.catalog.get_or_insert_with(|| open_catalog(self.dir())))
    }

    /// Closes all handles.
    pub(super) fn close(&self) {
        let open = std::mem::take(&mut *self.open.lock().unwrap());
        if let Some(catalog) = open.catalog {
            catalog.store().close();
        }
        open.closed.store(true, Ordering::SeqCst);
    }
}

pub(super) fn open_catalog(dir: &Path) -> Arc<Catalog> {
    let pins = Pins::new(Geometry::new(10, 100).unwrap(), GENESIS, None);
    Arc::new(Catalog::open(Arc::new(RealDisk), Layout::new(dir.join("store")), &pins).unwrap())
}

/// A store that several processes share: one file, replaced as a whole under a lock.
pub(super) struct Shared {
    dir: PathBuf,
    lease: Duration,
    identity: Identity,
    closed: Arc<AtomicBool>,
    slots: Arc<Slots<()>>,
}

impl Shared {
    pub(super) fn open(dir: &Path) -> Self {
        let identity = Identity::of_path(dir).unwrap();
        let (closed, slots) = (Arc::default(), Arc::default());
        Shared { dir: dir.into(), lease: Duration::from_secs(30), identity, closed, slots }
    }

    pub(super) fn lease(self, lease: Duration) -> Self {
        Shared { lease, ..self }
    }

    /// As another process sees it: this process's guards do not hold there.
    pub(super) fn of_another_process(self) -> Self {
        Shared { identity: Identity::unique(), ..self }
    }

    fn rows(&self) -> Result<Map, MigError> {
        if self.closed.load(Ordering::SeqCst) {
            return Err(MigError::StoreClosed { store: self.name() });
        }
        match fs::read(self.dir.join("rows")) {
            Ok(bytes) => Ok(Map(serde_json::from_slice::<Vec<Row>>(&bytes).unwrap().into_iter().collect())),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Map::default()),
            Err(e) => panic!("{e}"),
        }
    }
}

impl MigDb for Shared {
    fn name(&self) -> String {
        self.dir.display().to_string()
    }

    fn identity(&self) -> Identity {
        self.identity.clone()
    }

    fn lease(&self) -> Option<Duration> {
        Some(self.lease)
    }

    fn transact(&self, turn: Turn, step: &mut Step<'_>) -> Result<(), MigError> {
        let _slot = self.slots.take(turn);
        let lock = File::create(self.dir.join("lock")).unwrap();
        lock.lock().unwrap();
        let mut rows = self.rows()?;
        let mut changes = Changes::default();
        step(&rows, &mut changes)?;
        rows.apply(&changes);
        let rows: Vec<_> = rows.0.into_iter().collect();
        fs::write(self.dir.join("rows.new"), serde_json::to_vec(&rows).unwrap()).unwrap();
        fs::rename(self.dir.join("rows.new"), self.dir.join("rows")).unwrap();
        Ok(())
    }

    fn read(&self, look: &mut Look<'_>) -> Result<(), MigError> {
        look(&self.rows()?)
    }
}

/// Rows in memory.
#[derive(Clone, Default)]
struct Map(BTreeMap<Vec<u8>, Vec<u8>>);

impl Map {
    fn apply(&mut self, changes: &Changes) {
        for (key, value) in changes.iter() {
            match value {
                Some(value) => self.0.insert(key.into(), value.into()),
                None => self.0.remove(key),
            };
        }
    }
}

impl Rows for Map {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, MigError> {
        Ok(self.0.get(key).cloned())
    }

    fn scan(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<Row>, MigError> {
        let rows = self.0.range(from.to_vec()..to.to_vec().max(from.to_vec())).take(limit);
        Ok(rows.map(|(key, value)| (key.clone(), value.clone())).collect())
    }

    fn last_key(&self, from: &[u8], to: &[u8]) -> Result<Option<Vec<u8>>, MigError> {
        Ok(self
            .0
            .range(from.to_vec()..to.to_vec().max(from.to_vec()))
            .next_back()
            .map(|(key, _)| key.clone()))
    }
}

/// A store in memory, for what is done ten thousand times.
pub(super) struct Memory(Mutex<Map>, Identity);

impl Memory {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Memory(Mutex::default(), Identity::unique()))
    }
}

impl MigDb for Memory {
    fn name(&self) -> String {
        "memory".into()
    }

    fn identity(&self) -> Identity {
        self.1.clone()
    }

    fn transact(&self, _turn: Turn, step: &mut Step<'_>) -> Result<(), MigError> {
        let mut rows = self.0.lock().unwrap();
        let mut changes = Changes::default();
        step(&*rows, &mut changes)?;
        rows.apply(&changes);
        Ok(())
    }

    fn read(&self, look: &mut Look<'_>) -> Result<(), MigError> {
        look(&*self.0.lock().unwrap())
    }
}

/// A moment of a step, and what the step changes.
pub(super) enum When<'a> {
    Before(&'a Changes),
    After(&'a Changes),
}

/// A store that is listened to: what is heard before a commit may fail it, block it, or end the process.
pub(super) struct Heard<F> {
    db: Arc<dyn MigDb>,
    hear: F,
}

impl<F: Fn(When<'_>) -> Result<(), MigError> + Send + Sync + 'static> Heard<F> {
    pub(super) fn new(db: Arc<dyn MigDb>, hear: F) -> Arc<Self> {
        Arc::new(Heard { db, hear })
    }
}

impl<F: Fn(When<'_>) -> Result<(), MigError> + Send + Sync + 'static> MigDb for Heard<F> {
    fn name(&self) -> String {
        self.db.name()
    }

    fn identity(&self) -> Identity {
        self.db.identity()
    }

    fn lease(&self) -> Option<Duration> {
        self.db.lease()
    }

    fn transact(&self, turn: Turn, step: &mut Step<'_>) -> Result<(), MigError> {
        let mut made = Changes::default();
        self.db.transact(turn, &mut |rows, changes| {
            step(rows, changes)?;
            for (key, value) in changes.iter() {
                match value {
                    Some(value) => made.put(key, value),
                    None => made.delete(key),
                }
            }
            (self.hear)(When::Before(&made))
        })?;
        (self.hear)(When::After(&made))
    }

    fn read(&self, look: &mut Look<'_>) -> Result<(), MigError> {
        self.db.read(look)?;
        (self.hear)(When::After(&Changes::default()))
    }
}

/// The migration row that a step writes, if it does.
pub(super) fn row_in(changes: &Changes) -> Option<StatusRow> {
    let mut rows = changes.iter().filter(|(key, _)| key.starts_with(b"migration:"));
    rows.find_map(|(_, value)| serde_json::from_slice(value?).ok())
}

pub(super) fn ends(changes: &Changes) -> bool {
    row_in(changes).is_some_and(|row| row.status != Status::PendingAsync)
}

pub(super) fn trouble() -> MigError {
    MigError::Store { source: Arc::new(io::Error::other("planted")), retryable: true }
}

/// Sets rows, as live work does.
pub(super) fn put(db: &dyn MigDb, rows: impl IntoIterator<Item = (String, String)>) {
    let mut rows = Some(rows);
    let mut step = |_: &dyn Rows, changes: &mut Changes| {
        rows.take().into_iter().flatten().for_each(|(key, value)| changes.put(key, value));
        Ok(())
    };
    db.transact(Turn::Live, &mut step).unwrap();
}

/// The rows that tests make.
pub(super) fn data(db: &dyn MigDb) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    db.read(&mut |rows| {
        let all = rows.scan(b"", b"\xff", usize::MAX)?.into_iter();
        found = all.map(|(key, value)| (text(key), text(value))).collect();
        Ok(())
    })
    .unwrap();
    found.retain(|(key, _)| key.starts_with("audit:"));
    found
}

/// Waits for the end of a migration.
pub(super) fn ended(runner: &Runner, name: &str) -> StatusRow {
    assert_eq!(runner.wait(name, LIMIT).unwrap(), WaitOutcome::Ended, "{name}");
    runner.status(name).unwrap().unwrap()
}

/// A clock that is moved by hand, or by those who sleep on it.
pub(super) struct ManualClock {
    now: Mutex<Duration>,
    start: Timestamp,
    /// Sleeping a little takes no time, and moves the clock on.
    jumps: bool,
    pub(super) slept: Mutex<Vec<Duration>>,
}

impl ManualClock {
    pub(super) fn new(jumps: bool) -> Arc<Self> {
        let start = Timestamp::now();
        Arc::new(ManualClock { now: Mutex::default(), start, jumps, slept: Mutex::default() })
    }

    pub(super) fn advance(&self, time: Duration) {
        *self.now.lock().unwrap() += time;
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Duration {
        *self.now.lock().unwrap()
    }

    fn utc(&self) -> Timestamp {
        later(self.start, self.now())
    }

    fn sleep(&self, time: Duration, cancel: &Cancel) -> bool {
        self.slept.lock().unwrap().push(time);
        let until = self.now() + time;
        if self.jumps && time < Duration::from_secs(5) && !cancel.is_cancelled() {
            self.advance(time);
        }
        while self.now() < until {
            if cancel.wait_timeout(Duration::from_millis(1)) {
                return true;
            }
        }
        cancel.is_cancelled()
    }
}

/// Closed until it is opened, then open for ever.
#[derive(Clone, Default)]
pub(super) struct Gate(Arc<(Mutex<bool>, Condvar)>);

impl Gate {
    pub(super) fn open(&self) {
        *self.0.0.lock().unwrap() = true;
        self.0.1.notify_all();
    }

    pub(super) fn is_open(&self) -> bool {
        *self.0.0.lock().unwrap()
    }

    pub(super) fn wait(&self) {
        let open = self.0.0.lock().unwrap();
        let (open, _) = self.0.1.wait_timeout_while(open, LIMIT, |open| !*open).unwrap();
        assert!(*open, "the gate stays closed");
    }
}

/// Waits for what another thread or process brings about.
pub(super) fn until(what: &str, is: impl Fn() -> bool) {
    let give_up = std::time::Instant::now() + LIMIT;
    while !is() {
        assert!(std::time::Instant::now() < give_up, "{what}: never");
        thread::sleep(Duration::from_millis(1));
    }
}

/// Runs what must not take so long.
pub(super) fn within<T: Send + 'static>(limit: Duration, run: impl FnOnce() -> T + Send + 'static) -> T {
    let (result, done) = mpsc::channel();
    let thread = thread::spawn(move || result.send(run()));
    match done.recv_timeout(limit) {
        Ok(result) => result,
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("it hangs"),
        Err(mpsc::RecvTimeoutError::Disconnected) => std::panic::resume_unwind(thread.join().unwrap_err()),
    }
}

/// What is logged on this thread, and on those of runs that it schedules.
#[derive(Clone, Default)]
pub(super) struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    pub(super) fn record<T>(&self, run: impl FnOnce() -> T) -> T {
        let log = self.clone();
        let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || log.clone()).finish();
        tracing::subscriber::with_default(subscriber, run)
    }

    /// The lines with a word.
    pub(super) fn lines(&self, word: &str) -> Vec<String> {
        let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        text.lines().filter(|line| line.contains(word)).map(Into::into).collect()
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
