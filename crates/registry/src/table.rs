//! The registry's state, all of it under one lock.
//!
//! ```text
//!   slots     key ─▶ generation, token (present ⇔ told to run), worker (until it is joined), how the last one ended
//!   orphans   (key, worker): predecessors, workers over budget, workers whose quiesce was dropped, late registrations
//!   latches   closing: set once, for good         clearing: key ─▶ how many guards live
//!
//!              start                cancel              ended, joined
//!   no worker ───────▶ running ───────────────▶ stopping ─────────────▶ no worker, last = status
//!                         │ ended by itself        │ over budget · restarted · quiesce dropped
//!                         └───▶ ended ──joined──▶  └───▶ orphan ──ended, joined──▶ gone, status in the reap
//! ```
//!
//! Every arrow is one critical section, so no worker is ever between two places. One lock has no order to get wrong.
//! Hooks, joins and wakers run outside of it, and what belongs to somebody else is dropped outside of it.

use std::{collections::BTreeMap, time::Duration};

use crate::{
    CancelToken, Key, StartOutcome, WorkerStatus, mutants,
    worker::{Handle, Worker},
};

pub(crate) struct Table<K> {
    pub(crate) slots: BTreeMap<K, Slot>,
    pub(crate) orphans: Vec<(K, Worker)>,
    pub(crate) clearing: BTreeMap<K, usize>,
    pub(crate) closing: Option<Closing<K>>,
}

#[derive(Default)]
pub(crate) struct Slot {
    /// The highest generation ever given out under this key; only grows.
    pub(crate) issued: u64,
    /// The generation of the slot's last worker. A late registration takes a number too, but not the slot.
    pub(crate) generation: u64,
    pub(crate) token: Option<CancelToken>,
    pub(crate) worker: Option<Worker>,
    /// How that worker ended, once it is joined.
    pub(crate) last: Option<WorkerStatus>,
}

/// The closing latch, and how far the shutdown has come: kept here, so that a cancelled one can be taken up again.
pub(crate) struct Closing<K> {
    pub(crate) since: Duration,
    pub(crate) seen: BTreeMap<K, WorkerStatus>,
    pub(crate) reaped: Vec<(K, WorkerStatus)>,
}

impl Slot {
    pub(crate) fn running(&self) -> bool {
        self.token.is_some() && self.worker.as_ref().is_some_and(|worker| !worker.handle.finished())
    }

    pub(crate) fn alive(&self) -> bool {
        self.worker.as_ref().is_some_and(|worker| !worker.handle.finished())
    }
}

impl<K> Default for Table<K> {
    fn default() -> Self {
        Self { slots: BTreeMap::new(), orphans: Vec::new(), clearing: BTreeMap::new(), closing: None }
    }
}

impl<K: Key> Table<K> {
    /// Why `key` may not be started now, if so.
    pub(crate) fn refusal(&self, key: K) -> Option<StartOutcome> {
        if self.closing.is_some() {
            Some(StartOutcome::Closing)
        } else if self.clearing.contains_key(&key) && !mutants::on("start_ignores_clearing") {
            Some(StartOutcome::Clearing)
        } else {
            self.is_running(key).then_some(StartOutcome::AlreadyRunning)
        }
    }

    pub(crate) fn next_generation(&self, key: K) -> u64 {
        self.slots.get(&key).map_or(0, |slot| slot.issued) + 1
    }

    /// Puts a new worker into its slot; gives back the predecessor, which the caller parks under the same lock.
    pub(crate) fn install(&mut self, key: K, worker: Worker, token: CancelToken) -> Option<Worker> {
        let slot = self.slots.entry(key).or_default();
        slot.issued = worker.generation;
        slot.generation = worker.generation;
        slot.token = Some(token);
        slot.last = None;
        slot.worker.replace(worker)
    }

    /// Puts a worker that comes too late for a slot among the orphans.
    pub(crate) fn adopt(&mut self, key: K, worker: Worker) {
        self.slots.entry(key).or_default().issued = worker.generation;
        self.orphans.push((key, worker));
    }

    /// Moves the worker of that generation from its slot to the orphans.
    pub(crate) fn park(&mut self, key: K, generation: u64) {
        let Some(slot) = self.slots.get_mut(&key).filter(|slot| slot.generation == generation) else {
            return;
        };
        slot.token = None;
        self.orphans.extend(slot.worker.take().map(|worker| (key, worker)));
    }

    /// The worker of that generation, wherever it is.
    pub(crate) fn find(&mut self, key: K, generation: u64) -> Option<&mut Worker> {
        let in_slots = self.slots.get_mut(&key).and_then(|slot| slot.worker.as_mut());
        let in_orphans = self.orphans.iter_mut().filter(|(of, _)| *of == key).map(|(_, worker)| worker);
        in_slots.into_iter().chain(in_orphans).find(|worker| worker.generation == generation)
    }

    /// Takes a joined worker out, wherever it is. The caller drops it without the lock: its hook is somebody else's.
    pub(crate) fn forget(&mut self, key: K, generation: u64, status: &WorkerStatus) -> Option<Worker> {
        let is_it = |(of, worker): &(K, Worker)| *of == key && worker.generation == generation;
        let orphan = self.orphans.iter().position(is_it).map(|position| self.orphans.remove(position).1);
        let slot = self.slots.get_mut(&key).filter(|slot| slot.generation == generation);
        let in_slot = slot.and_then(|slot| {
            slot.token = None;
            slot.last = Some(status.clone());
            slot.worker.take()
        });
        orphan.or(in_slot)
    }

    pub(crate) fn is_running(&self, key: K) -> bool {
        self.slots.get(&key).is_some_and(Slot::running)
    }

    pub(crate) fn orphan_alive(&self, key: K) -> bool {
        self.orphans.iter().any(|(of, worker)| *of == key && !worker.handle.finished())
    }

    pub(crate) fn any_alive_for(&self, key: K) -> bool {
        self.slots.get(&key).is_some_and(Slot::alive) || self.orphan_alive(key)
    }

    /// Every key with somebody alive, once per worker.
    pub(crate) fn alive(&self) -> Vec<K> {
        let slots = self.slots.iter().filter(|(_, slot)| slot.alive()).map(|(key, _)| *key);
        let orphans =
            self.orphans.iter().filter(|(_, worker)| !worker.handle.finished()).map(|(key, _)| *key);
        slots.chain(orphans).collect()
    }

    /// The keys of lowest weight that this shutdown has not seen, of those with a weight below `below`. A slot without
    /// a worker takes no time and comes with the first.
    pub(crate) fn next_tier(&self, below: Option<i32>) -> Vec<K> {
        let Some(closing) = &self.closing else { return Vec::new() };
        let weight_of = |slot: &Slot| slot.worker.as_ref().map_or(i32::MIN, |worker| worker.weight);
        let unseen = || self.slots.iter().filter(|(key, _)| !closing.seen.contains_key(key));
        let rest = || {
            unseen().filter(|(_, slot)| {
                below.is_none_or(|below| slot.worker.is_some() && weight_of(slot) < below)
            })
        };
        let lowest = rest().map(|(_, slot)| weight_of(slot)).min();
        let in_tier = |weight| Some(weight) == lowest || mutants::on("tiers_ignore_weight");
        rest().filter(|(_, slot)| in_tier(weight_of(slot))).map(|(key, _)| *key).collect()
    }

    /// Whether all orphans have ended; if not, whether each of those alive will tell.
    pub(crate) fn orphans_ended(&self) -> Result<(), bool> {
        all_ended(self.orphans.iter().map(|(_, worker)| &worker.handle))
    }
}

/// `Ok` if all have ended; otherwise whether all that are alive will tell when they end.
pub(crate) fn all_ended<'a>(handles: impl Iterator<Item = &'a Handle>) -> Result<(), bool> {
    let mut alive = handles.filter(|handle| !handle.finished()).peekable();
    if alive.peek().is_none() { Ok(()) } else { Err(alive.all(Handle::tells)) }
}
