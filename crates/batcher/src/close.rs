//! The end of a batcher: open, draining, closed.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use crate::{
    CloseError, DrainNotConfirmed, Reason, mutants,
    node::{Node, Shared},
    sync::{atomic::Ordering, block_until, lock, register},
};

/// What a batcher did, told once it is closed; the same for everyone who asks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CloseReport {
    /// Items handed to the batch function after the close began.
    pub drained_items: u64,
    /// Batches fired over the whole life, in the order of [`Reason::ALL`]; see [`CloseReport::batches_by`].
    pub batches: [u64; Reason::ALL.len()],
    /// Items failed by a panic of their batch, over the whole life.
    pub panicked_items: u64,
    /// Items the batch function forgot, over the whole life.
    pub abandoned_items: u64,
    /// Items failed by an abort.
    pub aborted_items: u64,
    /// From the begin of the close to the end of the last batch.
    pub wall_time: Duration,
}

impl CloseReport {
    /// How many batches were fired for this reason.
    pub fn batches_by(&self, reason: Reason) -> u64 {
        self.batches[reason as usize]
    }
}

/// A close under way. Await it, or wait for it on a thread; dropping it changes nothing: the drain continues.
#[derive(Clone)]
pub struct Draining {
    node: Arc<dyn Node>,
}

impl Draining {
    pub(crate) fn new(node: Arc<dyn Node>) -> Self {
        Self { node }
    }

    /// The batcher's name.
    pub fn name(&self) -> &str {
        &self.node.shared().name
    }

    /// The report, if the batcher is closed.
    pub fn report(&self) -> Option<CloseReport> {
        let report = lock(&self.node.shared().life).report.clone()?;
        join_threads(self.node.shared());
        Some(report)
    }

    /// Blocks until the batcher is closed.
    ///
    /// # Errors
    /// [`CloseError::WouldDeadlock`] inside the batcher's own batch function.
    pub fn wait(&self) -> Result<CloseReport, CloseError> {
        self.wait_until(None)
    }

    /// Blocks until the batcher is closed, but not longer than this.
    ///
    /// # Errors
    /// [`CloseError::NotConfirmed`] when the time is up: the drain continues and its outcome is not known yet.
    /// [`CloseError::WouldDeadlock`] inside the batcher's own batch function.
    pub fn wait_timeout(&self, timeout: Duration) -> Result<CloseReport, CloseError> {
        self.wait_until(Some(self.node.shared().clock.now().saturating_add(timeout)))
    }

    fn wait_until(&self, until: Option<Duration>) -> Result<CloseReport, CloseError> {
        let shared = self.node.shared();
        shared.check_caller()?;
        if mutants::on("close_only_signals") {
            return Ok(CloseReport::default());
        }
        if let Some(report) = block_until(&*shared.clock, until, |cx| self.poll_report(cx)) {
            return Ok(report);
        }
        if mutants::on("timeout_is_success") {
            return Ok(CloseReport::default());
        }
        shared.meter(|meter| meter.drain_unconfirmed());
        Err(CloseError::NotConfirmed(DrainNotConfirmed {
            queued: self.node.queued(),
            in_flight: self.node.in_flight(),
            children: shared.children.load(Ordering::SeqCst),
            handle: self.clone(),
        }))
    }

    fn poll_report(&self, cx: &mut Context<'_>) -> Poll<CloseReport> {
        let shared = self.node.shared();
        let mut life = lock(&shared.life);
        let Some(report) = life.report.clone() else {
            register(&mut life.wakers, cx.waker());
            return Poll::Pending;
        };
        if mutants::on("first_closer_takes_report") {
            life.report = None;
        }
        drop(life);
        join_threads(shared);
        Poll::Ready(report)
    }
}

impl Future for Draining {
    /// As [`Draining::wait`].
    type Output = Result<CloseReport, CloseError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.node.shared().check_caller()?;
        self.poll_report(cx).map(Ok)
    }
}

impl fmt::Debug for Draining {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Draining").field("batcher", &self.name()).finish_non_exhaustive()
    }
}

/// Joins the threads of a closed batcher: they have nothing left to do but to return.
fn join_threads(shared: &Shared) {
    let me = std::thread::current().id();
    for thread in lock(&shared.threads).extract_if(.., |thread| thread.thread().id() != me) {
        // What a batch function panics with is caught; there is nothing left to report here.
        let _ = thread.join();
    }
}
