use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use icecore_diskio::{Disk, WriteAt};

use crate::{
    Result,
    format::Header,
    key::{Entry, KEY_BYTES, Key},
};

/// Entries set aside by ranges of blocks, in memory while they fit and in a nameless file beyond that.
///
/// Each partition fills a buffer; a full one is appended to the file as an extent of the partition's. An entry takes 16
/// bytes of key and its payload.
pub(super) struct Partitions {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    scratch: Option<Box<dyn WriteAt>>,
    scratch_bytes: u64,
    partitions: Vec<Partition>,
    blocks_per_partition: u32,
    payload_bytes: usize,
    buffer_bytes: usize,
}

#[derive(Default)]
struct Partition {
    buffer: Vec<u8>,
    /// Where in the file its full buffers are.
    extents: Vec<u64>,
}

const MIN_BUFFER_BYTES: u64 = 4 << 10;
const MAX_BUFFER_BYTES: u64 = 1 << 20;

impl Partitions {
    /// Prepares for the header's number of keys in about `memory_bytes`: one half for the buffers, the other for one
    /// partition's keys. `path` is that of the index; the file will be in its directory.
    pub(super) fn new(disk: &Arc<dyn Disk>, path: &Path, header: &Header, memory_bytes: usize) -> Self {
        let dir = match path.parent() {
            Some(dir) if dir != Path::new("") => dir,
            _ => Path::new("."),
        };
        let total_bytes = header.keys * size_of::<Entry>() as u64;
        let half = (memory_bytes as u64 / 2).max(1);
        // More partitions than this, and their buffers alone would take more than the partitions save.
        let sensible = (total_bytes / MIN_BUFFER_BYTES).isqrt().max(1);
        let count = total_bytes.div_ceil(half).clamp(1, sensible.min(u64::from(header.blocks)));
        let blocks_per_partition = u64::from(header.blocks).div_ceil(count) as u32;
        let count = header.blocks.div_ceil(blocks_per_partition) as usize;
        let payload_bytes = usize::from(header.payload_bytes);
        let entry_bytes = (KEY_BYTES + payload_bytes) as u64;
        // A lone partition mostly fits into one half, and then never spills.
        let max_buffer = if count == 1 { half } else { MAX_BUFFER_BYTES };
        let buffer_bytes =
            (half / count as u64).min(max_buffer).max(MIN_BUFFER_BYTES) / entry_bytes * entry_bytes;
        let buffer_bytes = buffer_bytes as usize;
        let reserved = if count == 1 { 0 } else { buffer_bytes };
        let partition = |_| Partition { buffer: Vec::with_capacity(reserved), extents: Vec::new() };
        Partitions {
            disk: Arc::clone(disk),
            dir: dir.to_path_buf(),
            scratch: None,
            scratch_bytes: 0,
            partitions: (0..count).map(partition).collect(),
            blocks_per_partition,
            payload_bytes,
            buffer_bytes,
        }
    }

    pub(super) fn add(&mut self, block: u32, entry: &Entry) -> Result<()> {
        let index = (block / self.blocks_per_partition) as usize;
        let buffer = &mut self.partitions[index].buffer;
        buffer.extend_from_slice(&entry.key.k0.to_le_bytes());
        buffer.extend_from_slice(&entry.key.k1.to_le_bytes());
        buffer.extend_from_slice(&entry.payload.to_le_bytes()[..self.payload_bytes]);
        if buffer.len() >= self.buffer_bytes { self.spill(index) } else { Ok(()) }
    }

    fn spill(&mut self, index: usize) -> Result<()> {
        let scratch = match &mut self.scratch {
            Some(scratch) => scratch,
            none => none.insert(self.disk.scratch(&self.dir)?),
        };
        let partition = &mut self.partitions[index];
        scratch.write_all_at(&partition.buffer, self.scratch_bytes)?;
        partition.extents.push(self.scratch_bytes);
        self.scratch_bytes += partition.buffer.len() as u64;
        partition.buffer.clear();
        Ok(())
    }

    /// The blocks of each partition, in order.
    pub(super) fn ranges(&self, blocks: u32) -> Vec<std::ops::Range<u32>> {
        let step = self.blocks_per_partition;
        (0..self.partitions.len() as u32)
            .map(|i| i * step..(i * step).saturating_add(step).min(blocks))
            .collect()
    }

    /// Hands every entry of a partition to `each`, in the order in which they came, and forgets them.
    pub(super) fn drain(&mut self, index: usize, mut each: impl FnMut(Entry)) -> Result<()> {
        let Partition { buffer, extents } = std::mem::take(&mut self.partitions[index]);
        let entry_bytes = KEY_BYTES + self.payload_bytes;
        let mut decode = |bytes: &[u8]| bytes.chunks_exact(entry_bytes).map(decode_entry).for_each(&mut each);
        let mut extent = vec![0; if extents.is_empty() { 0 } else { self.buffer_bytes }];
        for at in extents {
            if let Some(scratch) = &self.scratch {
                scratch.read_back_at(&mut extent, at)?;
                decode(&extent);
            }
        }
        decode(&buffer);
        Ok(())
    }
}

fn decode_entry(bytes: &[u8]) -> Entry {
    let mut words = [[0; 8]; 3];
    words.as_flattened_mut()[..bytes.len()].copy_from_slice(bytes);
    let [k0, k1, payload] = words.map(u64::from_le_bytes);
    Entry { key: Key { k0, k1 }, payload }
}
