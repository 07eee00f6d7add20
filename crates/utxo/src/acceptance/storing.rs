//! Storing transactions: what each way of storing one leaves behind (U-5, U-6).

use std::sync::{Arc, atomic::Ordering};

use icecore_diskio::{Disk, Fault, IfExists, PendingFile};

use super::{on_every_backend, support::*};
use crate::{
    blob::Blobs,
    record::{Extra, Lock, Master},
    *,
};

on_every_backend! {
    create_stores_everything,
    create_refuses_what_is_there_by_its_own_txid,
    coinbase_matures,
    data_only_mined_tx_gets_dah,
    conflicting_create_tells_parents_first,
    partial_create_finished_by_retry,
    failed_clearing_is_success,
    create_lock_keeps_others_out_for_a_while,
    frozen_outputs_stay,
    a_body_that_does_not_fit_fails_its_create,
    a_body_without_its_transaction_goes,
}

fn create_stores_everything(bed: &Bed) {
    let store = bed.open();
    assert!(matches!(
        store.create(NewTx::new(txid(1), vec![]), 7, CreateOptions::default()),
        Err(Error::Invalid { .. })
    ));
    let mut new = child(2, 3, &[(1, 0), (1, 4)]);
    (new.version, new.lock_time, new.fee, new.size_bytes) = (2, 9, 11, 300);
    new.outputs[1] = None;
    store.put(new.clone(), 7);
    let stored = bed.reopen(store).all_of(2);
    assert_eq!(stored.body.unwrap(), new.body);
    let facts = stored.facts.unwrap();
    assert_eq!((facts.version, facts.lock_time, facts.fee, facts.size_bytes), (2, 9, 11, 300));
    assert_eq!(facts.inpoints, new.inpoints);
    let master = stored.master;
    assert_eq!((master.page.record_utxos(), master.page.spent_utxos()), (2, 0));
    assert_eq!(master.page.slots()[1], Slot::Unspendable);
    assert_eq!(master.page.slots()[2], Slot::Unspent { hash: hash(2, 2) });
    assert_eq!((master.unmined_since, master.page.delete_at_height), (Some(7), None));
    assert_eq!(master.created_at_ms, bed.now_ms.load(Ordering::SeqCst));
}

fn create_refuses_what_is_there_by_its_own_txid(bed: &Bed) {
    let store = bed.open();
    store.put(tx(1, 2), 7);
    store.put(tx(9, 9), 7);
    store.take(2, &[(1, 0)], 8).unwrap();
    let results =
        store.create_many(vec![tx(3, 1), tx(1, 2), tx(3, 1), tx(9, 9)], 8, &CreateOptions::default());
    assert!(results[0].is_ok());
    for (result, of) in results[1..].iter().zip([1, 3, 9]) {
        assert!(matches!(result, Err(Error::TxExists { txid: it }) if *it == txid(of)), "{result:?}");
    }
    assert_eq!(store.spender(1, 0), Some(by(2, 0)), "what is there stays as it is");
}

fn coinbase_matures(bed: &Bed) {
    let store = bed.open();
    store.put(NewTx { coinbase: true, ..tx(1, 9) }, 100);
    let error = input_error(store.take(2, &[(1, 8)], 104), 0);
    assert!(matches!(error, Error::CoinbaseImmature { height: 105, .. }));
    store.take(2, &[(1, 8)], 105).unwrap();
}

fn data_only_mined_tx_gets_dah(bed: &Bed) {
    let store = bed.open();
    let data_only = |n, outputs| NewTx { outputs: vec![None; outputs], ..tx(n, 1) };
    for (n, outputs) in [(1, 2), (2, 9)] {
        store.create(data_only(n, outputs), 7, mined_at(50)).unwrap();
        assert_eq!(store.dah(n), Some(50 + RETENTION), "nothing else would ever set it");
    }
    store.put(data_only(3, 2), 7);
    assert_eq!(store.dah(3), None, "it is not mined yet");
    store.create(tx(4, 2), 7, mined_at(50)).unwrap();
    assert_eq!(store.dah(4), None, "it can be spent");
    // A record that nothing can spend counts as spent among others.
    let mut mixed = tx(5, 9);
    mixed.outputs[8] = None;
    store.create(mixed, 7, mined_at(50)).unwrap();
    assert_eq!((store.all_of(5).master.spent_extra, store.dah(5)), (1, None));
    let inputs: Vec<_> = (0..8).map(|v| (5, v)).collect();
    store.take(6, &inputs, 60).unwrap();
    assert_eq!(store.dah(5), Some(60 + RETENTION));
}

fn conflicting_create_tells_parents_first(bed: &Bed) {
    let store = bed.open();
    store.put(tx(1, 2), 7);
    let conflicting = CreateOptions { conflicting: true, ..CreateOptions::default() };
    store.create(child(2, 1, &[(1, 0), (1, 1), (99, 0)]), 8, conflicting.clone()).unwrap();
    assert_eq!(store.all_of(1).master.conflicting_children, [txid(2)]);
    assert_eq!(store.dah(2), Some(8 + RETENTION));
    // Of several records: the parent knows before the first of them is stored.
    bed.control.fail_commits(|_, batch| {
        let stores =
            batch.changes.iter().any(|(family, key, _)| *family == Family::Master && *key == txid(3).0);
        stores.then(disk_full)
    });
    assert!(store.create(child(3, 9, &[(1, 1)]), 8, conflicting.clone()).is_err());
    bed.control.fail_no_more();
    assert_eq!(store.all_of(1).master.conflicting_children, [txid(2), txid(3)]);
    store.create(child(3, 9, &[(1, 1)]), 8, conflicting).unwrap();
    assert_eq!(store.all_of(1).master.conflicting_children, [txid(2), txid(3)]);
    assert_eq!(store.dah(3), Some(8 + RETENTION));
    assert!(matches!(input_error(store.take(4, &[(3, 8)], 9), 0), Error::Conflicting { .. }));
}

/// However far the first attempt came: the next one completes it.
fn partial_create_finished_by_retry(bed: &Bed) {
    let store = bed.open();
    for stop in 0..5 {
        let n = 10 + stop;
        bed.control.fail_commits(move |number, _| (number == stop).then(disk_full));
        let first = store.create(tx(n, 9), 7, CreateOptions::default());
        bed.control.fail_no_more();
        let begun = bed.raw_get::<Master>(&txid(n)).is_some();
        let (reached, recorded) = (stop >= 2, stop >= 3);
        assert_eq!((begun, first.is_ok()), (reached, recorded), "stopped at {stop}: {first:?}");
        if begun {
            assert!(matches!(input_error(store.take(99, &[(n, 0)], 8), 0), Error::Creating { .. }));
        }
        let again = store.create(tx(n, 9), 8, CreateOptions::default());
        if recorded {
            assert!(matches!(again, Err(Error::TxExists { .. })), "{again:?}");
        } else {
            again.unwrap();
        }
        let whole = store.all_of(n);
        assert!(!whole.master.page.creating && whole.extras.iter().all(|extra| !extra.page.creating));
        assert_eq!((whole.extras.len(), whole.body.unwrap()), (2, tx(n, 9).body));
        assert!(bed.raw_get::<Lock>(&txid(n)).is_none());
        store.take(99, &[(n, 0), (n, 8)], 8).unwrap();
        store.unspend(&[unspend(n, 0, by(99, 0)), unspend(n, 8, by(99, 1))], None);
    }
}

/// Once all records are there the data is safe; until the mark is gone nothing is spent, and mining takes it away too.
fn failed_clearing_is_success(bed: &Bed) {
    let store = bed.open();
    bed.control.fail_commits(|number, _| (number == 4).then(disk_full));
    store.create(tx(1, 9), 7, CreateOptions::default()).unwrap();
    bed.control.fail_no_more();
    let whole = store.all_of(1);
    assert!(whole.master.page.creating, "the master goes last");
    assert!(whole.extras.iter().all(|extra| !extra.page.creating));
    assert!(matches!(input_error(store.take(2, &[(1, 0)], 8), 0), Error::Creating { .. }));
    store.set_mined(&[txid(1)], mined(1, 8)).unwrap();
    store.take(2, &[(1, 0)], 9).unwrap();
}

fn create_lock_keeps_others_out_for_a_while(bed: &Bed) {
    let store = bed.open();
    let expires_at_ms = bed.now_ms.load(Ordering::SeqCst) + 36_000;
    bed.raw_put(&txid(1), &Lock { expires_at_ms, owner: 0 });
    let refused = store.create(tx(1, 9), 7, CreateOptions::default());
    assert!(matches!(refused, Err(Error::Unavailable { .. })), "{refused:?}");
    bed.now_ms.fetch_add(36_000, Ordering::SeqCst);
    store.put(tx(1, 9), 7);
    // How long its own lock lasts: 30 s and 2 s for each record, 300 s at most.
    for (n, outputs, seconds) in [(2, 9, 36), (3, 4 * 200, 300)] {
        bed.control.fail_commits(|number, _| (number > 0).then(disk_full));
        assert!(store.create(tx(n, outputs), 7, CreateOptions::default()).is_err());
        bed.control.fail_no_more();
        let lock = bed.raw_get::<Lock>(&txid(n)).unwrap();
        assert_eq!(lock.expires_at_ms - bed.now_ms.load(Ordering::SeqCst), seconds * 1000);
    }
    // Whoever held a lock when the database was last open is gone.
    bed.raw_put(&txid(4), &Lock { expires_at_ms: u64::MAX, owner: 0 });
    bed.reopen(store).put(tx(4, 9), 7);
}

fn frozen_outputs_stay(bed: &Bed) {
    let store = bed.open();
    let frozen = CreateOptions { frozen: true, ..CreateOptions::default() };
    store.create(tx(1, 9), 7, frozen).unwrap();
    for vout in [0, 8] {
        assert!(matches!(input_error(store.take(2, &[(1, vout)], 8), 0), Error::Frozen { .. }));
        let given_back = store.unspend(&[unspend(1, vout, by(2, 0))], None);
        assert!(matches!(given_back[..], [Err(Error::Frozen { .. })]));
    }
    // Held until a height, as after a reassignment.
    let mut extra = bed.raw_get::<Extra>(&(txid(1), 2)).unwrap();
    extra.page.set(0, Slot::Held { hash: hash(1, 8), until: 50 });
    bed.raw_put(&(txid(1), 2), &extra);
    let error = input_error(store.take(2, &[(1, 8)], 49), 0);
    assert!(matches!(error, Error::FrozenUntil { height: 50, .. }));
    store.take(2, &[(1, 8)], 50).unwrap();
}

fn a_body_that_does_not_fit_fails_its_create(bed: &Bed) {
    let store = bed.open();
    let fat = NewTx { body: vec![7; 50_000], ..tx(1, 2) };
    for operation in 0..3 {
        bed.disk.fail_at(bed.disk.operations() + operation, Fault::DiskFull);
        let error = store.create(fat.clone(), 7, CreateOptions::default()).unwrap_err();
        assert!(matches!(error, Error::Blob(_)) && error.is_retryable(), "{error}");
        assert!(matches!(store.get(&txid(1), Fields::ALL), Err(Error::TxNotFound { .. })));
    }
    store.put(fat.clone(), 7);
    assert_eq!(bed.reopen(store).all_of(1).body.unwrap(), fat.body);
}

/// Nobody ever tries again to store these transactions.
fn a_body_without_its_transaction_goes(bed: &Bed) {
    let store = bed.open();
    let create = |n, fails: fn(u64) -> Option<Error>| {
        bed.control.fail_commits(move |number, _| fails(number));
        assert!(store.create(tx(n, 9), 7, CreateOptions::default()).is_err());
        bed.control.fail_no_more();
    };
    let bodies = || bed.disk.paths().len();
    create(1, |number| (number == 1).then(disk_full));
    assert_eq!(bodies(), 0, "it goes at once");
    create(2, |number| (number == 1).then(|| Error::Unknown { what: "stored or not".into() }));
    assert_eq!(bodies(), 1, "its records may be there");
    create(3, |number| (number >= 2).then(disk_full));
    assert_eq!(bodies(), 2, "its master is there");
    store.put(tx(4, 9), 7);
    // Killed with the body whole, and with half of it written.
    let blobs = Blobs::new(Arc::new(bed.disk.clone()), "/bodies".into());
    for (n, reached) in [(5, "whole"), (6, "half")] {
        bed.raw_put(&txid(n), &Lock { expires_at_ms: u64::MAX, owner: 0 });
        blobs.put(&txid(n), b"body").unwrap();
        if reached == "half" {
            let path =
                bed.disk.paths().into_iter().find(|p| p.to_string_lossy().contains(&txid(n).to_string()));
            let path = path.unwrap();
            let partial = format!("{}{}", path.display(), PendingFile::SUFFIX);
            bed.disk.rename(&path, partial.as_ref(), IfExists::Fail).unwrap();
        }
    }
    assert_eq!(bodies(), 5);
    let store = bed.reopen(store);
    assert_eq!(bodies(), 2, "{:?}", bed.disk.paths());
    assert_eq!(store.all_of(4).body, Some(tx(4, 9).body));
    store.put(tx(3, 9), 7);
    assert_eq!(store.all_of(3).body, Some(tx(3, 9).body));
}
