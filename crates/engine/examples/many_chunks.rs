//! What a store's size costs: `many_chunks [CHUNKS,…] [DIR]`, 1000,6500 where nothing is said.
//!
//! Backfills so many cheap chunks, in windows of a thousand, and measures what a start, an audit, a status and single reads
//! take on each store, and how that grows.

#![allow(clippy::print_stdout, clippy::unwrap_used, clippy::panic)]

mod common;

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use common::{Book, Growing};
use icecore_catalog::{
    CatalogReader,
    audit::{Audit, AuditOptions, Deep},
};
use icecore_cold::Control;
use icecore_diskio::{Disk, RealDisk};
use icecore_engine::EngineConfig;
use icecore_ledger::{Decoder, Geometry, LedgerSeq, TxHash};
use icecore_stellar::{StellarDecoder, source::Generator};

const LEDGERS_PER_CHUNK: u32 = 4;
const CHUNKS_PER_WINDOW: u32 = 1000;

/// What was measured: its name, and milliseconds.
type Figures = Vec<(&'static str, f64)>;

struct Store {
    config: EngineConfig,
    source: Arc<Growing>,
    first_hash: TxHash,
    figures: Figures,
}

impl Store {
    /// Has an engine backfill all chunks.
    fn fill(dir: &Path, chunks: u32) -> Store {
        let last = chunks * LEDGERS_PER_CHUNK + 2;
        let spec = format!("gen:ledgers={},txs=2,events=1,payments=50,contracts=10", last - 1);
        let source = Growing::new(Arc::new(spec.parse::<Generator>().unwrap()), last);
        let mut config = EngineConfig::new(dir);
        config.geometry = Geometry::new(LEDGERS_PER_CHUNK, CHUNKS_PER_WINDOW).unwrap();
        config.grace = Duration::ZERO;
        config.poll = Duration::from_millis(20);
        let first_hash = StellarDecoder.decode(&source.raw(2)).unwrap().transactions[0].hash;
        let mut store = Store { config, source, first_hash, figures: Vec::new() };
        let engine = common::open(&store.config, &store.source);
        let begun = Instant::now();
        engine.start().unwrap();
        common::until(&engine, last, true);
        store.figures.push(("backfill, for each chunk", millis(begun) / f64::from(chunks)));
        engine.shutdown().require_clean().unwrap();
        store
    }

    /// The least time of something that was done so often: what others do on the machine meanwhile counts least.
    fn measure<T>(&mut self, name: &'static str, times: u32, mut work: impl FnMut() -> T) {
        let each = (0..times).map(|_| {
            let begun = Instant::now();
            drop(work());
            millis(begun)
        });
        self.figures.push((name, each.fold(f64::INFINITY, f64::min)));
    }

    fn measure_engine(&mut self) {
        let (config, source) = (self.config.clone(), Arc::clone(&self.source));
        let first_read = || {
            let engine = common::open(&config, &source);
            assert_eq!(engine.view().ledger(LedgerSeq(2)).unwrap().seq, LedgerSeq(2));
            engine
        };
        self.measure("start: open to the first ledger read, and closing", 5, first_read);
        let engine = common::open(&self.config, &self.source);
        let hash = self.first_hash;
        let oldest = || engine.view().transaction(&hash).unwrap().unwrap();
        self.measure("a hash of the oldest ledger, first time", 1, oldest);
        self.measure("a hash of the oldest ledger", 200, oldest);
        self.measure("a hash that is none", 50, || {
            assert_eq!(engine.view().transaction(&TxHash([7; 32])).unwrap(), None)
        });
        self.measure("a view", 20_000, || engine.view());
        self.measure("status", 50, || engine.status());
        self.measure("bytes on disk", 3, || engine.disk_bytes().unwrap());
        self.measure("settle, with nothing to do", 20, || assert!(engine.settle().unwrap().is_settled));
        self.measure("estimate, with nothing to do", 5, || engine.estimate().unwrap());
        let begun = Instant::now();
        engine.start().unwrap();
        while engine.status().live_chunk.is_none() {
            std::thread::sleep(Duration::from_micros(200));
        }
        self.figures.push(("start: to ingesting", millis(begun)));
        engine.shutdown().require_clean().unwrap();
    }

    fn audit(&mut self, name: &'static str, sample: Option<u32>) {
        let disk: Arc<dyn Disk> = Arc::new(RealDisk);
        let scratch = tempfile::tempdir_in(self.config.layout.root()).unwrap();
        let sample = sample.map(|count| Some((count, 7)));
        let deep =
            sample.map(|sample| Deep { scratch: scratch.path(), workers: 2, sample, trust: Duration::ZERO });
        let options = AuditOptions { deep, ..AuditOptions::default() };
        let (layout, control) = (self.config.layout.clone(), Control::default());
        let audit =
            Audit { disk: &disk, layout: &layout, decoder: &StellarDecoder, control: &control, options };
        self.measure(name, 3, || {
            let report = audit.run().unwrap();
            assert_eq!(report.findings, [], "{report:?}");
        });
    }
}

fn millis(begun: Instant) -> f64 {
    begun.elapsed().as_secs_f64() * 1e3
}

fn main() {
    let mut args = std::env::args().skip(1);
    let sizes = args.next().unwrap_or_else(|| "1000,6500".to_owned());
    let sizes: Vec<u32> = sizes.split(',').map(|size| size.parse().unwrap()).collect();
    let dir = common::temporary(args.next());
    let _measured_by_nobody = Book::open();
    let all: Vec<Figures> = sizes
        .iter()
        .map(|&chunks| {
            let path = dir.path().join(chunks.to_string());
            let mut store = Store::fill(&path, chunks);
            store.measure_engine();
            let layout = store.config.layout.clone();
            store.measure("the catalog alone, read beside", 10, || CatalogReader::open(&layout).unwrap());
            store.audit("audit", None);
            store.audit("audit, deep, 20 chunks", Some(20));
            drop(std::fs::remove_dir_all(&path));
            println!("{chunks} chunks measured; peak memory {} MiB", common::peak_memory_mib());
            store.figures
        })
        .collect();
    let head: String = sizes.iter().map(|chunks| format!("{chunks:>14}")).collect();
    println!("\n{:52}{head}  growth", "milliseconds, by chunks");
    for (at, (name, first)) in all[0].iter().enumerate() {
        let row: String = all.iter().map(|figures| format!("{:14.4}", figures[at].1)).collect();
        println!("{name:52}{row}  {:.1}x", all[all.len() - 1][at].1 / first);
    }
}
