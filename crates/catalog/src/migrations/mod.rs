//! Changes of what is stored that take their time: recorded, run in the background, and survived.
//!
//! ```text
//! Runner ── schedule(name, f) ──▶ a row "pending_async", a thread ──▶ "done", or "failed" and tried at the next start
//!    f(&mut MigCtx) ── write(step) ──▶ MigDb::transact    one slot for writers, live ones first
//!                   └─ backfill(spec, is_due, fill)       chunk by chunk, with pauses, along the keys
//! ```
//!
//! * **Opening does not wait.** A migration is scheduled once the store's handle exists; whoever needs it done asks
//!   [`Runner::is_done`].
//! * **Once at a time, done for good.** In this process a name is taken before its status is read, and given back after its
//!   end is durable; between processes a claim is one atomic step, kept alive by signs of life, and each step of a run looks
//!   whether the claim still holds. Nothing moves a row out of `done`.
//! * **Any crash is a retry.** A run may therefore begin on what an earlier one left.
//!
//! The rules for writing a migration are in `docs/migrations.md`, and `cargo xtask migrations` checks them.
//!
//! ```
//! use std::{sync::Arc, time::Duration};
//!
//! use icecore_catalog::{
//!     Catalog, Pins,
//!     migrations::{self, BackfillSpec, PINS_FORMAT, Scheduled, WaitOutcome, backfill},
//! };
//! # use icecore_cold::Layout;
//! # use icecore_diskio::RealDisk;
//! # use icecore_ledger::{GENESIS, Geometry};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let dir = tempfile::tempdir()?;
//! # let pins = Pins::new(Geometry::new(10, 100)?, GENESIS, None);
//! let catalog = Arc::new(Catalog::open(Arc::new(RealDisk), Layout::new(dir.path()), &pins)?);
//! let runner = migrations::start(&catalog);
//! assert_eq!(runner.wait_all(Duration::from_secs(60))?, WaitOutcome::Ended);
//! assert!(runner.is_done(PINS_FORMAT)?);
//!
//! catalog.update_rows(|update| update.put("audit:ada", b"seen"))?;
//! let scheduled = runner.schedule("audit-shout-1", |ctx| {
//!     let spec = BackfillSpec::row_by_row("audit:", "audit;");
//!     let is_due = |_: &[u8], value: &[u8]| value.iter().any(u8::is_ascii_lowercase);
//!     backfill(ctx, &spec, is_due, |_, changes, key, value| {
//!         changes.put(key, value.to_ascii_uppercase());
//!         Ok(())
//!     })
//!     .map(|_| ())
//! })?;
//! assert_eq!(scheduled, Scheduled::Started);
//! assert_eq!(runner.wait("audit-shout-1", Duration::from_secs(60))?, WaitOutcome::Ended);
//! assert_eq!(catalog.row("audit:ada")?.as_deref(), Some(&b"SEEN"[..]));
//! # Ok(())
//! # }
//! ```

mod backfill;
mod catalog;
mod clock;
mod db;
mod error;
mod here;
mod own;
mod row;
mod run;
mod runner;
mod slots;

#[cfg(test)]
mod acceptance;

pub use backfill::{BackfillSpec, Counts, backfill};
pub use clock::{Cancel, Clock, SystemClock};
pub use db::{Changes, Identity, Look, MigDb, Row, Rows, Step, Turn};
pub use error::MigError;
pub use own::{PINS_FORMAT, schedule_all, start};
pub use row::{Status, StatusRow};
pub use run::{LONG_HOLD, MigCtx};
pub use runner::{Runner, Scheduled, ShutdownOutcome, WaitOutcome, mark_legacy};
pub use slots::{Slot, Slots};
