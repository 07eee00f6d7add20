//! Many rows, a chunk at a time.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use super::support::{Heard, Kind, LIMIT, ManualClock, Place, When, data, ended, put, row_in, within};
use crate::migrations::{
    BackfillSpec, Changes, Counts, MigCtx, MigDb, MigError, Rows, Runner, ShutdownOutcome, Status, backfill,
};

on_both!(backfill_terminates, backfill_cancel_partial, backfill_counts_honest, backfill_checks_its_spec);

fn spec(chunk_rows: usize) -> BackfillSpec {
    BackfillSpec { chunk_rows, pause: Duration::ZERO, ..BackfillSpec::row_by_row("audit:", "audit;") }
}

/// Not tried yet. `-` says that there is no value, found out once.
fn is_due(_: &[u8], value: &[u8]) -> bool {
    value.is_empty() || value == b"-"
}

fn rows(values: &[&str]) -> Vec<(String, String)> {
    values.iter().enumerate().map(|(n, value)| (format!("audit:{n:02}"), (*value).to_owned())).collect()
}

/// Runs a backfill as a migration, which must end.
fn run(
    place: &Place,
    spec: BackfillSpec,
    fill: impl FnMut(&dyn Rows, &mut Changes, &[u8], &[u8]) -> Result<(), MigError> + Send + 'static,
) -> Result<Counts, MigError> {
    let runner = Runner::with_clock(place.open(), ManualClock::new(true));
    let result = Arc::new(Mutex::new(None));
    let out = Arc::clone(&result);
    let f = move |ctx: &mut MigCtx<'_>| {
        let counts = backfill(ctx, &spec, is_due, fill);
        *out.lock().unwrap() = Some(counts.clone());
        counts.map(|_| ())
    };
    runner.schedule("m", f).unwrap();
    within(LIMIT, move || ended(&runner, "m"));
    result.lock().unwrap().take().unwrap()
}

fn backfill_terminates(kind: Kind) {
    // Rows that stay due however often they are tried: `-` is written again over `-`.
    let place = Place::new(kind);
    put(&*place.open(), rows(&["", "-", "done", "", "-"]));
    let none = |_: &dyn Rows, changes: &mut Changes, key: &[u8], _: &[u8]| {
        changes.put(key, "-");
        Ok(())
    };
    let counts = run(&place, spec(2), none).unwrap();
    assert_eq!((counts.processed, counts.total), (4, 4));
    assert_eq!(data(&*place.open()), rows(&["-", "-", "done", "-", "-"]));

    // Rows without a source, of which nothing is made.
    let place = Place::new(kind);
    put(&*place.open(), rows(&["", "", ""]));
    let counts = run(&place, spec(1), |_, _, _, _| Ok(())).unwrap();
    assert_eq!((counts.processed, counts.total), (3, 3));

    // Rows that come in above the bound meanwhile.
    let place = Place::new(kind);
    put(&*place.open(), rows(&["", ""]));
    let mut last = 1;
    let breeding = move |_: &dyn Rows, changes: &mut Changes, key: &[u8], _: &[u8]| {
        changes.put(key, "filled");
        last += 1;
        changes.put(format!("audit:{last:02}"), "");
        Ok(())
    };
    let counts = run(&place, spec(1), breeding).unwrap();
    assert_eq!((counts.processed, counts.total), (2, 2));
    assert_eq!(data(&*place.open()), rows(&["filled", "filled", "", ""]));

    // A row that always fails: it ends the run, or is skipped, named, and makes the migration fail in the end.
    let stubborn = |_: &dyn Rows, changes: &mut Changes, key: &[u8], _: &[u8]| {
        changes.put(key, "filled");
        if key == b"audit:01" { Err(MigError::failed("no way")) } else { Ok(()) }
    };
    let place = Place::new(kind);
    put(&*place.open(), rows(&["", "", "", ""]));
    assert!(matches!(run(&place, spec(1), stubborn), Err(MigError::Failed(why)) if why == "no way"));
    assert_eq!(data(&*place.open()), rows(&["filled", "", "", ""]));
    let skipping = BackfillSpec { skip_bad: Some(1), ..spec(2) };
    let Err(MigError::Skipped { counts, first }) = run(&place, skipping, stubborn) else {
        panic!("not skipped")
    };
    assert_eq!((counts.processed, counts.skipped, first.as_str()), (2, vec![b"audit:01".to_vec()], "no way"));
    assert_eq!(data(&*place.open()), rows(&["filled", "", "filled", "filled"]));
    assert_eq!(Runner::new(place.open()).status("m").unwrap().unwrap().status, Status::Failed);
    let none = BackfillSpec { skip_bad: Some(0), ..spec(2) };
    assert!(matches!(run(&place, none, stubborn), Err(MigError::Skipped { .. })));
}

fn backfill_cancel_partial(kind: Kind) {
    let place = Place::new(kind);
    put(&*place.open(), rows(&[""; 10]));
    let runner = Runner::with_clock(place.open(), ManualClock::new(false));
    let fill = |_: &dyn Rows, changes: &mut Changes, key: &[u8], _: &[u8]| {
        changes.put(key, "filled");
        Ok(())
    };
    let slow = BackfillSpec { pause: Duration::from_secs(3600), ..spec(3) };
    let f = move |ctx: &mut MigCtx<'_>| {
        let result = backfill(ctx, &slow, is_due, fill);
        if let Err(MigError::Cancelled { counts }) = &result {
            assert_eq!((counts.processed, counts.total), (3, 10));
        }
        result.map(|_| ())
    };
    runner.schedule("m", f).unwrap();
    let filled = || data(&*place.open()).iter().filter(|(_, value)| value == "filled").count();
    super::support::until("a chunk", || filled() == 3);
    assert_eq!(runner.shutdown(LIMIT), ShutdownOutcome::Clean);
    let row = runner.status("m").unwrap().unwrap();
    assert_eq!((row.status, row.rows_processed, row.rows_total), (Status::Failed, 3, Some(10)));
    assert!(row.error.unwrap().contains("cancelled after 3 of 10 rows"));
    assert_eq!(filled(), 3);
    let counts = run(&place, spec(3), fill).unwrap();
    assert_eq!((counts.processed, counts.total), (7, 7));
    assert_eq!(data(&*place.open()), rows(&["filled"; 10]));
}

fn backfill_counts_honest(kind: Kind) {
    let place = Place::new(kind);
    // A due row, and two that are not, from one end to the other.
    put(
        &*place.open(),
        (0..30).map(|n| (format!("audit:{n:02}"), if n % 3 == 1 { "" } else { "x" }.to_owned())),
    );
    let told = Arc::new(Mutex::new(Vec::new()));
    let hear = Arc::clone(&told);
    let db = Heard::new(place.open(), move |when| {
        if let When::After(changes) = when
            && let Some(row) = row_in(changes)
            && row.last_update_at.is_some()
        {
            hear.lock().unwrap().push((row.rows_processed, row.rows_total));
        }
        Ok(())
    });
    // Each pause is a second, so that each chunk's progress is written.
    let runner = Runner::with_clock(db as Arc<dyn MigDb>, ManualClock::new(true));
    let paced = BackfillSpec { pause: Duration::from_secs(1), ..spec(4) };
    let f = move |ctx: &mut MigCtx<'_>| {
        let counts = backfill(ctx, &paced, is_due, |_, changes, key, _| {
            changes.put(key, "filled");
            Ok(())
        });
        counts.map(|_| ())
    };
    runner.schedule("m", f).unwrap();
    let row = ended(&runner, "m");
    assert_eq!((row.status, row.rows_processed, row.rows_total), (Status::Done, 10, Some(10)));
    let told = told.lock().unwrap();
    assert!(told.len() >= 8, "{told:?}");
    assert!(told.windows(2).all(|two| two[0].0 <= two[1].0), "{told:?}");
    assert!(told.iter().all(|(processed, total)| *processed > 0 && *total == Some(10)), "{told:?}");
    assert_eq!(told.last(), Some(&(10, Some(10))));
}

fn backfill_checks_its_spec(kind: Kind) {
    let nothing = |spec| run(&Place::new(kind), spec, |_, _, _, _| Ok(()));
    assert!(matches!(nothing(spec(0)), Err(MigError::BadSpec { .. })));
    assert_eq!(nothing(spec(1)).unwrap(), Counts::default());
    let backwards = BackfillSpec { from: b"audit;".into(), to: b"audit:".into(), ..spec(1) };
    assert_eq!(nothing(backwards).unwrap(), Counts::default());
}
