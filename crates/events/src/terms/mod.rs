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
use crate::{Error, Result, TermKey, bitmap::Encoder, keyhash::UniformKeys};

/// So many terms' memory is fetched at once: enough for none to be waited for alone, and little enough to be at hand still
/// when its turn comes.
const BATCH: usize = 64;

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
    /// Room for [`fetch`](TermSet::fetch).
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
        let Terms { table, chains } = &*self.terms;
        table.each(|key, place| {
            chains.each(place.first, place.tail, end, |id| {
                // What was taken once, in this order, is taken again.
                let added = copy.add(key, id);
                debug_assert!(added.is_ok());
            });
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

    /// Adds events to terms one by one, as [`add`](TermSet::add) does, in less time: the memory of many terms is fetched at
    /// once, and is at hand when they are added to.
    ///
    /// # Errors
    /// As of `add`; what came before the posting in question has been added then.
    pub fn add_all(&mut self, postings: &[(TermKey, u32)]) -> Result<()> {
        for some in postings.chunks(BATCH) {
            self.fetch(some);
            some.iter().try_for_each(|&(key, id)| self.add(key, id))?;
        }
        Ok(())
    }

    fn fetch(&mut self, postings: &[(TermKey, u32)]) {
        let Terms { table, chains } = &*self.terms;
        self.tails.clear();
        self.tails.extend(postings.iter().filter_map(|(key, _)| self.table.tail(table, key)));
        black_box(self.tails.iter().fold(0, |sum, tail| sum ^ chains.last(*tail)));
    }

    /// Refuses so many ids more where there might be no room for them.
    pub(crate) fn check_room(&self, ids: usize) -> Result<()> {
        self.appender.check_room(ids)
    }

    /// How many terms there are.
    pub fn len(&self) -> usize {
        self.terms.len() as usize
    }

    /// True when there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Calls `take` with the serialized bitmap of each of some terms, which are there, in the order of their keys here.
    ///
    /// # Errors
    /// The first of `take`.
    pub(crate) fn serialize_each<'a>(
        &self,
        keys: impl IntoIterator<Item = &'a TermKey>,
        mut take: impl FnMut(&TermKey, &[u8]) -> Result<()>,
    ) -> Result<()> {
        let Terms { table, chains } = &*self.terms;
        let (mut encoder, mut bytes) = (Encoder::default(), Vec::new());
        let mut keys = keys.into_iter();
        loop {
            let some = keys.by_ref().take(BATCH).filter_map(|key| Some((key, table.get(key)?)));
            let places: Vec<_> = some.collect();
            if places.is_empty() {
                return Ok(());
            }
            chains.fetch(places.iter().map(|(_, place)| place.tail));
            for (key, place) in places {
                bytes.clear();
                chains.each(place.first, place.tail, u32::MAX, |id| encoder.push(id));
                encoder.finish(&mut bytes);
                take(key, &bytes)?;
            }
        }
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
        let [a, b] = [1, 2].map(|i| TermKey([i; 16]));
        let mut terms = TermSet::new();
        for (key, id) in [(b, 0), (a, 0), (b, 0), (b, 4), (a, 5), (b, 9)] {
            terms.add(key, id).unwrap();
        }
        assert!(matches!(terms.add(b, 8), Err(Error::Descending { last: 9, id: 8 })));
        assert!(matches!(terms.add(b, u32::MAX), Err(Error::TooLarge { .. })));
        let mut sets = Vec::new();
        let keys = terms.sorted_keys();
        let serialized = terms.serialize_each(&keys, |key, bytes| {
            sets.push((*key, crate::decode_bitmap(bytes)?.iter().collect::<Vec<_>>()));
            Ok(())
        });
        serialized.unwrap();
        assert_eq!(sets, [(a, vec![0, 5]), (b, vec![0, 4, 9])]);
    }

    #[test]
    fn one_by_one_and_many_at_once_are_the_same() {
        let mut rng = SplitMix64::new(2);
        let key = |number: u64| TermKey(SplitMix64::new(number).key());
        let mut postings = Vec::new();
        for id in 0..20_000 {
            // Terms of one event, of few, of many, and of all.
            let numbers = [u64::from(id) << 32, rng.below(3000), rng.below(3), 5000];
            postings.extend(numbers.map(|number| (key(number), id)));
        }
        let (mut one_by_one, mut at_once) = (TermSet::new(), TermSet::new());
        postings.iter().for_each(|&(key, id)| one_by_one.add(key, id).unwrap());
        postings.chunks(3000).for_each(|some| at_once.add_all(some).unwrap());
        let mut model = std::collections::BTreeMap::<_, RoaringBitmap>::new();
        for (key, id) in postings {
            model.entry(key).or_default().insert(id);
        }
        for terms in [one_by_one, at_once] {
            let (keys, mut sets) = (terms.sorted_keys(), Vec::new());
            let serialized = terms.serialize_each(&keys, |key, bytes| {
                sets.push((*key, crate::decode_bitmap(bytes)?));
                Ok(())
            });
            serialized.unwrap();
            assert!(sets.iter().map(|(key, ids)| (key, ids)).eq(&model));
        }
    }

    #[test]
    fn what_a_batch_holds_before_its_fault_is_there() {
        let [a, b] = [1, 2].map(|i| TermKey([i; 16]));
        let mut terms = TermSet::new();
        let refused = terms.add_all(&[(a, 5), (b, 6), (a, 4), (b, 7)]);
        assert!(matches!(refused, Err(Error::Descending { last: 5, id: 4 })));
        assert!(terms.shared().ids(&b, 0..9).iter().eq([6]));
    }
}
