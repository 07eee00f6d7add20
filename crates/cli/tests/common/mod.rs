//! The program, a daemon of it that is killed when it is let go of, and the ledgers that it should have.
#![allow(clippy::unwrap_used, clippy::panic, dead_code)]

use std::{
    collections::BTreeMap,
    fs::File,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use icecore_ledger::{LedgerRange, LedgerSeq, Source};
use icecore_stellar::source::Generator;
use serde_json::Value;

/// How long anything may take on a machine that is busy with other things.
const PATIENCE: Duration = Duration::from_secs(60);

/// Made-up ledgers: however many of them there are, each is the same.
pub(crate) fn spec(ledgers: u32) -> String {
    format!("gen:seed=5,ledgers={ledgers},txs=3,events=2")
}

pub(crate) fn icecore(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_icecore")).args(args).output().unwrap()
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

pub(crate) fn json(args: &[&str]) -> Value {
    let output = icecore(args);
    assert!(output.status.success(), "{args:?}: {}", stderr(&output));
    serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{args:?}: {e}"))
}

/// The ledgers as the generator makes them, by sequence.
pub(crate) fn truth(first: u32, last: u32) -> BTreeMap<u32, Vec<u8>> {
    let source: Generator = spec(last).parse().unwrap();
    let range = LedgerRange::new(LedgerSeq(first), LedgerSeq(last)).unwrap();
    let mut stream = source.stream(range).unwrap();
    let mut ledgers = BTreeMap::new();
    while let Some(ledger) = stream.next_ledger().unwrap() {
        ledgers.insert(ledger.seq.0, ledger.bytes.to_vec());
    }
    ledgers
}

/// A store of small chunks in a directory that vanishes.
pub(crate) struct Data {
    pub(crate) dir: tempfile::TempDir,
}

impl Data {
    pub(crate) fn new() -> Self {
        Data { dir: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.dir.path().join("store")
    }

    pub(crate) fn text(&self) -> String {
        self.path().to_str().unwrap().to_owned()
    }

    /// Runs a command on the store, which must succeed with JSON.
    pub(crate) fn json(&self, command: &str, more: &[&str]) -> Value {
        let text = self.text();
        json(&[&[command, "--data", &text, "--json"], GEOMETRY, more].concat())
    }

    pub(crate) fn run(&self, command: &str, more: &[&str]) -> Output {
        let text = self.text();
        icecore(&[&[command, "--data", &text], GEOMETRY, more].concat())
    }

    /// A ledger as `get` answers it, beside whoever works on the store.
    pub(crate) fn ledger(&self, seq: u32) -> Option<Vec<u8>> {
        let output = icecore(&["get", "ledger", &seq.to_string(), "--raw", "--data", &self.text()]);
        match output.status.code() {
            Some(0) => Some(output.stdout),
            Some(4) => None,
            code => panic!("get ledger {seq}: {code:?}: {}", stderr(&output)),
        }
    }
}

pub(crate) const GEOMETRY: &[&str] = &["--ledgers-per-chunk", "10", "--chunks-per-window", "3"];

/// A daemon; killed when it is let go of.
pub(crate) struct Daemon {
    child: Child,
    data: PathBuf,
    log: PathBuf,
}

impl Daemon {
    /// Starts one that has `bulk` ledgers to fetch, and `live` ones from a program that sends them, one each `pace`
    /// milliseconds.
    pub(crate) fn start(data: &Data, bulk: u32, live: Option<(u32, u32, u32)>, more: &[&str]) -> Self {
        let bulk = spec(bulk);
        let mut args: Vec<String> =
            ["daemon", "--bulk", &bulk, "--admin", "127.0.0.1:0"].map(str::to_owned).into();
        args.extend(["--data".to_owned(), data.text()]);
        args.extend(GEOMETRY.iter().chain(more).map(|&arg| arg.to_owned()));
        if let Some((from, to, pace)) = live {
            let program = env!("CARGO_BIN_EXE_icecore");
            let source = spec(to);
            args.push("--live".to_owned());
            args.push(format!("exec:{program} replay --source {source} --from {from} --pace {pace}"));
        }
        let log = data.dir.path().join("log");
        let file = File::options().create(true).append(true).open(&log).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_icecore"))
            .args(&args)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(file)
            .spawn()
            .unwrap();
        Daemon { child, data: data.path(), log }
    }

    /// The status, or nothing while it does not answer yet.
    pub(crate) fn status(&self) -> Option<Value> {
        let output = icecore(&["status", "--data", self.data.to_str().unwrap(), "--json"]);
        serde_json::from_slice(&output.stdout).ok().filter(|status: &Value| status["workers"].is_array())
    }

    /// Waits until the status is as it should be.
    pub(crate) fn until(&mut self, what: &str, is: impl Fn(&Value) -> bool) -> Value {
        let begun = Instant::now();
        let mut last = None;
        while begun.elapsed() < PATIENCE {
            if let Some(status) = self.status() {
                if is(&status) {
                    return status;
                }
                last = Some(status);
            }
            if let Some(code) = self.child.try_wait().unwrap() {
                panic!("the daemon ended ({code}) before {what}: {}", self.log());
            }
            thread::yield_now();
        }
        panic!("no {what}: {last:?}\n{}", self.log());
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Signal 9, without warning.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Asks it to stop, and gives its exit code.
    pub(crate) fn stop(mut self) -> i32 {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        self.child.wait().unwrap().code().unwrap()
    }

    /// Waits for it to end by itself.
    pub(crate) fn ended(mut self) -> (i32, String) {
        let code = self.child.wait().unwrap().code().unwrap();
        (code, self.log())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may have ended, which is no news here.
        let _ended = self.child.kill();
        let _code = self.child.wait();
    }
}

/// The exit code of an audit, with what it said.
pub(crate) fn audit(data: &Path, more: &[&str]) -> (i32, String) {
    let output = icecore(&[&["audit", "--data", data.to_str().unwrap()], more].concat());
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &stderr(&output);
    (output.status.code().unwrap(), said)
}
