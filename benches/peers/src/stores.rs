//! General stores: the same job, in files, the page cache warm.

use std::{ops::Bound, path::Path, time::Instant};

use heed::{CommitOrAbort, Database, Env, EnvFlags, EnvOpenOptions, PutFlags, RoTxn, WithTls, types::Bytes};
use redb::{ReadOnlyTable, ReadableDatabase, TableDefinition};
use rocksdb::{
    BlockBasedOptions, Cache, DB, DBCompressionType, DataBlockIndexType, IngestExternalFileOptions, Options,
    SstFileWriter,
};

use crate::{
    Any,
    contender::{Builder, Built, How, Lookup},
    keys::{Key, payloads},
};

/// Room for everything in memory, so that no figure is one of evictions.
fn room(keys: usize) -> usize {
    (64 << 20) + 64 * keys
}

fn value(key: &Key, payloads: u32) -> [u8; 3] {
    let [a, b, c, _] = key.payload(payloads).to_le_bytes();
    [a, b, c]
}

fn answer(value: &[u8]) -> Option<u32> {
    match *value {
        [a, b, c] => Some(u32::from_le_bytes([a, b, c, 0])),
        _ => None,
    }
}

/// What the files of a folder take.
fn size(dir: &Path) -> Any<u64> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(dir)? {
        bytes += entry?.metadata()?.len();
    }
    Ok(bytes)
}

const TABLE: TableDefinition<'_, [u8; 16], [u8; 3]> = TableDefinition::new("payloads");

pub(crate) struct Redb;

pub(crate) struct RedbTable {
    table: ReadOnlyTable<[u8; 16], [u8; 3]>,
    _database: redb::Database,
}

impl Builder for Redb {
    type Structure = RedbTable;

    fn build(&self, keys: &[Key], how: &How) -> Any<Built<RedbTable>> {
        let path = how.dir.join("redb");
        let payloads = payloads(keys.len());
        let start = Instant::now();
        let mut database = redb::Builder::new().set_cache_size(room(keys.len())).create(&path)?;
        let transaction = database.begin_write()?;
        {
            let mut table = transaction.open_table(TABLE)?;
            let mut end = table.upper_bound_mut(Bound::<[u8; 16]>::Unbounded)?;
            for key in keys {
                end.insert_before(key.0, value(key, payloads))?;
            }
            end.close()?;
        }
        transaction.commit()?;
        database.compact()?;
        let seconds = start.elapsed().as_secs_f64();
        let table = database.begin_read()?.open_table(TABLE)?;
        let bytes = std::fs::metadata(&path)?.len();
        Ok(Built { structure: RedbTable { table, _database: database }, seconds, bytes, function: None })
    }
}

impl Lookup for RedbTable {
    fn get(&self, key: &Key) -> Option<u32> {
        answer(&self.table.get(key.0).ok()??.value())
    }
}

pub(crate) struct Lmdb;

pub(crate) struct LmdbTable {
    table: Database<'static, Bytes, Bytes>,
    transaction: RoTxn<'static, WithTls>,
}

impl Builder for Lmdb {
    type Structure = LmdbTable;

    fn build(&self, keys: &[Key], how: &How) -> Any<Built<LmdbTable>> {
        let payloads = payloads(keys.len());
        let mut options = EnvOpenOptions::new();
        options.map_size(room(keys.len()).next_multiple_of(1 << 20));
        // SAFETY: the folder is this process's own, and a database that a crash breaks is thrown away.
        unsafe { options.flags(EnvFlags::NO_SYNC | EnvFlags::WRITE_MAP) };
        let start = Instant::now();
        // SAFETY: nobody else opens or changes the file while it is mapped.
        let env: Env = unsafe { options.open(&how.dir)? };
        // The table borrows the environment; the process ends with both.
        let env: &'static Env = Box::leak(Box::new(env));
        let created = env.create_databases_and_commit(env.write_txn()?, |opener, transaction| {
            opener.create_database(transaction, None).map(CommitOrAbort::<_, ()>::Commit)
        })?;
        let table: Database<'_, Bytes, Bytes> = created.commit().ok_or("LMDB made no database")?;
        let mut transaction = env.write_txn()?;
        for key in keys {
            table.put_with_flags(&mut transaction, PutFlags::APPEND, &key.0, &value(key, payloads))?;
        }
        transaction.commit()?;
        env.force_sync()?;
        let seconds = start.elapsed().as_secs_f64();
        // With WRITE_MAP the file is as long as the map: its pages in use are what counts.
        let page_bytes = u64::from(env.unnamed_database_stat().page_size);
        let bytes = (env.info().last_page_number as u64 + 1) * page_bytes;
        let transaction = env.read_txn()?;
        Ok(Built { structure: LmdbTable { table, transaction }, seconds, bytes, function: None })
    }
}

impl Lookup for LmdbTable {
    fn get(&self, key: &Key) -> Option<u32> {
        answer(self.table.get(&self.transaction, &key.0).ok()??)
    }
}

/// Keys that one call takes.
const BATCH: usize = 64;

pub(crate) struct Rocks;

impl Builder for Rocks {
    type Structure = DB;

    fn build(&self, keys: &[Key], how: &How) -> Any<Built<DB>> {
        let payloads = payloads(keys.len());
        let mut blocks = BlockBasedOptions::default();
        blocks.set_ribbon_filter(10.0);
        blocks.set_data_block_index_type(DataBlockIndexType::BinaryAndHash);
        blocks.set_block_cache(&Cache::new_lru_cache(room(keys.len())));
        let mut options = Options::default();
        options.create_if_missing(true);
        options.set_compression_type(DBCompressionType::None);
        options.set_block_based_table_factory(&blocks);
        let home = how.dir.join("rocksdb");
        let start = Instant::now();
        let write = |number: usize, keys: &[Key]| -> Result<_, rocksdb::Error> {
            let path = how.dir.join(format!("{number}.sst"));
            let mut file = SstFileWriter::create(&options);
            file.open(&path)?;
            for key in keys {
                file.put(key.0, value(key, payloads))?;
            }
            file.finish()?;
            Ok(path)
        };
        let files = std::thread::scope(|scope| {
            let shares = keys.chunks(keys.len().div_ceil(how.workers)).enumerate();
            let write = &write;
            let writers: Vec<_> = shares.map(|(i, share)| scope.spawn(move || write(i, share))).collect();
            writers
                .into_iter()
                .map(|writer| writer.join().map_err(|_| "a writer of RocksDB panicked")?.map_err(Into::into))
                .collect::<Any<Vec<_>>>()
        })?;
        let database = DB::open(&options, &home)?;
        let mut ingest = IngestExternalFileOptions::default();
        ingest.set_move_files(true);
        database.ingest_external_file_opts(&ingest, files)?;
        let seconds = start.elapsed().as_secs_f64();
        let bytes = size(&home)?;
        Ok(Built { structure: database, seconds, bytes, function: None })
    }
}

impl Lookup for DB {
    fn get(&self, key: &Key) -> Option<u32> {
        answer(&self.get_pinned(key).ok()??)
    }

    fn batch(&self, keys: &[Key]) -> Option<u64> {
        let family = self.cf_handle(rocksdb::DEFAULT_COLUMN_FAMILY_NAME)?;
        let mut sum = 0;
        for keys in keys.chunks(BATCH) {
            for value in self.batched_multi_get_cf(&family, keys, false) {
                sum += value.ok()?.as_deref().and_then(answer).map_or(0, u64::from);
            }
        }
        Some(sum)
    }
}
