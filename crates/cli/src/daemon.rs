//! `icecore daemon`: an engine with its sources, its log and its admin port, until somebody says stop.

use std::{
    fs::OpenOptions,
    io::{Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::Duration,
};

use icecore_catalog::Catalog;
use icecore_cold::Layout;
use icecore_engine::{Engine, EngineConfig, Sources};
use icecore_ledger::Source;
use icecore_stellar::{StellarDecoder, source};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use serde_json::{Value, json};

use crate::{
    admin::{Admin, Client, Served},
    args::Configured,
    config::Settings,
    fail::{Fail, Outcome},
    log,
    output::Output,
};

/// What the catalog's owner says of itself, before the address.
const NOTE: &str = "admin port ";

/// Upper bounds of the buckets in which times are counted, in seconds.
const TIME_BUCKETS: &[f64] =
    &[0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0, 120.0, 600.0];

pub(crate) fn run(args: &Configured, out: &Output) -> Outcome {
    let settings = args.settings()?;
    log::begin(&settings);
    let recorder = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".into()), TIME_BUCKETS)
        .map_err(|e| Fail::Error(Box::new(e)))?
        .build_recorder();
    let metrics = recorder.handle();
    // Nobody else measures in this process.
    drop(metrics::set_global_recorder(recorder));
    icecore_engine::metrics::describe();

    let (tell, told) = crate::stops()?;
    let engine = Arc::new(open(&settings)?);
    let admin = admin(&settings, &engine, metrics)?;
    engine.start()?;
    let report = thread::scope(|scope| {
        let waiting = &engine;
        scope.spawn(move || {
            // What it ended for is asked for below.
            let _ended = waiting.wait();
            let _nobody_waits_any_more = tell.send(());
        });
        // A signal, or the end of the work: a sender is there for as long as this waits.
        let _either = told.recv();
        engine.shutdown()
    });
    drop(admin);
    engine.wait()?;
    for (worker, status) in &report.per_worker {
        out.line(format!("{worker:?}: {status}"))?;
    }
    report.require_clean().map_err(|e| Fail::Error(Box::new(e)))
}

/// Opens the admin port, and leaves word of it where others look for the store's owner.
fn admin(settings: &Settings, engine: &Arc<Engine>, metrics: PrometheusHandle) -> Outcome<Option<Admin>> {
    let Some(address) = settings.admin_address()? else { return Ok(None) };
    let token = new_token(&engine.config().layout)?;
    let served = Arc::new(Daemon { engine: Arc::clone(engine) });
    let admin = Admin::start(address, served, metrics, token)?;
    engine.catalog().set_note(&format!("{NOTE}{}", admin.address()))?;
    tracing::info!(address = %admin.address(), "the admin port listens");
    Ok(Some(admin))
}

/// Opens the engine that settings describe, and its sources.
pub(crate) fn open(settings: &Settings) -> Outcome<Engine> {
    let live = settings.live.as_deref().map(source::live::open).transpose()?;
    let (mut network, mut followed) = (settings.network.clone(), None);
    let live = live.map(|opened| {
        network = network.take().or(opened.network_passphrase);
        followed = opened.bulk;
        Arc::from(opened.source)
    });
    // A lake that grows has its history too.
    let bulk: Arc<dyn Source> = match (&settings.bulk, followed) {
        (None, Some(lake)) => Arc::from(lake),
        (bulk, _) => {
            let opened = source::open(settings.needed("bulk", bulk)?)?;
            network = network.or(opened.network_passphrase);
            Arc::from(opened.source)
        }
    };
    if !bulk.random_access() {
        tracing::warn!(source = %bulk.describe(), "a source without random access: each chunk reads it from its start");
    }
    let config = engine_config(settings, network)?;
    Ok(Engine::open(config, Sources { bulk, live }, Arc::new(StellarDecoder))?)
}

/// Where everything lies.
pub(crate) fn layout(settings: &Settings) -> Outcome<Layout> {
    let mut layout = Layout::new(settings.needed("data", &settings.data)?);
    type With = fn(Layout, PathBuf) -> Layout;
    let trees: [(&Option<PathBuf>, With); 5] = [
        (&settings.hot_dir, Layout::with_hot),
        (&settings.ledgers_dir, Layout::with_ledgers),
        (&settings.events_dir, Layout::with_events),
        (&settings.runs_dir, Layout::with_runs),
        (&settings.indexes_dir, Layout::with_indexes),
    ];
    for (dir, with) in trees {
        if let Some(dir) = dir {
            layout = with(layout, dir.clone());
        }
    }
    layout.check()?;
    Ok(layout)
}

fn engine_config(settings: &Settings, network: Option<String>) -> Outcome<EngineConfig> {
    let mut config = EngineConfig::new("");
    config.layout = layout(settings)?;
    config.geometry = settings.geometry()?;
    config.earliest = settings.earliest();
    config.network = network;
    let seconds = |value: Option<u64>, or: Duration| value.map_or(or, Duration::from_secs);
    config.retention_chunks = settings.retention_chunks.unwrap_or(config.retention_chunks);
    config.workers = settings.workers.map_or(config.workers, usize::from);
    config.max_retries = settings.max_retries.unwrap_or(config.max_retries);
    config.retry_pause = settings.retry_millis.map_or(config.retry_pause, Duration::from_millis);
    config.bulk_wait = seconds(settings.bulk_wait_seconds, config.bulk_wait);
    config.grace = seconds(settings.grace_seconds, config.grace);
    config.shutdown = seconds(settings.shutdown_seconds, config.shutdown);
    config.allow_full_disk = settings.allow_full_disk.unwrap_or(config.allow_full_disk);
    Ok(config)
}

/// Refuses to write files past the catalog that knows all files of a store.
pub(crate) fn refuse_kept(layout: &Layout) -> Outcome {
    if !layout.catalog_dir().exists() {
        return Ok(());
    }
    let root = layout.root().display();
    Err(Fail::Usage(format!(
        "{root} is kept by a daemon: build in another directory, and take that in with `icecore adopt DIR --data {root}`"
    )))
}

/// The engine, as the admin port sees it.
struct Daemon {
    engine: Arc<Engine>,
}

impl Served for Daemon {
    fn status(&self) -> (Value, bool) {
        let status = self.engine.status();
        let well = status.fatal.is_none();
        (serde_json::to_value(status).unwrap_or_default(), well)
    }

    fn plan(&self) -> Result<Value, String> {
        let estimate = self.engine.estimate().map_err(|e| e.to_string())?;
        serde_json::to_value(estimate).map_err(|e| e.to_string())
    }

    fn retention(&self, chunks: Option<u32>, dry_run: bool) -> Result<Value, String> {
        let configured = self.engine.config().retention_chunks;
        let change = self.engine.retention_change(chunks.unwrap_or(configured));
        if !dry_run {
            let set = chunks
                .map_or_else(|| self.engine.forget_retention(), |chunks| self.engine.set_retention(chunks));
            set.map_err(|e| e.to_string())?;
        }
        serde_json::to_value(change).map_err(|e| e.to_string())
    }

    fn backup(&self, to: &Path) -> Result<Value, String> {
        let report = self.engine.catalog().backup(to).map_err(|e| e.to_string())?;
        Ok(backup_report(&report))
    }
}

/// What is said of a backup.
pub(crate) fn backup_report(report: &icecore_catalog::BackupReport) -> Value {
    json!({ "path": report.path, "keys": report.keys, "bytes": report.bytes })
}

/// The daemon that runs on a store, if there is one with an admin port.
pub(crate) fn running(layout: &Layout) -> Outcome<Option<Client>> {
    let Some(owner) = Catalog::holder(layout)? else { return Ok(None) };
    let note = owner.note.as_deref().and_then(|note| note.strip_prefix(NOTE));
    let Some(address) = note.and_then(|address| address.parse().ok()) else { return Ok(None) };
    let mut token = String::new();
    // Whoever may not read it may still look.
    if let Ok(file) = std::fs::File::open(token_path(layout)) {
        file.take(256).read_to_string(&mut token)?;
    }
    Ok(Some(Client { address, token }))
}

fn token_path(layout: &Layout) -> PathBuf {
    let catalog = layout.catalog_dir();
    catalog.parent().unwrap_or(&catalog).join("admin-token")
}

/// Draws a token and leaves it where only the daemon's user reads it.
fn new_token(layout: &Layout) -> Outcome<String> {
    let mut random = [0; 16];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut random)?;
    let token = crate::output::hex(&random);
    let path = token_path(layout);
    match std::fs::remove_file(&path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e.into()),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
    file.write_all(token.as_bytes())?;
    Ok(token)
}
