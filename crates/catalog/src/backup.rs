//! A backup: the catalog, not the files of chunks, which can be built again from their source.
//!
//! ```text
//! DEST/rocksdb/       a checkpoint of the database: every key, the pins
//! DEST/backup.json    format version, time, generation, and the length of every file that was frozen
//! ```
//!
//! It is made under another name beside its destination, checked there, and then renamed, which decides whether the
//! destination was free. A restore compares the lengths with what it finds and has the rest built again.

use std::{
    collections::BTreeMap,
    fs::{self, OpenOptions, Permissions},
    io::Write,
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use icecore_diskio::{Disk, Error as DiskError, IfExists, Op, RealDisk};
use serde::{Deserialize, Serialize};

use crate::{
    Catalog, Error, FileState, Key, Result, State,
    catalog::{mode_of, refuse_writable_by_all},
    load::{Loaded, peek},
    mutants, steps, tree,
};

pub(crate) const DATABASE: &str = "rocksdb";
const LIST: &str = "backup.json";
const BACKUP_VERSION: u32 = 1;
/// A list of a million files.
const MAX_LIST_BYTES: u64 = 256 << 20;

/// What a backup says of itself.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct List {
    backup: u32,
    made: String,
    pub(crate) generation: String,
    /// The lengths of a frozen key's files, in the order of its paths.
    pub(crate) files: BTreeMap<String, Vec<u64>>,
}

/// A backup that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackupReport {
    /// Where it is.
    pub path: PathBuf,
    /// How many keys it has.
    pub keys: usize,
    /// The bytes of its files.
    pub bytes: u64,
}

impl Catalog {
    /// Makes a backup of the catalog at a path where there is nothing, beside writers and readers. Files of chunks are listed
    /// with their lengths, not copied. When this fails, nothing is at the destination.
    ///
    /// # Errors
    /// [`Error::BackupDestinationExists`], [`Error::NoParent`], [`Error::WritableByOthers`], [`Error::CopyDiffers`]; those of
    /// the disk and the database.
    pub fn backup(&self, destination: impl AsRef<Path>) -> Result<BackupReport> {
        let destination = destination.as_ref();
        let parent = tree::parent(destination);
        if !parent.is_dir() {
            return Err(Error::NoParent { path: parent });
        }
        // Where names are their owners' alone, as in /tmp, nobody can touch ours.
        if mode_of(&parent)? & 0o1000 == 0 {
            refuse_writable_by_all(&parent)?;
        }
        let staged = tempfile::Builder::new()
            .prefix(".icecore-backup-")
            .permissions(Permissions::from_mode(if mutants::on("backup_loose") { 0o755 } else { 0o700 }))
            .tempdir_in(&parent)
            .map_err(|e| DiskError::from_io(Op::CreateDir, &parent, e))?;
        let report = self.fill(staged.path())?;
        let disk = &**self.disk();
        let mut named = false;
        let renamed = steps::take(disk, steps::BACKUP_RENAME, || {
            let if_exists = if mutants::on("backup_clobbers") { IfExists::Replace } else { IfExists::Fail };
            match RealDisk.rename(staged.path(), destination, if_exists) {
                Err(DiskError::Exists { path }) => Err(Error::BackupDestinationExists { path }),
                renamed => {
                    named = renamed.is_ok();
                    Ok(renamed?)
                }
            }
        });
        let synced =
            renamed.and_then(|()| steps::take(disk, steps::BACKUP_SYNC, || Ok(RealDisk.sync_dir(&parent)?)));
        match synced {
            Ok(()) => {
                // Its name is another one now.
                let _ = staged.keep();
                Ok(BackupReport { path: destination.to_path_buf(), ..report })
            }
            Err(error) => {
                if named && !mutants::on("backup_left_behind") {
                    tree::remove(destination)?;
                }
                Err(error)
            }
        }
    }

    /// Fills an empty directory with a checked and durable copy.
    fn fill(&self, dir: &Path) -> Result<BackupReport> {
        let database = dir.join(DATABASE);
        let writer = self.writer()?;
        steps::take(&**self.disk(), steps::BACKUP_STAGE, || Ok(self.store().checkpoint(&database)?))?;
        let original = Loaded {
            pins: self.pins().as_ref().clone(),
            generation: self.generation().to_owned(),
            state: self.state().as_ref().clone(),
        };
        drop(writer);
        let list = List {
            backup: BACKUP_VERSION,
            made: jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            generation: original.generation.clone(),
            files: self.lengths(&original.state)?,
        };
        let path = dir.join(LIST);
        let text = serde_json::to_vec_pretty(&list).unwrap_or_default();
        let mut options = OpenOptions::new();
        let file = options.write(true).create_new(true).mode(0o600).open(&path);
        let written = file.and_then(|mut file| {
            file.write_all(&text)?;
            file.sync_all()
        });
        written.map_err(|e| DiskError::from_io(Op::Write, &path, e))?;
        if !mutants::on("backup_unchecked") {
            check_copy(&database, &original)?;
        }
        tree::sync(&database)?;
        RealDisk.sync_dir(dir)?;
        let bytes = tree::files(&database)?.iter().map(|(_, len)| len).sum::<u64>() + text.len() as u64;
        Ok(BackupReport { path: dir.to_path_buf(), keys: original.state.keys().count(), bytes })
    }

    /// The lengths of all files that are frozen; of what went meanwhile none.
    fn lengths(&self, state: &State) -> Result<BTreeMap<String, Vec<u64>>> {
        let mut found = BTreeMap::new();
        for key in state.keys().filter(|key| state.file(key) == Some(FileState::Frozen)) {
            if let Some(lengths) = lengths(&**self.disk(), self.layout(), &key)? {
                found.insert(key.to_string(), lengths);
            }
        }
        Ok(found)
    }
}

/// The lengths of a key's files, when all are there.
pub(crate) fn lengths(disk: &dyn Disk, layout: &icecore_cold::Layout, key: &Key) -> Result<Option<Vec<u64>>> {
    let lengths = key.paths(layout).into_iter().map(|path| Ok(disk.file_len(&path)?));
    lengths.collect()
}

/// Refuses a copy that does not open, or says something else than its original.
pub(crate) fn check_copy(copy: &Path, original: &Loaded) -> Result<()> {
    let differs = |what: String| Error::CopyDiffers { path: copy.to_path_buf(), what };
    let found = match peek(copy) {
        Ok(Some(found)) => found,
        Ok(None) => return Err(differs("it is empty".into())),
        Err(e) if e.is_retryable() => return Err(e),
        Err(e) => return Err(differs(e.to_string())),
    };
    if found == *original {
        return Ok(());
    }
    let mut words = original.state.keys().chain(found.state.keys());
    let key = words.find(|key| original.state.word(key) != found.state.word(key));
    Err(differs(key.map_or_else(|| "other pins".into(), |key| format!("another word for {key}"))))
}

/// Reads a backup: its rows, all checked, and its list. Writes nothing.
pub(crate) fn read(source: &Path) -> Result<(Loaded, Option<List>)> {
    let not = |what: String| Error::NotABackup { path: source.to_path_buf(), what };
    let loaded = match peek(&source.join(DATABASE)) {
        Ok(Some(loaded)) => loaded,
        Ok(None) => return Err(not(format!("it has no catalog in {DATABASE}/"))),
        Err(e @ Error::Newer { .. }) => return Err(e),
        Err(e) if e.is_retryable() => return Err(e),
        Err(e) => return Err(not(e.to_string())),
    };
    let path = source.join(LIST);
    let list = match fs::metadata(&path) {
        // What a restore has put aside has none.
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok((loaded, None)),
        Err(e) => return Err(DiskError::from_io(Op::Open, &path, e).into()),
        Ok(meta) if meta.len() > MAX_LIST_BYTES => return Err(not(format!("{LIST} is too long"))),
        Ok(_) => fs::read(&path).map_err(|e| DiskError::from_io(Op::Read, &path, e))?,
    };
    let list: List = serde_json::from_slice(&list).map_err(|e| not(format!("{LIST}: {e}")))?;
    if list.backup != BACKUP_VERSION {
        return Err(not(format!("{LIST} has version {}, this program knows {BACKUP_VERSION}", list.backup)));
    }
    if list.generation != loaded.generation {
        return Err(not(format!("{LIST} is of another catalog than the one beside it")));
    }
    Ok((loaded, Some(list)))
}
