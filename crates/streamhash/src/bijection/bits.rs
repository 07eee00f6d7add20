//! Bit strings, least significant bit first.

/// Appends bits to a byte vector.
pub(super) struct BitWriter<'a> {
    out: &'a mut Vec<u8>,
    start: usize,
    word: u64,
    held: u32,
}

impl<'a> BitWriter<'a> {
    pub(super) fn new(out: &'a mut Vec<u8>) -> Self {
        BitWriter { start: out.len(), out, word: 0, held: 0 }
    }

    /// Appends the `count` (at most 32) low bits of `bits`, whose others are zero.
    #[inline(always)]
    pub(super) fn put(&mut self, bits: u64, count: u32) {
        self.word |= bits << self.held;
        self.held += count;
        if self.held >= 32 {
            self.out.extend_from_slice(&(self.word as u32).to_le_bytes());
            self.word >>= 32;
            self.held -= 32;
        }
    }

    /// How many bits were put.
    pub(super) fn len_bits(&self) -> usize {
        (self.out.len() - self.start) * 8 + self.held as usize
    }

    /// Pads with zeros to a byte.
    pub(super) fn finish(self) {
        let rest = self.held.div_ceil(8) as usize;
        self.out.extend_from_slice(&self.word.to_le_bytes()[..rest]);
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
        let mut out = vec![0xAA];
        let mut writer = BitWriter::new(&mut out);
        let parts: Vec<(u64, u32)> =
            (0..500u64).map(|i| ((i * 0x9E37_79B9) & ((1 << (i % 33)) - 1), (i % 33) as u32)).collect();
        for &(bits, count) in &parts {
            writer.put(bits, count);
        }
        let total: usize = parts.iter().map(|p| p.1 as usize).sum();
        assert_eq!(writer.len_bits(), total);
        writer.finish();
        assert_eq!(out.len(), 1 + total.div_ceil(8));
        let mut at = 8;
        for (bits, count) in parts {
            assert_eq!(peek(&out, at) & ((1 << count) - 1), bits);
            at += count as usize;
        }
        assert_eq!(peek(&out, at + 100), 0);
        assert_eq!(peek(&out, usize::MAX), 0);
    }
}
