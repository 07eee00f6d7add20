use std::{
    mem,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use icecore_diskio::{Disk, WriteAt};

use super::ranges::{Fill, KeyRange, Places, Plan};
use crate::{
    Error, Result,
    format::{Header, MAX_PAYLOAD_BYTES},
    key::{Entry, KEY_BYTES, Key},
    prefetch::prefetch,
};

/// Entries set aside by ranges of blocks, in memory while they fit and in a nameless file beyond that.
///
/// ```text
/// entry ──▶ its partition's chunk ──full──▶ kept while there is memory, else written to the file and filled again
/// ```
///
/// An entry takes 16 bytes of key and its payload. Each partition is a range of the plan, and drained when that is.
pub(super) struct Partitions {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    scratch: Option<Box<dyn WriteAt>>,
    scratch_bytes: u64,
    partitions: Vec<Partition>,
    blocks: u32,
    blocks_per_partition: u32,
    entry_bytes: usize,
    chunk_bytes: usize,
    /// How many more chunks may be kept in memory.
    room: usize,
}

#[derive(Default)]
struct Partition {
    /// What is being filled.
    chunk: Vec<u8>,
    kept: Vec<Vec<u8>>,
    /// Where in the file its other chunks are.
    written: Vec<u64>,
}

/// As many keys of a partition have their places in a near cache.
const NEAR_KEYS: u64 = 1 << 15;
const MIN_CHUNK_BYTES: u64 = 4 << 10;
/// Worth a read or write of its own.
const GOOD_CHUNK_BYTES: u64 = 32 << 10;
const MAX_CHUNK_BYTES: u64 = 64 << 10;
/// Entries are moved as if they had the longest payload: all are of one length then.
const MAX_PAYLOAD: usize = MAX_PAYLOAD_BYTES as usize;

/// Memory for a chunk, and for an entry that is written longer than it is.
fn new_chunk(bytes: usize) -> Vec<u8> {
    Vec::with_capacity(bytes + MAX_PAYLOAD)
}

/// Cuts the key space so that a partition's keys have their places in a near cache, but its chunk is worth writing; and if
/// it can be, so that all chunks being filled take no more than half of `memory_bytes`, and the keys of a partition too.
pub(super) fn plan(header: Header, memory_bytes: usize) -> Plan {
    let total_bytes = header.keys * size_of::<Entry>() as u64;
    let half = (memory_bytes as u64 / 2).max(1);
    let near = header.keys.div_ceil(NEAR_KEYS).min(half / GOOD_CHUNK_BYTES);
    // More partitions than this, and their chunks alone would take more than the partitions save.
    let sensible = (total_bytes / MIN_CHUNK_BYTES).isqrt();
    let count = near.max(total_bytes.div_ceil(half).min(sensible)).max(1);
    Plan::new(header, u64::from(header.blocks).div_ceil(count) as u32)
}

impl Partitions {
    /// Prepares to keep about `memory_bytes`. `path` is that of the index; the file will be in its directory.
    pub(super) fn new(disk: &Arc<dyn Disk>, path: &Path, plan: &Plan, memory_bytes: usize) -> Self {
        let dir = match path.parent() {
            Some(dir) if dir != Path::new("") => dir,
            _ => Path::new("."),
        };
        let count = plan.ranges as usize;
        let entry_bytes = KEY_BYTES + usize::from(plan.header.payload_bytes);
        let share = memory_bytes as u64 / 2 / count as u64;
        let chunk_bytes = share.clamp(MIN_CHUNK_BYTES, MAX_CHUNK_BYTES) as usize / entry_bytes * entry_bytes;
        let partition = |_| Partition { chunk: new_chunk(chunk_bytes), ..Partition::default() };
        Partitions {
            disk: Arc::clone(disk),
            dir: dir.to_path_buf(),
            scratch: None,
            scratch_bytes: 0,
            partitions: (0..count).map(partition).collect(),
            blocks: plan.header.blocks,
            blocks_per_partition: plan.blocks_per_range,
            entry_bytes,
            chunk_bytes,
            room: (memory_bytes / chunk_bytes).saturating_sub(count),
        }
    }

    #[inline]
    pub(super) fn add(&mut self, entry: &Entry) -> Result<()> {
        let index = (entry.key.block(self.blocks) / self.blocks_per_partition) as usize;
        let chunk = &mut self.partitions[index].chunk;
        let end = chunk.len() + self.entry_bytes;
        chunk.extend_from_slice(&encode_entry(entry));
        chunk.truncate(end);
        prefetch(chunk, end + 128);
        if end < self.chunk_bytes { Ok(()) } else { self.full(index) }
    }

    /// Makes room in a partition's chunk.
    #[inline(never)]
    fn full(&mut self, index: usize) -> Result<()> {
        let partition = &mut self.partitions[index];
        if self.room > 0 {
            self.room -= 1;
            let next = new_chunk(self.chunk_bytes);
            partition.kept.push(mem::replace(&mut partition.chunk, next));
            return Ok(());
        }
        let scratch = match &mut self.scratch {
            Some(scratch) => scratch,
            none => none.insert(self.disk.scratch(&self.dir)?),
        };
        scratch.write_all_at(&partition.chunk, self.scratch_bytes)?;
        partition.written.push(self.scratch_bytes);
        self.scratch_bytes += partition.chunk.len() as u64;
        partition.chunk.clear();
        Ok(())
    }

    /// Makes them ready to be drained by several threads.
    pub(super) fn complete(self) -> Complete {
        let Partitions { scratch, partitions, entry_bytes, chunk_bytes, .. } = self;
        Complete { scratch, partitions: Mutex::new(partitions), entry_bytes, chunk_bytes }
    }
}

/// Partitions to which nothing will be added.
pub(super) struct Complete {
    scratch: Option<Box<dyn WriteAt>>,
    partitions: Mutex<Vec<Partition>>,
    entry_bytes: usize,
    chunk_bytes: usize,
}

impl Complete {
    /// A worker's way to the entries.
    pub(super) fn drain(&self) -> Drain<'_> {
        Drain { partitions: self, read: Vec::new() }
    }

    fn take(&self, number: u32) -> Partition {
        let mut partitions = self.partitions.lock().unwrap_or_else(PoisonError::into_inner);
        partitions.get_mut(number as usize).map(mem::take).unwrap_or_default()
    }
}

pub(super) struct Drain<'a> {
    partitions: &'a Complete,
    /// Where chunks are read into.
    read: Vec<u8>,
}

impl Fill for Drain<'_> {
    type Error = Error;

    /// Hands over every entry of a partition, and forgets them.
    fn fill(&mut self, range: &KeyRange, places: &mut Places) -> Result<()> {
        let Complete { scratch, entry_bytes, chunk_bytes, .. } = self.partitions;
        let Partition { chunk, kept, written } = self.partitions.take(range.number);
        for mut chunk in kept.into_iter().chain([chunk]) {
            hand_over(&mut chunk, *entry_bytes, places);
        }
        if let Some(scratch) = scratch {
            for at in written {
                self.read.resize(*chunk_bytes, 0);
                scratch.read_back_at(&mut self.read, at)?;
                hand_over(&mut self.read, *entry_bytes, places);
            }
        }
        Ok(())
    }
}

/// Adds a chunk's entries to the places.
fn hand_over(chunk: &mut Vec<u8>, entry_bytes: usize, places: &mut Places) {
    let end = chunk.len();
    // The last entry too is read as if it had the longest payload.
    chunk.resize(end + MAX_PAYLOAD, 0);
    let mask = u64::MAX.checked_shr(8 * (KEY_BYTES + MAX_PAYLOAD - entry_bytes) as u32).unwrap_or(0);
    for at in (0..end).step_by(entry_bytes) {
        if let Some((key, rest)) = chunk[at..].split_first_chunk()
            && let Some(payload) = rest.first_chunk()
        {
            places.add(key, u64::from_le_bytes(*payload) & mask);
        }
    }
    chunk.truncate(end);
}

fn encode_entry(entry: &Entry) -> [u8; KEY_BYTES + MAX_PAYLOAD] {
    let mut bytes = [[0; 8]; 3];
    let Entry { key: Key { k0, k1 }, payload } = *entry;
    for (bytes, word) in bytes.iter_mut().zip([k0, k1, payload]) {
        *bytes = word.to_le_bytes();
    }
    let mut flat = [0; KEY_BYTES + MAX_PAYLOAD];
    flat.copy_from_slice(bytes.as_flattened());
    flat
}
