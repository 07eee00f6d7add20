//! What is fixed at a store's first start, as rows of the catalog.
//!
//! ```text
//! config:layout               u32   the version of keys, values and paths; a newer one is refused
//! config:format               u32   the version of the frozen files
//! config:ledgers_per_chunk    u32
//! config:chunks_per_window    u32
//! config:earliest             u32   the first ledger that is kept
//! config:network              text  the network's passphrase; may be missing until it is known
//! config:generation           32 hexadecimal digits, drawn anew by every restore
//! ```
//!
//! Numbers are decimal, without sign or leading zeros.

use std::path::Path;

use icecore_ledger::{Geometry, LedgerSeq};

use crate::{Error, Result};

/// The layout that this program writes, and the highest it reads.
pub const LAYOUT_VERSION: u32 = 1;

/// The version of the frozen files that this program writes, and the highest it reads.
pub const FORMAT_VERSION: u32 = 1;

/// The longest name of a network.
const MAX_NETWORK_BYTES: usize = 4 << 10;

pub(crate) const LAYOUT: &str = "config:layout";
pub(crate) const FORMAT: &str = "config:format";
pub(crate) const LEDGERS: &str = "config:ledgers_per_chunk";
pub(crate) const CHUNKS: &str = "config:chunks_per_window";
pub(crate) const EARLIEST: &str = "config:earliest";
pub(crate) const NETWORK: &str = "config:network";
pub(crate) const GENERATION: &str = "config:generation";

/// The row with the number of complete chunks that are kept, where a store was told one: it overrules the configuration's. No
/// pin, since it may change.
pub const RETENTION_ROW: &str = "config:retention_chunks";

/// What a store is pinned to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pins {
    /// The version of keys, values and paths.
    pub layout_version: u32,
    /// The version of the frozen files; `None` in a store from before this was recorded, until its migration has run.
    pub format: Option<u32>,
    /// Ledgers to a chunk, chunks to a window.
    pub geometry: Geometry,
    /// The first ledger that is kept: a chunk's first.
    pub earliest: LedgerSeq,
    /// The passphrase of the network, where it is known.
    pub network: Option<String>,
}

impl Pins {
    /// The pins that this program gives to a new store.
    pub fn new(geometry: Geometry, earliest: LedgerSeq, network: Option<String>) -> Self {
        Pins { layout_version: LAYOUT_VERSION, format: Some(FORMAT_VERSION), geometry, earliest, network }
    }

    /// Refuses what no store can have.
    pub(crate) fn check(&self) -> Result<()> {
        let bad = |name, value: String, what: String| Err(Error::BadPin { name, value, what });
        if self.layout_version != LAYOUT_VERSION {
            let what = format!("this program writes {LAYOUT_VERSION}");
            return bad("the layout version", self.layout_version.to_string(), what);
        }
        let earliest = || self.earliest.to_string();
        let chunk = self.geometry.chunk_of(self.earliest).and_then(|chunk| self.geometry.ledgers_of(chunk));
        match chunk {
            Some(chunk) if chunk.first == self.earliest => {}
            Some(chunk) => {
                let next = u64::from(chunk.last.0) + 1;
                let what = format!("a chunk begins at {} and at {next}, not between", chunk.first);
                return bad("the earliest ledger", earliest(), what);
            }
            None => return bad("the earliest ledger", earliest(), "no chunk begins there".into()),
        }
        match &self.network {
            Some(network) if network.is_empty() || network.len() > MAX_NETWORK_BYTES => {
                let what = format!("it must have between 1 and {MAX_NETWORK_BYTES} bytes");
                bad("the network", format!("{} bytes long", network.len()), what)
            }
            _ => Ok(()),
        }
    }

    /// Refuses to change what is pinned; a network that was not known is no change.
    pub(crate) fn check_asked(&self, path: &Path, asked: &Pins) -> Result<()> {
        const OTHER: &str = "give the old value, or begin a new store in another directory";
        let numbers = |pins: &Pins| {
            [
                ("ledgers per chunk", pins.geometry.ledgers_per_chunk()),
                ("chunks per window", pins.geometry.chunks_per_window()),
                ("the earliest ledger", pins.earliest.0),
            ]
        };
        let changed = |name, found: String, asked: String| {
            Err(Error::PinChanged { path: path.to_path_buf(), name, found, asked, todo: OTHER })
        };
        for ((name, found), (_, asked)) in numbers(self).into_iter().zip(numbers(asked)) {
            if found != asked {
                return changed(name, found.to_string(), asked.to_string());
            }
        }
        match (&self.network, &asked.network) {
            (Some(found), Some(asked)) if found != asked => {
                changed("the network", format!("{found:?}"), format!("{asked:?}"))
            }
            _ => Ok(()),
        }
    }

    /// As rows.
    pub(crate) fn rows(&self) -> Vec<(&'static str, String)> {
        let mut rows = vec![
            (LAYOUT, self.layout_version.to_string()),
            (LEDGERS, self.geometry.ledgers_per_chunk().to_string()),
            (CHUNKS, self.geometry.chunks_per_window().to_string()),
            (EARLIEST, self.earliest.to_string()),
        ];
        rows.extend(self.format.map(|format| (FORMAT, format.to_string())));
        rows.extend(self.network.as_ref().map(|network| (NETWORK, network.clone())));
        rows
    }
}

/// A number as it is written, and no other way.
pub(crate) fn number(text: &str) -> Option<u32> {
    let number: u32 = text.parse().ok()?;
    (number.to_string() == text).then_some(number)
}
