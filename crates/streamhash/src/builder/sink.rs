use std::{path::Path, sync::Arc};

use icecore_diskio::{Disk, PendingFile};
use xxhash_rust::xxh64::Xxh64;

use super::Options;
use crate::{
    Error, Result,
    format::{Footer, Header, Layout, TableEntry},
};

/// What a build made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Summary {
    /// Keys in the index.
    pub keys: u64,
    /// Blocks they fell into.
    pub blocks: u32,
    /// Bytes of all the blocks' metadata: what finding ranks costs.
    pub metadata_bytes: u64,
    /// Bytes of the whole file.
    pub file_bytes: u64,
}

/// The file: takes solved blocks in order, writes payload and metadata as two streams, the rest at the end.
pub(super) struct Sink {
    file: PendingFile,
    header: Header,
    user_metadata: Vec<u8>,
    layout: Layout,
    table: Vec<u8>,
    payload: Stream,
    metadata: Stream,
    payload_hash: Xxh64,
    metadata_hash: Xxh64,
    keys: u64,
}

/// Some consecutive blocks, solved.
#[derive(Default)]
pub(super) struct Part {
    pub(super) first_block: u32,
    pub(super) blocks: Vec<Block>,
    pub(super) blobs: Vec<u8>,
    pub(super) payload: Payload,
}

/// What is told of a block beside its blob and its payload.
pub(super) struct Block {
    pub(super) keys: u64,
    pub(super) blob_bytes: usize,
    pub(super) payload_hash: u64,
}

/// Payload bytes in memory that is cleared only once.
#[derive(Default)]
pub(super) struct Payload {
    bytes: Vec<u8>,
    len: usize,
}

impl Payload {
    /// The next `len` bytes, which hold anything.
    pub(super) fn next(&mut self, len: usize) -> &mut [u8] {
        let at = self.len;
        self.len += len;
        if self.bytes.len() < self.len {
            self.bytes.resize(self.len, 0);
        }
        &mut self.bytes[at..self.len]
    }
}

impl Part {
    /// Forgets what was in it.
    pub(super) fn begin(&mut self, first_block: u32) {
        self.first_block = first_block;
        self.blocks.clear();
        self.blobs.clear();
        self.payload.len = 0;
    }

    pub(super) fn keys(&self) -> u64 {
        self.blocks.iter().map(|block| block.keys).sum()
    }
}

/// Bytes on their way to one place after another of a file.
struct Stream {
    at: u64,
    buffer: Vec<u8>,
}

impl Stream {
    /// Little enough to stay in a near cache until it is written.
    const BUFFER_BYTES: usize = 256 << 10;

    fn end(&self) -> u64 {
        self.at + self.buffer.len() as u64
    }

    fn append(&mut self, bytes: &[u8], file: &PendingFile) -> Result<()> {
        if self.buffer.is_empty() && bytes.len() >= Self::BUFFER_BYTES {
            return self.write(bytes, file);
        }
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= Self::BUFFER_BYTES { self.flush(file) } else { Ok(()) }
    }

    fn write(&mut self, bytes: &[u8], file: &PendingFile) -> Result<()> {
        file.write_all_at(bytes, self.at)?;
        file.start_writeback(self.at, bytes.len() as u64);
        self.at += bytes.len() as u64;
        Ok(())
    }

    fn flush(&mut self, file: &PendingFile) -> Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let mut buffer = std::mem::take(&mut self.buffer);
        self.write(&buffer, file)?;
        buffer.clear();
        self.buffer = buffer;
        Ok(())
    }
}

impl Sink {
    pub(super) fn create(
        disk: &Arc<dyn Disk>,
        path: &Path,
        header: Header,
        options: &Options,
    ) -> Result<Self> {
        let user_metadata = options.user_metadata.clone();
        // The length was checked with the other options.
        let layout = header.layout(user_metadata.len() as u32);
        Ok(Sink {
            file: PendingFile::create(disk, path, options.if_exists)?,
            header,
            user_metadata,
            layout,
            table: Vec::new(),
            payload: Stream { at: layout.payload_at, buffer: Vec::new() },
            metadata: Stream { at: layout.metadata_at, buffer: Vec::new() },
            payload_hash: Xxh64::new(0),
            metadata_hash: Xxh64::new(0),
            keys: 0,
        })
    }

    fn table_entry(&self) -> TableEntry {
        TableEntry { keys_before: self.keys, blob_at: self.metadata.end() - self.layout.metadata_at }
    }

    /// Takes the next block: how many keys it has, its blob, its payload slice and that slice's hash.
    pub(super) fn append(&mut self, keys: u64, blob: &[u8], payload: &[u8], payload_hash: u64) -> Result<()> {
        self.table.extend_from_slice(&self.table_entry().encode());
        self.keys += keys;
        self.payload_hash.update(&payload_hash.to_le_bytes());
        self.metadata_hash.update(blob);
        self.payload.append(payload, &self.file)?;
        self.metadata.append(blob, &self.file)
    }

    /// Takes the next blocks.
    pub(super) fn append_part(&mut self, part: &Part) -> Result<()> {
        let mut blob_at = self.table_entry().blob_at;
        for block in &part.blocks {
            self.table.extend_from_slice(&TableEntry { keys_before: self.keys, blob_at }.encode());
            blob_at += block.blob_bytes as u64;
            self.keys += block.keys;
            self.payload_hash.update(&block.payload_hash.to_le_bytes());
        }
        // What is too much would run into the next region.
        self.check_count(self.keys <= self.header.keys)?;
        self.metadata_hash.update(&part.blobs);
        self.payload.append(&part.payload.bytes[..part.payload.len], &self.file)?;
        self.metadata.append(&part.blobs, &self.file)
    }

    fn check_count(&self, fine: bool) -> Result<()> {
        let (expected, added) = (self.header.keys, self.keys);
        if fine { Ok(()) } else { Err(Error::KeyCountMismatch { expected, added }) }
    }

    /// Writes what surrounds the blocks, and gives the file its name.
    ///
    /// # Errors
    /// [`Error::KeyCountMismatch`] where keys are missing, and those of the disk.
    pub(super) fn finish(mut self) -> Result<Summary> {
        self.check_count(self.keys == self.header.keys)?;
        self.payload.flush(&self.file)?;
        self.metadata.flush(&self.file)?;
        let last = self.table_entry();
        self.table.extend_from_slice(&last.encode());
        let mut head = self.header.encode().to_vec();
        head.extend_from_slice(&(self.user_metadata.len() as u32).to_le_bytes());
        let mut config = self.header.encode_config(&self.user_metadata);
        head.append(&mut self.user_metadata);
        head.extend_from_slice(&(config.len() as u32).to_le_bytes());
        head.append(&mut config);
        head.append(&mut self.table);
        debug_assert_eq!(head.len() as u64, self.layout.payload_at);
        let footer =
            Footer { payload_hash: self.payload_hash.digest(), metadata_hash: self.metadata_hash.digest() }
                .encode();
        self.file.write_all_at(&footer, self.metadata.at)?;
        self.file.write_all_at(&head, 0)?;
        self.file.commit()?;
        Ok(Summary {
            keys: self.keys,
            blocks: self.header.blocks,
            metadata_bytes: last.blob_at,
            file_bytes: self.metadata.at + footer.len() as u64,
        })
    }
}
