use std::{
    fmt::{self, Debug},
    io,
    sync::Arc,
    thread::JoinHandle,
    time::Duration,
};

use crate::{
    CancelToken, Clock, IntoStatus, ShutdownReport, SystemClock, WorkerConfig, WorkerStatus, abort, mutants,
    shared::{IfDropped, Shared},
    wait::block_on,
    worker::{Body, Handle, Worker, spawn_thread},
};
#[cfg(feature = "tokio")]
use crate::{wait::Timer, worker::spawn_task};

/// What names a worker: small, ordered, printable; an enum of the program's workers is a good one.
pub trait Key: Copy + Ord + Debug + Send + Sync + 'static {}

impl<K: Copy + Ord + Debug + Send + Sync + 'static> Key for K {}

/// What a registry is made with.
#[derive(Clone)]
pub struct RegistryConfig {
    /// How long a restart waits for its predecessor, and a shutdown for the orphans. Default 1 s.
    pub orphan_grace: Duration,
    /// What budgets and graces are measured with. Default real time.
    pub clock: Arc<dyn Clock>,
}

impl Default for RegistryConfig {
    fn default() -> Self {
        Self { orphan_grace: Duration::from_secs(1), clock: Arc::new(SystemClock::default()) }
    }
}

/// What became of a start.
#[derive(Debug)]
#[must_use = "a start may have been refused"]
#[non_exhaustive]
pub enum StartOutcome {
    /// It runs; this is its generation, which grows with every start under its key.
    Started(u64),
    /// A worker of this key runs already; it was left alone.
    AlreadyRunning,
    /// The registry shuts down, or has.
    Closing,
    /// The key is being cleared: try again when that is over.
    Clearing,
    /// The system gave no thread; all is as it was before.
    SpawnFailed(io::Error),
    /// There is no tokio runtime here, or one of a single thread where the worker needs several.
    WrongRuntime,
}

impl StartOutcome {
    /// Whether the worker was started.
    pub fn is_started(&self) -> bool {
        matches!(self, Self::Started(_))
    }
}

/// What one worker is doing, for a status page.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct WorkerInfo<K> {
    /// Its key.
    pub key: K,
    /// Which of the key's workers it is.
    pub generation: u64,
    /// What it is doing.
    pub state: WorkerState,
    /// Its tier in a shutdown.
    pub weight: i32,
    /// How long ago it was started.
    pub age: Duration,
}

/// See [`WorkerInfo`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WorkerState {
    /// It runs.
    Running,
    /// It was told to end and has not yet.
    Stopping,
    /// It ended and was not joined yet; how, unless only joining would tell.
    Ended(Option<WorkerStatus>),
    /// It was replaced or given up on; it may still run.
    Orphaned,
}

/// Who is running. See the [crate's page](crate) for the story.
///
/// Dropping a registry tells all workers to end, logs an error with the keys still alive, and waits for nobody. Shut it
/// down first. Share it in an [`Arc`]; a worker that needs it holds it as a
/// [`Weak`](std::sync::Weak), or it is never dropped.
pub struct Registry<K: Key> {
    shared: Arc<Shared<K>>,
}

impl<K: Key> Default for Registry<K> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K: Key> Registry<K> {
    /// An empty registry.
    pub fn new() -> Self {
        Self::with(RegistryConfig::default())
    }

    /// An empty registry, made to measure.
    pub fn with(config: RegistryConfig) -> Self {
        abort::notice_once();
        Self { shared: Arc::new(Shared::new(config.clock, config.orphan_grace)) }
    }

    pub(crate) fn shared(&self) -> &Arc<Shared<K>> {
        &self.shared
    }

    /// Starts a thread named after its key. If an earlier worker of this key was cancelled or has ended, it is joined,
    /// for at most the orphan grace; if it does not end in that time, it goes to the orphans.
    ///
    /// Blocks for that grace: in async code use `start_thread_async`.
    pub fn start_thread<B, R>(&self, key: K, config: WorkerConfig, body: B) -> StartOutcome
    where
        B: FnOnce(CancelToken) -> R + Send + 'static,
        R: IntoStatus,
    {
        let (outcome, parked) = self.launch_thread(key, config, body);
        if let Some(generation) = parked {
            let shared = &self.shared;
            block_on(|timer| async move {
                shared.settle(shared.time(&timer), key, generation, shared.orphan_grace).await;
            });
        }
        outcome
    }

    pub(crate) fn launch_thread<B, R>(
        &self,
        key: K,
        config: WorkerConfig,
        body: B,
    ) -> (StartOutcome, Option<u64>)
    where
        B: FnOnce(CancelToken) -> R + Send + 'static,
        R: IntoStatus,
    {
        let name = format!("{key:?}").replace('\0', "?");
        let stack_size = config.stack_size;
        let body = Body::new(body);
        self.shared.launch(key, config, |birth| spawn_thread(&name, stack_size, birth, body.share()))
    }

    /// Takes charge of a thread that the caller spawned and tells to end itself; the registry joins and reports it.
    ///
    /// If the start is refused the thread is alive nevertheless, so it goes to the orphans, and an error is logged: ask
    /// [`is_closing`](Self::is_closing) and [`is_clearing`](Self::is_clearing) before spawning.
    pub fn register_thread(&self, key: K, config: WorkerConfig, join: JoinHandle<()>) -> StartOutcome {
        let mut table = self.shared.table();
        let generation = table.next_generation(key);
        let worker = self.shared.worker(generation, Handle::Thread { join, exit: None }, config);
        if let Some(refusal) = table.refusal(key) {
            table.adopt(key, worker);
            drop(table);
            tracing::error!(
                ?key,
                generation,
                ?refusal,
                "a thread was registered whose start is refused; it is kept as an orphan"
            );
            return refusal;
        }
        let predecessor = table.install(key, worker, CancelToken::new());
        let parked = predecessor.as_ref().map(|worker| worker.generation);
        table.orphans.extend(predecessor.map(|worker| (key, worker)));
        drop(table);
        if let Some(parked) = parked {
            self.shared.collect(key, parked);
        }
        StartOutcome::Started(generation)
    }

    /// Tells the worker of `key` to end, and returns at once; `false` if none was running.
    pub fn cancel(&self, key: K) -> bool {
        self.shared.cancel(key, None)
    }

    /// Tells all workers to end, and returns at once.
    pub fn cancel_all(&self) {
        self.shared.cancel_all();
    }

    /// Runs the worker's drain hook, tells it to end and joins it, within its budget. Over budget it goes to the orphans.
    pub fn quiesce_blocking(&self, key: K) -> WorkerStatus {
        let shared = &self.shared;
        block_on(|timer| async move { shared.quiesce(shared.time(&timer), key, None, IfDropped::Park).await })
    }

    /// Waits at most `grace` for the orphans to end and joins those that do; the others are `Detached` and kept.
    pub fn reap_orphans_blocking(&self, grace: Duration) -> Vec<(K, WorkerStatus)> {
        let shared = &self.shared;
        block_on(|timer| async move { shared.reap(shared.time(&timer), grace).await })
    }

    /// Ends everything: no start succeeds any more; workers are quiesced tier after tier, lower weights first, equal ones
    /// together; orphans are reaped. Callers at the same time share one shutdown, and later ones its report; a shutdown whose
    /// future is neither polled nor dropped holds up the others.
    ///
    /// A worker must not call it: it would wait for itself until its budget is over.
    pub fn shutdown_blocking(&self) -> ShutdownReport<K> {
        let shared = &self.shared;
        block_on(|timer| async move { shared.shut_down(shared.time(&timer)).await })
    }

    /// Whether a worker of `key` runs that was not told to end.
    pub fn is_running(&self, key: K) -> bool {
        self.shared.table().is_running(key)
    }

    /// Whether anybody lives, in a slot or among the orphans.
    pub fn any_alive(&self) -> bool {
        !self.shared.table().alive().is_empty()
    }

    /// Whether anybody of `key` lives, in its slot or among the orphans.
    pub fn any_alive_for(&self, key: K) -> bool {
        self.shared.table().any_alive_for(key)
    }

    /// How many orphans there are, alive or ended but not yet reaped.
    pub fn orphan_count(&self) -> usize {
        self.shared.table().orphans.len()
    }

    /// Whether a shutdown has begun.
    pub fn is_closing(&self) -> bool {
        self.shared.table().closing.is_some()
    }

    /// Whether somebody holds the clearing latch of `key`.
    pub fn is_clearing(&self, key: K) -> bool {
        self.shared.table().clearing.contains_key(&key)
    }

    /// While any guard for `key` lives, starts of `key` are refused. Holders compose.
    #[must_use = "the latch is held for as long as the guard lives"]
    pub fn hold_clearing(&self, key: K) -> ClearingGuard<K> {
        *self.shared.table().clearing.entry(key).or_default() += 1;
        ClearingGuard { shared: Arc::clone(&self.shared), key }
    }

    /// Everybody in a slot or among the orphans, by key. Cheap: one short lock, nobody is waited for.
    pub fn snapshot(&self) -> Vec<WorkerInfo<K>> {
        let now = self.shared.now();
        let table = self.shared.table();
        let in_slots = table.slots.iter().filter_map(|(key, slot)| {
            let worker = slot.worker.as_ref()?;
            let state = if worker.handle.finished() {
                WorkerState::Ended(worker.handle.peek())
            } else if slot.token.is_some() {
                WorkerState::Running
            } else {
                WorkerState::Stopping
            };
            Some((*key, worker, state))
        });
        let orphans = table.orphans.iter().map(|(key, worker)| (*key, worker, WorkerState::Orphaned));
        let info = |(key, worker, state): (K, &Worker, WorkerState)| {
            let age = now.saturating_sub(worker.started);
            WorkerInfo { key, generation: worker.generation, state, weight: worker.weight, age }
        };
        let mut all: Vec<WorkerInfo<K>> = in_slots.chain(orphans).map(info).collect();
        all.sort_by_key(|info| (info.key, info.generation));
        all
    }
}

#[cfg(feature = "tokio")]
impl<K: Key> Registry<K> {
    /// [`start_thread`](Self::start_thread) for async code: the wait for the predecessor is awaited. Dropped in that wait, it leaves the new worker running and the predecessor among the orphans.
    pub async fn start_thread_async<B, R>(&self, key: K, config: WorkerConfig, body: B) -> StartOutcome
    where
        B: FnOnce(CancelToken) -> R + Send + 'static,
        R: IntoStatus,
    {
        let (outcome, parked) = self.launch_thread(key, config, body);
        if let Some(generation) = parked {
            let shared = &self.shared;
            shared.settle(shared.time(&Timer::Tokio), key, generation, shared.orphan_grace).await;
        }
        outcome
    }

    /// [`start_thread_async`](Self::start_thread_async) for a body that blocks on futures of the runtime it is started in,
    /// which must have more than one thread: [`StartOutcome::WrongRuntime`] otherwise.
    pub async fn start_thread_with_runtime<B, R>(&self, key: K, config: WorkerConfig, body: B) -> StartOutcome
    where
        B: FnOnce(CancelToken, tokio::runtime::Handle) -> R + Send + 'static,
        R: IntoStatus,
    {
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) if runtime.runtime_flavor() == tokio::runtime::RuntimeFlavor::MultiThread => {
                self.start_thread_async(key, config, move |token| body(token, runtime)).await
            }
            _ => StartOutcome::WrongRuntime,
        }
    }

    /// Starts a task in the tokio runtime this is called in, of any kind; [`StartOutcome::WrongRuntime`] if there is none.
    /// A predecessor that has not ended goes to the orphans; nobody waits for it here.
    pub fn start_task<B, F>(&self, key: K, config: WorkerConfig, body: B) -> StartOutcome
    where
        B: FnOnce(CancelToken) -> F + Send + 'static,
        F: Future<Output: IntoStatus> + Send + 'static,
    {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return StartOutcome::WrongRuntime };
        if mutants::on("tasks_need_many_threads")
            && runtime.runtime_flavor() != tokio::runtime::RuntimeFlavor::MultiThread
        {
            return StartOutcome::WrongRuntime;
        }
        let body = Body::new(body);
        let spawn = |birth| Ok(spawn_task(&runtime, birth, body.share()));
        let (outcome, parked) = self.shared.launch(key, config, spawn);
        if let Some(generation) = parked {
            self.shared.collect(key, generation);
        }
        outcome
    }

    /// [`quiesce_blocking`](Self::quiesce_blocking) for async code. Dropped half-way, it leaves the worker among the orphans, told to end.
    pub async fn quiesce(&self, key: K) -> WorkerStatus {
        self.shared.quiesce(self.shared.time(&Timer::Tokio), key, None, IfDropped::Park).await
    }

    /// [`reap_orphans_blocking`](Self::reap_orphans_blocking) for async code. Dropped half-way, it has changed nothing.
    pub async fn reap_orphans(&self, grace: Duration) -> Vec<(K, WorkerStatus)> {
        self.shared.reap(self.shared.time(&Timer::Tokio), grace).await
    }

    /// [`shutdown_blocking`](Self::shutdown_blocking) for async code. Dropped half-way, it leaves the registry closing and every handle owned; called again, it goes on.
    pub async fn shutdown(&self) -> ShutdownReport<K> {
        self.shared.shut_down(self.shared.time(&Timer::Tokio)).await
    }
}

impl<K: Key> Drop for Registry<K> {
    fn drop(&mut self) {
        if mutants::on("drop_is_silent") {
            return;
        }
        self.shared.cancel_all();
        let alive = self.shared.table().alive();
        if !alive.is_empty() {
            tracing::error!(?alive, "a registry was dropped before its workers ended: shut it down first");
        }
    }
}

impl<K: Key> Debug for Registry<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry").field("workers", &self.snapshot()).finish()
    }
}

/// A share in the clearing latch of one key; its drop, also by a panic, gives that share back.
pub struct ClearingGuard<K: Key> {
    shared: Arc<Shared<K>>,
    key: K,
}

impl<K: Key> Drop for ClearingGuard<K> {
    fn drop(&mut self) {
        if mutants::on("clearing_leaks_on_panic") && std::thread::panicking() {
            return;
        }
        let mut table = self.shared.table();
        let Some(count) = table.clearing.get_mut(&self.key) else { return };
        *count = if mutants::on("clearing_is_a_flag") { 0 } else { count.saturating_sub(1) };
        if *count == 0 {
            table.clearing.remove(&self.key);
        }
        drop(table);
        self.shared.signal.wake_all();
    }
}

impl<K: Key> Debug for ClearingGuard<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClearingGuard").field("key", &self.key).finish()
    }
}
