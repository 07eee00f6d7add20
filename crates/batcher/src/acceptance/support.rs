//! What the tests of groups, pools and shutdown plans share.

use std::{
    sync::{Condvar, Mutex, mpsc},
    thread,
    time::Duration,
};

/// No step of a test takes as long as this, unless it hangs.
const LIMIT: Duration = Duration::from_secs(10);

/// Runs a test that must not hang.
pub(super) fn within<T: Send + 'static>(name: &'static str, test: impl FnOnce() -> T + Send + 'static) -> T {
    let (result, done) = mpsc::channel();
    let thread = thread::Builder::new().name(name.into()).spawn(move || result.send(test())).unwrap();
    match done.recv_timeout(LIMIT) {
        Ok(result) => result,
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("{name} hangs"),
        Err(mpsc::RecvTimeoutError::Disconnected) => std::panic::resume_unwind(thread.join().unwrap_err()),
    }
}

/// Closed until it is opened, then open for ever.
#[derive(Default)]
pub(super) struct Gate {
    open: Mutex<bool>,
    opened: Condvar,
}

impl Gate {
    pub(super) fn open(&self) {
        *self.open.lock().unwrap() = true;
        self.opened.notify_all();
    }

    pub(super) fn wait(&self) {
        let mut open = self.open.lock().unwrap();
        while !*open {
            let (guard, waited) = self.opened.wait_timeout(open, LIMIT).unwrap();
            open = guard;
            assert!(*open || !waited.timed_out(), "the gate stays closed");
        }
    }
}
