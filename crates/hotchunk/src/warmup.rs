//! What opening finds out: that the rows are of this chunk and fit together, and the event index.

use icecore_events::{HotIndexLoader, HotIndexWriter};
use icecore_ledger::LedgerSeq;
use icecore_rockstore::{FamilyId, Reader, Reads, Span};

use crate::{
    Error, Result,
    chunk::Shared,
    format::{EVENTS_DATA, EVENTS_INDEX, EVENTS_OFFSETS, LEDGERS, parse_number, parse_posting, parse_seq},
};

/// Rows of the event index between two reports of progress.
const ROWS_PER_REPORT: u64 = 1 << 18;

/// How far the event index of a chunk that is being opened has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WarmUp {
    /// Rows read.
    pub rows: u64,
    /// Rows that there are; an estimate where ledgers were removed.
    pub total: u64,
}

/// What the rows of `events_offsets` say, which is short enough to be read whole.
pub(crate) struct Contents {
    /// The number of events of each ledger, from the chunk's first.
    events: Vec<u32>,
    first: LedgerSeq,
}

impl Contents {
    pub(crate) fn last(&self) -> Option<LedgerSeq> {
        let last = u32::try_from(self.events.len()).ok()?.checked_sub(1)?;
        self.first.0.checked_add(last).map(LedgerSeq)
    }

    /// Reads the counts and compares them with what the other families have, as far as that shows without reading all of it.
    pub(crate) fn check(shared: &Shared, reader: &Reader) -> Result<Self> {
        // First, so that a store in the wrong place is called just that.
        let ledgers = ends(reader, LEDGERS)?;
        for key in ledgers.iter().flatten() {
            let found =
                parse_seq(key).ok_or_else(|| shared.corrupt("a row of ledgers has no sequence for a key"))?;
            if !shared.chunk.contains(found) {
                return Err(Error::WrongChunk { path: shared.path.clone(), chunk: shared.chunk, found });
            }
        }
        let contents = Self::read(shared, reader)?;
        let (count, last) = (contents.events.len() as u64, contents.last());
        let expected = last.map(|last| [contents.first.0, last.0].map(|seq| seq.to_be_bytes().to_vec()));
        if ledgers != expected {
            let say = |ends: &Option<[Vec<u8>; 2]>| match ends {
                Some(ends) => {
                    ends.each_ref().map(|key| parse_number(key).unwrap_or(0).to_string()).join("..=")
                }
                None => "none".into(),
            };
            let what = format!("it has the ledgers {}, but the events of {}", say(&ledgers), say(&expected));
            return Err(shared.corrupt(what));
        }
        let events: u64 = contents.events.iter().map(|events| u64::from(*events)).sum();
        for (family, name, expected) in [
            (LEDGERS, "ledgers", count),
            (EVENTS_OFFSETS, "counts of events", count),
            (EVENTS_DATA, "events", events),
        ] {
            let found = count_rows(reader, family, expected)?;
            if found != expected {
                return Err(shared.corrupt(format!("it has {found} {name}, its counts say {expected}")));
            }
        }
        // As many as there should be, and the last one is the last: so they are all there.
        let last =
            events.checked_sub(1).map(|last| u32::try_from(last).unwrap_or(u32::MAX).to_be_bytes().to_vec());
        let found = ends(reader, EVENTS_DATA)?.map(|[_, last]| last);
        if found != last {
            let id = |key: &Option<Vec<u8>>| key.as_deref().and_then(parse_number);
            let what = format!("its last event is {:?}, its counts say {:?}", id(&found), id(&last));
            return Err(shared.corrupt(what));
        }
        Ok(contents)
    }

    fn read(shared: &Shared, reader: &Reader) -> Result<Self> {
        let first = shared.chunk.first;
        let mut contents = Contents { events: Vec::new(), first };
        let mut rows = reader.rows(EVENTS_OFFSETS, Span::all().scan())?;
        while let Some((key, value)) = rows.next_row()? {
            let row = parse_seq(key).and_then(|seq| Some((seq, parse_number(value)?)));
            let expected = contents.last().map_or(Some(first.0), |last| last.0.checked_add(1));
            match row {
                Some((seq, events)) if Some(seq.0) == expected && shared.chunk.contains(seq) => {
                    contents.events.push(events);
                }
                Some((seq, _)) => {
                    let what = format!(
                        "the number of events of ledger {seq} comes where that of {expected:?} is due"
                    );
                    return Err(shared.corrupt(what));
                }
                None => return Err(shared.corrupt("a row of events_offsets has not the form it must have")),
            }
        }
        Ok(contents)
    }
}

/// The first and the last key of a family.
fn ends(reader: &Reader, family: FamilyId) -> Result<Option<[Vec<u8>; 2]>> {
    let key = |span| -> Result<_> { Ok(reader.rows(family, span)?.next_row()?.map(|(key, _)| key.to_vec())) };
    Ok(key(Span::all())?.zip(key(Span::all().descending())?).map(|(first, last)| [first, last]))
}

/// How many rows a family has: as often as rows were set, where that is the number expected and none was ever removed;
/// else they are counted.
fn count_rows(reader: &Reader, family: FamilyId, expected: u64) -> Result<u64> {
    let counts = reader.row_counts(family)?;
    if counts.removals == 0 && counts.sets == expected {
        return Ok(expected);
    }
    let mut rows = reader.rows(family, Span::all().scan())?;
    let mut count = 0;
    while rows.next_row()?.is_some() {
        count += 1;
    }
    Ok(count)
}

/// Builds the event index from its rows.
pub(crate) fn load_index(
    shared: &Shared,
    reader: &Reader,
    contents: &Contents,
    progress: &mut dyn FnMut(WarmUp),
) -> Result<HotIndexWriter> {
    let damaged = |e: icecore_events::Error| shared.corrupt(e.to_string());
    let mut loader = HotIndexLoader::new(&shared.path, contents.first);
    for (seq, events) in (contents.first.0..=u32::MAX).zip(&contents.events) {
        loader.push_ledger(LedgerSeq(seq), *events).map_err(damaged)?;
    }
    let total = reader.row_counts(EVENTS_INDEX)?.sets;
    let mut done = 0;
    let mut rows = reader.rows(EVENTS_INDEX, Span::all().scan())?;
    while let Some((key, _)) = rows.next_row()? {
        let (term, id) =
            parse_posting(key).ok_or_else(|| shared.corrupt("a row of events_index is no term and event"))?;
        loader.push(term, id).map_err(damaged)?;
        done += 1;
        if done % ROWS_PER_REPORT == 0 {
            progress(WarmUp { rows: done, total: total.max(done) });
        }
    }
    progress(WarmUp { rows: done, total: done });
    Ok(loader.finish())
}
