//! Items of the same key.

use std::{
    sync::{
        Arc, Barrier, Mutex,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
    thread,
    time::Duration,
};

use super::{
    door::{Door, HOUR, behind, result},
    support::LIMIT,
};
use crate::{Batch, Batcher, Builder, Dedup, Failure, ManualClock, SubmitError, TriggerMode};

fn by_value() -> Dedup<u32, u32, u32, std::convert::Infallible> {
    Dedup::by(|item: &u32| *item)
}

/// Fires each item at once.
fn prompt() -> Builder<u32, u32> {
    Batcher::builder().trigger_mode(TriggerMode::Drain)
}

#[test]
fn dedup_retry_after_failure() {
    let attempts = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&attempts);
    let batcher = Batcher::builder()
        .trigger_mode(TriggerMode::Drain)
        .dedup(Dedup::by(|item: &u32| *item))
        .start(move |batch: Batch<u32, u32, &str>, _| {
            for (_, done) in batch {
                match count.fetch_add(1, SeqCst) {
                    0 => done.finish(Err("not now")),
                    1 => panic!("nor now"),
                    2 => drop(done),
                    attempt => done.finish(Ok(attempt)),
                }
            }
        })
        .unwrap();
    let submit = || batcher.submit(7).map(result);
    assert_eq!(submit().unwrap(), Err(Failure::Failed("not now")));
    assert!(matches!(submit().unwrap(), Err(Failure::BatchPanicked { .. })));
    assert!(matches!(submit().unwrap(), Err(Failure::Abandoned { .. })));
    assert_eq!(submit().unwrap(), Ok(3));
    assert_eq!(submit().unwrap_err(), SubmitError::Duplicate(7));
    assert_eq!(attempts.load(SeqCst), 4);
    batcher.close(LIMIT).unwrap();
}

#[test]
fn dedup_rejection_forgets_the_key() {
    // Turned away for lack of room is not accepted: the key is not known.
    let door = Door::closed();
    let batcher = behind(&door, Batcher::builder().size(1).queue_capacity(1).dedup(by_value()));
    let mut items = vec![batcher.submit(1).unwrap()];
    door.wait_entered(1);
    items.push(batcher.submit(2).unwrap());
    assert_eq!(batcher.try_submit(3).unwrap_err(), SubmitError::Full(3));
    assert_eq!(batcher.within(Duration::ZERO).submit(3).unwrap_err(), SubmitError::TimedOut(3));
    door.let_pass(usize::MAX);
    batcher.flush_completed().wait().unwrap();
    items.push(batcher.submit(3).unwrap());
    assert!(items.into_iter().all(|item| result(item).is_ok()));
    batcher.close(LIMIT).unwrap();
}

#[test]
fn dedup_group_filtered() {
    let door = Door::open();
    let batcher = behind(&door, Batcher::builder().size(100).timeout(HOUR).dedup(by_value()));
    let first = batcher.submit(7).unwrap();
    assert_eq!(batcher.submit_detached(7), Err(SubmitError::Duplicate(7)));
    assert_eq!(batcher.try_submit(7).unwrap_err(), SubmitError::Duplicate(7));
    let group = batcher.submit_many(vec![7, 8, 7, 8, 9]).unwrap();
    batcher.close(LIMIT).unwrap();
    assert_eq!(door.items(), [7, 8, 9]);
    let duplicate = || Err(Failure::Duplicate);
    assert_eq!(group.wait(), [duplicate(), Ok(8), duplicate(), duplicate(), Ok(9)]);
    assert_eq!(result(first), Ok(7));
}

#[test]
fn dedup_join_shares_result() {
    let attempts = Arc::new(AtomicU32::new(0));
    let (count, door) = (Arc::clone(&attempts), Door::closed());
    let held = Arc::clone(&door);
    let batcher = Batcher::builder()
        .trigger_mode(TriggerMode::Drain)
        .dedup(Dedup::by(|item: &u32| *item).join())
        .start(move |batch: Batch<u32, u32, &str>, _| {
            held.pass(&batch);
            let attempt = count.fetch_add(1, SeqCst);
            batch.finish_each(|item| if attempt == 0 { Err("not now") } else { Ok(item * 100 + attempt) });
        })
        .unwrap();
    // While the first is open, others join it and share its failure.
    let first = batcher.submit(7).unwrap();
    let second = batcher.submit(7).unwrap();
    let group = batcher.submit_many(vec![7]).unwrap();
    batcher.submit_detached(7).unwrap();
    door.let_pass(usize::MAX);
    assert_eq!(
        (result(first), result(second)),
        (Err(Failure::Failed("not now")), Err(Failure::Failed("not now")))
    );
    assert_eq!(group.wait_timeout(LIMIT).unwrap(), [Err(Failure::Failed("not now"))]);
    // A retry is executed; once it is firm, others share its value.
    assert_eq!(result(batcher.submit(7).unwrap()), Ok(701));
    assert_eq!(result(batcher.submit(7).unwrap()), Ok(701));
    assert_eq!(attempts.load(SeqCst), 2);
    batcher.close(LIMIT).unwrap();
}

#[test]
fn dedup_expiry_bounds() {
    const WINDOW: Duration = Duration::from_secs(60);
    const BUCKET: Duration = Duration::from_secs(1);
    for arrival in [0, 1, 500, 999] {
        let clock = Arc::new(ManualClock::new());
        let batcher = behind(&Door::open(), prompt().dedup(by_value()).clock(Arc::clone(&clock)));
        clock.advance(Duration::from_secs(5) + Duration::from_millis(arrival));
        assert!(result(batcher.submit(7).unwrap()).is_ok());
        clock.advance(WINDOW);
        assert!(batcher.submit(7).is_err(), "{arrival}: known for at least the window");
        clock.advance(BUCKET - Duration::from_millis(arrival) - Duration::from_nanos(1));
        assert!(batcher.submit(7).is_err(), "{arrival}: known until the end of the bucket's time");
        clock.advance(Duration::from_nanos(1));
        assert!(result(batcher.submit(7).unwrap()).is_ok(), "{arrival}: known for at most window + bucket");
        batcher.close(LIMIT).unwrap();
    }
}

#[test]
fn dedup_max_keys_evicts_the_oldest_bucket() {
    let (clock, tally) = (Arc::new(ManualClock::new()), super::metrics::Tally::default());
    let builder = prompt().dedup(by_value().max_keys(3)).clock(Arc::clone(&clock)).metrics(tally.clone());
    let batcher = behind(&Door::open(), builder);
    let submit = |item| batcher.submit(item).map(result).is_ok();
    assert!(submit(1) && submit(2));
    clock.advance(Duration::from_secs(1));
    assert!(submit(3));
    assert!(!submit(1) && !submit(2) && !submit(3));
    assert!(submit(4), "the first bucket makes room");
    assert_eq!(tally.count("dedup.evicted"), 2);
    assert!(!submit(3) && !submit(4));
    assert!(submit(1));
    batcher.close(LIMIT).unwrap();
}

#[test]
fn dedup_race() {
    let door = Door::closed();
    let batcher = behind(&door, prompt().dedup(by_value()));
    let start = Barrier::new(64);
    let winners = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..64 {
            scope.spawn(|| {
                start.wait();
                match batcher.submit(7) {
                    Ok(item) => winners.lock().unwrap().push(item),
                    Err(e) => assert_eq!(e, SubmitError::Duplicate(7)),
                }
            });
        }
    });
    door.let_pass(usize::MAX);
    batcher.close(LIMIT).unwrap();
    assert_eq!((door.items(), winners.into_inner().unwrap().len()), (vec![7], 1));
}

#[test]
fn group_whose_key_panics_is_not_accepted() {
    let door = Door::open();
    let keys = Dedup::by(|item: &u32| if *item == 9 { panic!("no key") } else { *item });
    let batcher = behind(&door, Batcher::builder().timeout(HOUR).dedup(keys));
    let submitted =
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| batcher.submit_many(vec![1, 2, 9])));
    assert!(submitted.is_err());
    // Its keys are not known, and the counts are right: the flush covers what is accepted, no more and no less.
    assert_eq!(batcher.queued(), 0);
    let items = [2, 1].map(|item| batcher.submit(item).unwrap());
    batcher.flush().wait().unwrap();
    assert_eq!(items.map(result), [Ok(2), Ok(1)]);
    assert_eq!(door.batches()[0].0, [2, 1]);
    batcher.close(LIMIT).unwrap();
}
