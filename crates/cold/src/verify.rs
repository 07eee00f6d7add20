//! Checking a store: every file by its own checksums and rules, and, deeply, every derived file against the ledgers that
//! it must follow from.
//!
//! The deep check derives a chunk's run and events once more from its pack, in a scratch directory and by the very
//! code that built them, and compares the bytes; then the index of each window from those runs; and leads every hash
//! through the index to its ledger.

use std::path::{Path, PathBuf};

use icecore_diskio::{IfExists, first_difference};
use icecore_ledger::{ChunkId, Decoder, Source, TxHash};
use icecore_txindex::{Options, Run};

use crate::{
    Control, Coverage, Error, Kind, Layout, Result, Store,
    build::{build_index_as, ledgers_of},
    chunk::ChunkBuild,
};

/// One thing that was checked, and how it went.
#[derive(Debug)]
pub struct Checked {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub result: Result<()>,
}

impl Store {
    /// Checks every file by itself, and that none is missing; tells `report` of each.
    ///
    /// # Errors
    /// [`Error::Cancelled`], and trouble that is no damage, such as reads that fail; damage is reported.
    pub fn verify(&self, control: &Control, report: &mut dyn FnMut(Checked)) -> Result<()> {
        let inventory = self.inventory();
        control.begin(inventory.chunks.len() as u64 + inventory.indexes.len() as u64);
        for (&chunk, files) in &inventory.chunks {
            let missing = inventory.missing(chunk);
            let events_whole =
                !missing.iter().any(|kind| matches!(kind, Kind::EventBitmaps | Kind::EventTerms));
            for kind in missing {
                let path = self.layout().file(kind, chunk);
                report(Checked { path: path.clone(), result: Err(Error::Missing { path }) });
            }
            if !inventory.indexes.keys().any(|coverage| coverage.covers(chunk)) {
                report(Checked { path: self.layout().index_dir(), result: Err(Error::NotIndexed { chunk }) });
            }
            for &kind in files.keys() {
                control.check()?;
                let path = self.layout().file(kind, chunk);
                let result = match kind {
                    Kind::Ledgers => self.verify_pack(chunk),
                    Kind::Run => self.verify_run(chunk, &path),
                    // The three event files are checked together, under the name of the first.
                    Kind::Events if events_whole => self.verify_events(chunk, &path),
                    Kind::Events | Kind::EventBitmaps | Kind::EventTerms => continue,
                };
                report(Checked { path, result: finding(result)? });
            }
            let bytes = files.values().sum();
            control.advance(1, bytes);
        }
        for (coverage, &bytes) in &inventory.indexes {
            control.check()?;
            let path = self.layout().index(coverage);
            let result = self.open_index(coverage).and_then(|index| Ok(index.verify()?));
            report(Checked { path, result: finding(result)? });
            control.advance(1, bytes);
        }
        Ok(())
    }

    fn verify_pack(&self, chunk: ChunkId) -> Result<()> {
        Ok(self.open_pack(chunk)?.reader().verify()?)
    }

    fn verify_run(&self, chunk: ChunkId, path: &Path) -> Result<()> {
        let ledgers = ledgers_of(&self.manifest().geometry, chunk)?;
        for entry in Run::open(self.disk(), path)?.scan() {
            let entry = entry?;
            if !ledgers.contains(entry.seq) {
                let what =
                    format!("it has ledger {}, the chunk is {}..={}", entry.seq, ledgers.first, ledgers.last);
                return Err(Error::Differs { path: path.to_path_buf(), what });
            }
        }
        Ok(())
    }

    fn verify_events(&self, chunk: ChunkId, path: &Path) -> Result<()> {
        let events = self.open_events(chunk)?;
        if events.ledgers()? != Some(ledgers_of(&self.manifest().geometry, chunk)?) {
            let what = "its ledgers are not those of its chunk".to_owned();
            return Err(Error::Differs { path: path.to_path_buf(), what });
        }
        Ok(events.verify()?)
    }

    /// Checks every derived file against the ledgers. `scratch` is an empty directory with room for the event files of
    /// one chunk, the runs of all, and one index.
    ///
    /// # Errors
    /// [`Error::Cancelled`], and trouble that is no damage, such as what the scratch directory refuses; damage is
    /// reported.
    pub fn verify_deep(
        &self,
        decoder: &dyn Decoder,
        scratch: &Path,
        workers: usize,
        control: &Control,
        report: &mut dyn FnMut(Checked),
    ) -> Result<()> {
        let inventory = self.inventory();
        let whole =
            inventory.chunks.values().filter(|files| files.contains_key(&Kind::Ledgers)).count() as u64;
        control.begin(whole * u64::from(self.manifest().geometry.ledgers_per_chunk()));
        let again = Layout::new(scratch);
        let deep = Deep { store: self, decoder, again: &again, workers, control };
        let mut derived = Vec::new();
        for (&chunk, files) in &inventory.chunks {
            // Without ledgers there is nothing to derive from; that they are missing is for the other check to say.
            if !files.contains_key(&Kind::Ledgers) {
                continue;
            }
            if let Err(e) = finding(deep.derive(chunk))? {
                report(Checked { path: self.layout().file(Kind::Ledgers, chunk), result: Err(e) });
                continue;
            }
            derived.push(chunk);
            for kind in DERIVED {
                let path = self.layout().file(kind, chunk);
                if files.contains_key(&kind) {
                    let result = finding(deep.compare(&path, &again.file(kind, chunk)))?;
                    report(Checked { path, result });
                }
                if kind != Kind::Run {
                    self.disk().remove(&again.file(kind, chunk))?;
                }
            }
        }
        for coverage in inventory.indexes.keys() {
            let path = self.layout().index(coverage);
            let whole = coverage.chunks().all(|chunk| derived.contains(&chunk));
            let result = if whole { deep.check_index(coverage) } else { Err(incomplete_coverage(&path)) };
            report(Checked { path, result: finding(result)? });
        }
        Ok(())
    }
}

/// What is made from a chunk's ledgers.
const DERIVED: [Kind; 4] = [Kind::Run, Kind::Events, Kind::EventBitmaps, Kind::EventTerms];

/// Tells a finding, which says something of the files, from trouble of the machine, which ends the check.
fn finding<T>(result: Result<T>) -> Result<Result<T>> {
    match result {
        Err(e) if e.is_retryable() => Err(e),
        result => Ok(result),
    }
}

fn incomplete_coverage(path: &Path) -> Error {
    let what = "not every chunk that it covers has sound ledgers to compare with".to_owned();
    Error::Differs { path: path.to_path_buf(), what }
}

struct Deep<'a> {
    store: &'a Store,
    decoder: &'a dyn Decoder,
    again: &'a Layout,
    workers: usize,
    control: &'a Control,
}

impl Deep<'_> {
    /// Writes a chunk's run and events once more, from its pack.
    fn derive(&self, chunk: ChunkId) -> Result<()> {
        let ledgers = ledgers_of(&self.store.manifest().geometry, chunk)?;
        let pack = self.store.open_pack(chunk)?;
        let Deep { decoder, control, again, .. } = self;
        let build = ChunkBuild {
            disk: self.store.disk(),
            layout: again,
            decoder: *decoder,
            control,
            threads: self.workers,
            if_exists: IfExists::Fail,
        };
        build.run(chunk, ledgers, &DERIVED, &mut *pack.stream(ledgers)?)?;
        Ok(())
    }

    fn compare(&self, path: &Path, expected: &Path) -> Result<()> {
        let (found, expected) = (self.store.disk().open(path)?, self.store.disk().open(expected)?);
        match first_difference(&*found, &*expected)? {
            None => Ok(()),
            Some(at) => Err(Error::Differs { path: path.to_path_buf(), what: format!("from byte {at} on") }),
        }
    }

    /// Leads every hash through the index, then builds the index again and compares bytes.
    fn check_index(&self, coverage: &Coverage) -> Result<()> {
        let store = self.store;
        let path = store.layout().index(coverage);
        let index = store.open_index(coverage)?;
        for chunk in coverage.chunks() {
            self.control.check()?;
            for entry in Run::open(store.disk(), &self.again.file(Kind::Run, chunk))?.scan() {
                let entry = entry?;
                // The index knows no more of a hash than its first half.
                let mut hash = TxHash([0; 32]);
                hash.0[..16].copy_from_slice(&entry.key);
                if index.lookup(&hash)? != Some(entry.seq) {
                    return Err(Error::Unresolved { path, hash, seq: entry.seq });
                }
            }
        }
        let geometry = &store.manifest().geometry;
        let options = Options::new().algorithm(index.algorithm()).workers(self.workers);
        build_index_as(store.disk(), self.again, geometry, coverage, options, self.control)?;
        let compared = self.compare(&path, &self.again.index(coverage));
        store.disk().remove(&self.again.index(coverage))?;
        compared
    }
}
