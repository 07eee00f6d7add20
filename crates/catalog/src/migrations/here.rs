//! What runs in this process, on which database.
//!
//! Two handles of one database must know of each other's runs, so this is the process's, not a handle's: a map from
//! identities to what is in flight there, which lives as long as a runner of that database.

use std::{
    collections::BTreeMap,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak},
    time::{Duration, Instant},
};

use crate::mutants;

use super::{Cancel, Identity, Status, clock::lock};

static HERE: Mutex<BTreeMap<Identity, Weak<Here>>> = Mutex::new(BTreeMap::new());

/// What runs in this process on one database.
#[derive(Debug, Default)]
pub(super) struct Here {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    flights: BTreeMap<String, Flight>,
    /// Ends that the store would not record.
    unrecorded: BTreeMap<String, Status>,
    next_ticket: u64,
}

#[derive(Debug)]
struct Flight {
    ticket: u64,
    /// The runner it is of.
    owner: String,
    cancel: Cancel,
}

/// The right to run a migration of a name in this process, until it is dropped.
#[derive(Debug)]
pub(super) struct Guard {
    here: Arc<Here>,
    name: String,
    pub(super) cancel: Cancel,
}

/// Why there is no such right.
pub(super) enum Taken {
    InFlight,
    Ended(Status),
}

impl Here {
    pub(super) fn of(identity: Identity) -> Arc<Self> {
        let identity =
            if mutants::on("guards_by_name_alone") { Identity::Unique(u64::MAX) } else { identity };
        let identity = if mutants::on("guards_by_handle") { Identity::unique() } else { identity };
        let mut all = lock(&HERE);
        all.retain(|_, here| here.strong_count() > 0);
        if let Some(here) = all.get(&identity).and_then(Weak::upgrade) {
            return here;
        }
        let here = Arc::new(Here::default());
        all.insert(identity, Arc::downgrade(&here));
        here
    }

    /// Takes the right to run `name`.
    pub(super) fn take(self: &Arc<Self>, name: &str, owner: &str) -> Result<Guard, Taken> {
        let mut state = lock(&self.state);
        if let Some(status) = state.unrecorded.get(name).filter(|_| !mutants::on("unrecorded_is_forgotten")) {
            return Err(Taken::Ended(*status));
        }
        if state.flights.contains_key(name) && !mutants::on("guards_let_all_in") {
            return Err(Taken::InFlight);
        }
        let (ticket, cancel) = (state.next_ticket, Cancel::default());
        state.next_ticket += 1;
        let flight = Flight { ticket, owner: owner.into(), cancel: cancel.clone() };
        state.flights.insert(name.into(), flight);
        Ok(Guard { here: Arc::clone(self), name: name.into(), cancel })
    }

    /// Orders the runs of one runner to stop.
    pub(super) fn cancel_all(&self, owner: &str) {
        lock(&self.state).flights.values().filter(|f| f.owner == owner).for_each(|f| f.cancel.cancel());
    }

    /// Waits until all that is in flight now, and that `which` asks for by name and owner, has ended; the names of what
    /// has not.
    pub(super) fn wait(&self, timeout: Duration, which: impl Fn(&str, &str) -> bool) -> Vec<String> {
        let until = Instant::now().checked_add(timeout);
        let state = lock(&self.state);
        let before = state.next_ticket;
        let left = |state: &State| -> Vec<String> {
            let waited_for = |(name, flight): &(&String, &Flight)| {
                (flight.ticket < before || mutants::on("wait_for_later_ones")) && which(name, &flight.owner)
            };
            state.flights.iter().filter(waited_for).map(|(name, _)| name.clone()).collect()
        };
        self.wait_until(state, until, left)
    }

    fn wait_until(
        &self,
        mut state: MutexGuard<'_, State>,
        until: Option<Instant>,
        left: impl Fn(&State) -> Vec<String>,
    ) -> Vec<String> {
        loop {
            let names = left(&state);
            let now = Instant::now();
            if names.is_empty() || until.is_some_and(|until| until <= now) {
                return names;
            }
            state = match until {
                Some(until) => {
                    let waited = self.changed.wait_timeout(state, until - now);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
                None => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }
}

impl Guard {
    /// Remembers an end that the store would not record, for as long as this process has the database open.
    pub(super) fn remember(&self, status: Status) {
        lock(&self.here.state).unrecorded.insert(self.name.clone(), status);
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        lock(&self.here.state).flights.remove(&self.name);
        self.here.changed.notify_all();
    }
}
