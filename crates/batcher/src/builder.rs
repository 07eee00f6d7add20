//! Options, checked once, for every kind of batcher.

use std::{
    future::Future,
    hash::Hash,
    sync::{Arc, Once},
    time::Duration,
};

use crate::{
    Batch, BatchCtx, Batcher, BuildError, Clock, Dedup, Meter, Metrics, SharedSlots, SystemClock,
    TriggerMode,
    dedup::Admit,
    node::Shared,
    queue::{Hand, Queue, Rules},
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, AtomicUsize},
    },
    worker::{Core, Function},
};

/// Where the batch function runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Dispatch {
    /// On the batcher's one thread: at most one batch at a time, and batches end in the order of their items.
    #[default]
    Foreground,
    /// On up to so many threads, started as they are needed. Batches begin in order; the order in which they end is
    /// undefined if there may be more than one.
    Background {
        /// Batches that may run at a time.
        max_in_flight: usize,
    },
    /// As [`Dispatch::Background`], with no limit but the machine's. As many threads as were ever needed at a time stay
    /// until the close.
    Unbounded,
}

/// What happens when a batcher is dropped that was not closed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnDrop {
    /// Its threads finish the drain.
    #[default]
    Drain,
    /// What is queued is lost, as by [`Batcher::abort`].
    Abort,
}

type MakeTable<T, R, E> =
    Box<dyn FnOnce(&str, Option<Arc<dyn Meter>>) -> Result<Arc<dyn Admit<T, R, E>>, BuildError> + Send>;

/// Options of a [`Batcher`].
///
/// | option | default |
/// |---|---|
/// | name | `"batcher"` |
/// | size | 64 items |
/// | timeout | 10 ms |
/// | queue capacity | 64 × size |
/// | dispatch | [`Dispatch::Foreground`] |
/// | trigger mode | [`TriggerMode::Accumulate`] |
/// | on drop | [`OnDrop::Drain`] |
#[must_use]
pub struct Builder<T, R = (), E = std::convert::Infallible> {
    name: String,
    size: usize,
    timeout: Duration,
    queue_capacity: Option<usize>,
    dispatch: Dispatch,
    mode: TriggerMode,
    on_drop: OnDrop,
    clock: Arc<dyn Clock>,
    metrics: Option<Box<dyn Metrics>>,
    dedup: Option<MakeTable<T, R, E>>,
    spans: bool,
    pub(crate) slots: Option<SharedSlots>,
}

impl<T, R, E> Default for Builder<T, R, E> {
    fn default() -> Self {
        Self {
            name: "batcher".to_owned(),
            size: 64,
            timeout: Duration::from_millis(10),
            queue_capacity: None,
            dispatch: Dispatch::default(),
            mode: TriggerMode::default(),
            on_drop: OnDrop::default(),
            clock: Arc::new(SystemClock::new()),
            metrics: None,
            dedup: None,
            spans: false,
            slots: None,
        }
    }
}

impl<T, R, E> Builder<T, R, E>
where
    T: Send + 'static,
    R: Send + 'static,
    E: Send + 'static,
{
    /// The name in logs, metrics and errors.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// Items in a full batch; no batch is larger.
    pub fn size(mut self, items: usize) -> Self {
        self.size = items;
        self
    }

    /// How long the first item of a batch waits for company.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Items that may wait in the queue before submitters have to; besides them, a worker may have taken as many in
    /// hand. A group is accepted whole when there is any room.
    pub fn queue_capacity(mut self, items: usize) -> Self {
        self.queue_capacity = Some(items);
        self
    }

    /// Where the batch function runs.
    pub fn dispatch(mut self, dispatch: Dispatch) -> Self {
        self.dispatch = dispatch;
        self
    }

    /// How a batch comes together.
    pub fn trigger_mode(mut self, mode: TriggerMode) -> Self {
        self.mode = mode;
        self
    }

    /// Slots to be shared with other batchers, besides the limit of the dispatch.
    pub fn slots(mut self, slots: &SharedSlots) -> Self {
        self.slots = Some(slots.clone());
        self
    }

    /// What happens when the batcher is dropped without a close.
    pub fn on_drop(mut self, on_drop: OnDrop) -> Self {
        self.on_drop = on_drop;
        self
    }

    /// The clock of timeouts, ticks, the dedup window and close deadlines.
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// Where figures go; nowhere unless set.
    pub fn metrics(mut self, metrics: impl Metrics + 'static) -> Self {
        self.metrics = Some(Box::new(metrics));
        self
    }

    /// Recognises items of a key that was accepted a short while ago.
    pub fn dedup<K>(mut self, dedup: Dedup<T, K, R, E>) -> Self
    where
        K: Hash + Eq + Clone + Send + 'static,
    {
        self.dedup =
            Some(Box::new(move |batcher, meter| Ok(Arc::new(dedup.into_table(batcher, meter)?) as _)));
        self
    }

    /// Opens a tracing span for each batch that follows from its submitters' spans.
    pub fn spans(mut self, spans: bool) -> Self {
        self.spans = spans;
        self
    }

    /// Starts a batcher with this batch function.
    ///
    /// # Errors
    /// An option is invalid, or the system refused a thread.
    pub fn start<F>(self, function: F) -> Result<Batcher<T, R, E>, BuildError>
    where
        F: Fn(Batch<T, R, E>, &BatchCtx) + Send + Sync + 'static,
    {
        self.start_function(Arc::new(function))
    }

    /// Starts a batcher with an async batch function, driven by the batcher's own threads: it may await anything that
    /// needs no particular runtime.
    ///
    /// # Errors
    /// An option is invalid, or the system refused a thread.
    pub fn start_async<F, Fut>(self, function: F) -> Result<Batcher<T, R, E>, BuildError>
    where
        F: Fn(Batch<T, R, E>, BatchCtx) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        // The call is a tracked child like any other.
        self.start_function(Arc::new(move |batch, ctx| {
            let scope = ctx.share();
            ctx.spawn(function(batch, scope));
        }))
    }

    fn start_function(self, function: Arc<Function<T, R, E>>) -> Result<Batcher<T, R, E>, BuildError> {
        let rules = self.rules()?;
        notice_panic_abort();
        let meter = self.metrics.map(|metrics| metrics.bind(&self.name));
        let dedup = self.dedup.map(|make| make(&self.name, meter.clone())).transpose()?;
        let shared = Arc::new(Shared {
            name: self.name.as_str().into(),
            clock: Arc::clone(&self.clock),
            meter,
            children: AtomicUsize::new(0),
            panicked_items: AtomicU64::new(0),
            abandoned_items: AtomicU64::new(0),
            aborted: AtomicBool::new(false),
            group: std::sync::OnceLock::new(),
            life: Mutex::default(),
            threads: Mutex::default(),
        });
        let max_lanes = match self.dispatch {
            Dispatch::Foreground => 1,
            Dispatch::Background { max_in_flight } => max_in_flight,
            Dispatch::Unbounded => usize::MAX,
        };
        let core = Arc::new(Core {
            shared,
            queue: Queue::new(rules, self.clock),
            hand: Mutex::new(Hand::new()),
            dedup,
            max_lanes,
            background: self.dispatch != Dispatch::Foreground,
            spans: self.spans,
            skips: AtomicBool::new(false),
            slots: self.slots,
            idle: AtomicUsize::new(0),
        });
        core.start_lane(&function)
            .map_err(|e| BuildError::Thread { batcher: self.name, source: Arc::new(e) })?;
        Ok(Batcher::new(core, self.on_drop))
    }

    fn rules(&self) -> Result<Rules, BuildError> {
        if self.name.is_empty() {
            return Err(BuildError::EmptyName);
        }
        let zero = |option| BuildError::Zero { batcher: self.name.clone(), option };
        let capacity = self.queue_capacity.unwrap_or(self.size.saturating_mul(64));
        if self.dispatch == (Dispatch::Background { max_in_flight: 0 }) {
            return Err(zero("max_in_flight"));
        }
        if self.slots.as_ref().is_some_and(|slots| slots.count() == 0) {
            return Err(zero("slots"));
        }
        match (self.size, capacity, self.mode) {
            (0, _, _) => Err(zero("size")),
            (_, 0, _) => Err(zero("queue_capacity")),
            (_, _, TriggerMode::Tick(Duration::ZERO)) => Err(zero("tick")),
            (size, capacity, mode) => Ok(Rules { size, capacity, mode, timeout: self.timeout }),
        }
    }
}

/// Says once per process that panics will not be isolated, where the build makes that so.
fn notice_panic_abort() {
    static ONCE: Once = Once::new();
    if cfg!(panic = "abort") {
        ONCE.call_once(|| {
            tracing::warn!(
                "panics abort this process: a panicking batch function ends it, and no drain is finished"
            );
        });
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::time::Duration;

    use crate::{Batch, Batcher, BuildError, Builder, Dedup, Dispatch, SharedSlots, TriggerMode};

    fn start(builder: Builder<u32>) -> Result<Batcher<u32>, BuildError> {
        builder.start(|batch: Batch<u32>, _| batch.finish_each(|_| Ok(())))
    }

    #[test]
    fn zeros_are_refused_in_every_variant() {
        let plain = Batcher::builder;
        let by_value = || Dedup::by(|item: &u32| *item);
        let dedup = || plain().dedup(by_value());
        for (option, builder) in [
            ("size", plain().size(0)),
            ("size", dedup().size(0)),
            ("queue_capacity", plain().queue_capacity(0)),
            ("queue_capacity", dedup().queue_capacity(0)),
            ("max_in_flight", plain().dispatch(Dispatch::Background { max_in_flight: 0 })),
            ("max_in_flight", dedup().dispatch(Dispatch::Background { max_in_flight: 0 })),
            ("slots", plain().slots(&SharedSlots::new(0))),
            ("tick", plain().trigger_mode(TriggerMode::Tick(Duration::ZERO))),
            ("dedup.window", plain().dedup(by_value().window(Duration::ZERO))),
            ("dedup.bucket", plain().dedup(by_value().bucket(Duration::ZERO))),
            ("dedup.max_keys", plain().dedup(by_value().max_keys(0))),
        ] {
            let error = start(builder.name("odd")).unwrap_err();
            assert!(
                matches!(&error, BuildError::Zero { option: o, .. } if *o == option),
                "{option}: {error}"
            );
            assert!(error.to_string().contains("odd"), "{error}");
        }
        assert!(matches!(start(plain().name("")), Err(BuildError::EmptyName)));
        let uneven = by_value().window(Duration::from_secs(10)).bucket(Duration::from_secs(3));
        assert!(matches!(start(plain().dedup(uneven)), Err(BuildError::Buckets { .. })));
        let fine = by_value().window(Duration::from_secs(3600)).bucket(Duration::from_nanos(1));
        assert!(matches!(start(plain().dedup(fine)), Err(BuildError::Buckets { .. })));
    }

    #[test]
    fn the_extremes_work() {
        for builder in [
            Batcher::builder().size(usize::MAX).timeout(Duration::MAX).queue_capacity(1),
            Batcher::builder().size(usize::MAX).timeout(Duration::ZERO).queue_capacity(usize::MAX),
            Batcher::builder().size(1).queue_capacity(usize::MAX).timeout(Duration::ZERO),
            Batcher::builder().trigger_mode(TriggerMode::Tick(Duration::MAX)),
            Batcher::builder().dispatch(Dispatch::Unbounded),
            Batcher::builder().dispatch(Dispatch::Background { max_in_flight: usize::MAX }),
        ] {
            let batcher = start(builder).unwrap();
            let items = batcher.submit_many(vec![1, 2, 3]).unwrap();
            batcher.submit_detached(4).unwrap();
            let report = batcher.close(Duration::from_secs(10)).unwrap();
            assert!(items.is_complete() && report.batches.iter().sum::<u64>() > 0);
        }
    }
}
