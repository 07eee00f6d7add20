//! What can go wrong with a group: building, reaching a consumer, closing.

use std::fmt;

use super::GroupDraining;
use crate::{BuildError, CloseReport};

/// Why a group cannot be built.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GroupError {
    /// Two nodes, or two hooks, of one name.
    #[error("group {group}: there are two of the name {name}")]
    Duplicate {
        /// The group's name.
        group: String,
        /// The name.
        name: String,
    },
    /// An edge from or to a node that the group does not have.
    #[error("group {group}: the edge {producer} -> {consumer} has an end that is no node of the group")]
    UnknownEndpoint {
        /// The group's name.
        group: String,
        /// The name of the edge's producer.
        producer: String,
        /// The name of the edge's consumer.
        consumer: String,
    },
    /// An edge from a node to itself: on close, the batcher that would execute the item is the one that stops.
    #[error(
        "group {group}: {node} -> {node}: a node cannot feed itself; do the work in place, or split when submitting"
    )]
    SelfEdge {
        /// The group's name.
        group: String,
        /// The node.
        node: String,
    },
    /// Nodes that feed each other: none of them could close first.
    #[error("group {group}: the edges form a cycle: {}", path.join(" -> "))]
    Cycle {
        /// The group's name.
        group: String,
        /// The nodes on the cycle in the order of its edges, the first one again at the end.
        path: Vec<String>,
    },
    /// A producer and a consumer that share slots: producers could hold all of them while they wait for the consumer,
    /// which needs one.
    #[error(
        "group {group}: {} share slots: the first could hold all of them while it waits for the last",
        path.join(" -> ")
    )]
    SharedSlots {
        /// The group's name.
        group: String,
        /// The nodes from the producer to the consumer.
        path: Vec<String>,
    },
    /// A batcher cannot be built.
    #[error(transparent)]
    Batcher(#[from] BuildError),
}

/// The node belongs to another group.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{node} is not a node of group {group}")]
#[non_exhaustive]
pub struct NotMember {
    /// The name of the group that was asked.
    pub group: String,
    /// The name of the node.
    pub node: String,
}

/// A batch function used an edge that is not its own.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("batcher {batcher}: the edge {producer} -> {consumer} is not its own: declare one from {batcher}")]
#[non_exhaustive]
pub struct UndeclaredEdge {
    /// Whose batch function used the edge.
    pub batcher: String,
    /// Whose edge it is.
    pub producer: String,
    /// Where it leads.
    pub consumer: String,
}

/// Why a wait for the end of a group did not confirm it.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GroupCloseError {
    /// The time is up. The drain continues: this is neither success nor loss, it is not known yet.
    #[error("{0}")]
    NotConfirmed(GroupNotConfirmed),
    /// Called from inside a batch function of the group, which would wait for itself.
    #[error("group {group}: its own batch function cannot wait for it; use begin_close there")]
    WouldDeadlock {
        /// The group's name.
        group: String,
    },
}

/// What was left when the time for a close was up; the drain continues in the same order.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct GroupNotConfirmed {
    /// Every node, in the order in which they were declared.
    pub nodes: Vec<(String, NodeState)>,
    /// Reports the eventual end.
    pub handle: GroupDraining,
}

/// How far a node has come in the close of its group.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NodeState {
    /// Everything accepted was executed and finished.
    Drained(CloseReport),
    /// It is draining.
    NotConfirmed {
        /// Items accepted and not yet given to the batch function.
        queued: u64,
        /// Batches begun and not ended.
        in_flight: usize,
        /// Tracked children that run.
        children: usize,
    },
    /// Its close has not begun.
    NotStarted {
        /// The producers that are not closed.
        waiting_for: Vec<String>,
    },
}

impl fmt::Display for GroupNotConfirmed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "group {}: not drained in time, the drain continues", self.handle.name())?;
        for (node, state) in &self.nodes {
            match state {
                NodeState::Drained(_) => {}
                NodeState::NotConfirmed { queued, in_flight, children } => write!(
                    f,
                    "; {node}: {queued} items queued, {in_flight} batches and {children} children in flight"
                )?,
                NodeState::NotStarted { waiting_for } => {
                    write!(f, "; {node}: waits for {}", waiting_for.join(", "))?;
                }
            }
        }
        Ok(())
    }
}
