//! A daemon under load that is killed with signal 9 at random moments, with reads running beside it: no ledger that was
//! acknowledged is ever lost, and no answer is ever wrong. `ICECORE_STORM_ROUNDS` says how often it is killed.
#![allow(clippy::unwrap_used)]

mod common;

use std::{
    sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst},
    thread,
    time::{Duration, Instant},
};

use common::{Daemon, Data, audit, icecore, stderr, truth};
use icecore_ledger::Decoder;
use icecore_stellar::StellarDecoder;
use icecore_testkit::SplitMix64;

/// More than any storm gets through.
const ENOUGH: u32 = 200_000;
const RETENTION: &str = "200";

/// Reads ledgers that were acknowledged until told to stop; counts them.
fn read(data: &Data, acknowledged: &AtomicU32, stop: &AtomicBool, seed: u64) -> u32 {
    let mut rng = SplitMix64::new(seed);
    let mut answers = 0;
    while !stop.load(SeqCst) {
        let latest = acknowledged.load(SeqCst);
        if latest < 2 {
            thread::yield_now();
            continue;
        }
        // New ones are asked for most: their chunks are on the move.
        let back = rng.below(60) as u32;
        let seq = latest.saturating_sub(back).max(2);
        let expected = truth(seq, seq).remove(&seq).unwrap();
        if rng.below(2) == 0 {
            let found = data.ledger(seq);
            let len = found.as_ref().map(Vec::len);
            assert!(found.as_deref() == Some(&expected[..]), "ledger {seq} of {latest}: {len:?}");
        } else {
            let hash = StellarDecoder.decode(&expected).unwrap().transactions[0].hash.to_string();
            let output = icecore(&["get", "tx", &hash, "--json", "--data", &data.text()]);
            assert!(output.status.success(), "ledger {seq} of {latest}: {}", stderr(&output));
            let found: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
            assert_eq!((&found["ledger"], &found["hash"]), (&seq.into(), &hash.into()));
        }
        answers += 1;
    }
    answers
}

#[test]
fn kill_storm() {
    let rounds: u32 = std::env::var("ICECORE_STORM_ROUNDS").map_or(8, |rounds| rounds.parse().unwrap());
    let data = Data::new();
    let mut rng = SplitMix64::new(u64::from(rounds));
    let acknowledged = AtomicU32::new(0);
    let more = ["--grace-seconds", "1", "--retention-chunks", RETENTION, "--retry-millis", "10"];
    let (mut answers, begun) = (0, Instant::now());
    for round in 0..rounds {
        let latest = acknowledged.load(SeqCst);
        // The node sends again what it had sent, and the archive is a little behind.
        let from = latest.saturating_sub(7).max(2);
        let mut daemon = Daemon::start(&data, latest.max(30), Some((from, ENOUGH, 2)), &more);
        let first = daemon.until("a start", |status| status["latest"].as_u64() >= Some(u64::from(latest)));
        // Nothing that was acknowledged is lost.
        assert!(first["latest"].as_u64().unwrap() >= u64::from(latest), "round {round}: {first}");
        let stop = AtomicBool::new(false);
        answers += thread::scope(|scope| {
            let reader = scope.spawn(|| read(&data, &acknowledged, &stop, u64::from(round)));
            let until = Instant::now() + Duration::from_millis(rng.below(700));
            while Instant::now() < until {
                if let Some(latest) = daemon.status().and_then(|status| status["latest"].as_u64()) {
                    acknowledged.fetch_max(latest as u32, SeqCst);
                }
            }
            daemon.kill();
            stop.store(true, SeqCst);
            reader.join().unwrap()
        });
    }
    let latest = acknowledged.load(SeqCst);
    let mut daemon = Daemon::start(&data, latest, None, &more);
    daemon.until("the last start", |status| {
        status["latest"].as_u64() >= Some(u64::from(latest)) && status["is_settled"] == true
    });
    assert_eq!(daemon.stop(), 0);
    let (code, said) = audit(&data.path(), &["--deep", "--retention-chunks", RETENTION]);
    assert_eq!(code, 0, "{said}");
    println!(
        "{rounds} kills, {latest} ledgers, {answers} answers checked, {:.0} s",
        begun.elapsed().as_secs_f64()
    );
}
