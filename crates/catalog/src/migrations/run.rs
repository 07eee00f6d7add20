//! One run of a migration, and what its function has in hand.

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    thread,
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};

use crate::mutants;

use super::{
    Cancel, Changes, Clock, Counts, MigDb, MigError, Rows, Status, StatusRow, Turn, here::Guard, row,
};

/// How long a migration may hold the slot before that is worth a warning: live writes wait for it.
pub const LONG_HOLD: Duration = Duration::from_secs(5);
/// The pauses after which recording an end is tried again.
const RETRIES: [Duration; 3] =
    [Duration::from_millis(100), Duration::from_millis(500), Duration::from_secs(2)];
/// How often progress is written at most.
const PROGRESS_EVERY: Duration = Duration::from_secs(1);
/// How often trouble with writing it is logged at most.
const COMPLAIN_EVERY: Duration = Duration::from_secs(60);

/// What runs: the caller's function, with its error as text.
pub(super) type Job = Box<dyn FnOnce(&mut MigCtx<'_>) -> Result<(), String> + Send>;

/// A run: its name is taken in this process, and its row says that it is under way.
pub(super) struct Run {
    pub(super) db: Arc<dyn MigDb>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) owner: String,
    pub(super) name: String,
    pub(super) attempt: u32,
    pub(super) guard: Guard,
}

/// How a run ended.
struct End {
    status: Status,
    error: Option<String>,
}

/// A migration's hands: it writes step by step, tells how far it is, and looks whether it is to stop.
///
/// A step holds the store's one slot for writers, so each is to be short. The function may run more than once in a
/// store's life: after a crash or a failure it starts again on what the earlier run left. Borrowed mutably by each call, it
/// cannot be used within a step.
pub struct MigCtx<'a> {
    run: &'a Run,
    processed: u64,
    total: Option<u64>,
    /// When progress was written last, and when trouble with it was logged last.
    written: Option<Duration>,
    complained: Option<Duration>,
    failures: u64,
}

impl MigCtx<'_> {
    /// The migration's name.
    pub fn name(&self) -> &str {
        &self.run.name
    }

    /// Which start this is, from 1.
    pub fn attempt(&self) -> u32 {
        self.run.attempt
    }

    /// The order to stop, to be obeyed soon: return any error then.
    pub fn cancel(&self) -> &Cancel {
        &self.run.guard.cancel
    }

    /// One atomic step, in a slot of its own; see [`MigDb::transact`].
    ///
    /// # Errors
    /// What `step` says, and of the store; [`MigError::LeaseLost`] when another process has taken over: nothing was
    /// written then.
    pub fn write<T>(
        &mut self,
        step: impl FnMut(&dyn Rows, &mut Changes) -> Result<T, MigError>,
    ) -> Result<T, MigError> {
        self.run.step(step)
    }

    /// One atomic step that cannot be cut into short ones. Start, end and time are logged.
    ///
    /// # Errors
    /// As of [`write`](MigCtx::write).
    pub fn write_long<T>(
        &mut self,
        estimate: Duration,
        step: impl FnMut(&dyn Rows, &mut Changes) -> Result<T, MigError>,
    ) -> Result<T, MigError> {
        let name = &self.run.name;
        tracing::info!(name, ?estimate, "migration takes the slot for long");
        // The slot is not to be had for signs of life meanwhile.
        self.run.stay_alive(estimate)?;
        let began = self.run.clock.now();
        let result = self.run.step(step);
        let held = self.run.clock.now().saturating_sub(began);
        tracing::info!(name, ?held, "migration gives the slot back");
        result
    }

    /// Looks at the rows of one moment, and holds nobody up.
    ///
    /// # Errors
    /// What `look` says, and of the store.
    pub fn read<T>(&self, look: impl FnMut(&dyn Rows) -> Result<T, MigError>) -> Result<T, MigError> {
        read(&*self.run.db, look)
    }

    /// Waits, unless there is the order to stop.
    ///
    /// # Errors
    /// [`MigError::Cancelled`].
    pub fn pause(&self, time: Duration) -> Result<(), MigError> {
        let cancelled = self.cancel().is_cancelled() || self.run.clock.sleep(time, self.cancel());
        if cancelled { Err(MigError::Cancelled { counts: Counts::default() }) } else { Ok(()) }
    }

    /// Tells how far it is. Written once a second at most, and with the run's end; trouble with that stops nothing.
    pub fn progress(&mut self, processed: u64, total: Option<u64>) {
        (self.processed, self.total) = (processed, total);
        let now = self.run.clock.now();
        let since = |at: Option<Duration>| at.map(|at| now.saturating_sub(at));
        let too_soon = since(self.written).is_some_and(|passed| passed < PROGRESS_EVERY);
        if too_soon && !mutants::on("progress_every_time") {
            return;
        }
        self.written = Some(now);
        let (at, failures) = (self.run.clock.utc(), &mut self.failures);
        let Err(error) = self.run.change(|row| row.told(processed, total, at)) else { return };
        *failures += 1;
        if since(self.complained).is_none_or(|passed| passed >= COMPLAIN_EVERY) {
            self.complained = Some(now);
            let name = &self.run.name;
            tracing::warn!(name, %error, failures, "migration cannot write its progress");
        }
    }
}

impl fmt::Debug for MigCtx<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MigCtx").field("name", &self.run.name).finish_non_exhaustive()
    }
}

impl Run {
    /// Runs to the end: of the function, and of recording how that went. Nothing escapes.
    pub(super) fn perform(self, job: Job) {
        let (name, attempt) = (&self.name, self.attempt);
        tracing::info!(name, attempt, "migration starting");
        let stop = Cancel::default();
        thread::scope(|scope| {
            let (run, stop) = (&self, &stop);
            let _stop = StopOnDrop(stop);
            let beats = self.db.lease().map(|lease| {
                let beat = move || run.beat_until(stop, lease);
                thread::Builder::new().name("migration-beat".into()).spawn_scoped(scope, beat)
            });
            let mut ctx = MigCtx {
                run: &self,
                processed: 0,
                total: None,
                written: None,
                complained: None,
                failures: 0,
            };
            let result = match beats {
                Some(Err(e)) => Ok(Err(format!("no thread to keep the lease: {e}"))),
                _ if mutants::on("panics_escape") => Ok(job(&mut ctx)),
                _ => catch_unwind(AssertUnwindSafe(|| job(&mut ctx))),
            };
            let (processed, total) = (ctx.processed, ctx.total);
            self.record(&self.end(result), processed, total);
        });
    }

    fn end(&self, result: thread::Result<Result<(), String>>) -> End {
        let failed = |text: String| {
            let cancelled = self.guard.cancel.is_cancelled() && !text.contains("cancelled");
            let text = if cancelled && !mutants::on("cancelled_is_any_failure") {
                format!("cancelled: {text}")
            } else {
                text
            };
            End { status: Status::Failed, error: Some(text) }
        };
        match result {
            Ok(Ok(())) => End { status: Status::Done, error: None },
            Ok(Err(_)) if mutants::on("errors_are_dropped") => End { status: Status::Done, error: None },
            Ok(Err(text)) => failed(text),
            Err(panic) => {
                let text = panic.downcast_ref::<String>().map(String::as_str);
                let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
                failed(format!("panic: {}", text.unwrap_or("of a kind that has no text")))
            }
        }
    }

    /// Records the end, whatever orders to stop there are.
    fn record(&self, end: &End, processed: u64, total: Option<u64>) {
        let (name, status) = (&self.name, end.status);
        if self.guard.cancel.is_cancelled() && mutants::on("end_obeys_cancel") {
            return;
        }
        let retries = if mutants::on("end_written_once") { &[] } else { &RETRIES[..] };
        let mut pauses = retries.iter();
        loop {
            let at = self.clock.utc();
            let recorded = self.change(|row| {
                row.told(processed, total, at);
                row.end(end, at);
            });
            match (recorded, pauses.next()) {
                (Ok(true), _) => match &end.error {
                    None => return tracing::info!(name, processed, "migration done"),
                    Some(error) => return tracing::warn!(name, error, "migration failed"),
                },
                (Ok(false), _) => {
                    return tracing::warn!(
                        name,
                        ?status,
                        "migration was taken over: its end here is not recorded"
                    );
                }
                (Err(error), Some(pause)) => {
                    tracing::warn!(name, ?status, %error, ?pause, "the end of a migration was not recorded: once more");
                    self.clock.sleep(*pause, &Cancel::default());
                }
                (Err(error), None) => {
                    tracing::error!(name, ?status, %error, "CRITICAL: the end of a migration cannot be recorded");
                    return self.guard.remember(status);
                }
            }
        }
    }

    /// Tells every third of a lease that it is alive, until it is told to stop, or another has taken over.
    fn beat_until(&self, stop: &Cancel, lease: Duration) {
        while !self.clock.sleep(lease / 3, stop) && !mutants::on("no_signs_of_life") {
            if let Err(error) = self.stay_alive(Duration::ZERO) {
                tracing::warn!(name = self.name, %error, "migration gave no sign of life");
                if matches!(error, MigError::LeaseLost { .. }) {
                    return;
                }
            }
        }
    }

    /// Prolongs the lease, to `more` than usual.
    fn stay_alive(&self, more: Duration) -> Result<(), MigError> {
        let Some(lease) = self.db.lease() else { return Ok(()) };
        let until = later(self.clock.utc(), lease.saturating_add(more));
        match self.change(|row| row.lease_until = Some(until))? {
            true => Ok(()),
            false => Err(MigError::LeaseLost { name: self.name.clone(), owner: "another".into() }),
        }
    }

    /// Changes the row in one step, if it is still this run's.
    fn change(&self, mut change: impl FnMut(&mut StatusRow)) -> Result<bool, MigError> {
        let mut changed = false;
        self.db.transact(Turn::Live, &mut |rows, changes| {
            if let Some(mut row) = self.mine(rows)? {
                change(&mut row);
                row::write(changes, &row)?;
                changed = true;
            }
            Ok(())
        })?;
        Ok(changed)
    }

    /// The row, if it is still this run's; otherwise this run is over.
    fn mine(&self, rows: &dyn Rows) -> Result<Option<StatusRow>, MigError> {
        let row = row::read(rows, &self.name)?;
        let mine = row.filter(|row| {
            let owner_is_me = row.owner.as_ref() == Some(&self.owner) && row.attempt == self.attempt;
            (row.status == Status::PendingAsync && owner_is_me) || mutants::on("losers_write_on")
        });
        if mine.is_none() && !mutants::on("losers_run_on") {
            self.guard.cancel.cancel();
        }
        Ok(mine)
    }

    /// A step of the migration itself.
    fn step<T>(
        &self,
        mut step: impl FnMut(&dyn Rows, &mut Changes) -> Result<T, MigError>,
    ) -> Result<T, MigError> {
        let (mut out, mut began) = (None, None);
        let written = self.db.transact(Turn::Migration, &mut |rows, changes| {
            began = Some(self.clock.now());
            if self.mine(rows)?.is_none() {
                let owner = row::read(rows, &self.name)?.and_then(|row| row.owner);
                let owner = owner.unwrap_or_else(|| "nobody".into());
                return Err(MigError::LeaseLost { name: self.name.clone(), owner });
            }
            out = Some(step(rows, changes)?);
            Ok(())
        });
        let held = began.map_or(Duration::ZERO, |began| self.clock.now().saturating_sub(began));
        if held > LONG_HOLD && !mutants::on("long_holds_are_silent") {
            tracing::warn!(name = self.name, ?held, "migration held up every live write: cut it into chunks");
        }
        written?;
        out.ok_or_else(|| MigError::failed("the store did not perform the step"))
    }
}

impl StatusRow {
    fn told(&mut self, processed: u64, total: Option<u64>, at: Timestamp) {
        (self.rows_processed, self.rows_total, self.last_update_at) = (processed, total, Some(at));
    }

    fn end(&mut self, end: &End, at: Timestamp) {
        (self.status, self.error) = (end.status, end.error.clone());
        (self.ended_at, self.owner, self.lease_until) = (Some(at), None, None);
    }
}

/// Reads, and hands out what was read.
pub(super) fn read<T>(
    db: &dyn MigDb,
    mut look: impl FnMut(&dyn Rows) -> Result<T, MigError>,
) -> Result<T, MigError> {
    let mut out = None;
    db.read(&mut |rows| {
        out = Some(look(rows)?);
        Ok(())
    })?;
    out.ok_or_else(|| MigError::failed("the store showed no rows"))
}

/// A moment `time` after `at`, or the last one there is.
pub(super) fn later(at: Timestamp, time: Duration) -> Timestamp {
    let time = SignedDuration::try_from(time).unwrap_or(SignedDuration::MAX);
    at.checked_add(time).unwrap_or(Timestamp::MAX)
}

/// Lets a scope end whatever happens in it.
struct StopOnDrop<'a>(&'a Cancel);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.cancel();
    }
}
