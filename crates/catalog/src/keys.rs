//! Keys and what they stand for, one pure function in each direction.
//!
//! ```text
//! key                                       value                            path, see `icecore_cold::Layout`
//! chunk:{chunk:08}:ledgers                  freezing · frozen · pruning      one file
//! chunk:{chunk:08}:events                   freezing · frozen · pruning      three files
//! chunk:{chunk:08}:txhash                   freezing · frozen · pruning      one file
//! index:{window:08}:{lo:08}:{hi:08}         freezing · frozen · pruning      one file
//! hot:chunk:{chunk:08}                      transient · ready                one directory
//! config:…                                  see `pins`
//! audit:…  migration:…                      rows of their modules
//! ```

use std::{
    fmt,
    path::{Path, PathBuf},
    str::FromStr,
};

use icecore_cold::{Coverage, Kind, Layout};
use icecore_ledger::{ChunkId, Geometry, WindowId};

/// Rows that are no keys of files: their modules know what they mean.
pub(crate) const PREFIXES_OF_OTHERS: [&str; 3] = ["config:", "audit:", "migration:"];

/// What is made of a chunk as one: all its files, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Artifact {
    /// The ledger pack.
    Ledgers,
    /// The event records, their bitmaps and terms.
    Events,
    /// The sorted run of transaction hashes, from which the window's index is made; not needed after that.
    TxHash,
}

impl Artifact {
    /// All of them, in the order of a table.
    pub const ALL: [Artifact; 3] = [Artifact::Ledgers, Artifact::Events, Artifact::TxHash];

    /// Its name in keys.
    pub const fn name(self) -> &'static str {
        match self {
            Artifact::Ledgers => "ledgers",
            Artifact::Events => "events",
            Artifact::TxHash => "txhash",
        }
    }

    /// The kinds of file that it consists of.
    pub const fn kinds(self) -> &'static [Kind] {
        match self {
            Artifact::Ledgers => &[Kind::Ledgers],
            Artifact::Events => &[Kind::Events, Kind::EventBitmaps, Kind::EventTerms],
            Artifact::TxHash => &[Kind::Run],
        }
    }

    /// The artifact that a kind of file is part of.
    pub const fn of_kind(kind: Kind) -> Self {
        match kind {
            Kind::Ledgers => Artifact::Ledgers,
            Kind::Events | Kind::EventBitmaps | Kind::EventTerms => Artifact::Events,
            Kind::Run => Artifact::TxHash,
        }
    }
}

impl fmt::Display for Artifact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A key of something on disk. Prints and parses as in the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    /// An artifact of a chunk.
    Chunk(ChunkId, Artifact),
    /// A window's index.
    Index(Coverage),
    /// The database of a chunk that is not frozen.
    Hot(ChunkId),
}

impl Key {
    /// The files that the key stands for; of a hot chunk its directory.
    pub fn paths(&self, layout: &Layout) -> Vec<PathBuf> {
        match self {
            Key::Chunk(chunk, artifact) => {
                artifact.kinds().iter().map(|&kind| layout.file(kind, *chunk)).collect()
            }
            Key::Index(coverage) => vec![layout.index(coverage)],
            Key::Hot(chunk) => vec![layout.hot_chunk(*chunk)],
        }
    }

    /// The key of a path, `None` where there is none that has it.
    pub fn of_path(layout: &Layout, path: &Path) -> Option<Key> {
        let name = path.file_name()?.to_str()?;
        let of_file = || {
            let (kind, chunk) = Kind::of_name(name)?;
            Some(Key::Chunk(chunk, Artifact::of_kind(kind)))
        };
        let of_index = || {
            let (first, last) = Layout::coverage_of_name(name)?;
            let window = Layout::window_of_name(path.parent()?.file_name()?.to_str()?)?;
            Some(Key::Index(Coverage { window, first, last }))
        };
        let of_hot = || Layout::chunk_of_hot_name(name).map(Key::Hot);
        // A name is not enough: the file must lie where this key's files lie.
        let key = of_file().or_else(of_index).or_else(of_hot)?;
        key.paths(layout).iter().any(|own| own == path).then_some(key)
    }

    /// What is wrong with a key in a history that is cut like this.
    pub(crate) fn misfit(&self, geometry: &Geometry) -> Option<String> {
        let last = match self {
            Key::Chunk(chunk, _) | Key::Hot(chunk) => *chunk,
            Key::Index(Coverage { window, first, last }) => {
                for chunk in [first, last] {
                    let found = geometry.window_of(*chunk);
                    if found != *window {
                        return Some(format!("chunk {chunk} is of window {found}, the key says {window}"));
                    }
                }
                if last < first {
                    return Some("it ends before it begins".to_owned());
                }
                *last
            }
        };
        let numbered = last <= Layout::LAST_CHUNK && geometry.ledgers_of(last).is_some();
        (!numbered).then(|| format!("chunk {last} is past the last ledger that can be numbered"))
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Key::Chunk(chunk, artifact) => write!(f, "chunk:{chunk}:{artifact}"),
            Key::Index(Coverage { window, first, last }) => write!(f, "index:{window}:{first}:{last}"),
            Key::Hot(chunk) => write!(f, "hot:chunk:{chunk}"),
        }
    }
}

/// What is not a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a key of the catalog")]
pub struct NotAKey;

impl FromStr for Key {
    type Err = NotAKey;

    fn from_str(text: &str) -> Result<Self, NotAKey> {
        let words: Vec<&str> = text.split(':').collect();
        let number = |word: &str| Layout::chunk_of_hot_name(word).ok_or(NotAKey);
        match words[..] {
            ["chunk", chunk, artifact] => {
                let artifact = Artifact::ALL.into_iter().find(|known| known.name() == artifact);
                Ok(Key::Chunk(number(chunk)?, artifact.ok_or(NotAKey)?))
            }
            ["index", window, first, last] => Ok(Key::Index(Coverage {
                window: WindowId(number(window)?.0),
                first: number(first)?,
                last: number(last)?,
            })),
            ["hot", "chunk", chunk] => Ok(Key::Hot(number(chunk)?)),
            _ => Err(NotAKey),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn keys() -> impl Strategy<Value = Key> {
        let chunk = || (0u32..100_000_000).prop_map(ChunkId);
        prop_oneof![
            (chunk(), 0usize..3).prop_map(|(chunk, artifact)| Key::Chunk(chunk, Artifact::ALL[artifact])),
            chunk().prop_map(Key::Hot),
            (0u32..100_000_000, chunk(), chunk()).prop_map(|(window, a, b)| {
                Key::Index(Coverage { window: WindowId(window), first: a.min(b), last: a.max(b) })
            }),
        ]
    }

    fn layouts() -> impl Strategy<Value = Layout> {
        prop_oneof![
            Just(Layout::new("/store")),
            Just(Layout::new("relative/store")),
            Just(Layout::new("/store").with_hot("/fast").with_runs("/scratch/r").with_indexes("/fast-index")),
            Just(Layout::new("/store").with_ledgers("/big").with_events("/big-events")),
        ]
    }

    proptest! {
        #[test]
        fn keys_and_paths_are_a_bijection(a in keys(), b in keys(), layout in layouts()) {
            prop_assert_eq!(a.to_string().parse(), Ok(a));
            for path in a.paths(&layout) {
                prop_assert_eq!(Key::of_path(&layout, &path), Some(a));
                prop_assert_eq!(b.paths(&layout).contains(&path), a == b);
            }
        }

        #[test]
        fn what_parses_prints_the_same(text in "(chunk|index|hot)(:(chunk|ledgers|events|txhash|[0-9]{8}|[0-9]{1,9}|x)){0,4}") {
            if let Ok(key) = text.parse::<Key>() {
                prop_assert_eq!(key.to_string(), text);
            }
        }
    }

    #[test]
    fn the_documented_keys() {
        let index = Coverage { window: WindowId(5), first: ChunkId(5000), last: ChunkId(5331) };
        for (key, text) in [
            (Key::Chunk(ChunkId(7), Artifact::Ledgers), "chunk:00000007:ledgers"),
            (Key::Chunk(ChunkId(7), Artifact::Events), "chunk:00000007:events"),
            (Key::Chunk(ChunkId(7), Artifact::TxHash), "chunk:00000007:txhash"),
            (Key::Index(index), "index:00000005:00005000:00005331"),
            (Key::Hot(ChunkId(7)), "hot:chunk:00000007"),
        ] {
            assert_eq!(key.to_string(), text);
            assert_eq!(text.parse(), Ok(key));
        }
    }

    #[test]
    fn paths_in_the_wrong_place_have_no_key() {
        let layout = Layout::new("/s");
        for path in [
            "/s/ledgers/00000/00000001.pack.partial",
            "/s/ledgers/00001/00000001.pack",
            "/s/ledgers/00000001.pack",
            "/s/events/00000/00000001.pack",
            "/other/ledgers/00000/00000001.pack",
            "/s/txhash/index/00000000-00000001.idx",
            "/s/txhash/index/0/00000000-00000001.idx",
            "/s/hot/1",
            "/s/hot/00000001/00000002",
            "/s",
            "/",
        ] {
            assert_eq!(Key::of_path(&layout, Path::new(path)), None, "{path}");
        }
    }

    #[test]
    fn keys_that_no_history_has_are_misfits() {
        let geometry = Geometry::new(10, 100).unwrap();
        let index = |window, first, last| {
            Key::Index(Coverage { window: WindowId(window), first: ChunkId(first), last: ChunkId(last) })
        };
        for fine in [index(1, 100, 199), index(0, 5, 5), Key::Hot(ChunkId(99_999_999))] {
            assert_eq!(fine.misfit(&geometry), None, "{fine}");
        }
        for bad in [index(0, 99, 100), index(1, 99, 100), index(2, 100, 199), index(0, 7, 6)] {
            assert!(bad.misfit(&geometry).is_some(), "{bad}");
        }
        assert!(Key::Hot(ChunkId(429_496)).misfit(&Geometry::default()).is_some());
    }
}
