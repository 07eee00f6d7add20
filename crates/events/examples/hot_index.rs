//! Fills a hot index with a full chunk of made-up events, and says what that costs at its start, middle and end, what it
//! costs to look at it, and how fast it is filled from stored rows.
//!
//! ```text
//! cargo run --release -p icecore-events --example hot_index -- [ledgers] [events per ledger] [accounts]
//! ```
#![allow(clippy::print_stdout)]

use std::{
    env,
    error::Error,
    hint::black_box,
    time::{Duration, Instant},
};

use icecore_events::{EventCounts, HotIndex, HotIndexLoader, HotIndexWriter, TermKey};
use icecore_ledger::LedgerSeq;
use icecore_testkit::SplitMix64;

const FIRST: LedgerSeq = LedgerSeq(2);
const EVERY_EVENT: TermKey = TermKey([1; 16]);
/// One event in so many has a term of its own.
const FRESH: u32 = 20;

/// Makes the terms of ledgers: one that every event has, one of twenty contracts, two of many accounts, and now and then
/// one that is new.
struct Chain {
    rng: SplitMix64,
    accounts: u64,
    postings: Vec<(TermKey, u32)>,
}

fn numbered(kind: u64, number: u64) -> TermKey {
    TermKey(SplitMix64::new(kind << 40 | number).key())
}

impl Chain {
    fn ledger(&mut self, first_id: u32, events: u32) -> &[(TermKey, u32)] {
        self.postings.clear();
        for id in first_id..first_id + events {
            let [contract, from, to] = [20, self.accounts, self.accounts].map(|bound| self.rng.below(bound));
            let keys = [EVERY_EVENT, numbered(1, contract), numbered(2, from), numbered(3, to)];
            self.postings.extend(keys.map(|key| (key, id)));
            if id % FRESH == 0 {
                self.postings.push((numbered(4, u64::from(id)), id));
            }
        }
        &self.postings
    }

    fn keys(&self, events: u32) -> Vec<TermKey> {
        let fresh = (0..events).step_by(FRESH as usize).map(|id| numbered(4, u64::from(id)));
        let accounts = (0..self.accounts).flat_map(|number| [numbered(2, number), numbered(3, number)]);
        let mut keys: Vec<_> =
            (0..20).map(|number| numbered(1, number)).chain(accounts).chain(fresh).collect();
        keys.push(EVERY_EVENT);
        keys.sort_unstable();
        keys
    }
}

fn say(name: &str, times: &[Duration]) {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    let at = |part: f64| sorted[((sorted.len() - 1) as f64 * part) as usize];
    println!("{name:>16}: p10 {:?}, p50 {:?}, p99 {:?}, max {:?}", at(0.1), at(0.5), at(0.99), at(1.0));
}

fn time<T>(times: u32, mut work: impl FnMut() -> T) -> Duration {
    let begin = Instant::now();
    (0..times).for_each(|_| drop(black_box(work())));
    begin.elapsed() / times
}

fn look(index: &HotIndex, rare: &TermKey) {
    let view = index.view();
    let events = view.event_count();
    println!("a view: {:?}", time(1_000_000, || index.view()));
    let bitmap = view.term_ids(&EVERY_EVENT, 0..events);
    assert_eq!(bitmap.len(), u64::from(events));
    println!("a term of {} events: {:?}", bitmap.len(), time(20, || view.term_ids(&EVERY_EVENT, 0..events)));
    let latest = events.saturating_sub(5000)..events;
    println!("its last 5000: {:?}", time(1000, || view.term_ids(&EVERY_EVENT, latest.clone())));
    let few = view.term_ids(rare, 0..events).len();
    println!("a term of {few}: {:?}", time(100_000, || view.term_ids(rare, 0..events)));
}

/// Moves all terms to another index, and gives the time of filling alone.
fn reload(index: &HotIndex, keys: &[TermKey]) -> Result<(HotIndexWriter, u64, Duration), Box<dyn Error>> {
    let (view, mut loader) = (index.view(), HotIndexLoader::new("copy", FIRST));
    for seq in (FIRST.0..).take(view.ledger_count() as usize).map(LedgerSeq) {
        loader.push_ledger(seq, view.ids_of(seq).map_or(0, |ids| ids.len() as u32))?;
    }
    let (mut rows, mut spent) = (0, Duration::ZERO);
    for some in keys.chunks(1000) {
        let of =
            |key: &TermKey| view.term_ids(key, 0..u32::MAX).iter().map(|id| (*key, id)).collect::<Vec<_>>();
        let batch: Vec<_> = some.iter().flat_map(of).collect();
        rows += batch.len() as u64;
        let begin = Instant::now();
        batch.into_iter().try_for_each(|(key, id)| loader.push(key, id))?;
        spent += begin.elapsed();
    }
    Ok((loader.finish(), rows, spent))
}

fn main() -> Result<(), Box<dyn Error>> {
    let number = |n, default| env::args().nth(n).map_or(Ok(default), |text| text.parse());
    let (ledgers, events, accounts) =
        (number(1, 10_000)? as usize, number(2, 1_100)? as u32, number(3, 300_000)?);
    let mut chain = Chain { rng: SplitMix64::new(1), accounts, postings: Vec::new() };
    let mut writer = HotIndexWriter::new("hot", FIRST);
    let index = writer.index();
    println!("an empty index: {} bytes", index.heap_bytes());

    let mut times = Vec::new();
    for seq in (FIRST.0..).take(ledgers).map(LedgerSeq) {
        let postings = chain.ledger(writer.event_count(), events);
        let begin = Instant::now();
        writer.append(seq, events as usize, postings)?;
        times.push(begin.elapsed());
    }
    let part = 1000.min(ledgers / 3).max(1);
    say("first thousand", &times[..part]);
    say("middle thousand", &times[(ledgers - part) / 2..][..part]);
    say("last thousand", &times[ledgers - part..]);
    say("all", &times);

    let total = writer.event_count();
    let (terms, held) = (index.term_count(), index.heap_bytes());
    println!("{total} events, {terms} terms, {held} bytes: {} a term", held as u64 / terms.max(1));
    let keys = chain.keys(total);
    let view = index.view();
    let bitmaps = keys.iter().map(|key| view.term_ids(key, 0..total));
    let (ids, roaring) = bitmaps.fold((0, 0), |(ids, bytes), bitmap| {
        (ids + bitmap.len(), bytes + if bitmap.is_empty() { 0 } else { bitmap.serialized_size() })
    });
    println!("{ids} ids; as roaring bitmaps in files: {roaring} bytes");
    look(&index, &numbered(2, 7));

    let (mut copy, rows, spent) = reload(&index, &keys)?;
    println!(
        "{rows} rows loaded in {spent:?}: {:.1} million a second",
        rows as f64 / 1e6 / spent.as_secs_f64()
    );
    let half = LedgerSeq(FIRST.0 + ledgers as u32 / 2);
    let begin = Instant::now();
    copy.trim(half);
    println!("trimmed to ledger {half} in {:?}", begin.elapsed());
    Ok(())
}
