//! Readers beside the writer: whatever the moment, what they see ends with a whole ledger and agrees with itself.
#![allow(clippy::unwrap_used)]

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use icecore_events::{EventCounts, HotIndex, HotIndexWriter, HotView, TermKey};
use icecore_ledger::LedgerSeq;

const FIRST: LedgerSeq = LedgerSeq(2);
const EVERY_EVENT: TermKey = TermKey([1; 16]);
const EVERY_THIRD: TermKey = TermKey([3; 16]);
const LEDGERS: u32 = 600;

/// Each ledger has another number of events, all known.
fn events_of(index: u32) -> u32 {
    index * 37 % 500
}

fn end_of(ledgers: u32) -> u32 {
    (0..ledgers).map(events_of).sum()
}

/// A term that a hundred events in a row have, and no others.
fn of_hundred(number: u32) -> TermKey {
    let mut key = [9; 16];
    key[..4].copy_from_slice(&number.to_le_bytes());
    TermKey(key)
}

fn append(writer: &mut HotIndexWriter, index: u32) {
    let (first_id, events) = (writer.event_count(), events_of(index));
    let mut postings = Vec::new();
    for id in first_id..first_id + events {
        postings.extend([(EVERY_EVENT, id), (of_hundred(id / 100), id)]);
        if id % 3 == 0 {
            postings.push((EVERY_THIRD, id));
        }
    }
    writer.append(LedgerSeq(FIRST.0 + index), events as usize, &postings).unwrap();
}

/// Checks all that a view says, in the order of a reader in a hurry: terms first.
fn check(view: &HotView) {
    let all = view.term_ids(&EVERY_EVENT, 0..u32::MAX);
    let thirds = view.term_ids(&EVERY_THIRD, 0..u32::MAX);
    let end = view.event_count();
    assert_eq!(end, end_of(view.ledger_count()));
    assert_eq!((all.len(), all.max()), (u64::from(end), end.checked_sub(1)));
    let last_third = end.checked_sub(1).map(|last| last / 3 * 3);
    assert_eq!((thirds.len(), thirds.max()), (u64::from(end.div_ceil(3)), last_third));
    for number in [0, end / 300, end / 100, end / 100 + 1] {
        let ids = view.term_ids(&of_hundred(number), 0..u32::MAX);
        let expected = 100 * number..(100 * number + 100).min(end);
        assert!(ids.iter().eq(expected), "term {number} of {end} events");
    }
    if let Some(last) = view.last() {
        let ids = view.ids_of(last).unwrap();
        assert_eq!(ids, end_of(view.ledger_count() - 1)..end);
        assert!(view.term_ids(&EVERY_EVENT, ids.clone()).iter().eq(ids));
    }
}

/// Looks until the writer is done, a hundred times at least, and at views kept from long ago.
fn read(index: &HotIndex, done: &AtomicBool) {
    let mut kept = index.view();
    let mut looks = 0;
    while looks < 100 || !done.load(Ordering::Acquire) {
        let view = index.view();
        check(&view);
        looks += 1;
        if looks % 64 == 0 {
            let seen = kept.ledger_count();
            check(&kept);
            assert_eq!(kept.ledger_count(), seen);
            kept = view;
        }
    }
}

#[test]
fn every_view_ends_with_a_whole_ledger() {
    let done = AtomicBool::new(false);
    let mut writer = HotIndexWriter::new("hot", FIRST);
    let index = writer.index();
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| read(&index, &done));
        }
        for round in 0..3 {
            let kept = if round == 0 { 0 } else { LEDGERS / (round + 1) };
            writer.trim(LedgerSeq(FIRST.0 + kept - 1));
            (kept..LEDGERS).for_each(|index| append(&mut writer, index));
        }
        done.store(true, Ordering::Release);
    });
    let last = index.view();
    check(&last);
    assert_eq!(last.ledger_count(), LEDGERS);
}
