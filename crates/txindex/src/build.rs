//! Building a window index out of sorted runs.
//!
//! Every worker of a [`RangeBuilder`] cuts its ranges of the key space out of all runs itself (see [`cut`](crate::cut)):
//! nothing is merged, and no entry passes from one thread to another.

use std::{ops::ControlFlow, path::Path, sync::Arc};

use icecore_diskio::{Disk, IfExists};
use icecore_ledger::LedgerRange;
use icecore_streamhash::{Algorithm, RangeBuilder};
use rustix::process::{Resource, getrlimit};

use crate::{Error, Result, cut::Runs, index::stmh_options};

/// How an index is built. Its bytes depend on the algorithm alone.
#[derive(Clone, Debug)]
#[must_use]
pub struct Options {
    algorithm: Algorithm,
    workers: usize,
    if_exists: IfExists,
    slice_entries: Option<u64>,
    open_runs: Option<usize>,
}

impl Default for Options {
    fn default() -> Self {
        Self::new()
    }
}

impl Options {
    /// Bijection, one worker, an existing file is left alone.
    pub fn new() -> Self {
        Options {
            algorithm: Algorithm::default(),
            workers: 1,
            if_exists: IfExists::Fail,
            slice_entries: None,
            open_runs: None,
        }
    }

    /// How the index finds ledgers. It says so itself: whoever opens it need not know.
    pub fn algorithm(mut self, algorithm: Algorithm) -> Self {
        self.algorithm = algorithm;
        self
    }

    /// How many threads read runs and solve blocks, the caller's among them; at most 1024.
    pub fn workers(mut self, count: usize) -> Self {
        self.workers = count;
        self
    }

    /// What to do about an existing file of the same name.
    pub fn if_exists(mut self, if_exists: IfExists) -> Self {
        self.if_exists = if_exists;
        self
    }

    /// About how many entries a worker takes at a time. Where nothing is said it is enough to fetch a thousand of each
    /// run at once, and little enough to stay in a near cache where it can.
    pub fn slice_entries(mut self, entries: u64) -> Self {
        self.slice_entries = Some(entries);
        self
    }

    /// How many runs stay open; the others are opened anew whenever some of their entries are wanted, which costs about as
    /// much as reading these. Where nothing is said it is half as many as the process may have files.
    pub fn open_runs(mut self, count: usize) -> Self {
        self.open_runs = Some(count);
        self
    }

    fn open_runs_or_half(&self) -> usize {
        let half = || getrlimit(Resource::Nofile).current.map_or(u64::MAX, |files| files / 2);
        self.open_runs.unwrap_or_else(|| usize::try_from(half()).unwrap_or(usize::MAX))
    }

    fn range_keys(&self, runs: usize) -> u64 {
        const FEWEST: u64 = 1 << 15;
        const MOST: u64 = 1 << 20;
        const OF_EACH_RUN: u64 = 1024;
        self.slice_entries.unwrap_or_else(|| (runs as u64).saturating_mul(OF_EACH_RUN).clamp(FEWEST, MOST))
    }
}

/// How far a build has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Progress {
    /// Entries in the index so far.
    pub entries_done: u64,
    /// All entries.
    pub entries: u64,
}

/// Builds the index over `runs`, in any order, and seals it as `out`. Returns how many entries it holds.
///
/// Memory: 43 MB for each worker at most (1 MB with one run, 13 MB with three hundred), 16 bytes per run and worker, and 10 bytes per three thousand entries, however
/// large the runs.
///
/// # Errors
/// [`Error::BadCoverage`], [`Error::MissingRun`], [`Error::CorruptRun`], [`Error::UnsortedRun`],
/// [`Error::OutsideCoverage`], [`Error::DuplicateKey`], [`Error::NotUniform`], [`Error::Thread`], [`Error::Index`]
/// and [`Error::Disk`]; with any of them, nothing is left behind but, where an older index was replaced and only the
/// last sync of the directory failed, the whole index.
pub fn build_index(
    disk: &Arc<dyn Disk>,
    out: &Path,
    coverage: LedgerRange,
    runs: &[impl AsRef<Path>],
    options: Options,
) -> Result<u64> {
    build_index_with(disk, out, coverage, runs, options, |_| ControlFlow::Continue(()))
}

/// [`build_index`], telling now and then, and before the index is sealed, how far it has come; the callback may stop it.
///
/// # Errors
/// Those of [`build_index`]; [`Error::Cancelled`] where the callback breaks.
pub fn build_index_with(
    disk: &Arc<dyn Disk>,
    out: &Path,
    coverage: LedgerRange,
    runs: &[impl AsRef<Path>],
    options: Options,
    mut progress: impl FnMut(Progress) -> ControlFlow<()>,
) -> Result<u64> {
    let stmh = stmh_options(coverage, options.algorithm)?.workers(options.workers);
    let stmh = stmh.if_exists(options.if_exists).range_keys(options.range_keys(runs.len()));
    let open_runs = options.open_runs_or_half();
    let runs = Runs::open(disk, coverage, runs, open_runs)?;
    let builder = RangeBuilder::create_on(disk, out, runs.total(), stmh)?;
    let tell = |now: icecore_streamhash::Progress| {
        progress(Progress { entries_done: now.keys_done, entries: now.keys })
    };
    match builder.build_with(|| runs.cutter(), tell) {
        Ok(summary) => Ok(summary.keys),
        Err(error) => Err(explain(error, &runs)),
    }
}

/// Says in terms of runs what was found to be wrong with keys.
fn explain(error: Error, runs: &Runs) -> Error {
    use icecore_streamhash::Error as Stmh;
    match error {
        Error::Index(Stmh::DuplicateKey { k0, k1, .. }) => {
            let key = (u128::from(k1) << 64 | u128::from(k0)).to_le_bytes();
            // Keys that only look the same to the algorithm are no twins.
            runs.twins(key).map_or_else(|error| error, |twins| twins.unwrap_or(error))
        }
        Error::Index(Stmh::BlockOverflow { keys, max, .. }) => {
            Error::NotUniform { expected: max, found: keys }
        }
        Error::Index(Stmh::Thread { source }) => Error::Thread { source },
        Error::Index(Stmh::Cancelled) => Error::Cancelled,
        error => error,
    }
}
