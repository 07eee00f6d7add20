//! Placing the buckets of a first level with AVX-512: all turns and layouts of a bucket in a few dozen steps.
//!
//! ```text
//! taken    a pair of keys' layouts in eight lanes ─ the word of each one's column ─ rotated by its row ─ or
//! turns    of each layout, a lane per key: the first free turn from the one on that sends this key to the first row
//! score    a byte per key and key: how far one is above the other, moved on to that turn, looked up, summed
//! best     the least of score ‖ seed in all lanes
//! ```
//!
//! Contract: [`Avx512`] is proof that the processor has every feature that the functions here are compiled for; it comes
//! from [`Avx512::detect`] alone. Vectors are loaded from and stored to arrays of their length, or of the lanes of a mask.
#![allow(unsafe_code)]

use std::arch::x86_64::*;

use super::{
    COLUMN_BITS, Decoder, ROWS,
    sweep::{self, Buckets, COST, Lap, MAX_COLUMNS},
};
use crate::{algorithm::Damage, key::Key, simd::Path};

/// Proof that the processor has what this module is compiled for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Avx512(());

impl Avx512 {
    /// `None` also where the path is another one.
    pub(crate) fn detect(path: Path) -> Option<Self> {
        let has_all = path.is_avx512()
            && is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512cd")
            && is_x86_feature_detected!("avx512vbmi")
            && is_x86_feature_detected!("bmi1")
            && is_x86_feature_detected!("bmi2")
            && is_x86_feature_detected!("lzcnt")
            && is_x86_feature_detected!("popcnt");
        has_all.then_some(Avx512(()))
    }

    /// As [`Decoder::find_bumped_slot`], where counting bits takes an instruction.
    pub(super) fn bumped_slot(
        self,
        decoder: &Decoder,
        tail: &[u8],
        keys: u32,
        key: Key,
    ) -> Result<Option<u32>, Damage> {
        #[target_feature(enable = "bmi1,bmi2,lzcnt,popcnt")]
        fn inside(decoder: &Decoder, tail: &[u8], keys: u32, key: Key) -> Result<Option<u32>, Damage> {
            decoder.find_bumped_slot(tail, keys, key)
        }
        // SAFETY: there is no `self` where a feature is missing.
        unsafe { inside(decoder, tail, keys, key) }
    }

    /// As the portable code.
    pub(super) fn place(self, buckets: &Buckets<'_>, laps: &mut [Lap], seeds: &mut [u8]) {
        // SAFETY: there is no `self` where a feature is missing.
        unsafe { place(buckets, laps, seeds) }
    }
}

/// Keys of a bucket, one to a lane; larger ones are placed by portable code.
const LANES: usize = 8;
const _: () = assert!(MAX_COLUMNS == 2 * LANES && ROWS == 64);

/// Bytes by a rule: of lane and byte in the lane.
macro_rules! bytes {
    (|$lane:ident, $byte:ident| $value:expr) => {{
        let mut bytes = [0u8; 64];
        let mut i = 0;
        while i < 64 {
            let ($lane, $byte) = (i as u8 / 8, i as u8 % 8);
            bytes[i] = $value;
            i += 1;
        }
        bytes
    }};
}

/// Where the rows of a key's layouts begin among its bits.
const ROW_BITS: [u8; 64] = bytes!(|_lane, byte| (byte * 16 + 4) % 64);
/// From a byte per layout in a lane per key to a byte per key in a lane per layout.
const BY_LAYOUT: [u8; 64] = bytes!(|lane, byte| byte * 8 + lane);
/// Of each layout, the row of the lane's key in all its bytes.
const OWN_ROW: [[u8; 64]; 4] = [
    bytes!(|lane, _byte| lane),
    bytes!(|lane, _byte| 8 + lane),
    bytes!(|lane, _byte| 16 + lane),
    bytes!(|lane, _byte| 24 + lane),
];
/// The lowest byte of each lane in all of them, sixteen bytes by sixteen.
const LOWEST: [u8; 64] = bytes!(|lane, _byte| lane % 2 * 8);

#[inline]
#[target_feature(enable = "avx512f")]
fn load<T, const N: usize>(items: &[T; N]) -> __m512i {
    const { assert!(size_of::<T>() * N == 64) };
    // SAFETY: 64 bytes are there, and no alignment is asked for.
    unsafe { _mm512_loadu_si512(items.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn store(lanes: __m512i, words: &mut [u64; LANES]) {
    // SAFETY: as above.
    unsafe { _mm512_storeu_si512(words.as_mut_ptr().cast(), lanes) }
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512cd,avx512vbmi,bmi1,bmi2,lzcnt,popcnt")]
fn place(buckets: &Buckets<'_>, laps: &mut [Lap], seeds: &mut [u8]) {
    for &bucket in buckets.order {
        let (keys, row) = (buckets.keys(bucket), buckets.shape.row(bucket));
        let laps = sweep::slice(laps, row);
        seeds[bucket as usize] = if keys.len() <= LANES {
            place_few(laps, row % ROWS, keys)
        } else {
            sweep::place::<COLUMN_BITS>(laps, row % ROWS, keys)
        };
    }
}

/// As [`sweep::place`], of at most [`LANES`] keys.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512cd,avx512vbmi,bmi1,bmi2,lzcnt,popcnt")]
fn place_few(laps: &mut [Lap; 2], begin: u32, keys: &[u64]) -> u8 {
    let count = keys.len();
    let present = ((1u32 << count) - 1) as u8;
    // SAFETY: of eight words, those are loaded that are there.
    let layouts = unsafe { _mm512_maskz_loadu_epi64(present, keys.as_ptr().cast()) };
    let wrapped = _mm512_set1_epi64(((1u64 << begin) - 1).cast_signed());
    let [first, second] = laps.each_mut().map(|lap| lap.0.as_chunks_mut::<LANES>().0);
    let (low, high) = (
        _mm512_ternarylogic_epi64::<0xCA>(wrapped, load(&second[0]), load(&first[0])),
        _mm512_ternarylogic_epi64::<0xCA>(wrapped, load(&second[1]), load(&first[1])),
    );
    // Four lanes to a key: its layouts.
    let lanes = (1u64 << (4 * count)) - 1;
    let turned = |pair: __m128i, lanes: u64| {
        let fields = _mm512_cvtepu16_epi64(pair);
        let words = _mm512_permutex2var_epi64(low, fields, high);
        _mm512_maskz_rorv_epi64(lanes as u8, words, _mm512_srli_epi64::<4>(fields))
    };
    let taken = _mm512_or_si512(
        _mm512_or_si512(
            turned(_mm512_castsi512_si128(layouts), lanes),
            turned(_mm512_extracti64x2_epi64::<1>(layouts), lanes >> 8),
        ),
        _mm512_or_si512(
            turned(_mm512_extracti64x2_epi64::<2>(layouts), lanes >> 16),
            turned(_mm512_extracti64x2_epi64::<3>(layouts), lanes >> 24),
        ),
    );
    let taken = _mm256_or_si256(_mm512_castsi512_si256(taken), _mm512_extracti64x4_epi64::<1>(taken));
    // Seed 0 means something else.
    let taken = _mm256_or_si256(taken, _mm256_setr_epi64x(1, 0, 0, 0));
    let mut free = _mm512_castsi256_si512(_mm256_xor_si256(taken, _mm256_set1_epi64x(-1)));
    let rows = _mm512_multishift_epi64_epi8(load(&ROW_BITS), layouts);
    let rows = _mm512_permutexvar_epi8(load(&BY_LAYOUT), rows);
    let keys_of_lane = u64::from(present) * 0x0101_0101_0101_0101;
    loop {
        let mut best = _mm512_set1_epi64(-1);
        best = score::<0>(best, free, rows, begin, keys_of_lane);
        best = score::<1>(best, free, rows, begin, keys_of_lane);
        best = score::<2>(best, free, rows, begin, keys_of_lane);
        best = score::<3>(best, free, rows, begin, keys_of_lane);
        let best = _mm512_reduce_min_epu64(best);
        if best == u64::MAX {
            return 0;
        }
        let seed = best as u8;
        let fields = _mm512_srl_epi64(layouts, _mm_cvtsi32_si128(i32::from(seed & 3) * 16));
        let offsets = _mm512_and_si512(fields, _mm512_set1_epi64(1023));
        let twins = _mm512_conflict_epi64(offsets);
        if _mm512_test_epi64_mask(twins, twins) & present != 0 {
            // Two of the keys have the same slot, whichever way the slice is turned.
            free = _mm512_maskz_mov_epi64(!(1 << (seed & 3)), free);
            continue;
        }
        let turn = _mm512_set1_epi64(i64::from(seed >> 2));
        let rows = _mm512_add_epi64(_mm512_srli_epi64::<4>(offsets), turn);
        let rows = _mm512_and_si512(rows, _mm512_set1_epi64(63));
        let bits = _mm512_maskz_sllv_epi64(present, _mm512_set1_epi64(1), rows);
        let columns = _mm512_and_si512(offsets, _mm512_set1_epi64(15));
        let lane = _mm512_setr_epi64(0, 1, 2, 3, 4, 5, 6, 7);
        let (mut low, mut high) = (_mm512_setzero_si512(), _mm512_setzero_si512());
        for key in 0..LANES as i64 {
            let key = _mm512_set1_epi64(key);
            let (bit, column) = (_mm512_permutexvar_epi64(key, bits), _mm512_permutexvar_epi64(key, columns));
            let other = _mm512_xor_si512(column, _mm512_set1_epi64(8));
            low = _mm512_mask_or_epi64(low, _mm512_cmpeq_epi64_mask(column, lane), low, bit);
            high = _mm512_mask_or_epi64(high, _mm512_cmpeq_epi64_mask(other, lane), high, bit);
        }
        // From the first lap the rows from `begin` on, from the second one those before.
        let here = |old, new| _mm512_ternarylogic_epi64::<0xF4>(old, new, wrapped);
        let there = |old, new| _mm512_ternarylogic_epi64::<0xF8>(old, new, wrapped);
        store(here(load(&first[0]), low), &mut first[0]);
        store(here(load(&first[1]), high), &mut first[1]);
        store(there(load(&second[0]), low), &mut second[0]);
        store(there(load(&second[1]), high), &mut second[1]);
        return seed;
    }
}

/// The lesser of `best` and what each lane's key makes of a layout: score and seed.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512cd,avx512vbmi,bmi1,bmi2,lzcnt,popcnt")]
fn score<const LAYOUT: i64>(
    best: __m512i,
    free: __m512i,
    rows: __m512i,
    begin: u32,
    keys_of_lane: u64,
) -> __m512i {
    let this = _mm512_set1_epi64(LAYOUT);
    let free = _mm512_permutexvar_epi64(this, free);
    let all_rows = _mm512_permutexvar_epi64(this, rows);
    let own_row = _mm512_permutexvar_epi8(load(&OWN_ROW[LAYOUT as usize]), rows);
    let least = _mm512_sub_epi8(_mm512_set1_epi8(begin as i8), own_row);
    let from_least = _mm512_rorv_epi64(free, least);
    let lowest = _mm512_and_si512(from_least, _mm512_sub_epi64(_mm512_setzero_si512(), from_least));
    let further = _mm512_sub_epi64(_mm512_set1_epi64(63), _mm512_lzcnt_epi64(lowest));
    let moved = _mm512_shuffle_epi8(further, load(&LOWEST));
    // The table is looked up with the low six bits.
    let places = _mm512_add_epi8(_mm512_sub_epi8(all_rows, own_row), moved);
    let costs = _mm512_maskz_permutexvar_epi8(keys_of_lane, places, load(&COST));
    let score = _mm512_sad_epu8(costs, _mm512_setzero_si512());
    let turn = _mm512_and_si512(_mm512_add_epi64(least, further), _mm512_set1_epi64(63));
    let seed = _mm512_or_si512(_mm512_slli_epi64::<2>(turn), this);
    let scored = _mm512_or_si512(_mm512_slli_epi64::<8>(score), seed);
    _mm512_mask_min_epu64(best, _mm512_test_epi64_mask(free, free), best, scored)
}
