//! `icecore demo`: a store's whole life in one screen. A daemon of this very program is started, fed, killed and started
//! again; everything said is asked of it, or read beside it.

use std::{
    fs::File,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use icecore_cold::Layout;
use icecore_events::{Filter, Query};
use icecore_ledger::{Decoder, LedgerSeq};
use icecore_stellar::{
    NetworkId, StellarDecoder, find_transaction, source::GENERATED_PASSPHRASE, text::parse_topic,
};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::{
    args::Demo,
    daemon,
    fail::{Fail, Outcome},
    history,
    output::{Output, human_count},
};

/// What the archive has at the first start, and what the node has closed when all is over.
const ARCHIVE: u32 = 2_600;
const CLOSED: u32 = 4_200;
const LEDGERS_PER_CHUNK: u32 = 500;
const LOOKUPS: u32 = 50;

/// How long one step may take on a machine that is busy with other things.
const PATIENCE: Duration = Duration::from_secs(120);

fn spec(ledgers: u32) -> String {
    format!("gen:seed=7,ledgers={ledgers},txs=20,events=2")
}

pub(crate) fn run(args: &Demo, out: &Output) -> Outcome {
    let temporary = tempfile::tempdir()?;
    let root = args.out.clone().unwrap_or_else(|| temporary.path().to_path_buf());
    std::fs::create_dir_all(&root)?;
    let stop = Arc::new(AtomicBool::new(false));
    let on_signal = Arc::clone(&stop);
    ctrlc::set_handler(move || on_signal.store(true, SeqCst)).map_err(|e| Fail::Error(Box::new(e)))?;
    let demo = Tour { store: root.join("store"), log: root.join("log"), stop, out };
    demo.walk()?;
    if args.out.is_some() {
        out.line(format!(
            "\nThe store stays in {}, and what the daemon said beside it.",
            demo.store.display()
        ))?;
    }
    Ok(())
}

struct Tour<'a> {
    store: PathBuf,
    log: PathBuf,
    stop: Arc<AtomicBool>,
    out: &'a Output,
}

impl Tour<'_> {
    fn walk(&self) -> Outcome {
        self.step(1, "First start: what the archive has is fetched, the newest chunks first")?;
        self.shell("icecore daemon --data DIR --bulk ARCHIVE --live 'exec:NODE'")?;
        let begun = Instant::now();
        let mut running = self.start(ARCHIVE, 2_400)?;
        let filled = self.until(&mut running, |status| {
            status["latest"].as_u64() >= Some(ARCHIVE.into())
                && status["missing"] == serde_json::json!([0, 0])
        })?;
        self.say(&format!("{} after {:.1} s", state(&filled), begun.elapsed().as_secs_f64()))?;

        self.step(2, "New ledgers: each one durable before the next, found at once")?;
        let begun = Instant::now();
        let from = number(&filled, "latest");
        let grown = self.until(&mut running, |status| status["latest"].as_u64() >= Some(CLOSED.into()))?;
        let taken = f64::from(number(&grown, "latest").saturating_sub(from));
        self.say(&format!(
            "{} at {:.0} ledgers a second, over the ends of three chunks",
            state(&grown),
            taken / begun.elapsed().as_secs_f64()
        ))?;
        self.look_up(CLOSED)?;

        self.step(3, "Full chunks freeze, the window's index takes them in, their hot stores go")?;
        let settled = self.until(&mut running, |status| status["is_settled"] == true)?;
        self.say(&state(&settled))?;
        self.say(&self.indexes()?)?;
        self.look_up(LEDGERS_PER_CHUNK * 6)?;

        self.step(4, "Retention, changed while it runs: first asked what it would do, then done")?;
        self.shell("icecore retention set 5 --data DIR")?;
        let client =
            daemon::running(&Layout::new(&self.store))?.ok_or_else(|| Fail::NotFound("no daemon".into()))?;
        let change =
            client.post("/retention", &crate::admin::Retention { chunks: Some(5), dry_run: false })?;
        let pruned = self
            .until(&mut running, |status| status["retention_chunks"] == 5 && status["is_settled"] == true)?;
        let keys = change["pruned"].as_array().map_or(0, Vec::len);
        self.say(&format!("{keys} keys and their files removed; {}", state(&pruned)))?;

        self.step(5, "Kill -9, and again: nothing that was acknowledged is lost")?;
        running.child.kill()?;
        running.child.wait()?;
        let mut running = self.start(ARCHIVE, 4_150)?;
        let again =
            self.until(&mut running, |status| status["latest"].as_u64() >= pruned["latest"].as_u64())?;
        self.say(&state(&again))?;
        self.events()?;

        self.step(6, "Stop, and an audit: everything is derived from the ledgers once more and compared")?;
        self.shell("kill -TERM PID; icecore audit --deep --data DIR")?;
        self.say(&running.end()?)?;
        let text = self.store.display().to_string();
        let audit =
            Command::new(std::env::current_exe()?).args(["audit", "--deep", "--data", &text]).output()?;
        let said = String::from_utf8_lossy(&audit.stdout);
        said.lines().try_for_each(|line| self.say(line))?;
        match audit.status.success() {
            true => Ok(()),
            false => Err(Fail::Damaged(String::from_utf8_lossy(&audit.stderr).trim().to_owned())),
        }
    }

    /// A daemon; `from` is the first ledger that the node sends again.
    fn start(&self, archive: u32, from: u32) -> Outcome<Running> {
        let program = std::env::current_exe()?;
        let live = format!(
            "exec:'{}' replay --source {} --from {from} --to {} --pace 1",
            program.display(),
            spec(CLOSED + 100),
            CLOSED + 1
        );
        let log = File::options().create(true).append(true).open(&self.log)?;
        let (bulk, chunk) = (spec(archive), LEDGERS_PER_CHUNK.to_string());
        let child = Command::new(program)
            .args(["daemon", "--bulk", &bulk, "--live", &live, "--ledgers-per-chunk", &chunk])
            .args(["--chunks-per-window", "4", "--grace-seconds", "1", "--admin", "127.0.0.1:0", "--data"])
            .arg(&self.store)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()?;
        Ok(Running { child })
    }

    /// Waits until the daemon's status is as it should be.
    fn until(&self, running: &mut Running, is: impl Fn(&Value) -> bool) -> Outcome<Value> {
        let begun = Instant::now();
        let layout = Layout::new(&self.store);
        loop {
            let log = || std::fs::read_to_string(&self.log).unwrap_or_default();
            if self.stop.load(SeqCst) {
                return Err(Fail::Interrupted("stopped on request".to_owned()));
            }
            if running.child.try_wait()?.is_some() || begun.elapsed() > PATIENCE {
                return Err(Fail::Error(format!("the daemon did not get there; it said:\n{}", log()).into()));
            }
            // One that is still starting does not answer yet.
            let status =
                daemon::running(&layout).ok().flatten().and_then(|client| client.get("/status").ok());
            match status {
                Some(status) if is(&status) => return Ok(status),
                _ => std::thread::park_timeout(Duration::from_millis(50)),
            }
        }
    }

    /// Transactions around a ledger, each by its hash, beside the daemon.
    fn look_up(&self, around: u32) -> Outcome {
        let (mut seconds, mut place) = (0.0, "");
        for seq in (around - LOOKUPS..around).map(LedgerSeq) {
            let missing = || Fail::Damaged(format!("ledger {seq} was taken in and is not found"));
            let (_, found) = history::read(&self.store, |history| history.ledger(seq))?;
            let hash = StellarDecoder.decode(&found.ok_or_else(missing)?.raw)?.transactions
                [seq.0 as usize % 20]
                .hash;
            let begun = Instant::now();
            let (_, found) = history::read(&self.store, |history| history.transaction(&hash))?;
            let found = found.ok_or_else(missing)?;
            find_transaction(&found.raw, &hash, &NetworkId::of(GENERATED_PASSPHRASE))?.ok_or_else(missing)?;
            seconds += begun.elapsed().as_secs_f64();
            place = found.place.name();
        }
        let each = seconds / f64::from(LOOKUPS) * 1e3;
        self.say(&format!("{LOOKUPS} transactions up to ledger {around} looked up by hash: all found, {each:.1} ms each with opening the store, {place}"))
    }

    fn events(&self) -> Outcome {
        let filter = Filter::any().topic(0, parse_topic("sym:transfer")?);
        let query = Query { filters: vec![filter], limit: usize::MAX, ..Query::default() };
        let begun = Instant::now();
        let (_, found) = history::read(&self.store, |history| history.events(&query))?;
        self.shell("icecore get events --topic0 sym:transfer --data DIR")?;
        let milliseconds = begun.elapsed().as_secs_f64() * 1e3;
        self.say(&format!(
            "{} events in {milliseconds:.0} ms, from frozen and hot chunks",
            human_count(found.len() as u64)
        ))
    }

    fn indexes(&self) -> Outcome<String> {
        let store = icecore_cold::Store::open(&self.store)?;
        let indexes = store.inventory().indexes.iter().map(|(coverage, bytes)| {
            format!("{} to {}: {} bytes", coverage.first.0, coverage.last.0, human_count(*bytes))
        });
        Ok(format!("indexes of chunks {}", indexes.collect::<Vec<_>>().join("; ")))
    }

    fn step(&self, number: u32, title: &str) -> Outcome {
        Ok(self.out.line(self.out.bold(&format!("\n{number}. {title}")))?)
    }

    fn shell(&self, command: &str) -> Outcome {
        Ok(self.out.line(format!("   $ {command}"))?)
    }

    fn say(&self, text: &str) -> Outcome {
        Ok(self.out.line(format!("   {text}"))?)
    }
}

fn number(status: &Value, key: &str) -> u32 {
    status[key].as_u64().and_then(|number| number.try_into().ok()).unwrap_or(0)
}

/// A status in one line.
fn state(status: &Value) -> String {
    let chunks = |state: &str| status["chunks"][state].as_u64().unwrap_or(0);
    format!(
        "ledgers {} to {}: {} chunks frozen, {} hot",
        number(status, "floor"),
        number(status, "latest"),
        chunks("frozen"),
        chunks("ready")
    )
}

/// The daemon; killed when it is let go of.
struct Running {
    child: Child,
}

impl Running {
    /// Tells it to stop, and how it did.
    fn end(mut self) -> Outcome<String> {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, Signal::TERM).map_err(|e| Fail::Error(Box::new(e)))?;
        let begun = Instant::now();
        let status = self.child.wait()?;
        Ok(format!("the daemon ended with {status} within {:.1} s", begun.elapsed().as_secs_f64()))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // One that has ended is no news here.
        let _ended = self.child.kill();
        let _status = self.child.wait();
    }
}
