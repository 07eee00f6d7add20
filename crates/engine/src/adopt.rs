//! Taking in what was built elsewhere: the files of a directory that `icecore build` made, each checked against its name, the
//! store's geometry and its own checksums, then linked or copied under the catalog's write protocol.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    path::{Path, PathBuf},
    sync::Arc,
};

use icecore_catalog::{Artifact, Catalog, FileState, Key};
use icecore_cold::{Control, Coverage, Error as ColdError, Inventory, Layout, Store};
use icecore_diskio::{Disk, Error as DiskError, IfExists, Op, PendingFile, first_difference};
use icecore_ledger::ChunkId;
use serde::Serialize;

use crate::{Error, Result};

/// How much is copied at once.
const BLOCK_BYTES: usize = 1 << 20;

/// How files are taken in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AdoptBy {
    /// By hard links where source and store are on one file system, else by copies. The source must not be written to later.
    #[default]
    LinkOrCopy,
    /// By copies.
    Copy,
}

/// What was taken in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct AdoptReport {
    /// Keys that are frozen now.
    pub adopted: Vec<String>,
    /// How many keys were frozen before.
    pub already: u64,
    /// Files of chunks before the store's earliest ledger, which were passed over.
    pub outside: u64,
    /// Files that were linked.
    pub linked: u64,
    /// Files that were copied.
    pub copied: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Files that were left out, each with what is wrong with it.
    pub refused: Vec<(PathBuf, String)>,
}

/// Takes in what a directory has and the catalog does not. Idempotent: what is frozen is passed over, and what was cut short
/// is done again. A bad file is named and left out, with whatever belongs to it.
///
/// # Errors
/// [`Error::Cold`] with [`NotAStore`](ColdError::NotAStore), [`GeometryChanged`](ColdError::GeometryChanged) or
/// [`NetworkChanged`](ColdError::NetworkChanged) for a directory that does not fit, [`Error::Cancelled`]; those of the disk and
/// the catalog.
pub fn adopt(catalog: &Catalog, from: &Path, by: AdoptBy, control: &Control) -> Result<AdoptReport> {
    let store = Store::open_on(Arc::clone(catalog.disk()), Layout::new(from))?;
    check(catalog, &store)?;
    let mut report = AdoptReport::default();
    let mut bad = BTreeSet::new();
    store.verify(control, &mut |checked| {
        if let Err(error) = checked.result {
            // What is missing is made from what is there.
            if !matches!(error, ColdError::Missing { .. } | ColdError::NotIndexed { .. }) {
                report.refused.push((checked.path.clone(), error.to_string()));
                bad.insert(checked.path);
            }
        }
    })?;
    let (layout, inventory) = (store.layout(), store.inventory());
    let mut adoption = Adoption { catalog, layout, inventory, bad, by, taken: BTreeSet::new(), report };
    for &chunk in store.inventory().chunks.keys() {
        if control.is_cancelled() {
            return Err(Error::Cancelled);
        }
        adoption.chunk(chunk)?;
    }
    for &coverage in store.inventory().indexes.keys() {
        adoption.index(coverage)?;
    }
    Ok(adoption.report)
}

/// Refuses a directory of another geometry or network.
fn check(catalog: &Catalog, store: &Store) -> Result<()> {
    let (pins, manifest) = (catalog.pins(), store.manifest());
    let path = store.layout().manifest();
    if manifest.geometry != pins.geometry {
        let asked = (pins.geometry.ledgers_per_chunk(), pins.geometry.chunks_per_window());
        return Err(ColdError::GeometryChanged { path, found: manifest.geometry, asked }.into());
    }
    match (&manifest.network, &pins.network) {
        (Some(found), Some(asked)) if found != asked => {
            let (found, asked) = (found.clone(), asked.clone());
            Err(ColdError::NetworkChanged { path, found, asked }.into())
        }
        _ => Ok(()),
    }
}

struct Adoption<'a> {
    catalog: &'a Catalog,
    layout: &'a Layout,
    inventory: &'a Inventory,
    bad: BTreeSet<PathBuf>,
    by: AdoptBy,
    /// The keys of chunks that were taken in.
    taken: BTreeSet<Key>,
    report: AdoptReport,
}

impl Adoption<'_> {
    fn chunk(&mut self, chunk: ChunkId) -> Result<()> {
        let pins = self.catalog.pins();
        let Some(files) = self.inventory.chunks.get(&chunk) else { return Ok(()) };
        if pins.geometry.ledgers_of(chunk).is_none_or(|ledgers| ledgers.first < pins.earliest) {
            self.report.outside += files.len() as u64;
            return Ok(());
        }
        // What follows from ledgers that are refused is not believed either.
        if Key::Chunk(chunk, Artifact::Ledgers).paths(self.layout).iter().any(|path| self.bad.contains(path))
        {
            return Ok(());
        }
        for artifact in Artifact::ALL {
            let key = Key::Chunk(chunk, artifact);
            let state = self.catalog.state();
            let whole = artifact.kinds().iter().all(|kind| files.contains_key(kind));
            let needed = artifact != Artifact::TxHash || !state.covered(chunk);
            if state.has(chunk, artifact) {
                self.report.already += 1;
            } else if whole && needed && !key.paths(self.layout).iter().any(|path| self.bad.contains(path)) {
                self.catalog.build(&[key], || {
                    // Beside the borrow of the catalog.
                    place_all(self.catalog, self.layout, &key, self.by, &mut self.report)
                })?;
                self.report.adopted.push(key.to_string());
                self.taken.insert(key);
            }
        }
        Ok(())
    }

    /// An index is taken in where it is of the ledgers that are there, all of them, and where it is not narrower than the one
    /// that is there. Else the engine makes one.
    fn index(&mut self, coverage: Coverage) -> Result<()> {
        let (key, state) = (Key::Index(coverage), self.catalog.state());
        if state.indexes.get(&coverage) == Some(&FileState::Frozen) {
            self.report.already += 1;
            return Ok(());
        }
        let better = state.frozen_index(coverage.window).is_none_or(|has| coverage.contains(&has));
        if !better || self.bad.contains(&self.layout.index(&coverage)) {
            return Ok(());
        }
        for chunk in coverage.chunks() {
            if !state.has(chunk, Artifact::Ledgers) || !self.is_same_pack(chunk)? {
                return Ok(());
            }
        }
        self.catalog.build_index_above(
            coverage,
            || ChunkId(0),
            || place_all(self.catalog, self.layout, &key, self.by, &mut self.report),
        )?;
        self.report.adopted.push(key.to_string());
        Ok(())
    }

    /// Whether the store has a chunk's ledgers from here: the directory's index says nothing of others.
    fn is_same_pack(&self, chunk: ChunkId) -> Result<bool> {
        let key = Key::Chunk(chunk, Artifact::Ledgers);
        if self.taken.contains(&key) {
            return Ok(true);
        }
        let disk = self.catalog.disk();
        for (from, to) in key.paths(self.layout).iter().zip(key.paths(self.catalog.layout())) {
            if disk.file_len(from)?.is_none() || self.bad.contains(from) {
                return Ok(false);
            }
            let (theirs, ours) = (disk.open(from)?, disk.open(&to)?);
            if theirs.len_bytes() != ours.len_bytes() || first_difference(&*theirs, &*ours)?.is_some() {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

fn place_all(
    catalog: &Catalog,
    from: &Layout,
    key: &Key,
    by: AdoptBy,
    report: &mut AdoptReport,
) -> Result<()> {
    let disk = catalog.disk();
    for (from, to) in key.paths(from).iter().zip(key.paths(catalog.layout())) {
        if let Some(dir) = to.parent() {
            disk.create_dir_all(dir)?;
        }
        report.bytes += disk.file_len(from)?.unwrap_or(0);
        if by == AdoptBy::LinkOrCopy && link(disk, from, &to)? {
            report.linked += 1;
        } else {
            copy(disk, from, &to)?;
            report.copied += 1;
        }
    }
    Ok(())
}

/// Gives a file a second name, durably; `false` where that cannot be.
fn link(disk: &Arc<dyn Disk>, from: &Path, to: &Path) -> Result<bool> {
    let mut partial = to.as_os_str().to_owned();
    partial.push(PendingFile::SUFFIX);
    let partial = PathBuf::from(partial);
    if disk.file_len(&partial)?.is_some() {
        disk.remove(&partial)?;
    }
    if fs::hard_link(from, &partial).is_err() {
        return Ok(false);
    }
    let synced = File::open(&partial).and_then(|file| file.sync_all());
    synced.map_err(|e| DiskError::from_io(Op::Sync, &partial, e))?;
    disk.rename(&partial, to, IfExists::Replace)?;
    disk.sync_dir(to.parent().unwrap_or(Path::new("")))?;
    Ok(true)
}

fn copy(disk: &Arc<dyn Disk>, from: &Path, to: &Path) -> Result<()> {
    let source = disk.open(from)?;
    let pending = PendingFile::create(disk, to, IfExists::Replace)?;
    let (len, mut at) = (source.len_bytes(), 0);
    let mut block = vec![0; BLOCK_BYTES];
    while at < len {
        let part = (len - at).min(BLOCK_BYTES as u64) as usize;
        source.read_exact_at(&mut block[..part], at)?;
        pending.write_all_at(&block[..part], at)?;
        at += part as u64;
    }
    Ok(pending.commit()?)
}
