use super::{BUCKETS, REMAP_AT, bucket_of, fold, pilot_hash, slots_of};
use crate::{
    algorithm::Damage,
    key::{Key, fast_range},
};

/// Finds slots in blobs whose length [`check_len`] has found right.
#[derive(Debug)]
pub(crate) struct Decoder {
    /// What each pilot multiplies by.
    hashes: Box<[u64; 256]>,
}

impl Decoder {
    pub(crate) fn new(seed: u64) -> Self {
        let mut hashes = Box::new([0; 256]);
        for (pilot, hash) in (0..=u8::MAX).zip(&mut *hashes) {
            *hash = pilot_hash(pilot, seed);
        }
        Decoder { hashes }
    }

    /// What each pilot multiplies by.
    pub(crate) fn hashes(&self) -> &[u64; 256] {
        &self.hashes
    }

    /// Where in its block's blob the pilot of a key is.
    #[inline(always)]
    pub(crate) fn pilot_at(key: Key) -> u64 {
        bucket_of(key.k1) as u64
    }

    /// The slot of a key with this pilot: below `keys`, or to be looked up in the remap table.
    #[inline(always)]
    pub(crate) fn slot(&self, pilot: u8, keys: u32, key: Key) -> u32 {
        fast_range(fold(key).wrapping_mul(self.hashes[usize::from(pilot)]), slots_of(keys))
    }

    /// Where in the blob the slot is that takes the place of one beyond `keys`, in two bytes.
    #[inline(always)]
    pub(crate) fn remap_at(slot: u32, keys: u32) -> u64 {
        REMAP_AT as u64 + 2 * u64::from(slot - keys)
    }
}

/// Checks that pilots and remap table are as long as the number of keys says.
pub(crate) fn check_len(blob_bytes: u64, keys: u32) -> Result<(), Damage> {
    if blob_bytes != REMAP_AT as u64 + 2 * u64::from(slots_of(keys) - keys) {
        return Err(Damage("a block's remap table has the wrong length"));
    }
    Ok(())
}

/// Checks the lengths and that every remapped slot is inside the block.
pub(crate) fn check(blob: &[u8], keys: u32) -> Result<(), Damage> {
    check_len(blob.len() as u64, keys)?;
    let (count, remap) =
        blob[BUCKETS..].split_first_chunk().ok_or(Damage("a block's metadata is cut short"))?;
    if u32::from(u16::from_le_bytes(*count)) != slots_of(keys) - keys {
        return Err(Damage("a block's remap table has the wrong length"));
    }
    let (remap, _) = remap.as_chunks::<2>();
    if remap.iter().any(|slot| u32::from(u16::from_le_bytes(*slot)) >= keys) {
        return Err(Damage("a slot is remapped outside its block"));
    }
    Ok(())
}
