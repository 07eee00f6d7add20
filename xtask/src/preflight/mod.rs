//! The gate before a migration is merged: whoever changes stored data or its shape does it in the background, or says what
//! it costs. The rules it checks are in `docs/migrations.md`.

mod lexer;
mod scan;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    ops::Range,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use scan::Place;

use crate::shell::{Result, output, root};

/// What is looked at: a diff, files, or with neither all migration modules as they are.
#[derive(clap::Args, Default)]
pub(crate) struct Args {
    /// Look at the lines that are new since this commit
    #[arg(long, value_name = "COMMIT", conflicts_with = "files")]
    base: Option<String>,
    /// … up to this one
    #[arg(long, value_name = "COMMIT", default_value = "HEAD", requires = "base")]
    head: String,
    /// The change's description, in place of the messages of its commits
    #[arg(long, value_name = "FILE")]
    description: Option<PathBuf>,
    /// Look at these files whole
    files: Vec<PathBuf>,
}

/// The runner with its helper, which is not itself a migration; what lies in `OWN` below it is.
const MACHINERY: &str = "crates/catalog/src/migrations/";
const OWN: &str = "crates/catalog/src/migrations/own/";
/// Modules that define what is stored, beside those in folders named so.
const SCHEMA: &[&str] = &["crates/catalog/src/load.rs", "crates/catalog/src/pins.rs"];
/// Samples for this gate's own tests.
const FIXTURES: &str = "tests/fixtures/migrations-gate/";

const WAYS: &str = "    Three ways to go on (docs/migrations.md):
      A  run it in the background: runner.schedule(NAME, |ctx| …), in chunks with backfill(…)
      B  it is cheap: on the line directly above, // migration: cheap reason=\"what bounds it\"
      C  it was measured: in the change's description, MIGRATION-SCALE: <30s N=rows where it was measured";

/// The lines of a file that are looked at; `None` for all.
type Lines = Option<Vec<Range<usize>>>;

/// Looks, and answers with the exit status: 0 clean, 1 for violations, 2 when it could not look.
pub(crate) fn main(args: &Args) -> ExitCode {
    match check(&root(), args) {
        Ok(Report { violations, files }) if violations.is_empty() => {
            println!(
                "{files} files looked at: every change of stored data says how it runs, or what it costs"
            );
            ExitCode::SUCCESS
        }
        Ok(Report { violations, .. }) => {
            println!("{}\n{WAYS}", violations.join("\n"));
            ExitCode::from(1)
        }
        Err(message) => {
            eprintln!("error: {message}");
            ExitCode::from(2)
        }
    }
}

/// For a run of all checks.
pub(crate) fn ci() -> Result<String> {
    let report = check(&root(), &Args::default())?;
    if report.violations.is_empty() {
        return Ok(format!("{} files", report.files));
    }
    Err(format!("{}\n{WAYS}", report.violations.join("\n")))
}

struct Report {
    violations: Vec<String>,
    files: usize,
}

fn check(root: &Path, args: &Args) -> Result<Report> {
    let mut description = String::new();
    if let Some(file) = &args.description {
        description = read(file)?;
    }
    let mut files: BTreeMap<String, (String, Lines)> = BTreeMap::new();
    if let Some(base) = &args.base {
        let head = &args.head;
        if args.description.is_none() {
            description = git(root, &["log", "--format=%B", &format!("{base}..{head}")])?;
        }
        let range = format!("{base}...{head}");
        let diff = git(root, &["diff", "--unified=0", "--no-color", "--no-ext-diff", &range])?;
        for (path, lines) in added_lines(&diff).into_iter().filter(|(path, _)| is_looked_at(path)) {
            let text = git(root, &["show", &format!("{head}:{path}")])?;
            files.insert(path, (text, Some(lines)));
        }
    } else if args.files.is_empty() {
        let listed = git(root, &["ls-files", "--cached", "--others", "--exclude-standard"])?;
        for path in listed.lines().filter(|path| is_looked_at(path) && root.join(path).is_file()) {
            files.insert(path.to_owned(), (read(&root.join(path))?, None));
        }
    } else {
        for path in &args.files {
            files.insert(path.display().to_string(), (read(path)?, None));
        }
    }
    let scaled = has_scale_line(&description);
    let violations =
        files.iter().flat_map(|(path, (text, lines))| violations(path, text, lines.as_deref(), scaled));
    Ok(Report { violations: violations.collect(), files: files.len() })
}

fn is_looked_at(path: &str) -> bool {
    let source = path.ends_with(".rs") || path.ends_with(".sql");
    let machinery = path.starts_with(MACHINERY) && !path.starts_with(OWN);
    source && !machinery && !path.contains(FIXTURES)
}

fn is_migration(path: &str) -> bool {
    let folder =
        path.split('/').rev().skip(1).any(|folder| folder == "migrations" || folder == "migrations-gate");
    folder || SCHEMA.contains(&path)
}

/// What is wrong with the lines of a file that are looked at.
fn violations(path: &str, text: &str, lines: Option<&[Range<usize>]>, scaled: bool) -> Vec<String> {
    let scan = if path.ends_with(".sql") { scan::sql(text) } else { scan::rust(text, is_migration(path)) };
    let mut found = Vec::new();
    for hit in &scan.hits {
        let is_new = |lines: &[Range<usize>]| {
            lines.iter().any(|new| new.start < hit.lines.end && hit.lines.start < new.end)
        };
        if !lines.is_none_or(is_new) {
            continue;
        }
        let comment = scan.comment_above(hit.starts);
        let why = match (hit.place, comment.and_then(|comment| comment.strip_prefix("migration: cheap"))) {
            (Place::Async, _) => continue,
            (Place::AsyncWhole, _) => {
                "one step over any number of rows holds up every live write: cut it with backfill(…), or say write_long(…)"
            }
            (Place::Bare, _) if scaled => continue,
            (Place::Bare, Some(reason)) if is_specific(reason) => continue,
            (Place::Bare, Some(_)) => "the reason why it is cheap says nothing",
            (Place::Bare, None) => "runs wherever it stands, however long that takes",
        };
        let mut line = String::new();
        let _ = write!(line, "{path}:{}: {}: {why}", hit.lines.start, hit.what);
        found.push(line);
    }
    found
}

/// A reason with three words or more that say something of this one change.
fn is_specific(annotation: &str) -> bool {
    const EMPTY: &[&str] = &[
        "a",
        "an",
        "and",
        "are",
        "at",
        "be",
        "big",
        "but",
        "cheap",
        "do",
        "done",
        "enough",
        "fast",
        "few",
        "fine",
        "for",
        "good",
        "i",
        "in",
        "instant",
        "is",
        "it",
        "its",
        "just",
        "know",
        "migration",
        "no",
        "none",
        "not",
        "ok",
        "okay",
        "on",
        "only",
        "operation",
        "problem",
        "quick",
        "really",
        "rows",
        "s",
        "safe",
        "should",
        "simple",
        "small",
        "so",
        "sure",
        "table",
        "tested",
        "that",
        "the",
        "think",
        "this",
        "to",
        "todo",
        "trivial",
        "very",
        "we",
        "will",
        "works",
    ];
    let Some(reason) = annotation.trim().strip_prefix("reason=\"").and_then(|rest| rest.strip_suffix('"'))
    else {
        return false;
    };
    let lower = reason.to_lowercase();
    let words = lower.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
    words.filter(|word| !EMPTY.contains(word)).count() >= 3
}

/// `MIGRATION-SCALE: <30s N=2600000 on a copy of production`: a bound, the rows it is for, and where that was measured.
fn has_scale_line(description: &str) -> bool {
    let number = |text: &str| {
        let digits = text.replace('_', "");
        !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit())
    };
    description.lines().filter_map(|line| line.trim().strip_prefix("MIGRATION-SCALE:")).any(|line| {
        let mut words = line.split_whitespace();
        let bound = words.next().and_then(|word| word.strip_prefix('<')?.strip_suffix('s'));
        let rows = words.next().and_then(|word| word.strip_prefix("N="));
        bound.is_some_and(number) && rows.is_some_and(number) && words.next().is_some()
    })
}

/// The lines that a diff without context adds, by file.
fn added_lines(diff: &str) -> BTreeMap<String, Vec<Range<usize>>> {
    let mut files: BTreeMap<String, Vec<Range<usize>>> = BTreeMap::new();
    let mut path = None;
    for line in diff.lines() {
        if let Some(name) = line.strip_prefix("+++ ") {
            path = name.strip_prefix("b/").map(ToOwned::to_owned);
        } else if let (Some(hunk), Some(path)) = (line.strip_prefix("@@ "), &path) {
            let new = hunk.split(' ').find_map(|word| word.strip_prefix('+')).unwrap_or_default();
            let (start, count) = new.split_once(',').unwrap_or((new, "1"));
            if let (Ok(start), Ok(count @ 1..)) = (start.parse::<usize>(), count.parse::<usize>()) {
                files.entry(path.clone()).or_default().push(start..start + count);
            }
        }
    }
    files
}

fn git(root: &Path, args: &[&str]) -> Result<String> {
    output(Command::new("git").current_dir(root).args(args))
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))
}
