//! Fills a chunk and prints what it took: `commit_chunk [LEDGERS] [READERS] [DIR]`.
//!
//! Every ledger is committed to a hot chunk and, as one prepared batch of the same rows, to a bare store beside it. Then the
//! chunk is opened again, and its event index compared with a bare scan of the same rows.

#![allow(clippy::print_stdout, clippy::unwrap_used)]

use std::{
    path::Path,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use icecore_events::{EventRecord, Filter, Order, Query, TermHasher};
use icecore_hotchunk::{HotChunk, HotOptions, Phase};
use icecore_ledger::{Decoded, Decoder, LedgerRange, LedgerStream, Source, TxHash};
use icecore_rockstore::{Batch, Compaction, Compression, Family, FamilyId, Reads, Span, Store, StoreOptions};
use icecore_stellar::{StellarDecoder, source::Generator};

fn main() {
    let mut args = std::env::args().skip(1);
    let ledgers: u32 = args.next().map_or(10_000, |arg| arg.parse().unwrap());
    let readers: usize = args.next().map_or(0, |arg| arg.parse().unwrap());
    let dir = tempfile::tempdir_in(args.next().unwrap_or_else(|| ".".into())).unwrap();
    let source: Generator =
        format!("gen:ledgers={ledgers},txs=200,events=5,payments=0,contracts=1000,accounts=100000")
            .parse()
            .unwrap();
    let range = source.range().unwrap();
    let (hot_path, bare_path) = (dir.path().join("hot"), dir.path().join("bare"));
    let hot = HotChunk::create(&hot_path, range, &HotOptions::default()).unwrap();
    let bare =
        Store::create(&bare_path, &families(), &StoreOptions::default().max_log_bytes(512 << 20)).unwrap();

    let (done, hashes, reads) = (AtomicBool::new(false), Mutex::new(Vec::new()), Mutex::new(Vec::new()));
    let mut laps = Vec::new();
    thread::scope(|scope| {
        for reader in 0..readers {
            let (hot, done, hashes, reads) = (&hot, &done, &hashes, &reads);
            scope.spawn(move || {
                let times = read(hot, reader, done, hashes);
                reads.lock().unwrap().push((reader % 3, times));
            });
        }
        let mut stream = source.stream(range).unwrap();
        fill(&hot, &bare, &mut *stream, &hashes, &mut laps);
        done.store(true, Ordering::SeqCst);
    });
    print_laps(&laps);
    for kind in 0..readers.min(3) {
        let reads = reads.lock().unwrap();
        let times = reads.iter().filter(|(of, _)| *of == kind).flat_map(|(_, times)| times.iter().copied());
        let name = ["by hash", "by sequence", "by filter"][kind];
        println!("read {name:14} {}", quantiles(times.collect()));
    }
    let stats = hot.stats().unwrap();
    println!("event index: {} terms, {} MiB; {:?}", stats.terms, stats.index_bytes >> 20, stats.store);
    println!("peak memory {} MiB", peak_memory_kib() >> 10);

    // Else the first opening would replay the log, which takes longer than anything that is measured here.
    hot.flush().unwrap();
    hot.close();
    bare.close();
    for _ in 0..2 {
        warm_up(&hot_path, range);
    }
    println!("peak memory {} MiB", peak_memory_kib() >> 10);
}

/// The families as a hot chunk has them.
fn families() -> [Family; 5] {
    let family = |name| Family::new(name).compaction(Compaction::Never).compression(Compression::None);
    [
        family("ledgers").write_buffers(4, 32 << 20),
        family("txhash").bloom_bits(10).write_buffers(3, 16 << 20),
        family("events_data")
            .compression(Compression::Zstd(1))
            .block_bytes(32 << 10)
            .write_buffers(4, 32 << 20),
        family("events_index").prefix_bytes(16).write_buffers(4, 64 << 20),
        family("events_offsets").write_buffers(2, 1 << 20),
    ]
}

/// The phases of one commit, all of it, and the bare write.
type Lap = ([Duration; 9], Duration, Duration);

fn fill(
    hot: &HotChunk,
    bare: &Store,
    stream: &mut dyn LedgerStream,
    hashes: &Mutex<Vec<TxHash>>,
    laps: &mut Vec<Lap>,
) {
    let (mut batch, mut hasher, mut id) = (Batch::new(), TermHasher::default(), 0);
    let mut sizes = (0, 0, 0, 0);
    while let Some(raw) = stream.next_ledger().unwrap() {
        let decoded = StellarDecoder.decode(raw.bytes).unwrap();
        prepare(&mut batch, &mut hasher, &decoded, &mut id, raw.bytes);
        let begun = Instant::now();
        bare.write(&batch).unwrap();
        let bare_time = begun.elapsed();
        let begun = Instant::now();
        let report = hot.commit(raw.bytes, &StellarDecoder).unwrap().report;
        laps.push((report.times, begun.elapsed(), bare_time));
        assert_eq!((report.rows, report.batch_bytes), (batch.rows(), batch.len_bytes()));
        hashes.lock().unwrap().push(decoded.transactions[0].hash);
        sizes = (report.raw_bytes, report.batch_bytes, report.rows, report.events);
        if laps.len().is_multiple_of(1000) {
            println!("{} ledgers", laps.len());
        }
    }
    println!("a ledger: {} bytes raw, {} in {} rows; {} events", sizes.0, sizes.1, sizes.2, sizes.3);
}

/// The rows of a ledger.
fn prepare(batch: &mut Batch, hasher: &mut TermHasher, decoded: &Decoded<'_>, id: &mut u32, raw: &[u8]) {
    let seq = decoded.seq.0.to_be_bytes();
    batch.clear();
    batch.put(FamilyId(0), &seq, &zstd::bulk::compress(raw, 1).unwrap());
    decoded.hashes().for_each(|hash| batch.put(FamilyId(1), &hash.0, &seq));
    for event in &decoded.events {
        let mut record = Vec::new();
        EventRecord::of(decoded.seq, decoded.closed_at, event).encode(&mut record).unwrap();
        batch.put(FamilyId(2), &id.to_be_bytes(), &record);
        hasher
            .keys(&event.fields)
            .for_each(|term| batch.put(FamilyId(3), &[&term.0[..], &id.to_be_bytes()].concat(), b""));
        *id += 1;
    }
    batch.put(FamilyId(4), &seq, &(decoded.events.len() as u32).to_be_bytes());
}

/// Reads until the writer is done; the time of each read.
fn read(hot: &HotChunk, reader: usize, done: &AtomicBool, hashes: &Mutex<Vec<TxHash>>) -> Vec<Duration> {
    let (mut times, mut draw) = (Vec::new(), reader as u64);
    while !done.load(Ordering::SeqCst) {
        draw = draw.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let hash = {
            let hashes = hashes.lock().unwrap();
            if hashes.is_empty() {
                continue;
            }
            hashes[(draw >> 33) as usize % hashes.len()]
        };
        let begun = Instant::now();
        match reader % 3 {
            0 => drop(hot.transaction(&hash).unwrap().unwrap()),
            1 => drop(hot.ledger(hot.view().unwrap().ledger_of(&hash).unwrap().unwrap()).unwrap().unwrap()),
            _ => {
                let filters = vec![
                    Filter::any()
                        .topic(0, [0, 0, 0, 15, 0, 0, 0, 8, b't', b'r', b'a', b'n', b's', b'f', b'e', b'r']),
                ];
                let query = Query { filters, order: Order::Descending, limit: 50, ..Query::default() };
                drop(hot.events(&query, &StellarDecoder).unwrap());
            }
        }
        times.push(begun.elapsed());
        thread::sleep(Duration::from_millis(2));
    }
    times
}

fn print_laps(laps: &[Lap]) {
    let window = (laps.len() / 3).clamp(1, 1000);
    let middle = laps.len() / 2 - window / 2;
    for (name, from) in [("first", 0), ("middle", middle), ("last", laps.len() - window)] {
        let laps = &laps[from..from + window];
        println!("--- {name} {window}: p50, p99, p99.9 in µs");
        for (index, phase) in Phase::ALL.iter().enumerate() {
            println!("{:20} {}", phase.name(), quantiles(laps.iter().map(|lap| lap.0[index]).collect()));
        }
        println!("{:20} {}", "commit in all", quantiles(laps.iter().map(|lap| lap.1).collect()));
        println!("{:20} {}", "bare batch", quantiles(laps.iter().map(|lap| lap.2).collect()));
        let sum = |of: fn(&Lap) -> Duration| laps.iter().map(of).sum::<Duration>().as_secs_f64();
        let median = |of: fn(&Lap) -> Duration| {
            let mut times: Vec<_> = laps.iter().map(of).collect();
            times.sort();
            times[times.len() / 2].as_secs_f64()
        };
        println!(
            "all to bare: {:.2} by medians, {:.2} by sums; write to bare: {:.2} by medians",
            median(|lap| lap.1) / median(|lap| lap.2),
            sum(|lap| lap.1) / sum(|lap| lap.2),
            median(|lap| lap.0[Phase::Commit as usize]) / median(|lap| lap.2),
        );
    }
}

fn quantiles(mut times: Vec<Duration>) -> String {
    times.sort();
    let at = |q: f64| times.get((times.len() as f64 * q) as usize).map_or(0, Duration::as_micros);
    format!("{:8} {:8} {:8}   of {}", at(0.5), at(0.99), at(0.999), times.len())
}

fn warm_up(path: &Path, range: LedgerRange) {
    let begun = Instant::now();
    let mut rows = 0;
    let hot = HotChunk::open_with_progress(path, range, &HotOptions::default(), &mut |warm| rows = warm.rows)
        .unwrap();
    let warm = begun.elapsed();
    assert_eq!(hot.max_committed().unwrap(), Some(range.last));
    hot.close();
    let store = Store::open_read_only(path, &families(), &StoreOptions::default()).unwrap();
    let begun = Instant::now();
    let reader = store.reader().unwrap();
    let mut scan = reader.rows(FamilyId(3), Span::all().scan()).unwrap();
    let mut scanned = 0;
    while scan.next_row().unwrap().is_some() {
        scanned += 1;
    }
    let bare = begun.elapsed();
    assert_eq!(rows, scanned);
    println!(
        "opened in {warm:.2?}, {rows} index rows; a bare scan of them takes {bare:.2?}: ratio {:.2}",
        warm.as_secs_f64() / bare.as_secs_f64()
    );
}

fn peak_memory_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    peak.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}
