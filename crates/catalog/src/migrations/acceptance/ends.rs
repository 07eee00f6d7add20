//! Recording how a run ended.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use super::support::{Gate, Heard, Kind, LIMIT, Log, ManualClock, Place, When, ended, ends, trouble};
use crate::migrations::{MigCtx, MigDb, MigError, Runner, Scheduled, ShutdownOutcome, Status};

on_both!(cancel_recorded, terminal_write_retry, terminal_write_gives_up, terminal_write_after_cancel);

/// A run that waits for the order to stop.
fn obedient(ctx: &mut MigCtx<'_>) -> Result<(), &'static str> {
    ctx.cancel().wait_timeout(LIMIT);
    Err("stopped early")
}

fn cancel_recorded(kind: Kind) {
    let place = Place::new(kind);
    let runner = Runner::new(place.open());
    runner.schedule("m", obedient).unwrap();
    assert_eq!(runner.shutdown(LIMIT), ShutdownOutcome::Clean);
    let row = runner.status("m").unwrap().unwrap();
    assert_eq!(row.status, Status::Failed);
    assert!(row.error.unwrap().contains("cancelled"));
    let f = |_: &mut MigCtx<'_>| -> Result<(), MigError> { Ok(()) };
    assert!(matches!(runner.schedule("m", f), Err(MigError::ShutDown { .. })));
    drop(runner);
    place.close();
    let runner = Runner::new(place.open());
    assert_eq!(runner.schedule("m", f).unwrap(), Scheduled::Started);
    assert_eq!(ended(&runner, "m").status, Status::Done);
}

/// A store that refuses to record an end so often.
fn refusing(place: &Place, times: usize) -> Arc<dyn MigDb> {
    let refused = AtomicUsize::new(0);
    Heard::new(place.open(), move |when| match when {
        When::Before(changes) if ends(changes) && refused.fetch_add(1, Ordering::SeqCst) < times => {
            Err(trouble())
        }
        _ => Ok(()),
    })
}

fn counting(count: &Arc<AtomicUsize>) -> impl FnOnce(&mut MigCtx<'_>) -> Result<(), MigError> + use<> {
    let count = Arc::clone(count);
    move |_| {
        count.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }
}

/// The pauses between attempts, without those between signs of life.
fn pauses(clock: &ManualClock) -> Vec<u128> {
    let slept = clock.slept.lock().unwrap();
    slept.iter().map(Duration::as_millis).filter(|ms| *ms < 10_000).collect()
}

fn terminal_write_retry(kind: Kind) {
    let place = Place::new(kind);
    let (log, count) = (Log::default(), Arc::default());
    let clock = ManualClock::new(true);
    let runner = Runner::with_clock(refusing(&place, 3), clock.clone());
    log.record(|| runner.schedule("m", counting(&count))).unwrap();
    assert_eq!(ended(&runner, "m").status, Status::Done);
    assert_eq!(pauses(&clock), [100, 500, 2000]);
    assert_eq!(log.lines("was not recorded").len(), 3);
    assert!(log.lines("was not recorded").iter().all(|line| line.contains("name=\"m\"")));
    assert_eq!(log.lines("CRITICAL").len(), 0);
    assert_eq!(log.lines("migration done").len(), 1);
}

fn terminal_write_gives_up(kind: Kind) {
    let place = Place::new(kind);
    let (log, count) = (Log::default(), Arc::default());
    let runner = Runner::with_clock(refusing(&place, 4), ManualClock::new(true));
    log.record(|| runner.schedule("m", counting(&count))).unwrap();
    assert_eq!(ended(&runner, "m").status, Status::PendingAsync);
    let critical = log.lines("CRITICAL");
    assert_eq!(critical.len(), 1);
    for part in ["ERROR", "name=\"m\"", "Done", "planted"] {
        assert!(critical[0].contains(part), "{critical:?}");
    }
    let again = runner.schedule("m", counting(&count)).unwrap();
    assert_eq!(again, Scheduled::EndedUnrecorded { status: Status::Done });
    // Neither through another handle of this process.
    assert_eq!(Runner::new(place.open()).schedule("m", counting(&count)).unwrap(), again);
    assert_eq!(count.load(Ordering::SeqCst), 1);
    drop(runner);
    place.close();
    // Where a lease stands, that must pass first.
    let clock = ManualClock::new(false);
    clock.advance(Duration::from_secs(3600));
    let runner = Runner::with_clock(place.open(), clock);
    assert_eq!(runner.schedule("m", counting(&count)).unwrap(), Scheduled::Started);
    assert_eq!(ended(&runner, "m").status, Status::Done);
    assert_eq!(count.load(Ordering::SeqCst), 2);
}

fn terminal_write_after_cancel(kind: Kind) {
    let place = Place::new(kind);
    let runner = Runner::new(refusing(&place, 1));
    let started = Gate::default();
    let is_started = started.clone();
    let f = move |ctx: &mut MigCtx<'_>| {
        is_started.open();
        obedient(ctx)
    };
    runner.schedule("m", f).unwrap();
    started.wait();
    assert_eq!(runner.shutdown(LIMIT), ShutdownOutcome::Clean);
    let row = runner.status("m").unwrap().unwrap();
    assert_eq!(row.status, Status::Failed);
    assert!(row.ended_at.is_some());
}
