//! Answers from the files of a store, and from nothing else.

use std::{path::Path, sync::Arc};

use icecore_diskio::{Disk, ReadAt, RealDisk};
use icecore_events::{ChunkEvents, EventRecord, Order, Query};
use icecore_ledger::{ChunkId, Decoder, Geometry, LedgerRange, LedgerSeq, TxHash};
use icecore_txindex::WindowIndex;

use crate::{
    Coverage, Error, Inventory, Kind, Layout, LedgerPack, Manifest, Result, build::ledgers_of,
    chunk::event_paths, recent::Recent,
};

/// How many packs, and how many chunks' events, stay open between reads.
const HELD_OPEN: usize = 16;

/// How many window indexes stay open: a lookup probes all of them, and a whole history has fewer.
const HELD_INDEXES: usize = 1024;

/// A window index on any disk.
pub type OpenIndex = WindowIndex<Box<dyn ReadAt>>;

/// A store as it was when it was opened: chunks that are sealed later are not seen. Files are opened when they are first
/// needed, so damage to one does not keep the others from answering.
///
/// Reads are safe from many threads, and beside a build.
pub struct Store {
    disk: Arc<dyn Disk>,
    layout: Layout,
    manifest: Manifest,
    inventory: Inventory,
    indexes: Recent<Coverage, OpenIndex>,
    packs: Recent<ChunkId, LedgerPack>,
    chunk_events: Recent<ChunkId, ChunkEvents>,
}

/// Where a transaction was found.
#[derive(Clone, Debug)]
pub struct FoundTransaction {
    /// The ledger that has it.
    pub ledger: LedgerSeq,
    /// That ledger, raw.
    pub raw: Vec<u8>,
}

impl Store {
    /// Opens the store in a directory.
    ///
    /// # Errors
    /// [`Error::NotAStore`], [`Error::Manifest`], [`Error::Disk`].
    pub fn open(root: impl AsRef<Path>) -> Result<Self> {
        Self::open_on(Arc::new(RealDisk), Layout::new(root.as_ref()))
    }

    /// Opens a store on any disk.
    ///
    /// # Errors
    /// As of [`open`](Store::open).
    pub fn open_on(disk: Arc<dyn Disk>, layout: Layout) -> Result<Self> {
        let manifest = Manifest::read(&*disk, &layout)?;
        let manifest = manifest.ok_or_else(|| Error::NotAStore { path: layout.root().to_path_buf() })?;
        let inventory = Inventory::scan(&*disk, &layout)?;
        let (packs, chunk_events) = (Recent::new(HELD_OPEN), Recent::new(HELD_OPEN));
        let indexes = Recent::new(HELD_INDEXES);
        Ok(Store { disk, layout, manifest, inventory, indexes, packs, chunk_events })
    }

    /// How the store is cut, and its network.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// What is there.
    pub fn inventory(&self) -> &Inventory {
        &self.inventory
    }

    /// Where the files lie.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The disk that the store is on.
    pub fn disk(&self) -> &Arc<dyn Disk> {
        &self.disk
    }

    /// The ledgers that can be answered from, as the longest ranges without a hole.
    pub fn reach(&self) -> Vec<LedgerRange> {
        self.inventory.reach(self.geometry())
    }

    fn geometry(&self) -> &Geometry {
        &self.manifest.geometry
    }

    fn has(&self, kind: Kind, chunk: ChunkId) -> bool {
        self.inventory.chunks.get(&chunk).is_some_and(|files| files.contains_key(&kind))
    }

    /// The pack of a chunk; `None` when there is none.
    ///
    /// # Errors
    /// [`Error::BadPack`], [`Error::Packfile`].
    pub fn pack(&self, chunk: ChunkId) -> Result<Option<Arc<LedgerPack>>> {
        if !self.has(Kind::Ledgers, chunk) {
            return Ok(None);
        }
        self.packs.get(chunk, || self.open_pack(chunk)).map(Some)
    }

    /// The events of a chunk; `None` when the store does not have its ledgers.
    ///
    /// # Errors
    /// [`Error::Missing`] where the ledgers are there and the events are not, [`Error::Events`].
    pub fn chunk_events(&self, chunk: ChunkId) -> Result<Option<Arc<ChunkEvents>>> {
        if !self.has(Kind::Ledgers, chunk) {
            return Ok(None);
        }
        self.chunk_events.get(chunk, || self.open_events(chunk)).map(Some)
    }

    pub(crate) fn open_pack(&self, chunk: ChunkId) -> Result<LedgerPack> {
        let path = self.layout.file(Kind::Ledgers, chunk);
        LedgerPack::open_chunk(&self.disk, &path, ledgers_of(self.geometry(), chunk)?)
    }

    /// Opens all three files before anything is held, so that what failed once is tried again.
    pub(crate) fn open_events(&self, chunk: ChunkId) -> Result<ChunkEvents> {
        let kinds = [Kind::Events, Kind::EventBitmaps, Kind::EventTerms];
        if let Some(missing) = kinds.into_iter().find(|&kind| !self.has(kind, chunk)) {
            return Err(Error::Missing { path: self.layout.file(missing, chunk) });
        }
        let events = ChunkEvents::open(&self.disk, &event_paths(&self.layout, chunk));
        events.event_count()?;
        events.term_count()?;
        Ok(events)
    }

    /// One raw ledger; `None` when the store does not reach it.
    ///
    /// # Errors
    /// [`Error::BadPack`], [`Error::Packfile`].
    pub fn ledger(&self, seq: LedgerSeq) -> Result<Option<Vec<u8>>> {
        let Some(chunk) = self.geometry().chunk_of(seq) else { return Ok(None) };
        self.pack(chunk)?.map_or(Ok(None), |pack| pack.ledger(seq))
    }

    /// The ledger that holds a transaction, by its hash or the hash of the transaction inside it. Every index is
    /// probed; a candidate counts only when all 32 bytes agree.
    ///
    /// # Errors
    /// [`Error::TxIndex`], [`Error::BadPack`], [`Error::Packfile`], [`Error::Decode`] for damage on the way.
    pub fn transaction(&self, hash: &TxHash, decoder: &dyn Decoder) -> Result<Option<FoundTransaction>> {
        match self.probe(&self.inventory, hash, decoder) {
            // A build has put a wider index in the place of one that was there: look again.
            Err(Error::Disk(e)) if e.is_not_found() => {
                self.probe(&Inventory::scan(&*self.disk, &self.layout)?, hash, decoder)
            }
            probed => probed,
        }
    }

    /// Probes every index, the newest first: recent transactions are asked for most.
    fn probe(
        &self,
        inventory: &Inventory,
        hash: &TxHash,
        decoder: &dyn Decoder,
    ) -> Result<Option<FoundTransaction>> {
        for &coverage in inventory.indexes.keys().rev() {
            let index = self.indexes.get(coverage, || self.open_index(&coverage))?;
            let Some(seq) = index.lookup(hash)? else { continue };
            let Some(raw) = self.ledger(seq)? else { continue };
            let chunk = self.geometry().chunk_of(seq).unwrap_or(ChunkId(0));
            let decoded = decoder.decode(&raw).map_err(|source| Error::Decode { chunk, seq, source })?;
            if decoded.hashes().any(|found| found == *hash) {
                return Ok(Some(FoundTransaction { ledger: seq, raw }));
            }
        }
        Ok(None)
    }

    pub(crate) fn open_index(&self, coverage: &Coverage) -> Result<OpenIndex> {
        open_index(&*self.disk, &self.layout, self.geometry(), coverage)
    }

    /// The events that a query finds, over all chunks that it touches, in its order.
    ///
    /// # Errors
    /// [`Error::Events`] for damage, and for events that the decoder refuses.
    pub fn events(&self, query: &Query, decoder: &dyn Decoder) -> Result<Vec<EventRecord>> {
        let mut found = Vec::new();
        let mut chunks: Vec<ChunkId> = self.inventory.chunks.keys().copied().collect();
        let reached = |ledgers| query.reaches(ledgers);
        chunks.retain(|&chunk| self.geometry().ledgers_of(chunk).is_some_and(reached));
        if query.order == Order::Descending {
            chunks.reverse();
        }
        for chunk in chunks {
            let left = query.limit - found.len();
            if left == 0 {
                break;
            }
            if let Some(events) = self.chunk_events(chunk)? {
                found.extend(events.query(&Query { limit: left, ..query.clone() }, decoder)?);
            }
        }
        Ok(found)
    }
}

/// Opens an index, which must cover the ledgers that its name says.
///
/// # Errors
/// [`Error::Differs`] where it covers others, [`Error::TxIndex`], [`Error::Disk`], [`Error::ChunkOutOfRange`].
pub fn open_index(
    disk: &dyn Disk,
    layout: &Layout,
    geometry: &Geometry,
    coverage: &Coverage,
) -> Result<OpenIndex> {
    let path = layout.index(coverage);
    let index = OpenIndex::from_source(disk.open(&path)?)?;
    let first = ledgers_of(geometry, coverage.first)?.first;
    let last = ledgers_of(geometry, coverage.last)?.last;
    let found = index.coverage();
    if (found.first, found.last) != (first, last) {
        let what = format!("it covers {}..={}, its name says {first}..={last}", found.first, found.last);
        return Err(Error::Differs { path, what });
    }
    Ok(index)
}
