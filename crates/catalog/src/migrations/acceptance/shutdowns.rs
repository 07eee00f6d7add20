//! Opening that does not wait, waiting that ends, and closing.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use super::support::{Gate, Kind, LIMIT, ManualClock, Place, data, ended, put, until, within};
use crate::migrations::{
    BackfillSpec, MigCtx, MigError, Runner, Scheduled, ShutdownOutcome, Status, WaitOutcome, backfill,
};

on_both!(close_during_migration, close_during_long_step, boot_not_blocked, wait_all_vs_schedule, drop_joins);

/// A backfill that pauses for an hour between two rows.
fn slow(ctx: &mut MigCtx<'_>) -> Result<(), MigError> {
    let spec = BackfillSpec {
        chunk_rows: 1,
        pause: Duration::from_secs(3600),
        ..BackfillSpec::row_by_row("audit:", "audit;")
    };
    let fill =
        |_: &dyn crate::migrations::Rows, changes: &mut crate::migrations::Changes, key: &[u8], _: &[u8]| {
            changes.put(key, "filled");
            Ok(())
        };
    backfill(ctx, &spec, |_, value| value != b"filled", fill).map(|_| ())
}

fn close_during_migration(kind: Kind) {
    let place = Place::new(kind);
    let db = place.open();
    put(&*db, (0..5).map(|n| (format!("audit:{n}"), String::new())));
    let runner = Runner::with_clock(db, ManualClock::new(false));
    assert_eq!(runner.schedule("m", slow).unwrap(), Scheduled::Started);
    assert_eq!(
        runner.wait("m", Duration::ZERO).unwrap(),
        WaitOutcome::StillRunning { names: vec!["m".into()] }
    );
    assert_eq!(runner.shutdown(LIMIT / 2), ShutdownOutcome::Clean);
    drop(runner);
    place.close();
    let runner = Runner::new(place.open());
    let row = runner.status("m").unwrap().unwrap();
    assert_eq!(row.status, Status::Failed);
    assert!(row.error.unwrap().starts_with("cancelled"));
}

fn close_during_long_step(kind: Kind) {
    let place = Place::new(kind);
    let (inside, gate) = (Gate::default(), Gate::default());
    let (is_inside, may_end) = (inside.clone(), gate.clone());
    let runner = Runner::new(place.open());
    let f = move |ctx: &mut MigCtx<'_>| {
        ctx.write_long(Duration::from_secs(60), |_, changes| {
            is_inside.open();
            may_end.wait();
            changes.put("audit:long", "step");
            Ok(())
        })
    };
    runner.schedule("m", f).unwrap();
    inside.wait();
    let names = vec!["m".to_owned()];
    assert_eq!(runner.shutdown(Duration::from_millis(20)), ShutdownOutcome::StillRunning { names });
    // The store is still open to the step, and to those who only look.
    assert_eq!(runner.status("m").unwrap().unwrap().status, Status::PendingAsync);
    gate.open();
    assert_eq!(runner.shutdown(LIMIT), ShutdownOutcome::Clean);
    assert_eq!(data(&*place.open()).len(), 1);
    assert_eq!(runner.status("m").unwrap().unwrap().status, Status::Done);
}

fn boot_not_blocked(kind: Kind) {
    let place = Place::new(kind);
    let db = place.open();
    put(&*db, (0..5_000).map(|n| (format!("audit:{n:04}"), String::new())));
    drop(db);
    place.close();
    // As at a start: the store is opened, migrations are scheduled, and live work begins.
    let gate = Gate::default();
    let opened = {
        let (db, gate) = (place.open(), gate.clone());
        within(LIMIT / 2, move || {
            let runner = Runner::new(Arc::clone(&db));
            let f = move |ctx: &mut MigCtx<'_>| {
                gate.wait();
                slow(ctx)
            };
            assert_eq!(runner.schedule("m", f).unwrap(), Scheduled::Started);
            put(&*db, [("audit:~live".to_owned(), "first".to_owned())]);
            runner
        })
    };
    assert_eq!(opened.status("m").unwrap().unwrap().status, Status::PendingAsync);
    let stored = data(&*place.open());
    assert_eq!(stored.len(), 5_001);
    assert!(stored.iter().all(|(_, value)| value != "filled"));
    gate.open();
    assert_eq!(opened.shutdown(LIMIT), ShutdownOutcome::Clean);
}

/// Each migration lasts until the next is scheduled, so that there is always one in flight.
fn wait_all_vs_schedule(kind: Kind) {
    let place = Place::new(kind);
    let runner = Runner::new(place.open());
    let (stop, scheduled) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut last = Gate::default();
            for number in 0.. {
                let gate = Gate::default();
                let wait = gate.clone();
                let f = move |_: &mut MigCtx<'_>| -> Result<(), MigError> {
                    wait.wait();
                    Ok(())
                };
                runner.schedule(&format!("m{number}"), f).unwrap();
                scheduled.store(number + 1, Ordering::SeqCst);
                std::mem::replace(&mut last, gate).open();
                if stop.load(Ordering::SeqCst) {
                    break;
                }
            }
            last.open();
        });
        for round in 0..5 {
            until("there is always one", || scheduled.load(Ordering::SeqCst) > 2 * round);
            let before = scheduled.load(Ordering::SeqCst);
            let waited = runner.wait_all(Duration::from_secs(5)).unwrap();
            let rows = runner.list().unwrap();
            let number = |name: &str| name[1..].parse::<usize>().unwrap();
            let open = rows.iter().filter(|row| row.status != Status::Done && number(&row.name) < before);
            let open: Vec<_> = open.map(|row| &row.name).collect();
            if waited != WaitOutcome::Ended || !open.is_empty() {
                stop.store(true, Ordering::SeqCst);
            }
            assert_eq!((waited, open), (WaitOutcome::Ended, vec![]));
        }
        stop.store(true, Ordering::SeqCst);
    });
    assert_eq!(runner.wait_all(LIMIT).unwrap(), WaitOutcome::Ended);
}

fn drop_joins(kind: Kind) {
    let place = Place::new(kind);
    let ends = Arc::new(AtomicUsize::new(0));
    let runner = Runner::new(place.open());
    for name in ["a", "b"] {
        let ends = Arc::clone(&ends);
        let f = move |ctx: &mut MigCtx<'_>| -> Result<(), MigError> {
            ctx.cancel().wait_timeout(LIMIT);
            ends.fetch_add(1, Ordering::SeqCst);
            Ok(())
        };
        runner.schedule(name, f).unwrap();
    }
    drop(runner);
    assert_eq!(ends.load(Ordering::SeqCst), 2);
    // Whoever obeyed too late to be stopped is done.
    assert_eq!(ended(&Runner::new(place.open()), "a").status, Status::Done);
}
