//! What was promised to whom, and whether it was kept.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use crate::{Completion, CompletionSet, Failure, GroupReport, Outcome, SubmitError};

/// Nothing takes as long as this, unless it hangs.
pub(super) const LIMIT: Duration = Duration::from_secs(20);

/// An item: its number, and what its batch function does with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Item {
    pub(super) id: usize,
    pub(super) how: u8,
}

impl Item {
    /// Stands for one that went with its cancelled submission.
    pub(super) const GONE: Item = Item { id: usize::MAX, how: 0 };
}

/// How an item ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expect {
    Value,
    Error,
    Abandoned,
    Panicked,
}

#[derive(Debug)]
struct Record {
    node: usize,
    accepted: Option<bool>,
    executed: usize,
    expect: Option<Expect>,
}

#[derive(Clone, Default)]
struct NodeRecord {
    size: usize,
    calls: u64,
}

#[derive(Default)]
struct State {
    items: Vec<Record>,
    nodes: Vec<NodeRecord>,
    faults: Vec<String>,
}

/// The model: what every item was submitted to, and how it was decided that it ends.
pub(super) struct World(Mutex<State>);

impl World {
    pub(super) fn new(nodes: usize) -> Self {
        World(Mutex::new(State { nodes: vec![NodeRecord::default(); nodes], ..State::default() }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn nodes(&self) -> usize {
        self.state().nodes.len()
    }

    pub(super) fn limit(&self, node: usize, size: usize) {
        self.state().nodes[node].size = size;
    }

    /// Noted here, because a panic inside a batch function is nothing special.
    pub(super) fn fault(&self, what: impl Into<String>) {
        self.state().faults.push(what.into());
    }

    pub(super) fn expect(&self, holds: bool, what: &str) {
        if !holds {
            self.fault(what);
        }
    }

    pub(super) fn item(&self, node: usize, how: u8) -> Item {
        let mut state = self.state();
        state.items.push(Record { node, accepted: None, executed: 0, expect: None });
        Item { id: state.items.len() - 1, how }
    }

    pub(super) fn accepted(&self, id: usize, accepted: bool) {
        self.state().items[id].accepted = Some(accepted);
    }

    /// Says how an item ends, before it does.
    pub(super) fn decide(&self, id: usize, expect: Expect) {
        if let Some(before) = self.state().items[id].expect.replace(expect) {
            self.fault(format!("item {id} ends twice, as {before:?} and {expect:?}"));
        }
    }

    pub(super) fn submit(
        &self,
        node: usize,
        how: u8,
        submit: impl FnOnce(Item) -> Result<Completion<usize, usize>, SubmitError<Item>>,
    ) -> Option<Promise> {
        let item = self.item(node, how);
        let submitted = submit(item);
        self.accepted(item.id, submitted.is_ok());
        let back = |error: SubmitError<Item>| self.handed_back(&[item], &[error.into_inner()]);
        submitted.map_err(back).ok().map(|completion| Promise::One(item.id, completion))
    }

    pub(super) fn submit_detached(
        &self,
        node: usize,
        how: u8,
        submit: impl FnOnce(Item) -> Result<(), SubmitError<Item>>,
    ) -> bool {
        let item = self.item(node, how);
        let submitted = submit(item);
        self.accepted(item.id, submitted.is_ok());
        submitted.map_err(|error| self.handed_back(&[item], &[error.into_inner()])).is_ok()
    }

    pub(super) fn submit_many(
        &self,
        items: Vec<Item>,
        submit: impl FnOnce(Vec<Item>) -> Result<CompletionSet<usize, usize>, SubmitError<Vec<Item>>>,
    ) -> Option<Promise> {
        let submitted = submit(items.clone());
        items.iter().for_each(|item| self.accepted(item.id, submitted.is_ok()));
        let back = |error: SubmitError<Vec<Item>>| self.handed_back(&items, &error.into_inner());
        let ids = items.iter().map(|item| item.id).collect();
        submitted.map_err(back).ok().map(|set| Promise::Many(ids, set))
    }

    fn handed_back(&self, given: &[Item], back: &[Item]) {
        self.expect(given == back || back == [Item::GONE], "not what was refused is handed back");
    }

    /// A batch function is called with these.
    pub(super) fn begin<'a>(&self, node: usize, items: impl Iterator<Item = &'a Item>) -> Owed<'_> {
        let left: Vec<_> = items.map(|item| item.id).collect();
        let mut state = self.state();
        state.nodes[node].calls += 1;
        let State { items, nodes, faults } = &mut *state;
        if !(1..=nodes[node].size).contains(&left.len()) {
            faults.push(format!("a batch of {}, not of 1 to {}", left.len(), nodes[node].size));
        }
        for &id in &left {
            items[id].executed += 1;
            if items[id].node != node {
                faults.push(format!("item {id} is executed by node {node}"));
            }
        }
        Owed { world: self, left }
    }

    /// Whether an item ended as was decided.
    pub(super) fn compare(&self, id: usize, outcome: &Outcome<usize, usize>) {
        let seen = match outcome {
            Ok(value) if *value == id => Some(Expect::Value),
            Err(Failure::Failed(error)) if *error == id => Some(Expect::Error),
            Err(Failure::Abandoned { .. }) => Some(Expect::Abandoned),
            Err(Failure::BatchPanicked { .. }) => Some(Expect::Panicked),
            _ => None,
        };
        let expect = self.state().items[id].expect;
        if seen.is_none() || seen != expect {
            self.fault(format!("item {id} ends as {outcome:?}, not as {expect:?}"));
        }
    }

    /// Whether every accepted item has ended.
    pub(super) fn is_settled(&self) -> bool {
        self.state().items.iter().all(|item| item.accepted != Some(true) || item.expect.is_some())
    }

    /// The whole model, when nothing runs any more.
    pub(super) fn check(&self, report: Option<&GroupReport>) {
        let state = self.state();
        assert!(state.faults.is_empty(), "{:#?}", state.faults);
        for (id, item) in state.items.iter().enumerate() {
            let accepted = item.accepted.expect("every submission was answered");
            assert_eq!(item.executed, usize::from(accepted), "item {id}: {item:?}");
            assert_eq!(item.expect.is_some(), accepted, "item {id}: {item:?}");
        }
        let Some(report) = report else { return };
        for (node, record) in state.nodes.iter().enumerate() {
            let told = report.node(&format!("fuzz-{node}")).expect("every node is in the report");
            let count =
                |expect| state.items.iter().filter(|i| i.node == node && i.expect == Some(expect)).count();
            let executed: usize = state.items.iter().filter(|i| i.node == node).map(|i| i.executed).sum();
            assert_eq!(told.panicked_items, count(Expect::Panicked) as u64, "node {node}: {told:?}");
            assert_eq!(told.abandoned_items, count(Expect::Abandoned) as u64, "node {node}: {told:?}");
            assert_eq!(
                (told.aborted_items, told.batches.iter().sum()),
                (0, record.calls),
                "node {node}: {told:?}"
            );
            assert!(told.drained_items <= executed as u64, "node {node}: {told:?}");
        }
        assert_eq!(report.nodes.len(), state.nodes.len());
    }
}

/// The items that a batch function has not settled yet.
pub(super) struct Owed<'a> {
    world: &'a World,
    left: Vec<usize>,
}

impl Owed<'_> {
    /// Takes an item off the list; without an expectation it is a child's to decide.
    pub(super) fn settle(&mut self, id: usize, expect: Option<Expect>) {
        self.left.retain(|&left| left != id);
        if let Some(expect) = expect {
            self.world.decide(id, expect);
        }
    }
}

impl Drop for Owed<'_> {
    fn drop(&mut self) {
        let expect = if thread::panicking() { Expect::Panicked } else { Expect::Abandoned };
        self.left.iter().for_each(|&id| self.world.decide(id, expect));
    }
}

/// What a submitter holds.
pub(super) enum Promise {
    One(usize, Completion<usize, usize>),
    Many(Vec<usize>, CompletionSet<usize, usize>),
}

impl Promise {
    pub(super) fn check(self, world: &World) {
        match self {
            Promise::One(id, completion) => {
                let outcome = completion.wait_timeout(LIMIT).expect("a completion is never resolved");
                world.compare(id, &outcome);
            }
            Promise::Many(ids, set) => {
                let outcomes = set.wait_timeout(LIMIT).expect("a set is never complete");
                world.expect(ids.len() == outcomes.len(), "a set of another length");
                ids.into_iter().zip(outcomes).for_each(|(id, outcome)| world.compare(id, &outcome));
            }
        }
    }

    /// As `check`, where a close sees to it that nobody waits for ever.
    pub(super) fn check_inside(self, world: &World) {
        match self {
            Promise::One(id, completion) => world.compare(id, &completion.wait()),
            Promise::Many(..) => self.check(world),
        }
    }
}

/// Waits for something that must come without being waited for.
pub(super) fn patiently(otherwise: &str, done: impl Fn() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < LIMIT, "{otherwise}");
        thread::yield_now();
    }
}

/// The threads of groups made by fuzzing; none where the system does not tell.
pub(super) fn threads() -> usize {
    let Ok(tasks) = std::fs::read_dir("/proc/self/task") else { return 0 };
    let names = tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok());
    names.filter(|name| name.starts_with("fuzz-") || name.starts_with("close-hook")).count()
}
