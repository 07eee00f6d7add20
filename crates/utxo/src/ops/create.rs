//! Storing a transaction: its records, and what storing it changes elsewhere.

use std::collections::BTreeSet;

use super::{Result, Rules, View, due};
use crate::{
    CreateOptions, Error, NewTx, Outpoint, Slot, TxId, mutants,
    record::{Extra, Master, Page, TxFacts},
};

/// The largest body that is kept in the database itself.
pub(crate) const INLINE_BODY_BYTES: usize = 32 * 1024;

/// All records of a transaction.
pub(crate) struct Records {
    pub(crate) facts: TxFacts,
    pub(crate) master: Master,
    /// From record 1 on.
    pub(crate) extras: Vec<Extra>,
}

/// True where a transaction is stored in several steps: it has several records, or its body goes to the blob store.
pub(crate) fn is_large(tx: &NewTx, page_size: u32) -> bool {
    tx.outputs.len() > page_size as usize || tx.body.len() > INLINE_BODY_BYTES
}

/// Builds the records of a transaction that is not stored yet.
pub(crate) fn build(
    rules: &Rules,
    page_size: u32,
    tx: &NewTx,
    height: u32,
    options: &CreateOptions,
) -> Result<Records> {
    check(tx)?;
    let spending_height = tx.coinbase.then(|| height.saturating_add(rules.coinbase_maturity_blocks));
    let mut pages = tx.outputs.chunks(page_size as usize).map(|outputs| {
        let slots = outputs.iter().map(|output| match *output {
            None => Slot::Unspendable,
            Some(hash) if options.frozen => Slot::Frozen { hash },
            Some(hash) => Slot::Unspent { hash },
        });
        let mut page = Page::new(slots.collect());
        (page.locked, page.conflicting, page.spending_height) =
            (options.locked, options.conflicting, spending_height);
        page
    });
    let page = pages.next().ok_or(NO_OUTPUTS)?;
    // A page that nothing can spend counts as spent from the start: nothing would ever count it.
    let extras: Vec<_> = pages.map(|page| Extra { last_all_spent: page.all_spent(), page }).collect();
    let external = is_large(tx, page_size);
    let master = Master {
        page,
        blocks: options.mined.clone(),
        total_extra: extras.len() as u32, // fewer than outputs, which check() has numbered
        spent_extra: extras.iter().filter(|extra| extra.last_all_spent).count() as u32,
        unmined_since: options.mined.is_empty().then_some(height),
        preserve_until: None,
        external,
        conflicting_children: Vec::new(),
        deleted_children: Vec::new(),
        created_at_ms: rules.now_ms,
    };
    let facts = TxFacts {
        version: tx.version,
        lock_time: tx.lock_time,
        fee: tx.fee,
        size_bytes: tx.size_bytes,
        coinbase: tx.coinbase,
        inpoints: tx.inpoints.clone(),
        body: (!external).then(|| tx.body.clone()),
    };
    Ok(Records { facts, master, extras })
}

const NO_OUTPUTS: Error = Error::Invalid { what: "a transaction without outputs cannot be stored" };

fn check(tx: &NewTx) -> Result<()> {
    if tx.outputs.is_empty() {
        return Err(NO_OUTPUTS);
    }
    // The last page is numbered to its end.
    if tx.outputs.len() > i32::MAX as usize || tx.inpoints.len() > i32::MAX as usize {
        return Err(Error::Invalid { what: "a transaction cannot have more than 2^31-1 inputs or outputs" });
    }
    Ok(())
}

/// The height that storing a transaction happens at: that of the last block it was mined in, or the caller's.
pub(crate) fn own_height(height: u32, options: &CreateOptions) -> u32 {
    options.mined.iter().map(|block| block.height).max().unwrap_or(height)
}

/// The transactions whose records storing this one changes.
pub(crate) fn rows(tx: &NewTx, options: &CreateOptions) -> BTreeSet<TxId> {
    let parents = tx.inpoints.iter().filter(|_| options.conflicting).map(|inpoint| inpoint.txid);
    parents.chain([tx.txid]).collect()
}

/// Stores a transaction of one record.
pub(crate) fn create(
    view: &mut View<'_>,
    rules: &Rules,
    tx: &NewTx,
    height: u32,
    options: &CreateOptions,
) -> Result<()> {
    let records = build(rules, view.page_size(), tx, height, options)?;
    if view.get::<Master>(&tx.txid)?.is_some() && !mutants::on("create_overwrites") {
        return Err(Error::TxExists { txid: tx.txid });
    }
    if options.conflicting {
        tell_parents(view, &tx.txid, &tx.inpoints, true)?;
    }
    view.put_new(&tx.txid, records.facts)?;
    view.put(&tx.txid, records.master)?;
    if !mutants::on("create_without_dah") {
        due::evaluate(view, rules, &tx.txid, Some(own_height(height, options)))?;
    }
    Ok(())
}

/// Tells the parents of a transaction that it is in conflict, or no longer is. Parents that are gone need not know.
pub(crate) fn tell_parents(
    view: &mut View<'_>,
    txid: &TxId,
    inpoints: &[Outpoint],
    conflicting: bool,
) -> Result<()> {
    let parents: BTreeSet<_> = inpoints.iter().map(|inpoint| inpoint.txid).collect();
    for parent in &parents {
        let Some(master) = view.get::<Master>(parent)? else { continue };
        if master.conflicting_children.contains(txid) == conflicting {
            continue;
        }
        if let Some(master) = view.edit::<Master>(parent)? {
            if conflicting {
                master.conflicting_children.push(*txid);
            } else {
                master.conflicting_children.retain(|child| child != txid);
            }
        }
    }
    Ok(())
}
