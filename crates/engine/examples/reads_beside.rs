//! Reads while everything moves: `reads_beside [SECONDS] [READERS] [DIR]`, 600 and 2 where nothing is said.
//!
//! Generated ledgers are ingested in tiny chunks, which are frozen, indexed, discarded and, by a short retention, pruned.
//! Readers ask for transactions by hash, for pages of ledgers and for events, and hold each answer against the generator.
//! Ends with an error when a single one is wrong, missing or torn.

#![allow(clippy::print_stdout, clippy::unwrap_used, clippy::panic)]

mod common;

use std::{
    collections::BTreeMap,
    process::ExitCode,
    sync::{
        Arc, Mutex, RwLock,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    thread,
    time::{Duration, Instant},
};

use common::{Book, Growing, Took, quantiles};
use icecore_engine::{Engine, EngineConfig, Error, Span, View};
use icecore_events::{EventRecord, Filter, Order};
use icecore_ledger::{Decoder, Geometry, LedgerRange, LedgerSeq, TxHash};
use icecore_stellar::{StellarDecoder, source::Generator};
use icecore_testkit::SplitMix64;

const GEOMETRY: (u32, u32) = (10, 4);
const KEPT: u32 = 12;
/// From one ledger to the next: so that there are quiet moments between rebuilds.
const PACE: Duration = Duration::from_millis(25);
const KINDS: [&str; 3] = ["hash", "range", "events"];
const MOMENTS: [&str; 4] = ["before", "freezing", "rebuild", "after"];

/// What is in a ledger.
struct Truth {
    raw: Vec<u8>,
    hashes: Vec<TxHash>,
    /// Each with its contract.
    events: Vec<(Option<Vec<u8>>, EventRecord)>,
}

struct Truths {
    source: Arc<Growing>,
    known: RwLock<BTreeMap<u32, Arc<Truth>>>,
}

impl Truths {
    fn of(&self, seq: u32) -> Arc<Truth> {
        let known = self.known.read().unwrap().get(&seq).map(Arc::clone);
        known.unwrap_or_else(|| {
            let raw = self.source.raw(seq);
            let ledger = StellarDecoder.decode(&raw).unwrap();
            let record = |event| EventRecord::of(ledger.seq, ledger.closed_at, event).into_owned();
            let contract = |event: &icecore_ledger::Event<'_>| event.fields.contract.map(<[u8]>::to_vec);
            let events = ledger.events.iter().map(|event| (contract(event), record(event))).collect();
            let hashes = ledger.hashes().collect();
            let truth = Arc::new(Truth { hashes, events, raw });
            self.known.write().unwrap().insert(seq, Arc::clone(&truth));
            truth
        })
    }
}

/// An answer: of which kind, when it was asked for, and how long it took.
type Answer = (usize, Instant, Duration);

struct Reader<'a> {
    engine: &'a Engine,
    truths: &'a Truths,
    rng: SplitMix64,
    answers: Vec<Answer>,
}

impl Reader<'_> {
    fn below(&mut self, end: u32) -> u32 {
        self.rng.below(u64::from(end)) as u32
    }

    /// Asks for something; what is not right comes back as text.
    fn ask(&mut self) -> Result<(), String> {
        let kind = self.below(3) as usize;
        let begun = Instant::now();
        let view = self.engine.view();
        let took = begun.elapsed();
        let range = view.range().map_err(|e| e.to_string())?;
        let seq = range.first.0 + self.below(range.last.0 - range.first.0 + 1);
        let more = match kind {
            0 => self.hash(&view, range, seq),
            1 => self.range(&view, range, seq),
            _ => self.events(&view, range, seq),
        };
        let more = more.map_err(|what| format!("{} {seq} of {view:?}: {what}", KINDS[kind]))?;
        self.answers.push((kind, begun, took + more));
        Ok(())
    }

    fn hash(&mut self, view: &View, range: LedgerRange, seq: u32) -> Result<Duration, String> {
        // Now and then one that was pruned, and one that never was.
        let seq = if self.below(16) == 0 { 2 + self.below(range.first.0 - 1) } else { seq };
        let truth = self.truths.of(seq);
        let mut hash = truth.hashes[self.below(truth.hashes.len() as u32) as usize];
        let is_real = self.below(16) != 0;
        hash.0[31] ^= u8::from(!is_real);
        let (found, took) = timed(|| view.transaction(&hash));
        let found = found.map_err(|e| e.to_string())?.map(|found| (found.seq.0, found.raw));
        let expected = (is_real && range.contains(LedgerSeq(seq))).then(|| (seq, truth.raw.clone()));
        if found != expected {
            return Err(format!("found in {:?}", found.map(|found| found.0)));
        }
        Ok(took)
    }

    fn range(&mut self, view: &View, range: LedgerRange, seq: u32) -> Result<Duration, String> {
        if let Some(old) = range.first.0.checked_sub(1).filter(|old| *old >= 2)
            && !matches!(view.ledger(LedgerSeq(old)), Err(Error::OutOfBounds { .. }))
        {
            return Err("one below the floor is served".to_owned());
        }
        let last = range.last.0.min(seq + self.below(10));
        let span = Span { ledgers: Some(between(seq, last)), ..Span::default() };
        let (page, took) = timed(|| view.ledgers(&span, 10));
        let page = page.map_err(|e| e.to_string())?;
        let got = page.items.iter().map(|found| (found.seq.0, &found.raw));
        let truths: Vec<_> = (seq..=last).map(|seq| (seq, self.truths.of(seq))).collect();
        if !page.is_last || !got.eq(truths.iter().map(|(seq, truth)| (*seq, &truth.raw))) {
            return Err(format!("to {last}: {} ledgers, not those", page.items.len()));
        }
        Ok(took)
    }

    fn events(&mut self, view: &View, range: LedgerRange, seq: u32) -> Result<Duration, String> {
        let last = range.last.0.min(seq + self.below(30));
        let truths: Vec<_> = (seq..=last).map(|seq| self.truths.of(seq)).collect();
        let all: Vec<_> = truths.iter().flat_map(|truth| &truth.events).collect();
        let drawn = all[self.below(all.len() as u32) as usize].0.clone();
        let filters: Vec<_> = drawn.iter().map(|contract| Filter::any().contract(contract.clone())).collect();
        let order = if self.below(2) == 0 { Order::Ascending } else { Order::Descending };
        let span = Span { ledgers: Some(between(seq, last)), order, after: None };
        let (page, took) = timed(|| view.events(&span, &filters, 1000));
        let page = page.map_err(|e| e.to_string())?;
        let passing = all.iter().filter(|(contract, _)| drawn.is_none() || *contract == drawn);
        let mut expected: Vec<_> = passing.map(|(_, record)| record).collect();
        if order == Order::Descending {
            expected.reverse();
        }
        if !page.is_last || !page.items.iter().eq(expected.iter().copied()) {
            return Err(format!("to {last}: {} events in place of {}", page.items.len(), expected.len()));
        }
        Ok(took)
    }
}

fn between(first: u32, last: u32) -> LedgerRange {
    LedgerRange { first: LedgerSeq(first), last: LedgerSeq(last) }
}

fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let begun = Instant::now();
    (work(), begun.elapsed())
}

/// Which moment an answer falls into: a rebuild or a freeze that it overlaps, else the side of the nearest rebuild.
fn moment(answer: &Answer, rebuilds: &[Took], freezes: &[Took]) -> usize {
    let (_, begun, took) = *answer;
    let ended = begun + took;
    let overlaps = |all: &[Took]| {
        let next = all.partition_point(|one| one.ended < begun);
        all.get(next).is_some_and(|one| one.begun <= ended)
    };
    if overlaps(rebuilds) {
        return 2;
    }
    if overlaps(freezes) {
        return 1;
    }
    let next = rebuilds.partition_point(|one| one.ended < begun);
    let since = next.checked_sub(1).map(|last| begun - rebuilds[last].ended);
    let until = rebuilds.get(next).map(|next| next.begun - ended);
    match (since, until) {
        (Some(since), Some(until)) if since < until => 3,
        (Some(_), None) => 3,
        _ => 0,
    }
}

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let seconds: u64 = args.next().map_or(600, |arg| arg.parse().unwrap());
    let readers: u64 = args.next().map_or(2, |arg| arg.parse().unwrap());
    let dir = common::temporary(args.next());
    let book = Book::open();
    let generator: Generator =
        "gen:ledgers=10000000,txs=8,events=2,contracts=20,accounts=500".parse().unwrap();
    let source = Growing::new(Arc::new(generator), GEOMETRY.0 * KEPT + 1);
    let mut config = EngineConfig::new(dir.path());
    config.geometry = Geometry::new(GEOMETRY.0, GEOMETRY.1).unwrap();
    config.retention_chunks = KEPT;
    config.grace = Duration::from_secs(2);
    config.poll = Duration::from_millis(2);
    let engine = common::open(&config, &source);
    engine.start().unwrap();
    common::until(&engine, source.tip(), true);
    let floor = engine.view().floor().0;

    let truths = Truths { source: Arc::clone(&source), known: RwLock::default() };
    let (done, wrong, answers) = (AtomicBool::new(false), Mutex::new(Vec::new()), Mutex::new(Vec::new()));
    let (frozen, begun) = (book.freezes().len(), Instant::now());
    thread::scope(|scope| {
        for seed in 0..readers {
            let (engine, truths, done, wrong, answers) = (&engine, &truths, &done, &wrong, &answers);
            scope.spawn(move || {
                let mut reader = Reader { engine, truths, rng: SplitMix64::new(seed), answers: Vec::new() };
                while !done.load(SeqCst) {
                    if let Err(what) = reader.ask() {
                        wrong.lock().unwrap().push(what);
                    }
                }
                answers.lock().unwrap().append(&mut reader.answers);
            });
        }
        while begun.elapsed() < Duration::from_secs(seconds) {
            thread::sleep(PACE);
            source.grow_to(source.tip() + 1);
            let floor = engine.view().range().unwrap().first.0;
            truths.known.write().unwrap().retain(|seq, _| *seq >= floor);
        }
        done.store(true, SeqCst);
    });
    common::until(&engine, source.tip(), true);
    let status = engine.status();
    let (rebuilds, freezes) = (book.ops("rebuild"), book.freezes());
    let (answers, wrong) = (answers.into_inner().unwrap(), wrong.into_inner().unwrap());
    println!(
        "{} s, ledgers to {}: {} chunks frozen, {} indexes swapped, {} hot chunks discarded, {} chunks pruned",
        begun.elapsed().as_secs(),
        source.tip(),
        freezes.len() - frozen,
        rebuilds.len(),
        book.ops("discard").len(),
        engine.view().floor().0 - floor
    );
    println!(
        "{} answers checked, {} of them wrong, missing or torn",
        answers.len() + wrong.len(),
        wrong.len()
    );
    wrong.iter().take(5).for_each(|what| println!("WRONG {what}"));
    let mut times = vec![Vec::new(); KINDS.len() * MOMENTS.len()];
    for answer in &answers {
        times[answer.0 * MOMENTS.len() + moment(answer, &rebuilds, &freezes)].push(answer.2.as_secs_f32());
    }
    println!(
        "{:8} {:10} {:>10} {:>10} {:>10} {:>10}",
        "kind", "moment", "answers", "p50 us", "p99 us", "max us"
    );
    for (at, times) in times.into_iter().enumerate() {
        let (kind, moment, count) = (KINDS[at / MOMENTS.len()], MOMENTS[at % MOMENTS.len()], times.len());
        let [p50, p99, max] = quantiles(times).map(|seconds| seconds * 1e6);
        println!("{kind:8} {moment:10} {count:10} {p50:10.0} {p99:10.0} {max:10.0}");
    }
    println!(
        "errors {:?}; restarts {}; peak memory {} MiB",
        status.troubles,
        status.restarts,
        common::peak_memory_mib()
    );
    engine.shutdown().require_clean().unwrap();
    ExitCode::from(u8::from(!wrong.is_empty() || status.fatal.is_some()))
}
