//! A batch function that a test holds in its hands.

use std::{
    sync::{Arc, Condvar, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use super::support::LIMIT;
use crate::{Batch, Batcher, Builder, Completion, Failure, ManualClock, Outcome, Reason};

pub(super) const HOUR: Duration = Duration::from_secs(3600);
/// Long enough to see that something does not happen which would happen at once.
pub(super) const MOMENT: Duration = Duration::from_millis(50);

/// Notes every batch that comes to it, and lets through as many as it is told to.
pub(super) struct Door {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    entered: Vec<(Vec<u32>, Reason)>,
    inside: usize,
    most_inside: usize,
    permits: usize,
}

impl Door {
    pub(super) fn closed() -> Arc<Self> {
        Arc::new(Self { state: Mutex::default(), changed: Condvar::new() })
    }

    pub(super) fn open() -> Arc<Self> {
        let door = Self::closed();
        door.let_pass(usize::MAX);
        door
    }

    pub(super) fn let_pass(&self, batches: usize) {
        let mut state = self.state.lock().unwrap();
        state.permits = state.permits.saturating_add(batches);
        self.changed.notify_all();
    }

    fn wait_while(&self, mut waits: impl FnMut(&mut State) -> bool) {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (state, waited) = self.changed.wait_timeout_while(state, LIMIT, |state| waits(state)).unwrap();
        drop(state);
        assert!(!waited.timed_out(), "the door stays closed, or nobody comes");
    }

    pub(super) fn pass<R, E>(&self, batch: &Batch<u32, R, E>) {
        {
            let mut state = self.state.lock().unwrap();
            state.entered.push((batch.items().copied().collect(), batch.reason()));
            state.inside += 1;
            state.most_inside = state.most_inside.max(state.inside);
            self.changed.notify_all();
        }
        self.wait_while(|state| {
            let waits = state.permits == 0;
            state.permits = state.permits.saturating_sub(1);
            waits
        });
        self.state.lock().unwrap().inside -= 1;
    }

    /// Waits until so many batches have come, since the start.
    pub(super) fn wait_entered(&self, batches: usize) {
        self.wait_while(|state| state.entered.len() < batches);
    }

    /// Sees that no more batches come than these.
    pub(super) fn stays_at(&self, batches: usize) {
        let state = self.state.lock().unwrap();
        let more = |state: &mut State| state.entered.len() <= batches;
        let (state, _) = self.changed.wait_timeout_while(state, MOMENT, more).unwrap();
        assert_eq!(state.entered.len(), batches);
    }

    pub(super) fn entered(&self) -> usize {
        self.state.lock().unwrap().entered.len()
    }

    pub(super) fn most_inside(&self) -> usize {
        self.state.lock().unwrap().most_inside
    }

    pub(super) fn batches(&self) -> Vec<(Vec<u32>, Reason)> {
        self.state.lock().unwrap().entered.clone()
    }

    pub(super) fn sizes(&self) -> Vec<(usize, Reason)> {
        self.batches().into_iter().map(|(items, reason)| (items.len(), reason)).collect()
    }

    /// Every item that came, sorted.
    pub(super) fn items(&self) -> Vec<u32> {
        let mut items: Vec<u32> = self.batches().into_iter().flat_map(|(items, _)| items).collect();
        items.sort_unstable();
        items
    }
}

/// A batcher whose items pass the door and come back as their results.
pub(super) fn behind(door: &Arc<Door>, builder: Builder<u32, u32>) -> Batcher<u32, u32> {
    let door = Arc::clone(door);
    let function = move |batch: Batch<u32, u32>, _: &_| {
        door.pass(&batch);
        batch.finish_each(Ok);
    };
    builder.start(function).unwrap()
}

/// Waits for a result that must come.
pub(super) fn result<R: Send, E: Send>(completion: Completion<R, E>) -> Outcome<R, E> {
    completion.wait_timeout(LIMIT).expect("the result does not come")
}

pub(super) fn panicked<R, E>(outcome: &Outcome<R, E>) -> bool {
    matches!(outcome, Err(Failure::BatchPanicked { .. }))
}

/// Waits for something that must become true.
pub(super) fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < LIMIT, "{what}: never");
        thread::yield_now();
    }
}

/// Waits until somebody sleeps by this clock.
pub(super) fn wait_armed(clock: &ManualClock) {
    eventually("a timer is armed", || clock.sleepers() == 1);
}
