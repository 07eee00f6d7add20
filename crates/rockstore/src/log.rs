//! RocksDB's log, as far as needed to tell a torn end from damage in its midst.
//!
//! ```text
//! blocks of 32 KiB, each of fragments; fewer than 7 bytes at a block's end are filled up
//!
//! 0  4  u32 LE  CRC-32C of type and payload, rotated right by 15 bits, plus 0xA282EAD8
//! 4  2  u16 LE  payload length
//! 6  1          type: 1 a whole record · 2 its first part · 3 a middle one · 4 its last
//! 7  …          payload
//! ```
//!
//! A record is synced before the next one is begun. So when the power goes, only the last record can be torn, in any way: cut
//! off, or with holes where pages never reached the disk. RocksDB takes a cut for the end, and a hole for damage. The difference
//! is what follows: behind a hole in the last record no record begins; behind damage to any other one does.

use std::{fs, io, path::Path};

const BLOCK_BYTES: usize = 32 << 10;
const HEADER_BYTES: usize = 7;

/// True where the newest log is damaged, and no record begins after the damage. That the damaged record was the last one, and
/// acknowledged, cannot be told from its never having been finished.
pub(crate) fn ends_torn(store: &Path) -> io::Result<bool> {
    let mut newest = None;
    for entry in fs::read_dir(store)? {
        let entry = entry?;
        let name = entry.file_name();
        let number = name.to_str().and_then(|name| name.strip_suffix(".log")?.parse::<u64>().ok());
        if let Some(number) = number.filter(|_| entry.metadata().is_ok_and(|meta| meta.len() > 0)) {
            newest = newest.max(Some((number, entry.path())));
        }
    }
    let Some((_, path)) = newest else { return Ok(false) };
    Ok(is_torn(&fs::read(path)?))
}

fn is_torn(log: &[u8]) -> bool {
    let mut blocks = log.chunks(BLOCK_BYTES);
    let damaged = blocks.find_map(|block| intact(block).map(|len| &block[len..]));
    let Some(damaged) = damaged else { return false };
    let mut rest = std::iter::once(damaged.get(1..).unwrap_or_default()).chain(blocks);
    !rest.any(|bytes| (0..bytes.len()).any(|at| begins_record(&bytes[at..])))
}

/// The length of the fragments at the start of a block that are as they were written; `None` when all of it is.
fn intact(block: &[u8]) -> Option<usize> {
    let mut at = 0;
    while block.len() - at >= HEADER_BYTES {
        match fragment(&block[at..]) {
            Some((_, len)) => at += len,
            None => return Some(at),
        }
    }
    // What fills up a block is zero, and only a block that is full is filled up.
    let filled = block.len() == BLOCK_BYTES && block[at..].iter().all(|byte| *byte == 0);
    (at < block.len() && !filled).then_some(at)
}

fn begins_record(bytes: &[u8]) -> bool {
    matches!(bytes.get(6), Some(1 | 2)) && fragment(bytes).is_some()
}

/// The type and the length, header included, of the fragment that begins here.
fn fragment(bytes: &[u8]) -> Option<(u8, usize)> {
    let (header, rest) = bytes.split_first_chunk::<HEADER_BYTES>()?;
    let [c0, c1, c2, c3, l0, l1, kind] = *header;
    let len = usize::from(u16::from_le_bytes([l0, l1]));
    if rest.len() < len || kind == 0 {
        return None;
    }
    let crc = crc32c::crc32c(&bytes[6..HEADER_BYTES + len]);
    let masked = crc.rotate_right(15).wrapping_add(0xA282_EAD8);
    (masked == u32::from_le_bytes([c0, c1, c2, c3])).then_some((kind, HEADER_BYTES + len))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Batch, Family, FamilyId, Store, StoreOptions};

    /// A log of RocksDB's own with records of these sizes, and where each begins.
    fn log(sizes: &[usize]) -> (Vec<u8>, Vec<usize>) {
        let dir = tempfile::tempdir().unwrap();
        let store =
            Store::create(dir.path().join("s"), &[Family::new("a")], &StoreOptions::default()).unwrap();
        let read = || {
            let logs = fs::read_dir(store.path()).unwrap().map(|entry| entry.unwrap().path());
            let newest = logs.filter(|path| path.extension().is_some_and(|end| end == "log")).max().unwrap();
            fs::read(newest).unwrap()
        };
        let mut begins = Vec::new();
        for size in sizes {
            begins.push(read().len());
            let mut batch = Batch::new();
            batch.put(FamilyId(0), b"key", &vec![7; *size]);
            store.write(&batch).unwrap();
        }
        (read(), begins)
    }

    #[test]
    fn only_damage_to_the_last_record_is_a_torn_end() {
        let (log, begins) = log(&[100, 40_000, 10, 32_000, 700, 100_000]);
        assert!(!is_torn(&log) && !is_torn(&[]));
        let last = *begins.last().unwrap();
        for (number, begin) in begins.iter().enumerate() {
            let end = begins.get(number + 1).copied().unwrap_or(log.len());
            for at in [*begin, begin + 4, begin + 5, begin + 6, begin + 7, (begin + end) / 2, end - 1] {
                // One bit, and a hole.
                for hole in [1, 4096] {
                    let mut damaged = log.clone();
                    damaged[at] ^= 1;
                    let upto = (at + hole).min(end);
                    damaged[at + 1..upto.max(at + 1)].fill(0);
                    if damaged != log {
                        assert_eq!(is_torn(&damaged), at >= last, "record {number}, byte {at}, {hole}");
                    }
                }
            }
        }
        for cut in [last + 1, last + 6, last + 8, last + 50_000, log.len() - 1] {
            assert!(is_torn(&log[..cut]), "cut at {cut}");
        }
        assert!(!is_torn(&log[..last]));
    }
}
