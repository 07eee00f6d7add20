//! The hot index: the terms of a chunk that still grows, in memory, for one writer and any number of readers.
//!
//! ```text
//! HotIndexWriter ── append ──▶ TermSet: key ──▶ ids                        then, with one store,
//!                         └──▶ events up to and including each ledger       the number of ledgers
//! HotIndex ── view ──▶ HotView: the ledgers there were when it was taken, and their events
//! ```
//!
//! All is append-only, and ids ascend. So a view needs no copy: it loads the number of ledgers, and leaves out every id
//! from their number of events on, which is all that a writer can have changed since. That number is stored with `Release`
//! after all that belongs to the ledger. Nobody waits for anybody.
//!
//! What is to be removed is removed by building another index without it; views keep the one that they were taken of.

#[cfg(test)]
#[cfg(loom)]
mod model;
mod writer;

use std::{
    fmt,
    ops::Range,
    sync::{
        Arc,
        atomic::Ordering::{Acquire, Relaxed},
    },
};

use icecore_ledger::LedgerSeq;
use roaring::RoaringBitmap;

pub use self::writer::{HotIndexLoader, HotIndexWriter};
use crate::{
    EventCounts, TermKey,
    sync::{ArcSwap, AtomicU32},
    terms::{Terms, Words},
};

/// What writer and readers share, until a trim puts another in its place.
struct Shared {
    first: LedgerSeq,
    terms: Arc<Terms>,
    /// For each ledger, how many events there are up to its end.
    ends: Words,
    /// How many ledgers are whole.
    ledgers: AtomicU32,
}

impl Shared {
    fn end(&self, index: u32) -> Option<u32> {
        let [end] = self.ends.get(index as usize, 1)? else { return None };
        Some(end.load(Relaxed))
    }
}

/// The readers' handle to a hot index. Clones are handles to the same index.
#[derive(Clone)]
pub struct HotIndex {
    shared: Arc<ArcSwap<Shared>>,
}

impl HotIndex {
    /// All ledgers that have been appended whole.
    pub fn view(&self) -> HotView {
        let shared = self.shared.load_full();
        let ledgers = shared.ledgers.load(Acquire);
        HotView { shared, ledgers }
    }

    /// How many terms there are.
    pub fn term_count(&self) -> u64 {
        self.shared.load().terms.len()
    }

    /// The bytes of memory held, to within the allocator's rounding, but for what only views still hold. Takes some
    /// microseconds.
    pub fn heap_bytes(&self) -> usize {
        let shared = self.shared.load();
        size_of::<Shared>() + shared.terms.heap_bytes() + shared.ends.heap_bytes()
    }
}

impl fmt::Debug for HotIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.view().fmt(f)
    }
}

/// Some whole ledgers of a hot index, and their events: the same for as long as the view lives, whatever the writer
/// does. Clones see the same.
#[derive(Clone)]
pub struct HotView {
    shared: Arc<Shared>,
    ledgers: u32,
}

impl HotView {
    /// The ids of a term's events, as far as they lie in `within`; empty where there is no such term. Two terms can share
    /// a key: an event has the term if its fields say so.
    pub fn term_ids(&self, key: &TermKey, within: Range<u32>) -> RoaringBitmap {
        let end = within.end.min(self.event_count());
        if within.start >= end {
            return RoaringBitmap::new();
        }
        self.shared.terms.ids(key, within.start..end)
    }
}

impl EventCounts for HotView {
    fn first(&self) -> LedgerSeq {
        self.shared.first
    }

    fn ledger_count(&self) -> u32 {
        self.ledgers
    }

    fn end(&self, index: u32) -> Option<u32> {
        if index < self.ledgers { self.shared.end(index) } else { None }
    }
}

impl fmt::Debug for HotView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = (self.ledger_count(), self.event_count());
        f.debug_struct("HotView").field("first", &self.first()).field("ledgers, events", &counts).finish()
    }
}
