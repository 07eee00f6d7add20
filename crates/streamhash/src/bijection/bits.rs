//! Bit strings, least significant bit first.

/// The most bits that can be put at once.
pub(super) const MAX_PUT: u32 = 56;

/// Bits that are collected, up to about `LEN` bytes of them.
pub(super) struct BitStream<const LEN: usize> {
    bytes: [u8; LEN],
    /// Whole bytes that are there.
    len: usize,
    /// The bits after them, fewer than 8.
    word: u64,
    held: u32,
}

impl<const LEN: usize> BitStream<LEN> {
    pub(super) fn new() -> Self {
        BitStream { bytes: [0; LEN], len: 0, word: 0, held: 0 }
    }

    pub(super) fn clear(&mut self) {
        (self.len, self.word, self.held) = (0, 0, 0);
    }

    /// How many bits were put.
    pub(super) fn len_bits(&self) -> usize {
        self.len * 8 + self.held as usize
    }

    /// Appends the `count` (at most [`MAX_PUT`]) low bits of `bits`, whose others are zero. A whole word is stored each
    /// time: the last seven bytes are for that.
    #[inline(always)]
    pub(super) fn put(&mut self, bits: u64, count: u32) {
        self.word |= bits << self.held;
        self.held += count;
        self.bytes[self.len..self.len + 8].copy_from_slice(&self.word.to_le_bytes());
        self.len += (self.held / 8) as usize;
        self.word >>= self.held & !7;
        self.held %= 8;
    }

    /// All bits, padded with zeros to a byte.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len + usize::from(self.held > 0)]
    }
}

/// At least the next 57 bits from `bit` on, 64 where `bit` is the first of a byte; zeros follow the end.
#[inline(always)]
pub(super) fn peek(bytes: &[u8], bit: usize) -> u64 {
    let tail = bytes.get(bit / 8..).unwrap_or_default();
    let word = match tail.first_chunk::<8>() {
        Some(word) => u64::from_le_bytes(*word),
        None => peek_end(tail),
    };
    word >> (bit % 8)
}

#[cold]
fn peek_end(tail: &[u8]) -> u64 {
    tail.iter().rev().fold(0, |word, &byte| word << 8 | u64::from(byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_is_read() {
        let parts: Vec<(u64, u32)> = (0..500u64)
            .map(|i| (i.wrapping_mul(0x9E37_79B9_7F4A_7C15) & ((1 << (i % 57)) - 1), (i % 57) as u32))
            .collect();
        let mut stream = BitStream::<2000>::new();
        for _ in 0..2 {
            stream.clear();
            for &(bits, count) in &parts {
                stream.put(bits, count);
            }
        }
        let total: usize = parts.iter().map(|p| p.1 as usize).sum();
        assert_eq!(stream.len_bits(), total);
        let out = stream.bytes();
        assert_eq!(out.len(), total.div_ceil(8));
        let mut at = 0;
        for (bits, count) in parts {
            assert_eq!(peek(out, at) & ((1 << count) - 1), bits);
            at += count as usize;
        }
        assert_eq!(peek(out, at + 100), 0);
        assert_eq!(peek(out, usize::MAX), 0);
    }
}
