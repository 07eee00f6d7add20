use super::*;

/// Every sample, and whether it passes.
const VERDICTS: [(&str, bool); 22] = [
    ("bad_annotation_two_lines_up.rs", false),
    ("bad_async_full_table_update.rs", false),
    ("bad_async_loop_in_one_step.rs", false),
    ("bad_empty_reason.rs", false),
    ("bad_family_added.rs", false),
    ("bad_helper_named_in_comment.rs", false),
    ("bad_helper_named_in_string.rs", false),
    ("bad_lowercase_multiline.rs", false),
    ("bad_plain_index.rs", false),
    ("bad_raw_string_index.sql", false),
    ("bad_rows_rewritten_at_open.rs", false),
    ("bad_scale_line_without_n.rs", false),
    ("bad_stock_reason.rs", false),
    ("good_annotated_add_column.rs", true),
    ("good_annotated_statement.sql", true),
    ("good_async_backfill.rs", true),
    ("good_async_index_long.rs", true),
    ("good_prose_only.rs", true),
    ("good_scale_line.rs", true),
    ("good_untouched_old.rs", true),
    // What stands beside the samples: a change's description, and the lines that it changes.
    ("bad_scale_line_without_n.description", false),
    ("good_scale_line.description", true),
];

fn samples() -> PathBuf {
    root().join("xtask").join(FIXTURES)
}

fn sample(name: &str) -> String {
    read(&samples().join(name)).unwrap()
}

/// What is wrong with a sample's text, as part of a change with its description and lines.
fn verdict(name: &str, text: &str) -> Vec<String> {
    let beside = |extension| fs::read_to_string(samples().join(name).with_extension(extension)).ok();
    let line = |text: String| {
        text.trim().parse::<usize>().map(|line| std::iter::once(line..line + 1).collect::<Vec<_>>()).unwrap()
    };
    let lines = beside("lines").map(line);
    let scaled = has_scale_line(&beside("description").unwrap_or_default());
    violations(&format!("xtask/{FIXTURES}{name}"), text, lines.as_deref(), scaled)
}

#[test]
fn fixture_table() {
    for (name, passes) in VERDICTS.iter().filter(|(name, _)| !name.ends_with(".description")) {
        let found = verdict(name, &sample(name));
        assert_eq!(found.is_empty(), *passes, "{name}: {found:?}");
        assert_eq!(name.starts_with("good_"), *passes);
    }
    let known = |name: &str| name.ends_with(".lines") || VERDICTS.iter().any(|(known, _)| *known == name);
    for entry in fs::read_dir(samples()).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(known(&name), "{name} has no verdict");
    }
}

#[test]
fn gate_self_scan() {
    let report = check(&root(), &Args::default()).unwrap();
    assert_eq!(report.violations, [""; 0]);
    assert!(report.files > 50);
    let own = format!("{OWN}pins_format.rs");
    assert!(is_looked_at(&own) && is_migration(&own) && !is_looked_at(&format!("{MACHINERY}run.rs")));
    // It would be found there.
    assert_eq!(violations(&own, "fn f(c: &mut Changes) { c.put(KEY, VALUE); }", None, false).len(), 1);
}

/// What passes because of the runner, the helper, or a comment does not pass without.
#[test]
fn gate_regression() {
    for (name, from, to) in [
        ("good_async_backfill.rs", ".schedule(", ".plan("),
        ("good_async_index_long.rs", ".schedule(", ".plan("),
        ("good_async_backfill.rs", "backfill(ctx", "at_once(ctx"),
        ("good_annotated_add_column.rs", "cheap reason", "reason"),
        ("good_annotated_statement.sql", "cheap reason", "reason"),
        ("good_prose_only.rs", "info!(", "execute("),
        ("good_prose_only.rs", "#[cfg(test)]", ""),
        ("good_prose_only.rs", "// DELETE FROM observations", "\"DELETE FROM observations\";"),
    ] {
        let text = sample(name);
        let broken = text.replace(from, to);
        // A step is what a loop in it makes one over any number of rows.
        let broken = if from.starts_with("backfill") {
            broken.replace("at_once(ctx, &spec, is_due, ", "ctx.write(")
        } else {
            broken
        };
        assert_ne!(text, broken, "{name} has no {from}");
        assert!(!verdict(name, &broken).is_empty(), "{name} passes without {from}");
    }
}

#[test]
fn only_new_lines_of_a_diff_count() {
    let dir = tempfile::tempdir().unwrap();
    let git = |args: &[&str]| {
        let who = ["-c", "user.name=x", "-c", "user.email=x@example.com", "-c", "commit.gpgsign=false"];
        git(dir.path(), &[&who, args].concat()).unwrap()
    };
    // Put together here, since this file is looked at too.
    let index = |what: &str| format!("    conn.execute(\"CREATE {} {what}\")?;", "INDEX");
    let commit = |line: usize, with: &str, message: &str| {
        let mut lines: Vec<_> = (1..9).map(|n| format!("    step_{n}()?;")).collect();
        lines[1] = index("i ON t (c)");
        lines[line] = with.into();
        let text = format!("fn open() {{\n{}\n}}\n", lines.join("\n"));
        fs::create_dir_all(dir.path().join("src")).unwrap();
        fs::write(dir.path().join("src/open.rs"), text).unwrap();
        git(&["add", "."]);
        git(&["commit", "-q", "-m", message]);
    };
    let looked = || {
        let args = Args { base: Some("HEAD~1".into()), head: "HEAD".into(), ..Args::default() };
        check(dir.path(), &args).unwrap().violations
    };
    git(&["init", "-q"]);
    commit(0, "    step_1()?;", "an old index");
    commit(5, "    other()?;", "a line elsewhere");
    assert_eq!(looked(), [""; 0]);
    let new = index("j ON t (d)");
    commit(5, &new, "an index");
    assert_eq!(looked().len(), 1);
    assert!(looked()[0].starts_with("src/open.rs:7: an index"), "{:?}", looked());
    commit(6, &new, "an index\n\nMIGRATION-SCALE: <30s N=2600 nodes, staging");
    assert_eq!(looked(), [""; 0]);
    assert!(check(dir.path(), &Args { base: Some("nowhere".into()), ..Args::default() }).is_err());
}

#[test]
fn scale_lines() {
    for good in ["MIGRATION-SCALE: <30s N=80000 staging", "  MIGRATION-SCALE: <5s N=1_900_000 on a copy"] {
        assert!(has_scale_line(good), "{good}");
    }
    for bad in [
        "",
        "MIGRATION-SCALE:",
        "MIGRATION-SCALE: <30s N=80000",
        "MIGRATION-SCALE: 30s N=80000 staging",
        "MIGRATION-SCALE: <30s N=many staging",
        "MIGRATION-SCALE: <s N= staging",
        "MIGRATION-SCALE: N=80000 <30s staging",
        "see MIGRATION-SCALE: <30s N=80000 staging",
    ] {
        assert!(!has_scale_line(bad), "{bad}");
    }
}
