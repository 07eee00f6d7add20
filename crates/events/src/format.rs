//! What the three files of a chunk's events say about themselves.
//!
//! ```text
//! CHUNK-events.pack   packfile, 128 items to a record, Zstandard: item id = event record
//!                     app data, integers big-endian:
//!                       u8   1, version
//!                       u32  first ledger
//!                       u32  n ledgers
//!                       n x u32  events up to and including the ledger: never decreasing, the last one = all items
//! CHUNK-index.hash    minimal perfect hash over the term keys: key → rank, no payload, no fingerprint
//! CHUNK-index.pack    packfile, 128 items to a record, no codec, no app data:
//!                     item rank = first 4 bytes of the key ‖ bitmap of event ids
//! ```

use std::path::{Path, PathBuf};

use icecore_ledger::{ChunkId, LedgerSeq};

use crate::{Error, EventCounts, Position, Result, counts::total_with, record::take};

/// The packfile format number of event records.
pub const EVENTS_FORMAT: u32 = 0xFE1E_000C;
/// The packfile format number of term bitmaps.
pub const INDEX_FORMAT: u32 = 0xFE1E_000B;
/// How many items share a record in both packfiles.
pub const ITEMS_PER_RECORD: u32 = 128;

const VERSION: u8 = 1;

/// Where the files of one chunk's events are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventPaths {
    /// The event records.
    pub events: PathBuf,
    /// Term keys to ranks.
    pub index_hash: PathBuf,
    /// Ranks to bitmaps.
    pub index_pack: PathBuf,
}

impl EventPaths {
    /// The paths of a chunk in a directory.
    ///
    /// ```
    /// use icecore_events::EventPaths;
    /// use icecore_ledger::ChunkId;
    ///
    /// let paths = EventPaths::new("events/00000", ChunkId(7));
    /// assert_eq!(paths.index_hash.to_str(), Some("events/00000/00000007-index.hash"));
    /// ```
    pub fn new(dir: impl AsRef<Path>, chunk: ChunkId) -> Self {
        let path = |what: &str| dir.as_ref().join(format!("{chunk}-{what}"));
        EventPaths {
            events: path("events.pack"),
            index_hash: path("index.hash"),
            index_pack: path("index.pack"),
        }
    }

    /// The three paths.
    pub fn each(&self) -> [&Path; 3] {
        [&self.events, &self.index_hash, &self.index_pack]
    }
}

/// Which events belong to which ledger of a chunk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LedgerCounts {
    first: LedgerSeq,
    /// Events up to and including the ledger; never decreasing.
    cumulative: Vec<u32>,
}

impl LedgerCounts {
    pub(crate) fn new(first: LedgerSeq) -> Self {
        LedgerCounts { first, cumulative: Vec::new() }
    }

    /// Adds the next ledger.
    pub(crate) fn push(&mut self, events: usize) -> Result<()> {
        let total = total_with(self, events)?;
        self.cumulative.push(total);
        Ok(())
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(9 + 4 * self.cumulative.len());
        bytes.push(VERSION);
        bytes.extend_from_slice(&self.first.0.to_be_bytes());
        bytes.extend_from_slice(&self.ledger_count().to_be_bytes());
        self.cumulative.iter().for_each(|count| bytes.extend_from_slice(&count.to_be_bytes()));
        bytes
    }

    /// Reads app data. `items` is how many events the file has.
    pub(crate) fn decode(path: &Path, app_data: &[u8], items: u32) -> Result<Self> {
        let corrupt = |what: String| Err(Error::corrupt(path, what));
        let mut rest = app_data;
        let Some([version]) = take(&mut rest) else { return corrupt("no app data".into()) };
        if *version != VERSION {
            return Err(Error::Version { path: path.to_path_buf(), version: *version });
        }
        let (Some(first), Some(n)) = (take(&mut rest), take(&mut rest)) else {
            return corrupt("app data ends within its header".into());
        };
        let (first, n) = (u32::from_be_bytes(*first), u32::from_be_bytes(*n));
        if rest.len() as u64 != 4 * u64::from(n) {
            return corrupt(format!("app data has {} bytes for the counts of {n} ledgers", rest.len()));
        }
        if u64::from(first) + u64::from(n) > 1 << 32 {
            return corrupt(format!("{n} ledgers from {first} go beyond the last sequence number"));
        }
        let (counts, _) = rest.as_chunks();
        let counts = LedgerCounts {
            first: LedgerSeq(first),
            cumulative: counts.iter().map(|count| u32::from_be_bytes(*count)).collect(),
        };
        if !counts.cumulative.is_sorted() {
            return corrupt("its ledgers' cumulative event counts decrease".into());
        }
        if counts.event_count() != items {
            return corrupt(format!("its ledgers have {} events, it holds {items}", counts.event_count()));
        }
        Ok(counts)
    }
}

impl EventCounts for LedgerCounts {
    fn first(&self) -> LedgerSeq {
        self.first
    }

    fn ledger_count(&self) -> u32 {
        self.cumulative.len() as u32
    }

    fn end(&self, index: u32) -> Option<u32> {
        self.cumulative.get(index as usize).copied()
    }
}

/// Checks that events of a ledger ascend, which is what a position as a cursor relies on.
pub(crate) fn check_ascending(ledger: LedgerSeq, positions: impl Iterator<Item = Position>) -> Result<()> {
    let mut last = None;
    for (index, position) in positions.enumerate() {
        if last.is_some_and(|last| position <= last) {
            return Err(Error::Disordered { ledger, index });
        }
        last = Some(position);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decode(bytes: &[u8], items: u32) -> Result<LedgerCounts> {
        LedgerCounts::decode(Path::new("p"), bytes, items)
    }

    fn counts(first: u32, events: &[usize]) -> LedgerCounts {
        let mut counts = LedgerCounts::new(LedgerSeq(first));
        events.iter().for_each(|&events| counts.push(events).unwrap());
        counts
    }

    #[test]
    fn app_data_is_as_drawn() {
        let bytes = counts(0x0102_0304, &[2, 0, 1]).encode();
        assert_eq!(bytes, [1, 1, 2, 3, 4, 0, 0, 0, 3, 0, 0, 0, 2, 0, 0, 0, 2, 0, 0, 0, 3]);
        assert_eq!(decode(&bytes, 3).unwrap(), counts(0x0102_0304, &[2, 0, 1]));
    }

    #[test]
    fn app_data_that_contradicts_itself_is_refused() {
        let good = counts(7, &[2, 0, 1]).encode();
        let corrupt = |bytes: &[u8], items| matches!(decode(bytes, items), Err(Error::Corrupt { .. }));
        for cut in 0..good.len() {
            assert!(corrupt(&good[..cut], 3), "{cut}");
        }
        assert!(corrupt(&[&good[..], &[0]].concat(), 3));
        assert!(corrupt(&good, 2) && corrupt(&good, 4));
        assert!(corrupt(&counts(7, &[]).encode(), 1));
        let put = |at: usize, byte| {
            let mut bytes = good.clone();
            bytes[at] = byte;
            bytes
        };
        assert!(matches!(decode(&put(0, 2), 3), Err(Error::Version { version: 2, .. })));
        assert!(corrupt(&put(8, 4), 3), "one ledger too many");
        assert!(corrupt(&put(12, 4), 3), "counts that decrease");
        assert!(corrupt(&put(5, 255), 3), "a promise of 2^32 ledgers");
        let last = counts(u32::MAX - 1, &[1, 1]).encode();
        assert_eq!(decode(&last, 2).unwrap().last(), Some(LedgerSeq(u32::MAX)));
        let beyond = counts(u32::MAX - 1, &[1, 1, 1]).encode();
        assert!(corrupt(&beyond, 3));
    }

    #[test]
    fn ids_fit_32_bits() {
        let mut full = counts(2, &[u32::MAX as usize - 1]);
        assert!(matches!(full.push(2), Err(Error::TooLarge { size: 0x1_0000_0000, .. })));
        full.push(1).unwrap();
        assert!(matches!(full.push(usize::MAX), Err(Error::TooLarge { .. })));
        assert_eq!(full.ledger_of(u32::MAX - 1), Some(LedgerSeq(3)));
        assert_eq!(full.ledger_of(u32::MAX), None);
    }

    proptest! {
        #[test]
        fn ledgers_and_ids_find_one_another(first in 0u32..50, events in prop::collection::vec(0usize..4, 0..20)) {
            let counts = counts(first, &events);
            let mut owners = Vec::new();
            for (seq, &events) in (first..).map(LedgerSeq).zip(&events) {
                let start = owners.len() as u32;
                owners.extend(std::iter::repeat_n(seq, events));
                prop_assert_eq!(counts.ids_of(seq), Some(start..owners.len() as u32));
            }
            prop_assert_eq!(counts.event_count() as usize, owners.len());
            for id in 0..owners.len() + 2 {
                prop_assert_eq!(counts.ledger_of(id as u32), owners.get(id).copied());
            }
            for seq in (0..80).chain([u32::MAX]).map(LedgerSeq) {
                prop_assert_eq!(counts.ids_from(seq) as usize, owners.partition_point(|&owner| owner < seq));
                prop_assert_eq!(counts.ids_through(seq) as usize, owners.partition_point(|&owner| owner <= seq));
            }
        }
    }
}
