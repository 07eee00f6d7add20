//! The threads of a batcher. They take turns at leading: the leader, who holds the hand, cuts the next batch, passes the
//! hand on and runs the batch itself. One thread is the foreground dispatch; `max_in_flight` of them the background one.

use std::{
    collections::VecDeque,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use crate::{
    Batch, BatchCtx, CloseReport, Draining, Failure, Meter, Reason, Rejection, SharedSlots,
    batch::{Books, Entry},
    dedup::Admit,
    lane::{Desk, Lane, message},
    mutants,
    node::{Hook, Node, Shared},
    queue::{Admission, Cut, Hand, Queue},
    slots::Taken,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
        lock,
    },
};

/// The batch function, whichever kind it is.
pub(crate) type Function<T, R, E> = dyn Fn(Batch<T, R, E>, &BatchCtx) + Send + Sync;

/// A batch to be run, and its shared slot.
type Led<T, R, E> = (Cut<Entry<T, R, E>>, Reason, Option<Taken>);

/// A batcher, as its handles and threads see it. It does not hold the batch function: that goes with the threads.
pub(crate) struct Core<T, R, E> {
    pub(crate) shared: Arc<Shared>,
    pub(crate) queue: Queue<Entry<T, R, E>>,
    pub(crate) hand: Mutex<Hand<Entry<T, R, E>>>,
    pub(crate) dedup: Option<Arc<dyn Admit<T, R, E>>>,
    pub(crate) max_lanes: usize,
    /// Whether a wait for a free slot is a figure of interest.
    pub(crate) background: bool,
    /// Whether batches get spans.
    pub(crate) spans: bool,
    /// Whether items may be left out.
    pub(crate) skips: AtomicBool,
    /// Slots shared with other batchers.
    pub(crate) slots: Option<SharedSlots>,
    /// Threads ready to lead.
    pub(crate) idle: AtomicUsize,
}

impl<T, R, E> Core<T, R, E>
where
    T: Send + 'static,
    R: Send + 'static,
    E: Send + 'static,
{
    /// Starts one more thread.
    pub(crate) fn start_lane(self: &Arc<Self>, function: &Arc<Function<T, R, E>>) -> std::io::Result<()> {
        let (core, function) = (Arc::clone(self), Arc::clone(function));
        lock(&self.shared.life).lanes += 1;
        // Spans of batches and submitters belong to one subscriber.
        let dispatch = self.spans.then(|| tracing::dispatcher::get_default(Clone::clone));
        let thread = std::thread::Builder::new().name(self.shared.name.to_string()).spawn(move || {
            let _subscriber = dispatch.as_ref().map(tracing::dispatcher::set_default);
            let lane = Arc::new(Lane::new(Arc::clone(&core.shared), core.queue.add_slot()));
            // What batch functions panic with is caught closer by; this is for clocks and subscribers.
            while let Err(panic) = catch_unwind(AssertUnwindSafe(|| core.work(&lane, &function))) {
                core.queue.ended(&lane.running);
                core.queue.progress();
                tracing::error!(
                    batcher = &*core.shared.name,
                    panic = &*message(&*panic),
                    "a worker panicked"
                );
            }
            if catch_unwind(AssertUnwindSafe(|| drop(function))).is_err() {
                tracing::error!(
                    batcher = &*core.shared.name,
                    "the batch function panicked when it was dropped"
                );
            }
            core.lane_ended();
        });
        match thread {
            Ok(thread) => lock(&self.shared.threads).push(thread),
            Err(e) => {
                lock(&self.shared.life).lanes -= 1;
                return Err(e);
            }
        }
        Ok(())
    }

    fn work(self: &Arc<Self>, lane: &Arc<Lane>, function: &Arc<Function<T, R, E>>) {
        let mut desk = None;
        while let Some((entries, reason, _slot)) = self.lead(lane, function) {
            desk.get_or_insert_with(|| {
                let dedup = self.dedup.clone().map(|dedup| dedup as _);
                Desk::new(lane, Books::new(Arc::clone(lane), dedup))
            });
            self.run(lane, &mut desk, &**function, entries, reason);
            self.queue.ended(&lane.running);
            if self.background {
                self.queue.progress();
            }
        }
    }

    /// Waits for the lead and then for a batch.
    fn lead(self: &Arc<Self>, lane: &Arc<Lane>, function: &Arc<Function<T, R, E>>) -> Option<Led<T, R, E>> {
        if self.background {
            self.idle.fetch_add(1, Ordering::SeqCst);
        }
        let mut hand = lock(&self.hand);
        if self.background {
            self.idle.fetch_sub(1, Ordering::SeqCst);
            self.note_backpressure(&mut hand);
        }
        let keep = self.skips.load(Ordering::Relaxed).then_some(Entry::is_wanted as _);
        let keep = if mutants::on("cancelled_are_skipped") { Some(Entry::is_watched as _) } else { keep };
        let aborted = |entries| self.fail_aborted(entries);
        let batch = self.queue.take(&mut hand, &lane.running, || self.take_slot(), keep, aborted)?;
        if self.background {
            self.pass_on(&mut hand, function);
        }
        Some(batch)
    }

    /// Waits for a slot shared with other batchers, in the lead: so batches get slots in their order.
    fn take_slot(&self) -> Option<Taken> {
        let slots = self.slots.as_ref()?;
        slots.try_take().or_else(|| {
            let began = self.shared.clock.now();
            let slot = slots.take();
            self.shared.meter(|m| m.backpressure_wait(self.shared.clock.now().saturating_sub(began)));
            Some(slot)
        })
    }

    /// Sees to it that someone leads while the current thread runs its batch, if there may be one more.
    fn pass_on(self: &Arc<Self>, hand: &mut Hand<Entry<T, R, E>>, function: &Arc<Function<T, R, E>>) {
        if self.idle.load(Ordering::SeqCst) > 0 {
            return;
        }
        if lock(&self.shared.life).lanes < self.max_lanes + usize::from(mutants::on("one_more_slot")) {
            match self.start_lane(function) {
                Ok(()) => return,
                Err(e) => {
                    tracing::warn!(batcher = &*self.shared.name, error = %e, "no further thread for a slot");
                }
            }
        }
        if self.shared.meter.is_some() {
            hand.left_at = Some(self.shared.clock.now());
        }
    }

    /// Notes how long items waited while every slot was busy.
    fn note_backpressure(&self, hand: &mut Hand<Entry<T, R, E>>) {
        if let Some(left_at) = hand.left_at.take()
            && self.queue.len() > 0
        {
            let waited = self.shared.clock.now().saturating_sub(left_at);
            self.shared.meter(|meter| meter.backpressure_wait(waited));
        }
    }

    fn run(
        &self,
        lane: &Lane,
        desk: &mut Option<Desk<Books<R, E>>>,
        function: &Function<T, R, E>,
        entries: Cut<Entry<T, R, E>>,
        reason: Reason,
    ) {
        let shared = &self.shared;
        let began = shared.meter.is_some().then(|| shared.clock.now());
        shared.meter(|meter| {
            meter.batch_fired(reason, entries.len());
            meter.queue_depth(self.queue.len());
            meter.in_flight(self.queue.in_flight());
        });
        let _span = self.spans.then(|| self.span(entries.as_slice(), reason).entered());
        let call = |desk: &Desk<Books<R, E>>| {
            function(Batch::new(entries, Arc::clone(&desk.books), reason), &desk.ctx);
        };
        lane.run(desk, call);
        if let Some(began) = began {
            let took = shared.clock.now().saturating_sub(began);
            shared.meter(|meter| {
                meter.batch_ended(took);
                meter.in_flight(self.queue.in_flight().saturating_sub(1));
            });
        }
    }

    /// The span of one batch, which follows from those of its submitters.
    fn span(&self, entries: &[Entry<T, R, E>], reason: Reason) -> tracing::Span {
        let (batcher, items) = (&*self.shared.name, entries.len());
        let span = tracing::info_span!(parent: None, "batch", batcher, reason = reason.label(), items);
        for submitter in entries.iter().filter_map(|entry| entry.notes.as_ref()?.span.as_ref()) {
            span.follows_from(submitter);
        }
        span
    }

    pub(crate) fn note_accepted(&self, meter: &dyn Meter, items: usize, duplicates: u64) {
        if items > 0 {
            meter.enqueued(if mutants::on("group_counts_one") { 1 } else { items as u64 });
            meter.queue_depth(self.queue.len());
        }
        if duplicates > 0 {
            meter.rejected(Rejection::Duplicate, duplicates);
        }
    }

    pub(crate) fn fail_aborted(&self, entries: VecDeque<Entry<T, R, E>>) {
        for Entry { sink, notes, .. } in entries {
            let ticket = notes.and_then(|notes| notes.ticket);
            let outcome = Err(Failure::Aborted { batcher: Arc::clone(&self.shared.name) });
            if let (Some(dedup), Some(ticket)) = (&self.dedup, ticket) {
                dedup.settle(ticket, &outcome);
            }
            sink.publish(outcome);
        }
    }

    /// A thread, or an abort, has nothing left to do; the last one closes the batcher.
    pub(crate) fn lane_ended(&self) {
        let shared = &self.shared;
        let mut life = lock(&shared.life);
        life.lanes -= 1;
        if life.lanes > 0 {
            return;
        }
        let (began_at, handed_before) = life.began.unwrap_or_default();
        let report = CloseReport {
            drained_items: self.queue.handed().saturating_sub(handed_before),
            batches: lock(&self.hand).fired,
            panicked_items: shared.panicked_items.load(Ordering::SeqCst),
            abandoned_items: shared.abandoned_items.load(Ordering::SeqCst),
            aborted_items: self.queue.dropped(),
            wall_time: shared.clock.now().saturating_sub(began_at),
        };
        let hooks = std::mem::take(&mut life.hooks);
        let wakers = std::mem::take(&mut life.wakers);
        life.report = Some(report.clone());
        drop(life);
        shared.meter(|meter| meter.drained(report.wall_time));
        for hook in hooks {
            hook(&report);
        }
        wakers.into_iter().for_each(std::task::Waker::wake);
    }
}

impl<T, R, E> Node for Core<T, R, E>
where
    T: Send + 'static,
    R: Send + 'static,
    E: Send + 'static,
{
    fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    fn queued(&self) -> u64 {
        self.queue.len()
    }

    fn in_flight(&self) -> usize {
        self.queue.in_flight()
    }

    fn seal_external(&self) {
        self.queue.seal(Admission::InternalOnly);
    }

    fn set_eager(&self) {
        self.queue.set_eager();
    }

    fn begin_close(self: Arc<Self>) -> Draining {
        lock(&self.shared.life).began.get_or_insert((self.shared.clock.now(), self.queue.handed()));
        if !mutants::on("close_waits_to_be_awaited") {
            self.queue.seal(Admission::Nobody);
        }
        self.shared.aborted.fetch_or(mutants::on("close_cancels_context"), Ordering::SeqCst);
        Draining::new(self)
    }

    fn on_closed(&self, hook: Hook) {
        let mut life = lock(&self.shared.life);
        match life.report.clone() {
            None => life.hooks.push(hook),
            Some(report) => {
                drop(life);
                hook(&report);
            }
        }
    }
}
