//! A broadcast: whoever waits for something to change is woken at every change and looks again.
//!
//! ```text
//! waiter    register(waker) ─▶ look ─▶ pending          change    write ─▶ wake_all
//! ```
//!
//! The waiter registers before it looks and the changer wakes after it wrote, both through the signal's own lock, so
//! one of them sees the other. That lock is a leaf: nothing else is locked under it, and wakers are run, cloned and
//! dropped outside of it, for what they do is somebody else's.

use std::{collections::BTreeMap, mem, task::Waker};

use crate::sync::{Mutex, lock};

/// Who waits for a change.
#[derive(Default)]
pub(crate) struct Signal {
    waiting: Mutex<Waiting>,
}

#[derive(Default)]
struct Waiting {
    last_id: u64,
    wakers: BTreeMap<u64, Waker>,
}

impl Signal {
    /// Wakes everybody. Call it with no lock held.
    pub(crate) fn wake_all(&self) {
        let woken = mem::take(&mut lock(&self.waiting).wakers);
        woken.into_values().for_each(Waker::wake);
    }
}

/// One waiter's place in a signal; given back on drop.
pub(crate) struct Ticket<'a> {
    signal: &'a Signal,
    id: Option<u64>,
}

impl<'a> Ticket<'a> {
    pub(crate) fn new(signal: &'a Signal) -> Self {
        Self { signal, id: None }
    }

    /// From now on a change wakes `waker`, until it has done so once.
    pub(crate) fn register(&mut self, waker: &Waker) {
        let waker = waker.clone();
        let mut waiting = lock(&self.signal.waiting);
        let id = *self.id.get_or_insert_with(|| {
            waiting.last_id += 1;
            waiting.last_id
        });
        let earlier = waiting.wakers.insert(id, waker);
        drop(waiting);
        drop(earlier);
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            let waker = lock(&self.signal.waiting).wakers.remove(&id);
            drop(waker);
        }
    }
}
