//! INV-1 at a glance: every frozen file opens, has the length that it tells of itself, and is that of its chunk or window.

use std::sync::atomic::Ordering::Relaxed;

use icecore_cold::{Error as ColdError, Kind, LedgerPack, event_paths, open_index};
use icecore_events::ChunkEvents;
use icecore_ledger::ChunkId;
use icecore_txindex::Run;

use super::{
    Audit, Finding,
    Invariant::Reads,
    look::{Look, Word},
};
use crate::{Artifact, Key, Result};

impl Audit<'_> {
    /// What frozen keys cannot be read.
    pub(super) fn reads(&self, look: &Look) -> Result<Vec<Finding>> {
        let frozen = look.keys.iter().filter(|(_, word)| **word == Word::Frozen).map(|(key, _)| key);
        self.begin(look.keys.len() as u64);
        self.open_all(look, frozen)
    }

    /// The same for those that could not be read before.
    pub(super) fn reads_of<'f>(
        &self,
        look: &Look,
        before: impl Iterator<Item = &'f Finding>,
    ) -> Result<Vec<Finding>> {
        let keys: Vec<Key> = before.filter_map(|finding| finding.key).collect();
        self.open_all(look, keys.iter().filter(|key| look.word(key) == Some(Word::Frozen)))
    }

    fn open_all<'k>(&self, look: &Look, keys: impl Iterator<Item = &'k Key>) -> Result<Vec<Finding>> {
        let mut found = Vec::new();
        for key in keys {
            self.check()?;
            // That a file is not there is said elsewhere.
            let paths = key.paths(self.layout);
            if paths.iter().all(|path| look.files.contains_key(path))
                && let Err(error) = self.open(look, key)
            {
                found.push(Finding::of(Reads, *key, error.to_string()));
            }
            self.control.done.fetch_add(1, Relaxed);
        }
        Ok(found)
    }

    fn open(&self, look: &Look, key: &Key) -> Result<(), ColdError> {
        let ledgers_of = |chunk| look.geometry.ledgers_of(chunk).ok_or(ColdError::ChunkOutOfRange { chunk });
        match *key {
            Key::Chunk(chunk, Artifact::Ledgers) => {
                let path = self.layout.file(Kind::Ledgers, chunk);
                LedgerPack::open_chunk(self.disk, &path, ledgers_of(chunk)?).map(drop)
            }
            Key::Chunk(chunk, Artifact::Events) => {
                let events = self.open_events(chunk)?;
                if events.ledgers()? != Some(ledgers_of(chunk)?) {
                    let what = "its ledgers are not those of its chunk".to_owned();
                    return Err(ColdError::Differs { path: self.layout.file(Kind::Events, chunk), what });
                }
                Ok(())
            }
            Key::Chunk(chunk, Artifact::TxHash) => {
                Ok(Run::open(self.disk, &self.layout.file(Kind::Run, chunk)).map(drop)?)
            }
            Key::Index(coverage) => {
                open_index(&**self.disk, self.layout, &look.geometry, &coverage).map(drop)
            }
            Key::Hot(_) => Ok(()),
        }
    }

    pub(super) fn open_events(&self, chunk: ChunkId) -> Result<ChunkEvents, ColdError> {
        let events = ChunkEvents::open(self.disk, &event_paths(self.layout, chunk));
        events.event_count()?;
        events.term_count()?;
        Ok(events)
    }
}
