use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::{
    Error, Options, RecordCodec, Result,
    error::BoxError,
    format::put_group,
    hash::{Extract, record_digest},
};

/// Encoded records, one after the other.
#[derive(Default)]
pub(crate) struct Records {
    pub(crate) encoded: Vec<u8>,
    /// The encoded size of each.
    pub(crate) sizes: Vec<u32>,
    /// The digest of each, where they are wanted.
    pub(crate) digests: Vec<[u8; 32]>,
}

/// Items on their way to becoming records. The buffers go round: a batch is cleared and used again.
#[derive(Default)]
pub(crate) struct Batch {
    /// The number of the first record of this batch.
    pub(crate) first_record: u32,
    pub(crate) payload: Vec<u8>,
    /// The size of each item in the payload.
    pub(crate) sizes: Vec<u32>,
    pub(crate) records: Records,
}

/// Large enough that a system call or a hand-over between threads is lost in it, small enough for the cache.
const FULL_BYTES: usize = 256 << 10;
/// What an item or record costs a batch besides its bytes, so that empty ones fill it too.
const ENTRY_BYTES: usize = 8;

impl Batch {
    pub(crate) fn is_full(&self) -> bool {
        let bytes = self.payload.len() + self.records.encoded.len();
        bytes + (self.sizes.len() + self.records.sizes.len()) * ENTRY_BYTES >= FULL_BYTES
    }

    pub(crate) fn clear(&mut self) {
        self.payload.clear();
        self.sizes.clear();
        self.records.encoded.clear();
        self.records.sizes.clear();
        self.records.digests.clear();
    }
}

/// Turns items into records; the same on every thread.
pub(crate) struct Encoder {
    items_per_record: usize,
    codec: Option<Arc<dyn RecordCodec>>,
    content_hash: bool,
    extract: Option<Extract>,
    path: PathBuf,
}

impl Encoder {
    pub(crate) fn new(path: &Path, options: &Options) -> Self {
        Encoder {
            items_per_record: options.items_per_record as usize,
            codec: options.codec.start(),
            content_hash: options.content_hash,
            extract: options.extract.clone(),
            path: path.to_path_buf(),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn items_per_record(&self) -> usize {
        self.items_per_record
    }

    /// Encodes all gathered items of a batch. The last record may be short only at the end of the file.
    pub(crate) fn encode_batch(&self, batch: &mut Batch) -> Result<()> {
        let mut rest = batch.payload.as_slice();
        for sizes in batch.sizes.chunks(self.items_per_record) {
            let len = sizes.iter().map(|&size| size as usize).sum();
            let (payload, after) = rest.split_at(len);
            self.encode_record(payload, sizes, batch.first_record, &mut batch.records)?;
            rest = after;
        }
        batch.payload.clear();
        batch.sizes.clear();
        Ok(())
    }

    /// Encodes one record. `first_record` is the number of the first of `out`.
    pub(crate) fn encode_record(
        &self,
        payload: &[u8],
        sizes: &[u32],
        first_record: u32,
        out: &mut Records,
    ) -> Result<()> {
        let record = first_record.saturating_add(out.sizes.len() as u32);
        let start = out.encoded.len();
        match &self.codec {
            None => out.encoded.extend_from_slice(payload),
            Some(codec) => codec
                .encode(payload, &mut out.encoded)
                .and_then(|()| {
                    if out.encoded.len() < start { Err("it shortened its output".into()) } else { Ok(()) }
                })
                .map_err(|e: BoxError| Error::Encode { path: self.path.clone(), record, source: e.into() })?,
        }
        if self.items_per_record > 1 {
            let group_start = out.encoded.len();
            put_group(sizes, &mut out.encoded);
            let crc = crc32c::crc32c(&out.encoded[group_start..]);
            out.encoded.extend_from_slice(&crc.to_le_bytes());
        }
        let len = out.encoded.len() - start;
        let size =
            u32::try_from(len).map_err(|_| Error::too_large(&self.path, "an encoded record", len as u64))?;
        out.sizes.push(size);
        if self.content_hash {
            let digest = record_digest(payload, sizes, self.extract.as_deref())
                .map_err(|e| Error::Extract { path: self.path.clone(), record, source: e.into() })?;
            out.digests.push(digest);
        }
        Ok(())
    }
}
