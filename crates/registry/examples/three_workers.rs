//! Three workers of different weight, shut down by the registry: the clock first, then what counts its ticks, then what
//! keeps the count. Prints who ran and the report.
//!
//! ```text
//! cargo run -p icecore-registry --example three_workers
//! ```
#![allow(clippy::print_stdout)]

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use icecore_registry::{CancelToken, Registry, Sink, WorkerConfig};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Who {
    Clock,
    Counter,
    Keeper,
}

fn main() -> icecore_registry::Result<()> {
    let registry = Registry::new();
    let weight = |weight| WorkerConfig { weight, ..WorkerConfig::default() };
    let (ticks, sums) = (Arc::new(Sink::new()), Arc::new(Sink::new()));
    let kept = Arc::new(AtomicU64::new(0));

    let (sums_in, kept_in) = (Arc::clone(&sums), Arc::clone(&kept));
    let keeper = move |token: CancelToken| sums_in.run(&token, |sum| kept_in.store(sum, Ordering::Relaxed));
    let ticks_in = Arc::clone(&ticks);
    let counter = move |token: CancelToken| {
        let mut sum = 0;
        ticks_in.run(&token, |tick: u64| {
            sum += tick;
            // The keeper has a higher weight: it is still there.
            let _ended_too_early = sums.send(sum);
        });
    };
    let clock = move |token: CancelToken| {
        while !token.wait_timeout(Duration::from_millis(10)) {
            ticks.send(1).map_err(|_| "the counter ended before the clock")?;
        }
        Ok::<(), &str>(())
    };
    for outcome in [
        registry.start_thread(Who::Keeper, weight(20), keeper),
        registry.start_thread(Who::Counter, weight(10), counter),
        registry.start_thread(Who::Clock, weight(0), clock),
    ] {
        println!("start: {outcome:?}");
    }

    std::thread::sleep(Duration::from_millis(200));
    for worker in registry.snapshot() {
        println!("{:?}: {:?}, weight {}, for {:?}", worker.key, worker.state, worker.weight, worker.age);
    }

    let report = registry.shutdown_blocking();
    println!("{report}\n{} ticks kept", kept.load(Ordering::Relaxed));
    report.require_clean()
}
