//! Building by ranges: the same file as of sorted keys, whatever is taken at a time and by however many workers, and
//! the same errors; nothing is left behind.
#![allow(clippy::panic, clippy::unwrap_used)]

mod common;

use std::{ops::ControlFlow, path::Path, sync::Arc};

use common::{Entries, Way, build, contents, entries};
use icecore_diskio::{Disk, Fault, FaultyDisk};
use icecore_streamhash::{
    Algorithm, Error, Fill, KeyRange, Options, Places, Progress, RangeBuilder, Result, Summary,
};
use proptest::prelude::*;

const ALGORITHMS: [Algorithm; 4] = Algorithm::ALL;
const SORTED: Way = Way { sorted: true, workers: 1 };

type Fail = fn(&mut Places) -> Result<()>;

/// What a worker has: all entries, and something that it does with some range instead.
#[derive(Clone, Copy)]
struct Filler<'a> {
    entries: &'a Entries,
    fails: Option<(u32, Fail)>,
}

impl Fill for Filler<'_> {
    type Error = Error;

    fn fill(&mut self, range: &KeyRange, places: &mut Places) -> Result<()> {
        if let Some((number, fail)) = self.fails
            && number == range.number
        {
            return fail(places);
        }
        for (key, payload) in self.entries.iter().rev().filter(|(key, _)| range.contains(key)) {
            places.add(key, *payload);
        }
        Ok(())
    }
}

fn build_on(
    disk: &FaultyDisk,
    filler: Filler<'_>,
    count: usize,
    options: Options,
    progress: impl FnMut(Progress) -> ControlFlow<()>,
) -> Result<Summary> {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    disk.create_dir_all(Path::new("/d"))?;
    RangeBuilder::create_on(&disk, "/d/index", count as u64, options)?.build_with(|| filler, progress)
}

fn go_on(_: Progress) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

/// The file that a build makes of these entries, or why it does not.
fn built(entries: &Entries, options: Options) -> Result<Vec<u8>> {
    let disk = FaultyDisk::new();
    let filler = Filler { entries, fails: None };
    let summary = build_on(&disk, filler, entries.len(), options, go_on);
    let file = contents(&disk);
    assert_eq!(file.is_some(), summary.is_ok());
    assert!(summary.is_ok() || disk.paths().is_empty(), "left behind: {:?}", disk.paths());
    let (summary, file) = (summary?, file.unwrap());
    assert_eq!((summary.keys, summary.file_bytes), (entries.len() as u64, file.len() as u64));
    Ok(file)
}

/// Compares with a sorted build: the file, or the error.
fn same(entries: &Entries, options: &Options) {
    let sorted = build(&mut entries.clone(), options.clone(), SORTED);
    for (workers, range_keys) in [(1, 0), (1, u64::MAX), (2, 0), (3, 7000), (5, 0)] {
        let ranges = built(entries, options.clone().workers(workers).range_keys(range_keys));
        match (&sorted, ranges) {
            (Ok(sorted), Ok(ranges)) => assert!(*sorted == ranges, "{workers} workers, {range_keys}"),
            (sorted, ranges) => assert_eq!(
                format!("{:?}", sorted.as_ref().err()),
                format!("{:?}", ranges.err()),
                "{workers} workers, {range_keys}"
            ),
        }
    }
}

#[test]
fn a_few_keys_of_every_size() {
    for algorithm in ALGORITHMS {
        for (count, payload_bytes, fingerprint_bytes) in [
            (0, 3, 1),
            (1, 0, 0),
            (1, 8, 4),
            (2, 3, 1),
            (3, 1, 0),
            (10, 0, 4),
            (300, 8, 4),
            (3000, 3, 1),
            (40_000, 4, 2),
        ] {
            let options = Options::new().algorithm(algorithm).user_metadata(*b"abc");
            let options = options.payload_bytes(payload_bytes).fingerprint_bytes(fingerprint_bytes);
            same(&entries(count, count as usize, payload_bytes.into()), &options);
        }
    }
}

#[test]
fn a_part_of_more_than_a_buffer() {
    same(&entries(1, 120_000, 8), &Options::new().payload_bytes(8).fingerprint_bytes(4));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(30))]

    #[test]
    fn any_keys_any_ranges(
        seed: u64,
        count in 0usize..20_000,
        payload_bytes in 0u8..=8,
        fingerprint_bytes in 0u8..=4,
        workers in 1usize..6,
        range_keys in 0u64..20_000,
        algorithm in 0..ALGORITHMS.len(),
    ) {
        let entries = entries(seed, count, payload_bytes.into());
        let options = Options::new().algorithm(ALGORITHMS[algorithm]);
        let options = options.payload_bytes(payload_bytes).fingerprint_bytes(fingerprint_bytes);
        let sorted = build(&mut entries.clone(), options.clone(), SORTED);
        match (sorted, built(&entries, options.workers(workers).range_keys(range_keys))) {
            (Ok(sorted), Ok(ranges)) => prop_assert!(sorted == ranges),
            // One that would keep nothing.
            (sorted, ranges) => {
                prop_assert_eq!(format!("{:?}", sorted.map(drop)), format!("{:?}", ranges.map(drop)));
            }
        }
    }
}

#[test]
fn errors_are_those_of_a_sorted_build() {
    let options = Options::new().payload_bytes(3);
    let good = entries(2, 30_000, 3);
    let mut twice = good.clone();
    (twice[20_000], twice[1000]) = (twice[7], twice[8]);
    for algorithm in ALGORITHMS {
        let options = options.clone().algorithm(algorithm).range_keys(0).workers(2);
        let error = built(&twice, options).unwrap_err();
        assert!(matches!(error, Error::DuplicateKey { .. }), "{algorithm:?}: {error}");
    }
    same(&twice, &options);
    let mut crowded = good.clone();
    crowded.iter_mut().skip(9000).for_each(|(key, _)| key[0] = 0x77);
    same(&crowded, &options);
    let mut large = good;
    large[5].1 = 1 << 24;
    let error = built(&large, options.workers(3).range_keys(0)).unwrap_err();
    assert!(matches!(error, Error::PayloadTooLarge { payload: 0x100_0000, .. }), "{error}");
}

#[test]
fn the_lowest_range_that_fails_says_why() {
    let entries = entries(3, 60_000, 3);
    let options = || Options::new().payload_bytes(3).range_keys(0);
    type Case = (Fail, fn(&Error) -> bool);
    let cases: [Case; 4] = [
        (|_| Err(Error::Cancelled), |error| matches!(error, Error::Cancelled)),
        (|_| panic!("planted"), |error| matches!(error, Error::WorkerPanicked { block: 5 })),
        (
            |_| Ok(()),
            |error| matches!(error, Error::KeyCountMismatch { expected: 60_000, added } if *added < 60_000),
        ),
        (
            |places| {
                places.add(&[0xFF; 16], 0);
                Ok(())
            },
            |error| matches!(error, Error::OutsideRange { block: 19, first: 5, end: 6 }),
        ),
    ];
    for (fail, expected) in cases {
        for workers in [1, 2, 4] {
            let disk = FaultyDisk::new();
            let filler = Filler { entries: &entries, fails: Some((5, fail)) };
            let error =
                build_on(&disk, filler, entries.len(), options().workers(workers), go_on).unwrap_err();
            assert!(expected(&error), "{error:?}");
            assert!(disk.paths().is_empty());
        }
    }
    for (count, added) in [(59_999, 60_000), (60_001, 60_000)] {
        let disk = FaultyDisk::new();
        let filler = Filler { entries: &entries, fails: None };
        let error = build_on(&disk, filler, count, options().workers(2), go_on).unwrap_err();
        let Error::KeyCountMismatch { expected, added: found } = error else { panic!("{error}") };
        assert_eq!((expected, found), (count as u64, added));
    }
}

#[test]
fn progress_ascends_and_a_break_leaves_nothing() {
    let entries = entries(4, 40_000, 3);
    for workers in [1, 3] {
        for stop in 0..16 {
            let disk = FaultyDisk::new();
            let options = Options::new().payload_bytes(3).workers(workers).range_keys(0);
            let mut told = Vec::new();
            let filler = Filler { entries: &entries, fails: None };
            let result = build_on(&disk, filler, entries.len(), options, |now| {
                assert_eq!(now.keys, 40_000);
                told.push(now.keys_done);
                if told.len() > stop { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            });
            assert!(told.is_sorted_by(|a, b| a < b), "{told:?}");
            match result {
                Ok(_) => assert!(told.len() <= stop && told.last() == Some(&40_000), "{told:?}"),
                Err(error) => {
                    assert!(matches!(error, Error::Cancelled) && told.len() == stop + 1, "{error}: {told:?}");
                    assert!(disk.paths().is_empty());
                }
            }
        }
    }
}

#[test]
fn a_callback_that_panics_leaves_no_file_and_no_thread() {
    let entries = entries(5, 40_000, 3);
    let disk = FaultyDisk::new();
    let options = Options::new().payload_bytes(3).workers(3).range_keys(0);
    let filler = Filler { entries: &entries, fails: None };
    let build = || build_on(&disk, filler, entries.len(), options, |_| panic!("planted"));
    assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(build)).is_err());
    assert!(disk.paths().is_empty());
}

#[test]
fn every_operation_may_fail() {
    // More than a buffer, so that workers write; the last operations are the caller's.
    let entries = entries(6, 70_000, 8);
    let filler = Filler { entries: &entries, fails: None };
    for workers in [1, 3] {
        let options = || Options::new().payload_bytes(8).range_keys(0).workers(workers);
        let clean = FaultyDisk::new();
        build_on(&clean, filler, entries.len(), options(), go_on).unwrap();
        let whole = contents(&clean).unwrap();
        for operation in 0..clean.operations() {
            for fault in [Fault::Io, Fault::DiskFull, Fault::ShortWrite, Fault::PowerCut, Fault::Panic] {
                let disk = FaultyDisk::new();
                disk.fail_at(operation, fault);
                let build = || build_on(&disk, filler, entries.len(), options(), go_on);
                let built = std::panic::catch_unwind(std::panic::AssertUnwindSafe(build));
                match (built, fault) {
                    (Ok(Err(Error::WorkerPanicked { .. })) | Err(_), Fault::Panic) => {}
                    (Ok(Err(Error::Disk(_))), fault) if fault != Fault::Panic => {}
                    (built, _) => panic!("{built:?}: {fault:?} at {operation}"),
                }
                let left = fault != Fault::PowerCut && disk.paths().contains(&"/d/index.partial".into());
                assert!(!left, "{fault:?} at {operation}: left behind");
                assert!(
                    contents(&disk.after_crash()).is_none_or(|found| found == whole),
                    "{fault:?} at {operation}"
                );
            }
        }
    }
}
