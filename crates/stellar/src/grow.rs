//! Random values of any type of the chain, grown by the full decoder of another crate: it is fed words, and where it
//! refuses one, the next candidate takes that word's place. So whatever it accepts can come up, and nothing here has to
//! know a single type.

use std::io::{self, Read};

use icecore_testkit::SplitMix64;
use stellar_xdr::{
    DependentTxCluster, Error, ExtensionPoint, FeeBumpTransactionInnerTx, GeneralizedTransactionSet, Hash,
    InnerTransactionResultPair, LedgerCloseMeta, LedgerCloseMetaV0, LedgerCloseMetaV1, LedgerCloseMetaV2,
    Limited, Limits, ParallelTxExecutionStage, ParallelTxsComponent, ReadXdr, TransactionEnvelope,
    TransactionPhase, TransactionResultMeta, TransactionResultMetaV1, TransactionResultResult,
    TransactionSet, TransactionSetV1, TxSetComponent, TxSetComponentTxsMaybeDiscountedFee, VecM, WriteXdr,
};

/// Gives a decoder what was decided, and after that what it draws.
struct Feed<'a> {
    rng: &'a mut SplitMix64,
    budget: usize,
    given: &'a mut Vec<u8>,
    at: usize,
    /// Where the last word begins.
    last: usize,
    /// Where negative words were drawn: codes of results, or by bad luck endless lists.
    negative: &'a mut Vec<usize>,
}

impl Feed<'_> {
    fn draw(&mut self, len: usize) -> Vec<u8> {
        let small = self.given.len() < self.budget;
        let word = match (len, self.rng.below(24)) {
            (1..=3, _) => return vec![0; len], // padding
            (4, _) if !small => 0,
            (4, 0..=11) => self.rng.below(3) as u32,
            (4, 12..=18) => self.rng.below(28) as u32,
            (4, 19) => {
                self.negative.push(self.at);
                (1 + self.rng.below(18) as u32).wrapping_neg()
            }
            (4, _) => 1,
            _ => return (0..len).map(|_| self.rng.next_u64() as u8).collect(),
        };
        word.to_be_bytes().to_vec()
    }
}

impl Read for Feed<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.at == self.given.len() {
            let drawn = self.draw(buf.len());
            self.given.extend(drawn);
        }
        let rest = &self.given[self.at..];
        let len = buf.len().min(rest.len());
        buf[..len].copy_from_slice(&rest[..len]);
        self.last = self.at;
        self.at += len;
        Ok(len)
    }
}

/// What may stand where a word was refused: small numbers, then negative ones, then the odd one out.
fn candidate(tries: usize) -> u32 {
    match tries as u32 {
        tries @ 0..=31 => tries,
        tries @ 32..=63 => (tries - 31).wrapping_neg(),
        _ => 256,
    }
}

/// A random value of `T` as XDR, beginning with `start`; past `budget` bytes it ends as soon as it can.
pub(crate) fn grow<T: ReadXdr + WriteXdr>(rng: &mut SplitMix64, budget: usize, start: &[u8]) -> Vec<u8> {
    let (mut given, mut negative, mut refused) = (start.to_vec(), Vec::new(), (usize::MAX, 0));
    loop {
        let feed = Feed { rng, budget, given: &mut given, at: 0, last: 0, negative: &mut negative };
        let mut reader = Limited::new(feed, Limits { depth: 400, len: budget * 2 + 1000 });
        let why = match T::read_xdr(&mut reader) {
            Ok(value) => return value.to_xdr(Limits::none()).unwrap(),
            Err(why) => why,
        };
        let last = reader.inner.last;
        let (at, word) = match why {
            Error::LengthLimitExceeded => {
                refused = (usize::MAX, 0);
                (negative.pop().unwrap_or(start.len()), 0)
            }
            _ => {
                let tries = if refused.0 == last { refused.1 + 1 } else { 0 };
                refused = (last, tries);
                assert!(tries <= 64 && last >= start.len(), "stuck at {last} of {}: {why}", given.len());
                (last, candidate(tries))
            }
        };
        given.truncate(at);
        given.extend(word.to_be_bytes());
    }
}

/// A part of a ledger, of about `budget` bytes.
fn part<T: ReadXdr + WriteXdr>(rng: &mut SplitMix64, budget: usize, start: &[u8]) -> T {
    T::from_xdr(grow::<T>(rng, budget, start), Limits::none()).unwrap()
}

/// A list of up to four parts.
fn parts<T: ReadXdr + WriteXdr>(rng: &mut SplitMix64, budget: usize) -> VecM<T> {
    let len = rng.below(5);
    (0..len).map(|_| part(rng, budget, &[])).collect::<Vec<T>>().try_into().unwrap()
}

/// A random ledger of this version, of some thousand bytes.
pub(crate) fn ledger(rng: &mut SplitMix64, version: u64) -> LedgerCloseMeta {
    let processed = |rng: &mut SplitMix64| {
        let meta = [0, 1, 2, 3, 3, 4, 4, 4][rng.below(8) as usize];
        TransactionResultMetaV1 {
            ext: ExtensionPoint::V0,
            result: part(rng, 300, &[]),
            fee_processing: part(rng, 100, &[]),
            tx_apply_processing: part(rng, 800, &[0, 0, 0, meta]),
            post_tx_apply_fee_processing: part(rng, 100, &[]),
        }
    };
    let older = |tx: TransactionResultMetaV1| TransactionResultMeta {
        result: tx.result,
        fee_processing: tx.fee_processing,
        tx_apply_processing: tx.tx_apply_processing,
    };
    let transactions: Vec<_> = (0..rng.below(5)).map(|_| processed(rng)).collect();
    let older_transactions: Vec<_> = transactions.iter().cloned().map(older).collect();
    let older_transactions = older_transactions.try_into().unwrap();
    match version {
        0 => LedgerCloseMeta::V0(LedgerCloseMetaV0 {
            ledger_header: part(rng, 600, &[]),
            tx_set: TransactionSet { previous_ledger_hash: part(rng, 0, &[]), txs: parts(rng, 300) },
            tx_processing: older_transactions,
            upgrades_processing: parts(rng, 100),
            scp_info: parts(rng, 200),
        }),
        1 => LedgerCloseMeta::V1(LedgerCloseMetaV1 {
            ext: part(rng, 100, &[]),
            ledger_header: part(rng, 600, &[]),
            tx_set: part(rng, 1000, &[]),
            tx_processing: older_transactions,
            upgrades_processing: parts(rng, 100),
            scp_info: parts(rng, 200),
            total_byte_size_of_live_soroban_state: rng.next_u64(),
            evicted_keys: parts(rng, 100),
            unused: parts(rng, 100),
        }),
        _ => LedgerCloseMeta::V2(LedgerCloseMetaV2 {
            ext: part(rng, 100, &[]),
            ledger_header: part(rng, 600, &[]),
            tx_set: part(rng, 1000, &[]),
            tx_processing: transactions.try_into().unwrap(),
            upgrades_processing: parts(rng, 100),
            scp_info: parts(rng, 200),
            total_byte_size_of_live_soroban_state: rng.next_u64(),
            evicted_keys: parts(rng, 100),
        }),
    }
}

/// A ledger like [`ledger`], with an envelope for every result: old ones, new ones and fee-bumps, applied in the
/// opposite order of the transaction set.
pub(crate) fn consistent(rng: &mut SplitMix64, version: u64, network: [u8; 32]) -> LedgerCloseMeta {
    let kinds = [0, 2, 5, 2, 5, 0];
    let envelopes: Vec<TransactionEnvelope> =
        kinds.iter().map(|&kind| part(rng, 300, &[0, 0, 0, kind])).collect();
    let applied = envelopes.iter().rev().map(|envelope| {
        let mut tx: TransactionResultMetaV1 = part(rng, 300, &[0, 0, 0, 0]);
        tx.result.transaction_hash = Hash(envelope.hash(network).unwrap());
        tx.result.result.result = match envelope {
            TransactionEnvelope::TxFeeBump(fee_bump) => {
                let FeeBumpTransactionInnerTx::Tx(inner) = &fee_bump.tx.inner_tx;
                let transaction_hash = Hash(inner.hash(network).unwrap());
                TransactionResultResult::TxFeeBumpInnerFailed(InnerTransactionResultPair {
                    transaction_hash,
                    result: part(rng, 100, &[]),
                })
            }
            _ => TransactionResultResult::TxBadSeq,
        };
        tx
    });
    let applied: Vec<_> = applied.collect();
    let older = |tx: &TransactionResultMetaV1| TransactionResultMeta {
        result: tx.result.clone(),
        fee_processing: tx.fee_processing.clone(),
        tx_apply_processing: tx.tx_apply_processing.clone(),
    };
    let mut made = ledger(rng, version);
    match &mut made {
        LedgerCloseMeta::V0(ledger) => {
            ledger.tx_set.txs = envelopes.try_into().unwrap();
            ledger.tx_processing = applied.iter().map(older).collect::<Vec<_>>().try_into().unwrap();
        }
        LedgerCloseMeta::V1(ledger) => {
            ledger.tx_set = generalized(envelopes);
            ledger.tx_processing = applied.iter().map(older).collect::<Vec<_>>().try_into().unwrap();
        }
        LedgerCloseMeta::V2(ledger) => {
            ledger.tx_set = generalized(envelopes);
            ledger.tx_processing = applied.try_into().unwrap();
        }
    }
    made
}

/// A set with a phase of each kind.
fn generalized(mut sequential: Vec<TransactionEnvelope>) -> GeneralizedTransactionSet {
    let parallel = sequential.split_off(sequential.len() / 2);
    let clusters: Vec<_> =
        parallel.into_iter().map(|tx| DependentTxCluster(vec![tx].try_into().unwrap())).collect();
    let stage = ParallelTxExecutionStage(clusters.try_into().unwrap());
    let component =
        TxSetComponentTxsMaybeDiscountedFee { base_fee: Some(7), txs: sequential.try_into().unwrap() };
    let phases = vec![
        TransactionPhase::V0(
            vec![TxSetComponent::TxsetCompTxsMaybeDiscountedFee(component)].try_into().unwrap(),
        ),
        TransactionPhase::V1(ParallelTxsComponent {
            base_fee: None,
            execution_stages: vec![stage].try_into().unwrap(),
        }),
    ];
    let previous_ledger_hash = Hash([9; 32]);
    GeneralizedTransactionSet::V1(TransactionSetV1 {
        previous_ledger_hash,
        phases: phases.try_into().unwrap(),
    })
}

/// Changes, inserts, removes or repeats something small: most results are no longer valid, and some are.
pub(crate) fn mutate(rng: &mut SplitMix64, bytes: &mut Vec<u8>) {
    let words = bytes.len() as u64 / 4;
    let at = rng.below(words.max(1)) as usize * 4;
    let end = (at + 4).min(bytes.len());
    match rng.below(8) {
        0..=3 => {
            let word = candidate(rng.below(65) as usize);
            bytes.splice(at..end, word.to_be_bytes());
        }
        4 => {
            let at = rng.below(bytes.len().max(1) as u64) as usize;
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 1 << rng.below(8);
            }
        }
        5 => drop(bytes.drain(at..end)),
        6 => drop(bytes.splice(at..at, [0; 4])),
        _ => bytes.truncate(at),
    }
}
