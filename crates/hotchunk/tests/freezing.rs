//! What is frozen from a hot chunk is, byte for byte, what is frozen from the source.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::{collections::BTreeMap, fs, path::Path, sync::Arc};

use icecore_cold::{Builder, Control, Layout, Manifest};
use icecore_diskio::RealDisk;
use icecore_hotchunk::{HotChunk, HotOptions};
use icecore_ledger::{ChunkId, Geometry, LedgerRange, LedgerSeq, Source};
use icecore_stellar::{StellarDecoder, source::Generator};
use proptest::prelude::*;

fn build(source: &dyn Source, geometry: Geometry, root: &Path, ledgers: LedgerRange) {
    let report = Builder {
        disk: Arc::new(RealDisk),
        layout: Layout::new(root),
        manifest: Manifest { geometry, network: None },
        source,
        decoder: &StellarDecoder,
        workers: 1,
        control: &Control::default(),
    }
    .build(ledgers)
    .unwrap();
    assert_eq!(report.chunks_built, 1);
}

/// All files of a tree.
fn files(root: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(root).unwrap().map(|entry| entry.unwrap()) {
        let name = entry.file_name().into_string().unwrap();
        if entry.file_type().unwrap().is_dir() {
            found.extend(
                files(&entry.path()).into_iter().map(|(path, bytes)| (format!("{name}/{path}"), bytes)),
            );
        } else {
            found.insert(name, fs::read(entry.path()).unwrap());
        }
    }
    found
}

fn commit(hot: &HotChunk, source: &Generator, ledgers: LedgerRange) {
    let mut stream = source.stream(ledgers).unwrap();
    while let Some(raw) = stream.next_ledger().unwrap() {
        hot.commit(raw.bytes, &StellarDecoder).unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10))]

    #[test]
    fn frozen_from_hot_is_frozen_from_the_source(
        per_chunk in 1u32..24, chunk in 0u32..3, seed in 0u64..1000,
        txs in 0u32..25, events in 0u32..4, contracts in 1u32..5, meta in 3u32..5,
        forked in 0u32..24, again in any::<bool>(),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let geometry = Geometry::new(per_chunk, 4).unwrap();
        let ledgers = geometry.ledgers_of(ChunkId(chunk)).unwrap();
        let shape = format!("ledgers=100,txs={txs},events={events},contracts={contracts},meta={meta}");
        let source: Generator = format!("gen:seed={seed},{shape}").parse().unwrap();
        let fork: Generator = format!("gen:seed={},{shape}", seed + 1000).parse().unwrap();
        build(&source, geometry, &dir.path().join("source"), ledgers);

        let path = dir.path().join("hot");
        let mut hot = HotChunk::create(&path, ledgers, &HotOptions::default()).unwrap();
        let split = LedgerSeq(ledgers.first.0 + forked % per_chunk);
        if split > ledgers.first {
            commit(&hot, &source, LedgerRange { first: ledgers.first, last: LedgerSeq(split.0 - 1) });
        }
        // A fork to the chunk's end, and back.
        commit(&hot, &fork, LedgerRange { first: split, last: ledgers.last });
        let removed = hot.truncate_after(LedgerSeq(split.0 - 1), &StellarDecoder).unwrap();
        prop_assert_eq!(removed, ledgers.last.0 - split.0 + 1);
        if again {
            hot.close();
            hot = HotChunk::open(&path, ledgers, &HotOptions::default()).unwrap();
        }
        commit(&hot, &source, LedgerRange { first: split, last: ledgers.last });
        if again {
            hot.close();
            hot = HotChunk::open_read_only(&path, ledgers, &HotOptions::default()).unwrap();
        }
        let view = hot.view().unwrap();
        prop_assert_eq!(Source::range(&view).unwrap(), ledgers);
        build(&view, geometry, &dir.path().join("frozen"), ledgers);
        let (expected, found) = (files(&dir.path().join("source")), files(&dir.path().join("frozen")));
        prop_assert!(expected.len() >= 6, "{:?}", expected.keys());
        prop_assert!(expected.keys().eq(found.keys()));
        for (path, bytes) in &expected {
            prop_assert!(*bytes == found[path], "{} differs", path);
        }
    }
}

#[test]
fn a_source_gives_what_it_has() {
    let dir = tempfile::tempdir().unwrap();
    let ledgers = LedgerRange { first: LedgerSeq(2), last: LedgerSeq(11) };
    let hot = HotChunk::create(dir.path().join("hot"), ledgers, &HotOptions::default()).unwrap();
    let view = hot.view().unwrap();
    assert!(matches!(Source::range(&view), Err(icecore_ledger::Error::Empty { .. })));
    drop(view);
    let source: Generator = "gen:txs=1".parse().unwrap();
    commit(&hot, &source, LedgerRange { first: LedgerSeq(2), last: LedgerSeq(6) });
    let view = hot.view().unwrap();
    let out = LedgerRange { first: LedgerSeq(3), last: LedgerSeq(7) };
    assert!(
        matches!(view.stream(out), Err(icecore_ledger::Error::OutOfRange { has, .. }) if has.last == LedgerSeq(6))
    );
    let mut stream = view.stream(LedgerRange { first: LedgerSeq(3), last: LedgerSeq(6) }).unwrap();
    for seq in 3..=6 {
        assert_eq!(stream.next_ledger().unwrap().unwrap().seq, LedgerSeq(seq));
    }
    assert!(stream.next_ledger().unwrap().is_none());
    hot.truncate_after(LedgerSeq(4), &StellarDecoder).unwrap();
    assert!(
        view.stream(LedgerRange { first: LedgerSeq(3), last: LedgerSeq(4) })
            .unwrap()
            .next_ledger()
            .unwrap_err()
            .is_retryable()
    );
}
