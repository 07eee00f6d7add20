//! Acceptance tests against broken code: each test named in `docs/acceptance/` must fail under the mutants beside it.
//!
//! ```text
//! docs/acceptance/CRATE.md   | # | test | covers | mutant | what the mutant breaks |
//! docs/acceptance/PART.md    the same for a part of a crate, see PARTS
//! crates/CRATE/src           if mutants::on("mutant") { broken } else { right }        compiled under cfg(test) only
//! ```

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::shell::{Result, cargo, cores, output, root};

/// The environment variable that switches a mutant on.
const SWITCH: &str = "ICECORE_MUTANT";
/// A test that is not over by then hangs, which is a way to fail.
const LIMIT: Duration = Duration::from_secs(30);

/// Parts of crates that have a table of their own: the table's name, the crate, and the folder of its source.
const PARTS: &[(&str, &str, &str)] = &[("migrations", "catalog", "crates/catalog/src/migrations")];

/// What to check.
#[derive(clap::Args, Default)]
pub(crate) struct Args {
    /// Only these crates, without the common `icecore-`
    crates: Vec<String>,
}

/// The folders of all crates.
fn crate_folders() -> Result<Vec<PathBuf>> {
    let dir = root().join("crates");
    let entries = fs::read_dir(&dir).map_err(|e| format!("{}: {e}", dir.display()))?;
    Ok(entries.flatten().map(|entry| entry.path()).collect())
}

/// The mutants that sources have.
fn mutants_in(folder: &Path) -> Result<BTreeSet<String>> {
    let mut source = String::new();
    read_sources(folder, &mut source)?;
    let names = source.split("mutants::on(\"").skip(1).filter_map(|rest| rest.split('"').next());
    Ok(names.map(str::to_owned).collect())
}

/// A line of a table.
struct Row {
    test: String,
    mutants: Vec<String>,
}

/// A test binary with what its crate's table says of it.
struct Suite {
    name: String,
    /// The crate's folder, and that of the source with these mutants.
    home: PathBuf,
    source: PathBuf,
    binary: PathBuf,
    /// Full names of all its tests.
    tests: Vec<String>,
    rows: Vec<Row>,
}

/// Runs every test under its mutants; the answer says how many were caught.
pub(crate) fn check(args: &Args) -> Result<String> {
    let suites = suites(&args.crates)?;
    let mut problems = Vec::new();
    let mut jobs = Vec::new();
    for suite in &suites {
        problems.extend(suite.table_problems()?);
        suite.all_pass()?;
        for row in &suite.rows {
            jobs.extend(row.mutants.iter().map(|mutant| (suite, row, mutant)));
        }
    }
    let next = AtomicUsize::new(0);
    let missed = Mutex::new(Vec::new());
    let worker = || {
        while let Some((suite, row, mutant)) = jobs.get(next.fetch_add(1, Relaxed)) {
            let began = Instant::now();
            let outcome = suite.run(&suite.full_names(&row.test), Some(mutant));
            let caught = !matches!(outcome, Ok(Outcome::Passed));
            let how = match outcome {
                Ok(Outcome::Passed) => "MISSED".into(),
                Ok(Outcome::Failed) => "caught".into(),
                Ok(Outcome::Hung) => "caught: it hangs".into(),
                Err(e) => e,
            };
            let took = began.elapsed().as_secs_f64();
            println!("{:>9} {:<44} {:<44} {how} ({took:.1} s)", suite.name, row.test, mutant);
            if !caught {
                let mut missed = missed.lock().unwrap_or_else(PoisonError::into_inner);
                missed.push(format!("{}: `{}` passes under mutant `{mutant}`", suite.name, row.test));
            }
        }
    };
    thread::scope(|scope| (0..cores()).for_each(|_| drop(scope.spawn(worker))));
    problems.extend(missed.into_inner().unwrap_or_else(PoisonError::into_inner));
    let tests: usize = suites.iter().map(|suite| suite.rows.len()).sum();
    if problems.is_empty() {
        return Ok(format!("{tests} acceptance tests, {} mutants, all caught", jobs.len()));
    }
    Err(problems.join("\n"))
}

fn suites(chosen: &[String]) -> Result<Vec<Suite>> {
    let dir = root().join("docs/acceptance");
    let entries = fs::read_dir(&dir).map_err(|e| format!("{}: {e}", dir.display()))?;
    let mut tables: Vec<PathBuf> =
        entries.flatten().map(|e| e.path()).filter(|p| p.extension().is_some_and(|e| e == "md")).collect();
    tables.sort();
    let name = |path: &Path| path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    if let Some(unknown) = chosen.iter().find(|crate_| !tables.iter().any(|path| name(path) == **crate_)) {
        return Err(format!("docs/acceptance/{unknown}.md is not there"));
    }
    let tables = tables.iter().filter(|path| chosen.is_empty() || chosen.contains(&name(path)));
    tables.map(|path| Suite::build(name(path), path)).collect()
}

impl Suite {
    fn build(name: String, table: &Path) -> Result<Self> {
        let text = fs::read_to_string(table).map_err(|e| format!("{}: {e}", table.display()))?;
        let part = PARTS.iter().find(|(part, ..)| *part == name);
        let crate_ = part.map_or(name.as_str(), |(_, crate_, _)| crate_);
        let package = format!("icecore-{crate_}");
        let home = root().join("crates").join(crate_);
        let source = part.map_or(home.join("src"), |(.., source)| root().join(source));
        let args =
            ["test", "--package", &package, "--lib", "--all-features", "--no-run", "--message-format=json"];
        let messages = output(cargo().args(args))?;
        let binary = messages
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok())
            .filter(|message| message["target"]["name"] == package.replace('-', "_"))
            .find_map(|message| message["executable"].as_str().map(PathBuf::from))
            .ok_or_else(|| format!("{package} has no test binary"))?;
        let listed = output(Command::new(&binary).args(["--list", "--format=terse"]))?;
        let tests = listed.lines().filter_map(|line| Some(line.strip_suffix(": test")?.to_owned())).collect();
        let rows = text.lines().filter_map(row).collect();
        Ok(Suite { name, home, source, binary, tests, rows })
    }

    /// The full names of a test, which may stand in several modules, one for each thing it is run on.
    fn full_names(&self, test: &str) -> Vec<&str> {
        let is_it = |full: &&str| full.rsplit("::").next() == Some(test);
        self.tests.iter().map(String::as_str).filter(is_it).collect()
    }

    /// Tests that are not there, mutants that are in the code and in no table, and the other way round.
    fn table_problems(&self) -> Result<Vec<String>> {
        let mut problems = Vec::new();
        if self.rows.is_empty() {
            problems.push(format!("docs/acceptance/{}.md has no table", self.name));
        }
        for row in self.rows.iter().filter(|row| self.full_names(&row.test).is_empty()) {
            problems.push(format!("{}: there is no test `{}`", self.name, row.test));
        }
        let in_table: BTreeSet<String> =
            self.rows.iter().flat_map(|row| row.mutants.iter().cloned()).collect();
        let in_code = mutants_in(&self.source)?;
        let unlisted = in_code.difference(&in_table);
        // Tests of a crate may catch what is broken in one that it builds upon.
        let mut anywhere = in_code.clone();
        for folder in crate_folders()? {
            anywhere.extend(mutants_in(&folder.join("src"))?);
        }
        let gone = in_table.difference(&anywhere);
        problems.extend(unlisted.map(|m| format!("{}: mutant `{m}` is in no table", self.name)));
        problems.extend(gone.map(|m| format!("{}: mutant `{m}` is not in the code", self.name)));
        Ok(problems)
    }

    /// A test that fails on sound code proves nothing by failing on broken code.
    fn all_pass(&self) -> Result {
        let tests: Vec<&str> = self.rows.iter().flat_map(|row| self.full_names(&row.test)).collect();
        match self.run_within(&tests, None, 20 * LIMIT)? {
            Outcome::Passed => Ok(()),
            _ => {
                Err(format!("{}: acceptance tests fail without any mutant: run cargo xtask test", self.name))
            }
        }
    }

    fn run(&self, tests: &[&str], mutant: Option<&str>) -> Result<Outcome> {
        self.run_within(tests, mutant, LIMIT)
    }

    fn run_within(&self, tests: &[&str], mutant: Option<&str>, limit: Duration) -> Result<Outcome> {
        let mut command = Command::new(&self.binary);
        command.arg("--exact").args(tests).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.current_dir(&self.home);
        if let Some(mutant) = mutant {
            command.env(SWITCH, mutant);
        }
        let mut child = command.spawn().map_err(|e| format!("{}: {e}", self.binary.display()))?;
        let began = Instant::now();
        loop {
            match child.try_wait().map_err(|e| e.to_string())? {
                Some(status) if status.success() => return Ok(Outcome::Passed),
                Some(_) => return Ok(Outcome::Failed),
                None if began.elapsed() > limit => {
                    let killed = child.kill().and_then(|()| child.wait());
                    return killed.map(|_| Outcome::Hung).map_err(|e| e.to_string());
                }
                None => thread::sleep(Duration::from_millis(5)),
            }
        }
    }
}

enum Outcome {
    Passed,
    Failed,
    Hung,
}

fn read_sources(dir: &Path, source: &mut String) -> Result {
    for entry in fs::read_dir(dir).map_err(|e| format!("{}: {e}", dir.display()))?.flatten() {
        let path = entry.path();
        if PARTS.iter().any(|(.., part)| path == root().join(part)) {
            continue;
        }
        if path.is_dir() {
            read_sources(&path, source)?;
        } else {
            source.push_str(&fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?);
        }
    }
    Ok(())
}

/// The test and the mutants of a table's line; `None` for its head, and for any other line.
fn row(line: &str) -> Option<Row> {
    let cells: Vec<&str> = line.strip_prefix('|')?.split('|').map(str::trim).collect();
    let quoted = |cell: &str| -> Vec<String> { cell.split('`').skip(1).step_by(2).map(Into::into).collect() };
    let test = quoted(cells.get(1)?).pop()?;
    Some(Row { test, mutants: quoted(cells.get(3)?) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_a_table_are_read() {
        assert!(row("| # | test | covers | mutant | what |").is_none());
        assert!(row("|---|---|---|---|---|").is_none());
        assert!(row("some text").is_none());
        let found = row("| 3 | `closes_once` | R-1, R-2 | `twice`, `never` | it does |").unwrap();
        assert_eq!(
            (found.test.as_str(), found.mutants),
            ("closes_once", vec!["twice".into(), "never".into()])
        );
        assert!(row("| 3 | `closes_once` | R-1 | – | nothing to break |").unwrap().mutants.is_empty());
    }
}
