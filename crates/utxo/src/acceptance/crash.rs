//! Processes that are stopped in the middle of their work (39, 40), and one whose files may not grow any more.
//!
//! The child is this test binary, running the same test; an environment variable tells it so.

#![cfg(feature = "rocksdb")]
#![allow(unsafe_code)]

use std::{
    collections::BTreeSet,
    fs::{File, OpenOptions},
    io::{BufRead, BufReader, Write},
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio, exit},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use icecore_diskio::RealDisk;
use icecore_testkit::SplitMix64;

use super::support::*;
use crate::*;

const CHILD: &str = "ICECORE_UTXO_CHILD";
const ROUNDS: u64 = 50;
const KEPT_BLOCKS: u32 = 3;

/// The directory of the child, in the child.
fn child_dir() -> Option<PathBuf> {
    std::env::var_os(CHILD).map(PathBuf::from)
}

fn start(test: &str, dir: &Path) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args([test, "--exact", "--nocapture"]).env(CHILD, dir);
    command.stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn().unwrap()
}

/// Waits for the line that says so.
fn wait_until_ready(child: &mut Child) {
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().ends_with("ready")), "the child ended: {:?}", child.wait());
    // What it says from now on is read to its end, so that it never waits for a reader.
    thread::spawn(move || lines.count());
}

fn wait(child: &mut Child) -> ExitStatus {
    let until = Instant::now() + GUARD;
    loop {
        match child.try_wait().unwrap() {
            Some(status) => return status,
            None if Instant::now() > until => {
                child.kill().unwrap();
                panic!("the child does not end");
            }
            None => thread::sleep(Duration::from_millis(1)),
        }
    }
}

fn signal(child: &Child, signal: i32) {
    // SAFETY: a plain system call on a child that has not been waited for, so that its id is its own.
    assert_eq!(unsafe { libc::kill(child.id() as i32, signal) }, 0);
}

static TERMINATED: AtomicBool = AtomicBool::new(false);

extern "C" fn on_terminated(_: i32) {
    TERMINATED.store(true, Ordering::SeqCst);
}

fn on_signal(signal: i32, handler: libc::sighandler_t) {
    // SAFETY: the handler is none of the process's own (SIG_IGN), or stores into an atomic, which a handler may.
    assert_ne!(unsafe { libc::signal(signal, handler) }, libc::SIG_ERR);
}

fn open(clients: &Clients, dir: &Path, change: impl FnOnce(Options) -> Options) -> UtxoStore {
    let options = Options::new().page_size(PAGE_SIZE).retention_blocks(KEPT_BLOCKS).disk(Arc::new(RealDisk));
    UtxoStore::open(clients, dir.join("store"), change(options)).unwrap()
}

/// The transactions of a block: number, outputs, and what they spend of the two blocks before.
fn block_txs(number: u64) -> Vec<NewTx> {
    [6, 2, 3, 3]
        .into_iter()
        .zip(0..)
        .map(|(outputs, i)| child(10 * number + i, outputs, &spends(number, i)))
        .collect()
}

fn spends(number: u64, i: u64) -> Vec<(u64, u32)> {
    let mut spends = Vec::new();
    if number > 1 {
        let before = 10 * (number - 1) + i;
        spends.push((before, 0));
        spends.extend([4, 5].into_iter().filter(|_| i == 0).map(|vout| (before, vout)));
    }
    if number > 2 {
        spends.push((10 * (number - 2) + i, 1));
    }
    spends
}

fn created(results: Vec<Result<()>>) {
    assert!(
        results.iter().all(|result| matches!(result, Ok(()) | Err(Error::TxExists { .. }))),
        "{results:?}"
    );
}

fn spent(results: Vec<Result<()>>) {
    assert!(results.iter().all(Result::is_ok), "{results:?}");
}

/// Applies a block; when it returns, everything is durable.
fn apply(store: &UtxoStore, number: u64) {
    let txids: Vec<_> = (0..4).map(|i| txid(10 * number + i)).collect();
    let height = number as u32;
    created(store.create_many(block_txs(number), height, &CreateOptions::default()));
    if number > 1 {
        spent(store.set_locked(&[txid(10 * (number - 1) + 3)], false));
    }
    let spendings = (0..4).map(|i| spending(10 * number + i, &spends(number, i))).collect();
    spent(store.spend_many(spendings, height, SpendFlags::default()));
    store.set_mined(&txids, mined(height, height)).unwrap();
    spent(store.set_locked(&txids[3..], true));
    store.delete_due(height).unwrap();
}

/// What stands in a file that is only appended to, without a last line that was cut off.
fn lines(path: &Path) -> Vec<u64> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    whole.lines().map(|line| line.parse().unwrap()).collect()
}

fn log(path: &Path) -> File {
    OpenOptions::new().create(true).append(true).open(path).unwrap()
}

/// Every recorded block has all its outputs, spent by whoever should have, and no parent is missing.
fn check(store: &UtxoStore, committed: u64, from: u64) {
    for number in from.max(1)..=committed {
        for i in 0..4 {
            let n = 10 * number + i;
            // Wholly spent two blocks later, and due KEPT_BLOCKS after that.
            let due = (i == 1).then_some(number + 2 + u64::from(KEPT_BLOCKS));
            let stored = match store.get(&txid(n), Fields::ALL) {
                Err(Error::TxNotFound { .. }) if due.is_some_and(|due| due <= committed + 1) => continue,
                stored => stored.unwrap_or_else(|error| panic!("{n} of {committed} blocks: {error}")),
            };
            assert!(due.is_none_or(|due| due > committed), "{n} was due");
            let pages =
                || std::iter::once(&stored.master.page).chain(stored.extras.iter().map(|extra| &extra.page));
            assert!(pages().all(|page| !page.creating));
            let slots: Vec<_> = pages().flat_map(Page::slots).map(Slot::spender).collect();
            assert_eq!(slots.len(), [6, 2, 3, 3][i as usize]);
            for child in [number + 1, number + 2].into_iter().filter(|child| *child <= committed) {
                for ((parent, vout), input) in spends(child, i).into_iter().zip(0..) {
                    assert!(
                        parent != n || slots[vout as usize] == Some(by(10 * child + i, input)),
                        "{n}:{vout}"
                    );
                }
            }
            let counted = stored.extras.iter().filter(|extra| extra.page.all_spent()).count();
            assert_eq!(stored.master.spent_extra as usize, counted, "{n}");
        }
    }
}

/// The child: checks what it finds, then applies blocks until it is stopped. Beside them it hands transactions to a
/// store whose queue fires only when it closes, and notes each as accepted.
fn catch_up(dir: &Path) -> ! {
    on_signal(libc::SIGTERM, on_terminated as *const () as libc::sighandler_t);
    let (blocks, accepted) = (dir.join("blocks"), dir.join("accepted"));
    let clients = Clients::new();
    let store = open(&clients, dir, |options| options);
    let aside = open(&clients, dir, |options| options.queue(Queue::Store, held()));
    let mut committed = lines(&blocks).last().copied().unwrap_or(0);
    check(&store, committed, committed.saturating_sub(20));
    let (mut block_log, mut accepted_log) = (log(&blocks), log(&accepted));
    let mut ready = false;
    while !TERMINATED.load(Ordering::SeqCst) {
        committed += 1;
        let n = 1_000_000_000 + 1000 * u64::from(std::process::id()) + committed % 1000;
        drop(
            aside.create_queued(tx(n, 1 + 5 * (committed % 2) as u32), 1, CreateOptions::default()).unwrap(),
        );
        writeln!(accepted_log, "{n}").unwrap();
        apply(&store, committed);
        writeln!(block_log, "{committed}").unwrap();
        if !std::mem::replace(&mut ready, true) {
            println!("ready");
        }
    }
    let closed = [store, aside].map(|store| store.close(GUARD).is_ok());
    exit(if closed == [true; 2] { 0 } else { 3 });
}

fn rounds(test: &str, stop: i32, ended_well: impl Fn(ExitStatus) -> bool) {
    if let Some(dir) = child_dir() {
        catch_up(&dir);
    }
    let dir = scratch();
    let (blocks, accepted) = (dir.path().join("blocks"), dir.path().join("accepted"));
    let mut random = SplitMix64::new(u64::from(std::process::id()));
    for round in 0..ROUNDS {
        let mut child = start(test, dir.path());
        wait_until_ready(&mut child);
        thread::sleep(Duration::from_micros(random.below(20_000)));
        signal(&child, stop);
        let status = wait(&mut child);
        assert!(ended_well(status), "round {round}: {status}");
    }
    let clients = Clients::new();
    let store = open(&clients, dir.path(), |options| options);
    let committed = lines(&blocks);
    assert!(!committed.is_empty(), "no block was ever finished");
    check(&store, *committed.last().unwrap(), 1);
    if stop == libc::SIGTERM {
        let stored: BTreeSet<_> = store.txids().unwrap().into_iter().collect();
        let lost: Vec<_> = lines(&accepted).into_iter().filter(|n| !stored.contains(&txid(*n))).collect();
        assert!(lost.is_empty(), "accepted, and not stored by a close that said so: {lost:?}");
    }
    store.close(GUARD).unwrap();
}

#[test]
fn sigterm_mid_catchup() {
    rounds("acceptance::crash::sigterm_mid_catchup", libc::SIGTERM, |status| status.code() == Some(0));
}

#[test]
fn sigkill_mid_catchup() {
    rounds("acceptance::crash::sigkill_mid_catchup", libc::SIGKILL, |status| {
        status.signal() == Some(libc::SIGKILL)
    });
}

fn limit_file_size(bytes: libc::rlim_t) {
    let limit = libc::rlimit { rlim_cur: bytes, rlim_max: libc::RLIM_INFINITY };
    // SAFETY: the limit outlives the call, which only reads it.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_FSIZE, &raw const limit) }, 0);
}

/// The child: a drain runs into files that may not grow, and what it says of each transaction is so.
fn drain_into_full_files(dir: &Path) {
    on_signal(libc::SIGXFSZ, libc::SIG_IGN);
    let clients = Clients::new();
    let queue = QueueOptions { size: 10, in_flight: 1, ..held() };
    let store = open(&clients, dir, |options| options.queue(Queue::Store, queue));
    let fat = |n| NewTx { body: vec![n as u8; 3_000], ..tx(n, 3) };
    limit_file_size(100_000);
    // Nine in a batch, so that none is full before the close.
    let answers: Vec<_> = (0..9)
        .map(|n| {
            store
                .create_queued(NewTx { body: vec![1; 30_000], ..fat(n) }, 7, CreateOptions::default())
                .unwrap()
        })
        .collect();
    let closed = store.close(GUARD);
    limit_file_size(libc::RLIM_INFINITY);
    assert!(matches!(closed, Err(CloseError::Unwritten { items: 9 })), "{closed:?}");
    for answer in answers {
        let error = answer.wait().unwrap_err();
        assert!(error.is_unwritten(), "{error}");
    }
    let store = open(&clients, dir, |options| options);
    assert_eq!(store.txids().unwrap(), []);
    store.put(fat(1), 7);
    store.close(GUARD).unwrap();
    let store = open(&clients, dir, |options| options);
    assert_eq!(store.all_of(1).body.unwrap(), fat(1).body);
    // Worse: the database cannot even be opened for reading. Once it can, reading is enough to bring it back.
    let (records, away) = (dir.join("store/records"), dir.join("store/away"));
    limit_file_size(1);
    std::fs::rename(&records, &away).unwrap();
    assert!(store.create(fat(2), 7, CreateOptions::default()).is_err());
    assert!(store.health().is_err());
    std::fs::rename(&away, &records).unwrap();
    limit_file_size(libc::RLIM_INFINITY);
    store.health().unwrap();
    store.take(3, &[(1, 0)], 8).unwrap();
    store.close(GUARD).unwrap();
}

#[test]
fn full_files_in_a_drain_are_not_confirmed() {
    if let Some(dir) = child_dir() {
        drain_into_full_files(&dir);
        return println!("ready");
    }
    let dir = scratch();
    let mut child = start("acceptance::crash::full_files_in_a_drain_are_not_confirmed", dir.path());
    wait_until_ready(&mut child);
    assert!(wait(&mut child).success());
}
