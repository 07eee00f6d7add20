//! What a program closes before it exits, on whatever path it exits.
//!
//! ```text
//! signal thread ── plan.run() ─┐
//!                              ├─▶ once: every store on a thread of its own, after those it names, with its own budget
//! end of main ──── guard drop ─┘         └─▶ all callers get the same report
//! ```
//!
//! A budget starts when its store starts to close, and whoever waits for that store goes on when the budget is used up:
//! a slow one takes no time from the others. The plan itself is bounded by the longest chain of budgets.
//!
//! The plan owns the closing functions; each is taken out under one lock and so runs once, also where a part of the program
//! [closes one store](ShutdownPlan::close) while another shuts everything down.

use std::{
    error::Error,
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use crate::{BoxError, lane::message, mutants, sync::lock, threads::spawn_or_run};

/// What became of a store.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum CloseOutcome {
    /// Its closing function returned `Ok`.
    Closed,
    /// Its closing function failed or panicked.
    Failed(Arc<dyn Error + Send + Sync>),
    /// Its budget is used up and its closing function has not returned.
    NotConfirmed,
}

/// What became of one store of a plan.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Closing {
    /// The store's name in the plan.
    pub name: String,
    /// How its closing went.
    pub outcome: CloseOutcome,
    /// How long that took, or has taken up to now.
    pub took: Duration,
}

/// What became of every store of a plan, in the order in which they were added.
#[derive(Debug)]
#[non_exhaustive]
pub struct ShutdownReport {
    /// The stores.
    pub stores: Vec<Closing>,
}

impl ShutdownReport {
    /// Whether all stores closed without complaint.
    pub fn is_clean(&self) -> bool {
        self.stores.iter().all(|store| matches!(store.outcome, CloseOutcome::Closed))
    }
}

/// Why a store was not taken into a plan. It must be closed by whoever opened it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PlanError {
    /// The program is shutting down already.
    #[error("{name} came too late for the shutdown: close it where it was opened")]
    ShuttingDown {
        /// The store.
        name: String,
    },
    /// Two stores of one name.
    #[error("the shutdown plan has a {name} already")]
    Duplicate {
        /// The store.
        name: String,
    },
    /// It is to close after a store that is not in the plan.
    #[error("{name} is to close after {after}, which is not in the shutdown plan: add that first")]
    UnknownPredecessor {
        /// The store.
        name: String,
        /// The one that is missing.
        after: String,
    },
}

/// A list of stores to close; clones are the same plan.
///
/// ```
/// use icecore_batcher::ShutdownPlan;
/// use std::time::Duration;
///
/// # fn main() -> Result<(), icecore_batcher::PlanError> {
/// let plan = ShutdownPlan::new();
/// let _guard = plan.guard(); // closes on return, on `?` and on panic
/// let on_signal = plan.clone(); // for the thread that waits for signals: `on_signal.run()`
/// plan.add("utxo", Duration::from_secs(30), &[], |_budget| Ok::<_, std::io::Error>(()))?;
/// plan.add("blobs", Duration::from_secs(10), &["utxo"], |_budget| Ok::<_, std::io::Error>(()))?;
/// assert!(on_signal.run().is_clean());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Default)]
pub struct ShutdownPlan {
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    state: Mutex<State>,
    /// A store ended, or the report is there.
    changed: Condvar,
}

#[derive(Default)]
struct State {
    stores: Vec<Store>,
    running: bool,
    report: Option<Arc<ShutdownReport>>,
}

pub(crate) type CloseFn = Box<dyn FnOnce(Duration) -> Result<(), BoxError> + Send>;

struct Store {
    name: String,
    budget: Duration,
    after: Vec<String>,
    /// Taken by whoever runs it.
    close: Option<CloseFn>,
    started: Option<Instant>,
    ended: Option<(CloseOutcome, Duration)>,
    thread: Option<JoinHandle<()>>,
}

impl ShutdownPlan {
    /// A plan without stores.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a store that closes after the stores named by `after` have, or have used up their budgets. `close` is given its
    /// own budget, fresh, and should return by then: for a [`Batcher`](crate::Batcher) or a [`Group`](crate::Group), it
    /// is the deadline. The name of a store that has been closed is free again.
    ///
    /// # Errors
    /// [`PlanError`]; then the caller is left with closing the store.
    pub fn add<E: Into<BoxError>>(
        &self,
        name: &str,
        budget: Duration,
        after: &[&str],
        close: impl FnOnce(Duration) -> Result<(), E> + Send + 'static,
    ) -> Result<(), PlanError> {
        let mut state = lock(&self.inner.state);
        if state.running {
            return Err(PlanError::ShuttingDown { name: name.into() });
        }
        if state.store(name).is_some_and(|store| store.ended.is_none()) {
            return Err(PlanError::Duplicate { name: name.into() });
        }
        // Only what is there can be named, so that there are no cycles.
        if let Some(&after) = after.iter().find(|&&after| after == name || state.store(after).is_none()) {
            return Err(PlanError::UnknownPredecessor { name: name.into(), after: after.into() });
        }
        state.stores.retain(|store| store.name != name);
        state.stores.push(Store {
            name: name.into(),
            budget,
            after: after.iter().map(|&after| after.into()).collect(),
            close: Some(Box::new(move |budget| close(budget).map_err(Into::into))),
            started: None,
            ended: None,
            thread: None,
        });
        Ok(())
    }

    /// Closes one store now, on this thread. Where somebody else has begun to, or a shutdown has, waits for what becomes of
    /// it there. `None` if the plan has no such store.
    pub fn close(&self, name: &str) -> Option<Closing> {
        let mut state = lock(&self.inner.state);
        if !state.running
            && let Some((close, budget)) = state.store(name)?.start()
        {
            drop(state);
            self.inner.end(name, close, budget);
            state = lock(&self.inner.state);
        }
        loop {
            let store = state.store(name)?;
            let left = store.left();
            if left == Some(Duration::ZERO) || mutants::on("shutdown_close_does_not_wait") {
                return Some(store.closing());
            }
            state = self.inner.wait(state, left);
        }
    }

    /// Closes all stores that are not closed yet, each once, and waits for each at most its budget. Whoever comes second
    /// waits for the first and gets the same report.
    pub fn run(&self) -> Arc<ShutdownReport> {
        let mut state = lock(&self.inner.state);
        if !std::mem::replace(&mut state.running, true) {
            return self.inner.run(state);
        }
        loop {
            if let Some(report) = &state.report {
                return Arc::clone(report);
            }
            state = self.inner.wait(state, None);
        }
    }

    /// A guard whose drop [runs](Self::run) the plan. It belongs into `main`, below whatever the stores need to close.
    pub fn guard(&self) -> ShutdownGuard {
        ShutdownGuard { plan: self.clone() }
    }

    /// Waits, at most so long, for closing functions that outlive their budgets. Says whether all have returned.
    pub fn wait_for_late(&self, limit: Duration) -> bool {
        let until = Instant::now().checked_add(limit);
        let mut state = lock(&self.inner.state);
        while state.stores.iter().any(|store| store.started.is_some() && store.ended.is_none()) {
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            if left == Some(Duration::ZERO) {
                return false;
            }
            state = self.inner.wait(state, left);
        }
        join_ended(state);
        true
    }
}

impl fmt::Debug for ShutdownPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(lock(&self.inner.state).stores.iter().map(|store| &store.name)).finish()
    }
}

/// Runs a [`ShutdownPlan`] when it is dropped.
#[derive(Debug)]
#[must_use = "dropped at once, it shuts down at once"]
pub struct ShutdownGuard {
    plan: ShutdownPlan,
}

impl Drop for ShutdownGuard {
    fn drop(&mut self) {
        if !mutants::on("shutdown_guard_does_nothing") {
            self.plan.run();
        }
    }
}

impl Inner {
    fn run<'a>(self: &'a Arc<Self>, mut state: MutexGuard<'a, State>) -> Arc<ShutdownReport> {
        let begun = Instant::now();
        loop {
            let ready = state.start_ready();
            let left: Vec<_> = state.stores.iter().map(Store::left).collect();
            if left.iter().all(|&left| left == Some(Duration::ZERO)) {
                return self.report(state);
            }
            if ready.is_empty() {
                state = self.wait(state, left.into_iter().flatten().filter(|left| !left.is_zero()).min());
                continue;
            }
            drop(state);
            let mut threads = Vec::new();
            for (name, close, mut budget) in ready {
                if mutants::on("shutdown_shares_deadline") {
                    budget = budget.saturating_sub(begun.elapsed());
                }
                let (inner, store) = (Arc::clone(self), name.clone());
                let thread = spawn_or_run(format!("close-{name}"), move || inner.end(&store, close, budget));
                threads.push((name, thread));
            }
            state = lock(&self.state);
            for (name, thread) in threads {
                if let Some(store) = state.store(&name) {
                    store.thread = thread;
                }
            }
        }
    }

    fn report(&self, mut state: MutexGuard<'_, State>) -> Arc<ShutdownReport> {
        let report = Arc::new(ShutdownReport { stores: state.stores.iter().map(Store::closing).collect() });
        state.report = Some(Arc::clone(&report));
        join_ended(state);
        self.changed.notify_all();
        for Closing { name, outcome, took } in &report.stores {
            match outcome {
                CloseOutcome::Closed => tracing::info!(name, ?took, "closed"),
                CloseOutcome::Failed(error) => tracing::error!(name, ?took, %error, "did not close well"),
                CloseOutcome::NotConfirmed => {
                    tracing::error!(name, ?took, "still closing after its budget")
                }
            }
        }
        report
    }

    /// Runs a closing function and writes down how it ended.
    fn end(&self, name: &str, close: CloseFn, budget: Duration) {
        let closed = catch_unwind(AssertUnwindSafe(|| close(budget)))
            .unwrap_or_else(|panic| Err(message(&*panic).to_string().into()));
        let outcome = match closed {
            Ok(()) => CloseOutcome::Closed,
            Err(error) => CloseOutcome::Failed(error.into()),
        };
        let mut state = lock(&self.state);
        let reported = state.report.is_some();
        if let Some(store) = state.store(name) {
            let took = store.started.map_or(Duration::ZERO, |started| started.elapsed());
            if reported {
                tracing::warn!(name, ?outcome, ?took, "closed after its budget");
            }
            store.ended = Some((outcome, took));
        }
        drop(state);
        self.changed.notify_all();
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>, limit: Option<Duration>) -> MutexGuard<'a, State> {
        match limit {
            None => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
            Some(limit) => self.changed.wait_timeout(state, limit).unwrap_or_else(PoisonError::into_inner).0,
        }
    }
}

/// Waits for threads that have nothing left to do.
fn join_ended(mut state: MutexGuard<'_, State>) {
    let ended = state.stores.iter_mut().filter(|store| store.ended.is_some());
    let threads: Vec<_> = ended.filter_map(|store| store.thread.take()).collect();
    drop(state);
    for thread in threads {
        // Panics of the closing function were caught.
        let _ = thread.join();
    }
}

impl State {
    fn store(&mut self, name: &str) -> Option<&mut Store> {
        self.stores.iter_mut().find(|store| store.name == name)
    }

    /// The stores whose turn it is; from now on they count as started.
    fn start_ready(&mut self) -> Vec<(String, CloseFn, Duration)> {
        let settled: Vec<bool> = self.stores.iter().map(|s| s.left() == Some(Duration::ZERO)).collect();
        let waits_for: Vec<String> = self
            .stores
            .iter()
            .zip(settled)
            .filter(|(_, settled)| !settled)
            .map(|(s, _)| s.name.clone())
            .collect();
        let ready = self.stores.iter_mut().filter(|store| {
            !store.after.iter().any(|after| waits_for.contains(after))
                || mutants::on("shutdown_ignores_order")
        });
        ready
            .filter_map(|store| store.start().map(|(close, budget)| (store.name.clone(), close, budget)))
            .collect()
    }
}

impl Store {
    fn start(&mut self) -> Option<(CloseFn, Duration)> {
        let close = self.close.take()?;
        self.started = Some(Instant::now());
        Some((close, self.budget))
    }

    /// What is left of the budget, nothing once it ended; `None` before it started.
    fn left(&self) -> Option<Duration> {
        match (self.started, &self.ended) {
            (_, Some(_)) => Some(Duration::ZERO),
            (Some(_), None) if mutants::on("shutdown_waits_for_stuck") => None,
            (Some(started), None) => Some(self.budget.saturating_sub(started.elapsed())),
            (None, None) => None,
        }
    }

    fn closing(&self) -> Closing {
        let (outcome, took) = match (&self.ended, self.started) {
            (Some(ended), _) => ended.clone(),
            (None, Some(started)) => (CloseOutcome::NotConfirmed, started.elapsed()),
            (None, None) => (CloseOutcome::NotConfirmed, Duration::ZERO),
        };
        Closing { name: self.name.clone(), outcome, took }
    }
}
