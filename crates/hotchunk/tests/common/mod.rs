//! Ledgers to commit, and the look at every row of a store.
#![allow(dead_code)]

use std::path::Path;

use icecore_events::{EventRecord, Query};
use icecore_hotchunk::View;
use icecore_ledger::{Decoder, LedgerRange, LedgerSeq, Source};
use icecore_rockstore::{Family, FamilyId, Reads, Span, Store, StoreOptions};
use icecore_stellar::{StellarDecoder, source::Generator};

/// The chunk of most tests.
pub(crate) const CHUNK: LedgerRange = LedgerRange { first: LedgerSeq(2), last: LedgerSeq(10_001) };

/// Chains that agree on nothing.
pub(crate) struct Forks(Vec<Generator>);

impl Forks {
    pub(crate) fn new(count: u64, shape: &str) -> Self {
        Forks(
            (0..count)
                .map(|seed| format!("gen:seed={seed},ledgers=100000,{shape}").parse().unwrap())
                .collect(),
        )
    }

    pub(crate) fn ledger(&self, seq: u32, fork: usize) -> Vec<u8> {
        let range = LedgerRange { first: LedgerSeq(seq), last: LedgerSeq(seq) };
        let mut stream = self.0[fork].stream(range).unwrap();
        stream.next_ledger().unwrap().unwrap().bytes.to_vec()
    }
}

/// Every row of every family. Zstandard frames are compared as they are: the same ledger gives the same.
pub(crate) fn rows(path: &Path) -> Vec<(usize, Vec<u8>, Vec<u8>)> {
    let names = ["ledgers", "txhash", "events_data", "events_index", "events_offsets"];
    let families = names.map(Family::new);
    let store = Store::open_read_only(path, &families, &StoreOptions::default()).unwrap();
    let reader = store.reader().unwrap();
    let mut found = Vec::new();
    for family in 0..names.len() {
        let mut rows = reader.rows(FamilyId(family), Span::all()).unwrap();
        while let Some((key, value)) = rows.next_row().unwrap() {
            found.push((family, key.to_vec(), value.to_vec()));
        }
    }
    found
}

/// Panics unless all of a ledger is there.
pub(crate) fn assert_whole(view: &View, seq: LedgerSeq) {
    let raw = view.ledger(seq).unwrap().unwrap_or_else(|| panic!("ledger {seq} is missing"));
    let decoded = StellarDecoder.decode(&raw).unwrap();
    assert_eq!(decoded.seq, seq);
    for hash in decoded.hashes() {
        assert_eq!(view.ledger_of(&hash).unwrap(), Some(seq), "{hash}");
    }
    let ledgers = Some(LedgerRange { first: seq, last: seq });
    let found = view.events(&Query { ledgers, limit: 10_000, ..Query::default() }, &StellarDecoder).unwrap();
    let expected: Vec<_> = decoded
        .events
        .iter()
        .map(|event| EventRecord::of(seq, decoded.closed_at, event).into_owned())
        .collect();
    assert_eq!(found, expected, "events of ledger {seq}");
}
