//! The durable steps that are the engine's own: those of hot chunks' directories and databases. A faulty disk sees each as
//! `before NAME` and `after NAME`; all others are the catalog's, or the disk's own operations.

use icecore_catalog::Step;

/// All of them, with what is found when the process ended right after it.
pub const STEPS: &[Step] = &[
    Step {
        name: OPEN,
        what: "open a hot chunk that is ready",
        next_start: "the same chunk, whole up to its last acknowledged ledger",
    },
    Step {
        name: CREATE,
        what: "make a hot chunk's directory and database, under a transient key",
        next_start: "a directory in any shape under a transient key: removed, and made again",
    },
    Step {
        name: COMMIT,
        what: "commit a ledger to the hot chunk, one synced batch",
        next_start: "that ledger whole, acknowledged or not: ingestion goes on after it",
    },
    Step {
        name: REMOVE,
        what: "remove a hot chunk's directory, under a transient key",
        next_start: "part of a directory, or none, under a transient key: removed, then the key",
    },
];

pub(crate) const OPEN: &str = "hot open";
pub(crate) const CREATE: &str = "hot create";
pub(crate) const COMMIT: &str = "hot commit";
pub(crate) const REMOVE: &str = "hot remove";
