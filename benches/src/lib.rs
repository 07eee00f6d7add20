//! What the benchmarks share: where files go, and the ledgers they are fed.
//!
//! Each benchmark group measures our code as `ours` (or several, by name) and, in the same run, the physical reference
//! as `reference: WHAT`, with the same throughput declared; `cargo xtask bench` prints one table of both and their
//! ratio.

use std::path::Path;

use icecore_ledger::Source;
use icecore_stellar::source::Generator;

/// A temporary directory in memory where the system has one, so that the device is not what is measured.
///
/// # Panics
/// When no directory can be made.
#[allow(clippy::expect_used)]
pub fn scratch_dir() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    let dir = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    dir.expect("a temporary directory")
}

/// Raw generated ledgers.
///
/// # Panics
/// When the specification is wrong.
#[allow(clippy::expect_used)]
pub fn ledgers(spec: &str) -> Vec<Vec<u8>> {
    let source: Generator = spec.parse().expect("a valid specification");
    let mut stream = source.stream(source.range().expect("a range")).expect("a stream");
    let mut ledgers = Vec::new();
    while let Some(ledger) = stream.next_ledger().expect("generated ledgers") {
        ledgers.push(ledger.bytes.to_vec());
    }
    ledgers
}

/// The bytes of all items.
pub fn total_bytes(items: &[Vec<u8>]) -> u64 {
    items.iter().map(|item| item.len() as u64).sum()
}

/// What the packfiles here do to a record: Zstandard at level 3 with checksum and content size.
///
/// # Panics
/// When the library refuses its parameters.
#[allow(clippy::expect_used)]
pub fn compressor() -> zstd::bulk::Compressor<'static> {
    let mut compressor = zstd::bulk::Compressor::new(3).expect("a compressor");
    compressor.include_checksum(true).expect("a checksum");
    compressor.include_contentsize(true).expect("a content size");
    compressor
}
