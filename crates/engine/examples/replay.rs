//! Real ledgers through live ingestion, twice: `replay [FILE] [LEDGERS] [PACE_MICROS] [DIR]`.
//!
//! First FILE, a source as `icecore build` takes it (`-` for the generator), in two laps and with ten ledgers to a chunk:
//! every hash must be found at every moment after its commit, before, during and after its chunk freezes. Then LEDGERS small
//! ledgers (100000 where nothing is said) that a replayer makes, into chunks as long as the network's; `PACE_MICROS` says
//! how far apart they come, 0 for as fast as they are taken.

#![allow(clippy::print_stdout, clippy::unwrap_used, clippy::panic)]

mod common;

use std::{
    sync::{
        Arc, RwLock,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    thread,
    time::{Duration, Instant},
};

use common::{Book, Growing, millis};
use icecore_catalog::{Artifact, FileState};
use icecore_engine::{Engine, EngineConfig, Place, View};
use icecore_ledger::{ChunkId, Decoder, Geometry, LedgerRange, LedgerSeq, TxHash};
use icecore_stellar::{APPLY_LOAD, NetworkId, Replayer, StellarDecoder, source};
use icecore_testkit::SplitMix64;

const GENERATED: &str = "gen:ledgers=30,txs=250,events=5,payments=0";
const SMALL: &str = "gen:ledgers=500,txs=10,events=2";
const MOMENTS: [&str; 4] = ["hot", "while it freezes", "frozen, not indexed", "frozen and indexed"];

/// A source's ledgers, again and again, from ledger 2 on.
fn replayed(text: &str, ledgers: Option<u32>) -> (Arc<Growing>, u32) {
    let opened = source::open(text).unwrap();
    let base = opened.source.range().unwrap();
    let network = NetworkId::of(opened.network_passphrase.as_deref().unwrap_or(APPLY_LOAD));
    let count = ledgers.unwrap_or(2 * (base.last.0 - base.first.0 + 1));
    let range = LedgerRange::new(LedgerSeq(2), LedgerSeq(1 + count)).unwrap();
    let replayer = Replayer::from_source(&*opened.source, base, range, network).unwrap();
    (Growing::new(Arc::new(replayer), 2), range.last.0)
}

/// Where a chunk is on its way.
fn moment(view: &View, chunk: ChunkId) -> usize {
    let state = view.state();
    let freezing = |artifact| state.artifact(chunk, artifact) == Some(FileState::Freezing);
    match (Artifact::ALL.into_iter().any(freezing), state.has(chunk, Artifact::Ledgers), state.covered(chunk))
    {
        (true, ..) => 1,
        (_, true, true) => 3,
        (_, true, false) => 2,
        _ => 0,
    }
}

/// The hashes that were committed, by ledger, and how often each moment was asked about.
#[derive(Default)]
struct Known {
    hashes: RwLock<Vec<(u32, Vec<TxHash>)>>,
    asked: [AtomicU64; 4],
    cold: AtomicU64,
}

impl Known {
    fn check(&self, engine: &Engine, geometry: &Geometry, seq: u32, hash: &TxHash) {
        let view = engine.view();
        let found = view.transaction(hash).unwrap_or_else(|e| panic!("{hash} of {seq}: {e}; {view:?}"));
        let found = found.unwrap_or_else(|| panic!("{hash} of {seq} is not found; {view:?}"));
        assert_eq!(found.seq.0, seq, "{hash}");
        self.asked[moment(&view, geometry.chunk_of(LedgerSeq(seq)).unwrap())].fetch_add(1, SeqCst);
        self.cold.fetch_add(u64::from(found.place == Place::Cold), SeqCst);
    }

    /// Any hash; those of the chunk that is being frozen, if there is one.
    fn draw(&self, engine: &Engine, geometry: &Geometry, rng: &mut SplitMix64) -> (u32, TxHash) {
        let freezing = {
            let view = engine.view();
            let is_freezing = |(_, file): &(_, &FileState)| **file == FileState::Freezing;
            view.state().artifacts.iter().find(is_freezing).map(|((chunk, _), _)| *chunk)
        };
        let hashes = self.hashes.read().unwrap();
        let of = |seq| geometry.chunk_of(LedgerSeq(seq));
        let begin = freezing.and_then(|chunk| hashes.iter().position(|(seq, _)| of(*seq) == Some(chunk)));
        let (begin, count) = begin.map_or((0, hashes.len()), |begin| (begin, 10.min(hashes.len() - begin)));
        let (seq, own) = &hashes[begin + rng.below(count as u64) as usize];
        (*seq, own[rng.below(own.len() as u64) as usize])
    }
}

fn every_hash(text: &str, dir: &std::path::Path) {
    let (source, last) = replayed(text, None);
    let geometry = Geometry::new(10, 4).unwrap();
    let mut config = EngineConfig::new(dir);
    (config.geometry, config.grace) = (geometry, Duration::from_millis(500));
    config.poll = Duration::from_millis(1);
    let engine = common::open(&config, &source);
    engine.start().unwrap();
    let (known, done, begun) = (Known::default(), AtomicBool::new(false), Instant::now());
    thread::scope(|scope| {
        let (engine, known, done) = (&engine, &known, &done);
        for seq in 2..=last {
            source.grow_to(seq);
            let hashes: Vec<_> = StellarDecoder.decode(&source.raw(seq)).unwrap().hashes().collect();
            common::until(engine, seq, false);
            hashes.iter().for_each(|hash| known.check(engine, &geometry, seq, hash));
            known.hashes.write().unwrap().push((seq, hashes));
            if seq == 2 {
                scope.spawn(move || {
                    let mut rng = SplitMix64::new(1);
                    while !done.load(SeqCst) {
                        let (seq, hash) = known.draw(engine, &geometry, &mut rng);
                        known.check(engine, &geometry, seq, &hash);
                    }
                });
            }
        }
        common::until(engine, last, true);
        let all = known.hashes.read().unwrap();
        all.iter()
            .for_each(|(seq, own)| own.iter().for_each(|hash| known.check(engine, &geometry, *seq, hash)));
        done.store(true, SeqCst);
    });
    let hashes: usize = known.hashes.read().unwrap().iter().map(|(_, own)| own.len()).sum();
    println!("{text}: {} ledgers, {hashes} hashes, {:.0} s", last - 1, begun.elapsed().as_secs_f64());
    for (moment, asked) in MOMENTS.iter().zip(&known.asked) {
        println!("  asked for, its chunk {moment:20} {:8}, all found", asked.load(SeqCst));
    }
    println!("  answered from frozen files {:>21}", known.cold.load(SeqCst));
    common::require_well(&engine);
    engine.shutdown().require_clean().unwrap();
}

/// The most that was seen.
#[derive(Default)]
struct Peaks {
    lag: u32,
    to_freeze: u32,
    hot_chunks: usize,
}

fn many_ledgers(ledgers: u32, pace: Duration, dir: &std::path::Path, book: &Book) {
    let (source, last) = replayed(SMALL, Some(ledgers));
    let sizes: usize = (2..502.min(last)).map(|seq| source.raw(seq).len()).sum();
    let mean_bytes = sizes as f64 / f64::from(502.min(last) - 2);
    let mut config = EngineConfig::new(dir);
    // Settled is, who has removed everything that was replaced.
    config.grace = Duration::from_secs(1);
    let engine = common::open(&config, &source);
    engine.start().unwrap();
    common::until(&engine, 2, false);
    common::forget_peak_memory();
    drop(book.take_commits());
    let (begun, mut thirds, mut peaks) = (Instant::now(), Vec::new(), Peaks::default());
    let (mut looked, freezes) = (Instant::now(), book.freezes().len());
    while engine.view().latest() < Some(LedgerSeq(last)) {
        let due = if pace.is_zero() { last } else { (begun.elapsed().as_micros() / pace.as_micros()) as u32 };
        source.grow_to(due.saturating_add(2).min(last));
        let latest = engine.view().latest().unwrap().0;
        peaks.lag = peaks.lag.max(source.tip().saturating_sub(latest));
        if looked.elapsed() > Duration::from_secs(1) {
            looked = Instant::now();
            let status = engine.status();
            let built = (status.chunks["frozen"] as u32) * config.geometry.ledgers_per_chunk();
            peaks.to_freeze = peaks.to_freeze.max(latest - 1 - built.min(latest - 1));
            peaks.hot_chunks = peaks.hot_chunks.max(status.chunks["ready"]);
            common::require_well(&engine);
        }
        if latest > (ledgers / 3).max(1) * (thirds.len() as u32 + 1) && thirds.len() < 2 {
            thirds.push(book.take_commits());
        }
        thread::sleep(Duration::from_millis(2));
    }
    thirds.push(book.take_commits());
    let took = begun.elapsed().as_secs_f64();
    common::until(&engine, last, true);
    let settled = begun.elapsed().as_secs_f64() - took;
    let rate = f64::from(ledgers) / took;
    println!("\n{ledgers} ledgers of {mean_bytes:.0} bytes replayed from {SMALL}, {pace:?} apart");
    println!("  {rate:.0} ledgers/s, {:.1} MB/s of raw ledgers, {took:.0} s", rate * mean_bytes / 1e6);
    if !pace.is_zero() {
        println!("  at most {} ledgers behind the source", peaks.lag);
    }
    println!("  settled {settled:.1} s after the last ledger");
    println!("  at most {} ledgers in {} hot chunks not frozen yet", peaks.to_freeze, peaks.hot_chunks);
    for (third, commits) in thirds.into_iter().enumerate() {
        let (whole, synced): (Vec<_>, Vec<_>) = commits.into_iter().unzip();
        println!("  commit, third {}: {}; its synced batch: {}", third + 1, millis(whole), millis(synced));
    }
    let freezes = book.freezes().split_off(freezes);
    let freezes = freezes.iter().map(|took| (took.ended - took.begun).as_secs_f32()).collect();
    println!("  freeze of a chunk: {}", millis(freezes));
    println!("  peak memory {} MiB", common::peak_memory_mib());
    println!("  on disk {:?}", engine.disk_bytes().unwrap());
    println!("  rates {:?}", engine.status().rates);
    engine.shutdown().require_clean().unwrap();
}

fn main() {
    let mut args = std::env::args().skip(1);
    let file = args.next().filter(|file| file != "-").unwrap_or_else(|| GENERATED.to_owned());
    let ledgers: u32 = args.next().map_or(100_000, |arg| arg.parse().unwrap());
    let pace = Duration::from_micros(args.next().map_or(0, |arg| arg.parse().unwrap()));
    let dir = common::temporary(args.next());
    let book = Book::open();
    every_hash(&file, &dir.path().join("real"));
    drop(std::fs::remove_dir_all(dir.path().join("real")));
    if ledgers > 0 {
        many_ledgers(ledgers, pace, &dir.path().join("many"), &book);
    }
}
