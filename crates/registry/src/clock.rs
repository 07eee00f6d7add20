use std::{
    sync::Arc,
    task::Waker,
    time::{Duration, Instant},
};

use crate::sync::{Mutex, lock};

/// What budgets and graces are measured with.
pub trait Clock: Send + Sync + 'static {
    /// Time since some fixed moment; never goes back.
    fn now(&self) -> Duration;

    /// Somebody waits for `at`. Returns how long that is in real time, for the caller to sleep; or `None`, and then the
    /// clock itself wakes `waker` when `at` has come.
    fn arm(&self, at: Duration, waker: &Waker) -> Option<Duration>;
}

/// Real, monotonic time.
#[derive(Clone, Copy, Debug)]
pub struct SystemClock {
    origin: Instant,
}

impl Default for SystemClock {
    fn default() -> Self {
        Self { origin: Instant::now() }
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Duration {
        self.origin.elapsed()
    }

    fn arm(&self, at: Duration, _waker: &Waker) -> Option<Duration> {
        Some(at.saturating_sub(self.now()))
    }
}

/// A clock that a test moves by hand: budgets expire when the test says so, not when a machine is slow.
#[derive(Clone, Default)]
pub struct ManualClock {
    inner: Arc<Mutex<Manual>>,
}

#[derive(Default)]
struct Manual {
    now: Duration,
    sleepers: Vec<(Duration, Waker)>,
}

impl ManualClock {
    /// A clock at zero.
    pub fn new() -> Self {
        Self::default()
    }

    /// Moves time on by `by` and wakes everybody whose moment has come.
    pub fn advance(&self, by: Duration) {
        let mut inner = lock(&self.inner);
        inner.now = inner.now.saturating_add(by);
        let now = inner.now;
        let (due, later) = std::mem::take(&mut inner.sleepers).into_iter().partition(|(at, _)| *at <= now);
        inner.sleepers = later;
        drop(inner);
        let due: Vec<(Duration, Waker)> = due;
        due.into_iter().for_each(|(_, waker)| waker.wake());
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Duration {
        lock(&self.inner).now
    }

    fn arm(&self, at: Duration, waker: &Waker) -> Option<Duration> {
        let mut inner = lock(&self.inner);
        if at <= inner.now {
            return Some(Duration::ZERO);
        }
        if !inner.sleepers.iter().any(|(known, other)| *known == at && other.will_wake(waker)) {
            inner.sleepers.push((at, waker.clone()));
        }
        None
    }
}
