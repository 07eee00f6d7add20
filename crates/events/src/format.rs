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

use std::{
    ops::Range,
    path::{Path, PathBuf},
};

use icecore_ledger::{ChunkId, LedgerSeq};

use crate::{Error, Position, Result, record::take};

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
    pub(crate) first: LedgerSeq,
    /// Events up to and including the ledger; never decreasing.
    cumulative: Vec<u32>,
}

impl LedgerCounts {
    pub(crate) fn new(first: LedgerSeq) -> Self {
        LedgerCounts { first, cumulative: Vec::new() }
    }

    /// How many ledgers there are.
    pub(crate) fn ledgers(&self) -> u32 {
        self.cumulative.len() as u32
    }

    /// How many events there are.
    pub(crate) fn events(&self) -> u32 {
        self.cumulative.last().copied().unwrap_or(0)
    }

    /// The last ledger; `None` when there is none.
    pub(crate) fn last(&self) -> Option<LedgerSeq> {
        self.first.0.checked_add(self.ledgers().checked_sub(1)?).map(LedgerSeq)
    }

    /// The sequence number that the next ledger must have; `None` when there is none left.
    pub(crate) fn next(&self) -> Option<LedgerSeq> {
        self.first.0.checked_add(self.ledgers()).map(LedgerSeq)
    }

    /// Adds the next ledger.
    pub(crate) fn push(&mut self, events: usize) -> Result<()> {
        let total = u64::from(self.events()).saturating_add(events as u64);
        // 2^32-1 events have the ids 0 to 2^32-2.
        let total = u32::try_from(total)
            .map_err(|_| Error::TooLarge { what: "the events of a chunk", size: total })?;
        self.cumulative.push(total);
        Ok(())
    }

    /// The ids of a ledger's events; `None` for a ledger that is not there.
    pub(crate) fn ids_of(&self, seq: LedgerSeq) -> Option<Range<u32>> {
        let index = usize::try_from(seq.0.checked_sub(self.first.0)?).ok()?;
        let end = *self.cumulative.get(index)?;
        let start = index.checked_sub(1).and_then(|before| self.cumulative.get(before));
        Some(start.copied().unwrap_or(0)..end)
    }

    /// The id of the first event of a ledger or a later one, for any ledger.
    pub(crate) fn ids_from(&self, seq: LedgerSeq) -> u32 {
        if seq < self.first { 0 } else { self.ids_of(seq).map_or(self.events(), |ids| ids.start) }
    }

    /// The id after the last event of a ledger or an earlier one, for any ledger.
    pub(crate) fn ids_through(&self, seq: LedgerSeq) -> u32 {
        if seq < self.first { 0 } else { self.ids_of(seq).map_or(self.events(), |ids| ids.end) }
    }

    /// The ledger of an event; `None` for an event that is not there.
    pub(crate) fn ledger_of(&self, id: u32) -> Option<LedgerSeq> {
        let index = self.cumulative.partition_point(|&end| end <= id);
        let seq = self.first.0.checked_add(u32::try_from(index).ok()?)?;
        (index < self.cumulative.len()).then_some(LedgerSeq(seq))
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(9 + 4 * self.cumulative.len());
        bytes.push(VERSION);
        bytes.extend_from_slice(&self.first.0.to_be_bytes());
        bytes.extend_from_slice(&self.ledgers().to_be_bytes());
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
        if counts.events() != items {
            return corrupt(format!("its ledgers have {} events, it holds {items}", counts.events()));
        }
        Ok(counts)
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
