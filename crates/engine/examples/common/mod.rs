//! What the demonstrations share: a source that grows, the engine's own measurements, quantiles, tables.
#![allow(dead_code, unreachable_pub, reason = "each demonstration uses a part")]

use std::{
    fs,
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
    thread,
    time::{Duration, Instant},
};

use icecore_engine::{Engine, EngineConfig, Sources, Status};
use icecore_ledger::{LedgerRange, LedgerSeq, LedgerStream, Result, Source};
use icecore_stellar::StellarDecoder;
use metrics::{Counter, Gauge, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder, SharedString, Unit};

/// Another source, as far as it has come.
pub struct Growing {
    pub inner: Arc<dyn Source>,
    pub tip: AtomicU32,
}

impl Growing {
    pub fn new(inner: Arc<dyn Source>, tip: u32) -> Arc<Self> {
        Arc::new(Growing { inner, tip: AtomicU32::new(tip) })
    }

    pub fn grow_to(&self, tip: u32) {
        self.tip.store(tip, SeqCst);
    }

    pub fn tip(&self) -> u32 {
        self.tip.load(SeqCst)
    }

    /// One ledger's bytes, whether it has come so far or not.
    pub fn raw(&self, seq: u32) -> Vec<u8> {
        let range = LedgerRange { first: LedgerSeq(seq), last: LedgerSeq(seq) };
        let mut stream = self.inner.stream(range).unwrap();
        stream.next_ledger().unwrap().unwrap().bytes.to_vec()
    }
}

impl Source for Growing {
    fn describe(&self) -> String {
        format!("{}, as it grows", self.inner.describe())
    }

    fn range(&self) -> Result<LedgerRange> {
        let all = self.inner.range()?;
        Ok(LedgerRange { last: all.last.min(LedgerSeq(self.tip())), ..all })
    }

    fn stream(&self, wanted: LedgerRange) -> Result<Box<dyn LedgerStream + '_>> {
        let has = self.range()?;
        if has.intersect(wanted) != Some(wanted) {
            return Err(icecore_ledger::Error::OutOfRange { place: self.describe(), has, wanted });
        }
        self.inner.stream(wanted)
    }
}

/// Where a demonstration's store lies: removed at its end.
pub fn temporary(dir: Option<String>) -> tempfile::TempDir {
    tempfile::tempdir_in(dir.map_or_else(std::env::temp_dir, PathBuf::from)).unwrap()
}

pub fn open(config: &EngineConfig, source: &Arc<Growing>) -> Engine {
    let sources = Sources { bulk: Arc::clone(source) as _, live: None };
    Engine::open(config.clone(), sources, Arc::new(StellarDecoder)).unwrap()
}

/// Waits until a ledger is there and, where that is asked for, everything is built.
pub fn until(engine: &Engine, latest: u32, settled: bool) {
    let there = || engine.view().latest() >= Some(LedgerSeq(latest));
    let complete = engine.config().geometry.last_complete_chunk(LedgerSeq(latest)).map(|chunk| chunk.0);
    // That a chunk is complete is known a moment after its last ledger is shown.
    let is_settled = |status: Status| status.is_settled && status.complete_chunk >= complete;
    while !there() || settled && !is_settled(engine.status()) {
        require_well(engine);
        thread::sleep(Duration::from_millis(if there() { 20 } else { 2 }));
    }
}

/// Panics when the engine has met anything that it should not.
pub fn require_well(engine: &Engine) {
    let status = engine.status();
    assert!(status.fatal.is_none() && status.troubles.is_empty(), "{:?} {:?}", status.fatal, status.troubles);
}

/// What took how long, by the engine's own metrics.
#[derive(Clone, Copy, Debug)]
pub struct Took {
    pub begun: Instant,
    pub ended: Instant,
}

/// Whatever was measured since [`Book::open`].
#[derive(Debug, Default)]
pub struct Book {
    freezes: Mutex<Vec<Took>>,
    ops: Mutex<Vec<(String, Took)>>,
    /// Of each commit, all of its time, and that of its synced batch; seconds.
    commits: Mutex<Vec<(f32, f32)>>,
}

impl Book {
    /// Becomes the recorder of this process.
    pub fn open() -> Arc<Self> {
        let book = Arc::new(Book::default());
        metrics::set_global_recorder(Scribe(Arc::clone(&book))).unwrap();
        book
    }

    /// All freezes of chunks.
    pub fn freezes(&self) -> Vec<Took> {
        self.freezes.lock().unwrap().clone()
    }

    /// All operations of the lifecycle of a name: rebuild, discard, destroy, run.
    pub fn ops(&self, name: &str) -> Vec<Took> {
        let ops = self.ops.lock().unwrap();
        ops.iter().filter(|(op, _)| op == name).map(|(_, took)| *took).collect()
    }

    /// The times of all commits since this was asked last: each whole, and its synced batch.
    pub fn take_commits(&self) -> Vec<(f32, f32)> {
        std::mem::take(&mut self.commits.lock().unwrap())
    }
}

struct Scribe(Arc<Book>);

struct Line {
    book: Arc<Book>,
    metric: String,
    label: String,
}

impl HistogramFn for Line {
    fn record(&self, seconds: f64) {
        let ended = Instant::now();
        let took = || Took { begun: ended - Duration::from_secs_f64(seconds), ended };
        match self.metric.as_str() {
            "icecore_freeze_seconds" => self.book.freezes.lock().unwrap().push(took()),
            "icecore_op_seconds" => self.book.ops.lock().unwrap().push((self.label.clone(), took())),
            "icecore_commit_seconds" => {
                let mut commits = self.book.commits.lock().unwrap();
                // A commit's phases come one after the other.
                if self.label == "decode" || commits.is_empty() {
                    commits.push((0.0, 0.0));
                }
                let last = commits.last_mut().unwrap();
                last.0 += seconds as f32;
                if self.label == "commit" {
                    last.1 = seconds as f32;
                }
            }
            _ => {}
        }
    }
}

impl Recorder for Scribe {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, _: &Key, _: &Metadata<'_>) -> Counter {
        Counter::noop()
    }

    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::noop()
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        let label = key.labels().next().map_or("", |label| label.value()).to_owned();
        let line = Line { book: Arc::clone(&self.0), metric: key.name().to_owned(), label };
        Histogram::from_arc(Arc::new(line))
    }
}

/// The values in the middle, at 99 of 100, and the largest.
pub fn quantiles(mut values: Vec<f32>) -> [f32; 3] {
    values.sort_by(f32::total_cmp);
    let at =
        |part: f64| values.get(((values.len() as f64 * part) as usize).min(values.len().saturating_sub(1)));
    [0.5, 0.99, 1.0].map(|part| at(part).copied().unwrap_or(0.0))
}

/// `p50 … p99 … max …` in milliseconds, of seconds.
pub fn millis(seconds: Vec<f32>) -> String {
    let [p50, p99, max] = quantiles(seconds).map(|seconds| seconds * 1e3);
    format!("p50 {p50:8.3} ms  p99 {p99:8.3} ms  max {max:8.3} ms")
}

/// The most memory that this process had since [`forget_peak_memory`].
pub fn peak_memory_mib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok()).unwrap_or(0) >> 10
}

pub fn forget_peak_memory() {
    // Where the system does not know it, the peak is the whole process's.
    drop(fs::write("/proc/self/clear_refs", "5"));
}
