//! Real ledgers through a store, held to what an independent decoder found in them. Where the ledgers are not at hand
//! there is nothing to check; generated ones go the same way in `store.rs`.
#![allow(clippy::unwrap_used)]

use std::{collections::BTreeMap, path::Path, sync::Arc};

use icecore_cold::{Builder, Control, Layout, Manifest, Store};
use icecore_diskio::RealDisk;
use icecore_events::Query;
use icecore_ledger::{Decoder, Geometry, LedgerRange, LedgerSeq, TxHash};
use icecore_stellar::{NetworkId, STANDALONE, StellarDecoder, find_transaction, source};
use icecore_testkit::{SplitMix64, golden};

const FILE: &str = "load-ledgers-p25.xdr.zst";

/// Transactions and events of each ledger of [`FILE`].
fn facts() -> BTreeMap<u64, (u64, u64)> {
    let lines =
        golden::LEDGER_FACTS.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let of_file = lines.filter(|fact| fact["file"] == FILE);
    let number = |fact: &serde_json::Value, field: &str| fact[field].as_u64().unwrap();
    of_file.map(|f| (number(&f, "seq"), (number(&f, "transactions"), number(&f, "events")))).collect()
}

#[test]
fn two_chunks_of_real_ledgers_answer_for_every_hash_and_for_no_other() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data").join(FILE);
    if !file.exists() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let opened = source::open(file.to_str().unwrap()).unwrap();
    let range = LedgerRange::new(LedgerSeq(10_052), LedgerSeq(10_071)).unwrap();
    let control = Control::default();
    let report = Builder {
        disk: Arc::new(RealDisk),
        layout: Layout::new(dir.path()),
        manifest: Manifest { geometry: Geometry::new(10, 100).unwrap(), network: None },
        source: &*opened.source,
        decoder: &StellarDecoder,
        workers: 2,
        control: &control,
    }
    .build(range)
    .unwrap();
    let facts = facts();
    let expected = |seq: u32| facts[&u64::from(seq)];
    let sum = |of: fn((u64, u64)) -> u64| (10_052..=10_071).map(|seq| of(expected(seq))).sum::<u64>();
    assert_eq!((report.counts.transactions, report.counts.events), (sum(|f| f.0), sum(|f| f.1)));

    let store = Store::open(dir.path()).unwrap();
    for seq in (10_052..=10_071).map(LedgerSeq) {
        let raw = store.ledger(seq).unwrap().unwrap();
        let decoded = StellarDecoder.decode(&raw).unwrap();
        assert_eq!((decoded.transactions.len() as u64, decoded.events.len() as u64), expected(seq.0));
        let network = NetworkId::of(STANDALONE);
        for (index, tx) in (1..).zip(&decoded.transactions) {
            let found = store.transaction(&tx.hash, &StellarDecoder).unwrap().unwrap();
            let parts = find_transaction(&found.raw, &tx.hash, &network).unwrap().unwrap();
            assert_eq!((found.ledger, parts.index, parts.hash), (seq, index, tx.hash));
            assert!(parts.envelope.is_some());
        }
        let in_ledger = Query {
            ledgers: Some(LedgerRange { first: seq, last: seq }),
            limit: usize::MAX,
            ..Query::default()
        };
        assert_eq!(store.events(&in_ledger, &StellarDecoder).unwrap().len() as u64, expected(seq.0).1);
    }
    let mut rng = SplitMix64::new(1);
    for _ in 0..1000 {
        let mut hash = TxHash([0; 32]);
        hash.0[..16].copy_from_slice(&rng.key());
        hash.0[16..].copy_from_slice(&rng.key());
        assert!(store.transaction(&hash, &StellarDecoder).unwrap().is_none());
    }
    let scratch = tempfile::tempdir().unwrap();
    let mut checks = 0;
    let mut report = |checked: icecore_cold::Checked| {
        checked.result.unwrap();
        checks += 1;
    };
    store.verify(&control, &mut report).unwrap();
    store.verify_deep(&StellarDecoder, scratch.path(), 2, &control, &mut report).unwrap();
    assert_eq!(checks, 16);
}
