//! Backups: whole or not there.

use std::{os::unix::fs::PermissionsExt, sync::Mutex};

use super::*;
use crate::{BackupReport, Error, backup};

/// A store with something in it, and a place for backups.
fn furnished(disk: Arc<dyn Disk>, dir: &Path) -> Catalog {
    let catalog = Catalog::open(disk, Layout::new(dir.join("store")), &test_pins()).unwrap();
    build(&catalog, &[chunk(0, Artifact::Ledgers), chunk(0, Artifact::Events)]).unwrap();
    build(&catalog, &[chunk(0, Artifact::TxHash)]).unwrap();
    build_index(&catalog, coverage(0, 0)).unwrap();
    catalog.begin(&[chunk(1, Artifact::Ledgers)]).unwrap();
    make_hot(&catalog, 2).unwrap();
    fs::create_dir_all(dir.join("copies")).unwrap();
    catalog
}

fn names(dir: &Path) -> Vec<String> {
    RealDisk.list(dir).unwrap()
}

#[test]
fn a_backup_is_the_catalog_as_it_was() {
    let world = World::new();
    let catalog = furnished(Arc::new(world.disk.clone()), world.dir.path());
    let copies = world.dir.path().join("copies");
    let state = catalog.state();
    let BackupReport { path, keys, bytes } = catalog.backup(copies.join("a")).unwrap();
    assert!((path, keys) == (copies.join("a"), 6) && bytes > 1000);
    catalog.demote(&[chunk(0, Artifact::Ledgers)]).unwrap();
    let (loaded, list) = backup::read(&copies.join("a")).unwrap();
    assert_eq!((loaded.state, &loaded.pins), (state.as_ref().clone(), &test_pins()));
    let files = list.unwrap().files;
    assert_eq!(files.len(), 4);
    let events = &files["chunk:00000000:events"];
    let lengths = chunk(0, Artifact::Events).paths(catalog.layout()).into_iter();
    assert!(lengths.map(|path| contents(&path).len() as u64).eq(events.iter().copied()));
    assert_eq!(names(&copies), ["a"]);
    for bad in ["a", "../store"] {
        let error = catalog.backup(copies.join(bad)).unwrap_err();
        assert!(matches!(error, Error::BackupDestinationExists { .. }), "{error}");
    }
    assert!(matches!(catalog.backup(copies.join("b/c")), Err(Error::NoParent { .. })));
    fs::set_permissions(&copies, fs::Permissions::from_mode(0o777)).unwrap();
    assert!(matches!(catalog.backup(copies.join("b")), Err(Error::WritableByOthers { .. })));
    assert_eq!(names(&copies), ["a"]);
    fs::set_permissions(&copies, fs::Permissions::from_mode(0o1777)).unwrap();
    catalog.backup(copies.join("b")).unwrap();
}

#[test]
fn whoever_comes_first_has_the_destination() {
    // Somebody takes the name after the copy was begun: the rename decides. An empty directory, which a plain rename replaces.
    let dir = temp_dir();
    let destination = dir.path().join("copies/a");
    let hook = {
        let destination = destination.clone();
        move |step: &str| {
            if step == "before backup rename" {
                fs::create_dir(&destination).unwrap();
            }
        }
    };
    let catalog = furnished(Arc::new(Hooked { disk: FaultyDisk::new(), hook }), dir.path());
    assert!(matches!(catalog.backup(&destination), Err(Error::BackupDestinationExists { .. })));
    assert_eq!(names(&destination), [""; 0]);
    assert_eq!(names(&dir.path().join("copies")), ["a"]);
}

#[test]
fn backup_fails_at_each_step() {
    let world = World::new();
    let catalog = furnished(Arc::new(world.disk.clone()), world.dir.path());
    let copies = world.dir.path().join("copies");
    let begin = world.disk.operations();
    catalog.backup(copies.join("a")).unwrap();
    let steps = world.disk.operations() - begin;
    assert_eq!(steps, 6);
    for at in 0..steps {
        for fault in [Fault::Io, Fault::DiskFull] {
            world.disk.fail_at(world.disk.operations() + at, fault);
            let error = catalog.backup(copies.join("b")).unwrap_err();
            assert!(error.is_retryable(), "{error}");
            assert_eq!(names(&copies), ["a"], "step {at}");
        }
    }
    catalog.backup(copies.join("b")).unwrap();
}

#[test]
fn nobody_else_can_read_a_backup_in_the_making() {
    let dir = temp_dir();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let hook = {
        let (copies, seen) = (dir.path().join("copies"), Arc::clone(&seen));
        move |step: &str| {
            for name in RealDisk.list(&copies).unwrap_or_default() {
                let mode = fs::metadata(copies.join(&name)).unwrap().permissions().mode() & 0o777;
                seen.lock().unwrap().push((step.to_owned(), mode));
            }
        }
    };
    let catalog = furnished(Arc::new(Hooked { disk: FaultyDisk::new(), hook }), dir.path());
    catalog.backup(dir.path().join("copies/a")).unwrap();
    let seen = seen.lock().unwrap();
    assert!(seen.len() >= 6 && seen.iter().all(|(_, mode)| *mode == 0o700), "{seen:?}");
}

#[test]
fn child_backs_up() {
    let Some(dir) = child_dir() else { return };
    let at = std::env::var("AT").unwrap();
    let hook = move |step: &str| {
        if step == at {
            kill_self();
        }
    };
    furnished(Arc::new(Hooked { disk: RealDisk, hook }), &dir).backup(dir.join("copies/a")).unwrap();
}

#[test]
fn a_killed_backup_is_whole_or_not_there() {
    for name in [steps::BACKUP_STAGE, steps::BACKUP_RENAME, steps::BACKUP_SYNC] {
        for when in ["before", "after"] {
            let dir = temp_dir();
            let at = format!("{when} {name}");
            let mut child = spawn("backup::child_backs_up", dir.path(), &[("AT", at.clone())]);
            assert!(!child.wait().unwrap().success(), "{at}");
            let destination = dir.path().join("copies/a");
            let named = name == steps::BACKUP_SYNC || at == "after backup rename";
            assert_eq!(destination.exists(), named, "{at}");
            if named {
                backup::read(&destination).unwrap();
            }
        }
    }
}

#[test]
fn a_copy_that_says_something_else_is_refused() {
    let dir = temp_dir();
    let copies = dir.path().join("copies");
    let hook = {
        let copies = copies.clone();
        move |step: &str| {
            if step == "after backup stage" {
                let staged = copies.join(&RealDisk.list(&copies).unwrap()[0]).join("rocksdb");
                let damage = |(path, mut bytes): (PathBuf, Vec<u8>)| {
                    let middle = bytes.len() / 3;
                    bytes[middle] ^= 0x10;
                    // A linked file is the catalog's own too.
                    fs::remove_file(&path).unwrap();
                    fs::write(path, bytes).unwrap();
                };
                let is_table = |(path, _): &(PathBuf, Vec<u8>)| path.extension().is_some_and(|e| e == "sst");
                bytes_below(&staged).into_iter().filter(is_table).for_each(damage);
            }
        }
    };
    let catalog = furnished(Arc::new(Hooked { disk: FaultyDisk::new(), hook }), dir.path());
    let error = catalog.backup(copies.join("a")).unwrap_err();
    assert!(matches!(error, Error::CopyDiffers { .. }), "{error}");
    assert_eq!(names(&copies), [""; 0]);
    assert!(catalog.state().has(ChunkId(0), Artifact::Events));
}
