//! The files that the specification's cases fix, byte for byte, whatever the concurrency.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::{path::Path, sync::Arc};

use icecore_diskio::{Disk, FaultyDisk};
use icecore_packfile::{Codec, Options, Reader, Writer};
use icecore_testkit::golden::{self, Case};
use sha2::{Digest, Sha256};

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Writes, compares with the digest, reads back.
fn check(
    options: Options,
    codec: &Codec,
    items: &[Vec<u8>],
    app_data: &[u8],
    sha256: &str,
) -> Option<[u8; 32]> {
    let disk: Arc<dyn Disk> = Arc::new(FaultyDisk::new());
    let mut content_hash = None;
    for concurrency in [1, 3] {
        let path = Path::new("f");
        let options = options.clone().codec(codec.clone()).concurrency(concurrency);
        let options = options.if_exists(icecore_diskio::IfExists::Replace);
        let mut writer = Writer::create_on(&disk, path, options).unwrap();
        items.iter().for_each(|item| writer.append(item).unwrap());
        let summary = writer.finish(app_data).unwrap();
        let source = disk.open(path).unwrap();
        assert_eq!(summary.file_bytes, source.len_bytes());
        assert_eq!(hex(&Sha256::digest(source.as_bytes().unwrap())), sha256, "concurrency {concurrency}");
        let reader = Reader::from_source(source).unwrap().with_codec(codec.clone());
        reader.verify().unwrap();
        let read: Vec<_> = reader.read_range(0, items.len() as u32).unwrap().map(Result::unwrap).collect();
        assert!(read == items);
        assert_eq!(reader.app_data().unwrap(), app_data);
        assert_eq!(reader.content_hash().unwrap(), summary.content_hash);
        content_hash = summary.content_hash;
    }
    content_hash
}

#[test]
fn packfiles() {
    let mut count = 0;
    for case in golden::builtin() {
        let Case::Packfile(case) = case else { continue };
        let codec = match case.codec.as_str() {
            "none" => Codec::None,
            "zstd" => Codec::Zstd,
            other => panic!("unknown codec {other}"),
        };
        let options = Options::new()
            .items_per_record(case.items_per_record)
            .content_hash(case.content_hash)
            .format(case.format);
        let content_hash = check(options, &codec, &case.contents(), &case.app_data_hex, &case.sha256);
        assert_eq!(content_hash.map(|hash| hex(&hash)), case.content_hash_hex);
        count += 1;
    }
    assert!(count >= 86, "{count} cases");
}

#[test]
fn ledger_packs() {
    let mut count = 0;
    for case in golden::builtin() {
        let Case::LedgerPack(case) = case else { continue };
        let options = Options::new().items_per_record(1).format(1);
        check(options, &Codec::Zstd, &case.contents(), &case.first_seq.to_be_bytes(), &case.sha256);
        count += 1;
    }
    assert!(count >= 3, "{count} cases");
}
