//! The command line, as clap reads it.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use icecore_cold::Algorithm;
use icecore_ledger::{LedgerSeq, TxHash};

use crate::{config::Settings, fail::Outcome};

/// Keeps the full history of a ledger-shaped chain in immutable files, and answers from them.
#[derive(Parser)]
#[command(name = "icecore", version, after_help = EXIT_CODES, arg_required_else_help = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXIT_CODES: &str =
    "Exit codes: 0 done; 1 failed; 2 wrong usage; 3 damaged data; 4 not found; 130 interrupted.";

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Turn ledgers into cold files: every complete chunk in range, then the window indexes
    Build(Build),
    /// Follow a source, ledger by ledger, into hot chunks below DIR/hot; full ones stay hot
    Ingest(Ingest),
    /// Look up a ledger, a transaction or events
    #[command(subcommand)]
    Get(Get),
    /// List a store: per chunk its ledgers, transactions, events and bytes
    Ls(Ls),
    /// Say what a file tells of itself
    Stat(Stat),
    /// Print one item of a file
    Cat(Cat),
    /// Check files, or a whole store, for damage
    Verify(Verify),
    /// Keep a store: fetch what is missing, take in new ledgers, freeze, index, prune, until told to stop
    Daemon(Configured),
    /// How a store is, also while its daemon runs: floor, latest ledger, chunks, lag, disk, workers
    Status(Status),
    /// What the daemon would build: chunks, bytes, room on the disks, time; changes nothing
    Plan(Status),
    /// How many complete chunks a store keeps, also while its daemon runs
    Retention(Retention),
    /// Take in the files of a directory that `icecore build` made, here or on another machine
    Adopt(Adopt),
    /// Hold what a store has against what it should have; exit code 3 where something is wrong
    Audit(Audit),
    /// Distrust ledgers of a stopped store, so that they are fetched and built again; prints the plan, does it with --apply
    Recover(Recover),
    /// Copy a store's catalog, also while its daemon runs; the files themselves are immutable and copied by other means
    Backup(Backup),
    /// Put a backup in the place of a stopped store's catalog
    Restore(Restore),
    /// Print a configuration file with every key, or check one
    Config(Config),
    /// Send ledgers as a framed stream, as a node does that closes them; with faults, to see what follows from them
    Replay(Replay),
    /// The store of unspent outputs
    #[command(subcommand)]
    Utxo(Utxo),
    /// A store's whole life in one screen: backfill, live ledgers, freeze, index, prune, kill, restart, audit
    Demo(Demo),
}

#[derive(Args)]
pub(crate) struct Build {
    /// Where ledgers come from: a framed file (plain or zstd), a ledger lake's directory, or gen:SPEC
    /// (gen: alone takes the defaults; gen:help lists the keys)
    #[arg(long, value_name = "FILE|DIR|gen:SPEC")]
    pub(crate) source: String,
    /// The directory of the store; made where it is missing
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,
    /// First ledger [default: the source's first]
    #[arg(long, value_name = "SEQ")]
    pub(crate) from: Option<LedgerSeq>,
    /// Last ledger [default: the source's last]
    #[arg(long, value_name = "SEQ")]
    pub(crate) to: Option<LedgerSeq>,
    /// Ledgers to a chunk [default: the store's, or 10000]
    #[arg(long, value_name = "N")]
    pub(crate) ledgers_per_chunk: Option<u32>,
    /// Chunks to a window [default: the store's, or 1000]
    #[arg(long, value_name = "N")]
    pub(crate) chunks_per_window: Option<u32>,
    /// How indexes of transactions are built here and from here on; those that are there stay as they are
    /// [default: as the store has it, or bijection, which other programs read too]
    #[arg(long, value_name = "bijection|ptrhash|fast|compact")]
    pub(crate) index: Option<Algorithm>,
    /// Threads that work at once [default: one per core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) workers: Option<u16>,
    /// Passphrase of the network, kept with the store [default: the source's own word; where there is none,
    /// `get tx` tries the known ones]
    #[arg(long, value_name = "PASSPHRASE")]
    pub(crate) network: Option<String>,
    /// Answer in JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args)]
pub(crate) struct Ingest {
    /// Where ledgers come from: a framed file (plain or zstd), a ledger lake's directory, or gen:SPEC
    /// (gen: alone takes the defaults; gen:help lists the keys)
    #[arg(long, value_name = "FILE|DIR|gen:SPEC")]
    pub(crate) source: String,
    /// The directory of the store; made where it is missing
    #[arg(long, value_name = "DIR")]
    pub(crate) data: PathBuf,
    /// Milliseconds from one ledger to the next; 0 for no pause
    #[arg(long, value_name = "MS", default_value_t = 0, value_parser = clap::value_parser!(u64).range(..=3_600_000))]
    pub(crate) pace: u64,
    /// First ledger of a new store: rounded up to the next chunk [default: the source's first]
    #[arg(long, value_name = "SEQ")]
    pub(crate) from: Option<LedgerSeq>,
    /// Stop after this ledger [default: the source's last]
    #[arg(long, value_name = "SEQ")]
    pub(crate) to: Option<LedgerSeq>,
    /// At the end of the source, wait for more
    #[arg(long)]
    pub(crate) follow: bool,
    /// Ledgers to a chunk [default: the store's, or 10000]
    #[arg(long, value_name = "N")]
    pub(crate) ledgers_per_chunk: Option<u32>,
    /// Chunks to a window [default: the store's, or 1000]
    #[arg(long, value_name = "N")]
    pub(crate) chunks_per_window: Option<u32>,
    /// Passphrase of the network, kept with the store [default: the source's own word]
    #[arg(long, value_name = "PASSPHRASE")]
    pub(crate) network: Option<String>,
    /// Print a line of JSON for each ledger once it is durable
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Subcommand)]
pub(crate) enum Get {
    /// A ledger by its sequence number
    Ledger(GetLedger),
    /// A transaction by its hash; an inner hash finds the fee-bump around it
    Tx(GetTx),
    /// Events by contract and topics; fields are ANDed
    Events(GetEvents),
}

#[derive(Args)]
pub(crate) struct Answer {
    /// The directory of the store
    #[arg(long, value_name = "DIR")]
    pub(crate) data: PathBuf,
    /// Answer in JSON, one value a line
    #[arg(long)]
    pub(crate) json: bool,
    /// Decode XDR into JSON as well
    #[arg(long)]
    pub(crate) decode: bool,
}

#[derive(Args)]
pub(crate) struct GetLedger {
    /// The ledger's sequence number
    pub(crate) seq: LedgerSeq,
    /// Write the raw XDR to standard output, nothing else
    #[arg(long, conflicts_with_all = ["json", "decode"])]
    pub(crate) raw: bool,
    #[command(flatten)]
    pub(crate) answer: Answer,
}

#[derive(Args)]
pub(crate) struct GetTx {
    /// The transaction's hash, 64 hexadecimal digits
    pub(crate) hash: TxHash,
    /// Passphrase of the network, where the store does not know it
    #[arg(long, value_name = "PASSPHRASE")]
    pub(crate) network: Option<String>,
    #[command(flatten)]
    pub(crate) answer: Answer,
}

#[derive(Args)]
pub(crate) struct GetEvents {
    /// Contract id: C… or 64 hexadecimal digits
    #[arg(long, value_name = "ID")]
    pub(crate) contract: Option<String>,
    /// First topic: base64 or hex:… XDR of its ScVal, or sym:NAME, str:TEXT, addr:G…|C…
    #[arg(long, value_name = "TOPIC")]
    pub(crate) topic0: Option<String>,
    /// Second topic
    #[arg(long, value_name = "TOPIC")]
    pub(crate) topic1: Option<String>,
    /// Third topic
    #[arg(long, value_name = "TOPIC")]
    pub(crate) topic2: Option<String>,
    /// Fourth topic
    #[arg(long, value_name = "TOPIC")]
    pub(crate) topic3: Option<String>,
    /// One more filter, ORed with the others: contract=…,topic0=…; may be repeated
    #[arg(long = "or", value_name = "FILTER")]
    pub(crate) or: Vec<String>,
    /// First ledger [default: the first there is]
    #[arg(long, value_name = "SEQ")]
    pub(crate) from: Option<LedgerSeq>,
    /// Last ledger [default: the last there is]
    #[arg(long, value_name = "SEQ")]
    pub(crate) to: Option<LedgerSeq>,
    /// At most this many events
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) limit: u64,
    /// Newest first
    #[arg(long)]
    pub(crate) desc: bool,
    /// Go on after this event: the cursor that an earlier answer printed, LEDGER-TX-OP-EVENT
    #[arg(long, value_name = "CURSOR")]
    pub(crate) cursor: Option<String>,
    #[command(flatten)]
    pub(crate) answer: Answer,
}

#[derive(Args)]
pub(crate) struct Ls {
    /// The directory of the store
    pub(crate) dir: PathBuf,
    /// Count transactions too, by decoding every ledger: seconds for each large chunk
    #[arg(long)]
    pub(crate) count: bool,
    /// Answer in JSON, one chunk or index a line
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args)]
pub(crate) struct Stat {
    /// A packfile, a hash run, an index
    pub(crate) file: PathBuf,
    /// Answer in JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args)]
pub(crate) struct Cat {
    /// A packfile, a hash run, an index
    pub(crate) file: PathBuf,
    /// The item's position, from 0; in an index the rank
    pub(crate) pos: u64,
    /// Answer in JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// Write the item's bytes to standard output, nothing else
    #[arg(long, conflicts_with = "json")]
    pub(crate) raw: bool,
}

#[derive(Args)]
pub(crate) struct Verify {
    /// Files, or directories of stores
    #[arg(required = true)]
    pub(crate) paths: Vec<PathBuf>,
    /// Decode every ledger too, check that each hash resolves, rebuild each index and compare bytes (stores only)
    #[arg(long)]
    pub(crate) deep: bool,
    /// Answer in JSON, one file a line
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args)]
pub(crate) struct Status {
    #[command(flatten)]
    pub(crate) configured: Configured,
    /// Answer in JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args)]
pub(crate) struct Retention {
    #[command(subcommand)]
    pub(crate) command: RetentionCommand,
    #[command(flatten)]
    pub(crate) configured: Configured,
    /// Only say what would be pruned and what would be fetched
    #[arg(long, global = true)]
    pub(crate) dry_run: bool,
    /// Answer in JSON
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

#[derive(Subcommand)]
pub(crate) enum RetentionCommand {
    /// Keep this many complete chunks from now on, whatever the configuration says; 0 keeps all
    Set {
        /// How many
        chunks: u32,
    },
    /// Keep what the configuration says again
    Reset,
}

#[derive(Args)]
pub(crate) struct Adopt {
    /// The directory with the files
    pub(crate) dir: PathBuf,
    #[command(flatten)]
    pub(crate) configured: Configured,
    /// Copy files also where they could be linked
    #[arg(long)]
    pub(crate) copy: bool,
    /// Answer in JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args)]
pub(crate) struct Audit {
    #[command(flatten)]
    pub(crate) configured: Configured,
    /// Verify every checksum, derive every file from the ledgers once more and compare bytes
    #[arg(long)]
    pub(crate) deep: bool,
    /// Derive only this many chunks, drawn at random
    #[arg(long, value_name = "N", requires = "deep")]
    pub(crate) sample: Option<u32>,
    /// Pass over what a deep audit found sound within so many days and what has not changed since
    #[arg(long, value_name = "DAYS", requires = "deep", default_value_t = 0)]
    pub(crate) trust_days: u32,
    /// Repair what can be repaired safely; the daemon must be stopped
    #[arg(long)]
    pub(crate) fix: bool,
    /// Answer in JSON, one finding a line
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args)]
pub(crate) struct Recover {
    #[command(flatten)]
    pub(crate) configured: Configured,
    /// First tainted ledger
    #[arg(long, value_name = "SEQ")]
    pub(crate) from: LedgerSeq,
    /// Last tainted ledger
    #[arg(long, value_name = "SEQ")]
    pub(crate) to: LedgerSeq,
    /// Distrust frozen files and indexes [default: both]
    #[arg(long)]
    pub(crate) cold: bool,
    /// Distrust hot chunks, from the lowest tainted one to the newest [default: both]
    #[arg(long)]
    pub(crate) hot: bool,
    /// Do it; without this the plan is only printed
    #[arg(long)]
    pub(crate) apply: bool,
    /// Answer in JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args)]
pub(crate) struct Backup {
    /// The directory to make, on the same file system or another; it must not be there
    pub(crate) to: PathBuf,
    #[command(flatten)]
    pub(crate) configured: Configured,
    /// Answer in JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args)]
pub(crate) struct Restore {
    /// The directory that a backup made
    pub(crate) from: PathBuf,
    #[command(flatten)]
    pub(crate) configured: Configured,
    /// Don't keep the catalog that was there
    #[arg(long)]
    pub(crate) skip_backup: bool,
    /// Answer in JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args)]
#[command(arg_required_else_help = true)]
pub(crate) struct Config {
    /// Print every key with what it means and its default
    #[arg(long)]
    pub(crate) print_default: bool,
    #[command(subcommand)]
    pub(crate) check: Option<ConfigCommand>,
}

#[derive(Subcommand)]
pub(crate) enum ConfigCommand {
    /// Check a configuration file, with the flags that would be given beside it, and print what holds
    Check(Configured),
}

/// What says how the daemon is to run.
#[derive(Args)]
pub(crate) struct Configured {
    /// The configuration file; see `icecore config --print-default`
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) flags: Settings,
}

impl Configured {
    /// What holds: flags over the file over defaults.
    pub(crate) fn settings(&self) -> Outcome<Settings> {
        Settings::load(self.config.as_deref(), &self.flags)
    }
}

#[derive(Args)]
pub(crate) struct Replay {
    /// Where ledgers come from: a framed file (plain or zstd), a ledger lake's directory, or gen:SPEC
    #[arg(long, value_name = "FILE|DIR|gen:SPEC")]
    pub(crate) source: String,
    /// Where they go: standard output, a descriptor, a named pipe or a file
    #[arg(long = "out", value_name = "-|fd:N|PATH", default_value = "-", allow_hyphen_values = true)]
    pub(crate) to_sink: String,
    /// First ledger [default: the source's first]
    #[arg(long, value_name = "SEQ")]
    pub(crate) from: Option<LedgerSeq>,
    /// Last ledger [default: the source's last]
    #[arg(long, value_name = "SEQ")]
    pub(crate) to: Option<LedgerSeq>,
    /// Milliseconds from one ledger to the next; 0 for no pause
    #[arg(long, value_name = "MS", default_value_t = 0, value_parser = clap::value_parser!(u64).range(..=3_600_000))]
    pub(crate) pace: u64,
    /// What goes wrong at a ledger, any number of times: cut@N, garbage@N, huge@N, damage@N, skip@N, skip@N-M,
    /// repeat@N, lie@N:M, hang@N, exit@N:CODE
    #[arg(long, value_name = "FAULT")]
    pub(crate) fault: Vec<String>,
}

#[derive(Subcommand)]
pub(crate) enum Utxo {
    /// Measure a store beside the same writes done by hand, in batches of the same size
    Bench(UtxoBench),
}

#[derive(Args)]
pub(crate) struct UtxoBench {
    /// Where to put both stores [default: a temporary directory, removed at the end]
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
    /// Share of operations that store a transaction
    #[arg(long, value_name = "N", default_value_t = 4)]
    pub(crate) create: u32,
    /// Share of operations that spend an output
    #[arg(long, value_name = "N", default_value_t = 4)]
    pub(crate) spend: u32,
    /// Share of operations that lock a transaction
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) lock: u32,
    /// Share of operations that delete a transaction that fell due
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) delete: u32,
    /// How many operations
    #[arg(long, value_name = "N", default_value_t = 200_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) operations: u64,
    /// Stop after so many seconds, though not all operations are done
    #[arg(long, value_name = "N")]
    pub(crate) seconds: Option<u64>,
    /// Threads that ask for operations
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) threads: u16,
    /// Operations that a thread has begun and not yet seen end
    #[arg(long, value_name = "N", default_value_t = 1024, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) window: u32,
    /// The most operations of a batch
    #[arg(long, value_name = "N", default_value_t = 1024, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) batch: u32,
    /// Outputs of a transaction
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) outputs: u32,
    /// Answer in JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args)]
pub(crate) struct Demo {
    /// Keep the store and the daemon's log in this new directory [default: a temporary one, removed at the end]
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        super::Cli::command().debug_assert();
    }
}
