//! Figures for the `metrics` facade.

use std::{sync::Arc, time::Duration};

use metrics::{Counter, Gauge, Histogram, SharedString, counter, gauge, histogram};

use crate::{DedupEvent, Meter, Metrics, Reason, Rejection};

/// Reports to the recorder of the `metrics` facade that is installed when a batcher is built, under names that begin with
/// `batcher_` and with the label `batcher`.
#[derive(Clone, Copy, Debug, Default)]
pub struct FacadeMetrics;

struct Bound {
    enqueued: Counter,
    rejected: [Counter; 5],
    enqueue_blocked: Histogram,
    queue_depth: Gauge,
    batches: [Counter; Reason::ALL.len()],
    batch_size: Histogram,
    batch_duration: Histogram,
    backpressure_wait: Histogram,
    in_flight: Gauge,
    dedup: [Counter; 3],
    panicked: Counter,
    abandoned: Counter,
    drain: Histogram,
    drain_unconfirmed: Counter,
}

const REJECTIONS: [Rejection; 5] = [
    Rejection::Closed,
    Rejection::Full,
    Rejection::TimedOut,
    Rejection::Duplicate,
    Rejection::UndeclaredEdge,
];
const EVENTS: [DedupEvent; 3] = [DedupEvent::Hit, DedupEvent::Miss, DedupEvent::Evicted];

impl Metrics for FacadeMetrics {
    fn bind(&self, batcher: &str) -> Arc<dyn Meter> {
        let name = || SharedString::from(batcher.to_owned());
        Arc::new(Bound {
            enqueued: counter!("batcher_enqueued_total", "batcher" => name()),
            rejected: REJECTIONS
                .map(|why| counter!("batcher_rejected_total", "batcher" => name(), "why" => why.label())),
            enqueue_blocked: histogram!("batcher_enqueue_blocked_seconds", "batcher" => name()),
            queue_depth: gauge!("batcher_queue_depth", "batcher" => name()),
            batches: Reason::ALL.map(
                |reason| counter!("batcher_batches_total", "batcher" => name(), "reason" => reason.label()),
            ),
            batch_size: histogram!("batcher_batch_size", "batcher" => name()),
            batch_duration: histogram!("batcher_batch_duration_seconds", "batcher" => name()),
            backpressure_wait: histogram!("batcher_backpressure_wait_seconds", "batcher" => name()),
            in_flight: gauge!("batcher_workers_in_flight", "batcher" => name()),
            dedup: EVENTS
                .map(|event| counter!("batcher_dedup_total", "batcher" => name(), "event" => event.label())),
            panicked: counter!("batcher_panic_total", "batcher" => name()),
            abandoned: counter!("batcher_abandoned_total", "batcher" => name()),
            drain: histogram!("batcher_drain_seconds", "batcher" => name()),
            drain_unconfirmed: counter!("batcher_drain_unconfirmed_total", "batcher" => name()),
        })
    }
}

impl Meter for Bound {
    fn enqueued(&self, items: u64) {
        self.enqueued.increment(items);
    }

    fn rejected(&self, why: Rejection, items: u64) {
        self.rejected[why as usize].increment(items);
    }

    fn enqueue_blocked(&self, waited: Duration) {
        self.enqueue_blocked.record(waited);
    }

    fn queue_depth(&self, items: u64) {
        self.queue_depth.set(items as f64);
    }

    fn batch_fired(&self, reason: Reason, items: usize) {
        self.batches[reason as usize].increment(1);
        self.batch_size.record(items as f64);
    }

    fn batch_ended(&self, took: Duration) {
        self.batch_duration.record(took);
    }

    fn backpressure_wait(&self, waited: Duration) {
        self.backpressure_wait.record(waited);
    }

    fn in_flight(&self, batches: usize) {
        self.in_flight.set(batches as f64);
    }

    fn dedup(&self, event: DedupEvent, items: u64) {
        self.dedup[event as usize].increment(items);
    }

    fn panicked(&self) {
        self.panicked.increment(1);
    }

    fn abandoned(&self, items: u64) {
        self.abandoned.increment(items);
    }

    fn drained(&self, took: Duration) {
        self.drain.record(took);
    }

    fn drain_unconfirmed(&self) {
        self.drain_unconfirmed.increment(1);
    }
}

#[cfg(test)]
mod tests {
    use std::{
        collections::BTreeMap,
        sync::{Arc, Mutex},
        time::Duration,
    };

    use metrics::{
        Counter, CounterFn, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit,
    };

    use super::{EVENTS, FacadeMetrics, REJECTIONS};
    use crate::{Batch, Batcher, Reason};

    #[derive(Default)]
    struct Counters(Mutex<BTreeMap<String, Arc<Count>>>);

    #[derive(Default)]
    struct Count(std::sync::atomic::AtomicU64);

    impl CounterFn for Count {
        fn increment(&self, value: u64) {
            self.0.fetch_add(value, std::sync::atomic::Ordering::SeqCst);
        }
        fn absolute(&self, _: u64) {}
    }

    impl Recorder for Counters {
        fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
        fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
        fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
        fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
            let count = Arc::clone(self.0.lock().unwrap().entry(key.to_string()).or_default());
            Counter::from_arc(count)
        }
        fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
            Gauge::noop()
        }
        fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
            Histogram::noop()
        }
    }

    #[test]
    fn every_series_carries_the_name() {
        let recorder = Counters::default();
        let batcher = metrics::with_local_recorder(&recorder, || {
            let builder = Batcher::builder().name("seen").size(2).metrics(FacadeMetrics);
            builder.start(|batch: Batch<u32>, _| batch.finish_each(|_| Ok(()))).unwrap()
        });
        assert_eq!(batcher.submit_many(vec![1, 2, 3]).unwrap().wait().len(), 3);
        batcher.close(Duration::from_secs(10)).unwrap();
        assert!(batcher.try_submit(4).is_err());
        let counters = recorder.0.lock().unwrap();
        assert!(counters.keys().all(|key| key.contains("seen")), "{:?}", counters.keys());
        let value = |part: &str, label: &str| {
            let of = |(key, _): &(&String, &Arc<Count>)| key.contains(part) && key.contains(label);
            let found: Vec<_> = counters.iter().filter(of).collect();
            assert_eq!(found.len(), 1, "{part} {label}");
            found[0].1.0.load(std::sync::atomic::Ordering::SeqCst)
        };
        assert_eq!(value("enqueued_total", "seen"), 3);
        assert_eq!(value("batches_total", "size"), 1);
        assert_eq!(value("rejected_total", "closed"), 1);
    }

    #[test]
    fn labels_are_in_the_order_of_their_numbers() {
        assert!(REJECTIONS.iter().enumerate().all(|(at, why)| *why as usize == at));
        assert!(EVENTS.iter().enumerate().all(|(at, event)| *event as usize == at));
        assert!(Reason::ALL.iter().enumerate().all(|(at, reason)| *reason as usize == at));
    }
}
