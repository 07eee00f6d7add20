//! Bijection: 1024 buckets to a block, three keys to a bucket, each bucket's keys told apart by a seed of its own.
//!
//! ```text
//! bucket   = the top ten bits of k0; its keys take the slots [start, start + size)
//! size 2..=7   the smallest seed for which mix(key, seed, size) is a bijection
//! size >= 8    seed0 puts exactly p = size/2 keys into p different places below p; seed1 does the rest
//!
//! blob
//! 0        7 × u16  checkpoint of bucket 128, 256 … 896: bit offset into the Elias-Fano high bits
//! 14       7 × u16  … and into the seed stream
//! 28       Elias-Fano of the running totals after each bucket: 1024 × low_bits low bits, then
//!          for each bucket (total >> low_bits) - (the one before's) zeros and a one
//! …        seeds, Golomb-Rice: seed >> k ones, a zero, k low bits; sixteen ones stand for a seed of the list below
//! end      u8 count, count × u32 (21 bits seed, 1 bit second half, 10 bits bucket), u8 count ^ 0x55
//!
//! A block without keys is 28 zeros, 1024 one-bits and a zero.
//! ```
//!
//! Crafted keys: a block is given up as soon as more seeds are known to have no code than the list has room for, so that
//! at most 255 small buckets are searched to the end (2^21 seeds of at most 8 keys); large ones try at most 2^20 and 2^21
//! seeds, on all and on half of their keys. Whatever the keys, that is less than 2^34 mixes a block; the worst found take 2^31.

mod bits;
mod columns;
mod decode;
mod encode;
mod lanes;
mod search;
mod solve;

pub(crate) use decode::{Asked, Checkpoints, Decoder, check, checkpoints};
pub(crate) use solve::Solver;

use crate::{algorithm::Damage, key::fast_range};

pub(crate) const KEYS_PER_BUCKET: f64 = 3.0;
pub(crate) const BUCKETS: usize = 1024;

/// Buckets from this size on are split in two.
const SPLIT: usize = 8;
/// The largest (sub-)bucket whose seed may stand in the stream.
const MAX_CODED: usize = 8;
/// Ones at the beginning of a code that say that the seed is in the list.
const MARKER_ONES: u32 = 16;

const CHECKPOINTS: usize = 7;
const BUCKETS_PER_CHECKPOINT: usize = 128;
const CHECKPOINT_BYTES: usize = CHECKPOINTS * 4;
const _: () = assert!((CHECKPOINTS + 1) * BUCKETS_PER_CHECKPOINT == BUCKETS && CHECKPOINT_BYTES == 28);

/// The blob of a block without keys.
const EMPTY: [u8; CHECKPOINT_BYTES + BUCKETS / 8 + 1] = {
    let mut blob = [0; CHECKPOINT_BYTES + BUCKETS / 8 + 1];
    let (_, totals) = blob.split_at_mut(CHECKPOINT_BYTES);
    let (totals, _) = totals.split_at_mut(BUCKETS / 8);
    let mut i = 0;
    while i < totals.len() {
        totals[i] = 0xFF;
        i += 1;
    }
    blob
};

const LISTED_SEED_BITS: u32 = 21;
const LISTED_MAX: usize = 255;
/// Xored into the list's count to give its last byte.
const LIST_CHECK: u8 = 0x55;

/// The bucket of a key: `fast_range(k0, 1024)`.
#[inline]
fn bucket_of(k0: u64) -> usize {
    (k0 >> (u64::BITS - BUCKETS.ilog2())) as usize
}

/// No block's blob is longer.
const MAX_BLOB_BYTES: u64 = 1 << 14;

/// No block that is not overfull has as many keys: an average of 3072, and seven times its root.
const TOO_MANY_KEYS: u32 = 4096;
const _: () = assert!(BUCKETS as u32 * 3 + 7 * 56 < TOO_MANY_KEYS && 56 * 56 > BUCKETS * 3);

/// The longest code of a seed: its quotient, a zero and the rest.
const MAX_CODE_BITS: usize = (MARKER_ONES - 1 + 1 + RICE_BITS[MAX_CODED]) as usize;
const _: () = {
    let totals_bits = BUCKETS + BUCKETS + TOO_MANY_KEYS as usize;
    let stream_bits = BUCKETS * 2 * MAX_CODE_BITS;
    let list_bytes = 1 + LISTED_MAX * 4 + 1;
    assert!((CHECKPOINT_BYTES + (totals_bits + stream_bits) / 8 + 2 + list_bytes) as u64 <= MAX_BLOB_BYTES);
};

/// Checks a blob's length as far as it is known without looking into it.
pub(crate) fn check_len(blob_bytes: u64) -> Result<(), Damage> {
    if blob_bytes <= MAX_BLOB_BYTES {
        Ok(())
    } else {
        Err(Damage("a block's metadata is longer than that of any block"))
    }
}

/// How many low bits of a running total are kept apart, in a block of `keys` keys.
fn low_bits(keys: u32) -> u32 {
    (keys / BUCKETS as u32).checked_ilog2().unwrap_or(0)
}

/// Elias-Fano's length in bytes.
fn totals_bytes(keys: u32) -> usize {
    let low_bits = low_bits(keys);
    (BUCKETS * low_bits as usize + BUCKETS + (keys >> low_bits) as usize).div_ceil(8)
}

/// The Golomb-Rice parameters of seeds, by the number of keys.
const RICE_BITS: [u32; MAX_CODED + 1] = [0, 0, 1, 2, 3, 4, 5, 7, 8];

/// The Golomb-Rice parameter of a seed for `size` keys, at least 2.
#[inline]
fn rice_bits(size: usize) -> u32 {
    RICE_BITS[size.min(MAX_CODED)]
}

/// The place of a key among `size`; `a` and `b` are its words, already mixed with the global seed.
#[inline(always)]
fn mix(a: u64, b: u64, seed: u32, size: u32) -> u32 {
    let product = u128::from(a ^ u64::from(seed)) * u128::from(b);
    fast_range((product >> 64) as u64 ^ product as u64, size)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bucket_is_the_fast_range_of_k0() {
        for k0 in [0, 1, u64::MAX, 1 << 54, (1 << 54) - 1, 0x8000_0000_0000_0000, 0x1234_5678_9ABC_DEF0] {
            assert_eq!(bucket_of(k0), fast_range(k0, BUCKETS as u32) as usize);
        }
    }

    #[test]
    fn low_bits_follow_the_universe() {
        for (keys, bits) in
            [(0, 0), (1, 0), (1024, 0), (1025, 0), (2047, 0), (2048, 1), (4095, 1), (4096, 2), (65535, 5)]
        {
            assert_eq!(low_bits(keys), bits, "{keys}");
        }
        assert_eq!(totals_bytes(0), 128);
        assert_eq!(totals_bytes(3000), (1024 + 1024 + 1500usize).div_ceil(8));
    }
}
