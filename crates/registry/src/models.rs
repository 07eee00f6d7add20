//! The races that a few runs cannot exclude, tried in every interleaving and with every value a weak memory may show:
//!
//! ```text
//! RUSTFLAGS="--cfg loom" cargo test -p icecore-registry --lib --release loom
//! ```
//!
//! The code under test is the crate's own; only its locks, atomics and fences are the model checker's, and a worker is an
//! exit cell instead of a thread of the system.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Wake, Waker},
    time::Duration,
};

use loom::thread;

use crate::{
    CancelToken, ManualClock, PassGate, Registry, RegistryConfig, StartOutcome, WorkerConfig,
    shared::Shared,
    wait::{Time, Timer},
    worker::Handle,
};

fn shared() -> Registry<u8> {
    let clock = Arc::new(ManualClock::new());
    Registry::with(RegistryConfig { orphan_grace: Duration::ZERO, clock })
}

/// Starts a worker that is nothing but an exit cell.
fn launch(shared: &Arc<Shared<u8>>) -> StartOutcome {
    shared.launch(1, WorkerConfig::default(), |birth| Ok(Handle::Model(birth.exit))).0
}

/// A pass that works, and a teardown by `tear_down` that saw no pass: never both.
fn misses_neither<G: Send + 'static>(tear_down: fn(&PassGate) -> G) {
    loom::model(move || {
        let gate = PassGate::new();
        let passing = gate.clone();
        let pass = thread::spawn(move || passing.begin_pass());
        let _held = tear_down(&gate);
        let seen = gate.is_busy();
        let pass = pass.join().unwrap();
        assert!(seen || pass.is_err(), "a pass works, and the teardown saw none");
    });
}

#[test]
fn loom_hold_and_pass_miss_neither() {
    misses_neither(PassGate::hold);
}

#[test]
fn loom_close_and_pass_miss_neither() {
    misses_neither(PassGate::close);
}

/// Whether it was woken.
#[derive(Default)]
struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

#[test]
fn loom_drain_is_woken_by_the_end_of_a_pass() {
    loom::model(|| {
        let gate = PassGate::new();
        let pass = gate.begin_pass().unwrap();
        let _held = gate.hold();
        let ending = thread::spawn(move || drop(pass));
        let clock = ManualClock::new();
        let woken = Arc::new(Flag::default());
        let waker = Waker::from(Arc::clone(&woken));
        let mut drain = Box::pin(gate.drain(Time { clock: &clock, timer: &Timer::Nobody }, None));
        let first = drain.as_mut().poll(&mut Context::from_waker(&waker));
        ending.join().unwrap();
        assert!(first.is_ready() || woken.0.load(Ordering::SeqCst), "nobody wakes the drain");
        assert!(first.is_ready() || drain.as_mut().poll(&mut Context::from_waker(&waker)).is_ready());
    });
}

#[test]
fn loom_start_is_seen_by_the_shutdown_or_refused() {
    loom::model(|| {
        let registry = shared();
        let starting = Arc::clone(registry.shared());
        let start = thread::spawn(move || launch(&starting));
        registry.shared().close();
        let seen = registry.shared().table().next_tier(None);
        match start.join().unwrap() {
            StartOutcome::Started(_) => assert_eq!(seen, [1]),
            outcome => assert!(matches!(outcome, StartOutcome::Closing) && seen.is_empty()),
        }
    });
}

#[test]
fn loom_start_is_seen_by_the_clear_or_refused() {
    loom::model(|| {
        let registry = shared();
        let starting = Arc::clone(registry.shared());
        let start = thread::spawn(move || launch(&starting));
        let latch = registry.hold_clearing(1);
        let alive = registry.any_alive_for(1);
        match start.join().unwrap() {
            StartOutcome::Started(_) => assert!(alive, "wiped under a worker"),
            outcome => assert!(matches!(outcome, StartOutcome::Clearing) && !alive),
        }
        drop(latch);
    });
}

#[test]
fn loom_late_exit_leaves_the_new_worker_running() {
    loom::model(|| {
        let registry = shared();
        assert!(launch(registry.shared()).is_started());
        registry.cancel(1);
        let exiting = Arc::clone(registry.shared());
        let exit = thread::spawn(move || exiting.ended(1, 1));
        assert!(matches!(launch(registry.shared()), StartOutcome::Started(2)));
        exit.join().unwrap();
        assert!(registry.is_running(1));
    });
}

#[test]
fn loom_cancel_wakes_who_waits_for_it() {
    loom::model(|| {
        let token = CancelToken::new();
        let cancelling = token.clone();
        let cancel = thread::spawn(move || cancelling.cancel());
        let woken = Arc::new(Flag::default());
        let waker = Waker::from(Arc::clone(&woken));
        let mut cancelled = Box::pin(token.cancelled());
        let first = cancelled.as_mut().poll(&mut Context::from_waker(&waker));
        cancel.join().unwrap();
        assert!(first.is_ready() || woken.0.load(Ordering::SeqCst), "nobody wakes the worker");
    });
}
