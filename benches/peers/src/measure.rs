//! What one process measures: a build, or the queries to what it built. Nothing counts before every key is answered right.

use std::{
    collections::BTreeMap,
    fs,
    hint::black_box,
    path::PathBuf,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};

use crate::{
    Any,
    contender::{Builder, Built, How, Lookup, Order},
    floor::{Floor, chain},
    keys::{Key, generate, load, payloads, queries},
};

/// More entries than caches hold.
const QUERIES: usize = 1 << 20;
const ROUND_QUERIES: usize = 1 << 15;
const ROUNDS: usize = QUERIES / ROUND_QUERIES;
/// How many rounds of every mode there are, and how long they may take once there are enough.
const MAX_PASSES: usize = 3 * ROUNDS;
const MIN_PASSES: usize = 12;
const BUDGET: Duration = Duration::from_secs(6);
const SMALL_BUDGET: Duration = Duration::from_millis(800);
const SMALL_KEYS: usize = 500_000;

/// What a process is to do.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Task {
    pub(crate) contender: String,
    pub(crate) work: Work,
    pub(crate) keys: usize,
    pub(crate) workers: usize,
    /// Where the sorted keys are.
    pub(crate) sorted: PathBuf,
    /// For files; empty.
    pub(crate) dir: PathBuf,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
pub(crate) enum Work {
    Build { order: Order, verify: bool },
    Query,
}

/// What it found.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) enum Outcome {
    Build(Build),
    Query(Query),
}

#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Build {
    pub(crate) seconds: f64,
    pub(crate) bytes: u64,
    /// Seconds and bytes of the function alone.
    pub(crate) function: Option<(f64, u64)>,
    /// The highest resident memory less what was resident before (the keys), where the system tells.
    pub(crate) peak_bytes: Option<u64>,
}

#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Query {
    pub(crate) bytes: u64,
    pub(crate) function_bytes: Option<u64>,
    pub(crate) times: BTreeMap<Mode, Timed>,
    /// The share of strangers that were taken for members.
    pub(crate) false_positives: f64,
}

/// Nanoseconds a key.
#[derive(Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Timed {
    pub(crate) best: f64,
    pub(crate) median: f64,
}

impl Timed {
    /// Of at least one measurement.
    pub(crate) fn of(mut all: Vec<f64>) -> Option<Self> {
        all.sort_unstable_by(f64::total_cmp);
        Some(Timed { best: *all.first()?, median: *all.get(all.len() / 2)? })
    }
}

/// What is timed, one round of each after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum Mode {
    OneLoop,
    OneBatch,
    OneLatency,
    TwoLoop,
    TwoBatch,
    TwoLatency,
    Loop,
    Batch,
    Stream,
    Latency,
    Miss,
    Numbers,
    NumbersBatch,
}

const MODES: [Mode; 13] = [
    Mode::OneLoop,
    Mode::Loop,
    Mode::OneBatch,
    Mode::Batch,
    Mode::Stream,
    Mode::OneLatency,
    Mode::Latency,
    Mode::TwoLoop,
    Mode::Miss,
    Mode::TwoBatch,
    Mode::Numbers,
    Mode::NumbersBatch,
    Mode::TwoLatency,
];

impl Mode {
    /// Asks for all keys, `None` where the structure has no such way.
    #[inline(never)]
    fn run(self, floor: &Floor, structure: &impl Lookup, members: &[Key], strangers: &[Key]) -> Option<u64> {
        let get = |key: &Key| u64::from(structure.get(key).unwrap_or(0));
        match self {
            Mode::OneLoop => Some(floor.one_loop(members)),
            Mode::OneBatch => Some(floor.one_batch(members)),
            Mode::OneLatency => Some(floor.one_latency(members)),
            Mode::TwoLoop => Some(floor.two_loop(members)),
            Mode::TwoBatch => Some(floor.two_batch(members)),
            Mode::TwoLatency => Some(floor.two_latency(members)),
            Mode::Loop => Some(members.iter().map(get).sum()),
            Mode::Batch => structure.batch(members),
            Mode::Stream => structure.stream(members),
            Mode::Latency => Some(chain(members, get)),
            Mode::Miss => Some(strangers.iter().map(get).sum()),
            Mode::Numbers => structure.numbers(members),
            Mode::NumbersBatch => structure.numbers_batch(members),
        }
    }
}

/// Does a task.
pub(crate) fn perform<B: Builder>(builder: &B, task: &Task) -> Any<Outcome> {
    match task.work {
        Work::Build { order, verify } => measure_build(builder, task, order, verify).map(Outcome::Build),
        Work::Query => measure_queries(builder, task).map(Outcome::Query),
    }
}

fn measure_build<B: Builder>(builder: &B, task: &Task, order: Order, verify: bool) -> Any<Build> {
    let keys = match order {
        Order::Sorted => load(&task.sorted, task.keys)?,
        Order::Unsorted => generate(task.keys),
    };
    let before = forget_peak();
    let how = How { workers: task.workers, order, dir: task.dir.clone() };
    let Built { structure, seconds, bytes, function } = builder.build(&keys, &how)?;
    let peak_bytes = resident("VmHWM:").zip(before).map(|(peak, before)| peak.saturating_sub(before));
    if verify {
        all_right(&keys, &structure)?;
    }
    Ok(Build { seconds, bytes, function, peak_bytes })
}

fn measure_queries<B: Builder>(builder: &B, task: &Task) -> Any<Query> {
    let keys = load(&task.sorted, task.keys)?;
    let how = How { workers: task.workers, order: Order::Sorted, dir: task.dir.clone() };
    let Built { structure, bytes, function, .. } = builder.build(&keys, &how)?;
    all_right(&keys, &structure)?;
    let (members, strangers) = queries(&keys, QUERIES);
    ways_agree(&structure, &members, payloads(keys.len()))?;
    let wrong = strangers.iter().filter(|key| structure.get(key).is_some()).count();
    let floor = Floor::new(keys.len());
    drop(keys);
    let budget = if task.keys < SMALL_KEYS { SMALL_BUDGET } else { BUDGET };
    Ok(Query {
        bytes,
        function_bytes: function.map(|(_, bytes)| bytes),
        times: time_all(&floor, &structure, &members, &strangers, budget),
        false_positives: wrong as f64 / strangers.len() as f64,
    })
}

/// Every key has its payload.
fn all_right(keys: &[Key], structure: &impl Lookup) -> Any {
    let payloads = payloads(keys.len());
    for key in keys {
        let (expected, found) = (key.payload(payloads), structure.get(key));
        if found != Some(expected) {
            return Err(format!("{key:?} has payload {expected}, the answer is {found:?}").into());
        }
    }
    Ok(())
}

/// Whichever way many keys are asked for, the answers are the same.
fn ways_agree(structure: &impl Lookup, members: &[Key], payloads: u32) -> Any {
    let expected: u64 = members.iter().map(|key| u64::from(key.payload(payloads))).sum();
    for (way, found) in [("batched", structure.batch(members)), ("streamed", structure.stream(members))] {
        if found.is_some_and(|found| found != expected) {
            return Err(format!("{way} answers add up to {found:?}, not {expected}").into());
        }
    }
    let numbers = structure.numbers(members);
    match structure.numbers_batch(members) {
        Some(found) if Some(found) != numbers => Err("batched numbers are others".into()),
        _ => Ok(()),
    }
}

/// Rounds of all modes by turns, so that whatever disturbs the machine disturbs all of them; each mode elsewhere among the
/// keys, so that none finds in a cache what the last one left there.
fn time_all(
    floor: &Floor,
    structure: &impl Lookup,
    members: &[Key],
    strangers: &[Key],
    budget: Duration,
) -> BTreeMap<Mode, Timed> {
    let start = Instant::now();
    let mut all: BTreeMap<Mode, Vec<f64>> = BTreeMap::new();
    for pass in 0..MAX_PASSES {
        if pass >= MIN_PASSES && start.elapsed() > budget {
            break;
        }
        for (turn, mode) in MODES.into_iter().enumerate() {
            let first = (pass + 5 * turn) % ROUNDS * ROUND_QUERIES;
            let round = first..first + ROUND_QUERIES;
            let start = Instant::now();
            let answer = mode.run(floor, structure, &members[round.clone()], &strangers[round]);
            let seconds = start.elapsed().as_secs_f64();
            if black_box(answer).is_some() {
                all.entry(mode).or_default().push(seconds * 1e9 / ROUND_QUERIES as f64);
            }
        }
    }
    all.into_iter().filter_map(|(mode, times)| Some((mode, Timed::of(times)?))).collect()
}

/// Lowers the mark of the highest resident memory to what is resident now, and says what that is.
fn forget_peak() -> Option<u64> {
    fs::write("/proc/self/clear_refs", "5").ok()?;
    resident("VmRSS:")
}

/// A figure about this process's memory.
fn resident(field: &str) -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(field))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? * 1024)
}
