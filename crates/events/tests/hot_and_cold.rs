//! The same events, hot and cold: the same answers to the same questions, page by page.
#![allow(clippy::unwrap_used)]

mod common;

use std::{ops::Range, path::Path};

use common::{FIRST, memory, paths, records, toy, toy::Toy, toy::word, write};
use icecore_events::{
    ChunkEvents, Error, EventCounts, EventRecord, EventStore, Filter, HotIndexWriter, HotView, Options,
    Order, Position, Query, Result, RoaringBitmap, TermHasher, TermKey, Visit, search,
};
use icecore_ledger::{LedgerRange, LedgerSeq};
use icecore_testkit::SplitMix64;
use proptest::prelude::*;

/// What a hot store is to a search: a view of its index, and records by id.
struct Hot {
    view: HotView,
    records: Vec<Vec<u8>>,
}

impl EventStore for Hot {
    type Error = Error;

    fn path(&self) -> &Path {
        Path::new("hot/00000001")
    }

    fn counts(&self) -> Result<&dyn EventCounts> {
        Ok(&self.view)
    }

    fn term_ids(&self, key: &TermKey, within: Range<u32>) -> Result<RoaringBitmap> {
        Ok(self.view.term_ids(key, within))
    }

    fn read(&self, ids: &[u32], visit: &mut Visit<'_, Error>) -> Result<()> {
        ids.iter().try_for_each(|&id| visit(id, &self.records[id as usize]))
    }
}

/// The first `ledgers` of a hot store that goes on after them.
fn hot(ledgers: &[toy::Ledger], whole: usize) -> Hot {
    let mut writer = HotIndexWriter::new("hot/00000001", FIRST);
    let (mut hasher, mut records) = (TermHasher::default(), Vec::new());
    let mut view = writer.index().view();
    for (index, ledger) in ledgers.iter().enumerate() {
        let events = ledger.events();
        let mut postings = Vec::new();
        for (id, event) in (writer.event_count()..).zip(&events) {
            postings.extend(hasher.keys(&event.fields).map(|key| (key, id)));
            let mut record = Vec::new();
            EventRecord::of(ledger.seq, ledger.closed_at, event).encode(&mut record).unwrap();
            records.push(record);
        }
        writer.append(ledger.seq, events.len(), &postings).unwrap();
        if index + 1 == whole {
            view = writer.index().view();
        }
    }
    Hot { view, records }
}

fn queries() -> impl Strategy<Value = Query> {
    let value = || prop::option::weighted(0.4, (0u64..4).prop_map(word));
    let filter = (value(), [value(), value(), value(), value()])
        .prop_map(|(contract, topics)| Filter { contract, topics });
    let ledger = FIRST.0 - 2..FIRST.0 + 14;
    let position =
        (ledger.clone(), 0u32..6, 0u32..6, 0u32..6).prop_map(|(ledger, tx_index, op_index, event_index)| {
            Position { ledger: LedgerSeq(ledger), tx_index, op_index, event_index }
        });
    let ledgers =
        (ledger.clone(), ledger).prop_map(|(a, b)| LedgerRange::new(LedgerSeq(a), LedgerSeq(b)).ok());
    let order = prop_oneof![Just(Order::Ascending), Just(Order::Descending)];
    let limit = prop_oneof![Just(0), Just(1), Just(7), Just(usize::MAX)];
    let after = prop::option::of(position);
    (prop::collection::vec(filter, 0..4), prop_oneof![Just(None), ledgers], order, after, limit)
        .prop_map(|(filters, ledgers, order, after, limit)| Query { filters, ledgers, order, after, limit })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn hot_and_cold_answer_alike(
        seed in any::<u64>(),
        whole in 0usize..12,
        more in 0usize..3,
        max_events in prop_oneof![Just(3u64), Just(40), Just(300)],
        queries in prop::collection::vec(queries(), 20),
    ) {
        let mut rng = SplitMix64::new(seed);
        let ledgers = toy::ledgers(FIRST, (whole + more) as u32, max_events, &mut |bound| rng.below(bound));
        let disk = memory();
        write(&disk, &ledgers[..whole], Options::new()).unwrap();
        let (cold, hot) = (ChunkEvents::open(&disk, &paths()), hot(&ledgers, whole));
        prop_assert_eq!(hot.view.event_count() as usize, records(&ledgers[..whole]).len());
        for mut query in queries {
            for _page in 0..4 {
                let found = search(&hot, &query, &Toy).unwrap();
                prop_assert_eq!(&found, &cold.query(&query, &Toy).unwrap());
                let Some(last) = found.last() else { break };
                query.after = Some(last.position());
            }
        }
    }
}

#[test]
fn hot_damage_is_reported_like_cold() {
    let mut rng = SplitMix64::new(3);
    let ledgers = toy::ledgers(FIRST, 5, 20, &mut |bound| rng.below(bound));
    let all = Query { limit: usize::MAX, ..Query::default() };
    let filtered = Query { filters: vec![Filter::any().contract(word(1))], ..all.clone() };

    let mut misplaced = hot(&ledgers, 5);
    misplaced.records.rotate_left(15);
    for query in [&all, &filtered] {
        let error = search(&misplaced, query, &Toy).unwrap_err();
        assert!(
            matches!(&error, Error::Corrupt { path, .. } if path == Path::new("hot/00000001")),
            "{error}"
        );
    }

    let mut undecodable = hot(&ledgers, 5);
    let id = undecodable.view.term_ids(&TermKey::new(0, &word(1)), 0..u32::MAX).min().unwrap();
    let mut record = EventRecord::decode(&undecodable.records[id as usize]).unwrap().into_owned();
    record.body = vec![9];
    let stored = &mut undecodable.records[id as usize];
    stored.clear();
    record.encode(stored).unwrap();
    assert!(search(&undecodable, &all, &Toy).is_ok());
    let error = search(&undecodable, &filtered, &Toy).unwrap_err();
    assert!(matches!(error, Error::Body { id: found, .. } if found == id), "{error}");
}
