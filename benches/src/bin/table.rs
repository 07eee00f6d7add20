//! Prints what the last benchmark run measured as one table, each figure beside its physical reference.
#![allow(clippy::print_stdout)]

use std::{
    collections::BTreeMap,
    error::Error,
    fs,
    path::{Path, PathBuf},
};

use serde::Deserialize;

const REFERENCE: &str = "reference: ";

#[derive(Deserialize)]
struct Benchmark {
    group_id: String,
    function_id: Option<String>,
    throughput: Option<Throughput>,
}

#[derive(Clone, Copy, Deserialize)]
enum Throughput {
    Bytes(u64),
    Elements(u64),
}

#[derive(Deserialize)]
struct Estimates {
    median: Estimate,
}

#[derive(Deserialize)]
struct Estimate {
    point_estimate: f64,
}

struct Row {
    name: String,
    nanoseconds: f64,
    throughput: Option<Throughput>,
}

fn main() -> Result<(), Box<dyn Error>> {
    let home =
        std::env::var_os("CRITERION_HOME").map_or_else(|| PathBuf::from("target/criterion"), PathBuf::from);
    let mut groups: BTreeMap<String, Vec<Row>> = BTreeMap::new();
    collect(&home, &mut groups)?;
    if groups.is_empty() {
        return Err(format!("{} holds no measurements: run `cargo xtask bench`", home.display()).into());
    }
    println!("{:<66} {:>12} {:>16} {:>8}", "", "time", "throughput", "ratio");
    for (group, rows) in &groups {
        let reference = rows.iter().find(|row| row.name.starts_with(REFERENCE));
        println!("{group}");
        for row in rows.iter().filter(|row| !row.name.starts_with(REFERENCE)).chain(reference) {
            let ratio =
                reference.map_or(String::new(), |r| format!("{:.2}", row.nanoseconds / r.nanoseconds));
            let (time, rate) = (time(row.nanoseconds), rate(row));
            println!("  {:<64} {time:>12} {rate:>16} {ratio:>8}", row.name);
        }
    }
    println!(
        "\nMedians of one run; the ratio is ours over the reference, measured in the same run: lower is better."
    );
    Ok(())
}

/// Reads every `new/estimates.json` below a directory.
fn collect(dir: &Path, groups: &mut BTreeMap<String, Vec<Row>>) -> Result<(), Box<dyn Error>> {
    if !dir.is_dir() {
        return Ok(());
    }
    let (estimates, benchmark) = (dir.join("new/estimates.json"), dir.join("new/benchmark.json"));
    if estimates.is_file() {
        let estimates: Estimates = serde_json::from_slice(&fs::read(estimates)?)?;
        let benchmark: Benchmark = serde_json::from_slice(&fs::read(benchmark)?)?;
        groups.entry(benchmark.group_id).or_default().push(Row {
            name: benchmark.function_id.unwrap_or_default(),
            nanoseconds: estimates.median.point_estimate,
            throughput: benchmark.throughput,
        });
        return Ok(());
    }
    let mut entries: Vec<_> =
        fs::read_dir(dir)?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<_>>()?;
    entries.sort();
    entries.iter().try_for_each(|entry| collect(entry, groups))
}

fn time(nanoseconds: f64) -> String {
    match nanoseconds {
        n if n < 1e3 => format!("{n:.1} ns"),
        n if n < 1e6 => format!("{:.2} µs", n / 1e3),
        n if n < 1e9 => format!("{:.2} ms", n / 1e6),
        n => format!("{:.2} s", n / 1e9),
    }
}

fn rate(row: &Row) -> String {
    let seconds = row.nanoseconds / 1e9;
    match row.throughput {
        Some(Throughput::Bytes(bytes)) => format!("{:.0} MB/s", bytes as f64 / seconds / 1e6),
        Some(Throughput::Elements(1)) | None => String::new(),
        Some(Throughput::Elements(n)) if n as f64 / seconds >= 1e6 => {
            format!("{:.2} M/s", n as f64 / seconds / 1e6)
        }
        Some(Throughput::Elements(n)) => format!("{:.1} k/s", n as f64 / seconds / 1e3),
    }
}
