//! The bounded queue between submitters and the leading worker, and the one point where acceptance ends.
//!
//! Submitters append under the lock. The leader swaps the whole queue into its hand and cuts batches from there without
//! the lock; the capacity counts what lies in the queue, so as much again may be in the hand. A submitter wakes the
//! leader only when there is enough for it; the leader wakes blocked submitters only when it empties the queue.
//! Whoever wants something else of the leader changes the state under the lock and raises `urgent`.

use std::{collections::VecDeque, ops::Deref, sync::Arc, task::Waker, time::Duration, vec};

use crate::{
    Clock, Reason, TriggerMode,
    completion::Sink,
    mutants,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering, fence},
        lock, register, thread,
    },
    trigger::{Decision, Situation},
};

/// Who submits: the outside, or a producer over a declared edge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    External,
    Internal,
}

/// Who may still submit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Admission {
    All,
    InternalOnly,
    Nobody,
}

/// Why a push was not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    Closed,
    Full,
}

/// Reached when every item before `target` has left the queue, and has ended if that is asked for.
struct Barrier {
    target: u64,
    ended: bool,
    sink: Sink<(), std::convert::Infallible>,
}

struct State<X> {
    items: VecDeque<X>,
    admission: Admission,
    /// When the first item came, if the queue was empty then.
    first_at: Option<Duration>,
    /// The leader, parked until the queue holds `wake_at` items.
    leader: Option<thread::Thread>,
    wake_at: usize,
    /// Submitters waiting for room.
    room: Vec<Waker>,
    /// Items before this number were asked for.
    manual: u64,
    eager: bool,
    aborted: bool,
    barriers: Vec<Barrier>,
}

/// The leader's own: what it took from the queue and has not fired.
pub(crate) struct Hand<X> {
    items: VecDeque<X>,
    /// When the first of them came, or when the batch before it was fired.
    first_at: Option<Duration>,
    /// Batches fired, by reason.
    pub(crate) fired: [u64; Reason::ALL.len()],
    /// When the last free slot was taken.
    pub(crate) left_at: Option<Duration>,
}

impl<X> Hand<X> {
    pub(crate) fn new() -> Self {
        Self { items: VecDeque::new(), first_at: None, fired: [0; Reason::ALL.len()], left_at: None }
    }

    pub(crate) fn clear(&mut self) -> VecDeque<X> {
        std::mem::take(&mut self.items)
    }
}

/// What is left of a batch; one item by itself costs no allocation.
pub(crate) enum Cut<X> {
    One(Option<X>),
    Many(vec::IntoIter<X>),
}

impl<X> Cut<X> {
    pub(crate) fn as_slice(&self) -> &[X] {
        match self {
            Self::One(item) => item.as_slice(),
            Self::Many(items) => items.as_slice(),
        }
    }

    fn filtered(self, keep: fn(&X) -> bool) -> Self {
        match self {
            Self::One(item) => Self::One(item.filter(keep)),
            Self::Many(items) => Self::Many(items.filter(keep).collect::<Vec<_>>().into_iter()),
        }
    }
}

impl<X> Iterator for Cut<X> {
    type Item = X;

    #[inline]
    fn next(&mut self) -> Option<X> {
        match self {
            Self::One(item) => item.take(),
            Self::Many(items) => items.next(),
        }
    }

    #[inline]
    fn size_hint(&self) -> (usize, Option<usize>) {
        let len = self.as_slice().len();
        (len, Some(len))
    }
}

impl<X> ExactSizeIterator for Cut<X> {}

/// The number of the first item of a slot's running batch; [`Running::IDLE`] between batches.
pub(crate) type Running = Arc<AtomicU64>;
pub(crate) const IDLE: u64 = u64::MAX;

/// How the queue is to behave.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    pub(crate) size: usize,
    pub(crate) capacity: usize,
    pub(crate) mode: TriggerMode,
    pub(crate) timeout: Duration,
}

pub(crate) struct Queue<X> {
    rules: Rules,
    clock: Arc<dyn Clock>,
    start: Duration,
    submitters: Apart<Submitters<X>>,
    leader: Apart<Leader>,
    running: Mutex<Vec<Running>>,
}

/// Keeps what different threads write on different cache lines.
#[repr(align(128))]
struct Apart<V>(V);

impl<V> Deref for Apart<V> {
    type Target = V;

    fn deref(&self) -> &V {
        &self.0
    }
}

/// What submitters write.
struct Submitters<X> {
    state: Mutex<State<X>>,
    /// Items accepted so far; written under the lock.
    accepted: AtomicU64,
}

/// What the leader writes, or reads for each batch.
struct Leader {
    /// Someone wants the leader to look at the state before the next batch.
    urgent: AtomicBool,
    /// Items that left for the batch function; written by the leader.
    handed: AtomicU64,
    /// Items that an abort took.
    dropped: AtomicU64,
}

impl<X> Queue<X> {
    pub(crate) fn new(rules: Rules, clock: Arc<dyn Clock>) -> Self {
        let state = State {
            items: VecDeque::new(),
            admission: Admission::All,
            first_at: None,
            leader: None,
            wake_at: usize::MAX,
            room: Vec::new(),
            manual: 0,
            eager: false,
            aborted: false,
            barriers: Vec::new(),
        };
        Self {
            rules,
            start: clock.now(),
            clock,
            submitters: Apart(Submitters { state: Mutex::new(state), accepted: AtomicU64::new(0) }),
            leader: Apart(Leader {
                urgent: AtomicBool::new(false),
                handed: AtomicU64::new(0),
                dropped: AtomicU64::new(0),
            }),
            running: Mutex::new(Vec::new()),
        }
    }

    /// A place to note which batch a slot runs.
    pub(crate) fn add_slot(&self) -> Running {
        let slot = Arc::new(AtomicU64::new(IDLE));
        lock(&self.running).push(Arc::clone(&slot));
        slot
    }

    /// Items accepted and not yet handed to the batch function.
    pub(crate) fn len(&self) -> u64 {
        let gone = self.gone();
        self.submitters.accepted.load(Ordering::SeqCst).saturating_sub(gone)
    }

    /// Submitters that wait for room.
    #[cfg(all(test, not(loom)))]
    pub(crate) fn waiting(&self) -> usize {
        lock(&self.submitters.state).room.len()
    }

    /// Batches cut and not ended.
    pub(crate) fn in_flight(&self) -> usize {
        lock(&self.running).iter().filter(|slot| slot.load(Ordering::SeqCst) != IDLE).count()
    }

    /// Items that left for the batch function.
    pub(crate) fn handed(&self) -> u64 {
        self.leader.handed.load(Ordering::SeqCst)
    }

    /// Items that an abort took.
    pub(crate) fn dropped(&self) -> u64 {
        self.leader.dropped.load(Ordering::SeqCst)
    }

    /// Items that left the queue either way.
    fn gone(&self) -> u64 {
        self.dropped() + self.handed()
    }

    /// Accepts what `fill` appends of a parcel, if the class is admitted and there is any room; a group goes in whole.
    /// Gives the number of items and what `fill` says; or the parcel back. Where the queue is full, `waker` is woken when
    /// it is worth another try.
    #[inline(always)]
    pub(crate) fn push<P, V>(
        &self,
        class: Class,
        waker: Option<&Waker>,
        parcel: P,
        fill: impl FnOnce(P, &mut VecDeque<X>) -> V,
    ) -> Result<(usize, V), (P, Refusal)> {
        let mut state = lock(&self.submitters.state);
        let admitted = match class {
            Class::External => state.admission == Admission::All,
            Class::Internal => state.admission <= Admission::InternalOnly,
        };
        if !admitted && !mutants::on("accept_after_close") {
            return Err((parcel, Refusal::Closed));
        }
        let before = state.items.len();
        if before >= self.rules.capacity {
            if let Some(waker) = waker {
                register(&mut state.room, waker);
            }
            return Err((parcel, Refusal::Full));
        }
        let value = fill(parcel, &mut state.items);
        let added = state.items.len() - before;
        if before == 0 && added > 0 && self.rules.size > 1 && self.rules.mode.is_timed() {
            state.first_at = Some(self.clock.now());
        }
        let accepted = self.submitters.accepted.load(Ordering::Relaxed) + added as u64;
        self.submitters.accepted.store(accepted, Ordering::Release);
        let leader = if state.items.len() >= state.wake_at { state.take_leader() } else { None };
        drop(state);
        if let Some(leader) = leader {
            leader.unpark();
        }
        Ok((added, value))
    }

    /// Changes the state on someone's behalf and makes the leader look at it. Blocked submitters look again too.
    fn request<V>(&self, change: impl FnOnce(&mut State<X>) -> V) -> V {
        let mut state = lock(&self.submitters.state);
        let value = change(&mut state);
        self.leader.urgent.store(true, Ordering::SeqCst);
        let leader = state.take_leader();
        let room = std::mem::take(&mut state.room);
        let room = if mutants::on("close_forgets_blocked") { Vec::new() } else { room };
        drop(state);
        room.into_iter().for_each(Waker::wake);
        if let Some(leader) = leader {
            leader.unpark();
        }
        value
    }

    /// Ends acceptance for a class of submitters; true if this call did.
    pub(crate) fn seal(&self, admission: Admission) -> bool {
        self.request(|state| {
            let sealed = state.admission < admission;
            state.admission = state.admission.max(admission);
            sealed
        })
    }

    /// Fires partial batches at once from now on.
    pub(crate) fn set_eager(&self) {
        self.request(|state| state.eager = true);
    }

    /// Asks for everything accepted so far; false once nothing is accepted any more.
    pub(crate) fn trigger(&self) -> bool {
        self.request(|state| {
            state.manual = self.submitters.accepted.load(Ordering::SeqCst);
            state.admission != Admission::Nobody
        })
    }

    /// Asks for everything accepted so far, and says when it is done.
    pub(crate) fn barrier(&self, ended: bool, sink: Sink<(), std::convert::Infallible>) {
        self.request(|state| {
            let target = self.submitters.accepted.load(Ordering::SeqCst);
            state.manual = target;
            let target = if mutants::on("flush_waits_for_first_batch") { self.gone() + 1 } else { target };
            state.barriers.push(Barrier { target, ended, sink });
        });
        self.progress();
    }

    /// Ends acceptance and gives back what is queued, to be failed. The leader does the same with its hand.
    pub(crate) fn abort(&self) -> VecDeque<X> {
        self.request(|state| {
            state.admission = Admission::Nobody;
            state.aborted = true;
            let items = std::mem::take(&mut state.items);
            self.leader.dropped.fetch_add(items.len() as u64, Ordering::SeqCst);
            items
        })
    }

    /// Counts items that were taken from a hand to be failed.
    pub(crate) fn note_dropped(&self, items: usize) {
        self.leader.dropped.fetch_add(items as u64, Ordering::SeqCst);
        self.progress();
    }

    /// Resolves the barriers that are reached. Called whenever batches begin or end: either this sees that someone waits,
    /// or whoever begins to wait sees what was done before.
    pub(crate) fn progress(&self) {
        fence(Ordering::SeqCst);
        if !self.leader.urgent.load(Ordering::SeqCst) {
            return;
        }
        let mut state = lock(&self.submitters.state);
        let gone = self.gone();
        let oldest = lock(&self.running).iter().map(|slot| slot.load(Ordering::SeqCst)).min().unwrap_or(IDLE);
        let reached =
            |barrier: &mut Barrier| barrier.target <= gone && (!barrier.ended || barrier.target <= oldest);
        let reached: Vec<_> = state.barriers.extract_if(.., reached).collect();
        drop(state);
        for barrier in reached {
            barrier.sink.publish(Ok(()));
        }
    }

    /// Notes that a slot's batch has ended. To be followed by [`Queue::progress`] or the next [`Queue::take`].
    pub(crate) fn ended(&self, slot: &Running) {
        slot.store(IDLE, Ordering::Release);
    }

    /// Blocks until a batch is to be fired and takes it; `None` when nothing is left and nothing will come.
    ///
    /// `enter` gives what the batch needs to begin, and may block for it; until then its items count as queued.
    /// `keep`, if there is one, is asked for each item; those it does not keep are skipped. `aborted` gets what an abort finds at hand.
    pub(crate) fn take<P>(
        &self,
        hand: &mut Hand<X>,
        slot: &Running,
        mut enter: impl FnMut() -> P,
        keep: Option<fn(&X) -> bool>,
        mut aborted: impl FnMut(VecDeque<X>),
    ) -> Option<(Cut<X>, Reason, P)> {
        let mut parks = false;
        loop {
            let reason = if hand.items.len() >= self.rules.size
                && (!self.leader.urgent.load(Ordering::SeqCst) || mutants::on("requests_wait_for_idle"))
            {
                if self.rules.mode == TriggerMode::Drain { Reason::Drain } else { Reason::Size }
            } else {
                match self.look(hand, parks) {
                    Look::Fire(reason) => reason,
                    Look::Again => {
                        parks = false;
                        continue;
                    }
                    Look::Nothing => {
                        parks = true;
                        continue;
                    }
                    Look::Aborted => {
                        let items = hand.clear();
                        self.note_dropped(items.len());
                        aborted(items);
                        continue;
                    }
                    Look::Finished => return None,
                }
            };
            let permit = enter();
            if self.leader.urgent.load(Ordering::SeqCst) && lock(&self.submitters.state).aborted {
                continue;
            }
            let batch = self.cut(hand, slot, keep);
            self.progress();
            if batch.len() > 0 || mutants::on("empty_batches") {
                hand.fired[reason as usize] += 1;
                return Some((batch, reason, permit));
            }
            self.ended(slot);
        }
    }

    /// Cuts up to `size` items from the hand.
    fn cut(&self, hand: &mut Hand<X>, slot: &Running, keep: Option<fn(&X) -> bool>) -> Cut<X> {
        let size = if mutants::on("oversize_batches") { usize::MAX } else { self.rules.size };
        let count = hand.items.len().min(size);
        let handed = self.leader.handed.load(Ordering::Relaxed);
        slot.store(handed, Ordering::Release);
        let mut batch = match count {
            1 => Cut::One(hand.items.pop_front()),
            _ => Cut::Many(hand.items.drain(..count).collect::<Vec<_>>().into_iter()),
        };
        self.leader.handed.store(handed + count as u64, Ordering::Release);
        if let Some(keep) = keep {
            batch = batch.filtered(keep);
        }
        let left = hand.items.len();
        if mutants::on("partial_keeps_group_time") {
            return batch;
        }
        hand.first_at =
            (left > 0 && left < self.rules.size && self.rules.mode.is_timed()).then(|| self.clock.now());
        batch
    }

    /// One look at the state: tops up the hand, decides, and waits if there is nothing to do; first awake, then parked.
    fn look(&self, hand: &mut Hand<X>, parks: bool) -> Look {
        self.progress();
        let mut state = lock(&self.submitters.state);
        if state.aborted && !hand.items.is_empty() {
            return Look::Aborted;
        }
        let room = if state.top_up(hand, &self.rules, &*self.clock) {
            std::mem::take(&mut state.room)
        } else {
            Vec::new()
        };
        let len = hand.items.len();
        let timed = len > 0 && len < self.rules.size && self.rules.mode.is_timed();
        let due = timed.then(|| {
            let now = self.clock.now();
            let first_at = *hand.first_at.get_or_insert(now);
            (self.rules.mode.due(first_at, self.rules.timeout, self.start), now)
        });
        let sealed = state.admission == Admission::Nobody;
        let manual = self.gone() < state.manual;
        let situation = Situation { len, sealed, eager: state.eager, manual, due };
        let decision = self.rules.mode.decide(self.rules.size, situation);
        let urgent = sealed || state.eager || manual || !state.barriers.is_empty();
        self.leader.urgent.store(urgent, Ordering::SeqCst);
        let wanted = if len == 0 { 1 } else { self.rules.size.saturating_sub(len) }.min(self.rules.capacity);
        let waits = matches!(decision, Decision::Wait(_));
        if waits && parks {
            state.wake_at = wanted;
            state.leader = Some(thread::current());
        }
        let awaited = self.submitters.accepted.load(Ordering::Relaxed).saturating_add(wanted as u64);
        drop(state);
        room.into_iter().for_each(Waker::wake);
        if waits && !parks {
            return if self.linger(awaited) { Look::Again } else { Look::Nothing };
        }
        match decision {
            Decision::Fire(reason) => return Look::Fire(reason),
            Decision::Finished => return Look::Finished,
            Decision::Wait(None) => thread::park(),
            Decision::Wait(Some(at)) => self.clock.park_until(at),
        }
        Look::Again
    }

    /// Stays awake for a moment: under load the next items are near, and parking costs them and the submitter more.
    fn linger(&self, awaited: u64) -> bool {
        const SPINS: u32 = if cfg!(loom) { 0 } else { 7 };
        const YIELDS: u32 = if cfg!(loom) { 0 } else { 4 };
        for step in 0..SPINS + YIELDS {
            if self.submitters.accepted.load(Ordering::Acquire) >= awaited {
                return true;
            }
            if self.leader.urgent.load(Ordering::Relaxed) {
                return false;
            }
            if step < SPINS {
                (0..1 << step).for_each(|_| std::hint::spin_loop());
            } else {
                thread::yield_now();
            }
        }
        false
    }
}

enum Look {
    Fire(Reason),
    Again,
    /// Nothing came while it was awake.
    Nothing,
    Aborted,
    Finished,
}

impl<X> State<X> {
    fn take_leader(&mut self) -> Option<thread::Thread> {
        self.wake_at = usize::MAX;
        self.leader.take()
    }

    /// Moves items from the queue into the hand until it can fill a batch; true if any moved.
    fn top_up(&mut self, hand: &mut Hand<X>, rules: &Rules, clock: &dyn Clock) -> bool {
        let size = rules.size;
        if self.items.is_empty() || hand.items.len() >= size {
            return false;
        }
        if hand.items.is_empty() {
            std::mem::swap(&mut self.items, &mut hand.items);
            hand.first_at = self.first_at.take();
        } else {
            let wanted = (size - hand.items.len()).min(self.items.len());
            hand.items.extend(self.items.drain(..wanted));
            let first_at = self.first_at.take();
            if mutants::on("later_items_extend") {
                hand.first_at = first_at;
            }
            // The next batch begins with what is left.
            self.first_at = (!self.items.is_empty() && rules.mode.is_timed()).then(|| clock.now());
        }
        true
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::ManualClock;

    #[test]
    fn what_a_batch_leaves_in_the_queue_is_timed_from_then() {
        let clock = Arc::new(ManualClock::new());
        let timeout = Duration::from_millis(100);
        let rules = Rules { size: 4, capacity: 9, mode: TriggerMode::Accumulate, timeout };
        let queue = Queue::new(rules, Arc::clone(&clock) as _);
        let push = |items: std::ops::Range<u32>| {
            queue.push(Class::External, None, items, |items, queue| queue.extend(items)).is_ok()
        };
        let (mut hand, slot) = (Hand::new(), queue.add_slot());
        let take = |hand: &mut Hand<u32>| {
            let (batch, reason, ()) = queue.take(hand, &slot, || (), None, |_| {})?;
            Some((batch.collect::<Vec<_>>(), reason))
        };
        assert!(push(0..3) && lock(&queue.submitters.state).top_up(&mut hand, &rules, &*clock));
        assert!(push(3..6));
        clock.advance(timeout / 2);
        assert_eq!(take(&mut hand), Some((vec![0, 1, 2, 3], Reason::Size)));
        // The batch runs for longer than the timeout.
        clock.advance(timeout);
        assert_eq!(take(&mut hand), Some((vec![4, 5], Reason::Timeout)));
    }
}
