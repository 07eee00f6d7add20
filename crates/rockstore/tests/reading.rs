//! Reads against a model, and what closing does to them.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
};

use icecore_rockstore::{
    Batch, Cache, Compaction, Error, Family, FamilyId, Reads, Span, Store, StoreOptions,
};
use proptest::prelude::*;

const FAMILIES: &[Family] = &[
    Family::new("plain"),
    Family::new("prefixed").prefix_bytes(1).bloom_bits(10).compaction(Compaction::Never).block_bytes(256),
];

type Model = [BTreeMap<Vec<u8>, Vec<u8>>; 2];

fn check(reads: &impl Reads, model: &Model, probes: &[Vec<u8>]) {
    for (number, rows) in model.iter().enumerate() {
        let family = FamilyId(number);
        for probe in probes {
            assert_eq!(reads.get(family, probe).unwrap().as_deref(), rows.get(probe).map(Vec::as_slice));
        }
        let many = reads.multi_get(family, probes.iter().map(Vec::as_slice)).unwrap();
        assert!(
            many.iter()
                .map(Option::as_deref)
                .eq(probes.iter().map(|probe| rows.get(probe).map(Vec::as_slice)))
        );
        let got = |span| {
            let mut rows = reads.rows(family, span).unwrap();
            let mut got = Vec::new();
            while let Some((key, value)) = rows.next_row().unwrap() {
                got.push((key.to_vec(), value.to_vec()));
            }
            assert_eq!(rows.next_row().unwrap(), None, "and stays at the end");
            got
        };
        let expected = |keep: &dyn Fn(&Vec<u8>) -> bool| -> Vec<_> {
            rows.iter()
                .filter(|(key, _)| keep(key))
                .map(|(key, value)| (key.clone(), value.clone()))
                .collect()
        };
        assert_eq!(got(Span::all()), expected(&|_| true));
        for probe in probes {
            assert_eq!(
                got(Span::prefix(probe.clone())),
                expected(&|key| key.starts_with(probe)),
                "{probe:?}"
            );
            assert_eq!(got(Span::from(probe.clone()).scan()), expected(&|key| key >= probe));
            let mut reverse = got(Span::between(probes[0].clone(), probe.clone()).descending());
            reverse.reverse();
            assert_eq!(reverse, expected(&|key| *key >= probes[0] && key < probe));
        }
    }
}

fn key() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![Just(0u8), Just(1), Just(0x7F), Just(0xFF)];
    prop::collection::vec(byte, 0..4)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn what_was_written_is_read(
        batches in prop::collection::vec(prop::collection::vec((0..6u8, 0..2usize, key(), key()), 1..12), 1..10),
        probes in prop::collection::vec(key(), 1..6),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let options = StoreOptions::default().cache(Cache::new(1 << 20)).max_log_bytes(1 << 20).background_jobs(1);
        let mut store = Store::create(&path, FAMILIES, &options).unwrap();
        let mut model = Model::default();
        let mut batch = Batch::new();
        for (number, ops) in batches.iter().enumerate() {
            batch.clear();
            let before = model.clone();
            for (kind, family, key, other) in ops {
                let rows = &mut model[*family];
                match kind {
                    0 => { batch.delete(FamilyId(*family), key); rows.remove(key); }
                    1 => {
                        let (from, to) = (key.min(other), key.max(other));
                        batch.delete_range(FamilyId(*family), from, to);
                        rows.retain(|key, _| !(from <= key && key < to));
                    }
                    _ => { batch.put(FamilyId(*family), key, other); rows.insert(key.clone(), other.clone()); }
                }
            }
            let reader = store.reader().unwrap();
            let snapshot = reader.snapshot();
            store.write(&batch).unwrap();
            check(&snapshot, &before, &probes);
            check(&reader, &model, &probes);
            drop(snapshot);
            drop(reader);
            match number % 4 {
                1 => store.flush().unwrap(),
                2 => {
                    store.close();
                    store = Store::open(&path, FAMILIES, &options).unwrap();
                    check(&store.reader().unwrap(), &model, &probes);
                }
                _ => {}
            }
        }
    }
}

#[test]
fn closing_waits_for_those_inside_and_turns_the_others_away() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::create(dir.path().join("s"), FAMILIES, &StoreOptions::default()).unwrap();
    let mut batch = Batch::new();
    (0..100u8).for_each(|key| batch.put(FamilyId(0), &[key], &[key; 50]));
    store.write(&batch).unwrap();

    let reader = store.reader().unwrap();
    assert!(matches!(store.close_if_idle(), Err(Error::Busy { .. })));
    let closed = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            store.close();
            closed.store(true, Ordering::SeqCst);
        });
        while store.reader().is_ok() {
            thread::yield_now();
        }
        // Not closed yet, so nobody else can have it.
        let path = dir.path().join("s");
        let opened = Store::open(&path, FAMILIES, &StoreOptions::default());
        assert!(matches!(opened, Err(Error::Locked { path: p, .. }) if p == path));
        // Nobody gets in any more, and whoever is inside goes on.
        let mut rows = reader.rows(FamilyId(0), Span::all()).unwrap();
        for key in 0..100u8 {
            assert_eq!(rows.next_row().unwrap().unwrap(), (&[key][..], &[key; 50][..]));
        }
        assert!(!closed.load(Ordering::SeqCst));
        drop(rows);
        drop(reader);
    });
    assert!(closed.load(Ordering::SeqCst));
    let closed = |error| matches!(error, Error::Closed { .. });
    assert!(closed(store.get(FamilyId(0), b"k").unwrap_err()));
    assert!(closed(store.write(&batch).unwrap_err()));
    assert!(closed(store.flush().unwrap_err()));
    assert!(closed(store.stats().unwrap_err()));
    assert!(closed(store.checkpoint(dir.path().join("c")).unwrap_err()));
    store.close();
    store.close_if_idle().unwrap();
    // It is really closed: the lock is free.
    let again = Store::open(dir.path().join("s"), FAMILIES, &StoreOptions::default()).unwrap();
    again.close_if_idle().unwrap();
    assert!(closed(again.reader().unwrap_err()));
}

#[test]
fn readers_and_a_writer_meet_a_close_at_any_moment() {
    for round in 0..20 {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let store = Store::create(&path, FAMILIES, &StoreOptions::default()).unwrap();
        let written = AtomicU64::new(0);
        thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    loop {
                        let Ok(reader) = store.reader() else { return };
                        let snapshot = reader.snapshot();
                        let mut rows = snapshot.rows(FamilyId(0), Span::all()).unwrap();
                        let mut count = 0;
                        while rows.next_row().unwrap().is_some() {
                            count += 1;
                        }
                        // Both families get a row in each batch.
                        let last = snapshot
                            .rows(FamilyId(1), Span::all().descending())
                            .unwrap()
                            .next_row()
                            .unwrap()
                            .map(|row| row.0.to_vec());
                        assert_eq!(last, (count > 0).then(|| (count as u64 - 1).to_be_bytes().to_vec()));
                    }
                });
            }
            scope.spawn(|| {
                loop {
                    let number = written.load(Ordering::SeqCst).to_be_bytes();
                    let mut batch = Batch::new();
                    batch.put(FamilyId(0), &number, b"");
                    batch.put(FamilyId(1), &number, b"");
                    match store.write(&batch) {
                        Ok(()) => written.fetch_add(1, Ordering::SeqCst),
                        Err(error) => {
                            assert!(matches!(error, Error::Closed { .. }), "{error:?}");
                            return;
                        }
                    };
                }
            });
            while written.load(Ordering::SeqCst) < round % 5 {
                thread::yield_now();
            }
            store.close();
        });
        let store = Store::open(&path, FAMILIES, &StoreOptions::default()).unwrap();
        let reader = store.reader().unwrap();
        let last = reader
            .rows(FamilyId(1), Span::all().descending())
            .unwrap()
            .next_row()
            .unwrap()
            .map(|row| row.0.to_vec());
        let written = written.into_inner();
        assert_eq!(last, written.checked_sub(1).map(|last| last.to_be_bytes().to_vec()));
    }
}

#[test]
fn figures_count() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::create(dir.path().join("s"), FAMILIES, &StoreOptions::default()).unwrap();
    let mut batch = Batch::new();
    (0..1000u32).for_each(|key| batch.put(FamilyId(1), &key.to_be_bytes(), &[1; 100]));
    store.write(&batch).unwrap();
    store.flush().unwrap();
    for _ in 0..2 {
        store.get(FamilyId(1), &7u32.to_be_bytes()).unwrap().unwrap();
    }
    let stats = store.stats().unwrap();
    assert!(stats.written_bytes > 100_000 && stats.log_bytes > 100_000 && stats.log_syncs >= 1, "{stats:?}");
    assert!(stats.cache_hits > 0 && stats.cache_misses > 0 && stats.flush_bytes > 0, "{stats:?}");
    assert_eq!(
        stats.families.iter().map(|family| (family.name, family.files)).collect::<Vec<_>>(),
        [("plain", 0), ("prefixed", 1)]
    );
    assert_eq!(stats.families[1].rows_estimate, 1000);
    assert!(stats.families[1].file_bytes > 0 && stats.families[1].memory_bytes > 0);
    assert_eq!(stats.background_errors, 0);
}

#[test]
fn rows_are_counted_in_files_and_in_memory() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::create(dir.path().join("s"), FAMILIES, &StoreOptions::default()).unwrap();
    let counts = |sets, removals| {
        let found = store.reader().unwrap().row_counts(FamilyId(1)).unwrap();
        assert_eq!((found.sets, found.removals), (sets, removals));
    };
    counts(0, 0);
    let mut batch = Batch::new();
    (0..300u32).for_each(|key| batch.put(FamilyId(1), &key.to_be_bytes(), b""));
    store.write(&batch).unwrap();
    counts(300, 0);
    store.flush().unwrap();
    counts(300, 0);
    batch.clear();
    batch.put(FamilyId(1), &300u32.to_be_bytes(), b"");
    batch.delete(FamilyId(1), &7u32.to_be_bytes());
    batch.delete_range(FamilyId(1), &10u32.to_be_bytes(), &20u32.to_be_bytes());
    store.write(&batch).unwrap();
    store.flush().unwrap();
    counts(301, 2);
}
