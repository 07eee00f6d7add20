//! What the tests of chunk files share: a small chunk on a disk in memory.
#![allow(dead_code, unreachable_pub)]

pub mod toy;

use std::{path::Path, sync::Arc};

use icecore_diskio::{Disk, FaultyDisk};
use icecore_events::{ChunkEvents, ChunkEventsWriter, EventPaths, EventRecord, Options, Result, Summary};
use icecore_ledger::{ChunkId, LedgerSeq};
use icecore_testkit::SplitMix64;

pub const FIRST: LedgerSeq = LedgerSeq(10_002);

pub fn paths() -> EventPaths {
    EventPaths::new("", ChunkId(1))
}

/// A few ledgers of a few events, always the same for a seed.
pub fn ledgers(seed: u64, count: u32, max_events: u64) -> Vec<toy::Ledger> {
    let mut rng = SplitMix64::new(seed);
    toy::ledgers(FIRST, count, max_events, &mut |bound| rng.below(bound))
}

pub fn records(ledgers: &[toy::Ledger]) -> Vec<EventRecord> {
    let of = |ledger: &toy::Ledger| {
        let record = |event| EventRecord::of(ledger.seq, ledger.closed_at, event).into_owned();
        ledger.events().iter().map(record).collect::<Vec<_>>()
    };
    ledgers.iter().flat_map(of).collect()
}

pub fn write(disk: &Arc<dyn Disk>, ledgers: &[toy::Ledger], options: Options) -> Result<Summary> {
    let mut writer = ChunkEventsWriter::create(disk, &paths(), FIRST, options)?;
    for ledger in ledgers {
        writer.push_ledger(ledger.seq, ledger.closed_at, &ledger.events())?;
    }
    writer.finish()
}

pub fn memory() -> Arc<dyn Disk> {
    Arc::new(FaultyDisk::new())
}

/// The three files of a chunk: events, keys, bitmaps.
pub fn files(ledgers: &[toy::Ledger]) -> [Vec<u8>; 3] {
    let disk = memory();
    write(&disk, ledgers, Options::new()).unwrap();
    paths().each().map(|path| bytes(&disk, path))
}

pub fn bytes(disk: &Arc<dyn Disk>, path: &Path) -> Vec<u8> {
    disk.open(path).unwrap().as_bytes().unwrap().to_vec()
}

/// A disk that holds the three files, as they are.
pub fn disk_with(files: [&[u8]; 3]) -> Arc<dyn Disk> {
    let disk = memory();
    for (path, bytes) in paths().each().into_iter().zip(files) {
        disk.create_exclusive(path).unwrap().write_all_at(bytes, 0).unwrap();
    }
    disk
}

pub fn verify_deep(disk: &Arc<dyn Disk>) -> Result<()> {
    let chunk = ChunkEvents::open(disk, &paths());
    chunk.verify_deep(&toy::Toy, disk, Path::new("hash"), Path::new("pack"), Options::new())
}
