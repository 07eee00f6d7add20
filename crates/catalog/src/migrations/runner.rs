use std::{
    any::type_name,
    fmt,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use jiff::Timestamp;

use crate::mutants;

use super::{
    Changes, Clock, MigCtx, MigDb, MigError, Rows, Status, StatusRow, SystemClock, Turn,
    clock::lock,
    here::{Guard, Here, Taken},
    row,
    run::{Job, Run, later, read},
};

/// Runs migrations of one store in the background, and joins their threads.
///
/// Dropping it orders all to stop and waits for them; [`shutdown`](Runner::shutdown) does so within a time.
pub struct Runner {
    db: Arc<dyn MigDb>,
    here: Arc<Here>,
    clock: Arc<dyn Clock>,
    /// Who it is in rows: this process, and which of its runners.
    owner: String,
    shut: AtomicBool,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// What became of a call to run a migration.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Scheduled {
    /// It runs in the background, and its row says so.
    Started,
    /// It ended well before, or an older program has done its work.
    AlreadyDone,
    /// It runs in this process already.
    InFlightHere,
    /// Another process runs it.
    ClaimedElsewhere {
        /// Who.
        owner: String,
        /// Until when that one is believed to be alive.
        until: Timestamp,
    },
    /// It ended in this process, but the store would not record that: it runs again when the store is opened again.
    EndedUnrecorded {
        /// How it ended.
        status: Status,
    },
}

/// What became of waiting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WaitOutcome {
    /// Nothing that was waited for runs any longer.
    Ended,
    /// The time was over first.
    StillRunning {
        /// What runs.
        names: Vec<String>,
    },
}

/// What became of a shutdown.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum ShutdownOutcome {
    /// Nothing runs any longer: the store can be closed.
    Clean,
    /// The time was over first: the store must not be closed yet.
    StillRunning {
        /// What runs.
        names: Vec<String>,
    },
}

impl Runner {
    /// A runner for a store.
    pub fn new(db: Arc<dyn MigDb>) -> Self {
        Self::with_clock(db, Arc::new(SystemClock::default()))
    }

    /// A runner with another clock.
    pub fn with_clock(db: Arc<dyn MigDb>, clock: Arc<dyn Clock>) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        // The time tells processes apart that had the same number one after the other.
        let owner = format!("{}-{:x}-{number}", std::process::id(), Timestamp::now().as_nanosecond());
        let here = Here::of(db.identity());
        Runner { db, here, clock, owner, shut: AtomicBool::new(false), threads: Mutex::default() }
    }

    /// Has `f` run in the background, unless it was done, and returns at once. It may run more than once in the store's
    /// life, so it must be able to start on what an earlier run left; it must obey orders to stop; and it must keep its
    /// steps short.
    ///
    /// # Errors
    /// [`MigError::StoreClosed`], [`MigError::ShutDown`], [`MigError::BadName`], [`MigError::BadRow`],
    /// [`MigError::Store`], [`MigError::Thread`].
    pub fn schedule<E, F>(&self, name: &str, f: F) -> Result<Scheduled, MigError>
    where
        F: FnOnce(&mut MigCtx<'_>) -> Result<(), E> + Send + 'static,
        E: fmt::Display,
    {
        self.start(name, Box::new(|ctx| f(ctx).map_err(|e| text(&e))))
    }

    /// Like [`schedule`](Runner::schedule), but does nothing where the store has a row `marker`, by which an older
    /// program that migrated while opening says that it has done it. `f` sets it too, with [`mark_legacy`].
    ///
    /// # Errors
    /// As of [`schedule`](Runner::schedule).
    pub fn schedule_unless_legacy<E, F>(&self, marker: &[u8], name: &str, f: F) -> Result<Scheduled, MigError>
    where
        F: FnOnce(&mut MigCtx<'_>) -> Result<(), E> + Send + 'static,
        E: fmt::Display,
    {
        let marked = self.read(|rows| Ok(rows.get(marker)?.is_some()))?;
        if marked && !mutants::on("legacy_is_ignored") {
            return Ok(Scheduled::AlreadyDone);
        }
        self.schedule(name, f)
    }

    /// What is known of a migration; `None` when it was never scheduled.
    ///
    /// # Errors
    /// [`MigError::StoreClosed`], [`MigError::BadName`], [`MigError::BadRow`], [`MigError::Store`].
    pub fn status(&self, name: &str) -> Result<Option<StatusRow>, MigError> {
        self.read(|rows| row::read(rows, name))
    }

    /// What is known of all migrations, in order of their names.
    ///
    /// # Errors
    /// As of [`status`](Runner::status).
    pub fn list(&self) -> Result<Vec<StatusRow>, MigError> {
        self.read(row::read_all)
    }

    /// True when a migration has ended well: whatever is wrong without it, not merely slow, must ask.
    ///
    /// # Errors
    /// As of [`status`](Runner::status).
    pub fn is_done(&self, name: &str) -> Result<bool, MigError> {
        Ok(self.status(name)?.is_some_and(|row| row.status == Status::Done))
    }

    /// Waits until a migration does not run in this process; it may not have been scheduled at all.
    ///
    /// # Errors
    /// [`MigError::StoreClosed`], [`MigError::Store`]: the store cannot say how it ended.
    pub fn wait(&self, name: &str, timeout: Duration) -> Result<WaitOutcome, MigError> {
        self.outcome(self.here.wait(timeout, |flying, _| flying == name))
    }

    /// Waits until all that was scheduled on this store before the call, in this process, has ended.
    ///
    /// # Errors
    /// As of [`wait`](Runner::wait).
    pub fn wait_all(&self, timeout: Duration) -> Result<WaitOutcome, MigError> {
        self.outcome(self.here.wait(timeout, |_, _| true))
    }

    /// Takes nothing new, orders everything of this runner to stop, and waits for that. Comes after the last live write
    /// and before the store is closed.
    pub fn shutdown(&self, timeout: Duration) -> ShutdownOutcome {
        if !mutants::on("shutdown_only_waits") {
            self.stop();
        }
        let names = self.here.wait(timeout, |_, owner| owner == self.owner);
        if names.is_empty() || mutants::on("shutdown_is_always_clean") {
            self.reap(|_| names.is_empty());
            return ShutdownOutcome::Clean;
        }
        tracing::warn!(?names, "migrations still run after the time for a shutdown");
        ShutdownOutcome::StillRunning { names }
    }

    fn stop(&self) {
        self.shut.store(true, Ordering::SeqCst);
        self.here.cancel_all(&self.owner);
    }

    fn start(&self, name: &str, job: Job) -> Result<Scheduled, MigError> {
        let stale = if mutants::on("status_before_guard") { Some(self.status(name)?) } else { None };
        row::key(name)?;
        let guard = match self.here.take(name, &self.owner) {
            Ok(guard) => guard,
            Err(Taken::InFlight) => return Ok(Scheduled::InFlightHere),
            Err(Taken::Ended(status)) => return Ok(Scheduled::EndedUnrecorded { status }),
        };
        // Whoever took the guard after the runner was shut sees it here; earlier ones are ordered to stop, and waited for.
        if self.shut.load(Ordering::SeqCst) {
            return Err(MigError::ShutDown { name: name.into() });
        }
        let attempt = match self.claim(name, stale) {
            Ok(Ok(attempt)) => attempt,
            Ok(Err(refused)) => return Ok(refused),
            Err(error) => {
                if mutants::on("errors_keep_the_guard") {
                    std::mem::forget(guard);
                }
                return Err(error);
            }
        };
        self.spawn(name, attempt, guard, job)
    }

    /// Claims the migration's row in one step: the number of the run, or why there is none.
    fn claim(
        &self,
        name: &str,
        stale: Option<Option<StatusRow>>,
    ) -> Result<Result<u32, Scheduled>, MigError> {
        let mut claimed = Err(Scheduled::AlreadyDone);
        let lease = self.db.lease();
        self.db.transact(Turn::Live, &mut |rows, changes| {
            let before = match &stale {
                Some(stale) => stale.clone(),
                None => row::read(rows, name)?,
            };
            let now = self.clock.utc();
            if let Some(row) = &before {
                if row.status == Status::Done && !mutants::on("done_runs_again") {
                    return Ok(());
                }
                if let (Some(owner), Some(until), Some(_)) = (&row.owner, row.lease_until, lease)
                    && *owner != self.owner
                    && (until > now || mutants::on("leases_never_end"))
                    && !mutants::on("claims_ignore_owners")
                {
                    claimed = Err(Scheduled::ClaimedElsewhere { owner: owner.clone(), until });
                    return Ok(());
                }
                if row.status == Status::Failed && mutants::on("failed_is_final")
                    || row.status == Status::PendingAsync && mutants::on("pending_is_believed")
                {
                    return Ok(());
                }
            }
            let mut row = StatusRow::begin(name, before, &self.owner, now);
            row.lease_until = lease.map(|lease| later(now, lease));
            if !mutants::on("started_before_it_shows") {
                row::write(changes, &row)?;
            }
            claimed = Ok(row.attempt);
            Ok(())
        })?;
        Ok(claimed)
    }

    fn spawn(&self, name: &str, attempt: u32, guard: Guard, job: Job) -> Result<Scheduled, MigError> {
        self.reap(JoinHandle::is_finished);
        let (db, clock) = (Arc::clone(&self.db), Arc::clone(&self.clock));
        let run = Run { db, clock, owner: self.owner.clone(), name: name.into(), attempt, guard };
        if mutants::on("schedule_waits") {
            run.perform(job);
            return Ok(Scheduled::Started);
        }
        // It logs to wherever its caller logs.
        let logs = tracing::dispatcher::get_default(Clone::clone);
        let perform = move || tracing::dispatcher::with_default(&logs, || run.perform(job));
        let mut threads = lock(&self.threads);
        let thread = thread::Builder::new().name("migration".into()).spawn(perform);
        // Without a thread, the row looks like that of a run that died, and is taken over like one.
        threads.push(thread.map_err(|e| MigError::Thread { name: name.into(), source: Arc::new(e) })?);
        Ok(Scheduled::Started)
    }

    /// Joins the threads that `which` says have ended.
    fn reap(&self, which: impl Fn(&JoinHandle<()>) -> bool) {
        let ended: Vec<_> = lock(&self.threads).extract_if(.., |thread| which(thread)).collect();
        // One that drops its own runner cannot wait for itself; its panic was caught.
        let others = ended.into_iter().filter(|thread| thread.thread().id() != thread::current().id());
        others.for_each(|thread| drop(thread.join()));
    }

    fn outcome(&self, names: Vec<String>) -> Result<WaitOutcome, MigError> {
        self.read(|_| Ok(()))?;
        Ok(if names.is_empty() { WaitOutcome::Ended } else { WaitOutcome::StillRunning { names } })
    }

    fn read<T>(&self, look: impl FnMut(&dyn Rows) -> Result<T, MigError>) -> Result<T, MigError> {
        read(&*self.db, look)
    }
}

impl Drop for Runner {
    fn drop(&mut self) {
        self.stop();
        self.reap(|_| !mutants::on("drop_detaches"));
    }
}

impl fmt::Debug for Runner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Runner")
            .field("db", &self.db.name())
            .field("owner", &self.owner)
            .finish_non_exhaustive()
    }
}

/// Sets the row by which an older program that migrated while opening knows that nothing is left to do; one that is there
/// stays as it is.
///
/// # Errors
/// [`MigError::Store`].
pub fn mark_legacy(
    rows: &dyn Rows,
    changes: &mut Changes,
    marker: &[u8],
    value: &[u8],
) -> Result<(), MigError> {
    if rows.get(marker)?.is_none() || mutants::on("legacy_is_overwritten") {
        changes.put(marker, value);
    }
    Ok(())
}

/// An error as text, which is never empty.
fn text<E: fmt::Display>(error: &E) -> String {
    let text = error.to_string();
    if text.trim().is_empty() && !mutants::on("errors_may_be_empty") { type_name::<E>().into() } else { text }
}
