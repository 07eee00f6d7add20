//! Waiting, once for threads and tasks alike: plain futures that need no runtime.
//!
//! Every wait is [`wait`]: look at the shared state, and if it is not yet as wished, sleep until the signal or the
//! deadline. A thread drives such a future with [`block_on`], which parks; a task awaits it, and then tokio's timer
//! ends the sleep. Nothing but the look and the deadline decides, so a late or spurious wake does no harm.

use std::{
    future::{Future, poll_fn},
    panic::{AssertUnwindSafe, catch_unwind},
    pin::{Pin, pin},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake},
    thread::{self, Thread},
    time::Duration,
};

use crate::{
    clock::Clock,
    mutants,
    signal::{Signal, Ticket},
    status::panic_message,
};

/// How often threads are looked at that cannot tell us when they end, because somebody else spawned them. Real time,
/// whatever the clock: nothing is measured with it.
pub(crate) const COARSE: Duration = Duration::from_millis(50);

/// What a look at the shared state found.
pub(crate) enum Look<T> {
    /// It is as wished.
    Done(T),
    /// Not yet; the signal will tell.
    Later,
    /// Not yet, and nobody will tell: look again after [`COARSE`].
    LaterUntold,
}

/// Who ends a sleep.
#[derive(Clone)]
pub(crate) enum Timer {
    /// Nobody: only the signal ends this wait.
    Nobody,
    /// The thread that parks in [`block_on`].
    Park(Arc<Parker>),
    /// The tokio runtime that polls us.
    #[cfg(feature = "tokio")]
    Tokio,
}

/// What time it is, and who ends a sleep.
#[derive(Clone, Copy)]
pub(crate) struct Time<'a> {
    pub(crate) clock: &'a dyn Clock,
    pub(crate) timer: &'a Timer,
}

impl Time<'_> {
    /// The moment `span` from now.
    pub(crate) fn after(self, span: Duration) -> Duration {
        self.clock.now().saturating_add(span)
    }
}

/// Waits until `look` is done (`Some`) or the clock reaches `deadline` (`None`).
pub(crate) async fn wait<T>(
    signal: &Signal,
    time: Time<'_>,
    deadline: Option<Duration>,
    mut look: impl FnMut() -> Look<T>,
) -> Option<T> {
    let mut ticket = Ticket::new(signal);
    let mut sleep = Sleep::default();
    poll_fn(|cx| {
        let late = mutants::on("look_before_register");
        if !late {
            ticket.register(cx.waker());
        }
        let untold = match look() {
            Look::Done(value) => return Poll::Ready(Some(value)),
            Look::Later => false,
            Look::LaterUntold => true,
        };
        if late {
            ticket.register(cx.waker());
        }
        if deadline.is_some_and(|at| at <= time.clock.now()) {
            return Poll::Ready(None);
        }
        let at_most = (untold && !mutants::on("no_coarse_poll")).then_some(COARSE);
        sleep.nap(deadline, at_most, time, cx);
        Poll::Pending
    })
    .await
}

/// Awaits `future`, but not longer than until `deadline`.
pub(crate) async fn before<F: Future>(time: Time<'_>, deadline: Duration, future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    let mut sleep = Sleep::default();
    poll_fn(|cx| {
        if let Poll::Ready(value) = future.as_mut().poll(cx) {
            return Poll::Ready(Some(value));
        }
        if deadline <= time.clock.now() {
            return Poll::Ready(None);
        }
        sleep.nap(Some(deadline), None, time, cx);
        Poll::Pending
    })
    .await
}

/// Awaits `future` and turns a panic in it into its message.
pub(crate) async fn caught<F: Future>(future: F) -> Result<F::Output, String> {
    let mut future = pin!(future);
    poll_fn(|cx| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
        Ok(poll) => poll.map(Ok),
        Err(payload) => Poll::Ready(Err(panic_message(payload))),
    })
    .await
}

/// Awaits all of `futures` at once.
pub(crate) async fn join_all<F: Future<Output = ()>>(futures: impl Iterator<Item = F>) {
    let mut pending: Vec<Pin<Box<F>>> = futures.map(Box::pin).collect();
    poll_fn(|cx| {
        pending.retain_mut(|future| future.as_mut().poll(cx).is_pending());
        if pending.is_empty() { Poll::Ready(()) } else { Poll::Pending }
    })
    .await
}

/// Awaits whichever of two comes first.
pub(crate) async fn either(one: impl Future<Output = ()>, other: impl Future<Output = ()>) {
    let (mut one, mut other) = (pin!(one), pin!(other));
    poll_fn(|cx| {
        let ready = one.as_mut().poll(cx).is_ready() || other.as_mut().poll(cx).is_ready();
        if ready { Poll::Ready(()) } else { Poll::Pending }
    })
    .await
}

/// A pending wake-up, put off at each poll.
#[derive(Default)]
struct Sleep {
    /// `None` in it: there is no timer to be had.
    #[cfg(feature = "tokio")]
    tokio: Option<Option<Pin<Box<tokio::time::Sleep>>>>,
}

impl Sleep {
    fn nap(
        &mut self,
        deadline: Option<Duration>,
        at_most: Option<Duration>,
        time: Time<'_>,
        cx: &mut Context<'_>,
    ) {
        let until_deadline = deadline.and_then(|at| time.clock.arm(at, cx.waker()));
        let Some(nap) = until_deadline.into_iter().chain(at_most).min() else { return };
        match time.timer {
            Timer::Nobody => {}
            Timer::Park(parker) => parker.nap_at_most(nap),
            #[cfg(feature = "tokio")]
            Timer::Tokio => {
                let until = tokio::time::Instant::now() + nap.min(Duration::from_secs(86_400));
                // Where there is no timer tokio can only panic, and says why. A shutdown must come to its end there as
                // well: it is polled without a pause.
                let sleep = self
                    .tokio
                    .get_or_insert_with(|| catch_unwind(|| Box::pin(tokio::time::sleep_until(until))).ok());
                let due = sleep.as_mut().is_none_or(|sleep| {
                    sleep.as_mut().reset(until);
                    sleep.as_mut().poll(cx).is_ready()
                });
                if due {
                    cx.waker().wake_by_ref();
                }
            }
        }
    }
}

/// A thread that parks while its future is pending.
pub(crate) struct Parker {
    thread: Thread,
    woken: AtomicBool,
    nap: Mutex<Option<Duration>>,
}

impl Parker {
    fn nap_at_most(&self, nap: Duration) {
        let mut shortest = self.nap.lock().unwrap_or_else(PoisonError::into_inner);
        *shortest = Some(shortest.map_or(nap, |other| other.min(nap)));
    }

    /// Sleeps until woken, or until the shortest nap that the last poll asked for is over.
    fn park(&self) {
        let nap = self.nap.lock().unwrap_or_else(PoisonError::into_inner).take();
        while !self.woken.swap(false, Ordering::SeqCst) {
            match nap {
                Some(nap) => return thread::park_timeout(nap),
                None => thread::park(),
            }
        }
    }
}

impl Wake for Parker {
    fn wake(self: Arc<Self>) {
        self.woken.store(true, Ordering::SeqCst);
        self.thread.unpark();
    }
}

/// Drives the future that `make` makes on this thread.
pub(crate) fn block_on<F: Future>(make: impl FnOnce(Timer) -> F) -> F::Output {
    let parker =
        Arc::new(Parker { thread: thread::current(), woken: AtomicBool::new(false), nap: Mutex::new(None) });
    let waker = Arc::clone(&parker).into();
    let mut cx = Context::from_waker(&waker);
    let mut future = pin!(make(Timer::Park(Arc::clone(&parker))));
    loop {
        if let Poll::Ready(value) = future.as_mut().poll(&mut cx) {
            return value;
        }
        parker.park();
    }
}
