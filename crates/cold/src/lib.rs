//! A store of cold chunks: immutable files in a directory that answer queries by themselves, with no database.
//!
//! ```text
//! Builder   source → every complete chunk: pack, hash run, events → window indexes      resumable, chunk-parallel
//! Store     ledger by sequence · transaction by hash · events by filter · verify
//!
//! plan      what is missing, as a pure function of what is there
//! Layout    ids → paths          Inventory   paths → what is there          Manifest   how the store is cut
//! ```
//!
//! Nothing here knows a particular chain: a [`Source`](icecore_ledger::Source) and a
//! [`Decoder`](icecore_ledger::Decoder) are handed in.
//!
//! ```
//! use std::sync::Arc;
//!
//! use icecore_cold::{Builder, Control, Layout, Manifest, Store};
//! use icecore_diskio::RealDisk;
//! use icecore_ledger::{Decoder, Geometry, LedgerSeq, Source};
//! use icecore_stellar::{StellarDecoder, source::Generator};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let dir = tempfile::tempdir()?;
//! let source: Generator = "gen:ledgers=40,txs=3".parse()?;
//! let report = Builder {
//!     disk: Arc::new(RealDisk),
//!     layout: Layout::new(dir.path()),
//!     manifest: Manifest { geometry: Geometry::new(10, 100)?, network: None },
//!     source: &source,
//!     decoder: &StellarDecoder,
//!     workers: 2,
//!     control: &Control::default(),
//! }
//! .build(source.range()?)?;
//! assert_eq!(report.chunks_built, 4);
//!
//! let store = Store::open(dir.path())?;
//! let ledger = store.ledger(LedgerSeq(7))?.ok_or("ledger 7 is there")?;
//! let hash = StellarDecoder.decode(&ledger)?.transactions[0].hash;
//! let found = store.transaction(&hash, &StellarDecoder)?.ok_or("and so is its transaction")?;
//! assert_eq!(found.ledger, LedgerSeq(7));
//! # Ok(())
//! # }
//! ```

mod build;
mod chunk;
mod control;
mod error;
mod inventory;
mod layout;
mod lock;
mod manifest;
mod pack;
mod plan;
mod recent;
mod store;
mod verify;

pub use build::{BuildReport, Builder, build_index};
pub use chunk::{ChunkBuild, ChunkCounts, event_paths};
pub use control::Control;
pub use error::{Error, Result};
pub use icecore_txindex::Algorithm;
pub use inventory::{ChunkFiles, Inventory};
pub use layout::{Coverage, Kind, Layout};
pub use lock::StoreLock;
pub use manifest::Manifest;
pub use pack::{LedgerPack, LedgerPackWriter};
pub use plan::{ChunkTask, Plan, plan};
pub use recent::Recent;
pub use store::{FoundTransaction, OpenIndex, Store, open_index};
pub use verify::Checked;
