use rocksdb::{properties, statistics::Ticker};

use crate::{StoreOptions, store::Core};

/// Figures about a store, as they are now. Counters begin at 0 when the database is opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Each family, in the order in which the store was opened.
    pub families: Vec<FamilyStats>,
    /// Bytes of keys and values written.
    pub written_bytes: u64,
    /// Bytes written to the log.
    pub log_bytes: u64,
    /// Times the log was synced.
    pub log_syncs: u64,
    /// Time that writes waited because writing out or merging files did not keep up.
    pub stall_micros: u64,
    /// Bytes that merging read and wrote again.
    pub compaction_bytes: u64,
    /// Bytes written out from memory.
    pub flush_bytes: u64,
    /// Blocks found in the cache.
    pub cache_hits: u64,
    /// Blocks that had to be read.
    pub cache_misses: u64,
    /// The cache's bytes in use, by all who share it.
    pub cache_used_bytes: u64,
    /// Reads that a bloom filter spared.
    pub bloom_spared: u64,
    /// Failures of work in the background; after one, writes fail until [`recover`](crate::Store::recover).
    pub background_errors: u64,
}

/// Figures about one family.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct FamilyStats {
    /// Its name.
    pub name: &'static str,
    /// Its files.
    pub files: u64,
    /// Their size.
    pub file_bytes: u64,
    /// Memory held by rows that are in no file yet, and by those just written out that are still read.
    pub memory_bytes: u64,
    /// How many rows it has, roughly.
    pub rows_estimate: u64,
}

impl Stats {
    pub(crate) fn of(core: &Core, options: &StoreOptions) -> Self {
        let tick = |ticker| core.options.get_ticker_count(ticker);
        let family = |family: &crate::Family| {
            let Some(handle) = core.db.cf_handle(family.name()) else { return FamilyStats::default() };
            let number = |name| core.db.property_int_value_cf(handle, name).ok().flatten().unwrap_or(0);
            let files = core.db.get_column_family_metadata_cf(handle);
            FamilyStats {
                name: family.name(),
                files: files.file_count as u64,
                file_bytes: files.size,
                memory_bytes: number(properties::SIZE_ALL_MEM_TABLES),
                rows_estimate: number(properties::ESTIMATE_NUM_KEYS),
            }
        };
        let background_errors = core.db.property_int_value(properties::BACKGROUND_ERRORS);
        Stats {
            families: core.families.iter().map(family).collect(),
            written_bytes: tick(Ticker::BytesWritten),
            log_bytes: tick(Ticker::WalFileBytes),
            log_syncs: tick(Ticker::WalFileSynced),
            stall_micros: tick(Ticker::StallMicros),
            compaction_bytes: tick(Ticker::CompactReadBytes) + tick(Ticker::CompactWriteBytes),
            flush_bytes: tick(Ticker::FlushWriteBytes),
            cache_hits: tick(Ticker::BlockCacheHit),
            cache_misses: tick(Ticker::BlockCacheMiss),
            cache_used_bytes: options.cache.used_bytes() as u64,
            bloom_spared: tick(Ticker::BloomFilterUseful),
            background_errors: background_errors.ok().flatten().unwrap_or(0),
        }
    }
}
