//! What can go wrong, one type for each moment: building, submitting, waiting for a result, closing.

use std::{fmt, io, sync::Arc};

use crate::Draining;

/// What a caller's own function may fail with.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Why a batcher cannot be built.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// The name is empty: logs and metrics could not say who speaks.
    #[error("a batcher needs a name that is not empty")]
    EmptyName,
    /// A number that must not be zero is.
    #[error("batcher {batcher}: {option} must not be zero")]
    Zero {
        /// The batcher's name.
        batcher: String,
        /// The option's name.
        option: &'static str,
    },
    /// The dedup window is not a whole number of buckets, or there are more than a million of them.
    #[error("batcher {batcher}: the dedup window must be 1 to 1000000 whole buckets")]
    Buckets {
        /// The batcher's name.
        batcher: String,
    },
    /// The system refused a thread.
    #[error("batcher {batcher}: cannot start its thread: {source}")]
    Thread {
        /// The batcher's name.
        batcher: String,
        /// The system's answer.
        source: Arc<io::Error>,
    },
}

/// Why an item, or a whole group, was not accepted; it is handed back.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SubmitError<T> {
    /// The batcher takes no more items: it is closing or closed.
    #[error("the batcher is closed")]
    Closed(T),
    /// There is no room just now.
    #[error("the queue is full: wait for room, or try again later")]
    Full(T),
    /// There was no room for as long as the submitter was ready to wait.
    #[error("the queue stayed full for too long")]
    TimedOut(T),
    /// The same key was accepted a short while ago.
    #[error("an item of the same key was accepted within the dedup window")]
    Duplicate(T),
    /// A batch function of the same group, or this batcher's own, submitted without a declared edge.
    #[error(
        "submitted from inside a batch function over an undeclared edge: declare it, or do the work in place"
    )]
    UndeclaredEdge(T),
}

impl<T> SubmitError<T> {
    /// What was not accepted.
    pub fn into_inner(self) -> T {
        match self {
            Self::Closed(item)
            | Self::Full(item)
            | Self::TimedOut(item)
            | Self::Duplicate(item)
            | Self::UndeclaredEdge(item) => item,
        }
    }

    /// The same error around something else.
    pub fn map<U>(self, f: impl FnOnce(T) -> U) -> SubmitError<U> {
        match self {
            Self::Closed(item) => SubmitError::Closed(f(item)),
            Self::Full(item) => SubmitError::Full(f(item)),
            Self::TimedOut(item) => SubmitError::TimedOut(f(item)),
            Self::Duplicate(item) => SubmitError::Duplicate(f(item)),
            Self::UndeclaredEdge(item) => SubmitError::UndeclaredEdge(f(item)),
        }
    }

    /// True where the same call may succeed a little later.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Full(_) | Self::TimedOut(_))
    }
}

impl<T> fmt::Debug for SubmitError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Closed(_) => "Closed(..)",
            Self::Full(_) => "Full(..)",
            Self::TimedOut(_) => "TimedOut(..)",
            Self::Duplicate(_) => "Duplicate(..)",
            Self::UndeclaredEdge(_) => "UndeclaredEdge(..)",
        })
    }
}

/// Why an accepted item has no value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Failure<E> {
    /// The batch function finished the item with this error.
    #[error(transparent)]
    Failed(E),
    /// The batch function, or a tracked child, panicked before it finished the item.
    #[error("batcher {batcher}: the batch panicked: {message}")]
    BatchPanicked {
        /// The batcher's name.
        batcher: Arc<str>,
        /// What the panic said.
        message: Arc<str>,
    },
    /// The batch function dropped the item's completer without finishing it: a fault in that function.
    #[error("batcher {batcher}: the batch function returned without finishing the item")]
    Abandoned {
        /// The batcher's name.
        batcher: Arc<str>,
    },
    /// The batcher was aborted before the item's batch began.
    #[error("batcher {batcher}: aborted before the item was executed")]
    Aborted {
        /// The batcher's name.
        batcher: Arc<str>,
    },
    /// One item of a group whose key was accepted a short while ago.
    #[error("an item of the same key was accepted within the dedup window")]
    Duplicate,
}

/// The wait ended before the result came: the outcome is unknown and the work goes on. Here is the handle back.
#[derive(thiserror::Error)]
#[error("still pending: the outcome is unknown, the work goes on")]
pub struct Pending<C>(
    /// The handle that was waited on.
    pub C,
);

impl<C> fmt::Debug for Pending<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pending(..)")
    }
}

/// Why a wait for the end of a batcher, or for a barrier in it, did not confirm it.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CloseError {
    /// The time is up. The drain continues: this is neither success nor loss, it is not known yet.
    #[error("{0}")]
    NotConfirmed(DrainNotConfirmed),
    /// Called from inside this batcher's own batch function, which would wait for itself.
    #[error("batcher {batcher}: its own batch function cannot wait for it; use begin_close there")]
    WouldDeadlock {
        /// The batcher's name.
        batcher: Arc<str>,
    },
}

/// What was left when the time for a close was up; the drain continues.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct DrainNotConfirmed {
    /// Items accepted and not yet given to the batch function.
    pub queued: u64,
    /// Batches begun and not ended.
    pub in_flight: usize,
    /// Tracked children that run.
    pub children: usize,
    /// Reports the eventual end.
    pub handle: Draining,
}

impl fmt::Display for DrainNotConfirmed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { queued, in_flight, children, handle } = self;
        write!(
            f,
            "batcher {}: not drained in time: {queued} items queued, {in_flight} batches and {children} children in \
             flight; the drain continues",
            handle.name()
        )
    }
}
