//! What users of a store decide, and how that becomes RocksDB's options.

use rocksdb::{BlockBasedOptions, DBCompressionType, DBRecoveryMode, SliceTransform};

use crate::{Error, Result};

/// The part of a write buffer that its filter takes: ten bits or more for every row of 60 bytes and RocksDB's own 24.
const MEMORY_FILTER_PART: f64 = 0.02;

/// A family by its place among those that a store is opened with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FamilyId(pub usize);

/// How the blocks of a family's files are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Not at all: for values that are compressed already, or are random.
    None,
    /// Fast.
    Lz4,
    /// Small, at this level.
    Zstd(i32),
}

/// What becomes of files after they were written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compaction {
    /// Merged level by level: for rows that are changed and removed for as long as the store lives.
    Leveled,
    /// Left as they are: for rows that come once, in the order of their keys or to be read in one pass, in a store with a
    /// bounded life. Writes never wait for it.
    Never,
}

/// A column family and how it is kept.
///
/// ```
/// use icecore_rockstore::{Compression, Family};
///
/// const HASHES: Family = Family::new("hashes").bloom_bits(10).compression(Compression::None);
/// assert_eq!(HASHES.name(), "hashes");
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Family {
    name: &'static str,
    compression: Compression,
    compaction: Compaction,
    block_bytes: usize,
    bloom_bits: u8,
    prefix_bytes: usize,
    write_buffer_bytes: usize,
    write_buffers: u8,
}

impl Family {
    /// LZ4, leveled compaction, 8 KiB blocks, two write buffers of 16 MiB; no bloom filter, no prefix.
    pub const fn new(name: &'static str) -> Self {
        Family {
            name,
            compression: Compression::Lz4,
            compaction: Compaction::Leveled,
            block_bytes: 8 << 10,
            bloom_bits: 0,
            prefix_bytes: 0,
            write_buffer_bytes: 16 << 20,
            write_buffers: 2,
        }
    }

    /// Its name.
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// How blocks are compressed.
    #[must_use]
    pub const fn compression(mut self, compression: Compression) -> Self {
        self.compression = compression;
        self
    }

    /// What becomes of files.
    #[must_use]
    pub const fn compaction(mut self, compaction: Compaction) -> Self {
        self.compaction = compaction;
        self
    }

    /// The size of a block before compression: small for point reads, large for scans.
    #[must_use]
    pub const fn block_bytes(mut self, bytes: usize) -> Self {
        self.block_bytes = bytes;
        self
    }

    /// The bits a key gets in the filters that spare reads of keys that are not there; 0 for none, 10 for one error in
    /// a hundred. Where the family has no prefix, write buffers have filters too, a fiftieth of their size.
    #[must_use]
    pub const fn bloom_bits(mut self, bits: u8) -> Self {
        self.bloom_bits = bits;
        self
    }

    /// The leading bytes of keys that are searched for together; 0 for none. With a bloom filter, scans of one prefix
    /// skip files that do not have it.
    #[must_use]
    pub const fn prefix_bytes(mut self, bytes: usize) -> Self {
        self.prefix_bytes = bytes;
        self
    }

    /// The memory in which rows gather before they are written to a file, and how many of these there may be at once: one
    /// fills while others are written.
    #[must_use]
    pub const fn write_buffers(mut self, count: u8, bytes: usize) -> Self {
        self.write_buffers = count;
        self.write_buffer_bytes = bytes;
        self
    }

    /// True when keys that begin like this lie within one prefix.
    pub(crate) fn is_whole_prefix(&self, start: &[u8]) -> bool {
        self.prefix_bytes > 0 && start.len() >= self.prefix_bytes
    }

    fn rocksdb(&self, cache: &Cache) -> rocksdb::Options {
        let mut table = BlockBasedOptions::default();
        table.set_block_cache(&cache.0);
        table.set_block_size(self.block_bytes);
        if self.bloom_bits > 0 {
            table.set_bloom_filter(f64::from(self.bloom_bits), false);
        }
        let mut options = rocksdb::Options::default();
        options.set_block_based_table_factory(&table);
        // The filter in memory would hold prefixes too, and a descending iteration begins outside of the prefix it is to find.
        if self.bloom_bits > 0 && self.prefix_bytes == 0 {
            options.set_memtable_whole_key_filtering(true);
            options.set_memtable_prefix_bloom_ratio(MEMORY_FILTER_PART);
        }
        options.set_write_buffer_size(self.write_buffer_bytes);
        options.set_max_write_buffer_number(i32::from(self.write_buffers.max(2)));
        options.set_compression_type(match self.compression {
            Compression::None => DBCompressionType::None,
            Compression::Lz4 => DBCompressionType::Lz4,
            Compression::Zstd(_) => DBCompressionType::Zstd,
        });
        if let Compression::Zstd(level) = self.compression {
            // Window bits -14 and strategy 0 are RocksDB's own defaults; no dictionary.
            options.set_compression_options(-14, level, 0, 0);
        }
        if self.prefix_bytes > 0 {
            options.set_prefix_extractor(SliceTransform::create_fixed_prefix(self.prefix_bytes));
        }
        if self.compaction == Compaction::Never {
            options.set_disable_auto_compactions(true);
        }
        options
    }
}

/// Memory for blocks that were read. Clones share it: one cache may serve several stores.
#[derive(Clone)]
pub struct Cache(pub(crate) rocksdb::Cache);

impl Cache {
    /// A cache of so many bytes.
    pub fn new(bytes: usize) -> Self {
        Cache(rocksdb::Cache::new_lru_cache(bytes))
    }

    /// The bytes in use.
    pub fn used_bytes(&self) -> usize {
        self.0.get_usage()
    }
}

impl std::fmt::Debug for Cache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cache").field("used_bytes", &self.used_bytes()).finish()
    }
}

/// How a store as a whole is kept.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct StoreOptions {
    /// Memory for blocks that were read: of this store alone, unless the same cache is given to others.
    pub cache: Cache,
    /// The log is kept below this, by writing out the families that its oldest part is of: it bounds the time that
    /// opening takes after a crash, and costs small files where it is low.
    pub max_log_bytes: u64,
    /// Threads of the process that may write out and merge files at the same time.
    pub background_jobs: u8,
}

impl Default for StoreOptions {
    /// A cache of 32 MiB, a log of 256 MiB, two background jobs.
    fn default() -> Self {
        StoreOptions { cache: Cache::new(32 << 20), max_log_bytes: 256 << 20, background_jobs: 2 }
    }
}

impl StoreOptions {
    /// Uses a cache that is shared.
    #[must_use]
    pub fn cache(mut self, cache: Cache) -> Self {
        self.cache = cache;
        self
    }

    /// Bounds the log.
    #[must_use]
    pub fn max_log_bytes(mut self, bytes: u64) -> Self {
        self.max_log_bytes = bytes;
        self
    }

    /// Bounds the threads at work in the background.
    #[must_use]
    pub fn background_jobs(mut self, jobs: u8) -> Self {
        self.background_jobs = jobs;
        self
    }

    pub(crate) fn rocksdb(&self, path: &std::path::Path) -> Result<rocksdb::Options> {
        // A failed write is settled by opening the database anew, never behind the caller's back: RocksDB's own attempts to
        // resume would decide whether the failed batch stays without anybody noticing.
        let mut options = rocksdb::Options::default()
            .get_options_from_string("max_bgerror_resume_count=0")
            .map_err(|e| Error::of(path, "set options", &e))?;
        // Every write is logged and the log synced before the write returns, so only what was never acknowledged can be torn.
        // This mode cuts such a tail off and takes damage anywhere else for what it is, where RocksDB's default would quietly
        // drop everything after the damage, acknowledged or not. A tail torn with holes in it is seen to when opening.
        options.set_wal_recovery_mode(DBRecoveryMode::TolerateCorruptedTailRecords);
        options.set_max_total_wal_size(self.max_log_bytes);
        options.set_max_background_jobs(i32::from(self.background_jobs.max(1)));
        // Written out steadily, a large file does not make the log's next sync wait for all of it.
        options.set_bytes_per_sync(1 << 20);
        options.enable_statistics();
        options.set_statistics_level(rocksdb::statistics::StatsLevel::ExceptHistogramOrTimers);
        options.set_stats_dump_period_sec(0);
        options.set_stats_persist_period_sec(0);
        options.set_log_level(rocksdb::LogLevel::Warn);
        options.set_keep_log_file_num(3);
        options.set_max_log_file_size(1 << 20);
        Ok(options)
    }

    pub(crate) fn descriptors(&self, families: &[Family]) -> Vec<rocksdb::ColumnFamilyDescriptor> {
        let descriptor =
            |family: &Family| rocksdb::ColumnFamilyDescriptor::new(family.name, family.rocksdb(&self.cache));
        families.iter().map(descriptor).collect()
    }
}

#[cfg(test)]
mod tests {
    use rocksdb::perf::{PerfContext, PerfMetric, PerfStatsLevel, set_perf_stats};

    use crate::{Batch, Family, FamilyId, Reads, Store, StoreOptions};

    #[test]
    fn what_is_not_in_memory_is_not_looked_for_there() {
        let dir = tempfile::tempdir().unwrap();
        let families = [
            Family::new("a").bloom_bits(10),
            Family::new("b").bloom_bits(10).prefix_bytes(1),
            Family::new("c"),
        ];
        let store = Store::create(dir.path().join("s"), &families, &StoreOptions::default()).unwrap();
        let mut batch = Batch::new();
        (0..3).for_each(|family| batch.put(FamilyId(family), b"key", b""));
        store.write(&batch).unwrap();
        let reader = store.reader().unwrap();
        set_perf_stats(PerfStatsLevel::EnableCount);
        let mut perf = PerfContext::default();
        for (family, spared) in [(0, 1), (1, 0), (2, 0)] {
            perf.reset();
            assert!(reader.get(FamilyId(family), b"kay").unwrap().is_none());
            assert_eq!(perf.metric(PerfMetric::BloomMemtableMissCount), spared, "family {family}");
            assert!(reader.get(FamilyId(family), b"key").unwrap().is_some());
        }
        set_perf_stats(PerfStatsLevel::Disable);
    }
}
