//! The two loops over rows, portable and in 512-bit lanes.
//!
//! The contract of what is unsafe here: [`Kernel::Avx512`] is made by [`Kernel::detect`] alone, which has found every
//! feature that the functions behind it are compiled for. Loads go through references to whole arrays.
#![allow(unsafe_code)]

use super::{WIDTH, solve::Equation};
use crate::simd::Path;

/// Which instructions to use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kernel {
    Portable,
    #[cfg(target_arch = "x86_64")]
    Avx512(x86::Token),
}

impl Kernel {
    /// The fastest one that this processor has.
    pub(super) fn detect() -> Self {
        #[cfg(target_arch = "x86_64")]
        if let Some(token) = x86::Token::detect() {
            return Kernel::Avx512(token);
        }
        Kernel::Portable
    }

    /// The fastest one of those instructions.
    pub(super) fn of(path: Path) -> Self {
        if path.is_avx512() { Self::detect() } else { Kernel::Portable }
    }

    /// Solves equations from the last row down: `rows[i]` gets row `i`. Rows without an equation are zero. Values have no
    /// more than `row_bytes` bytes.
    pub(super) fn substitute_back(self, equations: &[Equation], row_bytes: usize, rows: &mut [u64]) {
        match self {
            Kernel::Portable => substitute_back(equations, rows),
            #[cfg(target_arch = "x86_64")]
            Kernel::Avx512(token) => token.substitute_back(equations, row_bytes, rows),
        }
    }

    /// The exclusive or of those of the 64 rows of a window whose bits are set.
    #[inline]
    pub(super) fn combine(self, window: &[u8], row_bytes: usize, chosen: u64) -> u64 {
        match (self, row_bytes) {
            #[cfg(target_arch = "x86_64")]
            (Kernel::Avx512(token), 4) => match window.first_chunk() {
                Some(window) => u64::from(token.combine(window, chosen)),
                None => combine::<4>(window, chosen),
            },
            (_, 1) => combine::<1>(window, chosen),
            (_, 2) => combine::<2>(window, chosen),
            (_, 3) => combine::<3>(window, chosen),
            (_, 4) => combine::<4>(window, chosen),
            (_, 5) => combine::<5>(window, chosen),
            (_, 6) => combine::<6>(window, chosen),
            (_, 7) => combine::<7>(window, chosen),
            (..) => combine::<8>(window, chosen),
        }
    }
}

/// Row by row: those that an equation chooses, beside its own first, are solved already.
fn substitute_back(equations: &[Equation], rows: &mut [u64]) {
    for (at, equation) in equations.iter().enumerate().rev() {
        let later = equation.coefficients & !1;
        let mut row = equation.value;
        let mut left = later;
        while left != 0 {
            row ^= rows[at + left.trailing_zeros() as usize];
            left &= left - 1;
        }
        rows[at] = row;
    }
}

#[inline]
fn combine<const ROW_BYTES: usize>(window: &[u8], chosen: u64) -> u64 {
    let (rows, _) = window.as_chunks::<ROW_BYTES>();
    let mut sum = 0;
    let mut left = chosen;
    while left != 0 {
        let mut word = [0; 8];
        if let Some(row) = rows.get(left.trailing_zeros() as usize) {
            word[..ROW_BYTES].copy_from_slice(row);
        }
        sum ^= u64::from_le_bytes(word);
        left &= left - 1;
    }
    sum
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::{Equation, WIDTH};

    /// Proof that the processor has AVX-512 F, DQ and VPOPCNTDQ.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(crate) struct Token(());

    impl Token {
        pub(super) fn detect() -> Option<Self> {
            let found = is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512vpopcntdq");
            found.then_some(Token(()))
        }

        pub(super) fn substitute_back(self, equations: &[Equation], row_bytes: usize, rows: &mut [u64]) {
            let solve = match row_bytes {
                1 => substitute_back::<1>,
                2 => substitute_back::<2>,
                3 => substitute_back::<3>,
                4 => substitute_back::<4>,
                5 => substitute_back::<5>,
                6 => substitute_back::<6>,
                7 => substitute_back::<7>,
                _ => substitute_back::<8>,
            };
            // SAFETY: a token means that the features are there.
            unsafe { solve(equations, rows) }
        }

        #[inline]
        pub(super) fn combine(self, window: &[u8; 4 * WIDTH as usize], chosen: u64) -> u32 {
            // SAFETY: a token means that the features are there.
            unsafe { combine(window, chosen) }
        }
    }

    /// Column by column: bit `k` of column `j` is bit `j` of the row `k + 1` after the one in hand, so that a row's bit is
    /// the parity of what its equation chooses of a column. Eight columns to a vector.
    #[target_feature(enable = "avx512f,avx512dq,avx512vpopcntdq")]
    fn substitute_back<const ROW_BYTES: usize>(equations: &[Equation], rows: &mut [u64]) {
        let mut columns = [_mm512_setzero_si512(); ROW_BYTES];
        let one = _mm512_set1_epi64(1);
        for (equation, out) in equations.iter().zip(rows).rev() {
            let later = _mm512_set1_epi64((equation.coefficients >> 1) as i64);
            let mut row = 0;
            for (number, column) in columns.iter_mut().enumerate() {
                let parity = _mm512_popcnt_epi64(_mm512_and_si512(*column, later));
                let value = (equation.value >> (8 * number)) as u8;
                let bits = _mm512_test_epi64_mask(parity, one) ^ value;
                row |= u64::from(bits) << (8 * number);
                let shifted = _mm512_add_epi64(*column, *column);
                *column = _mm512_mask_add_epi64(shifted, bits, shifted, one);
            }
            *out = row;
        }
    }

    #[target_feature(enable = "avx512f,avx512dq,avx512vpopcntdq")]
    fn combine(window: &[u8; 4 * WIDTH as usize], chosen: u64) -> u32 {
        let mut sum = _mm512_setzero_si512();
        let (quarters, _) = window.as_chunks::<64>();
        for (number, quarter) in quarters.iter().enumerate() {
            // SAFETY: the array has the 64 bytes that are loaded, at any alignment.
            let rows = unsafe { _mm512_loadu_si512(quarter.as_ptr().cast()) };
            sum = _mm512_mask_xor_epi32(sum, (chosen >> (16 * number)) as u16, sum, rows);
        }
        let half = _mm256_xor_si256(_mm512_castsi512_si256(sum), _mm512_extracti64x4_epi64::<1>(sum));
        let quarter = _mm_xor_si128(_mm256_castsi256_si128(half), _mm256_extracti128_si256::<1>(half));
        let pair = _mm_xor_si128(quarter, _mm_srli_si128::<8>(quarter));
        _mm_cvtsi128_si32(_mm_xor_si128(pair, _mm_srli_si128::<4>(pair))) as u32
    }
}

#[cfg(test)]
mod tests {
    use icecore_testkit::SplitMix64;

    use super::*;

    #[test]
    fn both_ways_agree() {
        let mut rng = SplitMix64::new(1);
        for row_bytes in 1..=8 {
            let mask = u64::MAX >> (64 - 8 * row_bytes);
            // The last window ends with the last row.
            let mut equation = |row: usize| match rng.next_u64() % 4 {
                0 => Equation::default(),
                _ => Equation {
                    coefficients: (rng.next_u64() | 1) & (u64::MAX >> (64 - (300 - row).min(64))),
                    value: rng.next_u64() & mask,
                },
            };
            let equations: Vec<_> = (0..300).map(&mut equation).collect();
            let (mut portable, mut fast) = (vec![0; 300], vec![0; 300]);
            Kernel::Portable.substitute_back(&equations, row_bytes, &mut portable);
            Kernel::detect().substitute_back(&equations, row_bytes, &mut fast);
            assert_eq!(portable, fast);
            let bytes: Vec<u8> =
                portable.iter().flat_map(|row| row.to_le_bytes().into_iter().take(row_bytes)).collect();
            for (at, equation) in equations.iter().enumerate().take(300 - 64) {
                let window = &bytes[at * row_bytes..(at + 64) * row_bytes];
                for kernel in [Kernel::Portable, Kernel::detect()] {
                    let combined = kernel.combine(window, row_bytes, equation.coefficients);
                    assert_eq!(combined, equation.value, "{kernel:?}");
                }
            }
        }
    }
}
