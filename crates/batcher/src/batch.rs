//! What a batch function gets: the items with their completers, and a context to act in.

use std::{future::Future, iter::FusedIterator, ops::Deref, sync::Arc};

use tracing::Span;

use crate::{
    Failure, Outcome, Reason,
    completion::Sink,
    dedup::{Settle, Ticket},
    lane::Lane,
    mutants,
    node::Shared,
    queue::Cut,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
        lock,
    },
};

/// One accepted item on its way.
pub(crate) struct Entry<T, R, E> {
    pub(crate) item: T,
    pub(crate) sink: Sink<R, E>,
    pub(crate) notes: Option<Box<Notes>>,
}

pub(crate) type Entries<T, R, E> = Vec<Entry<T, R, E>>;

/// What few items carry.
#[derive(Default)]
pub(crate) struct Notes {
    /// The item's place in the dedup table.
    pub(crate) ticket: Option<Ticket>,
    /// May be left out if nobody waits for the result.
    pub(crate) skippable: bool,
    /// The submitter's span, where spans are asked for.
    pub(crate) span: Option<Span>,
}

impl<T, R, E> Entry<T, R, E> {
    pub(crate) fn ticket(&self) -> Option<Ticket> {
        self.notes.as_ref().and_then(|notes| notes.ticket)
    }

    /// Whether the item is to be executed.
    pub(crate) fn is_wanted(&self) -> bool {
        self.notes.as_ref().is_none_or(|notes| !notes.skippable || notes.ticket.is_some())
            || self.is_watched()
    }

    pub(crate) fn is_watched(&self) -> bool {
        self.sink.is_watched()
    }
}

/// The books of one batch. It has ended when nobody refers to them any more: not the function, nor a child, nor an
/// unfinished item. Then the slot uses them again for its next batch.
pub(crate) struct Books<R, E> {
    pub(crate) lane: Arc<Lane>,
    pub(crate) dedup: Option<Arc<dyn Settle<R, E>>>,
    /// Items whose completers were dropped unfinished.
    orphans: Mutex<Vec<Orphan<R, E>>>,
    has_orphans: AtomicBool,
}

type Orphan<R, E> = (Sink<R, E>, Option<Ticket>);

impl<R, E> Books<R, E> {
    pub(crate) fn new(lane: Arc<Lane>, dedup: Option<Arc<dyn Settle<R, E>>>) -> Self {
        Self { lane, dedup, orphans: Mutex::new(Vec::new()), has_orphans: AtomicBool::new(false) }
    }

    fn adopt(&self, orphans: impl Iterator<Item = Orphan<R, E>>) {
        if mutants::on("abandoned_hang") {
            return;
        }
        lock(&self.orphans).extend(orphans);
        self.has_orphans.store(true, Ordering::Release);
    }

    /// Tells the dedup table of an outcome: the key is forgotten before the submitter hears of a failure and tries again.
    fn note(&self, ticket: Option<Ticket>, outcome: &Outcome<R, E>) {
        if let (Some(dedup), Some(ticket)) = (&self.dedup, ticket) {
            dedup.settle(ticket, outcome);
        }
    }
}

/// What the slot knows of a batch, whatever its results are.
pub(crate) trait Scope: Send + Sync {
    /// Resolves the items that were dropped unfinished, by a panic if there was one.
    fn settle(&self, panicked: Option<&Arc<str>>);
}

impl<R: Send, E: Send> Scope for Books<R, E> {
    fn settle(&self, panicked: Option<&Arc<str>>) {
        self.settle_orphans(panicked);
    }
}

impl<R, E> Books<R, E> {
    fn settle_orphans(&self, panicked: Option<&Arc<str>>) {
        if !self.has_orphans.load(Ordering::Acquire) {
            return;
        }
        self.has_orphans.store(false, Ordering::Relaxed);
        let orphans = std::mem::take(&mut *lock(&self.orphans));
        let shared = &self.lane.shared;
        let count = orphans.len() as u64;
        match panicked {
            Some(_) => shared.panicked_items.fetch_add(count, Ordering::SeqCst),
            None => {
                shared.meter(|meter| meter.abandoned(count));
                shared.abandoned_items.fetch_add(count, Ordering::SeqCst)
            }
        };
        for (sink, ticket) in orphans {
            let batcher = Arc::clone(&shared.name);
            let failure = match panicked {
                Some(message) => Failure::BatchPanicked { batcher, message: Arc::clone(message) },
                None => Failure::Abandoned { batcher },
            };
            let outcome = Err(failure);
            self.note(ticket, &outcome);
            sink.publish(outcome);
        }
    }
}

impl<R, E> Drop for Books<R, E> {
    fn drop(&mut self) {
        // What strayed from its function and was dropped elsewhere.
        self.settle_orphans(None);
        self.lane.batch_ended();
    }
}

/// The items of one batch, in the order of their submission, each with the [`Completer`] of its result.
///
/// ```
/// use icecore_batcher::{Batch, BatchCtx};
///
/// fn lengths(batch: Batch<String, usize>, _: &BatchCtx) {
///     for (text, done) in batch {
///         done.finish(Ok(text.len()));
///     }
/// }
/// ```
#[must_use = "items that are not finished are reported as abandoned"]
pub struct Batch<T, R = (), E = std::convert::Infallible> {
    entries: Cut<Entry<T, R, E>>,
    /// There as long as there are entries.
    books: Option<Arc<Books<R, E>>>,
    reason: Reason,
}

impl<T, R, E> Batch<T, R, E> {
    pub(crate) fn new(entries: Cut<Entry<T, R, E>>, books: Arc<Books<R, E>>, reason: Reason) -> Self {
        Self { entries, books: Some(books), reason }
    }

    /// How many items are left in the batch.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// True once every item was taken out. A batch function never gets an empty batch.
    pub fn is_empty(&self) -> bool {
        self.entries.len() == 0
    }

    /// Why the batch was fired.
    pub fn reason(&self) -> Reason {
        self.reason
    }

    /// The items, to look at before they are taken out.
    pub fn items(&self) -> impl ExactSizeIterator<Item = &T> {
        self.entries.as_slice().iter().map(|entry| &entry.item)
    }

    /// The items and their completers apart, in the same order: for stores that take a whole list.
    pub fn split(self) -> (Vec<T>, Vec<Completer<R, E>>) {
        self.into_iter().unzip()
    }

    /// Finishes each item with what `f` makes of it, without a completer for each: the cheapest way.
    pub fn finish_each(mut self, mut f: impl FnMut(T) -> Result<R, E>) {
        let Self { entries, books: Some(books), .. } = &mut self else {
            return;
        };
        for entry in entries {
            let (ticket, sink) = (entry.ticket(), Some(entry.sink));
            // Taken out before the call, so that the item is owed whatever happens in there.
            let owed = Owed { sink, ticket, books: &**books };
            owed.finish(f(entry.item));
        }
    }
}

impl<T, R, E> Iterator for Batch<T, R, E> {
    type Item = (T, Completer<R, E>);

    fn next(&mut self) -> Option<Self::Item> {
        let (entry, books) = match &mut self.entries {
            Cut::One(item) => (item.take()?, self.books.take()?),
            Cut::Many(items) => (items.next()?, self.books.clone()?),
        };
        let (ticket, sink) = (entry.ticket(), Some(entry.sink));
        Some((entry.item, Completer(Owed { sink, ticket, books })))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.entries.size_hint()
    }
}

impl<T, R, E> ExactSizeIterator for Batch<T, R, E> {}
impl<T, R, E> FusedIterator for Batch<T, R, E> {}

impl<T, R, E> Drop for Batch<T, R, E> {
    fn drop(&mut self) {
        if self.entries.len() > 0
            && let Some(books) = &self.books
        {
            books.adopt((&mut self.entries).map(|entry| {
                let ticket = entry.ticket();
                (entry.sink, ticket)
            }));
        }
    }
}

/// Finishes one item. Dropped unfinished, its submitter gets [`Failure::Abandoned`], or
/// [`Failure::BatchPanicked`] if a panic dropped it.
#[must_use = "an item that is not finished is reported as abandoned"]
pub struct Completer<R, E = std::convert::Infallible>(Owed<R, E, Arc<Books<R, E>>>);

impl<R, E> Completer<R, E> {
    /// Hands the result to the submitter.
    pub fn finish(self, result: Result<R, E>) {
        self.0.finish(result);
    }
}

/// A result that is owed to a submitter.
struct Owed<R, E, B: Deref<Target = Books<R, E>>> {
    sink: Option<Sink<R, E>>,
    ticket: Option<Ticket>,
    books: B,
}

impl<R, E, B: Deref<Target = Books<R, E>>> Owed<R, E, B> {
    fn finish(mut self, result: Result<R, E>) {
        let outcome = result.map_err(Failure::Failed);
        self.books.note(self.ticket, &outcome);
        if let Some(sink) = self.sink.take() {
            sink.publish(outcome);
        }
    }
}

impl<R, E, B: Deref<Target = Books<R, E>>> Drop for Owed<R, E, B> {
    fn drop(&mut self) {
        if let Some(sink) = self.sink.take() {
            self.books.adopt(std::iter::once((sink, self.ticket)));
        }
    }
}

/// What a batch function may use besides its items. It belongs to the batcher: no request and no other part of the
/// program can cancel it, only [`crate::Batcher::abort`] does.
pub struct BatchCtx {
    lane: Arc<Lane>,
    scope: Arc<dyn Scope>,
}

impl BatchCtx {
    pub(crate) fn new(lane: Arc<Lane>, scope: Arc<dyn Scope>) -> Self {
        Self { lane, scope }
    }

    /// Runs follow-up work as part of the batch: it may take items' completers along and begins when the batch
    /// function has returned, on the same thread. The batch ends, its slot is free, and a close is through only when
    /// every child has ended. Children that wait give way to each other; a child that panics fails what it holds.
    pub fn spawn(&self, child: impl Future<Output = ()> + Send + 'static) {
        self.lane.spawn(Arc::clone(&self.scope), Box::pin(child));
    }

    /// True once the batcher was aborted: whatever runs long may give up.
    pub fn is_aborted(&self) -> bool {
        self.shared().aborted.load(Ordering::SeqCst)
    }

    /// The batcher's name.
    pub fn name(&self) -> &str {
        &self.shared().name
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.lane.shared
    }

    pub(crate) fn share(&self) -> Self {
        Self { lane: Arc::clone(&self.lane), scope: Arc::clone(&self.scope) }
    }
}
