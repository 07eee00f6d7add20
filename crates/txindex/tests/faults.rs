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
            if crashed.paths().contains(&"out".into()) {
                check(&crashed);
            }
            if fault != Fault::PowerCut {
                assert_eq!(disk.paths().len(), before, "{fault:?} at {operation}");
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

/// A disk with two runs on it.
fn with_runs(disk: &FaultyDisk) {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    let mut rng = SplitMix64::new(2);
    let mut runs = [1000, 2000].map(|len| entries(&mut rng, len, range(2, 99)));
    write_runs(&disk, Path::new(""), &mut runs);
}

fn build(disk: &FaultyDisk, workers: usize) -> Result<()> {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    let options = Options::new().workers(workers).slice_entries(1000);
    build_index(&disk, "out".as_ref(), range(2, 99), &["0.bin", "1.bin"], options).map(|_| ())
}

#[test]
fn an_index_is_whole_or_not_there() {
    for workers in [1, 2] {
        with_every_fault(
            with_runs,
            |disk| build(disk, workers),
            |disk| {
                let index = WindowIndex::from_source(disk.open("out".as_ref()).unwrap()).unwrap();
                index.verify().unwrap();
                assert_eq!(index.key_count(), 3000);
            },
        );
    }
}

#[test]
fn a_run_that_cannot_be_read_ends_the_build() {
    for workers in [1, 2] {
        let clean = FaultyDisk::new();
        with_runs(&clean);
        build(&clean, workers).unwrap();
        assert!(clean.reads() >= 8, "two runs are opened, their counts read, and two ranges of each");
        for read in 0..clean.reads() {
            for fault in [Fault::Io, Fault::PowerCut] {
                let disk = FaultyDisk::new();
                with_runs(&disk);
                disk.fail_read_at(read, fault);
                match build(&disk, workers) {
                    Err(error) => assert!(
                        matches!(error, Error::Disk(_)) && error.is_retryable(),
                        "{fault:?} at {read}: {error}"
                    ),
                    // How far a worker must guess, and how often it reads for that, depends on the others.
                    Ok(()) => {
                        assert!(workers > 1 && disk.reads() <= read, "{fault:?} at {read}");
                        continue;
                    }
                }
                let disk = if fault == Fault::PowerCut { disk.after_crash() } else { disk };
                assert_eq!(disk.paths(), [Path::new("0.bin"), Path::new("1.bin")], "{fault:?} at {read}");
                build(&disk, workers).unwrap();
            }
        }
    }
}
