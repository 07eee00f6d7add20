//! Taking ledgers in and out. Both are one synced batch, then a change in memory that cannot fail. What is shown to readers
//! is what the event index shows, so a batch that failed, or that was written and not shown, is nobody's business but
//! [`settle`](HotChunk::settle)'s, which runs before the next change.

use std::{cmp::Ordering, io};

use icecore_events::{EventCounts, EventRecord, HotIndexWriter, TermHasher, TermKey};
use icecore_ledger::{Decoded, Decoder, LedgerSeq};
use icecore_rockstore::{Batch, Reader};
use zstd::bulk::Decompressor;

use crate::{
    CommitFailed, Committed, Error, HotChunk, Phase, Result,
    compress::Packer,
    faults::Faults,
    format::{EVENTS_DATA, EVENTS_INDEX, EVENTS_OFFSETS, LEDGERS, MAX_LEDGER_BYTES, TXHASH, posting_key},
    report::Laps,
    view,
};

/// The writing side, with buffers that are reused from ledger to ledger.
pub(crate) struct Writer {
    index: HotIndexWriter,
    batch: Batch,
    /// The terms of the ledger's events.
    postings: Vec<(TermKey, u32)>,
    hasher: TermHasher,
    record: Vec<u8>,
    packer: Packer,
    /// True when rows and index may differ, because a write failed.
    unsettled: bool,
    pub(crate) faults: Faults,
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writer").field("unsettled", &self.unsettled).finish_non_exhaustive()
    }
}

impl Writer {
    pub(crate) fn new(index: HotIndexWriter) -> io::Result<Self> {
        Ok(Writer {
            index,
            batch: Batch::new(),
            postings: Vec::new(),
            hasher: TermHasher::default(),
            record: Vec::new(),
            packer: Packer::new()?,
            unsettled: false,
            faults: Faults::default(),
        })
    }

    /// The ledger that is due; past the chunk's last one when it is full.
    fn expected(&self) -> LedgerSeq {
        self.index.next_ledger().unwrap_or(LedgerSeq(u32::MAX))
    }

    fn shown(&self) -> Option<LedgerSeq> {
        self.index.index().view().last()
    }

    /// The keys of the terms of all events of a ledger.
    fn collect_postings(&mut self, decoded: &Decoded<'_>) {
        self.postings.clear();
        for (id, event) in (self.index.event_count()..=u32::MAX).zip(&decoded.events) {
            self.postings.extend(self.hasher.keys(&event.fields).map(|key| (key, id)));
        }
    }

    /// Queues the rows of a ledger, which [`check`](HotIndexWriter::check) has found no fault with.
    fn queue(&mut self, decoded: &Decoded<'_>, laps: &mut Laps) -> Result<()> {
        let seq = decoded.seq.0.to_be_bytes();
        self.batch.clear();

        laps.enter(Phase::Ledgers);
        self.faults.at(Phase::Ledgers)?;
        self.batch.put(LEDGERS, &seq, self.packer.packed());

        laps.enter(Phase::TxHash);
        self.faults.at(Phase::TxHash)?;
        decoded.hashes().for_each(|hash| self.batch.put(TXHASH, &hash.0, &seq));

        laps.enter(Phase::EventsData);
        self.faults.at(Phase::EventsData)?;
        for (id, event) in (self.index.event_count()..=u32::MAX).zip(&decoded.events) {
            self.record.clear();
            EventRecord::of(decoded.seq, decoded.closed_at, event).encode(&mut self.record)?;
            self.batch.put(EVENTS_DATA, &id.to_be_bytes(), &self.record);
        }

        laps.enter(Phase::EventsIndex);
        self.faults.at(Phase::EventsIndex)?;
        self.postings
            .iter()
            .for_each(|(term, id)| self.batch.put(EVENTS_INDEX, &posting_key(term, *id), b""));

        laps.enter(Phase::EventsOffsets);
        self.faults.at(Phase::EventsOffsets)?;
        // Checked to be a number of events that there can be.
        let events = decoded.events.len() as u32;
        self.batch.put(EVENTS_OFFSETS, &seq, &events.to_be_bytes());
        Ok(())
    }
}

impl HotChunk {
    /// Commits the next ledger: when this returns without error, all of it is there, durable, and shown to readers.
    ///
    /// # Errors
    /// [`Error::TooLarge`], [`Error::Decode`], [`Error::Gap`], [`Error::Repeat`], [`Error::OutOfChunk`] for a ledger that
    /// is refused; [`Error::Store`] with [`DiskFull`](icecore_rockstore::Error::DiskFull) and the like when the write
    /// failed: the same call goes on from there once the trouble is over. In every case nothing of the ledger is
    /// there for anyone to read, and what was committed before is.
    pub fn commit(&self, raw: &[u8], decoder: &dyn Decoder) -> Result<Committed, CommitFailed> {
        let mut laps = Laps::start();
        match self.try_commit(raw, decoder, &mut laps) {
            Ok(seq) => Ok(Committed { seq, report: laps.end() }),
            Err(error) => Err(laps.fail(error)),
        }
    }

    fn try_commit(&self, raw: &[u8], decoder: &dyn Decoder, laps: &mut Laps) -> Result<LedgerSeq> {
        let writer = &mut *self.writer()?;
        // An earlier write that is still in trouble counts as this one's.
        laps.enter(Phase::Commit);
        self.settle(writer, decoder)?;
        // Waiting for another's turn, and mending, does not.
        *laps = Laps::start();
        writer.faults.at(Phase::Decode)?;
        let decoded = self.decode(writer, raw, decoder)?;
        let events = decoded.events.len();
        writer.collect_postings(&decoded);
        writer.index.check(decoded.seq, events, &writer.postings)?;

        laps.enter(Phase::Compress);
        writer.faults.at(Phase::Compress)?;
        writer.packer.pack(raw).map_err(|e| self.shared.refused("compress a ledger", &e))?;
        writer.queue(&decoded, laps)?;
        laps.report.raw_bytes = raw.len();
        laps.report.packed_bytes = writer.packer.packed().len();
        (laps.report.batch_bytes, laps.report.rows) = (writer.batch.len_bytes(), writer.batch.rows());
        (laps.report.transactions, laps.report.events) = (decoded.transactions.len(), events);

        laps.enter(Phase::Commit);
        writer.unsettled = true;
        writer.faults.at(Phase::Commit)?;
        self.store.write(&writer.batch)?;

        laps.enter(Phase::Apply);
        writer.faults.at(Phase::Apply)?;
        writer.index.append(decoded.seq, events, &writer.postings)?;
        writer.unsettled = false;
        Ok(decoded.seq)
    }

    /// Decodes a ledger, which must be the one that is due.
    fn decode<'a>(&self, writer: &Writer, raw: &'a [u8], decoder: &dyn Decoder) -> Result<Decoded<'a>> {
        let (path, chunk, expected) = (self.path().to_path_buf(), self.chunk(), writer.expected());
        if raw.len() > MAX_LEDGER_BYTES {
            let (len_bytes, max_bytes) = (raw.len() as u64, MAX_LEDGER_BYTES as u64);
            return Err(Error::TooLarge { path, expected, len_bytes, max_bytes });
        }
        let decoded = match decoder.decode(raw) {
            Ok(decoded) => decoded,
            Err(source) => return Err(Error::Decode { path, expected, source }),
        };
        let found = decoded.seq;
        match found.cmp(&expected) {
            _ if !chunk.contains(found) => Err(Error::OutOfChunk { path, chunk, found }),
            Ordering::Less => Err(Error::Repeat { path, expected, found }),
            Ordering::Greater => Err(Error::Gap { path, expected, found }),
            // The chunk that ends with the last number of all is full.
            Ordering::Equal if writer.index.next_ledger().is_none() => {
                Err(Error::Repeat { path, expected, found })
            }
            Ordering::Equal => Ok(decoded),
        }
    }

    /// Removes every ledger above `seq`, and says how many those were. When this returns without error, they are gone for
    /// good; views taken before are [`Error::Overtaken`].
    ///
    /// # Errors
    /// [`Error::Store`] when the write failed: then all ledgers are there, or none of those above `seq`, and the next call
    /// that changes anything finds out which. [`Error::Corrupt`] where a stored ledger is damaged; then nothing was changed.
    pub fn truncate_after(&self, seq: LedgerSeq, decoder: &dyn Decoder) -> Result<u32> {
        let writer = &mut *self.writer()?;
        self.settle(writer, decoder)?;
        let Some(last) = writer.shown().filter(|last| *last > seq) else { return Ok(0) };
        let first = self.chunk().first.max(LedgerSeq(seq.0.saturating_add(1)));
        let reader = self.store.reader()?;
        let ids = writer.index.index().view().ids_from(first);
        self.queue_removal(writer, &reader, (first, last), ids, decoder)?;
        drop(reader);

        self.shared.change();
        writer.unsettled = true;
        let written = writer.faults.at(Phase::Commit).and_then(|()| Ok(self.store.write(&writer.batch)?));
        let written = written.and_then(|()| writer.faults.at(Phase::Apply));
        if written.is_ok() {
            writer.index.trim(LedgerSeq(first.0 - 1));
            writer.unsettled = false;
        }
        self.shared.change();
        written.map(|()| last.0 - first.0 + 1)
    }

    /// Queues the removal of all rows of some ledgers, the first of whose events has this id.
    fn queue_removal(
        &self,
        writer: &mut Writer,
        reader: &Reader,
        (first, last): (LedgerSeq, LedgerSeq),
        mut id: u32,
        decoder: &dyn Decoder,
    ) -> Result<()> {
        let Writer { batch, hasher, .. } = writer;
        let mut unpacker = Decompressor::new().map_err(|e| self.shared.refused("unpack ledgers", &e))?;
        let mut raw = Vec::new();
        batch.clear();
        for seq in (first.0..=last.0).map(LedgerSeq) {
            view::read_ledger(&self.shared, reader, seq, &mut unpacker, &mut raw)?;
            let decoded = decoder.decode(&raw);
            let decoded = decoded.map_err(|e| self.shared.corrupt(format!("stored ledger {seq}: {e}")))?;
            batch.delete(LEDGERS, &seq.0.to_be_bytes());
            batch.delete(EVENTS_OFFSETS, &seq.0.to_be_bytes());
            decoded.hashes().for_each(|hash| batch.delete(TXHASH, &hash.0));
            for event in &decoded.events {
                batch.delete(EVENTS_DATA, &id.to_be_bytes());
                hasher
                    .keys(&event.fields)
                    .for_each(|term| batch.delete(EVENTS_INDEX, &posting_key(&term, id)));
                id =
                    id.checked_add(1).ok_or_else(|| self.shared.corrupt("more events than there are ids"))?;
            }
        }
        Ok(())
    }

    /// After a write that failed: makes the store writable again, and rows and index agree.
    fn settle(&self, writer: &mut Writer, decoder: &dyn Decoder) -> Result<()> {
        if writer.unsettled {
            self.shared.change();
            let settled = self.settle_rows(writer, decoder);
            self.shared.change();
            settled?;
            writer.unsettled = false;
        }
        Ok(())
    }

    fn settle_rows(&self, writer: &mut Writer, decoder: &dyn Decoder) -> Result<()> {
        self.store.recover()?;
        let reader = self.store.reader()?;
        let (stored, shown) = (view::last_ledger(&self.shared, &reader)?, writer.shown());
        match (stored.cmp(&shown), stored) {
            (Ordering::Equal, _) => {}
            // A commit whose batch was kept though its write failed. It was refused, so it goes.
            (Ordering::Greater, Some(last)) => {
                let (next, ids) = (writer.expected(), writer.index.event_count());
                self.queue_removal(writer, &reader, (next, last), ids, decoder)?;
                drop(reader);
                self.store.write(&writer.batch)?;
            }
            // A truncation likewise: it was done.
            (_, last) => writer.index.trim(last.unwrap_or(LedgerSeq(self.chunk().first.0 - 1))),
        }
        Ok(())
    }
}
