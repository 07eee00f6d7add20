//! Cuts many sorted runs at the same keys, so that what lies between two cuts can be sorted together.
//!
//! ```text
//! key space   0 ──────────┬───────────┬───────────┬────────── 2^64     (the first 8 bytes, big-endian)
//! run a       · ·  ·   ·  │ ·   ·   · │  ·  · ·   │  ·   ·
//! run b         ·  · ·    │·  · ·     │ ·   ·  ·  │·  ·    ·
//!             slice 0     │ slice 1   │ slice 2   │ slice 3
//! ```
//!
//! Hashes are uniform, so equal parts of the key space hold about equally many entries, and one guess at where a run
//! is to be cut nearly always reads neither too little nor much too much. Memory is one slice, however long the runs
//! are; runs that are not uniform are refused when a slice grows past that.
//!
//! A run is opened anew for each slice: a thousand runs need not be a thousand descriptors.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use icecore_diskio::Disk;
use icecore_ledger::LedgerRange;

use crate::{
    Entry, Error, Result, Run,
    run::{ENTRY_BYTES, check_order, entries},
};

const KEY_SPACE: u128 = 1 << 64;
const READ_ENTRIES: u64 = 1 << 16;

/// A run, and how far it has been consumed.
struct Cursor {
    path: PathBuf,
    len: u64,
    position: u64,
    last: Option<Entry>,
}

/// The slices of some runs, in the order of their keys; unsorted inside.
pub(crate) struct Slices {
    disk: Arc<dyn Disk>,
    coverage: LedgerRange,
    cursors: Vec<Cursor>,
    total: u64,
    count: u64,
    next: u64,
    bytes: Vec<u8>,
}

fn prefix(entry: &Entry) -> u128 {
    entry.order() >> 64
}

impl Slices {
    /// Opens every run once, and plans slices of at most `slice_entries` on average.
    pub(crate) fn open(
        disk: &Arc<dyn Disk>,
        coverage: LedgerRange,
        runs: &[impl AsRef<Path>],
        slice_entries: u64,
    ) -> Result<Self> {
        let cursor = |path: &Path| {
            let len = Run::open(disk, path)?.len();
            Ok(Cursor { path: path.to_path_buf(), len, position: 0, last: None })
        };
        let cursors: Vec<Cursor> = runs.iter().map(|path| cursor(path.as_ref())).collect::<Result<_>>()?;
        // Sparse files can claim any length; so many entries are refused soon.
        let total = cursors.iter().fold(0u64, |sum, cursor| sum.saturating_add(cursor.len));
        let count = total.div_ceil(slice_entries);
        Ok(Slices { disk: Arc::clone(disk), coverage, cursors, total, count, next: 0, bytes: Vec::new() })
    }

    /// How many entries all runs have.
    pub(crate) fn total(&self) -> u64 {
        self.total
    }

    /// How many slices there are.
    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// Where slice `number` begins.
    fn cut(&self, number: u64) -> u128 {
        (u128::from(number) * KEY_SPACE).div_ceil(u128::from(self.count))
    }

    /// The next slice, `None` after the last.
    pub(crate) fn next_slice(&mut self) -> Result<Option<Vec<Entry>>> {
        if self.next == self.count {
            return Ok(None);
        }
        let (from, to) = (self.cut(self.next), self.cut(self.next + 1));
        let expected = self.total / self.count;
        let limit = if self.count == 1 { expected } else { expected + expected / 4 + 1024 };
        let mut slice = Vec::with_capacity((expected + expected / 64) as usize);
        for i in 0..self.cursors.len() {
            self.gather(i, from, to, &mut slice, limit)?;
            if slice.len() as u64 > limit {
                return Err(Error::NotUniform { expected, found: slice.len() as u64 });
            }
        }
        self.next += 1;
        Ok(Some(slice))
    }

    /// Takes the entries of one run below the cut `to`, and little more than `limit` in all.
    fn gather(&mut self, i: usize, from: u128, to: u128, slice: &mut Vec<Entry>, limit: u64) -> Result<()> {
        let cursor = &mut self.cursors[i];
        if cursor.position == cursor.len {
            return Ok(());
        }
        let run = Run::open(&self.disk, &cursor.path)?;
        if run.len() != cursor.len {
            let what =
                format!("it had {} entries when the build began, now it has {}", cursor.len, run.len());
            return Err(Error::CorruptRun { path: cursor.path.clone(), what });
        }
        while cursor.position < cursor.len && slice.len() as u64 <= limit {
            let want = cursor.estimate(from, to);
            self.bytes.resize(want as usize * ENTRY_BYTES, 0);
            run.read(&mut self.bytes, cursor.position)?;
            for entry in entries(&self.bytes) {
                if prefix(&entry) >= to {
                    return Ok(());
                }
                cursor.accept(entry, self.coverage)?;
                slice.push(entry);
            }
        }
        Ok(())
    }
}

impl Cursor {
    /// How many entries to read, so that most likely they reach past the cut: at least one, at most what is left.
    fn estimate(&self, from: u128, to: u128) -> u64 {
        let from = self.last.as_ref().map_or(from, |last| from.max(prefix(last)));
        let left = self.len - self.position;
        let expected = left as f64 * (to.saturating_sub(from) as f64 / (KEY_SPACE - from) as f64);
        left.min((expected + 4.0 * expected.sqrt() + 16.0) as u64).min(READ_ENTRIES)
    }

    fn accept(&mut self, entry: Entry, coverage: LedgerRange) -> Result<()> {
        check_order(self.last, entry, self.position, &self.path)?;
        if !coverage.contains(entry.seq) {
            let (path, position) = (self.path.clone(), self.position);
            return Err(Error::OutsideCoverage { path, position, seq: entry.seq, coverage });
        }
        self.last = Some(entry);
        self.position += 1;
        Ok(())
    }
}
