//! The engine as its owner sees it: opened, started, asked, shut down.

use std::{
    fmt,
    sync::{Arc, Condvar, Mutex, OnceLock, PoisonError, atomic::Ordering::SeqCst},
};

use icecore_catalog::{
    Catalog, Pins,
    migrations::{self, Runner, ShutdownOutcome},
};
use icecore_diskio::{Disk, RealDisk};
use icecore_ledger::Decoder;
use icecore_registry::{CancelToken, Registry, ShutdownReport, WorkerConfig};

use crate::{
    Clock, DiskBytes, EngineConfig, Error, Estimate, Result, RunReport, Sources, Status, SystemClock, View,
    lifecycle::Lifecycle,
    retention::{self, RetentionChange},
    shared::Shared,
    start::{started, supervise},
};

/// The engine's workers, in the order in which a shutdown ends them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Worker {
    /// Ingests, and begins all work anew after an error.
    Ingest,
    /// Freezes, indexes, discards and prunes.
    Lifecycle,
}

impl Worker {
    pub(crate) fn weight(self) -> i32 {
        match self {
            Worker::Ingest => 0,
            Worker::Lifecycle => 10,
        }
    }
}

/// A store that is open, and whoever works on it. Dropping it shuts it down.
pub struct Engine {
    pub(crate) shared: Arc<Shared>,
    registry: Arc<Registry<Worker>>,
    ended: Arc<Ended>,
    /// From the first start of the work on.
    migrations: OnceLock<Runner>,
    /// Held while retention is changed, in the store and here: both say the same afterwards.
    changing: Mutex<()>,
}

/// Whether the supervised work has come to an end.
#[derive(Default)]
struct Ended {
    is: Mutex<bool>,
    changed: Condvar,
}

/// Says so, however the worker ends.
struct SayEnded(Arc<Ended>);

impl Drop for SayEnded {
    fn drop(&mut self) {
        *self.0.is.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.0.changed.notify_all();
    }
}

impl Engine {
    /// Opens a store, made where there is none: takes its lock, checks or writes its pins, opens its hot chunks. From then on
    /// [`view`](Engine::view) answers from what is there; nothing is fetched before [`start`](Engine::start).
    ///
    /// # Errors
    /// [`Error::Catalog`] for a store that is in use, of another geometry, network or earliest ledger, written by a newer
    /// program, or damaged; [`Error::HotStoreLost`]; those of disk and databases.
    pub fn open(config: EngineConfig, sources: Sources, decoder: Arc<dyn Decoder>) -> Result<Engine> {
        Self::open_on(Arc::new(RealDisk), Arc::new(SystemClock::default()), config, sources, decoder)
    }

    /// Opens a store whose frozen files are on any disk, and whose pauses and graces any clock measures.
    ///
    /// # Errors
    /// As of [`open`](Engine::open).
    pub fn open_on(
        disk: Arc<dyn Disk>,
        clock: Arc<dyn Clock>,
        config: EngineConfig,
        sources: Sources,
        decoder: Arc<dyn Decoder>,
    ) -> Result<Engine> {
        let pins = Pins::new(config.geometry, config.earliest, config.network.clone());
        let catalog = Catalog::open(disk, config.layout.clone(), &pins)?;
        let overruled = retention::stored(&catalog)?;
        let shared = Arc::new(Shared::new(config, catalog, sources, decoder, clock));
        if let Some(chunks) = overruled {
            let configured = shared.config.retention_chunks;
            tracing::info!(chunks, configured, "the store's own retention overrules the configuration");
            shared.published.retention.store(chunks, SeqCst);
        }
        shared.take_up(&CancelToken::new())?;
        Ok(Engine {
            shared,
            registry: Arc::new(Registry::new()),
            ended: Arc::default(),
            migrations: OnceLock::new(),
            changing: Mutex::new(()),
        })
    }

    /// Starts the work: backfill, ingestion, lifecycle. It goes on by itself, also after errors, until
    /// [`shutdown`](Engine::shutdown), or until somebody has to do something: see [`wait`](Engine::wait).
    ///
    /// # Errors
    /// [`Error::NotStarted`] when it was started before, or the system gives no thread; [`Error::Cancelled`] after a shutdown.
    pub fn start(&self) -> Result<()> {
        let config = WorkerConfig {
            weight: Worker::Ingest.weight(),
            join_budget: self.shared.config.shutdown,
            ..WorkerConfig::default()
        };
        let (shared, registry) = (Arc::clone(&self.shared), Arc::downgrade(&self.registry));
        let ended = Arc::clone(&self.ended);
        let outcome = self.registry.start_thread(Worker::Ingest, config, move |stop| {
            let _said = SayEnded(ended);
            supervise(&shared, &registry, &stop)
        });
        started("ingestion", outcome)?;
        // Not before: nobody waits for them, and what is only looked at is left as it is.
        self.migrations.get_or_init(|| migrations::start(&self.shared.catalog));
        Ok(())
    }

    /// Waits until the work that was started has ended: by a shutdown, or by itself. Where none was started, for ever.
    ///
    /// # Errors
    /// [`Error::Stopped`] with what it ended for.
    pub fn wait(&self) -> Result<()> {
        let is = self.ended.is.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.ended.changed.wait_while(is, |is| !*is).unwrap_or_else(PoisonError::into_inner));
        self.shared.fatal().map_or(Ok(()), |source| Err(Error::Stopped { source }))
    }

    /// Ends all work, ingestion before the lifecycle, each within the configured time, and tells how each ended. The store
    /// stays open for reads until the engine is dropped.
    pub fn shutdown(&self) -> ShutdownReport<Worker> {
        let report = self.registry.shutdown_blocking();
        if let Some(migrations) = self.migrations.get()
            && let ShutdownOutcome::StillRunning { names } = migrations.shutdown(self.shared.config.shutdown)
        {
            tracing::error!(?names, "migrations still run: the store is closed when they end");
        }
        // So that the next opening has no log to replay; what is in the log is durable all the same.
        for (chunk, hot) in self.shared.hot.load().iter() {
            if let Err(error) = hot.flush() {
                tracing::warn!(%chunk, %error, "a hot chunk could not be flushed");
            }
        }
        // Also where a worker is stuck in a source, and will not say so itself.
        drop(SayEnded(Arc::clone(&self.ended)));
        tracing::info!(clean = report.all_clean(), "shut down");
        report
    }

    /// A moment of the store, to read from. Cheap: take one for each request.
    pub fn view(&self) -> View {
        View::take(&self.shared)
    }

    /// Reads through a view, and once more through a new one where it was held for longer than the grace.
    ///
    /// # Errors
    /// Those of `read`.
    pub fn read<T>(&self, read: impl Fn(&View) -> Result<T>) -> Result<T> {
        match read(&self.view()) {
            Err(error) if error.is_not_found() => read(&self.view()),
            answer => answer,
        }
    }

    /// How the store and its workers are.
    pub fn status(&self) -> Status {
        Status::of(&self.shared, &self.registry, self.migrations.get())
    }

    /// The bytes of frozen files and hot chunks, by tree. Looks at every file, so ask now and then.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn disk_bytes(&self) -> Result<DiskBytes> {
        DiskBytes::of(&self.shared)
    }

    /// What is planned: how many chunks and bytes, how long, and whether the disk holds it.
    ///
    /// # Errors
    /// Those of the source and the disk.
    pub fn estimate(&self) -> Result<Estimate> {
        self.shared.estimate()
    }

    /// What keeping another number of chunks would prune or fetch; changes nothing.
    pub fn retention_change(&self, chunks: u32) -> RetentionChange {
        let (scope, state) = (self.shared.scope(), self.shared.state());
        RetentionChange::of(&scope, &state, self.shared.published.complete(), chunks)
    }

    /// Keeps another number of complete chunks from now on (0 keeps all), also after a restart: the store's own value is
    /// stronger than the configuration's, until [`forget_retention`](Engine::forget_retention).
    ///
    /// # Errors
    /// [`Error::Catalog`].
    pub fn set_retention(&self, chunks: u32) -> Result<()> {
        let _one = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        retention::store(&self.shared.catalog, Some(chunks))?;
        self.change_retention(chunks);
        Ok(())
    }

    /// Goes back to the number of chunks that the configuration says.
    ///
    /// # Errors
    /// [`Error::Catalog`].
    pub fn forget_retention(&self) -> Result<()> {
        let _one = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        retention::store(&self.shared.catalog, None)?;
        self.change_retention(self.shared.config.retention_chunks);
        Ok(())
    }

    fn change_retention(&self, chunks: u32) {
        tracing::info!(chunks, "retention changed");
        self.shared.published.retention.store(chunks, SeqCst);
        self.shared.bell.ring();
    }

    /// Runs the lifecycle here and now, until it is settled or gets no further: for a store on which no work was started.
    ///
    /// # Errors
    /// [`Error::NotStarted`] where work was started; the first error of a run that got no further.
    pub fn settle(&self) -> Result<RunReport> {
        if self.registry.any_alive() {
            let why = "the engine's own lifecycle is at work".to_owned();
            return Err(Error::NotStarted { worker: "a run of the lifecycle", why });
        }
        let stop = CancelToken::new();
        let lifecycle = Lifecycle { shared: &self.shared, stop: &stop };
        loop {
            let mut report = lifecycle.run();
            if report.is_settled {
                return Ok(report);
            }
            if report.has_acted() {
                continue;
            }
            if !report.failed.is_empty() {
                return Err(report.failed.remove(0).1);
            }
            match report.due {
                Some(due) => {
                    let now = self.shared.clock.now();
                    self.shared.clock.pause(due.saturating_sub(now), &stop);
                }
                None => return Ok(report),
            }
        }
    }

    /// The catalog, for a backup beside the work.
    pub fn catalog(&self) -> &Catalog {
        &self.shared.catalog
    }

    /// What the engine was told.
    pub fn config(&self) -> &EngineConfig {
        &self.shared.config
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if self.registry.any_alive() {
            let _told_in_the_log = self.shutdown();
        }
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").field("root", &self.shared.config.layout.root()).finish_non_exhaustive()
    }
}
