//! A RocksDB with several column families behind a handle that is hard to misuse. The one place that knows RocksDB.
//!
//! ```text
//! Family, StoreOptions ──▶ Store   create · open · open_read_only · write · recover · checkpoint · stats · close
//! Batch                            rows of any families, written all or none, and synced
//! Store ──▶ Reader ──▶ Snapshot    get · multi_get · rows of a Span        borrowing from the store's memory
//! ```
//!
//! * **Written is durable.** [`Store::write`] returns after the log was synced. After kill -9 or a loss of power every
//!   batch that was acknowledged is there; one that was being written is there whole, or not at all.
//! * **A failed write is settled, not guessed.** When the disk is full or fails, readers see nothing of the batch, and
//!   [`Store::recover`] makes the store writable again and says what became of it.
//! * **Opening never creates**, and a directory that is not a whole store of these families is left untouched.
//! * **Closing waits.** Whoever reads holds a [`Reader`]; [`Store::close`] lets nobody new in and waits for the last one.
//!
//! ```
//! use icecore_rockstore::{Batch, Compression, Family, FamilyId, Reads, Span, Store, StoreOptions};
//!
//! const NAMES: FamilyId = FamilyId(0);
//! const AGES: FamilyId = FamilyId(1);
//! const FAMILIES: &[Family] =
//!     &[Family::new("names"), Family::new("ages").compression(Compression::None).bloom_bits(10)];
//!
//! # fn main() -> icecore_rockstore::Result<()> {
//! # let dir = tempfile::tempdir().unwrap();
//! # let path = dir.path().join("people");
//! let store = Store::create(&path, FAMILIES, &StoreOptions::default())?;
//! let mut batch = Batch::new();
//! batch.put(NAMES, b"1", b"Ada");
//! batch.put(AGES, b"Ada", b"36");
//! store.write(&batch)?;
//!
//! let reader = store.reader()?;
//! let snapshot = reader.snapshot();
//! batch.clear();
//! batch.delete(AGES, b"Ada");
//! store.write(&batch)?;
//! assert_eq!(snapshot.get(AGES, b"Ada")?.as_deref(), Some(&b"36"[..]));
//! assert!(reader.get(AGES, b"Ada")?.is_none());
//!
//! let mut rows = reader.rows(NAMES, Span::prefix("1"))?;
//! assert_eq!(rows.next_row()?, Some((&b"1"[..], &b"Ada"[..])));
//! assert_eq!(rows.next_row()?, None);
//! drop(rows);
//! drop(snapshot);
//! drop(reader);
//!
//! store.close();
//! assert!(matches!(store.get(NAMES, b"1"), Err(icecore_rockstore::Error::Closed { .. })));
//! # Ok(())
//! # }
//! ```

mod batch;
mod error;
mod inspect;
mod log;
mod options;
mod reader;
mod stats;
mod store;

pub use batch::Batch;
pub use error::{Error, Holder, Result};
pub use options::{Cache, Compaction, Compression, Family, FamilyId, StoreOptions};
pub use reader::{Reader, Reads, RowCounts, Rows, Snapshot, Span, Value};
pub use stats::{FamilyStats, Stats};
pub use store::{Settled, Store};
