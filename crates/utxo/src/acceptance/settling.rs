//! Double spends settled by a block (U-18).

use super::{on_every_backend, support::*};
use crate::{
    record::{Master, Stored},
    *,
};

on_every_backend! {
    winners_take_what_losers_spent,
    an_interrupted_settling_is_carried_out,
    an_intent_of_a_block_off_the_chain_is_dropped,
    what_is_taken_meanwhile_is_taken_back,
    a_failed_read_hides_no_loser,
}

/// 1 has two outputs and 2 has nine; 10 spends of both, 11 and 12 descend from it; 20 wins the output of 1.
fn double_spend(bed: &Bed) -> UtxoStore {
    let store = bed.open();
    store.put(tx(1, 2), 7);
    store.put(tx(2, 9), 7);
    for (n, spends) in [(10, vec![(1, 0), (2, 8)]), (11, vec![(10, 0)]), (12, vec![(11, 0), (1, 1)])] {
        store.put(child(n, 1, &spends), 8);
        store.take(n, &spends, 8).unwrap();
    }
    let conflicting = CreateOptions { conflicting: true, ..CreateOptions::default() };
    store.create(child(20, 1, &[(1, 0)]), 9, conflicting).unwrap();
    store
}

fn assert_settled(store: &UtxoStore) {
    let conflicting = |n| store.all_of(n).master.page.conflicting;
    assert_eq!([10, 11, 12, 20].map(conflicting), [true, true, true, false]);
    assert_eq!(
        (store.spender(1, 0), store.spender(1, 1), store.spender(2, 8)),
        (Some(by(20, 0)), None, None)
    );
    assert_eq!((store.spender(10, 0), store.spender(11, 0)), (None, None));
    for n in [1, 2, 20] {
        let whole = store.all_of(n);
        assert!(!whole.master.page.locked && whole.extras.iter().all(|extra| !extra.page.locked));
    }
    assert_eq!(store.all_of(1).master.conflicting_children, [txid(10), txid(12)]);
    assert_eq!(store.all_of(2).master.spent_extra, 0);
    assert!([10, 11, 12].iter().all(|n| store.dah(*n).is_some()) && store.dah(20).is_none());
    assert!(matches!(input_error(store.take(30, &[(11, 0)], 9), 0), Error::Conflicting { .. }));
    assert_eq!(store.replay_intents(|_, _| true).unwrap(), 0, "nothing is left to do");
}

fn winners_take_what_losers_spent(bed: &Bed) {
    let store = double_spend(bed);
    store.set_tip(ChainState { height: 9, median_time: 0 }).unwrap();
    assert!(matches!(store.process_conflicting(&[txid(77)], &block(5, 9)), Err(Error::TxNotFound { .. })));
    let losers = store.process_conflicting(&[txid(20)], &block(5, 9)).unwrap();
    assert_eq!(losers, [txid(10), txid(11), txid(12)]);
    assert_settled(&store);
    assert_eq!(store.process_conflicting(&[txid(20)], &block(5, 9)).unwrap(), [], "as often as one likes");
}

/// Cut off after every single commit.
fn an_interrupted_settling_is_carried_out(bed: &Bed) {
    let mut cut_off = 0;
    for commits in 0.. {
        let bed = bed.fresh();
        let store = double_spend(&bed);
        store.set_tip(ChainState { height: 9, median_time: 0 }).unwrap();
        bed.control.fail_commits(move |number, _| (number >= commits).then(disk_full));
        let settled = store.process_conflicting(&[txid(20)], &block(5, 9));
        bed.control.fail_no_more();
        let store = bed.reopen(store);
        store.set_tip(ChainState { height: 9, median_time: 0 }).unwrap();
        let begun = commits > 0;
        if settled.is_err() {
            cut_off += 1;
            assert_eq!(
                store.replay_intents(|block_id, height| (block_id, height) == (5, 9)).unwrap(),
                usize::from(begun)
            );
        }
        if begun {
            assert_settled(&store);
        }
        store.close(GUARD).unwrap();
        if settled.is_ok() {
            break;
        }
    }
    assert!(cut_off >= 8, "only {cut_off} steps");
}

fn an_intent_of_a_block_off_the_chain_is_dropped(bed: &Bed) {
    let store = double_spend(bed);
    store.set_tip(ChainState { height: 9, median_time: 0 }).unwrap();
    // Cut off where the parents are locked and nothing is freed yet.
    bed.control.fail_commits(|_, batch| {
        let frees = |(family, key, value): &(Family, Vec<u8>, Option<Vec<u8>>)| {
            let freed = *family == Family::Master && *key == txid(10).0;
            freed
                && value
                    .as_ref()
                    .is_some_and(|v| Master::decode(&txid(10), PAGE_SIZE, v).unwrap().page.spent_utxos() == 0)
        };
        batch.changes.iter().any(frees).then(disk_full)
    });
    assert!(store.process_conflicting(&[txid(20)], &block(5, 9)).is_err());
    bed.control.fail_no_more();
    let store = bed.reopen(store);
    assert!(store.all_of(1).master.page.locked);
    assert_eq!(store.replay_intents(|_, _| false).unwrap(), 0);
    assert!(!store.all_of(1).master.page.locked);
    assert_eq!(store.spender(1, 0), Some(by(10, 0)));
    assert_eq!(store.replay_intents(|_, _| true).unwrap(), 0);
}

/// Cut off once the losers are marked. Before it goes on, others take what the winner spends: 30, which is not stored, and
/// 31, which is.
fn what_is_taken_meanwhile_is_taken_back(bed: &Bed) {
    let store = bed.open();
    (1..4).for_each(|n| store.put(tx(n, 1), 7));
    store.put(child(10, 1, &[(1, 0)]), 8);
    store.take(10, &[(1, 0)], 8).unwrap();
    store.put(child(20, 1, &[(1, 0), (2, 0), (3, 0)]), 9);
    store.set_tip(ChainState { height: 9, median_time: 0 }).unwrap();
    bed.control.fail_commits(|number, _| (number >= 4).then(disk_full));
    assert!(store.process_conflicting(&[txid(20)], &block(5, 9)).is_err());
    bed.control.fail_no_more();
    assert!(store.all_of(1).master.page.locked);
    store.take(30, &[(2, 0)], 9).unwrap();
    store.put(child(31, 1, &[(3, 0)]), 9);
    store.take(31, &[(3, 0)], 9).unwrap();
    assert_eq!(store.replay_intents(|_, _| true).unwrap(), 1);
    for n in 1..4 {
        assert_eq!(store.spender(n, 0), Some(by(20, n as u32 - 1)));
        assert!(!store.all_of(n).master.page.locked);
    }
    assert!([10, 31].iter().all(|n| store.all_of(*n).master.page.conflicting));
}

fn a_failed_read_hides_no_loser(bed: &Bed) {
    let store = double_spend(bed);
    store.set_tip(ChainState { height: 9, median_time: 0 }).unwrap();
    bed.control.read_instead::<Master>(&txid(1), Some(Instead::Failure));
    let refused = store.process_conflicting(&[txid(20)], &block(5, 9));
    assert!(matches!(&refused, Err(error) if error.is_retryable()), "{refused:?}");
    bed.control.read_instead::<Master>(&txid(1), None);
    assert_eq!(store.replay_intents(|_, _| true).unwrap(), 1);
    assert_settled(&store);
}
