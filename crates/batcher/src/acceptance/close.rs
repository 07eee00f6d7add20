//! How a batcher ends.

use std::{
    future::Future,
    pin::pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    task::{Context, Poll, Waker},
    thread,
    time::Duration,
};

use super::{
    door::{Door, HOUR, MOMENT, behind, result},
    support::{Gate, LIMIT, Log, threads_named, within},
};
use crate::{Batch, Batcher, CloseError, CloseReport, Completion, Dedup, Dispatch, Reason, SubmitError};

fn not_confirmed(closed: Result<CloseReport, CloseError>) -> crate::DrainNotConfirmed {
    match closed {
        Err(CloseError::NotConfirmed(left)) => left,
        other => panic!("{other:?}"),
    }
}

#[test]
fn close_waits_for_background() {
    let door = Door::closed();
    let batcher =
        behind(&door, Batcher::builder().size(16).dispatch(Dispatch::Background { max_in_flight: 3 }));
    let items = batcher.submit_many((0..500).collect()).unwrap();
    door.wait_entered(3);
    let slow = Arc::clone(&door);
    let opener = thread::spawn(move || {
        for batch in 3..32 {
            slow.let_pass(1);
            slow.wait_entered(batch + 1);
        }
        slow.let_pass(usize::MAX);
    });
    batcher.close(LIMIT).unwrap();
    assert!(items.is_complete());
    assert_eq!(door.items(), (0..500).collect::<Vec<_>>());
    opener.join().unwrap();
}

#[test]
fn close_waits_for_tracked_children() {
    let gate = Arc::new(Gate::default());
    let held = Arc::clone(&gate);
    let batcher = Batcher::builder()
        .start(move |batch: Batch<u32, u32>, ctx| {
            let held = Arc::clone(&held);
            ctx.spawn(async move {
                held.wait();
                batch.finish_each(|item| Ok(item + 1));
            });
        })
        .unwrap();
    let item = batcher.submit(1).unwrap();
    let _ = batcher.trigger();
    super::door::eventually("the child runs", || batcher.in_flight() == 1 && batcher.queued() == 0);
    let left = not_confirmed(batcher.close(MOMENT));
    assert_eq!((left.queued, left.in_flight, left.children), (0, 1, 1));
    assert!(!item.is_ready());
    gate.open();
    assert!(left.handle.wait_timeout(LIMIT).is_ok());
    assert_eq!(result(item), Ok(2));
}

#[test]
fn close_idempotent_concurrent() {
    let door = Door::closed();
    let batcher = behind(&door, Batcher::builder().size(2));
    let items = batcher.submit_many(vec![1, 2, 3]).unwrap();
    const LONG: Duration = Duration::from_secs(5);
    let mut reports: Vec<CloseReport> = thread::scope(|scope| {
        let closers: Vec<_> = (0..8).map(|_| scope.spawn(|| batcher.close(LONG).unwrap())).collect();
        door.wait_entered(1);
        door.let_pass(2);
        closers.into_iter().map(|closer| closer.join().unwrap()).collect()
    });
    reports.extend((0..3).map(|_| batcher.close(LONG).unwrap()));
    reports.push(batcher.begin_close().report().unwrap());
    assert!(reports.iter().all(|report| *report == reports[0]), "{reports:?}");
    assert_eq!(reports[0].batches.iter().sum::<u64>(), 2);
    assert_eq!(items.wait(), [Ok(1), Ok(2), Ok(3)]);
}

#[test]
fn residual_reason_and_size() {
    let door = Door::closed();
    let batcher = behind(&door, Batcher::builder().size(4).timeout(HOUR));
    // The first batch holds the door while ten items come.
    let first = batcher.submit_many(vec![0; 4]).unwrap();
    door.wait_entered(1);
    let items: Vec<_> = (1..=10).map(|item| batcher.submit(item).unwrap()).collect();
    let draining = batcher.begin_close();
    door.let_pass(usize::MAX);
    let report = draining.wait_timeout(LIMIT).unwrap();
    assert_eq!(door.sizes()[1..], [(4, Reason::Shutdown), (4, Reason::Shutdown), (2, Reason::Shutdown)]);
    assert_eq!(door.batches()[3].0, [9, 10]);
    assert_eq!((report.drained_items, report.batches_by(Reason::Shutdown)), (10, 3));
    assert!(items.into_iter().all(|item| result(item).is_ok()) && first.is_complete());
}

#[test]
fn submit_after_close() {
    let door = Door::open();
    let batcher = behind(&door, Batcher::builder());
    batcher.close(LIMIT).unwrap();
    let closed = |error: SubmitError<u32>| assert_eq!(error, SubmitError::Closed(7));
    closed(batcher.submit(7).unwrap_err());
    closed(batcher.try_submit(7).unwrap_err());
    closed(batcher.submit_detached(7).unwrap_err());
    closed(batcher.try_submit_detached(7).unwrap_err());
    closed(batcher.within(LIMIT).submit(7).unwrap_err());
    closed(batcher.skip_if_unwatched().submit(7).unwrap_err());
    assert_eq!(batcher.submit_many(vec![7, 8]).unwrap_err(), SubmitError::Closed(vec![7, 8]));
    assert_eq!(batcher.try_submit_many(vec![7, 8]).unwrap_err(), SubmitError::Closed(vec![7, 8]));
    assert_eq!(batcher.trigger(), Err(SubmitError::Closed(())));
    batcher.flush().wait().unwrap();
    batcher.flush_completed().wait().unwrap();
    let mut cx = Context::from_waker(Waker::noop());
    assert!(matches!(pin!(batcher.submit_async(7)).poll(&mut cx), Poll::Ready(Err(SubmitError::Closed(_)))));
    assert!(matches!(
        pin!(batcher.submit_many_async(vec![7])).poll(&mut cx),
        Poll::Ready(Err(SubmitError::Closed(_)))
    ));
    assert!(matches!(
        pin!(batcher.submit_detached_async(7)).poll(&mut cx),
        Poll::Ready(Err(SubmitError::Closed(_)))
    ));
    assert!(door.items().is_empty());
}

#[test]
fn blocked_submitters_at_close() {
    within("blocked_submitters_at_close", blocked_submitters);
}

fn blocked_submitters() {
    let door = Door::closed();
    let batcher = behind(&door, Batcher::builder().size(1).queue_capacity(8));
    batcher.submit_detached(1000).unwrap();
    door.wait_entered(1);
    let submit = |item| batcher.submit_detached(item).map(|()| item);
    let (accepted, rejected): (Vec<_>, Vec<_>) = thread::scope(|scope| {
        let submitters: Vec<_> = (0..28).map(|item| scope.spawn(move || submit(item))).collect();
        super::door::eventually("20 wait for room", || batcher.waiting() == 20);
        assert_eq!(batcher.queued(), 8);
        let draining = batcher.begin_close();
        // They are resolved while the batch function is still held.
        let results: Vec<_> = submitters.into_iter().map(|submitter| submitter.join().unwrap()).collect();
        assert!(draining.report().is_none());
        door.let_pass(usize::MAX);
        draining.wait_timeout(LIMIT).unwrap();
        results.into_iter().partition(Result::is_ok)
    });
    let mut accepted: Vec<u32> = accepted.into_iter().map(Result::unwrap).chain([1000]).collect();
    let rejected: Vec<u32> = rejected
        .into_iter()
        .map(|result| match result.unwrap_err() {
            SubmitError::Closed(item) => item,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!((accepted.len(), rejected.len()), (9, 20));
    accepted.sort_unstable();
    assert_eq!(door.items(), accepted);
    assert!(rejected.iter().all(|item| accepted.binary_search(item).is_err()));
}

#[test]
fn race_submit_close() {
    within("race_submit_close", submitters_race_the_close);
}

fn submitters_race_the_close() {
    // Two submitters and a closer, lined up on a barrier; every round another order of their steps.
    const SUBMITTERS: u32 = 2;
    for round in 0..10_000 {
        let executed = Arc::new(Mutex::new(Vec::new()));
        let note = Arc::clone(&executed);
        let size = 1 + round % 3;
        let builder = Batcher::<u32>::builder().size(size).timeout(HOUR).queue_capacity(1 + round % 5);
        let batcher = builder
            .start(move |batch: Batch<u32>, _| {
                note.lock().unwrap().extend(batch.items().copied());
                batch.finish_each(|_| Ok(()));
            })
            .unwrap();
        let start = std::sync::Barrier::new(SUBMITTERS as usize + 1);
        let mut accepted: Vec<u32> = thread::scope(|scope| {
            let (start, batcher) = (&start, &batcher);
            let submitters: Vec<_> = (0..SUBMITTERS)
                .map(|submitter| {
                    scope.spawn(move || {
                        start.wait();
                        let items = submitter * 100..submitter * 100 + 20;
                        items.take_while(|item| batcher.submit_detached(*item).is_ok()).collect::<Vec<_>>()
                    })
                })
                .collect();
            start.wait();
            (0..round % 50).for_each(|_| std::hint::spin_loop());
            batcher.close(LIMIT).unwrap();
            submitters.into_iter().flat_map(|submitter| submitter.join().unwrap()).collect()
        });
        accepted.sort_unstable();
        let mut executed = std::mem::take(&mut *executed.lock().unwrap());
        executed.sort_unstable();
        assert_eq!(executed, accepted, "round {round}");
    }
}

#[test]
fn deadline_not_confirmed() {
    let door = Door::closed();
    let batcher = behind(&door, Batcher::builder().size(2));
    let items = batcher.submit_many(vec![1, 2, 3, 4, 5]).unwrap();
    door.wait_entered(1);
    let left = not_confirmed(batcher.close(MOMENT));
    assert_eq!((left.queued, left.in_flight, left.children), (3, 1, 0));
    assert!(left.to_string().contains("3 items queued"), "{left}");
    door.let_pass(usize::MAX);
    left.handle.wait_timeout(LIMIT).unwrap();
    assert_eq!(items.wait(), [Ok(1), Ok(2), Ok(3), Ok(4), Ok(5)]);
    assert_eq!(door.items(), [1, 2, 3, 4, 5]);
}

#[test]
fn close_future_dropped() {
    let door = Door::closed();
    let batcher = behind(&door, Batcher::builder().size(2));
    let items = batcher.submit_many(vec![1, 2, 3]).unwrap();
    door.wait_entered(1);
    let mut cx = Context::from_waker(Waker::noop());
    assert!(pin!(batcher.begin_close()).poll(&mut cx).is_pending());
    assert_eq!(batcher.try_submit_detached(9), Err(SubmitError::Closed(9)));
    door.let_pass(usize::MAX);
    assert!(items.wait().iter().all(Result::is_ok));
    batcher.close(LIMIT).unwrap();
    assert_eq!(door.items(), [1, 2, 3]);
}

#[test]
fn close_inside_fn() {
    type Own = Mutex<Option<Arc<Batcher<u32, bool>>>>;
    let own: Arc<Own> = Arc::default();
    let known = Arc::clone(&own);
    let batcher = Batcher::builder()
        .start(move |batch: Batch<u32, bool>, ctx| {
            let own = known.lock().unwrap().take().unwrap();
            let would_deadlock = |closed| matches!(closed, Err(CloseError::WouldDeadlock { .. }));
            let here = would_deadlock(own.close(Duration::from_secs(2)))
                && would_deadlock(own.begin_close().wait())
                && own.flush().wait().is_err();
            // A tracked child is inside, too.
            ctx.spawn(async move {
                let there = would_deadlock(own.close(Duration::from_secs(2)))
                    && would_deadlock(own.begin_close().await)
                    && own.flush_completed().await.is_err();
                batch.finish_each(|_| Ok(here && there));
            });
        })
        .unwrap();
    let batcher = Arc::new(batcher);
    *own.lock().unwrap() = Some(Arc::clone(&batcher));
    let item = batcher.submit(1).unwrap();
    assert_eq!(result(item), Ok(true));
    batcher.close(LIMIT).unwrap();
}

#[test]
fn parent_cancelled_drain_ok() {
    let parent = Arc::new(AtomicBool::new(false));
    let (door, cancelled) = (Door::closed(), Arc::clone(&parent));
    let held = Arc::clone(&door);
    let batcher = Batcher::builder()
        .size(2)
        .start(move |batch: Batch<u32, u32, &str>, ctx| {
            held.pass(&batch);
            assert!(cancelled.load(SeqCst));
            let aborted = ctx.is_aborted();
            batch.finish_each(|item| if aborted { Err("cancelled") } else { Ok(item) });
        })
        .unwrap();
    let items = batcher.submit_many(vec![1, 2, 3]).unwrap();
    door.wait_entered(1);
    parent.store(true, SeqCst);
    let draining = batcher.begin_close();
    door.let_pass(usize::MAX);
    draining.wait_timeout(LIMIT).unwrap();
    assert_eq!(items.wait(), [Ok(1), Ok(2), Ok(3)]);
}

#[test]
fn max_in_flight_held_during_shutdown() {
    let door = Door::closed();
    let builder = Batcher::builder().size(1).dispatch(Dispatch::Background { max_in_flight: 1 });
    let batcher = behind(&door, builder);
    let items = batcher.submit_many(vec![1, 2, 3]).unwrap();
    door.wait_entered(1);
    let left = not_confirmed(batcher.close(MOMENT));
    assert_eq!((left.queued, left.in_flight), (2, 1));
    door.let_pass(usize::MAX);
    left.handle.wait_timeout(LIMIT).unwrap();
    assert_eq!(door.most_inside(), 1);
    assert!(items.is_complete());
}

#[test]
fn no_threads_left() {
    let batchers = |dedup: bool| {
        (0..50).map(move |_| {
            let mut builder =
                Batcher::builder().name("ends").dispatch(Dispatch::Background { max_in_flight: 2 });
            if dedup {
                builder = builder.dedup(Dedup::by(|item: &u32| *item));
            }
            builder.start(|batch: Batch<u32>, _| batch.finish_each(|_| Ok(()))).unwrap()
        })
    };
    let all: Vec<_> = batchers(false).chain(batchers(true)).collect();
    for batcher in &all {
        batcher.submit_detached(1).unwrap();
        batcher.trigger().unwrap();
    }
    super::door::eventually("all threads run", || threads_named("ends") >= 100);
    for batcher in &all {
        batcher.close(LIMIT).unwrap();
    }
    // A joined thread may be listed for a moment longer.
    super::door::eventually("no thread is left", || threads_named("ends") == 0);
}

#[test]
fn drop_without_close() {
    let door = Door::open();
    let batcher = behind(&door, Batcher::builder().name("forgotten").timeout(HOUR));
    let items: Vec<Completion<u32>> = (0..3).map(|item| batcher.submit(item).unwrap()).collect();
    let log = Log::default();
    log.record(|| drop(batcher));
    let text = log.text();
    assert!(
        text.contains("ERROR") && text.contains("forgotten") && text.contains("undispatched=3"),
        "{text}"
    );
    for (item, completion) in items.into_iter().enumerate() {
        assert_eq!(result(completion).map(|item| item as usize), Ok(item));
    }
}
