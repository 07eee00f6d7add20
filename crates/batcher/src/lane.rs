//! A slot and its thread: runs one batch at a time, the function first, then its tracked children.

use std::{
    any::Any,
    future::{Future, ready},
    mem,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::Arc,
    task::{Context, Wake, Waker},
};

use crate::{
    batch::Scope,
    mutants,
    node::{Shared, enter},
    queue::Running,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
        block_on, lock, thread,
    },
};

type Work = Pin<Box<dyn Future<Output = ()> + Send>>;

/// One slot.
pub(crate) struct Lane {
    pub(crate) shared: Arc<Shared>,
    pub(crate) running: Running,
    thread: thread::Thread,
    spawned: Mutex<Vec<Child>>,
    ended: AtomicBool,
}

struct Child {
    scope: Arc<dyn Scope>,
    work: Work,
    ready: Arc<Ready>,
}

/// Wakes the slot's thread for one child.
struct Ready {
    ready: AtomicBool,
    thread: thread::Thread,
}

impl Wake for Ready {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.ready.store(true, Ordering::SeqCst);
        self.thread.unpark();
    }
}

impl Lane {
    /// The slot of the current thread.
    pub(crate) fn new(shared: Arc<Shared>, running: Running) -> Self {
        let (spawned, ended) = (Mutex::new(Vec::new()), AtomicBool::new(false));
        Self { shared, running, thread: thread::current(), spawned, ended }
    }

    /// Takes in a child of the running batch.
    pub(crate) fn spawn(&self, scope: Arc<dyn Scope>, work: Work) {
        if mutants::on("untracked_children") {
            drop(scope);
            let mut work = work;
            thread::spawn(move || block_on(|cx| work.as_mut().poll(cx)));
            return;
        }
        self.shared.children.fetch_add(1, Ordering::SeqCst);
        let ready = Arc::new(Ready { ready: AtomicBool::new(true), thread: self.thread.clone() });
        lock(&self.spawned).push(Child { scope, work, ready });
        self.thread.unpark();
    }

    /// The last reference to the batch is gone.
    pub(crate) fn batch_ended(&self) {
        self.ended.store(true, Ordering::SeqCst);
        self.thread.unpark();
    }

    /// Runs one batch to its end. `books` are the batch's, of which `call` holds another reference.
    pub(crate) fn run<S: Scope + 'static>(&self, books: Arc<S>, call: impl FnOnce()) {
        self.ended.store(false, Ordering::SeqCst);
        {
            let _node = enter(&self.shared);
            let panicked = self.guarded(call);
            books.settle(panicked.as_ref());
        }
        let mut children = Vec::new();
        let mut books = Some(books);
        loop {
            children.append(&mut lock(&self.spawned));
            if !children.is_empty() {
                let _node = enter(&self.shared);
                children.retain_mut(|child| !self.advance(child));
            } else if let Some(books) = books.take() {
                self.release(books);
            } else if self.ended.load(Ordering::SeqCst) || mutants::on("untracked_children") {
                return;
            }
            let idle = !children.iter().any(|child| child.ready.ready.load(Ordering::SeqCst));
            if idle && (books.is_none() || !children.is_empty()) && !self.ended.load(Ordering::SeqCst) {
                thread::park();
            }
        }
    }

    /// Lets go of the thread's own reference; items still held elsewhere are waited for, but were to be in a child.
    fn release<S: Scope + 'static>(&self, books: Arc<S>) {
        let inside = Arc::strong_count(&books) == 1;
        if !inside {
            tracing::error!(
                batcher = &*self.shared.name,
                "items left their batch function outside of BatchCtx::spawn"
            );
            self.guarded(|| {
                debug_assert!(inside, "items left their batch function outside of BatchCtx::spawn")
            });
        }
    }

    /// Polls a child if it asked for it; true once it has ended.
    fn advance(&self, child: &mut Child) -> bool {
        if !child.ready.ready.swap(false, Ordering::SeqCst) {
            return false;
        }
        let waker = Waker::from(Arc::clone(&child.ready));
        let mut pending = false;
        let mut panicked = self.guarded(|| {
            pending = child.work.as_mut().poll(&mut Context::from_waker(&waker)).is_pending();
        });
        if !pending {
            let work = mem::replace(&mut child.work, Box::pin(ready(())));
            panicked = panicked.or(self.guarded(|| drop(work)));
            self.shared.children.fetch_sub(1, Ordering::SeqCst);
        }
        child.scope.settle(panicked.as_ref());
        !pending
    }

    /// Calls foreign code; gives the message if it panicked.
    fn guarded(&self, call: impl FnOnce()) -> Option<Arc<str>> {
        let panic = catch_unwind(AssertUnwindSafe(call)).err()?;
        let message = message(&*panic);
        tracing::error!(batcher = &*self.shared.name, panic = &*message, "a batch panicked");
        self.shared.meter(|meter| meter.panicked());
        Some(message)
    }
}

/// What a panic said.
pub(crate) fn message(panic: &(dyn Any + Send)) -> Arc<str> {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message").into()
}
