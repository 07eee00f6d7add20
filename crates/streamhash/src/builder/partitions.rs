use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use icecore_diskio::{Disk, WriteAt};
use memmap2::MmapMut;

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
/// memory   chunk of partition 0 │ of partition 1 │ … │ a second one of whoever needs it first │ … │ the last chunk
/// file     as soon as there is no chunk left: each that is full, to be filled anew
/// ```
///
/// An entry takes 16 bytes of key and its payload. Each partition is a range of the plan.
pub(super) struct Partitions {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    scratch: Option<Box<dyn WriteAt>>,
    scratch_bytes: u64,
    memory: MmapMut,
    /// Where the next chunk begins that has no partition yet.
    unused: usize,
    heads: Vec<Head>,
    full: Vec<Full>,
    blocks: u32,
    blocks_per_partition: u32,
    entry_bytes: usize,
    chunk_bytes: usize,
}

/// The chunk that a partition fills.
#[derive(Clone, Copy)]
struct Head {
    next: usize,
    end: usize,
}

/// Where the chunks are that a partition has filled.
#[derive(Clone, Default)]
struct Full {
    in_memory: Vec<usize>,
    in_file: Vec<u64>,
}

/// So many keys of a partition have their places near enough; with fewer, more lines are written to at a time than the
/// nearest cache has.
const NEAR_KEYS: u64 = 1 << 16;
const MIN_CHUNK_BYTES: u64 = 4 << 10;
/// Worth a read or write of its own.
const GOOD_CHUNK_BYTES: u64 = 32 << 10;
const MAX_CHUNK_BYTES: u64 = 64 << 10;
/// An odd number of lines between chunks: what is written to many at a time lies in different sets of a cache.
const GAP_BYTES: usize = 64;
/// Entries are moved as if they had the longest payload: all are of one length then.
const PADDED_BYTES: usize = KEY_BYTES + MAX_PAYLOAD_BYTES as usize;
const _: () = assert!(PADDED_BYTES - KEY_BYTES <= GAP_BYTES);

/// Cuts the key space so that a partition's keys have their places near, but its chunk is worth writing; and if it can
/// be, so that all chunks being filled take no more than half of `memory_bytes`, and the keys of a partition too.
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
    pub(super) fn new(disk: &Arc<dyn Disk>, path: &Path, plan: &Plan, memory_bytes: usize) -> Result<Self> {
        let dir = match path.parent() {
            Some(dir) if dir != Path::new("") => dir,
            _ => Path::new("."),
        };
        let count = plan.ranges as usize;
        let entry_bytes = KEY_BYTES + usize::from(plan.header.payload_bytes);
        let share = memory_bytes as u64 / 2 / count as u64;
        let chunk_bytes = share.clamp(MIN_CHUNK_BYTES, MAX_CHUNK_BYTES) as usize / entry_bytes * entry_bytes;
        let stride = stride(chunk_bytes);
        // All of them full, and one that is not for each partition.
        let wanted = plan.header.keys * entry_bytes as u64 / chunk_bytes as u64 + count as u64;
        let chunks = wanted.min((memory_bytes / stride) as u64).max(count as u64) as usize;
        let head = |i| Head { next: i * stride, end: i * stride + chunk_bytes };
        Ok(Partitions {
            disk: Arc::clone(disk),
            dir: dir.to_path_buf(),
            scratch: None,
            scratch_bytes: 0,
            memory: memory(chunks * stride)?,
            unused: count * stride,
            heads: (0..count).map(head).collect(),
            full: vec![Full::default(); count],
            blocks: plan.header.blocks,
            blocks_per_partition: plan.blocks_per_range,
            entry_bytes,
            chunk_bytes,
        })
    }

    #[inline]
    pub(super) fn add(&mut self, entry: &Entry) -> Result<()> {
        let index = (entry.key.block(self.blocks) / self.blocks_per_partition) as usize;
        let head = &mut self.heads[index];
        let Head { next, end } = *head;
        self.memory[next..next + PADDED_BYTES].copy_from_slice(&encode_padded(entry));
        // Lines that are being written in so many places are not foreseen by the processor.
        prefetch(&self.memory, next + 64);
        head.next += self.entry_bytes;
        if head.next < end { Ok(()) } else { self.renew(index) }
    }

    /// Gives a partition whose chunk is full another one, or the same once it is written to the file.
    #[inline(never)]
    fn renew(&mut self, index: usize) -> Result<()> {
        let (chunk_bytes, stride) = (self.chunk_bytes, stride(self.chunk_bytes));
        let (head, full) = (&mut self.heads[index], &mut self.full[index]);
        let start = head.end - chunk_bytes;
        if self.unused < self.memory.len() {
            full.in_memory.push(start);
            *head = Head { next: self.unused, end: self.unused + chunk_bytes };
            self.unused += stride;
            return Ok(());
        }
        let scratch = match &mut self.scratch {
            Some(scratch) => scratch,
            none => none.insert(self.disk.scratch(&self.dir)?),
        };
        scratch.write_all_at(&self.memory[start..head.end], self.scratch_bytes)?;
        full.in_file.push(self.scratch_bytes);
        self.scratch_bytes += chunk_bytes as u64;
        head.next = start;
        Ok(())
    }

    /// A worker's way to the entries, once all are there.
    pub(super) fn drain(&self) -> Drain<'_> {
        Drain { partitions: self, read: Vec::new() }
    }
}

/// From the beginning of a chunk to that of the next.
fn stride(chunk_bytes: usize) -> usize {
    chunk_bytes.next_multiple_of(2 * GAP_BYTES) + GAP_BYTES
}

/// So many bytes that take memory only as they are used.
fn memory(bytes: usize) -> Result<MmapMut> {
    let memory = MmapMut::map_anon(bytes)
        .map_err(|source| Error::Memory { bytes: bytes as u64, source: Arc::new(source) })?;
    // A hint only: a page at a time is right as well.
    #[cfg(target_os = "linux")]
    let _ = memory.advise(memmap2::Advice::HugePage);
    Ok(memory)
}

pub(super) struct Drain<'a> {
    partitions: &'a Partitions,
    /// Where chunks are read into.
    read: Vec<u8>,
}

impl Fill for Drain<'_> {
    type Error = Error;

    /// Hands over every entry of a partition.
    fn fill(&mut self, range: &KeyRange, places: &mut Places) -> Result<()> {
        let Partitions { memory, heads, full, scratch, entry_bytes, chunk_bytes, .. } = self.partitions;
        let number = range.number as usize;
        let Head { next, end } = heads[number];
        let start = end - chunk_bytes;
        for &start in &full[number].in_memory {
            hand_over(&memory[start..], *chunk_bytes, *entry_bytes, places);
        }
        hand_over(&memory[start..], next - start, *entry_bytes, places);
        if let Some(scratch) = scratch {
            self.read.resize(stride(*chunk_bytes), 0);
            for &at in &full[number].in_file {
                scratch.read_back_at(&mut self.read[..*chunk_bytes], at)?;
                hand_over(&self.read, *chunk_bytes, *entry_bytes, places);
            }
        }
        Ok(())
    }
}

/// Adds the entries in the first `len` of some bytes to the places. A few more follow.
fn hand_over(bytes: &[u8], len: usize, entry_bytes: usize, places: &mut Places) {
    let mask = u64::MAX.checked_shr(8 * (PADDED_BYTES - entry_bytes) as u32).unwrap_or(0);
    for at in (0..len).step_by(entry_bytes) {
        if let Some((key, rest)) = bytes[at..].split_first_chunk()
            && let Some(payload) = rest.first_chunk()
        {
            places.add(key, u64::from_le_bytes(*payload) & mask);
        }
    }
}

#[inline(always)]
fn encode_padded(entry: &Entry) -> [u8; PADDED_BYTES] {
    let Entry { key: Key { k0, k1 }, payload } = *entry;
    let mut bytes = [0; PADDED_BYTES];
    bytes.as_chunks_mut().0.copy_from_slice(&[k0, k1, payload].map(u64::to_le_bytes));
    bytes
}
