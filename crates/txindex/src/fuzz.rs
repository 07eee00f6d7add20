//! Harnesses: each takes any bytes and panics when a promise of this crate is broken.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::{collections::BTreeMap, path::Path, sync::Arc};

use icecore_diskio::{Disk, FaultyDisk, IfExists, PendingFile};
use icecore_ledger::{LedgerRange, LedgerSeq, TxHash};

use crate::{
    Algorithm, Entry, Error, Key, Options, Result, Run, WindowIndex, build_index, run::entries, write_run,
};

const OUT: &str = "out.idx";

fn path(name: &str) -> &Path {
    name.as_ref()
}

fn hash(key: &Key) -> TxHash {
    let mut hash = TxHash([0; 32]);
    hash.0[..16].copy_from_slice(key);
    hash
}

/// Any bytes as a run: a scan and a build agree on whether it is one, and what is one is written back the same.
pub fn run(data: &[u8]) {
    let scanned = Run::new(data).and_then(|run| run.scan().collect::<Result<Vec<Entry>>>());
    let disk: Arc<dyn Disk> = Arc::new(FaultyDisk::new());
    let file = PendingFile::create(&disk, path("in.bin"), IfExists::Fail).unwrap();
    file.write_all_at(data, 0).unwrap();
    file.commit().unwrap();
    let first =
        entries(data.get(8..).unwrap_or_default()).map(|entry| entry.seq).min().unwrap_or(LedgerSeq(0));
    let coverage = LedgerRange { first, last: LedgerSeq(first.0.saturating_add((1 << 24) - 1)) };
    let built = build_index(&disk, path(OUT), coverage, &["in.bin"], Options::new());
    match (scanned, built) {
        (Ok(mut entries), built) => {
            check_build(&disk, &entries, coverage, built);
            write_run(&disk, path("again.bin"), &mut entries, IfExists::Fail).unwrap();
            assert_eq!(disk.open(path("again.bin")).unwrap().as_bytes(), Some(data));
        }
        (Err(_), built) => assert!(built.is_err(), "a build takes what a scan refuses"),
    }
}

/// An index over sorted, distinct entries holds just these; or it says what is wrong with them.
fn check_build(disk: &Arc<dyn Disk>, entries: &[Entry], coverage: LedgerRange, built: Result<u64>) {
    match built {
        Ok(count) => assert_eq!(count, entries.len() as u64),
        Err(Error::OutsideCoverage { seq, .. }) => return assert!(!coverage.contains(seq)),
        // Chosen keys may crowd together, or defeat every seed.
        Err(Error::NotUniform { .. } | Error::Index(_)) => return,
        Err(e) => panic!("{e}"),
    }
    let index = WindowIndex::from_source(disk.open(path(OUT)).unwrap()).unwrap();
    index.verify().unwrap();
    assert_eq!((index.key_count(), index.coverage()), (entries.len() as u64, coverage));
    for entry in entries {
        assert_eq!(index.lookup(&hash(&entry.key)).unwrap(), Some(entry.seq));
    }
}

/// Any bytes as an index: opened or refused, every lookup ends, in a ledger of the coverage if in any; one after the
/// other and all at once give the same.
pub fn index(data: &[u8]) {
    let Ok(index) = WindowIndex::from_source(data) else { return };
    let hashes: Vec<TxHash> = data.as_chunks().0.iter().rev().take(64).map(hash).collect();
    let single: Vec<_> = hashes.iter().map(|hash| index.lookup(hash)).collect();
    for seq in single.iter().flatten().flatten() {
        assert!(index.coverage().contains(*seq));
    }
    let mut batch = Vec::new();
    let batched = index.lookup_batch(&hashes, &mut batch);
    assert_eq!(batched.is_ok(), single.iter().all(Result::is_ok));
    if batched.is_ok() {
        assert_eq!(batch, single.into_iter().map(Result::unwrap).collect::<Vec<_>>());
    }
    let _ = index.verify();
}

/// Entries drawn from the bytes, spread over a few runs: the index holds them all, or names a key that is there twice.
pub fn round_trip(data: &[u8]) {
    let Some((&[how, a, b, c], body)) = data.split_first_chunk() else { return };
    let coverage = LedgerRange { first: LedgerSeq(2), last: LedgerSeq(2 + u32::from_le_bytes([a, b, c, 0])) };
    let within = |seq: LedgerSeq| LedgerSeq(2 + (u64::from(seq.0) % coverage.count()) as u32);
    let all: Vec<Entry> = entries(body).map(|entry| Entry { seq: within(entry.seq), ..entry }).collect();
    let mut seqs = BTreeMap::<Key, Vec<LedgerSeq>>::new();
    for entry in &all {
        seqs.entry(entry.key).or_default().push(entry.seq);
    }

    let disk: Arc<dyn Disk> = Arc::new(FaultyDisk::new());
    let (run_count, workers) = (1 + usize::from(how & 3), 1 + usize::from(how >> 2 & 1));
    let mut paths = Vec::new();
    let mut result = Ok(());
    for i in 0..run_count {
        let mut run: Vec<Entry> = all.iter().skip(i).step_by(run_count).copied().collect();
        let name = format!("{i}.bin");
        result = result.and(write_run(&disk, path(&name), &mut run, IfExists::Fail));
        paths.push(name);
    }
    let algorithm = Algorithm::ALL[usize::from(a) % Algorithm::ALL.len()];
    let options = Options::new().workers(workers).slice_entries(1 + u64::from(how >> 3) * 16);
    let options = options.algorithm(algorithm);
    let built = result.and_then(|()| build_index(&disk, path(OUT), coverage, &paths, options));
    match built {
        Err(Error::DuplicateKey { key, first, second }) => {
            assert!(seqs[&key].len() > 1 && seqs[&key].contains(&first) && seqs[&key].contains(&second));
        }
        built => {
            assert!(built.is_err() || seqs.len() == all.len(), "a key that is there twice was overlooked");
            check_build(&disk, &all, coverage, built);
        }
    }
}

#[cfg(test)]
mod tests {
    use icecore_testkit::SplitMix64;

    use super::*;

    /// Some sorted entries as a run, and the index over it.
    fn valid_files(rng: &mut SplitMix64) -> (Vec<u8>, Vec<u8>) {
        let disk: Arc<dyn Disk> = Arc::new(FaultyDisk::new());
        let seq = |rng: &mut SplitMix64| LedgerSeq(2 + rng.below(10_000) as u32);
        let mut entries: Vec<Entry> =
            (0..rng.below(60)).map(|_| Entry { key: rng.key(), seq: seq(rng) }).collect();
        write_run(&disk, path("0.bin"), &mut entries, IfExists::Fail).unwrap();
        let coverage = LedgerRange { first: LedgerSeq(2), last: LedgerSeq(10_001) };
        let algorithm = Algorithm::ALL[rng.below(4) as usize];
        let options = Options::new().algorithm(algorithm);
        build_index(&disk, path(OUT), coverage, &["0.bin"], options).unwrap();
        let bytes = |name| disk.open(path(name)).unwrap().as_bytes().unwrap().to_vec();
        (bytes("0.bin"), bytes(OUT))
    }

    fn mutate(rng: &mut SplitMix64, bytes: &mut Vec<u8>) {
        for _ in 0..rng.below(4) {
            match rng.below(4) {
                0 => bytes.truncate(rng.below(bytes.len() as u64 + 1) as usize),
                1 => bytes.push(rng.next_u64() as u8),
                _ if bytes.is_empty() => {}
                _ => {
                    let at = rng.below(bytes.len() as u64) as usize;
                    bytes[at] = [rng.next_u64() as u8, 0, 0xFF][rng.below(3) as usize];
                }
            }
        }
    }

    #[test]
    fn harnesses_pass_on_valid_and_mutated_files() {
        let mut rng = SplitMix64::new(1);
        for _ in 0..300 {
            let (mut a_run, mut an_index) = valid_files(&mut rng);
            mutate(&mut rng, &mut a_run);
            mutate(&mut rng, &mut an_index);
            run(&a_run);
            round_trip(&a_run);
            index(&an_index);
        }
    }

    #[test]
    fn harnesses_pass_on_noise() {
        let mut rng = SplitMix64::new(2);
        for harness in [run, index, round_trip] {
            harness(&[]);
            for _ in 0..200 {
                let noise = rng.item(500);
                harness(&noise);
                // Few different keys.
                harness(&noise.iter().map(|byte| byte & 1).collect::<Vec<_>>());
            }
        }
    }
}
