use std::ops::Range;

use icecore_testkit::SplitMix64;

use super::*;
use crate::{
    Algorithm,
    algorithm::{Damage, Unsolved},
    key::Entry,
    simd::Path,
};

const SEED: u64 = 0x1234_5678_9ABC_DEF0;

/// Of an index of a few blocks, so that limits are those of large ones.
fn header(payload_bytes: u8, fingerprint_bytes: u8, max_payload: u64) -> Header {
    let keys = 8 * KEYS_PER_BLOCK as u64;
    Header {
        keys,
        blocks: Algorithm::Compact.blocks(keys),
        payload_bytes,
        fingerprint_bytes,
        global_seed: SEED,
        algorithm: Algorithm::Compact,
        max_payload,
    }
}

fn entries(rng: &mut SplitMix64, count: usize, max_payload: u64) -> Vec<Entry> {
    let mut entry = |_| {
        let key = Key { k0: rng.next_u64(), k1: rng.next_u64() };
        let payload = (u128::from(rng.next_u64()) % (u128::from(max_payload) + 1)) as u64;
        Entry { key, payload }
    };
    (0..count).map(&mut entry).collect()
}

/// The blob, the same whatever the instructions.
fn solve(entries: &[Entry], header: &Header) -> Result<Vec<u8>, Unsolved> {
    let solve = |path| {
        let mut blob = Vec::new();
        Solver::new(header, path).solve(entries, &mut blob).map(|()| blob)
    };
    let made = solve(Path::SCALAR);
    assert_eq!(made, solve(Path::best()));
    made
}

/// What a reader does, in memory.
fn lookup(blob: &[u8], keys: u32, key: Key, decoder: &Decoder) -> Result<Option<u64>, Damage> {
    decoder.check_len(blob.len() as u64, keys)?;
    if keys == 0 {
        return Ok(None);
    }
    let mut place = decoder.first(keys, key);
    loop {
        if place.holds(blob[place.threshold_at as usize]) {
            let at = place.window_at as usize;
            return Ok(decoder.payload(&blob[at..at + decoder.window_bytes()], &place, key));
        }
        let at = decoder.link_at(&place, blob.len())? as usize;
        place = decoder.next(&place, [blob[at], blob[at + 1]], blob.len(), key)?;
    }
}

fn decoders(header: &Header) -> [Decoder; 2] {
    [Decoder::new(header), Decoder::new(header).into_portable()]
}

/// Every payload there may be of some bytes, or only few.
fn greatest(payload_bytes: u8) -> [u64; 3] {
    let all = crate::format::max_payload(payload_bytes);
    [0, all / 300, all]
}

#[test]
fn every_key_finds_its_payload_and_few_others_find_any() {
    let mut rng = SplitMix64::new(1);
    let shapes = (0..=8u8).flat_map(|p| (0..=4u8).map(move |f| (p, f)));
    for (payload_bytes, fingerprint_bytes) in shapes.filter(|(p, f)| (1..=8).contains(&(p + f))) {
        for max_payload in greatest(payload_bytes) {
            let header = header(payload_bytes, fingerprint_bytes, max_payload);
            let values = Values::of(&header);
            assert!(values.fingerprints >= 256u64.pow(fingerprint_bytes.into()));
            for count in [0, 1, 2, 63, 199, 200, 201, 1000] {
                let entries = entries(&mut rng, count, max_payload);
                let blob = solve(&entries, &header).unwrap();
                let foreign = self::entries(&mut rng, 1000, 0);
                for decoder in decoders(&header) {
                    decoder.check(&blob, count as u32).unwrap();
                    let find = |entry: &Entry| lookup(&blob, count as u32, entry.key, &decoder).unwrap();
                    assert!(entries.iter().all(|entry| find(entry) == Some(entry.payload)));
                    let found = foreign.iter().filter(|entry| find(entry).is_some()).count() as f64;
                    let expected = if count == 0 { 0.0 } else { 1000.0 / values.fingerprints as f64 };
                    assert!(found <= expected + 6.0 * expected.sqrt() + 3.0, "{found} of {expected}");
                }
            }
        }
    }
}

#[test]
fn full_blocks() {
    let mut rng = SplitMix64::new(7);
    for (payload_bytes, fingerprint_bytes, max_payload) in [(3, 1, 9_999_999), (1, 0, 255), (8, 0, u64::MAX)]
    {
        let header = header(payload_bytes, fingerprint_bytes, max_payload);
        let most = header.max_block_keys() as usize;
        for count in [KEYS_PER_BLOCK, most] {
            let entries = entries(&mut rng, count, max_payload);
            let blob = solve(&entries, &header).unwrap();
            for decoder in decoders(&header) {
                decoder.check(&blob, count as u32).unwrap();
                for entry in &entries {
                    assert_eq!(lookup(&blob, count as u32, entry.key, &decoder), Ok(Some(entry.payload)));
                }
            }
        }
    }
}

#[test]
fn a_block_costs_little_more_than_its_values() {
    let mut rng = SplitMix64::new(2);
    let header = header(3, 1, 9_999_999);
    assert_eq!(Values::of(&header).fingerprints, 429);
    let mut bytes = 0;
    for _ in 0..4 {
        bytes += solve(&entries(&mut rng, KEYS_PER_BLOCK, 9_999_999), &header).unwrap().len();
    }
    let bits = (8 * bytes) as f64 / (4 * KEYS_PER_BLOCK) as f64;
    assert!(bits < 32.2, "{bits}");
}

#[test]
fn the_order_of_keys_is_of_no_consequence() {
    let mut rng = SplitMix64::new(3);
    let header = header(3, 1, (1 << 24) - 1);
    let mut entries = entries(&mut rng, 5000, header.max_payload);
    let blob = solve(&entries, &header).unwrap();
    entries.reverse();
    assert_eq!(solve(&entries, &header).unwrap(), blob);
    entries.rotate_left(1234);
    assert_eq!(solve(&entries, &header).unwrap(), blob);
}

#[test]
fn equal_keys_are_found() {
    let mut rng = SplitMix64::new(4);
    let header = header(3, 1, (1 << 24) - 1);
    for count in [2, 100, 9000] {
        let mut entries = entries(&mut rng, count, header.max_payload);
        entries[count - 1].key = entries[0].key;
        assert_eq!(solve(&entries, &header), Err(Unsolved::Duplicate(entries[0].key)));
        entries[count - 1].payload = entries[0].payload;
        assert_eq!(solve(&entries, &header), Err(Unsolved::Duplicate(entries[0].key)));
    }
}

/// Keys whose windows all start at the same place of the first layer.
fn crowd(layer: usize, numbers: Range<u64>) -> Vec<Entry> {
    let key = |n| Key { k0: SEED ^ LAYER_SALTS[layer], k1: n };
    numbers.map(|n| Entry { key: key(n), payload: n % 256 }).collect()
}

#[test]
fn keys_that_crowd_are_bumped_or_end_in_an_error() {
    let mut rng = SplitMix64::new(5);
    let header = header(3, 1, (1 << 24) - 1);
    // All of a large block is more than there are rows for; a part of it finds place in the second layer.
    assert_eq!(solve(&crowd(0, 0..60_000), &header), Err(Unsolved::Layers));
    let mut entries = entries(&mut rng, 12_000, 1 << 20);
    entries.extend(crowd(0, 0..1500));
    entries.extend(crowd(1, 0..300));
    let blob = solve(&entries, &header).unwrap();
    for decoder in decoders(&header) {
        decoder.check(&blob, entries.len() as u32).unwrap();
        for entry in &entries {
            assert_eq!(lookup(&blob, entries.len() as u32, entry.key, &decoder), Ok(Some(entry.payload)));
        }
    }
}

#[test]
fn damage_is_found_or_harmless() {
    let mut rng = SplitMix64::new(6);
    let header = header(2, 1, (1 << 16) - 1);
    for count in [3u32, 700] {
        let entries = entries(&mut rng, count as usize, header.max_payload);
        let blob = solve(&entries, &header).unwrap();
        for decoder in decoders(&header) {
            for len in 0..blob.len() {
                assert!(decoder.check(&blob[..len], count).is_err());
                let _ = lookup(&blob[..len], count, entries[len % count as usize].key, &decoder);
            }
            let first = Layer::of(count).bytes(3);
            for _ in 0..5000 {
                let mut blob = blob.clone();
                let at = match rng.next_u64() % 3 {
                    0 => rng.next_u64() as usize % 5,
                    1 => first + rng.next_u64() as usize % 8,
                    _ => rng.next_u64() as usize,
                };
                let at = at % blob.len();
                blob[at] ^= 1 << (rng.next_u64() % 8);
                let key = entries[(rng.next_u64() % u64::from(count)) as usize].key;
                let _ = lookup(&blob, count, key, &decoder);
                let _ = decoder.check(&blob, count);
            }
        }
    }
}

#[test]
fn headers_are_checked() {
    assert!(check_header(&header(3, 1, 0)).is_ok());
    assert!(matches!(check_header(&header(0, 0, 0)), Err(Error::NothingKept)));
    assert!(matches!(check_header(&header(8, 1, 0)), Err(Error::Option { value: 9, max: 8, .. })));
    let keys = crate::format::MAX_KEYS;
    let many = Header { keys, blocks: Algorithm::Compact.blocks(keys), ..header(3, 1, 0) };
    assert!(matches!(check_header(&many), Err(Error::Option { .. })));
}
