//! From a transaction's hash to the ledger it is in, in about five bytes per transaction.
//!
//! ```text
//! ledgers of a chunk ─▶ write_run ─▶ 00000000.bin ─┐
//!                                    00000001.bin ─┼─▶ build_index ─▶ 00000000-00000002.idx ─▶ WindowIndex::lookup
//!                                    00000002.bin ─┘
//! ```
//!
//! A run is what one chunk contributes: the first 16 bytes of each hash with its ledger, sorted. An index covers any
//! number of consecutive chunks of a window, and is built again from their runs when one more is there; memory does
//! not grow with their number. It does not hold the hashes themselves: what it finds is a candidate, which whoever has
//! the ledgers must compare.
//!
//! ```
//! use icecore_diskio::{Disk, IfExists, RealDisk};
//! use icecore_ledger::{LedgerRange, LedgerSeq, TxHash};
//! use icecore_txindex::{Entry, Options, WindowIndex, build_index, write_run};
//! use std::sync::Arc;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let dir = tempfile::tempdir()?;
//! # let dir = dir.path();
//! let disk: Arc<dyn Disk> = Arc::new(RealDisk);
//! let (early, late) = (TxHash([0x11; 32]), TxHash([0xEE; 32]));
//! let runs = [dir.join("00000000.bin"), dir.join("00000001.bin")];
//! write_run(&disk, &runs[0], &mut [Entry::new(&early, LedgerSeq(7))], IfExists::Fail)?;
//! write_run(&disk, &runs[1], &mut [Entry::new(&late, LedgerSeq(10_002))], IfExists::Fail)?;
//!
//! let path = dir.join("00000000-00000001.idx");
//! let coverage = LedgerRange::new(LedgerSeq(2), LedgerSeq(20_001))?;
//! build_index(&disk, &path, coverage, &runs, Options::new())?;
//!
//! let index = WindowIndex::open(&path)?;
//! assert_eq!(index.lookup(&early)?, Some(LedgerSeq(7)));
//! assert_eq!(index.lookup(&late)?, Some(LedgerSeq(10_002)));
//! assert_eq!(index.lookup(&TxHash([0x77; 32]))?, None);
//! # Ok(())
//! # }
//! ```

mod build;
mod cut;
mod error;
#[cfg(any(test, feature = "fuzz"))]
pub mod fuzz;
mod index;
mod run;

pub use build::{Options, Progress, build_index, build_index_with};
pub use error::{Error, Result};
pub use icecore_streamhash::Algorithm;
pub use index::WindowIndex;
pub use run::{Entry, Key, Run, Scan, write_run};
