//! The daemon as whoever runs it sees it: a whole life, two of them on one directory, and what is asked of a store.
#![allow(clippy::unwrap_used)]

mod common;

use common::{Daemon, Data, GEOMETRY, audit, icecore, json, spec, stderr, truth};

fn is_settled(status: &serde_json::Value) -> bool {
    status["is_settled"] == true
}

#[test]
fn a_whole_life() {
    let data = Data::new();
    let more = ["--grace-seconds", "0", "--retention-chunks", "4", "--workers", "2"];
    // Backfill of what is there, then live ledgers over two chunk boundaries, until nothing more comes.
    let mut daemon = Daemon::start(&data, 44, Some((41, 68, 5)), &more);
    let status = daemon.until("the last ledger", |status| status["latest"] == 69 && is_settled(status));
    assert_eq!(
        (&status["floor"], &status["tip"]),
        (&serde_json::json!(22), &serde_json::json!(69)),
        "{status}"
    );
    let (code, said) = audit(&data.path(), &["--retention-chunks", "4"]);
    assert_eq!(code, 0, "{said}");

    // Killed, and again.
    daemon.kill();
    let at_rest = data.json("status", &["--retention-chunks", "4"]);
    assert_eq!((&at_rest["latest"], &at_rest["floor"]), (&status["latest"], &status["floor"]));
    let mut daemon = Daemon::start(&data, 80, Some((60, 95, 1)), &more);
    daemon.until("the last ledger", |status| status["latest"] == 96 && is_settled(status));
    for (seq, bytes) in truth(52, 96) {
        assert!(data.ledger(seq).as_deref() == Some(&bytes[..]), "ledger {seq}");
    }
    // Widened while it runs: what was pruned comes back, unless asked only what would be.
    let text = data.text();
    let retention = |args: &[&str]| json(&[&["retention", "--data", &text, "--json"], args].concat());
    let would = retention(&["--dry-run", "set", "7"]);
    assert_eq!((&would["from_chunks"], &would["to_chunks"]), (&4.into(), &7.into()), "{would}");
    assert_eq!(would["built"].as_array().unwrap().len(), 3);
    assert_eq!(daemon.status().unwrap()["retention_chunks"], 4);
    retention(&["set", "7"]);
    daemon.until("the widened history", |status| status["floor"] == 22 && is_settled(status));
    assert_eq!(data.ledger(23).as_ref(), truth(23, 23).get(&23));

    let copy = data.dir.path().join("copy");
    json(&["backup", copy.to_str().unwrap(), "--data", &text, "--json"]);
    assert_eq!(daemon.stop(), 0);
    let restored = json(&["restore", copy.to_str().unwrap(), "--data", &text, "--json"]);
    assert_eq!(restored["distrusted"], serde_json::json!([]), "{restored}");
    let (code, said) = audit(&data.path(), &["--deep", "--retention-chunks", "7"]);
    assert_eq!(code, 0, "{said}");
}

#[test]
fn two_daemons_on_one_directory() {
    let data = Data::new();
    let mut first = Daemon::start(&data, 44, None, &[]);
    first.until("the first one's work", |status| status["latest"] == 45);
    let (code, log) = Daemon::start(&data, 44, None, &[]).ended();
    assert_eq!(code, 1, "{log}");
    assert!(log.contains(&data.text()) && log.contains("process "), "{log}");
    // The first one goes on.
    assert_eq!(first.status().unwrap()["latest"], 45);
    assert_eq!(first.stop(), 0);
}

#[test]
fn shards_that_were_built_elsewhere_are_adopted() {
    let (data, shard) = (Data::new(), tempfile::tempdir().unwrap());
    let dir = shard.path().join("shard");
    let dir = dir.to_str().unwrap();
    let built = icecore(
        &[&["build", "--source", &spec(60), "--out", dir, "--from", "12", "--to", "51"], GEOMETRY].concat(),
    );
    assert!(built.status.success(), "{}", stderr(&built));
    // A bad file is named and left out.
    let bad = shard.path().join("shard/ledgers/00000/00000002.pack");
    let mut bytes = std::fs::read(&bad).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&bad, bytes).unwrap();
    let adopted = data.run("adopt", &[dir, "--copy"]);
    assert_eq!(adopted.status.code(), Some(3), "{}", stderr(&adopted));
    assert!(String::from_utf8_lossy(&adopted.stdout).contains("00000002.pack"));
    let again = data.run("adopt", &[dir, "--copy", "--json"]);
    let again: serde_json::Value = serde_json::from_slice(&again.stdout).unwrap();
    assert_eq!(again["adopted"], serde_json::json!([]), "{again}");
    // The daemon makes what is missing, and only that.
    let mut daemon = Daemon::start(&data, 60, None, &["--grace-seconds", "0"]);
    daemon.until("the rest", |status| status["latest"] == 61 && is_settled(status));
    for (seq, bytes) in truth(2, 61) {
        assert!(data.ledger(seq).as_deref() == Some(&bytes[..]), "ledger {seq}");
    }
    assert_eq!(daemon.stop(), 0);
    let (code, said) = audit(&data.path(), &["--deep"]);
    assert_eq!(code, 0, "{said}");
}

#[test]
fn what_is_tainted_is_built_again() {
    let data = Data::new();
    let mut daemon = Daemon::start(&data, 44, None, &["--grace-seconds", "0"]);
    daemon.until("the backfill", |status| status["latest"] == 45 && is_settled(status));
    // Not under a running daemon.
    let running = data.run("recover", &["--from", "12", "--to", "13", "--apply"]);
    assert_eq!(running.status.code(), Some(1), "{}", stderr(&running));
    assert_eq!(daemon.stop(), 0);
    let dry = data.json("recover", &["--from", "12", "--to", "13"]);
    assert_eq!(dry["applied"], false);
    assert_eq!(data.json("status", &[])["chunks"]["freezing"], 0);
    let done = data.json("recover", &["--from", "12", "--to", "13", "--apply"]);
    assert_eq!(done["freezing"], dry["freezing"]);
    assert_eq!(data.json("status", &[])["chunks"]["freezing"], 1);
    let mut daemon = Daemon::start(&data, 44, None, &["--grace-seconds", "0"]);
    daemon.until("the repair", |status| is_settled(status) && status["chunks"]["freezing"] == 0);
    assert_eq!(daemon.stop(), 0);
    let (code, said) = audit(&data.path(), &["--deep"]);
    assert_eq!(code, 0, "{said}");
}

#[test]
fn an_audit_finds_and_repairs() {
    let data = Data::new();
    let mut daemon = Daemon::start(&data, 44, None, &["--grace-seconds", "0"]);
    daemon.until("the backfill", |status| status["latest"] == 45 && is_settled(status));
    assert_eq!(daemon.stop(), 0);
    let orphan = data.path().join("ledgers/00000/00000777.pack");
    std::fs::write(&orphan, b"nothing").unwrap();
    let (code, said) = audit(&data.path(), &[]);
    assert!(code == 3 && said.contains("00000777.pack") && said.contains("INV-3"), "{said}");
    let (code, said) = audit(&data.path(), &["--fix"]);
    assert_eq!(code, 0, "{said}");
    assert!(!orphan.exists());
    let (code, said) = audit(&data.path(), &[]);
    assert_eq!(code, 0, "{said}");
}

/// What the store was told to keep overrules the configuration, for whoever asks a stopped store too.
#[test]
fn what_is_to_be_kept_is_known_at_rest() {
    let data = Data::new();
    let mut daemon = Daemon::start(&data, 44, None, &["--grace-seconds", "0"]);
    daemon.until("the backfill", |status| status["latest"] == 45 && is_settled(status));
    assert_eq!(daemon.stop(), 0);
    json(&["retention", "--data", &data.text(), "--json", "set", "3"]);
    assert_eq!(data.json("status", &[])["retention_chunks"], 3);
    json(&["retention", "--data", &data.text(), "--json", "set", "0"]);
    // Of a configuration with another number nothing falls victim.
    let status = data.json("status", &["--retention-chunks", "1"]);
    assert_eq!((&status["retention_chunks"], &status["floor"]), (&0.into(), &2.into()), "{status}");
    let (code, said) = audit(&data.path(), &["--fix", "--retention-chunks", "1"]);
    assert_eq!(code, 0, "{said}");
    assert!(!said.contains("INV-4"), "{said}");
    assert!(data.ledger(2).is_some());
}

#[test]
fn wishes_that_make_no_sense_are_named() {
    let data = Data::new();
    let text = data.text();
    let says = |args: &[&str], code: i32, parts: &[&str]| {
        let output = icecore(args);
        let error = stderr(&output);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {error}");
        assert!(parts.iter().all(|part| error.contains(part)), "{args:?}: {error}");
    };
    says(&["daemon", "--bulk", "gen:"], 2, &["data", "--data"]);
    says(&["daemon", "--data", &text], 2, &["bulk"]);
    says(&["daemon", "--data", &text, "--bulk", "gen:", "--live", "pip:/x"], 2, &["pip:/x"]);
    says(
        &["daemon", "--data", &text, "--bulk", "gen:", "--earliest-ledger", "5"],
        2,
        &["earliest_ledger", "2"],
    );
    says(&["daemon", "--data", &text, "--bulk", "gen:", "--hot-dir", &text], 1, &[&text]);
    says(&["status", "--data", &text], 1, &[&text]);
    says(&["audit", "--data", &text], 1, &[&text]);
    // The floor lies past the source's tip.
    let far = [
        "daemon",
        "--data",
        &text,
        "--bulk",
        "gen:ledgers=30",
        "--admin",
        "off",
        "--earliest-ledger",
        "10002",
    ];
    says(&far, 1, &["10002"]);

    let kept = Data::new();
    let mut daemon = Daemon::start(&kept, 44, None, &[]);
    daemon.until("the backfill", |status| status["latest"] == 45);
    assert_eq!(daemon.stop(), 0);
    let kept_text = kept.text();
    says(&["build", "--source", &spec(44), "--out", &kept_text], 2, &["adopt"]);
    says(&["ingest", "--source", &spec(44), "--data", &kept_text], 2, &["adopt"]);
    // A pin changed.
    let pins =
        ["daemon", "--data", &kept_text, "--bulk", &spec(44), "--ledgers-per-chunk", "20", "--admin", "off"];
    says(&pins, 1, &["10", "20", &kept_text]);
}
