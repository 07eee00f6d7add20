//! Building: what goes in comes out, and whatever is wrong with a run is said precisely and leaves nothing behind.
#![allow(clippy::unwrap_used)]

mod common;

use std::{ops::ControlFlow, path::Path, sync::Arc};

use common::{entries, entry, hash, range, raw_run, write_runs};
use icecore_diskio::{Disk, FaultyDisk, IfExists, PendingFile};
use icecore_ledger::{LedgerRange, LedgerSeq};
use icecore_testkit::SplitMix64;
use icecore_txindex::{Entry, Error, Options, WindowIndex, build_index, build_index_with};
use proptest::prelude::*;

const OUT: &str = "out.idx";
const NO_RUNS: &[&str] = &[];

fn bytes(disk: &Arc<dyn Disk>, path: &str) -> Vec<u8> {
    disk.open(path.as_ref()).unwrap().as_bytes().unwrap().to_vec()
}

/// A disk with the given files on it, and their paths.
fn disk_with(runs: &[Vec<u8>]) -> (FaultyDisk, Vec<String>) {
    let faulty = FaultyDisk::new();
    let disk: Arc<dyn Disk> = Arc::new(faulty.clone());
    let names: Vec<String> = (0..runs.len()).map(|i| format!("{i}.bin")).collect();
    for (name, run) in names.iter().zip(runs) {
        let file = PendingFile::create(&disk, name.as_ref(), IfExists::Fail).unwrap();
        file.write_all_at(run, 0).unwrap();
        file.commit().unwrap();
    }
    (faulty, names)
}

/// Builds over files that something is wrong with.
fn refusal(coverage: LedgerRange, runs: &[Vec<u8>], options: Options) -> Error {
    let (faulty, names) = disk_with(runs);
    let disk: Arc<dyn Disk> = Arc::new(faulty.clone());
    let error = build_index(&disk, OUT.as_ref(), coverage, &names, options).unwrap_err();
    assert_eq!(faulty.paths().len(), names.len(), "something was left behind: {:?}", faulty.paths());
    error
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn an_index_knows_every_entry_and_its_bytes_depend_on_nothing_else(
        seed: u64,
        lens in prop::collection::vec(0u64..400, 0..20),
        first in 0u32..1 << 30,
        span in 1u32..1 << 24,
        workers in 2usize..5,
        slice_entries in 500u64..3000,
    ) {
        let mut rng = SplitMix64::new(seed);
        let coverage = range(first, first + span - 1);
        let mut runs: Vec<_> = lens.iter().map(|&len| entries(&mut rng, len, coverage)).collect();
        let disk: Arc<dyn Disk> = Arc::new(FaultyDisk::new());
        let mut paths = write_runs(&disk, Path::new(""), &mut runs);
        let total: u64 = lens.iter().sum();
        prop_assert_eq!(build_index(&disk, OUT.as_ref(), coverage, &paths, Options::new()).unwrap(), total);

        let source = bytes(&disk, OUT);
        let index = WindowIndex::from_source(source.as_slice()).unwrap();
        index.verify().unwrap();
        prop_assert_eq!((index.key_count(), index.coverage()), (total, coverage));
        let all: Vec<Entry> = runs.concat();
        for entry in &all {
            prop_assert_eq!(index.lookup(&hash(entry.key)).unwrap(), Some(entry.seq));
        }
        let hashes: Vec<_> = all.iter().map(|entry| hash(entry.key)).chain([hash(rng.key())]).collect();
        let mut batch = Vec::new();
        index.lookup_batch(&hashes, &mut batch).unwrap();
        let single: Vec<_> = hashes.iter().map(|hash| index.lookup(hash).unwrap()).collect();
        prop_assert_eq!(batch, single);

        paths.rotate_left(lens.len() / 2);
        paths.reverse();
        let options = Options::new().workers(workers).slice_entries(slice_entries).if_exists(IfExists::Replace);
        build_index(&disk, OUT.as_ref(), coverage, &paths, options).unwrap();
        prop_assert_eq!(source, bytes(&disk, OUT));
    }
}

#[test]
fn foreign_hashes_are_nearly_always_told_apart() {
    let disk: Arc<dyn Disk> = Arc::new(FaultyDisk::new());
    let (mut rng, coverage) = (SplitMix64::new(1), range(2, 10_001));
    let mut runs = [entries(&mut rng, 5000, coverage)];
    let paths = write_runs(&disk, Path::new(""), &mut runs);
    build_index(&disk, OUT.as_ref(), coverage, &paths, Options::new()).unwrap();
    let index = WindowIndex::from_source(disk.open(OUT.as_ref()).unwrap()).unwrap();
    let found = (0..25_600).filter(|_| index.lookup(&hash(rng.key())).unwrap().is_some()).count();
    assert!((40..200).contains(&found), "{found} of 25600, 100 expected");
}

#[test]
fn two_hundred_small_runs() {
    let disk: Arc<dyn Disk> = Arc::new(FaultyDisk::new());
    let (mut rng, coverage) = (SplitMix64::new(2), range(2, 2_000_001));
    let mut runs: Vec<_> = (0..200).map(|i| entries(&mut rng, i % 90, coverage)).collect();
    let paths = write_runs(&disk, Path::new(""), &mut runs);
    build_index(&disk, OUT.as_ref(), coverage, &paths, Options::new().workers(2).slice_entries(1000))
        .unwrap();
    let index = WindowIndex::from_source(disk.open(OUT.as_ref()).unwrap()).unwrap();
    for entry in runs.concat() {
        assert_eq!(index.lookup(&hash(entry.key)).unwrap(), Some(entry.seq));
    }
}

#[test]
fn the_same_key_twice_is_refused_wherever_it_is() {
    let coverage = range(2, 10_001);
    let mut rng = SplitMix64::new(3);
    let mut sorted = |count| {
        let mut run = entries(&mut rng, count, coverage);
        run.sort_by_key(|entry| entry.key);
        run
    };
    let (a, mut b) = (sorted(3000), sorted(3000));
    for at in [0, 1, 1500, 2999] {
        let twin = entry(a[at].key, 77);
        // In another run.
        let place = b.partition_point(|entry| entry.key < twin.key);
        b.insert(place, twin);
        // In the same run.
        let mut c = a.clone();
        c.insert(at, twin);
        for runs in [vec![raw_run(&a), raw_run(&b)], vec![raw_run(&c)], vec![raw_run(&a), raw_run(&a)]] {
            for slice_entries in [1 << 20, 1000] {
                match refusal(coverage, &runs, Options::new().workers(2).slice_entries(slice_entries)) {
                    Error::DuplicateKey { key, first, second } => {
                        let seqs = [first, second];
                        assert!(runs.len() == 2 && runs[0] == runs[1] || key == twin.key);
                        assert!(
                            first == second || seqs.contains(&LedgerSeq(77)) && seqs.contains(&a[at].seq)
                        );
                    }
                    e => panic!("{e}"),
                }
            }
        }
        b.remove(place);
    }
}

#[test]
fn entries_outside_the_coverage_are_refused() {
    for (seq, fine) in [(1, false), (2, true), (10_001, true), (10_002, false), (u32::MAX, false)] {
        let run = raw_run(&[entry([1; 16], 5), entry([2; 16], seq), entry([3; 16], 5)]);
        if fine {
            let (faulty, names) = disk_with(&[run]);
            let disk: Arc<dyn Disk> = Arc::new(faulty);
            build_index(&disk, OUT.as_ref(), range(2, 10_001), &names, Options::new()).unwrap();
            continue;
        }
        match refusal(range(2, 10_001), &[raw_run(&[]), run], Options::new()) {
            Error::OutsideCoverage { path, position: 1, seq: found, .. } => {
                assert_eq!((path.as_path(), found), (Path::new("1.bin"), LedgerSeq(seq)));
            }
            e => panic!("{e}"),
        }
    }
}

#[test]
fn unsorted_runs_are_refused_with_their_position() {
    let coverage = range(2, 10_001);
    let mut run = entries(&mut SplitMix64::new(4), 5000, coverage);
    run.sort_by_key(|entry| entry.key);
    for at in [1, 999, 2500, 4999] {
        let mut run = run.clone();
        run.swap(at - 1, at);
        for slice_entries in [1 << 20, 1000] {
            match refusal(coverage, &[raw_run(&run)], Options::new().slice_entries(slice_entries)) {
                Error::UnsortedRun { path, position } => {
                    assert_eq!((path.to_str(), position), (Some("0.bin"), at as u64))
                }
                e => panic!("{e}"),
            }
        }
    }
}

#[test]
fn skewed_runs_are_refused_before_they_fill_the_memory() {
    let run: Vec<Entry> = (0..100_000u32).map(|i| entry(u128::from(i).to_be_bytes(), 5)).collect();
    for options in [Options::new(), Options::new().slice_entries(1000).workers(3)] {
        match refusal(range(2, 10_001), &[raw_run(&run)], options) {
            Error::NotUniform { expected, found: 100_000 } => assert!(expected < 4096, "{expected}"),
            e => panic!("{e}"),
        }
    }
}

#[test]
fn a_run_that_changes_under_a_build_is_refused() {
    // More than stay open. The last one is changed when the first range is done.
    let coverage = range(2, 10_001);
    let mut rng = SplitMix64::new(6);
    let mut sorted = |count| {
        let mut run = entries(&mut rng, count, coverage);
        run.sort_by_key(|entry| entry.key);
        raw_run(&run)
    };
    let runs: Vec<_> = (0..600).map(|_| sorted(20)).collect();
    for changed in [sorted(21), sorted(19), sorted(0), sorted(20), vec![]] {
        let (faulty, names) = disk_with(&runs);
        let disk: Arc<dyn Disk> = Arc::new(faulty.clone());
        let options = Options::new().slice_entries(1000).open_runs(512);
        let mut told = false;
        let built = build_index_with(&disk, OUT.as_ref(), coverage, &names, options, |_| {
            if !std::mem::replace(&mut told, true) {
                let file = PendingFile::create(&disk, "599.bin".as_ref(), IfExists::Replace).unwrap();
                file.write_all_at(&changed, 0).unwrap();
                file.commit().unwrap();
            }
            ControlFlow::Continue(())
        });
        // Of as many other entries, those that belong to the rest of the ranges may happen to be at their place.
        let refused = matches!(&built, Err(Error::CorruptRun { path, .. }) if path == Path::new("599.bin"));
        assert!(refused || changed.len() == runs[599].len() && built.is_ok(), "{built:?}");
        assert_eq!(faulty.paths().len(), names.len() + usize::from(built.is_ok()));
    }
}

#[test]
fn missing_and_damaged_runs_are_refused() {
    let (faulty, _) = disk_with(&[raw_run(&[])]);
    let disk: Arc<dyn Disk> = Arc::new(faulty);
    let error =
        build_index(&disk, OUT.as_ref(), range(2, 10_001), &["0.bin", "no.bin"], Options::new()).unwrap_err();
    assert!(matches!(&error, Error::MissingRun { path } if path == Path::new("no.bin")), "{error}");

    let whole = raw_run(&[entry([1; 16], 5), entry([2; 16], 5)]);
    for len in 0..whole.len() {
        let error = refusal(range(2, 10_001), &[whole[..len].to_vec()], Options::new());
        assert!(matches!(error, Error::CorruptRun { .. }) && error.is_corrupt(), "{len}: {error}");
    }
}

#[test]
fn the_span_must_fit_the_payload() {
    let disk: Arc<dyn Disk> = Arc::new(FaultyDisk::new());
    for (first, last, fine) in [
        (2, 1, false),
        (7, 7, true),
        (2, (1 << 24) + 1, true),
        (2, (1 << 24) + 2, false),
        (0, u32::MAX, false),
    ] {
        let options = Options::new().if_exists(IfExists::Replace);
        match build_index(&disk, OUT.as_ref(), range(first, last), NO_RUNS, options) {
            Ok(_) => assert!(fine, "{first} {last}"),
            Err(Error::BadCoverage { .. }) => assert!(!fine, "{first} {last}"),
            Err(e) => panic!("{e}"),
        }
    }
    let ends = [entry([1; 16], u32::MAX - (1 << 24) + 1), entry([2; 16], u32::MAX)];
    let (faulty, names) = disk_with(&[raw_run(&ends)]);
    let disk: Arc<dyn Disk> = Arc::new(faulty);
    build_index(&disk, OUT.as_ref(), range(ends[0].seq.0, u32::MAX), &names, Options::new()).unwrap();
    let index = WindowIndex::from_source(disk.open(OUT.as_ref()).unwrap()).unwrap();
    index.verify().unwrap();
    for end in ends {
        assert_eq!(index.lookup(&hash(end.key)).unwrap(), Some(end.seq));
    }
}

#[test]
fn progress_is_told_and_a_break_leaves_nothing() {
    let coverage = range(2, 10_001);
    let mut run = entries(&mut SplitMix64::new(5), 10_000, coverage);
    run.sort_by_key(|entry| entry.key);
    let (faulty, names) = disk_with(&[raw_run(&run)]);
    let disk: Arc<dyn Disk> = Arc::new(faulty.clone());
    for (stop_at, workers) in (0..11_000).step_by(1000).zip([1, 2, 3].into_iter().cycle()) {
        let mut told = Vec::new();
        let options = Options::new().workers(workers).slice_entries(1000);
        let built = build_index_with(&disk, OUT.as_ref(), coverage, &names, options, |now| {
            assert_eq!(now.entries, 10_000);
            told.push(now.entries_done);
            if now.entries_done > stop_at { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        assert!(told.is_sorted_by(|a, b| a < b), "{told:?}");
        if stop_at < 10_000 {
            assert!(matches!(built, Err(Error::Cancelled)));
            assert_eq!(faulty.paths(), [Path::new("0.bin")]);
        } else {
            assert_eq!((built.unwrap(), told.last()), (10_000, Some(&10_000)));
            assert!(workers > 1 || told.len() == 4, "one block after the other: {told:?}");
        }
    }
}

#[test]
fn an_existing_index_is_replaced_only_when_asked() {
    let disk: Arc<dyn Disk> = Arc::new(FaultyDisk::new());
    let build = |options| build_index(&disk, OUT.as_ref(), range(2, 3), NO_RUNS, options);
    build(Options::new()).unwrap();
    assert!(matches!(build(Options::new()), Err(Error::Disk(icecore_diskio::Error::Exists { .. }))));
    build(Options::new().if_exists(IfExists::Replace)).unwrap();
}
