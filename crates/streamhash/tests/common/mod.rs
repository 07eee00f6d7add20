//! What the tests of this crate share.
#![allow(dead_code)]

use std::{path::Path, sync::Arc};

use icecore_diskio::{Disk, FaultyDisk, ReadAt};
use icecore_streamhash::{Algorithm, Error, Index, Options, Result, SortedBuilder, Summary, UnsortedBuilder};
use icecore_testkit::{SplitMix64, golden::Streamhash};
use sha2::{Digest, Sha256};

pub(crate) type Entries = Vec<([u8; 16], u64)>;

/// How to build.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Way {
    pub(crate) sorted: bool,
    pub(crate) workers: usize,
}

impl Way {
    pub(crate) const ALL: [Way; 4] = [
        Way { sorted: true, workers: 1 },
        Way { sorted: true, workers: 3 },
        Way { sorted: false, workers: 1 },
        Way { sorted: false, workers: 3 },
    ];
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(crate) fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

pub(crate) fn options(case: &Streamhash) -> Options {
    let algorithm = if case.algorithm == "ptrhash" { Algorithm::PtrHash } else { Algorithm::Bijection };
    Options::new()
        .algorithm(algorithm)
        .payload_bytes(case.payload_bytes as u8)
        .fingerprint_bytes(case.fingerprint_bytes)
        .global_seed(case.global_seed)
        .user_metadata(case.user_metadata_hex.clone())
}

/// Distinct keys with payloads of so many bytes.
pub(crate) fn entries(seed: u64, count: usize, payload_bytes: u32) -> Entries {
    let mut rng = SplitMix64::new(seed);
    let mask = u64::MAX.checked_shr(64 - 8 * payload_bytes).unwrap_or(0);
    (0..count).map(|_| (rng.key(), rng.next_u64() & mask)).collect()
}

/// Builds in a disk's `/d/index`.
pub(crate) fn build_on(
    disk: &FaultyDisk,
    entries: &[([u8; 16], u64)],
    options: Options,
    way: Way,
) -> Result<Summary> {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    disk.create_dir_all(Path::new("/d"))?;
    let (path, count) = (Path::new("/d/index"), entries.len() as u64);
    // So little memory that an unsorted build has to use its file.
    let options = options.workers(way.workers).memory_bytes(1 << 12);
    if way.sorted {
        let mut builder = SortedBuilder::create_on(&disk, path, count, options)?;
        entries.iter().try_for_each(|(key, payload)| builder.add(key, *payload))?;
        builder.finish()
    } else {
        let mut builder = UnsortedBuilder::create_on(&disk, path, count, options)?;
        entries.iter().try_for_each(|(key, payload)| builder.add(key, *payload))?;
        builder.finish()
    }
}

/// The bytes of the file that a build makes; the entries are sorted or shuffled as the way asks.
pub(crate) fn build(entries: &mut Entries, options: Options, way: Way) -> Result<Vec<u8>> {
    if way.sorted {
        entries.sort();
    } else {
        shuffle(entries);
    }
    let disk = FaultyDisk::new();
    let summary = build_on(&disk, entries, options, way)?;
    let file = contents(&disk).unwrap();
    assert_eq!(summary.file_bytes, file.len() as u64);
    Ok(file)
}

/// What is under the final name.
pub(crate) fn contents(disk: &FaultyDisk) -> Option<Vec<u8>> {
    let source = disk.open(Path::new("/d/index")).ok()?;
    let mut bytes = vec![0; source.len_bytes() as usize];
    source.read_exact_at(&mut bytes, 0).unwrap();
    Some(bytes)
}

fn shuffle(entries: &mut Entries) {
    let mut rng = SplitMix64::new(entries.len() as u64);
    for i in (1..entries.len()).rev() {
        entries.swap(i, rng.below(i as u64 + 1) as usize);
    }
}

/// Every key is found with its payload, one by one and in a batch, and the ranks are a bijection.
pub(crate) fn check_all_found(index: &Index<impl ReadAt>, entries: &[([u8; 16], u64)]) {
    let keys: Vec<_> = entries.iter().map(|(key, _)| *key).collect();
    let mut hits = Vec::new();
    index.lookup_batch(&keys, &mut hits).unwrap();
    let mut seen = vec![false; entries.len()];
    for ((key, payload), batched) in entries.iter().zip(&hits) {
        let hit = index.lookup(key).unwrap().unwrap();
        assert_eq!((hit.payload, Some(hit)), (*payload, *batched));
        let Some(rank) = hit.rank else {
            assert!(matches!(index.rank(key), Err(Error::NoRanks { .. })));
            continue;
        };
        assert_eq!(index.rank(key).unwrap(), Some(rank));
        assert!(!std::mem::replace(&mut seen[rank as usize], true), "a rank occurs twice");
    }
    assert_eq!(hits.len(), entries.len());
    index.verify().unwrap();
}
