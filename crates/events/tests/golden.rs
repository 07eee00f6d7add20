//! The index files of the golden cases, byte for byte.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use icecore_diskio::{Disk, FaultyDisk};
use icecore_events::{EventPaths, Options, TermKey, TermSet, write_index};
use icecore_ledger::ChunkId;
use icecore_testkit::golden::{self, Case, EventsIndex};
use sha2::{Digest, Sha256};

fn index_digests(case: &EventsIndex, concurrency: usize) -> [String; 2] {
    let mut terms = TermSet::new();
    for (key, ids) in case.terms(|bytes| TermKey::new(bytes[0], &bytes[1..]).0) {
        ids.into_iter().for_each(|id| terms.add(TermKey(key), id).unwrap());
    }
    let disk: Arc<dyn Disk> = Arc::new(FaultyDisk::new());
    let paths = EventPaths::new("", ChunkId(0));
    let options = Options::new().concurrency(concurrency);
    let summary = write_index(&disk, &paths.index_hash, &paths.index_pack, &terms, options).unwrap();
    assert_eq!(u64::from(summary.terms), case.terms);
    [&paths.index_hash, &paths.index_pack].map(|path| {
        let file = disk.open(path).unwrap();
        Sha256::digest(file.as_bytes().unwrap()).iter().map(|byte| format!("{byte:02x}")).collect()
    })
}

#[test]
fn the_index_is_that_of_the_golden_cases() {
    let mut cases = 0;
    for case in golden::builtin() {
        let Case::EventsIndex(case) = case else { continue };
        // The largest once only.
        for concurrency in if case.terms < 1000 { vec![1, 3] } else { vec![2] } {
            let expected = [&case.index_hash_sha256, &case.index_pack_sha256];
            assert_eq!(index_digests(&case, concurrency).each_ref(), expected, "{case:?}");
        }
        cases += 1;
    }
    assert_eq!(cases, 4);
}
