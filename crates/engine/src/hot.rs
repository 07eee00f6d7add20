//! Hot chunks come and go: a key before the directory's first file, and a key until its last one is gone.
//!
//! ```text
//! make      transient → directory → fsync its parent → ready → shown to readers
//! remove    hidden from readers → transient → nobody holds it: close → remove the directory → fsync its parent → no key
//! ```

use std::{path::Path, sync::Arc};

use icecore_catalog::HotState;
use icecore_diskio::{Disk, RealDisk};
use icecore_hotchunk::HotChunk;
use icecore_ledger::ChunkId;
use icecore_rockstore::Store;

use crate::{Error, Result, mutants, shared::Shared, steps};

impl Shared {
    /// Says that a durable step is about to be taken.
    pub(crate) fn before(&self, step: &str) -> Result<()> {
        Ok(self.disk().step(&format!("before {step}"))?)
    }

    /// Says that a durable step was taken.
    pub(crate) fn after(&self, step: &str) -> Result<()> {
        Ok(self.disk().step(&format!("after {step}"))?)
    }

    /// The hot chunk of a `ready` key, opened where it is not; a store that is gone or damaged is lost.
    pub(crate) fn ready_hot(&self, chunk: ChunkId) -> Result<Arc<HotChunk>> {
        if let Some(open) = self.hot.load().get(&chunk) {
            return Ok(Arc::clone(open));
        }
        let path = self.catalog.layout().hot_chunk(chunk);
        let ledgers = self.ledgers_of(chunk)?;
        let open = || {
            HotChunk::open_with_progress(&path, ledgers, &self.hot_options, &mut |warm| {
                tracing::debug!(%chunk, rows = warm.rows, of = warm.total, "building the event index");
            })
        };
        self.before(steps::OPEN)?;
        let opened = open();
        self.after(steps::OPEN)?;
        let opened = match opened {
            Ok(opened) => Arc::new(opened),
            // The machine is in trouble, or somebody else has it: nothing is lost.
            Err(e) if e.is_retryable() => return Err(e.into()),
            Err(icecore_hotchunk::Error::Store(e @ icecore_rockstore::Error::Locked { .. })) => {
                return Err(icecore_hotchunk::Error::from(e).into());
            }
            Err(source) => return Err(Error::HotStoreLost { chunk, path, source: Box::new(source) }),
        };
        tracing::info!(%chunk, last = ?opened.max_committed()?.map(|seq| seq.0), "hot chunk opened");
        self.change_hot(|map| {
            map.insert(chunk, Arc::clone(&opened));
        });
        Ok(opened)
    }

    /// Makes the hot chunk of a key that is not ready. What an earlier try left is removed first.
    pub(crate) fn make_hot(&self, chunk: ChunkId) -> Result<Arc<HotChunk>> {
        let (layout, ledgers) = (self.catalog.layout(), self.ledgers_of(chunk)?);
        let (path, dir) = (layout.hot_chunk(chunk), layout.hot_dir());
        if !mutants::on("hot_key_after_directory") {
            self.catalog.hot_transient(chunk)?;
        }
        self.before(steps::CREATE)?;
        destroy(&path)?;
        RealDisk.create_dir_all(&dir)?;
        let made = Arc::new(HotChunk::create(&path, ledgers, &self.hot_options)?);
        self.after(steps::CREATE)?;
        RealDisk.sync_dir(&dir)?;
        if mutants::on("hot_key_after_directory") {
            self.catalog.hot_transient(chunk)?;
        }
        self.catalog.hot_ready(chunk)?;
        tracing::info!(%chunk, first = ledgers.first.0, last = ledgers.last.0, "hot chunk made");
        self.change_hot(|map| {
            map.insert(chunk, Arc::clone(&made));
        });
        Ok(made)
    }

    /// The hot chunk that is ingested into.
    pub(crate) fn live_hot(&self, chunk: ChunkId) -> Result<Arc<HotChunk>> {
        match self.state().hot(chunk) {
            Some(HotState::Ready) => self.ready_hot(chunk),
            Some(HotState::Transient) | None => self.make_hot(chunk),
        }
    }

    /// Hides a hot chunk from readers and marks it as going; gives it where it is open.
    pub(crate) fn hide_hot(&self, chunk: ChunkId) -> Result<Option<Arc<HotChunk>>> {
        if self.state().hot(chunk) != Some(HotState::Transient) {
            self.catalog.hot_transient(chunk)?;
        }
        let open = self.hot.load().get(&chunk).map(Arc::clone);
        if open.is_some() {
            self.change_hot(|map| {
                map.remove(&chunk);
            });
        }
        Ok(open)
    }

    /// Removes a hot chunk's directory and then its key. Nobody may have it open.
    pub(crate) fn remove_hot(&self, chunk: ChunkId) -> Result<()> {
        let layout = self.catalog.layout();
        if mutants::on("hot_key_before_directory") {
            self.catalog.hot_delete(chunk)?;
        }
        self.before(steps::REMOVE)?;
        destroy(&layout.hot_chunk(chunk))?;
        self.after(steps::REMOVE)?;
        match RealDisk.sync_dir(&layout.hot_dir()) {
            Err(e) if e.is_not_found() => {}
            synced => synced?,
        }
        if !mutants::on("hot_key_before_directory") {
            self.catalog.hot_delete(chunk)?;
        }
        tracing::info!(%chunk, "hot chunk removed");
        Ok(())
    }
}

fn destroy(path: &Path) -> Result<()> {
    Ok(Store::destroy(path).map_err(icecore_hotchunk::Error::from)?)
}
