//! Time as the batcher sees it: the system's, or a hand on a dial.

use std::{
    fmt,
    time::{Duration, Instant},
};

use crate::sync::{Mutex, lock, thread};

/// A monotonic clock, and the way a thread sleeps by it.
pub trait Clock: Send + Sync + 'static {
    /// The time since a fixed moment of this clock's own choice.
    fn now(&self) -> Duration;

    /// Parks the current thread until it is unparked or the clock shows `at`. May return early for no reason, as
    /// [`std::thread::park`] may.
    fn park_until(&self, at: Duration);
}

/// The system's monotonic clock.
#[derive(Clone, Copy, Debug)]
pub struct SystemClock {
    origin: Instant,
}

impl SystemClock {
    /// A clock that starts at zero now.
    pub fn new() -> Self {
        Self { origin: Instant::now() }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Duration {
        self.origin.elapsed()
    }

    #[cfg(not(loom))]
    fn park_until(&self, at: Duration) {
        thread::park_timeout(at.saturating_sub(self.now()));
    }

    #[cfg(loom)]
    fn park_until(&self, _: Duration) {
        thread::park();
    }
}

/// A clock that moves only when told to: tests of anything timed need no sleep.
///
/// ```
/// use icecore_batcher::{Clock, ManualClock};
/// use std::time::Duration;
///
/// let clock = ManualClock::new();
/// clock.advance(Duration::from_millis(40));
/// assert_eq!(clock.now(), Duration::from_millis(40));
/// ```
#[derive(Default)]
pub struct ManualClock {
    dial: Mutex<Dial>,
}

#[derive(Default)]
struct Dial {
    now: Duration,
    sleepers: Vec<(Duration, thread::Thread)>,
}

impl ManualClock {
    /// A clock that shows zero.
    pub fn new() -> Self {
        Self::default()
    }

    /// Moves the clock on and wakes whoever is due.
    pub fn advance(&self, by: Duration) {
        let mut dial = lock(&self.dial);
        dial.now += by;
        let now = dial.now;
        dial.sleepers.retain(|(at, thread)| {
            let asleep = *at > now;
            if !asleep {
                thread.unpark();
            }
            asleep
        });
    }

    /// How many threads sleep by this clock: zero where no timer is armed.
    pub fn sleepers(&self) -> usize {
        lock(&self.dial).sleepers.len()
    }
}

impl fmt::Debug for ManualClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ManualClock").field("now", &self.now()).finish_non_exhaustive()
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Duration {
        lock(&self.dial).now
    }

    fn park_until(&self, at: Duration) {
        let me = thread::current().id();
        {
            let mut dial = lock(&self.dial);
            if dial.now >= at {
                return;
            }
            dial.sleepers.push((at, thread::current()));
        }
        thread::park();
        lock(&self.dial).sleepers.retain(|(_, thread)| thread.id() != me);
    }
}

impl<C: Clock + ?Sized> Clock for std::sync::Arc<C> {
    fn now(&self) -> Duration {
        (**self).now()
    }

    fn park_until(&self, at: Duration) {
        (**self).park_until(at);
    }
}
