//! Races 23–28, 30–34, 36: gates and the passes through them.

use super::*;
use crate::{ComponentStatus, DrainHook, GateStatus, Manager, PassGate, PassRefused, manager::Asker};

pub(super) fn managed() -> (Arc<Manager<Key>>, ManualClock) {
    let clock = ManualClock::new();
    let config = RegistryConfig { orphan_grace: GRACE, clock: Arc::new(clock.clone()) };
    (Arc::new(Manager::new(Registry::with(config))), clock)
}

pub(super) fn rest(manager: &Manager<Key>, key: Key) -> Steps<'_, ComponentStatus> {
    Steps::new(manager.rest(manager.time(&Timer::Nobody), key, None, Asker::Anybody))
}

pub(super) fn shutdown_all(manager: &Manager<Key>) -> Steps<'_, ShutdownReport<Key>> {
    Steps::new(manager.shut_down(manager.time(&Timer::Nobody)))
}

fn clean() -> ComponentStatus {
    ComponentStatus { worker: WorkerStatus::NotRunning, gate: GateStatus::Drained }
}

#[test]
fn gate_holds_compose() {
    let gate = PassGate::new();
    let (one, other) = (gate.hold(), gate.hold());
    drop(one);
    assert!(gate.is_raised());
    assert_eq!(gate.begin_pass().unwrap_err(), PassRefused::Gated);
    drop(other);
    let pass = gate.begin_pass().unwrap();
    assert_eq!(gate.begin_pass().unwrap_err(), PassRefused::Busy);
    drop(pass);
    assert_eq!(gate.pass(|| 7), Ok(7));
}

/// A worker whose drain hook raises the gate once `drained` is up, and returns the guard.
fn raising(gate: &PassGate, drained: &Arc<AtomicBool>) -> WorkerConfig {
    let (gate, drained) = (gate.clone(), Arc::clone(drained));
    let hook = DrainHook::new(move || {
        let (gate, drained) = (gate.clone(), Arc::clone(&drained));
        std::future::poll_fn(move |_| {
            if drained.load(Ordering::SeqCst) { Poll::Ready(gate.hold()) } else { Poll::Pending }
        })
    });
    WorkerConfig { drain: Some(hook), ..WorkerConfig::default() }
}

#[test]
fn dropped_quiesce_lowers_what_its_hook_raised() {
    within_seconds(5, || {
        let (registry, _clock) = by_hand();
        let gate = PassGate::new();
        let mut wedge = Wedge::new();
        wedge.start(&registry, "a", raising(&gate, &Arc::new(AtomicBool::new(true))));
        let mut waiting = quiesce(&registry, "a");
        assert!(waiting.is_pending());
        assert!(gate.is_raised() && wedge.is_cancelled());
        drop(waiting);
        assert!(!gate.is_raised());
        assert_eq!(gate.pass(|| 7), Ok(7));
    });
}

#[test]
fn superseded_quiesce_lowers_what_its_hook_raised() {
    within_seconds(5, || {
        let (registry, _clock) = by_hand();
        let (gate, drained) = (PassGate::new(), Arc::new(AtomicBool::new(false)));
        // Superseded by a restart.
        let (mut old, mut new) = (Wedge::new(), Wedge::new());
        old.start(&registry, "a", raising(&gate, &drained));
        let mut waiting = quiesce(&registry, "a");
        assert!(waiting.is_pending());
        registry.cancel("a");
        new.start(&registry, "a", WorkerConfig::default());
        drained.store(true, Ordering::SeqCst);
        assert_eq!(waiting.ready(), WorkerStatus::Superseded);
        assert!(!gate.is_raised());

        // Joined by somebody else meanwhile.
        drained.store(false, Ordering::SeqCst);
        started(registry.start_thread("b", raising(&gate, &drained), |_| ()));
        until(|| !registry.is_running("b"));
        let (mut one, mut other) = (quiesce(&registry, "b"), quiesce(&registry, "b"));
        assert!(one.is_pending() && other.is_pending());
        drained.store(true, Ordering::SeqCst);
        assert_eq!((one.ready(), other.ready()), (WorkerStatus::Ok, WorkerStatus::Ok));
        assert!(!gate.is_raised());
        assert_eq!(gate.pass(|| 7), Ok(7));
    });
}

#[test]
fn shutdown_raises_the_gates_first() {
    within_seconds(5, || {
        let (manager, _clock) = managed();
        let gate = manager.add("a", PASS);
        // A plain worker that ends before any component.
        let mut wedge = Wedge::new();
        wedge.start(manager.registry(), "first", weight(-1));
        let mut ending = shutdown_all(&manager);
        assert!(ending.is_pending());
        let mut work_done = 0;
        assert_eq!(gate.pass(|| work_done += 1), Err(PassRefused::Closed));
        assert_eq!(work_done, 0);
        wedge.let_go();
        until(|| !manager.registry().any_alive());
        assert!(ending.ready().all_clean());
    });
}

#[test]
fn gates_and_latch_leave_no_gap() {
    within_seconds(5, || {
        let (manager, _clock) = managed();
        let gate = manager.add("a", PASS);
        let (tell, told) = mpsc::channel();
        let inside = Arc::downgrade(&manager);
        manager.registry().shared().probes.arm("components_rested", move || {
            let manager = inside.upgrade().unwrap();
            let start = manager.registry().start_thread("a", WorkerConfig::default(), |_| ());
            tell.send((gate.begin_pass().map(drop), start)).unwrap();
        });
        let report = manager.shutdown_blocking();
        let (pass, start) = told.recv().unwrap();
        assert_eq!(pass, Err(PassRefused::Closed));
        assert!(matches!(start, StartOutcome::Closing), "{start:?}");
        assert!(report.all_clean());
    });
}

#[test]
fn gate_is_up_until_the_report() {
    within_seconds(5, || {
        let (manager, clock) = managed();
        let gate = manager.add("a", PASS);
        let refused = || assert_eq!(gate.begin_pass().unwrap_err(), PassRefused::Closed);
        let mut sink = Wedge::new();
        sink.start(manager.registry(), "sink", weight(10));
        let mut ending = shutdown_all(&manager);
        assert!(ending.is_pending());
        assert!(sink.is_cancelled(), "the shutdown joins the sink");
        assert!(gate.is_raised());
        refused();
        clock.advance(BUDGET);
        assert!(ending.is_pending(), "the shutdown reaps the sink, now an orphan");
        assert!(gate.is_raised());
        refused();
        clock.advance(GRACE);
        assert_eq!(ending.ready().detached, 1);
        refused();
    });
}

#[test]
fn pass_after_shutdown_is_refused_for_good() {
    within_seconds(5, || {
        let (manager, _clock) = managed();
        let gate = manager.add("a", PASS);
        let report = manager.shutdown_blocking();
        assert!(report.all_clean());
        assert_eq!(report.gates["a"], GateStatus::Drained);
        assert_eq!(gate.begin_pass().unwrap_err(), PassRefused::Closed);
        // Later components are born closed.
        assert_eq!(manager.add("b", PASS).pass(|| ()), Err(PassRefused::Closed));
        // To wipe is to persist.
        let cleared = manager.clear_blocking("a", HOUR, || panic!("wiped after the shutdown"));
        assert_eq!(cleared, Err(PassRefused::Closed.into()));
    });
}

#[test]
fn quiesce_waits_for_a_direct_pass() {
    within_seconds(5, || {
        let (manager, _clock) = managed();
        let gate = manager.add("a", PASS);
        let pass = gate.begin_pass().unwrap();
        let mut waiting = rest(&manager, "a");
        assert!(waiting.is_pending());
        drop(pass);
        assert_eq!(gate.begin_pass().unwrap_err(), PassRefused::Gated);
        assert_eq!(waiting.ready(), clean());
        assert_eq!(gate.pass(|| 7), Ok(7));
    });
}

#[test]
fn panicking_pass_ends() {
    within_seconds(5, || {
        let (manager, _clock) = managed();
        let gate = manager.add("a", PASS);
        let pass = || gate.pass(|| panic!("in a pass"));
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(pass)).unwrap_err();
        assert!(!gate.is_busy());
        assert_eq!(manager.quiesce_blocking("a"), clean());
        assert_eq!(gate.pass(|| 7), Ok(7));
    });
}

#[test]
fn wedged_direct_pass_is_in_the_report() {
    within_seconds(5, || {
        let (manager, clock) = managed();
        let _pass = manager.add("a", PASS).begin_pass().unwrap();
        let mut ending = shutdown_all(&manager);
        assert!(ending.is_pending());
        clock.advance(PASS);
        let report = ending.ready();
        assert_eq!(report.gates["a"], GateStatus::PassTimeout);
        assert!(!report.all_clean());
        assert!(report.require_clean().unwrap_err().to_string().contains("gate \"a\""));
    });
}

#[test]
fn pass_is_drained_after_a_panicked_loop() {
    within_seconds(5, || {
        let (manager, clock) = managed();
        let gate = manager.add("a", PASS);
        let panicked = |gate_status| ComponentStatus {
            worker: WorkerStatus::Panicked("in the loop".to_owned()),
            gate: gate_status,
        };
        let start_and_panic = || {
            started(
                manager
                    .registry()
                    .start_thread("a", WorkerConfig::default(), |_| -> () { panic!("in the loop") }),
            );
            until(|| !manager.registry().is_running("a"));
        };
        // Another thread's pass is waited for …
        start_and_panic();
        let pass = gate.begin_pass().unwrap();
        let mut waiting = rest(&manager, "a");
        assert!(waiting.is_pending());
        drop(pass);
        assert_eq!(waiting.ready(), panicked(GateStatus::Drained));
        // … but not for ever.
        start_and_panic();
        let _pass = gate.begin_pass().unwrap();
        let mut waiting = rest(&manager, "a");
        assert!(waiting.is_pending());
        clock.advance(PASS);
        assert_eq!(waiting.ready(), panicked(GateStatus::PassTimeout));
    });
}

#[test]
fn handshake_misses_neither_side() {
    let gate = PassGate::new();
    let (tell, told) = mpsc::channel();
    let teardown = gate.clone();
    // A whole teardown between a pass's two steps.
    gate.probes().arm("between_claim_and_look", move || {
        let held = teardown.hold();
        tell.send((teardown.is_busy(), held)).unwrap();
    });
    let pass = gate.begin_pass();
    let (seen_by_teardown, held) = told.recv().unwrap();
    assert!(seen_by_teardown || pass.is_err(), "a pass works, and the teardown saw none");
    assert_eq!(pass.unwrap_err(), PassRefused::Gated);
    assert!(!gate.is_busy());
    // Who is refused anyway is no pass that a teardown would have to wait for.
    gate.probes().arm("between_claim_and_look", || panic!("it claims"));
    assert_eq!(gate.begin_pass().unwrap_err(), PassRefused::Gated);
    gate.probes().arm("between_claim_and_look", || ());
    drop(held);
    assert_eq!(gate.pass(|| 7), Ok(7));
}

/// Everything that lets somebody persist: each goes through the gate. Whoever adds one adds it here.
#[test]
fn every_entry_point_asks_the_gate() {
    type Entry = fn(&Manager<Key>) -> crate::Result<()>;
    let entries: [(&str, Entry); 3] = [
        ("PassGate::begin_pass", |manager| Ok(manager.gate("a").unwrap().begin_pass().map(drop)?)),
        ("PassGate::pass", |manager| Ok(manager.gate("a").unwrap().pass(|| ())?)),
        ("a clone of the gate", |manager| Ok(manager.add("a", PASS).pass(|| ())?)),
    ];
    for (name, entry) in entries {
        let (manager, _clock) = managed();
        let gate = manager.add("a", PASS);
        assert_eq!(entry(&manager), Ok(()), "{name}");
        let held = gate.hold();
        assert_eq!(entry(&manager), Err(PassRefused::Gated.into()), "{name}");
        drop(held);
        gate.close();
        assert_eq!(entry(&manager), Err(PassRefused::Closed.into()), "{name}");
    }
}
