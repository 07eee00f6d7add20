//! Harnesses for fuzzing: functions that panic when a property breaks, whatever bytes they are given.
#![allow(clippy::panic, clippy::unwrap_used, clippy::expect_used)]

mod world;

use std::{
    future::poll_fn,
    panic::resume_unwind,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    task::{Context, Poll, Waker},
    thread::{self, JoinHandle},
    time::Duration,
};

use crate::{
    Batch, BatchCtx, Batcher, Builder, Completer, Dispatch, EdgeHandle, Enqueue, EnqueueAndWait, Flush,
    Group, GroupBuilder, GroupError, GroupReport, Inlet, Member, Node, NodeSpec, Outlet, Rank, SharedSlots,
    SubmitError, TriggerMode,
};
use world::{Expect, Item, LIMIT, Promise, World, patiently};

/// Numbers from a fuzzer's bytes; zeros when they are used up.
struct Bytes<'a>(std::slice::Iter<'a, u8>);

impl Bytes<'_> {
    fn byte(&mut self) -> u8 {
        self.0.next().copied().unwrap_or(0)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::from(self.byte()) % bound
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == n - 1
    }

    fn is_empty(&self) -> bool {
        self.0.len() == 0
    }
}

/// An edge as a producer's function captures it.
#[derive(Clone)]
enum Edge {
    Enqueue(usize, EdgeHandle<Item, usize, usize, Enqueue>),
    Wait(usize, EdgeHandle<Item, usize, usize, EnqueueAndWait>),
}

/// An edge as a tracked child takes it along.
enum Way {
    Enqueue(usize, Outlet<Item, usize, usize>),
    Wait(usize, Inlet<Item, usize, usize>),
}

/// What a batch function knows.
#[derive(Clone)]
struct Function {
    world: Arc<World>,
    node: usize,
    edges: Vec<Edge>,
    /// Somebody else's edges: they must be refused.
    foreign: Vec<Edge>,
}

/// Builds a group from the bytes, drives it from several threads while batch functions fail, panic, forget, leave work to
/// children and feed each other, closes it one way or another, and compares with what was promised: every accepted item is
/// executed once, every completion resolves to what its function decided, what is refused comes back, reports add up, hooks
/// run once, nothing hangs, and no thread is left.
pub fn group_of_random_shape(data: &[u8]) {
    let mut bytes = Bytes(data.iter());
    let world = Arc::new(World::new(1 + bytes.below(5)));
    let hooks = Arc::new(AtomicUsize::new(0));
    let hook_count = bytes.below(3);
    let Some((group, nodes)) = build(&mut bytes, &world, &hooks, hook_count) else { return };
    let members: Vec<_> = nodes.iter().map(|node| group.member(node).unwrap()).collect();
    let (promises, flushes, blocked) = drive(&mut bytes, &world, &members);
    let report = close(&mut bytes, &world, group, &members);
    assert!(
        report.is_none() || flushes.iter().all(Flush::is_reached),
        "a barrier is not reached by the close"
    );
    for thread in blocked {
        patiently("a blocked submitter is never told", || thread.is_finished());
        thread.join().unwrap();
    }
    promises.into_iter().for_each(|promise| promise.check(&world));
    // Who dropped the group has no other way to know.
    patiently("accepted items are not executed", || world.is_settled());
    patiently("hooks do not run", || hooks.load(SeqCst) == hook_count);
    patiently("threads are left", || world::threads() == 0);
    // The list of threads may miss one that is about to tell.
    patiently("a barrier is not reached by the close", || flushes.iter().all(Flush::is_reached));
    world.check(report.as_deref());
    assert!(report.is_none_or(|report| report.hooks.len() == hook_count));
}

type Built = (Group, Vec<Node<Item, usize, usize>>);

fn build(
    bytes: &mut Bytes<'_>,
    world: &Arc<World>,
    hooks: &Arc<AtomicUsize>,
    hook_count: usize,
) -> Option<Built> {
    let mut group = GroupBuilder::new("fuzz");
    let slots = SharedSlots::new(1 + bytes.below(3));
    let mut nodes: Vec<Node<Item, usize, usize>> = Vec::new();
    let mut edges: Vec<Vec<Edge>> = Vec::new();
    let mut sharing = Vec::new();
    // Nodes feed only nodes before them, so that there are no cycles.
    for index in 0..world.nodes() {
        let name = format!("fuzz-{index}");
        let edge = |(number, node)| match bytes.below(4) {
            0 => Some(Edge::Enqueue(number, group.edge(&name, node, Enqueue))),
            1 | 2 => Some(Edge::Wait(number, group.edge(&name, node, EnqueueAndWait))),
            _ => None,
        };
        edges.push(nodes.iter().enumerate().filter_map(edge).collect());
        let mut options = options(bytes, world, index);
        if bytes.one_in(4) {
            sharing.push(index);
            options = options.slots(&slots);
        }
        let foreign = edges[..index].iter().flatten().cloned().collect();
        let function =
            Function { world: Arc::clone(world), node: index, edges: edges[index].clone(), foreign };
        let ranks = [Rank::Durable, Rank::Metadata, Rank::Read];
        let spec = NodeSpec::new(name).rank(ranks[bytes.below(3)]);
        nodes.push(if bytes.one_in(3) {
            group.node_async(spec, options, move |batch, ctx: BatchCtx| {
                let function = function.clone();
                async move { function.run(batch, &ctx) }
            })
        } else {
            group.node(spec, options, move |batch, ctx| function.run(batch, ctx))
        });
    }
    for number in 0..hook_count {
        let (hooks, fails) = (Arc::clone(hooks), bytes.below(3));
        group.on_drained(&format!("hook {number}"), LIMIT, move |budget| {
            assert_eq!((hooks.fetch_add(1, SeqCst), budget), (number, LIMIT));
            match fails {
                0 => Ok(()),
                1 => Err("a hook fails"),
                _ => resume_unwind(Box::new("a hook panics")),
            }
        });
    }
    let share = |path: &[usize]| sharing.contains(&path[0]) && sharing.contains(path.last().unwrap());
    let forbidden = paths(&edges).iter().any(|path| share(path));
    match group.build() {
        Ok(group) if !forbidden => Some((group, nodes)),
        Err(GroupError::SharedSlots { .. }) if forbidden => None,
        built => panic!("paths between nodes that share slots: {forbidden}, but {built:?}"),
    }
}

/// Every path of at least one edge, the model's way: by trying all.
fn paths(edges: &[Vec<Edge>]) -> Vec<Vec<usize>> {
    let mut paths: Vec<Vec<usize>> = (0..edges.len()).map(|node| vec![node]).collect();
    let mut done = 0;
    while let Some(path) = paths.get(done).cloned() {
        for Edge::Enqueue(next, _) | Edge::Wait(next, _) in &edges[path[path.len() - 1]] {
            paths.push([&path[..], &[*next]].concat());
        }
        done += 1;
    }
    paths.retain(|path| path.len() > 1);
    paths
}

fn options(bytes: &mut Bytes<'_>, world: &World, node: usize) -> Builder<Item, usize, usize> {
    let size = 1 + bytes.below(4);
    world.limit(node, size);
    Batcher::builder()
        .size(size)
        .queue_capacity(1 + bytes.below(6))
        .timeout([0, 1, 3_600_000].map(Duration::from_millis)[bytes.below(3)])
        .trigger_mode(match bytes.below(5) {
            0 => TriggerMode::Greedy,
            1 => TriggerMode::Drain,
            2 => TriggerMode::Tick(Duration::from_millis(1)),
            _ => TriggerMode::Accumulate,
        })
        .dispatch(match bytes.below(4) {
            0 => Dispatch::Unbounded,
            1 => Dispatch::Background { max_in_flight: 1 + bytes.below(3) },
            _ => Dispatch::Foreground,
        })
}

type Driven = (Vec<Promise>, Vec<Flush>, Vec<JoinHandle<()>>);

/// Submits in all ways, here and on threads that may have to wait until the close tells them.
fn drive(bytes: &mut Bytes<'_>, world: &Arc<World>, members: &[Member<Item, usize, usize>]) -> Driven {
    let (mut promises, mut flushes, mut blocked) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..64 {
        if bytes.is_empty() {
            break;
        }
        let node = bytes.below(members.len());
        let member = members[node].clone();
        match bytes.below(8) {
            0 => promises.extend(world.submit(node, bytes.byte(), |item| member.try_submit(item))),
            1 => {
                let items: Vec<_> = (0..bytes.below(7)).map(|_| world.item(node, bytes.byte())).collect();
                promises.extend(world.submit_many(items, |items| member.try_submit_many(items)));
            }
            2 => {
                world.submit_detached(node, bytes.byte(), |item| member.try_submit_detached(item));
            }
            3 => member.trigger().unwrap(),
            4 => flushes.push(if bytes.one_in(2) { member.flush() } else { member.flush_completed() }),
            5 => promises.extend(world.submit(node, bytes.byte(), |item| {
                let attempt = pin!(member.submit_async(item));
                // Dropped while it waits, it submits nothing; the item is gone with it.
                match attempt.poll(&mut Context::from_waker(Waker::noop())) {
                    Poll::Ready(submitted) => submitted,
                    Poll::Pending => Err(SubmitError::Full(Item::GONE)),
                }
            })),
            _ => {
                let (world, how, many) = (Arc::clone(world), bytes.byte(), bytes.one_in(2));
                blocked.push(thread::spawn(move || {
                    let promise = if many {
                        let items = (0..5).map(|n| world.item(node, how.wrapping_mul(n))).collect();
                        world.submit_many(items, |items| member.submit_many(items))
                    } else {
                        world.submit(node, how, |item| member.submit(item))
                    };
                    promise.into_iter().for_each(|promise| promise.check(&world));
                }));
            }
        }
    }
    (promises, flushes, blocked)
}

/// Ends the group one way or another. Only who drops it gets no report.
fn close(
    bytes: &mut Bytes<'_>,
    world: &Arc<World>,
    group: Group,
    members: &[Member<Item, usize, usize>],
) -> Option<Arc<GroupReport>> {
    let draining = match bytes.below(4) {
        0 => {
            drop(group);
            None
        }
        1 => {
            let _ = group.close(Duration::ZERO);
            Some(group.begin_close())
        }
        2 => Some(thread::scope(|scope| {
            let others = [(); 2].map(|()| scope.spawn(|| group.begin_close()));
            others.into_iter().for_each(|other| drop(other.join().unwrap()));
            group.begin_close()
        })),
        _ => Some(group.begin_close()),
    };
    for (node, member) in members.iter().enumerate() {
        let refused = world.submit(node, 0, |item| member.submit(item));
        assert!(refused.is_none(), "accepted from outside after the close began");
    }
    draining.map(|draining| {
        let report = draining.wait_timeout(LIMIT).unwrap_or_else(|left| panic!("{left}"));
        assert!(Arc::ptr_eq(&report, &draining.report().unwrap()), "two reports");
        report
    })
}

impl Function {
    fn run(&self, batch: Batch<Item, usize, usize>, ctx: &BatchCtx) {
        let mut owed = self.world.begin(self.node, batch.items());
        if self.foreign.iter().any(|edge| edge.reach(ctx).is_some()) {
            self.world.fault("an edge serves another than its producer");
        }
        for (item, done) in batch {
            match item.how % 16 {
                0 => resume_unwind(Box::new("a batch function panics")),
                1 => drop(done),
                2..=5 => {
                    owed.settle(item.id, None);
                    let ways = self.edges.iter().filter_map(|edge| edge.reach(ctx)).collect();
                    let function = self.clone();
                    ctx.spawn(async move { function.child(item, done, ways).await });
                }
                6 | 7 => {
                    owed.settle(item.id, Some(Expect::Error));
                    done.finish(Err(item.id));
                }
                how => {
                    if how < 12 {
                        self.edges
                            .iter()
                            .filter_map(|edge| edge.reach(ctx))
                            .for_each(|way| self.feed(&way, &item));
                    }
                    owed.settle(item.id, Some(Expect::Value));
                    done.finish(Ok(item.id));
                }
            }
        }
    }

    fn feed(&self, way: &Way, item: &Item) {
        let how = item.how.rotate_left(3) ^ 0b1010;
        match way {
            Way::Enqueue(node, outlet) => {
                let accepted = self.world.submit_detached(*node, how, |item| outlet.submit(item));
                self.world.expect(accepted, "a declared edge is closed");
            }
            Way::Wait(node, inlet) => match self.world.submit(*node, how, |item| inlet.submit(item)) {
                Some(promise) => promise.check_inside(&self.world),
                None => self.world.fault("a declared edge is closed"),
            },
        }
    }

    /// Follow-up work: gives way once, feeds consumers, then finishes, forgets, or panics.
    async fn child(self, item: Item, done: Completer<usize, usize>, ways: Vec<Way>) {
        let mut yielded = false;
        poll_fn(|cx| {
            cx.waker().wake_by_ref();
            if std::mem::replace(&mut yielded, true) { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
        for way in ways {
            let item = self.world.item(way.node(), item.how.rotate_left(5) ^ 0b101);
            let id = item.id;
            let submitted = match &way {
                Way::Enqueue(_, outlet) => outlet.submit_async(item).await.map(|()| None),
                Way::Wait(_, inlet) => inlet.submit_async(item).await.map(Some),
            };
            self.world.expect(submitted.is_ok(), "a declared edge is closed to a tracked child");
            self.world.accepted(id, submitted.is_ok());
            if let Ok(Some(completion)) = submitted {
                self.world.compare(id, &completion.await);
            }
        }
        match item.how % 16 {
            2 => {
                self.world.decide(item.id, Expect::Abandoned);
                drop(done);
            }
            3 => {
                self.world.decide(item.id, Expect::Panicked);
                resume_unwind(Box::new("a child panics"));
            }
            _ => {
                self.world.decide(item.id, Expect::Value);
                done.finish(Ok(item.id));
            }
        }
    }
}

impl Edge {
    fn reach(&self, ctx: &BatchCtx) -> Option<Way> {
        match self {
            Edge::Enqueue(node, edge) => Some(Way::Enqueue(*node, ctx.downstream(edge).ok()?.clone())),
            Edge::Wait(node, edge) => Some(Way::Wait(*node, ctx.downstream(edge).ok()?.clone())),
        }
    }
}

impl Way {
    fn node(&self) -> usize {
        match self {
            Way::Enqueue(node, _) | Way::Wait(node, _) => *node,
        }
    }
}

#[cfg(test)]
mod tests {
    use icecore_testkit::SplitMix64;

    use super::*;

    #[test]
    fn groups_of_random_shapes_keep_their_promises() {
        group_of_random_shape(&[]);
        let mut random = SplitMix64::new(27);
        for _ in 0..300 {
            let len = random.below(250);
            let data: Vec<u8> = (0..len).map(|_| random.next_u64().to_le_bytes()[0]).collect();
            group_of_random_shape(&data);
        }
    }
}
