//! `icecore verify`

use std::{path::Path, sync::Arc};

use icecore_cold::{Checked, Control, Store};
use icecore_stellar::StellarDecoder;
use serde_json::json;

use crate::{
    args::Verify,
    fail::{Fail, Outcome},
    file::AnyFile,
    output::Output,
    progress::Progress,
};

pub(crate) fn run(args: &Verify, out: &Output) -> Outcome {
    if let Some(file) = args.paths.iter().find(|path| args.deep && path.is_file()) {
        return Err(Fail::Usage(format!(
            "{}: --deep checks whole stores, name the directory",
            file.display()
        )));
    }
    // Only a deep check has something to tidy up when Ctrl-C ends it.
    let control = if args.deep { crate::cancellable()? } else { Arc::default() };
    let progress = Progress::watch(&control, "checking");
    let mut tally = Tally::new(out);
    let mut trouble = None;
    for path in &args.paths {
        let checked = match path.is_dir() {
            true => store(path, args.deep, &control, &mut tally),
            false => file(path, &mut tally),
        };
        trouble = trouble.or(checked.err());
    }
    drop(progress);
    match trouble {
        // What was found weighs more than what could not be looked at, which is told in any case.
        Some(trouble) if tally.bad > 0 => crate::warn(&trouble.to_string()),
        Some(trouble) => return Err(trouble),
        None => {}
    }
    tally.close()
}

fn file(path: &Path, tally: &mut Tally<'_>) -> Outcome {
    match AnyFile::open(path).and_then(|file| file.verify()) {
        Err(Fail::Damaged(what)) => tally.count(path, Err(what)),
        checked => tally.count(path, Ok(checked?)),
    }
    Ok(())
}

/// Checks a store. For a deep check what follows from its ledgers is derived once more, in a directory that vanishes.
pub(crate) fn store(dir: &Path, deep: bool, control: &Arc<Control>, tally: &mut Tally<'_>) -> Outcome {
    let store = Store::open(dir)?;
    let mut take = |Checked { path, result }: Checked| tally.count(&path, result.map_err(|e| e.to_string()));
    let mut checked = store.verify(control, &mut take);
    if deep && checked.is_ok() {
        let scratch = tempfile::tempdir()?;
        checked = store.verify_deep(&StellarDecoder, scratch.path(), crate::cores(), control, &mut take);
    }
    match checked {
        Err(icecore_cold::Error::Cancelled) => {
            Err(Fail::Interrupted("stopped before everything was checked".into()))
        }
        checked => Ok(checked?),
    }
}

/// Counts what was checked, and shows what is damaged at once.
pub(crate) struct Tally<'a> {
    out: &'a Output,
    good: u64,
    bad: u64,
    printed: std::io::Result<()>,
}

impl<'a> Tally<'a> {
    pub(crate) fn new(out: &'a Output) -> Self {
        Tally { out, good: 0, bad: 0, printed: Ok(()) }
    }

    fn count(&mut self, path: &Path, result: Result<(), String>) {
        *(if result.is_ok() { &mut self.good } else { &mut self.bad }) += 1;
        let printed = match (self.out.json, &result) {
            (true, _) => {
                self.out.value(&json!({ "file": path.display().to_string(), "ok": result.is_ok(), "error": result.as_ref().err() }))
            }
            (false, Ok(())) => Ok(()),
            (false, Err(what)) => {
                self.out.line(format!("{} {}: {what}", self.out.red("DAMAGED"), path.display()))
            }
        };
        self.printed = std::mem::replace(&mut self.printed, Ok(())).and(printed);
    }

    /// The last line, and the outcome.
    pub(crate) fn close(self) -> Outcome {
        let Tally { out, good, bad, printed } = self;
        // Damage comes before a reader who has seen enough: scripts look at the exit code.
        if bad > 0 {
            return Err(Fail::Damaged(format!("{bad} of {} checks found damage", good + bad)));
        }
        printed?;
        if !out.json {
            out.line(format!("{} {good} checks, no damage", out.green("sound")))?;
        }
        Ok(())
    }
}
