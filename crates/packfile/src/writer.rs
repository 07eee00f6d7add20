//! Writing: items are gathered into batches of whole records, encoded and hashed, and written in order.
//!
//! ```text
//! concurrency 1   append → encode into a batch → sink                       all on the caller's thread
//! concurrency n   append → batch ─▶ n workers encode ─▶ sink, in order      copying and writing on the caller's
//!                   ▲                                    │
//!                   └────────── buffers go round ◀───────┘
//! ```
//!
//! The writer owns its workers and joins them on drop. At most `2 n` batches are under way, so memory is bounded by the
//! batch size (or the record size, where that is larger) and appending waits when the disk or the workers are behind.

use std::{path::Path, sync::Arc};

use icecore_diskio::{Disk, IfExists, PendingFile, RealDisk};

use crate::{
    Codec, Error, Result,
    encode::{Batch, Encoder},
    error::BoxError,
    hash::Extract,
    sink::Sink,
    thread_count,
    workers::Workers,
};

/// How a packfile is written. The defaults suit small items: 128 to a record, Zstandard, no content hash.
#[derive(Clone)]
#[must_use]
pub struct Options {
    pub(crate) items_per_record: u32,
    pub(crate) codec: Codec,
    pub(crate) format: u32,
    pub(crate) content_hash: bool,
    pub(crate) extract: Option<Extract>,
    pub(crate) concurrency: usize,
    pub(crate) if_exists: IfExists,
    pub(crate) bytes_per_sync: u64,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            items_per_record: 128,
            codec: Codec::default(),
            format: 0,
            content_hash: false,
            extract: None,
            concurrency: 1,
            if_exists: IfExists::Fail,
            bytes_per_sync: 0,
        }
    }
}

impl Options {
    /// The defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many items share a record, and so a frame of the codec: more compress better, fewer are read faster. 1 for
    /// large items. Default 128.
    pub fn items_per_record(mut self, items: u32) -> Self {
        self.items_per_record = items;
        self
    }

    /// How records are encoded. Readers must be given the same. Default [`Codec::Zstd`].
    pub fn codec(mut self, codec: Codec) -> Self {
        self.codec = codec;
        self
    }

    /// A number of the caller's, kept in the file to say what the items are. Default 0.
    pub fn format(mut self, format: u32) -> Self {
        self.format = format;
        self
    }

    /// Whether to keep a SHA-256 of all items, which does not depend on the codec. Default no.
    pub fn content_hash(mut self, on: bool) -> Self {
        self.content_hash = on;
        self
    }

    /// Turns the content hash on and hashes, instead of each item, what `extract` appends to its second argument (an
    /// empty buffer): the item's decompressed form, say. Verifying then needs the same function.
    pub fn hash_extract<F>(mut self, extract: F) -> Self
    where
        F: Fn(&[u8], &mut Vec<u8>) -> Result<(), BoxError> + Send + Sync + 'static,
    {
        self.content_hash = true;
        self.extract = Some(Arc::new(extract));
        self
    }

    /// How many threads encode and hash. 1, the default, starts none and works on the caller's; 0 stands for as many
    /// as the machine has cores. The file's bytes do not depend on it.
    pub fn concurrency(mut self, threads: usize) -> Self {
        self.concurrency = threads;
        self
    }

    /// What to do where the name is taken. Default: fail.
    pub fn if_exists(mut self, if_exists: IfExists) -> Self {
        self.if_exists = if_exists;
        self
    }

    /// Begins writing back to the device, on a thread of its own, each time this many bytes have been written, so that
    /// the final fsync has little left to do. Default 0: never.
    pub fn bytes_per_sync(mut self, bytes: u64) -> Self {
        self.bytes_per_sync = bytes;
        self
    }
}

/// What was written.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Summary {
    /// How many items.
    pub item_count: u32,
    /// In how many records.
    pub record_count: u32,
    /// The length of the file.
    pub file_bytes: u64,
    /// The SHA-256 of the items, where it was asked for.
    pub content_hash: Option<[u8; 32]>,
}

/// Writes a packfile from front to back. Nothing bears the file's name before [`finish`](Writer::finish); a writer
/// dropped before that, or failed, leaves nothing.
///
/// The first error sticks: every later call returns it.
pub struct Writer {
    core: Core,
    failed: Option<Error>,
}

struct Core {
    encoder: Arc<Encoder>,
    batch: Batch,
    item_count: u32,
    workers: Option<Workers>,
    sink: Sink,
}

impl Writer {
    /// Begins a file on this machine's disk.
    ///
    /// # Errors
    /// [`Error::Io`] where the name is taken or nothing can be created there.
    pub fn create(path: impl AsRef<Path>, options: Options) -> Result<Self> {
        let disk: Arc<dyn Disk> = Arc::new(RealDisk);
        Self::create_on(&disk, path, options)
    }

    /// Begins a file on a given disk.
    ///
    /// # Errors
    /// As [`create`](Writer::create).
    pub fn create_on(disk: &Arc<dyn Disk>, path: impl AsRef<Path>, options: Options) -> Result<Self> {
        let path = path.as_ref();
        if options.items_per_record == 0 {
            return Err(Error::NoItemsPerRecord { path: path.to_path_buf() });
        }
        let file = PendingFile::create(disk, path, options.if_exists)?;
        let sink = Sink::new(file, &options)?;
        let encoder = Arc::new(Encoder::new(path, &options));
        let threads = thread_count(options.concurrency);
        let workers = if threads > 1 { Some(Workers::start(&encoder, threads)?) } else { None };
        let core = Core { encoder, batch: Batch::default(), item_count: 0, workers, sink };
        Ok(Writer { core, failed: None })
    }

    /// Adds an item of up to 2^32-1 bytes, at the next position.
    ///
    /// # Errors
    /// [`Error::TooLarge`] for an item, an encoded record or a number of items past the format's limits, [`Error::Io`]
    /// from writing this or an earlier item.
    pub fn append(&mut self, item: &[u8]) -> Result<()> {
        self.append_parts(&[item])
    }

    /// Adds one item that is given in parts, which saves putting them together first.
    ///
    /// # Errors
    /// As [`append`](Writer::append).
    pub fn append_parts(&mut self, parts: &[&[u8]]) -> Result<()> {
        self.sticky(|core| core.append(parts))
    }

    /// How many items were appended.
    pub fn item_count(&self) -> u32 {
        self.core.item_count
    }

    /// Writes what is left, with up to 2^32-1 bytes of the caller's own, and makes the file durable under its name.
    ///
    /// # Errors
    /// The first error of this writer.
    pub fn finish(mut self, app_data: &[u8]) -> Result<Summary> {
        self.sticky(Core::flush)?;
        self.core.sink.finish(self.core.item_count, app_data)
    }

    fn sticky(&mut self, work: impl FnOnce(&mut Core) -> Result<()>) -> Result<()> {
        if let Some(e) = &self.failed {
            return Err(e.clone());
        }
        work(&mut self.core).inspect_err(|e| self.failed = Some(e.clone()))
    }
}

impl Core {
    fn append(&mut self, parts: &[&[u8]]) -> Result<()> {
        let path = self.encoder.path();
        let len = parts.iter().map(|part| part.len() as u64).sum();
        let size = u32::try_from(len).map_err(|_| Error::too_large(path, "an item", len))?;
        let count = self.item_count.checked_add(1);
        let count = count.ok_or_else(|| Error::too_large(path, "a number of items", 1 << 32))?;
        let (batch, inline) = (&mut self.batch, self.workers.is_none());
        let items_per_record = self.encoder.items_per_record();
        match parts {
            // A record of one item needs no gathering: it is encoded from where it is.
            [item] if inline && items_per_record == 1 => {
                self.encoder.encode_record(item, &[size], batch.first_record, &mut batch.records)?;
            }
            _ => {
                parts.iter().for_each(|part| batch.payload.extend_from_slice(part));
                batch.sizes.push(size);
                if inline && batch.sizes.len() == items_per_record {
                    self.encoder.encode_batch(batch)?;
                }
            }
        }
        self.item_count = count;
        let whole = |batch: &Batch| batch.sizes.len().is_multiple_of(items_per_record);
        if self.batch.is_full() && whole(&self.batch) { self.submit() } else { Ok(()) }
    }

    /// Passes the batch on, to be written or to be encoded first, and begins another.
    fn submit(&mut self) -> Result<()> {
        match &mut self.workers {
            None => {
                self.sink.write(&self.batch.records)?;
                self.batch.clear();
            }
            Some(workers) => {
                let batch = std::mem::take(&mut self.batch);
                self.batch = workers.submit(batch, &mut self.sink)?;
            }
        }
        self.batch.first_record = self.next_record();
        Ok(())
    }

    /// The number of the next record to begin, at the end of a whole one.
    fn next_record(&self) -> u32 {
        (self.item_count as usize / self.encoder.items_per_record()) as u32
    }

    /// Writes all that was appended.
    fn flush(&mut self) -> Result<()> {
        if self.workers.is_none() {
            self.encoder.encode_batch(&mut self.batch)?;
        }
        self.submit()?;
        self.workers.as_mut().map_or(Ok(()), |workers| workers.drain(&mut self.sink))
    }
}
