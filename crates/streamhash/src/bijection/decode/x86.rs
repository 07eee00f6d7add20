//! Slots with what x86-64 may have beyond its beginnings. With AVX-512: walking over the buckets of a stretch, all sizes of a word at a time, then one code after the
//! other in as few steps as can be.
//!
//! ```text
//! high bits   a word ─ places of its ones ─ less the one before ─ twice, with the low bits ─▶ sizes
//! sizes       two bytes a bucket: how long each of its codes is without its quotient ─ zeros dropped ─▶ list
//! list        word >> length >> trailing zeros; eight codes, then a new word
//! ```
//!
//! `lanes` does the same for many keys at once; `kept` has little to walk over, and needs no vectors.
//!
//! Contract: [`Avx512`] and [`Bmi`] are proof that the processor has every feature that the functions are compiled for
//! that they lead to; they come from their `detect` alone. Vectors are loaded from and stored to arrays of their length.
//!
//! Whatever is unusual is left to the portable code, so that this need not know about it: small blocks, very large
//! buckets, many or no buckets in a word, listed seeds, the end of a blob, and damage.
#![allow(unsafe_code)]

mod kept;
mod lanes;

use std::arch::x86_64::*;

use super::{Asked, Checkpoint};
use crate::{
    bijection::{
        BUCKETS, BUCKETS_PER_CHECKPOINT, CHECKPOINT_BYTES, CHECKPOINTS, MARKER_ONES, MAX_CODED, RICE_BITS,
        SPLIT, TOO_MANY_KEYS, bits::peek, bucket_of, mix, rice_bits,
    },
    key::Key,
    prefetch::prefetch,
};

pub(super) use lanes::MAX_KEYS;

/// Proof that the processor has what `kept` is compiled for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bmi(());

impl Bmi {
    pub(super) fn detect() -> Option<Self> {
        let has_all = is_x86_feature_detected!("bmi1")
            && is_x86_feature_detected!("bmi2")
            && is_x86_feature_detected!("lzcnt")
            && is_x86_feature_detected!("popcnt");
        has_all.then_some(Bmi(()))
    }

    /// As [`super::slot`] from a checkpoint that is kept, or `None`.
    #[inline(always)]
    pub(super) fn slot_kept(
        self,
        blob: &[u8],
        keys: u32,
        kept: &Checkpoint,
        key: Key,
        seed: u64,
    ) -> Option<Option<u32>> {
        // SAFETY: there is no `self` where a feature is missing.
        unsafe { kept::slot(blob, keys, kept, key, seed) }
    }
}

/// Proof that it has what the rest of this module is compiled for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Avx512(());

impl Avx512 {
    pub(super) fn detect() -> Option<Self> {
        let has_all = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512cd")
            && is_x86_feature_detected!("avx512vbmi")
            && is_x86_feature_detected!("avx512vbmi2")
            && is_x86_feature_detected!("avx512vpopcntdq")
            && is_x86_feature_detected!("bmi1")
            && is_x86_feature_detected!("bmi2")
            && is_x86_feature_detected!("lzcnt")
            && is_x86_feature_detected!("popcnt");
        has_all.then_some(Avx512(()))
    }

    /// As [`super::slot`], or `None`.
    #[inline]
    pub(super) fn slot(self, asked: &Asked<'_>, seed: u64) -> Option<Option<u32>> {
        // SAFETY: as above.
        unsafe { slot(asked, seed) }
    }

    /// The same of up to [`MAX_KEYS`] keys, each told by its place among them.
    pub(super) fn slots(self, asked: &[Asked<'_>], seed: u64, found: impl FnMut(usize, Option<Option<u32>>)) {
        // SAFETY: as above.
        unsafe { lanes::slots(asked, seed, found) };
    }
}

/// Buckets of a word that are looked at; words with more ones are unusual.
const LANES: usize = 32;
/// Sizes from this on are unusual.
const MAX_SIZE: usize = 32;
/// At most two codes a bucket, and a whole vector after the last.
const LIST_BYTES: usize = 2 * BUCKETS_PER_CHECKPOINT + 64;
/// Codes between two loads.
const GROUP: usize = 8;
/// So many bits at least are in a loaded word.
const WORD_BITS: u32 = 57;

/// 0, 1, 2 …
const LANE: [u8; 64] = {
    let mut lanes = [0; 64];
    let mut i = 0;
    while i < 64 {
        lanes[i] = i as u8;
        i += 1;
    }
    lanes
};

/// 0, 0, 1, 1, 2, 2 …
const TWICE: [u8; 64] = {
    let mut lanes = [0; 64];
    let mut i = 0;
    while i < 64 {
        lanes[i] = i as u8 / 2;
        i += 1;
    }
    lanes
};

/// By size, and after 32 entries for the second half of a split bucket: the bits of a code after its ones, 0 for none.
const CODE_BITS: [u8; 2 * MAX_SIZE] = {
    const fn bits(size: usize) -> u8 {
        RICE_BITS[if size < MAX_CODED { size } else { MAX_CODED }] as u8 + 1
    }
    let mut table = [0; 2 * MAX_SIZE];
    let mut size = 2;
    while size < MAX_SIZE {
        table[size] = if size < SPLIT { bits(size) } else { bits(size / 2) };
        table[MAX_SIZE + size] = if size < SPLIT { 0 } else { bits(size - size / 2) };
        size += 1;
    }
    table
};

#[inline]
#[target_feature(enable = "avx512f")]
fn load(bytes: &[u8; 64]) -> __m512i {
    // SAFETY: 64 bytes are there.
    unsafe { _mm512_loadu_si512(bytes.as_ptr().cast()) }
}

/// `count` ones, 64 at most.
#[inline]
#[target_feature(enable = "bmi2")]
fn low_ones(count: usize) -> u64 {
    _bzhi_u64(u64::MAX, count.min(64) as u32)
}

/// The place of the one before which there are `rank` others.
#[inline]
#[target_feature(enable = "bmi1,bmi2")]
fn select(word: u64, rank: usize) -> usize {
    _pdep_u64(1 << (rank % 64), word).trailing_zeros() as usize
}

/// A blob of which the running totals have one low bit.
struct Blob<'a> {
    bytes: &'a [u8],
    /// Checkpoints and low bits, and as much more as is loaded with the last of them.
    head: &'a [u8; HIGH_AT + 16],
    /// Bits in the high part.
    high_bits: usize,
    /// Where the seed stream begins, in bits.
    stream_at: usize,
}

/// Where the high bits of the totals begin.
const HIGH_AT: usize = CHECKPOINT_BYTES + BUCKETS / 8;

impl<'a> Blob<'a> {
    #[inline(always)]
    fn new(bytes: &'a [u8], keys: u32) -> Option<Self> {
        const { assert!(TOO_MANY_KEYS == 4 * BUCKETS as u32) };
        // As many as have one low bit.
        if keys / BUCKETS as u32 / 2 != 1 {
            return None;
        }
        let high_bits = BUCKETS + keys as usize / 2;
        let stream_at = (HIGH_AT + high_bits.div_ceil(8)) * 8;
        // The list of long seeds has two bytes at least.
        bytes.get(stream_at / 8..stream_at / 8 + 2)?;
        Some(Blob { bytes, head: bytes.first_chunk()?, high_bits, stream_at })
    }

    /// A checkpoint before a stretch: 0 before the first.
    #[inline(always)]
    fn checkpoint(&self, first: usize, stretch: usize) -> usize {
        let at = first + 2 * stretch.saturating_sub(1);
        let value = u16::from_le_bytes([self.head[at], self.head[at + 1]]);
        if stretch == 0 { 0 } else { value.into() }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vbmi,avx512vbmi2,bmi1,bmi2,lzcnt,popcnt")]
fn slot(asked: &Asked<'_>, seed: u64) -> Option<Option<u32>> {
    let mut codes = Codes::NONE;
    let place = begin(asked, &mut codes)?;
    let bit = codes.skip(asked.blob, place.bit)?;
    finish(asked, seed, Place { bit, ..place })
}

/// Where a bucket's slots begin, and its seed.
#[derive(Clone, Copy)]
struct Place {
    start: u32,
    size: u32,
    /// From the blob's beginning; before [`Codes::skip`], that of the checkpoint.
    bit: usize,
}

/// Lists the codes between the checkpoint and the key's bucket.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi,avx512vbmi2,bmi1,bmi2,lzcnt,popcnt")]
fn begin(asked: &Asked<'_>, codes: &mut Codes) -> Option<Place> {
    let blob = Blob::new(asked.blob, asked.keys)?;
    let bucket = bucket_of(asked.key.k0);
    let stretch = bucket / BUCKETS_PER_CHECKPOINT;
    let first = stretch * BUCKETS_PER_CHECKPOINT;
    let (high_bit, stream_bit) = (blob.checkpoint(0, stretch), blob.checkpoint(2 * CHECKPOINTS, stretch));
    let bit = blob.stream_at + stream_bit;
    // Wanted last, but a wrong guess on the way would keep the processor from asking for it.
    prefetch(asked.blob, bit / 8);
    prefetch(asked.blob, bit / 8 + 54);
    let (start, size) = sizes(&blob, first, high_bit, bucket, codes)?;
    Some(Place { start, size, bit })
}

/// Decodes the bucket's seed.
#[inline]
#[target_feature(enable = "bmi1,bmi2")]
fn finish(asked: &Asked<'_>, seed: u64, Place { start, size, bit }: Place) -> Option<Option<u32>> {
    let (a, b) = (asked.key.k0 ^ seed, asked.key.k1 ^ seed);
    let place = match size as usize {
        0 => return Some(None),
        // The place of a single key is 0, whatever its seed.
        1..SPLIT => mix(a, b, coded_seed(asked.blob, bit, size)?.0, size),
        _ => {
            let half = size / 2;
            let (first, bit) = coded_seed(asked.blob, bit, half)?;
            match mix(a, b, first, size) {
                place if place < half => place,
                _ => half + mix(a, b, coded_seed(asked.blob, bit, size - half)?.0, size - half),
            }
        }
    };
    let slot = start.saturating_add(place);
    Some((slot < asked.keys).then_some(slot))
}

/// Eight bytes of a blob.
#[inline(always)]
fn word(blob: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*blob.get(at..at.checked_add(8)?)?.first_chunk()?))
}

/// At least 57 bits of a blob.
#[inline(always)]
fn bits(blob: &[u8], bit: usize) -> Option<u64> {
    Some(word(blob, bit / 8)? >> (bit % 8))
}

/// A seed for `size` keys, and where it ends; `None` also for one of the list.
#[inline(always)]
fn coded_seed(blob: &[u8], bit: usize, size: u32) -> Option<(u32, usize)> {
    let word = bits(blob, bit)?;
    let (quotient, k) = (word.trailing_ones(), rice_bits(size as usize));
    if quotient >= MARKER_ONES {
        return None;
    }
    let seed = quotient << k | (word >> (quotient + 1)) as u32 & ((1 << k) - 1);
    Some((seed, bit + (quotient + 1 + k) as usize))
}

/// Lists the codes of the buckets from `first` to before `bucket`; returns the keys before it, and its size.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi,avx512vbmi2,bmi1,bmi2,lzcnt,popcnt")]
fn sizes(
    blob: &Blob<'_>,
    first: usize,
    first_bit: usize,
    bucket: usize,
    codes: &mut Codes,
) -> Option<(u32, u32)> {
    let one = _mm512_set1_epi8(1);
    if first_bit < first {
        return None;
    }
    // The low bits of the buckets from the next on, and that of the one before them.
    let low_at = CHECKPOINT_BYTES + first / 8;
    let low = u128::from_le_bytes(*blob.head[low_at..].first_chunk()?);
    let (mut low, mut low_after) = (low as u64, (low >> 64) as u64);
    let mut low_before = u64::from(blob.head[low_at - 1] >> 7) & u64::from(first > 0);
    let mut skip = bucket - first;
    let mut word_at = HIGH_AT + first_bit / 8;
    let mut mask = u64::MAX << (first_bit % 8);
    // Where the bucket before has its one, from the word's beginning.
    let mut before = (first_bit % 8) as i64 - 1;
    let mut large = 0;
    loop {
        let word = word(blob.bytes, word_at)? & mask;
        let ones = word.count_ones() as usize;
        if !(1..=LANES).contains(&ones) {
            return None;
        }
        let places = _mm512_maskz_compress_epi8(word, load(&LANE));
        let befores = _mm512_mask_expand_epi8(_mm512_set1_epi8(before as i8), !1, places);
        // A bucket before which there is no zero has a distance of one. Bytes hold any size of a word with a one, but
        // for a negative one, which is found among the large.
        let zeros = _mm512_sub_epi8(_mm512_sub_epi8(places, befores), one);
        let sizes = _mm512_add_epi8(zeros, zeros);
        let sizes = _mm512_mask_add_epi8(sizes, low, sizes, one);
        let sizes = _mm512_mask_sub_epi8(sizes, low << 1 | low_before, sizes, one);
        let taken = skip.min(ones);
        large |= _mm512_mask_cmpge_epu8_mask(low_ones(taken), sizes, _mm512_set1_epi8(MAX_SIZE as i8));
        codes.push(sizes, taken);
        if skip < ones {
            if large != 0 {
                return None;
            }
            let word_bit = (word_at - HIGH_AT) * 8;
            let this = word_bit + select(word, skip);
            let before = if skip > 0 { select(word, skip - 1) as i64 } else { before };
            // The zeros before a one are all that are not other buckets' ones.
            let zeros_before = word_bit as i64 + before - (bucket as i64 - 1);
            let total = (zeros_before as u32) << 1 | ((low << 1 | low_before) >> skip & 1) as u32;
            let next_total = ((this - bucket) as u32) << 1 | (low >> skip & 1) as u32;
            let size = next_total.checked_sub(total)?;
            return (this < blob.high_bits).then_some((total, size));
        }
        skip -= ones;
        low_before = low >> (ones - 1) & 1;
        low = low >> ones | low_after << (64 - ones);
        low_after >>= ones;
        before = -1 - i64::from(word.leading_zeros());
        word_at += 8;
        mask = u64::MAX;
    }
}

/// The lengths of codes without their ones.
struct Codes {
    bits: [u8; LIST_BYTES],
    len: usize,
}

impl Codes {
    const NONE: Codes = Codes { bits: [0; LIST_BYTES], len: 0 };

    /// Adds the codes of `count` buckets, at most 32, of sizes below 32.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vbmi,avx512vbmi2,bmi2,popcnt")]
    fn push(&mut self, sizes: __m512i, count: usize) {
        let twice = _mm512_permutexvar_epi8(load(&TWICE), sizes);
        let halves = _mm512_add_epi8(twice, _mm512_set1_epi16((MAX_SIZE as i16) << 8));
        let bits = _mm512_permutexvar_epi8(halves, load(&CODE_BITS));
        let coded = _mm512_mask_test_epi8_mask(low_ones(2 * count), bits, bits);
        let listed = _mm512_maskz_compress_epi8(coded, bits);
        // No more than two codes a bucket were pushed before.
        if let Some(place) = self.bits.get_mut(self.len..).and_then(|rest| rest.first_chunk_mut::<64>()) {
            // SAFETY: 64 bytes are there.
            unsafe { _mm512_storeu_si512(place.as_mut_ptr().cast(), listed) };
        }
        self.len += coded.count_ones() as usize;
    }

    /// Moves past the codes, which begin at `bit`.
    #[inline]
    #[target_feature(enable = "bmi1,bmi2,lzcnt")]
    fn skip(&self, blob: &[u8], mut bit: usize) -> Option<usize> {
        let (groups, _) = self.bits.as_chunks::<GROUP>();
        for codes in groups.iter().take(self.len / GROUP) {
            let (words, all_ones) = shift_out(turned(blob, bit)?, codes);
            bit = match gone(words[GROUP - 1], bit, all_ones) {
                Some(gone) => bit + gone,
                None => skip_slowly(codes, blob, bit),
            };
        }
        let (count, codes) = (self.len % GROUP, groups.get(self.len / GROUP)?);
        let word = turned(blob, bit)?;
        // More than there are: what follows them is not looked at.
        let (words, all_ones) = shift_out(word, codes);
        let word = if count > 0 { words[count - 1] } else { word };
        Some(match gone(word, bit, all_ones) {
            Some(gone) => bit + gone,
            None => skip_slowly(&codes[..count], blob, bit),
        })
    }
}

/// Moves past codes, any of which may be long or a marker.
#[cold]
#[inline(never)]
fn skip_slowly(codes: &[u8], blob: &[u8], bit: usize) -> usize {
    codes.iter().fold(bit, |bit, code| {
        let ones = peek(blob, bit).trailing_ones();
        bit + if ones < MARKER_ONES { ones as usize + usize::from(*code) } else { MARKER_ONES as usize }
    })
}

/// Bits turned over, so that the ones of a quotient are trailing zeros, and with a one at the end.
#[inline(always)]
fn turned(blob: &[u8], bit: usize) -> Option<u64> {
    Some(!bits(blob, bit)? | 1 << 63)
}

/// A word after each of the codes is shifted out, and a number that is not below 16 if some quotient is not.
#[inline]
#[target_feature(enable = "bmi1,bmi2")]
fn shift_out(mut word: u64, codes: &[u8; GROUP]) -> ([u64; GROUP], u32) {
    let (mut words, mut all_ones) = ([0; GROUP], 0);
    let codes = u64::from_le_bytes(*codes);
    for (i, after) in words.iter_mut().enumerate() {
        let ones = word.trailing_zeros();
        all_ones |= ones;
        word = word.wrapping_shr((codes >> (8 * i)) as u32).wrapping_shr(ones);
        *after = word;
    }
    (words, all_ones)
}

/// How many bits are gone from a word that ended in a one, if it held them all and no quotient was a marker.
#[inline(always)]
fn gone(word: u64, bit: usize, all_ones: u32) -> Option<usize> {
    let gone = word.leading_zeros() as usize;
    (gone + bit % 8 < 64 && all_ones < MARKER_ONES).then_some(gone)
}
