//! The catalog: the only record of what a store holds, and the one way in which that changes.
//!
//! ```text
//! Key ⇄ bytes ⇄ paths      what there can be: artifacts of chunks, indexes of windows, hot chunks
//! State                    what there is, and how far it can be trusted; replaced whole, so a reader keeps a moment
//! Catalog                  open · begin · freeze · commit_index · demote · destroy · hot_*        one synced batch each
//! Pins                     what is fixed at the first start
//! migrations               changes of rows that take their time, in the background
//! audit                    what there is, held against what there should be
//! backup · restore · RecoveryPlan                                                   a copy, its return, distrust
//! ```
//!
//! * **A key before its file, and after it.** Keys are put to freezing before the first byte of a file is written, and deleted
//!   after its removal is durable. So no key means no file, and nobody lists a directory to find work.
//! * **Frozen is trusted blindly.** A key becomes frozen when file and directory entries are durable, and nothing is unlinked
//!   under it.
//! * **Memory follows the database.** [`Catalog::state`] is what the database has, also after a write that failed; where that
//!   cannot be found out at once, before anybody else writes.
//! * **One handle, one process.** A second one is told who has the catalog.
//!
//! ```
//! use std::sync::Arc;
//!
//! use icecore_catalog::{Artifact, Catalog, Key, Pins};
//! use icecore_cold::{Kind, Layout};
//! use icecore_diskio::{Disk, IfExists, PendingFile, RealDisk};
//! use icecore_ledger::{ChunkId, GENESIS, Geometry};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let dir = tempfile::tempdir()?;
//! let disk: Arc<dyn Disk> = Arc::new(RealDisk);
//! let pins = Pins::new(Geometry::new(10, 100)?, GENESIS, None);
//! let catalog = Catalog::open(Arc::clone(&disk), Layout::new(dir.path()), &pins)?;
//!
//! let (chunk, key) = (ChunkId(0), Key::Chunk(ChunkId(0), Artifact::Ledgers));
//! let path = catalog.layout().file(Kind::Ledgers, chunk);
//! catalog.build(&[key], || -> Result<(), icecore_catalog::Error> {
//!     disk.create_dir_all(path.parent().unwrap_or(&path))?;
//!     let file = PendingFile::create(&disk, &path, IfExists::Replace)?;
//!     file.write_all_at(b"ledgers", 0)?;
//!     Ok(file.commit()?)
//! })?;
//! assert!(catalog.state().has(chunk, Artifact::Ledgers));
//!
//! catalog.demote(&[key])?;
//! catalog.destroy(&key)?;
//! assert!(!path.exists());
//! assert_eq!(catalog.state().artifact(chunk, Artifact::Ledgers), None);
//! # Ok(())
//! # }
//! ```

#[cfg(test)]
mod acceptance;
pub mod audit;
mod backup;
mod catalog;
mod claim;
mod error;
mod keys;
mod load;
pub mod migrations;
mod mutants;
mod pins;
mod protocol;
mod recover;
mod restore;
mod rows;
mod state;
mod steps;
mod tree;

pub use backup::BackupReport;
pub use catalog::Catalog;
pub use claim::Owner;
pub use error::{Class, Error, Result};
pub use keys::{Artifact, Key, NotAKey};
pub use load::CatalogReader;
pub use pins::{FORMAT_VERSION, LAYOUT_VERSION, Pins, RETENTION_ROW};
pub use recover::RecoveryPlan;
pub use restore::{RestoreOptions, RestoreReport, restore};
pub use rows::RowUpdate;
pub use state::{FileState, HotState, State};
pub use steps::{STEPS, Step};
