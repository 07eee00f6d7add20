//! `icecore get ledger | tx | events`

use std::fmt::Write;

use base64::{Engine, prelude::BASE64_STANDARD};
use icecore_cold::Manifest;
use icecore_events::{EventRecord, Filter, Order, Position, Query};
use icecore_ledger::{Decoder, LedgerRange, LedgerSeq, MAX_TOPICS};
use icecore_stellar::{
    NetworkId, PASSPHRASES, StellarDecoder, XdrKind, find_transaction,
    text::{format_contract, parse_contract, parse_topic},
    to_json,
};
use serde_json::{Map, Value, json};

use crate::{
    args::{GetEvents, GetLedger, GetTx},
    fail::{Fail, Outcome},
    history::{self, Found, Place},
    output::{Output, human_bytes, human_time},
};

/// An answer under construction: fields in order, printed as they come for people and as one object for programs.
struct Answer(Map<String, Value>);

impl Answer {
    fn new() -> Self {
        Answer(Map::new())
    }

    fn field(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.0.insert(name.to_owned(), value.into());
        self
    }

    /// XDR in base64, and decoded under `NAME_json` where that was asked for.
    fn xdr(mut self, name: &str, kind: XdrKind, xdr: &[u8], decode: bool) -> Outcome<Self> {
        self = self.field(name, BASE64_STANDARD.encode(xdr));
        if decode {
            self = self.field(&format!("{name}_json"), to_json(kind, xdr)?);
        }
        Ok(self)
    }

    fn print(self, out: &Output) -> Outcome {
        if out.json {
            return Ok(out.value(&self.0)?);
        }
        let width = self.0.keys().map(String::len).max().unwrap_or(0);
        for (name, value) in &self.0 {
            let text = match value {
                Value::Null => "–".to_owned(),
                Value::String(text) => text.clone(),
                Value::Number(seconds) if name == "closed_at" => {
                    format!("{seconds} ({})", human_time(seconds.as_i64().unwrap_or_default()))
                }
                Value::Object(_) | Value::Array(_) => format!("{value:#}"),
                other => other.to_string(),
            };
            out.line(format!("{}  {text}", out.bold(&format!("{name:<width$}"))))?;
        }
        Ok(())
    }
}

pub(crate) fn ledger(args: &GetLedger, out: &Output) -> Outcome {
    let (history, found) = history::read(&args.answer.data, |history| history.ledger(args.seq))?;
    let not_found = || Fail::NotFound(format!("ledger {} is not there: {}", args.seq, history.reach()));
    let Found { raw, place } = found.ok_or_else(not_found)?;
    if args.raw {
        return Ok(out.bytes(&raw)?);
    }
    let decoded = StellarDecoder.decode(&raw)?;
    let answer = Answer::new()
        .field("ledger", decoded.seq.0)
        .field("from", place.name())
        .field("closed_at", decoded.closed_at)
        .field("transactions", decoded.transactions.len())
        .field("events", decoded.events.len())
        .field("bytes", raw.len());
    // A ledger is easily a megabyte: people get it when they ask for it.
    match (out.json, args.answer.decode) {
        (true, decode) => answer.xdr("xdr", XdrKind::Ledger, &raw, decode)?.print(out),
        (false, true) => answer.field("xdr_json", to_json(XdrKind::Ledger, &raw)?).print(out),
        (false, false) => answer.field("size", human_bytes(raw.len() as u64)).print(out),
    }
}

pub(crate) fn transaction(args: &GetTx, out: &Output) -> Outcome {
    let (history, found) = history::read(&args.answer.data, |history| history.transaction(&args.hash))?;
    let not_found = || Fail::NotFound(format!("transaction {} is not there: {}", args.hash, history.reach()));
    let found = found.ok_or_else(not_found)?;
    let network = network(args, history.manifest(), &found.raw)?;
    let tx = find_transaction(&found.raw, &args.hash, &network)?.ok_or_else(not_found)?;
    let mut answer = Answer::new()
        .field("hash", tx.hash.to_string())
        .field("ledger", tx.seq.0)
        .field("from", found.place.name())
        .field("closed_at", tx.closed_at)
        .field("index", tx.index);
    if let Some(inner) = tx.inner_hash {
        answer = answer.field("inner_hash", inner.to_string());
    }
    let decode = args.answer.decode;
    answer = match tx.envelope {
        Some(xdr) => answer.xdr("envelope", XdrKind::Envelope, xdr, decode)?,
        None => answer.field("envelope", Value::Null),
    };
    answer = answer.xdr("result", XdrKind::Result, tx.result, decode)?;
    answer.xdr("meta", XdrKind::Meta, tx.meta, decode)?.print(out)?;
    if tx.envelope.is_none() {
        crate::warn(
            "no envelope of the ledger has this hash on any known network: name the network with --network",
        );
    }
    Ok(())
}

/// The network that ties envelopes to hashes: as said, as stored, or the known one that fits this ledger.
fn network(args: &GetTx, manifest: &Manifest, raw: &[u8]) -> Outcome<NetworkId> {
    if let Some(passphrase) = args.network.as_ref().or(manifest.network.as_ref()) {
        return Ok(NetworkId::of(passphrase));
    }
    let known = PASSPHRASES.map(NetworkId::of);
    Ok(NetworkId::detect(raw, &known)?.unwrap_or(known[0]))
}

pub(crate) fn events(args: &GetEvents, out: &Output) -> Outcome {
    let query = query(args)?;
    let (history, found) = history::read(&args.answer.data, |history| history.events(&query))?;
    for (event, place) in &found {
        print_event(event, *place, args.answer.decode, out)?;
    }
    if found.is_empty() {
        return Err(Fail::NotFound(format!("no such event is there: {}", history.reach())));
    }
    if found.len() == query.limit
        && let Some((last, _)) = found.last()
    {
        crate::warn(&format!("there may be more: go on with --cursor {}", cursor(last)));
    }
    Ok(())
}

fn query(args: &GetEvents) -> Outcome<Query> {
    let first = LedgerSeq(0);
    let ledgers = LedgerRange::new(args.from.unwrap_or(first), args.to.unwrap_or(LedgerSeq(u32::MAX)))?;
    let topics = [&args.topic0, &args.topic1, &args.topic2, &args.topic3];
    let mut filter = Filter::any();
    if let Some(contract) = &args.contract {
        filter = filter.contract(parse_contract(contract)?);
    }
    for (index, topic) in topics.into_iter().enumerate() {
        if let Some(topic) = topic {
            filter = filter.topic(index, parse_topic(topic)?);
        }
    }
    let mut filters = Vec::new();
    if filter != Filter::any() {
        filters.push(filter);
    }
    for text in &args.or {
        filters.push(or_filter(text)?);
    }
    Ok(Query {
        filters,
        ledgers: Some(ledgers),
        order: if args.desc { Order::Descending } else { Order::Ascending },
        after: args.cursor.as_deref().map(parse_cursor).transpose()?,
        limit: usize::try_from(args.limit).unwrap_or(usize::MAX),
    })
}

/// `contract=…,topic0=…`
fn or_filter(text: &str) -> Outcome<Filter> {
    let mut filter = Filter::any();
    for part in text.split(',') {
        let topic_number =
            |name: &str| name.strip_prefix("topic")?.parse().ok().filter(|&n: &usize| n < MAX_TOPICS);
        filter = match part.split_once('=') {
            Some(("contract", value)) => filter.contract(parse_contract(value)?),
            Some((name, value)) if topic_number(name).is_some() => {
                filter.topic(topic_number(name).unwrap_or_default(), parse_topic(value)?)
            }
            _ => {
                return Err(Fail::Usage(format!(
                    "--or {part:?}: contract=… or topic0=… to topic3=… is expected"
                )));
            }
        };
    }
    Ok(filter)
}

fn cursor(event: &EventRecord) -> String {
    format!("{}-{}-{}-{}", event.ledger, event.tx_index, event.op_index, event.event_index)
}

fn parse_cursor(text: &str) -> Outcome<Position> {
    let numbers: Option<Vec<u32>> = text.split('-').map(|part| part.parse().ok()).collect();
    match numbers.as_deref() {
        Some(&[ledger, tx_index, op_index, event_index]) => {
            Ok(Position { ledger: LedgerSeq(ledger), tx_index, op_index, event_index })
        }
        _ => Err(Fail::Usage(format!(
            "--cursor {text:?}: LEDGER-TX-OP-EVENT is expected, as an earlier answer printed it"
        ))),
    }
}

fn print_event(event: &EventRecord, place: Place, decode: bool, out: &Output) -> Outcome {
    let fields = StellarDecoder.event_fields(&event.body)?;
    let contract = fields.contract.and_then(|id| <&[u8; 32]>::try_from(id).ok()).map(format_contract);
    let topics: Vec<String> =
        fields.topics.into_iter().flatten().map(|xdr| BASE64_STANDARD.encode(xdr)).collect();
    if out.json || decode {
        let answer = Answer::new()
            .field("ledger", event.ledger.0)
            .field("from", place.name())
            .field("closed_at", event.closed_at)
            .field("tx_hash", event.tx_hash.to_string())
            .field("tx_index", event.tx_index)
            .field("op_index", event.op_index)
            .field("event_index", event.event_index)
            .field("cursor", cursor(event))
            .field("contract", contract)
            .field("topics", json!(topics));
        return answer.xdr("event", XdrKind::Event, &event.body, decode)?.print(out);
    }
    let contract = contract.unwrap_or_else(|| "–".to_owned());
    let mut line = format!("{:>20}  {:<4}  {contract}", cursor(event), place.name());
    for topic in topics {
        // Writing to a string cannot fail.
        let _ = write!(line, "  {topic}");
    }
    Ok(out.line(line)?)
}
