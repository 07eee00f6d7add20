//! Putting a backup in the place of the catalog, so that a crash at any moment leaves the old one or the new one:
//!
//! ```text
//! catalog/rocksdb           the catalog
//! catalog/restore.new       the copy: made, checked, reconciled with the files that are there, all durable
//! catalog/restore.json      from when this is there the copy is what counts; whoever opens the store next goes on:
//!   rocksdb     → before-restore-TIME-N/rocksdb, or restore.old when the old catalog is not to be kept
//!   restore.new → rocksdb
//!   restore.json removed; restore.old removed
//! ```
//!
//! Without `restore.json` what is called `restore.…` is of no use and removed.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use icecore_cold::{Kind, Layout, Manifest};
use icecore_diskio::{Disk, Error as DiskError, IfExists, Op, PendingFile, RealDisk};
use icecore_rockstore::{Batch, Store};
use serde::{Deserialize, Serialize};

use crate::{
    Error, FileState, HotState, Key, Result, State,
    backup::{self, List, check_copy},
    catalog::{new_generation, prepare},
    claim::{Claim, OwnerLock},
    load::{self, FAMILIES, Loaded, ROWS, peek},
    mutants, pins, steps, tree,
};

/// How a restore treats what was there.
#[derive(Clone, Copy, Debug)]
pub struct RestoreOptions {
    /// Keep the old catalog, in a directory from which it can be restored in turn.
    pub keep_previous: bool,
}

impl Default for RestoreOptions {
    fn default() -> Self {
        RestoreOptions { keep_previous: true }
    }
}

/// What a restore did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestoreReport {
    /// The store's new token.
    pub generation: String,
    /// Where the old catalog is kept; a backup itself.
    pub kept: Option<PathBuf>,
    /// Keys that the backup trusts and whose files are gone or have another length: to be built again.
    pub distrusted: Vec<Key>,
    /// Keys of what is there and the backup does not know: to be removed.
    pub unknown: Vec<Key>,
}

/// The record that the copy is what counts.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Intent {
    version: u32,
    /// The directory for the old catalog; `None` when it is not to be kept.
    keep: Option<String>,
}

const INTENT_VERSION: u32 = 1;

/// The most bytes that a record has.
const MAX_INTENT_BYTES: u64 = 4 << 10;

/// The names that a restore uses.
struct Places {
    dir: PathBuf,
}

impl Places {
    fn of(layout: &Layout) -> Self {
        Places { dir: layout.root().join("catalog") }
    }

    fn live(&self) -> PathBuf {
        self.dir.join(backup::DATABASE)
    }

    fn staged(&self) -> PathBuf {
        self.dir.join("restore.new")
    }

    fn discarded(&self) -> PathBuf {
        self.dir.join("restore.old")
    }

    fn intent(&self) -> PathBuf {
        self.dir.join("restore.json")
    }

    /// Where the old catalog goes.
    fn aside(&self, intent: &Intent) -> PathBuf {
        match &intent.keep {
            Some(name) => self.dir.join(name).join(backup::DATABASE),
            None => self.discarded(),
        }
    }

    fn read_intent(&self) -> Result<Option<Intent>> {
        let path = self.intent();
        let wrong = |what: String| Error::Malformed { path: path.clone(), key: String::new(), what };
        match RealDisk.file_len(&path)? {
            None => return Ok(None),
            Some(len) if len > MAX_INTENT_BYTES => return Err(wrong("it is too long".into())),
            Some(_) => {}
        }
        let text = fs::read(&path).map_err(|e| DiskError::from_io(Op::Read, &path, e))?;
        let intent: Intent = serde_json::from_slice(&text).map_err(|e| wrong(e.to_string()))?;
        if intent.version != INTENT_VERSION {
            return Err(wrong(format!("its version {} is not known", intent.version)));
        }
        match &intent.keep {
            Some(name) if !name.starts_with("before-restore-") || name.contains('/') => {
                Err(wrong(format!("{name:?} is no name for a directory")))
            }
            _ => Ok(Some(intent)),
        }
    }

    fn write_intent(&self, intent: &Intent) -> Result<()> {
        let text = serde_json::to_vec(intent).unwrap_or_default();
        let disk: Arc<dyn Disk> = Arc::new(RealDisk);
        let file = PendingFile::create(&disk, &self.intent(), IfExists::Replace)?;
        file.write_all_at(&text, 0)?;
        Ok(file.commit()?)
    }

    fn remove_intent(&self) -> Result<()> {
        if self.intent().exists() {
            RealDisk.remove(&self.intent())?;
        }
        Ok(RealDisk.sync_dir(&self.dir)?)
    }

    /// A name for the old catalog that nothing has: two in one second do not collide.
    fn new_keep(&self) -> String {
        let time = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ");
        let names = (1u32..).map(|number| format!("before-restore-{time}-{number}"));
        let mut free = names.filter(|name| !self.dir.join(name).exists());
        free.next().unwrap_or_default()
    }
}

/// True while a restore is recorded and not finished.
pub(crate) fn is_pending(layout: &Layout) -> Result<bool> {
    Ok(Places::of(layout).read_intent()?.is_some())
}

/// Finishes, or takes back, what a restore that was cut short has left. Under the owner lock.
pub(crate) fn finish(disk: &dyn Disk, layout: &Layout) -> Result<()> {
    let places = Places::of(layout);
    let Some(intent) = places.read_intent()? else {
        tree::remove(&places.staged())?;
        return tree::remove(&places.discarded());
    };
    tracing::warn!(path = %places.dir.display(), "a restore was cut short: finishing it");
    // The copy was whole and durable before the record was written.
    let damaged = match peek(&places.staged()) {
        Ok(Some(_)) => false,
        Ok(None) => places.staged().exists() || !places.live().exists(),
        Err(e) if e.is_retryable() => return Err(e),
        Err(_) => true,
    };
    if damaged && !mutants::on("damaged_copy_installed") {
        tracing::error!(path = %places.staged().display(), "the restored copy is damaged: the old catalog stays");
        return undo(&places, &intent);
    }
    complete(disk, &places, &intent)
}

/// Goes from the record to the end, from wherever it stands.
fn complete(disk: &dyn Disk, places: &Places, intent: &Intent) -> Result<()> {
    let (live, staged) = (places.live(), places.staged());
    if staged.exists() {
        if live.exists() {
            steps::take(disk, steps::RESTORE_ASIDE, || {
                let aside = places.aside(intent);
                if intent.keep.is_some() {
                    crate::catalog::make_dir(&tree::parent(&aside), 0o700)?;
                }
                tree::rename(&live, &aside)
            })?;
        }
        steps::take(disk, steps::RESTORE_SWAP, || tree::rename(&staged, &live))?;
    }
    steps::take(disk, steps::RESTORE_DONE, || places.remove_intent())?;
    tree::remove(&places.discarded())
}

/// Takes a recorded restore back, when the copy has not got its name yet.
fn undo(places: &Places, intent: &Intent) -> Result<()> {
    let (live, aside) = (places.live(), places.aside(intent));
    if !live.exists() && aside.exists() {
        tree::rename(&aside, &live)?;
    }
    places.remove_intent()?;
    if intent.keep.is_some() {
        // Empty, or in use: then it is none of ours.
        let _ = fs::remove_dir(tree::parent(&aside));
    }
    tree::remove(&places.staged())
}

/// Puts a backup in the place of a store's catalog. What the backup trusts and is not there any more, or has another length,
/// becomes freezing; what is there and the backup does not know gets a key under which it is removed: so the next start
/// brings keys and files together. When this fails, nothing was changed, but for [`Error::RestoreUnfinished`].
///
/// # Errors
/// [`Error::NotABackup`], [`Error::ForeignBackup`], [`Error::Newer`]; [`Error::RestoreDestinationLocked`],
/// [`Error::AlreadyOpen`]; [`Error::CopyDiffers`]; [`Error::RestoreUnfinished`]; those of the disk and the database.
pub fn restore(
    disk: &Arc<dyn Disk>,
    layout: &Layout,
    source: impl AsRef<Path>,
    options: RestoreOptions,
) -> Result<RestoreReport> {
    let source = source.as_ref();
    layout.check()?;
    let places = Places::of(layout);
    if same_place(&source.join(backup::DATABASE), &places.live()) {
        let what = "it is the catalog itself".to_owned();
        return Err(Error::NotABackup { path: source.to_path_buf(), what });
    }
    let (loaded, list) = backup::read(source)?;
    let dir = prepare(layout)?;
    let _claim = Claim::take(&dir)?;
    let _owner = match OwnerLock::take(&dir)? {
        Err(holder) if !mutants::on("restore_unlocked") => {
            return Err(Error::RestoreDestinationLocked { path: layout.root().to_path_buf(), holder });
        }
        owner => owner.ok(),
    };
    finish(&**disk, layout)?;
    if !mutants::on("restore_foreign") {
        check_destination(&**disk, layout, source, &loaded)?;
    }
    let staged = places.staged();
    let made = stage(disk, layout, source, &loaded, list.as_ref());
    let (generation, distrusted, unknown) = match made {
        Ok(made) => made,
        Err(error) => {
            tree::remove(&staged)?;
            return Err(error);
        }
    };
    let keep = (options.keep_previous && places.live().exists()).then(|| places.new_keep());
    let intent = Intent { version: INTENT_VERSION, keep };
    if mutants::on("restore_removes_first") {
        tree::remove(&places.live())?;
    }
    let done = steps::take(&**disk, steps::RESTORE_INTENT, || {
        if mutants::on("restore_unrecorded") { Ok(()) } else { places.write_intent(&intent) }
    });
    if let Err(error) = done.and_then(|()| complete(&**disk, &places, &intent)) {
        return Err(taken_back(layout, &places, &intent, error));
    }
    tracing::info!(source = %source.display(), generation, "catalog restored");
    let kept = intent.keep.map(|name| places.dir.join(name));
    Ok(RestoreReport { generation, kept, distrusted, unknown })
}

/// After a failure past the record: the old catalog is back, or it is said that it is not.
fn taken_back(layout: &Layout, places: &Places, intent: &Intent, error: Error) -> Error {
    let unfinished =
        |source| Error::RestoreUnfinished { path: layout.root().to_path_buf(), source: Box::new(source) };
    if !places.staged().exists() {
        return unfinished(error);
    }
    match undo(places, intent) {
        Ok(()) => error,
        Err(_) => unfinished(error),
    }
}

fn same_place(a: &Path, b: &Path) -> bool {
    matches!((fs::canonicalize(a), fs::canonicalize(b)), (Ok(a), Ok(b)) if a == b)
}

/// Refuses the backup of another store. A catalog that cannot be read says nothing: that is what backups are for.
fn check_destination(disk: &dyn Disk, layout: &Layout, source: &Path, backup: &Loaded) -> Result<()> {
    let foreign = |name, found: String, asked: String| {
        Err(Error::ForeignBackup { path: source.to_path_buf(), name, found, asked })
    };
    let geometry = |pins: &icecore_ledger::Geometry| {
        format!("{} ledgers and {} chunks", pins.ledgers_per_chunk(), pins.chunks_per_window())
    };
    let network = |found: &Option<String>, ours: &Option<String>| matches!((found, ours), (Some(found), Some(ours)) if found != ours);
    let manifest = Manifest::read(disk, layout)?.map(|manifest| (manifest.geometry, manifest.network));
    let live = match peek(&layout.catalog_dir()) {
        Ok(live) => live,
        Err(e) if e.is_retryable() => return Err(e),
        Err(e) => {
            tracing::warn!(error = %e, "the catalog to be replaced cannot be read");
            None
        }
    };
    if let Some(live) = &live
        && live.pins.earliest != backup.pins.earliest
    {
        let (found, ours) = (backup.pins.earliest, live.pins.earliest);
        return foreign("earliest ledger", found.to_string(), ours.to_string());
    }
    let of_live = live.map(|live| (live.pins.geometry, live.pins.network));
    for (ours, named) in manifest.into_iter().chain(of_live) {
        let found = &backup.pins;
        if found.geometry != ours {
            return foreign("geometry", geometry(&found.geometry), geometry(&ours));
        }
        if network(&found.network, &named) {
            return foreign("network", format!("{:?}", found.network), format!("{named:?}"));
        }
    }
    Ok(())
}

/// Makes the copy that is to take over: checked again where it lies, since its source may have changed meanwhile, then
/// reconciled with what is on disk and given a token of its own.
fn stage(
    disk: &Arc<dyn Disk>,
    layout: &Layout,
    source: &Path,
    loaded: &Loaded,
    list: Option<&List>,
) -> Result<(String, Vec<Key>, Vec<Key>)> {
    let staged = Places::of(layout).staged();
    steps::take(&**disk, steps::RESTORE_STAGE, || tree::copy(&source.join(backup::DATABASE), &staged))?;
    if !mutants::on("restore_copy_unchecked") {
        check_copy(&staged, loaded)?;
    }
    let (distrusted, unknown) = if mutants::on("restore_unreconciled") {
        (Vec::new(), Vec::new())
    } else {
        (distrusted(&**disk, layout, &loaded.state, list)?, unknown(&**disk, layout, loaded)?)
    };
    let generation =
        if mutants::on("generation_kept") { loaded.generation.clone() } else { new_generation()? };
    let mut batch = Batch::new();
    batch.put(ROWS, pins::GENERATION.as_bytes(), generation.as_bytes());
    let words = distrusted.iter().map(|key| match key {
        Key::Hot(_) => (key, HotState::Transient.name()),
        key => (key, FileState::Freezing.name()),
    });
    let others = unknown.iter().map(|key| match key {
        Key::Hot(_) => (key, HotState::Transient.name()),
        key => (key, FileState::Pruning.name()),
    });
    for (key, word) in words.chain(others) {
        batch.put(ROWS, key.to_string().as_bytes(), word.as_bytes());
    }
    let store = Store::open(&staged, FAMILIES, &load::options())?;
    let written = store.write(&batch).and_then(|()| store.flush());
    store.close();
    written?;
    tree::sync(&staged)?;
    RealDisk.sync_dir(&tree::parent(&staged))?;
    Ok((generation, distrusted, unknown))
}

/// The keys that a backup trusts and the disk does not bear out.
fn distrusted(disk: &dyn Disk, layout: &Layout, state: &State, list: Option<&List>) -> Result<Vec<Key>> {
    let mut found = Vec::new();
    for key in state.keys() {
        let borne_out = match key {
            Key::Hot(chunk) => state.hot(chunk) != Some(HotState::Ready) || layout.hot_chunk(chunk).is_dir(),
            key if state.file(&key) == Some(FileState::Frozen) => {
                let lengths = backup::lengths(disk, layout, &key)?;
                let listed = list.and_then(|list| list.files.get(&key.to_string()));
                lengths.is_some_and(|lengths| listed.is_none_or(|listed| *listed == lengths))
            }
            _ => true,
        };
        if !borne_out {
            found.push(key);
        }
    }
    Ok(found)
}

/// The keys of what is on disk, whole or half-written, and not in a backup.
fn unknown(disk: &dyn Disk, layout: &Layout, loaded: &Loaded) -> Result<Vec<Key>> {
    let mut found: BTreeSet<Key> = on_disk(disk, layout)?.into_iter().map(|(key, _)| key).collect();
    found.retain(|key| key.misfit(&loaded.pins.geometry).is_none() && loaded.state.word(key).is_none());
    Ok(found.into_iter().collect())
}

/// Everything in a store's trees that has a key's name, whole or half-written, in no order. Whatever else lies there is none of
/// ours, and is not looked into: file systems and people have their own.
pub(crate) fn on_disk(disk: &dyn Disk, layout: &Layout) -> Result<Vec<(Key, PathBuf)>> {
    let mut found = Vec::new();
    let mut look_at = |path: PathBuf, sealed: PathBuf| {
        found.extend(Key::of_path(layout, &sealed).map(|key| (key, path)));
    };
    let is_bucket: fn(&str) -> bool = |name| name.len() == 5 && name.bytes().all(|c| c.is_ascii_digit());
    let is_window: fn(&str) -> bool = |name| Layout::window_of_name(name).is_some();
    let chunks = [Kind::Ledgers, Kind::Events, Kind::Run].map(|kind| (layout.kind_dir(kind), is_bucket));
    for (tree, is_dir_name) in chunks.into_iter().chain([(layout.index_dir(), is_window)]) {
        for dir in disk.list(&tree)?.into_iter().filter(|name| is_dir_name(name)) {
            let dir = tree.join(dir);
            for name in disk.list(&dir)? {
                look_at(dir.join(&name), dir.join(name.strip_suffix(PendingFile::SUFFIX).unwrap_or(&name)));
            }
        }
    }
    for name in RealDisk.list(&layout.hot_dir())? {
        let path = layout.hot_dir().join(name);
        look_at(path.clone(), path);
    }
    Ok(found)
}
