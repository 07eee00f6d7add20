//! Minimal perfect hash index files: N fixed keys become the numbers `0..N`, each with a small payload, at about two
//! and a half bits a key.
//!
//! ```text
//! key ─▶ block (first bits) ─▶ slot in block (a blob of seeds) ─▶ rank ─▶ fingerprint ‖ payload
//! ```
//!
//! A key's first 16 bytes must be uniform, as those of a hash are; [`prehash`] makes such a key of anything. Keys in
//! sorted order go through a [`SortedBuilder`] as a stream; keys in any order wait in an [`UnsortedBuilder`] until all
//! are there; keys that can be had range by range, as those of many sorted files, are fetched by the workers of a
//! [`RangeBuilder`]. All make the same file, with any number of workers. An [`Index`] reads it.
//!
//! The keys themselves are not in the file: a foreign key is given the rank of some other key unless its fingerprint
//! tells it apart, which with one byte happens 255 times out of 256.
//!
//! ```
//! use icecore_streamhash::{Index, Options, UnsortedBuilder, prehash};
//!
//! # fn main() -> icecore_streamhash::Result<()> {
//! # let dir = tempfile::tempdir().unwrap();
//! # let path = dir.path().join("index");
//! let words = ["drilled", "layer", "by", "layer again"];
//! let options = Options::new().payload_bytes(2).fingerprint_bytes(4);
//! let mut builder = UnsortedBuilder::create(&path, words.len() as u64, options)?;
//! for (line, word) in (100..).zip(words) {
//!     builder.add(&prehash(word.as_bytes()), line)?;
//! }
//! builder.finish()?;
//!
//! let index = Index::open(&path)?;
//! let hit = index.lookup(&prehash(b"by"))?.unwrap();
//! assert_eq!(hit.payload, 102);
//! assert!(hit.rank.unwrap() < 4);
//! assert_eq!(index.lookup(&prehash(b"melted"))?, None);
//! # Ok(())
//! # }
//! ```
//!
//! Inside: `format` owns the bytes around the blocks; `bijection`, `ptrhash`, `phast` (fast) and `ribbon` (compact) own a
//! block's blob (each draws it at its head, solves blocks and finds keys in them), `algorithm` chooses among them,
//! `builder` and `reader` do the rest. Solvers search in vector lanes, where the processor has them, and find the same
//! without.

mod algorithm;
mod bijection;
mod builder;
#[cfg(test)]
mod crafted;
mod error;
mod format;
#[cfg(any(test, feature = "fuzz"))]
pub mod fuzz;
mod key;
mod phast;
mod prefetch;
mod ptrhash;
mod reader;
mod ribbon;
mod simd;

#[doc(hidden)]
pub use simd::Path;

pub use algorithm::Algorithm;
pub use builder::{
    Fill, KeyRange, Options, Places, Progress, RangeBuilder, SortedBuilder, Summary, UnsortedBuilder,
};
pub use error::{Error, Result};
pub use format::{Header, Layout};
pub use key::{KEY_BYTES, fingerprint, prehash};
pub use reader::{Hit, Index, Lookups};
