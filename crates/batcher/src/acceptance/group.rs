//! Batchers that feed each other: what may be declared, and how they close.

use std::{
    convert::Infallible,
    pin::pin,
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    task::{Context, Poll, Waker},
    thread,
    time::Duration,
};

use super::{
    door::{Door, behind, eventually},
    support::{Gate, LIMIT, Log, tempt, threads_named, within},
};
use crate::{
    Batch, BatchCtx, Batcher, BoxError, BuildError, Builder, Clock, CloseOutcome, Completion, Dispatch,
    Enqueue, EnqueueAndWait, Failure, GroupBuilder, GroupCloseError, GroupError, ManualClock, Member,
    NodeSpec, NodeState, Rank, SharedSlots, SubmitError, UndeclaredEdge,
};

const HOUR: Duration = Duration::from_secs(3600);

type Items = Arc<Mutex<Vec<u32>>>;

/// Fires only when it must.
fn patient() -> Builder<u32, u32> {
    Batcher::builder().size(1000).timeout(HOUR)
}

/// Fires every item by itself.
fn eager() -> Builder<u32, u32> {
    Batcher::builder().size(1).timeout(HOUR)
}

/// A batch function that finishes every item with itself.
fn echo(batch: Batch<u32, u32>, _: &BatchCtx) {
    batch.finish_each(Ok);
}

/// As [`echo`], noting the items.
fn noting(items: &Items) -> impl Fn(Batch<u32, u32>, &BatchCtx) + Send + Sync + 'static {
    let items = Arc::clone(items);
    move |batch, _| {
        batch.finish_each(|item| {
            items.lock().unwrap().push(item);
            Ok(item)
        });
    }
}

fn value(completion: Completion<u32>) -> u32 {
    completion.wait_timeout(LIMIT).expect("the completion is not resolved").unwrap()
}

fn chain(edges: &[(&str, usize)]) -> Result<crate::Group, GroupError> {
    let mut group = GroupBuilder::new("g");
    let nodes = ["a", "b", "c"].map(|name| group.node(name, patient(), echo));
    for &(producer, consumer) in edges {
        let _ = group.edge(producer, &nodes[consumer], EnqueueAndWait);
    }
    group.build()
}

#[test]
fn cycle_rejected() {
    chain(&[("a", 1), ("b", 2), ("a", 2)]).unwrap().close(LIMIT).unwrap();
    let error = chain(&[("a", 1), ("c", 0), ("b", 2)]).unwrap_err();
    assert_eq!(error.to_string(), "group g: the edges form a cycle: a -> b -> c -> a");
    assert!(matches!(error, GroupError::Cycle { path, .. } if path == ["a", "b", "c", "a"]));
}

#[test]
fn self_edge_rejected() {
    let error = chain(&[("a", 1), ("b", 1)]).unwrap_err();
    assert!(matches!(&error, GroupError::SelfEdge { node, .. } if node == "b"), "{error}");
    assert!(error.to_string().contains("b -> b"));
}

#[test]
fn shared_pool_over_wait_edge_rejected() {
    let build = |connected: bool| {
        let (mut group, slots) = (GroupBuilder::new("g"), SharedSlots::new(4));
        let last = group.node("last", patient().slots(&slots), echo);
        let middle = group.node("middle", patient().slots(&SharedSlots::new(4)), echo);
        group.node("first", patient().slots(&slots), echo);
        let _ = group.edge("middle", &last, EnqueueAndWait);
        if connected {
            let _ = group.edge("first", &middle, EnqueueAndWait);
        }
        group.build()
    };
    build(false).unwrap().close(LIMIT).unwrap();
    let error = build(true).unwrap_err();
    assert!(matches!(&error, GroupError::SharedSlots { path, .. } if *path == ["first", "middle", "last"]));
    assert!(error.to_string().contains("first -> middle -> last"), "{error}");
}

#[test]
fn bad_declarations_rejected() {
    within("bad_declarations_rejected", || {
        let error = chain(&[("d", 1)]).unwrap_err();
        assert!(matches!(&error, GroupError::UnknownEndpoint { producer, .. } if producer == "d"), "{error}");

        let (mut one, mut other) = (GroupBuilder::new("one"), GroupBuilder::new("other"));
        let node = one.node("node", patient(), echo);
        let namesake = other.node("node", patient(), echo);
        other.node("p", patient(), echo);
        let _ = other.edge("p", &node, Enqueue);
        let error = other.build().unwrap_err();
        assert!(
            matches!(&error, GroupError::UnknownEndpoint { consumer, .. } if consumer == "node"),
            "{error}"
        );
        let one = one.build().unwrap();
        assert!(one.member(&namesake).is_err() && one.member(&node).is_ok());
        one.close(LIMIT).unwrap();

        let mut twins = GroupBuilder::new("g");
        twins.node("bad-a", patient(), echo);
        twins.node("bad-a", patient(), echo);
        assert!(matches!(twins.build(), Err(GroupError::Duplicate { name, .. }) if name == "bad-a"));
        let mut hooks = GroupBuilder::new("g");
        hooks.on_drained("h", HOUR, |_| Ok::<_, BoxError>(()));
        hooks.on_drained("h", HOUR, |_| Ok::<_, BoxError>(()));
        assert!(matches!(hooks.build(), Err(GroupError::Duplicate { name, .. }) if name == "h"));
        let mut zero = GroupBuilder::new("g");
        zero.node("bad-a", patient(), echo);
        zero.node("bad-b", patient().slots(&SharedSlots::new(0)), echo);
        let error = zero.build().unwrap_err();
        assert!(matches!(error, GroupError::Batcher(BuildError::Zero { option: "slots", .. })), "{error}");
        // A joined thread may still be listed for a moment.
        eventually("what did not become a group is gone", || threads_named("bad-") == 0);
    });
}

#[test]
fn empty_group_closes() {
    within("empty_group_closes", || {
        let mut group = GroupBuilder::new("empty");
        group.on_drained("hook", HOUR, |_| Ok::<_, BoxError>(()));
        let report = group.build().unwrap().close(LIMIT).unwrap();
        assert_eq!((report.nodes.len(), report.hooks.len()), (0, 1));
    });
}

#[test]
fn producers_first() {
    within("producers_first", || {
        let mut group = GroupBuilder::new("g");
        let landed: [Items; 2] = Default::default();
        let consumers = [0, 1].map(|n| group.node(["left", "right"][n], patient(), noting(&landed[n])));
        let edges = consumers.each_ref().map(|consumer| group.edge("spend", consumer, Enqueue));
        let spend = group.node("spend", patient(), move |batch: Batch<u32, u32>, ctx: &BatchCtx| {
            batch.finish_each(|item| {
                edges.iter().for_each(|edge| ctx.downstream(edge).unwrap().submit(item).unwrap());
                Ok(item)
            });
        });
        let group = group.build().unwrap();
        let spend = group.member(&spend).unwrap();
        let spent: Vec<_> = (0..10).map(|item| spend.submit(item).unwrap()).collect();
        let report = group.close(LIMIT).unwrap();
        assert_eq!(spent.into_iter().map(value).collect::<Vec<_>>(), (0..10).collect::<Vec<_>>());
        for landed in landed {
            assert_eq!(*landed.lock().unwrap(), (0..10).collect::<Vec<_>>());
        }
        assert!(report.nodes.iter().all(|node| node.report.panicked_items == 0), "{report:?}");
        assert_eq!(report.node("left").unwrap().drained_items, 10);
    });
}

#[test]
fn nested_wait_no_deadlock() {
    within("nested_wait_no_deadlock", || {
        let mut group = GroupBuilder::new("g");
        let dah = group.node("dah", patient(), echo);
        let to_dah = group.edge("increment", &dah, EnqueueAndWait);
        let forward = move |edge: crate::EdgeHandle<u32, u32, Infallible, EnqueueAndWait>| {
            move |batch: Batch<u32, u32>, ctx: &BatchCtx| {
                let down = ctx.downstream(&edge).unwrap();
                batch.finish_each(|item| Ok(down.submit(item).unwrap().wait().unwrap() + 1));
            }
        };
        let increment = group.node("increment", patient(), forward(to_dah));
        let to_increment = group.edge("spend", &increment, EnqueueAndWait);
        let spend = group.node("spend", patient(), forward(to_increment));
        let group = group.build().unwrap();
        let spent = group.member(&spend).unwrap().submit_many(vec![10, 20, 30]).unwrap();
        group.close(LIMIT / 2).expect("the drain waits for a timeout of an hour");
        assert_eq!(spent.wait(), [Ok(12), Ok(22), Ok(32)]);
    });
}

#[test]
fn self_requeue_detected() {
    within("self_requeue_detected", || {
        let mut group = GroupBuilder::new("g");
        let sibling = group.node("sibling", eager(), echo);
        let members: Arc<OnceLock<[Member<u32, u32, Infallible>; 2]>> = Arc::default();
        let (seen, detected) = (Arc::clone(&members), Arc::new(AtomicUsize::new(0)));
        let counter = Arc::clone(&detected);
        // The first two items are submitted again: by the function itself, and by a tracked child.
        let me = group.node("me", eager(), move |mut batch: Batch<u32, u32>, ctx: &BatchCtx| {
            let (item, done) = batch.next().unwrap();
            let (members, counter) = (Arc::clone(&seen), Arc::clone(&counter));
            let again = move || {
                if item < 4 {
                    let result = members.get().unwrap()[item as usize % 2].submit_detached(item + 100);
                    counter.fetch_add(
                        usize::from(result == Err(SubmitError::UndeclaredEdge(item + 100))),
                        SeqCst,
                    );
                }
                done.finish(Ok(item));
            };
            if item < 2 { again() } else { ctx.spawn(async move { again() }) }
        });
        let group = group.build().unwrap();
        let both = [group.member(&me).unwrap(), group.member(&sibling).unwrap()];
        members.set(both.clone()).unwrap();
        for item in 0..4 {
            let outcome = both[0].submit(item).unwrap().wait_timeout(LIMIT).unwrap();
            if cfg!(debug_assertions) {
                let Err(Failure::BatchPanicked { message, .. }) = outcome else { panic!("{outcome:?}") };
                assert!(message.contains("undeclared edge"), "{message}");
            } else {
                assert_eq!((outcome, detected.load(SeqCst)), (Ok(item), item as usize + 1));
            }
        }
        assert_eq!(value(both[1].submit(9).unwrap()), 9, "from outside it is no requeue");
        group.close(LIMIT).unwrap();
    });
}

#[test]
fn edge_serves_its_producer_only() {
    within("edge_serves_its_producer_only", || {
        let mut group = GroupBuilder::new("g");
        let consumer = group.node("consumer", eager(), echo);
        let edge = group.edge("producer", &consumer, EnqueueAndWait);
        let answers: Arc<Mutex<Vec<Result<(), UndeclaredEdge>>>> = Arc::default();
        let nodes = ["producer", "other"].map(|name| {
            let (edge, answers) = (edge.clone(), Arc::clone(&answers));
            group.node(name, eager(), move |batch: Batch<u32, u32>, ctx: &BatchCtx| {
                answers.lock().unwrap().push(ctx.downstream(&edge).map(drop));
                echo(batch, ctx);
            })
        });
        let group = group.build().unwrap();
        for node in &nodes {
            value(group.member(node).unwrap().submit(1).unwrap());
        }
        group.close(LIMIT).unwrap();
        let undeclared = UndeclaredEdge {
            batcher: "other".into(),
            producer: "producer".into(),
            consumer: "consumer".into(),
        };
        assert_eq!(*answers.lock().unwrap(), [Ok(()), Err(undeclared)]);
    });
}

#[test]
fn external_sealed_immediately() {
    within("external_sealed_immediately", || {
        let (gate, entered) = (Arc::new(Gate::default()), Arc::new(Gate::default()));
        let mut group = GroupBuilder::new("g");
        let landed = Items::default();
        let last = group.node("last", patient(), noting(&landed));
        let to_last = group.edge("first", &last, Enqueue);
        let (opened, inside) = (Arc::clone(&gate), Arc::clone(&entered));
        let first = group.node("first", eager(), move |batch: Batch<u32, u32>, ctx: &BatchCtx| {
            inside.open();
            opened.wait();
            batch.finish_each(|item| {
                ctx.downstream(&to_last).unwrap().submit(item).unwrap();
                Ok(item)
            });
        });
        let group = group.build().unwrap();
        let (first, last) = (group.member(&first).unwrap(), group.member(&last).unwrap());
        let spent = first.submit(1).unwrap();
        entered.wait();
        let draining = group.begin_close();
        for member in [&first, &last] {
            assert_eq!(member.submit(2).unwrap_err(), SubmitError::Closed(2));
            assert_eq!(member.submit_many(vec![3, 4]).unwrap_err(), SubmitError::Closed(vec![3, 4]));
        }
        assert!(draining.report().is_none());
        gate.open();
        draining.wait_timeout(LIMIT).unwrap();
        assert_eq!((value(spent), &*landed.lock().unwrap()), (1, &vec![1]));
    });
}

#[test]
fn consumer_waits_for_producers_children() {
    within("consumer_waits_for_producers_children", || {
        let (gate, entered) = (Arc::new(Gate::default()), Arc::new(Gate::default()));
        let mut group = GroupBuilder::new("g");
        let landed = Items::default();
        let last = group.node("last", patient(), noting(&landed));
        let to_last = group.edge("first", &last, Enqueue);
        let (opened, inside) = (Arc::clone(&gate), Arc::clone(&entered));
        let first = group.node("first", eager(), move |batch: Batch<u32, u32>, ctx: &BatchCtx| {
            let last = ctx.downstream(&to_last).unwrap().clone();
            let (opened, inside) = (Arc::clone(&opened), Arc::clone(&inside));
            ctx.spawn(async move {
                inside.open();
                opened.wait();
                batch.finish_each(|item| {
                    last.submit(item).unwrap();
                    Ok(item)
                });
            });
        });
        let group = group.build().unwrap();
        let spent = group.member(&first).unwrap().submit(7).unwrap();
        entered.wait();
        let Err(GroupCloseError::NotConfirmed(left)) = group.close(Duration::ZERO) else {
            panic!("closed while a child runs")
        };
        let waiting = NodeState::NotStarted { waiting_for: vec!["first".into()] };
        let running = NodeState::NotConfirmed { queued: 0, in_flight: 1, children: 1 };
        assert_eq!(left.nodes, [("last".into(), waiting), ("first".into(), running)]);
        assert!(left.to_string().contains("last: waits for first"), "{left}");
        gate.open();
        left.handle.wait().unwrap();
        assert_eq!((value(spent), &*landed.lock().unwrap()), (7, &vec![7]));
    });
}

#[test]
fn closes_in_order_of_edges_then_ranks() {
    within("closes_in_order_of_edges_then_ranks", || {
        let mut group = GroupBuilder::new("g");
        let rank = |name, rank| NodeSpec::new(name).rank(rank);
        let log = group.node(rank("log", Rank::Durable), patient(), echo);
        group.node(rank("get", Rank::Read), patient(), echo);
        group.node(rank("locked", Rank::Metadata), patient(), echo);
        let increment = group.node("increment", patient(), echo);
        group.node("create", patient(), echo);
        group.node("spend", patient(), echo);
        let _ = group.edge("get", &log, Enqueue);
        let _ = group.edge("spend", &increment, EnqueueAndWait);
        let _ = group.edge("create", &increment, Enqueue);
        let report = group.build().unwrap().close(LIMIT).unwrap();
        let order: Vec<_> = report.nodes.iter().map(|node| &*node.name).collect();
        let place = |name| order.iter().position(|&node| node == name).unwrap();
        assert_eq!(order[..4], ["create", "spend", "locked", "get"]);
        assert!(place("increment") > place("spend") && place("log") > place("get") && order.len() == 6);
    });
}

#[test]
fn hooks_run_after_deadline() {
    within("hooks_run_after_deadline", || {
        let (gate, clock) = (Arc::new(Gate::default()), Arc::new(ManualClock::new()));
        let mut group = GroupBuilder::new("g");
        group.clock(Arc::clone(&clock));
        let opened = Arc::clone(&gate);
        let node = group.node("node", eager(), move |batch: Batch<u32, u32>, ctx: &BatchCtx| {
            opened.wait();
            echo(batch, ctx);
        });
        let ran: Arc<Mutex<Vec<(&str, Duration)>>> = Arc::default();
        for (name, budget) in [("blobs", 5), ("cache", 6), ("client", 7)] {
            let ran = Arc::clone(&ran);
            group.on_drained(name, Duration::from_secs(budget), move |budget| {
                if name == "blobs" {
                    tempt(|| ran.lock().unwrap().iter().any(|&(name, _)| name == "client"));
                }
                ran.lock().unwrap().push((name, budget));
                if name == "cache" { Err("it is lost") } else { Ok(()) }
            });
        }
        let group = group.build().unwrap();
        let spent = group.member(&node).unwrap().submit(1).unwrap();
        let left = thread::scope(|scope| {
            let closing = scope.spawn(|| group.close(Duration::from_millis(50)));
            while clock.sleepers() == 0 {
                thread::yield_now();
            }
            clock.advance(HOUR);
            match closing.join().unwrap() {
                Err(GroupCloseError::NotConfirmed(left)) => left,
                closed => panic!("{closed:?}"),
            }
        });
        assert!(ran.lock().unwrap().is_empty() && left.handle.report().is_none());
        gate.open();
        let report = left.handle.wait().unwrap();
        let budgets =
            [("blobs", 5), ("cache", 6), ("client", 7)].map(|(name, s)| (name, Duration::from_secs(s)));
        assert_eq!((value(spent), &ran.lock().unwrap()[..]), (1, &budgets[..]));
        let failed = report.hooks.iter().map(|hook| matches!(hook.outcome, CloseOutcome::Failed(_)));
        assert_eq!(failed.collect::<Vec<_>>(), [false, true, false]);
        assert!(Arc::ptr_eq(&report, &group.close(Duration::ZERO).unwrap()));
        assert_eq!(ran.lock().unwrap().len(), 3);
    });
}

#[test]
fn node_budgets_end_the_wait() {
    within("node_budgets_end_the_wait", || {
        let (gates, clock) = ([(); 2].map(|()| Arc::new(Gate::default())), Arc::new(ManualClock::new()));
        let mut group = GroupBuilder::new("g");
        group.clock(Arc::clone(&clock));
        let stuck_at = |gate: &Arc<Gate>| {
            let gate = Arc::clone(gate);
            move |batch: Batch<u32, u32>, ctx: &BatchCtx| {
                gate.wait();
                echo(batch, ctx);
            }
        };
        let budget = |name| NodeSpec::new(name).budget(Duration::from_secs(1));
        let last = group.node(budget("last"), eager(), stuck_at(&gates[1]));
        let first = group.node(budget("first"), eager(), stuck_at(&gates[0]));
        group.node("free", patient(), echo);
        let _ = group.edge("first", &last, Enqueue);
        let group = group.build().unwrap();
        for node in [&first, &last] {
            drop(group.member(node).unwrap().submit(1).unwrap());
        }
        // Whatever happens on the way, the wait of a day ends within minutes of the clock.
        let wait_for_budget = || {
            let begun = clock.now();
            thread::scope(|scope| {
                let closing = scope.spawn(|| group.close(HOUR * 24));
                while !closing.is_finished() && clock.now() < begun + HOUR {
                    clock.advance(Duration::from_millis(1));
                    thread::yield_now();
                }
                assert!(closing.is_finished(), "the node's budget does not end the wait");
                match closing.join().unwrap() {
                    Err(GroupCloseError::NotConfirmed(left)) => left.nodes,
                    closed => panic!("{closed:?}"),
                }
            })
        };
        let stuck = |queued| NodeState::NotConfirmed { queued, in_flight: 1, children: 0 };
        let left = wait_for_budget();
        assert_eq!(
            left[..2],
            [
                ("last".into(), NodeState::NotStarted { waiting_for: vec!["first".into()] }),
                ("first".into(), stuck(0)),
            ]
        );
        assert!(matches!(left[2].1, NodeState::Drained(_)), "{left:?}");
        gates[0].open();
        while matches!(group.begin_close().not_confirmed().nodes[0].1, NodeState::NotStarted { .. }) {
            thread::yield_now();
        }
        assert_eq!(wait_for_budget()[0], ("last".into(), stuck(0)));
        gates[1].open();
        group.begin_close().wait().unwrap();
    });
}

#[test]
fn late_node_budgets_end_a_wait_under_way() {
    within("late_node_budgets_end_a_wait_under_way", || {
        let (gates, clock) = ([(); 2].map(|()| Arc::new(Gate::default())), Arc::new(ManualClock::new()));
        let mut group = GroupBuilder::new("g");
        group.clock(Arc::clone(&clock));
        let [first_gate, last_gate] = gates.each_ref().map(Arc::clone);
        let last =
            group.node(NodeSpec::new("last").budget(Duration::from_secs(1)), eager(), move |batch, ctx| {
                last_gate.wait();
                echo(batch, ctx);
            });
        let first = group.node("first", eager(), move |batch, ctx| {
            first_gate.wait();
            echo(batch, ctx);
        });
        let _ = group.edge("first", &last, Enqueue);
        let group = group.build().unwrap();
        for node in [&first, &last] {
            drop(group.member(node).unwrap().submit(1).unwrap());
        }
        thread::scope(|scope| {
            let closing = scope.spawn(|| group.close(HOUR));
            while clock.sleepers() == 0 {
                thread::yield_now();
            }
            gates[0].open();
            while !closing.is_finished() && clock.now() < HOUR {
                clock.advance(Duration::from_millis(1));
                thread::yield_now();
            }
            assert!(clock.now() < HOUR, "a budget that starts during a wait does not end it");
            assert!(matches!(closing.join().unwrap(), Err(GroupCloseError::NotConfirmed(_))));
        });
        gates[1].open();
        group.begin_close().wait().unwrap();
    });
}

#[test]
fn group_close_idempotent_concurrent() {
    within("group_close_idempotent_concurrent", || {
        let (gate, hooks) = (Arc::new(Gate::default()), Arc::new(AtomicUsize::new(0)));
        let mut group = GroupBuilder::new("g");
        let opened = Arc::clone(&gate);
        let node = group.node("node", eager(), move |batch: Batch<u32, u32>, ctx: &BatchCtx| {
            opened.wait();
            echo(batch, ctx);
        });
        let counter = Arc::clone(&hooks);
        group.on_drained("hook", HOUR, move |_| {
            counter.fetch_add(1, SeqCst);
            Ok::<_, BoxError>(())
        });
        let group = group.build().unwrap();
        let spent = group.member(&node).unwrap().submit(1).unwrap();
        let mut reports = thread::scope(|scope| {
            let closing: Vec<_> = (0..8).map(|_| scope.spawn(|| group.close(LIMIT).unwrap())).collect();
            let early = group.close(Duration::ZERO);
            assert!(matches!(early, Err(GroupCloseError::NotConfirmed(_))), "closed while a batch runs");
            gate.open();
            closing.into_iter().map(|closing| closing.join().unwrap()).collect::<Vec<_>>()
        });
        reports.extend((0..3).map(|_| group.close(Duration::ZERO).unwrap()));
        assert!(reports.iter().all(|report| Arc::ptr_eq(report, &reports[0])));
        assert_eq!((value(spent), reports[0].nodes.len(), hooks.load(SeqCst)), (1, 1, 1));
    });
}

#[test]
fn group_close_inside_fn() {
    within("group_close_inside_fn", || {
        let mut group = GroupBuilder::new("g");
        let this: Arc<OnceLock<Arc<crate::Group>>> = Arc::default();
        let inside = Arc::clone(&this);
        let node = group.node("node", eager(), move |batch: Batch<u32, u32>, ctx: &BatchCtx| {
            let group = inside.get().unwrap();
            let refused = matches!(group.close(HOUR), Err(GroupCloseError::WouldDeadlock { .. }));
            assert!(
                refused && matches!(group.begin_close().wait(), Err(GroupCloseError::WouldDeadlock { .. }))
            );
            let polled = pin!(group.begin_close()).poll(&mut Context::from_waker(Waker::noop()));
            assert!(matches!(polled, Poll::Ready(Err(GroupCloseError::WouldDeadlock { .. }))));
            echo(batch, ctx);
        });
        let group = Arc::new(group.build().unwrap());
        let member = group.member(&node).unwrap();
        this.set(Arc::clone(&group)).unwrap();
        assert_eq!(value(member.submit(5).unwrap()), 5);
        assert!(member.submit(6).is_err(), "the close has begun");
        group.close(LIMIT).unwrap();
    });
}

#[test]
fn group_dropped_without_close() {
    within("group_dropped_without_close", || {
        let mut group = GroupBuilder::new("forgotten");
        let landed = Items::default();
        let last = group.node("last", patient(), noting(&landed));
        let to_last = group.edge("first", &last, EnqueueAndWait);
        let first = group.node("first", patient(), move |batch: Batch<u32, u32>, ctx: &BatchCtx| {
            let last = ctx.downstream(&to_last).unwrap();
            batch.finish_each(|item| Ok(last.submit(item).unwrap().wait().unwrap()));
        });
        let (ended, hook) = (Arc::new(Gate::default()), Arc::new(Gate::default()));
        let (opened, dropped) = (Arc::clone(&ended), Arc::clone(&hook));
        group.on_drained("hook", HOUR, move |_| {
            opened.open();
            dropped.wait();
            Ok::<_, BoxError>(())
        });
        let group = group.build().unwrap();
        let member = group.member(&first).unwrap();
        let spent = [1, 2].map(|item| member.submit(item).unwrap());
        let log = Log::default();
        log.record(|| drop(group));
        let text = log.text();
        assert!(
            text.contains("forgotten") && text.contains("ERROR") && text.contains("undispatched=2"),
            "{text}"
        );
        assert_eq!(spent.map(value), [1, 2]);
        assert_eq!(*landed.lock().unwrap(), [1, 2]);
        assert_eq!(member.submit(3).unwrap_err(), SubmitError::Closed(3));
        ended.wait();
        hook.open();
    });
}

#[test]
fn group_leaves_no_threads() {
    within("group_leaves_no_threads", || {
        for awaits_end in [true, false] {
            let mut group = GroupBuilder::new("quiet");
            let many = Dispatch::Background { max_in_flight: 3 };
            let last = group.node("quiet-last", eager().dispatch(many), echo);
            let to_last = group.edge("quiet-first", &last, EnqueueAndWait);
            let first = group.node("quiet-first", eager().dispatch(many), move |batch, ctx: &BatchCtx| {
                let last = ctx.downstream(&to_last).unwrap();
                batch.finish_each(|item: u32| Ok(last.submit(item).unwrap().wait().unwrap()));
            });
            group.on_drained("quiet-hook", HOUR, |_| Ok::<_, BoxError>(()));
            let group = group.build().unwrap();
            let spent = group.member(&first).unwrap().submit_many((0..50).collect()).unwrap();
            if awaits_end {
                spent.wait();
            }
            group.close(LIMIT).unwrap();
            // A joined thread may still be listed for a moment.
            eventually("no thread is left", || threads_named("quiet-") + threads_named("close-quiet") == 0);
        }
    });
}

#[test]
fn shared_slots_limit_all() {
    within("shared_slots_limit_all", || {
        let (mut group, slots) = (GroupBuilder::new("g"), SharedSlots::new(2));
        let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let nodes = ["a", "b"].map(|name| {
            let (now, most) = (Arc::clone(&now), Arc::clone(&most));
            let options = eager().dispatch(Dispatch::Background { max_in_flight: 4 }).slots(&slots);
            group.node(name, options, move |batch: Batch<u32, u32>, ctx: &BatchCtx| {
                most.fetch_max(now.fetch_add(1, SeqCst) + 1, SeqCst);
                (0..20).for_each(|_| thread::yield_now());
                let now = Arc::clone(&now);
                ctx.spawn(async move {
                    batch.finish_each(Ok);
                    now.fetch_sub(1, SeqCst);
                });
            })
        });
        let group = group.build().unwrap();
        for node in &nodes {
            drop(group.member(node).unwrap().submit_many((0..100).collect()).unwrap());
        }
        group.close(LIMIT).unwrap();
        assert_eq!(most.load(SeqCst), 2);
    });
}

/// Moves by being looked at.
#[derive(Default)]
struct Asked(AtomicUsize);

impl Clock for Asked {
    fn now(&self) -> Duration {
        Duration::from_millis(self.0.fetch_add(1, SeqCst) as u64)
    }

    fn park_until(&self, _: Duration) {
        thread::yield_now();
    }
}

#[test]
fn waiting_for_a_shared_slot_is_not_begun() {
    within("waiting_for_a_shared_slot_is_not_begun", || {
        let (slots, tally) = (SharedSlots::new(1), super::metrics::Tally::default());
        let ([held, waiting], clock) = ([Door::closed(), Door::open()], Arc::new(Asked::default()));
        let first = behind(&held, eager().slots(&slots));
        let options = eager().dispatch(Dispatch::Background { max_in_flight: 4 }).clock(Arc::clone(&clock));
        let second = behind(&waiting, options.slots(&slots).metrics(tally.clone()));
        first.submit_detached(0).unwrap();
        held.wait_entered(1);
        let asked = clock.0.load(SeqCst);
        let items = second.submit_many((0..50).collect()).unwrap();
        let flush = second.flush();
        // How long it waits is measured from when it finds no slot.
        eventually("it waits for a slot", || clock.0.load(SeqCst) > asked);
        tempt(|| flush.is_reached() || second.in_flight() > 0);
        assert_eq!((flush.is_reached(), second.in_flight(), second.queued()), (false, 0, 50));
        held.let_pass(1);
        flush.wait().unwrap();
        assert!(items.wait().iter().all(Result::is_ok));
        // One slot: the batches come one by one, in the order of their items.
        let order: Vec<_> = waiting.batches().into_iter().flat_map(|(items, _)| items).collect();
        assert_eq!(order, (0..50).collect::<Vec<_>>());
        assert!(tally.count("backpressure_ms") > 0, "the wait is not measured");
        first.close(LIMIT).unwrap();
        second.close(LIMIT).unwrap();
    });
}
