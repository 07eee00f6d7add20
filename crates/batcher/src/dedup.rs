//! Which keys were accepted a short while ago: a set in time slices, exact, forgotten slice by slice.
//!
//! A key goes into the bucket of its arrival. Bucket `b` covers the times from `b · bucket` on and is forgotten at
//! `(b + 1) · bucket + window`, so a key is known for at least `window` and at most `window + bucket`. It is tentative
//! until its item finished with success; after anything else it is forgotten, so that a retry is executed.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    hash::Hash,
    num::NonZeroU64,
    sync::Arc,
    time::Duration,
};

use crate::{
    BuildError, DedupEvent, Failure, Meter, Outcome,
    completion::Sink,
    mutants,
    sync::{Mutex, lock},
};

/// Names one acceptance of a key.
pub(crate) type Ticket = NonZeroU64;

/// What to do with an item whose key is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Policy {
    Drop,
    Join,
}

/// How items of one key are recognised and treated; see [`crate::Builder::dedup`].
///
/// The window is 60 s in buckets of 1 s unless set otherwise, at most a million keys are remembered, and an item whose
/// key is known is turned away with [`crate::SubmitError::Duplicate`].
pub struct Dedup<T, K, R, E> {
    key: Box<dyn Fn(&T) -> K + Send + Sync>,
    window: Duration,
    bucket: Duration,
    max_keys: usize,
    policy: Policy,
    copy: Option<CopyOutcome<R, E>>,
}

type CopyOutcome<R, E> = fn(&Outcome<R, E>) -> Outcome<R, E>;

impl<T, K, R, E> Dedup<T, K, R, E> {
    /// Items are the same if this gives the same key for them. Called under the queue's lock: keep it short.
    pub fn by(key: impl Fn(&T) -> K + Send + Sync + 'static) -> Self {
        Self {
            key: Box::new(key),
            window: Duration::from_secs(60),
            bucket: Duration::from_secs(1),
            max_keys: 1 << 20,
            policy: Policy::Drop,
            copy: None,
        }
    }

    /// A key is known for at least this long.
    pub fn window(mut self, window: Duration) -> Self {
        self.window = window;
        self
    }

    /// A key is forgotten at most this much later than the window; a divisor of it.
    pub fn bucket(mut self, bucket: Duration) -> Self {
        self.bucket = bucket;
        self
    }

    /// No more keys than this are remembered: the oldest bucket goes early.
    pub fn max_keys(mut self, max_keys: usize) -> Self {
        self.max_keys = max_keys;
        self
    }

    /// An item whose key is known shares the first one's result instead of being turned away.
    pub fn join(mut self) -> Self
    where
        R: Clone,
        E: Clone,
    {
        self.policy = Policy::Join;
        self.copy = Some(Outcome::clone);
        self
    }

    pub(crate) fn into_table(
        self,
        batcher: &str,
        meter: Option<Arc<dyn Meter>>,
    ) -> Result<Table<T, K, R, E>, BuildError> {
        let zero = |option| BuildError::Zero { batcher: batcher.to_owned(), option };
        if self.window.is_zero() {
            return Err(zero("dedup.window"));
        }
        if self.bucket.is_zero() {
            return Err(zero("dedup.bucket"));
        }
        if self.max_keys == 0 {
            return Err(zero("dedup.max_keys"));
        }
        let buckets = self.window.as_nanos() / self.bucket.as_nanos();
        let whole = self.window.as_nanos().is_multiple_of(self.bucket.as_nanos());
        if !whole || buckets > 1_000_000 {
            return Err(BuildError::Buckets { batcher: batcher.to_owned() });
        }
        if mutants::on("dedup_helper_thread") {
            let helper = std::thread::Builder::new().name(batcher.to_owned());
            let _ = helper.spawn(|| {
                loop {
                    std::thread::park()
                }
            });
        }
        Ok(Table { options: self, meter, keys: Mutex::default() })
    }
}

/// What the table makes of an item.
pub(crate) enum Verdict<R, E> {
    /// A new key: the item is to be executed.
    Fresh(Ticket, Sink<R, E>),
    /// A known key, and the submitter is to hear of it.
    Duplicate(Sink<R, E>),
    /// A known key; the submitter gets the first one's result.
    Joined,
}

/// Told how items end.
pub(crate) trait Settle<R, E>: Send + Sync {
    fn settle(&self, ticket: Ticket, outcome: &Outcome<R, E>);
}

/// A table of keys, whatever their type is.
pub(crate) trait Admit<T, R, E>: Settle<R, E> {
    /// Tests and inserts in one step.
    fn admit(&self, item: &T, sink: Sink<R, E>, now: Duration) -> Verdict<R, E>;
}

pub(crate) struct Table<T, K, R, E> {
    options: Dedup<T, K, R, E>,
    meter: Option<Arc<dyn Meter>>,
    keys: Mutex<Keys<K, R, E>>,
}

struct Keys<K, R, E> {
    known: HashMap<K, Known<R, E>>,
    /// Which keys came in which bucket, oldest first.
    buckets: VecDeque<(u128, HashSet<K>)>,
    /// Items accepted and not ended, and who shares their results.
    open: HashMap<Ticket, Open<K, R, E>>,
    next_ticket: u64,
}

struct Known<R, E> {
    ticket: Ticket,
    bucket: u128,
    /// What later items share, once there is a result.
    result: Option<Outcome<R, E>>,
}

struct Open<K, R, E> {
    key: K,
    followers: Vec<Sink<R, E>>,
}

impl<K, R, E> Default for Keys<K, R, E> {
    fn default() -> Self {
        Self { known: HashMap::new(), buckets: VecDeque::new(), open: HashMap::new(), next_ticket: 0 }
    }
}

impl<K: Hash + Eq + Clone, R, E> Keys<K, R, E> {
    /// Forgets the buckets whose time is over.
    fn expire(&mut self, current: u128, buckets: u128) {
        while self.buckets.front().is_some_and(|(bucket, _)| {
            bucket + buckets < current + u128::from(mutants::on("dedup_forgets_early"))
        }) {
            self.forget_oldest();
        }
    }

    /// Forgets the oldest bucket; gives the number of its keys.
    fn forget_oldest(&mut self) -> u64 {
        let Some((_, keys)) = self.buckets.pop_front() else {
            return 0;
        };
        for key in &keys {
            self.known.remove(key);
        }
        keys.len() as u64
    }

    fn insert(&mut self, key: K, now: u128) -> Ticket {
        self.next_ticket += 1;
        let ticket = Ticket::new(self.next_ticket).unwrap_or(Ticket::MIN);
        let last = self.buckets.back().map(|(last, _)| *last);
        let bucket = last.map_or(now, |last| last.max(now));
        if last != Some(bucket) {
            self.buckets.push_back((bucket, HashSet::new()));
        }
        if let Some((_, keys)) = self.buckets.back_mut() {
            keys.insert(key.clone());
        }
        self.known.insert(key.clone(), Known { ticket, bucket, result: None });
        self.open.insert(ticket, Open { key, followers: Vec::new() });
        ticket
    }

    fn forget(&mut self, key: &K) {
        if let Some(known) = self.known.remove(key)
            && let Some((_, keys)) = self.buckets.iter_mut().find(|(bucket, _)| *bucket == known.bucket)
        {
            keys.remove(key);
        }
    }
}

impl<T, K: Hash + Eq + Clone + Send, R: Send, E: Send> Settle<R, E> for Table<T, K, R, E> {
    fn settle(&self, ticket: Ticket, outcome: &Outcome<R, E>) {
        let firm = outcome.is_ok() || mutants::on("dedup_keeps_failures");
        let result = self.options.copy.filter(|_| firm).map(|copy| copy(outcome));
        let mut keys = lock(&self.keys);
        let Some(Open { key, followers }) = keys.open.remove(&ticket) else {
            return;
        };
        if let Some(known) = keys.known.get_mut(&key).filter(|known| known.ticket == ticket) {
            if firm {
                known.result = result;
            } else {
                keys.forget(&key);
            }
        }
        drop(keys);
        if let Some(copy) = self.options.copy.filter(|_| !mutants::on("joiners_forgotten")) {
            followers.into_iter().for_each(|follower| follower.publish(copy(outcome)));
        }
    }
}

impl<T, K: Hash + Eq + Clone + Send, R: Send, E: Send> Admit<T, R, E> for Table<T, K, R, E> {
    fn admit(&self, item: &T, sink: Sink<R, E>, now: Duration) -> Verdict<R, E> {
        let options = &self.options;
        let key = (options.key)(item);
        let current = now.as_nanos() / options.bucket.as_nanos().max(1);
        let mut keys = lock(&self.keys);
        keys.expire(current, options.window.as_nanos() / options.bucket.as_nanos().max(1));
        let keys = &mut *keys;
        let tentative = |known: &&Known<R, E>| keys.open.contains_key(&known.ticket);
        let seen = |known: &&Known<R, E>| !(mutants::on("dedup_sees_only_firm") && tentative(known));
        if let Some(known) = keys.known.get(&key).filter(seen) {
            self.count(DedupEvent::Hit, 1);
            let (Policy::Join, Some(copy)) = (options.policy, options.copy) else {
                return Verdict::Duplicate(sink);
            };
            match (&known.result, keys.open.get_mut(&known.ticket)) {
                (Some(result), _) => sink.publish(copy(result)),
                (None, Some(open)) => open.followers.push(sink),
                // Known, without a result and not open: cannot be, both change together.
                (None, None) => sink.publish(Err(Failure::Duplicate)),
            }
            return Verdict::Joined;
        }
        self.count(DedupEvent::Miss, 1);
        while keys.known.len() >= options.max_keys {
            let evicted = keys.forget_oldest();
            self.count(DedupEvent::Evicted, evicted);
        }
        Verdict::Fresh(keys.insert(key, current), sink)
    }
}

impl<T, K, R, E> Table<T, K, R, E> {
    fn count(&self, event: DedupEvent, items: u64) {
        if let Some(meter) = &self.meter {
            meter.dedup(event, items);
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::{collections::BTreeMap, time::Duration};

    use proptest::prelude::*;

    use super::{Admit, Dedup, Settle, Table, Ticket, Verdict};
    use crate::{Failure, completion::Sink};

    const WINDOW: u64 = 6;
    const BUCKET: u64 = 2;

    #[derive(Clone, Copy, Debug)]
    enum Step {
        Submit(u8),
        /// The oldest open item ends, well or badly.
        End(bool),
        Advance(u8),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            4 => (0..4u8).prop_map(Step::Submit),
            3 => any::<bool>().prop_map(Step::End),
            2 => (0..4u8).prop_map(Step::Advance),
        ];
        prop::collection::vec(step, 0..200)
    }

    proptest! {
        /// Against a map from keys to the ends of their times.
        #[test]
        fn the_table_knows_what_a_plain_map_knows(steps in steps()) {
            let options = Dedup::<u8, u8, (), ()>::by(|item| *item)
                .window(Duration::from_secs(WINDOW))
                .bucket(Duration::from_secs(BUCKET));
            let table: Table<_, _, _, _> = options.into_table("model", None).unwrap();
            let mut until = BTreeMap::<u8, (u64, Ticket)>::new();
            let (mut open, mut now) = (std::collections::VecDeque::new(), 0);
            for step in steps {
                match step {
                    Step::Advance(by) => now += u64::from(by),
                    Step::Submit(key) => {
                        until.retain(|_, (end, _)| *end > now);
                        match table.admit(&key, Sink::Detached, Duration::from_secs(now)) {
                            Verdict::Fresh(ticket, _) => {
                                prop_assert!(!until.contains_key(&key));
                                until.insert(key, ((now / BUCKET + 1) * BUCKET + WINDOW, ticket));
                                open.push_back((key, ticket));
                            }
                            Verdict::Duplicate(_) => prop_assert!(until.contains_key(&key)),
                            Verdict::Joined => prop_assert!(false),
                        }
                    }
                    Step::End(well) => {
                        let Some((key, ticket)) = open.pop_front() else { continue };
                        table.settle(ticket, &if well { Ok(()) } else { Err(Failure::Failed(())) });
                        if !well && until.get(&key).is_some_and(|(_, known)| *known == ticket) {
                            until.remove(&key);
                        }
                    }
                }
            }
        }
    }
}
