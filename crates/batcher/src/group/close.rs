//! What the close of a group tells, and how to wait for it.

use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use super::{GroupCloseError, GroupNotConfirmed, inner::Inner};
use crate::{
    CloseReport, Closing, mutants,
    sync::{block_until, register},
};

/// What a group did, told once it is closed; the same for everyone who asks.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct GroupReport {
    /// The nodes, in the order in which their closes began.
    pub nodes: Vec<NodeReport>,
    /// What became of the hooks, in their order.
    pub hooks: Vec<Closing>,
    /// From the begin of the close to the end of the last hook.
    pub wall_time: Duration,
}

impl GroupReport {
    /// The report of the node of this name.
    pub fn node(&self, name: &str) -> Option<&CloseReport> {
        self.nodes.iter().find(|node| node.name == name).map(|node| &node.report)
    }
}

/// What a batcher of a group did.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct NodeReport {
    /// The node's name.
    pub name: String,
    /// What its batcher reports.
    pub report: CloseReport,
}

/// The close of a group under way. Await it, or wait for it on a thread; dropping it changes nothing: the drain continues.
#[derive(Clone)]
pub struct GroupDraining {
    inner: Arc<Inner>,
}

impl GroupDraining {
    pub(super) fn new(inner: Arc<Inner>) -> Self {
        Self { inner }
    }

    /// The group's name.
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// The report, if the group is closed and its hooks have run.
    pub fn report(&self) -> Option<Arc<GroupReport>> {
        let report = self.inner.progress().report.clone()?;
        self.inner.join_threads();
        Some(report)
    }

    /// Blocks until the group is closed, whatever the budgets of its nodes.
    ///
    /// # Errors
    /// [`GroupCloseError::WouldDeadlock`] inside a batch function of the group.
    pub fn wait(&self) -> Result<Arc<GroupReport>, GroupCloseError> {
        self.wait_until(None, |_| (Some(Duration::MAX), usize::MAX))
    }

    /// Blocks until the group is closed, but not longer than this, and not after every node that could still drain has
    /// used up its budget.
    ///
    /// # Errors
    /// [`GroupCloseError::NotConfirmed`] when the time is up: the drain continues and its outcome is not known yet.
    /// [`GroupCloseError::WouldDeadlock`] inside a batch function of the group.
    pub fn wait_timeout(&self, timeout: Duration) -> Result<Arc<GroupReport>, GroupCloseError> {
        self.wait_until(Some(self.inner.clock.now().saturating_add(timeout)), Inner::patience)
    }

    fn wait_until(
        &self,
        until: Option<Duration>,
        patience: impl Fn(&Inner) -> (Option<Duration>, usize),
    ) -> Result<Arc<GroupReport>, GroupCloseError> {
        self.inner.check_caller()?;
        let clock = &*self.inner.clock;
        loop {
            let (patience, begun) = patience(&self.inner);
            let wait_until = match (patience, until) {
                (Some(Duration::MAX), until) => until,
                (Some(at), until) => Some(at.min(until.unwrap_or(at))),
                (None, _) => Some(Duration::ZERO),
            };
            let waited = block_until(clock, wait_until, |cx| match self.poll_report(cx) {
                Poll::Pending
                    if self.inner.progress().begun() > begun
                        && !mutants::on("group_sleeps_through_begins") =>
                {
                    Poll::Ready(None)
                }
                report => report.map(Some),
            });
            if let Some(Some(report)) = waited {
                return Ok(report);
            }
            if patience.is_none() && waited.is_none() || until.is_some_and(|until| clock.now() >= until) {
                return Err(GroupCloseError::NotConfirmed(self.not_confirmed()));
            }
        }
    }

    pub(crate) fn not_confirmed(&self) -> GroupNotConfirmed {
        if mutants::on("group_hooks_die_with_deadline") {
            self.inner.forget_hooks();
        }
        GroupNotConfirmed { nodes: self.inner.states(), handle: self.clone() }
    }

    fn poll_report(&self, cx: &mut Context<'_>) -> Poll<Arc<GroupReport>> {
        let mut progress = self.inner.progress();
        let Some(report) = progress.report.clone() else {
            register(&mut progress.wakers, cx.waker());
            return Poll::Pending;
        };
        drop(progress);
        self.inner.join_threads();
        Poll::Ready(report)
    }
}

impl Future for GroupDraining {
    /// As [`GroupDraining::wait`].
    type Output = Result<Arc<GroupReport>, GroupCloseError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.inner.check_caller()?;
        self.poll_report(cx).map(Ok)
    }
}

impl fmt::Debug for GroupDraining {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GroupDraining").field("group", &self.name()).finish_non_exhaustive()
    }
}
