//! Real processes: this test binary, started again.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use super::support::{
    Heard, Kind, LIMIT, Place, Shared, When, data, ended, ends, open_catalog, put, row_in, until,
};
use crate::migrations::{BackfillSpec, MigCtx, MigDb, MigError, Runner, Scheduled, Status, backfill};

const ROLE: &str = "ICECORE_MIGRATIONS_ROLE";
const LEASE: Duration = Duration::from_secs(2);

/// Starts this binary in a role, on a directory.
fn start(role: &str, dir: &Path) -> Child {
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["--exact", "migrations::acceptance::processes::child", "--nocapture"]);
    command.env(ROLE, format!("{role} {}", dir.display())).stdout(Stdio::null());
    command.spawn().unwrap()
}

/// What a process that was started in a role does; nothing otherwise.
#[test]
fn child() {
    let Ok(role) = env::var(ROLE) else { return };
    let mut words = role.splitn(3, ' ');
    let mut word = || words.next().unwrap().to_owned();
    match word().as_str() {
        "claim" => claim(&word(), Path::new(&word())),
        "hang" => hang(Path::new(&word())),
        "crash" => crash(&word(), &word()),
        other => panic!("no role {other}"),
    }
}

fn kill(mut child: Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

/// One of two that want to run the same migration.
fn claim(number: &str, dir: &Path) {
    let runner = Runner::new(Arc::new(Shared::open(dir)));
    fs::write(dir.join(format!("ready-{number}")), "").unwrap();
    until("the start", || dir.join("go").exists());
    let (ran, answers) = (dir.join(format!("ran-{number}")), [1, 2].map(|n| dir.join(format!("answer-{n}"))));
    let f = move |_: &mut MigCtx<'_>| -> Result<(), MigError> {
        fs::write(ran, "").unwrap();
        until("both answers", || answers.iter().all(|answer| answer.exists()));
        Ok(())
    };
    let answer = runner.schedule("m", f).unwrap();
    fs::write(dir.join(format!("answer-{number}")), format!("{answer:?}")).unwrap();
    runner.wait("m", LIMIT).unwrap();
}

#[test]
fn two_processes() {
    let place = Place::new(Kind::Shared);
    let dir = place.dir();
    let children = ["claim 1", "claim 2"].map(|role| start(role, dir));
    until("both are ready", || [1, 2].iter().all(|n| dir.join(format!("ready-{n}")).exists()));
    fs::write(dir.join("go"), "").unwrap();
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    let answers = [1, 2].map(|n| fs::read_to_string(dir.join(format!("answer-{n}"))).unwrap());
    assert_eq!([1, 2].iter().filter(|n| dir.join(format!("ran-{n}")).exists()).count(), 1, "{answers:?}");
    assert_eq!(answers.iter().filter(|answer| *answer == "Started").count(), 1, "{answers:?}");
    let turned_away =
        |answer: &&String| answer.starts_with("ClaimedElsewhere") || answer.starts_with("AlreadyDone");
    assert_eq!(answers.iter().filter(turned_away).count(), 1, "{answers:?}");
    let row = Runner::new(place.open()).status("m").unwrap().unwrap();
    assert_eq!((row.status, row.attempt), (Status::Done, 1));
}

/// One that never ends.
fn hang(dir: &Path) {
    let runner = Runner::new(Arc::new(Shared::open(dir).lease(LEASE)));
    let started = dir.join("started");
    let f = move |_: &mut MigCtx<'_>| -> Result<(), MigError> {
        fs::write(started, "").unwrap();
        loop {
            thread::park();
        }
    };
    runner.schedule("m", f).unwrap();
    thread::sleep(2 * LIMIT);
}

#[test]
fn dead_owner_reclaimed() {
    let place = Place::new(Kind::Shared);
    let owner = start("hang", place.dir());
    until("it runs", || place.dir().join("started").exists());
    let runner = Runner::new(Arc::new(Shared::open(place.dir()).lease(LEASE)));
    let f = |_: &mut MigCtx<'_>| -> Result<(), MigError> { Ok(()) };
    let refused = runner.schedule("m", f).unwrap();
    kill(owner);
    assert!(matches!(refused, Scheduled::ClaimedElsewhere { .. }), "{refused:?}");
    until("the lease ends", || runner.schedule("m", f).unwrap() == Scheduled::Started);
    let row = ended(&runner, "m");
    assert_eq!((row.status, row.attempt), (Status::Done, 2));
}

/// Where a process is killed.
const POINTS: [&str; 4] = ["after-register", "within-f", "after-the-last-chunk", "during-the-end"];

fn doubling(ctx: &mut MigCtx<'_>) -> Result<(), MigError> {
    let spec =
        BackfillSpec { chunk_rows: 3, pause: Duration::ZERO, ..BackfillSpec::row_by_row("audit:", "audit;") };
    let fill = |_: &dyn crate::migrations::Rows,
                changes: &mut crate::migrations::Changes,
                key: &[u8],
                value: &[u8]| {
        changes.put(key, [value, value].concat());
        Ok(())
    };
    backfill(ctx, &spec, |_, value| value.len() < 2, fill).map(|_| ())
}

/// Says that it has come to a point, and stays there, until it is killed.
fn crash(point: &str, dir: &str) {
    let (dir, point) = (PathBuf::from(dir), point.to_owned());
    let db: Arc<dyn MigDb> =
        if dir.join("store").exists() { open_catalog(&dir) } else { Arc::new(Shared::open(&dir)) };
    let (here, steps) = (dir.join("here"), AtomicUsize::new(0));
    let stay = move || -> Result<(), MigError> {
        fs::write(&here, "").unwrap();
        loop {
            thread::park();
        }
    };
    let listened = Heard::new(db, move |when| match (&point[..], when) {
        ("after-register", When::After(changes)) if row_in(changes).is_some() => stay(),
        ("within-f", When::After(changes)) if row_in(changes).is_none() && changes.iter().count() > 0 => {
            if steps.fetch_add(1, Ordering::SeqCst) == 1 {
                stay()
            } else {
                Ok(())
            }
        }
        ("after-the-last-chunk", When::Before(changes)) if ends(changes) => stay(),
        // It is told to go, and killed wherever it is by then.
        ("during-the-end", When::Before(changes)) if ends(changes) => {
            let dir = fs::write(dir.join("here"), "");
            dir.map_err(MigError::failed)
        }
        ("during-the-end", When::After(changes)) if ends(changes) => stay(),
        _ => Ok(()),
    });
    let runner = Runner::new(listened);
    runner.schedule("m", doubling).unwrap();
    thread::sleep(2 * LIMIT);
}

#[test]
fn crash_matrix() {
    let rows = || (0..10).map(|n| (format!("audit:{n}"), n.to_string()));
    let clean: Vec<_> = rows().map(|(key, value)| (key, format!("{value}{value}"))).collect();
    for kind in [Kind::Rocks, Kind::Shared] {
        for point in POINTS {
            let place = Place::new(kind);
            put(&*place.open(), rows());
            place.close();
            let child = start(&format!("crash {point}"), place.dir());
            until(point, || place.dir().join("here").exists());
            kill(child);
            // A lease has no place in this: the next start comes an hour later.
            let clock = super::support::ManualClock::new(false);
            clock.advance(Duration::from_secs(3600));
            let runner = Runner::with_clock(place.open(), clock);
            let before = runner.status("m").unwrap().unwrap();
            if point != "during-the-end" {
                assert_eq!((before.status, before.attempt), (Status::PendingAsync, 1), "{kind:?} {point}");
            }
            runner.schedule("m", doubling).unwrap();
            assert_eq!(ended(&runner, "m").status, Status::Done, "{kind:?} {point}");
            assert_eq!(data(&*place.open()), clean, "{kind:?} {point}");
        }
    }
}
