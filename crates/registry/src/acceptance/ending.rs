//! Races 29, 37, 38, 41–46: how everything ends.

use std::sync::Once;

use super::{
    gates::{managed, shutdown_all},
    *,
};
use crate::{GateStatus, Manager, Sink};

#[test]
fn merge_keeps_a_live_status() {
    within_seconds(5, || {
        let (manager, clock) = managed();
        manager.add("a", PASS);
        manager.add("b", PASS);
        for key in ["a", "b"] {
            let body = |token: CancelToken| token.wait();
            started(manager.registry().start_thread(key, WorkerConfig::default(), body));
        }
        let (go, hold) = mpsc::channel::<()>();
        let inside = Arc::downgrade(&manager);
        manager.registry().shared().probes.arm("components_rested", move || {
            let thread = thread::spawn(move || {
                let _ = hold.recv();
            });
            let manager = inside.upgrade().unwrap();
            let outcome = manager.registry().register_thread("a", WorkerConfig::default(), thread);
            assert!(matches!(outcome, StartOutcome::Closing));
        });
        let mut ending = shutdown_all(&manager);
        while ending.is_pending() && manager.registry().orphan_count() == 0 {
            thread::yield_now();
        }
        clock.advance(GRACE);
        let report = ending.ready();
        assert_eq!(report.per_worker["a"], WorkerStatus::Detached, "the registry's answer is the newer one");
        assert_eq!(report.per_worker["b"], WorkerStatus::Ok, "the component's own answer");
        assert_eq!((report.detached, report.all_clean()), (1, false));
        drop(go);
    });
}

#[test]
fn weights_end_in_order_and_equal_ones_together() {
    within_seconds(5, || {
        let (registry, _clock) = by_hand();
        let (mut zero, mut five, mut other_five, mut ten) =
            (Wedge::new(), Wedge::new(), Wedge::new(), Wedge::new());
        ten.start(&registry, "a ten", weight(10));
        five.start(&registry, "b five", weight(5));
        other_five.start(&registry, "c five", weight(5));
        zero.start(&registry, "d zero", weight(0));
        let mut ending = shutdown(&registry);
        let told = |wedges: &[&Wedge]| wedges.iter().map(|wedge| wedge.is_cancelled()).collect::<Vec<_>>();
        assert!(ending.is_pending());
        assert_eq!(told(&[&zero, &five, &other_five, &ten]), [true, false, false, false]);
        zero.let_go();
        until(|| !registry.any_alive_for("d zero"));
        assert!(ending.is_pending());
        assert_eq!(told(&[&zero, &five, &other_five, &ten]), [true, true, true, false]);
        other_five.let_go();
        until(|| !registry.any_alive_for("c five"));
        assert!(ending.is_pending());
        assert!(!ten.is_cancelled());
        five.let_go();
        until(|| !registry.any_alive_for("b five"));
        assert!(ending.is_pending());
        assert!(ten.is_cancelled());
        ten.let_go();
        until(|| !registry.any_alive());
        assert!(ending.ready().all_clean());
    });
}

#[test]
fn sink_stores_what_it_received_before_it_ends() {
    within_seconds(5, || {
        let (registry, _clock) = by_hand();
        let sink = Arc::new(Sink::new());
        let stored = Arc::new(Mutex::new(Vec::new()));
        let (consumer, store) = (Arc::clone(&sink), Arc::clone(&stored));
        started(registry.start_thread("sink", weight(10), move |token: CancelToken| {
            // The first event is stored only when the order to end is there: all others are buffered then.
            consumer.run(&token, |event| {
                token.wait();
                store.lock().unwrap().push(event);
            });
        }));
        let producer = Arc::clone(&sink);
        started(registry.start_thread("producer", weight(0), move |token: CancelToken| {
            (0..50).try_for_each(|event| producer.send(event)).unwrap();
            token.wait();
            (50..100).try_for_each(|event| producer.send(event)).unwrap();
        }));
        assert!(registry.shutdown_blocking().all_clean());
        assert_eq!(*stored.lock().unwrap(), (0..100).collect::<Vec<_>>());
        assert_eq!(sink.send(100), Err(100), "nobody would store it");
    });
}

#[test]
fn shutdown_is_shared_and_can_be_taken_up_again() {
    within_seconds(5, || {
        // Two at once share it, a third gets the same report.
        let (registry, _clock) = by_hand();
        let mut wedge = Wedge::new();
        wedge.start(&registry, "a", WorkerConfig::default());
        let (mut one, mut other) = (shutdown(&registry), shutdown(&registry));
        assert!(one.is_pending() && other.is_pending());
        wedge.let_go();
        until(|| !registry.any_alive());
        assert!(other.is_pending(), "it waits for the first");
        let report = one.ready();
        assert_eq!(report.per_worker["a"], WorkerStatus::Ok);
        assert_eq!(other.ready(), report);
        assert_eq!(registry.shutdown_blocking(), report);

        // Cancelled, it leaves the latch and all handles; again, it finds what the first one found.
        let (registry, _clock) = by_hand();
        let mut wedge = Wedge::new();
        wedge.start(&registry, "a", WorkerConfig::default());
        started(registry.start_thread("b", WorkerConfig::default(), |_| Err("broken")));
        until(|| !registry.is_running("b"));
        let mut ending = shutdown(&registry);
        assert!(ending.is_pending());
        drop(ending);
        assert!(registry.is_closing() && registry.any_alive_for("a"));
        wedge.let_go();
        let report = registry.shutdown_blocking();
        assert_eq!(report.per_worker["a"], WorkerStatus::Ok);
        assert_eq!(report.per_worker["b"], WorkerStatus::Error("broken".to_owned()));
        assert!(report.orphan_status.is_empty());
    });
}

#[test]
fn cancelled_manager_shutdown_can_be_taken_up_again() {
    within_seconds(5, || {
        let (manager, _clock) = managed();
        let gate = manager.add("a", PASS);
        started(manager.registry().start_thread("a", WorkerConfig::default(), |_| Err("broken")));
        until(|| !manager.registry().is_running("a"));
        let pass = gate.begin_pass().unwrap();
        let mut ending = shutdown_all(&manager);
        assert!(ending.is_pending(), "the loop is joined, the pass is not over");
        drop(ending);
        drop(pass);
        assert!(gate.is_closed());
        let report = manager.shutdown_blocking();
        assert_eq!(report.per_worker["a"], WorkerStatus::Error("broken".to_owned()));
        assert_eq!(report.gates["a"], GateStatus::Drained);
        assert_eq!(manager.shutdown_blocking(), report);
    });
}

#[test]
fn shutdowns_of_manager_and_registry_at_once_lose_no_answer() {
    within_seconds(5, || {
        let (manager, _clock) = managed();
        let mut last = Wedge::new();
        last.start(manager.registry(), "last", weight(10));
        for key in ["a", "b"] {
            started(manager.registry().start_thread(key, weight(-1), |_| Err("broken")));
            until(|| !manager.registry().is_running(key));
        }
        let told_to_end = Arc::clone(&last.token);
        let (inside, other) = (Arc::downgrade(&manager), Arc::new(Mutex::new(None)));
        let report = Arc::clone(&other);
        // While the manager joins "a", and will come to "b", the registry's own shutdown is at its last tier.
        manager.registry().shared().probes.arm("joining", move || {
            let manager = inside.upgrade().unwrap();
            *other.lock().unwrap() = Some(thread::spawn(move || manager.registry().shutdown_blocking()));
            until(|| told_to_end.lock().unwrap().as_ref().is_some_and(CancelToken::is_cancelled));
        });
        let mut ending = shutdown_all(&manager);
        assert!(ending.is_pending());
        last.let_go();
        let report = report.lock().unwrap().take().unwrap().join().unwrap();
        for key in ["a", "b"] {
            assert_eq!(report.per_worker[key], WorkerStatus::Error("broken".to_owned()));
        }
        assert_eq!(ending.ready().per_worker, report.per_worker);
    });
}

#[test]
fn destroy_forgets_no_later_component() {
    within_seconds(5, || {
        let (manager, _clock) = managed();
        let pass = manager.add("a", PASS).begin_pass().unwrap();
        let (mut one, mut other) = (destroy(&manager), destroy(&manager));
        assert!(one.is_pending() && other.is_pending());
        drop(pass);
        assert_eq!(one.ready(), Ok(()));
        let later = manager.add("a", PASS);
        assert_eq!(other.ready(), Ok(()));
        assert!(manager.shutdown_blocking().gates.contains_key("a"));
        assert_eq!(later.pass(|| ()), Err(crate::PassRefused::Closed));
    });
}

fn destroy(manager: &Manager<Key>) -> Steps<'_, crate::Result<()>> {
    Steps::new(manager.end(manager.time(&Timer::Nobody), "a"))
}

#[test]
fn stop_is_prompt_and_destroy_joins() {
    within_seconds(5, || {
        let (manager, _clock) = managed();
        let gate = manager.add("a", PASS);
        let mut wedge = Wedge::new();
        wedge.start(manager.registry(), "a", WorkerConfig::default());
        let pass = gate.begin_pass().unwrap();
        assert!(manager.stop("a"));
        assert!(wedge.is_cancelled() && gate.is_busy() && manager.registry().any_alive_for("a"));
        let mut ending = destroy(&manager);
        assert!(ending.is_pending());
        wedge.let_go();
        until(|| !manager.registry().any_alive());
        assert!(ending.is_pending(), "the pass is not over");
        drop(pass);
        assert_eq!(ending.ready(), Ok(()));
        assert!(manager.gate("a").is_none() && gate.is_closed());
    });
}

#[test]
#[cfg(feature = "tokio")]
fn runtime_may_go_right_after_a_clean_shutdown() {
    within_seconds(5, || {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let registry: Registry<Key> = Registry::new();
        let (go, hold) = mpsc::channel::<()>();
        runtime.block_on(async {
            let body = move |token: CancelToken, runtime: tokio::runtime::Handle| {
                token.wait();
                let _ = hold.recv();
                // Needs the runtime until the end.
                runtime.block_on(async { tokio::time::sleep(Duration::from_millis(1)).await });
            };
            started(registry.start_thread_with_runtime("thread", weight(1), body).await);
            let task = |token: CancelToken| async move { token.cancelled().await };
            started(registry.start_task("task", weight(0), task));
            // The thread goes on when the shutdown waits for it.
            let tier = registry.shared();
            let joining_second = Arc::clone(tier);
            tier.probes.arm("joining", move || joining_second.probes.arm("joining", move || drop(go)));
            let report = registry.shutdown().await;
            assert!(report.all_clean(), "{report}");
        });
        assert!(!registry.any_alive());
        drop(runtime);
        let outcome = registry.start_task("task", WorkerConfig::default(), |_| async {});
        assert!(matches!(outcome, StartOutcome::WrongRuntime));
        assert!(logged(|| drop(registry)).is_empty());
    });
}

#[test]
#[cfg(feature = "tokio")]
fn tasks_alone_shut_down_on_one_thread() {
    within_seconds(5, || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let registry: Registry<Key> = Registry::new();
            for key in ["a", "b"] {
                let task = |token: CancelToken| async move { token.cancelled().await };
                started(registry.start_task(key, WorkerConfig::default(), task));
            }
            let refused = registry.start_thread_with_runtime("c", WorkerConfig::default(), |_, _| ());
            assert!(matches!(refused.await, StartOutcome::WrongRuntime));
            let report = registry.shutdown().await;
            assert!(report.all_clean());
            assert_eq!(report.per_worker.len(), 2);
        });
    });
}

#[test]
fn dropped_registry_cancels_and_logs() {
    within_seconds(5, || {
        let (registry, _clock) = by_hand();
        let mut wedge = Wedge::new();
        wedge.start(&registry, "a", WorkerConfig::default());
        let table = Arc::downgrade(registry.shared());
        let lines = logged(|| drop(registry));
        assert!(lines.contains("ERROR") && lines.contains("[\"a\"]"), "{lines}");
        assert!(wedge.is_cancelled());
        assert!(table.upgrade().is_none(), "a worker keeps the registry alive");
        wedge.let_go();
        // Nobody alive, nothing to say.
        let (registry, _clock) = by_hand();
        assert!(registry.shutdown_blocking().all_clean());
        assert!(logged(|| drop(registry)).is_empty());
    });
}

#[test]
fn abort_notice_is_given_once_and_in_abort_builds_only() {
    let given = Once::new();
    let registries = |aborts| logged(|| (0..3).for_each(|_| crate::abort::notice(aborts, &given)));
    assert_eq!(registries(false), "");
    let lines = registries(true);
    assert_eq!(lines.lines().count(), 1, "{lines}");
    assert!(lines.contains("WARN"));
    // This build unwinds.
    assert_eq!(logged(|| drop(Registry::<Key>::new())), "");
}
