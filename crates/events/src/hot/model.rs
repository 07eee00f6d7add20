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

/// The term that the first event of a ledger has, and no other.
fn own(index: u32) -> TermKey {
    TermKey([2 + index as u8; 16])
}

/// A ledger of at least one event.
fn append(writer: &mut HotIndexWriter, events: u32) {
    let (first_id, seq) = (writer.event_count(), writer.next_ledger().unwrap());
    let mut postings = vec![(own(seq.0 - FIRST.0), first_id)];
    postings.extend((first_id..first_id + events).map(|id| (EVERY_EVENT, id)));
    writer.append(seq, events as usize, &postings).unwrap();
}

/// Checks a view of ledgers that end where `ends` says. The term of the ledger after it must not be there.
fn check(view: &HotView, ends: &[u32]) {
    let end = view.event_count();
    let ledgers = view.ledger_count();
    assert_eq!(end, ends[..ledgers as usize].last().copied().unwrap_or(0));
    assert!(view.term_ids(&EVERY_EVENT, 0..u32::MAX).iter().eq(0..end));
    for index in ledgers.saturating_sub(1)..=ledgers {
        let ids = view.ids_of(LedgerSeq(FIRST.0 + index)).map(|ids| ids.start);
        assert!(view.term_ids(&own(index), 0..u32::MAX).iter().eq(ids));
    }
}

/// Has a reader look while the writer, after some ledgers, does one thing more. `after` is how many ledgers there are then.
fn beside(
    before: &'static [u32],
    write: impl Fn(&mut HotIndexWriter) + Copy + Send + Sync + 'static,
    after: u32,
) {
    let mut model = Builder::new();
    model.preemption_bound = Some(3);
    model.max_branches = 100_000;
    model.check(move || {
        let mut writer = HotIndexWriter::new("", FIRST);
        before.iter().for_each(|&events| append(&mut writer, events));
        let sum = before.iter().sum::<u32>();
        let ends: Vec<_> = before
            .iter()
            .scan(0, |end, events| {
                Some({
                    *end += events;
                    *end
                })
            })
            .chain([sum + 1])
            .collect();
        let (index, of_reader) = (writer.index(), ends.clone());
        let reader = thread::spawn(move || check(&index.view(), &of_reader));
        write(&mut writer);
        reader.join().unwrap();
        let view = writer.index().view();
        assert_eq!(view.ledger_count(), after);
        check(&view, &ends);
    });
}

/// Terms, segments and ends all appear at once.
#[test]
fn a_first_ledger() {
    beside(&[], |writer| append(writer, 1), 1);
}

#[test]
fn a_delta_in_a_block() {
    beside(&[2], |writer| append(writer, 1), 2);
}

/// A block of eight deltas is full.
#[test]
fn a_block_in_a_chain() {
    beside(&[9], |writer| append(writer, 1), 2);
}

/// Four entries give way to eight.
#[test]
fn a_larger_shard() {
    beside(&[1, 1], |writer| append(writer, 1), 3);
}

#[test]
fn a_trim() {
    beside(&[1, 1], |writer| writer.trim(FIRST), 1);
}
