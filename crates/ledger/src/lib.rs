//! The words of a ledger history, and the traits through which a chain enters.
//!
//! ```text
//! ledger sequence   2 … 10 001 │ 10 002 … 20 001 │ …        GENESIS = 2
//! chunk             00000000   │ 00000001        │ …        10 000 ledgers
//! window            00000000 ────────────────────▶          1 000 chunks
//! ```
//!
//! A [`Source`] gives raw ledgers by sequence, a [`LiveSource`] those that close now; a [`Decoder`] reads from one what an
//! engine needs: sequence, close time, transaction hashes, events. Nothing here knows a file, a database or a particular chain.
//!
//! ```
//! use icecore_ledger::{ChunkId, Geometry, LedgerSeq};
//!
//! let geometry = Geometry::default();
//! let chunk = geometry.chunk_of(LedgerSeq(10_001)).unwrap();
//! assert_eq!(chunk, ChunkId(0));
//! assert_eq!(geometry.ledgers_of(chunk).unwrap().last, LedgerSeq(10_001));
//! // No chunk is complete before the chain's first ten thousand ledgers are there.
//! assert_eq!(geometry.last_complete_chunk(LedgerSeq(10_000)), None);
//! ```

mod decode;
mod error;
mod geometry;
mod source;
mod words;

pub use decode::{Decoded, Decoder, Event, EventFields, MAX_TOPICS, Transaction};
pub use error::{Error, Result};
pub use geometry::{GENESIS, Geometry, LedgerRange};
pub use source::{LedgerStream, LiveSource, LiveStream, RawLedger, Source};
pub use words::{ChunkId, LedgerSeq, TxHash, WindowId};
