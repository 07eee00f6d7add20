//! What the catalog owes to those who trust it, as tests that fail on broken variants: see `docs/acceptance/catalog.md`.
//!
//! Files of chunks lie on a faulty disk in memory, the catalog is a real database in a directory of its own. A crash leaves
//! the database as it is; the disk loses what was not made durable, or nothing, as after a kill.

mod backup;
mod model;
mod opening;
mod protocol;
mod restore;

use std::{
    collections::BTreeSet,
    fs,
    io::{BufRead, BufReader, Read, Write},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
};

use icecore_cold::{Coverage, Layout};
use icecore_diskio::{
    Disk, Fault, FaultyDisk, IfExists, PendingFile, ReadAt, RealDisk, Result as DiskResult, WriteAt,
};
use icecore_ledger::{ChunkId, GENESIS, Geometry, WindowId};
use tempfile::TempDir;

use crate::{Artifact, Catalog, CatalogReader, FileState, HotState, Key, Pins, Result, State, pins, steps};

/// Ten ledgers to a chunk, four chunks to a window.
fn geometry() -> Geometry {
    Geometry::new(10, 4).unwrap()
}

fn test_pins() -> Pins {
    Pins::new(geometry(), GENESIS, Some("a test network".into()))
}

fn chunk(number: u32, artifact: Artifact) -> Key {
    Key::Chunk(ChunkId(number), artifact)
}

fn coverage(first: u32, last: u32) -> Coverage {
    Coverage { window: WindowId(first / 4), first: ChunkId(first), last: ChunkId(last) }
}

fn index(first: u32, last: u32) -> Key {
    Key::Index(coverage(first, last))
}

fn temp_dir() -> TempDir {
    let shm = Path::new("/dev/shm");
    if shm.is_dir() { tempfile::tempdir_in(shm).unwrap() } else { tempfile::tempdir().unwrap() }
}

/// A directory for a store, and a disk for its files.
struct World {
    dir: TempDir,
    disk: FaultyDisk,
}

impl World {
    fn new() -> Self {
        World { dir: temp_dir(), disk: FaultyDisk::new() }
    }

    fn layout(&self) -> Layout {
        Layout::new(self.dir.path().join("store"))
    }

    fn open(&self) -> Result<Catalog> {
        Catalog::open(Arc::new(self.disk.clone()), self.layout(), &test_pins())
    }

    fn reader(&self) -> Result<CatalogReader> {
        Catalog::open_read_only(&self.layout())
    }

    /// The disk after the process was killed.
    fn killed(&mut self) {
        self.disk = self.disk.after_kill();
    }
}

/// What a file of a chunk has to hold.
fn contents(path: &Path) -> Vec<u8> {
    path.file_name().unwrap().as_encoded_bytes().repeat(20)
}

/// Writes the files of a key, whole and durable.
fn write_files(catalog: &Catalog, key: &Key) -> Result<()> {
    for path in key.paths(catalog.layout()) {
        catalog.disk().create_dir_all(path.parent().unwrap())?;
        let file = PendingFile::create(catalog.disk(), &path, IfExists::Replace)?;
        let bytes = contents(&path);
        let (head, tail) = bytes.split_at(bytes.len() / 2);
        file.write_all_at(head, 0)?;
        file.write_all_at(tail, head.len() as u64)?;
        file.commit()?;
    }
    Ok(())
}

fn build(catalog: &Catalog, keys: &[Key]) -> Result<()> {
    catalog.build(keys, || keys.iter().try_for_each(|key| write_files(catalog, key)))
}

fn build_index(catalog: &Catalog, coverage: Coverage) -> Result<()> {
    catalog.build_index(coverage, || write_files(catalog, &Key::Index(coverage)))
}

fn make_hot(catalog: &Catalog, number: u32) -> Result<()> {
    let chunk = ChunkId(number);
    catalog.hot_transient(chunk)?;
    let path = catalog.layout().hot_chunk(chunk);
    catalog.disk().step("before hot create")?;
    fs::create_dir_all(&path).unwrap();
    fs::write(path.join("CURRENT"), "").unwrap();
    catalog.disk().step("after hot create")?;
    catalog.hot_ready(chunk)
}

fn remove_hot(catalog: &Catalog, number: u32) -> Result<()> {
    let chunk = ChunkId(number);
    catalog.hot_transient(chunk)?;
    catalog.disk().step("before hot remove")?;
    let _ = fs::remove_dir_all(catalog.layout().hot_chunk(chunk));
    catalog.disk().step("after hot remove")?;
    catalog.hot_delete(chunk)
}

fn retire(catalog: &Catalog, keys: &[Key]) -> Result<()> {
    catalog.demote(keys)?;
    keys.iter().try_for_each(|key| catalog.destroy(key))
}

/// Everything that has a key, by what lies on the disks.
fn keys_on_disk(catalog: &Catalog, disk: &FaultyDisk) -> BTreeSet<Key> {
    let layout = catalog.layout();
    let mut found = BTreeSet::new();
    for path in disk.paths() {
        let sealed = path.to_str().unwrap();
        let sealed = Path::new(sealed.strip_suffix(PendingFile::SUFFIX).unwrap_or(sealed));
        if sealed != layout.manifest() {
            found.insert(Key::of_path(layout, sealed).unwrap_or_else(|| panic!("{path:?} has no key")));
        }
    }
    for name in RealDisk.list(&layout.hot_dir()).unwrap() {
        found.insert(Key::of_path(layout, &layout.hot_dir().join(name)).unwrap());
    }
    found
}

fn is_whole(catalog: &Catalog, key: &Key) -> bool {
    key.paths(catalog.layout()).iter().all(|path| {
        let Ok(file) = catalog.disk().open(path) else { return false };
        file.as_bytes() == Some(&contents(path)[..])
    })
}

/// What holds at every moment: no key, no file; frozen, whole; one frozen index to a window.
fn check_invariants(catalog: &Catalog, disk: &FaultyDisk, indexed: &[u32]) {
    let state = catalog.state();
    for key in keys_on_disk(catalog, disk) {
        assert!(state.word(&key).is_some(), "{key} has files and no key");
    }
    for key in state.keys() {
        if state.file(&key) == Some(FileState::Frozen) {
            assert!(is_whole(catalog, &key), "{key} is frozen and not whole");
        }
        if let Key::Hot(chunk) = key
            && state.hot(chunk) == Some(HotState::Ready)
        {
            assert!(
                catalog.layout().hot_chunk(chunk).join("CURRENT").exists(),
                "{key} is ready and not there"
            );
        }
    }
    for window in 0..4 {
        let frozen =
            state.indexes_of(WindowId(window)).filter(|(_, state)| *state == FileState::Frozen).count();
        assert!(frozen <= 1, "window {window} has {frozen} frozen indexes");
        assert!(frozen == 1 || !indexed.contains(&window), "window {window} has lost its index");
    }
}

/// Brings a store to exactly these keys, from whatever a crash has left.
fn converge(catalog: &Catalog, goal: &BTreeSet<Key>) {
    let state = catalog.state();
    let (artifacts, rest): (Vec<Key>, Vec<Key>) = goal.iter().partition(|key| matches!(key, Key::Chunk(..)));
    let lacking = |key: &Key| state.file(key) != Some(FileState::Frozen);
    for key in artifacts.iter().filter(|key| lacking(key)) {
        build(catalog, &[*key]).unwrap();
    }
    for key in rest {
        match key {
            Key::Index(coverage) if lacking(&key) => build_index(catalog, coverage).unwrap(),
            Key::Hot(chunk) if state.hot(chunk) != Some(HotState::Ready) => {
                make_hot(catalog, chunk.0).unwrap()
            }
            _ => {}
        }
    }
    let state = catalog.state();
    for key in state.keys().filter(|key| !goal.contains(key)) {
        match key {
            Key::Hot(chunk) => remove_hot(catalog, chunk.0).unwrap(),
            key => retire(catalog, &[key]).unwrap(),
        }
    }
    let found: BTreeSet<Key> = catalog.state().keys().collect();
    assert_eq!(found, *goal);
}

/// What goes wrong in a case of a matrix, and what the next process finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trouble {
    Fails(Fault),
    Killed,
    PowerLost,
}

const TROUBLES: [Trouble; 5] = [
    Trouble::Fails(Fault::Io),
    Trouble::Fails(Fault::DiskFull),
    Trouble::Fails(Fault::ShortWrite),
    Trouble::Killed,
    Trouble::PowerLost,
];

/// An operation on a prepared store, to be broken at each of its steps.
struct Matrix<'a> {
    setup: &'a dyn Fn(&Catalog),
    op: &'a dyn Fn(&Catalog) -> Result<()>,
    /// Windows that have an index, and must keep one.
    indexed: &'a [u32],
    /// What is there when the operation was done.
    goal: &'a [Key],
}

impl Matrix<'_> {
    /// Runs all cases; the number of them.
    fn run(&self) -> usize {
        let world = World::new();
        let catalog = world.open().unwrap();
        (self.setup)(&catalog);
        let begin = world.disk.operations();
        (self.op)(&catalog).unwrap();
        check_invariants(&catalog, &world.disk, self.indexed);
        let labels = world.disk.labels();
        let known = |label: &String| {
            let name = label.strip_prefix("before ").or(label.strip_prefix("after "));
            name.is_none_or(|name| {
                name.starts_with("hot ") || steps::STEPS.iter().any(|step| step.name == name)
            })
        };
        assert!(labels.iter().all(known), "{labels:?}");
        let mut cases = 0;
        // One past the end: trouble right after success.
        for at in begin..=world.disk.operations() {
            let label = labels.get(at as usize).map_or("the end", String::as_str);
            for trouble in TROUBLES {
                let pointless = match trouble {
                    Trouble::Fails(Fault::ShortWrite) => !label.starts_with("write"),
                    Trouble::Fails(Fault::DiskFull) => {
                        label.starts_with("remove") || label.starts_with("sync")
                    }
                    Trouble::Fails(_) => false,
                    _ => false,
                };
                let no_more = at == world.disk.operations() && matches!(trouble, Trouble::Fails(_));
                if !pointless && !no_more {
                    self.case(at, trouble, label);
                    cases += 1;
                }
            }
        }
        println!("{cases} cases");
        cases
    }

    fn case(&self, at: u64, trouble: Trouble, label: &str) {
        let mut world = World::new();
        let fault = match trouble {
            Trouble::Fails(fault) => fault,
            Trouble::Killed | Trouble::PowerLost => Fault::PowerCut,
        };
        world.disk.fail_at(at, fault);
        let catalog = world.open().unwrap();
        (self.setup)(&catalog);
        let done = (self.op)(&catalog);
        assert_eq!(
            done.is_ok(),
            label == "the end" || done.is_ok() && label.starts_with("remove"),
            "{label}"
        );
        let state = catalog.state();
        drop(catalog);
        world.disk = match trouble {
            Trouble::PowerLost => world.disk.after_crash(),
            _ => world.disk.after_kill(),
        };
        let what = format!("{trouble:?} at {label}");
        let found = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let catalog = world.open().unwrap();
            assert_eq!(catalog.state(), state, "memory and database differ");
            check_invariants(&catalog, &world.disk, self.indexed);
            let goal: BTreeSet<Key> = self.goal.iter().copied().collect();
            converge(&catalog, &goal);
            check_invariants(&catalog, &world.disk, self.indexed);
            assert_eq!(keys_on_disk(&catalog, &world.disk), goal);
        }));
        if let Err(panic) = found {
            let text = panic.downcast_ref::<String>().cloned();
            panic!("{what}: {}", text.unwrap_or_else(|| "failed".into()));
        }
    }
}

/// The documented steps are those that are taken, each announced before and after.
#[test]
fn every_step_is_documented_and_taken() {
    let world = World::new();
    let copy = world.dir.path().join("copy");
    let catalog = world.open().unwrap();
    let keys = [chunk(0, Artifact::Ledgers), chunk(0, Artifact::TxHash)];
    build(&catalog, &keys).unwrap();
    build_index(&catalog, coverage(0, 0)).unwrap();
    make_hot(&catalog, 1).unwrap();
    crate::RecoveryPlan::for_range(&catalog.state(), &geometry(), GENESIS, GENESIS, true, true)
        .and_then(|plan| plan.apply(&catalog))
        .unwrap();
    retire(&catalog, &keys).unwrap();
    remove_hot(&catalog, 1).unwrap();
    catalog.update_rows(|rows| rows.put("audit:x", b"")).unwrap();
    catalog.backup(&copy).unwrap();
    drop(catalog);
    let disk: Arc<dyn Disk> = Arc::new(world.disk.clone());
    crate::restore(&disk, &world.layout(), copy, crate::RestoreOptions::default()).unwrap();
    let labels = world.disk.labels();
    // Steps of the tests' own are the engine's.
    let own = |label: &&String| !label.ends_with("hot create") && !label.ends_with("hot remove");
    let steps = labels.iter().filter(|label| label.starts_with("before ") || label.starts_with("after "));
    let seen: BTreeSet<&str> = steps.filter(own).map(String::as_str).collect();
    let known: BTreeSet<String> = steps::STEPS
        .iter()
        .flat_map(|step| ["before", "after"].map(|when| format!("{when} {}", step.name)))
        .collect();
    assert_eq!(seen, known.iter().map(String::as_str).collect());
}

/// A disk that tells of every step, and may be told to fail there.
struct Hooked<D, F> {
    disk: D,
    hook: F,
}

impl<D: std::fmt::Debug, F> std::fmt::Debug for Hooked<D, F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.disk.fmt(f)
    }
}

impl<D: Disk, F: Fn(&str) + Send + Sync> Disk for Hooked<D, F> {
    fn open(&self, path: &Path) -> DiskResult<Box<dyn ReadAt>> {
        self.disk.open(path)
    }
    fn create_exclusive(&self, path: &Path) -> DiskResult<Box<dyn WriteAt>> {
        self.disk.create_exclusive(path)
    }
    fn scratch(&self, dir: &Path) -> DiskResult<Box<dyn WriteAt>> {
        self.disk.scratch(dir)
    }
    fn rename(&self, from: &Path, to: &Path, if_exists: IfExists) -> DiskResult<()> {
        self.disk.rename(from, to, if_exists)
    }
    fn remove(&self, path: &Path) -> DiskResult<()> {
        self.disk.remove(path)
    }
    fn create_dir_all(&self, dir: &Path) -> DiskResult<()> {
        self.disk.create_dir_all(dir)
    }
    fn sync_dir(&self, dir: &Path) -> DiskResult<()> {
        self.disk.sync_dir(dir)
    }
    fn file_len(&self, path: &Path) -> DiskResult<Option<u64>> {
        self.disk.file_len(path)
    }
    fn list(&self, dir: &Path) -> DiskResult<Vec<String>> {
        self.disk.list(dir)
    }
    fn step(&self, what: &str) -> DiskResult<()> {
        (self.hook)(what);
        self.disk.step(what)
    }
}

/// The directory that a child process is to work in, when this is one; see [`spawn`].
const CHILD: &str = "ICECORE_CATALOG_CHILD";

fn child_dir() -> Option<PathBuf> {
    std::env::var_os(CHILD).map(PathBuf::from)
}

/// Runs one test of this binary in a process of its own.
fn spawn(test: &str, dir: &Path, more: &[(&str, String)]) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", &format!("acceptance::{test}"), "--nocapture"]).env(CHILD, dir);
    command.envs(more.iter().map(|(name, value)| (name, value)));
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap()
}

/// Tells the parent that the child is where it should be, and waits until the parent lets go.
fn report_and_wait() {
    std::io::stdout().write_all(b"\nready\n").unwrap();
    std::io::stdout().flush().unwrap();
    let _ = std::io::stdin().read(&mut [0]);
}

/// Waits until a child is where it should be; false when it ended instead.
fn wait_ready(child: &mut Child) -> bool {
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    lines.map_while(Result::ok).any(|line| line == "ready")
}

/// Ends this process as signal 9 does.
fn kill_self() -> ! {
    let _ = Command::new("kill").args(["-9", &std::process::id().to_string()]).status();
    unreachable!("signal 9 cannot be ignored");
}

/// Every file below a directory with its bytes, but for what the database notes for people.
fn bytes_below(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(bytes_below(&path));
        } else if !path.file_name().unwrap().as_encoded_bytes().starts_with(b"LOG") {
            found.push((path.clone(), fs::read(&path).unwrap()));
        }
    }
    found.sort();
    found
}
