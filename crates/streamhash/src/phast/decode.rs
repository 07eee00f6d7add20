#[cfg(target_arch = "x86_64")]
use super::avx512::Avx512;
use super::{Hashed, MIN_FIRST_KEYS, Shape, holes, solve::MAX_LEVELS};
use crate::{
    algorithm::Damage,
    format::Header,
    key::{Key, fast_range},
    prefetch::prefetch,
    simd::Path,
};

const CUT: Damage = Damage("a block's metadata is cut short");
/// Bytes that say how many keys a level has.
const COUNT_BYTES: usize = 3;

/// Finds slots in blobs whose length [`check_len`] has found right.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Decoder {
    pub(crate) seed: u64,
    blocks: u32,
    /// For bumped keys.
    #[cfg(target_arch = "x86_64")]
    avx512: Option<Avx512>,
}

impl Decoder {
    pub(crate) fn new(header: &Header) -> Self {
        Decoder {
            seed: header.global_seed,
            blocks: header.blocks,
            #[cfg(target_arch = "x86_64")]
            avx512: Avx512::detect(Path::best()),
        }
    }

    /// The same, of portable code alone.
    #[cfg(any(test, feature = "fuzz"))]
    pub(crate) fn into_portable(self) -> Self {
        Decoder {
            #[cfg(target_arch = "x86_64")]
            avx512: None,
            ..self
        }
    }

    /// Where in its block's blob the seed of a key is; the first byte after the seeds where there are none.
    #[inline(always)]
    pub(crate) fn seed_at(&self, keys: u32, key: Key) -> u32 {
        if keys < MIN_FIRST_KEYS {
            return 0;
        }
        fast_range(Hashed::first_place(key, self.blocks), Shape::first(keys).buckets)
    }

    /// The slot of a key with this seed, which is at `seed_at`: below `keys`. `None` if it is bumped.
    #[inline(always)]
    pub(crate) fn slot(&self, seed: u8, seed_at: u32, keys: u32, key: Key) -> Option<u32> {
        if seed == 0 || keys < MIN_FIRST_KEYS {
            return None;
        }
        let shape = Shape::first(keys);
        Some(shape.slot(Hashed::first_layouts(key, self.seed), seed, shape.row(seed_at)))
    }

    /// The slot of a key whose bucket is bumped: below `keys`. `None` for some keys that are not in the block. `tail` is
    /// the blob from [`tail_at`] on.
    pub(crate) fn bumped_slot(&self, tail: &[u8], keys: u32, key: Key) -> Result<Option<u32>, Damage> {
        #[cfg(target_arch = "x86_64")]
        if let Some(avx512) = self.avx512 {
            return avx512.bumped_slot(self, tail, keys, key);
        }
        self.find_bumped_slot(tail, keys, key)
    }

    #[inline(always)]
    pub(super) fn find_bumped_slot(&self, tail: &[u8], keys: u32, key: Key) -> Result<Option<u32>, Damage> {
        let Levels { shapes, seeds, holes, values } = Levels::read(tail)?;
        let (mut begin, mut seeds_at) = (0, 0);
        for (level, shape) in (1..).zip(shapes.iter().flatten()) {
            let hashed = Hashed::later(key, level, self.seed);
            let bucket = hashed.bucket(shape.buckets);
            let seed = *seeds.get(seeds_at + bucket as usize).ok_or(CUT)?;
            if seed != 0 {
                let slot = begin + shape.slot(hashed.layouts, seed, shape.row(bucket)) as usize;
                return holes::get(holes, values, keys, slot).map(Some);
            }
            begin += shape.slots as usize;
            seeds_at += shape.buckets as usize;
        }
        Ok(None)
    }
}

impl Decoder {
    /// Begins to load the seed of a bumped key at the second level, where most of them are.
    pub(crate) fn begin_to_load_seed(&self, tail: &[u8], key: Key) {
        if let Ok(Levels { shapes: [Some(shape), ..], seeds, .. }) = Levels::read(tail) {
            prefetch(seeds, Hashed::later(key, 1, self.seed).bucket(shape.buckets) as usize);
        }
    }

    /// Begins to load what that seed leads to.
    pub(crate) fn begin_to_load_hole(&self, tail: &[u8], keys: u32, key: Key) {
        if let Ok(Levels { shapes: [Some(shape), ..], seeds, holes, values }) = Levels::read(tail) {
            let hashed = Hashed::later(key, 1, self.seed);
            let bucket = hashed.bucket(shape.buckets);
            if let Some(seed @ 1..) = seeds.get(bucket as usize) {
                let slot = shape.slot(hashed.layouts, *seed, shape.row(bucket));
                holes::begin_to_load(holes, values, keys, slot as usize);
            }
        }
    }
}

/// Where in the blob of a block with so many keys the seeds of the first level end.
#[inline]
pub(crate) fn tail_at(keys: u32) -> usize {
    if keys < MIN_FIRST_KEYS { 0 } else { Shape::first(keys).buckets as usize }
}

/// The later levels of a block.
struct Levels<'a> {
    shapes: [Option<Shape>; MAX_LEVELS],
    seeds: &'a [u8],
    holes: &'a [u8],
    /// How many slots they have.
    values: usize,
}

impl<'a> Levels<'a> {
    #[inline(always)]
    fn read(tail: &'a [u8]) -> Result<Self, Damage> {
        let (&count, tail) = tail.split_first().ok_or(CUT)?;
        let (counts, tail) = tail.split_at_checked(usize::from(count) * COUNT_BYTES).ok_or(CUT)?;
        let mut levels = Levels { shapes: [None; MAX_LEVELS], seeds: &[], holes: &[], values: 0 };
        let (mut buckets, mut last) = (0, u32::MAX);
        let (counts, _) = counts.as_chunks::<COUNT_BYTES>();
        for (level, &[a, b, c]) in counts.iter().enumerate() {
            let keys = u32::from_le_bytes([a, b, c, 0]);
            if keys == 0 || keys > last {
                return Err(Damage("a level has more keys than the one before"));
            }
            last = keys;
            let shape = Shape::later(keys);
            (buckets, levels.values) =
                (buckets + shape.buckets as usize, levels.values + shape.slots as usize);
            *levels.shapes.get_mut(level).ok_or(Damage("a block has too many levels"))? = Some(shape);
        }
        (levels.seeds, levels.holes) = tail.split_at_checked(buckets).ok_or(CUT)?;
        Ok(levels)
    }
}

/// Checks that there is room for the first level's seeds and what follows them.
pub(crate) fn check_len(blob_bytes: u64, keys: u32) -> Result<(), Damage> {
    if blob_bytes <= tail_at(keys) as u64 { Err(CUT) } else { Ok(()) }
}

/// Checks the lengths of everything, and that every hole is inside the block.
pub(crate) fn check(blob: &[u8], keys: u32) -> Result<(), Damage> {
    check_len(blob.len() as u64, keys)?;
    let levels = Levels::read(blob.get(tail_at(keys)..).ok_or(CUT)?)?;
    let Some(first) = levels.shapes.first().copied().flatten() else {
        return if levels.holes.is_empty() { Ok(()) } else { Err(CUT) };
    };
    if first.slots > Shape::later(keys).slots.max(super::ROWS) {
        return Err(Damage("a level has more keys than its block"));
    }
    holes::check(levels.holes, levels.values, keys)
}
