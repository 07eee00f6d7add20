//! Minimal perfect hash functions of others, each as its documentation recommends for keys like these.

use dsi_progress_logger::no_logging;
use mem_dbg::{MemSize, SizeFlags};
use ph::{
    GetSize,
    phast::{DefaultCompressedArray, Function2, Params, ShiftOnlyWrapped, bits_per_seed_to_100_bucket_size},
    seeds::Bits8,
};
use ptr_hash::{PtrHashParams, bucket_fn::CubicEps, hash::KeyHasher};
use sux::{
    bits::BitFieldVec,
    func::PHastRBuilder,
    traits::{TryIntoUnaligned, Unaligned},
};

use crate::{Any, keys::Key, mphf::Mphf};

/// The first word is random already.
#[derive(Clone)]
pub(crate) struct FirstWord;

impl KeyHasher<Key> for FirstWord {
    type H = u64;

    #[inline(always)]
    fn hash(key: &Key, seed: u64) -> u64 {
        key.words().0 ^ seed
    }
}

/// Keys of one call to PHastR.
const GROUP: usize = 64;
/// How far ahead ptr_hash's stream prefetches, as its documentation has it.
const AHEAD: usize = 32;

/// Linear buckets, one part: the quickest queries.
pub(crate) type PtrHashDefault = ptr_hash::DefaultPtrHash<FirstWord, Key>;
/// Its balanced parameters, in parts that threads build.
pub(crate) type PtrHashParts = ptr_hash::PtrHash<Key, CubicEps, Vec<u32>, FirstWord, Vec<u8>, false>;
/// Smallest, and in parts.
pub(crate) type PtrHashCompact = ptr_hash::CompactPtrHash<FirstWord, Key>;

macro_rules! ptr_hash {
    ($type:ty, $params:expr) => {
        impl Mphf for $type {
            const BATCHED: bool = true;

            fn build(keys: &[Key], _workers: usize) -> Any<Self> {
                Ok(<$type>::try_new(keys, $params).ok_or("ptr_hash found no seed")?)
            }

            fn bytes(&self) -> usize {
                let (pilots, remap) = self.bits_per_element();
                ((pilots + remap) / 8.0 * self.n() as f64) as usize
            }

            #[inline(always)]
            fn number(&self, key: &Key) -> usize {
                self.index(key)
            }

            #[inline(always)]
            fn numbers(&self, keys: &[Key], mut each: impl FnMut(usize)) {
                self.index_stream::<AHEAD, _>(keys).fold((), |(), number| each(number));
            }
        }
    };
}
ptr_hash!(PtrHashDefault, PtrHashParams::default());
ptr_hash!(PtrHashParts, PtrHashParams::default_balanced());
ptr_hash!(PtrHashCompact, PtrHashParams::default_compact());

/// The first word for the first level, so that sorted keys are sorted hashes; all of the key for the others.
#[derive(Clone, Copy, Default)]
pub(crate) struct Levels;

pub(crate) struct LevelHasher {
    seed: u64,
    first: Option<u64>,
    hash: u64,
}

impl std::hash::Hasher for LevelHasher {
    #[inline(always)]
    fn write(&mut self, _bytes: &[u8]) {}

    #[inline(always)]
    fn write_u64(&mut self, word: u64) {
        let Some(first) = self.first else {
            self.first = Some(word);
            self.hash = word;
            return;
        };
        if self.seed != 0 {
            let seeded = first ^ self.seed.wrapping_mul(0x9E37_79B9_7F4A_7C15);
            let product = u128::from(seeded) * u128::from(word ^ 0xE703_7ED1_A0B4_28DB);
            self.hash = (product >> 64) as u64 ^ product as u64;
        }
    }

    #[inline(always)]
    fn finish(&self) -> u64 {
        self.hash
    }
}

impl seedable_hash::BuildSeededHasher for Levels {
    type Hasher = LevelHasher;

    #[inline(always)]
    fn build_hasher(&self, seed: u64) -> LevelHasher {
        LevelHasher { seed, first: None, hash: 0 }
    }
}

/// With eight-bit seeds and shifts that wrap, as its own default is.
pub(crate) type PHastPlus = Function2<Bits8, ShiftOnlyWrapped, DefaultCompressedArray, Levels>;

impl Mphf for PHastPlus {
    const BATCHED: bool = false;

    fn build(keys: &[Key], workers: usize) -> Any<Self> {
        let params = Params::new(Bits8, bits_per_seed_to_100_bucket_size(8));
        Ok(Function2::with_slice_p_threads_hash_sc(keys, &params, workers, Levels, ShiftOnlyWrapped))
    }

    fn bytes(&self) -> usize {
        self.size_bytes()
    }

    #[inline(always)]
    fn number(&self, key: &Key) -> usize {
        self.get(key)
    }

    #[inline(always)]
    fn numbers(&self, keys: &[Key], each: impl FnMut(usize)) {
        keys.iter().map(|key| self.get(key)).for_each(each);
    }
}

pub(crate) type PHastR = sux::func::PHastR<Key>;

impl Mphf for PHastR {
    const BATCHED: bool = true;

    fn build(keys: &[Key], _workers: usize) -> Any<Self> {
        Ok(PHastR::try_par_new(keys, no_logging![])?)
    }

    fn bytes(&self) -> usize {
        self.mem_size(SizeFlags::default())
    }

    #[inline(always)]
    fn number(&self, key: &Key) -> usize {
        self.get(key)
    }

    #[inline(always)]
    fn numbers(&self, keys: &[Key], mut each: impl FnMut(usize)) {
        let (groups, rest) = keys.as_chunks::<GROUP>();
        for group in groups {
            self.get_batch(group.each_ref()).into_iter().for_each(&mut each);
        }
        rest.iter().map(|key| self.get(key)).for_each(each);
    }
}

/// Ten-bit seeds, longer slices and larger buckets: smaller, as its documentation has it.
pub(crate) struct PHastRSmall(Unaligned<sux::func::PHastR<Key, BitFieldVec<Box<[usize]>>>>);

impl Mphf for PHastRSmall {
    const BATCHED: bool = true;

    fn build(keys: &[Key], _workers: usize) -> Any<Self> {
        let builder = PHastRBuilder::default().seed_bits(10).log2_slice_len(11).bucket_size(5.75);
        let function = sux::func::PHastR::<Key, BitFieldVec<Box<[usize]>>>::try_par_new_with_builder(
            keys,
            builder,
            no_logging![],
        )?;
        Ok(PHastRSmall(function.try_into_unaligned()?))
    }

    fn bytes(&self) -> usize {
        self.0.mem_size(SizeFlags::default())
    }

    #[inline(always)]
    fn number(&self, key: &Key) -> usize {
        self.0.get(key)
    }

    #[inline(always)]
    fn numbers(&self, keys: &[Key], mut each: impl FnMut(usize)) {
        let (groups, rest) = keys.as_chunks::<GROUP>();
        for group in groups {
            self.0.get_batch(group.each_ref()).into_iter().for_each(&mut each);
        }
        rest.iter().map(|key| self.0.get(key)).for_each(each);
    }
}
