//! The store as callers see it: every operation is an item in a queue, and every call waits for its item's result.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, atomic::Ordering},
};

use icecore_batcher::Inlet;

use crate::{
    Answer, BlockRef, ChainState, CreateOptions, Error, Fields, MinedInfo, NewTx, Outpoint, Result, Slot,
    SpendFlags, SpendTx, StoredTx, TxId, Unspend,
    answer::{refused, result},
    engine::{Change, Changed, Create, Found, MISMATCH, Read, Shared, Spending},
    queues::Queues,
    record::Due,
};

/// How many transactions a sweep asks for at a time.
const SWEEP: usize = 4096;

/// A store of unspent outputs.
///
/// Each operation goes through a queue and is answered when its batch is durable: `Ok` means stored. What several
/// threads ask for at once shares a batch, and so the cost of making it durable. A store is shared by reference or in an
/// [`Arc`], and [closed](UtxoStore::close) when its work is done.
pub struct UtxoStore {
    pub(crate) queues: Queues,
    pub(crate) shared: Arc<Shared>,
}

impl fmt::Debug for UtxoStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "UtxoStore({:?})", self.shared.tip())
    }
}

impl UtxoStore {
    /// Stores a transaction. Where some of its records are there already, from an attempt that was cut off, the rest is
    /// stored; where all are, what is left to do is done and the answer is [`Error::TxExists`].
    ///
    /// `height` is that of the block which is being worked on; one that the transaction was mined in counts for more.
    ///
    /// # Errors
    /// [`Error::TxExists`], [`Error::Invalid`] without outputs, and those of every operation: [`Error::Unavailable`],
    /// [`Error::Storage`], [`Error::Closed`].
    pub fn create(&self, tx: NewTx, height: u32, options: CreateOptions) -> Result<()> {
        self.create_queued(tx, height, options)?.wait()
    }

    /// [`create`](UtxoStore::create), without waiting for the result.
    ///
    /// # Errors
    /// [`Error::Closed`].
    pub fn create_queued(&self, tx: NewTx, height: u32, options: CreateOptions) -> Result<Answer<()>> {
        self.queues.store.submit(Create { tx, height, options }).map(Answer).map_err(refused)
    }

    /// Stores many transactions that have no blocks yet, or all the same; one result each.
    pub fn create_many(&self, txs: Vec<NewTx>, height: u32, options: &CreateOptions) -> Vec<Result<()>> {
        let create = |tx| Create { tx, height, options: options.clone() };
        all(&self.queues.store, txs.into_iter().map(create).collect())
    }

    /// Spends what the inputs of a transaction name. Spending again by the same inputs succeeds and changes nothing.
    /// Where one input shows that the transaction is invalid, none of its inputs stays spent by it; where the trouble is
    /// of another kind, those that could be spent stay so, and trying again is harmless.
    ///
    /// # Errors
    /// [`Error::Spend`] with the result of every input; [`Error::Invalid`] at height 0.
    pub fn spend(&self, tx: SpendTx, height: u32, flags: SpendFlags) -> Result<()> {
        self.spend_queued(tx, height, flags)?.wait()
    }

    /// [`spend`](UtxoStore::spend), without waiting for the result. Whether somebody waits or not, what an invalid
    /// transaction had spent is given back.
    ///
    /// # Errors
    /// [`Error::Closed`].
    pub fn spend_queued(&self, tx: SpendTx, height: u32, flags: SpendFlags) -> Result<Answer<()>> {
        self.queues.spend.submit(Spending::Spend { tx, height, flags }).map(Answer).map_err(refused)
    }

    /// Spends for many transactions; one result each.
    pub fn spend_many(&self, txs: Vec<SpendTx>, height: u32, flags: SpendFlags) -> Vec<Result<()>> {
        let spend = |tx| Spending::Spend { tx, height, flags };
        all(&self.queues.spend, txs.into_iter().map(spend).collect())
    }

    /// Gives outputs back; one result each. An output that somebody else spent, or nobody, stays as it is. Where `lock`
    /// is given, the transactions are locked or unlocked along with it.
    pub fn unspend(&self, outputs: &[Unspend], lock: Option<bool>) -> Vec<Result<()>> {
        let unspend = |output: &Unspend| Spending::Unspend { output: *output, lock };
        all(&self.queues.spend, outputs.iter().map(unspend).collect())
    }

    /// Locks or unlocks transactions, with all their records; one result each. Locking takes back that they fall due.
    pub fn set_locked(&self, txids: &[TxId], locked: bool) -> Vec<Result<()>> {
        self.change(txids, |txid| Change::SetLocked { txid, locked }).into_iter().map(done).collect()
    }

    /// Records a block that holds these transactions. Unlocks them, and completes what was left over from storing them.
    /// The answer holds every one of them, with all its blocks.
    ///
    /// # Errors
    /// That of the first transaction that failed; the others are done.
    pub fn set_mined(&self, txids: &[TxId], info: MinedInfo) -> Result<BTreeMap<TxId, Vec<BlockRef>>> {
        let answers = self.change(txids, |txid| Change::SetMined { txid, info });
        let mut mined = BTreeMap::new();
        for (txid, answer) in txids.iter().zip(answers) {
            let blocks = blocks(answer)?;
            if !blocks.iter().any(|block| block.block_id == info.block.block_id) {
                return Err(Error::Storage { what: format!("{txid} was mined and is not in the block") });
            }
            mined.insert(*txid, blocks);
        }
        Ok(mined)
    }

    /// Forgets that a block holds these transactions; one result each, with the blocks that are left. One that is not
    /// stored is in none.
    pub fn unset_mined(&self, txids: &[TxId], block: BlockRef) -> Vec<Result<Vec<BlockRef>>> {
        self.change(txids, |txid| Change::UnsetMined { txid, block }).into_iter().map(blocks).collect()
    }

    /// Says whether the blocks of these transactions are on the longest chain; one result each.
    pub fn mark_longest_chain(&self, txids: &[TxId], on: bool) -> Vec<Result<()>> {
        self.change(txids, |txid| Change::MarkLongestChain { txid, on }).into_iter().map(done).collect()
    }

    /// Keeps those of these transactions that would be deleted, until a height; one result each, telling whether there
    /// was anything to keep.
    pub fn preserve(&self, txids: &[TxId], until: u32) -> Vec<Result<bool>> {
        self.change(txids, |txid| Change::Preserve { txid, until }).into_iter().map(was).collect()
    }

    /// Ends the preservation of all transactions for which it ran out at or before a height. Tells how many there were.
    ///
    /// # Errors
    /// That of the first transaction that failed; those before it are done.
    pub fn process_expired(&self, height: u32) -> Result<u64> {
        self.sweep(Due::Preserve, height, |txid| Change::Expire { txid, height })
    }

    /// Marks transactions as losers of a double spend, or no longer so; one result each, with those that spend their
    /// outputs.
    pub fn set_conflicting(&self, txids: &[TxId], conflicting: bool) -> Vec<Result<Vec<TxId>>> {
        let answers = self.change(txids, |txid| Change::SetConflicting { txid, conflicting });
        answers.into_iter().map(spenders).collect()
    }

    /// Deletes transactions with all their records and bodies; one result each, telling whether it was there. Their
    /// parents remember them, so that spending again does not bring them back.
    pub fn delete(&self, txids: &[TxId]) -> Vec<Result<bool>> {
        self.change(txids, |txid| Change::Delete { txid, due_at: None }).into_iter().map(was).collect()
    }

    /// Deletes all transactions that fell due at or before a height. Tells how many there were.
    ///
    /// # Errors
    /// That of the first transaction that failed; those before it are gone.
    pub fn delete_due(&self, height: u32) -> Result<u64> {
        self.sweep(Due::Delete, height, |txid| Change::Delete { txid, due_at: Some(height) })
    }

    fn sweep(&self, why: Due, height: u32, change: impl Fn(TxId) -> Change) -> Result<u64> {
        let mut swept = 0;
        loop {
            let Found::TxIds(txids) = self.read(Read::Due { why, height, limit: SWEEP })? else {
                return Err(MISMATCH);
            };
            let mut progress = 0;
            for answer in self.change(&txids, &change) {
                progress += u64::from(was(answer)?);
            }
            swept += progress;
            // What fell due anew meanwhile is for the next sweep.
            if txids.len() < SWEEP || progress == 0 {
                return Ok(swept);
            }
        }
    }

    /// What is stored of a transaction.
    ///
    /// # Errors
    /// [`Error::TxNotFound`], [`Error::Damaged`], [`Error::DamagedBody`].
    pub fn get(&self, txid: &TxId, fields: Fields) -> Result<StoredTx> {
        stored(self.read(Read::Tx { txid: *txid, fields }))
    }

    /// What is stored of many transactions; one result each.
    pub fn get_many(&self, txids: &[TxId], fields: Fields) -> Vec<Result<StoredTx>> {
        let reads = txids.iter().map(|txid| Read::Tx { txid: *txid, fields }).collect();
        all(&self.queues.get, reads).into_iter().map(stored).collect()
    }

    /// The state of outputs, such as those that a transaction is about to spend; one result each.
    pub fn outputs(&self, outpoints: &[Outpoint]) -> Vec<Result<Slot>> {
        all(&self.queues.outpoint, outpoints.to_vec())
    }

    /// Every transaction in the store, in order.
    ///
    /// # Errors
    /// [`Error::Storage`].
    pub fn txids(&self) -> Result<Vec<TxId>> {
        match self.read(Read::TxIds)? {
            Found::TxIds(txids) => Ok(txids),
            _ => Err(MISMATCH),
        }
    }

    /// Whether the store answers: a record is read through the queue that reads.
    ///
    /// # Errors
    /// Why it does not.
    pub fn health(&self) -> Result<()> {
        self.read(Read::Due { why: Due::Delete, height: 0, limit: 1 }).map(|_| ())
    }

    /// Tells the store the tip of the chain: the height of what is done without a block of its own.
    ///
    /// # Errors
    /// [`Error::Invalid`] for height 0; [`Error::Closed`].
    pub fn set_tip(&self, tip: ChainState) -> Result<()> {
        if tip.height == 0 {
            return Err(Error::Invalid { what: "the tip of a chain is not at height 0" });
        }
        if self.shared.draining.load(Ordering::Acquire) {
            return Err(Error::Closed);
        }
        self.shared.set_tip(tip);
        Ok(())
    }

    /// The tip as it was told last.
    pub fn tip(&self) -> Option<ChainState> {
        self.shared.tip()
    }

    pub(crate) fn change(&self, txids: &[TxId], change: impl Fn(TxId) -> Change) -> Vec<Result<Changed>> {
        all(&self.queues.locked, txids.iter().map(|txid| change(*txid)).collect())
    }

    pub(crate) fn read(&self, read: Read) -> Result<Found> {
        self.queues.get.submit(read).map_err(refused).and_then(|answer| result(answer.wait()))
    }
}

/// Submits items together and waits for all of them.
pub(crate) fn all<T, R>(queue: &Inlet<T, R, Error>, items: Vec<T>) -> Vec<Result<R>>
where
    T: Send + 'static,
    R: Send + 'static,
{
    let count = items.len();
    match queue.submit_many(items) {
        Ok(answers) => answers.wait().into_iter().map(result).collect(),
        Err(refusal) => {
            let error = refused(refusal);
            (0..count).map(|_| Err(error.clone())).collect()
        }
    }
}

pub(crate) fn done(answer: Result<Changed>) -> Result<()> {
    match answer? {
        Changed::Done => Ok(()),
        _ => Err(MISMATCH),
    }
}

fn was(answer: Result<Changed>) -> Result<bool> {
    match answer? {
        Changed::Was(was) => Ok(was),
        _ => Err(MISMATCH),
    }
}

fn blocks(answer: Result<Changed>) -> Result<Vec<BlockRef>> {
    match answer? {
        Changed::Blocks(blocks) => Ok(blocks),
        _ => Err(MISMATCH),
    }
}

fn spenders(answer: Result<Changed>) -> Result<Vec<TxId>> {
    match answer? {
        Changed::Spenders(spenders) => Ok(spenders),
        _ => Err(MISMATCH),
    }
}

fn stored(answer: Result<Found>) -> Result<StoredTx> {
    match answer? {
        Found::Tx(tx) => Ok(*tx),
        _ => Err(MISMATCH),
    }
}
