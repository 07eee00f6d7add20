//! Lakes: what they give, from whole ones, damaged ones, and stores that fail.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

mod common;
mod sources;

use std::{
    collections::{BTreeMap, HashMap},
    fs, io,
    num::NonZeroU32,
    path::Path,
    sync::{Arc, Condvar, Mutex},
    time::Duration,
};

use common::data_dir;
use icecore_ledger::{Error, LedgerRange, LedgerSeq, Source};
use icecore_stellar::source::{
    DirStore, FramedFile, GENERATED_PASSPHRASE, Generator, Lake, LakeOptions, Layout, ObjectStore, write_lake,
};
use proptest::prelude::*;
use sources::{drain, range};

fn layout(ledgers_per_batch: u32, batches_per_partition: u32) -> Layout {
    let number = |number| NonZeroU32::new(number).unwrap();
    Layout {
        ledgers_per_batch: number(ledgers_per_batch),
        batches_per_partition: number(batches_per_partition),
    }
}

fn generator(ledgers: LedgerRange) -> Generator {
    format!("gen:from={},ledgers={},txs=2", ledgers.first, ledgers.count()).parse().unwrap()
}

/// A lake of generated ledgers, with its configuration.
fn write(dir: &Path, ledgers: LedgerRange, layout: &Layout) -> Vec<Vec<u8>> {
    let generator = generator(ledgers);
    write_lake(&generator, ledgers, dir, layout, GENERATED_PASSPHRASE).unwrap();
    drain(&generator, ledgers).unwrap()
}

fn object(first: u32, last: u32, ledgers: &[&[u8]]) -> Vec<u8> {
    let header: Vec<u8> =
        [first, last, ledgers.len() as u32].iter().flat_map(|word| word.to_be_bytes()).collect();
    zstd::bulk::compress(&[header, ledgers.concat()].concat(), 1).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn a_lake_of_any_layout_gives_back_what_was_written(
        per_batch in 1u32..6, per_partition in 1u32..5, first_batch in 0u32..20, batches in 1u32..12,
        threads in 1usize..5, ahead_bytes in prop_oneof![Just(0u64), Just(1 << 30), 0u64..50_000], keep_config: bool,
        cut in (0u32..60, 0u32..60),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let layout = layout(per_batch, per_partition);
        let (first, last) = ((first_batch * per_batch).max(2), (first_batch + batches) * per_batch - 1);
        if last < first {
            return Ok(());
        }
        let first = if first_batch * per_batch < 2 && per_batch < 2 { 2 } else { first };
        let all = write(dir.path(), range(first, last), &layout);
        if !keep_config {
            fs::remove_file(dir.path().join(".config.json")).unwrap();
        }
        let options = LakeOptions { threads, ahead_bytes, ..LakeOptions::default() };
        let lake = Lake::with_store(Arc::new(DirStore::new(dir.path())), options).unwrap();
        prop_assert_eq!(lake.layout(), &layout);
        prop_assert_eq!(lake.network_passphrase(), keep_config.then_some(GENERATED_PASSPHRASE));
        prop_assert_eq!(lake.range().unwrap(), range(first, last));
        let from = first + cut.0 % (last - first + 1);
        let to = from + cut.1 % (last - from + 1);
        let part = drain(&lake, range(from, to)).unwrap();
        prop_assert!(part == all[(from - first) as usize..=(to - first) as usize]);
        let beyond = drain(&lake, range(last, last + 1));
        prop_assert!(matches!(beyond, Err(Error::Missing { .. })), "what is not there");
    }
}

#[test]
fn a_configuration_may_lie_anywhere_on_the_ledgers_path() {
    let root = tempfile::tempdir().unwrap();
    let ledgers = root.path().join("stellar/pubnet/ledgers");
    fs::create_dir_all(&ledgers).unwrap();
    let all = write(&ledgers, range(8, 15), &layout(2, 2));
    fs::remove_file(ledgers.join(".config.json")).unwrap();
    let config = r#"{"networkPassphrase": "n", "ledgersPath": "/stellar/pubnet/ledgers", "compression": "zstd",
        "ledgersPerBatch": 2, "batchesPerPartition": 2, "version": "1.0"}"#;
    for (dir, name) in
        [("", ".config.json"), ("stellar/pubnet", "config.json"), ("stellar/pubnet/ledgers", "config.json")]
    {
        let dir = root.path().join(dir);
        fs::write(dir.join(name), config).unwrap();
        let lake = Lake::open(&dir).unwrap();
        assert_eq!(lake.describe(), ledgers.display().to_string());
        assert_eq!(lake.network_passphrase(), Some("n"));
        assert!(drain(&lake, range(8, 15)).unwrap() == all);
        fs::remove_file(dir.join(name)).unwrap();
    }
}

#[test]
fn configurations_are_checked() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), range(4, 7), &layout(2, 1));
    let store = || Arc::new(DirStore::new(dir.path()));
    let with = |set: Option<Layout>| {
        Lake::with_store(store(), LakeOptions { layout: set, ..LakeOptions::default() })
    };
    assert!(with(Some(layout(2, 1))).is_ok());
    let Err(Error::Config { what, .. }) = with(Some(layout(4, 1))) else {
        panic!("a contradiction is accepted")
    };
    assert!(what.contains("settings"), "{what}");
    for bad in [
        "",
        "{}",
        r#"{"ledgersPerBatch": 0, "batchesPerPartition": 1}"#,
        r#"{"ledgersPerBatch": 1}"#,
        r#"{"ledgersPerBatch": 2, "batchesPerPartition": 1, "compression": "gzip"}"#,
        r#"{"ledgersPerBatch": 2, "batchesPerPartition": 1, "ledgersPath": "a/../../b"}"#,
    ] {
        fs::write(dir.path().join(".config.json"), bad).unwrap();
        assert!(matches!(with(None), Err(Error::Config { .. })), "{bad}");
    }
    // The settings are believed where nothing else is said, until names contradict them.
    fs::remove_file(dir.path().join(".config.json")).unwrap();
    assert_eq!(with(Some(layout(2, 1))).unwrap().range().unwrap(), range(4, 7));
    assert!(matches!(with(Some(layout(4, 1))).unwrap().range(), Err(Error::Config { .. })));
    let empty = tempfile::tempdir().unwrap();
    assert!(matches!(Lake::open(empty.path()), Err(Error::Empty { .. })));
    fs::write(empty.path().join("FFFFFFFC--3-4.xdr.zst"), "").unwrap();
    assert!(matches!(Lake::open(empty.path()), Err(Error::Config { .. })));
}

#[test]
fn bad_batches_are_named() {
    let generator = generator(range(2, 30));
    let all = drain(&generator, range(2, 30)).unwrap();
    let ledger = |seq: u32| all[seq as usize - 2].as_slice();
    let read = |name: &str, object: Option<Vec<u8>>| {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), range(4, 11), &layout(4, 1));
        let path = dir.path().join(name);
        match object {
            Some(object) => fs::write(&path, object).unwrap(),
            None => fs::remove_file(&path).unwrap(),
        }
        let options = LakeOptions { max_batch_bytes: 1 << 20, ..LakeOptions::default() };
        let lake = Lake::with_store(Arc::new(DirStore::new(dir.path())), options).unwrap();
        // What comes before is given.
        let mut stream = lake.stream(range(4, 11)).unwrap();
        for seq in 4..8 {
            assert_eq!(stream.next_ledger().unwrap().unwrap().bytes, ledger(seq));
        }
        let error = stream.next_ledger().unwrap_err();
        assert!(stream.next_ledger().unwrap().is_none());
        assert!(error.to_string().contains(name), "{error}");
        error
    };
    let name = "FFFFFFF7--8-11.xdr.zst";
    let seqs = |expected, found| (LedgerSeq(expected), LedgerSeq(found));
    let good = object(8, 11, &[ledger(8), ledger(9), ledger(10), ledger(11)]);

    assert!(matches!(read(name, None), Error::Missing { expected: LedgerSeq(8), .. }));
    let foreign = |object: Vec<u8>| match read(name, Some(object)) {
        Error::Foreign { expected, found, .. } => (expected, found),
        other => panic!("{other}"),
    };
    assert_eq!(foreign(object(4, 7, &[ledger(4), ledger(5), ledger(6), ledger(7)])), seqs(8, 4));
    assert_eq!(foreign(object(8, 11, &[ledger(8), ledger(9), ledger(11), ledger(10)])), seqs(10, 11));
    assert_eq!(foreign(object(8, 11, &[ledger(8), ledger(9), ledger(9), ledger(10)])), seqs(10, 9));
    assert_eq!(foreign(object(8, 11, &[ledger(28), ledger(9), ledger(10), ledger(11)])), seqs(8, 28));
    let corrupt = |object: Vec<u8>, part: &str| match read(name, Some(object)) {
        Error::Corrupt { what, .. } => assert!(what.contains(part), "{what}"),
        other => panic!("{other}"),
    };
    corrupt(object(8, 11, &[ledger(8), ledger(9), ledger(10)]), "3 ledgers where 8..=11 are 4");
    corrupt(object(8, 12, &[ledger(8), ledger(9), ledger(10), ledger(11)]), "ends with ledger 12");
    corrupt(object(8, 11, &[ledger(8), ledger(9), ledger(10), ledger(11), ledger(12)]), "5 ledgers");
    corrupt(
        object(8, 11, &[ledger(8), ledger(9), ledger(10), &[ledger(11), &[0; 4]].concat()]),
        "4 bytes after",
    );
    corrupt(object(8, 11, &[ledger(8), ledger(9), ledger(10), &ledger(11)[..900]]), "ledger 11");
    corrupt(
        object(8, 11, &[&[ledger(8), &[0; 2 << 20]].concat(), &[], &[], &[]]),
        "more than the 1048576 bytes",
    );
    corrupt(b"not zstd at all".to_vec(), "unpacked");
    corrupt([&good[..], b"garbage"].concat(), "unpacked");
    corrupt(vec![0; (1 << 20) + 1], "more than the 1048576 bytes");
    assert!(matches!(read(name, Some(good[..good.len() - 2].to_vec())), Error::Truncated { .. }));
    assert!(matches!(
        read(name, Some(zstd::bulk::compress(&[0, 0, 0, 8, 0], 1).unwrap())),
        Error::Truncated { .. }
    ));
}

/// A store that fails on purpose, and counts.
#[derive(Default)]
struct Unsteady {
    objects: BTreeMap<String, Vec<u8>>,
    /// How often each object is still refused.
    refusals: Mutex<HashMap<String, u32>>,
    asked: Mutex<Vec<String>>,
    panics: bool,
    /// Objects other than the first are held back until this many were asked for.
    hold: usize,
    held: Condvar,
}

impl Unsteady {
    fn of(batches: &[(u32, Vec<u8>)]) -> Self {
        let name = |first: u32| format!("{:08X}--{first}.xdr.zst", u32::MAX - first);
        let objects =
            batches.iter().map(|(first, ledger)| (name(*first), object(*first, *first, &[ledger]))).collect();
        Unsteady { objects, ..Unsteady::default() }
    }
}

impl ObjectStore for Unsteady {
    fn describe(&self) -> String {
        "unsteady".to_owned()
    }

    fn list(&self, _: &str) -> io::Result<Vec<String>> {
        Ok(self.objects.keys().cloned().collect())
    }

    fn get(&self, name: &str, _: u64) -> io::Result<Vec<u8>> {
        let Some(object) = self.objects.get(name) else { return Err(io::ErrorKind::NotFound.into()) };
        let mut asked = self.asked.lock().unwrap();
        asked.push(name.to_owned());
        self.held.notify_all();
        let second = self.objects.keys().rev().nth(1).is_some_and(|second| second == name);
        if second {
            // The second batch (the first one is fetched alone) comes last of all: others are ready before it.
            let wait =
                self.held.wait_timeout_while(asked, Duration::from_secs(60), |asked| asked.len() < self.hold);
            assert!(!wait.unwrap().1.timed_out(), "nothing is fetched ahead");
        } else {
            drop(asked);
        }
        assert!(!self.panics, "on purpose");
        match self.refusals.lock().unwrap().get_mut(name) {
            Some(left) if *left > 0 => {
                *left -= 1;
                Err(io::ErrorKind::TimedOut.into())
            }
            _ => Ok(object.clone()),
        }
    }
}

fn batches(first: u32, last: u32) -> Vec<(u32, Vec<u8>)> {
    (first..).zip(drain(&generator(range(first, last)), range(first, last)).unwrap()).collect()
}

fn quick(threads: usize) -> LakeOptions {
    LakeOptions {
        threads,
        first_delay: Duration::from_millis(1),
        layout: Some(layout(1, 1)),
        ..LakeOptions::default()
    }
}

#[test]
fn refusals_are_tried_again_until_enough() {
    let all = batches(5, 9);
    let refuse = |times: u32| {
        let store = Arc::new(Unsteady::of(&all));
        let names: Vec<String> = store.objects.keys().cloned().collect();
        store.refusals.lock().unwrap().extend(names.into_iter().map(|name| (name, times)));
        (Lake::with_store(store.clone(), quick(3)).unwrap(), store)
    };
    let (lake, store) = refuse(4);
    let ledgers: Vec<_> = all.iter().map(|(_, ledger)| ledger.clone()).collect();
    assert!(drain(&lake, range(5, 9)).unwrap() == ledgers);
    assert_eq!(store.asked.lock().unwrap().len(), 5 * 5);
    let (lake, store) = refuse(5);
    let error = drain(&lake, range(5, 9)).unwrap_err();
    assert!(error.is_retryable() && error.to_string().contains("FFFFFFFA--5.xdr.zst"), "{error}");
    let asked = store.asked.lock().unwrap();
    assert_eq!(asked.iter().filter(|name| *name == "FFFFFFFA--5.xdr.zst").count(), 5);
}

#[test]
fn a_wait_for_another_attempt_ends_with_the_stream() {
    let store = Arc::new(Unsteady::of(&batches(5, 9)));
    store.refusals.lock().unwrap().extend(store.objects.keys().map(|name| (name.clone(), u32::MAX)));
    let options = LakeOptions { first_delay: Duration::from_secs(100_000), ..quick(2) };
    let lake = Lake::with_store(store.clone(), options).unwrap();
    let stream = lake.stream(range(5, 9)).unwrap();
    while store.asked.lock().unwrap().is_empty() {
        std::thread::yield_now();
    }
    drop(stream);
}

#[test]
fn batches_are_fetched_ahead_and_given_in_order() {
    let all = batches(5, 9);
    let store = Arc::new(Unsteady { hold: 4, ..Unsteady::of(&all) });
    let lake = Lake::with_store(store, quick(4)).unwrap();
    let ledgers: Vec<_> = all.into_iter().map(|(_, ledger)| ledger).collect();
    assert!(drain(&lake, range(5, 9)).unwrap() == ledgers);
}

#[test]
fn what_is_held_ahead_is_bounded_in_bytes() {
    let all = batches(5, 60);
    let store = Arc::new(Unsteady::of(&all));
    let batch = 12 + all[0].1.len() as u64;
    // Memory grows in doublings, so that a batch may count for up to twice its bytes.
    let options = LakeOptions { ahead_bytes: 8 * batch, ..quick(1) };
    let lake = Lake::with_store(store.clone(), options).unwrap();
    let mut stream = lake.stream(range(5, 60)).unwrap();
    for taken in 1..=56 {
        stream.next_ledger().unwrap().unwrap();
        let asked = store.asked.lock().unwrap().len();
        assert!(asked <= taken + 8, "{asked} batches were asked for after {taken}");
    }
    // No room at all: one after the other.
    let store = Arc::new(Unsteady::of(&all));
    let lake = Lake::with_store(store.clone(), LakeOptions { ahead_bytes: 0, ..quick(1) }).unwrap();
    let mut stream = lake.stream(range(5, 60)).unwrap();
    for taken in 1..=56 {
        stream.next_ledger().unwrap().unwrap();
        assert!(store.asked.lock().unwrap().len() <= taken + 1);
    }
}

#[test]
fn a_store_that_panics_is_an_error() {
    let store = Arc::new(Unsteady { panics: true, ..Unsteady::of(&batches(5, 6)) });
    let lake = Lake::with_store(store, quick(2)).unwrap();
    let error = drain(&lake, range(5, 6)).unwrap_err();
    assert!(matches!(error, Error::Io { .. }) && error.to_string().contains("panicked"), "{error}");
}

#[test]
fn streams_may_be_left_at_any_time() {
    let store = Arc::new(Unsteady::of(&batches(5, 40)));
    let lake = Lake::with_store(store.clone(), quick(3)).unwrap();
    for taken in 0..20 {
        let mut stream = lake.stream(range(5, 40)).unwrap();
        for _ in 0..taken {
            stream.next_ledger().unwrap().unwrap();
        }
    }
    drop(lake);
    assert_eq!(Arc::strong_count(&store), 1, "a thread outlived its stream");
}

#[test]
fn ranges_that_cut_a_batch_are_not_written() {
    let dir = tempfile::tempdir().unwrap();
    for (first, last) in [(3, 7), (4, 6), (5, 7)] {
        let ledgers = range(first, last);
        let error = write_lake(&generator(ledgers), ledgers, dir.path(), &layout(4, 1), "n").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    }
    assert!(write_lake(&generator(range(2, 7)), range(2, 7), dir.path(), &layout(4, 1), "n").is_ok());
}

#[test]
fn real_lakes_stream() {
    let Some(data) = data_dir() else { return };
    let lake = Lake::open(data.join("lake-small")).unwrap();
    assert_eq!(lake.range().unwrap(), range(997, 999));
    assert_eq!(drain(&lake, range(997, 999)).unwrap().len(), 3);
    // Only one of the files there is a batch.
    let lake = Lake::open(&data).unwrap();
    assert_eq!(lake.range().unwrap(), range(53_312_000, 53_312_000));
    let ledgers = drain(&lake, lake.range().unwrap()).unwrap();
    let frame = [&(1 << 31 | ledgers[0].len() as u32).to_be_bytes()[..], &ledgers[0]].concat();
    assert_eq!(FramedFile::from_bytes("one", frame).range().unwrap(), range(53_312_000, 53_312_000));
}
