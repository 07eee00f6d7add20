//! Project tasks, one command each: `cargo xtask --help`.
#![allow(clippy::print_stdout, clippy::print_stderr)]

mod ci;
mod formats;
mod fuzz;
mod layers;
mod loom;
mod mutants;
mod preflight;
mod seeds;
mod shell;
mod tools;

use std::{path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};

use shell::{Result, cargo, run};

/// What a contributor does with this project, one command each.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Show what icecore does, from nothing, in a temporary folder
    Demo {
        /// Arguments for `icecore demo`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Run every unit, integration and documentation test
    Test {
        /// Arguments for `cargo test`, such as a part of a test's name
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Run all that must pass before a change is merged; stops at the first failure
    Ci,
    /// Write every golden file again, by every build path, and compare the digests
    Formats {
        /// A file of cases, one JSON object a line, in place of the project's own
        #[arg(long, value_name = "FILE")]
        cases: Option<PathBuf>,
    },
    /// Check that crates depend on nothing but what the map of crates allows, and print the map
    Layers,
    /// Check that whatever changes stored data runs in the background or says what it costs (exit status 1 where not)
    Migrations(preflight::Args),
    /// Cut every operation of the engine short at each of its durable steps, in every way, and count the cases (minutes)
    Matrix,
    /// Run each acceptance test against the broken variants it must catch
    Mutants(mutants::Args),
    /// Check the hand-written handshakes between threads against every interleaving (loom)
    Loom,
    /// Fuzz the harnesses under AddressSanitizer (needs a nightly toolchain)
    Fuzz(fuzz::Args),
    /// Measure, and print a table. `bench hot`, `bench batcher` and `bench utxo` run the tool of that part, `bench engine NAME`
    /// one of the engine's (reads_beside, replay, many_chunks), `bench index` puts the index beside its peers, which it
    /// compiles first (RocksDB among them), `bench index limits` beside what this machine can do at most; anything else goes
    /// to the benchmarks of the `icecore-benches` package
    Bench {
        /// A part and arguments for its tool (--help lists them), or arguments for the benchmarks, such as a part of a name
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
}

fn main() -> ExitCode {
    let task = Cli::parse().task;
    if let Task::Migrations(args) = &task {
        return preflight::main(args);
    }
    match perform(task) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("error: {message}");
            ExitCode::FAILURE
        }
    }
}

fn perform(task: Task) -> Result {
    match task {
        Task::Demo { args } => demo(&args),
        Task::Test { args } => test(&args),
        Task::Ci => ci::run_all(),
        Task::Formats { cases } => formats::check(cases.as_deref()),
        Task::Layers => layers::check(),
        Task::Migrations(_) => preflight::ci().map(drop),
        Task::Matrix => matrix(),
        Task::Mutants(args) => mutants::check(&args).map(|outcome| println!("{outcome}")),
        Task::Loom => loom::check(),
        Task::Fuzz(args) => fuzz::fuzz(&args).map(|outcome| println!("{outcome}")),
        Task::Bench { args } => bench(&args),
    }
}

fn matrix() -> Result {
    tools::require(tools::BUILD)?;
    let all = ["test", "--package", "icecore-engine", "--lib", "crash_matrix", "--", "--nocapture"];
    run(cargo().args(all).env("ICECORE_MATRIX", "1"))
}

fn demo(args: &[String]) -> Result {
    tools::require(tools::BUILD)?;
    run(cargo().args(["run", "--package", "icecore-cli", "--bin", "icecore", "--", "demo"]).args(args))
}

/// All features, so that the tests call the fuzzing harnesses too.
fn test(args: &[String]) -> Result {
    tools::require(tools::BUILD)?;
    run(cargo().args(["test", "--workspace", "--exclude", "icecore-benches", "--all-features"]).args(args))
}

/// Removes the `new` folder of every benchmark below a folder.
fn forget_last_run(dir: &std::path::Path) -> std::io::Result<()> {
    if !dir.is_dir() {
        return Ok(());
    }
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        if path.ends_with("new") {
            std::fs::remove_dir_all(path)?;
        } else {
            forget_last_run(&path)?;
        }
    }
    Ok(())
}

/// The measuring tools that are programs of their own: a part, and what cargo runs for it.
const BENCH_TOOLS: &[(&str, &[&str])] = &[
    ("hot", &["--package", "icecore-hotchunk", "--example", "commit_chunk", "--"]),
    ("batcher", &["--package", "icecore-batcher", "--example", "throughput", "--"]),
    ("utxo", &["--package", "icecore-cli", "--bin", "icecore", "--", "utxo", "bench"]),
    // Its first argument is the demonstration: `reads_beside`, `replay` or `many_chunks`.
    ("engine", &["--package", "icecore-engine", "--example"]),
    // Before the other one of its first word. It needs no peers.
    ("index limits", &["--package", "icecore-txindex", "--example", "limits", "--"]),
    (PEERS, &["--manifest-path", "benches/peers/Cargo.toml", "--"]),
];
/// The tool with programs of others in it, some of which choose their instructions when they are compiled.
const PEERS: &str = "index";

fn bench(args: &[String]) -> Result {
    tools::require(tools::BUILD)?;
    let is_called = |name: &str| {
        name.split(' ').enumerate().all(|(at, word)| args.get(at).is_some_and(|arg| arg == word))
    };
    if let Some((part, tool)) = BENCH_TOOLS.iter().find(|(name, _)| is_called(name)) {
        let args = &args[part.split(' ').count()..];
        let mut command = cargo();
        if *part == PEERS && std::env::var_os("RUSTFLAGS").is_none() {
            command.env("RUSTFLAGS", "-C target-cpu=native");
        }
        return run(command.args(["run", "--release"]).args(*tool).args(args));
    }
    // The table shows this run's figures only, wherever the programs themselves are built; saved baselines stay.
    let home = shell::root().join("target/criterion");
    forget_last_run(&home).map_err(|e| format!("{}: {e}", home.display()))?;
    let measured = |command: &mut std::process::Command| run(command.env("CRITERION_HOME", &home));
    measured(cargo().args(["bench", "--package", "icecore-benches", "--"]).args(args))?;
    measured(cargo().args(["run", "--release", "--package", "icecore-benches", "--bin", "table"]))
}
