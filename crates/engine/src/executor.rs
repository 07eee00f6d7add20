//! Executing a plan: at most so many tasks at a time, an index after the chunks that it covers, each task tried again with
//! pauses. Once a chunk has failed for good nothing new is begun, and what waited for it is released.

use std::{
    collections::BTreeSet,
    panic::resume_unwind,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use icecore_cold::{Control, Coverage};
use icecore_ledger::ChunkId;
use icecore_registry::CancelToken;

use crate::{
    Error, Result, Task,
    act::Actor,
    metrics,
    plan::{ChunkBuild, Plan},
    shared::Shared,
};

/// How often whoever waits for tasks looks whether they are to be stopped.
const LOOK: Duration = Duration::from_millis(50);

/// What became of a plan.
#[derive(Debug, Default)]
pub(crate) struct Executed {
    pub(crate) chunks: u64,
    pub(crate) indexes: u64,
    pub(crate) failed: Vec<(Task, Error)>,
}

/// An index, and the chunks that it still waits for.
struct Waiting {
    coverage: Coverage,
    on: BTreeSet<ChunkId>,
}

struct Queue {
    chunks: std::vec::IntoIter<ChunkBuild>,
    indexes: Vec<Waiting>,
    running: usize,
    done: Executed,
}

enum Next {
    Chunk(ChunkBuild),
    Index(Coverage),
}

struct Executor<'a> {
    actor: Actor<'a>,
    queue: Mutex<Queue>,
    changed: Condvar,
}

/// Carries out a plan and tells what became of it. Ends early, with what was begun brought to an end, when told to stop.
pub(crate) fn execute(shared: &Shared, plan: Plan, stop: &CancelToken) -> Executed {
    if plan.is_empty() {
        return Executed::default();
    }
    let tasks = plan.chunks.len() + plan.indexes.len();
    let at_once = shared.config.workers.clamp(1, tasks);
    let control = Control::default();
    let threads = shared.config.workers.div_ceil(at_once);
    let executor = Executor {
        actor: Actor { shared, stop, control: &control, threads },
        queue: Mutex::new(Queue::new(plan)),
        changed: Condvar::new(),
    };
    thread::scope(|scope| {
        let work = || executor.work();
        let spawn = |_| thread::Builder::new().name("engine-task".into()).spawn_scoped(scope, work).ok();
        let threads: Vec<_> = (0..at_once).filter_map(spawn).collect();
        if threads.is_empty() {
            // Where the system gives no thread, this one does all of it.
            executor.work();
        }
        executor.watch(stop, &control);
        for thread in threads {
            thread.join().unwrap_or_else(|panic| resume_unwind(panic));
        }
    });
    metrics::queued(0);
    executor.queue.into_inner().unwrap_or_else(PoisonError::into_inner).done
}

impl Queue {
    fn new(plan: Plan) -> Self {
        let on = |coverage: &Coverage| {
            plan.chunks.iter().map(|build| build.chunk).filter(|chunk| coverage.covers(*chunk)).collect()
        };
        let indexes = plan.indexes.iter().map(|&coverage| Waiting { coverage, on: on(&coverage) }).collect();
        Queue { indexes, chunks: plan.chunks.into_iter(), running: 0, done: Executed::default() }
    }

    fn is_over(&self) -> bool {
        self.running == 0 && self.indexes.is_empty() && self.chunks.as_slice().is_empty()
    }

    fn waiting(&self) -> usize {
        self.indexes.len() + self.chunks.len()
    }

    /// Indexes first: they let hot chunks go.
    fn take(&mut self) -> Option<Next> {
        let next = match self.indexes.iter().position(|index| index.on.is_empty()) {
            Some(at) => Next::Index(self.indexes.remove(at).coverage),
            None => Next::Chunk(self.chunks.next()?),
        };
        self.running += 1;
        Some(next)
    }

    fn finish(&mut self, task: Task, result: Result<()>) {
        self.running -= 1;
        match (task, result) {
            (Task::Chunk(chunk), Ok(())) => {
                self.done.chunks += 1;
                self.indexes.iter_mut().for_each(|index| {
                    index.on.remove(&chunk);
                });
            }
            (Task::Index(_), Ok(())) => self.done.indexes += 1,
            (task, Err(error)) => {
                // No chunk waits for an index: one that cannot be built does not keep chunks from being frozen.
                let goes_on =
                    task.chunk().is_none() && !error.is_fatal() && !matches!(error, Error::Cancelled);
                self.done.failed.push((task, error));
                if !goes_on {
                    self.give_up();
                }
            }
        }
    }

    /// Begins nothing more. Indexes whose chunks did not fail are left for the next run without a word.
    fn give_up(&mut self) {
        self.chunks = Vec::new().into_iter();
        let failed: Vec<ChunkId> = self.done.failed.iter().filter_map(|(task, _)| task.chunk()).collect();
        for index in self.indexes.drain(..) {
            if let Some(&chunk) = failed.iter().find(|chunk| index.on.contains(chunk)) {
                self.done.failed.push((Task::Index(index.coverage), Error::ChunkFailed { chunk }));
            }
        }
    }
}

impl Task {
    pub(crate) fn chunk(&self) -> Option<ChunkId> {
        match self {
            Task::Chunk(chunk) => Some(*chunk),
            Task::Index(_) => None,
        }
    }
}

impl Executor<'_> {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a thread does until nothing is left for it.
    fn work(&self) {
        while let Some(next) = self.next() {
            // Also when a task panics, nobody waits for it.
            let mut leave = Leave { executor: self, task: None, result: Err(Error::Cancelled) };
            match next {
                Next::Chunk(build) => {
                    leave.task = Some(Task::Chunk(build.chunk));
                    leave.result =
                        self.tried(Task::Chunk(build.chunk), || self.actor.build_chunk(&build).map(drop));
                }
                Next::Index(coverage) => {
                    leave.task = Some(Task::Index(coverage));
                    leave.result =
                        self.tried(Task::Index(coverage), || self.actor.build_index(coverage).map(drop));
                }
            }
        }
    }

    fn next(&self) -> Option<Next> {
        let mut queue = self.lock();
        loop {
            if let Some(next) = queue.take() {
                metrics::queued(queue.waiting());
                return Some(next);
            }
            if queue.is_over() {
                self.changed.notify_all();
                return None;
            }
            queue = self.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// A task until it succeeds, is fatal, or has failed too often.
    fn tried(&self, task: Task, mut act: impl FnMut() -> Result<()>) -> Result<()> {
        let Actor { shared, stop, .. } = self.actor;
        let mut failed = 0;
        loop {
            if stop.is_cancelled() {
                return Err(Error::Cancelled);
            }
            let error = match act() {
                // A source that lags was waited for already.
                Err(error @ (Error::Cancelled | Error::SourceLags { .. })) => return Err(error),
                Err(error) if error.is_fatal() => return Err(error),
                Err(error) if failed >= shared.config.max_retries => return Err(error),
                Err(error) => error,
                done => return done,
            };
            failed += 1;
            let pause = shared.config.pause(failed);
            tracing::warn!(%task, %error, failed, pause_ms = pause.as_millis() as u64, "a task failed, it is tried again");
            metrics::failed("task", &error);
            if shared.clock.pause(pause, stop) {
                return Err(Error::Cancelled);
            }
        }
    }

    /// Waits for all tasks, and passes an order to end on to them.
    fn watch(&self, stop: &CancelToken, control: &Control) {
        let mut queue = self.lock();
        while !queue.is_over() {
            if stop.is_cancelled() {
                control.cancel();
                queue.give_up();
                self.changed.notify_all();
            }
            queue = self.changed.wait_timeout(queue, LOOK).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// Says that a task is over, whatever way it ended.
struct Leave<'a> {
    executor: &'a Executor<'a>,
    task: Option<Task>,
    result: Result<()>,
}

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        let result = std::mem::replace(&mut self.result, Ok(()));
        if let Some(task) = self.task {
            self.executor.lock().finish(task, result);
        }
        self.executor.changed.notify_all();
    }
}

#[cfg(test)]
#[path = "executor_tests.rs"]
mod tests;
