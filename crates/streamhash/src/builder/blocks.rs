//! From blocks of keys to a sink, through one solver or several.
//!
//! A [`Task`] holds all the memory that a block needs. With workers, a fixed number of tasks goes round: filled by the
//! caller, solved by a worker, held back until all blocks before it are written, and given back. So memory is bounded,
//! blocks are written in order, and the first error is that of the first bad block, whoever met it.
//!
//! ```text
//! caller ──filled──▶ workers ──solved──▶ Order: waits for its turn ──▶ Sink
//!    ▲                                     │
//!    └─────────────────idle────────────────┘
//! ```
//!
//! Order and sink are behind a mutex that no worker waits for: who finds it taken leaves its block to whoever has it, and
//! solves the next one.
//!
//! [`Pool`] owns the threads; they end when its channel closes, and it joins them when finished or dropped.

use std::{
    collections::BTreeMap,
    mem,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, TryLockError,
        atomic::{self, AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
};

use crossbeam_channel::{Receiver, Sender, bounded};
use xxhash_rust::xxh64::xxh64;

use super::{
    MAX_WORKERS, Options,
    sink::{Sink, Summary},
};
use crate::{Error, Result, algorithm::Solver, format::Header, key::Entry};

/// Tasks per worker: one being solved, one ready, one waiting for its turn.
const TASKS_PER_WORKER: usize = 3;

/// A block on its way.
#[derive(Default)]
struct Task {
    block: u32,
    /// How many keys the block has. Of a block that has too many, not all are in `entries`.
    keys: u64,
    entries: Vec<Entry>,
    blob: Vec<u8>,
    payload: Vec<u8>,
    payload_hash: u64,
}

impl Task {
    fn solve(&mut self, solver: &mut Solver, limits: &Limits) -> Result<()> {
        if self.keys > limits.max_block_keys {
            return Err(Error::BlockOverflow {
                block: self.block,
                keys: self.keys,
                max: limits.max_block_keys,
            });
        }
        self.blob.clear();
        self.payload.resize(self.entries.len() * limits.entry_bytes, 0);
        let solved = solver.solve(&self.entries, &mut self.blob, &mut self.payload);
        solved.map_err(|unsolved| unsolved.in_block(self.block))?;
        self.payload_hash = xxh64(&self.payload, 0);
        Ok(())
    }

    fn write(&self, sink: &mut Sink) -> Result<()> {
        sink.append(self.keys, &self.blob, &self.payload, self.payload_hash)
    }
}

#[derive(Clone, Copy)]
struct Limits {
    max_block_keys: u64,
    entry_bytes: usize,
}

/// Takes the blocks of a build, all of them in order.
pub(super) struct Blocks {
    limits: Limits,
    next: u32,
    /// The task that the next block will use.
    task: Task,
    solving: Solving,
}

enum Solving {
    Here { solver: Box<Solver>, sink: Box<Sink> },
    Pool(Pool),
}

impl Blocks {
    pub(super) fn new(header: &Header, sink: Sink, options: &Options) -> Result<Self> {
        let limits = Limits { max_block_keys: header.max_block_keys(), entry_bytes: header.entry_bytes() };
        let solver = || Solver::new(header, options.path);
        let solving = match options.workers {
            0 | 1 => Solving::Here { solver: Box::new(solver()), sink: Box::new(sink) },
            workers => Solving::Pool(Pool::start(solver, limits, sink, workers.min(MAX_WORKERS))?),
        };
        Ok(Blocks { limits, next: 0, task: Task::default(), solving })
    }

    /// The block whose entries are to come.
    pub(super) fn next_block(&self) -> u32 {
        self.next
    }

    /// Where the next block's entries are to be put, as many as a block may have.
    pub(super) fn entries(&mut self) -> &mut Vec<Entry> {
        &mut self.task.entries
    }

    /// Hands over the next block. With workers, an error may be that of a block before.
    pub(super) fn push(&mut self, keys: u64) -> Result<()> {
        self.task.block = self.next;
        self.task.keys = keys;
        self.next += 1;
        match &mut self.solving {
            Solving::Here { solver, sink } => {
                self.task.solve(solver, &self.limits)?;
                self.task.write(sink)?;
            }
            Solving::Pool(pool) => self.task = pool.exchange(mem::take(&mut self.task))?,
        }
        self.task.entries.clear();
        Ok(())
    }

    /// Writes the rest of the file, once all blocks have been pushed.
    pub(super) fn finish(self) -> Result<Summary> {
        match self.solving {
            Solving::Here { sink, .. } => sink.finish(),
            Solving::Pool(pool) => pool.finish(),
        }
    }
}

/// Solved blocks, put back into order.
struct Order {
    next: u32,
    waiting: BTreeMap<u32, (Task, Result<()>)>,
    sink: Option<Sink>,
    failed: Option<Error>,
}

impl Order {
    /// Takes a block; writes all whose turn it is and gives their tasks back. After an error, blocks are dropped.
    fn take(&mut self, task: Task, solved: Result<()>, idle: &Sender<Task>) {
        self.waiting.insert(task.block, (task, solved));
        while let Some((task, solved)) = self.waiting.remove(&self.next) {
            self.next += 1;
            if let (None, Some(sink)) = (&self.failed, &mut self.sink) {
                // A file that lacks a block must not be sealed, be it for a disk that panics.
                let panicked = Err(Error::WorkerPanicked { block: task.block });
                let write = || catch_unwind(AssertUnwindSafe(|| task.write(sink))).unwrap_or(panicked);
                self.failed = solved.and_then(|()| write()).err();
            }
            // Nobody wants it any more when the pool is being dropped.
            let _ = idle.send(task);
        }
    }
}

/// What workers share.
struct Shared {
    order: Mutex<Order>,
    /// Solved blocks that are not in `order` yet; there is room for all tasks.
    solved: (Sender<Solved>, Receiver<Solved>),
    /// Set once the build has failed or been dropped.
    abandoned: AtomicBool,
}

type Solved = (Task, Result<()>);

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Order> {
        self.order.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands in a solved block: it is written at once, or by whoever is writing now, or when its turn comes.
    fn hand_in(&self, solved: Solved, idle: &Sender<Task>) {
        let _ = self.solved.0.send(solved);
        loop {
            // With the fence below: either the lock is seen to be free here, or the block is seen there.
            atomic::fence(Ordering::SeqCst);
            let mut order = match self.order.try_lock() {
                Ok(order) => order,
                Err(TryLockError::Poisoned(order)) => order.into_inner(),
                Err(TryLockError::WouldBlock) => return,
            };
            for (task, solved) in self.solved.1.try_iter() {
                order.take(task, solved, idle);
            }
            if order.failed.is_some() {
                self.abandoned.store(true, Ordering::Relaxed);
            }
            drop(order);
            atomic::fence(Ordering::SeqCst);
            if self.solved.1.is_empty() {
                return;
            }
        }
    }
}

struct Pool {
    shared: Arc<Shared>,
    filled: Option<Sender<Task>>,
    idle: Receiver<Task>,
    threads: Vec<JoinHandle<()>>,
}

impl Pool {
    fn start(solver: impl Fn() -> Solver, limits: Limits, sink: Sink, workers: usize) -> Result<Self> {
        let tasks = workers * TASKS_PER_WORKER;
        let order = Order { next: 0, waiting: BTreeMap::new(), sink: Some(sink), failed: None };
        let (order, abandoned) = (Mutex::new(order), AtomicBool::new(false));
        let shared = Arc::new(Shared { order, solved: bounded(tasks), abandoned });
        let (filled, to_solve) = bounded::<Task>(tasks);
        let (give_back, idle) = bounded::<Task>(tasks);
        for _ in 1..tasks {
            // The caller holds one task already; the channel has room for all.
            let _ = give_back.send(Task::default());
        }
        let mut pool = Pool { shared, filled: Some(filled), idle, threads: Vec::with_capacity(workers) };
        for _ in 0..workers {
            let (shared, to_solve, give_back) =
                (Arc::clone(&pool.shared), to_solve.clone(), give_back.clone());
            let solver = solver();
            let thread = thread::Builder::new().name("streamhash".to_owned());
            let thread = thread.spawn(move || work(solver, &limits, &shared, &to_solve, &give_back));
            pool.threads.push(thread.map_err(|source| Error::Thread { source: Arc::new(source) })?);
        }
        Ok(pool)
    }

    /// Sends a filled task and waits for an idle one.
    fn exchange(&mut self, task: Task) -> Result<Task> {
        let block = task.block;
        let sent = self.filled.as_ref().and_then(|filled| filled.send(task).ok());
        let idle = sent.and_then(|()| self.idle.recv().ok());
        if idle.is_none() || self.shared.abandoned.load(Ordering::Relaxed) {
            let failed = self.shared.lock().failed.clone();
            return Err(failed.unwrap_or(Error::WorkerPanicked { block }));
        }
        idle.ok_or(Error::WorkerPanicked { block })
    }

    fn join(&mut self) {
        self.filled = None;
        for thread in self.threads.drain(..) {
            // A panic while solving or writing was caught: it is the build's error by now.
            let _ = thread.join();
        }
    }

    fn finish(mut self) -> Result<Summary> {
        self.join();
        let mut order = self.shared.lock();
        let (failed, sink, next) = (order.failed.take(), order.sink.take(), order.next);
        drop(order);
        match (failed, sink) {
            (None, Some(sink)) => sink.finish(),
            (failed, _) => Err(failed.unwrap_or(Error::WorkerPanicked { block: next })),
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        // Whoever drops a build does not want the blocks that are still under way.
        self.shared.lock().failed.get_or_insert(Error::Cancelled);
        self.shared.abandoned.store(true, Ordering::Relaxed);
        self.join();
    }
}

/// Solves blocks until there are no more. A panic is turned into an error: a lost task would leave the caller waiting.
fn work(
    mut solver: Solver,
    limits: &Limits,
    shared: &Shared,
    to_solve: &Receiver<Task>,
    give_back: &Sender<Task>,
) {
    for mut task in to_solve {
        let solved = if shared.abandoned.load(Ordering::Relaxed) {
            Ok(())
        } else {
            catch_unwind(AssertUnwindSafe(|| task.solve(&mut solver, limits)))
                .unwrap_or(Err(Error::WorkerPanicked { block: task.block }))
        };
        shared.hand_in((task, solved), give_back);
    }
}
