//! The write protocol, broken at each of its steps.

use icecore_diskio::Disk;
use icecore_ledger::{ChunkId, LedgerSeq};

use super::*;
use crate::{Error, RecoveryPlan};

use Artifact::{Events, Ledgers, TxHash};

#[test]
fn build_is_whole_or_distrusted() {
    let keys = [chunk(0, Ledgers), chunk(0, Events)];
    let matrix = Matrix { setup: &|_| {}, op: &|catalog| build(catalog, &keys), indexed: &[], goal: &keys };
    assert!(matrix.run() > 80);
}

fn runs(catalog: &Catalog, chunks: std::ops::RangeInclusive<u32>) {
    let keys: Vec<Key> = chunks.map(|number| chunk(number, TxHash)).collect();
    build(catalog, &keys).unwrap();
}

#[test]
fn an_index_gives_way_to_a_wider_one_at_once() {
    let matrix = Matrix {
        setup: &|catalog| {
            runs(catalog, 0..=1);
            build_index(catalog, coverage(0, 0)).unwrap();
        },
        op: &|catalog| {
            build_index(catalog, coverage(0, 1))?;
            catalog.destroy(&index(0, 0))
        },
        indexed: &[0],
        goal: &[chunk(0, TxHash), chunk(1, TxHash), index(0, 1)],
    };
    assert!(matrix.run() > 40);
}

#[test]
fn a_terminal_index_spends_its_runs() {
    let matrix = Matrix {
        setup: &|catalog| {
            runs(catalog, 2..=4);
            build_index(catalog, coverage(2, 2)).unwrap();
        },
        op: &|catalog| {
            build_index(catalog, coverage(2, 3))?;
            for key in [index(2, 2), chunk(2, TxHash), chunk(3, TxHash)] {
                catalog.destroy(&key)?;
            }
            Ok(())
        },
        indexed: &[0],
        goal: &[chunk(4, TxHash), index(2, 3)],
    };
    assert!(matrix.run() > 40);
    let world = World::new();
    let catalog = world.open().unwrap();
    (matrix.setup)(&catalog);
    build_index(&catalog, coverage(2, 3)).unwrap();
    let state = catalog.state();
    for (key, word) in [
        (index(2, 2), "pruning"),
        (index(2, 3), "frozen"),
        (chunk(2, TxHash), "pruning"),
        (chunk(3, TxHash), "pruning"),
        (chunk(4, TxHash), "frozen"),
    ] {
        assert_eq!(state.word(&key), Some(word), "{key}");
    }
}

#[test]
fn removal_leaves_no_file_without_a_key() {
    let keys = [chunk(1, Ledgers), chunk(1, Events)];
    let matrix = Matrix {
        setup: &|catalog| build(catalog, &keys).unwrap(),
        op: &|catalog| retire(catalog, &keys),
        indexed: &[],
        goal: &[],
    };
    assert!(matrix.run() > 30);
}

#[test]
fn what_was_half_written_goes_with_its_key() {
    let key = chunk(1, Ledgers);
    let matrix = Matrix {
        setup: &|catalog| {
            catalog.begin(&[key]).unwrap();
            let path = &key.paths(catalog.layout())[0];
            catalog.disk().create_dir_all(path.parent().unwrap()).unwrap();
            let mut partial = path.clone().into_os_string();
            partial.push(PendingFile::SUFFIX);
            let file = catalog.disk().create_exclusive(Path::new(&partial)).unwrap();
            file.write_all_at(b"half", 0).unwrap();
        },
        op: &|catalog| retire(catalog, &[key]),
        indexed: &[],
        goal: &[],
    };
    assert!(matrix.run() > 10);
}

#[test]
fn hot_directories_have_their_keys() {
    let matrix = Matrix {
        setup: &|catalog| make_hot(catalog, 6).unwrap(),
        op: &|catalog| {
            make_hot(catalog, 7)?;
            remove_hot(catalog, 6)
        },
        indexed: &[],
        goal: &[Key::Hot(ChunkId(7))],
    };
    assert!(matrix.run() > 40);
}

/// A store with two windows of cold chunks and two hot ones.
fn furnish(catalog: &Catalog) {
    for number in 3..=5 {
        build(catalog, &[chunk(number, Ledgers), chunk(number, TxHash)]).unwrap();
    }
    build_index(catalog, coverage(3, 3)).unwrap();
    build_index(catalog, coverage(4, 5)).unwrap();
    catalog.destroy(&chunk(3, TxHash)).unwrap();
    (6..=8).for_each(|number| make_hot(catalog, number).unwrap());
}

#[test]
fn recovery_is_one_batch() {
    let range = |catalog: &Catalog, cold, hot| {
        // Ledgers of chunks 5, 6 and 7.
        let (from, to) = (LedgerSeq(52), LedgerSeq(81));
        RecoveryPlan::for_range(&catalog.state(), &geometry(), from, to, cold, hot).unwrap()
    };
    let world = World::new();
    let catalog = world.open().unwrap();
    furnish(&catalog);
    let cold = range(&catalog, true, false);
    assert_eq!(cold.freezing, [chunk(5, Ledgers), chunk(5, TxHash), index(4, 5)]);
    assert_eq!((cold.chunks, cold.transient.len()), ((ChunkId(5), ChunkId(7)), 0));
    let hot = range(&catalog, false, true);
    assert_eq!((hot.freezing.len(), hot.transient), (0, vec![ChunkId(6), ChunkId(7), ChunkId(8)]));
    let files = world.disk.paths();
    let plan = range(&catalog, true, true);
    assert!(plan.to_string().contains("\n  index:00000001:00000004:00000005 → freezing"), "{plan}");
    plan.apply(&catalog).unwrap();
    assert!(range(&catalog, true, true).is_empty());
    assert_eq!(world.disk.paths(), files, "a recovery touches no file");
    let writes = world.disk.operations();
    plan.apply(&catalog).unwrap();
    assert_eq!(world.disk.operations(), writes, "a second time there is nothing to write");

    let before = std::sync::Mutex::new(State::default());
    let goal: Vec<Key> = catalog.state().keys().collect();
    let matrix = Matrix {
        setup: &|catalog| {
            furnish(catalog);
            *before.lock().unwrap() = catalog.state().as_ref().clone();
        },
        op: &|catalog| {
            let plan = range(catalog, true, true);
            let applied = plan.apply(catalog);
            // All of it or nothing, also where it fails.
            let changed = |key: &Key| catalog.state().word(key) != before.lock().unwrap().word(key);
            let hot = plan.transient.iter().map(|chunk| Key::Hot(*chunk));
            let changes: Vec<bool> =
                plan.freezing.iter().copied().chain(hot).map(|key| changed(&key)).collect();
            assert!(changes.iter().all(|changed| *changed) || !changes.contains(&true), "{changes:?}");
            applied
        },
        indexed: &[0],
        goal: &goal,
    };
    assert!(matrix.run() > 4);
}

#[test]
fn recovery_of_nonsense_is_refused() {
    let plan = |from, to, cold, hot| {
        RecoveryPlan::for_range(&State::default(), &geometry(), LedgerSeq(from), LedgerSeq(to), cold, hot)
    };
    for (from, to, cold, hot) in [(9, 8, true, true), (0, 1, true, true), (2, 9, false, false)] {
        assert!(matches!(plan(from, to, cold, hot), Err(Error::BadRecovery { .. })), "{from} {to}");
    }
    let all = plan(0, u32::MAX, true, true).unwrap();
    assert!(all.is_empty() && all.to_string().ends_with("nothing to do"));
}

/// Every call on a key in every state: what comes out, or a refusal that changes nothing.
#[test]
fn every_transition_is_legal_or_refused() {
    type Call = (&'static str, fn(&Catalog, Key) -> Result<()>);
    const CALLS: [Call; 4] = [
        ("begin", |catalog, key| catalog.begin(&[key])),
        ("freeze", |catalog, key| catalog.freeze(&[key])),
        ("demote", |catalog, key| catalog.demote(&[key])),
        ("destroy", |catalog, key| catalog.destroy(&key)),
    ];
    let outcome = |state: &str, call: &str| match (state, call) {
        ("none" | "freezing" | "pruning", "begin") => Some("freezing"),
        ("freezing", "freeze") => Some("frozen"),
        ("freezing" | "frozen" | "pruning", "demote") => Some("pruning"),
        ("none" | "pruning", "destroy") => Some("none"),
        _ => None,
    };
    let world = World::new();
    let catalog = world.open().unwrap();
    let mut number = 0;
    for state in ["none", "freezing", "frozen", "pruning"] {
        for (call, act) in CALLS {
            number += 1;
            let key = chunk(number, Events);
            match state {
                "none" => {}
                "freezing" => {
                    catalog.begin(&[key]).unwrap();
                    write_files(&catalog, &key).unwrap();
                }
                _ => build(&catalog, &[key]).unwrap(),
            }
            if state == "pruning" {
                catalog.demote(&[key]).unwrap();
            }
            let (before, files) = (catalog.state(), world.disk.paths());
            let done = act(&catalog, key);
            match outcome(state, call) {
                Some(word) => {
                    done.unwrap();
                    assert_eq!(catalog.state().word(&key).unwrap_or("none"), word, "{call} of {state}");
                }
                None => {
                    let refused = matches!(&done, Err(Error::Illegal { from, .. }) if *from == state);
                    assert!(refused, "{call} of {state}: {done:?}");
                    assert_eq!((catalog.state(), world.disk.paths()), (before, files), "{call} of {state}");
                }
            }
        }
    }
    // An index is committed, never frozen by itself; hot chunks have calls of their own.
    catalog.begin(&[index(0, 1)]).unwrap();
    write_files(&catalog, &index(0, 1)).unwrap();
    assert!(matches!(catalog.freeze(&[index(0, 1)]), Err(Error::Illegal { .. })));
    catalog.commit_index(coverage(0, 1)).unwrap();
    assert!(matches!(catalog.commit_index(coverage(0, 1)), Err(Error::Illegal { .. })));
    assert!(matches!(catalog.commit_index(coverage(1, 2)), Err(Error::Illegal { .. })));
    let hot = Key::Hot(ChunkId(1));
    for (_, act) in CALLS {
        assert!(matches!(act(&catalog, hot), Err(Error::Illegal { .. })));
    }
    let chunk = ChunkId(1);
    assert!(matches!(catalog.hot_ready(chunk), Err(Error::Illegal { from: "none", .. })));
    catalog.hot_delete(chunk).unwrap();
    make_hot(&catalog, 1).unwrap();
    assert!(matches!(catalog.hot_ready(chunk), Err(Error::Illegal { from: "ready", .. })));
    assert!(matches!(catalog.hot_delete(chunk), Err(Error::Illegal { from: "ready", .. })));
    catalog.hot_transient(chunk).unwrap();
    catalog.hot_transient(chunk).unwrap();
    assert_eq!(catalog.state().hot(chunk), Some(HotState::Transient));
}

#[test]
fn keys_vouch_for_nothing_that_is_not_there() {
    let world = World::new();
    let catalog = world.open().unwrap();
    let key = chunk(0, Events);
    catalog.begin(&[key]).unwrap();
    write_files(&catalog, &key).unwrap();
    world.disk.remove(&key.paths(catalog.layout())[2]).unwrap();
    assert!(matches!(catalog.freeze(&[key]), Err(Error::FileMissing { .. })));
    catalog.begin(&[index(0, 0)]).unwrap();
    assert!(matches!(catalog.commit_index(coverage(0, 0)), Err(Error::FileMissing { .. })));
    make_hot(&catalog, 3).unwrap();
    catalog.hot_transient(ChunkId(3)).unwrap();
    assert!(matches!(catalog.hot_delete(ChunkId(3)), Err(Error::StillThere { .. })));
    for bad in [Key::Index(Coverage { window: WindowId(1), ..coverage(0, 1) }), chunk(429_496_729, Ledgers)] {
        assert!(matches!(catalog.begin(&[bad]), Err(Error::BadKey { .. })), "{bad}");
    }
    assert!(matches!(catalog.hot_transient(ChunkId(u32::MAX)), Err(Error::BadKey { .. })));
}

/// A limit on the size of files stands for the full disk, as it can be lifted; it is a whole process's.
#[test]
#[cfg(target_os = "linux")]
fn a_failed_batch_is_settled() {
    for blocks in [58, 60, 61, 63] {
        let dir = temp_dir();
        // Signals that are ignored stay so in what is started.
        let script = format!("trap '' XFSZ; ulimit -S -f {blocks}; exec \"$0\" \"$@\"");
        let child = Command::new("sh")
            .args(["-c", &script])
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", "acceptance::protocol::child_runs_out_of_room", "--nocapture"])
            .env(CHILD, dir.path().join("store"))
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&child.stdout).into_owned();
        assert!(child.status.success() && text.contains("settled"), "{text}{:?}", child.stderr);
    }
}

#[test]
fn child_runs_out_of_room() {
    const KEYS: u32 = 40;
    let Some(root) = child_dir() else { return };
    let disk = FaultyDisk::new();
    let open = || Catalog::open(Arc::new(disk.clone()), Layout::new(&root), &test_pins()).unwrap();
    let catalog = open();
    let begin = |number: u32| {
        let keys: Vec<Key> =
            (number * KEYS..(number + 1) * KEYS).map(|number| chunk(number, Events)).collect();
        catalog.begin(&keys)
    };
    let whole = || {
        let keys = catalog.state().keys().count();
        assert_eq!(keys % KEYS as usize, 0, "a batch is there in part");
        keys
    };
    let (number, error) = (0..1000).find_map(|number| Some((number, begin(number).err()?))).unwrap();
    assert!(error.is_retryable(), "{error}");
    whole();
    // While the trouble lasts it may go either way.
    let _ = begin(number);
    whole();
    let lifted = Command::new("prlimit")
        .args(["--pid", &std::process::id().to_string(), "--fsize=unlimited:unlimited"])
        .status();
    assert!(lifted.unwrap().success());
    begin(number + 1).unwrap();
    let state = catalog.state();
    assert!(whole() >= (number * KEYS) as usize);
    drop(catalog);
    assert_eq!(open().state(), state, "memory and database differ");
    std::io::stdout().write_all(b"\nsettled\n").unwrap();
}

/// How much is kept may change while an index is built: what the old one leads to is not given up for a narrower one, unless it
/// is kept no more, or gone.
#[test]
fn an_index_never_gives_way_to_a_narrower_one() {
    let narrower = |floor: u32, gone: &[u32]| {
        let world = World::new();
        let catalog = world.open().unwrap();
        for number in 0..3 {
            build(&catalog, &[chunk(number, Ledgers), chunk(number, TxHash)]).unwrap();
        }
        build_index(&catalog, coverage(0, 1)).unwrap();
        catalog.begin(&[index(1, 2)]).unwrap();
        write_files(&catalog, &index(1, 2)).unwrap();
        for number in gone {
            retire(&catalog, &[chunk(*number, Ledgers)]).unwrap();
        }
        let before = catalog.state();
        let done = catalog.commit_index_above(coverage(1, 2), || ChunkId(floor));
        match &done {
            Ok(()) => assert_eq!(catalog.state().frozen_index(WindowId(0)), Some(coverage(1, 2))),
            Err(_) => assert_eq!(catalog.state(), before),
        }
        done
    };
    let lost = narrower(0, &[]);
    assert!(matches!(lost, Err(Error::Narrower { chunk: ChunkId(0), .. })), "{lost:?}");
    // As it is when what is kept slides on: the index moves before what is below the floor is removed.
    narrower(1, &[]).unwrap();
    narrower(0, &[0]).unwrap();
    // At the other end too.
    let world = World::new();
    let catalog = world.open().unwrap();
    runs(&catalog, 0..=2);
    build(&catalog, &[chunk(2, Ledgers)]).unwrap();
    build_index(&catalog, coverage(1, 2)).unwrap();
    let lost =
        catalog.build_index_above(coverage(0, 1), || ChunkId(0), || write_files(&catalog, &index(0, 1)));
    assert!(matches!(lost, Err(Error::Narrower { chunk: ChunkId(2), .. })));
}

/// A batch failed, and what became of it could not be found out: whoever writes next must know of it before it decides.
#[test]
#[cfg(target_os = "linux")]
fn what_failed_is_settled_before_anybody_decides() {
    let dir = temp_dir();
    let child = Command::new("sh")
        .args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\""])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "acceptance::protocol::child_learns_late", "--nocapture"])
        .env(CHILD, dir.path().join("store"))
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&child.stdout).into_owned();
    let errors = String::from_utf8_lossy(&child.stderr).into_owned();
    assert!(child.status.success() && text.contains("settled"), "{text}{errors}");
}

#[test]
fn child_learns_late() {
    let Some(root) = child_dir() else { return };
    let disk = FaultyDisk::new();
    let catalog = Catalog::open(Arc::new(disk.clone()), Layout::new(&root), &test_pins()).unwrap();
    let limit = |limit: &str| {
        let pid = std::process::id().to_string();
        let set = Command::new("prlimit").args(["--pid", &pid, &format!("--fsize={limit}")]).status();
        assert!(set.unwrap().success());
    };
    // No write succeeds, nor opening anew. What the failed batch had is written behind the catalog's back, as a log has it
    // that was written, and could not be synced.
    let fails_and_is_kept = |fails: &dyn Fn() -> Result<()>, key: Key, word: &str| {
        let before = catalog.state();
        limit("0:unlimited");
        assert!(fails().unwrap_err().is_retryable());
        assert_eq!(catalog.state(), before);
        limit("unlimited:unlimited");
        let path = catalog.layout().catalog_dir();
        let store =
            icecore_rockstore::Store::open(&path, crate::load::FAMILIES, &crate::load::options()).unwrap();
        let mut batch = icecore_rockstore::Batch::new();
        batch.put(crate::load::ROWS, key.to_string().as_bytes(), word.as_bytes());
        store.write(&batch).unwrap();
        store.close();
    };
    let agreed = |keys: &[(Key, &str)]| {
        let found = CatalogReader::open(catalog.layout()).unwrap();
        assert_eq!(found.state(), catalog.state().as_ref(), "memory and database differ");
        for (key, word) in keys {
            assert_eq!(catalog.state().word(key), Some(*word), "{key}");
        }
    };
    // Another batch.
    let (first, second, third) = (chunk(1, Events), chunk(2, Events), chunk(3, Events));
    fails_and_is_kept(&|| catalog.begin(&[first]), first, "freezing");
    catalog.begin(&[second]).unwrap();
    agreed(&[(first, "freezing"), (second, "freezing")]);
    // A call that has nothing to do, as far as was known: the directory it is about to remove is ready.
    catalog.hot_transient(ChunkId(6)).unwrap();
    let hot = Key::Hot(ChunkId(6));
    fails_and_is_kept(&|| catalog.hot_ready(ChunkId(6)), hot, "ready");
    catalog.hot_transient(ChunkId(6)).unwrap();
    agreed(&[(hot, "transient")]);
    // Rows of others.
    fails_and_is_kept(&|| catalog.begin(&[third]), third, "freezing");
    catalog.update_rows(|rows| rows.put("audit:x", b"")).unwrap();
    agreed(&[(third, "freezing")]);
    // Removal makes the room that settling may need.
    build(&catalog, &[chunk(4, Events)]).unwrap();
    catalog.demote(&[chunk(4, Events)]).unwrap();
    let files = chunk(4, Events).paths(catalog.layout());
    limit("0:unlimited");
    assert!(catalog.begin(&[chunk(5, Events)]).is_err());
    assert!(catalog.destroy(&chunk(4, Events)).unwrap_err().is_retryable());
    assert!(files.iter().all(|path| disk.file_len(path).unwrap().is_none()));
    limit("unlimited:unlimited");
    catalog.destroy(&chunk(4, Events)).unwrap();
    agreed(&[]);
    assert_eq!(catalog.state().word(&chunk(4, Events)), None);
    std::io::stdout().write_all(b"\nsettled\n").unwrap();
}
