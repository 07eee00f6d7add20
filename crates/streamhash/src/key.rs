use xxhash_rust::xxh3::xxh3_128;

use crate::{Error, Result};

/// The number of bytes of a key that matter.
pub const KEY_BYTES: usize = 16;

const MAX_KEY_BYTES: usize = 65_535;

pub(crate) const FINGERPRINT_FACTOR: u64 = 0x517C_C1B7_2722_0A95;

/// Makes a uniform key of any bytes: xxh3-128, low half first.
///
/// ```
/// assert_eq!(icecore_streamhash::prehash(b"")[..4], [0x7f, 0x49, 0x8d, 0x46]);
/// ```
pub fn prehash(bytes: &[u8]) -> [u8; KEY_BYTES] {
    xxh3_128(bytes).to_le_bytes()
}

/// The words of a key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Key {
    pub(crate) k0: u64,
    pub(crate) k1: u64,
}

impl Key {
    pub(crate) fn new(bytes: &[u8]) -> Result<Self> {
        match bytes.first_chunk::<KEY_BYTES>() {
            Some(head) if bytes.len() <= MAX_KEY_BYTES => Ok(Key::of(head)),
            _ => Err(Error::KeyLength { len_bytes: bytes.len() }),
        }
    }

    #[inline(always)]
    pub(crate) fn of(bytes: &[u8; KEY_BYTES]) -> Self {
        let word = u128::from_le_bytes(*bytes);
        Key { k0: word as u64, k1: (word >> 64) as u64 }
    }

    /// The block of the key among `blocks`; monotonic in the key's byte order.
    pub(crate) fn block(self, blocks: u32) -> u32 {
        fast_range(self.k0.swap_bytes(), blocks)
    }

    /// 32 bits that have little to do with the bits that choose a rank.
    pub(crate) fn fingerprint(self) -> u32 {
        ((self.k0 ^ self.k1.wrapping_mul(FINGERPRINT_FACTOR)) >> 32) as u32
    }
}

/// A fingerprint as kept in `bytes` bytes.
pub(crate) fn truncate(fingerprint: u32, bytes: u8) -> u32 {
    fingerprint & 1u32.checked_shl(8 * u32::from(bytes)).unwrap_or(0).wrapping_sub(1)
}

/// The fingerprint of a key, truncated to `bytes` (0 to 4) bytes.
///
/// # Errors
/// [`Error::KeyLength`].
pub fn fingerprint(key: &[u8], bytes: u8) -> Result<u32> {
    Ok(truncate(Key::new(key)?.fingerprint(), bytes))
}

/// A key with what is kept for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) key: Key,
    pub(crate) payload: u64,
}

/// Maps a uniform hash to `0..n` (Lemire, 2019).
#[inline(always)]
pub(crate) fn fast_range(hash: u64, n: u32) -> u32 {
    ((u128::from(hash) * u128::from(n)) >> 64) as u32
}

#[inline(always)]
pub(crate) fn mul_high(a: u64, b: u64) -> u64 {
    ((u128::from(a) * u128::from(b)) >> 64) as u64
}
