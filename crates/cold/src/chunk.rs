//! One chunk's files, from a stream of its ledgers. The ledgers flow through; what stays until the end are 20 bytes for
//! each transaction hash and the bitmaps of the event terms.

use std::{path::Path, sync::Arc};

use icecore_diskio::{Disk, IfExists};
use icecore_events::{ChunkEventsWriter, EventPaths};
use icecore_ledger::{ChunkId, Decoded, Decoder, LedgerRange, LedgerStream, RawLedger};
use icecore_txindex::{Entry, write_run};

use crate::{Control, Error, Kind, Layout, LedgerPackWriter, Result};

/// What writes a chunk's files: the one way to them, so that they are the same bytes wherever the ledgers come from.
pub struct ChunkBuild<'a> {
    /// The disk that they are written to.
    pub disk: &'a Arc<dyn Disk>,
    /// Where they lie.
    pub layout: &'a Layout,
    /// What reads the ledgers.
    pub decoder: &'a dyn Decoder,
    /// Counters, and the flag that stops the build.
    pub control: &'a Control,
    /// Threads that compress, beside the one that decodes.
    pub threads: usize,
    /// What to do where there is a pack already. The other files, which follow from it, are always replaced.
    pub if_exists: IfExists,
}

/// The counts of a chunk that was built.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChunkCounts {
    /// Its ledgers.
    pub ledgers: u64,
    /// Their raw bytes.
    pub raw_bytes: u64,
    /// Their transactions.
    pub transactions: u64,
    /// Their events.
    pub events: u64,
}

impl ChunkCounts {
    pub(crate) fn add(&mut self, other: &ChunkCounts) {
        self.ledgers += other.ledgers;
        self.raw_bytes += other.raw_bytes;
        self.transactions += other.transactions;
        self.events += other.events;
    }
}

/// The three event files of a chunk.
pub fn event_paths(layout: &Layout, chunk: ChunkId) -> EventPaths {
    EventPaths {
        events: layout.file(Kind::Events, chunk),
        index_hash: layout.file(Kind::EventTerms, chunk),
        index_pack: layout.file(Kind::EventBitmaps, chunk),
    }
}

impl ChunkBuild<'_> {
    /// Writes the wanted kinds of files of `chunk` from the next ledgers of `stream`. When this returns without error, they
    /// are sealed: they and their names are durable.
    ///
    /// # Errors
    /// [`Error::Truncated`], [`Error::Foreign`] and [`Error::Decode`] for ledgers that are missing, of another sequence, or
    /// damaged; those of the stream, the formats and the disk; [`Error::Cancelled`].
    pub fn run(
        &self,
        chunk: ChunkId,
        ledgers: LedgerRange,
        kinds: &[Kind],
        stream: &mut dyn LedgerStream,
    ) -> Result<ChunkCounts> {
        let mut files = Files::begin(self, chunk, ledgers, kinds)?;
        let mut counts = ChunkCounts::default();
        for seq in (ledgers.first.0..=ledgers.last.0).map(icecore_ledger::LedgerSeq) {
            self.control.check()?;
            let place = || format!("the source of chunk {chunk}");
            let raw = stream.next_ledger()?;
            let raw = raw.ok_or_else(|| Error::Truncated { place: place(), expected: seq })?;
            let decoded =
                self.decoder.decode(raw.bytes).map_err(|source| Error::Decode { chunk, seq, source })?;
            for found in [raw.seq, decoded.seq] {
                if found != seq {
                    return Err(Error::Foreign { place: place(), expected: seq, found });
                }
            }
            files.push(raw, &decoded)?;
            counts.add(&ChunkCounts {
                ledgers: 1,
                raw_bytes: raw.bytes.len() as u64,
                transactions: decoded.transactions.len() as u64,
                events: decoded.events.len() as u64,
            });
            self.control.advance(1, raw.bytes.len() as u64);
        }
        files.finish()?;
        Ok(counts)
    }
}

/// The files under construction.
struct Files<'a> {
    build: &'a ChunkBuild<'a>,
    chunk: ChunkId,
    pack: Option<LedgerPackWriter>,
    hashes: Option<Vec<Entry>>,
    events: Option<ChunkEventsWriter>,
}

impl<'a> Files<'a> {
    fn begin(
        build: &'a ChunkBuild<'a>,
        chunk: ChunkId,
        ledgers: LedgerRange,
        kinds: &[Kind],
    ) -> Result<Self> {
        let ChunkBuild { disk, layout, threads, .. } = build;
        for &kind in kinds {
            disk.create_dir_all(layout.file(kind, chunk).parent().unwrap_or(Path::new("")))?;
        }
        let pack = layout.file(Kind::Ledgers, chunk);
        let pack = kinds
            .contains(&Kind::Ledgers)
            .then(|| LedgerPackWriter::create(disk, &pack, ledgers.first, *threads, build.if_exists));
        // The three event files belong together: where one is missing, all are written again.
        let events =
            kinds.iter().any(|kind| matches!(kind, Kind::Events | Kind::EventBitmaps | Kind::EventTerms));
        let events = events.then(|| {
            let options = icecore_events::Options::new().concurrency(*threads).if_exists(IfExists::Replace);
            ChunkEventsWriter::create(disk, &event_paths(layout, chunk), ledgers.first, options)
        });
        let hashes = kinds.contains(&Kind::Run).then(Vec::new);
        Ok(Files { build, chunk, pack: pack.transpose()?, hashes, events: events.transpose()? })
    }

    fn push(&mut self, raw: RawLedger<'_>, decoded: &Decoded<'_>) -> Result<()> {
        if let Some(pack) = &mut self.pack {
            pack.append(raw)?;
        }
        if let Some(hashes) = &mut self.hashes {
            hashes.extend(decoded.hashes().map(|hash| Entry::new(&hash, decoded.seq)));
        }
        if let Some(events) = &mut self.events {
            events.push_ledger(decoded.seq, decoded.closed_at, &decoded.events)?;
        }
        Ok(())
    }

    /// Seals what was begun. The ledgers come last: whatever else is missing can be made from them.
    fn finish(self) -> Result<()> {
        let ChunkBuild { disk, layout, .. } = self.build;
        if let Some(mut hashes) = self.hashes {
            write_run(disk, &layout.file(Kind::Run, self.chunk), &mut hashes, IfExists::Replace)?;
        }
        if let Some(events) = self.events {
            events.finish()?;
        }
        if let Some(pack) = self.pack {
            pack.finish()?;
        }
        Ok(())
    }
}
