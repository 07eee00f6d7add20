//! Every way of reading, from every kind of source, against a plain vector of items.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use std::sync::{Arc, atomic::Ordering::Relaxed};

use common::{Counted, build, codec};
use icecore_diskio::{Disk, FaultyDisk, Mmap};
use icecore_packfile::{Codec, Error, Options, Reader};
use icecore_testkit::SplitMix64;
use proptest::{collection::vec, prelude::*};

fn items() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let item = prop_oneof![
        2 => Just(Vec::new()),
        8 => vec(any::<u8>(), 0..40),
        1 => (any::<u8>(), 0..3000usize).prop_map(|(byte, len)| vec![byte; len]),
    ];
    vec(item, 0..300)
}

fn check(reader: &Reader, items: &[Vec<u8>], seed: u64) {
    let mut rng = SplitMix64::new(seed);
    let count = items.len() as u32;
    assert_eq!(reader.item_count().unwrap(), count);
    let mut buf = b"left over".to_vec();
    for (position, item) in items.iter().enumerate() {
        reader.read_item_into(position as u32, &mut buf).unwrap();
        assert_eq!(&buf, item);
    }
    for _ in 0..4 {
        let start = rng.below(u64::from(count) + 1) as u32;
        let len = rng.below(u64::from(count - start) + 1) as u32;
        let read: Vec<_> = reader.read_range(start, len).unwrap().map(Result::unwrap).collect();
        assert_eq!(read, items[start as usize..(start + len) as usize]);

        let mut positions: Vec<u32> = (0..len).map(|_| rng.below(count.into()) as u32).collect();
        positions.sort_unstable();
        let expected: Vec<_> = positions.iter().map(|&position| items[position as usize].clone()).collect();
        for threads in [0, 1, 3] {
            assert_eq!(reader.read_items(&positions, threads).unwrap(), expected);
        }
    }
    for (start, len) in [(count, 1), (0, count + 1), (u32::MAX, 0), (u32::MAX, u32::MAX)] {
        let e = reader.read_range(start, len).err().unwrap();
        assert!(matches!(e, Error::OutOfRange { item_count, .. } if item_count == count), "{e}");
    }
    assert!(matches!(reader.read_item(count), Err(Error::OutOfRange { .. })));
    assert!(matches!(reader.read_items(&[count], 1), Err(Error::OutOfRange { .. })));
    assert!(matches!(reader.read_items(&[1, 0], 1), Err(Error::Unsorted { before: 1, position: 0, .. })));
    reader.verify().unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn all_sources_give_the_items_back(
        items in items(),
        per_record in prop_oneof![Just(1u32), Just(2), Just(128), 1..400u32, Just(u32::MAX)],
        codec_number in 0..3usize,
        content_hash: bool,
        seed: u64,
    ) {
        let codec = codec(codec_number);
        let options = Options::new().items_per_record(per_record).codec(codec.clone()).content_hash(content_hash);
        let bytes = build(options.clone(), &items);
        prop_assert!(bytes == build(options.concurrency(4), &items), "concurrency changes the bytes");
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        std::fs::write(&path, &bytes).unwrap();
        check(&Reader::open(&path).with_codec(codec.clone()), &items, seed);
        check(&Reader::from_source(Mmap::open(&path).unwrap()).unwrap().with_codec(codec.clone()), &items, seed);
        check(&Reader::from_source(bytes).unwrap().with_codec(codec.clone()), &items, seed);
    }
}

#[test]
fn one_read_opens_and_one_reads_an_item() {
    let items: Vec<_> = (0..1000u32).map(|i| i.to_le_bytes().repeat(100)).collect();
    for per_record in [1, 128] {
        let bytes = build(Options::new().codec(Codec::None).items_per_record(per_record), &items);
        let source = Arc::new(Counted { bytes, ..Counted::default() });
        let reader = Reader::from_source(Arc::clone(&source)).unwrap().with_codec(Codec::None);
        assert_eq!(source.reads.load(Relaxed), 1);
        assert_eq!(reader.read_item(700).unwrap(), items[700]);
        assert_eq!(source.reads.load(Relaxed), 2);
        // What is read again, or verified, is not what was kept of the file.
        assert_eq!(reader.read_item(700).unwrap(), items[700]);
        assert_eq!(source.reads.load(Relaxed), 3);
    }
}

#[test]
fn neighbours_are_read_together_and_the_rest_apart() {
    let items: Vec<_> = (0..100u8).map(|i| vec![i; 100_000]).collect();
    let options = Options::new().codec(Codec::None).items_per_record(1);
    let source = Arc::new(Counted { bytes: build(options, &items), ..Counted::default() });
    let reader = Reader::from_source(Arc::clone(&source)).unwrap().with_codec(Codec::None);
    let reads = |work: &dyn Fn()| {
        let before = source.reads.load(Relaxed);
        work();
        source.reads.load(Relaxed) - before
    };
    // Ten of these fit a window.
    assert_eq!(reads(&|| assert_eq!(reader.read_range(0, 100).unwrap().count(), 100)), 10);
    assert_eq!(reads(&|| assert_eq!(reader.read_range(5, 10).unwrap().count(), 10)), 1);
    assert_eq!(reads(&|| reader.verify().unwrap()), 10);
    assert_eq!(reads(&|| assert!(reader.read_items(&[0, 1, 1, 2, 50, 51, 98], 1).is_ok())), 3);
    assert!(source.largest.load(Relaxed) <= 1 << 20);
}

#[test]
fn a_record_larger_than_a_window_and_an_index_larger_than_the_tail() {
    let large = vec![vec![1; 3 << 20], vec![2; 10], vec![3; 2 << 20]];
    let many: Vec<_> = (0..400_000u32).map(|i| vec![0; (i % 50) as usize]).collect();
    for (items, index_bytes) in [(large, 0), (many, 256 << 10)] {
        let bytes = build(Options::new().codec(Codec::None).items_per_record(1), &items);
        let reader =
            Reader::from_source(Counted { bytes, ..Counted::default() }).unwrap().with_codec(Codec::None);
        assert!(reader.info().unwrap().index_bytes > index_bytes);
        let read: Vec<_> = reader.read_range(0, items.len() as u32).unwrap().map(Result::unwrap).collect();
        assert!(read == items);
        assert_eq!(reader.app_data().unwrap(), b"app data");
        reader.verify().unwrap();
    }
}

#[test]
fn many_threads_share_a_reader() {
    let mut rng = SplitMix64::new(3);
    let items: Vec<_> = (0..2000).map(|_| rng.item(200)).collect();
    let (disk, path) = (FaultyDisk::new(), std::path::Path::new("f"));
    common::write(&disk, path, Options::new(), &items).unwrap();
    let disk: Arc<dyn Disk> = Arc::new(disk);
    let reader = Reader::open_on(&disk, path);
    std::thread::scope(|scope| {
        for seed in 0..6 {
            let (reader, items) = (&reader, &items);
            scope.spawn(move || {
                let mut rng = SplitMix64::new(seed);
                for _ in 0..200 {
                    let position = rng.below(2000) as usize;
                    assert_eq!(reader.read_item(position as u32).unwrap(), items[position]);
                }
                let range = reader.read_range(seed as u32 * 300, 300).unwrap();
                assert!(range.zip(&items[seed as usize * 300..]).all(|(read, item)| read.unwrap() == *item));
            });
        }
    });
}

#[test]
fn opening_fails_at_the_first_use_and_every_later_one() {
    let dir = tempfile::tempdir().unwrap();
    let missing = Reader::open(dir.path().join("missing"));
    assert!(missing.item_count().unwrap_err().is_not_found());
    assert!(missing.read_item(0).unwrap_err().is_not_found());
    let directory = Reader::open(dir.path());
    assert!(matches!(directory.verify(), Err(Error::Io(_))));
    drop(Reader::open(dir.path().join("never used")));
}

#[test]
fn readers_may_choose_the_codec_by_the_format() {
    for (format, codec) in [(1, Codec::None), (2, Codec::Zstd)] {
        let options = Options::new().format(format).codec(codec);
        let reader = Reader::from_source(build(options, &[b"item".to_vec()])).unwrap();
        let codec = if reader.format().unwrap() == 1 { Codec::None } else { Codec::Zstd };
        assert_eq!(reader.with_codec(codec.clone()).read_item(0).unwrap(), b"item");
    }
}

#[test]
fn extracted_bytes_are_what_is_hashed() {
    let decode = |item: &[u8], out: &mut Vec<u8>| {
        out.extend(item.iter().map(|byte| byte ^ 0x55));
        Ok(())
    };
    let plain: Vec<Vec<u8>> = vec![b"one".to_vec(), b"".to_vec(), b"three".to_vec()];
    let hidden: Vec<Vec<u8>> =
        plain.iter().map(|item| item.iter().map(|byte| byte ^ 0x55).collect()).collect();
    let expected = Reader::from_source(build(Options::new().content_hash(true), &plain)).unwrap();
    for concurrency in [1, 2] {
        let options = Options::new().hash_extract(decode).concurrency(concurrency);
        let reader = Reader::from_source(build(options, &hidden)).unwrap();
        assert_eq!(reader.content_hash().unwrap(), expected.content_hash().unwrap());
        reader.verify_with(decode).unwrap();
        assert!(matches!(reader.verify(), Err(Error::Checksum { .. })));
        let refused = reader.verify_with(|_, _| Err("no".into())).unwrap_err();
        assert!(matches!(refused, Error::Decode { record: 0, .. }) && refused.is_corrupt(), "{refused}");
    }
}
