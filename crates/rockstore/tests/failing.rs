//! Writes that fail in the middle. A limit on the size of files stands for the full disk: it hits at any byte of the log, and
//! is lifted again. The limit is the whole process's, so each case runs in one of its own.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::{
    env,
    path::Path,
    process::Command,
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use icecore_rockstore::{Batch, Error, Family, FamilyId, Reads, Settled, Span, Store, StoreOptions};

const FAMILIES: &[Family] = &[Family::new("a"), Family::new("b")];

/// Limits the size of the files that this process writes.
fn limit_files(bytes: u64) {
    let limit = libc::rlimit { rlim_cur: bytes, rlim_max: libc::RLIM_INFINITY };
    // SAFETY: plain system calls on values of this frame.
    unsafe {
        assert!(libc::signal(libc::SIGXFSZ, libc::SIG_IGN) != libc::SIG_ERR);
        assert_eq!(libc::setrlimit(libc::RLIMIT_FSIZE, &limit), 0);
    }
}

fn batch(number: u32) -> Batch {
    let mut batch = Batch::new();
    for row in 0..50u32 {
        let key = [number.to_be_bytes(), row.to_be_bytes()].concat();
        batch.put(FamilyId(row as usize % 2), &key, &[row as u8; 100]);
    }
    batch
}

/// The rows of each batch; panics when one is there in part.
fn batches(reads: &impl Reads) -> Vec<u32> {
    let mut rows = [0, 1].map(|family| {
        let mut found = Vec::new();
        let mut rows = reads.rows(FamilyId(family), Span::all()).unwrap();
        while let Some((key, _)) = rows.next_row().unwrap() {
            found.push(u32::from_be_bytes(key[..4].try_into().unwrap()));
        }
        found
    });
    assert_eq!(rows[0], rows[1]);
    for number in &rows[0] {
        assert_eq!(rows[0].iter().filter(|other| *other == number).count(), 25);
    }
    rows[0].dedup();
    rows[0].clone()
}

#[test]
fn a_failed_write_is_settled_and_the_store_goes_on() {
    let run = |limit: u64| {
        let dir = tempfile::tempdir().unwrap();
        let child = Command::new(env::current_exe().unwrap())
            .args(["--exact", "limited_process", "--nocapture"])
            .env("ICECORE_TEST_STORE", dir.path().join("s"))
            .env("ICECORE_TEST_LIMIT", limit.to_string())
            .output()
            .unwrap();
        assert!(child.status.success(), "limit {limit}: {}", String::from_utf8_lossy(&child.stderr));
    };
    // At the end of a batch, within its header, anywhere else.
    (0..12).for_each(|step| run(30_000 + step * 997));
}

/// The process with the limit; nothing on its own.
#[test]
fn limited_process() {
    let Ok(path) = env::var("ICECORE_TEST_STORE") else { return };
    let limit: u64 = env::var("ICECORE_TEST_LIMIT").unwrap().parse().unwrap();
    let path = Path::new(&path);
    let store = Store::create(path, FAMILIES, &StoreOptions::default()).unwrap();
    limit_files(limit);
    let mut number = 0;
    let error = loop {
        match store.write(&batch(number)) {
            Ok(()) => number += 1,
            Err(error) => break error,
        }
    };
    assert!(number > 2 && matches!(error, Error::Io { .. }), "{number}: {error:?}");
    let whole: Vec<_> = (0..number).collect();
    assert_eq!(batches(&store.reader().unwrap()), whole);
    assert!(matches!(store.write(&batch(number)), Err(Error::Unsettled { .. })));

    // While there is no room, reads go on, also those that began before.
    limit_files(100);
    assert!(store.recover().is_err());
    assert_eq!(batches(&store.reader().unwrap()), whole);
    assert!(matches!(store.write(&batch(number)), Err(Error::Unsettled { .. })));
    assert!(store.recover().is_err());

    limit_files(libc::RLIM_INFINITY);
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !stop.load(Ordering::SeqCst) {
                    assert_eq!(batches(&store.reader().unwrap()), whole);
                }
            });
        }
        let settled = store.recover().unwrap();
        stop.store(true, Ordering::SeqCst);
        assert_eq!(settled, Settled::Dropped);
    });
    assert_eq!(store.recover().unwrap(), Settled::NothingToDo);
    assert_eq!(batches(&store.reader().unwrap()), whole);
    (number..number + 5).for_each(|number| store.write(&batch(number)).unwrap());
    store.close();
    let store = Store::open(path, FAMILIES, &StoreOptions::default()).unwrap();
    assert_eq!(batches(&store.reader().unwrap()), (0..number + 5).collect::<Vec<_>>());
}
