//! Ingesting as a script sees it: answers from hot and frozen chunks alike, interruptions, wishes that make no sense.
#![allow(clippy::unwrap_used)]

use std::{
    io::{BufRead, BufReader},
    path::PathBuf,
    process::{Child, Command, Output, Stdio},
};

use serde_json::Value;

const SPEC: &str = "gen:seed=3,ledgers=45,txs=5,events=2,fee_bumps=20";
/// Ledgers 2 to 46, ten to a chunk: four full chunks, five ledgers of a fifth.
const LAST: u64 = 46;

fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_icecore"));
    command.args(args);
    command
}

fn icecore(args: &[&str]) -> Output {
    command(args).output().unwrap()
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn json(args: &[&str]) -> Vec<Value> {
    let output = icecore(args);
    assert_eq!(code(&output), 0, "{args:?}: {}", stderr(&output));
    parse(&output)
}

fn parse(output: &Output) -> Vec<Value> {
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

struct Data {
    _dir: tempfile::TempDir,
    path: PathBuf,
}

impl Data {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Data { path: dir.path().join("data"), _dir: dir }
    }

    fn path(&self) -> &str {
        self.path.to_str().unwrap()
    }

    fn args<'a>(&'a self, source: &'a str, more: &[&'a str]) -> Vec<&'a str> {
        let mut args = vec!["ingest", "--json", "--source", source, "--data", self.path()];
        args.extend(["--ledgers-per-chunk", "10", "--chunks-per-window", "3"]);
        args.extend(more);
        args
    }

    fn ingest(&self, more: &[&str]) -> Vec<u64> {
        ledgers(&json(&self.args(SPEC, more)))
    }

    /// Builds cold files of the same ledgers, up to one.
    fn freeze(&self, to: &str) {
        let args = ["build", "--json", "--source", SPEC, "--out", self.path(), "--to", to];
        json(&[args.as_slice(), &["--ledgers-per-chunk", "10", "--chunks-per-window", "3"]].concat());
    }

    fn get(&self, args: &[&str]) -> Vec<Value> {
        json(&[args, &["--data", self.path(), "--json"]].concat())
    }
}

fn ledgers(lines: &[Value]) -> Vec<u64> {
    lines.iter().map(|line| line["ledger"].as_u64().unwrap()).collect()
}

/// Every hash of a store built from the same ledgers, with its ledger.
fn frozen() -> (Data, Vec<Value>) {
    let cold = Data::new();
    cold.freeze("41");
    let events = cold.get(&["get", "events", "--limit", "100000"]);
    assert!(!events.is_empty());
    (cold, events)
}

/// An answer without the word that says which kind of store gave it.
fn facts(answer: &Value) -> Value {
    let mut answer = answer.clone();
    answer.as_object_mut().unwrap().remove("from").unwrap();
    answer
}

#[test]
fn hot_and_frozen_chunks_answer_alike_and_say_which() {
    let (cold, cold_events) = frozen();
    let data = Data::new();
    assert_eq!(data.ingest(&[]), (2..=LAST).collect::<Vec<_>>());
    // Two chunks are frozen too: their files answer from then on.
    data.freeze("21");
    let place = |ledger: u64| if ledger <= 21 { "cold" } else { "hot" };
    for ledger in [2, 21, 22, 41] {
        let answer = &data.get(&["get", "ledger", &ledger.to_string()])[0];
        assert_eq!(answer["from"], place(ledger));
        assert_eq!(facts(answer), facts(&cold.get(&["get", "ledger", &ledger.to_string()])[0]));
    }
    assert_eq!(data.get(&["get", "ledger", &LAST.to_string()])[0]["from"], "hot");

    let events = data.get(&["get", "events", "--limit", "100000", "--to", "41"]);
    assert_eq!(
        events.iter().map(facts).collect::<Vec<_>>(),
        cold_events.iter().map(facts).collect::<Vec<_>>()
    );
    assert!(events.iter().all(|event| event["from"] == place(event["ledger"].as_u64().unwrap())));
    let mut newest = data.get(&["get", "events", "--limit", "100000", "--to", "41", "--desc"]);
    newest.reverse();
    assert_eq!(newest, events);

    // A page that ends in a hot chunk is gone on with there, one that ends in a frozen one too.
    for middle in [3, events.len() / 2, events.len() - 3] {
        let page = data.get(&["get", "events", "--to", "41", "--limit", &middle.to_string()]);
        let cursor = page.last().unwrap()["cursor"].as_str().unwrap();
        let rest = data.get(&["get", "events", "--to", "41", "--limit", "100000", "--cursor", cursor]);
        assert_eq!([page.as_slice(), &rest].concat(), events);
    }

    for event in events.iter().step_by(17) {
        let hash = event["tx_hash"].as_str().unwrap();
        let answer = &data.get(&["get", "tx", hash])[0];
        assert_eq!(answer["from"], place(event["ledger"].as_u64().unwrap()));
        assert_eq!(facts(answer), facts(&cold.get(&["get", "tx", hash])[0]));
    }
    let listed = json(&["ls", data.path(), "--json"]);
    let hot: Vec<_> = listed.iter().filter(|line| !line["hot_chunk"].is_null()).collect();
    let range = |line: &&Value| {
        [&line["hot_chunk"], &line["first_ledger"], &line["last_ledger"]].map(|n| n.as_u64().unwrap())
    };
    assert_eq!(hot.iter().map(range).collect::<Vec<_>>(), [[2, 22, 31], [3, 32, 41], [4, 42, 46]]);
    let missing = icecore(&["get", "ledger", "47", "--data", data.path()]);
    assert_eq!(code(&missing), 4);
    assert!(stderr(&missing).contains("the store has ledgers 2 to 46"), "{}", stderr(&missing));
}

#[test]
fn it_goes_on_where_it_was() {
    let data = Data::new();
    assert_eq!(data.ingest(&["--to", "15"]), (2..=15).collect::<Vec<_>>());
    assert!(data.ingest(&["--to", "15"]).is_empty());
    assert_eq!(data.ingest(&["--to", "21"]), (16..=21).collect::<Vec<_>>());
    // A full chunk is left behind for the next one.
    assert_eq!(data.ingest(&[]), (22..=LAST).collect::<Vec<_>>());
    let hot = |chunk: u32| data.path.join(format!("hot/{chunk:08}")).is_dir();
    assert!((0..5).all(hot) && !hot(5));
}

#[test]
fn a_store_that_is_frozen_is_gone_on_with_in_a_hot_chunk() {
    let data = Data::new();
    data.freeze("21");
    assert_eq!(data.ingest(&["--to", "25"]), (22..=25).collect::<Vec<_>>());
    assert_eq!(data.get(&["get", "ledger", "21"])[0]["from"], "cold");
    assert_eq!(data.get(&["get", "ledger", "25"])[0]["from"], "hot");
}

#[test]
fn a_new_store_begins_with_a_whole_chunk() {
    let data = Data::new();
    assert_eq!(data.ingest(&["--from", "5", "--to", "13"]), [12, 13]);
}

/// Ingests without an end, and without a pause.
fn endless(data: &Data, pace: &str) -> Child {
    let source = "gen:seed=3,ledgers=1000000,txs=5,events=2";
    let mut command = command(&data.args(source, &["--pace", pace]));
    command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap()
}

fn signal(child: &Child, name: &str) {
    let done = Command::new("kill").args([name, &child.id().to_string()]).status().unwrap();
    assert!(done.success());
}

/// Waits for some ledgers, sends a signal, and gives the last ledger that was acknowledged and how it ended.
fn stopped(data: &Data, name: &str, after: usize) -> (u64, Option<i32>) {
    let mut child = endless(data, "0");
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let read = |line: std::io::Result<String>| -> Option<u64> {
        // The last line of a process that is killed may be cut.
        serde_json::from_str::<Value>(&line.ok()?).ok()?["ledger"].as_u64()
    };
    let mut last = lines.by_ref().take(after).filter_map(read).last().unwrap();
    signal(&child, name);
    last = last.max(lines.filter_map(read).last().unwrap_or(0));
    (last, child.wait().unwrap().code())
}

#[test]
fn ctrl_c_and_kill_9_leave_a_store_that_goes_on() {
    let data = Data::new();
    let mut next = 2;
    for (round, name) in ["-INT", "-KILL", "-KILL", "-TERM", "-KILL"].into_iter().enumerate() {
        let (last, ended) = stopped(&data, name, 7 + 11 * round);
        assert_eq!(ended, if name == "-KILL" { None } else { Some(130) });
        assert!(last >= next);
        for ledger in [next, last] {
            assert_eq!(data.get(&["get", "ledger", &ledger.to_string()])[0]["from"], "hot");
        }
        // At most one that nobody was told of.
        let beyond = icecore(&["get", "ledger", &(last + 2).to_string(), "--data", data.path()]);
        assert_eq!(code(&beyond), 4, "{}", stderr(&beyond));
        next = last + 1;
    }
}

#[test]
fn one_at_a_time_and_reads_beside_it() {
    let data = Data::new();
    let mut child = endless(&data, "2");
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    // Past the first chunk's end, so that one is full and the next is being written.
    lines.by_ref().take(14).for_each(|line| drop(line.unwrap()));
    let second = icecore(&data.args(SPEC, &[]));
    assert_eq!(code(&second), 1, "{}", stderr(&second));
    assert!(stderr(&second).contains("another process is writing"), "{}", stderr(&second));
    for ledger in ["2", "13"] {
        assert_eq!(data.get(&["get", "ledger", ledger])[0]["from"], "hot");
    }
    // From the chunk that is full, and from the one that is being written.
    let events = data.get(&["get", "events", "--limit", "100000"]);
    let (first, last) = (&events[0]["ledger"], &events[events.len() - 1]["ledger"]);
    assert!(*first == 2 && last.as_u64().unwrap() >= 13, "{first} to {last}");
    signal(&child, "-TERM");
    lines.for_each(|line| drop(line.unwrap()));
    assert_eq!(child.wait().unwrap().code(), Some(130));
}

#[test]
fn wishes_that_make_no_sense_are_refused_by_name() {
    let data = Data::new();
    for (args, expected, words) in [
        (data.args(SPEC, &["--pace=-1"]), 2, "--pace"),
        (data.args(SPEC, &["--pace", "3600001"]), 2, "--pace"),
        (data.args("gen:nonsense=1", &[]), 2, "nonsense"),
        (data.args("/nowhere/at/all", &[]), 2, "/nowhere/at/all"),
    ] {
        let output = icecore(&args);
        assert_eq!(code(&output), expected, "{args:?}: {}", stderr(&output));
        assert!(stderr(&output).contains(words), "{}", stderr(&output));
    }
    assert!(!data.path.join("hot").exists());
    data.ingest(&["--to", "15"]);
    let later = icecore(&data.args(SPEC, &["--from", "30"]));
    assert_eq!(code(&later), 2);
    assert!(stderr(&later).contains("goes on with ledger 16"), "{}", stderr(&later));
    let other = icecore(&["ingest", "--source", SPEC, "--data", data.path(), "--ledgers-per-chunk", "20"]);
    assert_eq!(code(&other), 1);
    let foreign = data.args(SPEC, &["--network", "another one"]);
    assert_eq!(code(&icecore(&foreign)), 1);
    // A source that begins after the ledger that is due.
    let gap = icecore(&data.args("gen:seed=3,from=20,ledgers=9", &[]));
    assert_eq!(code(&gap), 1);
    // A chunk whose directory lost what makes it a store is not made anew over what is left.
    std::fs::remove_file(data.path.join("hot/00000001/CURRENT")).unwrap();
    let gutted = icecore(&data.args(SPEC, &[]));
    assert_eq!(code(&gutted), 3, "{}", stderr(&gutted));
    assert!(stderr(&gutted).contains("hot/00000001"), "{}", stderr(&gutted));
}
