//! The decoder against a plain one over fully decoded ledgers.

use icecore_ledger::{Decoded, Decoder, Error};
use icecore_testkit::SplitMix64;
use stellar_xdr::{
    ContractEvent, ContractEventBody, LedgerCloseMeta, LedgerHeaderHistoryEntry, Limits, ReadXdr,
    TransactionEventStage, TransactionMeta, TransactionResultPair, TransactionResultResult, WriteXdr,
};

use super::StellarDecoder;
use crate::{
    grow::{ledger, mutate},
    xdr,
};

type Hash = [u8; 32];
type Place = (u32, u32, u32);

/// What a decoder should find, built rather than borrowed.
#[derive(Debug, PartialEq)]
struct Plain {
    seq: u32,
    closed_at: i64,
    transactions: Vec<(Hash, Option<Hash>)>,
    events: Vec<PlainEvent>,
}

#[derive(Debug, PartialEq)]
struct PlainEvent {
    tx_hash: Hash,
    place: Place,
    body: Vec<u8>,
    contract: Option<Vec<u8>>,
    topics: Vec<Vec<u8>>,
}

fn xdr_of(value: &impl WriteXdr) -> Vec<u8> {
    value.to_xdr(Limits::none()).unwrap()
}

fn parts(
    ledger: &LedgerCloseMeta,
) -> (&LedgerHeaderHistoryEntry, Vec<(&TransactionResultPair, &TransactionMeta)>) {
    match ledger {
        LedgerCloseMeta::V0(l) => (
            &l.ledger_header,
            l.tx_processing.iter().map(|tx| (&tx.result, &tx.tx_apply_processing)).collect(),
        ),
        LedgerCloseMeta::V1(l) => (
            &l.ledger_header,
            l.tx_processing.iter().map(|tx| (&tx.result, &tx.tx_apply_processing)).collect(),
        ),
        LedgerCloseMeta::V2(l) => (
            &l.ledger_header,
            l.tx_processing.iter().map(|tx| (&tx.result, &tx.tx_apply_processing)).collect(),
        ),
    }
}

fn hashes(pair: &TransactionResultPair) -> (Hash, Option<Hash>) {
    let inner = match &pair.result.result {
        TransactionResultResult::TxFeeBumpInnerSuccess(inner)
        | TransactionResultResult::TxFeeBumpInnerFailed(inner) => Some(inner.transaction_hash.0),
        _ => None,
    };
    (pair.transaction_hash.0, inner)
}

fn by_operation(meta: &TransactionMeta) -> Vec<Vec<&ContractEvent>> {
    match meta {
        TransactionMeta::V3(meta) => {
            meta.soroban_meta.iter().map(|meta| meta.events.iter().collect()).collect()
        }
        TransactionMeta::V4(meta) => meta.operations.iter().map(|op| op.events.iter().collect()).collect(),
        _ => Vec::new(),
    }
}

fn at_stage(meta: &TransactionMeta, stage: TransactionEventStage) -> Vec<&ContractEvent> {
    match meta {
        TransactionMeta::V4(meta) => {
            meta.events.iter().filter(|event| event.stage == stage).map(|event| &event.event).collect()
        }
        _ => Vec::new(),
    }
}

fn plain(ledger: &LedgerCloseMeta) -> Plain {
    let (header, processed) = parts(ledger);
    let mut events = Vec::new();
    let mut emit = |pair: &TransactionResultPair, place: Place, event: &ContractEvent| {
        let ContractEventBody::V0(body) = &event.body;
        events.push(PlainEvent {
            tx_hash: pair.transaction_hash.0,
            place,
            body: xdr_of(event),
            contract: event.contract_id.as_ref().map(xdr_of),
            topics: body.topics.iter().take(4).map(xdr_of).collect(),
        });
    };
    let ledger_wide = |stage| {
        let events = processed
            .iter()
            .flat_map(move |(pair, meta)| at_stage(meta, stage).into_iter().map(move |e| (*pair, e)));
        events.zip(0..)
    };
    for ((pair, event), i) in ledger_wide(TransactionEventStage::BeforeAllTxs) {
        emit(pair, (0, 0, i), event);
    }
    for (&(pair, meta), tx) in processed.iter().zip(1..) {
        for (operation, events) in (0..).zip(by_operation(meta)) {
            (0..).zip(events).for_each(|(i, event)| emit(pair, (tx, operation, i), event));
        }
        (0..)
            .zip(at_stage(meta, TransactionEventStage::AfterTx))
            .for_each(|(i, event)| emit(pair, (tx, 4095, i), event));
    }
    for ((pair, event), i) in ledger_wide(TransactionEventStage::AfterAllTxs) {
        emit(pair, (1_048_575, 0, i), event);
    }
    Plain {
        seq: header.header.ledger_seq,
        closed_at: header.header.scp_value.close_time.0 as i64,
        transactions: processed.iter().map(|(pair, _)| hashes(pair)).collect(),
        events,
    }
}

fn owned(ledger: &Decoded<'_>) -> Plain {
    let event = |event: &icecore_ledger::Event<'_>| PlainEvent {
        tx_hash: event.tx_hash.0,
        place: (event.tx_index, event.op_index, event.event_index),
        body: event.body.to_vec(),
        contract: event.fields.contract.map(<[u8]>::to_vec),
        topics: event.fields.topics.iter().flatten().map(|topic| topic.to_vec()).collect(),
    };
    Plain {
        seq: ledger.seq.0,
        closed_at: ledger.closed_at,
        transactions: ledger
            .transactions
            .iter()
            .map(|tx| (tx.hash.0, tx.inner_hash.map(|hash| hash.0)))
            .collect(),
        events: ledger.events.iter().map(event).collect(),
    }
}

/// Checks one ledger's bytes, whatever they are; true when they are a ledger.
fn agree(raw: &[u8]) -> bool {
    let full = LedgerCloseMeta::from_xdr(raw, Limits { depth: 500, len: 1 << 24 });
    let full = full.ok().filter(|ledger| xdr_of(ledger) == raw);
    match (StellarDecoder.decode(raw), full) {
        (Ok(ledger), Some(full)) => {
            assert_eq!(owned(&ledger), plain(&full));
            assert_eq!(xdr::peek_header(raw).unwrap(), (ledger.seq, ledger.closed_at));
            for event in &ledger.events {
                assert_eq!(StellarDecoder.event_fields(event.body).unwrap(), event.fields);
            }
            true
        }
        (Err(Error::Malformed { what, offset, .. }), None) => {
            assert!(what == "ledger" && offset <= raw.len() as u64);
            false
        }
        (ours, full) => panic!("we find {ours:?}, the full decoder {full:?}"),
    }
}

#[test]
fn ledgers_of_every_version_agree() {
    let mut rng = SplitMix64::new(7);
    let (mut events, mut wide, mut fee_bumps, mut changed_but_valid) = (0, 0, 0, 0);
    for i in 0..300 {
        let raw = xdr_of(&ledger(&mut rng, i % 3));
        assert!(agree(&raw));
        let ledger = StellarDecoder.decode(&raw).unwrap();
        events += ledger.events.len();
        wide +=
            ledger.events.iter().filter(|event| event.tx_index == 0 || event.tx_index == 1_048_575).count();
        fee_bumps += ledger.transactions.iter().filter(|tx| tx.inner_hash.is_some()).count();
        for _ in 0..10 {
            let mut changed = raw.clone();
            mutate(&mut rng, &mut changed);
            changed_but_valid += usize::from(agree(&changed));
        }
    }
    println!(
        "{events} events, {wide} ledger-wide; {fee_bumps} fee-bumps; {changed_but_valid} changed but valid"
    );
    assert!(events > 100 && wide > 20 && fee_bumps > 20 && changed_but_valid > 100);
}

#[test]
fn bytes_after_the_end_and_missing_ones_are_refused() {
    let raw = xdr_of(&ledger(&mut SplitMix64::new(8), 2));
    for short in 0..raw.len() {
        assert!(StellarDecoder.decode(&raw[..short]).is_err());
    }
    let long = [&raw[..], &[0; 4]].concat();
    let refused = StellarDecoder.decode(&long).unwrap_err();
    assert!(matches!(refused, Error::Malformed { offset, .. } if offset == raw.len() as u64), "{refused}");
}
