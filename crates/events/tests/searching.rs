//! Searches: over several chunks in pages, and with bitmaps that say too much.
#![allow(clippy::unwrap_used)]

mod common;

use common::{FIRST, ledgers, memory, paths, records, toy, toy::Toy, toy::word, write};
use icecore_events::{
    ChunkEvents, ChunkEventsWriter, Error, EventPaths, EventRecord, Filter, Options, Order, Position, Query,
    TermHasher, TermKey, TermSet, write_index,
};
use icecore_ledger::{ChunkId, Decoder, LedgerRange, LedgerSeq};
use icecore_testkit::SplitMix64;

/// What a store of many chunks does for one page.
fn page(chunks: &[ChunkEvents], query: &Query) -> Vec<EventRecord> {
    let mut found: Vec<EventRecord> = Vec::new();
    let mut ask = |chunk: &ChunkEvents| {
        let left = Query { limit: query.limit - found.len(), ..query.clone() };
        found.extend(chunk.query(&left, &Toy).unwrap());
    };
    match query.order {
        Order::Ascending => chunks.iter().for_each(&mut ask),
        Order::Descending => chunks.iter().rev().for_each(&mut ask),
    }
    found
}

#[test]
fn pages_go_on_from_chunk_to_chunk() {
    let mut rng = SplitMix64::new(5);
    let disk = memory();
    let (mut chunks, mut all) = (Vec::new(), Vec::new());
    for number in 0..4 {
        let first = LedgerSeq(2 + 10 * number);
        let ledgers = toy::ledgers(first, 10, 25, &mut |bound| rng.below(bound));
        let paths = EventPaths::new("", ChunkId(number));
        let mut writer = ChunkEventsWriter::create(&disk, &paths, first, Options::new()).unwrap();
        for ledger in &ledgers {
            writer.push_ledger(ledger.seq, ledger.closed_at, &ledger.events()).unwrap();
        }
        writer.finish().unwrap();
        all.extend(records(&ledgers));
        chunks.push(ChunkEvents::open(&disk, &paths));
    }
    for order in [Order::Ascending, Order::Descending] {
        let mut query =
            Query { filters: vec![Filter::any().contract(word(1))], order, limit: 7, ..Query::default() };
        let has = |record: &&EventRecord| query.matches(&Toy.event_fields(&record.body).unwrap());
        let mut expected: Vec<_> = all.iter().filter(has).cloned().collect();
        if order == Order::Descending {
            expected.reverse();
        }
        assert!(expected.len() > 50);
        let mut found = Vec::new();
        while found.len() <= expected.len() {
            let next = page(&chunks, &query);
            let Some(last) = next.last() else { break };
            query.after = Some(last.position());
            found.extend(next);
        }
        assert_eq!(found, expected);

        // Done with a ledger: on with the next.
        query.limit = usize::MAX;
        query.after = Some(Position::past(LedgerSeq(17), order));
        let rest = page(&chunks, &query);
        expected.retain(
            |record| if order == Order::Ascending { record.ledger.0 > 17 } else { record.ledger.0 < 17 },
        );
        assert_eq!(rest, expected);
    }
}

#[test]
fn events_that_a_bitmap_says_too_many_are_skipped() {
    let (disk, ours) = (memory(), ledgers(6, 10, 400));
    write(&disk, &ours, Options::new()).unwrap();
    let all = records(&ours);
    assert!(all.len() > 1500);
    // An index in which every term is in every event.
    let (mut terms, mut hasher) = (TermSet::new(), TermHasher::default());
    for id in 0..all.len() as u32 {
        for field in 0..5 {
            (0..4).for_each(|number| terms.add(hasher.key(field, &word(number)), id).unwrap());
        }
    }
    let paths = paths();
    let options = Options::new().if_exists(icecore_diskio::IfExists::Replace);
    write_index(&disk, &paths.index_hash, &paths.index_pack, &terms, options).unwrap();

    let chunk = ChunkEvents::open(&disk, &paths);
    for order in [Order::Ascending, Order::Descending] {
        for limit in [1, 30, usize::MAX] {
            let filters =
                vec![Filter::any().contract(word(1)).topic(0, word(2)), Filter::any().topic(1, word(3))];
            let mut query = Query { filters, order, limit, ..Query::default() };
            let has = |record: &&EventRecord| query.matches(&Toy.event_fields(&record.body).unwrap());
            let mut expected: Vec<_> = all.iter().filter(has).cloned().collect();
            if order == Order::Descending {
                expected.reverse();
            }
            assert!(expected.len() > 30);
            let after = expected[0].position();
            let rest = expected.split_off(1);
            assert_eq!(
                chunk.query(&query, &Toy).unwrap(),
                [expected, rest.clone()].concat()[..limit.min(rest.len() + 1)]
            );
            query.after = Some(after);
            assert_eq!(chunk.query(&query, &Toy).unwrap(), rest[..limit.min(rest.len())]);
        }
    }
    // More than five terms to an event.
    assert!(chunk.verify().is_err_and(|e| e.is_corrupt()));
}

#[test]
fn bounds_outside_the_chunk_are_no_error() {
    let (disk, ours) = (memory(), ledgers(6, 5, 20));
    write(&disk, &ours, Options::new()).unwrap();
    let (chunk, all) = (ChunkEvents::open(&disk, &paths()), records(&ours));
    let count = |first, last, after, order| {
        let ledgers = LedgerRange::new(LedgerSeq(first), LedgerSeq(last)).ok();
        chunk.query(&Query { ledgers, after, order, limit: 1000, ..Query::default() }, &Toy).unwrap().len()
    };
    for order in [Order::Ascending, Order::Descending] {
        assert_eq!(count(0, u32::MAX, None, order), all.len());
        assert_eq!(count(0, FIRST.0 - 1, None, order), 0);
        assert_eq!(count(FIRST.0 + 5, u32::MAX, None, order), 0);
        let (before, behind) =
            (Position::past(LedgerSeq(0), order), Position::past(LedgerSeq(u32::MAX), order));
        let expected = if order == Order::Ascending { (all.len(), 0) } else { (0, all.len()) };
        assert_eq!(
            (count(0, u32::MAX, Some(before), order), count(0, u32::MAX, Some(behind), order)),
            expected
        );
    }
}

#[test]
fn terms_are_those_of_the_events_and_no_others() {
    let (disk, ours) = (memory(), ledgers(6, 10, 60));
    write(&disk, &ours, Options::new()).unwrap();
    let (chunk, all) = (ChunkEvents::open(&disk, &paths()), records(&ours));
    let mut terms = 0;
    for field in 0..5 {
        for number in 0..60 {
            let value = word(number);
            let has =
                |body: &[u8]| Toy.event_fields(body).unwrap().terms().any(|term| term == (field, &value));
            let expected: Vec<_> =
                (0..).zip(&all).filter(|(_, event)| has(&event.body)).map(|(id, _)| id).collect();
            let ids = chunk.term(&TermKey::new(field, &value)).unwrap();
            assert_eq!(
                ids.map(|ids| ids.iter().collect()),
                (!expected.is_empty()).then_some(expected.clone())
            );
            terms += u64::from(!expected.is_empty());
        }
    }
    assert_eq!(chunk.term_count().unwrap(), terms);
}

#[test]
fn a_bitmap_with_events_beyond_the_last_is_refused() {
    let (disk, ours) = (memory(), ledgers(6, 3, 20));
    write(&disk, &ours, Options::new()).unwrap();
    let (key, events) = (TermKey::new(0, &word(1)), records(&ours).len() as u32);
    let options = Options::new().if_exists(icecore_diskio::IfExists::Replace);
    for (id, right) in [(events - 1, true), (events, false), (u32::MAX - 1, false)] {
        let mut terms = TermSet::new();
        terms.add(key, 0).unwrap();
        terms.add(key, id).unwrap();
        write_index(&disk, &paths().index_hash, &paths().index_pack, &terms, options).unwrap();
        let chunk = ChunkEvents::open(&disk, &paths());
        let query = Query { filters: vec![Filter::any().contract(word(1))], ..Query::default() };
        for (what, result) in [
            ("term", chunk.term(&key).map(drop)),
            ("query", chunk.query(&query, &Toy).map(drop)),
            ("verify", chunk.verify()),
        ] {
            assert_eq!(result.is_ok(), right, "{what} with {id}");
            assert!(result.is_ok() || result.is_err_and(|e| matches!(e, Error::Corrupt { .. })));
        }
    }
}
