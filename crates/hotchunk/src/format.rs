//! The rows of a hot chunk. Integers are big-endian, so that rows lie in the order of their numbers.
//!
//! ```text
//! ledgers          u32 sequence                        Zstandard frame of the raw ledger, its size in the frame's header
//! txhash           32-byte hash                        u32 sequence
//! events_data      u32 event id                        event record, as in frozen chunks
//! events_index     16-byte term key ‖ u32 event id     empty
//! events_offsets   u32 sequence                        u32 number of events in that ledger
//! ```

use icecore_events::TermKey;
use icecore_ledger::LedgerSeq;
use icecore_rockstore::{Compaction, Compression, Family, FamilyId};

pub(crate) const LEDGERS: FamilyId = FamilyId(0);
pub(crate) const TXHASH: FamilyId = FamilyId(1);
pub(crate) const EVENTS_DATA: FamilyId = FamilyId(2);
pub(crate) const EVENTS_INDEX: FamilyId = FamilyId(3);
pub(crate) const EVENTS_OFFSETS: FamilyId = FamilyId(4);

/// A chunk is written once, front to back, and thrown away when it is frozen. So nothing is ever merged: ledgers, events and
/// offsets arrive in the order of their keys, so that no two files overlap; hashes are few, and bloom filters keep lookups
/// from touching most files; the event index is read in one pass, when the chunk is opened. In turn, no commit ever waits
/// for merging, and the last one costs what the first did.
///
/// Rows gather in buffers large enough that files are few, and there are enough of these that a commit does not wait
/// for one being written out.
pub(crate) const FAMILIES: [Family; 5] = [
    // Compressed already, by the caller: once, whole, outside of the store's locks.
    appended("ledgers").compression(Compression::None).write_buffers(4, 32 << 20),
    // Hashes do not compress.
    appended("txhash")
        .compression(Compression::None)
        .bloom_bits(10)
        .block_bytes(4 << 10)
        .write_buffers(3, 16 << 20),
    // Compressed in the background when a buffer is written out: level 1 leaves the processor to the commits.
    appended("events_data")
        .compression(Compression::Zstd(1))
        .block_bytes(32 << 10)
        .write_buffers(4, 32 << 20),
    // Keys share prefixes with their neighbours, which blocks do not repeat; what is left does not compress.
    appended("events_index")
        .compression(Compression::None)
        .prefix_bytes(16)
        .block_bytes(8 << 10)
        .write_buffers(4, 64 << 20),
    appended("events_offsets").compression(Compression::None).block_bytes(4 << 10).write_buffers(2, 1 << 20),
];

const fn appended(name: &'static str) -> Family {
    Family::new(name).compaction(Compaction::Never)
}

/// The log is replayed when the chunk is opened after a crash: some seconds at this size. Each time it is full, what is in
/// memory becomes files, so that a smaller one would make more of them.
pub(crate) const MAX_LOG_BYTES: u64 = 512 << 20;

/// Ledgers larger than this are refused.
pub(crate) const MAX_LEDGER_BYTES: usize = 256 << 20;

/// The bytes of a key of `events_index`.
const POSTING_BYTES: usize = 20;

pub(crate) fn posting_key(term: &TermKey, id: u32) -> [u8; POSTING_BYTES] {
    let mut key = [0; POSTING_BYTES];
    key[..16].copy_from_slice(&term.0);
    key[16..].copy_from_slice(&id.to_be_bytes());
    key
}

pub(crate) fn parse_posting(key: &[u8]) -> Option<(TermKey, u32)> {
    let (term, id) = key.split_first_chunk()?;
    Some((TermKey(*term), parse_number(id)?))
}

pub(crate) fn parse_number(bytes: &[u8]) -> Option<u32> {
    bytes.try_into().ok().map(u32::from_be_bytes)
}

pub(crate) fn parse_seq(bytes: &[u8]) -> Option<LedgerSeq> {
    parse_number(bytes).map(LedgerSeq)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn postings_lie_by_term_and_then_by_id() {
        let keys =
            [(1, 0), (1, 255), (1, 256), (1, u32::MAX), (2, 0)].map(|(term, id)| (TermKey([term; 16]), id));
        let rows = keys.map(|(term, id)| posting_key(&term, id));
        assert!(rows.is_sorted());
        assert_eq!(rows.map(|row| parse_posting(&row).unwrap()), keys);
        for len in [0, 15, 16, 19, 21] {
            assert_eq!(parse_posting(&vec![0; len]), None);
        }
    }
}
