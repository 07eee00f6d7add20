//! The engine: a history that fetches what it lacks, takes in what is new, freezes it, indexes it, and answers meanwhile.
//!
//! ```text
//! ingest     source ─▶ hot chunk, one synced batch ─▶ shown to readers ─▶ at a chunk's end: ring
//! freeze     plan(state) ─▶ hot chunk · pack · bulk source ─▶ files, durable ─▶ frozen ─▶ index ─▶ discard the hot chunk
//! lookup     view ─▶ hot chunks ─▶ indexes ─▶ candidate ─▶ the ledger ─▶ all 32 bytes agree
//!
//! plan       floor · resolve · discards · prunes: what is to be done, without doing anything
//! executor   a plan, so many tasks at a time         act       one task, under the catalog's write protocol
//! lifecycle  plan-and-execute · discard · prune      ingest    commit · publish · roll over
//! start      what was left behind, where to go on; begun anew after each error
//! view, read one moment of the store, and what is read through it
//! ```
//!
//! All progress is derived from the catalog's keys and the hot chunks; none is stored. So whatever a crash leaves, the next
//! start and one run of the lifecycle make right.
//!
//! ```
//! use std::{sync::Arc, time::Duration};
//!
//! use icecore_engine::{Engine, EngineConfig, Sources, Span};
//! use icecore_ledger::{Decoder, Geometry, LedgerSeq};
//! use icecore_stellar::{StellarDecoder, source::Generator};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let dir = tempfile::tempdir()?;
//! let source: Generator = "gen:ledgers=45,txs=3".parse()?;
//! let sources = Sources { bulk: Arc::new(source), live: None };
//! let mut config = EngineConfig::new(dir.path());
//! config.geometry = Geometry::new(10, 4)?;
//! config.poll = Duration::from_millis(5);
//! let engine = Engine::open(config, sources, Arc::new(StellarDecoder))?;
//! engine.start()?;
//! while engine.status().latest < Some(46) || engine.status().missing != (0, 0) {
//!     assert_eq!(engine.status().fatal, None);
//!     std::thread::yield_now();
//! }
//!
//! let view = engine.view();
//! let ledger = view.ledger(LedgerSeq(7))?;
//! let hash = StellarDecoder.decode(&ledger.raw)?.transactions[0].hash;
//! assert_eq!(view.transaction(&hash)?.ok_or("found")?.seq, LedgerSeq(7));
//! let page = view.events(&Span::default(), &[], 10)?;
//! assert_eq!(page.items.len(), 10);
//! drop(view);
//! engine.shutdown().require_clean()?;
//! # Ok(())
//! # }
//! ```

// The helpers of the tests name this crate as its users do.
#[cfg(test)]
extern crate self as icecore_engine;

mod act;
mod adopt;
mod ages;
mod clock;
#[cfg(test)]
#[path = "../tests/common/mod.rs"]
mod common;
mod config;
#[cfg(test)]
mod crash_matrix;
mod engine;
mod error;
mod estimate;
mod executor;
mod files;
mod hot;
mod ingest;
mod journal;
mod lifecycle;
pub mod metrics;
mod mutants;
pub mod plan;
mod read;
pub mod retention;
mod shared;
mod start;
mod status;
mod steps;
mod view;

pub use act::Task;
pub use adopt::{AdoptBy, AdoptReport, adopt};
pub use clock::{Clock, LeapingClock, SystemClock};
pub use config::{EngineConfig, Sources};
pub use engine::{Engine, Worker};
pub use error::{Error, Result};
pub use estimate::{Basis, DiskRoom, Estimate, Origins};
pub use journal::{Rates, Trouble};
pub use lifecycle::RunReport;
pub use read::{Cursor, FoundLedger, Page, Span};
pub use retention::RetentionChange;
pub use status::{DiskBytes, MigrationLine, Status, WorkerLine};
pub use steps::STEPS;
pub use view::{Place, View};
