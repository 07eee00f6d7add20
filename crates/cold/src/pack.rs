//! The ledger pack: a packfile of raw ledgers, one to a record, that knows its first sequence.
//!
//! ```text
//! packfile, K = 1, format 1, zstd      item i = raw ledger first + i
//! app data                             u32 BE first sequence
//! ```

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use icecore_diskio::{Disk, IfExists};
use icecore_ledger::{LedgerRange, LedgerSeq, LedgerStream, RawLedger, Source};
use icecore_packfile::{Items, Options, Reader, Writer};

use crate::{Error, Result};

const FORMAT: u32 = 1;

/// Written back early, so that the fsync at the end has little left to do.
const BYTES_PER_SYNC: u64 = 8 << 20;

/// Writes the ledgers of a chunk, in order.
pub struct LedgerPackWriter {
    writer: Writer,
    path: PathBuf,
    first: LedgerSeq,
    next: u64,
}

impl LedgerPackWriter {
    /// Begins a pack whose first ledger will be `first`; `threads` compress, and the bytes do not depend on it.
    ///
    /// # Errors
    /// [`Error::Packfile`] when the name is taken or the disk refuses.
    pub fn create(
        disk: &Arc<dyn Disk>,
        path: &Path,
        first: LedgerSeq,
        threads: usize,
        if_exists: IfExists,
    ) -> Result<Self> {
        let options = Options::new().items_per_record(1).format(FORMAT).concurrency(threads);
        let options = options.if_exists(if_exists).bytes_per_sync(BYTES_PER_SYNC);
        let writer = Writer::create_on(disk, path, options)?;
        Ok(LedgerPackWriter { writer, path: path.to_path_buf(), first, next: u64::from(first.0) })
    }

    /// Adds the next ledger.
    ///
    /// # Errors
    /// [`Error::Foreign`] for any other ledger than the next one, [`Error::Packfile`] for the disk's refusals.
    pub fn append(&mut self, ledger: RawLedger<'_>) -> Result<()> {
        if u64::from(ledger.seq.0) != self.next {
            let place = self.path.display().to_string();
            return Err(Error::Foreign { place, expected: LedgerSeq(self.next as u32), found: ledger.seq });
        }
        self.writer.append(ledger.bytes)?;
        self.next += 1;
        Ok(())
    }

    /// Seals the pack and gives its length in bytes.
    ///
    /// # Errors
    /// [`Error::BadPack`] for a pack without ledgers, [`Error::Packfile`] for the disk's refusals.
    pub fn finish(self) -> Result<u64> {
        if self.next == u64::from(self.first.0) {
            return Err(Error::BadPack { path: self.path, what: "a pack holds at least one ledger".into() });
        }
        Ok(self.writer.finish(&self.first.0.to_be_bytes())?.file_bytes)
    }
}

/// An open pack. Also a [`Source`], so that whatever is derived from ledgers can be derived again from their pack.
pub struct LedgerPack {
    reader: Reader,
    path: PathBuf,
    ledgers: LedgerRange,
}

impl LedgerPack {
    /// Opens a pack.
    ///
    /// # Errors
    /// [`Error::Packfile`] for damage, [`Error::BadPack`] for a packfile that is not a ledger pack.
    pub fn open(disk: &Arc<dyn Disk>, path: &Path) -> Result<Self> {
        let reader = Reader::open_on(disk, path);
        let bad = |what: String| Error::BadPack { path: path.to_path_buf(), what };
        let info = reader.info()?;
        if info.format != FORMAT {
            return Err(bad(format!("format {:#x} is not that of a ledger pack", info.format)));
        }
        if info.items_per_record != 1 {
            return Err(bad(format!("{} ledgers to a record, a ledger pack has 1", info.items_per_record)));
        }
        let first = <[u8; 4]>::try_from(reader.app_data()?).map(u32::from_be_bytes);
        let first = first.map_err(|_| bad("its app data is not one sequence number".into()))?;
        let last = info.item_count.checked_sub(1).and_then(|more| first.checked_add(more));
        let last =
            last.ok_or_else(|| bad(format!("{} ledgers from {first} cannot be numbered", info.item_count)))?;
        let ledgers = LedgerRange { first: LedgerSeq(first), last: LedgerSeq(last) };
        Ok(LedgerPack { reader, path: path.to_path_buf(), ledgers })
    }

    /// Opens the pack of a chunk, which must hold exactly these ledgers.
    ///
    /// # Errors
    /// As of [`open`](LedgerPack::open); [`Error::BadPack`] where it holds others.
    pub fn open_chunk(disk: &Arc<dyn Disk>, path: &Path, ledgers: LedgerRange) -> Result<Self> {
        let pack = LedgerPack::open(disk, path)?;
        if pack.ledgers == ledgers {
            return Ok(pack);
        }
        let (found, want) = (pack.ledgers, ledgers);
        let what = format!(
            "holds ledgers {}..={}, its chunk is {}..={}",
            found.first, found.last, want.first, want.last
        );
        Err(Error::BadPack { path: path.to_path_buf(), what })
    }

    /// The ledgers it holds.
    pub fn ledgers(&self) -> LedgerRange {
        self.ledgers
    }

    /// One raw ledger, `None` when it is not in this pack.
    ///
    /// # Errors
    /// [`Error::Packfile`] for damage or a failed read.
    pub fn ledger(&self, seq: LedgerSeq) -> Result<Option<Vec<u8>>> {
        if !self.ledgers.contains(seq) {
            return Ok(None);
        }
        Ok(Some(self.reader.read_item(seq.0 - self.ledgers.first.0)?))
    }

    /// The packfile below.
    pub fn reader(&self) -> &Reader {
        &self.reader
    }
}

impl Source for LedgerPack {
    fn describe(&self) -> String {
        self.path.display().to_string()
    }

    fn range(&self) -> icecore_ledger::Result<LedgerRange> {
        Ok(self.ledgers)
    }

    fn stream(&self, ledgers: LedgerRange) -> icecore_ledger::Result<Box<dyn LedgerStream + '_>> {
        if self.ledgers.intersect(ledgers) != Some(ledgers) {
            let place = self.describe();
            return Err(icecore_ledger::Error::OutOfRange { place, has: self.ledgers, wanted: ledgers });
        }
        let first = ledgers.first.0 - self.ledgers.first.0;
        let items =
            self.reader.read_range(first, ledgers.count() as u32).map_err(|e| self.source_error(&e))?;
        Ok(Box::new(PackStream { pack: self, items, next: u64::from(ledgers.first.0) }))
    }
}

impl LedgerPack {
    fn source_error(&self, error: &icecore_packfile::Error) -> icecore_ledger::Error {
        let (place, what) = (self.describe(), error.to_string());
        if error.is_retryable() {
            return icecore_ledger::Error::Io { place, source: Arc::new(std::io::Error::other(what)) };
        }
        icecore_ledger::Error::Corrupt { place, offset: 0, what }
    }
}

struct PackStream<'a> {
    pack: &'a LedgerPack,
    items: Items<'a>,
    next: u64,
}

impl LedgerStream for PackStream<'_> {
    fn next_ledger(&mut self) -> icecore_ledger::Result<Option<RawLedger<'_>>> {
        let seq = LedgerSeq(self.next as u32);
        self.next += 1;
        let item = self.items.next_item().map_err(|e| self.pack.source_error(&e))?;
        Ok(item.map(|bytes| RawLedger { seq, bytes }))
    }
}
