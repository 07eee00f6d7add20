//! Every operation on the disk fails once, in every way: afterwards there is a whole file under the final name, or none.
#![allow(clippy::unwrap_used)]

mod common;

use std::{path::Path, sync::Arc};

use common::{entries, range, write_runs};
use icecore_diskio::{Disk, Fault, FaultyDisk, IfExists};
use icecore_testkit::SplitMix64;
use icecore_txindex::{Error, Options, Result, Run, WindowIndex, build_index, write_run};

const FAULTS: [Fault; 4] = [Fault::Io, Fault::DiskFull, Fault::ShortWrite, Fault::PowerCut];

/// Runs `act` with each fault at each operation; `check` sees the disk whenever the file is there.
fn with_every_fault(
    prepare: impl Fn(&FaultyDisk),
    act: impl Fn(&FaultyDisk) -> Result<()>,
    check: impl Fn(&FaultyDisk),
) {
    let clean = FaultyDisk::new();
    prepare(&clean);
    let from = clean.operations();
    act(&clean).unwrap();
    check(&clean);
    let to = clean.operations();
    assert!(to - from > 4);
    for fault in FAULTS {
        for operation in from..to {
            let disk = FaultyDisk::new();
            prepare(&disk);
            let before = disk.paths().len();
            disk.fail_at(operation, fault);
            let error = act(&disk).unwrap_err();
            assert!(
                matches!(error, Error::Disk(_)) && error.is_retryable(),
                "{fault:?} at {operation}: {error}"
            );
            let crashed = disk.after_crash();
            for disk in [&disk, &crashed] {
                if disk.paths().contains(&"out".into()) {
                    check(disk);
                }
            }
            if fault != Fault::PowerCut {
                let sealed = disk.paths().contains(&"out".into());
                assert_eq!(disk.paths().len(), before + usize::from(sealed), "{fault:?} at {operation}");
            }
        }
    }
}

#[test]
fn a_run_is_whole_or_not_there() {
    let mut run = entries(&mut SplitMix64::new(1), 1000, range(2, 99));
    run.sort_by_key(|entry| entry.key);
    with_every_fault(
        |_| {},
        |disk| {
            let disk: Arc<dyn Disk> = Arc::new(disk.clone());
            write_run(&disk, "out".as_ref(), &mut run.clone(), IfExists::Fail)
        },
        |disk| {
            let found = Run::open(&(Arc::new(disk.clone()) as Arc<dyn Disk>), "out".as_ref()).unwrap();
            assert_eq!(found.scan().collect::<Result<Vec<_>>>().unwrap(), run);
        },
    );
}

#[test]
fn an_index_is_whole_or_not_there() {
    let coverage = range(2, 99);
    for workers in [1, 2] {
        with_every_fault(
            |disk| {
                let disk: Arc<dyn Disk> = Arc::new(disk.clone());
                let mut rng = SplitMix64::new(2);
                let mut runs = [1000, 2000].map(|len| entries(&mut rng, len, coverage));
                write_runs(&disk, Path::new(""), &mut runs);
            },
            |disk| {
                let disk: Arc<dyn Disk> = Arc::new(disk.clone());
                let options = Options::new().workers(workers).slice_entries(1000);
                build_index(&disk, "out".as_ref(), coverage, &["0.bin", "1.bin"], options).map(|_| ())
            },
            |disk| {
                let index = WindowIndex::from_source(disk.open("out".as_ref()).unwrap()).unwrap();
                index.verify().unwrap();
                assert_eq!(index.key_count(), 3000);
            },
        );
    }
}
