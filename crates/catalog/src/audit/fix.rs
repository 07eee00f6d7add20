//! Repairs, through the write protocol, on a store that nobody works on.

use std::{fmt, fs, io, path::PathBuf};

use icecore_diskio::{Disk, Error as DiskError, Op, RealDisk};
use icecore_ledger::ChunkId;

use super::Finding;
use crate::{Catalog, Error, FileState, HotState, Key, Result};

/// What repairs a finding. None of them takes away what a read needs, as long as the audit was told of as many chunks to keep
/// as the daemon is, and the key still says what it said then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Repair {
    /// Removes a file that no key has.
    RemoveFile(PathBuf),
    /// Removes the files of a key in this state, then the key.
    RemoveKey(Key, FileState),
    /// Removes the directory of a hot chunk in this state, then its key; of one without a key only the directory.
    RemoveHot(ChunkId, Option<HotState>),
}

impl fmt::Display for Repair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Repair::RemoveFile(path) => write!(f, "remove {}", path.display()),
            Repair::RemoveKey(key, _) => write!(f, "remove the files of {key}, and the key"),
            Repair::RemoveHot(chunk, _) => write!(f, "remove the hot chunk {chunk}, and its key"),
        }
    }
}

/// A repair, and how it went.
#[derive(Debug)]
pub struct Repaired {
    /// What was wrong.
    pub finding: Finding,
    /// What was done about it.
    pub repair: Repair,
    /// Whether it could be.
    pub result: Result<()>,
}

impl Finding {
    /// Repairs what can be. Only for a store that no engine works on, and best of what an audit on this same handle found: the
    /// open catalog keeps other processes away. What says something else than when it was found is left as it is. Findings
    /// without a repair are passed over; to repair twice does nothing more.
    pub fn repair_all(findings: &[Finding], catalog: &Catalog) -> Vec<Repaired> {
        let repair = |finding: &Finding| {
            let repair = finding.repair.clone()?;
            tracing::info!(%repair, %finding, "audit repairs");
            let result = repair.apply(catalog);
            Some(Repaired { finding: finding.clone(), repair, result })
        };
        findings.iter().filter_map(repair).collect()
    }
}

impl Repair {
    fn apply(&self, catalog: &Catalog) -> Result<()> {
        match self {
            Repair::RemoveFile(path) => {
                let disk = catalog.disk();
                // A key may have come to it since it was found.
                let sealed =
                    path.to_str().and_then(|path| path.strip_suffix(icecore_diskio::PendingFile::SUFFIX));
                let own = Key::of_path(catalog.layout(), path).and_then(|key| catalog.state().file(&key));
                if (sealed.is_some() || own.is_none()) && disk.file_len(path)?.is_some() {
                    disk.remove(path)?;
                    disk.sync_dir(path.parent().unwrap_or(catalog.layout().root()))?;
                }
                Ok(())
            }
            Repair::RemoveKey(key, found) => {
                match catalog.state().file(key) {
                    // Gone, or on its way out already.
                    None | Some(FileState::Pruning) => {}
                    Some(now) if now == *found => catalog.demote(&[*key])?,
                    now => return Err(changed(*key, Some(found.name()), now.map(FileState::name))),
                }
                catalog.destroy(key)
            }
            Repair::RemoveHot(chunk, found) => remove_hot(catalog, *chunk, *found),
        }
    }
}

/// What was found is not so any more.
fn changed(key: Key, found: Option<&'static str>, now: Option<&'static str>) -> Error {
    let (found, now) = (found.unwrap_or("none"), now.unwrap_or("none"));
    Error::ChangedSince { key, found, now }
}

fn remove_hot(catalog: &Catalog, chunk: ChunkId, found: Option<HotState>) -> Result<()> {
    let path = catalog.layout().hot_chunk(chunk);
    let now = catalog.state().hot(chunk);
    match now {
        None if fs::symlink_metadata(&path).is_err() => return Ok(()),
        now if now != found => {
            return Err(changed(Key::Hot(chunk), found.map(HotState::name), now.map(HotState::name)));
        }
        Some(HotState::Transient) => {}
        Some(HotState::Ready) | None => catalog.hot_transient(chunk)?,
    }
    match fs::remove_dir_all(&path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => {
            return Err(DiskError::from_io(Op::Remove, &path, e).into());
        }
        _ => {}
    }
    match RealDisk.sync_dir(&catalog.layout().hot_dir()) {
        Err(e) if !e.is_not_found() => return Err(e.into()),
        _ => {}
    }
    catalog.hot_delete(chunk)
}
