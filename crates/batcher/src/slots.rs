use std::{
    fmt,
    sync::{Arc, PoisonError},
};

use crate::{
    mutants,
    sync::{Condvar, Mutex, MutexGuard, lock},
};

/// Slots that several batchers take from: together they never run more batches at a time; see
/// [`Builder::slots`](crate::Builder::slots). A batch holds its slot until it has ended, tracked children included.
///
/// Batchers that feed each other must not share slots: [`GroupBuilder::build`](crate::GroupBuilder::build) sees to it.
#[derive(Clone)]
pub struct SharedSlots {
    inner: Arc<Inner>,
}

struct Inner {
    count: usize,
    free: Mutex<usize>,
    freed: Condvar,
}

impl SharedSlots {
    /// So many slots; none is refused when a batcher is built with them.
    pub fn new(count: usize) -> Self {
        Self { inner: Arc::new(Inner { count, free: Mutex::new(count), freed: Condvar::new() }) }
    }

    pub(crate) fn count(&self) -> usize {
        self.inner.count
    }

    /// Waits for a free slot and takes it until the guard is dropped.
    pub(crate) fn take(&self) -> Taken {
        let mut free = lock(&self.inner.free);
        while *free == 0 && !mutants::on("slots_without_limit") {
            free = self.inner.freed.wait(free).unwrap_or_else(PoisonError::into_inner);
        }
        self.taken(free)
    }

    /// Takes a free slot, if there is one.
    pub(crate) fn try_take(&self) -> Option<Taken> {
        let free = lock(&self.inner.free);
        (*free > 0).then(|| self.taken(free))
    }

    fn taken(&self, mut free: MutexGuard<'_, usize>) -> Taken {
        *free = free.saturating_sub(1);
        Taken(Arc::clone(&self.inner))
    }
}

pub(crate) struct Taken(Arc<Inner>);

impl Drop for Taken {
    fn drop(&mut self) {
        *lock(&self.0.free) += 1;
        self.0.freed.notify_one();
    }
}

/// The same slots, not as many.
impl PartialEq for SharedSlots {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.inner, &other.inner)
    }
}

impl Eq for SharedSlots {}

impl fmt::Debug for SharedSlots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SharedSlots({} of {} free)", *lock(&self.inner.free), self.inner.count)
    }
}
