//! Builds, taken apart from outside: time is that of the processor, so that neither what others run counts nor waiting
//! for a device.

use std::{
    ops::{ControlFlow, Range},
    path::{Path, PathBuf},
    sync::Arc,
};

use icecore_diskio::{Disk, IfExists, RealDisk};
use icecore_ledger::{LedgerRange, LedgerSeq};
use icecore_streamhash::{Algorithm, Options, Path as Instructions, SortedBuilder, UnsortedBuilder};
use icecore_txindex as txindex;
use rustix::time::{ClockId, clock_gettime};

use crate::{
    Any, Key,
    count::{Block, Built, fold, high},
    words,
};

const SEED: u64 = Options::DEFAULT_SEED;
const MAX_PAYLOAD: u64 = 9_999_999;
/// One in so many blocks is looked at closely: asking for the time takes time.
const SAMPLE: usize = 8;
const FIRST_LEDGER: u32 = 2;

/// Nanoseconds for which this process had a processor.
fn processor() -> u64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    (time.tv_sec * 1_000_000_000 + time.tv_nsec).cast_unsigned()
}

/// A build's nanoseconds, in all and by parts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Parts {
    pub(crate) total: f64,
    /// Taking keys in.
    pub(crate) intake: f64,
}

impl Parts {
    pub(crate) const NONE: Self = Parts { total: f64::INFINITY, intake: 0.0 };

    pub(crate) fn least(self, other: Self) -> Self {
        if other.total < self.total { other } else { self }
    }

    pub(crate) fn each(self, keys: usize) -> Self {
        Parts { total: self.total / keys as f64, intake: self.intake / keys as f64 }
    }

    /// All but taking keys in.
    pub(crate) fn rest(&self) -> f64 {
        self.total - self.intake
    }
}

/// What is built, and how.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) algorithm: Algorithm,
    pub(crate) instructions: Instructions,
    /// Whether anything is kept for the keys.
    pub(crate) kept: bool,
}

impl Plan {
    fn options(&self) -> Options {
        let options =
            Options::new().algorithm(self.algorithm).path(self.instructions).if_exists(IfExists::Replace);
        let (payload, fingerprint) = if self.kept { (3, 1) } else { (0, 0) };
        options.payload_bytes(payload).fingerprint_bytes(fingerprint).max_payload(MAX_PAYLOAD)
    }

    fn payload(&self, number: usize) -> u64 {
        if self.kept { number as u64 % (MAX_PAYLOAD + 1) } else { 0 }
    }

    /// The file, in memory.
    pub(crate) fn file(&self, path: &Path, keys: &[Key]) -> Any<Built> {
        let mut builder = SortedBuilder::create(path, keys.len() as u64, self.options())?;
        for (number, key) in keys.iter().enumerate() {
            builder.add(key, self.payload(number))?;
        }
        builder.finish()?;
        Built::read(path)
    }

    /// Builds out of sorted keys. A block is solved and written when the first key of the next one comes.
    pub(crate) fn sorted(&self, path: &Path, keys: &[Key], blocks: &[Block]) -> Any<Parts> {
        let (begin, mut intake, mut sampled) = (processor(), 0, 0);
        let mut builder = SortedBuilder::create(path, keys.len() as u64, self.options())?;
        for (nth, block) in blocks.iter().filter(|block| !block.keys.is_empty()).enumerate() {
            let Range { start, end } = block.keys;
            builder.add(&keys[start], self.payload(start))?;
            let is_sample = nth % SAMPLE == 0;
            let after = if is_sample { processor() } else { 0 };
            for (number, key) in (start + 1..).zip(&keys[start + 1..end]) {
                builder.add(key, self.payload(number))?;
            }
            if is_sample {
                intake += processor() - after;
                sampled += end - start;
            }
        }
        builder.finish()?;
        let total = (processor() - begin) as f64;
        let intake = intake as f64 * keys.len() as f64 / sampled as f64;
        Ok(Parts { total, intake })
    }

    /// Builds out of keys in no order.
    pub(crate) fn unsorted(&self, path: &Path, keys: &[Key]) -> Any<Parts> {
        let begin = processor();
        let mut builder = UnsortedBuilder::create(path, keys.len() as u64, self.options())?;
        for (number, key) in keys.iter().enumerate() {
            builder.add(key, self.payload(number))?;
        }
        builder.finish()?;
        Ok(Parts { total: (processor() - begin) as f64, ..Parts::NONE })
    }
}

/// Writes sorted runs of a million keys each.
pub(crate) fn write_runs(dir: &Path, keys: &[Key]) -> Any<Vec<PathBuf>> {
    let runs = keys.len().div_ceil(1_000_000);
    let write = |run: usize| {
        let mut bytes = (keys[run..].len().div_ceil(runs) as u64).to_le_bytes().to_vec();
        for (number, key) in keys.iter().enumerate().skip(run).step_by(runs) {
            bytes.extend_from_slice(key);
            bytes.extend_from_slice(&(FIRST_LEDGER + number as u32 % 1_000_000).to_le_bytes());
        }
        let path = dir.join(format!("{run:08}.bin"));
        std::fs::write(&path, bytes)?;
        Ok(path)
    };
    (0..runs).map(write).collect()
}

pub(crate) fn rebuild(path: &Path, runs: &[PathBuf]) -> Any<Parts> {
    let coverage = LedgerRange { first: LedgerSeq(FIRST_LEDGER), last: LedgerSeq(FIRST_LEDGER + 999_999) };
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let options = txindex::Options::new().if_exists(IfExists::Replace);
    let begin = processor();
    txindex::build_index_with(&disk, path, coverage, runs, options, |_| ControlFlow::Continue(()))?;
    Ok(Parts { total: (processor() - begin) as f64, ..Parts::NONE })
}

/// The same keys but for their second halves, which are drawn such that the first seed of each bucket of a Bijection fits
/// (of a split bucket's second half the second seed: the first one cannot).
pub(crate) fn lucky_seeds(keys: &[Key], blocks: &[Block], mut draw: impl FnMut() -> u64) -> Vec<Key> {
    let mut lucky = keys.to_vec();
    for block in blocks {
        let mut order: Vec<usize> = block.keys.clone().collect();
        order.sort_unstable_by_key(|&number| words(&keys[number])[0] >> 54);
        for bucket in order.chunk_by(|&a, &b| words(&keys[a])[0] >> 54 == words(&keys[b])[0] >> 54) {
            let size = bucket.len();
            let first = if size < 8 { size } else { size / 2 };
            let mut taken = [0u64; 2];
            for (nth, &number) in bucket.iter().enumerate() {
                let [k0, k1] = loop {
                    let [k0, k1] = [words(&keys[number])[0], draw()];
                    let place = |seed: u64, size: usize| {
                        high(fold(k0 ^ SEED ^ seed, k1 ^ SEED), size as u64) as usize
                    };
                    let (half, at) = match nth < first {
                        true => (0, place(0, size)),
                        false if place(0, size) < first => continue,
                        false => (1, place(1, size - first)),
                    };
                    if (half == 1 || at < first) && taken[half] >> at & 1 == 0 {
                        taken[half] |= 1 << at;
                        break [k0, k1];
                    }
                };
                lucky[number][..8].copy_from_slice(&k0.to_le_bytes());
                lucky[number][8..].copy_from_slice(&k1.to_le_bytes());
            }
        }
    }
    lucky
}

/// The same keys but for four bytes, which are drawn such that the first pilot of each bucket of a PTRHash fits.
pub(crate) fn lucky_pilots(keys: &[Key], blocks: &[Block], mut draw: impl FnMut() -> u64) -> Vec<Key> {
    let mut lucky = keys.to_vec();
    let hash = {
        let x = SEED.wrapping_mul(0x517C_C1B7_2722_0A95);
        let x = (x ^ x >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let x = (x ^ x >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        (x ^ x >> 31) | 1
    };
    let block_of = |k0: u64| high(k0.swap_bytes(), blocks.len() as u64);
    for block in blocks {
        let slots = (block.keys.len() as f64 / 0.99).ceil() as usize;
        let mut taken = vec![false; slots];
        for number in block.keys.clone() {
            let [k0, k1] = words(&keys[number]);
            loop {
                let other = k0 & u64::from(u32::MAX) | draw() << 32;
                let both = other ^ k1;
                let slot = high((both ^ both >> 32).wrapping_mul(hash), slots as u64) as usize;
                if !taken[slot] && block_of(other) == block_of(k0) {
                    taken[slot] = true;
                    lucky[number][..8].copy_from_slice(&other.to_le_bytes());
                    break;
                }
            }
        }
    }
    lucky
}
