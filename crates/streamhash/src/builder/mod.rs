//! Building: keys become blocks, blocks are solved, and one sink writes them in order.
//!
//! ```text
//! SortedBuilder   collects a block at a time ──▶ Blocks: solves here or in workers ────┐
//! RangeBuilder    workers take ranges of blocks, have them filled and solve them ──────┴─▶ Sink: the file, in order
//!    ▲
//! UnsortedBuilder sets keys aside by ranges first
//! ```

mod blocks;
mod options;
mod partitions;
mod ranges;
mod sink;
mod sorted;
mod unsorted;

pub use options::Options;
pub use ranges::{Fill, KeyRange, Places, RangeBuilder};
pub use sink::Summary;
pub use sorted::SortedBuilder;
pub use unsorted::{Progress, UnsortedBuilder};

use crate::{
    Error, Result,
    format::{Header, MAX_KEYS},
};

/// More workers than this only take memory.
const MAX_WORKERS: usize = 1024;

/// What all builders check of each key, and count.
struct Intake {
    header: Header,
    max_block_keys: u64,
    added: u64,
}

impl Intake {
    fn new(key_count: u64, options: &Options) -> Result<Self> {
        if key_count > MAX_KEYS {
            return Err(Error::Option { what: "the number of keys", value: key_count, max: MAX_KEYS });
        }
        let header = options.header(key_count)?;
        Ok(Intake { header, max_block_keys: header.max_block_keys(), added: 0 })
    }

    /// Checks a payload.
    #[inline(always)]
    fn check(&self, payload: u64) -> Result<()> {
        if payload <= self.header.max_payload {
            return Ok(());
        }
        Err(Error::PayloadTooLarge { payload, max: self.header.max_payload })
    }

    /// How many keys the next block may have, after those that were counted.
    fn room(&self) -> usize {
        self.max_block_keys.min(self.header.keys - self.added) as usize
    }

    fn complete(&self) -> Result<()> {
        if self.added == self.header.keys { Ok(()) } else { Err(self.mismatch()) }
    }

    fn mismatch(&self) -> Error {
        Error::KeyCountMismatch { expected: self.header.keys, added: self.added }
    }
}
