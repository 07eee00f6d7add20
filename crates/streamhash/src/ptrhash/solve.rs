use super::{
    BUCKETS, REMAP_AT, bucket_of, fold, pilot_hash,
    random::Random,
    slots_of,
    table::{Buckets, Stuck, Table},
};
use crate::{
    algorithm::{Placed, Unsolved},
    key::{Entry, fast_range},
    ptrhash::search::{Lanes, Plain, Search},
    simd::{Job, Path, Simd},
};

/// How often a block is begun anew, with other random numbers, when evictions go on for too long.
pub(crate) const ATTEMPTS: u32 = 10;

/// Solves blocks one after another in the same memory.
pub(crate) struct Solver {
    path: Path,
    seed: u64,
    buckets: Buckets,
    /// The bucket of each entry.
    bucket_of: Vec<u16>,
    /// Where the next key of each bucket goes.
    next: Vec<u32>,
    /// How many buckets there are of each size, and then where they go.
    of_size: Vec<u32>,
    table: Table,
    remap: Vec<u16>,
    /// The slot of each entry.
    slots: Vec<u16>,
}

impl Solver {
    pub(crate) fn new(seed: u64, path: Path) -> Self {
        Solver {
            path,
            seed,
            buckets: Buckets::new(std::array::from_fn(|pilot| pilot_hash(pilot as u8, seed))),
            bucket_of: Vec::new(),
            next: vec![0; BUCKETS],
            of_size: Vec::new(),
            table: Table::new(),
            remap: Vec::new(),
            slots: Vec::new(),
        }
    }

    /// Appends the blob of a block and gives every key its slot. At most 64 000 keys, so that slots fit u16.
    pub(crate) fn solve<'a>(
        &'a mut self,
        entries: &'a [Entry],
        blob: &mut Vec<u8>,
    ) -> Result<Placed<'a>, Unsolved> {
        self.path.run(Solve { solver: self, entries, blob })?;
        Ok(Placed::InPlace { entries, slots: &self.slots })
    }

    #[inline(always)]
    fn run(&mut self, search: impl Search, entries: &[Entry], blob: &mut Vec<u8>) -> Result<(), Unsolved> {
        self.group(entries);
        for attempt in 0.. {
            if attempt == ATTEMPTS {
                return Err(Unsolved::Placement);
            }
            self.table.reset();
            let random = Random::of_attempt(attempt, self.seed);
            match self.table.place_all(search, &self.buckets, random) {
                Ok(()) => break,
                Err(Stuck::Tired) => {}
                Err(Stuck::Bucket(bucket)) => {
                    return Err(self.twins(bucket, entries).unwrap_or(Unsolved::Indistinguishable));
                }
            }
        }
        let keys = entries.len() as u32;
        self.table.remap(self.buckets.slots - keys, keys, &mut self.remap);
        const { assert!(BUCKETS + size_of::<u16>() == REMAP_AT) };
        blob.extend_from_slice(&self.table.pilots);
        blob.extend_from_slice(&(self.remap.len() as u16).to_le_bytes());
        blob.extend(self.remap.iter().flat_map(|slot| slot.to_le_bytes()));
        self.find_slots(entries);
        Ok(())
    }

    /// Sorts the keys into buckets, and the buckets by falling size.
    #[inline(always)]
    fn group(&mut self, entries: &[Entry]) {
        let Buckets { order, sizes, starts, folds, slots, .. } = &mut self.buckets;
        *slots = slots_of(entries.len() as u32);
        debug_assert!(*slots <= u32::from(u16::MAX));
        sizes.fill(0);
        self.bucket_of.clear();
        self.bucket_of.extend(entries.iter().map(|entry| {
            let bucket = bucket_of(entry.key.k1);
            sizes[bucket] += 1;
            bucket as u16
        }));
        let largest = usize::from(sizes.iter().copied().max().unwrap_or(0));
        self.of_size.clear();
        self.of_size.resize(largest + 1, 0);
        for &size in &*sizes {
            self.of_size[usize::from(size)] += 1;
        }
        let (mut place, mut start) = (0, 0);
        let mut of_size: Vec<(u32, u32)> = vec![(0, 0); largest + 1];
        for (size, of_size) in of_size.iter_mut().enumerate().skip(1).rev() {
            *of_size = (place, start);
            place += self.of_size[size];
            start += self.of_size[size] * size as u32;
        }
        order.clear();
        order.resize(place as usize, 0);
        for (bucket, &size) in sizes.iter().enumerate() {
            let (place, start) = &mut of_size[usize::from(size)];
            starts[bucket] = *start;
            self.next[bucket] = *start;
            if size > 0 {
                order[*place as usize] = bucket as u16;
                *place += 1;
                *start += u32::from(size);
            }
        }
        folds.resize(entries.len(), 0);
        for (entry, &bucket) in entries.iter().zip(&self.bucket_of) {
            let next = &mut self.next[usize::from(bucket)];
            folds[*next as usize] = fold(entry.key);
            *next += 1;
        }
    }

    #[inline(always)]
    fn find_slots(&mut self, entries: &[Entry]) {
        let (buckets, pilots, remap) = (&self.buckets, &self.table.pilots, &self.remap);
        let keys = entries.len() as u32;
        self.slots.clear();
        self.slots.extend(entries.iter().zip(&self.bucket_of).map(|(entry, &bucket)| {
            let hash = buckets.pilot_hashes[usize::from(pilots[usize::from(bucket)])];
            let slot = fast_range(fold(entry.key).wrapping_mul(hash), buckets.slots);
            match slot.checked_sub(keys) {
                None => slot as u16,
                Some(beyond) => remap[beyond as usize],
            }
        }));
    }

    /// Two keys of the bucket that no pilot can part.
    #[cold]
    fn twins(&self, bucket: u16, entries: &[Entry]) -> Option<Unsolved> {
        let own = entries.iter().zip(&self.bucket_of).filter(|(_, of)| **of == bucket);
        let mut keys: Vec<_> = own.map(|(entry, _)| entry.key).collect();
        keys.sort_unstable_by_key(|key| (key.k0 ^ key.k1, key.k0));
        let twins = keys.windows(2).find(|pair| pair[0].k0 ^ pair[0].k1 == pair[1].k0 ^ pair[1].k1)?;
        Some(Unsolved::Duplicate(twins[0]))
    }
}

struct Solve<'a> {
    solver: &'a mut Solver,
    entries: &'a [Entry],
    blob: &'a mut Vec<u8>,
}

impl Job for Solve<'_> {
    type Output = Result<(), Unsolved>;

    fn scalar(self) -> Self::Output {
        self.solver.run(Plain, self.entries, self.blob)
    }

    #[inline(always)]
    fn lanes<S: Simd>(self, simd: S) -> Self::Output {
        self.solver.run(Lanes(simd), self.entries, self.blob)
    }
}
