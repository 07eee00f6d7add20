//! Real ledgers, where they are at hand, against what an independent decoder found in them.

mod common;

use icecore_ledger::{Decoded, Decoder, LedgerSeq};
use icecore_stellar::{
    LOAD_TEST, NetworkId, PASSPHRASES, PUBNET, STANDALONE, StellarDecoder, TESTNET, find_transaction, xdr,
};
use icecore_testkit::golden::LEDGER_FACTS;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use xxhash_rust::xxh3::xxh3_128;

fn hex(bytes: impl AsRef<[u8]>) -> String {
    bytes.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn sha256(parts: impl IntoIterator<Item = impl AsRef<[u8]>>) -> String {
    hex(parts.into_iter().fold(Sha256::new(), |hash, part| hash.chain_update(part)).finalize())
}

fn event_records(ledger: &Decoded<'_>) -> Vec<Vec<u8>> {
    let record = |event: &icecore_ledger::Event<'_>| {
        let mut record = vec![1];
        record.extend(event.tx_hash.0);
        for word in [ledger.seq.0, event.tx_index, event.op_index] {
            record.extend(word.to_be_bytes());
        }
        record.extend(ledger.closed_at.to_be_bytes());
        record.extend(event.event_index.to_be_bytes());
        record.extend((event.body.len() as u32).to_be_bytes());
        record.extend(event.body);
        record
    };
    ledger.events.iter().map(record).collect()
}

fn term_keys(ledger: &Decoded<'_>) -> Vec<[u8; 16]> {
    let key = |(field, value): (u8, &[u8])| xxh3_128(&[&[field], value].concat()).to_le_bytes();
    ledger.events.iter().flat_map(|event| event.fields.terms().map(key)).collect()
}

fn facts_of(ledger: &Decoded<'_>) -> Value {
    let inner = || ledger.transactions.iter().filter_map(|tx| tx.inner_hash);
    let stage = |tx| ledger.events.iter().filter(|event| event.tx_index == tx).count();
    json!({
        "seq": ledger.seq.0,
        "closed_at": ledger.closed_at,
        "transactions": ledger.transactions.len(),
        "inner_hashes": inner().count(),
        "events": ledger.events.len(),
        "terms": term_keys(ledger).len(),
        "first_tx": ledger.transactions.first().map(|tx| tx.hash.to_string()),
        "tx_hashes_sha256": sha256(ledger.transactions.iter().map(|tx| tx.hash.0)),
        "inner_sha256": sha256(inner().map(|hash| hash.0)),
        "event_records_sha256": sha256(event_records(ledger)),
        "term_keys_sha256": sha256(term_keys(ledger)),
        "stages": [stage(0), stage((1 << 20) - 1)],
    })
}

#[test]
fn every_fact_of_the_real_ledgers_is_met() {
    let mut met = 0;
    for (mut fact, raw) in common::real_ledgers(LEDGER_FACTS) {
        let fact = fact.as_object_mut().unwrap();
        for not_decoded in ["file", "index", "bytes", "meta_version"] {
            fact.remove(not_decoded);
        }
        let ledger = StellarDecoder.decode(&raw).unwrap();
        assert_eq!(facts_of(&ledger), json!(fact));
        assert_eq!(
            xdr::peek_header(&raw).unwrap(),
            (LedgerSeq(fact["seq"].as_u64().unwrap() as u32), ledger.closed_at)
        );
        for event in &ledger.events {
            assert_eq!(StellarDecoder.event_fields(event.body).unwrap(), event.fields);
        }
        met += 1;
    }
    println!("{met} real ledgers checked");
}

#[test]
fn transactions_of_real_ledgers_are_found_with_their_envelopes() {
    let networks = [
        ("FCD285FF--53312000.xdr.zst", PUBNET),
        ("lake-small/FFFFFC18--999.xdr.zst", TESTNET),
        ("load-ledgers-p23.xdr.zst", LOAD_TEST),
        ("load-ledgers-p25.xdr.zst", STANDALONE),
    ];
    for (file, passphrase) in networks {
        let Some(raw) = common::ledgers_of(file).pop() else { continue };
        let (decoded, network) = (StellarDecoder.decode(&raw).unwrap(), NetworkId::of(passphrase));
        assert_eq!(NetworkId::detect(&raw, &PASSPHRASES.map(NetworkId::of)).unwrap(), Some(network));
        for (tx, index) in decoded.transactions.iter().zip(1..) {
            let found = find_transaction(&raw, &tx.hash, &network).unwrap().unwrap();
            assert_eq!((found.index, found.hash, found.inner_hash), (index, tx.hash, tx.inner_hash));
            assert!(found.envelope.is_some());
            if let Some(inner) = tx.inner_hash {
                assert_eq!(find_transaction(&raw, &inner, &network).unwrap(), Some(found));
            }
        }
    }
}
