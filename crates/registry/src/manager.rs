//! Components on top of a registry: a gate each, and the order in which all of it ends.
//!
//! ```text
//!   shutdown   close and hold every gate ─▶ closing latch ─▶ weights below 0 ─▶ components: cancel, join, drain pass
//!              ─▶ the rest by weight ─▶ orphans ─▶ passes of later components ─▶ report ─▶ let the gates go (closed)
//!
//!   clear      clearing latch ─▶ hold gate ─▶ cancel, join, drain pass ─▶ clean, and nobody of the key alive?
//!              ─▶ take the pass, unless closed ─▶ wipe ─▶ give back pass, gate, latch    no: refuse, nothing was touched
//!
//!   quiesce    hold gate ─▶ wait for a running clear ─▶ cancel, join ─▶ drain pass ─▶ give back gate
//! ```
//!
//! Locks: the manager's map and the registry's table are each taken alone and for a moment. Correctness needs no lock
//! around the manager.

use std::{collections::BTreeMap, time::Duration};

use crate::{
    ComponentStatus, Error, GateGuard, GateStatus, Key, PassGate, Registry, Result, ShutdownReport,
    WorkerStatus, mutants,
    outcome::Outcome,
    shared::IfDropped,
    shutdown::merge,
    sync::{Mutex, lock},
    wait::{Look, Time, Timer, block_on, join_all, wait},
};

/// How long a quiesce waits for a pass, or for a clear that is under way, unless said otherwise.
pub const DEFAULT_PASS_BUDGET: Duration = Duration::from_secs(10);

/// Components and everybody else who runs.
///
/// A component is a key with a [`PassGate`], and perhaps a loop: the worker under that key in the manager's
/// [`registry`](Self::registry). Everything of it that can persist goes through the gate, whoever calls it. Components
/// produce; what stores their products is a plain worker of higher weight.
pub struct Manager<K: Key> {
    registry: Registry<K>,
    components: Mutex<Components<K>>,
    shutdown: Outcome<ShutdownReport<K>>,
}

struct Components<K> {
    known: BTreeMap<K, Component>,
    /// Gates of components added from now on are born closed.
    closed: bool,
    /// How far a shutdown has come: whose loop is over and how, whose gate.
    loops: BTreeMap<K, WorkerStatus>,
    gates: BTreeMap<K, GateStatus>,
}

#[derive(Clone)]
struct Component {
    gate: PassGate,
    pass_budget: Duration,
}

/// Who asks for a component's rest.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asker {
    Anybody,
    Shutdown,
    Clear,
}

impl<K: Key> Manager<K> {
    /// A manager without components; workers may be in the registry already.
    pub fn new(registry: Registry<K>) -> Self {
        let components = Components {
            known: BTreeMap::new(),
            closed: false,
            loops: BTreeMap::new(),
            gates: BTreeMap::new(),
        };
        Self { registry, components: Mutex::new(components), shutdown: Outcome::default() }
    }

    /// Who runs: the components' loops and all other workers are started here.
    pub fn registry(&self) -> &Registry<K> {
        &self.registry
    }

    /// Adds a component, or finds it, and gives its gate. A quiesce waits for its pass for at most `pass_budget`; see
    /// [`DEFAULT_PASS_BUDGET`]. After a shutdown the gate of a new component is closed.
    pub fn add(&self, key: K, pass_budget: Duration) -> PassGate {
        let mut components = lock(&self.components);
        let closed = components.closed;
        let new = || Component { gate: PassGate::new(), pass_budget };
        let gate = components.known.entry(key).or_insert_with(new).gate.clone();
        if closed {
            gate.close();
        }
        gate
    }

    /// A component's gate.
    pub fn gate(&self, key: K) -> Option<PassGate> {
        self.component(key).map(|component| component.gate)
    }

    /// Tells a component's loop to end, and returns at once; `false` if none was running. See
    /// [`destroy_blocking`](Self::destroy_blocking) for its end.
    pub fn stop(&self, key: K) -> bool {
        if mutants::on("stop_joins") {
            return self.quiesce_blocking(key).is_clean();
        }
        self.registry.cancel(key)
    }

    /// Brings a component to rest: ends its loop, and waits for a pass that somebody else began. Passes are refused
    /// meanwhile, and allowed again afterwards. A clear that is under way is waited for.
    pub fn quiesce_blocking(&self, key: K) -> ComponentStatus {
        block_on(|timer| async move { self.rest(self.time(&timer), key, None, Asker::Anybody).await })
    }

    /// Brings a component to rest for good: its gate is closed, its loop and pass are over, it is forgotten.
    ///
    /// # Errors
    ///
    /// [`Error::ShutdownIncomplete`] if it did not come to rest; then it is closed, but not forgotten, and can be tried
    /// again. [`Error::UnknownComponent`].
    pub fn destroy_blocking(&self, key: K) -> Result<()> {
        block_on(|timer| async move { self.end(self.time(&timer), key).await })
    }

    /// Brings a component to rest and then runs `wipe`, alone: no loop, no pass, no start, no other clear of this key.
    /// Gives what `wipe` returns.
    ///
    /// # Errors
    ///
    /// [`Error::ShutdownIncomplete`] if it did not come to rest before `within` is over: `wipe` did not run, the store is
    /// as it was, and so must stay whatever mirrors it. [`Error::Pass`], with the same meaning, if the gate was closed for
    /// good. [`Error::UnknownComponent`].
    pub fn clear_blocking<T>(&self, key: K, within: Duration, wipe: impl FnOnce() -> T) -> Result<T> {
        block_on(|timer| async move { self.wipe_at_rest(self.time(&timer), key, within, wipe).await })
    }

    /// Ends everything, in the order drawn at the head of this module's source: passes are refused from the first moment
    /// and for ever; components end, then all other workers by weight, then the orphans.
    pub fn shutdown_blocking(&self) -> ShutdownReport<K> {
        block_on(|timer| async move { self.shut_down(self.time(&timer)).await })
    }
}

#[cfg(feature = "tokio")]
impl<K: Key> Manager<K> {
    /// [`quiesce_blocking`](Self::quiesce_blocking) for async code. Dropped half-way, it gives the gate back and leaves
    /// the loop among the orphans.
    pub async fn quiesce(&self, key: K) -> ComponentStatus {
        self.rest(self.time(&Timer::Tokio), key, None, Asker::Anybody).await
    }

    /// [`destroy_blocking`](Self::destroy_blocking) for async code.
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn destroy(&self, key: K) -> Result<()> {
        self.end(self.time(&Timer::Tokio), key).await
    }

    /// [`clear_blocking`](Self::clear_blocking) for async code. `wipe` runs without a pause, on the thread that polls:
    /// dropped half-way, the clear has wiped nothing.
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn clear<T>(&self, key: K, within: Duration, wipe: impl FnOnce() -> T) -> Result<T> {
        self.wipe_at_rest(self.time(&Timer::Tokio), key, within, wipe).await
    }

    /// [`shutdown_blocking`](Self::shutdown_blocking) for async code. Dropped half-way, it leaves gates and registry
    /// closed and every handle owned; called again, it goes on.
    pub async fn shutdown(&self) -> ShutdownReport<K> {
        self.shut_down(self.time(&Timer::Tokio)).await
    }
}

impl<K: Key> Manager<K> {
    pub(crate) fn time<'a>(&'a self, timer: &'a Timer) -> Time<'a> {
        self.registry.shared().time(timer)
    }

    fn component(&self, key: K) -> Option<Component> {
        lock(&self.components).known.get(&key).cloned()
    }

    /// Gate up, loop ended, pass drained, gate given back; all of it until `limit`, if there is one.
    pub(crate) async fn rest(
        &self,
        time: Time<'_>,
        key: K,
        limit: Option<Duration>,
        asker: Asker,
    ) -> ComponentStatus {
        let shared = self.registry.shared();
        let until = |span| limit.map_or(time.after(span), |limit| time.after(span).min(limit));
        let component = self.component(key).unwrap_or_default();
        let held = component.gate.hold();
        if asker != Asker::Clear && !self.clear_is_over(time, key, until(component.pass_budget)).await {
            return ComponentStatus { worker: WorkerStatus::Timeout, gate: GateStatus::PassTimeout };
        }
        let if_dropped = if asker == Asker::Shutdown { IfDropped::Keep } else { IfDropped::Park };
        let worker = shared.quiesce(time, key, limit, if_dropped).await;
        if asker == Asker::Shutdown {
            merge(&mut lock(&self.components).loops, key, &worker);
        }
        let gate = drain(time, &component.gate, &worker, until(component.pass_budget)).await;
        let lowers = mutants::on("quiesce_lowers_gate") && !self.registry.is_clearing(key);
        shared.probes.at("rested");
        drop(held);
        if lowers {
            component.gate.lower_whoever_holds();
        }
        ComponentStatus { worker, gate }
    }

    async fn clear_is_over(&self, time: Time<'_>, key: K, deadline: Duration) -> bool {
        let over = || !self.registry.is_clearing(key) || mutants::on("quiesce_ignores_clear");
        let look = || if over() { Look::Done(()) } else { Look::Later };
        wait(&self.registry.shared().signal, time, Some(deadline), look).await.is_some()
    }

    pub(crate) async fn end(&self, time: Time<'_>, key: K) -> Result<()> {
        let component = self.known(key)?;
        component.gate.close();
        if mutants::on("destroy_only_stops") {
            self.stop(key);
            return Ok(());
        }
        let status = self.rest(time, key, None, Asker::Anybody).await;
        self.require_rest(key, status)?;
        let known = &mut lock(&self.components).known;
        // Another destroy may have been faster, and the key be in use again.
        if known.get(&key).is_some_and(|now| now.gate.is(&component.gate)) {
            known.remove(&key);
        }
        Ok(())
    }

    pub(crate) async fn wipe_at_rest<T>(
        &self,
        time: Time<'_>,
        key: K,
        within: Duration,
        wipe: impl FnOnce() -> T,
    ) -> Result<T> {
        let gate = self.known(key)?.gate;
        let deadline = time.after(within);
        let _latch = self.registry.hold_clearing(key);
        let held = gate.hold();
        let mut status = self.rest(time, key, Some(deadline), Asker::Clear).await;
        self.require_rest(key, status.clone())?;
        let pass = gate.take_pass(time, deadline, &held).await.transpose()?;
        if pass.is_none() {
            status.gate = GateStatus::PassTimeout;
        }
        // Again: a thread may have been registered in that wait.
        self.require_rest(key, status)?;
        Ok(wipe())
    }

    fn known(&self, key: K) -> Result<Component> {
        self.component(key).ok_or_else(|| Error::UnknownComponent { key: format!("{key:?}") })
    }

    /// Clean, and nobody of the key alive, in its slot or among the orphans.
    fn require_rest(&self, key: K, mut status: ComponentStatus) -> Result<()> {
        let alive = if mutants::on("clear_asks_for_all_keys") {
            self.registry.any_alive()
        } else {
            self.registry.any_alive_for(key) && !mutants::on("clear_ignores_orphans")
        };
        if alive && status.worker.is_clean() {
            status.worker = WorkerStatus::Detached;
        }
        if status.is_clean() || mutants::on("clear_wipes_anyway") {
            return Ok(());
        }
        Err(Error::ShutdownIncomplete { key: format!("{key:?}"), status })
    }

    pub(crate) async fn shut_down(&self, time: Time<'_>) -> ShutdownReport<K> {
        // Gates and latch before the first await: nothing slips in between what follows.
        let held = self.close_gates();
        if !mutants::on("latch_after_components") {
            self.registry.shared().close();
        }
        let report = self.shutdown.share(time, || self.run_shutdown(time)).await;
        drop(held);
        report
    }

    fn close_gates(&self) -> Vec<GateGuard> {
        if mutants::on("gates_only_in_quiesce") {
            return Vec::new();
        }
        let mut components = lock(&self.components);
        components.closed = true;
        let gates = components.known.values().map(|component| &component.gate);
        gates
            .map(|gate| {
                if !mutants::on("shutdown_only_holds") {
                    gate.close();
                }
                gate.hold()
            })
            .collect()
    }

    async fn run_shutdown(&self, time: Time<'_>) -> ShutdownReport<K> {
        let shared = self.registry.shared();
        shared.run_tiers(time, Some(0)).await;
        let first = self.unfinished().into_iter().filter(|(key, _)| self.comes_first(*key));
        join_all(first.map(|(key, _)| async move {
            let status = self.rest(time, key, None, Asker::Shutdown).await;
            lock(&self.components).gates.insert(key, status.gate);
        }))
        .await;
        shared.probes.at("components_rested");
        let mut report = shared.shut_down(time).await;
        let per_worker = &report.per_worker;
        join_all(self.unfinished().into_iter().map(|(key, Component { gate, pass_budget })| async move {
            let worker = per_worker.get(&key).unwrap_or(&WorkerStatus::NotRunning);
            let status = drain(time, &gate, worker, time.after(pass_budget)).await;
            lock(&self.components).gates.insert(key, status);
        }))
        .await;
        {
            let components = lock(&self.components);
            // What the registry, which came later, did find is newer and stays.
            components.loops.iter().for_each(|(key, own)| merge(&mut report.per_worker, *key, own));
            report.gates.clone_from(&components.gates);
        }
        if let Some(closing) = &shared.table().closing {
            report.elapsed = shared.now().saturating_sub(closing.since);
        }
        report
    }

    /// The components whose gate the shutdown has not seen to.
    fn unfinished(&self) -> Vec<(K, Component)> {
        let components = lock(&self.components);
        let unfinished = components.known.iter().filter(|(key, _)| !components.gates.contains_key(key));
        unfinished.map(|(key, component)| (*key, component.clone())).collect()
    }

    /// Whether a component takes its turn before all plain workers of weight 0 and more; a loop of more weight waits for
    /// its tier.
    fn comes_first(&self, key: K) -> bool {
        let table = self.registry.shared().table();
        let weight = table.slots.get(&key).and_then(|slot| Some(slot.worker.as_ref()?.weight));
        weight.is_none_or(|weight| weight <= 0)
    }
}

impl Default for Component {
    fn default() -> Self {
        Self { gate: PassGate::new(), pass_budget: DEFAULT_PASS_BUDGET }
    }
}

/// Waits for a pass that is under way, until `deadline`. After a loop that is wedged only looks: it most likely holds the
/// pass itself, and was waited for already. After any other, however it ended, somebody else may hold it.
async fn drain(time: Time<'_>, gate: &PassGate, worker: &WorkerStatus, deadline: Duration) -> GateStatus {
    if (mutants::on("drain_needs_a_loop") && *worker == WorkerStatus::NotRunning)
        || (mutants::on("drain_needs_a_clean_loop") && !worker.is_clean())
    {
        return GateStatus::Drained;
    }
    let deadline = if worker.is_wedged() { time.clock.now() } else { deadline };
    let bound = (!mutants::on("drain_has_no_budget")).then_some(deadline);
    if gate.drain(time, bound).await { GateStatus::Drained } else { GateStatus::PassTimeout }
}

impl<K: Key> std::fmt::Debug for Manager<K> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let keys: Vec<K> = lock(&self.components).known.keys().copied().collect();
        f.debug_struct("Manager").field("components", &keys).field("registry", &self.registry).finish()
    }
}
