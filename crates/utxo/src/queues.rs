//! The queues of a store and how they feed each other.
//!
//! ```text
//! store     ──▶ small transactions as one batch; each large one as a tracked child
//! spend     ──▶ records ──wait──▶ increment ──▶ masters
//!                       ──wait──▶ set_dah   ──▶ extra records
//! locked    ──▶ whole transactions
//! get, outpoint             reads
//! ```
//!
//! What a spend leaves to be done stands in its batch as well: it is done through the queues at once, and when the
//! database is next opened if the process dies before.

use std::sync::Arc;

use icecore_batcher::{
    Batch, BatchCtx, Batcher, Builder, Completer, Dispatch, EdgeHandle, EnqueueAndWait, Group, GroupBuilder,
    Inlet, Member, NodeSpec, Rank, Reason,
};

use crate::{
    Error, Outpoint, Queue, QueueOptions, Result, Slot, TxId,
    answer::{refused, result},
    engine::{Change, Changed, Create, Engine, Found, Read, Spending, split_owed},
    mutants,
    options::Options,
};

type Edge<T, R> = EdgeHandle<T, R, Error, EnqueueAndWait>;

/// The ways into the queues, and the group that closes them.
pub(crate) struct Queues {
    pub(crate) group: Group,
    pub(crate) store: Member<Create, (), Error>,
    pub(crate) spend: Member<Spending, (), Error>,
    pub(crate) locked: Member<Change, Changed, Error>,
    pub(crate) get: Member<Read, Found, Error>,
    pub(crate) outpoint: Member<Outpoint, Slot, Error>,
}

impl Queues {
    pub(crate) fn start(engine: Engine, options: &Options) -> Result<Queues> {
        let engine = Arc::new(engine);
        let of = || Arc::clone(&engine);
        let spec = |queue: Queue, rank| NodeSpec::new(queue.name()).rank(rank);
        let mut group = GroupBuilder::new("utxo");

        let e = of();
        let store = group.node(
            spec(Queue::Store, Rank::Durable),
            builder(options, Queue::Store),
            move |batch, ctx| create(&e, batch, ctx),
        );
        let e = of();
        let increment = group.node(
            spec(Queue::Increment, Rank::Metadata),
            builder(options, Queue::Increment),
            move |batch, _| answer(batch, |items: &[(TxId, u32)]| e.increment(items)),
        );
        let e = of();
        let set_dah = group.node(
            spec(Queue::SetDah, Rank::Metadata),
            builder(options, Queue::SetDah),
            move |batch, _| answer(batch, |items: &[TxId]| e.set_dah(items)),
        );
        let to_increment = group.edge(Queue::Spend.name(), &increment, EnqueueAndWait);
        let to_set_dah = group.edge(Queue::Spend.name(), &set_dah, EnqueueAndWait);
        let e = of();
        let spend_node = group.node(
            spec(Queue::Spend, Rank::Durable),
            builder(options, Queue::Spend),
            move |batch, ctx| spend(&e, batch, ctx, &to_increment, &to_set_dah),
        );
        let e = of();
        let locked = group.node(
            spec(Queue::Locked, Rank::Durable),
            builder(options, Queue::Locked),
            move |batch, _| answer(batch, |items: &[Change]| e.change(items)),
        );
        let e = of();
        let get = group.node(spec(Queue::Get, Rank::Read), builder(options, Queue::Get), move |batch, _| {
            answer(batch, |items: &[Read]| e.read(items))
        });
        let e = of();
        let outpoint = group.node(
            spec(Queue::Outpoint, Rank::Read),
            builder(options, Queue::Outpoint),
            move |batch, _| answer(batch, |items: &[Outpoint]| e.outputs(items)),
        );
        crate::close::hooks(&mut group, engine);
        let group = group.build().map_err(|error| Error::Storage { what: error.to_string() })?;
        let lost = |_| Error::Storage { what: "a queue is not of its group".into() };
        Ok(Queues {
            store: group.member(&store).map_err(lost)?,
            spend: group.member(&spend_node).map_err(lost)?,
            locked: group.member(&locked).map_err(lost)?,
            get: group.member(&get).map_err(lost)?,
            outpoint: group.member(&outpoint).map_err(lost)?,
            group,
        })
    }
}

fn builder<T: Send + 'static, R: Send + 'static>(options: &Options, queue: Queue) -> Builder<T, R, Error> {
    let QueueOptions { size, timeout, mode, in_flight, capacity } = options.queues[queue as usize];
    let builder = Batcher::builder()
        .size(size)
        .timeout(timeout)
        .trigger_mode(mode)
        .queue_capacity(capacity)
        .dispatch(Dispatch::Background { max_in_flight: in_flight });
    match &options.metrics {
        Some(metrics) => builder.metrics(metrics.clone()),
        None => builder,
    }
}

/// Answers every item of a batch by what one call says of all.
fn answer<T, R>(batch: Batch<T, R, Error>, run: impl FnOnce(&[T]) -> Vec<Result<R>>)
where
    T: Send + 'static,
    R: Send + 'static,
{
    let (items, completers) = batch.split();
    finish(completers, run(&items));
}

fn finish<R: Send + 'static>(completers: Vec<Completer<R, Error>>, results: Vec<Result<R>>) {
    completers.into_iter().zip(results).for_each(|(completer, result)| completer.finish(result));
}

fn create(engine: &Arc<Engine>, batch: Batch<Create, (), Error>, ctx: &BatchCtx) {
    if batch.reason() == Reason::Shutdown && mutants::on("shutdown_batch_dropped") {
        return;
    }
    let (large, small): (Vec<_>, Vec<_>) = batch.partition(|(item, _)| engine.is_large(item));
    let (items, completers): (Vec<_>, Vec<_>) = small.into_iter().unzip();
    if mutants::on("answered_before_stored") {
        finish(completers, items.iter().map(|_| Ok(())).collect());
        std::thread::sleep(std::time::Duration::from_millis(5));
        engine.create_small(&items);
        return;
    }
    finish(completers, engine.create_small(&items));
    for (item, completer) in large {
        let engine = Arc::clone(engine);
        if mutants::on("untracked_create") {
            completer.finish(Ok(()));
            std::thread::spawn(move || engine.create_large(&item));
        } else {
            ctx.spawn(async move { completer.finish(engine.create_large(&item)) });
        }
    }
}

fn spend(
    engine: &Engine,
    batch: Batch<Spending, (), Error>,
    ctx: &BatchCtx,
    increment: &Edge<(TxId, u32), bool>,
    set_dah: &Edge<TxId, ()>,
) {
    let (items, completers) = batch.split();
    let outcome = engine.spend(&items);
    let (counts, mut mirrors) = split_owed(&outcome.owed);
    if !mutants::on("follow_ups_not_sent") {
        let moved = send(ctx, increment, counts.clone());
        mirrors.extend(
            counts.iter().zip(moved).filter(|(_, moved)| *moved == Some(true)).map(|((txid, _), _)| *txid),
        );
        send(ctx, set_dah, mirrors.into_iter().collect());
    }
    finish(completers, outcome.results);
}

/// Hands items on and waits for them. What fails stands in the database and is done when that is next opened.
fn send<T, R>(ctx: &BatchCtx, edge: &Edge<T, R>, items: Vec<T>) -> Vec<Option<R>>
where
    T: Send + 'static,
    R: Send + 'static,
{
    if items.is_empty() {
        return Vec::new();
    }
    let late = |error: Error| tracing::warn!(%error, "left to be done when the database is next opened");
    let queue: &Inlet<T, R, Error> = match ctx.downstream(edge) {
        Ok(queue) => queue,
        Err(error) => {
            late(Error::Storage { what: error.to_string() });
            return Vec::new();
        }
    };
    match queue.submit_many(items) {
        Ok(answers) => answers.wait().into_iter().map(|outcome| result(outcome).map_err(late).ok()).collect(),
        Err(refusal) => {
            late(refused(refusal));
            Vec::new()
        }
    }
}
