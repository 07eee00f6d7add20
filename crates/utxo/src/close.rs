//! The end of a store: queues drain, producers first; then the bodies are closed, then the database is let go.

use std::{
    fmt,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use icecore_batcher::{CloseOutcome, GroupBuilder, GroupCloseError, GroupDraining, GroupReport};

use crate::{
    Error, UtxoStore,
    engine::{Engine, Shared},
    mutants,
};

/// How long each of the last steps may take before the close goes on without it.
const HOOK_BUDGET: Duration = Duration::from_secs(30);

/// Why a store did not close, or not well.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CloseError {
    /// The time is up. The drain goes on: what was accepted is neither lost nor known to be stored.
    #[error("not drained in time, the drain goes on: {0}")]
    NotConfirmed(Draining),
    /// Everything was drained, and the storage did not take all of it. Whoever waited for those items was told.
    #[error("{items} accepted items could not be stored, for the storage failed")]
    Unwritten {
        /// How many.
        items: u64,
    },
    /// Everything is stored; the database or the bodies did not close in good order.
    #[error("drained, but not closed in good order: {what}")]
    Resource {
        /// Which, and why.
        what: String,
    },
    /// Called from within one of the store's own queues.
    #[error("a store's own queue cannot wait for its end")]
    WouldDeadlock,
}

/// A close that was begun.
#[derive(Clone)]
pub struct Draining {
    group: GroupDraining,
    shared: Arc<Shared>,
}

impl Draining {
    /// Waits for the end, however long it takes.
    ///
    /// # Errors
    /// [`CloseError::Unwritten`], [`CloseError::Resource`], [`CloseError::WouldDeadlock`].
    pub fn wait(&self) -> Result<Arc<GroupReport>, CloseError> {
        self.result(self.group.wait())
    }

    /// Waits for the end, at most so long.
    ///
    /// # Errors
    /// All of [`CloseError`].
    pub fn wait_timeout(&self, limit: Duration) -> Result<Arc<GroupReport>, CloseError> {
        self.result(self.group.wait_timeout(limit))
    }

    fn result(
        &self,
        report: Result<Arc<GroupReport>, GroupCloseError>,
    ) -> Result<Arc<GroupReport>, CloseError> {
        let report = report.map_err(|error| match error {
            GroupCloseError::NotConfirmed(_) => CloseError::NotConfirmed(self.clone()),
            _ => CloseError::WouldDeadlock,
        })?;
        let items = self.shared.unwritten.load(Ordering::Acquire);
        if items > 0 && !mutants::on("unwritten_unreported") {
            return Err(CloseError::Unwritten { items });
        }
        match report.hooks.iter().find(|hook| !matches!(hook.outcome, CloseOutcome::Closed)) {
            Some(hook) => Err(CloseError::Resource { what: format!("{}: {:?}", hook.name, hook.outcome) }),
            None => Ok(report),
        }
    }
}

impl fmt::Display for Draining {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("wait for it, or end the process and lose what is queued")
    }
}

impl fmt::Debug for Draining {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Draining").finish_non_exhaustive()
    }
}

impl UtxoStore {
    /// Lets no more operations in, waits until all that were accepted are stored, and lets the database go. From then on
    /// every operation is [`Error::Closed`]. May be called as often as one likes; all callers get the same report.
    ///
    /// # Errors
    /// [`CloseError::NotConfirmed`] when the time is up: then the close goes on, and a new store on the same endpoint can
    /// be opened all the same.
    pub fn close(&self, limit: Duration) -> Result<Arc<GroupReport>, CloseError> {
        self.begin_close().wait_timeout(limit)
    }

    /// Lets no more operations in, and begins to drain, without waiting for it.
    pub fn begin_close(&self) -> Draining {
        self.shared.draining.store(true, Ordering::Release);
        Draining { group: self.queues.group.begin_close(), shared: Arc::clone(&self.shared) }
    }
}

/// What is done when the last queue is drained.
pub(crate) fn hooks(group: &mut GroupBuilder, engine: Arc<Engine>) {
    let last = Arc::clone(&engine);
    group.on_drained("bodies", HOOK_BUDGET, move |_| {
        engine.blobs.close();
        Ok::<_, Error>(())
    });
    group.on_drained("database", HOOK_BUDGET, move |_| match Arc::into_inner(last) {
        Some(engine) if mutants::on("lease_kept") => {
            std::mem::forget(engine);
            Ok(())
        }
        Some(engine) if mutants::on("client_closed_by_first") => {
            let _ = engine.client.close();
            engine.client.release()
        }
        Some(engine) => engine.client.release(),
        None => Ok(()), // whoever still has it lets it go
    });
}
