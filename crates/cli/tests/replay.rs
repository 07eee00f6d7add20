//! Replaying as a reader of the stream sees it, and as whoever starts it does.
#![allow(clippy::unwrap_used)]

use std::{
    io::Read,
    process::{Command, Output, Stdio},
};

use icecore_ledger::{Error, LedgerSeq};
use icecore_stellar::source::live;

const SPEC: &str = "gen:ledgers=8,txs=2";

fn replay(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_icecore"));
    command.args(["replay", "--source", SPEC]).args(args);
    command
}

fn run(args: &[&str]) -> Output {
    replay(args).output().unwrap()
}

/// The sequences that a daemon would see of `icecore replay …` as its child, and how that ended.
fn as_child(args: &str) -> (Vec<u32>, Error) {
    let text = format!("exec:exec {} replay --source {SPEC} {args}", env!("CARGO_BIN_EXE_icecore"));
    let opened = live::open(&text).unwrap();
    let mut stream = opened.source.open(LedgerSeq(2), &|| false).unwrap();
    let mut seqs = Vec::new();
    loop {
        match stream.next_ledger() {
            Ok(ledger) => seqs.push(ledger.unwrap().seq.0),
            Err(error) => return (seqs, error),
        }
    }
}

#[test]
fn ledgers_and_faults_reach_the_reader() {
    for (args, seqs, says) in [
        ("--from 3 --to 5", &[3, 4, 5][..], "exit status: 0"),
        ("--out fd:1 --to 4 --fault repeat@3", &[2, 3, 3, 4], "exit status: 0"),
        ("--pace 1 --to 4 --fault exit@4:9", &[2, 3], "between two ledgers; exit status: 9"),
        ("--fault skip@3-5 --fault cut@8", &[2, 6, 7], "in the middle of ledger 8; exit status: 1"),
        ("--fault garbage@4", &[2, 3], "not a frame's length"),
    ] {
        let (came, error) = as_child(args);
        assert_eq!(came, seqs, "{args}");
        assert!(error.to_string().contains(says), "{args}: {error}");
    }
}

#[test]
fn what_makes_no_sense_is_wrong_usage() {
    for (args, says) in [
        (&["--fault", "burn@3"][..], "cut@N"),
        (&["--from", "5", "--to", "4"], "ends before"),
        (&["--pace", "x"], "invalid value"),
    ] {
        let output = run(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains(says), "{args:?}");
    }
    assert_eq!(run(&["--out", "/no/such/directory/pipe"]).status.code(), Some(1));
}

/// A hang, a pipe that nobody reads from and a long pause end with SIGTERM.
#[test]
fn it_stops_when_asked() {
    let dir = tempfile::tempdir().unwrap();
    let pipe = dir.path().join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    for args in [&["--fault", "hang@3"][..], &["--pace", "3600000"], &["--out", pipe.to_str().unwrap()]] {
        let mut child = replay(args).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        if args[0] != "--out" {
            // It is at work once the first ledger comes.
            child.stdout.as_mut().unwrap().read_exact(&mut [0; 8]).unwrap();
        } else {
            while !listens(child.id()) {
                std::thread::yield_now();
            }
        }
        assert!(Command::new("kill").arg(child.id().to_string()).status().unwrap().success());
        assert_eq!(child.wait().unwrap().code(), Some(130), "{args:?}");
    }
}

/// True once a process catches SIGTERM.
fn listens(pid: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
    caught
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .is_some_and(|mask| mask & (1 << 14) != 0)
}
