//! What happens to a transaction as a whole. All its records change in one batch.

use std::collections::BTreeSet;

use super::{Result, Rules, View, create, due, edit_extras, edit_master, master, stored_extras};
use crate::{
    BlockRef, Error, MinedInfo, TxId, mutants,
    record::{Extra, FollowUp, FollowUpKey, Lock, Master, Owed, Page, TxFacts},
};

/// Changes what all records of a transaction have in common.
fn edit_pages(view: &mut View<'_>, txid: &TxId, change: impl Fn(&mut Page)) -> Result<()> {
    change(&mut edit_master(view, txid)?.page);
    if mutants::on("extras_forgotten") {
        return Ok(());
    }
    edit_extras(view, txid, |extra| change(&mut extra.page))
}

/// Locks or unlocks. What is locked no longer falls due.
pub(crate) fn set_locked(view: &mut View<'_>, rules: &Rules, txid: &TxId, locked: bool) -> Result<()> {
    edit_pages(view, txid, |page| {
        page.locked = locked;
        if locked && !mutants::on("lock_keeps_dah") {
            page.delete_at_height = None;
        }
    })?;
    if locked { Ok(()) } else { due::evaluate_all(view, rules, txid, None) }
}

/// Records a block that holds the transaction; returns all of them. Mining also completes what was left over from
/// storing it, and unlocks.
pub(crate) fn set_mined(
    view: &mut View<'_>,
    rules: &Rules,
    txid: &TxId,
    info: &MinedInfo,
) -> Result<Vec<BlockRef>> {
    let master = edit_master(view, txid)?;
    if !master.blocks.iter().any(|block| block.block_id == info.block.block_id) {
        master.blocks.push(info.block);
    }
    if info.on_longest_chain {
        master.unmined_since = None;
    }
    let (blocks, creating) = (master.blocks.clone(), master.page.creating);
    let completed = edit_pages(view, txid, |page| (page.locked, page.creating) = (false, false));
    completed.map_err(|error| match error {
        // Not all records are there: mining cannot stand in for storing them.
        Error::OutputNotFound { .. } => Error::Creating { txid: *txid },
        error => error,
    })?;
    if creating {
        view.remove::<Lock>(txid)?;
    }
    due::evaluate_all(view, rules, txid, Some(info.block.height))?;
    Ok(blocks)
}

/// Forgets a block; returns those that are left. A transaction that is not stored is in no block.
pub(crate) fn unset_mined(
    view: &mut View<'_>,
    rules: &Rules,
    txid: &TxId,
    block: &BlockRef,
) -> Result<Vec<BlockRef>> {
    let Some(master) = view.edit::<Master>(txid)? else { return Ok(Vec::new()) };
    master.blocks.retain(|known| known.block_id != block.block_id);
    if master.blocks.is_empty() && master.unmined_since.is_none() {
        master.unmined_since = Some(rules.tip.unwrap_or(block.height));
    }
    let blocks = master.blocks.clone();
    due::evaluate_all(view, rules, txid, None)?;
    Ok(blocks)
}

/// Says whether the blocks of a transaction are on the longest chain.
pub(crate) fn mark_longest_chain(view: &mut View<'_>, rules: &Rules, txid: &TxId, on: bool) -> Result<()> {
    let master = edit_master(view, txid)?;
    master.unmined_since = match (on, master.unmined_since) {
        (true, _) => None,
        (false, Some(since)) => Some(since),
        (false, None) => {
            Some(rules.tip.ok_or(Error::Invalid { what: "the height of the chain is not known yet" })?)
        }
    };
    due::evaluate_all(view, rules, txid, None)
}

/// Keeps a transaction that would be deleted until a height; true where there was anything to keep.
pub(crate) fn preserve(view: &mut View<'_>, txid: &TxId, until: u32) -> Result<bool> {
    let Some(master) = view.get::<Master>(txid)? else { return Ok(false) };
    if master.page.delete_at_height.is_none() && master.preserve_until.is_none() {
        return Ok(false);
    }
    edit_master(view, txid)?.preserve_until = Some(until);
    edit_pages(view, txid, |page| page.delete_at_height = None)?;
    Ok(true)
}

/// Ends the preservation of a transaction where it has run out; true where it had.
pub(crate) fn expire(view: &mut View<'_>, rules: &Rules, txid: &TxId, height: u32) -> Result<bool> {
    let Some(master) = view.get::<Master>(txid)? else { return Ok(false) };
    if master.preserve_until.is_none_or(|until| until > height) {
        return Ok(false);
    }
    edit_master(view, txid)?.preserve_until = None;
    due::evaluate_all(view, rules, txid, Some(height))?;
    Ok(true)
}

/// Marks a transaction as the loser of a double spend, or no longer so. Returns who spends its outputs.
pub(crate) fn set_conflicting(
    view: &mut View<'_>,
    rules: &Rules,
    txid: &TxId,
    conflicting: bool,
) -> Result<Vec<TxId>> {
    edit_pages(view, txid, |page| page.conflicting = conflicting)?;
    let inpoints = view.get::<TxFacts>(txid)?.map(|facts| facts.inpoints.clone()).unwrap_or_default();
    create::tell_parents(view, txid, &inpoints, conflicting)?;
    due::evaluate_all(view, rules, txid, None)?;
    spenders(view, txid)
}

fn spenders(view: &mut View<'_>, txid: &TxId) -> Result<Vec<TxId>> {
    let of = |page: &Page| {
        page.slots().iter().filter_map(|slot| Some(slot.spender()?.txid)).collect::<BTreeSet<_>>()
    };
    let mut found = of(&master(view, txid)?.page);
    for key in stored_extras(view, txid)? {
        found.extend(view.get::<Extra>(&key)?.map(|extra| of(&extra.page)).unwrap_or_default());
    }
    Ok(found.into_iter().collect())
}

/// The transactions whose records a change may touch besides its own: its parents, which never change.
pub(crate) fn parents(view: &mut View<'_>, txid: &TxId) -> Result<Vec<TxId>> {
    let facts = view.get::<TxFacts>(txid)?;
    Ok(facts.map(|facts| facts.inpoints.iter().map(|inpoint| inpoint.txid).collect()).unwrap_or_default())
}

/// Deletes a transaction and tells its parents; where `due_at` is given, only if it fell due by then. True where it was
/// there. Its body goes when the batch is committed.
pub(crate) fn delete(view: &mut View<'_>, txid: &TxId, due_at: Option<u32>) -> Result<bool> {
    let Some(master) = view.get::<Master>(txid)? else { return Ok(false) };
    if due_at.is_some_and(|height| master.page.delete_at_height.is_none_or(|due| due > height)) {
        return Ok(false);
    }
    let (total_extra, external) = (master.total_extra, master.external);
    let large = external || total_extra > 0;
    for parent in parents(view, txid)?.into_iter().collect::<BTreeSet<_>>() {
        if let Some(parent) = view.edit::<Master>(&parent)?
            && !parent.deleted_children.contains(txid)
        {
            parent.deleted_children.push(*txid);
        }
    }
    for key in stored_extras(view, txid)? {
        view.remove::<Extra>(&key)?;
        view.remove::<FollowUp>(&FollowUpKey { txid: *txid, owed: Owed::Count { record: key.1 } })?;
    }
    if large {
        view.remove::<FollowUp>(&FollowUpKey { txid: *txid, owed: Owed::Mirror })?;
        view.remove::<Lock>(txid)?;
    }
    view.remove::<TxFacts>(txid)?;
    view.remove::<Master>(txid)?;
    if external {
        view.put(&FollowUpKey { txid: *txid, owed: Owed::RemoveBody }, FollowUp::default())?;
    }
    Ok(true)
}
