//! Many keys without kept checkpoints: their codes are moved past side by side, one key to a lane.
//!
//! ```text
//! word        a code's ones, a zero, the rest; the next code … one bit of `place` says where a code begins
//! word + place     carries through the ones: the zero becomes a one
//! & !word          that one alone; shifted by what follows it, it is where the next code begins
//! ```
//!
//! Contract: as in [`super`]; words are gathered from addresses that were compared with the ends of their blobs.

use std::arch::x86_64::*;

use super::{Codes, GROUP, Place, WORD_BITS, begin, finish};
use crate::bijection::{BUCKETS_PER_CHECKPOINT, bucket_of, decode::Asked};

/// Keys in a vector, and vectors that go step by step together.
const LANES: usize = 8;
const VECTORS: usize = 4;
const KEYS: usize = LANES * VECTORS;

/// The most keys that are sorted.
pub(in crate::bijection::decode) const MAX_KEYS: usize = 32;

/// The answers of [`super::slot`] for up to [`MAX_KEYS`] keys.
#[target_feature(enable = "avx512f,avx512bw,avx512cd,avx512vbmi,avx512vbmi2,bmi1,bmi2,lzcnt,popcnt")]
pub(super) fn slots(asked: &[Asked<'_>], seed: u64, mut found: impl FnMut(usize, Option<Option<u32>>)) {
    for keys in by_distance(asked)[..asked.len().min(MAX_KEYS)].chunks(KEYS) {
        let mut codes = [const { Codes::NONE }; KEYS];
        let mut places = [None; KEYS];
        let mut lanes = Lanes::NONE;
        for (lane, &key) in keys.iter().enumerate() {
            let asked = &asked[usize::from(key)];
            let place = begin(asked, &mut codes[lane]);
            if let Some(place) = place {
                lanes.set(lane, asked.blob, place.bit);
            } else {
                codes[lane].len = 0;
            }
            places[lane] = place;
        }
        lanes.skip(&codes);
        for (lane, &key) in keys.iter().enumerate() {
            let (key, bit) = (usize::from(key), lanes.bits[lane] as usize);
            let slot = places[lane].and_then(|place| finish(&asked[key], seed, Place { bit, ..place }));
            found(key, slot);
        }
    }
}

/// The keys in the order of how many buckets are to be moved past, roughly: lanes wait for the longest.
#[inline]
fn by_distance(asked: &[Asked<'_>]) -> [u8; MAX_KEYS] {
    const CLASSES: usize = 16;
    let class = |asked: &Asked<'_>| {
        bucket_of(asked.key.k0) % BUCKETS_PER_CHECKPOINT / (BUCKETS_PER_CHECKPOINT / CLASSES)
    };
    let asked = &asked[..asked.len().min(MAX_KEYS)];
    let mut ends = [0u8; CLASSES];
    asked.iter().for_each(|asked| ends[class(asked)] += 1);
    let mut sum = 0;
    ends.iter_mut().for_each(|end| sum += std::mem::replace(end, sum));
    let mut order = [0; MAX_KEYS];
    for (key, asked) in asked.iter().enumerate() {
        let place = &mut ends[class(asked)];
        order[usize::from(*place) % MAX_KEYS] = key as u8;
        *place += 1;
    }
    order
}

/// Where in which blob each key's codes go on.
struct Lanes<'a> {
    blobs: [&'a [u8]; KEYS],
    bits: [u64; KEYS],
}

impl<'a> Lanes<'a> {
    const NONE: Self = Lanes { blobs: [&[0; 8]; KEYS], bits: [0; KEYS] };

    #[inline(always)]
    fn set(&mut self, lane: usize, blob: &'a [u8], bit: usize) {
        // Shorter ones have no codes.
        if blob.len() >= 8 {
            (self.blobs[lane], self.bits[lane]) = (blob, bit as u64);
        }
    }

    /// Moves past all codes.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512cd,avx512vbmi,avx512vbmi2,bmi1,bmi2,lzcnt,popcnt")]
    fn skip(&mut self, codes: &[Codes; KEYS]) {
        let groups = codes.iter().map(|codes| codes.len.div_ceil(GROUP)).max().unwrap_or(0);
        let one = _mm512_set1_epi64(1);
        let lists: [_; VECTORS] = std::array::from_fn(|v| {
            vector(&std::array::from_fn(|lane| {
                codes[v * LANES + lane].bits.as_ptr().expose_provenance() as u64
            }))
        });
        let (blobs, _) = self.blobs.as_chunks::<LANES>();
        let starts: [_; VECTORS] =
            std::array::from_fn(|v| vector(&blobs[v].map(|blob| blob.as_ptr().expose_provenance() as u64)));
        let last: [_; VECTORS] = std::array::from_fn(|v| vector(&blobs[v].map(|blob| blob.len() as u64 - 8)));
        let (bits, _) = self.bits.as_chunks::<LANES>();
        let mut bits: [_; VECTORS] = std::array::from_fn(|v| vector(&bits[v]));
        for group in 0..groups {
            let list_at = _mm512_set1_epi64((group * GROUP) as i64);
            let mut inside = [0; VECTORS];
            let mut words = [_mm512_setzero_si512(); VECTORS];
            let mut lengths = words;
            for v in 0..VECTORS {
                let at = _mm512_srli_epi64::<3>(bits[v]);
                inside[v] = _mm512_cmple_epu64_mask(at, last[v]);
                // SAFETY: a list is longer than the groups of the longest, and a whole word of the blob is there.
                unsafe {
                    let at = _mm512_add_epi64(starts[v], at);
                    lengths[v] =
                        _mm512_i64gather_epi64::<1>(_mm512_add_epi64(lists[v], list_at), std::ptr::null());
                    words[v] = _mm512_mask_i64gather_epi64::<1>(words[v], inside[v], at, std::ptr::null());
                }
                words[v] = _mm512_srlv_epi64(words[v], _mm512_and_si512(bits[v], _mm512_set1_epi64(7)));
            }
            let mut places = [one; VECTORS];
            for code in 0..GROUP {
                let this = _mm512_maskz_set1_epi8(0x0101_0101_0101_0101, code as i8);
                let this = _mm512_or_si512(this, _mm512_set1_epi64(0x8080_8080_8080_8000_u64 as i64));
                // The second lane of sixteen bytes has its own eight.
                let this = _mm512_mask_add_epi8(this, 0x0100_0100_0100_0100, this, _mm512_set1_epi8(8));
                for v in 0..VECTORS {
                    let length = _mm512_shuffle_epi8(lengths[v], this);
                    let coded = _mm512_test_epi64_mask(length, length);
                    let zeros = _mm512_andnot_si512(words[v], _mm512_add_epi64(words[v], places[v]));
                    places[v] = _mm512_mask_sllv_epi64(places[v], coded, zeros, length);
                }
            }
            for v in 0..VECTORS {
                let gone = _mm512_sub_epi64(_mm512_set1_epi64(63), _mm512_lzcnt_epi64(places[v]));
                let runs = _mm512_and_si512(words[v], _mm512_srli_epi64::<1>(words[v]));
                let runs = _mm512_and_si512(runs, _mm512_srli_epi64::<2>(runs));
                let runs = _mm512_and_si512(runs, _mm512_srli_epi64::<4>(runs));
                let runs = _mm512_and_si512(runs, _mm512_srli_epi64::<8>(runs));
                let usual =
                    _mm512_mask_cmple_epu64_mask(inside[v], gone, _mm512_set1_epi64(WORD_BITS.into()));
                let usual = usual & !_mm512_test_epi64_mask(runs, runs);
                let from = bits[v];
                bits[v] = _mm512_mask_add_epi64(from, usual, from, gone);
                if usual != 0xFF {
                    bits[v] = self.skip_slowly(codes, v, group, !usual, bits[v]);
                }
            }
        }
        let (places, _) = self.bits.as_chunks_mut::<LANES>();
        places.iter_mut().zip(bits).for_each(|(place, bits)| *place = array(bits));
    }

    /// Moves some lanes past a group of codes.
    #[cold]
    #[inline(never)]
    #[target_feature(enable = "avx512f")]
    fn skip_slowly(
        &self,
        codes: &[Codes; KEYS],
        v: usize,
        group: usize,
        lanes: u8,
        bits: __m512i,
    ) -> __m512i {
        let mut bits = array(bits);
        for (lane, bit) in bits.iter_mut().enumerate().filter(|(lane, _)| lanes >> lane & 1 == 1) {
            let key = v * LANES + lane;
            *bit = codes[key].skip_slowly(group, 1, self.blobs[key], *bit as usize) as u64;
        }
        vector(&bits)
    }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn vector(words: &[u64; LANES]) -> __m512i {
    // SAFETY: 64 bytes are there.
    unsafe { _mm512_loadu_si512(words.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn array(vector: __m512i) -> [u64; LANES] {
    let mut words = [0; LANES];
    // SAFETY: 64 bytes are there.
    unsafe { _mm512_storeu_si512(words.as_mut_ptr().cast(), vector) };
    words
}
