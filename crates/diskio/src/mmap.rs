//! The one unsafe call of this crate: mapping a file.
//!
//! Contract: the file must not be truncated or rewritten while it is mapped. Sealed files are never changed in place
//! (a new one is renamed over them, which leaves the mapped inode alone), so every file that this project writes
//! keeps it. Whoever maps a file of unknown origin on a machine where others may truncate it risks SIGBUS; use
//! [`FileReader`](crate::FileReader) there.
#![allow(unsafe_code)]

use std::{
    fs::File,
    path::{Path, PathBuf},
};

use crate::{Error, Op, ReadAt, Result, read::check_bounds};

/// A sealed file mapped into memory, read-only.
#[derive(Debug)]
pub struct Mmap {
    map: memmap2::Mmap,
    path: PathBuf,
}

impl Mmap {
    /// Maps an existing, sealed file.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let wrap = |e| Error::from_io(Op::Open, path, e);
        let file = File::open(path).map_err(wrap)?;
        // SAFETY: the mapping is private to this value and read-only; that nobody truncates a sealed file is the
        // contract stated at the head of this module.
        let map = unsafe { memmap2::Mmap::map(&file) }.map_err(wrap)?;
        Ok(Mmap { map, path: path.to_path_buf() })
    }

    /// Tells the kernel that reads will be scattered, so that it does not read ahead.
    pub fn advise_random(&self) {
        // A hint only: where it is refused, reads are as right as before.
        let _ = self.map.advise(memmap2::Advice::Random);
    }
}

impl ReadAt for Mmap {
    fn len_bytes(&self) -> u64 {
        self.map.len() as u64
    }

    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        check_bounds(&self.path, self.len_bytes(), offset, buf.len())?;
        let start = offset as usize;
        buf.copy_from_slice(&self.map[start..start + buf.len()]);
        Ok(())
    }

    fn as_bytes(&self) -> Option<&[u8]> {
        Some(&self.map)
    }

    fn path(&self) -> &Path {
        &self.path
    }
}
