//! Lookups with AVX-512 where they are two reads, eight keys at a time; the steps are those of `batch`.
//!
//! Contract: [`Avx512`] is proof that the processor has every feature that the functions here are compiled for; it comes
//! from [`Avx512::detect`] alone. Vectors are loaded from and stored to arrays of their length. Gathers read blocks of the
//! table, whose numbers are below their count by the way they are computed, hashes of pilots, which are bytes, and bytes of
//! the source, of lanes whose whole word was found to be inside.
//!
//! Whatever is unusual is left to the portable code: bumped and remapped keys, small blocks, large entries, a source that
//! has shrunk.
#![allow(unsafe_code)]

use std::arch::x86_64::*;

use super::{BLOB_AT_BITS, Block, batch::UNKNOWN, lookup::EntryShape};
use crate::{
    format::MAX_KEYS,
    key::{FINGERPRINT_FACTOR, Key},
    phast,
    prefetch::prefetch,
    ptrhash,
};

/// Proof that the processor has what this module is compiled for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Avx512(());

impl Avx512 {
    pub(super) fn detect() -> Option<Self> {
        let has_all = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vl");
        has_all.then_some(Avx512(()))
    }
}

pub(super) const LANES: usize = 8;
type Words = [u64; LANES];

const _: () = assert!(size_of::<Block>() == 16 && std::mem::offset_of!(Block, keys) == 0);

/// Eight keys on their way.
#[derive(Clone, Copy, Default)]
pub(super) struct Eight {
    k0: Words,
    k1: Words,
    /// What the table says of their blocks: number of keys, and of those before.
    keys: Words,
    buckets: Words,
    /// Where in the source their bytes are, and then their ranks or [`UNKNOWN`].
    pub(super) places: Words,
}

/// What all keys have in common.
pub(super) struct Lanes<'a, A> {
    /// Proof of what the functions here need.
    #[allow(dead_code)]
    pub(super) avx512: Avx512,
    pub(super) bytes: &'a [u8],
    pub(super) blocks: &'a [Block],
    pub(super) entries: &'a EntryShape,
    pub(super) payload_at: u64,
    pub(super) algorithm: A,
}

/// Where a key's byte is, and what it means.
pub(super) trait TwoReads {
    /// The places of the bytes in their blobs; `places` are those of the keys in their blocks, of `counts` keys.
    ///
    /// # Safety
    /// The processor has what [`Avx512`] is proof of.
    unsafe fn buckets(&self, eight: &Eight, places: __m512i, counts: __m512i) -> __m512i;

    /// The slots, and the lanes in which the byte says it.
    ///
    /// # Safety
    /// As above; the bytes are below 256.
    unsafe fn slots(&self, eight: &Eight, counts: __m512i, bytes: __m512i) -> (u8, __m512i);
}

/// PTRHash.
pub(super) struct Pilots<'a> {
    pub(super) hashes: &'a [u64; 256],
}

/// Fast.
pub(super) struct Seeds {
    pub(super) seed: u64,
}

impl<A: TwoReads> Lanes<'_, A> {
    /// The first step: where the bytes are.
    #[inline(always)]
    pub(super) fn find_bytes(&self, eight: &mut Eight) {
        // SAFETY: there is no token where a feature is missing.
        unsafe { find_bytes(self, eight) }
        eight.places.iter().for_each(|place| prefetch(self.bytes, *place as usize));
    }

    /// The second: ranks.
    #[inline(always)]
    pub(super) fn find_ranks(&self, eight: &mut Eight) {
        let mut entries = [0; LANES];
        // SAFETY: as above.
        unsafe { find_ranks(self, eight, &mut entries) }
        entries.iter().for_each(|at| prefetch(self.bytes, *at as usize));
    }

    /// The last: a bit for each key that has a rank, a bit for each whose fingerprint is right, and payloads.
    #[inline(always)]
    pub(super) fn find_payloads(&self, eight: &Eight) -> (u8, u8, Words) {
        // SAFETY: as above.
        unsafe { find_payloads(self, eight) }
    }
}

impl Eight {
    #[inline(always)]
    pub(super) fn put(&mut self, lane: usize, key: Key) {
        (self.k0[lane], self.k1[lane]) = (key.k0, key.k1);
    }

    #[inline(always)]
    pub(super) fn key(&self, lane: usize) -> Key {
        Key { k0: self.k0[lane], k1: self.k1[lane] }
    }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn load(words: &Words) -> __m512i {
    // SAFETY: 64 bytes are there, and no alignment is asked for.
    unsafe { _mm512_loadu_si512(words.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn store(lanes: __m512i, words: &mut Words) {
    // SAFETY: as above.
    unsafe { _mm512_storeu_si512(words.as_mut_ptr().cast(), lanes) }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn all(word: u64) -> __m512i {
    _mm512_set1_epi64(word.cast_signed())
}

/// The product with numbers of 32 bits: its 32 bits from 2^64 on, and the 64 below.
#[inline]
#[target_feature(enable = "avx512f")]
fn multiply(words: __m512i, small: __m512i) -> (__m512i, __m512i) {
    let low = _mm512_mul_epu32(words, small);
    let high = _mm512_mul_epu32(_mm512_srli_epi64::<32>(words), small);
    let high = _mm512_add_epi64(high, _mm512_srli_epi64::<32>(low));
    // The odd halves of the one and the even ones of the other.
    let below = _mm512_mask_mov_epi32(_mm512_slli_epi64::<32>(high), 0x5555, low);
    (_mm512_srli_epi64::<32>(high), below)
}

/// The product: its 64 bits from 2^64 on, and those below.
#[inline]
#[target_feature(enable = "avx512f")]
fn product(a: __m512i, b: __m512i) -> (__m512i, __m512i) {
    let (a_high, b_high) = (_mm512_srli_epi64::<32>(a), _mm512_srli_epi64::<32>(b));
    let low = _mm512_mul_epu32(a, b);
    let middle = _mm512_add_epi64(_mm512_mul_epu32(a_high, b), _mm512_srli_epi64::<32>(low));
    let other = _mm512_and_si512(middle, all(u32::MAX.into()));
    let other = _mm512_add_epi64(_mm512_mul_epu32(a, b_high), other);
    let high = _mm512_add_epi64(_mm512_mul_epu32(a_high, b_high), _mm512_srli_epi64::<32>(middle));
    let high = _mm512_add_epi64(high, _mm512_srli_epi64::<32>(other));
    (high, _mm512_mask_mov_epi32(_mm512_slli_epi64::<32>(other), 0x5555, low))
}

/// The lanes in which a word of eight bytes is inside the source.
#[inline]
#[target_feature(enable = "avx512f")]
fn inside(bytes: &[u8], places: __m512i) -> u8 {
    match bytes.len().checked_sub(8) {
        Some(last) => _mm512_cmple_epu64_mask(places, all(last as u64)),
        None => 0,
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
fn find_bytes(lanes: &Lanes<'_, impl TwoReads>, eight: &mut Eight) {
    let reversed = _mm512_set_epi64(
        0x08090A0B0C0D0E0F,
        0x0001020304050607,
        0x08090A0B0C0D0E0F,
        0x0001020304050607,
        0x08090A0B0C0D0E0F,
        0x0001020304050607,
        0x08090A0B0C0D0E0F,
        0x0001020304050607,
    );
    let prefixes = _mm512_shuffle_epi8(load(&eight.k0), reversed);
    let (numbers, places) = multiply(prefixes, all(lanes.blocks.len() as u64));
    let table = lanes.blocks.as_ptr().cast();
    let at = _mm512_slli_epi64::<1>(numbers);
    // SAFETY: a product with the number of blocks is, from 2^64 on, below it; a block is two words.
    let (keys, blobs) = unsafe {
        (
            _mm512_i64gather_epi64::<8>(at, table),
            _mm512_i64gather_epi64::<8>(_mm512_or_si512(at, all(1)), table),
        )
    };
    // SAFETY: this is compiled for the same.
    let buckets = unsafe { lanes.algorithm.buckets(eight, places, _mm512_srli_epi64::<40>(keys)) };
    let begins = _mm512_and_si512(blobs, all((1 << BLOB_AT_BITS) - 1));
    store(keys, &mut eight.keys);
    store(buckets, &mut eight.buckets);
    store(_mm512_add_epi64(begins, buckets), &mut eight.places);
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
fn find_ranks(lanes: &Lanes<'_, impl TwoReads>, eight: &mut Eight, entries: &mut Words) {
    let (keys, places) = (load(&eight.keys), load(&eight.places));
    let inside = inside(lanes.bytes, places);
    // SAFETY: the words of these lanes are inside.
    let bytes = unsafe {
        _mm512_mask_i64gather_epi64::<1>(_mm512_setzero_si512(), inside, places, lanes.bytes.as_ptr().cast())
    };
    let bytes = _mm512_and_si512(bytes, all(0xFF));
    let counts = _mm512_srli_epi64::<40>(keys);
    // SAFETY: as above, and the other bits were masked off.
    let (known, slots) = unsafe { lanes.algorithm.slots(eight, counts, bytes) };
    let ranks = _mm512_add_epi64(_mm512_and_si512(keys, all(MAX_KEYS)), slots);
    let at = _mm512_mullo_epi64(ranks, all(lanes.entries.bytes));
    store(_mm512_add_epi64(at, all(lanes.payload_at)), entries);
    store(_mm512_mask_mov_epi64(all(UNKNOWN), inside & known, ranks), &mut eight.places);
}

impl TwoReads for Pilots<'_> {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
    unsafe fn buckets(&self, eight: &Eight, _: __m512i, _: __m512i) -> __m512i {
        let k1 = load(&eight.k1);
        let (square, _) = product(k1, k1);
        let (cube, _) = product(square, _mm512_or_si512(_mm512_srli_epi64::<1>(k1), all(1 << 63)));
        let part = _mm512_srli_epi64::<8>(cube);
        let skewed = _mm512_sub_epi64(_mm512_slli_epi64::<8>(part), part);
        let skewed = _mm512_add_epi64(skewed, _mm512_srli_epi64::<8>(k1));
        multiply(skewed, all(ptrhash::BUCKETS as u64)).0
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
    unsafe fn slots(&self, eight: &Eight, counts: __m512i, pilots: __m512i) -> (u8, __m512i) {
        // SAFETY: bytes number the hashes.
        let hashes = unsafe { _mm512_i64gather_epi64::<8>(pilots, self.hashes.as_ptr().cast()) };
        let both = _mm512_xor_si512(load(&eight.k0), load(&eight.k1));
        let folded = _mm512_xor_si512(both, _mm512_srli_epi64::<32>(both));
        // Rounded up; no block has as many as 2^24 keys.
        let more = _mm512_add_epi64(counts, all(u64::from(ptrhash::KEYS_PER_SPARE_SLOT) - 1));
        let more = _mm512_srli_epi64::<32>(_mm512_mul_epu32(more, all(ptrhash::SPARE_SLOTS_PER_KEY.into())));
        let (slots, _) = multiply(_mm512_mullo_epi64(folded, hashes), _mm512_add_epi64(counts, more));
        (_mm512_cmplt_epu64_mask(slots, counts), slots)
    }
}

impl TwoReads for Seeds {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
    unsafe fn buckets(&self, _: &Eight, places: __m512i, counts: __m512i) -> __m512i {
        let buckets = _mm512_mul_epu32(counts, all(phast::BUCKETS_PER_KEY.into()));
        let buckets = _mm512_add_epi64(_mm512_srli_epi64::<32>(buckets), all(1));
        multiply(places, buckets).0
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
    unsafe fn slots(&self, eight: &Eight, counts: __m512i, seeds: __m512i) -> (u8, __m512i) {
        let known = _mm512_cmpge_epu64_mask(counts, all(phast::MIN_FIRST_KEYS.into()));
        let known = _mm512_mask_test_epi64_mask(known, seeds, seeds);
        let (high, low) = product(
            _mm512_xor_si512(load(&eight.k0), all(phast::FIRST_SALT)),
            _mm512_xor_si512(load(&eight.k1), all(self.seed)),
        );
        let layouts = _mm512_xor_si512(high, low);
        let chosen = _mm512_and_si512(_mm512_slli_epi64::<4>(seeds), all(48));
        let offsets = _mm512_srlv_epi64(layouts, chosen);
        let rows = _mm512_mul_epu32(load(&eight.buckets), all(phast::KEYS_PER_BUCKET.into()));
        let rows = _mm512_srli_epi64::<{ 16 + phast::COLUMN_BITS }>(rows);
        let rows = _mm512_sub_epi64(rows, all(phast::HOLD_ROWS.into()));
        let rows = _mm512_max_epi64(rows, _mm512_setzero_si512());
        let last_rows = _mm512_srli_epi64::<{ phast::COLUMN_BITS }>(counts);
        let last_rows = _mm512_sub_epi64(last_rows, all(phast::ROWS.into()));
        let begins = _mm512_slli_epi64::<{ phast::COLUMN_BITS }>(_mm512_min_epi64(rows, last_rows));
        let turns = _mm512_slli_epi64::<{ phast::COLUMN_BITS }>(_mm512_srli_epi64::<2>(seeds));
        let turned = _mm512_sub_epi64(_mm512_add_epi64(offsets, turns), begins);
        let turned = _mm512_and_si512(turned, all(((phast::ROWS << phast::COLUMN_BITS) - 1).into()));
        (known, _mm512_add_epi64(begins, turned))
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
fn find_payloads<A>(lanes: &Lanes<'_, A>, eight: &Eight) -> (u8, u8, Words) {
    let ranks = load(&eight.places);
    let at = _mm512_mullo_epi64(ranks, all(lanes.entries.bytes));
    let at = _mm512_add_epi64(at, all(lanes.payload_at));
    let known = _mm512_mask_cmpneq_epi64_mask(inside(lanes.bytes, at), ranks, all(UNKNOWN));
    let source = lanes.bytes.as_ptr();
    let entries = if lanes.entries.bytes <= 4 {
        // SAFETY: the words of these lanes are inside, and so are their first halves.
        let halves =
            unsafe { _mm512_mask_i64gather_epi32::<1>(_mm256_setzero_si256(), known, at, source.cast()) };
        _mm512_cvtepu32_epi64(halves)
    } else {
        // SAFETY: as above.
        unsafe { _mm512_mask_i64gather_epi64::<1>(_mm512_setzero_si512(), known, at, source.cast()) }
    };
    let own = _mm512_mullo_epi64(load(&eight.k1), all(FINGERPRINT_FACTOR));
    let own = _mm512_srli_epi64::<32>(_mm512_xor_si512(own, load(&eight.k0)));
    let differ = _mm512_and_si512(_mm512_xor_si512(own, entries), all(lanes.entries.fingerprint_mask.into()));
    let right = _mm512_mask_testn_epi64_mask(known, differ, differ);
    let payloads = _mm512_srl_epi64(entries, _mm_cvtsi64_si128(lanes.entries.fingerprint_bits.into()));
    let mut words = [0; LANES];
    store(_mm512_and_si512(payloads, all(lanes.entries.payload_mask)), &mut words);
    (known, right, words)
}
