//! What is measured, through the `metrics` facade: names, units and meanings are this one table.

use std::time::Duration;

use icecore_catalog::{Artifact, FileState, HotState, State};
use icecore_hotchunk::{CommitReport, Phase};
use icecore_ledger::LedgerSeq;
use metrics::{counter, gauge, histogram};

use crate::{Error, act::Origin};

/// What a metric's values are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// A number that rises.
    Counter,
    /// A number that rises and falls.
    Gauge,
    /// A distribution.
    Histogram,
}

/// One metric.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// Its name.
    pub name: &'static str,
    /// What its values are.
    pub shape: Shape,
    /// Its labels and their values, or nothing.
    pub labels: &'static str,
    /// What it says.
    pub help: &'static str,
    /// An alert worth having, or nothing.
    pub alert: &'static str,
}

const COMMITTED: &str = "icecore_last_committed_ledger";
const LATEST: &str = "icecore_latest_published_ledger";
const TIP: &str = "icecore_source_tip_ledger";
const LAG: &str = "icecore_lag_ledgers";
const SKIPPED: &str = "icecore_skipped_ledgers_total";
const REFETCHED: &str = "icecore_refetched_ledgers_total";
const COMMIT: &str = "icecore_commit_seconds";
const CHUNKS: &str = "icecore_chunks";
const MISSING: &str = "icecore_missing_chunks";
const PLAN: &str = "icecore_plan_size";
const OP: &str = "icecore_op_seconds";
const FREEZE: &str = "icecore_freeze_seconds";
const FREEZE_BYTES: &str = "icecore_freeze_bytes_total";
const QUEUE: &str = "icecore_queue_depth";
const AGE: &str = "icecore_oldest_view_seconds";
const ERRORS: &str = "icecore_errors_total";
const RESTARTS: &str = "icecore_restarts_total";

const fn metric(
    name: &'static str,
    shape: Shape,
    labels: &'static str,
    help: &'static str,
    alert: &'static str,
) -> Metric {
    Metric { name, shape, labels, help, alert }
}

/// Every metric of the engine.
pub const METRICS: &[Metric] = &[
    metric(COMMITTED, Shape::Gauge, "", "The last ledger that is durable.", "unchanged for ten ledger times"),
    metric(
        LATEST,
        Shape::Gauge,
        "",
        "The last ledger that readers see.",
        "below the last committed for a minute",
    ),
    metric(TIP, Shape::Gauge, "", "The last ledger that the source is known to have.", ""),
    metric(
        LAG,
        Shape::Gauge,
        "",
        "Ledgers between the source's tip and the last committed one.",
        "above 100 for five minutes",
    ),
    metric(SKIPPED, Shape::Counter, "", "Live ledgers that were there already.", ""),
    metric(
        REFETCHED,
        Shape::Counter,
        "",
        "Ledgers that the live source left out, fetched from the bulk source.",
        "any, for an hour",
    ),
    metric(
        COMMIT,
        Shape::Histogram,
        "phase",
        "Time of each phase of a commit.",
        "p99 of phase=\"commit\" above 1 s: the disk",
    ),
    metric(
        CHUNKS,
        Shape::Gauge,
        "state: frozen, freezing, pruning, ready, transient",
        "Chunks by the state of their ledgers, and hot chunks.",
        "state=\"ready\" above 3: freezing does not keep up",
    ),
    metric(MISSING, Shape::Gauge, "", "Chunks that have something to be built.", "does not fall for an hour"),
    metric(PLAN, Shape::Gauge, "what: chunks, indexes", "What the last plan listed.", ""),
    metric(
        OP,
        Shape::Histogram,
        "op: rebuild, discard, destroy, run",
        "Time of each operation of the lifecycle.",
        "",
    ),
    metric(FREEZE, Shape::Histogram, "from: hot, pack, bulk", "Time to build a chunk's files.", ""),
    metric(FREEZE_BYTES, Shape::Counter, "from: hot, pack, bulk", "Raw ledger bytes that were frozen.", ""),
    metric(
        QUEUE,
        Shape::Gauge,
        "queue: tasks, going, demoted",
        "Tasks that wait for a worker; hot chunks that wait for their readers; keys that wait for their grace.",
        "queue=\"going\" above 0 for an hour: a reader holds a view",
    ),
    metric(AGE, Shape::Gauge, "", "Age of the oldest view that a reader holds.", "above the grace"),
    metric(
        ERRORS,
        Shape::Counter,
        "at: ingest, task, lifecycle; kind",
        "Errors, by where and of what kind.",
        "any of kind=\"hot_store_lost\"",
    ),
    metric(
        RESTARTS,
        Shape::Counter,
        "",
        "How often the work was begun anew after an error.",
        "more than five in ten minutes",
    ),
];

/// Tells the recorder that is installed what each metric means.
pub fn describe() {
    for metric in METRICS {
        match metric.shape {
            Shape::Counter => metrics::describe_counter!(metric.name, metric.help),
            Shape::Gauge => metrics::describe_gauge!(metric.name, metric.help),
            Shape::Histogram => metrics::describe_histogram!(metric.name, metric.help),
        }
    }
}

/// Operations that are timed.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Op {
    Rebuild,
    Discard,
    Destroy,
    Run,
}

impl Op {
    fn name(self) -> &'static str {
        match self {
            Op::Rebuild => "rebuild",
            Op::Discard => "discard",
            Op::Destroy => "destroy",
            Op::Run => "run",
        }
    }
}

pub(crate) fn took(op: Op, seconds: f64) {
    histogram!(OP, "op" => op.name()).record(seconds);
}

pub(crate) fn froze(from: Origin, seconds: f64, raw_bytes: u64) {
    histogram!(FREEZE, "from" => from.name()).record(seconds);
    counter!(FREEZE_BYTES, "from" => from.name()).increment(raw_bytes);
}

pub(crate) fn planned(chunks: usize, indexes: usize) {
    gauge!(PLAN, "what" => "chunks").set(chunks as f64);
    gauge!(PLAN, "what" => "indexes").set(indexes as f64);
}

pub(crate) fn queued(tasks: usize) {
    gauge!(QUEUE, "queue" => "tasks").set(tasks as f64);
}

pub(crate) fn going(hot_chunks: usize) {
    gauge!(QUEUE, "queue" => "going").set(hot_chunks as f64);
}

pub(crate) fn demoted(keys: usize) {
    gauge!(QUEUE, "queue" => "demoted").set(keys as f64);
}

pub(crate) fn failed(at: &'static str, error: &Error) {
    counter!(ERRORS, "at" => at, "kind" => error.tag()).increment(1);
}

pub(crate) fn restarted() {
    counter!(RESTARTS).increment(1);
}

pub(crate) fn skipped() {
    counter!(SKIPPED).increment(1);
}

pub(crate) fn refetched(ledgers: u64) {
    counter!(REFETCHED).increment(ledgers);
}

pub(crate) fn committed(report: &CommitReport) {
    for phase in Phase::ALL {
        let time = report.time(phase);
        if time > Duration::ZERO {
            histogram!(COMMIT, "phase" => phase.name()).record(time.as_secs_f64());
        }
    }
}

pub(crate) fn progress(committed: LedgerSeq, latest: LedgerSeq, tip: LedgerSeq) {
    gauge!(COMMITTED).set(committed.0);
    gauge!(LATEST).set(latest.0);
    gauge!(TIP).set(tip.0.max(committed.0));
    gauge!(LAG).set(tip.0.saturating_sub(committed.0));
}

pub(crate) fn oldest_view(age: Duration) {
    gauge!(AGE).set(age.as_secs_f64());
}

/// How many chunks are in which state.
pub(crate) fn counts(state: &State) -> [(&'static str, usize); 5] {
    let files = |wanted| {
        let ledgers = state.artifacts.iter().filter(|((_, artifact), _)| *artifact == Artifact::Ledgers);
        ledgers.filter(|(_, file)| **file == wanted).count()
    };
    let hot = |wanted| state.hot.values().filter(|hot| **hot == wanted).count();
    [
        ("frozen", files(FileState::Frozen)),
        ("freezing", files(FileState::Freezing)),
        ("pruning", files(FileState::Pruning)),
        ("ready", hot(HotState::Ready)),
        ("transient", hot(HotState::Transient)),
    ]
}

pub(crate) fn chunks(state: &State, missing: usize) {
    for (name, count) in counts(state) {
        gauge!(CHUNKS, "state" => name).set(count as f64);
    }
    gauge!(MISSING).set(missing as f64);
}
