//! Many keys without kept checkpoints, one to a lane: all walk over the buckets of their stretches side by side.
//!
//! ```text
//! high bits   H - 1 & !H: the zeros before the next one, counted, eight buckets one after the other ─▶ sizes
//! sizes       how long each bucket's codes are without their ones
//! stream      one bit of P says where a code begins: S + P carries through its ones, so that the zero after them becomes
//!             a one; & !S is that one alone, and shifted by what follows it, where the next code begins
//! ```
//!
//! Contract: as in [`super`]; words are gathered from addresses that were compared with the ends of their blobs.

use std::{arch::x86_64::*, ptr::null};

use super::{Blob, CODE_BITS, HIGH_AT, MAX_SIZE, Place, bits, finish, load};
use crate::bijection::{
    BUCKETS_PER_CHECKPOINT, CHECKPOINT_BYTES, CHECKPOINTS, MARKER_ONES, SPLIT, bucket_of, decode::Asked,
};

/// Keys in a vector, and vectors that go step by step together.
const LANES: usize = 8;
const VECTORS: usize = 4;
const KEYS: usize = LANES * VECTORS;
/// Buckets between two loads.
const GROUP: usize = 8;

/// The most keys that are sorted.
pub(in crate::bijection::decode) const MAX_KEYS: usize = 32;

/// The answers of [`super::slot`] for up to [`MAX_KEYS`] keys.
#[target_feature(enable = "avx512f,avx512bw,avx512cd,avx512vbmi,avx512vpopcntdq,bmi1,bmi2,lzcnt,popcnt")]
pub(super) fn slots(asked: &[Asked<'_>], seed: u64, mut found: impl FnMut(usize, Option<Option<u32>>)) {
    let asked = &asked[..asked.len().min(MAX_KEYS)];
    for keys in by_distance(asked)[..asked.len()].chunks(KEYS) {
        let mut lanes = Lanes::NONE;
        for (lane, &key) in keys.iter().enumerate() {
            lanes.begin(lane, &asked[usize::from(key)]);
        }
        lanes.walk();
        for (lane, &key) in keys.iter().enumerate() {
            let asked = &asked[usize::from(key)];
            found(key.into(), lanes.place(lane, asked).and_then(|place| finish(asked, seed, place)));
        }
    }
}

/// The keys in the order of how many buckets are to be walked over, roughly: lanes wait for the longest.
#[inline]
fn by_distance(asked: &[Asked<'_>]) -> [u8; MAX_KEYS] {
    const CLASSES: usize = BUCKETS_PER_CHECKPOINT / GROUP;
    let class = |asked: &Asked<'_>| bucket_of(asked.key.k0) % BUCKETS_PER_CHECKPOINT / GROUP;
    let mut places = [0u8; CLASSES];
    asked.iter().for_each(|asked| places[class(asked)] += 1);
    let mut sum = 0;
    places.iter_mut().for_each(|place| sum += std::mem::replace(place, sum));
    let mut order = [0; MAX_KEYS];
    for (key, asked) in asked.iter().enumerate() {
        let place = &mut places[class(asked)];
        order[usize::from(*place) % MAX_KEYS] = key as u8;
        *place += 1;
    }
    order
}

/// A word for each lane.
type Words = [u64; KEYS];

/// Where each key's walk begins, and at last where its bucket does.
struct Lanes {
    /// Where blobs are in memory, and the last place in each from which a whole word can be loaded.
    blobs: Words,
    last: Words,
    /// Bits of the blob: of the high part, and of the seed stream.
    high: Words,
    stream: Words,
    /// The low bits of the buckets of the stretch, and that of the one before it.
    low: [Words; 2],
    low_before: Words,
    /// Buckets to walk over, in each byte.
    skip: Words,
    /// No bit of a lane is set if nothing unusual was met.
    unusual: [u64; VECTORS],
}

impl Lanes {
    const NONE: Self = Lanes {
        blobs: [0; KEYS],
        last: [0; KEYS],
        high: [0; KEYS],
        stream: [0; KEYS],
        low: [[0; KEYS]; 2],
        low_before: [0; KEYS],
        skip: [0; KEYS],
        unusual: [u64::MAX; VECTORS],
    };

    #[inline(always)]
    fn begin(&mut self, lane: usize, asked: &Asked<'_>) {
        let Some(blob) = Blob::new(asked.blob, asked.keys) else { return };
        let bucket = bucket_of(asked.key.k0);
        let stretch = bucket / BUCKETS_PER_CHECKPOINT;
        let first = stretch * BUCKETS_PER_CHECKPOINT;
        let (high_bit, stream_bit) = (blob.checkpoint(0, stretch), blob.checkpoint(2 * CHECKPOINTS, stretch));
        let low_at = CHECKPOINT_BYTES + first / 8;
        let (Some(low), true) = (blob.head[low_at..].first_chunk(), high_bit >= first) else { return };
        let low = u128::from_le_bytes(*low);
        self.blobs[lane] = asked.blob.as_ptr().expose_provenance() as u64;
        // The head alone is longer than a word.
        self.last[lane] = (asked.blob.len() - 8) as u64;
        self.high[lane] = (HIGH_AT * 8 + high_bit) as u64;
        self.stream[lane] = (blob.stream_at + stream_bit) as u64;
        (self.low[0][lane], self.low[1][lane]) = (low as u64, (low >> 64) as u64);
        self.low_before[lane] = u64::from(blob.head[low_at - 1] >> 7) & u64::from(first > 0);
        self.skip[lane] = (bucket - first) as u64 * 0x0101_0101_0101_0101;
        self.unusual[lane / LANES] &= !(0xFF << (lane % LANES * 8));
    }

    /// The place of a key's bucket, after the walk.
    #[inline]
    #[target_feature(enable = "bmi1,bmi2")]
    fn place(&self, lane: usize, asked: &Asked<'_>) -> Option<Place> {
        if self.unusual[lane / LANES] >> (lane % LANES * 8) & 0xFF != 0 {
            return None;
        }
        let blob = Blob::new(asked.blob, asked.keys)?;
        let bucket = bucket_of(asked.key.k0);
        let bit = self.high[lane] as usize;
        let zeros = bits(blob.bytes, bit)?.trailing_zeros();
        let high_bit = bit - HIGH_AT * 8;
        if high_bit + zeros as usize >= blob.high_bits {
            return None;
        }
        let low_at = CHECKPOINT_BYTES + bucket / 8;
        let low = u32::from(blob.head[low_at - 1]) | u32::from(blob.head[low_at]) << 8;
        let (before, low) = (low >> (7 + bucket % 8) & u32::from(bucket > 0), low >> (8 + bucket % 8) & 1);
        let size = (2 * zeros + low).checked_sub(before)?;
        let start = ((high_bit - bucket) as u32) << 1 | before;
        Some(Place { start, size, bit: self.stream[lane] as usize })
    }

    /// Walks over all buckets before the keys'.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512cd,avx512vbmi,avx512vpopcntdq,bmi1,bmi2,lzcnt,popcnt")]
    fn walk(&mut self) {
        let most = |skip: &[u64]| skip.iter().map(|skip| (skip & 0xFF) as usize).max().unwrap_or(0);
        for group in 0..most(&self.skip).div_ceil(GROUP) {
            // The keys are sorted: those of the first vectors are done first.
            let from = (0..VECTORS).find(|v| most(&self.skip[v * LANES..][..LANES]) > 0);
            match VECTORS - from.unwrap_or(0) {
                1 => self.group::<1>(group),
                2 => self.group::<2>(group),
                3 => self.group::<3>(group),
                _ => self.group::<4>(group),
            }
        }
    }

    /// Walks over eight buckets in each of the last `N` vectors.
    #[inline(never)]
    #[target_feature(enable = "avx512f,avx512bw,avx512cd,avx512vbmi,avx512vpopcntdq,bmi1,bmi2,lzcnt,popcnt")]
    fn group<const N: usize>(&mut self, group: usize) {
        let first = VECTORS - N;
        let (zero, one) = (_mm512_setzero_si512(), _mm512_set1_epi64(1));
        let bytes_of_one = _mm512_set1_epi8(1);
        let (mut words, mut places) = ([zero; N], [zero; N]);
        for (v, word) in words.iter_mut().enumerate() {
            *word = self.gather(first + v, |lanes| &lanes.high);
        }
        for bucket in 0..GROUP {
            let at = _mm512_set1_epi64(bucket as i64 * 8);
            for v in 0..N {
                let less = _mm512_sub_epi64(words[v], one);
                let place = _mm512_popcnt_epi64(_mm512_andnot_si512(words[v], less));
                words[v] = _mm512_and_si512(words[v], less);
                places[v] = _mm512_or_si512(places[v], _mm512_sllv_epi64(place, at));
            }
        }
        let (mut lengths, mut seconds) = ([zero; N], [zero; N]);
        let (mut any_second, mut long) = (0, 0);
        for v in 0..N {
            // From the end of the one before to the end of each bucket's one: a bit more than it has zeros.
            let ends = _mm512_add_epi8(places[v], bytes_of_one);
            let gone = _mm512_sub_epi8(ends, _mm512_slli_epi64::<8>(ends));
            let zeros = _mm512_sub_epi8(gone, bytes_of_one);
            let lows = self.low_steps(first + v, group);
            let sizes = _mm512_add_epi8(_mm512_add_epi8(zeros, zeros), lows);
            let skip = vector(&self.skip, first + v);
            let taken = _mm512_cmpgt_epu8_mask(skip, lane_bytes());
            // A negative size is also too large, as is one of which the word does not hold all zeros.
            let large = _mm512_mask_cmpge_epu8_mask(taken, sizes, _mm512_set1_epi8(MAX_SIZE as i8));
            self.unusual[first + v] |= large;
            lengths[v] = _mm512_maskz_permutexvar_epi8(taken, sizes, load(&CODE_BITS));
            let split = _mm512_mask_cmpge_epu8_mask(taken, sizes, _mm512_set1_epi8(SPLIT as i8));
            let halves = _mm512_add_epi8(sizes, _mm512_set1_epi8(MAX_SIZE as i8));
            seconds[v] = _mm512_maskz_permutexvar_epi8(split, halves, load(&CODE_BITS));
            any_second |= split;
            let gone = _mm512_sad_epu8(_mm512_maskz_mov_epi8(taken, gone), zero);
            advance(&mut self.high, first + v, gone);
            words[v] = self.gather(first + v, |lanes| &lanes.stream);
            long |= sixteen_ones(words[v]);
        }
        let places = match long {
            0 => codes::<N, false>(&words, &lengths, &seconds, any_second),
            _ => codes::<N, true>(&words, &lengths, &seconds, any_second),
        };
        for (v, place) in places.into_iter().enumerate() {
            let gone = _mm512_sub_epi64(_mm512_set1_epi64(63), _mm512_lzcnt_epi64(place));
            let held = _mm512_sub_epi64(_mm512_set1_epi64(64), bit_of_byte(vector(&self.stream, first + v)));
            let skip = vector(&self.skip, first + v);
            let active = _mm512_test_epi64_mask(skip, skip);
            self.unusual[first + v] |= bytes_of(_mm512_mask_cmpgt_epu64_mask(active, gone, held));
            advance(&mut self.stream, first + v, gone);
            store(&mut self.skip, first + v, _mm512_subs_epu8(skip, _mm512_set1_epi8(GROUP as i8)));
        }
    }

    /// The low bits of a group's buckets less those of the buckets before them, a byte each.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
    fn low_steps(&mut self, v: usize, group: usize) -> __m512i {
        let words = &mut self.low[group * GROUP / 64 % 2];
        let (low, before) = (vector(words, v), vector(&self.low_before, v));
        store(words, v, _mm512_srli_epi64::<8>(low));
        let before = _mm512_or_si512(_mm512_slli_epi64::<1>(low), before);
        let last = _mm512_srli_epi64::<7>(low);
        store(&mut self.low_before, v, _mm512_and_si512(last, _mm512_set1_epi64(1)));
        let lows = _mm512_multishift_epi64_epi8(lane_bytes(), low);
        let befores = _mm512_multishift_epi64_epi8(lane_bytes(), before);
        let one = _mm512_set1_epi8(1);
        _mm512_sub_epi8(_mm512_and_si512(lows, one), _mm512_and_si512(befores, one))
    }

    /// The words that begin at these bits; lanes without a whole one are unusual.
    #[inline]
    #[target_feature(enable = "avx512f,bmi2")]
    fn gather(&mut self, v: usize, bits: impl Fn(&Self) -> &Words) -> __m512i {
        let bit = vector(bits(self), v);
        let skip = vector(&self.skip, v);
        let at = _mm512_srli_epi64::<3>(bit);
        let active = _mm512_test_epi64_mask(skip, skip);
        let inside = _mm512_mask_cmple_epu64_mask(active, at, vector(&self.last, v));
        self.unusual[v] |= bytes_of(active & !inside);
        let place = _mm512_add_epi64(vector(&self.blobs, v), at);
        // SAFETY: where a word is loaded, it is one of the blob.
        let words =
            unsafe { _mm512_mask_i64gather_epi64::<1>(_mm512_setzero_si512(), inside, place, null()) };
        _mm512_srlv_epi64(words, bit_of_byte(bit))
    }
}

/// Moves past the codes of the buckets, of which some have a second one; returns where in the words they end.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn codes<const N: usize, const MARKERS: bool>(
    words: &[__m512i; N],
    lengths: &[__m512i; N],
    seconds: &[__m512i; N],
    any_second: u64,
) -> [__m512i; N] {
    // By bucket, of all lanes.
    let any_second = any_second | any_second >> 32;
    let any_second = any_second | any_second >> 16;
    let any_second = any_second | any_second >> 8;
    let mut places = [_mm512_set1_epi64(1); N];
    for bucket in 0..GROUP {
        // That byte of each word, and zeros.
        let this = _mm512_set1_epi64(0x8080_8080_8080_8000_u64 as i64 | bucket as i64);
        let this = _mm512_mask_add_epi8(this, 0x0100_0100_0100_0100, this, _mm512_set1_epi8(8));
        for v in 0..N {
            places[v] = next::<MARKERS>(words[v], places[v], _mm512_shuffle_epi8(lengths[v], this));
        }
        if any_second >> bucket & 1 == 1 {
            for v in 0..N {
                places[v] = next::<MARKERS>(words[v], places[v], _mm512_shuffle_epi8(seconds[v], this));
            }
        }
    }
    places
}

/// Where the next code begins; where there is no code, it is the same place.
#[inline]
#[target_feature(enable = "avx512f")]
fn next<const MARKERS: bool>(word: __m512i, place: __m512i, length: __m512i) -> __m512i {
    let coded = _mm512_test_epi64_mask(length, length);
    let zero = _mm512_andnot_si512(word, _mm512_add_epi64(word, place));
    let after = _mm512_mask_sllv_epi64(place, coded, zero, length);
    if MARKERS {
        let marker = _mm512_mask_cmpge_epu64_mask(coded, _mm512_srli_epi64::<MARKER_ONES>(zero), place);
        return _mm512_mask_slli_epi64::<MARKER_ONES>(after, marker, place);
    }
    after
}

/// Which words have so many ones in a row: without them, there is no marker.
#[inline]
#[target_feature(enable = "avx512f")]
fn sixteen_ones(words: __m512i) -> u8 {
    const { assert!(MARKER_ONES == 16) };
    let ones = _mm512_and_si512(words, _mm512_srli_epi64::<1>(words));
    let ones = _mm512_and_si512(ones, _mm512_srli_epi64::<2>(ones));
    let ones = _mm512_and_si512(ones, _mm512_srli_epi64::<4>(ones));
    let ones = _mm512_and_si512(ones, _mm512_srli_epi64::<8>(ones));
    _mm512_test_epi64_mask(ones, ones)
}

#[inline]
#[target_feature(enable = "avx512f")]
fn bit_of_byte(bit: __m512i) -> __m512i {
    _mm512_and_si512(bit, _mm512_set1_epi64(7))
}

/// 0 to 7 in each word.
#[inline]
#[target_feature(enable = "avx512f")]
fn lane_bytes() -> __m512i {
    _mm512_set1_epi64(0x0706_0504_0302_0100)
}

/// A bit for each byte of these lanes.
#[inline]
#[target_feature(enable = "bmi2")]
fn bytes_of(lanes: u8) -> u64 {
    _pdep_u64(lanes.into(), 0x0101_0101_0101_0101)
}

#[inline]
#[target_feature(enable = "avx512f")]
fn vector(words: &Words, v: usize) -> __m512i {
    // SAFETY: 64 bytes are there.
    unsafe { _mm512_loadu_si512(words.as_chunks::<LANES>().0[v].as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn store(words: &mut Words, v: usize, vector: __m512i) {
    // SAFETY: as above.
    unsafe { _mm512_storeu_si512(words.as_chunks_mut::<LANES>().0[v].as_mut_ptr().cast(), vector) };
}

#[inline]
#[target_feature(enable = "avx512f")]
fn advance(words: &mut Words, v: usize, by: __m512i) {
    store(words, v, _mm512_add_epi64(vector(words, v), by));
}
