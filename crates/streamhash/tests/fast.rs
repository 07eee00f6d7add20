//! Fast indexes, whole: byte for byte, in all ways, batched and one by one.
#![allow(clippy::panic, clippy::unwrap_used)]

mod common;

use common::{Entries, Way, build, check_all_found, entries, sha256};
use icecore_streamhash::{Algorithm, Error, Index, Options};
use proptest::prelude::*;

fn options(payload_bytes: u8, fingerprint_bytes: u8) -> Options {
    let options = Options::new().algorithm(Algorithm::Fast);
    options.payload_bytes(payload_bytes).fingerprint_bytes(fingerprint_bytes)
}

/// The file, the same in all ways.
fn built(entries: &Entries, options: &Options) -> Vec<u8> {
    let files = Way::ALL.map(|way| build(&mut entries.clone(), options.clone(), way).unwrap());
    assert!(files.iter().all(|file| *file == files[0]));
    files[0].clone()
}

/// A batch says of members and strangers what single lookups say.
fn check_batches(file: &[u8], entries: &Entries) {
    let index = Index::from_source(file).unwrap();
    let strangers = common::entries(99, 300, 0);
    let keys: Vec<_> = entries.iter().chain(&strangers).map(|(key, _)| *key).collect();
    let mut batched = Vec::new();
    for keys in [&keys[..], &keys[keys.len() / 2..], &keys[..1], &[]] {
        index.lookup_batch(keys, &mut batched).unwrap();
        let singles: Vec<_> = keys.iter().map(|key| index.lookup(key).unwrap()).collect();
        assert_eq!(singles, batched);
        let streamed: Vec<_> = index.lookup_stream(keys).map(Result::unwrap).collect();
        assert_eq!(singles, streamed);
    }
}

#[test]
fn the_bytes_do_not_change() {
    let mut wrong = Vec::new();
    for (count, payload_bytes, fingerprint_bytes, file_bytes, digest) in [
        (0, 3, 1, 140, "55fe09f13d5822b0eaa03622b9b53094b4e4b760309219c02aeed6204d9e7b9d"),
        (1, 3, 1, 161, "0ce63d9b5505fb0a5388142d4103f8b10aff2bec0c2d3109eb6b3bef7eda33b9"),
        (150, 0, 2, 536, "d49f01cedd6b4d98636db8fda200e1ec28eaa10e2830f43676ab975cdc77c370"),
        (5_000, 8, 0, 42_622, "3444b2c5922059436f3fe853f6f73da161d0c0dd94b5fb1bb5923335f1d044f3"),
        (16_384, 3, 1, 71_886, "01419c0350d0578f74562cfc5585e3d086a3d3b332766bb3b3dd637522432a0c"),
        (40_000, 3, 1, 170_134, "2fed49e4cc34aceaf4581a35fae93031a1894a000fa4110023daffafdf327261"),
        (600_000, 2, 1, 1_943_446, "5088e0f17cee9fa3c6b5da8eda5a4cf431efd299b6fded900c9ad49a9ca23f92"),
    ] {
        let options = options(payload_bytes, fingerprint_bytes).user_metadata(*b"meta");
        let all = entries(count as u64, count, payload_bytes.into());
        let file = built(&all, &options);
        check_all_found(&Index::from_source(file.as_slice()).unwrap(), &all);
        if (file.len(), sha256(&file).as_str()) != (file_bytes, digest) {
            wrong.push((count, file.len(), sha256(&file)));
        }
    }
    assert!(wrong.is_empty(), "{wrong:?}");
}

#[test]
fn every_entry_size_batched() {
    for payload_bytes in 0..=8 {
        for fingerprint_bytes in 0..=4 {
            // Of both blocks, one has a first level and one has not, or both.
            let all = entries(
                u64::from(payload_bytes),
                16_200 + usize::from(fingerprint_bytes) * 200,
                payload_bytes.into(),
            );
            let file =
                build(&mut all.clone(), options(payload_bytes, fingerprint_bytes), Way::ALL[0]).unwrap();
            check_batches(&file, &all);
        }
    }
}

#[test]
fn a_key_that_is_none_ends_a_batch_where_it_is() {
    let all = entries(3, 20_000, 3);
    let index = Index::from_source(build(&mut all.clone(), options(3, 1), Way::ALL[0]).unwrap()).unwrap();
    let mut out = Vec::new();
    for at in [0, 1, 63, 64, 65, 200, 19_999] {
        let keys = all.iter().enumerate().map(|(i, (key, _))| if i == at { &key[..7] } else { &key[..] });
        let keys: Vec<_> = keys.collect();
        assert!(matches!(index.lookup_batch(&keys, &mut out), Err(Error::KeyLength { len_bytes: 7 })));
        let payloads: Vec<_> = out.iter().map(|hit| hit.unwrap().payload).collect();
        assert_eq!(payloads, all[..at].iter().map(|(_, payload)| *payload).collect::<Vec<_>>());
    }
}

#[test]
fn damage_is_the_same_in_a_batch() {
    let all = entries(4, 20_000, 3);
    let file = build(&mut all.clone(), options(3, 1), Way::ALL[0]).unwrap();
    let metadata_at = Index::from_source(file.as_slice()).unwrap().layout().metadata_at as usize;
    let keys: Vec<_> = all.iter().map(|(key, _)| *key).collect();
    let (mut out, mut failed) = (Vec::new(), 0);
    for seed in 0..60 {
        let mut damaged = file.clone();
        let mut rng = icecore_testkit::SplitMix64::new(seed);
        // Where the first block's seeds end is what says most.
        let at = metadata_at + 2100 + rng.below(200) as usize;
        damaged[at..at + 4].fill_with(|| rng.next_u64() as u8);
        let index = Index::from_source(damaged.as_slice()).unwrap();
        let singles: Vec<_> = keys.iter().map_while(|key| index.lookup(key).ok()).collect();
        let batch = index.lookup_batch(&keys, &mut out);
        assert_eq!(batch.is_ok(), singles.len() == keys.len());
        assert!(out == singles, "a batch ends elsewhere: {} and {}", out.len(), singles.len());
        failed += u32::from(batch.is_err());
    }
    assert!(failed > 0, "nothing was damaged");
}

#[test]
fn few_bits_a_key() {
    let all = entries(1, 1_000_000, 3);
    let file = build(&mut all.clone(), options(3, 1), Way::ALL[1]).unwrap();
    let bits = 8.0 * file.len() as f64 / all.len() as f64;
    assert!(bits < 33.92, "{bits}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn any_number_of_keys(seed: u64, count in 0usize..20_000, payload_bytes in 0u8..=8, fingerprint_bytes in 0u8..=4, global_seed: u64) {
        let all = entries(seed, count, payload_bytes.into());
        let options = options(payload_bytes, fingerprint_bytes).global_seed(global_seed);
        let file = build(&mut all.clone(), options, Way::ALL[(seed % 4) as usize]).unwrap();
        let index = Index::from_source(file).unwrap();
        index.verify().unwrap();
        check_all_found(&index, &all);
    }
}
