//! Blocks of keys that someone made for it: whichever the algorithm and the instructions, solving one ends in a typed
//! error, and the same one. What bounds the work is a number of steps, at the head of each algorithm's module.

use icecore_testkit::SplitMix64;

use crate::{
    Algorithm, Header, Path,
    algorithm::{Solver, Unsolved},
    key::{Entry, Key},
};

const SEED: u64 = 0x1234_5678_90AB_CDEF;

/// Of an index of a few blocks, so that limits are those of large ones.
fn header(algorithm: Algorithm) -> Header {
    let keys = 4 << 18;
    Header {
        keys,
        blocks: algorithm.blocks(keys),
        payload_bytes: 3,
        fingerprint_bytes: 1,
        global_seed: SEED,
        algorithm,
        max_payload: 0,
    }
}

/// What keeps the keys from being solved; `None` where nothing does.
fn solve(algorithm: Algorithm, keys: &[Key]) -> Option<Unsolved> {
    let entries: Vec<_> = keys.iter().map(|&key| Entry { key, payload: 0 }).collect();
    let solve = |path| {
        let (mut blob, mut payload) = (Vec::new(), vec![0; 4 * keys.len()]);
        let solved = Solver::new(&header(algorithm), path).solve(&entries, &mut blob, &mut payload);
        solved.err().ok_or((blob, payload))
    };
    let plain = solve(Path::SCALAR);
    for path in Path::all() {
        assert!(solve(path) == plain, "{algorithm}, {path:?}: {:?}", plain.as_ref().ok());
    }
    plain.ok()
}

/// As many keys as an average block has.
fn count(algorithm: Algorithm) -> u64 {
    let header = header(algorithm);
    header.keys / u64::from(header.blocks)
}

fn keys(count: u64, mut key: impl FnMut(u64, &mut SplitMix64) -> (u64, u64)) -> Vec<Key> {
    let mut rng = SplitMix64::new(count);
    let key = |i| {
        let (k0, k1) = key(i, &mut rng);
        Key { k0, k1 }
    };
    (0..count).map(key).collect()
}

#[test]
fn blocks_of_one_key_end_in_an_error() {
    for algorithm in Algorithm::ALL {
        // A bucket of a few keys, of many, and all of the block.
        for twins in [2, 9, 40, 200, count(algorithm)] {
            let keys =
                keys(
                    count(algorithm),
                    |i, rng| if i < twins { (5, 6) } else { (rng.next_u64(), rng.next_u64()) },
                );
            assert_eq!(
                solve(algorithm, &keys),
                Some(Unsolved::Duplicate(Key { k0: 5, k1: 6 })),
                "{algorithm}"
            );
        }
    }
}

#[test]
fn bijection() {
    let solve = |keys: &[Key]| solve(Algorithm::Bijection, keys);
    let bucket = |bucket: u64, rng: &mut SplitMix64| bucket << 54 | rng.next_u64() >> 10;
    let full = count(Algorithm::Bijection);
    // Equal prefixes: all of the block in one bucket; in many that are too large for the list of seeds.
    let one = keys(300, |_, rng| (bucket(5, rng), rng.next_u64()));
    assert_eq!(solve(&one), Some(Unsolved::Split { keys: 300 }));
    let some = keys(full, |i, rng| (bucket(i / 20, rng), rng.next_u64()));
    assert_eq!(solve(&some), Some(Unsolved::Fallback));
    // Places that no seed changes: they are the top bits of the key.
    let still = keys(200, |_, rng| (SEED ^ (1 << 63 | rng.next_u64() >> 16), SEED ^ 1));
    assert_eq!(solve(&still), Some(Unsolved::Split { keys: 200 }));
    // Places that only the last seeds change, so that searches are long and all the same have an end.
    for size in [2, 3, 4, 7] {
        let late = keys(full / size * size, |i, rng| {
            (bucket(i / size, rng), SEED ^ if i % size == 0 { 1 } else { 1 << 43 })
        });
        assert_eq!(solve(&late), Some(Unsolved::Fallback), "{size}");
    }
}

#[test]
fn ptrhash() {
    let solve = |keys: &[Key]| solve(Algorithm::PtrHash, keys);
    // Few different second words: full buckets among empty ones.
    let full = count(Algorithm::PtrHash);
    for size in [12, 30, 1000, full] {
        let mut k1 = 0;
        let keys = keys(full, |i, rng| {
            if i % size == 0 {
                k1 = rng.next_u64();
            }
            (rng.next_u64(), k1)
        });
        assert_eq!(solve(&keys), Some(Unsolved::Indistinguishable), "{size}");
    }
    // Buckets that go on to push one another out, in a small block, until that has been enough.
    let mut k1 = 0;
    let thrashing = keys(300, |i, rng| {
        if i % 3 == 0 {
            k1 = rng.next_u64();
        }
        (rng.next_u64(), k1)
    });
    assert_eq!(solve(&thrashing), Some(Unsolved::Placement));
}

#[test]
fn fast() {
    // The levels' hashes differ, so that only keys told apart by nothing at all are left after the last.
    let full = count(Algorithm::Fast);
    let equal_prefixes = keys(full, |_, rng| (77, rng.next_u64()));
    assert_eq!(solve(Algorithm::Fast, &equal_prefixes), None);
    let equal_ends = keys(full, |_, rng| (rng.next_u64(), 77));
    assert_eq!(solve(Algorithm::Fast, &equal_ends), None);
    let no_hash = keys(full, |i, _| (i, SEED));
    assert_eq!(solve(Algorithm::Fast, &no_hash), None);
}

#[test]
fn compact() {
    // All windows start at one place of the first layer: more than there are rows for, or few enough.
    let full = count(Algorithm::Compact);
    let same_start = |part| {
        keys(full, move |i, rng| match i % part {
            0 => (SEED ^ 0x243F_6A88_85A3_08D3, i),
            _ => (rng.next_u64(), rng.next_u64()),
        })
    };
    assert_eq!(solve(Algorithm::Compact, &same_start(1)), Some(Unsolved::Layers));
    assert_eq!(solve(Algorithm::Compact, &same_start(2)), Some(Unsolved::Layers));
    assert_eq!(solve(Algorithm::Compact, &same_start(10)), None);
}
