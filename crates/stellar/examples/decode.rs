//! Decodes framed ledgers (not packed) and says what is in them, and how fast that was found out.
//!
//! ```text
//! zstd -d ledgers.xdr.zst && cargo run --release -p icecore-stellar --example decode ledgers.xdr [ROUNDS]
//! ```
#![allow(clippy::print_stdout)]

use std::{error::Error, hint::black_box, time::Instant};

use icecore_ledger::{Decoder, LedgerRange, Source};
use icecore_stellar::{NetworkId, PASSPHRASES, StellarDecoder, source};

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let path = args.next().ok_or("usage: decode SOURCE [ROUNDS]")?;
    let rounds: usize = args.next().map_or(Ok(1), |rounds| rounds.parse())?;

    let opened = source::open(&path)?;
    let ledgers = read_all(&*opened.source, opened.source.range()?)?;
    let known = PASSPHRASES.map(NetworkId::of);
    for raw in &ledgers {
        let ledger = StellarDecoder.decode(raw)?;
        let network = NetworkId::detect(raw, &known)?
            .and_then(|id| PASSPHRASES.into_iter().find(|p| NetworkId::of(p) == id));
        let (transactions, events) = (ledger.transactions.len(), ledger.events.len());
        println!("ledger {}: {transactions} transactions, {events} events, {network:?}", ledger.seq);
    }

    let bytes: usize = ledgers.iter().map(Vec::len).sum();
    let rate = |name: &str, work: &dyn Fn(&[u8]) -> u64| {
        let start = Instant::now();
        for raw in (0..rounds).flat_map(|_| &ledgers) {
            black_box(work(raw));
        }
        let megabytes = (bytes * rounds) as f64 / 1e6;
        println!("{name}: {:.0} MB/s", megabytes / start.elapsed().as_secs_f64());
    };
    rate("decode", &|raw| StellarDecoder.decode(raw).map_or(0, |ledger| ledger.events.len() as u64));
    rate("sum of all words", &|raw| {
        raw.as_chunks().0.iter().map(|word| u64::from_ne_bytes(*word)).fold(0, u64::wrapping_add)
    });
    Ok(())
}

fn read_all(source: &dyn Source, ledgers: LedgerRange) -> icecore_ledger::Result<Vec<Vec<u8>>> {
    let (mut stream, mut all) = (source.stream(ledgers)?, Vec::new());
    while let Some(ledger) = stream.next_ledger()? {
        all.push(ledger.bytes.to_vec());
    }
    Ok(all)
}
