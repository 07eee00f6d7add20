use std::{fmt, sync::Arc, time::Duration};

use crate::{
    clock::SystemClock,
    signal::Signal,
    sync::{AtomicBool, Ordering},
    wait::{Look, Time, Timer, block_on, wait},
};

/// A worker's order to end. Clones are the same order; once given it stays.
///
/// A thread asks with [`is_cancelled`](Self::is_cancelled) or sleeps in [`wait_timeout`](Self::wait_timeout); a task awaits
/// [`cancelled`](Self::cancelled).
#[derive(Clone, Default)]
pub struct CancelToken {
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    cancelled: AtomicBool,
    signal: Signal,
}

impl CancelToken {
    /// A token that is not cancelled. Workers get theirs from the registry.
    pub fn new() -> Self {
        Self::default()
    }

    /// Gives the order.
    pub fn cancel(&self) {
        self.inner.cancelled.store(true, Ordering::Release);
        self.inner.signal.wake_all();
    }

    /// Whether the order was given.
    pub fn is_cancelled(&self) -> bool {
        self.inner.cancelled.load(Ordering::Acquire)
    }

    /// Completes when the order is given. Needs no particular runtime.
    pub async fn cancelled(&self) {
        let time = Time { clock: &SystemClock::default(), timer: &Timer::Nobody };
        wait(&self.inner.signal, time, None, || self.look()).await;
    }

    /// Blocks until the order is given.
    pub fn wait(&self) {
        block_on(|_| self.cancelled());
    }

    /// Blocks until the order is given or `timeout` of real time is over; tells whether it was given.
    pub fn wait_timeout(&self, timeout: Duration) -> bool {
        let clock = SystemClock::default();
        block_on(|timer| async move {
            let time = Time { clock: &clock, timer: &timer };
            wait(&self.inner.signal, time, Some(timeout), || self.look()).await.is_some()
        })
    }

    fn look(&self) -> Look<()> {
        if self.is_cancelled() { Look::Done(()) } else { Look::Later }
    }
}

impl fmt::Debug for CancelToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CancelToken").field("cancelled", &self.is_cancelled()).finish()
    }
}
