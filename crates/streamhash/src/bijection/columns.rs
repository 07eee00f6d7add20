//! A block's keys, bucket after bucket and the buckets by size, so that every search runs over keys of one size that
//! follow one another.

use super::{BUCKETS, SPLIT, TOO_MANY_KEYS, bucket_of};
use crate::key::Entry;

/// Places for keys: lanes reach beyond the last one.
pub(super) const LEN: usize = TOO_MANY_KEYS as usize + 8 * SPLIT;

/// Places for buckets, likewise.
pub(super) const BUCKETS_LEN: usize = BUCKETS + 8;

/// The words of the keys, mixed with the global seed, and what the lanes need of them for every seed.
pub(super) struct Columns {
    pub(super) a: [u64; LEN],
    pub(super) b: [u64; LEN],
    /// The high 32 bits of `a * b`, for each of the first seeds if the keys are steady.
    pub(super) tops: [u32; LEN],
    pub(super) payloads: [u64; LEN],
    /// Whether it is certain that `tops` are the same for all of the first seeds, which change only the lowest bits of `a`.
    /// Of three hundred blocks of uniform keys all but one are steady.
    pub(super) steady: bool,
}

impl Columns {
    pub(super) fn new() -> Self {
        Columns { a: [0; LEN], b: [0; LEN], tops: [0; LEN], payloads: [0; LEN], steady: false }
    }

    pub(super) fn swap(&mut self, i: usize, j: usize) {
        self.a.swap(i, j);
        self.b.swap(i, j);
        self.tops.swap(i, j);
        self.payloads.swap(i, j);
    }
}

/// The buckets of one size, or of all sizes from [`SPLIT`] on.
#[derive(Clone, Copy, Default)]
pub(super) struct Class {
    /// Where they begin in the order of buckets.
    pub(super) bucket_at: usize,
    /// How many there are.
    pub(super) buckets: usize,
    /// Where their keys begin.
    pub(super) key_at: usize,
}

pub(super) const CLASSES: usize = SPLIT + 1;

/// Where everything of a block is.
pub(super) struct Grouping {
    /// The size of each bucket.
    pub(super) sizes: [u16; BUCKETS],
    /// Where the slots of each bucket begin, and at last the number of keys.
    pub(super) starts: [u32; BUCKETS + 1],
    pub(super) classes: [Class; CLASSES],
    /// The buckets by class and number.
    pub(super) order: [u16; BUCKETS_LEN],
    /// Where the slots of each of them begin.
    pub(super) order_starts: [u32; BUCKETS_LEN],
    /// Where the next key of each bucket goes.
    next: [u16; BUCKETS],
}

impl Grouping {
    pub(super) fn new() -> Self {
        Grouping {
            sizes: [0; BUCKETS],
            starts: [0; BUCKETS + 1],
            classes: Default::default(),
            order: [0; BUCKETS_LEN],
            order_starts: [0; BUCKETS_LEN],
            next: [0; BUCKETS],
        }
    }

    /// Sorts the entries, fewer than [`TOO_MANY_KEYS`], into the columns.
    #[inline(always)]
    pub(super) fn group(&mut self, entries: &[Entry], seed: u64, keys: &mut Columns) {
        self.sizes.fill(0);
        for entry in entries {
            self.sizes[bucket_of(entry.key.k0)] += 1;
        }
        self.classify();
        for entry in entries {
            let next = &mut self.next[bucket_of(entry.key.k0)];
            let at = usize::from(*next) % LEN.next_power_of_two();
            *next += 1;
            keys.a[at] = entry.key.k0 ^ seed;
            keys.b[at] = entry.key.k1 ^ seed;
            keys.payloads[at] = entry.payload;
        }
    }

    /// From the sizes, all the rest.
    #[inline(always)]
    fn classify(&mut self) {
        // Counted size by size, in lanes.
        let mut buckets = [0; CLASSES];
        for (size, buckets) in (0..SPLIT as u16).zip(&mut buckets) {
            *buckets = self.sizes.iter().fold(0u16, |n, &other| n + u16::from(other == size)).into();
        }
        buckets[SPLIT] = BUCKETS - buckets.iter().sum::<usize>();
        let (mut bucket_at, mut key_at) = (0, 0);
        for (size, class) in self.classes.iter_mut().enumerate() {
            *class = Class { bucket_at, buckets: buckets[size], key_at };
            bucket_at += buckets[size];
            key_at += buckets[size] * size;
        }
        let mut next = self.classes.map(|class| (class.bucket_at, class.key_at));
        let mut start = 0;
        for bucket in 0..BUCKETS {
            let size = self.sizes[bucket];
            let (place, key_at) = &mut next[usize::from(size).min(SPLIT)];
            self.order[*place] = bucket as u16;
            self.order_starts[*place] = start;
            self.starts[bucket] = start;
            self.next[bucket] = *key_at as u16;
            *place += 1;
            *key_at += usize::from(size);
            start += u32::from(size);
        }
        self.starts[BUCKETS] = start;
    }
}
