//! Terms to where their ids are: a table of open addressing in many shards, each of which grows by itself.
//!
//! ```text
//! entry    key, 16 bytes │ first id u32, 2^32-1 = no entry │ tail u32      24 bytes
//! shard    entries of which at most three in four are taken; grows by a quarter: 32 to 40 bytes a term
//! ```
//!
//! One thread writes. A shard grows by a copy that takes its place: a reader that still holds the old one finds in it all
//! that was there when it took it. An entry's first id is stored with `Release` after its key.

use std::{
    hash::BuildHasher,
    iter::repeat_with,
    sync::{
        Arc,
        atomic::Ordering::{Acquire, Relaxed, Release},
    },
};

use super::chains::BlockRef;
use crate::{
    TermKey,
    keyhash::UniformKeys,
    sync::{ArcSwap, AtomicU32, AtomicU64},
};

/// So many that copying one is no more than an append takes.
const SHARDS: usize = if cfg!(loom) { 1 } else { 1024 };
/// The first id of an entry that is none; no event has it.
const EMPTY: u32 = u32::MAX;

const _: () = assert!(cfg!(loom) || size_of::<Entry>() == 24);

struct Entry {
    key: [AtomicU64; 2],
    first: AtomicU32,
    tail: AtomicU32,
}

impl Entry {
    fn empty() -> Self {
        let key = [(); 2].map(|()| AtomicU64::new(0));
        Entry { key, first: AtomicU32::new(EMPTY), tail: AtomicU32::new(0) }
    }

    fn key(&self) -> [u64; 2] {
        self.key.each_ref().map(|half| half.load(Relaxed))
    }

    fn place(&self) -> Place {
        Place { first: self.first.load(Acquire), tail: BlockRef(self.tail.load(Acquire)) }
    }

    fn take(&self, key: [u64; 2], place: Place) {
        self.key.iter().zip(key).for_each(|(half, value)| half.store(value, Relaxed));
        self.tail.store(place.tail.0, Relaxed);
        self.first.store(place.first, Release);
    }
}

/// Where a term's ids are.
#[derive(Clone, Copy)]
pub(super) struct Place {
    pub(super) first: u32,
    pub(super) tail: BlockRef,
}

/// The entries of a shard, of which at least one is empty, or which are none at all.
struct Shard {
    entries: Box<[Entry]>,
}

impl Shard {
    fn new(entries: usize) -> Self {
        Shard { entries: repeat_with(Entry::empty).take(entries).collect() }
    }

    /// The index of a key's entry, or of the empty one that is to become it, and the first id. What is empty at this
    /// look may not be at the next.
    fn find(&self, hash: u64, key: [u64; 2]) -> Option<(usize, u32)> {
        let len = self.entries.len();
        let begin = ((u64::from(hash as u32) * len as u64) >> 32) as usize;
        (begin..len).chain(0..begin).find_map(|index| {
            let entry = &self.entries[index];
            let first = entry.first.load(Acquire);
            (first == EMPTY || entry.key() == key).then_some((index, first))
        })
    }

    /// Enters a key that is not there, and returns its index.
    fn add(&self, hash: u64, key: [u64; 2], place: Place) -> usize {
        // There is room for it.
        let index = self.find(hash, key).map_or(0, |(index, _)| index);
        self.entries[index].take(key, place);
        index
    }

    fn larger(&self, hasher: &UniformKeys) -> Shard {
        let larger = Shard::new(self.entries.len() + (self.entries.len() / 4).max(4));
        for (key, place) in self.iter() {
            larger.add(hasher.hash_one(whole(key)), key, place);
        }
        larger
    }

    /// The keys with their places.
    fn iter(&self) -> impl Iterator<Item = ([u64; 2], Place)> + '_ {
        let taken = self.entries.iter().filter(|entry| entry.first.load(Acquire) != EMPTY);
        taken.map(|entry| (entry.key(), entry.place()))
    }

    /// The bytes of memory held. Those without entries are all one.
    fn heap_bytes(&self) -> usize {
        let counted = size_of::<Shard>() + 2 * size_of::<usize>();
        if self.entries.is_empty() { 0 } else { counted + self.entries.len() * size_of::<Entry>() }
    }
}

/// The table as readers see it.
pub(super) struct Table {
    hasher: UniformKeys,
    shards: Box<[ArcSwap<Shard>]>,
    terms: AtomicU64,
}

impl Table {
    pub(super) fn new(hasher: UniformKeys) -> Self {
        let empty = Arc::new(Shard::new(0));
        let shards = repeat_with(|| ArcSwap::new(Arc::clone(&empty))).take(SHARDS).collect();
        Table { hasher, shards, terms: AtomicU64::new(0) }
    }

    pub(super) fn hasher(&self) -> &UniformKeys {
        &self.hasher
    }

    pub(super) fn get(&self, key: &TermKey) -> Option<Place> {
        let hash = self.hasher.hash_one(key);
        let shard = self.shards[shard_of(hash)].load();
        let (index, first) = shard.find(hash, halves(key))?;
        (first != EMPTY).then(|| shard.entries[index].place())
    }

    /// Calls `visit` with every term, in no order.
    pub(super) fn each(&self, mut visit: impl FnMut(TermKey, Place)) {
        for shard in &self.shards {
            shard.load().iter().for_each(|(key, place)| visit(whole(key), place));
        }
    }

    pub(super) fn term_count(&self) -> u64 {
        self.terms.load(Relaxed)
    }

    /// The bytes of memory held, the writer's part included.
    pub(super) fn heap_bytes(&self) -> usize {
        let fixed = SHARDS * (size_of::<ArcSwap<Shard>>() + size_of::<OwnShard>());
        fixed + self.shards.iter().map(|shard| shard.load().heap_bytes()).sum::<usize>()
    }
}

/// A shard as its writer holds it.
struct OwnShard {
    shard: Arc<Shard>,
    taken: usize,
}

/// The one who adds.
pub(super) struct TableWriter {
    shards: Vec<OwnShard>,
    /// The last key asked for, and its shard and index: what comes sorted is not searched for again.
    recent: Option<(TermKey, usize, usize)>,
}

impl TableWriter {
    pub(super) fn new() -> Self {
        let empty = Arc::new(Shard::new(0));
        let own = || OwnShard { shard: Arc::clone(&empty), taken: 0 };
        TableWriter { shards: repeat_with(own).take(SHARDS).collect(), recent: None }
    }

    /// The tail of a term that has one.
    pub(super) fn tail(&self, table: &Table, key: &TermKey) -> Option<BlockRef> {
        let hash = table.hasher.hash_one(key);
        let shard = &self.shards[shard_of(hash)].shard;
        let (index, _) = shard.find(hash, halves(key))?;
        Some(shard.entries[index].place().tail).filter(|tail| *tail != BlockRef::NONE)
    }

    /// The place of a term; a new one has but its first id, `id`.
    pub(super) fn place(&mut self, table: &Table, key: &TermKey, id: u32) -> Place {
        let (number, index) = match self.recent {
            Some((recent, number, index)) if recent == *key => (number, index),
            _ => self.find_or_add(table, key, id),
        };
        self.recent = Some((*key, number, index));
        self.shards[number].shard.entries[index].place()
    }

    fn find_or_add(&mut self, table: &Table, key: &TermKey, id: u32) -> (usize, usize) {
        let (hash, halves) = (table.hasher.hash_one(key), halves(key));
        let number = shard_of(hash);
        let own = &mut self.shards[number];
        if let Some((index, first)) = own.shard.find(hash, halves)
            && first != EMPTY
        {
            return (number, index);
        }
        if 4 * (own.taken + 1) > 3 * own.shard.entries.len() {
            own.shard = Arc::new(own.shard.larger(&table.hasher));
            table.shards[number].store(Arc::clone(&own.shard));
        }
        let index = own.shard.add(hash, halves, Place { first: id, tail: BlockRef::NONE });
        own.taken += 1;
        table.terms.store(table.terms.load(Relaxed) + 1, Relaxed);
        (number, index)
    }

    /// Gives the term asked for last a new tail.
    pub(super) fn set_tail(&mut self, tail: BlockRef) {
        if let Some((_, shard, index)) = self.recent {
            self.shards[shard].shard.entries[index].tail.store(tail.0, Release);
        }
    }
}

/// The upper bits of a hash; the lower ones say where in the shard.
fn shard_of(hash: u64) -> usize {
    (hash >> 48) as usize % SHARDS
}

fn halves(key: &TermKey) -> [u64; 2] {
    let (halves, _) = key.0.as_chunks();
    [0, 1].map(|half| u64::from_le_bytes(halves[half]))
}

fn whole(halves: [u64; 2]) -> TermKey {
    let mut key = [0; 16];
    key.as_chunks_mut().0.copy_from_slice(&halves.map(u64::to_le_bytes));
    TermKey(key)
}
