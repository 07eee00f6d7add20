//! When a transaction may be deleted, and the counting behind it.
//!
//! A master's delete-at-height (DAH) is set when nothing is left to spend, in any of its records, and it is mined on the
//! longest chain. Extra records count themselves: when one becomes wholly spent, or no longer is, it leaves a
//! [follow-up](Owed::Count) in the same batch, which moves the master's count by one and vanishes with that.

use super::{Result, Rules, View, edit_extras, edit_master, master, stored_extras};
use crate::{
    Error, TxId, mutants,
    record::{Extra, FollowUp, FollowUpKey, Owed},
};

/// Sets, raises or removes the DAH of a master; true where it changed. `height` is that of the operation; where that is
/// unknown the tip stands in, and where that is unknown too nothing is set anew.
pub(crate) fn evaluate(view: &mut View<'_>, rules: &Rules, txid: &TxId, height: Option<u32>) -> Result<bool> {
    let height = if mutants::on("dah_from_tip") { rules.tip } else { height.or(rules.tip) };
    let master = master(view, txid)?;
    if rules.retention_blocks == 0 || master.preserve_until.is_some() {
        return Ok(false);
    }
    let now = master.page.delete_at_height;
    let due = height.map(|height| height.saturating_add(rules.retention_blocks));
    let wanted = if master.page.conflicting {
        now.or(due)
    } else if may_be_deleted(view, txid)? {
        if mutants::on("dah_lowered") { due } else { now.max(due) }
    } else {
        None
    };
    if wanted != now {
        edit_master(view, txid)?.page.delete_at_height = wanted;
    }
    Ok(wanted != now)
}

fn may_be_deleted(view: &mut View<'_>, txid: &TxId) -> Result<bool> {
    let master = master(view, txid)?;
    let mined = !master.blocks.is_empty() && master.unmined_since.is_none();
    let counted = master.page.all_spent() && master.spent_extra == master.total_extra;
    // The counter is believed only after a look at what it counts: it may have drifted in a database whose follow-ups
    // were lost.
    Ok(mined && counted && (mutants::on("drift_believed") || extras_all_spent(view, txid)?))
}

fn extras_all_spent(view: &mut View<'_>, txid: &TxId) -> Result<bool> {
    let keys = stored_extras(view, txid)?;
    let mut all = keys.len() == master(view, txid)?.total_extra as usize;
    for key in keys {
        all &= view.get::<Extra>(&key)?.is_some_and(|extra| extra.page.all_spent());
    }
    if !all {
        tracing::warn!(%txid, "counted as spent and is not: the transaction is kept");
    }
    Ok(all)
}

/// Gives every extra record the DAH of its master.
pub(crate) fn mirror(view: &mut View<'_>, txid: &TxId) -> Result<()> {
    let height = master(view, txid)?.page.delete_at_height;
    edit_extras(view, txid, |extra| extra.page.delete_at_height = height)
}

/// [`evaluate`] and [`mirror`] in one batch, for operations that hold all records of the transaction anyway.
pub(crate) fn evaluate_all(
    view: &mut View<'_>,
    rules: &Rules,
    txid: &TxId,
    height: Option<u32>,
) -> Result<()> {
    evaluate(view, rules, txid, height)?;
    mirror(view, txid)
}

/// What follows from a change of one record's outputs: the master's own DAH at once, all else as a follow-up.
pub(crate) fn outputs_changed(
    view: &mut View<'_>,
    rules: &Rules,
    (txid, record): (TxId, u32),
    height: Option<u32>,
) -> Result<()> {
    if record == 0 {
        let changed = evaluate(view, rules, &txid, height)?;
        return if changed { owe_mirror(view, &txid) } else { Ok(()) };
    }
    let Some(extra) = view.get::<Extra>(&(txid, record))? else { return Ok(()) };
    let all_spent = extra.page.all_spent();
    if all_spent == extra.last_all_spent {
        return Ok(());
    }
    if let Some(extra) = view.edit::<Extra>(&(txid, record))? {
        extra.last_all_spent = all_spent;
    }
    let key = FollowUpKey { txid, owed: Owed::Count { record } };
    let step = if all_spent { 1 } else { -1 };
    // An opposite step that is still owed cancels this one.
    match view.get::<FollowUp>(&key)?.map_or(0, |owed| owed.delta) + step {
        0 => view.remove::<FollowUp>(&key),
        delta => view.put(&key, FollowUp { delta, height: height.or(rules.tip).unwrap_or(0) }),
    }
}

fn owe_mirror(view: &mut View<'_>, txid: &TxId) -> Result<()> {
    if master(view, txid)?.total_extra == 0 {
        return Ok(());
    }
    view.put(&FollowUpKey { txid: *txid, owed: Owed::Mirror }, FollowUp::default())
}

/// Pays a [`Owed::Count`]: the master's count moves, its DAH follows. Nothing is owed twice, so nothing is done where
/// nothing is owed.
pub(crate) fn pay_count(view: &mut View<'_>, rules: &Rules, txid: &TxId, record: u32) -> Result<()> {
    let key = FollowUpKey { txid: *txid, owed: Owed::Count { record } };
    let Some(&FollowUp { delta, height }) = view.get::<FollowUp>(&key)? else { return Ok(()) };
    if !mutants::on("follow_up_kept") {
        view.remove::<FollowUp>(&key)?;
    }
    match increment_spent_extra(view, rules, txid, delta, (height > 0).then_some(height)) {
        Err(Error::TxNotFound { .. }) => Ok(()), // deleted since
        Ok(true) => owe_mirror(view, txid),
        done => done.map(|_| ()),
    }
}

/// Pays a [`Owed::Mirror`].
pub(crate) fn pay_mirror(view: &mut View<'_>, txid: &TxId) -> Result<()> {
    let key = FollowUpKey { txid: *txid, owed: Owed::Mirror };
    view.remove::<FollowUp>(&key)?;
    match mirror(view, txid) {
        Err(Error::TxNotFound { .. }) => Ok(()), // deleted since
        mirrored => mirrored,
    }
}

/// Moves the count of wholly spent extra records, within what there are; true where the DAH changed.
pub(crate) fn increment_spent_extra(
    view: &mut View<'_>,
    rules: &Rules,
    txid: &TxId,
    delta: i8,
    height: Option<u32>,
) -> Result<bool> {
    let master = edit_master(view, txid)?;
    if master.total_extra == 0 {
        return Err(Error::Invalid { what: "a transaction without extra records has none to count" });
    }
    let moved = master.spent_extra.saturating_add_signed(delta.into());
    master.spent_extra = if mutants::on("count_not_clamped") { moved } else { moved.min(master.total_extra) };
    evaluate(view, rules, txid, height)
}
