//! The audit: a clean store has no finding, and every violation that is planted has one, which names it.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::{
    fs,
    ops::ControlFlow,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
    time::Duration,
};

use icecore_catalog::{
    Artifact, Catalog, Key, Pins,
    audit::{Audit, AuditOptions, AuditReport, Deep, Finding, Invariant},
};
use icecore_cold::{ChunkBuild, Control, Coverage, Kind, Layout, build_index};
use icecore_diskio::{Disk, IfExists, RealDisk};
use icecore_ledger::{ChunkId, GENESIS, Geometry, LedgerRange, Source, WindowId};
use icecore_rockstore::{Batch, Family, FamilyId, Store, StoreOptions};
use icecore_stellar::{StellarDecoder, source::Generator};
use icecore_txindex::{Algorithm, Options, build_index_with};
use proptest::prelude::*;

/// Chunks 0 to 3 are a window whose index is final; 4 and 5 have an index and their runs; 6 is hot.
struct Fixture {
    dir: tempfile::TempDir,
    layout: Layout,
    disk: Arc<dyn Disk>,
}

fn geometry() -> Geometry {
    Geometry::new(3, 4).unwrap()
}

fn pins() -> Pins {
    Pins::new(geometry(), GENESIS, None)
}

fn index(first: u32, last: u32) -> Coverage {
    Coverage { window: WindowId(first / 4), first: ChunkId(first), last: ChunkId(last) }
}

fn chunk(chunk: u32, artifact: Artifact) -> Key {
    Key::Chunk(ChunkId(chunk), artifact)
}

impl Fixture {
    /// A copy of one that was made once.
    fn new() -> Self {
        static MADE: OnceLock<Fixture> = OnceLock::new();
        let fixture = Fixture::empty();
        copy(MADE.get_or_init(Fixture::make).layout.root(), fixture.layout.root());
        fixture
    }

    fn empty() -> Self {
        // In memory, where there is such a place: nothing here is about power cuts.
        let shm = Path::new("/dev/shm");
        let dir = if shm.is_dir() { tempfile::tempdir_in(shm) } else { tempfile::tempdir() }.unwrap();
        let layout = Layout::new(dir.path().join("store"));
        Fixture { dir, layout, disk: Arc::new(RealDisk) }
    }

    fn make() -> Self {
        let fixture = Fixture::empty();
        let catalog = fixture.catalog();
        for number in 0..6 {
            let keys = Artifact::ALL.map(|artifact| chunk(number, artifact));
            catalog.build(&keys, || fixture.write(number, &Kind::ALL, 1)).unwrap();
        }
        for coverage in [index(0, 2), index(0, 3), index(4, 5)] {
            catalog.build_index(coverage, || fixture.write_index(coverage)).unwrap();
        }
        let pruning: Vec<Key> =
            catalog.state().keys().filter(|key| catalog.state().word(key) == Some("pruning")).collect();
        assert_eq!(pruning.len(), 5);
        pruning.iter().for_each(|key| catalog.destroy(key).unwrap());
        catalog.hot_transient(ChunkId(6)).unwrap();
        fs::create_dir_all(fixture.layout.hot_chunk(ChunkId(6))).unwrap();
        catalog.hot_ready(ChunkId(6)).unwrap();
        catalog.close();
        fixture
    }

    fn catalog(&self) -> Catalog {
        Catalog::open(Arc::clone(&self.disk), self.layout.clone(), &pins()).unwrap()
    }

    /// Files of a chunk, of the history that a seed gives.
    fn write(&self, number: u32, kinds: &[Kind], seed: u32) -> icecore_catalog::Result<()> {
        let generator: Generator = format!("gen:seed={seed},ledgers=100,txs=3").parse().unwrap();
        let ledgers = geometry().ledgers_of(ChunkId(number)).unwrap();
        let build = ChunkBuild {
            disk: &self.disk,
            layout: &self.layout,
            decoder: &StellarDecoder,
            control: &Control::default(),
            threads: 1,
            if_exists: IfExists::Replace,
        };
        build.run(ChunkId(number), ledgers, kinds, &mut *generator.stream(ledgers).unwrap())?;
        Ok(())
    }

    fn write_index(&self, coverage: Coverage) -> icecore_catalog::Result<()> {
        build_index(&self.disk, &self.layout, &geometry(), &coverage, 1, &Control::default())?;
        Ok(())
    }

    /// Changes rows behind the catalog's back.
    fn rows(&self, rows: &[(&str, &str)]) {
        let path = self.layout.catalog_dir();
        let store = Store::open(&path, &[Family::new("catalog")], &StoreOptions::default()).unwrap();
        let mut batch = Batch::new();
        for (name, value) in rows {
            match *value {
                "" => batch.delete(FamilyId(0), name.as_bytes()),
                value => batch.put(FamilyId(0), name.as_bytes(), value.as_bytes()),
            }
        }
        store.write(&batch).unwrap();
        store.close();
    }

    fn audit<'a>(&'a self, control: &'a Control, options: AuditOptions<'a>) -> Audit<'a> {
        Audit { disk: &self.disk, layout: &self.layout, decoder: &StellarDecoder, control, options }
    }

    fn shallow(&self) -> AuditReport {
        self.audit(&Control::default(), AuditOptions::default()).run().unwrap()
    }

    fn deep(&self, trust: Duration, sample: Option<(u32, u64)>) -> AuditReport {
        let scratch = tempfile::tempdir().unwrap();
        let deep = Some(Deep { scratch: scratch.path(), workers: 1, sample, trust });
        let report =
            self.audit(&Control::default(), AuditOptions { deep, ..AuditOptions::default() }).run().unwrap();
        for tree in ["events", "txhash/index/00000000", "txhash/index/00000001"] {
            let left = RealDisk.list(&scratch.path().join(tree)).unwrap();
            let left: Vec<_> = left
                .iter()
                .flat_map(|bucket| RealDisk.list(&scratch.path().join(tree).join(bucket)).unwrap())
                .collect();
            assert!(left.is_empty(), "{left:?}");
        }
        report
    }

    fn file(&self, kind: Kind, number: u32) -> PathBuf {
        self.layout.file(kind, ChunkId(number))
    }

    fn put(&self, path: impl AsRef<Path>, bytes: &[u8]) {
        let path = self.layout.root().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let (from, to) = (entry.as_ref().unwrap().path(), to.join(entry.unwrap().file_name()));
        if from.is_dir() { copy(&from, &to) } else { assert!(fs::copy(from, to).is_ok()) }
    }
}

fn flip(path: &Path, at: impl Fn(usize) -> usize) {
    let mut bytes = fs::read(path).unwrap();
    let at = at(bytes.len());
    bytes[at] ^= 0x40;
    fs::write(path, bytes).unwrap();
}

fn cut(path: &Path) {
    let bytes = fs::read(path).unwrap();
    fs::write(path, &bytes[..bytes.len() / 2]).unwrap();
}

const HOUR: Duration = Duration::from_secs(3600);

#[test]
fn a_clean_store_has_no_finding() {
    let store = Fixture::new();
    let report = store.shallow();
    assert_eq!(report.findings, []);
    assert_eq!((report.keys, report.files, report.floor), (17, 29, Some(ChunkId(0))));
    assert_eq!(store.deep(HOUR, None).findings, []);
    let catalog = store.catalog();
    assert_eq!(store.audit(&Control::default(), AuditOptions::default()).run_on(&catalog).unwrap(), report);
    // Beside a process that has it open, too.
    assert_eq!(store.shallow(), report);
}

type Plant = fn(&Fixture);
type Case = (&'static str, Plant, Invariant, &'static str, &'static str, bool);

use Artifact::Ledgers;
use Invariant::{DiskMatchesKeys, Floor, OneHome, Reads};

/// What is planted; what an audit at a glance says of it: the invariant, words of the finding, whether it can be repaired.
const SHALLOW: &[Case] = &[
    (
        "orphan",
        |s| s.put("ledgers/00000/00000009.pack", b"x"),
        DiskMatchesKeys,
        "chunk:00000009:ledgers",
        "no key has",
        true,
    ),
    (
        "orphan index",
        |s| s.put("txhash/index/00000002/00000008-00000009.idx", b"x"),
        DiskMatchesKeys,
        "index:00000002",
        "no key has",
        true,
    ),
    (
        "partial",
        |s| s.put("ledgers/00000/00000002.pack.partial", b"x"),
        DiskMatchesKeys,
        "00000002.pack.partial",
        "half-written",
        true,
    ),
    (
        "partial without a key",
        |s| s.put("events/00000/00000009-events.pack.partial", b"x"),
        DiskMatchesKeys,
        "00000009-events",
        "half-written",
        true,
    ),
    (
        "foreign file",
        |s| s.put("ledgers/00000/notes.txt", b"x"),
        DiskMatchesKeys,
        "notes.txt",
        "not a name",
        false,
    ),
    (
        "misplaced",
        |s| s.put("ledgers/00001/00000001.pack", b"x"),
        DiskMatchesKeys,
        "00001/00000001.pack",
        "lies elsewhere",
        false,
    ),
    (
        "in another tree",
        |s| s.put("events/00000/00000001.pack", b"x"),
        DiskMatchesKeys,
        "events/00000/00000001.pack",
        "lies elsewhere",
        false,
    ),
    (
        "stray directory",
        |s| s.put("ledgers/old/00000001.pack", b"x"),
        DiskMatchesKeys,
        "ledgers/old",
        "no place",
        false,
    ),
    (
        "file for a bucket",
        |s| s.put("ledgers/00003", b"x"),
        DiskMatchesKeys,
        "ledgers/00003",
        "no place",
        false,
    ),
    (
        "directory for a file",
        |s| s.put("ledgers/00004/00004000.pack/x", b"x"),
        DiskMatchesKeys,
        "00004000.pack",
        "neither a file",
        false,
    ),
    (
        "loop of links",
        |s| std::os::unix::fs::symlink("00007", s.layout.root().join("ledgers/00007")).unwrap(),
        DiskMatchesKeys,
        "ledgers/00007",
        "list",
        false,
    ),
    (
        "link for a file",
        |s| {
            let (path, away) = (s.file(Kind::Ledgers, 3), s.dir.path().join("away"));
            fs::rename(&path, &away).unwrap();
            std::os::unix::fs::symlink(away, path).unwrap();
        },
        DiskMatchesKeys,
        "00000003.pack",
        "a link",
        false,
    ),
    (
        "dangler",
        |s| fs::remove_file(s.file(Kind::EventTerms, 2)).unwrap(),
        DiskMatchesKeys,
        "chunk:00000002:events",
        "not there",
        false,
    ),
    (
        "dangling index",
        |s| fs::remove_file(s.layout.index(&index(4, 5))).unwrap(),
        DiskMatchesKeys,
        "index:00000001",
        "not there",
        false,
    ),
    (
        "lost hot chunk",
        |s| fs::remove_dir(s.layout.hot_chunk(ChunkId(6))).unwrap(),
        DiskMatchesKeys,
        "hot:chunk:00000006",
        "a loss",
        false,
    ),
    (
        "orphan hot directory",
        |s| s.put("hot/00000009/CURRENT", b"x"),
        DiskMatchesKeys,
        "hot:chunk:00000009",
        "no key has",
        true,
    ),
    ("stray in hot", |s| s.put("hot/notes", b"x"), DiskMatchesKeys, "hot/notes", "no place", false),
    (
        "file for a hot chunk",
        |s| s.put("hot/00000008", b"x"),
        DiskMatchesKeys,
        "hot/00000008",
        "not a directory",
        false,
    ),
    (
        "row that is no key",
        |s| s.rows(&[("chunk:7:ledgers", "frozen")]),
        DiskMatchesKeys,
        "chunk:7:ledgers",
        "no key that",
        false,
    ),
    (
        "row without sense",
        |s| s.rows(&[("hot:chunk:00000006", "frozen")]),
        DiskMatchesKeys,
        "hot:chunk:00000006",
        "value",
        false,
    ),
    (
        "row of another geometry",
        |s| s.rows(&[("index:00000000:00000003:00000004", "frozen")]),
        DiskMatchesKeys,
        "index:00000000",
        "geometry",
        false,
    ),
    (
        "settled freezing",
        |s| s.rows(&[("chunk:00000007:events", "freezing")]),
        OneHome,
        "chunk:00000007:events",
        "stays freezing",
        true,
    ),
    (
        "settled pruning",
        |s| s.rows(&[("chunk:00000005:txhash", "pruning")]),
        OneHome,
        "chunk:00000005:txhash",
        "stays pruning",
        true,
    ),
    (
        "settled index",
        |s| s.rows(&[("index:00000001:00000004:00000006", "freezing")]),
        OneHome,
        "index:00000001",
        "stays freezing",
        true,
    ),
    (
        "settled transient",
        |s| s.rows(&[("hot:chunk:00000007", "transient")]),
        OneHome,
        "hot:chunk:00000007",
        "stays transient",
        true,
    ),
    (
        "two indexes",
        |s| {
            s.write_index(index(4, 4)).unwrap();
            s.rows(&[("index:00000001:00000004:00000004", "frozen")]);
        },
        OneHome,
        "index:00000001:00000004:00000004",
        "another frozen index",
        true,
    ),
    (
        "hot chunk that is served",
        |s| {
            s.put("hot/00000005/CURRENT", b"x");
            s.rows(&[("hot:chunk:00000005", "ready")]);
        },
        OneHome,
        "hot:chunk:00000005",
        "not needed",
        true,
    ),
    (
        "run of a final window",
        |s| {
            s.write(1, &[Kind::Run], 1).unwrap();
            s.rows(&[("chunk:00000001:txhash", "frozen")]);
        },
        OneHome,
        "chunk:00000001:txhash",
        "not needed",
        true,
    ),
    (
        "hashes that lead nowhere",
        |s| {
            s.rows(&[("index:00000001:00000004:00000005", ""), ("chunk:00000004:txhash", "")]);
        },
        Reads,
        "chunk:00000004:ledgers",
        "no index",
        false,
    ),
    (
        "pack cut short",
        |s| cut(&s.file(Kind::Ledgers, 1)),
        Reads,
        "chunk:00000001:ledgers",
        "00000001.pack",
        false,
    ),
    (
        "pack of another chunk",
        |s| assert!(fs::copy(s.file(Kind::Ledgers, 1), s.file(Kind::Ledgers, 2)).unwrap() > 0),
        Reads,
        "chunk:00000002:ledgers",
        "its chunk is",
        false,
    ),
    (
        "empty pack",
        |s| s.put("ledgers/00000/00000001.pack", b""),
        Reads,
        "chunk:00000001:ledgers",
        "00000001.pack",
        false,
    ),
    ("events cut short", |s| cut(&s.file(Kind::Events, 3)), Reads, "chunk:00000003:events", "", false),
    ("terms cut short", |s| cut(&s.file(Kind::EventTerms, 3)), Reads, "chunk:00000003:events", "", false),
    ("bitmaps cut short", |s| cut(&s.file(Kind::EventBitmaps, 3)), Reads, "chunk:00000003:events", "", false),
    (
        "events of another chunk",
        |s| {
            for kind in [Kind::Events, Kind::EventBitmaps, Kind::EventTerms] {
                fs::copy(s.file(kind, 1), s.file(kind, 3)).unwrap();
            }
        },
        Reads,
        "chunk:00000003:events",
        "not those of its chunk",
        false,
    ),
    ("run cut short", |s| cut(&s.file(Kind::Run, 4)), Reads, "chunk:00000004:txhash", "", false),
    ("index cut short", |s| cut(&s.layout.index(&index(0, 3))), Reads, "index:00000000", "", false),
    (
        "index of another window",
        |s| assert!(fs::copy(s.layout.index(&index(0, 3)), s.layout.index(&index(4, 5))).unwrap() > 0),
        Reads,
        "index:00000001",
        "its name says",
        false,
    ),
];

fn names(found: &Finding, case: &Case) -> bool {
    let (_, _, invariant, whom, what, can_repair) = case;
    let text = found.to_string();
    found.invariant == *invariant
        && text.contains(whom)
        && text.contains(what)
        && found.repair.is_some() == *can_repair
}

#[test]
fn what_is_planted_is_found_and_named() {
    for case in SHALLOW {
        let store = Fixture::new();
        (case.1)(&store);
        let report = store.shallow();
        let texts: Vec<String> = report.findings.iter().map(Finding::to_string).collect();
        assert!(report.findings.iter().any(|found| names(found, case)), "{}: {texts:#?}", case.0);
        // One planted thing is not ten findings.
        assert!(report.findings.len() <= 3, "{}: {texts:#?}", case.0);
        // A live store shows it as well, as it stays.
        let looks = std::cell::Cell::new(0);
        let between = || looks.set(looks.get() + 1);
        let options = AuditOptions { between_looks: Some(&between), ..AuditOptions::default() };
        let live = store.audit(&Control::default(), options).run().unwrap();
        assert_eq!((live.findings, looks.get()), (report.findings, 1), "{}", case.0);
    }
}

#[test]
fn repairs_are_made_once_and_hurt_nobody() {
    for case in SHALLOW.iter().filter(|case| case.5) {
        let store = Fixture::new();
        (case.1)(&store);
        let catalog = store.catalog();
        let control = Control::default();
        let audit = store.audit(&control, AuditOptions::default());
        let before = audit.run_on(&catalog).unwrap().findings;
        for round in 0..2 {
            let done = Finding::repair_all(&before, &catalog);
            assert!(!done.is_empty() && done.iter().all(|done| done.result.is_ok()), "{}: {done:?}", case.0);
            let left = audit.run_on(&catalog).unwrap().findings;
            assert!(left.is_empty(), "{} after {round}: {left:#?}", case.0);
        }
        catalog.close();
        assert_eq!(store.deep(HOUR, None).findings, [], "{}", case.0);
    }
}

#[test]
fn what_lies_below_the_floor_is_found() {
    let store = Fixture::new();
    let catalog = store.catalog();
    let control = Control::default();
    for (retention_chunks, keys, floor) in [(0, 0, 0), (6, 0, 0), (5, 2, 1), (3, 6, 3), (2, 9, 4), (1, 12, 5)]
    {
        let report = store
            .audit(&control, AuditOptions { retention_chunks, ..AuditOptions::default() })
            .run_on(&catalog)
            .unwrap();
        assert_eq!(report.floor, Some(ChunkId(floor)));
        assert_eq!(report.findings.len(), keys, "{retention_chunks}: {:#?}", report.findings);
        assert!(report.findings.iter().all(|found| found.invariant == Floor && found.repair.is_some()));
    }
    let options = AuditOptions { retention_chunks: 2, ..AuditOptions::default() };
    let audit = store.audit(&control, options);
    Finding::repair_all(&audit.run_on(&catalog).unwrap().findings, &catalog);
    assert_eq!(audit.run_on(&catalog).unwrap().findings, []);
    assert!(catalog.state().is_frozen(ChunkId(4)) && !catalog.state().is_frozen(ChunkId(3)));
}

/// What only a deep audit finds: bytes that are whole, and wrong.
const DEEP: &[Case] = &[
    (
        "flipped ledger",
        |s| flip(&s.file(Kind::Ledgers, 1), |len| len / 3),
        Reads,
        "chunk:00000001:ledgers",
        "",
        false,
    ),
    (
        "flipped event",
        |s| flip(&s.file(Kind::Events, 2), |len| len / 3),
        Reads,
        "chunk:00000002:events",
        "differs",
        false,
    ),
    (
        "flipped bitmap",
        |s| flip(&s.file(Kind::EventBitmaps, 2), |len| len / 3),
        Reads,
        "chunk:00000002:events",
        "differs",
        false,
    ),
    (
        "flipped terms",
        |s| flip(&s.file(Kind::EventTerms, 2), |len| len / 2),
        Reads,
        "chunk:00000002:events",
        "differs",
        false,
    ),
    (
        "flipped run",
        |s| flip(&s.file(Kind::Run, 4), |len| len / 2),
        Reads,
        "chunk:00000004:txhash",
        "differs",
        false,
    ),
    (
        "flipped index",
        |s| flip(&s.layout.index(&index(0, 3)), |len| len / 2),
        Reads,
        "index:00000000",
        "",
        false,
    ),
    (
        "events of another history",
        |s| {
            s.write(5, &[Kind::Events, Kind::EventBitmaps, Kind::EventTerms], 2).unwrap();
        },
        Reads,
        "chunk:00000005:events",
        "differs",
        false,
    ),
    (
        "ledgers of another history",
        |s| s.write(1, &[Kind::Ledgers], 2).unwrap(),
        Reads,
        "chunk:00000001:events",
        "differs",
        false,
    ),
    (
        "index of another history",
        |s| {
            (4..6).for_each(|chunk| s.write(chunk, &[Kind::Run], 2).unwrap());
            s.write_index(index(4, 5)).unwrap();
            (4..6).for_each(|chunk| s.write(chunk, &[Kind::Run], 1).unwrap());
        },
        Reads,
        "index:00000001",
        "",
        false,
    ),
];

#[test]
fn what_is_whole_and_wrong_is_found_deep_down() {
    for case in DEEP {
        let store = Fixture::new();
        assert_eq!(store.deep(HOUR, None).findings, []);
        let before = fs::read(store.file(Kind::Ledgers, 1)).unwrap();
        (case.1)(&store);
        // What was remembered does not hide it, as the file has changed.
        let report = store.deep(HOUR, None);
        let texts: Vec<String> = report.findings.iter().map(Finding::to_string).collect();
        assert!(report.findings.iter().any(|found| names(found, case)), "{}: {texts:#?}", case.0);
        // What is found wrong is not remembered as sound.
        assert!(store.deep(HOUR, None).findings.iter().any(|found| names(found, case)), "{}", case.0);
        if case.0 == "flipped ledger" {
            fs::write(store.file(Kind::Ledgers, 1), before).unwrap();
            assert_eq!(store.deep(HOUR, None).findings, []);
        }
    }
}

#[test]
fn what_was_sound_is_passed_over_for_a_while() {
    let store = Fixture::new();
    let counts = |report: AuditReport| (report.derived, report.remembered, report.findings.len());
    assert_eq!(counts(store.deep(HOUR, None)), (6, 0, 0));
    assert_eq!(counts(store.deep(HOUR, None)), (0, 8, 0));
    // Nothing is trusted by one who trusts nothing.
    assert_eq!(counts(store.deep(Duration::ZERO, None)), (6, 0, 0));
    // Another index in a window needs the hashes of its chunks: the runs are there, nothing is derived.
    fs::remove_file(store.layout.index(&index(4, 5))).unwrap();
    store.write_index(index(4, 5)).unwrap();
    assert_eq!(counts(store.deep(HOUR, None)), (0, 7, 0));
    // In a final window they are not, so its ledgers are read again.
    let path = store.layout.index(&index(0, 3));
    let bytes = fs::read(&path).unwrap();
    fs::remove_file(&path).unwrap();
    fs::write(&path, bytes).unwrap();
    assert_eq!(counts(store.deep(HOUR, None)), (4, 3, 0));
    // A memory that is damaged, or was of another store, is none.
    let memory = store.layout.root().join("catalog/audit.json");
    let text = fs::read_to_string(&memory).unwrap();
    for bad in [
        "",
        "{}",
        "[",
        &text.replace("\"generation\":\"", "\"generation\":\"0"),
        &text.replace("\"version\":1", "\"version\":2"),
    ] {
        fs::write(&memory, bad).unwrap();
        assert_eq!(counts(store.deep(HOUR, None)), (6, 0, 0), "{bad}");
    }
}

#[test]
fn an_index_made_in_another_way_is_compared_with_its_like() {
    let store = Fixture::new();
    for algorithm in Algorithm::ALL {
        let runs = [4, 5].map(|chunk| store.file(Kind::Run, chunk));
        let [first, last] = [4, 5].map(|chunk| geometry().ledgers_of(ChunkId(chunk)).unwrap());
        let ledgers = LedgerRange { first: first.first, last: last.last };
        let options = Options::new().algorithm(algorithm).if_exists(IfExists::Replace);
        let path = store.layout.index(&index(4, 5));
        build_index_with(&store.disk, &path, ledgers, &runs, options, |_| ControlFlow::Continue(())).unwrap();
        assert_eq!(store.deep(Duration::ZERO, None).findings, [], "{algorithm:?}");
        flip(&path, |len| len - 20);
        assert!(!store.deep(Duration::ZERO, None).findings.is_empty(), "{algorithm:?}");
    }
}

#[test]
fn a_sample_is_drawn_by_its_number() {
    let store = Fixture::new();
    let report = store.deep(Duration::ZERO, Some((2, 7)));
    assert_eq!((report.derived, report.findings.len()), (2, 0));
    let found: std::collections::BTreeSet<usize> = (0..40)
        .map(|seed| {
            flip(&store.file(Kind::Ledgers, 1), |len| len / 3);
            let found = store.deep(Duration::ZERO, Some((2, seed))).findings.len();
            flip(&store.file(Kind::Ledgers, 1), |len| len / 3);
            found
        })
        .collect();
    // Now it is drawn, now it is not.
    assert_eq!(found, [0, 1].into());
}

#[test]
fn a_store_at_work_is_no_finding() {
    let store = Fixture::new();
    let catalog = store.catalog();
    let control = Control::default();
    let look = |between: &dyn Fn()| {
        let options = AuditOptions { between_looks: Some(between), ..AuditOptions::default() };
        store.audit(&control, options).run_on(&catalog).unwrap().findings
    };
    let key = chunk(6, Ledgers);
    // Freezing, then frozen.
    catalog.begin(&[key]).unwrap();
    assert_eq!(
        look(&|| {
            store.write(6, &[Kind::Ledgers, Kind::Run], 1).unwrap();
            fs::remove_file(store.file(Kind::Run, 6)).unwrap();
            catalog.freeze(&[key]).unwrap();
        }),
        []
    );
    // Removed, and written anew: not there in between, half-written, an orphan for a moment.
    assert_eq!(
        look(&|| {
            catalog.demote(&[key]).unwrap();
            catalog.destroy(&key).unwrap();
            store.put("ledgers/00000/00000009.pack", b"x");
        }),
        []
    );
    assert_eq!(look(&|| fs::remove_file(store.file(Kind::Ledgers, 9)).unwrap()), []);
    // What grows is being written; what does not, is not.
    catalog.begin(&[key]).unwrap();
    store.put("ledgers/00000/00000006.pack.partial", b"some");
    assert_eq!(look(&|| store.put("ledgers/00000/00000006.pack.partial", b"some more")), []);
    let stuck = look(&|| ());
    assert_eq!(stuck.len(), 1);
    assert_eq!((stuck[0].invariant, stuck[0].key), (OneHome, Some(key)));
    // Damage that is repaired between two looks is none; a hot chunk that is discarded after its index is frozen, neither.
    let path = store.file(Kind::Ledgers, 1);
    let bytes = fs::read(&path).unwrap();
    cut(&path);
    let found = look(&|| {
        fs::write(&path, &bytes).unwrap();
        catalog.demote(&[key]).unwrap();
    });
    assert_eq!(found, []);
}

#[test]
fn an_audit_can_be_cancelled_and_says_what_it_cannot_do() {
    let store = Fixture::new();
    let control = Control::default();
    control.cancel();
    let cancelled = store.audit(&control, AuditOptions::default()).run().unwrap_err();
    assert!(
        cancelled.to_string().contains("cancel") || cancelled.to_string().contains("stopped"),
        "{cancelled}"
    );
    let none = Layout::new(store.dir.path().join("none"));
    let control = Control::default();
    let audit = Audit { layout: &none, ..store.audit(&control, AuditOptions::default()) };
    assert!(matches!(audit.run(), Err(icecore_catalog::Error::NoCatalog { .. })));
    // A scratch directory that cannot be written is no finding.
    let scratch = store.dir.path().join("file");
    fs::write(&scratch, "").unwrap();
    let deep = Some(Deep { scratch: &scratch, workers: 1, sample: None, trust: HOUR });
    assert!(store.audit(&control, AuditOptions { deep, ..AuditOptions::default() }).run().is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    /// Any set of violations at once: each is found, whatever else is wrong.
    #[test]
    fn violations_do_not_hide_one_another(picked in prop::collection::btree_set(0usize..18, 1..6)) {
        let store = Fixture::new();
        let cases: Vec<&Case> = picked.iter().map(|at| &SHALLOW[*at]).collect();
        cases.iter().for_each(|case| (case.1)(&store));
        let report = store.shallow();
        for case in cases {
            prop_assert!(report.findings.iter().any(|found| names(found, case)), "{}: {:#?}", case.0, report.findings);
        }
    }
}

/// What the store was told goes before what the configuration says.
#[test]
fn the_floor_is_the_stores_own() {
    let store = Fixture::new();
    let keep = |chunks| AuditOptions { retention_chunks: chunks, ..AuditOptions::default() };
    let audit = |chunks| store.audit(&Control::default(), keep(chunks)).run().unwrap();
    assert!(audit(2).findings.iter().any(|finding| finding.invariant == Floor));
    for (told, configured, floor) in [("0", 2, 0), ("6", 2, 0), ("2", 0, 4), ("2", 6, 4)] {
        store.rows(&[("config:retention_chunks", told)]);
        let report = audit(configured);
        assert_eq!(report.floor, Some(ChunkId(floor)), "{told} {configured}");
        assert_eq!(report.findings.iter().all(|finding| finding.invariant != Floor), floor == 0);
    }
    // Of what makes no sense it is told, and nothing is taken away by it.
    store.rows(&[("config:retention_chunks", "few")]);
    let report = audit(2);
    assert_eq!((report.findings.len(), report.floor), (1, Some(ChunkId(0))), "{:?}", report.findings);
    assert!(report.findings[0].to_string().contains("config:retention_chunks"));
    store.rows(&[("config:retention_chunks", "")]);
    assert_eq!(audit(0).findings, []);
}

/// What came to a key since it was found is not taken away by its repair.
#[test]
fn a_repair_looks_again() {
    let store = Fixture::new();
    let (key, orphan) = (chunk(6, Ledgers), store.layout.hot_chunk(ChunkId(9)));
    let catalog = store.catalog();
    catalog.begin(&[key]).unwrap();
    catalog.hot_transient(ChunkId(8)).unwrap();
    fs::create_dir_all(&orphan).unwrap();
    let found = store.audit(&Control::default(), AuditOptions::default()).run_on(&catalog).unwrap().findings;
    assert_eq!(found.iter().filter(|finding| finding.repair.is_some()).count(), 3, "{found:?}");
    // Somebody goes on with all of it.
    store.write(6, &[Kind::Ledgers], 1).unwrap();
    catalog.freeze(&[key]).unwrap();
    for hot in [ChunkId(8), ChunkId(9)] {
        catalog.hot_transient(hot).unwrap();
        fs::create_dir_all(store.layout.hot_chunk(hot)).unwrap();
        catalog.hot_ready(hot).unwrap();
    }
    let before = catalog.state();
    for repaired in Finding::repair_all(&found, &catalog) {
        assert!(matches!(repaired.result, Err(icecore_catalog::Error::ChangedSince { .. })), "{repaired:?}");
    }
    assert_eq!(catalog.state(), before);
    assert!(orphan.is_dir() && store.file(Kind::Ledgers, 6).exists());
}
