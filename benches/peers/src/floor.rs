//! What memory itself takes, for the same access patterns: nothing that looks a key up can be quicker.

use std::hint::black_box;

use icecore_testkit::SplitMix64;

use crate::{keys::Key, prefetch::prefetch};

/// Accesses that are begun together.
const GROUP: usize = 64;

/// A table of content, four bytes a key, and one of seeds, two bits a key.
pub(crate) struct Floor {
    content: Vec<u32>,
    seeds: Vec<u8>,
}

impl Floor {
    pub(crate) fn new(keys: usize) -> Self {
        let mut rng = SplitMix64::new(3);
        Floor {
            content: (0..keys).map(|_| rng.next_u64() as u32).collect(),
            seeds: (0..keys.div_ceil(4)).map(|_| rng.next_u64() as u8).collect(),
        }
    }

    #[inline(always)]
    fn one(&self, key: &Key) -> u64 {
        u64::from(self.content[key.place(self.content.len())])
    }

    /// The content's place depends on the seed, as far as the processor knows.
    #[inline(always)]
    fn two(&self, key: &Key, none: u8) -> u64 {
        let seed = self.seeds[self.seed_place(key)] & none;
        u64::from(self.content[key.place(self.content.len()) + usize::from(seed)])
    }

    #[inline(always)]
    fn seed_place(&self, key: &Key) -> usize {
        ((u128::from(key.words().1) * self.seeds.len() as u128) >> 64) as usize
    }

    #[inline(always)]
    fn contents(&self, places: &[usize]) -> u64 {
        places.iter().map(|&place| u64::from(self.content[place])).sum()
    }

    pub(crate) fn one_loop(&self, keys: &[Key]) -> u64 {
        keys.iter().map(|key| self.one(key)).sum()
    }

    pub(crate) fn one_batch(&self, keys: &[Key]) -> u64 {
        let (mut sum, mut places) = (0, [0; GROUP]);
        for keys in keys.chunks(GROUP) {
            for (key, place) in keys.iter().zip(&mut places) {
                *place = key.place(self.content.len());
                prefetch(&self.content, *place);
            }
            sum += self.contents(&places[..keys.len()]);
        }
        sum
    }

    pub(crate) fn one_latency(&self, keys: &[Key]) -> u64 {
        chain(keys, |key| self.one(key))
    }

    pub(crate) fn two_loop(&self, keys: &[Key]) -> u64 {
        let none = black_box(0);
        keys.iter().map(|key| self.two(key, none)).sum()
    }

    pub(crate) fn two_batch(&self, keys: &[Key]) -> u64 {
        let none = black_box(0);
        let (mut sum, mut places) = (0, [0; GROUP]);
        for keys in keys.chunks(GROUP) {
            keys.iter().for_each(|key| prefetch(&self.seeds, self.seed_place(key)));
            for (key, place) in keys.iter().zip(&mut places) {
                let seed = self.seeds[self.seed_place(key)] & none;
                *place = key.place(self.content.len()) + usize::from(seed);
                prefetch(&self.content, *place);
            }
            sum += self.contents(&places[..keys.len()]);
        }
        sum
    }

    pub(crate) fn two_latency(&self, keys: &[Key]) -> u64 {
        let none = black_box(0);
        chain(keys, |key| self.two(key, none))
    }
}

/// Which key is next depends on the last answer, as far as the processor knows.
pub(crate) fn chain(keys: &[Key], mut get: impl FnMut(&Key) -> u64) -> u64 {
    let none = black_box(0);
    let mut last = 0;
    for i in 0..keys.len() {
        last = get(&keys[i + (last & none) as usize]);
    }
    last
}
