//! Reading with every length checked, and the checksum that ties a value to its key.

use crate::Family;

/// What was read, or what is wrong with the bytes.
pub(crate) type Found<T> = Result<T, &'static str>;

const CUT_SHORT: &str = "cut short";
const CRC_BYTES: usize = 4;

/// The bytes that are left to read.
pub(crate) struct Cursor<'a>(pub(crate) &'a [u8]);

impl<'a> Cursor<'a> {
    pub(crate) fn take<const N: usize>(&mut self) -> Found<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(CUT_SHORT)?;
        self.0 = rest;
        Ok(*taken)
    }

    pub(crate) fn u32(&mut self) -> Found<u32> {
        Ok(u32::from_le_bytes(self.take()?))
    }

    /// A number that is there, or the zero in its place.
    pub(crate) fn optional(&mut self, there: bool) -> Found<Option<u32>> {
        match (self.u32()?, there) {
            (number, true) => Ok(Some(number)),
            (0, false) => Ok(None),
            _ => Err("a number where its flag says there is none"),
        }
    }

    /// A counted list, each entry of a fixed size; nothing is allocated before the bytes are known to be there.
    pub(crate) fn list<T>(
        &mut self,
        entry_bytes: usize,
        read: impl Fn(&mut Self) -> Found<T>,
    ) -> Found<Vec<T>> {
        let entries = self.u32()? as usize;
        if entries > self.0.len() / entry_bytes {
            return Err(CUT_SHORT);
        }
        (0..entries).map(|_| read(self)).collect()
    }

    pub(crate) fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.0)
    }
}

/// Appends a list with its count.
pub(crate) fn put_list<T>(entries: &[T], out: &mut Vec<u8>, put: impl Fn(&T, &mut Vec<u8>)) {
    let count = u32::try_from(entries.len()).unwrap_or(u32::MAX);
    out.extend_from_slice(&count.to_le_bytes());
    entries.iter().take(count as usize).for_each(|entry| put(entry, out));
}

fn checksum(family: Family, key: &[u8], value: &[u8]) -> [u8; CRC_BYTES] {
    let crc = crc32c::crc32c(family.name().as_bytes());
    crc32c::crc32c_append(crc32c::crc32c_append(crc, key), value).to_le_bytes()
}

/// Ties a value to its key.
pub(crate) fn seal(family: Family, key: &[u8], value: &mut Vec<u8>) {
    let crc = checksum(family, key, value);
    value.extend_from_slice(&crc);
}

/// The value, if it was sealed under this key.
pub(crate) fn unseal<'a>(family: Family, key: &[u8], bytes: &'a [u8]) -> Found<&'a [u8]> {
    let (value, crc) = bytes.split_last_chunk().ok_or(CUT_SHORT)?;
    if *crc == checksum(family, key, value) { Ok(value) } else { Err("checksum mismatch") }
}
