use std::{ops::ControlFlow, path::Path, sync::Arc};

use icecore_diskio::{Disk, RealDisk};

use super::{
    Intake, Options, RangeBuilder, Summary,
    partitions::{self, Partitions},
};
use crate::{
    Error, Result,
    key::{Entry, Key},
};

/// How far [`UnsortedBuilder::finish_with`] or [`RangeBuilder::build_with`] has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Progress {
    /// Keys that are written.
    pub keys_done: u64,
    /// All keys.
    pub keys: u64,
}

/// Builds an index of keys in any order; the same file as [`SortedBuilder`](crate::SortedBuilder) would.
///
/// Memory: [`Options::memory_bytes`], and a little for each block and worker. What does not fit waits in a nameless file
/// beside the index. A failed or dropped build leaves nothing behind.
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
    ranges: RangeBuilder,
    failed: Option<Error>,
}

impl UnsortedBuilder {
    /// Begins an index of `key_count` keys that will be called `path`.
    ///
    /// # Errors
    /// [`Error::Option`], [`Error::Memory`], and those of the disk.
    pub fn create(path: impl AsRef<Path>, key_count: u64, options: Options) -> Result<Self> {
        Self::create_on(&(Arc::new(RealDisk) as Arc<dyn Disk>), path, key_count, options)
    }

    /// [`create`](UnsortedBuilder::create) on a disk of the caller's choice.
    ///
    /// # Errors
    /// [`Error::Option`], [`Error::Memory`], and those of the disk.
    pub fn create_on(
        disk: &Arc<dyn Disk>,
        path: impl AsRef<Path>,
        key_count: u64,
        options: Options,
    ) -> Result<Self> {
        let (path, memory_bytes) = (path.as_ref(), options.memory_bytes);
        let intake = Intake::new(key_count, &options)?;
        let plan = partitions::plan(intake.header, memory_bytes);
        let partitions = Partitions::new(disk, path, &plan, memory_bytes)?;
        let ranges = RangeBuilder::planned(disk, path, plan, options)?;
        Ok(UnsortedBuilder { intake, partitions, ranges, failed: None })
    }

    /// Adds a key with its payload (0 where the index keeps none).
    ///
    /// # Errors
    /// [`Error::KeyLength`], [`Error::PayloadTooLarge`], [`Error::KeyCountMismatch`] where there are more keys than
    /// announced, and those of the disk. The first error ends the build; every later call repeats it.
    #[inline]
    pub fn add(&mut self, key: &[u8], payload: u64) -> Result<()> {
        match &self.failed {
            None => self.try_add(key, payload).inspect_err(|error| self.failed = Some(error.clone())),
            Some(error) => Err(error.clone()),
        }
    }

    #[inline]
    fn try_add(&mut self, key: &[u8], payload: u64) -> Result<()> {
        let key = Key::new(key)?;
        self.intake.check(payload)?;
        self.intake.added += 1;
        if self.intake.added > self.intake.header.keys {
            return Err(self.intake.mismatch());
        }
        self.partitions.add(&Entry { key, payload })
    }

    /// Solves all blocks and completes the file: contents, name and directory are durable on return.
    ///
    /// # Errors
    /// Those of [`add`](UnsortedBuilder::add); [`Error::KeyCountMismatch`] also where there were too few keys;
    /// [`Error::DuplicateKey`], [`Error::BlockOverflow`], [`Error::Indistinguishable`] and its like, [`Error::Thread`].
    pub fn finish(self) -> Result<Summary> {
        self.finish_with(|_| ControlFlow::Continue(()))
    }

    /// [`finish`](UnsortedBuilder::finish) that tells now and then, and before it seals the file, how many keys are
    /// written, and stops when told to.
    ///
    /// # Errors
    /// Those of [`finish`](UnsortedBuilder::finish), and [`Error::Cancelled`].
    pub fn finish_with(mut self, progress: impl FnMut(Progress) -> ControlFlow<()>) -> Result<Summary> {
        if let Some(error) = self.failed.take() {
            return Err(error);
        }
        self.intake.complete()?;
        self.ranges.build_with(|| self.partitions.drain(), progress)
    }
}
