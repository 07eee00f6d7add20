//! `icecore ls | stat | cat`

use std::{
    path::Path,
    sync::{Arc, atomic::Ordering::Relaxed},
};

use icecore_cold::{Control, Kind, LedgerPack, Store};
use icecore_ledger::{ChunkId, Decoder, Source};
use icecore_stellar::StellarDecoder;
use icecore_txindex::Run;
use serde_json::{Map, Value, json};

use crate::{
    args::{Cat, Ls, Stat},
    fail::{Fail, Outcome},
    file::AnyFile,
    history::History,
    output::{Output, human_bytes, human_count},
    progress::Progress,
};

/// One row of `ls`.
struct Row {
    chunk: ChunkId,
    counts: Outcome<Counts>,
    /// Of each kind of file.
    bytes: Vec<Option<u64>>,
}

#[derive(Clone, Copy, Default)]
struct Counts {
    ledgers: Option<u64>,
    /// Known where the ledgers were decoded to count them.
    transactions: Option<u64>,
    /// Entries of the hash run: a fee-bump counts twice, since two hashes find it.
    hashes: Option<u64>,
    events: Option<u64>,
}

impl Counts {
    fn of(store: &Store, chunk: ChunkId, decode: bool) -> Outcome<Counts> {
        let has_run = store.inventory().chunks[&chunk].contains_key(&Kind::Run);
        let run = || Ok::<_, Fail>(Run::open(store.disk(), &store.layout().file(Kind::Run, chunk))?.len());
        let pack = store.pack(chunk)?;
        Ok(Counts {
            ledgers: pack.as_ref().map(|pack| pack.ledgers().count()),
            transactions: pack.filter(|_| decode).map(|pack| transactions(&pack)).transpose()?,
            hashes: has_run.then(run).transpose()?,
            events: store.chunk_events(chunk)?.map(|events| events.event_count()).transpose()?.map(u64::from),
        })
    }

    fn plus(self, other: Counts) -> Counts {
        let sum = |a: Option<u64>, b: Option<u64>| a.zip(b).map(|(a, b)| a + b).or(a).or(b);
        Counts {
            ledgers: sum(self.ledgers, other.ledgers),
            transactions: sum(self.transactions, other.transactions),
            hashes: sum(self.hashes, other.hashes),
            events: sum(self.events, other.events),
        }
    }
}

fn transactions(pack: &LedgerPack) -> Outcome<u64> {
    let mut stream = pack.stream(pack.ledgers())?;
    let mut count = 0;
    while let Some(ledger) = stream.next_ledger()? {
        count += StellarDecoder.decode(ledger.bytes)?.transactions.len() as u64;
    }
    Ok(count)
}

pub(crate) fn ls(args: &Ls, out: &Output) -> Outcome {
    let store = Store::open(&args.dir)?;
    let control: Arc<Control> = Arc::default();
    control.total.store(store.inventory().chunks.len() as u64, Relaxed);
    let progress = Progress::watch(&control, "counting");
    let mut rows = Vec::new();
    for (&chunk, files) in &store.inventory().chunks {
        let counts = Counts::of(&store, chunk, args.count);
        rows.push(Row {
            chunk,
            counts,
            bytes: Kind::ALL.iter().map(|kind| files.get(kind).copied()).collect(),
        });
        control.done.fetch_add(1, Relaxed);
        control.bytes.fetch_add(files.values().sum(), Relaxed);
    }
    drop(progress);
    if out.json {
        ls_json(&store, &rows, out)?
    } else {
        ls_table(&store, &rows, args.count, out)?
    }
    let hot = ls_hot(&args.dir, out);
    match rows.into_iter().find_map(|row| row.counts.err()) {
        Some(fail) => Err(fail),
        None => hot,
    }
}

/// The hot chunks, below the others.
fn ls_hot(dir: &Path, out: &Output) -> Outcome {
    let (mut table, mut failed) = (Vec::new(), None);
    for (chunk, range) in History::open(dir)?.hot_ranges() {
        let error = range.as_ref().err().map(ToString::to_string);
        let range = range.map_err(|fail| failed.get_or_insert(fail).to_string());
        if out.json {
            let range = range.ok().flatten();
            let (first, last) = (range.map(|r| r.first.0), range.map(|r| r.last.0));
            out.value(
                &json!({ "hot_chunk": chunk.0, "first_ledger": first, "last_ledger": last, "error": error }),
            )?;
            continue;
        }
        let cells = match range {
            Ok(Some(range)) => [range.first.to_string(), range.last.to_string(), human_count(range.count())],
            Ok(None) => ["–", "–", "0"].map(str::to_owned),
            Err(_) => ["unreadable", "", ""].map(str::to_owned),
        };
        table.push([vec![chunk.to_string()], cells.to_vec()].concat());
    }
    if !table.is_empty() {
        table.insert(0, ["hot chunk", "first ledger", "last ledger", "ledgers"].map(str::to_owned).to_vec());
        out.line("")?;
        out.table(&table)?;
    }
    failed.map_or(Ok(()), Err)
}

fn ls_json(store: &Store, rows: &[Row], out: &Output) -> Outcome {
    for Row { chunk, counts, bytes } in rows {
        let error = counts.as_ref().err().map(ToString::to_string);
        let Counts { ledgers, transactions, hashes, events } = counts.as_ref().copied().unwrap_or_default();
        let [pack, run, records, bitmaps, terms] = bytes[..] else { continue };
        out.value(&json!({
            "chunk": chunk.0, "ledgers": ledgers, "transactions": transactions, "hashes": hashes, "events": events,
            "ledgers_bytes": pack, "run_bytes": run, "events_bytes": records, "event_bitmaps_bytes": bitmaps,
            "event_terms_bytes": terms, "error": error,
        }))?;
    }
    for (coverage, bytes) in &store.inventory().indexes {
        let (window, first, last) = (coverage.window.0, coverage.first.0, coverage.last.0);
        out.value(
            &json!({ "window": window, "first_chunk": first, "last_chunk": last, "index_bytes": bytes }),
        )?;
    }
    Ok(())
}

fn ls_table(store: &Store, rows: &[Row], counted: bool, out: &Output) -> Outcome {
    let (root, geometry) = (store.layout().root().display(), &store.manifest().geometry);
    let (ledgers, chunks) = (geometry.ledgers_per_chunk(), geometry.chunks_per_window());
    out.line(format!("{root}: {ledgers} ledgers to a chunk, {chunks} chunks to a window"))?;
    let count = |n: Option<u64>| n.map_or("–".to_owned(), human_count);
    let size = |n: &Option<u64>| n.map_or("–".to_owned(), human_bytes);
    let row = |name: String, counts: Result<Counts, &Fail>, bytes: &[Option<u64>]| {
        let counts = counts.map(|counts| [counts.ledgers, counts.transactions, counts.hashes, counts.events]);
        let mut cells: Vec<String> = match counts {
            Ok(counts) => counts.into_iter().map(count).collect(),
            Err(Fail::Damaged(_)) => ["damaged", "", "", ""].map(str::to_owned).to_vec(),
            Err(_) => ["unreadable", "", "", ""].map(str::to_owned).to_vec(),
        };
        cells.insert(0, name);
        cells.extend(bytes.iter().map(size));
        if !counted {
            cells.remove(2);
        }
        cells
    };
    let heading = [
        "chunk",
        "ledgers",
        "transactions",
        "tx hashes",
        "events",
        "pack",
        "run",
        "events",
        "bitmaps",
        "terms",
    ];
    let mut heading = heading.map(str::to_owned).to_vec();
    if !counted {
        heading.remove(2);
    }
    let mut table = vec![heading];
    table.extend(rows.iter().map(|r| row(r.chunk.to_string(), r.counts.as_ref().copied(), &r.bytes)));
    if rows.len() > 1 {
        let counts = rows.iter().filter_map(|row| row.counts.as_ref().ok()).copied();
        let bytes = |kind: usize| Some(rows.iter().filter_map(|row| row.bytes[kind]).sum());
        let bytes: Vec<_> = (0..Kind::ALL.len()).map(bytes).collect();
        let total = counts.reduce(Counts::plus).unwrap_or_default();
        table.push(row("total".to_owned(), Ok(total), &bytes));
    }
    out.table(&table)?;
    let mut indexes = vec![["window", "first chunk", "last chunk", "index"].map(str::to_owned).to_vec()];
    for (coverage, bytes) in &store.inventory().indexes {
        let ids = [coverage.window.to_string(), coverage.first.to_string(), coverage.last.to_string()];
        indexes.push(ids.into_iter().chain([human_bytes(*bytes)]).collect());
    }
    out.line("")?;
    Ok(out.table(&indexes)?)
}

pub(crate) fn stat(args: &Stat, out: &Output) -> Outcome {
    let file = AnyFile::open(&args.file)?;
    print(&file.stat(&args.file)?, out)
}

pub(crate) fn cat(args: &Cat, out: &Output) -> Outcome {
    let item = AnyFile::open(&args.file)?.item(args.pos)?;
    if args.raw {
        return Ok(out.bytes(&item.bytes)?);
    }
    print(&item.fields, out)?;
    if !out.json {
        dump(&item.bytes, out)?;
    }
    Ok(())
}

fn print(fields: &Map<String, Value>, out: &Output) -> Outcome {
    if out.json {
        return Ok(out.value(fields)?);
    }
    let width = fields.keys().map(String::len).max().unwrap_or(0);
    for (name, value) in fields {
        let text = match value {
            Value::Null => "–".to_owned(),
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        out.line(format!("{}  {text}", out.bold(&format!("{name:<width$}"))))?;
    }
    Ok(())
}

/// The first bytes of an item in hexadecimal, sixteen to a line.
fn dump(bytes: &[u8], out: &Output) -> Outcome {
    const SHOWN_BYTES: usize = 256;
    for (line, bytes) in bytes[..bytes.len().min(SHOWN_BYTES)].chunks(16).enumerate() {
        let digits: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let text: String =
            bytes.iter().map(|&byte| if byte.is_ascii_graphic() { char::from(byte) } else { '.' }).collect();
        out.line(format!("{:08x}  {:<47}  {text}", line * 16, digits.join(" ")))?;
    }
    if bytes.len() > SHOWN_BYTES {
        out.line(format!("… {} bytes more; --raw writes all", bytes.len() - SHOWN_BYTES))?;
    }
    Ok(())
}
