//! INV-1 to the ground: a chunk's ledgers are read and checked, everything that follows from them is made again and
//! compared, and every hash is led through its window's index to its ledger.

use std::{collections::BTreeSet, ops::ControlFlow, path::Path, sync::atomic::Ordering::Relaxed};

use icecore_cold::{ChunkBuild, Coverage, Error as ColdError, Kind, Layout, LedgerPack, open_index};
use icecore_diskio::{IfExists, first_difference};
use icecore_ledger::{ChunkId, Geometry, LedgerRange, Source, TxHash};
use icecore_txindex::{Algorithm, Options, Run, build_index_with};

use super::{
    Audit, AuditReport, Deep, Finding,
    Invariant::Reads,
    look::{Look, Word},
    memory::Memory,
};
use crate::{Artifact, Error, Key, Result};

/// What is made from a chunk's ledgers.
const DERIVED: [Kind; 4] = [Kind::Run, Kind::Events, Kind::EventBitmaps, Kind::EventTerms];

impl Audit<'_> {
    pub(super) fn deep(
        &self,
        look: &Look,
        options: &Deep<'_>,
        look_again: &dyn Fn() -> Result<Look>,
        report: &mut AuditReport,
    ) -> Result<()> {
        let memory = Memory::load(self.layout, &look.generation, options.trust);
        let again = Layout::new(options.scratch);
        let mut pass =
            Pass { audit: self, look, options, again, memory, derived: BTreeSet::new(), found: Vec::new() };
        pass.run(report)?;
        let Pass { memory, mut found, derived, .. } = pass;
        if self.options.between_looks.is_some() && !found.is_empty() {
            // What was removed or replaced meanwhile is no fault of it.
            let later = look_again()?;
            found.retain(|finding| finding.key.is_none_or(|key| look.stays(&later, key, self.layout)));
        }
        report.derived = derived.len() as u64;
        report.findings.extend(found);
        if let Err(error) = memory.save(&look.files) {
            tracing::warn!(%error, "what this audit found sound is not remembered");
        }
        Ok(())
    }
}

struct Pass<'a> {
    audit: &'a Audit<'a>,
    look: &'a Look,
    options: &'a Deep<'a>,
    /// Where things are made again.
    again: Layout,
    memory: Memory,
    derived: BTreeSet<ChunkId>,
    found: Vec<Finding>,
}

impl Pass<'_> {
    fn run(&mut self, report: &mut AuditReport) -> Result<()> {
        // What cannot even be opened has been told of.
        let bad: BTreeSet<Key> = report.findings.iter().filter_map(|finding| finding.key).collect();
        let good = |key: &Key| {
            let whole = key.paths(self.audit.layout).iter().all(|path| self.look.files.contains_key(path));
            self.look.word(key) == Some(Word::Frozen) && whole && !bad.contains(key)
        };
        let keys: BTreeSet<Key> = self.look.keys.keys().filter(|key| good(key)).copied().collect();
        let chunks = self.drawn(&keys);
        let index = |key: &Key| match key {
            Key::Index(coverage) => Some(*coverage),
            _ => None,
        };
        let indexes: Vec<Coverage> = keys.iter().filter_map(index).collect();
        let (known, new): (Vec<Coverage>, Vec<Coverage>) =
            indexes.into_iter().partition(|coverage| self.is_remembered(&Key::Index(*coverage)));
        let per_chunk = u64::from(self.look.geometry.ledgers_per_chunk());
        self.audit.begin(chunks.len() as u64 * per_chunk);
        report.remembered = known.len() as u64;
        for chunk in chunks {
            // A new index needs the hashes of every chunk that it covers: from its run, or else from its ledgers.
            let needed = new.iter().any(|coverage| coverage.covers(chunk))
                && !keys.contains(&Key::Chunk(chunk, Artifact::TxHash));
            let own: Vec<Key> =
                Artifact::ALL.into_iter().map(|artifact| Key::Chunk(chunk, artifact)).collect();
            let own: Vec<Key> = own.into_iter().filter(|key| keys.contains(key)).collect();
            if !needed && own.iter().all(|key| self.is_remembered(key)) {
                report.remembered += 1;
                self.audit.control.done.fetch_add(per_chunk, Relaxed);
                continue;
            }
            self.chunk(chunk, &own)?;
        }
        let mut changed = Vec::new();
        for coverage in known.iter().filter(|known| known.chunks().any(|chunk| self.derived.contains(&chunk)))
        {
            // It is what it was, but are the ledgers?
            let led = self.lead(coverage, &BTreeSet::new()).map(drop);
            self.audit.check()?;
            changed.push((*coverage, led));
        }
        for (coverage, led) in changed {
            self.tell(Key::Index(coverage), &self.audit.layout.index(&coverage), led, false);
        }
        for coverage in new {
            self.audit.check()?;
            let key = Key::Index(coverage);
            let checked = self.index(&coverage, &keys)?;
            let whole = coverage.chunks().all(|chunk| self.has_hashes(chunk, &keys));
            self.tell(key, &self.audit.layout.index(&coverage), checked, whole);
        }
        Ok(())
    }

    /// The chunks with ledgers to derive from; where a sample is asked for, so many of them.
    fn drawn(&self, keys: &BTreeSet<Key>) -> Vec<ChunkId> {
        let with_ledgers = |key: &Key| match key {
            Key::Chunk(chunk, Artifact::Ledgers) => Some(*chunk),
            _ => None,
        };
        let mut chunks: Vec<ChunkId> = keys.iter().filter_map(with_ledgers).collect();
        if let Some((count, seed)) = self.options.sample {
            let lot = |chunk: &ChunkId| mix(seed ^ mix(u64::from(chunk.0)));
            chunks.sort_by_key(lot);
            chunks.truncate(count as usize);
            chunks.sort();
        }
        chunks
    }

    fn is_remembered(&self, key: &Key) -> bool {
        let sound =
            |path: &Path| self.look.files.get(path).is_some_and(|&stamp| self.memory.is_sound(path, stamp));
        key.paths(self.audit.layout).iter().all(|path| sound(path))
    }

    /// Notes how the check of a file went.
    fn tell(&mut self, key: Key, path: &Path, checked: Result<(), ColdError>, remember: bool) {
        match checked {
            Err(error) => {
                self.memory.forget(path);
                self.found.push(Finding::of(Reads, key, error.to_string()).with_path(path));
            }
            Ok(()) => {
                if let Some(&stamp) = self.look.files.get(path).filter(|_| remember) {
                    self.memory.remember(path, stamp);
                }
            }
        }
    }

    fn chunk(&mut self, chunk: ChunkId, own: &[Key]) -> Result<()> {
        let layout = self.audit.layout;
        let pack = layout.file(Kind::Ledgers, chunk);
        let derived = self.derive(chunk)?;
        let is_sound = derived.is_ok();
        self.tell(Key::Chunk(chunk, Artifact::Ledgers), &pack, derived, true);
        for kind in DERIVED.into_iter().filter(|_| is_sound) {
            let (key, path) = (Key::Chunk(chunk, Artifact::of_kind(kind)), layout.file(kind, chunk));
            if own.contains(&key) {
                let compared = self.compare(&path, &self.again.file(kind, chunk));
                self.tell(key, &path, compared, true);
            }
        }
        if is_sound {
            self.derived.insert(chunk);
        }
        for kind in DERIVED.into_iter().filter(|kind| !is_sound || *kind != Kind::Run) {
            let path = self.again.file(kind, chunk);
            if self.audit.disk.file_len(&path)?.is_some() {
                self.audit.disk.remove(&path)?;
            }
        }
        Ok(())
    }

    /// Checks the ledgers of a chunk, and makes once more what follows from them.
    fn derive(&self, chunk: ChunkId) -> Result<Result<(), ColdError>> {
        let Audit { disk, layout, decoder, control, .. } = self.audit;
        let ledgers = ledgers_of(&self.look.geometry, chunk)?;
        let path = layout.file(Kind::Ledgers, chunk);
        let verified = LedgerPack::open_chunk(disk, &path, ledgers).and_then(|pack| {
            pack.reader().verify()?;
            Ok(pack)
        });
        let pack = match verified {
            Ok(pack) => pack,
            Err(error) => return Ok(Err(error)),
        };
        let (threads, if_exists) = (self.options.workers, IfExists::Replace);
        let build = ChunkBuild { disk, layout: &self.again, decoder: *decoder, control, threads, if_exists };
        let stream = pack.stream(ledgers).map_err(ColdError::from);
        of_the_store(
            stream.and_then(|mut stream| build.run(chunk, ledgers, &DERIVED, &mut *stream).map(drop)),
        )
    }

    fn compare(&self, path: &Path, expected: &Path) -> Result<(), ColdError> {
        let disk = self.audit.disk;
        match first_difference(&*disk.open(path)?, &*disk.open(expected)?)? {
            None => Ok(()),
            Some(at) => {
                let what = format!("what its ledgers give differs from byte {at} on");
                Err(ColdError::Differs { path: path.to_path_buf(), what })
            }
        }
    }

    /// Checks an index, and, where everything that it is made from was made again, makes it too.
    fn index(&self, coverage: &Coverage, keys: &BTreeSet<Key>) -> Result<Result<(), ColdError>> {
        let led = self.lead(coverage, keys);
        self.audit.check()?;
        let algorithm = match led {
            Ok(algorithm) if coverage.chunks().all(|chunk| self.derived.contains(&chunk)) => algorithm,
            led => return Ok(led.map(drop)),
        };
        if let Err(error) = of_the_store(self.make_index(coverage, algorithm))? {
            return Ok(Err(error));
        }
        let (made, path) = (self.again.index(coverage), self.audit.layout.index(coverage));
        let compared = self.compare(&path, &made);
        self.audit.disk.remove(&made)?;
        Ok(compared)
    }

    /// Makes an index once more, the way it was made.
    fn make_index(&self, coverage: &Coverage, algorithm: Algorithm) -> Result<(), ColdError> {
        let Audit { disk, control, .. } = self.audit;
        let (again, geometry) = (&self.again, &self.look.geometry);
        let runs: Vec<_> = coverage.chunks().map(|chunk| again.file(Kind::Run, chunk)).collect();
        let first = ledgers_of(geometry, coverage.first)?.first;
        let ledgers = LedgerRange { first, last: ledgers_of(geometry, coverage.last)?.last };
        let out = again.index(coverage);
        disk.create_dir_all(out.parent().unwrap_or(self.options.scratch))?;
        let options = Options::new().algorithm(algorithm).workers(self.options.workers);
        let go_on =
            |_| if control.is_cancelled() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) };
        match build_index_with(disk, &out, ledgers, &runs, options.if_exists(IfExists::Replace), go_on) {
            Err(icecore_txindex::Error::Cancelled) => Err(ColdError::Cancelled),
            made => Ok(made.map(drop)?),
        }
    }

    /// True when the hashes of a chunk are at hand.
    fn has_hashes(&self, chunk: ChunkId, keys: &BTreeSet<Key>) -> bool {
        self.derived.contains(&chunk) || keys.contains(&Key::Chunk(chunk, Artifact::TxHash))
    }

    /// Leads every hash that is at hand through an index, which must be sound by itself; answers how that was made.
    fn lead(&self, coverage: &Coverage, keys: &BTreeSet<Key>) -> Result<Algorithm, ColdError> {
        let Audit { disk, layout, control, .. } = self.audit;
        let index = open_index(&***disk, layout, &self.look.geometry, coverage)?;
        index.verify()?;
        for chunk in coverage.chunks().filter(|chunk| self.has_hashes(*chunk, keys)) {
            let of = if self.derived.contains(&chunk) { &self.again } else { layout };
            for entry in Run::open(disk, &of.file(Kind::Run, chunk))?.scan() {
                let entry = entry?;
                // The index knows no more of a hash than its first half.
                let mut hash = TxHash([0; 32]);
                hash.0[..16].copy_from_slice(&entry.key);
                if index.lookup(&hash)? != Some(entry.seq) {
                    return Err(ColdError::Unresolved { path: layout.index(coverage), hash, seq: entry.seq });
                }
            }
            if control.is_cancelled() {
                return Err(ColdError::Cancelled);
            }
        }
        Ok(index.algorithm())
    }
}

/// Tells what says something of the store from trouble of the machine, which ends the audit: what was read has been read
/// before, so that is the scratch directory's.
fn of_the_store(result: Result<(), ColdError>) -> Result<Result<(), ColdError>> {
    match result {
        Err(error) if error.is_retryable() || matches!(error, ColdError::Cancelled) => {
            Err(Error::Cold(error))
        }
        result => Ok(result),
    }
}

fn ledgers_of(geometry: &Geometry, chunk: ChunkId) -> Result<LedgerRange, ColdError> {
    geometry.ledgers_of(chunk).ok_or(ColdError::ChunkOutOfRange { chunk })
}

/// Spreads numbers evenly: the finisher of SplitMix64 (Steele, Lea and Flood, 2014).
fn mix(mut n: u64) -> u64 {
    n = (n ^ (n >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    n = (n ^ (n >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    n ^ (n >> 31)
}
