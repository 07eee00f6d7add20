use super::{BUCKETS, REMAP_AT, bucket_of, fold, pilot_hash, slots_of};
use crate::{
    algorithm::Damage,
    key::{Key, fast_range},
};

fn u16_at(blob: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(*blob.get(at..)?.first_chunk()?))
}

/// The slot of a key in a block of `keys` keys; `None` where it falls outside.
#[inline]
pub(crate) fn slot(blob: &[u8], keys: u32, key: Key, seed: u64) -> Result<Option<u32>, Damage> {
    if keys == 0 {
        return Ok(None);
    }
    let pilot = *blob.get(bucket_of(key.k1)).ok_or(Damage("a block's pilots are cut short"))?;
    let slot = fast_range(fold(key).wrapping_mul(pilot_hash(pilot, seed)), slots_of(keys));
    if slot < keys {
        return Ok(Some(slot));
    }
    let at = REMAP_AT + 2 * (slot - keys) as usize;
    let slot = u32::from(u16_at(blob, at).ok_or(Damage("a block's remap table is cut short"))?);
    Ok((slot < keys).then_some(slot))
}

/// Loads the line that [`slot`] begins with.
#[inline]
pub(crate) fn touch(blob: &[u8], key: Key) -> u8 {
    blob.get(bucket_of(key.k1)).copied().unwrap_or(0)
}

/// Checks the lengths and that every remapped slot is inside the block.
pub(crate) fn check(blob: &[u8], keys: u32) -> Result<(), Damage> {
    let overflow = slots_of(keys) - keys;
    if blob.len() != REMAP_AT + 2 * overflow as usize
        || u16_at(blob, BUCKETS).map(u32::from) != Some(overflow)
    {
        return Err(Damage("a block's remap table has the wrong length"));
    }
    let (remap, _) = blob[REMAP_AT..].as_chunks::<2>();
    if remap.iter().any(|slot| u32::from(u16::from_le_bytes(*slot)) >= keys) {
        return Err(Damage("a slot is remapped outside its block"));
    }
    Ok(())
}
