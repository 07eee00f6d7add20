//! The seed searches, eight seeds at a time.
//!
//! A key's place among `m` is the high half of `x * m` where `x = high(a * b) ^ low(a * b)`. The high half of `x` alone gives
//! the place, unless the low half carries into the product with `m`, which it hardly ever does: such a case is seen, and
//! looked at again in plain arithmetic. So of `a * b` only bits 32 to 63 and 96 to 127 are wanted; and the first seeds do not
//! reach up to bit 96, so that those above are the same for all of them and known beforehand (see [`Columns`]). All places
//! of a bucket are ored into one mask, compared with "all" at the end; there is no way out before.
//!
//! Buckets of one size go through a few seeds all of them; those that found none are tried again with the next seeds. So
//! no branch depends on a single seed, and the processor is never wrong about one for long.
#![cfg_attr(not(target_arch = "x86_64"), allow(dead_code))]

use std::ops::Range;

use super::{
    columns::{Columns, LEN},
    mix,
    search::{FIRST_SEEDS, Plain, SEEDS, SPLIT_SEEDS, Search},
};
use crate::simd::Simd;

/// Searches in lanes.
#[derive(Clone, Copy)]
pub(super) struct Lanes<S>(pub(super) S);

const LANES: u32 = 8;
/// Masks have two bits for each lane.
const MASK_BITS: u32 = 2 * LANES;
/// Buckets whose places do not fit into a half's bits are left to plain arithmetic.
const MAX_SIZE: usize = 31;

/// What a place is computed from.
#[derive(Clone, Copy)]
struct Parts<L> {
    /// The low half of the mix in its low half.
    low: L,
    /// The high half of the mix in its low half.
    high: L,
    /// The high 64 bits of `a * b`.
    top: L,
}

impl<S: Simd> Lanes<S> {
    /// Seeds from `base` on.
    #[inline(always)]
    fn seeds(self, base: u32) -> S::Lanes {
        self.0.add(self.0.splat(base.into()), self.0.load(&[0, 1, 2, 3, 4, 5, 6, 7]))
    }

    /// Mixes with `a` already changed by the seeds.
    #[inline(always)]
    fn mix(self, a: S::Lanes, b: S::Lanes) -> Parts<S::Lanes> {
        let simd = self.0;
        let (a_high, b_high) = (simd.high_half(a), simd.high_half(b));
        let low = simd.multiply_low(a, b);
        // No more than 2^64 - 1: the product is at most (2^32 - 1)^2.
        let across = simd.add(simd.multiply_low(a, b_high), simd.high_half(low));
        let low_half = simd.and(across, simd.splat(u32::MAX.into()));
        let middle = simd.add(simd.multiply_low(a_high, b), low_half);
        let carry = simd.add(simd.high_half(across), simd.high_half(middle));
        let top = simd.add(simd.multiply_low(a_high, b_high), carry);
        Parts { low: simd.xor(top, low), high: simd.xor(simd.high_half(top), middle), top }
    }

    /// The high half of a key's mix in the low half, for some of the first seeds and if the keys are steady.
    #[inline(always)]
    fn mix_first(self, keys: &Columns, at: usize, seeds: S::Lanes) -> S::Lanes {
        let splat = |word| self.0.splat(word);
        self.0.middle(splat(keys.a[at]), seeds, splat(keys.b[at]), keys.tops[at])
    }

    /// The same for any seeds and keys.
    #[inline(always)]
    fn mix_any(self, keys: &Columns, at: usize, seeds: S::Lanes) -> S::Lanes {
        let a = self.0.xor(self.0.splat(keys.a[at]), seeds);
        self.mix(a, self.0.splat(keys.b[at])).high
    }

    /// Which of the eight seeds from `base` on, some of the first, give `M` keys places of their own.
    #[inline(always)]
    fn fitting<const M: usize>(self, keys: &Columns, at: usize, base: u32) -> u32 {
        let (simd, seeds) = (self.0, self.seeds(base));
        let at = at.min(LEN - M);
        if M == 2 {
            // Different places are different top bits.
            let both = simd.xor(self.mix_first(keys, at, seeds), self.mix_first(keys, at + 1, seeds));
            return simd.bit_31(both);
        }
        let size = simd.splat(M as u64);
        let (mut taken, mut nearest) = (simd.splat(0), simd.splat(0));
        let mut places = [simd.splat(0); M];
        for (i, place) in places.iter_mut().enumerate() {
            let scaled = simd.multiply_low(self.mix_first(keys, at + i, seeds), size);
            *place = simd.one_hot_halves(scaled);
            // A product with a power of two ends in zeros, into which nothing can be carried that matters.
            if !M.is_power_of_two() {
                nearest = simd.max_halves(nearest, scaled);
            }
        }
        // Two at a time, as the processor can.
        for pair in places.chunks(2) {
            taken = simd.or_three(taken, pair[0], pair[pair.len() - 1]);
        }
        if simd.any_greater_low(nearest, simd.splat(carries_above(M))) {
            return fitting_plain(keys, at, M, base);
        }
        simd.equal_high(taken, simd.splat(((1 << M) - 1) << 32))
    }

    /// [`Search::sized`] that tries `BATCHES` times eight seeds before it goes on to the next bucket.
    #[inline(always)]
    fn rounds<const M: usize, const BATCHES: u32>(
        self,
        keys: &Columns,
        at: usize,
        seeds: &mut [u32],
        pending: &mut [u16],
    ) -> usize {
        const { assert!(FIRST_SEEDS.is_multiple_of(LANES * BATCHES) && MASK_BITS * BATCHES <= u64::BITS) };
        let mut left = seeds.len();
        for (bucket, pending) in pending[..left].iter_mut().enumerate() {
            *pending = bucket as u16;
        }
        for base in (0..FIRST_SEEDS).step_by((LANES * BATCHES) as usize) {
            let tried = left;
            left = 0;
            for i in 0..tried {
                let bucket = pending[i];
                let mut found = 0u64;
                for batch in 0..BATCHES {
                    let fitting = self.fitting::<M>(keys, at + usize::from(bucket) * M, base + batch * LANES);
                    found |= u64::from(fitting) << (batch * MASK_BITS);
                }
                // Without a branch: a seed that is none will be overwritten.
                seeds[usize::from(bucket)] = base + found.trailing_zeros() / 2;
                pending[left] = bucket;
                left += usize::from(found == 0);
            }
            if left == 0 {
                break;
            }
        }
        left
    }
}

/// A low half above this may be carried into the high half by what is left out: up to `size - 1`.
const fn carries_above(size: usize) -> u64 {
    (1 << 32) - size as u64
}

/// [`Search::sized`] for keys that are not steady.
#[cold]
#[inline(never)]
fn sized_plain<const M: usize>(keys: &Columns, at: usize, seeds: &mut [u32], pending: &mut [u16]) -> usize {
    Plain.sized::<M>(keys, at, seeds, pending)
}

/// [`Lanes::fitting`], exact for all keys.
#[cold]
#[inline(never)]
fn fitting_plain(keys: &Columns, at: usize, size: usize, base: u32) -> u32 {
    let fits = |seed: &u32| {
        let place = |i| mix(keys.a[at + i], keys.b[at + i], base + seed, size as u32);
        (0..size).fold(0u32, |taken, i| taken | 1 << place(i)) == (1 << size) - 1
    };
    (0..LANES).filter(fits).fold(0, |mask, lane| mask | 2 << (2 * lane))
}

/// [`Lanes::halving`], exact for all keys.
#[cold]
#[inline(never)]
fn halving_plain(keys: &Columns, at: usize, size: usize, base: u32) -> u32 {
    let half = size as u32 / 2;
    let halves = |seed: &u32| {
        let places = (at..at + size).map(|i| mix(keys.a[i], keys.b[i], base + seed, size as u32));
        let below = places.filter(|&place| place < half);
        let (count, taken) = below.fold((0, 0u32), |(count, taken), place| (count + 1, taken | 1 << place));
        count == half && taken == (1 << half) - 1
    };
    (0..LANES).filter(halves).fold(0, |mask, lane| mask | 2 << (2 * lane))
}

impl<S: Simd> Lanes<S> {
    /// [`fitting`](Lanes::fitting) for a size that is not constant.
    #[inline(always)]
    fn fitting_any(self, keys: &Columns, at: usize, size: usize, base: u32) -> u32 {
        let (simd, seeds) = (self.0, self.seeds(base));
        let first = base < FIRST_SEEDS && keys.steady;
        let (mut taken, mut nearest) = (simd.splat(0), simd.splat(0));
        for i in at..at + size {
            let high = if first { self.mix_first(keys, i, seeds) } else { self.mix_any(keys, i, seeds) };
            let scaled = simd.multiply_low(high, simd.splat(size as u64));
            taken = simd.or(taken, simd.one_hot_halves(scaled));
            nearest = simd.max_halves(nearest, scaled);
        }
        if simd.any_greater_low(nearest, simd.splat(carries_above(size))) {
            return fitting_plain(keys, at, size, base);
        }
        simd.equal_high(taken, simd.splat(((1 << size) - 1) << 32))
    }

    /// Which of the eight seeds from `base` on put half of the keys into places of their own below that half.
    #[inline(always)]
    fn halving(self, keys: &Columns, at: usize, size: usize, base: u32) -> u32 {
        let (simd, seeds) = (self.0, self.seeds(base));
        let first = base < FIRST_SEEDS && keys.steady;
        let half = simd.splat((size as u64 / 2) << 32);
        let all = simd.splat(((1 << (size / 2)) - 1) << 32);
        let (mut taken, mut below, mut nearest) = (simd.splat(0), simd.splat(0), simd.splat(0));
        for i in at..at + size {
            let high = if first { self.mix_first(keys, i, seeds) } else { self.mix_any(keys, i, seeds) };
            let scaled = simd.multiply_low(high, simd.splat(size as u64));
            taken = simd.or(taken, simd.one_hot_halves(scaled));
            below = simd.count_less(below, scaled, half);
            nearest = simd.max_halves(nearest, scaled);
        }
        if simd.any_greater_low(nearest, simd.splat(carries_above(size))) {
            return halving_plain(keys, at, size, base);
        }
        simd.equal_high(simd.and(taken, all), all) & simd.equal_high(below, half)
    }
}

/// The first seed that is found in a batch of eight. No function: its argument would be one too, and compiled without the
/// instructions of the lanes wherever the compiler does not inline it.
macro_rules! first {
    ($seeds:expr, |$base:ident| $find:expr) => {{
        let Range { start: mut $base, end } = $seeds;
        loop {
            if $base >= end {
                break None;
            }
            let found = $find;
            if found != 0 {
                break Some($base + found.trailing_zeros() / 2);
            }
            $base += LANES;
        }
    }};
}

impl<S: Simd> Search for Lanes<S> {
    #[inline(always)]
    fn prepare(self, keys: &mut Columns, len: usize) {
        let simd = self.0;
        let (a, _) = keys.a.as_chunks::<8>();
        let (b, _) = keys.b.as_chunks::<8>();
        let (tops, _) = keys.tops.as_chunks_mut::<8>();
        let mut highest = simd.splat(0);
        for ((a, b), tops) in a.iter().zip(b).zip(tops).take(len.div_ceil(8)) {
            // Of all first seeds' products the least.
            let a = simd.and(simd.load(a), simd.splat(!u64::from(FIRST_SEEDS - 1)));
            let top = self.mix(a, simd.load(b)).top;
            highest = simd.max_halves(highest, top);
            simd.store_low32(simd.high_half(top), tops);
        }
        // The greatest of them is less than FIRST_SEEDS * 2^64 above it.
        const { assert!(FIRST_SEEDS.is_power_of_two()) };
        keys.steady = !simd.any_greater_low(highest, simd.splat((u32::MAX - FIRST_SEEDS).into()));
    }

    #[inline(always)]
    fn sized<const M: usize>(
        self,
        keys: &Columns,
        at: usize,
        seeds: &mut [u32],
        pending: &mut [u16],
    ) -> usize {
        if !keys.steady {
            return sized_plain::<M>(keys, at, seeds, pending);
        }
        // So many that few buckets need another round, or the seeds tried in vain cost less than a round.
        match M {
            0..=5 => self.rounds::<M, 1>(keys, at, seeds, pending),
            6 => self.rounds::<M, 2>(keys, at, seeds, pending),
            _ => self.rounds::<M, 4>(keys, at, seeds, pending),
        }
    }

    #[inline(always)]
    fn any(self, keys: &Columns, at: usize, size: usize, from: u32) -> Option<u32> {
        match size {
            0 | 1 => Some(0),
            2..=MAX_SIZE => first!(from..SEEDS, |base| self.fitting_any(keys, at, size, base)),
            _ => Plain.any(keys, at, size, from),
        }
    }

    #[inline(always)]
    fn split(self, keys: &Columns, at: usize, size: usize) -> Option<u32> {
        if size > 2 * MAX_SIZE {
            return Plain.split(keys, at, size);
        }
        first!(0..SPLIT_SEEDS, |base| self.halving(keys, at, size, base))
    }

    #[inline(always)]
    fn slots<const M: usize>(
        self,
        keys: &Columns,
        at: usize,
        buckets: usize,
        seeds: &[u32],
        starts: &[u32],
        slots: &mut [u16; LEN],
    ) {
        let simd = self.0;
        let index = const { bucket_of_lane::<M>() };
        let size = simd.splat(M as u64);
        for bucket in (0..buckets).step_by(8) {
            let at = at + bucket * M;
            let (Some(seeds), Some(starts)) = (seeds[bucket..].first_chunk(), starts[bucket..].first_chunk())
            else {
                return;
            };
            for (i, index) in index.iter().enumerate() {
                let at = (at + 8 * i).min(LEN - 8);
                let load = |words: &[u64; LEN]| -> S::Lanes {
                    // Always there: `at` ends eight before the end.
                    words[at..].first_chunk().map_or(simd.splat(0), |words| simd.load(words))
                };
                let a = simd.xor(load(&keys.a), simd.spread(seeds, index));
                let parts = self.mix(a, load(&keys.b));
                let high = simd.multiply_low(parts.high, size);
                let low = simd.multiply_low(parts.low, size);
                let place = simd.high_half(simd.add(high, simd.high_half(low)));
                if let Some(slots) = slots[at..].first_chunk_mut() {
                    simd.store_low16(simd.add(place, simd.spread(starts, index)), slots);
                }
            }
        }
    }
}

/// Of each key of eight buckets of `M`, the bucket.
const fn bucket_of_lane<const M: usize>() -> [[u32; 8]; M] {
    let mut index = [[0; 8]; M];
    let mut key = 0;
    while key < 8 * M {
        index[key / 8][key % 8] = (key / M) as u32;
        key += 1;
    }
    index
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        bijection::{SPLIT, TOO_MANY_KEYS},
        simd::{Job, Path},
    };
    use icecore_testkit::SplitMix64;
    use proptest::prelude::*;

    fn columns(keys: &[(u64, u64)]) -> Box<Columns> {
        let mut columns = Box::new(Columns::new());
        for (i, &(a, b)) in keys.iter().enumerate() {
            (columns.a[i], columns.b[i]) = (a, b);
        }
        columns
    }

    /// Everything that a search finds for keys taken as buckets of one size; the last few are no whole bucket.
    #[derive(Debug, PartialEq)]
    struct Found {
        sized: Result<Vec<u32>, usize>,
        slots: Vec<u16>,
        any: Vec<Option<u32>>,
        split: Vec<Option<u32>>,
    }

    struct Find<'a> {
        keys: &'a [(u64, u64)],
        size: usize,
    }

    impl Find<'_> {
        #[inline(always)]
        fn sized<const M: usize>(
            &self,
            search: impl Search,
            keys: &Columns,
        ) -> (Result<Vec<u32>, usize>, Vec<u16>) {
            let buckets = self.keys.len() / M;
            let (mut seeds, mut slots) = (vec![0; buckets], Box::new([0; LEN]));
            let mut pending = vec![0; buckets];
            let left = search.sized::<M>(keys, 0, &mut seeds, &mut pending);
            for &bucket in &pending[..left] {
                let bucket = usize::from(bucket);
                match search.any(keys, bucket * M, M, FIRST_SEEDS) {
                    Some(seed) => seeds[bucket] = seed,
                    None => return (Err(bucket), Vec::new()),
                }
            }
            seeds.resize(buckets + 8, 0);
            let starts: Vec<u32> = (0..seeds.len() as u32).map(|i| i * 5).collect();
            search.slots::<M>(keys, 0, buckets, &seeds, &starts, &mut slots);
            seeds.truncate(buckets);
            (Ok(seeds), slots[..buckets * M].to_vec())
        }

        #[inline(always)]
        fn run(self, search: impl Search) -> Found {
            let mut keys = columns(self.keys);
            search.prepare(&mut keys, self.keys.len());
            let (sized, slots) = match self.size {
                2 => self.sized::<2>(search, &keys),
                3 => self.sized::<3>(search, &keys),
                4 => self.sized::<4>(search, &keys),
                5 => self.sized::<5>(search, &keys),
                6 => self.sized::<6>(search, &keys),
                7 => self.sized::<7>(search, &keys),
                _ => (Ok(Vec::new()), Vec::new()),
            };
            let mut found = Found { sized, slots, any: Vec::new(), split: Vec::new() };
            for at in (0..=self.keys.len() - self.size).step_by(self.size) {
                if self.size < 13 {
                    found.any.push(search.any(&keys, at, self.size, 0));
                }
                if self.size >= SPLIT {
                    found.split.push(search.split(&keys, at, self.size));
                }
            }
            found
        }
    }

    impl Job for Find<'_> {
        type Output = Found;

        fn scalar(self) -> Found {
            self.run(Plain)
        }

        #[inline(always)]
        fn lanes<S: Simd>(self, simd: S) -> Found {
            self.run(Lanes(simd))
        }
    }

    /// What all paths find, the same.
    fn find(keys: &[(u64, u64)], size: usize) -> Found {
        let plain = Path::SCALAR.run(Find { keys, size });
        for path in Path::all().into_iter().filter(|path| *path != Path::SCALAR) {
            assert_eq!(path.run(Find { keys, size }), plain, "{path:?}, size {size}");
        }
        plain
    }

    fn uniform(seed: u64, count: usize) -> Vec<(u64, u64)> {
        let mut rng = SplitMix64::new(seed);
        (0..count).map(|_| (rng.next_u64(), rng.next_u64())).collect()
    }

    /// Keys whose places are at the very edge between two, where what is left out is carried over, for seeds below 32:
    /// of `b = 2^32` the mix is `a` with its halves exchanged.
    fn on_edges(size: usize, count: usize) -> Vec<(u64, u64)> {
        let edge = |i: usize| ((i % size + 1) as u64).wrapping_mul(1 << 32).div_ceil(size as u64);
        let low = |i: usize| edge(i).wrapping_sub(1 + (i / size % 3) as u64) & u64::from(u32::MAX);
        // Not so high that the tops might change.
        let high = u64::from(u32::MAX - 2 * FIRST_SEEDS);
        (0..count).map(|i| (high << 32 | low(i), 1 << 32)).collect()
    }

    #[test]
    fn uniform_keys_of_every_size() {
        for size in 2..13 {
            find(&uniform(size as u64, size * 60 + 1), size);
        }
        for size in [14, 17] {
            find(&uniform(size as u64, size), size);
        }
    }

    #[test]
    fn as_many_keys_as_there_can_be() {
        for size in [2, 3, 4] {
            find(&uniform(9, TOO_MANY_KEYS as usize), size);
        }
    }

    #[test]
    fn carries_are_seen() {
        for size in [3, 5, 6, 7, 9, 11] {
            // A bucket in which one key after another is at an edge and the others are not.
            let mut keys = uniform(77, size * 40);
            for (i, key) in on_edges(size, size * 40).into_iter().enumerate() {
                if i % size == i / size % size {
                    keys[i] = key;
                }
            }
            find(&keys, size);
            let (a, b) = on_edges(size, 1)[0];
            let exact = mix(a, b, 0, size as u32);
            let high = (((a & u64::from(u32::MAX)) * size as u64) >> 32) as u32;
            assert_ne!(exact, high, "the edge is one: without the carry the place is another");
        }
    }

    #[test]
    fn tops_that_change_are_seen() {
        let top = |a: u64, b: u64| (u128::from(a) * u128::from(b)) >> 96;
        for size in 2..10 {
            // In each bucket a key whose top is another one, in all its bits, for a single seed.
            let mut keys = uniform(99, size * 40);
            for bucket in 0..40 {
                let seed = bucket as u64 / 2;
                let (a, b) = (1 << 63 | seed, u64::MAX);
                assert_ne!(top(a ^ seed, b), top(a ^ (seed + 1), b));
                keys[bucket * size + bucket % size] = (a, b);
            }
            find(&keys, size);
        }
    }

    #[test]
    fn equal_keys_exhaust_every_search() {
        for size in 2..=7 {
            let mut keys = uniform(5, size * 20);
            let twin = size * 7;
            keys[twin + 1] = keys[twin];
            // One more, which is not the first.
            keys[size * 12 + 1] = keys[size * 12];
            assert_eq!(find(&keys, size).sized, Err(7));
        }
        for size in [8, 9] {
            let found = find(&vec![(7, 8); size], size);
            assert_eq!((found.any, found.split), (vec![None], vec![None]));
        }
    }

    #[test]
    fn searches_of_large_buckets_end_without_a_seed() {
        for size in [62, 63] {
            assert_eq!(find(&uniform(8, size), size).split, [None]);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn any_words(size in 2usize..11, seed: u64, narrow_a in 0u32..48, narrow_b in 0u32..48) {
            let keys: Vec<_> = uniform(seed, size * 2 + 1)
                .into_iter()
                .enumerate()
                // Words of few bits among the others.
                .map(|(i, (a, b))| if i % 5 == 0 { (a >> narrow_a, b >> narrow_b) } else { (a, b) })
                .collect();
            find(&keys, size);
        }
    }
}
