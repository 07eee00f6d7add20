//! What a writer takes and refuses, and what is on the disk whatever goes wrong.
#![allow(clippy::unwrap_used)]

mod common;

use std::{path::PathBuf, sync::Arc};

use common::{FIRST, bytes, ledgers, memory, paths, records, verify_deep, write};
use icecore_diskio::{Disk, Fault, FaultyDisk, IfExists, RealDisk};
use icecore_events::{ChunkEvents, ChunkEventsWriter, Error, EventPaths, Options};
use icecore_ledger::{ChunkId, Event, LedgerSeq};

const FAULTS: [Fault; 4] = [Fault::Io, Fault::DiskFull, Fault::ShortWrite, Fault::PowerCut];

fn names() -> Vec<PathBuf> {
    let mut names = paths().each().map(PathBuf::from).to_vec();
    names.sort();
    names
}

#[test]
fn gaps_repeats_and_disorder_are_refused_and_change_nothing() {
    let disk = memory();
    let ledgers = ledgers(1, 5, 30);
    let mut writer = ChunkEventsWriter::create(&disk, &paths(), FIRST, Options::new()).unwrap();
    for (i, ledger) in ledgers.iter().enumerate() {
        let mut push =
            |seq, events: &[Event<'_>]| writer.push_ledger(LedgerSeq(seq), ledger.closed_at, events);
        let events = ledger.events();
        let seq = ledger.seq.0;
        for late in [seq + 1, u32::MAX] {
            assert!(
                matches!(push(late, &events), Err(Error::Gap { expected, .. }) if expected == ledger.seq)
            );
        }
        for early in [0, seq - 1] {
            assert!(
                matches!(push(early, &events), Err(Error::Repeat { expected, .. }) if expected == ledger.seq)
            );
        }
        if events.len() > 1 {
            let backwards: Vec<_> = events.iter().rev().copied().collect();
            assert!(matches!(push(seq, &backwards), Err(Error::Disordered { index: 1, .. })));
            let twice = [events[0], events[0]];
            assert!(matches!(push(seq, &twice), Err(Error::Disordered { index: 1, .. })));
        }
        push(seq, &events).unwrap();
        assert_eq!(writer.progress().ledgers, i as u32 + 1);
    }
    let summary = writer.finish().unwrap();
    assert_eq!(summary.events as usize, records(&ledgers).len());
    for (path, len) in paths().each().into_iter().zip([
        summary.events_bytes,
        summary.index.hash_bytes,
        summary.index.pack_bytes,
    ]) {
        assert_eq!(disk.file_len(path).unwrap(), Some(len));
    }
    let again = memory();
    write(&again, &ledgers, Options::new().concurrency(4)).unwrap();
    for path in paths().each() {
        assert_eq!(bytes(&disk, path), bytes(&again, path));
    }
}

#[test]
fn the_last_ledger_of_all_is_the_last() {
    let disk = memory();
    let mut writer = ChunkEventsWriter::create(&disk, &paths(), LedgerSeq(u32::MAX), Options::new()).unwrap();
    writer.push_ledger(LedgerSeq(u32::MAX), 0, &[]).unwrap();
    assert!(matches!(writer.push_ledger(LedgerSeq(0), 0, &[]), Err(Error::TooLarge { .. })));
    writer.finish().unwrap();
    let chunk = ChunkEvents::open(&disk, &paths());
    assert_eq!(chunk.ledgers().unwrap().unwrap().last, LedgerSeq(u32::MAX));
    chunk.verify().unwrap();
}

#[test]
fn a_chunk_without_events_or_ledgers_is_whole() {
    for count in [0, 3] {
        let disk = memory();
        write(&disk, &ledgers(1, count, 0), Options::new()).unwrap();
        verify_deep(&disk).unwrap();
        let chunk = ChunkEvents::open(&disk, &paths());
        assert_eq!((chunk.event_count().unwrap(), chunk.term_count().unwrap()), (0, 0));
        assert_eq!(chunk.query(&Default::default(), &common::toy::Toy).unwrap(), []);
    }
}

#[test]
fn a_dropped_writer_leaves_nothing() {
    let disk = FaultyDisk::new();
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    let mut writer = ChunkEventsWriter::create(&shared, &paths(), FIRST, Options::new()).unwrap();
    writer.push_ledger(FIRST, 0, &ledgers(1, 1, 9)[0].events()).unwrap();
    drop(writer);
    assert_eq!(disk.paths(), Vec::<PathBuf>::new());
}

#[test]
fn the_first_error_sticks() {
    let disk = FaultyDisk::new();
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    let mut writer = ChunkEventsWriter::create(&shared, &paths(), FIRST, Options::new()).unwrap();
    disk.fail_at(disk.operations(), Fault::DiskFull);
    let mut rng = icecore_testkit::SplitMix64::new(1);
    let failed = (0..10_000).find_map(|i| {
        let body: Vec<u8> = (0..1000).flat_map(|_| rng.key()).collect();
        let fields = Default::default();
        let tx_hash = icecore_ledger::TxHash([0; 32]);
        let event = Event { tx_hash, tx_index: 1, op_index: 0, event_index: 0, body: &body, fields };
        writer.push_ledger(LedgerSeq(FIRST.0 + i), 0, &[event]).err().map(|e| (i, e))
    });
    let (at, first) = failed.unwrap();
    assert!(matches!(first, Error::Packfile(icecore_packfile::Error::Io(_))), "{first:?}");
    let again = writer.push_ledger(LedgerSeq(FIRST.0 + at + 1), 0, &[]).unwrap_err();
    assert_eq!(again.to_string(), first.to_string());
    assert_eq!(writer.finish().unwrap_err().to_string(), first.to_string());
    assert_eq!(disk.paths(), Vec::<PathBuf>::new());
}

#[test]
fn existing_files_are_left_alone_or_replaced() {
    let (old, new) = (ledgers(1, 4, 20), ledgers(2, 4, 20));
    for taken in paths().each() {
        let disk = memory();
        disk.create_exclusive(taken).unwrap().write_all_at(b"old", 0).unwrap();
        let refused = write(&disk, &new, Options::new());
        let exists =
            |e: &_| matches!(e, Error::Disk(icecore_diskio::Error::Exists { path }) if path == taken);
        assert!(refused.is_err_and(|e| exists(&e)));
        assert_eq!(bytes(&disk, taken), b"old");
        assert_eq!(disk.list("".as_ref()).unwrap().len(), 1);
    }
    let dir = tempfile::tempdir().unwrap();
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let paths = EventPaths::new(dir.path(), ChunkId(3));
    for ledgers in [&old, &new] {
        let options = Options::new().if_exists(IfExists::Replace);
        let mut writer = ChunkEventsWriter::create(&disk, &paths, FIRST, options).unwrap();
        for ledger in ledgers {
            writer.push_ledger(ledger.seq, ledger.closed_at, &ledger.events()).unwrap();
        }
        writer.finish().unwrap();
    }
    let chunk = ChunkEvents::open(&disk, &paths);
    chunk.verify().unwrap();
    assert_eq!(chunk.event_count().unwrap() as usize, records(&new).len());
    assert_eq!(disk.list(dir.path()).unwrap().len(), 3);
}

#[test]
fn a_file_that_appears_meanwhile_is_left_alone() {
    let (disk, ledgers) = (memory(), ledgers(1, 2, 9));
    let writer = ChunkEventsWriter::create(&disk, &paths(), ledgers[0].seq, Options::new()).unwrap();
    disk.create_exclusive(&paths().index_pack).unwrap().write_all_at(b"other", 0).unwrap();
    assert!(writer.finish().is_err());
    assert_eq!(disk.list("".as_ref()).unwrap(), [paths().index_pack.to_str().unwrap()]);
    assert_eq!(bytes(&disk, &paths().index_pack), b"other");
}

/// Runs with each kind of fault at each operation; `check` is told whether the run succeeded.
fn with_every_fault(
    prepare: impl Fn(&Arc<dyn Disk>),
    options: Options,
    check: impl Fn(&FaultyDisk, Fault, bool),
) {
    let ledgers = ledgers(7, 4, 40);
    let run = |fault: Option<(u64, Fault)>| {
        let disk = FaultyDisk::new();
        let shared: Arc<dyn Disk> = Arc::new(disk.clone());
        prepare(&shared);
        let begin = disk.operations();
        if let Some((number, fault)) = fault {
            disk.fail_at(begin + number, fault);
        }
        let result = write(&shared, &ledgers, options);
        if let Err(e) = &result {
            assert!(e.is_retryable() && !e.is_corrupt(), "{e:?}");
        }
        (disk.operations() - begin, disk, result.is_ok())
    };
    let (operations, _, ok) = run(None);
    assert!(ok && operations >= 15, "{operations}");
    for number in 0..operations {
        for fault in FAULTS {
            let (_, disk, ok) = run(Some((number, fault)));
            assert!(!ok, "operation {number}, {fault:?}");
            check(&disk, fault, ok);
        }
    }
}

#[test]
fn a_fault_leaves_all_or_nothing() {
    with_every_fault(
        |_| {},
        Options::new(),
        |disk, fault, _| {
            if fault != Fault::PowerCut {
                assert_eq!(disk.paths(), Vec::<PathBuf>::new());
            }
            whole_or_absent(disk);
        },
    );
}

#[test]
fn a_fault_while_replacing_leaves_whole_files() {
    let options = Options::new().if_exists(IfExists::Replace);
    let prepare = |disk: &Arc<dyn Disk>| {
        write(disk, &ledgers(8, 4, 40), Options::new()).unwrap();
    };
    with_every_fault(prepare, options, |disk, fault, _| {
        if fault != Fault::PowerCut {
            assert!(disk.paths().iter().all(|path| names().contains(path)), "{:?}", disk.paths());
            if disk.paths() == names() {
                verify_deep(&(Arc::new(disk.clone()) as Arc<dyn Disk>)).unwrap();
            }
        }
        whole_or_absent(disk);
    });
}

#[test]
fn what_was_removed_stays_away_in_every_directory() {
    let disk = FaultyDisk::new();
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    write(&shared, &ledgers(1, 4, 20), Options::new()).unwrap();
    let rebuilt = ["/a/hash", "/b/pack"].map(PathBuf::from);
    rebuilt.iter().for_each(|path| disk.create_dir_all(path.parent().unwrap()).unwrap());
    let chunk = ChunkEvents::open(&shared, &paths());
    chunk.verify_deep(&common::toy::Toy, &shared, &rebuilt[0], &rebuilt[1], Options::new()).unwrap();
    assert_eq!(disk.paths(), names());
    assert_eq!(disk.after_crash().paths(), names());
}

/// After a power cut each file is there as a whole or not at all.
fn whole_or_absent(disk: &FaultyDisk) {
    let disk: Arc<dyn Disk> = Arc::new(disk.after_crash());
    for path in [paths().events, paths().index_pack] {
        if disk.file_len(&path).unwrap().is_some() {
            icecore_packfile::Reader::open_on(&disk, &path).info().unwrap();
        }
    }
    if disk.file_len(&paths().index_hash).unwrap().is_some() {
        let file = disk.open(&paths().index_hash).unwrap();
        icecore_streamhash::Index::from_source(file).unwrap().verify().unwrap();
    }
}
