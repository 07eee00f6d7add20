//! Damaged, cut and foreign files: a typed error or what is true, never anything else.
#![allow(clippy::unwrap_used)]

mod common;

use std::sync::Arc;

use common::{FIRST, disk_with, files, ledgers, paths, records, toy::Toy, toy::word, verify_deep};
use icecore_diskio::Disk;
use icecore_events::{
    ChunkEvents, EVENTS_FORMAT, Error, EventRecord, Filter, INDEX_FORMAT, Query, Result, decode_bitmap,
};
use icecore_ledger::LedgerSeq;
use icecore_packfile::Codec;

fn queries() -> [Query; 3] {
    let limit = 1000;
    [
        Query { limit, ..Query::default() },
        Query { filters: vec![Filter::any().contract(word(1))], limit, ..Query::default() },
        Query {
            filters: vec![Filter::any().topic(1, word(2)), Filter::any().topic(0, word(0))],
            limit,
            ..Query::default()
        },
    ]
}

/// Opens and reads what three files say; `true` when everything was as it should be.
fn read(disk: &Arc<dyn Disk>, truth: &[EventRecord], answers: &[Vec<EventRecord>]) -> Result<bool> {
    let chunk = ChunkEvents::open(disk, &paths());
    let mut all = Vec::new();
    let events = chunk.event_count()?;
    for seq in FIRST.0..FIRST.0 + 4 {
        all.extend(chunk.ledger_events(LedgerSeq(seq))?);
    }
    assert_eq!((events as usize, &all[..]), (truth.len(), truth));
    let mut right = true;
    for (query, answer) in queries().iter().zip(answers) {
        // Bitmaps have no checksum: damage there can hide events, but not invent them.
        let found = chunk.query(query, &Toy)?;
        let mut answer_left = answer.iter();
        assert!(found.iter().all(|event| answer_left.any(|right| right == event)));
        right &= found == *answer;
    }
    Ok(right)
}

fn answers(files: [&[u8]; 3]) -> Vec<Vec<EventRecord>> {
    let chunk_disk = disk_with(files);
    let chunk = ChunkEvents::open(&chunk_disk, &paths());
    queries().iter().map(|query| chunk.query(query, &Toy).unwrap()).collect()
}

#[test]
fn every_flipped_byte_is_found_or_does_no_harm() {
    let ledgers = ledgers(3, 4, 12);
    let (truth, good) = (records(&ledgers), files(&ledgers));
    let answers = answers(good.each_ref().map(Vec::as_slice));
    assert!(read(&disk_with(good.each_ref().map(Vec::as_slice)), &truth, &answers).unwrap());
    let (mut wrong_answers, mut harmless_flips) = (0, 0);
    for file in 0..3 {
        for at in 0..good[file].len() {
            let mut files = good.clone();
            files[file][at] ^= [1, 0x10, 0x80, 0xFF][at % 4];
            let disk = disk_with(files.each_ref().map(Vec::as_slice));
            let found = read(&disk, &truth, &answers);
            assert!(found.as_ref().err().is_none_or(file_is_blamed), "file {file}, byte {at}: {found:?}");
            if matches!(found, Ok(false)) {
                assert_ne!(file, 0, "byte {at} of the events hides events");
                wrong_answers += 1;
            }
            let deep = verify_deep(&disk);
            // A Zstandard frame has bits that mean nothing.
            let harmless = file == 0 && matches!(found, Ok(true)) && deep.is_ok();
            harmless_flips += usize::from(harmless);
            assert!(harmless || deep.as_ref().is_err_and(file_is_blamed), "file {file}, byte {at}: {deep:?}");
        }
    }
    // Only the index can hide an event, and not everywhere.
    assert!(wrong_answers < good[1].len() + good[2].len());
    assert!(harmless_flips < 5, "{harmless_flips}");
}

/// Damage, another version, or a length that the file does not have.
fn file_is_blamed(e: &Error) -> bool {
    use icecore_packfile::Error as Packfile;
    use icecore_streamhash::Error as Streamhash;
    e.is_corrupt()
        || matches!(
            e,
            Error::Version { .. }
                | Error::NoLedger { .. }
                | Error::Packfile(Packfile::Version { .. })
                | Error::Streamhash(
                    Streamhash::UnsupportedVersion { .. } | Streamhash::UnknownAlgorithm { .. }
                )
        )
}

#[test]
fn every_cut_is_found() {
    let ledgers = ledgers(3, 4, 12);
    let good = files(&ledgers);
    for file in 0..3 {
        for len in 0..good[file].len() {
            let mut files = good.clone();
            files[file].truncate(len);
            let disk = disk_with(files.each_ref().map(Vec::as_slice));
            let chunk = ChunkEvents::open(&disk, &paths());
            let checked = chunk.verify();
            assert!(checked.as_ref().is_err_and(file_is_blamed), "file {file}, {len} bytes: {checked:?}");
        }
    }
}

#[test]
fn files_of_another_chunk_are_told_apart() {
    let (ours, theirs) = (ledgers(3, 4, 60), ledgers(4, 4, 15));
    let (truth, own, other) = (records(&ours), files(&ours), files(&theirs));
    assert!(records(&theirs).len() < truth.len());
    let expected = answers(own.each_ref().map(Vec::as_slice));
    for mask in 1..7 {
        let mixed =
            std::array::from_fn(|file| if mask >> file & 1 == 1 { &other[file][..] } else { &own[file] });
        let disk = disk_with(mixed);
        let deep = verify_deep(&disk);
        assert!(matches!(deep, Err(ref e) if e.is_corrupt()), "{mask:03b}: {deep:?}");
        if (mask >> 1 & 1) != (mask >> 2 & 1) {
            let chunk = ChunkEvents::open(&disk, &paths());
            assert!(
                matches!(chunk.term_count(), Err(Error::Corrupt { .. })),
                "keys of one chunk, bitmaps of another"
            );
        }
        if mask & 1 == 0 {
            // Our events with an index that is not theirs.
            let _ = read(&disk, &truth, &expected);
        } else {
            let small = ChunkEvents::open(&disk, &paths());
            let found = small.query(&queries()[1], &Toy);
            assert!(
                found.is_ok_and(|found| found.iter().all(|event| records(&theirs).contains(event)))
                    || small.query(&queries()[1], &Toy).is_err_and(|e| e.is_corrupt())
            );
        }
    }
}

#[test]
fn a_missing_file_is_missing() {
    let good = files(&ledgers(3, 2, 9));
    for gone in paths().each() {
        let disk = disk_with(good.each_ref().map(Vec::as_slice));
        disk.remove(gone).unwrap();
        let chunk = ChunkEvents::open(&disk, &paths());
        assert!(chunk.verify().is_err_and(|e| e.is_not_found() && !e.is_corrupt()));
        assert_eq!(chunk.event_count().is_ok(), *gone != *paths().events);
    }
}

#[test]
fn what_is_not_there_is_said() {
    let ours = ledgers(3, 4, 12);
    let disk = disk_with(files(&ours).each_ref().map(Vec::as_slice));
    let chunk = ChunkEvents::open(&disk, &paths());
    let events = chunk.event_count().unwrap();
    assert!(matches!(chunk.event(events), Err(Error::NoEvent { events: n, .. }) if n == events));
    assert!(matches!(chunk.ledger_of(u32::MAX), Err(Error::NoEvent { .. })));
    for seq in [0, FIRST.0 - 1, FIRST.0 + 4, u32::MAX] {
        assert!(matches!(chunk.ledger_events(LedgerSeq(seq)), Err(Error::NoLedger { .. })));
    }
}

/// Packs items as one of a chunk's two packfiles.
fn pack(items: &[Vec<u8>], format: u32, codec: Codec, app_data: &[u8]) -> Vec<u8> {
    pack_with(icecore_packfile::Options::new().format(format).codec(codec), items, app_data)
}

fn pack_with(options: icecore_packfile::Options, items: &[Vec<u8>], app_data: &[u8]) -> Vec<u8> {
    let disk = common::memory();
    let mut writer = icecore_packfile::Writer::create_on(&disk, "pack", options).unwrap();
    items.iter().for_each(|item| writer.append(item).unwrap());
    writer.finish(app_data).unwrap();
    common::bytes(&disk, "pack".as_ref())
}

/// The items of the file of bitmaps.
fn terms_of(index_pack: &[u8]) -> Vec<Vec<u8>> {
    let index = icecore_packfile::Reader::from_source(index_pack.to_vec()).unwrap().with_codec(Codec::None);
    index.read_range(0, index.item_count().unwrap()).unwrap().collect::<Result<Vec<_>, _>>().unwrap()
}

#[test]
fn a_content_hash_is_checked_where_there_is_one() {
    let good = files(&ledgers(3, 4, 12));
    let terms = terms_of(&good[2]);
    for (other_hash, verified) in [(false, true), (true, false)] {
        let options = icecore_packfile::Options::new().format(INDEX_FORMAT).codec(Codec::None);
        let options = if other_hash {
            options.hash_extract(|_, out| {
                out.push(0);
                Ok(())
            })
        } else {
            options
        };
        let disk = disk_with([&good[0], &good[1], &pack_with(options.content_hash(true), &terms, &[])]);
        let checked = ChunkEvents::open(&disk, &paths()).verify();
        assert!(checked.as_ref().map_or_else(|e| !verified && e.is_corrupt(), |()| verified), "{checked:?}");
    }
}

#[test]
fn more_ids_than_terms_of_events_are_not_gone_through() {
    let ours = ledgers(3, 4, 12);
    let good = files(&ours);
    let events = records(&ours).len() as u32;
    // Every term is said to be in every event, in the right form.
    let everywhere = |term: &Vec<u8>| {
        let mut ids = icecore_events::RoaringBitmap::from_iter(0..events);
        ids.optimize();
        let mut item = term[..4].to_vec();
        ids.serialize_into(&mut item).unwrap();
        item
    };
    let terms: Vec<_> = terms_of(&good[2]).iter().map(everywhere).collect();
    assert!(terms.len() > 5);
    let disk = disk_with([&good[0], &good[1], &pack(&terms, INDEX_FORMAT, Codec::None, &[])]);
    let checked = ChunkEvents::open(&disk, &paths()).verify();
    assert!(checked.as_ref().is_err_and(|e| e.to_string().contains("term 5: with it")), "{checked:?}");
}

#[test]
fn an_index_that_could_not_be_read_is_tried_again() {
    let disk = icecore_diskio::FaultyDisk::new();
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    common::write(&shared, &ledgers(3, 4, 12), icecore_events::Options::new()).unwrap();
    let chunk = ChunkEvents::open(&shared, &paths());
    chunk.event_count().unwrap();
    // Without the file of keys, the first use ends after both packfiles are open.
    let keys = common::bytes(&shared, &paths().index_hash);
    disk.remove(&paths().index_hash).unwrap();
    assert!(chunk.term_count().is_err_and(|e| e.is_not_found()));
    disk.create_exclusive(&paths().index_hash).unwrap().write_all_at(&keys, 0).unwrap();
    for _ in 0..4 {
        disk.fail_read_at(disk.reads() + 1, icecore_diskio::Fault::Io);
        assert!(chunk.term_count().is_err_and(|e| e.is_retryable()));
    }
    assert!(chunk.term_count().unwrap() > 0);
}

#[test]
fn a_bitmap_in_another_form_is_read_but_not_verified() {
    let ours = ledgers(3, 4, 12);
    let good = files(&ours);
    let terms = terms_of(&good[2]);
    assert_eq!(pack(&terms, INDEX_FORMAT, Codec::None, &[]), good[2]);
    let loose = terms.iter().map(|term| {
        let mut bitmap = decode_bitmap(&term[4..]).unwrap();
        bitmap.remove_run_compression();
        let mut loose = term[..4].to_vec();
        bitmap.serialize_into(&mut loose).unwrap();
        loose
    });
    let loose: Vec<_> = loose.collect();
    assert_ne!(loose, terms, "no term has runs");
    let answers = answers(good.each_ref().map(Vec::as_slice));
    let disk = disk_with([&good[0], &good[1], &pack(&loose, INDEX_FORMAT, Codec::None, &[])]);
    assert!(read(&disk, &records(&ours), &answers).unwrap());
    assert!(matches!(ChunkEvents::open(&disk, &paths()).verify(), Err(Error::Corrupt { .. })));
}

#[test]
fn events_out_of_order_are_not_verified() {
    let ours = ledgers(3, 1, 12);
    let (good, mut truth) = (files(&ours), records(&ours));
    let events = |truth: &[EventRecord]| {
        let encode = |record: &EventRecord| {
            let mut bytes = Vec::new();
            record.encode(&mut bytes).unwrap();
            bytes
        };
        let counts =
            [&[1][..], &FIRST.0.to_be_bytes(), &[0, 0, 0, 1], &(truth.len() as u32).to_be_bytes()].concat();
        pack(&truth.iter().map(encode).collect::<Vec<_>>(), EVENTS_FORMAT, Codec::Zstd, &counts)
    };
    assert_eq!(events(&truth), good[0]);
    truth.swap(1, 2);
    let disk = disk_with([&events(&truth), &good[1], &good[2]]);
    assert!(matches!(ChunkEvents::open(&disk, &paths()).verify(), Err(Error::Corrupt { .. })));
}
