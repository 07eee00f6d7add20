use std::{
    sync::{Arc, Mutex},
    thread::{self, JoinHandle},
};

use crate::sync::lock;

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
