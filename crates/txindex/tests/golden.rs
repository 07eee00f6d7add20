//! The files of the golden cases, byte for byte.
#![allow(clippy::unwrap_used)]

mod common;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use common::{entry, hash, range};
use icecore_diskio::{Disk, FaultyDisk, IfExists};
use icecore_testkit::golden::{Case, Txhash, builtin};
use icecore_txindex::{Entry, Options, WindowIndex, build_index, write_run};
use sha2::{Digest, Sha256};

fn cases() -> impl Iterator<Item = Txhash> {
    builtin().into_iter().filter_map(|case| match case {
        Case::Txhash(case) => Some(case),
        _ => None,
    })
}

fn sha256(disk: &dyn Disk, path: &Path) -> String {
    let file = disk.open(path).unwrap();
    Sha256::digest(file.as_bytes().unwrap()).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn runs_and_indexes_are_those_of_the_golden_cases() {
    let disk: Arc<dyn Disk> = Arc::new(FaultyDisk::new());
    let mut count = 0;
    for case in cases() {
        let chunks = case.chunks();
        let path = |chunk: usize| format!("{}-{chunk}.bin", case.rng_seed).into();
        let mut runs: Vec<PathBuf> = (0..chunks.len()).map(path).collect();
        for ((run, chunk), expected) in runs.iter().zip(&chunks).zip(&case.bin_sha256) {
            let mut entries: Vec<Entry> = chunk.iter().map(|&(key, seq)| entry(key, seq)).collect();
            write_run(&disk, run, &mut entries, IfExists::Fail).unwrap();
            assert_eq!(sha256(&*disk, run), *expected, "{}", run.display());
        }
        let last_chunk = case.first_chunk + case.chunks - 1;
        let coverage = range(case.first_chunk * 10_000 + 2, last_chunk * 10_000 + 10_001);
        let out = PathBuf::from(format!("{}.idx", case.rng_seed));
        for (workers, slice_entries) in [(1, 1 << 20), (3, 997)] {
            let options =
                Options::new().workers(workers).slice_entries(slice_entries).if_exists(IfExists::Replace);
            build_index(&disk, &out, coverage, &runs, options).unwrap();
            if !case.idx_sha256.is_empty() {
                assert_eq!(
                    sha256(&*disk, &out),
                    case.idx_sha256,
                    "seed {}, {workers} workers",
                    case.rng_seed
                );
            }
            runs.reverse();
        }
        let index = WindowIndex::from_source(disk.open(&out).unwrap()).unwrap();
        index.verify().unwrap();
        assert_eq!(index.coverage(), coverage);
        for &(key, seq) in chunks.iter().flatten() {
            assert_eq!(index.lookup(&hash(key)).unwrap().unwrap().0, seq);
        }
        count += 1;
    }
    assert!(count >= 5, "{count} cases");
}

#[test]
fn a_coverage_without_transactions_has_a_valid_index() {
    let disk: Arc<dyn Disk> = Arc::new(FaultyDisk::new());
    let (run, out): (&Path, &Path) = ("empty.bin".as_ref(), "empty.idx".as_ref());
    write_run(&disk, run, &mut [], IfExists::Fail).unwrap();
    for runs in [vec![], vec![run], vec![run, run]] {
        let options = Options::new().if_exists(IfExists::Replace);
        assert_eq!(build_index(&disk, out, range(2, 10_001), &runs, options).unwrap(), 0);
        let index = WindowIndex::from_source(disk.open(out).unwrap()).unwrap();
        index.verify().unwrap();
        assert_eq!(index.key_count(), 0);
        assert_eq!(index.lookup(&hash([7; 16])).unwrap(), None);
    }
}
