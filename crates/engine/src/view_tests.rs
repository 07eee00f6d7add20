use super::*;
use crate::{
    common::{check_reads, first_of, last_of},
    crash_matrix::world::World,
};

#[test]
fn a_view_keeps_its_hot_chunk_until_it_is_dropped() {
    let world = World::new();
    let process = world.open(first_of(0), 0).unwrap();
    process.ingest(first_of(0)).unwrap();
    process.chain.grow_to(last_of(0) + 1);
    process.ingest(last_of(0) + 1).unwrap();
    let view = process.engine.view();
    assert_eq!(view.ledger(LedgerSeq(2)).unwrap().place, Place::Hot);
    // Frozen and indexed by now: new views read cold files, this one goes on as it was.
    let report = process.lifecycle(|lifecycle| lifecycle.run());
    assert_eq!((report.chunks, report.indexes, report.discarded), (1, 1, 0), "{report:?}");
    assert!(report.due.is_some() && !report.is_settled);
    check_reads(&view, 2, last_of(0) + 1);
    assert_eq!(view.ledger(LedgerSeq(2)).unwrap().place, Place::Hot);
    let newer = process.engine.view();
    check_reads(&newer, 2, last_of(0) + 1);
    assert_eq!(newer.ledger(LedgerSeq(2)).unwrap().place, Place::Cold);
    drop(view);
    let report = process.lifecycle(|lifecycle| lifecycle.run());
    assert!(report.discarded == 1 && report.is_settled, "{report:?}");
    check_reads(&newer, 2, last_of(0) + 1);
}

#[test]
fn a_hot_chunk_that_is_not_ready_is_not_read() {
    let world = World::new();
    let process = world.open(first_of(0), 0).unwrap();
    process.ingest(first_of(0)).unwrap();
    process.engine.catalog().hot_transient(ChunkId(0)).unwrap();
    let read = process.engine.view().ledger(LedgerSeq(2));
    assert!(matches!(read, Err(Error::NotYet { .. })), "{read:?}");
}
