//! One live client for each endpoint, shared by leases.
//!
//! ```text
//! acquire ──▶ nobody has it: connect, whoever comes meanwhile waits for this one attempt and shares its outcome
//!        ├──▶ open:          one lease more
//!        └──▶ closing:       wait until it is gone, then connect anew
//!
//! last lease gone ──▶ close, then leave the pool; in between nobody can get the client, or connect beside it
//! evict           ──▶ leave the pool at once; its leases keep it, and close it when the last of them goes
//! ```
//!
//! The count of leases is that of an [`Arc`], of which the pool holds a [`Weak`] one: that the last lease is gone and that
//! nobody can get the client any more are the same step.
//!
//! Leases that are dropped leave closing to threads of the pool, which joins them when it is dropped. Leases may outlive
//! the pool; then the last one closes where it is dropped.

mod endpoint;

use std::{
    collections::HashMap,
    fmt,
    ops::Deref,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Condvar, Mutex, PoisonError, Weak},
    thread::{self, JoinHandle},
};

pub use endpoint::{Endpoint, EndpointError, Scheme};

use crate::{BoxError, Completion, Failure, lane::message, mutants, sync::lock, threads::spawn_or_run};

/// Everything that can go wrong with a shared client.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PoolError {
    /// The text names no endpoint.
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    /// The one attempt to connect failed. It is not remembered: whoever asks next tries again.
    #[error("connecting to {endpoint} failed: {cause}")]
    Connect {
        /// Where to.
        endpoint: Endpoint,
        /// What the connecting function said, or its panic.
        cause: Arc<dyn std::error::Error + Send + Sync>,
    },
    /// The last lease is gone, and so is the client, but not in good order.
    #[error("closing the client of {endpoint} failed: {cause}")]
    Close {
        /// Whose client.
        endpoint: Endpoint,
        /// What the closing function said, or its panic.
        cause: Arc<dyn std::error::Error + Send + Sync>,
    },
}

/// Shared clients of one kind, one for each endpoint.
///
/// ```
/// use icecore_batcher::{ClientPool, PoolError, Scheme};
///
/// # fn main() -> Result<(), PoolError> {
/// let pool = ClientPool::new(&[Scheme::host("kv", 3000)], |_client: String| Ok::<_, std::io::Error>(()));
/// let connect = || Ok::<_, std::io::Error>("a connection".to_string());
/// let one = pool.acquire("kv://db.example", connect)?;
/// let two = pool.acquire("KV://DB.example:3000", || -> std::io::Result<String> { unreachable!("it is there") })?;
/// assert_eq!(*one, *two);
/// one.release()?;
/// assert_eq!(*two, "a connection");
/// two.release()?; // closed, and no longer in the pool
/// # Ok(())
/// # }
/// ```
pub struct ClientPool<C: Send + Sync + 'static> {
    shared: Arc<Shared<C>>,
}

type CloseFn<C> = Box<dyn Fn(C) -> Result<(), BoxError> + Send + Sync>;

struct Shared<C> {
    schemes: Vec<Scheme>,
    close: CloseFn<C>,
    state: Mutex<State<C>>,
    /// A slot became free.
    freed: Condvar,
}

struct State<C> {
    slots: HashMap<Endpoint, Slot<C>>,
    generations: u64,
    closers: Vec<JoinHandle<()>>,
    /// The pool is gone: nobody would join another closer.
    orphaned: bool,
}

enum Slot<C> {
    Connecting(Arc<Attempt<C>>),
    /// Open while it can be upgraded; closing from then on.
    Open {
        generation: u64,
        client: Weak<C>,
    },
}

/// A connecting that several callers wait for.
struct Attempt<C> {
    state: Mutex<AttemptState<C>>,
    done: Condvar,
}

struct AttemptState<C> {
    waiting: usize,
    /// A client is counted once for everybody who waits for it, before the first of them can let it go again.
    outcome: Option<Result<Vec<Arc<C>>, PoolError>>,
    generation: u64,
}

impl<C: Send + Sync + 'static> ClientPool<C> {
    /// A pool for endpoints of `schemes`. Each client is given to `close` after its last lease has gone.
    pub fn new<E: Into<BoxError>>(
        schemes: &[Scheme],
        close: impl Fn(C) -> Result<(), E> + Send + Sync + 'static,
    ) -> Self {
        let state = State { slots: HashMap::new(), generations: 0, closers: Vec::new(), orphaned: false };
        let shared = Shared {
            schemes: schemes.to_vec(),
            close: Box::new(move |client| close(client).map_err(Into::into)),
            state: Mutex::new(state),
            freed: Condvar::new(),
        };
        ClientPool { shared: Arc::new(shared) }
    }

    /// A lease on the client of `endpoint`, made by `connect` if there is none. Blocks while somebody connects to this
    /// endpoint or while its former client is closing. `connect` may use the pool for other endpoints only.
    ///
    /// # Errors
    /// [`PoolError::Endpoint`], and [`PoolError::Connect`] for everybody who waited for the attempt.
    pub fn acquire<E: Into<BoxError>>(
        &self,
        endpoint: &str,
        connect: impl FnOnce() -> Result<C, E>,
    ) -> Result<Lease<C>, PoolError> {
        let endpoint = Endpoint::parse(endpoint, &self.shared.schemes)?;
        let mut state = lock(&self.shared.state);
        loop {
            match state.slots.get(&endpoint) {
                None => break,
                Some(Slot::Connecting(_)) if mutants::on("pool_connects_twice") => break,
                Some(Slot::Connecting(attempt)) => {
                    let attempt = Arc::clone(attempt);
                    lock(&attempt.state).waiting += 1;
                    drop(state);
                    let (client, generation) = attempt.wait()?;
                    return Ok(self.shared.lease(endpoint, generation, client));
                }
                Some(Slot::Open { generation, client }) => match client.upgrade() {
                    Some(client) => {
                        let generation = *generation;
                        drop(state);
                        return Ok(self.shared.lease(endpoint, generation, client));
                    }
                    None => state = self.shared.freed.wait(state).unwrap_or_else(PoisonError::into_inner),
                },
            }
        }
        state.generations += 1;
        let generation = state.generations;
        let attempt = Arc::new(Attempt::new(generation));
        state.slots.insert(endpoint.clone(), Slot::Connecting(Arc::clone(&attempt)));
        drop(state);
        let connected = guarded(|| connect().map_err(Into::into)).map(Arc::new);
        self.shared.settle(endpoint, &attempt, connected)
    }

    /// Takes the client of `endpoint` out of the pool, because it is known to be broken: its leases keep it, and whoever
    /// acquires from now on gets a new one. Says whether there was an open one.
    ///
    /// # Errors
    /// [`EndpointError`], where `endpoint` is none.
    pub fn evict(&self, endpoint: &str) -> Result<bool, EndpointError> {
        let endpoint = match Endpoint::parse(endpoint, &self.shared.schemes) {
            Err(_) if mutants::on("pool_bad_key_ignored") => return Ok(false),
            parsed => parsed?,
        };
        let mut state = lock(&self.shared.state);
        // The upgraded client may become the last one: it is let go of as a lease, and without the lock.
        let evicted = match state.slots.get(&endpoint) {
            Some(Slot::Open { generation, client }) => client.upgrade().map(|client| (*generation, client)),
            _ => None,
        };
        if evicted.is_some() {
            state.slots.remove(&endpoint);
            self.shared.freed.notify_all();
        }
        drop(state);
        let lease = evicted.map(|(generation, client)| self.shared.lease(endpoint, generation, client));
        Ok(lease.is_some())
    }

    /// How many wait for somebody else's attempt to connect.
    #[cfg(test)]
    pub(crate) fn waiting(&self, endpoint: &str) -> usize {
        let endpoint = Endpoint::parse(endpoint, &self.shared.schemes);
        match lock(&self.shared.state).slots.get(&endpoint.unwrap()) {
            Some(Slot::Connecting(attempt)) => lock(&attempt.state).waiting,
            _ => 0,
        }
    }
}

impl<C: Send + Sync + 'static> Drop for ClientPool<C> {
    fn drop(&mut self) {
        let mut state = lock(&self.shared.state);
        state.orphaned = true;
        let closers = std::mem::take(&mut state.closers);
        drop(state);
        // A client may hold the pool: then this is one of its threads.
        let me = thread::current().id();
        let other = |closer: &JoinHandle<()>| closer.thread().id() != me || mutants::on("pool_joins_itself");
        for closer in closers.into_iter().filter(other) {
            // Panics of the closing function were caught.
            let _ = closer.join();
        }
    }
}

impl<C: Send + Sync + 'static> fmt::Debug for ClientPool<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(lock(&self.shared.state).slots.keys()).finish()
    }
}

impl<C: Send + Sync + 'static> Shared<C> {
    fn lease(self: &Arc<Self>, endpoint: Endpoint, generation: u64, client: Arc<C>) -> Lease<C> {
        Lease { client: Some(client), endpoint, generation, shared: Arc::clone(self) }
    }

    /// Ends an attempt: for the pool, for all who wait, and for the caller.
    fn settle(
        self: &Arc<Self>,
        endpoint: Endpoint,
        attempt: &Attempt<C>,
        connected: Result<Arc<C>, BoxError>,
    ) -> Result<Lease<C>, PoolError> {
        let mut state = lock(&self.state);
        let mut shared = lock(&attempt.state);
        let generation = shared.generation;
        let outcome = match connected {
            Ok(client) => {
                let slot = Slot::Open { generation, client: Arc::downgrade(&client) };
                state.slots.insert(endpoint.clone(), slot);
                shared.outcome = Some(Ok(vec![Arc::clone(&client); shared.waiting]));
                Ok(self.lease(endpoint, generation, client))
            }
            Err(cause) => {
                if !mutants::on("pool_caches_failure") {
                    state.slots.remove(&endpoint);
                }
                let error = PoolError::Connect { endpoint, cause: cause.into() };
                shared.outcome = Some(Err(error.clone()));
                Err(error)
            }
        };
        self.freed.notify_all();
        attempt.done.notify_all();
        outcome
    }

    /// Closes a client that nobody can get any more, then makes room for another.
    fn close(&self, endpoint: &Endpoint, generation: u64, client: C) -> Result<(), PoolError> {
        if mutants::on("pool_removes_before_closing") {
            self.free(endpoint, generation);
        }
        let closed = guarded(|| (self.close)(client));
        if !mutants::on("pool_keeps_closed_client") {
            self.free(endpoint, generation);
        }
        closed.map_err(|cause| PoolError::Close { endpoint: endpoint.clone(), cause: cause.into() })
    }

    fn free(&self, endpoint: &Endpoint, generation: u64) {
        let mut state = lock(&self.state);
        // After an eviction the slot is another client's.
        let mine =
            matches!(state.slots.get(endpoint), Some(Slot::Open { generation: g, .. }) if *g == generation);
        if mine || mutants::on("pool_frees_any_generation") {
            state.slots.remove(endpoint);
        }
        self.freed.notify_all();
    }

    /// Closes on a thread of the pool; here, if the pool is gone. Then says how it went.
    fn close_in_background(
        self: &Arc<Self>,
        endpoint: Endpoint,
        generation: u64,
        client: C,
        tell: impl FnOnce(Result<(), PoolError>) + Send + 'static,
    ) {
        let shared = Arc::clone(self);
        let close = move || tell(shared.close(&endpoint, generation, client));
        if lock(&self.state).orphaned {
            return close();
        }
        let closer = spawn_or_run("pool-close".into(), close);
        let mut state = lock(&self.state);
        if !state.orphaned {
            state.closers.retain(|closer| !closer.is_finished());
            return state.closers.extend(closer);
        }
        drop(state);
        if let Some(closer) = closer {
            // The pool went in the meantime: nobody else would wait for the thread.
            let _ = closer.join();
        }
    }
}

impl<C> Attempt<C> {
    fn new(generation: u64) -> Self {
        let state = AttemptState { waiting: 0, outcome: None, generation };
        Attempt { state: Mutex::new(state), done: Condvar::new() }
    }

    /// The outcome, for one who has been counted among the waiting.
    fn wait(&self) -> Result<(Arc<C>, u64), PoolError> {
        let mut state = lock(&self.state);
        loop {
            let generation = state.generation;
            match &mut state.outcome {
                Some(Err(error)) => return Err(error.clone()),
                // There is one for everybody who waits.
                Some(Ok(clients)) => {
                    if let Some(client) = clients.pop() {
                        return Ok((client, generation));
                    }
                }
                None => {}
            }
            state = self.done.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// The right to use a client until this is released or dropped. A clone is a lease more on the same client.
pub struct Lease<C: Send + Sync + 'static> {
    /// Taken when the lease goes.
    client: Option<Arc<C>>,
    endpoint: Endpoint,
    generation: u64,
    shared: Arc<Shared<C>>,
}

impl<C: Send + Sync + 'static> Lease<C> {
    /// The endpoint that the client is connected to.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// The number of the connection: no two clients of a pool have the same.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Gives the lease back. The last one closes the client here and now, and waits for that.
    ///
    /// # Errors
    /// [`PoolError::Close`], if this was the last lease; the client is gone all the same.
    pub fn release(mut self) -> Result<(), PoolError> {
        match self.client.take().and_then(Arc::into_inner) {
            Some(client) => self.shared.close(&self.endpoint, self.generation, client),
            None => Ok(()),
        }
    }

    /// Gives the lease back without blocking. The last one closes the client on a thread of the pool; await that, or wait
    /// for it on a thread. What [`release`](Self::release) fails with is inside [`Failure::Failed`].
    pub fn release_async(mut self) -> Completion<(), PoolError> {
        let (completion, sink) = Completion::new();
        self.let_go(move |closed| sink.publish(closed.map_err(Failure::Failed)));
        completion
    }

    /// Lets go of the client and says, perhaps later and on another thread, how closing it went.
    fn let_go(&mut self, tell: impl FnOnce(Result<(), PoolError>) + Send + 'static) {
        match self.client.take().and_then(Arc::into_inner) {
            Some(_) if mutants::on("pool_drop_does_not_close") => {}
            Some(client) => {
                self.shared.close_in_background(self.endpoint.clone(), self.generation, client, tell)
            }
            None => tell(Ok(())),
        }
    }
}

impl<C: Send + Sync + 'static> Drop for Lease<C> {
    fn drop(&mut self) {
        let endpoint = self.endpoint.clone();
        self.let_go(move |closed| {
            if let Err(error) = closed {
                tracing::error!(%endpoint, %error, "nobody uses this client any more, but it did not close well");
            }
        });
    }
}

impl<C: Send + Sync + 'static> Clone for Lease<C> {
    fn clone(&self) -> Self {
        let client = self.client.clone();
        let (endpoint, shared) = (self.endpoint.clone(), Arc::clone(&self.shared));
        Lease { client, endpoint, generation: self.generation, shared }
    }
}

impl<C: Send + Sync + 'static> Deref for Lease<C> {
    type Target = C;

    fn deref(&self) -> &C {
        match &self.client {
            Some(client) => client,
            None => unreachable!("only a lease that is going has no client"),
        }
    }
}

impl<C: Send + Sync + 'static> fmt::Debug for Lease<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Lease({}, generation {})", self.endpoint, self.generation)
    }
}

/// A step of the caller's; its panic is an error like any other.
fn guarded<T>(step: impl FnOnce() -> Result<T, BoxError>) -> Result<T, BoxError> {
    catch_unwind(AssertUnwindSafe(step)).unwrap_or_else(|panic| Err(message(&*panic).to_string().into()))
}
