//! What opening does with directories that are not what they should be: a typed error, and nothing changed.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::{collections::BTreeMap, fs, path::Path, process::Command};

use icecore_rockstore::{Batch, Error, Family, FamilyId, Holder, Reads, Span, Store, StoreOptions};

const FAMILIES: &[Family] = &[Family::new("a"), Family::new("b")];
const A: FamilyId = FamilyId(0);

fn options() -> StoreOptions {
    StoreOptions::default()
}

/// A store with one row in a file and two in the log.
fn make(path: &Path) {
    let store = Store::create(path, FAMILIES, &options()).unwrap();
    for key in [b"filed", b"logge", b"lower"] {
        let mut batch = Batch::new();
        batch.put(A, key, &[7; 100]);
        store.write(&batch).unwrap();
        if key == b"filed" {
            store.flush().unwrap();
        }
    }
}

/// Every file of a directory with its bytes; RocksDB's diary aside.
fn contents(path: &Path) -> BTreeMap<String, Vec<u8>> {
    let files = fs::read_dir(path).unwrap().map(|entry| entry.unwrap());
    let files = files.map(|file| (file.file_name().into_string().unwrap(), fs::read(file.path()).unwrap()));
    files.filter(|(name, _)| !name.starts_with("LOG")).collect()
}

fn file_with(path: &Path, part: &str) -> std::path::PathBuf {
    let mut names: Vec<_> = contents(path).into_keys().filter(|name| name.contains(part)).collect();
    names.sort();
    path.join(names.pop().unwrap())
}

#[test]
fn nothing_is_created_where_nothing_is() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    for open in [Store::open, Store::open_read_only] {
        assert!(
            matches!(open(path.clone(), FAMILIES, &options()), Err(Error::Missing { path: p }) if p == path)
        );
        assert!(!path.exists());
    }
    fs::create_dir(&path).unwrap();
    assert!(matches!(Store::open(&path, FAMILIES, &options()), Err(Error::Gutted { .. })));
    assert_eq!(fs::read_dir(&path).unwrap().count(), 0);
    let file = dir.path().join("file");
    fs::write(&file, "not a directory").unwrap();
    assert!(matches!(Store::open(&file, FAMILIES, &options()), Err(Error::Foreign { .. })));
    assert!(matches!(Store::create(&file, FAMILIES, &options()), Err(Error::Exists { .. })));
}

#[test]
fn creating_makes_a_new_store_only_and_finishes_what_a_crash_left() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    // A crash after some of the families were made.
    let aside = dir.path().join("s.creating");
    drop(Store::create(&aside, &FAMILIES[..1], &options()).unwrap());
    fs::create_dir(&path).unwrap();
    make(&path);
    assert!(!aside.exists());
    let before = contents(&path);
    assert!(
        matches!(Store::create(&path, FAMILIES, &options()), Err(Error::Exists { path: p }) if p == path)
    );
    assert_eq!(contents(&path), before);
    assert_eq!(
        Store::open(&path, FAMILIES, &options()).unwrap().get(A, b"logge").unwrap().unwrap(),
        [7; 100]
    );
}

#[test]
fn a_gutted_store_is_an_error_and_stays_as_it_is() {
    for part in ["CURRENT", "MANIFEST", ".sst"] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        make(&path);
        fs::remove_file(file_with(&path, part)).unwrap();
        let before = contents(&path);
        for open in [Store::open, Store::open_read_only] {
            let error = open(path.clone(), FAMILIES, &options()).unwrap_err();
            assert!(error.is_corrupt() && error.to_string().contains("restore"), "{part}: {error:?}");
            assert_eq!(contents(&path), before, "{part}");
        }
    }
}

#[test]
fn damage_is_told_from_a_torn_end() {
    for (part, at) in [("MANIFEST", 20), (".sst", 5), (".log", 30)] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        make(&path);
        let file = file_with(&path, part);
        let mut bytes = fs::read(&file).unwrap();
        bytes[at] ^= 1;
        fs::write(&file, bytes).unwrap();
        // A block is checked when it is read.
        let opened = Store::open(&path, FAMILIES, &options());
        let error = opened.and_then(|store| store.get(A, b"filed").map(drop)).unwrap_err();
        assert!(matches!(error, Error::Corrupt { .. }), "{part}: {error:?}");
    }
    // The log cut off anywhere within its last batch: that batch is gone, and nothing else.
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    make(&path);
    let log = file_with(&path, ".log");
    let bytes = fs::read(&log).unwrap();
    for cut in [1, 60, bytes.len() - 1] {
        fs::write(&log, &bytes[..cut]).unwrap();
        let store = Store::open_read_only(&path, FAMILIES, &options()).unwrap();
        assert_eq!(store.get(A, b"lower").unwrap(), None, "cut at {cut}");
        assert_eq!(store.get(A, b"logge").unwrap().is_some(), cut > bytes.len() / 2);
        assert_eq!(store.get(A, b"filed").unwrap().unwrap(), [7; 100]);
    }
    // A hole in it, as a loss of power can leave one.
    let mut torn = bytes.clone();
    torn[bytes.len() - 60..bytes.len() - 20].fill(0);
    fs::write(&log, &torn).unwrap();
    for open in [Store::open_read_only, Store::open] {
        let store = open(path.clone(), FAMILIES, &options()).unwrap();
        assert_eq!(store.get(A, b"lower").unwrap(), None);
        assert_eq!(store.get(A, b"logge").unwrap().unwrap(), [7; 100]);
    }
    // And is writable from there on.
    let store = Store::open(&path, FAMILIES, &options()).unwrap();
    let mut batch = Batch::new();
    batch.put(A, b"lower", b"again");
    store.write(&batch).unwrap();
    store.close();
    assert_eq!(
        Store::open(&path, FAMILIES, &options()).unwrap().get(A, b"lower").unwrap().unwrap(),
        b"again"
    );
}

#[test]
fn other_families_are_foreign() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    make(&path);
    let before = contents(&path);
    let others: [&[Family]; 3] = [
        &FAMILIES[..1],
        &[Family::new("a"), Family::new("c")],
        &[FAMILIES[0], FAMILIES[1], Family::new("c")],
    ];
    for families in others {
        let error = Store::open(&path, families, &options()).unwrap_err();
        assert!(matches!(error, Error::Foreign { .. }) && error.to_string().contains("a, b"), "{error}");
        assert_eq!(contents(&path), before);
    }
    let swapped = Store::open(&path, &[FAMILIES[1], FAMILIES[0]], &options());
    assert!(matches!(swapped, Err(Error::Foreign { .. })));
}

#[test]
fn a_newer_store_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    make(&path);
    let file = file_with(&path, "OPTIONS");
    let text = fs::read_to_string(&file).unwrap();
    assert!(text.contains("rocksdb_version=11."));
    fs::write(&file, text.replace("rocksdb_version=11.", "rocksdb_version=99.")).unwrap();
    // Where this one understands it, no harm is done.
    drop(Store::open_read_only(&path, FAMILIES, &options()).unwrap());
    let manifest = file_with(&path, "MANIFEST");
    let mut bytes = fs::read(&manifest).unwrap();
    bytes[10] ^= 0x55;
    fs::write(&manifest, bytes).unwrap();
    let error = Store::open(&path, FAMILIES, &options()).unwrap_err();
    assert!(matches!(&error, Error::Newer { found, .. } if found.starts_with("99.")), "{error:?}");
}

#[test]
fn a_second_writer_is_told_who_the_first_is() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    make(&path);
    let store = Store::open(&path, FAMILIES, &options()).unwrap();
    let error = Store::open(&path, FAMILIES, &options()).unwrap_err();
    assert!(
        matches!(&error, Error::Locked { path: p, holder: Holder::ThisProcess } if *p == path),
        "{error:?}"
    );
    assert!(error.is_retryable());
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "second_process", "--nocapture"])
        .env("ICECORE_TEST_STORE", &path)
        .env("ICECORE_TEST_HOLDER", std::process::id().to_string())
        .status();
    assert!(child.unwrap().success());
    // Looking at the lock has not given it up.
    assert!(matches!(Store::open(&path, FAMILIES, &options()), Err(Error::Locked { .. })));
    // Reading is free, and sees what is in the log.
    let reading = Store::open_read_only(&path, FAMILIES, &options()).unwrap();
    assert_eq!(reading.get(A, b"logge").unwrap().unwrap(), [7; 100]);
    let mut batch = Batch::new();
    batch.put(A, b"k", b"v");
    assert!(matches!(reading.write(&batch), Err(Error::ReadOnly { .. })));
    store.close();
    drop(Store::open(&path, FAMILIES, &options()).unwrap());
}

/// The other process of the test above; nothing on its own.
#[test]
fn second_process() {
    let Ok(path) = std::env::var("ICECORE_TEST_STORE") else { return };
    let pid: u32 = std::env::var("ICECORE_TEST_HOLDER").unwrap().parse().unwrap();
    let error = Store::open(&path, FAMILIES, &options()).unwrap_err();
    assert!(matches!(error, Error::Locked { holder: Holder::Process(p), .. } if p == pid), "{error:?}");
    assert!(error.to_string().contains(&path) && error.to_string().contains(&pid.to_string()), "{error}");
}

#[test]
fn a_checkpoint_is_a_store_of_that_moment() {
    let dir = tempfile::tempdir().unwrap();
    let (path, copy) = (dir.path().join("s"), dir.path().join("copy"));
    make(&path);
    let store = Store::open(&path, FAMILIES, &options()).unwrap();
    store.checkpoint(&copy).unwrap();
    assert!(matches!(store.checkpoint(&copy), Err(Error::Exists { .. })));
    let mut batch = Batch::new();
    batch.delete(A, b"filed");
    store.write(&batch).unwrap();
    let copy = Store::open(&copy, FAMILIES, &options()).unwrap();
    let reader = copy.reader().unwrap();
    let mut rows = reader.rows(A, Span::all()).unwrap();
    assert_eq!(rows.next_row().unwrap().unwrap().0, b"filed");
    assert_eq!(rows.next_row().unwrap().unwrap().0, b"logge");
}

#[test]
fn what_is_being_destroyed_is_never_taken_for_a_smaller_store() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    make(&path);
    // As the first step leaves it, and every further one: all files but the one that says where to begin.
    let files = contents(&path);
    fs::remove_file(path.join("CURRENT")).unwrap();
    for name in files.keys().filter(|name| *name != "CURRENT") {
        let opened = Store::open_read_only(&path, FAMILIES, &options());
        assert!(matches!(opened, Err(Error::Gutted { .. })), "{opened:?}");
        fs::remove_file(path.join(name)).unwrap();
    }
    // From whatever is left, and once more.
    Store::destroy(&path).unwrap();
    assert!(!path.exists());
    Store::destroy(&path).unwrap();
    make(&path);
    Store::destroy(&path).unwrap();
    assert!(!path.exists());
}
