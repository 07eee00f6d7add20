//! What a submitter holds: the result to come of one item, or of a group.

use std::{
    fmt,
    future::Future,
    mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use crate::{
    Clock, Failure, Pending, SystemClock, mutants,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
        block_on, block_until, lock,
    },
};

/// The result of one item: the value, or why there is none.
pub type Outcome<R, E> = Result<R, Failure<E>>;

/// Where one outcome is handed over.
pub(crate) struct Slot<R, E> {
    state: Mutex<SlotState<R, E>>,
    watched: AtomicBool,
}

enum SlotState<R, E> {
    Pending(Option<Waker>),
    Published(Outcome<R, E>),
    Taken,
}

impl<R, E> Slot<R, E> {
    fn publish(&self, outcome: Outcome<R, E>) {
        let mut state = lock(&self.state);
        if mutants::on("late_result_lost") && matches!(*state, SlotState::Pending(Some(_))) {
            return;
        }
        let before = mem::replace(&mut *state, SlotState::Published(outcome));
        drop(state);
        if let SlotState::Pending(Some(waker)) = before {
            waker.wake();
        }
    }
}

/// The result to come of one accepted item.
///
/// It resolves to exactly one [`Outcome`], and always does: a batch function that panics or forgets the item resolves
/// it too. Wait for it on a thread, or await it on any executor. Dropping it does not cancel the work.
#[must_use = "the result of the item, or its failure, is lost"]
pub struct Completion<R, E = std::convert::Infallible> {
    slot: Arc<Slot<R, E>>,
}

impl<R, E> Completion<R, E> {
    pub(crate) fn new() -> (Self, Sink<R, E>) {
        let state = Mutex::new(SlotState::Pending(None));
        let slot = Arc::new(Slot { state, watched: AtomicBool::new(true) });
        (Self { slot: Arc::clone(&slot) }, Sink::One(slot))
    }

    fn poll_slot(&self, cx: &mut Context<'_>) -> Poll<Outcome<R, E>> {
        let mut state = lock(&self.slot.state);
        match mem::replace(&mut *state, SlotState::Taken) {
            SlotState::Published(outcome) => Poll::Ready(outcome),
            SlotState::Pending(_) => {
                *state = SlotState::Pending(Some(cx.waker().clone()));
                Poll::Pending
            }
            SlotState::Taken => Poll::Pending,
        }
    }

    /// True once the result is there.
    pub fn is_ready(&self) -> bool {
        matches!(*lock(&self.slot.state), SlotState::Published(_))
    }

    /// Blocks until the result is there.
    ///
    /// # Errors
    /// The item has no value, see [`Failure`].
    pub fn wait(self) -> Outcome<R, E> {
        block_on(|cx| self.poll_slot(cx))
    }

    /// Blocks until the result is there, but not longer than this. See [`wait_budget`] for a good length.
    ///
    /// # Errors
    /// [`Pending`] with the handle: the outcome is unknown and the work goes on.
    pub fn wait_timeout(self, timeout: Duration) -> Result<Outcome<R, E>, Pending<Self>> {
        let clock = SystemClock::new();
        let until = clock.now().saturating_add(timeout);
        block_until(&clock, Some(until), |cx| self.poll_slot(cx)).ok_or(Pending(self))
    }
}

impl<R, E> Future for Completion<R, E> {
    type Output = Outcome<R, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.poll_slot(cx)
    }
}

impl<R, E> Drop for Completion<R, E> {
    fn drop(&mut self) {
        self.slot.watched.store(false, Ordering::Relaxed);
    }
}

impl<R, E> fmt::Debug for Completion<R, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Completion").field("is_ready", &self.is_ready()).finish_non_exhaustive()
    }
}

/// Where the outcomes of a group are handed over: a slot for each item, one counter, one waiter.
pub(crate) struct Group<R, E> {
    slots: Box<[GroupSlot<R, E>]>,
    remaining: AtomicUsize,
    waker: Mutex<Option<Waker>>,
    watched: AtomicBool,
}

type GroupSlot<R, E> = Mutex<Option<Outcome<R, E>>>;

impl<R, E> Group<R, E> {
    fn publish(&self, index: u32, outcome: Outcome<R, E>) {
        *lock(&self.slots[index as usize]) = Some(outcome);
        if self.remaining.fetch_sub(1, Ordering::AcqRel) == 1
            && let Some(waker) = lock(&self.waker).take()
        {
            waker.wake();
        }
    }

    fn is_complete(&self) -> bool {
        self.remaining.load(Ordering::Acquire) == 0
    }
}

/// The results to come of one accepted group, in the order of its items.
///
/// One wait serves them all. Before the group is complete only what is published already can be looked at.
#[must_use = "the results of the group, or their failures, are lost"]
pub struct CompletionSet<R, E = std::convert::Infallible> {
    group: Arc<Group<R, E>>,
}

impl<R, E> CompletionSet<R, E> {
    /// # Panics
    /// More than four thousand million items: their entries alone would fill any memory.
    pub(crate) fn new(len: usize) -> (Self, impl Iterator<Item = Sink<R, E>>) {
        assert!(u32::try_from(len).is_ok(), "a group of {len} items");
        let group = Arc::new(Group {
            slots: (0..len).map(|_| Mutex::new(None)).collect(),
            remaining: AtomicUsize::new(len),
            waker: Mutex::new(None),
            watched: AtomicBool::new(true),
        });
        let sinks = Arc::clone(&group);
        (Self { group }, (0..=u32::MAX).take(len).map(move |index| Sink::Of(Arc::clone(&sinks), index)))
    }

    /// How many items the group has.
    pub fn len(&self) -> usize {
        self.group.slots.len()
    }

    /// True for the empty group, which is complete from the start.
    pub fn is_empty(&self) -> bool {
        self.group.slots.is_empty()
    }

    /// True once every result is there.
    pub fn is_complete(&self) -> bool {
        self.group.is_complete()
    }

    /// Looks at one result, if it is published already.
    pub fn peek<V>(&self, index: usize, look: impl FnOnce(&Outcome<R, E>) -> V) -> Option<V> {
        lock(self.group.slots.get(index)?).as_ref().map(look)
    }

    fn poll_group(&self, cx: &mut Context<'_>) -> Poll<Vec<Outcome<R, E>>> {
        if !self.group.is_complete() {
            *lock(&self.group.waker) = Some(cx.waker().clone());
            if !self.group.is_complete() {
                return Poll::Pending;
            }
        }
        Poll::Ready(self.group.slots.iter().filter_map(|slot| lock(slot).take()).collect())
    }

    /// Blocks until every result is there.
    pub fn wait(self) -> Vec<Outcome<R, E>> {
        block_on(|cx| self.poll_group(cx))
    }

    /// Blocks until every result is there, but not longer than this.
    ///
    /// # Errors
    /// [`Pending`] with the handle: what is not published is unknown and the work goes on.
    pub fn wait_timeout(self, timeout: Duration) -> Result<Vec<Outcome<R, E>>, Pending<Self>> {
        let clock = SystemClock::new();
        let until = clock.now().saturating_add(timeout);
        block_until(&clock, Some(until), |cx| self.poll_group(cx)).ok_or(Pending(self))
    }
}

impl<R, E> Future for CompletionSet<R, E> {
    type Output = Vec<Outcome<R, E>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.poll_group(cx)
    }
}

impl<R, E> Drop for CompletionSet<R, E> {
    fn drop(&mut self) {
        self.group.watched.store(false, Ordering::Relaxed);
    }
}

impl<R, E> fmt::Debug for CompletionSet<R, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CompletionSet")
            .field("len", &self.len())
            .field("is_complete", &self.is_complete())
            .finish_non_exhaustive()
    }
}

/// The worker's end of a completion.
pub(crate) enum Sink<R, E> {
    /// Nobody asked for a result.
    Detached,
    One(Arc<Slot<R, E>>),
    Of(Arc<Group<R, E>>, u32),
}

impl<R, E> Sink<R, E> {
    pub(crate) fn publish(self, outcome: Outcome<R, E>) {
        match self {
            Self::Detached => {}
            Self::One(slot) => slot.publish(outcome),
            Self::Of(group, index) => group.publish(index, outcome),
        }
    }

    /// Whether someone still holds the other end.
    pub(crate) fn is_watched(&self) -> bool {
        match self {
            Self::Detached => false,
            Self::One(slot) => slot.watched.load(Ordering::Relaxed),
            Self::Of(group, _) => group.watched.load(Ordering::Relaxed),
        }
    }
}

/// How long to wait for the outcome of an operation before calling it unknown: the sum of the windows that may
/// legitimately follow one another, and 30 s of grace.
pub fn wait_budget(op_timeout: Duration, retry_budget: Duration) -> Duration {
    const GRACE: Duration = Duration::from_secs(30);
    op_timeout.saturating_add(retry_budget).saturating_add(GRACE)
}
