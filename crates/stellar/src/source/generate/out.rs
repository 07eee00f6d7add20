//! Bytes of XDR, straight into memory.

/// An XDR writer. Amounts and counts are the caller's, and small: nothing here can fail.
#[derive(Debug, Default)]
pub(super) struct Out(pub(super) Vec<u8>);

impl Out {
    pub(super) fn u32(&mut self, value: u32) {
        self.0.extend_from_slice(&value.to_be_bytes());
    }

    pub(super) fn u64(&mut self, value: u64) {
        self.0.extend_from_slice(&value.to_be_bytes());
    }

    /// Several words in a row: discriminants, counts, empty lists.
    pub(super) fn words<const N: usize>(&mut self, words: [u32; N]) {
        self.0.extend_from_slice(words.map(u32::to_be_bytes).as_flattened());
    }

    /// Opaque data of a fixed length, a multiple of four.
    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        debug_assert!(bytes.len().is_multiple_of(4));
        self.0.extend_from_slice(bytes);
    }

    /// Opaque data or a string of variable length.
    pub(super) fn string(&mut self, bytes: &[u8]) {
        self.count(bytes.len());
        self.0.extend_from_slice(bytes);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
    }

    /// The length of a list.
    pub(super) fn count(&mut self, count: usize) {
        debug_assert!(u32::try_from(count).is_ok());
        self.u32(count as u32);
    }
}

/// Kinds of draws, so that an account and a contract of the same number differ.
pub(super) mod kind {
    pub(in super::super) const ACCOUNT: u64 = 1;
    pub(in super::super) const CONTRACT: u64 = 2;
    pub(in super::super) const ASSET: u64 = 3;
    pub(in super::super) const HEADER: u64 = 4;
    pub(in super::super) const LEDGER: u64 = 5;
}

/// SplitMix64 (Steele, Lea and Flood, 2014).
#[derive(Clone, Debug)]
pub(super) struct Draw(u64);

impl Draw {
    /// The draws that belong to a number of some kind: unrelated for each pair, the same every time.
    pub(super) fn of(seed: u64, kind: u64, number: u64) -> Self {
        let mut draw = Draw(seed);
        draw.0 = draw.next() ^ kind.wrapping_mul(0xD6E8_FEB8_6659_FD93);
        draw.0 = draw.next() ^ number;
        draw.0 = draw.next();
        draw
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `bound`, or 0.
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(bound)) >> 64) as u64
    }

    /// A number below `bound`, small ones more often: the product of two uniform draws.
    pub(super) fn skewed(&mut self, bound: u64) -> u64 {
        let first = self.below(bound) + 1;
        self.below(first)
    }

    pub(super) fn percent(&mut self, share: u64) -> bool {
        self.below(100) < share
    }

    pub(super) fn array<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        for chunk in bytes.chunks_mut(8) {
            chunk.copy_from_slice(&self.next().to_be_bytes()[..chunk.len()]);
        }
        bytes
    }
}
