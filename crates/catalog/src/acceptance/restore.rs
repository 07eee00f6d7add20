//! Restoring: entirely old or entirely new, whatever happens.

use std::collections::BTreeMap;

use super::*;
use crate::{Error, RestoreOptions, RestoreReport, restore};

use Artifact::{Events, Ledgers, TxHash};

const KEEP: RestoreOptions = RestoreOptions { keep_previous: true };
const DROP: RestoreOptions = RestoreOptions { keep_previous: false };

fn layout(dir: &Path) -> Layout {
    Layout::new(dir.join("store"))
}

fn open(disk: Arc<dyn Disk>, dir: &Path) -> Catalog {
    Catalog::open(disk, layout(dir), &test_pins()).unwrap()
}

/// What the store is like when it is backed up: chunks 0 and 1 are frozen, 2 is hot.
fn first_life(disk: &Arc<dyn Disk>, dir: &Path) {
    let catalog = open(Arc::clone(disk), dir);
    for number in 0..=1 {
        build(&catalog, &[chunk(number, Ledgers), chunk(number, TxHash)]).unwrap();
    }
    build_index(&catalog, coverage(0, 1)).unwrap();
    make_hot(&catalog, 2).unwrap();
    catalog.backup(dir.join("copy")).unwrap();
}

/// What became of it: 0 is gone, 2 is frozen, 3 is hot, the index moved on, a file was being written.
fn second_life(disk: &Arc<dyn Disk>, dir: &Path) {
    let catalog = open(Arc::clone(disk), dir);
    build(&catalog, &[chunk(2, Ledgers), chunk(2, TxHash)]).unwrap();
    build_index(&catalog, coverage(1, 2)).unwrap();
    catalog.destroy(&index(0, 1)).unwrap();
    retire(&catalog, &[chunk(0, Ledgers), chunk(0, TxHash)]).unwrap();
    make_hot(&catalog, 3).unwrap();
    remove_hot(&catalog, 2).unwrap();
    catalog.begin(&[chunk(3, Events)]).unwrap();
    let path = chunk(3, Events).paths(catalog.layout())[0].clone();
    disk.create_dir_all(path.parent().unwrap()).unwrap();
    let mut partial = path.into_os_string();
    partial.push(PendingFile::SUFFIX);
    disk.create_exclusive(Path::new(&partial)).unwrap();
}

type Words = BTreeMap<String, &'static str>;

fn words(state: &State) -> Words {
    state.keys().map(|key| (key.to_string(), state.word(&key).unwrap())).collect()
}

/// What the second life's catalog says.
fn old_words() -> Words {
    let keys = [
        (chunk(1, Ledgers), "frozen"),
        (chunk(1, TxHash), "frozen"),
        (chunk(2, Ledgers), "frozen"),
        (chunk(2, TxHash), "frozen"),
        (chunk(3, Events), "freezing"),
        (index(1, 2), "frozen"),
        (Key::Hot(ChunkId(3)), "ready"),
    ];
    keys.into_iter().map(|(key, word)| (key.to_string(), word)).collect()
}

/// What the backup says, brought together with the files of the second life.
fn new_words() -> Words {
    let keys = [
        (chunk(0, Ledgers), "freezing"),
        (chunk(0, TxHash), "freezing"),
        (chunk(1, Ledgers), "frozen"),
        (chunk(1, TxHash), "frozen"),
        (index(0, 1), "freezing"),
        (Key::Hot(ChunkId(2)), "transient"),
        (chunk(2, Ledgers), "pruning"),
        (chunk(2, TxHash), "pruning"),
        (chunk(3, Events), "pruning"),
        (index(1, 2), "pruning"),
        (Key::Hot(ChunkId(3)), "transient"),
    ];
    keys.into_iter().map(|(key, word)| (key.to_string(), word)).collect()
}

/// A store with two lives behind it.
fn lived(disk: FaultyDisk) -> (TempDir, FaultyDisk) {
    let dir = temp_dir();
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    first_life(&shared, dir.path());
    second_life(&shared, dir.path());
    drop(shared);
    (dir, disk.after_kill())
}

/// Nothing of a restore is left in the catalog's directory but what it keeps.
fn kept_catalogs(dir: &Path) -> Vec<PathBuf> {
    let own = dir.join("store/catalog");
    let names = RealDisk.list(&own).unwrap();
    let known = |name: &&String| *name != "owner" && *name != "rocksdb";
    let kept: Vec<PathBuf> = names.iter().filter(known).map(|name| own.join(name)).collect();
    let right = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().starts_with("before-restore-");
    assert!(kept.iter().all(right), "{kept:?}");
    kept
}

fn run(disk: &FaultyDisk, dir: &Path, options: RestoreOptions) -> Result<RestoreReport> {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    restore(&disk, &layout(dir), dir.join("copy"), options)
}

#[test]
fn restored_keys_and_files_come_together() {
    let (dir, disk) = lived(FaultyDisk::new());
    let generation = open(Arc::new(disk.clone()), dir.path()).generation().to_owned();
    let report = run(&disk, dir.path(), KEEP).unwrap();
    assert_eq!(report.distrusted.len() + report.unknown.len(), 4 + 5);
    let catalog = open(Arc::new(disk.clone()), dir.path());
    assert_eq!(words(&catalog.state()), new_words());
    assert_ne!(catalog.generation(), generation);
    assert_eq!(catalog.generation(), report.generation);
    check_invariants(&catalog, &disk, &[]);
    let goal = BTreeSet::from([0, 1].map(|number| chunk(number, Ledgers)));
    converge(&catalog, &goal);
    assert_eq!(keys_on_disk(&catalog, &disk), goal);
    drop(catalog);
    // What was kept is a backup in turn, also of the same second.
    let kept = report.kept.unwrap();
    assert_eq!(kept_catalogs(dir.path()), std::slice::from_ref(&kept));
    let disk: Arc<dyn Disk> = Arc::new(disk);
    let again = restore(&disk, &layout(dir.path()), &kept, KEEP).unwrap();
    assert_ne!(again.generation, generation);
    assert_eq!(kept_catalogs(dir.path()).len(), 2);
    assert!(restore(&disk, &layout(dir.path()), &kept, DROP).unwrap().kept.is_none());
    assert_eq!(kept_catalogs(dir.path()).len(), 2);
}

#[test]
fn a_file_of_another_length_is_distrusted() {
    let (dir, disk) = lived(FaultyDisk::new());
    let path = &chunk(1, Ledgers).paths(&layout(dir.path()))[0];
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    let file = PendingFile::create(&shared, path, IfExists::Replace).unwrap();
    file.write_all_at(b"short", 0).unwrap();
    file.commit().unwrap();
    let report = run(&disk, dir.path(), KEEP).unwrap();
    assert!(report.distrusted.contains(&chunk(1, Ledgers)));
}

#[test]
fn into_an_empty_directory() {
    let (dir, disk) = lived(FaultyDisk::new());
    let elsewhere = Layout::new(dir.path().join("elsewhere"));
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    let report = restore(&shared, &elsewhere, dir.path().join("copy"), KEEP).unwrap();
    assert_eq!((report.kept, report.unknown.len()), (None, 0));
    let catalog = Catalog::open(shared, elsewhere, &test_pins()).unwrap();
    assert!(catalog.state().keys().all(|key| catalog.state().file(&key) != Some(FileState::Frozen)));
}

#[test]
fn a_corrupt_catalog_can_be_restored() {
    let (dir, disk) = lived(FaultyDisk::new());
    fs::remove_file(layout(dir.path()).catalog_dir().join("CURRENT")).unwrap();
    assert!(
        Catalog::open(Arc::new(disk.clone()), layout(dir.path()), &test_pins()).unwrap_err().is_corrupt()
    );
    run(&disk, dir.path(), KEEP).unwrap();
    assert_eq!(words(&open(Arc::new(disk), dir.path()).state()), new_words());
    assert_eq!(kept_catalogs(dir.path()).len(), 1);
}

#[test]
fn restore_rejected_at_each_gate() {
    let (dir, disk) = lived(FaultyDisk::new());
    let copy = dir.path().join("copy");
    let other = |name: &str, pins: &Pins| {
        let path = dir.path().join(name);
        let catalog = Catalog::open(Arc::new(FaultyDisk::new()), Layout::new(&path), pins).unwrap();
        catalog.backup(path.join("copy")).unwrap();
        path.join("copy")
    };
    let damaged = |name: &str, damage: &dyn Fn(&Path)| {
        let path = dir.path().join(name);
        fs::create_dir_all(path.join("rocksdb")).unwrap();
        for (from, bytes) in bytes_below(&copy) {
            fs::write(path.join(from.strip_prefix(&copy).unwrap()), bytes).unwrap();
        }
        damage(&path);
        path
    };
    let list = |text: &'static str| move |path: &Path| fs::write(path.join("backup.json"), text).unwrap();
    let row = |key: &'static str, value: &'static str| {
        move |path: &Path| {
            let options = crate::load::options();
            let store = icecore_rockstore::Store::open(path.join("rocksdb"), crate::load::FAMILIES, &options);
            let mut batch = icecore_rockstore::Batch::new();
            batch.put(crate::load::ROWS, key.as_bytes(), value.as_bytes());
            store.unwrap().write(&batch).unwrap();
        }
    };
    let sources = [
        dir.path().join("nothing"),
        dir.path().to_path_buf(),
        layout(dir.path()).root().join("catalog"),
        damaged("no database", &|path| fs::remove_dir_all(path.join("rocksdb")).unwrap()),
        damaged("gutted", &|path| fs::remove_file(path.join("rocksdb/CURRENT")).unwrap()),
        damaged("list", &list("{}")),
        damaged("later list", &list(r#"{"backup":2,"made":"","generation":"","files":{}}"#)),
        damaged("other list", &list(r#"{"backup":1,"made":"","generation":"","files":{}}"#)),
        damaged("later", &row("config:layout", "2")),
        damaged("malformed", &row("chunk:00000001:ledgers", "molten")),
        other("geometry", &Pins { geometry: Geometry::new(10, 5).unwrap(), ..test_pins() }),
        other("network", &Pins { network: Some("another".into()), ..test_pins() }),
        other("earliest", &Pins { earliest: icecore_ledger::LedgerSeq(12), ..test_pins() }),
    ];
    let before = bytes_below(&layout(dir.path()).root().join("catalog"));
    for source in sources {
        let begin = disk.operations();
        let shared: Arc<dyn Disk> = Arc::new(disk.clone());
        let error = restore(&shared, &layout(dir.path()), &source, KEEP).unwrap_err();
        let typed =
            matches!(error, Error::NotABackup { .. } | Error::ForeignBackup { .. } | Error::Newer { .. });
        assert!(typed, "{source:?}: {error}");
        assert_eq!(bytes_below(&layout(dir.path()).root().join("catalog")), before, "{error}");
        // Not a byte of it was copied.
        assert_eq!(disk.operations(), begin, "{error}");
    }
}

#[test]
fn staged_bytes_swapped_under_us() {
    let (dir, disk) = lived(FaultyDisk::new());
    // A sound database, but another one.
    let other = {
        let catalog =
            Catalog::open(Arc::new(FaultyDisk::new()), Layout::new(dir.path().join("other")), &test_pins())
                .unwrap();
        catalog.backup(dir.path().join("other/copy")).unwrap();
        dir.path().join("other/copy/rocksdb")
    };
    let hook = {
        let staged = dir.path().join("store/catalog/restore.new");
        move |step: &str| {
            if step == "after restore stage" {
                fs::remove_dir_all(&staged).unwrap();
                crate::tree::copy(&other, &staged).unwrap();
            }
        }
    };
    let hooked: Arc<dyn Disk> = Arc::new(Hooked { disk: disk.clone(), hook });
    let error = restore(&hooked, &layout(dir.path()), dir.path().join("copy"), KEEP).unwrap_err();
    assert!(matches!(error, Error::CopyDiffers { .. }), "{error}");
    assert_eq!(words(&open(Arc::new(disk), dir.path()).state()), old_words());
    assert_eq!(kept_catalogs(dir.path()).len(), 0);
}

#[test]
fn restore_fails_at_each_step() {
    for options in [KEEP, DROP] {
        let (dir, disk) = lived(FaultyDisk::new());
        let begin = disk.operations();
        run(&disk, dir.path(), options).unwrap();
        let count = disk.operations() - begin;
        assert_eq!(count, 10);
        for at in 0..count {
            let (dir, disk) = lived(FaultyDisk::new());
            let before = bytes_below(&layout(dir.path()).catalog_dir());
            disk.fail_at(disk.operations() + at, Fault::Io);
            let error = run(&disk, dir.path(), options).unwrap_err();
            let label = disk.labels().last().unwrap().clone();
            let swapped = matches!(error, Error::RestoreUnfinished { .. });
            assert_eq!(swapped, label == "after restore swap" || label.ends_with("done"), "{label}");
            if !swapped {
                assert_eq!(bytes_below(&layout(dir.path()).catalog_dir()), before, "{label}");
                assert_eq!(kept_catalogs(dir.path()).len(), 0, "{label}");
            }
            let found = words(&open(Arc::new(disk), dir.path()).state());
            assert_eq!(found, if swapped { new_words() } else { old_words() }, "{label}");
            assert_eq!(kept_catalogs(dir.path()).len(), usize::from(swapped && options.keep_previous));
        }
    }
}

#[test]
fn child_restores() {
    let Some(dir) = child_dir() else { return };
    let at = std::env::var("AT").unwrap();
    let hook = move |step: &str| {
        if step == at {
            kill_self();
        }
    };
    let options = if std::env::var("KEEP").unwrap() == "true" { KEEP } else { DROP };
    let disk: Arc<dyn Disk> = Arc::new(Hooked { disk: RealDisk, hook });
    if layout(&dir).root().join("catalog/restore.json").exists() {
        open(disk, &dir);
    } else {
        restore(&disk, &layout(&dir), dir.join("copy"), options).unwrap();
    }
}

/// Killed at each step, and then, on the way out of it, at each step again.
#[test]
fn restore_crash_matrix() {
    let names = [
        steps::RESTORE_STAGE,
        steps::RESTORE_INTENT,
        steps::RESTORE_ASIDE,
        steps::RESTORE_SWAP,
        steps::RESTORE_DONE,
    ];
    let labels: Vec<String> =
        names.iter().flat_map(|name| ["before", "after"].map(|when| format!("{when} {name}"))).collect();
    let (origin, disk) = {
        let dir = temp_dir();
        let disk: Arc<dyn Disk> = Arc::new(RealDisk);
        first_life(&disk, dir.path());
        second_life(&disk, dir.path());
        (dir, disk)
    };
    let mut cases = 0;
    for (number, label) in labels.iter().enumerate() {
        for keep in [true, false] {
            let again = labels.iter().skip(number + 1).map(Some).filter(|_| number >= 3);
            for second in [None].into_iter().chain(again) {
                let dir = temp_dir();
                for (from, bytes) in bytes_below(origin.path()) {
                    let to = dir.path().join(from.strip_prefix(origin.path()).unwrap());
                    fs::create_dir_all(to.parent().unwrap()).unwrap();
                    fs::write(to, bytes).unwrap();
                }
                for at in [Some(label), second].into_iter().flatten() {
                    let more = [("AT", at.clone()), ("KEEP", keep.to_string())];
                    let mut child = spawn("restore::child_restores", dir.path(), &more);
                    let killed = !child.wait().unwrap().success();
                    assert!(killed || second == Some(at), "{label}, {second:?}");
                }
                // The record is what decides.
                let is_new = number >= 3;
                let reader = Catalog::open_read_only(&layout(dir.path()));
                let pending = layout(dir.path()).root().join("catalog/restore.json").exists();
                assert_eq!(matches!(reader, Err(Error::RestorePending { .. })), pending, "{label}");
                let catalog = open(Arc::clone(&disk), dir.path());
                let expected = if is_new { new_words() } else { old_words() };
                assert_eq!(words(&catalog.state()), expected, "{label}, {second:?}");
                drop(catalog);
                assert_eq!(kept_catalogs(dir.path()).len(), usize::from(is_new && keep), "{label}");
                for kept in kept_catalogs(dir.path()) {
                    assert_eq!(words(&crate::backup::read(&kept).unwrap().0.state), old_words());
                }
                cases += 1;
            }
        }
    }
    assert_eq!(cases, 62);
}

#[test]
fn restore_and_others() {
    let dir = temp_dir();
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    first_life(&disk, dir.path());
    let root = layout(dir.path()).root().to_path_buf();
    let run = |disk: &Arc<dyn Disk>| restore(disk, &layout(dir.path()), dir.path().join("copy"), KEEP);
    // Another process has the store.
    let mut child = spawn("opening::child_opens", &root, &[]);
    assert!(wait_ready(&mut child));
    match run(&disk) {
        Err(Error::RestoreDestinationLocked { holder, .. }) => assert_eq!(holder.pid, Some(child.id())),
        other => panic!("{other:?}"),
    }
    child.kill().unwrap();
    child.wait().unwrap();
    // This one has.
    let catalog = open(Arc::clone(&disk), dir.path());
    assert!(matches!(run(&disk), Err(Error::AlreadyOpen { .. })));
    drop(catalog);
    // Nobody opens it meanwhile.
    let hook = {
        let layout = layout(dir.path());
        move |step: &str| {
            if step.contains("restore") {
                let opened = Catalog::open(Arc::new(RealDisk), layout.clone(), &test_pins());
                assert!(matches!(opened, Err(Error::AlreadyOpen { .. })), "{step}");
            }
        }
    };
    let hooked: Arc<dyn Disk> = Arc::new(Hooked { disk: RealDisk, hook });
    run(&hooked).unwrap();
    open(disk, dir.path());
}

#[test]
fn a_recorded_copy_that_is_damaged_is_taken_back() {
    let dir = temp_dir();
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    first_life(&disk, dir.path());
    second_life(&disk, dir.path());
    let staged = dir.path().join("store/catalog/restore.new");
    let damages: [&dyn Fn(); 2] =
        [&|| fs::remove_file(staged.join("CURRENT")).unwrap(), &|| fs::remove_dir_all(&staged).unwrap()];
    let cases = [("after restore intent", 0), ("after restore aside", 0), ("after restore aside", 1)];
    for (at, damage) in cases {
        let more = [("AT", at.to_owned()), ("KEEP", "true".to_owned())];
        assert!(!spawn("restore::child_restores", dir.path(), &more).wait().unwrap().success());
        damages[damage]();
        assert_eq!(words(&open(Arc::clone(&disk), dir.path()).state()), old_words());
        assert_eq!(kept_catalogs(dir.path()).len(), 0);
    }
    for bad in ["", "{}", r#"{"keep":"../../etc"}"#, &" ".repeat(5000)] {
        fs::write(dir.path().join("store/catalog/restore.json"), bad).unwrap();
        let error = Catalog::open(Arc::clone(&disk), layout(dir.path()), &test_pins()).unwrap_err();
        assert!(matches!(error, Error::Malformed { .. }), "{bad:?}: {error}");
    }
}

/// The catalog is gone, what it spoke of is there: that is no first start, whichever tree has something left.
#[test]
fn a_lost_catalog_is_no_first_start() {
    let (dir, disk) = lived(FaultyDisk::new());
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    let layout = layout(dir.path());
    fs::remove_dir_all(layout.catalog_dir()).unwrap();
    let refused = |disk: &Arc<dyn Disk>, root: &Layout| match Catalog::open(
        Arc::clone(disk),
        root.clone(),
        &test_pins(),
    ) {
        Err(error @ Error::FilesWithoutCatalog { .. }) => error.to_string(),
        other => panic!("{other:?}"),
    };
    let says = refused(&shared, &layout);
    assert!(says.contains("icecore restore") && says.contains("icecore adopt"), "{says}");
    assert!(!layout.catalog_dir().exists(), "it is not even created");
    // Any one of the trees is enough.
    let half = index(0, 1).paths(&layout)[0].with_extension("idx.partial");
    for key in [chunk(1, Ledgers), chunk(1, Events), chunk(1, TxHash), index(0, 1), Key::Hot(ChunkId(1))] {
        let (dir, disk): (_, Arc<dyn Disk>) = (temp_dir(), Arc::new(FaultyDisk::new()));
        let layout = self::layout(dir.path());
        let path = key.paths(&layout).pop().unwrap();
        match key {
            Key::Hot(_) => fs::create_dir_all(&path).unwrap(),
            _ => {
                disk.create_dir_all(path.parent().unwrap()).unwrap();
                disk.create_exclusive(&path).unwrap();
            }
        }
        fs::create_dir_all(layout.root()).unwrap();
        assert!(refused(&disk, &layout).contains(path.to_str().unwrap()));
    }
    // What is nobody's does not count, and neither does an empty tree.
    let (other, clean): (_, Arc<dyn Disk>) = (temp_dir(), Arc::new(FaultyDisk::new()));
    for foreign in ["ledgers/00000/notes", "events/lost+found/00000001-events.pack", "txhash/index/x"] {
        let path = self::layout(other.path()).root().join(foreign);
        clean.create_dir_all(path.parent().unwrap()).unwrap();
        clean.create_exclusive(&path).unwrap();
    }
    open(clean, other.path());
    // A backup brings it back.
    disk.create_exclusive(&half).unwrap();
    run(&disk, dir.path(), KEEP).unwrap();
    let words = words(&open(shared, dir.path()).state());
    assert_eq!(words, new_words());
}

/// What file systems and people put beside the directories of a store is none of a restore's business.
#[test]
fn foreign_names_do_not_hinder_a_restore() {
    let (dir, disk) = lived(FaultyDisk::new());
    let real: Arc<dyn Disk> = Arc::new(RealDisk);
    let root = layout(dir.path());
    // On a real disk a file is not to be listed, nor a directory of somebody else's.
    for (tree, name) in [
        ("ledgers", "notes"),
        ("events", "lost+found"),
        ("txhash/raw", "00000x"),
        ("txhash/index", "00000"),
        ("hot", "lost+found"),
    ] {
        fs::create_dir_all(root.root().join(tree)).unwrap();
        fs::write(root.root().join(tree).join(name), "").unwrap();
    }
    drop(disk);
    let report = restore(&real, &root, dir.path().join("copy"), KEEP).unwrap();
    assert_eq!(report.unknown, [Key::Hot(ChunkId(3))]);
}
