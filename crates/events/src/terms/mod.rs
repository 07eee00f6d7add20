//! All terms of a chunk with the ids of their events, in memory: one thread adds, any number look.
//!
//! ```text
//! key ──▶ table: first id, tail ──▶ chains: all further ids
//!         32 to 40 bytes a term     nothing for a term of one event; 1 to 3 bytes an id, dense ones as in roaring bitmaps
//! ```

mod chains;
mod table;
mod words;

use std::{fmt, hint::black_box, ops::Range, sync::Arc};

use roaring::RoaringBitmap;

pub(crate) use self::words::{CAPACITY as WORDS_CAPACITY, Words};
use self::{
    chains::{Appender, BlockRef, Chains},
    table::{Place, Table, TableWriter},
};
use crate::{Error, Result, TermIds, TermKey, bitmap::serialize_one, keyhash::UniformKeys};

/// The terms as those see them who only look.
pub(crate) struct Terms {
    table: Table,
    chains: Chains,
}

impl Terms {
    /// The ids of a term that lie in a range. Those below an id that was added before this call began are all there.
    pub(crate) fn ids(&self, key: &TermKey, within: Range<u32>) -> RoaringBitmap {
        let place = self.table.get(key).filter(|place| place.first < within.end);
        place.map_or_else(RoaringBitmap::new, |place| self.ids_at(place, within))
    }

    fn ids_at(&self, place: Place, within: Range<u32>) -> RoaringBitmap {
        self.chains.ids(place.first, place.tail, within)
    }

    /// Calls `visit` with every term that has ids below `end`, in no order.
    pub(crate) fn each(&self, end: u32, mut visit: impl FnMut(TermKey, RoaringBitmap)) {
        self.table.each(|key, place| {
            if place.first < end {
                visit(key, self.ids_at(place, 0..end));
            }
        });
    }

    pub(crate) fn len(&self) -> u64 {
        self.table.term_count()
    }

    /// The bytes of memory held, the writer's part included.
    pub(crate) fn heap_bytes(&self) -> usize {
        size_of::<Self>() + self.table.heap_bytes() + self.chains.heap_bytes()
    }
}

/// The terms of a chunk, each with the ids of its events.
pub struct TermSet {
    terms: Arc<Terms>,
    table: TableWriter,
    appender: Appender,
    /// Room for [`touch`](TermSet::touch).
    tails: Vec<BlockRef>,
}

impl Default for TermSet {
    fn default() -> Self {
        Self::with_hasher(UniformKeys::default())
    }
}

impl TermSet {
    /// An empty set.
    pub fn new() -> Self {
        Self::default()
    }

    fn with_hasher(hasher: UniformKeys) -> Self {
        let terms = Arc::new(Terms { table: Table::new(hasher), chains: Chains::new() });
        TermSet { terms, table: TableWriter::new(), appender: Appender::new(), tails: Vec::new() }
    }

    /// A copy of the ids below `end`.
    pub(crate) fn up_to(&self, end: u32) -> TermSet {
        let mut copy = Self::with_hasher(self.terms.table.hasher().clone());
        self.terms.each(end, |key, ids| {
            // What was taken once, in this order, is taken again.
            let added = ids.iter().try_for_each(|id| copy.add(key, id));
            debug_assert!(added.is_ok());
        });
        copy
    }

    /// The same terms, for others to look at.
    pub(crate) fn shared(&self) -> &Arc<Terms> {
        &self.terms
    }

    /// Adds an event to a term. Ids of a term must not descend; the same one again changes nothing.
    ///
    /// # Errors
    /// [`Error::Descending`]; [`Error::TooLarge`] for the id 2^32-1, which no event has, and where there is no more room.
    pub fn add(&mut self, key: TermKey, id: u32) -> Result<()> {
        if id == u32::MAX {
            return Err(Error::TooLarge { what: "an event id", size: u64::from(id) });
        }
        self.check_room(1)?;
        let Terms { table, chains } = &*self.terms;
        let place = self.table.place(table, &key, id);
        let tail = self.appender.push(chains, place.first, place.tail, id)?;
        if tail != place.tail {
            self.table.set_tail(tail);
        }
        Ok(())
    }

    /// Refuses so many ids more where there might be no room for them.
    pub(crate) fn check_room(&self, ids: usize) -> Result<()> {
        self.appender.check_room(ids)
    }

    /// Has the memory of many terms fetched at once, which then is at hand when they are added to one by one.
    pub(crate) fn touch(&mut self, postings: &[(TermKey, u32)]) {
        let Terms { table, chains } = &*self.terms;
        self.tails.clear();
        self.tails.extend(postings.iter().filter_map(|(key, _)| self.table.tail(table, key)));
        black_box(self.tails.iter().fold(0, |sum, tail| sum ^ chains.last(*tail)));
    }

    /// How many terms there are.
    pub fn len(&self) -> usize {
        self.terms.len() as usize
    }

    /// True when there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Appends the serialized bitmap of a term; false where there is no such term.
    pub fn serialize(&self, key: &TermKey, out: &mut Vec<u8>) -> bool {
        let Some(place) = self.terms.table.get(key) else { return false };
        if place.tail == BlockRef::NONE {
            serialize_one(place.first, out);
            return true;
        }
        let mut ids = TermIds::new(place.first);
        let added = self.terms.ids_at(place, 0..u32::MAX).iter().try_for_each(|id| ids.push(id));
        debug_assert!(added.is_ok());
        ids.serialize(out);
        true
    }

    /// The keys of all terms, in ascending order.
    pub fn sorted_keys(&self) -> Vec<TermKey> {
        let mut keys = Vec::with_capacity(self.len());
        self.terms.table.each(|key, _| keys.push(key));
        keys.sort_unstable();
        keys
    }

    /// The bytes of memory held, to within the allocator's rounding. Takes some microseconds.
    pub fn heap_bytes(&self) -> usize {
        self.terms.heap_bytes() + self.tails.capacity() * size_of::<BlockRef>()
    }
}

impl fmt::Debug for TermSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TermSet").field("terms", &self.len()).finish()
    }
}

#[cfg(test)]
mod tests {
    use icecore_testkit::SplitMix64;

    use super::*;

    #[test]
    fn a_term_with_one_event_is_cheap() {
        let mut rng = SplitMix64::new(1);
        let mut terms = TermSet::new();
        for id in 0..100_000 {
            terms.add(TermKey(rng.key()), id).unwrap();
        }
        assert_eq!(terms.len(), 100_000);
        assert!(terms.heap_bytes() < 42 * terms.len() + 60_000, "{}", terms.heap_bytes());
    }

    #[test]
    fn ids_go_to_their_terms() {
        let [a, b, c] = [1, 2, 3].map(|i| TermKey([i; 16]));
        let mut terms = TermSet::new();
        for (key, id) in [(b, 0), (a, 0), (b, 0), (b, 4), (a, 5), (b, 9)] {
            terms.add(key, id).unwrap();
        }
        assert!(matches!(terms.add(b, 8), Err(Error::Descending { last: 9, id: 8 })));
        assert!(matches!(terms.add(b, u32::MAX), Err(Error::TooLarge { .. })));
        assert_eq!(terms.sorted_keys(), [a, b]);
        let ids = |key| {
            let mut bytes = Vec::new();
            terms
                .serialize(&key, &mut bytes)
                .then(|| crate::decode_bitmap(&bytes).unwrap().iter().collect::<Vec<_>>())
        };
        assert_eq!((ids(a), ids(b), ids(c)), (Some(vec![0, 5]), Some(vec![0, 4, 9]), None));
    }
}
