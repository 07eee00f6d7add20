use std::{
    any::Any,
    collections::BTreeMap,
    fmt::{self, Debug, Display},
    time::Duration,
};

use crate::{Error, Result, mutants};

/// How a worker ended, or why that is not known.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WorkerStatus {
    /// It ran to its end.
    Ok,
    /// It ended without a panic but not by itself, such as a task whose runtime was shut down; says why.
    Stopped(String),
    /// It panicked; the panic's message.
    Panicked(String),
    /// It did not end within its budget. Its handle is kept among the orphans.
    Timeout,
    /// An earlier generation under this key still runs among the orphans.
    Detached,
    /// Nobody lives under this key.
    NotRunning,
    /// It was restarted meanwhile; the new generation was left alone.
    Superseded,
    /// It, or its drain hook, ended with an error; the error's text.
    Error(String),
}

impl WorkerStatus {
    /// Whether nothing went wrong and nothing runs any more: `Ok` or `NotRunning`.
    pub fn is_clean(&self) -> bool {
        matches!(self, Self::Ok | Self::NotRunning)
    }

    /// Whether the worker, as far as this status knows, still runs.
    pub fn is_wedged(&self) -> bool {
        matches!(self, Self::Timeout | Self::Detached)
    }
}

impl Display for WorkerStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ok => f.write_str("ok"),
            Self::Stopped(reason) => write!(f, "stopped: {reason}"),
            Self::Panicked(message) => write!(f, "panicked: {message}"),
            Self::Timeout => f.write_str("did not end within its budget"),
            Self::Detached => f.write_str("an earlier generation still runs"),
            Self::NotRunning => f.write_str("not running"),
            Self::Superseded => f.write_str("superseded by a restart"),
            Self::Error(message) => write!(f, "error: {message}"),
        }
    }
}

/// What a worker's body may return: nothing, or a `Result` whose error becomes [`WorkerStatus::Error`].
pub trait IntoStatus {
    /// The status this result stands for.
    fn into_status(self) -> WorkerStatus;
}

impl IntoStatus for () {
    fn into_status(self) -> WorkerStatus {
        WorkerStatus::Ok
    }
}

impl<E: Display> IntoStatus for std::result::Result<(), E> {
    fn into_status(self) -> WorkerStatus {
        self.err().map_or(WorkerStatus::Ok, |error| WorkerStatus::Error(error.to_string()))
    }
}

/// Whether a component's passes are over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum GateStatus {
    /// No pass is under way, and none can begin.
    Drained,
    /// A pass was still under way when its budget was over.
    PassTimeout,
}

impl Display for GateStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Drained => "drained",
            Self::PassTimeout => "a pass did not end within its budget",
        })
    }
}

/// How a component was quiesced: its loop, and the passes through its gate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ComponentStatus {
    /// Its loop, the worker under its key.
    pub worker: WorkerStatus,
    /// Its passes.
    pub gate: GateStatus,
}

impl ComponentStatus {
    /// Whether nothing went wrong and nothing runs any more.
    pub fn is_clean(&self) -> bool {
        self.worker.is_clean() && self.gate == GateStatus::Drained
    }
}

impl Display for ComponentStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, passes: {}", self.worker, self.gate)
    }
}

/// What a shutdown found: every worker, every orphan, every gate.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "a shutdown may have left workers running: see all_clean() and require_clean()"]
#[non_exhaustive]
pub struct ShutdownReport<K> {
    /// Every key that ever had a worker, and how the one in its slot ended; `NotRunning` if that was joined before the
    /// shutdown began.
    pub per_worker: BTreeMap<K, WorkerStatus>,
    /// How many orphans survived, that is, still run.
    pub detached: usize,
    /// Every orphan there was: how it ended, or [`WorkerStatus::Detached`] if it survived.
    pub orphan_status: Vec<(K, WorkerStatus)>,
    /// Every component's gate; empty for a registry without a manager.
    pub gates: BTreeMap<K, GateStatus>,
    /// How long it took, from the moment the closing latch was set.
    pub elapsed: Duration,
}

impl<K: Copy + Ord + Debug> ShutdownReport<K> {
    /// Whether every worker and every orphan ended well and no pass is under way.
    pub fn all_clean(&self) -> bool {
        self.detached == 0
            && self.per_worker.values().all(WorkerStatus::is_clean)
            && (mutants::on("orphan_status_ignored") || self.orphan_status.iter().all(|(_, s)| s.is_clean()))
            && self.gates.values().all(|gate| *gate == GateStatus::Drained)
    }

    /// Turns an unclean report into an error.
    ///
    /// # Errors
    ///
    /// [`Error::Unclean`] names every worker, orphan and gate that is not clean.
    pub fn require_clean(&self) -> Result<()> {
        if self.all_clean() {
            return Ok(());
        }
        let workers = self.per_worker.iter().filter(|(_, status)| !status.is_clean());
        let orphans = self.orphan_status.iter().filter(|(_, status)| !status.is_clean());
        let gates = self.gates.iter().filter(|(_, gate)| **gate != GateStatus::Drained);
        Err(Error::Unclean {
            causes: workers
                .map(|(key, status)| format!("{key:?}: {status}"))
                .chain(orphans.map(|(key, status)| format!("orphan {key:?}: {status}")))
                .chain(gates.map(|(key, gate)| format!("gate {key:?}: {gate}")))
                .collect(),
        })
    }
}

impl<K: Debug> Display for ShutdownReport<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (key, status) in &self.per_worker {
            writeln!(f, "{key:?}: {status}")?;
        }
        for (key, status) in &self.orphan_status {
            writeln!(f, "orphan {key:?}: {status}")?;
        }
        for (key, gate) in &self.gates {
            writeln!(f, "gate {key:?}: {gate}")?;
        }
        write!(f, "{} still running, after {:.3} s", self.detached, self.elapsed.as_secs_f64())
    }
}

/// The text of a panic, if it has one.
pub(crate) fn panic_message(payload: Box<dyn Any + Send>) -> String {
    let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| payload.downcast_ref::<String>().cloned());
    text.unwrap_or_else(|| "a value that is not text".to_owned())
}
