use proptest::prelude::*;

use super::*;

const PER_WINDOW: u32 = 3;

fn scope(earliest_chunk: u32, retention_chunks: u32) -> Scope {
    let geometry = Geometry::new(2, PER_WINDOW).unwrap();
    let earliest = geometry.ledgers_of(ChunkId(earliest_chunk)).unwrap().first;
    Scope { geometry, earliest, retention_chunks }
}

fn coverage(window: u32, first: u32, last: u32) -> Coverage {
    Coverage { window: WindowId(window), first: ChunkId(first), last: ChunkId(last) }
}

/// Chunks that are frozen with everything, and frozen indexes.
fn state(chunks: impl IntoIterator<Item = u32>, indexes: &[(u32, u32, u32)]) -> State {
    let mut state = State::default();
    for chunk in chunks {
        for artifact in Artifact::ALL {
            state.artifacts.insert((ChunkId(chunk), artifact), FileState::Frozen);
        }
    }
    for &(window, first, last) in indexes {
        state.indexes.insert(coverage(window, first, last), FileState::Frozen);
    }
    state
}

fn built(plan: &Plan) -> Vec<u32> {
    plan.chunks.iter().map(|build| build.chunk.0).collect()
}

/// What executing a plan does to a state, one part after the other; `fails` says which parts do not come about.
struct Model {
    scope: Scope,
    state: State,
    complete: Option<ChunkId>,
    live: Option<ChunkId>,
}

impl Model {
    fn build(&mut self, plan: &Plan, fails: &mut dyn FnMut() -> bool) {
        for build in &plan.chunks {
            let failed = fails();
            for &artifact in &build.artifacts {
                let key = (build.chunk, artifact);
                assert_ne!(
                    self.state.artifacts.get(&key),
                    Some(&FileState::Frozen),
                    "{key:?} is built again"
                );
                let now = if failed { FileState::Freezing } else { FileState::Frozen };
                self.state.artifacts.insert(key, now);
            }
        }
        for index in &plan.indexes {
            let run = |chunk| self.state.artifact(chunk, Artifact::TxHash) == Some(FileState::Frozen);
            if !index.chunks().all(run) {
                continue;
            }
            if fails() {
                self.state.indexes.insert(*index, FileState::Freezing);
                continue;
            }
            self.commit_index(*index);
        }
    }

    fn commit_index(&mut self, index: Coverage) {
        assert!(self.state.frozen_index(index.window).is_none_or(|has| !has.contains(&index)));
        for (other, file) in &mut self.state.indexes {
            if other.window == index.window && *file == FileState::Frozen {
                *file = FileState::Pruning;
            }
        }
        self.state.indexes.insert(index, FileState::Frozen);
        if index.last.0 % PER_WINDOW == PER_WINDOW - 1 {
            for (&(chunk, artifact), file) in &mut self.state.artifacts {
                if artifact == Artifact::TxHash && index.covers(chunk) {
                    *file = FileState::Pruning;
                }
            }
        }
    }

    fn discard(&mut self) {
        let floor = self.scope.floor(self.complete);
        for chunk in self.scope.discards(&self.state, self.complete, self.live) {
            assert!(self.live.is_none_or(|live| chunk < live), "the chunk that is ingested into");
            let readable = |artifact| self.state.artifact(chunk, artifact) == Some(FileState::Frozen);
            let cold = readable(Artifact::Ledgers) && readable(Artifact::Events) && self.state.covered(chunk);
            let stale = self.state.hot[&chunk] == HotState::Transient;
            assert!(cold || stale || chunk < floor, "{chunk} is lost");
            self.state.hot.remove(&chunk);
        }
    }

    fn prune(&mut self) {
        let floor = self.scope.floor(self.complete);
        for key in self.scope.prunes(&self.state, self.complete, self.complete) {
            match key {
                Key::Chunk(chunk, artifact) => {
                    let was = self.state.artifacts.remove(&(chunk, artifact)).unwrap();
                    let needed = was == FileState::Frozen && chunk >= floor;
                    assert!(
                        !needed || (artifact == Artifact::TxHash && self.state.covered(chunk)),
                        "{key:?}"
                    );
                }
                Key::Index(index) => {
                    let was = self.state.indexes.remove(&index).unwrap();
                    assert!(was != FileState::Frozen || index.last < floor, "{key:?}");
                }
                other => panic!("{other:?} is not pruned"),
            }
        }
    }

    fn run(&mut self, fails: &mut dyn FnMut() -> bool) {
        let plan = self.scope.resolve(&self.state, self.complete);
        assert!(plan.chunks.is_sorted_by_key(|build| std::cmp::Reverse(build.chunk)), "newest first");
        self.build(&plan, fails);
        self.discard();
        self.prune();
        for window in 0..8 {
            let frozen = |(index, file): &(&Coverage, &FileState)| {
                index.window == WindowId(window) && **file == FileState::Frozen
            };
            assert!(self.state.indexes.iter().filter(frozen).count() <= 1, "two indexes in a window");
        }
    }

    /// What the floor promises is there, and nothing else.
    fn check_settled(&self) {
        assert!(self.scope.is_settled(&self.state, self.complete, self.complete, self.live));
        let floor = self.scope.floor(self.complete);
        for chunk in self.complete.map_or(0..0, |last| floor.0..last.0 + 1).map(ChunkId) {
            for artifact in [Artifact::Ledgers, Artifact::Events] {
                assert_eq!(self.state.artifact(chunk, artifact), Some(FileState::Frozen));
            }
            assert!(self.state.covered(chunk), "{chunk} is in no index");
        }
        assert!(self.state.artifacts.keys().all(|(chunk, _)| *chunk >= floor));
        assert!(self.state.indexes.keys().all(|index| index.last >= floor));
        assert!(self.state.artifacts.values().all(|file| *file == FileState::Frozen));
    }
}

fn file_states() -> impl Strategy<Value = FileState> {
    prop_oneof![
        3 => Just(FileState::Frozen),
        1 => Just(FileState::Freezing),
        1 => Just(FileState::Pruning)
    ]
}

/// Any state that a history of crashes, recoveries and changes of retention may leave, and some that none does.
fn states() -> impl Strategy<Value = State> {
    let artifacts =
        prop::collection::btree_map((0u32..12, 0usize..Artifact::ALL.len()), file_states(), 0..30);
    let indexes = prop::collection::btree_map((0u32..4, 0u32..3, 0u32..3), file_states(), 0..6);
    let hot = prop::collection::btree_map(0u32..14, any::<bool>(), 0..5);
    (artifacts, indexes, hot).prop_map(|(artifacts, indexes, hot)| {
        let mut state = State::default();
        for ((chunk, artifact), file) in artifacts {
            state.artifacts.insert((ChunkId(chunk), Artifact::ALL[artifact]), file);
        }
        for ((window, a, b), file) in indexes {
            let index = coverage(window, window * PER_WINDOW + a.min(b), window * PER_WINDOW + a.max(b));
            // The catalog sees to it that a window has one frozen index.
            let taken = state.frozen_index(index.window).is_some();
            state.indexes.insert(index, if taken { FileState::Pruning } else { file });
        }
        for (chunk, ready) in hot {
            let hot = if ready { HotState::Ready } else { HotState::Transient };
            state.hot.insert(ChunkId(chunk), hot);
        }
        state
    })
}

proptest! {
    #[test]
    fn executing_whatever_is_planned_settles(
        state in states(),
        earliest in 0u32..6,
        steps in prop::collection::vec((0u32..12, 0u32..6, any::<u64>()), 1..5),
    ) {
        let mut model =
            Model { scope: scope(earliest, 0), state, complete: None, live: None };
        for (ahead, retention, luck) in steps {
            // The last complete chunk never lies below what is frozen.
            let frozen = model.state.artifacts.keys().map(|(chunk, _)| chunk.0).max().unwrap_or(0);
            let last = frozen.max(ahead).max(model.complete.map_or(0, |chunk| chunk.0));
            model.complete = Some(ChunkId(last));
            model.live = Some(ChunkId(last + 1));
            model.scope.retention_chunks = retention;
            let mut luck = luck;
            model.run(&mut || { luck = luck.rotate_left(7).wrapping_mul(0x9e37_79b9_7f4a_7c15); luck % 3 == 0 });
            model.run(&mut || false);
            model.run(&mut || false);
            model.check_settled();
        }
    }

    #[test]
    fn parts_of_a_plan_are_the_whole_plan_in_the_end(state in states(), last in 0u32..12, part in 1usize..4) {
        let mut model = Model { scope: scope(0, 0), state, complete: Some(ChunkId(last)), live: Some(ChunkId(last + 1)) };
        for _ in 0..100 {
            let plan = model.scope.resolve(&model.state, model.complete).part(part, &BTreeSet::new());
            if plan.is_empty() {
                break;
            }
            prop_assert!(plan.chunks.len() <= part);
            model.build(&plan, &mut || false);
        }
        prop_assert!(model.scope.resolve(&model.state, model.complete).is_empty());
    }

    #[test]
    fn the_floor_rises_with_the_history_and_falls_with_retention(
        earliest in 0u32..20, last in 0u32..40, keep in 1u32..20,
    ) {
        let at = |last: Option<u32>, keep| scope(earliest, keep).floor(last.map(ChunkId)).0;
        prop_assert!(at(Some(last), keep) <= at(Some(last + 1), keep));
        prop_assert!(at(None, keep) <= at(Some(0), keep));
        prop_assert!(at(Some(last), keep + 1) <= at(Some(last), keep));
        prop_assert_eq!(at(Some(last), 0), earliest);
        prop_assert!(at(Some(last), keep) >= earliest);
        // As many as are to be kept, where there are so many.
        prop_assert_eq!(at(Some(earliest + keep + last), keep), earliest + last + 1);
    }
}

#[test]
fn before_the_first_chunk_nothing_is_missing() {
    let scope = scope(0, 5);
    assert_eq!(scope.floor(None), ChunkId(0));
    assert!(scope.resolve(&State::default(), None).is_empty());
    assert!(scope.prunes(&State::default(), None, None).is_empty());
    assert_eq!(
        scope.last_committed(&State::default(), |_| Err("no hot chunk is asked")).unwrap(),
        LedgerSeq(1)
    );
    // A floor above all that is complete asks for nothing either.
    let ahead = Scope { earliest: LedgerSeq(20), ..scope };
    assert!(ahead.resolve(&State::default(), Some(ChunkId(3))).is_empty());
    assert_eq!(ahead.last_committed(&state(0..2, &[]), |_| Err(())).unwrap(), LedgerSeq(19));
}

#[test]
fn an_empty_store_needs_everything_newest_first() {
    let plan = scope(0, 0).resolve(&State::default(), Some(ChunkId(4)));
    assert_eq!(built(&plan), [4, 3, 2, 1, 0]);
    assert!(plan.chunks.iter().all(|build| build.artifacts == Artifact::ALL));
    assert_eq!(plan.indexes, [coverage(1, 3, 4), coverage(0, 0, 2)]);
}

#[test]
fn a_terminal_window_needs_no_runs_and_any_other_does() {
    let mut done = state(0..5, &[(0, 0, 2), (1, 3, 4)]);
    for chunk in 0..3 {
        done.artifacts.remove(&(ChunkId(chunk), Artifact::TxHash));
    }
    assert!(scope(0, 0).is_settled(&done, Some(ChunkId(4)), Some(ChunkId(4)), None));
    done.artifacts.insert((ChunkId(3), Artifact::TxHash), FileState::Freezing);
    let plan = scope(0, 0).resolve(&done, Some(ChunkId(4)));
    assert_eq!(plan.chunks, [ChunkBuild { chunk: ChunkId(3), artifacts: vec![Artifact::TxHash] }]);
    assert_eq!(plan.indexes, []);
}

#[test]
fn a_wider_index_counts_and_a_narrower_one_is_built_anew_with_its_runs() {
    // Chunks 0 and 1 fell below the floor; their window's index is wider than it must be.
    let narrowed = state(2..5, &[(0, 0, 2), (1, 3, 4)]);
    let plan = scope(0, 3).resolve(&narrowed, Some(ChunkId(4)));
    assert!(plan.is_empty(), "{plan:?}");
    // Widening: the terminal window's runs are gone, and come back from the packs.
    let mut narrow = state(1..3, &[(0, 2, 2)]);
    narrow.artifacts.retain(|(_, artifact), _| *artifact != Artifact::TxHash);
    let plan = scope(1, 0).resolve(&narrow, Some(ChunkId(2)));
    let runs = |chunk| ChunkBuild { chunk: ChunkId(chunk), artifacts: vec![Artifact::TxHash] };
    assert_eq!(plan.chunks, [runs(2), runs(1)]);
    assert_eq!(plan.indexes, [coverage(0, 1, 2)]);
    // Until that is done its runs are not pruned, although the window has a terminal index.
    narrow.artifacts.insert((ChunkId(2), Artifact::TxHash), FileState::Frozen);
    assert_eq!(scope(1, 0).prunes(&narrow, Some(ChunkId(2)), Some(ChunkId(2))), []);
}

#[test]
fn what_is_old_goes_when_what_is_new_has_come() {
    let mut state = state(2..5, &[(0, 2, 2), (1, 3, 4)]);
    // The chunk that is awaited was begun.
    state.artifacts.insert((ChunkId(50), Artifact::Ledgers), FileState::Freezing);
    let (scope, here, awaited) = (scope(0, 3), Some(ChunkId(4)), Some(ChunkId(50)));
    assert_eq!(built(&scope.resolve(&state, awaited)), [50, 49, 48]);
    assert_eq!(scope.prunes(&state, here, awaited), []);
    assert!(!scope.is_settled(&state, here, awaited, None));
    let gone = scope.prunes(&state, awaited, awaited);
    assert_eq!(gone.len(), 3 * Artifact::ALL.len() + 2, "{gone:?}");
}

#[test]
fn a_hot_chunk_goes_only_when_an_index_covers_it() {
    let mut state = state(0..2, &[(0, 0, 0)]);
    for chunk in 0..4 {
        state.hot.insert(ChunkId(chunk), HotState::Ready);
    }
    let discards = |state: &State, live: Option<u32>| -> Vec<u32> {
        let found = scope(0, 0).discards(state, Some(ChunkId(2)), live.map(ChunkId));
        found.iter().map(|chunk| chunk.0).collect()
    };
    assert_eq!(discards(&state, Some(3)), [0]);
    state.indexes.clear();
    state.indexes.insert(coverage(0, 0, 1), FileState::Frozen);
    assert_eq!(discards(&state, Some(3)), [0, 1]);
    assert_eq!(discards(&state, Some(1)), [0], "what is ingested into is not touched");
    state.hot.insert(ChunkId(3), HotState::Transient);
    assert_eq!(discards(&state, None), [0, 1, 3], "before ingestion, also what was being made");
}

#[test]
fn progress_follows_from_durable_keys() {
    let scope = scope(0, 0);
    let none = |_| Ok::<_, ()>(None);
    assert_eq!(scope.last_committed(&state([0, 7], &[]), none).unwrap(), LedgerSeq(17));
    let mut hot = state([0, 7], &[]);
    hot.hot.insert(ChunkId(7), HotState::Ready);
    assert_eq!(scope.last_committed(&hot, none).unwrap(), LedgerSeq(17), "frozen wins");
    hot.hot.insert(ChunkId(9), HotState::Transient);
    assert_eq!(scope.last_committed(&hot, none).unwrap(), LedgerSeq(17), "transient is nothing");
    hot.hot.insert(ChunkId(8), HotState::Ready);
    assert_eq!(scope.last_committed(&hot, none).unwrap(), LedgerSeq(17), "ready and empty");
    let at = |chunk| if chunk == ChunkId(8) { Ok(Some(LedgerSeq(18))) } else { Err(chunk) };
    assert_eq!(scope.last_committed(&hot, at).unwrap(), LedgerSeq(18));
    assert_eq!(scope.last_whole(&hot, at).unwrap(), Some(ChunkId(7)), "begun is not whole");
    let end = |_| Ok::<_, ()>(Some(LedgerSeq(19)));
    assert_eq!(scope.last_whole(&hot, end).unwrap(), Some(ChunkId(8)));
    // One that was made far ahead, and stayed empty, says nothing of what is here.
    hot.hot.insert(ChunkId(50), HotState::Ready);
    let at = |chunk| Ok::<_, ()>((chunk == ChunkId(8)).then_some(LedgerSeq(18)));
    assert_eq!(scope.last_committed(&hot, at).unwrap(), LedgerSeq(18));
    assert_eq!(scope.last_whole(&hot, at).unwrap(), Some(ChunkId(7)));
    hot.artifacts.insert((ChunkId(7), Artifact::Ledgers), FileState::Freezing);
    hot.hot.clear();
    assert_eq!(scope.last_committed(&hot, none).unwrap(), LedgerSeq(3));
}

#[test]
fn ingestion_goes_on_in_a_chunk_that_was_begun_near_the_tip() {
    // Chunks of two ledgers: 2 3 │ 4 5 │ 6 7 │ 8 9
    let resume = |last, tip| {
        let at = scope(0, 0).resume(LedgerSeq(last), LedgerSeq(tip)).unwrap();
        (at.chunk.0, at.next.0, at.complete.map(|chunk| chunk.0))
    };
    assert_eq!(resume(1, 2), (0, 2, None), "no chunk is complete");
    assert_eq!(resume(1, 3), (1, 4, Some(0)), "a chunk that was not begun is backfilled");
    assert_eq!(resume(2, 3), (0, 3, None), "one that was begun is not");
    assert_eq!(resume(2, 4), (0, 3, None));
    assert_eq!(resume(2, 5), (2, 6, Some(1)), "unless it is far from the tip");
    assert_eq!(resume(4, 2), (1, 5, Some(0)), "a tip that lags changes nothing");
    assert_eq!(resume(5, 5), (2, 6, Some(1)));
    assert_eq!(scope(0, 0).resume(LedgerSeq(u32::MAX), LedgerSeq(5)), None);
}

#[test]
fn what_failed_comes_last_and_an_index_waits_for_its_chunks() {
    let plan = scope(0, 0).resolve(&State::default(), Some(ChunkId(4)));
    let part = plan.clone().part(2, &BTreeSet::new());
    assert_eq!((built(&part), part.indexes), (vec![4, 3], vec![coverage(1, 3, 4)]));
    let failed = BTreeSet::from([ChunkId(4)]);
    let part = plan.clone().part(4, &failed);
    assert_eq!((built(&part), part.indexes), (vec![3, 2, 1, 0], vec![coverage(0, 0, 2)]));
    assert_eq!(plan.clone().part(9, &failed).indexes.len(), 2);
}
