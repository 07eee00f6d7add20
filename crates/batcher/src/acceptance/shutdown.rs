//! What a program closes on its way out.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    thread,
    time::Duration,
};

use super::support::{Gate, tempt, within};
use crate::{BoxError, CloseOutcome, PlanError, ShutdownPlan};

const LONG: Duration = Duration::from_secs(60);

#[test]
fn independent_budgets() {
    within("independent_budgets", || {
        let (plan, gate) = (ShutdownPlan::new(), Arc::new(Gate::default()));
        let budgets = Arc::new(Mutex::new(Vec::new()));
        let noting = |name: &'static str| {
            let budgets = Arc::clone(&budgets);
            move |budget| {
                budgets.lock().unwrap().push((name, budget));
                Ok::<_, BoxError>(())
            }
        };
        let stuck = Arc::clone(&gate);
        let close = move |_| {
            stuck.wait();
            Err::<(), _>("too late")
        };
        plan.add("first", Duration::from_millis(30), &[], close).unwrap();
        plan.add("second", LONG, &["first"], noting("second")).unwrap();
        plan.add("third", LONG, &[], noting("third")).unwrap();
        let report = plan.run();
        assert!(!report.is_clean() && !plan.wait_for_late(Duration::ZERO));
        assert!(matches!(report.stores[0].outcome, CloseOutcome::NotConfirmed), "{report:?}");
        assert!(
            report.stores[1..].iter().all(|store| matches!(store.outcome, CloseOutcome::Closed)),
            "{report:?}"
        );
        budgets.lock().unwrap().sort_unstable();
        assert_eq!(*budgets.lock().unwrap(), [("second", LONG), ("third", LONG)]);
        gate.open();
        assert!(plan.wait_for_late(LONG));
        assert!(matches!(plan.close("first").unwrap().outcome, CloseOutcome::Failed(_)));
    });
}

#[test]
fn both_exit_paths_close() {
    within("both_exit_paths_close", || {
        for signal in [false, true] {
            let (plan, closed) = (ShutdownPlan::new(), Arc::new(AtomicUsize::new(0)));
            let main = || {
                let _guard = plan.guard();
                let closed = Arc::clone(&closed);
                let close = move |_| {
                    closed.fetch_add(1, SeqCst);
                    Ok::<_, BoxError>(())
                };
                plan.add("store", LONG, &[], close).unwrap();
                if signal {
                    let (a, b) = thread::scope(|scope| {
                        let signals = scope.spawn(|| plan.run());
                        (plan.run(), signals.join().unwrap())
                    });
                    assert!(Arc::ptr_eq(&a, &b), "two reports");
                } else {
                    panic!("main ends as badly as it can");
                }
            };
            let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(main));
            assert_eq!(ended.is_ok(), signal);
            assert_eq!(closed.load(SeqCst), 1);
            let late = plan.add("late", LONG, &[], |_| Ok::<_, BoxError>(()));
            assert_eq!(late, Err(PlanError::ShuttingDown { name: "late".into() }));
        }
    });
}

#[test]
fn shutdown_in_declared_order() {
    within("shutdown_in_declared_order", || {
        let (plan, order) = (ShutdownPlan::new(), Arc::new(Mutex::new(Vec::new())));
        let add = |name: &'static str, after: &[&str], fails: bool| {
            let order = Arc::clone(&order);
            plan.add(name, LONG, after, move |_| {
                if name == "utxo" {
                    tempt(|| order.lock().unwrap().contains(&"disk"));
                }
                order.lock().unwrap().push(name);
                assert!(!fails, "it closes badly");
                Ok::<_, BoxError>(())
            })
        };
        add("utxo", &[], true).unwrap();
        add("cache", &[], false).unwrap();
        add("blobs", &["utxo", "cache"], false).unwrap();
        add("disk", &["blobs"], false).unwrap();
        let unknown = |after: &str| PlanError::UnknownPredecessor { name: "x".into(), after: after.into() };
        assert_eq!(add("x", &["disk", "nowhere"], false), Err(unknown("nowhere")));
        assert_eq!(add("x", &["x"], false), Err(unknown("x")));
        assert_eq!(add("disk", &[], false), Err(PlanError::Duplicate { name: "disk".into() }));
        let report = plan.run();
        assert!(
            matches!(&report.stores[0].outcome, CloseOutcome::Failed(e) if e.to_string().contains("badly"))
        );
        assert_eq!(order.lock().unwrap()[2..], ["blobs", "disk"]);
    });
}

#[test]
fn shutdown_vs_cleanup_of_one_store() {
    within("shutdown_vs_cleanup_of_one_store", || {
        let (plan, gates) = (ShutdownPlan::new(), Arc::new([(); 2].map(|()| Gate::default())));
        let inside = Arc::clone(&gates);
        let close = move |_| {
            inside[0].open();
            inside[1].wait();
            Ok::<_, BoxError>(())
        };
        plan.add("store", LONG, &[], close).unwrap();
        thread::scope(|scope| {
            let shutdown = scope.spawn(|| plan.run());
            gates[0].wait();
            let cleanup = scope.spawn(|| plan.close("store").unwrap());
            tempt(|| cleanup.is_finished());
            gates[1].open();
            let closing = cleanup.join().unwrap();
            assert!(matches!(closing.outcome, CloseOutcome::Closed), "{closing:?}");
            assert!(shutdown.join().unwrap().is_clean());
        });
        for _ in 0..300 {
            let (plan, closed) = (ShutdownPlan::new(), Arc::new(AtomicUsize::new(0)));
            let counting = || {
                let closed = Arc::clone(&closed);
                move |_| {
                    thread::yield_now();
                    closed.fetch_add(1, SeqCst);
                    Ok::<_, BoxError>(())
                }
            };
            plan.add("store", LONG, &[], counting()).unwrap();
            thread::scope(|scope| {
                for _ in 0..2 {
                    scope.spawn(|| {
                        let closing = plan.close("store").unwrap();
                        assert!(matches!(closing.outcome, CloseOutcome::Closed), "{closing:?}");
                        assert_eq!(closed.load(SeqCst), 1);
                    });
                }
                assert!(plan.run().is_clean());
            });
            assert!(plan.close("other").is_none());
            assert_eq!(closed.load(SeqCst), 1);
        }
        let plan = ShutdownPlan::new();
        for _ in 0..2 {
            plan.add("restarted", LONG, &[], |_| Ok::<_, BoxError>(())).unwrap();
            assert!(matches!(plan.close("restarted").unwrap().outcome, CloseOutcome::Closed));
        }
        assert_eq!(plan.run().stores.len(), 1);
    });
}
