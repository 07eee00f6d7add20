//! Reading: everything that the header and the table say is checked when a file is opened, everything that a block says
//! when it is asked. [`verify`](Index::verify) checks the rest.

mod batch;
mod verify;

use std::{borrow::Cow, path::Path};

use icecore_diskio::{FileReader, ReadAt};

use crate::{
    Error, Result,
    algorithm::Damage,
    format::{
        FOOTER_BYTES, Footer, HEADER_BYTES, Header, Layout, MAX_BLOB_BYTES, TABLE_ENTRY_BYTES, TableEntry,
    },
    key::{Key, truncate},
};

/// What an index knows about a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hit {
    /// The key's number, below the number of keys and no other key's.
    pub rank: u64,
    /// What was added with the key; 0 where the index keeps no payload.
    pub payload: u64,
}

/// An index over any bytes that can be read at a position: a file, a memory map, a slice.
///
/// Bytes in memory are queried where they are. From a file, a query reads twice: the key's block (about a kilobyte, ten
/// with PTRHash) and its entry. The block table (10 bytes per block of about three thousand keys) is kept in memory.
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
    table: Vec<u8>,
}

/// Where a block is.
#[derive(Clone, Copy)]
struct Block {
    keys_before: u64,
    keys: u32,
    /// Offset in the file.
    blob_at: u64,
    blob_bytes: usize,
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
        let header = Header::decode(&head, source.path())?;
        let (len, user_at) = (source.len_bytes(), HEADER_BYTES as u64);
        let user_bytes = read_u32(&source, user_at)?;
        let layout = header.layout(user_bytes);
        let corrupt = |offset, what| Error::Corrupt { path: source.path().to_path_buf(), offset, what };
        if len < layout.metadata_at + FOOTER_BYTES as u64 {
            return Err(corrupt(len, "the file is shorter than its header says"));
        }
        // From here on, what is allocated is in the file.
        let user_metadata = read_vec(&source, user_at + 4, u64::from(user_bytes))?;
        if read_u32(&source, layout.table_at - 4)? != 0 {
            return Err(corrupt(
                layout.table_at - 4,
                "an algorithm configuration that version 1 does not have",
            ));
        }
        let table = read_vec(&source, layout.table_at, layout.payload_at - layout.table_at)?;
        let index = Index {
            footer: read_footer(&source, len - FOOTER_BYTES as u64)?,
            source,
            header,
            layout,
            user_metadata,
            table,
        };
        index.check_table(len)?;
        Ok(index)
    }

    /// The table must not decrease, no block or blob be too large, and the last entry fit the file's length.
    fn check_table(&self, len: u64) -> Result<()> {
        let (entries, _) = self.table.as_chunks::<TABLE_ENTRY_BYTES>();
        let max_keys = self.header.max_block_keys();
        let mut last = TableEntry::default();
        for (i, bytes) in entries.iter().enumerate() {
            let at = self.layout.table_at + (i * TABLE_ENTRY_BYTES) as u64;
            let entry = TableEntry::decode(bytes);
            if entry.keys_before < last.keys_before || entry.blob_at < last.blob_at {
                return Err(self.corrupt(at, "the block table decreases"));
            }
            if entry.keys_before - last.keys_before > if i == 0 { 0 } else { max_keys } {
                return Err(self.corrupt(at, "a block has more keys than a block may have"));
            }
            if i > 0 && entry.blob_at - last.blob_at > MAX_BLOB_BYTES {
                return Err(self.corrupt(at, "a block's metadata is longer than that of any block"));
            }
            if i == 0 && entry.blob_at != 0 {
                return Err(self.corrupt(at, "the block table does not begin at zero"));
            }
            last = entry;
        }
        let at = self.layout.payload_at - TABLE_ENTRY_BYTES as u64;
        if last.keys_before != self.header.keys {
            return Err(self.corrupt(at, "the block table does not end with all keys"));
        }
        if self.layout.metadata_at + last.blob_at + FOOTER_BYTES as u64 != len {
            return Err(self.corrupt(at, "the blocks do not end where the footer begins"));
        }
        Ok(())
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

    /// Looks up a key: `None` where it is certainly not in the index.
    ///
    /// # Errors
    /// [`Error::KeyLength`], [`Error::Corrupt`], and those of the disk.
    pub fn lookup(&self, key: &[u8]) -> Result<Option<Hit>> {
        let key = Key::new(key)?;
        match self.rank_of(key)? {
            Some(rank) => self.hit(key, rank),
            None => Ok(None),
        }
    }

    /// The rank of a key, whose fingerprint is not looked at: any rank, or `None`, for a key that is not in the index.
    ///
    /// # Errors
    /// [`Error::KeyLength`], [`Error::Corrupt`], and those of the disk.
    pub fn rank(&self, key: &[u8]) -> Result<Option<u64>> {
        self.rank_of(Key::new(key)?)
    }

    /// The payload of a rank, 0 where the index keeps none.
    ///
    /// # Errors
    /// [`Error::RankOutOfRange`], and those of the disk.
    pub fn payload(&self, rank: u64) -> Result<u64> {
        Ok(self.entry(rank)?.1)
    }

    /// The fingerprint of a rank, 0 where the index keeps none; see [`fingerprint`](crate::fingerprint()).
    ///
    /// # Errors
    /// [`Error::RankOutOfRange`], and those of the disk.
    pub fn fingerprint(&self, rank: u64) -> Result<u32> {
        Ok(self.entry(rank)?.0)
    }

    fn corrupt(&self, offset: u64, what: &'static str) -> Error {
        Error::Corrupt { path: self.source.path().to_path_buf(), offset, what }
    }

    /// A block below the header's number of blocks.
    #[inline]
    fn block(&self, block: u32) -> Block {
        let (entries, _) = self.table.as_chunks::<TABLE_ENTRY_BYTES>();
        let this = TableEntry::decode(&entries[block as usize]);
        let next = TableEntry::decode(&entries[block as usize + 1]);
        // Opening made sure that neither difference is negative, that a block has less than 2^32 keys, and that its
        // blob is inside the file and not long.
        Block {
            keys_before: this.keys_before,
            keys: (next.keys_before - this.keys_before) as u32,
            blob_at: self.layout.metadata_at + this.blob_at,
            blob_bytes: (next.blob_at - this.blob_at) as usize,
        }
    }

    #[inline]
    fn blob(&self, block: &Block) -> Result<Cow<'_, [u8]>> {
        match self.source.as_bytes() {
            Some(bytes) => {
                let blob = bytes.get(block.blob_at as usize..).and_then(|tail| tail.get(..block.blob_bytes));
                blob.map(Cow::Borrowed).ok_or_else(|| self.corrupt(block.blob_at, "a block lies outside"))
            }
            None => Ok(Cow::Owned(read_vec(&self.source, block.blob_at, block.blob_bytes as u64)?)),
        }
    }

    #[inline]
    fn rank_of(&self, key: Key) -> Result<Option<u64>> {
        let block = self.block(key.block(self.header.blocks));
        if block.keys == 0 {
            return Ok(None);
        }
        let blob = self.blob(&block)?;
        self.rank_in(&block, &blob, key)
    }

    #[inline]
    fn rank_in(&self, block: &Block, blob: &[u8], key: Key) -> Result<Option<u64>> {
        let slot = self.header.algorithm.slot(blob, block.keys, key, self.header.global_seed);
        let slot = slot.map_err(|Damage(what)| self.corrupt(block.blob_at, what))?;
        Ok(slot.map(|slot| block.keys_before + u64::from(slot)))
    }

    /// What is kept for a rank, if the fingerprint is the key's.
    #[inline]
    fn hit(&self, key: Key, rank: u64) -> Result<Option<Hit>> {
        let (fingerprint, payload) = self.entry(rank)?;
        let own = truncate(key.fingerprint(), self.header.fingerprint_bytes);
        Ok((fingerprint == own).then_some(Hit { rank, payload }))
    }

    /// The fingerprint and the payload of a rank.
    #[inline]
    fn entry(&self, rank: u64) -> Result<(u32, u64)> {
        if rank >= self.header.keys {
            return Err(Error::RankOutOfRange { rank, keys: self.header.keys });
        }
        let entry_bytes = self.header.entry_bytes();
        let at = self.layout.payload_at + rank * entry_bytes as u64;
        let mut entry = [0; 16];
        // In memory, the footer follows at the latest: sixteen bytes can be loaded and the others cut off.
        match self.source.as_bytes().and_then(|bytes| bytes.get(at as usize..)?.first_chunk::<16>()) {
            Some(bytes) => entry = *bytes,
            None if entry_bytes == 0 => {}
            None => self.source.read_exact_at(&mut entry[..entry_bytes], at)?,
        }
        let entry = u128::from_le_bytes(entry);
        let payload_bits = 8 * u32::from(self.header.payload_bytes);
        let payload = (entry >> (8 * self.header.fingerprint_bytes)) as u64;
        let payload = payload & u64::MAX.checked_shr(u64::BITS - payload_bits).unwrap_or(0);
        Ok((truncate(entry as u32, self.header.fingerprint_bytes), payload))
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
