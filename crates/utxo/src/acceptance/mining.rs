//! Locking, mining, preserving, deleting (U-13, U-16, U-19, U-20).

use super::{on_every_backend, support::*};
use crate::{
    record::{Extra, Master},
    *,
};

on_every_backend! {
    locking_reaches_every_record,
    failed_extra_fails_its_item,
    set_mined_unlocks_extras,
    set_mined_answers_for_every_hash,
    unset_mined_tolerates_missing,
    dah_uses_mined_height_not_tip,
    longest_chain_decides,
    preserved_until_it_expires,
    deleted_with_all_that_belongs_to_it,
    due_transactions_are_deleted,
}

fn every_page(store: &UtxoStore, n: u64, holds: impl Fn(&Page) -> bool) -> bool {
    let whole = store.all_of(n);
    holds(&whole.master.page) && whole.extras.iter().all(|extra| holds(&extra.page))
}

fn locking_reaches_every_record(bed: &Bed) {
    let store = bed.open();
    store.create(tx(1, 9), 7, mined_at(7)).unwrap();
    let all: Vec<_> = (0..9).map(|v| (1, v)).collect();
    store.take(2, &all, 20).unwrap();
    assert!(store.dah(1).is_some());
    let results = store.set_locked(&[txid(1), txid(5)], true);
    assert!(results[0].is_ok() && matches!(results[1], Err(Error::TxNotFound { txid: it }) if it == txid(5)));
    assert!(
        every_page(&store, 1, |page| page.locked && page.delete_at_height.is_none()),
        "what is locked stays"
    );
    store.put(tx(3, 9), 7);
    store.set_locked(&[txid(3)], true).pop().unwrap().unwrap();
    assert!(matches!(input_error(store.take(4, &[(3, 8)], 8), 0), Error::Locked { .. }));
    store.set_locked(&[txid(3)], false).pop().unwrap().unwrap();
    store.take(4, &[(3, 8)], 8).unwrap();
    store.set_tip(ChainState { height: 30, median_time: 0 }).unwrap();
    store.set_locked(&[txid(1)], false).pop().unwrap().unwrap();
    assert_eq!(store.dah(1), Some(30 + RETENTION), "nothing keeps it any more");
}

fn failed_extra_fails_its_item(bed: &Bed) {
    let store = bed.open();
    store.put(tx(1, 9), 7);
    store.put(tx(2, 9), 7);
    bed.control.read_instead::<Extra>(&(txid(1), 2), Some(Instead::Garbage));
    let results = store.set_locked(&[txid(1), txid(2)], true);
    assert!(matches!(results[0], Err(Error::Damaged { family: Family::Extra, .. })), "{results:?}");
    assert!(results[1].is_ok());
    bed.control.read_instead::<Extra>(&(txid(1), 2), None);
    assert!(every_page(&store, 1, |page| !page.locked), "nothing half-applied");
    assert!(every_page(&store, 2, |page| page.locked));
}

fn set_mined_unlocks_extras(bed: &Bed) {
    let store = bed.open();
    store.create(tx(1, 9), 7, CreateOptions { locked: true, ..CreateOptions::default() }).unwrap();
    store.set_mined(&[txid(1)], mined(1, 8)).unwrap();
    assert!(every_page(&store, 1, |page| !page.locked && !page.creating));
    assert_eq!(store.all_of(1).master.unmined_since, None);
    store.take(2, &[(1, 8)], 9).unwrap();
}

fn set_mined_answers_for_every_hash(bed: &Bed) {
    let store = bed.open();
    store.put(tx(1, 1), 7);
    store.put(tx(2, 9), 7);
    let off_chain = MinedInfo { block: block(1, 8), on_longest_chain: false };
    let answer = store.set_mined(&[txid(1), txid(2)], off_chain).unwrap();
    assert_eq!(
        answer.into_iter().collect::<Vec<_>>(),
        [(txid(1), vec![block(1, 8)]), (txid(2), vec![block(1, 8)])]
    );
    assert_eq!(store.all_of(1).master.unmined_since, Some(7), "not on the longest chain");
    for _ in 0..2 {
        let answer = store.set_mined(&[txid(2)], mined(2, 9)).unwrap();
        assert_eq!(answer[&txid(2)], [block(1, 8), block(2, 9)], "no block twice");
    }
    assert!(matches!(store.set_mined(&[txid(1), txid(5)], mined(2, 9)), Err(Error::TxNotFound { .. })));
    // Records that are not there cannot be mined into being.
    bed.control.fail_commits(|number, _| (number == 2).then(disk_full));
    assert!(store.create(tx(6, 9), 7, CreateOptions::default()).is_err());
    bed.control.fail_no_more();
    assert!(matches!(store.set_mined(&[txid(6)], mined(2, 9)), Err(Error::Creating { .. })));
    assert!(bed.raw_get::<Master>(&txid(6)).unwrap().page.creating);
}

fn unset_mined_tolerates_missing(bed: &Bed) {
    let store = bed.open();
    store
        .create(
            tx(1, 1),
            7,
            CreateOptions { mined: vec![block(1, 8), block(2, 8)], ..CreateOptions::default() },
        )
        .unwrap();
    store.take(2, &[(1, 0)], 9).unwrap();
    assert_eq!(store.dah(1), Some(9 + RETENTION));
    let left = |n, block_id| store.unset_mined(&[txid(n)], block(block_id, 8)).pop().unwrap().unwrap();
    assert_eq!(left(5, 1), []);
    assert_eq!(left(1, 1), [block(2, 8)]);
    assert_eq!(store.all_of(1).master.unmined_since, None);
    assert_eq!(left(1, 2), []);
    assert_eq!((store.all_of(1).master.unmined_since, store.dah(1)), (Some(8), None));
    assert_eq!(left(1, 2), []);
}

fn dah_uses_mined_height_not_tip(bed: &Bed) {
    let store = bed.open();
    store.set_tip(ChainState { height: 1000, median_time: 5 }).unwrap();
    store.put(tx(1, 9), 7);
    let all: Vec<_> = (0..9).map(|v| (1, v)).collect();
    store.take(2, &all, 20).unwrap();
    assert_eq!(store.dah(1), None);
    store.set_mined(&[txid(1)], mined(1, 40)).unwrap();
    assert_eq!(store.dah(1), Some(40 + RETENTION));
}

fn longest_chain_decides(bed: &Bed) {
    let store = bed.open();
    store.create(tx(1, 9), 7, mined_at(7)).unwrap();
    let all: Vec<_> = (0..9).map(|v| (1, v)).collect();
    store.take(2, &all, 20).unwrap();
    let mark = |on| store.mark_longest_chain(&[txid(1), txid(5)], on);
    assert!(matches!(mark(false)[..], [Err(Error::Invalid { .. }), Err(Error::TxNotFound { .. })]));
    assert!(matches!(store.set_tip(ChainState { height: 0, median_time: 5 }), Err(Error::Invalid { .. })));
    assert_eq!(store.tip(), None);
    store.set_tip(ChainState { height: 30, median_time: 5 }).unwrap();
    mark(false)[0].as_ref().unwrap();
    assert_eq!((store.all_of(1).master.unmined_since, store.dah(1)), (Some(30), None));
    mark(true)[0].as_ref().unwrap();
    assert_eq!((store.all_of(1).master.unmined_since, store.dah(1)), (None, Some(30 + RETENTION)));
}

fn preserved_until_it_expires(bed: &Bed) {
    let store = bed.open();
    for n in [1, 3] {
        store.create(tx(n, 9), 7, mined_at(7)).unwrap();
    }
    let all: Vec<_> = (0..9).map(|v| (1, v)).collect();
    store.take(2, &all, 20).unwrap();
    let results = store.preserve(&[txid(1), txid(3), txid(5)], 100);
    assert!(
        matches!(results[..], [Ok(true), Ok(false), Ok(false)]),
        "only what would be deleted: {results:?}"
    );
    assert_eq!((store.all_of(1).master.preserve_until, store.dah(1)), (Some(100), None));
    store.unspend(&[unspend(1, 8, by(2, 8))], None).pop().unwrap().unwrap();
    store.take(2, &all, 21).unwrap();
    assert_eq!(store.dah(1), None, "preserved, whatever is spent");
    assert!(matches!(store.preserve(&[txid(1)], 90)[..], [Ok(true)]), "again");
    assert_eq!(store.process_expired(89).unwrap(), 0);
    let store = bed.reopen(store);
    assert_eq!(store.process_expired(90).unwrap(), 1);
    assert_eq!((store.all_of(1).master.preserve_until, store.dah(1)), (None, Some(90 + RETENTION)));
    assert_eq!(store.process_expired(90).unwrap(), 0);
}

fn stored_keys(bed: &Bed, family: Family) -> usize {
    let mut keys = 0;
    let mut count = |_: &[u8], _: &[u8]| {
        keys += 1;
        true
    };
    bed.raw(|backend| backend.scan(family, &[], &mut count)).unwrap();
    keys
}

fn deleted_with_all_that_belongs_to_it(bed: &Bed) {
    let store = bed.open();
    store.put(tx(1, 2), 7);
    store.create(child(2, 9, &[(1, 0), (1, 1), (8, 0)]), 7, mined_at(7)).unwrap();
    let all: Vec<_> = (0..9).map(|v| (2, v)).collect();
    store.take(3, &all, 20).unwrap();
    assert_eq!(bed.disk.paths().len(), 1);
    for was in [true, false] {
        assert_eq!(store.delete(&[txid(2)]).pop().unwrap().unwrap(), was, "as often as one likes");
    }
    assert!(matches!(store.get(&txid(2), Fields::default()), Err(Error::TxNotFound { .. })));
    assert_eq!(store.all_of(1).master.deleted_children, [txid(2)]);
    assert_eq!(bed.disk.paths().len(), 0, "its body goes too");
    let left = [Family::Master, Family::Extra, Family::Facts, Family::Due, Family::Lock, Family::FollowUp];
    assert_eq!(left.map(|family| stored_keys(bed, family)), [1, 0, 1, 0, 0, 0]);
    store.health().unwrap();
}

fn due_transactions_are_deleted(bed: &Bed) {
    let store = bed.open();
    for n in 0..40 {
        store.create(tx(n, if n == 7 { 9 } else { 1 }), 7, mined_at(7)).unwrap();
        let all: Vec<_> = store.all_of(n).master.page.slots().iter().zip(0..).map(|(_, v)| (n, v)).collect();
        store.take(100 + n, &all, 20 + n as u32).unwrap();
    }
    assert_eq!(store.delete_due(20 + RETENTION - 1).unwrap(), 0);
    assert_eq!(store.delete_due(29 + RETENTION).unwrap(), 9, "ten were due, but one is not wholly spent");
    let store = bed.reopen(store);
    let left: Vec<_> = [7].into_iter().chain(10..40).map(txid).collect();
    assert_eq!(store.txids().unwrap(), left);
    assert_eq!(store.delete_due(u32::MAX).unwrap(), 30);
    assert_eq!(store.txids().unwrap(), [txid(7)]);
}
