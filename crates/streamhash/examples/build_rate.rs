//! Prints how fast indices are built, by algorithm, order of the keys and number of workers:
//! `build_rate [DIRECTORY [MILLIONS [WHICH [REPEATS [MEGABYTES]]]]]`, where WHICH is a part of what a line says, such as
//! `compact, sorted, 1`, and MEGABYTES what a build of shuffled keys may hold in memory.
#![allow(clippy::print_stdout)]

use std::{error::Error, path, time::Instant};

use icecore_diskio::IfExists;
use icecore_streamhash::{Algorithm, Options, Path, SortedBuilder, UnsortedBuilder};

type Keys = Vec<[u8; 16]>;

/// Uniform keys in no order.
fn shuffled_keys(count: usize) -> Keys {
    let mut state = 1u64;
    let mut next = || {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (state ^ state >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ z >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ z >> 31
    };
    (0..count).map(|_| (u128::from(next()) << 64 | u128::from(next())).to_le_bytes()).collect()
}

/// Seconds for which this thread has had a processor, where the system tells: what others run does not count.
fn own_seconds() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    Some(stat.split(' ').next()?.parse::<f64>().ok()? / 1e9)
}

/// Seconds that a build takes, the file included: all of them, and those of this thread. And the file's bytes.
fn build(
    path: &path::Path,
    keys: &Keys,
    sorted: bool,
    options: Options,
) -> icecore_streamhash::Result<([f64; 2], u64)> {
    let (start, own) = (Instant::now(), own_seconds());
    macro_rules! build {
        ($builder:ident) => {{
            let mut builder = $builder::create(path, keys.len() as u64, options)?;
            for (payload, key) in (0u64..).zip(keys) {
                builder.add(key, payload % 10_000_000)?;
            }
            builder.finish()?.file_bytes
        }};
    }
    let file_bytes = if sorted { build!(SortedBuilder) } else { build!(UnsortedBuilder) };
    let elapsed = start.elapsed().as_secs_f64();
    Ok(([elapsed, own_seconds().zip(own).map_or(elapsed, |(end, start)| end - start)], file_bytes))
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let dir = tempfile::tempdir_in(arguments.next().unwrap_or_else(|| ".".to_owned()))?;
    let millions: usize = arguments.next().map_or(Ok(10), |millions| millions.parse())?;
    let path = dir.path().join("index");
    let only = arguments.next().unwrap_or_default();
    let repeats: u32 = arguments.next().map_or(Ok(8), |repeats| repeats.parse())?;
    let mut common = Options::new().payload_bytes(3).fingerprint_bytes(1).max_payload(9_999_999);
    if let Some(megabytes) = arguments.next() {
        common = common.memory_bytes(megabytes.parse::<usize>()? << 20);
    }
    let mut keys = shuffled_keys(millions * 1_000_000);
    for order in ["shuffled", "sorted"] {
        let sorted = order == "sorted";
        if sorted {
            keys.sort_unstable();
        }
        for (algorithm, workers) in
            Algorithm::ALL.into_iter().flat_map(|algorithm| [(algorithm, 1), (algorithm, 2)])
        {
            for instructions in Path::all() {
                let what = format!("{algorithm}, {order}, {workers} workers, {instructions:?}");
                if !what.contains(&only) {
                    continue;
                }
                let options = common.clone().algorithm(algorithm).workers(workers);
                let options = options.if_exists(IfExists::Replace).path(instructions);
                let (mut best, mut file_bytes) = ([f64::INFINITY; 2], 0);
                for _ in 0..repeats {
                    let (seconds, bytes) = build(&path, &keys, sorted, options.clone())?;
                    file_bytes = bytes;
                    best = [best[0].min(seconds[0]), best[1].min(seconds[1])];
                }
                let [rate, own] = best.map(|seconds| keys.len() as f64 / seconds / 1e6);
                let bits = 8.0 * file_bytes as f64 / keys.len() as f64;
                println!(
                    "{what}: {rate:.1} M keys/s, {own:.1} M keys per second of the calling thread, {bits:.2} bits/key"
                );
            }
        }
    }
    Ok(())
}
