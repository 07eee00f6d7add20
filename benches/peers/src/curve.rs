//! Build rate against the number of keys: of what is built from keys in memory, and of our rebuild from runs.

use std::fmt;

use serde::Serialize;

use crate::{
    Any,
    contender::{Contender, Kind, Order},
    rebuild::{self, Rebuilds},
    report::{Progress, REPEATS},
    run::Runner,
    tables::{Table, digits},
};

/// Above this, once is enough.
const ONCE_KEYS: usize = 20_000_000;
const FIRST_KEYS: usize = 1_000_000;

/// Lines of M keys/s over numbers of keys.
#[derive(Serialize)]
pub(crate) struct Curve {
    pub(crate) lines: Vec<Line>,
    /// Of our default algorithm.
    pub(crate) rebuilds: Option<Rebuilds>,
}

#[derive(Serialize)]
pub(crate) struct Line {
    pub(crate) name: String,
    pub(crate) points: Vec<(f64, f64)>,
}

/// One and three times every power of ten.
fn sizes(most: usize) -> Vec<usize> {
    let steps = (0..8).flat_map(|power| [1, 3].map(|first| first * FIRST_KEYS * 10usize.pow(power)));
    steps.take_while(|&keys| keys <= most).collect()
}

/// Sorted keys, all cores. A structure that cannot be built of so many keys has no point there.
pub(crate) fn measure(runner: &mut Runner, chosen: &[&'static Contender], most: usize) -> Any<Curve> {
    let workers = std::thread::available_parallelism()?.get();
    let sizes = sizes(most);
    let lines = |contender: &&&'static Contender| matches!(contender.kind, Kind::Ours | Kind::Memory);
    let chosen: Vec<&'static Contender> = chosen.iter().filter(lines).copied().collect();
    let new_line = |contender: &&'static Contender| Line { name: contender.name.into(), points: Vec::new() };
    let mut lines: Vec<Line> = chosen.iter().map(new_line).collect();
    let mut progress = Progress::new(sizes.len() * chosen.len());
    for &keys in &sizes {
        let repeats = if keys > ONCE_KEYS { 1 } else { REPEATS };
        for (contender, line) in chosen.iter().zip(&mut lines) {
            let what = format!("build {}, {keys} keys", contender.name);
            let runs: Any<Vec<_>> = (0..repeats)
                .map(|_| runner.build(contender, keys, (Order::Sorted, workers), false))
                .collect();
            match runs {
                Ok(runs) => {
                    let seconds = runs.iter().map(|run| run.seconds).fold(f64::INFINITY, f64::min);
                    let rate = keys as f64 / seconds / 1e6;
                    progress.step(&what, &format!("{} M keys/s", digits(rate)));
                    line.points.push((keys as f64, rate));
                }
                Err(e) => {
                    progress.failed(runner, &what, e)?;
                }
            }
        }
    }
    let rebuilds = match rebuild::measure(runner, &sizes) {
        Ok(rebuilds) => rebuilds,
        Err(e) => {
            // All else is measured: it is not thrown away.
            progress.failed(runner, "rebuild from runs", e)?;
            None
        }
    };
    if let Some(rebuilds) = &rebuilds {
        lines.push(Line { name: "rebuild from runs".into(), points: rebuilds.points() });
    }
    Ok(Curve { lines, rebuilds })
}

impl fmt::Display for Curve {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut sizes: Vec<f64> =
            self.lines.iter().flat_map(|line| &line.points).map(|point| point.0).collect();
        sizes.sort_unstable_by(f64::total_cmp);
        sizes.dedup();
        let head = sizes.iter().map(|keys| format!("{} M", digits(keys / 1e6)));
        let head: Vec<String> = std::iter::once("M keys/s, all cores".to_owned()).chain(head).collect();
        let mut table = Table::new(&head.iter().map(String::as_str).collect::<Vec<_>>());
        for line in &self.lines {
            let rate = |keys: &f64| line.points.iter().find(|point| point.0 == *keys).map(|point| point.1);
            let cells = sizes.iter().map(|keys| rate(keys).map_or_else(|| "–".into(), digits));
            table.row(std::iter::once(line.name.clone()).chain(cells).collect());
        }
        write!(f, "{table}")?;
        match &self.rebuilds {
            None => Ok(()),
            Some(rebuilds) => write!(
                f,
                "\nRebuild of the index from sorted runs in files, page cache warm, all cores; its parts are reading the \n\
                 runs, and building the same index of keys that need not be read.\n\n{rebuilds}"
            ),
        }
    }
}
