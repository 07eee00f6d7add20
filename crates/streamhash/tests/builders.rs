//! What builders refuse, and that they leave nothing behind.
#![allow(clippy::panic, clippy::unwrap_used)]

mod common;

use std::{ops::ControlFlow, path::Path, sync::Arc};

use common::{Entries, Way, build, contents, entries};
use icecore_diskio::{Disk, FaultyDisk, IfExists};
use icecore_streamhash::{Algorithm, Error, Index, Options, Result, SortedBuilder, UnsortedBuilder};
use proptest::prelude::*;

const ALGORITHMS: [Algorithm; 2] = [Algorithm::Bijection, Algorithm::PtrHash];

/// The error that a build ends in, the same in all four ways.
fn error(entries: &Entries, options: &Options) -> Error {
    let errors = Way::ALL.map(|way| build(&mut entries.clone(), options.clone(), way).unwrap_err());
    for other in &errors {
        assert_eq!(format!("{other:?}"), format!("{:?}", errors[0]));
    }
    errors[0].clone()
}

/// The file of a build, the same in all four ways, with every key in it.
fn built(entries: &Entries, options: &Options) -> Index<Vec<u8>> {
    let files = Way::ALL.map(|way| build(&mut entries.clone(), options.clone(), way).unwrap());
    assert!(files.iter().all(|file| *file == files[0]));
    let [file, ..] = files;
    let index = Index::from_source(file).unwrap();
    common::check_all_found(&index, entries);
    index
}

/// Adds in memory, `sorted` or not, and returns the first error; the disk must be empty afterwards.
fn first_error(sorted: bool, count: u64, options: Options, keys: &[(Vec<u8>, u64)]) -> Error {
    let faulty = FaultyDisk::new();
    let disk: Arc<dyn Disk> = Arc::new(faulty.clone());
    let path = Path::new("index");
    macro_rules! run {
        ($builder:ident) => {{
            let mut builder = $builder::create_on(&disk, path, count, options)?;
            for (key, payload) in keys {
                if let Err(error) = builder.add(key, *payload) {
                    let again = builder.add(&[0; 16], 0).unwrap_err();
                    assert_eq!(format!("{again:?}"), format!("{error:?}"));
                    break;
                }
            }
            builder.finish().map(drop)
        }};
    }
    let run = || -> Result<()> { if sorted { run!(SortedBuilder) } else { run!(UnsortedBuilder) } };
    let error = run().unwrap_err();
    assert!(faulty.paths().is_empty(), "left behind: {:?}", faulty.paths());
    error
}

#[test]
fn no_key_is_an_index_too() {
    for algorithm in ALGORITHMS {
        let options = Options::new().algorithm(algorithm).payload_bytes(3).fingerprint_bytes(1);
        let index = built(&Vec::new(), &options);
        assert_eq!(index.header().blocks, 2);
        for (key, _) in entries(1, 100, 0) {
            assert_eq!((index.lookup(&key).unwrap(), index.rank(&key).unwrap()), (None, None));
        }
        assert!(matches!(index.payload(0), Err(Error::RankOutOfRange { rank: 0, keys: 0 })));
    }
}

#[test]
fn every_entry_size() {
    for payload_bytes in 0..=8u8 {
        for fingerprint_bytes in 0..=4 {
            let entries = entries(7, 60, payload_bytes.into());
            let options = Options::new().payload_bytes(payload_bytes).fingerprint_bytes(fingerprint_bytes);
            let index = built(&entries, &options);
            for (key, payload) in &entries {
                let rank = index.rank(key).unwrap().unwrap();
                assert_eq!(index.payload(rank).unwrap(), *payload);
                let own = icecore_streamhash::fingerprint(key, fingerprint_bytes).unwrap();
                assert_eq!(index.fingerprint(rank).unwrap(), own);
            }
        }
    }
}

#[test]
fn only_sixteen_bytes_of_a_key_matter() {
    let entries = entries(2, 500, 1);
    let plain = build(&mut entries.clone(), Options::new().payload_bytes(1), Way::ALL[0]).unwrap();
    let disk = FaultyDisk::new();
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    let options = Options::new().payload_bytes(1);
    let mut builder = UnsortedBuilder::create_on(&shared, "/d/index", 500, options.clone()).err();
    assert!(builder.take().is_some_and(|error| matches!(error, Error::Disk(_))), "no such directory");
    shared.create_dir_all(Path::new("/d")).unwrap();
    let mut builder = UnsortedBuilder::create_on(&shared, "/d/index", 500, options).unwrap();
    for (i, (key, payload)) in entries.iter().enumerate() {
        let mut key = key.to_vec();
        key.resize(if i == 0 { 65_535 } else { 16 + i % 50 }, i as u8);
        builder.add(&key, *payload).unwrap();
    }
    builder.finish().unwrap();
    assert!(contents(&disk).unwrap() == plain);
}

#[test]
fn keys_and_payloads_out_of_range() {
    for sorted in [true, false] {
        for len_bytes in [0, 15, 65_536] {
            let error = first_error(sorted, 1, Options::new(), &[(vec![1; len_bytes], 0)]);
            assert!(matches!(error, Error::KeyLength { len_bytes: l } if l == len_bytes));
        }
        for (payload_bytes, payload) in [(0, 1), (1, 256), (3, 1 << 24), (7, 1 << 56)] {
            let options = Options::new().payload_bytes(payload_bytes);
            let error = first_error(sorted, 1, options, &[(vec![1; 16], payload)]);
            assert!(matches!(error, Error::PayloadTooLarge { payload: p, .. } if p == payload));
        }
        for options in [Options::new().payload_bytes(9), Options::new().fingerprint_bytes(5)] {
            assert!(matches!(first_error(sorted, 1, options, &[]), Error::Option { .. }));
        }
        assert!(matches!(first_error(sorted, 1 << 40, Options::new(), &[]), Error::Option { .. }));
    }
}

#[test]
fn the_number_of_keys_must_be_right() {
    let keys: Vec<_> = {
        let mut entries = entries(3, 10, 0);
        entries.sort();
        entries.into_iter().map(|(key, _)| (key.to_vec(), 0)).collect()
    };
    for sorted in [true, false] {
        for workers in [1, 3] {
            let options = || Options::new().workers(workers);
            let error = first_error(sorted, 11, options(), &keys);
            assert!(matches!(error, Error::KeyCountMismatch { expected: 11, added: 10 }));
            let error = first_error(sorted, 9, options(), &keys);
            assert!(matches!(error, Error::KeyCountMismatch { expected: 9, added: 10 }));
        }
    }
}

#[test]
fn a_step_back_is_an_error() {
    let keys = [(vec![0xF0; 16], 0), (vec![0x10; 16], 0)];
    let error = first_error(true, 2, Options::new(), &keys);
    assert!(matches!(error, Error::Unsorted { block: 0, previous: 1 }));
    // Within a block the order does not matter.
    let mut jumbled = entries(4, 900, 0);
    let sorted = build(&mut jumbled.clone(), Options::new(), Way::ALL[0]).unwrap();
    jumbled.sort_by_key(|(key, _)| key[0] >> 7);
    let disk = FaultyDisk::new();
    common::build_on(&disk, &jumbled, Options::new(), Way::ALL[0]).unwrap();
    assert!(contents(&disk).unwrap() == sorted);
}

#[test]
fn duplicates_are_found() {
    for algorithm in ALGORITHMS {
        for count in [2, 50, 5000] {
            let mut entries = entries(count as u64, count, 0);
            entries[count - 1] = entries[count / 3];
            let (k0, k1) = (&entries[count - 1].0[..8], &entries[count - 1].0[8..]);
            let words = [k0, k1].map(|word| u64::from_le_bytes(word.try_into().unwrap()));
            let error = error(&entries, &Options::new().algorithm(algorithm));
            assert!(matches!(error, Error::DuplicateKey { k0, k1, .. } if [k0, k1] == words), "{error}");
        }
    }
}

/// Keys of block 0 of 2, `per_bucket` in each of so many of Bijection's buckets, and as many uniform ones of block 1.
fn crowded(buckets: u64, per_bucket: u64) -> Entries {
    let mut all = entries(5, (buckets * per_bucket) as usize, 0);
    for (i, (key, _)) in all.iter_mut().enumerate() {
        let bucket = i as u64 % buckets;
        key[0] &= 0x7F;
        key[7] = (bucket >> 2) as u8;
        key[6] = (bucket << 6) as u8 | key[6] & 0x3F;
    }
    let mut others = entries(6, all.len(), 0);
    others.iter_mut().for_each(|(key, _)| key[0] |= 0x80);
    all.append(&mut others);
    all
}

#[test]
fn large_buckets_go_to_the_list() {
    for (buckets, per_bucket) in [(1, 8), (3, 9), (40, 16), (100, 18), (2, 22)] {
        built(&crowded(buckets, per_bucket), &Options::new().fingerprint_bytes(1));
    }
}

#[test]
fn buckets_beyond_the_format_are_errors() {
    let error = error(&crowded(160, 18), &Options::new());
    assert!(matches!(error, Error::FallbackOverflow { block: 0 }), "{error}");
    let error = self::error(&crowded(1, 60), &Options::new());
    assert!(matches!(error, Error::SplitSearchFailed { block: 0, keys: 60 }), "{error}");
    assert!(error.wants_other_seed());
}

#[test]
fn keys_that_ptrhash_cannot_part() {
    let mut twins = entries(8, 2, 0);
    let (mut key, _) = twins[0];
    // The same k0 ^ k1, in the same bucket.
    key[0] ^= 1;
    key[8] ^= 1;
    twins[1] = (key, 0);
    let options = Options::new().algorithm(Algorithm::PtrHash);
    assert!(matches!(error(&twins, &options), Error::DuplicateKey { .. }));
    built(&twins, &Options::new());
}

#[test]
fn an_existing_file_is_left_alone_unless_told() {
    let disk = FaultyDisk::new();
    common::build_on(&disk, &entries(1, 10, 0), Options::new(), Way::ALL[2]).unwrap();
    let old = contents(&disk).unwrap();
    for way in Way::ALL {
        let error = common::build_on(&disk, &entries(2, 20, 0), Options::new(), way);
        assert!(matches!(error, Err(Error::Disk(icecore_diskio::Error::Exists { .. }))));
        assert!(contents(&disk).unwrap() == old);
    }
    let options = Options::new().if_exists(IfExists::Replace);
    common::build_on(&disk, &entries(2, 20, 0), options, Way::ALL[2]).unwrap();
    assert!(contents(&disk).unwrap() != old);
}

#[test]
fn a_dropped_build_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut entries = entries(9, 20_000, 0);
    entries.sort();
    for workers in [1, 3] {
        let options = || Options::new().workers(workers).memory_bytes(1);
        let mut sorted = SortedBuilder::create(dir.path().join("a"), 30_000, options()).unwrap();
        let mut unsorted = UnsortedBuilder::create(dir.path().join("b"), 30_000, options()).unwrap();
        for (key, _) in &entries {
            sorted.add(key, 0).unwrap();
            unsorted.add(key, 0).unwrap();
        }
    }
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn an_unsorted_build_reports_and_can_be_cancelled() {
    let dir = tempfile::tempdir().unwrap();
    // With workers, one report may be of all keys.
    for (workers, stop_at) in [(1, 3), (3, 1), (1, u64::MAX), (2, u64::MAX)] {
        let path = dir.path().join("index");
        // So little memory that a partition is a block.
        let options = Options::new().workers(workers).memory_bytes(1);
        let mut builder = UnsortedBuilder::create(&path, 20_000, options).unwrap();
        for (key, _) in entries(10, 20_000, 0) {
            builder.add(&key, 0).unwrap();
        }
        let (mut calls, mut last) = (0, 0);
        let result = builder.finish_with(|progress| {
            assert!(progress.keys_done > last && progress.keys == 20_000);
            (calls, last) = (calls + 1, progress.keys_done);
            if calls == stop_at { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        if stop_at == u64::MAX {
            let blocks = result.unwrap().blocks;
            assert_eq!(last, 20_000);
            assert!(workers > 1 || calls == u64::from(blocks));
            std::fs::remove_file(path).unwrap();
        } else {
            assert!(matches!(result, Err(Error::Cancelled)));
            assert_eq!((calls, std::fs::read_dir(dir.path()).unwrap().count()), (stop_at, 0));
        }
    }
}

#[test]
fn an_unsorted_build_uses_as_much_memory_as_it_may() {
    const KEYS: usize = 100_000;
    let entries = entries(11, KEYS, 3);
    let built = |memory_bytes, workers| {
        let disk = FaultyDisk::new();
        let shared: Arc<dyn Disk> = Arc::new(disk.clone());
        shared.create_dir_all(Path::new("/d")).unwrap();
        let options = Options::new().payload_bytes(3).memory_bytes(memory_bytes).workers(workers);
        let mut builder = UnsortedBuilder::create_on(&shared, "/d/index", KEYS as u64, options).unwrap();
        entries.iter().for_each(|(key, payload)| builder.add(key, *payload).unwrap());
        builder.finish().unwrap();
        let reads = disk.reads();
        (contents(&disk).unwrap(), reads)
    };
    let (file, reads) = built(256 << 20, 1);
    assert_eq!(reads, 0, "what fits is not written");
    let mut most = u64::MAX;
    for memory_bytes in [1, 300 << 10, 1 << 20] {
        let (one, two) = (built(memory_bytes, 1), built(memory_bytes, 2));
        assert!(one.0 == file && two.0 == file);
        assert!(one.1 == two.1 && 0 < one.1 && one.1 < most, "{} of {most}", one.1);
        most = one.1;
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn any_keys_any_options(
        seed: u64,
        count in 0usize..3000,
        global_seed: u64,
        ptrhash: bool,
        payload_bytes in 0u8..=8,
        fingerprint_bytes in 0u8..=4,
        metadata in proptest::collection::vec(any::<u8>(), 0..40),
    ) {
        let algorithm = ALGORITHMS[usize::from(ptrhash)];
        let options = Options::new().algorithm(algorithm).global_seed(global_seed).user_metadata(metadata.clone());
        let options = options.payload_bytes(payload_bytes).fingerprint_bytes(fingerprint_bytes);
        let index = built(&entries(seed, count, payload_bytes.into()), &options);
        prop_assert_eq!(index.user_metadata(), metadata.as_slice());
        prop_assert_eq!(index.header().global_seed, global_seed);
        prop_assert_eq!(index.header().algorithm, algorithm);
    }
}
