//! Searching a chunk: bitmaps decide which events are read, and each is checked against the filters before it is given.

use icecore_ledger::Decoder;
use roaring::RoaringBitmap;

use crate::{ChunkEvents, Error, EventRecord, Filter, Order, Position, Query, Result, TermHasher};

/// The most events that are read at once.
const BATCH: usize = 1024;

impl ChunkEvents {
    /// The events of this chunk that a query finds, in its order, at most as many as its limit.
    ///
    /// Positions are those of the history, so a search over many chunks asks each in turn, with the limit that is left,
    /// and resumes after the [`position`](EventRecord::position) of the last event it got; a chunk that lies wholly
    /// before that has nothing to give.
    ///
    /// # Errors
    /// Damage and I/O errors; [`Error::Body`] for an event that the decoder refuses.
    pub fn query(&self, query: &Query, decoder: &dyn Decoder) -> Result<Vec<EventRecord>> {
        let mut found = Vec::new();
        if query.limit == 0 {
            return Ok(found);
        }
        let candidates = self.candidates(query)?;
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
            let items = self.pack.read_items(&batch, 1)?;
            let mut pairs: Vec<_> = batch.into_iter().zip(items).collect();
            if query.order == Order::Descending {
                pairs.reverse();
            }
            for (id, item) in pairs {
                found.extend(self.checked(id, &item, query, decoder)?);
            }
        }
    }

    /// An event, if it passes the filters: its terms may only share keys with theirs.
    fn checked(
        &self,
        id: u32,
        item: &[u8],
        query: &Query,
        decoder: &dyn Decoder,
    ) -> Result<Option<EventRecord>> {
        let record = self.record(id, self.ledger_of(id)?, item)?;
        if query.filters.is_empty() {
            return Ok(Some(record.into_owned()));
        }
        let fields = self.fields(id, record.body, decoder)?;
        Ok(query.matches(&fields).then(|| record.into_owned()))
    }

    pub(crate) fn fields<'a>(
        &self,
        id: u32,
        body: &'a [u8],
        decoder: &dyn Decoder,
    ) -> Result<icecore_ledger::EventFields<'a>> {
        let refused = |source| Error::Body { path: self.paths.events.clone(), id, source };
        decoder.event_fields(body).map_err(refused)
    }

    /// The ids of the events that can match: all that do, and few others.
    fn candidates(&self, query: &Query) -> Result<RoaringBitmap> {
        let counts = self.counts()?;
        let (mut from, mut to) = (0, counts.events());
        if let Some(ledgers) = query.ledgers {
            from = counts.ids_from(ledgers.first);
            to = counts.ids_through(ledgers.last);
        }
        match (query.after, query.order) {
            (None, _) => {}
            (Some(after), Order::Ascending) => from = from.max(counts.ids_from(after.ledger)),
            (Some(after), Order::Descending) => to = to.min(counts.ids_through(after.ledger)),
        }
        let mut ids = RoaringBitmap::new();
        ids.insert_range(from..to);
        if !query.filters.is_empty() {
            ids = self.matching(&query.filters, &ids)?;
        }
        if let Some(after) = query.after {
            self.cut(&mut ids, after, query.order)?;
        }
        Ok(ids)
    }

    /// Those of some ids whose events may pass one of the filters.
    fn matching(&self, filters: &[Filter], ids: &RoaringBitmap) -> Result<RoaringBitmap> {
        let mut any = RoaringBitmap::new();
        let mut hasher = TermHasher::default();
        for filter in filters {
            let mut all = ids.clone();
            for (field, value) in filter.fields().terms() {
                if all.is_empty() {
                    break;
                }
                match self.term(&hasher.key(field, value))? {
                    Some(ids) => all &= ids,
                    None => all.clear(),
                }
            }
            any |= all;
        }
        Ok(any)
    }

    /// Removes from ascending ids those up to a position, or from it on when descending. Events of a ledger ascend by
    /// position, so the place is found by halving.
    fn cut(&self, ids: &mut RoaringBitmap, after: Position, order: Order) -> Result<()> {
        let Some(in_ledger) = self.counts()?.ids_of(after.ledger) else { return Ok(()) };
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
                Some(id) if before(self.event(id)?.position()) => low = middle + 1,
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
}
