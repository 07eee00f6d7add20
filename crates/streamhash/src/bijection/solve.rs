use super::{
    EMPTY, LISTED_MAX, MAX_CODED, SPLIT, TOO_MANY_KEYS,
    columns::{BUCKETS_LEN, Class, Columns, Grouping, LEN},
    encode::{Encoder, IN_HALVES, Seeds, has_code},
    lanes::Lanes,
    mix,
    search::{FIRST_SEEDS, Plain, Search},
};
use crate::{
    algorithm::{Placed, Unsolved},
    key::{Entry, Key},
    simd::{Job, Path, Simd},
};

/// Solves blocks one after another in the same memory.
pub(crate) struct Solver {
    path: Path,
    block: Block,
    encoder: Encoder,
}

/// What is known of a block.
struct Block {
    seed: u64,
    keys: Columns,
    grouping: Grouping,
    seeds: Seeds,
    /// The seeds of whole buckets, in the grouping's order.
    order_seeds: [u32; BUCKETS_LEN],
    /// The slot of each key.
    slots: [u16; LEN],
    pending: [u16; BUCKETS_LEN],
    /// How many seeds are known to have no code.
    listed: usize,
}

impl Solver {
    pub(crate) fn new(seed: u64, path: Path) -> Self {
        let block = Block {
            seed,
            keys: Columns::new(),
            grouping: Grouping::new(),
            seeds: Seeds::new(),
            order_seeds: [0; BUCKETS_LEN],
            slots: [0; LEN],
            pending: [0; BUCKETS_LEN],
            listed: 0,
        };
        Solver { path, block, encoder: Encoder::new() }
    }

    /// Appends the blob of a block and gives every key its slot. No more keys than a block may have.
    pub(crate) fn solve(&mut self, entries: &[Entry], blob: &mut Vec<u8>) -> Result<Placed<'_>, Unsolved> {
        debug_assert!(entries.len() < TOO_MANY_KEYS as usize);
        if entries.is_empty() {
            blob.extend_from_slice(&EMPTY);
        } else {
            self.path.run(Solve { solver: self, entries, blob })?;
        }
        let (block, len) = (&self.block, entries.len());
        Ok(Placed::Columns {
            k0: &block.keys.a[..len],
            k1: &block.keys.b[..len],
            mask: block.seed,
            payloads: &block.keys.payloads[..len],
            slots: &block.slots[..len],
        })
    }
}

/// The solving of a block that is not empty.
struct Solve<'a> {
    solver: &'a mut Solver,
    entries: &'a [Entry],
    blob: &'a mut Vec<u8>,
}

impl Job for Solve<'_> {
    type Output = Result<(), Unsolved>;

    fn scalar(self) -> Self::Output {
        self.run(Plain)
    }

    #[inline(always)]
    fn lanes<S: Simd>(self, simd: S) -> Self::Output {
        self.run(Lanes(simd))
    }
}

impl Solve<'_> {
    #[inline(always)]
    fn run(self, search: impl Search) -> Result<(), Unsolved> {
        let Solver { block, encoder, .. } = self.solver;
        block.grouping.group(self.entries, block.seed, &mut block.keys);
        search.prepare(&mut block.keys, self.entries.len());
        block.seeds.whole.fill(0);
        block.listed = 0;
        block.list_large()?;
        block.solve_single();
        block.solve_sized::<2>(search)?;
        block.solve_sized::<3>(search)?;
        block.solve_sized::<4>(search)?;
        block.solve_sized::<5>(search)?;
        block.solve_sized::<6>(search)?;
        block.solve_sized::<7>(search)?;
        block.solve_large(search)?;
        encoder.encode(&block.grouping, &block.seeds, self.blob)
    }
}

/// How many keys each half of a split bucket has.
fn halves(size: usize) -> [usize; 2] {
    [size / 2, size - size / 2]
}

impl Block {
    fn solve_single(&mut self) {
        let Class { bucket_at, buckets, key_at } = self.grouping.classes[1];
        let starts = &self.grouping.order_starts[bucket_at..bucket_at + buckets];
        for (slot, &start) in self.slots[key_at..].iter_mut().zip(starts) {
            *slot = start as u16;
        }
    }

    #[inline(always)]
    fn solve_sized<const M: usize>(&mut self, search: impl Search) -> Result<(), Unsolved> {
        let Class { bucket_at, buckets, key_at } = self.grouping.classes[M];
        let range = bucket_at..bucket_at + buckets;
        let left =
            search.sized::<M>(&self.keys, key_at, &mut self.order_seeds[range.clone()], &mut self.pending);
        if left > 0 {
            self.solve_late::<M>(search, left)?;
        }
        for (&bucket, &seed) in self.grouping.order[range.clone()].iter().zip(&self.order_seeds[range]) {
            self.seeds.whole[usize::from(bucket)] = seed;
        }
        let (seeds, starts) = (&self.order_seeds[bucket_at..], &self.grouping.order_starts[bucket_at..]);
        search.slots::<M>(&self.keys, key_at, buckets, seeds, starts, &mut self.slots);
        Ok(())
    }

    /// Goes on with the buckets of `M` keys that are pending, unlucky or hopeless ones.
    #[inline(always)]
    fn solve_late<const M: usize>(&mut self, search: impl Search, left: usize) -> Result<(), Unsolved> {
        let Class { bucket_at, key_at, .. } = self.grouping.classes[M];
        self.list(left)?;
        for i in 0..left {
            let bucket = usize::from(self.pending[i]);
            let at = key_at + bucket * M;
            let seed = search.any(&self.keys, at, M, FIRST_SEEDS);
            self.order_seeds[bucket_at + bucket] = seed.ok_or_else(|| self.exhausted(at, M))?;
        }
        Ok(())
    }

    /// Counts seeds that have no code, so that no more are searched for than the list has room for.
    fn list(&mut self, seeds: usize) -> Result<(), Unsolved> {
        self.listed += seeds;
        if self.listed > LISTED_MAX { Err(Unsolved::Fallback) } else { Ok(()) }
    }

    /// Counts those of halves that are too large for one.
    fn list_large(&mut self) -> Result<(), Unsolved> {
        let Class { bucket_at, buckets, .. } = self.grouping.classes[SPLIT];
        for place in bucket_at..bucket_at + buckets {
            let size = usize::from(self.grouping.sizes[usize::from(self.grouping.order[place])]);
            self.list(halves(size).into_iter().filter(|&half| half > MAX_CODED).count())?;
        }
        Ok(())
    }

    #[inline(always)]
    fn solve_large(&mut self, search: impl Search) -> Result<(), Unsolved> {
        let Class { bucket_at, buckets, mut key_at } = self.grouping.classes[SPLIT];
        for place in bucket_at..bucket_at + buckets {
            let bucket = usize::from(self.grouping.order[place]);
            let size = usize::from(self.grouping.sizes[bucket]);
            self.seeds.whole[bucket] = IN_HALVES;
            let seeds = self.solve_split(search, key_at, size, self.grouping.order_starts[place])?;
            self.seeds.halves[bucket] = seeds;
            let late = |&(half, seed): &(usize, u32)| half <= MAX_CODED && !has_code(half, seed);
            self.list(halves(size).into_iter().zip(seeds).filter(late).count())?;
            key_at += size;
        }
        Ok(())
    }

    /// Finds both seeds of a bucket, and brings the keys of its first half to the front.
    #[inline(always)]
    fn solve_split(
        &mut self,
        search: impl Search,
        at: usize,
        size: usize,
        start: u32,
    ) -> Result<[u32; 2], Unsolved> {
        let half = size / 2;
        if size > 2 * MAX_CODED
            && let Some(key) = self.twins(at, size)
        {
            // No seed is tried in vain; honest buckets are hardly ever so large.
            return Err(Unsolved::Duplicate(key));
        }
        let first = search.split(&self.keys, at, size).ok_or_else(|| match self.twins(at, size) {
            Some(key) => Unsolved::Duplicate(key),
            None => Unsolved::Split { keys: size },
        })?;
        let mut front = at;
        for i in at..at + size {
            let place = mix(self.keys.a[i], self.keys.b[i], first, size as u32);
            // Without a branch: between `front` and `i` are keys of the second half alone, whose slots are yet to come.
            self.keys.swap(front, i);
            self.slots[front] = (start + place) as u16;
            front += usize::from(place < half as u32);
        }
        debug_assert_eq!(front, at + half);
        let (rest, rest_size) = (at + half, size - half);
        let second = search.any(&self.keys, rest, rest_size, 0).ok_or_else(|| self.exhausted(at, size))?;
        for i in rest..rest + rest_size {
            let place = mix(self.keys.a[i], self.keys.b[i], second, rest_size as u32);
            self.slots[i] = (start + half as u32 + place) as u16;
        }
        Ok([first, second])
    }

    #[cold]
    fn exhausted(&self, at: usize, size: usize) -> Unsolved {
        self.twins(at, size).map_or(Unsolved::Indistinguishable, Unsolved::Duplicate)
    }

    /// A key that occurs twice.
    #[cold]
    fn twins(&self, at: usize, size: usize) -> Option<Key> {
        let word = |words: &[u64; LEN], i: usize| words[i] ^ self.seed;
        let mut keys: Vec<_> =
            (at..at + size).map(|i| (word(&self.keys.a, i), word(&self.keys.b, i))).collect();
        keys.sort_unstable();
        keys.windows(2).find(|pair| pair[0] == pair[1]).map(|pair| Key { k0: pair[0].0, k1: pair[0].1 })
    }
}
