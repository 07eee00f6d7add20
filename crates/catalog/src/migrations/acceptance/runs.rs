//! From pending to done or failed, and again.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use super::support::{Gate, Kind, LIMIT, Place, ended, put, within};
use crate::migrations::{MigCtx, MigError, Runner, Scheduled, Status};

on_both!(
    pending_then_done,
    panic_captured,
    second_call_noop,
    failed_row_retried,
    pending_row_retried,
    error_recorded,
    closed_store_typed_error,
    names_and_rows_are_checked,
);

fn pending_then_done(kind: Kind) {
    let place = Place::new(kind);
    let gate = Gate::default();
    let runner = Arc::new(Runner::new(place.open()));
    let scheduled = {
        let (runner, gate) = (Arc::clone(&runner), gate.clone());
        let schedule = move || {
            runner.schedule("m", move |_: &mut MigCtx<'_>| -> Result<(), MigError> {
                gate.wait();
                Ok(())
            })
        };
        within(LIMIT / 2, schedule).unwrap()
    };
    assert_eq!(scheduled, Scheduled::Started);
    let elsewhere = Runner::new(place.open());
    let row = elsewhere.status("m").unwrap().unwrap();
    assert_eq!((row.status, row.ended_at, row.attempt), (Status::PendingAsync, None, 1));
    assert!(!runner.is_done("m").unwrap());
    gate.open();
    let row = ended(&runner, "m");
    assert_eq!((row.status, row.error.as_deref()), (Status::Done, None));
    assert!(row.ended_at.unwrap() >= row.started_at);
    assert!(runner.is_done("m").unwrap());
    assert_eq!(runner.list().unwrap(), [row]);
    assert_eq!(runner.status("another").unwrap(), None);
}

fn panic_captured(kind: Kind) {
    let place = Place::new(kind);
    let runner = Runner::new(place.open());
    runner
        .schedule("text", |_: &mut MigCtx<'_>| -> Result<(), MigError> { panic!("went {}", "wrong") })
        .unwrap();
    let other = |_: &mut MigCtx<'_>| -> Result<(), MigError> { std::panic::panic_any(7u8) };
    runner.schedule("other", other).unwrap();
    let row = ended(&runner, "text");
    assert_eq!(row.status, Status::Failed);
    assert!(row.error.unwrap().contains("went wrong"));
    let row = ended(&runner, "other");
    assert_eq!(row.status, Status::Failed);
    assert!(!row.error.unwrap().is_empty());
}

/// Counts how often it runs.
fn counting(count: &Arc<AtomicUsize>) -> impl FnOnce(&mut MigCtx<'_>) -> Result<(), MigError> + use<> {
    let count = Arc::clone(count);
    move |_| {
        count.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }
}

fn second_call_noop(kind: Kind) {
    let place = Place::new(kind);
    let count = Arc::default();
    let runner = Runner::new(place.open());
    assert_eq!(runner.schedule("m", counting(&count)).unwrap(), Scheduled::Started);
    ended(&runner, "m");
    assert_eq!(runner.schedule("m", counting(&count)).unwrap(), Scheduled::AlreadyDone);
    let row = ended(&runner, "m");
    drop(runner);
    place.close();
    let runner = Runner::new(place.open());
    assert_eq!(runner.schedule("m", counting(&count)).unwrap(), Scheduled::AlreadyDone);
    assert_eq!(ended(&runner, "m"), row);
    assert_eq!(count.load(Ordering::SeqCst), 1);
}

fn failed_row_retried(kind: Kind) {
    let place = Place::new(kind);
    let runner = Runner::new(place.open());
    runner
        .schedule("m", |ctx: &mut MigCtx<'_>| {
            ctx.progress(3, Some(9));
            Err("no luck")
        })
        .unwrap();
    let row = ended(&runner, "m");
    assert_eq!((row.status, row.error.as_deref()), (Status::Failed, Some("no luck")));
    assert_eq!((row.rows_processed, row.rows_total), (3, Some(9)));
    let (started, gate) = (Gate::default(), Gate::default());
    let (is_started, may_end) = (started.clone(), gate.clone());
    let second = move |_: &mut MigCtx<'_>| -> Result<(), MigError> {
        is_started.open();
        may_end.wait();
        Ok(())
    };
    assert_eq!(runner.schedule("m", second).unwrap(), Scheduled::Started);
    started.wait();
    let row = runner.status("m").unwrap().unwrap();
    assert_eq!((row.status, row.error, row.ended_at), (Status::PendingAsync, None, None));
    assert_eq!((row.rows_processed, row.rows_total, row.attempt), (0, None, 2));
    gate.open();
    let row = ended(&runner, "m");
    assert_eq!((row.status, row.error), (Status::Done, None));
}

fn pending_row_retried(kind: Kind) {
    let place = Place::new(kind);
    let db = place.open();
    let dead = r#"{"status":"pending_async","started_at":"2020-01-01T00:00:00Z","attempt":4,"owner":"dead",
        "rows_processed":5,"lease_until":"2020-01-01T00:00:30Z"}"#;
    put(&*db, [("migration:m".to_owned(), dead.to_owned())]);
    let count = Arc::default();
    let runner = Runner::new(db);
    assert_eq!(runner.status("m").unwrap().unwrap().rows_processed, 5);
    assert_eq!(runner.schedule("m", counting(&count)).unwrap(), Scheduled::Started);
    let row = ended(&runner, "m");
    assert_eq!((row.status, row.attempt, row.rows_processed), (Status::Done, 5, 0));
    assert_eq!(count.load(Ordering::SeqCst), 1);
}

/// An error without words.
struct Silent;

impl fmt::Display for Silent {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        Ok(())
    }
}

fn error_recorded(kind: Kind) {
    let place = Place::new(kind);
    let runner = Runner::new(place.open());
    runner.schedule("words", |_: &mut MigCtx<'_>| Err("the reason")).unwrap();
    runner.schedule("silent", |_: &mut MigCtx<'_>| Err(Silent)).unwrap();
    let row = ended(&runner, "words");
    assert_eq!((row.status, row.error.as_deref()), (Status::Failed, Some("the reason")));
    assert!(row.ended_at.is_some());
    let row = ended(&runner, "silent");
    assert_eq!(row.status, Status::Failed);
    assert!(row.error.unwrap().ends_with("Silent"));
}

fn closed_store_typed_error(kind: Kind) {
    let place = Place::new(kind);
    let runner = Runner::new(place.open());
    place.close();
    let f = |_: &mut MigCtx<'_>| -> Result<(), MigError> { panic!("it must not run") };
    let errors = [
        runner.schedule("m", f).unwrap_err(),
        runner.schedule_unless_legacy(b"config:old", "m", f).unwrap_err(),
        runner.status("m").unwrap_err(),
        runner.is_done("m").unwrap_err(),
        runner.list().unwrap_err(),
        runner.wait("m", LIMIT).unwrap_err(),
        runner.wait_all(LIMIT).unwrap_err(),
    ];
    for error in errors {
        assert!(matches!(error, MigError::StoreClosed { .. }), "{error}");
    }
}

fn names_and_rows_are_checked(kind: Kind) {
    let place = Place::new(kind);
    let db = place.open();
    put(&*db, [("migration:torn".to_owned(), r#"{"status":"pend"#.to_owned())]);
    let runner = Runner::new(db);
    let f = |_: &mut MigCtx<'_>| -> Result<(), MigError> { panic!("it must not run") };
    for name in ["", "Upper", "a b", "a:b", &"x".repeat(101)] {
        assert!(matches!(runner.schedule(name, f), Err(MigError::BadName { .. })), "{name:?}");
    }
    assert!(matches!(runner.schedule("torn", f), Err(MigError::BadRow { .. })));
    assert!(matches!(runner.list(), Err(MigError::BadRow { name, .. }) if name == "torn"));
}
