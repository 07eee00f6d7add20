//! The program as a script sees it: answers, exit codes, interruptions.
#![allow(clippy::unwrap_used)]

use std::{
    io::Read,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use serde_json::Value;

const SPEC: &str = "gen:seed=3,ledgers=40,txs=5,events=2,fee_bumps=20";

fn icecore(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_icecore")).args(args).output().unwrap()
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Runs a command that must succeed and parses each line it prints.
fn json(args: &[&str]) -> Vec<Value> {
    let output = icecore(args);
    assert_eq!(code(&output), 0, "{args:?}: {}", text(&output.stderr));
    text(&output.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

struct Built {
    _dir: tempfile::TempDir,
    store: PathBuf,
}

impl Built {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let built = Built { store: dir.path().join("store"), _dir: dir };
        let report = &json(&build_args(SPEC, built.path()))[0];
        assert_eq!(report["chunks_built"], 4);
        built
    }

    fn path(&self) -> &str {
        self.store.to_str().unwrap()
    }

    fn file(&self, relative: &str) -> String {
        self.store.join(relative).to_str().unwrap().to_owned()
    }
}

fn build_args<'a>(source: &'a str, out: &'a str) -> [&'a str; 9] {
    [
        "build",
        "--json",
        "--source",
        source,
        "--out",
        out,
        "--ledgers-per-chunk",
        "10",
        "--chunks-per-window=3",
    ]
}

/// Every file below a directory, with its bytes.
fn files(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    let mut dirs = vec![dir.to_path_buf()];
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                dirs.push(path);
            } else {
                found.push((path.clone(), std::fs::read(path).unwrap()));
            }
        }
    }
    found.sort();
    found
}

#[test]
fn a_ledger_a_transaction_and_its_events_are_answered() {
    let built = Built::new();
    let ledger = &json(&["get", "ledger", "17", "--data", built.path(), "--json", "--decode"])[0];
    assert_eq!((ledger["ledger"].as_u64(), ledger["transactions"].as_u64()), (Some(17), Some(5)));
    assert!(ledger["xdr_json"].is_object());

    let event = &json(&[
        "get",
        "events",
        "--data",
        built.path(),
        "--from",
        "17",
        "--to",
        "17",
        "--limit",
        "1",
        "--json",
    ])[0];
    assert_eq!(event["ledger"], 17);
    let hash = event["tx_hash"].as_str().unwrap();
    let tx = &json(&["get", "tx", hash, "--data", built.path(), "--json"])[0];
    for field in ["hash", "ledger", "closed_at", "index", "envelope", "result", "meta"] {
        assert!(!tx[field].is_null(), "{field} in {tx}");
    }
    assert_eq!((tx["hash"].as_str(), tx["ledger"].as_u64()), (Some(hash), Some(17)));
    assert_eq!(tx["closed_at"], ledger["closed_at"]);
    let decoded = &json(&["get", "tx", hash, "--data", built.path(), "--json", "--decode"])[0];
    assert!(decoded["envelope_json"].is_object() && decoded["meta_json"].is_object());

    let contract = event["contract"].as_str().unwrap();
    let topic = event["topics"][0].as_str().unwrap();
    let all = json(&["get", "events", "--data", built.path(), "--limit", "1000000", "--json"]);
    let expected: Vec<_> =
        all.iter().filter(|e| e["contract"] == contract && e["topics"][0] == topic).collect();
    let filter = ["--contract", contract, "--topic0", topic, "--limit", "1000000"];
    let found = json(&[&["get", "events", "--data", built.path(), "--json"], &filter[..]].concat());
    assert_eq!(found.iter().collect::<Vec<_>>(), expected);
    assert!(found.len() > 1 && found.len() < all.len(), "{} of {}", found.len(), all.len());
    let mut reversed =
        json(&[&["get", "events", "--data", built.path(), "--json", "--desc"], &filter[..]].concat());
    reversed.reverse();
    assert_eq!(reversed, found);
}

#[test]
fn pages_are_joined_by_their_cursors() {
    let built = Built::new();
    let args = ["get", "events", "--data", built.path(), "--json", "--to", "20"];
    let all = json(&[&args[..], &["--limit", "1000000"]].concat());
    let mut paged = Vec::new();
    let mut cursor: Option<String> = None;
    loop {
        let mut page_args = args.to_vec();
        page_args.extend(["--limit", "7"]);
        if let Some(cursor) = &cursor {
            page_args.extend(["--cursor", cursor]);
        }
        let output = icecore(&page_args);
        if code(&output) == 4 {
            break;
        }
        let page: Vec<Value> =
            text(&output.stdout).lines().map(|l| serde_json::from_str(l).unwrap()).collect();
        cursor = Some(page.last().unwrap()["cursor"].as_str().unwrap().to_owned());
        paged.extend(page);
    }
    assert_eq!(paged, all);
}

#[test]
fn an_inner_hash_finds_the_fee_bump_around_it() {
    let built = Built::new();
    let mut checked = 0;
    for event in json(&["get", "events", "--data", built.path(), "--json", "--limit", "60"]) {
        let tx =
            &json(&["get", "tx", event["tx_hash"].as_str().unwrap(), "--data", built.path(), "--json"])[0];
        if let Some(inner) = tx["inner_hash"].as_str() {
            assert_eq!(&json(&["get", "tx", inner, "--data", built.path(), "--json"])[0], tx);
            checked += 1;
        }
    }
    assert!(checked > 0);
}

#[test]
fn what_is_not_there_ends_in_4_and_says_how_far_the_data_reaches() {
    let built = Built::new();
    let unknown = "ab".repeat(32);
    for args in [
        &["get", "ledger", "42", "--data", built.path()][..],
        &["get", "tx", &unknown, "--data", built.path()],
        &["get", "events", "--contract", &unknown, "--data", built.path()],
    ] {
        let output = icecore(args);
        assert_eq!(code(&output), 4, "{args:?}");
        assert!(output.stdout.is_empty());
        assert!(text(&output.stderr).contains("ledgers 2 to 41"), "{}", text(&output.stderr));
    }
    let pack = built.file("ledgers/00000/00000000.pack");
    assert_eq!(code(&icecore(&["cat", &pack, "10"])), 4);
}

#[test]
fn wrong_usage_ends_in_2_and_impossible_wishes_in_1() {
    let built = Built::new();
    let nowhere = built.file("nowhere");
    for args in [
        &["get", "tx", "beef", "--data", built.path()][..],
        &["get", "ledger", "-1", "--data", built.path()],
        &["get", "events", "--cursor", "1-2", "--data", built.path()],
        &["get", "events", "--or", "colour=red", "--data", built.path()],
        &["get", "events", "--limit", "0", "--data", built.path()],
        &["get", "events", "--contract", "zz", "--data", built.path()],
        &["get", "events", "--topic0", "transfer", "--data", built.path()],
        &["get", "events", "--from", "9", "--to", "3", "--data", built.path()],
        &["verify", "--deep", &built.file("icecore.json")],
        &["verify", &built.file("icecore.json")],
        &["stat", &built.file("icecore.json")],
        &["build", "--source", "gen:colour=red", "--out", built.path()],
        &["build", "--source", SPEC, "--out", &nowhere, "--ledgers-per-chunk", "0"],
        &["frobnicate"],
    ] {
        assert_eq!(code(&icecore(args)), 2, "{args:?}");
    }
    let help = icecore(&["build", "--source", "gen:help", "--out", &nowhere]);
    assert!(text(&help.stderr).contains("fee_bumps"), "{}", text(&help.stderr));
    let source = format!("{nowhere}.xdr");
    let missing = built.file("ledgers/00000/00000007.pack");
    for args in [
        &["get", "ledger", "2", "--data", &nowhere][..],
        &["verify", &missing],
        &["verify", &nowhere],
        &["build", "--source", SPEC, "--out", built.path(), "--to", "999"],
        &["build", "--source", SPEC, "--out", &built.file("icecore.json")],
    ] {
        let output = icecore(args);
        assert_eq!(code(&output), 1, "{args:?}: {}", text(&output.stderr));
        assert!(text(&output.stderr).starts_with("icecore: "));
    }
    assert_eq!(code(&icecore(&["build", "--source", &source, "--out", built.path()])), 2);
}

#[test]
fn a_name_that_is_not_text_is_no_trouble() {
    use std::os::unix::ffi::OsStrExt;
    let built = Built::new();
    let name = built.store.join(std::ffi::OsStr::from_bytes(b"\xff.pack"));
    std::fs::copy(built.file("ledgers/00000/00000001.pack"), &name).unwrap();
    for command in ["stat", "verify"] {
        let output = Command::new(env!("CARGO_BIN_EXE_icecore"))
            .args([command, "--json"])
            .arg(&name)
            .output()
            .unwrap();
        assert_eq!(code(&output), 0, "{}", text(&output.stderr));
    }
}

#[test]
fn another_geometry_is_refused_with_both_values_and_no_geometry_takes_the_stores() {
    let built = Built::new();
    let before = files(&built.store);
    let other = icecore(&["build", "--source", SPEC, "--out", built.path(), "--ledgers-per-chunk", "20"]);
    assert_eq!(code(&other), 1);
    let message = text(&other.stderr);
    assert!(message.contains("10 ledgers") && message.contains("20 and 3"), "{message}");
    let absurd =
        icecore(&["build", "--source", SPEC, "--out", built.path(), "--chunks-per-window", "4000000000"]);
    assert!(code(&absurd) == 1 && text(&absurd.stderr).contains("10 ledgers"), "{}", text(&absurd.stderr));
    assert_eq!(json(&["build", "--json", "--source", SPEC, "--out", built.path()])[0]["chunks_built"], 0);
    assert_eq!(files(&built.store), before);
}

#[test]
fn a_copied_directory_serves_as_it_is() {
    let built = Built::new();
    let elsewhere = tempfile::tempdir().unwrap();
    let copy = elsewhere.path().join("copy");
    for (path, bytes) in files(&built.store) {
        let to = copy.join(path.strip_prefix(&built.store).unwrap());
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        std::fs::write(to, bytes).unwrap();
    }
    let copy = copy.to_str().unwrap();
    let ask = |data| json(&["get", "events", "--data", data, "--json", "--limit", "9"]);
    assert_eq!(ask(copy), ask(built.path()));
    assert_eq!(code(&icecore(&["verify", copy, "--deep"])), 0);
}

#[test]
fn listings_tell_what_is_there() {
    let built = Built::new();
    let rows = json(&["ls", built.path(), "--json"]);
    assert_eq!(rows.len(), 4 + 2);
    assert_eq!(rows[0]["ledgers"], 10);
    assert!(rows[0]["hashes"].as_u64().unwrap() >= 50 && rows[0]["events"].as_u64().unwrap() > 50);
    assert_eq!(json(&["ls", built.path(), "--json", "--count"])[0]["transactions"], 50);
    let table = text(&icecore(&["ls", built.path()]).stdout);
    assert!(table.contains("00000003") && table.contains("total") && !table.contains('\x1b'), "{table}");

    for (path, bytes) in files(&built.store).iter().filter(|(path, _)| !path.ends_with("icecore.json")) {
        let path = path.to_str().unwrap();
        let stat = &json(&["stat", path, "--json"])[0];
        assert_eq!(stat["bytes"].as_u64(), Some(bytes.len() as u64));
        assert!(stat["kind"].is_string());
        assert!(json(&["cat", path, "0", "--json"])[0].is_object());
        assert!(!icecore(&["cat", path, "0"]).stdout.is_empty());
        assert_eq!(code(&icecore(&["verify", path])), 0);
    }
    let raw = icecore(&["get", "ledger", "12", "--raw", "--data", built.path()]).stdout;
    assert_eq!(icecore(&["cat", &built.file("ledgers/00000/00000001.pack"), "0", "--raw"]).stdout, raw);
}

#[test]
fn damage_ends_in_3_and_names_the_file() {
    let built = Built::new();
    let pack = built.file("ledgers/00000/00000001.pack");
    let mut bytes = std::fs::read(&pack).unwrap();
    bytes[100] ^= 1;
    std::fs::write(&pack, bytes).unwrap();
    for args in [&["verify", built.path()][..], &["verify", &pack], &["verify", "--deep", built.path()]] {
        let output = icecore(args);
        assert_eq!(code(&output), 3, "{args:?}");
        assert!(text(&output.stdout).contains("00000001.pack"), "{}", text(&output.stdout));
    }
    let output = icecore(&["get", "ledger", "12", "--data", built.path()]);
    assert_eq!(code(&output), 3);
    assert!(text(&output.stderr).contains("00000001.pack"), "{}", text(&output.stderr));
    std::fs::write(&pack, b"short").unwrap();
    let listing = icecore(&["ls", built.path()]);
    assert_eq!(code(&listing), 3);
    assert!(text(&listing.stdout).contains("damaged") && text(&listing.stdout).contains("00000003"));
    std::fs::remove_file(&pack).unwrap();
    assert_eq!(code(&icecore(&["verify", built.path()])), 3);
    assert_eq!(json(&build_args(SPEC, built.path()))[0]["chunks_built"], 1);
    assert_eq!(code(&icecore(&["verify", "--deep", built.path()])), 0);
}

/// A build that takes long enough to be stopped, and one that goes on from there.
fn interrupted(signal: &str) -> (Option<i32>, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let store = dir.path().join("store");
    let spec = "gen:seed=4,ledgers=3000,txs=20,events=1";
    let args = build_args(spec, store.to_str().unwrap());
    let mut child = Command::new(env!("CARGO_BIN_EXE_icecore"))
        .args(args)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let first = store.join("ledgers/00000/00000003.pack");
    while !first.exists() {
        assert!(child.try_wait().unwrap().is_none(), "the build ended before it could be stopped");
        std::thread::yield_now();
    }
    let pid = child.id().to_string();
    assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
    let mut stderr = String::new();
    child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
    let status = child.wait().unwrap();
    let sealed = files(&store);
    assert!(sealed.len() < 3000 / 10 * 5, "stopped in the middle");
    if signal == "-INT" {
        assert!(sealed.iter().all(|(path, _)| path.extension().is_none_or(|e| e != "partial")), "{stderr}");
        assert!(stderr.contains("the same command goes on"), "{stderr}");
    }
    // What was sealed is kept as it is, and the same command makes the rest.
    let report = &json(&args)[0];
    assert!(report["chunks_built"].as_u64().unwrap() < 300);
    let after = files(&store);
    assert!(after.iter().all(|(path, _)| path.extension().is_none_or(|e| e != "partial")));
    for whole in sealed.iter().filter(|(path, _)| path.extension().is_some_and(|e| e == "pack")) {
        assert!(after.contains(whole), "{}", whole.0.display());
    }
    assert_eq!(code(&icecore(&["verify", store.to_str().unwrap()])), 0);
    (status.code(), dir)
}

#[test]
fn ctrl_c_leaves_nothing_half_made() {
    let (code, _dir) = interrupted("-INT");
    assert_eq!(code, Some(130));
}

#[test]
fn a_killed_build_is_gone_on_with() {
    let (code, _dir) = interrupted("-KILL");
    assert_eq!(code, None);
}

#[test]
fn a_small_bench_of_unspent_outputs_tells_both_sides() {
    let report = &json(&["utxo", "bench", "--json", "--operations", "500", "--batch", "50"])[0];
    for side in ["store", "by_hand"] {
        let kinds = report[side]["kinds"].as_array().unwrap();
        let operations: u64 = kinds.iter().map(|kind| kind["operations"].as_u64().unwrap()).sum();
        assert_eq!(operations, 500, "{report}");
    }
    assert!(report["ratio"].as_f64().unwrap() > 0.0);
    assert_eq!(code(&icecore(&["utxo", "bench", "--create", "0"])), 2);
}
