//! The index beside its peers: the same job for all of them, with the same keys, in the same run.
//!
//! The job: 16-byte uniform keys, each with a payload of three bytes and, where the structure does not keep the key, a
//! fingerprint of one. Every measurement has a process of its own, which first checks that every key is answered right.
#![allow(clippy::print_stdout, clippy::print_stderr)]

mod contender;
mod curve;
mod floor;
mod keys;
mod machine;
mod marks;
mod measure;
mod mphf;
mod ours;
mod peers;
mod plots;
mod prefetch;
mod rebuild;
mod report;
mod run;
mod stores;
mod svg;
mod tables;
mod vfunc;

use std::{path::PathBuf, process::ExitCode};

use clap::Parser;

use measure::Task;

/// What can go wrong goes to a person.
pub(crate) type Any<T = ()> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Measures our index and its peers with the same keys, and prints one report.
#[derive(Parser)]
#[command(name = "cargo xtask bench index", bin_name = "cargo xtask bench index")]
pub(crate) struct Args {
    /// How many keys; 100000 for a quick look
    #[arg(default_value = "10_000_000", value_parser = count)]
    keys: usize,
    /// Also measure builds of 1 million keys and more, up to so many, and the rebuild of our index from sorted runs
    #[arg(long, value_name = "KEYS", num_args = 0..=1, default_missing_value = "100_000_000", value_parser = count)]
    curve: Option<usize>,
    /// Only what has one of these names or begins with one
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    only: Vec<String>,
    /// Write the report, its figures as JSON, and the plots into this folder
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
    /// Do one task, as this program asks of itself
    #[arg(long, hide = true)]
    task: Option<String>,
}

/// A number of keys, underscores allowed.
fn count(text: &str) -> Result<usize, String> {
    let count = text.replace('_', "").parse().map_err(|e| format!("{text}: {e}"))?;
    // Fewer say nothing about any of them.
    if count < 1000 { Err("at least 1000 keys".into()) } else { Ok(count) }
}

fn main() -> ExitCode {
    let args = Args::parse();
    let done = match &args.task {
        Some(task) => perform(task),
        None => report::all(&args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("error: {e}");
            ExitCode::FAILURE
        }
    }
}

/// Does one task, and prints what it found.
fn perform(task: &str) -> Any {
    let task: Task = serde_json::from_str(task)?;
    rayon::ThreadPoolBuilder::new().num_threads(task.workers).build_global()?;
    let outcome = (contender::named(&task.contender)?.run)(&task)?;
    println!("{}", serde_json::to_string(&outcome)?);
    Ok(())
}
