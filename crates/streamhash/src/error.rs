use std::{io, path::PathBuf, sync::Arc};

use crate::Algorithm;

/// Everything that can go wrong with an index, told apart by what a caller can do about it.
///
/// Cheap to clone, so that a builder can repeat its first error for ever.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The disk refused.
    #[error(transparent)]
    Disk(#[from] icecore_diskio::Error),
    /// An option is outside its range.
    #[error("{what} is {value}, it may be at most {max}")]
    Option {
        /// Which one.
        what: &'static str,
        /// What was asked for.
        value: u64,
        /// The most that the format can hold.
        max: u64,
    },
    /// A key is too short to be told from others, or absurdly long.
    #[error(
        "a key of {len_bytes} bytes; keys have 16 to 65535 uniform bytes: pass anything else through `prehash` first"
    )]
    KeyLength {
        /// Its length.
        len_bytes: usize,
    },
    /// A payload is greater than the index was told to keep.
    #[error("payload {payload:#x} is greater than {max:#x}; raise `payload_bytes` or `max_payload`")]
    PayloadTooLarge {
        /// The payload.
        payload: u64,
        /// The greatest that the index keeps.
        max: u64,
    },
    /// Keys came out of order in a sorted build.
    #[error(
        "a key of block {block} after one of block {previous}: sort the keys bytewise, or build with `UnsortedBuilder`"
    )]
    Unsorted {
        /// The block of the key that came too late.
        block: u32,
        /// The block that had been reached.
        previous: u32,
    },
    /// A key was put into a range that it does not belong to.
    #[error("a key of block {block} in the range of blocks {first}..{end}: add to a range what it contains")]
    OutsideRange {
        /// The block of the key.
        block: u32,
        /// The first block of the range.
        first: u32,
        /// The block after its last one.
        end: u32,
    },
    /// More or fewer keys were added than announced.
    #[error("{added} keys were added, {expected} were announced")]
    KeyCountMismatch {
        /// What was announced.
        expected: u64,
        /// What was added; one more than announced when adding was stopped at once.
        added: u64,
    },
    /// The same key was added twice (or two keys that agree in all that the algorithm looks at).
    #[error(
        "two keys of block {block} are equal, one begins with {k0:016x}, {k1:016x} (little-endian words)"
    )]
    DuplicateKey {
        /// The block.
        block: u32,
        /// The first eight bytes of the key, little-endian.
        k0: u64,
        /// The next eight.
        k1: u64,
    },
    /// No seed tells the keys of a bucket apart.
    #[error("no seed tells some keys of block {block} apart; build again with another global seed")]
    Indistinguishable {
        /// The block.
        block: u32,
    },
    /// No seed cuts a large bucket in two.
    #[error("no seed splits a bucket of {keys} keys in block {block}; build again with another global seed")]
    SplitSearchFailed {
        /// The block.
        block: u32,
        /// The size of the bucket.
        keys: usize,
    },
    /// More seeds of a block need the long form than its list can hold.
    #[error("block {block} has more than 255 long seeds; build again with another global seed")]
    FallbackOverflow {
        /// The block.
        block: u32,
    },
    /// The buckets of a block pushed one another out of their slots without end.
    #[error(
        "the buckets of block {block} found no place in {attempts} attempts; build again with another global seed"
    )]
    PlacementFailed {
        /// The block.
        block: u32,
        /// How often it was tried.
        attempts: u32,
    },
    /// Too many keys of a block fit into none of its layers of rows.
    #[error(
        "some keys of block {block} fit into none of {layers} layers; build again with another global seed"
    )]
    LayersExhausted {
        /// The block.
        block: u32,
        /// How many layers a block may have.
        layers: usize,
    },
    /// An index without ranks was to keep neither payloads nor fingerprints.
    #[error("`compact` keeps payloads and fingerprints and nothing else: ask for a byte of one of them")]
    NothingKept,
    /// The keys are not uniform: far too many fall into one block.
    #[error(
        "block {block} has {keys} keys (max {max}): the keys are not uniform, pass them through `prehash`"
    )]
    BlockOverflow {
        /// The block.
        block: u32,
        /// How many keys fell into it.
        keys: u64,
        /// How many it may hold.
        max: u64,
    },
    /// The caller's progress function asked to stop.
    #[error("the build was cancelled; nothing was written")]
    Cancelled,
    /// The system gave no memory to an unsorted build.
    #[error("cannot have {bytes} bytes of memory: {source}; lower `memory_bytes`")]
    Memory {
        /// How much was wanted.
        bytes: u64,
        /// The system's answer.
        source: Arc<io::Error>,
    },
    /// The system gave no thread to a worker.
    #[error("cannot start a worker thread: {source}; ask for fewer workers")]
    Thread {
        /// The system's answer.
        source: Arc<io::Error>,
    },
    /// A worker thread panicked: a bug in this crate, or in the disk that it was given.
    #[error("a worker panicked while solving or writing block {block}; please report this")]
    WorkerPanicked {
        /// The block it was working on.
        block: u32,
    },
    /// The file does not begin like an index.
    #[error("{} is not an index: magic {magic:#010x} instead of 0x53544d48", path.display())]
    NotAnIndex {
        /// The file.
        path: PathBuf,
        /// What stands in the magic's place.
        magic: u32,
    },
    /// The file is of another version of the format.
    #[error("{} has format version {version}, this program reads version 1", path.display())]
    UnsupportedVersion {
        /// The file.
        path: PathBuf,
        /// Its version.
        version: u16,
    },
    /// The file was built by an algorithm that this program does not know.
    #[error("{} uses algorithm {algorithm}, this program knows {}", path.display(), known())]
    UnknownAlgorithm {
        /// The file.
        path: PathBuf,
        /// The algorithm's number.
        algorithm: u16,
    },
    /// There is no algorithm of this name.
    #[error("no index algorithm is called {name:?}; there are {}", known())]
    NoSuchAlgorithm {
        /// The name.
        name: String,
    },
    /// An index that has payloads by key alone was asked for ranks.
    #[error("{} was built with `compact` and has no ranks: look up keys", path.display())]
    NoRanks {
        /// The file.
        path: PathBuf,
    },
    /// The file's bytes contradict the format or its own hashes. Build it again.
    #[error("{} is damaged at offset {offset}: {what}; build it again", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// Where.
        offset: u64,
        /// What is wrong there.
        what: &'static str,
    },
    /// A rank beyond the last key was asked for.
    #[error("rank {rank} of an index of {keys} keys")]
    RankOutOfRange {
        /// The rank.
        rank: u64,
        /// How many there are.
        keys: u64,
    },
}

impl Error {
    /// True where the same keys can be built with another global seed.
    pub fn wants_other_seed(&self) -> bool {
        matches!(
            self,
            Error::Indistinguishable { .. }
                | Error::SplitSearchFailed { .. }
                | Error::FallbackOverflow { .. }
                | Error::PlacementFailed { .. }
                | Error::LayersExhausted { .. }
        )
    }

    /// True where the file itself is at fault: damaged, cut short or of another kind.
    pub fn is_corrupt(&self) -> bool {
        use icecore_diskio::Error as Disk;
        matches!(self, Error::Corrupt { .. } | Error::NotAnIndex { .. } | Error::Disk(Disk::PastEnd { .. }))
    }
}

/// The names of all algorithms with their numbers.
fn known() -> String {
    let known = Algorithm::ALL.map(|algorithm| format!("{algorithm} ({})", algorithm.number()));
    known.join(", ")
}

/// The result of anything done with an index.
pub type Result<T, E = Error> = std::result::Result<T, E>;
