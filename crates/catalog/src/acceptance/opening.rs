//! Opening: the first time, with other pins, on what is no catalog, twice, from two processes.

use std::os::unix::fs::{PermissionsExt, symlink};

use icecore_ledger::LedgerSeq;
use icecore_rockstore::{Batch, Family, FamilyId, Store, StoreOptions};

use super::*;
use crate::{Class, Error, load};

const ROWS: FamilyId = FamilyId(0);

/// The database itself, beside the catalog's back.
fn database(layout: &Layout) -> Store {
    Store::open(layout.catalog_dir(), load::FAMILIES, &StoreOptions::default()).unwrap()
}

fn put(layout: &Layout, rows: &[(&[u8], &[u8])]) {
    let mut batch = Batch::new();
    rows.iter().for_each(|(key, value)| batch.put(ROWS, key, value));
    database(layout).write(&batch).unwrap();
}

#[test]
fn first_start_at_every_step() {
    let world = World::new();
    world.open().unwrap();
    let labels = world.disk.labels();
    let steps = ["before create catalog", "after create catalog", "before pins", "after pins"];
    assert!(labels.iter().map(String::as_str).take(4).eq(steps), "{labels:?}");
    for at in 0..labels.len() as u64 {
        for trouble in TROUBLES {
            let mut world = World::new();
            let fault = if let Trouble::Fails(fault) = trouble { fault } else { Fault::PowerCut };
            world.disk.fail_at(at, fault);
            assert!(world.open().is_err());
            world.disk = match trouble {
                Trouble::PowerLost => world.disk.after_crash(),
                _ => world.disk.after_kill(),
            };
            let catalog = world.open().unwrap();
            assert_eq!(*catalog.pins(), test_pins());
            assert_eq!(catalog.state().keys().count(), 0);
            let manifest = icecore_cold::Manifest::read(&world.disk, &world.layout()).unwrap().unwrap();
            assert_eq!((manifest.geometry, manifest.network), (geometry(), test_pins().network));
        }
    }
}

#[test]
fn pins_stay() {
    let world = World::new();
    let layout = world.layout();
    let open = |pins: &Pins| Catalog::open(Arc::new(world.disk.clone()), layout.clone(), pins);
    let pins = Pins { network: None, ..test_pins() };
    let generation = open(&pins).unwrap().generation().to_owned();
    let before = bytes_below(&layout.catalog_dir());
    let other = |pins: Pins| match open(&pins) {
        Err(Error::PinChanged { name, found, asked, .. }) => {
            assert_eq!(bytes_below(&layout.catalog_dir()), before, "{name}");
            (name, found, asked)
        }
        other => panic!("{other:?}"),
    };
    let changed = other(Pins { geometry: Geometry::new(20, 4).unwrap(), ..pins.clone() });
    assert_eq!(changed, ("ledgers per chunk", "10".into(), "20".into()));
    let changed = other(Pins { geometry: Geometry::new(10, 5).unwrap(), ..pins.clone() });
    assert_eq!(changed, ("chunks per window", "4".into(), "5".into()));
    let changed = other(Pins { earliest: LedgerSeq(12), ..pins.clone() });
    assert_eq!(changed, ("the earliest ledger", "2".into(), "12".into()));
    // A network that was not known is added, and then stays.
    let catalog = open(&test_pins()).unwrap();
    assert_eq!((catalog.pins().network.clone(), catalog.generation()), (test_pins().network, &*generation));
    drop(catalog);
    let before = bytes_below(&layout.catalog_dir());
    assert_eq!(open(&pins).unwrap().pins().network, test_pins().network);
    let other = Pins { network: Some("another".into()), ..pins.clone() };
    let error = open(&other).unwrap_err();
    assert!(matches!(&error, Error::PinChanged { name: "the network", .. }), "{error}");
    assert_eq!(error.class(), Class::Constraint);
    drop(before);
    for bad in [
        Pins { earliest: LedgerSeq(0), ..pins.clone() },
        Pins { earliest: LedgerSeq(13), ..pins.clone() },
        Pins { network: Some(String::new()), ..pins.clone() },
        Pins { network: Some("n".repeat(5000)), ..pins.clone() },
        Pins { layout_version: 2, ..pins.clone() },
    ] {
        assert!(matches!(open(&bad), Err(Error::BadPin { .. })), "{bad:?}");
    }
}

#[test]
fn forward_version_refused() {
    for pin in ["config:format", "config:layout"] {
        let world = World::new();
        world.open().unwrap();
        let layout = world.layout();
        put(&layout, &[(pin.as_bytes(), b"2"), (b"of a later version", b"\xff")]);
        let before = bytes_below(&layout.catalog_dir());
        for error in [world.open().unwrap_err(), world.reader().unwrap_err()] {
            assert!(matches!(error, Error::Newer { found: 2, known: 1, .. }), "{error}");
        }
        assert_eq!(bytes_below(&layout.catalog_dir()), before);
    }
}

#[test]
fn foreign_databases_are_refused() {
    for (families, rows) in [
        (&[Family::new("something")][..], 1),
        (&[Family::new("catalog"), Family::new("more")][..], 0),
        (load::FAMILIES, 1),
    ] {
        let world = World::new();
        let path = world.layout().catalog_dir();
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let store = Store::create(&path, families, &StoreOptions::default()).unwrap();
        let mut batch = Batch::new();
        (0..rows).for_each(|_| batch.put(ROWS, b"key", b"value"));
        store.write(&batch).unwrap();
        drop(store);
        let before = bytes_below(&path);
        let error = world.open().unwrap_err();
        assert!(matches!(error, Error::NotACatalog { .. }) && error.is_corrupt(), "{error}");
        assert_eq!(bytes_below(&path), before);
    }
}

#[test]
fn malformed_rows_are_typed() {
    let long = vec![b'x'; load::MAX_VALUE_BYTES + 1];
    let rows: &[(&[u8], &[u8])] = &[
        (b"chunk:00000001:ledgers", b"molten"),
        (b"chunk:00000001:ledgers", b"frozen "),
        (b"chunk:00000001:ledgers", b"ready"),
        (b"chunk:00000001:ledgers", b"\xff"),
        (b"chunk:00000001:ledgers", b""),
        (b"chunk:1:ledgers", b"frozen"),
        (b"chunk:00000001:ledgers:", b"frozen"),
        (b"chunk:00000001:leaves", b"frozen"),
        (b"hot:chunk:00000001", b"frozen"),
        (b"index:00000000:00000003:00000002", b"frozen"),
        (b"index:00000000:00000003:00000004", b"frozen"),
        (b"index:00000001:00000001:00000002", b"frozen"),
        (b"hot:chunk:99999999", b"ready"),
        (b"\xff\xfe", b""),
        (b"", b""),
        (b"something:else", b""),
        (b"config:layout", b"0"),
        (b"config:layout", b"01"),
        (b"config:layout", b"+1"),
        (b"config:layout", b""),
        (b"config:ledgers_per_chunk", b"0"),
        (b"config:ledgers_per_chunk", b"99999999999"),
        (b"config:earliest", b"3"),
        (b"config:network", b"\xc0"),
        (b"config:generation", b"none"),
        (b"config:network", &long),
        (b"audit:1", &long),
    ];
    for (key, value) in rows {
        let world = World::new();
        // Chunk 99 999 999 is past the last ledger in this geometry only.
        let pins = Pins { geometry: Geometry::new(100, 4).unwrap(), ..test_pins() };
        Catalog::open(Arc::new(world.disk.clone()), world.layout(), &pins).unwrap();
        put(&world.layout(), &[(key, value)]);
        let before = bytes_below(&world.layout().catalog_dir());
        let error = Catalog::open(Arc::new(world.disk.clone()), world.layout(), &pins).unwrap_err();
        match &error {
            Error::ValueTooLarge { limit_bytes, .. } => assert!(value.len() as u64 > *limit_bytes),
            Error::Malformed { key: named, .. } => {
                let is_it = String::from_utf8_lossy(key).contains(&**named) || named == "config:";
                assert!(is_it, "{error}");
            }
            other => panic!("{:?}: {other:?}", String::from_utf8_lossy(key)),
        }
        assert_eq!((error.class(), error.is_corrupt()), (Class::Fatal, true));
        assert_eq!(bytes_below(&world.layout().catalog_dir()), before, "{error}");
    }
    // Each pin is needed.
    for pin in [pins::LEDGERS, pins::CHUNKS, pins::EARLIEST, pins::GENERATION, pins::LAYOUT] {
        let world = World::new();
        world.open().unwrap();
        let mut batch = Batch::new();
        batch.delete(ROWS, pin.as_bytes());
        database(&world.layout()).write(&batch).unwrap();
        assert!(world.open().unwrap_err().is_corrupt(), "{pin}");
    }
}

#[test]
fn a_damaged_page_is_found_before_anything_is_written() {
    let world = World::new();
    let catalog = world.open().unwrap();
    let keys: Vec<Key> = (0..200).map(|number| chunk(number, Artifact::Ledgers)).collect();
    catalog.begin(&keys).unwrap();
    drop(catalog);
    let store = database(&world.layout());
    store.flush().unwrap();
    drop(store);
    let dir = world.layout().catalog_dir();
    let tables: Vec<_> = bytes_below(&dir)
        .into_iter()
        .filter(|(path, _)| path.extension().is_some_and(|e| e == "sst"))
        .collect();
    assert_eq!(tables.len(), 1);
    let (path, mut bytes) = tables[0].clone();
    bytes[100] ^= 1;
    fs::write(path, bytes).unwrap();
    let before = bytes_below(&dir);
    let error = world.open().unwrap_err();
    assert!(matches!(error, Error::Rock(_)) && error.is_corrupt(), "{error}");
    assert_eq!(bytes_below(&dir), before);
}

#[test]
fn open_twice() {
    let world = World::new();
    let store = world.layout().root().to_path_buf();
    let spellings = [
        store.clone(),
        store.join("."),
        store.join("../store"),
        world.dir.path().join("./store"),
        world.dir.path().join("alias"),
    ];
    let catalog = world.open().unwrap();
    symlink(&store, world.dir.path().join("alias")).unwrap();
    let open = |path: &Path| Catalog::open(Arc::new(world.disk.clone()), Layout::new(path), &test_pins());
    for path in &spellings {
        match open(path) {
            Err(Error::AlreadyOpen { path }) => {
                assert_eq!(path, fs::canonicalize(store.join("catalog")).unwrap())
            }
            other => panic!("{path:?}: {other:?}"),
        }
    }
    // Once it is closed, each way of closing, it opens; and a failed opening leaves nothing behind.
    catalog.close();
    for path in &spellings {
        let changed = Pins { earliest: LedgerSeq(12), ..test_pins() };
        let refused = Catalog::open(Arc::new(world.disk.clone()), Layout::new(path), &changed);
        assert!(matches!(refused, Err(Error::PinChanged { .. })));
        drop(open(path).unwrap());
    }
    // A thread that waits for the claim finds everything else closed as well.
    let mut catalog = world.open().unwrap();
    for _ in 0..20 {
        let opened = std::thread::scope(|scope| {
            let waiting = scope.spawn(|| {
                loop {
                    match world.open() {
                        Err(Error::AlreadyOpen { .. }) => std::thread::yield_now(),
                        opened => return opened,
                    }
                }
            });
            drop(catalog);
            waiting.join().unwrap()
        });
        catalog = opened.unwrap();
    }
}

#[test]
fn child_opens() {
    let Some(dir) = child_dir() else { return };
    let catalog = Catalog::open(Arc::new(RealDisk), Layout::new(dir), &test_pins()).unwrap();
    catalog.set_note("admin at 127.0.0.1:1234").unwrap();
    report_and_wait();
}

#[test]
fn two_processes() {
    let dir = temp_dir();
    let root = dir.path().join("store");
    let layout = Layout::new(&root);
    let open = || Catalog::open(Arc::new(RealDisk), layout.clone(), &test_pins());
    assert_eq!(Catalog::holder(&layout).unwrap(), None);
    let mut child = spawn("opening::child_opens", &root, &[]);
    assert!(wait_ready(&mut child));
    let error = open().unwrap_err();
    assert!(error.is_retryable());
    let text = error.to_string();
    let Error::Locked { holder, .. } = error else { panic!("{text}") };
    assert_eq!(holder.pid, Some(child.id()));
    assert!(holder.since.is_some() && text.contains("(admin at 127.0.0.1:1234)"), "{text}");
    assert_eq!(Catalog::holder(&layout).unwrap(), Some(holder));
    // Reading needs no lock.
    assert_eq!(*Catalog::open_read_only(&layout).unwrap().pins(), test_pins());
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(Catalog::holder(&layout).unwrap(), None);
    open().unwrap();
}

#[test]
fn modes_are_tight_at_every_step() {
    let dir = temp_dir();
    let root = dir.path().join("store");
    let own = root.join("catalog");
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    let hook = {
        let own = own.clone();
        move |_: &str| assert_eq!(fs::metadata(&own).unwrap().permissions().mode() & 0o7777, 0o700)
    };
    let open = || {
        let disk = Hooked { disk: RealDisk, hook: hook.clone() };
        Catalog::open(Arc::new(disk), Layout::new(&root), &test_pins())
    };
    let catalog = open().unwrap();
    make_hot(&catalog, 1).unwrap();
    assert_eq!((mode(&own), mode(&own.join("owner"))), (0o700, 0o600));
    drop(catalog);
    // What was loosened is tightened.
    fs::set_permissions(&own, fs::Permissions::from_mode(0o755)).unwrap();
    drop(open().unwrap());
    assert_eq!(mode(&own), 0o700);
    fs::set_permissions(&root, fs::Permissions::from_mode(0o777)).unwrap();
    assert!(matches!(open(), Err(Error::WritableByOthers { mode: 0o777, .. })));
    fs::set_permissions(&root, fs::Permissions::from_mode(0o755)).unwrap();
    // A link in the place of the owner file is not followed.
    fs::remove_file(own.join("owner")).unwrap();
    fs::write(dir.path().join("victim"), "precious").unwrap();
    symlink(dir.path().join("victim"), own.join("owner")).unwrap();
    assert!(matches!(open(), Err(Error::Disk(_))));
    assert_eq!(fs::read(dir.path().join("victim")).unwrap(), b"precious");
    let nowhere = Layout::new(dir.path().join("not/there"));
    let open = |layout| Catalog::open(Arc::new(RealDisk), layout, &test_pins());
    assert!(matches!(open(nowhere), Err(Error::NoParent { .. })));
    assert!(!dir.path().join("not").exists());
}

#[test]
fn other_refusals_before_the_first_start() {
    let world = World::new();
    let layout = world.layout();
    assert!(matches!(world.reader(), Err(Error::NoCatalog { .. })));
    assert!(!layout.root().exists());
    let overlap = layout.clone().with_hot(layout.root().join("events/hot"));
    let opened = Catalog::open(Arc::new(world.disk.clone()), overlap, &test_pins());
    assert!(matches!(opened, Err(Error::Cold(icecore_cold::Error::Overlap { .. }))));
    // Cold files that were made with another geometry, or of another network.
    let disk: Arc<dyn Disk> = Arc::new(world.disk.clone());
    let other = icecore_cold::Manifest { geometry: Geometry::new(5, 5).unwrap(), network: None };
    other.pin(&disk, &layout).unwrap();
    assert!(matches!(world.open(), Err(Error::PinChanged { name: "ledgers per chunk", .. })));
    assert!(!layout.catalog_dir().exists());
    // An empty database is what a crash leaves of the first start.
    let world = World::new();
    fs::create_dir_all(world.layout().catalog_dir().parent().unwrap()).unwrap();
    Store::create(world.layout().catalog_dir(), load::FAMILIES, &StoreOptions::default()).unwrap();
    assert!(matches!(world.reader(), Err(Error::NoCatalog { .. })));
    assert_eq!(*world.open().unwrap().pins(), test_pins());
}

#[test]
fn rows_of_others_are_kept_apart() {
    let world = World::new();
    let catalog = world.open().unwrap();
    let refused = catalog.update_rows(|rows| rows.put("chunk:00000001:ledgers", b"frozen"));
    assert!(matches!(refused, Err(Error::Malformed { .. })));
    let refused = catalog.update_rows(|rows| rows.put("audit:x", &vec![0; load::MAX_VALUE_BYTES + 1]));
    assert!(matches!(refused, Err(Error::ValueTooLarge { .. })));
    let failed: Result<()> = catalog.update_rows(|rows| {
        rows.put("audit:x", b"lost")?;
        Err(Error::NoCatalog { path: PathBuf::new() })
    });
    assert!(failed.is_err());
    let put = |name: &str, value: &[u8]| catalog.update_rows(|rows| rows.put(name, value)).unwrap();
    put("migration:a", b"1");
    put("migration:b", b"\xff");
    put("config:format", b"0");
    assert_eq!(catalog.pins().format, Some(0));
    let seen = catalog.update_rows(|rows| {
        rows.delete("migration:a")?;
        rows.get("migration:a")
    });
    assert_eq!(seen.unwrap_or_default().as_deref(), Some(&b"1"[..]));
    assert_eq!(catalog.rows("migration:").unwrap(), [("migration:b".into(), b"\xff".to_vec())]);
    assert_eq!((catalog.row("audit:x").unwrap(), catalog.state().keys().count()), (None, 0));
    drop(catalog);
    assert_eq!(world.open().unwrap().pins().format, Some(0));
}
