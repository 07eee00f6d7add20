use std::{
    collections::VecDeque,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    thread::{self, JoinHandle},
};

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::{
    Result,
    encode::{Batch, Encoder},
    error::thread_error,
    sink::Sink,
};

/// The threads that encode. Owned by the writer, joined on drop.
pub(crate) struct Workers {
    jobs: Option<Sender<(u64, Batch)>>,
    done: Receiver<(u64, Result<Batch>)>,
    threads: Vec<JoinHandle<()>>,
    /// The batches under way, oldest first, `None` while a worker has them; the number of the first.
    under_way: VecDeque<Option<Result<Batch>>>,
    first: u64,
    idle: Vec<Batch>,
    limit: usize,
}

impl Workers {
    pub(crate) fn start(encoder: &Arc<Encoder>, count: usize) -> Result<Self> {
        let (path, limit) = (encoder.path(), count.saturating_mul(2));
        let (jobs, todo) = bounded::<(u64, Batch)>(limit);
        let (results, done) = bounded(limit);
        let mut workers = Workers {
            jobs: Some(jobs),
            done,
            threads: Vec::new(),
            under_way: VecDeque::new(),
            first: 0,
            idle: Vec::new(),
            limit,
        };
        for _ in 0..count {
            let (encoder, todo, results) = (Arc::clone(encoder), todo.clone(), results.clone());
            let work = move || {
                for (number, batch) in &todo {
                    if results.send((number, encode(&encoder, batch))).is_err() {
                        break;
                    }
                }
            };
            let thread = thread::Builder::new().name("packfile-encode".into()).spawn(work);
            workers.threads.push(thread.map_err(|e| thread_error(path, e))?);
        }
        Ok(workers)
    }

    /// Gives a batch to the workers and returns an empty one, after waiting, if need be, for an older one to be written.
    pub(crate) fn submit(&mut self, batch: Batch, sink: &mut Sink) -> Result<Batch> {
        while self.under_way.len() >= self.limit {
            self.receive(sink)?;
        }
        let number = self.first + self.under_way.len() as u64;
        self.under_way.push_back(None);
        if let Some(jobs) = &self.jobs {
            // The channel has room for all that may be under way; that nobody listens any more shows on receiving.
            let _ = jobs.send((number, batch));
        }
        Ok(self.idle.pop().unwrap_or_default())
    }

    /// Waits for a batch to come back, then writes those whose turn it is.
    fn receive(&mut self, sink: &mut Sink) -> Result<()> {
        let lost = |_| thread_error(sink.path(), "all workers are gone");
        let (number, result) = self.done.recv().map_err(lost)?;
        if let Some(slot) = self.under_way.get_mut((number - self.first) as usize) {
            *slot = Some(result);
        }
        while let Some(result) = self.under_way.front_mut().and_then(Option::take) {
            self.under_way.pop_front();
            self.first += 1;
            let mut batch = result?;
            sink.write(&batch.records)?;
            batch.clear();
            self.idle.push(batch);
        }
        Ok(())
    }

    pub(crate) fn drain(&mut self, sink: &mut Sink) -> Result<()> {
        while !self.under_way.is_empty() {
            self.receive(sink)?;
        }
        Ok(())
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.jobs = None;
        // Whoever still encodes has room to put the result.
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// A worker's step; a codec's panic becomes an error, so that the writer does not wait for ever.
fn encode(encoder: &Encoder, mut batch: Batch) -> Result<Batch> {
    catch_unwind(AssertUnwindSafe(|| encoder.encode_batch(&mut batch).map(|()| batch)))
        .unwrap_or_else(|_| Err(thread_error(encoder.path(), "the codec or the extract function panicked")))
}
