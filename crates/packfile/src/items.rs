use std::ops::Range;

use crate::{Reader, Result, pack::Pack, pool::Lease, record::Scratch};

/// The items of a range of positions, in order. Made by [`Reader::read_range`].
///
/// [`next_item`](Items::next_item) lends each item, which costs no allocation; as an [`Iterator`] this gives them away,
/// which costs one each. After an error there are no more items.
pub struct Items<'r> {
    reader: &'r Reader,
    pack: &'r Pack,
    scratch: Lease<'r, Scratch>,
    positions: Range<u32>,
    /// The number within its record of the next item; past its end when the record is not loaded.
    number: usize,
    next_record: u32,
}

impl<'r> Items<'r> {
    pub(crate) fn new(reader: &'r Reader, pack: &'r Pack, positions: Range<u32>) -> Self {
        let items_per_record = pack.info().items_per_record;
        let next_record = positions.start / items_per_record;
        let number = (positions.start % items_per_record) as usize;
        Items { reader, pack, scratch: reader.scratch(), positions, number, next_record }
    }

    /// The next item, `None` at the end.
    ///
    /// # Errors
    /// Damage and I/O errors.
    pub fn next_item(&mut self) -> Result<Option<&[u8]>> {
        if self.positions.is_empty() {
            return Ok(None);
        }
        if self.number >= self.scratch.sizes().len() {
            self.load().inspect_err(|_| self.positions.start = self.positions.end)?;
        }
        let number = self.number;
        self.number += 1;
        self.positions.start += 1;
        self.scratch.item(self.pack, number).map(Some)
    }

    fn load(&mut self) -> Result<()> {
        if !self.scratch.sizes().is_empty() {
            self.number = 0;
        }
        let last = (self.positions.end - 1) / self.pack.info().items_per_record;
        self.reader.load(&mut self.scratch, self.next_record, last)?;
        self.next_record += 1;
        Ok(())
    }
}

impl Iterator for Items<'_> {
    type Item = Result<Vec<u8>>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_item().map(|item| item.map(<[u8]>::to_vec)).transpose()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (0, Some(self.positions.len()))
    }
}
