//! What callers ask for.

use crate::{BlockRef, Extra, Master, Outpoint, OutputHash, Spender, TxFacts, TxId};

/// A transaction to store. Its id and whether it is a coinbase are what the caller says they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewTx {
    /// Its id.
    pub txid: TxId,
    /// The version it declares.
    pub version: u32,
    /// The lock time it declares.
    pub lock_time: u32,
    /// Its fee.
    pub fee: u64,
    /// Its size.
    pub size_bytes: u64,
    /// It makes new coins, which have to mature.
    pub coinbase: bool,
    /// What its inputs spend, in order.
    pub inpoints: Vec<Outpoint>,
    /// Its outputs: `None` for one that nothing can spend.
    pub outputs: Vec<Option<OutputHash>>,
    /// The transaction itself, in whatever encoding.
    pub body: Vec<u8>,
}

impl NewTx {
    /// A transaction of which nothing is known but its id and outputs; fill in the rest.
    pub fn new(txid: TxId, outputs: Vec<Option<OutputHash>>) -> Self {
        let (inpoints, body) = (Vec::new(), Vec::new());
        NewTx {
            txid,
            version: 1,
            lock_time: 0,
            fee: 0,
            size_bytes: 0,
            coinbase: false,
            inpoints,
            outputs,
            body,
        }
    }
}

/// How a transaction is to be stored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CreateOptions {
    /// The blocks that hold it already.
    pub mined: Vec<BlockRef>,
    /// All its outputs are frozen.
    pub frozen: bool,
    /// It lost a double spend.
    pub conflicting: bool,
    /// Its outputs cannot be spent until it is unlocked.
    pub locked: bool,
}

/// What a transaction spends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpendTx {
    /// The transaction that spends.
    pub txid: TxId,
    /// Its inputs, in order.
    pub inputs: Vec<SpendInput>,
}

/// One input: which output it spends, and what it takes that output to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpendInput {
    /// The output.
    pub outpoint: Outpoint,
    /// What it is.
    pub hash: OutputHash,
}

/// What a spend does not care about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SpendFlags {
    /// Spend outputs of transactions in conflict.
    pub ignore_conflicting: bool,
    /// Spend outputs of locked transactions.
    pub ignore_locked: bool,
}

/// An output to be given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unspend {
    /// The output.
    pub outpoint: Outpoint,
    /// The spender that gives it back; where another one is on record, nothing happens.
    pub by: Spender,
}

/// Where a transaction was mined, and whether that block is on the longest chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MinedInfo {
    /// The block.
    pub block: BlockRef,
    /// Whether it is on the longest chain.
    pub on_longest_chain: bool,
}

/// What to read of a transaction besides its master record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fields {
    /// The outputs beyond the first page.
    pub extras: bool,
    /// What never changes.
    pub facts: bool,
    /// The body.
    pub body: bool,
}

impl Fields {
    /// Everything there is.
    pub const ALL: Fields = Fields { extras: true, facts: true, body: true };
}

/// What is stored of a transaction, as far as it was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredTx {
    /// Its id.
    pub txid: TxId,
    /// Its master record.
    pub master: Master,
    /// Its extra records.
    pub extras: Vec<Extra>,
    /// What never changes.
    pub facts: Option<TxFacts>,
    /// Its body.
    pub body: Option<Vec<u8>>,
}
