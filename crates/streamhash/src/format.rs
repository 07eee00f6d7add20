//! The file around the blocks. All integers are little-endian; a u40 has five bytes.
//!
//! ```text
//! 0        header         64
//!          0 magic u32 · 4 version u16 · 6 keys u64 · 14 blocks u32 · 18 payload_bytes u32 · 22 fingerprint_bytes u8
//!          23 global_seed u64 · 31 algorithm u16 · 33 zeros
//! 64       user metadata  u32 length, bytes
//!          config         u32 length, bytes: none, but with compact
//!          0 greatest payload u64 · 8 hash of header, user metadata and greatest payload u64
//!          table          (blocks + 1) × (u40 keys before, u40 blob offset); the last one is (keys, all blobs' length)
//!          payload        keys × (fingerprint, payload), in the order of ranks; nothing where there are no ranks
//!          metadata       one blob per block
//! end-32   footer         0 payload hash u64 · 8 metadata hash u64 · 16 zeros
//! ```
//!
//! ```text
//! algorithm    0 Bijection · 1 PTRHash · 2 Fast · 3 Compact
//! ```
//!
//! Everything but the length of the metadata region is known from the header and the user metadata's length.

use xxhash_rust::xxh64::Xxh64;

use crate::{Algorithm, Error, Result, algorithm::Damage, ribbon};

pub(crate) const HEADER_BYTES: usize = 64;
pub(crate) const TABLE_ENTRY_BYTES: usize = 10;
pub(crate) const FOOTER_BYTES: usize = 32;
pub(crate) const MAX_KEYS: u64 = (1 << 40) - 1;
pub(crate) const MAX_PAYLOAD_BYTES: u8 = 8;
pub(crate) const MAX_FINGERPRINT_BYTES: u8 = 4;
/// No block's blob is longer, whatever its algorithm and its keys.
pub(crate) const MAX_BLOB_BYTES: u64 = (1 << 20) - 1;
/// The table has five bytes for where a blob begins.
pub(crate) const MAX_METADATA_BYTES: u64 = (1 << 40) - 1;

const MAGIC: u32 = 0x5354_4D48;
const VERSION: u16 = 1;

const AT_VERSION: usize = 4;
const AT_KEYS: usize = 6;
const AT_BLOCKS: usize = 14;
const AT_PAYLOAD_BYTES: usize = 18;
const AT_FINGERPRINT_BYTES: usize = 22;
const AT_SEED: usize = 23;
const AT_ALGORITHM: usize = 31;
const AT_RESERVED: usize = 33;
const _: () =
    assert!(AT_VERSION + 2 == AT_KEYS && AT_KEYS + 8 == AT_BLOCKS && AT_BLOCKS + 4 == AT_PAYLOAD_BYTES);
const _: () = assert!(AT_PAYLOAD_BYTES + 4 == AT_FINGERPRINT_BYTES && AT_FINGERPRINT_BYTES + 1 == AT_SEED);
const _: () =
    assert!(AT_SEED + 8 == AT_ALGORITHM && AT_ALGORITHM + 2 == AT_RESERVED && AT_RESERVED < HEADER_BYTES);
const _: () = assert!(FOOTER_BYTES == 8 + 8 + 16 && TABLE_ENTRY_BYTES == 5 + 5);

/// What an index was built with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Header {
    /// How many keys it holds.
    pub keys: u64,
    /// Into how many blocks they fall.
    pub blocks: u32,
    /// Payload bytes per key, 0 to 8.
    pub payload_bytes: u8,
    /// Fingerprint bytes per key, 0 to 4.
    pub fingerprint_bytes: u8,
    /// Stirred into every hash.
    pub global_seed: u64,
    /// How keys are found.
    pub algorithm: Algorithm,
    /// No payload is greater. In the file where the algorithm makes use of it, else as much as the payload's bytes hold.
    pub max_payload: u64,
}

/// Where the regions of a file begin, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Layout {
    /// The block table.
    pub table_at: u64,
    /// The payload region.
    pub payload_at: u64,
    /// The metadata region.
    pub metadata_at: u64,
}

fn get<const N: usize>(bytes: &[u8; HEADER_BYTES], at: usize) -> u64 {
    let mut word = [0; 8];
    word[..N].copy_from_slice(&bytes[at..at + N]);
    u64::from_le_bytes(word)
}

/// The greatest payload of so many bytes.
pub(crate) fn max_payload(payload_bytes: u8) -> u64 {
    u64::MAX.checked_shr(u64::BITS - 8 * u32::from(payload_bytes)).unwrap_or(0)
}

impl Header {
    /// Bytes per key in the payload region, which only an index with ranks has.
    pub fn entry_bytes(&self) -> usize {
        if self.algorithm.has_ranks() { self.kept_bytes() } else { 0 }
    }

    /// Bytes of payload and fingerprint.
    pub(crate) fn kept_bytes(&self) -> usize {
        usize::from(self.payload_bytes) + usize::from(self.fingerprint_bytes)
    }

    /// How many keys a block may hold.
    pub fn max_block_keys(&self) -> u64 {
        let average = self.keys as f64 / f64::from(self.blocks);
        (average + 7.0 * average.sqrt()) as u64
    }

    pub(crate) fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut out = [0; HEADER_BYTES];
        let mut put = |at: usize, bytes: &[u8]| out[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, &MAGIC.to_le_bytes());
        put(AT_VERSION, &VERSION.to_le_bytes());
        put(AT_KEYS, &self.keys.to_le_bytes());
        put(AT_BLOCKS, &self.blocks.to_le_bytes());
        put(AT_PAYLOAD_BYTES, &u32::from(self.payload_bytes).to_le_bytes());
        put(AT_FINGERPRINT_BYTES, &[self.fingerprint_bytes]);
        put(AT_SEED, &self.global_seed.to_le_bytes());
        put(AT_ALGORITHM, &self.algorithm.number().to_le_bytes());
        out
    }

    /// Decodes and checks a header against itself.
    pub(crate) fn decode(bytes: &[u8; HEADER_BYTES], path: &std::path::Path) -> Result<Self> {
        let path = || path.to_path_buf();
        let corrupt = |at: usize, what| Error::Corrupt { path: path(), offset: at as u64, what };
        let magic = get::<4>(bytes, 0) as u32;
        if magic != MAGIC {
            return Err(Error::NotAnIndex { path: path(), magic });
        }
        let version = get::<2>(bytes, AT_VERSION) as u16;
        if version != VERSION {
            return Err(Error::UnsupportedVersion { path: path(), version });
        }
        let number = get::<2>(bytes, AT_ALGORITHM) as u16;
        let algorithm = Algorithm::from_number(number);
        let algorithm = algorithm.ok_or(Error::UnknownAlgorithm { path: path(), algorithm: number })?;
        let narrow = |at, value, max: u8, what| match u8::try_from(value) {
            Ok(small) if small <= max => Ok(small),
            _ => Err(corrupt(at, what)),
        };
        let header = Header {
            keys: get::<8>(bytes, AT_KEYS),
            blocks: get::<4>(bytes, AT_BLOCKS) as u32,
            payload_bytes: narrow(
                AT_PAYLOAD_BYTES,
                get::<4>(bytes, AT_PAYLOAD_BYTES),
                MAX_PAYLOAD_BYTES,
                "payload size out of range",
            )?,
            fingerprint_bytes: narrow(
                AT_FINGERPRINT_BYTES,
                get::<1>(bytes, AT_FINGERPRINT_BYTES),
                MAX_FINGERPRINT_BYTES,
                "fingerprint size out of range",
            )?,
            global_seed: get::<8>(bytes, AT_SEED),
            algorithm,
            max_payload: 0,
        };
        let header = Header { max_payload: max_payload(header.payload_bytes), ..header };
        if header.keys > MAX_KEYS {
            return Err(corrupt(AT_KEYS, "more keys than the format allows"));
        }
        if header.blocks != algorithm.blocks(header.keys) {
            return Err(corrupt(AT_BLOCKS, "the number of blocks does not follow from the number of keys"));
        }
        if header.check_algorithm().is_err() {
            return Err(corrupt(AT_PAYLOAD_BYTES, "more or less is kept than the algorithm can keep"));
        }
        if bytes[AT_RESERVED..].iter().any(|&b| b != 0) {
            return Err(corrupt(AT_RESERVED, "reserved bytes are not zero"));
        }
        Ok(header)
    }

    /// Checks what the algorithm cannot do.
    pub(crate) fn check_algorithm(&self) -> Result<()> {
        match self.algorithm {
            Algorithm::Bijection | Algorithm::PtrHash | Algorithm::Fast => Ok(()),
            Algorithm::Compact => ribbon::check_header(self),
        }
    }

    /// What the file keeps for the algorithm.
    pub(crate) fn encode_config(&self, user_metadata: &[u8]) -> Vec<u8> {
        match self.algorithm {
            Algorithm::Bijection | Algorithm::PtrHash | Algorithm::Fast => Vec::new(),
            Algorithm::Compact => {
                let mut hash = Xxh64::new(0);
                hash.update(&self.encode());
                hash.update(user_metadata);
                hash.update(&self.max_payload.to_le_bytes());
                [self.max_payload, hash.digest()].map(u64::to_le_bytes).concat()
            }
        }
    }

    /// Takes over what [`encode_config`](Header::encode_config) wrote.
    pub(crate) fn decode_config(&mut self, config: &[u8], user_metadata: &[u8]) -> Result<(), Damage> {
        if let (Algorithm::Compact, Some(word)) = (self.algorithm, config.first_chunk()) {
            let max_payload = u64::from_le_bytes(*word);
            if max_payload > self.max_payload {
                return Err(Damage("the greatest payload has more bytes than a payload"));
            }
            self.max_payload = max_payload;
        }
        if config != self.encode_config(user_metadata) {
            return Err(Damage("the hash over header, user metadata and greatest payload is another"));
        }
        Ok(())
    }

    pub(crate) fn layout(&self, user_metadata_bytes: u32) -> Layout {
        let config_bytes = u64::from(self.algorithm.config_bytes());
        let table_at = HEADER_BYTES as u64 + 4 + u64::from(user_metadata_bytes) + 4 + config_bytes;
        let payload_at = table_at + (u64::from(self.blocks) + 1) * TABLE_ENTRY_BYTES as u64;
        Layout { table_at, payload_at, metadata_at: payload_at + self.keys * self.entry_bytes() as u64 }
    }
}

/// One entry of the block table: what comes before the block.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct TableEntry {
    pub(crate) keys_before: u64,
    pub(crate) blob_at: u64,
}

impl TableEntry {
    pub(crate) fn encode(self) -> [u8; TABLE_ENTRY_BYTES] {
        let both = u128::from(self.keys_before) | u128::from(self.blob_at) << 40;
        let mut out = [0; TABLE_ENTRY_BYTES];
        out.copy_from_slice(&both.to_le_bytes()[..TABLE_ENTRY_BYTES]);
        out
    }

    pub(crate) fn decode(bytes: &[u8; TABLE_ENTRY_BYTES]) -> Self {
        let mut word = [0; 16];
        word[..TABLE_ENTRY_BYTES].copy_from_slice(bytes);
        let both = u128::from_le_bytes(word);
        TableEntry { keys_before: both as u64 & MAX_KEYS, blob_at: (both >> 40) as u64 }
    }
}

/// The hashes at the end of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Footer {
    pub(crate) payload_hash: u64,
    pub(crate) metadata_hash: u64,
}

impl Footer {
    pub(crate) fn encode(self) -> [u8; FOOTER_BYTES] {
        let mut out = [0; FOOTER_BYTES];
        out[..8].copy_from_slice(&self.payload_hash.to_le_bytes());
        out[8..16].copy_from_slice(&self.metadata_hash.to_le_bytes());
        out
    }

    /// `None` where the reserved bytes are not zero.
    pub(crate) fn decode(bytes: &[u8; FOOTER_BYTES]) -> Option<Self> {
        let [payload, metadata, zeros @ ..] = [0, 8, 16, 24].map(|at| {
            let mut word = [0; 8];
            word.copy_from_slice(&bytes[at..at + 8]);
            u64::from_le_bytes(word)
        });
        (zeros == [0, 0]).then_some(Footer { payload_hash: payload, metadata_hash: metadata })
    }
}
