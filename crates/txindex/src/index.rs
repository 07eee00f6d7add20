//! The window index: from a transaction's hash to the ledger it is most likely in.
//!
//! ```text
//! a STMH file (icecore-streamhash), any algorithm, default seed; its keys are the first 16 bytes of hashes
//!   payload        3 bytes   ledger - first
//!   fingerprint    1 byte
//!   user metadata  u32 LE first ‖ u32 LE last     the ledgers it covers, at most 2^24
//! ```

use std::path::Path;

use icecore_diskio::{FileReader, ReadAt};
use icecore_ledger::{LedgerRange, LedgerSeq, TxHash};
use icecore_streamhash::{Algorithm, Hit, Index, Options};

use crate::{Error, Result};

const PAYLOAD_BYTES: u8 = 3;
const FINGERPRINT_BYTES: u8 = 1;
const ENTRY_BYTES: usize = 4;
const METADATA_BYTES: usize = 8;
const MAX_SPAN: u64 = 1 << (8 * PAYLOAD_BYTES);
const _: () = assert!(ENTRY_BYTES == (PAYLOAD_BYTES + FINGERPRINT_BYTES) as usize);

/// How every window index is built.
pub(crate) fn stmh_options(coverage: LedgerRange, algorithm: Algorithm) -> Result<Options> {
    if coverage.last < coverage.first || coverage.count() > MAX_SPAN {
        return Err(Error::BadCoverage { coverage });
    }
    let (first, last) = (coverage.first.0.to_le_bytes(), coverage.last.0.to_le_bytes());
    let options = Options::new().payload_bytes(PAYLOAD_BYTES).fingerprint_bytes(FINGERPRINT_BYTES);
    let options = options.algorithm(algorithm).max_payload(coverage.count() - 1);
    Ok(options.user_metadata([first, last].concat()))
}

/// An open window index, over any bytes that can be read at a position: a memory map is the fastest.
///
/// What it finds are candidates. A hash that the index does not hold is given some ledger one time in 256, so a hit
/// means: fetch that ledger, look for the transaction, compare all 32 bytes.
#[derive(Debug)]
pub struct WindowIndex<S = FileReader> {
    index: Index<S>,
    coverage: LedgerRange,
}

impl WindowIndex<FileReader> {
    /// Opens an index file.
    ///
    /// # Errors
    /// Those of [`from_source`](WindowIndex::from_source).
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::from_source(FileReader::open(path)?)
    }
}

impl<S: ReadAt> WindowIndex<S> {
    /// Opens an index in the given bytes. The algorithm may be any that this program knows.
    ///
    /// # Errors
    /// [`Error::NotAWindowIndex`] where it was built for something else, [`Error::Index`] where it is no whole index,
    /// [`Error::Disk`].
    pub fn from_source(source: S) -> Result<Self> {
        let index = Index::from_source(source)?;
        let refuse = |what| Err(Error::NotAWindowIndex { path: index.source().path().to_path_buf(), what });
        let header = index.header();
        let (ranks, max_distance) = (header.algorithm.has_ranks(), header.max_payload);
        let shape = (header.payload_bytes, header.fingerprint_bytes);
        if shape != (PAYLOAD_BYTES, FINGERPRINT_BYTES) {
            return refuse(format!(
                "payload and fingerprint have {} and {} bytes, not 3 and 1",
                shape.0, shape.1
            ));
        }
        let Ok(metadata) = <[u8; METADATA_BYTES]>::try_from(index.user_metadata()) else {
            return refuse(format!("it has {} bytes of user metadata, not 8", index.user_metadata().len()));
        };
        let [a, b, c, d, e, f, g, h] = metadata;
        let first = LedgerSeq(u32::from_le_bytes([a, b, c, d]));
        let last = LedgerSeq(u32::from_le_bytes([e, f, g, h]));
        match LedgerRange::new(first, last) {
            // Without entries to look at, strangers are given any payload that may be.
            Ok(coverage) if !ranks && max_distance >= coverage.count() => refuse(format!(
                "it has distances up to {max_distance}, {} ledgers are covered",
                coverage.count()
            )),
            Ok(coverage) if coverage.count() <= MAX_SPAN => Ok(WindowIndex { index, coverage }),
            _ => refuse(format!("it claims to cover ledgers {first}..={last}")),
        }
    }

    /// Makes lookups about twice as quick for less than three bits of memory a hash, and reads all blocks for
    /// it; for an index that stays open and is asked often. See [`Index::with_checkpoints`].
    ///
    /// # Errors
    /// [`Error::Index`] where a block is damaged, and [`Error::Disk`].
    pub fn with_checkpoints(self) -> Result<Self> {
        Ok(WindowIndex { index: self.index.with_checkpoints()?, ..self })
    }

    /// The ledgers whose transactions it holds.
    pub fn coverage(&self) -> LedgerRange {
        self.coverage
    }

    /// How it was built.
    pub fn algorithm(&self) -> Algorithm {
        self.index.header().algorithm
    }

    /// How many hashes it holds.
    pub fn key_count(&self) -> u64 {
        self.index.key_count()
    }

    /// The file.
    pub fn path(&self) -> &Path {
        self.index.source().path()
    }

    /// The ledger that a transaction is in, if it is in one of those covered; a candidate only.
    ///
    /// # Errors
    /// [`Error::CorruptIndex`], [`Error::Index`] and [`Error::Disk`].
    pub fn lookup(&self, hash: &TxHash) -> Result<Option<LedgerSeq>> {
        self.candidate(self.index.lookup(&hash.0)?)
    }

    /// Looks up many hashes: clears `out` and fills it with what [`lookup`](WindowIndex::lookup) gives for each. Much
    /// faster than one after the other where the index is a memory map.
    ///
    /// # Errors
    /// The first of those of [`lookup`](WindowIndex::lookup); `out` then holds what came before.
    pub fn lookup_batch(&self, hashes: &[TxHash], out: &mut Vec<Option<LedgerSeq>>) -> Result<()> {
        out.clear();
        out.reserve(hashes.len());
        for hit in self.index.lookup_stream(hashes.iter().map(|hash| &hash.0)) {
            out.push(self.candidate(hit?)?);
        }
        Ok(())
    }

    #[inline]
    fn candidate(&self, hit: Option<Hit>) -> Result<Option<LedgerSeq>> {
        let ledger = |hit: Hit| self.ledger(hit.payload).ok_or_else(|| self.beyond(hit.payload));
        hit.map(ledger).transpose()
    }

    /// The ledger at a distance from the first, if it is covered.
    fn ledger(&self, distance: u64) -> Option<LedgerSeq> {
        let seq = LedgerSeq(self.coverage.first.0.checked_add(u32::try_from(distance).ok()?)?);
        self.coverage.contains(seq).then_some(seq)
    }

    fn beyond(&self, distance: u64) -> Error {
        let what =
            format!("a hash is {distance} ledgers after the first, {} are covered", self.coverage.count());
        Error::CorruptIndex { path: self.path().to_path_buf(), what }
    }

    /// Reads the whole file and checks all that can be checked without the runs: structure, hashes of the regions,
    /// and, where ledgers can be read without a hash (not with [`Algorithm::Compact`]), every ledger inside the coverage.
    ///
    /// # Errors
    /// [`Error::CorruptIndex`], [`Error::Index`] and [`Error::Disk`].
    pub fn verify(&self) -> Result<()> {
        const BLOCK_ENTRIES: u64 = 1 << 18;
        self.index.verify()?;
        if !self.index.header().algorithm.has_ranks() {
            return Ok(());
        }
        let (mut rank, keys) = (0, self.key_count());
        let mut bytes = Vec::new();
        while rank < keys {
            let count = (keys - rank).min(BLOCK_ENTRIES);
            bytes.resize(count as usize * ENTRY_BYTES, 0);
            self.index
                .source()
                .read_exact_at(&mut bytes, self.index.layout().payload_at + rank * ENTRY_BYTES as u64)?;
            for entry in bytes.as_chunks::<ENTRY_BYTES>().0 {
                let distance = u64::from(u32::from_le_bytes(*entry) >> (8 * FINGERPRINT_BYTES));
                self.ledger(distance).ok_or_else(|| self.beyond(distance))?;
            }
            rank += count;
        }
        Ok(())
    }
}
