//! Stores built from generated ledgers, read back, damaged, interrupted.
#![allow(clippy::unwrap_used)]

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use icecore_cold::{
    Algorithm, BuildReport, Builder, Checked, ChunkCounts, Control, Coverage, Error, Inventory, Kind, Layout,
    Manifest, Result, Store, open_index,
};
use icecore_diskio::{Disk, Fault, FaultyDisk, RealDisk};
use icecore_events::{Filter, Order, Query};
use icecore_ledger::{
    ChunkId, Decoder, Geometry, LedgerRange, LedgerSeq, LedgerStream, Source, TxHash, WindowId,
};
use icecore_stellar::{StellarDecoder, source::Generator};

const SPEC: &str = "gen:seed=5,ledgers=60,txs=4,events=2,fee_bumps=20";
const PER_CHUNK: u32 = 10;

struct Setup {
    disk: Arc<dyn Disk>,
    layout: Layout,
    control: Control,
}

impl Setup {
    fn on(disk: impl Disk + 'static, root: impl Into<PathBuf>) -> Self {
        Setup { disk: Arc::new(disk), layout: Layout::new(root), control: Control::default() }
    }

    fn real(dir: &tempfile::TempDir) -> Self {
        Self::on(RealDisk, dir.path().join("store"))
    }

    fn build_from(&self, source: &dyn Source, range: LedgerRange, workers: usize) -> Result<BuildReport> {
        self.build_with_index(source, range, workers, None)
    }

    fn build_with_index(
        &self,
        source: &dyn Source,
        range: LedgerRange,
        workers: usize,
        index: Option<Algorithm>,
    ) -> Result<BuildReport> {
        Builder {
            disk: Arc::clone(&self.disk),
            layout: self.layout.clone(),
            manifest: Manifest { geometry: Geometry::new(PER_CHUNK, 4).unwrap(), network: None },
            source,
            decoder: &StellarDecoder,
            workers,
            control: &self.control,
        }
        .build_with_index(range, index)
    }

    fn build(&self, first: u32, last: u32, workers: usize) -> Result<BuildReport> {
        self.build_from(&source(), range(first, last), workers)
    }

    fn store(&self) -> Store {
        Store::open_on(Arc::clone(&self.disk), self.layout.clone()).unwrap()
    }

    /// Every file with its bytes.
    fn files(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let inventory = Inventory::scan(&*self.disk, &self.layout).unwrap();
        let chunks = inventory.chunks.iter();
        let of_chunk = |(&chunk, files): (&ChunkId, &BTreeMap<Kind, u64>)| {
            files.keys().map(|&kind| self.layout.file(kind, chunk)).collect::<Vec<_>>()
        };
        let paths = chunks.flat_map(of_chunk).chain(inventory.indexes.keys().map(|c| self.layout.index(c)));
        paths.map(|path| (path.clone(), self.bytes(&path))).collect()
    }

    fn bytes(&self, path: &Path) -> Vec<u8> {
        let source = self.disk.open(path).unwrap();
        let mut bytes = vec![0; source.len_bytes() as usize];
        source.read_exact_at(&mut bytes, 0).unwrap();
        bytes
    }

    fn verify(&self) -> Vec<Checked> {
        let store = self.store();
        let mut checked = Vec::new();
        store.verify(&self.control, &mut |one| checked.push(one)).unwrap();
        checked
    }

    fn verify_deep(&self) -> Vec<Checked> {
        let scratch = tempfile::tempdir().unwrap();
        let root = if self.disk.list(scratch.path()).is_ok() {
            scratch.path().to_path_buf()
        } else {
            "/scratch".into()
        };
        self.disk.create_dir_all(&root).unwrap();
        let mut checked = Vec::new();
        let report = &mut |one| checked.push(one);
        self.store().verify_deep(&StellarDecoder, &root, 2, &self.control, report).unwrap();
        checked
    }
}

fn source() -> Generator {
    SPEC.parse().unwrap()
}

fn range(first: u32, last: u32) -> LedgerRange {
    LedgerRange::new(LedgerSeq(first), LedgerSeq(last)).unwrap()
}

fn raw_ledgers() -> Vec<(LedgerSeq, Vec<u8>)> {
    let source = source();
    let mut stream = source.stream(source.range().unwrap()).unwrap();
    let mut ledgers = Vec::new();
    while let Some(ledger) = stream.next_ledger().unwrap() {
        ledgers.push((ledger.seq, ledger.bytes.to_vec()));
    }
    ledgers
}

#[test]
fn everything_that_went_in_is_found_again() {
    let dir = tempfile::tempdir().unwrap();
    let setup = Setup::real(&dir);
    let report = setup.build(2, 61, 2).unwrap();
    let store = setup.store();
    let mut counts = ChunkCounts::default();
    let mut bodies = Vec::new();
    for (seq, raw) in raw_ledgers() {
        assert_eq!(store.ledger(seq).unwrap().as_deref(), Some(&raw[..]));
        let decoded = StellarDecoder.decode(&raw).unwrap();
        for hash in decoded.hashes() {
            let found = store.transaction(&hash, &StellarDecoder).unwrap().unwrap();
            assert_eq!((found.ledger, &found.raw), (seq, &raw));
        }
        counts.ledgers += 1;
        counts.raw_bytes += raw.len() as u64;
        counts.transactions += decoded.transactions.len() as u64;
        counts.events += decoded.events.len() as u64;
        bodies.extend(decoded.events.iter().map(|event| (seq, event.body.to_vec())));
    }
    assert_eq!(report.counts, counts);
    assert!(counts.transactions == 240 && counts.events > 240, "{counts:?}");
    let all = Query { limit: usize::MAX, ..Query::default() };
    let found = store.events(&all, &StellarDecoder).unwrap();
    assert_eq!(found.into_iter().map(|e| (e.ledger, e.body)).collect::<Vec<_>>(), bodies);
    assert_eq!(store.reach(), [range(2, 61)]);
    assert_eq!(store.ledger(LedgerSeq(62)).unwrap(), None);
    assert_eq!(store.ledger(LedgerSeq(0)).unwrap(), None);
    for n in 0..=255 {
        assert!(store.transaction(&TxHash([n; 32]), &StellarDecoder).unwrap().is_none());
    }
    let windows: Vec<_> =
        store.inventory().indexes.keys().map(|c| (c.window.0, c.first.0, c.last.0)).collect();
    assert_eq!(windows, [(0, 0, 3), (1, 4, 5)]);
}

#[test]
fn half_a_hash_is_not_enough() {
    let dir = tempfile::tempdir().unwrap();
    let setup = Setup::real(&dir);
    setup.build(2, 11, 1).unwrap();
    let (_, raw) = &raw_ledgers()[0];
    let mut hash = StellarDecoder.decode(raw).unwrap().transactions[0].hash;
    hash.0[31] ^= 1;
    assert!(setup.store().transaction(&hash, &StellarDecoder).unwrap().is_none());
}

#[test]
fn events_come_in_pages_over_chunks_in_both_orders() {
    let dir = tempfile::tempdir().unwrap();
    let setup = Setup::real(&dir);
    setup.build(2, 61, 2).unwrap();
    let store = setup.store();
    let all = store.events(&Query { limit: usize::MAX, ..Query::default() }, &StellarDecoder).unwrap();
    let contract = StellarDecoder.event_fields(&all[0].body).unwrap().contract.unwrap();
    let filters = vec![Filter::any().contract(contract)];
    let of_contract = |event: &icecore_events::EventRecord| {
        StellarDecoder.event_fields(&event.body).unwrap().contract == Some(contract)
    };
    for order in [Order::Ascending, Order::Descending] {
        let ledgers = range(8, 47);
        let mut expected: Vec<_> =
            all.iter().filter(|e| ledgers.contains(e.ledger) && of_contract(e)).cloned().collect();
        if order == Order::Descending {
            expected.reverse();
        }
        assert!(expected.len() > 10, "{}", expected.len());
        let mut query =
            Query { filters: filters.clone(), ledgers: Some(ledgers), order, after: None, limit: 3 };
        let mut paged = Vec::new();
        loop {
            let page = store.events(&query, &StellarDecoder).unwrap();
            let Some(last) = page.last() else { break };
            query.after = Some(last.position());
            paged.extend(page);
        }
        assert_eq!(paged, expected);
    }
}

#[test]
fn the_bytes_do_not_depend_on_workers_or_steps() {
    let dir = tempfile::tempdir().unwrap();
    let once = Setup::real(&dir);
    once.build(2, 61, 1).unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    let steps = Setup::real(&elsewhere);
    let mut reaches = Vec::new();
    for (first, last) in [(22, 31), (2, 11), (12, 45), (2, 61)] {
        steps.build(first, last, 3).unwrap();
        reaches.push(steps.store().reach());
    }
    let expected =
        [vec![range(22, 31)], vec![range(2, 11), range(22, 31)], vec![range(2, 41)], vec![range(2, 61)]];
    assert_eq!(reaches, expected);
    let relative = |setup: &Setup| -> BTreeMap<PathBuf, Vec<u8>> {
        let strip = |path: &Path| path.strip_prefix(setup.layout.root()).unwrap().to_path_buf();
        setup.files().into_iter().map(|(path, bytes)| (strip(&path), bytes)).collect()
    };
    assert_eq!(relative(&once), relative(&steps));
    assert_eq!(relative(&once).len(), 6 * 5 + 2);
}

#[test]
fn a_second_run_does_only_what_is_missing() {
    let dir = tempfile::tempdir().unwrap();
    let setup = Setup::real(&dir);
    assert_eq!(setup.build(2, 61, 2).unwrap().chunks_built, 6);
    let before = setup.files();
    let idle = setup.build(2, 61, 2).unwrap();
    assert_eq!((idle.chunks_built, idle.indexes_built.len()), (0, 0));

    let lost = |kind| setup.disk.remove(&setup.layout.file(kind, ChunkId(2))).unwrap();
    lost(Kind::EventTerms);
    assert_eq!(setup.build(2, 61, 2).unwrap().chunks_built, 1);
    assert_eq!(setup.files(), before);
    lost(Kind::Ledgers);
    assert_eq!(setup.build(2, 61, 2).unwrap().chunks_built, 1);
    assert_eq!(setup.files(), before);

    // An index that is lost comes back from the runs, a run that is lost with it from the ledgers.
    lost(Kind::Run);
    assert_eq!(setup.build(2, 61, 2).unwrap().chunks_built, 0);
    let coverage = Coverage { window: WindowId(0), first: ChunkId(0), last: ChunkId(3) };
    setup.disk.remove(&setup.layout.index(&coverage)).unwrap();
    let report = setup.build(2, 61, 2).unwrap();
    assert_eq!((report.chunks_built, report.indexes_built.len()), (1, 1));
    assert_eq!(setup.files(), before);
}

#[test]
fn what_a_killed_run_left_is_swept_and_never_read() {
    let dir = tempfile::tempdir().unwrap();
    let setup = Setup::real(&dir);
    setup.build(2, 11, 1).unwrap();
    let mut left = setup.layout.file(Kind::Ledgers, ChunkId(1)).into_os_string();
    left.push(".partial");
    std::fs::write(&left, b"half a pack").unwrap();
    assert_eq!(setup.store().reach(), [range(2, 11)]);
    setup.build(2, 11, 1).unwrap();
    assert!(!Path::new(&left).exists());
}

#[test]
fn a_build_beside_a_build_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let setup = Setup::real(&dir);
    setup.build(2, 11, 1).unwrap();
    let held = setup.disk.create_exclusive(&setup.layout.root().join(".building")).unwrap();
    assert!(matches!(setup.build(2, 11, 1), Err(Error::Busy { .. })));
    drop(held);
    setup.build(2, 11, 1).unwrap();
}

#[test]
fn indexes_are_built_as_was_chosen_last() {
    for algorithm in Algorithm::ALL {
        let dir = tempfile::tempdir().unwrap();
        let setup = Setup::real(&dir);
        let build = |last, index| setup.build_with_index(&source(), range(2, last), 2, index).unwrap();
        let algorithms = || {
            let store = setup.store();
            let open = |coverage: &Coverage| {
                open_index(&*setup.disk, &setup.layout, &store.manifest().geometry, coverage).unwrap()
            };
            store.inventory().indexes.keys().map(|coverage| open(coverage).algorithm()).collect::<Vec<_>>()
        };
        // Windows have four chunks: one is whole, one is begun.
        build(51, Some(algorithm));
        assert_eq!(algorithms(), [algorithm; 2]);
        // What is there stays, and says itself what it is.
        build(51, Some(Algorithm::Bijection));
        assert_eq!(algorithms(), [algorithm; 2]);
        build(61, None);
        assert_eq!(algorithms(), [algorithm, Algorithm::Bijection]);
        let store = setup.store();
        for (seq, raw) in raw_ledgers() {
            for hash in StellarDecoder.decode(&raw).unwrap().hashes() {
                assert_eq!(store.transaction(&hash, &StellarDecoder).unwrap().unwrap().ledger, seq);
            }
        }
        for n in 0..=255 {
            assert!(store.transaction(&TxHash([n; 32]), &StellarDecoder).unwrap().is_none());
        }
        setup.verify().into_iter().chain(setup.verify_deep()).for_each(|one| one.result.unwrap());
    }
}

#[test]
fn another_geometry_is_refused_with_both_values() {
    let dir = tempfile::tempdir().unwrap();
    let setup = Setup::real(&dir);
    setup.build(2, 11, 1).unwrap();
    let source = source();
    let builder = Builder {
        disk: Arc::clone(&setup.disk),
        layout: setup.layout.clone(),
        manifest: Manifest { geometry: Geometry::new(20, 4).unwrap(), network: None },
        source: &source,
        decoder: &StellarDecoder,
        workers: 1,
        control: &setup.control,
    };
    let error = builder.build(range(2, 41)).unwrap_err();
    assert!(matches!(error, Error::GeometryChanged { .. }));
    assert!(error.to_string().contains("10 ledgers") && error.to_string().contains("20 and 4"), "{error}");
}

#[test]
fn a_range_without_a_chunk_says_where_the_next_one_begins() {
    let dir = tempfile::tempdir().unwrap();
    let setup = Setup::real(&dir);
    let error = setup.build(3, 20, 1).unwrap_err();
    assert!(matches!(error, Error::NoCompleteChunk { next, .. } if next == range(12, 21)), "{error}");
    assert!(!setup.layout.root().exists(), "nothing is made for a build that cannot begin");
}

/// Ledgers as they are, but with a fault at one of them.
struct Spoiled<F> {
    inner: Generator,
    random_access: bool,
    spoil: F,
}

struct SpoiledStream<'a, F> {
    inner: Box<dyn LedgerStream + 'a>,
    bytes: Vec<u8>,
    spoil: &'a F,
}

impl<F: Fn(&mut LedgerSeq, &mut Vec<u8>) + Send + Sync> Source for Spoiled<F> {
    fn describe(&self) -> String {
        "spoiled ledgers".into()
    }
    fn range(&self) -> icecore_ledger::Result<LedgerRange> {
        self.inner.range()
    }
    fn random_access(&self) -> bool {
        self.random_access
    }
    fn stream(&self, ledgers: LedgerRange) -> icecore_ledger::Result<Box<dyn LedgerStream + '_>> {
        Ok(Box::new(SpoiledStream {
            inner: self.inner.stream(ledgers)?,
            bytes: Vec::new(),
            spoil: &self.spoil,
        }))
    }
}

impl<F: Fn(&mut LedgerSeq, &mut Vec<u8>) + Send + Sync> LedgerStream for SpoiledStream<'_, F> {
    fn next_ledger(&mut self) -> icecore_ledger::Result<Option<icecore_ledger::RawLedger<'_>>> {
        let Some(ledger) = self.inner.next_ledger()? else { return Ok(None) };
        let mut seq = ledger.seq;
        self.bytes = ledger.bytes.to_vec();
        (self.spoil)(&mut seq, &mut self.bytes);
        Ok(Some(icecore_ledger::RawLedger { seq, bytes: &self.bytes }))
    }
}

#[test]
fn a_bad_ledger_stops_its_chunk_and_spares_the_finished() {
    for random_access in [true, false] {
        let cut = |seq: &mut LedgerSeq, bytes: &mut Vec<u8>| {
            if seq.0 == 25 {
                bytes.pop();
            }
        };
        let other = |seq: &mut LedgerSeq, _: &mut Vec<u8>| {
            if seq.0 == 25 {
                seq.0 = 26;
            }
        };
        let strange = |seq: &mut LedgerSeq, bytes: &mut Vec<u8>| {
            if seq.0 == 25 {
                *bytes = raw_ledgers().swap_remove(30).1;
            }
        };
        let dir = tempfile::tempdir().unwrap();
        let setup = Setup::real(&dir);
        let source = Spoiled { inner: source(), random_access, spoil: cut };
        let error = setup.build_from(&source, range(2, 61), 1).unwrap_err();
        assert!(matches!(error, Error::Decode { chunk: ChunkId(2), seq: LedgerSeq(25), .. }), "{error}");
        let source = Spoiled { inner: source.inner, random_access, spoil: other };
        let error = setup.build_from(&source, range(2, 61), 1).unwrap_err();
        assert!(
            matches!(error, Error::Foreign { expected: LedgerSeq(25), found: LedgerSeq(26), .. }),
            "{error}"
        );
        let source = Spoiled { inner: source.inner, random_access, spoil: strange };
        let error = setup.build_from(&source, range(2, 61), 1).unwrap_err();
        assert!(
            matches!(error, Error::Foreign { expected: LedgerSeq(25), found: LedgerSeq(32), .. }),
            "{error}"
        );
        let kept: Vec<_> = Inventory::scan(&*setup.disk, &setup.layout).unwrap().chunks.into_keys().collect();
        assert_eq!(kept, [ChunkId(0), ChunkId(1)]);
        assert_eq!(setup.build(2, 61, 2).unwrap().chunks_built, 4);
        assert!(setup.verify_deep().iter().all(|checked| checked.result.is_ok()));
    }
}

#[test]
fn a_cancelled_build_keeps_finished_chunks_and_leaves_nothing_half_made() {
    let dir = tempfile::tempdir().unwrap();
    let setup = Setup::real(&dir);
    let cancel_at_33 = |seq: &mut LedgerSeq, _: &mut Vec<u8>| {
        if seq.0 == 33 {
            setup.control.cancel();
        }
    };
    let source = Spoiled { inner: source(), random_access: true, spoil: cancel_at_33 };
    let error = setup.build_from(&source, range(2, 61), 1).unwrap_err();
    assert!(matches!(error, Error::Cancelled), "{error}");
    for kind in Kind::ALL {
        let dir = setup.layout.file(kind, ChunkId(3)).parent().unwrap().to_path_buf();
        assert!(setup.disk.list(&dir).unwrap().iter().all(|name| !name.ends_with(".partial")));
    }
    assert_eq!(setup.store().reach(), [range(2, 31)]);
}

#[test]
fn what_is_missing_is_a_finding() {
    let dir = tempfile::tempdir().unwrap();
    let setup = Setup::real(&dir);
    setup.build(2, 21, 2).unwrap();
    let index = setup.layout.index(&Coverage { window: WindowId(0), first: ChunkId(0), last: ChunkId(1) });
    let files = Kind::ALL.into_iter().filter(|&kind| kind != Kind::Run);
    for path in files.map(|kind| setup.layout.file(kind, ChunkId(0))).chain([index]) {
        let bytes = setup.bytes(&path);
        setup.disk.remove(&path).unwrap();
        assert!(setup.verify().iter().any(|checked| checked.result.is_err()), "{}", path.display());
        std::fs::write(&path, bytes).unwrap();
    }
    assert!(setup.verify().iter().all(|checked| checked.result.is_ok()));

    setup.disk.remove(&setup.layout.file(Kind::EventTerms, ChunkId(0))).unwrap();
    let error = setup.store().events(&Query::default(), &StellarDecoder).unwrap_err();
    assert!(matches!(error, Error::Missing { .. }), "{error}");
}

#[test]
fn one_damaged_index_keeps_nothing_else_from_answering() {
    let dir = tempfile::tempdir().unwrap();
    let setup = Setup::real(&dir);
    setup.build(2, 61, 2).unwrap();
    let index = setup.layout.index(&Coverage { window: WindowId(1), first: ChunkId(4), last: ChunkId(5) });
    std::fs::write(index, b"short").unwrap();
    let store = setup.store();
    assert!(store.ledger(LedgerSeq(50)).unwrap().is_some());
    assert_eq!(store.events(&Query::default(), &StellarDecoder).unwrap().len(), 100);
    assert!(store.transaction(&TxHash([1; 32]), &StellarDecoder).unwrap_err().is_corrupt());
    assert_eq!(setup.verify().iter().filter(|checked| checked.result.is_err()).count(), 1);
}

#[test]
fn a_lookup_beside_a_widening_build_finds_the_index_that_came_instead() {
    let dir = tempfile::tempdir().unwrap();
    let setup = Setup::real(&dir);
    setup.build(2, 11, 1).unwrap();
    let before = setup.store();
    setup.build(2, 31, 1).unwrap();
    let hash = StellarDecoder.decode(&raw_ledgers()[4].1).unwrap().transactions[0].hash;
    assert_eq!(before.transaction(&hash, &StellarDecoder).unwrap().unwrap().ledger, LedgerSeq(6));
}

#[test]
fn foreign_files_are_passed_over() {
    let dir = tempfile::tempdir().unwrap();
    let setup = Setup::real(&dir);
    setup.build(2, 21, 1).unwrap();
    for place in ["ledgers/.hidden", "ledgers/00000/notes.txt", "txhash/index/00000007", "events/00009"] {
        std::fs::write(setup.layout.root().join(place), b"foreign").unwrap();
    }
    assert_eq!(setup.build(2, 21, 1).unwrap().chunks_built, 0);
    assert!(setup.verify().iter().all(|checked| checked.result.is_ok()));
}

#[test]
fn what_cannot_be_built_is_refused_before_anything_is_made() {
    let dir = tempfile::tempdir().unwrap();
    let setup = Setup::real(&dir);
    let error = setup.build(2, 71, 1).unwrap_err();
    assert!(matches!(error, Error::Ledger(icecore_ledger::Error::OutOfRange { .. })), "{error}");
    let far: Generator = "gen:from=1000000002,ledgers=10".parse().unwrap();
    let error = setup.build_from(&far, range(1_000_000_002, 1_000_000_011), 1).unwrap_err();
    assert!(matches!(error, Error::ChunkOutOfRange { chunk: ChunkId(100_000_000) }), "{error}");
    assert!(!setup.layout.manifest().exists());

    // Nothing is asked of a source for chunks that are there already.
    setup.build(2, 61, 1).unwrap();
    let less: Generator = "gen:seed=5,ledgers=30".parse().unwrap();
    assert_eq!(setup.build_from(&less, range(2, 61), 1).unwrap().chunks_built, 0);
}

#[test]
fn ledgers_that_come_in_the_place_of_lost_ones_are_indexed() {
    let dir = tempfile::tempdir().unwrap();
    let setup = Setup::real(&dir);
    setup.build(2, 21, 1).unwrap();
    setup.disk.remove(&setup.layout.file(Kind::Ledgers, ChunkId(1))).unwrap();
    let others: Generator = SPEC.replace("seed=5", "seed=6").parse().unwrap();
    setup.build_from(&others, range(2, 21), 1).unwrap();
    let raw = setup.store().ledger(LedgerSeq(15)).unwrap().unwrap();
    let hash = StellarDecoder.decode(&raw).unwrap().transactions[0].hash;
    assert_eq!(setup.store().transaction(&hash, &StellarDecoder).unwrap().unwrap().ledger, LedgerSeq(15));
    assert!(setup.verify_deep().iter().all(|checked| checked.result.is_ok()));
}

#[test]
fn damage_to_a_file_of_any_kind_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let setup = Setup::real(&dir);
    setup.build(2, 21, 2).unwrap();
    assert!(setup.verify().iter().all(|checked| checked.result.is_ok()));
    assert!(setup.verify_deep().iter().all(|checked| checked.result.is_ok()));
    for (path, bytes) in setup.files() {
        // Some places all over the file, and those of its magic number, version and flags.
        let some = (0..bytes.len()).step_by((bytes.len() / 6).max(1));
        let ends = (0..6).chain(bytes.len() - 74..bytes.len() - 70);
        for place in some.chain(ends) {
            let mut damaged = bytes.clone();
            damaged[place] ^= 0x01;
            std::fs::write(&path, &damaged).unwrap();
            let noticed =
                setup.verify_deep().iter().chain(&setup.verify()).any(|checked| checked.result.is_err());
            assert!(noticed, "{} at {place} of {}", path.display(), bytes.len());
        }
        std::fs::write(&path, &bytes).unwrap();
    }
    assert!(setup.verify_deep().iter().all(|checked| checked.result.is_ok()));
}

#[test]
fn files_of_another_chunk_are_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let setup = Setup::real(&dir);
    setup.build(2, 21, 2).unwrap();
    for kind in [Kind::Ledgers, Kind::Run, Kind::Events] {
        let (here, there) = (setup.layout.file(kind, ChunkId(0)), setup.layout.file(kind, ChunkId(1)));
        let bytes = setup.bytes(&here);
        std::fs::copy(&there, &here).unwrap();
        assert!(setup.verify().iter().any(|checked| checked.result.is_err()), "{kind}");
        std::fs::write(&here, bytes).unwrap();
    }
}

#[test]
fn a_fault_at_any_step_of_a_build_is_healed_by_the_next() {
    let clean = FaultyDisk::new();
    let setup = Setup::on(clean.clone(), "/store");
    setup.build(2, 21, 1).unwrap();
    let expected = setup.files();
    let steps = clean.operations();
    assert!(steps > 60, "{steps}");
    for step in 0..steps {
        for fault in [Fault::Io, Fault::DiskFull, Fault::ShortWrite, Fault::PowerCut] {
            let disk = FaultyDisk::new();
            disk.fail_at(step, fault);
            let broken = Setup::on(disk.clone(), "/store");
            // A fault while something is tidied away may go unnoticed; what counts is what is there afterwards.
            let _ = broken.build(2, 21, 1);
            let left = match fault {
                Fault::PowerCut => Setup::on(disk.after_crash(), "/store"),
                _ => broken,
            };
            for (path, bytes) in left.files() {
                assert_eq!(Some(&bytes), expected.get(&path), "{} after {fault:?} at {step}", path.display());
            }
            let restarted = Setup::on(disk.after_crash(), "/store");
            restarted.build(2, 21, 1).unwrap();
            assert_eq!(restarted.files(), expected, "{fault:?} at {step}");
        }
    }
}

#[test]
fn a_directory_that_is_no_store_is_named() {
    let dir = tempfile::tempdir().unwrap();
    assert!(matches!(Store::open(dir.path()), Err(Error::NotAStore { .. })));
    assert!(matches!(Store::open(dir.path().join("missing")), Err(Error::NotAStore { .. })));
}
