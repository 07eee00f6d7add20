//! What each queue does with a batch of its items: hold the rows, read, change, commit once, answer each item.
//!
//! The rows are let go before anything is handed to another queue, so that a batch never waits for one that waits for
//! its rows.

use std::{
    collections::BTreeSet,
    sync::{
        PoisonError, RwLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use icecore_batcher::Lease;

use crate::{
    BlockRef, ChainState, CreateOptions, Error, Fields, MinedInfo, NewTx, Outpoint, Result, Slot, SpendFlags,
    SpendTx, StoredTx, TxId, Unspend,
    blob::Blobs,
    client::{Client, Outcome},
    large,
    ops::{Rules, change, create, due, read, spend},
    options::Clock,
    record::{Due, FollowUpKey, Intent, IntentId, Master, Owed, TxFacts},
    rows::Held,
    view::View,
};

/// A transaction to store.
pub(crate) struct Create {
    pub(crate) tx: NewTx,
    pub(crate) height: u32,
    pub(crate) options: CreateOptions,
}

/// A transaction's inputs to spend, or an output to give back.
pub(crate) enum Spending {
    Spend { tx: SpendTx, height: u32, flags: SpendFlags },
    Unspend { output: Unspend, lock: Option<bool> },
}

/// Something that happens to a whole transaction.
pub(crate) enum Change {
    SetLocked { txid: TxId, locked: bool },
    SetMined { txid: TxId, info: MinedInfo },
    UnsetMined { txid: TxId, block: BlockRef },
    MarkLongestChain { txid: TxId, on: bool },
    Preserve { txid: TxId, until: u32 },
    Expire { txid: TxId, height: u32 },
    SetConflicting { txid: TxId, conflicting: bool },
    Delete { txid: TxId, due_at: Option<u32> },
    PutIntent(Box<Intent>),
    RemoveIntent(IntentId),
}

/// The answer to a [`Change`].
#[derive(Debug)]
pub(crate) enum Changed {
    Done,
    /// Whether there was anything to change.
    Was(bool),
    Blocks(Vec<BlockRef>),
    Spenders(Vec<TxId>),
}

/// Something to be read.
pub(crate) enum Read {
    Tx { txid: TxId, fields: Fields },
    Due { why: Due, height: u32, limit: usize },
    Intents,
    TxIds,
}

/// The answer to a [`Read`].
pub(crate) enum Found {
    Tx(Box<StoredTx>),
    TxIds(Vec<TxId>),
    Intents(Vec<Intent>),
}

/// What the queues of a store share with it.
#[derive(Default)]
pub(crate) struct Shared {
    tip: RwLock<Option<ChainState>>,
    pub(crate) draining: AtomicBool,
    /// Items of a drain that were not stored because the storage failed.
    pub(crate) unwritten: AtomicU64,
}

impl Shared {
    pub(crate) fn tip(&self) -> Option<ChainState> {
        *self.tip.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn set_tip(&self, tip: ChainState) {
        *self.tip.write().unwrap_or_else(PoisonError::into_inner) = Some(tip);
    }
}

/// What all queues work on. The last of them to go takes the database along.
pub(crate) struct Engine {
    pub(crate) client: Lease<Client>,
    pub(crate) blobs: Blobs,
    pub(crate) shared: std::sync::Arc<Shared>,
    pub(crate) retention_blocks: u32,
    pub(crate) coinbase_maturity_blocks: u32,
    pub(crate) clock: Clock,
}

impl Engine {
    fn rules(&self) -> Rules {
        Rules {
            retention_blocks: self.retention_blocks,
            coinbase_maturity_blocks: self.coinbase_maturity_blocks,
            tip: self.shared.tip().map(|tip| tip.height),
            now_ms: (self.clock)(),
        }
    }

    /// Keeps count of what a drain could not store.
    pub(crate) fn tally<R>(&self, results: &[Result<R>]) {
        let failed =
            results.iter().filter(|result| matches!(result, Err(error) if error.is_unwritten())).count();
        if failed > 0 && self.shared.draining.load(Ordering::Acquire) {
            self.shared.unwritten.fetch_add(failed as u64, Ordering::AcqRel);
        }
    }

    /// True where a transaction is stored in several steps, by [`create_large`](Engine::create_large).
    pub(crate) fn is_large(&self, item: &Create) -> bool {
        create::is_large(&item.tx, self.client.page_size)
    }

    pub(crate) fn create_small(&self, items: &[Create]) -> Vec<Result<()>> {
        let rules = self.rules();
        let _held =
            self.client.rows.hold(items.iter().flat_map(|item| create::rows(&item.tx, &item.options)));
        let mut view = self.client.view();
        view.load::<Master>(&sorted(items.iter().map(|item| item.tx.txid)));
        let outcome = self.client.run(view, items.iter(), |view, item| {
            view.item(|view| create::create(view, &rules, &item.tx, item.height, &item.options))
        });
        self.tally(&outcome.results);
        outcome.results
    }

    pub(crate) fn create_large(&self, item: &Create) -> Result<()> {
        let created =
            large::create(&self.client, &self.blobs, &self.rules(), &item.tx, item.height, &item.options);
        self.tally(std::slice::from_ref(&created));
        created
    }

    pub(crate) fn spend(&self, items: &[Spending]) -> Outcome<()> {
        let rules = self.rules();
        let outpoints = || items.iter().flat_map(Spending::outpoints);
        let _held = self.client.rows.hold(outpoints().map(|outpoint| outpoint.txid));
        let mut view = self.client.view();
        spend::load(&mut view, outpoints());
        let outcome = self.client.run(view, items.iter(), |view, item| match item {
            Spending::Spend { tx, height, flags } => spend::spend(view, &rules, tx, *height, *flags),
            Spending::Unspend { output, lock } => {
                view.item(|view| spend::unspend(view, &rules, output, *lock))
            }
        });
        self.tally(&outcome.results);
        outcome
    }

    /// Moves the counts of wholly spent records; each answer says whether the transaction's DAH changed by it.
    pub(crate) fn increment(&self, items: &[(TxId, u32)]) -> Vec<Result<bool>> {
        let rules = self.rules();
        let _held = self.client.rows.hold(items.iter().map(|(txid, _)| *txid));
        let outcome = self.client.run(self.client.view(), items.iter(), |view, (txid, record)| {
            view.item(|view| due::pay_count(view, &rules, txid, *record))
        });
        self.tally(&outcome.results);
        let owed: BTreeSet<_> = outcome.owed.iter().map(|key| key.txid).collect();
        let owes = |(result, (txid, _)): (Result<()>, &(TxId, u32))| result.map(|()| owed.contains(txid));
        outcome.results.into_iter().zip(items).map(owes).collect()
    }

    /// Gives extra records the DAH of their masters.
    pub(crate) fn set_dah(&self, items: &[TxId]) -> Vec<Result<()>> {
        let _held = self.client.rows.hold(items.iter().copied());
        let outcome = self.client.run(self.client.view(), items.iter(), |view, txid| {
            view.item(|view| due::pay_mirror(view, txid))
        });
        self.tally(&outcome.results);
        outcome.results
    }

    pub(crate) fn change(&self, items: &[Change]) -> Vec<Result<Changed>> {
        let rules = self.rules();
        let (_held, mut view) = self.hold_changed(items);
        view.load::<Master>(&sorted(items.iter().filter_map(Change::txid)));
        let outcome =
            self.client.run(view, items.iter(), |view, item| view.item(|view| item.apply(view, &rules)));
        self.tally(&outcome.results);
        if let Err(error) = self.client.remove_bodies(&self.blobs, &outcome.owed) {
            tracing::warn!(%error, "bodies of deleted transactions stay until the database is opened again");
        }
        outcome.results
    }

    /// Holds the transactions that changes touch, their own and, for some, the parents, and makes a view of what is there
    /// from then on.
    fn hold_changed(&self, items: &[Change]) -> (Held<'_>, View<'_>) {
        let mut rows = change_rows(&mut self.client.view(), items);
        loop {
            let held = self.client.rows.hold(rows.iter().copied());
            let mut view = self.client.view();
            // A transaction that was being stored meanwhile has parents now.
            let now = change_rows(&mut view, items);
            if now.is_subset(&rows) {
                return (held, view);
            }
            rows = now;
        }
    }

    pub(crate) fn read(&self, items: &[Read]) -> Vec<Result<Found>> {
        let mut view = self.client.view();
        view.load::<Master>(&sorted(items.iter().filter_map(|item| match item {
            Read::Tx { txid, .. } => Some(*txid),
            _ => None,
        })));
        let mut read = |item: &Read| match item {
            Read::Tx { txid, fields } => {
                let tx = read::get(&mut view, &self.blobs, txid, *fields);
                tx.map_err(|error| self.or_gone(error, txid)).map(|tx| Found::Tx(Box::new(tx)))
            }
            Read::Due { why, height, limit } => {
                read::due(self.client.backend(), *why, *height, *limit).map(Found::TxIds)
            }
            Read::Intents => self.client.intents().map(Found::Intents),
            Read::TxIds => self.client.txids().map(Found::TxIds),
        };
        items.iter().map(&mut read).collect()
    }

    /// What is missing of a transaction may be so because that was deleted between two looks, and is no damage then.
    fn or_gone(&self, error: Error, txid: &TxId) -> Error {
        let gone = || matches!(self.client.view().get::<Master>(txid), Ok(None));
        let incomplete = matches!(error, Error::OutputNotFound { .. } | Error::DamagedBody { .. });
        if incomplete && gone() { Error::TxNotFound { txid: *txid } } else { error }
    }

    pub(crate) fn outputs(&self, items: &[Outpoint]) -> Vec<Result<Slot>> {
        let mut view = self.client.view();
        spend::load(&mut view, items.iter());
        items.iter().map(|outpoint| read::output(&mut view, outpoint)).collect()
    }
}

fn change_rows(view: &mut View<'_>, items: &[Change]) -> BTreeSet<TxId> {
    let mut rows: BTreeSet<_> = items.iter().filter_map(Change::txid).collect();
    view.load::<TxFacts>(&sorted(items.iter().filter_map(Change::with_parents)));
    for txid in items.iter().filter_map(Change::with_parents) {
        // What cannot be read fails the item later, by the same record.
        rows.extend(change::parents(view, &txid).unwrap_or_default());
    }
    rows
}

fn sorted(txids: impl Iterator<Item = TxId>) -> Vec<TxId> {
    txids.collect::<BTreeSet<_>>().into_iter().collect()
}

/// What of this is owed to masters, and whose extra records are owed a mirror.
pub(crate) fn split_owed(owed: &[FollowUpKey]) -> (Vec<(TxId, u32)>, BTreeSet<TxId>) {
    let counts = owed.iter().filter_map(|key| match key.owed {
        Owed::Count { record } => Some((key.txid, record)),
        _ => None,
    });
    let mirrors = owed.iter().filter(|key| key.owed == Owed::Mirror).map(|key| key.txid);
    (counts.collect(), mirrors.collect())
}

impl Spending {
    fn outpoints(&self) -> impl Iterator<Item = &Outpoint> {
        let (inputs, output) = match self {
            Spending::Spend { tx, .. } => (tx.inputs.as_slice(), None),
            Spending::Unspend { output, .. } => (&[][..], Some(&output.outpoint)),
        };
        inputs.iter().map(|input| &input.outpoint).chain(output)
    }
}

impl Change {
    fn txid(&self) -> Option<TxId> {
        use Change::*;
        match *self {
            SetLocked { txid, .. }
            | SetMined { txid, .. }
            | UnsetMined { txid, .. }
            | MarkLongestChain { txid, .. }
            | Preserve { txid, .. }
            | Expire { txid, .. }
            | SetConflicting { txid, .. }
            | Delete { txid, .. } => Some(txid),
            PutIntent(_) | RemoveIntent(_) => None,
        }
    }

    /// The transaction, where its parents are told of the change.
    fn with_parents(&self) -> Option<TxId> {
        match *self {
            Change::SetConflicting { txid, .. } | Change::Delete { txid, .. } => Some(txid),
            _ => None,
        }
    }

    fn apply(&self, view: &mut View<'_>, rules: &Rules) -> Result<Changed> {
        let done = |()| Changed::Done;
        match self {
            Change::SetLocked { txid, locked } => change::set_locked(view, rules, txid, *locked).map(done),
            Change::SetMined { txid, info } => {
                change::set_mined(view, rules, txid, info).map(Changed::Blocks)
            }
            Change::UnsetMined { txid, block } => {
                change::unset_mined(view, rules, txid, block).map(Changed::Blocks)
            }
            Change::MarkLongestChain { txid, on } => {
                change::mark_longest_chain(view, rules, txid, *on).map(done)
            }
            Change::Preserve { txid, until } => change::preserve(view, txid, *until).map(Changed::Was),
            Change::Expire { txid, height } => change::expire(view, rules, txid, *height).map(Changed::Was),
            Change::SetConflicting { txid, conflicting } => {
                change::set_conflicting(view, rules, txid, *conflicting).map(Changed::Spenders)
            }
            Change::Delete { txid, due_at } => change::delete(view, txid, *due_at).map(Changed::Was),
            Change::PutIntent(intent) => view.put(&intent.id(), (**intent).clone()).map(done),
            Change::RemoveIntent(id) => view.remove::<Intent>(id).map(done),
        }
    }
}

/// An answer of a kind that does not fit its question cannot come about; if it does, it is no panic.
pub(crate) const MISMATCH: Error = Error::Invalid { what: "an answer of another kind" };
