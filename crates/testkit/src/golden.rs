//! The golden cases: inputs drawn from a seed in a fixed order, and the SHA-256 of the file that a conforming writer
//! makes from them. The generators here draw inputs only; what is written from them is the crates' business.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::SplitMix64;

/// One line of a cases file.
#[derive(Clone, Debug, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Case {
    /// A STMH file.
    Streamhash(Streamhash),
    /// A packfile.
    Packfile(Packfile),
    /// A ledger pack.
    #[serde(rename = "ledgerpack")]
    LedgerPack(LedgerPack),
    /// Sorted hash runs and the window index over them.
    Txhash(Txhash),
    /// The two index files of a chunk's events.
    EventsIndex(EventsIndex),
    /// The hash that makes any bytes a uniform key.
    Prehash(Prehash),
}

/// A STMH file from uniform (or deliberately skewed) keys.
#[derive(Clone, Debug, Deserialize)]
#[allow(missing_docs)]
pub struct Streamhash {
    pub rng_seed: u64,
    pub keys: u64,
    pub first_byte_mask: u8,
    pub algorithm: String,
    pub payload_bytes: u32,
    pub fingerprint_bytes: u8,
    #[serde(deserialize_with = "hex_u64")]
    pub global_seed: u64,
    #[serde(deserialize_with = "hex_bytes")]
    pub user_metadata_hex: Vec<u8>,
    #[serde(default)]
    pub sha256: String,
    #[serde(default)]
    pub file_bytes: u64,
    /// The error that the build must end in, where it must fail.
    #[serde(default)]
    pub error: Option<String>,
}

/// A packfile of random items.
#[derive(Clone, Debug, Deserialize)]
#[allow(missing_docs)]
pub struct Packfile {
    pub rng_seed: u64,
    pub items: u64,
    pub items_per_record: u32,
    pub max_item_bytes: usize,
    pub codec: String,
    pub content_hash: bool,
    pub format: u32,
    #[serde(deserialize_with = "hex_bytes")]
    pub app_data_hex: Vec<u8>,
    #[serde(default)]
    pub content_hash_hex: Option<String>,
    pub file_bytes: u64,
    pub sha256: String,
}

/// A ledger pack of random items.
#[derive(Clone, Debug, Deserialize)]
#[allow(missing_docs)]
pub struct LedgerPack {
    pub rng_seed: u64,
    pub first_seq: u32,
    pub ledgers: u64,
    pub max_ledger_bytes: usize,
    pub sha256: String,
}

/// Sorted hash runs of consecutive chunks of 10 000 ledgers, and the index over them.
#[derive(Clone, Debug, Deserialize)]
#[allow(missing_docs)]
pub struct Txhash {
    pub rng_seed: u64,
    pub first_chunk: u32,
    pub chunks: u32,
    pub max_entries_per_chunk: u64,
    pub bin_sha256: Vec<String>,
    /// Empty where the coverage has no entries and the empty index is to be built.
    pub idx_sha256: String,
}

/// The term index of a chunk's events.
#[derive(Clone, Debug, Deserialize)]
#[allow(missing_docs)]
pub struct EventsIndex {
    pub rng_seed: u64,
    pub terms: u64,
    pub events: u64,
    pub index_hash_sha256: String,
    pub index_pack_sha256: String,
}

/// A prehashed string.
#[derive(Clone, Debug, Deserialize)]
#[allow(missing_docs)]
pub struct Prehash {
    pub input_utf8: String,
    pub hash_hex: String,
}

fn hex_u64<'de, D: serde::Deserializer<'de>>(de: D) -> Result<u64, D::Error> {
    let text = String::deserialize(de)?;
    u64::from_str_radix(text.trim_start_matches("0x"), 16).map_err(serde::de::Error::custom)
}

fn hex_bytes<'de, D: serde::Deserializer<'de>>(de: D) -> Result<Vec<u8>, D::Error> {
    let text = String::deserialize(de)?;
    let byte = |i| text.get(i..i + 2).and_then(|pair| u8::from_str_radix(pair, 16).ok());
    let bytes: Option<Vec<u8>> = (0..text.len()).step_by(2).map(byte).collect();
    bytes.ok_or_else(|| serde::de::Error::custom("not hexadecimal"))
}

/// Reads a cases file: one JSON object a line.
pub fn parse(lines: &str) -> Result<Vec<Case>, serde_json::Error> {
    lines.lines().filter(|line| !line.trim().is_empty()).map(serde_json::from_str).collect()
}

/// The cases that the project keeps.
#[allow(clippy::expect_used)]
pub fn builtin() -> Vec<Case> {
    parse(include_str!("../golden/formats.jsonl")).expect("the project's own cases are well-formed")
}

/// The facts of real ledgers that the project keeps, as they stand: one JSON object a line.
pub const LEDGER_FACTS: &str = include_str!("../golden/ledgers.jsonl");

impl Case {
    /// The name of the kind, as in the file.
    pub fn kind(&self) -> &'static str {
        match self {
            Case::Streamhash(_) => "streamhash",
            Case::Packfile(_) => "packfile",
            Case::LedgerPack(_) => "ledgerpack",
            Case::Txhash(_) => "txhash",
            Case::EventsIndex(_) => "events_index",
            Case::Prehash(_) => "prehash",
        }
    }
}

impl Streamhash {
    /// Keys with their payloads, unsorted as drawn.
    pub fn entries(&self) -> Vec<([u8; 16], u64)> {
        let mut rng = SplitMix64::new(self.rng_seed);
        let mask = u64::MAX.checked_shr(64 - 8 * self.payload_bytes).unwrap_or(0);
        let entry = |_| {
            let mut key = rng.key();
            key[0] &= self.first_byte_mask;
            (key, rng.next_u64() & mask)
        };
        (0..self.keys).map(entry).collect()
    }
}

impl Packfile {
    /// The items.
    pub fn contents(&self) -> Vec<Vec<u8>> {
        let mut rng = SplitMix64::new(self.rng_seed);
        (0..self.items).map(|_| rng.item(self.max_item_bytes)).collect()
    }
}

impl LedgerPack {
    /// The ledgers.
    pub fn contents(&self) -> Vec<Vec<u8>> {
        let mut rng = SplitMix64::new(self.rng_seed);
        (0..self.ledgers).map(|_| rng.item(self.max_ledger_bytes)).collect()
    }
}

impl Txhash {
    /// Per chunk: the entries (16-byte key, ledger sequence), unsorted as drawn.
    pub fn chunks(&self) -> Vec<Vec<([u8; 16], u32)>> {
        let mut rng = SplitMix64::new(self.rng_seed);
        let chunk = |c: u32| {
            let n = rng.below(self.max_entries_per_chunk + 1);
            (0..n).map(|_| (rng.key(), c * 10_000 + 2 + rng.below(10_000) as u32)).collect()
        };
        (self.first_chunk..self.first_chunk + self.chunks).map(chunk).collect()
    }
}

impl EventsIndex {
    /// Term keys with their ascending event ids. `prehash` is the hash under test.
    pub fn terms(&self, prehash: impl Fn(&[u8]) -> [u8; 16]) -> BTreeMap<[u8; 16], Vec<u32>> {
        let mut rng = SplitMix64::new(self.rng_seed);
        let mut terms = BTreeMap::new();
        for i in 0..self.terms {
            let mut value = vec![(i % 5) as u8];
            value.extend_from_slice(&rng.next_u64().to_le_bytes());
            let mut ids = std::collections::BTreeSet::new();
            match i % 3 {
                0 => {
                    let draws = 1 + rng.below(40);
                    ids.extend((0..draws).map(|_| rng.below(self.events) as u32));
                }
                1 => {
                    let start = rng.below(self.events);
                    let end = (start + 1 + rng.below(5000)).min(self.events);
                    ids.extend(start as u32..end as u32);
                }
                _ => {
                    let start = rng.below(self.events);
                    let end = (start + 1 + rng.below(20_000)).min(self.events);
                    ids.insert(start as u32);
                    for id in start..end {
                        if rng.below(4) == 0 {
                            ids.insert(id as u32);
                        }
                    }
                }
            }
            terms.insert(prehash(&value), ids.into_iter().collect());
        }
        terms
    }
}
