//! What is there: the files of a store by chunk and kind, and its window indexes. Sealed files only; one that is being
//! written bears another name.

use std::collections::BTreeMap;

use icecore_diskio::{Disk, PendingFile};
use icecore_ledger::{ChunkId, Geometry, LedgerRange};

use crate::{Coverage, Kind, Layout, Result};

/// The files of one chunk: their lengths in bytes, by [`Kind`].
pub type ChunkFiles = BTreeMap<Kind, u64>;

/// A listing of a store.
#[derive(Clone, Debug, Default)]
pub struct Inventory {
    /// Every chunk with at least one file.
    pub chunks: BTreeMap<ChunkId, ChunkFiles>,
    /// Every window index and its length in bytes.
    pub indexes: BTreeMap<Coverage, u64>,
}

impl Inventory {
    /// Lists a store. Names that are not the layout's are passed over.
    ///
    /// # Errors
    /// [`Error::Disk`](crate::Error::Disk) when a directory cannot be listed.
    pub fn scan(disk: &dyn Disk, layout: &Layout) -> Result<Inventory> {
        let mut found = Inventory::default();
        for dir in [Kind::Ledgers, Kind::Run, Kind::Events].map(|kind| layout.kind_dir(kind)) {
            for bucket in disk.list(&dir)? {
                for (kind, chunk) in
                    disk.list(&dir.join(&bucket))?.iter().filter_map(|name| Kind::of_name(name))
                {
                    if let Some(len) = disk.file_len(&layout.file(kind, chunk))? {
                        found.chunks.entry(chunk).or_default().insert(kind, len);
                    }
                }
            }
        }
        for name in disk.list(&layout.index_dir())? {
            let Some(window) = Layout::window_of_name(&name) else { continue };
            for (first, last) in disk
                .list(&layout.index_dir().join(&name))?
                .iter()
                .filter_map(|name| Layout::coverage_of_name(name))
            {
                let coverage = Coverage { window, first, last };
                if let Some(len) = disk.file_len(&layout.index(&coverage))? {
                    found.indexes.insert(coverage, len);
                }
            }
        }
        Ok(found)
    }

    /// The kinds of file that a chunk lacks. Its run is not missed where an index covers the chunk.
    pub fn missing(&self, chunk: ChunkId) -> Vec<Kind> {
        let files = self.chunks.get(&chunk);
        let has = |kind| files.is_some_and(|files| files.contains_key(&kind));
        let indexed = || self.indexes.keys().any(|coverage| coverage.covers(chunk));
        let needed = |kind| kind != Kind::Run || !indexed();
        Kind::ALL.into_iter().filter(|&kind| !has(kind) && needed(kind)).collect()
    }

    /// The ledgers that can be answered from, as the longest ranges without a hole.
    pub fn reach(&self, geometry: &Geometry) -> Vec<LedgerRange> {
        let held = self.chunks.iter().filter(|(_, files)| files.contains_key(&Kind::Ledgers));
        let ranges = held.filter_map(|(&chunk, _)| geometry.ledgers_of(chunk));
        let mut reach: Vec<LedgerRange> = Vec::new();
        for range in ranges {
            match reach.last_mut() {
                Some(last) if u64::from(last.last.0) + 1 == u64::from(range.first.0) => {
                    last.last = range.last
                }
                _ => reach.push(range),
            }
        }
        reach
    }
}

/// Removes what killed runs left half-written. Only under the build lock: nobody else may be writing.
pub(crate) fn sweep_partials(disk: &dyn Disk, layout: &Layout) -> Result<()> {
    let roots = [Kind::Ledgers, Kind::Run, Kind::Events].map(|kind| layout.kind_dir(kind));
    for root in roots.into_iter().chain([layout.index_dir()]) {
        for dir in disk.list(&root)?.into_iter().map(|name| root.join(name)) {
            for name in disk.list(&dir)?.into_iter().filter(|name| name.ends_with(PendingFile::SUFFIX)) {
                disk.remove(&dir.join(name))?;
            }
        }
    }
    Ok(())
}
