use std::{
    ops::{Deref, DerefMut},
    sync::{Mutex, PoisonError},
};

/// Values that are dear to make and are used by one thread at a time: as many as were ever in use at once, up to
/// [`MAX_IDLE`].
pub(crate) struct Pool<T> {
    idle: Mutex<Vec<T>>,
}

const MAX_IDLE: usize = 64;

impl<T> Default for Pool<T> {
    fn default() -> Self {
        Pool { idle: Mutex::new(Vec::new()) }
    }
}

impl<T> Pool<T> {
    /// An idle value, if there is one.
    pub(crate) fn take(&self) -> Option<T> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }

    /// Keeps a value for whoever comes next.
    pub(crate) fn put(&self, value: T) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < MAX_IDLE {
            idle.push(value);
        }
    }
}

/// What can be made ready for the next user.
pub(crate) trait Reuse: Default {
    /// Forgets what the last user did, and gives back what is not worth keeping.
    fn reset(&mut self);
}

impl<T: Reuse> Pool<T> {
    /// An idle or new value that goes back by itself.
    pub(crate) fn lease(&self) -> Lease<'_, T> {
        Lease { pool: self, value: self.take().unwrap_or_default() }
    }
}

/// A value on loan from a pool.
pub(crate) struct Lease<'p, T: Reuse> {
    pool: &'p Pool<T>,
    value: T,
}

impl<T: Reuse> Deref for Lease<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T: Reuse> DerefMut for Lease<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.value
    }
}

impl<T: Reuse> Drop for Lease<'_, T> {
    fn drop(&mut self) {
        self.value.reset();
        self.pool.put(std::mem::take(&mut self.value));
    }
}
