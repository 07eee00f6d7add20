//! Where each file of a store lies, one pure function in each direction.
//!
//! ```text
//! icecore.json                                        geometry and network, see `manifest`
//! ledgers/{bucket:05}/{chunk:08}.pack
//! events/{bucket:05}/{chunk:08}-events.pack  -index.pack  -index.hash
//! txhash/raw/{bucket:05}/{chunk:08}.bin
//! txhash/index/{window:08}/{lo:08}-{hi:08}.idx        covers chunks lo..=hi
//! hot/{chunk:08}/                                     a chunk that is not frozen: a database of its own
//! catalog/rocksdb/                                    what a running store knows of itself: a database too
//! ```
//!
//! Each tree can be given a place of its own; the catalog and `icecore.json` stay in the root.

use std::{
    fmt, fs,
    path::{Component, Path, PathBuf},
};

use icecore_ledger::{ChunkId, WindowId};

use crate::{Error, Result};

/// Chunks to a directory; groups files for the file system's sake only, whatever the geometry.
const CHUNKS_PER_BUCKET: u32 = 1_000;

/// A kind of file that a chunk has one of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// The raw ledgers.
    Ledgers,
    /// The sorted run of transaction hashes.
    Run,
    /// The event records.
    Events,
    /// The bitmaps of the event terms.
    EventBitmaps,
    /// The hash from event terms to their bitmaps.
    EventTerms,
}

impl Kind {
    /// All kinds, in the order of a table.
    pub const ALL: [Kind; 5] = [Kind::Ledgers, Kind::Run, Kind::Events, Kind::EventBitmaps, Kind::EventTerms];

    /// What follows the chunk's number in the name.
    const fn suffix(self) -> &'static str {
        match self {
            Kind::Ledgers => ".pack",
            Kind::Run => ".bin",
            Kind::Events => "-events.pack",
            Kind::EventBitmaps => "-index.pack",
            Kind::EventTerms => "-index.hash",
        }
    }

    /// The kind that a file name tells, wherever the file lies, and its chunk.
    pub fn of_name(name: &str) -> Option<(Kind, ChunkId)> {
        Kind::ALL.into_iter().find_map(|kind| {
            let digits = name.strip_suffix(kind.suffix())?;
            Some((kind, ChunkId(eight_digits(digits)?)))
        })
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Ledgers => "ledgers",
            Kind::Run => "hash run",
            Kind::Events => "events",
            Kind::EventBitmaps => "event bitmaps",
            Kind::EventTerms => "event terms",
        })
    }
}

/// The chunks that a window index covers, `first..=last`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Coverage {
    /// The window.
    pub window: WindowId,
    /// The first chunk covered.
    pub first: ChunkId,
    /// The last chunk covered.
    pub last: ChunkId,
}

impl Coverage {
    /// True when every chunk of `other` is covered too.
    pub fn contains(&self, other: &Coverage) -> bool {
        self.window == other.window && self.first <= other.first && other.last <= self.last
    }

    /// True when a chunk is covered.
    pub fn covers(&self, chunk: ChunkId) -> bool {
        (self.first..=self.last).contains(&chunk)
    }

    /// The chunks, in order.
    pub fn chunks(&self) -> impl Iterator<Item = ChunkId> + use<> {
        (self.first.0..=self.last.0).map(ChunkId)
    }
}

/// The paths of a store: under one root, but for the trees that were given another place.
#[derive(Clone, Debug)]
pub struct Layout {
    root: PathBuf,
    hot: PathBuf,
    ledgers: PathBuf,
    events: PathBuf,
    runs: PathBuf,
    indexes: PathBuf,
}

impl Layout {
    /// The last chunk that a file name can tell.
    pub const LAST_CHUNK: ChunkId = ChunkId(99_999_999);

    /// The layout of the store at `root`.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        let root = root.into();
        Layout {
            hot: root.join("hot"),
            ledgers: root.join("ledgers"),
            events: root.join("events"),
            runs: root.join("txhash/raw"),
            indexes: root.join("txhash/index"),
            root,
        }
    }

    /// Keeps the chunks that are not frozen elsewhere.
    #[must_use]
    pub fn with_hot(self, dir: impl Into<PathBuf>) -> Self {
        Layout { hot: dir.into(), ..self }
    }

    /// Keeps the ledger packs elsewhere.
    #[must_use]
    pub fn with_ledgers(self, dir: impl Into<PathBuf>) -> Self {
        Layout { ledgers: dir.into(), ..self }
    }

    /// Keeps the event files elsewhere.
    #[must_use]
    pub fn with_events(self, dir: impl Into<PathBuf>) -> Self {
        Layout { events: dir.into(), ..self }
    }

    /// Keeps the hash runs elsewhere.
    #[must_use]
    pub fn with_runs(self, dir: impl Into<PathBuf>) -> Self {
        Layout { runs: dir.into(), ..self }
    }

    /// Keeps the window indexes elsewhere.
    #[must_use]
    pub fn with_indexes(self, dir: impl Into<PathBuf>) -> Self {
        Layout { indexes: dir.into(), ..self }
    }

    /// The directories that must not lie in one another, with what each is for.
    pub fn trees(&self) -> [(&'static str, PathBuf); 6] {
        [
            ("catalog", self.root.join("catalog")),
            ("hot", self.hot.clone()),
            ("ledgers", self.ledgers.clone()),
            ("events", self.events.clone()),
            ("runs", self.runs.clone()),
            ("indexes", self.indexes.clone()),
        ]
    }

    /// Refuses trees that lie in one another, by whatever spelling.
    ///
    /// # Errors
    /// [`Error::Overlap`] with both.
    pub fn check(&self) -> Result<()> {
        let trees = self.trees().map(|(name, dir)| (name, resolved(&dir), dir));
        for (number, (name, place, dir)) in trees.iter().enumerate() {
            for (other, other_place, other_dir) in trees.iter().skip(number + 1) {
                if place.starts_with(other_place) || other_place.starts_with(place) {
                    return Err(Error::Overlap {
                        first: name,
                        first_dir: dir.clone(),
                        second: other,
                        second_dir: other_dir.clone(),
                    });
                }
            }
        }
        Ok(())
    }

    /// The root itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The file that says how the store is cut.
    pub fn manifest(&self) -> PathBuf {
        self.root.join("icecore.json")
    }

    /// The directory of buckets of a kind.
    pub fn kind_dir(&self, kind: Kind) -> PathBuf {
        match kind {
            Kind::Ledgers => self.ledgers.clone(),
            Kind::Run => self.runs.clone(),
            Kind::Events | Kind::EventBitmaps | Kind::EventTerms => self.events.clone(),
        }
    }

    /// The catalog's database.
    pub fn catalog_dir(&self) -> PathBuf {
        self.root.join("catalog/rocksdb")
    }

    /// A chunk's file of a kind.
    pub fn file(&self, kind: Kind, chunk: ChunkId) -> PathBuf {
        let bucket = format!("{:05}", chunk.0 / CHUNKS_PER_BUCKET);
        self.kind_dir(kind).join(bucket).join(format!("{chunk}{}", kind.suffix()))
    }

    /// The directory of chunks that are not frozen.
    pub fn hot_dir(&self) -> PathBuf {
        self.hot.clone()
    }

    /// The directory of a chunk that is not frozen.
    pub fn hot_chunk(&self, chunk: ChunkId) -> PathBuf {
        self.hot_dir().join(chunk.to_string())
    }

    /// The chunk that the name of a hot directory tells.
    pub fn chunk_of_hot_name(name: &str) -> Option<ChunkId> {
        eight_digits(name).map(ChunkId)
    }

    /// The directory of window directories.
    pub fn index_dir(&self) -> PathBuf {
        self.indexes.clone()
    }

    /// The index of a coverage.
    pub fn index(&self, coverage: &Coverage) -> PathBuf {
        let name = format!("{}-{}.idx", coverage.first, coverage.last);
        self.index_dir().join(coverage.window.to_string()).join(name)
    }

    /// The window that a directory name tells.
    pub fn window_of_name(name: &str) -> Option<WindowId> {
        eight_digits(name).map(WindowId)
    }

    /// The first and last chunk that an index's name tells.
    pub fn coverage_of_name(name: &str) -> Option<(ChunkId, ChunkId)> {
        let (first, last) = name.strip_suffix(".idx")?.split_once('-')?;
        let (first, last) = (eight_digits(first)?, eight_digits(last)?);
        (first <= last).then_some((ChunkId(first), ChunkId(last)))
    }
}

/// Where a path leads: absolute, its links followed as far as it is there, no `..` left.
fn resolved(path: &Path) -> PathBuf {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
    let mut place = PathBuf::new();
    for part in absolute.components() {
        match part {
            Component::ParentDir => drop(place.pop()),
            part => place.push(part),
        }
        if let Ok(real) = fs::canonicalize(&place) {
            place = real;
        }
    }
    place
}

fn eight_digits(text: &str) -> Option<u32> {
    let plain = text.len() == 8 && text.bytes().all(|c| c.is_ascii_digit());
    plain.then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn names_and_ids_are_inverse(chunk in 0u32..100_000_000, span in 0u32..1000, window in 0u32..1000) {
            let layout = Layout::new("/store");
            let chunk = ChunkId(chunk);
            for kind in Kind::ALL {
                let path = layout.file(kind, chunk);
                let name = path.file_name().unwrap().to_str().unwrap();
                prop_assert_eq!(Kind::of_name(name), Some((kind, chunk)));
            }
            let last = ChunkId((chunk.0 + span).min(99_999_999));
            let coverage = Coverage { window: WindowId(window), first: chunk, last };
            let path = layout.index(&coverage);
            let name = path.file_name().unwrap().to_str().unwrap();
            prop_assert_eq!(Layout::coverage_of_name(name), Some((chunk, last)));
            let dir = path.parent().unwrap().file_name().unwrap().to_str().unwrap();
            prop_assert_eq!(Layout::window_of_name(dir), Some(WindowId(window)));
            let hot = layout.hot_chunk(chunk);
            let name = hot.file_name().unwrap().to_str().unwrap();
            prop_assert_eq!(Layout::chunk_of_hot_name(name), Some(chunk));
        }
    }

    #[test]
    fn the_documented_names() {
        let layout = Layout::new("/s");
        let chunk = ChunkId(5331);
        let names = Kind::ALL.map(|kind| layout.file(kind, chunk).display().to_string());
        assert_eq!(names[0], "/s/ledgers/00005/00005331.pack");
        assert_eq!(names[1], "/s/txhash/raw/00005/00005331.bin");
        assert_eq!(names[2], "/s/events/00005/00005331-events.pack");
        assert_eq!(names[3], "/s/events/00005/00005331-index.pack");
        assert_eq!(names[4], "/s/events/00005/00005331-index.hash");
        let coverage = Coverage { window: WindowId(5), first: ChunkId(5000), last: ChunkId(5331) };
        assert_eq!(
            layout.index(&coverage).display().to_string(),
            "/s/txhash/index/00000005/00005000-00005331.idx"
        );
    }

    #[test]
    fn trees_that_lie_in_one_another_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        let layout = || Layout::new(root);
        layout().check().unwrap();
        layout().with_hot("/elsewhere/hot").with_ledgers("/elsewhere/ledgers").check().unwrap();
        fs::create_dir(root.join("events")).unwrap();
        std::os::unix::fs::symlink(root.join("events"), root.join("alias")).unwrap();
        for bad in [
            layout().with_hot(root),
            layout().with_hot(root.join("events")),
            layout().with_runs(root.join("ledgers/runs")),
            layout().with_indexes(root.join("hot/../catalog/rocksdb")),
            layout().with_ledgers(root.join("alias/packs")),
            layout().with_ledgers(root.join("./events")),
        ] {
            assert!(matches!(bad.check(), Err(Error::Overlap { .. })), "{bad:?}");
        }
        let layout = layout().with_runs("/runs").with_indexes("/indexes").with_events("/e");
        assert_eq!(layout.file(Kind::Run, ChunkId(1)), Path::new("/runs/00000/00000001.bin"));
        assert_eq!(layout.file(Kind::EventTerms, ChunkId(1)), Path::new("/e/00000/00000001-index.hash"));
        assert_eq!(layout.catalog_dir(), root.join("catalog/rocksdb"));
    }

    #[test]
    fn foreign_names_are_none_of_ours() {
        for name in
            ["", "x.pack", "0000001.pack", "+0000001.pack", "00000001.pack.partial", "00000001-events.bin"]
        {
            assert_eq!(Kind::of_name(name), None, "{name}");
        }
        for name in ["00000002-00000001.idx", "00000001.idx", "00000001-00000002.idx.partial"] {
            assert_eq!(Layout::coverage_of_name(name), None, "{name}");
        }
    }
}
