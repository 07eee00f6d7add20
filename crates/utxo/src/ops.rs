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

fn master<'v>(view: &'v mut View<'_>, txid: &TxId) -> Result<&'v Master> {
    view.get::<Master>(txid)?.ok_or(Error::TxNotFound { txid: *txid })
}

fn edit_master<'v>(view: &'v mut View<'_>, txid: &TxId) -> Result<&'v mut Master> {
    view.edit::<Master>(txid)?.ok_or(Error::TxNotFound { txid: *txid })
}

/// The extra records of a transaction, from the first up to one that is missing. Read some at a time, so that a wrong
/// number in a master costs nothing; they are stored in this order, so that none is missed.
pub(crate) fn stored_extras(view: &mut View<'_>, txid: &TxId) -> Result<Vec<(TxId, u32)>> {
    const AT_A_TIME: u32 = 256;
    let total = master(view, txid)?.total_extra;
    let mut keys = Vec::new();
    let mut next = 1;
    while next <= total {
        let last = total.min(next.saturating_add(AT_A_TIME - 1));
        let some: Vec<_> = (next..=last).map(|record| (*txid, record)).collect();
        view.load::<Extra>(&some);
        for key in some {
            if view.get::<Extra>(&key)?.is_none() {
                return Ok(keys);
            }
            keys.push(key);
        }
        next = last.saturating_add(1);
    }
    Ok(keys)
}

/// The extra records of a transaction; one that is missing is an error.
fn all_extras(view: &mut View<'_>, txid: &TxId) -> Result<Vec<(TxId, u32)>> {
    let keys = stored_extras(view, txid)?;
    if keys.len() < master(view, txid)?.total_extra as usize {
        let vout = (keys.len() as u32 + 1).saturating_mul(view.page_size());
        return Err(Error::OutputNotFound { outpoint: Outpoint { txid: *txid, vout } });
    }
    Ok(keys)
}

/// Changes every extra record of a transaction.
fn edit_extras(view: &mut View<'_>, txid: &TxId, mut change: impl FnMut(&mut Extra)) -> Result<()> {
    for key in all_extras(view, txid)? {
        if let Some(extra) = view.edit::<Extra>(&key)? {
            change(extra);
        }
    }
    Ok(())
}
