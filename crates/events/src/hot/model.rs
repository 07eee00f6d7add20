//! Every order in which a writer and a reader can run, within a bound on how often one interrupts the other.
//!
//! ```text
//! RUSTFLAGS="--cfg loom" cargo test --release -p icecore-events --lib hot::model
//! ```

use icecore_ledger::LedgerSeq;
use loom::{model::Builder, thread};

use super::{HotIndexWriter, HotView};
use crate::{EventCounts, TermKey};

const EVERY_EVENT: TermKey = TermKey([1; 16]);
const FIRST: LedgerSeq = LedgerSeq(2);

fn own(id: u32) -> TermKey {
    TermKey([2 + id as u8; 16])
}

/// A ledger of some events, each with a term of its own and the one that all have.
fn append(writer: &mut HotIndexWriter, events: u32) {
    let first_id = writer.event_count();
    let ids = first_id..first_id + events;
    let postings: Vec<_> = ids.flat_map(|id| [(EVERY_EVENT, id), (own(id), id)]).collect();
    writer.append(writer.next_ledger().unwrap(), events as usize, &postings).unwrap();
}

fn check(view: &HotView, ends: &[u32]) {
    let end = view.event_count();
    assert_eq!(Some(&end), ends.get(view.ledger_count() as usize));
    assert!(view.term_ids(&EVERY_EVENT, 0..u32::MAX).iter().eq(0..end));
    if let Some(last) = end.checked_sub(1) {
        assert!(view.term_ids(&own(last), 0..u32::MAX).iter().eq([last]));
    }
    assert!(view.term_ids(&own(end), 0..u32::MAX).is_empty(), "of the ledger after the view");
}

fn beside(
    before: &'static [u32],
    write: impl Fn(&mut HotIndexWriter) + Copy + Send + Sync + 'static,
    ends: &'static [u32],
) {
    let mut model = Builder::new();
    model.preemption_bound = Some(3);
    model.max_branches = 100_000;
    model.check(move || {
        let mut writer = HotIndexWriter::new("", FIRST);
        before.iter().for_each(|&events| append(&mut writer, events));
        let index = writer.index();
        let reader = thread::spawn(move || check(&index.view(), ends));
        write(&mut writer);
        reader.join().unwrap();
        check(&writer.index().view(), ends);
    });
}

/// The first ledger of all: terms, segments and ends all appear at once.
#[test]
fn a_first_ledger() {
    beside(&[], |writer| append(writer, 1), &[0, 1]);
}

/// Deltas are added to a block, and a block to a chain; a shard of four entries gives way to one of eight.
#[test]
fn a_ledger_that_goes_on_where_others_ended() {
    beside(&[2], |writer| append(writer, 2), &[0, 2, 4]);
}

#[test]
fn a_trim() {
    beside(&[1, 1], |writer| writer.trim(FIRST), &[0, 1, 2]);
}
