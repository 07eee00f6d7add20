/// SplitMix64 (Steele, Lea and Flood, 2014): every seed gives a full-period sequence, so any number will do as one.
#[derive(Clone, Debug)]
pub struct SplitMix64(u64);

impl SplitMix64 {
    /// A generator whose state is `seed`.
    pub fn new(seed: u64) -> Self {
        SplitMix64(seed)
    }

    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `bound` (which is not 0); the slight bias does not matter to a test.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next_u64() % bound
    }

    /// Sixteen bytes: two draws, little-endian. What a uniform key looks like.
    pub fn key(&mut self) -> [u8; 16] {
        let mut key = [0; 16];
        key[..8].copy_from_slice(&self.next_u64().to_le_bytes());
        key[8..].copy_from_slice(&self.next_u64().to_le_bytes());
        key
    }

    /// A byte item of 0 to `max_len` bytes that compresses about by half: one draw per eight bytes, high nibbles zero.
    pub fn item(&mut self, max_len: usize) -> Vec<u8> {
        let len = self.below(max_len as u64 + 1) as usize;
        let mut item = Vec::with_capacity(len + 8);
        while item.len() < len {
            item.extend_from_slice(&(self.next_u64() & 0x0F0F_0F0F_0F0F_0F0F).to_le_bytes());
        }
        item.truncate(len);
        item
    }
}
