//! Opening: only window indexes are taken for one, and damage is found by whoever looks.
#![allow(clippy::unwrap_used)]

mod common;

use std::{path::Path, sync::Arc};

use common::{entries, hash, range, write_runs};
use icecore_diskio::{Disk, FaultyDisk};
use icecore_streamhash as stmh;
use icecore_testkit::SplitMix64;
use icecore_txindex::{Algorithm, Entry, Error, Options, WindowIndex, build_index};

/// An STMH file with one key, [7; 16], and the given payload.
fn stmh_file(options: stmh::Options, payload: u64) -> Vec<u8> {
    let disk: Arc<dyn Disk> = Arc::new(FaultyDisk::new());
    let mut builder = stmh::SortedBuilder::create_on(&disk, "x", 1, options).unwrap();
    builder.add(&[7; 16], payload).unwrap();
    builder.finish().unwrap();
    disk.open(Path::new("x")).unwrap().as_bytes().unwrap().to_vec()
}

fn options(metadata: &[u32]) -> stmh::Options {
    let metadata: Vec<u8> = metadata.iter().flat_map(|word| word.to_le_bytes()).collect();
    stmh::Options::new().payload_bytes(3).fingerprint_bytes(1).user_metadata(metadata)
}

#[test]
fn other_index_files_are_refused() {
    let open = |options| WindowIndex::from_source(stmh_file(options, 0));
    assert!(open(options(&[2, 11])).is_ok());
    assert!(open(options(&[2, 11]).algorithm(Algorithm::PtrHash)).is_ok());
    let compact = |max| options(&[2, 11]).algorithm(Algorithm::Compact).max_payload(max);
    assert!(open(compact(9)).is_ok());
    assert!(matches!(open(compact(10)), Err(Error::NotAWindowIndex { .. })));
    for other in [
        options(&[2, 11]).payload_bytes(4),
        options(&[2, 11]).fingerprint_bytes(0),
        options(&[]),
        options(&[2]),
        options(&[2, 11, 0]),
        options(&[11, 2]),
        options(&[2, (1 << 24) + 2]),
        options(&[0, u32::MAX]),
    ] {
        match open(other) {
            Err(error @ Error::NotAWindowIndex { .. }) => assert!(error.is_corrupt()),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_ledger_beyond_the_coverage_is_damage() {
    for (payload, fine) in [(0, true), (9, true), (10, false), (0xFF_FFFF, false)] {
        for first in [2, u32::MAX - 9] {
            let index = WindowIndex::from_source(stmh_file(options(&[first, first + 9]), payload)).unwrap();
            let mut out = Vec::new();
            let results = [
                index.lookup(&hash([7; 16])).map(|_| ()),
                index.lookup_batch(&[hash([7; 16])], &mut out),
                index.verify(),
            ];
            for result in results {
                match result {
                    Ok(()) => assert!(fine, "{payload}"),
                    Err(Error::CorruptIndex { .. }) => assert!(!fine, "{payload}"),
                    Err(e) => panic!("{e}"),
                }
            }
        }
    }
}

#[test]
fn every_algorithm_finds_every_ledger() {
    let coverage = range(2, 10_001);
    for algorithm in Algorithm::ALL {
        let disk: Arc<dyn Disk> = Arc::new(FaultyDisk::new());
        let mut runs = [1, 2].map(|seed| entries(&mut SplitMix64::new(seed), 20_000, coverage));
        let paths = write_runs(&disk, Path::new(""), &mut runs);
        let options = Options::new().algorithm(algorithm).workers(2);
        build_index(&disk, "out".as_ref(), coverage, &paths, options).unwrap();
        let index = WindowIndex::from_source(disk.open("out".as_ref()).unwrap()).unwrap();
        assert_eq!((index.algorithm(), index.key_count()), (algorithm, 40_000));
        index.verify().unwrap();
        let hashes: Vec<_> = runs.iter().flatten().map(|entry| hash(entry.key)).collect();
        let mut batch = Vec::new();
        index.lookup_batch(&hashes, &mut batch).unwrap();
        for ((entry, hash), batched) in runs.iter().flatten().zip(&hashes).zip(batch) {
            assert_eq!((batched, index.lookup(hash).unwrap()), (Some(entry.seq), Some(entry.seq)));
        }
        // A stranger is given a ledger of the coverage, if any.
        let mut rng = SplitMix64::new(3);
        let mut found = 0;
        for _ in 0..20_000 {
            found += usize::from(index.lookup(&hash(rng.key())).unwrap().is_some());
        }
        assert!(found < 200, "{algorithm}: {found}");
    }
}

#[test]
fn every_damaged_byte_is_found() {
    [Algorithm::Bijection, Algorithm::Compact].into_iter().for_each(every_damaged_byte_is_found_in);
}

fn every_damaged_byte_is_found_in(algorithm: Algorithm) {
    let disk: Arc<dyn Disk> = Arc::new(FaultyDisk::new());
    let coverage = range(2, 20_001);
    let mut runs = [entries(&mut SplitMix64::new(1), 700, coverage)];
    let paths = write_runs(&disk, Path::new(""), &mut runs);
    build_index(&disk, "out".as_ref(), coverage, &paths, Options::new().algorithm(algorithm)).unwrap();
    let whole = disk.open("out".as_ref()).unwrap().as_bytes().unwrap().to_vec();
    WindowIndex::from_source(whole.as_slice()).unwrap().verify().unwrap();
    // The hashes of the format cover payload and metadata; a wrong seed or coverage cannot be told from a right one by
    // the file alone, but in a compact one.
    let (seed, coverage) = (23..31, 68..76);
    let guarded =
        |at: &usize| algorithm == Algorithm::Compact || !seed.contains(at) && !coverage.contains(at);
    for at in (0..whole.len()).filter(guarded) {
        let mut damaged = whole.clone();
        damaged[at] ^= 1 << (at % 8);
        let found = WindowIndex::from_source(damaged.as_slice()).and_then(|index| index.verify());
        assert!(found.is_err(), "byte {at}");
        // Lookups may be wrong, but end.
        if let Ok(index) = WindowIndex::from_source(damaged.as_slice()) {
            let _: Vec<_> = runs[0].iter().map(|entry: &Entry| index.lookup(&hash(entry.key))).collect();
        }
    }
    for len in 0..whole.len() {
        let error = WindowIndex::from_source(&whole[..len]).and_then(|index| index.verify()).unwrap_err();
        assert!(error.is_corrupt(), "{len}: {error}");
    }
}
