//! Harnesses: each takes any bytes and panics when a property breaks.
#![allow(clippy::unwrap_used)]

use std::{collections::BTreeMap, path::Path, sync::Arc};

use icecore_diskio::{Disk, FaultyDisk, IfExists};
use icecore_ledger::{ChunkId, Decoder, LedgerRange, LedgerSeq};
use roaring::RoaringBitmap;

use crate::{
    ChunkEvents, ChunkEventsWriter, EventCounts, EventPaths, EventRecord, Filter, HotIndexLoader,
    HotIndexWriter, HotView, Options, Order, Position, Query, Result, TermKey, bitmap::Encoder,
    decode_bitmap,
};

#[path = "../tests/common/toy.rs"]
#[allow(unreachable_pub)]
mod toy;

/// Bytes that decode as a record are those that the record encodes to.
pub fn record(data: &[u8]) {
    if let Ok(record) = EventRecord::decode(data) {
        let mut again = Vec::new();
        record.encode(&mut again).unwrap();
        assert_eq!(again, data);
    }
}

/// Any bytes as a bitmap: refused, or a set that survives being written again. And bytes as a recipe for ids: gathered,
/// written, read back the same.
pub fn bitmap(data: &[u8]) {
    if let Ok(bitmap) = decode_bitmap(data)
        && bitmap.len() < 1 << 20
    {
        assert_eq!(gathered(bitmap.iter()), bitmap);
    }
    let mut numbers = Numbers(data);
    let mut next = numbers.below(1 << 17) as u32;
    let mut ids = vec![next];
    while !numbers.0.is_empty() && ids.len() < 1 << 17 {
        let (kind, count) = (numbers.below(4), numbers.below(3000) as u32);
        let step = match kind {
            0 => 1,
            1 => 2 + count % 5,
            2 => numbers.below(1 << 16) as u32,
            _ => numbers.below(1 << 22) as u32,
        };
        for _ in 0..if kind < 2 { count } else { 1 } {
            next = next.saturating_add(step.max(1));
            ids.push(next);
        }
    }
    ids.dedup();
    assert_eq!(gathered(ids.iter().copied()), ids.iter().copied().collect());
}

fn gathered(ids: impl Iterator<Item = u32>) -> RoaringBitmap {
    decode_bitmap(&encoded(ids)).unwrap()
}

fn encoded(ids: impl Iterator<Item = u32>) -> Vec<u8> {
    let (mut encoder, mut bytes) = (Encoder::default(), Vec::new());
    ids.for_each(|id| encoder.push(id));
    encoder.finish(&mut bytes);
    bytes
}

/// Two lengths and three files: opening, every read, searches and checks end in an answer or an error.
pub fn open_and_read(data: &[u8]) {
    let Some((lengths, files)) = data.split_first_chunk::<8>() else { return };
    let [a, b, c, d, e, f, g, h] = *lengths;
    let cut = |bytes: [u8; 4], len: usize| (u32::from_le_bytes(bytes) as usize).min(len);
    let (events, rest) = files.split_at(cut([a, b, c, d], files.len()));
    let (index_hash, index_pack) = rest.split_at(cut([e, f, g, h], rest.len()));
    let _ = read_all(events, index_hash, index_pack);
}

/// The input of [`open_and_read`] for three files.
pub fn join(events: &[u8], index_hash: &[u8], index_pack: &[u8]) -> Vec<u8> {
    let lengths = [events, index_hash].map(|file| (file.len() as u32).to_le_bytes());
    [lengths.as_flattened(), events, index_hash, index_pack].concat()
}

fn read_all(events: &[u8], index_hash: &[u8], index_pack: &[u8]) -> Result<()> {
    let paths = EventPaths::new("", ChunkId(0));
    let chunk = ChunkEvents::from_sources(paths, events.to_vec(), index_hash.to_vec(), index_pack.to_vec())?;
    let _ = (chunk.verify(), chunk.term_count());
    for number in 0..3 {
        let _ = chunk.term(&TermKey::new(0, &toy::word(number)));
    }
    if let Some(ledgers) = chunk.ledgers()? {
        for seq in [ledgers.first, ledgers.last] {
            let _ = chunk.ledger_events(seq);
        }
        let after = Some(Position { ledger: ledgers.last, tx_index: 1, op_index: 0, event_index: 1 });
        for order in [Order::Ascending, Order::Descending] {
            let filters = vec![Filter::any().contract(toy::word(1)), Filter::any().topic(1, toy::word(2))];
            for filters in [filters, vec![]] {
                let _ = chunk.query(&Query { filters, order, after, ..Query::default() }, &toy::Toy);
            }
        }
    }
    for id in [0, chunk.event_count()?.saturating_sub(1), u32::MAX] {
        let _ = (chunk.event(id), chunk.ledger_of(id));
    }
    Ok(())
}

/// Ledgers drawn from the data, written, read back, and searched: all as a list of records says.
pub fn round_trip(data: &[u8]) {
    let mut numbers = Numbers(data);
    let first = LedgerSeq(2 + numbers.below(1000) as u32);
    let (count, max_events) = (numbers.below(12) as u32, [0, 3, 40, 400][numbers.below(4) as usize]);
    let ledgers = toy::ledgers(first, count, max_events, &mut |bound| numbers.below(bound));
    let disk: Arc<dyn Disk> = Arc::new(FaultyDisk::new());
    let paths = EventPaths::new("", ChunkId(0));
    let options = Options::new().concurrency(1 + numbers.below(2) as usize);
    let mut writer = ChunkEventsWriter::create(&disk, &paths, first, options).unwrap();
    let mut model = Vec::new();
    for ledger in &ledgers {
        let events = ledger.events();
        writer.push_ledger(ledger.seq, ledger.closed_at, &events).unwrap();
        let record = |event| EventRecord::of(ledger.seq, ledger.closed_at, event).into_owned();
        model.extend(events.iter().map(record));
    }
    let summary = writer.finish().unwrap();
    assert_eq!((summary.ledgers as usize, summary.events as usize), (ledgers.len(), model.len()));

    let chunk = ChunkEvents::open(&disk, &paths);
    check_reads(&chunk, &ledgers, &model);
    for _ in 0..12 {
        check_query(&chunk, &query(&mut numbers, first, count), &model);
    }
    let options = Options::new().if_exists(IfExists::Replace);
    chunk.verify_deep(&toy::Toy, &disk, Path::new("hash"), Path::new("pack"), options).unwrap();
    assert_eq!(disk.list(Path::new("")).unwrap().len(), 3, "the rebuilt index is removed");
}

fn check_reads(chunk: &ChunkEvents, ledgers: &[toy::Ledger], model: &[EventRecord]) {
    assert_eq!(chunk.event_count().unwrap() as usize, model.len());
    assert_eq!(chunk.ledgers().unwrap().map_or(0, |range| range.count()), ledgers.len() as u64);
    for ledger in ledgers {
        let expected: Vec<_> = model.iter().filter(|record| record.ledger == ledger.seq).cloned().collect();
        assert_eq!(chunk.ledger_events(ledger.seq).unwrap(), expected);
    }
    for (id, record) in model.iter().enumerate().step_by(37) {
        assert_eq!(chunk.event(id as u32).unwrap(), *record);
    }
}

fn query(numbers: &mut Numbers<'_>, first: LedgerSeq, count: u32) -> Query {
    let mut filters = Vec::new();
    for _ in 0..numbers.below(4) {
        let mut filter = Filter::any();
        if numbers.below(2) == 0 {
            filter = filter.contract(toy::word(numbers.below(4)));
        }
        for topic in 0..4 {
            if numbers.below(4) == 0 {
                filter = filter.topic(topic, toy::word(numbers.below(4)));
            }
        }
        filters.push(filter);
    }
    let around =
        |numbers: &mut Numbers<'_>| LedgerSeq(first.0 - 2 + numbers.below(u64::from(count) + 4) as u32);
    let ledgers =
        (numbers.below(2) == 0).then(|| LedgerRange::new(around(numbers), around(numbers)).ok()).flatten();
    let after = (numbers.below(2) == 0).then(|| Position {
        ledger: around(numbers),
        tx_index: numbers.below(6) as u32,
        op_index: numbers.below(6) as u32,
        event_index: numbers.below(6) as u32,
    });
    let order = if numbers.below(2) == 0 { Order::Ascending } else { Order::Descending };
    let limit = [0, 1, 5, 100, 100_000][numbers.below(5) as usize];
    Query { filters, ledgers, order, after, limit }
}

/// A query and all its further pages give what going through the list gives.
fn check_query(chunk: &ChunkEvents, query: &Query, model: &[EventRecord]) {
    let mut expected: Vec<_> = model.iter().filter(|record| passes(record, query)).cloned().collect();
    if query.order == Order::Descending {
        expected.reverse();
    }
    let mut query = query.clone();
    let pages = if query.limit < 100 { 3 } else { usize::MAX };
    for page in expected.chunks(query.limit.max(1)).chain([&[][..]]).take(pages) {
        let found = chunk.query(&query, &toy::Toy).unwrap();
        assert_eq!(found, if query.limit == 0 { &[][..] } else { page });
        query.after = found.last().map(EventRecord::position).or(query.after);
    }
}

fn passes(record: &EventRecord, query: &Query) -> bool {
    let fields = toy::Toy.event_fields(&record.body).unwrap();
    let values = [fields.contract, fields.topics[0], fields.topics[1], fields.topics[2], fields.topics[3]];
    let filter_passes = |filter: &Filter| {
        let wanted = std::iter::once(&filter.contract).chain(&filter.topics);
        wanted
            .zip(values)
            .all(|(wanted, value)| wanted.as_ref().is_none_or(|wanted| Some(&wanted[..]) == value))
    };
    (query.filters.is_empty() || query.filters.iter().any(filter_passes))
        && query.ledgers.is_none_or(|range| range.first <= record.ledger && record.ledger <= range.last)
        && query.after.is_none_or(|after| match query.order {
            Order::Ascending => record.position() > after,
            Order::Descending => record.position() < after,
        })
}

/// Ledgers appended, refused, removed and loaded again as the data says: every view reads like a map of lists did when it
/// was taken.
pub fn hot_index(data: &[u8]) {
    let mut numbers = Numbers(data);
    let mut writer = HotIndexWriter::new("hot", LedgerSeq(2));
    let mut model = HotModel::default();
    let mut views = Vec::new();
    for step in 0..100 {
        if numbers.0.is_empty() || model.events() > 1 << 17 {
            break;
        }
        if step % 8 == 0 {
            views.push((writer.index().view(), model.clone()));
        }
        match numbers.below(16) {
            0 => {
                let keep = numbers.below(1 + model.ends.len() as u64) as usize;
                writer.trim(LedgerSeq(1 + keep as u32));
                model.trim(keep);
            }
            1 => writer = model.load(),
            2 => refuse(&mut writer, &model, &mut numbers),
            _ => {
                let (events, postings) = model.draw(&mut numbers);
                writer.append(model.next(), events, &postings).unwrap();
                model.append(events, &postings);
            }
        }
    }
    views.push((writer.index().view(), model));
    views.iter().for_each(|(view, model)| model.check(view, &mut numbers));
}

/// What must not be taken changes nothing; that shows when the views are checked.
fn refuse(writer: &mut HotIndexWriter, model: &HotModel, numbers: &mut Numbers<'_>) {
    let (events, mut postings) = model.draw(numbers);
    let (beyond, next) = (model.events() + events as u32, model.next());
    postings.push((TermKey([0; 16]), beyond));
    assert!(writer.append(next, events, &postings).is_err(), "an id beyond the ledger");
    postings.pop();
    let other = LedgerSeq(numbers.below(1 << 20) as u32);
    assert!(other == next || writer.append(other, events, &postings).is_err(), "another ledger");
    if postings.first().is_some_and(|first| first.1 < beyond - 1) {
        postings.insert(0, (TermKey([0; 16]), beyond - 1));
        assert!(writer.append(next, events, &postings).is_err(), "ids that descend");
    }
}

/// Terms with their ids, and how many events there are after each ledger.
#[derive(Clone, Default)]
struct HotModel {
    terms: BTreeMap<TermKey, Vec<u32>>,
    ends: Vec<u32>,
}

impl HotModel {
    fn events(&self) -> u32 {
        self.ends.last().copied().unwrap_or(0)
    }

    fn next(&self) -> LedgerSeq {
        LedgerSeq(2 + self.ends.len() as u32)
    }

    /// Terms of a ledger: stretches of ids, one of every so many, of terms few and many; and one pair twice.
    fn draw(&self, numbers: &mut Numbers<'_>) -> (usize, Vec<(TermKey, u32)>) {
        let events = [0, 1, 7, 200, 20_000][numbers.below(5) as usize];
        let (from, to) = (self.events(), self.events() + events);
        let mut postings = Vec::new();
        for _ in 0..numbers.below(6) {
            let key = TermKey([numbers.below(12) as u8; 16]);
            let (start, every) =
                (numbers.below(u64::from(events) + 1) as u32, 1 + numbers.below(200) as usize);
            let count = numbers.below(1 << 14) as usize;
            postings.extend((from + start..to).step_by(every).take(count).map(|id| (key, id)));
        }
        postings.extend(postings.last().copied());
        postings.sort_by_key(|posting| posting.1);
        (events as usize, postings)
    }

    fn append(&mut self, events: usize, postings: &[(TermKey, u32)]) {
        self.ends.push(self.events() + events as u32);
        for (key, id) in postings {
            let ids = self.terms.entry(*key).or_default();
            if ids.last() != Some(id) {
                ids.push(*id);
            }
        }
    }

    fn trim(&mut self, ledgers: usize) {
        self.ends.truncate(ledgers);
        let end = self.events();
        self.terms.values_mut().for_each(|ids| ids.truncate(ids.partition_point(|id| *id < end)));
    }

    fn load(&self) -> HotIndexWriter {
        let mut loader = HotIndexLoader::new("hot", LedgerSeq(2));
        let starts = std::iter::once(&0).chain(&self.ends);
        for (seq, (start, end)) in (2..).zip(starts.zip(&self.ends)) {
            loader.push_ledger(LedgerSeq(seq), end - start).unwrap();
        }
        for (key, ids) in &self.terms {
            ids.iter().for_each(|id| loader.push(*key, *id).unwrap());
        }
        assert!(loader.push(TermKey([99; 16]), self.events()).is_err_and(|e| e.is_corrupt()));
        loader.finish()
    }

    fn check(&self, view: &HotView, numbers: &mut Numbers<'_>) {
        assert_eq!((view.event_count(), view.ledger_count() as usize), (self.events(), self.ends.len()));
        let ends = (0..).map_while(|index| view.end(index));
        assert!(ends.eq(self.ends.iter().copied()));
        for (key, ids) in &self.terms {
            let range = numbers.below(1 << 17) as u32..numbers.below(1 << 18) as u32;
            let within = ids.iter().copied().filter(|id| range.contains(id));
            assert!(view.term_ids(key, range.clone()).iter().eq(within));
            assert!(view.term_ids(key, 0..u32::MAX).iter().eq(ids.iter().copied()));
        }
        assert!(view.term_ids(&TermKey([99; 16]), 0..u32::MAX).is_empty());
    }
}

/// Numbers out of bytes: two bytes each, four where the bound needs them, and a fixed pattern when they run out.
struct Numbers<'a>(&'a [u8]);

impl Numbers<'_> {
    fn below(&mut self, bound: u64) -> u64 {
        let want = if bound <= 256 { 1 } else { 4 };
        let (head, rest) = self.0.split_at(want.min(self.0.len()));
        self.0 = rest;
        head.iter().fold(0, |number, &byte| number << 8 | u64::from(byte)) % bound.max(1)
    }
}

#[cfg(test)]
mod tests {
    use icecore_testkit::SplitMix64;

    use super::*;

    fn bytes(rng: &mut SplitMix64, len: usize) -> Vec<u8> {
        std::iter::repeat_with(|| rng.next_u64() as u8).take(len).collect()
    }

    #[test]
    fn records_and_bitmaps_of_any_bytes() {
        let mut rng = SplitMix64::new(1);
        for _ in 0..300 {
            let len = rng.below(200) as usize;
            let mut data = bytes(&mut rng, len);
            record(&data);
            bitmap(&data);
            // The header of a record with the right length; bitmaps of each kind of header.
            if let Some(body_len) = data.len().checked_sub(61) {
                data[0] = 1;
                data[57..61].copy_from_slice(&(body_len as u32).to_be_bytes());
                assert!(EventRecord::decode(&data).is_ok());
                record(&data);
            }
            if data.len() >= 8 {
                let few = data[4] % 5;
                data[..8].copy_from_slice(&[0x3A, 0x30, 0, 0, few, 0, 0, 0]);
                bitmap(&data);
                data[..4].copy_from_slice(&[0x3B, 0x30, few, 0]);
                bitmap(&data);
            }
        }
    }

    #[test]
    fn damaged_bitmaps() {
        let mut rng = SplitMix64::new(2);
        let good = encoded((3..400).chain((70_000..80_000).step_by(3)).chain(200_000..200_300));
        for _ in 0..300 {
            let mut data = good.clone();
            let within = if rng.below(2) == 0 { 30 } else { data.len() as u64 };
            let at = rng.below(within) as usize;
            data[at] ^= 1 << rng.below(8);
            bitmap(&data);
        }
    }

    #[test]
    fn files_written_and_searched() {
        let mut rng = SplitMix64::new(3);
        for _ in 0..250 {
            let len = rng.below(6000) as usize;
            round_trip(&bytes(&mut rng, len));
        }
    }

    #[test]
    fn hot_indexes_of_any_history() {
        let mut rng = SplitMix64::new(5);
        for _ in 0..250 {
            let len = rng.below(400) as usize;
            hot_index(&bytes(&mut rng, len));
        }
    }

    #[test]
    fn files_of_any_bytes() {
        let mut rng = SplitMix64::new(4);
        let disk: Arc<dyn Disk> = Arc::new(FaultyDisk::new());
        let paths = EventPaths::new("", ChunkId(0));
        let mut writer = ChunkEventsWriter::create(&disk, &paths, LedgerSeq(2), Options::new()).unwrap();
        for ledger in toy::ledgers(LedgerSeq(2), 9, 60, &mut |bound| rng.below(bound)) {
            writer.push_ledger(ledger.seq, ledger.closed_at, &ledger.events()).unwrap();
        }
        writer.finish().unwrap();
        let [events, hash, pack] = paths.each().map(|path| {
            let file = disk.open(path).unwrap();
            file.as_bytes().unwrap().to_vec()
        });
        let good = join(&events, &hash, &pack);
        read_all(&events, &hash, &pack).unwrap();
        for _ in 0..400 {
            let mut data = good.clone();
            for _ in 0..1 + rng.below(3) {
                let at = rng.below(data.len() as u64) as usize;
                data[at] ^= 1 << rng.below(8);
            }
            data.truncate(data.len() - (rng.below(4) * rng.below(50)) as usize);
            open_and_read(&data);
        }
        let len = rng.below(900) as usize;
        open_and_read(&bytes(&mut rng, len));
    }
}
