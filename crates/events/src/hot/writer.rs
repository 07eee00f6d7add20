//! Filling a hot index: ledger by ledger, or at once from rows that were stored.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::Ordering::{Relaxed, Release},
    },
};

use icecore_ledger::LedgerSeq;

use super::{HotIndex, Shared};
use crate::{
    Error, EventCounts, Result, TermKey, TermSet,
    counts::{check_next, total_with},
    sync::{ArcSwap, AtomicU32},
    terms::{WORDS_CAPACITY, Words},
};

/// The one writer of a hot index.
///
/// ```
/// use icecore_events::{EventCounts, HotIndexWriter, TermKey};
/// use icecore_ledger::LedgerSeq;
///
/// # fn main() -> icecore_events::Result<()> {
/// let mut writer = HotIndexWriter::new("hot/00000000", LedgerSeq(2));
/// let (mint, burn) = (TermKey::new(1, b"mint"), TermKey::new(1, b"burn"));
/// writer.append(LedgerSeq(2), 2, &[(mint, 0), (burn, 1)])?;
///
/// let index = writer.index();
/// let before = index.view();
/// writer.append(LedgerSeq(3), 1, &[(mint, 2)])?;
///
/// assert_eq!(before.term_ids(&mint, 0..u32::MAX).iter().collect::<Vec<_>>(), [0]);
/// let now = index.view();
/// assert_eq!(now.term_ids(&mint, 0..u32::MAX).iter().collect::<Vec<_>>(), [0, 2]);
/// assert_eq!(now.ids_of(LedgerSeq(3)), Some(2..3));
/// # Ok(())
/// # }
/// ```
pub struct HotIndexWriter {
    path: PathBuf,
    index: HotIndex,
    builder: Builder,
}

impl HotIndexWriter {
    /// An empty index of a chunk whose first ledger is `first`. `path` says where the chunk is, for messages.
    pub fn new(path: impl Into<PathBuf>, first: LedgerSeq) -> Self {
        Self::from_builder(path.into(), Builder::new(first, TermSet::new()))
    }

    fn from_builder(path: PathBuf, builder: Builder) -> Self {
        builder.publish();
        let index = HotIndex { shared: Arc::new(ArcSwap::new(Arc::clone(&builder.shared))) };
        HotIndexWriter { path, index, builder }
    }

    /// The handle for readers.
    pub fn index(&self) -> HotIndex {
        self.index.clone()
    }

    /// The sequence number that the next ledger must have; `None` when there is none left.
    pub fn next_ledger(&self) -> Option<LedgerSeq> {
        self.builder.counts().next()
    }

    /// How many events there are; the next one has this id.
    pub fn event_count(&self) -> u32 {
        self.builder.counts().event_count()
    }

    /// Says whether [`append`](HotIndexWriter::append) would take a ledger.
    ///
    /// # Errors
    /// [`Error::Gap`] and [`Error::Repeat`] for a ledger that is not the next, [`Error::Descending`] for ids that do not
    /// ascend, [`Error::NoEvent`] for an id that the ledger's events do not reach, [`Error::TooLarge`].
    pub fn check(&self, seq: LedgerSeq, events: usize, postings: &[(TermKey, u32)]) -> Result<()> {
        let counts = self.builder.counts();
        check_next(&self.path, &counts, seq)?;
        let total = total_with(&counts, events)?;
        self.builder.check_room(postings.len())?;
        let mut last = counts.event_count();
        for &(_, id) in postings {
            if id < last {
                return Err(Error::Descending { last, id });
            }
            last = id;
        }
        if !postings.is_empty() && last >= total {
            return Err(Error::NoEvent { path: self.path.clone(), id: last, events: total });
        }
        Ok(())
    }

    /// Adds the next ledger. `postings` are the terms of its events: keys with ids that do not descend, from
    /// [`event_count`](HotIndexWriter::event_count) on; a pair twice counts once. Readers get all of it or nothing.
    ///
    /// # Errors
    /// Those of [`check`](HotIndexWriter::check), and then nothing has changed. None after a `check` that succeeded.
    pub fn append(&mut self, seq: LedgerSeq, events: usize, postings: &[(TermKey, u32)]) -> Result<()> {
        self.check(seq, events, postings)?;
        let total = total_with(&self.builder.counts(), events)?;
        self.builder.terms.add_all(postings)?;
        self.builder.end_ledger(total);
        self.builder.publish();
        Ok(())
    }

    /// Removes the ledgers after `last`; all, where that is before the first. Views taken before keep what they saw.
    ///
    /// Builds what is left anew, so that for that long the memory of both is held. Readers go on meanwhile.
    pub fn trim(&mut self, last: LedgerSeq) {
        let all = self.index.view();
        let Some(first_gone) = last.0.checked_add(1).map(|seq| LedgerSeq(seq).max(all.first())) else {
            return;
        };
        let Some(gone) = all.ids_of(first_gone) else { return };
        let kept = first_gone.0 - all.first().0;
        let mut builder = Builder::new(all.first(), self.builder.terms.up_to(gone.start));
        (0..kept).filter_map(|index| all.end(index)).for_each(|end| builder.end_ledger(end));
        builder.publish();
        self.index.shared.store(Arc::clone(&builder.shared));
        self.builder = builder;
    }
}

/// Fills a hot index at once: first the numbers of events of all ledgers, then the ids of all terms. Sorted by key, as
/// they are stored, they go in fastest.
///
/// ```
/// use icecore_events::{EventCounts, HotIndexLoader, TermKey};
/// use icecore_ledger::LedgerSeq;
///
/// # fn main() -> icecore_events::Result<()> {
/// let mut loader = HotIndexLoader::new("hot/00000000", LedgerSeq(2));
/// loader.push_ledger(LedgerSeq(2), 2)?;
/// loader.push_ledger(LedgerSeq(3), 1)?;
/// let [a, b] = [1, 2].map(|byte| TermKey([byte; 16]));
/// for (key, id) in [(a, 0), (a, 2), (b, 1)] {
///     loader.push(key, id)?;
/// }
/// let writer = loader.finish();
/// assert_eq!(writer.next_ledger(), Some(LedgerSeq(4)));
/// assert_eq!(writer.index().view().term_ids(&a, 0..3).len(), 2);
/// # Ok(())
/// # }
/// ```
pub struct HotIndexLoader {
    path: PathBuf,
    builder: Builder,
}

impl HotIndexLoader {
    /// Begins with an empty index of a chunk whose first ledger is `first`. `path` says where the chunk is, for messages.
    pub fn new(path: impl Into<PathBuf>, first: LedgerSeq) -> Self {
        HotIndexLoader { path: path.into(), builder: Builder::new(first, TermSet::new()) }
    }

    /// Says how many events the next ledger has.
    ///
    /// # Errors
    /// [`Error::Gap`] and [`Error::Repeat`] for a ledger that is not the next, [`Error::TooLarge`].
    pub fn push_ledger(&mut self, seq: LedgerSeq, events: u32) -> Result<()> {
        let counts = self.builder.counts();
        check_next(&self.path, &counts, seq)?;
        let total = total_with(&counts, events as usize)?;
        self.builder.check_room(0)?;
        self.builder.end_ledger(total);
        Ok(())
    }

    /// Adds an event to a term. Ids of a term must not descend; the same one again changes nothing.
    ///
    /// # Errors
    /// [`Error::Corrupt`] for an event that none of the ledgers has, [`Error::Descending`], [`Error::TooLarge`].
    pub fn push(&mut self, key: TermKey, id: u32) -> Result<()> {
        let events = self.builder.events;
        if id >= events {
            let what = format!("{key:?} has event {id}, the ledgers have {events} events");
            return Err(Error::corrupt(&self.path, what));
        }
        self.builder.terms.add(key, id)
    }

    /// The index, ready for the next ledger.
    pub fn finish(self) -> HotIndexWriter {
        HotIndexWriter::from_builder(self.path, self.builder)
    }
}

/// An index and the means to add to it.
struct Builder {
    shared: Arc<Shared>,
    terms: TermSet,
    ledgers: u32,
    events: u32,
}

/// The writer's own counts, which may be ahead of those published.
struct OwnCounts<'a>(&'a Builder);

impl EventCounts for OwnCounts<'_> {
    fn first(&self) -> LedgerSeq {
        self.0.shared.first
    }

    fn ledger_count(&self) -> u32 {
        self.0.ledgers
    }

    fn end(&self, index: u32) -> Option<u32> {
        if index < self.0.ledgers { self.0.shared.end(index) } else { None }
    }
}

impl Builder {
    /// Of terms, but no ledgers yet.
    fn new(first: LedgerSeq, terms: TermSet) -> Self {
        let (shared, ledgers) = (Arc::clone(terms.shared()), AtomicU32::new(0));
        let shared = Arc::new(Shared { first, terms: shared, ends: Words::new(), ledgers });
        Builder { shared, terms, ledgers: 0, events: 0 }
    }

    fn counts(&self) -> OwnCounts<'_> {
        OwnCounts(self)
    }

    fn check_room(&self, ids: usize) -> Result<()> {
        if self.ledgers as usize >= WORDS_CAPACITY {
            return Err(Error::TooLarge {
                what: "the ledgers of a hot index",
                size: WORDS_CAPACITY as u64 + 1,
            });
        }
        self.terms.check_room(ids)
    }

    /// Ends the next ledger after so many events in all.
    fn end_ledger(&mut self, events: u32) {
        let at = self.ledgers as usize;
        self.shared.ends.reserve(at);
        if let Some([end]) = self.shared.ends.get(at, 1) {
            end.store(events, Relaxed);
        }
        self.ledgers += 1;
        self.events = events;
    }

    /// Shows readers the ledgers that have been ended.
    fn publish(&self) {
        self.shared.ledgers.store(self.ledgers, Release);
    }
}
