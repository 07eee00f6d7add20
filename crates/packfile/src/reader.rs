//! Reading: positions become records, records are loaded by [`Scratch`], items are handed out.
//!
//! A reader owns the thread that opens its file, until the first use (or the drop) joins it; and a pool of scratch
//! buffers, one for each thread that reads at the same time.

use std::{
    path::Path,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    thread::{self, JoinHandle},
};

use icecore_diskio::{Disk, FileReader, ReadAt};
use sha2::{Digest, Sha256};

use crate::{
    Codec, Error, Info, Place, RecordCodec, Result,
    error::{BoxError, thread_error},
    hash::{ExtractFn, record_digest},
    items::Items,
    pack::Pack,
    pool::{Lease, Pool},
    record::Scratch,
    thread_count,
};

/// Reads the items of a packfile, from as many threads at once as you like.
///
/// A file is opened once: where that fails, even for a reason that may pass, every use of this reader repeats the error,
/// and another try takes another reader.
pub struct Reader {
    pack: OnceLock<Result<Pack>>,
    opening: Mutex<Option<JoinHandle<Result<Pack>>>>,
    codec: Option<Arc<dyn RecordCodec>>,
    scratch: Pool<Scratch>,
}

/// Opening takes one read and some arithmetic.
const OPENING_STACK_BYTES: usize = 256 << 10;

impl Reader {
    /// Begins to open a file of this machine's disk, on a thread of its own; what goes wrong is the error of the first
    /// use. So many files are opened in the time of one.
    pub fn open(path: impl AsRef<Path>) -> Self {
        let path = path.as_ref().to_path_buf();
        Self::opening(move || Ok(Box::new(FileReader::open(&path)?)))
    }

    /// Begins to open a file of a given disk, as [`open`](Reader::open) does.
    pub fn open_on(disk: &Arc<dyn Disk>, path: impl AsRef<Path>) -> Self {
        let (disk, path) = (Arc::clone(disk), path.as_ref().to_path_buf());
        Self::opening(move || Ok(disk.open(&path)?))
    }

    /// Opens any bytes at once: a memory map, bytes in memory (neither is copied from), a remote object.
    ///
    /// # Errors
    /// Where the bytes are not a whole and valid packfile, as far as that shows from its end.
    pub fn from_source(source: impl ReadAt + 'static) -> Result<Self> {
        Ok(Self::new(OnceLock::from(Ok(Pack::open(Box::new(source))?)), None))
    }

    fn new(pack: OnceLock<Result<Pack>>, opening: Option<JoinHandle<Result<Pack>>>) -> Self {
        Reader {
            pack,
            opening: Mutex::new(opening),
            codec: Codec::default().start(),
            scratch: Pool::default(),
        }
    }

    fn opening(source: impl Fn() -> Result<Box<dyn ReadAt>> + Send + Sync + 'static) -> Self {
        let open = Arc::new(move || Pack::open(source()?));
        let background = Arc::clone(&open);
        let thread = thread::Builder::new().name("packfile-open".into()).stack_size(OPENING_STACK_BYTES);
        match thread.spawn(move || background()) {
            Ok(thread) => Self::new(OnceLock::new(), Some(thread)),
            // No thread to be had: then the caller's.
            Err(_) => Self::new(OnceLock::from(open()), None),
        }
    }

    /// Sets the codec the file was written with, if it is not [`Codec::Zstd`]. It can be chosen by what
    /// [`format`](Reader::format) says.
    #[must_use]
    pub fn with_codec(mut self, codec: Codec) -> Self {
        self.codec = codec.start();
        self
    }

    pub(crate) fn pack(&self) -> Result<&Pack> {
        let join = || {
            let thread = self.opening.lock().unwrap_or_else(PoisonError::into_inner).take();
            let lost = || Err(thread_error(Path::new("(unknown)"), "opening ended in a panic"));
            thread.map_or_else(lost, |thread| thread.join().unwrap_or_else(|_| lost()))
        };
        self.pack.get_or_init(join).as_ref().map_err(Error::clone)
    }

    /// The fixed facts of the file.
    ///
    /// # Errors
    /// Where the file could not be opened; so for all methods.
    pub fn info(&self) -> Result<&Info> {
        Ok(self.pack()?.info())
    }

    /// How many items there are.
    pub fn item_count(&self) -> Result<u32> {
        Ok(self.info()?.item_count)
    }

    /// The number by which the writer said what the items are.
    pub fn format(&self) -> Result<u32> {
        Ok(self.info()?.format)
    }

    /// The SHA-256 of the items, where the writer was asked for it.
    pub fn content_hash(&self) -> Result<Option<[u8; 32]>> {
        Ok(self.info()?.content_hash)
    }

    /// The writer's own bytes. They have no checksum: whoever depends on them keeps one in them.
    pub fn app_data(&self) -> Result<&[u8]> {
        Ok(self.pack()?.app_data())
    }

    /// Reads the item at a position.
    ///
    /// # Errors
    /// [`Error::OutOfRange`] past the last item; damage and I/O errors.
    pub fn read_item(&self, position: u32) -> Result<Vec<u8>> {
        let mut item = Vec::new();
        self.read_item_into(position, &mut item)?;
        Ok(item)
    }

    /// Reads the item at a position into a buffer, whose contents it replaces: with one buffer for many reads there
    /// are no allocations. After an error the buffer's contents are unspecified.
    ///
    /// # Errors
    /// As [`read_item`](Reader::read_item).
    pub fn read_item_into(&self, position: u32, item: &mut Vec<u8>) -> Result<()> {
        let pack = self.pack()?;
        check_range(pack, position, 1)?;
        item.clear();
        let mut scratch = self.scratch();
        let items_per_record = pack.info().items_per_record;
        if items_per_record == 1 && self.codec.is_some() {
            // The payload is the item, so it is decoded where it is wanted.
            scratch.swap_payload(item);
            let loaded = self.load(&mut scratch, position, position);
            scratch.swap_payload(item);
            return loaded;
        }
        let record = position / items_per_record;
        self.load(&mut scratch, record, record)?;
        item.extend_from_slice(scratch.item(pack, (position % items_per_record) as usize)?);
        Ok(())
    }

    /// Iterates over `count` items from position `start`. Nothing is read before the first is asked for.
    ///
    /// # Errors
    /// [`Error::OutOfRange`] where there are not as many; where the file could not be opened.
    pub fn read_range(&self, start: u32, count: u32) -> Result<Items<'_>> {
        let pack = self.pack()?;
        check_range(pack, start, count)?;
        Ok(Items::new(self, pack, start..start + count))
    }

    /// Reads the items at ascending positions (the same one may come again), on up to `threads` threads: 1 is the
    /// caller's own, 0 stands for as many as the machine has cores. Each record is read and decoded once; neighbours
    /// are read together.
    ///
    /// # Errors
    /// [`Error::Unsorted`], [`Error::OutOfRange`], damage and I/O errors.
    pub fn read_items(&self, positions: &[u32], threads: usize) -> Result<Vec<Vec<u8>>> {
        let pack = self.pack()?;
        if let Some(pair) = positions.windows(2).find(|pair| pair[0] > pair[1]) {
            return Err(Error::Unsorted {
                path: pack.path().to_path_buf(),
                before: pair[0],
                position: pair[1],
            });
        }
        if let Some(&last) = positions.last() {
            check_range(pack, last, 1)?;
        }
        let parts = split_at_records(positions, pack.info().items_per_record, thread_count(threads));
        let Some((first, others)) = parts.split_first() else { return Ok(Vec::new()) };
        let mut items = Vec::with_capacity(positions.len());
        thread::scope(|scope| {
            let read = |part| move || self.read_part(pack, part);
            let spawn =
                |part| thread::Builder::new().name("packfile-read".into()).spawn_scoped(scope, read(part));
            let threads: Vec<_> = others.iter().map(|&part| (part, spawn(part))).collect();
            let mut parts = vec![self.read_part(pack, first)];
            // All are joined, also where one has failed.
            for (part, thread) in threads {
                let panicked = |_| Err(thread_error(pack.path(), "a reading thread panicked"));
                parts.push(match thread {
                    Ok(thread) => thread.join().unwrap_or_else(panicked),
                    // No thread to be had: then the caller's.
                    Err(_) => self.read_part(pack, part),
                });
            }
            for part in parts {
                items.append(&mut part?);
            }
            Ok(items)
        })
    }

    fn read_part(&self, pack: &Pack, positions: &[u32]) -> Result<Vec<Vec<u8>>> {
        let items_per_record = pack.info().items_per_record;
        let mut scratch = self.scratch();
        let mut items = Vec::with_capacity(positions.len());
        let (mut loaded, mut run_end) = (None, None);
        for (i, &position) in positions.iter().enumerate() {
            let record = position / items_per_record;
            if loaded != Some(record) {
                let last = match run_end {
                    Some(end) if end >= record => end,
                    _ => last_of_run(&positions[i..], items_per_record),
                };
                self.load(&mut scratch, record, last)?;
                (loaded, run_end) = (Some(record), Some(last));
            }
            items.push(scratch.item(pack, (position % items_per_record) as usize)?.to_vec());
        }
        Ok(items)
    }

    /// Reads everything and checks all there is to check: every record's sizes and encoding, and the content hash
    /// where the file has one. Without it, damage to a record shows only as far as its codec notices: Zstandard frames
    /// have a checksum, records without a codec have none. App data is never covered.
    ///
    /// # Errors
    /// The first damage found, or an I/O error.
    pub fn verify(&self) -> Result<()> {
        self.verify_hashing(None)
    }

    /// As [`verify`](Reader::verify), for a file written with [`hash_extract`](crate::Options::hash_extract), with the
    /// same function.
    ///
    /// # Errors
    /// As [`verify`](Reader::verify), and [`Error::Decode`] for an item that the function refuses.
    pub fn verify_with<F>(&self, extract: F) -> Result<()>
    where
        F: Fn(&[u8], &mut Vec<u8>) -> Result<(), BoxError> + Send + Sync,
    {
        self.verify_hashing(Some(&extract))
    }

    fn verify_hashing(&self, extract: Option<&ExtractFn<'_>>) -> Result<()> {
        let pack = self.pack()?;
        let info = pack.info();
        let mut scratch = self.scratch();
        let mut hash = Sha256::new();
        for record in 0..info.record_count {
            self.load(&mut scratch, record, info.record_count - 1)?;
            if info.content_hash.is_some() {
                let digest = record_digest(scratch.payload(pack), scratch.sizes(), extract).map_err(|e| {
                    Error::Decode { path: pack.path().to_path_buf(), record, source: e.into() }
                })?;
                hash.update(digest);
            }
        }
        match info.content_hash {
            Some(expected) if <[u8; 32]>::from(hash.finalize()) != expected => {
                Err(Error::checksum(pack.path(), Place::ContentHash))
            }
            _ => Ok(()),
        }
    }

    pub(crate) fn load(&self, scratch: &mut Scratch, record: u32, last: u32) -> Result<()> {
        scratch.load(self.pack()?, self.codec.as_deref(), record, last)
    }

    /// Buffers for one thread to read with.
    pub(crate) fn scratch(&self) -> Lease<'_, Scratch> {
        self.scratch.lease()
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        if let Some(thread) = self.opening.get_mut().unwrap_or_else(PoisonError::into_inner).take() {
            let _ = thread.join();
        }
    }
}

fn check_range(pack: &Pack, start: u32, count: u32) -> Result<()> {
    let item_count = pack.info().item_count;
    let end = u64::from(start) + u64::from(count);
    if end <= u64::from(item_count) {
        return Ok(());
    }
    let position = u64::from(start.max(item_count));
    Err(Error::OutOfRange { path: pack.path().to_path_buf(), position, item_count })
}

/// The last record of those that follow each other without a gap, beginning with that of the first position.
fn last_of_run(positions: &[u32], items_per_record: u32) -> u32 {
    let mut last = None;
    for record in positions.iter().map(|position| position / items_per_record) {
        match last {
            Some(end) if record > end + 1 => break,
            _ => last = Some(record),
        }
    }
    last.unwrap_or_default()
}

/// Cuts sorted positions into up to `parts` of about the same length, none of which share a record.
fn split_at_records(mut positions: &[u32], items_per_record: u32, parts: usize) -> Vec<&[u32]> {
    let target = positions.len().div_ceil(parts.max(1)).max(1);
    let mut out = Vec::new();
    while !positions.is_empty() {
        let mut cut = target.min(positions.len());
        let record = positions[cut - 1] / items_per_record;
        cut += positions[cut..].iter().take_while(|&&position| position / items_per_record == record).count();
        let (part, rest) = positions.split_at(cut);
        out.push(part);
        positions = rest;
    }
    out
}
