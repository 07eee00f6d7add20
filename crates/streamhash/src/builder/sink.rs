use std::{path::Path, sync::Arc};

use icecore_diskio::{Disk, PendingFile};
use xxhash_rust::xxh64::Xxh64;

use super::Options;
use crate::{
    Result,
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
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= Self::BUFFER_BYTES { self.flush(file) } else { Ok(()) }
    }

    fn flush(&mut self, file: &PendingFile) -> Result<()> {
        if !self.buffer.is_empty() {
            file.write_all_at(&self.buffer, self.at)?;
            file.start_writeback(self.at, self.buffer.len() as u64);
            self.at = self.end();
            self.buffer.clear();
        }
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

    /// Writes what surrounds the blocks, and gives the file its name.
    pub(super) fn finish(mut self) -> Result<Summary> {
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
