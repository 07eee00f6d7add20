//! The hot index against a map of lists, whatever is appended, removed and loaded; and what it refuses.
#![allow(clippy::unwrap_used)]

use std::{collections::BTreeMap, ops::Range};

use icecore_events::{
    Error, EventCounts, HotIndex, HotIndexLoader, HotIndexWriter, HotView, RoaringBitmap, TermKey,
};
use icecore_ledger::LedgerSeq;
use icecore_testkit::SplitMix64;
use proptest::prelude::*;

const FIRST: LedgerSeq = LedgerSeq(10_002);

fn key(number: u64) -> TermKey {
    TermKey(SplitMix64::new(number).key())
}

/// Terms by number, with the ids of their events, and the end of each ledger.
#[derive(Clone, Default)]
struct Model {
    terms: BTreeMap<u64, Vec<u32>>,
    ends: Vec<u32>,
}

impl Model {
    fn events(&self) -> u32 {
        self.ends.last().copied().unwrap_or(0)
    }

    fn next(&self) -> LedgerSeq {
        LedgerSeq(FIRST.0 + self.ends.len() as u32)
    }

    fn append(&mut self, events: u32, postings: &[(u64, u32)]) {
        for &(term, id) in postings {
            let ids = self.terms.entry(term).or_default();
            if ids.last() != Some(&id) {
                ids.push(id);
            }
        }
        self.ends.push(self.events() + events);
    }

    fn trim(&mut self, ledgers: usize) {
        self.ends.truncate(ledgers);
        let end = self.events();
        self.terms.values_mut().for_each(|ids| ids.retain(|id| *id < end));
        self.terms.retain(|_, ids| !ids.is_empty());
    }

    fn check(&self, view: &HotView, ranges: &[Range<u32>]) {
        assert_eq!((view.first(), view.ledger_count()), (FIRST, self.ends.len() as u32));
        assert_eq!(view.event_count(), self.events());
        assert_eq!(view.next(), Some(self.next()));
        let mut start = 0;
        for (seq, &end) in (FIRST.0..).zip(&self.ends) {
            assert_eq!(view.ids_of(LedgerSeq(seq)), Some(start..end));
            start = end;
        }
        assert_eq!((view.end(self.ends.len() as u32), view.ids_of(self.next())), (None, None));
        for (&term, ids) in &self.terms {
            assert!(view.term_ids(&key(term), 0..u32::MAX).iter().eq(ids.iter().copied()), "term {term}");
            for range in ranges {
                let within = ids.iter().copied().filter(|id| range.contains(id));
                assert!(
                    view.term_ids(&key(term), range.clone()).iter().eq(within),
                    "term {term} in {range:?}"
                );
            }
        }
        assert_eq!(view.term_ids(&key(u64::MAX), 0..u32::MAX), RoaringBitmap::new());
    }
}

fn keyed(postings: &[(u64, u32)]) -> Vec<(TermKey, u32)> {
    postings.iter().map(|&(term, id)| (key(term), id)).collect()
}

fn load(model: &Model) -> HotIndexWriter {
    let mut loader = HotIndexLoader::new("hot", FIRST);
    let mut start = 0;
    for (seq, &end) in (FIRST.0..).zip(&model.ends) {
        loader.push_ledger(LedgerSeq(seq), end - start).unwrap();
        start = end;
    }
    let mut rows: Vec<_> =
        model.terms.iter().flat_map(|(&term, ids)| ids.iter().map(move |&id| (key(term), id))).collect();
    rows.sort_unstable();
    rows.into_iter().for_each(|(key, id)| loader.push(key, id).unwrap());
    loader.finish()
}

#[derive(Clone, Debug)]
enum Step {
    /// So many events, and a seed for their terms.
    Ledger(u32, u64),
    /// Keeps so many of a hundred ledgers.
    Trim(usize),
    Reload,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let events = prop_oneof![6 => 0u32..40, 2 => 1000u32..9000, 1 => 30_000u32..90_000];
    let step = prop_oneof![
        12 => (events, any::<u64>()).prop_map(|(events, seed)| Step::Ledger(events, seed)),
        1 => (0usize..=110).prop_map(Step::Trim),
        1 => Just(Step::Reload),
    ];
    prop::collection::vec(step, 1..24)
}

/// Term 0 is in every event, 1 in half of them, 2 in bursts, 3 rarely; the others are of a few events each.
fn postings(first_id: u32, events: u32, seed: u64) -> Vec<(u64, u32)> {
    let mut rng = SplitMix64::new(seed);
    let mut postings = Vec::new();
    for id in first_id..first_id + events {
        postings.push((0, id));
        let others = [
            (1, id.is_multiple_of(2)),
            (2, id / 1024 % 8 == 3),
            (3, rng.below(500) == 0),
            (4 + rng.below(200), rng.below(20) == 0),
            (1000 + rng.below(1 << 40), rng.below(100) == 0),
        ];
        postings.extend(others.iter().filter(|(_, has)| *has).map(|&(term, _)| (term, id)));
        if rng.below(50) == 0 {
            postings.push((0, id));
        }
    }
    postings
}

fn run(steps: Vec<Step>) {
    let mut writer = HotIndexWriter::new("hot", FIRST);
    let (mut model, mut index) = (Model::default(), writer.index());
    let mut views: Vec<(HotView, Model)> = Vec::new();
    for step in steps {
        match step {
            Step::Ledger(events, seed) => {
                let postings = postings(writer.event_count(), events, seed);
                writer.append(model.next(), events as usize, &keyed(&postings)).unwrap();
                model.append(events, &postings);
            }
            Step::Trim(percent) => {
                let keep = model.ends.len() * percent / 100;
                writer.trim(LedgerSeq(FIRST.0 + keep as u32 - 1));
                model.trim(keep);
            }
            Step::Reload => {
                writer = load(&model);
                index = writer.index();
            }
        }
        assert_eq!(writer.next_ledger(), Some(model.next()));
        assert_eq!(index.term_count(), model.terms.len() as u64);
        views.push((index.view(), model.clone()));
    }
    let (last, end) = (views.len() - 1, model.events());
    for (number, (view, model)) in views.iter().enumerate() {
        // Those in between are looked at less closely.
        if number == last || number.is_multiple_of(5) {
            model.check(view, &[0..end / 2, end / 3..end / 3 + 70, end / 2..u32::MAX, end..0]);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn any_history_reads_like_the_model(steps in steps()) {
        run(steps);
    }
}

#[test]
fn a_term_in_every_event_across_many_windows() {
    run((0..12)
        .map(|seed| Step::Ledger(40_000, seed))
        .chain([Step::Trim(50), Step::Ledger(70_000, 99)])
        .collect());
}

#[test]
fn a_view_keeps_what_it_saw() {
    let mut writer = HotIndexWriter::new("hot", FIRST);
    let index: HotIndex = writer.index();
    let ids = |view: &HotView| view.term_ids(&key(0), 0..u32::MAX).iter().collect::<Vec<_>>();
    let empty = index.view();
    writer.append(FIRST, 2, &[(key(0), 0), (key(0), 1)]).unwrap();
    let one = index.view();
    writer.append(LedgerSeq(FIRST.0 + 1), 1, &[(key(0), 2)]).unwrap();
    let two = index.clone().view();
    writer.trim(FIRST);
    let trimmed = index.view();
    writer.append(LedgerSeq(FIRST.0 + 1), 2, &[(key(0), 3)]).unwrap();
    for (view, expected) in [
        (empty, vec![]),
        (one, vec![0, 1]),
        (two, vec![0, 1, 2]),
        (trimmed, vec![0, 1]),
        (index.view(), vec![0, 1, 3]),
    ] {
        assert_eq!(ids(&view), expected);
    }
    // Before the first ledger: all goes. After the last: nothing.
    writer.trim(LedgerSeq(u32::MAX));
    writer.trim(LedgerSeq(FIRST.0 + 1));
    assert_eq!(writer.event_count(), 4);
    writer.trim(LedgerSeq(0));
    assert_eq!((writer.event_count(), writer.next_ledger(), index.term_count()), (0, Some(FIRST), 0));
    assert_eq!(index.view().event_count(), 0);
}

#[test]
fn what_does_not_fit_is_refused_and_changes_nothing() {
    let mut writer = HotIndexWriter::new("the/place", FIRST);
    let second = LedgerSeq(FIRST.0 + 1);
    writer.append(FIRST, 3, &[(key(0), 0), (key(1), 2)]).unwrap();
    let refused = |writer: &mut HotIndexWriter, seq, events, postings: &[(TermKey, u32)]| {
        let checked = writer.check(seq, events, postings).unwrap_err();
        let error = writer.append(seq, events, postings).unwrap_err();
        assert_eq!(checked.to_string(), error.to_string());
        assert_eq!((writer.event_count(), writer.index().term_count()), (3, 2));
        error
    };
    let gap = refused(&mut writer, LedgerSeq(FIRST.0 + 2), 1, &[]);
    assert!(
        matches!(gap, Error::Gap { expected, .. } if expected == second)
            && gap.to_string().contains("the/place")
    );
    assert!(matches!(refused(&mut writer, FIRST, 1, &[]), Error::Repeat { .. }));
    let below = refused(&mut writer, second, 1, &[(key(7), 2)]);
    assert!(matches!(below, Error::Descending { last: 3, id: 2 }));
    let descending = refused(&mut writer, second, 2, &[(key(7), 4), (key(8), 3)]);
    assert!(matches!(descending, Error::Descending { last: 4, id: 3 }));
    let beyond = refused(&mut writer, second, 2, &[(key(7), 3), (key(7), 5)]);
    assert!(matches!(beyond, Error::NoEvent { id: 5, events: 5, .. }));
    let large = refused(&mut writer, second, u32::MAX as usize - 2, &[]);
    assert!(matches!(large, Error::TooLarge { .. }));
    writer.append(second, u32::MAX as usize - 3, &[(key(7), u32::MAX - 1)]).unwrap();
    assert!(writer.index().view().term_ids(&key(7), 0..u32::MAX).iter().eq([u32::MAX - 1]));

    let mut last = HotIndexWriter::new("hot", LedgerSeq(u32::MAX));
    last.append(LedgerSeq(u32::MAX), 0, &[]).unwrap();
    assert_eq!(last.next_ledger(), None);
    assert!(matches!(last.append(LedgerSeq(u32::MAX), 0, &[]), Err(Error::TooLarge { .. })));
}

#[test]
fn rows_that_contradict_the_counts_are_refused() {
    let mut loader = HotIndexLoader::new("the/place", FIRST);
    loader.push_ledger(FIRST, 2).unwrap();
    assert!(matches!(loader.push_ledger(FIRST, 2), Err(Error::Repeat { .. })));
    assert!(matches!(loader.push_ledger(LedgerSeq(FIRST.0 + 2), 2), Err(Error::Gap { .. })));
    assert!(matches!(loader.push_ledger(LedgerSeq(FIRST.0 + 1), u32::MAX), Err(Error::TooLarge { .. })));
    loader.push(key(0), 1).unwrap();
    let beyond = loader.push(key(1), 2).unwrap_err();
    assert!(beyond.is_corrupt() && beyond.to_string().contains("the/place"), "{beyond}");
    assert!(matches!(loader.push(key(0), 0), Err(Error::Descending { last: 1, id: 0 })));
    loader.push(key(0), 1).unwrap();
    let index = loader.finish().index();
    assert_eq!((index.term_count(), index.view().term_ids(&key(0), 0..2).len()), (1, 1));
}
