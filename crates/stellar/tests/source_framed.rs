//! Framed files: what they give, plain or packed, whole, cut or damaged.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

mod common;
mod sources;

use common::data_dir;
use icecore_ledger::{Error, LedgerSeq, Source};
use icecore_stellar::source::{FramedFile, Generator, Packing, write_framed};
use sources::{drain, range};

fn generated(first: u32, last: u32) -> Vec<Vec<u8>> {
    let generator: Generator =
        format!("gen:from={first},ledgers={},txs=3", last - first + 1).parse().unwrap();
    drain(&generator, range(first, last)).unwrap()
}

fn frame(ledger: &[u8]) -> Vec<u8> {
    [&(1 << 31 | ledger.len() as u32).to_be_bytes()[..], ledger].concat()
}

/// The frames of these ledgers as a plain and as a packed file.
fn files(ledgers: &[&[u8]]) -> [FramedFile; 2] {
    let plain: Vec<u8> = ledgers.iter().flat_map(|ledger| frame(ledger)).collect();
    both(&plain)
}

fn both(plain: &[u8]) -> [FramedFile; 2] {
    let packed = zstd::bulk::compress(plain, 1).unwrap();
    [FramedFile::from_bytes("plain", plain), FramedFile::from_bytes("packed", packed)]
}

fn borrowed(ledgers: &[Vec<u8>]) -> Vec<&[u8]> {
    ledgers.iter().map(Vec::as_slice).collect()
}

#[test]
fn every_part_of_a_whole_file_can_be_streamed() {
    let all = generated(10, 15);
    for file in files(&borrowed(&all)) {
        // Streams work before the file was looked through, and after.
        for _ in 0..2 {
            for first in 10..=15 {
                for last in first..=15 {
                    let part = drain(&file, range(first, last)).unwrap();
                    assert!(part == all[first as usize - 10..=last as usize - 10]);
                }
            }
            for (first, last) in [(9, 10), (9, 20), (15, 16), (16, 17), (1, 2)] {
                let Err(Error::OutOfRange { has, wanted, .. }) = drain(&file, range(first, last)) else {
                    panic!("{first}..={last} is given");
                };
                assert_eq!((has, wanted), (range(10, 15), range(first, last)));
            }
            assert_eq!(file.range().unwrap(), range(10, 15));
        }
    }
}

#[test]
fn files_are_told_by_their_bytes_and_written_as_they_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let generator: Generator = "gen:ledgers=9,txs=2".parse().unwrap();
    let all = drain(&generator, range(2, 10)).unwrap();
    for (name, packing, random_access) in
        [("plain.xdr.zst", Packing::Plain, true), ("packed.xdr", Packing::Zstd(3), false)]
    {
        let path = dir.path().join(name);
        write_framed(&generator, range(2, 10), std::fs::File::create(&path).unwrap(), packing).unwrap();
        let file = FramedFile::open(&path).unwrap();
        assert_eq!(file.describe(), path.display().to_string());
        assert_eq!(file.random_access(), random_access);
        assert_eq!(file.range().unwrap(), range(2, 10));
        assert!(drain(&file, range(2, 10)).unwrap() == all);
    }
    // Several zstd frames, and one to be skipped, are one file.
    let frames: Vec<Vec<u8>> =
        all.iter().map(|ledger| zstd::bulk::compress(&frame(ledger), 1).unwrap()).collect();
    let skippable = [&0x184D_2A57u32.to_le_bytes()[..], &3u32.to_le_bytes(), b"abc"].concat();
    let file = FramedFile::from_bytes("many", [skippable, frames.concat()].concat());
    assert!(drain(&file, range(2, 10)).unwrap() == all);
    assert!(matches!(FramedFile::open(dir.path().join("none")), Err(Error::Io { .. })));
}

#[test]
fn around_a_gap_ledgers_can_be_had_but_not_across() {
    let all = generated(93, 97);
    for file in files(&[&all[0], &all[1], &all[4]]) {
        for _ in 0..2 {
            assert!(drain(&file, range(93, 94)).unwrap() == all[..2]);
            assert!(drain(&file, range(97, 97)).unwrap() == all[4..]);
            for (first, last) in [(93, 97), (94, 95), (95, 96), (95, 97)] {
                let Err(Error::Gap { place, expected, found }) = drain(&file, range(first, last)) else {
                    panic!("{first}..={last} is given");
                };
                assert_eq!((expected, found), (LedgerSeq(95.max(first)), LedgerSeq(97)), "{place}");
            }
            assert!(matches!(drain(&file, range(92, 93)), Err(Error::OutOfRange { .. })));
            let Err(Error::Gap { expected, found, .. }) = file.range() else { panic!("a range with a gap") };
            assert_eq!((expected, found), (LedgerSeq(95), LedgerSeq(97)));
        }
    }
}

#[test]
fn repeats_are_refused() {
    let all = generated(5, 8);
    for order in [[0, 1, 1], [0, 1, 0], [1, 0, 1]] {
        let ledgers = order.map(|i: usize| all[i].as_slice());
        for file in files(&ledgers) {
            for _ in 0..2 {
                assert!(matches!(drain(&file, range(5, 8)), Err(Error::Repeat { .. })), "{order:?}");
                assert!(matches!(file.range(), Err(Error::Repeat { .. })), "{order:?}");
            }
        }
    }
}

#[test]
fn what_is_cut_is_truncated_where_it_ends() {
    let all = generated(2, 4);
    let plain: Vec<u8> = all.iter().flat_map(|ledger| frame(ledger)).collect();
    let first = 4 + all[0].len();
    for cut in [1, 3, 4, 5, 500, first - 1, first + 2, first + 4 + 2048, plain.len() - 1] {
        for file in both(&plain[..cut]) {
            for _ in 0..2 {
                let Err(Error::Truncated { offset, .. }) = drain(&file, range(2, 4)) else {
                    panic!("cut at {cut}")
                };
                assert_eq!(offset, cut as u64);
                assert!(matches!(file.range(), Err(Error::Truncated { .. })));
            }
            // What is whole can be had.
            if cut > first {
                assert!(drain(&file, range(2, 2)).unwrap() == all[..1]);
            }
        }
    }
    let packed = zstd::bulk::compress(&plain, 1).unwrap();
    for cut in [4, 9, packed.len() / 2, packed.len() - 1] {
        let file = FramedFile::from_bytes("cut", &packed[..cut]);
        assert!(matches!(file.range(), Err(Error::Truncated { .. })), "cut at {cut}");
        assert!(matches!(drain(&file, range(2, 4)), Err(Error::Truncated { .. })), "cut at {cut}");
    }
}

#[test]
fn damage_is_named_with_its_place() {
    let all = generated(2, 3);
    let first = 4 + all[0].len();
    let corrupt = |plain: Vec<u8>| {
        both(&plain).map(|file| {
            let Err(Error::Corrupt { place, offset, what }) = drain(&file, range(2, 3)) else {
                panic!("accepted")
            };
            assert!(matches!(file.range(), Err(Error::Corrupt { offset: again, .. }) if again == offset));
            assert_eq!(place, file.describe());
            (offset, what)
        })
    };
    let good: Vec<u8> = all.iter().flat_map(|ledger| frame(ledger)).collect();
    let set = |at: usize, byte: u8| {
        let mut bytes = good.clone();
        bytes[at] = byte;
        bytes
    };
    for (offset, what) in corrupt(set(first, 0)) {
        assert!(offset == first as u64 && what.contains("top bit"), "{offset} {what}");
    }
    for (offset, what) in corrupt(set(first, 0xFF)) {
        assert!(offset == first as u64 && what.contains("at most"), "{offset} {what}");
    }
    for (offset, what) in corrupt(set(first + 7, 9)) {
        assert!(offset >= first as u64 + 4 && what.contains("ledger"), "{offset} {what}");
    }
    corrupt([good.clone(), frame(&[])].concat().split_off(first));
    let garbage = FramedFile::from_bytes("garbage", *b"no ledgers here");
    assert!(matches!(garbage.range(), Err(Error::Corrupt { offset: 0, .. })));
    let mut packed = zstd::bulk::compress(&good, 1).unwrap();
    packed.extend_from_slice(b"garbage");
    let trailing = FramedFile::from_bytes("trailing", packed);
    assert!(matches!(trailing.range(), Err(Error::Corrupt { offset, .. }) if offset == good.len() as u64));
    assert!(trailing.range().unwrap_err().is_corrupt());
}

#[test]
fn lengths_are_limited_and_never_trusted() {
    let all = generated(2, 3);
    let small = files(&borrowed(&all)).map(|file| file.max_ledger_bytes(100));
    assert!(small.iter().all(|file| matches!(file.range(), Err(Error::Corrupt { .. }))));
    // A length of 256 MiB with nothing behind it costs nothing.
    for file in both(&[&(1u32 << 31 | 1 << 28).to_be_bytes()[..], &all[0]].concat()) {
        assert!(matches!(drain(&file, range(2, 2)), Err(Error::Truncated { .. })));
    }
    for file in [
        FramedFile::from_bytes("empty", []),
        FramedFile::from_bytes("empty", zstd::bulk::compress(&[], 1).unwrap()),
    ] {
        assert!(matches!(drain(&file, range(2, 2)), Err(Error::Empty { .. })));
        assert!(matches!(file.range(), Err(Error::Empty { .. })));
    }
}

#[test]
fn real_ledgers_stream() {
    let Some(data) = data_dir() else { return };
    let file = FramedFile::open(data.join("load-ledgers-p25.xdr.zst")).unwrap();
    assert_eq!(drain(&file, range(10_050, 10_051)).unwrap().len(), 2);
    assert_eq!(file.range().unwrap(), range(10_048, 10_077));
    let all = drain(&file, range(10_048, 10_077)).unwrap();
    let mut plain = Vec::new();
    write_framed(&file, range(10_048, 10_077), &mut plain, Packing::Plain).unwrap();
    assert!(drain(&FramedFile::from_bytes("plain", plain), range(10_048, 10_077)).unwrap() == all);

    let gap = FramedFile::open(data.join("load-ledgers-p23.xdr.zst")).unwrap();
    let Err(Error::Gap { expected, found, .. }) = gap.range() else { panic!("a range with a gap") };
    assert_eq!((expected, found), (LedgerSeq(95), LedgerSeq(97)));
    assert_eq!(drain(&gap, range(93, 94)).unwrap().len(), 2);
    assert_eq!(drain(&gap, range(97, 97)).unwrap().len(), 1);
}
