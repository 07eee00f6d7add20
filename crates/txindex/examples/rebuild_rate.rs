//! Prints how fast an index is built out of sorted runs, and what the machine needs for the parts of that at least:
//! `rebuild_rate [--json] [--dir DIRECTORY] [--repeats N] [--algorithm NAME] [--slice KEYS] [RUNS
//! [KEYS_PER_RUN [WORKERS]]]`.
#![allow(clippy::print_stdout)]

use std::{
    error::Error,
    fs::{self, File},
    io::{BufWriter, Write},
    ops::ControlFlow,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Instant,
};

use icecore_diskio::{Disk, IfExists, RealDisk};
use icecore_ledger::{LedgerRange, LedgerSeq};
use icecore_streamhash as stmh;
use icecore_txindex::{Algorithm, Options, build_index_with};

type Result<T = (), E = Box<dyn Error + Send + Sync>> = std::result::Result<T, E>;

const LEDGERS_PER_RUN: u32 = 10_000;

/// What to measure.
struct Args {
    json: bool,
    dir: PathBuf,
    repeats: u32,
    algorithm: Algorithm,
    runs: u32,
    keys_per_run: u64,
    workers: usize,
    slice: Option<u64>,
}

impl Args {
    fn parse() -> Result<Self> {
        let mut args = Args {
            json: false,
            dir: ".".into(),
            repeats: 5,
            algorithm: Algorithm::Bijection,
            runs: 20,
            keys_per_run: 1_000_000,
            workers: 2,
            slice: None,
        };
        let mut words = std::env::args().skip(1);
        let mut numbers = Vec::new();
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or_else(|| format!("{word} needs a value"));
            match word.as_str() {
                "--json" => args.json = true,
                "--dir" => args.dir = value()?.into(),
                "--repeats" => args.repeats = value()?.parse()?,
                "--slice" => args.slice = Some(value()?.parse()?),
                "--algorithm" => {
                    let name = value()?;
                    let named = |algorithm: &Algorithm| format!("{algorithm:?}").eq_ignore_ascii_case(&name);
                    args.algorithm = Algorithm::ALL.into_iter().find(named).ok_or("no such algorithm")?;
                }
                number => numbers.push(number.parse::<u64>()?),
            }
        }
        if let Some(&runs) = numbers.first() {
            args.runs = u32::try_from(runs)?;
        }
        args.keys_per_run = numbers.get(1).copied().unwrap_or(args.keys_per_run);
        args.workers = numbers.get(2).map_or(Ok(args.workers), |&workers| usize::try_from(workers))?;
        Ok(args)
    }

    fn keys(&self) -> u64 {
        u64::from(self.runs) * self.keys_per_run
    }
}

/// SplitMix64.
struct Words(u64);

impl Words {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ self.0 >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ z >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ z >> 31
    }
}

/// Writes a run of uniform keys that are drawn in their order: the gaps between such keys are exponential.
fn write_run(path: &Path, number: u32, keys: u64) -> Result {
    let mut words = Words(u64::from(number) << 40);
    let mut file = BufWriter::with_capacity(1 << 20, File::create(path)?);
    file.write_all(&keys.to_le_bytes())?;
    // So much less than the whole key space that the last key is not beyond it.
    let mean = 2f64.powi(64) / keys as f64 * (1.0 - 5.0 / (keys as f64).sqrt()).max(0.1);
    let mut prefix = 0u64;
    for _ in 0..keys {
        let uniform = ((words.next() >> 11) + 1) as f64 / 2f64.powi(53);
        prefix = prefix.saturating_add((mean * -uniform.ln()) as u64 + 1);
        let seq = 2 + number * LEDGERS_PER_RUN + words.next() as u32 % LEDGERS_PER_RUN;
        let mut entry = [0; 20];
        entry[..8].copy_from_slice(&prefix.to_be_bytes());
        entry[8..16].copy_from_slice(&words.next().to_le_bytes());
        entry[16..].copy_from_slice(&seq.to_le_bytes());
        file.write_all(&entry)?;
    }
    Ok(file.into_inner()?.sync_all()?)
}

/// Seconds that this process had a processor: what others run does not count.
fn processor_seconds() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// Seconds to read all files, by as many threads as there are workers.
fn read_seconds(paths: &[PathBuf], workers: usize) -> Result<f64> {
    let (start, next) = (Instant::now(), AtomicUsize::new(0));
    let read = || -> Result {
        let mut buffer = vec![0; 1 << 18];
        while let Some(path) = paths.get(next.fetch_add(1, Ordering::Relaxed)) {
            let (file, mut at) = (File::open(path)?, 0);
            loop {
                match file.read_at(&mut buffer, at)? {
                    0 => break,
                    count => at += count as u64,
                }
            }
        }
        Ok(())
    };
    thread::scope(|scope| {
        let threads: Vec<_> = (0..workers).map(|_| scope.spawn(read)).collect();
        threads.into_iter().try_for_each(|thread| thread.join().unwrap_or(Err("a reader panicked".into())))
    })?;
    Ok(start.elapsed().as_secs_f64())
}

/// Seconds to write so many bytes and have them on the disk.
fn write_seconds(path: &Path, bytes: u64) -> Result<f64> {
    let start = Instant::now();
    let (mut file, block) = (File::create(path)?, vec![0x5A; 1 << 18]);
    for at in (0..bytes).step_by(block.len()) {
        file.write_all(&block[..block.len().min((bytes - at) as usize)])?;
    }
    file.sync_all()?;
    let seconds = start.elapsed().as_secs_f64();
    fs::remove_file(path)?;
    Ok(seconds)
}

/// Keys out of nowhere, as many in each range as its part of the key space is of the whole.
struct Made {
    keys: u64,
}

impl stmh::Fill for Made {
    type Error = stmh::Error;

    fn fill(&mut self, range: &stmh::KeyRange, places: &mut stmh::Places) -> stmh::Result<()> {
        let before = |prefix: u128| (((prefix >> 24) * u128::from(self.keys)) >> 40) as u64;
        let width = range.to - u128::from(range.from);
        let mut words = Words(range.from);
        for _ in before(range.from.into())..before(range.to) {
            let prefix = range.from + (((width >> 1) * u128::from(words.next())) >> 63) as u64;
            let mut key = [0; 16];
            key[..8].copy_from_slice(&prefix.to_be_bytes());
            key[8..].copy_from_slice(&words.next().to_le_bytes());
            places.add(&key, prefix & 0xFFFF);
        }
        Ok(())
    }
}

/// Seconds to build the index of keys that need not be read.
fn solve_seconds(path: &Path, args: &Args) -> Result<f64> {
    let options = stmh::Options::new().payload_bytes(3).fingerprint_bytes(1).workers(args.workers);
    let options = options.if_exists(IfExists::Replace).algorithm(args.algorithm).range_keys(1 << 15);
    let start = Instant::now();
    stmh::RangeBuilder::create(path, args.keys(), options)?.build(|| Made { keys: args.keys() })?;
    Ok(start.elapsed().as_secs_f64())
}

/// Seconds for the whole.
fn build_seconds(path: &Path, paths: &[PathBuf], args: &Args) -> Result<f64> {
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let last = LedgerSeq(1 + args.runs * LEDGERS_PER_RUN);
    let coverage = LedgerRange { first: LedgerSeq(2), last };
    let mut options =
        Options::new().workers(args.workers).if_exists(IfExists::Replace).algorithm(args.algorithm);
    if let Some(slice) = args.slice {
        options = options.slice_entries(slice);
    }
    let start = Instant::now();
    build_index_with(&disk, path, coverage, paths, options, |_| ControlFlow::Continue(()))?;
    Ok(start.elapsed().as_secs_f64())
}

/// The most memory that this process had since the last reset, in bytes.
fn peak_bytes() -> Result<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).ok_or("no VmHWM")?;
    Ok(peak.trim().trim_end_matches(" kB").parse::<u64>()? << 10)
}

/// The best of some repeats: seconds by the clock, and of processors.
fn best(repeats: u32, mut seconds: impl FnMut() -> Result<f64>) -> Result<[f64; 2]> {
    (0..repeats.max(1)).try_fold([f64::INFINITY; 2], |best, _| {
        let start = processor_seconds();
        let elapsed = seconds()?;
        Ok([best[0].min(elapsed), best[1].min(processor_seconds() - start)])
    })
}

fn main() -> Result {
    let args = Args::parse()?;
    let dir = tempfile::tempdir_in(&args.dir)?;
    let paths: Vec<PathBuf> = (0..args.runs).map(|run| dir.path().join(format!("{run:08}.bin"))).collect();
    let out = dir.path().join("index.idx");
    for (path, number) in paths.iter().zip(0..) {
        write_run(path, number, args.keys_per_run)?;
    }
    fs::write("/proc/self/clear_refs", "5")?;
    let [built, built_cpu] = best(args.repeats, || build_seconds(&out, &paths, &args))?;
    let (peak, out_bytes) = (peak_bytes()?, fs::metadata(&out)?.len());
    let [read, read_cpu] = best(args.repeats, || read_seconds(&paths, args.workers))?;
    let [written, _] = best(args.repeats, || write_seconds(&out, out_bytes))?;
    let [solved, solved_cpu] = best(args.repeats, || solve_seconds(&out, &args))?;
    let (keys, rate) = (args.keys(), args.keys() as f64 / built / 1e6);
    let (floor, floor_cpu) = (read + solved, read_cpu + solved_cpu);
    if args.json {
        println!(
            "{{\"algorithm\":\"{:?}\",\"runs\":{},\"keys\":{keys},\"workers\":{},\"seconds\":{built:.4},\
             \"million_keys_per_second\":{rate:.2},\"nanoseconds_per_key\":{:.2},\"read_seconds\":{read:.4},\
             \"write_seconds\":{written:.4},\"solve_and_write_seconds\":{solved:.4},\"over_floor\":{:.3},\
             \"processor_seconds\":{built_cpu:.4},\"processor_over_floor\":{:.3},\
             \"peak_bytes\":{peak},\"index_bytes\":{out_bytes}}}",
            args.algorithm,
            args.runs,
            args.workers,
            1e3 / rate,
            built / floor,
            built_cpu / floor_cpu,
        );
        return Ok(());
    }
    println!(
        "{} runs of {} keys, {} workers, {:?}",
        args.runs, args.keys_per_run, args.workers, args.algorithm
    );
    println!("built     {built:>8.3} s  {rate:>7.1} M keys/s  {:.2} ns per key", 1e3 / rate);
    println!("  to read the runs alone             {read:>8.3} s");
    println!(
        "  to solve and write keys from nowhere {solved:>6.3} s (to write as much alone {written:.3} s)"
    );
    println!("  all of it over these two           {:>8.2}", built / floor);
    println!(
        "  of processors                      {built_cpu:>8.3} s, over the parts' {:.2}",
        built_cpu / floor_cpu
    );
    println!("  peak memory                        {:>8.1} MiB", peak as f64 / f64::from(1 << 20));
    Ok(())
}
