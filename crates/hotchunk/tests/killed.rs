//! A process that commits and truncates at full speed is killed at any moment, again and again. What it was told to be there
//! is there, whole; the one change that it was at is there, or is not.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::{
    env,
    fs::{self, OpenOptions},
    io::Write,
    path::Path,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use common::{CHUNK, Forks, rows};
use icecore_hotchunk::{HotChunk, HotOptions};
use icecore_ledger::{Decoder, LedgerSeq};
use icecore_stellar::StellarDecoder;
use icecore_testkit::SplitMix64;

mod common;

const ROUNDS: u64 = 200;
const FORKS: usize = 3;
const SHAPE: &str = "txs=3,events=2,contracts=3,accounts=5";

/// What the killed process says in its journal, five bytes each.
const COMMIT: u8 = 0; // and, from 0 to 2, of which fork
const TRUNCATE: u8 = 10;
const DONE: u8 = 11;

/// The forks of the ledgers that are there, in order.
type Chain = Vec<usize>;

fn apply(chain: &mut Chain, kind: u8, seq: u32) {
    match kind {
        TRUNCATE => chain.truncate((seq + 1 - CHUNK.first.0) as usize),
        fork => {
            assert_eq!(seq, CHUNK.first.0 + chain.len() as u32);
            chain.push(usize::from(fork));
        }
    }
}

/// The chain as acknowledged, and the change that was under way.
fn replay(journal: &[u8]) -> (Chain, Option<(u8, u32)>) {
    let (mut chain, mut pending) = (Chain::new(), None);
    for entry in journal.chunks_exact(5) {
        let seq = u32::from_be_bytes(entry[1..].try_into().unwrap());
        if entry[0] == DONE {
            let (kind, seq) = pending.take().unwrap();
            apply(&mut chain, kind, seq);
        } else {
            pending = Some((entry[0], seq));
        }
    }
    (chain, pending)
}

#[test]
fn what_was_acknowledged_survives_a_kill_at_any_moment() {
    let dir = tempfile::tempdir().unwrap();
    let (path, journal) = (dir.path().join("hot"), dir.path().join("journal"));
    let forks = Forks::new(FORKS as u64, SHAPE);
    let mut rng = SplitMix64::new(1);
    let (mut kept, mut changes) = (0, 0);
    for round in 0..ROUNDS {
        let mut child = Command::new(env::current_exe().unwrap())
            .args(["--exact", "killed_process", "--nocapture"])
            .env("ICECORE_TEST_DIR", dir.path())
            .env("ICECORE_TEST_SEED", round.to_string())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        // Most often once it is at work, else while it opens or makes the store.
        let size = || fs::metadata(&journal).map_or(0, |meta| meta.len());
        let (before, deadline) = (size(), Instant::now() + Duration::from_secs(20));
        while round % 8 != 0 && size() == before {
            assert!(Instant::now() < deadline, "the process does nothing");
            thread::sleep(Duration::from_millis(1));
        }
        thread::sleep(Duration::from_micros(rng.below(30_000)));
        child.kill().unwrap();
        child.wait().unwrap();
        if !path.exists() {
            continue;
        }
        let (mut chain, pending) = replay(&fs::read(&journal).unwrap_or_default());
        // Now and then opened for writing, as the process does itself; else as the crash left it.
        let all = round % 8 == 0;
        let open = if all { HotChunk::open } else { HotChunk::open_read_only };
        let hot = open(path.clone(), CHUNK, &HotOptions::default()).unwrap();
        let last = hot.max_committed().unwrap();
        if let Some((kind, seq)) = pending {
            let mut done = chain.clone();
            apply(&mut done, kind, seq);
            if last == last_of(&done) {
                // From now on it is history.
                let mut file = OpenOptions::new().append(true).open(&journal).unwrap();
                file.write_all(&[DONE, 0, 0, 0, 0]).unwrap();
                (chain, kept) = (done, kept + 1);
            }
        }
        assert_eq!(last, last_of(&chain), "round {round}, {pending:?}");
        let view = hot.view().unwrap();
        // All of what is new, and a look at the rest.
        for (number, fork) in chain.iter().enumerate().rev().take(8) {
            let seq = CHUNK.first.0 + number as u32;
            assert_eq!(view.ledger(LedgerSeq(seq)).unwrap().unwrap(), forks.ledger(seq, *fork));
            if all {
                common::assert_whole(&view, LedgerSeq(seq));
            } else {
                let decoded = forks.ledger(seq, *fork);
                let decoded = StellarDecoder.decode(&decoded).unwrap();
                assert!(decoded.hashes().all(|hash| view.ledger_of(&hash).unwrap() == Some(LedgerSeq(seq))));
            }
        }
        changes = fs::metadata(&journal).unwrap().len() / 10;
    }
    assert!(changes > ROUNDS, "{changes} changes, of which {kept} were there without an answer");
    // Every row is one of a run without a kill.
    let (chain, _) = replay(&fs::read(&journal).unwrap());
    let clean = dir.path().join("clean");
    let hot = HotChunk::create(&clean, CHUNK, &HotOptions::default()).unwrap();
    for (seq, fork) in (CHUNK.first.0..).zip(&chain) {
        hot.commit(&forks.ledger(seq, *fork), &StellarDecoder).unwrap();
    }
    assert!(rows(&path) == rows(&clean));
}

fn last_of(chain: &Chain) -> Option<LedgerSeq> {
    (CHUNK.first.0 + chain.len() as u32).checked_sub(1).filter(|last| *last >= CHUNK.first.0).map(LedgerSeq)
}

/// The process that is killed; nothing on its own.
#[test]
fn killed_process() {
    let Ok(dir) = env::var("ICECORE_TEST_DIR") else { return };
    let path = Path::new(&dir).join("hot");
    let mut rng = SplitMix64::new(env::var("ICECORE_TEST_SEED").unwrap().parse().unwrap());
    let forks = Forks::new(FORKS as u64, SHAPE);
    let options = HotOptions::default();
    let hot = if path.exists() {
        HotChunk::open(&path, CHUNK, &options)
    } else {
        HotChunk::create(&path, CHUNK, &options)
    };
    let hot = hot.unwrap();
    let mut journal =
        OpenOptions::new().create(true).append(true).open(Path::new(&dir).join("journal")).unwrap();
    let mut note = |kind: u8, seq: u32| {
        let [a, b, c, d] = seq.to_be_bytes();
        journal.write_all(&[kind, a, b, c, d]).unwrap();
    };
    loop {
        let next = hot.max_committed().unwrap().map_or(CHUNK.first.0, |last| last.0 + 1);
        if rng.below(20) == 0 {
            let seq = next.saturating_sub(1 + rng.below(30) as u32).max(CHUNK.first.0 - 1);
            note(TRUNCATE, seq);
            hot.truncate_after(LedgerSeq(seq), &StellarDecoder).unwrap();
        } else {
            let fork = rng.below(FORKS as u64) as usize;
            let raw = forks.ledger(next, fork);
            assert_eq!(StellarDecoder.decode(&raw).unwrap().seq.0, next);
            note(COMMIT + fork as u8, next);
            hot.commit(&raw, &StellarDecoder).unwrap();
        }
        note(DONE, 0);
    }
}
