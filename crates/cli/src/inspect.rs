//! `icecore ls | stat | cat`

use icecore_cold::{Kind, Layout, Store};
use icecore_ledger::ChunkId;
use icecore_txindex::Run;
use serde_json::{Map, Value, json};

use crate::{
    args::{Cat, Ls, Stat},
    fail::Outcome,
    file::AnyFile,
    output::{Output, human_bytes, human_count},
};

/// One row of `ls`.
struct Row {
    chunk: ChunkId,
    ledgers: Option<u64>,
    /// Entries of the hash run: a fee-bump counts twice, since two hashes find it.
    hashes: Option<u64>,
    events: Option<u64>,
    bytes: Vec<Option<u64>>,
}

pub(crate) fn ls(args: &Ls, out: &Output) -> Outcome {
    let store = Store::open(&args.dir)?;
    let mut rows = Vec::new();
    for (&chunk, files) in &store.inventory().chunks {
        let run = store.layout().file(Kind::Run, chunk);
        let events = store.chunk_events(chunk)?;
        let has_run = files.contains_key(&Kind::Run);
        rows.push(Row {
            chunk,
            ledgers: store.pack(chunk)?.map(|pack| pack.ledgers().count()),
            hashes: if has_run { Some(Run::open(store.disk(), &run)?.len()) } else { None },
            events: events.map(|events| events.event_count()).transpose()?.map(u64::from),
            bytes: Kind::ALL.iter().map(|kind| files.get(kind).copied()).collect(),
        });
    }
    if out.json { ls_json(&store, &rows, out) } else { ls_table(&store, &rows, out) }
}

fn ls_json(store: &Store, rows: &[Row], out: &Output) -> Outcome {
    for row in rows {
        let names =
            ["ledgers_bytes", "run_bytes", "events_bytes", "event_bitmaps_bytes", "event_terms_bytes"];
        let mut fields = json!({ "chunk": row.chunk.0, "ledgers": row.ledgers, "hashes": row.hashes, "events": row.events });
        if let Value::Object(fields) = &mut fields {
            fields
                .extend(names.iter().zip(&row.bytes).map(|(name, bytes)| ((*name).to_owned(), json!(bytes))));
        }
        out.value(&fields)?;
    }
    for (coverage, bytes) in &store.inventory().indexes {
        let (window, first, last) = (coverage.window.0, coverage.first.0, coverage.last.0);
        out.value(
            &json!({ "window": window, "first_chunk": first, "last_chunk": last, "index_bytes": bytes }),
        )?;
    }
    Ok(())
}

fn ls_table(store: &Store, rows: &[Row], out: &Output) -> Outcome {
    let geometry = &store.manifest().geometry;
    out.line(format!(
        "{}: {} ledgers to a chunk, {} chunks to a window",
        args_path(store.layout()),
        geometry.ledgers_per_chunk(),
        geometry.chunks_per_window()
    ))?;
    let count = |n: &Option<u64>| n.map_or("–".to_owned(), human_count);
    let size = |n: &Option<u64>| n.map_or("–".to_owned(), human_bytes);
    let heading = ["chunk", "ledgers", "hashes", "events", "pack", "run", "events", "bitmaps", "terms"];
    let mut table = vec![heading.map(str::to_owned).to_vec()];
    for row in rows {
        let mut cells =
            vec![row.chunk.to_string(), count(&row.ledgers), count(&row.hashes), count(&row.events)];
        cells.extend(row.bytes.iter().map(size));
        table.push(cells);
    }
    if rows.len() > 1 {
        let sum = |of: &dyn Fn(&Row) -> Option<u64>| Some(rows.iter().filter_map(of).sum());
        let sums = [sum(&|row| row.ledgers), sum(&|row| row.hashes), sum(&|row| row.events)];
        let mut cells = vec!["total".to_owned()];
        cells.extend(sums.iter().map(count));
        cells.extend((0..Kind::ALL.len()).map(|kind| size(&sum(&|row| row.bytes[kind]))));
        table.push(cells);
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

fn args_path(layout: &Layout) -> std::path::Display<'_> {
    layout.root().display()
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
