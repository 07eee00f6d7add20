//! `icecore.toml`: what the daemon is told. Every key is a flag too, and one struct is both.
//!
//! ```text
//! defaults  ◁  the file's keys  ◁  flags         the last one that says something is heard
//! ```
//!
//! A file with an unknown key is refused, naming the line and the nearest key there is; so is a value out of its range,
//! naming where it came from.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use clap::{Args, CommandFactory, Parser, ValueEnum};
use icecore_ledger::LedgerSeq;
use serde::{Deserialize, Serialize};
use toml::{Table, de::DeTable};

use crate::{
    args::{Config, ConfigCommand},
    fail::{Fail, Outcome},
    output::Output,
};

/// The keys of the file, and the flags. All are optional here: what must be there is asked for where it is used.
#[derive(Args, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(default)]
pub(crate) struct Settings {
    /// The directory of the store; made at the first start, its parent must be there
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// Where hot chunks lie, if not below the store's directory: a fast disk
    #[arg(long, value_name = "DIR")]
    pub(crate) hot_dir: Option<PathBuf>,
    /// Where ledger packs lie, if not below the store's directory
    #[arg(long, value_name = "DIR")]
    pub(crate) ledgers_dir: Option<PathBuf>,
    /// Where event files lie, if not below the store's directory
    #[arg(long, value_name = "DIR")]
    pub(crate) events_dir: Option<PathBuf>,
    /// Where hash runs lie, if not below the store's directory: they are transient
    #[arg(long, value_name = "DIR")]
    pub(crate) runs_dir: Option<PathBuf>,
    /// Where window indexes lie, if not below the store's directory: a fast disk
    #[arg(long, value_name = "DIR")]
    pub(crate) indexes_dir: Option<PathBuf>,

    /// Where history comes from: a framed file (plain or zstd), a ledger lake's directory, or gen:SPEC; left out, the lake
    /// that live names
    #[arg(long, value_name = "FILE|DIR|gen:SPEC")]
    pub(crate) bulk: Option<String>,
    /// Where new ledgers come from: lake:DIR, pipe:PATH, fd:N, - for standard input, or exec:COMMAND… for a program that is
    /// started, watched and restarted; left out, the bulk source is followed as it grows
    #[arg(long, value_name = "SOURCE")]
    pub(crate) live: Option<String>,
    /// Passphrase of the network; pinned at the first start
    #[arg(long, value_name = "PASSPHRASE")]
    pub(crate) network: Option<String>,
    /// First ledger to keep, the first one of a chunk; pinned at the first start
    #[arg(long, value_name = "SEQ")]
    pub(crate) earliest_ledger: Option<u32>,
    /// Ledgers to a chunk; pinned at the first start
    #[arg(long, value_name = "N")]
    pub(crate) ledgers_per_chunk: Option<u32>,
    /// Chunks to a window, which has one index; pinned at the first start
    #[arg(long, value_name = "N")]
    pub(crate) chunks_per_window: Option<u32>,

    /// Complete chunks to keep; 0 keeps all
    #[arg(long, value_name = "N")]
    pub(crate) retention_chunks: Option<u32>,
    /// Chunks and indexes that are built at once; left out, one per core
    #[arg(long, value_name = "N")]
    pub(crate) workers: Option<u16>,
    /// How often a task that failed is tried again before its run is given up
    #[arg(long, value_name = "N")]
    pub(crate) max_retries: Option<u32>,
    /// The pause before the first retry; each further one is twice as long
    #[arg(long, value_name = "MS")]
    pub(crate) retry_millis: Option<u64>,
    /// How long a build waits for the bulk source to reach its ledgers
    #[arg(long, value_name = "S")]
    pub(crate) bulk_wait_seconds: Option<u64>,
    /// How long what is no longer needed stays on disk for readers that still look at it: longer than any request
    #[arg(long, value_name = "S")]
    pub(crate) grace_seconds: Option<u64>,
    /// How long a shutdown waits for its workers before it names those that would not end
    #[arg(long, value_name = "S")]
    pub(crate) shutdown_seconds: Option<u64>,
    /// Start although the disk cannot hold what is planned
    #[arg(long, num_args = 0..=1, default_missing_value = "true", value_name = "BOOL")]
    pub(crate) allow_full_disk: Option<bool>,

    /// Address of the admin port: /metrics, /status, /healthz. "off" for none; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) admin: Option<String>,
    /// How log lines look
    #[arg(long, value_name = "FORMAT")]
    pub(crate) log_format: Option<LogFormat>,
    /// The least important log lines to write
    #[arg(long, value_name = "LEVEL")]
    pub(crate) log_level: Option<LogLevel>,
}

/// How log lines look.
#[derive(ValueEnum, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    Text,
    Json,
}

/// How important a log line is.
#[derive(ValueEnum, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
}

/// What each key is where neither the file nor a flag says anything.
fn defaults() -> Settings {
    Settings {
        earliest_ledger: Some(icecore_ledger::GENESIS.0),
        ledgers_per_chunk: Some(10_000),
        chunks_per_window: Some(1_000),
        retention_chunks: Some(0),
        max_retries: Some(5),
        retry_millis: Some(500),
        bulk_wait_seconds: Some(300),
        grace_seconds: Some(60),
        shutdown_seconds: Some(30),
        allow_full_disk: Some(false),
        admin: Some("127.0.0.1:9464".to_owned()),
        log_format: Some(LogFormat::Text),
        log_level: Some(LogLevel::Info),
        ..Settings::default()
    }
}

/// A stand-in command, to ask clap for the help of each key.
#[derive(Parser)]
struct Keys {
    #[command(flatten)]
    settings: Settings,
}

/// Every key with its help, in order.
fn keys() -> Vec<(String, String)> {
    let command = Keys::command();
    let settings = command.get_arguments().filter(|arg| arg.get_id() != "help");
    settings
        .map(|arg| (arg.get_id().to_string(), arg.get_help().map_or_else(String::new, ToString::to_string)))
        .collect()
}

/// `icecore config`: the default file, or what holds when a file and flags are taken together.
pub(crate) fn run(args: &Config, out: &Output) -> Outcome {
    if args.print_default {
        out.bytes(print_default()?.as_bytes())?;
    }
    if let Some(ConfigCommand::Check(configured)) = &args.check {
        let settings = configured.settings()?;
        settings.needed("data", &settings.data)?;
        if !settings.live.as_ref().is_some_and(|live| live.starts_with("lake:")) {
            settings.needed("bulk", &settings.bulk)?;
        }
        out.bytes(table(&settings)?.to_string().as_bytes())?;
    }
    Ok(())
}

/// The file that `--print-default` prints: every key, its help, and its default where there is one.
fn print_default() -> Outcome<String> {
    let defaults = table(&defaults())?;
    let mut text = String::from(
        "# icecore.toml: what `icecore daemon --config icecore.toml` is told. Each key is a flag too: data is --data.\n\
         # A line that is commented out shows the default, or an example where there is none.\n",
    );
    for (key, help) in keys() {
        text.push('\n');
        for line in wrap(&help, 118) {
            text.push_str(&format!("# {line}\n"));
        }
        match (key.as_str(), defaults.get(&key)) {
            ("data", _) => text.push_str("data = \"/var/lib/icecore\"\n"),
            (_, Some(value)) => text.push_str(&format!("# {key} = {value}\n")),
            (_, None) => text.push_str(&format!("# {key} = {}\n", example(&key))),
        }
    }
    Ok(text)
}

fn example(key: &str) -> &'static str {
    match key {
        "bulk" => "\"/mnt/lake\"",
        "live" => "\"exec:stellar-core run --metadata-output-stream fd:3\"",
        "network" => "\"Public Global Stellar Network ; September 2015\"",
        "workers" => "2",
        _ => "\"/mnt/disk/icecore\"",
    }
}

fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if !line.is_empty() && line.len() + word.len() >= width => lines.push(word.to_owned()),
            Some(line) => {
                line.push_str(if line.is_empty() { "" } else { " " });
                line.push_str(word);
            }
            None => {}
        }
    }
    lines
}

impl Settings {
    /// What is to be heard: flags over the file's keys over defaults.
    ///
    /// # Errors
    /// A file that cannot be read or has something in it that no key is, and values out of range.
    pub(crate) fn load(file: Option<&Path>, flags: &Settings) -> Outcome<Settings> {
        let mut all = table(&defaults())?;
        if let Some(path) = file {
            all.extend(read(path)?);
        }
        all.extend(table(flags)?);
        let settings: Settings =
            all.try_into().map_err(|e: toml::de::Error| Fail::Usage(e.message().to_owned()))?;
        settings.check()?;
        Ok(settings)
    }

    /// What can be judged without looking at any disk.
    fn check(&self) -> Outcome {
        let range = |key: &str, value: Option<u64>, from: u64, to: u64| match value {
            Some(value) if !(from..=to).contains(&value) => {
                Err(Fail::Usage(format!("{key} = {value}: it must be {from} to {to}")))
            }
            _ => Ok(()),
        };
        const DAY: u64 = 86_400;
        range("workers", self.workers.map(u64::from), 1, 1024)?;
        range("max_retries", self.max_retries.map(u64::from), 0, 1000)?;
        range("retry_millis", self.retry_millis, 1, DAY * 1000)?;
        range("bulk_wait_seconds", self.bulk_wait_seconds, 0, DAY)?;
        range("grace_seconds", self.grace_seconds, 0, DAY)?;
        range("shutdown_seconds", self.shutdown_seconds, 1, DAY)?;
        let geometry = self.geometry()?;
        let earliest = self.earliest();
        let first = geometry.chunk_of(earliest).and_then(|chunk| geometry.ledgers_of(chunk));
        if first.is_none_or(|chunk| chunk.first != earliest) {
            let near = first.map_or(icecore_ledger::GENESIS, |chunk| chunk.first);
            return Err(Fail::Usage(format!(
                "earliest_ledger = {earliest}: no chunk begins there, the nearest one below begins at {near}"
            )));
        }
        self.admin_address()?;
        Ok(())
    }

    /// How the history is cut.
    pub(crate) fn geometry(&self) -> Outcome<icecore_ledger::Geometry> {
        let (ledgers, chunks) =
            (self.ledgers_per_chunk.unwrap_or_default(), self.chunks_per_window.unwrap_or_default());
        icecore_ledger::Geometry::new(ledgers, chunks).map_err(|e| {
            Fail::Usage(format!("ledgers_per_chunk = {ledgers}, chunks_per_window = {chunks}: {e}"))
        })
    }

    /// The first ledger to keep.
    pub(crate) fn earliest(&self) -> LedgerSeq {
        self.earliest_ledger.map_or(icecore_ledger::GENESIS, LedgerSeq)
    }

    /// Where the admin port listens; `None` where there is to be none.
    pub(crate) fn admin_address(&self) -> Outcome<Option<SocketAddr>> {
        match self.admin.as_deref() {
            None | Some("off") => Ok(None),
            Some(text) => text.parse().map(Some).map_err(|_| {
                Fail::Usage(format!(
                    "admin = {text:?}: it must be \"off\", or an address and a port such as 127.0.0.1:9464"
                ))
            }),
        }
    }

    /// A key that the command cannot do without.
    pub(crate) fn needed<'a, T>(&self, key: &str, value: &'a Option<T>) -> Outcome<&'a T> {
        value.as_ref().ok_or_else(|| {
            Fail::Usage(format!(
                "{key} is not set: say it in the configuration file or with --{}",
                key.replace('_', "-")
            ))
        })
    }
}

fn table(settings: &Settings) -> Outcome<Table> {
    Table::try_from(settings).map_err(|e| Fail::Usage(e.to_string()))
}

/// Reads a file; every key must be one that there is, and of its type.
fn read(path: &Path) -> Outcome<Table> {
    let at = |line: usize, what: String| Fail::Usage(format!("{}:{line}: {what}", path.display()));
    let text = std::fs::read_to_string(path)
        .map_err(|e| Fail::Usage(format!("cannot read the configuration {}: {e}", path.display())))?;
    let line_of = |offset: usize| text.as_bytes()[..offset.min(text.len())].split(|&c| c == b'\n').count();
    let spot = |e: &toml::de::Error| e.span().map_or(1, |span| line_of(span.start));
    let parsed = DeTable::parse(&text).map_err(|e| at(spot(&e), e.message().to_owned()))?;
    let known = keys();
    for key in parsed.get_ref().keys() {
        let name: &str = key.get_ref();
        if !known.iter().any(|(known, _)| known == name) {
            return Err(at(line_of(key.span().start), unknown(name, &known)));
        }
    }
    // Types are told here, where the line is still known.
    toml::from_str::<Settings>(&text).map_err(|e| at(spot(&e), e.message().to_owned()))?;
    toml::from_str(&text).map_err(|e| at(spot(&e), e.message().to_owned()))
}

fn unknown(name: &str, known: &[(String, String)]) -> String {
    let alike = |key: &str| strsim::damerau_levenshtein(&name.replace('-', "_").to_lowercase(), key);
    let nearest = known.iter().map(|(key, _)| key).min_by_key(|key| alike(key));
    match nearest {
        Some(key) if alike(key) <= 1 + key.len() / 3 => {
            format!("there is no key {name:?}; did you mean {key:?}?")
        }
        _ => format!("there is no key {name:?}; `icecore config --print-default` shows all"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str, flags: &[&str]) -> Result<Settings, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("icecore.toml");
        std::fs::write(&path, text).unwrap();
        let flags = Keys::try_parse_from([&["icecore"], flags].concat()).unwrap().settings;
        Settings::load(Some(&path), &flags).map_err(|fail| fail.to_string())
    }

    #[test]
    fn flags_are_heard_before_the_file_and_the_file_before_defaults() {
        let text = "workers = 3\nretention_chunks = 7\nlog_format = \"json\"\n";
        let settings = load(text, &["--workers", "5", "--data", "/d", "--allow-full-disk"]).unwrap();
        assert_eq!((settings.workers, settings.retention_chunks), (Some(5), Some(7)));
        assert_eq!((settings.log_format, settings.max_retries), (Some(LogFormat::Json), Some(5)));
        assert_eq!((settings.data, settings.allow_full_disk), (Some("/d".into()), Some(true)));
    }

    #[test]
    fn what_is_printed_as_the_default_is_the_default() {
        let printed = print_default().unwrap();
        let commented = load(&printed, &[]).unwrap();
        assert_eq!(commented, Settings { data: Some("/var/lib/icecore".into()), ..defaults() });
        // With every line taken in, it says the same, and something of every key.
        let all: String = printed
            .lines()
            .filter(|line| line.contains(" = "))
            .map(|line| format!("{}\n", line.trim_start_matches("# ")))
            .collect();
        let whole: Table =
            toml::from_str(&all.lines().filter(|l| !l.starts_with("A line")).collect::<Vec<_>>().join("\n"))
                .unwrap();
        assert_eq!(whole.len(), keys().len());
        for (key, value) in table(&defaults()).unwrap() {
            assert_eq!(whole.get(&key), Some(&value), "{key}");
        }
        load(&all, &[]).unwrap();
    }

    #[test]
    fn bad_files_name_line_key_and_the_nearest_one() {
        for (text, says) in [
            ("\nretention_chunk = 3\n", &[":2:", "\"retention_chunk\"", "\"retention_chunks\""][..]),
            ("log-level = \"info\"", &[":1:", "\"log_level\""]),
            ("xyzzy = 1", &["xyzzy", "--print-default"]),
            ("workers = \"two\"", &[":1:", "string"]),
            ("\n\nworkers = ", &[":3:"]),
            ("[section]\nworkers = 1", &[":1:", "section"]),
            ("log_level = \"loud\"", &[":1:", "loud", "info"]),
            ("workers = -1", &[":1:", "-1"]),
        ] {
            let error = load(text, &[]).unwrap_err();
            assert!(says.iter().all(|part| error.contains(part)), "{text:?}: {error}");
        }
    }

    #[test]
    fn values_out_of_range_are_named() {
        for (text, says) in [
            ("workers = 0", "workers = 0"),
            ("shutdown_seconds = 0", "shutdown_seconds = 0"),
            ("grace_seconds = 99999999", "grace_seconds"),
            ("earliest_ledger = 3", "begins at 2"),
            ("earliest_ledger = 0", "begins at 2"),
            ("earliest_ledger = 20003", "begins at 20002"),
            ("ledgers_per_chunk = 0", "ledgers_per_chunk = 0"),
            ("chunks_per_window = 4000000", "chunks_per_window = 4000000"),
            ("admin = \"here\"", "admin = \"here\""),
        ] {
            let error = load(text, &[]).unwrap_err();
            assert!(error.contains(says), "{text:?}: {error}");
        }
    }
}
