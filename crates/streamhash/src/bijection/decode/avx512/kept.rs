//! From a checkpoint that is kept in memory: the key's bucket, the one before it where that is of the same part, and
//! their codes are in one word of high bits and one of the stream, and every step is taken whether there is a code for it
//! or not. Nothing usual is branched on, so that the misses of many lookups overlap.

use std::arch::x86_64::*;

use super::{Blob, HIGH_AT, Place, WORD_BITS, bits, finish};
use crate::{
    bijection::{
        CHECKPOINT_BYTES, MARKER_ONES, RICE_BITS, SPLIT,
        bits::peek,
        bucket_of,
        decode::{Asked, BUCKETS_PER_KEPT, BUCKETS_PER_PART, Checkpoint},
        mix, rice_bits,
    },
    key::Key,
};

const _: () = assert!(BUCKETS_PER_KEPT == 16 && BUCKETS_PER_PART == 2);

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

// Two codes are in a word, if none is a marker.
const _: () = assert!(2 * (MARKER_ONES + RICE_BITS[SPLIT - 1]) <= WORD_BITS);

/// As [`super::slot`].
#[target_feature(enable = "bmi1,bmi2,lzcnt,popcnt")]
pub(super) fn slot(blob: &[u8], keys: u32, kept: &Checkpoint, key: Key, seed: u64) -> Option<Option<u32>> {
    let parts = Blob::new(blob, keys)?;
    let bucket = bucket_of(key.k0);
    let (rank, odd) = (bucket % BUCKETS_PER_KEPT, bucket % BUCKETS_PER_PART);
    let bit = parts.stream_at + kept.stream_bit(bucket)?;
    // Turned over, so that the ones of a quotient are trailing zeros.
    let word = !bits(blob, bit)?;
    // A one stands before each bucket and after the last: the word has all but the first, and is given one before that.
    let total = u32::from(kept.total);
    let high_bit = bucket - rank + total as usize / 2;
    let ends = bits(blob, HIGH_AT * 8 + high_bit)? << 2 | 0b11;
    // The low bits of the totals there.
    let low_at = CHECKPOINT_BYTES + (bucket - rank) / 8;
    let low = u32::from(u16::from_le_bytes(*parts.head[low_at..].first_chunk()?));
    let low = (low << 1 | total & 1) << 1 >> rank;
    // Around the bucket before, and around the key's; but for what is before the word, and the two ones too many.
    let ones = _pdep_u64(0b111 << rank, ends);
    let [first, second, third] = [ones, _blsr_u64(ones), _blsr_u64(_blsr_u64(ones))].map(u64::trailing_zeros);
    let start = second * 2 + (low >> 1 & 1);
    let size = (third * 2 + (low >> 2 & 1)).wrapping_sub(start + 2);
    let before = start.wrapping_sub(first * 2 + (low & 1) + 2) & (odd as u32).wrapping_neg();
    let start = (start + total - (total & 1)).wrapping_sub(2 * (rank as u32 + 1));
    // There are never more ones than bits.
    if third > WORD_BITS + 1 || high_bit + third as usize > parts.high_bits + 1 {
        return None;
    }
    let ones = if before >= 2 { word.trailing_zeros() } else { 0 };
    let word = word.wrapping_shr((CODE_BITS >> (before % 8 * 8)) as u32).wrapping_shr(ones);
    let quotient = word.trailing_zeros();
    if before | size >= SPLIT as u32 || ones | quotient >= MARKER_ONES {
        return slowly(blob, keys, key, seed, Place { start, size, bit }, before);
    }
    if size == 0 {
        return Some(None);
    }
    let k = (RICE >> (size * 8)) as u32 & 0xFF;
    let low = _bzhi_u64(!word >> quotient >> 1, k) as u32;
    let slot = start + mix(key.k0 ^ seed, key.k1 ^ seed, quotient << k | low, size);
    Some((slot < keys).then_some(slot))
}

/// The same from a place before a bucket of `before` keys: it and the key's may be large, and have long codes or markers.
#[cold]
#[inline(never)]
#[target_feature(enable = "bmi1,bmi2")]
fn slowly(blob: &[u8], keys: u32, key: Key, seed: u64, place: Place, before: u32) -> Option<Option<u32>> {
    // A negative size is one for the portable code.
    if before.max(place.size) > u16::MAX.into() {
        return None;
    }
    let halves = match before as usize {
        0 | 1 => [0, 0],
        size @ 2..SPLIT => [size, 0],
        size => [size / 2, size - size / 2],
    };
    let coded = halves.into_iter().filter(|size| *size > 0);
    let bit = coded.fold(place.bit, |bit, size| match peek(blob, bit).trailing_ones() {
        MARKER_ONES.. => bit + MARKER_ONES as usize,
        ones => bit + (ones + 1 + rice_bits(size)) as usize,
    });
    finish(&Asked { blob, keys, kept: None, key }, seed, Place { bit, ..place })
}
