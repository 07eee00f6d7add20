//! Whose turn it is to write: one step at a time, and live work before migrations.

use std::{
    ops::{Deref, DerefMut},
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
};

use crate::mutants;

use super::{Turn, clock::lock};

/// The one slot for writers of a store, with what only its holder may touch. Whoever is live gets it next, however long
/// migrations have waited; so a live write waits for one step of a migration at most. Not re-entrant: a step must not ask
/// for another turn.
#[derive(Debug, Default)]
pub struct Slots<T> {
    state: Mutex<Waiting>,
    freed: Condvar,
    value: Mutex<T>,
}

#[derive(Debug, Default)]
struct Waiting {
    taken: bool,
    live: usize,
    migrations: usize,
    /// How often a migration went before somebody live.
    #[cfg(test)]
    overtaken: usize,
}

/// The right to write, until it is dropped.
#[derive(Debug)]
pub struct Slot<'a, T> {
    slots: &'a Slots<T>,
    value: MutexGuard<'a, T>,
}

impl<T> Slots<T> {
    /// Waits for the turn.
    pub fn take(&self, turn: Turn) -> Slot<'_, T> {
        let mut state = lock(&self.state);
        *state.of(turn) += 1;
        let wait = self.freed.wait_while(state, |state| state.taken || !state.is_next(turn));
        state = wait.unwrap_or_else(PoisonError::into_inner);
        *state.of(turn) -= 1;
        state.taken = true;
        #[cfg(test)]
        (state.overtaken += usize::from(turn == Turn::Migration && state.live > 0));
        drop(state);
        Slot { slots: self, value: lock(&self.value) }
    }

    /// How many wait, live ones and migrations.
    #[cfg(test)]
    pub(super) fn waiting(&self) -> (usize, usize) {
        let state = lock(&self.state);
        (state.live, state.migrations)
    }

    #[cfg(test)]
    pub(super) fn overtaken(&self) -> usize {
        lock(&self.state).overtaken
    }
}

impl Waiting {
    fn of(&mut self, turn: Turn) -> &mut usize {
        match turn {
            Turn::Live => &mut self.live,
            Turn::Migration => &mut self.migrations,
        }
    }

    fn is_next(&self, turn: Turn) -> bool {
        if mutants::on("migrations_first") {
            return turn == Turn::Migration || self.migrations == 0;
        }
        turn == Turn::Live || self.live == 0
    }
}

impl<T> Deref for Slot<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T> DerefMut for Slot<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.value
    }
}

impl<T> Drop for Slot<'_, T> {
    fn drop(&mut self) {
        lock(&self.slots.state).taken = false;
        // All, since the one that must go first is not the one that waits longest.
        self.slots.freed.notify_all();
    }
}
