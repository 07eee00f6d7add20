//! The files that a conforming builder makes, byte for byte, in all four ways.
#![allow(clippy::panic, clippy::unwrap_used)]

mod common;

use common::{Way, build, sha256};
use icecore_streamhash::{Error, Index, prehash};
use icecore_testkit::golden::{Case, Streamhash, builtin};

/// Larger ones are left to `cargo xtask formats`.
const MAX_KEYS: u64 = 100_000;

fn check(case: &Streamhash) {
    let mut entries = case.entries();
    for way in Way::ALL {
        let label = format!("case {} {way:?}", case.rng_seed);
        let result = build(&mut entries, common::options(case), way);
        match (&case.error, result) {
            (None, Ok(file)) => assert_eq!(
                (file.len() as u64, sha256(&file)),
                (case.file_bytes, case.sha256.clone()),
                "{label}"
            ),
            (Some(text), Err(Error::BlockOverflow { keys, max, .. })) => {
                assert!(
                    text.ends_with(&format!("block has {keys} keys (max {max})")),
                    "{label}: {keys} {max}"
                );
            }
            (_, other) => panic!("{label}: {:?}", other.map(|file| file.len())),
        }
    }
    if case.error.is_none() {
        let file = build(&mut entries, common::options(case), Way::ALL[0]).unwrap();
        common::check_all_found(&Index::from_source(file).unwrap(), &entries);
    }
}

fn cases(algorithm: &str, wanted: fn(u64) -> bool) -> Vec<Streamhash> {
    let cases = builtin().into_iter().filter_map(|case| match case {
        Case::Streamhash(case) if case.algorithm == algorithm => Some(case),
        _ => None,
    });
    let cases: Vec<_> = cases.filter(|case| case.keys <= MAX_KEYS && wanted(case.keys)).collect();
    assert!(cases.len() >= 8);
    cases
}

#[test]
fn bijection_small() {
    cases("bijection", |keys| keys < 10_000).iter().for_each(check);
}

#[test]
fn bijection_large() {
    cases("bijection", |keys| keys >= 10_000).iter().for_each(check);
}

#[test]
fn ptrhash_small() {
    cases("ptrhash", |keys| keys < 10_000).iter().for_each(check);
}

#[test]
fn ptrhash_large() {
    cases("ptrhash", |keys| keys >= 10_000).iter().for_each(check);
}

#[test]
fn prehashes() {
    let mut seen = 0;
    for case in builtin() {
        if let Case::Prehash(case) = case {
            let hash = prehash(case.input_utf8.as_bytes());
            assert_eq!(common::hex(&hash), case.hash_hex, "{:?}", case.input_utf8);
            seen += 1;
        }
    }
    assert!(seen > 0);
}
