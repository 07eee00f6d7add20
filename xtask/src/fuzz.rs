//! Fuzzing: builds every target once with a sanitizer, then runs them side by side, one to a core.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use crate::{
    seeds,
    shell::{Result, cargo, cores, line, output, root, run, works},
    tools,
};

const CARGO_FUZZ: &str = "0.13.2";
const SMOKE_SECONDS: u64 = 10;
/// A target with a planted fault: where it is not found, the fuzzer is blind and its silence means nothing.
const CANARY: &str = "canary";
const CANARY_SECONDS: u64 = 120;
/// The folders of targets, each a workspace of its own: what the first one builds is light; the other compiles RocksDB,
/// so its targets run only when they are named.
const LIGHT: &str = "fuzz";
const HEAVY: &str = "fuzz/rocksdb";

/// Targets that let go of threads by design, as a batcher that is dropped unclosed does: what such a thread still holds
/// when the sanitizer looks is no leak.
const DETACHED: &[&str] = &["batcher_group"];

/// What to fuzz, and for how long.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Ten seconds for each target, and a check that the planted fault of `canary` is found
    #[arg(long, conflicts_with = "seconds")]
    smoke: bool,
    /// How long each target runs
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// The targets to run; when none is named, all but `canary` and those of fuzz/rocksdb
    targets: Vec<String>,
}

/// Builds and runs targets; the answer says how it went when nothing was found.
pub(crate) fn fuzz(args: &Args) -> Result<String> {
    let (light, heavy) = (targets(LIGHT)?, targets(HEAVY)?);
    let known = || light.iter().chain(&heavy);
    if let Some(unknown) = args.targets.iter().find(|&target| known().all(|known| known != target)) {
        let known: Vec<&str> = known().map(String::as_str).collect();
        return Err(format!("no target {unknown:?}; there are: {}", known.join(", ")));
    }
    let chosen = if args.targets.is_empty() { light } else { args.targets.clone() };
    let with_canary = args.smoke || args.targets.iter().any(|target| target == CANARY);
    let (heavy, mut light): (Vec<_>, Vec<_>) = chosen.into_iter().partition(|target| heavy.contains(target));
    light.retain(|target| target != CANARY);
    if !heavy.is_empty() {
        // Its compiler must be there before cargo can look at it.
        tools::require(tools::BUILD)?;
    }
    if let Some(why) = unavailable()? {
        // Their unit tests call the harnesses on stable, so that a check without a sanitizer is not without them.
        let skipped = format!("SKIPPED the sanitizer run: {why}; the harnesses ran in `cargo xtask test`");
        return if args.smoke { Ok(skipped) } else { Err(format!("cannot fuzz on this machine: {why}")) };
    }
    let mut jobs = Vec::new();
    if with_canary || !light.is_empty() {
        let binaries = build(LIGHT)?;
        seeds::write(&root().join(LIGHT).join("corpus"))?;
        if with_canary {
            find_canary(&binaries)?;
        }
        jobs.extend(light.into_iter().map(|target| Job { target, dir: LIGHT, binaries: binaries.clone() }));
    }
    if !heavy.is_empty() {
        let binaries = build(HEAVY)?;
        jobs.extend(heavy.into_iter().map(|target| Job { target, dir: HEAVY, binaries: binaries.clone() }));
    }
    if jobs.is_empty() {
        return Ok(format!("`{CANARY}` is well"));
    }
    run_all(&jobs, if args.smoke { SMOKE_SECONDS } else { args.seconds })
}

/// A target to run, the folder it stands in, and where its program is.
struct Job {
    target: String,
    dir: &'static str,
    binaries: PathBuf,
}

/// The short run of `cargo xtask ci`.
pub(crate) fn smoke() -> Result<String> {
    fuzz(&Args { smoke: true, seconds: SMOKE_SECONDS, targets: Vec::new() })
}

/// The names of all targets in a folder.
fn targets(dir: &str) -> Result<Vec<String>> {
    let dir = root().join(dir).join("fuzz_targets");
    let files = fs::read_dir(&dir).map_err(|e| format!("{}: {e}", dir.display()))?;
    let name = |path: PathBuf| Some(path.file_name()?.to_str()?.strip_suffix(".rs")?.to_owned());
    let mut names: Vec<String> = files.filter_map(|file| name(file.ok()?.path())).collect();
    names.sort();
    Ok(names)
}

fn nightly() -> Command {
    let mut command = Command::new("rustup");
    command.args(["run", "nightly"]).current_dir(root());
    command
}

/// Why there can be no sanitizer run on this machine. Installs `cargo-fuzz` where that is all that is missing.
fn unavailable() -> Result<Option<String>> {
    if !works(nightly().args(["rustc", "--version"])) {
        return Ok(Some("there is no nightly toolchain (`rustup toolchain install nightly`)".into()));
    }
    tools::require(tools::FUZZ)?;
    if !works(nightly().args(["cargo", "fuzz", "--version"])) {
        let install = ["install", "cargo-fuzz", "--locked", "--version", CARGO_FUZZ];
        if let Err(e) = run(cargo().args(install)) {
            return Ok(Some(format!("cargo-fuzz cannot be installed: {e}")));
        }
    }
    match output(nightly().args(["cargo", "fetch", "--locked", "--manifest-path", "fuzz/Cargo.toml"])) {
        Ok(_) => Ok(None),
        // Anything else, such as a lock file that is out of date, is ours to mend.
        Err(e) if ["download", "registry", "resolve host"].iter().any(|word| e.contains(word)) => {
            Ok(Some(format!("the fuzzing engine cannot be fetched: {e}")))
        }
        Err(e) if e.contains("--locked") => {
            Err(format!("{e}\nto mend it: cargo update --workspace --manifest-path fuzz/Cargo.toml"))
        }
        Err(e) => Err(e),
    }
}

/// Builds every target of a folder and says where the programs are.
fn build(dir: &str) -> Result<PathBuf> {
    let version = output(nightly().args(["rustc", "-vV"]))?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: ")).unwrap_or_default();
    let target_dir = match std::env::var_os("CARGO_TARGET_DIR") {
        Some(target_dir) => root().join(target_dir).join(dir),
        None => root().join(dir).join("target"),
    };
    run(nightly()
        .args(["cargo", "fuzz", "build", "--fuzz-dir", dir, "--target", host, "--target-dir"])
        .arg(&target_dir))?;
    Ok(target_dir.join(host).join("release"))
}

/// One run of one target: its output, when it is over.
fn run_target(binary: &Path, corpus: &Path, artifacts: &Path, seconds: u64) -> Result<Output> {
    for dir in [corpus, artifacts] {
        fs::create_dir_all(dir).map_err(|e| format!("{}: {e}", dir.display()))?;
    }
    let mut command = Command::new(binary);
    command.arg(corpus).arg(format!("-artifact_prefix={}/", artifacts.display()));
    command.args([
        &format!("-max_total_time={seconds}"),
        "-timeout=30",
        "-rss_limit_mb=4096",
        "-print_final_stats=1",
    ]);
    if binary.file_name().is_some_and(|name| DETACHED.iter().any(|target| name == *target)) {
        command.arg("-detect_leaks=0");
    }
    // As cargo-fuzz runs them: Rust's own duplicated statics are no finding.
    command.env("ASAN_OPTIONS", "detect_odr_violation=0");
    command.output().map_err(|e| format!("cannot run `{}`: {e}", line(&command)))
}

/// Fails unless the planted fault is found, starting from nothing.
fn find_canary(binaries: &Path) -> Result {
    let dir = tempfile::tempdir().map_err(|e| format!("no temporary folder: {e}"))?;
    let (corpus, artifacts) = (dir.path().join("corpus"), dir.path().join("artifacts"));
    let output = run_target(&binaries.join(CANARY), &corpus, &artifacts, CANARY_SECONDS)?;
    let log = String::from_utf8_lossy(&output.stderr);
    if output.status.success() || !log.contains("the planted fault") {
        let tail = tail(&log);
        return Err(format!("{tail}\nthe planted fault of `{CANARY}` was not found: the fuzzer is blind"));
    }
    println!("{CANARY}: the planted fault was found after {} runs", runs(&log));
    Ok(())
}

/// Runs the targets, as many at once as there are cores, and ends with a table.
fn run_all(jobs: &[Job], seconds: u64) -> Result<String> {
    println!("{} targets, {seconds} s each, {} at a time", jobs.len(), cores());
    let next = AtomicUsize::new(0);
    let rows = Mutex::new(Vec::new());
    let work = || {
        while let Some(job) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
            let target = &job.target;
            let result = watch(job, seconds);
            match &result {
                Ok(runs) => println!("{target}: {runs} runs, nothing found"),
                Err(what) => println!("{target}: {what}"),
            }
            rows.lock().unwrap_or_else(PoisonError::into_inner).push((target, result));
        }
    };
    thread::scope(|scope| {
        for _ in 0..cores() {
            scope.spawn(work);
        }
    });
    let mut rows = rows.into_inner().unwrap_or_else(PoisonError::into_inner);
    rows.sort_by_key(|(target, _)| *target);
    println!("\n{:<28} {:>12}  result", "target", "runs");
    for (target, result) in &rows {
        let (runs, verdict) = result.as_ref().map_or(("", "FOUND"), |runs| (runs, "nothing found"));
        println!("{target:<28} {runs:>12}  {verdict}");
    }
    match rows.iter().filter(|(_, result)| result.is_err()).count() {
        0 => Ok(format!("{} targets, {seconds} s each, nothing found", rows.len())),
        found => Err(format!("{found} of {} fuzz targets found something; see above", rows.len())),
    }
}

/// Runs one target: how many inputs it tried, or what it found.
fn watch(Job { target, dir, binaries }: &Job, seconds: u64) -> Result<String> {
    let keep = |kind: &str| root().join(dir).join(kind).join(target);
    let output = run_target(&binaries.join(target), &keep("corpus"), &keep("artifacts"), seconds)?;
    let log = String::from_utf8_lossy(&output.stderr);
    if output.status.success() {
        return Ok(runs(&log).to_owned());
    }
    let artifact = log.lines().find_map(|line| line.split("Test unit written to ").nth(1));
    let artifact = artifact.map_or("no input was kept".into(), |path| {
        format!("input: {path}\nto repeat it: cargo +nightly fuzz run --fuzz-dir {dir} {target} {path}")
    });
    Err(format!("FOUND something ({})\n{}\n{artifact}", output.status, tail(&log)))
}

/// How many inputs libFuzzer says it tried.
fn runs(log: &str) -> &str {
    log.lines().find_map(|line| line.strip_prefix("stat::number_of_executed_units:")).map_or("?", str::trim)
}

fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(40)..].join("\n")
}
