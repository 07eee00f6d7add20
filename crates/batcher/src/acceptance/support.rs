//! What the tests of groups, pools and shutdown plans share.

use std::{
    io::{self, Write},
    sync::{Arc, Condvar, Mutex, mpsc},
    thread,
    time::Duration,
};

/// No step of a test takes as long as this, unless it hangs.
pub(super) const LIMIT: Duration = Duration::from_secs(10);

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

/// Gives others a long chance to do what they must not do yet, and stops as soon as they have.
pub(super) fn tempt(done: impl Fn() -> bool) {
    for _ in 0..20_000 {
        if done() {
            break;
        }
        thread::yield_now();
    }
}

/// Threads of this process whose name begins so; names are cut after 15 bytes.
pub(super) fn threads_named(prefix: &str) -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let names = tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok());
    names.filter(|name| name.starts_with(prefix)).count()
}

/// What is logged on this thread.
#[derive(Clone, Default)]
pub(super) struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    pub(super) fn record<T>(&self, run: impl FnOnce() -> T) -> T {
        let log = self.clone();
        let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || log.clone()).finish();
        tracing::subscriber::with_default(subscriber, run)
    }

    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
