use std::{
    fs::File,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::{Error, Op, Result};

/// Positioned reads over bytes that do not change: a file, a memory map, a slice, a remote object.
///
/// Implementations are read from many threads at once.
pub trait ReadAt: Send + Sync {
    /// The length in bytes, fixed for the life of the value.
    fn len_bytes(&self) -> u64;

    /// Fills `buf` from `offset`, or fails with [`Error::PastEnd`] when the bytes end before that.
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> Result<()>;

    /// All the bytes, where they are in memory anyway; lets a reader borrow instead of copying.
    fn as_bytes(&self) -> Option<&[u8]> {
        None
    }

    /// The path for error messages.
    fn path(&self) -> &Path {
        Path::new("(memory)")
    }
}

/// Checks that `offset..offset + want` lies inside `len` bytes, for implementors of [`ReadAt`].
pub fn check_bounds(path: &Path, len_bytes: u64, offset: u64, want: usize) -> Result<()> {
    match offset.checked_add(want as u64) {
        Some(end) if end <= len_bytes => Ok(()),
        _ => Err(Error::PastEnd { path: path.to_path_buf(), len_bytes, offset, want_bytes: want as u64 }),
    }
}

/// Bytes compared at a time.
const COMPARE_BYTES: usize = 1 << 20;

/// The place of the first byte in which two sources differ; where one is the beginning of the other, its end.
///
/// # Errors
/// Of the reads.
pub fn first_difference(a: &dyn ReadAt, b: &dyn ReadAt) -> Result<Option<u64>> {
    let common = a.len_bytes().min(b.len_bytes());
    let (mut from_a, mut from_b) = (Vec::new(), Vec::new());
    let mut at = 0;
    while at < common {
        let len = (common - at).min(COMPARE_BYTES as u64) as usize;
        for (source, buffer) in [(a, &mut from_a), (b, &mut from_b)] {
            buffer.resize(len, 0);
            source.read_exact_at(buffer, at)?;
        }
        if let Some(place) = from_a.iter().zip(&from_b).position(|(a, b)| a != b) {
            return Ok(Some(at + place as u64));
        }
        at += len as u64;
    }
    Ok((a.len_bytes() != b.len_bytes()).then_some(common))
}

impl ReadAt for [u8] {
    fn len_bytes(&self) -> u64 {
        self.len() as u64
    }

    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        check_bounds(ReadAt::path(self), self.len_bytes(), offset, buf.len())?;
        let start = offset as usize;
        buf.copy_from_slice(&self[start..start + buf.len()]);
        Ok(())
    }

    fn as_bytes(&self) -> Option<&[u8]> {
        Some(self)
    }
}

macro_rules! read_through {
    ($($target:ty $(, $generic:ident)?);+) => {$(
        impl $(<$generic: ReadAt + ?Sized>)? ReadAt for $target {
            fn len_bytes(&self) -> u64 {
                (**self).len_bytes()
            }
            fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
                (**self).read_exact_at(buf, offset)
            }
            fn as_bytes(&self) -> Option<&[u8]> {
                (**self).as_bytes()
            }
            fn path(&self) -> &Path {
                ReadAt::path(&**self)
            }
        }
    )+};
}
read_through!(&T, T; Box<T>, T; Arc<T>, T);

impl ReadAt for Vec<u8> {
    fn len_bytes(&self) -> u64 {
        self.len() as u64
    }
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        self.as_slice().read_exact_at(buf, offset)
    }
    fn as_bytes(&self) -> Option<&[u8]> {
        Some(self)
    }
}

/// A file read with `pread`: no shared cursor, no lock.
#[derive(Debug)]
pub struct FileReader {
    file: File,
    len_bytes: u64,
    path: PathBuf,
}

impl FileReader {
    /// Opens an existing file.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let wrap = |e| Error::from_io(Op::Open, path, e);
        let file = File::open(path).map_err(wrap)?;
        let meta = file.metadata().map_err(wrap)?;
        if !meta.is_file() {
            return Err(wrap(std::io::Error::new(std::io::ErrorKind::IsADirectory, "not a regular file")));
        }
        Ok(FileReader { file, len_bytes: meta.len(), path: path.to_path_buf() })
    }
}

impl ReadAt for FileReader {
    fn len_bytes(&self) -> u64 {
        self.len_bytes
    }

    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        check_bounds(&self.path, self.len_bytes, offset, buf.len())?;
        self.file.read_exact_at(buf, offset).map_err(|e| Error::from_io(Op::Read, &self.path, e))
    }

    fn path(&self) -> &Path {
        &self.path
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_difference_is_found_wherever_it_is() {
        let bytes = vec![7; COMPARE_BYTES + 10];
        assert_eq!(first_difference(&bytes, &bytes).unwrap(), None);
        for place in [0, COMPARE_BYTES - 1, COMPARE_BYTES, COMPARE_BYTES + 9] {
            let mut other = bytes.clone();
            other[place] = 8;
            assert_eq!(first_difference(&bytes, &other).unwrap(), Some(place as u64));
            other.truncate(place);
            assert_eq!(first_difference(&other, &bytes).unwrap(), Some(place as u64));
        }
    }
}
