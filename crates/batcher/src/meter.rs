//! What is counted and timed.

use std::{sync::Arc, time::Duration};

use crate::Reason;

/// Where a batcher's figures go. Bound once to each batcher, so that nothing is looked up per item.
pub trait Metrics {
    /// The view for the batcher of this name; every figure is to carry it.
    fn bind(&self, batcher: &str) -> Arc<dyn Meter>;
}

/// Why items were turned away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Rejection {
    /// The batcher is closing or closed.
    Closed,
    /// There was no room.
    Full,
    /// There was no room in time.
    TimedOut,
    /// The key was known.
    Duplicate,
    /// Submitted inside a batch function without a declared edge.
    UndeclaredEdge,
}

impl Rejection {
    /// The cause as a metric label.
    pub fn label(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Full => "full",
            Self::TimedOut => "timed_out",
            Self::Duplicate => "duplicate",
            Self::UndeclaredEdge => "undeclared_edge",
        }
    }
}

/// What the dedup table said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum DedupEvent {
    /// The key was known.
    Hit,
    /// The key was new.
    Miss,
    /// A key was forgotten before its time for lack of room.
    Evicted,
}

impl DedupEvent {
    /// The event as a metric label.
    pub fn label(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::Miss => "miss",
            Self::Evicted => "evicted",
        }
    }
}

/// One batcher's figures. Every method does nothing unless it is overridden; none may block or panic.
#[allow(unused_variables)]
pub trait Meter: Send + Sync {
    /// Items were accepted; a group of n counts n.
    fn enqueued(&self, items: u64) {}
    /// Items were turned away.
    fn rejected(&self, why: Rejection, items: u64) {}
    /// A submitter waited for room for this long.
    fn enqueue_blocked(&self, waited: Duration) {}
    /// Items accepted and not yet handed to the batch function.
    fn queue_depth(&self, items: u64) {}
    /// A batch was fired.
    fn batch_fired(&self, reason: Reason, items: usize) {}
    /// A batch has ended, its tracked children included.
    fn batch_ended(&self, took: Duration) {}
    /// Every slot was busy for this long while items waited.
    fn backpressure_wait(&self, waited: Duration) {}
    /// Batches begun and not ended.
    fn in_flight(&self, batches: usize) {}
    /// The dedup table was asked.
    fn dedup(&self, event: DedupEvent, items: u64) {}
    /// A batch function or a tracked child panicked.
    fn panicked(&self) {}
    /// Items were dropped unfinished.
    fn abandoned(&self, items: u64) {}
    /// The batcher is closed; the drain took this long.
    fn drained(&self, took: Duration) {}
    /// A close was not confirmed in time.
    fn drain_unconfirmed(&self) {}
}
