//! Events of a chunk of ledgers: their records, the terms they are found by, the files they freeze into, and searches.
//!
//! ```text
//! Event ──▶ EventRecord ──────────────▶ events.pack, or a hot store's rows   id ──▶ record
//!       └─▶ terms ──▶ TermKey ──▶ TermSet ─┬▶ index.hash, index.pack         key ──▶ rank ──▶ bitmap of ids
//!                                          └▶ HotIndex, read as it grows     key ──▶ ids below a ledger's end
//! Query ──▶ bitmaps: AND within a filter, OR between filters ──▶ records ──▶ each checked against the filters
//! ```
//!
//! Events are numbered 0, 1, 2, … within a chunk, ledger after ledger; within a ledger they ascend by (transaction,
//! operation, event). What is asked and answered speaks of those coordinates only, so that pages go on from one chunk,
//! or one kind of store, to the next.
//!
//! [`EventRecord`], [`TermKey`], [`TermSet`] and [`Query`] know no files. [`ChunkEventsWriter`] and [`ChunkEvents`] are
//! the cold side: three sealed files a chunk, drawn in `format`. [`HotIndexWriter`] and [`HotIndex`] are the hot side: the
//! terms of a chunk that still grows, for one writer and any number of readers, none of whom waits; the records are kept by
//! whoever keeps the chunk. [`search`] asks either, by way of [`EventStore`].
//!
//! ```
//! use std::sync::Arc;
//!
//! use icecore_diskio::{Disk, RealDisk};
//! use icecore_events::{ChunkEvents, ChunkEventsWriter, EventPaths, Filter, Options, Query};
//! use icecore_ledger::{ChunkId, Decoded, Decoder, Event, EventFields, LedgerSeq, TxHash};
//!
//! /// A chain whose events are one topic and nothing else.
//! struct Topics;
//!
//! impl Decoder for Topics {
//!     fn decode<'a>(&self, _: &'a [u8]) -> icecore_ledger::Result<Decoded<'a>> {
//!         Err(icecore_ledger::Error::Empty { place: "a chain of events alone".into() })
//!     }
//!     fn event_fields<'a>(&self, body: &'a [u8]) -> icecore_ledger::Result<EventFields<'a>> {
//!         Ok(EventFields { contract: None, topics: [Some(body), None, None, None] })
//!     }
//! }
//!
//! fn event(tx_index: u32, body: &[u8]) -> icecore_ledger::Result<Event<'_>> {
//!     let fields = Topics.event_fields(body)?;
//!     Ok(Event { tx_hash: TxHash([7; 32]), tx_index, op_index: 0, event_index: 0, body, fields })
//! }
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let dir = tempfile::tempdir()?;
//! let disk: Arc<dyn Disk> = Arc::new(RealDisk);
//! let paths = EventPaths::new(dir.path(), ChunkId(0));
//! let mut writer = ChunkEventsWriter::create(&disk, &paths, LedgerSeq(2), Options::new())?;
//! writer.push_ledger(LedgerSeq(2), 1_700_000_000, &[event(1, b"mint")?, event(2, b"burn")?])?;
//! writer.push_ledger(LedgerSeq(3), 1_700_000_005, &[event(1, b"mint")?])?;
//! assert_eq!(writer.finish()?.events, 3);
//!
//! let chunk = ChunkEvents::open(&disk, &paths);
//! let query = Query { filters: vec![Filter::any().topic(0, b"mint")], ..Query::default() };
//! let found = chunk.query(&query, &Topics)?;
//! assert_eq!(found.iter().map(|event| event.ledger.0).collect::<Vec<_>>(), [2, 3]);
//!
//! let next_page = Query { after: Some(found[0].position()), ..query };
//! assert_eq!(chunk.query(&next_page, &Topics)?, found[1..]);
//! # Ok(())
//! # }
//! ```

mod bitmap;
mod counts;
mod error;
mod filter;
mod format;
#[cfg(any(test, feature = "fuzz"))]
pub mod fuzz;
mod hot;
mod keyhash;
mod query;
mod reader;
mod record;
mod sync;
mod term;
mod terms;
mod verify;
mod writer;

pub use bitmap::decode_bitmap;
pub use counts::EventCounts;
pub use error::{Error, Result};
pub use filter::{Filter, Order, Position, Query};
pub use format::{EVENTS_FORMAT, EventPaths, INDEX_FORMAT, ITEMS_PER_RECORD};
pub use hot::{HotIndex, HotIndexLoader, HotIndexWriter, HotView};
pub use query::{EventStore, Visit, search};
pub use reader::ChunkEvents;
pub use record::{EventRecord, RECORD_HEADER_BYTES};
pub use roaring::RoaringBitmap;
pub use term::{TermHasher, TermKey};
pub use terms::TermSet;
pub use writer::{ChunkEventsWriter, IndexSummary, Options, Progress, Summary, write_index};
