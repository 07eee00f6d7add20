//! Measures a batcher against a bare bounded channel in front of the same sink.
//!
//! ```text
//! cargo run --release -p icecore-batcher --example throughput -- [items] [batch sizes] [submitters] [rounds]
//! cargo run --release -p icecore-batcher --example throughput -- 2000000 1,64,1024 1,8 5
//! ```

#![allow(clippy::print_stdout)]

use std::{
    env,
    error::Error,
    hint::black_box,
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use crossbeam_channel::{Receiver, bounded};
use icecore_batcher::{Batch, Batcher, TriggerMode};

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

const CAPACITY: usize = 64 * 1024;

fn main() -> Result<()> {
    let args: Vec<String> = env::args().skip(1).collect();
    let arg = |n: usize, default: &str| args.get(n).cloned().unwrap_or_else(|| default.to_owned());
    let items: u64 = arg(0, "1000000").parse()?;
    let list = |text: String| text.split(',').map(str::parse).collect::<std::result::Result<Vec<usize>, _>>();
    let (sizes, submitters) = (list(arg(1, "1,64,1024"))?, list(arg(2, "1,8"))?);
    let rounds: usize = arg(3, "3").parse()?;

    println!("{items} items, best of {rounds}; million items per second, and the ratio to the bare channel");
    println!(
        "{:>6} {:>10} {:>9} {:>16} {:>16}",
        "batch", "submitters", "channel", "detached", "with completion"
    );
    for &size in &sizes {
        for &submitters in &submitters {
            let best = |run: &dyn Fn() -> Result<Duration>| -> Result<f64> {
                let mut best = Duration::MAX;
                for _ in 0..rounds {
                    best = best.min(run()?);
                }
                Ok(items as f64 / best.as_secs_f64() / 1e6)
            };
            let channel = best(&|| channel(items, size, submitters))?;
            let detached = best(&|| batcher(items, size, submitters, false))?;
            let completion = best(&|| batcher(items, size, submitters, true))?;
            println!(
                "{size:>6} {submitters:>10} {channel:>9.2} {detached:>9.2} {:>6.2} {completion:>9.2} {:>6.2}",
                detached / channel,
                completion / channel
            );
        }
    }
    println!("\nmicroseconds from submit to the batch function, batch size 1, one submitter: p50 p99");
    for (label, pause) in [
        ("back to back", Duration::ZERO),
        ("every 50 us", Duration::from_micros(50)),
        ("every 1 ms", Duration::from_millis(1)),
    ] {
        let rounds = if pause >= Duration::from_millis(1) { 1000 } else { 20_000 };
        let (channel, batcher) = (channel_latency(rounds, pause)?, batcher_latency(rounds, pause)?);
        println!(
            "{label:>14}   channel {:>6.1} {:>6.1}   batcher {:>6.1} {:>6.1}",
            channel.0, channel.1, batcher.0, batcher.1
        );
    }
    Ok(())
}

fn sink(batch: impl Iterator<Item = u64>) {
    black_box(batch.fold(0u64, u64::wrapping_add));
}

/// Submits `items` from so many threads.
fn submit(items: u64, submitters: usize, one: impl Fn(u64) + Sync) {
    thread::scope(|scope| {
        for submitter in 0..submitters as u64 {
            let (share, one) = (items / submitters as u64, &one);
            scope.spawn(move || (submitter * share..(submitter + 1) * share).for_each(one));
        }
    });
}

fn channel(items: u64, size: usize, submitters: usize) -> Result<Duration> {
    let (sender, receiver) = bounded(CAPACITY);
    let began = Instant::now();
    let worker = thread::spawn(move || consume(&receiver, size));
    submit(items, submitters, |item| sender.send(item).unwrap_or_default());
    drop(sender);
    worker.join().map_err(|_| "the sink panicked")?;
    Ok(began.elapsed())
}

fn consume(receiver: &Receiver<u64>, size: usize) {
    let mut batch = Vec::with_capacity(size);
    for item in receiver {
        batch.push(item);
        if batch.len() == size {
            sink(batch.drain(..));
        }
    }
    if !batch.is_empty() {
        sink(batch.drain(..));
    }
}

fn batcher(items: u64, size: usize, submitters: usize, with_completion: bool) -> Result<Duration> {
    let began = Instant::now();
    let batcher =
        Batcher::builder().size(size).queue_capacity(CAPACITY).timeout(Duration::from_secs(3600)).start(
            |batch: Batch<u64>, _| {
                sink(batch.map(|(item, done)| {
                    done.finish(Ok(()));
                    item
                }));
            },
        )?;
    submit(items, submitters, |item| {
        if with_completion {
            drop(batcher.submit(item));
        } else {
            batcher.submit_detached(item).unwrap_or_default();
        }
    });
    batcher.close(Duration::from_secs(60))?;
    Ok(began.elapsed())
}

/// The median and the 99th percentile in microseconds.
fn percentiles(mut nanos: Vec<u64>) -> (f64, f64) {
    nanos.sort_unstable();
    let at = |percent: usize| nanos.get(nanos.len() * percent / 100).map_or(0.0, |&n| n as f64 / 1e3);
    (at(50), at(99))
}

/// Waits without sleeping, as a request that comes from elsewhere would.
fn pace(next: &mut Instant, pause: Duration) {
    if pause >= Duration::from_millis(1) {
        thread::sleep(pause);
    }
    while Instant::now() < *next {
        std::hint::spin_loop();
    }
    *next = Instant::now() + pause;
}

fn channel_latency(rounds: usize, pause: Duration) -> Result<(f64, f64)> {
    let (sender, receiver) = bounded::<Instant>(1024);
    let (back, done) = bounded(1024);
    let worker = thread::spawn(move || {
        for sent in receiver {
            let _ = back.send(sent.elapsed().as_nanos() as u64);
        }
    });
    let (mut nanos, mut next) = (Vec::with_capacity(rounds), Instant::now());
    for _ in 0..rounds {
        pace(&mut next, pause);
        sender.send(Instant::now())?;
        nanos.push(done.recv()?);
    }
    drop(sender);
    worker.join().map_err(|_| "the sink panicked")?;
    Ok(percentiles(nanos))
}

fn batcher_latency(rounds: usize, pause: Duration) -> Result<(f64, f64)> {
    let nanos = Arc::new(Mutex::new(Vec::with_capacity(rounds)));
    let noted = Arc::clone(&nanos);
    let batcher = Batcher::builder().size(1).trigger_mode(TriggerMode::Drain).start(
        move |batch: Batch<Instant>, _| {
            let mut nanos = noted.lock().unwrap_or_else(PoisonError::into_inner);
            for (sent, done) in batch {
                nanos.push(sent.elapsed().as_nanos() as u64);
                done.finish(Ok(()));
            }
        },
    )?;
    let mut next = Instant::now();
    for _ in 0..rounds {
        pace(&mut next, pause);
        batcher.submit(Instant::now())?.wait()?;
    }
    batcher.close(Duration::from_secs(60))?;
    let nanos = std::mem::take(&mut *nanos.lock().unwrap_or_else(PoisonError::into_inner));
    Ok(percentiles(nanos))
}
