//! Repairs, through the write protocol, on a store that nobody works on.

use std::{fmt, fs, io, path::PathBuf};

use icecore_diskio::{Disk, Error as DiskError, Op, RealDisk};
use icecore_ledger::ChunkId;

use super::Finding;
use crate::{Catalog, HotState, Key, Result};

/// What repairs a finding. None of them takes away what a read needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Repair {
    /// Removes a file that no key has.
    RemoveFile(PathBuf),
    /// Removes a key's files, then the key.
    RemoveKey(Key),
    /// Removes a hot chunk's directory, then its key.
    RemoveHot(ChunkId),
}

impl fmt::Display for Repair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Repair::RemoveFile(path) => write!(f, "remove {}", path.display()),
            Repair::RemoveKey(key) => write!(f, "remove the files of {key}, and the key"),
            Repair::RemoveHot(chunk) => write!(f, "remove the hot chunk {chunk}, and its key"),
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
    /// Repairs what can be. Only for a store that no engine works on: the open catalog keeps other processes away. Findings
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
            Repair::RemoveKey(key) => {
                if catalog.state().file(key).is_some() {
                    catalog.demote(&[*key])?;
                }
                catalog.destroy(key)
            }
            Repair::RemoveHot(chunk) => remove_hot(catalog, *chunk),
        }
    }
}

fn remove_hot(catalog: &Catalog, chunk: ChunkId) -> Result<()> {
    if catalog.state().hot(chunk) != Some(HotState::Transient) {
        let path = catalog.layout().hot_chunk(chunk);
        if catalog.state().hot(chunk).is_none() && fs::symlink_metadata(path).is_err() {
            return Ok(());
        }
        catalog.hot_transient(chunk)?;
    }
    let path = catalog.layout().hot_chunk(chunk);
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
