//! All terms of a chunk with the ids of their events, in memory.
//!
//! ```text
//! slot   key, 16 bytes │ the only id, or a place in `many`: 8 bytes       29 to 57 bytes a term, as the table doubles
//! many   TermIds: 40 bytes, and its containers                            near the size in the file from 2^16 ids on
//! ```
//!
//! Most terms have one event, so a single id needs nothing but its slot.

use std::collections::HashMap;

use crate::{Error, Result, TermIds, TermKey, bitmap::serialize_one, keyhash::UniformKeys};

/// The terms of a chunk, each with the ids of its events.
#[derive(Debug, Default)]
pub struct TermSet {
    slots: HashMap<TermKey, Slot, UniformKeys>,
    many: Vec<TermIds>,
}

#[derive(Clone, Copy, Debug)]
enum Slot {
    One(u32),
    /// An index into `many`.
    Many(u32),
}

const _: () = assert!(size_of::<(TermKey, Slot)>() == 24);

impl TermSet {
    /// An empty set.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an event to a term. Ids of a term must not descend; the same one again changes nothing.
    ///
    /// # Errors
    /// [`Error::Descending`], [`Error::TooLarge`] beyond 2^32 terms of several events.
    pub fn add(&mut self, key: TermKey, id: u32) -> Result<()> {
        let slot = self.slots.entry(key).or_insert(Slot::One(id));
        match *slot {
            Slot::One(first) if first == id => Ok(()),
            Slot::One(first) => {
                let count = self.many.len();
                let index = u32::try_from(count)
                    .map_err(|_| Error::TooLarge { what: "a number of terms", size: count as u64 })?;
                let mut ids = TermIds::new(first);
                ids.push(id)?;
                self.many.push(ids);
                *slot = Slot::Many(index);
                Ok(())
            }
            Slot::Many(index) => self.many[index as usize].push(id),
        }
    }

    /// How many terms there are.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// True when there is none.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Appends the serialized bitmap of a term; false where there is no such term.
    pub fn serialize(&self, key: &TermKey, out: &mut Vec<u8>) -> bool {
        match self.slots.get(key) {
            None => return false,
            Some(&Slot::One(id)) => serialize_one(id, out),
            Some(&Slot::Many(index)) => self.many[index as usize].serialize(out),
        }
        true
    }

    /// The keys of all terms, in ascending order.
    pub fn sorted_keys(&self) -> Vec<TermKey> {
        let mut keys: Vec<_> = self.slots.keys().copied().collect();
        keys.sort_unstable();
        keys
    }

    /// The bytes of memory held, to within the allocator's rounding.
    pub fn heap_bytes(&self) -> usize {
        let table = self.slots.capacity() * 8 / 7 * (size_of::<(TermKey, Slot)>() + 1);
        let many = self.many.capacity() * size_of::<TermIds>();
        table + many + self.many.iter().map(TermIds::heap_bytes).sum::<usize>()
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
        assert!(terms.heap_bytes() < 60 * terms.len(), "{}", terms.heap_bytes());
    }

    #[test]
    fn ids_go_to_their_terms() {
        let [a, b, c] = [1, 2, 3].map(|i| TermKey([i; 16]));
        let mut terms = TermSet::new();
        for (key, id) in [(b, 0), (a, 0), (b, 0), (b, 4), (a, 5), (b, 9)] {
            terms.add(key, id).unwrap();
        }
        assert!(matches!(terms.add(b, 8), Err(Error::Descending { last: 9, id: 8 })));
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
