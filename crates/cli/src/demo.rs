//! `icecore demo`: the whole tour in one screen.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Instant,
};

use icecore_cold::{BuildReport, Builder, Control, Inventory, Layout, Manifest, Store};
use icecore_diskio::RealDisk;
use icecore_events::{Filter, Query};
use icecore_ledger::{Decoder, Geometry, LedgerSeq, Source, TxHash};
use icecore_stellar::{
    NetworkId, StellarDecoder, find_transaction,
    source::{GENERATED_PASSPHRASE, Generator},
    text::{format_contract, parse_topic},
};

use crate::{
    args::Demo,
    fail::{Fail, Outcome},
    output::{Output, human_bytes, human_count},
    progress::Progress,
    verify::{self, Tally},
};

const SOURCE: &str = "gen:seed=7,ledgers=4000,txs=50,events=2";
const LEDGERS_PER_CHUNK: u32 = 1000;
const LOOKUPS: usize = 1000;

pub(crate) fn run(args: &Demo, out: &Output) -> Outcome {
    let control = crate::cancellable()?;
    let temporary = tempfile::tempdir()?;
    let dir: PathBuf = args.out.clone().unwrap_or_else(|| temporary.path().join("store"));

    step(out, 1, "Build: ledgers are made up from a seed and frozen into immutable files")?;
    shell(
        out,
        &format!("icecore build --source {SOURCE} --out DIR --ledgers-per-chunk {LEDGERS_PER_CHUNK}"),
    )?;
    let (report, seconds) = build(&dir, &control)?;
    say(out, &what_was_built(&dir, &report, seconds)?)?;

    step(out, 2, "Again: everything is there, so nothing is done")?;
    let (again, seconds) = build(&dir, &control)?;
    say(out, &format!("{} chunks built in {:.0} ms", again.chunks_built, seconds * 1e3))?;

    let store = Store::open(&dir)?;
    step(out, 3, "Look up a transaction: hash → index → ledger → all 32 bytes compared")?;
    let hash = sample(&store, LedgerSeq(2345), 0)?;
    shell(out, &format!("icecore get tx {hash} --data DIR"))?;
    say(out, &look_up(&store, &hash)?)?;
    say(out, &look_up_many(&store)?)?;

    step(out, 4, "Find events: terms → bitmaps → records, each checked against the filter")?;
    say_events(&store, out)?;

    step(out, 5, "Verify, deeply: every file is derived from the ledgers once more and compared")?;
    shell(out, "icecore verify --deep DIR")?;
    let began = Instant::now();
    let mut tally = Tally::new(out);
    let progress = Progress::watch(&control, "checking");
    verify::store(&dir, true, &control, &mut tally)?;
    drop(progress);
    tally.close()?;
    say(out, &format!("in {:.1} s", began.elapsed().as_secs_f64()))?;
    if args.out.is_some() {
        out.line(format!("\nThe store stays in {}: try the commands above on it.", dir.display()))?;
    }
    Ok(())
}

fn step(out: &Output, number: u32, title: &str) -> Outcome {
    Ok(out.line(out.bold(&format!("\n{number}. {title}")))?)
}

fn shell(out: &Output, command: &str) -> Outcome {
    Ok(out.line(format!("   $ {command}"))?)
}

fn say(out: &Output, text: &str) -> Outcome {
    Ok(out.line(format!("   {text}"))?)
}

fn build(dir: &Path, control: &Arc<Control>) -> Outcome<(BuildReport, f64)> {
    let source: Generator = SOURCE.parse()?;
    let geometry = Geometry::new(LEDGERS_PER_CHUNK, 1000)?;
    let builder = Builder {
        disk: Arc::new(RealDisk),
        layout: Layout::new(dir),
        manifest: Manifest { geometry, network: Some(GENERATED_PASSPHRASE.to_owned()) },
        source: &source,
        decoder: &StellarDecoder,
        workers: crate::cores(),
        control,
    };
    let began = Instant::now();
    let _progress = Progress::watch(control, "building");
    Ok((builder.build(source.range()?)?, began.elapsed().as_secs_f64()))
}

fn what_was_built(dir: &Path, report: &BuildReport, seconds: f64) -> Outcome<String> {
    let inventory = Inventory::scan(&RealDisk, &Layout::new(dir))?;
    let files: u64 = inventory.chunks.values().flat_map(|files| files.values()).sum();
    let index: u64 = inventory.indexes.values().sum();
    if report.chunks_built == 0 {
        return Ok(format!(
            "everything was there from an earlier run: {} of files",
            human_bytes(files + index)
        ));
    }
    let keys: u64 = report.indexes_built.iter().map(|(_, keys)| keys).sum();
    Ok(format!(
        "{} ledgers ({}), {} transactions, {} events → {} of files in {seconds:.1} s; index: {:.2} bytes a hash",
        human_count(report.counts.ledgers),
        human_bytes(report.counts.raw_bytes),
        human_count(report.counts.transactions),
        human_count(report.counts.events),
        human_bytes(files + index),
        index as f64 / keys.max(1) as f64,
    ))
}

/// The hash of a ledger's transaction, counted round its transactions.
fn sample(store: &Store, seq: LedgerSeq, number: usize) -> Outcome<TxHash> {
    let missing = || Fail::NotFound(format!("ledger {seq} has no transaction"));
    let raw = store.ledger(seq)?.ok_or_else(missing)?;
    let transactions = StellarDecoder.decode(&raw)?.transactions;
    Ok(transactions.iter().cycle().nth(number).ok_or_else(missing)?.hash)
}

fn look_up(store: &Store, hash: &TxHash) -> Outcome<String> {
    let missing = || Fail::Damaged(format!("transaction {hash} was built in and is not found"));
    let found = store.transaction(hash, &StellarDecoder)?.ok_or_else(missing)?;
    let tx = find_transaction(&found.raw, hash, &NetworkId::of(GENERATED_PASSPHRASE))?.ok_or_else(missing)?;
    let envelope =
        tx.envelope.map_or("no envelope".to_owned(), |xdr| format!("envelope of {} bytes", xdr.len()));
    Ok(format!(
        "ledger {}, place {}, {envelope}, result of {}, meta of {}",
        tx.seq,
        tx.index,
        tx.result.len(),
        tx.meta.len()
    ))
}

fn look_up_many(store: &Store) -> Outcome<String> {
    let seqs = (0..LOOKUPS).map(|n| LedgerSeq(2 + (n * 3989 % 4000) as u32));
    let hashes = seqs.enumerate().map(|(n, seq)| sample(store, seq, n)).collect::<Outcome<Vec<_>>>()?;
    let began = Instant::now();
    for hash in &hashes {
        look_up(store, hash)?;
    }
    let each = began.elapsed().as_secs_f64() / LOOKUPS as f64;
    let mut unknown = 0;
    for hash in &hashes {
        let flipped = TxHash(hash.0.map(|byte| !byte));
        unknown += usize::from(store.transaction(&flipped, &StellarDecoder)?.is_none());
    }
    Ok(format!(
        "{LOOKUPS} more, all found, {:.0} µs each; of {LOOKUPS} unknown hashes {unknown} not found",
        each * 1e6
    ))
}

fn say_events(store: &Store, out: &Output) -> Outcome {
    let transfers = Filter::any().topic(0, parse_topic("sym:transfer")?);
    let first = store
        .events(&Query { filters: vec![transfers.clone()], limit: 1, ..Query::default() }, &StellarDecoder)?;
    let missing = || Fail::Damaged("events were built in and are not found".to_owned());
    let body = &first.first().ok_or_else(missing)?.body;
    let contract = StellarDecoder.event_fields(body)?.contract.ok_or_else(missing)?.to_vec();
    let name = <&[u8; 32]>::try_from(contract.as_slice()).map(format_contract).unwrap_or_default();
    shell(out, &format!("icecore get events --contract {name} --topic0 sym:transfer --data DIR"))?;
    let query = Query { filters: vec![transfers.contract(contract)], limit: usize::MAX, ..Query::default() };
    let began = Instant::now();
    let found = store.events(&query, &StellarDecoder)?;
    let milliseconds = began.elapsed().as_secs_f64() * 1e3;
    let last = found.last().ok_or_else(missing)?;
    say(
        out,
        &format!(
            "{} events in {milliseconds:.0} ms, the last one in ledger {}",
            human_count(found.len() as u64),
            last.ledger
        ),
    )
}
