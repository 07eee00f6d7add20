//! What is compared: one line each in [`ALL`].

use std::path::PathBuf;

use icecore_streamhash::Algorithm;
use serde::{Deserialize, Serialize};

use crate::{
    Any,
    keys::Key,
    measure::{Outcome, Task, perform},
    mphf::{Mphf, Tabled},
    ours::Ours,
    peers, stores,
    vfunc::Values,
};

/// How to build.
pub(crate) struct How {
    pub(crate) workers: usize,
    pub(crate) order: Order,
    /// For files; empty.
    pub(crate) dir: PathBuf,
}

/// How the keys come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Order {
    Sorted,
    Unsorted,
}

/// A built structure, what it took, and how large it is.
pub(crate) struct Built<S> {
    pub(crate) structure: S,
    pub(crate) seconds: f64,
    pub(crate) bytes: u64,
    /// Where a function and a table are two things: seconds and bytes of the function alone.
    pub(crate) function: Option<(f64, u64)>,
}

/// Something that builds a structure for a set of keys. What is timed is the whole job, from keys in memory to a
/// structure that answers.
pub(crate) trait Builder {
    type Structure: Lookup;

    fn build(&self, keys: &[Key], how: &How) -> Any<Built<Self::Structure>>;
}

/// A structure that answers. What it gives for many keys is the sum of their payloads.
pub(crate) trait Lookup {
    fn get(&self, key: &Key) -> Option<u32>;

    /// Many keys by a call for that, where there is one.
    fn batch(&self, _keys: &[Key]) -> Option<u64> {
        None
    }

    /// Many keys through an iterator, where there is one.
    fn stream(&self, _keys: &[Key]) -> Option<u64> {
        None
    }

    /// The sum of the numbers that the function alone gives to keys, one by one, where function and table are two things.
    fn numbers(&self, _keys: &[Key]) -> Option<u64> {
        None
    }

    /// The same by the call for many keys, where there is one.
    fn numbers_batch(&self, _keys: &[Key]) -> Option<u64> {
        None
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Ours.
    Ours,
    /// Ours with more in memory; another line has the builds of the same file.
    Aided,
    /// Ours through a memory map; another line has the builds of the same file.
    Mapped,
    /// A function in memory, of others: built sorted or not, at any size.
    Memory,
    /// A general store in files: bulk-loaded in order, as its documentation recommends.
    Store { workers: usize },
}

impl Kind {
    /// Every combination of order and number of workers that it is built in.
    pub(crate) fn builds(self) -> &'static [(Order, usize)] {
        use Order::{Sorted, Unsorted};
        match self {
            Kind::Aided | Kind::Mapped => &[],
            Kind::Ours | Kind::Memory => &[(Sorted, 1), (Sorted, 2), (Unsorted, 1), (Unsorted, 2)],
            Kind::Store { workers: 1 } => &[(Sorted, 1)],
            Kind::Store { .. } => &[(Sorted, 1), (Sorted, 2)],
        }
    }
}

/// One of what is compared.
pub(crate) struct Contender {
    /// As one names it on the command line.
    pub(crate) id: &'static str,
    pub(crate) name: &'static str,
    /// The packages whose versions count.
    pub(crate) packages: &'static [&'static str],
    pub(crate) kind: Kind,
    /// What the timed job is.
    pub(crate) job: &'static str,
    pub(crate) run: fn(&Task) -> Any<Outcome>,
}

const OURS: &[&str] = &["icecore-streamhash"];
const PTR_HASH: &[&str] = &["ptr_hash"];
const PH: &[&str] = &["ph"];
const SUX: &[&str] = &["sux"];
const REDB: &[&str] = &["redb"];
const LMDB: &[&str] = &["heed", "lmdb-master-sys"];
const ROCKSDB: &[&str] = &["rocksdb", "librocksdb-sys"];
const FILE: &str = "keys and payloads to a finished file, synced and renamed; read as bytes in memory";
const MAPPED: &str = "the same file through a memory map";
const TABLE: &str = "in memory, no file: the function, then a table of payload and fingerprint";

const fn row(
    id: &'static str,
    name: &'static str,
    packages: &'static [&'static str],
    kind: Kind,
    job: &'static str,
    run: fn(&Task) -> Any<Outcome>,
) -> Contender {
    Contender { id, name, packages, kind, job, run }
}

fn tabled<F: Mphf>(task: &Task) -> Any<Outcome> {
    perform(&Tabled::<F>::default(), task)
}

/// In the order in which they are shown.
#[rustfmt::skip]
pub(crate) const ALL: &[Contender] = &[
    row("bijection", "Bijection", OURS, Kind::Ours, FILE, |task| perform(&Ours::new(Algorithm::Bijection), task)),
    row("bijection-checkpoints", "Bijection, checkpoints", OURS, Kind::Aided, "the same file, with_checkpoints: 1 KiB a block beside it in memory, 2.7 bits a key that are not in the figure", |task| perform(&Ours::new(Algorithm::Bijection).checkpoints(), task)),
    row("bijection-mapped", "Bijection, mapped", OURS, Kind::Mapped, MAPPED, |task| perform(&Ours::new(Algorithm::Bijection).mapped(), task)),
    row("ptrhash", "PTRHash", OURS, Kind::Ours, FILE, |task| perform(&Ours::new(Algorithm::PtrHash), task)),
    row("ptrhash-mapped", "PTRHash, mapped", OURS, Kind::Mapped, MAPPED, |task| perform(&Ours::new(Algorithm::PtrHash).mapped(), task)),
    row("fast", "fast", OURS, Kind::Ours, FILE, |task| perform(&Ours::new(Algorithm::Fast), task)),
    row("fast-mapped", "fast, mapped", OURS, Kind::Mapped, MAPPED, |task| perform(&Ours::new(Algorithm::Fast).mapped(), task)),
    row("compact", "compact", OURS, Kind::Ours, FILE, |task| perform(&Ours::new(Algorithm::Compact), task)),
    row("compact-mapped", "compact, mapped", OURS, Kind::Mapped, MAPPED, |task| perform(&Ours::new(Algorithm::Compact).mapped(), task)),
    row("ptr_hash", "ptr_hash", PTR_HASH, Kind::Memory, TABLE, tabled::<peers::PtrHashDefault>),
    row("ptr_hash-parts", "ptr_hash balanced", PTR_HASH, Kind::Memory, TABLE, tabled::<peers::PtrHashParts>),
    row("ptr_hash-compact", "ptr_hash compact", PTR_HASH, Kind::Memory, TABLE, tabled::<peers::PtrHashCompact>),
    row("ph", "ph PHast+", PH, Kind::Memory, TABLE, tabled::<peers::PHastPlus>),
    row("phastr", "sux PHastR", SUX, Kind::Memory, TABLE, tabled::<peers::PHastR>),
    row("phastr-small", "sux PHastR, 10-bit seeds", SUX, Kind::Memory, TABLE, tabled::<peers::PHastRSmall>),
    row("vfunc", "sux VFunc", SUX, Kind::Memory, "in memory, no file: a static function of payload and fingerprint, no table", |task| perform(&Values, task)),
    row("redb", "redb", REDB, Kind::Store { workers: 1 }, "one file: one transaction through a cursor at the end, commit, compact; read in a transaction, its cache large enough", |task| perform(&stores::Redb, task)),
    row("lmdb", "LMDB (heed)", LMDB, Kind::Store { workers: 1 }, "one file: one transaction of MDB_APPEND, commit, sync; read in a transaction of the memory map", |task| perform(&stores::Lmdb, task)),
    row("rocksdb", "RocksDB", ROCKSDB, Kind::Store { workers: 2 }, "one SST file for each worker, ingested; no compression, ribbon filter, hash index in blocks, block cache large enough", |task| perform(&stores::Rocks, task)),
];

/// A member of [`ALL`].
pub(crate) fn named(id: &str) -> Any<&'static Contender> {
    Ok(ALL
        .iter()
        .find(|contender| contender.id == id)
        .ok_or_else(|| format!("there is no contender {id}"))?)
}
