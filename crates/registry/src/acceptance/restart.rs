//! Races 4–11: starts and restarts in place.

use std::sync::Barrier;

use super::*;
use crate::{DrainHook, worker::Worker};

#[test]
fn late_exit_leaves_the_new_worker_running() {
    within_seconds(5, || {
        let (registry, _clock) = by_hand();
        let (mut old, mut new) = (Wedge::new(), Wedge::new());
        assert_eq!(old.start(&registry, "a", WorkerConfig::default()), 1);
        assert!(registry.cancel("a"));
        assert_eq!(new.start(&registry, "a", WorkerConfig::default()), 2);
        old.let_go();
        // Joined, so its epilogue is over.
        assert_eq!(registry.reap_orphans_blocking(HOUR), [("a", WorkerStatus::Ok)]);
        assert!(registry.is_running("a") && !new.is_cancelled());
        assert!(matches!(
            registry.start_thread("a", WorkerConfig::default(), |_| ()),
            StartOutcome::AlreadyRunning
        ));
    });
}

#[test]
fn restart_joins_a_finished_predecessor() {
    within_seconds(5, || {
        let (registry, _clock) = with_grace(GRACE);
        started(registry.start_thread("a", WorkerConfig::default(), |_| ()));
        until(|| !registry.is_running("a"));
        let mut slow = Wedge::new();
        slow.start(&registry, "a", WorkerConfig::default());
        assert_eq!(registry.orphan_count(), 0);
        // One that ends within the grace is joined as well.
        registry.cancel("a");
        let go = slow.go.take();
        registry.shared().probes.arm("installed", move || drop(go));
        started(registry.start_thread("a", WorkerConfig::default(), |token: CancelToken| token.wait()));
        assert_eq!(registry.orphan_count(), 0);
        assert!(registry.shutdown_blocking().all_clean());
    });
}

#[test]
fn restart_parks_a_wedged_predecessor() {
    within_seconds(5, || {
        let (registry, _clock) = by_hand();
        let (mut old, mut new) = (Wedge::new(), Wedge::new());
        old.start(&registry, "a", WorkerConfig::default());
        registry.cancel("a");
        new.start(&registry, "a", WorkerConfig::default());
        assert_eq!(registry.orphan_count(), 1);
        assert!(registry.is_running("a"));
        old.let_go();
        assert_eq!(registry.reap_orphans_blocking(HOUR), [("a", WorkerStatus::Ok)]);
    });
}

#[test]
fn predecessors_panic_is_logged() {
    within_seconds(5, || {
        let (registry, _clock) = with_grace(GRACE);
        started(registry.start_thread("a", WorkerConfig::default(), |_| -> () { panic!("what a pity") }));
        until(|| !registry.is_running("a"));
        let lines = logged(|| {
            started(registry.start_thread("a", WorkerConfig::default(), |token: CancelToken| token.wait()));
        });
        assert!(lines.contains("ERROR") && lines.contains("what a pity"), "{lines}");
        assert!(registry.shutdown_blocking().all_clean());
    });
}

#[test]
fn start_is_in_the_report_or_refused() {
    within_seconds(25, || {
        shutdown_in_the_middle_of_a_start();
        let (rounds, both) = (10_000, Arc::new(Barrier::new(2)));
        let (give, take) = mpsc::channel::<Arc<Registry<Key>>>();
        let (tell, told) = mpsc::channel();
        let starter_barrier = Arc::clone(&both);
        let starter = thread::spawn(move || {
            for registry in take {
                starter_barrier.wait();
                let outcome =
                    registry.start_thread("a", WorkerConfig::default(), |token: CancelToken| token.wait());
                drop(registry);
                tell.send(outcome).unwrap();
            }
        });
        for _ in 0..rounds {
            let (registry, _clock) = by_hand();
            give.send(Arc::clone(&registry)).unwrap();
            both.wait();
            let report = registry.shutdown_blocking();
            match told.recv().unwrap() {
                StartOutcome::Started(_) => assert_eq!(report.per_worker["a"], WorkerStatus::Ok),
                outcome => {
                    assert!(matches!(outcome, StartOutcome::Closing), "{outcome:?}");
                    assert!(report.per_worker.is_empty());
                }
            }
            assert!(report.all_clean() && !registry.any_alive());
        }
        drop(give);
        starter.join().unwrap();
    });
}

/// The round that luck might never play.
fn shutdown_in_the_middle_of_a_start() {
    let (registry, _clock) = by_hand();
    let other = Arc::downgrade(&registry);
    registry.shared().probes.arm("launch", move || {
        let report = other.upgrade().unwrap().shutdown_blocking();
        assert!(report.per_worker.is_empty());
    });
    let outcome = registry.start_thread("a", WorkerConfig::default(), |token: CancelToken| token.wait());
    assert!(matches!(outcome, StartOutcome::Closing), "{outcome:?}");
}

#[test]
fn restart_hides_nobody_from_shutdown() {
    within_seconds(5, || {
        let (registry, _clock) = by_hand();
        let at_once = WorkerConfig { join_budget: Duration::ZERO, ..WorkerConfig::default() };
        let (mut old, mut new) = (Wedge::new(), Wedge::new());
        old.start(&registry, "a", at_once.clone());
        registry.cancel("a");
        let other = Arc::downgrade(&registry);
        let (tell, told) = mpsc::channel();
        registry.shared().probes.arm("installed", move || {
            tell.send(other.upgrade().unwrap().shutdown_blocking()).unwrap();
        });
        new.start(&registry, "a", at_once);
        let report = told.recv().unwrap();
        assert_eq!(report.per_worker["a"], WorkerStatus::Timeout);
        assert_eq!(report.detached, 2, "the new one over budget, and the old one");
    });
}

/// A value that wants the registry's lock when it is dropped.
struct AsksOnDrop(std::sync::Weak<Registry<Key>>);

impl Drop for AsksOnDrop {
    fn drop(&mut self) {
        if let Some(registry) = self.0.upgrade() {
            registry.is_running("a");
        }
    }
}

#[test]
fn failed_spawn_leaves_the_slot_as_it_was() {
    within_seconds(5, || {
        let (registry, _clock) = by_hand();
        let mut old = Wedge::new();
        let config = WorkerConfig {
            weight: 7,
            join_budget: HOUR,
            drain: Some(DrainHook::new(|| async {})),
            stack_size: None,
        };
        old.start(&registry, "a", config);
        registry.cancel("a");
        let fields = || {
            let table = registry.shared().table();
            let slot = &table.slots["a"];
            let of = |worker: &Worker| {
                (worker.generation, worker.weight, worker.join_budget, worker.drain.is_some(), worker.started)
            };
            (
                slot.issued,
                slot.generation,
                slot.token.is_some(),
                slot.worker.as_ref().map(of),
                table.orphans.len(),
            )
        };
        let before = fields();
        let asks = AsksOnDrop(Arc::downgrade(&registry));
        let huge = WorkerConfig { stack_size: Some(1 << 62), ..WorkerConfig::default() };
        let outcome = registry.start_thread("a", huge.clone(), move |_| drop(asks));
        assert!(matches!(outcome, StartOutcome::SpawnFailed(_)), "{outcome:?}");
        assert_eq!(fields(), before);
        assert!(registry.any_alive_for("a"));
        // A key that was never there leaves no trace.
        assert!(matches!(registry.start_thread("b", huge, |_| ()), StartOutcome::SpawnFailed(_)));
        old.let_go();
        let report = registry.shutdown_blocking();
        assert_eq!(report.per_worker.into_iter().collect::<Vec<_>>(), [("a", WorkerStatus::Ok)]);
    });
}

/// A hook that ends when the flag is up.
fn hook_until(flag: &Arc<AtomicBool>) -> DrainHook {
    let flag = Arc::clone(flag);
    DrainHook::new(move || {
        let flag = Arc::clone(&flag);
        std::future::poll_fn(
            move |_| if flag.load(Ordering::SeqCst) { Poll::Ready(()) } else { Poll::Pending },
        )
    })
}

#[test]
fn superseded_quiesce_leaves_the_new_worker_alone() {
    within_seconds(5, || {
        // Restarted while the quiesce joins.
        let (registry, _clock) = by_hand();
        let (mut old, mut new) = (Wedge::new(), Wedge::new());
        old.start(&registry, "a", WorkerConfig::default());
        let mut waiting = quiesce(&registry, "a");
        assert!(waiting.is_pending());
        new.start(&registry, "a", WorkerConfig::default());
        assert_eq!(waiting.ready(), WorkerStatus::Superseded);
        assert!(registry.is_running("a") && !new.is_cancelled());

        // Restarted while its hook runs.
        let (registry, _clock) = by_hand();
        let (mut old, mut new) = (Wedge::new(), Wedge::new());
        let drained = Arc::new(AtomicBool::new(false));
        let config = WorkerConfig { drain: Some(hook_until(&drained)), ..WorkerConfig::default() };
        old.start(&registry, "a", config);
        let mut waiting = quiesce(&registry, "a");
        assert!(waiting.is_pending());
        assert!(!old.is_cancelled(), "the hook comes first");
        registry.cancel("a");
        new.start(&registry, "a", WorkerConfig::default());
        drained.store(true, Ordering::SeqCst);
        let status = waiting.step();
        assert!(registry.is_running("a") && !new.is_cancelled());
        assert_eq!(status, Poll::Ready(WorkerStatus::Superseded));
        assert!(!WorkerStatus::Superseded.is_clean());
    });
}

#[test]
fn nothing_of_others_is_dropped_under_the_lock() {
    within_seconds(5, || {
        let (registry, _clock) = by_hand();
        let asks = AsksOnDrop(Arc::downgrade(&registry));
        let drain = DrainHook::new(move || {
            let _captured = &asks;
            async {}
        });
        let config = WorkerConfig { drain: Some(drain), ..WorkerConfig::default() };
        started(registry.start_thread("a", config, |token: CancelToken| token.wait()));
        assert_eq!(registry.quiesce_blocking("a"), WorkerStatus::Ok);
        assert!(registry.shutdown_blocking().all_clean());
    });
}
