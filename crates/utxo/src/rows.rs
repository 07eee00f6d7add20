//! Who may change which transaction now.
//!
//! Several batches are in flight at once, each reads records, changes them and writes them back. A batch first takes the
//! rows of all transactions that it may change, in one step, and keeps them until it is committed. Each row has a line
//! of those who want it; whoever is first in all its lines goes ahead. Taking a place in all lines at once puts any two
//! batches in the same order everywhere, so none can wait for the other in a circle, and none is overtaken for ever.

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    sync::{Condvar, Mutex, PoisonError},
};

use crate::{TxId, mutants};

#[derive(Default)]
struct Lines {
    next_ticket: u64,
    lines: HashMap<TxId, VecDeque<u64>>,
}

/// The lines of all rows that somebody wants.
#[derive(Default)]
pub(crate) struct Rows {
    lines: Mutex<Lines>,
    moved: Condvar,
}

/// Rows that are held until this is dropped.
pub(crate) struct Held<'a> {
    rows: &'a Rows,
    txids: BTreeSet<TxId>,
}

impl Rows {
    /// Waits until no earlier holder of any of these is left.
    pub(crate) fn hold(&self, txids: impl IntoIterator<Item = TxId>) -> Held<'_> {
        let txids: BTreeSet<_> = txids.into_iter().collect();
        let mut state = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let ticket = state.next_ticket;
        state.next_ticket += 1;
        for txid in &txids {
            state.lines.entry(*txid).or_default().push_back(ticket);
        }
        let is_first = |state: &Lines| {
            txids.iter().all(|txid| state.lines.get(txid).and_then(VecDeque::front) == Some(&ticket))
        };
        while !is_first(&state) && !mutants::on("rows_not_held") {
            state = self.moved.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        drop(state);
        Held { rows: self, txids }
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        let mut state = self.rows.lines.lock().unwrap_or_else(PoisonError::into_inner);
        for txid in &self.txids {
            if let Some(line) = state.lines.get_mut(txid) {
                line.pop_front();
                if line.is_empty() {
                    state.lines.remove(txid);
                }
            }
        }
        drop(state);
        self.rows.moved.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    #[test]
    fn overlapping_batches_never_run_at_once_and_all_end() {
        let rows = Rows::default();
        let inside: Vec<_> = (0..8).map(|_| AtomicU32::new(0)).collect();
        std::thread::scope(|scope| {
            for thread in 0..4u64 {
                let (rows, inside) = (&rows, &inside);
                scope.spawn(move || {
                    let mut random = icecore_testkit::SplitMix64::new(thread);
                    for _ in 0..500 {
                        let mine: BTreeSet<_> = (0..3).map(|_| random.below(8) as u8).collect();
                        let held = rows.hold(mine.iter().map(|&n| TxId([n; 32])));
                        for &n in &mine {
                            assert_eq!(inside[usize::from(n)].fetch_add(1, Ordering::SeqCst), 0);
                        }
                        for &n in &mine {
                            inside[usize::from(n)].fetch_sub(1, Ordering::SeqCst);
                        }
                        drop(held);
                    }
                });
            }
        });
        assert!(rows.lines.lock().unwrap().lines.is_empty());
    }
}
