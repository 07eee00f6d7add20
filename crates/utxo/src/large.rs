//! Storing a transaction of several records, or with a large body, in steps that may each be the last.
//!
//! ```text
//! lock     a record that says who is at it, and until when; while it is there, there may be a body without records
//! body     into the blob store; one that is there already is fine
//! records  all marked `creating`, which keeps them from being spent; those that are there already stay
//! clear    the mark goes: extra records first, the master last; the lock goes with it
//! ```
//!
//! Whatever was reached when it stops, the next attempt goes on from there. Once all records are there the data is
//! safe: a failure to clear is no failure of the call.

use crate::{
    CreateOptions, Error, NewTx, Result, TxId,
    blob::Blobs,
    client::Client,
    mutants,
    ops::{
        self, Rules,
        create::{self, Records},
        due,
    },
    record::{Extra, Lock, Master},
};

/// How many records one batch holds at most.
const RECORDS_PER_BATCH: usize = 64;

/// Stores the transaction, start to end, on the caller's thread.
pub(crate) fn create(
    client: &Client,
    blobs: &Blobs,
    rules: &Rules,
    tx: &NewTx,
    height: u32,
    options: &CreateOptions,
) -> Result<()> {
    let records = create::build(rules, client.page_size, tx, height, options)?;
    let _held = client.rows.hold(create::rows(tx, options));
    let stored = client.view().get::<Master>(&tx.txid)?.map(|master| master.page.creating);
    if stored == Some(false) {
        return Err(Error::TxExists { txid: tx.txid });
    }
    lock(client, rules, tx, &records, options)?;
    let made = put_all(client, blobs, tx, records);
    let made = made.inspect_err(|error| {
        // The records that were made stay for the next attempt; a lock that stays too runs out, and what it tells of is
        // seen to when the database is next opened. So it stays where records may turn out to have been stored.
        if !matches!(error, Error::Unknown { .. }) {
            let _ = client.discard_unused_body(blobs, &tx.txid).and_then(|()| unlock(client, &tx.txid));
        }
    })?;
    if !made && mutants::on("retry_does_not_clear") {
        return Err(Error::TxExists { txid: tx.txid });
    }
    if let Err(error) = clear(client, rules, &tx.txid, create::own_height(height, options)) {
        tracing::warn!(txid = %tx.txid, %error, "stored; cannot be spent until it is created again or mined");
    }
    if made { Ok(()) } else { Err(Error::TxExists { txid: tx.txid }) }
}

fn lock(
    client: &Client,
    rules: &Rules,
    tx: &NewTx,
    records: &Records,
    options: &CreateOptions,
) -> Result<()> {
    let seconds = 30 + 2 * (1 + records.extras.len() as u64);
    let lock = Lock { expires_at_ms: rules.now_ms + 1000 * seconds.min(300), owner: client.owner };
    let mut view = client.view();
    view.item(|view| {
        let other = view.get::<Lock>(&tx.txid)?.filter(|held| held.owner != lock.owner);
        if other.is_some_and(|held| held.expires_at_ms > rules.now_ms) {
            return Err(Error::Unavailable { what: format!("somebody else is storing {}", tx.txid) });
        }
        if options.conflicting {
            create::tell_parents(view, &tx.txid, &tx.inpoints, true)?;
        }
        view.put(&tx.txid, lock)
    })?;
    client.commit(view)
}

fn unlock(client: &Client, txid: &TxId) -> Result<()> {
    let mut view = client.view();
    view.item(|view| view.remove::<Lock>(txid))?;
    client.commit(view)
}

/// Makes sure that the body and all records are there; true where a record was missing.
fn put_all(client: &Client, blobs: &Blobs, tx: &NewTx, records: Records) -> Result<bool> {
    if !mutants::on("body_forgotten") {
        blobs.put(&tx.txid, &tx.body)?;
    }
    let Records { facts, mut master, extras } = records;
    master.page.creating = true;
    let mut view = client.view();
    let mut made = view.item(|view| {
        let missing = view.get::<Master>(&tx.txid)?.is_none();
        if missing {
            view.put_new(&tx.txid, facts)?;
            view.put(&tx.txid, master)?;
        }
        Ok(missing)
    })?;
    client.commit(view)?;
    let extras: Vec<_> = (1..).zip(extras).collect();
    for chunk in extras.chunks(RECORDS_PER_BATCH) {
        let mut view = client.view();
        view.load::<Extra>(&chunk.iter().map(|(record, _)| (tx.txid, *record)).collect::<Vec<_>>());
        for (record, extra) in chunk {
            let key = (tx.txid, *record);
            made |= view.item(|view| {
                let missing = view.get::<Extra>(&key)?.is_none();
                if missing {
                    let mut extra = extra.clone();
                    extra.page.creating = true;
                    view.put(&key, extra)?;
                }
                Ok(missing)
            })?;
        }
        client.commit(view)?;
    }
    Ok(made)
}

/// Takes the mark from all records, the master last, and lets the transaction go.
fn clear(client: &Client, rules: &Rules, txid: &TxId, height: u32) -> Result<()> {
    let keys = ops::stored_extras(&mut client.view(), txid)?;
    for chunk in keys.chunks(RECORDS_PER_BATCH) {
        let mut view = client.view();
        view.load::<Extra>(chunk);
        view.item(|view| {
            for key in chunk {
                if let Some(extra) = view.edit::<Extra>(key)? {
                    extra.page.creating = false;
                }
            }
            Ok(())
        })?;
        client.commit(view)?;
    }
    let mut view = client.view();
    view.item(|view| {
        if let Some(master) = view.edit::<Master>(txid)? {
            master.page.creating = false;
        }
        if due::evaluate(view, rules, txid, Some(height))? {
            due::mirror(view, txid)?;
        }
        view.remove::<Lock>(txid)
    })?;
    client.commit(view)
}
