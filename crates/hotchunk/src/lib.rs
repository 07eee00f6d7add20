//! The hot store of one chunk: everything known of its ledgers until they are frozen, each committed whole or not at all.
//!
//! ```text
//! raw ledger ──▶ decode ──▶ one batch over five families ──▶ synced write ──▶ event index in memory ──▶ shown to readers
//!
//! HotChunk   create · open · open_read_only · commit · truncate_after · close      one who writes
//! View       ledger · transaction · events · ledgers in order                       any number who read
//! ```
//!
//! Each ledger is one synced write, so one number says how far every family has got: the last ledger. A [`View`] shows
//! whole ledgers only, those that were committed when it was taken; it is a [`Source`](icecore_ledger::Source) too, from
//! which the chunk is frozen. Events are found through an index in memory, which is rebuilt when a chunk is opened.
//!
//! ```
//! use icecore_events::{Filter, Query};
//! use icecore_hotchunk::{Error, HotChunk, HotOptions};
//! use icecore_ledger::{Decoder, Geometry, LedgerSeq, Source, ChunkId};
//! use icecore_stellar::{StellarDecoder, source::Generator};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let dir = tempfile::tempdir()?;
//! # let path = dir.path().join("00000000");
//! let chunk = Geometry::default().ledgers_of(ChunkId(0)).ok_or("the first chunk")?;
//! let hot = HotChunk::create(&path, chunk, &HotOptions::default())?;
//! let source: Generator = "gen:ledgers=5,txs=10".parse()?;
//! let mut stream = source.stream(source.range()?)?;
//! let mut hash = None;
//! while let Some(raw) = stream.next_ledger()? {
//!     let committed = hot.commit(raw.bytes, &StellarDecoder)?;
//!     assert_eq!(committed.seq, raw.seq);
//!     hash = Some(StellarDecoder.decode(raw.bytes)?.transactions[0].hash);
//! }
//!
//! let view = hot.view()?;
//! assert_eq!(view.last(), Some(LedgerSeq(6)));
//! assert_eq!(view.transaction(&hash.ok_or("a hash")?)?.ok_or("found")?.ledger, LedgerSeq(6));
//! assert_eq!(view.events(&Query { limit: 3, ..Query::default() }, &StellarDecoder)?.len(), 3);
//! drop(view);
//!
//! assert_eq!(hot.truncate_after(LedgerSeq(4), &StellarDecoder)?, 2);
//! hot.close();
//! let hot = HotChunk::open(&path, chunk, &HotOptions::default())?;
//! assert_eq!(hot.max_committed()?, Some(LedgerSeq(4)));
//! # Ok(())
//! # }
//! ```

mod chunk;
mod commit;
mod compress;
mod error;
mod faults;
mod format;
#[cfg(any(test, feature = "fuzz"))]
pub mod fuzz;
mod report;
mod source;
mod view;
mod warmup;

pub use chunk::{HotChunk, HotOptions, HotStats};
pub use error::{Error, Result};
pub use icecore_rockstore::Cache;
pub use report::{CommitFailed, CommitReport, Committed, Phase};
pub use view::{Found, Ledgers, View};
pub use warmup::WarmUp;
