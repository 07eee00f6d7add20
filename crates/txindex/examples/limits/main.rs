//! How far each kernel of the index is from its own limit on this machine: the work that a finished file shows its build
//! needed, times what the machine takes for such work when it does nothing else, beside the time that was taken.
//!
//! ```text
//! cargo xtask bench index limits [KEYS] [--out FOLDER]
//! ```
//!
//! `rows` says of each kernel what it needs and what holds the rest.
#![allow(clippy::print_stdout)]

mod builds;
mod count;
mod lanes;
mod machine;
mod queries;
mod report;
mod roofs;
mod rows;
mod tables;

use std::path::{Path, PathBuf};

use icecore_streamhash::{Algorithm, Path as Instructions};
use icecore_testkit::SplitMix64;

use builds::{Parts, Plan};
use count::{Built, Tries};
use queries::{Pattern, Times, Window};
use roofs::Roofs;

type Any<T = ()> = Result<T, Box<dyn std::error::Error>>;
type Key = [u8; 16];

const ROUNDS: usize = 5;
const QUERIES: usize = 1 << 20;

/// The two words of a key, as all algorithms see them.
fn words(key: &Key) -> [u64; 2] {
    let word = u128::from_le_bytes(*key);
    [word as u64, (word >> 64) as u64]
}

struct Args {
    keys: usize,
    out: Option<PathBuf>,
}

impl Args {
    fn parse() -> Any<Self> {
        let mut args = Args { keys: 10_000_000, out: None };
        let mut given = std::env::args().skip(1);
        while let Some(word) = given.next() {
            match word.as_str() {
                "--out" => args.out = Some(given.next().ok_or("--out needs a folder")?.into()),
                count => args.keys = count.replace('_', "").parse().map_err(|e| format!("{count}: {e}"))?,
            }
        }
        // Fewer say nothing about any kernel.
        if args.keys < 300_000 { Err("at least 300000 keys".into()) } else { Ok(args) }
    }
}

/// What was measured; of builds, nanoseconds a key.
struct Measured {
    keys: usize,
    roofs: Roofs,
    builds: Vec<Build>,
    unsorted: Parts,
    rebuilt: Parts,
    lookups: Vec<Lookups>,
    /// Of pairs of accesses, with instructions before, and between; and between where nothing misses.
    windows: [Window; 3],
}

/// An algorithm, what its file says, and its builds.
struct Build {
    plan: Plan,
    file_bytes: f64,
    /// Mixes or slots.
    tries: Tries,
    /// Rows that an equation meets.
    steps: f64,
    parts: Parts,
    /// The same without payload and fingerprint, where that is possible.
    bare: Option<Parts>,
    /// The same with keys for which the first seed or pilot is the right one, and what these need.
    lucky: Option<(Parts, Tries)>,
}

struct Lookups {
    algorithm: Algorithm,
    taken: Times,
    needed: Times,
}

/// Builds to be measured by turns, and the best of each.
struct Turns<'a> {
    entries: Vec<(Plan, &'a [Key], &'a Built, Parts)>,
}

impl Turns<'_> {
    fn measure(&mut self, path: &Path) -> Any {
        for _ in 0..ROUNDS {
            for (plan, keys, built, best) in &mut self.entries {
                *best = best.least(plan.sorted(path, keys, &built.blocks)?);
            }
        }
        Ok(())
    }
}

fn measure(count: usize) -> Any<Measured> {
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("index");
    let mut rng = SplitMix64::new(1);
    let shuffled: Vec<Key> = (0..count).map(|_| rng.key()).collect();
    let members: Vec<Key> = (0..QUERIES).map(|_| shuffled[rng.below(count as u64) as usize]).collect();
    let mut keys = shuffled.clone();
    keys.sort_unstable();
    let roofs = Roofs::measure(dir.path())?;

    let best = Instructions::best();
    let plan = |algorithm| Plan { algorithm, instructions: best, kept: true };
    let (mut files, mut lookups, mut windows) = (Vec::new(), Vec::new(), Default::default());
    for algorithm in Algorithm::ALL {
        let built = plan(algorithm).file(&path, &keys)?;
        let pattern = Pattern::new(&built.index, QUERIES, |bound| rng.below(bound));
        let (mut taken, mut needed) = (Times::NONE, Times::NONE);
        for _ in 0..ROUNDS {
            needed = needed.least(pattern.measure());
            taken = taken.least(queries::lookups(&built.index, &members)?);
        }
        lookups.push(Lookups { algorithm, taken, needed });
        if algorithm == Algorithm::PtrHash {
            let ([before, between], [_, near]) = (pattern.windows(), pattern.near().windows());
            windows = [before, between, near];
        }
        files.push(built);
    }
    let file = |algorithm| {
        let place = Algorithm::ALL.iter().position(|&other| other == algorithm);
        place.and_then(|place| files.get(place)).ok_or("no such file")
    };

    let (bijection, ptrhash) = (file(Algorithm::Bijection)?, file(Algorithm::PtrHash)?);
    let lucky_seeds = builds::lucky_seeds(&keys, &bijection.blocks, || rng.next_u64());
    let lucky_pilots = builds::lucky_pilots(&keys, &ptrhash.blocks, || rng.next_u64());
    let tries = |built: &Built, keys: &[Key]| match built.index.header().algorithm {
        Algorithm::Bijection => built.seeds(),
        Algorithm::PtrHash => Ok(built.pilots(keys)),
        _ => Ok(Tries::default()),
    };
    let mut all = Vec::new();
    for algorithm in Algorithm::ALL {
        let built = file(algorithm)?;
        let lucky_keys = match algorithm {
            Algorithm::Bijection => Some(&lucky_seeds),
            Algorithm::PtrHash => Some(&lucky_pilots),
            _ => None,
        };
        let paths = if algorithm == Algorithm::Bijection { Instructions::all() } else { vec![best] };
        for instructions in paths.into_iter().rev() {
            let plan = Plan { instructions, ..plan(algorithm) };
            let bare = Plan { kept: false, ..plan.clone() };
            let mut turns = vec![(plan.clone(), &keys)];
            turns.extend(lucky_keys.map(|lucky| (plan.clone(), lucky)));
            turns.extend((algorithm.has_ranks()).then_some((bare, &keys)));
            let entries = turns.into_iter().map(|(plan, keys)| (plan, keys.as_slice(), built, Parts::NONE));
            let mut turns = Turns { entries: entries.collect() };
            turns.measure(&path)?;
            let mut parts = turns.entries.into_iter().map(|entry| entry.3.each(count));
            let own = parts.next().ok_or("nothing measured")?;
            let lucky = match lucky_keys {
                Some(keys) => parts.next().zip(Some(tries(&plan.file(&path, keys)?, keys)?)),
                None => None,
            };
            all.push(Build {
                file_bytes: built.index.source().len() as f64 / count as f64,
                tries: tries(built, &keys)?,
                steps: if algorithm == Algorithm::Compact { built.steps(&keys) } else { 0.0 },
                plan,
                parts: own,
                lucky,
                bare: parts.next(),
            });
        }
    }
    let runs = builds::write_runs(dir.path(), &keys)?;
    let (mut unsorted, mut rebuilt) = (Parts::NONE, Parts::NONE);
    for _ in 0..ROUNDS {
        unsorted = unsorted.least(plan(Algorithm::Bijection).unsorted(&path, &shuffled)?);
        rebuilt = rebuilt.least(builds::rebuild(&path, &runs)?);
    }
    let (unsorted, rebuilt) = (unsorted.each(count), rebuilt.each(count));
    Ok(Measured { keys: count, roofs, builds: all, unsorted, rebuilt, lookups, windows })
}

fn main() -> Any {
    let args = Args::parse()?;
    let machine = machine::lines();
    let text = report::text(&measure(args.keys)?, &machine);
    println!("{text}");
    if let Some(out) = args.out {
        std::fs::create_dir_all(&out)?;
        std::fs::write(out.join("limits.md"), text)?;
    }
    Ok(())
}
