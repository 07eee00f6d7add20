//! Live sources: what comes, comes; what goes wrong has a name; whoever waits can be stopped; no program is left behind.
#![allow(clippy::unwrap_used, clippy::panic)]

mod sources;

use std::{
    fs,
    io::{self, Write},
    os::fd::AsRawFd,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use icecore_ledger::{Decoder, Error, LedgerSeq, LiveSource, LiveStream, Source};
use icecore_stellar::{
    StellarDecoder,
    source::{
        GENERATED_PASSPHRASE, Generator, Lake, LakeOptions, Layout, Packing,
        live::{self, Fault, FramedInput, FramedLive, Playback, Played, open_sink},
        write_framed, write_lake,
    },
};
use sources::{drain, range};

const GENESIS: LedgerSeq = LedgerSeq(2);

fn generator() -> Generator {
    "gen:ledgers=8,txs=2".parse().unwrap()
}

fn playback(first: u32, last: u32, faults: &[&str]) -> Playback {
    let faults = faults.iter().map(|fault| fault.parse().unwrap()).collect();
    Playback { faults, ..Playback::of(range(first, last)) }
}

fn sent(first: u32, last: u32, faults: &[&str]) -> Vec<u8> {
    let mut out = Vec::new();
    playback(first, last, faults).run(&generator(), &mut out, &mut |_| false).unwrap();
    out
}

fn framed(text: &str) -> FramedLive {
    FramedLive::new(text.parse().unwrap())
}

fn fifo(dir: &Path) -> PathBuf {
    let path = dir.join("pipe");
    rustix::fs::mkfifoat(rustix::fs::CWD, &path, rustix::fs::Mode::RWXU).unwrap();
    path
}

/// Writes from a thread, as another program would; a pipe that its reader leaves is no concern of this one.
fn writer(path: &Path, bytes: Vec<u8>) -> JoinHandle<()> {
    let path = path.to_owned();
    std::thread::spawn(move || drop(fs::OpenOptions::new().write(true).open(path).unwrap().write_all(&bytes)))
}

/// Guards a test against waiting for ever.
fn until(deadline: Duration) -> impl Fn() -> bool + Sync {
    let began = Instant::now();
    move || began.elapsed() > deadline
}

/// The sequences that come before an error, or before `wanted` have come.
fn take(stream: &mut dyn LiveStream, wanted: usize) -> (Vec<u32>, Option<Error>) {
    let mut seqs = Vec::new();
    while seqs.len() < wanted {
        match stream.next_ledger() {
            Ok(Some(ledger)) => seqs.push(ledger.seq.0),
            Ok(None) => panic!("stopped after {seqs:?}"),
            Err(error) => {
                let again = stream.next_ledger();
                assert!(again.is_err(), "it goes on after {error}");
                return (seqs, Some(error));
            }
        }
    }
    (seqs, None)
}

#[test]
fn texts_name_sources() {
    for text in ["pipe:/tmp/a b", "fd:7", "-", "exec:a 'b c' | d:e", "exec,fd=3:core run"] {
        assert_eq!(text.parse::<FramedInput>().unwrap().to_string(), text);
        assert_eq!(live::open(text).unwrap().source.describe(), text);
    }
    let dir = tempfile::tempdir().unwrap();
    let (pipe, file) = (fifo(dir.path()), dir.path().join("file"));
    fs::write(&file, "").unwrap();
    for (text, says) in [
        ("", "exec:COMMAND"),
        ("pip:/a", "pipe:PATH"),
        ("pipe:", "missing"),
        ("exec: ", "missing"),
        ("exec,fd=3:", "missing"),
        ("exec,fd=2:a", "3 to 9"),
        ("exec,fd=10:a", "3 to 9"),
        ("fd:-1", "not the number"),
        ("fd:4294967295", "not the number"),
        (dir.path().to_str().unwrap(), "say lake:"),
        (pipe.to_str().unwrap(), "say pipe:"),
        (file.to_str().unwrap(), "bulk source"),
    ] {
        let Err(Error::Config { what, .. }) = live::open(text) else { panic!("{text} is accepted") };
        assert!(what.contains(says), "{text}: {what}");
    }
    assert!(matches!(live::open(&format!("lake:{}", dir.path().display())), Err(Error::Empty { .. })));
    for (text, says) in [
        (format!("pipe:{}/none", dir.path().display()), "mkfifo"),
        (format!("pipe:{}", file.display()), "no named pipe"),
        ("fd:987654".to_owned(), "without a descriptor"),
    ] {
        let source = framed(&text);
        // A failure to open leaves nothing taken.
        for _ in 0..2 {
            let error = source.open(GENESIS, &|| false).err().unwrap();
            assert!(matches!(error, Error::Config { .. }) && error.to_string().contains(says), "{error}");
        }
    }
}

#[test]
fn faults_read_and_are_refused() {
    for fault in [
        "cut@1",
        "garbage@1",
        "huge@1",
        "damage@1",
        "skip@1",
        "skip@1-3",
        "repeat@1",
        "lie@1:2",
        "hang@1",
        "exit@1:255",
    ] {
        assert!(fault.parse::<Fault>().is_ok(), "{fault}");
    }
    for fault in ["", "cut", "cut@", "cut@x", "skip@3-1", "lie@1", "exit@1", "exit@1:256", "burn@1"] {
        assert!(fault.parse::<Fault>().is_err(), "{fault}");
    }
}

/// What a fault of the sender is to the reader.
#[test]
fn each_fault_is_told_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let pipe = fifo(dir.path());
    let cases: &[(&str, &[u32], &str)] = &[
        ("skip@4-5", &[2, 3, 6, 7, 8, 9], ""),
        ("repeat@5", &[2, 3, 4, 5, 5, 6, 7, 8, 9], ""),
        ("lie@5:90", &[2, 3, 4, 90, 6, 7, 8, 9], ""),
        ("damage@5", &[2, 3, 4, 5, 6, 7, 8, 9], ""),
        ("exit@5:3", &[2, 3, 4], ""),
        ("cut@5", &[2, 3, 4], "in the middle of ledger 5"),
        ("garbage@5", &[2, 3, 4], "0x74686973 is not a frame's length"),
        ("huge@5", &[2, 3, 4], "2147483647 bytes, where at most 268435456"),
    ];
    for (fault, seqs, error) in cases {
        let sender = writer(&pipe, sent(2, 9, &[fault]));
        let source = framed(&format!("pipe:{}", pipe.display()));
        let stop = until(Duration::from_secs(20));
        let mut stream = source.open(GENESIS, &stop).unwrap();
        let (came, found) = take(&mut *stream, if error.is_empty() { seqs.len() } else { usize::MAX });
        assert_eq!(&came, seqs, "{fault}");
        match found {
            None => assert!(error.is_empty(), "{fault}"),
            Some(found) => {
                assert!(found.to_string().contains(error), "{fault}: {found}");
                let is_cut = fault.starts_with("cut");
                assert_eq!((found.is_retryable(), found.is_corrupt()), (is_cut, !is_cut), "{fault}");
                if let Error::Corrupt { offset, .. } = found {
                    assert_eq!(offset, sent(2, 4, &[]).len() as u64, "{fault}");
                }
            }
        }
        drop(stream);
        sender.join().unwrap();
        // Whatever happened, the next writer is heard.
        let sender = writer(&pipe, sent(9, 9, &[]));
        assert_eq!(take(&mut *source.open(GENESIS, &stop).unwrap(), 1).0, [9], "after {fault}");
        sender.join().unwrap();
    }
}

#[test]
fn the_bytes_are_those_that_were_sent() {
    let dir = tempfile::tempdir().unwrap();
    let pipe = fifo(dir.path());
    let all = drain(&generator(), range(2, 9)).unwrap();
    let sender = writer(&pipe, sent(2, 9, &["damage@5"]));
    let source = framed(&format!("pipe:{}", pipe.display()));
    let stop = until(Duration::from_secs(20));
    let mut stream = source.open(GENESIS, &stop).unwrap();
    for raw in &all {
        let ledger = stream.next_ledger().unwrap().unwrap();
        assert_eq!(ledger.bytes == raw, ledger.seq != LedgerSeq(5));
        assert_eq!(StellarDecoder.decode(ledger.bytes).is_ok(), ledger.seq != LedgerSeq(5));
    }
    sender.join().unwrap();
}

#[test]
fn a_limit_on_ledgers_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let longest = drain(&generator(), range(2, 9)).unwrap().iter().map(Vec::len).max().unwrap() as u32;
    let file = dir.path().join("frames");
    fs::write(&file, sent(2, 9, &[])).unwrap();
    for (limit, fits) in [(longest, true), (longest - 1, false)] {
        let source = framed(&format!("exec:cat '{}'", file.display())).max_ledger_bytes(limit);
        let (seqs, error) = take(&mut *source.open(GENESIS, &|| false).unwrap(), usize::MAX);
        let error = error.unwrap();
        assert_eq!(
            (seqs.len() == 8, error.is_retryable(), error.is_corrupt()),
            (fits, fits, !fits),
            "{error}"
        );
    }
}

/// `stop` is asked again and again while nothing comes.
#[test]
fn whoever_waits_is_stopped() {
    let dir = tempfile::tempdir().unwrap();
    let pipe = fifo(dir.path());
    let lake = dir.path().join("lake");
    fs::create_dir(&lake).unwrap();
    let one = "1".parse().unwrap();
    let layout = Layout { ledgers_per_batch: one, batches_per_partition: one };
    write_lake(&generator(), range(2, 9), &lake, &layout, GENERATED_PASSPHRASE).unwrap();
    let (reader, _writer) = io::pipe().unwrap();
    for text in [
        format!("pipe:{}", pipe.display()),
        format!("fd:{}", reader.as_raw_fd()),
        format!("lake:{}", lake.display()),
        "exec:exec sleep 1000".to_owned(),
    ] {
        let source = live::open(&text).unwrap().source;
        let asked = AtomicUsize::new(0);
        let stop = || asked.fetch_add(1, SeqCst) >= 5;
        let mut stream = source.open(LedgerSeq(10), &stop).unwrap();
        assert!(stream.next_ledger().unwrap().is_none(), "{text}");
        assert!(stream.next_ledger().unwrap().is_none(), "{text}");
        assert!(asked.load(SeqCst) >= 6, "{text}");
    }
}

#[test]
fn a_stream_stopped_within_a_ledger_goes_on_there() {
    let (reader, mut writer) = io::pipe().unwrap();
    let source = framed(&format!("fd:{}", reader.as_raw_fd()));
    let bytes = sent(2, 3, &[]);
    for (at, part) in bytes.chunks(1 + bytes.len() / 7).enumerate() {
        writer.write_all(part).unwrap();
        let asked = AtomicUsize::new(0);
        let stop = || asked.fetch_add(1, SeqCst) >= 3;
        let mut stream = source.open(GENESIS, &stop).unwrap();
        let mut came = Vec::new();
        while let Some(ledger) = stream.next_ledger().unwrap() {
            came.push(ledger.seq.0);
        }
        match at {
            3 => assert_eq!(came, [2]),
            6 => assert_eq!(came, [3]),
            _ => assert!(came.is_empty(), "{at}: {came:?}"),
        }
    }
    // One at a time.
    let stream = source.open(GENESIS, &|| false).unwrap();
    assert!(matches!(source.open(GENESIS, &|| false), Err(Error::Config { .. })));
    drop(stream);
    drop(writer);
    // Nothing more can come, and that is said each time.
    for _ in 0..2 {
        let (none, error) = take(&mut *source.open(GENESIS, &|| false).unwrap(), 1);
        assert!(none.is_empty() && matches!(error, Some(Error::Ended { .. })), "{error:?}");
    }
}

#[test]
fn a_descriptor_that_gave_garbage_stays_lost() {
    let (reader, mut writer) = io::pipe().unwrap();
    writer.write_all(&sent(2, 5, &["garbage@4"])).unwrap();
    let source = framed(&format!("fd:{}", reader.as_raw_fd()));
    let (came, error) = take(&mut *source.open(GENESIS, &|| false).unwrap(), 9);
    assert_eq!(came, [2, 3]);
    assert!(error.unwrap().is_corrupt());
    for _ in 0..2 {
        assert!(source.open(GENESIS, &|| false).err().unwrap().is_corrupt());
    }
}

#[test]
fn writers_of_a_pipe_come_and_go() {
    let dir = tempfile::tempdir().unwrap();
    let pipe = fifo(dir.path());
    let source = framed(&format!("pipe:{}", pipe.display()));
    let stop = until(Duration::from_secs(20));
    let mut stream = source.open(GENESIS, &stop).unwrap();
    for (first, last) in [(2, 4), (5, 5), (6, 9)] {
        let sender = writer(&pipe, sent(first, last, &[]));
        let (came, _) = take(&mut *stream, (last - first + 1) as usize);
        assert_eq!(came, (first..=last).collect::<Vec<_>>());
        sender.join().unwrap();
    }
}

fn exists(pid: &str) -> bool {
    // One that has exited and was not waited for has an empty command line.
    fs::read(format!("/proc/{}/cmdline", pid.trim())).is_ok_and(|line| !line.is_empty())
}

#[test]
fn a_program_is_ended_with_all_that_it_started() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().display();
    fs::write(dir.path().join("frames"), sent(2, 3, &[])).unwrap();
    // One that is deaf, with a child in the background; one that ends when asked, and says so.
    let deaf = format!(
        "exec:trap '' TERM; sleep 1000 & echo $! > {at}/second; echo $$ > {at}/first; cat {at}/frames; wait"
    );
    let polite = format!(
        "exec:trap 'echo bye > {at}/bye; exit 0' TERM; sleep 1000 & echo $! > {at}/second; echo $$ > {at}/first; \
         cat {at}/frames; wait"
    );
    for (text, grace) in [(deaf, Duration::from_millis(20)), (polite, Duration::from_secs(20))] {
        let source = framed(&text).grace(grace);
        let mut stream = source.open(GENESIS, &|| false).unwrap();
        assert_eq!(take(&mut *stream, 2).0, [2, 3]);
        let pids = ["first", "second"].map(|name| fs::read_to_string(dir.path().join(name)).unwrap());
        assert!(pids.iter().all(|pid| exists(pid)), "{text}");
        drop(stream);
        assert!(!Path::new(&format!("/proc/{}", pids[0].trim())).exists(), "it was not waited for: {text}");
        // The kill is sent; to be gone takes the system a moment, as nobody waits for a grandchild.
        let late = until(Duration::from_secs(20));
        while exists(&pids[1]) {
            assert!(!late(), "{text} left a program behind");
            std::thread::yield_now();
        }
    }
    assert_eq!(fs::read_to_string(dir.path().join("bye")).unwrap(), "bye\n");
}

#[test]
fn a_program_is_started_anew_each_time() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().display();
    fs::write(dir.path().join("frames"), sent(2, 3, &[])).unwrap();
    let source = framed(&format!("exec:echo started >> {at}/log; cat {at}/frames; exit 3"));
    for starts in 1..=3 {
        let (came, error) = take(&mut *source.open(GENESIS, &|| false).unwrap(), 9);
        assert_eq!(came, [2, 3]);
        let error = error.unwrap();
        assert!(error.is_retryable(), "{error}");
        assert!(error.to_string().contains("between two ledgers; exit status: 3"), "{error}");
        assert_eq!(fs::read_to_string(dir.path().join("log")).unwrap().lines().count(), starts);
    }
    let killed = framed(&format!("exec:head -c 100 {at}/frames; kill -9 $$"));
    let (_, error) = take(&mut *killed.open(GENESIS, &|| false).unwrap(), 9);
    let error = error.unwrap().to_string();
    assert!(error.contains("at byte 100") && error.contains("signal: 9"), "{error}");
    let none = framed("exec:/no/such/program");
    let (_, error) = take(&mut *none.open(GENESIS, &|| false).unwrap(), 9);
    assert!(error.unwrap().to_string().contains("exit status: 127"));
    let away = framed("exec:exec >&-; sleep 1000").grace(Duration::from_secs(20));
    let (_, error) = take(&mut *away.open(GENESIS, &|| false).unwrap(), 9);
    assert!(error.unwrap().to_string().contains("it was stopped"));
}

/// What is logged, for looking at.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn what_a_program_says_is_logged_line_by_line() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().display();
    fs::write(dir.path().join("frames"), sent(2, 3, &[])).unwrap();
    let lines = Lines::default();
    let writer = lines.clone();
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
    tracing::subscriber::with_default(subscriber, || {
        // More words than a pipe holds, while ledgers are waited for; a line without end; standard output as text.
        let chatty = "i=0; while [ $i -lt 3000 ]; do echo a line of words that is told, number $i >&2; i=$((i+1)); done";
        let source = framed(&format!(
            "exec,fd=3:{chatty}; echo on the side; cat {at}/frames >&3; printf 'last words' >&2"
        ));
        let (came, error) = take(&mut *source.open(GENESIS, &|| false).unwrap(), 9);
        assert_eq!(came, [2, 3]);
        assert!(error.unwrap().to_string().contains("exit status: 0"));
        let endless = framed("exec:head -c 100000 /dev/zero | tr '\\0' x >&2");
        take(&mut *endless.open(GENESIS, &|| false).unwrap(), 9);
    });
    let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
    for words in ["number 0", "number 2999", "on the side", "last words"] {
        let told = format!("{words} pid=");
        assert_eq!(text.lines().filter(|line| line.contains(&told)).count(), 1, "{words}");
    }
    assert!(text.lines().all(|line| line.len() < 10_000));
    let endless = text.lines().filter(|line| line.contains("xxxxxxxxxx"));
    assert_eq!(endless.map(|line| line.matches('x').count()).sum::<usize>(), 100_000);
}

fn lake_layout() -> Layout {
    Layout { ledgers_per_batch: "2".parse().unwrap(), batches_per_partition: "2".parse().unwrap() }
}

/// A lake of ledgers 2 to 9, and the objects to put into another one.
fn lake(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let whole = dir.join("whole");
    fs::create_dir(&whole).unwrap();
    write_lake(&generator(), range(2, 9), &whole, &lake_layout(), GENERATED_PASSPHRASE).unwrap();
    let names = (2..=9).step_by(2).map(|seq| {
        let layout = lake_layout();
        layout.object_name(layout.batch_of(LedgerSeq(seq)))
    });
    names.map(|name| (dir.join("grows").join(&name), fs::read(whole.join(&name)).unwrap())).collect()
}

fn put(path: &Path, bytes: &[u8]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

fn growing(dir: &Path, patience: Duration) -> Lake {
    fs::create_dir_all(dir.join("grows")).unwrap();
    let options = LakeOptions {
        layout: Some(lake_layout()),
        ask_every: Duration::from_millis(1),
        patience,
        ..LakeOptions::default()
    };
    Lake::with_store(Arc::new(icecore_stellar::source::DirStore::new(dir.join("grows"))), options).unwrap()
}

#[test]
fn a_lake_is_followed_as_it_grows() {
    let dir = tempfile::tempdir().unwrap();
    let objects = lake(dir.path());
    let live = growing(dir.path(), Duration::from_secs(1000));
    // Each time the stream waits, half a batch is written, then all of it. The lake begins empty.
    let steps = AtomicUsize::new(0);
    let late = until(Duration::from_secs(20));
    let stop = || {
        let step = steps.fetch_add(1, SeqCst);
        if let Some((path, bytes)) = objects.get(step / 6) {
            match step % 6 {
                2 => put(path, &bytes[..bytes.len() / 2]),
                4 => put(path, bytes),
                _ => (),
            }
        }
        late()
    };
    let mut stream = LiveSource::open(&live, GENESIS, &stop).unwrap();
    assert_eq!(take(&mut *stream, 8).0, (2..=9).collect::<Vec<_>>());
    drop(stream);
    // Whoever asks for less than there is, gets that; whoever asks for what is gone, what is left.
    assert_eq!(take(&mut *LiveSource::open(&live, LedgerSeq(7), &late).unwrap(), 3).0, [7, 8, 9]);
    fs::remove_file(&objects[0].0).unwrap();
    assert_eq!(take(&mut *LiveSource::open(&live, GENESIS, &late).unwrap(), 2).0, [4, 5]);
}

#[test]
fn a_lake_with_a_hole_or_a_stump_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let objects = lake(dir.path());
    for (path, bytes) in &objects {
        put(path, bytes);
    }
    let live = growing(dir.path(), Duration::ZERO);
    let name = objects[1].0.file_name().unwrap().to_str().unwrap();
    fs::remove_file(&objects[1].0).unwrap();
    let (came, error) = take(&mut *LiveSource::open(&live, GENESIS, &|| false).unwrap(), 9);
    let error = error.unwrap();
    assert_eq!(came, [2, 3]);
    assert!(matches!(&error, Error::Missing { .. }) && error.to_string().contains(name), "{error}");
    for (bytes, is_cut) in [(&objects[1].1[..100], true), (b"garbage garbage".as_slice(), false), (&[], true)]
    {
        put(&objects[1].0, bytes);
        let (came, error) = take(&mut *LiveSource::open(&live, GENESIS, &|| false).unwrap(), 9);
        let error = error.unwrap();
        assert_eq!(came, [2, 3]);
        assert!(error.is_corrupt() && error.to_string().contains(name), "{error}");
        assert_eq!(matches!(error, Error::Truncated { .. }), is_cut, "{error}");
    }
    put(&objects[1].0, &objects[2].1);
    let (_, error) = take(&mut *LiveSource::open(&live, GENESIS, &|| false).unwrap(), 9);
    assert!(matches!(error, Some(Error::Foreign { .. })), "{error:?}");
}

#[test]
fn a_playback_keeps_its_pace_and_stops() {
    let generator = generator();
    let mut pauses = Vec::new();
    let paced = Playback { pace: Duration::from_secs(5), ..playback(2, 5, &["hang@5"]) };
    let mut out = Vec::new();
    let ended = paced.run(&generator, &mut out, &mut |time| {
        pauses.push(time.as_secs());
        pauses.len() == 7
    });
    // A hang goes on until it is stopped.
    assert_eq!(ended.unwrap(), Played::Stopped);
    assert_eq!(pauses, [0, 5, 5, 5, 1, 1, 1]);
    assert_eq!(out, sent(2, 4, &[]));
    let mut whole = Vec::new();
    write_framed(&generator, range(2, 4), &mut whole, Packing::Plain).unwrap();
    assert_eq!(out, whole);
    assert_eq!(
        playback(2, 5, &["exit@4:7"]).run(&generator, &mut io::sink(), &mut |_| false).unwrap(),
        Played::Faulted { code: 7 }
    );
    assert_eq!(playback(2, 5, &[]).run(&generator, &mut io::sink(), &mut |_| true).unwrap(), Played::Stopped);
    assert!(playback(2, 50, &[]).run(&generator, &mut io::sink(), &mut |_| false).is_err());
}

#[test]
fn what_is_sent_to_a_pipe_waits_for_its_reader() {
    let dir = tempfile::tempdir().unwrap();
    let pipe = fifo(dir.path());
    // Nobody reads: opening ends when told to.
    let asked = AtomicUsize::new(0);
    let stop = || asked.fetch_add(1, SeqCst) >= 3;
    assert!(open_sink(pipe.to_str().unwrap(), &stop).err().unwrap().is_retryable());
    // Somebody opens and does not read: writing ends when told to, and that is no error.
    let source = framed(&format!("pipe:{}", pipe.display()));
    let stream = source.open(GENESIS, &|| false).unwrap();
    let full = AtomicUsize::new(0);
    let stop = || full.fetch_add(1, SeqCst) >= 3;
    let large: Generator = "gen:ledgers=100,txs=200".parse().unwrap();
    let mut sink = open_sink(pipe.to_str().unwrap(), &stop).unwrap();
    let ended = Playback::of(large.range().unwrap()).run(&large, &mut sink, &mut |_| full.load(SeqCst) > 3);
    assert_eq!(ended.unwrap(), Played::Stopped);
    drop((stream, sink));
    drop(source);
    // And with a reader all comes through.
    let path = pipe.to_str().unwrap().to_owned();
    let sender = std::thread::spawn(move || {
        let mut sink = open_sink(&path, &|| false).unwrap();
        Playback::of(large.range().unwrap()).run(&large, &mut sink, &mut |_| false).unwrap()
    });
    let source = framed(&format!("pipe:{}", pipe.display()));
    let stop = until(Duration::from_secs(20));
    assert_eq!(take(&mut *source.open(GENESIS, &stop).unwrap(), 100).0, (2..=101).collect::<Vec<_>>());
    assert_eq!(sender.join().unwrap(), Played::Whole);
    let file = dir.path().join("file");
    fs::write(&file, vec![0; 1 << 20]).unwrap();
    let mut sink = open_sink(file.to_str().unwrap(), &|| false).unwrap();
    playback(2, 4, &[]).run(&generator(), &mut sink, &mut |_| false).unwrap();
    assert_eq!(fs::read(&file).unwrap(), sent(2, 4, &[]));
}
