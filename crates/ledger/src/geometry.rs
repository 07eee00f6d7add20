use std::num::NonZeroU32;

use crate::{ChunkId, Error, LedgerSeq, Result, WindowId};

/// The first ledger of every history.
pub const GENESIS: LedgerSeq = LedgerSeq(2);

/// Ledgers `first..=last`; never empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LedgerRange {
    /// The first ledger.
    pub first: LedgerSeq,
    /// The last ledger, included.
    pub last: LedgerSeq,
}

impl LedgerRange {
    /// The range `first..=last`.
    ///
    /// # Errors
    /// [`Error::BadRange`] when `last` is below `first`.
    pub fn new(first: LedgerSeq, last: LedgerSeq) -> Result<Self> {
        if last < first { Err(Error::BadRange { first, last }) } else { Ok(LedgerRange { first, last }) }
    }

    /// How many ledgers the range has.
    pub fn count(&self) -> u64 {
        u64::from(self.last.0) - u64::from(self.first.0) + 1
    }

    /// True when `seq` lies in the range.
    pub fn contains(&self, seq: LedgerSeq) -> bool {
        (self.first..=self.last).contains(&seq)
    }

    /// What two ranges share.
    pub fn intersect(&self, other: LedgerRange) -> Option<LedgerRange> {
        LedgerRange::new(self.first.max(other.first), self.last.min(other.last)).ok()
    }
}

/// How a history is cut: ledgers to a chunk, chunks to a window. Fixed for the life of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    ledgers_per_chunk: NonZeroU32,
    chunks_per_window: NonZeroU32,
}

impl Default for Geometry {
    /// 10 000 ledgers to a chunk, 1 000 chunks to a window.
    fn default() -> Self {
        const TEN_THOUSAND: NonZeroU32 = NonZeroU32::new(10_000).unwrap();
        const THOUSAND: NonZeroU32 = NonZeroU32::new(1_000).unwrap();
        Geometry { ledgers_per_chunk: TEN_THOUSAND, chunks_per_window: THOUSAND }
    }
}

impl Geometry {
    /// A geometry of one's own. A window's index keeps a ledger as its 24-bit distance from the first one.
    ///
    /// # Errors
    /// [`Error::BadGeometry`] when either is 0, or a window would span more than 2^24 ledgers.
    pub fn new(ledgers_per_chunk: u32, chunks_per_window: u32) -> Result<Self> {
        let bad = || Error::BadGeometry { ledgers_per_chunk, chunks_per_window };
        let span = u64::from(ledgers_per_chunk) * u64::from(chunks_per_window);
        if span > 1 << 24 {
            return Err(bad());
        }
        Ok(Geometry {
            ledgers_per_chunk: NonZeroU32::new(ledgers_per_chunk).ok_or_else(bad)?,
            chunks_per_window: NonZeroU32::new(chunks_per_window).ok_or_else(bad)?,
        })
    }

    /// Ledgers to a chunk.
    pub fn ledgers_per_chunk(&self) -> u32 {
        self.ledgers_per_chunk.get()
    }

    /// Chunks to a window.
    pub fn chunks_per_window(&self) -> u32 {
        self.chunks_per_window.get()
    }

    /// The chunk that a ledger belongs to; `None` below [`GENESIS`].
    pub fn chunk_of(&self, seq: LedgerSeq) -> Option<ChunkId> {
        seq.0.checked_sub(GENESIS.0).map(|offset| ChunkId(offset / self.ledgers_per_chunk))
    }

    /// The ledgers of a chunk; `None` when its last ledger would not fit a sequence number.
    pub fn ledgers_of(&self, chunk: ChunkId) -> Option<LedgerRange> {
        let per_chunk = self.ledgers_per_chunk.get();
        let first = chunk.0.checked_mul(per_chunk)?.checked_add(GENESIS.0)?;
        Some(LedgerRange { first: LedgerSeq(first), last: LedgerSeq(first.checked_add(per_chunk - 1)?) })
    }

    /// The window that a chunk belongs to.
    pub fn window_of(&self, chunk: ChunkId) -> WindowId {
        WindowId(chunk.0 / self.chunks_per_window)
    }

    /// The last chunk whose every ledger is at most `latest`; `None` before the first chunk is complete.
    pub fn last_complete_chunk(&self, latest: LedgerSeq) -> Option<ChunkId> {
        let done = latest.0.checked_sub(GENESIS.0)?.checked_add(1)? / self.ledgers_per_chunk;
        done.checked_sub(1).map(ChunkId)
    }

    /// The chunks that lie wholly inside a range of ledgers, as `first..=last`; `None` when there is none.
    pub fn complete_chunks(&self, ledgers: LedgerRange) -> Option<(ChunkId, ChunkId)> {
        let from = ledgers.first.max(GENESIS).0 - GENESIS.0;
        let first = ChunkId(from.div_ceil(self.ledgers_per_chunk.get()));
        let last = self.last_complete_chunk(ledgers.last)?;
        (first <= last).then_some((first, last))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn chunks_tile_the_history(per_chunk in 1u32..5000, per_window in 1u32..3000, seq in 2u32..) {
            let Ok(g) = Geometry::new(per_chunk, per_window) else { return Ok(()) };
            let seq = LedgerSeq(seq);
            let chunk = g.chunk_of(seq).unwrap();
            if let Some(ledgers) = g.ledgers_of(chunk) {
                prop_assert!(ledgers.contains(seq));
                prop_assert_eq!(ledgers.count(), u64::from(per_chunk));
                prop_assert_eq!(g.last_complete_chunk(ledgers.last), Some(chunk));
                prop_assert_eq!(g.complete_chunks(ledgers), Some((chunk, chunk)));
                let before = LedgerSeq(ledgers.last.0 - 1);
                prop_assert_eq!(g.last_complete_chunk(before), chunk.0.checked_sub(1).map(ChunkId));
            }
        }
    }

    #[test]
    fn the_ends_of_the_history_do_not_wrap() {
        let g = Geometry::default();
        for seq in [0, 1] {
            assert_eq!(g.chunk_of(LedgerSeq(seq)), None);
            assert_eq!(g.last_complete_chunk(LedgerSeq(seq)), None);
        }
        assert_eq!(g.last_complete_chunk(LedgerSeq(10_001)), Some(ChunkId(0)));
        assert_eq!(g.chunk_of(LedgerSeq(u32::MAX)), Some(ChunkId(429_496)));
        assert_eq!(g.ledgers_of(ChunkId(429_496)), None);
        assert_eq!(g.ledgers_of(ChunkId(u32::MAX)), None);
        assert_eq!(g.last_complete_chunk(LedgerSeq(u32::MAX)), Some(ChunkId(429_495)));
    }

    #[test]
    fn a_window_must_fit_the_index() {
        assert!(Geometry::new(1 << 12, 1 << 12).is_ok());
        for (ledgers, chunks) in [(0, 1), (1, 0), (1 << 12, (1 << 12) + 1), (u32::MAX, u32::MAX)] {
            assert!(matches!(Geometry::new(ledgers, chunks), Err(Error::BadGeometry { .. })));
        }
    }
}
