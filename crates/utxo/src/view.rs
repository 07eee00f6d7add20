//! What a batch of operations reads and changes: a layer over a backend, committed as one batch or not at all.
//!
//! The view knows nothing of threads: whoever makes one holds the [rows](crate::rows) of every transaction that it
//! changes. Within a view each item is a unit of its own ([`View::item`]): what it changed is taken back when it fails,
//! so one bad record costs one item, not the batch.

use std::collections::BTreeMap;

use crate::{
    Backend, Batch, Family, Result, TxId, mutants,
    record::{Due, Extra, FollowUp, FollowUpKey, Intent, Lock, Master, Page, Stored, TxFacts},
};

struct Entry<R> {
    /// What the record is now; an error is one of reading it.
    now: Result<Option<R>>,
    /// Under which heights the database knows it.
    due_before: [Option<u32>; 2],
    changed: bool,
    /// The item that changed it last.
    item: u64,
}

/// The records of one kind that a view has seen.
pub(crate) struct Table<R: Stored> {
    entries: BTreeMap<R::Key, Entry<R>>,
    /// What the current item found where it changed something.
    undo: Vec<(R::Key, Option<R>, bool)>,
}

impl<R: Stored> Default for Table<R> {
    fn default() -> Self {
        Table { entries: BTreeMap::new(), undo: Vec::new() }
    }
}

impl<R: Stored> Table<R> {
    fn load(&mut self, backend: &dyn Backend, page_size: u32, keys: &[R::Key]) {
        let missing: Vec<_> = keys.iter().filter(|key| !self.entries.contains_key(key)).collect();
        if missing.is_empty() {
            return;
        }
        let bytes: Vec<_> = missing.iter().map(|key| R::key(key)).collect();
        for (key, value) in missing.into_iter().zip(backend.read(R::FAMILY, &bytes)) {
            let decode = |value: Vec<u8>| R::decode(key, page_size, &value);
            let now = match value.and_then(|value| value.map(decode).transpose()) {
                Err(error) if error.is_corrupt() && mutants::on("garbage_is_missing") => Ok(None),
                now => now,
            };
            let due_before = now.as_ref().ok().and_then(Option::as_ref).map_or([None, None], Stored::due);
            self.entries.insert(key.clone(), Entry { now, due_before, changed: false, item: 0 });
        }
    }

    /// The record for changing, remembered as it was.
    fn edit(&mut self, key: &R::Key, item: u64) -> Result<&mut Option<R>> {
        // What was not loaded is of no interest: it is written over.
        let entry = self.entries.entry(key.clone()).or_insert_with(|| Entry {
            now: Ok(None),
            due_before: [None, None],
            changed: false,
            item: 0,
        });
        let now = entry.now.as_mut().map_err(|error| error.clone())?;
        if entry.item != item {
            self.undo.push((key.clone(), now.clone(), entry.changed));
            entry.item = item;
        }
        entry.changed = true;
        Ok(now)
    }

    fn settle(&mut self, keep: bool) {
        for (key, before, changed) in self.undo.drain(..).rev() {
            if let (false, Some(entry)) = (keep, self.entries.get_mut(&key)) {
                (entry.now, entry.changed, entry.item) = (Ok(before), changed, 0);
            }
        }
    }

    fn changed(&self) -> impl Iterator<Item = (&R::Key, &Entry<R>, Option<&R>)> {
        let changed = self.entries.iter().filter(|(_, entry)| entry.changed);
        changed.map(|(key, entry)| (key, entry, entry.now.as_ref().ok().and_then(Option::as_ref)))
    }

    fn drain_into(&self, batch: &mut Batch) {
        for (key, entry, now) in self.changed() {
            let bytes = R::key(key);
            let due = now.map_or([None, None], Stored::due);
            for (why, (before, now)) in
                [Due::Delete, Due::Preserve].into_iter().zip(entry.due_before.into_iter().zip(due))
            {
                if before == now {
                    continue;
                }
                let line = |height| R::due_key(key, why, height).map(|line| line.encode());
                let gone = before.and_then(line).map(|key| (Family::Due, key, None));
                let new = now.and_then(line).map(|key| (Family::Due, key, Some(Vec::new())));
                batch.changes.extend(gone.into_iter().chain(new));
            }
            let value = now.map(|record| record.encode(&bytes));
            batch.changes.push((R::FAMILY, bytes, value));
        }
    }
}

/// The layer itself.
pub(crate) struct View<'a> {
    backend: &'a dyn Backend,
    page_size: u32,
    item: u64,
    masters: Table<Master>,
    extras: Table<Extra>,
    facts: Table<TxFacts>,
    locks: Table<Lock>,
    follow_ups: Table<FollowUp>,
    intents: Table<Intent>,
}

/// A kind of record that a view holds.
pub(crate) trait Viewed: Stored {
    fn table<'v>(view: &'v mut View<'_>) -> &'v mut Table<Self>;
}

macro_rules! viewed {
    ($($kind:ty => $table:ident),* $(,)?) => {
        $(impl Viewed for $kind {
            fn table<'v>(view: &'v mut View<'_>) -> &'v mut Table<Self> {
                &mut view.$table
            }
        })*

        impl View<'_> {
            fn settle(&mut self, keep: bool) {
                $(self.$table.settle(keep);)*
            }

            /// Everything that changed, in the order of its keys.
            pub(crate) fn finish(self) -> Batch {
                let mut batch = Batch::default();
                $(self.$table.drain_into(&mut batch);)*
                batch
            }
        }
    };
}

viewed! {
    Extra => extras,
    TxFacts => facts,
    Master => masters,
    Lock => locks,
    FollowUp => follow_ups,
    Intent => intents,
}

impl<'a> View<'a> {
    pub(crate) fn new(backend: &'a dyn Backend, page_size: u32) -> Self {
        View {
            backend,
            page_size,
            item: 0,
            masters: Table::default(),
            extras: Table::default(),
            facts: Table::default(),
            locks: Table::default(),
            follow_ups: Table::default(),
            intents: Table::default(),
        }
    }

    pub(crate) fn page_size(&self) -> u32 {
        self.page_size
    }

    /// Runs one item; what it changed is taken back when it fails.
    pub(crate) fn item<T>(&mut self, run: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        self.item += 1;
        let result = run(self);
        self.settle(result.is_ok());
        result
    }

    /// Reads what is not known yet in one go.
    pub(crate) fn load<R: Viewed>(&mut self, keys: &[R::Key]) {
        let (backend, page_size) = (self.backend, self.page_size);
        R::table(self).load(backend, page_size, keys);
    }

    pub(crate) fn get<R: Viewed>(&mut self, key: &R::Key) -> Result<Option<&R>> {
        self.load::<R>(std::slice::from_ref(key));
        match R::table(self).entries.get(key).map(|entry| &entry.now) {
            Some(Ok(record)) => Ok(record.as_ref()),
            Some(Err(error)) => Err(error.clone()),
            None => Ok(None),
        }
    }

    /// The record for changing, if there is one.
    pub(crate) fn edit<R: Viewed>(&mut self, key: &R::Key) -> Result<Option<&mut R>> {
        if self.get::<R>(key)?.is_none() {
            return Ok(None);
        }
        let item = self.item;
        Ok(R::table(self).edit(key, item)?.as_mut())
    }

    pub(crate) fn put<R: Viewed>(&mut self, key: &R::Key, record: R) -> Result<()> {
        self.load::<R>(std::slice::from_ref(key));
        let item = self.item;
        *R::table(self).edit(key, item)? = Some(record);
        Ok(())
    }

    /// Puts a record that nobody could have read before, over whatever may be there.
    pub(crate) fn put_new<R: Viewed>(&mut self, key: &R::Key, record: R) -> Result<()> {
        let item = self.item;
        *R::table(self).edit(key, item)? = Some(record);
        Ok(())
    }

    pub(crate) fn remove<R: Viewed>(&mut self, key: &R::Key) -> Result<()> {
        if self.get::<R>(key)?.is_some() {
            let item = self.item;
            *R::table(self).edit(key, item)? = None;
        }
        Ok(())
    }

    /// A page of a transaction, whichever kind of record holds it.
    pub(crate) fn page(&mut self, (txid, record): (TxId, u32)) -> Result<Option<&Page>> {
        Ok(match record {
            0 => self.get::<Master>(&txid)?.map(|master| &master.page),
            _ => self.get::<Extra>(&(txid, record))?.map(|extra| &extra.page),
        })
    }

    /// The same for changing.
    pub(crate) fn edit_page(&mut self, (txid, record): (TxId, u32)) -> Result<Option<&mut Page>> {
        Ok(match record {
            0 => self.edit::<Master>(&txid)?.map(|master| &mut master.page),
            _ => self.edit::<Extra>(&(txid, record))?.map(|extra| &mut extra.page),
        })
    }

    /// The keys of what is owed since this view began.
    pub(crate) fn owed(&self) -> Vec<FollowUpKey> {
        self.follow_ups.changed().filter(|(.., now)| now.is_some()).map(|(key, ..)| *key).collect()
    }
}
