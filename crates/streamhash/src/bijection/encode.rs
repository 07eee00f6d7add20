//! A solved block's blob.

use super::{
    BUCKETS, BUCKETS_PER_CHECKPOINT, CHECKPOINT_BYTES, CHECKPOINTS, LIST_CHECK, LISTED_MAX, LISTED_SEED_BITS,
    MARKER_ONES, MAX_CODE_BITS, MAX_CODED, SPLIT, TOO_MANY_KEYS,
    bits::{BitStream, MAX_PUT},
    columns::Grouping,
    low_bits, rice_bits,
};
use crate::algorithm::Unsolved;

/// The most that a block's codes can take.
const STREAM_LEN: usize = BUCKETS * 2 * MAX_CODE_BITS / 8;

/// What the seeds of a block become; made anew for each block, in the same memory.
pub(super) struct Encoder {
    stream: BitStream<STREAM_LEN>,
    listed: Vec<u32>,
}

/// The seeds of a block's buckets.
pub(super) struct Seeds {
    /// By bucket; 0 for buckets without one and [`IN_HALVES`] for split ones.
    pub(super) whole: [u32; BUCKETS],
    /// Those of split buckets.
    pub(super) halves: [[u32; 2]; BUCKETS],
}

/// Stands for the seeds of a split bucket; too large for a code.
pub(super) const IN_HALVES: u32 = u32::MAX;

impl Seeds {
    pub(super) fn new() -> Self {
        Seeds { whole: [0; BUCKETS], halves: [[0; 2]; BUCKETS] }
    }
}

impl Encoder {
    pub(super) fn new() -> Self {
        Encoder { stream: BitStream::new(), listed: Vec::new() }
    }

    /// Appends the blob of a block that is not empty.
    #[inline(always)]
    pub(super) fn encode(
        &mut self,
        grouping: &Grouping,
        seeds: &Seeds,
        blob: &mut Vec<u8>,
    ) -> Result<(), Unsolved> {
        let stream_checkpoints = self.encode_seeds(grouping, seeds);
        let count = u8::try_from(self.listed.len()).map_err(|_| Unsolved::Fallback)?;
        debug_assert!(usize::from(count) <= LISTED_MAX);
        let low_bits = low_bits(grouping.starts[BUCKETS]);
        let mut checkpoints = [0; 2 * CHECKPOINTS];
        for i in 0..CHECKPOINTS {
            let bucket = (i + 1) * BUCKETS_PER_CHECKPOINT;
            // The total after the bucket before this one is where this one starts. Both offsets stay below 2^16: a
            // block has less than 2^16 keys, and a code of 24 bits stands for at least two.
            checkpoints[i] = (bucket as u32 + (grouping.starts[bucket] >> low_bits)) as u16;
            checkpoints[CHECKPOINTS + i] = stream_checkpoints[i] as u16;
        }
        const { assert!(2 * size_of::<[u16; CHECKPOINTS]>() == CHECKPOINT_BYTES) };
        blob.extend_from_slice(checkpoints.map(u16::to_le_bytes).as_flattened());
        encode_totals(grouping, low_bits, blob);
        blob.extend_from_slice(self.stream.bytes());
        blob.push(count);
        blob.extend(self.listed.iter().flat_map(|listed| listed.to_le_bytes()));
        blob.push(count ^ LIST_CHECK);
        Ok(())
    }

    /// Fills the seed stream and the list, and returns where in the stream each checkpoint is.
    #[inline(always)]
    fn encode_seeds(&mut self, grouping: &Grouping, seeds: &Seeds) -> [usize; CHECKPOINTS] {
        self.listed.clear();
        self.stream.clear();
        let mut checkpoints = [0; CHECKPOINTS];
        let (sizes, _) = grouping.sizes.as_chunks::<4>();
        let (whole, _) = seeds.whole.as_chunks::<4>();
        for (i, (sizes, whole)) in sizes.iter().zip(whole).enumerate() {
            const { assert!(BUCKETS_PER_CHECKPOINT.is_multiple_of(4)) };
            let bucket = 4 * i;
            if bucket > 0 && bucket.is_multiple_of(BUCKETS_PER_CHECKPOINT) {
                checkpoints[bucket / BUCKETS_PER_CHECKPOINT - 1] = self.stream.len_bits();
            }
            if !self.put_four(sizes, whole) {
                for bucket in bucket..bucket + 4 {
                    self.put_bucket(grouping, seeds, bucket);
                }
            }
        }
        checkpoints
    }

    /// Appends the codes of four buckets; or does nothing, where one is split or its seed has no code.
    #[inline(always)]
    fn put_four(&mut self, sizes: &[u16; 4], seeds: &[u32; 4]) -> bool {
        let mut bits = [0; 4];
        let mut counts = [0; 4];
        let mut quotients = 0;
        for i in 0..4 {
            let (k, rest) = WHOLE[usize::from(sizes[i]) % SPLIT];
            let quotient = seeds[i] >> k;
            quotients |= quotient;
            let quotient = quotient % MARKER_ONES;
            (bits[i], counts[i]) = (code(seeds[i], quotient, k), quotient + rest);
        }
        // True of any if of all, as the number of ones is a power of two.
        const { assert!(MARKER_ONES.is_power_of_two()) };
        if quotients >= MARKER_ONES {
            return false;
        }
        let (first, second) = (bits[0] | bits[1] << counts[0], bits[2] | bits[3] << counts[2]);
        let (first_count, second_count) = (counts[0] + counts[1], counts[2] + counts[3]);
        if first_count + second_count <= MAX_PUT {
            self.stream.put(first | second << first_count, first_count + second_count);
        } else {
            self.stream.put(first, first_count);
            self.stream.put(second, second_count);
        }
        true
    }

    /// Appends the codes of any bucket.
    #[cold]
    fn put_bucket(&mut self, grouping: &Grouping, seeds: &Seeds, bucket: usize) {
        let size = usize::from(grouping.sizes[bucket]);
        match size {
            0 | 1 => {}
            2..SPLIT => self.put_seed(size, seeds.whole[bucket], bucket << 1),
            _ => {
                let [first, second] = seeds.halves[bucket];
                self.put_seed(size / 2, first, bucket << 1);
                self.put_seed(size - size / 2, second, bucket << 1 | 1);
            }
        }
    }

    /// Appends the code of a seed for `size` keys; `place` is the bucket and, in the lowest bit, the half.
    fn put_seed(&mut self, size: usize, seed: u32, place: usize) {
        let k = rice_bits(size);
        let quotient = seed >> k;
        if has_code(size, seed) {
            self.stream.put(code(seed, quotient, k), quotient + 1 + k);
        } else {
            self.stream.put((1 << MARKER_ONES) - 1, MARKER_ONES);
            self.listed.push((place as u32) << LISTED_SEED_BITS | seed);
        }
    }
}

/// Whether a seed for `size` keys, at least two, may stand in the stream.
pub(super) fn has_code(size: usize, seed: u32) -> bool {
    size <= MAX_CODED && seed >> rice_bits(size) < MARKER_ONES
}

/// So many ones as the quotient says, a zero, the low bits.
#[inline(always)]
fn code(seed: u32, quotient: u32, k: u32) -> u64 {
    let low = u64::from(seed & ((1 << k) - 1));
    low << (quotient + 1) | ((1 << quotient) - 1)
}

/// The Golomb-Rice parameters of buckets that are not split, and the lengths of their codes without the quotients;
/// nothing for buckets without a code.
const WHOLE: [(u32, u32); SPLIT] = {
    let mut whole = [(0, 0); SPLIT];
    let mut size = 2;
    while size < SPLIT {
        whole[size] = (super::RICE_BITS[size], super::RICE_BITS[size] + 1);
        size += 1;
    }
    whole
};

/// Appends the running totals' low bits, and then their high bits in unary gaps.
#[inline(always)]
fn encode_totals(grouping: &Grouping, low_bits: u32, blob: &mut Vec<u8>) {
    // A block has fewer than 4096 keys, four to a bucket.
    const { assert!(TOO_MANY_KEYS as usize <= 4 * BUCKETS) };
    debug_assert!(low_bits <= 1);
    let (totals, _) = grouping.starts[1..].as_chunks::<64>();
    if low_bits > 0 {
        let mut low = [0u64; BUCKETS / 64];
        for (low, totals) in low.iter_mut().zip(totals) {
            for (i, total) in totals.iter().enumerate() {
                *low |= u64::from(total & 1) << i;
            }
        }
        blob.extend_from_slice(low.map(u64::to_le_bytes).as_flattened());
    }
    let keys = grouping.starts[BUCKETS];
    let mut high = [0u64; HIGH_WORDS];
    let (mut word, mut at) = (0, 0);
    for (bucket, total) in grouping.starts[1..].iter().enumerate() {
        let bit = bucket + (total >> low_bits) as usize;
        if bit / 64 != at {
            high[at % HIGH_WORDS] = word;
            (word, at) = (0, bit / 64);
        }
        word |= 1 << (bit % 64);
    }
    high[at % HIGH_WORDS] = word;
    let bytes = (BUCKETS + (keys >> low_bits) as usize).div_ceil(8);
    blob.extend_from_slice(&high.map(u64::to_le_bytes).as_flattened()[..bytes]);
}

/// Room for 1024 ones and as many zeros as a total can have high bits, with one low bit from 2048 on.
const HIGH_WORDS: usize = (BUCKETS + 2 * BUCKETS) / 64 + 16;
const _: () = assert!(HIGH_WORDS.is_power_of_two());
