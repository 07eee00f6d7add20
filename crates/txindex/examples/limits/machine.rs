//! Where the figures were made.

use std::{fs, path::Path};

fn file(path: impl AsRef<Path>) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// For the head of a report, as `cargo xtask bench index` says it.
pub(crate) fn lines() -> String {
    let field = |text: &str, name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.trim_start().strip_prefix(':'));
        line.map_or_else(|| "unknown".to_owned(), |value| value.trim().to_owned())
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let huge_pages = file("/sys/kernel/mm/transparent_hugepage/enabled");
    let huge_pages = huge_pages.split_once('[').and_then(|(_, tail)| tail.split_once(']'));
    let load = file("/proc/loadavg");
    let load: f64 = load.split(' ').next().and_then(|load| load.parse().ok()).unwrap_or(0.0);
    let mut lines = format!(
        "* Machine: {}, {cores} cores, Linux {}, {}\n* Transparent huge pages: {}\n\
         * Load average at the start: {load:.2}\n",
        field(&file("/proc/cpuinfo"), "model name"),
        file("/proc/sys/kernel/osrelease").trim(),
        jiff::Timestamp::now().strftime("%Y-%m-%d"),
        huge_pages.map_or("unknown", |(chosen, _)| chosen),
    );
    if load > 0.5 * cores as f64 {
        lines += "* **Warning**: others used the machine, and the figures are too pessimistic\n";
    }
    lines
}
