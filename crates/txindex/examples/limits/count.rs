//! What a finished file says about the work that its build had to do; decoded plainly, from the bytes.

use std::{cmp::Reverse, ops::Range, path::Path};

use icecore_streamhash::{Index, Options};

use crate::{Any, Key, words};

/// A file in memory, and which keys and bytes are each block's.
pub(crate) struct Built {
    pub(crate) index: Index<Vec<u8>>,
    pub(crate) blocks: Vec<Block>,
}

pub(crate) struct Block {
    pub(crate) keys: Range<usize>,
    blob: Range<usize>,
}

/// Tries, for each key of the file: those that there must be, and the same in whole vectors of eight.
#[derive(Clone, Copy, Default)]
pub(crate) struct Tries {
    pub(crate) exact: f64,
    pub(crate) whole: f64,
}

impl Tries {
    /// A bucket's keys tried with all seeds up to this one.
    fn add(&mut self, keys: usize, seed: u64) {
        self.exact += ((seed + 1) * keys as u64) as f64;
        self.whole += ((seed / 8 + 1) * 8 * keys as u64) as f64;
    }

    fn each(self, keys: usize) -> Self {
        Tries { exact: self.exact / keys as f64, whole: self.whole / keys as f64 }
    }
}

impl Built {
    pub(crate) fn read(path: &Path) -> Any<Self> {
        let index = Index::from_source(std::fs::read(path)?)?;
        let (layout, bytes) = (index.layout(), index.source());
        let u40 =
            |at: usize| bytes[at..at + 5].iter().rev().fold(0, |word, &byte| word << 8 | usize::from(byte));
        let ends = |block: usize| {
            let at = layout.table_at as usize + 10 * block;
            (u40(at), layout.metadata_at as usize + u40(at + 5))
        };
        let block = |block| {
            let ((key, blob), (keys_end, blob_end)) = (ends(block), ends(block + 1));
            Block { keys: key..keys_end, blob: blob..blob_end }
        };
        let blocks = (0..index.header().blocks as usize).map(block).collect();
        Ok(Built { index, blocks })
    }

    fn blob(&self, block: &Block) -> &[u8] {
        &self.index.source()[block.blob.clone()]
    }

    /// Mixes that finding the seeds of a Bijection takes.
    pub(crate) fn seeds(&self) -> Any<Tries> {
        let mut tries = Tries::default();
        for block in &self.blocks {
            seeds_of(block.keys.len(), self.blob(block), &mut tries)?;
        }
        Ok(tries.each(self.index.header().keys as usize))
    }

    /// Slots to be looked at for the pilots of a PTRHash, were each the first one tried that fits.
    pub(crate) fn pilots(&self, keys: &[Key]) -> Tries {
        let mut tries = Tries::default();
        for block in &self.blocks {
            let mut sizes = vec![0; PTRHASH_BUCKETS];
            for key in &keys[block.keys.clone()] {
                sizes[ptrhash_bucket(words(key)[1])] += 1;
            }
            for (size, &pilot) in sizes.into_iter().zip(self.blob(block)) {
                tries.add(size, pilot.into());
            }
        }
        tries.each(keys.len())
    }

    /// Rows that a key's equation meets in the first layer of a Compact, in some blocks.
    pub(crate) fn steps(&self, keys: &[Key]) -> f64 {
        let (mut steps, mut entered) = (0, 0);
        for block in self.blocks.iter().take(8).filter(|block| block.keys.len() >= 200) {
            let rows = (block.keys.len() * 20).div_ceil(21);
            let (starts, thresholds) = ((rows - 63) as u64, self.blob(block));
            let window = |key: &Key| {
                let [k0, k1] = words(key);
                let hash =
                    fold(k0 ^ Options::DEFAULT_SEED ^ 0x243F_6A88_85A3_08D3, k1 ^ 0x8BB8_4B93_962E_ACC9);
                let coefficients = fold(hash ^ k1, k0 ^ 0x4B33_A62E_D433_D4A3) | 1;
                let start = high(hash, starts) as usize;
                (start / 200, Reverse(start), coefficients)
            };
            let mut windows: Vec<_> = keys[block.keys.clone()].iter().map(window).collect();
            windows.retain(|&(bucket, Reverse(start), _)| start % 200 >= usize::from(thresholds[bucket]));
            windows.sort_unstable();
            entered += windows.len();
            let mut equations = vec![0; rows];
            for (_, Reverse(mut row), mut coefficients) in windows {
                steps += 1;
                while equations[row] != 0 && coefficients != equations[row] {
                    coefficients ^= equations[row];
                    row += coefficients.trailing_zeros() as usize;
                    coefficients >>= coefficients.trailing_zeros();
                    steps += 1;
                }
                equations[row] = coefficients;
            }
        }
        steps as f64 / f64::from(u32::try_from(entered).unwrap_or(u32::MAX).max(1))
    }
}

pub(crate) fn high(a: u64, b: u64) -> u64 {
    ((u128::from(a) * u128::from(b)) >> 64) as u64
}

pub(crate) fn fold(a: u64, b: u64) -> u64 {
    high(a, b) ^ a.wrapping_mul(b)
}

const PTRHASH_BUCKETS: usize = 10_000;

fn ptrhash_bucket(k1: u64) -> usize {
    let cube = high(high(k1, k1), k1 >> 1 | 1 << 63);
    high((cube / 256).wrapping_mul(255).wrapping_add(k1 / 256), PTRHASH_BUCKETS as u64) as usize
}

/// Bits, the lowest of each byte first.
struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Bits<'_> {
    fn next(&mut self) -> bool {
        self.at += 1;
        self.bytes[(self.at - 1) / 8] >> ((self.at - 1) % 8) & 1 != 0
    }

    fn number(&mut self, bits: usize) -> u64 {
        (0..bits).fold(0, |number, bit| number | u64::from(self.next()) << bit)
    }
}

fn seeds_of(keys: usize, blob: &[u8], tries: &mut Tries) -> Any {
    const BUCKETS: usize = 1024;
    const RICE_BITS: [usize; 9] = [0, 0, 1, 2, 3, 4, 5, 7, 8];
    if keys == 0 {
        return Ok(());
    }
    let low_bits = (keys / BUCKETS).checked_ilog2().unwrap_or(0) as usize;
    let totals = &blob[28..];
    let (mut low, mut high) = (Bits { bytes: totals, at: 0 }, Bits { bytes: totals, at: BUCKETS * low_bits });
    let stream_at = (BUCKETS * low_bits + BUCKETS + (keys >> low_bits)).div_ceil(8);
    let mut stream = Bits { bytes: &totals[stream_at..], at: 0 };
    // The list at the end, found by its two counts.
    let is_list =
        |list: &&[u8]| list.len() == 2 + 4 * usize::from(list[0]) && list.last() == Some(&(list[0] ^ 0x55));
    let ends = (2..=1022.min(totals.len() - stream_at)).map(|len| &totals[totals.len() - len..]);
    let list = ends.into_iter().find(is_list).ok_or("a block without its list")?;
    let mut listed = list[1..].as_chunks::<4>().0.iter();
    let (mut total, mut gap) = (0, 0);
    for _ in 0..BUCKETS {
        while !high.next() {
            gap += 1;
        }
        let size = (gap << low_bits | low.number(low_bits) as usize) - total;
        total += size;
        // How many keys each seed tells apart, and how many are mixed with it.
        let seeds = if size < 8 {
            [(size, size), (0, 0)]
        } else {
            [(size / 2, size), (size.div_ceil(2), size.div_ceil(2))]
        };
        for (apart, mixed) in seeds.into_iter().filter(|(apart, _)| *apart > 1) {
            let ones = (0..16).take_while(|_| stream.next()).count();
            let bits = RICE_BITS[apart.min(8)];
            let seed = match ones {
                16 => u64::from(
                    u32::from_le_bytes(*listed.next().ok_or("a listed seed is missing")?) & 0x1F_FFFF,
                ),
                _ => (ones as u64) << bits | stream.number(bits),
            };
            tries.add(mixed, seed);
        }
    }
    if total == keys { Ok(()) } else { Err("a block was decoded wrong".into()) }
}
