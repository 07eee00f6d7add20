//! What is refused, and that nothing changes then.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::{fs, thread};

use common::{CHUNK, Forks, rows};
use icecore_events::Query;
use icecore_hotchunk::{Error, HotChunk, HotOptions, Phase};
use icecore_ledger::{LedgerRange, LedgerSeq, TxHash};
use icecore_rockstore::Error as StoreError;
use icecore_stellar::StellarDecoder;

mod common;

fn options() -> HotOptions {
    HotOptions::default()
}

#[test]
fn ledgers_that_are_not_next() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("hot");
    let forks = Forks::new(1, "txs=2,events=1");
    let chunk = LedgerRange { first: LedgerSeq(2), last: LedgerSeq(6) };
    let hot = HotChunk::create(&path, chunk, &options()).unwrap();
    let refused = |raw: &[u8]| {
        let before = rows(&path);
        let failed = hot.commit(raw, &StellarDecoder).unwrap_err();
        assert_eq!(failed.phase, Phase::Decode);
        assert!(failed.report.total() > std::time::Duration::ZERO);
        assert!(rows(&path) == before);
        let error = Error::from(failed);
        assert!(
            error.to_string().contains(path.to_str().unwrap())
                && !error.is_retryable()
                && !error.is_corrupt()
        );
        error
    };
    let next = |seq| LedgerSeq(seq);
    assert!(
        matches!(refused(&forks.ledger(3, 0)), Error::Gap { expected, found, .. } if (expected, found) == (next(2), next(3)))
    );
    for seq in 2..=4 {
        hot.commit(&forks.ledger(seq, 0), &StellarDecoder).unwrap();
    }
    assert!(
        matches!(refused(&forks.ledger(4, 0)), Error::Repeat { expected, found, .. } if (expected, found) == (next(5), next(4)))
    );
    assert!(matches!(refused(&forks.ledger(6, 0)), Error::Gap { .. }));
    assert!(matches!(refused(&forks.ledger(7, 0)), Error::OutOfChunk { found, .. } if found == next(7)));
    assert!(matches!(refused(b"garbage"), Error::Decode { expected, .. } if expected == next(5)));
    let mut raw = forks.ledger(5, 0);
    raw.pop();
    assert!(matches!(refused(&raw), Error::Decode { .. }));
    assert!(
        matches!(refused(&vec![0; (256 << 20) + 1]), Error::TooLarge { len_bytes, .. } if len_bytes == (256 << 20) + 1)
    );
    for seq in 5..=6 {
        hot.commit(&forks.ledger(seq, 0), &StellarDecoder).unwrap();
    }
    assert!(matches!(refused(&forks.ledger(7, 0)), Error::OutOfChunk { .. }));
    assert!(matches!(refused(&forks.ledger(6, 0)), Error::Repeat { .. }));
    assert_eq!(hot.truncate_after(LedgerSeq(6), &StellarDecoder).unwrap(), 0);
    assert_eq!(hot.truncate_after(LedgerSeq(0), &StellarDecoder).unwrap(), 5);
    assert_eq!((hot.max_committed().unwrap(), rows(&path).len()), (None, 0));
}

#[test]
fn directories_that_are_not_the_chunks() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("00000000");
    let missing = HotChunk::open(&path, CHUNK, &options()).unwrap_err();
    assert!(matches!(&missing, Error::Store(StoreError::Missing { path: p }) if *p == path));
    assert!(!path.exists());
    fs::create_dir(&path).unwrap();
    assert!(matches!(HotChunk::open(&path, CHUNK, &options()), Err(Error::Store(StoreError::Gutted { .. }))));
    assert_eq!(fs::read_dir(&path).unwrap().count(), 0);

    let hot = HotChunk::create(&path, CHUNK, &options()).unwrap();
    assert!(matches!(
        HotChunk::create(&path, CHUNK, &options()),
        Err(Error::Store(StoreError::Exists { .. }))
    ));
    let second = HotChunk::open(&path, CHUNK, &options()).unwrap_err();
    assert!(matches!(second, Error::Store(StoreError::Locked { .. })) && second.is_retryable());
    let forks = Forks::new(1, "txs=1");
    hot.commit(&forks.ledger(2, 0), &StellarDecoder).unwrap();
    hot.close();

    let other = LedgerRange { first: LedgerSeq(10_002), last: LedgerSeq(20_001) };
    for open in [HotChunk::open, HotChunk::open_read_only] {
        let error = open(path.clone(), other, &options()).unwrap_err();
        assert!(matches!(&error, Error::WrongChunk { found, .. } if *found == LedgerSeq(2)), "{error:?}");
        assert!(error.to_string().contains("10002..=20001"));
    }
    // A chunk that begins later is not this one either, though the ledgers overlap.
    let later = LedgerRange { first: LedgerSeq(3), last: LedgerSeq(10_001) };
    assert!(matches!(HotChunk::open(&path, later, &options()), Err(Error::WrongChunk { .. })));
    for first in [0, 1] {
        let chunk = LedgerRange { first: LedgerSeq(first), last: LedgerSeq(9) };
        assert!(matches!(
            HotChunk::create(dir.path().join("x"), chunk, &options()),
            Err(Error::BadChunk { .. })
        ));
    }
    assert!(HotChunk::open(&path, CHUNK, &options()).is_ok());
}

#[test]
fn a_handle_for_reading_reads() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("hot");
    let forks = Forks::new(1, "txs=2,events=1");
    let hot = HotChunk::create(&path, CHUNK, &options()).unwrap();
    for seq in 2..=4 {
        hot.commit(&forks.ledger(seq, 0), &StellarDecoder).unwrap();
    }
    // Beside the writer, from the log.
    let reading = HotChunk::open_read_only(&path, CHUNK, &options()).unwrap();
    hot.commit(&forks.ledger(5, 0), &StellarDecoder).unwrap();
    assert_eq!(reading.max_committed().unwrap(), Some(LedgerSeq(4)));
    assert_eq!(reading.ledger(LedgerSeq(4)).unwrap().unwrap(), forks.ledger(4, 0));
    assert_eq!(reading.ledger(LedgerSeq(5)).unwrap(), None);
    assert!(matches!(reading.events(&Query::default(), &StellarDecoder), Err(Error::NoEventIndex { .. })));
    let failed = reading.commit(&forks.ledger(5, 0), &StellarDecoder).unwrap_err();
    assert!(matches!(*failed.source, Error::ReadOnly { .. }));
    assert!(matches!(reading.truncate_after(LedgerSeq(2), &StellarDecoder), Err(Error::ReadOnly { .. })));
    reading.close();
    assert!(matches!(reading.max_committed(), Err(Error::Store(StoreError::Closed { .. }))));
}

#[test]
fn everything_is_closed_after_a_close() {
    let dir = tempfile::tempdir().unwrap();
    let forks = Forks::new(1, "txs=2,events=1");
    let hot = HotChunk::create(dir.path().join("hot"), CHUNK, &options()).unwrap();
    hot.commit(&forks.ledger(2, 0), &StellarDecoder).unwrap();
    let view = hot.view().unwrap();
    assert!(matches!(hot.close_if_idle(), Err(Error::Store(StoreError::Busy { .. }))));
    thread::scope(|scope| {
        let closing = scope.spawn(|| hot.close());
        while hot.view().is_ok() {
            thread::yield_now();
        }
        common::assert_whole(&view, LedgerSeq(2));
        drop(view);
        closing.join().unwrap();
    });
    let closed =
        |error: Error| assert!(matches!(error, Error::Store(StoreError::Closed { .. })), "{error:?}");
    closed(hot.view().unwrap_err());
    closed(hot.max_committed().unwrap_err());
    closed(hot.ledger(LedgerSeq(2)).unwrap_err());
    closed(hot.transaction(&TxHash([0; 32])).unwrap_err());
    closed(hot.events(&Query::default(), &StellarDecoder).unwrap_err());
    closed(hot.commit(&forks.ledger(3, 0), &StellarDecoder).unwrap_err().into());
    closed(hot.truncate_after(LedgerSeq(1), &StellarDecoder).unwrap_err());
    closed(hot.stats().unwrap_err());
    closed(hot.flush().unwrap_err());
    hot.close();
    hot.close_if_idle().unwrap();
}

#[test]
fn opening_tells_how_far_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("hot");
    let forks = Forks::new(1, "txs=20,events=3");
    let hot = HotChunk::create(&path, CHUNK, &options()).unwrap();
    for seq in 2..=9 {
        hot.commit(&forks.ledger(seq, 0), &StellarDecoder).unwrap();
    }
    let terms = hot.stats().unwrap().terms;
    assert!(terms > 10);
    hot.close();
    let mut reports = Vec::new();
    let hot = HotChunk::open_with_progress(&path, CHUNK, &options(), &mut |warm| reports.push(warm)).unwrap();
    let last = reports.last().unwrap();
    assert!(last.rows > terms && last.rows == last.total);
    assert_eq!(hot.stats().unwrap().terms, terms);
}
