//! The catalog's own migrations, on a store as the version before them made it.

use std::{fs, path::Path, sync::Arc};

use icecore_cold::Layout;
use icecore_diskio::{Disk, Fault, FaultyDisk, RealDisk};
use icecore_ledger::{ChunkId, GENESIS, Geometry};
use icecore_rockstore::{Batch, Store};

use super::support::{LIMIT, ManualClock};
use crate::{
    Artifact, Catalog, Pins,
    load::{FAMILIES, ROWS, options},
    migrations::{PINS_FORMAT, Runner, Status, WaitOutcome, schedule_all, start},
};

/// All rows of a store whose pins have no format, byte for byte.
const OLD_ROWS: [(&str, &str); 7] = [
    ("chunk:00000000:ledgers", "freezing"),
    ("config:chunks_per_window", "100"),
    ("config:earliest", "2"),
    ("config:generation", "0123456789abcdef0123456789abcdef"),
    ("config:layout", "1"),
    ("config:ledgers_per_chunk", "10"),
    ("hot:chunk:00000001", "transient"),
];

fn make_old_store(layout: &Layout) {
    let dir = layout.catalog_dir();
    fs::create_dir_all(dir.parent().unwrap()).unwrap();
    let store = Store::create(&dir, FAMILIES, &options()).unwrap();
    let mut batch = Batch::new();
    OLD_ROWS.iter().for_each(|(key, value)| batch.put(ROWS, key.as_bytes(), value.as_bytes()));
    store.write(&batch).unwrap();
    store.close();
}

fn pins() -> Pins {
    Pins::new(Geometry::new(10, 100).unwrap(), GENESIS, None)
}

fn open(root: &Path) -> Arc<Catalog> {
    Arc::new(Catalog::open(Arc::new(RealDisk), Layout::new(root), &pins()).unwrap())
}

/// All rows but those of migrations.
fn rows(catalog: &Catalog) -> Vec<(String, String)> {
    let rows = catalog.rows("").unwrap().into_iter().filter(|(key, _)| !key.starts_with("migration:"));
    rows.map(|(key, value)| (key, String::from_utf8(value).unwrap())).collect()
}

fn old_rows() -> Vec<(String, String)> {
    OLD_ROWS.map(|(key, value)| (key.to_owned(), value.to_owned())).into()
}

/// The rows of an old store with the one that the migration adds.
fn new_rows() -> Vec<(String, String)> {
    let mut rows = old_rows();
    rows.push(("config:format".into(), "1".into()));
    rows.sort();
    rows
}

#[test]
fn pins_of_an_old_store_get_their_format() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("store");
    make_old_store(&Layout::new(&root));
    let catalog = open(&root);
    // It opens as it is, whoever migrates it.
    assert_eq!(catalog.pins().format, None);
    assert_eq!(rows(&catalog), old_rows());
    let state = catalog.state();
    assert!(state.artifact(ChunkId(0), Artifact::Ledgers).is_some());

    let runner = start(&catalog);
    assert_eq!(runner.wait_all(LIMIT).unwrap(), WaitOutcome::Ended);
    let listed: Vec<_> = runner.list().unwrap().into_iter().map(|row| (row.name, row.status)).collect();
    assert_eq!(listed, [(PINS_FORMAT.to_owned(), Status::Done)]);
    // Seen at once, and nothing else was touched.
    assert_eq!(catalog.pins().format, Some(1));
    assert_eq!(catalog.state(), state);
    assert_eq!(rows(&catalog), new_rows());
    drop((runner, catalog));

    let catalog = open(&root);
    assert_eq!(catalog.pins().format, Some(1));
    let runner = start(&catalog);
    assert_eq!(runner.status(PINS_FORMAT).unwrap().unwrap().attempt, 1, "it runs once");
    drop((runner, catalog));

    // A new store has it from the first start.
    let root = dir.path().join("new");
    let catalog = open(&root);
    assert_eq!(catalog.pins().format, Some(1));
    let runner = start(&catalog);
    runner.wait_all(LIMIT).unwrap();
    assert!(runner.is_done(PINS_FORMAT).unwrap());
}

/// The process ends before or after any durable step of the migration; the next start finds an old store or a new one.
#[test]
fn a_crash_at_any_step_of_it_is_a_retry() {
    let mut steps = 0;
    loop {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("store");
        make_old_store(&Layout::new(&root));
        drop(open(&root));
        let disk = FaultyDisk::new();
        disk.create_dir_all(&root).unwrap();
        let catalog = Catalog::open(Arc::new(disk.clone()), Layout::new(&root), &pins());
        let catalog = Arc::new(catalog.unwrap());
        let last = disk.operations() + steps;
        disk.fail_at(last, Fault::PowerCut);
        let runner = Runner::with_clock(catalog.clone(), ManualClock::new(true));
        schedule_all(&runner);
        runner.wait_all(LIMIT).unwrap();
        let crashed = disk.operations() > last;
        drop((runner, catalog));

        let catalog = open(&root);
        let found = rows(&catalog);
        assert!(found == old_rows() || found == new_rows(), "step {steps}: {found:?}");
        let runner = start(&catalog);
        runner.wait_all(LIMIT).unwrap();
        assert!(runner.is_done(PINS_FORMAT).unwrap(), "step {steps}");
        assert_eq!(rows(&catalog), new_rows(), "step {steps}");
        if !crashed {
            // Claim, change, end: before and after each.
            assert_eq!(steps, 6);
            break;
        }
        steps += 1;
    }
}
