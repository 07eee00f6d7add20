//! Reading what was committed when a [`View`] was taken.

use std::{ops::Range, path::Path, sync::Arc};

use icecore_events::{EventCounts, EventRecord, EventStore, HotView, Query, RoaringBitmap, TermKey, Visit};
use icecore_ledger::{Decoder, LedgerRange, LedgerSeq, TxHash};
use icecore_rockstore::{Reader, Reads, Rows, Span};
use zstd::bulk::Decompressor;

use crate::{
    Error, Result,
    chunk::Shared,
    compress::unpack,
    format::{EVENTS_DATA, LEDGERS, TXHASH, parse_seq},
};

/// The ledgers that were there when it was taken, whole, and nothing of any other. It keeps the store from being closed, so
/// hold it for one request. When ledgers are removed meanwhile, everything is [`Error::Overtaken`].
#[derive(Debug)]
pub struct View {
    pub(crate) shared: Arc<Shared>,
    pub(crate) reader: Reader,
    pub(crate) index: Option<HotView>,
    pub(crate) last: Option<LedgerSeq>,
    pub(crate) changes: u64,
}

/// Where a transaction was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The ledger that has it.
    pub ledger: LedgerSeq,
    /// That ledger, raw.
    pub raw: Vec<u8>,
}

impl View {
    /// The last ledger.
    pub fn last(&self) -> Option<LedgerSeq> {
        self.last
    }

    /// All ledgers; `None` when there are none.
    pub fn range(&self) -> Option<LedgerRange> {
        self.last.map(|last| LedgerRange { first: self.shared.chunk.first, last })
    }

    fn has(&self, seq: LedgerSeq) -> bool {
        self.range().is_some_and(|range| range.contains(seq))
    }

    /// What was read, unless ledgers were removed since the view was taken: then that is the answer, whatever it seemed.
    pub(crate) fn unless_overtaken<T>(&self, read: Result<T>) -> Result<T> {
        if self.shared.changes() == self.changes {
            read
        } else {
            Err(Error::Overtaken { path: self.shared.path.clone() })
        }
    }

    /// One raw ledger; `None` when it is not there.
    ///
    /// # Errors
    /// [`Error::Corrupt`] where rows are missing or damaged, [`Error::Overtaken`], [`Error::Store`]; so for all reads.
    pub fn ledger(&self, seq: LedgerSeq) -> Result<Option<Vec<u8>>> {
        if !self.has(seq) {
            return Ok(None);
        }
        let mut raw = Vec::new();
        let read = unpacker(&self.shared)
            .and_then(|mut unpacker| read_ledger(&self.shared, &self.reader, seq, &mut unpacker, &mut raw));
        self.unless_overtaken(read)?;
        Ok(Some(raw))
    }

    /// The ledger that a hash, all of its 32 bytes, belongs to.
    ///
    /// # Errors
    /// As of [`ledger`](View::ledger).
    pub fn ledger_of(&self, hash: &TxHash) -> Result<Option<LedgerSeq>> {
        self.unless_overtaken(self.read_hash(hash))
    }

    fn read_hash(&self, hash: &TxHash) -> Result<Option<LedgerSeq>> {
        let Some(value) = self.reader.get(TXHASH, &hash.0)? else { return Ok(None) };
        let seq = parse_seq(&value).filter(|seq| self.shared.chunk.contains(*seq));
        let seq =
            seq.ok_or_else(|| self.shared.corrupt(format!("hash {hash} leads to no ledger of the chunk")))?;
        // A ledger that is being committed has rows before it is shown.
        Ok(self.has(seq).then_some(seq))
    }

    /// The ledger that holds a transaction, by its hash or the hash of the transaction inside it.
    ///
    /// # Errors
    /// As of [`ledger`](View::ledger).
    pub fn transaction(&self, hash: &TxHash) -> Result<Option<Found>> {
        let Some(ledger) = self.ledger_of(hash)? else { return Ok(None) };
        Ok(self.ledger(ledger)?.map(|raw| Found { ledger, raw }))
    }

    /// The events that a query finds, in its order.
    ///
    /// # Errors
    /// As of [`ledger`](View::ledger); [`Error::NoEventIndex`] where the chunk is open for reading only.
    pub fn events(&self, query: &Query, decoder: &dyn Decoder) -> Result<Vec<EventRecord>> {
        let no_index = || Error::NoEventIndex { path: self.shared.path.clone() };
        let index = self.index.as_ref().ok_or_else(no_index)?;
        self.unless_overtaken(icecore_events::search(&Events { view: self, index }, query, decoder))
    }

    /// The ledgers of a range that are there, in order.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub fn ledgers(&self, range: LedgerRange) -> Result<Ledgers<'_>> {
        let here = self.range().and_then(|here| here.intersect(range));
        // Both ends are of the chunk; an empty span where nothing is there.
        let (next, end) = here.map_or((1, 1), |here| (here.first.0, u64::from(here.last.0) + 1));
        let span = Span::from(next.to_be_bytes()).scan();
        let rows = self.reader.rows(LEDGERS, span)?;
        Ok(Ledgers {
            view: self,
            rows,
            next: u64::from(next),
            end,
            unpacker: unpacker(&self.shared)?,
            raw: Vec::new(),
        })
    }
}

/// Ledgers in order, each lent until the next one is asked for.
pub struct Ledgers<'a> {
    view: &'a View,
    rows: Rows<'a>,
    next: u64,
    end: u64,
    unpacker: Decompressor<'static>,
    raw: Vec<u8>,
}

impl<'a> Ledgers<'a> {
    /// What is read.
    pub(crate) fn view(&self) -> &'a View {
        self.view
    }

    /// The next ledger and its raw bytes; `None` after the last one.
    ///
    /// # Errors
    /// As of [`View::ledger`]; a ledger that is missing is [`Error::Corrupt`].
    pub fn next_ledger(&mut self) -> Result<Option<(LedgerSeq, &[u8])>> {
        if self.next >= self.end {
            return Ok(None);
        }
        let read = self.read_next();
        let seq = self.view.unless_overtaken(read).inspect_err(|_| self.end = self.next)?;
        self.next += 1;
        Ok(Some((seq, &self.raw)))
    }

    fn read_next(&mut self) -> Result<LedgerSeq> {
        let corrupt = |what| self.view.shared.corrupt(what);
        let row = self.rows.next_row()?;
        let found = row.and_then(|(key, packed)| Some((parse_seq(key)?, packed)));
        match found {
            Some((seq, packed)) if u64::from(seq.0) == self.next => {
                unpack(&mut self.unpacker, packed, &mut self.raw)
                    .map_err(|what| corrupt(format!("ledger {seq}: {what}")))?;
                Ok(seq)
            }
            Some((seq, _)) => {
                Err(corrupt(format!("ledger {} is missing, {seq} comes in its place", self.next)))
            }
            None => Err(corrupt(format!("ledger {} is missing", self.next))),
        }
    }
}

impl std::fmt::Debug for Ledgers<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ledgers").field("next", &self.next).field("end", &self.end).finish_non_exhaustive()
    }
}

/// What a search for events needs.
struct Events<'a> {
    view: &'a View,
    index: &'a HotView,
}

impl EventStore for Events<'_> {
    type Error = Error;

    fn path(&self) -> &Path {
        &self.view.shared.path
    }

    fn counts(&self) -> Result<&dyn EventCounts> {
        Ok(self.index)
    }

    fn term_ids(&self, key: &TermKey, within: Range<u32>) -> Result<RoaringBitmap> {
        Ok(self.index.term_ids(key, within))
    }

    fn read(&self, ids: &[u32], visit: &mut Visit<'_, Error>) -> Result<()> {
        let keys: Vec<_> = ids.iter().map(|id| id.to_be_bytes()).collect();
        let records = self.view.reader.multi_get(EVENTS_DATA, keys.iter().map(<[u8; 4]>::as_slice))?;
        for (&id, record) in ids.iter().zip(records) {
            let missing = || self.view.shared.corrupt(format!("event {id} is missing"));
            visit(id, &record.ok_or_else(missing)?)?;
        }
        Ok(())
    }
}

pub(crate) fn unpacker(shared: &Shared) -> Result<Decompressor<'static>> {
    Decompressor::new().map_err(|e| shared.refused("unpack ledgers", &e))
}

/// Reads a ledger that must be there.
pub(crate) fn read_ledger(
    shared: &Shared,
    reader: &Reader,
    seq: LedgerSeq,
    unpacker: &mut Decompressor<'_>,
    raw: &mut Vec<u8>,
) -> Result<()> {
    let packed = reader.get(LEDGERS, &seq.0.to_be_bytes())?;
    let packed = packed.ok_or_else(|| shared.corrupt(format!("ledger {seq} is missing")))?;
    unpack(unpacker, &packed, raw).map_err(|what| shared.corrupt(format!("ledger {seq}: {what}")))
}

/// The last ledger that has rows, shown or not.
pub(crate) fn last_ledger(shared: &Shared, reader: &Reader) -> Result<Option<LedgerSeq>> {
    let mut rows = reader.rows(LEDGERS, Span::all().descending())?;
    let Some((key, _)) = rows.next_row()? else { return Ok(None) };
    parse_seq(key).map(Some).ok_or_else(|| shared.corrupt("a row of ledgers has no sequence for a key"))
}
