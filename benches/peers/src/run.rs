//! Starting the processes that measure, one at a time, and stopping cleanly.

use std::{
    io::Read,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tempfile::TempDir;

use crate::{
    Any,
    contender::{Contender, Order},
    keys::{generate, save},
    measure::{Build, Outcome, Query, Task, Work},
};

/// The child that runs, if any, and whether someone asked to stop.
#[derive(Default)]
struct State {
    child: Option<Child>,
    stopped: bool,
}

/// Runs tasks in a temporary folder, which goes away with it.
pub(crate) struct Runner {
    home: TempDir,
    state: Arc<Mutex<State>>,
    /// For how many keys the folder holds a sorted file.
    sorted: Option<(usize, PathBuf)>,
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Runner {
    pub(crate) fn new() -> Any<Self> {
        let state = Arc::new(Mutex::new(State::default()));
        let seen = Arc::clone(&state);
        // Whoever waits for the child finds it dead, and leaves the usual way, past everything that cleans up.
        ctrlc::set_handler(move || {
            let mut state = lock(&seen);
            state.stopped = true;
            if let Some(child) = &mut state.child {
                let _ = child.kill();
            }
        })?;
        Ok(Runner { home: tempfile::Builder::new().prefix("icecore-peers-").tempdir()?, state, sorted: None })
    }

    /// A build in a process of its own.
    pub(crate) fn build(
        &mut self,
        contender: &Contender,
        keys: usize,
        (order, workers): (Order, usize),
        verify: bool,
    ) -> Any<Build> {
        match self.run(contender, keys, workers, Work::Build { order, verify })? {
            Outcome::Build(build) => Ok(build),
            Outcome::Query(_) => Err("the answer to another question".into()),
        }
    }

    /// Queries in a process of their own, to what all cores built.
    pub(crate) fn query(&mut self, contender: &Contender, keys: usize) -> Any<Query> {
        let workers = std::thread::available_parallelism()?.get();
        match self.run(contender, keys, workers, Work::Query)? {
            Outcome::Query(query) => Ok(query),
            Outcome::Build(_) => Err("the answer to another question".into()),
        }
    }

    fn run(&mut self, contender: &Contender, keys: usize, workers: usize, work: Work) -> Any<Outcome> {
        let sorted = self.sorted(keys)?;
        let dir = tempfile::tempdir_in(self.home.path())?;
        let contender_id = contender.id.to_owned();
        let task = Task { contender: contender_id, work, keys, workers, sorted, dir: dir.path().to_owned() };
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("--task").arg(serde_json::to_string(&task)?);
        let answer = self.output(&mut command).map_err(|e| format!("{}: {e}", contender.name))?;
        Ok(serde_json::from_str(&answer)?)
    }

    /// What a command prints. It is killed where someone asks to stop.
    pub(crate) fn output(&self, command: &mut Command) -> Any<String> {
        let mut state = lock(&self.state);
        if state.stopped {
            return Err("stopped".into());
        }
        let child = state.child.insert(command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?);
        let stdout = child.stdout.take();
        drop(state);
        let mut answer = String::new();
        let read = stdout.map_or(Ok(0), |mut stdout| stdout.read_to_string(&mut answer));
        let mut state = lock(&self.state);
        let status = state.child.take().map(|mut child| child.wait()).transpose()?;
        if state.stopped {
            return Err("stopped".into());
        }
        read?;
        match status {
            Some(status) if status.success() => Ok(answer),
            _ => Err("its process failed".into()),
        }
    }

    /// A file of so many sorted keys.
    fn sorted(&mut self, keys: usize) -> Any<PathBuf> {
        if let Some((count, path)) = &self.sorted
            && *count == keys
        {
            return Ok(path.clone());
        }
        if let Some((_, old)) = self.sorted.take() {
            std::fs::remove_file(old)?;
        }
        let path = self.home.path().join(format!("{keys}.keys"));
        let mut sorted = generate(keys);
        sorted.sort_unstable();
        save(&path, &sorted)?;
        self.sorted = Some((keys, path.clone()));
        Ok(path)
    }

    /// A folder for what is to go away at the end.
    pub(crate) fn home(&self) -> &Path {
        self.home.path()
    }

    /// Someone asked to stop.
    pub(crate) fn is_stopped(&self) -> bool {
        lock(&self.state).stopped
    }
}
