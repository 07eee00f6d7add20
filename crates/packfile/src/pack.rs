use std::{ops::Range, path::Path};

use icecore_diskio::ReadAt;

use crate::{
    Error, Place, Result,
    format::{Info, TRAILER_BYTES, read_index},
};

/// One read of this many bytes at the end normally brings all that opening needs.
const TAIL_BYTES: u64 = 256 << 10;

/// An opened file: its bytes, and all that is known of them before a record is read.
pub(crate) struct Pack {
    source: Box<dyn ReadAt>,
    info: Info,
    /// Where each record begins, and where the last one ends.
    offsets: Vec<u64>,
    app_data: Vec<u8>,
}

impl Pack {
    pub(crate) fn open(source: Box<dyn ReadAt>) -> Result<Self> {
        let path = source.path();
        let file_bytes = source.len_bytes();
        let mut buf = Vec::new();
        let mut tail = read_tail(&*source, TAIL_BYTES.min(file_bytes), &mut buf)?;
        let Some((_, trailer)) = tail.split_last_chunk::<TRAILER_BYTES>() else {
            return Err(Error::NotAPackfile {
                path: path.to_path_buf(),
                what: "it is too short for a trailer",
            });
        };
        let info = Info::decode(path, trailer)?;
        let (index_bytes, app_bytes) = (u64::from(info.index_bytes), u64::from(info.app_data_bytes));
        let want = index_bytes + app_bytes + TRAILER_BYTES as u64;
        let too_long = || Error::corrupt(path, Place::Trailer, "index and app data are longer than the file");
        let index_base = file_bytes.checked_sub(want).ok_or_else(too_long)?;
        if want > tail.len() as u64 {
            tail = read_tail(&*source, want, &mut buf)?;
        }
        let ends = tail.len() - TRAILER_BYTES;
        let app_at = ends.checked_sub(info.app_data_bytes as usize).ok_or_else(too_long)?;
        let index_at = app_at.checked_sub(info.index_bytes as usize).ok_or_else(too_long)?;
        let offsets = read_index(path, &tail[index_at..app_at], info.record_count, index_base)?;
        let app_data = tail[app_at..ends].to_vec();
        Ok(Pack { source, info, offsets, app_data })
    }

    pub(crate) fn path(&self) -> &Path {
        self.source.path()
    }

    pub(crate) fn source(&self) -> &dyn ReadAt {
        &*self.source
    }

    pub(crate) fn info(&self) -> &Info {
        &self.info
    }

    pub(crate) fn app_data(&self) -> &[u8] {
        &self.app_data
    }

    /// Where the bytes of a record are; nowhere, if there is no such record.
    pub(crate) fn record_at(&self, record: u32) -> Range<u64> {
        match self.offsets.get(record as usize..) {
            Some(&[start, end, ..]) => start..end,
            _ => 0..0,
        }
    }
}

/// The last `len_bytes` of a source, which has as many; borrowed where they are in memory.
fn read_tail<'a>(source: &'a dyn ReadAt, len_bytes: u64, buf: &'a mut Vec<u8>) -> Result<&'a [u8]> {
    let offset = source.len_bytes() - len_bytes;
    if let Some(tail) = source.as_bytes().and_then(|all| all.get(usize::try_from(offset).ok()?..)) {
        return Ok(tail);
    }
    buf.resize(len_bytes as usize, 0);
    source.read_exact_at(buf, offset)?;
    Ok(buf)
}
