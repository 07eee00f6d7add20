//! INV-2, 3 and 4: what one look tells without opening a file.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use icecore_cold::{Coverage, Kind, Layout};
use icecore_diskio::PendingFile;
use icecore_ledger::{ChunkId, WindowId};

use super::{
    Finding,
    Invariant::{DiskMatchesKeys, Floor, OneHome, Reads},
    Repair,
    look::{Look, Word},
};
use crate::{Artifact, FileState, HotState, Key};

/// Everything that is wrong in a look.
pub(super) fn findings(look: &Look, layout: &Layout, retention_chunks: u32) -> Vec<Finding> {
    let mut shape = Shape { look, layout, indexes: BTreeMap::new(), found: Vec::new() };
    for (key, word) in &look.keys {
        if let (Key::Index(coverage), Word::Frozen) = (key, word) {
            shape.indexes.entry(coverage.window).or_default().push(*coverage);
        }
    }
    shape.rows();
    shape.one_home();
    shape.keys_have_files();
    shape.files_have_keys();
    shape.hot_directories();
    shape.floor(retention_chunks);
    shape.found
}

struct Shape<'a> {
    look: &'a Look,
    layout: &'a Layout,
    /// The frozen indexes of each window.
    indexes: BTreeMap<WindowId, Vec<Coverage>>,
    found: Vec<Finding>,
}

impl Shape<'_> {
    fn rows(&mut self) {
        for (name, why) in &self.look.bad_rows {
            let what = format!("row {name:?}: {why}");
            self.found.push(Finding::at(DiskMatchesKeys, self.layout.catalog_dir(), what));
        }
    }

    fn is_covered(&self, chunk: ChunkId) -> bool {
        let own = self.indexes.get(&self.look.geometry.window_of(chunk));
        own.is_some_and(|own| own.iter().any(|coverage| coverage.covers(chunk)))
    }

    /// INV-2, and that each chunk's hashes lead somewhere.
    fn one_home(&mut self) {
        for (key, word) in self.look.keys.iter().filter(|(_, word)| word.is_passing()) {
            let what = format!("it stays {}, and nobody is at work on it", word.name());
            self.found.push(Finding::of(OneHome, *key, what).with_repair(remove(*key, *word)));
        }
        for own in self.indexes.values() {
            let Some(widest) = own.iter().max_by_key(|coverage| coverage.last.0 - coverage.first.0) else {
                continue;
            };
            for index in own.iter().filter(|index| *index != widest) {
                let what = format!("its window has another frozen index, {}", Key::Index(*widest));
                let finding = Finding::of(OneHome, Key::Index(*index), what);
                self.found.push(match widest.contains(index) {
                    true => finding.with_repair(remove(Key::Index(*index), Word::Frozen)),
                    false => finding,
                });
            }
        }
        for chunk in self.look.chunks() {
            self.home_of(chunk);
        }
    }

    fn home_of(&mut self, chunk: ChunkId) {
        let look = self.look;
        let run = Key::Chunk(chunk, Artifact::TxHash);
        let ready = look.word(&Key::Hot(chunk)) == Some(Word::Ready);
        let is_served = look.is_frozen(chunk, Artifact::Ledgers) && look.is_frozen(chunk, Artifact::Events);
        let is_covered = self.is_covered(chunk);
        if ready && is_served && is_covered {
            let what = "its files are frozen and an index covers it, so it is not needed";
            let key = Key::Hot(chunk);
            self.found.push(Finding::of(OneHome, key, what).with_repair(remove(key, Word::Ready)));
        }
        if look.word(&run) == Some(Word::Frozen) && self.is_final(chunk) {
            let what = "its window's index is final, so this run is not needed";
            self.found.push(Finding::of(OneHome, run, what).with_repair(remove(run, Word::Frozen)));
        }
        let hashed = ready || is_covered || look.word(&run).is_some_and(|word| word != Word::Pruning);
        if look.is_frozen(chunk, Artifact::Ledgers) && !hashed {
            let what = "no index, no hash run and no hot chunk leads to its transactions";
            self.found.push(Finding::of(Reads, Key::Chunk(chunk, Artifact::Ledgers), what));
        }
    }

    /// True when a frozen index of the chunk's window reaches the window's last chunk, and covers the chunk.
    fn is_final(&self, chunk: ChunkId) -> bool {
        let geometry = &self.look.geometry;
        let window = geometry.window_of(chunk);
        let reaches_end = |coverage: &Coverage| {
            coverage.covers(chunk) && geometry.window_of(ChunkId(coverage.last.0.saturating_add(1))) != window
        };
        self.indexes.get(&window).is_some_and(|own| own.iter().any(reaches_end))
    }

    /// INV-3, from keys to files.
    fn keys_have_files(&mut self) {
        for (key, word) in
            self.look.keys.iter().filter(|(_, word)| matches!(word, Word::Frozen | Word::Ready))
        {
            for path in key.paths(self.layout) {
                let there = match key {
                    Key::Hot(_) => self.look.hot_dirs.get(&path) == Some(&true),
                    _ => self.look.files.contains_key(&path),
                };
                if !there {
                    let todo = match key {
                        Key::Hot(_) => "this is a loss; `icecore recover --hot` has it ingested again",
                        _ => "`icecore recover --cold` has it built again",
                    };
                    let what = format!("it is {}, and this is not there: {todo}", word.name());
                    self.found.push(Finding::of(DiskMatchesKeys, *key, what).with_path(path));
                }
            }
        }
    }

    /// INV-3, from files to keys.
    fn files_have_keys(&mut self) {
        let look = self.look;
        for (path, why) in &look.strange {
            self.found.push(Finding::at(DiskMatchesKeys, path, why.clone()));
        }
        for path in look.files.keys() {
            let sealed = path.to_str().and_then(|path| path.strip_suffix(PendingFile::SUFFIX)).map(Path::new);
            let key = Key::of_path(self.layout, sealed.unwrap_or(path));
            let word = key.and_then(|key| look.word(&key));
            let what = match (sealed, key, word) {
                (None, Some(_), Some(_)) | (Some(_), Some(_), Some(Word::Freezing | Word::Pruning)) => {
                    continue;
                }
                (None, Some(_), None) => "no key has this file",
                (Some(_), Some(_), _) => "half-written, and nobody writes it",
                (_, None, _) => {
                    let what = match self.misplaced(path) {
                        Some(own) => format!("it is named as {own}, and lies elsewhere"),
                        None => "not a name that a store gives".to_owned(),
                    };
                    self.found.push(Finding::at(DiskMatchesKeys, path, what));
                    continue;
                }
            };
            let finding = Finding::at(DiskMatchesKeys, path, what).with_key(key);
            self.found.push(finding.with_repair(Repair::RemoveFile(path.clone())));
        }
    }

    /// The path at which a file of this name would lie.
    fn misplaced(&self, path: &Path) -> Option<String> {
        let (kind, chunk) = Kind::of_name(path.file_name()?.to_str()?)?;
        Some(self.layout.file(kind, chunk).display().to_string())
    }

    fn hot_directories(&mut self) {
        for (path, is_dir) in &self.look.hot_dirs {
            let chunk = path.file_name().and_then(|name| Layout::chunk_of_hot_name(name.to_str()?));
            match chunk {
                Some(chunk) if *is_dir => {
                    if self.look.word(&Key::Hot(chunk)).is_none() {
                        let finding = Finding::at(DiskMatchesKeys, path, "no key has this directory");
                        let finding = finding.with_key(Some(Key::Hot(chunk)));
                        self.found.push(finding.with_repair(Repair::RemoveHot(chunk, None)));
                    }
                }
                Some(_) => {
                    self.found.push(Finding::at(DiskMatchesKeys, path, "not a directory, as it should be"))
                }
                None => {
                    self.found.push(Finding::at(
                        DiskMatchesKeys,
                        path,
                        "there is no place for this in a store",
                    ));
                }
            }
        }
    }

    /// INV-4. What is passing is named for that already.
    fn floor(&mut self, retention_chunks: u32) {
        let Some(floor) = self.look.floor(retention_chunks) else { return };
        // One repair to a key is enough.
        let repaired = self.found.iter().filter(|found| found.repair.is_some()).filter_map(|found| found.key);
        let repaired: BTreeSet<Key> = repaired.collect();
        for (key, word) in self.look.keys.iter().filter(|(_, word)| !word.is_passing()) {
            let last = match key {
                Key::Chunk(chunk, _) | Key::Hot(chunk) => *chunk,
                Key::Index(coverage) => coverage.last,
            };
            if last < floor {
                let what = format!("it lies wholly below the floor, which is chunk {floor}");
                let finding = Finding::of(Floor, *key, what);
                let named = repaired.contains(key);
                self.found.push(if named { finding } else { finding.with_repair(remove(*key, *word)) });
            }
        }
    }
}

/// What takes a key with this word and its files away.
fn remove(key: Key, word: Word) -> Repair {
    match (key, word) {
        (Key::Hot(chunk), Word::Ready) => Repair::RemoveHot(chunk, Some(HotState::Ready)),
        (Key::Hot(chunk), _) => Repair::RemoveHot(chunk, Some(HotState::Transient)),
        (key, Word::Freezing) => Repair::RemoveKey(key, FileState::Freezing),
        (key, Word::Frozen) => Repair::RemoveKey(key, FileState::Frozen),
        (key, _) => Repair::RemoveKey(key, FileState::Pruning),
    }
}
