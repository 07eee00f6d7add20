//! Where a term's key goes in a table in memory.

use std::hash::{BuildHasher, Hasher, RandomState};

/// Hashes keys that are uniform already: one multiplication for each half with a secret of this table, because whoever
/// chooses the values of terms could otherwise make many keys meet in one bucket.
#[derive(Clone, Debug)]
pub(crate) struct UniformKeys {
    secret: u64,
}

impl Default for UniformKeys {
    fn default() -> Self {
        // A model must run the same way each time.
        UniformKeys { secret: if cfg!(loom) { 0 } else { RandomState::new().hash_one(0u8) } }
    }
}

impl BuildHasher for UniformKeys {
    type Hasher = UniformHasher;

    fn build_hasher(&self) -> UniformHasher {
        UniformHasher { state: self.secret }
    }
}

pub(crate) struct UniformHasher {
    state: u64,
}

impl Hasher for UniformHasher {
    fn write(&mut self, bytes: &[u8]) {
        for word in bytes.chunks(8) {
            let mut padded = [0; 8];
            padded[..word.len()].copy_from_slice(word);
            let product = u128::from(self.state ^ u64::from_le_bytes(padded)) * 0x9E37_79B9_7F4A_7C15;
            self.state = (product >> 64) as u64 ^ product as u64;
        }
    }

    /// The length of a key says nothing.
    fn write_usize(&mut self, _: usize) {}

    fn finish(&self) -> u64 {
        self.state
    }
}
