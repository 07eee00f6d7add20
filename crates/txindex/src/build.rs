//! Building a window index out of sorted runs.
//!
//! ```text
//!   gatherer ──slice──▶ sorters ──slice──▶ caller ──entries──▶ SortedBuilder (workers of its own) ──▶ file
//!   one thread          `workers`, in turn  in order
//! ```
//!
//! Every hand-over is a rendezvous, so there are never more than `workers + 2` slices. All threads are joined before
//! the build returns; whoever fails or is told to stop drops its ends of the channels, and the others end by that.

use std::{
    ops::ControlFlow,
    panic::resume_unwind,
    path::Path,
    sync::{
        Arc,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread::{self, Scope, ScopedJoinHandle},
};

use icecore_diskio::{Disk, IfExists};
use icecore_ledger::LedgerRange;
use icecore_streamhash::{Algorithm, SortedBuilder};

use crate::{Entry, Error, Result, index::stmh_options, run::check_order, slices::Slices};

/// More workers than this only take memory.
const MAX_WORKERS: usize = 1024;

/// How an index is built. Its bytes depend on the algorithm alone.
#[derive(Clone, Debug)]
#[must_use]
pub struct Options {
    algorithm: Algorithm,
    workers: usize,
    if_exists: IfExists,
    slice_entries: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self::new()
    }
}

impl Options {
    /// Bijection, one worker, an existing file is left alone, a million entries are sorted at a time.
    pub fn new() -> Self {
        Options {
            algorithm: Algorithm::default(),
            workers: 1,
            if_exists: IfExists::Fail,
            slice_entries: 1 << 20,
        }
    }

    /// How the index finds ledgers. It says so itself: whoever opens it need not know.
    pub fn algorithm(mut self, algorithm: Algorithm) -> Self {
        self.algorithm = algorithm;
        self
    }

    /// How many threads sort, and how many solve blocks: 1 to 1024 of each.
    pub fn workers(mut self, count: usize) -> Self {
        self.workers = count.clamp(1, MAX_WORKERS);
        self
    }

    /// What to do about an existing file of the same name.
    pub fn if_exists(mut self, if_exists: IfExists) -> Self {
        self.if_exists = if_exists;
        self
    }

    /// How many entries to sort at a time: `workers + 2` times as many are in memory, at 20 bytes each.
    pub fn slice_entries(mut self, entries: u64) -> Self {
        self.slice_entries = entries.max(1);
        self
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
/// Memory is bounded by [`Options::slice_entries`] and 10 bytes per three thousand entries, however large the runs.
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

/// [`build_index`], telling now and then how far it has come; the callback may stop it.
///
/// # Errors
/// Those of [`build_index`]; [`Error::Cancelled`] where the callback breaks.
pub fn build_index_with(
    disk: &Arc<dyn Disk>,
    out: &Path,
    coverage: LedgerRange,
    runs: &[impl AsRef<Path>],
    options: Options,
    progress: impl FnMut(Progress) -> ControlFlow<()>,
) -> Result<u64> {
    let stmh =
        stmh_options(coverage, options.algorithm)?.workers(options.workers).if_exists(options.if_exists);
    let slices = Slices::open(disk, coverage, runs, options.slice_entries)?;
    let entries = slices.total();
    let mut builder = SortedBuilder::create_on(disk, out, entries, stmh)?;
    feed(slices, &mut builder, coverage, options.workers, progress)?;
    builder.finish()?;
    Ok(entries)
}

/// Adds every entry of the slices to the builder, in the order of keys.
fn feed(
    slices: Slices,
    builder: &mut SortedBuilder,
    coverage: LedgerRange,
    workers: usize,
    mut progress: impl FnMut(Progress) -> ControlFlow<()>,
) -> Result<()> {
    let mut now = Progress { entries_done: 0, entries: slices.total() };
    let count = slices.count();
    let workers = workers.min(usize::try_from(count).unwrap_or(usize::MAX)).max(1);
    let mut add = |sorted: Vec<Receiver<Slice>>| {
        for slice in sorted.iter().cycle() {
            // No sender left: the gatherer is at the end.
            let Ok(slice) = slice.recv() else { break };
            let slice = slice?;
            for entry in &slice {
                // Inside the coverage, as the gatherer made sure.
                builder.add(&entry.key, u64::from(entry.seq.0 - coverage.first.0))?;
            }
            now.entries_done += slice.len() as u64;
            if progress(now).is_break() {
                return Err(Error::Cancelled);
            }
        }
        Ok(())
    };
    thread::scope(|scope| {
        let mut threads = Vec::new();
        let fed = sorters(scope, &mut threads, slices, workers).and_then(&mut add);
        // The scope itself would wait only until their work is done, not until they are gone.
        for thread in threads {
            thread.join().unwrap_or_else(|panic| resume_unwind(panic));
        }
        fed
    })
}

type Slice = Result<Vec<Entry>>;

/// Starts the gatherer and the sorters; slice `i` comes out of receiver `i % workers`.
fn sorters<'scope>(
    scope: &'scope Scope<'scope, '_>,
    threads: &mut Vec<ScopedJoinHandle<'scope, ()>>,
    slices: Slices,
    workers: usize,
) -> Result<Vec<Receiver<Slice>>> {
    let mut inputs = Vec::new();
    let mut outputs = Vec::new();
    for _ in 0..workers {
        let (input, unsorted) = sync_channel::<Slice>(0);
        let (sorted, output) = sync_channel(0);
        threads.push(start(scope, "txindex-sort", move || {
            while let Ok(slice) = unsorted.recv()
                && sorted.send(slice.and_then(sort)).is_ok()
            {}
        })?);
        inputs.push(input);
        outputs.push(output);
    }
    threads.push(start(scope, "txindex-gather", move || gather(slices, &inputs))?);
    Ok(outputs)
}

fn start<'scope>(
    scope: &'scope Scope<'scope, '_>,
    name: &str,
    work: impl FnOnce() + Send + 'scope,
) -> Result<ScopedJoinHandle<'scope, ()>> {
    let thread = thread::Builder::new().name(name.to_owned()).spawn_scoped(scope, work);
    thread.map_err(|source| Error::Thread { source: Arc::new(source) })
}

/// Hands slices to the sorters in turn, up to the last one or the first error.
fn gather(mut slices: Slices, sorters: &[SyncSender<Slice>]) {
    for sorter in sorters.iter().cycle() {
        let slice = match slices.next_slice() {
            Ok(Some(slice)) => Ok(slice),
            Ok(None) => return,
            Err(e) => Err(e),
        };
        let is_last = slice.is_err();
        if sorter.send(slice).is_err() || is_last {
            return;
        }
    }
}

fn sort(mut slice: Vec<Entry>) -> Slice {
    slice.sort_unstable_by_key(Entry::order);
    for pair in slice.windows(2) {
        check_order(Some(pair[0]), pair[1], 0, Path::new(""))?;
    }
    Ok(slice)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_have_a_limit() {
        let workers = |count| Options::new().workers(count).workers;
        assert_eq!([0, 1, 7, usize::MAX].map(workers), [1, 1, 7, MAX_WORKERS]);
    }
}
