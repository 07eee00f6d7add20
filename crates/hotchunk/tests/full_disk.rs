//! A commit whose write fails in the middle is refused whole, and the store goes on once there is room. A limit on the size of
//! files stands for the full disk; it is the whole process's, so each case has one of its own.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::{env, path::Path, process::Command};

use common::{CHUNK, Forks, assert_whole, rows};
use icecore_hotchunk::{HotChunk, HotOptions, Phase};
use icecore_ledger::LedgerSeq;
use icecore_stellar::StellarDecoder;

mod common;

fn limit_files(bytes: u64) {
    let limit = libc::rlimit { rlim_cur: bytes, rlim_max: libc::RLIM_INFINITY };
    // SAFETY: plain system calls on values of this frame.
    unsafe {
        assert!(libc::signal(libc::SIGXFSZ, libc::SIG_IGN) != libc::SIG_ERR);
        assert_eq!(libc::setrlimit(libc::RLIMIT_FSIZE, &limit), 0);
    }
}

#[test]
fn a_commit_that_meets_the_end_of_the_disk_is_refused_whole() {
    for step in 0..8 {
        let dir = tempfile::tempdir().unwrap();
        let child = Command::new(env::current_exe().unwrap())
            .args(["--exact", "limited_process", "--nocapture"])
            .env("ICECORE_TEST_DIR", dir.path())
            .env("ICECORE_TEST_LIMIT", (60_000 + step * 2_311).to_string())
            .output()
            .unwrap();
        assert!(child.status.success(), "step {step}: {}", String::from_utf8_lossy(&child.stderr));
    }
}

/// The process with the limit; nothing on its own.
#[test]
fn limited_process() {
    let Ok(dir) = env::var("ICECORE_TEST_DIR") else { return };
    let limit: u64 = env::var("ICECORE_TEST_LIMIT").unwrap().parse().unwrap();
    let (path, clean) = (Path::new(&dir).join("hot"), Path::new(&dir).join("clean"));
    let forks = Forks::new(2, "txs=8,events=2");
    let hot = HotChunk::create(&path, CHUNK, &HotOptions::default()).unwrap();
    limit_files(limit);
    let mut seq = CHUNK.first.0;
    let failed = loop {
        match hot.commit(&forks.ledger(seq, 0), &StellarDecoder) {
            Ok(_) => seq += 1,
            Err(failed) => break failed,
        }
    };
    assert!(seq > 4 && failed.phase == Phase::Commit && failed.source.is_retryable(), "{failed:?}");
    assert!(!failed.report.time(Phase::Commit).is_zero() && failed.report.time(Phase::Apply).is_zero());
    let last = LedgerSeq(seq - 1);
    let look = || {
        let view = hot.view().unwrap();
        assert_eq!(view.last(), Some(last));
        assert_whole(&view, last);
        assert_eq!(view.ledger(LedgerSeq(seq)).unwrap(), None);
    };
    look();
    limit_files(1000);
    for _ in 0..2 {
        let failed = hot.commit(&forks.ledger(seq, 0), &StellarDecoder).unwrap_err();
        assert!(failed.phase == Phase::Commit && failed.source.is_retryable());
        assert!(hot.truncate_after(LedgerSeq(3), &StellarDecoder).unwrap_err().is_retryable());
        look();
    }
    limit_files(libc::RLIM_INFINITY);
    // Another ledger in the place of the one that failed: nothing of that one stays.
    for seq in seq..seq + 3 {
        hot.commit(&forks.ledger(seq, 1), &StellarDecoder).unwrap();
    }
    hot.close();
    let reopened = HotChunk::open(&path, CHUNK, &HotOptions::default()).unwrap();
    assert_eq!(reopened.max_committed().unwrap(), Some(LedgerSeq(seq + 2)));
    let hot = HotChunk::create(&clean, CHUNK, &HotOptions::default()).unwrap();
    for number in CHUNK.first.0..seq + 3 {
        hot.commit(&forks.ledger(number, usize::from(number >= seq)), &StellarDecoder).unwrap();
    }
    assert!(rows(&path) == rows(&clean));
}
