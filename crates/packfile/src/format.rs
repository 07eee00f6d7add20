//! The bytes of a packfile, version 1. All integers are little-endian.
//!
//! ```text
//! record 0 | … | record R-1 | offset index | app data | trailer
//!                            ^ index_base
//!
//! record        K = 1: encode(item)
//!               K > 1: encode(item ‖ item ‖ …) | FOR group of the item sizes | u32 CRC32C of the group
//! offset index  FOR groups of 128 record sizes, the last one shorter | u32 CRC32C of the groups
//!
//! FOR group     n values: ceil(n·W/8) bytes of (value - min), W bits each, LSB first | u8 W in 1..=32 | u32 min
//!
//! trailer       0  u32 magic             12  u32 record count R       28  u32 offset index bytes
//!               4  u8  version           16  u32 item count           32  u32 app data bytes
//!               5  u8  flags             20  u32 items per record K   36  content hash, or zeros
//!               6  u16 0                 24  u16 index group size     68  u32 0
//!               8  u32 format            26  u16 0                    72  u32 CRC32C of bytes 0..72
//! ```
//!
//! A group ends in its width and minimum, so that it is read from its tail: whoever knows n and where it ends needs
//! nothing else.

use std::path::Path;

use crate::{Error, Place, Result};

pub(crate) const TRAILER_BYTES: usize = 76;
pub(crate) const INDEX_GROUP: usize = 128;
pub(crate) const CRC_BYTES: usize = 4;

const MAGIC: u32 = 0x4843_4C53;
const VERSION: u8 = 1;
const FLAG_CONTENT_HASH: u8 = 1;
const GROUP_TAIL_BYTES: usize = 5;
/// The smallest group of so many values: a bit for each, and the tail.
const fn min_group_bytes(values: u64) -> u64 {
    if values == 0 { 0 } else { values.div_ceil(8) + GROUP_TAIL_BYTES as u64 }
}

/// The fixed facts of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Info {
    /// The number that its writer gave the file, to say what the items are.
    pub format: u32,
    /// How many records the items are held in.
    pub record_count: u32,
    /// How many items there are.
    pub item_count: u32,
    /// How many items a record holds; the last one may hold fewer.
    pub items_per_record: u32,
    /// The length of the offset index.
    pub index_bytes: u32,
    /// The length of the app data.
    pub app_data_bytes: u32,
    /// The SHA-256 of the items, where the writer was asked for it.
    pub content_hash: Option<[u8; 32]>,
}

impl Info {
    pub(crate) fn encode(&self) -> [u8; TRAILER_BYTES] {
        let mut out = [0; TRAILER_BYTES];
        let mut put = |at: usize, bytes: &[u8]| out[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, &MAGIC.to_le_bytes());
        put(4, &[VERSION, if self.content_hash.is_some() { FLAG_CONTENT_HASH } else { 0 }]);
        put(8, &self.format.to_le_bytes());
        put(12, &self.record_count.to_le_bytes());
        put(16, &self.item_count.to_le_bytes());
        put(20, &self.items_per_record.to_le_bytes());
        put(24, &(INDEX_GROUP as u16).to_le_bytes());
        put(28, &self.index_bytes.to_le_bytes());
        put(32, &self.app_data_bytes.to_le_bytes());
        put(36, &self.content_hash.unwrap_or_default());
        let crc = crc32c::crc32c(&out[..TRAILER_BYTES - CRC_BYTES]);
        out[TRAILER_BYTES - CRC_BYTES..].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// Reads a trailer, with every check that needs nothing else.
    pub(crate) fn decode(path: &Path, trailer: &[u8; TRAILER_BYTES]) -> Result<Info> {
        let u32_at = |at: usize| u32::from_le_bytes(array(trailer, at));
        let corrupt = |what| Err(Error::corrupt(path, Place::Trailer, what));
        if u32_at(0) != MAGIC {
            let what = "the magic number is not where it should be";
            return Err(Error::NotAPackfile { path: path.to_path_buf(), what });
        }
        if trailer[4] != VERSION {
            return Err(Error::Version { path: path.to_path_buf(), version: trailer[4] });
        }
        if crc32c::crc32c(&trailer[..TRAILER_BYTES - CRC_BYTES]) != u32_at(TRAILER_BYTES - CRC_BYTES) {
            return Err(Error::checksum(path, Place::Trailer));
        }
        let flags = trailer[5];
        if flags & !FLAG_CONTENT_HASH != 0 {
            return corrupt("an unknown flag is set");
        }
        if usize::from(u16::from_le_bytes(array(trailer, 24))) != INDEX_GROUP {
            return corrupt("the index group size is not 128");
        }
        let info = Info {
            format: u32_at(8),
            record_count: u32_at(12),
            item_count: u32_at(16),
            items_per_record: u32_at(20),
            index_bytes: u32_at(28),
            app_data_bytes: u32_at(32),
            content_hash: (flags & FLAG_CONTENT_HASH != 0).then(|| array(trailer, 36)),
        };
        if info.items_per_record == 0 {
            return corrupt("zero items per record");
        }
        if info.item_count.div_ceil(info.items_per_record) != info.record_count {
            return corrupt("the number of records does not follow from the number of items");
        }
        Ok(info)
    }

    /// How many items a record holds.
    pub(crate) fn items_in(&self, record: u32) -> u32 {
        let first = u64::from(record) * u64::from(self.items_per_record);
        u64::from(self.item_count).saturating_sub(first).min(u64::from(self.items_per_record)) as u32
    }
}

fn array<const N: usize>(trailer: &[u8; TRAILER_BYTES], at: usize) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&trailer[at..at + N]);
    out
}

/// Appends the FOR group of `values`, of which there is at least one.
pub(crate) fn put_group(values: &[u32], out: &mut Vec<u8>) {
    let (mut min, mut max) = (u32::MAX, 0);
    for &value in values {
        min = min.min(value);
        max = max.max(value);
    }
    let width = (u32::BITS - max.saturating_sub(min).leading_zeros()).max(1);
    let (mut bits, mut count) = (0u64, 0);
    for &value in values {
        bits |= u64::from(value - min) << count;
        count += width;
        if count >= 32 {
            out.extend_from_slice(&(bits as u32).to_le_bytes());
            bits >>= 32;
            count -= 32;
        }
    }
    out.extend_from_slice(&bits.to_le_bytes()[..count.div_ceil(8) as usize]);
    out.push(width as u8);
    out.extend_from_slice(&min.to_le_bytes());
}

/// A group found at the end of some bytes, its shape checked, its values not yet read.
pub(crate) struct Group<'a> {
    residuals: &'a [u8],
    width: u32,
    min: u32,
    count: usize,
}

impl<'a> Group<'a> {
    /// The group of `count` values that ends where `bytes` end.
    pub(crate) fn at_end(bytes: &'a [u8], count: usize) -> Result<Self, &'static str> {
        const SHORT: &str = "a size group is longer than the bytes that hold it";
        let (rest, tail) = bytes.split_last_chunk::<GROUP_TAIL_BYTES>().ok_or(SHORT)?;
        let [width, min @ ..] = *tail;
        if !(1..=32).contains(&width) {
            return Err("a size group's width is not within 1..=32");
        }
        let residual_bytes = (count as u64 * u64::from(width)).div_ceil(8);
        let at = usize::try_from(residual_bytes).ok().and_then(|n| rest.len().checked_sub(n)).ok_or(SHORT)?;
        Ok(Group { residuals: &rest[at..], width: width.into(), min: u32::from_le_bytes(min), count })
    }

    /// How many values it has: no more than eight times the bytes that hold them.
    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// How many bytes the group takes.
    pub(crate) fn len_bytes(&self) -> usize {
        self.residuals.len() + GROUP_TAIL_BYTES
    }

    /// Appends the values, and returns their sum.
    pub(crate) fn read(&self, out: &mut Vec<u32>) -> Result<u64, &'static str> {
        let mask = (1u64 << self.width) - 1;
        let mut sum = 0;
        for i in 0..self.count {
            let bit = i * self.width as usize;
            let residual = ((window(self.residuals, bit / 8) >> (bit % 8)) & mask) as u32;
            let value = self.min.checked_add(residual).ok_or("a size exceeds 2^32-1")?;
            sum += u64::from(value);
            out.push(value);
        }
        Ok(sum)
    }
}

/// The eight bytes at `at`, zeros where `bytes` end before that.
#[inline]
fn window(bytes: &[u8], at: usize) -> u64 {
    let rest = bytes.get(at..).unwrap_or_default();
    if let Some(whole) = rest.first_chunk() {
        return u64::from_le_bytes(*whole);
    }
    let mut padded = [0; 8];
    padded[..rest.len()].copy_from_slice(rest);
    u64::from_le_bytes(padded)
}

/// Makes room for `count` more values, or says what there is no memory for.
pub(crate) fn reserve<T>(out: &mut Vec<T>, count: usize, path: &Path, what: &'static str) -> Result<()> {
    let size = (count as u64).saturating_mul(size_of::<T>() as u64);
    let no_memory = |_| Error::NoMemory { path: path.to_path_buf(), what, size };
    out.try_reserve_exact(count).map_err(no_memory)
}

/// Splits bytes from the CRC32C that follows them.
pub(crate) fn split_crc(bytes: &[u8]) -> Option<(&[u8], u32)> {
    let (rest, crc) = bytes.split_last_chunk::<CRC_BYTES>()?;
    Some((rest, u32::from_le_bytes(*crc)))
}

/// Reads an offset index: where each record begins, and where the last one ends.
pub(crate) fn read_index(path: &Path, bytes: &[u8], record_count: u32, index_base: u64) -> Result<Vec<u64>> {
    let corrupt = |what| Error::corrupt(path, Place::OffsetIndex, what);
    let (mut groups, crc) = split_crc(bytes).ok_or_else(|| corrupt("it is too short"))?;
    let (full, rest) =
        (u64::from(record_count) / INDEX_GROUP as u64, u64::from(record_count) % INDEX_GROUP as u64);
    if (groups.len() as u64) < full * min_group_bytes(INDEX_GROUP as u64) + min_group_bytes(rest) {
        return Err(corrupt("it is too short for the number of records"));
    }
    if crc32c::crc32c(groups) != crc {
        return Err(Error::checksum(path, Place::OffsetIndex));
    }
    let records = record_count as usize;
    let mut offsets = Vec::new();
    reserve(&mut offsets, records + 1, path, "where its records begin")?;
    offsets.resize(records + 1, 0);
    let (mut end, mut group_end) = (index_base, records);
    let mut sizes = Vec::with_capacity(INDEX_GROUP);
    offsets[records] = end;
    while group_end > 0 {
        let group_start = (group_end - 1) / INDEX_GROUP * INDEX_GROUP;
        let group = Group::at_end(groups, group_end - group_start).map_err(corrupt)?;
        sizes.clear();
        group.read(&mut sizes).map_err(corrupt)?;
        groups = &groups[..groups.len() - group.len_bytes()];
        for (offset, &size) in offsets[group_start..group_end].iter_mut().zip(&sizes).rev() {
            end = end
                .checked_sub(size.into())
                .ok_or_else(|| corrupt("the records are longer than the file"))?;
            *offset = end;
        }
        group_end = group_start;
    }
    if !groups.is_empty() {
        return Err(corrupt("bytes are left over"));
    }
    if end != 0 {
        return Err(corrupt("the records do not fill the file"));
    }
    Ok(offsets)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// One bit at a time, as the specification reads.
    fn slow_group(values: &[u32]) -> Vec<u8> {
        let min = *values.iter().min().unwrap();
        let width = (32 - (values.iter().max().unwrap() - min).leading_zeros()).max(1) as usize;
        let mut out = vec![0; (values.len() * width).div_ceil(8)];
        for (i, value) in values.iter().enumerate() {
            for bit in (0..width).filter(|bit| (value - min) >> bit & 1 == 1) {
                out[(i * width + bit) / 8] |= 1 << ((i * width + bit) % 8);
            }
        }
        out.push(width as u8);
        out.extend(min.to_le_bytes());
        out
    }

    fn values() -> impl Strategy<Value = Vec<u32>> {
        (0..=32u32, any::<u32>()).prop_flat_map(|(width, base)| {
            let mask = ((1u64 << width) - 1) as u32;
            proptest::collection::vec(any::<u32>().prop_map(move |x| (x & mask).saturating_add(base)), 1..300)
        })
    }

    proptest! {
        #[test]
        fn groups_hold_their_values(values in values(), front in proptest::collection::vec(any::<u8>(), 0..9)) {
            let mut bytes = front.clone();
            put_group(&values, &mut bytes);
            prop_assert_eq!(&bytes[front.len()..], slow_group(&values));
            let group = Group::at_end(&bytes, values.len()).unwrap();
            prop_assert_eq!(group.len_bytes(), bytes.len() - front.len());
            let mut read = Vec::new();
            let sum = group.read(&mut read).unwrap();
            prop_assert_eq!(sum, values.iter().map(|&v| u64::from(v)).sum::<u64>());
            prop_assert_eq!(read, values);
        }

        #[test]
        fn groups_from_anywhere_do_no_harm(bytes in proptest::collection::vec(any::<u8>(), 0..64), n in 1..400usize) {
            if let Ok(group) = Group::at_end(&bytes, n) {
                let _ = group.read(&mut Vec::new());
            }
        }
    }

    fn index_of(sizes: &[u32]) -> Vec<u8> {
        let mut out = Vec::new();
        sizes.chunks(INDEX_GROUP).for_each(|group| put_group(group, &mut out));
        let crc = crc32c::crc32c(&out);
        out.extend(crc.to_le_bytes());
        out
    }

    #[test]
    fn index_checks_are_all_there() {
        let path = Path::new("p");
        for n in [0u32, 1, 127, 128, 129, 256, 300] {
            let sizes: Vec<u32> = (0..n).map(|i| 1 + i * 7919 % 1000).collect();
            let base: u64 = sizes.iter().map(|&s| u64::from(s)).sum();
            let index = index_of(&sizes);
            let offsets = read_index(path, &index, n, base).unwrap();
            assert_eq!(offsets.len(), n as usize + 1);
            let read: Vec<u32> = offsets.windows(2).map(|w| (w[1] - w[0]) as u32).collect();
            assert_eq!(read, sizes);
            assert!(read_index(path, &index, n, base + 1).unwrap_err().is_corrupt());
            assert!(read_index(path, &index, n + 1, base).unwrap_err().is_corrupt());
            assert!(read_index(path, &index[1..], n, base).unwrap_err().is_corrupt());
            let mut longer = vec![0];
            longer.extend(&index[..index.len() - CRC_BYTES]);
            let crc = crc32c::crc32c(&longer);
            longer.extend(crc.to_le_bytes());
            assert!(read_index(path, &longer, n, base).unwrap_err().is_corrupt());
        }
        let claim = read_index(path, &index_of(&[1]), u32::MAX, 1).unwrap_err();
        assert!(matches!(claim, Error::Corrupt { place: Place::OffsetIndex, .. }), "{claim}");
        // A bit for each record and 5 bytes for each 128 of them, or not even the checksum is looked at.
        for (records, least) in [(1, 6), (8, 6), (9, 7), (127, 21), (128, 21), (129, 27), (1280, 210)] {
            let claim = |len: usize| read_index(path, &vec![0; len + CRC_BYTES], records, 1).unwrap_err();
            assert!(matches!(claim(least - 1), Error::Corrupt { .. }), "{records}");
            assert!(matches!(claim(least), Error::Checksum { .. }), "{records}");
        }
        let no_memory = reserve::<u64>(&mut Vec::new(), usize::MAX, path, "anything").unwrap_err();
        assert!(matches!(no_memory, Error::NoMemory { .. }) && !no_memory.is_corrupt(), "{no_memory}");
    }

    #[test]
    fn trailer_checks_come_in_order() {
        let info = Info {
            format: 7,
            record_count: 2,
            item_count: 5,
            items_per_record: 3,
            index_bytes: 11,
            app_data_bytes: 1,
            content_hash: Some([9; 32]),
        };
        let good = info.encode();
        let path = Path::new("p");
        assert_eq!(Info::decode(path, &good).unwrap(), info);
        let broken = |at: usize, byte: u8, seal: bool| {
            let mut bytes = good;
            bytes[at] = byte;
            if seal {
                let crc = crc32c::crc32c(&bytes[..72]);
                bytes[72..].copy_from_slice(&crc.to_le_bytes());
            }
            Info::decode(path, &bytes).unwrap_err()
        };
        assert!(matches!(broken(0, 0, false), Error::NotAPackfile { .. }));
        assert!(matches!(broken(4, 2, false), Error::Version { version: 2, .. }));
        assert!(matches!(broken(5, 2, false), Error::Checksum { place: Place::Trailer, .. }));
        for (at, byte) in [(5, 2), (24, 127), (20, 0), (12, 3), (16, 7)] {
            assert!(matches!(broken(at, byte, true), Error::Corrupt { place: Place::Trailer, .. }), "{at}");
        }
    }
}
