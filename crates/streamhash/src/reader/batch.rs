//! Many keys in memory, where a lookup is two reads: of a byte of the block, and of the entry. Three groups of keys are
//! under way, one before each step.
//!
//! ```text
//! keys ─▶ block table ─▶ byte of the blob ─▶ entry ─▶ hits
//!             prefetch: byte       prefetch: entry
//! ```

use icecore_diskio::ReadAt;

#[cfg(target_arch = "x86_64")]
use super::lanes::{Eight, LANES, Lanes, TwoReads};
use super::{Block, Hit, Index};
use crate::{Error, Result, key::Key, phast, prefetch::prefetch};

/// Keys of a group: as many as misses are worth waiting for at the same time.
const GROUP: usize = 64;

/// A rank that no key has: to be looked up by itself.
pub(super) const UNKNOWN: u64 = u64::MAX;

impl<S: ReadAt> Index<S> {
    /// [`lookup_batch`](Index::lookup_batch), given where a key's byte is and what rank it says. `rank` may leave a key
    /// to be looked up by itself.
    #[inline(always)]
    pub(super) fn two_reads(
        &self,
        bytes: &[u8],
        keys: &[impl AsRef<[u8]>],
        out: &mut Vec<Option<Hit>>,
        first_read: impl Fn(Block, Key) -> u64,
        rank: impl Fn(Block, Key, u64) -> Option<u64>,
    ) -> Result<()> {
        let misfit = keys.iter().position(|key| Key::new(key.as_ref()).is_err());
        let groups = keys[..misfit.unwrap_or(keys.len())].chunks(GROUP);
        // Where the byte of each key of a group is, and what ranks those of the group before have.
        let (mut places, mut ranks) = ([0; GROUP], [0; GROUP]);
        let (mut placed, mut ranked): (&[_], &[_]) = (&[], &[]);
        for group in groups.map(Some).chain([None, None]) {
            for (key, rank) in ranked.iter().zip(ranks) {
                let key = words(key);
                let hit = match rank {
                    UNKNOWN => self.lookup_alone(bytes, key)?,
                    rank => self.hit(Some(bytes), key, rank)?,
                };
                out.push(hit);
            }
            for ((key, place), ranked) in placed.iter().zip(places).zip(&mut ranks) {
                let key = words(key);
                *ranked = match rank(self.block_of(key), key, place) {
                    Some(rank) => {
                        prefetch(bytes, self.entry_at(rank) as usize);
                        rank
                    }
                    None => UNKNOWN,
                };
            }
            for (key, place) in group.unwrap_or_default().iter().zip(&mut places) {
                let key = words(key);
                *place = first_read(self.block_of(key), key);
                prefetch(bytes, *place as usize);
            }
            (ranked, placed) = (placed, group.unwrap_or_default());
        }
        match misfit.and_then(|at| keys.get(at)) {
            Some(key) => Err(Error::KeyLength { len_bytes: key.as_ref().len() }),
            None => Ok(()),
        }
    }

    /// What looks up eight keys at a time, where it can.
    #[cfg(target_arch = "x86_64")]
    pub(super) fn lanes<'a, A>(&'a self, algorithm: A, bytes: &'a [u8]) -> Option<Lanes<'a, A>> {
        let lanes = Lanes {
            avx512: self.avx512?,
            bytes,
            blocks: &self.blocks,
            entries: &self.entries,
            payload_at: self.layout.payload_at,
            algorithm,
        };
        (self.header.entry_bytes() <= size_of::<u64>()).then_some(lanes)
    }

    /// The same as [`two_reads`](Index::two_reads). `prepare` begins to load what keys need that are looked up apart.
    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    pub(super) fn in_lanes(
        &self,
        lanes: &Lanes<'_, impl TwoReads>,
        keys: &[impl AsRef<[u8]>],
        out: &mut Vec<Option<Hit>>,
        prepare: impl Fn(&[(usize, Key)]),
    ) -> Result<()> {
        let misfit = keys.iter().position(|key| Key::new(key.as_ref()).is_err());
        let groups = keys[..misfit.unwrap_or(keys.len())].chunks(GROUP);
        let [a, b, c] = &mut [[Eight::default(); GROUP / LANES]; 3];
        let (mut taken, mut placed, mut ranked) = (a, b, c);
        let mut lens = [0; 3];
        // Keys of which one byte does not say all, and where their hits are to go.
        let (mut apart, mut pending) = ([(0, Key::default()); GROUP], 0);
        for group in groups.map(Some).chain([None, None]) {
            let group = group.unwrap_or_default();
            // What was taken is placed now, and what was placed has ranks.
            (taken, placed, ranked) = (ranked, taken, placed);
            lens = [group.len(), lens[0], lens[1]];
            for (i, key) in group.iter().enumerate() {
                taken[i / LANES].put(i % LANES, words(key));
            }
            for (i, eight) in ranked[..lens[2].div_ceil(LANES)].iter().enumerate() {
                let (known, right, payloads) = lanes.find_payloads(eight);
                if pending > apart.len() - LANES {
                    prepare(&apart[..pending]);
                    self.look_up_apart(lanes.bytes, &apart[..pending], out)?;
                    pending = 0;
                }
                for (lane, &payload) in payloads.iter().enumerate().take(lens[2] - i * LANES) {
                    let hit = match (known >> lane & 1, right >> lane & 1) {
                        (0, _) => {
                            apart[pending] = (out.len(), eight.key(lane));
                            pending += 1;
                            None
                        }
                        (_, 0) => None,
                        _ => Some(Hit { rank: Some(eight.places[lane]), payload }),
                    };
                    out.push(hit);
                }
            }
            placed[..lens[1].div_ceil(LANES)].iter_mut().for_each(|eight| lanes.find_ranks(eight));
            taken[..lens[0].div_ceil(LANES)].iter_mut().for_each(|eight| lanes.find_bytes(eight));
        }
        prepare(&apart[..pending]);
        self.look_up_apart(lanes.bytes, &apart[..pending], out)?;
        match misfit.and_then(|at| keys.get(at)) {
            Some(key) => Err(Error::KeyLength { len_bytes: key.as_ref().len() }),
            None => Ok(()),
        }
    }

    /// Begins to load where the seeds of bumped keys lead to.
    #[cfg(target_arch = "x86_64")]
    #[inline(never)]
    pub(super) fn load_bumped(&self, decoder: &phast::Decoder, bytes: &[u8], keys: &[(usize, Key)]) {
        let tail_of = |key| {
            let block = self.block_of(key);
            (block.tail(phast::tail_at(block.keys())), block.keys())
        };
        for &(_, key) in keys {
            prefetch(bytes, tail_of(key).0.blob_at() as usize);
        }
        for &(_, key) in keys {
            if let Ok(tail) = self.blob(Some(bytes), tail_of(key).0) {
                decoder.begin_to_load_seed(&tail, key);
            }
        }
        for &(_, key) in keys {
            let (tail, keys) = tail_of(key);
            if let Ok(tail) = self.blob(Some(bytes), tail) {
                decoder.begin_to_load_hole(&tail, keys, key);
            }
        }
    }

    /// Looks up keys that are bumped or remapped, most likely, and puts their hits where they say.
    #[cfg(target_arch = "x86_64")]
    #[inline(never)]
    fn look_up_apart(&self, bytes: &[u8], keys: &[(usize, Key)], out: &mut Vec<Option<Hit>>) -> Result<()> {
        let mut ranks = [None; GROUP];
        let (mut ranked, mut last) = (keys, Ok(()));
        for (i, (&(at, key), rank)) in keys.iter().zip(&mut ranks).enumerate() {
            match self.rank_in(Some(bytes), self.block_of(key), key) {
                Ok(found) => *rank = found,
                Err(error) => {
                    out.truncate(at);
                    (ranked, last) = (&keys[..i], Err(error));
                    break;
                }
            }
            prefetch(bytes, self.entry_at(rank.unwrap_or(0)) as usize);
        }
        for (&(at, key), rank) in ranked.iter().zip(ranks) {
            if let Some(rank) = rank {
                out[at] = self.hit(Some(bytes), key, rank).inspect_err(|_| out.truncate(at))?;
            }
        }
        last
    }

    #[cold]
    #[inline(never)]
    fn lookup_alone(&self, bytes: &[u8], key: Key) -> Result<Option<Hit>> {
        self.lookup_key(Some(bytes), key)
    }
}

/// The words of a key that was found to be one.
#[inline(always)]
fn words(key: &impl AsRef<[u8]>) -> Key {
    Key::new(key.as_ref()).unwrap_or_default()
}
