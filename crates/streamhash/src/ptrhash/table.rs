//! Who sits where in a block, and how a bucket finds its slots.

use std::{cmp::Reverse, collections::BinaryHeap};

use super::{
    BUCKETS,
    random::Random,
    search::{Eight, Found, PILOTS, Search, first_free, first_free_large, slots_of},
};
use crate::key::fast_range;

/// How many of the buckets placed last by eviction cannot be evicted.
const PINNED: usize = 16;
/// Of how many buckets the slots are computed at a time.
const AHEAD: usize = 8;
const NOBODY: u16 = u16::MAX;
const _: () = assert!(BUCKETS < NOBODY as usize);
/// Evictions per slot after which an attempt is given up.
const EVICTIONS_PER_SLOT: u64 = 10;
/// As many slots as there may be.
const MAX_SLOTS: usize = 1 << 16;

/// A block's buckets, as placement sees them.
pub(super) struct Buckets {
    pub(super) pilot_hashes: [u64; PILOTS],
    /// How many slots the block has.
    pub(super) slots: u32,
    /// Buckets in the order in which they are placed, the empty ones last.
    pub(super) order: Vec<u16>,
    /// How many buckets there are of each size.
    pub(super) of_size: Vec<u32>,
    /// By bucket.
    pub(super) sizes: Vec<u16>,
    /// Where each bucket's keys begin.
    pub(super) starts: Vec<u32>,
    /// The folds of the keys, in the order of buckets.
    pub(super) folds: Vec<u64>,
}

impl Buckets {
    pub(super) fn new(pilot_hashes: [u64; PILOTS]) -> Self {
        Buckets {
            pilot_hashes,
            slots: 0,
            order: vec![0; BUCKETS],
            of_size: Vec::new(),
            sizes: vec![0; BUCKETS],
            starts: vec![0; BUCKETS],
            folds: Vec::new(),
        }
    }

    fn folds(&self, bucket: u16) -> &[u64] {
        let start = self.starts[usize::from(bucket)] as usize;
        &self.folds[start..start + usize::from(self.sizes[usize::from(bucket)])]
    }

    fn slots(&self, bucket: u16, pilot: u8) -> impl Iterator<Item = u16> + Clone + use<'_> {
        let (hash, slots) = (self.pilot_hashes[usize::from(pilot)], self.slots);
        self.folds(bucket).iter().map(move |fold| fast_range(fold.wrapping_mul(hash), slots) as u16)
    }

    /// What it costs to evict a bucket.
    fn weight(&self, bucket: u16) -> u64 {
        u64::from(self.sizes[usize::from(bucket)]).pow(2)
    }
}

/// To where the first pilots send a bucket.
#[inline(always)]
fn look_ahead<const M: usize, const BATCHES: usize>(
    search: impl Search,
    folds: &[u64; M],
    buckets: &Buckets,
    ahead: &mut [Found<M>; BATCHES],
) {
    let (hashes, _) = buckets.pilot_hashes.as_chunks::<8>();
    for (found, hashes) in ahead.iter_mut().zip(hashes) {
        slots_of(search, folds, hashes, buckets.slots, found);
    }
}

/// Which slots are taken, a byte each: all of it stays in the nearest cache.
pub(super) struct Taken(Box<[u8; MAX_SLOTS]>);

impl Taken {
    pub(super) fn new() -> Self {
        Taken(Box::new([0; MAX_SLOTS]))
    }

    #[inline(always)]
    pub(super) fn get(&self, slot: u16) -> u8 {
        self.0[usize::from(slot)]
    }

    #[inline(always)]
    pub(super) fn is(&self, slot: u16) -> bool {
        self.get(slot) != 0
    }

    #[inline(always)]
    pub(super) fn set(&mut self, slot: u16, taken: bool) {
        self.0[usize::from(slot)] = taken.into();
    }
}

/// Who sits where, in one attempt.
pub(super) struct Table {
    taken: Taken,
    /// Who sits in the slots that are taken.
    owners: Box<[u16; MAX_SLOTS]>,
    pub(super) pilots: Vec<u8>,
    /// The buckets placed last by eviction, in a ring.
    pinned: [u16; PINNED],
    pins: usize,
    /// Evicted buckets, the largest and of those the first on top.
    heap: BinaryHeap<(u16, Reverse<u16>)>,
    evictions: u64,
    /// The slots of the bucket being placed.
    wanted: Vec<u16>,
    sorted: Vec<u16>,
    best: Vec<u16>,
}

/// Why an attempt ended.
pub(super) enum Stuck {
    /// No pilot has any place for this bucket.
    Bucket(u16),
    /// Too many evictions.
    Tired,
}

impl Table {
    pub(super) fn new() -> Self {
        Table {
            taken: Taken::new(),
            owners: Box::new([0; MAX_SLOTS]),
            pilots: vec![0; BUCKETS],
            pinned: [NOBODY; PINNED],
            pins: 0,
            heap: BinaryHeap::new(),
            evictions: 0,
            wanted: Vec::new(),
            sorted: Vec::new(),
            best: Vec::new(),
        }
    }

    pub(super) fn reset(&mut self) {
        self.taken.0.fill(0);
        self.pilots.fill(0);
        self.pinned.fill(NOBODY);
        self.heap.clear();
        self.evictions = 0;
    }

    #[inline(always)]
    pub(super) fn place_all(
        &mut self,
        search: impl Search,
        buckets: &Buckets,
        mut random: Random,
    ) -> Result<(), Stuck> {
        let (mut order, mut folds) = (&*buckets.order, &*buckets.folds);
        for (size, &count) in buckets.of_size.iter().enumerate().skip(1).rev() {
            let (mut class, mut class_folds);
            (class, order) = order.split_at(count as usize);
            (class_folds, folds) = folds.split_at(count as usize * size);
            while !class.is_empty() {
                macro_rules! sized {
                    ($($m:literal $batches:literal,)+) => {
                        match size {
                            $($m => {
                                let (folds, _) = class_folds.as_chunks::<$m>();
                                self.place_class::<$m, $batches>(search, buckets, class, folds)
                            })+
                            _ => self.place_large_class(search, buckets, class),
                        }
                    };
                }
                // About as many batches of pilots as it takes most buckets to find theirs.
                let placed = sized!(1 4, 2 4, 3 4, 4 4, 5 2, 6 2, 7 2, 8 2,);
                class = &class[placed..];
                class_folds = &class_folds[placed * size..];
                if let Some((&bucket, rest)) = class.split_first() {
                    self.place_evicting(search, buckets, bucket, &mut random)?;
                    class = rest;
                    class_folds = &class_folds[size..];
                }
            }
        }
        Ok(())
    }

    /// Places buckets of one size, up to one that finds no free slots, and tells how many. To where the first pilots send
    /// the next few of them is computed in one go, so that this does not wait for the end of a search, which is hard to
    /// foresee.
    #[inline(always)]
    fn place_class<const M: usize, const BATCHES: usize>(
        &mut self,
        search: impl Search,
        buckets: &Buckets,
        order: &[u16],
        folds: &[[u64; M]],
    ) -> usize {
        let mut placed = 0;
        let mut ahead = [[[Eight::default(); M]; BATCHES]; AHEAD];
        for (order, folds) in order.chunks(AHEAD).zip(folds.chunks(AHEAD)) {
            for (ahead, folds) in ahead.iter_mut().zip(folds) {
                look_ahead(search, folds, buckets, ahead);
            }
            for ((&bucket, folds), ahead) in order.iter().zip(folds).zip(&ahead) {
                if !self.place_sized(search, buckets, bucket, folds, ahead) {
                    return placed;
                }
                placed += 1;
            }
        }
        placed
    }

    /// [`place_class`](Table::place_class) of any size.
    #[inline(always)]
    fn place_large_class(&mut self, search: impl Search, buckets: &Buckets, order: &[u16]) -> usize {
        for (placed, &bucket) in order.iter().enumerate() {
            if !self.place_large(search, buckets, bucket) {
                return placed;
            }
        }
        order.len()
    }

    /// Places a bucket in free slots, if there is a pilot for that.
    #[inline(always)]
    fn place_sized<const M: usize, const BATCHES: usize>(
        &mut self,
        search: impl Search,
        buckets: &Buckets,
        bucket: u16,
        folds: &[u64; M],
        ahead: &[Found<M>; BATCHES],
    ) -> bool {
        let found = first_free(search, folds, ahead, &buckets.pilot_hashes, buckets.slots, &self.taken);
        let Some((pilot, slots)) = found else { return false };
        for slot in slots {
            self.taken.set(slot, true);
            self.owners[usize::from(slot)] = bucket;
        }
        self.pilots[usize::from(bucket)] = pilot;
        true
    }

    /// Places an evicted bucket in free slots, if there is a pilot for that; most of them are small.
    #[inline(always)]
    fn place_any(&mut self, search: impl Search, buckets: &Buckets, bucket: u16) -> bool {
        // No closures here: they might be compiled apart, for other processors.
        macro_rules! sized {
            ($m:literal) => {{
                let Some(folds) = buckets.folds(bucket).first_chunk::<$m>() else { return false };
                let mut ahead = [[Eight::default(); $m]; 4];
                look_ahead(search, folds, buckets, &mut ahead);
                self.place_sized(search, buckets, bucket, folds, &ahead)
            }};
        }
        match buckets.sizes[usize::from(bucket)] {
            1 => sized!(1),
            2 => sized!(2),
            3 => sized!(3),
            _ => self.place_large(search, buckets, bucket),
        }
    }

    /// Places a bucket of any size in free slots, if there is a pilot for that.
    #[inline(always)]
    fn place_large(&mut self, search: impl Search, buckets: &Buckets, bucket: u16) -> bool {
        let mut first = Some(0);
        while let Some(from) = first {
            let (folds, hashes) = (buckets.folds(bucket), &buckets.pilot_hashes);
            let pilot = first_free_large(search, folds, hashes, buckets.slots, &self.taken, from);
            let Some(pilot) = pilot else { return false };
            if self.take_free(buckets, bucket, pilot) {
                self.pilots[usize::from(bucket)] = pilot;
                return true;
            }
            first = pilot.checked_add(1);
        }
        false
    }

    /// Takes slots that are free, if they are all different.
    fn take_free(&mut self, buckets: &Buckets, bucket: u16, pilot: u8) -> bool {
        let slots = buckets.slots(bucket, pilot);
        for (before, slot) in slots.clone().enumerate() {
            if self.taken.is(slot) {
                slots.take(before).for_each(|slot| self.taken.set(slot, false));
                return false;
            }
            self.taken.set(slot, true);
            self.owners[usize::from(slot)] = bucket;
        }
        true
    }

    /// Places a bucket where it pushes out the least, and then those that were pushed out.
    #[inline(always)]
    fn place_evicting(
        &mut self,
        search: impl Search,
        buckets: &Buckets,
        bucket: u16,
        random: &mut Random,
    ) -> Result<(), Stuck> {
        let limit = EVICTIONS_PER_SLOT * u64::from(buckets.slots);
        self.push_out(buckets, bucket, random)?;
        while let Some((_, Reverse(evicted))) = self.heap.pop() {
            if !self.place_any(search, buckets, evicted) {
                self.push_out(buckets, evicted, random)?;
            }
            if self.evictions > limit {
                return Err(Stuck::Tired);
            }
        }
        Ok(())
    }

    #[inline(never)]
    fn push_out(&mut self, buckets: &Buckets, bucket: u16, random: &mut Random) -> Result<(), Stuck> {
        let pilot = self.cheapest(buckets, bucket, random.next_pilot()).ok_or(Stuck::Bucket(bucket))?;
        self.evict(buckets, bucket);
        self.pilots[usize::from(bucket)] = pilot;
        self.pinned[self.pins % PINNED] = bucket;
        self.pins += 1;
        Ok(())
    }

    /// The pilot, counted from `start` around, that pushes out the least and nobody who is pinned; its slots are left in
    /// `best`.
    fn cheapest(&mut self, buckets: &Buckets, bucket: u16, start: u8) -> Option<u8> {
        let good_enough = buckets.weight(bucket);
        let mut best: Option<(u64, u8)> = None;
        for turn in 0..=u8::MAX {
            let pilot = start.wrapping_add(turn);
            let bound = best.map_or(u64::MAX, |(cost, _)| cost);
            let owner = |slot: u16| self.owners[usize::from(slot)];
            let cost = |slot| u64::from(self.taken.get(slot)) * buckets.weight(owner(slot));
            let slots = buckets.slots(bucket, pilot);
            let cost = slots.clone().map(cost).sum();
            let pinned = |slot| self.taken.is(slot) && self.pinned.contains(&owner(slot));
            if cost >= bound || slots.clone().any(pinned) {
                continue;
            }
            self.wanted.clear();
            self.wanted.extend(slots);
            if !self.wanted_are_distinct() {
                continue;
            }
            best = Some((cost, pilot));
            std::mem::swap(&mut self.best, &mut self.wanted);
            if cost <= good_enough {
                break;
            }
        }
        best.map(|(_, pilot)| pilot)
    }

    fn wanted_are_distinct(&mut self) -> bool {
        self.sorted.clone_from(&self.wanted);
        self.sorted.sort_unstable();
        self.sorted.windows(2).all(|pair| pair[0] != pair[1])
    }

    /// Pushes out whoever owns one of the `best` slots, and takes them.
    fn evict(&mut self, buckets: &Buckets, bucket: u16) {
        for &slot in &self.best {
            if !self.taken.is(slot) {
                continue;
            }
            // All slots of an owner are freed at once, so that it is met once.
            let owner = self.owners[usize::from(slot)];
            for slot in buckets.slots(owner, self.pilots[usize::from(owner)]) {
                self.taken.set(slot, false);
            }
            self.heap.push((buckets.sizes[usize::from(owner)], Reverse(owner)));
            self.evictions += 1;
        }
        for &slot in &self.best {
            self.taken.set(slot, true);
            self.owners[usize::from(slot)] = bucket;
        }
    }

    /// Gives each slot taken from `keys` on one that stayed free below, in order; 0 stands for those not taken.
    pub(super) fn remap(&self, beyond: u32, keys: u32, remap: &mut Vec<u16>) {
        let (inside, rest) = self.taken.0.split_at(keys as usize);
        let (eights, last) = inside.as_chunks::<8>();
        let mut ends = [1; 8];
        ends[..last.len()].copy_from_slice(last);
        let free = |eight: &[u8; 8]| !u64::from_le_bytes(*eight) & u64::from_le_bytes([1; 8]);
        let free = eights.iter().chain([&ends]).map(free);
        // As many slots are taken beyond `keys` as are free below.
        let mut holes = (0..).step_by(8).zip(free).flat_map(|(at, free)| {
            let next = |free: &u64| Some(free & (free - 1)).filter(|free| *free != 0);
            let bits = std::iter::successors(Some(free).filter(|free| *free != 0), next);
            bits.map(move |free| at + free.trailing_zeros() as u16 / 8)
        });
        let give = |taken: &u8| if *taken == 0 { 0 } else { holes.next().unwrap_or(0) };
        remap.clear();
        remap.extend(rest[..beyond as usize].iter().map(give));
    }
}
