use std::{
    cmp::Reverse,
    collections::{BinaryHeap, VecDeque},
};

use super::{BUCKETS, bucket_of, fold, pilot_hash, random::Random, slots_of};
use crate::{
    algorithm::{Placed, Unsolved},
    key::{Entry, Key, fast_range},
};

/// How often a block is begun anew, with other random numbers, when evictions go on for too long.
pub(crate) const ATTEMPTS: u32 = 10;

const PILOTS: usize = 256;
/// How many of the buckets placed last by eviction cannot be evicted.
const PINNED: usize = 16;
/// Evictions per slot after which an attempt is given up.
const EVICTIONS_PER_SLOT: u64 = 10;
const FREE: u16 = u16::MAX;
const _: () = assert!(BUCKETS <= FREE as usize);

/// Solves blocks one after another in the same memory.
pub(crate) struct Solver {
    seed: u64,
    pilot_hashes: [u64; PILOTS],
    /// The block's keys, bucket after bucket.
    k0: Vec<u64>,
    k1: Vec<u64>,
    payloads: Vec<u64>,
    /// The fold of each of them.
    folds: Vec<u64>,
    slots: Vec<u16>,
    /// Where each bucket begins, and at last the number of keys.
    starts: Vec<u32>,
    /// Buckets in the order in which they are placed.
    order: Vec<u16>,
    table: Table,
}

/// Who sits where, in one attempt.
struct Table {
    slots: u32,
    owners: Vec<u16>,
    pilots: Vec<u8>,
    pinned: VecDeque<u16>,
    /// Evicted buckets, the largest and of those the first on top.
    heap: BinaryHeap<(u32, Reverse<u16>)>,
    evictions: u64,
    /// The slots of the bucket being placed.
    wanted: Vec<u32>,
    best: Vec<u32>,
}

/// A block's buckets, as placement sees them.
struct Buckets<'a> {
    folds: &'a [u64],
    starts: &'a [u32],
    pilot_hashes: &'a [u64; PILOTS],
    slots: u32,
}

impl<'a> Buckets<'a> {
    fn size(&self, bucket: u16) -> u32 {
        self.starts[usize::from(bucket) + 1] - self.starts[usize::from(bucket)]
    }

    fn slots(&self, bucket: u16, pilot: u8) -> impl Iterator<Item = u32> + Clone + use<'a> {
        let range = self.starts[usize::from(bucket)] as usize..self.starts[usize::from(bucket) + 1] as usize;
        let (hash, slots) = (self.pilot_hashes[usize::from(pilot)], self.slots);
        self.folds[range].iter().map(move |fold| fast_range(fold.wrapping_mul(hash), slots))
    }

    /// Two keys of the bucket that no pilot can part.
    fn twins(&self, bucket: u16, k0: &[u64], k1: &[u64]) -> Option<Unsolved> {
        let range = self.starts[usize::from(bucket)] as usize..self.starts[usize::from(bucket) + 1] as usize;
        let mut keys: Vec<_> = range.map(|i| Key { k0: k0[i], k1: k1[i] }).collect();
        keys.sort_unstable_by_key(|key| (key.k0 ^ key.k1, key.k0));
        let twins = keys.windows(2).find(|pair| pair[0].k0 ^ pair[0].k1 == pair[1].k0 ^ pair[1].k1)?;
        Some(Unsolved::Duplicate(twins[0]))
    }
}

impl Solver {
    pub(crate) fn new(seed: u64) -> Self {
        Solver {
            seed,
            pilot_hashes: std::array::from_fn(|pilot| pilot_hash(pilot as u8, seed)),
            k0: Vec::new(),
            k1: Vec::new(),
            payloads: Vec::new(),
            folds: Vec::new(),
            slots: Vec::new(),
            starts: vec![0; BUCKETS + 1],
            order: Vec::with_capacity(BUCKETS),
            table: Table::new(),
        }
    }

    /// Appends the blob of a block and gives every key its slot. At most 64 000 keys, so that slots fit u16.
    pub(crate) fn solve(&mut self, entries: &[Entry], blob: &mut Vec<u8>) -> Result<Placed<'_>, Unsolved> {
        self.group(entries);
        let keys = entries.len() as u32;
        let buckets = Buckets {
            folds: &self.folds,
            starts: &self.starts,
            pilot_hashes: &self.pilot_hashes,
            slots: slots_of(keys),
        };
        debug_assert!(buckets.slots < u32::from(u16::MAX));
        for attempt in 0.. {
            if attempt == ATTEMPTS {
                return Err(Unsolved::Placement);
            }
            self.table.reset(buckets.slots);
            match self.table.place_all(&buckets, &self.order, Random::of_attempt(attempt, self.seed)) {
                Ok(()) => break,
                Err(Stuck::Tired) => {}
                Err(Stuck::Bucket(bucket)) => {
                    return Err(buckets
                        .twins(bucket, &self.k0, &self.k1)
                        .unwrap_or(Unsolved::Indistinguishable));
                }
            }
        }
        let remap_at = blob.len() + super::REMAP_AT;
        self.table.encode(keys, blob);
        self.slots.clear();
        for bucket in 0..BUCKETS as u16 {
            let pilot = self.table.pilots[usize::from(bucket)];
            self.slots.extend(buckets.slots(bucket, pilot).map(|slot| match slot.checked_sub(keys) {
                None => slot as u16,
                Some(beyond) => {
                    let at = remap_at + 2 * beyond as usize;
                    u16::from_le_bytes([blob[at], blob[at + 1]])
                }
            }));
        }
        Ok(Placed { k0: &self.k0, k1: &self.k1, mask: 0, payloads: &self.payloads, slots: &self.slots })
    }

    /// Sorts the entries into buckets, and the buckets by falling size.
    fn group(&mut self, entries: &[Entry]) {
        let starts = &mut self.starts;
        starts.fill(0);
        for entry in entries {
            starts[bucket_of(entry.key.k1) + 1] += 1;
        }
        self.order.clear();
        self.order.extend((0..BUCKETS as u16).filter(|&bucket| starts[usize::from(bucket) + 1] > 0));
        self.order.sort_by_key(|&bucket| Reverse(starts[usize::from(bucket) + 1]));
        for bucket in 0..BUCKETS {
            starts[bucket + 1] += starts[bucket];
        }
        let mut next = starts.clone();
        for words in [&mut self.k0, &mut self.k1, &mut self.payloads, &mut self.folds] {
            words.resize(entries.len(), 0);
        }
        for entry in entries {
            let next = &mut next[bucket_of(entry.key.k1)];
            let at = *next as usize;
            self.k0[at] = entry.key.k0;
            self.k1[at] = entry.key.k1;
            self.payloads[at] = entry.payload;
            self.folds[at] = fold(entry.key);
            *next += 1;
        }
    }
}

/// Why an attempt ended.
enum Stuck {
    /// No pilot has any place for this bucket.
    Bucket(u16),
    /// Too many evictions.
    Tired,
}

impl Table {
    fn new() -> Self {
        Table {
            slots: 0,
            owners: Vec::new(),
            pilots: vec![0; BUCKETS],
            pinned: VecDeque::with_capacity(PINNED + 1),
            heap: BinaryHeap::new(),
            evictions: 0,
            wanted: Vec::new(),
            best: Vec::new(),
        }
    }

    fn reset(&mut self, slots: u32) {
        self.slots = slots;
        self.owners.clear();
        self.owners.resize(slots as usize, FREE);
        self.pilots.fill(0);
        self.pinned.clear();
        self.heap.clear();
        self.evictions = 0;
    }

    fn place_all(&mut self, buckets: &Buckets<'_>, order: &[u16], mut random: Random) -> Result<(), Stuck> {
        let limit = EVICTIONS_PER_SLOT * u64::from(self.slots);
        for &bucket in order {
            self.place(buckets, bucket, &mut random)?;
            while let Some((_, Reverse(evicted))) = self.heap.pop() {
                self.place(buckets, evicted, &mut random)?;
                if self.evictions > limit {
                    return Err(Stuck::Tired);
                }
            }
        }
        Ok(())
    }

    fn place(&mut self, buckets: &Buckets<'_>, bucket: u16, random: &mut Random) -> Result<(), Stuck> {
        if let Some(pilot) = (0..=u8::MAX).find(|&pilot| self.take_free(buckets.slots(bucket, pilot), bucket))
        {
            self.pilots[usize::from(bucket)] = pilot;
            return Ok(());
        }
        let pilot = self.cheapest(buckets, bucket, random.next_pilot()).ok_or(Stuck::Bucket(bucket))?;
        self.evict(buckets, bucket);
        self.pilots[usize::from(bucket)] = pilot;
        self.pinned.push_back(bucket);
        if self.pinned.len() > PINNED {
            self.pinned.pop_front();
        }
        Ok(())
    }

    /// Takes the slots if all are free and different, or none of them.
    fn take_free(&mut self, slots: impl Iterator<Item = u32> + Clone, bucket: u16) -> bool {
        for (taken, slot) in slots.clone().enumerate() {
            let owner = &mut self.owners[slot as usize];
            if *owner != FREE {
                for slot in slots.take(taken) {
                    self.owners[slot as usize] = FREE;
                }
                return false;
            }
            *owner = bucket;
        }
        true
    }

    /// The pilot, counted from `start` around, that pushes out the least; its slots are left in `best`.
    fn cheapest(&mut self, buckets: &Buckets<'_>, bucket: u16, start: u8) -> Option<u8> {
        let good_enough = u64::from(buckets.size(bucket)).pow(2);
        let mut best: Option<(u64, u8)> = None;
        for turn in 0..=u8::MAX {
            let pilot = start.wrapping_add(turn);
            let bound = best.map_or(u64::MAX, |(cost, _)| cost);
            let Some(cost) = self.cost(buckets, buckets.slots(bucket, pilot), bound) else { continue };
            if !distinct(&mut self.wanted, buckets.slots(bucket, pilot)) {
                continue;
            }
            best = Some((cost, pilot));
            self.best.clear();
            self.best.extend(buckets.slots(bucket, pilot));
            if cost <= good_enough {
                break;
            }
        }
        best.map(|(_, pilot)| pilot)
    }

    /// What these slots' owners weigh together; `None` where one is pinned or it is no less than `bound`.
    fn cost(&self, buckets: &Buckets<'_>, slots: impl Iterator<Item = u32>, bound: u64) -> Option<u64> {
        let mut cost = 0;
        for slot in slots {
            let owner = self.owners[slot as usize];
            if owner != FREE {
                cost += u64::from(buckets.size(owner)).pow(2);
                if cost >= bound || self.pinned.contains(&owner) {
                    return None;
                }
            }
        }
        Some(cost)
    }

    /// Pushes out whoever owns one of the `best` slots, and takes them.
    fn evict(&mut self, buckets: &Buckets<'_>, bucket: u16) {
        for i in 0..self.best.len() {
            let owner = self.owners[self.best[i] as usize];
            if owner == FREE {
                continue;
            }
            // All slots of an owner are freed at once, so that it is met once.
            for slot in buckets.slots(owner, self.pilots[usize::from(owner)]) {
                self.owners[slot as usize] = FREE;
            }
            self.heap.push((buckets.size(owner), Reverse(owner)));
            self.evictions += 1;
        }
        for &slot in &self.best {
            self.owners[slot as usize] = bucket;
        }
    }

    /// Appends pilots and remap table.
    fn encode(&self, keys: u32, blob: &mut Vec<u8>) {
        blob.extend_from_slice(&self.pilots);
        blob.extend_from_slice(&((self.slots - keys) as u16).to_le_bytes());
        let (inside, beyond) = self.owners.split_at(keys as usize);
        let mut holes = (0u16..).zip(inside).filter(|(_, owner)| **owner == FREE).map(|(slot, _)| slot);
        for owner in beyond {
            // As many slots are taken beyond `keys` as are free below.
            let slot = if *owner == FREE { 0 } else { holes.next().unwrap_or(0) };
            blob.extend_from_slice(&slot.to_le_bytes());
        }
    }
}

fn distinct(sorted: &mut Vec<u32>, slots: impl Iterator<Item = u32>) -> bool {
    sorted.clear();
    sorted.extend(slots);
    sorted.sort_unstable();
    sorted.windows(2).all(|pair| pair[0] != pair[1])
}
