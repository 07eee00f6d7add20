use std::{fmt, str::FromStr};

use crate::{
    Error, Result, bijection,
    format::Header,
    key::{Entry, Key, truncate},
    phast, ptrhash, ribbon,
    simd::Path,
};

/// How an index finds what it keeps for a key. The choice is made when it is built, and is in the file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Algorithm {
    /// Small: about 2.4 bits a key. Buckets of three keys on average, each with a seed of its own.
    #[default]
    Bijection,
    /// Quick to query: about 2.6 bits a key, one byte to look at. After PtrHash (Groot Koerkamp, 2025).
    PtrHash,
    /// Small and quick to query: about 1.9 bits a key, one byte to look at. After PHast (Beling and Sanders, 2025)
    /// and PHastR (Vigna, 2026).
    Fast,
    /// Smallest: what is kept for a key comes out of a few rows of bits, and nothing else is in the file. It has no
    /// ranks, only payloads. After bumped ribbon retrieval (Dillinger, Hübschle-Schneider, Sanders and Walzer, 2022).
    Compact,
}

impl Algorithm {
    /// All of them, in the order of their numbers.
    pub const ALL: [Algorithm; 4] =
        [Algorithm::Bijection, Algorithm::PtrHash, Algorithm::Fast, Algorithm::Compact];

    /// What it is called where a person chooses one: `bijection`, `ptrhash`, `fast`, `compact`.
    pub const fn name(self) -> &'static str {
        match self {
            Algorithm::Bijection => "bijection",
            Algorithm::PtrHash => "ptrhash",
            Algorithm::Fast => "fast",
            Algorithm::Compact => "compact",
        }
    }

    /// Whether each key has a number of its own, and what is kept for it can be read by that number.
    pub const fn has_ranks(self) -> bool {
        !matches!(self, Algorithm::Compact)
    }

    pub(crate) fn number(self) -> u16 {
        self as u16
    }

    pub(crate) fn from_number(number: u16) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }

    /// How many blocks an index of so many keys has. `keys` is at most 2^40, so that the result fits.
    pub(crate) fn blocks(self, keys: u64) -> u32 {
        let (keys_per_bucket, buckets) = match self {
            Algorithm::Bijection => (bijection::KEYS_PER_BUCKET, bijection::BUCKETS),
            Algorithm::PtrHash => (ptrhash::KEYS_PER_BUCKET, ptrhash::BUCKETS),
            Algorithm::Fast => (1.0, phast::KEYS_PER_BLOCK),
            Algorithm::Compact => (1.0, ribbon::KEYS_PER_BLOCK),
        };
        let total_buckets = ((keys as f64 / keys_per_bucket).ceil() as u64).max(1);
        total_buckets.div_ceil(buckets as u64).max(2) as u32
    }

    /// How many bytes of the file tell what the algorithm was told.
    pub(crate) fn config_bytes(self) -> u32 {
        match self {
            Algorithm::Bijection | Algorithm::PtrHash | Algorithm::Fast => 0,
            Algorithm::Compact => 16,
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Algorithm {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let found = Self::ALL.into_iter().find(|algorithm| algorithm.name() == name);
        found.ok_or_else(|| Error::NoSuchAlgorithm { name: name.to_owned() })
    }
}

/// What is wrong with a blob; whoever read it knows the path and the offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Damage(pub(crate) &'static str);

/// What keeps a block from being solved; whoever asked knows the block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unsolved {
    Duplicate(Key),
    Indistinguishable,
    Split { keys: usize },
    Fallback,
    Placement,
    Layers,
}

impl Unsolved {
    pub(crate) fn in_block(self, block: u32) -> Error {
        match self {
            Unsolved::Duplicate(Key { k0, k1 }) => Error::DuplicateKey { block, k0, k1 },
            Unsolved::Indistinguishable => Error::Indistinguishable { block },
            Unsolved::Split { keys } => Error::SplitSearchFailed { block, keys },
            Unsolved::Fallback => Error::FallbackOverflow { block },
            Unsolved::Layers => Error::LayersExhausted { block, layers: ribbon::MAX_LAYERS },
            Unsolved::Placement => Error::PlacementFailed { block, attempts: ptrhash::ATTEMPTS },
        }
    }
}

/// Finds what blobs say of a key; what does not change from key to key is prepared once.
#[derive(Debug)]
pub(crate) enum Decoder {
    Bijection(bijection::Decoder),
    PtrHash(ptrhash::Decoder),
    Fast(phast::Decoder),
    Compact(ribbon::Decoder),
}

impl Decoder {
    pub(crate) fn new(header: &Header) -> Self {
        match header.algorithm {
            Algorithm::Bijection => Decoder::Bijection(bijection::Decoder::new(header.global_seed)),
            Algorithm::PtrHash => Decoder::PtrHash(ptrhash::Decoder::new(header.global_seed)),
            Algorithm::Fast => Decoder::Fast(phast::Decoder::new(header)),
            Algorithm::Compact => Decoder::Compact(ribbon::Decoder::new(header)),
        }
    }

    /// Checks the length of a block's blob as far as the number of its keys tells it.
    pub(crate) fn check_len(&self, blob_bytes: u64, keys: u32) -> Result<(), Damage> {
        match self {
            Decoder::Bijection(_) => bijection::check_len(blob_bytes),
            Decoder::PtrHash(_) => ptrhash::check_len(blob_bytes, keys),
            Decoder::Fast(_) => phast::check_len(blob_bytes, keys),
            Decoder::Compact(decoder) => decoder.check_len(blob_bytes, keys),
        }
    }

    /// Decodes a whole block and checks everything in it that can be checked without its keys.
    pub(crate) fn check(&self, blob: &[u8], keys: u32) -> Result<(), Damage> {
        match self {
            Decoder::Bijection(_) => bijection::check(blob, keys),
            Decoder::PtrHash(_) => ptrhash::check(blob, keys),
            Decoder::Fast(_) => phast::check(blob, keys),
            Decoder::Compact(decoder) => decoder.check(blob, keys),
        }
    }

    /// The same, of portable code alone.
    #[cfg(any(test, feature = "fuzz"))]
    pub(crate) fn into_portable(self) -> Self {
        match self {
            Decoder::Bijection(decoder) => Decoder::Bijection(decoder.into_portable()),
            Decoder::Fast(decoder) => Decoder::Fast(decoder.into_portable()),
            Decoder::Compact(decoder) => Decoder::Compact(decoder.into_portable()),
            other => other,
        }
    }
}

/// Solves one block after another in the same memory.
pub(crate) struct Solver {
    inner: Inner,
    payload_bytes: u8,
    fingerprint_bytes: u8,
}

enum Inner {
    Bijection(Box<bijection::Solver>),
    PtrHash(Box<ptrhash::Solver>),
    Fast(Box<phast::Solver>),
    Compact(Box<ribbon::Solver>),
}

/// Keys with their slots.
pub(crate) enum Placed<'a> {
    /// In an order of the solver's own, word by word.
    Columns {
        /// Xored with `mask`, as are the `k1`.
        k0: &'a [u64],
        k1: &'a [u64],
        mask: u64,
        payloads: &'a [u64],
        slots: &'a [u16],
    },
    /// In the order in which the keys came.
    InPlace { entries: &'a [Entry], slots: &'a [u16] },
    /// The same, of large blocks.
    Wide { entries: &'a [Entry], slots: &'a [u32] },
}

impl Solver {
    pub(crate) fn new(header: &Header, path: Path) -> Self {
        let seed = header.global_seed;
        let inner = match header.algorithm {
            Algorithm::Bijection => Inner::Bijection(Box::new(bijection::Solver::new(seed, path))),
            Algorithm::PtrHash => Inner::PtrHash(Box::new(ptrhash::Solver::new(seed, path))),
            Algorithm::Fast => Inner::Fast(Box::new(phast::Solver::new(header, path))),
            Algorithm::Compact => Inner::Compact(Box::new(ribbon::Solver::new(header, path))),
        };
        Solver { inner, payload_bytes: header.payload_bytes, fingerprint_bytes: header.fingerprint_bytes }
    }

    /// Appends the blob of a block and fills its payload slice, which has one entry per key where there are ranks. At
    /// most 65 535 keys.
    pub(crate) fn solve(
        &mut self,
        entries: &[Entry],
        blob: &mut Vec<u8>,
        payload: &mut [u8],
    ) -> Result<(), Unsolved> {
        self.try_to_solve(entries, blob, payload).map_err(|unsolved| twin(entries).unwrap_or(unsolved))
    }

    fn try_to_solve(
        &mut self,
        entries: &[Entry],
        blob: &mut Vec<u8>,
        payload: &mut [u8],
    ) -> Result<(), Unsolved> {
        let placed = match &mut self.inner {
            Inner::Bijection(solver) => solver.solve(entries, blob)?,
            Inner::PtrHash(solver) => solver.solve(entries, blob)?,
            Inner::Fast(solver) => solver.solve(entries, blob)?,
            Inner::Compact(solver) => return solver.solve(entries, blob),
        };
        place(&placed, self.fingerprint_bytes, self.payload_bytes, payload);
        Ok(())
    }
}

/// A key that a block has twice: whatever else keeps the block from being solved may follow from that.
fn twin(entries: &[Entry]) -> Option<Unsolved> {
    let mut keys: Vec<(u64, u64)> = entries.iter().map(|entry| (entry.key.k0, entry.key.k1)).collect();
    keys.sort_unstable();
    let pair = keys.windows(2).find(|pair| pair[0] == pair[1])?;
    Some(Unsolved::Duplicate(Key { k0: pair[0].0, k1: pair[0].1 }))
}

/// Writes each key's entry at its slot.
fn place(placed: &Placed<'_>, fingerprint_bytes: u8, payload_bytes: u8, out: &mut [u8]) {
    // An entry's size is constant in each copy of the loop, so that it is stored in one or two moves.
    let store = match fingerprint_bytes + payload_bytes {
        0 => return,
        1 => store::<1>,
        2 => store::<2>,
        3 => store::<3>,
        4 => store::<4>,
        5 => store::<5>,
        6 => store::<6>,
        7 => store::<7>,
        8 => store::<8>,
        9 => store::<9>,
        10 => store::<10>,
        11 => store::<11>,
        _ => store::<12>,
    };
    store(placed, fingerprint_bytes, out);
}

fn store<const SIZE: usize>(placed: &Placed<'_>, fingerprint_bytes: u8, out: &mut [u8]) {
    let shift = 8 * u32::from(fingerprint_bytes);
    let (out, _) = out.as_chunks_mut::<SIZE>();
    let mut store = |key: Key, payload: u64, slot: usize| {
        let fingerprint = truncate(key.fingerprint(), fingerprint_bytes);
        let value = u128::from(fingerprint) | u128::from(payload) << shift;
        out[slot].copy_from_slice(&value.to_le_bytes()[..SIZE]);
    };
    match *placed {
        Placed::Columns { k0, k1, mask, payloads, slots } => {
            for ((&payload, &slot), (k0, k1)) in payloads.iter().zip(slots).zip(k0.iter().zip(k1)) {
                store(Key { k0: k0 ^ mask, k1: k1 ^ mask }, payload, slot.into());
            }
        }
        Placed::InPlace { entries, slots } => {
            for (entry, &slot) in entries.iter().zip(slots) {
                store(entry.key, entry.payload, slot.into());
            }
        }
        Placed::Wide { entries, slots } => {
            for (entry, &slot) in entries.iter().zip(slots) {
                store(entry.key, entry.payload, slot as usize);
            }
        }
    }
}
