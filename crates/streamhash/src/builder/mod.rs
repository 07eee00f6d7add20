//! Building: keys become blocks, blocks are solved, and one sink writes them in order.
//!
//! ```text
//! SortedBuilder   collects a block at a time ──┐
//! UnsortedBuilder partitions on disk, then ────┴─▶ Blocks: solves here or in workers ──▶ Sink: the file, in order
//! ```

mod blocks;
mod options;
mod partitions;
mod sink;
mod sorted;
mod unsorted;

pub use options::Options;
pub use sink::Summary;
pub use sorted::SortedBuilder;
pub use unsorted::{Progress, UnsortedBuilder};

use crate::{
    Error, Result,
    format::{Header, MAX_KEYS},
    key::{Entry, Key},
};

/// What both builders check of each key, and count.
struct Intake {
    header: Header,
    max_block_keys: u64,
    max_payload: u64,
    added: u64,
}

impl Intake {
    fn new(key_count: u64, options: &Options) -> Result<Self> {
        if key_count > MAX_KEYS {
            return Err(Error::Option { what: "the number of keys", value: key_count, max: MAX_KEYS });
        }
        let header = options.header(key_count)?;
        let max_payload = u64::MAX.checked_shr(64 - 8 * u32::from(header.payload_bytes)).unwrap_or(0);
        Ok(Intake { header, max_block_keys: header.max_block_keys(), max_payload, added: 0 })
    }

    /// Checks a key and its payload; returns them with their block.
    #[inline]
    fn accept(&mut self, key: &[u8], payload: u64) -> Result<(u32, Entry)> {
        let key = Key::new(key)?;
        if payload > self.max_payload {
            return Err(Error::PayloadTooLarge { payload, payload_bytes: self.header.payload_bytes });
        }
        self.added += 1;
        if self.added > self.header.keys {
            return Err(self.mismatch());
        }
        Ok((key.block(self.header.blocks), Entry { key, payload }))
    }

    fn complete(&self) -> Result<()> {
        if self.added == self.header.keys { Ok(()) } else { Err(self.mismatch()) }
    }

    fn mismatch(&self) -> Error {
        Error::KeyCountMismatch { expected: self.header.keys, added: self.added }
    }
}
