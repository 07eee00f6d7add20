//! Groups items into batches and drains them in order on close.
//!
//! ```text
//! submit ──▶ queue ──▶ batch function(items, completers) ──▶ each submitter's completion
//!            bounded    by size, timeout, tick, request       a value, or why there is none
//! ```
//!
//! `Ok` from a submission is a promise: the item is passed to the batch function exactly once unless the process dies.
//! [`Batcher::close`] confirms that everything accepted was executed and finished; when its time is up it says so, and
//! the drain goes on. Every accepted item's [`Completion`] resolves, whatever the batch function does: panic, forget the
//! item, or hand it to a tracked child ([`BatchCtx::spawn`]) that outlives it.
//!
//! Batchers that feed each other form a [`Group`], which knows their edges and closes producers before consumers. What they
//! write through is leased from a [`ClientPool`], which closes a client with its last lease; and a [`ShutdownPlan`] closes
//! all of it, once, on whatever path the program ends.
//!
//! The batcher owns its threads and needs no async runtime; completions, barriers and closes can be waited for on a
//! thread or awaited on any executor. Time comes from a [`Clock`], so that tests turn a [`ManualClock`] and never sleep.
//!
//! ```
//! use icecore_batcher::{Batch, Batcher};
//! use std::time::Duration;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // A sink that is slow per call, and cheap per item.
//! fn store(rows: &[String]) -> usize {
//!     std::thread::sleep(Duration::from_millis(2));
//!     rows.len()
//! }
//!
//! let batcher = Batcher::builder()
//!     .name("rows")
//!     .size(100)
//!     .timeout(Duration::from_millis(5))
//!     .start(|batch: Batch<String, usize>, _| {
//!         let (rows, completers) = batch.split();
//!         let stored = store(&rows);
//!         completers.into_iter().for_each(|done| done.finish(Ok(stored)));
//!     })?;
//!
//! let completions: Vec<_> =
//!     (0..250).map(|row| batcher.submit(format!("row {row}"))).collect::<Result<_, _>>()?;
//! for completion in completions {
//!     assert!(completion.wait()? <= 100);
//! }
//! let report = batcher.close(Duration::from_secs(10))?;
//! assert_eq!(report.panicked_items, 0);
//! # Ok(())
//! # }
//! ```

// Models check the queue; what is built on it is left out, and what only that uses looks dead.
#![cfg_attr(loom, allow(dead_code))]

#[cfg(test)]
#[cfg(not(loom))]
mod acceptance;
mod batch;
mod batcher;
mod builder;
mod clock;
mod close;
mod completion;
mod dedup;
mod error;
#[cfg(feature = "metrics")]
mod facade;
#[cfg(all(not(loom), any(test, feature = "fuzz")))]
pub mod fuzz;
#[cfg(not(loom))]
mod group;
mod lane;
mod meter;
#[cfg(all(test, loom))]
mod models;
mod mutants;
mod node;
#[cfg(not(loom))]
mod pool;
mod queue;
#[cfg(not(loom))]
mod shutdown;
mod slots;
mod submit;
mod sync;
#[cfg(not(loom))]
mod threads;
mod trigger;
mod worker;

pub use batch::{Batch, BatchCtx, Completer};
pub use batcher::{Batcher, Flush};
pub use builder::{Builder, Dispatch, OnDrop};
pub use clock::{Clock, ManualClock, SystemClock};
pub use close::{CloseReport, Draining};
pub use completion::{Completion, CompletionSet, Outcome, wait_budget};
pub use dedup::Dedup;
pub use error::{BoxError, BuildError, CloseError, DrainNotConfirmed, Failure, Pending, SubmitError};
#[cfg(feature = "metrics")]
pub use facade::FacadeMetrics;
#[cfg(not(loom))]
pub use group::{
    EdgeHandle, EdgeKind, Enqueue, EnqueueAndWait, Group, GroupBuilder, GroupCloseError, GroupDraining,
    GroupError, GroupNotConfirmed, GroupReport, Member, Node, NodeReport, NodeSpec, NodeState, NotMember,
    Outlet, Rank, UndeclaredEdge,
};
pub use meter::{DedupEvent, Meter, Metrics, Rejection};
#[cfg(not(loom))]
pub use pool::{ClientPool, Endpoint, EndpointError, Lease, PoolError, Scheme};
#[cfg(not(loom))]
pub use shutdown::{CloseOutcome, Closing, PlanError, ShutdownGuard, ShutdownPlan, ShutdownReport};
pub use slots::SharedSlots;
pub use submit::Inlet;
pub use trigger::{Reason, TriggerMode};
