//! Spending outputs, and giving them back.

use super::{Result, Rules, View, change, due, place};
use crate::{
    Error, Outpoint, Slot, SpendError, SpendFlags, SpendInput, SpendTx, Spender, TxId, Unspend, mutants,
    record::{Extra, Master, Page},
};
use std::sync::Arc;

/// Reads in one go what spending these will look at.
pub(crate) fn load<'t>(view: &mut View<'_>, outpoints: impl Iterator<Item = &'t Outpoint>) {
    let mut masters = Vec::new();
    let mut extras = Vec::new();
    for outpoint in outpoints {
        let (key, _) = place(view, outpoint);
        if key.1 == 0 { masters.push(key.0) } else { extras.push(key) }
    }
    masters.sort_unstable();
    masters.dedup();
    extras.sort_unstable();
    extras.dedup();
    view.load::<Master>(&masters);
    view.load::<Extra>(&extras);
}

/// Spends all inputs of a transaction. Where one of them shows that the transaction is invalid, none of its inputs stays
/// spent by it; where the trouble is of another kind, those that could be spent stay so, and trying again is harmless.
pub(crate) fn spend(
    view: &mut View<'_>,
    rules: &Rules,
    tx: &SpendTx,
    height: u32,
    flags: SpendFlags,
) -> Result<()> {
    if height == 0 {
        return Err(Error::Invalid { what: "nothing can be spent at height 0" });
    }
    let spender = |input: usize| Spender { txid: tx.txid, input: input as u32 };
    let mut inputs = Vec::with_capacity(tx.inputs.len());
    for (number, input) in tx.inputs.iter().enumerate() {
        inputs.push(view.item(|view| spend_one(view, rules, input, spender(number), height, flags)));
    }
    let error = SpendError { txid: tx.txid, inputs };
    if error.errors().next().is_none() {
        return Ok(());
    }
    let give_back = error.is_invalid_tx() && !mutants::on("invalid_keeps_spends");
    if give_back || mutants::on("transient_gives_back") {
        for (number, input) in tx.inputs.iter().enumerate() {
            if error.inputs.get(number).is_some_and(Result::is_ok) {
                let given_back = Unspend { outpoint: input.outpoint, by: spender(number) };
                let undone = view.item(|view| clear(view, rules, &given_back, Some(height)));
                if let Err(error) = undone {
                    // Spent by a stored child of a parent that is gone: there is nothing to give back.
                    tracing::debug!(outpoint = %input.outpoint, %error, "nothing given back");
                }
            }
        }
    }
    Err(Error::Spend(Arc::new(error)))
}

fn spend_one(
    view: &mut View<'_>,
    rules: &Rules,
    input: &SpendInput,
    by: Spender,
    height: u32,
    flags: SpendFlags,
) -> Result<()> {
    let outpoint = input.outpoint;
    let (key, slot) = place(view, &outpoint);
    let Some(page) = view.page(key)? else { return missing(view, key, outpoint, by) };
    may_spend(page, outpoint.txid, height, flags)?;
    let hash = match page.slots().get(slot) {
        None | Some(Slot::Unspendable) => return Err(Error::OutputNotFound { outpoint }),
        Some(state) if state.hash() != Some(input.hash) => return Err(Error::HashMismatch { outpoint }),
        Some(Slot::Frozen { .. }) => return Err(Error::Frozen { outpoint }),
        Some(&Slot::Held { until, .. }) if until > height => {
            return Err(Error::FrozenUntil { outpoint, height: until });
        }
        Some(Slot::Spent { by: on_record, .. }) if *on_record == by => {
            return spent_again(view, outpoint, by);
        }
        Some(&Slot::Spent { by: on_record, .. }) => {
            return Err(Error::Spent {
                outpoint,
                by: if mutants::on("claimant_reported") { by } else { on_record },
            });
        }
        Some(Slot::Unspent { hash } | Slot::Held { hash, .. }) => *hash,
    };
    if let Some(page) = view.edit_page(key)? {
        page.set(slot, Slot::Spent { hash, by });
    }
    due::outputs_changed(view, rules, key, Some(height))
}

/// What holds for all outputs of a record.
fn may_spend(page: &Page, txid: TxId, height: u32, flags: SpendFlags) -> Result<()> {
    if page.creating && !mutants::on("creating_spendable") {
        return Err(Error::Creating { txid });
    }
    if page.conflicting && !flags.ignore_conflicting {
        return Err(Error::Conflicting { txid });
    }
    if page.locked && !flags.ignore_locked {
        return Err(Error::Locked { txid });
    }
    match page.spending_height {
        Some(spending_height) if spending_height > height => {
            Err(Error::CoinbaseImmature { txid, height: spending_height })
        }
        _ => Ok(()),
    }
}

/// A parent that is gone was spent before it went, if the transaction that spends it is stored.
fn missing(
    view: &mut View<'_>,
    (parent, record): (TxId, u32),
    outpoint: Outpoint,
    by: Spender,
) -> Result<()> {
    if record > 0
        && let Some(master) = view.get::<Master>(&parent)?
    {
        let creating = master.page.creating;
        return Err(if creating {
            Error::Creating { txid: parent }
        } else {
            Error::OutputNotFound { outpoint }
        });
    }
    match view.get::<Master>(&by.txid)? {
        Some(child) if !child.page.creating && !mutants::on("child_not_blessed") => Ok(()),
        _ => Err(Error::TxNotFound { txid: parent }),
    }
}

/// Spending again changes nothing, unless the spender was deleted since: spending would bring it back.
fn spent_again(view: &mut View<'_>, outpoint: Outpoint, by: Spender) -> Result<()> {
    let deleted = view.get::<Master>(&outpoint.txid)?.is_some_and(|m| m.deleted_children.contains(&by.txid));
    if deleted { Err(Error::InvalidSpend { outpoint, by }) } else { Ok(()) }
}

/// Gives outputs back and, where `lock` says so, locks or unlocks their transactions.
pub(crate) fn unspend(
    view: &mut View<'_>,
    rules: &Rules,
    given_back: &Unspend,
    lock: Option<bool>,
) -> Result<()> {
    clear(view, rules, given_back, None)?;
    match lock {
        Some(locked) => change::set_locked(view, rules, &given_back.outpoint.txid, locked),
        None if mutants::on("unspend_unlocks") => {
            change::set_locked(view, rules, &given_back.outpoint.txid, false)
        }
        None => Ok(()),
    }
}

fn clear(view: &mut View<'_>, rules: &Rules, given_back: &Unspend, height: Option<u32>) -> Result<()> {
    let outpoint = given_back.outpoint;
    let (key, slot) = place(view, &outpoint);
    let page = view.page(key)?.ok_or(Error::OutputNotFound { outpoint })?;
    match page.slots().get(slot) {
        None | Some(Slot::Unspendable) => return Err(Error::OutputNotFound { outpoint }),
        Some(Slot::Frozen { .. }) => return Err(Error::Frozen { outpoint }),
        Some(&Slot::Spent { hash, by }) if by == given_back.by || mutants::on("unspend_by_anyone") => {
            if let Some(page) = view.edit_page(key)? {
                page.set(slot, Slot::Unspent { hash });
            }
        }
        Some(_) => {}
    }
    due::outputs_changed(view, rules, key, height)
}
