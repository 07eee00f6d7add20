//! Time, as far as anything is decided by it: pauses between retries, waits for a source, the grace of what was demoted.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use icecore_registry::CancelToken;

/// What pauses and graces are measured with.
pub trait Clock: Send + Sync + 'static {
    /// Time since some fixed moment; never goes back.
    fn now(&self) -> Duration;

    /// Waits, and gives up early when told to end; tells whether it was.
    fn pause(&self, time: Duration, stop: &CancelToken) -> bool;
}

/// Real, monotonic time: a wall clock that jumps changes nothing.
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

    fn pause(&self, time: Duration, stop: &CancelToken) -> bool {
        stop.wait_timeout(time)
    }
}

/// A clock for tests: whoever waits moves it on, so that no wait takes time.
#[derive(Debug, Default)]
pub struct LeapingClock {
    now: Mutex<Duration>,
}

impl LeapingClock {
    /// Moves time on.
    pub fn advance(&self, by: Duration) {
        *self.now.lock().unwrap_or_else(PoisonError::into_inner) += by;
    }
}

impl Clock for LeapingClock {
    fn now(&self) -> Duration {
        *self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pause(&self, time: Duration, stop: &CancelToken) -> bool {
        self.advance(time);
        stop.is_cancelled()
    }
}
