//! The ids of all terms, in blocks that are only ever appended to.
//!
//! ```text
//! a term       first id, in its entry     tail ──▶ block ──▶ block ──▶ …          newest to oldest
//! block        link u32 │ last u32 │ what comes after the last id of the block before
//!   small      2, 6, 14, then always 30 words of deltas in LEB128, a block's unused bytes being 0
//!   bits       2 words unused, 2048 words: one bit for each id that shares the upper 16 bits with `last`
//! reference    u29 place in units of 4 words ‖ u3 size; 0 = none
//! ```
//!
//! A term begins with small blocks. One that fills 32 of the largest within a third of 2^16 ids gets bits for the rest of
//! these, and for the next 2^16 as long as it has at least 4096 in each. So the second id costs 16 bytes, many cost 1 to 3
//! bytes each, or what they cost in a roaring bitmap; where guesses fail, all of a term's cost at most 10 bytes each.
//!
//! One thread writes. Nothing moves, nothing is freed, and a delta is never changed: a reader that knows how many events
//! there are finds all that have a lower id, and leaves out what it may see of later ones. A block is reached through a
//! reference that was stored with `Release` after the block's first id; a delta seen in part ends with a 0 where more
//! should be, and counts as not there.

use std::{hint::black_box, ops::Range, sync::atomic::Ordering::Relaxed};

use roaring::RoaringBitmap;

use super::words::{CAPACITY, SEGMENT_WORDS, Words};
use crate::{Error, Result, sync::AtomicU32};

const UNIT_WORDS: usize = 4;
const HEADER_WORDS: usize = 2;
const BITS_HEADER_WORDS: usize = 4;
const BITS_WORDS: usize = BITS_HEADER_WORDS + (WINDOW as usize) / 32;
/// The words of a block of each size. The sizes must fit a segment and three bits.
const BLOCK_WORDS: [usize; 5] = [4, 8, 16, LARGE_WORDS, BITS_WORDS];
const LARGE_WORDS: usize = 32;
const LARGE: u32 = 3;
const BITS: u32 = 4;

/// Ids that share their upper 16 bits.
const WINDOW: u32 = 1 << 16;
/// So many large blocks within a third of a window promise twice as many in the rest of it: more than bits take.
const DENSE_BLOCKS: usize = 32;
/// From so many ids on, bits take no more than two bytes an id.
const DENSE_IDS: u32 = 4096;

/// Terms of more blocks are few.
const FETCHED_BLOCKS: usize = 8;

const UNITS: usize = CAPACITY / UNIT_WORDS;
/// From here on there are no more bits, so that what is left is easily reckoned.
const BITS_UNTIL: usize = UNITS / 2;
/// What one id can take: a large block, and its part of the ends of segments.
const UNITS_PER_ID: usize = LARGE_WORDS / UNIT_WORDS + 1;

const _: () = assert!(UNITS <= 1 << 29 && BLOCK_WORDS.len() <= 8);
const _: () = assert!(cfg!(loom) || BITS_WORDS <= SEGMENT_WORDS);

/// Where a block is. 0 in the place of one is [`NONE`](BlockRef::NONE).
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct BlockRef(pub(super) u32);

impl BlockRef {
    pub(super) const NONE: BlockRef = BlockRef(0);

    fn new(unit: usize, size: u32) -> Self {
        BlockRef((unit as u32) << 3 | size)
    }

    fn size(self) -> u32 {
        self.0 & 7
    }

    fn place(self) -> usize {
        (self.0 >> 3) as usize * UNIT_WORDS
    }
}

#[derive(Clone, Copy)]
struct Block<'a> {
    size: u32,
    words: &'a [AtomicU32],
}

impl<'a> Block<'a> {
    fn link(self) -> BlockRef {
        BlockRef(self.words[0].load(Relaxed))
    }

    fn last(self) -> u32 {
        self.words[1].load(Relaxed)
    }

    fn data(self) -> &'a [AtomicU32] {
        &self.words[if self.size == BITS { BITS_HEADER_WORDS } else { HEADER_WORDS }..]
    }

    /// Adds an id that is higher than the last one, `last`; false where there is no room.
    fn add(self, last: u32, id: u32) -> bool {
        let fits = if self.size == BITS {
            let same_window = id / WINDOW == last / WINDOW;
            if same_window {
                self.set_bit(id);
            }
            same_window
        } else {
            self.add_delta(id - last)
        };
        if fits {
            self.words[1].store(id, Relaxed);
        }
        fits
    }

    fn set_bit(self, id: u32) {
        let bit = id % WINDOW;
        let word = &self.data()[(bit / 32) as usize];
        word.store(word.load(Relaxed) | 1 << (bit % 32), Relaxed);
    }

    fn add_delta(self, delta: u32) -> bool {
        let data = self.data();
        let used_words = data.partition_point(|word| word.load(Relaxed) != 0);
        let (mut at, mut free_bytes) = (used_words, 4);
        if let Some(before) = used_words.checked_sub(1) {
            let unused = data[before].load(Relaxed).leading_zeros() / 8;
            if unused > 0 {
                (at, free_bytes) = (before, unused);
            }
        }
        let (encoded, len) = leb128(delta);
        let room = free_bytes as usize + 4 * data.len().saturating_sub(at + 1);
        if at >= data.len() || len > room {
            return false;
        }
        let shifted = encoded << (8 * (4 - free_bytes));
        data[at].store(data[at].load(Relaxed) | shifted as u32, Relaxed);
        if shifted >> 32 != 0 {
            data[at + 1].store((shifted >> 32) as u32, Relaxed);
        }
        true
    }

    /// Calls `each` with the ids below `end` of a small block whose ids come after `base`.
    fn decode(self, base: u32, end: u32, mut each: impl FnMut(u32)) {
        let (mut id, mut delta, mut shift) = (base, 0, 0);
        for word in self.data() {
            for byte in word.load(Relaxed).to_le_bytes() {
                delta |= u32::from(byte & 0x7F) << shift;
                match byte {
                    0 => return,
                    0x80.. => shift += 7,
                    _ => {
                        id += delta;
                        if id >= end {
                            return;
                        }
                        each(id);
                        (delta, shift) = (0, 0);
                    }
                }
            }
        }
    }

    /// Calls `each` with the ids below `end` that have bits.
    fn each_bit(self, end: u32, mut each: impl FnMut(u32)) {
        for (id, word) in (self.last() & !(WINDOW - 1)..end).step_by(32).zip(self.data()) {
            let mut bits = word.load(Relaxed);
            while bits != 0 && id + bits.trailing_zeros() < end {
                each(id + bits.trailing_zeros());
                bits &= bits - 1;
            }
        }
    }

    fn bitmap(self) -> RoaringBitmap {
        let words = self.data().iter().map(|word| word.load(Relaxed).to_le_bytes());
        let bytes: Vec<[u8; 4]> = words.collect();
        RoaringBitmap::from_lsb0_bytes(self.last() & !(WINDOW - 1), bytes.as_flattened())
    }

    fn count_bits(self) -> u32 {
        self.data().iter().map(|word| word.load(Relaxed).count_ones()).sum()
    }
}

/// Seven bits to a byte, the lowest first; all but the last have the eighth set. A delta is never 0, so no byte is.
fn leb128(mut delta: u32) -> (u64, usize) {
    let (mut encoded, mut len) = (0, 0);
    while delta >= 0x80 {
        encoded |= u64::from(delta & 0x7F | 0x80) << (8 * len);
        delta >>= 7;
        len += 1;
    }
    (encoded | u64::from(delta) << (8 * len), len + 1)
}

/// All blocks.
pub(super) struct Chains {
    words: Words,
}

impl Chains {
    pub(super) fn new() -> Self {
        Chains { words: Words::new() }
    }

    pub(super) fn heap_bytes(&self) -> usize {
        self.words.heap_bytes()
    }

    /// References are given out after the words that they refer to.
    fn block(&self, at: BlockRef) -> Block<'_> {
        let (size, len) = (at.size(), BLOCK_WORDS[at.size() as usize]);
        Block { size, words: self.words.get(at.place(), len).unwrap_or_default() }
    }

    /// The highest id of a term with a tail.
    pub(super) fn last(&self, tail: BlockRef) -> u32 {
        self.block(tail).last()
    }

    /// The ids of a term that lie in a range.
    pub(super) fn ids(&self, first: u32, tail: BlockRef, within: Range<u32>) -> RoaringBitmap {
        let mut ids = RoaringBitmap::new();
        if within.contains(&first) {
            ids.insert(first);
        }
        let mut batch = Vec::new();
        for (block, base) in self.reaching_into(first, tail, &within).into_iter().rev() {
            if block.size == BITS {
                append(&mut ids, &mut batch);
                ids |= block.bitmap();
            } else {
                block.decode(base, within.end, |id| batch.push(id));
            }
        }
        append(&mut ids, &mut batch);
        ids.remove_range(..within.start);
        ids.remove_range(within.end..);
        ids
    }

    /// Has the newest blocks of many terms fetched, each next one of all terms at once: one by one, each would wait for the
    /// one that links to it.
    pub(super) fn fetch(&self, tails: impl Iterator<Item = BlockRef>) {
        let mut tails: Vec<_> = tails.filter(|tail| *tail != BlockRef::NONE).collect();
        for _ in 0..FETCHED_BLOCKS {
            tails.retain_mut(|tail| {
                *tail = self.block(*tail).link();
                *tail != BlockRef::NONE
            });
        }
        black_box(tails);
    }

    /// Calls `each` with the ids of a term below `end`, which ascend.
    pub(super) fn each(&self, first: u32, tail: BlockRef, end: u32, mut each: impl FnMut(u32)) {
        if first < end {
            each(first);
        }
        for (block, base) in self.reaching_into(first, tail, &(0..end)).into_iter().rev() {
            if block.size == BITS {
                block.each_bit(end, &mut each);
            } else {
                block.decode(base, end, &mut each);
            }
        }
    }

    /// The blocks that may have ids of a range, newest first, each with the id that comes before its own.
    fn reaching_into(&self, first: u32, tail: BlockRef, within: &Range<u32>) -> Vec<(Block<'_>, u32)> {
        let mut blocks = Vec::new();
        let mut at = tail;
        while at != BlockRef::NONE {
            let block = self.block(at);
            let link = block.link();
            // Nothing is added to a block that another one links to.
            let base = if link == BlockRef::NONE { first } else { self.block(link).last() };
            if base < within.end {
                blocks.push((block, base));
            }
            if base < within.start {
                break;
            }
            at = link;
        }
        blocks
    }
}

/// Moves ascending ids into a bitmap whose ids are all lower.
fn append(ids: &mut RoaringBitmap, batch: &mut Vec<u32>) {
    let appended = ids.append(batch.drain(..));
    debug_assert!(appended.is_ok());
}

/// The one who appends.
pub(super) struct Appender {
    next_unit: usize,
}

impl Appender {
    pub(super) fn new() -> Self {
        // No reference is 0.
        Appender { next_unit: 1 }
    }

    /// Refuses so many ids more where there might be no room for them.
    pub(super) fn check_room(&self, ids: usize) -> Result<()> {
        let used = self.next_unit.max(BITS_UNTIL + SEGMENT_WORDS / UNIT_WORDS);
        let needed = UNITS_PER_ID.saturating_mul(ids);
        if needed > UNITS.saturating_sub(used) {
            return Err(Error::TooLarge { what: "the ids of a hot index", size: ids as u64 });
        }
        Ok(())
    }

    /// Adds an id to a term whose first one is `first`; the highest one again changes nothing. Returns what the term's
    /// tail is from now on.
    pub(super) fn push(&mut self, chains: &Chains, first: u32, tail: BlockRef, id: u32) -> Result<BlockRef> {
        let block = (tail != BlockRef::NONE).then(|| chains.block(tail));
        let last = block.map_or(first, Block::last);
        if id <= last {
            return if id == last { Ok(tail) } else { Err(Error::Descending { last, id }) };
        }
        if block.is_some_and(|block| block.add(last, id)) {
            return Ok(tail);
        }
        let (new, block) = self.allocate(chains, next_size(chains, tail, id));
        block.words[0].store(tail.0, Relaxed);
        // Bits are told their window by the last id.
        block.words[1].store(if block.size == BITS { id } else { last }, Relaxed);
        let added = block.add(block.last(), id);
        debug_assert!(added);
        Ok(new)
    }

    fn allocate<'a>(&mut self, chains: &'a Chains, size: u32) -> (BlockRef, Block<'a>) {
        let size = if size == BITS && self.next_unit >= BITS_UNTIL { LARGE } else { size };
        let len = BLOCK_WORDS[size as usize];
        let place = self.next_unit * UNIT_WORDS;
        let left = SEGMENT_WORDS - place % SEGMENT_WORDS;
        let place = if len > left { place + left } else { place };
        chains.words.reserve(place);
        self.next_unit = (place + len) / UNIT_WORDS;
        let at = BlockRef::new(place / UNIT_WORDS, size);
        (at, chains.block(at))
    }
}

/// The size of the block that begins with an id, after the one at `tail`.
fn next_size(chains: &Chains, tail: BlockRef, id: u32) -> u32 {
    match tail.size() {
        _ if tail == BlockRef::NONE => 0,
        BITS if chains.block(tail).count_bits() >= DENSE_IDS => BITS,
        LARGE if is_dense(chains, tail, id) => BITS,
        BITS | LARGE => LARGE,
        small => small + 1,
    }
}

/// True when enough blocks have been filled in the first third of the window of an id, up to that id.
fn is_dense(chains: &Chains, tail: BlockRef, id: u32) -> bool {
    if id % WINDOW >= WINDOW / 3 {
        return false;
    }
    let mut at = tail;
    for _ in 0..DENSE_BLOCKS {
        if at.size() != LARGE || chains.block(at).last() < id - id % WINDOW {
            return false;
        }
        at = chains.block(at).link();
    }
    true
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use icecore_testkit::SplitMix64;
    use proptest::prelude::*;

    use super::*;

    /// One term.
    struct Term {
        chains: Chains,
        appender: Appender,
        first: u32,
        tail: BlockRef,
    }

    impl Term {
        fn of(ids: &[u32]) -> Self {
            let (chains, appender) = (Chains::new(), Appender::new());
            let mut term = Term { chains, appender, first: ids[0], tail: BlockRef::NONE };
            ids.iter().for_each(|&id| term.push(id).unwrap());
            term
        }

        fn push(&mut self, id: u32) -> Result<()> {
            self.tail = self.appender.push(&self.chains, self.first, self.tail, id)?;
            Ok(())
        }

        fn ids(&self, within: Range<u32>) -> Vec<u32> {
            self.chains.ids(self.first, self.tail, within).iter().collect()
        }

        fn each(&self, end: u32) -> Vec<u32> {
            let mut ids = Vec::new();
            self.chains.each(self.first, self.tail, end, |id| ids.push(id));
            ids
        }

        /// The bytes of its blocks, and how many of these are bits.
        fn size(&self) -> (usize, usize) {
            let (mut at, mut bytes, mut bits) = (self.tail, 0, 0);
            while at != BlockRef::NONE {
                bytes += 4 * BLOCK_WORDS[at.size() as usize];
                bits += usize::from(at.size() == BITS);
                at = self.chains.block(at).link();
            }
            (bytes, bits)
        }
    }

    fn roaring_bytes(ids: &[u32]) -> usize {
        RoaringBitmap::from_sorted_iter(ids.iter().copied()).unwrap().serialized_size()
    }

    /// Stretches of ids, each so long, with one id every so many.
    fn sets() -> impl Strategy<Value = Vec<u32>> {
        let every = prop_oneof![Just(1u32), 2u32..10, 10u32..3000, 60_000u32..70_000, Just(1 << 22)];
        let stretch =
            (every, 1u32..60_000).prop_map(|(every, times)| (every, times.min(200_000 / every + 3)));
        (0u32..100_000, prop::collection::vec(stretch, 0..10)).prop_map(|(first, stretches)| {
            let mut ids = vec![first];
            for (every, times) in stretches {
                let last = ids[ids.len() - 1];
                ids.extend((1..=times).map(|n| last + n * every));
            }
            ids
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(100))]
        #[test]
        fn any_ids_are_read_back_whole_and_in_part(ids in sets(), cuts in prop::collection::vec(any::<u32>(), 6)) {
            let term = Term::of(&ids);
            prop_assert_eq!(&term.ids(0..u32::MAX), &ids);
            prop_assert_eq!(&term.each(u32::MAX), &ids);
            let end = ids[ids.len() - 1] + 2;
            for cut in cuts.windows(2) {
                let within = cut[0] % end..cut[1] % end;
                let expected: Vec<_> = ids.iter().copied().filter(|id| within.contains(id)).collect();
                prop_assert_eq!(term.ids(within), expected);
                let before = ids.partition_point(|id| *id < cut[0] % end);
                prop_assert_eq!(&term.each(cut[0] % end), &ids[..before]);
            }
            prop_assert!(term.size().0 <= 10 * ids.len() + 256);
        }
    }

    #[test]
    fn ids_ascend_and_the_same_twice_is_one() {
        let mut term = Term::of(&[5, 5, 9, 9, 300]);
        assert_eq!(term.ids(0..u32::MAX), [5, 9, 300]);
        assert!(matches!(term.push(299), Err(Error::Descending { last: 300, id: 299 })));
        let mut one = Term::of(&[5]);
        assert!(matches!(one.push(4), Err(Error::Descending { last: 5, id: 4 })));
        assert!((one.tail == BlockRef::NONE) && one.ids(0..5).is_empty());
    }

    #[test]
    fn the_highest_ids_of_all() {
        let ids = [0, 1 << 7, 1 << 14, 1 << 21, 1 << 28, u32::MAX - 70_000, u32::MAX - 2, u32::MAX - 1];
        assert_eq!(Term::of(&ids).ids(0..u32::MAX), ids);
        assert_eq!(Term::of(&ids).each(u32::MAX), ids);
        let dense: Vec<_> = (u32::MAX - 140_000..u32::MAX).collect();
        let term = Term::of(&dense);
        assert!(term.size().1 > 0 && term.ids(0..u32::MAX) == dense && term.each(u32::MAX) == dense);
    }

    #[test]
    fn dense_terms_take_what_their_bits_take() {
        for (every, windows) in [(1, 20), (2, 20), (3, 7), (5, 20)] {
            let ids: Vec<_> = (0..windows * WINDOW).step_by(every).collect();
            let (bytes, bits) = Term::of(&ids).size();
            // The first window begins with what shows that it is dense.
            assert!(
                bits == windows as usize && bytes <= (windows as usize + 1) * 8300,
                "every {every}: {bytes}"
            );
        }
    }

    #[test]
    fn no_kind_of_term_takes_much_more_than_a_roaring_bitmap() {
        let mut rng = SplitMix64::new(1);
        for density in [2, 5, 10, 15, 20, 50, 200, 1000, 10_000] {
            let ids: Vec<_> = (0..2_000_000).filter(|_| rng.below(density) == 0).collect();
            let (bytes, roaring) = (Term::of(&ids).size().0, roaring_bytes(&ids));
            assert!(bytes * 10 <= roaring * 14 + 2000, "one in {density}: {bytes} bytes, roaring {roaring}");
        }
    }

    #[test]
    fn bursts_waste_little() {
        // Ids enough to look dense, in one of two windows.
        let burst = |window: u32, count: u32| (0..count).map(move |id| window * 2 * WINDOW + id);
        for count in [100, 1900, 3900, 4100, 9000, 22_000] {
            let ids: Vec<_> = (0..20).flat_map(|window| burst(window, count)).collect();
            let term = Term::of(&ids);
            assert!(term.size().0 <= 5 * ids.len(), "{count}: {:?}", term.size());
            assert_eq!(term.ids(0..u32::MAX), ids);
        }
    }

    #[test]
    fn room_is_reckoned_before_it_is_taken() {
        let appender = |next_unit| Appender { next_unit };
        assert!(appender(1).check_room(20_000_000).is_ok());
        assert!(matches!(appender(1).check_room(40_000_000), Err(Error::TooLarge { size: 40_000_000, .. })));
        assert!(appender(1).check_room(usize::MAX).is_err());
        assert!(appender(UNITS - 1000).check_room(111).is_ok());
        assert!(appender(UNITS - 1000).check_room(112).is_err());

        // What was promised is kept, to the last word; where little is left, there are no bits.
        let ids: Vec<_> = (0..20_000).collect();
        let mut term = Term {
            chains: Chains::new(),
            appender: appender(UNITS - 4 * 8 * 256),
            first: 0,
            tail: BlockRef::NONE,
        };
        ids.iter().for_each(|&id| term.push(id).unwrap());
        assert!(term.size().1 == 0 && term.ids(0..u32::MAX) == ids);
        let sparse = UNITS - UNITS_PER_ID * 500;
        let mut terms = appender(sparse);
        terms.check_room(500).unwrap();
        let chains = Chains::new();
        for _ in 0..500 {
            terms.push(&chains, 1, BlockRef::NONE, 1 << 30).unwrap();
        }
        assert!(terms.next_unit <= UNITS);
    }
}
