//! Generated ledgers are what the chain defines: an independent decoder reads them, and writes the same bytes.
#![allow(clippy::unwrap_used, clippy::panic)]

mod sources;

use std::collections::HashSet;

use icecore_ledger::{Decoder, Error, LedgerRange, Source};
use icecore_stellar::{
    StellarDecoder,
    source::{GENERATED_PASSPHRASE, Generator},
};
use proptest::prelude::*;
use sha2::{Digest, Sha256};
use sources::{drain, range};
use stellar_xdr::*;

fn generator(spec: &str) -> Generator {
    spec.parse().unwrap()
}

fn ledgers(source: &dyn Source, ledgers: LedgerRange) -> Vec<Vec<u8>> {
    drain(source, ledgers).unwrap()
}

/// What a ledger holds, in the words of both metas.
struct Facts {
    seq: u32,
    hash: Hash,
    previous: Hash,
    /// In the order of the set: phase by phase, component by component.
    components: Vec<Vec<TransactionEnvelope>>,
    /// In the order applied.
    results: Vec<TransactionResultPair>,
    operation_events: Vec<ContractEvent>,
    stages: Vec<TransactionEventStage>,
    diagnostics: usize,
}

fn facts(bytes: &[u8]) -> Facts {
    let meta = LedgerCloseMeta::from_xdr(bytes, Limits::none()).unwrap();
    assert!(meta.to_xdr(Limits::none()).unwrap() == bytes, "another encoding");
    let (header, set, applied): (_, _, Vec<_>) = match meta {
        LedgerCloseMeta::V1(meta) => {
            let applied = meta.tx_processing.into_vec();
            let applied = applied.into_iter().map(|tx| (tx.result, tx.tx_apply_processing)).collect();
            (meta.ledger_header, meta.tx_set, applied)
        }
        LedgerCloseMeta::V2(meta) => {
            let applied = meta.tx_processing.into_vec();
            let applied = applied.into_iter().map(|tx| (tx.result, tx.tx_apply_processing)).collect();
            (meta.ledger_header, meta.tx_set, applied)
        }
        LedgerCloseMeta::V0(_) => panic!("version 0"),
    };
    let GeneralizedTransactionSet::V1(set) = set;
    assert_eq!(set.previous_ledger_hash, header.header.previous_ledger_hash);
    let mut facts = Facts {
        seq: header.header.ledger_seq,
        hash: header.hash,
        previous: set.previous_ledger_hash,
        components: Vec::new(),
        results: Vec::new(),
        operation_events: Vec::new(),
        stages: Vec::new(),
        diagnostics: 0,
    };
    for phase in set.phases.into_vec() {
        match phase {
            TransactionPhase::V0(components) => {
                for component in components.into_vec() {
                    let TxSetComponent::TxsetCompTxsMaybeDiscountedFee(component) = component;
                    facts.components.push(component.txs.into_vec());
                }
            }
            TransactionPhase::V1(parallel) => {
                for stage in parallel.execution_stages.into_vec() {
                    let clusters = stage.0.into_vec().into_iter();
                    facts.components.extend(clusters.map(|cluster| cluster.0.into_vec()));
                }
            }
        }
    }
    for (result, meta) in applied {
        facts.results.push(result);
        match meta {
            TransactionMeta::V3(meta) => {
                if let Some(soroban) = meta.soroban_meta {
                    facts.operation_events.extend(soroban.events.into_vec());
                    facts.diagnostics += soroban.diagnostic_events.len();
                }
            }
            TransactionMeta::V4(meta) => {
                for operation in meta.operations.into_vec() {
                    facts.operation_events.extend(operation.events.into_vec());
                }
                facts.stages.extend(meta.events.iter().map(|event| event.stage));
                facts.diagnostics += meta.diagnostic_events.len();
            }
            _ => panic!("another version"),
        }
    }
    facts
}

fn payload_hash(tagged_transaction: TransactionSignaturePayloadTaggedTransaction) -> Hash {
    let network_id = Hash(Sha256::digest(GENERATED_PASSPHRASE).into());
    let payload = TransactionSignaturePayload { network_id, tagged_transaction };
    Hash(Sha256::digest(payload.to_xdr(Limits::none()).unwrap()).into())
}

/// The hash of an envelope, and of the transaction inside a fee-bump.
fn hashes(envelope: &TransactionEnvelope) -> (Hash, Option<Hash>) {
    use TransactionSignaturePayloadTaggedTransaction as Tagged;
    match envelope {
        TransactionEnvelope::Tx(tx) => (payload_hash(Tagged::Tx(tx.tx.clone())), None),
        TransactionEnvelope::TxFeeBump(bump) => {
            let FeeBumpTransactionInnerTx::Tx(inner) = &bump.tx.inner_tx;
            let inner = payload_hash(Tagged::Tx(inner.tx.clone()));
            (payload_hash(Tagged::TxFeeBump(bump.tx.clone())), Some(inner))
        }
        TransactionEnvelope::TxV0(_) => panic!("version 0"),
    }
}

fn result_hashes(result: &TransactionResultPair) -> (Hash, Option<Hash>) {
    let inner = match &result.result.result {
        TransactionResultResult::TxFeeBumpInnerSuccess(pair) => Some(pair.transaction_hash.clone()),
        _ => None,
    };
    (result.transaction_hash.clone(), inner)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn every_specification_gives_valid_ledgers(
        seed: u64, from in 2u32.., txs in 0usize..40, events in 0usize..6, contracts in 1u32..50, accounts in 1u32..50,
        payments in prop_oneof![Just(0), Just(100), 0u32..=100], fee_bumps in prop_oneof![Just(0), Just(100), 0u32..=100],
        meta in 3u32..=4,
    ) {
        let spec = format!(
            "gen:seed={seed},from={from},ledgers=1,txs={txs},events={events},contracts={contracts},\
             accounts={accounts},payments={payments},fee_bumps={fee_bumps},meta={meta}"
        );
        let generator = generator(&spec);
        let facts = facts(&ledgers(&generator, range(from, from))[0]);
        prop_assert_eq!(facts.seq, from);
        prop_assert_eq!(facts.results.len(), txs);

        let envelopes = facts.components.concat();
        let in_set: HashSet<_> = envelopes.iter().map(hashes).collect();
        let applied: HashSet<_> = facts.results.iter().map(result_hashes).collect();
        prop_assert_eq!(in_set.len(), txs);
        prop_assert_eq!(&in_set, &applied);
        for component in &facts.components {
            prop_assert!(component.is_sorted_by_key(|envelope| hashes(envelope).0));
        }
        let bumped = applied.iter().filter(|(_, inner)| inner.is_some()).count();
        match fee_bumps {
            0 => prop_assert_eq!(bumped, 0),
            100 => prop_assert_eq!(bumped, txs),
            _ => {}
        }

        let raw = &ledgers(&generator, range(from, from))[0];
        let decoded = StellarDecoder.decode(raw).unwrap();
        prop_assert_eq!(decoded.seq.0, from);
        let of = |tx: &icecore_ledger::Transaction| (Hash(tx.hash.0), tx.inner_hash.map(|hash| Hash(hash.0)));
        prop_assert!(decoded.transactions.iter().map(of).eq(facts.results.iter().map(result_hashes)));
        prop_assert_eq!(decoded.events.len(), facts.operation_events.len() + facts.stages.len());

        let paid = envelopes.iter().filter(|envelope| is_payment(envelope)).count();
        let payment_events = if meta == 4 && events > 0 { paid } else { 0 };
        prop_assert_eq!(facts.operation_events.len(), (txs - paid) * events + payment_events);
        let fees = facts.stages.iter().filter(|stage| **stage == TransactionEventStage::BeforeAllTxs).count();
        let staged = meta == 4 && events > 0;
        prop_assert_eq!(fees, if staged { txs } else { 0 });
        prop_assert_eq!(facts.stages.len() - fees, if staged { txs - paid } else { 0 });
    }
}

fn is_payment(envelope: &TransactionEnvelope) -> bool {
    let tx = match envelope {
        TransactionEnvelope::Tx(tx) => tx,
        TransactionEnvelope::TxFeeBump(bump) => {
            let FeeBumpTransactionInnerTx::Tx(tx) = &bump.tx.inner_tx;
            tx
        }
        TransactionEnvelope::TxV0(_) => panic!("version 0"),
    };
    matches!(tx.tx.operations[0].body, OperationBody::Payment(_))
}

#[test]
fn a_ledger_depends_on_nothing_before_it() {
    let generator = generator("gen:seed=3,from=10,ledgers=20,txs=7");
    let all = ledgers(&generator, range(10, 29));
    assert_eq!(all.iter().collect::<HashSet<_>>().len(), 20);
    for (from, to) in [(10, 10), (29, 29), (13, 17)] {
        assert!(ledgers(&generator, range(from, to)) == all[from as usize - 10..=to as usize - 10]);
    }
    for (from, to) in [(9, 12), (20, 30), (30, 31)] {
        assert!(matches!(generator.stream(range(from, to)), Err(Error::OutOfRange { .. })));
    }
    let other = "gen:seed=4,from=10,ledgers=20,txs=7".parse::<Generator>().unwrap();
    assert!(ledgers(&other, range(10, 10))[0] != all[0]);
}

#[test]
fn ledgers_are_chained_and_no_hash_comes_twice() {
    let generator = generator("gen:ledgers=30,txs=20,fee_bumps=30,accounts=3");
    let all: Vec<Facts> =
        ledgers(&generator, generator.range().unwrap()).iter().map(|ledger| facts(ledger)).collect();
    assert!(all.windows(2).all(|pair| pair[1].previous == pair[0].hash));
    let hashes: Vec<_> = all.iter().flat_map(|ledger| &ledger.results).map(result_hashes).collect();
    let every: Vec<_> = hashes.iter().flat_map(|(hash, inner)| std::iter::once(hash).chain(inner)).collect();
    assert_eq!(every.iter().collect::<HashSet<_>>().len(), every.len());
    assert!(every.len() > 30 * 20);
    // The order of the set is another one than that of applying.
    let in_order = |ledger: &Facts| ledger.results.is_sorted_by_key(|result| result.transaction_hash.clone());
    assert!(!all.iter().any(in_order));
}

#[test]
fn terms_repeat_and_events_look_like_the_networks() {
    let generator = generator("gen:ledgers=10,txs=200,events=5,contracts=20");
    let all: Vec<Facts> =
        ledgers(&generator, generator.range().unwrap()).iter().map(|ledger| facts(ledger)).collect();
    assert!(all.iter().map(|ledger| ledger.diagnostics).sum::<usize>() > 10);
    let mut contracts = HashSet::new();
    let mut names = HashSet::new();
    let mut assets = HashSet::new();
    for event in all.iter().flat_map(|ledger| &ledger.operation_events) {
        contracts.insert(event.contract_id.clone().unwrap());
        let ContractEventBody::V0(body) = &event.body;
        assert!((1..=4).contains(&body.topics.len()));
        let ScVal::Symbol(name) = &body.topics[0] else { panic!("{:?}", body.topics[0]) };
        names.insert(name.to_utf8_string().unwrap());
        if let Some(ScVal::String(asset)) = body.topics.last() {
            assets.insert(asset.to_utf8_string().unwrap());
        }
    }
    assert_eq!(contracts.len(), 20);
    assert_eq!(names, ["transfer", "mint", "burn", "sync"].map(String::from).into());
    assert_eq!(assets.len(), 16);
    for asset in assets.iter().filter(|asset| *asset != "native") {
        let (code, issuer) = asset.split_once(':').unwrap();
        assert_eq!(code.len(), 4);
        issuer.parse::<AccountId>().unwrap();
    }
    let stages: HashSet<_> = all.iter().flat_map(|ledger| &ledger.stages).collect();
    assert_eq!(stages.len(), 3);
}

#[test]
fn the_bytes_stay_the_same() {
    // Whoever changes the generator on purpose changes this too: demos and measurements are compared over time.
    let digest = |spec: &str| {
        let generator = generator(spec);
        let mut sha = Sha256::new();
        ledgers(&generator, generator.range().unwrap()).iter().for_each(|ledger| sha.update(ledger));
        sha.finalize().iter().map(|byte| format!("{byte:02x}")).collect::<String>()
    };
    assert_eq!(
        digest("gen:ledgers=20,meta=3"),
        "14eb77e32c95e6c65269de2f5f6c7662728e18b6288695dbe7cc198a92dea8d9"
    );
    assert_eq!(
        digest("gen:ledgers=20,meta=4"),
        "d7c9bebbf2d594a0fffa49fd36dc01ac45b9bcc72a8a66a4307d9f9e1bad8fc9"
    );
}
