//! One look at a store: all rows of the catalog, then all directories. Nothing is believed of either.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
    time::SystemTime,
};

use icecore_cold::{Kind, Layout};
use icecore_diskio::Disk;
use icecore_ledger::{ChunkId, Geometry, LedgerSeq};
use icecore_rockstore::{Reads, Span, Store};

use crate::{
    Artifact, Catalog, Error, Key, Result,
    load::{FAMILIES, ROWS, load, options},
    pins,
};

/// What a key says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Word {
    Freezing,
    Frozen,
    Pruning,
    Transient,
    Ready,
}

impl Word {
    fn of(key: &Key, value: &[u8]) -> Option<Word> {
        let is_hot = matches!(key, Key::Hot(_));
        match value {
            b"freezing" if !is_hot => Some(Word::Freezing),
            b"frozen" if !is_hot => Some(Word::Frozen),
            b"pruning" if !is_hot => Some(Word::Pruning),
            b"transient" if is_hot => Some(Word::Transient),
            b"ready" if is_hot => Some(Word::Ready),
            _ => None,
        }
    }

    pub(super) const fn name(self) -> &'static str {
        match self {
            Word::Freezing => "freezing",
            Word::Frozen => "frozen",
            Word::Pruning => "pruning",
            Word::Transient => "transient",
            Word::Ready => "ready",
        }
    }

    /// True for what the next lifecycle run leaves no key in.
    pub(super) const fn is_passing(self) -> bool {
        matches!(self, Word::Freezing | Word::Pruning | Word::Transient)
    }
}

/// What identifies a file's content without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    pub(super) len: u64,
    /// Not known on a disk that is not this machine's.
    pub(super) changed: Option<SystemTime>,
}

#[derive(Debug)]
pub(super) struct Look {
    pub(super) geometry: Geometry,
    pub(super) earliest: LedgerSeq,
    pub(super) generation: String,
    /// How many complete chunks are kept, where the store was told; all, where what it was told makes no sense.
    retention_chunks: Option<u32>,
    pub(super) keys: BTreeMap<Key, Word>,
    /// Rows that say nothing: their names, and why.
    pub(super) bad_rows: Vec<(String, &'static str)>,
    /// What lies where files of chunks and windows lie.
    pub(super) files: BTreeMap<PathBuf, Stamp>,
    /// What lies where hot directories lie, and whether it is a directory.
    pub(super) hot_dirs: BTreeMap<PathBuf, bool>,
    /// What is no file of a store by its place or its nature, and why.
    pub(super) strange: Vec<(PathBuf, String)>,
}

impl Look {
    /// Looks through a handle of one's own, as beside another process; tries again where that one has just moved on.
    pub(super) fn beside(disk: &dyn Disk, layout: &Layout) -> Result<Look> {
        const TRIES: usize = 5;
        let path = layout.catalog_dir();
        let read = || -> Result<Rows> {
            if crate::restore::is_pending(layout)? {
                return Err(Error::RestorePending { path: path.clone() });
            }
            let store = match Store::open_read_only(&path, FAMILIES, &options()) {
                Err(icecore_rockstore::Error::Missing { .. }) => {
                    return Err(Error::NoCatalog { path: layout.root().to_path_buf() });
                }
                Err(icecore_rockstore::Error::Foreign { path, what }) => {
                    return Err(Error::NotACatalog { path, what });
                }
                opened => opened?,
            };
            // Of a later version, rows may be anything; what else is wrong with them, is found here.
            let (known, rows) = (load(&store), all_rows(&store));
            store.close();
            match known {
                Err(newer @ Error::Newer { .. }) => Err(newer),
                _ => rows,
            }
        };
        let mut tries = 1;
        let rows = loop {
            match read() {
                Err(e) if tries < TRIES && (e.is_retryable() || e.is_corrupt()) => tries += 1,
                read => break read?,
            }
        };
        Look::of(disk, layout, &path, rows)
    }

    /// Looks through the open catalog.
    pub(super) fn within(disk: &dyn Disk, catalog: &Catalog) -> Result<Look> {
        Look::of(disk, catalog.layout(), &catalog.layout().catalog_dir(), all_rows(catalog.store())?)
    }

    fn of(disk: &dyn Disk, layout: &Layout, path: &Path, rows: Rows) -> Result<Look> {
        let setting = |name: &str| {
            let found = rows.iter().find(|(row, _)| row == name.as_bytes());
            let text = found.and_then(|(_, value)| std::str::from_utf8(value).ok()).map(str::to_owned);
            let (key, what) = (name.to_owned(), "it is missing, or no text".to_owned());
            text.ok_or_else(|| Error::Malformed { path: path.to_path_buf(), key, what })
        };
        let number = |name: &str| {
            let text = setting(name)?;
            let (key, what) = (name.to_owned(), format!("{text:?} is not a number"));
            pins::number(&text).ok_or_else(|| Error::Malformed { path: path.to_path_buf(), key, what })
        };
        let geometry = Geometry::new(number(pins::LEDGERS)?, number(pins::CHUNKS)?);
        let geometry = geometry.map_err(|e| Error::Malformed {
            path: path.to_path_buf(),
            key: pins::LEDGERS.to_owned(),
            what: e.to_string(),
        })?;
        let mut look = Look {
            geometry,
            earliest: LedgerSeq(number(pins::EARLIEST)?),
            generation: setting(pins::GENERATION)?,
            retention_chunks: None,
            keys: BTreeMap::new(),
            bad_rows: Vec::new(),
            files: BTreeMap::new(),
            hot_dirs: BTreeMap::new(),
            strange: Vec::new(),
        };
        for (name, value) in &rows {
            look.row(name, value);
        }
        for dir in [Kind::Ledgers, Kind::Run, Kind::Events].map(|kind| layout.kind_dir(kind)) {
            look.walk(disk, &dir, &|name| digits(name, 5));
        }
        look.walk(disk, &layout.index_dir(), &|name| digits(name, 8));
        look.walk_hot(&layout.hot_dir());
        Ok(look)
    }

    fn row(&mut self, name: &[u8], value: &[u8]) {
        let text = String::from_utf8_lossy(name);
        if text == pins::RETENTION_ROW {
            let told = std::str::from_utf8(value).ok().and_then(pins::number);
            self.retention_chunks = Some(told.unwrap_or(0));
            if told.is_none() {
                self.bad_rows.push((text.into_owned(), "it is not a number of chunks"));
            }
            return;
        }
        if ["config:", "audit:", "migration:"].iter().any(|others| text.starts_with(others)) {
            return;
        }
        let Ok(key) = text.parse::<Key>() else {
            return self.bad_rows.push((text.chars().take(200).collect(), "no key that this program knows"));
        };
        let chunks = match key {
            Key::Chunk(chunk, _) | Key::Hot(chunk) => [chunk, chunk],
            Key::Index(coverage) => [coverage.first, coverage.last],
        };
        let window = |coverage: &icecore_cold::Coverage| {
            coverage.first <= coverage.last
                && chunks.iter().all(|chunk| self.geometry.window_of(*chunk) == coverage.window)
        };
        let fits = chunks.iter().all(|chunk| self.geometry.ledgers_of(*chunk).is_some())
            && !matches!(&key, Key::Index(coverage) if !window(coverage));
        match Word::of(&key, value) {
            Some(word) if fits => drop(self.keys.insert(key, word)),
            Some(_) => self.bad_rows.push((key.to_string(), "a key that no history of this geometry has")),
            None => self.bad_rows.push((key.to_string(), "its value is none that it can have")),
        }
    }

    /// Lists a tree of directories of files: two levels, and no more, whatever is linked where.
    fn walk(&mut self, disk: &dyn Disk, root: &Path, is_dir_name: &dyn Fn(&str) -> bool) {
        for dir in self.list(disk, root) {
            let path = root.join(&dir);
            let nature = nature(&path);
            if !is_dir_name(&dir) || matches!(nature, Some(Nature::File | Nature::Other)) {
                self.strange.push((path, "there is no place for this in a store".to_owned()));
                continue;
            }
            for name in self.list(disk, &path) {
                let path = path.join(&name);
                match self::nature(&path) {
                    Some(Nature::Link) => self.strange.push((path, "a link; a store makes none".to_owned())),
                    Some(Nature::Dir | Nature::Other) => {
                        self.strange.push((path, "neither a file nor in its place".to_owned()));
                    }
                    Some(Nature::File) | None => match disk.file_len(&path) {
                        // Gone since it was listed.
                        Ok(None) => (),
                        Ok(Some(len)) => {
                            let changed = fs::metadata(&path).and_then(|meta| meta.modified()).ok();
                            self.files.insert(path, Stamp { len, changed });
                        }
                        Err(error) => self.strange.push((path, error.to_string())),
                    },
                }
            }
        }
    }

    fn list(&mut self, disk: &dyn Disk, dir: &Path) -> Vec<String> {
        disk.list(dir).unwrap_or_else(|error| {
            self.strange.push((dir.to_path_buf(), error.to_string()));
            Vec::new()
        })
    }

    fn walk_hot(&mut self, root: &Path) {
        let entries = match fs::read_dir(root) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return,
            Err(error) => {
                return self.strange.push((root.to_path_buf(), format!("it cannot be listed: {error}")));
            }
        };
        for entry in entries {
            match entry {
                Ok(entry) => {
                    let is_dir = entry.file_type().is_ok_and(|found| found.is_dir());
                    self.hot_dirs.insert(entry.path(), is_dir);
                }
                Err(error) => {
                    self.strange.push((root.to_path_buf(), format!("it cannot be listed: {error}")))
                }
            }
        }
    }

    pub(super) fn word(&self, key: &Key) -> Option<Word> {
        self.keys.get(key).copied()
    }

    pub(super) fn is_frozen(&self, chunk: ChunkId, artifact: Artifact) -> bool {
        self.word(&Key::Chunk(chunk, artifact)) == Some(Word::Frozen)
    }

    /// The chunks with a key of an artifact or a hot store.
    pub(super) fn chunks(&self) -> BTreeSet<ChunkId> {
        let of = |key: &Key| match key {
            Key::Chunk(chunk, _) | Key::Hot(chunk) => Some(*chunk),
            Key::Index(_) => None,
        };
        self.keys.keys().filter_map(of).collect()
    }

    /// The lowest chunk that is to be there: from the first one that is kept, and the last that is surely complete. What the
    /// store was told of how much to keep goes before what is `configured`.
    pub(super) fn floor(&self, configured: u32) -> Option<ChunkId> {
        let retention_chunks = self.retention_chunks.unwrap_or(configured);
        let complete = |(key, word): (&Key, &Word)| match (key, word) {
            (Key::Chunk(chunk, Artifact::Ledgers), Word::Frozen) => Some(chunk.0),
            // The one before it must have been filled.
            (Key::Hot(chunk), Word::Ready) => chunk.0.checked_sub(1),
            _ => None,
        };
        let last = self.keys.iter().filter_map(complete).max();
        let earliest = self.geometry.chunk_of(self.earliest)?;
        let kept =
            last.filter(|_| retention_chunks > 0).map(|last| (last + 1).saturating_sub(retention_chunks));
        Some(earliest.max(ChunkId(kept.unwrap_or(0))))
    }

    /// True when a key says the same in both looks, and nothing has become of its files in between.
    pub(super) fn stays(&self, later: &Look, key: Key, layout: &Layout) -> bool {
        let stamps = |look: &Look| -> Vec<Option<Stamp>> {
            let paths = key.paths(layout);
            let partials = paths.iter().map(|path| partial_of(path));
            let all = paths.iter().cloned().chain(partials);
            all.map(|path| look.files.get(&path).copied()).collect()
        };
        self.word(&key) == later.word(&key) && stamps(self) == stamps(later)
    }
}

/// What a file is called while it is being written.
pub(super) fn partial_of(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(icecore_diskio::PendingFile::SUFFIX);
    name.into()
}

type Rows = Vec<(Vec<u8>, Vec<u8>)>;

fn all_rows(store: &Store) -> Result<Rows> {
    let reader = store.reader()?;
    let mut rows = reader.rows(ROWS, Span::all().scan())?;
    let mut all = Vec::new();
    while let Some((name, value)) = rows.next_row()? {
        all.push((name.to_vec(), value.to_vec()));
    }
    Ok(all)
}

enum Nature {
    File,
    Dir,
    Link,
    Other,
}

/// What there is at a path of this machine, links not followed; `None` where nothing is, as on another disk.
fn nature(path: &Path) -> Option<Nature> {
    let found = fs::symlink_metadata(path).ok()?.file_type();
    Some(match found {
        _ if found.is_file() => Nature::File,
        _ if found.is_dir() => Nature::Dir,
        _ if found.is_symlink() => Nature::Link,
        _ => Nature::Other,
    })
}

fn digits(name: &str, count: usize) -> bool {
    name.len() == count && name.bytes().all(|c| c.is_ascii_digit())
}
