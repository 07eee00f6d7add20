//! The first pilot that sends all keys of a bucket to free slots: one pilot after another, or eight at a time.
#![cfg_attr(not(target_arch = "x86_64"), allow(dead_code))]

use super::table::Taken;
use crate::{key::fast_range, simd::Simd};

pub(super) const PILOTS: usize = 256;

/// How a pilot is found.
pub(super) trait Search: Copy {
    /// The smallest pilot that sends these folds to slots that are all free and all different, and those slots.
    fn first_free<const M: usize>(
        self,
        folds: &[u64; M],
        pilot_hashes: &[u64; PILOTS],
        slots: u32,
        taken: &Taken,
    ) -> Option<(u8, [u16; M])>;

    /// The smallest pilot from `first` on that sends these folds to slots that are all free, be they different or not.
    fn first_free_large(
        self,
        folds: &[u64],
        pilot_hashes: &[u64; PILOTS],
        slots: u32,
        taken: &Taken,
        first: u8,
    ) -> Option<u8>;
}

#[inline(always)]
fn distinct<const M: usize>(slots: &[u16; M]) -> bool {
    (1..M).all(|i| !slots[..i].contains(&slots[i]))
}

/// Plain arithmetic, for whichever processor.
#[derive(Clone, Copy)]
pub(super) struct Plain;

impl Search for Plain {
    #[inline(always)]
    fn first_free<const M: usize>(
        self,
        folds: &[u64; M],
        pilot_hashes: &[u64; PILOTS],
        slots: u32,
        taken: &Taken,
    ) -> Option<(u8, [u16; M])> {
        for (pilot, hash) in (0..=u8::MAX).zip(pilot_hashes) {
            let slot = |i: usize| fast_range(folds[i].wrapping_mul(*hash), slots) as u16;
            if (0..M).all(|i| !taken.is(slot(i))) {
                let slots = std::array::from_fn(slot);
                if distinct(&slots) {
                    return Some((pilot, slots));
                }
            }
        }
        None
    }

    fn first_free_large(
        self,
        folds: &[u64],
        pilot_hashes: &[u64; PILOTS],
        slots: u32,
        taken: &Taken,
        first: u8,
    ) -> Option<u8> {
        (first..=u8::MAX).find(|&pilot| {
            let hash = pilot_hashes[usize::from(pilot)];
            folds.iter().all(|fold| !taken.is(fast_range(fold.wrapping_mul(hash), slots) as u16))
        })
    }
}

/// Searches in lanes.
#[derive(Clone, Copy)]
pub(super) struct Lanes<S>(pub(super) S);

impl<S: Simd> Lanes<S> {
    /// The slots to which eight pilots send a fold.
    #[inline(always)]
    fn slots(self, fold: u64, pilot_hashes: &[u64; 8], slots: u32) -> [u64; 8] {
        let (simd, count) = (self.0, self.0.splat(slots.into()));
        let x = simd.multiply(simd.splat(fold), simd.load(pilot_hashes));
        let low = simd.high_half(simd.multiply_low(x, count));
        let high = simd.multiply_low(simd.high_half(x), count);
        let mut found = [0; 8];
        simd.store(simd.high_half(simd.add(high, low)), &mut found);
        found
    }
}

impl<S: Simd> Search for Lanes<S> {
    #[inline(always)]
    fn first_free<const M: usize>(
        self,
        folds: &[u64; M],
        pilot_hashes: &[u64; PILOTS],
        slots: u32,
        taken: &Taken,
    ) -> Option<(u8, [u16; M])> {
        let (hashes, _) = pilot_hashes.as_chunks::<8>();
        let mut found = [[0; 8]; M];
        for (batch, hashes) in (0..).zip(hashes) {
            for i in 0..M {
                found[i] = self.slots(folds[i], hashes, slots);
            }
            for lane in 0..8u8 {
                // All of them, without a branch: most pilots fail, and that is what is foreseen.
                let slot = |i: usize| found[i][usize::from(lane)] as u16;
                if (0..M).fold(0, |any, i| any | taken.get(slot(i))) == 0 {
                    let slots = std::array::from_fn(slot);
                    if distinct(&slots) {
                        return Some((batch * 8 + lane, slots));
                    }
                }
            }
        }
        None
    }

    #[inline(always)]
    fn first_free_large(
        self,
        folds: &[u64],
        pilot_hashes: &[u64; PILOTS],
        slots: u32,
        taken: &Taken,
        first: u8,
    ) -> Option<u8> {
        let (hashes, _) = pilot_hashes.as_chunks::<8>();
        let (fours, rest) = folds.as_chunks::<4>();
        'batches: for (batch, hashes) in (0..).zip(hashes).skip(usize::from(first / 8)) {
            let mut any = [0; 8];
            for fold in rest {
                let found = self.slots(*fold, hashes, slots);
                for lane in 0..8 {
                    any[lane] |= taken.get(found[lane] as u16);
                }
            }
            for folds in fours {
                let mut found = [[0; 8]; 4];
                for (found, fold) in found.iter_mut().zip(folds) {
                    *found = self.slots(*fold, hashes, slots);
                }
                for lane in 0..8 {
                    for found in &found {
                        any[lane] |= taken.get(found[lane] as u16);
                    }
                }
                if any == [1; 8] {
                    continue 'batches;
                }
            }
            let mut pilots = (batch * 8..=batch * 8 + 7).zip(any).skip_while(|(pilot, _)| *pilot < first);
            if let Some((pilot, _)) = pilots.find(|(_, any)| *any == 0) {
                return Some(pilot);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::{Job, Path};
    use icecore_testkit::SplitMix64;

    struct Find<'a> {
        folds: &'a [u64],
        hashes: &'a [u64; PILOTS],
        slots: u32,
        taken: &'a Taken,
    }

    impl Find<'_> {
        #[inline(always)]
        fn sized<const M: usize>(&self, search: impl Search) -> Option<(u8, Vec<u16>)> {
            let folds = self.folds.first_chunk::<M>().unwrap();
            let found = search.first_free(folds, self.hashes, self.slots, self.taken);
            found.map(|(pilot, slots)| (pilot, slots.to_vec()))
        }

        /// The answer with its slots, and all pilots of a search that does not stop at the first one.
        #[inline(always)]
        fn run(self, search: impl Search) -> (Option<(u8, Vec<u16>)>, Vec<u8>) {
            let found = match self.folds.len() {
                1 => self.sized::<1>(search),
                2 => self.sized::<2>(search),
                3 => self.sized::<3>(search),
                5 => self.sized::<5>(search),
                8 => self.sized::<8>(search),
                _ => None,
            };
            let (mut all, mut from) = (Vec::new(), Some(0));
            while let Some(first) = from {
                let free = search.first_free_large(self.folds, self.hashes, self.slots, self.taken, first);
                all.extend(free);
                from = free.and_then(|pilot| pilot.checked_add(1));
            }
            (found, all)
        }
    }

    impl Job for Find<'_> {
        type Output = (Option<(u8, Vec<u16>)>, Vec<u8>);

        fn scalar(self) -> Self::Output {
            self.run(Plain)
        }

        #[inline(always)]
        fn lanes<S: Simd>(self, simd: S) -> Self::Output {
            self.run(Lanes(simd))
        }
    }

    #[test]
    fn all_paths_find_the_same_pilots() {
        let mut rng = SplitMix64::new(4);
        let (mut none, mut late) = (0, 0);
        for round in 0..600 {
            let slots = [1, 2, 40, 3000, 31_919, 64_000][round % 6];
            let mut taken = Taken::new();
            let load = rng.below(101);
            (0..slots as u16).filter(|_| rng.below(100) < load).for_each(|slot| taken.set(slot, true));
            let hashes = std::array::from_fn(|_| rng.next_u64());
            for size in [1, 2, 3, 5, 8, 9, 10, 11, 12, 31] {
                let mut folds: Vec<u64> = (0..size).map(|_| rng.next_u64()).collect();
                if round % 5 == 0 {
                    // The same slots with every pilot.
                    folds[size - 1] = folds[0];
                }
                let find = || Find { folds: &folds, hashes: &hashes, slots, taken: &taken };
                let plain = Path::SCALAR.run(find());
                for path in Path::all() {
                    assert_eq!(path.run(find()), plain, "{path:?}, {size} keys, {slots} slots");
                }
                none += u32::from(plain.0.is_none());
                late += u32::from(plain.0.is_some_and(|(pilot, _)| pilot > 7));
            }
        }
        assert!(none > 1000 && late > 100, "{none} {late}");
    }

    #[test]
    fn slots_are_exact_to_the_last_bit() {
        // Hashes are 1, so that a fold is its own product; what the low half carries over decides.
        let (slots, hashes) = (31_919u32, [1; PILOTS]);
        let mut taken = Taken::new();
        for slot in 0..slots {
            let edge = (u128::from(slot) << 64).div_ceil(slots.into()) as u64;
            for fold in [edge, edge.wrapping_sub(1)] {
                let own = fast_range(fold, slots) as u16;
                let folds = [fold];
                let find = || Find { folds: &folds, hashes: &hashes, slots, taken: &taken };
                for path in Path::all() {
                    assert_eq!(path.run(find()).0, Some((0, vec![own])), "{path:?}");
                }
            }
        }
        taken.set(0, true);
        for path in Path::all() {
            let find = Find { folds: &[0], hashes: &hashes, slots, taken: &taken };
            assert_eq!(path.run(find), (None, vec![]));
        }
    }
}
