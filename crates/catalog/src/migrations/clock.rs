//! Time and orders to stop.

use std::{
    fmt,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use jiff::Timestamp;

/// What holds, pauses and leases are measured with.
pub trait Clock: Send + Sync + 'static {
    /// Time since some fixed moment; never goes back.
    fn now(&self) -> Duration;

    /// The time of day, as other processes have it too.
    fn utc(&self) -> Timestamp;

    /// Waits until `time` is over or the order to stop is given; tells whether it was given.
    fn sleep(&self, time: Duration, cancel: &Cancel) -> bool;
}

/// Real time.
#[derive(Clone, Copy, Debug)]
pub struct SystemClock {
    origin: Instant,
}

impl Default for SystemClock {
    fn default() -> Self {
        SystemClock { origin: Instant::now() }
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Duration {
        self.origin.elapsed()
    }

    fn utc(&self) -> Timestamp {
        Timestamp::now()
    }

    fn sleep(&self, time: Duration, cancel: &Cancel) -> bool {
        cancel.wait_timeout(time)
    }
}

/// An order to stop. Clones are the same order; once given it stays.
#[derive(Clone, Default)]
pub struct Cancel {
    inner: Arc<(Mutex<bool>, Condvar)>,
}

impl Cancel {
    /// Gives the order.
    pub fn cancel(&self) {
        *lock(&self.inner.0) = true;
        self.inner.1.notify_all();
    }

    /// Whether the order was given.
    pub fn is_cancelled(&self) -> bool {
        *lock(&self.inner.0)
    }

    /// Waits until the order is given or `time` is over; tells whether it was given.
    pub fn wait_timeout(&self, time: Duration) -> bool {
        let waited = self.inner.1.wait_timeout_while(lock(&self.inner.0), time, |given| !*given);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }
}

impl fmt::Debug for Cancel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Cancel").field(&self.is_cancelled()).finish()
    }
}

/// Enters a lock even if a holder panicked: every section here leaves its data whole at each step.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
