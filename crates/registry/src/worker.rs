//! One worker: how it is configured, started, and how its end is told.
//!
//! ```text
//!             spawn                        body returns or unwinds
//!   (slot) ──────────▶ running ─────────────────────────────▶ ended ──────▶ joined (status read, handle gone)
//!                                  epilogue: exit status is set,
//!                                  "running" cleared if the slot still has this generation,
//!                                  everybody waiting is woken
//! ```
//!
//! A worker holds the registry weakly, and its exit cell strongly: it never keeps the registry alive. The epilogue
//! comes to be inside the worker, so a spawn that fails drops nothing that would want the registry's lock.

use std::{
    any::Any,
    fmt,
    future::Future,
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::{Arc, OnceLock, Weak},
    thread::{self, JoinHandle},
    time::Duration,
};

#[cfg(feature = "tokio")]
use crate::wait::caught;
use crate::{
    CancelToken, IntoStatus, Key, WorkerStatus, mutants,
    shared::Shared,
    status::panic_message,
    sync::{Mutex, lock},
};

/// How a worker is run and stopped.
#[derive(Clone, Debug)]
pub struct WorkerConfig {
    /// Its tier in a shutdown: lower weights are stopped first, equal ones together. Default 0.
    pub weight: i32,
    /// How long to wait for its end once it was told to end; its drain hook has as long before that. Default 30 s.
    pub join_budget: Duration,
    /// Run to its end before the worker is told to end, so that work in flight can finish. Default none.
    pub drain: Option<DrainHook>,
    /// A thread's stack in bytes; the platform's default if `None`. Tasks have none.
    pub stack_size: Option<usize>,
}

impl Default for WorkerConfig {
    fn default() -> Self {
        Self { weight: 0, join_budget: Duration::from_secs(30), drain: None, stack_size: None }
    }
}

pub(crate) type Held = Box<dyn Any + Send>;
type HookFuture = Pin<Box<dyn Future<Output = Held> + Send>>;

/// What to do before a worker is told to end. May run more than once: each quiesce runs it. Its future is polled by
/// whoever quiesces, which for the `_blocking` calls is a thread without a runtime.
#[derive(Clone)]
pub struct DrainHook(Arc<dyn Fn() -> HookFuture + Send + Sync>);

impl DrainHook {
    /// A hook. What its future returns is held until the quiesce is over, however it ends: a hook that raises a gate
    /// returns the [`GateGuard`](crate::GateGuard).
    pub fn new<F, Fut>(hook: F) -> Self
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output: Send + 'static> + Send + 'static,
    {
        Self(Arc::new(move || {
            let future = hook();
            Box::pin(async move { Box::new(future.await) as Held })
        }))
    }

    pub(crate) async fn run(&self) -> Held {
        (self.0)().await
    }
}

impl fmt::Debug for DrainHook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DrainHook")
    }
}

/// A worker in a slot or among the orphans, both owned by the registry.
pub(crate) struct Worker {
    pub(crate) generation: u64,
    pub(crate) handle: Handle,
    pub(crate) weight: i32,
    pub(crate) join_budget: Duration,
    pub(crate) drain: Option<DrainHook>,
    pub(crate) started: Duration,
}

/// How a started worker ended; set by its epilogue.
#[derive(Default)]
pub(crate) struct Exit(OnceLock<WorkerStatus>);

impl Exit {
    pub(crate) fn set(&self, status: WorkerStatus) {
        let _first_wins = self.0.set(status);
    }
}

/// What a worker is joined by.
pub(crate) enum Handle {
    /// A thread; without an exit cell it was spawned by somebody else.
    Thread { join: JoinHandle<()>, exit: Option<Arc<Exit>> },
    /// A task of a tokio runtime.
    #[cfg(feature = "tokio")]
    Task { join: tokio::task::JoinHandle<()>, exit: Arc<Exit> },
    /// Somebody is joining it at this moment. It counts as alive until that is done.
    Joining,
    /// A worker of the models, which have no threads of the system.
    #[cfg(all(test, loom))]
    Model(Arc<Exit>),
}

impl Handle {
    /// Whether the body has ended, so that joining takes no time.
    pub(crate) fn finished(&self) -> bool {
        match self {
            Self::Thread { join, exit: None } => join.is_finished(),
            Self::Thread { exit: Some(exit), .. } => exit.0.get().is_some(),
            #[cfg(feature = "tokio")]
            Self::Task { join, exit } => exit.0.get().is_some() || join.is_finished(),
            Self::Joining => false,
            #[cfg(all(test, loom))]
            Self::Model(exit) => exit.0.get().is_some(),
        }
    }

    /// Whether its end is signalled. A foreign thread has no epilogue; a task that its runtime dropped before its
    /// first step never got to one.
    pub(crate) fn tells(&self) -> bool {
        match self {
            Self::Thread { exit, .. } => exit.is_some(),
            #[cfg(feature = "tokio")]
            Self::Task { .. } => false,
            Self::Joining => true,
            #[cfg(all(test, loom))]
            Self::Model(_) => true,
        }
    }

    /// How it ended, as far as that is known without joining.
    pub(crate) fn peek(&self) -> Option<WorkerStatus> {
        match self {
            Self::Thread { exit: Some(exit), .. } => exit.0.get().cloned(),
            #[cfg(feature = "tokio")]
            Self::Task { exit, .. } => exit.0.get().cloned(),
            _ => None,
        }
    }

    /// Joins a worker whose body has ended.
    pub(crate) fn join(self) -> WorkerStatus {
        match self {
            Self::Thread { join, exit } => match join.join() {
                Err(payload) => WorkerStatus::Panicked(panic_message(payload)),
                Ok(()) => exit.and_then(|exit| exit.0.get().cloned()).unwrap_or(WorkerStatus::Ok),
            },
            #[cfg(feature = "tokio")]
            Self::Task { exit, .. } => exit.0.get().cloned().unwrap_or_else(|| {
                WorkerStatus::Stopped("its runtime was shut down before its first step".to_owned())
            }),
            Self::Joining => WorkerStatus::Error("it is being joined by somebody else".to_owned()),
            #[cfg(all(test, loom))]
            Self::Model(exit) => exit.0.get().cloned().unwrap_or(WorkerStatus::Ok),
        }
    }
}

/// What a new worker is given by the registry.
pub(crate) struct Birth<K: Key> {
    pub(crate) shared: Weak<Shared<K>>,
    pub(crate) key: K,
    pub(crate) generation: u64,
    pub(crate) token: CancelToken,
    pub(crate) exit: Arc<Exit>,
}

impl<K: Key> Birth<K> {
    /// Call it inside the worker only.
    pub(crate) fn epilogue(self) -> Epilogue<K> {
        Epilogue(self)
    }
}

/// Tells the registry, when it is dropped, that the worker has ended.
pub(crate) struct Epilogue<K: Key>(Birth<K>);

impl<K: Key> Epilogue<K> {
    pub(crate) fn finish(self, status: WorkerStatus) {
        self.0.exit.set(status);
    }
}

impl<K: Key> Drop for Epilogue<K> {
    fn drop(&mut self) {
        // Only a task that is dropped in the middle comes here without a status.
        self.0.exit.set(WorkerStatus::Stopped("its runtime was shut down before it ended".to_owned()));
        if let Some(shared) = self.0.shared.upgrade() {
            shared.ended(self.0.key, self.0.generation);
        }
    }
}

/// A body that outlives a failed spawn: what it owns may want the registry's lock when it is dropped, and the
/// spawning happens under that lock.
pub(crate) struct Body<B>(Arc<Mutex<Option<B>>>);

impl<B> Body<B> {
    pub(crate) fn new(body: B) -> Self {
        Self(Arc::new(Mutex::new(Some(body))))
    }

    pub(crate) fn share(&self) -> Self {
        Self(Arc::clone(&self.0))
    }

    pub(crate) fn take(&self) -> Option<B> {
        lock(&self.0).take()
    }
}

/// Spawns a thread that runs `body` and then its epilogue.
pub(crate) fn spawn_thread<K, B, R>(
    name: &str,
    stack_size: Option<usize>,
    birth: Birth<K>,
    body: Body<B>,
) -> io::Result<Handle>
where
    K: Key,
    B: FnOnce(CancelToken) -> R + Send + 'static,
    R: IntoStatus,
{
    let mut builder = thread::Builder::new().name(name.to_owned());
    if let Some(bytes) = stack_size {
        builder = builder.stack_size(bytes);
    }
    let exit = Arc::clone(&birth.exit);
    let mut birth = Some(birth);
    let early = if mutants::on("epilogue_outside_thread") { birth.take().map(Birth::epilogue) } else { None };
    let join = builder.spawn(move || {
        let Some(epilogue) = early.or_else(|| birth.map(Birth::epilogue)) else { return };
        let token = epilogue.0.token.clone();
        let run = || body.take().map_or(WorkerStatus::Ok, |body| body(token).into_status());
        let status = catch_unwind(AssertUnwindSafe(run));
        epilogue.finish(status.unwrap_or_else(|payload| WorkerStatus::Panicked(panic_message(payload))));
    })?;
    Ok(Handle::Thread { join, exit: Some(exit) })
}

/// Spawns a task that runs `body` and then its epilogue.
#[cfg(feature = "tokio")]
pub(crate) fn spawn_task<K, B, F>(runtime: &tokio::runtime::Handle, birth: Birth<K>, body: Body<B>) -> Handle
where
    K: Key,
    B: FnOnce(CancelToken) -> F + Send + 'static,
    F: Future<Output: IntoStatus> + Send + 'static,
{
    let exit = Arc::clone(&birth.exit);
    let join = runtime.spawn(async move {
        let epilogue = birth.epilogue();
        let Some(body) = body.take() else { return };
        let token = epilogue.0.token.clone();
        let status = caught(async move { body(token).await.into_status() }).await;
        epilogue.finish(status.unwrap_or_else(WorkerStatus::Panicked));
    });
    Handle::Task { join, exit }
}
