//! What callers see of the records.

use super::{Result, View, place};
use crate::{
    Backend, Error, Family, Fields, Outpoint, Slot, StoredTx, TxId,
    blob::Blobs,
    record::{Due, DueKey, Extra, Master, TxFacts},
};

/// What is stored of a transaction.
pub(crate) fn get(view: &mut View<'_>, blobs: &Blobs, txid: &TxId, fields: Fields) -> Result<StoredTx> {
    let master = super::master(view, txid)?.clone();
    let mut extras = Vec::new();
    if fields.extras {
        for key in super::all_extras(view, txid)? {
            extras.extend(view.get::<Extra>(&key)?.cloned());
        }
    }
    let mut facts = None;
    let mut body = None;
    if fields.facts || fields.body {
        let stored = view.get::<TxFacts>(txid)?.ok_or(Error::TxNotFound { txid: *txid })?;
        facts = fields.facts.then(|| stored.clone());
        if fields.body {
            body = Some(stored.body.clone().map_or_else(|| blobs.get(txid), Ok)?);
        }
    }
    Ok(StoredTx { txid: *txid, master, extras, facts, body })
}

/// The state of one output.
pub(crate) fn output(view: &mut View<'_>, outpoint: &Outpoint) -> Result<Slot> {
    let (key, slot) = place(view, outpoint);
    let missing = Error::OutputNotFound { outpoint: *outpoint };
    if let Some(page) = view.page(key)? {
        return page.slots().get(slot).copied().ok_or(missing);
    }
    let known = view.get::<Master>(&outpoint.txid)?.is_some();
    Err(if known { missing } else { Error::TxNotFound { txid: outpoint.txid } })
}

/// The transactions that fall due at or before a height, at most `limit`, the earliest first.
pub(crate) fn due(backend: &dyn Backend, why: Due, height: u32, limit: usize) -> Result<Vec<TxId>> {
    let mut found = Vec::new();
    let mut damaged = None;
    let from = DueKey { due: why, height: 0, txid: TxId([0; 32]) }.encode();
    backend.scan(Family::Due, &from, &mut |key, _| match DueKey::decode(key) {
        Ok(line) if line.due == why && line.height <= height && found.len() < limit => {
            found.push(line.txid);
            true
        }
        Ok(_) => false,
        Err(what) => {
            damaged = Some(Error::damaged(Family::Due, key, what));
            false
        }
    })?;
    damaged.map_or(Ok(found), Err)
}
