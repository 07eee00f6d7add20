use super::{
    BUCKETS, BUCKETS_PER_CHECKPOINT, CHECKPOINT_BYTES, CHECKPOINTS, EMPTY, LIST_CHECK, LISTED_SEED_BITS,
    MARKER_ONES, MAX_CODED, SPLIT,
    bits::{PEEK_BITS, peek},
    bucket_of, low_bits, mix, rice_bits, totals_bytes,
};
use crate::{algorithm::Damage, key::Key};

/// The parts of a blob.
struct Block<'a> {
    keys: u32,
    low_bits: u32,
    checkpoints: &'a [u8; CHECKPOINT_BYTES],
    low: &'a [u8],
    high: &'a [u8],
    /// The seed stream, and what follows it.
    stream: &'a [u8],
}

/// A place in a block: the next bucket, its bit in the two strings, and the keys before it.
#[derive(Clone, Copy)]
struct Cursor {
    bucket: usize,
    high_bit: usize,
    stream_bit: usize,
    total: u32,
}

impl<'a> Block<'a> {
    #[inline]
    fn new(blob: &'a [u8], keys: u32) -> Result<Self, Damage> {
        let low_bits = low_bits(keys);
        let parts = blob.split_first_chunk::<CHECKPOINT_BYTES>().and_then(|(checkpoints, rest)| {
            let (totals, stream) = rest.split_at_checked(totals_bytes(keys))?;
            let (low, high) = totals.split_at_checked(BUCKETS / 8 * low_bits as usize)?;
            (stream.len() >= 2).then_some(Block { keys, low_bits, checkpoints, low, high, stream })
        });
        parts.ok_or(Damage("a block's metadata is cut short"))
    }

    #[inline]
    fn checkpoint(&self, index: usize) -> usize {
        usize::from(u16::from_le_bytes([self.checkpoints[2 * index], self.checkpoints[2 * index + 1]]))
    }

    /// The checkpoint at or before a bucket.
    #[inline]
    fn seek(&self, bucket: usize) -> Result<Cursor, Damage> {
        let index = bucket / BUCKETS_PER_CHECKPOINT;
        if index == 0 {
            return Ok(Cursor { bucket: 0, high_bit: 0, stream_bit: 0, total: 0 });
        }
        let bucket = index * BUCKETS_PER_CHECKPOINT;
        let high_bit = self.checkpoint(index - 1);
        let high = high_bit.checked_sub(bucket).ok_or(Damage("a checkpoint is too small"))?;
        let total = (high as u32) << self.low_bits | self.low_part(bucket - 1);
        Ok(Cursor { bucket, high_bit, stream_bit: self.checkpoint(CHECKPOINTS + index - 1), total })
    }

    #[inline]
    fn low_part(&self, bucket: usize) -> u32 {
        let bits = self.low_bits as usize;
        peek(self.low, bucket * bits) as u32 & ((1 << bits) - 1)
    }

    /// Moves past one bucket's total and returns the bucket's size.
    #[inline]
    fn next_size(&self, cursor: &mut Cursor) -> Result<usize, Damage> {
        let mut word = peek(self.high, cursor.high_bit);
        while word == 0 {
            cursor.high_bit += PEEK_BITS as usize;
            if cursor.high_bit >= self.high.len() * 8 {
                return Err(Damage("a block's bucket sizes run past their end"));
            }
            word = peek(self.high, cursor.high_bit);
        }
        cursor.high_bit += word.trailing_zeros() as usize + 1;
        // The bit just passed is the (bucket + 1)th one; before it stand as many zeros as the high part says.
        let high =
            cursor.high_bit.checked_sub(cursor.bucket + 1).ok_or(Damage("a bucket size is negative"))?;
        let total = (high as u32) << self.low_bits | self.low_part(cursor.bucket);
        let size = total.checked_sub(cursor.total).ok_or(Damage("a bucket size is negative"))?;
        cursor.total = total;
        cursor.bucket += 1;
        Ok(size as usize)
    }

    /// Moves past a seed for `size` keys; `None` stands for one of the list.
    #[inline]
    fn next_seed(&self, cursor: &mut Cursor, size: usize) -> Option<u32> {
        let word = peek(self.stream, cursor.stream_bit);
        let quotient = word.trailing_ones();
        if quotient >= MARKER_ONES {
            cursor.stream_bit += MARKER_ONES as usize;
            return None;
        }
        let k = rice_bits(size);
        cursor.stream_bit += (quotient + 1 + k) as usize;
        Some(quotient << k | (word >> (quotient + 1)) as u32 & ((1 << k) - 1))
    }

    /// Moves past the seeds of a bucket.
    #[inline]
    fn skip_seeds(&self, cursor: &mut Cursor, size: usize) {
        if size >= 2 {
            if size >= SPLIT {
                self.next_seed(cursor, size / 2);
                self.next_seed(cursor, size - size / 2);
            } else {
                self.next_seed(cursor, size);
            }
        }
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
    fn seed(&self, cursor: &mut Cursor, size: usize, bucket: usize, half: usize) -> Result<u32, Damage> {
        match self.next_seed(cursor, size) {
            Some(seed) => Ok(seed),
            None => self.listed_seed(bucket, half),
        }
    }
}

/// The slot of a key in a block of `keys` keys, at least one; `None` where its bucket is empty.
#[inline]
pub(crate) fn slot(blob: &[u8], keys: u32, key: Key, seed: u64) -> Result<Option<u32>, Damage> {
    let block = Block::new(blob, keys)?;
    let bucket = bucket_of(key.k0);
    let mut cursor = block.seek(bucket)?;
    while cursor.bucket < bucket {
        let size = block.next_size(&mut cursor)?;
        block.skip_seeds(&mut cursor, size);
    }
    let start = cursor.total;
    let size = block.next_size(&mut cursor)?;
    let (a, b) = (key.k0 ^ seed, key.k1 ^ seed);
    let place = match size {
        0 => return Ok(None),
        1 => 0,
        2..SPLIT => mix(a, b, block.seed(&mut cursor, size, bucket, 0)?, size as u32),
        _ => {
            let half = size / 2;
            match mix(a, b, block.seed(&mut cursor, half, bucket, 0)?, size as u32) {
                place if place < half as u32 => place,
                _ => {
                    let rest = size - half;
                    half as u32 + mix(a, b, block.seed(&mut cursor, rest, bucket, 1)?, rest as u32)
                }
            }
        }
    };
    let slot = start.saturating_add(place);
    Ok((slot < block.keys).then_some(slot))
}

/// Loads the lines that [`slot`] begins with.
#[inline]
pub(crate) fn touch(blob: &[u8], keys: u32, key: Key) -> u8 {
    let Ok(block) = Block::new(blob, keys) else { return 0 };
    let Ok(cursor) = block.seek(bucket_of(key.k0)) else { return 0 };
    let line = |bytes: &[u8], bit: usize| bytes.get(bit / 8).copied().unwrap_or(0);
    // Half of a stretch of 128 seeds is about a cache line.
    line(block.high, cursor.high_bit)
        ^ line(block.stream, cursor.stream_bit)
        ^ line(block.stream, cursor.stream_bit + 512)
}

/// Decodes every bucket; the totals, the checkpoints, the seeds and the list must agree.
pub(crate) fn check(blob: &[u8], keys: u32) -> Result<(), Damage> {
    if keys == 0 {
        return if blob == EMPTY { Ok(()) } else { Err(Damage("a block without keys is not empty")) };
    }
    let block = Block::new(blob, keys)?;
    let (listed, listed_at) = block.listed().ok_or(Damage("a block's list of long seeds is missing"))?;
    let mut listed = listed.iter().map(|entry| u32::from_le_bytes(*entry) >> LISTED_SEED_BITS);
    let mut cursor = Cursor { bucket: 0, high_bit: 0, stream_bit: 0, total: 0 };
    while cursor.bucket < BUCKETS {
        let bucket = cursor.bucket;
        let sought = block.seek(bucket)?;
        if bucket.is_multiple_of(BUCKETS_PER_CHECKPOINT)
            && (sought.high_bit, sought.stream_bit, sought.total)
                != (cursor.high_bit, cursor.stream_bit, cursor.total)
        {
            return Err(Damage("a checkpoint disagrees with the buckets before it"));
        }
        let size = block.next_size(&mut cursor)?;
        let halves = match size {
            0 | 1 => [0, 0],
            2..SPLIT => [size, 0],
            _ => [size / 2, size - size / 2],
        };
        for (half, &size) in halves.iter().enumerate().filter(|(_, size)| **size > 0) {
            match block.next_seed(&mut cursor, size) {
                Some(_) if size > MAX_CODED => {
                    return Err(Damage("a large bucket's seed is not in the list"));
                }
                Some(_) => {}
                None if listed.next() == Some((bucket << 1 | half) as u32) => {}
                None => return Err(Damage("the list of long seeds disagrees with the stream")),
            }
        }
    }
    if cursor.total != keys {
        return Err(Damage("bucket sizes do not add up to the block's keys"));
    }
    if listed.next().is_some() || cursor.stream_bit.div_ceil(8) != listed_at {
        return Err(Damage("a block's seeds end in the wrong place"));
    }
    Ok(())
}
