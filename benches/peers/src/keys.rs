//! The keys that all structures are given, and what each is to answer.

use std::{
    borrow::Borrow,
    fs::File,
    hash::{Hash, Hasher},
    io::{BufReader, BufWriter, Read, Write},
    path::Path,
};

use icecore_testkit::SplitMix64;
use sux::utils::ToSig;

use crate::Any;

/// Bytes of a payload, of a fingerprint, and of both.
pub(crate) const PAYLOAD_BYTES: u8 = 3;
pub(crate) const FINGERPRINT_BYTES: u8 = 1;
pub(crate) const CONTENT_BITS: f64 = 32.0;

/// A uniform key. Peers that hash keys get the cheapest sound hash of one: its first word, or one multiplication, where
/// that is enough.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key(pub(crate) [u8; 16]);

impl Key {
    /// Two words; the first has the order of the bytes, so that sorted keys are sorted numbers for everybody.
    #[inline(always)]
    pub(crate) fn words(&self) -> (u64, u64) {
        let word = u128::from_be_bytes(self.0);
        ((word >> 64) as u64, word as u64)
    }

    /// One of `places`, by the first word.
    #[inline(always)]
    pub(crate) fn place(&self, places: usize) -> usize {
        ((u128::from(self.words().0) * places as u128) >> 64) as usize
    }

    /// A hash that depends on all of the key and of the seed.
    #[inline(always)]
    pub(crate) fn hash_with(&self, seed: u64) -> u64 {
        let (first, second) = self.words();
        let product = u128::from(first ^ seed) * u128::from(second ^ 0xE703_7ED1_A0B4_28DB);
        (product >> 64) as u64 ^ product as u64
    }

    /// What tells members of a table from most others: bits that the peers' first word does not have.
    #[inline(always)]
    pub(crate) fn fingerprint(&self) -> u32 {
        u32::from(self.0[15])
    }

    /// What the structure is to answer: a number below [`payloads`] that has nothing to do with the key's place.
    #[inline(always)]
    pub(crate) fn payload(&self, payloads: u32) -> u32 {
        let scattered = self.words().1.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        ((u128::from(scattered) * u128::from(payloads)) >> 64) as u32
    }
}

/// How many payloads there are: as many as keys, as far as three bytes go.
pub(crate) fn payloads(keys: usize) -> u32 {
    keys.clamp(1, 1 << 24) as u32
}

impl AsRef<[u8]> for Key {
    #[inline(always)]
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Hash for Key {
    #[inline(always)]
    fn hash<H: Hasher>(&self, state: &mut H) {
        let (first, second) = self.words();
        state.write_u64(first);
        state.write_u64(second);
    }
}

impl ToSig<[u64; 1]> for Key {
    #[inline(always)]
    fn to_sig(key: impl Borrow<Self>, seed: u64) -> [u64; 1] {
        [key.borrow().hash_with(seed)]
    }
}

/// What the peer itself does with a number of 16 bytes: its hypergraphs ask for more than a multiplication gives.
impl ToSig<[u64; 2]> for Key {
    #[inline(always)]
    fn to_sig(key: impl Borrow<Self>, seed: u64) -> [u64; 2] {
        u128::to_sig(u128::from_ne_bytes(key.borrow().0), seed)
    }
}

/// In no order.
pub(crate) fn generate(count: usize) -> Vec<Key> {
    let mut rng = SplitMix64::new(1);
    (0..count).map(|_| Key(rng.key())).collect()
}

/// Keys to ask for: members, and strangers.
pub(crate) fn queries(keys: &[Key], count: usize) -> (Vec<Key>, Vec<Key>) {
    let mut rng = SplitMix64::new(2);
    let members = (0..count).map(|_| keys[rng.below(keys.len() as u64) as usize]).collect();
    (members, (0..count).map(|_| Key(rng.key())).collect())
}

/// Keeps keys for the processes that measure.
pub(crate) fn save(path: &Path, keys: &[Key]) -> Any {
    let mut out = BufWriter::with_capacity(1 << 20, File::create_new(path)?);
    for key in keys {
        out.write_all(&key.0)?;
    }
    Ok(out.flush()?)
}

pub(crate) fn load(path: &Path, count: usize) -> Any<Vec<Key>> {
    let mut bytes = BufReader::with_capacity(1 << 20, File::open(path)?);
    let mut keys = Vec::with_capacity(count);
    for _ in 0..count {
        let mut key = Key::default();
        bytes.read_exact(&mut key.0)?;
        keys.push(key);
    }
    Ok(keys)
}
