//! The files of a chunk are the same bytes by whatever way they came to be.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use common::{Act, Chain, Script, config, first_of, last_of, open, until_settled};
use icecore_catalog::{Catalog, Pins, RecoveryPlan};
use icecore_cold::{Builder, Control, Layout, Manifest};
use icecore_diskio::RealDisk;
use icecore_engine::{Engine, EngineConfig, Sources};
use icecore_hotchunk::fuzz::Toy;
use icecore_ledger::{Decoder, Geometry, LedgerRange, LedgerSeq, Source};
use icecore_stellar::{StellarDecoder, source::Generator};

/// Every frozen file below a directory.
fn files(root: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut dirs: Vec<PathBuf> = ["ledgers", "events", "txhash"].map(|tree| root.join(tree)).into();
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(&dir).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                dirs.push(path);
            } else {
                found.insert(path.strip_prefix(root).unwrap().to_path_buf(), fs::read(&path).unwrap());
            }
        }
    }
    found
}

fn by_the_builder(root: &Path, source: &dyn Source, decoder: &dyn Decoder, geometry: Geometry, last: u32) {
    Builder {
        disk: Arc::new(RealDisk),
        layout: Layout::new(root),
        manifest: Manifest { geometry, network: None },
        source,
        decoder,
        workers: 2,
        control: &Control::default(),
    }
    .build(LedgerRange { first: LedgerSeq(2), last: LedgerSeq(last) })
    .unwrap();
}

/// What a store leaves out of what the builder keeps: the runs of windows that are done.
fn without_spent_runs(
    mut built: BTreeMap<PathBuf, Vec<u8>>,
    kept: &BTreeMap<PathBuf, Vec<u8>>,
) -> BTreeMap<PathBuf, Vec<u8>> {
    built.retain(|path, _| path.extension().is_none_or(|kind| kind != "bin") || kept.contains_key(path));
    built
}

#[test]
fn backfill_live_freeze_and_recovery_give_the_same_bytes() {
    let last = last_of(7);
    let chain = Chain::new(last + 1);
    let built = tempfile::tempdir().unwrap();
    by_the_builder(built.path(), &*chain, &Toy, config(built.path()).geometry, last);
    let built = files(built.path());

    let backfilled = tempfile::tempdir().unwrap();
    let engine = open(config(backfilled.path()), &chain, None).unwrap();
    engine.start().unwrap();
    until_settled(&engine, last + 1);
    drop(engine);
    let runs = files(backfilled.path());
    assert_eq!(runs.keys().filter(|path| path.extension().is_some_and(|kind| kind == "bin")).count(), 2);
    assert!(runs == without_spent_runs(built.clone(), &runs), "backfill");

    // Live from the first ledger on: everything is frozen from hot chunks.
    let lived = tempfile::tempdir().unwrap();
    let (empty, live) = (Chain::new(first_of(0)), Script::new((2..=last + 1).map(Act::Give)));
    let engine = open(config(lived.path()), &empty, Some(live)).unwrap();
    engine.start().unwrap();
    until_settled(&engine, last + 1);
    drop(engine);
    assert!(files(lived.path()) == runs, "live ingestion and freeze");

    // Recovery distrusts the middle, and makes it again.
    let pins = Pins::new(config(lived.path()).geometry, icecore_ledger::GENESIS, None);
    let catalog = Catalog::open(Arc::new(RealDisk), Layout::new(lived.path()), &pins).unwrap();
    let (from, to) = (LedgerSeq(first_of(1)), LedgerSeq(last_of(4)));
    let plan = RecoveryPlan::for_range(&catalog.state(), &pins.geometry, from, to, true, true).unwrap();
    plan.apply(&catalog).unwrap();
    drop(catalog);
    let engine = open(config(lived.path()), &chain, None).unwrap();
    engine.start().unwrap();
    until_settled(&engine, last + 1);
    drop(engine);
    assert!(files(lived.path()) == runs, "after recovery");
}

#[test]
fn a_real_chains_ledgers_too() {
    let source: Generator = "gen:ledgers=65,txs=4".parse().unwrap();
    let geometry = Geometry::new(10, 4).unwrap();
    let built = tempfile::tempdir().unwrap();
    by_the_builder(built.path(), &source, &StellarDecoder, geometry, 61);
    let store = tempfile::tempdir().unwrap();
    let mut config = EngineConfig::new(store.path());
    config.geometry = geometry;
    config.grace = std::time::Duration::from_millis(1);
    config.poll = std::time::Duration::from_millis(1);
    let sources = Sources { bulk: Arc::new(source), live: None };
    let engine = Engine::open(config, sources, Arc::new(StellarDecoder)).unwrap();
    let estimate = engine.estimate().unwrap();
    engine.start().unwrap();
    until_settled(&engine, 66);
    drop(engine);
    let found = files(store.path());
    assert!(found == without_spent_runs(files(built.path()), &found));
    // What was estimated by a sample is near to what came of it.
    let bytes: usize =
        found.iter().filter(|(path, _)| !path.ends_with(".bin")).map(|(_, bytes)| bytes.len()).sum();
    assert_eq!((estimate.chunks, estimate.from.bulk, estimate.indexes), (6, 6, 2));
    let ratio = estimate.total_bytes as f64 / bytes as f64;
    assert!((0.5..2.0).contains(&ratio), "{estimate:?} against {bytes} bytes");
    assert!(estimate.require_room().is_ok() && estimate.seconds.is_some());
}
