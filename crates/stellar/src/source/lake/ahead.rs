//! Batches fetched ahead by a few threads, handed over in order.
//!
//! The stream owns the threads and joins them when it is dropped. What is fetched and not handed over, what is being
//! fetched (each as large as the largest so far), and the batch in the reader's hands together stay within
//! `ahead_bytes`; only the batch that the reader waits for is fetched in any case.

use std::{
    collections::BTreeMap,
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::JoinHandle,
    time::Duration,
};

use icecore_ledger::{Error, LedgerRange, LedgerSeq, LedgerStream, RawLedger, Result};

use super::{BatchName, Lake, batch::Batch};
use crate::source::io_error;

pub(super) struct Ahead {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    batch: Option<Batch>,
    /// `None` after the last ledger, or after an error.
    next: Option<LedgerSeq>,
}

struct Shared {
    lake: Lake,
    ledgers: LedgerRange,
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    /// The first ledger of the batch to fetch next; `None` when all are taken.
    fetch: Option<LedgerSeq>,
    /// The first ledger of the batch that the reader waits for.
    awaited: Option<LedgerSeq>,
    /// By first ledger.
    ready: BTreeMap<LedgerSeq, Result<Batch>>,
    held_bytes: u64,
    largest_bytes: u64,
    stop: bool,
}

impl Ahead {
    pub(super) fn start(lake: Lake, ledgers: LedgerRange) -> Result<Ahead> {
        let batches = ledgers.count() / u64::from(lake.layout.ledgers_per_batch.get()) + 1;
        let threads = lake.options.threads.max(1).min(usize::try_from(batches).unwrap_or(usize::MAX));
        let state = State {
            fetch: Some(lake.layout.batch_of(ledgers.first).first),
            awaited: None,
            ready: BTreeMap::new(),
            held_bytes: 0,
            largest_bytes: 0,
            stop: false,
        };
        let shared = Arc::new(Shared { lake, ledgers, state: Mutex::new(state), changed: Condvar::new() });
        let mut ahead = Ahead { shared, threads: Vec::new(), batch: None, next: Some(ledgers.first) };
        for i in 0..threads {
            let shared = ahead.shared.clone();
            let thread = std::thread::Builder::new().name(format!("lake-{i}")).spawn(move || shared.work());
            ahead.threads.push(thread.map_err(|error| io_error("a thread for downloads", error))?);
        }
        Ok(ahead)
    }

    /// Waits for the batch of ledger `seq`, in exchange for the one before it.
    fn take_batch(&mut self, seq: LedgerSeq) -> Result<Batch> {
        let first = self.shared.lake.layout.batch_of(seq).first;
        let mut state = self.shared.lock();
        state.held_bytes -= self.batch.take().map_or(0, |batch| batch.size_bytes());
        state.awaited = Some(first);
        self.shared.changed.notify_all();
        loop {
            if let Some(batch) = state.ready.remove(&first) {
                return batch;
            }
            state = self.shared.wait(state);
        }
    }
}

impl LedgerStream for Ahead {
    fn next_ledger(&mut self) -> Result<Option<RawLedger<'_>>> {
        // Stays empty after an error.
        let Some(seq) = self.next.take() else { return Ok(None) };
        if self.batch.as_ref().is_none_or(|batch| batch.ledger(seq).is_none()) {
            self.batch = Some(self.take_batch(seq)?);
        }
        self.next = self.shared.after(seq);
        let ledger = self.batch.as_ref().and_then(|batch| batch.ledger(seq));
        let place = || self.shared.lake.place(self.shared.lake.layout.batch_of(seq));
        ledger.map(Some).ok_or_else(|| Error::Missing { place: place(), expected: seq })
    }
}

impl Drop for Ahead {
    fn drop(&mut self) {
        self.shared.lock().stop = true;
        self.shared.changed.notify_all();
        for thread in self.threads.drain(..) {
            // A fetch that panicked was told of as an error.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        self.changed.wait(state).unwrap_or_else(PoisonError::into_inner)
    }

    /// The ledger after `seq`, when it is asked for.
    fn after(&self, seq: LedgerSeq) -> Option<LedgerSeq> {
        seq.0.checked_add(1).map(LedgerSeq).filter(|next| *next <= self.ledgers.last)
    }

    fn work(&self) {
        while let Some((name, reserved)) = self.take_job() {
            let fetched = catch_unwind(AssertUnwindSafe(|| self.fetch(name))).unwrap_or_else(|_| {
                Err(io_error(&self.lake.place(name), io::Error::other("the object store panicked")))
            });
            let size = fetched.as_ref().map_or(0, Batch::size_bytes);
            let mut state = self.lock();
            state.held_bytes = state.held_bytes - reserved + size;
            state.largest_bytes = state.largest_bytes.max(size);
            if fetched.is_err() {
                // Nothing after it will be asked for.
                state.fetch = None;
            }
            state.ready.insert(name.first, fetched);
            self.changed.notify_all();
        }
    }

    /// The next batch to fetch, and the bytes reserved for it; `None` when there is nothing left to do.
    fn take_job(&self) -> Option<(BatchName, u64)> {
        let mut state = self.lock();
        loop {
            let first = state.fetch.filter(|_| !state.stop)?;
            let reserve = state.largest_bytes;
            // How large batches are shows with the first one: until it is there, no other is fetched ahead.
            let fits = match reserve {
                0 => first == self.lake.layout.batch_of(self.ledgers.first).first,
                _ => state.held_bytes + reserve <= self.lake.options.ahead_bytes,
            };
            if state.awaited == Some(first) || fits {
                let name = self.lake.layout.batch_of(first);
                state.fetch = self.after(name.last);
                state.held_bytes += reserve;
                return Some((name, reserve));
            }
            state = self.wait(state);
        }
    }

    fn fetch(&self, name: BatchName) -> Result<Batch> {
        let mut attempt = 1;
        loop {
            match self.lake.fetch(name) {
                Err(error) if error.is_retryable() && attempt < self.lake.options.attempts => {
                    let doubled = 1 << (attempt - 1).min(16);
                    if self.stopped_within(self.lake.options.first_delay.saturating_mul(doubled)) {
                        return Err(error);
                    }
                    attempt += 1;
                }
                result => return result,
            }
        }
    }

    fn stopped_within(&self, delay: Duration) -> bool {
        let wait = self.changed.wait_timeout_while(self.lock(), delay, |state| !state.stop);
        wait.unwrap_or_else(PoisonError::into_inner).0.stop
    }
}
