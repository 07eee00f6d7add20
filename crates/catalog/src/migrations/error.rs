use std::{fmt, sync::Arc};

use crate::{Error, mutants};

use super::Counts;

/// Everything that migrations can be refused with, told apart by what a caller can do about it.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MigError {
    /// The store is closed, or was never open.
    #[error("{store} is closed: open it, then ask again")]
    StoreClosed {
        /// The store's name: its directory.
        store: String,
    },
    /// The runner was shut down and takes nothing new.
    #[error("migration {name} was not started: the runner is shut down")]
    ShutDown {
        /// The migration.
        name: String,
    },
    /// What cannot be a migration's name.
    #[error("{name:?} cannot name a migration: use 1 to 100 of a-z 0-9 . _ -")]
    BadName {
        /// The name.
        name: String,
    },
    /// A migration's row that does not read as one.
    #[error(
        "the status of migration {name} is damaged: {what}; restore the store from a copy, or delete that row \
         and let the migration run again"
    )]
    BadRow {
        /// The migration.
        name: String,
        /// What is wrong.
        what: String,
    },
    /// A backfill asked for with values that make no sense.
    #[error("backfill refused: {what}")]
    BadSpec {
        /// Which, and what to give.
        what: &'static str,
    },
    /// The run was told to stop, and did. What it committed stays; the next start begins again.
    #[error("cancelled after {counts}")]
    Cancelled {
        /// How far a backfill had come.
        counts: Counts,
    },
    /// Another process has taken the migration over, since this one was not heard of for a whole lease.
    #[error("migration {name} is run by {owner} now: nothing more is written here")]
    LeaseLost {
        /// The migration.
        name: String,
        /// Who runs it, or why nobody does.
        owner: String,
    },
    /// Rows could not be filled, as their owner said one by one.
    #[error("{} rows were skipped, the first is {:?}: {first}", counts.skipped.len(), String::from_utf8_lossy(counts.skipped.first().map_or(&[][..], Vec::as_slice)))]
    Skipped {
        /// The counts, with the keys of the rows.
        counts: Counts,
        /// What was said of the first one.
        first: String,
    },
    /// No thread could be started.
    #[error("migration {name} was not started: no thread: {source}")]
    Thread {
        /// The migration.
        name: String,
        /// What the system says.
        source: Arc<std::io::Error>,
    },
    /// The store refuses.
    #[error("{source}")]
    Store {
        /// What it says.
        source: Arc<dyn std::error::Error + Send + Sync>,
        /// Whether trying again may help with nothing changed but the machine's state.
        retryable: bool,
    },
    /// A migration's own reason to fail.
    #[error("{0}")]
    Failed(
        /// The reason, for a person.
        String,
    ),
}

impl From<Error> for MigError {
    fn from(error: Error) -> Self {
        match error {
            Error::Rock(icecore_rockstore::Error::Closed { path }) if !mutants::on("closed_is_any_error") => {
                MigError::StoreClosed { store: path.display().to_string() }
            }
            error => MigError::Store { retryable: error.is_retryable(), source: Arc::new(error) },
        }
    }
}

impl MigError {
    /// A migration's own reason to fail.
    pub fn failed(why: impl fmt::Display) -> Self {
        MigError::Failed(why.to_string())
    }
}
