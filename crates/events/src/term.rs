//! A term is one indexed field with its value; its key stands for it in every index.
//!
//! ```text
//! field   0 contract id · 1..=4 topic 0..=3
//! key     xxh3_128(field byte ‖ value): low half, then high half, each little-endian
//! ```

use icecore_ledger::EventFields;

/// The key of a term: 16 uniform bytes.
///
/// The hash has no secret, so whoever chooses values can make two terms share a key; results are therefore checked
/// against the event itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TermKey(pub [u8; 16]);

impl TermKey {
    /// The key of a term. For many, [`TermHasher`] saves the allocation.
    ///
    /// ```
    /// use icecore_events::TermKey;
    ///
    /// assert_ne!(TermKey::new(0, b"transfer"), TermKey::new(1, b"transfer"));
    /// ```
    pub fn new(field: u8, value: &[u8]) -> Self {
        TermHasher::default().key(field, value)
    }

    /// The first four bytes, kept beside the bitmap to reject terms that are not there.
    pub(crate) fn prefix(&self) -> [u8; PREFIX_BYTES] {
        let TermKey([a, b, c, d, ..]) = *self;
        [a, b, c, d]
    }
}

/// The bytes of a key that are kept beside its bitmap.
pub(crate) const PREFIX_BYTES: usize = 4;

/// Makes keys of terms with one buffer for all.
#[derive(Clone, Debug, Default)]
pub struct TermHasher {
    buffer: Vec<u8>,
}

impl TermHasher {
    /// The key of a term.
    pub fn key(&mut self, field: u8, value: &[u8]) -> TermKey {
        self.buffer.clear();
        self.buffer.push(field);
        self.buffer.extend_from_slice(value);
        TermKey(icecore_streamhash::prehash(&self.buffer))
    }

    /// The keys of all indexed fields of an event: contract, then topics.
    pub fn keys<'a>(&'a mut self, fields: &'a EventFields<'_>) -> impl Iterator<Item = TermKey> + 'a {
        fields.terms().map(|(field, value)| self.key(field, value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_hash_the_field_before_the_value() {
        let long = vec![9; 1000];
        let fields = EventFields { contract: Some(b"c"), topics: [Some(b"t"), Some(&long), None, None] };
        let mut hasher = TermHasher::default();
        let keys: Vec<_> = hasher.keys(&fields).collect();
        let mut two = vec![2];
        two.extend(&long);
        let expected =
            [b"\0c".as_slice(), b"\x01t", &two].map(|bytes| TermKey(icecore_streamhash::prehash(bytes)));
        assert_eq!(keys, expected);
        assert_eq!(TermKey::new(2, &long), expected[2]);
    }
}
