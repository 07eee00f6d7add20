//! Workers as threads, seen from outside: nothing here needs a runtime.

use std::{
    panic::catch_unwind,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use icecore_registry::{
    CancelToken, DEFAULT_PASS_BUDGET, DrainHook, Error, GateStatus, Manager, ManualClock, Registry,
    RegistryConfig, Sink, StartOutcome, WorkerConfig, WorkerState, WorkerStatus,
};

fn until_cancelled(token: CancelToken) {
    token.wait();
}

#[test]
fn defaults_are_as_documented() {
    let WorkerConfig { weight, join_budget, drain, stack_size } = WorkerConfig::default();
    assert_eq!((weight, join_budget, stack_size), (0, Duration::from_secs(30), None));
    assert!(drain.is_none());
    assert_eq!(RegistryConfig::default().orphan_grace, Duration::from_secs(1));
    assert_eq!(DEFAULT_PASS_BUDGET, Duration::from_secs(10));
}

#[test]
fn a_worker_ends_as_its_body_says() {
    let registry = Registry::new();
    let config = WorkerConfig::default;
    assert!(registry.start_thread("fine", config(), |_| ()).is_started());
    assert!(registry.start_thread("fine too", config(), |_| Ok::<(), String>(())).is_started());
    assert!(registry.start_thread("failed", config(), |_| Err("no disk")).is_started());
    assert!(registry.start_thread("panicked", config(), |_| -> () { panic!("at {}", 7) }).is_started());
    let odd = |_| -> () { std::panic::panic_any(7_u8) };
    assert!(registry.start_thread("odd", config(), odd).is_started());
    let report = registry.shutdown_blocking();
    assert_eq!(report.per_worker["fine"], WorkerStatus::Ok);
    assert_eq!(report.per_worker["fine too"], WorkerStatus::Ok);
    assert_eq!(report.per_worker["failed"], WorkerStatus::Error("no disk".to_owned()));
    assert_eq!(report.per_worker["panicked"], WorkerStatus::Panicked("at 7".to_owned()));
    assert_eq!(report.per_worker["odd"], WorkerStatus::Panicked("a value that is not text".to_owned()));
    let Err(Error::Unclean { causes }) = report.require_clean() else { panic!("clean?") };
    assert_eq!(causes.len(), 3, "{causes:?}");
    assert_eq!(causes[0], "\"failed\": error: no disk");
}

#[test]
fn thread_has_its_keys_name_and_its_stack() {
    let registry = Registry::new();
    let (tell, told) = mpsc::channel();
    let body = move |_| {
        let mut large = [0_u8; 3 << 20];
        large[1 << 20] = 1;
        let used = std::hint::black_box(&large).iter().map(|byte| u32::from(*byte)).sum::<u32>();
        tell.send((thread::current().name().map(str::to_owned), used)).unwrap();
    };
    let config = WorkerConfig { stack_size: Some(8 << 20), ..WorkerConfig::default() };
    assert!(registry.start_thread("with\0nul", config, body).is_started());
    assert_eq!(told.recv().unwrap(), (Some("\"with\\0nul\"".to_owned()), 1));
    assert!(registry.shutdown_blocking().all_clean());
}

#[test]
fn hook_comes_before_the_order_to_end() {
    let registry = Arc::new(Registry::new());
    let token = Arc::new(Mutex::new(None::<CancelToken>));
    let seen = Arc::new(Mutex::new(Vec::new()));
    let (given, order) = (Arc::clone(&token), Arc::clone(&seen));
    let drain = DrainHook::new(move || {
        let cancelled = given.lock().unwrap().as_ref().is_some_and(CancelToken::is_cancelled);
        order.lock().unwrap().push(cancelled);
        async {}
    });
    let (tell, told) = mpsc::channel();
    let slot = Arc::clone(&token);
    let body = move |token: CancelToken| {
        *slot.lock().unwrap() = Some(token.clone());
        tell.send(()).unwrap();
        token.wait();
    };
    let config = WorkerConfig { drain: Some(drain), ..WorkerConfig::default() };
    assert!(registry.start_thread(1, config, body).is_started());
    told.recv().unwrap();
    assert_eq!(registry.quiesce_blocking(1), WorkerStatus::Ok);
    assert_eq!(*seen.lock().unwrap(), [false]);
}

#[test]
fn hook_that_fails_or_hangs_is_told_and_the_worker_ends_all_the_same() {
    let registry = Registry::new();
    let panics = DrainHook::new(|| async { panic!("cannot drain") });
    let config = WorkerConfig { drain: Some(panics), ..WorkerConfig::default() };
    assert!(registry.start_thread("panics", config, until_cancelled).is_started());
    let hangs = DrainHook::new(std::future::pending::<()>);
    let config =
        WorkerConfig { drain: Some(hangs), join_budget: Duration::from_millis(1), ..WorkerConfig::default() };
    assert!(registry.start_thread("hangs", config, |_| ()).is_started());
    while registry.is_running("hangs") {
        thread::yield_now();
    }
    let report = registry.shutdown_blocking();
    assert_eq!(
        report.per_worker["panics"],
        WorkerStatus::Error("its drain hook panicked: cannot drain".to_owned())
    );
    assert_eq!(
        report.per_worker["hangs"],
        WorkerStatus::Error("its drain hook did not end within its budget".to_owned())
    );
    assert!(!registry.any_alive());
}

#[test]
fn threads_of_others_are_joined_and_reported() {
    let registry = Registry::new();
    let stop = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&stop);
    let foreign = thread::spawn(move || {
        while !flag.load(Ordering::Acquire) {
            thread::yield_now();
        }
    });
    assert!(registry.register_thread("foreign", WorkerConfig::default(), foreign).is_started());
    assert!(registry.is_running("foreign") && registry.any_alive_for("foreign"));
    assert!(matches!(
        registry.start_thread("foreign", WorkerConfig::default(), until_cancelled),
        StartOutcome::AlreadyRunning
    ));
    assert_eq!(registry.snapshot()[0].state, WorkerState::Running);
    stop.store(true, Ordering::Release);
    // Nobody signals its end: this is the coarse poll.
    assert_eq!(registry.quiesce_blocking("foreign"), WorkerStatus::Ok);

    let broken = thread::spawn(|| panic!("over there"));
    assert!(registry.register_thread("foreign", WorkerConfig::default(), broken).is_started());
    let report = registry.shutdown_blocking();
    assert_eq!(report.per_worker["foreign"], WorkerStatus::Panicked("over there".to_owned()));

    // Too late, but alive: kept, and joined by a reap.
    let late = thread::spawn(|| ());
    assert!(matches!(registry.register_thread("late", WorkerConfig::default(), late), StartOutcome::Closing));
    assert_eq!(registry.orphan_count(), 1);
    let reaped = registry.reap_orphans_blocking(Duration::from_secs(60));
    assert_eq!(reaped, [("late", WorkerStatus::Ok)]);
}

#[test]
fn snapshot_tells_who_runs() {
    let clock = ManualClock::new();
    let config = RegistryConfig { orphan_grace: Duration::ZERO, clock: Arc::new(clock.clone()) };
    let registry = Registry::with(config);
    let (go, hold) = mpsc::channel::<()>();
    let wedged = move |_| {
        let _ = hold.recv();
    };
    let weight = |weight| WorkerConfig { weight, ..WorkerConfig::default() };
    assert!(registry.start_thread("a", weight(3), wedged).is_started());
    clock.advance(Duration::from_secs(5));
    let all = registry.snapshot();
    let seen = (all[0].key, all[0].generation, all[0].state.clone(), all[0].weight, all[0].age);
    assert_eq!(seen, ("a", 1, WorkerState::Running, 3, Duration::from_secs(5)));
    assert!(registry.cancel("a"));
    assert!(!registry.cancel("a"), "it was told already");
    assert_eq!(registry.snapshot()[0].state, WorkerState::Stopping);
    assert!(registry.start_thread("a", weight(4), |_| Err("full")).is_started());
    while registry.is_running("a") {
        thread::yield_now();
    }
    let states: Vec<_> = registry.snapshot().into_iter().map(|info| (info.generation, info.state)).collect();
    let ended = WorkerState::Ended(Some(WorkerStatus::Error("full".to_owned())));
    assert_eq!(states, [(1, WorkerState::Orphaned), (2, ended)]);
    drop(go);
    assert_eq!(registry.reap_orphans_blocking(Duration::from_secs(1)), [("a", WorkerStatus::Ok)]);
    assert!(!registry.shutdown_blocking().all_clean());
    assert!(registry.snapshot().is_empty());
}

#[test]
fn token_wakes_who_sleeps() {
    let token = CancelToken::new();
    assert!(!token.wait_timeout(Duration::from_millis(1)));
    let (sleeper, other) = (token.clone(), token.clone());
    let threads = [
        thread::spawn(move || sleeper.wait_timeout(Duration::from_secs(3600))),
        thread::spawn(move || {
            other.wait();
            true
        }),
    ];
    token.cancel();
    assert!(threads.into_iter().all(|thread| thread.join().unwrap()));
    assert!(token.wait_timeout(Duration::ZERO));
}

#[test]
fn sink_whose_store_panics_takes_no_more() {
    let sink = Arc::new(Sink::new());
    sink.send(1).unwrap();
    let consumer = Arc::clone(&sink);
    let run = move || consumer.run(&CancelToken::new(), |event: i32| panic!("cannot store {event}"));
    catch_unwind(std::panic::AssertUnwindSafe(run)).unwrap_err();
    assert_eq!(sink.send(2), Err(2));
}

#[test]
fn components_are_cleared_one_clear_at_a_time() {
    let manager = Manager::new(Registry::new());
    let gate = manager.add("rows", DEFAULT_PASS_BUDGET);
    let (budget, rows) = (Duration::from_secs(60), Mutex::new(3));
    assert!(manager.registry().start_thread("rows", WorkerConfig::default(), until_cancelled).is_started());
    let wiping = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let wiped = manager.clear_blocking("rows", budget, || {
                    assert!(!wiping.swap(true, Ordering::SeqCst), "two wipes at once");
                    *rows.lock().unwrap() = 0;
                    thread::yield_now();
                    wiping.store(false, Ordering::SeqCst);
                });
                assert_eq!(wiped, Ok(()));
            });
        }
    });
    assert_eq!(*rows.lock().unwrap(), 0);
    gate.pass(|| *rows.lock().unwrap() += 1).unwrap();
    let nobody = Err(Error::UnknownComponent { key: "\"columns\"".to_owned() });
    assert_eq!(manager.clear_blocking("columns", budget, || ()), nobody);
    assert_eq!(manager.destroy_blocking("columns"), nobody);
    let report = manager.shutdown_blocking();
    assert_eq!(report.gates["rows"], GateStatus::Drained);
    report.require_clean().unwrap();
}

#[test]
fn loop_of_more_weight_ends_in_its_tier_and_its_pass_is_drained() {
    let manager = Arc::new(Manager::new(Registry::new()));
    let (tell, told) = mpsc::channel();
    for (key, weight) in [("early", 0), ("late", 5)] {
        let gate = manager.add(key, DEFAULT_PASS_BUDGET);
        let tell = tell.clone();
        let body = move |token: CancelToken| {
            token.wait();
            tell.send((key, gate.begin_pass().err().map(|refused| refused.to_string()))).unwrap();
        };
        let config = WorkerConfig { weight, ..WorkerConfig::default() };
        assert!(manager.registry().start_thread(key, config, body).is_started());
    }
    let report = manager.shutdown_blocking();
    report.require_clean().unwrap();
    assert_eq!(report.gates.len(), 2);
    let order: Vec<_> = told.try_iter().collect();
    let closed = Some("the gate is closed for good: the component was shut down".to_owned());
    assert_eq!(order, [("early", closed.clone()), ("late", closed)]);
}
