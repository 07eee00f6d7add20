//! The ways in.

use std::{
    collections::VecDeque,
    fmt,
    future::poll_fn,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::Arc,
    task::{Poll, Waker},
    time::Duration,
};

use crate::{
    Completion, CompletionSet, Failure, Rejection, SubmitError,
    batch::{Entries, Entry, Notes},
    completion::Sink,
    dedup::{Admit, Verdict},
    mutants,
    node::Shared,
    queue::{Class, Refusal},
    sync::{atomic::Ordering, block_until},
    worker::Core,
};

/// A way into a batcher: the whole family of submissions. A [`crate::Batcher`] is one by itself, and makes others.
///
/// | | waits for room | does not | awaits room |
/// |---|---|---|---|
/// | one item | [`submit`](Self::submit) | [`try_submit`](Self::try_submit) | [`submit_async`](Self::submit_async) |
/// | a group | [`submit_many`](Self::submit_many) | [`try_submit_many`](Self::try_submit_many) | [`submit_many_async`](Self::submit_many_async) |
/// | no result wanted | [`submit_detached`](Self::submit_detached) | [`try_submit_detached`](Self::try_submit_detached) | [`submit_detached_async`](Self::submit_detached_async) |
///
/// `Ok` means that the item will be passed to the batch function exactly once unless the process dies. Otherwise the
/// item, or the whole group, comes back inside the [`SubmitError`].
pub struct Inlet<T, R = (), E = std::convert::Infallible> {
    core: Arc<Core<T, R, E>>,
    class: Class,
    skippable: bool,
    patience: Option<Duration>,
}

impl<T, R, E> Clone for Inlet<T, R, E> {
    fn clone(&self) -> Self {
        Self { core: Arc::clone(&self.core), ..*self }
    }
}

impl<T, R, E> Inlet<T, R, E>
where
    T: Send + 'static,
    R: Send + 'static,
    E: Send + 'static,
{
    pub(crate) fn new(core: Arc<Core<T, R, E>>, class: Class) -> Self {
        Self { core, class, skippable: false, patience: None }
    }

    /// The same way in for pure reads: items may be left out if nobody waits for their result any more. Items of a
    /// deduplicating batcher are executed all the same.
    pub fn skip_if_unwatched(&self) -> Self {
        self.core.skips.store(true, Ordering::Relaxed);
        Self { skippable: true, ..self.clone() }
    }

    /// The same way in for submitters that wait for room no longer than this and then get [`SubmitError::TimedOut`].
    /// Only the blocking forms look at it; an async caller brings a timer of its own.
    pub fn within(&self, patience: Duration) -> Self {
        Self { patience: Some(patience), ..self.clone() }
    }

    /// Submits an item, waiting for room.
    ///
    /// # Errors
    /// The item was not accepted, see [`SubmitError`].
    #[inline]
    pub fn submit(&self, item: T) -> Result<Completion<R, E>, SubmitError<T>> {
        let (completion, sink) = Completion::new();
        self.wait(self.entry(item, sink)).map(|()| completion)
    }

    /// Submits an item if there is room.
    ///
    /// # Errors
    /// The item was not accepted, see [`SubmitError`].
    #[inline]
    pub fn try_submit(&self, item: T) -> Result<Completion<R, E>, SubmitError<T>> {
        let (completion, sink) = Completion::new();
        self.attempt(self.entry(item, sink)).map(|()| completion)
    }

    /// Submits an item, awaiting room. Dropped while it waits, it submits nothing.
    ///
    /// # Errors
    /// The item was not accepted, see [`SubmitError`].
    pub async fn submit_async(&self, item: T) -> Result<Completion<R, E>, SubmitError<T>> {
        let (completion, sink) = Completion::new();
        self.awaited(self.entry(item, sink)).await.map(|()| completion)
    }

    /// Submits a group as a whole, waiting until there is any room. Batches are cut from it in order, none larger than
    /// the batch size.
    ///
    /// # Errors
    /// The group was not accepted, see [`SubmitError`].
    pub fn submit_many(&self, items: Vec<T>) -> Result<CompletionSet<R, E>, SubmitError<Vec<T>>> {
        let (completions, entries) = self.entries(items);
        if entries.is_empty() {
            return Ok(completions);
        }
        self.wait(entries).map(|()| completions)
    }

    /// Submits a group as a whole if there is any room.
    ///
    /// # Errors
    /// The group was not accepted, see [`SubmitError`].
    pub fn try_submit_many(&self, items: Vec<T>) -> Result<CompletionSet<R, E>, SubmitError<Vec<T>>> {
        let (completions, entries) = self.entries(items);
        if entries.is_empty() {
            return Ok(completions);
        }
        self.attempt(entries).map(|()| completions)
    }

    /// Submits a group as a whole, awaiting any room. Dropped while it waits, it submits nothing.
    ///
    /// # Errors
    /// The group was not accepted, see [`SubmitError`].
    pub async fn submit_many_async(&self, items: Vec<T>) -> Result<CompletionSet<R, E>, SubmitError<Vec<T>>> {
        let (completions, entries) = self.entries(items);
        if entries.is_empty() {
            return Ok(completions);
        }
        self.awaited(entries).await.map(|()| completions)
    }

    /// Submits an item whose result nobody wants, waiting for room.
    ///
    /// # Errors
    /// The item was not accepted, see [`SubmitError`].
    #[inline]
    pub fn submit_detached(&self, item: T) -> Result<(), SubmitError<T>> {
        self.wait(self.entry(item, Sink::Detached))
    }

    /// Submits an item whose result nobody wants if there is room.
    ///
    /// # Errors
    /// The item was not accepted, see [`SubmitError`].
    #[inline]
    pub fn try_submit_detached(&self, item: T) -> Result<(), SubmitError<T>> {
        self.attempt(self.entry(item, Sink::Detached))
    }

    /// Submits an item whose result nobody wants, awaiting room. Dropped while it waits, it submits nothing.
    ///
    /// # Errors
    /// The item was not accepted, see [`SubmitError`].
    pub async fn submit_detached_async(&self, item: T) -> Result<(), SubmitError<T>> {
        self.awaited(self.entry(item, Sink::Detached)).await
    }

    #[inline(always)]
    fn entry(&self, item: T, sink: Sink<R, E>) -> Entry<T, R, E> {
        Entry { item, sink, notes: self.notes(true) }
    }

    /// Only the first of a group carries the submitter's span: it is linked to the first batch cut from the group.
    fn entries(&self, items: Vec<T>) -> (CompletionSet<R, E>, Entries<T, R, E>) {
        let (completions, sinks) = CompletionSet::new(items.len());
        let entry = |(at, (item, sink))| Entry { item, sink, notes: self.notes(at == 0) };
        (completions, items.into_iter().zip(sinks).enumerate().map(entry).collect())
    }

    #[inline(always)]
    fn notes(&self, with_span: bool) -> Option<Box<Notes>> {
        if self.skippable || self.core.spans { self.notes_for(with_span) } else { None }
    }

    #[cold]
    fn notes_for(&self, with_span: bool) -> Option<Box<Notes>> {
        let span = (self.core.spans && with_span).then(tracing::Span::current);
        Some(Box::new(Notes { ticket: None, skippable: self.skippable, span }))
    }

    #[inline(always)]
    fn attempt<P: Parcel<T, R, E>>(&self, parcel: P) -> Result<(), SubmitError<P::Items>> {
        self.offer(parcel, None).map_err(|refused| self.reject(refused))
    }

    #[inline(always)]
    fn wait<P: Parcel<T, R, E>>(&self, parcel: P) -> Result<(), SubmitError<P::Items>> {
        match self.offer(parcel, None) {
            Ok(()) => Ok(()),
            Err((parcel, Rejection::Full)) => self.wait_for_room(parcel),
            Err(refused) => Err(self.reject(refused)),
        }
    }

    #[cold]
    fn wait_for_room<P: Parcel<T, R, E>>(&self, parcel: P) -> Result<(), SubmitError<P::Items>> {
        let shared = &self.core.shared;
        let began = shared.clock.now();
        let until = self.patience.map(|patience| began.saturating_add(patience));
        let mut parcel = Some(parcel);
        let outcome = block_until(&*shared.clock, until, |cx| self.poll_offer(&mut parcel, cx.waker()));
        shared.meter(|meter| meter.enqueue_blocked(shared.clock.now().saturating_sub(began)));
        match (outcome, parcel) {
            (Some(outcome), _) => outcome.map_err(|refused| self.reject(refused)),
            (None, Some(parcel)) => Err(self.reject((parcel, Rejection::TimedOut))),
            (None, None) => Ok(()),
        }
    }

    async fn awaited<P: Parcel<T, R, E>>(&self, parcel: P) -> Result<(), SubmitError<P::Items>> {
        let shared = &self.core.shared;
        let mut parcel = Some(parcel);
        let mut began = None;
        let outcome = poll_fn(|cx| {
            let polled = self.poll_offer(&mut parcel, cx.waker());
            if polled.is_pending() && shared.meter.is_some() {
                began.get_or_insert_with(|| shared.clock.now());
            }
            polled
        });
        let outcome = outcome.await;
        if let Some(began) = began {
            shared.meter(|meter| meter.enqueue_blocked(shared.clock.now().saturating_sub(began)));
        }
        outcome.map_err(|refused| self.reject(refused))
    }

    /// One try of a submitter that waits for room; what has to wait stays in `parcel`.
    fn poll_offer<P: Parcel<T, R, E>>(
        &self,
        parcel: &mut Option<P>,
        waker: &Waker,
    ) -> Poll<Result<(), (P, Rejection)>> {
        match parcel.take().map(|parcel| self.offer(parcel, Some(waker))) {
            None | Some(Ok(())) => Poll::Ready(Ok(())),
            Some(Err((again, Rejection::Full))) => {
                *parcel = Some(again);
                Poll::Pending
            }
            Some(Err(refused)) => Poll::Ready(Err(refused)),
        }
    }

    /// One try; the dedup table is asked in the same step as the queue.
    #[inline(always)]
    fn offer<P: Parcel<T, R, E>>(&self, parcel: P, waker: Option<&Waker>) -> Result<(), (P, Rejection)> {
        let core = &*self.core;
        if self.class == Class::External && core.shared.is_bypassed() {
            return Err((parcel, undeclared_edge(&core.shared)));
        }
        let mut duplicates = 0;
        let pushed = core.queue.push(self.class, waker, parcel, |parcel, queue| match &core.dedup {
            None => {
                parcel.append(queue);
                None
            }
            Some(dedup) => parcel.append_new(queue, &**dedup, core.shared.clock.now(), &mut duplicates),
        });
        match pushed {
            Ok((items, None)) => {
                core.shared.meter(|meter| core.note_accepted(meter, items, duplicates));
                Ok(())
            }
            Ok((_, Some(duplicate))) => Err((duplicate, Rejection::Duplicate)),
            Err((parcel, Refusal::Full)) => Err((parcel, Rejection::Full)),
            Err((parcel, Refusal::Closed)) => Err((parcel, Rejection::Closed)),
        }
    }

    #[cold]
    fn reject<P: Parcel<T, R, E>>(&self, (parcel, why): (P, Rejection)) -> SubmitError<P::Items> {
        self.core.shared.meter(|meter| meter.rejected(why, parcel.len() as u64));
        let items = parcel.give_back();
        match why {
            Rejection::Closed => SubmitError::Closed(items),
            Rejection::Full => SubmitError::Full(items),
            Rejection::TimedOut => SubmitError::TimedOut(items),
            Rejection::Duplicate => SubmitError::Duplicate(items),
            Rejection::UndeclaredEdge => SubmitError::UndeclaredEdge(items),
        }
    }
}

/// A batch function went round the declared edges: a fault in the program, which a debug build does not let pass.
#[cold]
fn undeclared_edge(shared: &Shared) -> Rejection {
    debug_assert!(!shared.is_bypassed(), "batcher {}: submitted to over an undeclared edge", shared.name);
    Rejection::UndeclaredEdge
}

impl<T, R, E> fmt::Debug for Inlet<T, R, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inlet").field("batcher", &self.core.shared.name).finish_non_exhaustive()
    }
}

/// An item, or a group of them, on the way in.
trait Parcel<T, R, E>: Sized {
    type Items;

    fn len(&self) -> usize;

    fn give_back(self) -> Self::Items;

    /// Puts everything into the queue.
    fn append(self, queue: &mut VecDeque<Entry<T, R, E>>);

    /// Puts into the queue what has a new key; gives back what is to be turned away as a whole, and counts what is
    /// turned away piece by piece.
    fn append_new(
        self,
        queue: &mut VecDeque<Entry<T, R, E>>,
        dedup: &dyn Admit<T, R, E>,
        now: Duration,
        duplicates: &mut u64,
    ) -> Option<Self>;
}

impl<T, R, E> Parcel<T, R, E> for Entry<T, R, E> {
    type Items = T;

    fn len(&self) -> usize {
        1
    }

    fn give_back(self) -> T {
        self.item
    }

    #[inline]
    fn append(self, queue: &mut VecDeque<Entry<T, R, E>>) {
        queue.push_back(self);
    }

    fn append_new(
        mut self,
        queue: &mut VecDeque<Entry<T, R, E>>,
        dedup: &dyn Admit<T, R, E>,
        now: Duration,
        _: &mut u64,
    ) -> Option<Self> {
        match dedup.admit(&self.item, self.sink, now) {
            Verdict::Fresh(ticket, sink) => {
                let mut notes = self.notes.unwrap_or_default();
                notes.ticket = Some(ticket);
                queue.push_back(Entry { item: self.item, sink, notes: Some(notes) });
                None
            }
            Verdict::Joined => None,
            Verdict::Duplicate(sink) => {
                self.sink = sink;
                Some(self)
            }
        }
    }
}

impl<T, R, E> Parcel<T, R, E> for Vec<Entry<T, R, E>> {
    type Items = Vec<T>;

    fn len(&self) -> usize {
        Vec::len(self)
    }

    fn give_back(self) -> Vec<T> {
        self.into_iter().map(|entry| entry.item).collect()
    }

    #[inline]
    fn append(self, queue: &mut VecDeque<Entry<T, R, E>>) {
        queue.extend(self);
    }

    fn append_new(
        self,
        queue: &mut VecDeque<Entry<T, R, E>>,
        dedup: &dyn Admit<T, R, E>,
        now: Duration,
        duplicates: &mut u64,
    ) -> Option<Self> {
        if mutants::on("groups_bypass_dedup") {
            self.append(queue);
            return None;
        }
        let before = queue.len();
        let appended = catch_unwind(AssertUnwindSafe(|| {
            for entry in self {
                if let Some(duplicate) = entry.append_new(queue, dedup, now, duplicates) {
                    *duplicates += 1;
                    duplicate.sink.publish(Err(Failure::Duplicate));
                }
            }
        }));
        if let Err(panic) = appended {
            // A key that panics takes the whole group back out.
            for ticket in queue.drain(before..).filter_map(|entry| entry.ticket()) {
                dedup.settle(ticket, &Err(Failure::Duplicate));
            }
            resume_unwind(panic);
        }
        None
    }
}
