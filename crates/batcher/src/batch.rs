//! What a batch function gets: the items with their completers, and a context to act in.

use std::{future::Future, iter::FusedIterator, sync::Arc, vec};

use tracing::Span;

use crate::{
    Failure, Outcome, Reason,
    completion::Sink,
    dedup::{Settle, Ticket},
    lane::Lane,
    node::Shared,
    sync::{Mutex, atomic::Ordering, lock},
};

/// One accepted item on its way.
pub(crate) struct Entry<T, R, E> {
    pub(crate) item: T,
    pub(crate) sink: Sink<R, E>,
    pub(crate) ticket: Option<Ticket>,
    /// May be left out if nobody waits for the result.
    pub(crate) skippable: bool,
    /// The submitter's span, where spans are asked for.
    pub(crate) span: Option<Box<Span>>,
}

/// The books of one batch. It has ended when the last reference to them is gone: the function's, each child's, each
/// unfinished item's.
pub(crate) struct Books<R, E> {
    pub(crate) lane: Arc<Lane>,
    pub(crate) dedup: Option<Arc<dyn Settle<R, E>>>,
    /// Items whose completers were dropped unfinished.
    orphans: Mutex<Vec<(Sink<R, E>, Option<Ticket>)>>,
}

impl<R, E> Books<R, E> {
    pub(crate) fn new(lane: Arc<Lane>, dedup: Option<Arc<dyn Settle<R, E>>>) -> Self {
        Self { lane, dedup, orphans: Mutex::new(Vec::new()) }
    }

    fn resolve(&self, sink: Sink<R, E>, ticket: Option<Ticket>, outcome: Outcome<R, E>) {
        // The key is forgotten before the submitter hears of a failure and tries again.
        if let (Some(dedup), Some(ticket)) = (&self.dedup, ticket) {
            dedup.settle(ticket, &outcome);
        }
        sink.publish(outcome);
    }
}

/// What the slot knows of a batch, whatever its results are.
pub(crate) trait Scope: Send + Sync {
    /// Resolves the items that were dropped unfinished, by a panic if there was one.
    fn settle(&self, panicked: Option<&Arc<str>>);
}

impl<R: Send, E: Send> Scope for Books<R, E> {
    fn settle(&self, panicked: Option<&Arc<str>>) {
        let orphans = std::mem::take(&mut *lock(&self.orphans));
        if orphans.is_empty() {
            return;
        }
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
            self.resolve(sink, ticket, Err(failure));
        }
    }
}

impl<R, E> Drop for Books<R, E> {
    fn drop(&mut self) {
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
    entries: vec::IntoIter<Entry<T, R, E>>,
    books: Arc<Books<R, E>>,
    reason: Reason,
}

impl<T, R, E> Batch<T, R, E> {
    pub(crate) fn new(entries: Vec<Entry<T, R, E>>, books: Arc<Books<R, E>>, reason: Reason) -> Self {
        Self { entries: entries.into_iter(), books, reason }
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

    /// Finishes each item with what `f` makes of it.
    pub fn finish_each(self, mut f: impl FnMut(T) -> Result<R, E>) {
        for (item, done) in self {
            done.finish(f(item));
        }
    }
}

impl<T, R, E> Iterator for Batch<T, R, E> {
    type Item = (T, Completer<R, E>);

    fn next(&mut self) -> Option<Self::Item> {
        let Entry { item, sink, ticket, .. } = self.entries.next()?;
        Some((item, Completer { sink: Some(sink), ticket, books: Arc::clone(&self.books) }))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.entries.size_hint()
    }
}

impl<T, R, E> ExactSizeIterator for Batch<T, R, E> {}
impl<T, R, E> FusedIterator for Batch<T, R, E> {}

impl<T, R, E> Drop for Batch<T, R, E> {
    fn drop(&mut self) {
        if self.entries.len() > 0 {
            lock(&self.books.orphans).extend((&mut self.entries).map(|entry| (entry.sink, entry.ticket)));
        }
    }
}

/// Finishes one item. Dropped unfinished, its submitter gets [`Failure::Abandoned`], or
/// [`Failure::BatchPanicked`] if a panic dropped it.
#[must_use = "an item that is not finished is reported as abandoned"]
pub struct Completer<R, E = std::convert::Infallible> {
    sink: Option<Sink<R, E>>,
    ticket: Option<Ticket>,
    books: Arc<Books<R, E>>,
}

impl<R, E> Completer<R, E> {
    /// Hands the result to the submitter.
    pub fn finish(mut self, result: Result<R, E>) {
        if let Some(sink) = self.sink.take() {
            self.books.resolve(sink, self.ticket, result.map_err(Failure::Failed));
        }
    }
}

impl<R, E> Drop for Completer<R, E> {
    fn drop(&mut self) {
        if let Some(sink) = self.sink.take() {
            lock(&self.books.orphans).push((sink, self.ticket));
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
