//! A store of unspent outputs, written through batchers.

mod backend;
mod blob;
mod client;
mod error;
mod large;
mod mutants;
mod ops;
mod record;
mod request;
#[cfg(feature = "rocksdb")]
mod rocks;
mod rows;
mod view;
mod words;

pub use backend::{Backend, Batch, Family, MemoryBackend, NullBackend};
pub use error::{Error, Result, SpendError};
pub use record::{Extra, Master, Page, TxFacts};
pub use request::{
    CreateOptions, Fields, MinedInfo, NewTx, SpendFlags, SpendInput, SpendTx, StoredTx, Unspend,
};
#[cfg(feature = "rocksdb")]
pub use rocks::RocksBackend;
pub use words::{BlockRef, ChainState, Outpoint, OutputHash, Slot, Spender, TxId};
