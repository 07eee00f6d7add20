//! Nodes, edges and hooks, declared first, checked together, started last.

use std::{
    any::Any,
    collections::HashSet,
    sync::{Arc, OnceLock},
    time::Duration,
};

use super::{
    EdgeHandle, EdgeKind, Group, GroupError,
    edge::waits,
    graph::Graph,
    inner::{Inner, Part},
};
use crate::{
    Batch, BatchCtx, Batcher, BoxError, BuildError, Builder, Clock, SharedSlots, SystemClock, mutants,
    node::Node as Core, shutdown::CloseFn,
};

/// What goes first where no edge gives an order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Rank {
    /// Writes what must not be lost; among these, those declared first go first.
    #[default]
    Durable,
    /// Writes what can be made again.
    Metadata,
    /// Only reads.
    Read,
}

/// A node's part in the close of its group. A plain name makes a durable one that may take all the time there is.
#[derive(Clone, Debug)]
#[must_use]
pub struct NodeSpec {
    name: String,
    rank: Rank,
    budget: Option<Duration>,
}

impl NodeSpec {
    /// A node of this name.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), rank: Rank::default(), budget: None }
    }

    /// What it does, for the order of close.
    pub fn rank(mut self, rank: Rank) -> Self {
        self.rank = rank;
        self
    }

    /// How long a close waits for this node, from when its turn has come. Nodes that it feeds do not start earlier for that.
    pub fn budget(mut self, budget: Duration) -> Self {
        self.budget = Some(budget);
        self
    }
}

impl From<&str> for NodeSpec {
    fn from(name: &str) -> Self {
        Self::new(name)
    }
}

/// A declared node: the end of edges, and after [`GroupBuilder::build`] the key to its [`Member`](super::Member).
pub struct Node<T: Send + 'static, R: Send + 'static, E: Send + 'static> {
    pub(super) name: String,
    pub(super) batcher: Arc<OnceLock<Arc<Batcher<T, R, E>>>>,
}

impl<T: Send, R: Send, E: Send> std::fmt::Debug for Node<T, R, E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Node({})", self.name)
    }
}

/// Starts a batcher; gives it back as a group sees it, and as what must live until it is closed.
type Start = Box<dyn FnOnce() -> Result<(Arc<dyn Core>, Box<dyn Any + Send + Sync>), BuildError>>;

struct Declared {
    spec: NodeSpec,
    slots: Option<SharedSlots>,
    /// The address of the cell its batcher will be in: what edges know the node by.
    key: usize,
    start: Start,
}

struct Edge {
    producer: String,
    consumer: String,
    /// The consumer's key.
    key: usize,
    waits: bool,
    /// Told the producer's identity once all batchers run.
    bind: Box<dyn FnOnce(usize)>,
}

/// A clean-up to run when the batchers are closed.
pub(super) struct Hook {
    pub(super) name: String,
    pub(super) budget: Duration,
    pub(super) run: CloseFn,
}

/// Declares a [`Group`]. Consumers come before the producers whose batch functions capture their edges:
///
/// ```
/// # use icecore_batcher::{Batch, BatchCtx, Batcher, Enqueue, GroupBuilder};
/// let mut group = GroupBuilder::new("g");
/// let log = group.node("log", Batcher::builder(), |batch: Batch<String>, _: &BatchCtx| {
///     batch.finish_each(|_line| Ok(()));
/// });
/// let to_log = group.edge("store", &log, Enqueue);
/// group.node("store", Batcher::builder(), move |batch: Batch<u32>, ctx: &BatchCtx| {
///     if let Ok(log) = ctx.downstream(&to_log) {
///         let _ = log.submit(format!("{} items", batch.len()));
///     }
///     batch.finish_each(|_| Ok(()));
/// });
/// # group.build().unwrap().close(std::time::Duration::from_secs(9)).unwrap();
/// ```
#[must_use]
pub struct GroupBuilder {
    name: String,
    clock: Arc<dyn Clock>,
    nodes: Vec<Declared>,
    edges: Vec<Edge>,
    hooks: Vec<Hook>,
}

impl GroupBuilder {
    /// A group without nodes.
    pub fn new(name: impl Into<String>) -> Self {
        let clock = Arc::new(SystemClock::new());
        Self { name: name.into(), clock, nodes: Vec::new(), edges: Vec::new(), hooks: Vec::new() }
    }

    /// The clock of deadlines and budgets of a close.
    pub fn clock(&mut self, clock: impl Clock) {
        self.clock = Arc::new(clock);
    }

    /// Declares a batcher with its options and batch function. The node's name becomes the batcher's; what the options say
    /// of a drop is not looked at: the group always drains.
    pub fn node<T, R, E, F>(
        &mut self,
        spec: impl Into<NodeSpec>,
        options: Builder<T, R, E>,
        function: F,
    ) -> Node<T, R, E>
    where
        T: Send + 'static,
        R: Send + 'static,
        E: Send + 'static,
        F: Fn(Batch<T, R, E>, &BatchCtx) + Send + Sync + 'static,
    {
        self.declare(spec.into(), options, |options| options.start(function))
    }

    /// Declares a batcher with its options and async batch function.
    pub fn node_async<T, R, E, F, Fut>(
        &mut self,
        spec: impl Into<NodeSpec>,
        options: Builder<T, R, E>,
        function: F,
    ) -> Node<T, R, E>
    where
        T: Send + 'static,
        R: Send + 'static,
        E: Send + 'static,
        F: Fn(Batch<T, R, E>, BatchCtx) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        self.declare(spec.into(), options, |options| options.start_async(function))
    }

    fn declare<T: Send + 'static, R: Send + 'static, E: Send + 'static>(
        &mut self,
        spec: NodeSpec,
        options: Builder<T, R, E>,
        start: impl FnOnce(Builder<T, R, E>) -> Result<Batcher<T, R, E>, BuildError> + 'static,
    ) -> Node<T, R, E> {
        let node = Node { name: spec.name.clone(), batcher: Arc::default() };
        let (cell, options) = (Arc::clone(&node.batcher), options.name(&*spec.name));
        let slots = options.slots.clone();
        let start = move || {
            let batcher = Arc::new(start(options)?);
            // A builder starts each node once.
            let _ = cell.set(Arc::clone(&batcher));
            Ok((batcher.node(), Box::new(batcher) as _))
        };
        self.nodes.push(Declared { spec, slots, key: node.key(), start: Box::new(start) });
        node
    }

    /// Declares that the batch function of `producer` submits to `consumer`, and whether it waits for results. The handle
    /// is for that function to capture.
    pub fn edge<T: Send + 'static, R: Send + 'static, E: Send + 'static, K: EdgeKind>(
        &mut self,
        producer: &str,
        consumer: &Node<T, R, E>,
        _kind: K,
    ) -> EdgeHandle<T, R, E, K> {
        let edge = EdgeHandle::new(producer, &consumer.name);
        let (bound, cell) = (edge.clone(), Arc::clone(&consumer.batcher));
        let bind = move |producer| {
            if let Some(batcher) = cell.get() {
                bound.bind(producer, batcher.internal());
            }
        };
        let (producer, key) = (producer.to_owned(), consumer.key());
        let (consumer, waits) = (consumer.name.clone(), waits::<K>());
        self.edges.push(Edge { producer, consumer, key, waits, bind: Box::new(bind) });
        edge
    }

    /// Runs `hook` once, when the last batcher is closed, even if nobody waits any more by then; after the hooks declared
    /// before it, or after their budgets. It is given its own budget, fresh, and should return by then; one that does
    /// not is reported as not confirmed, and its thread is left to it.
    pub fn on_drained<E: Into<BoxError>>(
        &mut self,
        name: &str,
        budget: Duration,
        hook: impl FnOnce(Duration) -> Result<(), E> + Send + 'static,
    ) {
        let run = Box::new(move |budget| hook(budget).map_err(Into::into));
        self.hooks.push(Hook { name: name.into(), budget, run });
    }

    /// Checks everything that was declared and starts the batchers.
    ///
    /// # Errors
    /// [`GroupError`]; then nothing runs.
    pub fn build(self) -> Result<Group, GroupError> {
        let edges = self.check()?;
        let Self { name, clock, nodes, edges: declared, hooks } = self;
        let mut parts = Vec::with_capacity(nodes.len());
        for (index, Declared { spec, start, .. }) in nodes.into_iter().enumerate() {
            let (node, keep) = start().inspect_err(|_| close_all(&parts))?;
            let producers = edges.iter().filter(|edge| edge.1 == index).map(|edge| edge.0).collect();
            let awaited = edges.iter().any(|&(_, consumer, waits)| consumer == index && waits);
            let NodeSpec { name, rank, budget } = spec;
            parts.push(Part { name, node, _keep: keep, producers, awaited, rank, budget });
        }
        for (edge, &(producer, _, _)) in declared.into_iter().zip(&edges) {
            if let Some(producer) = parts.get(producer) {
                (edge.bind)(producer.node.shared().id());
            }
        }
        Ok(Group { inner: Inner::start(name, clock, parts, hooks) })
    }

    /// The edges by the numbers of their nodes, if nothing speaks against them.
    fn check(&self) -> Result<Vec<(usize, usize, bool)>, GroupError> {
        let group = || self.name.clone();
        let names = self.nodes.iter().map(|node| &node.spec.name);
        for names in [names.collect::<Vec<_>>(), self.hooks.iter().map(|hook| &hook.name).collect()] {
            let mut seen = HashSet::new();
            if let Some(name) = names.into_iter().find(|name| !seen.insert(*name))
                && !mutants::on("group_takes_duplicates")
            {
                return Err(GroupError::Duplicate { group: group(), name: name.clone() });
            }
        }
        let edges = self.edges.iter().map(|edge| self.resolve(edge)).collect::<Result<Vec<_>, _>>()?;
        if let Some(&(node, _, _)) = edges.iter().find(|edge| edge.0 == edge.1)
            && !mutants::on("group_takes_self_edges")
        {
            return Err(GroupError::SelfEdge { group: group(), node: self.name_of(node) });
        }
        let ends: Vec<_> =
            edges.iter().map(|edge| (edge.0, edge.1)).filter(|ends| ends.0 != ends.1).collect();
        let graph = Graph::new(self.nodes.len(), &ends);
        let path = |nodes: Vec<usize>| nodes.into_iter().map(|node| self.name_of(node)).collect();
        if let Some(cycle) = graph.cycle()
            && !mutants::on("group_takes_cycles")
        {
            return Err(GroupError::Cycle { group: group(), path: path(cycle) });
        }
        match self.slots_on_a_path(&graph) {
            Some(nodes) if !mutants::on("group_takes_shared_slots") => {
                Err(GroupError::SharedSlots { group: group(), path: path(nodes) })
            }
            _ => Ok(edges),
        }
    }

    fn resolve(&self, edge: &Edge) -> Result<(usize, usize, bool), GroupError> {
        let producer = self.nodes.iter().position(|node| node.spec.name == edge.producer);
        let consumer = self.nodes.iter().position(|node| node.key == edge.key);
        match (producer, consumer) {
            (Some(producer), Some(consumer)) => Ok((producer, consumer, edge.waits)),
            _ => Err(GroupError::UnknownEndpoint {
                group: self.name.clone(),
                producer: edge.producer.clone(),
                consumer: edge.consumer.clone(),
            }),
        }
    }

    /// A path between nodes that share slots. Whatever the kind of its edges: where a consumer gets no slot its queue fills,
    /// and then everybody who submits to it waits.
    fn slots_on_a_path(&self, graph: &Graph) -> Option<Vec<usize>> {
        let share = |a: &Declared, b: &Declared| a.slots.is_some() && a.slots == b.slots;
        let pairs = self.nodes.iter().enumerate().flat_map(|(a, producer)| {
            let sharing =
                self.nodes.iter().enumerate().filter(move |(b, node)| a != *b && share(producer, node));
            sharing.map(move |(b, _)| (a, b))
        });
        pairs.into_iter().find_map(|(a, b)| graph.path(a, b))
    }

    fn name_of(&self, node: usize) -> String {
        self.nodes.get(node).map(|node| node.spec.name.clone()).unwrap_or_default()
    }
}

/// Closes batchers that nobody has submitted to.
fn close_all(parts: &[Part]) {
    for part in parts {
        // It has nothing to do, and this is not its own thread.
        let _ = Arc::clone(&part.node).begin_close().wait();
    }
}

impl<T: Send, R: Send, E: Send> Node<T, R, E> {
    fn key(&self) -> usize {
        Arc::as_ptr(&self.batcher).addr()
    }
}

impl std::fmt::Debug for GroupBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let nodes: Vec<_> = self.nodes.iter().map(|node| &node.spec.name).collect();
        f.debug_struct("GroupBuilder")
            .field("name", &self.name)
            .field("nodes", &nodes)
            .finish_non_exhaustive()
    }
}
