//! The database as it is read: all rows, each checked, and nothing written.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use icecore_cold::Layout;
use icecore_ledger::{Geometry, LedgerSeq};
use icecore_rockstore::{Cache, Family, FamilyId, Reads, Span, Store, StoreOptions};

use crate::{
    Error, Key, Pins, Result, State,
    keys::PREFIXES_OF_OTHERS,
    mutants,
    pins::{self, FORMAT_VERSION, LAYOUT_VERSION},
};

/// The one family of the database. Few rows: small buffers make opening quick.
// migration: cheap reason="the catalog is created with this one family"
pub(crate) const FAMILIES: &[Family] = &[Family::new("catalog").write_buffers(2, 1 << 20)];
pub(crate) const ROWS: FamilyId = FamilyId(0);

/// The largest value of a row.
pub(crate) const MAX_VALUE_BYTES: usize = 1 << 20;

pub(crate) fn options() -> StoreOptions {
    StoreOptions::default().cache(Cache::new(4 << 20)).max_log_bytes(16 << 20).background_jobs(1)
}

/// All that a catalog says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Loaded {
    pub(crate) pins: Pins,
    pub(crate) generation: String,
    pub(crate) state: State,
}

/// Reads a database through a handle of its own that writes nothing; `None` where there is none, or an empty one.
pub(crate) fn peek(path: &Path) -> Result<Option<Loaded>> {
    Ok(peek_with(path, |_| Ok(()))?.map(|(loaded, ())| loaded))
}

/// The same, and something more of what the handle sees.
fn peek_with<T>(path: &Path, more: impl FnOnce(&Store) -> Result<T>) -> Result<Option<(Loaded, T)>> {
    let store = match Store::open_read_only(path, FAMILIES, &options()) {
        Err(icecore_rockstore::Error::Missing { .. }) => return Ok(None),
        Err(icecore_rockstore::Error::Foreign { path, what }) => {
            return Err(Error::NotACatalog { path, what });
        }
        opened => opened?,
    };
    let loaded = load(&store).and_then(|loaded| match loaded {
        Some(loaded) => Ok(Some((loaded, more(&store)?))),
        None => Ok(None),
    });
    store.close();
    loaded
}

/// The rows that are no keys of files.
fn rows_of_others(store: &Store) -> Result<BTreeMap<String, Vec<u8>>> {
    let reader = store.reader()?;
    let mut found = BTreeMap::new();
    for prefix in PREFIXES_OF_OTHERS {
        let mut rows = reader.rows(ROWS, Span::prefix(prefix))?;
        while let Some((name, value)) = rows.next_row()? {
            found.insert(String::from_utf8_lossy(name).into_owned(), value.to_vec());
        }
    }
    Ok(found)
}

/// Reads every row; `None` when there is none. The version is looked at first: rows of a later one may be anything.
pub(crate) fn load(store: &Store) -> Result<Option<Loaded>> {
    let path = store.path();
    let config = Config { path, store };
    let Some(layout_version) = config.number(pins::LAYOUT)? else {
        let reader = store.reader()?;
        if reader.rows(ROWS, Span::all())?.next_row()?.is_none() || mutants::on("foreign_adopted") {
            return Ok(None);
        }
        let what = format!("it has rows, but no {}", pins::LAYOUT);
        return Err(Error::NotACatalog { path: path.to_path_buf(), what });
    };
    match layout_version {
        0 => return Err(malformed(path, pins::LAYOUT, "there is no version 0")),
        found if found > LAYOUT_VERSION && !mutants::on("version_unchecked") => {
            return Err(newer(path, "layout version", found, LAYOUT_VERSION));
        }
        _ => {}
    }
    let (pins, generation) = config.pins(layout_version)?;
    let state = read_state(store, &pins.geometry)?;
    Ok(Some(Loaded { pins, generation, state }))
}

fn newer(path: &Path, name: &'static str, found: u32, known: u32) -> Error {
    Error::Newer { path: path.to_path_buf(), name, found, known }
}

fn read_state(store: &Store, geometry: &Geometry) -> Result<State> {
    let path = store.path();
    let mut state = State::default();
    let reader = store.reader()?;
    let mut rows = reader.rows(ROWS, Span::all().scan())?;
    while let Some((name, value)) = rows.next_row()? {
        let name = text(path, name, name)?;
        check_len(path, name, value)?;
        if PREFIXES_OF_OTHERS.iter().any(|prefix| name.starts_with(prefix)) {
            continue;
        }
        let key: Key =
            name.parse().map_err(|_| malformed(path, name, "not a key that this program knows"))?;
        if let Some(what) = key.misfit(geometry).filter(|_| !mutants::on("misfits_accepted")) {
            return Err(malformed(path, name, what));
        }
        let word = text(path, name.as_bytes(), value)?;
        if !state.set(key, word) {
            return Err(malformed(path, name, format!("its value {word:?} is none that it can have")));
        }
    }
    Ok(state)
}

/// The rows of the pins.
struct Config<'a> {
    path: &'a Path,
    store: &'a Store,
}

impl Config<'_> {
    fn text(&self, name: &str) -> Result<Option<String>> {
        let reader = self.store.reader()?;
        let Some(value) = reader.get(ROWS, name.as_bytes())? else { return Ok(None) };
        check_len(self.path, name, &value)?;
        text(self.path, name.as_bytes(), &value).map(|value| Some(value.to_owned()))
    }

    fn number(&self, name: &str) -> Result<Option<u32>> {
        let Some(value) = self.text(name)? else { return Ok(None) };
        let number = pins::number(&value);
        number.map(Some).ok_or_else(|| malformed(self.path, name, format!("{value:?} is not a number")))
    }

    fn needed<T>(&self, name: &str, found: Option<T>) -> Result<T> {
        found.ok_or_else(|| malformed(self.path, name, "it is missing"))
    }

    fn pins(&self, layout_version: u32) -> Result<(Pins, String)> {
        let numbers = [pins::LEDGERS, pins::CHUNKS, pins::EARLIEST];
        let [ledgers, chunks, earliest] = numbers.map(|name| self.number(name));
        let ledgers = self.needed(pins::LEDGERS, ledgers?)?;
        let chunks = self.needed(pins::CHUNKS, chunks?)?;
        let earliest = self.needed(pins::EARLIEST, earliest?)?;
        let geometry =
            Geometry::new(ledgers, chunks).map_err(|e| malformed(self.path, pins::LEDGERS, e.to_string()))?;
        let format = self.number(pins::FORMAT)?;
        if let Some(found) = format.filter(|found| *found > FORMAT_VERSION) {
            return Err(newer(self.path, "file format", found, FORMAT_VERSION));
        }
        let pins = Pins {
            layout_version,
            format,
            geometry,
            earliest: LedgerSeq(earliest),
            network: self.text(pins::NETWORK)?,
        };
        pins.check().map_err(|e| malformed(self.path, "config:", e.to_string()))?;
        let generation = self.needed(pins::GENERATION, self.text(pins::GENERATION)?)?;
        if generation.len() != 32 || !generation.bytes().all(|c| c.is_ascii_hexdigit()) {
            return Err(malformed(self.path, pins::GENERATION, "it is not 32 hexadecimal digits"));
        }
        Ok((pins, generation))
    }
}

fn check_len(path: &Path, name: &str, value: &[u8]) -> Result<()> {
    if value.len() <= MAX_VALUE_BYTES || mutants::on("value_len_unchecked") {
        return Ok(());
    }
    Err(Error::ValueTooLarge {
        path: path.to_path_buf(),
        key: shown(name),
        len_bytes: value.len() as u64,
        limit_bytes: MAX_VALUE_BYTES as u64,
    })
}

fn text<'a>(path: &Path, name: &[u8], value: &'a [u8]) -> Result<&'a str> {
    let name = || String::from_utf8_lossy(name).into_owned();
    std::str::from_utf8(value).map_err(|_| malformed(path, &name(), "it is not UTF-8"))
}

fn malformed(path: &Path, key: &str, what: impl Into<String>) -> Error {
    Error::Malformed { path: path.to_path_buf(), key: shown(key), what: what.into() }
}

fn shown(key: &str) -> String {
    key.chars().take(80).collect()
}

/// The catalog beside a process that has it open: what it said when this was made, read without a lock.
#[derive(Clone, Debug)]
pub struct CatalogReader {
    path: PathBuf,
    loaded: Loaded,
    rows: BTreeMap<String, Vec<u8>>,
}

/// How often a read is tried beside a process that writes.
const TRIES: usize = 5;

impl CatalogReader {
    /// Reads a catalog; changes nothing, and waits for nobody.
    ///
    /// # Errors
    /// [`Error::NoCatalog`], [`Error::RestorePending`], and as of [`Catalog::open`](crate::Catalog::open).
    pub fn open(layout: &Layout) -> Result<Self> {
        let path = layout.catalog_dir();
        let mut tries = 0;
        loop {
            tries += 1;
            if crate::restore::is_pending(layout)? {
                return Err(Error::RestorePending { path });
            }
            match peek_with(&path, rows_of_others) {
                Ok(Some((loaded, rows))) => return Ok(CatalogReader { path, loaded, rows }),
                Ok(None) => return Err(Error::NoCatalog { path: layout.root().to_path_buf() }),
                // Files may have gone while they were being opened.
                Err(e) if tries < TRIES && (e.is_retryable() || e.is_corrupt()) => {}
                Err(e) => return Err(e),
            }
        }
    }

    /// The database.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Every key.
    pub fn state(&self) -> &State {
        &self.loaded.state
    }

    /// The value of a row that is no key of files.
    pub fn row(&self, name: &str) -> Option<&[u8]> {
        self.rows.get(name).map(Vec::as_slice)
    }

    /// What the store is pinned to.
    pub fn pins(&self) -> &Pins {
        &self.loaded.pins
    }

    /// The token that every restore draws anew.
    pub fn generation(&self) -> &str {
        &self.loaded.generation
    }
}
