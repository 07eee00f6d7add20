//! What bears the final name is whole: after a success, a failure, a drop, a power cut at every step.
#![allow(clippy::unwrap_used)]

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use icecore_diskio::{
    Disk, Error, Fault, FaultyDisk, FileReader, IfExists, Mmap, PendingFile, ReadAt, RealDisk, Result,
};
use proptest::prelude::*;

const OLD: &[u8] = b"old";
const NEW: &[u8] = b"new contents";

fn write(disk: &Arc<dyn Disk>, path: &Path, contents: &[u8], if_exists: IfExists) -> Result<()> {
    disk.create_dir_all(path.parent().unwrap())?;
    let file = PendingFile::create(disk, path, if_exists)?;
    let half = contents.len() / 2;
    file.write_all_at(&contents[half..], half as u64)?;
    file.write_all_at(&contents[..half], 0)?;
    file.commit()
}

fn contents(disk: &dyn Disk, path: &Path) -> Option<Vec<u8>> {
    let source = disk.open(path).ok()?;
    let mut bytes = vec![0; source.len_bytes() as usize];
    source.read_exact_at(&mut bytes, 0).unwrap();
    Some(bytes)
}

fn partial(path: &Path) -> PathBuf {
    PathBuf::from(format!("{}{}", path.display(), PendingFile::SUFFIX))
}

/// The same behaviour is asked of the real disk and of the faulty one without faults.
fn both_disks(check: impl Fn(Arc<dyn Disk>, PathBuf)) {
    let dir = tempfile::tempdir().unwrap();
    check(Arc::new(RealDisk), dir.path().join("a/b/file"));
    check(Arc::new(FaultyDisk::new()), PathBuf::from("/a/b/file"));
}

#[test]
fn a_commit_gives_the_whole_file_and_leaves_no_other() {
    both_disks(|disk, path| {
        write(&disk, &path, NEW, IfExists::Fail).unwrap();
        assert_eq!(contents(&*disk, &path).unwrap(), NEW);
        assert_eq!(disk.list(path.parent().unwrap()).unwrap(), ["file"]);
        assert_eq!(disk.list(path.parent().unwrap().parent().unwrap()).unwrap(), ["b"]);
    });
}

#[test]
fn a_taken_name_is_refused_or_replaced_as_asked() {
    both_disks(|disk, path| {
        write(&disk, &path, OLD, IfExists::Fail).unwrap();
        assert!(matches!(write(&disk, &path, NEW, IfExists::Fail), Err(Error::Exists { .. })));
        assert_eq!(contents(&*disk, &path).unwrap(), OLD);
        write(&disk, &path, NEW, IfExists::Replace).unwrap();
        assert_eq!(contents(&*disk, &path).unwrap(), NEW);
    });
}

#[test]
fn a_name_taken_during_the_write_is_not_replaced() {
    both_disks(|disk, path| {
        disk.create_dir_all(path.parent().unwrap()).unwrap();
        let file = PendingFile::create(&disk, &path, IfExists::Fail).unwrap();
        file.write_all_at(NEW, 0).unwrap();
        let other = disk.create_exclusive(&path).unwrap();
        other.write_all_at(OLD, 0).unwrap();
        assert!(matches!(file.commit(), Err(Error::Exists { .. })));
        assert_eq!(contents(&*disk, &path).unwrap(), OLD);
        assert_eq!(disk.file_len(&partial(&path)).unwrap(), None);
    });
}

#[test]
fn a_dropped_file_leaves_nothing() {
    both_disks(|disk, path| {
        disk.create_dir_all(path.parent().unwrap()).unwrap();
        let file = PendingFile::create(&disk, &path, IfExists::Fail).unwrap();
        file.write_all_at(NEW, 0).unwrap();
        drop(file);
        assert_eq!(disk.list(path.parent().unwrap()).unwrap(), [""; 0]);
    });
}

#[test]
fn a_second_writer_is_told_to_wait_and_may_come_later() {
    both_disks(|disk, path| {
        disk.create_dir_all(path.parent().unwrap()).unwrap();
        let first = PendingFile::create(&disk, &path, IfExists::Fail).unwrap();
        assert!(matches!(PendingFile::create(&disk, &path, IfExists::Fail), Err(Error::Busy { .. })));
        drop(first);
        write(&disk, &path, NEW, IfExists::Fail).unwrap();
    });
}

#[test]
fn what_a_killed_writer_left_is_taken_over() {
    both_disks(|disk, path| {
        disk.create_dir_all(path.parent().unwrap()).unwrap();
        let left = disk.create_exclusive(&partial(&path)).unwrap();
        left.write_all_at(b"a longer run of bytes than the new contents", 0).unwrap();
        drop(left);
        write(&disk, &path, NEW, IfExists::Fail).unwrap();
        assert_eq!(contents(&*disk, &path).unwrap(), NEW);
    });
}

#[test]
fn scratch_files_have_no_name() {
    both_disks(|disk, path| {
        let dir = path.parent().unwrap();
        disk.create_dir_all(dir).unwrap();
        let scratch = disk.scratch(dir).unwrap();
        scratch.write_all_at(NEW, 5).unwrap();
        let mut back = vec![0; NEW.len()];
        scratch.read_back_at(&mut back, 5).unwrap();
        assert_eq!(back, NEW);
        assert!(disk.list(dir).unwrap().is_empty());
    });
}

#[test]
fn a_fault_at_any_step_loses_nothing() {
    let path = Path::new("/d/file");
    let clean = FaultyDisk::new();
    let shared: Arc<dyn Disk> = Arc::new(clean.clone());
    write(&shared, path, OLD, IfExists::Fail).unwrap();
    let before = clean.operations();
    write(&shared, path, NEW, IfExists::Replace).unwrap();
    let steps = before..clean.operations();
    assert_eq!(steps.clone().count(), 7, "sync parent, create, two writes, sync, rename, sync dir");

    for step in steps {
        for fault in [Fault::Io, Fault::DiskFull, Fault::ShortWrite, Fault::PowerCut] {
            let disk = FaultyDisk::new();
            let shared: Arc<dyn Disk> = Arc::new(disk.clone());
            write(&shared, path, OLD, IfExists::Fail).unwrap();
            disk.fail_at(step, fault);
            let error = write(&shared, path, NEW, IfExists::Replace).unwrap_err();
            assert_eq!(matches!(error, Error::DiskFull { .. }), fault == Fault::DiskFull);
            assert!(fault != Fault::PowerCut || contents(&disk, path).is_none(), "read without power");
            let survivors = if fault == Fault::PowerCut { disk.after_crash() } else { disk.clone() };
            for found in [contents(&survivors, path), contents(&disk.after_crash(), path)] {
                let found = found.unwrap();
                assert!(found == OLD || found == NEW, "step {step}, {fault:?}: {found:?}");
            }
            if fault != Fault::PowerCut {
                assert_eq!(disk.file_len(&partial(path)).unwrap(), None);
                write(&shared, path, NEW, IfExists::Replace).unwrap();
            }
            let restarted: Arc<dyn Disk> = Arc::new(disk.after_crash());
            write(&restarted, path, NEW, IfExists::Replace).unwrap();
            assert_eq!(contents(&*restarted, path).unwrap(), NEW);
        }
    }
}

#[test]
fn a_failed_commit_leaves_no_new_name() {
    let path = Path::new("/d/file");
    let clean = FaultyDisk::new();
    write(&(Arc::new(clean.clone()) as Arc<dyn Disk>), path, NEW, IfExists::Fail).unwrap();
    for step in 0..clean.operations() {
        for fault in [Fault::Io, Fault::DiskFull, Fault::ShortWrite] {
            let disk = FaultyDisk::new();
            disk.fail_at(step, fault);
            let shared: Arc<dyn Disk> = Arc::new(disk.clone());
            write(&shared, path, NEW, IfExists::Fail).unwrap_err();
            assert!(disk.paths().is_empty(), "step {step}, {fault:?}: {:?}", disk.paths());
            // Whatever of the directories was made and not synced, the next run makes durable.
            write(&shared, path, NEW, IfExists::Fail).unwrap();
            assert_eq!(contents(&disk.after_crash(), path).unwrap(), NEW, "step {step}, {fault:?}");
        }
    }
}

#[test]
fn a_second_name_of_a_sealed_file_is_removed_and_the_file_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let (disk, path): (Arc<dyn Disk>, _) = (Arc::new(RealDisk), dir.path().join("file"));
    write(&disk, &path, OLD, IfExists::Fail).unwrap();
    // As after a kill between giving the new name and taking the old one away.
    std::fs::hard_link(&path, partial(&path)).unwrap();
    let file = PendingFile::create(&disk, &path, IfExists::Replace).unwrap();
    file.write_all_at(NEW, 0).unwrap();
    drop(file);
    assert_eq!(contents(&*disk, &path).unwrap(), OLD);
    assert_eq!(disk.list(dir.path()).unwrap(), ["file"]);
}

#[test]
fn planted_reads_fail_and_are_counted_apart() {
    let disk = FaultyDisk::new();
    let file = disk.create_exclusive(Path::new("f")).unwrap();
    file.write_all_at(NEW, 0).unwrap();
    let changes = disk.operations();
    disk.fail_read_at(1, Fault::Io);
    disk.fail_read_at(3, Fault::Io);
    disk.fail_read_at(5, Fault::Io);
    let source = disk.open(Path::new("f")).unwrap();
    let mut byte = [0];
    assert!(source.read_exact_at(&mut byte, 0).is_err_and(|e| e.is_retryable()));
    source.read_exact_at(&mut byte, 0).unwrap();
    assert!(file.read_back_at(&mut byte, 0).is_err());
    file.read_back_at(&mut byte, 0).unwrap();
    assert!(disk.open(Path::new("f")).is_err());
    assert_eq!((disk.reads(), disk.operations()), (6, changes));
    disk.fail_at(changes, Fault::PowerCut);
    assert!(file.sync().is_err());
    assert!(source.read_exact_at(&mut byte, 0).is_err() && source.as_bytes().is_none());
    assert!(file.read_back_at(&mut byte, 0).is_err() && disk.open(Path::new("f")).is_err());
}

#[test]
fn success_survives_a_power_cut() {
    let disk = FaultyDisk::new();
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    write(&shared, Path::new("/d/file"), NEW, IfExists::Fail).unwrap();
    assert_eq!(contents(&disk.after_crash(), Path::new("/d/file")).unwrap(), NEW);
}

#[test]
fn missing_things_are_named() {
    both_disks(|disk, path| {
        for error in [disk.open(&path).err(), disk.create_exclusive(&path).err(), disk.remove(&path).err()] {
            let error = error.unwrap();
            assert!(error.is_not_found() && error.to_string().contains("a/b/file"), "{error}");
        }
        assert_eq!(disk.file_len(&path).unwrap(), None);
        assert!(disk.list(&path).unwrap().is_empty());
    });
}

proptest! {
    #[test]
    fn all_sources_agree(bytes in proptest::collection::vec(any::<u8>(), 1..300), offset in 0u64..400, len in 0usize..400) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        std::fs::write(&path, &bytes).unwrap();
        let expected = bytes.get(offset as usize..).and_then(|rest| rest.get(..len));
        let sources: [Box<dyn ReadAt>; 3] = [
            Box::new(FileReader::open(&path).unwrap()),
            Box::new(Mmap::open(&path).unwrap()),
            Box::new(bytes.clone()),
        ];
        for source in sources {
            prop_assert_eq!(source.len_bytes(), bytes.len() as u64);
            let mut found = vec![0; len];
            match (source.read_exact_at(&mut found, offset), expected) {
                (Ok(()), Some(expected)) => prop_assert_eq!(&found[..], expected),
                (Err(Error::PastEnd { .. }), None) => {}
                (result, expected) => prop_assert!(false, "{result:?} where {expected:?}"),
            }
        }
        let mut far = [0; 2];
        let past_end = matches!(bytes.read_exact_at(&mut far, u64::MAX), Err(Error::PastEnd { .. }));
        prop_assert!(past_end);
    }
}
