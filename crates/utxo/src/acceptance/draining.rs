//! What a close owes to what was accepted before it, and what several batches at once owe each other (34 to 38, 41, 44, 45).

use std::{
    sync::{Arc, atomic::Ordering},
    thread,
    time::Duration,
};

use super::{on_every_backend, support::*};
use crate::{
    engine::Change,
    record::{Extra, Lock, Master, Stored, TxFacts},
    *,
};

on_every_backend! {
    close_drains_create,
    close_drains_multi_record_create,
    close_drains_set_locked_multi_record,
    close_drains_full_spend_cross_queue,
    restart_same_endpoint_in_process,
    timeout_then_restart,
    two_batches_last_output,
    unparseable_response_signals,
    full_disk_in_a_drain_is_not_confirmed,
    a_failed_batch_refuses_nothing_for_good,
    a_change_holds_the_parents_of_what_was_being_stored,
    what_is_deleted_while_it_is_read_is_not_damaged,
    closed_is_closed,
    a_database_that_closes_badly_is_told_of,
}

fn close_drains_create(bed: &Bed) {
    let store = bed.open_with(bed.options().queue(Queue::Store, held()));
    let answers: Vec<_> =
        (0..20).map(|n| store.create_queued(tx(n, 3), 7, CreateOptions::default()).unwrap()).collect();
    assert!(bed.raw_get::<Master>(&txid(0)).is_none(), "nothing is stored yet");
    let report = store.close(GUARD).unwrap();
    assert_eq!(report.node("store").unwrap().drained_items, 20);
    answers.into_iter().for_each(|answer| answer.wait().unwrap());
    let store = bed.open();
    assert_eq!(store.txids().unwrap(), (0..20).map(txid).collect::<Vec<_>>());
}

fn close_drains_multi_record_create(bed: &Bed) {
    let store = bed.open_with(bed.options().queue(Queue::Store, held()));
    let big = |n| NewTx { body: vec![n as u8; 100_000], ..tx(n, 9) };
    let answer = store.create_queued(big(1), 7, CreateOptions::default()).unwrap();
    let one_page =
        store.create_queued(NewTx { body: vec![2; 100_000], ..tx(2, 1) }, 7, CreateOptions::default());
    bed.control.close_gate();
    let unconfirmed = store.close(Duration::from_millis(50));
    let Err(CloseError::NotConfirmed(draining)) = unconfirmed else {
        panic!("{unconfirmed:?}: it was not stored")
    };
    bed.control.open_gate();
    draining.wait().unwrap();
    answer.wait().unwrap();
    one_page.unwrap().wait().unwrap();
    assert!(bed.raw_get::<Lock>(&txid(1)).is_none());
    let store = bed.open();
    let whole = store.all_of(1);
    assert_eq!((whole.extras.len(), whole.body), (2, Some(vec![1; 100_000])));
    assert!(!whole.master.page.creating && whole.extras.iter().all(|extra| !extra.page.creating));
    let whole = store.all_of(2);
    assert_eq!(
        (whole.extras.len(), whole.body, whole.facts.unwrap().body),
        (0, Some(vec![2; 100_000]), None)
    );
}

fn close_drains_set_locked_multi_record(bed: &Bed) {
    let store = bed.open_with(bed.options().queue(Queue::Locked, held()));
    store.put(tx(1, 9), 7);
    let answer = store.queues.locked.submit(Change::SetLocked { txid: txid(1), locked: true }).unwrap();
    assert!(!bed.raw_get::<Master>(&txid(1)).unwrap().page.locked);
    let report = store.close(GUARD).unwrap();
    assert_eq!(report.node("locked").unwrap().panicked_items, 0);
    answer.wait().unwrap();
    let whole = bed.open().all_of(1);
    assert!(
        whole.master.page.locked && whole.extras.len() == 2 && whole.extras.iter().all(|e| e.page.locked)
    );
}

/// The consumers would fire by themselves in an hour.
fn close_drains_full_spend_cross_queue(bed: &Bed) {
    let options = [Queue::Spend, Queue::Increment, Queue::SetDah].into_iter();
    let store = bed.open_with(options.fold(bed.options(), |options, queue| options.queue(queue, held())));
    store.create(tx(1, 9), 7, mined_at(7)).unwrap();
    let answers: Vec<_> = (0..9)
        .map(|v| {
            store.spend_queued(spending(20 + u64::from(v), &[(1, v)]), 20, SpendFlags::default()).unwrap()
        })
        .collect();
    assert_eq!(bed.raw_get::<Master>(&txid(1)).unwrap().page.spent_utxos(), 0);
    store.close(GUARD).unwrap();
    answers.into_iter().for_each(|answer| answer.wait().unwrap());
    // As it lies there: opening the store would make up for what was not done.
    assert_eq!(bed.owed(), 0);
    let master = bed.raw_get::<Master>(&txid(1)).unwrap();
    assert_eq!((master.spent_extra, master.total_extra), (2, 2));
    let extras = [1, 2].map(|record| bed.raw_get::<Extra>(&(txid(1), record)).unwrap().page);
    let pages = [&master.page, &extras[0], &extras[1]];
    assert_eq!(pages.map(|page| page.delete_at_height), [Some(20 + RETENTION); 3]);
    assert_eq!(bed.open().dah(1), Some(20 + RETENTION));
}

fn restart_same_endpoint_in_process(bed: &Bed) {
    for round in 0..20 {
        let store = bed.open();
        store.put(tx(round, 3), 7);
        store.all_of(0);
        store.close(GUARD).unwrap();
        let used = (bed.control.connects.load(Ordering::SeqCst), bed.control.closes.load(Ordering::SeqCst));
        assert_eq!(used, (round + 1, round + 1), "each time the database was closed, and opened anew");
    }
    let other = bed.open();
    for round in 20..40 {
        let store = bed.open();
        store.put(tx(round, 3), 7);
        other.all_of(round);
        store.close(GUARD).unwrap();
        other.put(tx(100 + round, 3), 7);
    }
    assert_eq!(bed.control.connects.load(Ordering::SeqCst), 21);
    assert_eq!(other.txids().unwrap().len(), 60);
    other.close(GUARD).unwrap();
    assert_eq!(bed.control.closes.load(Ordering::SeqCst), 21);
    assert!(matches!(
        bed.try_open(bed.options().page_size(8)),
        Err(Error::PageSize { stored: 4, configured: 8 })
    ));
}

fn timeout_then_restart(bed: &Bed) {
    let store = bed.open_with(bed.options().queue(Queue::Store, held()).queue(Queue::Spend, held()));
    let setting_up = bed.open();
    setting_up.create(tx(1, 12), 7, mined_at(7)).unwrap();
    setting_up.close(GUARD).unwrap();
    let answers: Vec<_> =
        (10..30).map(|n| store.create_queued(tx(n, 3), 7, CreateOptions::default()).unwrap()).collect();
    let spends: Vec<_> = (4..8)
        .map(|v| {
            store.spend_queued(spending(u64::from(v) + 100, &[(1, v)]), 8, SpendFlags::default()).unwrap()
        })
        .collect();
    bed.control.close_gate();
    let unconfirmed = store.close(Duration::from_millis(1));
    let Err(CloseError::NotConfirmed(draining)) = unconfirmed else { panic!("{unconfirmed:?}") };
    assert!(matches!(store.create(tx(99, 1), 7, CreateOptions::default()), Err(Error::Closed)));
    let next = bed.open();
    assert!(matches!(next.get(&txid(10), Fields::ALL), Err(Error::TxNotFound { .. })));
    let mine = next.create_queued(tx(50, 3), 7, CreateOptions::default()).unwrap();
    bed.control.open_gate();
    draining.wait().unwrap();
    answers.into_iter().for_each(|answer| answer.wait().unwrap());
    spends.into_iter().for_each(|answer| answer.wait().unwrap());
    mine.wait().unwrap();
    let whole = |store: UtxoStore| {
        let stored: Vec<_> = [1].into_iter().chain(10..30).chain([50]).map(txid).collect();
        assert_eq!(store.txids().unwrap(), stored);
        assert_eq!(store.all_of(1).master.spent_extra, 1, "counted once");
        store.close(GUARD).unwrap();
    };
    whole(next);
    whole(bed.open());
}

/// Each batch sees the other's output unspent, if nothing keeps them apart.
fn two_batches_last_output(bed: &Bed) {
    let one_by_one = QueueOptions { size: 1, in_flight: 2, ..QueueOptions::default() };
    for (parent, outputs) in [(1, 2), (2, 9)] {
        let store = bed.open_with(bed.options().queue(Queue::Spend, one_by_one));
        store.create(tx(parent, outputs), 7, mined_at(7)).unwrap();
        let others: Vec<_> = (1..outputs - 1).map(|v| (parent, v)).collect();
        store.take(50, &others, 8).unwrap();
        bed.control.close_gate();
        let last = [(60, 0), (61, outputs - 1)]
            .map(|(n, v)| store.spend_queued(spending(n, &[(parent, v)]), 9, SpendFlags::default()).unwrap());
        assert!(bed.control.wait_at_gate(1, GUARD));
        bed.control.wait_at_gate(2, Duration::from_millis(200));
        bed.control.open_gate();
        last.into_iter().for_each(|answer| answer.wait().unwrap());
        assert_eq!(
            (store.spender(parent, 0), store.spender(parent, outputs - 1)),
            (Some(by(60, 0)), Some(by(61, 0)))
        );
        assert_eq!(store.dah(parent), Some(9 + RETENTION));
        assert_eq!(bed.control.puts(Family::Due, &txid(parent).0), 1, "set exactly once");
        store.close(GUARD).unwrap();
    }
}

fn unparseable_response_signals(bed: &Bed) {
    let store = bed.open();
    for n in 1..4 {
        store.put(tx(n, 9), 7);
    }
    bed.control.read_instead::<Master>(&txid(2), Some(Instead::Garbage));
    let damaged = |error: &Error| error.is_corrupt() && error.to_string().contains(&txid(2).to_string());
    let spends = (1..4).map(|n| spending(10 + n, &[(n, 0)])).collect();
    let results = store.spend_many(spends, 8, SpendFlags::default());
    assert!(results[0].is_ok() && results[2].is_ok(), "{results:?}");
    assert!(
        matches!(&results[1], Err(Error::Spend(e)) if damaged(e.inputs[0].as_ref().unwrap_err())),
        "{results:?}"
    );
    let created = store.create_many(vec![tx(4, 1), tx(2, 1), tx(5, 1)], 7, &CreateOptions::default());
    assert!(created[0].is_ok() && created[2].is_ok());
    assert!(damaged(created[1].as_ref().unwrap_err()), "{created:?}");
    let txids = [1, 2, 3].map(txid);
    let mut answers: Vec<Result<()>> = store.set_locked(&txids, true);
    answers.extend(store.get_many(&txids, Fields::ALL).into_iter().map(|tx| tx.map(|_| ())));
    answers
        .extend(store.outputs(&[1, 2, 3].map(|n| outpoint(n, 0))).into_iter().map(|slot| slot.map(|_| ())));
    for three in answers.chunks(3) {
        assert!(three[0].is_ok() && three[2].is_ok() && damaged(three[1].as_ref().unwrap_err()), "{three:?}");
    }
    assert!(matches!(store.set_mined(&txids, mined(1, 8)), Err(error) if damaged(&error)));
    store.close(GUARD).unwrap();
}

fn full_disk_in_a_drain_is_not_confirmed(bed: &Bed) {
    let store = bed.open_with(bed.options().queue(Queue::Store, held()).queue(Queue::Spend, held()));
    let setting_up = bed.open();
    setting_up.put(tx(1, 9), 7);
    setting_up.close(GUARD).unwrap();
    let small = store.create_queued(tx(2, 1), 7, CreateOptions::default()).unwrap();
    let large = store.create_queued(tx(3, 9), 7, CreateOptions::default()).unwrap();
    let spend = store.spend_queued(spending(4, &[(1, 0), (1, 8)]), 8, SpendFlags::default()).unwrap();
    bed.control.fail_commits(|_, _| Some(disk_full()));
    let closed = store.close(GUARD);
    assert!(matches!(closed, Err(CloseError::Unwritten { items: 3 })), "{closed:?}");
    for answer in [small, large, spend] {
        let error = answer.wait().unwrap_err();
        assert!(error.is_retryable(), "{error}");
    }
    bed.control.fail_no_more();
    let store = bed.open();
    assert_eq!(store.txids().unwrap(), [txid(1)], "nothing half-applied");
    assert_eq!((store.spender(1, 0), store.spender(1, 8)), (None, None));
    store.put(tx(2, 1), 7);
    store.put(tx(3, 9), 7);
    store.take(4, &[(1, 0), (1, 8)], 8).unwrap();
    store.close(GUARD).unwrap();
}

/// Two of a kind in one batch: what the second was told rested on the first, and the first is not stored.
fn a_failed_batch_refuses_nothing_for_good(bed: &Bed) {
    let store = bed.open_with(bed.options().queue(Queue::Store, held()).queue(Queue::Spend, held()));
    let setting_up = bed.open();
    setting_up.put(tx(1, 1), 7);
    setting_up.close(GUARD).unwrap();
    let creates = [(); 2].map(|()| store.create_queued(tx(2, 1), 7, CreateOptions::default()).unwrap());
    let spends =
        [3, 4].map(|n| store.spend_queued(spending(n, &[(1, 0)]), 8, SpendFlags::default()).unwrap());
    bed.control.fail_commits(|_, _| Some(disk_full()));
    let closed = store.close(GUARD);
    bed.control.fail_no_more();
    assert!(matches!(closed, Err(CloseError::Unwritten { items: 4 })), "{closed:?}");
    for answer in creates.into_iter().chain(spends) {
        let error = answer.wait().unwrap_err();
        assert!(error.is_retryable(), "{error}");
    }
}

/// The deletion comes while its transaction is being stored, and so cannot know beforehand which parents it will tell.
fn a_change_holds_the_parents_of_what_was_being_stored(bed: &Bed) {
    let store = bed.open();
    store.put(tx(1, 2), 7);
    bed.control.close_gate();
    let created = store.create_queued(child(2, 1, &[(1, 0)]), 8, CreateOptions::default()).unwrap();
    assert!(bed.control.wait_at_gate(1, GUARD));
    let deleted = store.queues.locked.submit(Change::Delete { txid: txid(2), due_at: None }).unwrap();
    // Nothing tells that it stands in line; where it does not yet, there is nothing to see.
    bed.control.wait_at_gate(2, Duration::from_millis(100));
    bed.control.let_one_through();
    created.wait().unwrap();
    assert!(bed.control.wait_at_gate(1, GUARD));
    let spent = store.spend_queued(spending(3, &[(1, 1)]), 8, SpendFlags::default()).unwrap();
    bed.control.wait_at_gate(2, Duration::from_millis(100));
    bed.control.open_gate();
    deleted.wait().unwrap();
    spent.wait().unwrap();
    assert_eq!(store.spender(1, 1), Some(by(3, 0)));
    assert_eq!(store.all_of(1).master.deleted_children, [txid(2)]);
}

fn what_is_deleted_while_it_is_read_is_not_damaged(bed: &Bed) {
    let store = bed.open();
    let fat = NewTx { body: vec![7; 50_000], ..tx(1, 9) };
    let without_body = Fields { body: false, ..Fields::ALL };
    for fields in [Fields::ALL, without_body, Fields { extras: false, ..Fields::ALL }] {
        store.put(fat.clone(), 7);
        let master = bed.raw_get::<Master>(&txid(1)).unwrap().encode(&Master::key(&txid(1)));
        let facts = bed.raw_get::<TxFacts>(&txid(1)).unwrap().encode(&TxFacts::key(&txid(1)));
        store.delete(&[txid(1)]).pop().unwrap().unwrap();
        bed.control.read_instead::<Master>(&txid(1), Some(Instead::Once(master)));
        bed.control.read_instead::<TxFacts>(&txid(1), Some(Instead::Once(facts)));
        let read = store.get(&txid(1), fields);
        assert!(matches!(read, Err(Error::TxNotFound { .. })), "{read:?}");
        bed.control.read_instead::<TxFacts>(&txid(1), None);
    }
}

/// From the first close on, for everybody, whatever they ask for.
fn closed_is_closed(bed: &Bed) {
    let store = Arc::new(bed.open());
    store.put(tx(1, 9), 7);
    let closers: Vec<_> = (0..8)
        .map(|_| {
            let store = Arc::clone(&store);
            thread::spawn(move || store.close(GUARD).unwrap())
        })
        .collect();
    closers.into_iter().for_each(|closer| drop(closer.join().unwrap()));
    store.close(GUARD).unwrap();
    let closed = |results: Vec<Result<()>>| {
        assert!(
            !results.is_empty() && results.iter().all(|result| matches!(result, Err(Error::Closed))),
            "{results:?}"
        );
    };
    let one = &[txid(1)];
    closed(vec![
        store.create(tx(2, 1), 7, CreateOptions::default()),
        store.take(2, &[(1, 0)], 8),
        store.set_mined(one, mined(1, 8)).map(|_| ()),
        store.process_expired(9).map(|_| ()),
        store.delete_due(9).map(|_| ()),
        store.get(&txid(1), Fields::ALL).map(|_| ()),
        store.txids().map(|_| ()),
        store.health(),
        store.set_tip(ChainState { height: 1, median_time: 1 }),
        store.process_conflicting(one, &block(1, 1)).map(|_| ()),
        store.replay_intents(|_, _| true).map(|_| ()),
    ]);
    closed(store.create_many(vec![tx(2, 1), tx(3, 1)], 7, &CreateOptions::default()));
    closed(store.spend_many(vec![spending(2, &[(1, 0)])], 8, SpendFlags::default()));
    closed(store.unspend(&[unspend(1, 0, by(2, 0))], None));
    closed(store.set_locked(one, true));
    closed(store.mark_longest_chain(one, true));
    closed(store.unset_mined(one, block(1, 8)).into_iter().map(|r| r.map(|_| ())).collect());
    closed(store.preserve(one, 9).into_iter().map(|r| r.map(|_| ())).collect());
    closed(store.set_conflicting(one, true).into_iter().map(|r| r.map(|_| ())).collect());
    closed(store.delete(one).into_iter().map(|r| r.map(|_| ())).collect());
    closed(store.get_many(one, Fields::ALL).into_iter().map(|r| r.map(|_| ())).collect());
    closed(store.outputs(&[outpoint(1, 0)]).into_iter().map(|r| r.map(|_| ())).collect());
    bed.open().all_of(1);
}

fn a_database_that_closes_badly_is_told_of(bed: &Bed) {
    let store = bed.open();
    store.put(tx(1, 1), 7);
    bed.control.fail_close.store(true, Ordering::SeqCst);
    for _ in 0..2 {
        let closed = store.close(GUARD);
        assert!(
            matches!(&closed, Err(CloseError::Resource { what }) if what.contains("database")),
            "{closed:?}"
        );
    }
    bed.control.fail_close.store(false, Ordering::SeqCst);
    bed.reopen(bed.open()).all_of(1);
}
