//! Cuts sorted runs where a builder cuts its key space.
//!
//! ```text
//! key space   0 ──────────┬───────────┬───────────┬────────── 2^64     (the first 8 bytes, big-endian)
//! run a       · ·  ·   ·  │ ·   ·   · │  ·  · ·   │  ·   ·
//! run b         ·  · ·    │·  · ·     │ ·   ·  ·  │·  ·    ·
//!             range 0     │ range 1   │ range 2   │ range 3
//! ```
//!
//! Hashes are uniform, so equal parts of the key space hold about equally many entries: from a place in a run where one
//! cut is known to be, a guess leads to another, and one read nearly always holds what lies between two, and little
//! more. Each range is read by a worker of its own, which tells at both ends where it found the cuts, and so gives those
//! after it a place to guess from. Two ranges must agree on the cut between them: then every entry was read exactly
//! once, and as each range saw its own entries ascend, they all do. Where they do not agree, the run is read once more
//! from its beginning to see what is wrong with it.
//!
//! Memory is one read and two numbers per run and worker, however long the runs are.

use std::{
    collections::BTreeMap,
    ops::Range,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use icecore_diskio::Disk;
use icecore_ledger::LedgerRange;
use icecore_streamhash::{Fill, KeyRange, Places};

use crate::{
    Entry, Error, Key, Result, Run,
    run::{ENTRY_BYTES, check_order},
};

const KEY_SPACE: u128 = 1 << 64;
/// No read is longer.
const READ_ENTRIES: u64 = 1 << 14;

type Bytes = [u8; ENTRY_BYTES];

/// Some runs of which an index is to be built.
pub(crate) struct Runs {
    disk: Arc<dyn Disk>,
    coverage: LedgerRange,
    files: Vec<RunFile>,
    seams: Mutex<Seams>,
}

struct RunFile {
    path: PathBuf,
    len: u64,
    open: Option<Run>,
}

/// Where the cuts before some ranges are.
#[derive(Default)]
struct Seams(BTreeMap<u32, Seam>);

struct Seam {
    /// The first eight bytes of what follows are at least this.
    prefix: u64,
    /// The place in each run.
    positions: Vec<u64>,
    /// Whether both neighbours have told.
    agreed: bool,
}

fn prefix(bytes: &Bytes) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[..8]);
    u64::from_be_bytes(word)
}

impl Runs {
    /// Opens every run once. So many stay open; the others are opened anew for each range.
    pub(crate) fn open(
        disk: &Arc<dyn Disk>,
        coverage: LedgerRange,
        runs: &[impl AsRef<Path>],
        open_runs: usize,
    ) -> Result<Self> {
        let mut files = Vec::with_capacity(runs.len());
        for path in runs {
            let path = path.as_ref();
            let run = Run::open(disk, path)?;
            let (path, len) = (path.to_path_buf(), run.len());
            files.push(RunFile { path, len, open: (files.len() < open_runs).then_some(run) });
        }
        let start = Seam { prefix: 0, positions: vec![0; files.len()], agreed: true };
        let seams = Mutex::new(Seams(BTreeMap::from([(0, start)])));
        Ok(Runs { disk: Arc::clone(disk), coverage, files, seams })
    }

    /// How many entries all runs have. Sparse files can claim any length; so many entries are refused soon.
    pub(crate) fn total(&self) -> u64 {
        self.files.iter().fold(0, |sum, file| sum.saturating_add(file.len))
    }

    /// A worker's way to the entries.
    pub(crate) fn cutter(&self) -> Cutter<'_> {
        Cutter { runs: self, bytes: Vec::new(), starts: Vec::new(), ends: Vec::new() }
    }

    fn reopen(&self, file: &RunFile) -> Result<Run> {
        Run::reopen(&self.disk, &file.path, file.len)
    }

    /// Puts a copy of the nearest known places before range `number` into `positions`, and tells what prefix they are
    /// of, and whether they are those of the range itself.
    fn nearest(&self, number: u32, positions: &mut Vec<u64>) -> (u64, bool) {
        let seams = self.seams.lock().unwrap_or_else(PoisonError::into_inner);
        positions.clear();
        match seams.0.range(..=number).next_back() {
            Some((&found, seam)) => {
                positions.extend_from_slice(&seam.positions);
                (seam.prefix, found == number)
            }
            // Never: the beginning stays known until a later place is.
            None => {
                positions.resize(self.files.len(), 0);
                (0, false)
            }
        }
    }

    /// Takes note of where a worker found a cut.
    fn tell(&self, number: u32, prefix: u64, positions: &[u64]) -> Result<()> {
        let mut seams = self.seams.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(seam) = seams.0.get_mut(&number) else {
            seams.0.insert(number, Seam { prefix, positions: positions.to_vec(), agreed: false });
            return Ok(());
        };
        let differs = seam.positions.iter().zip(positions).position(|(there, here)| there != here);
        seam.agreed = true;
        seams.0.retain(|&other, seam| other >= number || !seam.agreed);
        drop(seams);
        differs.and_then(|run| self.files.get(run)).map_or(Ok(()), |file| Err(self.diagnose(file)))
    }

    /// What is wrong with a run that is not what it seemed.
    #[cold]
    fn diagnose(&self, file: &RunFile) -> Error {
        let changed = || {
            let what = "it changed while it was read".to_owned();
            Error::CorruptRun { path: file.path.clone(), what }
        };
        let scanned = self.reopen(file).and_then(|run| run.scan().try_for_each(|entry| entry.map(drop)));
        scanned.err().unwrap_or_else(changed)
    }

    /// The two ledgers of a key that is in more than one run.
    #[cold]
    pub(crate) fn twins(&self, key: Key) -> Result<Option<Error>> {
        let mut first = None;
        for file in &self.files {
            match (first, self.reopen(file)?.find(&key)?) {
                (_, None) => {}
                (None, found) => first = found,
                (Some(first), Some(second)) => return Ok(Some(Error::DuplicateKey { key, first, second })),
            }
        }
        Ok(None)
    }
}

/// Cuts one range after another out of all runs.
pub(crate) struct Cutter<'a> {
    runs: &'a Runs,
    bytes: Vec<u8>,
    /// Where the range begins in each run; before it is known, some place before that.
    starts: Vec<u64>,
    ends: Vec<u64>,
}

impl Fill for Cutter<'_> {
    type Error = Error;

    fn fill(&mut self, range: &KeyRange, places: &mut Places) -> Result<()> {
        let (prefix, exact) = self.runs.nearest(range.number, &mut self.starts);
        self.ends.clear();
        for (file, start) in self.runs.files.iter().zip(&mut self.starts) {
            let mut cut = Cut { runs: self.runs, file, range, bytes: &mut self.bytes, places };
            let found = cut.find(Place { position: *start, prefix }, exact)?;
            *start = found.start;
            self.ends.push(found.end);
        }
        self.runs.tell(range.number, range.from, &self.starts)?;
        // The end of the key space is the beginning of nothing.
        match u64::try_from(range.to) {
            Ok(to) => self.runs.tell(range.number + 1, to, &self.ends),
            Err(_) => Ok(()),
        }
    }
}

/// A place in a run: entries from `position` on have at least that prefix, those before it have less.
#[derive(Clone, Copy)]
struct Place {
    position: u64,
    prefix: u64,
}

/// One range of one run.
struct Cut<'a> {
    runs: &'a Runs,
    file: &'a RunFile,
    range: &'a KeyRange,
    bytes: &'a mut Vec<u8>,
    places: &'a mut Places,
}

impl Cut<'_> {
    /// Adds the entries of the range, and tells where they are. `known` is a place not after them, and where `exact`,
    /// that of the first one.
    fn find(&mut self, mut known: Place, exact: bool) -> Result<Range<u64>> {
        let len = self.file.len;
        if known.position == len {
            return Ok(len..len);
        }
        let reopened;
        let run = match &self.file.open {
            Some(run) => run,
            None => {
                reopened = self.runs.reopen(self.file)?;
                &reopened
            }
        };
        let mut start = exact.then_some(known.position);
        let mut at = if exact { known.position } else { self.guess(known) };
        let mut last = None;
        while at < len {
            let count = self.worth_reading(known, at);
            let mut bytes = std::mem::take(self.bytes);
            bytes.resize(count as usize * ENTRY_BYTES, 0);
            let read = run.read(&mut bytes, at);
            let own = read
                .and_then(|()| self.take(bytes.as_chunks().0, &mut known, &mut at, &mut start, &mut last));
            *self.bytes = bytes;
            if own? {
                break;
            }
        }
        Ok(start.unwrap_or(at)..at)
    }

    /// About how many entries there are from a place to a prefix, and the standard deviation of that.
    fn expected(&self, known: Place, to: u128) -> (f64, f64) {
        let part =
            to.saturating_sub(known.prefix.into()) as f64 / (KEY_SPACE - u128::from(known.prefix)) as f64;
        let expected = (self.file.len - known.position) as f64 * part;
        (expected, expected.sqrt())
    }

    /// A position a little before the range.
    fn guess(&self, known: Place) -> u64 {
        let (skipped, deviation) = self.expected(known, self.range.from.into());
        // To guess too far costs a whole read.
        known.position + (skipped - 4.0 * deviation - 4.0).max(0.0) as u64
    }

    /// How many entries to read from `at` on, so that most likely they reach beyond the range.
    fn worth_reading(&self, known: Place, at: u64) -> u64 {
        let (expected, deviation) = self.expected(known, self.range.to);
        // Too little costs a short read more, and seldom; too much is read for nothing every time.
        let end = known.position + (expected + 2.0 * deviation + 4.0) as u64;
        end.saturating_sub(at).clamp(8, READ_ENTRIES).min(self.file.len - at)
    }

    /// Adds what belongs to the range of the entries read from `at` on, and moves `at` on to the next one wanted. True when that
    /// is the first one after the range.
    fn take(
        &mut self,
        entries: &[Bytes],
        known: &mut Place,
        at: &mut u64,
        start: &mut Option<u64>,
        last: &mut Option<Entry>,
    ) -> Result<bool> {
        let before = |to: u128| entries.partition_point(|entry| u128::from(prefix(entry)) < to);
        let mut first = 0;
        if start.is_none() {
            first = before(self.range.from.into());
            if first == 0 && *at > known.position {
                // The guess was too far.
                *at = known.position;
                return Ok(false);
            }
            *at += first as u64;
            if first == entries.len() {
                let prefix = entries.last().map_or(known.prefix, prefix);
                *known = Place { position: *at, prefix };
                return Ok(false);
            }
            *start = Some(*at);
        }
        let end = before(self.range.to).max(first);
        let own = &entries[first..end];
        self.add(own, *at, *last)?;
        *at += own.len() as u64;
        *last = own.last().map(Entry::decode).or(*last);
        if let Some(last) = last {
            *known = Place { position: *at, prefix: (last.order() >> 64) as u64 };
        }
        Ok(end < entries.len())
    }

    /// Adds entries that follow `last`, the first of which is at `position`.
    fn add(&mut self, entries: &[Bytes], position: u64, last: Option<Entry>) -> Result<()> {
        let coverage = self.runs.coverage;
        let (first_seq, span) = (coverage.first.0, coverage.last.0 - coverage.first.0);
        let mut fine = true;
        // Checked all at once, and looked at again where one is not fine.
        let mut previous = last.map(|last| last.order());
        for entry in entries {
            let Entry { key, seq } = Entry::decode(entry);
            let order = u128::from_be_bytes(key);
            let distance = seq.0.wrapping_sub(first_seq);
            fine &= previous.is_none_or(|previous| previous < order) & (distance <= span);
            previous = Some(order);
            // More than the payload can say is not fine.
            self.places.add(&key, distance.min(span).into());
        }
        let in_range = entries.first().is_none_or(|entry| prefix(entry) >= self.range.from);
        if fine && in_range { Ok(()) } else { Err(self.refusal(entries, position, last)) }
    }

    /// What is wrong with entries that are not fine.
    #[cold]
    fn refusal(&self, entries: &[Bytes], position: u64, mut last: Option<Entry>) -> Error {
        let (path, coverage) = (&self.file.path, self.runs.coverage);
        for (position, entry) in (position..).zip(entries.iter().map(Entry::decode)) {
            if let Err(error) = check_order(last, entry, position, path) {
                return error;
            }
            if !coverage.contains(entry.seq) {
                return Error::OutsideCoverage { path: path.clone(), position, seq: entry.seq, coverage };
            }
            last = Some(entry);
        }
        // They are, but do not belong here.
        self.runs.diagnose(self.file)
    }
}
