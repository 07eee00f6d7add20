//! Readers hammer a store while chunks are committed, frozen, indexed, discarded and pruned.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use std::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    thread,
};

use common::*;
use icecore_engine::{Engine, Error};
use icecore_ledger::LedgerSeq;
use icecore_testkit::SplitMix64;

/// How many complete chunks are kept.
const KEPT: u32 = 4;

/// One random read through a view; panics when its answer is not right.
fn read_something(engine: &Engine, rng: &mut SplitMix64) {
    let view = engine.view();
    let Ok(range) = view.range() else { return };
    let seq = range.first.0 + rng.below(u64::from(range.last.0 - range.first.0) + 1) as u32;
    match rng.below(4) {
        0 => {
            let found = view.ledger(LedgerSeq(seq)).unwrap_or_else(|e| panic!("{view:?}, ledger {seq}: {e}"));
            assert!(found.raw == ledger(seq), "ledger {seq} is torn");
        }
        1 if transactions(seq) > 0 => {
            let found =
                view.transaction(&hash(seq, 0)).unwrap_or_else(|e| panic!("{view:?}, hash of {seq}: {e}"));
            assert_eq!(found.map(|found| found.seq.0), Some(seq), "{view:?}");
        }
        2 => check_reads(&view, range.first.0, range.last.0),
        _ => {
            let old = range.first.0.saturating_sub(1);
            assert!(matches!(view.ledger(LedgerSeq(old)), Err(Error::OutOfBounds { .. })));
        }
    }
}

#[test]
fn no_wrong_missing_or_torn_answer_across_the_lifecycle() {
    let dir = tempfile::tempdir().unwrap();
    let chain = Chain::new(last_of(KEPT));
    let mut config = config(dir.path());
    config.retention_chunks = KEPT;
    config.grace = std::time::Duration::from_millis(500);
    let engine = open(config, &chain, None).unwrap();
    engine.start().unwrap();
    until_settled(&engine, last_of(KEPT));
    let (done, reads) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| {
        for reader in 0..2 {
            let (engine, done, reads) = (&engine, &done, &reads);
            scope.spawn(move || {
                let mut rng = SplitMix64::new(reader);
                while !done.load(SeqCst) {
                    read_something(engine, &mut rng);
                    reads.fetch_add(1, SeqCst);
                }
            });
        }
        // Over many chunk boundaries and the ends of several windows.
        for tip in last_of(KEPT) + 1..=last_of(20) + 1 {
            chain.grow_to(tip);
            until("it has been taken in", || engine.status().latest >= Some(tip));
        }
        done.store(true, SeqCst);
    });
    assert!(reads.load(SeqCst) > 100);
    until_settled(&engine, last_of(20) + 1);
    check_reads(&engine.view(), first_of(21 - KEPT), last_of(20) + 1);
    engine.shutdown().require_clean().unwrap();
}
