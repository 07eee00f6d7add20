//! Reading: everything that the header and the table say is checked when a file is opened, everything that a block says
//! when it is asked. [`verify`](Index::verify) checks the rest.

mod batch;
#[cfg(target_arch = "x86_64")]
mod lanes;
mod lookup;
mod stream;
mod verify;

use std::path::Path;

use icecore_diskio::{FileReader, ReadAt};

use crate::{
    Error, Result,
    algorithm::{Damage, Decoder},
    bijection,
    format::{
        FOOTER_BYTES, Footer, HEADER_BYTES, Header, Layout, MAX_BLOB_BYTES, MAX_KEYS, TABLE_ENTRY_BYTES,
        TableEntry,
    },
};

pub use stream::Lookups;

/// What an index knows about a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hit {
    /// The key's number, below the number of keys and no other key's; `None` where the index has no ranks.
    pub rank: Option<u64>,
    /// What was added with the key; 0 where the index keeps no payload.
    pub payload: u64,
}

/// An index over any bytes that can be read at a position: a file, a memory map, a slice.
///
/// Bytes in memory are queried where they are. From a file, a query reads twice: what it needs of the key's block (about
/// a kilobyte; a byte with PTRHash, and one time in a hundred two more; a byte with Fast, and one time in fifty some seven
/// kilobytes) and the key's entry; with Compact a byte and 64 rows, and one time in twenty three pieces more. The block
/// table (16 bytes per block of about three thousand keys, or of 31 600, of 262 144, of 65 536) is kept in memory.
///
/// Whoever has many keys at hand asks for all of them at once: in memory, [`lookup_batch`](Index::lookup_batch) and
/// [`lookup_stream`](Index::lookup_stream) wait for many keys' memory at the same time.
///
/// A key that is not in the index is told from one that is by its fingerprint alone: without fingerprints most foreign
/// keys are given the rank of some other key.
#[derive(Debug)]
pub struct Index<S = FileReader> {
    source: S,
    header: Header,
    layout: Layout,
    footer: Footer,
    user_metadata: Vec<u8>,
    blocks: Box<[Block]>,
    /// Of every block, or of none.
    checkpoints: Box<[bijection::Checkpoints]>,
    decoder: Decoder,
    entries: lookup::EntryShape,
    /// For many keys at once.
    #[cfg(target_arch = "x86_64")]
    avx512: Option<lanes::Avx512>,
}

/// How many bits of a word say where in the file a blob begins.
const BLOB_AT_BITS: u32 = 44;

/// Where a block is: two words, so that a lookup loads one place. No file has 2^44 bytes: 2^40 entries of twelve, 2^40 of
/// metadata, and what is before them.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
struct Block {
    /// How many keys are in the blocks before it (40 bits), and in it.
    keys: u64,
    /// Where in the file its blob begins (44 bits), and how long it is.
    blob: u64,
}
const _: () = assert!(MAX_BLOB_BYTES < 1 << (u64::BITS - BLOB_AT_BITS));
const _: () = assert!(13 * (MAX_KEYS + 1) + (1 << 33) + (1 << 34) < 1 << BLOB_AT_BITS);

impl Block {
    #[inline(always)]
    fn keys_before(self) -> u64 {
        self.keys & MAX_KEYS
    }

    #[inline(always)]
    fn keys(self) -> u32 {
        (self.keys >> 40) as u32
    }

    /// Offset in the file.
    #[inline(always)]
    fn blob_at(self) -> u64 {
        self.blob & ((1 << BLOB_AT_BITS) - 1)
    }

    #[inline(always)]
    fn blob_bytes(self) -> usize {
        (self.blob >> BLOB_AT_BITS) as usize
    }

    /// As if the blob began so many bytes later; opening found it to be longer.
    fn tail(self, skip_bytes: usize) -> Block {
        let len = self.blob_bytes().saturating_sub(skip_bytes) as u64;
        Block { keys: self.keys, blob: (self.blob_at() + skip_bytes as u64) | len << BLOB_AT_BITS }
    }
}

impl Index<FileReader> {
    /// Opens a file.
    ///
    /// # Errors
    /// Those of [`from_source`](Index::from_source).
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::from_source(FileReader::open(path)?)
    }
}

impl<S: ReadAt> Index<S> {
    /// Opens an index in the given bytes.
    ///
    /// # Errors
    /// [`Error::NotAnIndex`], [`Error::UnsupportedVersion`], [`Error::UnknownAlgorithm`], [`Error::Corrupt`] where
    /// header, table and length contradict one another, and those of the disk.
    pub fn from_source(source: S) -> Result<Self> {
        let mut head = [0; HEADER_BYTES];
        source.read_exact_at(&mut head, 0)?;
        let mut header = Header::decode(&head, source.path())?;
        let (len, user_at) = (source.len_bytes(), HEADER_BYTES as u64);
        let user_bytes = read_u32(&source, user_at)?;
        let layout = header.layout(user_bytes);
        let corrupt = |offset, what| Error::Corrupt { path: source.path().to_path_buf(), offset, what };
        if len < layout.metadata_at + FOOTER_BYTES as u64 {
            return Err(corrupt(len, "the file is shorter than its header says"));
        }
        // From here on, what is allocated is in the file.
        let user_metadata = read_vec(&source, user_at + 4, u64::from(user_bytes))?;
        let config_bytes = header.algorithm.config_bytes();
        let config_at = layout.table_at - u64::from(config_bytes);
        if read_u32(&source, config_at - 4)? != config_bytes {
            return Err(corrupt(
                config_at - 4,
                "an algorithm configuration of a length that it does not have",
            ));
        }
        let config = read_vec(&source, config_at, config_bytes.into())?;
        header.decode_config(&config, &user_metadata).map_err(|Damage(what)| corrupt(config_at, what))?;
        let table = read_vec(&source, layout.table_at, layout.payload_at - layout.table_at)?;
        let mut index = Index {
            decoder: Decoder::new(&header),
            entries: lookup::EntryShape::new(&header),
            #[cfg(target_arch = "x86_64")]
            avx512: lanes::Avx512::detect(),
            footer: read_footer(&source, len - FOOTER_BYTES as u64)?,
            source,
            header,
            layout,
            user_metadata,
            blocks: Box::default(),
            checkpoints: Box::default(),
        };
        index.blocks = index.check_table(&table, len)?;
        Ok(index)
    }

    /// The table must not decrease, no block or blob be too large or of the wrong length, and the last entry fit the
    /// file's length.
    fn check_table(&self, table: &[u8], len: u64) -> Result<Box<[Block]>> {
        let (entries, _) = table.as_chunks::<TABLE_ENTRY_BYTES>();
        let max_keys = self.header.max_block_keys();
        let mut blocks = Vec::with_capacity(entries.len());
        let mut last = None;
        for (i, bytes) in entries.iter().enumerate() {
            let at = self.layout.table_at + (i * TABLE_ENTRY_BYTES) as u64;
            let entry = TableEntry::decode(bytes);
            let Some(TableEntry { keys_before, blob_at }) = last.replace(entry) else {
                if entry != TableEntry::default() {
                    return Err(self.corrupt(at, "the block table does not begin at zero"));
                }
                continue;
            };
            let keys = entry.keys_before.checked_sub(keys_before);
            let (Some(keys), Some(blob_bytes)) = (keys, entry.blob_at.checked_sub(blob_at)) else {
                return Err(self.corrupt(at, "the block table decreases"));
            };
            if keys > max_keys {
                return Err(self.corrupt(at, "a block has more keys than a block may have"));
            }
            if blob_bytes > MAX_BLOB_BYTES {
                return Err(self.corrupt(at, "a block's metadata is longer than that of any block"));
            }
            let checked = self.decoder.check_len(blob_bytes, keys as u32);
            checked.map_err(|Damage(what)| self.corrupt(at, what))?;
            blocks.push(Block {
                keys: keys << 40 | keys_before,
                blob: (self.layout.metadata_at + blob_at) | blob_bytes << BLOB_AT_BITS,
            });
        }
        let last = last.unwrap_or_default();
        let at = self.layout.payload_at - TABLE_ENTRY_BYTES as u64;
        if last.keys_before != self.header.keys {
            return Err(self.corrupt(at, "the block table does not end with all keys"));
        }
        if self.layout.metadata_at + last.blob_at + FOOTER_BYTES as u64 != len {
            return Err(self.corrupt(at, "the blocks do not end where the footer begins"));
        }
        Ok(blocks.into())
    }

    /// The same, read with portable code alone.
    #[cfg(any(test, feature = "fuzz"))]
    pub(crate) fn into_portable(self) -> Self {
        Index {
            decoder: self.decoder.into_portable(),
            #[cfg(target_arch = "x86_64")]
            avx512: None,
            ..self
        }
    }

    /// Where the blob of some block is, and how long it is.
    #[cfg(any(test, feature = "fuzz"))]
    pub(crate) fn blob_range(&self, number: usize) -> (usize, usize) {
        let block = self.blocks[number % self.blocks.len()];
        (block.blob_at() as usize, block.blob_bytes())
    }

    /// Makes lookups in a Bijection index about twice as quick, for a kilobyte of memory per block of about three
    /// thousand keys (two and two thirds bits a key): reads all blocks, checks them, and keeps the sizes of all buckets and
    /// more places to start from than the file has. Other indexes stay as they are.
    ///
    /// # Errors
    /// [`Error::Corrupt`], and those of the disk.
    pub fn with_checkpoints(mut self) -> Result<Self> {
        if let Decoder::Bijection(_) = self.decoder {
            let checkpoints = self.blocks.iter().map(|&block| {
                let blob = self.blob(self.source.as_bytes(), block)?;
                let checkpoints = bijection::checkpoints(&blob, block.keys());
                checkpoints.map_err(|Damage(what)| self.corrupt(block.blob_at(), what))
            });
            self.checkpoints = checkpoints.collect::<Result<_>>()?;
        }
        Ok(self)
    }

    /// How many keys the index holds.
    pub fn key_count(&self) -> u64 {
        self.header.keys
    }

    /// What the index was built with.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Where its regions begin.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The bytes that its builder kept in it.
    pub fn user_metadata(&self) -> &[u8] {
        &self.user_metadata
    }

    /// The bytes that it is read from.
    pub fn source(&self) -> &S {
        &self.source
    }

    #[cold]
    fn corrupt(&self, offset: u64, what: &'static str) -> Error {
        Error::Corrupt { path: self.source.path().to_path_buf(), offset, what }
    }
}

fn read_u32(source: &impl ReadAt, at: u64) -> Result<u32> {
    let mut bytes = [0; 4];
    source.read_exact_at(&mut bytes, at)?;
    Ok(u32::from_le_bytes(bytes))
}

/// Reads bytes that are known to lie inside the source.
fn read_vec(source: &impl ReadAt, at: u64, len: u64) -> Result<Vec<u8>> {
    let mut bytes = vec![0; len as usize];
    source.read_exact_at(&mut bytes, at)?;
    Ok(bytes)
}

fn read_footer(source: &impl ReadAt, at: u64) -> Result<Footer> {
    let mut bytes = [0; FOOTER_BYTES];
    source.read_exact_at(&mut bytes, at)?;
    let what = "reserved bytes of the footer are not zero";
    Footer::decode(&bytes).ok_or_else(|| Error::Corrupt {
        path: source.path().to_path_buf(),
        offset: at + 16,
        what,
    })
}
