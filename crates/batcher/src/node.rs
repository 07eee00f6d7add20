//! What there is to know of a batcher whatever its items are, and which one the current thread works for.

use std::{
    cell::Cell,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, OnceLock},
    task::Waker,
    thread::JoinHandle,
    time::Duration,
};

use crate::{
    Clock, CloseError, CloseReport, Draining, Meter,
    lane::message,
    mutants,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, AtomicUsize},
    },
};

/// Called once when a batcher is closed, on its last thread; must not block.
pub(crate) type Hook = Box<dyn FnOnce(&CloseReport) + Send>;

/// The parts of a batcher that do not depend on its items.
pub(crate) struct Shared {
    pub(crate) name: Arc<str>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) meter: Option<Arc<dyn Meter>>,
    pub(crate) children: AtomicUsize,
    pub(crate) panicked_items: AtomicU64,
    pub(crate) abandoned_items: AtomicU64,
    pub(crate) aborted: AtomicBool,
    /// The group this batcher belongs to, as an identity.
    pub(crate) group: OnceLock<usize>,
    pub(crate) life: Mutex<Life>,
    /// The threads, to be joined by whoever sees the end.
    pub(crate) threads: Mutex<Vec<JoinHandle<()>>>,
}

/// From open to closed.
#[derive(Default)]
pub(crate) struct Life {
    /// Threads that run, and aborts that have not told every item yet.
    pub(crate) lanes: usize,
    /// When the close began and how many items had been handed over by then.
    pub(crate) began: Option<(Duration, u64)>,
    pub(crate) report: Option<CloseReport>,
    pub(crate) wakers: Vec<Waker>,
    pub(crate) hooks: Vec<Hook>,
}

impl Shared {
    /// The identity of this batcher among those of the process.
    pub(crate) fn id(&self) -> usize {
        std::ptr::from_ref(self).addr()
    }

    /// Reports a figure; a meter that panics loses that figure and nothing else.
    #[inline]
    pub(crate) fn meter(&self, observe: impl FnOnce(&dyn Meter)) {
        if let Some(meter) = &self.meter
            && let Err(panic) = catch_unwind(AssertUnwindSafe(|| observe(&**meter)))
        {
            tracing::error!(batcher = &*self.name, panic = &*message(&*panic), "a meter panicked");
        }
    }

    /// True inside this batcher's own batch function and its tracked children.
    fn is_current(&self) -> bool {
        current().is_some_and(|node| node.batcher == self.id())
    }

    /// The batch function cannot wait for its own end.
    ///
    /// # Errors
    /// [`CloseError::WouldDeadlock`] in there.
    pub(crate) fn check_caller(&self) -> Result<(), CloseError> {
        if self.is_current() && !mutants::on("close_waits_for_itself") {
            return Err(CloseError::WouldDeadlock { batcher: Arc::clone(&self.name) });
        }
        Ok(())
    }

    /// True where a submission from outside would go round the declared edges: inside a batch function of this batcher
    /// or of its group.
    pub(crate) fn is_bypassed(&self) -> bool {
        current().is_some_and(|node| {
            node.batcher == self.id() || (node.group.is_some() && node.group == self.group.get().copied())
        }) && !mutants::on("undeclared_edge_accepted")
    }
}

/// Which batch function runs on a thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Current {
    pub(crate) batcher: usize,
    pub(crate) group: Option<usize>,
}

thread_local! {
    static CURRENT: Cell<Option<Current>> = const { Cell::new(None) };
}

/// The batcher whose batch function, or tracked child, the current thread runs.
pub(crate) fn current() -> Option<Current> {
    CURRENT.get()
}

/// Marks the current thread as working for a batcher until the guard is dropped.
pub(crate) fn enter(shared: &Shared) -> impl Drop {
    struct Leave(Option<Current>);
    impl Drop for Leave {
        fn drop(&mut self) {
            CURRENT.set(self.0);
        }
    }
    Leave(CURRENT.replace(Some(Current { batcher: shared.id(), group: shared.group.get().copied() })))
}

/// A batcher of any item, as a group and a close see it.
pub(crate) trait Node: Send + Sync {
    fn shared(&self) -> &Arc<Shared>;
    /// Items accepted and not yet handed to the batch function.
    fn queued(&self) -> u64;
    /// Batches begun and not ended.
    fn in_flight(&self) -> usize;
    /// Ends submissions from outside; those over declared edges go on.
    fn seal_external(&self);
    /// Fires partial batches at once from now on.
    fn set_eager(&self);
    /// Ends all submissions and lets the queue drain.
    fn begin_close(self: Arc<Self>) -> Draining;
    /// Calls the hook once the batcher is closed, tracked children included; at once if it is closed already.
    fn on_closed(&self, hook: Hook);
}
