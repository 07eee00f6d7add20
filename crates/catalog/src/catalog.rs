//! The open catalog. The order of opening:
//!
//! ```text
//! what is asked for makes sense → directories, owner-only → claim → owner lock → a restore cut short is finished
//! → look at what is there, through a handle that writes nothing: version, rows, pins; of a first start, that no files are there
//! → open, or create → icecore.json
//! ```

use std::{
    fs::{self, DirBuilder, Permissions},
    io,
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use arc_swap::ArcSwap;
use icecore_cold::{Layout, Manifest};
use icecore_diskio::{Disk, Error as DiskError, Op, RealDisk};
use icecore_rockstore::{Batch, Settled, Store};

use crate::{
    CatalogReader, Error, Key, Owner, Pins, Result, State,
    claim::{Claim, OwnerLock},
    load::{self, FAMILIES, ROWS, load, peek},
    migrations::{Slot, Slots, Turn},
    mutants, pins, restore, steps,
};

/// The record of what a store holds. One handle to a process, one process to a store.
///
/// Reads of [`state`](Catalog::state) never wait; writers take turns. When a call that writes returns an error, the state is
/// what it was before, unless a faulty disk failed right after the batch: then it is what the batch made of it. In each case it
/// is what the database has, but for one: while trouble lasts that keeps the database from being opened anew, nobody knows what
/// became of the batch that failed, and the state is what it was before. The next writer finds out before it looks at anything.
#[derive(Debug)]
pub struct Catalog {
    // Dropped in this order: the database is closed before others are let in.
    store: Store,
    owner: Mutex<OwnerLock>,
    _claim: Claim,
    disk: Arc<dyn Disk>,
    layout: Layout,
    state: ArcSwap<State>,
    pins: ArcSwap<Pins>,
    generation: String,
    writer: Slots<Writer>,
}

/// The right to write.
#[derive(Debug, Default)]
pub(crate) struct Writer {
    /// What a batch would make of the state, when its write has failed and could not be settled yet.
    unsettled: Option<Arc<State>>,
}

/// A key and the word it is to have; `None` deletes it.
pub(crate) type Change = (Key, Option<&'static str>);

impl Catalog {
    /// Opens the catalog of a store; the first time it is created, and the pins with it. Files of chunks are reached through
    /// `disk`; the catalog itself lies on the disk of this machine.
    ///
    /// # Errors
    /// [`Error::AlreadyOpen`], [`Error::Locked`]; [`Error::PinChanged`], [`Error::Newer`], [`Error::NotACatalog`],
    /// [`Error::Malformed`], [`Error::FilesWithoutCatalog`]: then nothing was changed. [`Error::NoParent`], [`Error::WritableByOthers`], and those of disk and
    /// database.
    pub fn open(disk: Arc<dyn Disk>, layout: Layout, asked: &Pins) -> Result<Self> {
        asked.check()?;
        layout.check()?;
        let dir = prepare(&layout)?;
        let claim = Claim::take(&dir)?;
        let owner = OwnerLock::take(&dir)?
            .map_err(|holder| Error::Locked { path: layout.root().to_path_buf(), holder })?;
        restore::finish(&*disk, &layout)?;
        let path = layout.catalog_dir();
        let manifest = Manifest { geometry: asked.geometry, network: asked.network.clone() };
        let found = if mutants::on("opened_unseen") { None } else { peek(&path)? };
        match &found {
            Some(_) if mutants::on("pins_unchecked") => {}
            Some(found) => found.pins.check_asked(&path, asked)?,
            None => {
                check_manifest(&*disk, &layout, asked)?;
                refuse_files_of_others(&*disk, &layout)?;
            }
        }
        let store = match Store::open(&path, FAMILIES, &load::options()) {
            Err(icecore_rockstore::Error::Missing { .. }) => {
                steps::take(&*disk, steps::CREATE, || Ok(Store::create(&path, FAMILIES, &load::options())?))?
            }
            opened => opened?,
        };
        let loaded = match load(&store)? {
            Some(loaded) if loaded.pins.network.is_some() || asked.network.is_none() => loaded,
            found => {
                let generation =
                    found.as_ref().map_or_else(new_generation, |found| Ok(found.generation.clone()))?;
                let format = found.map_or(asked.format, |found| found.pins.format);
                let pins = Pins { format, ..asked.clone() };
                write_pins(&*disk, &store, &pins, &generation)?;
                load(&store)?.ok_or_else(|| Error::NoCatalog { path: path.clone() })?
            }
        };
        manifest.pin(&disk, &layout)?;
        tracing::info!(path = %path.display(), keys = loaded.state.keys().count(), "catalog open");
        Ok(Catalog {
            store,
            owner: Mutex::new(owner),
            _claim: claim,
            disk,
            layout,
            state: ArcSwap::from_pointee(loaded.state),
            pins: ArcSwap::from_pointee(loaded.pins),
            generation: loaded.generation,
            writer: Slots::default(),
        })
    }

    /// Reads a catalog without opening it, also beside a process that has it open.
    ///
    /// # Errors
    /// As of [`CatalogReader::open`].
    pub fn open_read_only(layout: &Layout) -> Result<CatalogReader> {
        CatalogReader::open(layout)
    }

    /// Every key as it is now.
    pub fn state(&self) -> Arc<State> {
        self.state.load_full()
    }

    /// What the store is pinned to.
    pub fn pins(&self) -> Arc<Pins> {
        self.pins.load_full()
    }

    /// The token that every restore draws anew: what was cached under another one is void.
    pub fn generation(&self) -> &str {
        &self.generation
    }

    /// Where everything lies.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The disk with the files of chunks.
    pub fn disk(&self) -> &Arc<dyn Disk> {
        &self.disk
    }

    /// Says more, such as the address of an admin port, to whoever finds the catalog in use.
    ///
    /// # Errors
    /// [`Error::Disk`].
    pub fn set_note(&self, note: &str) -> Result<()> {
        self.owner.lock().unwrap_or_else(PoisonError::into_inner).set_note(note)
    }

    /// Who has the catalog of a store open, as far as is known; `None` when nobody has. A moment later that may be otherwise.
    ///
    /// # Errors
    /// [`Error::Disk`].
    pub fn holder(layout: &Layout) -> Result<Option<Owner>> {
        crate::claim::holder(&layout.root().join("catalog"))
    }

    /// Closes the catalog; so does dropping it.
    pub fn close(self) {
        self.store.close();
    }

    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    /// Waits for the turn of live work.
    pub(crate) fn writer(&self) -> Result<Slot<'_, Writer>> {
        self.turn(Turn::Live)
    }

    /// Waits for a turn. What became of a batch whose write failed is settled first, so that whoever has the turn decides on
    /// what the database has.
    pub(crate) fn turn(&self, turn: Turn) -> Result<Slot<'_, Writer>> {
        let mut writer = self.writers().take(turn);
        if !mutants::on("settled_late") {
            self.settle(&mut writer)?;
        }
        Ok(writer)
    }

    pub(crate) fn writers(&self) -> &Slots<Writer> {
        &self.writer
    }

    /// Makes some changes in one batch, under a step's name.
    pub(crate) fn change(&self, writer: &mut Writer, step: &str, changes: &[Change]) -> Result<()> {
        if changes.is_empty() {
            return Ok(());
        }
        let mut batch = Batch::new();
        let mut next = State::clone(&self.state.load());
        for (key, word) in changes {
            let name = key.to_string();
            match word {
                Some(word) => {
                    batch.put(ROWS, name.as_bytes(), word.as_bytes());
                    debug_assert!(next.set(*key, word), "{key} cannot be {word}");
                    next.set(*key, word);
                }
                None => {
                    batch.delete(ROWS, name.as_bytes());
                    next.remove(key);
                }
            }
        }
        steps::take(&*self.disk, step, || self.write(writer, &batch, next))
    }

    /// Writes a batch, which makes `next` of the state as it is now.
    pub(crate) fn write(&self, writer: &mut Writer, batch: &Batch, next: State) -> Result<()> {
        if mutants::on("settled_late") {
            self.settle(writer)?;
        }
        let Err(error) = self.store.write(batch) else {
            self.state.store(Arc::new(next));
            return Ok(());
        };
        if mutants::on("failed_batch_believed") {
            self.state.store(Arc::new(next));
            return Err(error.into());
        }
        writer.unsettled = Some(Arc::new(next));
        match self.settle(writer) {
            Ok(Settled::Kept) => Ok(()),
            Ok(Settled::Dropped | Settled::NothingToDo) | Err(_) => Err(error.into()),
        }
    }

    /// Finds out what became of a batch whose write failed.
    pub(crate) fn settle(&self, writer: &mut Writer) -> Result<Settled> {
        let settled = self.store.recover()?;
        if let (Settled::Kept, Some(next)) = (settled, writer.unsettled.take()) {
            self.state.store(next);
            // It may have had some.
            self.reload_pins()?;
        }
        Ok(settled)
    }

    /// Takes over pins that were written.
    pub(crate) fn reload_pins(&self) -> Result<()> {
        if let Some(loaded) = load(&self.store)? {
            self.pins.store(Arc::new(loaded.pins));
        }
        Ok(())
    }
}

/// Makes the directories that are missing and sees to who may write there; answers the catalog's own one.
pub(crate) fn prepare(layout: &Layout) -> Result<PathBuf> {
    let root = layout.root();
    let parent = root.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if !parent.is_dir() {
        return Err(Error::NoParent { path: parent.to_path_buf() });
    }
    make_dir(root, 0o777)?;
    RealDisk.sync_dir(parent)?;
    refuse_writable_by_all(root)?;
    let dir = root.join("catalog");
    // Nobody else gets at anything in it, at any moment, whatever the modes of the files that the database makes.
    make_dir(&dir, if mutants::on("directory_loose") { 0o777 } else { 0o700 })?;
    RealDisk.sync_dir(root)?;
    let mode = mode_of(&dir)?;
    if mode & 0o077 != 0 && !mutants::on("directory_loose") {
        let tightened = fs::set_permissions(&dir, Permissions::from_mode(mode & 0o700));
        tightened.map_err(|e| DiskError::from_io(Op::Open, &dir, e))?;
    }
    Ok(dir)
}

pub(crate) fn make_dir(dir: &Path, mode: u32) -> Result<()> {
    match DirBuilder::new().mode(mode).create(dir) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists && dir.is_dir() => Ok(()),
        made => Ok(made.map_err(|e| DiskError::from_io(Op::CreateDir, dir, e))?),
    }
}

pub(crate) fn mode_of(path: &Path) -> Result<u32> {
    let meta = fs::metadata(path).map_err(|e| DiskError::from_io(Op::Open, path, e))?;
    Ok(meta.permissions().mode() & 0o7777)
}

/// Whoever may write to a directory may put another catalog in the place of ours.
pub(crate) fn refuse_writable_by_all(dir: &Path) -> Result<()> {
    match mode_of(dir)? {
        mode if mode & 0o002 != 0 => Err(Error::WritableByOthers { path: dir.to_path_buf(), mode }),
        _ => Ok(()),
    }
}

/// Refuses a directory of files that are cut otherwise, before there is a catalog.
fn check_manifest(disk: &dyn Disk, layout: &Layout, asked: &Pins) -> Result<()> {
    let Some(found) = Manifest::read(disk, layout)? else { return Ok(()) };
    let network = found.network.or(asked.network.clone());
    let found = Pins { geometry: found.geometry, network, ..asked.clone() };
    found.check_asked(&layout.manifest(), asked)
}

/// Refuses a directory with files in it that a catalog must have known: it is no first start, the catalog is lost.
fn refuse_files_of_others(disk: &dyn Disk, layout: &Layout) -> Result<()> {
    let found =
        if mutants::on("lost_catalog_unnoticed") { Vec::new() } else { restore::on_disk(disk, layout)? };
    match found.into_iter().map(|(_, file)| file).min() {
        Some(file) => Err(Error::FilesWithoutCatalog { path: layout.root().to_path_buf(), file }),
        None => Ok(()),
    }
}

fn write_pins(disk: &dyn Disk, store: &Store, pins: &Pins, generation: &str) -> Result<()> {
    let mut batch = Batch::new();
    for (name, value) in pins.rows() {
        batch.put(ROWS, name.as_bytes(), value.as_bytes());
    }
    batch.put(ROWS, pins::GENERATION.as_bytes(), generation.as_bytes());
    steps::take(disk, steps::PINS, || Ok(store.write(&batch)?))
}

/// A token that no other store has.
pub(crate) fn new_generation() -> Result<String> {
    use std::io::Read;

    let source = Path::new("/dev/urandom");
    let mut bytes = [0; 16];
    let drawn = fs::File::open(source).and_then(|mut file| file.read_exact(&mut bytes));
    drawn.map_err(|e| DiskError::from_io(Op::Read, source, e))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
