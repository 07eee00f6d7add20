//! Reading a chunk's events: by ledger, by id, by term. Searches are in [`query`](crate::query), checks in
//! [`verify`](crate::verify).

use std::{
    ops::Range,
    path::Path,
    sync::{Arc, OnceLock},
};

use icecore_diskio::{Disk, ReadAt};
use icecore_ledger::{Decoder, LedgerRange, LedgerSeq};
use icecore_packfile as packfile;
use icecore_streamhash as streamhash;
use roaring::RoaringBitmap;

use crate::{
    Error, EventCounts, EventPaths, EventRecord, EventStore, Query, Result, TermKey, decode_bitmap,
    format::{EVENTS_FORMAT, INDEX_FORMAT, ITEMS_PER_RECORD, LedgerCounts},
    query::{Visit, search},
    record::missing,
    term::PREFIX_BYTES,
};

/// Reads the events of one chunk, from as many threads at once as you like.
///
/// The two packfiles are opened in the background, the file of keys when it is first asked; what goes wrong shows at the
/// first use of the file that it is about. For the packfiles it stays so; the file of keys is tried again. Held in memory: 4 bytes for a ledger, 8 for every 128 events and terms.
pub struct ChunkEvents {
    pub(crate) paths: EventPaths,
    pub(crate) pack: packfile::Reader,
    pub(crate) index_pack: packfile::Reader,
    index_hash: Box<dyn Fn() -> Result<Box<dyn ReadAt>> + Send + Sync>,
    counts: OnceLock<LedgerCounts>,
    index: OnceLock<TermIndex>,
}

/// The ranks of the terms.
pub(crate) type TermIndex = streamhash::Index<Box<dyn ReadAt>>;

impl ChunkEvents {
    /// Begins to open the files of a chunk.
    pub fn open(disk: &Arc<dyn Disk>, paths: &EventPaths) -> Self {
        let pack = packfile::Reader::open_on(disk, &paths.events);
        let index_pack = packfile::Reader::open_on(disk, &paths.index_pack);
        let (disk, path) = (Arc::clone(disk), paths.index_hash.clone());
        Self::new(paths.clone(), pack, index_pack, move || Ok(disk.open(&path)?))
    }

    /// Opens any bytes: of memory maps, of remote objects. `paths` are for messages.
    ///
    /// # Errors
    /// Where one of the two packfiles is not whole and valid, as far as that shows from its end.
    pub fn from_sources(
        paths: EventPaths,
        events: impl ReadAt + 'static,
        index_hash: impl ReadAt + 'static,
        index_pack: impl ReadAt + 'static,
    ) -> Result<Self> {
        let pack = packfile::Reader::from_source(events)?;
        let index_pack = packfile::Reader::from_source(index_pack)?;
        let index_hash = Arc::new(index_hash);
        Ok(Self::new(paths, pack, index_pack, move || Ok(Box::new(Arc::clone(&index_hash)))))
    }

    fn new(
        paths: EventPaths,
        pack: packfile::Reader,
        index_pack: packfile::Reader,
        index_hash: impl Fn() -> Result<Box<dyn ReadAt>> + Send + Sync + 'static,
    ) -> Self {
        ChunkEvents {
            paths,
            pack,
            index_pack: index_pack.with_codec(packfile::Codec::None),
            index_hash: Box::new(index_hash),
            counts: OnceLock::new(),
            index: OnceLock::new(),
        }
    }

    /// Where the files are.
    pub fn paths(&self) -> &EventPaths {
        &self.paths
    }

    /// How many events the chunk has; their ids are below that.
    ///
    /// # Errors
    /// Where the events file could not be opened, is of another format, or its app data contradicts it; so for all
    /// methods.
    pub fn event_count(&self) -> Result<u32> {
        Ok(self.ledger_counts()?.event_count())
    }

    /// How many terms the chunk's events have.
    ///
    /// # Errors
    /// Where the index could not be opened, or its files do not fit together.
    pub fn term_count(&self) -> Result<u64> {
        Ok(self.index()?.key_count())
    }

    /// The ledgers that the chunk has events of, or could have had; `None` when it has no ledgers.
    ///
    /// # Errors
    /// As of [`event_count`](ChunkEvents::event_count).
    pub fn ledgers(&self) -> Result<Option<LedgerRange>> {
        let counts = self.ledger_counts()?;
        Ok(counts.last().map(|last| LedgerRange { first: counts.first(), last }))
    }

    /// The ledger of an event.
    ///
    /// # Errors
    /// [`Error::NoEvent`].
    pub fn ledger_of(&self, id: u32) -> Result<LedgerSeq> {
        let counts = self.ledger_counts()?;
        let missing = || Error::NoEvent { path: self.paths.events.clone(), id, events: counts.event_count() };
        counts.ledger_of(id).ok_or_else(missing)
    }

    /// The ids of the events of a ledger.
    ///
    /// # Errors
    /// [`Error::NoLedger`].
    pub fn ids_of(&self, seq: LedgerSeq) -> Result<Range<u32>> {
        let counts = self.ledger_counts()?;
        let (first, ledgers) = (counts.first(), counts.ledger_count());
        let missing = || Error::NoLedger { path: self.paths.events.clone(), seq, first, ledgers };
        counts.ids_of(seq).ok_or_else(missing)
    }

    /// Reads one event.
    ///
    /// # Errors
    /// [`Error::NoEvent`]; damage and I/O errors.
    pub fn event(&self, id: u32) -> Result<EventRecord> {
        let ledger = self.ledger_of(id)?;
        let item = self.pack.read_item(id)?;
        Ok(EventRecord::decode_at(&self.paths.events, id, ledger, &item)?.into_owned())
    }

    /// Reads the events of a ledger, in order.
    ///
    /// # Errors
    /// [`Error::NoLedger`]; damage and I/O errors.
    pub fn ledger_events(&self, seq: LedgerSeq) -> Result<Vec<EventRecord>> {
        let mut events = Vec::new();
        self.each_event(self.ids_of(seq)?, |_, record| {
            events.push(record.into_owned());
            Ok(())
        })?;
        Ok(events)
    }

    /// Lends the events of a range of ids, which must be there.
    pub(crate) fn each_event(
        &self,
        ids: Range<u32>,
        mut visit: impl FnMut(u32, EventRecord<&[u8]>) -> Result<()>,
    ) -> Result<()> {
        if ids.is_empty() {
            return Ok(());
        }
        let mut items = self.pack.read_range(ids.start, ids.end - ids.start)?;
        for id in ids {
            let ledger = self.ledger_of(id)?;
            let Some(item) = items.next_item()? else { return Err(missing(&self.paths.events, id)) };
            visit(id, EventRecord::decode_at(&self.paths.events, id, ledger, item)?)?;
        }
        Ok(())
    }

    /// The ids of the events of a term; `None` where the chunk has no such term. Two terms can share a key: an event has
    /// the term if its fields say so.
    ///
    /// # Errors
    /// Damage and I/O errors.
    pub fn term(&self, key: &TermKey) -> Result<Option<RoaringBitmap>> {
        let rank = self.index()?.rank(&key.0)?;
        let Some(rank) = rank.and_then(|rank| u32::try_from(rank).ok()) else { return Ok(None) };
        let item = self.index_pack.read_item(rank)?;
        match self.split_term(rank, &item)? {
            (prefix, bitmap) if prefix == key.prefix() => Ok(Some(self.decode_ids(rank, bitmap)?)),
            _ => Ok(None),
        }
    }

    /// The events of this chunk that a query finds, as of [`search`].
    ///
    /// # Errors
    /// Damage and I/O errors; [`Error::Body`] for an event that the decoder refuses.
    pub fn query(&self, query: &Query, decoder: &dyn Decoder) -> Result<Vec<EventRecord>> {
        search(self, query, decoder)
    }

    /// The two parts of an item of the index.
    pub(crate) fn split_term<'a>(&self, rank: u32, item: &'a [u8]) -> Result<([u8; PREFIX_BYTES], &'a [u8])> {
        let parts = item.split_first_chunk().map(|(prefix, bitmap)| (*prefix, bitmap));
        parts.ok_or_else(|| {
            Error::corrupt(&self.paths.index_pack, format!("term {rank} is too short for a key"))
        })
    }

    /// A term's bitmap, all of whose ids are those of events.
    pub(crate) fn decode_ids(&self, rank: u32, bytes: &[u8]) -> Result<RoaringBitmap> {
        let corrupt = |what| Error::corrupt(&self.paths.index_pack, format!("term {rank}: {what}"));
        let ids = decode_bitmap(bytes).map_err(|e| corrupt(e.to_string()))?;
        let events = self.event_count()?;
        match ids.max() {
            Some(max) if max >= events => {
                Err(corrupt(format!("it has event {max}, the chunk has {events} events")))
            }
            _ => Ok(ids),
        }
    }

    pub(crate) fn ledger_counts(&self) -> Result<&LedgerCounts> {
        get_or_try(&self.counts, || {
            let path = &self.paths.events;
            check_info(path, self.pack.info()?, EVENTS_FORMAT)?;
            LedgerCounts::decode(path, self.pack.app_data()?, self.pack.item_count()?)
        })
    }

    pub(crate) fn index(&self) -> Result<&TermIndex> {
        get_or_try(&self.index, || {
            check_info(&self.paths.index_pack, self.index_pack.info()?, INDEX_FORMAT)?;
            let index = TermIndex::from_source((self.index_hash)()?)?;
            let (keys, items) = (index.key_count(), self.index_pack.item_count()?);
            if keys != u64::from(items) {
                let what =
                    format!("it has {items} bitmaps, {} has {keys} keys", self.paths.index_hash.display());
                return Err(Error::corrupt(&self.paths.index_pack, what));
            }
            Ok(index)
        })
    }
}

impl EventStore for ChunkEvents {
    type Error = Error;

    fn path(&self) -> &Path {
        &self.paths.events
    }

    fn counts(&self) -> Result<&dyn EventCounts> {
        Ok(self.ledger_counts()?)
    }

    fn term_ids(&self, key: &TermKey, within: Range<u32>) -> Result<RoaringBitmap> {
        let mut ids = self.term(key)?.unwrap_or_default();
        ids.remove_range(..within.start);
        ids.remove_range(within.end..);
        Ok(ids)
    }

    fn read(&self, ids: &[u32], visit: &mut Visit<'_, Error>) -> Result<()> {
        let items = self.pack.read_items(ids, 1)?;
        ids.iter().zip(items).try_for_each(|(&id, item)| visit(id, &item))
    }
}

/// Keeps what succeeded; what failed may succeed the next time.
fn get_or_try<T>(cell: &OnceLock<T>, make: impl FnOnce() -> Result<T>) -> Result<&T> {
    match cell.get() {
        Some(made) => Ok(made),
        None => make().map(|made| cell.get_or_init(|| made)),
    }
}

fn check_info(path: &Path, info: &packfile::Info, format: u32) -> Result<()> {
    let found = (info.format, info.items_per_record);
    if found != (format, ITEMS_PER_RECORD) {
        let (found, per_record) = found;
        let what = format!(
            "its format is {found:#010x} with {per_record} items to a record, not {format:#010x} with {ITEMS_PER_RECORD}"
        );
        return Err(Error::corrupt(path, what));
    }
    Ok(())
}
