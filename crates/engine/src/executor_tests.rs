use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
    time::Duration,
};

use icecore_hotchunk::fuzz::Toy;
use icecore_ledger::{LedgerRange, LedgerStream, Source};
use tempfile::TempDir;

use super::*;
use crate::{
    Clock, Engine, LeapingClock, Sources,
    common::{Chain, config, last_of},
};

/// A chain whose streams fail so many times before one is given.
struct Flaky {
    chain: Arc<Chain>,
    failures: AtomicU32,
    opened: AtomicU32,
}

impl Source for Flaky {
    fn describe(&self) -> String {
        "a flaky source".to_owned()
    }

    fn range(&self) -> icecore_ledger::Result<LedgerRange> {
        self.chain.range()
    }

    fn stream(&self, ledgers: LedgerRange) -> icecore_ledger::Result<Box<dyn LedgerStream + '_>> {
        self.opened.fetch_add(1, SeqCst);
        if self.failures.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1)).is_ok() {
            let source = Arc::new(std::io::Error::other("flaky"));
            return Err(icecore_ledger::Error::Io { place: self.describe(), source });
        }
        self.chain.stream(ledgers)
    }
}

struct Bench {
    engine: Engine,
    source: Arc<Flaky>,
    clock: Arc<LeapingClock>,
    _dir: TempDir,
}

fn bench(failures: u32, tip: u32) -> Bench {
    let dir = tempfile::tempdir().unwrap();
    let source = Arc::new(Flaky {
        chain: Chain::new(tip),
        failures: AtomicU32::new(failures),
        opened: AtomicU32::new(0),
    });
    let clock = Arc::new(LeapingClock::default());
    let mut config = config(dir.path());
    (config.workers, config.max_retries, config.retry_pause) = (1, 3, Duration::from_secs(1));
    (config.bulk_wait, config.poll) = (Duration::from_secs(100), Duration::from_secs(10));
    let sources = Sources { bulk: Arc::clone(&source) as _, live: None };
    let disk = Arc::new(icecore_diskio::RealDisk);
    let engine = Engine::open_on(disk, Arc::clone(&clock) as _, config, sources, Arc::new(Toy)).unwrap();
    Bench { engine, source, clock, _dir: dir }
}

impl Bench {
    fn execute(&self, complete: u32, stop: &CancelToken) -> Executed {
        let shared = &self.engine.shared;
        let plan = shared.scope().resolve(&shared.state(), Some(ChunkId(complete)));
        execute(shared, plan, stop)
    }
}

#[test]
fn a_task_is_tried_again_with_growing_pauses() {
    let bench = bench(3, last_of(1));
    let done = bench.execute(0, &CancelToken::new());
    assert_eq!((done.chunks, done.indexes, done.failed.len()), (1, 1, 0));
    assert_eq!(bench.clock.now(), Duration::from_secs(1 + 2 + 4));
    assert_eq!(bench.source.opened.load(SeqCst), 4);
}

#[test]
fn a_task_that_fails_too_often_releases_what_waits_for_it() {
    let bench = bench(4, last_of(1));
    let done = bench.execute(1, &CancelToken::new());
    assert_eq!((done.chunks, done.indexes), (0, 0));
    let failed: Vec<Task> = done.failed.iter().map(|(task, _)| *task).collect();
    assert!(matches!(failed[..], [Task::Chunk(ChunkId(1)), Task::Index(_)]), "{failed:?}");
    assert!(matches!(done.failed[1].1, Error::ChunkFailed { chunk: ChunkId(1) }));
    // The next run does all of it.
    let done = bench.execute(1, &CancelToken::new());
    assert_eq!((done.chunks, done.indexes, done.failed.len()), (2, 1, 0));
}

#[test]
fn a_source_that_lags_is_waited_for_once_and_not_for_ever() {
    let bench = bench(0, last_of(1));
    let done = bench.execute(2, &CancelToken::new());
    assert!(
        matches!(&done.failed[..], [(_, Error::SourceLags { waited_seconds: 100, .. }), _]),
        "{:?}",
        done.failed
    );
    assert_eq!(bench.clock.now(), Duration::from_secs(100));
    // It is asked how far it is: a build is not begun anew each time.
    assert_eq!(bench.source.opened.load(SeqCst), 0);
}

#[test]
fn an_index_that_cannot_be_built_does_not_keep_chunks_from_being_frozen() {
    let bench = bench(0, last_of(5));
    let shared = &bench.engine.shared;
    let complete = |chunk| shared.scope().resolve(&shared.state(), Some(ChunkId(chunk)));
    let runs = Plan { indexes: Vec::new(), ..complete(1) };
    assert_eq!(execute(shared, runs, &CancelToken::new()).chunks, 2);
    let run = shared.catalog.layout().file(icecore_cold::Kind::Run, ChunkId(0));
    std::fs::write(run, b"not a run").unwrap();
    let index = complete(1).indexes;
    let mut plan = Plan { indexes: index, ..complete(4) };
    plan.chunks.retain(|build| build.chunk.0 >= 3);
    let done = execute(shared, plan, &CancelToken::new());
    let failed: Vec<Task> = done.failed.iter().map(|(task, _)| *task).collect();
    assert!(matches!(failed[..], [Task::Index(_)]), "{failed:?}");
    assert_eq!(done.chunks, 2);
}

#[test]
fn whoever_is_told_to_stop_begins_nothing() {
    let bench = bench(0, last_of(1));
    let stop = CancelToken::new();
    stop.cancel();
    let done = bench.execute(1, &stop);
    assert_eq!((done.chunks, done.indexes), (0, 0));
    assert!(bench.engine.catalog().state().artifacts.is_empty());
    let done = bench.execute(1, &CancelToken::new());
    assert_eq!((done.chunks, done.indexes), (2, 1));
}
