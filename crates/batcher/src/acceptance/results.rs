//! What submitters get.

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    task::{Context, Wake, Waker},
    thread,
    time::Duration,
};

use super::{
    door::{Door, HOUR, MOMENT, behind, panicked, result},
    support::{Gate, LIMIT, Log, within},
};
use crate::{Batch, Batcher, CloseError, Completion, Dispatch, Failure, Meter, Metrics, Reason};

#[test]
fn panic_isolated() {
    let tally = super::metrics::Tally::default();
    let builder = Batcher::builder().size(2).timeout(HOUR).metrics(tally.clone());
    let batcher = builder
        .dispatch(Dispatch::Background { max_in_flight: 1 })
        .start(|batch: Batch<u32, u32>, _| {
            batch.finish_each(|item| {
                assert!(item != 3, "three is too much");
                Ok(item)
            });
        })
        .unwrap();
    let items: Vec<_> = (0..6).map(|item| batcher.submit(item).unwrap()).collect();
    let outcomes: Vec<_> = items.into_iter().map(result).collect();
    assert_eq!(outcomes[..3], [Ok(0), Ok(1), Ok(2)]);
    let Err(Failure::BatchPanicked { batcher: name, message }) = &outcomes[3] else {
        panic!("{:?}", outcomes[3]);
    };
    assert_eq!((&**name, &**message), ("batcher", "three is too much"));
    assert_eq!(outcomes[4..], [Ok(4), Ok(5)]);
    let report = batcher.close(LIMIT).unwrap();
    assert_eq!(report.panicked_items, 1);
    assert_eq!(tally.count("panicked"), 1);
    assert_eq!(tally.count("batch_fired"), 3);
    assert_eq!(tally.count("batch_ended"), 3);
}

#[test]
fn abandoned_completer() {
    let batcher = Batcher::builder()
        .size(4)
        .start(|batch: Batch<u32, u32>, _| {
            for (item, done) in batch {
                match item {
                    0 => done.finish(Ok(item)),
                    1 => drop(done),
                    // The rest of the batch goes with the iterator.
                    _ => return,
                }
            }
        })
        .unwrap();
    let outcomes: Vec<_> = (0..4).map(|item| batcher.submit(item).unwrap()).collect();
    let outcomes: Vec<_> = outcomes.into_iter().map(result).collect();
    assert_eq!(outcomes[0], Ok(0));
    assert!(outcomes[1..].iter().all(|o| matches!(o, Err(Failure::Abandoned { .. }))), "{outcomes:?}");
    let report = batcher.close(LIMIT).unwrap();
    assert_eq!((report.abandoned_items, report.panicked_items), (3, 0));
}

#[test]
fn wait_timeout_then_result() {
    let door = Door::closed();
    let batcher = behind(&door, Batcher::builder().size(1));
    let item = batcher.submit(7).unwrap();
    let set = batcher.submit_many(vec![8, 9]).unwrap();
    let item = item.wait_timeout(MOMENT).unwrap_err().0;
    let set = set.wait_timeout(MOMENT).unwrap_err().0;
    assert_eq!(set.peek(0, |_| ()), None);
    door.let_pass(1);
    assert_eq!(result(item), Ok(7));
    door.let_pass(1);
    door.wait_entered(3);
    // What is published of the set can be looked at, the rest cannot.
    let set = set.wait_timeout(MOMENT).unwrap_err().0;
    assert_eq!(set.peek(0, |outcome| outcome.clone()), Some(Ok(8)));
    assert_eq!(set.peek(1, |_| ()), None);
    door.let_pass(1);
    assert_eq!(set.wait_timeout(LIMIT).unwrap(), [Ok(8), Ok(9)]);
}

#[test]
fn cancelled_submitter_still_written() {
    let door = Door::open();
    let batcher = behind(&door, Batcher::builder().timeout(HOUR));
    drop(batcher.submit(1).unwrap());
    drop(batcher.submit_many(vec![2, 3]).unwrap());
    batcher.close(LIMIT).unwrap();
    assert_eq!(door.items(), [1, 2, 3]);
}

#[test]
fn unwatched_reads_are_skipped() {
    let door = Door::closed();
    let batcher = behind(&door, Batcher::builder().size(1));
    let first = batcher.submit(0).unwrap();
    door.wait_entered(1);
    let reads = batcher.skip_if_unwatched();
    drop(reads.submit(1).unwrap());
    let watched = reads.submit(2).unwrap();
    drop(batcher.submit(3).unwrap());
    let flushed = batcher.flush_completed();
    door.let_pass(usize::MAX);
    flushed.wait().unwrap();
    assert_eq!((result(first), result(watched)), (Ok(0), Ok(2)));
    assert_eq!(door.items(), [0, 2, 3]);
    batcher.close(LIMIT).unwrap();
}

#[test]
fn children_finish_fail_and_follow_up() {
    // One child finishes its item, one panics, one waits for another thread; the batch ends with the last.
    let (send, receive) = std::sync::mpsc::channel::<Completion<u32>>();
    let other = Arc::new(behind(&Door::open(), Batcher::builder().size(1)));
    let asked = Arc::clone(&other);
    let batcher = Batcher::builder()
        .size(3)
        .start(move |batch: Batch<u32, u32>, ctx| {
            for (item, done) in batch {
                let asked = Arc::clone(&asked);
                ctx.spawn(async move {
                    match item {
                        0 => done.finish(Ok(0)),
                        1 => panic!("a child panics"),
                        _ => {
                            let answer = asked.submit_async(item).await.unwrap().await.unwrap();
                            done.finish(Ok(answer * 10));
                        }
                    }
                });
            }
        })
        .unwrap();
    drop((send, receive));
    let outcomes = batcher.submit_many(vec![0, 1, 2]).unwrap().wait_timeout(LIMIT).unwrap();
    assert_eq!((&outcomes[0], &outcomes[2]), (&Ok(0), &Ok(20)));
    assert!(panicked(&outcomes[1]));
    assert_eq!(batcher.close(LIMIT).unwrap().panicked_items, 1);
    other.close(LIMIT).unwrap();
}

#[test]
fn async_batch_function() {
    let other = Arc::new(behind(&Door::open(), Batcher::builder().size(1)));
    let asked = Arc::clone(&other);
    let batcher = Batcher::builder()
        .size(2)
        .start_async(move |batch: Batch<u32, u32>, ctx| {
            let asked = Arc::clone(&asked);
            async move {
                for (item, done) in batch {
                    let answer = asked.submit_async(item).await.unwrap().await.unwrap();
                    ctx.spawn(async move { done.finish(Ok(answer + 1)) });
                }
            }
        })
        .unwrap();
    for _ in 0..3 {
        assert_eq!(batcher.submit_many(vec![1, 2]).unwrap().wait_timeout(LIMIT).unwrap(), [Ok(2), Ok(3)]);
    }
    batcher.close(LIMIT).unwrap();
    other.close(LIMIT).unwrap();
}

#[test]
fn abort_is_the_lossy_path() {
    let door = Door::closed();
    let batcher = behind(&door, Batcher::builder().size(1));
    let first = batcher.submit(1).unwrap();
    door.wait_entered(1);
    let lost: Vec<_> = (2..5).map(|item| batcher.submit(item).unwrap()).collect();
    let draining = batcher.abort();
    for item in lost {
        assert!(matches!(result(item), Err(Failure::Aborted { .. })));
    }
    door.let_pass(usize::MAX);
    let report = draining.wait_timeout(LIMIT).unwrap();
    assert_eq!((report.aborted_items, report.drained_items), (3, 0));
    assert_eq!(result(first), Ok(1));
    assert_eq!(door.items(), [1]);
}

#[test]
fn strayed_completers_are_resolved() {
    within("strayed_completers_are_resolved", || {
        // Completers leave for a thread of the function's own, which forgets one of them after the function has returned.
        let gate = Arc::new(Gate::default());
        let held = Arc::clone(&gate);
        let (log, builder) = (Log::default(), Batcher::builder().size(2).spans(true));
        let start = || {
            builder.start(move |batch: Batch<u32, u32>, _| {
                let held = Arc::clone(&held);
                thread::spawn(move || {
                    held.wait();
                    batch.for_each(|(item, done)| {
                        if item == 0 {
                            done.finish(Ok(0))
                        }
                    });
                });
            })
        };
        let batcher = log.record(start).unwrap();
        let items = batcher.submit_many(vec![0, 1]).unwrap();
        super::door::eventually("the slot lets go", || log.text().contains("outside of BatchCtx::spawn"));
        gate.open();
        let outcomes = items.wait_timeout(LIMIT).expect("a strayed item is never resolved");
        assert_eq!(outcomes[0], Ok(0));
        assert!(matches!(outcomes[1], Err(Failure::Abandoned { .. })), "{outcomes:?}");
        assert_eq!(batcher.close(LIMIT).unwrap().abandoned_items, 1);
    });
}

#[test]
fn children_of_a_blocking_child_are_seen() {
    within("children_of_a_blocking_child_are_seen", || {
        let batcher = Batcher::builder()
            .start_async(|batch: Batch<u32, u32>, ctx| async move {
                let (answer, sink) = Completion::<u32>::new();
                ctx.spawn(async move { sink.publish(Ok(7)) });
                // Whatever blocks in here may use up the wake-up that came with the child.
                thread::park();
                let answer = answer.await.unwrap();
                batch.finish_each(|item| Ok(item + answer));
            })
            .unwrap();
        assert_eq!(result(batcher.submit(1).unwrap()), Ok(8));
        batcher.close(LIMIT).unwrap();
    });
}

#[test]
fn close_waits_for_aborted_items() {
    struct Slow(Gate, AtomicBool);
    impl Wake for Slow {
        fn wake(self: Arc<Self>) {
            self.1.store(true, SeqCst);
            self.0.wait();
        }
    }
    let door = Door::closed();
    let batcher = behind(&door, Batcher::builder().size(1));
    drop(batcher.submit(1).unwrap());
    door.wait_entered(1);
    let mut lost: Vec<_> = (2..4).map(|item| batcher.submit(item).unwrap()).collect();
    let slow = Arc::new(Slow(Gate::default(), AtomicBool::new(false)));
    let waker = Waker::from(Arc::clone(&slow));
    assert!(Pin::new(&mut lost[0]).poll(&mut Context::from_waker(&waker)).is_pending());
    thread::scope(|scope| {
        scope.spawn(|| batcher.abort());
        super::door::eventually("the first aborted item is told", || slow.1.load(SeqCst));
        door.let_pass(usize::MAX);
        // The second one is not told yet.
        let closed = batcher.close(MOMENT);
        slow.0.open();
        assert!(matches!(closed, Err(CloseError::NotConfirmed(_))), "{closed:?}");
    });
    assert_eq!(batcher.close(LIMIT).unwrap().aborted_items, 2);
    assert!(lost.into_iter().all(|item| matches!(result(item), Err(Failure::Aborted { .. }))));
}

#[test]
fn a_failing_meter_harms_nobody() {
    struct Failing;
    impl Metrics for Failing {
        fn bind(&self, _: &str) -> Arc<dyn Meter> {
            Arc::new(Failing)
        }
    }
    impl Meter for Failing {
        fn enqueued(&self, _: u64) {
            panic!("enqueued");
        }
        fn batch_fired(&self, _: Reason, _: usize) {
            panic!("batch_fired");
        }
        fn batch_ended(&self, _: Duration) {
            panic!("batch_ended");
        }
        fn drained(&self, _: Duration) {
            panic!("drained");
        }
    }
    within("a_failing_meter_harms_nobody", || {
        let batcher = behind(&Door::open(), Batcher::builder().size(1).metrics(Failing));
        let item = batcher.submit(1).unwrap();
        let done = batcher.flush_completed();
        assert_eq!(result(item), Ok(1));
        done.wait().unwrap();
        assert_eq!(batcher.close(LIMIT).unwrap().batches_by(Reason::Size), 1);
    });
}

#[test]
fn a_function_that_panics_when_dropped_is_closed() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("not to be dropped");
        }
    }
    let bomb = Bomb;
    let batcher = Batcher::<u32>::builder()
        .start(move |batch: Batch<u32>, _| {
            let _held = &bomb;
            batch.finish_each(|_| Ok(()));
        })
        .unwrap();
    let item = batcher.submit(1).unwrap();
    batcher.close(Duration::from_secs(2)).unwrap();
    assert_eq!(result(item), Ok(()));
}
