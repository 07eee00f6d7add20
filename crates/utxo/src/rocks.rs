//! The backend that keeps its records in RocksDB: a column family per kind of record, one synced write per batch.

use std::{
    path::Path,
    sync::{Mutex, PoisonError},
};

use icecore_rockstore::{self as rockstore, FamilyId, Reads, Settled, Span, Store, StoreOptions};

use crate::{Backend, Batch, Error, Family, Result};

/// A RocksDB of this process.
pub struct RocksBackend {
    store: Store,
    /// Held from a write until it is settled, so that nobody else settles it.
    writer: Mutex<()>,
}

fn families() -> [rockstore::Family; Family::ALL.len()] {
    Family::ALL.map(|family| match family {
        // Hashes do not compress, and what is read most is looked for by its whole key.
        Family::Master | Family::Extra => {
            let buffers = rockstore::Family::new(family.name()).write_buffers(3, 64 << 20);
            buffers.bloom_bits(10).compression(rockstore::Compression::None)
        }
        Family::Facts => rockstore::Family::new(family.name()).bloom_bits(10).write_buffers(2, 64 << 20),
        _ => rockstore::Family::new(family.name()),
    })
}

fn id(family: Family) -> FamilyId {
    FamilyId(family as usize)
}

impl RocksBackend {
    /// Opens the database in a directory, or makes it where there is none.
    ///
    /// # Errors
    /// [`Error::Unavailable`] where another process has it or the disk is full, [`Error::Storage`] where it is no
    /// database of this kind or is damaged.
    pub fn open(path: impl AsRef<Path>, options: &StoreOptions) -> Result<Self> {
        let (path, families) = (path.as_ref(), families());
        let store = match Store::open(path, &families, options) {
            Err(rockstore::Error::Missing { .. }) => Store::create(path, &families, options),
            opened => opened,
        };
        Ok(RocksBackend { store: store.map_err(error)?, writer: Mutex::new(()) })
    }

    fn recover(&self) -> rockstore::Result<Settled> {
        loop {
            match self.store.recover() {
                // Only reads of this backend, which end. Going on before it is settled would let the next batch rest on
                // reads that do not show this one, and overwrite it if it turns out to be kept.
                Err(rockstore::Error::Busy { .. }) => {}
                settled => return settled,
            }
        }
    }

    /// After a failed write the database may be neither open nor closed. Whoever reads mends that too: what cannot be read
    /// comes to no write that would.
    fn reader(&self) -> rockstore::Result<rockstore::Reader> {
        match self.store.reader() {
            Err(rockstore::Error::Unsettled { .. }) => {
                let _turn = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
                self.recover()?;
                self.store.reader()
            }
            reader => reader,
        }
    }
}

impl Backend for RocksBackend {
    fn read(&self, family: Family, keys: &[Vec<u8>]) -> Vec<Result<Option<Vec<u8>>>> {
        let read = |reader: rockstore::Reader| -> rockstore::Result<Vec<_>> {
            if let [key] = keys {
                return Ok(vec![Ok(reader.get(id(family), key)?.map(|value| value.to_vec()))]);
            }
            let values = reader.multi_get(id(family), keys.iter().map(Vec::as_slice))?;
            Ok(values.into_iter().map(|value| Ok(value.map(|value| value.to_vec()))).collect())
        };
        self.reader().and_then(read).unwrap_or_else(|why| vec![Err(error(why)); keys.len()])
    }

    fn commit(&self, batch: Batch) -> Result<()> {
        let mut rows = rockstore::Batch::new();
        for (family, key, value) in &batch.changes {
            match value {
                Some(value) => rows.put(id(*family), key, value),
                None => rows.delete(id(*family), key),
            }
        }
        let _turn = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let mut written = self.store.write(&rows);
        if let Err(rockstore::Error::Unsettled { .. }) = written {
            self.recover().map_err(unknown)?;
            written = self.store.write(&rows);
        }
        let Err(why) = written else { return Ok(()) };
        match self.recover().map_err(unknown)? {
            Settled::Kept => Ok(()),
            _ => Err(error(why)),
        }
    }

    fn scan(&self, family: Family, from: &[u8], each: &mut dyn FnMut(&[u8], &[u8]) -> bool) -> Result<()> {
        let reader = self.reader().map_err(error)?;
        let mut rows = reader.rows(id(family), Span::from(from).scan()).map_err(error)?;
        while let Some((key, value)) = rows.next_row().map_err(error)? {
            if !each(key, value) {
                break;
            }
        }
        Ok(())
    }

    fn close(&self) -> Result<()> {
        self.store.close();
        Ok(())
    }
}

fn error(why: rockstore::Error) -> Error {
    let what = why.to_string();
    match why {
        rockstore::Error::Closed { .. } => Error::Closed,
        why if why.is_retryable() => Error::Unavailable { what },
        _ => Error::Storage { what },
    }
}

fn unknown(why: rockstore::Error) -> Error {
    Error::Unknown { what: why.to_string() }
}
