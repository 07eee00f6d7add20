use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
};

/// Locks without asking for poison: no code of a caller runs under the locks that this is used for, so that what they guard
/// is whole even after a panic.
pub(crate) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Starts a thread for something that must be done; where the system gives none, does it here.
pub(crate) fn spawn_or_run(name: String, work: impl FnOnce() + Send + 'static) -> Option<JoinHandle<()>> {
    let work = Arc::new(Mutex::new(Some(work)));
    let theirs = Arc::clone(&work);
    match thread::Builder::new().name(name).spawn(move || run(&theirs)) {
        Ok(thread) => Some(thread),
        Err(error) => {
            tracing::warn!(%error, "no thread to be had: working on the caller's");
            run(&work);
            None
        }
    }
}

fn run(work: &Mutex<Option<impl FnOnce()>>) {
    let taken = lock(work).take();
    if let Some(work) = taken {
        work();
    }
}
