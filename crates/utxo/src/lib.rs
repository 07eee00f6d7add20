//! A store of unspent outputs, written through batchers.

#[cfg(test)]
mod acceptance;
mod answer;
mod backend;
mod blob;
mod client;
mod close;
mod conflict;
mod engine;
mod error;
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
