//! One open database: its backend, the rows that are held in it, and what opening it settles.
//!
//! Several stores of one process may share it, one after the other or at once: the rows keep them apart.

use std::{
    hash::{BuildHasher, RandomState},
    sync::Arc,
};

use crate::{
    Backend, Batch, Error, Family, Result, TxId,
    blob::Blobs,
    mutants,
    ops::{Rules, due},
    record::{FollowUp, FollowUpKey, Intent, Master, Owed, StoreFacts, Stored},
    rows::Rows,
    view::View,
};

/// The database of a store.
pub(crate) struct Client {
    backend: Arc<dyn Backend>,
    pub(crate) rows: Rows,
    pub(crate) page_size: u32,
    /// Tells this opening of the database from all others.
    pub(crate) owner: u64,
}

/// What a batch of items came to.
pub(crate) struct Outcome<R> {
    /// One per item, in order.
    pub(crate) results: Vec<Result<R>>,
    /// What the batch left to be done.
    pub(crate) owed: Vec<FollowUpKey>,
}

impl Client {
    /// Takes a database into use: checks what it was made with, and settles what an earlier user left behind.
    pub(crate) fn connect(
        backend: Arc<dyn Backend>,
        page_size: u32,
        blobs: &Blobs,
        rules: &Rules,
    ) -> Result<Client> {
        check_facts(&*backend, page_size)?;
        let owner = RandomState::new().hash_one(rules.now_ms);
        let client = Client { backend, rows: Rows::default(), page_size, owner };
        client.release_locks(blobs)?;
        client.pay_all(blobs, rules)?;
        Ok(client)
    }

    pub(crate) fn backend(&self) -> &dyn Backend {
        &*self.backend
    }

    pub(crate) fn view(&self) -> View<'_> {
        View::new(&*self.backend, self.page_size)
    }

    pub(crate) fn commit(&self, view: View<'_>) -> Result<()> {
        let batch = view.finish();
        if batch.changes.is_empty() { Ok(()) } else { self.backend.commit(batch) }
    }

    pub(crate) fn close(&self) -> Result<()> {
        self.backend.close()
    }

    /// Runs items over one view, commits it, and says what became of each. The caller holds the rows.
    pub(crate) fn run<I, R>(
        &self,
        mut view: View<'_>,
        items: impl Iterator<Item = I>,
        mut each: impl FnMut(&mut View<'_>, I) -> Result<R>,
    ) -> Outcome<R> {
        let results: Vec<_> = items.map(|item| each(&mut view, item)).collect();
        let owed = view.owed();
        match self.commit(view) {
            Ok(()) => Outcome { results, owed },
            Err(_) if mutants::on("failed_commit_confirmed") => Outcome { results, owed },
            Err(error) => {
                // Refusals too: one may rest on what an item before it would have stored.
                let results = results.iter().map(|_| Err(error.clone())).collect();
                Outcome { results, owed: Vec::new() }
            }
        }
    }

    /// Takes the locks of whoever used the database last. A database has one process at a time: whoever held one is gone.
    fn release_locks(&self, blobs: &Blobs) -> Result<()> {
        let mut batch = Batch::default();
        self.backend.scan(Family::Lock, &[], &mut |key, _| {
            batch.changes.push((Family::Lock, key.to_vec(), None));
            true
        })?;
        if batch.changes.is_empty() || mutants::on("locks_survive") {
            return Ok(());
        }
        for (_, key, _) in &batch.changes {
            if let Ok(txid) = key.as_slice().try_into() {
                self.discard_unused_body(blobs, &TxId(txid))?;
            }
        }
        self.backend.commit(batch)
    }

    /// Removes what there is of the body of a transaction whose storing ended, for good or ill, where no record came of
    /// it. The lock of that transaction is there until then: it tells of the body if the process dies.
    pub(crate) fn discard_unused_body(&self, blobs: &Blobs, txid: &TxId) -> Result<()> {
        let master = self.backend.read(Family::Master, &[Master::key(txid)]).pop().unwrap_or(Ok(None))?;
        if master.is_some() || mutants::on("unused_bodies_kept") { Ok(()) } else { blobs.discard(txid) }
    }

    /// Does what committed batches still owe.
    fn pay_all(&self, blobs: &Blobs, rules: &Rules) -> Result<()> {
        let mut owed = Vec::new();
        self.backend.scan(Family::FollowUp, &[], &mut |key, _| {
            owed.push(FollowUpKey::decode(key).map_err(|what| Error::damaged(Family::FollowUp, key, what)));
            true
        })?;
        for key in owed.into_iter().filter(|_| !mutants::on("follow_ups_ignored")) {
            match key.and_then(|key| self.pay(blobs, rules, &key)) {
                Err(error) if error.is_unwritten() => return Err(error),
                // One damaged transaction does not keep the others from being used.
                Err(error) => tracing::error!(%error, "left undone"),
                Ok(()) => {}
            }
        }
        Ok(())
    }

    fn pay(&self, blobs: &Blobs, rules: &Rules, key: &FollowUpKey) -> Result<()> {
        let mut view = self.view();
        view.item(|view| match key.owed {
            Owed::Count { record } => {
                due::pay_count(view, rules, &key.txid, record)?;
                due::pay_mirror(view, &key.txid)
            }
            Owed::Mirror => due::pay_mirror(view, &key.txid),
            Owed::RemoveBody => {
                if view.get::<Master>(&key.txid)?.is_none() {
                    blobs.remove(&key.txid)?;
                }
                view.remove::<FollowUp>(key)
            }
        })?;
        self.commit(view)
    }

    /// Removes the bodies of deleted transactions, whose rows are still held. What cannot be removed stays owed.
    pub(crate) fn remove_bodies(&self, blobs: &Blobs, owed: &[FollowUpKey]) -> Result<()> {
        let mut view = self.view();
        for key in owed.iter().filter(|key| key.owed == Owed::RemoveBody) {
            blobs.remove(&key.txid)?;
            view.item(|view| view.remove::<FollowUp>(key))?;
        }
        self.commit(view)
    }

    /// Every transaction, in order.
    pub(crate) fn txids(&self) -> Result<Vec<TxId>> {
        let mut keys = Vec::new();
        self.backend.scan(Family::Master, &[], &mut |key, _| {
            keys.push(
                key.try_into()
                    .map(TxId)
                    .map_err(|_| Error::damaged(Family::Master, key, "its key is no txid")),
            );
            true
        })?;
        keys.into_iter().collect()
    }

    /// What runs over several transactions began and did not end.
    pub(crate) fn intents(&self) -> Result<Vec<Intent>> {
        let mut intents = Vec::new();
        self.backend.scan(Family::Intent, &[], &mut |key, value| {
            let id = key.try_into().map_err(|_| Error::damaged(Family::Intent, key, "its key is no hash"));
            intents.push(id.and_then(|id| Intent::decode(&id, self.page_size, value)));
            true
        })?;
        intents.into_iter().collect()
    }
}

fn check_facts(backend: &dyn Backend, page_size: u32) -> Result<()> {
    let key = StoreFacts::key(&());
    let found = backend.read(Family::Store, std::slice::from_ref(&key)).pop().unwrap_or(Ok(None))?;
    let facts = match found {
        Some(bytes) => StoreFacts::decode(&(), 0, &bytes)?,
        None => return make(backend, page_size, key),
    };
    if facts.page_size == page_size || mutants::on("page_size_unchecked") {
        return Ok(());
    }
    Err(Error::PageSize { stored: facts.page_size, configured: page_size })
}

fn make(backend: &dyn Backend, page_size: u32, key: Vec<u8>) -> Result<()> {
    let mut empty = true;
    backend.scan(Family::Master, &[], &mut |_, _| {
        empty = false;
        false
    })?;
    if !empty {
        return Err(Error::damaged(Family::Store, &key, "it is missing, and there are transactions"));
    }
    let value = StoreFacts { page_size }.encode(&key);
    backend.commit(Batch { changes: vec![(Family::Store, key, Some(value))] })
}
