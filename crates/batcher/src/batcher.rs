//! The handle of a batcher.

use std::{
    convert::Infallible,
    fmt,
    future::Future,
    ops::Deref,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use crate::{
    Builder, CloseError, CloseReport, Completion, Draining, Inlet, OnDrop, SubmitError, mutants,
    node::Node,
    queue::Class,
    sync::{atomic::Ordering, lock},
    worker::Core,
};

/// A queue whose items are handed to a batch function in batches, and the owner of its threads.
///
/// It derefs to [`Inlet`], the family of submissions. Share it behind an [`Arc`]; when the last handle is dropped without
/// a [`close`](Self::close), the queue drains in the background and an error is logged.
pub struct Batcher<T: Send + 'static, R: Send + 'static = (), E: Send + 'static = Infallible> {
    core: Arc<Core<T, R, E>>,
    inlet: Inlet<T, R, E>,
    on_drop: OnDrop,
}

impl<T, R, E> Batcher<T, R, E>
where
    T: Send + 'static,
    R: Send + 'static,
    E: Send + 'static,
{
    /// Options for a new batcher.
    pub fn builder() -> Builder<T, R, E> {
        Builder::default()
    }

    pub(crate) fn new(core: Arc<Core<T, R, E>>, on_drop: OnDrop) -> Self {
        let inlet = Inlet::new(Arc::clone(&core), Class::External);
        Self { core, inlet, on_drop }
    }

    /// The name in logs, metrics and errors.
    pub fn name(&self) -> &str {
        &self.core.shared.name
    }

    /// Items accepted and not yet handed to the batch function.
    pub fn queued(&self) -> u64 {
        self.core.queue.len()
    }

    /// Submitters that wait for room.
    #[cfg(all(test, not(loom)))]
    pub(crate) fn waiting(&self) -> usize {
        self.core.queue.waiting()
    }

    /// Batches begun and not ended.
    pub fn in_flight(&self) -> usize {
        self.core.queue.in_flight()
    }

    /// Fires what is queued, without waiting for it.
    ///
    /// # Errors
    /// [`SubmitError::Closed`]: the batcher is closing or closed, nothing is left to be asked for.
    pub fn trigger(&self) -> Result<(), SubmitError<()>> {
        if self.core.queue.trigger() { Ok(()) } else { Err(SubmitError::Closed(())) }
    }

    /// Fires what is queued. The barrier is reached when every item accepted before this call was handed to the batch
    /// function.
    pub fn flush(&self) -> Flush {
        self.barrier(false)
    }

    /// Fires what is queued. The barrier is reached when the batch of every item accepted before this call has ended, its
    /// tracked children included.
    pub fn flush_completed(&self) -> Flush {
        self.barrier(true)
    }

    /// Ends submissions and lets the queue drain, without waiting for it; legal inside the batch function.
    pub fn begin_close(&self) -> Draining {
        Arc::clone(&self.core).begin_close()
    }

    /// Ends submissions and waits until everything accepted was executed and finished, tracked children included. May be
    /// called as often and from as many threads as one likes: all get the same report.
    ///
    /// # Errors
    /// [`CloseError::NotConfirmed`] when the time is up: the drain continues, and its outcome is not known yet.
    /// [`CloseError::WouldDeadlock`] inside the batcher's own batch function; then nothing has begun.
    pub fn close(&self, timeout: Duration) -> Result<CloseReport, CloseError> {
        self.core.shared.check_caller()?;
        self.begin_close().wait_timeout(timeout)
    }

    /// Closes at the price of what is queued: those items fail with [`crate::Failure::Aborted`], and
    /// [`crate::BatchCtx::is_aborted`] tells running batch functions to give up. Nothing else loses items.
    pub fn abort(&self) -> Draining {
        let shared = &self.core.shared;
        shared.aborted.store(true, Ordering::SeqCst);
        let draining = self.begin_close();
        {
            let mut life = lock(&shared.life);
            if life.report.is_some() {
                return draining;
            }
            // The batcher is not closed before what is taken here is told.
            life.lanes += 1;
        }
        let mut items = self.core.queue.abort();
        if let Ok(mut hand) = self.core.hand.try_lock() {
            let in_hand = hand.clear();
            self.core.queue.note_dropped(in_hand.len());
            items.extend(in_hand);
        }
        tracing::warn!(batcher = self.name(), items = items.len(), "aborted: queued items are lost");
        self.core.fail_aborted(items);
        self.core.lane_ended();
        draining
    }

    fn barrier(&self, ended: bool) -> Flush {
        let (reached, sink) = Completion::new();
        self.core.queue.barrier(ended, sink);
        Flush { node: Arc::clone(&self.core) as _, reached }
    }

    /// The batcher as a member of a group sees it.
    pub(crate) fn node(&self) -> Arc<dyn Node> {
        Arc::clone(&self.core) as _
    }

    /// A way in for producers over a declared edge, open until all submissions end.
    pub(crate) fn internal(&self) -> Inlet<T, R, E> {
        Inlet::new(Arc::clone(&self.core), Class::Internal)
    }
}

impl<T: Send, R: Send, E: Send> Deref for Batcher<T, R, E> {
    type Target = Inlet<T, R, E>;

    fn deref(&self) -> &Self::Target {
        &self.inlet
    }
}

impl<T: Send, R: Send, E: Send> Drop for Batcher<T, R, E> {
    fn drop(&mut self) {
        if lock(&self.core.shared.life).began.is_some() {
            return;
        }
        let undispatched = self.queued();
        match self.on_drop {
            OnDrop::Drain => _ = self.begin_close(),
            OnDrop::Abort => _ = self.abort(),
        }
        if mutants::on("drop_is_silent") {
            return;
        }
        tracing::error!(batcher = self.name(), undispatched, policy = ?self.on_drop, "dropped without a close");
    }
}

impl<T: Send, R: Send, E: Send> fmt::Debug for Batcher<T, R, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batcher")
            .field("name", &self.name())
            .field("queued", &self.queued())
            .field("in_flight", &self.in_flight())
            .finish_non_exhaustive()
    }
}

/// A barrier under way. Await it, or wait for it on a thread; dropping it changes nothing.
#[must_use = "the barrier is not waited for"]
pub struct Flush {
    node: Arc<dyn Node>,
    reached: Completion<(), Infallible>,
}

impl Flush {
    /// True once the barrier is reached.
    pub fn is_reached(&self) -> bool {
        self.reached.is_ready()
    }

    /// Blocks until the barrier is reached.
    ///
    /// # Errors
    /// [`CloseError::WouldDeadlock`] inside the batcher's own batch function.
    pub fn wait(self) -> Result<(), CloseError> {
        self.node.shared().check_caller()?;
        // A barrier does not fail.
        let _ = self.reached.wait();
        Ok(())
    }
}

impl Future for Flush {
    /// As [`Flush::wait`].
    type Output = Result<(), CloseError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.node.shared().check_caller()?;
        Pin::new(&mut self.reached).poll(cx).map(|_| Ok(()))
    }
}

impl fmt::Debug for Flush {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Flush").field("is_reached", &self.is_reached()).finish_non_exhaustive()
    }
}
