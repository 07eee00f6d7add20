//! How long our index takes to be built again out of sorted runs: the tool of the crate that owns the runs measures it.

use std::{fmt, path::PathBuf, process::Command};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    Any,
    report::{Progress, REPEATS},
    run::Runner,
    tables::{Table, digits},
};

const PACKAGE: &str = "icecore-txindex";
const EXAMPLE: &str = "rebuild_rate";
/// Runs, keys in each, and the seconds that the reference implementation takes with two cores.
const SHAPES: [(usize, usize, Option<f64>); 3] =
    [(20, 1_000_000, Some(1.55)), (200, 100_000, Some(2.0)), (1000, 20_000, None)];
const KEYS_PER_RUN: usize = 1_000_000;

/// What was measured, one shape after the other.
#[derive(Serialize)]
pub(crate) struct Rebuilds {
    shapes: Vec<(Rebuilt, Option<f64>)>,
}

/// What the tool says, as far as it is of use here.
#[derive(Serialize, Deserialize)]
struct Rebuilt {
    algorithm: String,
    runs: usize,
    keys: usize,
    seconds: f64,
    over_floor: f64,
    peak_bytes: u64,
}

impl Rebuilt {
    fn rate(&self) -> f64 {
        self.keys as f64 / self.seconds / 1e6
    }
}

impl Rebuilds {
    /// M keys/s over keys, where runs are of one size.
    pub(crate) fn points(&self) -> Vec<(f64, f64)> {
        let same = self.shapes.iter().filter(|(shape, _)| shape.keys == shape.runs * KEYS_PER_RUN);
        let mut points: Vec<(f64, f64)> = same.map(|(shape, _)| (shape.keys as f64, shape.rate())).collect();
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        points
    }
}

/// The root of the project's own workspace.
fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The tool, compiled with the flags that the project's programs are compiled with. None where there is no such tool.
fn tool(runner: &Runner) -> Any<Option<PathBuf>> {
    if !root().join("crates/txindex/examples").join(EXAMPLE).with_extension("rs").is_file() {
        return Ok(None);
    }
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(root()).env_remove("RUSTFLAGS");
    cargo.args(["build", "--release", "--package", PACKAGE, "--example", EXAMPLE]);
    let messages = runner.output(cargo.arg("--message-format=json-render-diagnostics"))?;
    let executable = messages.lines().find_map(|line| {
        let message: Value = serde_json::from_str(line).ok()?;
        let named = message.get("target")?.get("name")? == EXAMPLE;
        named.then(|| message.get("executable")?.as_str().map(PathBuf::from)).flatten()
    });
    Ok(Some(executable.ok_or("cargo did not say where the tool is")?))
}

/// Some shapes of twenty million keys, and runs of a million keys each in the given sizes.
pub(crate) fn measure(runner: &Runner, sizes: &[usize]) -> Any<Option<Rebuilds>> {
    let Some(tool) = tool(runner)? else { return Ok(None) };
    let workers = std::thread::available_parallelism()?.get();
    let sizes = sizes.iter().map(|keys| (keys / KEYS_PER_RUN, KEYS_PER_RUN, None));
    let shapes: Vec<_> = SHAPES.into_iter().chain(sizes).collect();
    let mut progress = Progress::new(shapes.len());
    let mut rebuilds = Rebuilds { shapes: Vec::new() };
    for (runs, keys, mark) in shapes {
        let what = format!("rebuild from {runs} runs of {keys} keys");
        let mut command = Command::new(&tool);
        command.arg("--json").arg("--dir").arg(runner.home()).args(["--repeats", &REPEATS.to_string()]);
        command.args([runs, keys, workers].map(|number| number.to_string()));
        match runner.output(&mut command) {
            Ok(answer) => {
                let rebuilt: Rebuilt = serde_json::from_str(&answer)?;
                progress.step(&what, &format!("{} M keys/s", digits(rebuilt.rate())));
                rebuilds.shapes.push((rebuilt, mark));
            }
            Err(e) => {
                progress.failed(runner, &what, e)?;
            }
        }
    }
    Ok(Some(rebuilds))
}

impl fmt::Display for Rebuilds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = Table::new(&[
            "runs × keys in each",
            "seconds",
            "M keys/s",
            "ns a key",
            "over its parts",
            "peak MB",
            "mark, s",
            "times better",
        ]);
        for (shape, mark) in &self.shapes {
            let or_none = |value: Option<f64>| value.map_or_else(|| "–".into(), digits);
            table.row(vec![
                format!("{} × {}, {}", shape.runs, shape.keys / shape.runs.max(1), shape.algorithm),
                digits(shape.seconds),
                digits(shape.rate()),
                digits(1e3 / shape.rate()),
                digits(shape.over_floor),
                digits(shape.peak_bytes as f64 / 1e6),
                or_none(*mark),
                or_none(mark.map(|mark| mark / shape.seconds)),
            ]);
        }
        write!(f, "{table}")
    }
}
