//! Harness functions for fuzzing: a small chain of their own, a model, and a check of every row.
#![allow(clippy::expect_used, reason = "a broken property is a panic")]

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use icecore_events::{EventRecord, Filter, Order, Query, TermHasher};
use icecore_ledger::{
    Decoded, Decoder, Error, Event, EventFields, LedgerRange, LedgerSeq, Transaction, TxHash,
};
use icecore_rockstore::{FamilyId, Reads, Span};

use crate::{
    HotChunk, HotOptions, Phase,
    compress::unpack,
    format::{LEDGERS, posting_key},
    view,
};

/// A chain whose ledgers are small, and of any shape.
///
/// ```text
/// u32 sequence ‖ i64 close time ‖ { 32-byte hash ‖ u8 n ‖ n x { u8 length ‖ body } }…
/// ```
///
/// An event's contract is the first byte of its body, its topics are the next ones.
#[derive(Clone, Copy, Debug)]
pub struct Toy;

impl Toy {
    /// The ledger with this sequence; others for other seeds.
    pub fn ledger(seq: u32, seed: u8) -> Vec<u8> {
        let mut raw = [&seq.to_be_bytes()[..], &i64::from(seed).to_be_bytes()].concat();
        for tx in 0..seed % 4 {
            let mut hash = [0; 32];
            hash[..4].copy_from_slice(&seq.to_be_bytes());
            hash[30..].copy_from_slice(&[tx, seed]);
            raw.extend(hash);
            let events = (seed >> 2) % 4;
            raw.push(events);
            for event in 0..events {
                let body = [event % 2, tx, seed % 3, 9, 9, 9, seq as u8];
                let len = body.len() - usize::from(seed >> 4) % 7;
                raw.push(len as u8);
                raw.extend(&body[..len]);
            }
        }
        raw
    }

    fn parse<'a>(raw: &'a [u8]) -> Option<Decoded<'a>> {
        let (seq, rest) = raw.split_first_chunk()?;
        let (closed_at, mut rest) = rest.split_first_chunk()?;
        let (mut transactions, mut events) = (Vec::new(), Vec::new());
        while let Some((hash, after)) = rest.split_first_chunk() {
            let tx_hash = TxHash(*hash);
            transactions.push(Transaction { hash: tx_hash, inner_hash: None });
            let (count, mut after) = after.split_first()?;
            for event_index in 0..u32::from(*count) {
                let (len, bytes) = after.split_first()?;
                let (body, left) = bytes.split_at_checked(usize::from(*len))?;
                let (tx_index, fields) = (transactions.len() as u32, Self::fields(body));
                events.push(Event { tx_hash, tx_index, op_index: 0, event_index, body, fields });
                after = left;
            }
            rest = after;
        }
        let (seq, closed_at) = (LedgerSeq(u32::from_be_bytes(*seq)), i64::from_be_bytes(*closed_at));
        rest.is_empty().then_some(Decoded { seq, closed_at, transactions, events })
    }

    fn fields(body: &[u8]) -> EventFields<'_> {
        let at = |index| body.get(index..index + 1);
        EventFields { contract: at(0), topics: [at(1), at(2), at(3), at(4)] }
    }
}

impl Decoder for Toy {
    fn decode<'a>(&self, raw: &'a [u8]) -> icecore_ledger::Result<Decoded<'a>> {
        let malformed =
            || Error::Malformed { what: "toy ledger", offset: 0, why: "not one whole ledger".into() };
        Self::parse(raw).ok_or_else(malformed)
    }

    fn event_fields<'a>(&self, body: &'a [u8]) -> icecore_ledger::Result<EventFields<'a>> {
        Ok(Self::fields(body))
    }
}

/// The rows of each family.
type Families = [BTreeMap<Vec<u8>, Vec<u8>>; 5];

/// What the families must hold for these ledgers, no more and no less.
fn expected_rows(ledgers: &[Vec<u8>]) -> Families {
    let mut rows = Families::default();
    let (mut hasher, mut id) = (TermHasher::default(), 0u32);
    for raw in ledgers {
        let decoded = Toy.decode(raw).expect("the model's own ledgers decode");
        let seq = decoded.seq.0.to_be_bytes().to_vec();
        rows[0].insert(seq.clone(), raw.clone());
        rows[1].extend(decoded.hashes().map(|hash| (hash.0.to_vec(), seq.clone())));
        for event in &decoded.events {
            let mut record = Vec::new();
            EventRecord::of(decoded.seq, decoded.closed_at, event).encode(&mut record).expect("a small body");
            rows[2].insert(id.to_be_bytes().to_vec(), record);
            rows[3]
                .extend(hasher.keys(&event.fields).map(|term| (posting_key(&term, id).to_vec(), Vec::new())));
            id += 1;
        }
        rows[4].insert(seq, (decoded.events.len() as u32).to_be_bytes().to_vec());
    }
    rows
}

fn actual_rows(hot: &HotChunk) -> Families {
    let reader = hot.store.reader().expect("open");
    let mut unpacker = view::unpacker(&hot.shared).expect("memory");
    std::array::from_fn(|family| {
        let mut found = BTreeMap::new();
        let mut rows = reader.rows(FamilyId(family), Span::all()).expect("rows");
        while let Some((key, value)) = rows.next_row().expect("rows") {
            let mut value = value.to_vec();
            if FamilyId(family) == LEDGERS {
                let packed = std::mem::take(&mut value);
                unpack(&mut unpacker, &packed, &mut value).expect("what was packed");
            }
            found.insert(key.to_vec(), value);
        }
        found
    })
}

/// Panics unless the store holds exactly these ledgers, in every row and every answer.
fn check(hot: &HotChunk, ledgers: &[Vec<u8>]) {
    assert_eq!(actual_rows(hot), expected_rows(ledgers));
    check_answers(hot, ledgers);
}

/// The same for what readers see, whatever else has rows.
fn check_answers(hot: &HotChunk, ledgers: &[Vec<u8>]) {
    let view = hot.view().expect("open");
    let decoded: Vec<_> = ledgers.iter().map(|raw| Toy.decode(raw).expect("decodes")).collect();
    assert_eq!(view.last(), decoded.last().map(|ledger| ledger.seq));
    let mut stream = view.ledgers(hot.chunk()).expect("rows");
    for (raw, ledger) in ledgers.iter().zip(&decoded) {
        assert_eq!(stream.next_ledger().expect("no gap"), Some((ledger.seq, raw.as_slice())));
        assert_eq!(view.ledger(ledger.seq).expect("a ledger").as_ref(), Some(raw));
        for hash in ledger.hashes() {
            assert_eq!(view.ledger_of(&hash).expect("a hash"), Some(ledger.seq));
        }
    }
    assert!(stream.next_ledger().expect("the end").is_none());
    let chunk = hot.chunk();
    for seq in [chunk.first.0 - 1, chunk.first.0 + ledgers.len() as u32, u32::MAX].map(LedgerSeq) {
        assert_eq!(view.ledger(seq).expect("nothing"), None);
    }
    let events: Vec<_> = decoded
        .iter()
        .flat_map(|ledger| {
            ledger
                .events
                .iter()
                .map(|event| EventRecord::of(ledger.seq, ledger.closed_at, event).into_owned())
        })
        .collect();
    let filters =
        [vec![], vec![Filter::any().contract([1]).topic(1, [2])], vec![Filter::any().topic(3, [9])]];
    for (filters, order) in filters.into_iter().zip([Order::Ascending, Order::Descending, Order::Ascending]) {
        let query = Query { filters, order, limit: 1000, ..Query::default() };
        let mut expected = events.clone();
        expected.retain(|event| query.matches(&Toy::fields(&event.body)));
        if order == Order::Descending {
            expected.reverse();
        }
        expected.truncate(query.limit);
        assert_eq!(view.events(&query, &Toy).expect("events"), expected);
    }
}

/// A store and what it should hold.
struct Case {
    path: PathBuf,
    chunk: LedgerRange,
    hot: HotChunk,
    ledgers: Vec<Vec<u8>>,
    /// A ledger that was written and refused: the next change removes it, and until then a crash would keep it.
    written: Option<Vec<u8>>,
}

impl Case {
    fn new(dir: &Path, len: u32) -> Self {
        let chunk = LedgerRange { first: LedgerSeq(12), last: LedgerSeq(11 + len) };
        let path = dir.join("hot");
        let hot = HotChunk::create(&path, chunk, &HotOptions::default()).expect("a new store");
        Case { path, chunk, hot, ledgers: Vec::new(), written: None }
    }

    fn next(&self) -> u32 {
        self.chunk.first.0 + self.ledgers.len() as u32
    }

    /// Commits the next ledger, where the chunk has room for it.
    fn commit(&mut self, seed: u8) {
        self.written = None;
        let raw = Toy::ledger(self.next(), seed);
        let committed = self.hot.commit(&raw, &Toy);
        if self.next() > self.chunk.last.0 {
            let refused = committed.expect_err("the chunk is full");
            assert!(matches!(*refused.source, crate::Error::OutOfChunk { .. }), "{refused:?}");
        } else {
            assert_eq!(committed.expect("the next ledger").seq.0, self.next());
            self.ledgers.push(raw);
        }
    }

    fn refuse(&mut self, raw: &[u8]) {
        self.written = None;
        self.hot.commit(raw, &Toy).expect_err("not the next ledger");
    }

    fn truncate(&mut self, keep: usize) {
        self.written = None;
        let keep = keep.min(self.ledgers.len());
        let removed = self.hot.truncate_after(LedgerSeq(self.chunk.first.0 + keep as u32 - 1), &Toy);
        assert_eq!(removed.expect("truncation") as usize, self.ledgers.len() - keep);
        self.ledgers.truncate(keep);
    }

    fn reopen(&mut self, quietly: bool) {
        if quietly {
            self.hot.close_if_idle().expect("idle");
        } else {
            self.hot.close();
        }
        assert!(self.hot.max_committed().is_err());
        self.ledgers.extend(self.written.take());
        let reading =
            HotChunk::open_read_only(&self.path, self.chunk, &HotOptions::default()).expect("whole");
        assert_eq!(
            reading.max_committed().expect("open").map(|last| last.0 + 1).unwrap_or(self.chunk.first.0),
            self.next()
        );
        self.hot = HotChunk::open(&self.path, self.chunk, &HotOptions::default()).expect("whole");
    }

    /// A change that fails at some phase leaves what was there; what readers see says nothing else at any moment.
    fn fail(&mut self, phase: Phase, seed: u8, keep: Option<usize>) {
        let before = self.ledgers.len();
        self.hot.plant_fault(phase);
        match keep {
            None if self.next() <= self.chunk.last.0 => {
                let raw = Toy::ledger(self.next(), seed);
                let failed = self.hot.commit(&raw, &Toy).expect_err("the fault");
                // Written or not, nobody sees it.
                let (seq, decoded) = (LedgerSeq(self.next()), Toy.decode(&raw).expect("it decodes"));
                let view = self.hot.view().expect("open");
                assert_eq!(view.ledger(seq).expect("nothing"), None);
                for hash in decoded.hashes() {
                    assert_eq!(view.ledger_of(&hash).expect("nothing"), None);
                }
                drop(view);
                self.written = (phase == Phase::Apply).then_some(raw);
                assert_eq!(failed.phase, phase);
                assert!(failed.source.is_retryable());
                check_answers(&self.hot, &self.ledgers);
            }
            Some(keep) if keep < before && matches!(phase, Phase::Commit | Phase::Apply) => {
                let last = LedgerSeq(self.chunk.first.0 + keep as u32 - 1);
                self.hot.truncate_after(last, &Toy).expect_err("the fault");
                // Whether it was done shows with the next change.
                self.refuse(b"");
                if phase == Phase::Apply {
                    self.ledgers.truncate(keep);
                }
                check(&self.hot, &self.ledgers);
            }
            _ => self.hot.writer().expect("writable").faults.next = None,
        }
    }
}

/// Runs the operations that the bytes stand for on a store and on a model: whatever comes, they agree.
pub fn commits_against_a_model(data: &[u8]) {
    let dir = tempfile::tempdir().expect("a directory");
    let mut data = data.iter().copied().take(96);
    let mut next = move || data.next();
    let mut case = Case::new(dir.path(), u32::from(next().unwrap_or(0) % 24) + 1);
    while let Some(op) = next() {
        let arg = next().unwrap_or(0);
        match op % 16 {
            0..=6 => case.commit(arg),
            7 => {
                let raw = Toy::ledger(case.next() + 1 + u32::from(arg), arg);
                case.refuse(&raw);
            }
            8 => {
                let raw = Toy::ledger(case.next().saturating_sub(1 + u32::from(arg % 16)), arg);
                case.refuse(&raw);
            }
            9 => {
                let mut raw = Toy::ledger(case.next(), 7);
                raw.truncate(usize::from(arg) % raw.len());
                // The beginning of a ledger can be a ledger: up to its first transaction.
                if Toy.decode(&raw).is_err() {
                    case.refuse(&raw);
                }
            }
            10 | 11 => case.truncate(usize::from(arg) % 32),
            12 => case.reopen(arg % 2 == 0),
            13 => case.fail(Phase::ALL[usize::from(arg) % 9], arg, None),
            14 => case.fail(Phase::ALL[7 + usize::from(arg) % 2], arg, Some(usize::from(arg >> 1) % 32)),
            _ => check_answers(&case.hot, &case.ledgers),
        }
    }
    // Whatever is unsettled is settled by any change, also one that is refused.
    case.refuse(b"");
    check(&case.hot, &case.ledgers);
    case.reopen(false);
    check(&case.hot, &case.ledgers);
}

#[cfg(test)]
mod tests {
    use icecore_rockstore::{Batch, Store, StoreOptions};
    use icecore_testkit::SplitMix64;

    use super::*;
    use crate::format::{EVENTS_DATA, EVENTS_INDEX, EVENTS_OFFSETS, FAMILIES, TXHASH};

    #[test]
    fn seeds() {
        for seed in 0..60 {
            let mut rng = SplitMix64::new(seed);
            let data: Vec<u8> = (0..rng.below(96)).map(|_| rng.next_u64() as u8).collect();
            commits_against_a_model(&data);
        }
    }

    fn case(dir: &Path, ledgers: u8) -> Case {
        let mut case = Case::new(dir, 20);
        (0..ledgers).for_each(|seed| case.commit(seed.wrapping_mul(37) | 5));
        case
    }

    #[test]
    fn a_fault_at_any_step_of_a_commit_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let mut case = case(dir.path(), 5);
        for phase in Phase::ALL {
            case.fail(phase, 7, None);
            if phase != Phase::Apply {
                check(&case.hot, &case.ledgers);
            }
            // The same ledger, another, and a start from the disk: each finds the store as it was.
            match phase as usize % 3 {
                0 => case.commit(7),
                1 => case.commit(11),
                _ => {
                    case.refuse(b"");
                    case.reopen(false);
                }
            }
            check(&case.hot, &case.ledgers);
        }
        let failed = case.hot.commit(&[1, 2, 3], &Toy).unwrap_err();
        assert_eq!(failed.phase, Phase::Decode);
        assert!(failed.report.total() > std::time::Duration::ZERO);
        check(&case.hot, &case.ledgers);
    }

    /// Changes rows behind the store's back.
    fn tamper(case: &Case, change: impl FnOnce(&mut Batch)) -> crate::Result<HotChunk> {
        case.hot.close();
        let store = Store::open(&case.path, &FAMILIES, &StoreOptions::default()).unwrap();
        let mut batch = Batch::new();
        change(&mut batch);
        store.write(&batch).unwrap();
        store.close();
        HotChunk::open(&case.path, case.chunk, &HotOptions::default())
    }

    #[test]
    fn rows_that_contradict_each_other_are_found_on_open() {
        let seq = |seq: u32| seq.to_be_bytes();
        let posting = |id| posting_key(&icecore_events::TermKey([3; 16]), id);
        type Change = (&'static str, Box<dyn FnOnce(&mut Batch)>);
        let changes: Vec<Change> = vec![
            (
                "an index row without its event",
                Box::new(move |rows| rows.put(EVENTS_INDEX, &posting(1000), b"")),
            ),
            ("an index row of another length", Box::new(move |rows| rows.put(EVENTS_INDEX, b"short", b""))),
            ("a missing event", Box::new(move |rows| rows.delete(EVENTS_DATA, &seq(3)))),
            ("an event too many", Box::new(move |rows| rows.put(EVENTS_DATA, &seq(1000), b""))),
            ("a missing ledger", Box::new(move |rows| rows.delete(LEDGERS, &seq(14)))),
            ("a missing last ledger", Box::new(move |rows| rows.delete(LEDGERS, &seq(16)))),
            ("a missing first ledger", Box::new(move |rows| rows.delete(LEDGERS, &seq(12)))),
            ("a ledger without a count", Box::new(move |rows| rows.put(LEDGERS, &seq(17), b""))),
            ("a missing count", Box::new(move |rows| rows.delete(EVENTS_OFFSETS, &seq(13)))),
            ("a wrong count", Box::new(move |rows| rows.put(EVENTS_OFFSETS, &seq(13), &seq(77)))),
            (
                "counts that overflow",
                Box::new(move |rows| rows.put(EVENTS_OFFSETS, &seq(13), &seq(u32::MAX))),
            ),
            ("a count without form", Box::new(move |rows| rows.put(EVENTS_OFFSETS, &seq(13), b"x"))),
            ("a key without form", Box::new(move |rows| rows.put(LEDGERS, b"0", b""))),
        ];
        for (name, change) in changes {
            let dir = tempfile::tempdir().unwrap();
            let error = tamper(&case(dir.path(), 5), change).unwrap_err();
            assert!(matches!(error, crate::Error::Corrupt { .. }), "{name}: {error:?}");
            let told = error.to_string();
            assert!(told.contains("12..=31") && told.contains("ingest the chunk again"), "{name}: {told}");
        }
    }

    #[test]
    fn damage_that_opening_cannot_see_shows_when_it_is_read() {
        let seq = |seq: u32| seq.to_be_bytes();
        let dir = tempfile::tempdir().unwrap();
        let hot = tamper(&case(dir.path(), 5), |rows| {
            rows.put(LEDGERS, &seq(14), b"no frame");
            rows.put(TXHASH, &[1; 32], &seq(900));
            rows.put(TXHASH, &[2; 32], b"?");
            rows.put(EVENTS_DATA, &seq(0), b"no record");
        })
        .unwrap();
        assert!(hot.ledger(LedgerSeq(14)).unwrap_err().is_corrupt());
        assert!(hot.ledger(LedgerSeq(13)).is_ok());
        assert!(hot.transaction(&TxHash([1; 32])).unwrap_err().is_corrupt());
        assert!(hot.transaction(&TxHash([2; 32])).unwrap_err().is_corrupt());
        assert!(hot.events(&Query::default(), &Toy).unwrap_err().is_corrupt());
        assert!(hot.truncate_after(LedgerSeq(12), &Toy).unwrap_err().is_corrupt());
        assert_eq!(hot.max_committed().unwrap(), Some(LedgerSeq(16)));
    }

    #[test]
    fn a_view_that_was_taken_before_a_truncation_says_so() {
        let dir = tempfile::tempdir().unwrap();
        let mut case = case(dir.path(), 6);
        let view = case.hot.view().unwrap();
        let mut stream = view.ledgers(case.chunk).unwrap();
        stream.next_ledger().unwrap().unwrap();
        case.truncate(3);
        case.commit(99);
        let overtaken = |error| matches!(error, crate::Error::Overtaken { .. });
        assert!(overtaken(view.ledger(LedgerSeq(12)).unwrap_err()));
        assert!(overtaken(view.ledger_of(&TxHash([0; 32])).unwrap_err()));
        assert!(overtaken(view.events(&Query::default(), &Toy).unwrap_err()));
        assert!(overtaken(stream.next_ledger().unwrap_err()));
        assert!(stream.next_ledger().unwrap().is_none());
        drop(stream);
        drop(view);
        check(&case.hot, &case.ledgers);
    }
}
