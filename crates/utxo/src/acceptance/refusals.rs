//! What is refused, and with which words: another page size, damage, a disk that is full, a database of something else.

use super::{on_every_backend, support::*};
use crate::{
    record::{FollowUp, FollowUpKey, Master, Owed, StoreFacts, Stored},
    *,
};

on_every_backend! {
    another_page_size_is_refused,
    options_without_sense_are_refused,
    damage_is_named_and_costs_one_transaction,
    a_store_without_its_facts_is_refused,
    a_wrong_number_of_records_costs_nothing,
}

fn another_page_size_is_refused(bed: &Bed) {
    let store = bed.open();
    store.put(tx(1, 9), 7);
    store.close(GUARD).unwrap();
    for configured in [3, 5, 128] {
        let refused = bed.try_open(bed.options().page_size(configured));
        assert!(
            matches!(refused, Err(Error::PageSize { stored: PAGE_SIZE, configured: c }) if c == configured)
        );
    }
    bed.open().all_of(1);
}

fn options_without_sense_are_refused(bed: &Bed) {
    let none = QueueOptions::default();
    for options in [
        bed.options().page_size(0),
        bed.options().queue(Queue::Get, QueueOptions { size: 0, ..none }),
        bed.options().queue(Queue::Get, QueueOptions { capacity: 0, ..none }),
        bed.options().queue(Queue::Get, QueueOptions { in_flight: 0, ..none }),
    ] {
        assert!(matches!(bed.try_open(options), Err(Error::Invalid { .. })));
    }
    let nowhere =
        UtxoStore::open_with(&bed.clients, "sql://host", "/b", bed.options(), || Err(Error::Closed));
    assert!(matches!(nowhere, Err(Error::Storage { .. })));
    let failing =
        UtxoStore::open_with(&bed.clients, "memory:///bed", "/b", bed.options(), || Err(disk_full()));
    assert!(matches!(failing, Err(Error::Unavailable { .. })));
    bed.open();
}

fn damage_is_named_and_costs_one_transaction(bed: &Bed) {
    let store = bed.open();
    for n in 1..5 {
        store.create(NewTx { body: vec![n as u8; 40_000], ..tx(n, 9) }, 7, mined_at(7)).unwrap();
    }
    store.close(GUARD).unwrap();
    let put = |family, key: Vec<u8>, value: Vec<u8>| {
        bed.raw(|backend| backend.commit(Batch { changes: vec![(family, key, Some(value))] })).unwrap();
    };
    put(Family::Master, txid(1).0.to_vec(), b"garbage".to_vec());
    // A record of another transaction, and one of another kind.
    let other = bed.raw_get::<Master>(&txid(3)).unwrap().encode(&Master::key(&txid(3)));
    put(Family::Master, txid(2).0.to_vec(), other.clone());
    put(Family::Facts, txid(4).0.to_vec(), other);
    // What is owed to a damaged transaction, or to none, and what no one could owe.
    bed.raw_put(
        &FollowUpKey { txid: txid(1), owed: Owed::Count { record: 1 } },
        &FollowUp { delta: 1, height: 9 },
    );
    bed.raw_put(&FollowUpKey { txid: txid(9), owed: Owed::Mirror }, &FollowUp::default());
    put(Family::FollowUp, b"nobody".to_vec(), b"nothing".to_vec());
    let store = bed.open();
    for n in [1, 2] {
        assert!(store.get(&txid(n), Fields::default()).unwrap_err().is_corrupt());
        assert!(store.delete(&[txid(n)]).pop().unwrap().unwrap_err().is_corrupt());
    }
    assert!(store.get(&txid(4), Fields::ALL).unwrap_err().is_corrupt());
    store.get(&txid(4), Fields::default()).unwrap();
    store.take(20, &[(3, 8)], 9).unwrap();
    store.all_of(3);
    let bodies = bed.disk.paths();
    bed.disk.remove_all_of(&txid(3));
    assert_eq!(bed.disk.paths().len() + 1, bodies.len());
    assert!(matches!(store.get(&txid(3), Fields::ALL), Err(Error::DamagedBody { .. })));
    store.get(&txid(3), Fields { body: false, ..Fields::ALL }).unwrap();
    store.close(GUARD).unwrap();
}

fn a_store_without_its_facts_is_refused(bed: &Bed) {
    let store = bed.open();
    store.put(tx(1, 1), 7);
    store.close(GUARD).unwrap();
    let facts = |value| Batch { changes: vec![(Family::Store, StoreFacts::key(&()), value)] };
    for value in [Some(b"x".to_vec()), None] {
        bed.raw(|backend| backend.commit(facts(value.clone()))).unwrap();
        let refused = bed.try_open(bed.options());
        assert!(matches!(refused, Err(Error::Damaged { family: Family::Store, .. })), "{refused:?}");
    }
}

/// A master that claims half a billion extra records, sealed like any other.
fn a_wrong_number_of_records_costs_nothing(bed: &Bed) {
    let store = bed.open();
    store.create(tx(1, 9), 7, mined_at(7)).unwrap();
    let mut master = bed.raw_get::<Master>(&txid(1)).unwrap();
    (master.total_extra, master.spent_extra) = (1 << 29, 1 << 29);
    bed.raw_put(&txid(1), &master);
    let one = &[txid(1)];
    let missing =
        |error: Error| matches!(error, Error::OutputNotFound { outpoint: it } if it == outpoint(1, 12));
    assert!(missing(store.get(&txid(1), Fields::ALL).unwrap_err()));
    assert!(missing(store.set_locked(one, true).pop().unwrap().unwrap_err()));
    assert!(matches!(store.set_mined(one, mined(8, 8)), Err(Error::Creating { .. })));
    let first: Vec<_> = (0..4).map(|v| (1, v)).collect();
    store.take(2, &first, 8).unwrap();
    assert_eq!(store.get(&txid(1), Fields::default()).unwrap().master.page.delete_at_height, None);
    assert!(store.delete(one).pop().unwrap().unwrap());
    assert!(store.txids().unwrap().is_empty());
}

/// The null backend keeps nothing, and everything else holds.
#[test]
fn null_store_answers_and_closes() {
    let clients = Clients::new();
    for _ in 0..3 {
        let open = || {
            let backend = || -> Result<std::sync::Arc<dyn Backend>> { Ok(std::sync::Arc::new(NullBackend)) };
            let disk = std::sync::Arc::new(icecore_diskio::FaultyDisk::new());
            UtxoStore::open_with(&clients, "null:///x", "/bodies", Options::new().disk(disk), backend)
                .unwrap()
        };
        let store = open();
        store.put(tx(1, 1), 7);
        store.put(tx(1, 300), 7);
        assert!(matches!(input_error(store.take(2, &[(1, 0)], 8), 0), Error::TxNotFound { .. }));
        assert!(matches!(store.get(&txid(1), Fields::ALL), Err(Error::TxNotFound { .. })));
        assert!(store.txids().unwrap().is_empty());
        store.close(GUARD).unwrap();
        assert!(matches!(store.create(tx(1, 1), 7, CreateOptions::default()), Err(Error::Closed)));
    }
}

#[cfg(feature = "rocksdb")]
mod rocksdb_alone {
    use super::*;

    #[test]
    fn a_directory_has_one_store_of_one_kind() {
        let dir = scratch();
        let (clients, others) = (Clients::new(), Clients::new());
        let store = UtxoStore::open(&clients, dir.path(), Options::new()).unwrap();
        let link = dir.path().join("here");
        std::os::unix::fs::symlink(dir.path(), &link).unwrap();
        let same = UtxoStore::open(&clients, &link, Options::new()).unwrap();
        store.put(NewTx { body: vec![1; 40_000], ..tx(1, 200) }, 7);
        assert_eq!(same.all_of(1).extras.len(), 1);
        let taken = UtxoStore::open(&others, dir.path(), Options::new());
        assert!(matches!(&taken, Err(error) if error.is_retryable()), "{taken:?}");
        same.close(GUARD).unwrap();
        store.close(GUARD).unwrap();
        UtxoStore::open(&others, dir.path(), Options::new()).unwrap().all_of(1);

        let foreign = scratch();
        std::fs::create_dir(foreign.path().join("records")).unwrap();
        std::fs::write(foreign.path().join("records/CURRENT"), "something else").unwrap();
        assert!(UtxoStore::open(&clients, foreign.path(), Options::new()).is_err());
    }
}
