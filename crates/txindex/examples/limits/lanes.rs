//! What vector units take for the kernels' innermost steps, and two instructions that the language has no other word for.
//!
//! The contract of what is unsafe here: a function that is compiled for a feature is called where the processor was found
//! to have it; words and vectors are turned into each other whole.
#![allow(unsafe_code)]

/// Mixes for a call of the kernels that mix.
pub(crate) const BATCHES: usize = 16;

#[cfg(target_arch = "x86_64")]
pub(crate) use x86::{back_substitution, laps, mix_256, mix_512, pilots, prefetch, rotated_words, turn};

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::{arch::asm, arch::x86_64::*, hint::black_box, mem::transmute};

    use super::BATCHES;

    /// A key's mixes with consecutive seeds, as little as a search can do: the upper half of the product is known
    /// beforehand, and a range of the mix's high half is its place. A key: `a`, `b`, what the high half of `a` adds to bits
    /// 32 to 63 of the product, and that upper half.
    macro_rules! mix {
        ($name:ident, $inside:ident, $middle:ident, $feature:tt, $lanes:literal, $set:ident, $mul:ident, $add:ident,
         $xor:ident, $or:ident) => {
            /// How many mixes were done; `None` where the processor cannot.
            pub(crate) fn $name(keys: &[[u64; 4]]) -> Option<usize> {
                #[target_feature(enable = $feature)]
                fn $inside(keys: &[[u64; 4]]) {
                    let (mut any, step, size) = ($set(0), $set($lanes), $set(5));
                    for key in keys {
                        let [a, b, known, top] = key.map(|word| $set(word.cast_signed()));
                        let mut seeds = $set(0);
                        for _ in 0..BATCHES {
                            let middle = $middle($xor(a, seeds), b, known);
                            any = $or(any, $mul($xor(middle, top), size));
                            seeds = $add(seeds, step);
                        }
                    }
                    black_box(any);
                }
                // SAFETY: the feature is there.
                is_x86_feature_detected!($feature).then(|| unsafe { $inside(keys) })?;
                Some(keys.len() * BATCHES * $lanes)
            }
        };
    }
    mix!(
        mix_512,
        inside,
        middle_512,
        "avx512dq",
        8,
        _mm512_set1_epi64,
        _mm512_mul_epu32,
        _mm512_add_epi64,
        _mm512_xor_si512,
        _mm512_or_si512
    );
    mix!(
        mix_256,
        inside,
        middle_256,
        "avx2",
        4,
        _mm256_set1_epi64x,
        _mm256_mul_epu32,
        _mm256_add_epi64,
        _mm256_xor_si256,
        _mm256_or_si256
    );

    #[inline]
    #[target_feature(enable = "avx512dq")]
    fn middle_512(a: __m512i, b: __m512i, _: __m512i) -> __m512i {
        _mm512_srli_epi64::<32>(_mm512_mullo_epi64(a, b))
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn middle_256(a: __m256i, b: __m256i, known: __m256i) -> __m256i {
        // Products of 32 bits: those of 64 would be made of more than one.
        let across = _mm256_add_epi64(_mm256_mullo_epi32(a, _mm256_srli_epi64::<32>(b)), known);
        _mm256_add_epi64(across, _mm256_srli_epi64::<32>(_mm256_mul_epu32(a, b)))
    }

    /// In one line of the cache.
    #[repr(align(64))]
    struct Line([u64; 8]);

    fn words(lanes: __m512i) -> [u64; 8] {
        // SAFETY: both are 64 bytes, any of them.
        unsafe { transmute(lanes) }
    }

    fn lanes(words: [u64; 8]) -> __m512i {
        // SAFETY: as above.
        unsafe { transmute(words) }
    }

    /// Each fold times all hashes, the slots of the products, and whether they are taken.
    pub(crate) fn pilots(folds: &[u64], hashes: &[[u64; 8]], taken: &[u8; 1 << 15]) -> Option<usize> {
        #[target_feature(enable = "avx512f,avx512dq")]
        fn inside(folds: &[u64], hashes: &[[u64; 8]], taken: &[u8; 1 << 15]) {
            let (mut any, slots) = (0, _mm512_set1_epi64(31_919));
            for &fold in folds {
                let fold = _mm512_set1_epi64(fold.cast_signed());
                for &hashes in hashes {
                    let x = _mm512_mullo_epi64(fold, lanes(hashes));
                    let low = _mm512_srli_epi64::<32>(_mm512_mul_epu32(x, slots));
                    let high = _mm512_mul_epu32(_mm512_srli_epi64::<32>(x), slots);
                    let found = words(_mm512_srli_epi64::<32>(_mm512_add_epi64(high, low)));
                    any |= found.into_iter().fold(0, |any, slot| any | taken[slot as usize % taken.len()]);
                }
            }
            black_box(any);
        }
        let can = is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512dq");
        // SAFETY: the features are there.
        can.then(|| unsafe { inside(folds, hashes, taken) })?;
        Some(folds.len() * hashes.len() * 8)
    }

    /// The words of a key's four columns, twice, each rotated by its row.
    pub(crate) fn rotated_words(keys: &[u64], columns: [[u64; 8]; 2]) -> Option<usize> {
        #[target_feature(enable = "avx512f")]
        fn inside(keys: &[u64], columns: [[u64; 8]; 2]) {
            let [low, high] = columns.map(lanes);
            let fields = lanes([0, 16, 32, 48, 0, 16, 32, 48]);
            let mut any = _mm512_set1_epi64(0);
            for key in keys {
                let layouts = _mm512_srlv_epi64(_mm512_set1_epi64(key.cast_signed()), fields);
                let words = _mm512_permutex2var_epi64(low, layouts, high);
                any = _mm512_or_si512(any, _mm512_rorv_epi64(words, _mm512_srli_epi64::<4>(layouts)));
            }
            black_box(any);
        }
        // SAFETY: the feature is there.
        is_x86_feature_detected!("avx512f").then(|| unsafe { inside(keys, columns) })?;
        Some(keys.len() * 8)
    }

    /// A lap raised by one, and loaded as the last time left it.
    pub(crate) fn laps(rounds: usize) -> Option<usize> {
        #[target_feature(enable = "avx512f")]
        fn inside(rounds: usize) {
            let mut lap = Line([0; 8]);
            for _ in 0..rounds {
                lap.0 = words(_mm512_add_epi64(lanes(black_box(&lap).0), _mm512_set1_epi64(1)));
            }
        }
        // SAFETY: the feature is there.
        is_x86_feature_detected!("avx512f").then(|| unsafe { inside(rounds) })?;
        Some(rounds)
    }

    /// Rows of four bytes out of coefficients, one after the other: each needs those before it.
    pub(crate) fn back_substitution(equations: &[[u64; 2]]) -> Option<usize> {
        #[target_feature(enable = "avx512f,avx512vpopcntdq")]
        fn inside(equations: &[[u64; 2]]) {
            let (mut columns, one) = ([_mm512_set1_epi64(0); 4], _mm512_set1_epi64(1));
            for &[coefficients, value] in equations {
                let later = _mm512_set1_epi64(coefficients.cast_signed());
                for (column, value) in columns.iter_mut().zip(value.to_le_bytes()) {
                    let parity = _mm512_popcnt_epi64(_mm512_and_si512(*column, later));
                    let bits = _mm512_test_epi64_mask(parity, one) ^ value;
                    let shifted = _mm512_add_epi64(*column, *column);
                    *column = _mm512_mask_add_epi64(shifted, bits, shifted, one);
                }
            }
            black_box(columns);
        }
        let can = is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512vpopcntdq");
        // SAFETY: the features are there.
        can.then(|| unsafe { inside(equations) })?;
        Some(equations.len())
    }

    /// Begins to load a line.
    #[inline(always)]
    pub(crate) fn prefetch(bytes: &[u8], at: usize) {
        // SAFETY: a hint, which reads nothing and faults on no address.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(bytes.as_ptr().wrapping_add(at).cast()) };
    }

    /// `N` instructions, each of which needs the one before.
    #[inline(always)]
    pub(crate) fn turn<const N: usize>(mut word: u64) -> u64 {
        // SAFETY: changes nothing but its register.
        unsafe {
            asm!(".rept {n}", "lea {word}, [{word} + 1]", ".endr", n = const N, word = inout(reg) word,
                 options(pure, nomem, nostack, preserves_flags));
        }
        word
    }
}

#[cfg(not(target_arch = "x86_64"))]
mod elsewhere {
    pub(crate) fn mix_512(_: &[[u64; 4]]) -> Option<usize> {
        None
    }

    pub(crate) fn mix_256(_: &[[u64; 4]]) -> Option<usize> {
        None
    }

    pub(crate) fn pilots(_: &[u64], _: &[[u64; 8]], _: &[u8; 1 << 15]) -> Option<usize> {
        None
    }

    pub(crate) fn rotated_words(_: &[u64], _: [[u64; 8]; 2]) -> Option<usize> {
        None
    }

    pub(crate) fn laps(_: usize) -> Option<usize> {
        None
    }

    pub(crate) fn back_substitution(_: &[[u64; 2]]) -> Option<usize> {
        None
    }

    pub(crate) fn prefetch(_: &[u8], _: usize) {}

    #[inline(always)]
    pub(crate) fn turn<const N: usize>(word: u64) -> u64 {
        (0..N).fold(word, |word, _| std::hint::black_box(word.wrapping_add(1)))
    }
}

#[cfg(not(target_arch = "x86_64"))]
pub(crate) use elsewhere::{
    back_substitution, laps, mix_256, mix_512, pilots, prefetch, rotated_words, turn,
};
