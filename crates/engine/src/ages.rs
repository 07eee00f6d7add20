//! How old the oldest view is that is still held: what keeps demoted hot chunks from going.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use arc_swap::ArcSwap;

/// How finely ages are told.
const GRAIN: Duration = Duration::from_secs(1);

/// Views of about the same age share one of these.
#[derive(Debug)]
pub(crate) struct Generation {
    since: Duration,
}

/// The generations of views that are held.
#[derive(Debug)]
pub(crate) struct Ages {
    now: ArcSwap<Generation>,
    before: Mutex<VecDeque<Weak<Generation>>>,
}

impl Default for Ages {
    fn default() -> Self {
        Ages { now: ArcSwap::from_pointee(Generation { since: Duration::ZERO }), before: Mutex::default() }
    }
}

impl Ages {
    /// The generation of a view that is taken now.
    pub(crate) fn enter(&self, now: Duration) -> Arc<Generation> {
        let current = self.now.load_full();
        if now.saturating_sub(current.since) < GRAIN {
            return current;
        }
        let mut before = self.before.lock().unwrap_or_else(PoisonError::into_inner);
        let current = self.now.load_full();
        if now.saturating_sub(current.since) >= GRAIN {
            before.push_back(Arc::downgrade(&current));
            before.retain(|generation| generation.strong_count() > 0);
            self.now.store(Arc::new(Generation { since: now }));
        }
        self.now.load_full()
    }

    /// The age of the oldest view that is held, at most one grain more or less; zero where there is none.
    pub(crate) fn oldest(&self, now: Duration) -> Duration {
        let before = self.before.lock().unwrap_or_else(PoisonError::into_inner);
        let oldest = before.iter().find_map(Weak::upgrade);
        oldest.map_or(Duration::ZERO, |generation| now.saturating_sub(generation.since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_view_that_is_held_counts() {
        let ages = Ages::default();
        let at = Duration::from_secs;
        let old = ages.enter(at(10));
        let young = ages.enter(at(20));
        assert_eq!(ages.oldest(at(30)), at(20));
        drop(old);
        drop(ages.enter(at(30)));
        assert_eq!(ages.oldest(at(30)), at(10));
        drop(young);
        assert_eq!(ages.oldest(at(40)), at(0));
    }
}
