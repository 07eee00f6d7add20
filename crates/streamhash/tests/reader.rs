//! What a reader answers: keys, foreign keys, damaged files.
#![allow(clippy::panic, clippy::unwrap_used)]

mod common;

use common::{Way, build, entries};
use icecore_diskio::{FileReader, Mmap, ReadAt};
use icecore_streamhash::{Algorithm, Error, Index, Options};

fn file(count: usize, options: Options) -> Vec<u8> {
    build(&mut entries(1, count, 2), options.payload_bytes(2), Way::ALL[0]).unwrap()
}

#[test]
fn foreign_keys_pass_as_often_as_fingerprints_let_them() {
    for algorithm in [Algorithm::Bijection, Algorithm::PtrHash] {
        for fingerprint_bytes in 0..=2 {
            let options = Options::new().algorithm(algorithm).fingerprint_bytes(fingerprint_bytes);
            let index = Index::from_source(file(20_000, options)).unwrap();
            let foreign = entries(2, 200_000, 0);
            let passed =
                foreign.iter().filter(|(key, _)| index.lookup(key).unwrap().is_some()).count() as f64;
            let ranked = foreign.iter().filter(|(key, _)| index.rank(key).unwrap().is_some()).count() as f64;
            // One in twenty buckets is empty, in Bijection.
            assert!((180_000.0..=200_000.0).contains(&ranked), "{ranked}");
            let expected = ranked / 256f64.powi(fingerprint_bytes.into());
            assert!((passed - expected).abs() <= 6.0 * expected.sqrt(), "{passed} of {expected}");
        }
    }
}

#[test]
fn all_sources_agree() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("index");
    for algorithm in [Algorithm::Bijection, Algorithm::PtrHash, Algorithm::Compact] {
        let options = Options::new().algorithm(algorithm).fingerprint_bytes(1).user_metadata(*b"mine");
        let bytes = file(5000, options);
        std::fs::write(&path, &bytes).unwrap();
        let mut keys: Vec<_> = entries(1, 5000, 2).into_iter().map(|(key, _)| key).collect();
        keys.extend(entries(2, 1000, 0).iter().map(|(key, _)| *key));
        fn answers<S: ReadAt>(index: Index<S>, keys: &[[u8; 16]]) -> Vec<Option<icecore_streamhash::Hit>> {
            index.verify().unwrap();
            assert_eq!(index.user_metadata(), b"mine");
            let singles: Vec<_> = keys.iter().map(|key| index.lookup(key).unwrap()).collect();
            let mut batch = vec![None; 7];
            index.lookup_batch(keys, &mut batch).unwrap();
            assert!(singles == batch);
            singles
        }
        let file = answers(Index::<FileReader>::open(&path).unwrap(), &keys);
        assert!(file == answers(Index::from_source(Mmap::open(&path).unwrap()).unwrap(), &keys));
        assert!(file == answers(Index::from_source(bytes.as_slice()).unwrap(), &keys));
        let kept = Index::from_source(bytes.as_slice()).unwrap().with_checkpoints().unwrap();
        assert!(file == answers(kept, &keys));
        let kept = Index::<FileReader>::open(&path).unwrap().with_checkpoints().unwrap();
        assert!(file == answers(kept, &keys));
        let boxed: Box<dyn ReadAt> = Box::new(bytes);
        assert!(file == answers(Index::from_source(boxed).unwrap(), &keys));
    }
}

#[test]
fn a_short_key_is_an_error_in_a_batch_too() {
    let index = Index::from_source(file(10, Options::new())).unwrap();
    let mut out = Vec::new();
    let keys = [vec![1; 16], vec![1; 15]];
    assert!(matches!(index.lookup_batch(&keys, &mut out), Err(Error::KeyLength { len_bytes: 15 })));
    assert_eq!(out.len(), 1);
}

#[test]
fn a_stream_answers_every_key_in_its_turn() {
    let bytes = file(3000, Options::new().fingerprint_bytes(1));
    let index = Index::from_source(bytes.as_slice()).unwrap();
    let keys = entries(1, 3000, 2);
    // Of all lengths around those of the groups it works in; some keys are none.
    for count in (0..300).chain([1000, 3000]) {
        for every in [0, 1, 2, 31, 32, 33, 97] {
            let bad = |i: usize| every > 0 && i.is_multiple_of(every);
            let asked = keys.iter().enumerate().take(count);
            let asked = asked.map(|(i, (key, _))| if bad(i) { &key[..i % 16] } else { &key[..] });
            let mut answered = 0;
            for (i, hit) in index.lookup_stream(asked).enumerate() {
                match hit {
                    Ok(hit) => assert_eq!((hit.unwrap().payload, bad(i)), (keys[i].1, false)),
                    Err(Error::KeyLength { len_bytes }) => assert_eq!((len_bytes, bad(i)), (i % 16, true)),
                    Err(error) => panic!("{error}"),
                }
                answered += 1;
            }
            assert_eq!(answered, count);
        }
    }
}

#[test]
fn checkpoints_are_kept_of_whole_blocks_only() {
    let bytes = file(3000, Options::new());
    let at = bytes.len() - 200;
    for bit in 0..8 {
        let mut damaged = bytes.clone();
        damaged[at] ^= 1 << bit;
        let index = Index::from_source(damaged.as_slice()).unwrap();
        assert!(index.verify().is_err_and(|error| error.is_corrupt()));
        // Damage may look like a block of other keys.
        if let Err(error) = index.with_checkpoints() {
            assert!(error.is_corrupt());
        }
    }
    let mut damaged = bytes.clone();
    damaged[at..at + 100].fill(0xFF);
    assert!(Index::from_source(damaged).unwrap().with_checkpoints().is_err_and(|error| error.is_corrupt()));
}

/// Reads everything in a damaged file; true when the damage was noticed.
fn noticed(bytes: &[u8], keys: &[[u8; 16]]) -> bool {
    let Ok(index) = Index::from_source(bytes) else { return true };
    let mut noticed = index.verify().is_err();
    for key in keys {
        match index.lookup(key) {
            Ok(hit) => assert!(hit.and_then(|hit| hit.rank).is_none_or(|rank| rank < index.key_count())),
            Err(error) => {
                assert!(error.is_corrupt(), "{error}");
                noticed = true;
            }
        }
    }
    noticed
}

#[test]
fn every_flipped_bit_is_noticed() {
    for (algorithm, count) in [
        (Algorithm::Bijection, 40),
        (Algorithm::Bijection, 3),
        (Algorithm::PtrHash, 30),
        (Algorithm::Compact, 40),
        (Algorithm::Compact, 3),
    ] {
        let options = Options::new().algorithm(algorithm).fingerprint_bytes(1).user_metadata(*b"abc");
        let bytes = file(count, options);
        let keys: Vec<_> = entries(1, count, 2).into_iter().map(|(key, _)| key).collect();
        // A large blob is mostly pilots, one as good as another.
        let step = if bytes.len() > 2000 { 37 } else { 1 };
        let places = (0..bytes.len()).filter(|at| *at < 400 || at % step == 0 || at + 60 > bytes.len());
        for at in places {
            for bit in 0..8 {
                let mut damaged = bytes.clone();
                damaged[at] ^= 1 << bit;
                // Of these, only compact has a hash over the seed and the caller's own bytes.
                let unguarded = (23..31).contains(&at) || (68..71).contains(&at);
                let unguarded = unguarded && algorithm != Algorithm::Compact;
                assert!(noticed(&damaged, &keys) || unguarded, "{algorithm:?}: byte {at} bit {bit}");
            }
        }
    }
}

#[test]
fn every_truncation_and_extension_is_noticed() {
    let bytes = file(40, Options::new().fingerprint_bytes(1));
    for len in 0..bytes.len() {
        let error = Index::from_source(&bytes[..len]).unwrap_err();
        assert!(error.is_corrupt(), "{len}: {error}");
    }
    for more in [1, 10, 32] {
        let longer = [bytes.as_slice(), &vec![0; more]].concat();
        assert!(Index::from_source(longer).is_err());
    }
}

#[test]
fn a_blob_of_any_length_is_not_believed() {
    // A hostile table in a sparse file: one block of a tebibyte.
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("index");
    let mut head = file(3, Options::new())[..64 + 4 + 4 + 3 * 10 + 3 * 2].to_vec();
    for (too_long, blob_bytes) in [(false, 1u64 << 14), (true, (1 << 14) + 1), (true, (1 << 40) - 1)] {
        for entry in [1, 2] {
            head[72 + entry * 10 + 5..][..5].copy_from_slice(&blob_bytes.to_le_bytes()[..5]);
        }
        std::fs::write(&path, &head).unwrap();
        let sparse = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
        sparse.set_len(head.len() as u64 + blob_bytes + 32).unwrap();
        match Index::<FileReader>::open(&path) {
            Ok(index) => assert!(!too_long && index.verify().is_err_and(|e| e.is_corrupt())),
            Err(e) => assert!(too_long && matches!(e, Error::Corrupt { offset: 82, .. }), "{e}"),
        }
    }
}

#[test]
fn refusals_name_their_reason() {
    let bytes = file(40, Options::new());
    let with = |at: usize, value: u8| {
        let mut bytes = bytes.clone();
        bytes[at] = value;
        Index::from_source(bytes).unwrap_err()
    };
    assert!(matches!(with(0, 0), Error::NotAnIndex { .. }));
    assert!(matches!(with(4, 2), Error::UnsupportedVersion { version: 2, .. }));
    let unknown = with(31, 7);
    assert!(matches!(unknown, Error::UnknownAlgorithm { algorithm: 7, .. }));
    assert!(unknown.to_string().ends_with("bijection (0), ptrhash (1), fast (2), compact (3)"), "{unknown}");
    for at in [6, 14, 18, 22, 40, 64, 68, 72, 77] {
        assert!(matches!(with(at, 0x99), Error::Corrupt { .. }), "byte {at}");
    }
    let missing = Index::<FileReader>::open("/nowhere/index").unwrap_err();
    assert!(matches!(missing, Error::Disk(error) if error.is_not_found()));
}
