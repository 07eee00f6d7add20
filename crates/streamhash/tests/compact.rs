//! Compact indexes: against a map, byte for byte, and what they refuse.
#![allow(clippy::panic, clippy::unwrap_used)]

mod common;

use std::collections::HashMap;

use common::{Entries, Way, build, check_all_found, entries, sha256};
use icecore_streamhash::{Algorithm, Error, Index, Options};
use proptest::prelude::*;

fn options(payload_bytes: u8, fingerprint_bytes: u8) -> Options {
    let options = Options::new().algorithm(Algorithm::Compact);
    options.payload_bytes(payload_bytes).fingerprint_bytes(fingerprint_bytes)
}

/// Entries of which no payload is greater than `max`.
fn entries_below(seed: u64, count: usize, max: u64) -> Entries {
    let mut all = entries(seed, count, 8);
    all.iter_mut().for_each(|(_, payload)| *payload = (u128::from(*payload) % (u128::from(max) + 1)) as u64);
    all
}

/// The file, the same in all ways and with any number of workers.
fn built(entries: &Entries, options: &Options) -> Vec<u8> {
    let mut ways = Way::ALL.to_vec();
    ways.extend([2, 5].map(|workers| Way { sorted: true, workers }));
    let files = ways.iter().map(|way| build(&mut entries.clone(), options.clone(), *way).unwrap());
    let files: Vec<_> = files.collect();
    assert!(files.iter().all(|file| *file == files[0]));
    files[0].clone()
}

fn error(entries: &Entries, options: &Options) -> Error {
    let errors = Way::ALL.map(|way| build(&mut entries.clone(), options.clone(), way).unwrap_err());
    for other in &errors {
        assert_eq!(format!("{other:?}"), format!("{:?}", errors[0]));
    }
    errors[0].clone()
}

#[test]
fn the_bytes_do_not_change() {
    for (count, payload_bytes, fingerprint_bytes, max, file_bytes, digest) in [
        (0, 3, 1, u64::MAX, 154, "f6161f9245aaece7ec06eac430064e89b6b80d45eb307835d2fb1dcd1f9f929f"),
        (1, 3, 1, 9_999_999, 447, "7033b87cd1061e9867c9d9790976d81d3de430ec567739b77a1472dadfd022ae"),
        (150, 0, 2, 0, 802, "88edf3a2979da3da05807d15d4458f1dc1aeec5718b85713c596250f57a6e7de"),
        (5_000, 8, 0, u64::MAX, 42_000, "1cfde2dd855ba9abc48fa438742e024097c78dc31fe2e5ce056256dadf6406d3"),
        (
            40_000,
            3,
            1,
            9_999_999,
            161_340,
            "80bc544a7da84537a00d0ae4c24673603c7aeaa5feef2ba01d7bc5230d502806",
        ),
        (100_000, 2, 1, 65_535, 301_783, "f35099034396927941d25f1406aa4eb477840542442d08b328972443648e5eb2"),
    ] {
        let options = options(payload_bytes, fingerprint_bytes).max_payload(max).user_metadata(*b"meta");
        let max = max.min(u64::MAX.checked_shr(64 - 8 * u32::from(payload_bytes)).unwrap_or(0));
        let all = entries_below(count as u64, count, max);
        let file = built(&all, &options);
        assert_eq!((file.len(), sha256(&file).as_str()), (file_bytes, digest), "{count} keys");
        check_all_found(&Index::from_source(file).unwrap(), &all);
    }
}

#[test]
fn a_range_of_ten_million_leaves_room_for_429_fingerprints() {
    let all = entries_below(1, 200_000, 9_999_999);
    let file = build(&mut all.clone(), options(3, 1).max_payload(9_999_999), Way::ALL[1]).unwrap();
    let bits = 8.0 * file.len() as f64 / all.len() as f64;
    assert!(bits < 32.4, "{bits}");
    let index = Index::from_source(file).unwrap();
    check_all_found(&index, &all);
    let foreign = entries(2, 400_000, 0);
    let passed = foreign.iter().filter(|(key, _)| index.lookup(key).unwrap().is_some()).count() as f64;
    let expected = 400_000.0 / 429.0;
    assert!((passed - expected).abs() < 6.0 * expected.sqrt(), "{passed} of {expected}");
}

#[test]
fn there_are_no_ranks() {
    let all = entries(3, 100, 2);
    let index = Index::from_source(built(&all, &options(2, 1))).unwrap();
    assert!(!index.header().algorithm.has_ranks());
    assert_eq!(index.header().entry_bytes(), 0);
    assert!(matches!(index.rank(&all[0].0), Err(Error::NoRanks { .. })));
    assert!(matches!(index.payload(0), Err(Error::NoRanks { .. })));
    assert!(matches!(index.fingerprint(0), Err(Error::NoRanks { .. })));
    assert_eq!(index.lookup(&all[0].0).unwrap().unwrap().rank, None);
    assert_eq!(index.with_checkpoints().unwrap().key_count(), 100);
}

#[test]
fn what_cannot_be_kept_is_refused() {
    assert!(matches!(error(&Vec::new(), &options(0, 0)), Error::NothingKept));
    assert!(matches!(error(&Vec::new(), &options(8, 1)), Error::Option { value: 9, max: 8, .. }));
    let all = vec![([1; 16], 1000)];
    let too_large = error(&all, &options(3, 1).max_payload(999));
    assert!(matches!(too_large, Error::PayloadTooLarge { payload: 1000, max: 999 }), "{too_large}");
    built(&all, &options(3, 1).max_payload(1000));
}

#[test]
fn equal_keys_are_an_error() {
    for count in [2, 50, 40_000] {
        let mut all = entries(count as u64, count, 1);
        all[count - 1].0 = all[count / 3].0;
        let words = [0, 8].map(|at| u64::from_le_bytes(all[count - 1].0[at..at + 8].try_into().unwrap()));
        let error = error(&all, &options(1, 1));
        assert!(matches!(error, Error::DuplicateKey { k0, k1, .. } if [k0, k1] == words), "{error}");
    }
}

#[test]
fn keys_of_one_prefix_are_too_many_for_a_block() {
    let mut all = entries(4, 100_000, 1);
    all.iter_mut().for_each(|(key, _)| key[..8].fill(7));
    assert!(matches!(error(&all, &options(1, 1)), Error::BlockOverflow { keys: 100_000, .. }));
    // So few that a block can have them all: they are told apart by the rest.
    let mut few = entries(5, 12, 1);
    few.iter_mut().for_each(|(key, _)| key[..8].fill(7));
    check_all_found(&Index::from_source(built(&few, &options(1, 1))).unwrap(), &few);
}

#[test]
fn keys_made_for_one_window_end_in_an_error() {
    // Half of them in the first block; a block is chosen by what the window depends on, and all of these begin alike.
    let seed = Options::DEFAULT_SEED ^ 0x243F_6A88_85A3_08D3;
    let mut all = entries(6, 30_000, 1);
    let own = u64::from_le_bytes(seed.to_le_bytes()).swap_bytes() >> 63;
    for (i, (key, _)) in all.iter_mut().enumerate() {
        if i % 2 == 0 {
            key[..8].copy_from_slice(&seed.to_le_bytes());
        } else {
            key[0] = key[0] & 0x7F | (1 - own as u8) << 7;
        }
    }
    let error = error(&all, &options(1, 1));
    assert!(matches!(error, Error::LayersExhausted { layers: 8, .. }), "{error}");
    assert!(error.wants_other_seed());
    let other = options(1, 1).global_seed(1);
    check_all_found(&Index::from_source(built(&all, &other)).unwrap(), &all);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn an_index_is_a_map(
        seed: u64,
        count in prop_oneof![0usize..20, 150usize..250, 0usize..3000],
        global_seed: u64,
        bytes in (0u8..=8, 0u8..=4).prop_filter("1 to 8 in all", |(p, f)| (1..=8).contains(&(p + f))),
        max: u64,
        narrow: bool,
    ) {
        let (payload_bytes, fingerprint_bytes) = bytes;
        let all = u64::MAX.checked_shr(64 - 8 * u32::from(payload_bytes)).unwrap_or(0);
        let max = if narrow { max & all } else { all };
        let options = options(payload_bytes, fingerprint_bytes).max_payload(max).global_seed(global_seed);
        let entries = entries_below(seed, count, max);
        let map: HashMap<_, _> = entries.iter().copied().collect();
        let index = Index::from_source(built(&entries, &options)).unwrap();
        check_all_found(&index, &entries);
        prop_assert_eq!(index.header().max_payload, max);
        // A foreign key is given a payload that some key could have.
        for (key, _) in common::entries(seed ^ 1, 200, 0) {
            let hit = index.lookup(&key).unwrap();
            prop_assert!(map.contains_key(&key) || hit.is_none_or(|hit| hit.payload <= max));
        }
    }
}
