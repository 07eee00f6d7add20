//! What a model checker runs through in every order: acceptance against close, requests against a leader that goes to
//! sleep, and the hand-over of results.

use std::{sync::Arc, time::Duration};

use crate::{
    Completion, CompletionSet, Reason, SystemClock, TriggerMode,
    completion::Sink,
    queue::{Admission, Class, Hand, Queue, Rules},
    sync::{lock, thread},
};

type Items = Arc<loom::sync::Mutex<Vec<u32>>>;

fn queue(size: usize, capacity: usize, mode: TriggerMode) -> Arc<Queue<u32>> {
    let rules = Rules { size, capacity, mode, timeout: Duration::MAX };
    Arc::new(Queue::new(rules, Arc::new(SystemClock::new())))
}

/// Serves a queue to its end, on the current thread.
fn serve(queue: &Queue<u32>) -> Vec<u32> {
    let (mut hand, slot) = (Hand::new(), queue.add_slot());
    let mut served = Vec::new();
    while let Some((batch, ..)) = queue.take(&mut hand, &slot, || (), None, |_| {}) {
        assert!(batch.len() > 0);
        served.extend(batch);
        queue.ended(&slot);
        queue.progress();
    }
    served
}

fn submit(queue: &Queue<u32>, item: u32, accepted: &Items) {
    if queue.push(Class::External, None, item, |item, items| items.push_back(item)).is_ok() {
        lock(accepted).push(item);
    }
}

fn check(most_preemptions: usize, model: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(most_preemptions);
    builder.check(model);
}

#[test]
fn what_is_accepted_is_served() {
    check(3, || {
        let queue = queue(2, 4, TriggerMode::Drain);
        let accepted = Items::default();
        let (theirs, note) = (Arc::clone(&queue), Arc::clone(&accepted));
        let submitter = thread::spawn(move || {
            submit(&theirs, 1, &note);
            submit(&theirs, 2, &note);
        });
        let closing = Arc::clone(&queue);
        let closer = thread::spawn(move || assert!(closing.seal(Admission::Nobody)));
        let served = serve(&queue);
        submitter.join().unwrap();
        closer.join().unwrap();
        assert_eq!(served, *lock(&accepted));
    });
}

#[test]
fn a_waiting_submitter_gets_room_or_an_answer() {
    check(2, || {
        let queue = queue(1, 1, TriggerMode::Drain);
        let accepted = Items::default();
        let (theirs, note) = (Arc::clone(&queue), Arc::clone(&accepted));
        let submitter = thread::spawn(move || {
            for item in 1..=2 {
                let outcome = crate::sync::block_on(|cx| {
                    match theirs
                        .push(Class::External, Some(cx.waker()), item, |item, items| items.push_back(item))
                    {
                        Err((_, crate::queue::Refusal::Full)) => std::task::Poll::Pending,
                        decided => std::task::Poll::Ready(decided.is_ok()),
                    }
                });
                if outcome {
                    lock(&note).push(item);
                }
            }
            theirs.seal(Admission::Nobody);
        });
        let served = serve(&queue);
        submitter.join().unwrap();
        assert_eq!(served, *lock(&accepted));
        assert_eq!(served, [1, 2]);
    });
}

#[test]
fn a_flush_reaches_a_sleeping_leader() {
    check(2, || {
        let queue = queue(8, 8, TriggerMode::Accumulate);
        let theirs = Arc::clone(&queue);
        let submitter = thread::spawn(move || {
            submit(&theirs, 1, &Items::default());
            let (reached, sink) = Completion::new();
            theirs.barrier(true, sink);
            reached.wait().unwrap();
            // The one item has left, though nothing but the flush could have fired it.
            assert_eq!((theirs.len(), theirs.in_flight()), (0, 0));
            theirs.seal(Admission::Nobody);
        });
        assert_eq!(serve(&queue), [1]);
        submitter.join().unwrap();
    });
}

#[test]
fn a_barrier_is_reached_by_the_close() {
    check(3, || {
        let queue = queue(1, 4, TriggerMode::Drain);
        submit(&queue, 1, &Items::default());
        queue.seal(Admission::Nobody);
        let theirs = Arc::clone(&queue);
        let flusher = thread::spawn(move || {
            [true, false].map(|ended| {
                let (reached, sink) = Completion::new();
                theirs.barrier(ended, sink);
                reached
            })
        });
        assert_eq!(serve(&queue), [1]);
        // Whichever came first, the barriers or the leader's last look.
        assert!(flusher.join().unwrap().iter().all(Completion::is_ready));
    });
}

#[test]
fn two_leaders_share_without_loss() {
    check(2, || {
        let queue = queue(1, 4, TriggerMode::Drain);
        let hand = Arc::new(loom::sync::Mutex::new(Hand::new()));
        let lane = |queue: Arc<Queue<u32>>, hand: Arc<loom::sync::Mutex<Hand<u32>>>| {
            move || {
                let slot = queue.add_slot();
                let mut served = Vec::new();
                loop {
                    let Some((batch, reason, ())) = queue.take(&mut lock(&hand), &slot, || (), None, |_| {})
                    else {
                        return served;
                    };
                    assert!(matches!(reason, Reason::Drain | Reason::Shutdown));
                    served.extend(batch);
                    queue.ended(&slot);
                    queue.progress();
                }
            }
        };
        let other = thread::spawn(lane(Arc::clone(&queue), Arc::clone(&hand)));
        let accepted = Items::default();
        submit(&queue, 1, &accepted);
        submit(&queue, 2, &accepted);
        queue.seal(Admission::Nobody);
        let mut served = lane(queue, hand)();
        served.extend(other.join().unwrap());
        served.sort_unstable();
        assert_eq!(served, *lock(&accepted));
    });
}

#[test]
fn a_result_reaches_whoever_waits() {
    loom::model(|| {
        let (completion, sink) = Completion::<u32>::new();
        let worker = thread::spawn(move || sink.publish(Ok(7)));
        // A thread of its own waits: loom has it that a late unpark would disturb a join.
        let waiter = thread::spawn(move || assert_eq!(completion.wait(), Ok(7)));
        worker.join().unwrap();
        waiter.join().unwrap();
    });
}

#[test]
fn the_last_result_completes_a_group() {
    loom::model(|| {
        let (set, sinks) = CompletionSet::<u32>::new(2);
        let workers: Vec<_> = sinks
            .enumerate()
            .map(|(at, sink): (usize, Sink<u32, _>)| thread::spawn(move || sink.publish(Ok(at as u32))))
            .collect();
        let waiter = thread::spawn(move || assert_eq!(set.wait(), [Ok(0), Ok(1)]));
        workers.into_iter().for_each(|worker| worker.join().unwrap());
        waiter.join().unwrap();
    });
}
