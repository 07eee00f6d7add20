//! Every race of the specification, under its name: see docs/acceptance/registry.md.
//!
//! Nothing here waits for time to pass. Budgets run on a clock moved by hand, futures are polled step by step, workers
//! end when the test lets go of them, and probes step between two lines of the code. Real time appears only as a bound
//! that fails a test which hangs.

mod clearing;
mod ending;
mod gates;
mod model;
mod ownership;
mod restart;

use std::{
    future::Future,
    io,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    task::{Context, Poll, Waker},
    thread,
    time::{Duration, Instant},
};

use crate::{
    CancelToken, ManualClock, Registry, RegistryConfig, ShutdownReport, StartOutcome, WorkerConfig,
    WorkerStatus,
    shared::IfDropped,
    wait::{Time, Timer},
};

type Key = &'static str;

const HOUR: Duration = Duration::from_secs(3600);
const BUDGET: Duration = Duration::from_secs(30);
const GRACE: Duration = Duration::from_secs(1);
const PASS: Duration = Duration::from_secs(10);

/// Fails a test that hangs.
fn within_seconds<T: Send + 'static>(seconds: u64, test: impl FnOnce() -> T + Send + 'static) -> T {
    let (done, waiting) = mpsc::channel();
    let runner = thread::spawn(move || {
        let value = test();
        let _ = done.send(());
        value
    });
    if let Err(mpsc::RecvTimeoutError::Timeout) = waiting.recv_timeout(Duration::from_secs(seconds)) {
        panic!("the test hangs");
    }
    runner.join().unwrap_or_else(|payload| std::panic::resume_unwind(payload))
}

/// Waits for something another thread is about to do.
fn until(condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < Duration::from_secs(4), "this does not come to pass");
        thread::yield_now();
    }
}

/// What is logged on this thread meanwhile.
fn logged(work: impl FnOnce()) -> String {
    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);
    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let lines = Lines::default();
    let writer = lines.clone();
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
    tracing::subscriber::with_default(subscriber, work);
    let bytes = lines.0.lock().unwrap().clone();
    String::from_utf8(bytes).unwrap()
}

/// A registry on a clock moved by hand, whose restarts wait for nobody.
fn by_hand() -> (Arc<Registry<Key>>, ManualClock) {
    with_grace(Duration::ZERO)
}

fn with_grace(orphan_grace: Duration) -> (Arc<Registry<Key>>, ManualClock) {
    let clock = ManualClock::new();
    let config = RegistryConfig { orphan_grace, clock: Arc::new(clock.clone()) };
    (Arc::new(Registry::with(config)), clock)
}

fn weight(weight: i32) -> WorkerConfig {
    WorkerConfig { weight, ..WorkerConfig::default() }
}

/// A future driven by hand.
struct Steps<'a, T>(Pin<Box<dyn Future<Output = T> + 'a>>);

impl<'a, T> Steps<'a, T> {
    fn new(future: impl Future<Output = T> + 'a) -> Self {
        Self(Box::pin(future))
    }

    fn step(&mut self) -> Poll<T> {
        self.0.as_mut().poll(&mut Context::from_waker(Waker::noop()))
    }

    fn is_pending(&mut self) -> bool {
        self.step().is_pending()
    }

    /// The result, which the other threads have already made possible.
    #[track_caller]
    fn ready(&mut self) -> T {
        match self.step() {
            Poll::Ready(value) => value,
            Poll::Pending => panic!("the future still waits"),
        }
    }
}

fn time(registry: &Registry<Key>) -> Time<'_> {
    registry.shared().time(&Timer::Nobody)
}

fn quiesce(registry: &Registry<Key>, key: Key) -> Steps<'_, WorkerStatus> {
    Steps::new(registry.shared().quiesce(time(registry), key, None, IfDropped::Park))
}

fn reap(registry: &Registry<Key>) -> Steps<'_, Vec<(Key, WorkerStatus)>> {
    Steps::new(registry.shared().reap(time(registry), GRACE))
}

fn shutdown(registry: &Registry<Key>) -> Steps<'_, ShutdownReport<Key>> {
    Steps::new(registry.shared().shut_down(time(registry)))
}

#[track_caller]
fn started(outcome: StartOutcome) -> u64 {
    match outcome {
        StartOutcome::Started(generation) => generation,
        refused => panic!("not started: {refused:?}"),
    }
}

/// A worker that ignores its token until it is let go, and is let go at the latest when the test ends.
struct Wedge {
    go: Option<mpsc::Sender<()>>,
    hold: Option<mpsc::Receiver<()>>,
    token: Arc<Mutex<Option<CancelToken>>>,
    begun: Arc<AtomicBool>,
}

impl Wedge {
    fn new() -> Self {
        let (go, hold) = mpsc::channel();
        Self { go: Some(go), hold: Some(hold), token: Arc::default(), begun: Arc::default() }
    }

    fn body(&mut self) -> impl FnOnce(CancelToken) + Send + 'static {
        let hold = self.hold.take().unwrap();
        let (token, begun) = (Arc::clone(&self.token), Arc::clone(&self.begun));
        move |given| {
            *token.lock().unwrap() = Some(given);
            begun.store(true, Ordering::SeqCst);
            let _let_go = hold.recv();
        }
    }

    /// Starts it and waits until it is in its body.
    fn start(&mut self, registry: &Registry<Key>, key: Key, config: WorkerConfig) -> u64 {
        let generation = started(registry.start_thread(key, config, self.body()));
        until(|| self.begun.load(Ordering::SeqCst));
        generation
    }

    fn is_cancelled(&self) -> bool {
        self.token.lock().unwrap().as_ref().is_some_and(CancelToken::is_cancelled)
    }

    fn let_go(&mut self) {
        self.go = None;
    }
}

/// A wedged worker that was told to end and is now among the orphans.
fn orphan(registry: &Registry<Key>, key: Key) -> Wedge {
    let mut wedge = Wedge::new();
    wedge.start(registry, key, WorkerConfig::default());
    let mut waiting = quiesce(registry, key);
    assert!(waiting.is_pending());
    wedge
}
