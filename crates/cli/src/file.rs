//! Any one file of a store, told by its name or, without a name that tells, by its magic number.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use icecore_cold::LedgerPack;
use icecore_diskio::{Disk, FileReader, ReadAt, RealDisk};
use icecore_events::{EventRecord, decode_bitmap};
use icecore_ledger::Decoder;
use icecore_packfile::Reader;
use icecore_stellar::{StellarDecoder, text::format_contract};
use icecore_streamhash::Index;
use icecore_txindex::{Run, WindowIndex};
use serde_json::{Map, Value, json};

use crate::{
    fail::{Fail, Outcome},
    output::hex,
};

const LEDGER_PACK: u32 = 1;
const EVENTS_PACK: u32 = 0xFE1E_000C;
const BITMAPS_PACK: u32 = 0xFE1E_000B;

/// An open file.
pub(crate) enum AnyFile {
    Pack(Reader),
    Index { index: Box<Index>, path: PathBuf },
    Run(Run),
}

/// What an item is, for people and programs, and its bytes.
pub(crate) struct Item {
    pub(crate) fields: Map<String, Value>,
    pub(crate) bytes: Vec<u8>,
}

fn disk() -> Arc<dyn Disk> {
    Arc::new(RealDisk)
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(fields) => fields,
        other => Map::from_iter([("value".to_owned(), other)]),
    }
}

impl AnyFile {
    pub(crate) fn open(path: &Path) -> Outcome<AnyFile> {
        let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
        match extension {
            "pack" => Self::open_pack(path),
            "idx" | "hash" => Self::open_index(path),
            "bin" => Ok(AnyFile::Run(Run::open(&disk(), path)?)),
            _ => Self::open_by_magic(path),
        }
    }

    fn open_by_magic(path: &Path) -> Outcome<AnyFile> {
        let file = FileReader::open(path)?;
        let mut magic = [0; 4];
        if file.len_bytes() >= 4 {
            file.read_exact_at(&mut magic, 0)?;
        }
        if magic == *b"HMTS" {
            return Self::open_index(path);
        }
        if let Some(at) = file.len_bytes().checked_sub(76) {
            file.read_exact_at(&mut magic, at)?;
            if magic == *b"SLCH" {
                return Self::open_pack(path);
            }
        }
        let kinds = "a packfile (.pack), an index (.idx, .hash) or a hash run (.bin)";
        Err(Fail::Usage(format!("{} is not {kinds}, by its name or its magic number", path.display())))
    }

    fn open_pack(path: &Path) -> Outcome<AnyFile> {
        let reader = Reader::open(path);
        let info = reader.info()?;
        let reader = match info.format {
            BITMAPS_PACK => reader.with_codec(icecore_packfile::Codec::None),
            _ => reader,
        };
        Ok(AnyFile::Pack(reader))
    }

    fn open_index(path: &Path) -> Outcome<AnyFile> {
        Ok(AnyFile::Index { index: Box::new(Index::open(path)?), path: path.to_path_buf() })
    }

    /// Checks everything that the file can be checked for by itself.
    pub(crate) fn verify(&self) -> Outcome {
        match self {
            AnyFile::Pack(reader) => Ok(reader.verify()?),
            AnyFile::Index { index, .. } => Ok(index.verify()?),
            AnyFile::Run(run) => Ok(run.scan().try_for_each(|entry| entry.map(drop))?),
        }
    }

    /// What the file says of itself.
    pub(crate) fn stat(&self, path: &Path) -> Outcome<Map<String, Value>> {
        let file_bytes = std::fs::metadata(path)?.len();
        let mut fields = object(json!({ "file": path.display().to_string(), "bytes": file_bytes }));
        match self {
            AnyFile::Pack(reader) => stat_pack(reader, path, &mut fields)?,
            AnyFile::Index { index, path } => stat_index(index, path, file_bytes, &mut fields)?,
            AnyFile::Run(run) => {
                let mut first_and_last = run.scan().try_fold(None, |span, entry| {
                    let seq = entry?.seq;
                    let (low, high) = span.unwrap_or((seq, seq));
                    Ok::<_, icecore_txindex::Error>(Some((low.min(seq), high.max(seq))))
                })?;
                let (low, high) = first_and_last.take().unzip();
                fields.extend(object(json!({
                    "kind": "hash run", "entries": run.len(),
                    "lowest_ledger": low.map(|seq| seq.0), "highest_ledger": high.map(|seq| seq.0),
                })));
            }
        }
        Ok(fields)
    }

    /// One item.
    pub(crate) fn item(&self, pos: u64) -> Outcome<Item> {
        let beyond =
            |count: u64| Fail::NotFound(format!("there is no item {pos}: the file has {count}, from 0"));
        match self {
            AnyFile::Pack(reader) => {
                let count = reader.item_count()?;
                let at = u32::try_from(pos)
                    .ok()
                    .filter(|&at| at < count)
                    .ok_or_else(|| beyond(u64::from(count)))?;
                let bytes = reader.read_item(at)?;
                Ok(Item { fields: pack_item(reader, &bytes)?, bytes })
            }
            AnyFile::Index { index, .. } => {
                if pos >= index.key_count() {
                    return Err(beyond(index.key_count()));
                }
                let (payload, fingerprint) = (index.payload(pos)?, index.fingerprint(pos)?);
                let fields = object(json!({ "rank": pos, "payload": payload, "fingerprint": fingerprint }));
                let header = index.header();
                let mut bytes = fingerprint.to_le_bytes()[..usize::from(header.fingerprint_bytes)].to_vec();
                bytes.extend(&payload.to_le_bytes()[..usize::from(header.payload_bytes)]);
                Ok(Item { fields, bytes })
            }
            AnyFile::Run(run) => {
                let at =
                    usize::try_from(pos).ok().filter(|_| pos < run.len()).ok_or_else(|| beyond(run.len()))?;
                let entry = run.scan().nth(at).ok_or_else(|| beyond(run.len()))??;
                let fields = object(json!({ "key": hex(&entry.key), "ledger": entry.seq.0 }));
                let mut bytes = entry.key.to_vec();
                bytes.extend(entry.seq.0.to_le_bytes());
                Ok(Item { fields, bytes })
            }
        }
    }
}

fn stat_pack(reader: &Reader, path: &Path, fields: &mut Map<String, Value>) -> Outcome {
    let info = reader.info()?;
    fields.extend(object(json!({
        "kind": match info.format {
            LEDGER_PACK => "ledger pack",
            EVENTS_PACK => "events",
            BITMAPS_PACK => "event bitmaps",
            _ => "packfile",
        },
        "format": format!("{:#x}", info.format),
        "items": info.item_count,
        "records": info.record_count,
        "items_per_record": info.items_per_record,
        "index_bytes": info.index_bytes,
        "app_data_bytes": info.app_data_bytes,
        "content_hash": info.content_hash.map(|hash| hex(&hash)),
    })));
    if info.format == LEDGER_PACK {
        let ledgers = LedgerPack::open(&disk(), path)?.ledgers();
        fields.extend(object(json!({ "first_ledger": ledgers.first.0, "last_ledger": ledgers.last.0 })));
    }
    Ok(())
}

fn stat_index(index: &Index, path: &Path, file_bytes: u64, fields: &mut Map<String, Value>) -> Outcome {
    let header = index.header();
    let bits = 8.0 * file_bytes as f64 / header.keys.max(1) as f64;
    fields.extend(object(json!({
        "kind": if path.extension().is_some_and(|e| e == "idx") { "window index" } else { "hash index" },
        "algorithm": header.algorithm.name(),
        "keys": header.keys,
        "blocks": header.blocks,
        "payload_bytes": header.payload_bytes,
        "fingerprint_bytes": header.fingerprint_bytes,
        "global_seed": format!("{:#x}", header.global_seed),
        "user_metadata": hex(index.user_metadata()),
        "bits_per_key": (bits * 100.0).round() / 100.0,
    })));
    if path.extension().is_some_and(|e| e == "idx") {
        let ledgers = WindowIndex::open(path)?.coverage();
        fields.extend(object(json!({ "first_ledger": ledgers.first.0, "last_ledger": ledgers.last.0 })));
    }
    Ok(())
}

/// What an item of a packfile of ours says.
fn pack_item(reader: &Reader, bytes: &[u8]) -> Outcome<Map<String, Value>> {
    let mut fields = object(json!({ "bytes": bytes.len() }));
    match reader.format()? {
        LEDGER_PACK => {
            let ledger = StellarDecoder.decode(bytes)?;
            fields.extend(object(json!({
                "ledger": ledger.seq.0, "closed_at": ledger.closed_at,
                "transactions": ledger.transactions.len(), "events": ledger.events.len(),
            })));
        }
        EVENTS_PACK => {
            let event = EventRecord::decode(bytes)?;
            let contract = StellarDecoder.event_fields(event.body)?.contract;
            let contract = contract.and_then(|id| <&[u8; 32]>::try_from(id).ok()).map(format_contract);
            fields.extend(object(json!({
                "ledger": event.ledger.0, "closed_at": event.closed_at, "tx_hash": event.tx_hash.to_string(),
                "tx_index": event.tx_index, "op_index": event.op_index, "event_index": event.event_index,
                "contract": contract,
            })));
        }
        BITMAPS_PACK => {
            let (key, bitmap) = bytes.split_at_checked(4).unwrap_or((bytes, &[]));
            let ids = decode_bitmap(bitmap)?;
            fields.extend(object(json!({
                "key_prefix": hex(key), "events": ids.len(), "first_event": ids.min(), "last_event": ids.max(),
            })));
        }
        _ => {}
    }
    Ok(fields)
}
