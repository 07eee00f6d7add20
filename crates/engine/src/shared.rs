//! What all workers and all readers share, and who may change which part of it.
//!
//! ```text
//! catalog    state, one atomic pointer           changed by ingestion (hot keys of its chunk) and the lifecycle (all others)
//! hot        the hot chunks that are open        ingestion adds, the lifecycle takes away
//! latest     the last ledger that readers see    ingestion, last of all in a commit
//! complete   the last complete chunk that is here   ingestion, before it tells the lifecycle; the lifecycle
//! target     the last chunk that is to be built  whoever begins the work, by what the source says of itself
//! retention  how many chunks are kept            whoever sets it
//! ```
//!
//! A reader loads latest, hot, state and then the two numbers from which the floor follows. So it never sees a ledger whose
//! chunk it cannot reach, and never a chunk demoted above the floor that it works with.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU32, AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use icecore_catalog::{Catalog, State};
use icecore_diskio::Disk;
use icecore_hotchunk::{HotChunk, HotOptions};
use icecore_ledger::{ChunkId, Decoder, LedgerRange, LedgerSeq};
use icecore_rockstore::Cache;

use crate::{
    Clock, EngineConfig, Error, Result, Sources, ages::Ages, files::Files, journal::Journal,
    lifecycle::Sweep, plan::Scope,
};

/// Memory for blocks of hot chunks that were read, shared by all of them.
const HOT_CACHE_BYTES: usize = 64 << 20;

/// The hot chunks that are open.
pub(crate) type HotMap = BTreeMap<ChunkId, Arc<HotChunk>>;

pub(crate) struct Shared {
    pub(crate) config: EngineConfig,
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) sources: Sources,
    pub(crate) decoder: Arc<dyn Decoder>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) hot: ArcSwap<HotMap>,
    pub(crate) hot_options: HotOptions,
    pub(crate) published: Published,
    pub(crate) files: Files,
    pub(crate) ages: Ages,
    pub(crate) bell: Bell,
    pub(crate) journal: Journal,
    /// What the lifecycle remembers from run to run.
    pub(crate) sweep: Mutex<Sweep>,
    /// What the engine stopped for.
    fatal: OnceLock<Arc<Error>>,
}

/// Numbers that are published one by one.
#[derive(Debug, Default)]
pub(crate) struct Published {
    /// 0 before the first ledger.
    latest: AtomicU32,
    /// The last complete chunk and 1 more; 0 before the first one.
    complete: AtomicU64,
    /// The last chunk that is to be built and 1 more, where it is more than complete.
    target: AtomicU64,
    /// The chunk that is ingested into and 1 more; 0 while there is none.
    live: AtomicU64,
    pub(crate) retention: AtomicU32,
    /// The last ledger that a source was seen to have; 0 before one was asked.
    tip: AtomicU32,
}

fn one_more(chunk: Option<ChunkId>) -> u64 {
    chunk.map_or(0, |chunk| u64::from(chunk.0) + 1)
}

fn one_less(number: u64) -> Option<ChunkId> {
    number.checked_sub(1).and_then(|chunk| u32::try_from(chunk).ok()).map(ChunkId)
}

impl Published {
    pub(crate) fn latest(&self) -> Option<LedgerSeq> {
        Some(LedgerSeq(self.latest.load(SeqCst))).filter(|seq| seq.0 > 0)
    }

    /// Shows a ledger to readers; they never go back.
    pub(crate) fn show(&self, latest: LedgerSeq) {
        self.latest.fetch_max(latest.0, SeqCst);
    }

    pub(crate) fn complete(&self) -> Option<ChunkId> {
        one_less(self.complete.load(SeqCst))
    }

    pub(crate) fn set_complete(&self, chunk: Option<ChunkId>) {
        self.complete.fetch_max(one_more(chunk), SeqCst);
    }

    /// The last chunk that is to be built. Only planning looks at it: no source is believed so far that anything is hidden or
    /// destroyed for what it promises.
    pub(crate) fn target(&self) -> Option<ChunkId> {
        one_less(self.target.load(SeqCst)).max(self.complete())
    }

    pub(crate) fn set_target(&self, chunk: Option<ChunkId>) {
        self.target.store(one_more(chunk), SeqCst);
    }

    pub(crate) fn live(&self) -> Option<ChunkId> {
        one_less(self.live.load(SeqCst))
    }

    pub(crate) fn tip(&self) -> LedgerSeq {
        LedgerSeq(self.tip.load(SeqCst))
    }

    pub(crate) fn see_tip(&self, seq: LedgerSeq) {
        self.tip.fetch_max(seq.0, SeqCst);
    }

    pub(crate) fn set_live(&self, chunk: Option<ChunkId>) {
        self.live.store(one_more(chunk), SeqCst);
    }
}

impl Shared {
    pub(crate) fn new(
        config: EngineConfig,
        catalog: Catalog,
        sources: Sources,
        decoder: Arc<dyn Decoder>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let sweep = Mutex::new(Sweep::new(&catalog.state()));
        let published =
            Published { retention: AtomicU32::new(config.retention_chunks), ..Published::default() };
        Shared {
            config,
            catalog: Arc::new(catalog),
            sources,
            decoder,
            clock,
            hot: ArcSwap::default(),
            hot_options: HotOptions::default().cache(Cache::new(HOT_CACHE_BYTES)),
            published,
            files: Files::default(),
            ages: Ages::default(),
            bell: Bell::default(),
            journal: Journal::default(),
            sweep,
            fatal: OnceLock::new(),
        }
    }

    /// Ends all work for good, for an error that somebody has to do something about.
    pub(crate) fn halt(&self, error: Error) {
        tracing::error!(%error, "the engine stops");
        let _the_first_counts = self.fatal.set(Arc::new(error));
        self.bell.ring();
    }

    pub(crate) fn is_halted(&self) -> bool {
        self.fatal.get().is_some()
    }

    pub(crate) fn fatal(&self) -> Option<Arc<Error>> {
        self.fatal.get().map(Arc::clone)
    }

    /// How far the bulk source has come.
    pub(crate) fn tip(&self) -> icecore_ledger::Result<LedgerSeq> {
        let tip = self.sources.bulk.range()?.last;
        self.published.see_tip(tip);
        Ok(tip)
    }

    /// What is kept, now.
    pub(crate) fn scope(&self) -> Scope {
        let pins = self.catalog.pins();
        Scope {
            geometry: pins.geometry,
            earliest: pins.earliest,
            retention_chunks: self.published.retention.load(SeqCst),
        }
    }

    pub(crate) fn state(&self) -> Arc<State> {
        self.catalog.state()
    }

    pub(crate) fn disk(&self) -> &Arc<dyn Disk> {
        self.catalog.disk()
    }

    /// The ledgers of a chunk.
    pub(crate) fn ledgers_of(&self, chunk: ChunkId) -> Result<LedgerRange> {
        let out_of_range = || Error::Cold(icecore_cold::Error::ChunkOutOfRange { chunk });
        self.catalog.pins().geometry.ledgers_of(chunk).ok_or_else(out_of_range)
    }

    /// Changes the map of open hot chunks; readers keep the one that they have.
    pub(crate) fn change_hot(&self, change: impl Fn(&mut HotMap)) {
        self.hot.rcu(|map| {
            let mut map = HotMap::clone(map);
            change(&mut map);
            map
        });
    }

    pub(crate) fn sweep(&self) -> MutexGuard<'_, Sweep> {
        self.sweep.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tells the lifecycle that there may be something to do. Ringing never blocks, and rings that nobody heard are one.
#[derive(Debug, Default)]
pub(crate) struct Bell {
    rung: Mutex<bool>,
    heard: Condvar,
}

impl Bell {
    pub(crate) fn ring(&self) {
        *self.rung.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.heard.notify_all();
    }

    /// Waits for a ring, for at most `time`; tells whether there was one.
    pub(crate) fn wait(&self, time: Duration) -> bool {
        let rung = self.rung.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut rung, _) =
            self.heard.wait_timeout_while(rung, time, |rung| !*rung).unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut rung)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rings_that_nobody_heard_are_one() {
        let bell = Bell::default();
        assert!(!bell.wait(Duration::ZERO));
        bell.ring();
        bell.ring();
        assert!(bell.wait(Duration::from_secs(60)));
        assert!(!bell.wait(Duration::ZERO));
    }

    #[test]
    fn numbers_that_are_published_begin_before_the_first() {
        let published = Published::default();
        assert_eq!((published.latest(), published.complete(), published.live()), (None, None, None));
        published.set_complete(Some(ChunkId(0)));
        published.show(LedgerSeq(7));
        published.show(LedgerSeq(5));
        published.set_live(Some(ChunkId(u32::MAX)));
        assert_eq!(published.latest(), Some(LedgerSeq(7)));
        assert_eq!((published.complete(), published.live()), (Some(ChunkId(0)), Some(ChunkId(u32::MAX))));
        assert_eq!(published.target(), Some(ChunkId(0)));
        published.set_target(Some(ChunkId(9)));
        assert_eq!((published.complete(), published.target()), (Some(ChunkId(0)), Some(ChunkId(9))));
        published.set_target(None);
        assert_eq!(published.target(), Some(ChunkId(0)));
    }
}
