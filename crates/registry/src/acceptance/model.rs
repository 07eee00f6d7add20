//! Random runs of a whole registry against a model that fits on a screen.

use proptest::prelude::*;

use super::*;

const KEYS: [Key; 2] = ["a", "b"];

#[derive(Clone, Copy, Debug)]
enum Op {
    Start(Key),
    Cancel(Key),
    /// Lets the n-th living worker go.
    LetGo(usize),
    Quiesce(Key),
    DropQuiesce(Key),
    Reap,
    Hold(Key),
    Unhold(Key),
    Shutdown,
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let key = || prop::sample::select(KEYS.as_slice());
    let op = prop_oneof![
        6 => key().prop_map(Op::Start),
        4 => key().prop_map(Op::Cancel),
        5 => (0..8_usize).prop_map(Op::LetGo),
        2 => key().prop_map(Op::Quiesce),
        2 => key().prop_map(Op::DropQuiesce),
        2 => Just(Op::Reap),
        1 => key().prop_map(Op::Hold),
        2 => key().prop_map(Op::Unhold),
        1 => Just(Op::Shutdown),
    ];
    prop::collection::vec(op, 1..30)
}

struct Known {
    key: Key,
    generation: u64,
    in_slot: bool,
    /// Not told to end, and has not ended.
    running: bool,
    /// Gone when it was let go.
    wedge: Option<Wedge>,
}

#[derive(Default)]
struct Model {
    known: Vec<Known>,
    guards: Vec<(Key, crate::ClearingGuard<Key>)>,
    closing: bool,
    /// Every key that ever had a slot.
    started: std::collections::BTreeSet<Key>,
}

impl Model {
    fn slot(&mut self, key: Key) -> Option<&mut Known> {
        self.known.iter_mut().find(|worker| worker.key == key && worker.in_slot)
    }

    fn orphan_alive(&self, key: Key) -> bool {
        self.known.iter().any(|worker| worker.key == key && !worker.in_slot && worker.wedge.is_some())
    }

    fn alive(&self) -> Vec<(Key, u64)> {
        let mut alive: Vec<_> = self.known.iter().filter(|worker| worker.wedge.is_some()).collect();
        alive.sort_by_key(|worker| (worker.key, worker.generation));
        alive.into_iter().map(|worker| (worker.key, worker.generation)).collect()
    }

    fn forget(&mut self, gone: impl Fn(&Known) -> bool) {
        self.known.retain(|worker| !gone(worker));
    }

    /// A quiesce that waits for nobody.
    fn quiesce(&mut self, key: Key) -> WorkerStatus {
        let orphan_alive = self.orphan_alive(key);
        let Some(worker) = self.slot(key) else {
            return if orphan_alive { WorkerStatus::Detached } else { WorkerStatus::NotRunning };
        };
        if worker.wedge.is_some() {
            (worker.in_slot, worker.running) = (false, false);
            return WorkerStatus::Timeout;
        }
        self.forget(|worker| worker.key == key && worker.in_slot);
        WorkerStatus::Ok
    }

    fn reap(&mut self) -> Vec<(Key, WorkerStatus)> {
        let orphans = self.known.iter().filter(|worker| !worker.in_slot);
        let status = |alive| if alive { WorkerStatus::Detached } else { WorkerStatus::Ok };
        let mut reaped: Vec<_> = orphans.map(|worker| (worker.key, status(worker.wedge.is_some()))).collect();
        self.forget(|worker| !worker.in_slot && worker.wedge.is_none());
        reaped.sort_by_key(|(key, status)| (*key, status.is_clean()));
        reaped
    }

    fn start(&mut self, registry: &Registry<Key>, key: Key) {
        let mut wedge = Wedge::new();
        let outcome = registry.start_thread(key, WorkerConfig::default(), wedge.body());
        let clearing = self.guards.iter().any(|(held, _)| *held == key);
        let running = self.slot(key).is_some_and(|worker| worker.running);
        match outcome {
            StartOutcome::Closing => assert!(self.closing),
            StartOutcome::Clearing => assert!(!self.closing && clearing),
            StartOutcome::AlreadyRunning => assert!(!self.closing && !clearing && running),
            StartOutcome::Started(generation) => {
                assert!(!self.closing && !clearing && !running);
                if let Some(old) = self.slot(key) {
                    old.in_slot = false;
                    let (old, ended) = (old.generation, old.wedge.is_none());
                    self.forget(|worker| ended && worker.key == key && worker.generation == old);
                }
                let wedge = Some(wedge);
                self.known.push(Known { key, generation, in_slot: true, running: true, wedge });
                self.started.insert(key);
            }
            outcome => panic!("{outcome:?}"),
        }
    }

    fn let_go(&mut self, registry: &Registry<Key>, nth: usize) {
        let alive = self.alive();
        let Some((key, generation)) = alive.get(nth).copied() else { return };
        let chosen = |worker: &&mut Known| worker.key == key && worker.generation == generation;
        if let Some(worker) = self.known.iter_mut().find(chosen) {
            (worker.wedge, worker.running) = (None, false);
        }
        // Its epilogue is over when the token is gone, if the slot is still its own.
        let mine = |table: &crate::table::Table<Key>| {
            table.slots.get(key).is_some_and(|slot| slot.generation == generation && slot.token.is_some())
        };
        until(|| registry.shared().table().alive().len() < alive.len() && !mine(&registry.shared().table()));
    }

    fn shutdown(&mut self, registry: &Registry<Key>, clock: &ManualClock) {
        let report = until_over(shutdown(registry), clock);
        if !std::mem::replace(&mut self.closing, true) {
            let started = self.started.clone();
            let expected: Vec<_> = started.into_iter().map(|key| (key, self.quiesce(key))).collect();
            assert_eq!(report.per_worker.clone().into_iter().collect::<Vec<_>>(), expected);
            assert_eq!(report.orphan_status.len(), self.reap().len());
            assert_eq!(report.detached, self.alive().len());
            let ended_well = expected.iter().all(|(_, status)| status.is_clean());
            assert_eq!(report.all_clean(), ended_well && report.detached == 0);
        }
    }

    fn check(&mut self, registry: &Registry<Key>) {
        for key in KEYS {
            assert_eq!(registry.is_running(key), self.slot(key).is_some_and(|worker| worker.running));
            let alive = self.known.iter().any(|worker| worker.key == key && worker.wedge.is_some());
            assert_eq!(registry.any_alive_for(key), alive);
            assert_eq!(registry.is_clearing(key), self.guards.iter().any(|(held, _)| *held == key));
        }
        assert_eq!(registry.any_alive(), !self.alive().is_empty());
        assert_eq!(registry.is_closing(), self.closing);
        assert_eq!(registry.orphan_count(), self.known.iter().filter(|worker| !worker.in_slot).count());
        let mut known: Vec<_> = self.known.iter().map(|worker| (worker.key, worker.generation)).collect();
        known.sort_unstable();
        let seen: Vec<_> = registry.snapshot().iter().map(|info| (info.key, info.generation)).collect();
        assert_eq!(seen, known);
    }
}

/// Steps through one budget after the other.
fn until_over<T>(mut future: Steps<'_, T>, clock: &ManualClock) -> T {
    for _ in 0..4 {
        if let Poll::Ready(value) = future.step() {
            return value;
        }
        clock.advance(BUDGET);
    }
    future.ready()
}

fn run(ops: Vec<Op>) {
    let (registry, clock) = by_hand();
    let mut model = Model::default();
    for op in ops {
        match op {
            Op::Start(key) => model.start(&registry, key),
            Op::Cancel(key) => {
                let running =
                    model.slot(key).is_some_and(|worker| std::mem::replace(&mut worker.running, false));
                assert_eq!(registry.cancel(key), running);
            }
            Op::LetGo(nth) => model.let_go(&registry, nth),
            Op::Quiesce(key) => {
                let status = until_over(quiesce(&registry, key), &clock);
                assert_eq!(status, model.quiesce(key));
            }
            Op::DropQuiesce(key) => match (quiesce(&registry, key).step(), model.quiesce(key)) {
                (Poll::Pending, status) => assert_eq!(status, WorkerStatus::Timeout),
                (Poll::Ready(status), expected) => assert_eq!(status, expected),
            },
            Op::Reap => {
                let mut reaped = registry.reap_orphans_blocking(Duration::ZERO);
                reaped.sort_by_key(|(key, status)| (*key, status.is_clean()));
                assert_eq!(reaped, model.reap());
            }
            Op::Hold(key) => model.guards.push((key, registry.hold_clearing(key))),
            Op::Unhold(key) => {
                let held = model.guards.iter().position(|(held, _)| *held == key);
                drop(held.map(|held| model.guards.swap_remove(held)));
            }
            Op::Shutdown => model.shutdown(&registry, &clock),
        }
        model.check(&registry);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn registry_is_as_its_model(ops in ops()) {
        within_seconds(5, move || run(ops));
    }
}
