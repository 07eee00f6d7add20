//! Where and with what a report was made.

use std::{fs, path::Path};

use serde::Serialize;

/// As it was built: what is measured is what this file says.
const LOCK: &str = include_str!("../Cargo.lock");

#[derive(Clone, Serialize)]
pub(crate) struct Machine {
    pub(crate) cpu: String,
    pub(crate) cores: usize,
    pub(crate) memory_gib: f64,
    pub(crate) kernel: String,
    pub(crate) huge_pages: String,
    pub(crate) compiler_flags: String,
    /// At the start, over the last minute.
    pub(crate) load: Option<f64>,
    pub(crate) date: String,
}

fn file(path: impl AsRef<Path>) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// The value of the first line `name: value`.
fn field(text: &str, name: &str) -> Option<String> {
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.trim_start().strip_prefix(':'))?;
    Some(value.trim().to_owned())
}

impl Machine {
    pub(crate) fn here() -> Self {
        let unknown = || "unknown".to_owned();
        let memory = field(&file("/proc/meminfo"), "MemTotal");
        let memory_kib =
            memory.and_then(|memory| memory.strip_suffix(" kB").and_then(|kib| kib.parse::<f64>().ok()));
        let huge_pages = file("/sys/kernel/mm/transparent_hugepage/enabled");
        let chosen = huge_pages.split_once('[').and_then(|(_, tail)| tail.split_once(']'));
        Machine {
            cpu: field(&file("/proc/cpuinfo"), "model name").unwrap_or_else(unknown),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            memory_gib: memory_kib.unwrap_or(0.0) / f64::from(1 << 20),
            kernel: format!("Linux {}", file("/proc/sys/kernel/osrelease").trim()),
            huge_pages: chosen.map_or_else(unknown, |(chosen, _)| chosen.to_owned()),
            compiler_flags: option_env!("RUSTFLAGS").unwrap_or("the compiler's defaults").to_owned(),
            load: file("/proc/loadavg").split(' ').next().and_then(|load| load.parse().ok()),
            date: jiff::Timestamp::now().strftime("%Y-%m-%d").to_string(),
        }
    }

    /// In a line, for a plot.
    pub(crate) fn line(&self) -> String {
        format!("{}, {} cores, {}, {}", self.cpu, self.cores, self.kernel, self.date)
    }

    /// What makes the figures doubtful.
    pub(crate) fn warning(&self) -> Option<String> {
        let (load, limit) = (self.load?, 0.5 * self.cores as f64);
        (load > limit).then(|| {
            format!(
                "the load average was {load:.2} at the start, above {limit:.1}: others used the machine, and the \
                 figures are too pessimistic"
            )
        })
    }
}

/// The version of a package that this program was built with; of several, the one that it itself depends on.
pub(crate) fn version(package: &str) -> String {
    let block = |name: &str| {
        LOCK.split("[[package]]").find(|block| block.contains(&format!("\nname = \"{name}\"\n")))
    };
    let after =
        |block: &'static str, start: &str| Some(block.split_once(start)?.1.split_once('"')?.0.to_owned());
    // Where there are several, whoever depends on one says which.
    let chosen = block(env!("CARGO_PKG_NAME")).and_then(|own| after(own, &format!("\"{package} ")));
    let only = || after(block(package)?, "version = \"");
    chosen.or_else(only).unwrap_or_else(|| "of unknown version".into())
}

/// Packages with their versions.
pub(crate) fn versions(packages: &[&str]) -> String {
    packages.iter().map(|package| format!("{package} {}", version(package))).collect::<Vec<_>>().join(", ")
}
