//! A fault at every single operation on the disk: the whole file or none, and a typed error.
#![allow(clippy::panic, clippy::unwrap_used)]

mod common;

use common::{Entries, Way, build_on, contents, entries};
use icecore_diskio::{Fault, FaultyDisk};
use icecore_streamhash::{Error, Options};

/// Enough for the unsorted build to use its file.
const KEYS: usize = 4000;

fn prepared(way: Way) -> Entries {
    let mut entries = entries(1, KEYS, 3);
    if way.sorted {
        entries.sort();
    }
    entries
}

fn options() -> Options {
    Options::new().payload_bytes(3).fingerprint_bytes(1)
}

#[test]
fn every_operation_may_fail() {
    for way in Way::ALL {
        let entries = prepared(way);
        let clean = FaultyDisk::new();
        build_on(&clean, &entries, options(), way).unwrap();
        let whole = contents(&clean).unwrap();
        assert!(way.sorted || clean.operations() > 20, "the unsorted build did not use its file");
        // The first operation makes the directory.
        for operation in 1..clean.operations() {
            for fault in [Fault::Io, Fault::DiskFull, Fault::ShortWrite, Fault::PowerCut] {
                let disk = FaultyDisk::new();
                disk.fail_at(operation, fault);
                let label = format!("{way:?}, {fault:?} at {operation}");
                let error = build_on(&disk, &entries, options(), way).unwrap_err();
                assert!(matches!(error, Error::Disk(_)), "{label}: {error}");
                let found = contents(&disk);
                assert!(found.is_none_or(|found| found == whole), "{label}");
                let after = contents(&disk.after_crash());
                assert!(after.is_none_or(|found| found == whole), "{label}");
                let left = disk.paths().iter().any(|path| path.to_string_lossy().ends_with(".partial"));
                assert!(!left || fault == Fault::PowerCut, "{label}: left behind");
            }
        }
        let again = clean.after_crash();
        assert!(contents(&again).unwrap() == whole, "a finished build is durable");
    }
}
