//! Properties that must hold for any bytes; each function panics where one does not.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a broken property is a panic")]

use icecore_ledger::{Decoder, Error, LedgerRange, LedgerSeq, Source};
use stellar_xdr::{LedgerCloseMeta, Limits, ReadXdr, WriteXdr};

use crate::{NetworkId, PUBNET, Replayer, StellarDecoder, xdr};

/// Decoding accepts what a full decoder accepts, and what it finds hangs together.
pub fn decode_ledger(data: &[u8]) {
    let full = canonical::<LedgerCloseMeta>(data);
    let ledger = match StellarDecoder.decode(data) {
        Ok(ledger) => ledger,
        Err(Error::Malformed { offset, .. }) if offset <= data.len() as u64 => {
            return assert!(full != Some(true));
        }
        Err(other) => panic!("{other:?}"),
    };
    assert!(full != Some(false), "accepted here, refused by the full decoder");
    assert_eq!(xdr::peek_header(data).unwrap(), (ledger.seq, ledger.closed_at));
    assert!(ledger.events.is_sorted_by(|a, b| {
        (a.tx_index, a.op_index, a.event_index) < (b.tx_index, b.op_index, b.event_index)
    }));
    for event in &ledger.events {
        assert!(ledger.transactions.iter().any(|tx| tx.hash == event.tx_hash));
        assert_eq!(StellarDecoder.event_fields(event.body).unwrap(), event.fields);
    }
}

/// The fields of an event are read exactly where a full decoder accepts it.
pub fn decode_event(data: &[u8]) {
    let fields = StellarDecoder.event_fields(data);
    if let Some(whole) = canonical::<stellar_xdr::ContractEvent>(data) {
        assert_eq!(fields.is_ok(), whole);
    }
}

/// Every transaction is found by each of its hashes, with parts that decode; and a replay has as many new ones.
pub fn find_transaction(data: &[u8]) {
    let network = NetworkId::of(PUBNET);
    let Ok(ledger) = StellarDecoder.decode(data) else {
        assert!(crate::find_transaction(data, &icecore_ledger::TxHash([0; 32]), &network).is_err());
        return;
    };
    for hash in ledger.hashes().take(50) {
        let found = crate::find_transaction(data, &hash, &network).unwrap().unwrap();
        assert!(found.hash == hash || found.inner_hash == Some(hash));
        let same = &ledger.transactions[found.index as usize - 1];
        assert_eq!((same.hash, same.inner_hash), (found.hash, found.inner_hash));
        assert_ne!(canonical::<stellar_xdr::TransactionResult>(found.result), Some(false));
        assert_ne!(canonical::<stellar_xdr::TransactionMeta>(found.meta), Some(false));
        if let Some(envelope) = found.envelope {
            let envelope = stellar_xdr::TransactionEnvelope::from_xdr(envelope, LIMITS).unwrap();
            assert_eq!(envelope.hash(network.0).unwrap(), found.hash.0);
        }
    }
    let range = LedgerRange::new(LedgerSeq(7), LedgerSeq(8)).unwrap();
    let replayer = Replayer::new(vec![data.to_vec()], range, network).unwrap();
    let mut replay = replayer.stream(range).unwrap();
    while let Some(replayed) = replay.next_ledger().unwrap() {
        let decoded = StellarDecoder.decode(replayed.bytes).unwrap();
        assert_eq!((decoded.seq, decoded.transactions.len()), (replayed.seq, ledger.transactions.len()));
        assert_eq!(decoded.events.len(), ledger.events.len());
    }
}

const LIMITS: Limits = Limits { depth: 500, len: 1 << 26 };

/// Whether a full decoder accepts the bytes and writes them back the same (it takes any number for a boolean); `None`
/// where it gives up on their depth, which it counts otherwise.
fn canonical<T: ReadXdr + WriteXdr>(data: &[u8]) -> Option<bool> {
    match T::from_xdr(data, LIMITS) {
        Ok(value) => Some(value.to_xdr(Limits::none()).unwrap() == data),
        Err(stellar_xdr::Error::DepthLimitExceeded) => None,
        Err(_) => Some(false),
    }
}

#[cfg(test)]
mod tests {
    use icecore_testkit::SplitMix64;

    use super::*;
    use crate::grow::{grow, ledger, mutate};

    fn try_all(values: u64, harness: fn(&[u8]), value: impl Fn(&mut SplitMix64, u64) -> Vec<u8>) {
        let mut rng = SplitMix64::new(values);
        for i in 0..values {
            let mut data = value(&mut rng, i);
            harness(&data);
            mutate(&mut rng, &mut data);
            harness(&data);
            harness(&rng.item(200));
        }
    }

    #[test]
    fn harnesses_hold() {
        let raw = |rng: &mut SplitMix64, i| ledger(rng, i % 3).to_xdr(Limits::none()).unwrap();
        try_all(40, decode_ledger, raw);
        try_all(41, find_transaction, raw);
        try_all(300, decode_event, |rng, _| grow::<stellar_xdr::ContractEvent>(rng, 400, &[]));
    }
}
