//! Rows of migrations: progress, those of older programs, and their marks.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use super::support::{Gate, Heard, Kind, Log, ManualClock, Place, When, ended, put, row_in, trouble};
use crate::migrations::{MigCtx, MigError, Runner, Scheduled, Status, mark_legacy};

on_both!(
    progress_rate_limited,
    progress_reset_on_retry,
    progress_columns_added_to_old_table,
    progress_trouble_is_no_failure,
    legacy_marker_skips,
    legacy_marker_written_once,
);

fn progress_rate_limited(kind: Kind) {
    let place = Place::new(kind);
    let (clock, writes) = (ManualClock::new(true), Arc::new(AtomicUsize::new(0)));
    let counted = Arc::clone(&writes);
    let db = Heard::new(place.open(), move |when| {
        if let When::After(changes) = when
            && row_in(changes).is_some_and(|row| row.last_update_at.is_some() && row.ended_at.is_none())
        {
            counted.fetch_add(1, Ordering::SeqCst);
        }
        Ok(())
    });
    let runner = Runner::with_clock(db, clock.clone());
    let f = move |ctx: &mut MigCtx<'_>| -> Result<(), &str> {
        for step in 0..30 {
            ctx.progress(step, Some(31));
            clock.advance(Duration::from_millis(100));
        }
        ctx.progress(31, Some(31));
        Err("at the end")
    };
    runner.schedule("m", f).unwrap();
    let row = ended(&runner, "m");
    // Forced at the end, of a failure too.
    assert_eq!((row.rows_processed, row.rows_total), (31, Some(31)));
    assert_eq!(writes.load(Ordering::SeqCst), 4);
}

fn progress_reset_on_retry(kind: Kind) {
    let place = Place::new(kind);
    let runner = Runner::new(place.open());
    let f = |ctx: &mut MigCtx<'_>| {
        ctx.progress(7, Some(8));
        Err("so far")
    };
    runner.schedule("m", f).unwrap();
    assert_eq!(ended(&runner, "m").rows_processed, 7);
    let gate = Gate::default();
    let wait = gate.clone();
    let f = move |_: &mut MigCtx<'_>| -> Result<(), MigError> {
        wait.wait();
        Ok(())
    };
    runner.schedule("m", f).unwrap();
    let row = runner.status("m").unwrap().unwrap();
    assert_eq!((row.rows_processed, row.rows_total, row.last_update_at), (0, None, None));
    gate.open();
    ended(&runner, "m");
}

/// Rows as the first programs wrote them: without progress, attempts, owners and leases.
fn progress_columns_added_to_old_table(kind: Kind) {
    let place = Place::new(kind);
    let db = place.open();
    let old = |status: &str| format!(r#"{{"status":"{status}","started_at":"2020-01-01T00:00:00Z"}}"#);
    put(&*db, [("migration:done".into(), old("done")), ("migration:open".into(), old("pending_async"))]);
    let runner = Runner::new(db);
    assert_eq!(runner.list().unwrap().len(), 2);
    let f = |ctx: &mut MigCtx<'_>| -> Result<(), MigError> {
        ctx.progress(1, None);
        Ok(())
    };
    assert_eq!(runner.schedule("done", f).unwrap(), Scheduled::AlreadyDone);
    assert_eq!(runner.schedule("open", f).unwrap(), Scheduled::Started);
    let row = ended(&runner, "open");
    assert_eq!((row.status, row.rows_processed, row.attempt), (Status::Done, 1, 1));
}

fn progress_trouble_is_no_failure(kind: Kind) {
    let place = Place::new(kind);
    let (clock, log) = (ManualClock::new(true), Log::default());
    let db = Heard::new(place.open(), |when| match when {
        When::Before(changes)
            if row_in(changes).is_some_and(|row| row.last_update_at.is_some() && row.ended_at.is_none()) =>
        {
            Err(trouble())
        }
        _ => Ok(()),
    });
    let runner = Runner::with_clock(db, clock.clone());
    let f = move |ctx: &mut MigCtx<'_>| -> Result<(), MigError> {
        for step in 0..121 {
            ctx.progress(step, None);
            clock.advance(Duration::from_secs(1));
        }
        Ok(())
    };
    log.record(|| runner.schedule("m", f)).unwrap();
    let row = ended(&runner, "m");
    assert_eq!((row.status, row.rows_processed), (Status::Done, 120));
    let lines = log.lines("cannot write its progress");
    assert_eq!(lines.len(), 3, "once a minute: {lines:?}");
    assert!(lines[2].contains("failures=121"));
}

fn legacy_marker_skips(kind: Kind) {
    let place = Place::new(kind);
    let db = place.open();
    put(&*db, [("config:migrated:m".into(), "by an older program".into())]);
    let runner = Runner::new(db);
    let f = |_: &mut MigCtx<'_>| -> Result<(), MigError> { panic!("it must not run") };
    let scheduled = runner.schedule_unless_legacy(b"config:migrated:m", "m", f).unwrap();
    assert_eq!(scheduled, Scheduled::AlreadyDone);
    assert_eq!(runner.status("m").unwrap(), None);
}

fn legacy_marker_written_once(kind: Kind) {
    let place = Place::new(kind);
    let runner = Runner::new(place.open());
    let f = |ctx: &mut MigCtx<'_>| {
        // Twice, as after a crash between the last step and the end.
        for value in ["first", "second"] {
            ctx.write(|rows, changes| mark_legacy(rows, changes, b"config:migrated:m", value.as_bytes()))?;
        }
        Ok::<_, MigError>(())
    };
    assert_eq!(runner.schedule_unless_legacy(b"config:migrated:m", "m", f).unwrap(), Scheduled::Started);
    assert_eq!(ended(&runner, "m").status, Status::Done);
    let mut found = None;
    let read = place.open().read(&mut |rows| {
        found = rows.get(b"config:migrated:m")?;
        Ok(())
    });
    assert_eq!((read.is_ok(), found.as_deref()), (true, Some(&b"first"[..])));
    assert_eq!(runner.schedule_unless_legacy(b"config:migrated:m", "m", f).unwrap(), Scheduled::AlreadyDone);
}
