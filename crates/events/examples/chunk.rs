//! Writes a chunk of made-up transfers, says what it costs, and pages through the transfers to one account.
//!
//! ```text
//! cargo run --release -p icecore-events --example chunk -- [ledgers] [events per ledger] [accounts]
//! ```
#![allow(clippy::print_stdout)]

use std::{env, error::Error, sync::Arc, time::Instant};

use icecore_diskio::{Disk, RealDisk};
use icecore_events::{ChunkEvents, ChunkEventsWriter, EventPaths, Filter, Options, Order, Query};
use icecore_ledger::{ChunkId, Decoded, Decoder, Event, EventFields, LedgerSeq, TxHash};
use icecore_testkit::SplitMix64;

/// A chain of transfers: contract (1 byte), sender, receiver (16 bytes each), amount (8 bytes).
struct Transfers;

impl Decoder for Transfers {
    fn decode<'a>(&self, _: &'a [u8]) -> icecore_ledger::Result<Decoded<'a>> {
        Err(malformed("ledgers are made up here, not decoded"))
    }

    fn event_fields<'a>(&self, body: &'a [u8]) -> icecore_ledger::Result<EventFields<'a>> {
        let short = || malformed("a transfer has 41 bytes");
        let (contract, rest) = body.split_at_checked(1).ok_or_else(short)?;
        let (from, rest) = rest.split_at_checked(16).ok_or_else(short)?;
        let (to, _amount) = rest.split_at_checked(16).ok_or_else(short)?;
        Ok(EventFields { contract: Some(contract), topics: [Some(b"transfer"), Some(from), Some(to), None] })
    }
}

fn malformed(why: &str) -> icecore_ledger::Error {
    icecore_ledger::Error::Malformed { what: "transfer", offset: 0, why: why.into() }
}

fn account(number: u64) -> [u8; 16] {
    SplitMix64::new(number).key()
}

fn body(rng: &mut SplitMix64, accounts: u64) -> Vec<u8> {
    let [from, to] = [(); 2].map(|()| account(rng.below(accounts)));
    let amount = rng.next_u64().to_be_bytes();
    [&[rng.below(20) as u8][..], &from, &to, &amount].concat()
}

fn main() -> Result<(), Box<dyn Error>> {
    let number = |n, default| env::args().nth(n).map_or(Ok(default), |text| text.parse());
    let (ledgers, per_ledger, accounts) = (number(1, 1000)? as u32, number(2, 200)?, number(3, 50_000)?);
    let dir = tempfile::tempdir()?;
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let paths = EventPaths::new(dir.path(), ChunkId(0));
    let mut rng = SplitMix64::new(1);

    let begin = Instant::now();
    let mut writer = ChunkEventsWriter::create(&disk, &paths, LedgerSeq(2), Options::new().concurrency(2))?;
    for seq in (2..).take(ledgers as usize) {
        let bodies: Vec<_> = (0..per_ledger).map(|_| body(&mut rng, accounts)).collect();
        let events = (1..).zip(&bodies).map(|(tx_index, body)| {
            let (tx_hash, fields) = (TxHash([seq as u8; 32]), Transfers.event_fields(body)?);
            Ok(Event { tx_hash, tx_index, op_index: 0, event_index: 0, body, fields })
        });
        let events: Vec<_> = events.collect::<icecore_ledger::Result<_>>()?;
        writer.push_ledger(LedgerSeq(seq), 1_700_000_000 + 5 * i64::from(seq), &events)?;
    }
    let (progress, pushed) = (writer.progress(), begin.elapsed());
    let summary = writer.finish()?;
    println!("{} events with {} terms in {} ledgers", summary.events, progress.terms, summary.ledgers);
    println!("pushed in {pushed:?}, finished in {:?}", begin.elapsed() - pushed);
    println!("terms in memory: {} bytes, in files: {:?}", progress.terms_heap_bytes, summary.index);
    println!("events file: {} bytes", summary.events_bytes);

    let chunk = ChunkEvents::open(&disk, &paths);
    let filters = vec![Filter::any().topic(2, account(7)), Filter::any().contract([3]).topic(1, account(7))];
    let mut query = Query { filters, order: Order::Descending, limit: 5, ..Query::default() };
    let begin = Instant::now();
    let mut pages = 0;
    loop {
        let page = chunk.query(&query, &Transfers)?;
        let Some(last) = page.last() else { break };
        if pages == 0 {
            page.iter().for_each(|event| println!("{:?}", event.position()));
        }
        query.after = Some(last.position());
        pages += 1;
    }
    println!("{pages} pages in {:?}", begin.elapsed());
    let begin = Instant::now();
    chunk.verify()?;
    println!("verified in {:?}", begin.elapsed());
    Ok(())
}
