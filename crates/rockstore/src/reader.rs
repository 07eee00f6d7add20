//! Reading: through a [`Reader`] the newest rows, through a [`Snapshot`] those of one moment, both with the same calls.

use std::{fmt, ops::Deref, sync::Arc};

use rocksdb::{DBPinnableSlice, DBRawIterator, ReadOptions, properties};

use crate::{Error, FamilyId, Result, store::Core};

/// The calls that read rows.
pub trait Reads {
    /// A row's value, borrowed from the store's memory.
    ///
    /// # Errors
    /// [`Error::Corrupt`] for damage, [`Error::Io`]; so for all methods.
    fn get(&self, family: FamilyId, key: &[u8]) -> Result<Option<Value<'_>>>;

    /// The values of several rows of one family, in the order of the keys; quickest when those ascend.
    ///
    /// # Errors
    /// As of [`get`](Reads::get).
    fn multi_get<'k>(
        &self,
        family: FamilyId,
        keys: impl IntoIterator<Item = &'k [u8]>,
    ) -> Result<Vec<Option<Value<'_>>>>;

    /// The rows of a span of keys, in order, as they are now.
    ///
    /// # Errors
    /// As of [`get`](Reads::get).
    fn rows(&self, family: FamilyId, span: Span) -> Result<Rows<'_>>;
}

/// A right to read: an operation in flight, which closing waits for. Cheap to get; hold it no longer than needed.
#[derive(Debug)]
pub struct Reader {
    core: Arc<Core>,
}

/// How often rows were set and removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RowCounts {
    /// Rows set.
    pub sets: u64,
    /// Rows, and ranges of rows, removed.
    pub removals: u64,
}

/// The rows of one moment.
pub struct Snapshot<'a> {
    core: &'a Core,
    options: ReadOptions,
    snapshot: rocksdb::Snapshot<'a>,
}

impl Reader {
    pub(crate) fn new(core: Arc<Core>) -> Self {
        Reader { core }
    }

    /// How often a family's rows were set and removed, as far as that shows without reading them. What was overwritten or
    /// removed may count or not, as RocksDB has dropped it or not yet: only where no row was ever set twice nor removed is
    /// this the number of rows.
    ///
    /// # Errors
    /// [`Error::NoFamily`]; [`Error::Refused`] when RocksDB does not say.
    pub fn row_counts(&self, family: FamilyId) -> Result<RowCounts> {
        use properties::*;
        let (_, handle) = self.core.family(family)?;
        let refused = || {
            let what = "RocksDB does not tell its properties".to_owned();
            Error::Refused { path: self.core.path.clone(), op: "count rows", what }
        };
        let in_memory = |name| self.core.db.property_int_value_cf(handle, name).ok().flatten();
        let tables = self.core.db.property_value_cf(handle, AGGREGATED_TABLE_PROPERTIES);
        let tables = tables.ok().flatten().ok_or_else(refused)?;
        let in_files = |name| {
            let mut pairs = tables.split(';').filter_map(|pair| pair.trim().split_once('='));
            pairs.find(|(found, _)| *found == name).and_then(|(_, number)| number.parse::<u64>().ok())
        };
        let sum = |in_file, in_active, in_full| {
            Some(in_files(in_file)? + in_memory(in_active)? + in_memory(in_full)?)
        };
        let entries = sum("# entries", NUM_ENTRIES_ACTIVE_MEM_TABLE, NUM_ENTRIES_IMM_MEM_TABLES);
        let removals = sum("# deletions", NUM_DELETES_ACTIVE_MEM_TABLE, NUM_DELETES_IMM_MEM_TABLES);
        let (Some(entries), Some(removals)) = (entries, removals) else { return Err(refused()) };
        Ok(RowCounts { sets: entries.saturating_sub(removals), removals })
    }

    /// Keeps the rows as they are now.
    pub fn snapshot(&self) -> Snapshot<'_> {
        let snapshot = self.core.db.snapshot();
        let mut options = ReadOptions::default();
        options.set_snapshot(&snapshot);
        Snapshot { core: &self.core, options, snapshot }
    }
}

impl Reads for Reader {
    fn get(&self, family: FamilyId, key: &[u8]) -> Result<Option<Value<'_>>> {
        get(&self.core, &self.core.read_options, family, key)
    }

    fn multi_get<'k>(
        &self,
        family: FamilyId,
        keys: impl IntoIterator<Item = &'k [u8]>,
    ) -> Result<Vec<Option<Value<'_>>>> {
        multi_get(&self.core, &self.core.read_options, family, keys)
    }

    fn rows(&self, family: FamilyId, span: Span) -> Result<Rows<'_>> {
        rows(&self.core, ReadOptions::default(), family, span)
    }
}

impl Reads for Snapshot<'_> {
    fn get(&self, family: FamilyId, key: &[u8]) -> Result<Option<Value<'_>>> {
        get(self.core, &self.options, family, key)
    }

    fn multi_get<'k>(
        &self,
        family: FamilyId,
        keys: impl IntoIterator<Item = &'k [u8]>,
    ) -> Result<Vec<Option<Value<'_>>>> {
        multi_get(self.core, &self.options, family, keys)
    }

    fn rows(&self, family: FamilyId, span: Span) -> Result<Rows<'_>> {
        let mut options = ReadOptions::default();
        options.set_snapshot(&self.snapshot);
        rows(self.core, options, family, span)
    }
}

impl fmt::Debug for Snapshot<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshot").field("path", &self.core.path).finish_non_exhaustive()
    }
}

fn get<'a>(core: &'a Core, options: &ReadOptions, id: FamilyId, key: &[u8]) -> Result<Option<Value<'a>>> {
    let (_, handle) = core.family(id)?;
    let found = core.db.get_pinned_cf_opt(handle, key, options);
    Ok(found.map_err(|e| Error::of(&core.path, "read a row", &e))?.map(Value))
}

fn multi_get<'a, 'k>(
    core: &'a Core,
    options: &ReadOptions,
    id: FamilyId,
    keys: impl IntoIterator<Item = &'k [u8]>,
) -> Result<Vec<Option<Value<'a>>>> {
    let (_, handle) = core.family(id)?;
    let found = core.db.batched_multi_get_cf_opt(handle, keys, false, options);
    let value = |found: Result<Option<DBPinnableSlice<'a>>, _>| {
        Ok(found.map_err(|e| Error::of(&core.path, "read rows", &e))?.map(Value))
    };
    found.into_iter().map(value).collect()
}

fn rows(core: &Core, mut options: ReadOptions, id: FamilyId, span: Span) -> Result<Rows<'_>> {
    let (family, handle) = core.family(id)?;
    options.set_total_order_seek(!span.prefix.is_some_and(|len| family.is_whole_prefix(&span.from[..len])));
    if span.scan {
        options.fill_cache(false);
        options.set_readahead_size(2 << 20);
    }
    if !span.from.is_empty() {
        options.set_iterate_lower_bound(span.from);
    }
    if let Some(to) = span.to {
        options.set_iterate_upper_bound(to);
    }
    let raw = core.db.raw_iterator_cf_opt(handle, options);
    Ok(Rows { core, raw, descending: span.descending, begun: false })
}

/// A value, borrowed from the store's memory for as long as it is held.
pub struct Value<'a>(DBPinnableSlice<'a>);

impl Deref for Value<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl AsRef<[u8]> for Value<'_> {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The keys of an iteration and its direction.
#[derive(Clone, Debug, Default)]
pub struct Span {
    from: Vec<u8>,
    to: Option<Vec<u8>>,
    /// The length of the prefix, where it is one that was asked for.
    prefix: Option<usize>,
    descending: bool,
    scan: bool,
}

impl Span {
    /// All keys.
    pub fn all() -> Self {
        Self::default()
    }

    /// Keys with `from <= key`.
    pub fn from(from: impl Into<Vec<u8>>) -> Self {
        Span { from: from.into(), ..Self::default() }
    }

    /// Keys with `from <= key < to`.
    pub fn between(from: impl Into<Vec<u8>>, to: impl Into<Vec<u8>>) -> Self {
        Span { from: from.into(), to: Some(to.into()), ..Self::default() }
    }

    /// Keys that begin like this.
    pub fn prefix(prefix: impl Into<Vec<u8>>) -> Self {
        let from = prefix.into();
        let mut to = from.clone();
        while to.last() == Some(&u8::MAX) {
            to.pop();
        }
        let to = to.split_last().map(|(last, rest)| [rest, &[last + 1]].concat());
        Span { prefix: Some(from.len()), from, to, ..Self::default() }
    }

    /// From the last key to the first.
    #[must_use]
    pub fn descending(mut self) -> Self {
        self.descending = true;
        self
    }

    /// For reading much, once: blocks are read ahead, and do not displace others from the cache.
    #[must_use]
    pub fn scan(mut self) -> Self {
        self.scan = true;
        self
    }
}

/// Rows in the order of their keys, each lent until the next one is asked for.
pub struct Rows<'a> {
    core: &'a Core,
    raw: DBRawIterator<'a>,
    descending: bool,
    begun: bool,
}

impl Rows<'_> {
    /// The next row as (key, value); `None` after the last.
    ///
    /// # Errors
    /// [`Error::Corrupt`], [`Error::Io`].
    pub fn next_row(&mut self) -> Result<Option<(&[u8], &[u8])>> {
        match (self.begun, self.descending) {
            (false, false) => self.raw.seek_to_first(),
            (false, true) => self.raw.seek_to_last(),
            (true, _) if !self.raw.valid() => {}
            (true, false) => self.raw.next(),
            (true, true) => self.raw.prev(),
        }
        self.begun = true;
        if !self.raw.valid() {
            self.raw.status().map_err(|e| Error::of(&self.core.path, "read rows in order", &e))?;
        }
        Ok(self.raw.item())
    }
}

impl fmt::Debug for Rows<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rows").field("path", &self.core.path).finish_non_exhaustive()
    }
}
