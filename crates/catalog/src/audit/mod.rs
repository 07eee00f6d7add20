//! The audit: what a store holds, held against what it should. It walks the catalog's rows and the directories by itself,
//! and shares no code with the planning and sweeping that it checks.
//!
//! ```text
//! INV-1  reads are right           every frozen file opens, and is its chunk's; deep: its checksums hold, what is made from
//!                                  the ledgers comes out the same byte for byte, every hash is led to its ledger
//! INV-2  one home per range        one frozen index to a window; nothing settles in freezing, pruning or transient; no hot
//!                                  chunk that the files serve alone; no hash run in a window whose index is final
//! INV-3  disk matches keys         no file without a key, no key without its files, nothing half-written, nothing foreign
//! INV-4  nothing below the floor   of what lies there wholly
//!
//! look ──▶ shape (INV-2, 3, 4) ──▶ reads (INV-1) ──▶ deep (INV-1)      findings, never an abort
//!   └ on a live store twice: only what is the same both times is a finding
//! ```
//!
//! A deep audit remembers what it found sound, in `catalog/audit.json`, and does not look at it again for a while unless it
//! has changed. Repairs go through the write protocol, and are for a stopped store.

use std::{
    fmt,
    path::PathBuf,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use icecore_cold::{Control, Layout};
use icecore_diskio::Disk;
use icecore_ledger::{ChunkId, Decoder};

use crate::{Catalog, Error, Key, Result};

mod deep;
mod fix;
mod look;
mod memory;
mod reads;
mod shape;

pub use fix::{Repair, Repaired};

use look::Look;

/// What an audit looks at, and how.
pub struct Audit<'a> {
    /// The disk with the files of chunks.
    pub disk: &'a Arc<dyn Disk>,
    /// Where everything lies.
    pub layout: &'a Layout,
    /// What reads ledgers; used by a deep audit.
    pub decoder: &'a dyn Decoder,
    /// Counters, and the flag that stops the audit.
    pub control: &'a Control,
    /// The rest.
    pub options: AuditOptions<'a>,
}

/// How an audit is done.
#[derive(Clone, Copy, Default)]
pub struct AuditOptions<'a> {
    /// How many complete chunks are kept, as the daemon is told; 0 for all. What the store itself was told overrules it, as it
    /// does there.
    pub retention_chunks: u32,
    /// For a store in use: what waits between the two looks. Ten seconds are enough for most steps of a lifecycle run; what
    /// is being written is told by its growing.
    pub between_looks: Option<&'a dyn Fn()>,
    /// Whether to derive and compare, and how.
    pub deep: Option<Deep<'a>>,
}

/// How a deep audit is done.
#[derive(Clone, Copy)]
pub struct Deep<'a> {
    /// An empty directory with room for the event files of one chunk, the hash runs of all, and one index.
    pub scratch: &'a std::path::Path,
    /// Threads that compress and sort.
    pub workers: usize,
    /// Derive from so many chunks, drawn by this number; all where there is none.
    pub sample: Option<(u32, u64)>,
    /// What was found sound within this time, and has not changed since, is passed over.
    pub trust: Duration,
}

/// What must hold of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Invariant {
    /// INV-1: reads are right.
    Reads,
    /// INV-2: everything has one home.
    OneHome,
    /// INV-3: what is on disk and what the keys say match, both ways.
    DiskMatchesKeys,
    /// INV-4: nothing lies wholly below the floor.
    Floor,
}

impl Invariant {
    /// Its name, as `INV-1`.
    pub const fn name(self) -> &'static str {
        match self {
            Invariant::Reads => "INV-1",
            Invariant::OneHome => "INV-2",
            Invariant::DiskMatchesKeys => "INV-3",
            Invariant::Floor => "INV-4",
        }
    }
}

impl fmt::Display for Invariant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Something that violates an invariant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Which one.
    pub invariant: Invariant,
    /// The key it is about, where there is one.
    pub key: Option<Key>,
    /// The file or directory, where it is about one.
    pub path: Option<PathBuf>,
    /// What is wrong.
    pub what: String,
    /// What repairs it, where that is safe.
    pub repair: Option<Repair>,
}

impl Finding {
    fn of(invariant: Invariant, key: Key, what: impl Into<String>) -> Self {
        Finding { invariant, key: Some(key), path: None, what: what.into(), repair: None }
    }

    fn at(invariant: Invariant, path: impl Into<PathBuf>, what: impl Into<String>) -> Self {
        Finding { invariant, key: None, path: Some(path.into()), what: what.into(), repair: None }
    }

    fn with_path(self, path: impl Into<PathBuf>) -> Self {
        Finding { path: Some(path.into()), ..self }
    }

    fn with_key(self, key: Option<Key>) -> Self {
        Finding { key, ..self }
    }

    fn with_repair(self, repair: Repair) -> Self {
        Finding { repair: Some(repair), ..self }
    }

    /// True when both are about the same thing.
    fn is_same(&self, other: &Finding) -> bool {
        (self.invariant, &self.key, &self.path, &self.repair)
            == (other.invariant, &other.key, &other.path, &other.repair)
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.invariant)?;
        self.key.iter().try_for_each(|key| write!(f, " {key}"))?;
        self.path.iter().try_for_each(|path| write!(f, " {}", path.display()))?;
        write!(f, ": {}", self.what)
    }
}

/// What an audit has seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuditReport {
    /// Everything that is wrong, in the order in which it was found.
    pub findings: Vec<Finding>,
    /// Keys in the catalog.
    pub keys: u64,
    /// Files and hot directories on disk.
    pub files: u64,
    /// The lowest chunk that is to be there.
    pub floor: Option<ChunkId>,
    /// Chunks from whose ledgers everything was derived again.
    pub derived: u64,
    /// Chunks and indexes that a deep audit passed over, because they were sound a short while ago.
    pub remembered: u64,
}

impl Audit<'_> {
    /// Audits a store that this process does not have open, also one that another process works on; changes nothing in it.
    ///
    /// # Errors
    /// [`Error::NoCatalog`], [`Error::RestorePending`], those of the catalog's database, and what a scratch directory
    /// refuses; `Cancelled`. Anything wrong with files is a finding.
    pub fn run(&self) -> Result<AuditReport> {
        self.audit(&|| Look::beside(&**self.disk, self.layout))
    }

    /// Audits a store whose catalog this process has open; changes nothing in it.
    ///
    /// # Errors
    /// As of [`run`](Audit::run).
    pub fn run_on(&self, catalog: &Catalog) -> Result<AuditReport> {
        self.audit(&|| Look::within(&**self.disk, catalog))
    }

    fn audit(&self, look: &dyn Fn() -> Result<Look>) -> Result<AuditReport> {
        let first = look()?;
        let retention = self.options.retention_chunks;
        let mut findings = shape::findings(&first, self.layout, retention);
        findings.extend(self.reads(&first)?);
        let mut last = first;
        if let Some(between) = self.options.between_looks {
            between();
            self.check()?;
            let again = look()?;
            let mut second = shape::findings(&again, self.layout, retention);
            // Only what failed before is opened again, and only where it is still to be trusted.
            second
                .extend(self.reads_of(&again, findings.iter().filter(|f| f.invariant == Invariant::Reads))?);
            second.retain(|found| {
                let stayed = |key| last.stays(&again, key, self.layout);
                findings.iter().any(|before| before.is_same(found)) && found.key.is_none_or(stayed)
            });
            (findings, last) = (second, again);
        }
        let mut report = AuditReport {
            findings,
            keys: last.keys.len() as u64 + last.bad_rows.len() as u64,
            files: last.files.len() as u64 + last.hot_dirs.len() as u64,
            floor: last.floor(retention),
            derived: 0,
            remembered: 0,
        };
        if let Some(options) = &self.options.deep {
            self.deep(&last, options, look, &mut report)?;
        }
        Ok(report)
    }

    fn begin(&self, total: u64) {
        self.control.total.store(total, Relaxed);
        self.control.done.store(0, Relaxed);
        self.control.bytes.store(0, Relaxed);
    }

    fn check(&self) -> Result<()> {
        if self.control.is_cancelled() {
            return Err(Error::Cold(icecore_cold::Error::Cancelled));
        }
        Ok(())
    }
}
