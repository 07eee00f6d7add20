//! Eight 64-bit lanes in whichever instructions the processor has, and the one place that asks it.
//!
//! The contract of all that is unsafe here: a [`Simd`] token other than by [`Path`]'s choice is never made, and a
//! [`Path`] holds one only where `is_x86_feature_detected!` has found every feature that the token's functions are
//! compiled for. A job is run inside of a function that has these features, and everything of it is inlined there, so
//! that lanes stay in registers. Loads and stores go through references to whole arrays.
#![allow(unsafe_code)]
#![cfg_attr(not(target_arch = "x86_64"), allow(dead_code))]

use std::fmt;

/// What may be done with eight lanes. A lane has a low and a high half of 32 bits.
pub(crate) trait Simd: Copy {
    type Lanes: Copy;

    fn splat(self, word: u64) -> Self::Lanes;
    fn load(self, words: &[u64; 8]) -> Self::Lanes;
    fn store(self, lanes: Self::Lanes, words: &mut [u64; 8]);
    /// Stores the low 16 bits of each lane.
    fn store_low16(self, lanes: Self::Lanes, words: &mut [u16; 8]);
    /// Stores the low half of each lane.
    fn store_low32(self, lanes: Self::Lanes, words: &mut [u32; 8]);
    /// `words[index[lane]]`, of indices below 8.
    fn spread(self, words: &[u32; 8], index: &[u32; 8]) -> Self::Lanes;
    fn xor(self, a: Self::Lanes, b: Self::Lanes) -> Self::Lanes;
    fn and(self, a: Self::Lanes, b: Self::Lanes) -> Self::Lanes;
    fn or(self, a: Self::Lanes, b: Self::Lanes) -> Self::Lanes;
    /// `a | b | c`.
    fn or_three(self, a: Self::Lanes, b: Self::Lanes, c: Self::Lanes) -> Self::Lanes;
    fn add(self, a: Self::Lanes, b: Self::Lanes) -> Self::Lanes;
    /// The 64-bit products of the low halves.
    fn multiply_low(self, a: Self::Lanes, b: Self::Lanes) -> Self::Lanes;
    /// The low 64 bits of the products.
    fn multiply(self, a: Self::Lanes, b: Self::Lanes) -> Self::Lanes;
    /// Bits 32 to 63 of `(a ^ low) * b`, xored with `top`, in the low halves; the high halves are left undefined. Those of
    /// `low` are zero.
    fn middle(self, a: Self::Lanes, low: Self::Lanes, b: Self::Lanes, top: u32) -> Self::Lanes;
    /// The high half of each lane moved into the low half, zeros above.
    fn high_half(self, a: Self::Lanes) -> Self::Lanes;
    /// The greater one of each pair of halves.
    fn max_halves(self, a: Self::Lanes, b: Self::Lanes) -> Self::Lanes;
    /// `1 << half` in each half, zero from 32 on.
    fn one_hot_halves(self, a: Self::Lanes) -> Self::Lanes;
    /// `count`'s high half plus one where the high half of `a` is less than that of `b`; all below 2^31.
    fn count_less(self, count: Self::Lanes, a: Self::Lanes, b: Self::Lanes) -> Self::Lanes;
    /// Two bits per lane: the upper one where the high halves are equal, the lower one zero.
    fn equal_high(self, a: Self::Lanes, b: Self::Lanes) -> u32;
    /// Whether some low half of `a` is greater than that of `b`, which is less than `u32::MAX`.
    fn any_greater_low(self, a: Self::Lanes, b: Self::Lanes) -> bool;
    /// Two bits per lane: the upper one is bit 31 of the lane, the lower one is zero.
    fn bit_31(self, a: Self::Lanes) -> u32;
}

/// Something to do in lanes, or without.
pub(crate) trait Job {
    type Output;

    fn scalar(self) -> Self::Output;
    /// To be `#[inline(always)]`, with everything that it calls.
    fn lanes<S: Simd>(self, simd: S) -> Self::Output;
}

/// The instructions to use.
#[doc(hidden)]
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Path(Kind);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Scalar,
    #[cfg(target_arch = "x86_64")]
    Avx2(x86::Avx2),
    #[cfg(target_arch = "x86_64")]
    Avx512(x86::Avx512),
}

impl fmt::Debug for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Kind::Scalar => "scalar",
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2(_) => "AVX2",
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512(_) => "AVX-512",
        })
    }
}

impl Path {
    /// No lanes at all.
    pub const SCALAR: Path = Path(Kind::Scalar);

    /// All that this processor has, the best one last.
    pub fn all() -> Vec<Path> {
        [Some(Kind::Scalar), Self::avx2(), Self::avx512()].into_iter().flatten().map(Path).collect()
    }

    /// The best one.
    pub fn best() -> Path {
        Path(Self::avx512().or_else(Self::avx2).unwrap_or(Kind::Scalar))
    }

    #[cfg(target_arch = "x86_64")]
    fn avx2() -> Option<Kind> {
        x86::Avx2::detect().map(Kind::Avx2)
    }

    #[cfg(target_arch = "x86_64")]
    fn avx512() -> Option<Kind> {
        x86::Avx512::detect().map(Kind::Avx512)
    }

    #[cfg(not(target_arch = "x86_64"))]
    fn avx2() -> Option<Kind> {
        None
    }

    #[cfg(not(target_arch = "x86_64"))]
    fn avx512() -> Option<Kind> {
        None
    }

    /// Whether these are 512-bit lanes.
    pub(crate) fn is_avx512(self) -> bool {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512(_) => true,
            _ => false,
        }
    }

    #[inline]
    pub(crate) fn run<J: Job>(self, job: J) -> J::Output {
        match self.0 {
            Kind::Scalar => job.scalar(),
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2(simd) => simd.run(job),
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512(simd) => simd.run(job),
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::{Job, Simd};

    /// Proof that the processor has the features that [`detect`](Avx512::detect) names.
    #[derive(Clone, Copy, PartialEq, Eq)]
    pub(super) struct Avx512(());

    /// Proof that the processor has the features that [`detect`](Avx2::detect) names.
    #[derive(Clone, Copy, PartialEq, Eq)]
    pub(super) struct Avx2(());

    /// One token's detection and its way into a function that is compiled for the same features.
    macro_rules! token {
        ($token:ident, $($feature:tt),+) => {
            impl $token {
                pub(super) fn detect() -> Option<Self> {
                    ($(is_x86_feature_detected!($feature))&&+).then_some($token(()))
                }

                #[inline]
                pub(super) fn run<J: Job>(self, job: J) -> J::Output {
                    $(#[target_feature(enable = $feature)])+
                    fn inside<J: Job>(simd: $token, job: J) -> J::Output {
                        job.lanes(simd)
                    }
                    // SAFETY: the token proves the features.
                    unsafe { inside(self, job) }
                }
            }
        };
    }

    token!(Avx2, "avx2", "bmi1", "bmi2", "lzcnt", "popcnt");
    token!(Avx512, "avx512f", "avx512dq", "avx512bw", "avx512vl", "avx2", "bmi1", "bmi2", "lzcnt", "popcnt");

    impl Simd for Avx512 {
        type Lanes = __m512i;

        #[inline(always)]
        fn splat(self, word: u64) -> __m512i {
            // SAFETY: here and in all functions of this impl the token proves the features.
            unsafe { _mm512_set1_epi64(word.cast_signed()) }
        }

        #[inline(always)]
        fn load(self, words: &[u64; 8]) -> __m512i {
            // SAFETY: as above; 64 bytes are there, and no alignment is asked for.
            unsafe { _mm512_loadu_si512(words.as_ptr().cast()) }
        }

        #[inline(always)]
        fn store(self, lanes: __m512i, words: &mut [u64; 8]) {
            // SAFETY: as above.
            unsafe { _mm512_storeu_si512(words.as_mut_ptr().cast(), lanes) }
        }

        #[inline(always)]
        fn store_low16(self, lanes: __m512i, words: &mut [u16; 8]) {
            // SAFETY: as above, 16 bytes.
            unsafe { _mm_storeu_si128(words.as_mut_ptr().cast(), _mm512_cvtepi64_epi16(lanes)) }
        }

        #[inline(always)]
        fn store_low32(self, lanes: __m512i, words: &mut [u32; 8]) {
            // SAFETY: as above, 32 bytes.
            unsafe { _mm256_storeu_si256(words.as_mut_ptr().cast(), _mm512_cvtepi64_epi32(lanes)) }
        }

        #[inline(always)]
        fn spread(self, words: &[u32; 8], index: &[u32; 8]) -> __m512i {
            // SAFETY: as above, 32 bytes each.
            unsafe {
                let words = _mm256_loadu_si256(words.as_ptr().cast());
                let index = _mm256_loadu_si256(index.as_ptr().cast());
                _mm512_cvtepu32_epi64(_mm256_permutevar8x32_epi32(words, index))
            }
        }

        #[inline(always)]
        fn xor(self, a: __m512i, b: __m512i) -> __m512i {
            // SAFETY: as above.
            unsafe { _mm512_xor_si512(a, b) }
        }

        #[inline(always)]
        fn and(self, a: __m512i, b: __m512i) -> __m512i {
            // SAFETY: as above.
            unsafe { _mm512_and_si512(a, b) }
        }

        #[inline(always)]
        fn or(self, a: __m512i, b: __m512i) -> __m512i {
            // SAFETY: as above.
            unsafe { _mm512_or_si512(a, b) }
        }

        #[inline(always)]
        fn or_three(self, a: __m512i, b: __m512i, c: __m512i) -> __m512i {
            // SAFETY: as above.
            unsafe { _mm512_ternarylogic_epi32::<0xFE>(a, b, c) }
        }

        #[inline(always)]
        fn add(self, a: __m512i, b: __m512i) -> __m512i {
            // SAFETY: as above.
            unsafe { _mm512_add_epi64(a, b) }
        }

        #[inline(always)]
        fn multiply_low(self, a: __m512i, b: __m512i) -> __m512i {
            // SAFETY: as above.
            unsafe { _mm512_mul_epu32(a, b) }
        }

        #[inline(always)]
        fn multiply(self, a: __m512i, b: __m512i) -> __m512i {
            // SAFETY: as above.
            unsafe { _mm512_mullo_epi64(a, b) }
        }

        #[inline(always)]
        fn middle(self, a: __m512i, low: __m512i, b: __m512i, top: u32) -> __m512i {
            // SAFETY: as above.
            let top = unsafe { _mm512_set1_epi32(top.cast_signed()) };
            self.high_half(self.xor(self.multiply(self.xor(a, low), b), top))
        }

        #[inline(always)]
        fn high_half(self, a: __m512i) -> __m512i {
            // SAFETY: as above.
            unsafe { _mm512_srli_epi64::<32>(a) }
        }

        #[inline(always)]
        fn max_halves(self, a: __m512i, b: __m512i) -> __m512i {
            // SAFETY: as above.
            unsafe { _mm512_max_epu32(a, b) }
        }

        #[inline(always)]
        fn one_hot_halves(self, a: __m512i) -> __m512i {
            // SAFETY: as above.
            unsafe { _mm512_sllv_epi32(_mm512_set1_epi32(1), a) }
        }

        #[inline(always)]
        fn count_less(self, count: __m512i, a: __m512i, b: __m512i) -> __m512i {
            // SAFETY: as above.
            unsafe {
                let less = _mm512_cmplt_epi32_mask(a, b);
                _mm512_mask_add_epi32(count, less, count, _mm512_set1_epi32(1))
            }
        }

        #[inline(always)]
        fn equal_high(self, a: __m512i, b: __m512i) -> u32 {
            // SAFETY: as above.
            u32::from(unsafe { _mm512_cmpeq_epi32_mask(a, b) }) & 0xAAAA
        }

        #[inline(always)]
        fn any_greater_low(self, a: __m512i, b: __m512i) -> bool {
            // SAFETY: as above.
            unsafe { _mm512_cmpgt_epu32_mask(a, b) & 0x5555 != 0 }
        }

        #[inline(always)]
        fn bit_31(self, a: __m512i) -> u32 {
            // SAFETY: as above.
            u32::from(unsafe { _mm512_movepi32_mask(_mm512_slli_epi64::<32>(a)) }) & 0xAAAA
        }
    }

    impl Simd for Avx2 {
        type Lanes = [__m256i; 2];

        #[inline(always)]
        fn splat(self, word: u64) -> [__m256i; 2] {
            // SAFETY: here and in all functions of this impl the token proves the features.
            unsafe { [_mm256_set1_epi64x(word.cast_signed()); 2] }
        }

        #[inline(always)]
        fn load(self, words: &[u64; 8]) -> [__m256i; 2] {
            let (halves, _) = words.as_chunks::<4>();
            // SAFETY: as above; 32 bytes are there twice, and no alignment is asked for.
            unsafe {
                [_mm256_loadu_si256(halves[0].as_ptr().cast()), _mm256_loadu_si256(halves[1].as_ptr().cast())]
            }
        }

        #[inline(always)]
        fn store(self, lanes: [__m256i; 2], words: &mut [u64; 8]) {
            let (halves, _) = words.as_chunks_mut::<4>();
            for i in 0..2 {
                // SAFETY: as above.
                unsafe { _mm256_storeu_si256(halves[i].as_mut_ptr().cast(), lanes[i]) }
            }
        }

        #[inline(always)]
        fn store_low16(self, lanes: [__m256i; 2], words: &mut [u16; 8]) {
            let mut wide = [0; 8];
            self.store(lanes, &mut wide);
            *words = wide.map(|word| word as u16);
        }

        #[inline(always)]
        fn store_low32(self, lanes: [__m256i; 2], words: &mut [u32; 8]) {
            let mut wide = [0; 8];
            self.store(lanes, &mut wide);
            *words = wide.map(|word| word as u32);
        }

        #[inline(always)]
        fn spread(self, words: &[u32; 8], index: &[u32; 8]) -> [__m256i; 2] {
            // SAFETY: as above, 32 bytes each.
            unsafe {
                let words = _mm256_loadu_si256(words.as_ptr().cast());
                let index = _mm256_loadu_si256(index.as_ptr().cast());
                let both = _mm256_permutevar8x32_epi32(words, index);
                [
                    _mm256_cvtepu32_epi64(_mm256_castsi256_si128(both)),
                    _mm256_cvtepu32_epi64(_mm256_extracti128_si256::<1>(both)),
                ]
            }
        }

        #[inline(always)]
        fn xor(self, a: [__m256i; 2], b: [__m256i; 2]) -> [__m256i; 2] {
            // SAFETY: as above.
            unsafe { [_mm256_xor_si256(a[0], b[0]), _mm256_xor_si256(a[1], b[1])] }
        }

        #[inline(always)]
        fn and(self, a: [__m256i; 2], b: [__m256i; 2]) -> [__m256i; 2] {
            // SAFETY: as above.
            unsafe { [_mm256_and_si256(a[0], b[0]), _mm256_and_si256(a[1], b[1])] }
        }

        #[inline(always)]
        fn or(self, a: [__m256i; 2], b: [__m256i; 2]) -> [__m256i; 2] {
            // SAFETY: as above.
            unsafe { [_mm256_or_si256(a[0], b[0]), _mm256_or_si256(a[1], b[1])] }
        }

        #[inline(always)]
        fn or_three(self, a: [__m256i; 2], b: [__m256i; 2], c: [__m256i; 2]) -> [__m256i; 2] {
            self.or(self.or(a, b), c)
        }

        #[inline(always)]
        fn add(self, a: [__m256i; 2], b: [__m256i; 2]) -> [__m256i; 2] {
            // SAFETY: as above.
            unsafe { [_mm256_add_epi64(a[0], b[0]), _mm256_add_epi64(a[1], b[1])] }
        }

        #[inline(always)]
        fn multiply_low(self, a: [__m256i; 2], b: [__m256i; 2]) -> [__m256i; 2] {
            // SAFETY: as above.
            unsafe { [_mm256_mul_epu32(a[0], b[0]), _mm256_mul_epu32(a[1], b[1])] }
        }

        #[inline(always)]
        fn multiply(self, a: [__m256i; 2], b: [__m256i; 2]) -> [__m256i; 2] {
            let across =
                self.add(self.multiply_low(a, self.high_half(b)), self.multiply_low(self.high_half(a), b));
            let low = self.multiply_low(a, b);
            // SAFETY: as above.
            unsafe {
                [
                    _mm256_add_epi64(low[0], _mm256_slli_epi64::<32>(across[0])),
                    _mm256_add_epi64(low[1], _mm256_slli_epi64::<32>(across[1])),
                ]
            }
        }

        #[inline(always)]
        fn middle(self, a: [__m256i; 2], low: [__m256i; 2], b: [__m256i; 2], top: u32) -> [__m256i; 2] {
            // Computed once where the lanes of `a` and of `b` are alike.
            let above = self.low_products(self.high_half(a), b);
            let a = self.xor(a, low);
            let across = self.add(self.low_products(a, self.high_half(b)), above);
            let middle = self.add(across, self.high_half(self.multiply_low(a, b)));
            self.xor(middle, self.splat(top.into()))
        }

        #[inline(always)]
        fn high_half(self, a: [__m256i; 2]) -> [__m256i; 2] {
            // SAFETY: as above.
            unsafe { [_mm256_srli_epi64::<32>(a[0]), _mm256_srli_epi64::<32>(a[1])] }
        }

        #[inline(always)]
        fn max_halves(self, a: [__m256i; 2], b: [__m256i; 2]) -> [__m256i; 2] {
            // SAFETY: as above.
            unsafe { [_mm256_max_epu32(a[0], b[0]), _mm256_max_epu32(a[1], b[1])] }
        }

        #[inline(always)]
        fn one_hot_halves(self, a: [__m256i; 2]) -> [__m256i; 2] {
            // SAFETY: as above.
            unsafe {
                let one = _mm256_set1_epi32(1);
                [_mm256_sllv_epi32(one, a[0]), _mm256_sllv_epi32(one, a[1])]
            }
        }

        #[inline(always)]
        fn count_less(self, count: [__m256i; 2], a: [__m256i; 2], b: [__m256i; 2]) -> [__m256i; 2] {
            // SAFETY: as above.
            unsafe {
                [
                    _mm256_sub_epi32(count[0], _mm256_cmpgt_epi32(b[0], a[0])),
                    _mm256_sub_epi32(count[1], _mm256_cmpgt_epi32(b[1], a[1])),
                ]
            }
        }

        #[inline(always)]
        fn equal_high(self, a: [__m256i; 2], b: [__m256i; 2]) -> u32 {
            // SAFETY: as above.
            unsafe { halves_mask([_mm256_cmpeq_epi32(a[0], b[0]), _mm256_cmpeq_epi32(a[1], b[1])]) & 0xAAAA }
        }

        #[inline(always)]
        fn any_greater_low(self, a: [__m256i; 2], b: [__m256i; 2]) -> bool {
            // SAFETY: as above.
            unsafe {
                let max = [_mm256_max_epu32(a[0], b[0]), _mm256_max_epu32(a[1], b[1])];
                let no_less = [_mm256_cmpeq_epi32(max[0], b[0]), _mm256_cmpeq_epi32(max[1], b[1])];
                !halves_mask(no_less) & 0x5555 != 0
            }
        }

        #[inline(always)]
        fn bit_31(self, a: [__m256i; 2]) -> u32 {
            // SAFETY: as above.
            unsafe { halves_mask([_mm256_slli_epi64::<32>(a[0]), _mm256_slli_epi64::<32>(a[1])]) & 0xAAAA }
        }
    }

    impl Avx2 {
        /// The low 32 bits of the halves' products. (Products of 64 bits would be made of three where only these are used.)
        #[inline(always)]
        fn low_products(self, a: [__m256i; 2], b: [__m256i; 2]) -> [__m256i; 2] {
            // SAFETY: as above.
            unsafe { [_mm256_mullo_epi32(a[0], b[0]), _mm256_mullo_epi32(a[1], b[1])] }
        }
    }

    /// The top bit of each half.
    #[inline(always)]
    unsafe fn halves_mask(a: [__m256i; 2]) -> u32 {
        // SAFETY: the caller has AVX2.
        let (low, high) = unsafe {
            (_mm256_movemask_ps(_mm256_castsi256_ps(a[0])), _mm256_movemask_ps(_mm256_castsi256_ps(a[1])))
        };
        low.cast_unsigned() | high.cast_unsigned() << 8
    }
}
