//! Immutable item files: a sequence of byte items, addressed by position 0, 1, 2, …, written once from front to back,
//! sealed, and never changed.
//!
//! ```text
//! Writer   append · append · … · finish      items → records → file, encoded and hashed on as many threads as asked for
//! Reader   read_item · read_range · read_items · verify
//! ```
//!
//! Opening costs one read of the file's end; reading any item costs one read of the record that holds it. Items share
//! records so that they compress well (see [`Options::items_per_record`]); all sizes are checked before they are
//! believed, so a reader may be given bytes of any origin. What the bytes mean is nobody's business here: a caller says
//! it with [`Options::format`] and with app data of its own.
//!
//! ```
//! use icecore_packfile::{Options, Reader, Writer};
//!
//! # fn main() -> icecore_packfile::Result<()> {
//! # let dir = tempfile::tempdir().unwrap();
//! let path = dir.path().join("greetings.pack");
//! let mut writer = Writer::create(&path, Options::new().content_hash(true))?;
//! for greeting in ["hello", "salut", "ciao"] {
//!     writer.append(greeting.as_bytes())?;
//! }
//! let summary = writer.finish(b"from all over")?;
//! assert_eq!(summary.item_count, 3);
//!
//! let reader = Reader::open(&path);
//! assert_eq!(reader.read_item(1)?, b"salut");
//! assert_eq!(reader.app_data()?, b"from all over");
//! let mut items = reader.read_range(0, reader.item_count()?)?;
//! while let Some(item) = items.next_item()? {
//!     assert!(item.len() >= 4);
//! }
//! reader.verify()?;
//! # Ok(())
//! # }
//! ```

mod codec;
mod encode;
mod error;
mod format;
#[cfg(any(test, feature = "fuzz"))]
pub mod fuzz;
mod hash;
mod items;
mod pack;
mod pool;
mod reader;
mod record;
mod sink;
mod workers;
mod writer;

pub use codec::{Codec, RecordCodec};
pub use error::{BoxError, Error, Place, Result};
pub use format::Info;
pub use items::Items;
pub use reader::Reader;
pub use writer::{Options, Summary, Writer};

/// How many threads a caller's number stands for.
fn thread_count(threads: usize) -> usize {
    const MOST: usize = 1024;
    match threads {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        threads => threads.min(MOST),
    }
}
