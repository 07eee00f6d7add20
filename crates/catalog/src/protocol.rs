//! The one write protocol, as the only calls that change keys:
//!
//! ```text
//! none ──begin──▶ freezing ──files written and durable──freeze──▶ frozen ──demote──▶ pruning ──destroy──▶ none
//!                  │  ▲                    (an index: commit_index)    ▲  │             │ │
//!                  └──┼───────────────────────demote───────────────────┼──┼─────────────┘ │
//!                     └──────────────────────────begin─────────────────┼──┴───────────────┘   (recovery: frozen ▶ freezing)
//! none ──hot_transient──▶ transient ──hot_ready──▶ ready ──hot_transient──▶ transient ──hot_delete──▶ none
//! ```
//!
//! Every file has its key from before its first byte; no key means no file; nothing is unlinked under a frozen key.

use std::collections::BTreeSet;

use icecore_cold::Coverage;
use icecore_diskio::PendingFile;
use icecore_ledger::ChunkId;

use crate::{
    Artifact, Catalog, Error, FileState, HotState, Key, Result, catalog::Change, migrations::Turn, mutants,
    steps,
};

const NONE: &str = "none";
const FREEZING: &str = FileState::Freezing.name();
const FROZEN: &str = FileState::Frozen.name();
const PRUNING: &str = FileState::Pruning.name();

impl Catalog {
    /// Says that files are about to be written: keys become freezing, in one batch. From nothing, from freezing (what a
    /// crash left), and from pruning (what is wanted again).
    ///
    /// # Errors
    /// [`Error::Illegal`] for what is frozen, [`Error::BadKey`]; those of the database.
    pub fn begin(&self, keys: &[Key]) -> Result<()> {
        let mut writer = self.writer()?;
        let changes = self.changes(keys, FREEZING, |state| match state {
            Some(FileState::Freezing) => Some(false),
            Some(FileState::Pruning) | None => Some(true),
            Some(FileState::Frozen) => None,
        })?;
        self.change(&mut writer, steps::FREEZING, &changes)
    }

    /// Says that the files of artifacts are complete, and that they and every directory that names them are durable: keys
    /// become frozen, in one batch. An index is committed by [`commit_index`](Catalog::commit_index).
    ///
    /// # Errors
    /// [`Error::Illegal`] for what is not freezing, [`Error::FileMissing`]; those of the database.
    pub fn freeze(&self, keys: &[Key]) -> Result<()> {
        let mut writer = self.writer()?;
        if let Some(index) = keys.iter().find(|key| matches!(key, Key::Index(_))) {
            return Err(self.illegal(index, FROZEN));
        }
        let changes =
            self.changes(keys, FROZEN, |state| (state == Some(FileState::Freezing)).then_some(true))?;
        self.check_files(keys)?;
        self.change(&mut writer, steps::FROZEN, &changes)
    }

    /// Builds artifacts under the write protocol: keys to freezing, then `write`, which leaves every file whole and durable
    /// under its name, then keys to frozen.
    ///
    /// # Errors
    /// As of [`begin`](Catalog::begin), `write` and [`freeze`](Catalog::freeze). Then keys are freezing, or as they were.
    pub fn build<T, E: From<Error>>(
        &self,
        keys: &[Key],
        write: impl FnOnce() -> Result<T, E>,
    ) -> Result<T, E> {
        if mutants::on("file_before_key") {
            let written = write()?;
            self.begin(keys)?;
            self.freeze(keys)?;
            return Ok(written);
        }
        self.begin(keys)?;
        if mutants::on("frozen_before_file") {
            self.freeze(keys)?;
            return write();
        }
        let written = write()?;
        self.freeze(keys)?;
        Ok(written)
    }

    /// Builds a window's index under the write protocol, as [`build`](Catalog::build) and
    /// [`commit_index`](Catalog::commit_index).
    ///
    /// # Errors
    /// As of these.
    pub fn build_index<T, E: From<Error>>(
        &self,
        coverage: Coverage,
        write: impl FnOnce() -> Result<T, E>,
    ) -> Result<T, E> {
        self.build_index_above(coverage, || ChunkId(u32::MAX), write)
    }

    /// The same, committed by [`commit_index_above`](Catalog::commit_index_above).
    ///
    /// # Errors
    /// As of that. An index that would be too narrow is freezing then, as one that is not wanted any more.
    pub fn build_index_above<T, E: From<Error>>(
        &self,
        coverage: Coverage,
        floor: impl FnOnce() -> ChunkId,
        write: impl FnOnce() -> Result<T, E>,
    ) -> Result<T, E> {
        self.begin(&[Key::Index(coverage)])?;
        let written = write()?;
        self.commit_index_above(coverage, floor)?;
        Ok(written)
    }

    /// Says that an index's file is complete and durable. In one batch: it becomes frozen, the window's other frozen index
    /// pruning, and, where it reaches the window's last chunk, so do the hash runs of the chunks that it covers.
    ///
    /// # Errors
    /// [`Error::Illegal`] when it is not freezing, [`Error::FileMissing`]; those of the database.
    pub fn commit_index(&self, coverage: Coverage) -> Result<()> {
        self.commit_index_above(coverage, || ChunkId(u32::MAX))
    }

    /// The same, where what the window's other index covers of chunks that are there must be covered still, but for those below
    /// `floor`, the first chunk that is kept. It is asked while nobody else writes, since it may have sunk while the index was
    /// built.
    ///
    /// # Errors
    /// As of [`commit_index`](Catalog::commit_index); [`Error::Narrower`].
    pub fn commit_index_above(&self, coverage: Coverage, floor: impl FnOnce() -> ChunkId) -> Result<()> {
        let mut writer = self.writer()?;
        let key = Key::Index(coverage);
        let mut changes =
            self.changes(&[key], FROZEN, |state| (state == Some(FileState::Freezing)).then_some(true))?;
        self.check_files(&[key])?;
        let state = self.state();
        let frozen = state.indexes_of(coverage.window).filter(|(_, state)| *state == FileState::Frozen);
        let floor = floor();
        for (other, _) in frozen.clone() {
            let is_lost = |chunk: &ChunkId| {
                *chunk >= floor && !coverage.covers(*chunk) && state.has(*chunk, Artifact::Ledgers)
            };
            if let Some(chunk) = other.chunks().find(is_lost).filter(|_| !mutants::on("index_narrowed")) {
                return Err(Error::Narrower { key, other: Key::Index(other), chunk });
            }
        }
        changes.extend(frozen.map(|(other, _)| (Key::Index(other), Some(PRUNING))));
        if self.is_terminal(coverage) {
            let runs = coverage.chunks().map(|chunk| Key::Chunk(chunk, Artifact::TxHash));
            let there =
                runs.filter(|run| matches!(state.file(run), Some(FileState::Frozen | FileState::Freezing)));
            changes.extend(there.map(|run| (run, Some(PRUNING))));
        }
        if mutants::on("index_commit_split") {
            let (first, rest) = changes.split_at(1);
            self.change(&mut writer, steps::INDEX, rest)?;
            return self.change(&mut writer, steps::INDEX, first);
        }
        if mutants::on("predecessor_kept") {
            changes.truncate(1);
        }
        self.change(&mut writer, steps::INDEX, &changes)
    }

    /// True when an index reaches the last chunk of its window: no later one will replace it.
    pub fn is_terminal(&self, coverage: Coverage) -> bool {
        let geometry = self.pins().geometry;
        let next = coverage.last.0.checked_add(1).map(ChunkId);
        next.is_none_or(|next| geometry.window_of(next) != coverage.window)
    }

    /// Commits files to removal: keys become pruning, in one batch.
    ///
    /// # Errors
    /// [`Error::Illegal`] for keys that are not there; those of the database.
    pub fn demote(&self, keys: &[Key]) -> Result<()> {
        let mut writer = self.writer()?;
        let changes = self.changes(keys, PRUNING, |state| state.map(|state| state != FileState::Pruning))?;
        self.change(&mut writer, steps::DEMOTE, &changes)
    }

    /// Removes the files of a key that is pruning, and what was half-written of them, then the key. Nothing where there is
    /// no key. Other writers wait, so that nobody begins to write these files anew in between.
    ///
    /// # Errors
    /// [`Error::Illegal`] for what is freezing or frozen; those of the disk and the database: calling it again goes on.
    pub fn destroy(&self, key: &Key) -> Result<()> {
        let mut writer = self.writers().take(Turn::Live);
        let settled = self.settle(&mut writer);
        match (self.state().file(key), &settled) {
            // On a full disk this may be what makes the room to settle in. No batch takes a key from pruning to frozen, so
            // its files are of no use whatever became of the last one.
            (Some(FileState::Pruning), _) => {}
            (_, Err(_)) => return settled.map(drop),
            (None, _) if !matches!(key, Key::Hot(_)) => return Ok(()),
            _ if mutants::on("destroy_anything") => {}
            _ => return Err(self.illegal(key, NONE)),
        }
        let delete = [(*key, None)];
        if mutants::on("key_before_unlink") {
            self.change(&mut writer, steps::DELETE, &delete)?;
            return self.unlink(key);
        }
        self.unlink(key)?;
        if settled.is_err() {
            self.settle(&mut writer)?;
            match self.state().file(key) {
                None => return Ok(()),
                Some(FileState::Pruning) => {}
                _ => return Err(self.illegal(key, NONE)),
            }
        }
        self.change(&mut writer, steps::DELETE, &delete)
    }

    /// Removes files and makes that durable; those that are gone already are no error.
    fn unlink(&self, key: &Key) -> Result<()> {
        let mut dirs = BTreeSet::new();
        for path in key.paths(self.layout()) {
            dirs.extend(path.parent().map(ToOwned::to_owned));
            let mut partial = path.clone().into_os_string();
            partial.push(PendingFile::SUFFIX);
            for path in
                [Some(path), (!mutants::on("partial_left")).then(|| partial.into())].into_iter().flatten()
            {
                if self.disk().file_len(&path)?.is_some() {
                    self.disk().remove(&path)?;
                }
            }
        }
        if mutants::on("unlink_unsynced") {
            return Ok(());
        }
        for dir in dirs {
            // Also where nothing was removed: whoever removed it may have failed here.
            match self.disk().sync_dir(&dir) {
                Err(e) if !e.is_not_found() => return Err(e.into()),
                _ => {}
            }
        }
        Ok(())
    }

    /// Says that a hot chunk's directory is about to be made or removed.
    ///
    /// # Errors
    /// [`Error::BadKey`]; those of the database.
    pub fn hot_transient(&self, chunk: ChunkId) -> Result<()> {
        self.change_hot(chunk, steps::HOT_TRANSIENT, HotState::Transient.name(), |state| match state {
            Some(HotState::Transient) => Some(false),
            Some(HotState::Ready) | None => Some(true),
        })
    }

    /// Says that a hot chunk's directory is made, and that its name is durable.
    ///
    /// # Errors
    /// [`Error::Illegal`] for what is not transient; those of the database.
    pub fn hot_ready(&self, chunk: ChunkId) -> Result<()> {
        self.change_hot(chunk, steps::HOT_READY, HotState::Ready.name(), |state| {
            (state == Some(HotState::Transient)).then_some(true)
        })
    }

    /// Deletes the key of a hot chunk whose directory is removed, which must be durable. Nothing where there is no key.
    ///
    /// # Errors
    /// [`Error::Illegal`] for what is ready, [`Error::StillThere`]; those of the database.
    pub fn hot_delete(&self, chunk: ChunkId) -> Result<()> {
        let mut writer = self.writer()?;
        let key = Key::Hot(chunk);
        match self.state().hot(chunk) {
            None => return Ok(()),
            Some(HotState::Ready) => return Err(self.illegal(&key, NONE)),
            Some(HotState::Transient) => {}
        }
        let path = self.layout().hot_chunk(chunk);
        if path.symlink_metadata().is_ok() && !mutants::on("hot_key_first") {
            return Err(Error::StillThere { key, path });
        }
        self.change(&mut writer, steps::HOT_DELETE, &[(key, None)])
    }

    fn change_hot(
        &self,
        chunk: ChunkId,
        step: &str,
        to: &'static str,
        allowed: impl Fn(Option<HotState>) -> Option<bool>,
    ) -> Result<()> {
        let mut writer = self.writer()?;
        let key = Key::Hot(chunk);
        self.check_key(&key)?;
        match allowed(self.state().hot(chunk)) {
            None => Err(self.illegal(&key, to)),
            Some(false) => Ok(()),
            Some(true) => self.change(&mut writer, step, &[(key, Some(to))]),
        }
    }

    /// What makes keys of files become `to`. `allowed` says of a key's state whether it is to be changed, or stays as it is;
    /// `None` when it must not be.
    fn changes(
        &self,
        keys: &[Key],
        to: &'static str,
        allowed: impl Fn(Option<FileState>) -> Option<bool>,
    ) -> Result<Vec<Change>> {
        let state = self.state();
        let mut changes = Vec::new();
        for key in keys {
            self.check_key(key)?;
            let allowed = match key {
                Key::Hot(_) => None,
                key => allowed(state.file(key)),
            };
            match allowed {
                None => return Err(self.illegal(key, to)),
                Some(false) => {}
                Some(true) => changes.push((*key, Some(to))),
            }
        }
        Ok(changes)
    }

    fn check_key(&self, key: &Key) -> Result<()> {
        match key.misfit(&self.pins().geometry) {
            Some(what) => Err(Error::BadKey { key: *key, what }),
            None => Ok(()),
        }
    }

    /// Refuses to vouch for files that are not there.
    fn check_files(&self, keys: &[Key]) -> Result<()> {
        for key in keys {
            for path in key.paths(self.layout()) {
                if self.disk().file_len(&path)?.is_none() && !mutants::on("frozen_before_file") {
                    return Err(Error::FileMissing { key: *key, path });
                }
            }
        }
        Ok(())
    }

    fn illegal(&self, key: &Key, to: &'static str) -> Error {
        Error::Illegal { key: *key, from: self.state().word(key).unwrap_or(NONE), to }
    }

    /// Makes what is tainted be built again: see [`RecoveryPlan`](crate::RecoveryPlan).
    pub(crate) fn taint(&self, files: &[Key], hot: &[ChunkId]) -> Result<()> {
        let mut writer = self.writer()?;
        let state = self.state();
        let freezing =
            files.iter().filter(|key| !matches!(state.file(key), None | Some(FileState::Freezing)));
        let mut changes: Vec<Change> = freezing.map(|key| (*key, Some(FREEZING))).collect();
        let ready = hot.iter().filter(|chunk| state.hot(**chunk) == Some(HotState::Ready));
        changes.extend(ready.map(|chunk| (Key::Hot(*chunk), Some(HotState::Transient.name()))));
        if mutants::on("recovery_split") && changes.len() > 1 {
            let (first, rest) = changes.split_at(1);
            self.change(&mut writer, steps::RECOVER, first)?;
            return self.change(&mut writer, steps::RECOVER, rest);
        }
        self.change(&mut writer, steps::RECOVER, &changes)
    }
}
