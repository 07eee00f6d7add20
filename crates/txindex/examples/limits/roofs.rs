//! What the machine does at most of each kind of work, when it does nothing else.

use std::{
    fs::File,
    hint::black_box,
    io::{Read, Write},
    path::Path,
    time::Instant,
};

use icecore_testkit::SplitMix64;
use xxhash_rust::xxh64::xxh64;

use crate::{Any, lanes};

const ROUNDS: usize = 200;
/// Of equations, so that they stay near.
const ROWS: usize = 1024;
const FILE_ROUNDS: usize = 5;
const FILE_BYTES: usize = 64 << 20;
const PIECE_BYTES: usize = 256 << 10;
/// Nearer than memory; and not.
const NEAR_BYTES: usize = 128 << 10;
const FAR_BYTES: usize = 64 << 20;

/// Nanoseconds for one of each kind; of bytes, for one byte. `None` where the processor has no such instructions.
pub(crate) struct Roofs {
    pub(crate) mix_512: Option<f64>,
    pub(crate) mix_256: Option<f64>,
    pub(crate) mix: f64,
    pub(crate) pilot: Option<f64>,
    pub(crate) rotated_word: Option<f64>,
    pub(crate) lap: Option<f64>,
    pub(crate) row: Option<f64>,
    pub(crate) step: f64,
    pub(crate) counter: f64,
    pub(crate) store: f64,
    pub(crate) copy_near: f64,
    pub(crate) copy_far: f64,
    pub(crate) hash: f64,
    pub(crate) read: f64,
    pub(crate) write: f64,
}

/// Nanoseconds for each of the things whose number `run` returns, in the best of some rounds.
pub(crate) fn nanoseconds(rounds: usize, mut run: impl FnMut() -> usize) -> f64 {
    let round = |_| {
        let start = Instant::now();
        let count = run();
        start.elapsed().as_secs_f64() * 1e9 / count as f64
    };
    (0..rounds).map(round).fold(f64::INFINITY, f64::min)
}

fn in_lanes(mut run: impl FnMut() -> Option<usize>) -> Option<f64> {
    run()?;
    Some(nanoseconds(ROUNDS, || run().unwrap_or(0)))
}

impl Roofs {
    pub(crate) fn measure(dir: &Path) -> Any<Self> {
        let mut rng = SplitMix64::new(5);
        let mut words = |count: usize| (0..count).map(|_| rng.next_u64()).collect::<Vec<_>>();
        let keys: Vec<[u64; 4]> = words(4 * 64).as_chunks().0.to_vec();
        let (folds, hashes) = (words(64), words(32));
        let taken = Box::new([1; 1 << 15]);
        let layouts = words(512);
        let columns = [words(8), words(8)].map(|words| *words.first_chunk().unwrap_or(&[0; 8]));
        let equations: Vec<[u64; 2]> = words(2 * ROWS).as_chunks().0.to_vec();
        let places: Vec<usize> = words(4096).iter().map(|word| *word as usize).collect();
        let mut counters = Box::new([0u32; 1024]);
        let mut slots = vec![[0u8; 4]; 3072];
        let [near, far] = [NEAR_BYTES, FAR_BYTES].map(|bytes| (vec![1u8; bytes], vec![2u8; bytes]));
        let copy = |(from, mut to): (Vec<u8>, Vec<u8>), rounds| {
            nanoseconds(rounds, || {
                to.copy_from_slice(black_box(&from));
                black_box(&mut to).len()
            })
        };
        let (read, write) = page_cache(dir)?;
        Ok(Roofs {
            mix_512: in_lanes(|| lanes::mix_512(black_box(&keys))),
            mix_256: in_lanes(|| lanes::mix_256(black_box(&keys))),
            mix: nanoseconds(ROUNDS, || mixes(black_box(&keys))),
            pilot: in_lanes(|| lanes::pilots(black_box(&folds), hashes.as_chunks().0, &taken)),
            rotated_word: in_lanes(|| lanes::rotated_words(black_box(&layouts), columns)),
            lap: in_lanes(|| lanes::laps(4096)),
            row: in_lanes(|| lanes::back_substitution(black_box(&equations))),
            step: nanoseconds(ROUNDS, || elimination(black_box(&equations))),
            counter: nanoseconds(ROUNDS, || {
                places.iter().for_each(|place| counters[place % 1024] += 1);
                black_box(&counters);
                places.len()
            }),
            store: nanoseconds(ROUNDS, || {
                let len = slots.len() as u64;
                for &place in &places {
                    slots[(((place as u64 >> 32) * len) >> 32) as usize] = (place as u32).to_le_bytes();
                }
                black_box(&slots);
                places.len()
            }),
            copy_near: copy(near, ROUNDS),
            copy_far: copy(far, FILE_ROUNDS),
            hash: nanoseconds(ROUNDS, || {
                black_box(xxh64(black_box(&[7; 12 << 10]), 0));
                12 << 10
            }),
            read,
            write,
        })
    }
}

/// Whole mixes with consecutive seeds, in plain arithmetic.
fn mixes(keys: &[[u64; 4]]) -> usize {
    let mut any = 0;
    for &[a, b, ..] in keys {
        for seed in 0..64 {
            let product = u128::from(a ^ seed) * u128::from(b);
            let mix = (product >> 64) as u64 ^ product as u64;
            any |= (u128::from(mix) * 5) >> 64;
        }
    }
    black_box(any);
    keys.len() * 64
}

/// Steps of an equation from row to row: each tells where the next one is.
fn elimination(equations: &[[u64; 2]]) -> usize {
    let (mut row, mut coefficients, mut value) = (0, 1, 0);
    let Some(equations) = equations.first_chunk::<ROWS>() else { return 0 };
    for _ in 0..4096 {
        let there = &equations[row % ROWS];
        coefficients ^= there[0] | 1;
        value ^= there[1];
        let skipped = (coefficients | 1 << 63).trailing_zeros();
        coefficients = coefficients >> skipped | 1;
        row += skipped as usize;
    }
    black_box((coefficients, value));
    4096
}

/// Nanoseconds to read a byte that the system holds, and to write one of a new file.
fn page_cache(dir: &Path) -> Any<(f64, f64)> {
    let (path, mut piece) = (dir.join("roof"), vec![1; PIECE_BYTES]);
    let (mut read, mut write) = (f64::INFINITY, f64::INFINITY);
    for _ in 0..FILE_ROUNDS {
        let mut file = File::create(&path)?;
        let start = Instant::now();
        for _ in 0..FILE_BYTES / PIECE_BYTES {
            file.write_all(&piece)?;
        }
        write = start.elapsed().as_secs_f64().min(write);
        let (mut file, start) = (File::open(&path)?, Instant::now());
        for _ in 0..FILE_BYTES / PIECE_BYTES {
            file.read_exact(&mut piece)?;
        }
        read = start.elapsed().as_secs_f64().min(read);
        std::fs::remove_file(&path)?;
    }
    Ok((read * 1e9 / FILE_BYTES as f64, write * 1e9 / FILE_BYTES as f64))
}
