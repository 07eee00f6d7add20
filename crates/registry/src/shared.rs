//! What a registry does, for threads and tasks alike: start, quiesce, reap.
//!
//! A worker's handle stays in the table until its body has ended; only then, and without a pause in between, is it
//! taken out and joined. So no future here ever owns a handle, and dropping one can detach nobody. What a join still waits
//! for then are the thread's last steps: its epilogue, and the destructors of its thread-local values.

use std::{io, sync::Arc, time::Duration};

use crate::{
    CancelToken, Clock, DrainHook, Key, StartOutcome, WorkerConfig, WorkerStatus, mutants,
    outcome::Outcome,
    probes::Probes,
    signal::Signal,
    status::ShutdownReport,
    sync::{Mutex, MutexGuard, lock},
    table::{Table, all_ended},
    wait::{Look, Time, Timer, before, caught, wait},
    worker::{Birth, Exit, Handle, Held, Worker},
};

pub(crate) struct Shared<K: Key> {
    table: Mutex<Table<K>>,
    pub(crate) signal: Signal,
    clock: Arc<dyn Clock>,
    pub(crate) orphan_grace: Duration,
    pub(crate) shutdown: Outcome<ShutdownReport<K>>,
    pub(crate) probes: Probes,
}

/// What becomes of a worker when the quiesce that waits for it is dropped.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum IfDropped {
    /// It goes to the orphans.
    Park,
    /// It stays in its slot: a shutdown will be taken up again.
    Keep,
}

/// A quiesce that has begun: whom it is about.
struct Begun {
    generation: u64,
    drain: Option<DrainHook>,
    budget: Duration,
}

/// What a quiesce sees of the worker it waits for.
enum Seen {
    Ended,
    Gone(WorkerStatus),
}

impl<K: Key> Shared<K> {
    pub(crate) fn new(clock: Arc<dyn Clock>, orphan_grace: Duration) -> Self {
        Self {
            table: Mutex::default(),
            signal: Signal::default(),
            clock,
            orphan_grace,
            shutdown: Outcome::default(),
            probes: Probes::default(),
        }
    }

    pub(crate) fn table(&self) -> MutexGuard<'_, Table<K>> {
        lock(&self.table)
    }

    pub(crate) fn time<'a>(&'a self, timer: &'a Timer) -> Time<'a> {
        Time { clock: &*self.clock, timer }
    }

    pub(crate) fn now(&self) -> Duration {
        self.clock.now()
    }

    /// Starts a worker: latches, spawn, slot and predecessor in one critical section, so that a shutdown or a clear
    /// comes wholly before or wholly after. `spawn` must neither block nor want the lock.
    ///
    /// Gives back the generation of the predecessor, if one was parked.
    pub(crate) fn launch(
        self: &Arc<Self>,
        key: K,
        config: WorkerConfig,
        spawn: impl FnOnce(Birth<K>) -> io::Result<Handle>,
    ) -> (StartOutcome, Option<u64>) {
        let late_latch = mutants::on("latch_checked_before_lock").then(|| self.table().refusal(key));
        self.probes.at("launch");
        let mut table = self.table();
        if let Some(refusal) = late_latch.unwrap_or_else(|| table.refusal(key)) {
            return (refusal, None);
        }
        let generation = table.next_generation(key);
        if mutants::on("rotate_before_spawn") {
            table.park(key, generation - 1);
            table.slots.entry(key).or_default().issued = generation;
        }
        if mutants::on("worker_keeps_registry") {
            std::mem::forget(Arc::clone(self));
        }
        let token = CancelToken::new();
        let birth = Birth {
            shared: Arc::downgrade(self),
            key,
            generation,
            token: token.clone(),
            exit: Arc::new(Exit::default()),
        };
        let handle = match spawn(birth) {
            Ok(handle) => handle,
            Err(error) => return (StartOutcome::SpawnFailed(error), None),
        };
        let predecessor = table.install(key, self.worker(generation, handle, config), token);
        if mutants::on("park_after_unlock") {
            drop(table);
            self.probes.at("installed");
            table = self.table();
        }
        let parked = predecessor.as_ref().map(|worker| worker.generation);
        if !mutants::on("restart_drops_predecessor") {
            table.orphans.extend(predecessor.map(|worker| (key, worker)));
        }
        drop(table);
        self.probes.at("installed");
        (StartOutcome::Started(generation), parked)
    }

    pub(crate) fn worker(&self, generation: u64, handle: Handle, config: WorkerConfig) -> Worker {
        let WorkerConfig { weight, join_budget, drain, stack_size: _ } = config;
        Worker { generation, handle, weight, join_budget, drain, started: self.now() }
    }

    /// After a restart: gives the parked predecessor until `grace` to end, and joins it if it does.
    pub(crate) async fn settle(&self, time: Time<'_>, key: K, generation: u64, grace: Duration) {
        if mutants::on("restart_never_joins") {
            return;
        }
        let look = || {
            let mut table = self.table();
            let predecessor = table.find(key, generation).map(|worker| &worker.handle);
            look_until_ended(all_ended(predecessor.into_iter()))
        };
        if wait(&self.signal, time, Some(time.after(grace)), look).await.is_some() {
            self.collect(key, generation);
        }
    }

    /// The epilogue's part: the worker of this generation has ended.
    pub(crate) fn ended(&self, key: K, generation: u64) {
        let mut table = self.table();
        if let Some(slot) = table.slots.get_mut(&key)
            && (slot.generation == generation || mutants::on("epilogue_ignores_generation"))
        {
            slot.token = None;
        }
        drop(table);
        self.signal.wake_all();
    }

    /// Tells the worker of `key` to end; with a generation, only that one. `false` if the slot has moved on.
    pub(crate) fn cancel(&self, key: K, generation: Option<u64>) -> bool {
        let mut table = self.table();
        let Some(slot) = table.slots.get_mut(&key) else { return false };
        if generation.is_some_and(|of| of != slot.generation) && !mutants::on("quiesce_ignores_generation") {
            return false;
        }
        let token = slot.token.take();
        drop(table);
        if let Some(token) = &token {
            token.cancel();
        }
        generation.is_some() || token.is_some()
    }

    pub(crate) fn cancel_all(&self) {
        let tokens: Vec<_> = self.table().slots.values_mut().filter_map(|slot| slot.token.take()).collect();
        tokens.iter().for_each(CancelToken::cancel);
    }

    /// Joins a worker whose body has ended and logs how; `None` if it still runs, is gone, or somebody else is at it.
    /// While it is being joined its place stays taken, so nobody sees it as gone before its status is known.
    pub(crate) fn collect(&self, key: K, generation: u64) -> Option<WorkerStatus> {
        let handle = {
            let mut table = self.table();
            let worker = table.find(key, generation).filter(|worker| worker.handle.finished())?;
            std::mem::replace(&mut worker.handle, Handle::Joining)
        };
        let status = handle.join();
        let mut table = self.table();
        let joined = table.forget(key, generation, &status);
        if mutants::on("hook_dropped_under_the_lock") {
            let _still_locked = joined;
        } else {
            drop(table);
            drop(joined);
        }
        self.signal.wake_all();
        match &status {
            _ if mutants::on("collect_is_silent") => {}
            WorkerStatus::Ok => tracing::debug!(?key, generation, "worker ended"),
            unclean => tracing::error!(?key, generation, status = %unclean, "worker ended badly"),
        }
        Some(status)
    }

    /// Drain hook, cancel, join within the budget, or within what is left until `limit`.
    pub(crate) async fn quiesce(
        &self,
        time: Time<'_>,
        key: K,
        limit: Option<Duration>,
        if_dropped: IfDropped,
    ) -> WorkerStatus {
        let Begun { generation, drain, budget } = match self.begin_quiesce(key) {
            Ok(begun) => begun,
            Err(absent) => return absent,
        };
        let until = |span| limit.map_or(time.after(span), |limit| time.after(span).min(limit));
        let (held, trouble) = match drain_before(time, until(budget), drain).await {
            Ok(held) => (HookHold(held), None),
            Err(trouble) => (HookHold(None), Some(trouble)),
        };
        if !self.cancel(key, Some(generation)) {
            return WorkerStatus::Superseded;
        }
        let mut parking = ParkOnDrop { shared: self, key, generation, armed: if_dropped == IfDropped::Park };
        let status = if mutants::on("quiesce_skips_join") {
            WorkerStatus::Ok
        } else {
            self.join(time, key, generation, until(budget)).await
        };
        parking.armed = false;
        held.give_back();
        trouble.filter(|_| status.is_clean()).map_or(status, WorkerStatus::Error)
    }

    /// Whom a quiesce is about, or the answer if nobody is in the slot.
    fn begin_quiesce(&self, key: K) -> Result<Begun, WorkerStatus> {
        let table = self.table();
        let Some((slot, worker)) = table.slots.get(&key).and_then(|slot| Some((slot, slot.worker.as_ref()?)))
        else {
            let detached = table.orphan_alive(key) && !mutants::on("quiesce_ignores_orphans");
            return Err(if detached { WorkerStatus::Detached } else { WorkerStatus::NotRunning });
        };
        Ok(Begun { generation: slot.generation, drain: worker.drain.clone(), budget: worker.join_budget })
    }

    /// Waits for the end of one generation and joins it.
    async fn join(&self, time: Time<'_>, key: K, generation: u64, deadline: Duration) -> WorkerStatus {
        self.probes.at("joining");
        loop {
            match wait(&self.signal, time, Some(deadline), || self.look_at(key, generation)).await {
                None => return self.give_up(key, generation),
                Some(Seen::Gone(status)) => return status,
                Some(Seen::Ended) => {
                    if let Some(status) = self.collect(key, generation) {
                        return status;
                    }
                }
            }
        }
    }

    fn look_at(&self, key: K, generation: u64) -> Look<Seen> {
        let mut table = self.table();
        let slot = table.slots.get(&key).filter(|slot| slot.generation == generation);
        let Some((in_slot, last)) = slot.map(|slot| (slot.worker.is_some(), slot.last.clone())) else {
            return Look::Done(Seen::Gone(WorkerStatus::Superseded));
        };
        match table.find(key, generation) {
            // Another quiesce of this generation was over first, and gave up on it …
            Some(worker) if !in_slot && !worker.handle.finished() => {
                Look::Done(Seen::Gone(WorkerStatus::Detached))
            }
            Some(worker) => match look_until_ended(all_ended([&worker.handle].into_iter())) {
                Look::Done(()) => Look::Done(Seen::Ended),
                Look::Later => Look::Later,
                Look::LaterUntold => Look::LaterUntold,
            },
            // … or joined it.
            None => Look::Done(Seen::Gone(last.unwrap_or(WorkerStatus::NotRunning))),
        }
    }

    fn give_up(&self, key: K, generation: u64) -> WorkerStatus {
        if mutants::on("timeout_detaches") {
            self.table().forget(key, generation, &WorkerStatus::Timeout);
        } else {
            self.table().park(key, generation);
        }
        self.signal.wake_all();
        tracing::error!(?key, generation, "worker did not end within its budget");
        WorkerStatus::Timeout
    }

    /// Gives the orphans `grace` to end and joins those that do, all at the end and in one go, so that a dropped reap
    /// has joined nobody. Survivors are `Detached` and stay.
    pub(crate) async fn reap(&self, time: Time<'_>, grace: Duration) -> Vec<(K, WorkerStatus)> {
        let taken = if mutants::on("reap_takes_the_list") {
            std::mem::take(&mut self.table().orphans)
        } else {
            Vec::new()
        };
        let look = || {
            let in_frame = all_ended(taken.iter().map(|(_, worker)| &worker.handle));
            look_until_ended(in_frame.and_then(|()| self.table().orphans_ended()))
        };
        wait(&self.signal, time, Some(time.after(grace)), look).await;
        self.table().orphans.extend(taken);
        let known: Vec<_> =
            self.table().orphans.iter().map(|(key, worker)| (*key, worker.generation)).collect();
        let status_of = |key, generation| {
            let survives = || self.table().find(key, generation).map(|_| WorkerStatus::Detached);
            self.collect(key, generation).or_else(survives)
        };
        known.into_iter().filter_map(|(key, generation)| Some((key, status_of(key, generation)?))).collect()
    }
}

fn look_until_ended(ended: Result<(), bool>) -> Look<()> {
    match ended {
        Ok(()) => Look::Done(()),
        Err(true) => Look::Later,
        Err(false) => Look::LaterUntold,
    }
}

/// Runs a drain hook to its end, until `deadline`: a hook that hangs must not hang a shutdown.
async fn drain_before(
    time: Time<'_>,
    deadline: Duration,
    hook: Option<DrainHook>,
) -> Result<Option<Held>, String> {
    let Some(hook) = hook else { return Ok(None) };
    match before(time, deadline, caught(hook.run())).await {
        Some(Ok(held)) => Ok(Some(held)),
        Some(Err(message)) => Err(format!("its drain hook panicked: {message}")),
        None => Err("its drain hook did not end within its budget".to_owned()),
    }
}

/// Moves the worker of one generation to the orphans if the quiesce that waits for it is dropped.
struct ParkOnDrop<'a, K: Key> {
    shared: &'a Shared<K>,
    key: K,
    generation: u64,
    armed: bool,
}

impl<K: Key> Drop for ParkOnDrop<'_, K> {
    fn drop(&mut self) {
        if !self.armed {
            return;
        }
        if mutants::on("drop_detaches") {
            self.shared.table().forget(self.key, self.generation, &WorkerStatus::Timeout);
        } else {
            self.shared.table().park(self.key, self.generation);
        }
        self.shared.signal.wake_all();
    }
}

/// What a drain hook returned: given back on every way out of the quiesce.
struct HookHold(Option<Held>);

impl HookHold {
    fn give_back(mut self) {
        self.0 = None;
    }
}

impl Drop for HookHold {
    fn drop(&mut self) {
        // As if the hook raised a count by hand, to be lowered at the quiesce's end only.
        if mutants::on("hook_lowers_at_the_end_only") {
            std::mem::forget(self.0.take());
        }
    }
}
