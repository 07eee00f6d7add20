use super::{
    BUCKETS, BUCKETS_PER_CHECKPOINT, CHECKPOINT_BYTES, CHECKPOINTS, EMPTY, LIST_CHECK, LISTED_MAX,
    LISTED_SEED_BITS, MARKER_ONES, MAX_CODED, SPLIT, bits::BitWriter, bucket_of, low_bits, mix, rice_bits,
    search, totals_bytes,
};
use crate::{
    algorithm::{Placed, Unsolved},
    key::{Entry, Key},
};

/// Solves blocks one after another in the same memory.
pub(crate) struct Solver {
    seed: u64,
    /// The block's entries, bucket after bucket.
    entries: Vec<Entry>,
    /// The slot of each of them.
    slots: Vec<u16>,
    /// Where each bucket begins, and at last the number of keys.
    starts: [u32; BUCKETS + 1],
    /// Each bucket's seeds; the second is of split buckets only.
    seeds: Box<[[u32; 2]; BUCKETS]>,
    /// Buckets by size, so that each search runs over one size.
    by_size: [Vec<u16>; SPLIT + 1],
    /// The words of a split bucket, and of its second half.
    words: (Vec<u64>, Vec<u64>),
    rest: (Vec<u64>, Vec<u64>),
    listed: Vec<u32>,
}

impl Solver {
    pub(crate) fn new(seed: u64) -> Self {
        Solver {
            seed,
            entries: Vec::new(),
            slots: Vec::new(),
            starts: [0; BUCKETS + 1],
            seeds: Box::new([[0; 2]; BUCKETS]),
            by_size: Default::default(),
            words: Default::default(),
            rest: Default::default(),
            listed: Vec::new(),
        }
    }

    /// Appends the blob of a block of at most 65 535 keys and gives every key its slot.
    pub(crate) fn solve(&mut self, entries: &[Entry], blob: &mut Vec<u8>) -> Result<Placed<'_>, Unsolved> {
        debug_assert!(u16::try_from(entries.len()).is_ok());
        self.group(entries);
        if entries.is_empty() {
            blob.extend_from_slice(&EMPTY);
            return Ok(Placed { entries: &self.entries, slots: &self.slots });
        }
        self.solve_single();
        self.solve_sized::<2>()?;
        self.solve_sized::<3>()?;
        self.solve_sized::<4>()?;
        self.solve_sized::<5>()?;
        self.solve_sized::<6>()?;
        self.solve_sized::<7>()?;
        for i in 0..self.by_size[SPLIT].len() {
            self.solve_split(self.by_size[SPLIT][i])?;
        }
        self.encode(blob)?;
        Ok(Placed { entries: &self.entries, slots: &self.slots })
    }

    /// Sorts the entries into buckets and the buckets into sizes.
    fn group(&mut self, entries: &[Entry]) {
        let mut next = [0u32; BUCKETS];
        for entry in entries {
            next[bucket_of(entry.key.k0)] += 1;
        }
        self.by_size.iter_mut().for_each(Vec::clear);
        let mut start = 0;
        for (bucket, next) in next.iter_mut().enumerate() {
            let size = *next;
            self.by_size[SPLIT.min(size as usize)].push(bucket as u16);
            self.starts[bucket] = start;
            *next = start;
            start += size;
        }
        self.starts[BUCKETS] = start;
        self.entries.resize(entries.len(), Entry::default());
        self.slots.resize(entries.len(), 0);
        for entry in entries {
            let next = &mut next[bucket_of(entry.key.k0)];
            self.entries[*next as usize] = *entry;
            *next += 1;
        }
    }

    fn solve_single(&mut self) {
        for &bucket in &self.by_size[1] {
            let start = self.starts[usize::from(bucket)];
            self.slots[start as usize] = start as u16;
        }
    }

    fn solve_sized<const M: usize>(&mut self) -> Result<(), Unsolved> {
        for &bucket in &self.by_size[M] {
            let start = self.starts[usize::from(bucket)] as usize;
            let (Some(entries), Some(slots)) =
                (self.entries[start..].first_chunk::<M>(), self.slots[start..].first_chunk_mut::<M>())
            else {
                unreachable!("a bucket lies within its block")
            };
            let a = entries.map(|entry| entry.key.k0 ^ self.seed);
            let b = entries.map(|entry| entry.key.k1 ^ self.seed);
            let seed = search::bijection(&a, &b).ok_or_else(|| exhausted(entries))?;
            self.seeds[usize::from(bucket)][0] = seed;
            for i in 0..M {
                slots[i] = (start as u32 + mix(a[i], b[i], seed, M as u32)) as u16;
            }
        }
        Ok(())
    }

    fn solve_split(&mut self, bucket: u16) -> Result<(), Unsolved> {
        let bucket = usize::from(bucket);
        let (start, end) = (self.starts[bucket], self.starts[bucket + 1]);
        let range = start as usize..end as usize;
        let (entries, slots) = (&self.entries[range.clone()], &mut self.slots[range]);
        let (a, b) = &mut self.words;
        fill(a, entries.iter().map(|entry| entry.key.k0 ^ self.seed));
        fill(b, entries.iter().map(|entry| entry.key.k1 ^ self.seed));
        let (size, half) = (end - start, (end - start) / 2);
        let first = search::split(a, b).ok_or_else(|| match twins(entries) {
            Some(key) => Unsolved::Duplicate(key),
            None => Unsolved::Split { keys: entries.len() },
        })?;
        let later = |&(&a, &b): &(&u64, &u64)| mix(a, b, first, size) >= half;
        fill(&mut self.rest.0, a.iter().zip(&*b).filter(later).map(|(&a, _)| a));
        fill(&mut self.rest.1, a.iter().zip(&*b).filter(later).map(|(_, &b)| b));
        let second = search::bijection_any(&self.rest.0, &self.rest.1).ok_or_else(|| exhausted(entries))?;
        self.seeds[bucket] = [first, second];
        for ((slot, &a), &b) in slots.iter_mut().zip(&*a).zip(&*b) {
            let place = match mix(a, b, first, size) {
                place if place < half => place,
                _ => half + mix(a, b, second, size - half),
            };
            *slot = (start + place) as u16;
        }
        Ok(())
    }

    fn encode(&mut self, blob: &mut Vec<u8>) -> Result<(), Unsolved> {
        let head = blob.len();
        blob.resize(head + CHECKPOINT_BYTES, 0);
        self.encode_totals(blob);
        let stream_checkpoints = self.encode_seeds(blob);
        let low_bits = low_bits(self.starts[BUCKETS]);
        for i in 0..CHECKPOINTS {
            let bucket = (i + 1) * BUCKETS_PER_CHECKPOINT;
            // The total after the bucket before this one is where this one starts. Both offsets stay below 2^16: a
            // block has less than 2^16 keys, and a code of 24 bits stands for at least two.
            let totals_bit = bucket as u32 + (self.starts[bucket] >> low_bits);
            blob[head + 2 * i..][..2].copy_from_slice(&(totals_bit as u16).to_le_bytes());
            let stream_bit = stream_checkpoints[i] as u16;
            blob[head + 2 * (CHECKPOINTS + i)..][..2].copy_from_slice(&stream_bit.to_le_bytes());
        }
        let count = u8::try_from(self.listed.len()).map_err(|_| Unsolved::Fallback)?;
        debug_assert!(usize::from(count) <= LISTED_MAX);
        blob.push(count);
        blob.extend(self.listed.iter().flat_map(|listed| listed.to_le_bytes()));
        blob.push(count ^ LIST_CHECK);
        Ok(())
    }

    fn encode_totals(&self, blob: &mut Vec<u8>) {
        let keys = self.starts[BUCKETS];
        let low_bits = low_bits(keys);
        let end = blob.len() + totals_bytes(keys);
        let mut low = BitWriter::new(blob);
        if low_bits > 0 {
            for total in &self.starts[1..] {
                low.put(u64::from(total & ((1 << low_bits) - 1)), low_bits);
            }
        }
        low.finish();
        // 1024 low parts end on a byte.
        let high_at = blob.len();
        blob.resize(end, 0);
        for (bucket, total) in self.starts[1..].iter().enumerate() {
            let bit = bucket + (total >> low_bits) as usize;
            blob[high_at + bit / 8] |= 1 << (bit % 8);
        }
    }

    /// Appends the seed stream, fills the list, and returns where in the stream each checkpoint is.
    fn encode_seeds(&mut self, blob: &mut Vec<u8>) -> [usize; CHECKPOINTS] {
        self.listed.clear();
        let mut checkpoints = [0; CHECKPOINTS];
        let mut stream = BitWriter::new(blob);
        for bucket in 0..BUCKETS {
            if bucket > 0 && bucket.is_multiple_of(BUCKETS_PER_CHECKPOINT) {
                checkpoints[bucket / BUCKETS_PER_CHECKPOINT - 1] = stream.len_bits();
            }
            let size = (self.starts[bucket + 1] - self.starts[bucket]) as usize;
            let [first, second] = self.seeds[bucket];
            let listed = &mut self.listed;
            match size {
                0 | 1 => {}
                2..SPLIT => put_seed(&mut stream, listed, size, first, bucket << 1),
                _ => {
                    put_seed(&mut stream, listed, size / 2, first, bucket << 1);
                    put_seed(&mut stream, listed, size - size / 2, second, bucket << 1 | 1);
                }
            }
        }
        stream.finish();
        checkpoints
    }
}

/// Appends the code of a seed for `size` keys; `place` is the bucket and, in the lowest bit, the half.
#[inline(always)]
fn put_seed(stream: &mut BitWriter<'_>, listed: &mut Vec<u32>, size: usize, seed: u32, place: usize) {
    let k = rice_bits(size);
    let quotient = seed >> k;
    if size <= MAX_CODED && quotient < MARKER_ONES {
        let low = u64::from(seed & ((1 << k) - 1));
        stream.put(low << (quotient + 1) | ((1 << quotient) - 1), quotient + 1 + k);
    } else {
        stream.put((1 << MARKER_ONES) - 1, MARKER_ONES);
        listed.push((place as u32) << LISTED_SEED_BITS | seed);
    }
}

fn fill(words: &mut Vec<u64>, from: impl Iterator<Item = u64>) {
    words.clear();
    words.extend(from);
}

#[cold]
fn exhausted(entries: &[Entry]) -> Unsolved {
    twins(entries).map_or(Unsolved::Indistinguishable, Unsolved::Duplicate)
}

/// A key that occurs twice.
fn twins(entries: &[Entry]) -> Option<Key> {
    let mut keys: Vec<_> = entries.iter().map(|entry| (entry.key.k0, entry.key.k1)).collect();
    keys.sort_unstable();
    keys.windows(2).find(|pair| pair[0] == pair[1]).map(|pair| Key { k0: pair[0].0, k1: pair[0].1 })
}
