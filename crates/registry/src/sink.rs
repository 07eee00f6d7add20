use std::collections::VecDeque;

use crate::{
    CancelToken, SystemClock, mutants,
    signal::Signal,
    sync::{Mutex, lock},
    wait::{Look, Time, Timer, block_on, either, wait},
};

/// A queue whose consumer ends when it is told to, but not before everything it received is stored.
///
/// Give the consumer a higher weight than its producers, so that it is told to end when they have.
pub struct Sink<T> {
    queue: Mutex<Queue<T>>,
    signal: Signal,
}

struct Queue<T> {
    events: VecDeque<T>,
    ended: bool,
}

impl<T> Default for Sink<T> {
    fn default() -> Self {
        let queue = Queue { events: VecDeque::new(), ended: false };
        Self { queue: Mutex::new(queue), signal: Signal::default() }
    }
}

impl<T> Sink<T> {
    /// An empty queue. It has no bound.
    pub fn new() -> Self {
        Self::default()
    }

    /// Hands an event over.
    ///
    /// # Errors
    ///
    /// Gives the event back if the consumer has ended: nobody would store it.
    pub fn send(&self, event: T) -> Result<(), T> {
        let mut queue = lock(&self.queue);
        if queue.ended {
            return Err(event);
        }
        queue.events.push_back(event);
        drop(queue);
        self.signal.wake_all();
        Ok(())
    }

    /// The consumer: gives every event to `store`, in order, until `token` is cancelled and the queue is empty. For the
    /// body of a thread.
    pub fn run(&self, token: &CancelToken, mut store: impl FnMut(T)) {
        let _ended = EndOnDrop(self);
        loop {
            while let Some(event) = self.pop(token) {
                store(event);
            }
            if lock(&self.queue).ended {
                return;
            }
            block_on(|_| either(token.cancelled(), self.filled()));
        }
    }

    /// The next event. An empty queue of a cancelled consumer is at its end: in the same step, so no event slips in.
    fn pop(&self, token: &CancelToken) -> Option<T> {
        let mut queue = lock(&self.queue);
        let keep = !(token.is_cancelled() && mutants::on("sink_drops_on_cancel"));
        let event = queue.events.pop_front().filter(|_| keep);
        queue.ended = event.is_none() && token.is_cancelled();
        event
    }

    async fn filled(&self) {
        let time = Time { clock: &SystemClock::default(), timer: &Timer::Nobody };
        let look = || if lock(&self.queue).events.is_empty() { Look::Later } else { Look::Done(()) };
        wait(&self.signal, time, None, look).await;
    }
}

/// Also when `store` panics, nobody may go on sending into nowhere.
struct EndOnDrop<'a, T>(&'a Sink<T>);

impl<T> Drop for EndOnDrop<'_, T> {
    fn drop(&mut self) {
        lock(&self.0.queue).ended = true;
    }
}
