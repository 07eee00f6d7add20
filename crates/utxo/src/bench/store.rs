//! Through the store: several threads, each with a window of operations that it has begun.

use std::{
    collections::VecDeque,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use icecore_batcher::Completion;

use super::{
    Plan, Side,
    script::{DUE, HEIGHT, Op, Script, spending, txid},
};
use crate::{
    Clients, CreateOptions, Error, Queue, QueueOptions, Result, SpendFlags, UtxoStore,
    answer::{refused, result},
    engine::{Change, Changed},
};

enum Begun {
    Unit(crate::Answer<()>),
    Change(Completion<Changed, Error>),
}

fn begin(store: &UtxoStore, script: &Script, op: Op) -> Result<Begun> {
    let change = |change| store.queues.locked.submit(change).map(Begun::Change).map_err(refused);
    match op {
        Op::Create(n) => {
            store.create_queued(script.tx(n, false), HEIGHT, CreateOptions::default()).map(Begun::Unit)
        }
        Op::Spend(n, vout) => {
            store.spend_queued(spending(n, vout), HEIGHT, SpendFlags::default()).map(Begun::Unit)
        }
        Op::Lock(n) => change(Change::SetLocked { txid: txid(n), locked: true }),
        Op::Delete(n) => change(Change::Delete { txid: txid(n), due_at: Some(DUE) }),
    }
}

fn end(begun: Begun) -> Result<()> {
    match begun {
        Begun::Unit(answer) => answer.wait(),
        Begun::Change(answer) => result(answer.wait()).map(|_| ()),
    }
}

pub(super) fn run(dir: &Path, plan: &Plan, script: &Script) -> Result<Side> {
    let queue = QueueOptions { size: plan.batch, capacity: 16 * plan.batch, ..QueueOptions::default() };
    let options = Queue::ALL.into_iter().fold(script.options(), |options, name| options.queue(name, queue));
    let clients = Clients::new();
    let store = UtxoStore::open(&clients, dir, options)?;
    for (numbers, due) in [(&script.alive, false), (&script.due, true)] {
        for numbers in numbers.chunks(plan.batch) {
            let txs = numbers.iter().map(|n| script.tx(*n, due)).collect();
            store
                .create_many(txs, HEIGHT, &Script::create_options(due))
                .into_iter()
                .collect::<Result<()>>()?;
        }
    }
    let started = Instant::now();
    let until = plan.limit.map(|limit| started + limit);
    let work = |first: usize| -> Result<[Vec<Duration>; 4]> {
        let mut latencies: [Vec<Duration>; 4] = Default::default();
        let mut window = VecDeque::with_capacity(plan.window);
        let mut see = |(kind, since, begun): (usize, Instant, Begun)| -> Result<()> {
            end(begun)?;
            latencies[kind].push(since.elapsed());
            Ok(())
        };
        for op in script.ops.iter().skip(first).step_by(plan.threads) {
            if until.is_some_and(|until| Instant::now() >= until) {
                break;
            }
            if window.len() == plan.window
                && let Some(oldest) = window.pop_front()
            {
                see(oldest)?;
            }
            window.push_back((op.kind(), Instant::now(), begin(&store, script, *op)?));
        }
        window.into_iter().try_for_each(see)?;
        Ok(latencies)
    };
    let work = &work;
    let latencies = thread::scope(|scope| {
        let threads: Vec<_> = (0..plan.threads).map(|first| scope.spawn(move || work(first))).collect();
        let lost = || Err(Error::Unknown { what: "a thread of the benchmark was lost".into() });
        threads.into_iter().map(|thread| thread.join().unwrap_or_else(|_| lost())).collect::<Result<Vec<_>>>()
    })?;
    let took = started.elapsed();
    store.close(Duration::from_secs(60)).map_err(|error| Error::Storage { what: error.to_string() })?;
    let mut all: [Vec<Duration>; 4] = Default::default();
    for kinds in latencies {
        all.iter_mut().zip(kinds).for_each(|(all, some)| all.extend(some));
    }
    Ok(Side::new(took, all))
}
