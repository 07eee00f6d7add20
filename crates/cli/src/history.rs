//! What `get` answers from: frozen chunks and hot ones alike. A chunk that is frozen is answered from its files, any other
//! from its hot store.

use std::{
    collections::BTreeSet,
    path::Path,
    sync::{Arc, atomic::Ordering::Relaxed},
};

use icecore_catalog::{CatalogReader, HotState};
use icecore_cold::{Control, Layout, Manifest, Store};
use icecore_diskio::{Disk, RealDisk};
use icecore_events::{EventRecord, Order, Query};
use icecore_hotchunk::{HotChunk, HotOptions, WarmUp};
use icecore_ledger::{ChunkId, LedgerRange, LedgerSeq, TxHash};
use icecore_stellar::StellarDecoder;

use crate::{
    fail::{Fail, Outcome},
    progress::Progress,
};

/// A directory's chunks of both kinds.
pub(crate) struct History {
    store: Store,
    /// Chunks that only a hot store has.
    hot: BTreeSet<ChunkId>,
}

/// Which kind of store gave an answer.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    Cold,
    Hot,
}

impl Place {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Place::Cold => "cold",
            Place::Hot => "hot",
        }
    }
}

/// A raw ledger, and where it came from.
pub(crate) struct Found {
    pub(crate) raw: Vec<u8>,
    pub(crate) place: Place,
}

/// The chunks with a hot store in a directory.
pub(crate) fn hot_chunks(disk: &dyn Disk, layout: &Layout) -> Outcome<BTreeSet<ChunkId>> {
    Ok(disk.list(&layout.hot_dir())?.iter().filter_map(|name| Layout::chunk_of_hot_name(name)).collect())
}

/// Those that can be read: where a catalog says which are whole, only these.
fn usable_hot_chunks(layout: &Layout) -> Outcome<BTreeSet<ChunkId>> {
    match CatalogReader::open(layout) {
        Ok(reader) => {
            let ready = reader.state().hot.iter().filter(|(_, state)| **state == HotState::Ready);
            Ok(ready.map(|(chunk, _)| *chunk).collect())
        }
        Err(icecore_catalog::Error::NoCatalog { .. }) => hot_chunks(&RealDisk, layout),
        Err(e) => Err(e.into()),
    }
}

/// How often a read is begun anew because a daemon took away what was being read.
const TRIES: usize = 10;

/// Reads from a directory; and again from what it has become, where a daemon took away meanwhile what was being read.
pub(crate) fn read<T>(dir: &Path, read: impl Fn(&History) -> Outcome<T>) -> Outcome<(History, T)> {
    let mut history = History::open(dir)?;
    for _ in 1..TRIES {
        match read(&history) {
            Err(fail @ (Fail::Error(_) | Fail::Damaged(_))) => {
                let now = History::open(dir)?;
                if now.is_as(&history) {
                    return Err(fail);
                }
                history = now;
            }
            answer => return Ok((history, answer?)),
        }
    }
    let answer = read(&history)?;
    Ok((history, answer))
}

impl History {
    /// True where both found the same.
    fn is_as(&self, other: &History) -> bool {
        let (this, that) = (self.store.inventory(), other.store.inventory());
        self.hot == other.hot && this.chunks == that.chunks && this.indexes == that.indexes
    }

    /// Looks at what a directory has. A chunk goes from its hot store to its files: looked at in this order, it is in one of
    /// them, also while a daemon works.
    pub(crate) fn open(dir: &Path) -> Outcome<Self> {
        let mut hot = usable_hot_chunks(&Layout::new(dir))?;
        let store = Store::open(dir)?;
        let inventory = store.inventory();
        // Without an index a hash does not lead to the chunk yet.
        let frozen = |chunk: &ChunkId| {
            inventory.chunks.contains_key(chunk)
                && inventory.missing(*chunk).is_empty()
                && inventory.indexes.keys().any(|coverage| coverage.covers(*chunk))
        };
        hot.retain(|chunk| !frozen(chunk));
        Ok(History { store, hot })
    }

    pub(crate) fn manifest(&self) -> &Manifest {
        self.store.manifest()
    }

    fn ledgers_of(&self, chunk: ChunkId) -> Option<LedgerRange> {
        self.manifest().geometry.ledgers_of(chunk)
    }

    /// A hot chunk, opened beside whoever may be writing to it; `None` for a number that no chunk has.
    fn open_hot(&self, chunk: ChunkId) -> Outcome<Option<HotChunk>> {
        let Some(ledgers) = self.ledgers_of(chunk) else { return Ok(None) };
        let path = self.store.layout().hot_chunk(chunk);
        Ok(Some(HotChunk::open_read_only(path, ledgers, &HotOptions::default())?))
    }

    pub(crate) fn ledger(&self, seq: LedgerSeq) -> Outcome<Option<Found>> {
        let chunk = self.manifest().geometry.chunk_of(seq);
        let found = |place| move |raw| Found { raw, place };
        match chunk.filter(|chunk| self.hot.contains(chunk)) {
            Some(chunk) => match self.open_hot(chunk)? {
                Some(hot) => Ok(hot.ledger(seq)?.map(found(Place::Hot))),
                None => Ok(None),
            },
            None => Ok(self.store.ledger(seq)?.map(found(Place::Cold))),
        }
    }

    /// The ledger that holds a transaction: the newest are asked for most, and hot stores know hashes exactly.
    pub(crate) fn transaction(&self, hash: &TxHash) -> Outcome<Option<Found>> {
        for &chunk in self.hot.iter().rev() {
            let Some(hot) = self.open_hot(chunk)? else { continue };
            if let Some(found) = hot.transaction(hash)? {
                return Ok(Some(Found { raw: found.raw, place: Place::Hot }));
            }
        }
        let found = self.store.transaction(hash, &StellarDecoder)?;
        Ok(found.map(|found| Found { raw: found.raw, place: Place::Cold }))
    }

    /// The events that a query finds, in its order, chunk after chunk of either kind.
    pub(crate) fn events(&self, query: &Query) -> Outcome<Vec<(EventRecord, Place)>> {
        let cold = self.store.inventory().chunks.keys();
        let mut chunks: BTreeSet<ChunkId> = cold.chain(&self.hot).copied().collect();
        chunks.retain(|&chunk| self.ledgers_of(chunk).is_some_and(|ledgers| query.reaches(ledgers)));
        let in_order: Vec<ChunkId> = match query.order {
            Order::Ascending => chunks.into_iter().collect(),
            Order::Descending => chunks.into_iter().rev().collect(),
        };
        let mut found = Vec::new();
        for chunk in in_order {
            let left = query.limit - found.len();
            if left == 0 {
                break;
            }
            let query = Query { limit: left, ..query.clone() };
            let (events, place) = match self.hot.contains(&chunk) {
                true => (self.hot_events(chunk, &query)?, Place::Hot),
                false => (self.cold_events(chunk, &query)?, Place::Cold),
            };
            found.extend(events.into_iter().map(|event| (event, place)));
        }
        Ok(found)
    }

    fn cold_events(&self, chunk: ChunkId, query: &Query) -> Outcome<Vec<EventRecord>> {
        Ok(match self.store.chunk_events(chunk)? {
            Some(events) => events.query(query, &StellarDecoder)?,
            None => Vec::new(),
        })
    }

    fn hot_events(&self, chunk: ChunkId, query: &Query) -> Outcome<Vec<EventRecord>> {
        let Some(ledgers) = self.ledgers_of(chunk) else { return Ok(Vec::new()) };
        let path = self.store.layout().hot_chunk(chunk);
        let hot = with_progress(|progress| {
            HotChunk::open_read_only_with_events(path, ledgers, &HotOptions::default(), progress)
        })?;
        Ok(hot.events(query, &StellarDecoder)?)
    }

    /// The chunks that only a hot store has, each with its ledgers.
    pub(crate) fn hot_ranges(&self) -> impl Iterator<Item = (ChunkId, Outcome<Option<LedgerRange>>)> {
        let range = |chunk| match self.open_hot(chunk)? {
            Some(hot) => Ok(hot.view()?.range()),
            None => Ok(None),
        };
        self.hot.iter().map(move |&chunk| (chunk, range(chunk)))
    }

    /// How far the data reaches, in words.
    pub(crate) fn reach(&self) -> String {
        let mut ranges = self.store.reach();
        ranges.extend(self.hot_ranges().filter_map(|(_, range)| range.ok().flatten()));
        ranges.sort_unstable_by_key(|range| range.first);
        ranges.dedup_by(|next, last| {
            let joins = u64::from(next.first.0) <= u64::from(last.last.0) + 1;
            if joins {
                last.last = last.last.max(next.last);
            }
            joins
        });
        if ranges.is_empty() {
            return "the store is empty".to_owned();
        }
        let ranges: Vec<String> = ranges.iter().map(|r| format!("{} to {}", r.first, r.last)).collect();
        format!("the store has ledgers {}", ranges.join(", "))
    }
}

/// Opens a hot chunk, and shows how far its event index is.
pub(crate) fn with_progress(
    open: impl FnOnce(&mut dyn FnMut(WarmUp)) -> icecore_hotchunk::Result<HotChunk>,
) -> Outcome<HotChunk> {
    let control = Arc::new(Control::default());
    let _progress = Progress::watch(&control, "opening");
    Ok(open(&mut |warm| {
        control.total.store(warm.total, Relaxed);
        control.done.store(warm.rows, Relaxed);
    })?)
}
