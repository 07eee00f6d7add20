//! Runs: written sorted, read back the same, every damage found.
#![allow(clippy::unwrap_used)]

mod common;

use std::{path::Path, sync::Arc};

use common::{entries, entry, range, raw_run};
use icecore_diskio::{Disk, FaultyDisk, IfExists, ReadAt};
use icecore_ledger::LedgerSeq;
use icecore_testkit::SplitMix64;
use icecore_txindex::{Entry, Error, Result, Run, write_run};
use proptest::prelude::*;

fn scan(bytes: &[u8]) -> Result<Vec<Entry>> {
    Run::new(bytes)?.scan().collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn a_run_gives_back_what_was_written_in_order(seed: u64, len in 0u64..2000) {
        let disk: Arc<dyn Disk> = Arc::new(FaultyDisk::new());
        let mut written = entries(&mut SplitMix64::new(seed), len, range(0, u32::MAX));
        let mut expected = written.clone();
        expected.sort_by_key(|entry| entry.key);
        write_run(&disk, Path::new("run"), &mut written, IfExists::Fail).unwrap();
        let run = Run::open(&disk, Path::new("run")).unwrap();
        prop_assert_eq!((run.len(), run.is_empty()), (len, len == 0));
        prop_assert_eq!(run.scan().collect::<Result<Vec<_>>>().unwrap(), expected.clone());
        let file = disk.open(Path::new("run")).unwrap();
        prop_assert_eq!(file.as_bytes().unwrap(), raw_run(&expected));
    }

    #[test]
    fn any_swap_or_repetition_is_found_where_it_is(seed: u64, len in 2usize..300, at in 1usize..300) {
        let at = 1 + at % (len - 1);
        let mut run = entries(&mut SplitMix64::new(seed), len as u64, range(0, u32::MAX));
        run.sort_by_key(|entry| entry.key);
        let mut swapped = run.clone();
        swapped.swap(at - 1, at);
        let found = scan(&raw_run(&swapped));
        let found = matches!(found, Err(Error::UnsortedRun { position, .. }) if position == at as u64);
        prop_assert!(found);
        let first = run[at - 1];
        run[at].key = first.key;
        match scan(&raw_run(&run)) {
            Err(Error::DuplicateKey { key, first: a, second: b }) => {
                prop_assert_eq!((key, a, b), (first.key, first.seq, run[at].seq));
            }
            other => prop_assert!(false, "{other:?}"),
        }
    }
}

#[test]
fn a_run_longer_than_a_block_is_scanned_whole() {
    let mut run = entries(&mut SplitMix64::new(1), 100_000, range(0, u32::MAX));
    run.sort_by_key(|entry| entry.key);
    assert_eq!(scan(&raw_run(&run)).unwrap(), run);
}

#[test]
fn the_length_must_be_that_of_the_count() {
    let entry_bytes = raw_run(&[entry([1; 16], 1), entry([2; 16], 2)]);
    // 20 times these counts wraps around to the right length.
    let wrapping = [1, 2, 3].map(|n| 2 + (n << 62));
    assert!(wrapping.iter().all(|count: &u64| count.wrapping_mul(20) == 40));
    for count in [0, 1, 3, u64::MAX].into_iter().chain(wrapping) {
        let mut bytes = entry_bytes.clone();
        bytes[..8].copy_from_slice(&count.to_le_bytes());
        assert!(matches!(scan(&bytes), Err(Error::CorruptRun { .. })), "{count}");
    }
    for len in 0..entry_bytes.len() {
        assert!(matches!(scan(&entry_bytes[..len]), Err(Error::CorruptRun { .. })), "{len}");
    }
    assert_eq!(scan(&entry_bytes).unwrap().len(), 2);
    assert_eq!(scan(&[0; 8]).unwrap(), []);
}

#[test]
fn a_scan_ends_after_its_first_error() {
    struct Failing(Vec<u8>);
    impl ReadAt for Failing {
        fn len_bytes(&self) -> u64 {
            self.0.len() as u64
        }
        fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> icecore_diskio::Result<()> {
            if offset > 8 {
                return Err(icecore_diskio::Error::Busy { path: "x".into() });
            }
            self.0.read_exact_at(buf, offset)
        }
    }
    let mut run = entries(&mut SplitMix64::new(1), 100_000, range(0, u32::MAX));
    run.sort_by_key(|entry| entry.key);
    let source = Run::new(Failing(raw_run(&run))).unwrap();
    let mut scan = source.scan();
    let fine = scan.by_ref().take_while(Result::is_ok).count();
    assert!(fine > 0 && fine < run.len());
    assert!(scan.next().is_none());
}

#[test]
fn a_duplicate_is_refused_before_anything_is_written() {
    let disk = FaultyDisk::new();
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    let mut twins = [entry([3; 16], 9), entry([1; 16], 5), entry([3; 16], 4)];
    let error = write_run(&shared, Path::new("run"), &mut twins, IfExists::Fail).unwrap_err();
    let Error::DuplicateKey { key, first, second } = error else { panic!("{error}") };
    assert_eq!((key, first.min(second), first.max(second)), ([3; 16], LedgerSeq(4), LedgerSeq(9)));
    assert_eq!(disk.operations(), 0);
}

#[test]
fn a_missing_run_is_not_just_any_error() {
    let disk: Arc<dyn Disk> = Arc::new(FaultyDisk::new());
    assert!(
        matches!(Run::open(&disk, Path::new("no")), Err(Error::MissingRun { path }) if path == Path::new("no"))
    );
}
