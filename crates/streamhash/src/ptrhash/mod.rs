//! PTRHash: 10 000 buckets to a block, one byte ("pilot") per bucket that sends all its keys to slots of their own.
//!
//! ```text
//! slots    = ceil(keys / 0.99); slot = fast_range(fold(key) * pilot_hash(pilot), slots)
//! the slots from `keys` on are sent back to what stayed free below `keys`
//!
//! blob
//! 0        10 000 pilots
//! 10000    u16 overflow = slots - keys
//! 10002    overflow × u16 slot below `keys`, 0 for a slot that nobody took
//! ```
//!
//! Crafted keys: a block ends after at most 10 attempts of at most 10 evictions per slot, each of which tries 256 pilots
//! twice on the keys of one bucket; keys that few pilots tell apart end at once, as the largest buckets come first.

mod decode;
mod random;
mod search;
mod solve;
mod table;

pub(crate) use decode::{Decoder, check, check_len};
pub(crate) use solve::{ATTEMPTS, Solver};

use crate::{
    format,
    key::{Key, fast_range, mul_high},
};

pub(crate) const KEYS_PER_BUCKET: f64 = 3.16;
pub(crate) const BUCKETS: usize = 10_000;

const REMAP_AT: usize = BUCKETS + 2;
/// An average of 31 600 keys, and seven times its root, of which one in 99 is remapped.
const _: () = assert!((REMAP_AT + 2 * ((31_600 + 7 * 178) / 99 + 1)) as u64 <= format::MAX_BLOB_BYTES);

/// The bucket of a key: skewed, so that some buckets are large and placed while there is room.
#[inline]
fn bucket_of(k1: u64) -> usize {
    let square = mul_high(k1, k1);
    let cube = mul_high(square, k1 >> 1 | 1 << 63);
    let skewed = (cube / 256).wrapping_mul(255).wrapping_add(k1 / 256);
    fast_range(skewed, BUCKETS as u32) as usize
}

/// So many keys, or the rest of them, come with one slot more than keys.
pub(crate) const KEYS_PER_SPARE_SLOT: u32 = 99;
/// The same in units of 2^-32, rounded up.
pub(crate) const SPARE_SLOTS_PER_KEY: u32 = u32::MAX / KEYS_PER_SPARE_SLOT + 1;

/// How many slots a block of `keys` keys has: `ceil(keys / 0.99)`, rounded as f64 rounds it.
#[inline]
fn slots_of(keys: u32) -> u32 {
    let spare = (u64::from(keys) + u64::from(KEYS_PER_SPARE_SLOT - 1)) * u64::from(SPARE_SLOTS_PER_KEY);
    keys + (spare >> 32) as u32
}

#[inline]
fn fold(key: Key) -> u64 {
    let both = key.k0 ^ key.k1;
    both ^ both >> 32
}

/// The odd number by which a pilot multiplies.
#[inline]
fn pilot_hash(pilot: u8, seed: u64) -> u64 {
    let x = (u64::from(pilot) ^ seed).wrapping_mul(0x517C_C1B7_2722_0A95);
    let x = (x ^ x >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let x = (x ^ x >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
    (x ^ x >> 31) | 1
}

#[cfg(test)]
mod tests {
    #[test]
    fn slots_are_those_of_a_division_in_floating_point() {
        for keys in 0..=1 << 24 {
            assert_eq!(super::slots_of(keys), ((f64::from(keys) / 0.99).ceil() as u32).max(keys), "{keys}");
        }
    }
}
