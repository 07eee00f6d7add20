//! One transaction out of a ledger: its envelope, its result, its meta, as slices of the ledger's bytes.
//!
//! Results and metas stand in the order in which transactions were applied, envelopes in another one, and nothing but
//! the hash of an envelope ties the two together. What is hashed (SHA-256) is the network's id, then:
//!
//! ```text
//! envelope   0 (old form)   2 ‖ 0 ‖ transaction              as if it were of the new form
//!            2              2 ‖ transaction                  the envelope's own bytes up to the signatures
//!            5 (fee-bump)   5 ‖ transaction                  likewise; the inner one within as 2 ‖ transaction
//! ```

use std::ops::Range;

use icecore_ledger::{LedgerSeq, Result, TxHash};
use sha2::{Digest, Sha256};

use crate::{
    NetworkId,
    xdr::{
        self, Cursor, DecoratedSignature, ExtensionPoint, Hyper, Int, List, MuxedAccount, Step, Xdr, walk,
    },
};

/// A transaction as a ledger has it, borrowed from the ledger's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TransactionParts<'a> {
    /// The ledger that applied it.
    pub seq: LedgerSeq,
    /// When that ledger closed, in seconds since 1970.
    pub closed_at: i64,
    /// Its place in the order of application, from 1.
    pub index: u32,
    /// Its own hash; of a fee-bump the outer one.
    pub hash: TxHash,
    /// For a fee-bump: the hash of the transaction inside it.
    pub inner_hash: Option<TxHash>,
    /// Its `TransactionEnvelope` as XDR; `None` when no envelope of the ledger hashes to it on the network given.
    pub envelope: Option<&'a [u8]>,
    /// Its `TransactionResult` as XDR (without the hash that precedes it in a ledger's `TransactionResultPair`).
    pub result: &'a [u8],
    /// Its `TransactionMeta` as XDR.
    pub meta: &'a [u8],
}

/// Finds the transaction with this hash, outer or inner, in a raw ledger; `None` when the ledger has no such one.
///
/// The network matters for the envelope only.
///
/// # Errors
/// [`Error::Malformed`](icecore_ledger::Error::Malformed) for bytes that are not one whole ledger.
pub fn find_transaction<'a>(
    raw: &'a [u8],
    wanted: &TxHash,
    network: &NetworkId,
) -> Result<Option<TransactionParts<'a>>> {
    let contents = Contents::read(raw)?;
    let found =
        contents.applied.iter().zip(1..).find(|(tx, _)| tx.hash() == *wanted || tx.inner() == Some(*wanted));
    Ok(found.map(|(tx, index)| TransactionParts {
        seq: contents.head.seq,
        closed_at: contents.head.closed_at,
        index,
        hash: tx.hash(),
        inner_hash: tx.inner(),
        envelope: contents
            .envelopes
            .iter()
            .find(|e| e.parts.hash(e.xdr, network) == tx.hash())
            .map(|e| e.xdr),
        result: tx.result.xdr,
        meta: tx.meta,
    }))
}

/// Everything of a ledger that belongs to single transactions.
pub(crate) struct Contents<'a> {
    pub(crate) head: walk::Head,
    pub(crate) envelopes: Vec<Envelope<'a>>,
    pub(crate) applied: Vec<Applied<'a>>,
}

/// An envelope and where it starts in the ledger.
pub(crate) struct Envelope<'a> {
    pub(crate) at: usize,
    pub(crate) xdr: &'a [u8],
    pub(crate) parts: EnvelopeParts,
}

/// What came of a transaction.
pub(crate) struct Applied<'a> {
    pub(crate) result: walk::TxResult<'a>,
    pub(crate) meta: &'a [u8],
}

impl Applied<'_> {
    pub(crate) fn hash(&self) -> TxHash {
        TxHash(*self.result.hash)
    }

    pub(crate) fn inner(&self) -> Option<TxHash> {
        self.result.inner.map(|(hash, _)| TxHash(*hash))
    }
}

impl<'a> Contents<'a> {
    pub(crate) fn read(raw: &'a [u8]) -> Result<Self> {
        let mut seen = Seen::default();
        let head = xdr::read("ledger", raw, |c| walk::ledger(c, &mut seen))?;
        let envelope = |(at, xdr)| {
            xdr::read("transaction envelope", xdr, EnvelopeParts::read).map(|parts| Envelope {
                at,
                xdr,
                parts,
            })
        };
        let envelopes = seen.envelopes.into_iter().map(envelope).collect::<Result<_>>()?;
        Ok(Contents { head, envelopes, applied: seen.applied })
    }
}

#[derive(Default)]
struct Seen<'a> {
    envelopes: Vec<(usize, &'a [u8])>,
    applied: Vec<Applied<'a>>,
}

impl<'a> walk::Visitor<'a> for Seen<'a> {
    fn envelope(&mut self, at: usize, xdr: &'a [u8]) {
        self.envelopes.push((at, xdr));
    }

    fn result(&mut self, result: walk::TxResult<'a>) {
        self.applied.push(Applied { result, meta: &[] });
    }

    fn meta(&mut self, meta: &'a [u8]) {
        if let Some(last) = self.applied.last_mut() {
            last.meta = meta;
        }
    }
}

/// Where an envelope has what its hashes are made of, as offsets in its XDR.
#[derive(Clone, Debug)]
pub(crate) struct EnvelopeParts {
    /// What the new form has before the signed part of the old one.
    prefix: &'static [u8],
    signed: Range<usize>,
    /// For a fee-bump: the signed part of the transaction inside it.
    inner: Option<Range<usize>>,
    /// The eight bytes of the sequence number; of a fee-bump, that of the transaction inside it.
    pub(crate) sequence_at: usize,
}

impl EnvelopeParts {
    /// Reads the parts of one envelope.
    pub(crate) fn read(c: &mut Cursor<'_>) -> Step<Self> {
        let mut parts = EnvelopeParts { prefix: &[], signed: c.offset()..0, inner: None, sequence_at: 0 };
        match c.u32()? {
            0 => {
                parts.prefix = &[0, 0, 0, 2, 0, 0, 0, 0];
                parts.signed.start = c.offset();
                parts.sequence_at = c.offset() + 32 + 4; // source and fee
                xdr::TransactionV0::skip(c)?;
            }
            2 => parts.sequence_at = transaction(c)?,
            5 => {
                MuxedAccount::skip(c)?;
                Hyper::skip(c)?; // fee
                let start = c.offset();
                if c.u32()? != 2 {
                    return c.back(4, "not the type of a transaction that a fee-bump can have inside");
                }
                parts.sequence_at = transaction(c)?;
                parts.inner = Some(start..c.offset());
                List::<DecoratedSignature, 20>::skip(c)?;
                ExtensionPoint::skip(c)?;
            }
            _ => return c.back(4, "not a type of TransactionEnvelope"),
        }
        parts.signed.end = c.offset();
        List::<DecoratedSignature, 20>::skip(c)?;
        Ok(parts)
    }

    /// The transaction's hash; `xdr` is the envelope that was read.
    pub(crate) fn hash(&self, xdr: &[u8], network: &NetworkId) -> TxHash {
        sha256(network, self.prefix, xdr.get(self.signed.clone()))
    }

    /// The hash of the transaction inside a fee-bump.
    pub(crate) fn inner_hash(&self, xdr: &[u8], network: &NetworkId) -> Option<TxHash> {
        self.inner.clone().map(|inner| sha256(network, &[], xdr.get(inner)))
    }
}

fn sha256(network: &NetworkId, prefix: &[u8], signed: Option<&[u8]>) -> TxHash {
    let hash =
        Sha256::new().chain_update(network.0).chain_update(prefix).chain_update(signed.unwrap_or_default());
    TxHash(hash.finalize().into())
}

/// Steps over a transaction; says where its sequence number is.
fn transaction(c: &mut Cursor<'_>) -> Step<usize> {
    let mut ahead = c.clone();
    MuxedAccount::skip(&mut ahead)?;
    Int::skip(&mut ahead)?; // fee
    xdr::Transaction::skip(c)?;
    Ok(ahead.offset())
}

#[cfg(test)]
mod tests {
    use icecore_ledger::Decoder;
    use icecore_testkit::SplitMix64;
    use stellar_xdr::{Limits, ReadXdr, TransactionEnvelope, TransactionMeta, TransactionResult, WriteXdr};

    use super::*;
    use crate::{PASSPHRASES, StellarDecoder, TESTNET, grow::consistent};

    #[test]
    fn every_transaction_is_found_by_each_of_its_hashes() {
        let network = NetworkId::of(TESTNET);
        for version in 0..3 {
            let ledger = consistent(&mut SplitMix64::new(version), version, network.0);
            let raw = ledger.to_xdr(Limits::none()).unwrap();
            let decoded = StellarDecoder.decode(&raw).unwrap();
            assert_eq!((decoded.transactions.len(), decoded.hashes().count()), (6, 8));
            for (tx, index) in decoded.transactions.iter().zip(1..) {
                for wanted in [Some(tx.hash), tx.inner_hash].into_iter().flatten() {
                    let found = find_transaction(&raw, &wanted, &network).unwrap().unwrap();
                    assert_eq!((found.index, found.hash, found.inner_hash), (index, tx.hash, tx.inner_hash));
                    assert_eq!((found.seq, found.closed_at), (decoded.seq, decoded.closed_at));
                    let envelope =
                        TransactionEnvelope::from_xdr(found.envelope.unwrap(), Limits::none()).unwrap();
                    assert_eq!(envelope.hash(network.0).unwrap(), tx.hash.0);
                    TransactionResult::from_xdr(found.result, Limits::none()).unwrap();
                    TransactionMeta::from_xdr(found.meta, Limits::none()).unwrap();
                }
            }
            let other = NetworkId::of("another network");
            let found = find_transaction(&raw, &decoded.transactions[3].hash, &other).unwrap().unwrap();
            assert_eq!((found.index, found.envelope), (4, None));
            assert_eq!(find_transaction(&raw, &TxHash([1; 32]), &network).unwrap(), None);
            assert_eq!(NetworkId::detect(&raw, &PASSPHRASES.map(NetworkId::of)).unwrap(), Some(network));
            assert_eq!(NetworkId::detect(&raw, &[other]).unwrap(), None);
        }
    }

    #[test]
    fn the_networks_have_their_well_known_ids() {
        let ids = [
            "7ac33997544e3175d266bd022439b22cdb16508c01163f26e5cb2a3e1045a979",
            "cee0302d59844d32bdca915c8203dd44b33fbb7edc19051ea37abedf28ecd472",
        ];
        assert_eq!(PASSPHRASES.map(|p| TxHash(NetworkId::of(p).0).to_string())[..2], ids);
    }
}
