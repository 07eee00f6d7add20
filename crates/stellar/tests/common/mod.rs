//! Where real ledgers are, for the tests that can do without.
#![allow(dead_code, reason = "every test uses a part")]
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::{collections::HashMap, fs, path::PathBuf};

use serde_json::Value;

/// The folder of real ledgers, where it is there.
pub(crate) fn data_dir() -> Option<PathBuf> {
    let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data");
    if !dir.is_dir() {
        println!("no real ledgers at {}: only generated ones are tested", dir.display());
        return None;
    }
    Some(dir)
}

/// The ledgers in one file: framed, or a lake's batch.
pub(crate) fn ledgers_of(name: &str) -> Vec<Vec<u8>> {
    let Some(dir) = data_dir() else { return Vec::new() };
    let bytes = zstd::decode_all(fs::File::open(dir.join(name)).unwrap()).unwrap();
    let word = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
    if word(0) < 1 << 31 {
        assert_eq!(word(8), 1, "{name}: the batches at hand have one ledger each");
        return vec![bytes[12..].to_vec()];
    }
    let (mut at, mut ledgers) = (0, Vec::new());
    while at < bytes.len() {
        let len = word(at) & (usize::MAX >> 33);
        ledgers.push(bytes[at + 4..at + 4 + len].to_vec());
        at += 4 + len;
    }
    ledgers
}

/// Every fact (a line of JSON) with the ledger it is about; none where the ledgers are not at hand.
pub(crate) fn real_ledgers(facts: &str) -> Vec<(Value, Vec<u8>)> {
    if data_dir().is_none() {
        return Vec::new();
    }
    let mut files = HashMap::<String, Vec<Vec<u8>>>::new();
    let mut ledger = |line| {
        let fact: Value = serde_json::from_str(line).unwrap();
        let file = fact["file"].as_str().unwrap().to_owned();
        let ledgers = files.entry(file.clone()).or_insert_with(|| ledgers_of(&file));
        let raw = ledgers[fact["index"].as_u64().unwrap() as usize].clone();
        (fact, raw)
    };
    facts.lines().map(&mut ledger).collect()
}
