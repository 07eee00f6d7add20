use icecore_diskio::IfExists;

use crate::{
    Algorithm, Error, Result,
    format::{Header, MAX_FINGERPRINT_BYTES, MAX_PAYLOAD_BYTES, max_payload},
    simd::Path,
};

/// What to build, and how. The bytes of the file depend on none but the first six.
///
/// ```
/// use icecore_streamhash::{Algorithm, Options};
///
/// let options = Options::new().payload_bytes(3).fingerprint_bytes(1).workers(2);
/// ```
#[derive(Clone, Debug)]
pub struct Options {
    algorithm: Algorithm,
    payload_bytes: u8,
    fingerprint_bytes: u8,
    global_seed: u64,
    max_payload: u64,
    pub(super) user_metadata: Vec<u8>,
    pub(super) workers: usize,
    pub(super) if_exists: IfExists,
    pub(super) memory_bytes: usize,
    pub(super) range_keys: u64,
    pub(super) path: Path,
}

impl Default for Options {
    fn default() -> Self {
        Self::new()
    }
}

impl Options {
    /// The seed of files that ask for no other.
    pub const DEFAULT_SEED: u64 = 0x1234_5678_90AB_CDEF;

    /// Bijection, no payload, no fingerprint, one worker, an existing file is left alone.
    pub fn new() -> Self {
        Options {
            algorithm: Algorithm::default(),
            payload_bytes: 0,
            fingerprint_bytes: 0,
            global_seed: Self::DEFAULT_SEED,
            max_payload: u64::MAX,
            user_metadata: Vec::new(),
            workers: 1,
            if_exists: IfExists::Fail,
            memory_bytes: 128 << 20,
            range_keys: 1 << 16,
            path: Path::best(),
        }
    }

    /// How keys are placed in a block.
    pub fn algorithm(mut self, algorithm: Algorithm) -> Self {
        self.algorithm = algorithm;
        self
    }

    /// How many bytes of payload to keep with each key, 0 to 8.
    pub fn payload_bytes(mut self, bytes: u8) -> Self {
        self.payload_bytes = bytes;
        self
    }

    /// The greatest payload that there will be, which [`Algorithm::Compact`] makes use of: where payloads are less than
    /// their bytes could hold, foreign keys pass as much more seldom.
    pub fn max_payload(mut self, payload: u64) -> Self {
        self.max_payload = payload;
        self
    }

    /// How many bytes of fingerprint to keep with each key, 0 to 4: a foreign key passes for one of the index with a
    /// probability of 256^-bytes.
    pub fn fingerprint_bytes(mut self, bytes: u8) -> Self {
        self.fingerprint_bytes = bytes;
        self
    }

    /// Another seed, for keys that could not be told apart with the last one.
    pub fn global_seed(mut self, seed: u64) -> Self {
        self.global_seed = seed;
        self
    }

    /// Bytes of the caller's to keep in the file.
    pub fn user_metadata(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.user_metadata = bytes.into();
        self
    }

    /// How many threads solve blocks, at most 1024. With one (or 0) it is the caller's own.
    pub fn workers(mut self, count: usize) -> Self {
        self.workers = count;
        self
    }

    /// What to do about an existing file of the same name.
    pub fn if_exists(mut self, if_exists: IfExists) -> Self {
        self.if_exists = if_exists;
        self
    }

    /// Memory in which an unsorted build sets keys aside, 16 bytes and its payload for each: 128 MiB unless told. What does
    /// not fit goes to a nameless file beside the index. It is raised where it is less than a small buffer for each
    /// partition needs (32 MB for ten thousand million keys). Not in it are 50 bytes per block of about three thousand
    /// keys, and for each worker 27 bytes for each key of a partition (mostly 65 536 keys, never more than fill this
    /// memory) and what a few partitions come to in the file.
    pub fn memory_bytes(mut self, bytes: usize) -> Self {
        self.memory_bytes = bytes;
        self
    }

    /// About how many keys a worker of a [`RangeBuilder`](crate::RangeBuilder) takes at a time; at least a block's.
    pub fn range_keys(mut self, keys: u64) -> Self {
        self.range_keys = keys;
        self
    }

    /// Which instructions to use; the best that there are unless told. For tests and measurements: the file is the same.
    #[doc(hidden)]
    pub fn path(mut self, path: Path) -> Self {
        self.path = path;
        self
    }

    pub(super) fn header(&self, keys: u64) -> Result<Header> {
        let within = |what, value: u64, max: u64| match value {
            _ if value > max => Err(Error::Option { what, value, max }),
            _ => Ok(()),
        };
        within("payload_bytes", self.payload_bytes.into(), MAX_PAYLOAD_BYTES.into())?;
        within("fingerprint_bytes", self.fingerprint_bytes.into(), MAX_FINGERPRINT_BYTES.into())?;
        within("the length of the user metadata", self.user_metadata.len() as u64, u32::MAX.into())?;
        let header = Header {
            keys,
            blocks: self.algorithm.blocks(keys),
            payload_bytes: self.payload_bytes,
            fingerprint_bytes: self.fingerprint_bytes,
            global_seed: self.global_seed,
            algorithm: self.algorithm,
            max_payload: self.max_payload.min(max_payload(self.payload_bytes)),
        };
        header.check_algorithm()?;
        Ok(header)
    }
}
