//! What a user types opens the source that is meant.
#![allow(clippy::unwrap_used, clippy::panic)]

mod sources;

use std::fs;

use icecore_ledger::Error;
use icecore_stellar::source::{GENERATED_PASSPHRASE, Generator, Packing, open, write_framed, write_lake};
use sources::{drain, range};

fn refused(source: &str) -> String {
    match open(source) {
        Err(Error::Config { place, what }) => format!("{place}: {what}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn sources_are_told_apart() {
    let dir = tempfile::tempdir().unwrap();
    let generator: Generator = "gen:ledgers=4,from=8,txs=1".parse().unwrap();
    let all = drain(&generator, range(8, 11)).unwrap();
    let lake = dir.path().join("lake");
    fs::create_dir(&lake).unwrap();
    let layout = icecore_stellar::source::Layout {
        ledgers_per_batch: 2.try_into().unwrap(),
        batches_per_partition: 1.try_into().unwrap(),
    };
    write_lake(&generator, range(8, 11), &lake, &layout, "a network").unwrap();
    let file = dir.path().join("ledgers");
    write_framed(&generator, range(8, 11), fs::File::create(&file).unwrap(), Packing::Zstd(1)).unwrap();

    for (source, network) in [
        (generator.to_string(), Some(GENERATED_PASSPHRASE)),
        (lake.display().to_string(), Some("a network")),
        (file.display().to_string(), None),
    ] {
        let opened = open(&source).unwrap();
        assert_eq!(opened.network_passphrase.as_deref(), network);
        assert_eq!(opened.source.describe(), source);
        assert_eq!(opened.source.range().unwrap(), range(8, 11));
        assert!(drain(&*opened.source, range(8, 11)).unwrap() == all);
    }
    assert!(refused(&lake.join("FFFFFFF7--8-9.xdr.zst").display().to_string()).contains("directory"));
    let nothing = refused(&dir.path().join("nothing").display().to_string());
    assert!(nothing.contains("nothing") && nothing.contains("gen:"), "{nothing}");
    assert!(refused("gen:ledger=4").contains("\"ledger\""));
}
