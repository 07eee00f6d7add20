//! The locks, atomics and threads the queue is built from: the standard ones, or loom's when a model checks it.

use std::{
    sync::{Arc, PoisonError},
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

#[cfg(loom)]
pub(crate) use loom::{
    sync::{Condvar, Mutex, MutexGuard, atomic},
    thread,
};
#[cfg(not(loom))]
pub(crate) use std::{
    sync::{Condvar, Mutex, MutexGuard, atomic},
    thread,
};

use crate::Clock;

/// Locks, whether or not a thread panicked with the lock in its hands: foreign code under a lock runs only before the
/// first change.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Unpark(thread::Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.unpark();
    }
}

/// A waker that unparks the current thread.
#[cfg(not(loom))]
fn thread_waker() -> Waker {
    thread_local! {
        static WAKER: Waker = Waker::from(Arc::new(Unpark(thread::current())));
    }
    WAKER.with(Waker::clone)
}

#[cfg(loom)]
fn thread_waker() -> Waker {
    Waker::from(Arc::new(Unpark(thread::current())))
}

/// Blocks the current thread until `poll` is ready, or until the clock shows `until`: then `None`.
pub(crate) fn block_until<V>(
    clock: &dyn Clock,
    until: Option<Duration>,
    mut poll: impl FnMut(&mut Context<'_>) -> Poll<V>,
) -> Option<V> {
    let waker = thread_waker();
    let mut cx = Context::from_waker(&waker);
    loop {
        if let Poll::Ready(value) = poll(&mut cx) {
            return Some(value);
        }
        match until {
            None => thread::park(),
            Some(at) if clock.now() >= at => return None,
            Some(at) => clock.park_until(at),
        }
    }
}

/// Blocks the current thread until `poll` is ready.
pub(crate) fn block_on<V>(mut poll: impl FnMut(&mut Context<'_>) -> Poll<V>) -> V {
    let waker = thread_waker();
    let mut cx = Context::from_waker(&waker);
    loop {
        match poll(&mut cx) {
            Poll::Ready(value) => return value,
            Poll::Pending => thread::park(),
        }
    }
}

/// Adds a waker to those to be woken, unless it is there.
pub(crate) fn register(wakers: &mut Vec<Waker>, waker: &Waker) {
    if !wakers.iter().any(|known| known.will_wake(waker)) {
        wakers.push(waker.clone());
    }
}
