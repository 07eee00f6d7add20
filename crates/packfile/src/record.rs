//! The one path by which a record's bytes become items, whoever asks for them.
//!
//! A [`Scratch`] belongs to one reading thread at a time. It holds a window of the file (unless the source is in memory
//! and can be borrowed from) and the record that was loaded last:
//!
//! ```text
//! source ──▶ window ──▶ size group: CRC, sizes ──▶ codec ──▶ payload
//!        (up to 1 MiB of consecutive records)          └ none: the payload stays where it is
//! ```

use std::ops::Range;

use icecore_diskio::ReadAt;

use crate::{
    Error, Place, RecordCodec, Result,
    format::{Group, reserve, split_crc},
    pack::Pack,
    pool::Reuse,
};

/// Consecutive records are read together up to this many bytes.
const WINDOW_BYTES: u64 = 1 << 20;
/// Buffers beyond this size are not kept for the next reader.
const KEEP_BYTES: usize = 16 << 20;

/// A stretch of the file.
#[derive(Default)]
struct Window {
    start: u64,
    len: usize,
    /// At least `len` bytes; longer ones are not cut, so that they need not be cleared again.
    buf: Vec<u8>,
}

impl Window {
    fn get(&self, range: &Range<u64>) -> Option<&[u8]> {
        let start = usize::try_from(range.start.checked_sub(self.start)?).ok()?;
        let end = usize::try_from(range.end.checked_sub(self.start)?).ok()?;
        self.buf.get(..self.len)?.get(start..end)
    }

    fn fill(&mut self, source: &dyn ReadAt, range: &Range<u64>) -> Result<()> {
        let len = (range.end - range.start) as usize;
        self.len = 0;
        if self.buf.len() < len {
            self.buf.resize(len, 0);
        }
        source.read_exact_at(&mut self.buf[..len], range.start)?;
        (self.start, self.len) = (range.start, len);
        Ok(())
    }
}

/// Where the payload of the loaded record is.
#[derive(Default)]
enum Home {
    /// In the payload buffer.
    #[default]
    Decoded,
    /// At this place in the file, as it is.
    Verbatim(Range<u64>),
}

/// The buffers of one reading thread.
#[derive(Default)]
pub(crate) struct Scratch {
    window: Window,
    home: Home,
    payload: Vec<u8>,
    sizes: Vec<u32>,
    /// An item of the loaded record, by number, and where in the payload it begins: items are mostly asked for in order.
    item: (usize, usize),
}

impl Reuse for Scratch {
    /// Forgets what was read, keeps the buffers unless they have grown out of proportion.
    fn reset(&mut self) {
        self.window.len = 0;
        self.sizes.clear();
        release(&mut self.window.buf);
        release(&mut self.payload);
        release(&mut self.sizes);
    }
}

fn release<T>(buf: &mut Vec<T>) {
    if buf.capacity() * size_of::<T>() > KEEP_BYTES {
        *buf = Vec::new();
    }
}

impl Scratch {
    /// An item of the loaded record, by its number in it.
    pub(crate) fn item<'a>(&'a mut self, pack: &'a Pack, number: usize) -> Result<&'a [u8]> {
        let (from, mut start) = if number < self.item.0 { (0, 0) } else { self.item };
        let none =
            || Error::corrupt(pack.path(), Place::Trailer, "a record holds fewer items than it should");
        let before = self.sizes.get(from..number).ok_or_else(none)?;
        let size = *self.sizes.get(number).ok_or_else(none)? as usize;
        start += before.iter().map(|&size| size as usize).sum::<usize>();
        self.item = (number, start);
        self.payload(pack).get(start..start + size).ok_or_else(none)
    }

    /// The sizes of the loaded record's items.
    pub(crate) fn sizes(&self) -> &[u32] {
        &self.sizes
    }

    /// The loaded record's items, one after the other: as many bytes as their sizes add up to.
    pub(crate) fn payload<'a>(&'a self, pack: &'a Pack) -> &'a [u8] {
        match &self.home {
            Home::Decoded => &self.payload,
            Home::Verbatim(range) => held(pack.source(), &self.window, range).unwrap_or_default(),
        }
    }

    /// Decodes into the caller's buffer from now on, and gives it back when called again.
    pub(crate) fn swap_payload(&mut self, buf: &mut Vec<u8>) {
        std::mem::swap(&mut self.payload, buf);
    }

    /// Loads a record, and reads those after it up to `last` along with it.
    pub(crate) fn load(
        &mut self,
        pack: &Pack,
        codec: Option<&dyn RecordCodec>,
        record: u32,
        last: u32,
    ) -> Result<()> {
        let at = pack.record_at(record);
        let Scratch { window, home, payload, sizes, item } = self;
        *item = (0, 0);
        sizes.clear();
        if held(pack.source(), window, &at).is_none() {
            window.fill(pack.source(), &coalesced(pack, record, last))?;
        }
        let corrupt = |what| Error::corrupt(pack.path(), Place::Record(record), what);
        let encoded =
            held(pack.source(), window, &at).ok_or_else(|| corrupt("it is not where it should be"))?;
        let (body, sum) = match pack.info().items_per_record {
            1 => (encoded, None),
            _ => {
                let (body, sum) = read_sizes(pack, record, encoded, sizes)?;
                (body, Some(sum))
            }
        };
        let len = match codec {
            None => {
                *home = Home::Verbatim(at.start..at.start + body.len() as u64);
                body.len() as u64
            }
            Some(codec) => {
                *home = Home::Decoded;
                payload.clear();
                let source = codec.decode(body, sum.unwrap_or(u32::MAX.into()), payload).err();
                if let Some(e) = source {
                    let (path, source) = (pack.path().to_path_buf(), e.into());
                    return Err(Error::Decode { path, record, source });
                }
                payload.len() as u64
            }
        };
        match sum {
            Some(sum) if sum != len => Err(corrupt("the item sizes do not add up to its payload")),
            Some(_) => Ok(()),
            None => {
                sizes.push(u32::try_from(len).map_err(|_| corrupt("its item exceeds 2^32-1 bytes"))?);
                Ok(())
            }
        }
    }
}

/// Bytes of the file that are in memory, be it the whole source or the window.
fn held<'a>(source: &'a dyn ReadAt, window: &'a Window, range: &Range<u64>) -> Option<&'a [u8]> {
    if range.is_empty() {
        return Some(&[]);
    }
    match source.as_bytes() {
        Some(all) => all.get(usize::try_from(range.start).ok()?..usize::try_from(range.end).ok()?),
        None => window.get(range),
    }
}

/// The bytes of `record` and of as many after it, up to `last`, as fit a window.
fn coalesced(pack: &Pack, record: u32, last: u32) -> Range<u64> {
    let Range { start, mut end } = pack.record_at(record);
    for next in record..last {
        let next_end = pack.record_at(next + 1).end;
        if next_end - start > WINDOW_BYTES {
            break;
        }
        end = next_end;
    }
    start..end
}

/// Checks and reads the size group at the end of a record: what comes before it, and the sum of the sizes.
fn read_sizes<'a>(
    pack: &Pack,
    record: u32,
    encoded: &'a [u8],
    sizes: &mut Vec<u32>,
) -> Result<(&'a [u8], u64)> {
    let place = Place::Record(record);
    let corrupt = |what| Error::corrupt(pack.path(), place, what);
    let (rest, crc) = split_crc(encoded).ok_or_else(|| corrupt("it is too short for its sizes"))?;
    let group = Group::at_end(rest, pack.info().items_in(record) as usize).map_err(corrupt)?;
    let (body, group_bytes) = rest.split_at(rest.len() - group.len_bytes());
    if crc32c::crc32c(group_bytes) != crc {
        return Err(Error::checksum(pack.path(), place));
    }
    reserve(sizes, group.count(), pack.path(), "the sizes of a record's items")?;
    let sum = group.read(sizes).map_err(corrupt)?;
    Ok((body, sum))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pool::Pool;

    #[test]
    fn large_buffers_are_released_when_they_are_given_back() {
        let pool = Pool::<Scratch>::default();
        for (extra, kept) in [(0, true), (1, false)] {
            let mut scratch = pool.lease();
            scratch.window.buf = vec![0; KEEP_BYTES + extra];
            scratch.payload = vec![0; KEEP_BYTES + extra];
            scratch.sizes = vec![0; KEEP_BYTES / size_of::<u32>() + extra];
            drop(scratch);
            let idle = pool.take().unwrap();
            assert!(idle.sizes.is_empty() && idle.window.len == 0);
            let capacities = [idle.window.buf.capacity(), idle.payload.capacity(), idle.sizes.capacity()];
            assert!(capacities.iter().all(|&capacity| (capacity > 0) == kept), "{capacities:?}");
        }
    }
}
