//! A fault at every single operation on the disk: the whole file or none, and a typed error.
#![allow(clippy::panic, clippy::unwrap_used)]

mod common;

use common::{Entries, Way, build_on, contents, entries};
use icecore_diskio::{Fault, FaultyDisk};
use icecore_streamhash::{Algorithm, Error, Options};

/// Enough for the unsorted build to use its file.
const KEYS: usize = 4000;

fn prepared(way: Way) -> Entries {
    let mut entries = entries(1, KEYS, 3);
    if way.sorted {
        entries.sort();
    }
    entries
}

fn options(algorithm: Algorithm) -> Options {
    Options::new().algorithm(algorithm).payload_bytes(3).fingerprint_bytes(1)
}

#[test]
fn every_operation_may_fail() {
    let algorithms = [Algorithm::Bijection, Algorithm::Compact];
    for (way, algorithm) in Way::ALL.into_iter().flat_map(|way| algorithms.map(|algorithm| (way, algorithm)))
    {
        let entries = prepared(way);
        let clean = FaultyDisk::new();
        build_on(&clean, &entries, options(algorithm), way).unwrap();
        let whole = contents(&clean).unwrap();
        assert!(way.sorted || clean.operations() > 20, "the unsorted build did not use its file");
        for operation in 0..clean.operations() {
            for fault in [Fault::Io, Fault::DiskFull, Fault::ShortWrite, Fault::PowerCut] {
                let disk = FaultyDisk::new();
                disk.fail_at(operation, fault);
                let label = format!("{algorithm}, {way:?}, {fault:?} at {operation}");
                let error = build_on(&disk, &entries, options(algorithm), way).unwrap_err();
                assert!(matches!(error, Error::Disk(_)), "{label}: {error}");
                assert!(fault == Fault::PowerCut || disk.paths().is_empty(), "{label}: left behind");
                let after = contents(&disk.after_crash());
                assert!(after.is_none_or(|found| found == whole), "{label}");
            }
        }
        let again = clean.after_crash();
        assert!(contents(&again).unwrap() == whole, "a finished build is durable");
    }
}

#[test]
fn what_cannot_be_read_back_ends_the_build() {
    for way in Way::ALL.into_iter().filter(|way| !way.sorted) {
        let entries = prepared(way);
        let clean = FaultyDisk::new();
        build_on(&clean, &entries, options(Algorithm::Bijection), way).unwrap();
        assert!(clean.reads() > 10, "the unsorted build did not use its file");
        for read in 0..clean.reads() {
            for fault in [Fault::Io, Fault::PowerCut] {
                let disk = FaultyDisk::new();
                disk.fail_read_at(read, fault);
                let error = build_on(&disk, &entries, options(Algorithm::Bijection), way).unwrap_err();
                assert!(matches!(error, Error::Disk(_)), "{way:?}, {fault:?} at {read}: {error}");
                assert!(contents(&disk.after_crash()).is_none());
                assert!(
                    fault == Fault::PowerCut || disk.paths().is_empty(),
                    "{way:?} at {read}: left behind"
                );
            }
        }
    }
}

#[test]
fn a_disk_that_panics_under_a_worker_leaves_no_file() {
    // More than a buffer of payload, so that workers write.
    let mut entries = entries(2, 120_000, 8);
    entries.sort();
    let options = Options::new().payload_bytes(8).fingerprint_bytes(4);
    let disk = FaultyDisk::new();
    // Two operations make the directory, one creates the file.
    disk.fail_at(3, Fault::Panic);
    let error = build_on(&disk, &entries, options, Way { sorted: true, workers: 3 }).unwrap_err();
    assert!(matches!(error, Error::WorkerPanicked { .. }), "{error}");
    assert!(disk.paths().is_empty());
}
