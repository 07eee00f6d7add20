//! Spending and giving back (U-7 to U-12), and what follows from it for deletion (U-14, U-15).

use std::time::Duration;

use super::{on_every_backend, support::*};
use crate::{
    record::{FollowUp, FollowUpKey, Master, Owed},
    *,
};

on_every_backend! {
    spend_checks_in_order,
    idempotent_respend,
    same_batch_double_spend,
    cross_batch_double_spend,
    invalid_failure_rolls_back,
    transient_failure_keeps_spends,
    blessed_child,
    deleted_child_is_not_brought_back,
    unspend_by_non_owner_is_a_noop,
    unspend_without_lock_flag_leaves_lock,
    aborted_wait_leaves_the_outcome_open,
    dah_follows_spending,
    dah_never_lowered,
    drifted_counter_clears_master_dah,
    counter_is_clamped,
    owed_counts_are_paid_once,
}

fn spend_checks_in_order(bed: &Bed) {
    let store = bed.open();
    let height_0 = store.take(9, &[(1, 0)], 0);
    assert!(matches!(height_0, Err(Error::Invalid { .. })));
    assert!(matches!(input_error(store.take(9, &[(1, 0)], 1), 0), Error::TxNotFound { .. }));
    let options = CreateOptions { conflicting: true, locked: true, ..CreateOptions::default() };
    let mut coinbase = NewTx { coinbase: true, ..tx(1, 9) };
    coinbase.outputs[8] = None;
    store.create(coinbase, 10, options).unwrap();
    let flags = |ignore_conflicting, ignore_locked| SpendFlags { ignore_conflicting, ignore_locked };
    let spend = |tx: SpendTx, height, flags| input_error(store.spend(tx, height, flags), 0);
    let wrong =
        || SpendTx { txid: txid(9), inputs: vec![SpendInput { outpoint: outpoint(1, 5), hash: hash(1, 6) }] };
    assert!(matches!(spend(wrong(), 10, flags(false, false)), Error::Conflicting { .. }));
    assert!(matches!(spend(wrong(), 10, flags(true, false)), Error::Locked { .. }));
    assert!(matches!(spend(wrong(), 10, flags(true, true)), Error::CoinbaseImmature { .. }));
    assert!(matches!(spend(wrong(), 15, flags(true, true)), Error::HashMismatch { .. }));
    for missing in [8, 9, 12, u32::MAX] {
        let error = spend(spending(9, &[(1, missing)]), 15, flags(true, true));
        assert!(matches!(error, Error::OutputNotFound { .. }), "{missing}: {error}");
    }
    store.spend(spending(9, &[(1, 5)]), 15, flags(true, true)).unwrap();
    assert_eq!(store.spender(1, 5), Some(by(9, 0)));
}

fn idempotent_respend(bed: &Bed) {
    let store = bed.open();
    store.put(tx(1, 9), 7);
    for _ in 0..2 {
        store.take(2, &[(1, 0), (1, 8)], 8).unwrap();
        let whole = store.all_of(1);
        assert_eq!((whole.master.page.spent_utxos(), whole.extras[1].page.spent_utxos()), (1, 1));
        assert_eq!(whole.master.spent_extra, 1);
    }
}

fn same_batch_double_spend(bed: &Bed) {
    let store = bed.open();
    store.put(tx(1, 1), 7);
    let claims = vec![spending(2, &[(1, 0)]), spending(3, &[(1, 0)]), spending(2, &[(1, 0)])];
    let results = store.spend_many(claims, 8, SpendFlags::default());
    assert!(results[0].is_ok() && results[2].is_ok(), "{results:?}");
    let Err(Error::Spend(error)) = &results[1] else { panic!("{results:?}") };
    assert!(matches!(error.inputs[..], [Err(Error::Spent { by: first, .. })] if first == by(2, 0)));
}

fn cross_batch_double_spend(bed: &Bed) {
    let store = bed.open();
    store.put(tx(1, 9), 7);
    store.take(2, &[(1, 8)], 8).unwrap();
    let store = bed.reopen(store);
    let error = input_error(store.take(3, &[(1, 8)], 8), 0);
    assert!(matches!(error, Error::Spent { by: on_record, .. } if on_record == by(2, 0)), "{error}");
    // The same transaction by another input is another claim.
    let error = input_error(store.take(2, &[(1, 0), (1, 8)], 8), 1);
    assert!(matches!(error, Error::Spent { by: on_record, .. } if on_record == by(2, 0)), "{error}");
}

fn invalid_failure_rolls_back(bed: &Bed) {
    let store = bed.open();
    store.put(tx(1, 9), 7);
    store.take(2, &[(1, 1)], 8).unwrap();
    // One input succeeds now, one did before, one never will.
    store.take(3, &[(1, 8)], 8).unwrap();
    let result = store.take(3, &[(1, 8), (1, 0), (1, 1)], 8);
    let Err(Error::Spend(error)) = &result else { panic!("{result:?}") };
    assert!(error.is_invalid_tx() && error.inputs[0].is_ok() && error.inputs[1].is_ok());
    assert_eq!((store.spender(1, 8), store.spender(1, 0), store.spender(1, 1)), (None, None, Some(by(2, 0))));
    assert_eq!(store.all_of(1).master.spent_extra, 0);
    // The text names ten errors at most, the inputs are all there.
    let many: Vec<_> = (0..25).map(|_| (1, 1)).collect();
    let Err(error) = store.take(4, &many, 8) else { panic!() };
    assert_eq!(error.to_string().matches("is spent by").count(), SpendError::SHOWN);
    assert!(error.to_string().ends_with("and 15 more"));
}

fn transient_failure_keeps_spends(bed: &Bed) {
    let store = bed.open();
    store.put(tx(1, 1), 7);
    store.put(tx(2, 1), 7);
    bed.control.read_instead::<Master>(&txid(2), Some(Instead::Failure));
    let result = store.take(3, &[(1, 0), (2, 0)], 8);
    let Err(Error::Spend(error)) = &result else { panic!("{result:?}") };
    assert!(!error.is_invalid_tx() && matches!(error.inputs[..], [Ok(()), Err(Error::Unavailable { .. })]));
    assert_eq!(store.spender(1, 0), Some(by(3, 0)), "it is tried again, by the same transaction");
    bed.control.read_instead::<Master>(&txid(2), None);
    store.take(3, &[(1, 0), (2, 0)], 8).unwrap();
}

fn blessed_child(bed: &Bed) {
    let store = bed.open();
    assert!(matches!(input_error(store.take(2, &[(1, 0)], 8), 0), Error::TxNotFound { .. }));
    store.put(child(2, 1, &[(1, 0)]), 8);
    store.take(2, &[(1, 0)], 8).unwrap();
    // A child that is not wholly stored vouches for nothing.
    bed.control.fail_commits(|number, _| (number == 4).then(disk_full));
    store.put(child(3, 9, &[(1, 0)]), 8);
    bed.control.fail_no_more();
    assert!(matches!(input_error(store.take(3, &[(1, 0)], 8), 0), Error::TxNotFound { .. }));
}

fn deleted_child_is_not_brought_back(bed: &Bed) {
    let store = bed.open();
    store.put(tx(1, 9), 7);
    store.put(child(2, 1, &[(1, 0), (1, 8)]), 8);
    store.take(2, &[(1, 0), (1, 8)], 8).unwrap();
    assert!(matches!(store.delete(&[txid(2)])[..], [Ok(true)]));
    assert_eq!(store.all_of(1).master.deleted_children, [txid(2)]);
    for (vout, input) in [(0, 0), (8, 1)] {
        let inputs = [(1, 0), (1, 8)];
        let error = input_error(store.take(2, &inputs, 9), input);
        assert!(
            matches!(error, Error::InvalidSpend { by: it, .. } if it == by(2, input as u32)),
            "{vout}: {error}"
        );
    }
    assert_eq!(store.spender(1, 0), Some(by(2, 0)));
}

fn unspend_by_non_owner_is_a_noop(bed: &Bed) {
    let store = bed.open();
    store.create(tx(1, 9), 7, mined_at(7)).unwrap();
    store.take(2, &[(1, 0), (1, 8)], 8).unwrap();
    let before = store.all_of(1);
    let others = [unspend(1, 0, by(3, 0)), unspend(1, 8, by(2, 0)), unspend(1, 1, by(2, 0))];
    assert!(store.unspend(&others, None).iter().all(Result::is_ok));
    assert_eq!(store.all_of(1), before);
    let missing = [unspend(1, 9, by(2, 0)), unspend(1, 400, by(2, 0)), unspend(5, 0, by(2, 0))];
    for result in store.unspend(&missing, None) {
        assert!(matches!(result, Err(Error::OutputNotFound { .. })), "{result:?}");
    }
    let owners = [unspend(1, 0, by(2, 0)), unspend(1, 8, by(2, 1))];
    assert!(store.unspend(&owners, None).iter().all(Result::is_ok));
    let after = store.all_of(1);
    assert_eq!((after.master.page.spent_utxos(), after.extras[1].page.spent_utxos()), (0, 0));
    assert_eq!(after.master.spent_extra, 0);
}

fn unspend_without_lock_flag_leaves_lock(bed: &Bed) {
    let store = bed.open();
    store.put(tx(1, 9), 7);
    let locked = |store: &UtxoStore| {
        let whole = store.all_of(1);
        let all: Vec<_> = whole.extras.iter().map(|extra| extra.page.locked).collect();
        assert!(all.iter().all(|locked| *locked == whole.master.page.locked));
        whole.master.page.locked
    };
    let ignoring = SpendFlags { ignore_locked: true, ..SpendFlags::default() };
    for (before, flag, after) in
        [(true, None, true), (false, None, false), (false, Some(true), true), (true, Some(false), false)]
    {
        store.set_locked(&[txid(1)], before).pop().unwrap().unwrap();
        store.spend(spending(2, &[(1, 8)]), 8, ignoring).unwrap();
        store.unspend(&[unspend(1, 8, by(2, 0))], flag).pop().unwrap().unwrap();
        assert_eq!((store.spender(1, 8), locked(&store)), (None, after));
    }
}

/// A wait that ends early says nothing of single inputs; the work, and the giving back, go on without it.
fn aborted_wait_leaves_the_outcome_open(bed: &Bed) {
    let store = bed.open();
    store.put(tx(1, 2), 7);
    store.take(2, &[(1, 1)], 8).unwrap();
    bed.control.close_gate();
    let invalid = store.spend_queued(spending(3, &[(1, 0), (1, 1)]), 8, SpendFlags::default()).unwrap();
    let valid = store.spend_queued(spending(4, &[(1, 0)]), 8, SpendFlags::default()).unwrap();
    assert!(bed.control.wait_at_gate(1, GUARD));
    let Err(valid) = valid.wait_timeout(Duration::from_millis(1)) else { panic!("nothing is stored yet") };
    drop(invalid);
    bed.control.open_gate();
    valid.wait().unwrap();
    assert_eq!(store.spender(1, 0), Some(by(4, 0)));
}

fn dah_follows_spending(bed: &Bed) {
    let store = bed.open();
    store.set_tip(ChainState { height: 1000, median_time: 1 }).unwrap();
    for (n, outputs) in [(1, 2), (2, 9)] {
        store.create(tx(n, outputs), 7, mined_at(7)).unwrap();
        let all: Vec<_> = (0..outputs).map(|v| (n, v)).collect();
        let (last, first) = all.split_last().unwrap();
        store.take(50 + n, first, 20).unwrap();
        assert_eq!(store.dah(n), None);
        store.take(60 + n, &[*last], 21).unwrap();
        assert_eq!(store.dah(n), Some(21 + RETENTION), "by the height of the spend, not the tip");
        store.unspend(&[unspend(n, last.1, by(60 + n, 0))], None).pop().unwrap().unwrap();
        assert_eq!(store.dah(n), None, "removed, on every record");
        store.take(60 + n, &[*last], 22).unwrap();
        assert_eq!(store.dah(n), Some(22 + RETENTION));
        // Nor does a spend by the master's own outputs, last of all, miss the extra records.
        let own = unspend(n, 0, by(50 + n, 0));
        store.unspend(&[own], None).pop().unwrap().unwrap();
        assert_eq!(store.dah(n), None);
        store.take(50 + n, &[(n, 0)], 23).unwrap();
        assert_eq!(store.dah(n), Some(23 + RETENTION));
    }
    store.put(tx(3, 1), 7);
    store.take(4, &[(3, 0)], 8).unwrap();
    assert_eq!(store.dah(3), None, "it is not mined");
    let forever = bed.reopen(store);
    forever.close(GUARD).unwrap();
    let store = bed.open_with(bed.options().retention_blocks(0));
    store.create(tx(5, 1), 7, mined_at(7)).unwrap();
    store.take(6, &[(5, 0)], 8).unwrap();
    assert_eq!(store.dah(5), None, "kept for ever");
}

fn dah_never_lowered(bed: &Bed) {
    let store = bed.open();
    store.create(tx(1, 9), 7, mined_at(7)).unwrap();
    let all: Vec<_> = (0..9).map(|v| (1, v)).collect();
    store.take(2, &all, 30).unwrap();
    assert_eq!(store.dah(1), Some(30 + RETENTION));
    store.set_mined(&[txid(1)], mined(8, 12)).unwrap();
    assert_eq!(store.dah(1), Some(30 + RETENTION));
    store.set_mined(&[txid(1)], mined(9, 31)).unwrap();
    assert_eq!(store.dah(1), Some(31 + RETENTION));
}

/// A counter that says more than there is: seen when it would make the transaction deletable.
fn drifted_counter_clears_master_dah(bed: &Bed) {
    let store = bed.open();
    store.create(tx(1, 9), 7, mined_at(7)).unwrap();
    let first: Vec<_> = (0..4).map(|v| (1, v)).collect();
    store.take(2, &first, 8).unwrap();
    let mut master = bed.raw_get::<Master>(&txid(1)).unwrap();
    master.spent_extra = 1;
    bed.raw_put(&txid(1), &master);
    store.take(3, &[(1, 8)], 9).unwrap();
    let whole = store.all_of(1);
    assert_eq!((whole.master.spent_extra, whole.master.total_extra), (2, 2));
    assert_eq!(store.dah(1), None, "record 1 is not spent at all");
    // In conflict it falls due whatever is spent; later the counter is believed no more than before.
    store.set_tip(ChainState { height: 9, median_time: 0 }).unwrap();
    store.set_conflicting(&[txid(1)], true).pop().unwrap().unwrap();
    assert_eq!(store.dah(1), Some(9 + RETENTION));
    store.set_conflicting(&[txid(1)], false).pop().unwrap().unwrap();
    assert_eq!(store.dah(1), None);
}

fn counter_is_clamped(bed: &Bed) {
    let store = bed.open();
    store.create(tx(1, 9), 7, mined_at(7)).unwrap();
    let count = |n: u32, spent_extra| {
        let mut master = bed.raw_get::<Master>(&txid(1)).unwrap();
        master.spent_extra = spent_extra;
        bed.raw_put(&txid(1), &master);
        let before = store.spender(1, 8);
        if before.is_none() {
            store.take(3, &[(1, 8)], 9).unwrap();
        } else {
            store.unspend(&[unspend(1, 8, by(3, 0))], None).pop().unwrap().unwrap();
        }
        assert_eq!(store.all_of(1).master.spent_extra, n);
    };
    count(2, 2);
    count(0, 0);
}

/// What a spend still owes when its process dies is done when the database is next opened: once.
fn owed_counts_are_paid_once(bed: &Bed) {
    let store = bed.open();
    store.create(tx(1, 13), 7, mined_at(7)).unwrap();
    let (before, _) = (4..12).fold((Vec::new(), ()), |(mut all, ()), v| {
        all.push((1, v));
        (all, ())
    });
    store.take(2, &before, 8).unwrap();
    assert_eq!((store.all_of(1).master.spent_extra, bed.owed()), (2, 0));
    // As if it had died between the spend and the count.
    let mut master = bed.raw_get::<Master>(&txid(1)).unwrap();
    master.spent_extra = 1;
    bed.raw_put(&txid(1), &master);
    let key = FollowUpKey { txid: txid(1), owed: Owed::Count { record: 2 } };
    store.close(GUARD).unwrap();
    bed.raw_put(&key, &FollowUp { delta: 1, height: 8 });
    for _ in 0..2 {
        let store = bed.open();
        assert_eq!((store.all_of(1).master.spent_extra, bed.owed()), (2, 0));
        store.close(GUARD).unwrap();
    }
}
