//! Races 1–3, 12–14, 16, 17, and who waits beside them: no timeout, no dropped future and no late comer takes a handle away from the registry.

use super::*;
use crate::{
    signal::Signal,
    wait::{Look, wait},
};

#[test]
fn dropped_quiesce_keeps_the_handle() {
    within_seconds(5, || {
        let (registry, _clock) = by_hand();
        let mut wedge = Wedge::new();
        wedge.start(&registry, "a", WorkerConfig::default());
        let mut waiting = quiesce(&registry, "a");
        assert!(waiting.is_pending());
        drop(waiting);
        assert!(registry.any_alive() && registry.any_alive_for("a") && !registry.is_running("a"));
        assert_eq!(registry.orphan_count(), 1);
        wedge.let_go();
        assert_eq!(registry.reap_orphans_blocking(HOUR), [("a", WorkerStatus::Ok)]);
        assert!(!registry.any_alive());
        assert_eq!(registry.orphan_count(), 0);
    });
}

#[test]
fn budget_timeout_parks_the_worker() {
    within_seconds(5, || {
        let (registry, clock) = by_hand();
        let mut wedge = Wedge::new();
        wedge.start(&registry, "a", WorkerConfig::default());
        let mut waiting = quiesce(&registry, "a");
        assert!(waiting.is_pending());
        clock.advance(BUDGET - Duration::from_nanos(1));
        assert!(waiting.is_pending());
        clock.advance(Duration::from_nanos(1));
        assert_eq!(waiting.ready(), WorkerStatus::Timeout);
        assert!(wedge.is_cancelled() && registry.any_alive_for("a"));
        assert_eq!(registry.orphan_count(), 1);
        wedge.let_go();
        assert_eq!(registry.reap_orphans_blocking(HOUR), [("a", WorkerStatus::Ok)]);
    });
}

#[test]
fn timeout_is_in_the_report() {
    within_seconds(5, || {
        let (registry, clock) = with_grace(GRACE);
        let mut wedge = Wedge::new();
        wedge.start(&registry, "a", WorkerConfig::default());
        let mut ending = shutdown(&registry);
        assert!(ending.is_pending());
        clock.advance(BUDGET);
        assert!(ending.is_pending(), "the orphans have their grace");
        clock.advance(GRACE);
        let report = ending.ready();
        assert_eq!(report.per_worker["a"], WorkerStatus::Timeout);
        assert_eq!((report.detached, report.elapsed), (1, BUDGET + GRACE));
        assert_eq!(report.orphan_status, [("a", WorkerStatus::Detached)]);
        assert!(!report.all_clean());
        assert!(report.require_clean().unwrap_err().to_string().contains("\"a\": did not end"));
    });
}

#[test]
fn second_quiesce_says_detached() {
    within_seconds(5, || {
        let (registry, clock) = by_hand();
        let mut wedge = Wedge::new();
        wedge.start(&registry, "a", WorkerConfig::default());
        let mut first = quiesce(&registry, "a");
        assert!(first.is_pending());
        clock.advance(BUDGET);
        assert_eq!(first.ready(), WorkerStatus::Timeout);
        let second = registry.quiesce_blocking("a");
        assert_eq!(second, WorkerStatus::Detached);
        assert!(!second.is_clean());
        wedge.let_go();
        registry.reap_orphans_blocking(HOUR);
        assert_eq!(registry.quiesce_blocking("a"), WorkerStatus::NotRunning);
    });
}

#[test]
fn dropped_reap_keeps_the_handles() {
    within_seconds(5, || {
        let (registry, _clock) = by_hand();
        let mut wedge = orphan(&registry, "a");
        let mut reaping = reap(&registry);
        assert!(reaping.is_pending());
        drop(reaping);
        assert!(registry.any_alive_for("a"));
        assert_eq!(registry.orphan_count(), 1);
        wedge.let_go();
        assert_eq!(registry.reap_orphans_blocking(HOUR), [("a", WorkerStatus::Ok)]);
    });
}

#[test]
fn orphans_are_alive_while_they_are_reaped() {
    within_seconds(5, || {
        let (registry, clock) = by_hand();
        let _wedge = orphan(&registry, "a");
        let mut reaping = reap(&registry);
        assert!(reaping.is_pending());
        assert!(registry.any_alive_for("a") && registry.any_alive());
        assert!(!registry.any_alive_for("b"));
        assert_eq!(registry.quiesce_blocking("a"), WorkerStatus::Detached);
        clock.advance(GRACE);
        assert_eq!(reaping.ready(), [("a", WorkerStatus::Detached)]);
        assert!(registry.any_alive_for("a"));
    });
}

#[test]
fn panicked_orphan_makes_the_report_unclean() {
    within_seconds(5, || {
        let (registry, _clock) = with_grace(GRACE);
        let (go, hold) = mpsc::channel::<()>();
        started(registry.start_thread("a", WorkerConfig::default(), move |_| -> () {
            let _ = hold.recv();
            panic!("too late to matter?");
        }));
        let mut waiting = quiesce(&registry, "a");
        assert!(waiting.is_pending());
        drop(waiting);
        drop(go);
        until(|| !registry.any_alive());
        let report = registry.shutdown_blocking();
        assert_eq!(report.per_worker["a"], WorkerStatus::NotRunning);
        assert_eq!(report.orphan_status, [("a", WorkerStatus::Panicked("too late to matter?".to_owned()))]);
        assert_eq!(report.detached, 0);
        assert!(!report.all_clean());
        assert!(report.require_clean().is_err());
    });
}

#[test]
fn late_registration_is_in_the_report() {
    for ends_in_time in [true, false] {
        within_seconds(5, move || {
            let (registry, _clock) = by_hand();
            let (go, hold) = mpsc::channel::<()>();
            let late = Arc::downgrade(&registry);
            let keep = Arc::new(Mutex::new(Some(go)));
            let go = Arc::clone(&keep);
            registry.shared().probes.arm("reaped", move || {
                let thread = thread::spawn(move || {
                    let _ = hold.recv();
                });
                if ends_in_time {
                    go.lock().unwrap().take();
                    until(|| thread.is_finished());
                }
                let outcome =
                    late.upgrade().unwrap().register_thread("late", WorkerConfig::default(), thread);
                assert!(matches!(outcome, StartOutcome::Closing));
            });
            let report = registry.shutdown_blocking();
            let status = if ends_in_time { WorkerStatus::Ok } else { WorkerStatus::Detached };
            assert_eq!(report.orphan_status, [("late", status)]);
            assert_eq!(report.detached, usize::from(!ends_in_time));
            assert_eq!(registry.any_alive_for("late"), !ends_in_time);
            assert!(!registry.is_running("late"));
            drop(keep);
        });
    }
}

#[test]
fn quiesce_of_a_worker_given_up_on_tells_how_it_ended() {
    within_seconds(5, || {
        let (registry, _clock) = by_hand();
        started(registry.start_thread("a", WorkerConfig::default(), |_| ()));
        assert_eq!(registry.quiesce_blocking("a"), WorkerStatus::Ok);
        let (go, hold) = mpsc::channel::<()>();
        started(registry.start_thread("a", WorkerConfig::default(), move |_| -> () {
            let _ = hold.recv();
            panic!("not as well as the first");
        }));
        let (mut one, mut other) = (quiesce(&registry, "a"), quiesce(&registry, "a"));
        assert!(one.is_pending() && other.is_pending());
        drop(one);
        drop(go);
        until(|| !registry.any_alive());
        assert_eq!(other.ready(), WorkerStatus::Panicked("not as well as the first".to_owned()));
        assert_eq!(registry.orphan_count(), 0);
    });
}

#[test]
fn thread_of_others_is_looked_at_whatever_the_clock() {
    within_seconds(5, || {
        let (registry, _clock) = by_hand();
        let other = Arc::clone(&registry);
        let foreign = thread::spawn(move || {
            until(|| other.snapshot().iter().any(|info| info.state == crate::WorkerState::Stopping));
        });
        started(registry.register_thread("a", WorkerConfig::default(), foreign));
        assert_eq!(registry.quiesce_blocking("a"), WorkerStatus::Ok);
    });
}

#[test]
fn change_right_after_a_look_wakes_the_waiter() {
    #[derive(Default)]
    struct Flag(AtomicBool);
    impl std::task::Wake for Flag {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Ordering::SeqCst);
        }
    }
    let (signal, clock, woken) = (Signal::default(), ManualClock::new(), Arc::new(Flag::default()));
    let time = Time { clock: &clock, timer: &Timer::Nobody };
    let look = || {
        signal.wake_all();
        Look::<()>::Later
    };
    let mut waiting = Box::pin(wait(&signal, time, None, look));
    let waker = Waker::from(Arc::clone(&woken));
    assert!(waiting.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    assert!(woken.0.load(Ordering::SeqCst), "it looked before the change, and nobody tells it");
}
