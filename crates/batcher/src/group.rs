//! Batchers that feed each other, and the order in which they close.
//!
//! ```text
//! outside ──▶ spend ──wait──▶ increment        an edge is declared, and then the one way from a batch function
//!                   ──wait──▶ set_dah          to another batcher; declared edges form no cycle
//!
//! close:  1. all doors to the outside shut at once; edges stay open
//!         2. whoever is waited for over an edge fires without waiting for company
//!         3. a batcher whose producers are all closed, their tracked children included, closes; and so on down
//!         4. what the batchers used is closed by hooks, each once and with a budget of its own
//! ```
//!
//! The deadline of a close bounds only the wait: whatever is not drained by then goes on in the same order.
//!
//! A group starts no thread to watch over its close: the last thread of each batcher begins the close of those that
//! waited for it. Hooks run on threads that whoever waits for the end joins.
//!
//! ```
//! use icecore_batcher::{Batch, BatchCtx, Batcher, EnqueueAndWait, GroupBuilder};
//! use std::time::Duration;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let mut group = GroupBuilder::new("ledger");
//! let count = group.node("count", Batcher::builder(), |batch: Batch<u64, u64>, _: &BatchCtx| {
//!     batch.finish_each(|amount| Ok(amount + 1));
//! });
//! let to_count = group.edge("spend", &count, EnqueueAndWait);
//! let spend = group.node("spend", Batcher::builder(), move |batch: Batch<u64, u64>, ctx: &BatchCtx| {
//!     let Ok(count) = ctx.downstream(&to_count) else { return };
//!     for (amount, done) in batch {
//!         if let Ok(counted) = count.submit(amount) {
//!             counted.wait().map_or((), |counted| done.finish(Ok(counted)));
//!         }
//!     }
//! });
//! let group = group.build()?;
//! let spend = group.member(&spend)?;
//! let spent = spend.submit(41)?;
//! group.close(Duration::from_secs(10))?;
//! assert_eq!(spent.wait()?, 42);
//! # Ok(())
//! # }
//! ```

mod builder;
mod close;
mod edge;
mod error;
mod graph;
mod inner;

use std::{fmt, ops::Deref, sync::Arc, time::Duration};

pub use builder::{GroupBuilder, Node, NodeSpec, Rank};
pub use close::{GroupDraining, GroupReport, NodeReport};
pub use edge::{EdgeHandle, EdgeKind, Enqueue, EnqueueAndWait, Outlet};
pub use error::{GroupCloseError, GroupError, GroupNotConfirmed, NodeState, NotMember, UndeclaredEdge};

use crate::{Batcher, Flush, Inlet, SubmitError, mutants};
use inner::Inner;

/// Batchers that close together. Dropped without a [`close`](Self::close), it drains in the background, in the same order,
/// and an error is logged.
pub struct Group {
    inner: Arc<Inner>,
}

impl Group {
    /// The name in logs and errors.
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// The batcher of a node, for submissions from outside the group.
    ///
    /// # Errors
    /// [`NotMember`], where the node is another group's.
    pub fn member<T, R, E>(&self, node: &Node<T, R, E>) -> Result<Member<T, R, E>, NotMember>
    where
        T: Send + 'static,
        R: Send + 'static,
        E: Send + 'static,
    {
        match node.batcher.get() {
            Some(batcher) if self.inner.has(batcher.node().shared().id()) => {
                Ok(Member { batcher: Arc::clone(batcher) })
            }
            _ => Err(NotMember { group: self.inner.name.clone(), node: node.name.clone() }),
        }
    }

    /// Ends submissions from outside at once and lets all batchers drain, producers first, without waiting for it; legal
    /// inside a batch function.
    pub fn begin_close(&self) -> GroupDraining {
        self.inner.begin_close();
        GroupDraining::new(Arc::clone(&self.inner))
    }

    /// Ends submissions from outside at once, and waits until everything accepted was executed and finished and the hooks
    /// have run. May be called as often and from as many threads as one likes: all get the same report.
    ///
    /// # Errors
    /// [`GroupCloseError::NotConfirmed`] when the time is up, or as soon as every batcher that could still drain in time
    /// has used up its own budget. The drain continues, in the same order, and its outcome is not known yet.
    /// [`GroupCloseError::WouldDeadlock`] inside a batch function of the group; then nothing has begun.
    pub fn close(&self, timeout: Duration) -> Result<Arc<GroupReport>, GroupCloseError> {
        self.inner.check_caller()?;
        self.begin_close().wait_timeout(timeout)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if !mutants::on("group_drop_does_nothing") && self.inner.begin_close() {
            let undispatched = self.inner.queued();
            tracing::error!(group = self.inner.name, undispatched, "dropped without a close");
        }
    }
}

impl fmt::Debug for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Group").field("name", &self.inner.name).finish_non_exhaustive()
    }
}

/// A batcher of a group, seen from outside: it derefs to [`Inlet`], the family of submissions. Only the group closes it.
pub struct Member<T: Send + 'static, R: Send + 'static, E: Send + 'static> {
    batcher: Arc<Batcher<T, R, E>>,
}

impl<T: Send, R: Send, E: Send> Member<T, R, E> {
    /// The name in logs, metrics and errors.
    pub fn name(&self) -> &str {
        self.batcher.name()
    }

    /// Items accepted and not yet handed to the batch function.
    pub fn queued(&self) -> u64 {
        self.batcher.queued()
    }

    /// Batches begun and not ended.
    pub fn in_flight(&self) -> usize {
        self.batcher.in_flight()
    }

    /// As [`Batcher::trigger`].
    ///
    /// # Errors
    /// [`SubmitError::Closed`], once the batcher itself is closing.
    pub fn trigger(&self) -> Result<(), SubmitError<()>> {
        self.batcher.trigger()
    }

    /// As [`Batcher::flush`].
    pub fn flush(&self) -> Flush {
        self.batcher.flush()
    }

    /// As [`Batcher::flush_completed`].
    pub fn flush_completed(&self) -> Flush {
        self.batcher.flush_completed()
    }
}

impl<T: Send, R: Send, E: Send> Clone for Member<T, R, E> {
    fn clone(&self) -> Self {
        Member { batcher: Arc::clone(&self.batcher) }
    }
}

impl<T: Send, R: Send, E: Send> Deref for Member<T, R, E> {
    type Target = Inlet<T, R, E>;

    fn deref(&self) -> &Self::Target {
        &self.batcher
    }
}

impl<T: Send, R: Send, E: Send> fmt::Debug for Member<T, R, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.batcher.fmt(f)
    }
}
