//! How many chunks are kept: the configuration's number, unless the store was told another one, in a row of its catalog.

use std::path::Path;

use icecore_catalog::{Catalog, CatalogReader, Key, RETENTION_ROW, State};
use icecore_ledger::ChunkId;
use serde::Serialize;

use crate::{Result, plan::Scope};

/// What the store was told, if it was.
///
/// # Errors
/// [`Error::Catalog`](crate::Error::Catalog), also for a row that is no number.
pub fn stored(catalog: &Catalog) -> Result<Option<u32>> {
    number(&catalog.layout().catalog_dir(), catalog.row(RETENTION_ROW)?.as_deref())
}

/// The same of a store that this process does not have open.
///
/// # Errors
/// [`Error::Catalog`](crate::Error::Catalog) for a row that is no number.
pub fn stored_beside(reader: &CatalogReader) -> Result<Option<u32>> {
    number(reader.path(), reader.row(RETENTION_ROW))
}

fn number(path: &Path, value: Option<&[u8]>) -> Result<Option<u32>> {
    let Some(value) = value else { return Ok(None) };
    let number = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
    number.map(Some).ok_or_else(|| {
        let (path, key) = (path.to_path_buf(), RETENTION_ROW.to_owned());
        let what = "it is not a number of chunks".to_owned();
        icecore_catalog::Error::Malformed { path, key, what }.into()
    })
}

/// Tells the store, or lets it forget.
///
/// # Errors
/// [`Error::Catalog`](crate::Error::Catalog).
pub fn store(catalog: &Catalog, chunks: Option<u32>) -> Result<()> {
    Ok(catalog.update_rows(|rows| match chunks {
        Some(chunks) => rows.put(RETENTION_ROW, chunks.to_string().as_bytes()),
        None => rows.delete(RETENTION_ROW),
    })?)
}

/// What another number of chunks to keep would do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct RetentionChange {
    /// How many are kept now; 0 is all.
    pub from_chunks: u32,
    /// How many would be.
    pub to_chunks: u32,
    /// The first chunk that is kept now.
    pub from_floor: u32,
    /// The first one that would be.
    pub to_floor: u32,
    /// Keys that would be pruned with their files, beyond what is pruned anyway.
    pub pruned: Vec<String>,
    /// Chunks that would be fetched or built, beyond what is missing anyway.
    pub built: Vec<u32>,
}

impl RetentionChange {
    /// What keeping `chunks` would do to a store in this state.
    pub fn of(scope: &Scope, state: &State, complete: Option<ChunkId>, chunks: u32) -> Self {
        let other = Scope { retention_chunks: chunks, ..*scope };
        let anyway: Vec<Key> = scope.prunes(state, complete, complete);
        let pruned = other.prunes(state, complete, complete).into_iter().filter(|key| !anyway.contains(key));
        let missing: Vec<ChunkId> =
            scope.resolve(state, complete).chunks.iter().map(|build| build.chunk).collect();
        let plan = other.resolve(state, complete);
        let built = plan.chunks.iter().map(|build| build.chunk).filter(|chunk| !missing.contains(chunk));
        RetentionChange {
            from_chunks: scope.retention_chunks,
            to_chunks: chunks,
            from_floor: scope.floor(complete).0,
            to_floor: other.floor(complete).0,
            pruned: pruned.map(|key| key.to_string()).collect(),
            built: built.map(|chunk| chunk.0).collect(),
        }
    }
}
