//! Shards that were built elsewhere are taken in.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use std::{fs, path::Path, sync::Arc};

use common::{Chain, check_reads, config, first_of, last_of, open, until_settled};
use icecore_catalog::Artifact;
use icecore_cold::{Builder, Control, Layout, Manifest};
use icecore_diskio::RealDisk;
use icecore_engine::{AdoptBy, Error, adopt};
use icecore_hotchunk::fuzz::Toy;
use icecore_ledger::{ChunkId, Geometry, LedgerRange, LedgerSeq};

fn shard(root: &Path, chain: &Chain, geometry: Geometry, network: Option<&str>, chunks: (u32, u32)) {
    Builder {
        disk: Arc::new(RealDisk),
        layout: Layout::new(root),
        manifest: Manifest { geometry, network: network.map(ToOwned::to_owned) },
        source: chain,
        decoder: &Toy,
        workers: 1,
        control: &Control::default(),
    }
    .build(LedgerRange { first: LedgerSeq(first_of(chunks.0)), last: LedgerSeq(last_of(chunks.1)) })
    .unwrap();
}

#[test]
fn shards_are_taken_in_and_a_bad_file_is_left_out() {
    let dir = tempfile::tempdir().unwrap();
    let chain = Chain::new(last_of(8) + 1);
    let geometry = config(dir.path()).geometry;
    let (one, two) = (dir.path().join("one"), dir.path().join("two"));
    shard(&one, &chain, geometry, None, (0, 4));
    shard(&two, &chain, geometry, None, (5, 8));
    let bad = Layout::new(&two).file(icecore_cold::Kind::Ledgers, ChunkId(6));
    let mut bytes = fs::read(&bad).unwrap();
    bytes[5] ^= 1;
    fs::write(&bad, bytes).unwrap();

    let store = dir.path().join("store");
    let engine = open(config(&store), &chain, None).unwrap();
    let control = Control::default();
    let first = adopt(engine.catalog(), &one, AdoptBy::LinkOrCopy, &control).unwrap();
    assert_eq!((first.refused.len(), first.already, first.copied), (0, 0, 0), "{first:?}");
    assert!(first.linked > 0 && first.bytes > 0);
    let second = adopt(engine.catalog(), &two, AdoptBy::Copy, &control).unwrap();
    assert_eq!((second.refused.len(), second.linked), (1, 0), "{second:?}");
    assert_eq!(second.refused[0].0, bad);
    let state = engine.catalog().state();
    assert!(state.has(ChunkId(5), Artifact::Ledgers) && state.has(ChunkId(7), Artifact::Events));
    assert_eq!(state.artifact(ChunkId(6), Artifact::Events), None, "what follows from it is left out too");
    assert!(state.covered(ChunkId(2)) && !state.covered(ChunkId(7)));
    // Doing it again changes nothing more.
    for (from, by) in [(&one, AdoptBy::Copy), (&two, AdoptBy::LinkOrCopy)] {
        let again = adopt(engine.catalog(), from, by, &control).unwrap();
        assert_eq!((again.adopted.len(), again.bytes), (0, 0), "{again:?}");
    }
    // The engine fetches what is missing, and only that.
    drop(engine);
    let engine = open(config(&store), &chain, None).unwrap();
    assert_eq!(engine.estimate().unwrap().from.bulk, 1);
    engine.start().unwrap();
    until_settled(&engine, last_of(8) + 1);
    check_reads(&engine.view(), 2, last_of(8) + 1);
}

/// An index speaks of the ledgers that lie beside it. Where the store has others of the same numbers it is left out.
#[test]
fn an_index_of_other_ledgers_is_left_to_be_built() {
    let dir = tempfile::tempdir().unwrap();
    let chain = Chain::new(last_of(8));
    let geometry = config(dir.path()).geometry;
    let (one, two, three) = (dir.path().join("one"), dir.path().join("two"), dir.path().join("three"));
    shard(&one, &chain, geometry, None, (0, 1));
    shard(&two, &chain, geometry, None, (0, 2));
    shard(&three, &chain, geometry, None, (0, 2));
    // A pack of the same length, and sound by itself, would do; what the catalog trusts is not opened to see.
    let engine = open(config(&dir.path().join("store")), &chain, None).unwrap();
    let control = Control::default();
    adopt(engine.catalog(), &one, AdoptBy::Copy, &control).unwrap();
    let pack = engine.catalog().layout().file(icecore_cold::Kind::Ledgers, ChunkId(1));
    let (sound, mut other) = (fs::read(&pack).unwrap(), fs::read(&pack).unwrap());
    other[5] ^= 1;
    fs::write(&pack, other).unwrap();
    let state = || engine.catalog().state();
    let adopted = adopt(engine.catalog(), &two, AdoptBy::Copy, &control).unwrap();
    assert!(state().has(ChunkId(2), Artifact::Ledgers), "{adopted:?}");
    assert!(!state().covered(ChunkId(2)), "{adopted:?}");
    // Where they are the same it is taken in, though its ledgers were there before.
    fs::write(&pack, sound).unwrap();
    let adopted = adopt(engine.catalog(), &three, AdoptBy::Copy, &control).unwrap();
    assert_eq!((adopted.adopted.len(), state().covered(ChunkId(2))), (1, true), "{adopted:?}");
}

#[test]
fn shards_of_another_geometry_or_network_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let chain = Chain::new(last_of(8));
    let mut config = config(&dir.path().join("store"));
    config.network = Some("ours".to_owned());
    let geometry = config.geometry;
    let engine = open(config, &chain, None).unwrap();
    let (other, alien) = (dir.path().join("other"), dir.path().join("alien"));
    shard(&other, &chain, Geometry::new(4, 3).unwrap(), None, (0, 4));
    shard(&alien, &chain, geometry, Some("theirs"), (0, 1));
    for from in [other, alien, dir.path().join("nothing")] {
        let refused = adopt(engine.catalog(), &from, AdoptBy::Copy, &Control::default());
        assert!(matches!(refused, Err(Error::Cold(_))), "{refused:?}");
    }
    assert!(engine.catalog().state().artifacts.is_empty());
}
