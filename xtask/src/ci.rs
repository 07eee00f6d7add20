//! All checks in a row: what fails fastest comes first.

use std::time::{Duration, Instant};

use crate::{
    formats, fuzz, layers, loom, mutants, preflight,
    shell::{Result, cargo, run},
    test, tools,
};

/// A check, and the command that repeats it alone.
struct Step {
    name: &'static str,
    command: &'static str,
    run: fn() -> Result<String>,
}

const STEPS: &[Step] = &[
    Step { name: "format", command: "cargo fmt --all --check", run: || done(format_check()) },
    Step { name: "layers", command: "cargo xtask layers", run: || done(layers::check()) },
    Step { name: "migrations", command: "cargo xtask migrations", run: preflight::ci },
    Step {
        name: "lints",
        command: "cargo clippy --workspace --all-targets --all-features -- -D warnings",
        run: || done(lints()),
    },
    Step {
        name: "docs",
        command: "RUSTDOCFLAGS=\"-D warnings\" cargo doc --workspace --no-deps --all-features",
        run: || done(docs()),
    },
    Step { name: "formats", command: "cargo xtask formats", run: || done(formats::check(None)) },
    Step { name: "tests", command: "cargo xtask test", run: || done(test(&[])) },
    Step {
        name: "mutants",
        command: "cargo xtask mutants",
        run: || mutants::check(&mutants::Args::default()),
    },
    Step { name: "loom", command: "cargo xtask loom", run: || done(loom::check()) },
    Step { name: "fuzz", command: "cargo xtask fuzz --smoke", run: fuzz::smoke },
];

fn done(result: Result) -> Result<String> {
    result.map(|()| "passed".into())
}

/// Runs every step up to the first failure, then says how long each took.
pub(crate) fn run_all() -> Result {
    tools::require(tools::BUILD)?;
    let mut table: Vec<(&str, String, Duration)> = Vec::new();
    let mut failure = None;
    for (number, step) in STEPS.iter().enumerate() {
        println!("\n=== {} ({} of {}) ===", step.name, number + 1, STEPS.len());
        let start = Instant::now();
        let result = (step.run)();
        let took = start.elapsed();
        match result {
            Ok(outcome) => table.push((step.name, outcome, took)),
            Err(message) => {
                table.push((step.name, "FAILED".into(), took));
                failure = Some(format!(
                    "{message}\n\n{} failed. To repeat it alone:\n    {}",
                    step.name, step.command
                ));
                break;
            }
        }
    }
    println!("\n=== summary ===");
    for (name, outcome, took) in &table {
        println!("{name:>10} {:>7.1} s  {outcome}", took.as_secs_f64());
    }
    for step in &STEPS[table.len()..] {
        println!("{:>10}            not run", step.name);
    }
    let total: Duration = table.iter().map(|(.., took)| *took).sum();
    println!("     total {:>7.1} s", total.as_secs_f64());
    failure.map_or(Ok(()), Err)
}

fn format_check() -> Result {
    run(cargo().args(["fmt", "--all", "--check"]))
}

fn lints() -> Result {
    let args = ["clippy", "--workspace", "--all-targets", "--all-features", "--", "-D", "warnings"];
    run(cargo().args(args))
}

fn docs() -> Result {
    run(cargo()
        .args(["doc", "--workspace", "--no-deps", "--all-features"])
        .env("RUSTDOCFLAGS", "-D warnings"))
}
