//! A store of unspent outputs, written through batchers.
//!
//! ```text
//! callers ──▶ queues ──▶ rows held ──▶ view over records ──▶ one batch ──▶ backend      RocksDB · memory · null
//!    ▲         store · spend ──▶ increment, set_dah · locked · get · outpoint    └──▶ large bodies, one file each
//!    └── one result per item, when its batch is durable
//! ```
//!
//! * **Ok means stored.** Nobody is answered early: every call waits for the batch its item is in, which is durable or
//!   not there at all. What [`UtxoStore::close`] protects is what was queued and nobody waits for.
//! * **All semantics are plain functions over records** (`ops`), run over a view of the database that becomes one batch.
//!   A backend reads, commits and scans; see [`Backend`]. Every backend has passed the same tests.
//! * **Batches run side by side** and hold the rows of the transactions that they may change, so they never lose each
//!   other's work.
//! * **What a batch owes to other records stands in it.** It is done through the queues at once, and when the database
//!   is next opened if the process died in between: exactly once.
//!
//! ```
//! use icecore_utxo::{
//!     Clients, CreateOptions, Error, NewTx, Options, Outpoint, OutputHash, SpendFlags, SpendInput, SpendTx, TxId,
//!     UtxoStore,
//! };
//! use std::time::Duration;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let dir = tempfile::tempdir()?;
//! let clients = Clients::new();
//! # #[cfg(feature = "rocksdb")] {
//! let store = UtxoStore::open(&clients, dir.path(), Options::new())?;
//! let (coin, alice, bob) = (TxId([1; 32]), TxId([2; 32]), TxId([3; 32]));
//! let hash = OutputHash([9; 32]);
//! store.create(NewTx::new(coin, vec![Some(hash)]), 100, CreateOptions::default())?;
//!
//! let spend = |txid| {
//!     let inputs = vec![SpendInput { outpoint: Outpoint { txid: coin, vout: 0 }, hash }];
//!     store.spend(SpendTx { txid, inputs }, 101, SpendFlags::default())
//! };
//! spend(alice)?;
//! spend(alice)?; // again, and nothing changes
//! match spend(bob) {
//!     Err(Error::Spend(refused)) => assert!(refused.to_string().contains("is spent by input 0 of 0202")),
//!     other => panic!("{other:?}"),
//! }
//! store.close(Duration::from_secs(30))?;
//! # }
//! # Ok(())
//! # }
//! ```

#[cfg(test)]
mod acceptance;
mod answer;
mod backend;
#[cfg(feature = "rocksdb")]
pub mod bench;
mod blob;
mod client;
mod close;
mod conflict;
mod engine;
mod error;
#[cfg(any(test, feature = "fuzz"))]
pub mod fuzz;
mod large;
mod mutants;
mod open;
mod ops;
mod options;
mod queues;
mod record;
mod request;
#[cfg(feature = "rocksdb")]
mod rocks;
mod rows;
mod store;
mod view;
mod words;

pub use answer::Answer;
pub use backend::{Backend, Batch, Family, MemoryBackend, NullBackend};
pub use close::{CloseError, Draining};
pub use error::{Error, Result, SpendError};
pub use open::Clients;
pub use options::{Options, Queue, QueueOptions};
pub use record::{Extra, Master, Page, TxFacts};
pub use request::{
    CreateOptions, Fields, MinedInfo, NewTx, SpendFlags, SpendInput, SpendTx, StoredTx, Unspend,
};
#[cfg(feature = "rocksdb")]
pub use rocks::RocksBackend;
pub use store::UtxoStore;
pub use words::{BlockRef, ChainState, Outpoint, OutputHash, Slot, Spender, TxId};
