//! The protocol against a map from keys to words: any sequence of calls, any fault among them.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

#[derive(Clone, Copy, Debug)]
enum Call {
    Begin,
    Write,
    Freeze,
    Demote,
    Destroy,
    Hot,
    HotReady,
    HotDelete,
    Reopen,
}

const CALLS: [Call; 9] = [
    Call::Begin,
    Call::Write,
    Call::Freeze,
    Call::Demote,
    Call::Destroy,
    Call::Hot,
    Call::HotReady,
    Call::HotDelete,
    Call::Reopen,
];

const KEYS: usize = 7;

fn key(number: usize) -> Key {
    match number {
        0 => chunk(2, Artifact::TxHash),
        1 => chunk(3, Artifact::TxHash),
        2 => chunk(3, Artifact::Events),
        3 => index(2, 2),
        4 => index(2, 3),
        5 => index(3, 3),
        _ => Key::Hot(ChunkId(4)),
    }
}

/// One call; or those that belong together, so that much gets frozen.
fn group() -> impl Strategy<Value = Vec<(Call, usize)>> {
    prop_oneof![
        (0..CALLS.len(), 0..KEYS).prop_map(|(call, key)| vec![(CALLS[call], key)]),
        (0..KEYS).prop_map(|key| [Call::Begin, Call::Write, Call::Freeze].map(|call| (call, key)).to_vec()),
    ]
}

type Words = BTreeMap<Key, &'static str>;

/// What a call makes of the words; `None` when it must be refused. Whether files are there is asked for.
fn expected(words: &Words, call: Call, key: Key, there: bool) -> Option<Words> {
    let word = words.get(&key).copied();
    let mut next = words.clone();
    let is_hot = matches!(key, Key::Hot(_));
    let to = match (call, word) {
        (Call::Write | Call::Reopen, _) => return Some(next),
        (Call::Begin, None | Some("freezing" | "pruning")) if !is_hot => "freezing",
        (Call::Freeze, Some("freezing")) if there && !is_hot => "frozen",
        (Call::Demote, Some("freezing" | "frozen" | "pruning")) if !is_hot => "pruning",
        (Call::Destroy, None | Some("pruning")) if !is_hot => {
            next.remove(&key);
            return Some(next);
        }
        (Call::Hot, _) if is_hot => "transient",
        (Call::HotReady, Some("transient")) if is_hot => "ready",
        (Call::HotDelete, None | Some("transient")) if is_hot && !there => {
            next.remove(&key);
            return Some(next);
        }
        _ => return None,
    };
    if let (Key::Index(own), "frozen") = (key, to) {
        for (other, word) in &mut next {
            let superseded = matches!(other, Key::Index(other) if other.window == own.window);
            let spent = own.last == ChunkId(3)
                && matches!(other, Key::Chunk(chunk, Artifact::TxHash) if own.covers(*chunk));
            if superseded && *word == "frozen" || spent {
                *word = "pruning";
            }
        }
    }
    next.insert(key, to);
    Some(next)
}

fn words(state: &State) -> Words {
    state.keys().map(|key| (key, state.word(&key).unwrap())).collect()
}

fn act(catalog: &Catalog, call: Call, key: Key) -> Result<()> {
    match (call, key) {
        (Call::Begin, key) => catalog.begin(&[key]),
        // Files are written under a freezing key only: that much a caller has to keep to.
        (Call::Write, key) if catalog.state().file(&key) == Some(FileState::Freezing) => {
            write_files(catalog, &key)
        }
        (Call::Write | Call::Reopen, _) => Ok(()),
        (Call::Freeze, Key::Index(coverage)) => catalog.commit_index(coverage),
        (Call::Freeze, key) => catalog.freeze(&[key]),
        (Call::Demote, key) => catalog.demote(&[key]),
        (Call::Destroy, key) => catalog.destroy(&key),
        (Call::Hot, Key::Hot(chunk)) => catalog.hot_transient(chunk),
        (Call::HotReady, Key::Hot(chunk)) => {
            if catalog.state().hot(chunk) == Some(HotState::Transient) {
                fs::create_dir_all(catalog.layout().hot_chunk(chunk)).unwrap();
                fs::write(catalog.layout().hot_chunk(chunk).join("CURRENT"), "").unwrap();
            }
            catalog.hot_ready(chunk)
        }
        (Call::HotDelete, Key::Hot(chunk)) => {
            if catalog.state().hot(chunk) == Some(HotState::Transient) {
                let _ = fs::remove_dir_all(catalog.layout().hot_chunk(chunk));
            }
            catalog.hot_delete(chunk)
        }
        // Refused, as the key is none of theirs.
        (Call::Hot | Call::HotReady | Call::HotDelete, _) => catalog.hot_ready(ChunkId(5)),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn any_sequence_of_calls_is_as_the_model_says(
        groups in prop::collection::vec(group(), 1..40),
        faults in prop::collection::vec((20u64..300, 0usize..3), 0..4),
    ) {
        let mut world = World::new();
        for (at, fault) in faults {
            world.disk.fail_at(at, [Fault::Io, Fault::DiskFull, Fault::ShortWrite][fault]);
        }
        let mut catalog = world.open().unwrap();
        let mut model = Words::new();
        for (call, number) in groups.into_iter().flatten() {
            let key = key(number);
            if let Call::Reopen = call {
                drop(catalog);
                world.killed();
                catalog = world.open().unwrap();
            }
            let there = match key {
                // The call removes what is there, when it may.
                Key::Hot(_) => false,
                key => key.paths(catalog.layout()).iter().all(|path| {
                    world.disk.file_len(path).unwrap().is_some()
                }),
            };
            let expected = expected(&model, call, key, there);
            let broken = world.disk.labels().len();
            let done = act(&catalog, call, key);
            let now = words(&catalog.state());
            let failed_on_disk = matches!(&done, Err(e) if e.class() != crate::Class::Fatal);
            match (&done, expected) {
                (Ok(()), Some(expected)) => prop_assert_eq!(&now, &expected, "{:?} {}", call, key),
                // A fault before the batch, or after it.
                (Err(_), Some(expected)) if failed_on_disk => {
                    prop_assert!(now == model || now == expected, "{:?} {} after {}", call, key, broken);
                }
                (Err(_), None) => prop_assert_eq!(&now, &model, "{:?} {}", call, key),
                (done, expected) => {
                    prop_assert!(false, "{:?} {}: {:?}, expected {:?}", call, key, done, expected);
                }
            }
            model = now;
            check_invariants(&catalog, &world.disk, &[]);
        }
        prop_assert_eq!(words(world.reader().unwrap().state()), model);
    }
}
