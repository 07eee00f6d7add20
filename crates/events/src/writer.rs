//! Writing a chunk's events: records go to the events file as they come, terms and counts stay in memory, and the two
//! index files are written from them at the end.
//!
//! ```text
//! push_ledger ──▶ record ──▶ events.pack (encoded by `concurrency` threads)
//!             ──▶ term keys ──▶ TermSet
//!             ──▶ LedgerCounts
//! finish      LedgerCounts ──▶ app data, events.pack sealed
//!             TermSet ── keys in order ──▶ index.hash sealed ── ranks ──▶ index.pack sealed
//! ```
//!
//! Memory: 4 bytes for a ledger, nothing for an event, what [`TermSet`] takes for the terms, and 20 bytes more for each
//! of these during `finish`.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::Arc,
};

use icecore_diskio::{Disk, IfExists, Op};
use icecore_ledger::{Event, LedgerSeq};
use icecore_packfile as packfile;
use icecore_streamhash as streamhash;

use crate::{
    Error, EventCounts as _, EventPaths, EventRecord, Result, TermHasher, TermKey, TermSet,
    counts::check_next,
    format::{EVENTS_FORMAT, INDEX_FORMAT, ITEMS_PER_RECORD, LedgerCounts, check_ascending},
};

/// How the files of a chunk's events are written. The bytes do not depend on it.
#[derive(Clone, Copy, Debug)]
#[must_use]
pub struct Options {
    concurrency: usize,
    if_exists: IfExists,
}

impl Default for Options {
    fn default() -> Self {
        Options { concurrency: 1, if_exists: IfExists::Fail }
    }
}

impl Options {
    /// The defaults: the caller's thread only, existing files are left alone.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many threads encode. 1, the default, starts none.
    pub fn concurrency(mut self, threads: usize) -> Self {
        self.concurrency = threads.max(1);
        self
    }

    /// What to do about existing files. Default: fail.
    pub fn if_exists(mut self, if_exists: IfExists) -> Self {
        self.if_exists = if_exists;
        self
    }

    fn pack(&self, format: u32, codec: packfile::Codec) -> packfile::Options {
        let options = packfile::Options::new().items_per_record(ITEMS_PER_RECORD).format(format).codec(codec);
        options.concurrency(self.concurrency).if_exists(self.if_exists)
    }
}

/// What was written.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Summary {
    /// How many ledgers.
    pub ledgers: u32,
    /// How many events.
    pub events: u32,
    /// The length of the events file.
    pub events_bytes: u64,
    /// The two files of the index.
    pub index: IndexSummary,
}

/// What was written of an index.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct IndexSummary {
    /// How many terms.
    pub terms: u32,
    /// The length of the file of keys.
    pub hash_bytes: u64,
    /// The length of the file of bitmaps.
    pub pack_bytes: u64,
}

/// Writes the files of one chunk's events, ledger by ledger.
///
/// Nothing bears a file's name before [`finish`](ChunkEventsWriter::finish); a writer dropped before that, or failed,
/// leaves nothing. The first error of the disk or of a format's limit sticks: every later call returns it.
pub struct ChunkEventsWriter {
    disk: Arc<dyn Disk>,
    paths: EventPaths,
    options: Options,
    pack: packfile::Writer,
    counts: LedgerCounts,
    terms: TermSet,
    hasher: TermHasher,
    record: Vec<u8>,
    postings: Vec<(TermKey, u32)>,
    failed: Option<Error>,
}

impl ChunkEventsWriter {
    /// Begins the files of a chunk whose first ledger is `first`.
    ///
    /// # Errors
    /// Those of the disk; its `Exists` where one of the three names is taken and may not be replaced.
    pub fn create(
        disk: &Arc<dyn Disk>,
        paths: &EventPaths,
        first: LedgerSeq,
        options: Options,
    ) -> Result<Self> {
        if options.if_exists == IfExists::Fail {
            for path in paths.each() {
                if disk.file_len(path)?.is_some() {
                    return Err(icecore_diskio::Error::Exists { path: path.to_path_buf() }.into());
                }
            }
        }
        let pack_options = options.pack(EVENTS_FORMAT, packfile::Codec::Zstd);
        Ok(ChunkEventsWriter {
            disk: Arc::clone(disk),
            paths: paths.clone(),
            options,
            pack: packfile::Writer::create_on(disk, &paths.events, pack_options)?,
            counts: LedgerCounts::new(first),
            terms: TermSet::new(),
            hasher: TermHasher::default(),
            record: Vec::new(),
            postings: Vec::new(),
            failed: None,
        })
    }

    /// Adds the next ledger with its events, in their order.
    ///
    /// # Errors
    /// [`Error::Gap`], [`Error::Repeat`], [`Error::Disordered`], and [`Error::TooLarge`] after the last ledger that a
    /// history can have, for a ledger that is refused; the writer is as it was. [`Error::TooLarge`] for anything else and
    /// those of the disk stick.
    pub fn push_ledger(&mut self, seq: LedgerSeq, closed_at: i64, events: &[Event<'_>]) -> Result<()> {
        self.check()?;
        check_next(&self.paths.events, &self.counts, seq)?;
        check_ascending(seq, events.iter().map(|event| EventRecord::of(seq, closed_at, event).position()))?;
        self.append(seq, closed_at, events).inspect_err(|e| self.failed = Some(e.clone()))
    }

    fn append(&mut self, seq: LedgerSeq, closed_at: i64, events: &[Event<'_>]) -> Result<()> {
        let first_id = self.counts.event_count();
        self.counts.push(events.len())?;
        self.postings.clear();
        for (id, event) in (first_id..self.counts.event_count()).zip(events) {
            self.record.clear();
            EventRecord::of(seq, closed_at, event).encode(&mut self.record)?;
            self.pack.append(&self.record)?;
            self.postings.extend(self.hasher.keys(&event.fields).map(|key| (key, id)));
        }
        self.terms.add_all(&self.postings)
    }

    /// How many ledgers and events there are so far, and the memory that their terms hold.
    pub fn progress(&self) -> Progress {
        Progress {
            ledgers: self.counts.ledger_count(),
            events: self.counts.event_count(),
            terms: self.terms.len(),
            terms_heap_bytes: self.terms.heap_bytes(),
        }
    }

    /// Seals the three files. When it fails, those of them that were sealed are removed again, so that a chunk's events
    /// are there as a whole or not at all; where they were to replace older ones, these may be gone.
    ///
    /// # Errors
    /// The first error of this writer.
    pub fn finish(self) -> Result<Summary> {
        self.check()?;
        let mut sealed = SealedFiles::new(&self.disk, self.options);
        let events = sealed.note(&self.paths.events, self.pack.finish(&self.counts.encode()))?;
        let index = write_index(
            &self.disk,
            &self.paths.index_hash,
            &self.paths.index_pack,
            &self.terms,
            self.options,
        )?;
        sealed.keep();
        let (ledgers, events_bytes) = (self.counts.ledger_count(), events.file_bytes);
        Ok(Summary { ledgers, events: events.item_count, events_bytes, index })
    }

    fn check(&self) -> Result<()> {
        self.failed.clone().map_or(Ok(()), Err)
    }
}

/// How far a writer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Progress {
    /// How many ledgers.
    pub ledgers: u32,
    /// How many events.
    pub events: u32,
    /// How many terms.
    pub terms: usize,
    /// The memory that the terms hold.
    pub terms_heap_bytes: usize,
}

/// Writes the two index files of a set of terms. When it fails, neither is left; older ones that they were to replace may
/// be gone.
///
/// # Errors
/// Those of the disk and of the two formats.
pub fn write_index(
    disk: &Arc<dyn Disk>,
    hash_path: &Path,
    pack_path: &Path,
    terms: &TermSet,
    options: Options,
) -> Result<IndexSummary> {
    let keys = terms.sorted_keys();
    let mut sealed = SealedFiles::new(disk, options);
    let hash_summary = sealed.note(hash_path, write_keys(disk, hash_path, &keys, options))?;
    let order = by_rank(disk, hash_path, &keys)?;
    let pack_summary =
        sealed.note(pack_path, write_bitmaps(disk, pack_path, terms, &keys, &order, options))?;
    sealed.keep();
    Ok(IndexSummary {
        terms: pack_summary.item_count,
        hash_bytes: hash_summary.file_bytes,
        pack_bytes: pack_summary.file_bytes,
    })
}

fn write_keys(
    disk: &Arc<dyn Disk>,
    path: &Path,
    keys: &[TermKey],
    options: Options,
) -> Result<streamhash::Summary> {
    let hash_options = streamhash::Options::new().workers(options.concurrency).if_exists(options.if_exists);
    let mut builder = streamhash::SortedBuilder::create_on(disk, path, keys.len() as u64, hash_options)?;
    keys.iter().try_for_each(|key| builder.add(&key.0, 0))?;
    Ok(builder.finish()?)
}

/// For every rank, the place of its key among the keys.
fn by_rank(disk: &Arc<dyn Disk>, path: &Path, keys: &[TermKey]) -> Result<Vec<u32>> {
    // Three bits a key: read once instead of a block for every key.
    let file = disk.open(path)?;
    let mut bytes = vec![0; file.len_bytes() as usize];
    file.read_exact_at(&mut bytes, 0)?;
    let index = streamhash::Index::from_source(bytes)?;
    let too_large = |_| Error::TooLarge { what: "the terms of a chunk", size: keys.len() as u64 };
    let count = u32::try_from(keys.len()).map_err(too_large)?;
    let mut order = vec![u32::MAX; keys.len()];
    for (place, key) in (0..count).zip(keys) {
        let rank = index.rank(&key.0)?.and_then(|rank| usize::try_from(rank).ok());
        match rank.and_then(|rank| order.get_mut(rank)) {
            Some(slot) if *slot == u32::MAX => *slot = place,
            _ => return Err(Error::corrupt(path, format!("it gives the key {key:?} no rank of its own"))),
        }
    }
    Ok(order)
}

fn write_bitmaps(
    disk: &Arc<dyn Disk>,
    path: &Path,
    terms: &TermSet,
    keys: &[TermKey],
    order: &[u32],
    options: Options,
) -> Result<packfile::Summary> {
    let mut pack =
        packfile::Writer::create_on(disk, path, options.pack(INDEX_FORMAT, packfile::Codec::None))?;
    let mut item = Vec::new();
    terms.serialize_each(order.iter().map(|&place| &keys[place as usize]), |key, bitmap| {
        item.clear();
        item.extend_from_slice(&key.prefix());
        item.extend_from_slice(bitmap);
        Ok(pack.append(&item)?)
    })?;
    Ok(pack.finish(&[])?)
}

/// Files that have been given their names but are removed again unless all that belongs together succeeds.
pub(crate) struct SealedFiles<'a> {
    disk: &'a Arc<dyn Disk>,
    if_exists: IfExists,
    paths: Vec<PathBuf>,
}

impl<'a> SealedFiles<'a> {
    fn new(disk: &'a Arc<dyn Disk>, options: Options) -> Self {
        SealedFiles { disk, if_exists: options.if_exists, paths: Vec::new() }
    }

    /// Files that are to be removed whatever happens.
    pub(crate) fn of(disk: &'a Arc<dyn Disk>, paths: [&Path; 2]) -> Self {
        SealedFiles { disk, if_exists: IfExists::Fail, paths: paths.map(Path::to_path_buf).into() }
    }

    /// Remembers a file if it bears, or may bear, its name after an attempt to write it.
    fn note<T, E: Into<Error>>(&mut self, path: &Path, written: Result<T, E>) -> Result<T> {
        use icecore_diskio::Error as Disk;
        let written = written.map_err(Into::into);
        // A sync that failed may have been the directory's, after an older file was replaced.
        let sync_failed = |e: &Error| {
            matches!(e.disk(), Some(Disk::Io { op: Op::Sync, .. } | Disk::DiskFull { op: Op::Sync, .. }))
        };
        if written.as_ref().map_or_else(|e| self.if_exists == IfExists::Replace && sync_failed(e), |_| true) {
            self.paths.push(path.to_path_buf());
        }
        written
    }

    fn keep(mut self) {
        self.paths.clear();
    }
}

impl Drop for SealedFiles<'_> {
    fn drop(&mut self) {
        // What cannot be removed here is found by whoever looks after failed chunks: the error in hand matters more.
        for path in &self.paths {
            let _ = self.disk.remove(path);
        }
        let dirs: BTreeSet<_> = self.paths.iter().filter_map(|path| path.parent()).collect();
        for dir in dirs {
            let _ = self.disk.sync_dir(dir);
        }
    }
}

#[cfg(test)]
mod tests {
    use icecore_ledger::TxHash;

    use super::*;

    #[test]
    fn the_last_event_of_all_is_the_last() {
        let disk: Arc<dyn Disk> = Arc::new(icecore_diskio::FaultyDisk::new());
        let paths = EventPaths::new("", icecore_ledger::ChunkId(0));
        let mut writer = ChunkEventsWriter::create(&disk, &paths, LedgerSeq(2), Options::new()).unwrap();
        writer.counts.push(u32::MAX as usize - 1).unwrap();
        let fields = Default::default();
        let event =
            Event { tx_hash: TxHash([0; 32]), tx_index: 1, op_index: 0, event_index: 0, body: b"", fields };
        writer.push_ledger(LedgerSeq(3), 0, &[event]).unwrap();
        assert_eq!(writer.progress().events, u32::MAX);
        assert!(matches!(writer.push_ledger(LedgerSeq(4), 0, &[event]), Err(Error::TooLarge { .. })));
    }
}
