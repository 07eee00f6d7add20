//! Eight readers beside a writer at full speed: nobody ever sees half a ledger.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
};

use common::{CHUNK, Forks, assert_whole};
use icecore_events::{Filter, Order, Query};
use icecore_hotchunk::{HotChunk, HotOptions};
use icecore_ledger::{Decoder, LedgerRange, LedgerSeq};
use icecore_stellar::StellarDecoder;

mod common;

const LEDGERS: u32 = 250;

/// What one reader does with a view, whose last ledger it was told.
fn read(hot: &HotChunk, reader: usize) {
    let view = hot.view().unwrap();
    let Some(last) = view.last() else { return };
    match reader % 4 {
        // By sequence, hash and filter, all of the newest ledger.
        0 => assert_whole(&view, last),
        // By hash: what is found has the ledger, and it is one of the view's.
        1 => {
            let raw = view.ledger(last).unwrap().unwrap();
            let decoded = StellarDecoder.decode(&raw).unwrap();
            for hash in decoded.hashes() {
                let found = view.transaction(&hash).unwrap().unwrap();
                assert_eq!((found.ledger, &found.raw), (last, &raw));
            }
            assert_eq!(view.ledger(LedgerSeq(last.0 + 1)).unwrap(), None);
        }
        // By filter: as many as the ledgers have, never some of one.
        2 => {
            let raw = view.ledger(last).unwrap().unwrap();
            let decoded = StellarDecoder.decode(&raw).unwrap();
            let Some(contract) = decoded.events.iter().find_map(|event| event.fields.contract) else {
                return;
            };
            let filter = Filter::any().contract(contract);
            let expected = decoded.events.iter().filter(|event| filter.matches(&event.fields)).count();
            let query =
                Query { filters: vec![filter], order: Order::Descending, limit: 1000, ..Query::default() };
            let found = view.events(&query, &StellarDecoder).unwrap();
            assert!(found.iter().all(|event| event.ledger <= last));
            let of_last = found.iter().filter(|event| event.ledger == last).count();
            assert_eq!(of_last, expected.min(1000));
        }
        // In order, without a gap.
        _ => {
            let range =
                LedgerRange { first: LedgerSeq(last.0.saturating_sub(5).max(2)), last: LedgerSeq(u32::MAX) };
            let (mut ledgers, mut expected) = (view.ledgers(range).unwrap(), range.first.0);
            while let Some((seq, raw)) = ledgers.next_ledger().unwrap() {
                assert_eq!(seq.0, expected);
                assert_eq!(StellarDecoder.decode(raw).unwrap().seq, seq);
                expected += 1;
            }
            assert_eq!(expected, last.0 + 1);
        }
    }
}

#[test]
fn readers_see_whole_ledgers_only() {
    let dir = tempfile::tempdir().unwrap();
    let hot = HotChunk::create(dir.path().join("hot"), CHUNK, &HotOptions::default()).unwrap();
    let forks = Forks::new(2, "txs=20,events=3,contracts=4");
    let (done, reads) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| {
        for reader in 0..8 {
            let (hot, done, reads) = (&hot, &done, &reads);
            scope.spawn(move || {
                while !done.load(Ordering::SeqCst) {
                    read(hot, reader);
                    reads.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        for seq in 2..2 + LEDGERS {
            hot.commit(&forks.ledger(seq, 0), &StellarDecoder).unwrap();
        }
        done.store(true, Ordering::SeqCst);
    });
    assert!(reads.into_inner() > 8);
    assert_eq!(hot.max_committed().unwrap(), Some(LedgerSeq(1 + LEDGERS)));
}

/// Another process would open it like this: without a lock, while files come and go.
#[test]
fn who_opens_for_reading_beside_the_writer_sees_whole_ledgers() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("hot");
    let hot = HotChunk::create(&path, CHUNK, &HotOptions::default()).unwrap();
    let forks = Forks::new(1, "txs=4,events=2,contracts=4");
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            for seq in 2..122 {
                hot.commit(&forks.ledger(seq, 0), &StellarDecoder).unwrap();
                if seq % 3 == 0 {
                    hot.flush().unwrap();
                }
            }
            done.store(true, Ordering::SeqCst);
        });
        let mut before = None;
        while !done.load(Ordering::SeqCst) {
            let options = HotOptions::default();
            let reading = HotChunk::open_read_only_with_events(&path, CHUNK, &options, &mut |_| {}).unwrap();
            let view = reading.view().unwrap();
            assert!(view.last() >= before);
            before = view.last();
            if let Some(last) = before {
                assert_whole(&view, last);
                let query = Query { limit: 100_000, ..Query::default() };
                let events = view.events(&query, &StellarDecoder).unwrap();
                assert_eq!(events.last().unwrap().ledger, last);
            }
        }
    });
}

#[test]
fn a_reorganisation_is_never_seen_as_a_mixture() {
    let dir = tempfile::tempdir().unwrap();
    let hot = HotChunk::create(dir.path().join("hot"), CHUNK, &HotOptions::default()).unwrap();
    let forks = Forks::new(2, "txs=5,events=2,contracts=4");
    let chains: Vec<Vec<_>> =
        (0..2).map(|fork| (2..40).map(|seq| forks.ledger(seq, fork)).collect()).collect();
    let (done, whole) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while !done.load(Ordering::SeqCst) {
                    let view = hot.view().unwrap();
                    let Some(last) = view.last() else { continue };
                    let (Ok(Some(raw)), Ok(events)) = (
                        view.ledger(last),
                        view.events(&Query { limit: 10_000, ..Query::default() }, &StellarDecoder),
                    ) else {
                        // Overtaken; anything else would be found when it is read again.
                        hot.ledger(last).unwrap();
                        continue;
                    };
                    let fork = chains.iter().position(|chain| chain[last.0 as usize - 2] == raw).unwrap();
                    let decoded: Vec<_> = chains[fork][..last.0 as usize - 1]
                        .iter()
                        .map(|raw| StellarDecoder.decode(raw).unwrap())
                        .collect();
                    let bodies = decoded.iter().flat_map(|ledger| &ledger.events).map(|event| event.body);
                    assert!(
                        events.iter().map(|event| event.body.as_slice()).eq(bodies),
                        "up to {last} of fork {fork}"
                    );
                    whole.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        for round in 0..8 {
            for raw in &chains[round % 2][..10 + round * 3] {
                hot.commit(raw, &StellarDecoder).unwrap();
            }
            hot.truncate_after(LedgerSeq(1), &StellarDecoder).unwrap();
        }
        done.store(true, Ordering::SeqCst);
    });
    assert!(whole.into_inner() > 0);
}
