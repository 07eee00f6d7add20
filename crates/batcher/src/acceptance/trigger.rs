//! When batches are fired, and how groups are cut.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    thread,
    time::Duration,
};

use super::{
    door::{Door, HOUR, behind, eventually, result, wait_armed},
    support::LIMIT,
};
use crate::{Batch, Batcher, ManualClock, Reason, TriggerMode};

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

#[test]
fn oversize_group_split() {
    let door = Door::open();
    let batcher = behind(&door, Batcher::builder().size(4).timeout(HOUR));
    let items = batcher.submit_many((0..10).collect()).unwrap();
    door.wait_entered(2);
    let report = batcher.close(LIMIT).unwrap();
    let batches: Vec<_> = door.batches().into_iter().map(|(items, _)| items).collect();
    assert_eq!(batches, [vec![0, 1, 2, 3], vec![4, 5, 6, 7], vec![8, 9]]);
    assert_eq!((report.batches_by(Reason::Size), report.batches_by(Reason::Shutdown)), (2, 1));
    assert_eq!(items.wait(), (0..10).map(Ok).collect::<Vec<_>>());
}

#[test]
fn trailing_partial_gets_timer() {
    let (clock, door) = (Arc::new(ManualClock::new()), Door::closed());
    let batcher = behind(&door, Batcher::builder().size(4).timeout(ms(100)).clock(Arc::clone(&clock)));
    let items = batcher.submit_many((0..10).collect()).unwrap();
    door.wait_entered(1);
    clock.advance(ms(60));
    door.let_pass(usize::MAX);
    door.wait_entered(2);
    // Two are left since 60 ms; they are due at 160, not at 100.
    wait_armed(&clock);
    clock.advance(ms(99));
    eventually("159 ms are noticed", || clock.sleepers() == 1 || door.entered() == 3);
    assert_eq!(door.entered(), 2);
    clock.advance(ms(1));
    door.wait_entered(3);
    assert_eq!(door.sizes()[2], (2, Reason::Timeout));
    assert_eq!(items.wait_timeout(LIMIT).unwrap(), (0..10).map(Ok).collect::<Vec<_>>());
}

#[test]
fn group_snapshot() {
    // What the batch function gets is what was given, whatever becomes of the caller's other copies.
    let door = Door::open();
    let batcher = behind(&door, Batcher::builder().size(4).timeout(HOUR));
    let mut given = vec![1, 2, 3];
    let items = batcher.submit_many(given.clone()).unwrap();
    given.fill(9);
    batcher.close(LIMIT).unwrap();
    assert_eq!((door.items(), items.wait()), (vec![1, 2, 3], vec![Ok(1), Ok(2), Ok(3)]));
    assert_eq!(batcher.submit_many(given).unwrap_err().into_inner(), [9, 9, 9]);
}

#[test]
fn empty_group() {
    let door = Door::open();
    let batcher = behind(&door, Batcher::builder().trigger_mode(TriggerMode::Drain));
    let items = batcher.submit_many(Vec::new()).unwrap();
    assert!(items.is_empty() && items.is_complete());
    assert!(items.wait().is_empty());
    batcher.trigger().unwrap();
    batcher.flush_completed().wait().unwrap();
    door.stays_at(0);
    let report = batcher.close(LIMIT).unwrap();
    assert_eq!((report.batches.iter().sum::<u64>(), door.entered()), (0, 0));
    assert!(batcher.try_submit_many(Vec::new()).is_ok());
}

#[test]
fn timeout_from_first_item() {
    let (clock, door) = (Arc::new(ManualClock::new()), Door::open());
    let batcher = behind(&door, Batcher::builder().size(10).timeout(ms(100)).clock(Arc::clone(&clock)));
    assert_eq!(clock.sleepers(), 0);
    for item in 0..3 {
        batcher.submit_detached(item).unwrap();
        // The timer is armed by the first item, and only looked at again when it fires.
        wait_armed(&clock);
        clock.advance(ms(40));
        if item < 2 {
            assert_eq!((door.entered(), clock.sleepers()), (0, 1));
        }
    }
    // 40 ms after the third item it is 120: the batch was due at 100.
    door.wait_entered(1);
    assert_eq!(door.batches(), [(vec![0, 1, 2], Reason::Timeout)]);
    // No timer is armed while the queue is empty.
    eventually("the batch has ended", || batcher.in_flight() == 0);
    assert_eq!(clock.sleepers(), 0);
    batcher.close(LIMIT).unwrap();
}

#[test]
fn ticks_come_on_the_grid() {
    let (clock, door) = (Arc::new(ManualClock::new()), Door::open());
    let mode = TriggerMode::Tick(ms(100));
    let batcher = behind(&door, Batcher::builder().size(3).trigger_mode(mode).clock(Arc::clone(&clock)));
    // Empty ticks do nothing; an item at 250 is fired at 300.
    clock.advance(ms(250));
    batcher.submit_detached(1).unwrap();
    wait_armed(&clock);
    clock.advance(ms(49));
    assert_eq!((door.entered(), clock.sleepers()), (0, 1));
    clock.advance(ms(1));
    door.wait_entered(1);
    // The size still fires early.
    batcher.submit_many(vec![2, 3, 4]).unwrap().wait();
    assert_eq!(door.sizes(), [(1, Reason::Tick), (3, Reason::Size)]);
    batcher.close(LIMIT).unwrap();
}

#[test]
fn no_starvation() {
    for mode in [TriggerMode::Greedy, TriggerMode::Drain] {
        let (sealed, late, batches) =
            (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (seen, missed, count) = (Arc::clone(&sealed), Arc::clone(&late), Arc::clone(&batches));
        let builder = Batcher::<u32>::builder().size(1).queue_capacity(4096).trigger_mode(mode);
        let batcher = builder
            .start(move |batch: Batch<u32>, _| {
                count.fetch_add(1, SeqCst);
                if seen.load(SeqCst) && batch.reason() != Reason::Shutdown {
                    missed.fetch_add(1, SeqCst);
                }
                batch.finish_each(|_| Ok(()));
            })
            .unwrap();
        thread::scope(|scope| {
            for _ in 0..32 {
                scope.spawn(|| while batcher.submit_detached(1).is_ok() {});
            }
            eventually("the load is there", || batches.load(SeqCst) > 1000 && batcher.queued() > 1000);
            // Requests are served while the load goes on.
            batcher.trigger().unwrap();
            result_of(batcher.flush());
            result_of(batcher.flush_completed());
            let draining = batcher.begin_close();
            sealed.store(true, SeqCst);
            draining.wait_timeout(LIMIT).unwrap();
        });
        // Only the batch that was cut already is not told that the batcher is closing.
        assert!(late.load(SeqCst) <= 1, "{} batches in {mode:?}", late.load(SeqCst));
    }
}

fn result_of(flush: crate::Flush) {
    eventually("the barrier is reached", || flush.is_reached());
    flush.wait().unwrap();
}

#[test]
fn timers_are_served_under_load() {
    // One batcher's full batches do not keep the partial one behind them from its timeout.
    let (clock, door) = (Arc::new(ManualClock::new()), Door::closed());
    let batcher = behind(
        &door,
        Batcher::builder()
            .size(2)
            .timeout(ms(10))
            .trigger_mode(TriggerMode::Greedy)
            .clock(Arc::clone(&clock)),
    );
    let items = batcher.submit_many(vec![1, 2, 3]).unwrap();
    door.wait_entered(1);
    clock.advance(ms(10));
    door.let_pass(usize::MAX);
    assert!(items.wait_timeout(LIMIT).unwrap().iter().all(Result::is_ok));
    assert_eq!(door.sizes(), [(2, Reason::Size), (1, Reason::Timeout)]);
}

#[test]
fn flush_barrier_multi_batch() {
    let door = Door::closed();
    let batcher = behind(&door, Batcher::builder().size(4).timeout(HOUR));
    let items: Vec<_> = (0..14).map(|item| batcher.submit(item).unwrap()).collect();
    door.wait_entered(1);
    let (flush, completed) = (batcher.flush(), batcher.flush_completed());
    for batch in 1..=3 {
        door.wait_entered(batch);
        assert!(!flush.is_reached(), "after {batch} batches");
        door.let_pass(1);
    }
    door.wait_entered(4);
    result_of(flush);
    // Handed over is not ended.
    assert!(!completed.is_reached());
    assert_eq!(door.sizes()[3], (2, Reason::Manual));
    door.let_pass(1);
    result_of(completed);
    assert!(items.into_iter().all(|item| result(item).is_ok()));
}
