//! The few calls a storage engine makes on a disk, behind traits small enough to fake.
//!
//! ```text
//! ReadAt       positioned reads over sealed bytes        FileReader · Mmap · any slice of bytes
//! WriteAt      positioned writes, fsync, early writeback
//! Disk         create, rename, remove, list, fsync names  RealDisk · FaultyDisk
//! PendingFile  the one way a sealed file comes to be: written aside, fsynced, renamed, its directory fsynced
//! ```
//!
//! Readers take [`ReadAt`], so that whether bytes come from a file, a memory map or a remote object is the caller's
//! choice. Writers take a [`Disk`], so that a full disk, an I/O error and a power cut at every single step are plain
//! tests: see [`FaultyDisk`].
//!
//! ```
//! use icecore_diskio::{FileReader, ReadAt};
//!
//! # fn main() -> icecore_diskio::Result<()> {
//! # let dir = tempfile::tempdir().unwrap();
//! # let path = dir.path().join("f");
//! # std::fs::write(&path, b"0123456789").unwrap();
//! fn middle(source: &dyn ReadAt) -> icecore_diskio::Result<[u8; 3]> {
//!     let mut bytes = [0; 3];
//!     source.read_exact_at(&mut bytes, 4)?;
//!     Ok(bytes)
//! }
//! assert_eq!(middle(&FileReader::open(&path)?)?, *b"456");
//! assert_eq!(middle(&b"0123456789".to_vec())?, *b"456");
//! # Ok(())
//! # }
//! ```

mod disk;
mod error;
mod faulty;
mod mmap;
mod pending;
mod read;
mod rename;
mod writeback;

pub use disk::{Disk, IfExists, RealDisk, WriteAt};
pub use error::{Error, Op, Result};
pub use faulty::{Fault, FaultyDisk};
pub use mmap::Mmap;
pub use pending::PendingFile;
pub use read::{FileReader, ReadAt, check_bounds, first_difference};
