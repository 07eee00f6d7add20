//! Searching a chunk, hot or cold: bitmaps decide which events are read, and each is checked against the filters before
//! it is given.

use std::{ops::Range, path::Path};

use icecore_ledger::{Decoder, EventFields};
use roaring::RoaringBitmap;

use crate::{
    Error, EventCounts, EventRecord, Filter, Order, Position, Query, Result, TermHasher, TermKey,
    record::missing,
};

/// The most events that are read at once.
const BATCH: usize = 1024;

/// What a search needs of a store of one chunk's events.
///
/// What one call says must fit what the others say, for as long as the value lives: a store that grows gives a view that
/// does not.
pub trait EventStore {
    /// What the store can refuse; damage that the search finds is reported through it too.
    type Error: From<Error>;

    /// Where the events are, for messages.
    fn path(&self) -> &Path;

    /// The ledgers and their events.
    ///
    /// # Errors
    /// The store's own.
    fn counts(&self) -> Result<&dyn EventCounts, Self::Error>;

    /// The ids of a term's events, as far as they lie in `within`; empty where there is no such term. May say more than
    /// there is, because two terms can share a key, but not less.
    ///
    /// # Errors
    /// The store's own.
    fn term_ids(&self, key: &TermKey, within: Range<u32>) -> Result<RoaringBitmap, Self::Error>;

    /// Calls `visit` with the record of each event, in the order of `ids`, which ascend; at most 1024 at once are asked
    /// for. An event that is counted but not there is damage.
    ///
    /// # Errors
    /// The store's own, and those of `visit`, which end the reading.
    fn read(&self, ids: &[u32], visit: &mut Visit<'_, Self::Error>) -> Result<(), Self::Error>;
}

/// Takes an event's id and the bytes of its record.
pub type Visit<'a, E> = dyn FnMut(u32, &[u8]) -> Result<(), E> + 'a;

/// The events of a chunk that a query finds, in its order, at most as many as its limit.
///
/// Positions are those of the history, so a search over many chunks asks each in turn, with the limit that is left, and
/// resumes after the [`position`](EventRecord::position) of the last event it got; a chunk that lies wholly before that
/// has nothing to give. That chunks are hot or cold makes no difference.
///
/// # Errors
/// The store's own; [`Error::Corrupt`] for a record that is damaged or out of place, [`Error::Body`] for an event that
/// the decoder refuses.
pub fn search<S: EventStore + ?Sized>(
    store: &S,
    query: &Query,
    decoder: &dyn Decoder,
) -> Result<Vec<EventRecord>, S::Error> {
    let search = Search { store, counts: store.counts()?, query, decoder };
    let mut found = Vec::new();
    if query.limit == 0 {
        return Ok(found);
    }
    let candidates = search.candidates()?;
    let mut ids = candidates.iter();
    loop {
        let wanted = (query.limit - found.len()).min(BATCH);
        let mut batch: Vec<u32> = match query.order {
            Order::Ascending => ids.by_ref().take(wanted).collect(),
            Order::Descending => ids.by_ref().rev().take(wanted).collect(),
        };
        if batch.is_empty() {
            return Ok(found);
        }
        batch.sort_unstable();
        let begin = found.len();
        store.read(&batch, &mut |id, item| {
            found.extend(search.checked(id, item)?);
            Ok(())
        })?;
        if query.order == Order::Descending {
            found[begin..].reverse();
        }
    }
}

/// The fields of a stored event.
pub(crate) fn stored_fields<'a>(
    path: &Path,
    id: u32,
    body: &'a [u8],
    decoder: &dyn Decoder,
) -> Result<EventFields<'a>> {
    decoder.event_fields(body).map_err(|source| Error::Body { path: path.to_path_buf(), id, source })
}

fn every(ids: Range<u32>) -> RoaringBitmap {
    let mut bitmap = RoaringBitmap::new();
    bitmap.insert_range(ids);
    bitmap
}

struct Search<'a, S: ?Sized> {
    store: &'a S,
    counts: &'a dyn EventCounts,
    query: &'a Query,
    decoder: &'a dyn Decoder,
}

impl<S: EventStore + ?Sized> Search<'_, S> {
    fn record<'a>(&self, id: u32, item: &'a [u8]) -> Result<EventRecord<&'a [u8]>> {
        let ledger = self.counts.ledger_of(id).ok_or_else(|| missing(self.store.path(), id))?;
        EventRecord::decode_at(self.store.path(), id, ledger, item)
    }

    /// An event, if it passes the filters: its terms may only share keys with theirs.
    fn checked(&self, id: u32, item: &[u8]) -> Result<Option<EventRecord>> {
        let record = self.record(id, item)?;
        if self.query.filters.is_empty() {
            return Ok(Some(record.into_owned()));
        }
        let fields = stored_fields(self.store.path(), id, record.body, self.decoder)?;
        Ok(self.query.matches(&fields).then(|| record.into_owned()))
    }

    /// The ids of the events that can match: all that do, and few others.
    fn candidates(&self) -> Result<RoaringBitmap, S::Error> {
        let (counts, query) = (self.counts, self.query);
        let (mut from, mut to) = (0, counts.event_count());
        if let Some(ledgers) = query.ledgers {
            from = counts.ids_from(ledgers.first);
            to = counts.ids_through(ledgers.last);
        }
        match (query.after, query.order) {
            (None, _) => {}
            (Some(after), Order::Ascending) => from = from.max(counts.ids_from(after.ledger)),
            (Some(after), Order::Descending) => to = to.min(counts.ids_through(after.ledger)),
        }
        if from >= to {
            return Ok(RoaringBitmap::new());
        }
        let mut ids = if query.filters.is_empty() { every(from..to) } else { RoaringBitmap::new() };
        for filter in &query.filters {
            ids |= self.matching(filter, from..to)?;
        }
        if let Some(after) = query.after {
            self.cut(&mut ids, after)?;
        }
        Ok(ids)
    }

    /// Those of some ids whose events may pass a filter.
    fn matching(&self, filter: &Filter, ids: Range<u32>) -> Result<RoaringBitmap, S::Error> {
        let mut hasher = TermHasher::default();
        let mut all: Option<RoaringBitmap> = None;
        for (field, value) in filter.fields().terms() {
            let of_term = self.store.term_ids(&hasher.key(field, value), ids.clone())?;
            let of_all = match all {
                None => of_term,
                Some(all) => all & of_term,
            };
            if of_all.is_empty() {
                return Ok(of_all);
            }
            all = Some(of_all);
        }
        Ok(all.unwrap_or_else(|| every(ids)))
    }

    /// Removes from ascending ids those up to a position, or from it on when descending. Events of a ledger ascend by
    /// position, so the place is found by halving.
    fn cut(&self, ids: &mut RoaringBitmap, after: Position) -> Result<(), S::Error> {
        let Some(in_ledger) = self.counts.ids_of(after.ledger) else { return Ok(()) };
        let order = self.query.order;
        let before = |position| match order {
            Order::Ascending => position <= after,
            Order::Descending => position < after,
        };
        let nth = |n: u64| u32::try_from(n).ok().and_then(|n| ids.select(n));
        let mut low = in_ledger.start.checked_sub(1).map_or(0, |last| ids.rank(last));
        let mut high = low + ids.range_cardinality(in_ledger.clone());
        while low < high {
            let middle = low + (high - low) / 2;
            match nth(middle) {
                Some(id) if before(self.position(id)?) => low = middle + 1,
                _ => high = middle,
            }
        }
        let place = nth(low).unwrap_or(u32::MAX);
        match order {
            Order::Ascending => ids.remove_range(..place),
            Order::Descending => ids.remove_range(place..),
        };
        Ok(())
    }

    fn position(&self, id: u32) -> Result<Position, S::Error> {
        let mut found = None;
        self.store.read(&[id], &mut |id, item| {
            found = Some(self.record(id, item)?.position());
            Ok(())
        })?;
        found.ok_or_else(|| missing(self.store.path(), id).into())
    }
}
