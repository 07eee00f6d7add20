//! Where Stellar ledgers come from: framed files, lakes, and a generator that needs nothing from outside; and, as they
//! close, [`live`].
//!
//! | source | what it is | a stream that begins late |
//! |---|---|---|
//! | [`FramedFile`] | one file, each ledger behind its length; plain or zstd | plain: begins there; zstd: unpacks what is before |
//! | [`Lake`] | objects of one or more ledgers, named by them (SEP-0054) | begins there |
//! | [`Generator`] | made up from a seed, valid in form | begins there |
//!
//! [`open`] tells them apart by what a user types:
//!
//! ```
//! use icecore_stellar::source;
//!
//! let opened = source::open("gen:seed=7,ledgers=100")?;
//! let ledgers = opened.source.range()?;
//! let mut stream = opened.source.stream(ledgers)?;
//! while let Some(ledger) = stream.next_ledger()? {
//!     assert!(ledgers.contains(ledger.seq));
//! }
//! # Ok::<(), icecore_ledger::Error>(())
//! ```

use std::{fmt, io, path::Path, sync::Arc};

use icecore_ledger::{Error, Result, Source};

mod framed;
#[cfg(any(test, feature = "fuzz"))]
pub mod fuzz;
mod generate;
mod lake;
pub mod live;
mod write;

pub use framed::{FramedFile, MAX_LEDGER_BYTES};
pub use generate::{GENERATED_PASSPHRASE, Generator};
pub use lake::{BatchName, DirStore, Lake, LakeOptions, Layout, NotAName, ObjectStore, PartitionName};
pub use write::{Packing, write_framed, write_lake};

/// A source, and what it says of its network.
pub struct OpenedSource {
    /// The source.
    pub source: Box<dyn Source>,
    /// The passphrase of the ledgers' network, where the source knows it.
    pub network_passphrase: Option<String>,
}

impl fmt::Debug for OpenedSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.source.describe();
        f.debug_struct("OpenedSource")
            .field("source", &name)
            .field("network", &self.network_passphrase)
            .finish()
    }
}

/// Opens `gen:SPEC`, the directory of a lake, or a framed file.
///
/// # Errors
/// [`Error::Config`] for a bad SPEC, a lake whose layout is unclear, or what is none of the three; [`Error::Io`].
pub fn open(source: &str) -> Result<OpenedSource> {
    if source.starts_with(generate::SCHEME) {
        let generator: Generator = source.parse()?;
        let network_passphrase = Some(GENERATED_PASSPHRASE.to_owned());
        return Ok(OpenedSource { source: Box::new(generator), network_passphrase });
    }
    let config = |what: &str| Error::Config { place: source.to_owned(), what: what.to_owned() };
    let path = Path::new(source);
    let found = std::fs::metadata(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => config(
            "there is no such file or directory; a source is a framed file, the directory of a lake, \
             or gen:SPEC such as gen:seed=7,ledgers=1000",
        ),
        _ => io_error(source, error),
    })?;
    if found.is_dir() {
        let lake = Lake::open(path)?;
        let network_passphrase = lake.network_passphrase().map(str::to_owned);
        return Ok(OpenedSource { source: Box::new(lake), network_passphrase });
    }
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    if name.parse::<BatchName>().is_ok() {
        return Err(config("this is one batch of a lake; name the lake's directory"));
    }
    Ok(OpenedSource { source: Box::new(FramedFile::open(path)?), network_passphrase: None })
}

fn io_error(place: &str, source: io::Error) -> Error {
    Error::Io { place: place.to_owned(), source: Arc::new(source) }
}
