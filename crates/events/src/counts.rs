//! Which events belong to which ledger: the same arithmetic over counts in a file and counts that still grow.

use std::{ops::Range, path::Path};

use icecore_ledger::LedgerSeq;

use crate::{Error, Result};

/// How many events the ledgers of a chunk have. The first three methods are a store's own, all others follow from them.
pub trait EventCounts {
    /// The first ledger.
    fn first(&self) -> LedgerSeq;

    /// How many ledgers there are.
    fn ledger_count(&self) -> u32;

    /// How many events there are up to and including the ledger `first + index`; never decreasing, `None` from
    /// [`ledger_count`](EventCounts::ledger_count) on.
    fn end(&self, index: u32) -> Option<u32>;

    /// How many events there are; their ids are below that.
    fn event_count(&self) -> u32 {
        self.ledger_count().checked_sub(1).and_then(|last| self.end(last)).unwrap_or(0)
    }

    /// The last ledger; `None` when there is none.
    fn last(&self) -> Option<LedgerSeq> {
        self.first().0.checked_add(self.ledger_count().checked_sub(1)?).map(LedgerSeq)
    }

    /// The sequence number that the next ledger must have; `None` when there is none left.
    fn next(&self) -> Option<LedgerSeq> {
        self.first().0.checked_add(self.ledger_count()).map(LedgerSeq)
    }

    /// The ids of a ledger's events; `None` for a ledger that is not there.
    fn ids_of(&self, seq: LedgerSeq) -> Option<Range<u32>> {
        let index = seq.0.checked_sub(self.first().0)?;
        let end = self.end(index)?;
        let start = index.checked_sub(1).and_then(|before| self.end(before));
        Some(start.unwrap_or(0)..end)
    }

    /// The id of the first event of a ledger or a later one, for any ledger.
    fn ids_from(&self, seq: LedgerSeq) -> u32 {
        if seq < self.first() { 0 } else { self.ids_of(seq).map_or(self.event_count(), |ids| ids.start) }
    }

    /// The id after the last event of a ledger or an earlier one, for any ledger.
    fn ids_through(&self, seq: LedgerSeq) -> u32 {
        if seq < self.first() { 0 } else { self.ids_of(seq).map_or(self.event_count(), |ids| ids.end) }
    }

    /// The ledger of an event; `None` for an event that is not there.
    fn ledger_of(&self, id: u32) -> Option<LedgerSeq> {
        let (mut low, mut high) = (0, self.ledger_count());
        while low < high {
            let middle = low + (high - low) / 2;
            if self.end(middle)? <= id {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        let seq = self.first().0.checked_add(low)?;
        (low < self.ledger_count()).then_some(LedgerSeq(seq))
    }
}

/// Refuses every ledger but the next one.
pub(crate) fn check_next(path: &Path, counts: &impl EventCounts, seq: LedgerSeq) -> Result<()> {
    let path = || path.to_path_buf();
    match counts.next() {
        None => Err(Error::TooLarge { what: "the ledgers of a history", size: 1 << 32 }),
        Some(expected) if seq > expected => Err(Error::Gap { path: path(), expected, found: seq }),
        Some(expected) if seq < expected => Err(Error::Repeat { path: path(), expected, found: seq }),
        Some(_) => Ok(()),
    }
}

/// How many events there are with those of the next ledger.
pub(crate) fn total_with(counts: &impl EventCounts, events: usize) -> Result<u32> {
    if counts.ledger_count() == u32::MAX {
        return Err(Error::TooLarge { what: "the ledgers of a chunk", size: 1 << 32 });
    }
    let total = u64::from(counts.event_count()).saturating_add(events as u64);
    // 2^32-1 events have the ids 0 to 2^32-2.
    u32::try_from(total).map_err(|_| Error::TooLarge { what: "the events of a chunk", size: total })
}
