//! A store between two processes: frozen files on a disk in memory, catalog and hot chunks as real databases.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use icecore_catalog::{Artifact, Catalog, FileState, HotState, Key, State};
use icecore_cold::Layout;
use icecore_diskio::{Disk, FaultyDisk, PendingFile};
use icecore_hotchunk::fuzz::Toy;
use icecore_ledger::LedgerSeq;
use icecore_registry::CancelToken;
use tempfile::TempDir;

use crate::{
    Engine, EngineConfig, Error, LeapingClock, Result, Sources,
    common::{Chain, GEOMETRY, check_reads, config, first_of, hash, ledger, transactions},
    ingest::Ingestion,
    lifecycle::Lifecycle,
};

/// Where frozen files lie in memory.
const COLD: &str = "/cold";

/// A store that nobody has open.
pub(crate) struct World {
    pub(crate) disk: FaultyDisk,
    dir: TempDir,
}

/// A process that has a store open.
pub(crate) struct Process {
    pub(crate) engine: Engine,
    pub(crate) chain: Arc<Chain>,
    pub(crate) clock: Arc<LeapingClock>,
    pub(crate) disk: FaultyDisk,
}

/// A temporary directory, in memory where there is such a place.
fn temp_dir() -> TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

fn copy_tree(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let to = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_tree(&entry.path(), &to)?;
        } else {
            fs::copy(entry.path(), to)?;
        }
    }
    Ok(())
}

impl World {
    pub(crate) fn new() -> Self {
        World { disk: FaultyDisk::new(), dir: temp_dir() }
    }

    /// The same store once more, on a disk of its own.
    pub(crate) fn copy(&self) -> Self {
        let dir = temp_dir();
        copy_tree(self.dir.path(), dir.path()).unwrap();
        World { disk: self.disk.after_kill(), dir }
    }

    /// What the next process finds: with all that was written, or only what was made durable.
    pub(crate) fn next(self, is_lossy: bool) -> Self {
        World { disk: if is_lossy { self.disk.after_crash() } else { self.disk.after_kill() }, ..self }
    }

    pub(crate) fn config(&self, retention_chunks: u32) -> EngineConfig {
        let mut config = config(&self.dir.path().join("store"));
        config.layout = Layout::new(self.dir.path().join("store"))
            .with_ledgers(format!("{COLD}/ledgers"))
            .with_events(format!("{COLD}/events"))
            .with_runs(format!("{COLD}/runs"))
            .with_indexes(format!("{COLD}/indexes"));
        config.workers = 1;
        config.max_retries = 0;
        config.retention_chunks = retention_chunks;
        config
    }

    pub(crate) fn open(&self, tip: u32, retention_chunks: u32) -> Result<Process> {
        let (chain, clock) = (Chain::new(tip), Arc::new(LeapingClock::default()));
        let sources = Sources { bulk: Arc::clone(&chain) as _, live: None };
        let (disk, decoder) = (Arc::new(self.disk.clone()), Arc::new(Toy));
        let engine =
            Engine::open_on(disk, Arc::clone(&clock) as _, self.config(retention_chunks), sources, decoder)?;
        Ok(Process { engine, chain, clock, disk: self.disk.clone() })
    }

    /// The hot chunks that have a directory.
    fn hot_dirs(&self) -> Vec<String> {
        let dir = fs::read_dir(self.dir.path().join("store/hot"));
        let mut names: Vec<String> = dir
            .into_iter()
            .flatten()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    /// Every frozen file and its bytes.
    pub(crate) fn files(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let paths = self.disk.paths().into_iter().filter(|path| path.starts_with(COLD));
        paths
            .map(|path| (path.clone(), self.disk.open(&path).unwrap().as_bytes().unwrap().to_vec()))
            .collect()
    }
}

impl World {
    /// Panics unless the write protocol was kept up to this very moment: whatever is there has a key, and what is frozen is
    /// there and whole. `reference` has the bytes that files must have.
    pub(crate) fn check_protocol(&self, reference: &BTreeMap<PathBuf, Vec<u8>>, always: fn(&State) -> bool) {
        let layout = self.config(0).layout;
        let state = match Catalog::open_read_only(&layout) {
            Ok(reader) => reader.state().clone(),
            // The process ended before there was one.
            Err(_) => State::default(),
        };
        assert!(always(&state), "what always holds does not: {state:?}");
        let files = self.files();
        for path in files.keys() {
            let text = path.to_str().unwrap();
            let whole = PathBuf::from(text.strip_suffix(PendingFile::SUFFIX).unwrap_or(text));
            let key = Key::of_path(&layout, &whole);
            assert!(key.and_then(|key| state.file(&key)).is_some(), "{} has no key", path.display());
        }
        for key in state.keys().filter(|key| state.file(key) == Some(FileState::Frozen)) {
            for path in key.paths(&layout) {
                let found = files
                    .get(&path)
                    .unwrap_or_else(|| panic!("{key} is frozen, {} is not there", path.display()));
                let is_whole = reference.get(&path).is_none_or(|bytes| bytes == found);
                assert!(is_whole, "{key} is frozen, {} is not whole", path.display());
            }
        }
        for name in self.hot_dirs() {
            let chunk = Layout::chunk_of_hot_name(&name).unwrap();
            assert!(state.hot(chunk).is_some(), "hot chunk {name} has no key");
        }
    }
}

impl Process {
    pub(crate) fn lifecycle<T>(&self, act: impl FnOnce(&Lifecycle<'_>) -> T) -> T {
        act(&Lifecycle { shared: &self.engine.shared, stop: &CancelToken::new() })
    }

    /// Begins ingestion where the store says, and commits up to a ledger.
    pub(crate) fn ingest(&self, through: u32) -> Result<()> {
        let (shared, stop) = (&self.engine.shared, CancelToken::new());
        let last = shared.take_up(&stop)?;
        let resume = shared.decide(last)?;
        shared.published.set_target(resume.complete);
        let mut ingestion = Ingestion::begin(shared, &stop, &resume)?;
        ingestion.copy_through(LedgerSeq(through))
    }

    /// Ingests and brings everything to rest.
    pub(crate) fn live(&self, through: u32) -> Result<()> {
        self.ingest(through)?;
        self.engine.settle().map(drop)
    }

    /// Panics if any answer is wrong: it may be refused for now, or be right.
    pub(crate) fn check_no_wrong_answer(&self, tip: u32) {
        let view = self.engine.view();
        let range = view.range().ok();
        for seq in 2..=tip {
            let kept = range.is_some_and(|range| range.contains(LedgerSeq(seq)));
            match view.ledger(LedgerSeq(seq)) {
                Ok(found) => assert!(kept && found.raw == ledger(seq), "ledger {seq} is wrong"),
                Err(Error::OutOfBounds { .. }) => assert!(!kept, "ledger {seq} is refused"),
                Err(_) => {}
            }
            for tx in 0..transactions(seq) {
                match view.transaction(&hash(seq, tx)) {
                    Ok(Some(found)) => assert!(kept && found.seq.0 == seq, "hash of {seq} is wrong"),
                    Ok(None) => assert!(!kept, "hash of {seq} is lost"),
                    Err(_) => {}
                }
            }
        }
    }

    /// Panics unless reads are right and complete, and the store is settled, with disk and keys alike.
    pub(crate) fn check(&self, world: &World, floor_chunk: u32, latest: u32) {
        check_reads(&self.engine.view(), first_of(floor_chunk), latest);
        let catalog = self.engine.catalog();
        let state = catalog.state();
        assert!(
            state.artifacts.values().chain(state.indexes.values()).all(|file| *file == FileState::Frozen)
        );
        // One home for each range, nothing wholly below the floor.
        for coverage in state.indexes.keys() {
            assert_eq!(state.indexes_of(coverage.window).count(), 1, "two indexes in a window");
            assert!(coverage.last.0 >= floor_chunk);
            let is_terminal = coverage.last.0 % GEOMETRY.1 == GEOMETRY.1 - 1;
            let run = |chunk| state.artifact(chunk, Artifact::TxHash).is_some();
            assert!(!is_terminal || !coverage.chunks().any(run), "a terminal window has runs");
        }
        assert!(state.artifacts.keys().all(|(chunk, _)| chunk.0 >= floor_chunk));
        let live = (latest + 1 - 2) / GEOMETRY.0;
        let hot: Vec<_> = state.hot.iter().map(|(chunk, hot)| (chunk.0, *hot)).collect();
        assert_eq!(hot, [(live, HotState::Ready)], "hot chunks");
        // Disk and keys match in both directions.
        let mut expected: Vec<PathBuf> = state
            .artifacts
            .keys()
            .map(|&(chunk, artifact)| Key::Chunk(chunk, artifact))
            .chain(state.indexes.keys().map(|&coverage| Key::Index(coverage)))
            .flat_map(|key| key.paths(catalog.layout()))
            .collect();
        expected.sort();
        let found: Vec<PathBuf> = world.files().into_keys().collect();
        assert_eq!(found, expected, "files and keys");
        assert_eq!(world.hot_dirs(), [format!("{live:08}")], "directories of hot chunks");
    }
}
