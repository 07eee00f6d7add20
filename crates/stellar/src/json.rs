use icecore_ledger::{Error, Result};
use serde::Serialize;
use stellar_xdr::{
    ContractEvent, LedgerCloseMeta, Limits, ReadXdr, TransactionEnvelope, TransactionMeta, TransactionResult,
};

use crate::xdr::{self, Xdr, walk};

/// The most bytes of XDR that are made into JSON: as JSON they may take more than thirty times the memory.
pub const MAX_JSON_XDR_BYTES: usize = 16 << 20;

/// How deep types may nest, counted as the chain's own node counts when it reads XDR.
const MAX_DEPTH: u32 = 500;

/// What some XDR is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum XdrKind {
    /// A `TransactionEnvelope`.
    Envelope,
    /// A `TransactionResult`.
    Result,
    /// A `TransactionMeta`.
    Meta,
    /// A `LedgerCloseMeta`.
    Ledger,
    /// A `ContractEvent`.
    Event,
}

/// The XDR of one value as JSON, in the form of the chain's own tools (SEP-0051).
///
/// # Errors
/// [`Error::Malformed`] for bytes that are not one whole value, or that nest deeper than any network accepts;
/// [`Error::Config`] for more than [`MAX_JSON_XDR_BYTES`].
pub fn to_json(kind: XdrKind, xdr: &[u8]) -> Result<serde_json::Value> {
    if xdr.len() > MAX_JSON_XDR_BYTES {
        let what =
            format!("{} bytes are too many to show as JSON: at most {MAX_JSON_XDR_BYTES} are", xdr.len());
        return Err(Error::Config { place: kind.name().to_owned(), what });
    }
    // The walk refuses damage before anything is allocated for it, and says where it is.
    xdr::read(kind.name(), xdr, |c| {
        match kind {
            XdrKind::Envelope => xdr::TransactionEnvelope::skip(c)?,
            XdrKind::Result => xdr::TransactionResult::skip(c)?,
            XdrKind::Meta => walk::meta(c, &mut walk::Nothing)?,
            XdrKind::Ledger => walk::ledger(c, &mut walk::Nothing).map(drop)?,
            XdrKind::Event => walk::event(c).map(drop)?,
        }
        c.end()
    })?;
    match kind {
        XdrKind::Envelope => convert::<TransactionEnvelope>(kind, xdr),
        XdrKind::Result => convert::<TransactionResult>(kind, xdr),
        XdrKind::Meta => convert::<TransactionMeta>(kind, xdr),
        XdrKind::Ledger => convert::<LedgerCloseMeta>(kind, xdr),
        XdrKind::Event => convert::<ContractEvent>(kind, xdr),
    }
}

fn convert<T: ReadXdr + Serialize>(kind: XdrKind, xdr: &[u8]) -> Result<serde_json::Value> {
    let malformed = |why: String| Error::Malformed { what: kind.name(), offset: 0, why };
    let value = T::from_xdr(xdr, Limits { depth: MAX_DEPTH, len: xdr.len() })
        .map_err(|e| malformed(e.to_string()))?;
    serde_json::to_value(value).map_err(|e| malformed(e.to_string()))
}

impl XdrKind {
    fn name(self) -> &'static str {
        match self {
            XdrKind::Envelope => "transaction envelope",
            XdrKind::Result => "transaction result",
            XdrKind::Meta => "transaction meta",
            XdrKind::Ledger => "ledger",
            XdrKind::Event => "contract event",
        }
    }
}

#[cfg(test)]
mod tests {
    use icecore_testkit::SplitMix64;
    use stellar_xdr::{ScVal, ScVec, WriteXdr};

    use super::*;
    use crate::grow::{grow, ledger};

    #[test]
    fn every_kind_converts_and_says_what_damage_it_met() {
        let mut rng = SplitMix64::new(3);
        let xdr = ledger(&mut rng, 2).to_xdr(Limits::none()).unwrap();
        assert!(to_json(XdrKind::Ledger, &xdr).unwrap()["v2"]["ledger_header"]["hash"].is_string());
        let values = [
            (XdrKind::Envelope, grow::<TransactionEnvelope>(&mut rng, 300, &[])),
            (XdrKind::Result, grow::<TransactionResult>(&mut rng, 300, &[])),
            (XdrKind::Meta, grow::<TransactionMeta>(&mut rng, 300, &[0, 0, 0, 4])),
            (XdrKind::Event, grow::<ContractEvent>(&mut rng, 300, &[])),
        ];
        for (kind, xdr) in values {
            assert!(to_json(kind, &xdr).unwrap().is_object());
            for damaged in [&xdr[..xdr.len() - 4], &[&xdr[..], &[0; 4]].concat()] {
                assert!(
                    matches!(to_json(kind, damaged), Err(Error::Malformed { what, .. }) if what == kind.name())
                );
            }
        }
    }

    #[test]
    fn bombs_are_refused() {
        let event = |data: ScVal| {
            let mut event = ContractEvent::default();
            let stellar_xdr::ContractEventBody::V0(body) = &mut event.body;
            body.data = data;
            event.to_xdr(Limits::none()).unwrap()
        };
        let nested = |depth| {
            (0..depth).fold(ScVal::Void, |inner, _| ScVal::Vec(Some(ScVec(vec![inner].try_into().unwrap()))))
        };
        assert!(to_json(XdrKind::Event, &event(nested(90))).is_ok());
        assert!(to_json(XdrKind::Event, &event(nested(300))).is_err());
        let long = event(ScVal::Bytes(vec![0; MAX_JSON_XDR_BYTES].try_into().unwrap()));
        assert!(to_json(XdrKind::Event, &long).unwrap_err().to_string().contains("too many"));
    }
}
