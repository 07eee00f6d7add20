//! Whole lives of a store, each named after what happens in it.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use std::sync::{Arc, atomic::Ordering::SeqCst};

use common::*;
use icecore_engine::{Engine, EngineConfig, Error, Sources, Span};
use icecore_events::Order;
use icecore_hotchunk::fuzz::Toy;
use icecore_ledger::{ChunkId, Decoded, Decoder, EventFields, LedgerRange, LedgerSeq, LiveSource};

#[test]
fn a_first_start_backfills_and_follows() {
    let dir = tempfile::tempdir().unwrap();
    let chain = Chain::new(last_of(4) + 1);
    let engine = open(config(dir.path()), &chain, None).unwrap();
    assert!(matches!(engine.view().range(), Err(Error::Empty)));
    engine.start().unwrap();
    until_settled(&engine, last_of(4) + 1);
    check_reads(&engine.view(), 2, last_of(4) + 1);
    // Over two boundaries, and over the end of a window.
    chain.grow_to(last_of(8) + 2);
    until_settled(&engine, last_of(8) + 2);
    check_reads(&engine.view(), 2, last_of(8) + 2);
    engine.shutdown().require_clean().unwrap();
    drop(engine);
    let engine = open(config(dir.path()), &chain, None).unwrap();
    check_reads(&engine.view(), 2, last_of(8) + 2);
}

#[test]
fn widening() {
    let dir = tempfile::tempdir().unwrap();
    let chain = Chain::new(last_of(7));
    let narrow = || {
        let mut config = config(dir.path());
        config.retention_chunks = 3;
        config
    };
    let engine = open(narrow(), &chain, None).unwrap();
    engine.start().unwrap();
    chain.grow_to(last_of(7) + 1);
    until_settled(&engine, last_of(7) + 1);
    check_reads(&engine.view(), first_of(5), last_of(7) + 1);
    drop(engine);
    // At the next start.
    let engine = open(config(dir.path()), &chain, None).unwrap();
    let before = engine.view().ledger(LedgerSeq(2));
    assert!(matches!(before, Err(Error::NotYet { chunk: ChunkId(0), .. })), "{before:?}");
    engine.start().unwrap();
    until_settled(&engine, last_of(7) + 1);
    check_reads(&engine.view(), 2, last_of(7) + 1);
    drop(engine);
    // And while it runs: first narrower, then wider again.
    let engine = open(narrow(), &chain, None).unwrap();
    engine.start().unwrap();
    until_settled(&engine, last_of(7) + 1);
    let change = engine.retention_change(5);
    assert_eq!((change.from_floor, change.to_floor, &change.built[..]), (5, 3, &[4, 3][..]), "{change:?}");
    engine.set_retention(5).unwrap();
    until("chunk 3 is there again", || engine.view().ledger(LedgerSeq(first_of(3))).is_ok());
    until_settled(&engine, last_of(7) + 1);
    check_reads(&engine.view(), first_of(3), last_of(7) + 1);
    drop(engine);
    // The store's own number overrules the configuration's.
    let engine = open(narrow(), &chain, None).unwrap();
    assert_eq!(engine.status().retention_chunks, 5);
    check_reads(&engine.view(), first_of(3), last_of(7) + 1);
}

#[test]
fn narrowing() {
    let dir = tempfile::tempdir().unwrap();
    let chain = Chain::new(last_of(6) + 1);
    let engine = open(config(dir.path()), &chain, None).unwrap();
    engine.start().unwrap();
    until_settled(&engine, last_of(6) + 1);
    let (old, ledgers) = (engine.view(), LedgerRange { first: LedgerSeq(2), last: LedgerSeq(4) });
    let change = engine.retention_change(2);
    assert_eq!((change.from_floor, change.to_floor), (0, 5));
    assert!(change.pruned.contains(&"chunk:00000004:events".to_owned()), "{change:?}");
    assert_eq!(engine.view().floor(), ChunkId(0), "a dry run changes nothing");
    engine.set_retention(2).unwrap();
    // From that moment on, whatever is still on disk.
    let refused = engine.view().ledger(LedgerSeq(last_of(4)));
    assert!(
        matches!(refused, Err(Error::OutOfBounds { available, .. }) if available.first.0 == first_of(5)),
        "{refused:?}"
    );
    assert_eq!(old.floor(), ChunkId(0));
    drop(old);
    until_settled(&engine, last_of(6) + 1);
    let state = engine.catalog().state();
    assert!(state.artifacts.keys().all(|(chunk, _)| *chunk >= ChunkId(5)));
    // The index of the window that the floor lies in is kept as it is.
    assert!(state.indexes.keys().any(|index| (index.first, index.last) == (ChunkId(3), ChunkId(5))));
    assert!(!state.covered(ChunkId(2)));
    check_reads(&engine.view(), first_of(5), last_of(6) + 1);
    let span = Span { ledgers: Some(ledgers), ..Span::default() };
    assert!(matches!(engine.view().ledgers(&span, 5), Err(Error::OutOfBounds { .. })));
}

#[test]
fn pins() {
    let dir = tempfile::tempdir().unwrap();
    let chain = Chain::new(last_of(1));
    drop(open(config(dir.path()), &chain, None).unwrap());
    let mut changed = config(dir.path());
    changed.geometry = icecore_ledger::Geometry::new(4, 3).unwrap();
    let error = open(changed, &chain, None).unwrap_err();
    assert!(
        error.is_fatal() && error.to_string().contains('4') && error.to_string().contains('3'),
        "{error}"
    );
    let mut changed = config(dir.path());
    changed.earliest = LedgerSeq(first_of(2));
    assert!(open(changed, &chain, None).unwrap_err().is_fatal());
    let mut odd = config(&dir.path().join("new"));
    odd.earliest = LedgerSeq(first_of(2) + 1);
    let error = open(odd, &chain, None).unwrap_err();
    assert!(error.to_string().contains(&first_of(2).to_string()), "names the nearest: {error}");
}

#[test]
fn a_floor_past_the_tip() {
    let dir = tempfile::tempdir().unwrap();
    let mut far = config(dir.path());
    far.earliest = LedgerSeq(first_of(9));
    let engine = open(far, &Chain::new(last_of(1)), None).unwrap();
    engine.start().unwrap();
    let stopped = engine.wait().unwrap_err();
    let Error::Stopped { source } = &stopped else { panic!("{stopped}") };
    assert!(matches!(&**source, Error::FloorPastTip { .. }), "{source}");
}

#[test]
fn a_tip_that_is_not_there_prunes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let chain = Chain::new(last_of(3) + 1);
    let two = || {
        let mut config = config(dir.path());
        config.retention_chunks = 2;
        config
    };
    let engine = open(two(), &chain, None).unwrap();
    engine.start().unwrap();
    until_settled(&engine, last_of(3) + 1);
    drop(engine);
    let far = Arc::new(Claims { chain: Arc::clone(&chain), tip: last_of(50) });
    let engine = Engine::open(two(), Sources { bulk: far, live: None }, Arc::new(Toy)).unwrap();
    engine.start().unwrap();
    until("it was waited for in vain", || engine.status().runs >= 3);
    assert_eq!(engine.status().complete_chunk, Some(3));
    check_reads(&engine.view(), first_of(2), last_of(3) + 1);
    drop(engine);
    // Said right, it goes on where it was.
    chain.grow_to(last_of(4) + 1);
    let engine = open(two(), &chain, None).unwrap();
    check_reads(&engine.view(), first_of(2), last_of(3) + 1);
    engine.start().unwrap();
    until_settled(&engine, last_of(4) + 1);
    check_reads(&engine.view(), first_of(3), last_of(4) + 1);
}

fn open_gated(config: EngineConfig, gate: &Arc<Gate>, live: Option<Arc<Script>>) -> Engine {
    let live = live.map(|live| live as Arc<dyn LiveSource>);
    let sources = Sources { bulk: Arc::clone(gate) as _, live };
    Engine::open(config, sources, Arc::new(Toy)).unwrap()
}

#[test]
fn a_lifecycle_that_is_stuck_in_a_source_stays_the_only_one() {
    let dir = tempfile::tempdir().unwrap();
    let gate = Gate::new(last_of(1));
    gate.is_shut.store(true, SeqCst);
    let mut config = config(dir.path());
    (config.workers, config.shutdown) = (1, std::time::Duration::from_millis(20));
    let (at, live) = (first_of(2), Script::new([]));
    let engine = open_gated(config, &gate, Some(Arc::clone(&live)));
    engine.start().unwrap();
    until("a build is stuck", || gate.waiting.load(SeqCst) == 1);
    live.push([Act::Give(at), Act::Lie { said: at + 1, gave: at + 9 }]);
    until("ingestion is to begin anew", || engine.status().restarts == 1);
    let begun = std::time::Instant::now();
    while begun.elapsed() < std::time::Duration::from_millis(200) {
        std::thread::park_timeout(std::time::Duration::from_millis(5));
    }
    assert_eq!(gate.most.load(SeqCst), 1, "two lifecycles at once");
    gate.is_shut.store(false, SeqCst);
    live.push([Act::Give(at + 1)]);
    until_settled(&engine, at + 1);
    check_reads(&engine.view(), 2, at + 1);
}

#[test]
fn a_shutdown_ends_every_wait_although_a_worker_is_stuck() {
    let dir = tempfile::tempdir().unwrap();
    let gate = Gate::new(first_of(0));
    gate.is_shut.store(true, SeqCst);
    let mut config = config(dir.path());
    config.shutdown = std::time::Duration::from_millis(20);
    let engine = Arc::new(open_gated(config, &gate, None));
    engine.start().unwrap();
    until("ingestion is stuck", || gate.waiting.load(SeqCst) == 1);
    assert!(!engine.shutdown().all_clean());
    let (said, heard) = std::sync::mpsc::channel();
    let waits = Arc::clone(&engine);
    let thread = std::thread::spawn(move || said.send(waits.wait().is_ok()));
    let ended = heard.recv_timeout(std::time::Duration::from_secs(10));
    gate.is_shut.store(false, SeqCst);
    assert_eq!(ended, Ok(true));
    thread.join().unwrap().unwrap();
}

#[test]
fn a_hash_on_its_way_is_not_one_that_is_nowhere() {
    let dir = tempfile::tempdir().unwrap();
    let chain = Chain::new(last_of(2) + 1);
    let engine = open(config(dir.path()), &chain, None).unwrap();
    engine.start().unwrap();
    until_settled(&engine, last_of(2) + 1);
    engine.set_retention(1).unwrap();
    until("chunk 0 is pruned", || {
        engine.status().is_settled && !engine.catalog().state().artifacts.keys().any(|(chunk, _)| chunk.0 < 2)
    });
    drop(engine);
    // Wider again, and not at work: the window's index still knows what chunk 0 held.
    let engine = open(config(dir.path()), &chain, None).unwrap();
    engine.set_retention(0).unwrap();
    let seq = (2..=last_of(0)).find(|seq| transactions(*seq) > 0).unwrap();
    let found = engine.view().transaction(&hash(seq, 0));
    assert!(matches!(found, Err(Error::NotYet { chunk: ChunkId(0), .. })), "{found:?}");
    assert!(engine.view().transaction(&hash(last_of(2), 0)).unwrap().is_some());
    assert!(matches!(engine.view().transaction(&hash(2, 77)), Ok(None)));
    engine.start().unwrap();
    until_settled(&engine, last_of(2) + 1);
    check_reads(&engine.view(), 2, last_of(2) + 1);
}

#[test]
fn a_bulk_source_that_fails_holds_up_no_live_one() {
    let dir = tempfile::tempdir().unwrap();
    let (gate, at) = (Gate::new(first_of(1)), first_of(1));
    let engine = open_gated(config(dir.path()), &gate, None);
    engine.start().unwrap();
    until_settled(&engine, at);
    drop(engine);
    gate.is_broken.store(true, SeqCst);
    // The live source ends, too, and is opened again within the same life.
    let live = Script::new([Act::Give(at + 1), Act::End, Act::Give(at + 2), Act::End, Act::Give(at + 3)]);
    let engine = open_gated(config(dir.path()), &gate, Some(live));
    engine.start().unwrap();
    until_settled(&engine, at + 3);
    assert_eq!(engine.status().restarts, 0);
    check_reads(&engine.view(), 2, at + 3);
}

#[test]
fn no_tip_no_first_start() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(config(dir.path()), &Chain::new(1), None).unwrap();
    engine.start().unwrap();
    let stopped = engine.wait().unwrap_err();
    assert!(stopped.to_string().contains("tip"), "{stopped}");
    assert!(engine.start().is_err() || engine.wait().is_err());
    // Nothing was begun that another start would trip over.
    drop(engine);
    let engine = open(config(dir.path()), &Chain::new(5), None).unwrap();
    engine.start().unwrap();
    until("it has come to the tip", || engine.status().latest == Some(5));
}

#[test]
fn hot_loss() {
    let dir = tempfile::tempdir().unwrap();
    let chain = Chain::new(last_of(2) + 1);
    let engine = open(config(dir.path()), &chain, None).unwrap();
    engine.start().unwrap();
    until_settled(&engine, last_of(2) + 1);
    drop(engine);
    let hot = dir.path().join("hot/00000003");
    std::fs::rename(&hot, dir.path().join("gone")).unwrap();
    let error = open(config(dir.path()), &chain, None).unwrap_err();
    assert!(matches!(error, Error::HotStoreLost { chunk: ChunkId(3), .. }) && error.is_fatal(), "{error}");
    // Gutted is as good as gone.
    std::fs::create_dir(&hot).unwrap();
    assert!(matches!(open(config(dir.path()), &chain, None), Err(Error::HotStoreLost { .. })));
    std::fs::remove_dir(&hot).unwrap();
    std::fs::rename(dir.path().join("gone"), &hot).unwrap();
    check_reads(&open(config(dir.path()), &chain, None).unwrap().view(), 2, last_of(2) + 1);
}

#[test]
fn tip_lag() {
    let dir = tempfile::tempdir().unwrap();
    let chain = Chain::new(last_of(1));
    // The live source is ahead of the bulk source, which has to fill the gap.
    let live = Script::new([Act::Give(last_of(3)), Act::Give(last_of(3) + 1)]);
    let engine = open(config(dir.path()), &chain, Some(live)).unwrap();
    engine.start().unwrap();
    until("the bulk source was waited for in vain", || {
        engine.status().troubles.iter().any(|trouble| trouble.error.contains("does not have ledgers"))
    });
    assert_eq!(engine.status().fatal, None);
    chain.grow_to(last_of(3) + 3);
    let live = Script::new((last_of(3)..=last_of(3) + 3).map(Act::Give));
    drop(engine);
    let engine = open(config(dir.path()), &chain, Some(live)).unwrap();
    engine.start().unwrap();
    until_settled(&engine, last_of(3) + 3);
    check_reads(&engine.view(), 2, last_of(3) + 3);
    drop(engine);
    // A bulk source that is behind what is there already changes nothing.
    chain.grow_to(last_of(1));
    let live = Script::new([]);
    let engine = open(config(dir.path()), &chain, Some(Arc::clone(&live))).unwrap();
    engine.start().unwrap();
    until("the live source was opened", || live.opened.load(SeqCst) > 0);
    check_reads(&engine.view(), 2, last_of(3) + 3);
    live.push([Act::Give(last_of(3) + 4)]);
    until_settled(&engine, last_of(3) + 4);
    check_reads(&engine.view(), 2, last_of(3) + 4);
}

#[test]
fn a_long_absence_is_backfilled_newest_first() {
    let dir = tempfile::tempdir().unwrap();
    let chain = Chain::new(first_of(2) + 1);
    let engine = open(config(dir.path()), &chain, None).unwrap();
    engine.start().unwrap();
    until_settled(&engine, first_of(2) + 1);
    drop(engine);
    // The hot chunk was begun, and is left behind: the source has its end.
    chain.grow_to(first_of(7));
    let engine = open(config(dir.path()), &chain, None).unwrap();
    engine.start().unwrap();
    until_settled(&engine, first_of(7));
    check_reads(&engine.view(), 2, first_of(7));
}

#[test]
fn a_live_source_that_repeats_skips_ends_and_lies() {
    let dir = tempfile::tempdir().unwrap();
    let chain = Chain::new(last_of(0));
    let at = first_of(1);
    let live = Script::new([
        Act::Give(3),
        Act::Give(at),
        Act::Give(at),
        Act::End,
        Act::Give(at - 1),
        Act::Give(at + 1),
        Act::Lie { said: at + 2, gave: at + 1 },
        Act::Lie { said: at + 2, gave: at + 9 },
        Act::Give(at + 5),
    ]);
    chain.grow_to(last_of(0));
    let engine = open(config(dir.path()), &chain, Some(Arc::clone(&live))).unwrap();
    engine.start().unwrap();
    until("it has lied", || engine.status().restarts >= 3);
    chain.grow_to(at + 5);
    live.push([Act::Give(at + 5), Act::Give(at + 6)]);
    until_settled(&engine, at + 6);
    check_reads(&engine.view(), 2, at + 6);
    let troubles = engine.status().troubles;
    assert!(troubles.iter().any(|trouble| trouble.error.contains("but gave another one")), "{troubles:?}");
    assert!(engine.status().restarts >= 3);
}

#[test]
fn an_empty_window_and_a_terminal_window() {
    let dir = tempfile::tempdir().unwrap();
    // Chunk 6 has no transactions: its run, and for a while its window's index, are empty.
    let chain = Chain::new(last_of(6));
    let mut only = config(dir.path());
    only.earliest = LedgerSeq(first_of(6));
    let engine = open(only, &chain, None).unwrap();
    engine.start().unwrap();
    until("chunk 6 is indexed", || engine.catalog().state().covered(ChunkId(6)));
    assert_eq!(engine.view().transaction(&hash(3, 0)).unwrap_or(None), None);
    chain.grow_to(last_of(8) + 1);
    until_settled(&engine, last_of(8) + 1);
    check_reads(&engine.view(), first_of(6), last_of(8) + 1);
    // Terminal: one index over the whole window, and no runs are left.
    let state = engine.catalog().state();
    let indexes: Vec<_> = state.indexes.keys().map(|index| (index.first.0, index.last.0)).collect();
    assert_eq!(indexes, [(6, 8)]);
    assert!(state.artifacts.keys().all(|(_, artifact)| *artifact != icecore_catalog::Artifact::TxHash));
    assert!(std::fs::read_dir(dir.path().join("txhash/raw/00000")).unwrap().next().is_none());
}

#[test]
fn a_straddling_floor() {
    let dir = tempfile::tempdir().unwrap();
    let chain = Chain::new(last_of(4) + 1);
    let mut two = config(dir.path());
    two.retention_chunks = 2;
    let engine = open(two, &chain, None).unwrap();
    engine.start().unwrap();
    // The floor lies in the middle of window 1 and moves on through it.
    for chunk in 4..8 {
        chain.grow_to(last_of(chunk) + 1);
        until_settled(&engine, last_of(chunk) + 1);
        check_reads(&engine.view(), first_of(chunk - 1), last_of(chunk) + 1);
    }
}

#[test]
fn a_stale_index() {
    let dir = tempfile::tempdir().unwrap();
    let chain = Chain::new(last_of(3) + 1);
    let engine = open(config(dir.path()), &chain, None).unwrap();
    engine.start().unwrap();
    until_settled(&engine, last_of(3) + 1);
    let view = engine.view();
    // The index of window 1 covers chunk 3 alone; an old view goes on with it while a wider one takes its place.
    assert!(view.state().indexes.keys().any(|index| (index.first.0, index.last.0) == (3, 3)));
    chain.grow_to(last_of(4) + 1);
    until("the index was replaced", || engine.catalog().state().covered(ChunkId(4)));
    check_reads(&view, 2, last_of(3) + 1);
    // Its hot chunk stays as long as it does.
    until("the hot chunk waits for its reader", || engine.status().going == 1);
    check_reads(&view, 2, last_of(3) + 1);
    drop(view);
    until_settled(&engine, last_of(4) + 1);
    check_reads(&engine.view(), 2, engine.view().latest().unwrap().0);
}

#[test]
fn two_daemons_on_one_directory() {
    let dir = tempfile::tempdir().unwrap();
    let chain = Chain::new(last_of(1));
    let engine = open(config(dir.path()), &chain, None).unwrap();
    let error = open(config(dir.path()), &chain, None).unwrap_err();
    assert!(error.to_string().contains(&dir.path().display().to_string()), "{error}");
    drop(engine);
    open(config(dir.path()), &chain, None).unwrap();
}

#[test]
fn pages_of_ledgers_and_cursors() {
    let dir = tempfile::tempdir().unwrap();
    let chain = Chain::new(last_of(2) + 2);
    let engine = open(config(dir.path()), &chain, None).unwrap();
    engine.start().unwrap();
    until_settled(&engine, last_of(2) + 2);
    let view = engine.view();
    for order in [Order::Ascending, Order::Descending] {
        for limit in 1..5 {
            let (mut span, mut seen) = (Span { order, ..Span::default() }, Vec::new());
            loop {
                let page = view.ledgers(&span, limit).unwrap();
                assert!(page.items.len() <= limit);
                seen.extend(page.items.iter().map(|found| found.seq.0));
                span.after = Some(page.cursor);
                if page.is_last {
                    break;
                }
            }
            let mut all: Vec<u32> = (2..=last_of(2) + 2).collect();
            if order == Order::Descending {
                all.reverse();
            }
            assert_eq!(seen, all, "{order:?} by {limit}");
        }
    }
    // At the end, the same cursor gives what comes later.
    let end = view.ledgers(&Span::default(), 100).unwrap();
    assert!(end.is_last);
    let more = Span { after: Some(end.cursor), ..Span::default() };
    assert_eq!(view.ledgers(&more, 5).unwrap().items, []);
    drop(view);
    chain.grow_to(last_of(3) + 1);
    until_settled(&engine, last_of(3) + 1);
    assert_eq!(engine.view().ledgers(&more, 1).unwrap().items[0].seq.0, last_of(2) + 3);
    // What is asked for beyond the end is cut off there, beyond both ends it is refused.
    let range = |first, last| Span {
        ledgers: Some(LedgerRange { first: LedgerSeq(first), last: LedgerSeq(last) }),
        ..Span::default()
    };
    assert_eq!(engine.view().ledgers(&range(last_of(3), u32::MAX), 100).unwrap().items.len(), 2);
    assert!(matches!(engine.view().ledgers(&range(1, 5), 5), Err(Error::OutOfBounds { .. })));
    assert!(matches!(engine.view().ledgers(&range(900, 901), 5), Err(Error::OutOfBounds { .. })));
    assert!(matches!(engine.view().ledgers(&range(5, 4), 5), Err(Error::Inverted { .. })));
    for bad in ["", "1-2-3", "1-2-3-4-5", "1-2-3-x", "+1-2-3-4", "4294967296-0-0-0"] {
        assert!(matches!(bad.parse::<icecore_engine::Cursor>(), Err(Error::BadCursor { .. })), "{bad}");
    }
}

/// Panics for one ledger.
struct Panicky;

impl Decoder for Panicky {
    fn decode<'a>(&self, raw: &'a [u8]) -> icecore_ledger::Result<Decoded<'a>> {
        let decoded = Toy.decode(raw)?;
        assert_ne!(decoded.seq, LedgerSeq(first_of(1)), "a decoder's mistake");
        Ok(decoded)
    }

    fn event_fields<'a>(&self, body: &'a [u8]) -> icecore_ledger::Result<EventFields<'a>> {
        Toy.event_fields(body)
    }
}

#[test]
fn a_worker_that_panics_stops_the_engine() {
    // In the lifecycle, where the chunk is backfilled, and in ingestion.
    for tip in [last_of(1), first_of(1)] {
        let dir = tempfile::tempdir().unwrap();
        let sources = Sources { bulk: Chain::new(tip), live: None };
        let engine = Engine::open(config(dir.path()), sources, Arc::new(Panicky)).unwrap();
        engine.start().unwrap();
        let stopped = engine.wait().unwrap_err();
        assert!(stopped.to_string().contains("panicked: "), "{stopped}");
        assert!(engine.status().fatal.is_some() && !engine.shutdown().all_clean());
        drop(engine);
        let engine = open(config(dir.path()), &Chain::new(tip), None).unwrap();
        engine.start().unwrap();
        until_settled(&engine, tip);
        check_reads(&engine.view(), 2, tip);
    }
}
