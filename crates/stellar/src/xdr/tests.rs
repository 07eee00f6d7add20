//! The grammar against a full decoder of the same types.

use icecore_testkit::SplitMix64;
use stellar_xdr::{Error, Limits, ReadXdr, WriteXdr};

use super::{shape::Xdr, *};
use crate::grow::{grow, mutate};

/// As deep as nothing here nests, so that only our own limit counts.
const LIMITS: Limits = Limits { depth: 2000, len: 1 << 24 };

fn skips<T: Xdr>(bytes: &[u8]) -> bool {
    read("value", bytes, |c| T::skip(c).and_then(|()| c.end())).is_ok()
}

/// Whatever the full decoder accepts is stepped over, whole; and changed a little, both accept it or neither. Only that
/// one takes every number for a boolean, which shows when it writes the value back.
fn agrees<Ours: Xdr, Theirs: ReadXdr + WriteXdr>(values: usize) {
    let name = std::any::type_name::<Theirs>();
    let mut rng = SplitMix64::new(name.bytes().map(u64::from).sum());
    for _ in 0..values {
        let value = grow::<Theirs>(&mut rng, 600, &[]);
        assert!(skips::<Ours>(&value), "{name} {value:?}");
        for _ in 0..20 {
            let mut changed = value.clone();
            (0..=rng.below(3)).for_each(|_| mutate(&mut rng, &mut changed));
            let full = Theirs::from_xdr(&changed, LIMITS);
            if !matches!(full, Err(Error::DepthLimitExceeded)) {
                let whole = full.is_ok_and(|value| value.to_xdr(LIMITS).unwrap() == changed);
                assert_eq!(skips::<Ours>(&changed), whole, "{name} {changed:?}");
            }
        }
    }
}

#[test]
fn values_and_events_agree() {
    agrees::<SCVal, stellar_xdr::ScVal>(4000);
    agrees::<ContractEvent, stellar_xdr::ContractEvent>(2000);
    agrees::<DiagnosticEvent, stellar_xdr::DiagnosticEvent>(500);
}

#[test]
fn entries_agree() {
    agrees::<LedgerEntry, stellar_xdr::LedgerEntry>(6000);
    agrees::<LedgerKey, stellar_xdr::LedgerKey>(3000);
    agrees::<ConfigSettingEntry, stellar_xdr::ConfigSettingEntry>(3000);
    agrees::<LedgerEntryChanges, stellar_xdr::LedgerEntryChanges>(2000);
}

#[test]
fn transactions_agree() {
    agrees::<TransactionEnvelope, stellar_xdr::TransactionEnvelope>(3000);
    agrees::<Operation, stellar_xdr::Operation>(8000);
    agrees::<Preconditions, stellar_xdr::Preconditions>(1000);
    agrees::<SorobanTransactionData, stellar_xdr::SorobanTransactionData>(1000);
}

#[test]
fn results_agree() {
    agrees::<TransactionResult, stellar_xdr::TransactionResult>(4000);
    agrees::<OperationResult, stellar_xdr::OperationResult>(8000);
}

#[test]
fn the_rest_of_a_ledger_agrees() {
    agrees::<SCPHistoryEntry, stellar_xdr::ScpHistoryEntry>(3000);
    agrees::<UpgradeEntryMeta, stellar_xdr::UpgradeEntryMeta>(1000);
    agrees::<StellarValueExt, stellar_xdr::StellarValueExt>(1000);
    agrees::<LedgerCloseMetaExt, stellar_xdr::LedgerCloseMetaExt>(200);
    agrees::<TransactionMetaV2, stellar_xdr::TransactionMetaV2>(1000);
    agrees::<SorobanTransactionMetaV2, stellar_xdr::SorobanTransactionMetaV2>(1000);
}

#[test]
fn nesting_ends_where_it_must() {
    // A vector of one vector of one vector …, with a void in the innermost.
    let nested = |depth: usize| {
        let mut bytes = [0, 0, 0, 16, 0, 0, 0, 1, 0, 0, 0, 1].repeat(depth);
        bytes.extend([0, 0, 0, 1]);
        bytes
    };
    assert!(skips::<SCVal>(&nested(500)));
    let refused = read("value", &nested(501), SCVal::skip).unwrap_err();
    assert!(matches!(refused, icecore_ledger::Error::Malformed { offset: 6012, .. }), "{refused}");
    assert!(!skips::<SCVal>(&nested(100_000)));
}
