//! The catalog in memory: every key and what it says, a value that is never changed, only replaced.

use std::{collections::BTreeMap, fmt};

use icecore_cold::Coverage;
use icecore_ledger::{ChunkId, WindowId};

use crate::{Artifact, Key};

/// What a key says of files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FileState {
    /// Being written: trust nothing.
    Freezing,
    /// Files and directory entries are durable and complete: trust it blindly.
    Frozen,
    /// Committed to removal.
    Pruning,
}

/// What a key says of a hot chunk's directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HotState {
    /// Being made or removed: trust nothing.
    Transient,
    /// Usable.
    Ready,
}

impl FileState {
    const ALL: [FileState; 3] = [FileState::Freezing, FileState::Frozen, FileState::Pruning];

    /// Its name in the database.
    pub const fn name(self) -> &'static str {
        match self {
            FileState::Freezing => "freezing",
            FileState::Frozen => "frozen",
            FileState::Pruning => "pruning",
        }
    }

    pub(crate) fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.name() == name)
    }
}

impl HotState {
    const ALL: [HotState; 2] = [HotState::Transient, HotState::Ready];

    /// Its name in the database.
    pub const fn name(self) -> &'static str {
        match self {
            HotState::Transient => "transient",
            HotState::Ready => "ready",
        }
    }

    pub(crate) fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.name() == name)
    }
}

impl fmt::Display for FileState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Display for HotState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Every key of the catalog at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// The chunks' artifacts.
    pub artifacts: BTreeMap<(ChunkId, Artifact), FileState>,
    /// The windows' indexes.
    pub indexes: BTreeMap<Coverage, FileState>,
    /// The chunks that are not frozen.
    pub hot: BTreeMap<ChunkId, HotState>,
}

impl State {
    /// What is said of an artifact.
    pub fn artifact(&self, chunk: ChunkId, artifact: Artifact) -> Option<FileState> {
        self.artifacts.get(&(chunk, artifact)).copied()
    }

    /// True when an artifact can be trusted.
    pub fn has(&self, chunk: ChunkId, artifact: Artifact) -> bool {
        self.artifact(chunk, artifact) == Some(FileState::Frozen)
    }

    /// True when a chunk can be read from its files alone: ledgers and events are frozen, and so is its hash run, or an
    /// index covers it.
    pub fn is_frozen(&self, chunk: ChunkId) -> bool {
        self.has(chunk, Artifact::Ledgers)
            && self.has(chunk, Artifact::Events)
            && (self.has(chunk, Artifact::TxHash) || self.covered(chunk))
    }

    /// The indexes of a window, whatever their state.
    pub fn indexes_of(&self, window: WindowId) -> impl Iterator<Item = (Coverage, FileState)> + Clone + '_ {
        let edge = |chunk| Coverage { window, first: ChunkId(chunk), last: ChunkId(chunk) };
        let own = self.indexes.range(edge(0)..=edge(u32::MAX));
        own.map(|(coverage, state)| (*coverage, *state))
    }

    /// A window's index: there is at most one.
    pub fn frozen_index(&self, window: WindowId) -> Option<Coverage> {
        let mut frozen = self.indexes_of(window).filter(|(_, state)| *state == FileState::Frozen);
        frozen.next().map(|(coverage, _)| coverage)
    }

    /// True when a frozen index covers a chunk.
    pub fn covered(&self, chunk: ChunkId) -> bool {
        let mut indexes = self.indexes.iter();
        indexes.any(|(coverage, state)| *state == FileState::Frozen && coverage.covers(chunk))
    }

    /// What is said of a hot chunk.
    pub fn hot(&self, chunk: ChunkId) -> Option<HotState> {
        self.hot.get(&chunk).copied()
    }

    /// What is said of any key's files; `None` for hot chunks.
    pub fn file(&self, key: &Key) -> Option<FileState> {
        match key {
            Key::Chunk(chunk, artifact) => self.artifact(*chunk, *artifact),
            Key::Index(coverage) => self.indexes.get(coverage).copied(),
            Key::Hot(_) => None,
        }
    }

    /// The word that the database has for a key.
    pub fn word(&self, key: &Key) -> Option<&'static str> {
        match key {
            Key::Hot(chunk) => self.hot(*chunk).map(HotState::name),
            key => self.file(key).map(FileState::name),
        }
    }

    /// Every key, in order of kinds and numbers.
    pub fn keys(&self) -> impl Iterator<Item = Key> + '_ {
        let artifacts = self.artifacts.keys().map(|(chunk, artifact)| Key::Chunk(*chunk, *artifact));
        let indexes = self.indexes.keys().map(|coverage| Key::Index(*coverage));
        artifacts.chain(indexes).chain(self.hot.keys().map(|chunk| Key::Hot(*chunk)))
    }

    /// Takes over a row; false when the value is none that the key can have.
    pub(crate) fn set(&mut self, key: Key, word: &str) -> bool {
        let file = FileState::of_name(word);
        match (key, file, HotState::of_name(word)) {
            (Key::Chunk(chunk, artifact), Some(state), _) => {
                self.artifacts.insert((chunk, artifact), state);
            }
            (Key::Index(coverage), Some(state), _) => {
                self.indexes.insert(coverage, state);
            }
            (Key::Hot(chunk), _, Some(state)) => {
                self.hot.insert(chunk, state);
            }
            _ => return false,
        }
        true
    }

    pub(crate) fn remove(&mut self, key: &Key) {
        match key {
            Key::Chunk(chunk, artifact) => drop(self.artifacts.remove(&(*chunk, *artifact))),
            Key::Index(coverage) => drop(self.indexes.remove(coverage)),
            Key::Hot(chunk) => drop(self.hot.remove(chunk)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_frozen_things_are_trusted() {
        let mut state = State::default();
        let (chunk, window) = (ChunkId(3), WindowId(0));
        let index = Coverage { window, first: ChunkId(2), last: ChunkId(4) };
        for artifact in Artifact::ALL {
            assert!(state.set(Key::Chunk(chunk, artifact), "frozen"));
        }
        assert!(state.is_frozen(chunk) && !state.covered(chunk));
        for word in ["freezing", "pruning"] {
            assert!(state.set(Key::Chunk(chunk, Artifact::TxHash), word));
            assert!(!state.is_frozen(chunk));
            assert!(state.set(Key::Index(index), word));
            assert_eq!((state.frozen_index(window), state.covered(chunk)), (None, false));
        }
        assert!(state.set(Key::Index(index), "frozen"));
        assert!(state.covered(chunk) && state.is_frozen(chunk) && !state.covered(ChunkId(5)));
        assert_eq!(state.frozen_index(window), Some(index));
        assert_eq!(state.frozen_index(WindowId(1)), None);
        assert!(!state.set(Key::Hot(chunk), "frozen") && !state.set(Key::Index(index), "ready"));
        assert_eq!(state.keys().count(), 4);
        for key in state.keys().collect::<Vec<_>>() {
            state.remove(&key);
        }
        assert_eq!(state, State::default());
    }
}
