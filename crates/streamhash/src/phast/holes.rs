//! Where the slots of the later levels are: a non-decreasing sequence of slots of the block, in Elias and Fano's code.
//!
//! ```text
//! low_bits = floor(log2(slots of the block / values)), 0 where there are more values than slots
//!
//! u32 × ceil(values / 512)    where in the high bits the 1 of each 512th value is
//! values × low_bits           the values' low bits
//! values + (slots >> low_bits) the high bits: for each value as many zeros as they grow, then a 1; to whole bytes
//! ```

use crate::{algorithm::Damage, prefetch::prefetch};

const VALUES_PER_SAMPLE: usize = 512;
const SAMPLE_BYTES: usize = 4;

const CUT: Damage = Damage("a block's list of holes is cut short");
const LEAVES: Damage = Damage("a hole is outside its block");

/// Where the parts of the code are, in bytes from its beginning.
#[derive(Clone, Copy)]
struct Parts {
    low_bits: u32,
    low_at: usize,
    high_at: usize,
    end: usize,
}

impl Parts {
    /// `values` is at most 2^24 or so, and not 0.
    fn new(values: usize, slots: u32) -> Self {
        // Without a division, which takes as long as all the rest.
        let (slots_log, values_log) = (slots.checked_ilog2().unwrap_or(0), values.ilog2());
        let low_bits = slots_log.saturating_sub(values_log);
        let low_bits = low_bits.saturating_sub(u32::from(values << low_bits > slots as usize));
        let low_at = values.div_ceil(VALUES_PER_SAMPLE) * SAMPLE_BYTES;
        let high_at = low_at + (values * low_bits as usize).div_ceil(8);
        let high_bits = values + (slots >> low_bits) as usize;
        Parts { low_bits, low_at, high_at, end: high_at + high_bits.div_ceil(8) }
    }
}

/// How long the code of so many values is.
pub(super) fn len_bytes(values: usize, slots: u32) -> usize {
    if values == 0 { 0 } else { Parts::new(values, slots).end }
}

/// Appends the code of values that do not decrease and are below `slots`.
pub(super) fn encode(values: &[u32], slots: u32, out: &mut Vec<u8>) {
    if values.is_empty() {
        return;
    }
    let parts = Parts::new(values.len(), slots);
    let begin = out.len();
    out.resize(begin + parts.end, 0);
    let code = &mut out[begin..];
    let (low_mask, mut low_at) = ((1u32 << parts.low_bits) - 1, 8 * parts.low_at);
    for (i, &value) in values.iter().enumerate() {
        let one = i + (value >> parts.low_bits) as usize;
        code[parts.high_at + one / 8] |= 1 << (one % 8);
        if i % VALUES_PER_SAMPLE == 0 {
            let at = i / VALUES_PER_SAMPLE * SAMPLE_BYTES;
            code[at..at + SAMPLE_BYTES].copy_from_slice(&(one as u32).to_le_bytes());
        }
        for bit in 0..parts.low_bits {
            code[low_at / 8] |= ((((value & low_mask) >> bit) & 1) as u8) << (low_at % 8);
            low_at += 1;
        }
    }
}

/// Begins to load what [`get`] will read, or what is near it.
pub(super) fn begin_to_load(code: &[u8], values: usize, slots: u32, number: usize) {
    let parts = Parts::new(values, slots);
    prefetch(code, number / VALUES_PER_SAMPLE * SAMPLE_BYTES);
    prefetch(code, parts.low_at + number * parts.low_bits as usize / 8);
    // Holes are spread evenly: this is where the value is but for a few bytes.
    let high_bits = (number as u64 * (8 * (parts.end - parts.high_at)) as u64) / values as u64;
    prefetch(code, parts.high_at + high_bits as usize / 8);
}

/// The value of this number, which is below `values`, of a code of [`len_bytes`].
#[inline(always)]
pub(super) fn get(code: &[u8], values: usize, slots: u32, number: usize) -> Result<u32, Damage> {
    let parts = Parts::new(values, slots);
    let sample = code.get(number / VALUES_PER_SAMPLE * SAMPLE_BYTES..).and_then(|tail| tail.first_chunk());
    let sampled = u32::from_le_bytes(*sample.ok_or(CUT)?) as usize;
    let high = code.get(parts.high_at..parts.end).ok_or(CUT)?;
    let one = select(high, sampled, number % VALUES_PER_SAMPLE).ok_or(LEAVES)?;
    // In a damaged block there may be too many ones.
    let high = one.checked_sub(number).ok_or(LEAVES)? as u64;
    let low_at = number * parts.low_bits as usize;
    let low = word(code, parts.low_at + low_at / 8) >> (low_at % 8) & ((1 << parts.low_bits) - 1);
    let value = high << parts.low_bits | low;
    if value < u64::from(slots) { Ok(value as u32) } else { Err(LEAVES) }
}

/// Where the `skip`-th 1 after the bit at `from` is, itself for 0.
#[inline(always)]
fn select(bits: &[u8], from: usize, mut skip: usize) -> Option<usize> {
    let mut at = from / 8;
    let mut ones = word(bits, at) & (u64::MAX << (from % 8));
    loop {
        let count = ones.count_ones() as usize;
        if skip < count {
            break;
        }
        skip -= count;
        at += 8;
        if at >= bits.len() {
            return None;
        }
        ones = word(bits, at);
    }
    for _ in 0..skip {
        ones &= ones - 1;
    }
    Some(8 * at + ones.trailing_zeros() as usize)
}

/// Eight bytes, zeros where there are none.
#[inline(always)]
fn word(bytes: &[u8], at: usize) -> u64 {
    let tail = bytes.get(at..).unwrap_or_default();
    match tail.first_chunk() {
        Some(word) => u64::from_le_bytes(*word),
        None => tail.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte)),
    }
}

/// Checks that the code is as [`encode`] makes it of some values.
pub(super) fn check(code: &[u8], values: usize, slots: u32) -> Result<(), Damage> {
    if code.len() != len_bytes(values, slots) {
        return Err(CUT);
    }
    let mut all = Vec::with_capacity(values);
    for number in 0..values {
        all.push(get(code, values, slots, number)?);
    }
    let mut again = Vec::with_capacity(code.len());
    encode(&all, slots, &mut again);
    if !all.is_sorted() || again != code {
        return Err(Damage("a block's list of holes is not in its one form"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use icecore_testkit::SplitMix64;

    use super::*;

    #[test]
    fn what_is_encoded_is_found_again() {
        let mut rng = SplitMix64::new(3);
        for (count, slots) in [
            (0, 1),
            (1, 1),
            (1, 9),
            (64, 3),
            (64, 64),
            (255, 9000),
            (256, 9000),
            (257, 70_000),
            (5000, 262_144),
        ] {
            for _ in 0..5 {
                let mut values: Vec<u32> = (0..count).map(|_| rng.below(slots) as u32).collect();
                values.sort_unstable();
                let slots = slots as u32;
                let mut code = vec![7];
                encode(&values, slots, &mut code);
                let code = &code[1..];
                assert_eq!(code.len(), len_bytes(count, slots));
                check(code, count, slots).unwrap();
                for (i, value) in values.iter().enumerate() {
                    assert_eq!(get(code, count, slots, i), Ok(*value), "{i} of {count} below {slots}");
                }
            }
        }
    }

    #[test]
    fn a_changed_code_is_found_or_stays_inside() {
        let mut rng = SplitMix64::new(4);
        let (count, slots) = (700, 40_000);
        let mut values: Vec<u32> = (0..count).map(|_| rng.below(slots) as u32).collect();
        values.sort_unstable();
        let (mut code, slots) = (Vec::new(), slots as u32);
        encode(&values, slots, &mut code);
        let mut found = 0;
        for _ in 0..500 {
            let mut changed = code.clone();
            changed[rng.below(code.len() as u64) as usize] ^= 1 << rng.below(8);
            let checked = check(&changed, count, slots);
            found += u32::from(checked.is_err());
            for number in 0..count {
                match get(&changed, count, slots, number) {
                    Ok(value) => assert!(value < slots),
                    Err(_) => assert!(checked.is_err()),
                }
            }
        }
        assert!(found > 100, "{found}");
        assert_eq!(get(&[], count, slots, 0), Err(CUT));
    }
}
