//! The sorted run: the transaction hashes of one chunk, each with its ledger.
//!
//! ```text
//!  0   u64 LE   count
//!  8   count × { 16 bytes  first half of a transaction's hash
//!                u32 LE    ledger sequence }                     ascending by the 16 bytes, no two equal
//! ```
//!
//! A file is exactly `8 + 20 × count` bytes long. Nothing else protects it: it lives only until the index over it is
//! built, and whatever reads it checks order, ledgers and length.

use std::{path::Path, sync::Arc};

use icecore_diskio::{Disk, IfExists, PendingFile, ReadAt};
use icecore_ledger::{LedgerSeq, TxHash};

use crate::{Error, Result};

/// What is kept of a hash: its first 16 bytes.
pub type Key = [u8; 16];

const COUNT_BYTES: u64 = 8;
pub(crate) const ENTRY_BYTES: usize = 20;
const BLOCK_ENTRIES: usize = 1 << 15;

/// One entry of a run: a key, and the ledger its transaction is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The first half of the hash.
    pub key: Key,
    /// The ledger.
    pub seq: LedgerSeq,
}

const _: () = assert!(size_of::<Entry>() == ENTRY_BYTES);

impl Entry {
    /// The entry of a whole hash.
    pub fn new(hash: &TxHash, seq: LedgerSeq) -> Self {
        Entry { key: hash.key(), seq }
    }

    /// The key as a number: what entries are sorted by.
    pub(crate) fn order(&self) -> u128 {
        u128::from_be_bytes(self.key)
    }

    pub(crate) fn decode(bytes: &[u8; ENTRY_BYTES]) -> Self {
        let [k @ .., a, b, c, d] = *bytes;
        Entry { key: k, seq: LedgerSeq(u32::from_le_bytes([a, b, c, d])) }
    }

    fn encode(&self) -> [u8; ENTRY_BYTES] {
        let mut bytes = [0; ENTRY_BYTES];
        bytes[..16].copy_from_slice(&self.key);
        bytes[16..].copy_from_slice(&self.seq.0.to_le_bytes());
        bytes
    }
}

/// The entries in a block of bytes, a whole number of them.
#[cfg(any(test, feature = "fuzz"))]
pub(crate) fn entries(bytes: &[u8]) -> impl Iterator<Item = Entry> {
    bytes.as_chunks().0.iter().map(Entry::decode)
}

/// Checks that `next` comes after `last`. `position` is where `next` stands in its run.
pub(crate) fn check_order(last: Option<Entry>, next: Entry, position: u64, path: &Path) -> Result<()> {
    match last.map(|last| (last, last.order().cmp(&next.order()))) {
        None | Some((_, std::cmp::Ordering::Less)) => Ok(()),
        Some((last, std::cmp::Ordering::Equal)) => {
            Err(Error::DuplicateKey { key: next.key, first: last.seq, second: next.seq })
        }
        Some(_) => Err(Error::UnsortedRun { path: path.to_path_buf(), position }),
    }
}

/// Sorts entries, in place, and seals them as a run. No entries make a valid empty run.
///
/// # Errors
/// [`Error::DuplicateKey`] before anything is written, [`Error::Disk`] with nothing left behind.
pub fn write_run(
    disk: &Arc<dyn Disk>,
    path: &Path,
    entries: &mut [Entry],
    if_exists: IfExists,
) -> Result<()> {
    entries.sort_unstable_by_key(Entry::order);
    for pair in entries.windows(2) {
        check_order(Some(pair[0]), pair[1], 0, path)?;
    }
    let file = PendingFile::create(disk, path, if_exists)?;
    file.write_all_at(&(entries.len() as u64).to_le_bytes(), 0)?;
    let mut at = COUNT_BYTES;
    let mut block = Vec::with_capacity(entries.len().min(BLOCK_ENTRIES) * ENTRY_BYTES);
    for entries in entries.chunks(BLOCK_ENTRIES) {
        block.clear();
        block.extend(entries.iter().flat_map(Entry::encode));
        file.write_all_at(&block, at)?;
        at += block.len() as u64;
    }
    Ok(file.commit()?)
}

/// An open run.
///
/// ```
/// use icecore_diskio::{Disk, IfExists, RealDisk};
/// use icecore_ledger::{LedgerSeq, TxHash};
/// use icecore_txindex::{Entry, Run, write_run};
/// use std::sync::Arc;
///
/// # fn main() -> icecore_txindex::Result<()> {
/// # let dir = tempfile::tempdir().unwrap();
/// # let path = dir.path().join("00000000.bin");
/// let disk: Arc<dyn Disk> = Arc::new(RealDisk);
/// let mut entries = [9, 3].map(|n| Entry::new(&TxHash([n; 32]), LedgerSeq(u32::from(n))));
/// write_run(&disk, &path, &mut entries, IfExists::Fail)?;
///
/// let run = Run::open(&disk, &path)?;
/// assert_eq!(run.len(), 2);
/// let seqs: icecore_txindex::Result<Vec<u32>> = run.scan().map(|entry| Ok(entry?.seq.0)).collect();
/// assert_eq!(seqs?, [3, 9]);
/// # Ok(())
/// # }
/// ```
pub struct Run<R = Box<dyn ReadAt>> {
    source: R,
    len: u64,
}

impl Run {
    /// Opens a run and checks its length; [`scan`](Run::scan) checks the rest.
    ///
    /// # Errors
    /// [`Error::MissingRun`], [`Error::CorruptRun`], [`Error::Disk`].
    pub fn open(disk: &Arc<dyn Disk>, path: &Path) -> Result<Self> {
        Run::new(Self::source(disk, path)?)
    }

    /// Opens a run that had `len` entries before.
    pub(crate) fn reopen(disk: &Arc<dyn Disk>, path: &Path, len: u64) -> Result<Self> {
        let source = Self::source(disk, path)?;
        let (before, now) = (COUNT_BYTES + len * ENTRY_BYTES as u64, source.len_bytes());
        if now != before {
            let what = format!("it had {before} bytes when the build began, now it has {now}");
            return Err(Error::CorruptRun { path: path.to_path_buf(), what });
        }
        Ok(Run { source, len })
    }

    fn source(disk: &Arc<dyn Disk>, path: &Path) -> Result<Box<dyn ReadAt>> {
        match disk.open(path) {
            Err(e) if e.is_not_found() => Err(Error::MissingRun { path: path.to_path_buf() }),
            opened => Ok(opened?),
        }
    }
}

impl<R: ReadAt> Run<R> {
    /// A run in any bytes.
    ///
    /// # Errors
    /// [`Error::CorruptRun`] when the length contradicts the count, [`Error::Disk`].
    pub fn new(source: R) -> Result<Self> {
        let len_bytes = source.len_bytes();
        let corrupt = |what| Err(Error::CorruptRun { path: source.path().to_path_buf(), what });
        let Some(body_bytes) = len_bytes.checked_sub(COUNT_BYTES) else {
            return corrupt(format!("{len_bytes} bytes, even an empty run has 8"));
        };
        let mut count = [0; COUNT_BYTES as usize];
        source.read_exact_at(&mut count, 0)?;
        let count = u64::from_le_bytes(count);
        // Divide the length: a hostile count times 20 could wrap around to it.
        if body_bytes % ENTRY_BYTES as u64 != 0 || body_bytes / ENTRY_BYTES as u64 != count {
            return corrupt(format!(
                "it counts {count} entries of 20 bytes, but has {body_bytes} bytes of them"
            ));
        }
        Ok(Run { source, len: count })
    }

    /// How many entries it has.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// True for the run of a chunk without transactions.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The file.
    pub fn path(&self) -> &Path {
        self.source.path()
    }

    /// Fills `bytes`, a whole number of entries long, from the entry at `position`.
    pub(crate) fn read(&self, bytes: &mut [u8], position: u64) -> Result<()> {
        Ok(self.source.read_exact_at(bytes, COUNT_BYTES + position * ENTRY_BYTES as u64)?)
    }

    /// The ledger of a transaction, by halving: for chunks that no index covers yet. A candidate only, and believes that the
    /// run is sorted.
    ///
    /// # Errors
    /// [`Error::Disk`].
    pub fn lookup(&self, hash: &TxHash) -> Result<Option<LedgerSeq>> {
        self.find(&hash.key())
    }

    /// The ledger of a key, likewise.
    pub(crate) fn find(&self, key: &Key) -> Result<Option<LedgerSeq>> {
        let (mut low, mut high) = (0, self.len);
        while low < high {
            let middle = low + (high - low) / 2;
            let mut bytes = [0; ENTRY_BYTES];
            self.read(&mut bytes, middle)?;
            let entry = Entry::decode(&bytes);
            match entry.key.cmp(key) {
                std::cmp::Ordering::Equal => return Ok(Some(entry.seq)),
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
            }
        }
        Ok(None)
    }

    /// The entries in order, each checked against the one before; ends after the first error.
    ///
    /// # Errors
    /// [`Error::UnsortedRun`], [`Error::DuplicateKey`], [`Error::Disk`].
    pub fn scan(&self) -> Scan<'_, R> {
        Scan { run: self, position: 0, last: None, block: Vec::new(), taken: 0 }
    }
}

/// The entries of a run in order: see [`Run::scan`].
pub struct Scan<'a, R = Box<dyn ReadAt>> {
    run: &'a Run<R>,
    position: u64,
    last: Option<Entry>,
    block: Vec<u8>,
    taken: usize,
}

impl<R: ReadAt> Scan<'_, R> {
    fn advance(&mut self) -> Result<Entry> {
        if self.taken == self.block.len() {
            let left = self.run.len - self.position;
            self.block.resize(left.min(BLOCK_ENTRIES as u64) as usize * ENTRY_BYTES, 0);
            self.taken = 0;
            self.run.read(&mut self.block, self.position)?;
        }
        let mut bytes = [0; ENTRY_BYTES];
        bytes.copy_from_slice(&self.block[self.taken..self.taken + ENTRY_BYTES]);
        let entry = Entry::decode(&bytes);
        check_order(self.last, entry, self.position, self.run.path())?;
        self.taken += ENTRY_BYTES;
        self.position += 1;
        self.last = Some(entry);
        Ok(entry)
    }
}

impl<R: ReadAt> Iterator for Scan<'_, R> {
    type Item = Result<Entry>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.position == self.run.len {
            return None;
        }
        let next = self.advance();
        if next.is_err() {
            self.position = self.run.len;
        }
        Some(next)
    }
}
