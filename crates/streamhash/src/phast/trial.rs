//! Solving a block in all ways and looking at what came out; for tests and the fuzzer.
#![allow(clippy::unwrap_used, clippy::panic)]

use super::{Decoder, Solver, check, check_len, tail_at};
use crate::{
    Algorithm, Header, Path,
    algorithm::{Damage, Placed, Unsolved},
    key::{Entry, Key},
};

fn header(keys: usize, seed: u64) -> Header {
    Header {
        keys: keys as u64,
        blocks: 2,
        payload_bytes: 0,
        fingerprint_bytes: 0,
        global_seed: seed,
        algorithm: Algorithm::Fast,
        max_payload: 0,
    }
}

pub(crate) fn entries(keys: &[Key]) -> Vec<Entry> {
    keys.iter().map(|&key| Entry { key, payload: 0 }).collect()
}

/// The blob, and the slots in the order of the keys.
pub(crate) type Solved = Result<(Vec<u8>, Vec<u32>), Unsolved>;

pub(crate) fn solve(keys: &[Key], seed: u64, path: Path) -> Solved {
    let mut blob = Vec::new();
    let mut solver = Solver::new(&header(keys.len(), seed), path);
    match solver.solve(&entries(keys), &mut blob)? {
        Placed::Wide { slots, .. } => Ok((blob, slots.to_vec())),
        _ => panic!("slots of another kind"),
    }
}

/// The slot of a key, as a reader finds it.
pub(crate) fn slot(blob: &[u8], keys: u32, key: Key, seed: u64) -> Result<Option<u32>, Damage> {
    let decoder = Decoder::new(&header(keys as usize, seed));
    check_len(blob.len() as u64, keys)?;
    let at = decoder.seed_at(keys, key);
    match decoder.slot(blob[at as usize], at, keys, key) {
        Some(slot) => Ok(Some(slot)),
        None => decoder.bumped_slot(&blob[tail_at(keys)..], keys, key),
    }
}

/// Solves by all instructions there are, which must agree, and finds every key in a slot of its own.
pub(crate) fn round_trip(keys: &[Key], seed: u64) -> Solved {
    let solved = solve(keys, seed, Path::SCALAR);
    for path in Path::all() {
        assert!(solved == solve(keys, seed, path), "{path:?}");
    }
    let (blob, slots) = solved?;
    let count = keys.len() as u32;
    check(&blob, count).unwrap();
    let mut seen = vec![false; keys.len()];
    for (key, own) in keys.iter().zip(&slots) {
        assert_eq!(slot(&blob, count, *key, seed), Ok(Some(*own)));
        assert!(!std::mem::replace(&mut seen[*own as usize], true), "a slot occurs twice");
    }
    Ok((blob, slots))
}

/// Asks a blob of any origin.
pub(crate) fn ask(blob: &[u8], count: u32, keys: &[Key], seed: u64) {
    let checked = check(blob, count);
    for key in keys {
        match slot(blob, count, *key, seed) {
            Ok(found) => assert!(found.is_none_or(|slot| slot < count)),
            Err(damage) => assert!(checked.is_err(), "{damage:?} is in a blob that is in order"),
        }
    }
}

#[cfg(test)]
mod tests {
    use icecore_testkit::SplitMix64;

    use super::*;
    use crate::phast::{KEYS_PER_BLOCK, MIN_FIRST_KEYS};

    /// Of the first of two blocks.
    fn keys(rng: &mut SplitMix64, count: usize) -> Vec<Key> {
        let key = |rng: &mut SplitMix64| Key { k0: (rng.next_u64() >> 1).swap_bytes(), k1: rng.next_u64() };
        let mut keys: Vec<Key> = (0..count).map(|_| key(rng)).collect();
        keys.sort_unstable_by_key(|key| key.k0.swap_bytes());
        keys
    }

    const EDGE: usize = MIN_FIRST_KEYS as usize;

    #[test]
    fn all_sizes() {
        let mut rng = SplitMix64::new(1);
        let few = 0..70;
        let edges = [127, 128, 500, 1023, 1024, 1025, 1027, 4000, EDGE - 1, EDGE, EDGE + 1, EDGE + 1000];
        for count in few.chain(edges).chain([9215, 9216, 9217, 40_000]) {
            for seed in [0, u64::MAX] {
                let keys = keys(&mut rng, count);
                round_trip(&keys, seed).unwrap();
            }
        }
    }

    #[test]
    fn a_whole_block_is_small_and_few_of_its_keys_are_bumped() {
        let keys = keys(&mut SplitMix64::new(2), KEYS_PER_BLOCK);
        let (blob, _) = round_trip(&keys, 7).unwrap();
        let bits = 8.0 * blob.len() as f64 / keys.len() as f64;
        assert!(bits < 1.92, "{bits}");
        let bumped =
            u32::from_le_bytes(*blob[tail_at(keys.len() as u32) + 1..].first_chunk().unwrap()) & 0xFF_FFFF;
        assert!((bumped as usize) < keys.len() / 45, "{bumped}");
    }

    #[test]
    fn the_order_of_keys_does_not_matter() {
        let mut rng = SplitMix64::new(3);
        for count in [30, 3000, 20_000] {
            let sorted = keys(&mut rng, count);
            let (blob, slots) = round_trip(&sorted, 1).unwrap();
            let mut shuffled: Vec<_> = sorted.iter().copied().zip(slots).collect();
            for i in (1..count).rev() {
                shuffled.swap(i, rng.below(i as u64 + 1) as usize);
            }
            let (keys, slots): (Vec<_>, Vec<_>) = shuffled.into_iter().unzip();
            assert_eq!(solve(&keys, 1, Path::best()), Ok((blob, slots)));
        }
    }

    #[test]
    fn buckets_are_crowded_or_empty() {
        let mut rng = SplitMix64::new(4);
        for crowded in [10, 200, 8000, 20_000] {
            let mut keys = keys(&mut rng, 20_000);
            // All of these begin alike.
            keys[..crowded].iter_mut().for_each(|key| key.k0 = key.k0 >> 32 << 32 | 0x5500);
            round_trip(&keys, 1).unwrap();
        }
        // Nothing but the second word tells these apart, and that by little.
        let alike: Vec<_> = (0..20_000).map(|k1| Key { k0: 0x1234_5600, k1 }).collect();
        round_trip(&alike, 1).unwrap();
    }

    #[test]
    fn equal_keys_are_told() {
        let mut rng = SplitMix64::new(5);
        for count in [2, 3, 100, 10_000] {
            let mut keys = keys(&mut rng, count);
            keys[1] = keys[0];
            assert_eq!(round_trip(&keys, 1), Err(Unsolved::Duplicate(keys[0])));
        }
        let all_equal = vec![Key { k0: 5, k1: 6 }; 50_000];
        assert_eq!(round_trip(&all_equal, 1), Err(Unsolved::Duplicate(all_equal[0])));
    }

    #[test]
    fn damage_is_found_or_harmless() {
        let mut rng = SplitMix64::new(6);
        for count in [0, 1, 5, 100, 2000, 9000] {
            let (own, strangers) = (keys(&mut rng, count), keys(&mut rng, 50));
            let (blob, _) = solve(&own, 1, Path::best()).unwrap();
            let asked: Vec<_> = own.iter().step_by(own.len() / 50 + 1).chain(&strangers).copied().collect();
            let tail = tail_at(count as u32);
            for _ in 0..60 {
                let mut damaged = blob.clone();
                match rng.below(4) {
                    0 => damaged.truncate(rng.below(blob.len() as u64) as usize),
                    1 => damaged[tail..].iter_mut().take(8).for_each(|byte| *byte = rng.next_u64() as u8),
                    2 => damaged.push(0),
                    _ => {
                        let at = rng.below(blob.len() as u64) as usize;
                        damaged[at] ^= 1 << rng.below(8);
                    }
                }
                ask(&damaged, count as u32, &asked, 1);
                // The number of keys comes from another place.
                ask(&blob, rng.below(20_000) as u32, &asked, 1);
            }
        }
        assert!(check(&[0, 0], 0).is_err() && check(&[], 0).is_err() && check(&[0], 0).is_ok());
    }
}
