//! What a plan will cost, before it is carried out: files are weighed by those that are there, else by a few ledgers of the
//! source, built in memory by the very code that will build them.

use std::{
    collections::BTreeMap,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Instant,
};

use icecore_catalog::{Artifact, HotState, State};
use icecore_cold::{ChunkBuild, Control, Kind, Layout};
use icecore_diskio::{Disk, FaultyDisk, IfExists};
use icecore_ledger::{ChunkId, LedgerRange, LedgerSeq};
use serde::Serialize;

use crate::{Error, Result, plan::Plan, shared::Shared};

/// How many ledgers are built to weigh a chunk.
const SAMPLE_LEDGERS: u32 = 64;

/// How many frozen chunks are weighed.
const WEIGHED_CHUNKS: usize = 8;

/// Bytes of a window index for each byte of the runs that it is made from: 4.3 for 20.
const INDEX_PER_RUN: f64 = 0.22;

/// What lies there beside the plan at its peak: indexes beside their successors, what waits for its grace.
const MARGIN: f64 = 1.05;

/// What is planned, and what it takes.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Estimate {
    /// Chunks that lack something.
    pub chunks: u64,
    /// Of these, how many are frozen from their hot store, from their own pack, and from the bulk source.
    pub from: Origins,
    /// Indexes to build.
    pub indexes: u64,
    /// Bytes that will lie there more when all is built, by tree.
    pub bytes: BTreeMap<&'static str, u64>,
    /// The sum of these.
    pub total_bytes: u64,
    /// The most that lies there more meanwhile.
    pub peak_bytes: u64,
    /// The file systems that this goes to.
    pub disks: Vec<DiskRoom>,
    /// How long it takes, by what was measured; `None` where nothing could be.
    pub seconds: Option<f64>,
    /// What was weighed.
    pub basis: Basis,
}

/// Where chunks come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Origins {
    /// From their hot store.
    pub hot: u64,
    /// From their own pack.
    pub pack: u64,
    /// From the bulk source.
    pub bulk: u64,
}

/// What an estimate rests upon.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Basis {
    /// Nothing is to be built.
    #[default]
    Nothing,
    /// So many chunks that are there.
    Chunks(u32),
    /// So many ledgers of the source.
    Ledgers(u32),
}

/// Room on a file system.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DiskRoom {
    /// A directory on it.
    pub path: PathBuf,
    /// What the plan needs there at its peak.
    pub needed_bytes: u64,
    /// What is free.
    pub free_bytes: u64,
    /// What will be free besides, because it is not kept.
    pub freed_bytes: u64,
}

/// A chunk's weight: bytes by kind, and the time to build it.
#[derive(Default)]
struct Weight {
    bytes: BTreeMap<Kind, f64>,
    seconds: Option<f64>,
    basis: Basis,
}

impl Estimate {
    /// Refuses a plan that a disk cannot hold.
    ///
    /// # Errors
    /// [`Error::DiskTooSmall`].
    pub fn require_room(&self) -> Result<()> {
        let is_too_small =
            |disk: &&DiskRoom| disk.needed_bytes > disk.free_bytes.saturating_add(disk.freed_bytes);
        match self.disks.iter().find(is_too_small) {
            None => Ok(()),
            Some(DiskRoom { path, needed_bytes, free_bytes, .. }) => Err(Error::DiskTooSmall {
                path: path.clone(),
                needed_bytes: *needed_bytes,
                free_bytes: *free_bytes,
            }),
        }
    }
}

impl Shared {
    /// Weighs what is planned now; before anything was begun, for the tip that the source has now.
    pub(crate) fn estimate(&self) -> Result<Estimate> {
        let (scope, state) = (self.scope(), self.state());
        let target = match self.published.target() {
            Some(target) => Some(target),
            None => scope.geometry.last_complete_chunk(self.tip()?),
        };
        let plan = scope.resolve(&state, target);
        let Some(newest) = plan.chunks.first() else {
            return Ok(Estimate { indexes: plan.indexes.len() as u64, ..Estimate::default() });
        };
        let weight = match self.weigh_frozen(&state)? {
            Some(weight) => weight,
            None => self.weigh_sample(newest.chunk)?,
        };
        let mut estimate = self.weighed(&plan, &state, &weight)?;
        let goes = scope.prunes(&state, target, target);
        for path in goes.iter().flat_map(|key| key.paths(self.catalog.layout())) {
            let Some((on, _)) = path.ancestors().skip(1).find_map(device) else { continue };
            let room =
                estimate.disks.iter_mut().find(|room| device(&room.path).is_some_and(|(its, _)| its == on));
            if let Some(room) = room {
                room.freed_bytes += self.disk().file_len(&path)?.unwrap_or(0);
            }
        }
        Ok(estimate)
    }

    /// The mean of the newest frozen chunks that have all their files.
    fn weigh_frozen(&self, state: &State) -> Result<Option<Weight>> {
        let whole = |chunk| Artifact::ALL.iter().all(|&artifact| state.has(chunk, artifact));
        let chunks = state.artifacts.keys().rev().map(|(chunk, _)| *chunk);
        let mut newest: Vec<ChunkId> = chunks.filter(|chunk| whole(*chunk)).collect();
        newest.dedup();
        newest.truncate(WEIGHED_CHUNKS);
        let mut weight = Weight { basis: Basis::Chunks(newest.len() as u32), ..Weight::default() };
        for &chunk in &newest {
            for kind in Kind::ALL {
                let len = self.disk().file_len(&self.catalog.layout().file(kind, chunk))?.unwrap_or(0);
                *weight.bytes.entry(kind).or_default() += len as f64 / newest.len() as f64;
            }
        }
        let rates = self.journal.pages().rates;
        weight.seconds = (rates.chunks > 0).then(|| rates.seconds / rates.chunks as f64);
        Ok((!newest.is_empty()).then_some(weight))
    }

    /// Builds the first ledgers of a chunk in memory.
    fn weigh_sample(&self, chunk: ChunkId) -> Result<Weight> {
        let ledgers = self.ledgers_of(chunk)?;
        let count = SAMPLE_LEDGERS.min(self.catalog.pins().geometry.ledgers_per_chunk());
        let sample = LedgerRange { last: LedgerSeq(ledgers.first.0 + (count - 1)), ..ledgers };
        let disk: Arc<dyn Disk> = Arc::new(FaultyDisk::new());
        let (layout, control) = (Layout::new("/sample"), Control::default());
        let builder = ChunkBuild {
            disk: &disk,
            layout: &layout,
            decoder: &*self.decoder,
            control: &control,
            threads: 1,
            if_exists: IfExists::Replace,
        };
        let begun = Instant::now();
        let mut stream = self.sources.bulk.stream(sample)?;
        builder.run(chunk, sample, &Kind::ALL, &mut *stream)?;
        let scale = ledgers.count() as f64 / f64::from(count);
        let mut weight = Weight { basis: Basis::Ledgers(count), ..Weight::default() };
        for kind in Kind::ALL {
            let len = disk.file_len(&layout.file(kind, chunk))?.unwrap_or(0);
            weight.bytes.insert(kind, len as f64 * scale);
        }
        weight.seconds = Some(begun.elapsed().as_secs_f64() * scale);
        Ok(weight)
    }

    fn weighed(&self, plan: &Plan, state: &State, weight: &Weight) -> Result<Estimate> {
        let of = |kind| weight.bytes.get(&kind).copied().unwrap_or(0.0);
        let mut estimate = Estimate {
            chunks: plan.chunks.len() as u64,
            indexes: plan.indexes.len() as u64,
            basis: weight.basis,
            ..Estimate::default()
        };
        let mut bytes: BTreeMap<&'static str, f64> = BTreeMap::new();
        let mut runs = 0u64;
        for build in &plan.chunks {
            for artifact in &build.artifacts {
                let size: f64 = artifact.kinds().iter().map(|&kind| of(kind)).sum();
                match artifact {
                    Artifact::TxHash => runs += 1,
                    artifact => *bytes.entry(artifact.name()).or_default() += size,
                }
            }
            let wants_pack = build.artifacts.contains(&Artifact::Ledgers);
            match state.hot(build.chunk) {
                Some(HotState::Ready) => estimate.from.hot += 1,
                _ if wants_pack => estimate.from.bulk += 1,
                _ => estimate.from.pack += 1,
            }
        }
        let indexed: usize = plan.indexes.iter().map(|index| index.chunks().count()).sum();
        bytes.insert("indexes", indexed as f64 * of(Kind::Run) * INDEX_PER_RUN);
        // A window's runs go when its index is done; newest first, hardly more than two windows have them.
        let held = runs.min(2 * u64::from(self.catalog.pins().geometry.chunks_per_window()));
        let run_bytes = held as f64 * of(Kind::Run);
        estimate.bytes = bytes.iter().map(|(&tree, &size)| (tree, size as u64)).collect();
        estimate.total_bytes = estimate.bytes.values().sum();
        bytes.insert("runs", run_bytes);
        estimate.peak_bytes = (bytes.values().sum::<f64>() * MARGIN) as u64;
        estimate.disks = self.disks(&bytes);
        let at_once = self.config.workers.max(1) as f64;
        estimate.seconds = weight.seconds.map(|each| each * plan.chunks.len() as f64 / at_once);
        Ok(estimate)
    }

    /// What goes to which file system.
    fn disks(&self, bytes: &BTreeMap<&'static str, f64>) -> Vec<DiskRoom> {
        let layout = self.catalog.layout();
        let mut disks: BTreeMap<u64, DiskRoom> = BTreeMap::new();
        for (&tree, &size) in bytes {
            let dir = match tree {
                "ledgers" => layout.kind_dir(Kind::Ledgers),
                "events" => layout.kind_dir(Kind::Events),
                "runs" => layout.kind_dir(Kind::Run),
                _ => layout.index_dir(),
            };
            let Some((device, path)) = dir.ancestors().find_map(device) else { continue };
            let Ok(room) = rustix::fs::statvfs(&path) else { continue };
            let free_bytes = room.f_bavail.saturating_mul(room.f_frsize);
            let disk =
                disks.entry(device).or_insert(DiskRoom { path, needed_bytes: 0, free_bytes, freed_bytes: 0 });
            disk.needed_bytes += (size * MARGIN) as u64;
        }
        disks.into_values().collect()
    }
}

/// The file system of a directory that is there.
fn device(dir: &Path) -> Option<(u64, PathBuf)> {
    let dir = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
    std::fs::metadata(dir).ok().map(|meta| (meta.dev(), dir.to_path_buf()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{common::last_of, crash_matrix::world::World};

    #[test]
    fn what_is_pruned_makes_room_for_what_is_built() {
        let world = World::new();
        let process = world.open(last_of(3) + 1, 0).unwrap();
        process.live(last_of(3) + 1).unwrap();
        process.engine.shared.published.set_target(Some(ChunkId(8)));
        let freed = |estimate: &Estimate| estimate.disks.iter().map(|disk| disk.freed_bytes).sum::<u64>();
        assert_eq!(freed(&process.engine.estimate().unwrap()), 0);
        process.engine.set_retention(1).unwrap();
        let mut estimate = process.engine.estimate().unwrap();
        let files: u64 = world.files().values().map(|bytes| bytes.len() as u64).sum();
        assert_eq!(freed(&estimate), files, "all that is there goes");
        let disk = &mut estimate.disks[0];
        disk.free_bytes = 5;
        disk.needed_bytes = disk.freed_bytes + 5;
        estimate.require_room().unwrap();
        estimate.disks[0].needed_bytes += 1;
        assert!(matches!(estimate.require_room(), Err(Error::DiskTooSmall { .. })));
    }
}
