use super::{
    BUCKETS, REMAP_AT, bucket_of, fold, pilot_hash,
    random::Random,
    slots_of,
    table::{Buckets, Stuck, Table},
};
use crate::{
    algorithm::{Placed, Unsolved},
    key::{Entry, fast_range},
    prefetch::prefetch,
    ptrhash::search::{Lanes, Plain, Search},
    simd::{Job, Path, Simd},
};

/// How often a block is begun anew, with other random numbers, when evictions go on for too long.
pub(crate) const ATTEMPTS: u32 = 10;

/// How many keys ahead the place of a fold is fetched, so that its line is there when it is written.
const SOON: usize = 16;

/// Solves blocks one after another in the same memory.
pub(crate) struct Solver {
    path: Path,
    seed: u64,
    buckets: Buckets,
    /// The fold of each entry.
    folds: Vec<u64>,
    /// The bucket of each entry, and how many came before it there.
    bucket_of: Vec<(u16, u16)>,
    /// By size, where the next bucket goes in the order of buckets, and its first key.
    next: Vec<(u32, u32)>,
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
            folds: Vec::new(),
            bucket_of: Vec::new(),
            next: Vec::new(),
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
        self.find_slots();
        Ok(())
    }

    /// Sorts the keys into buckets, and the buckets by falling size.
    #[inline(always)]
    fn group(&mut self, entries: &[Entry]) {
        let Buckets { order, sizes, starts, folds, slots, of_size, .. } = &mut self.buckets;
        *slots = slots_of(entries.len() as u32);
        debug_assert!(*slots <= u32::from(u16::MAX));
        sizes.fill(0);
        self.folds.clear();
        self.folds.extend(entries.iter().map(|entry| fold(entry.key)));
        self.bucket_of.clear();
        self.bucket_of.extend(entries.iter().map(|entry| {
            let bucket = bucket_of(entry.key.k1);
            let before = sizes[bucket];
            sizes[bucket] += 1;
            (bucket as u16, before)
        }));
        let largest = usize::from(sizes.iter().copied().max().unwrap_or(0));
        of_size.clear();
        of_size.resize(largest + 1, 0);
        for &size in &*sizes {
            of_size[usize::from(size)] += 1;
        }
        // Where the next bucket of each size goes, and the next key of its.
        let (mut place, mut start) = (0, 0);
        self.next.clear();
        self.next.resize(largest + 1, (0, 0));
        for (size, next) in self.next.iter_mut().enumerate().rev() {
            *next = (place, start);
            place += of_size[size];
            start += of_size[size] * size as u32;
        }
        for (bucket, (&size, start)) in sizes.iter().zip(&mut *starts).enumerate() {
            let (place, next) = &mut self.next[usize::from(size)];
            *start = *next;
            *next += u32::from(size);
            order[*place as usize] = bucket as u16;
            *place += 1;
        }
        folds.resize(entries.len(), 0);
        let place =
            |&(bucket, before): &(u16, u16)| starts[usize::from(bucket)] as usize + usize::from(before);
        let later = self.bucket_of.iter().skip(SOON).map(Some).chain(std::iter::repeat(None));
        for ((fold, key), later) in self.folds.iter().zip(&self.bucket_of).zip(later) {
            if let Some(later) = later {
                prefetch(folds, place(later));
            }
            folds[place(key)] = *fold;
        }
    }

    #[inline(always)]
    fn find_slots(&mut self) {
        let (buckets, pilots, remap) = (&self.buckets, &self.table.pilots, &self.remap);
        let keys = self.folds.len() as u32;
        self.slots.clear();
        self.slots.extend(self.folds.iter().zip(&self.bucket_of).map(|(fold, (bucket, _))| {
            let hash = buckets.pilot_hashes[usize::from(pilots[usize::from(*bucket)])];
            let slot = fast_range(fold.wrapping_mul(hash), buckets.slots);
            match slot.checked_sub(keys) {
                None => slot as u16,
                Some(beyond) => remap[beyond as usize],
            }
        }));
    }

    /// Two keys of the bucket that no pilot can part.
    #[cold]
    fn twins(&self, bucket: u16, entries: &[Entry]) -> Option<Unsolved> {
        let own = entries.iter().zip(&self.bucket_of).filter(|(_, of)| of.0 == bucket);
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
