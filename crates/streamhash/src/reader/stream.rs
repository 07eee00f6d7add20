//! Many keys, in memory: they go through the steps of a lookup in groups, and each step begins to load what the next one
//! reads, so that the misses of a group overlap and are over when it gets there.
//!
//! ```text
//! keys ─▶ block table ─▶ checkpoint of the blob ─▶ slot, rank ─▶ entry ─▶ hits
//!    prefetch: blob        prefetch: stretch     prefetch: entry
//! ```
//!
//! Four groups are under way, one before each step. The algorithms that read a byte and an entry have tighter loops, those
//! of `batch`; a stream of theirs is cut into batches.

use icecore_diskio::ReadAt;

#[cfg(target_arch = "x86_64")]
use super::lanes::{Pilots, Seeds};
use super::{Block, Hit, Index};
use crate::{
    Error, KEY_BYTES, Result, algorithm::Decoder, bijection, key::Key, phast, prefetch::prefetch, ptrhash,
};

/// Keys of a group.
const GROUP: usize = 32;
/// Steps of a lookup, the last of which is taken when an answer is asked for.
const STEPS: usize = 4;
/// Keys of a batch that is cut out of a stream.
const BATCH: usize = 1024;

impl<S: ReadAt> Index<S> {
    /// Looks up many keys: clears `out` and fills it with what [`lookup`](Index::lookup) gives for each.
    ///
    /// # Errors
    /// The first of those of [`lookup`](Index::lookup); `out` then holds what came before.
    pub fn lookup_batch(&self, keys: &[impl AsRef<[u8]>], out: &mut Vec<Option<Hit>>) -> Result<()> {
        out.clear();
        out.reserve(keys.len());
        let mut lookups = self.lookup_stream(keys);
        let Some(bytes) = lookups.memory else {
            return lookups.try_for_each(|hit| hit.map(|hit| out.push(hit)));
        };
        match &self.decoder {
            Decoder::PtrHash(decoder) => return self.ptrhash_batch(decoder, bytes, keys, out),
            Decoder::Fast(decoder) => return self.fast_batch(decoder, bytes, keys, out),
            Decoder::Bijection(_) | Decoder::Compact(_) => {}
        }
        while lookups.advance(bytes) {
            let group = &lookups.groups[lookups.oldest];
            for pending in group.pending.iter().take(group.len) {
                out.push(self.answer(bytes, pending)?);
            }
            if let Some(len_bytes) = group.misfit_bytes {
                return Err(Error::KeyLength { len_bytes });
            }
        }
        Ok(())
    }

    #[inline(never)]
    fn ptrhash_batch(
        &self,
        decoder: &ptrhash::Decoder,
        bytes: &[u8],
        keys: &[impl AsRef<[u8]>],
        out: &mut Vec<Option<Hit>>,
    ) -> Result<()> {
        #[cfg(target_arch = "x86_64")]
        if let Some(lanes) = self.lanes(Pilots { hashes: decoder.hashes() }, bytes) {
            return self.in_lanes(&lanes, keys, out, |_| ());
        }
        let first_read = |block: Block, key| block.blob_at() + ptrhash::Decoder::pilot_at(key);
        self.two_reads(bytes, keys, out, first_read, |block, key, place| {
            let slot = decoder.slot(*bytes.get(place as usize)?, block.keys(), key);
            (slot < block.keys()).then_some(block.keys_before() + u64::from(slot))
        })
    }

    #[inline(never)]
    fn fast_batch(
        &self,
        decoder: &phast::Decoder,
        bytes: &[u8],
        keys: &[impl AsRef<[u8]>],
        out: &mut Vec<Option<Hit>>,
    ) -> Result<()> {
        #[cfg(target_arch = "x86_64")]
        if let Some(lanes) = self.lanes(Seeds { seed: decoder.seed }, bytes) {
            return self.in_lanes(&lanes, keys, out, |bumped| self.load_bumped(decoder, bytes, bumped));
        }
        let first_read = |block: Block, key| block.blob_at() + u64::from(decoder.seed_at(block.keys(), key));
        self.two_reads(bytes, keys, out, first_read, |block, key, place| {
            let seed_at = (place - block.blob_at()) as u32;
            let slot = decoder.slot(*bytes.get(place as usize)?, seed_at, block.keys(), key)?;
            Some(block.keys_before() + u64::from(slot))
        })
    }

    /// Looks up keys as they come: for each, in order, what [`lookup`](Index::lookup) gives. In memory, up to 1024
    /// keys are taken before the first is answered; from a file they are read one after the other.
    ///
    /// ```
    /// # use icecore_streamhash::{Index, Options, UnsortedBuilder, prehash};
    /// # fn main() -> icecore_streamhash::Result<()> {
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let path = dir.path().join("index");
    /// # let mut builder = UnsortedBuilder::create(&path, 2, Options::new().payload_bytes(1))?;
    /// # builder.add(&prehash(b"ice"), 3)?;
    /// # builder.add(&prehash(b"core"), 4)?;
    /// # builder.finish()?;
    /// let index = Index::from_source(std::fs::read(&path).unwrap())?;
    /// let mut total = 0;
    /// for hit in index.lookup_stream(["core", "ice"].map(|word| prehash(word.as_bytes()))) {
    ///     total += hit?.map_or(0, |hit| hit.payload);
    /// }
    /// assert_eq!(total, 7);
    /// # Ok(())
    /// # }
    /// ```
    pub fn lookup_stream<K: IntoIterator<Item: AsRef<[u8]>>>(&self, keys: K) -> Lookups<'_, S, K::IntoIter> {
        Lookups {
            index: self,
            memory: self.source.as_bytes(),
            keys: keys.into_iter(),
            groups: [const { Group::EMPTY }; STEPS],
            oldest: 0,
            answered: 0,
            batch: Vec::new(),
            hits: Vec::new(),
            failed: None,
            misfit: None,
        }
    }

    /// The first step: takes keys, and begins to load where their blocks are read first.
    #[inline(always)]
    fn take(
        &self,
        keys: &mut impl Iterator<Item: AsRef<[u8]>>,
        group: &mut Group,
        first_read: impl Fn(Block, Key),
    ) {
        (group.len, group.misfit_bytes) = (0, None);
        for pending in &mut group.pending {
            let Some(key) = keys.next() else { return };
            let key = key.as_ref();
            let Ok(words) = Key::new(key) else {
                group.misfit_bytes = Some(key.len());
                return;
            };
            let block = self.block_of(words);
            first_read(block, words);
            *pending = Pending { key: words, block, place: NONE };
            group.len += 1;
        }
    }

    /// The second step, of Bijection: its checkpoints say where to go on in the blob.
    #[inline(always)]
    fn seek(&self, bytes: &[u8], group: &Group) {
        for Pending { key, block, .. } in group.pending.iter().take(group.len) {
            let at = block.blob_at() as usize;
            let blob = bytes.get(at..at + block.blob_bytes()).unwrap_or_default();
            bijection::Decoder::prefetch(&self.asked(blob, *block, *key));
        }
    }

    /// The third step, of Bijection: ranks, and where the entries are.
    #[inline(always)]
    fn rank_all(&self, bytes: &[u8], group: &mut Group, decoder: &bijection::Decoder) {
        const NOTHING: bijection::Asked<'_> =
            bijection::Asked { blob: &[], keys: 0, kept: None, key: Key { k0: 0, k1: 0 } };
        let (mut asked, mut numbers, mut len) = ([NOTHING; GROUP], [0; GROUP], 0);
        for (i, pending) in group.pending.iter_mut().take(group.len).enumerate() {
            let (key, block) = (pending.key, pending.block);
            if let Some(rank) = self.kept_rank(decoder, Some(bytes), block, key) {
                pending.place = self.load_entry(bytes, rank);
                continue;
            }
            let at = block.blob_at() as usize;
            // Asked again, what is not found out here says why.
            pending.place = if block.keys() == 0 { NONE } else { IN_FULL };
            if let Some(blob) = bytes.get(at..at + block.blob_bytes())
                && block.keys() > 0
            {
                (asked[len], numbers[len]) = (self.asked(blob, block, key), i);
                len += 1;
            }
        }
        decoder.slots(&asked[..len], |i, slot| {
            let pending = &mut group.pending[numbers[i]];
            if let Ok(slot) = slot {
                let rank = slot.map(|slot| pending.block.keys_before() + u64::from(slot));
                pending.place = self.load_entry(bytes, rank);
            }
        });
    }

    /// Begins to load the entry of a rank; what a key's place is after that.
    #[inline(always)]
    fn load_entry(&self, bytes: &[u8], rank: Option<u64>) -> u64 {
        let Some(rank) = rank else { return NONE };
        prefetch(bytes, self.entry_at(rank) as usize);
        rank
    }

    /// The third step where there are no ranks.
    #[inline(always)]
    fn in_full(&self, group: &mut Group) {
        group.pending.iter_mut().take(group.len).for_each(|pending| pending.place = IN_FULL);
    }

    /// The last step.
    #[inline(always)]
    fn answer(&self, bytes: &[u8], Pending { key, place, .. }: &Pending) -> Result<Option<Hit>> {
        match *place {
            NONE => Ok(None),
            IN_FULL => self.lookup_in_full(bytes, *key),
            rank => self.hit(Some(bytes), *key, rank),
        }
    }

    #[inline(never)]
    fn lookup_in_full(&self, bytes: &[u8], key: Key) -> Result<Option<Hit>> {
        self.lookup_key(Some(bytes), key)
    }
}

/// The answers of [`lookup_stream`](Index::lookup_stream).
#[derive(Debug)]
pub struct Lookups<'a, S, K> {
    index: &'a Index<S>,
    memory: Option<&'a [u8]>,
    keys: K,
    /// A ring.
    groups: [Group; STEPS],
    /// The group that is being answered.
    oldest: usize,
    /// How many of its keys, or of `hits`, have been.
    answered: usize,
    /// Where lookups go by batches: the last one's keys, what was found, what ended it, and what came after it that is no
    /// key.
    batch: Vec<[u8; KEY_BYTES]>,
    hits: Vec<Option<Hit>>,
    failed: Option<Error>,
    misfit: Option<Error>,
}

#[derive(Debug)]
struct Group {
    pending: [Pending; GROUP],
    len: usize,
    /// The length of a key that came after these and is none.
    misfit_bytes: Option<usize>,
}

impl Group {
    const EMPTY: Group = Group {
        pending: [Pending { key: Key { k0: 0, k1: 0 }, block: Block { keys: 0, blob: 0 }, place: NONE };
            GROUP],
        len: 0,
        misfit_bytes: None,
    };
}

#[derive(Clone, Copy, Debug)]
struct Pending {
    key: Key,
    block: Block,
    /// After the third step its rank, or one of two values that none has.
    place: u64,
}

const NONE: u64 = u64::MAX;
const IN_FULL: u64 = u64::MAX - 1;

impl<'a, S: ReadAt, K: Iterator<Item: AsRef<[u8]>>> Lookups<'a, S, K> {
    /// Every group takes its next step, and the oldest makes room for a new one; false where that leaves nothing.
    #[inline(never)]
    fn advance(&mut self, bytes: &[u8]) -> bool {
        let (index, groups) = (self.index, &mut self.groups);
        // At the beginning, empty groups are answered at once.
        for _ in 0..STEPS {
            let newest = self.oldest;
            let ranked = (newest + STEPS - 2) % STEPS;
            match &index.decoder {
                Decoder::Bijection(decoder) => {
                    index.take(&mut self.keys, &mut groups[newest], |block, key| {
                        match index.checkpoints.get(index.number_of(key)) {
                            Some(kept) => kept.prefetch(key),
                            None => bijection::Decoder::prefetch_checkpoints(bytes, block.blob_at() as usize),
                        }
                    });
                    index.seek(bytes, &groups[(newest + STEPS - 1) % STEPS]);
                    index.rank_all(bytes, &mut groups[ranked], decoder);
                }
                Decoder::PtrHash(_) | Decoder::Fast(_) => {}
                Decoder::Compact(decoder) => {
                    index.take(&mut self.keys, &mut groups[newest], |block, key| {
                        let place = decoder.first(block.keys(), key);
                        let window_at = block.blob_at() + place.window_at;
                        (0..=decoder.window_bytes())
                            .step_by(64)
                            .for_each(|line| prefetch(bytes, window_at as usize + line));
                        prefetch(bytes, (block.blob_at() + place.threshold_at) as usize);
                    });
                    index.in_full(&mut groups[ranked]);
                }
            }
            self.oldest = (newest + 1) % STEPS;
            let oldest = &groups[self.oldest];
            if oldest.len > 0 || oldest.misfit_bytes.is_some() {
                self.answered = 0;
                return true;
            }
        }
        false
    }

    /// Looks up the next batch; false where nothing is left.
    #[inline(never)]
    fn refill(&mut self, bytes: &[u8]) -> bool {
        // What came after a key whose lookup failed is still to be looked up.
        let done = self.batch.len().min(self.hits.len() + 1);
        self.batch.drain(..done);
        self.hits.clear();
        self.answered = 0;
        if self.batch.is_empty() && self.misfit.is_none() {
            for key in self.keys.by_ref().take(BATCH) {
                match (Key::new(key.as_ref()), key.as_ref().first_chunk()) {
                    (Ok(_), Some(head)) => self.batch.push(*head),
                    (checked, _) => {
                        self.misfit = checked.err();
                        break;
                    }
                }
            }
        }
        if self.batch.is_empty() {
            self.failed = self.misfit.take();
            return self.failed.is_some();
        }
        let looked_up = match &self.index.decoder {
            Decoder::PtrHash(decoder) => {
                self.index.ptrhash_batch(decoder, bytes, &self.batch, &mut self.hits)
            }
            Decoder::Fast(decoder) => self.index.fast_batch(decoder, bytes, &self.batch, &mut self.hits),
            Decoder::Bijection(_) | Decoder::Compact(_) => Ok(()),
        };
        self.failed = looked_up.err();
        true
    }
}

impl<'a, S: ReadAt, K: Iterator<Item: AsRef<[u8]>>> Iterator for Lookups<'a, S, K> {
    type Item = Result<Option<Hit>>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let Some(bytes) = self.memory else {
            return self.keys.next().map(|key| self.index.lookup(key.as_ref()));
        };
        if let Decoder::PtrHash(_) | Decoder::Fast(_) = self.index.decoder {
            loop {
                if let Some(&hit) = self.hits.get(self.answered) {
                    self.answered += 1;
                    return Some(Ok(hit));
                }
                if let Some(error) = self.failed.take() {
                    return Some(Err(error));
                }
                if !self.refill(bytes) {
                    return None;
                }
            }
        }
        loop {
            let group = &mut self.groups[self.oldest];
            if self.answered < group.len {
                let pending = &group.pending[self.answered];
                self.answered += 1;
                return Some(self.index.answer(bytes, pending));
            }
            if let Some(len_bytes) = group.misfit_bytes.take() {
                return Some(Err(Error::KeyLength { len_bytes }));
            }
            if !self.advance(bytes) {
                return None;
            }
        }
    }
}
