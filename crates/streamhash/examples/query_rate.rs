//! How long a lookup takes in a built index, beside what one random access to its payload costs in the same run.
//!
//! ```text
//! cargo run --release -p icecore-streamhash --example query_rate [keys] [algorithm]
//! ```
//!
//! Each line is the best of many short rounds, in nanoseconds a key, with its ratio to the same access pattern of the
//! payload alone. Rounds go through more keys than caches hold the entries of.

use std::{
    hint::black_box,
    path::Path,
    sync::atomic::{AtomicU64, Ordering},
    time::Instant,
};

use icecore_diskio::{FileReader, Mmap, ReadAt};
use icecore_streamhash::{Algorithm, Index, Options, SortedBuilder};
use icecore_testkit::SplitMix64;

const QUERIES: usize = 1 << 20;
const ROUND_QUERIES: usize = 1 << 15;
const ROUNDS: usize = 3 * QUERIES / ROUND_QUERIES;
const COLD_QUERIES: usize = 400;
const ENTRY_BYTES: usize = 4;

type Key = [u8; 16];
type Any<T = ()> = Result<T, Box<dyn std::error::Error>>;

fn nanoseconds(count: usize, run: impl FnOnce() -> u64) -> f64 {
    let start = Instant::now();
    black_box(run());
    start.elapsed().as_secs_f64() * 1e9 / count as f64
}

/// The best of the rounds, in nanoseconds for each item.
fn best<T>(items: &[T], mut round: impl FnMut(&[T]) -> u64) -> f64 {
    let rounds = items.chunks_exact(ROUND_QUERIES).cycle().take(ROUNDS);
    rounds.map(|items| nanoseconds(items.len(), || round(items))).fold(f64::INFINITY, f64::min)
}

#[allow(clippy::print_stdout)]
fn print(what: &str, nanoseconds: f64, floor: f64) {
    println!("  {what:<28} {nanoseconds:7.2} ns   {:5.2} × floor", nanoseconds / floor);
}

fn build(path: &Path, keys: &[Key], algorithm: Algorithm) -> Any {
    let options = Options::new().algorithm(algorithm).payload_bytes(3).fingerprint_bytes(1);
    let options = options.max_payload(9_999_999).workers(2);
    let mut builder = SortedBuilder::create(path, keys.len() as u64, options)?;
    for (payload, key) in keys.iter().enumerate() {
        builder.add(key, payload as u64 % 10_000_000)?;
    }
    builder.finish()?;
    Ok(())
}

/// What one access to the payload costs: overlapping, and one after the other; and one to a block before it, overlapping.
struct Floor {
    throughput: f64,
    latency: f64,
    with_block: f64,
}

fn floor(bytes: &[u8], metadata_at: usize, places: &[usize]) -> Floor {
    let at = |place: usize| {
        let word = bytes.get(place..).and_then(|tail| tail.first_chunk::<ENTRY_BYTES>());
        u64::from(u32::from_le_bytes(word.copied().unwrap_or_default()))
    };
    let none = black_box(0);
    let metadata_bytes = bytes.len() - metadata_at - ENTRY_BYTES;
    Floor {
        with_block: best(places, |places| {
            places.iter().fold(0, |sum, place| {
                // Anywhere in the blocks, and nothing to do with where in the payload.
                let scattered = (*place as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
                let block = ((u128::from(scattered) * metadata_bytes as u128) >> 64) as usize;
                sum ^ at(*place + (at(metadata_at + block) & none) as usize)
            })
        }),
        throughput: best(places, |places| places.iter().fold(0, |sum, place| sum ^ at(*place))),
        latency: best(places, |places| {
            places.iter().fold(0, |last, place| at(*place + (last & none) as usize))
        }),
    }
}

#[allow(clippy::print_stdout)]
fn in_memory<S: ReadAt>(index: &Index<S>, members: &[Key], strangers: &[Key]) -> Any {
    let at = index.layout().payload_at as usize;
    let bytes = index.source().as_bytes().ok_or("not in memory")?;
    let mut places = Vec::with_capacity(members.len());
    let mut rng = SplitMix64::new(2);
    for key in members {
        places.push(match index.header().algorithm.has_ranks() {
            true => at + index.rank(key)?.ok_or("a member is not found")? as usize * ENTRY_BYTES,
            // What is kept is among the rows of the blocks, somewhere.
            false => at + rng.below((bytes.len() - at - ENTRY_BYTES) as u64) as usize,
        });
    }
    let floor = floor(bytes, index.layout().metadata_at as usize, &places);
    print("payload access, floor", floor.throughput, floor.throughput);
    print("block, then payload access", floor.with_block, floor.throughput);
    for (keys, kind) in [(members, "members"), (strangers, "strangers")] {
        let looped = best(keys, |keys| {
            keys.iter().fold(0, |sum, key| match index.lookup(key) {
                Ok(Some(hit)) => sum ^ hit.payload,
                _ => sum,
            })
        });
        print(&format!("loop, {kind}"), looped, floor.throughput);
        let mut hits = Vec::new();
        let batched = best(keys, |keys| {
            keys.chunks(1024).fold(0, |sum, keys| match index.lookup_batch(keys, &mut hits) {
                Ok(()) => sum ^ hits.iter().flatten().fold(0, |sum, hit| sum ^ hit.payload),
                Err(_) => sum,
            })
        });
        print(&format!("batched, {kind}"), batched, floor.throughput);
        let streamed = best(keys, |keys| {
            index.lookup_stream(keys).fold(0, |sum, hit| match hit {
                Ok(Some(hit)) => sum ^ hit.payload,
                _ => sum,
            })
        });
        print(&format!("streamed, {kind}"), streamed, floor.throughput);
    }
    print("payload access, latency", floor.latency, floor.latency);
    let none = black_box(0);
    let chained = best(members, |members| {
        (0..members.len()).fold(0, |last, i| {
            let key = &members[i + (last & none) as usize];
            index.lookup(key).ok().flatten().map_or(0, |hit| hit.payload)
        })
    });
    print("latency, members", chained, floor.latency);
    Ok(())
}

/// A file that counts its reads.
struct Counted {
    file: FileReader,
    reads: AtomicU64,
    bytes: AtomicU64,
}

impl ReadAt for Counted {
    fn len_bytes(&self) -> u64 {
        self.file.len_bytes()
    }

    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> icecore_diskio::Result<()> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(buf.len() as u64, Ordering::Relaxed);
        self.file.read_exact_at(buf, offset)
    }
}

/// Lookups in a file of which nothing is in the page cache.
#[allow(clippy::print_stdout)]
fn cold(path: &Path, members: &[Key]) -> Any {
    let file = FileReader::open(path)?;
    let index = Index::from_source(Counted { file, reads: AtomicU64::new(0), bytes: AtomicU64::new(0) })?;
    let opened = index.source().reads.swap(0, Ordering::Relaxed);
    index.source().bytes.store(0, Ordering::Relaxed);
    for state in ["cold", "warm"] {
        if state == "cold" {
            let advised = std::fs::File::open(path)?;
            advised.sync_all()?;
            rustix::fs::fadvise(&advised, 0, None, rustix::fs::Advice::DontNeed)?;
        }
        let keys = &members[..COLD_QUERIES];
        let time = nanoseconds(keys.len(), || {
            keys.iter().filter(|key| matches!(index.lookup(*key), Ok(Some(_)))).count() as u64
        });
        let per_key = |total: &AtomicU64| total.swap(0, Ordering::Relaxed) as f64 / keys.len() as f64;
        println!(
            "  file, {state}: {:.1} µs, {:.2} reads of {:.0} bytes a lookup ({opened} reads to open)",
            time / 1e3,
            per_key(&index.source().reads),
            per_key(&index.source().bytes),
        );
    }
    Ok(())
}

#[allow(clippy::print_stdout)]
fn main() -> Any {
    let mut args = std::env::args().skip(1);
    let count: usize = args.next().map_or(Ok(10_000_000), |count| count.parse())?;
    let only = args.next().unwrap_or_default();
    let mut rng = SplitMix64::new(1);
    let mut keys: Vec<Key> = (0..count).map(|_| rng.key()).collect();
    keys.sort_unstable();
    let members: Vec<Key> = (0..QUERIES).map(|_| keys[rng.below(count as u64) as usize]).collect();
    let strangers: Vec<Key> = (0..QUERIES).map(|_| rng.key()).collect();
    let dir = tempfile::tempdir()?;
    for algorithm in Algorithm::ALL {
        let name = algorithm.name();
        if !name.starts_with(&only) {
            continue;
        }
        let path = dir.path().join(name);
        build(&path, &keys, algorithm)?;
        let bytes = std::fs::metadata(&path)?.len();
        let bits = 8.0 * bytes as f64 / count as f64;
        println!("{name}, {count} keys, {bytes} bytes ({bits:.2} bits a key), memory map");
        in_memory(&Index::from_source(Mmap::open(&path)?)?, &members, &strangers)?;
        println!("{name}, bytes in memory");
        in_memory(&Index::from_source(std::fs::read(&path)?)?, &members, &strangers)?;
        if algorithm == Algorithm::Bijection {
            let start = Instant::now();
            let index = Index::from_source(Mmap::open(&path)?)?.with_checkpoints()?;
            println!(
                "{name}, memory map, with_checkpoints (took {:.1} ms)",
                start.elapsed().as_secs_f64() * 1e3
            );
            in_memory(&index, &members, &strangers)?;
        }
        cold(&path, &members)?;
    }
    Ok(())
}
