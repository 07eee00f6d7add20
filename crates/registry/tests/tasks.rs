//! Workers as tasks, and the async calls, in real tokio runtimes.
#![cfg(feature = "tokio")]
#![allow(clippy::unwrap_used, clippy::panic)]

use std::{
    future::{pending, ready},
    pin::pin,
    sync::{Arc, mpsc},
    task::{Context, Poll, Waker},
    time::Duration,
};

use icecore_registry::{
    CancelToken, Error, Manager, Registry, RegistryConfig, StartOutcome, WorkerConfig, WorkerStatus,
};
use tokio::runtime::{Builder, Runtime};

const HOUR: Duration = Duration::from_secs(3600);

fn one_thread() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

async fn until_cancelled(token: CancelToken) {
    token.cancelled().await;
}

fn wedge() -> (mpsc::Sender<()>, impl FnOnce(CancelToken) + Send + 'static) {
    let (go, hold) = mpsc::channel();
    let body = move |_| {
        let _ = hold.recv();
    };
    (go, body)
}

/// Polls `future` once and drops it.
async fn poll_and_drop<F: Future>(future: F) {
    tokio::select! {
        biased;
        _ = future => panic!("it did not wait"),
        () = ready(()) => {}
    }
}

#[test]
fn dropped_futures_leave_every_handle_with_the_registry() {
    one_thread().block_on(async {
        let registry = Registry::new();
        let (go, body) = wedge();
        assert!(registry.start_thread("a", WorkerConfig::default(), body).is_started());
        poll_and_drop(registry.quiesce("a")).await;
        assert!(registry.any_alive_for("a"));
        assert_eq!(registry.orphan_count(), 1);
        poll_and_drop(registry.reap_orphans(HOUR)).await;
        assert!(registry.any_alive_for("a"));
        poll_and_drop(registry.shutdown()).await;
        assert!(registry.any_alive_for("a") && registry.is_closing());
        drop(go);
        assert_eq!(registry.reap_orphans(HOUR).await, [("a", WorkerStatus::Ok)]);
        // Taken up again, the shutdown keeps what it found the first time.
        let report = registry.shutdown().await;
        assert_eq!((report.per_worker["a"].clone(), report.detached), (WorkerStatus::Detached, 0));
    });
}

#[test]
fn budget_is_over_in_real_time() {
    one_thread().block_on(async {
        let config = RegistryConfig { orphan_grace: Duration::from_millis(1), ..RegistryConfig::default() };
        let registry = Registry::with(config);
        let (_go, body) = wedge();
        let brief = WorkerConfig { join_budget: Duration::from_millis(1), ..WorkerConfig::default() };
        assert!(registry.start_thread("a", brief, body).is_started());
        let report = registry.shutdown().await;
        assert_eq!(report.per_worker["a"], WorkerStatus::Timeout);
        assert_eq!(report.detached, 1);
    });
}

#[test]
fn restart_waits_for_its_predecessor_without_the_executor() {
    one_thread().block_on(async {
        let registry = Registry::with(RegistryConfig { orphan_grace: HOUR, ..RegistryConfig::default() });
        let (go, body) = wedge();
        assert!(registry.start_thread("a", WorkerConfig::default(), body).is_started());
        registry.cancel("a");
        let restart = registry.start_thread_async("a", WorkerConfig::default(), |token| token.wait());
        // On the only thread: were it blocked, nobody would let the predecessor go.
        let (outcome, ()) = tokio::join!(restart, async { drop(go) });
        assert!(matches!(outcome, StartOutcome::Started(2)));
        assert_eq!(registry.orphan_count(), 0);
        registry.shutdown().await.require_clean().unwrap();
    });
    Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap().block_on(async {
        let registry = Registry::with(RegistryConfig { orphan_grace: HOUR, ..RegistryConfig::default() });
        let (go, body) = wedge();
        assert!(registry.start_thread("a", WorkerConfig::default(), body).is_started());
        registry.cancel("a");
        let restart =
            registry.start_thread_with_runtime("a", WorkerConfig::default(), |token, _| token.wait());
        let (outcome, ()) = tokio::join!(restart, async { drop(go) });
        assert!(matches!(outcome, StartOutcome::Started(2)));
        assert_eq!(registry.orphan_count(), 0);
        registry.shutdown().await.require_clean().unwrap();
    });
}

#[test]
fn a_task_ends_as_its_body_says() {
    one_thread().block_on(async {
        let registry = Registry::new();
        let config = WorkerConfig::default;
        assert!(registry.start_task("fine", config(), until_cancelled).is_started());
        assert!(registry.start_task("failed", config(), |_| async { Err("no peer") }).is_started());
        let broken = |_| async {
            if true {
                panic!("at once")
            }
        };
        assert!(registry.start_task("panicked", config(), broken).is_started());
        let early = |_: CancelToken| -> std::future::Ready<()> { panic!("even earlier") };
        assert!(registry.start_task("earlier", config(), early).is_started());
        let report = registry.shutdown().await;
        assert_eq!(report.per_worker["fine"], WorkerStatus::Ok);
        assert_eq!(report.per_worker["failed"], WorkerStatus::Error("no peer".to_owned()));
        assert_eq!(report.per_worker["panicked"], WorkerStatus::Panicked("at once".to_owned()));
        assert_eq!(report.per_worker["earlier"], WorkerStatus::Panicked("even earlier".to_owned()));
    });
}

#[test]
fn tasks_of_a_runtime_that_went_are_stopped() {
    let registry = Registry::new();
    let runtime = one_thread();
    runtime.block_on(async {
        let (tell, told) = tokio::sync::oneshot::channel();
        let forever = |_| async {
            tell.send(()).unwrap();
            pending::<()>().await
        };
        assert!(registry.start_task("begun", WorkerConfig::default(), forever).is_started());
        told.await.unwrap();
        assert!(registry.start_task("not begun", WorkerConfig::default(), until_cancelled).is_started());
    });
    let entered = runtime.handle().clone();
    drop(runtime);
    let _enter = entered.enter();
    assert!(registry.start_task("born dead", WorkerConfig::default(), until_cancelled).is_started());
    assert!(!registry.any_alive());
    let report = registry.shutdown_blocking();
    let reason = |key: &str| match &report.per_worker[key] {
        WorkerStatus::Stopped(reason) => reason.clone(),
        other => panic!("{key}: {other}"),
    };
    assert_eq!(reason("begun"), "its runtime was shut down before it ended");
    assert_eq!(reason("not begun"), "its runtime was shut down before its first step");
    assert_eq!(reason("born dead"), reason("not begun"));
    assert!(!report.all_clean());
}

#[test]
fn without_a_runtime_tasks_are_refused() {
    let registry = Registry::new();
    let outcome = registry.start_task("a", WorkerConfig::default(), until_cancelled);
    assert!(matches!(outcome, StartOutcome::WrongRuntime));
    let mut start = pin!(registry.start_thread_with_runtime("a", WorkerConfig::default(), |_, _| ()));
    let outcome = start.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    assert!(matches!(outcome, Poll::Ready(StartOutcome::WrongRuntime)));
    assert!(registry.shutdown_blocking().per_worker.is_empty());
}

#[test]
fn tasks_and_threads_wait_in_one_runtime() {
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let registry = Arc::new(Registry::new());
        let weight = |weight| WorkerConfig { weight, ..WorkerConfig::default() };
        let blocking =
            |token: CancelToken, runtime: tokio::runtime::Handle| runtime.block_on(token.cancelled());
        assert!(registry.start_thread_with_runtime(0, weight(0), blocking).await.is_started());
        for key in 1..50 {
            assert!(registry.start_task(key, weight(key % 3), until_cancelled).is_started());
        }
        let others: Vec<_> = (0..4)
            .map(|_| {
                let registry = Arc::clone(&registry);
                tokio::spawn(async move { registry.shutdown().await })
            })
            .collect();
        let report = registry.shutdown().await;
        assert_eq!(report.per_worker.len(), 50);
        report.require_clean().unwrap();
        for other in others {
            assert_eq!(other.await.unwrap(), report);
        }
    });
}

#[test]
fn components_in_async_code() {
    one_thread().block_on(async {
        let manager = Manager::new(Registry::new());
        let gate = manager.add("a", HOUR);
        assert!(manager.registry().start_task("a", WorkerConfig::default(), until_cancelled).is_started());
        let mut rows = 3;
        let pass = gate.begin_pass().unwrap();
        let refused = manager.clear("a", Duration::from_millis(1), || rows = 0).await;
        assert!(matches!(refused, Err(Error::ShutdownIncomplete { .. })));
        manager.registry().reap_orphans(HOUR).await;
        poll_and_drop(manager.clear("a", HOUR, || rows = 1)).await;
        assert_eq!(rows, 3);
        assert!(!gate.is_raised() && !manager.registry().is_clearing("a"));
        drop(pass);
        manager.clear("a", HOUR, || rows = 0).await.unwrap();
        assert_eq!(rows, 0);
        assert!(manager.quiesce("a").await.is_clean());
        manager.destroy("a").await.unwrap();
        manager.shutdown().await.require_clean().unwrap();
    });
}

#[test]
fn tasks_shut_down_in_a_runtime_without_timers() {
    Builder::new_current_thread().build().unwrap().block_on(async {
        let registry = Registry::with(RegistryConfig { orphan_grace: Duration::ZERO, ..Default::default() });
        assert!(registry.start_task("a", WorkerConfig::default(), until_cancelled).is_started());
        let wedged = WorkerConfig { join_budget: Duration::from_millis(1), ..WorkerConfig::default() };
        assert!(registry.start_task("b", wedged, |_| pending::<()>()).is_started());
        let report = registry.shutdown().await;
        assert_eq!(report.per_worker["a"], WorkerStatus::Ok);
        assert_eq!(report.per_worker["b"], WorkerStatus::Timeout);
    });
}
