//! Whatever the instructions, the file is the same.
#![allow(clippy::panic, clippy::unwrap_used)]

mod common;

use common::{Entries, Way, build, entries};
use icecore_streamhash::{Algorithm, Options, Path};

/// What every path makes of the entries: the same file, or the same error.
fn agree(entries: &Entries, options: &Options) -> Result<Vec<u8>, String> {
    let made = Path::all().into_iter().map(|path| {
        let options = options.clone().path(path);
        (path, build(&mut entries.clone(), options, Way::ALL[0]).map_err(|error| format!("{error:?}")))
    });
    let made: Vec<_> = made.collect();
    for (path, other) in &made {
        assert!(*other == made[0].1, "{path:?}");
    }
    made[0].1.clone()
}

#[test]
fn uniform_keys() {
    for algorithm in Algorithm::ALL {
        for count in [1, 2, 100, 3000, 70_000] {
            let options = Options::new().algorithm(algorithm).payload_bytes(3).fingerprint_bytes(1);
            agree(&entries(count as u64, count, 3), &options).unwrap();
        }
    }
}

#[test]
fn every_entry_size() {
    for (payload_bytes, fingerprint_bytes) in (0..=8).flat_map(|p| (0..=4).map(move |f| (p, f))) {
        let options = Options::new().payload_bytes(payload_bytes).fingerprint_bytes(fingerprint_bytes);
        agree(&entries(3, 500, payload_bytes.into()), &options).unwrap();
    }
}

#[test]
fn keys_made_to_crowd() {
    for algorithm in [Algorithm::Bijection, Algorithm::PtrHash] {
        // Into a few buckets of the first block, of either algorithm.
        for bits in 0..7 {
            let mut all = entries(5, 600, 0);
            for (i, (key, _)) in all.iter_mut().enumerate() {
                key[0] = key[0] >> 1 | ((i % 2) as u8) << 7;
                if i % 2 == 0 {
                    (key[7], key[15]) = (key[7] >> bits, key[15] >> bits);
                }
            }
            let options = Options::new().algorithm(algorithm);
            let made = agree(&all, &options);
            assert!(bits > 3 || made.is_ok(), "{bits}: {made:?}");
        }
    }
}

#[test]
fn twins_among_others() {
    for algorithm in [Algorithm::Bijection, Algorithm::PtrHash] {
        for at in [1, 7, 900] {
            let mut all = entries(6, 1000, 0);
            (all[at], all[at + 50]) = (all[0], all[51]);
            let error = agree(&all, &Options::new().algorithm(algorithm)).unwrap_err();
            assert!(error.starts_with("DuplicateKey"), "{error}");
        }
    }
}
