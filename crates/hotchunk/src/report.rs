use std::time::{Duration, Instant};

use icecore_ledger::LedgerSeq;

use crate::Error;

/// What a commit does, one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Everything that the ledger could be refused for: size, decoding, sequence, terms of its events.
    Decode,
    /// Packing the raw ledger.
    Compress,
    /// Queueing the row of `ledgers`.
    Ledgers,
    /// Queueing the rows of `txhash`.
    TxHash,
    /// Encoding and queueing the rows of `events_data`.
    EventsData,
    /// Queueing the rows of `events_index`.
    EventsIndex,
    /// Queueing the row of `events_offsets`.
    EventsOffsets,
    /// Writing the batch, and syncing it.
    Commit,
    /// Adding the ledger to the event index in memory, which shows it to readers.
    Apply,
}

impl Phase {
    /// All phases in their order.
    pub const ALL: [Phase; 9] = [
        Phase::Decode,
        Phase::Compress,
        Phase::Ledgers,
        Phase::TxHash,
        Phase::EventsData,
        Phase::EventsIndex,
        Phase::EventsOffsets,
        Phase::Commit,
        Phase::Apply,
    ];

    /// Its name, for tables and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Phase::Decode => "decode",
            Phase::Compress => "compress",
            Phase::Ledgers => "queue ledgers",
            Phase::TxHash => "queue txhash",
            Phase::EventsData => "queue events_data",
            Phase::EventsIndex => "queue events_index",
            Phase::EventsOffsets => "queue events_offsets",
            Phase::Commit => "commit",
            Phase::Apply => "apply",
        }
    }
}

/// What a commit took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CommitReport {
    /// The time of each phase, in the order of [`Phase::ALL`]; 0 for those that were not reached.
    pub times: [Duration; Phase::ALL.len()],
    /// The raw ledger's size.
    pub raw_bytes: usize,
    /// Its size in the store.
    pub packed_bytes: usize,
    /// The batch's size.
    pub batch_bytes: usize,
    /// The batch's rows.
    pub rows: u64,
    /// Transactions.
    pub transactions: usize,
    /// Events.
    pub events: usize,
}

impl CommitReport {
    /// The time of a phase.
    pub fn time(&self, phase: Phase) -> Duration {
        self.times[phase as usize]
    }

    /// The time of all phases.
    pub fn total(&self) -> Duration {
        self.times.iter().sum()
    }
}

/// A ledger that was committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Committed {
    /// The ledger.
    pub seq: LedgerSeq,
    /// What it took.
    pub report: CommitReport,
}

/// A commit that was refused. Turns into its [`Error`] with `?`.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{source}")]
pub struct CommitFailed {
    /// Where it failed.
    pub phase: Phase,
    /// What was spent, in the failed phase too.
    pub report: Box<CommitReport>,
    /// Why.
    pub source: Box<Error>,
}

impl From<CommitFailed> for Error {
    fn from(failed: CommitFailed) -> Self {
        *failed.source
    }
}

/// Takes the time of one phase after the other.
pub(crate) struct Laps {
    begun: Instant,
    pub(crate) phase: Phase,
    pub(crate) report: CommitReport,
}

impl Laps {
    pub(crate) fn start() -> Self {
        Laps { begun: Instant::now(), phase: Phase::Decode, report: CommitReport::default() }
    }

    /// Ends the phase at hand and begins another.
    pub(crate) fn enter(&mut self, phase: Phase) {
        let now = Instant::now();
        self.report.times[self.phase as usize] += now - self.begun;
        (self.begun, self.phase) = (now, phase);
    }

    pub(crate) fn end(mut self) -> CommitReport {
        self.enter(self.phase);
        self.report
    }

    pub(crate) fn fail(self, source: Error) -> CommitFailed {
        let phase = self.phase;
        CommitFailed { phase, report: Box::new(self.end()), source: Box::new(source) }
    }
}
