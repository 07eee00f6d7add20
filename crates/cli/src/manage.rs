//! What is asked of a store beside its daemon, or while none runs: `status`, `plan`, `retention`, `adopt`, `audit`,
//! `recover`, `backup`, `restore`.

use std::{
    fs,
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime},
};

use icecore_catalog::{
    Catalog, CatalogReader, HotState, Pins, RecoveryPlan, RestoreOptions,
    audit::{Audit, AuditOptions, AuditReport, Deep, Finding},
};
use icecore_cold::{Kind, Layout};
use icecore_diskio::{Disk, RealDisk};
use icecore_engine::{AdoptBy, plan::Scope, retention as stored_retention};
use icecore_hotchunk::{HotChunk, HotOptions};
use icecore_ledger::{ChunkId, LedgerSeq};
use icecore_stellar::StellarDecoder;
use serde_json::{Value, json};

use crate::{
    admin, args,
    config::Settings,
    daemon,
    fail::{Fail, Outcome},
    output::{Output, human_bytes, human_count},
    progress::Progress,
};

/// How long an audit of a store in use waits between its two looks.
const BETWEEN_LOOKS: Duration = Duration::from_secs(10);

const DAY: Duration = Duration::from_secs(86_400);

/// A store as a command finds it.
struct Found {
    settings: Settings,
    layout: Layout,
    disk: Arc<dyn Disk>,
}

impl Found {
    fn new(configured: &args::Configured) -> Outcome<Self> {
        let settings = configured.settings()?;
        let layout = daemon::layout(&settings)?;
        Ok(Found { settings, layout, disk: Arc::new(RealDisk) })
    }

    fn pins(&self) -> Outcome<Pins> {
        Ok(CatalogReader::open(&self.layout)?.pins().clone())
    }

    /// The last ledger of a hot chunk, read beside whoever may be writing to it.
    fn hot_end(&self, scope: &Scope, chunk: ChunkId) -> Outcome<Option<LedgerSeq>> {
        let Some(ledgers) = scope.geometry.ledgers_of(chunk) else { return Ok(None) };
        let path = self.layout.hot_chunk(chunk);
        Ok(HotChunk::open_read_only(path, ledgers, &HotOptions::default())?.max_committed()?)
    }

    /// The catalog of a store that nobody has open.
    fn catalog(&self) -> Outcome<Catalog> {
        Ok(Catalog::open(Arc::clone(&self.disk), self.layout.clone(), &self.pins()?)?)
    }
}

pub(crate) fn status(args: &args::Status, out: &Output) -> Outcome {
    let found = Found::new(&args.configured)?;
    let mut status = match daemon::running(&found.layout)? {
        Some(client) => client.get("/status")?,
        None => at_rest(&found)?,
    };
    status["disk_bytes"] = disk(&found.layout);
    if out.json {
        return Ok(out.value(&status)?);
    }
    let word = |key: &str| match &status[key] {
        Value::Null => "none".to_owned(),
        Value::String(text) => text.clone(),
        value => value.to_string(),
    };
    let is_running = status["workers"].is_array();
    let head = match (is_running, status["fatal"].as_str()) {
        (_, Some(fatal)) => out.red(&format!("stopped: {fatal}")),
        (true, None) => out.green("running"),
        (false, None) => "at rest: no daemon runs".to_owned(),
    };
    out.line(format!("{}  {head}", found.layout.root().display()))?;
    out.line(format!("ledgers    {} to {}", word("floor"), word("latest")))?;
    if is_running {
        out.line(format!("lag        {} behind ledger {} of the source", word("lag"), word("tip")))?;
        let ranges = status["available"].as_array().map_or(0, Vec::len);
        if ranges > 1 {
            out.line(format!("holes      {} still to be filled in", ranges - 1))?;
        }
        let missing = &status["missing"];
        out.line(format!("to build   {} chunks, {} indexes", missing[0], missing[1]))?;
    }
    out.line(format!("kept       {}", kept(status["retention_chunks"].as_u64().unwrap_or(0))))?;
    out.line(format!("chunks     {}", counts(&status["chunks"], human_count)))?;
    out.line(format!("disk       {}", counts(&status["disk_bytes"], human_bytes)))?;
    for worker in status["workers"].as_array().into_iter().flatten() {
        let text = |key: &str| worker[key].as_str().unwrap_or("?");
        out.line(format!("worker     {}: {}, for {} s", text("name"), text("state"), worker["age_seconds"]))?;
    }
    for migration in status["migrations"].as_array().into_iter().flatten() {
        let text = |key: &str| migration[key].as_str().unwrap_or("?");
        out.line(format!("migration  {}: {}", text("name"), text("status")))?;
    }
    for trouble in status["troubles"].as_array().into_iter().flatten() {
        out.line(format!(
            "trouble    {}",
            trouble["error"].as_str().map_or_else(|| trouble.to_string(), str::to_owned)
        ))?;
    }
    Ok(())
}

fn kept(chunks: u64) -> String {
    if chunks == 0 { "everything".to_owned() } else { format!("{chunks} complete chunks") }
}

/// `a 1, b 2` of an object, without what is nothing.
fn counts(object: &Value, show: impl Fn(u64) -> String) -> String {
    let entries = object.as_object().into_iter().flatten();
    let shown = entries.filter_map(|(name, count)| Some((name, count.as_u64().filter(|count| *count > 0)?)));
    let all: Vec<String> = shown.map(|(name, count)| format!("{name} {}", show(count))).collect();
    if all.is_empty() { "none".to_owned() } else { all.join(", ") }
}

/// How a store is that no daemon runs on.
fn at_rest(found: &Found) -> Outcome<Value> {
    let reader = CatalogReader::open(&found.layout)?;
    let (state, pins) = (reader.state(), reader.pins());
    let scope = Scope {
        geometry: pins.geometry,
        earliest: pins.earliest,
        retention_chunks: stored_retention::stored_beside(&reader)?
            .or(found.settings.retention_chunks)
            .unwrap_or(0),
    };
    let last = scope.last_committed(state, |chunk| found.hot_end(&scope, chunk))?;
    let complete = scope.last_whole(state, |chunk| found.hot_end(&scope, chunk))?;
    let floor = pins.geometry.ledgers_of(scope.floor(complete)).map(|ledgers| ledgers.first.0);
    let hot = |wanted| state.hot.values().filter(|hot| **hot == wanted).count();
    let files = |wanted: &str| {
        state
            .keys()
            .filter(|key| {
                matches!(key, icecore_catalog::Key::Chunk(_, icecore_catalog::Artifact::Ledgers))
                    && state.word(key) == Some(wanted)
            })
            .count()
    };
    let plan = scope.resolve(state, complete);
    Ok(json!({
        "floor": floor,
        "latest": (last >= pins.earliest).then_some(last.0),
        "complete_chunk": complete.map(|chunk| chunk.0),
        "retention_chunks": scope.retention_chunks,
        "chunks": {
            "frozen": files("frozen"), "freezing": files("freezing"), "pruning": files("pruning"),
            "ready": hot(HotState::Ready), "transient": hot(HotState::Transient),
        },
        "missing": [plan.chunks.len(), plan.indexes.len()],
    }))
}

/// Bytes on disk, by tree.
fn disk(layout: &Layout) -> Value {
    json!({
        "ledgers": bytes_below(&layout.kind_dir(Kind::Ledgers)),
        "events": bytes_below(&layout.kind_dir(Kind::Events)),
        "runs": bytes_below(&layout.kind_dir(Kind::Run)),
        "indexes": bytes_below(&layout.index_dir()),
        "hot": bytes_below(&layout.hot_dir()),
        "catalog": bytes_below(&layout.catalog_dir()),
    })
}

/// What may vanish while it is counted is not counted.
fn bytes_below(dir: &Path) -> u64 {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let size = |entry: fs::DirEntry| match entry.metadata() {
        Ok(meta) if meta.is_dir() => bytes_below(&entry.path()),
        Ok(meta) => meta.len(),
        Err(_) => 0,
    };
    entries.map(size).sum()
}

pub(crate) fn plan(args: &args::Status, out: &Output) -> Outcome {
    let found = Found::new(&args.configured)?;
    let plan = match daemon::running(&found.layout)? {
        Some(client) => client.get("/plan")?,
        None => {
            let engine = daemon::open(&found.settings)?;
            serde_json::to_value(engine.estimate()?).map_err(|e| Fail::Error(Box::new(e)))?
        }
    };
    let room = plan["disks"].as_array().into_iter().flatten();
    let bytes_of = |disk: &Value, key: &str| disk[key].as_u64().unwrap_or(0);
    let short = room.clone().find(|disk| {
        bytes_of(disk, "needed_bytes")
            > bytes_of(disk, "free_bytes").saturating_add(bytes_of(disk, "freed_bytes"))
    });
    if out.json {
        out.value(&plan)?;
    } else {
        out.line(format!("build    {} chunks and {} indexes", plan["chunks"], plan["indexes"]))?;
        out.line(format!("from     {}", counts(&plan["from"], human_count)))?;
        let total = human_bytes(plan["total_bytes"].as_u64().unwrap_or(0));
        let peak = human_bytes(plan["peak_bytes"].as_u64().unwrap_or(0));
        out.line(format!(
            "bytes    {total} in the end ({}), {peak} meanwhile",
            counts(&plan["bytes"], human_bytes)
        ))?;
        for disk in room {
            let bytes = |key: &str| human_bytes(bytes_of(disk, key));
            let path = disk["path"].as_str().unwrap_or("?");
            out.line(format!(
                "disk     {path}: {} needed, {} free, {} freed by what is pruned first",
                bytes("needed_bytes"),
                bytes("free_bytes"),
                bytes("freed_bytes")
            ))?;
        }
        let time = plan["seconds"].as_f64().map_or("unknown".to_owned(), |s| {
            indicatif::HumanDuration(Duration::from_secs_f64(s.clamp(0.0, 1e12))).to_string()
        });
        out.line(format!("time     {time}, by {}", basis(&plan["basis"])))?;
    }
    match short {
        None => Ok(()),
        Some(disk) => {
            Err(Fail::Error(format!("{} cannot hold this", disk["path"].as_str().unwrap_or("a disk")).into()))
        }
    }
}

fn basis(basis: &Value) -> String {
    let count = |what: &str| basis[what].as_u64();
    match (count("chunks"), count("ledgers")) {
        (Some(chunks), _) => format!("{chunks} chunks that are there"),
        (_, Some(ledgers)) => format!("{ledgers} ledgers of the source that were built to see"),
        _ => "nothing, as nothing is to be built".to_owned(),
    }
}

pub(crate) fn retention(args: &args::Retention, out: &Output) -> Outcome {
    let found = Found::new(&args.configured)?;
    let chunks = match args.command {
        args::RetentionCommand::Set { chunks } => Some(chunks),
        args::RetentionCommand::Reset => None,
    };
    let change = match daemon::running(&found.layout)? {
        Some(client) => client.post("/retention", &admin::Retention { chunks, dry_run: args.dry_run })?,
        None => {
            let catalog = found.catalog()?;
            let configured = found.settings.retention_chunks.unwrap_or(0);
            let change = retention_at_rest(&found, &catalog, chunks.unwrap_or(configured))?;
            if !args.dry_run {
                stored_retention::store(&catalog, chunks)?;
            }
            change
        }
    };
    if out.json {
        return Ok(out.value(&change)?);
    }
    let number = |key: &str| change[key].as_u64().unwrap_or(0);
    out.line(format!("keep     {} (now {})", kept(number("to_chunks")), kept(number("from_chunks"))))?;
    out.line(format!("floor    chunk {} (now {})", number("to_floor"), number("from_floor")))?;
    let list = |key: &str| change[key].as_array().map_or(0, Vec::len);
    let will = if args.dry_run { "would be" } else { "will be" };
    out.line(format!("prune    {} keys and their files {will} removed", list("pruned")))?;
    out.line(format!("build    {} chunks {will} fetched", list("built")))?;
    Ok(())
}

fn retention_at_rest(found: &Found, catalog: &Catalog, chunks: u32) -> Outcome<Value> {
    let pins = catalog.pins();
    let configured = found.settings.retention_chunks.unwrap_or(0);
    let now = stored_retention::stored(catalog)?.unwrap_or(configured);
    let scope = Scope { geometry: pins.geometry, earliest: pins.earliest, retention_chunks: now };
    let state = catalog.state();
    let complete = scope.last_whole(&state, |chunk| found.hot_end(&scope, chunk))?;
    let change = stored_retention::RetentionChange::of(&scope, &state, complete, chunks);
    serde_json::to_value(change).map_err(|e| Fail::Error(Box::new(e)))
}

pub(crate) fn adopt(args: &args::Adopt, out: &Output) -> Outcome {
    let found = Found::new(&args.configured)?;
    let catalog = match CatalogReader::open(&found.layout) {
        Ok(_) => found.catalog()?,
        // Shards may be what a store begins with.
        Err(icecore_catalog::Error::NoCatalog { .. }) => {
            let settings = &found.settings;
            let pins = Pins::new(settings.geometry()?, settings.earliest(), settings.network.clone());
            Catalog::open(Arc::clone(&found.disk), found.layout.clone(), &pins)?
        }
        Err(e) => return Err(e.into()),
    };
    let control = crate::cancellable()?;
    let by = if args.copy { AdoptBy::Copy } else { AdoptBy::LinkOrCopy };
    let report = {
        let _progress = Progress::watch(&control, "checking");
        icecore_engine::adopt(&catalog, &args.dir, by, &control)?
    };
    if out.json {
        out.value(&report)?;
    } else {
        out.line(format!(
            "{} keys taken in ({} files linked, {} copied, {}), {} were there",
            report.adopted.len(),
            report.linked,
            report.copied,
            human_bytes(report.bytes),
            report.already
        ))?;
        for (path, what) in &report.refused {
            out.line(format!("{}  {}: {what}", out.red("left out"), path.display()))?;
        }
    }
    match report.refused.len() {
        0 => Ok(()),
        count => Err(Fail::Damaged(format!("{count} files were left out"))),
    }
}

pub(crate) fn audit(args: &args::Audit, out: &Output) -> Outcome {
    let found = Found::new(&args.configured)?;
    let (control, stopped) = crate::stoppable()?;
    let is_live = Catalog::holder(&found.layout)?.is_some();
    if args.fix && is_live {
        return Err(Fail::Usage(
            "--fix repairs stopped stores only: stop the daemon, or leave --fix out".to_owned(),
        ));
    }
    // Who repairs keeps others away from before it looks until it is done.
    let own = if args.fix { Some(found.catalog()?) } else { None };
    let scratch = tempfile::tempdir_in(found.layout.root())?;
    let workers = found.settings.workers.map_or_else(crate::cores, usize::from);
    // What is drawn differs from time to time, so that all is seen in the end.
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let seed = now.as_nanos() as u64;
    let deep = Deep {
        scratch: scratch.path(),
        workers,
        sample: args.sample.map(|count| (count, seed)),
        trust: DAY * args.trust_days,
    };
    // Not longer once it is told to stop.
    let wait = || _ = stopped.recv_timeout(BETWEEN_LOOKS);
    let options = AuditOptions {
        retention_chunks: found.settings.retention_chunks.unwrap_or(0),
        between_looks: is_live.then_some(&wait),
        deep: args.deep.then_some(deep),
    };
    let report = {
        let _progress = Progress::watch(&control, "auditing");
        let audit = Audit {
            disk: &found.disk,
            layout: &found.layout,
            decoder: &StellarDecoder,
            control: &control,
            options,
        };
        match &own {
            Some(catalog) => audit.run_on(catalog)?,
            None => audit.run()?,
        }
    };
    drop(scratch);
    print_audit(&report, out)?;
    let left = match &own {
        Some(catalog) => fix(catalog, &report, out)?,
        None => report.findings.len(),
    };
    match left {
        0 => Ok(()),
        count => Err(Fail::Damaged(format!("{count} findings"))),
    }
}

fn print_audit(report: &AuditReport, out: &Output) -> Outcome {
    for finding in &report.findings {
        if out.json {
            out.value(&finding_json(finding))?;
        } else {
            out.line(format!("{}  {finding}", out.red("finding")))?;
        }
    }
    let line = json!({
        "findings": report.findings.len(), "keys": report.keys, "files": report.files,
        "floor_chunk": report.floor.map(|chunk| chunk.0), "derived": report.derived, "remembered": report.remembered,
    });
    if out.json {
        return Ok(out.value(&line)?);
    }
    out.line(format!(
        "{} findings; {} keys, {} files; {} chunks derived again, {} passed over as sound",
        report.findings.len(),
        human_count(report.keys),
        human_count(report.files),
        report.derived,
        report.remembered
    ))?;
    Ok(())
}

fn finding_json(finding: &Finding) -> Value {
    json!({
        "invariant": finding.invariant.name(),
        "key": finding.key.map(|key| key.to_string()),
        "path": finding.path,
        "what": finding.what,
        "repairable": finding.repair.is_some(),
    })
}

/// Repairs what can be; gives how many findings are left.
fn fix(catalog: &Catalog, report: &AuditReport, out: &Output) -> Outcome<usize> {
    let done = Finding::repair_all(&report.findings, catalog);
    let mut repaired = 0;
    for repair in &done {
        let (word, why) = match &repair.result {
            Ok(()) => {
                repaired += 1;
                ("repaired", String::new())
            }
            Err(e) => ("failed", format!(": {e}")),
        };
        if out.json {
            out.value(&json!({ "repair": word, "finding": finding_json(&repair.finding), "error": why }))?;
        } else {
            out.line(format!("{word}  {}{why}", repair.finding))?;
        }
    }
    Ok(report.findings.len() - repaired)
}

pub(crate) fn recover(args: &args::Recover, out: &Output) -> Outcome {
    let found = Found::new(&args.configured)?;
    let both = !args.cold && !args.hot;
    let (cold, hot) = (args.cold || both, args.hot || both);
    let reader = CatalogReader::open(&found.layout)?;
    let plan =
        RecoveryPlan::for_range(reader.state(), &reader.pins().geometry, args.from, args.to, cold, hot)?;
    if args.apply {
        // What was read may have changed until the store is ours.
        let catalog = found.catalog()?;
        let plan = RecoveryPlan::for_range(
            &catalog.state(),
            &catalog.pins().geometry,
            args.from,
            args.to,
            cold,
            hot,
        )?;
        plan.apply(&catalog)?;
    }
    if out.json {
        let keys: Vec<String> = plan.freezing.iter().map(ToString::to_string).collect();
        let hot: Vec<u32> = plan.transient.iter().map(|chunk| chunk.0).collect();
        return Ok(out.value(&json!({ "applied": args.apply, "freezing": keys, "transient": hot }))?);
    }
    out.line(plan.to_string())?;
    let last = match (plan.is_empty(), args.apply) {
        (true, _) => return Ok(()),
        (_, true) => "done; the next start builds all this again",
        (_, false) => "nothing was changed: --apply does it",
    };
    Ok(out.line(last)?)
}

pub(crate) fn backup(args: &args::Backup, out: &Output) -> Outcome {
    let found = Found::new(&args.configured)?;
    let to = std::path::absolute(&args.to)?;
    let report = match daemon::running(&found.layout)? {
        Some(client) => client.post("/backup", &admin::Backup { to })?,
        None => daemon::backup_report(&found.catalog()?.backup(&to)?),
    };
    if out.json {
        return Ok(out.value(&report)?);
    }
    let bytes = human_bytes(report["bytes"].as_u64().unwrap_or(0));
    Ok(out.line(format!("{}: {} keys, {bytes}", args.to.display(), report["keys"]))?)
}

pub(crate) fn restore(args: &args::Restore, out: &Output) -> Outcome {
    let found = Found::new(&args.configured)?;
    let options = RestoreOptions { keep_previous: !args.skip_backup };
    let report = icecore_catalog::restore(&found.disk, &found.layout, &args.from, options)?;
    let keys = |keys: &[icecore_catalog::Key]| keys.iter().map(ToString::to_string).collect::<Vec<_>>();
    if out.json {
        return Ok(out.value(&json!({
            "generation": report.generation, "kept": report.kept,
            "distrusted": keys(&report.distrusted), "unknown": keys(&report.unknown),
        }))?);
    }
    out.line(format!(
        "restored; {} keys are built again, {} are removed",
        report.distrusted.len(),
        report.unknown.len()
    ))?;
    match report.kept {
        Some(kept) => Ok(out.line(format!("the catalog that was there is kept in {}", kept.display()))?),
        None => Ok(()),
    }
}
