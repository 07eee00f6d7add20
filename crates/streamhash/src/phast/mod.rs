//! Fast: one byte ("seed") per bucket sends all its keys to slots of their own, and a slot is the rank: nothing is
//! remapped, except for the few keys whose bucket found no seed. After PHast and PHast+ (Beling and Sanders, 2025) and
//! PHastR (Vigna, 2026).
//!
//! A block's buckets follow the order of its keys, and each has a slice: a window of slots that begins where the bucket
//! is in the block. A key has four offsets into the slice of its bucket, its layouts; a seed chooses the layout and
//! rotates the slice.
//!
//! ```text
//! a slice of 64 rows of slots (16 slots in each, at the first level), from row `q` on
//!
//!          ├──── row q ────┤├─── row q+1 ───┤          ├── row q+63 ───┤
//!          . . . . . . . . . . . . . . . . .    …   . . . . . . . . . .
//! offset   row (6 bits) and column of a layout; seed = turn << 2 | layout
//! slot     the one in the slice with that column, and row = offset's row + turn, modulo 64
//! ```
//!
//! Seed 0 says that a bucket is bumped: its keys are looked for at the next level, which has a hash of its own and is
//! made in the same way of the bumped keys alone. There are levels until no key is left. The slots of the later levels,
//! one after the other, stand for those that the first one left free ("holes").
//!
//! ```text
//! blob
//! 0        a seed per bucket of the first level; how many there are follows from the number of keys
//! …        u8 number of later levels
//!          of each: u24 its number of keys
//!          of each: a seed per bucket
//!          holes: where the later levels' slots are, a non-decreasing sequence in Elias and Fano's code (`holes`)
//! ```
//!
//! A block of less than [`MIN_FIRST_KEYS`] keys has no first level: all its slots are holes.
//!
//! Crafted keys: a level takes a few steps per key, whatever the keys are, and there are at most thirteen.

#[cfg(target_arch = "x86_64")]
mod avx512;
mod decode;
mod holes;
mod solve;
mod sweep;
#[cfg(any(test, feature = "fuzz"))]
pub(crate) mod trial;

pub(crate) use decode::{Decoder, check, check_len, tail_at};
pub(crate) use solve::Solver;

use crate::key::{Key, fast_range, mul_high};

/// The ends of a block are worse than its middle, so that blocks are large.
pub(crate) const KEYS_PER_BLOCK: usize = 1 << 18;

/// With fewer keys the slices of the first level would overlap both ends of the block.
pub(crate) const MIN_FIRST_KEYS: u32 = 1 << 13;

pub(crate) const ROWS: u32 = 64;
const LAYOUTS: u32 = 4;
/// So many rows a slice begins before the place of its bucket, so that the first buckets do not leave holes behind.
pub(crate) const HOLD_ROWS: u32 = 28;

/// Of the first level: binary logarithm of the number of columns.
pub(crate) const COLUMN_BITS: u32 = 4;
/// Of the first level, in units of 2^-16.
pub(crate) const KEYS_PER_BUCKET: u32 = (4.65 * 65536.0) as u32;
/// Of the first level, in units of 2^-32.
pub(crate) const BUCKETS_PER_KEY: u32 = buckets_per_key(KEYS_PER_BUCKET);
/// What the first word of a key is xored with before it is hashed for the first level.
pub(crate) const FIRST_SALT: u64 = 0x9E6C_63D0_876A_3F2D;

const fn buckets_per_key(keys_per_bucket: u32) -> u32 {
    ((1 << 48) / keys_per_bucket as u64) as u32
}

/// What a level's number of keys says about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Shape {
    /// Binary logarithm of the number of columns.
    column_bits: u32,
    /// Keys per bucket, in units of 2^-16.
    keys_per_bucket: u32,
    slots: u32,
    buckets: u32,
    /// The last row at which a slice may begin.
    last_row: u32,
}

impl Shape {
    /// The first level of a block of at least [`MIN_FIRST_KEYS`] keys.
    #[inline(always)]
    fn first(keys: u32) -> Self {
        Self::new(COLUMN_BITS, KEYS_PER_BUCKET, keys, keys)
    }

    /// A later level. The smaller it is, the more of it is ends, and the narrower are its slices.
    fn later(keys: u32) -> Self {
        if keys >= 1 << 10 {
            Self::new(2, (4.5 * 65536.0) as u32, keys, keys.next_multiple_of(4))
        } else {
            // The smallest have room to spare, so that they are the last.
            let spare = if keys < 256 { keys / 4 } else { 0 };
            Self::new(0, (4.0 * 65536.0) as u32, keys, (keys + spare).max(ROWS))
        }
    }

    #[inline(always)]
    fn new(column_bits: u32, keys_per_bucket: u32, keys: u32, slots: u32) -> Self {
        let buckets = (u64::from(keys) * u64::from(buckets_per_key(keys_per_bucket))) >> 32;
        let last_row = (slots >> column_bits) - ROWS;
        Shape { column_bits, keys_per_bucket, slots, buckets: buckets as u32 + 1, last_row }
    }

    /// The row at which the slice of a bucket begins.
    #[inline(always)]
    fn row(&self, bucket: u32) -> u32 {
        let place = (u64::from(bucket) * u64::from(self.keys_per_bucket)) >> (16 + self.column_bits);
        (place as u32).saturating_sub(HOLD_ROWS).min(self.last_row)
    }

    /// The slot of a key, given its layouts and the seed and first row of its bucket.
    #[inline(always)]
    fn slot(&self, layouts: u64, seed: u8, row: u32) -> u32 {
        let begin = row << self.column_bits;
        let offset = layouts.wrapping_shr(u32::from(seed) * 16) as u32;
        let turned = offset.wrapping_add(u32::from(seed >> 2) << self.column_bits);
        begin + (turned.wrapping_sub(begin) & ((ROWS << self.column_bits) - 1))
    }
}

/// What a level knows of a key: where its bucket is, as a fraction of all of them, and the four layouts of 16 bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Hashed {
    place: u64,
    layouts: u64,
}

impl Hashed {
    /// At the first level. Where in its block a key is says where among the buckets, so that sorted keys come bucket by
    /// bucket.
    #[inline(always)]
    fn first(key: Key, blocks: u32, seed: u64) -> Self {
        Hashed { place: Self::first_place(key, blocks), layouts: Self::first_layouts(key, seed) }
    }

    #[inline(always)]
    fn first_place(key: Key, blocks: u32) -> u64 {
        key.k0.swap_bytes().wrapping_mul(blocks.into())
    }

    #[inline(always)]
    fn first_layouts(key: Key, seed: u64) -> u64 {
        fold(key.k0 ^ FIRST_SALT, key.k1 ^ seed)
    }

    /// At a later one.
    #[inline(always)]
    fn later(key: Key, level: usize, seed: u64) -> Self {
        let salt = (level as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let place = fold(key.k0 ^ seed ^ salt, key.k1 ^ salt.rotate_left(29));
        Hashed { place, layouts: place.wrapping_mul(0xD1B5_4A32_D192_ED03) }
    }

    #[inline(always)]
    fn bucket(self, buckets: u32) -> u32 {
        fast_range(self.place, buckets)
    }
}

/// The product of 128 bits, its halves xored.
#[inline(always)]
fn fold(a: u64, b: u64) -> u64 {
    mul_high(a, b) ^ a.wrapping_mul(b)
}
