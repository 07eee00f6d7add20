use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use crate::{Error, Result};

/// The line between a long piece of work and whoever watches it: a flag that stops it, and counters to show.
///
/// Shared by reference; every field may be read at any moment.
#[derive(Debug, Default)]
pub struct Control {
    cancelled: AtomicBool,
    /// One worker failed: the others have no reason to go on.
    failed: AtomicBool,
    /// What there is to do, in the unit of [`done`](Control::done).
    pub total: AtomicU64,
    /// What has been done: ledgers while chunks are built or derived again, chunks and indexes while files are checked,
    /// keys while an index is built. Starts again with each stretch of work.
    pub done: AtomicU64,
    /// Raw ledger bytes that went through.
    pub bytes: AtomicU64,
}

impl Control {
    /// Asks the work to stop at the next ledger or slice of keys. Safe from a signal handler's thread.
    pub fn cancel(&self) {
        self.cancelled.store(true, Relaxed);
    }

    /// True once [`cancel`](Control::cancel) was called.
    pub fn is_cancelled(&self) -> bool {
        self.cancelled.load(Relaxed)
    }

    pub(crate) fn check(&self) -> Result<()> {
        if self.is_cancelled() || self.failed.load(Relaxed) { Err(Error::Cancelled) } else { Ok(()) }
    }

    pub(crate) fn stop_workers(&self) {
        self.failed.store(true, Relaxed);
    }

    pub(crate) fn begin(&self, total: u64) {
        self.failed.store(false, Relaxed);
        self.done.store(0, Relaxed);
        self.bytes.store(0, Relaxed);
        self.total.store(total, Relaxed);
    }

    pub(crate) fn advance(&self, units: u64, bytes: u64) {
        self.done.fetch_add(units, Relaxed);
        self.bytes.fetch_add(bytes, Relaxed);
    }
}
