use std::{
    path::{Path, PathBuf},
    sync::Arc,
    thread::{self, JoinHandle},
};

use crossbeam_channel::{Sender, bounded};
use icecore_diskio::PendingFile;
use sha2::{Digest, Sha256};

use crate::{
    Error, Options, Result, Summary,
    encode::Records,
    error::thread_error,
    format::{INDEX_GROUP, Info, TRAILER_BYTES, put_group},
};

/// The file being written: takes records in order, keeps their sizes, puts index and trailer behind them.
pub(crate) struct Sink {
    // First, so that it is dropped before the file it shares.
    writeback: Option<Writeback>,
    file: Arc<PendingFile>,
    path: PathBuf,
    offset: u64,
    record_count: u32,
    /// The sizes that do not make a group yet, and the groups of those that did.
    sizes: Vec<u32>,
    index: Vec<u8>,
    hash: Option<Sha256>,
    format: u32,
    items_per_record: u32,
}

impl Sink {
    pub(crate) fn new(file: PendingFile, options: &Options) -> Result<Self> {
        let path = file.path().to_path_buf();
        let file = Arc::new(file);
        let writeback = match options.bytes_per_sync {
            0 => None,
            every => Some(Writeback::start(&file, every)?),
        };
        Ok(Sink {
            writeback,
            file,
            path,
            offset: 0,
            record_count: 0,
            sizes: Vec::with_capacity(INDEX_GROUP),
            index: Vec::new(),
            hash: options.content_hash.then(Sha256::new),
            format: options.format,
            items_per_record: options.items_per_record,
        })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Writes the next records.
    pub(crate) fn write(&mut self, records: &Records) -> Result<()> {
        if !records.encoded.is_empty() {
            self.file.write_all_at(&records.encoded, self.offset)?;
            self.offset += records.encoded.len() as u64;
        }
        for &size in &records.sizes {
            self.sizes.push(size);
            if self.sizes.len() == INDEX_GROUP {
                self.end_group();
            }
        }
        self.record_count += records.sizes.len() as u32;
        if let Some(hash) = &mut self.hash {
            records.digests.iter().for_each(|digest| hash.update(digest));
        }
        if let Some(writeback) = &mut self.writeback {
            writeback.written(self.offset);
        }
        Ok(())
    }

    fn end_group(&mut self) {
        put_group(&self.sizes, &mut self.index);
        self.sizes.clear();
    }

    /// Writes what follows the records and gives the file its name.
    pub(crate) fn finish(mut self, item_count: u32, app_data: &[u8]) -> Result<Summary> {
        if !self.sizes.is_empty() {
            self.end_group();
        }
        let mut tail = std::mem::take(&mut self.index);
        tail.extend_from_slice(&crc32c::crc32c(&tail).to_le_bytes());
        let info = Info {
            format: self.format,
            record_count: self.record_count,
            item_count,
            items_per_record: self.items_per_record,
            index_bytes: self.u32_len("an offset index", &tail)?,
            app_data_bytes: self.u32_len("app data", app_data)?,
            content_hash: self.hash.take().map(|hash| hash.finalize().into()),
        };
        tail.reserve_exact(app_data.len() + TRAILER_BYTES);
        tail.extend_from_slice(app_data);
        tail.extend_from_slice(&info.encode());
        self.file.write_all_at(&tail, self.offset)?;
        let Sink { writeback, file, path, offset, record_count, .. } = self;
        drop(writeback);
        let file = Arc::into_inner(file).ok_or_else(|| thread_error(&path, "it still holds the file"))?;
        file.commit()?;
        let file_bytes = offset + tail.len() as u64;
        Ok(Summary { item_count, record_count, file_bytes, content_hash: info.content_hash })
    }

    fn u32_len(&self, what: &'static str, bytes: &[u8]) -> Result<u32> {
        let len = bytes.len() as u64;
        u32::try_from(len).map_err(|_| Error::too_large(&self.path, what, len))
    }
}

/// A thread that asks for early writeback, which may wait for the device. Owned by the sink, joined on drop.
struct Writeback {
    every_bytes: u64,
    started: u64,
    requests: Option<Sender<(u64, u64)>>,
    thread: Option<JoinHandle<()>>,
}

impl Writeback {
    fn start(file: &Arc<PendingFile>, every_bytes: u64) -> Result<Self> {
        let (requests, ranges) = bounded::<(u64, u64)>(1);
        let shared = Arc::clone(file);
        let work =
            move || ranges.iter().for_each(|(offset, len_bytes)| shared.start_writeback(offset, len_bytes));
        let thread = thread::Builder::new().name("packfile-writeback".into()).spawn(work);
        let thread = thread.map_err(|e| thread_error(file.path(), e))?;
        Ok(Writeback { every_bytes, started: 0, requests: Some(requests), thread: Some(thread) })
    }

    /// Passes on what was written since; a thread that is still busy gets it together with what comes next.
    fn written(&mut self, offset: u64) {
        let len_bytes = offset - self.started;
        let Some(requests) = self.requests.as_ref().filter(|_| len_bytes >= self.every_bytes) else { return };
        if requests.try_send((self.started, len_bytes)).is_ok() {
            self.started = offset;
        }
    }
}

impl Drop for Writeback {
    fn drop(&mut self) {
        self.requests = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
