use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use icecore_batcher::{Meter, Metrics, TriggerMode};
use icecore_diskio::{Disk, RealDisk};

/// Tells milliseconds since 1970.
pub(crate) type Clock = Arc<dyn Fn() -> u64 + Send + Sync>;

/// A queue of a store; its name in metrics is that of [`name`](Queue::name).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Queue {
    /// Transactions to store.
    Store,
    /// Outputs to spend and to give back.
    Spend,
    /// Wholly spent records to count; fed by `Spend` alone.
    Increment,
    /// Deletion heights to hand on to extra records; fed by `Spend` alone.
    SetDah,
    /// Changes of whole transactions: locking, mining, preserving, conflicts, deleting.
    Locked,
    /// Transactions to read.
    Get,
    /// Outputs to read.
    Outpoint,
}

impl Queue {
    /// All of them.
    pub const ALL: [Queue; 7] = [
        Queue::Store,
        Queue::Spend,
        Queue::Increment,
        Queue::SetDah,
        Queue::Locked,
        Queue::Get,
        Queue::Outpoint,
    ];

    /// The name that metrics and errors call it by.
    pub fn name(self) -> &'static str {
        match self {
            Queue::Store => "store",
            Queue::Spend => "spend",
            Queue::Increment => "increment",
            Queue::SetDah => "set_dah",
            Queue::Locked => "locked",
            Queue::Get => "get",
            Queue::Outpoint => "outpoint",
        }
    }
}

/// How one queue makes batches.
#[derive(Clone, Copy, Debug)]
pub struct QueueOptions {
    /// The most items of a batch.
    pub size: usize,
    /// How long a batch waits to fill, where the mode waits at all.
    pub timeout: Duration,
    /// When a batch is made. The default takes what is there: a lone caller does not wait, and under load the batches
    /// fill while the one before is being written.
    pub mode: TriggerMode,
    /// How many batches are in flight at once.
    pub in_flight: usize,
    /// How many items wait before those who bring more have to.
    pub capacity: usize,
}

impl Default for QueueOptions {
    fn default() -> Self {
        let timeout = Duration::from_millis(10);
        QueueOptions { size: 1024, timeout, mode: TriggerMode::Drain, in_flight: 2, capacity: 16 * 1024 }
    }
}

/// How a store works; the defaults are good.
#[derive(Clone)]
pub struct Options {
    pub(crate) page_size: u32,
    pub(crate) retention_blocks: u32,
    pub(crate) coinbase_maturity_blocks: u32,
    pub(crate) queues: [QueueOptions; Queue::ALL.len()],
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) clock: Clock,
    pub(crate) metrics: Option<SharedMetrics>,
}

/// One place for the figures of all queues.
#[derive(Clone)]
pub(crate) struct SharedMetrics(Arc<dyn Metrics + Send + Sync>);

impl Metrics for SharedMetrics {
    fn bind(&self, batcher: &str) -> Arc<dyn Meter> {
        self.0.bind(batcher)
    }
}

impl Default for Options {
    fn default() -> Self {
        Options {
            page_size: 128,
            retention_blocks: 288,
            coinbase_maturity_blocks: 100,
            queues: [QueueOptions::default(); Queue::ALL.len()],
            disk: Arc::new(RealDisk),
            clock: Arc::new(now_ms),
            metrics: None,
        }
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (page_size, retention_blocks) = (self.page_size, self.retention_blocks);
        write!(f, "Options {{ page_size: {page_size}, retention_blocks: {retention_blocks}, .. }}")
    }
}

impl Options {
    /// The defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many outputs a record holds, 128 by default. Every spend writes one record, so it is a balance between
    /// the size of that and the number of records. Fixed when a database is made.
    #[must_use]
    pub fn page_size(mut self, outputs: u32) -> Self {
        self.page_size = outputs;
        self
    }

    /// For how many blocks a transaction is kept when nothing needs it any more, 288 by default; 0 keeps it for ever.
    #[must_use]
    pub fn retention_blocks(mut self, blocks: u32) -> Self {
        self.retention_blocks = blocks;
        self
    }

    /// For how many blocks a coinbase cannot be spent, 100 by default.
    #[must_use]
    pub fn coinbase_maturity_blocks(mut self, blocks: u32) -> Self {
        self.coinbase_maturity_blocks = blocks;
        self
    }

    /// How a queue makes batches.
    #[must_use]
    pub fn queue(mut self, queue: Queue, options: QueueOptions) -> Self {
        self.queues[queue as usize] = options;
        self
    }

    /// The disk that large bodies are written to.
    #[must_use]
    pub fn disk(mut self, disk: Arc<dyn Disk>) -> Self {
        self.disk = disk;
        self
    }

    /// The clock behind creation times and locks: milliseconds since 1970.
    #[must_use]
    pub fn clock_ms(mut self, clock: impl Fn() -> u64 + Send + Sync + 'static) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// Where the figures of the queues go, each under the name of its queue.
    #[must_use]
    pub fn metrics(mut self, metrics: impl Metrics + Send + Sync + 'static) -> Self {
        self.metrics = Some(SharedMetrics(Arc::new(metrics)));
        self
    }
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
