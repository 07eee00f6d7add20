//! A slot and its thread: runs one batch at a time, the function first, then its tracked children.

use std::{
    any::Any,
    future::{Future, ready},
    mem,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    pin::Pin,
    sync::Arc,
    task::{Context, Wake, Waker},
};

use crate::{
    BatchCtx,
    batch::Scope,
    mutants,
    node::{Shared, enter},
    queue::Running,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering, fence},
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

impl Child {
    fn is_ready(&self) -> bool {
        self.ready.ready.load(Ordering::SeqCst)
    }
}

/// What a slot keeps from batch to batch.
pub(crate) struct Desk<S> {
    pub(crate) books: Arc<S>,
    pub(crate) ctx: BatchCtx,
}

impl<S: Scope + 'static> Desk<S> {
    pub(crate) fn new(lane: &Arc<Lane>, books: S) -> Self {
        let books = Arc::new(books);
        let ctx = BatchCtx::new(Arc::clone(lane), Arc::clone(&books) as _);
        Self { books, ctx }
    }
}

impl<S> Desk<S> {
    /// True when nobody else refers to the books: the batch has ended.
    fn is_alone(&self) -> bool {
        let alone = Arc::strong_count(&self.books) == 2;
        // Pairs with the release of the last reference given up elsewhere.
        fence(Ordering::Acquire);
        alone
    }
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

    /// Runs one batch to its end. The desk stays if it can serve the next one.
    #[inline]
    pub(crate) fn run<S: Scope + 'static>(&self, desk: &mut Option<Desk<S>>, call: impl FnOnce(&Desk<S>)) {
        let Some(open) = desk else {
            return;
        };
        {
            let _node = enter(&self.shared);
            let panicked = self.guarded(|| call(open));
            // Looked at first: whoever lets go of the books has left there what it did not finish.
            let alone = open.is_alone() || mutants::on("untracked_children");
            open.books.settle(panicked.as_ref());
            if alone {
                return;
            }
        }
        self.run_children(desk);
    }

    fn run_children<S: Scope + 'static>(&self, desk: &mut Option<Desk<S>>) {
        self.ended.store(false, Ordering::SeqCst);
        let mut children = Vec::new();
        while !self.ended.load(Ordering::SeqCst) {
            children.append(&mut lock(&self.spawned));
            if children.is_empty() {
                if let Some(desk) = desk.take_if(|desk| !desk.is_alone()) {
                    self.leave(desk);
                    continue;
                }
                if let Some(desk) = desk {
                    return desk.books.settle(None);
                }
            }
            {
                let _node = enter(&self.shared);
                children.retain_mut(|child| !self.advance(child));
            }
            // Foreign code may have used up the wake-up of a child that came meanwhile.
            let is_quiet = !children.iter().any(Child::is_ready) && lock(&self.spawned).is_empty();
            if is_quiet && (desk.is_none() || !children.is_empty()) {
                thread::park();
            }
        }
    }

    /// Lets go of the books; items still held elsewhere are waited for, but were to be in a child.
    fn leave<S: Scope>(&self, desk: Desk<S>) {
        let message = "items left their batch function outside of BatchCtx::spawn";
        tracing::error!(batcher = &*self.shared.name, "{message}");
        self.guarded(|| debug_assert!(desk.is_alone(), "{message}"));
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
        if mutants::on("panic_escapes") {
            resume_unwind(panic);
        }
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
