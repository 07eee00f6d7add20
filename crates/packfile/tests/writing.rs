//! What a writer leaves behind when it is dropped, fails, or meets a name that is taken.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use std::{path::Path, sync::Arc};

use common::{build, write};
use icecore_diskio::{Disk, Fault, FaultyDisk, IfExists};
use icecore_packfile::{BoxError, Codec, Error, Options, Reader, RecordCodec, Writer};
use icecore_testkit::SplitMix64;

fn items() -> Vec<Vec<u8>> {
    let mut rng = SplitMix64::new(11);
    // Several batches, so that faults hit the middle of a file.
    (0..40).map(|i| rng.item(if i % 3 == 0 { 100_000 } else { 50 })).collect()
}

fn options(concurrency: usize) -> Options {
    Options::new().items_per_record(2).codec(Codec::None).concurrency(concurrency).bytes_per_sync(100_000)
}

#[test]
fn every_fault_at_every_operation_leaves_a_whole_file_or_none() {
    let (items, path) = (items(), Path::new("f"));
    let expected = build(options(1), &items);
    for concurrency in [1, 3] {
        let clean = FaultyDisk::new();
        write(&clean, path, options(concurrency), &items).unwrap();
        assert!(clean.operations() >= 6, "too few to be a test");
        for operation in 0..clean.operations() {
            for fault in [Fault::Io, Fault::DiskFull, Fault::ShortWrite, Fault::PowerCut] {
                let disk = FaultyDisk::new();
                disk.fail_at(operation, fault);
                let e = write(&disk, path, options(concurrency), &items).unwrap_err();
                assert!(matches!(e, Error::Io(_)) && e.is_retryable(), "{e:?}");
                whole_or_none(&disk.after_crash(), path, &expected);
                if fault != Fault::PowerCut {
                    assert!(disk.paths().is_empty(), "{:?}", disk.paths());
                    // What failed can be done again.
                    write(&disk, path, options(concurrency), &items).unwrap();
                    assert_eq!(disk.open(path).unwrap().as_bytes(), Some(expected.as_slice()));
                }
            }
        }
    }
}

fn whole_or_none(disk: &FaultyDisk, path: &Path, expected: &[u8]) {
    if disk.file_len(path).unwrap().is_some() {
        assert_eq!(disk.open(path).unwrap().as_bytes(), Some(expected));
    }
}

#[test]
fn buffers_go_round_without_a_trace() {
    let mut rng = SplitMix64::new(12);
    let mut items: Vec<_> = (0..3000).map(|i| rng.item(if i % 100 == 0 { 300_000 } else { 1000 })).collect();
    // So many empty ones that they fill batches too.
    items.resize(150_000, Vec::new());
    for per_record in [1, 5, 1000] {
        let options = Options::new().items_per_record(per_record).codec(Codec::None).content_hash(true);
        let alone = build(options.clone(), &items);
        for concurrency in [2, 5] {
            assert!(alone == build(options.clone().concurrency(concurrency), &items));
        }
        Reader::from_source(alone).unwrap().with_codec(Codec::None).verify().unwrap();
    }
}

#[test]
fn a_sealed_file_survives_a_power_cut() {
    let (disk, path) = (FaultyDisk::new(), Path::new("f"));
    write(&disk, path, options(2), &items()).unwrap();
    Reader::from_source(disk.after_crash().open(path).unwrap())
        .unwrap()
        .with_codec(Codec::None)
        .verify()
        .unwrap();
}

#[test]
fn a_dropped_writer_leaves_nothing() {
    for concurrency in [1, 3] {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = Writer::create(dir.path().join("f"), options(concurrency)).unwrap();
        items().iter().for_each(|item| writer.append(item).unwrap());
        assert!(!dir.path().join("f").exists());
        drop(writer);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}

#[test]
fn a_taken_name_is_refused_unless_told_otherwise() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f");
    let make = |item: &[u8], options: Options| -> icecore_packfile::Result<_> {
        let mut writer = Writer::create(&path, options)?;
        writer.append(item)?;
        writer.finish(b"")
    };
    make(b"old", Options::new()).unwrap();
    let e = make(b"new", Options::new()).unwrap_err();
    assert!(matches!(e, Error::Io(icecore_diskio::Error::Exists { .. })), "{e:?}");
    assert_eq!(Reader::open(&path).read_item(0).unwrap(), b"old");
    let old = Reader::open(&path);
    assert_eq!(old.item_count().unwrap(), 1);
    make(b"new", Options::new().if_exists(IfExists::Replace)).unwrap();
    assert_eq!(Reader::open(&path).read_item(0).unwrap(), b"new");
    assert_eq!(old.read_item(0).unwrap(), b"old");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
}

/// Refuses, or panics at, payloads that begin with a mark.
struct Picky;

impl RecordCodec for Picky {
    fn encode(&self, payload: &[u8], out: &mut Vec<u8>) -> Result<(), BoxError> {
        match payload.first() {
            Some(b'!') => return Err("refused".into()),
            Some(b'?') => panic!("expected by a test"),
            _ => out.extend_from_slice(payload),
        }
        Ok(())
    }

    fn decode(&self, encoded: &[u8], _: u64, out: &mut Vec<u8>) -> Result<(), BoxError> {
        out.extend_from_slice(encoded);
        Ok(())
    }
}

/// Appends until that fails, or finishes; the first error, and what a call after it said.
fn first_and_later_error(disk: &FaultyDisk, options: Options, items: &[Vec<u8>]) -> (Error, Option<Error>) {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    let mut writer = Writer::create_on(&disk, "f", options).unwrap();
    for item in items {
        if let Err(first) = writer.append(item) {
            let later = writer.append(b"fine").unwrap_err();
            assert_eq!(writer.finish(b"").unwrap_err().to_string(), later.to_string());
            return (first, Some(later));
        }
    }
    (writer.finish(b"").unwrap_err(), None)
}

#[test]
fn the_first_error_sticks() {
    let mut items = items();
    items.resize(400, vec![7; 10_000]);
    items[30] = b"!".to_vec();
    items[31] = b"?".to_vec();
    for concurrency in [1, 3] {
        let disk = FaultyDisk::new();
        let codec = Codec::Custom(Arc::new(Picky));
        let options = Options::new().items_per_record(1).codec(codec).concurrency(concurrency);
        let (first, later) = first_and_later_error(&disk, options, &items);
        assert!(matches!(first, Error::Encode { record: 30, .. }), "{first:?}");
        assert_eq!(first.to_string(), later.unwrap().to_string());
        assert_eq!(disk.paths(), Vec::<std::path::PathBuf>::new());

        let disk = FaultyDisk::new();
        disk.fail_at(2, Fault::DiskFull);
        let (first, later) = first_and_later_error(&disk, self::options(concurrency), &items);
        assert!(matches!(&first, Error::Io(icecore_diskio::Error::DiskFull { .. })), "{first:?}");
        assert_eq!(first.to_string(), later.unwrap().to_string());
        assert_eq!(disk.paths(), Vec::<std::path::PathBuf>::new());
    }
}

#[test]
fn a_panic_in_a_worker_is_an_error() {
    let items = vec![b"?".to_vec(); 3];
    let codec = Codec::Custom(Arc::new(Picky));
    let options = Options::new().items_per_record(1).codec(codec).concurrency(2);
    let (first, _) = first_and_later_error(&FaultyDisk::new(), options, &items);
    assert!(matches!(first, Error::Thread { .. }), "{first:?}");
}

#[test]
fn a_failing_extract_function_is_an_error() {
    for concurrency in [1, 2] {
        let options = Options::new().hash_extract(|_, _| Err("no".into())).concurrency(concurrency);
        let (first, _) = first_and_later_error(&FaultyDisk::new(), options, &[b"x".to_vec()]);
        assert!(matches!(first, Error::Extract { record: 0, .. }), "{first:?}");
    }
}

#[test]
fn zero_items_per_record_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let refused = Writer::create(dir.path().join("f"), Options::new().items_per_record(0));
    assert!(matches!(refused.err(), Some(Error::NoItemsPerRecord { .. })));
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn parts_make_one_item() {
    let whole = build(Options::new().items_per_record(3), &items());
    for (per_record, concurrency) in [(3, 1), (3, 2), (1, 1)] {
        let (disk, path) = (Arc::new(FaultyDisk::new()) as Arc<dyn Disk>, Path::new("f"));
        let options = Options::new().items_per_record(per_record).concurrency(concurrency);
        let mut writer = Writer::create_on(&disk, path, options).unwrap();
        for (i, item) in items().iter().enumerate() {
            let (front, back) = item.split_at(item.len() * (i % 4) / 3);
            writer.append_parts(&[front, b"", back]).unwrap();
        }
        assert_eq!(writer.item_count(), 40);
        writer.finish(b"app data").unwrap();
        let file = disk.open(path).unwrap();
        if per_record == 3 {
            assert!(file.as_bytes() == Some(whole.as_slice()));
        }
        let read: Vec<_> =
            Reader::from_source(file).unwrap().read_range(0, 40).unwrap().map(Result::unwrap).collect();
        assert!(read == items());
    }
}

/// Claims to encode into more than a record may hold, without spending the memory on it for long.
struct Swelling;

impl RecordCodec for Swelling {
    fn encode(&self, _: &[u8], out: &mut Vec<u8>) -> Result<(), BoxError> {
        // Zeroed memory that is never touched costs only addresses.
        *out = vec![0; (1 << 32) + out.len()];
        Ok(())
    }

    fn decode(&self, _: &[u8], _: u64, _: &mut Vec<u8>) -> Result<(), BoxError> {
        Err("never written".into())
    }
}

#[test]
fn what_the_format_has_no_room_for_is_refused() {
    let codec = Codec::Custom(Arc::new(Swelling));
    let options = Options::new().items_per_record(1).codec(codec);
    let (first, later) = first_and_later_error(&FaultyDisk::new(), options, &[b"x".to_vec()]);
    assert!(matches!(first, Error::TooLarge { what: "an encoded record", .. }), "{first:?}");
    assert!(matches!(later, Some(Error::TooLarge { .. })));

    let item = vec![0u8; 1 << 32];
    let (first, _) = first_and_later_error(&FaultyDisk::new(), Options::new(), &[item]);
    assert!(matches!(first, Error::TooLarge { what: "an item", .. }), "{first:?}");
}
