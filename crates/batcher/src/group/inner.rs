//! The close of a group: who has begun, who is closed, and whose turn it is.
//!
//! One lock guards the progress. It is taken before the locks of the batchers' queues, and never while a batcher's own state
//! is locked.

use std::{any::Any, sync::Arc, task::Waker, thread::JoinHandle, time::Duration};

use super::{GroupCloseError, GroupReport, NodeReport, NodeState, Rank, builder::Hook};
use crate::{
    Clock, CloseReport, Closing, Draining, ShutdownPlan, mutants,
    node::{self, Node},
    sync::{Mutex, MutexGuard, atomic::Ordering, lock},
    threads::spawn_or_run,
};

/// A batcher as a part of its group.
pub(super) struct Part {
    pub(super) name: String,
    pub(super) node: Arc<dyn Node>,
    /// The batcher, which would close on its own account when dropped.
    pub(super) _keep: Box<dyn Any + Send + Sync>,
    pub(super) producers: Vec<usize>,
    /// Some producer may wait for its results.
    pub(super) awaited: bool,
    pub(super) rank: Rank,
    pub(super) budget: Option<Duration>,
}

pub(super) struct Inner {
    pub(super) name: String,
    pub(super) clock: Arc<dyn Clock>,
    parts: Vec<Part>,
    progress: Mutex<Progress>,
    /// Runs the hooks; to be joined by whoever sees the end.
    hooks_thread: Mutex<Option<JoinHandle<()>>>,
    /// The hooks, in a chain: whatever outlives its budget stays known here.
    plan: ShutdownPlan,
}

pub(super) struct Progress {
    began_at: Option<Duration>,
    nodes: Vec<NodeProgress>,
    /// The nodes in the order in which their closes began.
    order: Vec<usize>,
    hooks: Option<Vec<Hook>>,
    pub(super) report: Option<Arc<GroupReport>>,
    pub(super) wakers: Vec<Waker>,
}

#[derive(Clone, Default)]
struct NodeProgress {
    began_at: Option<Duration>,
    report: Option<CloseReport>,
}

impl Inner {
    pub(super) fn start(
        name: String,
        clock: Arc<dyn Clock>,
        parts: Vec<Part>,
        hooks: Vec<Hook>,
    ) -> Arc<Self> {
        let progress = Progress {
            began_at: None,
            nodes: vec![NodeProgress::default(); parts.len()],
            order: Vec::new(),
            hooks: Some(hooks),
            report: None,
            wakers: Vec::new(),
        };
        let inner = Arc::new(Self {
            name,
            clock,
            parts,
            progress: Mutex::new(progress),
            hooks_thread: Mutex::new(None),
            plan: ShutdownPlan::new(),
        });
        for (index, part) in inner.parts.iter().enumerate() {
            let _ = part.node.shared().group.set(inner.id());
            let group = Arc::clone(&inner);
            part.node.on_closed(Box::new(move |report| group.closed(index, report)));
        }
        inner
    }

    /// The identity of this group among those of the process.
    fn id(&self) -> usize {
        std::ptr::from_ref(self).addr()
    }

    /// A batch function of the group, or a tracked child of one, cannot wait for the group's end.
    pub(super) fn check_caller(&self) -> Result<(), GroupCloseError> {
        let is_inside = node::current().is_some_and(|current| current.group == Some(self.id()));
        if is_inside && !mutants::on("close_waits_for_itself") {
            return Err(GroupCloseError::WouldDeadlock { group: self.name.clone() });
        }
        Ok(())
    }

    pub(super) fn has(&self, batcher: usize) -> bool {
        self.parts.iter().any(|part| part.node.shared().id() == batcher)
    }

    pub(super) fn queued(&self) -> u64 {
        self.parts.iter().map(|part| part.node.queued()).sum()
    }

    pub(super) fn progress(&self) -> MutexGuard<'_, Progress> {
        lock(&self.progress)
    }

    /// Begins the close; false if it had begun before.
    pub(super) fn begin_close(self: &Arc<Self>) -> bool {
        let mut progress = self.progress();
        if progress.began_at.is_some() {
            if mutants::on("group_second_close_is_blind") {
                progress.report.get_or_insert_default();
            }
            return false;
        }
        progress.began_at = Some(self.clock.now());
        if !mutants::on("group_leaves_doors_open") {
            self.parts.iter().for_each(|part| part.node.seal_external());
        }
        if !mutants::on("group_lets_awaited_dawdle") {
            self.parts.iter().filter(|part| part.awaited).for_each(|part| part.node.set_eager());
        }
        self.advance(progress);
        true
    }

    /// A batcher is closed, its tracked children included. Called on its last thread.
    fn closed(self: &Arc<Self>, index: usize, report: &CloseReport) {
        let mut progress = self.progress();
        if let Some(node) = progress.nodes.get_mut(index) {
            node.report = Some(report.clone());
        }
        self.advance(progress);
    }

    /// Begins the close of all whose turn it is; after the last one, runs the hooks.
    fn advance(self: &Arc<Self>, mut progress: MutexGuard<'_, Progress>) {
        let mut ready: Vec<_> =
            self.parts.iter().enumerate().filter(|(index, _)| progress.is_ready(*index, self)).collect();
        if !mutants::on("group_ignores_ranks") {
            ready.sort_by_key(|(_, part)| part.rank);
        }
        for (index, part) in ready {
            progress.begin(index, self.clock.now());
            // Whoever waits for the end of the group waits for this one too.
            drop(Arc::clone(&part.node).begin_close());
        }
        // Their budgets start: whoever waits may have to look at them earlier.
        let wakers = std::mem::take(&mut progress.wakers);
        let all_closed = progress.nodes.iter().all(|node| node.report.is_some());
        let hooks = progress.hooks.take_if(|_| all_closed);
        drop(progress);
        wakers.into_iter().for_each(Waker::wake);
        let Some(hooks) = hooks else { return };
        if hooks.is_empty() {
            return self.finish(Vec::new());
        }
        let group = Arc::clone(self);
        let mut thread = lock(&self.hooks_thread);
        *thread = spawn_or_run(format!("{}-hooks", self.name), move || group.run_hooks(hooks));
    }

    /// The hooks one after the other, each with its own budget: a chain of stores, in the words of a shutdown plan.
    fn run_hooks(self: &Arc<Self>, hooks: Vec<Hook>) {
        let mut before = Vec::new();
        for Hook { name, mut budget, run } in hooks {
            if mutants::on("group_hooks_get_what_is_left") {
                let began_at = self.progress().began_at.unwrap_or_default();
                budget = budget.saturating_sub(self.clock.now().saturating_sub(began_at));
            }
            if let Err(error) =
                self.plan.add(&name, budget, &before.iter().map(String::as_str).collect::<Vec<_>>(), run)
            {
                tracing::error!(group = self.name, %error, "a hook does not run");
            }
            before = if mutants::on("group_hooks_all_at_once") { Vec::new() } else { vec![name] };
        }
        self.finish(self.plan.run().stores.clone());
    }

    /// Tells everybody that nothing is left to do.
    fn finish(&self, hooks: Vec<Closing>) {
        let mut progress = self.progress();
        let nodes = progress.order.iter().filter_map(|&index| {
            let report = progress.nodes.get(index)?.report.clone()?;
            Some(NodeReport { name: self.parts.get(index)?.name.clone(), report })
        });
        let wall_time = self.clock.now().saturating_sub(progress.began_at.unwrap_or_default());
        let report = GroupReport { nodes: nodes.collect(), hooks, wall_time };
        progress.report = Some(Arc::new(report));
        let wakers = std::mem::take(&mut progress.wakers);
        drop(progress);
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Joins the threads of a closed group: they have nothing left to do but to return.
    pub(super) fn join_threads(&self) {
        let me = std::thread::current().id();
        for part in &self.parts {
            // Whoever sees a batcher's report joins its threads.
            let _ = Draining::new(Arc::clone(&part.node)).report();
        }
        let thread = lock(&self.hooks_thread).take_if(|thread| thread.thread().id() != me);
        if let Some(thread) = thread {
            let _ = thread.join();
        }
    }

    pub(super) fn forget_hooks(&self) {
        self.progress().hooks = Some(Vec::new());
    }

    /// How far every node has come, in the order of declaration.
    pub(super) fn states(&self) -> Vec<(String, NodeState)> {
        let progress = self.progress();
        self.parts
            .iter()
            .zip(&progress.nodes)
            .map(|(part, node)| (part.name.clone(), self.state(part, node, &progress)))
            .collect()
    }

    fn state(&self, part: &Part, node: &NodeProgress, progress: &Progress) -> NodeState {
        match node {
            NodeProgress { report: Some(report), .. } => NodeState::Drained(report.clone()),
            NodeProgress { began_at: Some(_), .. } => NodeState::NotConfirmed {
                queued: part.node.queued(),
                in_flight: part.node.in_flight(),
                children: part.node.shared().children.load(Ordering::SeqCst),
            },
            _ => {
                let open = part.producers.iter().filter(|&&producer| !progress.is_closed(producer));
                let names = open.filter_map(|&producer| Some(self.parts.get(producer)?.name.clone()));
                NodeState::NotStarted { waiting_for: names.collect() }
            }
        }
    }

    /// Until when it makes sense to wait: `None` if whatever could still drain has used up its budget. And what is known
    /// by that: it holds until [`Progress::begun`] is another number.
    pub(super) fn patience(&self) -> (Option<Duration>, usize) {
        let progress = self.progress();
        let now = self.clock.now();
        let mut until = None;
        let mut all_closed = true;
        for (part, node) in self.parts.iter().zip(&progress.nodes) {
            all_closed &= node.report.is_some();
            if let NodeProgress { began_at: Some(began_at), report: None } = node {
                let budget = part.budget.filter(|_| !mutants::on("group_ignores_budgets"));
                let end = budget.map_or(Duration::MAX, |budget| began_at.saturating_add(budget));
                if end > now {
                    until = Some(until.map_or(end, |until: Duration| until.min(end)));
                }
            }
        }
        // Then only hooks are left, whose budgets the plan looks after.
        (if all_closed { Some(Duration::MAX) } else { until }, progress.begun())
    }
}

impl Progress {
    /// How many nodes have begun to close.
    pub(super) fn begun(&self) -> usize {
        self.order.len()
    }

    fn is_closed(&self, index: usize) -> bool {
        self.nodes.get(index).is_some_and(|node| node.report.is_some())
    }

    /// Whether a node's close may begin and has not: all its producers are closed.
    fn is_ready(&self, index: usize, inner: &Inner) -> bool {
        let Some((part, node)) = inner.parts.get(index).zip(self.nodes.get(index)) else { return false };
        let upstream_closed = part.producers.iter().all(|&producer| self.is_closed(producer));
        node.began_at.is_none() && (upstream_closed || mutants::on("group_closes_all_at_once"))
    }

    fn begin(&mut self, index: usize, now: Duration) {
        if let Some(node) = self.nodes.get_mut(index) {
            node.began_at = Some(now);
            self.order.push(index);
        }
    }
}
