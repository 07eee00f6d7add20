//! Compact: no ranks, only what is kept for each key, as the exclusive or of some of 64 consecutive rows.
//!
//! ```text
//! rows of a layer    ▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒      as many as 20/21 of its keys: nearly none stays unused
//! a key's window           └── 64 rows ──┘                   from a start that its hash tells; 64 coefficients choose rows
//! buckets of starts  ├──────┼──────┼──────┼──────┼──────┤    a key that starts below its bucket's threshold is bumped:
//!                                                            it is kept in the next layer, which is as much smaller
//! row and value      row_bytes = payload_bytes + fingerprint_bytes, 1 to 8, little-endian
//!                    value = payload * F + fingerprint, where F = min(2^32, 256^row_bytes / (greatest payload + 1))
//!                    fingerprint = the key's 32 bits * F / 2^32
//!
//! blob: layers, one after the other; the block's keys are the first one's
//! 0        u8 threshold of each bucket of 200 starts: starts = rows - 63, rows = 20/21 of the keys, rounded up,
//!          or keys + keys / 5 + 72 where there are less than 200 keys
//! …        rows
//! …        u16 keys of the next layer, and the layer itself: there where a threshold is not 0, at most 8 in all
//!
//! A block without keys has no bytes.
//! ```
//!
//! Solving a banded system on the fly, and bumping what does not fit, is bumped ribbon retrieval (Dillinger,
//! Hübschle-Schneider, Sanders and Walzer, 2022). Buckets are filled from the left, and each from its right end: where a
//! bucket is too full, those of its keys go that stand nearest to the bucket before, and thresholds are exact.
//!
//! Where the first layer's parts are follows from the number of keys alone. So nineteen keys in twenty are found with a
//! threshold, which is nearly always in a cache, and one window.
//!
//! Crafted keys: all layers together have at most [`max_rows`] rows, and an equation is given up after [`MAX_STEPS`].

mod decode;
mod kernel;
mod solve;

pub(crate) use decode::{Decoder, MAX_WINDOW_BYTES, Place};
pub(crate) use solve::Solver;

use crate::{
    Error, Result,
    format::{Header, MAX_BLOB_BYTES},
    key::{Key, fast_range},
};

/// Keys to a block: what the last layer has to spare is shared by many, and the solver's memory stays near the core.
pub(crate) const KEYS_PER_BLOCK: usize = 1 << 16;

/// Rows that a key chooses among.
const WIDTH: u32 = 64;
/// Starts to a bucket; a threshold fits one byte.
const BUCKET_STARTS: u32 = 200;
/// Keys are bumped at most so often, less one.
pub(crate) const MAX_LAYERS: usize = 8;
/// A layer of fewer keys has rows to spare, so that it most likely bumps none.
const LAST_LAYER_KEYS: u32 = 200;
/// An equation that has met so many others is given up: honest keys meet 23, crafted ones must not take for ever.
const MAX_STEPS: u32 = 4096;
/// Rows have at most so many bytes.
const MAX_ROW_BYTES: usize = 8;

/// No block that is not overfull has more keys: seven times its root above the average.
const MAX_KEYS: u64 = (KEYS_PER_BLOCK + 7 * (KEYS_PER_BLOCK.isqrt() + 1)) as u64;
const _: () = assert!(max_blob_bytes(MAX_KEYS, MAX_ROW_BYTES) <= MAX_BLOB_BYTES);

/// The parts of a layer, whose lengths follow from the number of its keys.
#[derive(Clone, Copy, Debug, Default)]
struct Layer {
    rows: u32,
}

impl Layer {
    #[inline(always)]
    fn of(keys: u32) -> Self {
        // A block has far less than 2^27 keys.
        let rows =
            if keys < LAST_LAYER_KEYS { keys + keys / 5 + 8 + WIDTH } else { (keys * 20).div_ceil(21) };
        Layer { rows }
    }

    #[inline(always)]
    fn starts(self) -> u32 {
        self.rows - (WIDTH - 1)
    }

    /// How many buckets, and so thresholds, there are.
    #[inline(always)]
    fn buckets(self) -> u32 {
        self.starts().div_ceil(BUCKET_STARTS)
    }

    /// The length of thresholds and rows.
    #[inline(always)]
    fn bytes(self, row_bytes: usize) -> usize {
        self.buckets() as usize + self.rows as usize * row_bytes
    }
}

/// The most rows that all layers of a block of so many keys may have. Blocks of honest keys have far less.
const fn max_rows(keys: u64) -> u64 {
    keys + keys / 4 + 4 * LAST_LAYER_KEYS as u64
}

/// No blob of a block of so many keys is longer: a byte to each row is more than thresholds and counts take.
const fn max_blob_bytes(keys: u64, row_bytes: usize) -> u64 {
    max_rows(keys) * (row_bytes as u64 + 1)
}

/// Where a key's window starts in a layer, and which of its rows are the key's: the first one always.
#[inline(always)]
fn window(key: Key, seed: u64, layer: usize, starts: u32) -> (u32, u64) {
    let hash = fold(key.k0 ^ seed ^ LAYER_SALTS[layer], key.k1 ^ 0x8BB8_4B93_962E_ACC9);
    let coefficients = fold(hash ^ key.k1, key.k0 ^ 0x4B33_A62E_D433_D4A3);
    (fast_range(hash, starts), coefficients | 1)
}

/// The two halves of the product, exclusive or.
#[inline(always)]
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    (product >> 64) as u64 ^ product as u64
}

/// Digits of π, one word for each layer.
const LAYER_SALTS: [u64; MAX_LAYERS] = [
    0x243F_6A88_85A3_08D3,
    0x1319_8A2E_0370_7344,
    0xA409_3822_299F_31D0,
    0x082E_FA98_EC4E_6C89,
    0x4528_21E6_38D0_1377,
    0xBE54_66CF_34E9_0C6C,
    0xC0AC_29B7_C97C_50DD,
    0x3F84_D5B5_B547_0917,
];

/// How a payload and a fingerprint make one number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Values {
    /// 1 to 8.
    row_bytes: usize,
    max_payload: u64,
    /// Fingerprints are below this: as many as there is room for.
    fingerprints: u64,
}

impl Values {
    /// Of a header that [`check_header`] has found right.
    fn of(header: &Header) -> Self {
        let row_bytes = header.kept_bytes().clamp(1, MAX_ROW_BYTES);
        let fingerprints = (1u128 << (8 * row_bytes)) / (u128::from(header.max_payload) + 1);
        // What tells keys apart has 32 bits. Payloads have no more bytes than rows, so that one is left at least.
        let fingerprints = fingerprints.clamp(1, 1 << 32) as u64;
        Values { row_bytes, max_payload: header.max_payload, fingerprints }
    }

    #[inline(always)]
    fn fingerprint(&self, key: Key) -> u64 {
        (u64::from(key.fingerprint()) * self.fingerprints) >> 32
    }

    #[inline(always)]
    fn encode(&self, key: Key, payload: u64) -> u64 {
        payload * self.fingerprints + self.fingerprint(key)
    }

    /// The payload, where the value can be the key's.
    #[inline(always)]
    fn decode(&self, key: Key, value: u64) -> Option<u64> {
        let payload = value / self.fingerprints;
        let same = value - payload * self.fingerprints == self.fingerprint(key);
        (same && payload <= self.max_payload).then_some(payload)
    }
}

/// Checks that rows have a byte at least and eight at most, and that all blobs' places fit the table.
pub(crate) fn check_header(header: &Header) -> Result<()> {
    let row_bytes = header.kept_bytes();
    if row_bytes == 0 {
        return Err(Error::NothingKept);
    }
    let within = |what, value: u64, max: u64| match value {
        _ if value > max => Err(Error::Option { what, value, max }),
        _ => Ok(()),
    };
    within("payload_bytes and fingerprint_bytes together", row_bytes as u64, MAX_ROW_BYTES as u64)?;
    let most = max_blob_bytes(header.max_block_keys(), row_bytes).saturating_mul(header.blocks.into());
    within("the most bytes that blocks may take", most, crate::format::MAX_METADATA_BYTES)
}

#[cfg(test)]
mod tests;
