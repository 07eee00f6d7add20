//! Ledgers as Zstandard frames, with contexts that are reused.

use std::io;

use zstd::bulk::{Compressor, Decompressor};
use zstd::zstd_safe;

use crate::format::MAX_LEDGER_BYTES;

/// Fast: a ledger waits for this before it is committed, and is packed anew when its chunk is frozen.
const LEVEL: i32 = 1;

/// Packs ledgers into one buffer.
pub(crate) struct Packer {
    compressor: Compressor<'static>,
    packed: Vec<u8>,
}

impl Packer {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Packer { compressor: Compressor::new(LEVEL)?, packed: Vec::new() })
    }

    /// Packs a ledger in place of the one before.
    pub(crate) fn pack(&mut self, raw: &[u8]) -> io::Result<()> {
        self.packed.clear();
        self.packed.reserve(zstd_safe::compress_bound(raw.len()));
        self.compressor.compress_to_buffer(raw, &mut self.packed).map(drop)
    }

    /// The ledger packed last.
    pub(crate) fn packed(&self) -> &[u8] {
        &self.packed
    }
}

/// Unpacks a ledger in place of what `raw` holds; an answer in words where the frame is damaged.
pub(crate) fn unpack(
    unpacker: &mut Decompressor<'_>,
    packed: &[u8],
    raw: &mut Vec<u8>,
) -> Result<(), String> {
    let size = zstd_safe::get_frame_content_size(packed).ok().flatten();
    let size = size.and_then(|size| usize::try_from(size).ok()).filter(|size| *size <= MAX_LEDGER_BYTES);
    let size = size.ok_or("its frame does not tell a size that a ledger may have")?;
    raw.clear();
    raw.reserve_exact(size);
    let written = unpacker.decompress_to_buffer(packed, raw).map_err(|e| e.to_string())?;
    if written == size { Ok(()) } else { Err(format!("its frame holds {written} bytes, not {size}")) }
}

#[cfg(test)]
mod tests {
    use icecore_testkit::SplitMix64;

    use super::*;

    #[test]
    fn ledgers_come_back_and_damage_is_an_answer() {
        let mut rng = SplitMix64::new(1);
        let (mut packer, mut unpacker) = (Packer::new().unwrap(), Decompressor::new().unwrap());
        let mut raw = Vec::new();
        for size in [0, 1, 100, 100_000, 10] {
            let ledger = rng.item(size);
            packer.pack(&ledger).unwrap();
            unpack(&mut unpacker, packer.packed(), &mut raw).unwrap();
            assert_eq!(raw, ledger);
            let mut packed = packer.packed().to_vec();
            for cut in [0, 1, packed.len() / 2, packed.len() - 1] {
                assert!(unpack(&mut unpacker, &packed[..cut], &mut raw).is_err());
            }
            for _ in 0..200 {
                let at = rng.below(packed.len() as u64) as usize;
                packed[at] ^= 1 << rng.below(8);
                // Nothing but an answer, and no memory for sizes that cannot be.
                if unpack(&mut unpacker, &packed, &mut raw).is_ok() {
                    assert!(raw.len() <= MAX_LEDGER_BYTES);
                }
            }
        }
    }
}
