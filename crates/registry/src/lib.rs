//! Who is running: workers, gates, weighted shutdown, a report.
//!
//! ```text
//! Registry     workers by key: threads, tasks, threads of others; started, cancelled, joined, never detached
//! PassGate     one pass at a time through a component, none while the gate is held, never again once it is closed
//! Manager      components (a gate and a loop each) on a registry: clear then wipe, and the order of a shutdown
//! Sink         a queue whose consumer stores what it received before it ends
//! ```
//!
//! Three promises carry the rest. A handle is always in the registry's table, never in a future, so no timeout and no
//! dropped future detaches a worker: it stays alive to every question and is reaped later. A start and a shutdown are each
//! one step, so a worker is in the report or its start was refused. And a report is clean only if everybody ended well.
//!
//! Everything waits as plain futures that need no runtime. The `_blocking` calls park a thread, which must not be one that
//! drives tasks: those they wait for could not go on. They are always there; with the feature `tokio` there are tasks, and
//! async calls of the same code, whose budgets want a runtime with its timer enabled: without one they hold, but are
//! watched by polling. In a build with `panic = "abort"` a panic ends the process, and nothing here is honoured; a notice
//! says so once.
//!
//! ```
//! use icecore_registry::{Registry, WorkerConfig};
//!
//! #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
//! enum Who {
//!     Ingest,
//!     Store,
//! }
//!
//! # fn main() -> icecore_registry::Result<()> {
//! let registry = Registry::new();
//! let (blocks, received) = std::sync::mpsc::channel();
//! let store = move |_token| {
//!     let mut stored = 0;
//!     // Ends when the last sender is gone.
//!     received.iter().for_each(|block: u64| stored += block);
//!     if stored > 0 { Ok(()) } else { Err("nothing was stored") }
//! };
//! let ingest = move |token: icecore_registry::CancelToken| {
//!     for block in 1.. {
//!         let sent = blocks.send(block);
//!         if sent.is_err() || token.is_cancelled() {
//!             return;
//!         }
//!     }
//! };
//! // The lower weight ends first, so that what it sent is stored.
//! assert!(registry.start_thread(Who::Store, WorkerConfig { weight: 10, ..Default::default() }, store).is_started());
//! assert!(registry.start_thread(Who::Ingest, WorkerConfig::default(), ingest).is_started());
//!
//! let report = registry.shutdown_blocking();
//! report.require_clean()?;
//! assert_eq!(report.per_worker.len(), 2);
//! # Ok(())
//! # }
//! ```

mod abort;
mod clock;
mod error;
mod gate;
mod manager;
mod mutants;
mod outcome;
mod probes;
mod registry;
mod shared;
mod shutdown;
mod signal;
mod sink;
mod status;
mod sync;
mod table;
mod token;
mod wait;
mod worker;

#[cfg(test)]
#[cfg(not(loom))]
mod acceptance;
#[cfg(test)]
#[cfg(loom)]
mod models;

pub use clock::{Clock, ManualClock, SystemClock};
pub use error::{Error, Result};
pub use gate::{GateGuard, PassGate, PassGuard, PassRefused};
pub use manager::{DEFAULT_PASS_BUDGET, Manager};
pub use registry::{ClearingGuard, Key, Registry, RegistryConfig, StartOutcome, WorkerInfo, WorkerState};
pub use sink::Sink;
pub use status::{ComponentStatus, GateStatus, IntoStatus, ShutdownReport, WorkerStatus};
pub use token::CancelToken;
pub use worker::{DrainHook, WorkerConfig};
