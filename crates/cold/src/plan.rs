//! What is to be done, decided without doing anything: a function of what is there and what is wanted.

use icecore_ledger::{ChunkId, Geometry};

use crate::{Coverage, Inventory, Kind};

/// The files of one chunk that are to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChunkTask {
    /// The chunk.
    pub chunk: ChunkId,
    /// The kinds of file it lacks.
    pub kinds: Vec<Kind>,
}

impl ChunkTask {
    /// True when the raw ledgers are wanted, which only the bulk source has; otherwise the chunk's own pack serves.
    pub fn needs_source(&self) -> bool {
        self.kinds.contains(&Kind::Ledgers)
    }
}

/// What is missing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Chunks with files to write, in order.
    pub chunks: Vec<ChunkTask>,
    /// Indexes to build once the chunks are there.
    pub indexes: Vec<Coverage>,
    /// Indexes that a wider one contains, to be removed once all that are new are sealed.
    pub superseded: Vec<Coverage>,
}

/// Lists what chunks `first..=last` still need, and the window indexes that follow from it.
///
/// Per window the longest run of neighbouring chunks around the range gets one index; one that exists and covers as
/// much is kept. Chunks outside the range but inside such a run are read, never built; where one has lost its hash run,
/// the run is written again from its pack.
pub fn plan(inventory: &Inventory, geometry: &Geometry, first: ChunkId, last: ChunkId) -> Plan {
    let mut plan = Plan::default();
    let mut kinds_of = std::collections::BTreeMap::new();
    for chunk in (first.0..=last.0).map(ChunkId) {
        let missing = inventory.missing(chunk);
        // What was derived from ledgers that are gone may not fit those that come in their place.
        let all = missing.contains(&Kind::Ledgers);
        kinds_of.insert(chunk, if all { Kind::ALL.to_vec() } else { missing });
    }
    for coverage in wanted_coverages(inventory, geometry, first, last) {
        // An index over ledgers that were lost goes with them.
        let lost =
            |chunk| kinds_of.get(&chunk).is_some_and(|kinds: &Vec<Kind>| kinds.contains(&Kind::Ledgers));
        let kept = inventory.indexes.keys().any(|have| have.contains(&coverage));
        if kept && !coverage.chunks().any(lost) {
            continue;
        }
        for chunk in coverage.chunks() {
            let has_run = inventory.chunks.get(&chunk).is_some_and(|files| files.contains_key(&Kind::Run));
            let kinds = kinds_of.entry(chunk).or_default();
            if !has_run && !kinds.contains(&Kind::Run) {
                kinds.push(Kind::Run);
            }
        }
        plan.indexes.push(coverage);
    }
    // Also those that a build which was stopped just before left beside their successors.
    let successors: Vec<Coverage> = inventory.indexes.keys().chain(&plan.indexes).copied().collect();
    let superseded = |old: &Coverage| successors.iter().any(|new| new != old && new.contains(old));
    plan.superseded = inventory.indexes.keys().copied().filter(superseded).collect();
    kinds_of.retain(|_, kinds| !kinds.is_empty());
    plan.chunks = kinds_of.into_iter().map(|(chunk, kinds)| ChunkTask { chunk, kinds }).collect();
    plan
}

/// The coverages that the store has once chunks `first..=last` are there.
fn wanted_coverages(
    inventory: &Inventory,
    geometry: &Geometry,
    first: ChunkId,
    last: ChunkId,
) -> Vec<Coverage> {
    let held = |chunk: u32| {
        (first.0..=last.0).contains(&chunk)
            || inventory.chunks.get(&ChunkId(chunk)).is_some_and(|files| files.contains_key(&Kind::Ledgers))
    };
    let window = |chunk: u32| geometry.window_of(ChunkId(chunk));
    let mut coverages: Vec<Coverage> = Vec::new();
    for chunk in first.0..=last.0 {
        match coverages.last_mut() {
            Some(current) if current.window == window(chunk) => current.last = ChunkId(chunk),
            _ => coverages.push(Coverage {
                window: window(chunk),
                first: ChunkId(chunk),
                last: ChunkId(chunk),
            }),
        }
    }
    for coverage in &mut coverages {
        while let Some(before) = coverage.first.0.checked_sub(1)
            && window(before) == coverage.window
            && held(before)
        {
            coverage.first = ChunkId(before);
        }
        while let Some(after) = coverage.last.0.checked_add(1)
            && window(after) == coverage.window
            && held(after)
        {
            coverage.last = ChunkId(after);
        }
    }
    coverages
}

#[cfg(test)]
mod tests {
    use icecore_ledger::WindowId;

    use super::*;

    fn store(chunks: &[(u32, &[Kind])], indexes: &[(u32, u32, u32)]) -> Inventory {
        let files = |kinds: &[Kind]| kinds.iter().map(|&kind| (kind, 1)).collect();
        Inventory {
            chunks: chunks.iter().map(|&(chunk, kinds)| (ChunkId(chunk), files(kinds))).collect(),
            indexes: indexes.iter().map(|&(w, lo, hi)| (coverage(w, lo, hi), 1)).collect(),
        }
    }

    fn coverage(window: u32, first: u32, last: u32) -> Coverage {
        Coverage { window: WindowId(window), first: ChunkId(first), last: ChunkId(last) }
    }

    fn planned(inventory: &Inventory, first: u32, last: u32) -> Plan {
        plan(inventory, &Geometry::new(10, 4).unwrap(), ChunkId(first), ChunkId(last))
    }

    #[test]
    fn an_empty_store_needs_everything() {
        let plan = planned(&store(&[], &[]), 2, 5);
        assert_eq!(plan.chunks.len(), 4);
        assert!(plan.chunks.iter().all(|task| task.kinds == Kind::ALL && task.needs_source()));
        assert_eq!(plan.indexes, [coverage(0, 2, 3), coverage(1, 4, 5)]);
        assert!(plan.superseded.is_empty());
    }

    #[test]
    fn a_finished_store_needs_nothing() {
        let all = &Kind::ALL[..];
        let done = store(&[(2, all), (3, all), (4, all)], &[(0, 2, 3), (1, 4, 4)]);
        assert_eq!(planned(&done, 2, 4), Plan::default());
        assert_eq!(planned(&done, 3, 3), Plan::default());
    }

    #[test]
    fn only_the_missing_kinds_are_written() {
        let done = store(&[(1, &[Kind::Ledgers, Kind::Run])], &[(0, 1, 1)]);
        let plan = planned(&done, 1, 1);
        assert_eq!(plan.chunks[0].kinds, [Kind::Events, Kind::EventBitmaps, Kind::EventTerms]);
        assert!(!plan.chunks[0].needs_source());
        assert!(plan.indexes.is_empty());
    }

    #[test]
    fn a_wider_range_supersedes_and_brings_lost_runs_back() {
        let indexed = &[Kind::Ledgers, Kind::Events, Kind::EventBitmaps, Kind::EventTerms];
        let done = store(&[(1, indexed)], &[(0, 1, 1)]);
        assert_eq!(planned(&done, 1, 1), Plan::default());
        let plan = planned(&done, 2, 2);
        assert_eq!(plan.indexes, [coverage(0, 1, 2)]);
        assert_eq!(plan.superseded, [coverage(0, 1, 1)]);
        assert_eq!(plan.chunks[0], ChunkTask { chunk: ChunkId(1), kinds: vec![Kind::Run] });
        assert!(!plan.chunks[0].needs_source());
        assert_eq!(plan.chunks[1].kinds, Kind::ALL);
    }

    #[test]
    fn lost_ledgers_take_all_that_follows_from_them_along() {
        let done = store(&[(1, &[Kind::Run, Kind::Events])], &[(0, 1, 1)]);
        let plan = planned(&done, 1, 1);
        assert_eq!(plan.chunks[0].kinds, Kind::ALL);
        assert_eq!((&plan.indexes[..], plan.superseded.len()), (&[coverage(0, 1, 1)][..], 0));
    }

    #[test]
    fn what_a_stopped_build_did_not_remove_is_removed_by_the_next() {
        let all = &Kind::ALL[..];
        let done = store(&[(1, all), (2, all)], &[(0, 1, 1), (0, 1, 2)]);
        let plan = planned(&done, 1, 2);
        assert_eq!((plan.indexes.len(), &plan.superseded[..]), (0, &[coverage(0, 1, 1)][..]));
    }

    #[test]
    fn a_hole_splits_a_window() {
        let all = &Kind::ALL[..];
        let done = store(&[(0, all)], &[(0, 0, 0)]);
        assert_eq!(planned(&done, 2, 2).indexes, [coverage(0, 2, 2)]);
        assert_eq!(planned(&done, 2, 2).superseded, []);
        let plan = planned(&store(&[(0, all), (2, all)], &[(0, 0, 0), (0, 2, 2)]), 1, 1);
        assert_eq!(plan.indexes, [coverage(0, 0, 2)]);
        assert_eq!(plan.superseded, [coverage(0, 0, 0), coverage(0, 2, 2)]);
    }
}
