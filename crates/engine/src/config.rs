use std::{num::NonZeroUsize, path::PathBuf, sync::Arc, thread, time::Duration};

use icecore_cold::Layout;
use icecore_ledger::{GENESIS, Geometry, LedgerSeq, LiveSource, Source};

/// What an engine is told. Made by [`new`](EngineConfig::new), then changed field by field.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct EngineConfig {
    /// Where everything lies.
    pub layout: Layout,
    /// How the history is cut; pinned by the first start.
    pub geometry: Geometry,
    /// The first ledger that is ever kept, the first of a chunk; pinned by the first start.
    pub earliest: LedgerSeq,
    /// The passphrase of the network; pinned by the first start that knows it.
    pub network: Option<String>,
    /// How many complete chunks are kept; 0 keeps all. A value that was set in the store itself is stronger, see
    /// [`Engine::set_retention`](crate::Engine::set_retention).
    pub retention_chunks: u32,
    /// How many chunks and indexes are built at once.
    pub workers: usize,
    /// How often a task that failed is tried again before its run is given up.
    pub max_retries: u32,
    /// The pause before the first retry; each further one is twice as long, up to [`MAX_PAUSE`](EngineConfig::MAX_PAUSE).
    pub retry_pause: Duration,
    /// How long a build, or a gap in live ledgers, waits for the bulk source to come so far.
    pub bulk_wait: Duration,
    /// How often a source that has not come so far is asked again.
    pub poll: Duration,
    /// How long what is no longer needed stays for readers that still look at it: longer than any request.
    pub grace: Duration,
    /// How long a shutdown waits for each worker.
    pub shutdown: Duration,
    /// Starts although the disk cannot hold what is planned.
    pub allow_full_disk: bool,
}

impl EngineConfig {
    /// The longest pause between two tries.
    pub const MAX_PAUSE: Duration = Duration::from_secs(60);

    /// The defaults, for a store in this directory.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        EngineConfig {
            layout: Layout::new(root),
            geometry: Geometry::default(),
            earliest: GENESIS,
            network: None,
            retention_chunks: 0,
            workers: thread::available_parallelism().map_or(1, NonZeroUsize::get),
            max_retries: 5,
            retry_pause: Duration::from_millis(500),
            bulk_wait: Duration::from_secs(300),
            poll: Duration::from_secs(1),
            grace: Duration::from_secs(60),
            shutdown: Duration::from_secs(30),
            allow_full_disk: false,
        }
    }

    /// The pause before a try, by how many failed before it.
    pub(crate) fn pause(&self, failed: u32) -> Duration {
        let doubled = 1u32.checked_shl(failed.saturating_sub(1)).unwrap_or(u32::MAX);
        self.retry_pause.saturating_mul(doubled).min(Self::MAX_PAUSE)
    }
}

/// Where ledgers come from.
#[derive(Clone)]
pub struct Sources {
    /// The whole history, by sequence.
    pub bulk: Arc<dyn Source>,
    /// New ledgers as they close; without one the bulk source is followed as it grows.
    pub live: Option<Arc<dyn LiveSource>>,
}

impl std::fmt::Debug for Sources {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let live = self.live.as_ref().map(|live| live.describe());
        f.debug_struct("Sources").field("bulk", &self.bulk.describe()).field("live", &live).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest() {
        let config = EngineConfig::new("/s");
        let millis = [1, 2, 3, 7, 8, 40, u32::MAX].map(|failed| config.pause(failed).as_millis());
        assert_eq!(millis, [500, 1000, 2000, 32_000, 60_000, 60_000, 60_000]);
    }
}
