//! Races 15, 18–22, 35, 39, 40: clear, then wipe.

use super::{
    gates::{managed, rest},
    *,
};
use crate::{Error, GateStatus, Manager, PassRefused};

fn clear<'a>(manager: &'a Manager<Key>, store: &'a Mutex<Vec<u8>>) -> Steps<'a, crate::Result<()>> {
    let wipe = || store.lock().unwrap().clear();
    Steps::new(manager.wipe_at_rest(manager.time(&Timer::Nobody), "a", GRACE, wipe))
}

fn full_store() -> Mutex<Vec<u8>> {
    Mutex::new(vec![1, 2, 3])
}

#[track_caller]
fn refused_with(status: WorkerStatus, result: crate::Result<()>, store: &Mutex<Vec<u8>>) {
    match result {
        Err(Error::ShutdownIncomplete { status: found, .. }) => assert_eq!(found.worker, status),
        other => panic!("not refused: {other:?}"),
    }
    assert_eq!(*store.lock().unwrap(), [1, 2, 3]);
}

#[test]
fn clear_is_refused_while_an_orphan_is_reaped() {
    within_seconds(5, || {
        let (manager, _clock) = managed();
        manager.add("a", PASS);
        let mut wedge = orphan(manager.registry(), "a");
        let store = full_store();
        let mut reaping = reap(manager.registry());
        assert!(reaping.is_pending());
        refused_with(WorkerStatus::Detached, clear(&manager, &store).ready(), &store);
        wedge.let_go();
        until(|| !manager.registry().any_alive());
        assert_eq!(reaping.ready(), [("a", WorkerStatus::Ok)]);
        assert_eq!(clear(&manager, &store).ready(), Ok(()));
        assert!(store.lock().unwrap().is_empty());
    });
}

#[test]
fn clearing_latch_drops_with_the_last_guard() {
    within_seconds(5, || {
        let (registry, _clock) = by_hand();
        let outer = registry.hold_clearing("a");
        drop(registry.hold_clearing("a"));
        assert!(registry.is_clearing("a"));
        let refused = registry.start_thread("a", WorkerConfig::default(), |_| ());
        assert!(matches!(refused, StartOutcome::Clearing), "{refused:?}");
        drop(outer);
        assert!(!registry.is_clearing("a"));
        started(registry.start_thread("a", WorkerConfig::default(), |_| ()));
        assert!(registry.shutdown_blocking().all_clean());
    });
}

#[test]
fn clearing_latch_counts_concurrent_and_panicking_holders() {
    within_seconds(5, || {
        let (registry, _clock) = by_hand();
        let outer = registry.hold_clearing("a");
        thread::scope(|scope| {
            for holder in 0..8 {
                let registry = &registry;
                scope.spawn(move || {
                    for _ in 0..100 {
                        let guard = registry.hold_clearing("a");
                        assert!(registry.is_clearing("a"));
                        drop(guard);
                    }
                    let hold_and_panic = || {
                        let _guard = registry.hold_clearing("a");
                        panic!("holder {holder}");
                    };
                    std::panic::catch_unwind(std::panic::AssertUnwindSafe(hold_and_panic)).unwrap_err();
                });
            }
        });
        assert_eq!(registry.shared().table().clearing.get("a"), Some(&1));
        drop(outer);
        assert!(!registry.is_clearing("a"));
    });
}

#[test]
fn start_during_a_clear_is_refused() {
    within_seconds(5, || {
        let (manager, _clock) = managed();
        manager.add("a", PASS);
        let start = |key| manager.registry().start_thread(key, WorkerConfig::default(), |_| ());
        let cleared = manager.clear_blocking("a", GRACE, || (start("a"), start("b")));
        let (same, other) = cleared.unwrap();
        assert!(matches!(same, StartOutcome::Clearing), "{same:?}");
        assert!(other.is_started());
        started(start("a"));
        assert!(manager.shutdown_blocking().all_clean());
    });
}

/// What a clear does first: latch, then gate.
type Clear = Arc<Mutex<Option<(crate::ClearingGuard<Key>, crate::GateGuard)>>>;

/// A clear that slips in at `place`.
fn clear_slips_in(manager: &Arc<Manager<Key>>, place: &'static str) -> Clear {
    let clear = Clear::default();
    let (inside, slot) = (Arc::downgrade(manager), Arc::clone(&clear));
    manager.registry().shared().probes.arm(place, move || {
        let manager = inside.upgrade().unwrap();
        let holds = (manager.registry().hold_clearing("a"), manager.gate("a").unwrap().hold());
        *slot.lock().unwrap() = Some(holds);
    });
    clear
}

#[test]
fn clear_slipping_into_a_start_keeps_its_barrier() {
    within_seconds(5, || {
        let (manager, _clock) = managed();
        let gate = manager.add("a", PASS);
        let clear = clear_slips_in(&manager, "launch");
        let start = || manager.registry().start_thread("a", WorkerConfig::default(), |_| ());
        assert!(!manager.registry().is_clearing("a"));
        let outcome = start();
        assert!(matches!(outcome, StartOutcome::Clearing), "{outcome:?}");
        assert_eq!(gate.begin_pass().unwrap_err(), PassRefused::Gated);
        clear.lock().unwrap().take();
        started(start());
        assert_eq!(gate.pass(|| 7), Ok(7));
    });
}

#[test]
fn clear_slipping_into_a_quiesce_keeps_its_barrier() {
    within_seconds(5, || {
        let (manager, _clock) = managed();
        let gate = manager.add("a", PASS);
        let clear = clear_slips_in(&manager, "rested");
        assert!(manager.quiesce_blocking("a").is_clean());
        assert!(gate.is_raised());
        assert_eq!(gate.begin_pass().unwrap_err(), PassRefused::Gated);
        clear.lock().unwrap().take();
        assert_eq!(gate.pass(|| 7), Ok(7));
    });
}

#[test]
fn quiesce_waits_for_a_running_clear() {
    within_seconds(5, || {
        let (manager, clock) = managed();
        manager.add("a", PASS);
        let clearing = manager.registry().hold_clearing("a");
        let mut waiting = rest(&manager, "a");
        assert!(waiting.is_pending());
        drop(clearing);
        assert!(waiting.ready().is_clean());
        // Within its budget.
        let _clearing = manager.registry().hold_clearing("a");
        let mut waiting = rest(&manager, "a");
        assert!(waiting.is_pending());
        clock.advance(PASS);
        assert!(!waiting.ready().is_clean());
    });
}

#[test]
fn clear_after_an_unclean_drain_touches_nothing() {
    within_seconds(5, || {
        let (manager, clock) = managed();
        let gate = manager.add("a", PASS);
        let store = full_store();
        // A loop that does not end.
        let mut wedge = Wedge::new();
        wedge.start(manager.registry(), "a", WorkerConfig::default());
        let mut clearing = clear(&manager, &store);
        assert!(clearing.is_pending());
        clock.advance(GRACE);
        refused_with(WorkerStatus::Timeout, clearing.ready(), &store);
        wedge.let_go();
        manager.registry().reap_orphans_blocking(HOUR);
        // A pass that does not end.
        let pass = gate.begin_pass().unwrap();
        let mut clearing = clear(&manager, &store);
        assert!(clearing.is_pending());
        clock.advance(GRACE);
        match clearing.ready() {
            Err(Error::ShutdownIncomplete { status, .. }) => assert_eq!(status.gate, GateStatus::PassTimeout),
            other => panic!("not refused: {other:?}"),
        }
        assert_eq!(*store.lock().unwrap(), [1, 2, 3]);
        drop(pass);
        assert_eq!(clear(&manager, &store).ready(), Ok(()));
        assert!(store.lock().unwrap().is_empty());
        assert!(!manager.registry().is_clearing("a") && !gate.is_raised());
    });
}

#[test]
fn clear_minds_the_orphans_of_its_key_only() {
    within_seconds(5, || {
        let (manager, _clock) = managed();
        manager.add("a", PASS);
        let store = full_store();
        // The slot's worker ends well, an older one lives on.
        let mut older = orphan(manager.registry(), "a");
        started(manager.registry().start_thread("a", WorkerConfig::default(), |_| ()));
        until(|| !manager.registry().is_running("a"));
        refused_with(WorkerStatus::Detached, clear(&manager, &store).ready(), &store);
        // A pass is not waited for then: its end would change nothing.
        let pass = manager.gate("a").unwrap().begin_pass().unwrap();
        refused_with(WorkerStatus::Detached, clear(&manager, &store).ready(), &store);
        drop(pass);
        older.let_go();
        manager.registry().reap_orphans_blocking(HOUR);
        let _of_another = orphan(manager.registry(), "b");
        assert_eq!(clear(&manager, &store).ready(), Ok(()));
        assert!(store.lock().unwrap().is_empty());
    });
}
