#[cfg(target_arch = "x86_64")]
mod x86;

use super::{
    BUCKETS, BUCKETS_PER_CHECKPOINT, CHECKPOINT_BYTES, CHECKPOINTS, EMPTY, LIST_CHECK, LISTED_SEED_BITS,
    MARKER_ONES, MAX_CODED, SPLIT, TOO_MANY_KEYS, bits::peek, bucket_of, low_bits, mix, rice_bits,
    totals_bytes,
};
use crate::{algorithm::Damage, key::Key, prefetch::prefetch};

/// Finds slots, with what the processor has.
#[derive(Debug)]
pub(crate) struct Decoder {
    seed: u64,
    #[cfg(target_arch = "x86_64")]
    avx512: Option<x86::Avx512>,
    /// For kept checkpoints.
    #[cfg(target_arch = "x86_64")]
    bmi: Option<x86::Bmi>,
}

impl Decoder {
    pub(crate) fn new(seed: u64) -> Self {
        Decoder {
            seed,
            #[cfg(target_arch = "x86_64")]
            avx512: x86::Avx512::detect(),
            #[cfg(target_arch = "x86_64")]
            bmi: x86::Bmi::detect(),
        }
    }

    /// The same, of portable code alone.
    #[cfg(any(test, feature = "fuzz"))]
    pub(crate) fn into_portable(self) -> Self {
        Decoder {
            #[cfg(target_arch = "x86_64")]
            avx512: None,
            #[cfg(target_arch = "x86_64")]
            bmi: None,
            ..self
        }
    }

    /// The slot of a key; `None` where its bucket is empty.
    #[inline(always)]
    pub(crate) fn slot(&self, asked: &Asked<'_>) -> Result<Option<u32>, Damage> {
        let quick = match asked.kept {
            Some(kept) => self.slot_kept(asked.blob, asked.keys, kept, asked.key),
            None => self.slot_walked(asked),
        };
        quick.map_or_else(|| slot(asked, self.seed), Ok)
    }

    /// The same from what is kept of the block; `None` where that does not tell it at once.
    #[inline(always)]
    pub(crate) fn slot_kept(
        &self,
        blob: &[u8],
        keys: u32,
        kept: &Checkpoints,
        key: Key,
    ) -> Option<Option<u32>> {
        #[cfg(target_arch = "x86_64")]
        if let Some(bmi) = self.bmi {
            return bmi.slot_kept(blob, keys, kept.before(bucket_of(key.k0)), key, self.seed);
        }
        let _ = (blob, keys, kept, key);
        None
    }

    /// The same from the blob alone; `None` where that is unusual.
    #[inline(always)]
    fn slot_walked(&self, asked: &Asked<'_>) -> Option<Option<u32>> {
        #[cfg(target_arch = "x86_64")]
        if let Some(avx512) = self.avx512 {
            return avx512.slot(asked, self.seed);
        }
        let _ = asked;
        None
    }

    /// The same of many keys, each told by its place among them.
    pub(crate) fn slots(
        &self,
        asked: &[Asked<'_>],
        mut found: impl FnMut(usize, Result<Option<u32>, Damage>),
    ) {
        #[cfg(target_arch = "x86_64")]
        if let Some(avx512) = self.avx512
            && asked.iter().all(|asked| asked.kept.is_none())
        {
            for (group, asked) in asked.chunks(x86::MAX_KEYS).enumerate() {
                avx512.slots(asked, self.seed, |i, slot| {
                    let slot = slot.map_or_else(|| self.slot(&asked[i]), Ok);
                    found(group * x86::MAX_KEYS + i, slot);
                });
            }
            return;
        }
        asked.iter().enumerate().for_each(|(i, asked)| found(i, self.slot(asked)));
    }

    /// Begins to load the checkpoints of the blob that begins there.
    #[inline(always)]
    pub(crate) fn prefetch_checkpoints(bytes: &[u8], blob_at: usize) {
        prefetch(bytes, blob_at);
        prefetch(bytes, blob_at + CHECKPOINT_BYTES - 1);
    }

    /// Begins to load what [`slot`](Decoder::slot) reads after the checkpoint, which it waits for.
    #[inline]
    pub(crate) fn prefetch(Asked { blob, keys, kept, key }: &Asked<'_>) {
        let Ok(block) = Block::new(blob, *keys) else { return };
        let bucket = bucket_of(key.k0);
        // From there on, no more than two words are loaded.
        if let Some((stream_bit, _)) = kept.and_then(|kept| kept.before(bucket).part(bucket)) {
            prefetch(block.stream, stream_bit / 8);
            return prefetch(block.stream, stream_bit / 8 + 14);
        }
        let Ok(place) = block.seek(bucket) else { return };
        prefetch(block.low, bucket / 8);
        // The high bits of 128 buckets are 40 bytes long, their seeds 55.
        let (high, stream) = (place.high_bit / 8, place.stream_bit / 8);
        prefetch(block.high, high);
        prefetch(block.high, high + 39);
        prefetch(block.stream, stream);
        prefetch(block.stream, stream + 54);
    }
}

/// A key in a block of `keys` keys, at least one, with what is kept of the block beside its blob.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked<'a> {
    pub(crate) blob: &'a [u8],
    pub(crate) keys: u32,
    pub(crate) kept: Option<&'a Checkpoints>,
    pub(crate) key: Key,
}

/// Buckets between two checkpoints that are kept in memory, and between two places in the seed stream.
const BUCKETS_PER_KEPT: usize = 16;
const BUCKETS_PER_PART: usize = 4;

/// More checkpoints than a blob has.
#[derive(Clone, Debug)]
pub(crate) struct Checkpoints([Checkpoint; BUCKETS / BUCKETS_PER_KEPT]);
const _: () = assert!(size_of::<Checkpoints>() == 1024);

/// What is before a bucket, and of it and those after it what the blob says too, where it is found at once.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C, align(16))]
struct Checkpoint {
    /// Keys.
    total: u16,
    /// Bits of the seed stream.
    stream_bit: u16,
    /// So many bits more until each part's codes begin; [`UNKNOWN`](Checkpoint::UNKNOWN) where something does not fit.
    parts: [u8; BUCKETS_PER_KEPT / BUCKETS_PER_PART],
    /// Four bits for each bucket.
    sizes: u64,
}

impl Checkpoint {
    const UNKNOWN: u8 = u8::MAX;

    /// Where the codes of a bucket's part begin, and the sizes of the buckets from the checkpoint's to this one.
    #[inline(always)]
    fn part(&self, bucket: usize) -> Option<(usize, u64)> {
        let more = self.parts[bucket % BUCKETS_PER_KEPT / BUCKETS_PER_PART];
        (more != Checkpoint::UNKNOWN)
            .then_some((usize::from(self.stream_bit) + usize::from(more), self.sizes))
    }

    /// Adds a bucket, and where its codes begin.
    fn add(&mut self, bucket: usize, size: usize, Place { stream_bit, total, .. }: Place) {
        let (rank, part) = (bucket % BUCKETS_PER_KEPT, bucket % BUCKETS_PER_KEPT / BUCKETS_PER_PART);
        if rank == 0 {
            // What does not fit is not of a block that passes: it has fewer than 2^16 of either.
            *self =
                Checkpoint { total: total as u16, stream_bit: stream_bit as u16, ..Checkpoint::default() };
        }
        let more = stream_bit.saturating_sub(self.stream_bit.into());
        if bucket.is_multiple_of(BUCKETS_PER_PART) && self.parts[0] != Checkpoint::UNKNOWN {
            self.parts[part] = more.min(Checkpoint::UNKNOWN.into()) as u8;
        }
        self.sizes |= (size as u64 & 15) << (4 * rank);
        if size > 15 || more >= Checkpoint::UNKNOWN.into() {
            self.parts = [Checkpoint::UNKNOWN; _];
        }
    }
}

impl Checkpoints {
    /// The last one before a bucket.
    #[inline(always)]
    fn before(&self, bucket: usize) -> &Checkpoint {
        &self.0[bucket / BUCKETS_PER_KEPT]
    }

    /// Begins to load it.
    #[inline(always)]
    pub(crate) fn prefetch(&self, key: Key) {
        prefetch(&self.0, bucket_of(key.k0) / BUCKETS_PER_KEPT);
    }
}

/// The parts of a blob. All but the checkpoints reach to the blob's end, so that whole words can be loaded.
struct Block<'a> {
    keys: u32,
    /// 0 or 1.
    low_bits: u32,
    checkpoints: &'a [u8; CHECKPOINT_BYTES],
    low: &'a [u8],
    high: &'a [u8],
    /// Bits in the high part.
    high_bits: usize,
    /// The seed stream, and the list after it.
    stream: &'a [u8],
}

/// A place before a bucket: its bits in the two strings, and the keys before it.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Place {
    bucket: usize,
    high_bit: usize,
    stream_bit: usize,
    total: u32,
}

const START: Place = Place { bucket: 0, high_bit: 0, stream_bit: 0, total: 0 };

impl<'a> Block<'a> {
    #[inline]
    fn new(blob: &'a [u8], keys: u32) -> Result<Self, Damage> {
        if keys >= TOO_MANY_KEYS {
            return Err(Damage("a block has more keys than a block may have"));
        }
        let low_bits = low_bits(keys);
        let parts = blob.split_first_chunk::<CHECKPOINT_BYTES>().and_then(|(checkpoints, low)| {
            let high = low.get(BUCKETS / 8 * low_bits as usize..)?;
            let stream = low.get(totals_bytes(keys)..)?;
            let high_bits = BUCKETS + (keys >> low_bits) as usize;
            (stream.len() >= 2).then_some(Block { keys, low_bits, checkpoints, low, high, high_bits, stream })
        });
        parts.ok_or(Damage("a block's metadata is cut short"))
    }

    #[inline]
    fn checkpoint(&self, index: usize) -> usize {
        usize::from(u16::from_le_bytes([self.checkpoints[2 * index], self.checkpoints[2 * index + 1]]))
    }

    /// The blob's checkpoint at or before a bucket.
    #[inline]
    fn seek(&self, bucket: usize) -> Result<Place, Damage> {
        let index = bucket / BUCKETS_PER_CHECKPOINT;
        if index == 0 {
            return Ok(START);
        }
        let (high_bit, stream_bit) = (self.checkpoint(index - 1), self.checkpoint(CHECKPOINTS + index - 1));
        self.place(index * BUCKETS_PER_CHECKPOINT, high_bit, stream_bit)
    }

    /// The place before a bucket whose bits begin there.
    #[inline(always)]
    fn place(&self, bucket: usize, high_bit: usize, stream_bit: usize) -> Result<Place, Damage> {
        let high = usize::checked_sub(high_bit, bucket).ok_or(Damage("a checkpoint is too small"))?;
        let last_low = bucket.checked_sub(1).map_or(0, |last| self.low_part(last));
        Ok(Place { bucket, high_bit, stream_bit, total: (high as u32) << self.low_bits | last_low })
    }

    #[inline(always)]
    fn low_part(&self, bucket: usize) -> u32 {
        // There is one bit per bucket or none.
        let byte = self.low.get(bucket / 8).copied().unwrap_or(0);
        u32::from(byte) >> (bucket % 8) & self.low_bits
    }

    /// Reads a seed for `size` keys and moves past it; `None` stands for one of the list.
    #[inline]
    fn next_seed(&self, stream_bit: &mut usize, size: usize) -> Option<u32> {
        let word = peek(self.stream, *stream_bit);
        let quotient = word.trailing_ones();
        if quotient >= MARKER_ONES {
            *stream_bit += MARKER_ONES as usize;
            return None;
        }
        let k = rice_bits(size);
        *stream_bit += (quotient + 1 + k) as usize;
        Some(quotient << k | (word >> (quotient + 1)) as u32 & ((1 << k) - 1))
    }

    /// The keys before a bucket, where its codes begin, and its size.
    #[inline]
    fn find(&self, kept: Option<&Checkpoints>, bucket: usize) -> Result<(u32, usize, usize), Damage> {
        let kept = kept.map(|kept| kept.before(bucket));
        if let Some((kept, (bit, sizes))) = kept.and_then(|kept| Some((kept, kept.part(bucket)?))) {
            let sizes: [u8; BUCKETS_PER_KEPT] = std::array::from_fn(|i| (sizes >> (4 * i)) as u8 & 15);
            let (before, rest) = sizes.split_at(bucket % BUCKETS_PER_KEPT);
            let total = before.iter().fold(kept.total.into(), |total, size| total + u32::from(*size));
            let bit = self.skip_seeds(bit, &before[before.len() - bucket % BUCKETS_PER_PART..]);
            return Ok((total, bit, rest[0].into()));
        }
        let (place, size) = self.walk(self.seek(bucket)?, bucket)?;
        Ok((place.total, place.stream_bit, size))
    }

    /// Moves past the buckets before `bucket`, of the same stretch: returns the place before it, and its size.
    #[inline]
    fn walk(&self, from: Place, bucket: usize) -> Result<(Place, usize), Damage> {
        // First all sizes, then all seeds: each loop's state fits into registers.
        let mut before = [0u8; BUCKETS_PER_CHECKPOINT];
        let before = &mut before[..bucket - from.bucket];
        let mut sizes = Sizes::new(self, &from);
        for size in &mut *before {
            // Codes are of the same length for all sizes from 16 on.
            *size = sizes.next()?.min(u8::MAX.into()) as u8;
        }
        let stream_bit = self.skip_seeds(from.stream_bit, before);
        let place = Place { bucket, high_bit: sizes.bit, stream_bit, total: sizes.total };
        let size = sizes.next()?;
        // The ones come in order: if the last is before the end, all are.
        if sizes.bit > self.high_bits {
            return Err(Damage("a block's bucket sizes run past their end"));
        }
        Ok((place, size))
    }

    /// Moves past the seeds of buckets of these sizes.
    #[inline]
    fn skip_seeds(&self, mut bit: usize, sizes: &[u8]) -> usize {
        /// Which bits of a quotient's length count for a bucket of so many keys: none where it has no code.
        const QUOTIENT_MASK: [u32; SPLIT] =
            [0, 0, u32::MAX, u32::MAX, u32::MAX, u32::MAX, u32::MAX, u32::MAX];
        /// The length of a code without its quotient.
        const REST: [u32; SPLIT] = [0, 0, 2, 3, 4, 5, 6, 8];
        /// After so many bits of a word, one more code is still whole.
        const MAX_USED: u32 = 32;
        // Turned over, so that the ones of a quotient are trailing zeros.
        let (mut word, mut used) = (!peek(self.stream, bit), 0);
        for &size in sizes {
            let (size, ones) = (usize::from(size), word.trailing_zeros());
            let (skipped, rare) = if size >= SPLIT || ones >= MARKER_ONES {
                (self.skip_rare(bit + used as usize, size), true)
            } else {
                // Without a branch, because a fifth of all buckets have no code.
                let ones = ones & QUOTIENT_MASK[size];
                word = word >> ones >> REST[size];
                used += ones + REST[size];
                (bit + used as usize, used > MAX_USED)
            };
            if rare {
                (bit, used) = (skipped, 0);
                word = !peek(self.stream, bit);
            }
        }
        bit + used as usize
    }

    /// Moves past a bucket of two codes, or one whose seed is in the list.
    #[inline(never)]
    fn skip_rare(&self, mut bit: usize, size: usize) -> usize {
        match size {
            0 | 1 => {}
            2..SPLIT => {
                self.next_seed(&mut bit, size);
            }
            _ => {
                self.next_seed(&mut bit, size / 2);
                self.next_seed(&mut bit, size - size / 2);
            }
        }
        bit
    }

    /// The list of seeds that did not fit the stream, found from the end: its entries, and where its count stands.
    fn listed(&self) -> Option<(&'a [[u8; 4]], usize)> {
        let count = self.stream.last()? ^ LIST_CHECK;
        let at = self.stream.len().checked_sub(2 + 4 * usize::from(count))?;
        if *self.stream.get(at)? != count {
            return None;
        }
        let (entries, _) = self.stream.get(at + 1..self.stream.len() - 1)?.as_chunks::<4>();
        Some((entries, at))
    }

    #[cold]
    fn listed_seed(&self, bucket: usize, half: usize) -> Result<u32, Damage> {
        let (entries, _) = self.listed().ok_or(Damage("a block's list of long seeds is missing"))?;
        let place = (bucket << 1 | half) as u32;
        let mut listed = entries.iter().map(|entry| u32::from_le_bytes(*entry));
        let found = listed.find(|listed| listed >> LISTED_SEED_BITS == place);
        Ok(found.ok_or(Damage("a long seed is missing from its list"))? & ((1 << LISTED_SEED_BITS) - 1))
    }

    #[inline]
    fn seed(&self, stream_bit: &mut usize, size: usize, bucket: usize, half: usize) -> Result<u32, Damage> {
        match self.next_seed(stream_bit, size) {
            Some(seed) => Ok(seed),
            None => self.listed_seed(bucket, half),
        }
    }
}

/// The sizes of the buckets after a place, a word of the high bits at a time.
struct Sizes<'a> {
    block: &'a Block<'a>,
    bucket: usize,
    total: u32,
    /// The bit after the last one.
    bit: usize,
    /// Ones to come of the word that begins at `word_bit`.
    word: u64,
    word_bit: usize,
}

impl<'a> Sizes<'a> {
    #[inline(always)]
    fn new(block: &'a Block<'a>, from: &Place) -> Self {
        let word_bit = from.high_bit & !7;
        let word = peek(block.high, word_bit) & u64::MAX << (from.high_bit & 7);
        Sizes { block, bucket: from.bucket, total: from.total, bit: from.high_bit, word, word_bit }
    }

    #[inline(always)]
    fn next(&mut self) -> Result<usize, Damage> {
        while self.word == 0 {
            self.word_bit += u64::BITS as usize;
            if self.word_bit >= self.block.high_bits {
                return Err(Damage("a block's bucket sizes run past their end"));
            }
            self.word = peek(self.block.high, self.word_bit);
        }
        let one = self.word_bit + self.word.trailing_zeros() as usize;
        self.word &= self.word - 1;
        // As many zeros stand before the bucket's one as its high part says. There are never more ones than bits.
        let high = one - self.bucket;
        let total = (high as u32) << self.block.low_bits | self.block.low_part(self.bucket);
        let size = total.checked_sub(self.total).ok_or(Damage("a bucket size is negative"))?;
        (self.bucket, self.total, self.bit) = (self.bucket + 1, total, one + 1);
        Ok(size as usize)
    }
}

#[inline(never)]
fn slot(&Asked { blob, keys, kept, key }: &Asked<'_>, seed: u64) -> Result<Option<u32>, Damage> {
    let block = Block::new(blob, keys)?;
    let bucket = bucket_of(key.k0);
    let (start, mut stream_bit, size) = block.find(kept, bucket)?;
    let (a, b, bit) = (key.k0 ^ seed, key.k1 ^ seed, &mut stream_bit);
    let place = match size {
        0 => return Ok(None),
        1 => 0,
        2..SPLIT => mix(a, b, block.seed(bit, size, bucket, 0)?, size as u32),
        _ => {
            let half = size / 2;
            match mix(a, b, block.seed(bit, half, bucket, 0)?, size as u32) {
                place if place < half as u32 => place,
                _ => {
                    let rest = size - half;
                    half as u32 + mix(a, b, block.seed(bit, rest, bucket, 1)?, rest as u32)
                }
            }
        }
    };
    let slot = start.saturating_add(place);
    Ok((slot < block.keys).then_some(slot))
}

/// Decodes every bucket; the totals, the checkpoints, the seeds and the list must agree.
pub(crate) fn check(blob: &[u8], keys: u32) -> Result<(), Damage> {
    checkpoints(blob, keys).map(|_| ())
}

/// [`check`] that tells the checkpoints to keep.
pub(crate) fn checkpoints(blob: &[u8], keys: u32) -> Result<Checkpoints, Damage> {
    let mut kept = Checkpoints([Checkpoint::default(); BUCKETS / BUCKETS_PER_KEPT]);
    if keys == 0 {
        return if blob == EMPTY { Ok(kept) } else { Err(Damage("a block without keys is not empty")) };
    }
    let block = Block::new(blob, keys)?;
    let (listed, listed_at) = block.listed().ok_or(Damage("a block's list of long seeds is missing"))?;
    let mut listed = listed.iter().map(|entry| u32::from_le_bytes(*entry) >> LISTED_SEED_BITS);
    let (mut sizes, mut stream_bit) = (Sizes::new(&block, &START), 0);
    while sizes.bucket < BUCKETS {
        let bucket = sizes.bucket;
        let here = Place { bucket, high_bit: sizes.bit, stream_bit, total: sizes.total };
        if bucket.is_multiple_of(BUCKETS_PER_CHECKPOINT) && block.seek(bucket)? != here {
            return Err(Damage("a checkpoint disagrees with the buckets before it"));
        }
        let size = sizes.next()?;
        kept.0[bucket / BUCKETS_PER_KEPT].add(bucket, size, here);
        let halves = match size {
            0 | 1 => [0, 0],
            2..SPLIT => [size, 0],
            _ => [size / 2, size - size / 2],
        };
        for (half, &size) in halves.iter().enumerate().filter(|(_, size)| **size > 0) {
            match block.next_seed(&mut stream_bit, size) {
                Some(_) if size > MAX_CODED => {
                    return Err(Damage("a large bucket's seed is not in the list"));
                }
                Some(_) => {}
                None if listed.next() == Some((bucket << 1 | half) as u32) => {}
                None => return Err(Damage("the list of long seeds disagrees with the stream")),
            }
        }
    }
    if sizes.total != keys {
        return Err(Damage("bucket sizes do not add up to the block's keys"));
    }
    if listed.next().is_some() || stream_bit.div_ceil(8) != listed_at {
        return Err(Damage("a block's seeds end in the wrong place"));
    }
    Ok(kept)
}

#[cfg(test)]
mod tests {
    use icecore_testkit::SplitMix64;

    use super::*;
    use crate::{bijection::Solver, key::Entry, simd::Path};

    fn compare(
        keys: usize,
        rng: &mut SplitMix64,
        (blob, damaged): (&[u8], bool),
        kept: &Checkpoints,
        asked: impl Iterator<Item = Key>,
    ) -> (usize, usize) {
        let (keys, seed) = (keys as u32, 7);
        let (quick, portable) = (Decoder::new(seed), Decoder::new(seed).into_portable());
        let strangers = (0..500).map(|_| Key { k0: rng.next_u64(), k1: rng.next_u64() });
        let asked: Vec<Key> = asked.chain(strangers.collect::<Vec<_>>()).collect();
        let mut left = 0;
        // The kept checkpoints are those of the whole blob, even where this one is damaged.
        let [plain, with_kept] = [None, Some(kept)].map(|kept| {
            let asked: Vec<Asked<'_>> = asked.iter().map(|&key| Asked { blob, keys, kept, key }).collect();
            let slots: Vec<_> = asked.iter().map(|asked| portable.slot(asked)).collect();
            for (asked, slot) in asked.iter().zip(&slots) {
                assert_eq!(quick.slot(asked), *slot);
                #[cfg(target_arch = "x86_64")]
                if quick.avx512.is_some() {
                    let slot = match kept {
                        Some(kept) => quick.slot_kept(blob, keys, kept, asked.key),
                        None => quick.slot_walked(asked),
                    };
                    left += usize::from(slot.is_none());
                }
            }
            // In batches of any length, each answer is the key's own.
            let mut rest = &asked[..];
            while !rest.is_empty() {
                let done = asked.len() - rest.len();
                let (batch, after) = rest.split_at(rest.len().min(1 + rng.below(70) as usize));
                let mut found = vec![None; batch.len()];
                quick.slots(batch, |i, slot| assert!(found[i].replace(slot).is_none()));
                assert!(found.iter().flatten().eq(&slots[done..done + batch.len()]));
                #[cfg(target_arch = "x86_64")]
                if let (Some(avx512), None) = (quick.avx512, kept) {
                    let batch = &batch[..batch.len().min(x86::MAX_KEYS)];
                    avx512.slots(batch, seed, |_, slot| left += usize::from(slot.is_none()));
                }
                rest = after;
            }
            slots
        });
        assert!(damaged || plain == with_kept);
        (2 * asked.len(), left)
    }

    /// Blobs of all sizes, whole and damaged: what is quick agrees with what is plain, and is what is used.
    #[test]
    fn the_quick_way_is_the_plain_one() {
        let mut rng = SplitMix64::new(1);
        let (mut all, mut left) = (0, 0);
        for round in 0..30 {
            let keys =
                if round % 3 == 0 { rng.below(3500) as usize + 1 } else { 2900 + rng.below(300) as usize };
            // Some blocks have buckets of dozens of keys.
            let crowd = if round % 5 == 0 { rng.below(24) } else { 0 };
            let entry = |i: usize, rng: &mut SplitMix64| {
                let k0 = rng.next_u64();
                let k0 = if (i as u64) < crowd { k0 >> 10 | 77 << 54 } else { k0 };
                Entry { key: Key { k0, k1: rng.next_u64() }, payload: 0 }
            };
            let entries: Vec<Entry> = (0..keys).map(|i| entry(i, &mut rng)).collect();
            let mut blob = Vec::new();
            if Solver::new(7, Path::best()).solve(&entries, &mut blob).is_err() {
                continue;
            }
            let kept = checkpoints(&blob, keys as u32).unwrap();
            let counts =
                compare(keys, &mut rng, (&blob, false), &kept, entries.iter().map(|entry| entry.key));
            if keys > 2900 {
                (all, left) = (all + counts.0, left + counts.1);
            }
            for _ in 0..4 {
                let mut damaged = blob.clone();
                for _ in 0..1 + rng.below(8) {
                    let at = rng.below(damaged.len() as u64) as usize;
                    damaged[at] = [0, 0xFF, rng.next_u64() as u8][rng.below(3) as usize];
                }
                let cut = rng.below(2) as usize * rng.below(500) as usize;
                damaged.truncate(damaged.len().saturating_sub(cut));
                compare(keys, &mut rng, (&damaged, true), &kept, entries.iter().map(|entry| entry.key));
            }
        }
        assert!(all > 50_000 && left * 20 < all, "{left} of {all} are unusual");
    }
}
