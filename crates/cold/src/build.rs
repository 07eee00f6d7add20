//! Building: what [`plan`](crate::plan) lists is carried out, chunks in parallel, then the window indexes, then the
//! removal of indexes that a wider one replaces.
//!
//! One build at a time works on a store: it holds `.building` locked, and the lock dies with its process. Each file is
//! sealed by itself, so a build that is stopped anywhere is continued by running it again.

use std::{
    ops::ControlFlow,
    panic::resume_unwind,
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    thread,
};

use icecore_diskio::{Disk, IfExists};
use icecore_ledger::{ChunkId, Decoder, Geometry, LedgerRange, LedgerStream, Source};
use icecore_txindex::{Algorithm, Options, Progress, build_index_with};

use crate::{
    ChunkCounts, ChunkTask, Control, Coverage, Error, Inventory, Kind, Layout, LedgerPack, Manifest, Plan,
    Result, StoreLock, chunk::ChunkBuild, inventory::sweep_partials, plan,
};

/// The lock file of a build.
const BUILDING: &str = ".building";

/// A store to build into, and what to build it from.
pub struct Builder<'a> {
    /// The disk that the store is on.
    pub disk: Arc<dyn Disk>,
    /// Where the store's files lie.
    pub layout: Layout,
    /// How the store is cut; pinned by the first build.
    pub manifest: Manifest,
    /// Where ledgers come from.
    pub source: &'a dyn Source,
    /// What reads them.
    pub decoder: &'a dyn Decoder,
    /// Threads to use, at least 1.
    pub workers: usize,
    /// Counters, and the flag that stops the build.
    pub control: &'a Control,
}

/// What a build did.
#[derive(Clone, Debug, Default)]
pub struct BuildReport {
    /// The first and last chunk that the store now has of the range.
    pub chunks: Option<(ChunkId, ChunkId)>,
    /// Chunks for which files were written; the others were there.
    pub chunks_built: u64,
    /// What went through in building them.
    pub counts: ChunkCounts,
    /// Indexes that were built, with their keys.
    pub indexes_built: Vec<(Coverage, u64)>,
}

impl Builder<'_> {
    /// Builds what is missing of every complete chunk in `range`.
    ///
    /// # Errors
    /// Of the source, the decoder, the formats and the disk; [`Error::GeometryChanged`], [`Error::NoCompleteChunk`],
    /// [`Error::Busy`], [`Error::Cancelled`]. Sealed files are kept in every case, half-written ones never.
    pub fn build(&self, range: LedgerRange) -> Result<BuildReport> {
        self.build_with_index(range, None)
    }

    /// [`build`](Builder::build) that chooses the algorithm of the indexes built here and from here on, or leaves it as
    /// it was chosen. Indexes that are there stay as they are until a wider one takes their place.
    ///
    /// # Errors
    /// Those of [`build`](Builder::build).
    pub fn build_with_index(&self, range: LedgerRange, index: Option<Algorithm>) -> Result<BuildReport> {
        let geometry = &self.manifest.geometry;
        let (first, last) = chunks_in(geometry, range)?;
        self.disk.create_dir_all(self.layout.root())?;
        let _lock = StoreLock::take(&self.disk, &self.layout, BUILDING)?;
        let plan = plan(&Inventory::scan(&*self.disk, &self.layout)?, geometry, first, last);
        self.check_source(&plan)?;
        self.manifest.pin(&self.disk, &self.layout)?;
        if let Some(index) = index {
            Manifest::choose_index(&self.disk, &self.layout, index)?;
        }
        sweep_partials(&*self.disk, &self.layout)?;
        let counts = self.build_chunks(&plan)?;
        let mut report = BuildReport {
            chunks: Some((first, last)),
            chunks_built: plan.chunks.len() as u64,
            counts,
            indexes_built: Vec::new(),
        };
        for coverage in &plan.indexes {
            let keys = build_index(&self.disk, &self.layout, geometry, coverage, self.workers, self.control)?;
            report.indexes_built.push((*coverage, keys));
        }
        for old in &plan.superseded {
            self.disk.remove(&self.layout.index(old))?;
        }
        Ok(report)
    }

    /// Refuses, before anything is written, what a source that knows its range does not have. One that is damaged
    /// somewhere says so when it comes to that place.
    fn check_source(&self, plan: &Plan) -> Result<()> {
        let mut needed = plan.chunks.iter().filter(|task| task.needs_source());
        let Some(first) = needed.next() else { return Ok(()) };
        let last = needed.next_back().unwrap_or(first);
        let geometry = &self.manifest.geometry;
        let (first, last) =
            (ledgers_of(geometry, first.chunk)?.first, ledgers_of(geometry, last.chunk)?.last);
        let wanted = LedgerRange { first, last };
        match self.source.random_access().then(|| self.source.range()) {
            Some(Ok(has)) if has.intersect(wanted) != Some(wanted) => {
                let place = self.source.describe();
                Err(icecore_ledger::Error::OutOfRange { place, has, wanted }.into())
            }
            _ => Ok(()),
        }
    }

    fn build_chunks(&self, plan: &Plan) -> Result<ChunkCounts> {
        let ledgers = plan.chunks.len() as u64 * u64::from(self.manifest.geometry.ledgers_per_chunk());
        self.control.begin(ledgers);
        // A source that must be read from its start is read by few long streams, any other by one for each chunk.
        let group = match self.source.random_access() {
            true => 1,
            false => plan.chunks.len().div_ceil(self.workers.max(1)).max(1),
        };
        let groups: Vec<_> = plan.chunks.chunks(group).collect();
        let next = AtomicUsize::new(0);
        let result = Mutex::new(Ok(ChunkCounts::default()));
        let at_once = groups.len().min(self.workers);
        let worker = || {
            while let Some(tasks) = groups.get(next.fetch_add(1, Relaxed)) {
                let built = self.build_group(tasks, self.workers.div_ceil(at_once));
                let mut result = result.lock().unwrap_or_else(PoisonError::into_inner);
                match (&mut *result, built) {
                    (Ok(total), Ok(counts)) => total.add(&counts),
                    (Ok(_), Err(e)) => {
                        self.control.stop_workers();
                        *result = Err(e);
                    }
                    (Err(_), _) => {}
                }
                if result.is_err() {
                    return;
                }
            }
        };
        thread::scope(|scope| {
            // Fewer threads than hoped for only take longer: the caller's own works in any case.
            let spawn = |_| thread::Builder::new().name("cold-build".into()).spawn_scoped(scope, worker).ok();
            let threads: Vec<_> = (1..at_once).filter_map(spawn).collect();
            worker();
            for thread in threads {
                thread.join().unwrap_or_else(|panic| resume_unwind(panic));
            }
        });
        result.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    fn build_group(&self, tasks: &[ChunkTask], threads: usize) -> Result<ChunkCounts> {
        let Builder { disk, layout, decoder, control, .. } = self;
        let if_exists = IfExists::Fail;
        let build = ChunkBuild { disk, layout, decoder: *decoder, control, threads, if_exists };
        let mut total = ChunkCounts::default();
        let mut open: Option<(ChunkId, Box<dyn LedgerStream + '_>)> = None;
        for (number, task) in tasks.iter().enumerate() {
            let ledgers = ledgers_of(&self.manifest.geometry, task.chunk)?;
            let counts = if task.needs_source() {
                let mut stream = match open.take() {
                    Some((next, stream)) if next == task.chunk => stream,
                    _ => self.source.stream(self.neighbours(&tasks[number..])?)?,
                };
                let counts = build.run(task.chunk, ledgers, &task.kinds, &mut *stream)?;
                open = Some((ChunkId(task.chunk.0 + 1), stream));
                counts
            } else {
                let pack = LedgerPack::open_chunk(disk, &layout.file(Kind::Ledgers, task.chunk), ledgers)?;
                build.run(task.chunk, ledgers, &task.kinds, &mut *pack.stream(ledgers)?)?
            };
            total.add(&counts);
        }
        Ok(total)
    }

    /// The ledgers of the first task and of those that follow on it without a hole.
    fn neighbours(&self, tasks: &[ChunkTask]) -> Result<LedgerRange> {
        let follows = |pair: &&[ChunkTask]| pair[1].chunk.0 == pair[0].chunk.0 + 1 && pair[1].needs_source();
        let last = &tasks[tasks.windows(2).take_while(follows).count()];
        let geometry = &self.manifest.geometry;
        let first = ledgers_of(geometry, tasks[0].chunk)?.first;
        Ok(LedgerRange { first, last: ledgers_of(geometry, last.chunk)?.last })
    }
}

/// Builds the index of a coverage from the hash runs of its chunks, with the algorithm that the store has chosen, and gives
/// the number of keys. One that is there is replaced. When this returns without error, the file and its name are durable.
///
/// # Errors
/// [`Error::TxIndex`] for a run that is missing or damaged and for two equal keys, [`Error::ChunkOutOfRange`],
/// [`Error::Disk`], [`Error::Cancelled`].
pub fn build_index(
    disk: &Arc<dyn Disk>,
    layout: &Layout,
    geometry: &Geometry,
    coverage: &Coverage,
    workers: usize,
    control: &Control,
) -> Result<u64> {
    let options = Options::new().algorithm(Manifest::index_algorithm(&**disk, layout)?).workers(workers);
    build_index_as(disk, layout, geometry, coverage, options, control)
}

/// The same, with an algorithm and workers of the caller's choice.
pub(crate) fn build_index_as(
    disk: &Arc<dyn Disk>,
    layout: &Layout,
    geometry: &Geometry,
    coverage: &Coverage,
    options: Options,
    control: &Control,
) -> Result<u64> {
    let runs: Vec<PathBuf> = coverage.chunks().map(|chunk| layout.file(Kind::Run, chunk)).collect();
    let first = ledgers_of(geometry, coverage.first)?.first;
    let ledgers = LedgerRange { first, last: ledgers_of(geometry, coverage.last)?.last };
    let out = layout.index(coverage);
    disk.create_dir_all(out.parent().unwrap_or(layout.root()))?;
    control.begin(0);
    let progress = |progress: Progress| {
        control.total.store(progress.entries, Relaxed);
        control.done.store(progress.entries_done, Relaxed);
        if control.is_cancelled() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let options = options.if_exists(IfExists::Replace);
    match build_index_with(disk, &out, ledgers, &runs, options, progress) {
        Err(icecore_txindex::Error::Cancelled) => Err(Error::Cancelled),
        built => Ok(built?),
    }
}

pub(crate) fn ledgers_of(geometry: &Geometry, chunk: ChunkId) -> Result<LedgerRange> {
    geometry.ledgers_of(chunk).ok_or(Error::ChunkOutOfRange { chunk })
}

/// The complete chunks in a range; file names number them with eight digits.
fn chunks_in(geometry: &Geometry, range: LedgerRange) -> Result<(ChunkId, ChunkId)> {
    if let Some((_, last)) = geometry.complete_chunks(range)
        && last > Layout::LAST_CHUNK
    {
        return Err(Error::ChunkOutOfRange { chunk: last });
    }
    geometry.complete_chunks(range).ok_or_else(|| {
        let of = geometry.chunk_of(range.first).unwrap_or(ChunkId(0));
        let begins_there = |ledgers: &LedgerRange| ledgers.first >= range.first;
        let chunks = [of, ChunkId(of.0.saturating_add(1))];
        let next = chunks.into_iter().filter_map(|chunk| geometry.ledgers_of(chunk)).find(begins_there);
        Error::NoCompleteChunk {
            range,
            ledgers_per_chunk: geometry.ledgers_per_chunk(),
            next: next.unwrap_or(range),
        }
    })
}
