//! Real ledgers again and again, as many as one likes, each lap with transactions of its own.
//!
//! What changes in the n-th ledger, always in place: the sequence and the close time in its header; from the second lap
//! on every transaction's sequence number, and with it the hashes in its result. A transaction whose envelope cannot be
//! told (another network's) gets a hash derived from its own and the lap. Everything else stays, so signatures and the
//! hashes that tie ledgers together no longer hold: such ledgers are for storing and finding, not for verifying.

use std::collections::HashMap;

use icecore_ledger::{Error, LedgerRange, LedgerSeq, LedgerStream, RawLedger, Result, Source, TxHash};
use sha2::{Digest, Sha256};

use crate::{
    NetworkId,
    transaction::{Applied, Contents, EnvelopeParts},
};

/// Seconds from one replayed ledger to the next.
pub const SECONDS_PER_LEDGER: i64 = 5;

/// A [`Source`] that replays real ledgers. Holds the ledgers it repeats, and nothing per ledger it gives.
pub struct Replayer {
    base: Vec<Base>,
    ledgers: LedgerRange,
    network: NetworkId,
}

/// A ledger to repeat, and what to change in it.
struct Base {
    raw: Vec<u8>,
    seq_at: usize,
    closed_at_at: usize,
    closed_at: i64,
    transactions: Vec<Patch>,
}

/// Where a transaction's hashes are in its ledger, and its envelope.
struct Patch {
    hash_at: usize,
    inner_at: Option<usize>,
    envelope: Option<(std::ops::Range<usize>, EnvelopeParts)>,
}

impl Replayer {
    /// Replays `base` (raw ledgers in their order) under the sequences of `ledgers`. The first lap has the base's own
    /// transaction hashes.
    ///
    /// # Errors
    /// [`Error::Empty`] when there is nothing to repeat, [`Error::Malformed`] for bytes that are not one whole ledger.
    pub fn new(base: Vec<Vec<u8>>, ledgers: LedgerRange, network: NetworkId) -> Result<Self> {
        let base: Vec<Base> = base.into_iter().map(|raw| Base::new(raw, &network)).collect::<Result<_>>()?;
        let replayer = Replayer { base, ledgers, network };
        if replayer.base.is_empty() {
            return Err(Error::Empty { place: replayer.describe() });
        }
        Ok(replayer)
    }

    /// Replays a range of another source, which is read into memory.
    ///
    /// # Errors
    /// As of [`new`](Replayer::new), and those of the source.
    pub fn from_source(
        source: &dyn Source,
        base: LedgerRange,
        ledgers: LedgerRange,
        network: NetworkId,
    ) -> Result<Self> {
        let mut stream = source.stream(base)?;
        let mut raw = Vec::new();
        while let Some(ledger) = stream.next_ledger()? {
            raw.push(ledger.bytes.to_vec());
        }
        Replayer::new(raw, ledgers, network)
    }

    /// Writes the ledger `seq` into `buffer`.
    fn write(&self, seq: LedgerSeq, buffer: &mut Vec<u8>) {
        let offset = seq.0.wrapping_sub(self.ledgers.first.0) as usize;
        let (lap, index) = (offset / self.base.len(), offset % self.base.len());
        let base = &self.base[index];
        let closed_at =
            self.base[0].closed_at.saturating_add(SECONDS_PER_LEDGER.saturating_mul(offset as i64));
        buffer.clear();
        buffer.extend_from_slice(&base.raw);
        put(buffer, base.seq_at, &seq.0.to_be_bytes());
        put(buffer, base.closed_at_at, &closed_at.to_be_bytes());
        if lap > 0 {
            base.transactions.iter().for_each(|tx| tx.renew(buffer, lap as u64, &self.network));
        }
    }
}

impl Base {
    fn new(raw: Vec<u8>, network: &NetworkId) -> Result<Base> {
        let contents = Contents::read(&raw)?;
        let mut envelopes: HashMap<TxHash, _> = (contents.envelopes.into_iter())
            .map(|e| (e.parts.hash(e.xdr, network), (e.at..e.at + e.xdr.len(), e.parts)))
            .collect();
        let patch = |tx: &Applied<'_>| Patch {
            hash_at: tx.result.hash_at,
            inner_at: tx.result.inner.map(|(_, at)| at),
            envelope: envelopes.remove(&tx.hash()),
        };
        let transactions = contents.applied.iter().map(patch).collect();
        let walk = contents.head;
        let (seq_at, closed_at_at, closed_at) = (walk.seq_at, walk.closed_at_at, walk.closed_at);
        Ok(Base { raw, seq_at, closed_at_at, closed_at, transactions })
    }
}

impl Patch {
    /// Gives the transaction the hashes of its `lap`.
    fn renew(&self, ledger: &mut [u8], lap: u64, network: &NetworkId) {
        let renewed = self.envelope.as_ref().and_then(|(at, parts)| {
            let envelope = ledger.get_mut(at.clone())?;
            advance_sequence(envelope, parts.sequence_at, lap);
            Some((parts.hash(envelope, network), parts.inner_hash(envelope, network)))
        });
        let derived = |ledger: &[u8], at: usize| {
            let old = ledger.get(at..at + 32).unwrap_or_default();
            TxHash(Sha256::new().chain_update(old).chain_update(lap.to_be_bytes()).finalize().into())
        };
        let hash = renewed.map_or_else(|| derived(ledger, self.hash_at), |(hash, _)| hash);
        put(ledger, self.hash_at, &hash.0);
        if let Some(at) = self.inner_at {
            let inner = renewed.and_then(|(_, inner)| inner).unwrap_or_else(|| derived(ledger, at));
            put(ledger, at, &inner.0);
        }
    }
}

/// Moves a sequence number so far that no other transaction of the account, in any lap, comes to have it: an account's
/// numbers are counted up one by one.
fn advance_sequence(envelope: &mut [u8], at: usize, lap: u64) {
    if let Some(field) = envelope.get_mut(at..).and_then(|rest| rest.first_chunk_mut::<8>()) {
        *field = u64::from_be_bytes(*field).wrapping_add(lap << 31).to_be_bytes();
    }
}

/// Overwrites bytes at a place that a walk has found.
fn put(ledger: &mut [u8], at: usize, bytes: &[u8]) {
    if let Some(place) = ledger.get_mut(at..at + bytes.len()) {
        place.copy_from_slice(bytes);
    }
}

impl Source for Replayer {
    fn describe(&self) -> String {
        format!("a replay of {} ledgers", self.base.len())
    }

    fn range(&self) -> Result<LedgerRange> {
        Ok(self.ledgers)
    }

    fn stream(&self, wanted: LedgerRange) -> Result<Box<dyn LedgerStream + '_>> {
        if self.ledgers.intersect(wanted) != Some(wanted) {
            return Err(Error::OutOfRange { place: self.describe(), has: self.ledgers, wanted });
        }
        Ok(Box::new(Replay { replayer: self, next: wanted.first.0..=wanted.last.0, buffer: Vec::new() }))
    }
}

struct Replay<'a> {
    replayer: &'a Replayer,
    next: std::ops::RangeInclusive<u32>,
    buffer: Vec<u8>,
}

impl LedgerStream for Replay<'_> {
    fn next_ledger(&mut self) -> Result<Option<RawLedger<'_>>> {
        let Some(seq) = self.next.next().map(LedgerSeq) else { return Ok(None) };
        self.replayer.write(seq, &mut self.buffer);
        Ok(Some(RawLedger { seq, bytes: &self.buffer }))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use icecore_ledger::Decoder;
    use icecore_testkit::SplitMix64;
    use stellar_xdr::{Limits, WriteXdr};

    use super::*;
    use crate::{STANDALONE, StellarDecoder, find_transaction, grow::consistent};

    fn base(network: NetworkId) -> Vec<Vec<u8>> {
        let ledger =
            |i| consistent(&mut SplitMix64::new(i), i % 3, network.0).to_xdr(Limits::none()).unwrap();
        (0..3).map(ledger).collect()
    }

    fn range(first: u32, last: u32) -> LedgerRange {
        LedgerRange::new(LedgerSeq(first), LedgerSeq(last)).unwrap()
    }

    fn all(source: &dyn Source, ledgers: LedgerRange) -> Vec<Vec<u8>> {
        let mut stream = source.stream(ledgers).unwrap();
        let mut raw = Vec::new();
        while let Some(ledger) = stream.next_ledger().unwrap() {
            assert_eq!(ledger.seq.0, ledgers.first.0 + raw.len() as u32);
            raw.push(ledger.bytes.to_vec());
        }
        raw
    }

    #[test]
    fn every_lap_has_new_hashes_that_its_envelopes_hash_to() {
        let network = NetworkId::of(STANDALONE);
        let base = base(network);
        let replayer = Replayer::new(base.clone(), range(100, 129), network).unwrap();
        let (mut hashes, mut closed_at) = (HashSet::new(), i64::MIN);
        for (raw, i) in all(&replayer, range(100, 129)).iter().zip(0..) {
            assert_eq!(raw.len(), base[i % 3].len());
            let ledger = StellarDecoder.decode(raw).unwrap();
            assert_eq!(ledger.seq, LedgerSeq(100 + i as u32));
            assert!(ledger.closed_at > closed_at);
            closed_at = ledger.closed_at;
            let original = StellarDecoder.decode(&base[i % 3]).unwrap();
            assert_eq!(ledger.events.len(), original.events.len());
            assert_eq!(ledger.transactions == original.transactions, i < 3);
            for hash in ledger.hashes() {
                assert!(hashes.insert(hash));
                let found = find_transaction(raw, &hash, &network).unwrap().unwrap();
                let envelope = xdr_envelope(found.envelope.unwrap());
                assert_eq!(envelope.hash(network.0).unwrap(), found.hash.0);
                if let stellar_xdr::TransactionEnvelope::TxFeeBump(fee_bump) = envelope {
                    let stellar_xdr::FeeBumpTransactionInnerTx::Tx(inner) = fee_bump.tx.inner_tx;
                    assert_eq!(Some(TxHash(inner.hash(network.0).unwrap())), found.inner_hash);
                }
            }
        }
        assert_eq!(hashes.len(), 30 * 8);
    }

    fn xdr_envelope(xdr: &[u8]) -> stellar_xdr::TransactionEnvelope {
        stellar_xdr::ReadXdr::from_xdr(xdr, Limits::none()).unwrap()
    }

    #[test]
    fn another_networks_ledgers_get_new_hashes_too() {
        let base = base(NetworkId::of("its own"));
        let replayer = Replayer::new(base, range(2, 31), NetworkId::of(STANDALONE)).unwrap();
        let raw = all(&replayer, range(2, 31));
        let hashes: HashSet<_> = raw
            .iter()
            .flat_map(|raw| StellarDecoder.decode(raw).unwrap().hashes().collect::<Vec<_>>())
            .collect();
        assert_eq!(hashes.len(), 30 * 8);
    }

    #[test]
    fn a_stream_may_begin_anywhere_and_a_replay_be_replayed() {
        let network = NetworkId::of(STANDALONE);
        let replayer = Replayer::new(base(network), range(2, 40), network).unwrap();
        assert!(replayer.random_access());
        let whole = all(&replayer, range(2, 40));
        assert_eq!(all(&replayer, range(17, 23)), whole[15..22]);
        let again = Replayer::from_source(&replayer, range(11, 13), range(11, 13), network).unwrap();
        let decode = |raw| StellarDecoder.decode(raw).unwrap().transactions;
        for (again, first) in all(&again, range(11, 13)).iter().zip(&whole[9..12]) {
            assert_eq!(decode(again), decode(first));
        }
        let last = LedgerSeq(u32::MAX);
        let end = Replayer::new(base(network), LedgerRange { first: LedgerSeq(2), last }, network).unwrap();
        assert_eq!(all(&end, LedgerRange { first: last, last }).len(), 1);
    }

    #[test]
    fn what_cannot_be_replayed_is_refused() {
        let network = NetworkId::of(STANDALONE);
        assert!(matches!(Replayer::new(Vec::new(), range(2, 3), network), Err(Error::Empty { .. })));
        assert!(matches!(
            Replayer::new(vec![vec![0; 9]], range(2, 3), network),
            Err(Error::Malformed { .. })
        ));
        let replayer = Replayer::new(base(network), range(5, 9), network).unwrap();
        for wanted in [range(4, 6), range(9, 10), range(20, 21)] {
            assert!(matches!(replayer.stream(wanted), Err(Error::OutOfRange { .. })));
        }
    }
}
