//! From a checkpoint that is kept in memory: no more than three codes are before the key's bucket in one word of the seed
//! stream, and every step is taken whether there is a code for it or not. Nothing usual is branched on, so that the misses
//! of many lookups overlap.

use std::arch::x86_64::*;

use super::{Place, WORD_BITS, finish, turned};
use crate::{
    bijection::{
        CHECKPOINT_BYTES, MARKER_ONES, RICE_BITS, SPLIT,
        bits::peek,
        bucket_of,
        decode::{Asked, BUCKETS_PER_KEPT, BUCKETS_PER_PART, Checkpoint},
        low_bits, mix, rice_bits, totals_bytes,
    },
    key::Key,
};

/// A byte for each size below eight.
const RICE: u64 = {
    let mut bytes = [0; SPLIT];
    let mut size = 2;
    while size < SPLIT {
        bytes[size] = RICE_BITS[size] as u8;
        size += 1;
    }
    u64::from_le_bytes(bytes)
};

/// The bits of a code after its ones: 0 for none.
const CODE_BITS: u64 = RICE + 0x0101_0101_0101_0000;

/// As [`super::slot`].
#[target_feature(enable = "bmi1,bmi2,lzcnt,popcnt")]
pub(super) fn slot(blob: &[u8], keys: u32, kept: &Checkpoint, key: Key, seed: u64) -> Option<Option<u32>> {
    const { assert!(BUCKETS_PER_KEPT == 16 && BUCKETS_PER_PART == 4 && SPLIT == 8) };
    // So that it is known how long the totals are.
    if low_bits(keys) != 1 {
        return None;
    }
    let bucket = bucket_of(key.k0);
    let (rank, left) = (bucket % BUCKETS_PER_KEPT, bucket % BUCKETS_PER_PART);
    let (bit, sizes) = kept.part(bucket)?;
    let bit = (CHECKPOINT_BYTES + totals_bytes(keys)) * 8 + bit;
    let mut word = turned(blob, bit)?;
    let start = u32::from(kept.total) + sum(_bzhi_u64(sizes, 4 * rank as u32));
    let size = (sizes >> (4 * rank)) as u32 & 15;
    let before = _bzhi_u64(sizes >> (4 * (rank - left)), 4 * left as u32) as u32;
    let mut all_ones = 0;
    for i in 0..BUCKETS_PER_PART - 1 {
        let size = before >> (4 * i) & 7;
        let ones = if size >= 2 { word.trailing_zeros() } else { 0 };
        word = word.wrapping_shr((CODE_BITS >> (8 * size)) as u32).wrapping_shr(ones);
        all_ones |= ones;
    }
    let quotient = word.trailing_zeros();
    word = word.wrapping_shr(quotient);
    // What is left of the word, which ended in a one, has all of the longest rest.
    let cut = word >> (u64::BITS - WORD_BITS + RICE_BITS[SPLIT - 1] + 1) == 0;
    if (before | size) & 0x888 != 0 || all_ones | quotient >= MARKER_ONES || cut {
        return slowly(blob, keys, key, seed, Place { start, size, bit }, before);
    }
    if size == 0 {
        return Some(None);
    }
    let k = (RICE >> (8 * size)) as u32 & 0xFF;
    let low = _bzhi_u64(!word >> 1, k) as u32;
    let slot = start + mix(key.k0 ^ seed, key.k1 ^ seed, quotient << k | low, size);
    Some((slot < keys).then_some(slot))
}

/// The sum of sixteen numbers of four bits.
#[inline(always)]
fn sum(numbers: u64) -> u32 {
    const EVEN: u64 = 0x0F0F_0F0F_0F0F_0F0F;
    let pairs = (numbers & EVEN) + (numbers >> 4 & EVEN);
    (pairs.wrapping_mul(0x0101_0101_0101_0101) >> 56) as u32
}

/// The same from a place before three buckets: they and the key's may be large, and have long codes or markers.
#[cold]
#[inline(never)]
#[target_feature(enable = "bmi1,bmi2")]
fn slowly(blob: &[u8], keys: u32, key: Key, seed: u64, place: Place, before: u32) -> Option<Option<u32>> {
    let mut bit = place.bit;
    for i in 0..BUCKETS_PER_PART - 1 {
        let size = (before >> (4 * i) & 15) as usize;
        let halves = match size {
            0 | 1 => [0, 0],
            2..SPLIT => [size, 0],
            _ => [size / 2, size - size / 2],
        };
        for size in halves.into_iter().filter(|size| *size > 0) {
            bit += match peek(blob, bit).trailing_ones() {
                MARKER_ONES.. => MARKER_ONES as usize,
                ones => (ones + 1 + rice_bits(size)) as usize,
            };
        }
    }
    finish(&Asked { blob, keys, kept: None, key }, seed, Place { bit, ..place })
}
