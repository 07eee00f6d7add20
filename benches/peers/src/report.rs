//! The whole run: every measurement by turns, then one report on the terminal and, if asked, in files.

use std::{fmt::Write as _, fs, io::Write as _, path::Path, time::Instant};

use serde::Serialize;
use tempfile::NamedTempFile;

use crate::{
    Any, Args,
    contender::{ALL, Contender, Order},
    curve::{self, Curve},
    keys::CONTENT_BITS,
    machine::{Machine, versions},
    marks::{KEYS, MARKS},
    measure::{Build, Mode, Query, Timed},
    plots,
    run::Runner,
    tables::{Table, digits},
};

/// How often each build is measured, unless it takes long.
pub(crate) const REPEATS: usize = 3;
pub(crate) const LONG_SECONDS: f64 = 4.0;

/// What was measured of a contender.
#[derive(Serialize)]
pub(crate) struct Row {
    pub(crate) id: &'static str,
    pub(crate) name: &'static str,
    pub(crate) versions: String,
    pub(crate) keys: usize,
    #[serde(skip)]
    pub(crate) contender: &'static Contender,
    pub(crate) builds: Vec<Builds>,
    pub(crate) query: Option<Query>,
    /// Something went wrong, such as a wrong answer: nothing of it counts.
    pub(crate) failed: Option<String>,
}

/// The same build, several times.
#[derive(Serialize)]
pub(crate) struct Builds {
    pub(crate) order: Order,
    pub(crate) workers: usize,
    pub(crate) runs: Vec<Build>,
}

/// M keys/s.
pub(crate) struct Rate {
    pub(crate) best: f64,
    pub(crate) median: f64,
}

impl Row {
    fn runs(&self, order: Order, workers: usize) -> &[Build] {
        let builds = self.builds.iter().find(|builds| (builds.order, builds.workers) == (order, workers));
        builds.map_or(&[], |builds| &builds.runs)
    }

    fn rate_of(&self, seconds: impl Iterator<Item = f64>) -> Option<Rate> {
        let rate = |seconds: f64| self.keys as f64 / seconds / 1e6;
        let times = Timed::of(seconds.collect())?;
        Some(Rate { best: rate(times.best), median: rate(times.median) })
    }

    pub(crate) fn rate(&self, order: Order, workers: usize) -> Option<Rate> {
        self.rate_of(self.runs(order, workers).iter().map(|run| run.seconds))
    }

    /// Of the function alone, sorted.
    pub(crate) fn function_rate(&self, workers: usize) -> Option<Rate> {
        let runs = self.runs(Order::Sorted, workers).iter();
        self.rate_of(runs.filter_map(|run| Some(run.function?.0)))
    }

    pub(crate) fn time(&self, mode: Mode) -> Option<Timed> {
        self.query.as_ref()?.times.get(&mode).copied()
    }

    pub(crate) fn bits_per_key(&self) -> Option<f64> {
        Some(8.0 * self.query.as_ref()?.bytes as f64 / self.keys as f64)
    }

    fn function_bits_per_key(&self) -> Option<f64> {
        Some(8.0 * self.query.as_ref()?.function_bytes? as f64 / self.keys as f64)
    }

    /// The least of the runs' peaks: what it needs.
    fn peak_megabytes(&self, order: Order, workers: usize) -> Option<f64> {
        let peaks = self.runs(order, workers).iter().filter_map(|run| run.peak_bytes);
        Some(peaks.min()? as f64 / 1e6)
    }
}

/// All that a run found.
#[derive(Serialize)]
pub(crate) struct Report {
    pub(crate) machine: Machine,
    pub(crate) keys: usize,
    pub(crate) rows: Vec<Row>,
    pub(crate) curve: Option<Curve>,
}

/// Measures everything that was asked for and reports it.
pub(crate) fn all(args: &Args) -> Any {
    let machine = Machine::here();
    if let Some(warning) = machine.warning() {
        eprintln!("warning: {warning}");
    }
    let only = |contender: &&Contender| {
        args.only.is_empty() || args.only.iter().any(|name| contender.id.starts_with(name.as_str()))
    };
    let chosen: Vec<&'static Contender> = ALL.iter().filter(only).collect();
    if chosen.is_empty() {
        let ids: Vec<_> = ALL.iter().map(|contender| contender.id).collect();
        return Err(format!("--only names none of {}", ids.join(", ")).into());
    }
    let mut runner = Runner::new()?;
    let rows = measure(&mut runner, &chosen, args.keys)?;
    let curve = args.curve.map(|most| curve::measure(&mut runner, &chosen, most)).transpose()?;
    let report = Report { machine, keys: args.keys, rows, curve };
    let text = report.text();
    println!("{text}");
    if let Some(out) = &args.out {
        report.write(out, &text)?;
    }
    let failed: Vec<&str> = report.failures().map(|(row, _)| row.name).collect();
    if failed.is_empty() { Ok(()) } else { Err(format!("failed: {}", failed.join(", ")).into()) }
}

/// Every build by turns, several times, then the queries. What fails once is left out from then on.
fn measure(runner: &mut Runner, chosen: &[&'static Contender], keys: usize) -> Any<Vec<Row>> {
    let builds = chosen.iter().map(|contender| contender.kind.builds().len()).sum::<usize>();
    let mut progress = Progress::new(REPEATS * builds + chosen.len());
    let mut rows: Vec<Row> = chosen.iter().map(|contender| empty_row(contender, keys)).collect();
    for repeat in 0..REPEATS {
        for row in &mut rows {
            for builds in &mut row.builds {
                let what = format!("build {}, {:?}, {} workers", row.name, builds.order, builds.workers);
                let long = builds.runs.iter().any(|run| run.seconds > LONG_SECONDS);
                if row.failed.is_some() || long {
                    progress.step(&what, if long { "long enough the first time" } else { "left out" });
                    continue;
                }
                let how = (builds.order, builds.workers);
                match runner.build(row.contender, keys, how, repeat == 0) {
                    Ok(run) => {
                        progress
                            .step(&what, &format!("{} M keys/s", digits(keys as f64 / run.seconds / 1e6)));
                        builds.runs.push(run);
                    }
                    Err(e) => row.failed = Some(progress.failed(runner, &what, e)?),
                }
            }
        }
    }
    for row in &mut rows {
        let what = format!("query {}", row.name);
        if row.failed.is_some() {
            progress.step(&what, "left out");
            continue;
        }
        match runner.query(row.contender, keys) {
            Ok(query) => {
                let time = query.times.get(&Mode::Loop).map_or(f64::NAN, |time| time.best);
                progress.step(&what, &format!("{} ns", digits(time)));
                row.query = Some(query);
            }
            Err(e) => row.failed = Some(progress.failed(runner, &what, e)?),
        }
    }
    Ok(rows)
}

pub(crate) fn empty_row(contender: &'static Contender, keys: usize) -> Row {
    let builds = contender.kind.builds().iter();
    Row {
        id: contender.id,
        name: contender.name,
        versions: versions(contender.packages),
        keys,
        contender,
        builds: builds.map(|&(order, workers)| Builds { order, workers, runs: Vec::new() }).collect(),
        query: None,
        failed: None,
    }
}

/// Says how far the run has come.
pub(crate) struct Progress {
    start: Instant,
    done: usize,
    steps: usize,
}

impl Progress {
    pub(crate) fn new(steps: usize) -> Self {
        Progress { start: Instant::now(), done: 0, steps }
    }

    pub(crate) fn step(&mut self, what: &str, found: &str) {
        self.done += 1;
        let seconds = self.start.elapsed().as_secs();
        eprintln!("{seconds:>5} s  {:>3} of {}  {what}: {found}", self.done, self.steps);
    }
}

impl Progress {
    /// Goes on after a failure, unless someone asked to stop.
    pub(crate) fn failed(
        &mut self,
        runner: &Runner,
        what: &str,
        error: Box<dyn std::error::Error + Send + Sync>,
    ) -> Any<String> {
        if runner.is_stopped() {
            return Err(error);
        }
        let message = error.to_string();
        self.step(what, &format!("FAILED: {message}"));
        Ok(message)
    }
}

fn rate(rate: Option<Rate>) -> String {
    rate.map_or_else(|| "–".into(), |rate| format!("{} / {}", digits(rate.best), digits(rate.median)))
}

fn figure(value: Option<f64>) -> String {
    value.map_or_else(|| "–".into(), digits)
}

impl Report {
    fn failures(&self) -> impl Iterator<Item = (&Row, &str)> {
        self.rows.iter().filter_map(|row| Some((row, row.failed.as_deref()?)))
    }

    fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = self.compose(&mut text);
        text
    }

    fn compose(&self, text: &mut String) -> std::fmt::Result {
        let machine = &self.machine;
        writeln!(text, "# The index beside its peers\n")?;
        writeln!(
            text,
            "Made by `cargo xtask bench index`, not by hand. {} keys of 16 uniform bytes",
            self.keys
        )?;
        writeln!(
            text,
            "(SplitMix64), each with a payload of 3 bytes; structures that do not keep the key keep a"
        )?;
        writeln!(
            text,
            "fingerprint of 1 byte: {CONTENT_BITS} bits of content. Every key is answered right before"
        )?;
        writeln!(text, "anything counts.\n")?;
        writeln!(text, "* Machine: {}, {:.0} GiB of memory", machine.line(), machine.memory_gib)?;
        writeln!(text, "* Transparent huge pages: {}", machine.huge_pages)?;
        writeln!(text, "* Flags of the compiler, for all: `{}`", machine.compiler_flags)?;
        if let Some(load) = machine.load {
            writeln!(text, "* Load average at the start: {load:.2}")?;
        }
        if let Some(warning) = machine.warning() {
            writeln!(text, "* **Warning**: {warning}")?;
        }
        for (row, failure) in self.failures() {
            writeln!(text, "* **Failed**: {failure} ({})", row.id)?;
        }
        writeln!(text, "\n## Size and build\n")?;
        writeln!(
            text,
            "M keys/s of the whole job, best / median; peak memory above the keys, in MB (files that a"
        )?;
        writeln!(text, "store maps count as far as they are resident). What the job is, see below.\n")?;
        writeln!(text, "{}", self.builds())?;
        writeln!(text, "## Queries\n")?;
        writeln!(
            text,
            "Nanoseconds a key, best / median, and in brackets the best over what the same pattern of"
        )?;
        writeln!(
            text,
            "access takes with one random read of a table of 4 bytes a key, in the same process, by turns."
        )?;
        writeln!(
            text,
            "Loop: independent keys, one by one. Latency: the next key depends on the last answer. Miss:"
        )?;
        writeln!(
            text,
            "keys that are not there, one by one; false positives are those that pass for members.\n"
        )?;
        writeln!(text, "{}", self.queries())?;
        let functions = self.functions();
        if !functions.is_empty() {
            writeln!(text, "## Functions alone\n")?;
            writeln!(text, "What the peers' own figures are about: neither payload nor fingerprint.\n")?;
            writeln!(text, "{functions}")?;
        }
        let marks = self.marks();
        if !marks.is_empty() {
            writeln!(text, "## Against the marks\n")?;
            writeln!(
                text,
                "What was reached on this class of machine before, with {KEYS} keys, and what the index"
            )?;
            writeln!(text, "aims at. More than 1 is better.")?;
            if self.keys != KEYS {
                writeln!(text, "**This run has {} keys: no comparison.**", self.keys)?;
            }
            writeln!(text, "\n{marks}")?;
        }
        if let Some(curve) = &self.curve {
            writeln!(text, "## Build against the number of keys\n\n{curve}")?;
        }
        writeln!(text, "## What the job is\n")?;
        for row in &self.rows {
            writeln!(text, "* **{}** ({}): {}", row.name, row.versions, row.contender.job)?;
        }
        Ok(())
    }

    fn builds(&self) -> Table {
        let mut table = Table::new(&[
            "structure",
            "bits/key",
            "sorted, 1 worker",
            "sorted, 2",
            "unsorted, 1",
            "unsorted, 2",
            "peak MB, sorted, 1",
            "2",
            "unsorted, 2",
        ]);
        for row in &self.rows {
            let mut cells = vec![row.name.into(), figure(row.bits_per_key())];
            for (order, workers) in
                [(Order::Sorted, 1), (Order::Sorted, 2), (Order::Unsorted, 1), (Order::Unsorted, 2)]
            {
                cells.push(rate(row.rate(order, workers)));
            }
            for (order, workers) in [(Order::Sorted, 1), (Order::Sorted, 2), (Order::Unsorted, 2)] {
                cells.push(figure(row.peak_megabytes(order, workers)));
            }
            table.row(cells);
        }
        table
    }

    fn queries(&self) -> Table {
        let head = ["structure", "loop", "batched", "streamed", "latency", "miss", "false positives"];
        let mut table = Table::new(&head);
        let cell = |row: &Row, mode, floor| {
            let Some((time, floor)) = row.time(mode).zip(row.time(floor)) else { return "–".to_owned() };
            format!("{} / {} ({:.2})", digits(time.best), digits(time.median), time.best / floor.best)
        };
        for row in &self.rows {
            let wrong = row.query.as_ref().map(|query| query.false_positives);
            table.row(vec![
                row.name.into(),
                cell(row, Mode::Loop, Mode::OneLoop),
                cell(row, Mode::Batch, Mode::OneBatch),
                cell(row, Mode::Stream, Mode::OneBatch),
                cell(row, Mode::Latency, Mode::OneLatency),
                cell(row, Mode::Miss, Mode::OneLoop),
                match wrong {
                    None => "–".into(),
                    Some(0.0) => "0".into(),
                    Some(wrong) => format!("1 in {:.0}", 1.0 / wrong),
                },
            ]);
        }
        let one = self.floor([Mode::OneLoop, Mode::OneBatch, Mode::OneLatency]);
        let two = self.floor([Mode::TwoLoop, Mode::TwoBatch, Mode::TwoLatency]);
        for (name, times) in [("floor: one access", &one), ("floor: two, 2 bits a key first", &two)] {
            let [looped, batched, latency] = times;
            let cell = |time: &Option<Timed>, floor: &Option<Timed>| match time.zip(*floor) {
                Some((time, floor)) => {
                    format!("{} / {} ({:.2})", digits(time.best), digits(time.median), time.best / floor.best)
                }
                None => "–".to_owned(),
            };
            table.row(vec![
                name.into(),
                cell(looped, &one[0]),
                cell(batched, &one[1]),
                "–".into(),
                cell(latency, &one[2]),
                "–".into(),
                "–".into(),
            ]);
        }
        table
    }

    /// A floor over all processes: the best of the bests, the median of the medians.
    pub(crate) fn floor(&self, modes: [Mode; 3]) -> [Option<Timed>; 3] {
        modes.map(|mode| {
            let times: Vec<Timed> = self.rows.iter().filter_map(|row| row.time(mode)).collect();
            let best = Timed::of(times.iter().map(|time| time.best).collect())?.best;
            let median = Timed::of(times.iter().map(|time| time.median).collect())?.median;
            Some(Timed { best, median })
        })
    }

    fn functions(&self) -> Table {
        let head = ["function", "bits/key", "1 worker, M keys/s", "2 workers", "loop, ns", "batched"];
        let mut table = Table::new(&head);
        let time = |time: Option<Timed>| {
            time.map_or_else(|| "–".into(), |time| format!("{} / {}", digits(time.best), digits(time.median)))
        };
        for row in self.rows.iter().filter(|row| row.function_bits_per_key().is_some()) {
            table.row(vec![
                row.name.into(),
                figure(row.function_bits_per_key()),
                rate(row.function_rate(1)),
                rate(row.function_rate(2)),
                time(row.time(Mode::Numbers)),
                time(row.time(Mode::NumbersBatch)),
            ]);
        }
        table
    }

    fn marks(&self) -> Table {
        let mut table = Table::new(&["structure, figure", "measured", "mark", "times better", "whose mark"]);
        for mark in MARKS {
            let Some(row) = self.rows.iter().find(|row| row.id == mark.id) else { continue };
            let Some(value) = mark.figure.of(row) else { continue };
            table.row(vec![
                format!("{}: {}", row.name, mark.figure.name()),
                digits(value),
                digits(mark.value),
                format!("{:.2}", mark.figure.better(value, mark.value)),
                mark.whose.into(),
            ]);
        }
        table
    }

    /// All files at the end: each is whole or not there.
    fn write(&self, out: &Path, text: &str) -> Any {
        fs::create_dir_all(out)?;
        let mut page = text.to_owned();
        page.push_str("\n![Size against query time](index-size-query.svg)\n");
        if let Some(curve) = &self.curve {
            page.push_str("\n![Build rate against the number of keys](index-build.svg)\n");
            replace(&out.join("index-build.svg"), &plots::build(curve, &self.machine))?;
        }
        replace(&out.join("index-size-query.svg"), &plots::size_query(self))?;
        replace(&out.join("index.json"), &(serde_json::to_string_pretty(self)? + "\n"))?;
        replace(&out.join("index.md"), &page)?;
        eprintln!("wrote index.md, index.json and the plots into {}", out.display());
        Ok(())
    }
}

fn replace(path: &Path, text: &str) -> Any {
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut file = NamedTempFile::new_in(folder)?;
    file.write_all(text.as_bytes())?;
    // A temporary file is its owner's alone; what replaces a file of a checkout is not.
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        file.as_file().set_permissions(fs::Permissions::from_mode(0o644))?;
    }
    file.persist(path)?;
    Ok(())
}
