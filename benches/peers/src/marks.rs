//! What others had reached on this class of machine before, with ten million keys, and what our index aims at.

use crate::{contender::Order, measure::Mode, report::Row};

/// How many keys the marks are for.
pub(crate) const KEYS: usize = 10_000_000;

/// A figure of a row.
#[derive(Clone, Copy)]
pub(crate) enum Figure {
    /// M keys/s of the whole job, by so many workers.
    Build(Order, usize),
    /// M keys/s of the function alone, sorted.
    Function(usize),
    BitsPerKey,
    Time(Mode),
    /// A batched lookup over the batched access that it needs at least.
    BatchOverFloor,
}

impl Figure {
    pub(crate) fn name(self) -> String {
        let workers = |count| if count == 1 { "1 worker".to_owned() } else { format!("{count} workers") };
        match self {
            Figure::Build(Order::Sorted, count) => format!("build sorted, {}, M keys/s", workers(count)),
            Figure::Build(Order::Unsorted, count) => format!("build unsorted, {}, M keys/s", workers(count)),
            Figure::Function(count) => format!("build of the function alone, {}, M keys/s", workers(count)),
            Figure::BitsPerKey => "bits/key".into(),
            Figure::Time(Mode::Batch) => "query batched, ns".into(),
            Figure::Time(Mode::Loop) => "query loop, ns".into(),
            Figure::Time(mode) => format!("{mode:?}, ns"),
            Figure::BatchOverFloor => "query batched ÷ one batched access".into(),
        }
    }

    pub(crate) fn of(self, row: &Row) -> Option<f64> {
        match self {
            Figure::Build(order, workers) => row.rate(order, workers).map(|rate| rate.best),
            Figure::Function(workers) => row.function_rate(workers).map(|rate| rate.best),
            Figure::BitsPerKey => row.bits_per_key(),
            Figure::Time(mode) => row.time(mode).map(|time| time.best),
            Figure::BatchOverFloor => Some(row.time(Mode::Batch)?.best / row.time(Mode::OneBatch)?.best),
        }
    }

    /// How many times better than the mark a value is: more than one is better, whatever the figure.
    pub(crate) fn better(self, value: f64, mark: f64) -> f64 {
        match self {
            Figure::Build(..) | Figure::Function(_) => value / mark,
            _ => mark / value,
        }
    }
}

pub(crate) struct Mark {
    pub(crate) id: &'static str,
    pub(crate) figure: Figure,
    pub(crate) value: f64,
    pub(crate) whose: &'static str,
}

const fn mark(id: &'static str, figure: Figure, value: f64, whose: &'static str) -> Mark {
    Mark { id, figure, value, whose }
}

const REFERENCE: &str = "reference implementation of the format";
const GOAL: &str = "goal";
const PEER: &str = "best peer then (ph PHast+)";
const ITSELF: &str = "itself, measured before";
const LOOP: Figure = Figure::Time(Mode::Loop);
const BATCH: Figure = Figure::Time(Mode::Batch);
const BITS: Figure = Figure::BitsPerKey;

const fn sorted(workers: usize) -> Figure {
    Figure::Build(Order::Sorted, workers)
}

pub(crate) const MARKS: &[Mark] = &[
    mark("bijection", sorted(1), 12.7, REFERENCE),
    mark("bijection", sorted(2), 20.8, REFERENCE),
    mark("bijection", sorted(1), 76.0, GOAL),
    mark("bijection", Figure::Build(Order::Unsorted, 1), 9.4, REFERENCE),
    mark("bijection", Figure::Build(Order::Unsorted, 2), 14.6, REFERENCE),
    mark("bijection", BITS, 34.46, REFERENCE),
    mark("bijection", LOOP, 890.0, REFERENCE),
    mark("bijection", LOOP, 90.0, GOAL),
    mark("bijection", BATCH, 40.0, GOAL),
    mark("bijection-checkpoints", LOOP, 90.0, GOAL),
    mark("bijection-checkpoints", BATCH, 40.0, GOAL),
    mark("ptrhash", sorted(1), 14.7, REFERENCE),
    mark("ptrhash", sorted(2), 26.1, REFERENCE),
    mark("ptrhash", sorted(1), 58.8, GOAL),
    mark("ptrhash", LOOP, 210.0, REFERENCE),
    mark("ptrhash", LOOP, 15.0, GOAL),
    mark("ptrhash", BATCH, 8.0, GOAL),
    mark("fast", sorted(1), 25.0, PEER),
    mark("fast", sorted(2), 46.0, PEER),
    mark("fast", BITS, 33.9, GOAL),
    mark("fast", Figure::BatchOverFloor, 1.2, GOAL),
    mark("compact", sorted(1), 5.0, GOAL),
    mark("compact", BITS, 32.4, GOAL),
    mark("compact", BATCH, 60.0, GOAL),
    mark("ptr_hash-parts", Figure::Function(1), 11.0, ITSELF),
    mark("ptr_hash-parts", Figure::Function(2), 20.0, ITSELF),
    mark("ptr_hash", LOOP, 11.6, ITSELF),
    mark("ptr_hash", BATCH, 7.7, ITSELF),
    mark("ph", Figure::Function(1), 25.0, ITSELF),
    mark("ph", Figure::Function(2), 46.0, ITSELF),
    mark("phastr", Figure::Function(1), 20.0, ITSELF),
    mark("phastr", Figure::Function(2), 39.0, ITSELF),
    mark("phastr", LOOP, 26.9, ITSELF),
    mark("phastr", BATCH, 11.2, ITSELF),
    mark("phastr-small", LOOP, 26.9, ITSELF),
    mark("phastr-small", BATCH, 11.2, ITSELF),
    mark("phastr-small", BITS, 33.83, ITSELF),
    mark("vfunc", BITS, 35.5, ITSELF),
    mark("redb", BITS, 8.0 * 20.5, ITSELF),
    mark("redb", LOOP, 1023.0, ITSELF),
    mark("lmdb", BITS, 8.0 * 30.3, ITSELF),
    mark("lmdb", LOOP, 858.0, ITSELF),
    mark("rocksdb", BITS, 8.0 * 26.0, ITSELF),
    mark("rocksdb", LOOP, 2241.0, ITSELF),
];
