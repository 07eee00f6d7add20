//! How fast a store is, beside the same writes done by hand: in batches of the same size, straight to the backend, by a
//! loop that knows nothing of queues, rows or callers.

mod hand;
mod script;
mod store;

use std::{fmt, path::Path, time::Duration};

use crate::Result;
use script::{KINDS, Script};

/// How often each operation occurs, as shares of a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mix {
    /// Storing a transaction.
    pub create: u32,
    /// Spending one output.
    pub spend: u32,
    /// Locking a transaction.
    pub lock: u32,
    /// Deleting a transaction that fell due.
    pub delete_at_height: u32,
}

impl Default for Mix {
    /// A busy day: four of ten store, four spend, one locks, one deletes.
    fn default() -> Self {
        Mix { create: 4, spend: 4, lock: 1, delete_at_height: 1 }
    }
}

/// What to measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Which operations.
    pub mix: Mix,
    /// How many of them.
    pub operations: u64,
    /// When to stop although not all are done.
    pub limit: Option<Duration>,
    /// How many threads ask for them.
    pub threads: usize,
    /// How many operations a thread has begun and not yet seen end.
    pub window: usize,
    /// The most operations of a batch, in the store and by hand.
    pub batch: usize,
    /// How many outputs a transaction has.
    pub outputs: u32,
}

impl Default for Plan {
    fn default() -> Self {
        let (operations, limit) = (200_000, None);
        Plan { mix: Mix::default(), operations, limit, threads: 4, window: 1024, batch: 1024, outputs: 2 }
    }
}

/// How one kind of operation fared.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Line {
    /// Which kind.
    pub kind: &'static str,
    /// How many there were.
    pub operations: u64,
    /// From asking to knowing: the median, and what one in ten, in a hundred, and none exceeded.
    pub latency: [Duration; 4],
}

/// How one way of doing it all fared.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Side {
    /// How long all of it took.
    pub took: Duration,
    /// Each kind that occurred.
    pub lines: Vec<Line>,
}

impl Side {
    /// Operations of all kinds in a second.
    pub fn per_second(&self) -> f64 {
        let operations: u64 = self.lines.iter().map(|line| line.operations).sum();
        operations as f64 / self.took.as_secs_f64()
    }

    fn new(took: Duration, mut latencies: [Vec<Duration>; 4]) -> Self {
        let mut lines = Vec::new();
        for (kind, latencies) in KINDS.into_iter().zip(&mut latencies) {
            latencies.sort_unstable();
            let at =
                |part: usize| latencies.get((latencies.len() * part / 100).min(latencies.len() - 1)).copied();
            let at = |part| if latencies.is_empty() { None } else { at(part) };
            if let (Some(half), Some(ninety), Some(most), Some(all)) = (at(50), at(90), at(99), at(100)) {
                lines.push(Line {
                    kind,
                    operations: latencies.len() as u64,
                    latency: [half, ninety, most, all],
                });
            }
        }
        Side { took, lines }
    }
}

/// Both ways beside each other.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Report {
    /// Through the store.
    pub store: Side,
    /// By hand.
    pub by_hand: Side,
}

impl Report {
    /// Operations per second of the store for one by hand.
    pub fn ratio(&self) -> f64 {
        self.store.per_second() / self.by_hand.per_second()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, side) in [("store", &self.store), ("by hand", &self.by_hand)] {
            writeln!(
                f,
                "{name:<8} {:>9.0} operations/s in {:.2} s",
                side.per_second(),
                side.took.as_secs_f64()
            )?;
            for line in &side.lines {
                let [half, ninety, most, all] = line.latency.map(|latency| latency.as_secs_f64() * 1e3);
                let Line { kind, operations, .. } = line;
                write!(f, "  {kind:<18} {operations:>9}   p50 {half:>7.2} ms   p90 {ninety:>7.2} ms   ")?;
                writeln!(f, "p99 {most:>7.2} ms   max {all:>7.2} ms")?;
            }
        }
        write!(f, "ratio    {:>9.2}", self.ratio())
    }
}

/// Measures both ways, in two databases under `dir`, which stay there.
///
/// # Errors
/// Those of the store; [`Error::Invalid`](crate::Error::Invalid) for a plan without operations.
pub fn run(dir: &Path, plan: &Plan) -> Result<Report> {
    let script = Script::new(plan)?;
    let store = store::run(&dir.join("store"), plan, &script)?;
    let by_hand = hand::run(&dir.join("by-hand"), plan, &script)?;
    Ok(Report { store, by_hand })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_leave_the_same_records() {
        let dir = crate::acceptance::support::scratch();
        let plan = Plan { operations: 2_000, threads: 3, window: 50, batch: 64, ..Plan::default() };
        let report = run(dir.path(), &plan).unwrap();
        for side in [&report.store, &report.by_hand] {
            let counts: Vec<_> = side.lines.iter().map(|line| line.operations).collect();
            assert_eq!(counts, [800, 800, 200, 200]);
            assert!(side.lines.iter().all(|line| line.latency.is_sorted()));
        }
        assert!(report.ratio() > 0.0);
        let text = report.to_string();
        assert!(
            ["by hand", "delete at height", "p99", "ratio"].iter().all(|word| text.contains(word)),
            "{text}"
        );
        let records = |name: &str| {
            let backend =
                crate::RocksBackend::open(dir.path().join(name).join("records"), &Default::default())
                    .unwrap();
            let mut records = Vec::new();
            for family in crate::Family::ALL {
                let mut add = |key: &[u8], value: &[u8]| {
                    records.push((family, key.to_vec(), value.to_vec()));
                    true
                };
                crate::Backend::scan(&backend, family, &[], &mut add).unwrap();
            }
            crate::Backend::close(&backend).unwrap();
            records
        };
        let (store, by_hand) = (records("store"), records("by-hand"));
        assert_eq!(store.len(), by_hand.len());
        assert!(store == by_hand, "the same writes");
        assert!(run(dir.path(), &Plan { operations: 0, ..plan }).is_err());
    }
}
