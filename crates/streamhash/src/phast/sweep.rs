//! Giving the buckets of a level their seeds.
//!
//! Buckets are placed roughly in their order, large ones ahead of their turn and small ones behind it, each by the seed
//! that sends its keys to free slots with the least score: a slot costs the more the higher it is in the slice, so that
//! slices leave few holes behind.
//!
//! Slots are kept in laps of 64 rows. A lap is a word per column, a bit per row: turning a slice is rotating its words,
//! and the words of a slice's columns, rotated by the rows of a bucket's keys and put together, tell of all turns of a
//! layout at once which of them are free.

#[cfg(target_arch = "x86_64")]
use super::avx512::Avx512;
use super::{COLUMN_BITS, Hashed, LAYOUTS, ROWS, Shape};
use crate::simd::Path;

/// Larger buckets are bumped.
pub(super) const MAX_SIZE: usize = 16;

/// By how many buckets a bucket of a size is placed ahead of its turn, at the first level.
const AHEAD: [i32; MAX_SIZE + 1] =
    [0, -39, 53, 107, 138, 160, 177, 188, 197, 204, 210, 215, 219, 222, 225, 227, 228];
const MAX_AHEAD: i32 = AHEAD[MAX_SIZE];

/// What it costs to take a slot of each row of a slice: it grows with the row, ever less.
pub(super) const COST: [u8; ROWS as usize] = {
    let mut costs = [0; ROWS as usize];
    let mut row = 0;
    while row < costs.len() {
        costs[row] = (row + 2 * if row < 32 { row } else { 32 }) as u8;
        row += 1;
    }
    costs
};

pub(super) const MAX_COLUMNS: usize = 1 << COLUMN_BITS;

/// A word per column, a bit per row; in whole lines of the cache, as vectors of eight words are loaded and stored.
#[derive(Clone, Copy)]
#[repr(align(64))]
pub(super) struct Lap(pub(super) [u64; MAX_COLUMNS]);

/// The keys of a level, and what became of them; memory for one level after the other.
#[derive(Default)]
pub(super) struct Sweep {
    /// The bucket of each key.
    buckets: Vec<u32>,
    /// The layouts of each key.
    layouts: Vec<u64>,
    /// The same, bucket by bucket, where the keys did not come so.
    grouped: Vec<u64>,
    /// Where the keys of each bucket begin, and at last their number.
    starts: Vec<u32>,
    next: Vec<u32>,
    /// The buckets that are not empty or too large, in the order in which they are placed.
    order: Vec<u32>,
    pub(super) seeds: Vec<u8>,
    laps: Vec<Lap>,
}

impl Sweep {
    /// Places the keys of a level.
    pub(super) fn run(&mut self, path: Path, shape: &Shape, keys: impl Iterator<Item = Hashed>) {
        let in_order = self.group(shape, keys);
        self.order(shape);
        self.seeds.clear();
        self.seeds.resize(shape.buckets as usize, 0);
        self.laps.clear();
        // A slice reaches into the lap after the one that it begins in.
        self.laps.resize(((shape.slots >> shape.column_bits) / ROWS) as usize + 2, Lap([0; MAX_COLUMNS]));
        let buckets = Buckets {
            shape,
            order: &self.order,
            starts: &self.starts,
            layouts: if in_order { &self.layouts } else { &self.grouped },
        };
        match shape.column_bits {
            0 => buckets.place::<0>(&mut self.laps, &mut self.seeds),
            2 => buckets.place::<2>(&mut self.laps, &mut self.seeds),
            _ => {
                #[cfg(target_arch = "x86_64")]
                if let Some(avx512) = Avx512::detect(path) {
                    return avx512.place(&buckets, &mut self.laps, &mut self.seeds);
                }
                let _ = path;
                buckets.place::<COLUMN_BITS>(&mut self.laps, &mut self.seeds);
            }
        }
    }

    /// Where each key is, in the order in which they came; `None` for the bumped.
    pub(super) fn slots(&self, shape: &Shape) -> impl Iterator<Item = Option<u32>> {
        self.buckets.iter().zip(&self.layouts).map(|(&bucket, &layouts)| {
            let seed = self.seeds[bucket as usize];
            (seed != 0).then(|| shape.slot(layouts, seed, shape.row(bucket)))
        })
    }

    /// Appends the slots that stayed free, in their order.
    pub(super) fn holes(&self, shape: &Shape, holes: &mut Vec<u32>) {
        let lap_slots = ROWS << shape.column_bits;
        for (lap, begin) in self.laps.iter().zip((0..shape.slots).step_by(lap_slots as usize)) {
            // The same lap, slot by slot.
            let mut free = [0u64; MAX_COLUMNS];
            for (column, &word) in lap.0.iter().take(1 << shape.column_bits).enumerate() {
                let mut rows = !word;
                while rows != 0 {
                    let slot = (rows.trailing_zeros() as usize) << shape.column_bits | column;
                    free[slot / 64] |= 1 << (slot % 64);
                    rows &= rows - 1;
                }
            }
            for (begin, mut free) in (begin..).step_by(64).zip(free) {
                while free != 0 {
                    let slot = begin + free.trailing_zeros();
                    if slot < shape.slots {
                        holes.push(slot);
                    }
                    free &= free - 1;
                }
            }
        }
    }

    /// Sorts the keys into buckets; true if they came so.
    fn group(&mut self, shape: &Shape, keys: impl Iterator<Item = Hashed>) -> bool {
        let Sweep { buckets, layouts, grouped, starts, next, .. } = self;
        buckets.clear();
        layouts.clear();
        starts.clear();
        starts.resize(shape.buckets as usize + 1, 0);
        let (mut last, mut in_order) = (0, true);
        for key in keys {
            let bucket = key.bucket(shape.buckets);
            in_order &= last <= bucket;
            last = bucket;
            starts[bucket as usize] += 1;
            buckets.push(bucket);
            layouts.push(key.layouts);
        }
        let mut total = 0;
        for start in &mut *starts {
            total += std::mem::replace(start, total);
        }
        if !in_order {
            next.clone_from(starts);
            grouped.resize(layouts.len(), 0);
            for (&bucket, &layouts) in buckets.iter().zip(&*layouts) {
                let next = &mut next[bucket as usize];
                grouped[*next as usize] = layouts;
                *next += 1;
            }
        }
        in_order
    }

    /// Decides when each bucket is placed: sorts by its number less what it is ahead.
    fn order(&mut self, shape: &Shape) {
        let Sweep { starts, next, order, .. } = self;
        let less = COLUMN_BITS - shape.column_bits;
        let turns = AHEAD.map(|ahead| ((MAX_AHEAD - ahead) >> less) as usize);
        next.clear();
        next.resize(shape.buckets as usize + turns[1] + 1, 0);
        let turn_of = |bucket: usize, ends: &[u32]| {
            let size = (ends[1] - ends[0]) as usize;
            (1..=MAX_SIZE).contains(&size).then(|| bucket + turns[size])
        };
        for (bucket, ends) in starts.windows(2).enumerate() {
            if let Some(turn) = turn_of(bucket, ends) {
                next[turn] += 1;
            }
        }
        let mut total = 0;
        for next in &mut *next {
            total += std::mem::replace(next, total);
        }
        order.clear();
        order.resize(total as usize, 0);
        for (bucket, ends) in starts.windows(2).enumerate() {
            if let Some(turn) = turn_of(bucket, ends) {
                let next = &mut next[turn];
                order[*next as usize] = bucket as u32;
                *next += 1;
            }
        }
    }
}

/// The buckets of a level, to be placed.
pub(super) struct Buckets<'a> {
    pub(super) shape: &'a Shape,
    pub(super) order: &'a [u32],
    pub(super) starts: &'a [u32],
    pub(super) layouts: &'a [u64],
}

impl<'a> Buckets<'a> {
    /// The layouts of a bucket's keys.
    #[inline(always)]
    pub(super) fn keys(&self, bucket: u32) -> &'a [u64] {
        let at = bucket as usize;
        &self.layouts[self.starts[at] as usize..self.starts[at + 1] as usize]
    }

    fn place<const BITS: u32>(&self, laps: &mut [Lap], seeds: &mut [u8]) {
        for &bucket in self.order {
            let (keys, row) = (self.keys(bucket), self.shape.row(bucket));
            seeds[bucket as usize] = place::<BITS>(slice(laps, row), row % ROWS, keys);
        }
    }
}

/// The two laps in which the slice from this row on is.
#[inline(always)]
pub(super) fn slice(laps: &mut [Lap], row: u32) -> &mut [Lap; 2] {
    let at = (row / ROWS) as usize;
    let (pair, _) = laps[at..].split_first_chunk_mut().unwrap_or_else(|| unreachable!());
    pair
}

/// Takes the slots of the best seed for the keys of a bucket whose slice begins at row `begin` of the first lap. 0 where
/// there is none.
pub(super) fn place<const BITS: u32>(laps: &mut [Lap; 2], begin: u32, keys: &[u64]) -> u8 {
    let mut tried = 0;
    while let Some(seed) = best::<BITS>(laps, begin, keys, tried) {
        if take::<BITS>(laps, begin, keys, seed) {
            return seed;
        }
        // Two of the keys have the same slot, whichever way the slice is turned.
        tried |= 1 << (seed as u32 % LAYOUTS);
    }
    0
}

/// The column and the row of a key in a layout.
#[inline(always)]
fn offset<const BITS: u32>(layouts: u64, layout: u32) -> (usize, u32) {
    let field = (layouts >> (16 * layout)) as u32;
    ((field & ((1 << BITS) - 1)) as usize, (field >> BITS) % ROWS)
}

/// Among the seeds that send all keys to free slots, the one of the least score, the least one of those; not of the
/// layouts whose bits are set in `tried`.
#[inline(always)]
fn best<const BITS: u32>(laps: &[Lap; 2], begin: u32, keys: &[u64], tried: u32) -> Option<u8> {
    let wrapped = (1u64 << begin) - 1;
    // Score and seed.
    let mut best = u32::MAX;
    for layout in (0..LAYOUTS).filter(|layout| tried >> layout & 1 == 0) {
        let mut rows = [0; MAX_SIZE];
        // Seed 0 means something else.
        let mut taken = u64::from(layout == 0);
        for (row, &key) in rows.iter_mut().zip(keys) {
            let column;
            (column, *row) = offset::<BITS>(key, layout);
            let word = laps[0].0[column] & !wrapped | laps[1].0[column] & wrapped;
            taken |= word.rotate_right(*row);
        }
        if taken == u64::MAX {
            continue;
        }
        let rows = &rows[..keys.len().min(MAX_SIZE)];
        for first in rows {
            // From the turn that sends this key to the first row on, until one is at the end, scores grow.
            let least = begin.wrapping_sub(*first) % ROWS;
            let further = (!taken).rotate_right(least).trailing_zeros();
            let score = rows.iter().map(|row| {
                let row = (row + further).wrapping_sub(*first) % ROWS;
                u32::from(COST[row as usize])
            });
            let turn = (least + further) % ROWS;
            best = best.min(score.sum::<u32>() << 8 | turn << 2 | layout);
        }
    }
    (best != u32::MAX).then_some(best as u8)
}

/// Takes the slots of a seed, unless two are the same.
#[inline(always)]
fn take<const BITS: u32>(laps: &mut [Lap; 2], begin: u32, keys: &[u64], seed: u8) -> bool {
    let before = *laps;
    for &key in keys {
        let (column, row) = offset::<BITS>(key, u32::from(seed) % LAYOUTS);
        let row = (row + u32::from(seed >> 2)) % ROWS;
        let word = &mut laps[usize::from(row < begin)].0[column];
        if *word >> row & 1 != 0 {
            *laps = before;
            return false;
        }
        *word |= 1 << row;
    }
    true
}
