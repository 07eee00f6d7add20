//! The seed searches: nothing but arithmetic on keys' words, already mixed with the global seed. Here one seed after
//! another in plain arithmetic; `lanes` finds the same ones eight at a time.

use std::ops::Range;

use super::{
    MARKER_ONES, RICE_BITS, SPLIT,
    columns::{Columns, LEN},
    mix,
};

/// Seeds are tried below this.
pub(super) const SEEDS: u32 = 1 << 21;
/// Buckets that have none below this are looked at one by one. Of 2 to 7 keys, no such seed has a code.
pub(super) const FIRST_SEEDS: u32 = 1 << 12;
const _: () = assert!(FIRST_SEEDS >= MARKER_ONES << RICE_BITS[SPLIT - 1]);
/// First seeds of split buckets are tried below this.
pub(super) const SPLIT_SEEDS: u32 = 1 << 20;

/// How seeds are found, and slots from them.
pub(super) trait Search: Copy {
    /// To be called when the first `len` keys' words are there.
    fn prepare(self, keys: &mut Columns, len: usize);

    /// The smallest seeds that give all keys of a bucket places of their own, for buckets of `M` (2 to 7) keys that
    /// follow one another from key `at` on. Gives how many buckets have none below [`FIRST_SEEDS`]: the first ones of
    /// `pending`, in their order.
    fn sized<const M: usize>(
        self,
        keys: &Columns,
        at: usize,
        seeds: &mut [u32],
        pending: &mut [u16],
    ) -> usize;

    /// The smallest seed, `from` or above, that gives all of `size` keys places of their own.
    fn any(self, keys: &Columns, at: usize, size: usize, from: u32) -> Option<u32>;

    /// The smallest seed that gives exactly half of `size` keys (rounded down) places below that half, all different.
    fn split(self, keys: &Columns, at: usize, size: usize) -> Option<u32>;

    /// The slots of the keys of such buckets as [`sized`](Search::sized) takes. Beyond the last one, up to `8 * M` slots
    /// may be overwritten, and as many of `seeds` and `starts` be read, without meaning.
    fn slots<const M: usize>(
        self,
        keys: &Columns,
        at: usize,
        buckets: usize,
        seeds: &[u32],
        starts: &[u32],
        slots: &mut [u16; LEN],
    );
}

/// Plain arithmetic, for whichever processor.
#[derive(Clone, Copy)]
pub(super) struct Plain;

impl Search for Plain {
    fn prepare(self, _: &mut Columns, _: usize) {}

    fn sized<const M: usize>(
        self,
        keys: &Columns,
        at: usize,
        seeds: &mut [u32],
        pending: &mut [u16],
    ) -> usize {
        let (a, _) = keys.a[at..].as_chunks::<M>();
        let (b, _) = keys.b[at..].as_chunks::<M>();
        let mut left = 0;
        for (bucket, ((seed, a), b)) in seeds.iter_mut().zip(a).zip(b).enumerate() {
            match bijection(a, b, 0..FIRST_SEEDS) {
                Some(found) => *seed = found,
                None => {
                    pending[left] = bucket as u16;
                    left += 1;
                }
            }
        }
        left
    }

    fn any(self, keys: &Columns, at: usize, size: usize, from: u32) -> Option<u32> {
        bijection_any(&keys.a[at..at + size], &keys.b[at..at + size], from)
    }

    fn split(self, keys: &Columns, at: usize, size: usize) -> Option<u32> {
        split(&keys.a[at..at + size], &keys.b[at..at + size])
    }

    fn slots<const M: usize>(
        self,
        keys: &Columns,
        at: usize,
        buckets: usize,
        seeds: &[u32],
        starts: &[u32],
        slots: &mut [u16; LEN],
    ) {
        let (a, _) = keys.a[at..].as_chunks::<M>();
        let (b, _) = keys.b[at..].as_chunks::<M>();
        let (slots, _) = slots[at..].as_chunks_mut::<M>();
        let keys = a.iter().zip(b).zip(slots);
        for (((a, b), slots), (&seed, &start)) in keys.zip(seeds.iter().zip(starts)).take(buckets) {
            for i in 0..M {
                slots[i] = (start + mix(a[i], b[i], seed, M as u32)) as u16;
            }
        }
    }
}

/// Seeds tried at a time, without a branch.
const TOGETHER: u32 = 4;
const _: () = assert!(SEEDS.is_multiple_of(TOGETHER) && FIRST_SEEDS.is_multiple_of(TOGETHER));

/// The smallest seed that gives all `M` keys places of their own. `M` is 2 to 8.
#[inline(always)]
fn bijection<const M: usize>(a: &[u64; M], b: &[u64; M], seeds: Range<u32>) -> Option<u32> {
    let full = (1u32 << M) - 1;
    let mut seed = seeds.start;
    while seed < seeds.end {
        let mut taken = [0u32; TOGETHER as usize];
        for i in 0..M {
            for (lane, taken) in (0..).zip(&mut taken) {
                *taken |= 1 << mix(a[i], b[i], seed + lane, M as u32);
            }
        }
        let found =
            (0..TOGETHER).fold(0, |found, lane| found | u32::from(taken[lane as usize] == full) << lane);
        if found != 0 {
            return Some(seed + found.trailing_zeros());
        }
        seed += TOGETHER;
    }
    None
}

/// [`bijection`] for any number of keys. `from` is a multiple of [`TOGETHER`].
pub(super) fn bijection_any(a: &[u64], b: &[u64], from: u32) -> Option<u32> {
    macro_rules! sized {
        ($($m:literal)+) => {
            match a.len() {
                0 | 1 => Some(0),
                $($m => bijection::<$m>(a.first_chunk()?, b.first_chunk()?, from..SEEDS),)+
                _ => large(a, b, from),
            }
        };
    }
    sized!(2 3 4 5 6 7 8)
}

/// See [`Search::split`].
pub(super) fn split(a: &[u64], b: &[u64]) -> Option<u32> {
    let size = a.len();
    debug_assert!(size >= SPLIT && size == b.len());
    let half = size as u32 / 2;
    if half > u64::BITS {
        return split_large(a, b);
    }
    let full = u64::MAX >> (u64::BITS - half);
    (0..SPLIT_SEEDS).find(|&seed| {
        let (mut taken, mut below) = (0u64, 0);
        for (&a, &b) in a.iter().zip(b) {
            let place = mix(a, b, seed, size as u32);
            let first = place < half;
            below += u32::from(first);
            taken |= u64::from(first) << (place % u64::BITS);
        }
        below == half && taken == full
    })
}
/// Places taken so far, forgotten all at once.
struct Taken {
    stamps: Vec<u32>,
    stamp: u32,
}

impl Taken {
    fn new(places: usize) -> Self {
        Taken { stamps: vec![0; places], stamp: 0 }
    }

    fn forget(&mut self) {
        self.stamp += 1;
    }

    /// False where the place was taken before.
    fn take(&mut self, place: u32) -> bool {
        std::mem::replace(&mut self.stamps[place as usize], self.stamp) != self.stamp
    }
}

#[cold]
fn large(a: &[u64], b: &[u64], from: u32) -> Option<u32> {
    let mut taken = Taken::new(a.len());
    (from..SEEDS).find(|&seed| {
        taken.forget();
        a.iter().zip(b).all(|(&a, &b)| taken.take(mix(a, b, seed, stamps_len(&taken))))
    })
}

fn stamps_len(taken: &Taken) -> u32 {
    taken.stamps.len() as u32
}

#[cold]
fn split_large(a: &[u64], b: &[u64]) -> Option<u32> {
    let size = a.len();
    let half = size as u32 / 2;
    let mut taken = Taken::new(a.len());
    (0..SPLIT_SEEDS).find(|&seed| {
        taken.forget();
        let mut above = 0;
        // As many as are left for the other half, and no two at the same place: then all places below are taken.
        a.iter().zip(b).all(|(&a, &b)| {
            let place = mix(a, b, seed, stamps_len(&taken));
            above += usize::from(place >= half);
            if place < half { taken.take(place) } else { above <= size - half as usize }
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use icecore_testkit::SplitMix64;

    fn words(rng: &mut SplitMix64, size: usize) -> (Vec<u64>, Vec<u64>) {
        (0..size).map(|_| (rng.next_u64(), rng.next_u64())).unzip()
    }

    #[test]
    fn every_search_agrees_with_the_plain_one() {
        let mut rng = SplitMix64::new(1);
        for round in 0..200 {
            let size = 2 + round % 10;
            let (a, b) = words(&mut rng, size);
            assert_eq!(bijection_any(&a, &b, 0), large(&a, &b, 0), "size {size}");
            if size >= SPLIT {
                assert_eq!(split(&a, &b), split_large(&a, &b), "size {size}");
            }
        }
    }

    #[test]
    fn equal_keys_exhaust_the_search() {
        assert_eq!(bijection_any(&[5, 5], &[6, 6], 0), None);
        assert_eq!(large(&[5, 1, 5], &[6, 3, 6], 0), None);
    }

    #[test]
    fn hopeless_buckets_end() {
        let (a, b) = words(&mut SplitMix64::new(2), 3000);
        assert_eq!(split(&a, &b), None);
        let (a, b) = words(&mut SplitMix64::new(3), 60);
        assert_eq!(split(&a, &b), None);
    }
}
