use std::{collections::BTreeMap, fs, path::Path};

use icecore_catalog::{
    Artifact, Key,
    migrations::{self, Runner, StatusRow},
};
use icecore_registry::Registry;
use serde::Serialize;

use crate::{
    Rates, Result, Trouble, View, Worker,
    metrics::{self, counts},
    shared::Shared,
};

/// How a store and its workers are, at one moment.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Status {
    /// The first ledger that is kept; `None` before the first one.
    pub floor: Option<u32>,
    /// The latest ledger.
    pub latest: Option<u32>,
    /// The ledgers that can be read, as ranges without a hole.
    pub available: Vec<(u32, u32)>,
    /// The last ledger that a source was seen to have.
    pub tip: Option<u32>,
    /// How far behind the tip the latest ledger is.
    pub lag: u32,
    /// The chunk that is ingested into.
    pub live_chunk: Option<u32>,
    /// The last complete chunk.
    pub complete_chunk: Option<u32>,
    /// How many complete chunks are kept; 0 is all.
    pub retention_chunks: u32,
    /// Chunks by the state of their ledgers, and hot chunks by theirs.
    pub chunks: BTreeMap<&'static str, usize>,
    /// Chunks that have something to be built, and indexes.
    pub missing: (usize, usize),
    /// Hot chunks that wait for their readers.
    pub going: usize,
    /// Whether the lifecycle has nothing to do.
    pub is_settled: bool,
    /// Age of the oldest view that is held, in seconds.
    pub oldest_view_seconds: u64,
    /// The workers and what they do.
    pub workers: Vec<WorkerLine>,
    /// Migrations of the catalog's rows, done and under way; none before the work was started.
    pub migrations: Vec<MigrationLine>,
    /// Runs of the lifecycle.
    pub runs: u64,
    /// How often the work was begun anew after an error.
    pub restarts: u64,
    /// How quick building was.
    pub rates: Rates,
    /// What the engine stopped for.
    pub fatal: Option<String>,
    /// The last errors, the oldest first.
    pub troubles: Vec<Trouble>,
}

/// One worker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct WorkerLine {
    /// Its name.
    pub name: String,
    /// What it is doing.
    pub state: String,
    /// How long ago it was started, in seconds.
    pub age_seconds: u64,
}

/// One migration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MigrationLine {
    /// Its name.
    pub name: String,
    /// How far it is.
    pub status: migrations::Status,
    /// Why it failed.
    pub error: Option<String>,
    /// Rows it has seen to.
    pub rows_processed: u64,
    /// Rows there are to see to, where it knows.
    pub rows_total: Option<u64>,
}

impl MigrationLine {
    fn all(runner: &Runner) -> Vec<Self> {
        let line = |row: StatusRow| MigrationLine {
            name: row.name,
            status: row.status,
            error: row.error,
            rows_processed: row.rows_processed,
            rows_total: row.rows_total,
        };
        match runner.list() {
            Ok(rows) => rows.into_iter().map(line).collect(),
            Err(error) => {
                tracing::warn!(%error, "migrations cannot be listed");
                Vec::new()
            }
        }
    }
}

impl Status {
    pub(crate) fn of(
        shared: &std::sync::Arc<Shared>,
        registry: &Registry<Worker>,
        runner: Option<&Runner>,
    ) -> Self {
        let view = View::take(shared);
        let (published, scope, now) = (&shared.published, shared.scope(), shared.clock.now());
        let complete = published.complete();
        let plan = scope.resolve(view.state(), published.target());
        let range = view.range().ok();
        let latest = view.latest().map(|seq| seq.0);
        let tip = Some(published.tip().0).filter(|tip| *tip > 0);
        let oldest = shared.ages.oldest(now);
        metrics::oldest_view(oldest);
        let pages = shared.journal.pages();
        Status {
            floor: range.map(|range| range.first.0),
            latest,
            available: view.available().into_iter().map(|range| (range.first.0, range.last.0)).collect(),
            tip,
            lag: tip.unwrap_or(0).saturating_sub(latest.unwrap_or(0)),
            live_chunk: published.live().map(|chunk| chunk.0),
            complete_chunk: complete.map(|chunk| chunk.0),
            retention_chunks: scope.retention_chunks,
            chunks: counts(view.state()).into(),
            missing: (plan.chunks.len(), plan.indexes.len()),
            going: shared.sweep().going(),
            is_settled: scope.is_settled(view.state(), complete, published.target(), published.live()),
            oldest_view_seconds: oldest.as_secs(),
            workers: registry.snapshot().into_iter().map(WorkerLine::of).collect(),
            migrations: runner.map(MigrationLine::all).unwrap_or_default(),
            runs: pages.runs,
            restarts: pages.restarts,
            rates: pages.rates,
            fatal: shared.fatal().map(|error| error.to_string()),
            troubles: pages.troubles.iter().cloned().collect(),
        }
    }
}

/// What lies on disk, by tree.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct DiskBytes {
    /// Ledger packs.
    pub ledgers: u64,
    /// Event files.
    pub events: u64,
    /// Hash runs.
    pub runs: u64,
    /// Window indexes.
    pub indexes: u64,
    /// Hot chunks.
    pub hot: u64,
}

impl DiskBytes {
    pub(crate) fn of(shared: &Shared) -> Result<Self> {
        let (state, layout) = (shared.state(), shared.catalog.layout());
        let mut bytes = DiskBytes::default();
        let len = |key: Key| -> Result<u64> {
            let lens = key.paths(layout).into_iter().map(|path| shared.disk().file_len(&path));
            lens.map(|len| Ok(len?.unwrap_or(0))).sum()
        };
        for &(chunk, artifact) in state.artifacts.keys() {
            let tree = match artifact {
                Artifact::Ledgers => &mut bytes.ledgers,
                Artifact::Events => &mut bytes.events,
                Artifact::TxHash => &mut bytes.runs,
            };
            *tree += len(Key::Chunk(chunk, artifact))?;
        }
        for &coverage in state.indexes.keys() {
            bytes.indexes += len(Key::Index(coverage))?;
        }
        bytes.hot = state.hot.keys().map(|&chunk| files_in(&layout.hot_chunk(chunk))).sum();
        Ok(bytes)
    }
}

/// The bytes of the files in a directory; files that come and go meanwhile may be missed.
fn files_in(dir: &Path) -> u64 {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.metadata().ok()).map(|meta| meta.len()).sum()
}

impl WorkerLine {
    fn of(info: icecore_registry::WorkerInfo<Worker>) -> Self {
        WorkerLine {
            name: format!("{:?}", info.key).to_lowercase(),
            state: format!("{:?}", info.state).to_lowercase(),
            age_seconds: info.age.as_secs(),
        }
    }
}
