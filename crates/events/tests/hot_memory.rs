//! What the hot index says of its memory is what the allocator gave it.
#![allow(clippy::unwrap_used, unsafe_code)]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
};

use icecore_events::{EventCounts, HotIndexWriter, TermKey};
use icecore_ledger::LedgerSeq;
use icecore_testkit::SplitMix64;

struct Counting;

static HELD: AtomicUsize = AtomicUsize::new(0);

// SAFETY: all is passed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        HELD.fetch_add(layout.size(), Relaxed);
        // SAFETY: the caller keeps to the contract, which is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size(), Relaxed);
        // SAFETY: as above.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// What an index of so many ledgers holds by its own word, by the allocator's, and how many terms it has.
fn fill(ledgers: u32, mut terms: impl FnMut(u32) -> Vec<TermKey>) -> (usize, usize, usize) {
    let before = HELD.load(Relaxed);
    let mut writer = HotIndexWriter::new("", LedgerSeq(2));
    for seq in 2..2 + ledgers {
        let first_id = writer.event_count();
        let ids = first_id..first_id + 1000;
        let postings: Vec<_> = ids.flat_map(|id| terms(id).into_iter().map(move |key| (key, id))).collect();
        writer.append(LedgerSeq(seq), 1000, &postings).unwrap();
    }
    let index = writer.index();
    assert_eq!(index.view().event_count(), 1000 * ledgers);
    (index.heap_bytes(), HELD.load(Relaxed) - before, index.term_count() as usize)
}

/// One test, because there is one allocator.
#[test]
fn memory_is_as_said() {
    let mut rng = SplitMix64::new(1);
    let near = |said: usize, held: usize| {
        assert!(said.abs_diff(held) < held / 20 + 20_000, "said {said}, held {held}");
    };
    let (said, held, _) = fill(0, |_| vec![]);
    near(said, held);
    assert!(held < 100_000, "an empty index takes {held} bytes");

    let (said, held, terms) = fill(500, |_| vec![TermKey(rng.key())]);
    near(said, held);
    assert!(held < 42 * terms + 400_000, "{held} bytes for {terms} terms of one event");

    // Dense ones near the bits themselves, two to eight windows' worth of 8192 bytes each.
    let dense = [1, 2, 3].map(|byte| TermKey([byte; 16]));
    let (said, held, _) = fill(500, |id| dense[..1 + (id % 3) as usize].to_vec());
    near(said, held);
    assert!(held < 3 * 500_000 / 8 + 400_000, "{held} bytes for three dense terms");

    let (said, held, _) = fill(300, |id| {
        let some = |rng: &mut SplitMix64, of: u64| TermKey(SplitMix64::new(rng.below(of)).key());
        vec![TermKey([7; 16]), some(&mut rng, 20), some(&mut rng, 5000), some(&mut rng, u64::from(id) + 1)]
    });
    near(said, held);
}
