use sha2::{Digest, Sha256};

use super::{
    GENERATED_PASSPHRASE, Spec,
    out::{Draw, kind},
};

pub(super) const ASSETS: u64 = 16;
/// What is the same in all ledgers of a generator.
#[derive(Clone, Debug)]
pub(super) struct World {
    /// Knows the network already.
    pub(super) hasher: Sha256,
    pub(super) assets: Vec<Asset>,
}

#[derive(Clone, Debug)]
pub(super) struct Asset {
    /// `None` for the native one.
    pub(super) credit: Option<([u8; 4], [u8; 32])>,
    /// As it appears in topics.
    pub(super) name: String,
}

impl World {
    pub(super) fn new(spec: &Spec) -> Self {
        let credit = |number: u64| {
            let mut draw = Draw::of(spec.seed, kind::ASSET, number);
            let code = draw.array::<4>().map(|byte| b'A' + byte % 26);
            let issuer = draw.array();
            let name =
                format!("{}:{}", code.map(char::from).iter().collect::<String>(), account_text(&issuer));
            Asset { credit: Some((code, issuer)), name }
        };
        let native = Asset { credit: None, name: "native".to_owned() };
        let assets = std::iter::once(native).chain((1..ASSETS).map(credit)).collect();
        let hasher = Sha256::new_with_prefix(Sha256::digest(GENERATED_PASSPHRASE));
        World { hasher, assets }
    }
}

/// An account in the form for people: base 32 over a version byte, the key and a CRC-16.
fn account_text(key: &[u8; 32]) -> String {
    const VERSION: u8 = 6 << 3;
    let mut bytes = vec![VERSION];
    bytes.extend_from_slice(key);
    let crc = bytes.iter().fold(0u16, |crc, byte| {
        (0..8).fold(
            crc ^ u16::from(*byte) << 8,
            |crc, _| if crc >> 15 == 1 { crc << 1 ^ 0x1021 } else { crc << 1 },
        )
    });
    bytes.extend_from_slice(&crc.to_le_bytes());
    let digits = bytes.chunks_exact(5).flat_map(|five| {
        let bits = five.iter().fold(0u64, |bits, byte| bits << 8 | u64::from(*byte));
        (0..8)
            .rev()
            .map(move |digit| b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"[(bits >> (5 * digit) & 31) as usize])
    });
    digits.map(char::from).collect()
}
