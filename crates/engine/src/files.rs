//! Frozen files that are open. A view asks for a file only where its state says `frozen`; what the lifecycle destroys is
//! forgotten here after it is unlinked, so nothing that is gone is held.

use std::sync::Arc;

use icecore_catalog::{Artifact, Key};
use icecore_cold::{Coverage, Kind, LedgerPack, OpenIndex, Recent, event_paths, open_index};
use icecore_events::ChunkEvents;
use icecore_ledger::ChunkId;
use icecore_txindex::Run;

use crate::{Result, shared::Shared};

/// How many packs, how many chunks' events, and how many runs stay open.
const HELD_OPEN: usize = 64;

/// How many window indexes stay open: a lookup probes all of them, and a whole history has fewer.
const HELD_INDEXES: usize = 1024;

/// Open frozen files.
pub(crate) struct Files {
    packs: Recent<ChunkId, LedgerPack>,
    events: Recent<ChunkId, ChunkEvents>,
    runs: Recent<ChunkId, Run>,
    indexes: Recent<Coverage, OpenIndex>,
}

impl Default for Files {
    fn default() -> Self {
        Files {
            packs: Recent::new(HELD_OPEN),
            events: Recent::new(HELD_OPEN),
            runs: Recent::new(HELD_OPEN),
            indexes: Recent::new(HELD_INDEXES),
        }
    }
}

impl Files {
    /// Lets go of the files of a key.
    pub(crate) fn forget(&self, key: &Key) {
        match key {
            Key::Chunk(chunk, Artifact::Ledgers) => self.packs.forget(chunk),
            Key::Chunk(chunk, Artifact::Events) => self.events.forget(chunk),
            Key::Chunk(chunk, Artifact::TxHash) => self.runs.forget(chunk),
            Key::Index(coverage) => self.indexes.forget(coverage),
            _ => {}
        }
    }
}

impl Shared {
    pub(crate) fn pack(&self, chunk: ChunkId) -> Result<Arc<LedgerPack>> {
        self.files.packs.get(chunk, || {
            let path = self.catalog.layout().file(Kind::Ledgers, chunk);
            Ok(LedgerPack::open_chunk(self.disk(), &path, self.ledgers_of(chunk)?)?)
        })
    }

    /// Opens all three files before anything is held, so that what failed once is tried again.
    pub(crate) fn chunk_events(&self, chunk: ChunkId) -> Result<Arc<ChunkEvents>> {
        self.files.events.get(chunk, || {
            let events = ChunkEvents::open(self.disk(), &event_paths(self.catalog.layout(), chunk));
            events.event_count()?;
            events.term_count()?;
            Ok(events)
        })
    }

    pub(crate) fn run_of(&self, chunk: ChunkId) -> Result<Arc<Run>> {
        let path = self.catalog.layout().file(Kind::Run, chunk);
        self.files.runs.get(chunk, || Ok(Run::open(self.disk(), &path)?))
    }

    pub(crate) fn index(&self, coverage: Coverage) -> Result<Arc<OpenIndex>> {
        let geometry = self.catalog.pins().geometry;
        self.files
            .indexes
            .get(coverage, || Ok(open_index(&**self.disk(), self.catalog.layout(), &geometry, &coverage)?))
    }
}
