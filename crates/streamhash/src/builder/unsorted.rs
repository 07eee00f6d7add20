use std::{ops::ControlFlow, path::Path, sync::Arc};

use icecore_diskio::{Disk, RealDisk};

use super::{Intake, Options, Summary, blocks::Blocks, partitions::Partitions, sink::Sink};
use crate::{
    Error, Result,
    key::{Entry, Key},
};

/// How far [`UnsortedBuilder::finish_with`] has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Progress {
    /// Keys in blocks that have been handed to the solver.
    pub keys_done: u64,
    /// All keys.
    pub keys: u64,
}

/// Builds an index of keys in any order; the same file as [`SortedBuilder`](crate::SortedBuilder) would.
///
/// Memory: [`Options::memory_bytes`] and 14 bytes per block of about three thousand keys. What does not fit waits in a
/// nameless file beside the index. A failed or dropped build leaves nothing behind.
///
/// ```
/// use icecore_streamhash::{Options, UnsortedBuilder, prehash};
///
/// # fn main() -> icecore_streamhash::Result<()> {
/// # let dir = tempfile::tempdir().unwrap();
/// # let path = dir.path().join("index");
/// let mut builder = UnsortedBuilder::create(&path, 3, Options::new().payload_bytes(1))?;
/// for (i, word) in ["core", "ice", "ledger"].into_iter().enumerate() {
///     builder.add(&prehash(word.as_bytes()), i as u64)?;
/// }
/// assert_eq!(builder.finish()?.keys, 3);
/// # Ok(())
/// # }
/// ```
pub struct UnsortedBuilder {
    intake: Intake,
    partitions: Partitions,
    /// How many keys fell into each block. Of a block with too many, the rest is counted and not kept.
    block_keys: Vec<u32>,
    blocks: Blocks,
    failed: Option<Error>,
}

impl UnsortedBuilder {
    /// Begins an index of `key_count` keys that will be called `path`.
    ///
    /// # Errors
    /// [`Error::Option`], [`Error::Thread`], and those of the disk.
    pub fn create(path: impl AsRef<Path>, key_count: u64, options: Options) -> Result<Self> {
        Self::create_on(&(Arc::new(RealDisk) as Arc<dyn Disk>), path, key_count, options)
    }

    /// [`create`](UnsortedBuilder::create) on a disk of the caller's choice.
    ///
    /// # Errors
    /// [`Error::Option`], [`Error::Thread`], and those of the disk.
    pub fn create_on(
        disk: &Arc<dyn Disk>,
        path: impl AsRef<Path>,
        key_count: u64,
        options: Options,
    ) -> Result<Self> {
        let path = path.as_ref();
        let intake = Intake::new(key_count, &options)?;
        let sink = Sink::create(disk, path, intake.header, &options)?;
        Ok(UnsortedBuilder {
            partitions: Partitions::new(disk, path, &intake.header, options.memory_bytes),
            block_keys: vec![0; intake.header.blocks as usize],
            blocks: Blocks::new(&intake.header, sink, &options)?,
            intake,
            failed: None,
        })
    }

    /// Adds a key with its payload (0 where the index keeps none).
    ///
    /// # Errors
    /// [`Error::KeyLength`], [`Error::PayloadTooLarge`], [`Error::KeyCountMismatch`] where there are more keys than
    /// announced, and those of the disk. The first error ends the build; every later call repeats it.
    pub fn add(&mut self, key: &[u8], payload: u64) -> Result<()> {
        match &self.failed {
            None => self.try_add(key, payload).inspect_err(|error| self.failed = Some(error.clone())),
            Some(error) => Err(error.clone()),
        }
    }

    fn try_add(&mut self, key: &[u8], payload: u64) -> Result<()> {
        let key = Key::new(key)?;
        self.intake.check(payload)?;
        self.intake.added += 1;
        if self.intake.added > self.intake.header.keys {
            return Err(self.intake.mismatch());
        }
        let block = key.block(self.intake.header.blocks);
        let count = &mut self.block_keys[block as usize];
        *count = count.saturating_add(1);
        if u64::from(*count) > self.intake.max_block_keys {
            return Ok(());
        }
        self.partitions.add(block, &Entry { key, payload })
    }

    /// Solves all blocks and completes the file: contents, name and directory are durable on return.
    ///
    /// # Errors
    /// Those of [`add`](UnsortedBuilder::add); [`Error::KeyCountMismatch`] also where there were too few keys;
    /// [`Error::DuplicateKey`], [`Error::BlockOverflow`], [`Error::Indistinguishable`] and its like.
    pub fn finish(self) -> Result<Summary> {
        self.finish_with(|_| ControlFlow::Continue(()))
    }

    /// [`finish`](UnsortedBuilder::finish) that tells how far it has come, before each block, and stops when told to.
    ///
    /// # Errors
    /// Those of [`finish`](UnsortedBuilder::finish), and [`Error::Cancelled`].
    pub fn finish_with(mut self, mut progress: impl FnMut(Progress) -> ControlFlow<()>) -> Result<Summary> {
        if let Some(error) = self.failed.take() {
            return Err(error);
        }
        self.intake.complete()?;
        let mut keys_done = 0;
        let mut entries = Vec::new();
        for (index, range) in self.partitions.ranges(self.intake.header.blocks).into_iter().enumerate() {
            self.load(index, range.clone(), &mut entries)?;
            let mut rest = entries.as_slice();
            for block in range {
                if progress(Progress { keys_done, keys: self.intake.header.keys }).is_break() {
                    return Err(Error::Cancelled);
                }
                let (own, later) = rest.split_at(self.kept(block));
                self.blocks.entries().extend_from_slice(own);
                rest = later;
                let keys = u64::from(self.block_keys[block as usize]);
                self.blocks.push(keys)?;
                keys_done += keys;
            }
        }
        self.blocks.finish()
    }

    /// How many keys of a block are kept.
    fn kept(&self, block: u32) -> usize {
        u64::from(self.block_keys[block as usize]).min(self.intake.max_block_keys) as usize
    }

    /// Loads a partition's entries, sorted by block.
    fn load(&mut self, index: usize, range: std::ops::Range<u32>, entries: &mut Vec<Entry>) -> Result<()> {
        let (first, mut total) = (range.start, 0);
        let mut next: Vec<usize> = Vec::with_capacity(range.len());
        for block in range {
            next.push(total);
            total += self.kept(block);
        }
        entries.clear();
        entries.resize(total, Entry::default());
        let blocks = self.intake.header.blocks;
        self.partitions.drain(index, |entry| {
            let next = &mut next[(entry.key.block(blocks) - first) as usize];
            entries[*next] = entry;
            *next += 1;
        })
    }
}
