//! `icecore.json`: how a store is cut, written beside the data before the first file of it.

use std::{path::PathBuf, sync::Arc};

use icecore_diskio::{Disk, IfExists, PendingFile};
use icecore_ledger::Geometry;
use icecore_txindex::Algorithm;
use serde::{Deserialize, Serialize};

use crate::{Error, Layout, Result};

const LAYOUT_VERSION: u32 = 1;

/// The most bytes a manifest may have; a longer file is something else.
const MAX_BYTES: u64 = 64 << 10;

/// What a store says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// Ledgers to a chunk, chunks to a window.
    pub geometry: Geometry,
    /// The passphrase of the network, where a build has known it.
    pub network: Option<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    layout: u32,
    ledgers_per_chunk: u32,
    chunks_per_window: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    network: Option<String>,
    /// The name of the algorithm that indexes are built with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    index: Option<String>,
}

impl Manifest {
    /// Reads the manifest of a store, `None` where there is none.
    ///
    /// # Errors
    /// [`Error::Manifest`] for a file that is not one, or of a newer layout.
    pub fn read(disk: &dyn Disk, layout: &Layout) -> Result<Option<Manifest>> {
        let Some(file) = Self::read_file(disk, layout)? else { return Ok(None) };
        let bad = |what: String| Error::Manifest { path: layout.manifest(), what };
        let geometry =
            Geometry::new(file.ledgers_per_chunk, file.chunks_per_window).map_err(|e| bad(e.to_string()))?;
        Ok(Some(Manifest { geometry, network: file.network }))
    }

    /// The algorithm that a store's indexes are built with from here on: the one chosen last, else the interoperable one.
    /// Each index that is there says itself which one it was built with.
    ///
    /// # Errors
    /// [`Error::Manifest`] for a file that is not one, or that names an algorithm that this program does not know.
    pub fn index_algorithm(disk: &dyn Disk, layout: &Layout) -> Result<Algorithm> {
        match Self::read_file(disk, layout)?.and_then(|file| file.index) {
            None => Ok(Algorithm::default()),
            Some(name) => name
                .parse::<Algorithm>()
                .map_err(|e| Error::Manifest { path: layout.manifest(), what: e.to_string() }),
        }
    }

    /// Chooses the algorithm that a store's indexes are built with from here on. Those that are there stay as they are. A
    /// store that is not there yet is not made.
    ///
    /// # Errors
    /// [`Error::Manifest`] for a file that is not one, and those of the disk.
    pub fn choose_index(disk: &Arc<dyn Disk>, layout: &Layout, algorithm: Algorithm) -> Result<()> {
        let Some(file) = Self::read_file(&**disk, layout)? else { return Ok(()) };
        if Self::index_algorithm(&**disk, layout).is_ok_and(|chosen| chosen == algorithm) {
            return Ok(());
        }
        write_file(disk, layout, &File { index: Some(algorithm.name().to_owned()), ..file })
    }

    fn read_file(disk: &dyn Disk, layout: &Layout) -> Result<Option<File>> {
        let path = layout.manifest();
        let bad = |what: String| Error::Manifest { path: path.clone(), what };
        match disk.file_len(&path)? {
            None => return Ok(None),
            Some(len) if len > MAX_BYTES => return Err(bad(format!("{len} bytes are too many"))),
            Some(_) => {}
        }
        let source = disk.open(&path)?;
        let mut bytes = vec![0; source.len_bytes() as usize];
        source.read_exact_at(&mut bytes, 0)?;
        let file: File = serde_json::from_slice(&bytes).map_err(|e| bad(e.to_string()))?;
        if file.layout != LAYOUT_VERSION {
            return Err(bad(format!(
                "layout {} is not known, this program knows {LAYOUT_VERSION}",
                file.layout
            )));
        }
        Ok(Some(file))
    }

    /// Writes the manifest where there is none, or checks that the one there says the same; a network that it did not
    /// know is added.
    ///
    /// # Errors
    /// [`Error::GeometryChanged`] and [`Error::NetworkChanged`], each with both values.
    pub fn pin(&self, disk: &Arc<dyn Disk>, layout: &Layout) -> Result<()> {
        let Some(found) = Manifest::read(&**disk, layout)? else { return self.write(disk, layout) };
        let path = layout.manifest();
        let asked = (self.geometry.ledgers_per_chunk(), self.geometry.chunks_per_window());
        check_geometry(layout, &found.geometry, asked)?;
        match (found.network, &self.network) {
            (Some(found), Some(asked)) if found != *asked => {
                Err(Error::NetworkChanged { path, found, asked: asked.clone() })
            }
            // The network is known now: from here on it is pinned too.
            (None, Some(_)) => self.write(disk, layout),
            _ => Ok(()),
        }
    }

    /// The geometry for a build that asks for these numbers, or for whatever the store has (the default for a new one).
    ///
    /// # Errors
    /// [`Error::GeometryChanged`] with the store's numbers and those asked for.
    pub fn geometry_for(
        disk: &dyn Disk,
        layout: &Layout,
        ledgers_per_chunk: Option<u32>,
        chunks_per_window: Option<u32>,
    ) -> Result<Geometry> {
        let found = Manifest::read(disk, layout)?.map(|manifest| manifest.geometry);
        let has = found.unwrap_or_default();
        let asked = (
            ledgers_per_chunk.unwrap_or(has.ledgers_per_chunk()),
            chunks_per_window.unwrap_or(has.chunks_per_window()),
        );
        if let Some(found) = found {
            check_geometry(layout, &found, asked)?;
        }
        Ok(Geometry::new(asked.0, asked.1)?)
    }

    fn write(&self, disk: &Arc<dyn Disk>, layout: &Layout) -> Result<()> {
        let file = File {
            layout: LAYOUT_VERSION,
            ledgers_per_chunk: self.geometry.ledgers_per_chunk(),
            chunks_per_window: self.geometry.chunks_per_window(),
            network: self.network.clone(),
            index: Self::read_file(&**disk, layout)?.and_then(|file| file.index),
        };
        write_file(disk, layout, &file)
    }
}

fn write_file(disk: &Arc<dyn Disk>, layout: &Layout, file: &File) -> Result<()> {
    disk.create_dir_all(layout.root())?;
    let path: PathBuf = layout.manifest();
    let text = serde_json::to_string_pretty(file)
        .map_err(|e| Error::Manifest { path: path.clone(), what: e.to_string() })?;
    let pending = PendingFile::create(disk, &path, IfExists::Replace)?;
    pending.write_all_at(text.as_bytes(), 0)?;
    pending.write_all_at(b"\n", text.len() as u64)?;
    Ok(pending.commit()?)
}

fn check_geometry(layout: &Layout, found: &Geometry, asked: (u32, u32)) -> Result<()> {
    if (found.ledgers_per_chunk(), found.chunks_per_window()) == asked {
        return Ok(());
    }
    Err(Error::GeometryChanged { path: layout.manifest(), found: *found, asked })
}

#[cfg(test)]
mod tests {
    use icecore_diskio::FaultyDisk;

    use super::*;

    fn disk() -> Arc<dyn Disk> {
        let disk = FaultyDisk::new();
        disk.create_dir_all("/s".as_ref()).unwrap();
        Arc::new(disk)
    }

    #[test]
    fn the_first_geometry_stays() {
        let (disk, layout) = (disk(), Layout::new("/s"));
        assert_eq!(Manifest::read(&*disk, &layout).unwrap(), None);
        let first = Manifest { geometry: Geometry::new(10, 100).unwrap(), network: Some("a".into()) };
        first.pin(&disk, &layout).unwrap();
        first.pin(&disk, &layout).unwrap();
        assert_eq!(Manifest::read(&*disk, &layout).unwrap(), Some(first.clone()));
        let other = Manifest { geometry: Geometry::default(), ..first.clone() };
        let error = other.pin(&disk, &layout).unwrap_err().to_string();
        assert!(error.contains("10 ") && error.contains("10000"), "{error}");
        let other = Manifest { network: Some("b".into()), ..first.clone() };
        assert!(matches!(other.pin(&disk, &layout), Err(Error::NetworkChanged { .. })));
        Manifest { network: None, ..first }.pin(&disk, &layout).unwrap();
    }

    #[test]
    fn the_last_choice_of_an_index_stays() {
        let (disk, layout) = (disk(), Layout::new("/s"));
        let chosen = || Manifest::index_algorithm(&*disk, &layout).unwrap();
        Manifest::choose_index(&disk, &layout, Algorithm::Compact).unwrap();
        assert_eq!((chosen(), Manifest::read(&*disk, &layout).unwrap()), (Algorithm::Bijection, None));
        let manifest = Manifest { geometry: Geometry::new(10, 100).unwrap(), network: None };
        manifest.pin(&disk, &layout).unwrap();
        assert_eq!(chosen(), Algorithm::Bijection);
        for algorithm in Algorithm::ALL.into_iter().rev() {
            Manifest::choose_index(&disk, &layout, algorithm).unwrap();
            assert_eq!(chosen(), algorithm);
        }
        Manifest::choose_index(&disk, &layout, Algorithm::Compact).unwrap();
        let named = Manifest { network: Some("a".into()), ..manifest };
        named.pin(&disk, &layout).unwrap();
        assert_eq!((chosen(), Manifest::read(&*disk, &layout).unwrap()), (Algorithm::Compact, Some(named)));
    }

    #[test]
    fn an_unknown_index_is_named() {
        let (disk, layout) = (disk(), Layout::new("/s"));
        let text = r#"{"layout":1,"ledgers_per_chunk":10,"chunks_per_window":10,"index":"tiny"}"#;
        disk.create_exclusive(&layout.manifest()).unwrap().write_all_at(text.as_bytes(), 0).unwrap();
        let error = Manifest::index_algorithm(&*disk, &layout).unwrap_err().to_string();
        assert!(error.contains("tiny") && error.contains("compact"), "{error}");
        // Whoever chooses another need not care.
        Manifest::choose_index(&disk, &layout, Algorithm::Bijection).unwrap();
        assert_eq!(Manifest::index_algorithm(&*disk, &layout).unwrap(), Algorithm::Bijection);
    }

    #[test]
    fn damage_is_named() {
        let good = r#"{"layout":1,"ledgers_per_chunk":10,"chunks_per_window":10}"#;
        let cases = [
            good.replace(":1,", ":2,"),
            good.replace("10}", "0}"),
            good.replace("10}", "4294967295}"),
            good.replace("layout", "layouts"),
            good[..20].to_string(),
            " ".repeat(100_000),
        ];
        for bad in cases {
            let (disk, layout) = (disk(), Layout::new("/s"));
            let file = disk.create_exclusive(&layout.manifest()).unwrap();
            file.write_all_at(bad.as_bytes(), 0).unwrap();
            let error = Manifest::read(&*disk, &layout).unwrap_err();
            assert!(
                matches!(error, Error::Manifest { .. }) && error.to_string().contains("/s/icecore.json"),
                "{error}"
            );
        }
    }
}
