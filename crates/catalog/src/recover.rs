//! Making tainted data be built again: a plan that can be printed, then one batch on a stopped store. No file is touched;
//! the next start builds and removes what the keys say.

use std::fmt;

use icecore_ledger::{ChunkId, GENESIS, Geometry, LedgerSeq};

use crate::{Catalog, Error, FileState, HotState, Key, Result, State};

/// What a recovery changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecoveryPlan {
    /// The first and the last chunk with tainted ledgers.
    pub chunks: (ChunkId, ChunkId),
    /// Keys of artifacts and indexes that become freezing.
    pub freezing: Vec<Key>,
    /// Hot chunks that become transient: from the lowest tainted one up to the live one, so that no gap is left behind it.
    pub transient: Vec<ChunkId>,
}

impl RecoveryPlan {
    /// What to distrust when ledgers `from..=to` are tainted: with `cold` every artifact of their chunks and every index
    /// that covers one of them, with `hot` every hot chunk from the lowest tainted one on.
    ///
    /// # Errors
    /// [`Error::BadRecovery`] for a range that ends before it begins or before the first ledger.
    pub fn for_range(
        state: &State,
        geometry: &Geometry,
        from: LedgerSeq,
        to: LedgerSeq,
        cold: bool,
        hot: bool,
    ) -> Result<Self> {
        let bad = |what| Error::BadRecovery { from: from.0, to: to.0, what };
        if to < from {
            return Err(bad("the range ends before it begins"));
        }
        if !cold && !hot {
            return Err(bad("neither cold nor hot data is asked for"));
        }
        let first = geometry.chunk_of(from.max(GENESIS));
        let (Some(first), Some(last)) = (first, geometry.chunk_of(to)) else {
            return Err(bad("no ledger lies before the second"));
        };
        let tainted = |key: &Key| match key {
            Key::Chunk(chunk, _) => (first..=last).contains(chunk),
            Key::Index(coverage) => coverage.first <= last && first <= coverage.last,
            Key::Hot(_) => false,
        };
        let trusted = |key: &Key| state.file(key) != Some(FileState::Freezing);
        let freezing = state.keys().filter(|key| cold && tainted(key) && trusted(key)).collect();
        let lowest = state.hot.range(first..=last).next().map(|(chunk, _)| *chunk);
        let upto_live = lowest.filter(|_| hot).into_iter().flat_map(|lowest| state.hot.range(lowest..));
        let ready = upto_live.filter(|(_, state)| **state == HotState::Ready);
        Ok(RecoveryPlan {
            chunks: (first, last),
            freezing,
            transient: ready.map(|(chunk, _)| *chunk).collect(),
        })
    }

    /// True when everything that is tainted is distrusted already.
    pub fn is_empty(&self) -> bool {
        self.freezing.is_empty() && self.transient.is_empty()
    }

    /// Does it, in one batch. Doing it again changes nothing more.
    ///
    /// # Errors
    /// Those of the database.
    pub fn apply(&self, catalog: &Catalog) -> Result<()> {
        catalog.taint(&self.freezing, &self.transient)
    }
}

impl fmt::Display for RecoveryPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let RecoveryPlan { chunks: (first, last), freezing, transient } = self;
        write!(f, "chunks {first} to {last}: ")?;
        if self.is_empty() {
            return f.write_str("nothing to do");
        }
        write!(
            f,
            "{} keys to be built again, {} hot chunks to be made again",
            freezing.len(),
            transient.len()
        )?;
        freezing.iter().try_for_each(|key| write!(f, "\n  {key} → freezing"))?;
        transient.iter().try_for_each(|chunk| write!(f, "\n  {} → transient", Key::Hot(*chunk)))
    }
}
