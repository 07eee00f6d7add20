//! One key at a time: its block from the table, its slot from the block's blob, its entry at the slot.
//!
//! Every step takes the bytes in memory, or reads what it needs where there are none; no step trusts an offset.

use std::borrow::Cow;

use icecore_diskio::ReadAt;

use super::{Block, Hit, Index, read_vec};
use crate::{
    Error, Header, Result,
    algorithm::{Damage, Decoder},
    bijection,
    key::{Key, truncate},
    phast, ptrhash, ribbon,
};

/// How to take an entry of the payload region apart.
#[derive(Debug)]
pub(super) struct EntryShape {
    pub(super) bytes: u64,
    pub(super) fingerprint_bits: u32,
    pub(super) fingerprint_mask: u32,
    pub(super) payload_mask: u64,
}

impl EntryShape {
    pub(super) fn new(header: &Header) -> Self {
        let payload_bits = 8 * u32::from(header.payload_bytes);
        EntryShape {
            bytes: header.entry_bytes() as u64,
            fingerprint_bits: 8 * u32::from(header.fingerprint_bytes),
            fingerprint_mask: truncate(u32::MAX, header.fingerprint_bytes),
            payload_mask: u64::MAX.checked_shr(u64::BITS - payload_bits).unwrap_or(0),
        }
    }

    /// The fingerprint and the payload of an entry, whatever follows it.
    #[inline(always)]
    fn split(&self, entry: [u8; 16]) -> (u32, u64) {
        let entry = u128::from_le_bytes(entry);
        (entry as u32 & self.fingerprint_mask, (entry >> self.fingerprint_bits) as u64 & self.payload_mask)
    }

    /// The same of entries of at most eight bytes.
    #[inline(always)]
    fn split_short(&self, entry: u64) -> (u32, u64) {
        (entry as u32 & self.fingerprint_mask, entry >> self.fingerprint_bits & self.payload_mask)
    }
}

/// Keeps a test a branch, which the processor guesses, where a choice of values would wait for memory.
#[cold]
#[inline]
fn rarely() {}

impl<S: ReadAt> Index<S> {
    /// Looks up a key: `None` where it is certainly not in the index.
    ///
    /// # Errors
    /// [`Error::KeyLength`], [`Error::Corrupt`], and those of the disk.
    #[inline(always)]
    pub fn lookup(&self, key: &[u8]) -> Result<Option<Hit>> {
        self.lookup_key(self.source.as_bytes(), Key::new(key)?)
    }

    #[inline(always)]
    pub(super) fn lookup_key(&self, memory: Option<&[u8]>, key: Key) -> Result<Option<Hit>> {
        if let Decoder::Compact(decoder) = &self.decoder {
            let payload = self.compact_payload(decoder, memory, self.block_of(key), key)?;
            return Ok(payload.map(|payload| Hit { rank: None, payload }));
        }
        match self.rank_in(memory, self.block_of(key), key)? {
            Some(rank) => self.hit(memory, key, rank),
            None => Ok(None),
        }
    }

    /// The rank of a key, whose fingerprint is not looked at: any rank, or `None`, for a key that is not in the index.
    ///
    /// # Errors
    /// [`Error::KeyLength`], [`Error::NoRanks`], [`Error::Corrupt`], and those of the disk.
    pub fn rank(&self, key: &[u8]) -> Result<Option<u64>> {
        let key = Key::new(key)?;
        self.require_ranks()?;
        self.rank_in(self.source.as_bytes(), self.block_of(key), key)
    }

    /// The payload of a rank, 0 where the index keeps none.
    ///
    /// # Errors
    /// [`Error::RankOutOfRange`], [`Error::NoRanks`], and those of the disk.
    pub fn payload(&self, rank: u64) -> Result<u64> {
        Ok(self.entry_of(rank)?.1)
    }

    /// The fingerprint of a rank, 0 where the index keeps none; see [`fingerprint`](crate::fingerprint()).
    ///
    /// # Errors
    /// [`Error::RankOutOfRange`], [`Error::NoRanks`], and those of the disk.
    pub fn fingerprint(&self, rank: u64) -> Result<u32> {
        Ok(self.entry_of(rank)?.0)
    }

    fn require_ranks(&self) -> Result<()> {
        if self.header.algorithm.has_ranks() {
            return Ok(());
        }
        Err(self.no_ranks())
    }

    #[cold]
    fn no_ranks(&self) -> Error {
        Error::NoRanks { path: self.source.path().to_path_buf() }
    }

    fn entry_of(&self, rank: u64) -> Result<(u32, u64)> {
        self.require_ranks()?;
        if rank >= self.header.keys {
            return Err(Error::RankOutOfRange { rank, keys: self.header.keys });
        }
        self.entry(self.source.as_bytes(), rank)
    }

    /// The number of a key's block.
    #[inline(always)]
    pub(super) fn number_of(&self, key: Key) -> usize {
        key.block(self.blocks.len() as u32) as usize
    }

    #[inline(always)]
    pub(super) fn block_of(&self, key: Key) -> Block {
        // As many as the header says; the block of a key is one of them.
        self.blocks[self.number_of(key)]
    }

    #[inline(always)]
    pub(super) fn blob<'a>(&self, memory: Option<&'a [u8]>, block: Block) -> Result<Cow<'a, [u8]>> {
        let (at, len) = (block.blob_at(), block.blob_bytes());
        match memory {
            Some(bytes) => {
                let blob = bytes.get(at as usize..at as usize + len);
                blob.map(Cow::Borrowed).ok_or_else(|| self.outside(at))
            }
            None => Ok(Cow::Owned(read_vec(&self.source, at, len as u64)?)),
        }
    }

    /// Bytes that opening found to be inside the source.
    #[inline(always)]
    fn fetch<const N: usize>(&self, memory: Option<&[u8]>, at: u64) -> Result<[u8; N]> {
        match memory {
            Some(bytes) => self.inside(bytes, at).copied(),
            None => {
                let mut bytes = [0; N];
                self.source.read_exact_at(&mut bytes, at)?;
                Ok(bytes)
            }
        }
    }

    #[inline(always)]
    fn inside<'a, const N: usize>(&self, bytes: &'a [u8], at: u64) -> Result<&'a [u8; N]> {
        let Some(tail) = bytes.get(at as usize..) else { return Err(self.outside(at)) };
        let Some(found) = tail.first_chunk() else { return Err(self.outside(at)) };
        Ok(found)
    }

    #[cold]
    #[inline(never)]
    fn outside(&self, at: u64) -> Error {
        self.corrupt(at, "the file has become shorter than it was when opened")
    }

    /// The rank of a key of this block.
    #[inline(always)]
    pub(super) fn rank_in(&self, memory: Option<&[u8]>, block: Block, key: Key) -> Result<Option<u64>> {
        match &self.decoder {
            Decoder::Bijection(decoder) => match self.kept_rank(decoder, memory, block, key) {
                Some(rank) => Ok(rank),
                None => self.bijection_rank(decoder, memory, block, key),
            },
            Decoder::PtrHash(decoder) => self.ptrhash_rank(
                decoder,
                memory,
                block,
                key,
                block.blob_at() + ptrhash::Decoder::pilot_at(key),
            ),
            Decoder::Fast(decoder) => {
                let seed_at = decoder.seed_at(block.keys(), key);
                self.fast_rank(decoder, memory, block, key, block.blob_at() + u64::from(seed_at))
            }
            Decoder::Compact(_) => Err(self.no_ranks()),
        }
    }

    #[inline(always)]
    pub(super) fn ptrhash_rank(
        &self,
        decoder: &ptrhash::Decoder,
        memory: Option<&[u8]>,
        block: Block,
        key: Key,
        pilot_at: u64,
    ) -> Result<Option<u64>> {
        let [pilot] = self.fetch(memory, pilot_at)?;
        let slot = decoder.slot(pilot, block.keys(), key);
        if slot < block.keys() {
            Ok(Some(block.keys_before() + u64::from(slot)))
        } else {
            self.remapped_rank(memory, block, slot)
        }
    }

    #[inline(always)]
    pub(super) fn fast_rank(
        &self,
        decoder: &phast::Decoder,
        memory: Option<&[u8]>,
        block: Block,
        key: Key,
        seed_at: u64,
    ) -> Result<Option<u64>> {
        let [seed] = self.fetch(memory, seed_at)?;
        match decoder.slot(seed, (seed_at - block.blob_at()) as u32, block.keys(), key) {
            Some(slot) => Ok(Some(block.keys_before() + u64::from(slot))),
            None => self.bumped_rank(decoder, memory, block, key),
        }
    }

    /// The rank of a key that the first level of its block has no slot for.
    #[cold]
    #[inline(never)]
    fn bumped_rank(
        &self,
        decoder: &phast::Decoder,
        memory: Option<&[u8]>,
        block: Block,
        key: Key,
    ) -> Result<Option<u64>> {
        let tail = self.blob(memory, block.tail(phast::tail_at(block.keys())))?;
        let slot = decoder.bumped_slot(&tail, block.keys(), key);
        let slot = slot.map_err(|Damage(what)| self.corrupt(block.blob_at(), what))?;
        Ok(slot.map(|slot| block.keys_before() + u64::from(slot)))
    }

    /// The rank of a key, if it follows at once from what is kept of its block.
    #[inline(always)]
    pub(super) fn kept_rank(
        &self,
        decoder: &bijection::Decoder,
        memory: Option<&[u8]>,
        block: Block,
        key: Key,
    ) -> Option<Option<u64>> {
        let kept = self.checkpoints.get(self.number_of(key))?;
        let at = block.blob_at() as usize;
        let blob = memory?.get(at..at + block.blob_bytes())?;
        let slot = decoder.slot_kept(blob, block.keys(), kept, key)?;
        Some(slot.map(|slot| block.keys_before() + u64::from(slot)))
    }

    #[inline(never)]
    pub(super) fn bijection_rank(
        &self,
        decoder: &bijection::Decoder,
        memory: Option<&[u8]>,
        block: Block,
        key: Key,
    ) -> Result<Option<u64>> {
        if block.keys() == 0 {
            return Ok(None);
        }
        let slot = match self.blob(memory, block)? {
            Cow::Borrowed(blob) => decoder.slot(&self.asked(blob, block, key)),
            Cow::Owned(blob) => decoder.slot(&self.asked(&blob, block, key)),
        };
        let slot = slot.map_err(|Damage(what)| self.corrupt(block.blob_at(), what))?;
        Ok(slot.map(|slot| block.keys_before() + u64::from(slot)))
    }

    #[inline(never)]
    fn compact_payload(
        &self,
        decoder: &ribbon::Decoder,
        memory: Option<&[u8]>,
        block: Block,
        key: Key,
    ) -> Result<Option<u64>> {
        if block.keys() == 0 {
            return Ok(None);
        }
        let mut place = decoder.first(block.keys(), key);
        loop {
            let [threshold] = self.fetch(memory, block.blob_at() + place.threshold_at)?;
            if place.holds(threshold) {
                return self.compact_window(decoder, memory, block.blob_at() + place.window_at, &place, key);
            }
            place = self.bumped(decoder, memory, block, &place, key)?;
        }
    }

    #[inline(always)]
    fn compact_window(
        &self,
        decoder: &ribbon::Decoder,
        memory: Option<&[u8]>,
        at: u64,
        place: &ribbon::Place,
        key: Key,
    ) -> Result<Option<u64>> {
        let len = decoder.window_bytes();
        if let Some(bytes) = memory {
            let window = bytes.get(at as usize..at as usize + len).ok_or_else(|| self.outside(at))?;
            return Ok(decoder.payload(window, place, key));
        }
        let mut buffer = [0; ribbon::MAX_WINDOW_BYTES];
        // A window has no more bytes than the longest.
        let window = buffer.get_mut(..len).unwrap_or_default();
        self.source.read_exact_at(window, at)?;
        Ok(decoder.payload(window, place, key))
    }

    /// Where a key is that is not in this layer.
    #[cold]
    #[inline(never)]
    fn bumped(
        &self,
        decoder: &ribbon::Decoder,
        memory: Option<&[u8]>,
        block: Block,
        place: &ribbon::Place,
        key: Key,
    ) -> Result<ribbon::Place> {
        let corrupt = |Damage(what)| self.corrupt(block.blob_at(), what);
        let link_at = decoder.link_at(place, block.blob_bytes()).map_err(corrupt)?;
        let link = self.fetch(memory, block.blob_at() + link_at)?;
        decoder.next(place, link, block.blob_bytes(), key).map_err(corrupt)
    }

    #[inline(always)]
    pub(super) fn asked<'a>(&'a self, blob: &'a [u8], block: Block, key: Key) -> bijection::Asked<'a> {
        let kept = self.checkpoints.get(self.number_of(key));
        bijection::Asked { blob, keys: block.keys(), kept, key }
    }

    /// The rank of a key whose slot is beyond the keys of its block.
    #[cold]
    #[inline(never)]
    fn remapped_rank(&self, memory: Option<&[u8]>, block: Block, slot: u32) -> Result<Option<u64>> {
        if block.keys() == 0 {
            return Ok(None);
        }
        let at = block.blob_at() + ptrhash::Decoder::remap_at(slot, block.keys());
        let slot = u16::from_le_bytes(self.fetch(memory, at)?);
        // In a damaged block, a slot may be beyond the keys again.
        Ok((u32::from(slot) < block.keys()).then_some(block.keys_before() + u64::from(slot)))
    }

    /// What is kept for a rank below the number of keys, if the fingerprint is the key's.
    #[inline(always)]
    pub(super) fn hit(&self, memory: Option<&[u8]>, key: Key, rank: u64) -> Result<Option<Hit>> {
        let (fingerprint, payload) = self.entry(memory, rank)?;
        let own = key.fingerprint() & self.entries.fingerprint_mask;
        if fingerprint != own {
            rarely();
            return Ok(None);
        }
        Ok(Some(Hit { rank: Some(rank), payload }))
    }

    /// Where in the file the entry of a rank is.
    #[inline(always)]
    pub(super) fn entry_at(&self, rank: u64) -> u64 {
        self.layout.payload_at + rank * self.entries.bytes
    }

    /// The fingerprint and the payload of a rank below the number of keys.
    #[inline(always)]
    fn entry(&self, memory: Option<&[u8]>, rank: u64) -> Result<(u32, u64)> {
        let at = self.entry_at(rank);
        match memory {
            // The footer follows at the latest: sixteen bytes can be loaded and the others cut off.
            Some(bytes) => Ok(match self.entries.bytes {
                // Not more than it takes: what is beyond may be in a line that nobody has asked for.
                0..=4 => self.entries.split_short(u32::from_le_bytes(*self.inside(bytes, at)?).into()),
                5..=8 => self.entries.split_short(u64::from_le_bytes(*self.inside(bytes, at)?)),
                _ => self.entries.split(*self.inside(bytes, at)?),
            }),
            None => {
                let mut entry = [0; 16];
                if let Some(entry @ [_, ..]) = entry.get_mut(..self.entries.bytes as usize) {
                    self.source.read_exact_at(entry, at)?;
                }
                Ok(self.entries.split(entry))
            }
        }
    }
}
