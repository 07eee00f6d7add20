//! `icecore ingest`: follows a source, ledger by ledger, into hot chunks.

use std::{
    sync::{
        Arc,
        atomic::Ordering::Relaxed,
        mpsc::{Receiver, RecvTimeoutError},
    },
    time::{Duration, Instant},
};

use icecore_cold::{Control, Inventory, Layout, Manifest, StoreLock};
use icecore_diskio::{Disk, RealDisk};
use icecore_hotchunk::{CommitReport, Committed, HotChunk, HotOptions, Phase};
use icecore_ledger::{ChunkId, Geometry, LedgerRange, LedgerSeq, Source};
use icecore_stellar::{StellarDecoder, source::OpenedSource};
use serde_json::json;

use crate::{
    args::Ingest,
    fail::{Fail, Outcome},
    history::{hot_chunks, with_progress},
    output::{Output, human_bytes, human_count},
    progress::Progress,
};

/// The lock file of whoever ingests.
const INGESTING: &str = ".ingesting";

/// How often a source that has come to its end is asked for more.
const ASK_AGAIN: Duration = Duration::from_secs(1);

pub(crate) fn run(args: &Ingest, out: &Output) -> Outcome {
    let OpenedSource { source, network_passphrase } = icecore_stellar::source::open(&args.source)?;
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let layout = Layout::new(&args.data);
    crate::daemon::refuse_kept(&layout)?;
    let geometry = Manifest::geometry_for(&*disk, &layout, args.ledgers_per_chunk, args.chunks_per_window)?;
    let (control, stopped) = crate::stoppable()?;
    disk.create_dir_all(layout.root())?;
    let _lock = StoreLock::take(&disk, &layout, INGESTING)?;
    Manifest { geometry, network: args.network.clone().or(network_passphrase) }.pin(&disk, &layout)?;
    let mut ingest = Ingestion {
        source: &*source,
        layout: &layout,
        geometry,
        open: None,
        pace: Pace { every: Duration::from_millis(args.pace), due: Instant::now(), stopped },
        control: &control,
        tally: Tally::default(),
        out,
    };
    let first = ingest.first(args, &*disk)?;
    ingest.follow(first, args)?;
    let Ingestion { open, tally, .. } = ingest;
    if let Some((_, chunk)) = open {
        end(&chunk)?;
    }
    tally.print(first, out)?;
    match control.is_cancelled() {
        false => Ok(()),
        true => Err(Fail::Interrupted(
            "stopped on request; what was committed is kept, the same command goes on from there".to_owned(),
        )),
    }
}

/// The work, and where it is.
struct Ingestion<'a> {
    source: &'a dyn Source,
    layout: &'a Layout,
    geometry: Geometry,
    open: Option<(ChunkId, HotChunk)>,
    pace: Pace,
    control: &'a Arc<Control>,
    tally: Tally,
    out: &'a Output,
}

impl Ingestion<'_> {
    /// The ledger to begin with: after the last one that is there; in a new store, the first of the first chunk that the
    /// source has from its beginning.
    fn first(&mut self, args: &Ingest, disk: &dyn Disk) -> Outcome<LedgerSeq> {
        let frozen = Inventory::scan(disk, self.layout)?.reach(&self.geometry);
        let mut last = frozen.last().map(|range| range.last);
        if let Some(&chunk) = hot_chunks(disk, self.layout)?.last() {
            let hot = self.chunk(chunk)?;
            last = last.max(hot.max_committed()?);
            // A hot chunk without a ledger is one that was being begun.
            let before = || LedgerSeq(hot.chunk().first.0 - 1);
            last = last.or_else(|| Some(before()));
        }
        let next = match last {
            Some(last) => LedgerSeq(last.0.saturating_add(1)),
            None => self.first_of_a_chunk(args)?,
        };
        match args.from {
            Some(from) if last.is_some() && from > next => Err(Fail::Usage(format!(
                "--from {from}: the store goes on with ledger {next}; leave --from out, or use another directory"
            ))),
            _ => Ok(next),
        }
    }

    fn first_of_a_chunk(&self, args: &Ingest) -> Outcome<LedgerSeq> {
        let from = match args.from {
            Some(from) => from,
            None => {
                let _progress = Progress::watch(self.control, "looking through the source");
                self.source.range()?.first
            }
        };
        let of = self.geometry.chunk_of(from).unwrap_or(ChunkId(0));
        let mut chunks = [of, ChunkId(of.0.saturating_add(1))].into_iter();
        let first =
            chunks.find_map(|chunk| Some(self.geometry.ledgers_of(chunk)?.first).filter(|f| *f >= from));
        first.ok_or_else(|| Fail::Usage(format!("no chunk begins at ledger {from} or after it")))
    }

    /// Commits ledger after ledger until the source, or whoever started this, says it is enough.
    fn follow(&mut self, first: LedgerSeq, args: &Ingest) -> Outcome {
        let mut next = first;
        loop {
            let has = {
                let _progress = Progress::watch(self.control, "looking through the source");
                self.source.range()?
            };
            let last = args.to.map_or(has.last, |to| to.min(has.last));
            if next <= last {
                next = self.stream(LedgerRange { first: next, last })?;
            }
            let is_done = !args.follow || args.to.is_some_and(|to| next > to);
            if is_done || self.control.is_cancelled() || self.pace.wait(ASK_AGAIN) {
                return Ok(());
            }
        }
    }

    /// Commits the ledgers of a range, and gives the one that is next.
    fn stream(&mut self, ledgers: LedgerRange) -> Outcome<LedgerSeq> {
        self.control.total.store(u64::from(ledgers.last.0 - ledgers.first.0) + 1, Relaxed);
        self.control.done.store(0, Relaxed);
        self.control.bytes.store(0, Relaxed);
        let _progress = Progress::watch(self.control, "ingesting");
        let source = self.source;
        let mut stream = source.stream(ledgers)?;
        let mut next = ledgers.first;
        while !self.control.is_cancelled() && !self.pace.until_due() {
            let Some(raw) = stream.next_ledger()? else { break };
            let chunk = self.geometry.chunk_of(raw.seq);
            let chunk = chunk.ok_or_else(|| Fail::Usage(format!("ledger {} is of no chunk", raw.seq)))?;
            let committed = self.chunk(chunk)?.commit(raw.bytes, &StellarDecoder);
            let committed = committed.map_err(icecore_hotchunk::Error::from)?;
            self.control.done.fetch_add(1, Relaxed);
            self.control.bytes.fetch_add(raw.bytes.len() as u64, Relaxed);
            self.tally.add(&committed);
            if self.out.json {
                self.out.value(&acknowledged(chunk, &committed))?;
            }
            next = LedgerSeq(raw.seq.0.saturating_add(1));
        }
        Ok(next)
    }

    /// A hot chunk to commit to, made where there is none. The one before is closed, and stays as it is.
    fn chunk(&mut self, chunk: ChunkId) -> Outcome<&HotChunk> {
        if self.open.as_ref().is_none_or(|(open, _)| *open != chunk) {
            if let Some((_, full)) = self.open.take() {
                end(&full)?;
            }
            let ledgers = self.geometry.ledgers_of(chunk);
            let ledgers = ledgers.ok_or(icecore_cold::Error::ChunkOutOfRange { chunk })?;
            let path = self.layout.hot_chunk(chunk);
            let opened = if path.exists() {
                with_progress(|progress| {
                    HotChunk::open_with_progress(&path, ledgers, &HotOptions::default(), progress)
                })?
            } else {
                RealDisk.create_dir_all(&self.layout.hot_dir())?;
                HotChunk::create(&path, ledgers, &HotOptions::default())?
            };
            self.open = Some((chunk, opened));
        }
        match &self.open {
            Some((_, chunk)) => Ok(chunk),
            None => Err(Fail::Usage(format!("chunk {chunk} is not open"))),
        }
    }
}

/// Closes a chunk in such a way that opening it has no log to replay.
fn end(chunk: &HotChunk) -> Outcome {
    chunk.flush()?;
    chunk.close();
    Ok(())
}

/// One ledger in so much time, and an ear for whoever wants to stop.
struct Pace {
    every: Duration,
    due: Instant,
    stopped: Receiver<()>,
}

impl Pace {
    /// Waits until the next ledger is due; true when it was told to stop meanwhile.
    fn until_due(&mut self) -> bool {
        let now = Instant::now();
        let wait = self.due.saturating_duration_since(now);
        // Whoever is late does not hurry after.
        self.due = self.due.max(now) + self.every;
        !wait.is_zero() && self.wait(wait)
    }

    fn wait(&self, time: Duration) -> bool {
        self.stopped.recv_timeout(time) != Err(RecvTimeoutError::Timeout)
    }
}

/// What `--json` prints for each ledger, once it is durable.
fn acknowledged(chunk: ChunkId, committed: &Committed) -> serde_json::Value {
    let report = &committed.report;
    json!({
        "ledger": committed.seq.0,
        "chunk": chunk.0,
        "transactions": report.transactions,
        "events": report.events,
        "raw_bytes": report.raw_bytes,
        "commit_us": report.time(Phase::Commit).as_micros() as u64,
        "total_us": report.total().as_micros() as u64,
    })
}

/// What was committed.
#[derive(Default)]
struct Tally {
    ledgers: u64,
    transactions: u64,
    events: u64,
    raw_bytes: u64,
    total: Vec<u32>,
    commit: Vec<u32>,
    seconds: f64,
}

impl Tally {
    fn add(&mut self, committed: &Committed) {
        let report: &CommitReport = &committed.report;
        let micros = |time: Duration| u32::try_from(time.as_micros()).unwrap_or(u32::MAX);
        self.ledgers += 1;
        self.transactions += report.transactions as u64;
        self.events += report.events as u64;
        self.raw_bytes += report.raw_bytes as u64;
        self.total.push(micros(report.total()));
        self.commit.push(micros(report.time(Phase::Commit)));
        self.seconds += report.total().as_secs_f64();
    }

    fn print(mut self, first: LedgerSeq, out: &Output) -> Outcome {
        // With --json every ledger had its line.
        if out.json {
            return Ok(());
        }
        if self.ledgers == 0 {
            return Ok(out.line(format!("nothing to do: the store goes on with ledger {first}"))?);
        }
        let last = u64::from(first.0) + self.ledgers - 1;
        out.line(format!(
            "{} ledgers {first} to {last} committed ({}), {} transactions, {} events, in {:.1} s of work",
            out.green("done"),
            human_bytes(self.raw_bytes),
            human_count(self.transactions),
            human_count(self.events),
            self.seconds,
        ))?;
        for (what, times) in [("each", &mut self.total), ("of it the synced write", &mut self.commit)] {
            times.sort_unstable();
            let at = |share: usize| f64::from(times[(times.len() - 1) * share / 1000]) / 1e3;
            out.line(format!(
                "     {what}: half within {:.2} ms, 99 % within {:.2} ms, 99.9 % within {:.2} ms",
                at(500),
                at(990),
                at(999)
            ))?;
        }
        Ok(())
    }
}
