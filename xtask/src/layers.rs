//! The map of crates, checked against what cargo knows.

use std::fmt::Write as _;

use serde_json::Value;

use crate::shell::{Result, cargo, output};

/// What a crate may depend on.
struct Row {
    name: &'static str,
    /// Crates of this project, without the common `icecore-`.
    ours: &'static [&'static str],
    /// Crates of others: whoever uses ours alone compiles no more than these.
    others: &'static [&'static str],
}

/// For the program, which nobody builds upon.
const ANY: &[&str] = &["*"];

const fn row(name: &'static str, ours: &'static [&'static str], others: &'static [&'static str]) -> Row {
    Row { name, ours, others }
}

/// Lower ones first; arrows point up this table only.
const MAP: &[Row] = &[
    row("diskio", &[], &["libc", "memmap2", "rustix", "tempfile", "thiserror"]),
    row("ledger", &[], &["thiserror"]),
    row("packfile", &["diskio"], &["crc32c", "crossbeam-channel", "sha2", "thiserror", "zstd"]),
    row("streamhash", &["diskio"], &["crossbeam-channel", "memmap2", "thiserror", "xxhash-rust"]),
    row("txindex", &["diskio", "ledger", "streamhash"], &["rustix", "thiserror"]),
    row(
        "events",
        &["diskio", "ledger", "packfile", "streamhash"],
        &["arc-swap", "loom", "roaring", "thiserror"],
    ),
    row("registry", &[], &["loom", "thiserror", "tokio", "tracing"]),
    row("batcher", &[], &["loom", "metrics", "thiserror", "tracing"]),
    row("rockstore", &[], &["crc32c", "libc", "rocksdb", "thiserror"]),
    row("hotchunk", &["ledger", "events", "rockstore"], &["tempfile", "thiserror", "zstd"]),
    row("utxo", &["diskio", "batcher", "rockstore"], &["crc32c", "sha2", "thiserror", "tracing"]),
    row(
        "stellar",
        &["ledger"],
        &[
            "base64",
            "rustix",
            "serde",
            "serde_json",
            "sha2",
            "stellar-strkey",
            "stellar-xdr",
            "thiserror",
            "tracing",
            "zstd",
        ],
    ),
    row(
        "cold",
        &["diskio", "ledger", "packfile", "txindex", "events"],
        &["serde", "serde_json", "thiserror"],
    ),
    row(
        "catalog",
        &["diskio", "ledger", "events", "txindex", "cold", "rockstore"],
        &["arc-swap", "jiff", "libc", "serde", "serde_json", "tempfile", "thiserror", "tracing"],
    ),
    row(
        "engine",
        &["diskio", "ledger", "events", "txindex", "rockstore", "hotchunk", "cold", "catalog", "registry"],
        &["arc-swap", "metrics", "rustix", "serde", "thiserror", "tracing"],
    ),
    row(
        "cli",
        &[
            "diskio",
            "ledger",
            "packfile",
            "streamhash",
            "txindex",
            "events",
            "stellar",
            "cold",
            "rockstore",
            "hotchunk",
            "catalog",
            "registry",
            "engine",
            "batcher",
            "utxo",
        ],
        ANY,
    ),
    row("testkit", &[], &["serde", "serde_json"]),
];
/// What tests may use on top of their crate's row: generators, a real chain, a faulty disk, and the builder whose files the
/// hot tier's must equal.
const FOR_TESTS: &[&str] = &["testkit", "stellar", "diskio", "cold"];
/// Packages on which nothing depends, and which may use anything.
const TOOLS: &[&str] = &["xtask", "icecore-benches"];
const PREFIX: &str = "icecore-";

/// Reads the workspace's metadata, prints the map, and fails on any arrow that is not in it.
pub(crate) fn check() -> Result {
    let metadata = output(cargo().args(["metadata", "--format-version", "1", "--no-deps"]))?;
    let metadata = serde_json::from_str(&metadata).map_err(|e| format!("cargo metadata: {e}"))?;
    let (map, violations) = inspect(&metadata);
    print!("{map}");
    if violations.is_empty() {
        println!("every arrow is in the map");
        return Ok(());
    }
    Err(format!("{}\nthe map is MAP in xtask/src/layers.rs", violations.join("\n")))
}

/// The map as it stands in the manifests, and what is wrong with it.
fn inspect(metadata: &Value) -> (String, Vec<String>) {
    let (mut map, mut violations) = (String::new(), Vec::new());
    let packages = list(metadata, "packages");
    for package in packages {
        let full = text(package, "name");
        if TOOLS.contains(&full) {
            continue;
        }
        let name = full.strip_prefix(PREFIX).unwrap_or(full);
        let Some(row) = MAP.iter().find(|row| row.name == name) else {
            violations.push(format!("{full} is not in the map of crates"));
            continue;
        };
        let mut arrows: Vec<&str> = Vec::new();
        for dependency in list(package, "dependencies") {
            let to = text(dependency, "name");
            let for_tests = text(dependency, "kind") == "dev";
            if let Err(violation) = allowed(row, to, for_tests) {
                violations.push(violation);
            } else if !for_tests {
                arrows.extend(to.strip_prefix(PREFIX));
            }
        }
        let arrows = if arrows.is_empty() { "nothing".into() } else { arrows.join(", ") };
        let _ = writeln!(map, "{name:>10} → {arrows}");
    }
    for row in
        MAP.iter().filter(|row| !packages.iter().any(|p| text(p, "name") == format!("{PREFIX}{}", row.name)))
    {
        violations.push(format!("{}, a row of the map, is no crate", row.name));
    }
    (map, violations)
}

fn allowed(from: &Row, to: &str, for_tests: bool) -> Result {
    let Some(ours) = to.strip_prefix(PREFIX).or(TOOLS.contains(&to).then_some(to)) else {
        // What tests use is nobody else's burden.
        if for_tests || from.others == ANY || from.others.contains(&to) {
            return Ok(());
        }
        return Err(format!(
            "{} depends on {to}, which is not among what it may make others compile",
            from.name
        ));
    };
    if from.ours.contains(&ours) || (for_tests && FOR_TESTS.contains(&ours)) {
        return Ok(());
    }
    let how = if for_tests { " in its tests" } else { "" };
    Err(format!("{} depends on {ours}{how}, which the map does not allow", from.name))
}

fn list<'a>(value: &'a Value, name: &str) -> &'a [Value] {
    value.get(name).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value.get(name).and_then(Value::as_str).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// A workspace that keeps to the map, with some arrows more.
    fn violations(planted: &[(&str, &str, Option<&str>)]) -> Vec<String> {
        let packages =
            MAP.iter().map(|row| format!("{PREFIX}{}", row.name)).chain(TOOLS.iter().map(|t| t.to_string()));
        let package = |name: String| {
            let row = MAP.iter().find(|row| name.strip_prefix(PREFIX) == Some(row.name));
            let ours = row.iter().flat_map(|row| row.ours).map(|to| (format!("{PREFIX}{to}"), None));
            let others = row.iter().flat_map(|row| row.others).map(|to| (to.to_string(), None));
            let planted = planted
                .iter()
                .filter(|(from, ..)| *from == name)
                .map(|(_, to, kind)| (to.to_string(), *kind));
            let arrows = ours.chain(others).chain(planted);
            let dependencies: Vec<_> =
                arrows.map(|(name, kind)| json!({ "name": name, "kind": kind })).collect();
            json!({ "name": name, "dependencies": dependencies })
        };
        inspect(&json!({ "packages": packages.map(package).collect::<Vec<_>>() })).1
    }

    #[test]
    fn what_the_map_allows_passes() {
        let fine = [
            ("icecore-cold", "icecore-stellar", Some("dev")),
            ("icecore-diskio", "icecore-testkit", Some("dev")),
            ("icecore-diskio", "anything", Some("dev")),
            ("xtask", "icecore-testkit", None),
        ];
        assert_eq!(violations(&fine), [""; 0]);
    }

    #[test]
    fn every_planted_violation_is_found() {
        for planted in [
            ("icecore-diskio", "icecore-cold", None),
            ("icecore-ledger", "icecore-diskio", None),
            ("icecore-packfile", "icecore-streamhash", None),
            ("icecore-packfile", "icecore-streamhash", Some("dev")),
            ("icecore-packfile", "icecore-streamhash", Some("build")),
            ("icecore-cold", "icecore-stellar", None),
            ("icecore-cold", "icecore-testkit", None),
            ("icecore-cold", "xtask", None),
            ("icecore-streamhash", "zstd", None),
        ] {
            assert_eq!(violations(&[planted]).len(), 1, "{planted:?}");
        }
    }

    #[test]
    fn a_crate_without_a_row_and_a_row_without_a_crate_are_found() {
        let (_, found) =
            inspect(&json!({ "packages": [{ "name": "icecore-newcomer", "dependencies": [] }] }));
        assert!(found[0].contains("icecore-newcomer"), "{found:?}");
        assert_eq!(found.len(), 1 + MAP.len());
    }
}
