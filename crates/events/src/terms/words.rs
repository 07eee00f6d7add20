//! Words of memory that grow by whole segments and never move, so that readers need no permission to look at them.

use std::iter::repeat_with;

use crate::sync::{AtomicU32, OnceLock};

/// 128 KiB: small enough to be had within an append, large enough to be rarely asked for.
pub(super) const SEGMENT_WORDS: usize = if cfg!(loom) { 1 << 6 } else { 1 << 15 };
/// Segments to a group, groups to all.
const FANOUT: usize = if cfg!(loom) { 4 } else { 1 << 8 };
/// How many words there can be.
pub(crate) const CAPACITY: usize = FANOUT * FANOUT * SEGMENT_WORDS;

type Segment = Box<[AtomicU32]>;
type Group = Box<[OnceLock<Segment>]>;

/// Words with places from 0; all are 0 at first. What has been reserved can be read by everybody for ever.
pub(crate) struct Words {
    groups: Box<[OnceLock<Group>]>,
}

impl Words {
    pub(crate) fn new() -> Self {
        Words { groups: repeat_with(OnceLock::new).take(FANOUT).collect() }
    }

    /// Makes the segment of a place that is below [`CAPACITY`].
    pub(crate) fn reserve(&self, at: usize) {
        let segment = at / SEGMENT_WORDS;
        let Some(group) = self.groups.get(segment / FANOUT) else { return };
        let group = group.get_or_init(|| repeat_with(OnceLock::new).take(FANOUT).collect());
        let zero = || AtomicU32::new(0);
        group[segment % FANOUT].get_or_init(|| repeat_with(zero).take(SEGMENT_WORDS).collect());
    }

    /// Some words within one segment; `None` where they have not been reserved.
    pub(crate) fn get(&self, at: usize, len: usize) -> Option<&[AtomicU32]> {
        let (segment, at) = (at / SEGMENT_WORDS, at % SEGMENT_WORDS);
        let group = self.groups.get(segment / FANOUT)?.get()?;
        group[segment % FANOUT].get()?.get(at..at + len)
    }

    /// The bytes of memory held.
    pub(crate) fn heap_bytes(&self) -> usize {
        let groups: Vec<_> = self.groups.iter().filter_map(OnceLock::get).collect();
        let segments = groups.iter().flat_map(|group| group.iter()).filter_map(OnceLock::get).count();
        FANOUT * size_of::<OnceLock<Group>>()
            + groups.len() * FANOUT * size_of::<OnceLock<Segment>>()
            + segments * SEGMENT_WORDS * size_of::<AtomicU32>()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering::Relaxed;

    use super::*;

    #[test]
    fn words_are_there_once_reserved_and_not_before() {
        let words = Words::new();
        let far = SEGMENT_WORDS * (FANOUT + 3) + 5;
        assert!(words.get(far, 1).is_none());
        words.reserve(far);
        words.get(far, 2).unwrap()[1].store(7, Relaxed);
        assert_eq!(words.get(far + 1, 1).unwrap()[0].load(Relaxed), 7);
        assert!(words.get(far, SEGMENT_WORDS).is_none(), "not across the end of a segment");
        assert!(words.get(0, 1).is_none() && words.get(CAPACITY, 1).is_none());
        words.reserve(CAPACITY - 1);
        assert_eq!(words.get(CAPACITY - 1, 1).unwrap()[0].load(Relaxed), 0);
        words.reserve(CAPACITY);
        let held = words.heap_bytes();
        assert!((2 * 4 * SEGMENT_WORDS..2 * 4 * SEGMENT_WORDS + 4 * FANOUT * 24).contains(&held), "{held}");
    }
}
