//! What every operation does to the records: plain functions over a [`View`], the same for every backend.
//!
//! ```text
//! create   store a transaction, its records built in one place
//! spend    spend, unspend: one output at a time, and one transaction's inputs as a whole
//! due      delete-at-height: the one function that sets it, and the counting of spent records behind it
//! change   lock, mine, preserve, conflict, delete: what happens to a whole transaction
//! read     what callers see
//! ```

pub(crate) mod change;
pub(crate) mod create;
pub(crate) mod due;
pub(crate) mod read;
pub(crate) mod spend;

use crate::{
    Error, Outpoint, Result, TxId,
    record::{Extra, Master},
    view::View,
};

/// What holds while a batch runs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    /// For how many blocks a transaction is kept when nothing needs it any more; 0 for ever.
    pub(crate) retention_blocks: u32,
    /// For how many blocks a coinbase cannot be spent.
    pub(crate) coinbase_maturity_blocks: u32,
    /// The height of the best block, where it is known.
    pub(crate) tip: Option<u32>,
    /// Milliseconds since 1970.
    pub(crate) now_ms: u64,
}

/// The record that holds an output, and its place there.
pub(crate) fn place(view: &View<'_>, outpoint: &Outpoint) -> ((TxId, u32), usize) {
    let page_size = view.page_size();
    ((outpoint.txid, outpoint.vout / page_size), (outpoint.vout % page_size) as usize)
}

/// The number of a record's first output.
pub(crate) fn first_output(view: &View<'_>, (txid, record): (TxId, u32)) -> Outpoint {
    Outpoint { txid, vout: record.saturating_mul(view.page_size()) }
}

fn master<'v>(view: &'v mut View<'_>, txid: &TxId) -> Result<&'v Master> {
    view.get::<Master>(txid)?.ok_or(Error::TxNotFound { txid: *txid })
}

fn edit_master<'v>(view: &'v mut View<'_>, txid: &TxId) -> Result<&'v mut Master> {
    view.edit::<Master>(txid)?.ok_or(Error::TxNotFound { txid: *txid })
}

/// Changes every extra record of a transaction; one that is missing is an error.
fn edit_extras(view: &mut View<'_>, txid: &TxId, mut change: impl FnMut(&mut Extra)) -> Result<()> {
    let keys: Vec<_> = (1..=master(view, txid)?.total_extra).map(|record| (*txid, record)).collect();
    view.load::<Extra>(&keys);
    for key in keys {
        let outpoint = first_output(view, key);
        change(view.edit::<Extra>(&key)?.ok_or(Error::OutputNotFound { outpoint })?);
    }
    Ok(())
}
