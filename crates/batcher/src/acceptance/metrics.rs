//! What is counted and timed.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use super::{
    door::{Door, MOMENT, behind, eventually, wait_armed},
    support::LIMIT,
};
use crate::{Batcher, Dedup, DedupEvent, Dispatch, ManualClock, Meter, Metrics, Reason, Rejection};

/// Counts and sums by series.
#[derive(Clone, Default)]
pub(super) struct Tally(Arc<Mutex<BTreeMap<String, (u64, u64)>>>);

impl Tally {
    fn add(&self, series: impl Into<String>, value: u64) {
        let mut tally = self.0.lock().unwrap();
        let entry = tally.entry(series.into()).or_default();
        entry.0 += 1;
        entry.1 += value;
    }

    /// The sum of a counter, or of a histogram's values; for an event without a value, how often it came.
    pub(super) fn count(&self, series: &str) -> u64 {
        self.0.lock().unwrap().get(series).map_or(0, |(times, sum)| if *sum == 0 { *times } else { *sum })
    }

    fn all(&self) -> Vec<(String, (u64, u64))> {
        self.0.lock().unwrap().clone().into_iter().collect()
    }
}

impl Metrics for Tally {
    fn bind(&self, batcher: &str) -> Arc<dyn Meter> {
        self.add(format!("bind.{batcher}"), 0);
        Arc::new(self.clone())
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap()
}

impl Meter for Tally {
    fn enqueued(&self, items: u64) {
        self.add("enqueued", items);
    }
    fn rejected(&self, why: Rejection, items: u64) {
        self.add(format!("rejected.{}", why.label()), items);
    }
    fn enqueue_blocked(&self, waited: Duration) {
        self.add("enqueue_blocked_ms", millis(waited));
    }
    fn queue_depth(&self, items: u64) {
        self.0.lock().unwrap().insert("queue_depth".into(), (1, items));
    }
    fn batch_fired(&self, reason: Reason, items: usize) {
        self.add(format!("batches.{}", reason.label()), items as u64);
        self.add("batch_fired", 0);
    }
    fn batch_ended(&self, took: Duration) {
        self.add("batch_ended", 0);
        self.add("batch_ms", millis(took));
    }
    fn backpressure_wait(&self, waited: Duration) {
        self.add("backpressure_ms", millis(waited));
    }
    fn in_flight(&self, batches: usize) {
        self.0.lock().unwrap().insert("in_flight".into(), (1, batches as u64));
    }
    fn dedup(&self, event: DedupEvent, items: u64) {
        self.add(format!("dedup.{}", event.label()), items);
    }
    fn panicked(&self) {
        self.add("panicked", 0);
    }
    fn abandoned(&self, items: u64) {
        self.add("abandoned", items);
    }
    fn drained(&self, took: Duration) {
        self.add("drain_ms", millis(took));
    }
    fn drain_unconfirmed(&self) {
        self.add("drain_unconfirmed", 0);
    }
}

#[test]
fn metrics_exact() {
    let (clock, tally, door) = (Arc::new(ManualClock::new()), Tally::default(), Door::closed());
    let builder = Batcher::builder()
        .name("measured")
        .size(4)
        .timeout(Duration::from_millis(100))
        .queue_capacity(6)
        .dispatch(Dispatch::Background { max_in_flight: 1 })
        .dedup(Dedup::by(|item: &u32| *item))
        .metrics(tally.clone())
        .clock(Arc::clone(&clock));
    let batcher = behind(&door, builder);

    // A full batch of a group with one duplicate, which runs for 7 ms.
    let group = batcher.submit_many(vec![1, 2, 3, 4, 4]).unwrap();
    door.wait_entered(1);
    // Six more fill the queue; then one is turned away and one waits, for 7 ms as well.
    let queued: Vec<_> = (11..=16).map(|item| batcher.submit(item).unwrap()).collect();
    assert!(batcher.try_submit(17).is_err());
    assert!(batcher.try_submit(11).is_err(), "full comes before duplicate");
    thread::scope(|scope| {
        let blocked = scope.spawn(|| batcher.within(Duration::from_secs(9)).submit(18).unwrap());
        eventually("the submitter waits", || clock.sleepers() == 1);
        clock.advance(Duration::from_millis(7));
        door.let_pass(1);
        door.wait_entered(2);
        let blocked = blocked.join().unwrap();
        door.let_pass(1);
        assert!(blocked.wait_timeout(MOMENT).is_err());
    });
    // Three are left (15, 16, 18) and go with the timeout.
    wait_armed(&clock);
    clock.advance(Duration::from_millis(100));
    door.wait_entered(3);
    assert!(batcher.close(Duration::ZERO).is_err());
    clock.advance(Duration::from_millis(3));
    door.let_pass(1);
    batcher.begin_close().wait_timeout(LIMIT).unwrap();
    assert!(batcher.try_submit(19).is_err());
    drop((group, queued));

    let expected: [(&str, (u64, u64)); 18] = [
        ("backpressure_ms", (2, 7)),
        ("batch_ended", (3, 0)),
        ("batch_fired", (3, 0)),
        ("batch_ms", (3, 10)),
        ("batches.size", (2, 8)),
        ("batches.timeout", (1, 3)),
        ("bind.measured", (1, 0)),
        ("dedup.hit", (1, 1)),
        ("dedup.miss", (11, 11)),
        ("drain_ms", (1, 3)),
        ("drain_unconfirmed", (1, 0)),
        ("enqueue_blocked_ms", (1, 7)),
        ("enqueued", (8, 11)),
        ("in_flight", (1, 0)),
        ("queue_depth", (1, 0)),
        ("rejected.closed", (1, 1)),
        ("rejected.duplicate", (1, 1)),
        ("rejected.full", (2, 2)),
    ];
    assert_eq!(tally.all(), expected.map(|(series, value)| (series.to_owned(), value)));
}
