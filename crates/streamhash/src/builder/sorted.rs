use std::{path::Path, sync::Arc};

use icecore_diskio::{Disk, RealDisk};

use super::{Intake, Options, Summary, blocks::Blocks, sink::Sink};
use crate::{
    Error, Result,
    key::{Entry, Key},
    prefetch::prefetch,
};

/// How far beyond a key the memory is fetched: keys in order mostly lie one after the other, and the time between two
/// blocks makes the processor's own foresight begin anew.
const AHEAD_BYTES: usize = 4096;

/// Builds an index of keys that come in their bytewise order, block by block. Within a block (the first few bits) their
/// order does not matter.
///
/// Memory: 10 bytes per block of about three thousand keys, and a few blocks per worker. A failed or dropped build
/// leaves nothing behind.
///
/// ```
/// use icecore_streamhash::{Options, SortedBuilder};
///
/// # fn main() -> icecore_streamhash::Result<()> {
/// # let dir = tempfile::tempdir().unwrap();
/// # let path = dir.path().join("index");
/// let mut builder = SortedBuilder::create(&path, 2, Options::new().payload_bytes(1))?;
/// builder.add(&[0x11; 16], 1)?;
/// builder.add(&[0xEE; 32], 2)?;
/// assert_eq!(builder.finish()?.keys, 2);
/// # Ok(())
/// # }
/// ```
pub struct SortedBuilder {
    intake: Intake,
    blocks: Blocks,
    /// How many entries the block that is being collected may have before a key needs a closer look.
    room: usize,
    /// Keys of that block beyond the most it may have: counted and not kept.
    beyond: u64,
    failed: Option<Error>,
}

impl SortedBuilder {
    /// Begins an index of `key_count` keys that will be called `path`.
    ///
    /// # Errors
    /// [`Error::Option`], [`Error::Thread`], and those of the disk.
    pub fn create(path: impl AsRef<Path>, key_count: u64, options: Options) -> Result<Self> {
        Self::create_on(&(Arc::new(RealDisk) as Arc<dyn Disk>), path, key_count, options)
    }

    /// [`create`](SortedBuilder::create) on a disk of the caller's choice.
    ///
    /// # Errors
    /// [`Error::Option`], [`Error::Thread`], and those of the disk.
    pub fn create_on(
        disk: &Arc<dyn Disk>,
        path: impl AsRef<Path>,
        key_count: u64,
        options: Options,
    ) -> Result<Self> {
        let intake = Intake::new(key_count, &options)?;
        let sink = Sink::create(disk, path.as_ref(), intake.header, &options)?;
        let blocks = Blocks::new(&intake.header, sink, &options)?;
        Ok(SortedBuilder { room: intake.room(), intake, blocks, beyond: 0, failed: None })
    }

    /// Adds a key with its payload (0 where the index keeps none).
    ///
    /// # Errors
    /// [`Error::KeyLength`], [`Error::PayloadTooLarge`], [`Error::Unsorted`], [`Error::KeyCountMismatch`] where there
    /// are more keys than announced, and whatever went wrong with a block before: [`Error::DuplicateKey`],
    /// [`Error::BlockOverflow`], [`Error::Indistinguishable`] and its like, and those of the disk. The first error ends
    /// the build; every later call repeats it.
    #[inline]
    pub fn add(&mut self, key: &[u8], payload: u64) -> Result<()> {
        match &self.failed {
            None => self.try_add(key, payload).inspect_err(|error| self.failed = Some(error.clone())),
            Some(error) => Err(error.clone()),
        }
    }

    #[inline]
    fn try_add(&mut self, key: &[u8], payload: u64) -> Result<()> {
        prefetch(key, AHEAD_BYTES);
        let key = Key::new(key)?;
        self.intake.check(payload)?;
        let block = key.block(self.intake.header.blocks);
        let next = self.blocks.next_block();
        let entries = self.blocks.entries();
        if block == next && entries.len() < self.room {
            entries.push(Entry { key, payload });
            return Ok(());
        }
        self.add_closely(block, Entry { key, payload })
    }

    /// Adds a key of another block, or one too many for its block or for all.
    #[inline(never)]
    fn add_closely(&mut self, block: u32, entry: Entry) -> Result<()> {
        if self.intake.added + self.in_block() == self.intake.header.keys {
            self.intake.added += self.in_block() + 1;
            return Err(self.intake.mismatch());
        }
        if block != self.blocks.next_block() {
            self.advance(block)?;
        }
        if self.blocks.entries().len() < self.room {
            self.blocks.entries().push(entry);
        } else {
            self.beyond += 1;
        }
        Ok(())
    }

    /// Keys of the block that is being collected.
    fn in_block(&mut self) -> u64 {
        self.blocks.entries().len() as u64 + self.beyond
    }

    /// Hands over all blocks before `block`.
    fn advance(&mut self, block: u32) -> Result<()> {
        if block < self.blocks.next_block() {
            return Err(Error::Unsorted { block, previous: self.blocks.next_block() });
        }
        while self.blocks.next_block() < block {
            let keys = self.in_block();
            self.beyond = 0;
            self.intake.added += keys;
            self.blocks.push(keys)?;
        }
        self.room = self.intake.room();
        Ok(())
    }

    /// Completes the file: contents, name and directory are durable on return.
    ///
    /// # Errors
    /// Those of [`add`](SortedBuilder::add); [`Error::KeyCountMismatch`] also where there were too few keys.
    pub fn finish(mut self) -> Result<Summary> {
        if let Some(error) = self.failed.take() {
            return Err(error);
        }
        let added = self.intake.added + self.in_block();
        if added != self.intake.header.keys {
            self.intake.added = added;
            return Err(self.intake.mismatch());
        }
        self.advance(self.intake.header.blocks)?;
        self.blocks.finish()
    }
}
