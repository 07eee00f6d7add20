//! The one way from a batch function to another batcher of its group.

use std::{
    fmt,
    sync::{Arc, OnceLock},
};

use super::UndeclaredEdge;
use crate::{BatchCtx, Inlet, SubmitError, mutants};

/// What a producer may do over an edge: [`Enqueue`] or [`EnqueueAndWait`].
pub trait EdgeKind: sealed::Sealed {
    /// What the producer's batch function holds.
    type Way<T: Send + 'static, R: Send + 'static, E: Send + 'static>: Send + Sync + 'static;
}

mod sealed {
    use crate::Inlet;

    pub trait Sealed: Copy + Send + Sync + 'static {
        /// Whether the producer may wait for results.
        const WAITS: bool;

        fn way<T: Send + 'static, R: Send + 'static, E: Send + 'static>(
            inlet: Inlet<T, R, E>,
        ) -> <Self as super::EdgeKind>::Way<T, R, E>
        where
            Self: super::EdgeKind;
    }
}

/// The producer hands items over and sees no results.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Enqueue;

/// The producer's batch function may wait for results: as long as the consumer's size and timeout make it, except on
/// close, when the consumer fires without waiting for company.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EnqueueAndWait;

impl EdgeKind for Enqueue {
    type Way<T: Send + 'static, R: Send + 'static, E: Send + 'static> = Outlet<T, R, E>;
}

impl sealed::Sealed for Enqueue {
    const WAITS: bool = false;

    fn way<T: Send + 'static, R: Send + 'static, E: Send + 'static>(
        inlet: Inlet<T, R, E>,
    ) -> Outlet<T, R, E> {
        Outlet { inlet }
    }
}

impl EdgeKind for EnqueueAndWait {
    type Way<T: Send + 'static, R: Send + 'static, E: Send + 'static> = Inlet<T, R, E>;
}

impl sealed::Sealed for EnqueueAndWait {
    const WAITS: bool = true;

    fn way<T: Send + 'static, R: Send + 'static, E: Send + 'static>(inlet: Inlet<T, R, E>) -> Inlet<T, R, E> {
        inlet
    }
}

/// Whether edges of a kind let the producer wait.
pub(super) fn waits<K: EdgeKind>() -> bool {
    <K as sealed::Sealed>::WAITS
}

/// A way into a consumer that gives no results back.
pub struct Outlet<T, R, E> {
    inlet: Inlet<T, R, E>,
}

impl<T: Send + 'static, R: Send + 'static, E: Send + 'static> Outlet<T, R, E> {
    /// Submits an item, waiting for room.
    ///
    /// # Errors
    /// The item was not accepted, see [`SubmitError`].
    pub fn submit(&self, item: T) -> Result<(), SubmitError<T>> {
        self.inlet.submit_detached(item)
    }

    /// Submits an item if there is room.
    ///
    /// # Errors
    /// The item was not accepted, see [`SubmitError`].
    pub fn try_submit(&self, item: T) -> Result<(), SubmitError<T>> {
        self.inlet.try_submit_detached(item)
    }

    /// Submits an item, awaiting room.
    ///
    /// # Errors
    /// The item was not accepted, see [`SubmitError`].
    pub async fn submit_async(&self, item: T) -> Result<(), SubmitError<T>> {
        self.inlet.submit_detached_async(item).await
    }

    /// Submits a group as a whole, waiting until there is any room.
    ///
    /// # Errors
    /// The group was not accepted, see [`SubmitError`].
    pub fn submit_many(&self, items: Vec<T>) -> Result<(), SubmitError<Vec<T>>> {
        self.inlet.submit_many(items).map(drop)
    }
}

impl<T, R, E> Clone for Outlet<T, R, E> {
    fn clone(&self) -> Self {
        Self { inlet: self.inlet.clone() }
    }
}

impl<T, R, E> fmt::Debug for Outlet<T, R, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outlet").finish_non_exhaustive()
    }
}

/// A declared edge, for the producer's batch function to capture; see [`BatchCtx::downstream`].
pub struct EdgeHandle<T: Send + 'static, R: Send + 'static, E: Send + 'static, K: EdgeKind> {
    ends: Arc<(String, String)>,
    bound: Cell<K::Way<T, R, E>>,
}

/// Filled when the group is built.
type Cell<W> = Arc<OnceLock<Bound<W>>>;

/// What is known by then.
struct Bound<W> {
    producer: usize,
    way: W,
}

impl<T: Send + 'static, R: Send + 'static, E: Send + 'static, K: EdgeKind> EdgeHandle<T, R, E, K> {
    pub(super) fn new(producer: &str, consumer: &str) -> Self {
        Self { ends: Arc::new((producer.into(), consumer.into())), bound: Arc::default() }
    }

    /// Lets the batcher of this identity use the edge.
    pub(super) fn bind(&self, producer: usize, consumer: Inlet<T, R, E>) {
        let way = <K as sealed::Sealed>::way(consumer);
        // A builder binds each edge once.
        let _ = self.bound.set(Bound { producer, way });
    }
}

impl<T: Send + 'static, R: Send + 'static, E: Send + 'static, K: EdgeKind> Clone for EdgeHandle<T, R, E, K> {
    fn clone(&self) -> Self {
        Self { ends: Arc::clone(&self.ends), bound: Arc::clone(&self.bound) }
    }
}

impl<T: Send + 'static, R: Send + 'static, E: Send + 'static, K: EdgeKind> fmt::Debug
    for EdgeHandle<T, R, E, K>
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EdgeHandle({} -> {})", self.ends.0, self.ends.1)
    }
}

impl BatchCtx {
    /// The consumer at the other end of a declared edge: an [`Inlet`] where the producer may wait for results, otherwise
    /// an [`Outlet`]. Open until this batcher is closed, also while the group drains. Tracked children take a clone along.
    ///
    /// # Errors
    /// [`UndeclaredEdge`], where the edge is not one of this batcher's.
    pub fn downstream<'e, T: Send + 'static, R: Send + 'static, E: Send + 'static, K: EdgeKind>(
        &self,
        edge: &'e EdgeHandle<T, R, E, K>,
    ) -> Result<&'e K::Way<T, R, E>, UndeclaredEdge> {
        let me = self.shared().id();
        match edge.bound.get() {
            Some(bound) if bound.producer == me || mutants::on("group_edges_for_anyone") => Ok(&bound.way),
            _ => Err(UndeclaredEdge {
                batcher: self.name().into(),
                producer: edge.ends.0.clone(),
                consumer: edge.ends.1.clone(),
            }),
        }
    }
}
