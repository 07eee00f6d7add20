//! Where pilots send keys, eight pilots at a time, and the first one that sends all keys of a bucket to free slots.
#![cfg_attr(not(target_arch = "x86_64"), allow(dead_code))]

use std::hint::black_box;

use super::table::Taken;
use crate::{key::fast_range, simd::Simd};

pub(super) const PILOTS: usize = 256;

/// The slots to which eight pilots send a key, in a cache line of their own.
#[derive(Clone, Copy, Default)]
#[repr(align(64))]
pub(super) struct Eight([u64; 8]);

impl Eight {
    #[inline(always)]
    fn slot(&self, lane: usize) -> u16 {
        self.0[lane] as u16
    }
}

/// The same of the keys of a bucket.
pub(super) type Found<const M: usize> = [Eight; M];

/// How slots are computed.
pub(super) trait Search: Copy {
    /// The slots to which eight pilots send a fold.
    fn slots(self, fold: u64, pilot_hashes: &[u64; 8], slots: u32, found: &mut Eight);
}

/// Plain arithmetic, for whichever processor.
#[derive(Clone, Copy)]
pub(super) struct Plain;

impl Search for Plain {
    #[inline(always)]
    fn slots(self, fold: u64, pilot_hashes: &[u64; 8], slots: u32, found: &mut Eight) {
        for (found, hash) in found.0.iter_mut().zip(pilot_hashes) {
            *found = fast_range(fold.wrapping_mul(*hash), slots).into();
        }
    }
}

/// In lanes.
#[derive(Clone, Copy)]
pub(super) struct Lanes<S>(pub(super) S);

impl<S: Simd> Search for Lanes<S> {
    #[inline(always)]
    fn slots(self, fold: u64, pilot_hashes: &[u64; 8], slots: u32, found: &mut Eight) {
        let (simd, count) = (self.0, self.0.splat(slots.into()));
        let x = simd.multiply(simd.splat(fold), simd.load(pilot_hashes));
        let low = simd.high_half(simd.multiply_low(x, count));
        let high = simd.multiply_low(simd.high_half(x), count);
        simd.store(simd.high_half(simd.add(high, low)), &mut found.0);
    }
}

/// [`Search::slots`] of the keys of a bucket.
#[inline(always)]
pub(super) fn slots_of<const M: usize>(
    search: impl Search,
    folds: &[u64; M],
    pilot_hashes: &[u64; 8],
    slots: u32,
    found: &mut Found<M>,
) {
    for (found, fold) in found.iter_mut().zip(folds) {
        search.slots(*fold, pilot_hashes, slots, found);
    }
}

#[inline(always)]
fn distinct<const M: usize>(slots: &[u16; M]) -> bool {
    (1..M).all(|i| !slots[..i].contains(&slots[i]))
}

/// The first of eight pilots that sends a bucket to slots that are all free and all different, and those slots.
#[inline(always)]
fn first_of_eight<const M: usize>(found: &Found<M>, taken: &Taken) -> Option<(u8, [u16; M])> {
    for lane in 0..8u8 {
        // All of them, without a branch: most pilots fail, and that is what is foreseen.
        let slot = |i: usize| found[i].slot(usize::from(lane));
        if (0..M).fold(0, |any, i| any | taken.get(slot(i))) == 0 {
            let slots = std::array::from_fn(slot);
            if distinct(&slots) {
                return Some((lane, slots));
            }
        }
    }
    None
}

/// The smallest pilot that sends these folds to slots that are all free and all different, and those slots. Where the
/// first pilots send them is in `ahead`.
#[inline(always)]
pub(super) fn first_free<const M: usize, const BATCHES: usize>(
    search: impl Search,
    folds: &[u64; M],
    ahead: &[Found<M>; BATCHES],
    pilot_hashes: &[u64; PILOTS],
    slots: u32,
    taken: &Taken,
) -> Option<(u8, [u16; M])> {
    let (hashes, _) = pilot_hashes.as_chunks::<8>();
    let mut later = [[Eight::default(); M]; BATCHES];
    for (round, hashes) in (0..).zip(hashes.chunks(BATCHES)) {
        let found = if round == 0 {
            ahead
        } else {
            for (found, hashes) in later.iter_mut().zip(hashes) {
                slots_of(search, folds, hashes, slots, found);
            }
            from_memory(&later)
        };
        for (batch, found) in (round * BATCHES as u8..).zip(found) {
            if let Some((lane, slots)) = first_of_eight(found, taken) {
                return Some((batch * 8 + lane, slots));
            }
        }
    }
    None
}

/// To be read word by word: to take the words out of a register would cost more. They should have been written a little
/// before, as a word is not forwarded from the store of a whole register.
#[inline(always)]
fn from_memory<T>(found: &T) -> &T {
    black_box(found)
}

/// Eight bits, one of each pilot, the first one's on top: whether it sends some of these folds to a slot that is taken.
#[inline(always)]
fn failed<const M: usize>(found: &Found<M>, taken: &Taken) -> u32 {
    (0..8).fold(0, |failed, lane| {
        2 * failed + u32::from(found.iter().fold(0, |any, found| any | taken.get(found.slot(lane))))
    })
}

/// The smallest pilot from `first` on that sends these folds, any number of them, to slots that are all free, be they
/// different or not.
#[inline(always)]
pub(super) fn first_free_large(
    search: impl Search,
    folds: &[u64],
    pilot_hashes: &[u64; PILOTS],
    slots: u32,
    taken: &Taken,
    first: u8,
) -> Option<u8> {
    let (hashes, _) = pilot_hashes.as_chunks::<8>();
    // The last key fills up the last four.
    let four = |at: usize| std::array::from_fn(|i| folds[(at + i).min(folds.len() - 1)]);
    let fours = folds.len().div_ceil(4);
    // What is looked up next is computed before: the first four of the next pilots, and the next four of these.
    let (mut firsts, mut others) = ([[Eight::default(); 4]; 2], [[Eight::default(); 4]; 2]);
    let begin = usize::from(first / 8);
    slots_of(search, &four(0), &hashes[begin], slots, &mut firsts[begin % 2]);
    'batches: for (batch, hashes_now) in hashes.iter().enumerate().skip(begin) {
        if let Some(hashes) = hashes.get(batch + 1) {
            slots_of(search, &four(0), hashes, slots, &mut firsts[(batch + 1) % 2]);
        }
        let at = batch as u8 * 8;
        let mut any = 0xFF & !(0xFF >> first.saturating_sub(at));
        for turn in 0..fours {
            if turn + 1 < fours {
                slots_of(search, &four(4 * (turn + 1)), hashes_now, slots, &mut others[turn % 2]);
            }
            let found = if turn == 0 {
                &from_memory(&firsts)[batch % 2]
            } else {
                &from_memory(&others)[(turn - 1) % 2]
            };
            any |= failed(found, taken);
            if any == 0xFF {
                continue 'batches;
            }
        }
        return Some(at + (any as u8).leading_ones() as u8);
    }
    None
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
            let found = {
                let (hashes, _) = self.hashes.as_chunks::<8>();
                let mut ahead = [[Eight::default(); M]; 2];
                for (found, hashes) in ahead.iter_mut().zip(hashes) {
                    slots_of(search, folds, hashes, self.slots, found);
                }
                first_free(search, folds, &ahead, self.hashes, self.slots, self.taken)
            };
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
                let free = first_free_large(search, self.folds, self.hashes, self.slots, self.taken, first);
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
