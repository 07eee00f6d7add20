//! What the tests of this crate share.
#![allow(dead_code)]

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use icecore_diskio::{Disk, IfExists};
use icecore_ledger::{LedgerRange, LedgerSeq, TxHash};
use icecore_testkit::SplitMix64;
use icecore_txindex::{Entry, Key, write_run};

pub(crate) fn range(first: u32, last: u32) -> LedgerRange {
    LedgerRange { first: LedgerSeq(first), last: LedgerSeq(last) }
}

pub(crate) fn entry(key: Key, seq: u32) -> Entry {
    Entry { key, seq: LedgerSeq(seq) }
}

/// A whole hash with the given first half.
pub(crate) fn hash(key: Key) -> TxHash {
    let mut hash = TxHash([0xA5; 32]);
    hash.0[..16].copy_from_slice(&key);
    hash
}

/// Random entries in ledgers of the coverage.
pub(crate) fn entries(rng: &mut SplitMix64, count: u64, coverage: LedgerRange) -> Vec<Entry> {
    let seq = |rng: &mut SplitMix64| coverage.first.0 + rng.below(coverage.count()) as u32;
    (0..count).map(|_| entry(rng.key(), seq(rng))).collect()
}

/// Writes runs `0.bin`, `1.bin`, … and gives their paths.
pub(crate) fn write_runs(disk: &Arc<dyn Disk>, dir: &Path, runs: &mut [Vec<Entry>]) -> Vec<PathBuf> {
    let write = |(i, run): (usize, &mut Vec<Entry>)| {
        let path = dir.join(format!("{i}.bin"));
        write_run(disk, &path, run, IfExists::Replace).unwrap();
        path
    };
    runs.iter_mut().enumerate().map(write).collect()
}

/// The bytes of a run, whatever is wrong with it.
pub(crate) fn raw_run(entries: &[Entry]) -> Vec<u8> {
    let mut bytes = (entries.len() as u64).to_le_bytes().to_vec();
    for entry in entries {
        bytes.extend_from_slice(&entry.key);
        bytes.extend_from_slice(&entry.seq.0.to_le_bytes());
    }
    bytes
}
