//! Reading through a [`View`]: a ledger, ledgers page by page, a transaction by its hash, events page by page.

use std::{fmt, str::FromStr};

use icecore_catalog::{Artifact, FileState};
use icecore_events::{EventRecord, Filter, Order, Position, Query};
use icecore_ledger::{ChunkId, Decoder, LedgerRange, LedgerSeq, TxHash};

use crate::{
    Error, Result, View,
    view::{Place, Serving},
};

/// How many chunks one page of events looks through at most: a page without matches ends there, and still gets ahead.
const CHUNKS_PER_PAGE: usize = 256;

/// Where a page ends and the next one goes on, after it: coordinates of the history, never of a store. Prints and parses as
/// `LEDGER-TX-OP-EVENT`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cursor(pub Position);

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Position { ledger, tx_index, op_index, event_index } = self.0;
        write!(f, "{ledger}-{tx_index}-{op_index}-{event_index}")
    }
}

impl FromStr for Cursor {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let bad = || Error::BadCursor { text: text.chars().take(80).collect() };
        let number = |word: &str| {
            let plain = !word.is_empty() && word.bytes().all(|c| c.is_ascii_digit());
            word.parse::<u32>().ok().filter(|_| plain).ok_or_else(bad)
        };
        let words: Vec<&str> = text.splitn(5, '-').collect();
        let [ledger, tx, op, event] = words[..] else { return Err(bad()) };
        Ok(Cursor(Position {
            ledger: LedgerSeq(number(ledger)?),
            tx_index: number(tx)?,
            op_index: number(op)?,
            event_index: number(event)?,
        }))
    }
}

/// Some of the answers, and where to go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<T> {
    /// The answers, in order.
    pub items: Vec<T>,
    /// After what the next page begins. Also a page without answers is ahead of the one before.
    pub cursor: Cursor,
    /// Whether nothing is left for now; asked again later, the same cursor may give more.
    pub is_last: bool,
}

/// Which ledgers are asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// The ledgers; `None` for all. The end that is reached last is clipped to what there is.
    pub ledgers: Option<LedgerRange>,
    /// Oldest or newest first.
    pub order: Order,
    /// The end of the page before.
    pub after: Option<Cursor>,
}

/// A ledger with its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundLedger {
    /// Its sequence.
    pub seq: LedgerSeq,
    /// Its bytes, in the chain's own encoding.
    pub raw: Vec<u8>,
    /// Where it was read.
    pub place: Place,
}

/// What a span comes to in a view.
struct Clipped {
    ledgers: LedgerRange,
    after: Option<Position>,
}

impl View {
    /// One raw ledger.
    ///
    /// # Errors
    /// [`Error::OutOfBounds`] with what there is, [`Error::NotYet`] for one that is still being fetched; damage.
    pub fn ledger(&self, seq: LedgerSeq) -> Result<FoundLedger> {
        let chunk = self.locate(seq)?;
        let serving = self.serving(chunk, Artifact::Ledgers);
        let serving = serving.ok_or_else(|| self.not_yet(chunk, seq))?;
        let raw = match serving {
            Serving::Cold => self.shared.pack(chunk)?.ledger(seq)?,
            Serving::Hot(hot) => hot.ledger(seq)?,
        };
        let raw = raw.ok_or_else(|| self.not_yet(chunk, seq))?;
        Ok(FoundLedger { seq, raw, place: serving.place() })
    }

    /// Raw ledgers, at most `limit` and at least one.
    ///
    /// # Errors
    /// As of [`ledger`](View::ledger), for the first one; [`Error::Inverted`]. A page ends before a ledger that is still being
    /// fetched.
    pub fn ledgers(&self, span: &Span, limit: usize) -> Result<Page<FoundLedger>> {
        let Clipped { mut ledgers, after } = self.clip(span)?;
        let mut cursor = after;
        // Whatever of a ledger the cursor is in the middle of, the ledger itself was given.
        match (after, span.order) {
            (Some(after), Order::Ascending) => ledgers.first = LedgerSeq(after.ledger.0.saturating_add(1)),
            (Some(after), Order::Descending) => ledgers.last = LedgerSeq(after.ledger.0.saturating_sub(1)),
            (None, _) => {}
        }
        let mut items = Vec::new();
        let mut left = Ordered::new(ledgers, span.order);
        while items.len() < limit.max(1)
            && let Some(seq) = left.next()
        {
            match self.ledger(seq) {
                Ok(found) => items.push(found),
                Err(Error::NotYet { .. }) if !items.is_empty() => {
                    left.stopped = true;
                    break;
                }
                Err(error) => return Err(error),
            }
            cursor = Some(Position::past(seq, span.order));
        }
        let is_last = !left.stopped && left.is_empty();
        let cursor = cursor.unwrap_or_else(|| before(ledgers, span.order));
        Ok(Page { items, cursor: Cursor(cursor), is_last })
    }

    /// The ledger that holds a transaction, by its hash or the hash of the transaction inside it. Hot chunks know hashes
    /// exactly; what an index or a run says is only believed when all 32 bytes agree.
    ///
    /// # Errors
    /// [`Error::NotYet`] where it was not found and chunks are still being fetched in which it may be; damage.
    pub fn transaction(&self, hash: &TxHash) -> Result<Option<FoundLedger>> {
        let Ok(range) = self.range() else { return Ok(None) };
        for chunk in self.hot.keys().rev() {
            let Some(hot) = self.ready(*chunk) else { continue };
            if let Some(found) = hot.transaction(hash)?
                && range.contains(found.ledger)
            {
                return Ok(Some(FoundLedger { seq: found.ledger, raw: found.raw, place: Place::Hot }));
            }
        }
        let mut on_its_way = None;
        for (&coverage, _) in self.state.indexes.iter().rev().filter(|(_, file)| **file == FileState::Frozen)
        {
            if coverage.last >= self.floor()
                && let Some(seq) = self.shared.index(coverage)?.lookup(hash)?
            {
                match self.confirmed(seq, hash) {
                    Ok(None) => {}
                    // It may be another one that only looks like it: the search goes on.
                    Err(error @ Error::NotYet { .. }) => {
                        on_its_way.get_or_insert(error);
                    }
                    found => return found,
                }
            }
        }
        match self.unindexed(range, hash) {
            Ok(None) => on_its_way.map_or(Ok(None), Err),
            found => found,
        }
    }

    /// Chunks that no index covers yet: their runs, where they have one.
    fn unindexed(&self, range: LedgerRange, hash: &TxHash) -> Result<Option<FoundLedger>> {
        let geometry = self.shared.catalog.pins().geometry;
        let (mut window, mut index) = (None, None);
        let mut lacks = None;
        for chunk in self.chunks(range).rev() {
            let own = Some(geometry.window_of(chunk));
            if window != own {
                (window, index) = (own, own.and_then(|window| self.state.frozen_index(window)));
            }
            if index.is_some_and(|index| index.covers(chunk)) {
                continue;
            }
            if self.state.has(chunk, Artifact::TxHash) {
                if let Some(seq) = self.shared.run_of(chunk)?.lookup(hash)? {
                    match self.confirmed(seq, hash) {
                        Ok(None) => {}
                        Err(Error::NotYet { .. }) => lacks = lacks.or(Some(chunk)),
                        found => return found,
                    }
                }
            } else if self.ready(chunk).is_none_or(|hot| !self.reaches(hot, chunk, range)) {
                lacks = lacks.or(Some(chunk));
            }
        }
        match lacks {
            Some(chunk) => Err(self.not_yet(chunk, self.shared.ledgers_of(chunk)?.first)),
            None => Ok(None),
        }
    }

    /// Whether a hot chunk has all that a view is to see of it.
    fn reaches(&self, hot: &icecore_hotchunk::HotChunk, chunk: ChunkId, range: LedgerRange) -> bool {
        let wanted = self.shared.ledgers_of(chunk).ok().and_then(|ledgers| ledgers.intersect(range));
        let held = hot.view().ok().and_then(|view| view.last());
        wanted.is_none_or(|wanted| held.is_some_and(|held| held >= wanted.last))
    }

    /// A candidate, if its ledger does hold the transaction.
    fn confirmed(&self, seq: LedgerSeq, hash: &TxHash) -> Result<Option<FoundLedger>> {
        if !self.range()?.contains(seq) {
            return Ok(None);
        }
        let found = self.ledger(seq)?;
        let holds = self.shared.decoder.decode(&found.raw)?.hashes().any(|other| other == *hash);
        Ok(holds.then_some(found))
    }

    /// The events that pass one of the filters (all, where there are none), at most `limit`, which is at least 1.
    ///
    /// # Errors
    /// [`Error::OutOfBounds`] and [`Error::NotYet`] for the first ledger of the span, [`Error::Inverted`]; damage. A page ends
    /// before a chunk that is still being fetched.
    pub fn events(&self, span: &Span, filters: &[Filter], limit: usize) -> Result<Page<EventRecord>> {
        let Clipped { ledgers, after } = self.clip(span)?;
        let limit = limit.max(1);
        let mut page = Page { items: Vec::new(), cursor: Cursor(before(ledgers, span.order)), is_last: true };
        if let Some(after) = after {
            page.cursor = Cursor(after);
        }
        let mut chunks: Vec<ChunkId> = self.chunks(ledgers).collect();
        if span.order == Order::Descending {
            chunks.reverse();
        }
        for (looked, chunk) in chunks.into_iter().enumerate() {
            let within = self.shared.ledgers_of(chunk)?.intersect(ledgers);
            let Some(within) = within else { continue };
            if looked == CHUNKS_PER_PAGE || page.items.len() == limit {
                page.is_last = false;
                return Ok(page);
            }
            let query = Query {
                filters: filters.to_vec(),
                ledgers: Some(within),
                order: span.order,
                after,
                limit: limit - page.items.len(),
            };
            let found = match self.chunk_events(chunk, &query) {
                Err(Error::NotYet { .. }) if looked > 0 => {
                    page.is_last = false;
                    return Ok(page);
                }
                found => found?,
            };
            page.items.extend(found);
            page.cursor = match page.items.last().filter(|_| page.items.len() == limit) {
                Some(last) => Cursor(last.position()),
                None => {
                    let end = if span.order == Order::Ascending { within.last } else { within.first };
                    Cursor(Position::past(end, span.order))
                }
            };
            page.is_last = page.items.len() < limit;
        }
        Ok(page)
    }

    fn chunk_events(&self, chunk: ChunkId, query: &Query) -> Result<Vec<EventRecord>> {
        let decoder: &dyn Decoder = &*self.shared.decoder;
        let first = || query.ledgers.map_or(LedgerSeq(0), |ledgers| ledgers.first);
        match self.serving(chunk, Artifact::Events) {
            Some(Serving::Cold) => Ok(self.shared.chunk_events(chunk)?.query(query, decoder)?),
            Some(Serving::Hot(hot)) => {
                let view = hot.view()?;
                // One that was left behind when ingestion went on elsewhere.
                if query.ledgers.is_some_and(|wanted| view.last().is_none_or(|last| last < wanted.last)) {
                    return Err(self.not_yet(chunk, first()));
                }
                Ok(view.events(query, decoder)?)
            }
            None => Err(self.not_yet(chunk, first())),
        }
    }

    /// What is asked for, as far as it is kept. The end that comes first must be; the other one is cut off.
    fn clip(&self, span: &Span) -> Result<Clipped> {
        let has = self.range()?;
        let asked = span.ledgers.unwrap_or(has);
        if asked.last < asked.first {
            return Err(Error::Inverted { first: asked.first, last: asked.last });
        }
        let after = span.after.map(|cursor| cursor.0);
        let begin = match (after, span.order) {
            (Some(after), _) => after.ledger,
            (None, Order::Ascending) => asked.first,
            (None, Order::Descending) => asked.last.min(has.last),
        };
        // A descending cursor may stand at the floor: then nothing is left.
        if !has.contains(begin) {
            return Err(Error::OutOfBounds { asked: begin, available: has });
        }
        let ledgers =
            asked.intersect(has).ok_or(Error::OutOfBounds { asked: asked.first, available: has })?;
        let ledgers = match (after, span.order) {
            (None, _) => ledgers,
            (Some(after), Order::Ascending) => {
                LedgerRange { first: ledgers.first.max(after.ledger), ..ledgers }
            }
            (Some(after), Order::Descending) => {
                LedgerRange { last: ledgers.last.min(after.ledger), ..ledgers }
            }
        };
        Ok(Clipped { ledgers, after })
    }
}

/// The position before all of some ledgers.
fn before(ledgers: LedgerRange, order: Order) -> Position {
    match order {
        Order::Ascending => Position::past(LedgerSeq(ledgers.first.0.saturating_sub(1)), order),
        Order::Descending => Position::past(LedgerSeq(ledgers.last.0.saturating_add(1)), order),
    }
}

/// Sequences of a range in either order; none where it ends before it begins.
struct Ordered {
    next: u64,
    end: u64,
    order: Order,
    stopped: bool,
}

impl Ordered {
    fn new(ledgers: LedgerRange, order: Order) -> Self {
        // Both as the bounds of a half-open range.
        Ordered {
            next: u64::from(ledgers.first.0),
            end: u64::from(ledgers.last.0) + 1,
            order,
            stopped: false,
        }
    }

    fn is_empty(&self) -> bool {
        self.next >= self.end
    }

    fn next(&mut self) -> Option<LedgerSeq> {
        if self.is_empty() {
            return None;
        }
        let seq = match self.order {
            Order::Ascending => {
                self.next += 1;
                self.next - 1
            }
            Order::Descending => {
                self.end -= 1;
                self.end
            }
        };
        u32::try_from(seq).ok().map(LedgerSeq)
    }
}
