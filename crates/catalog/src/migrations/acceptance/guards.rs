//! Once at a time: in a process, and between processes.

use std::{
    sync::{
        Arc, Barrier, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use super::support::{
    Gate, Heard, Kind, LIMIT, ManualClock, Memory, Place, Shared, When, data, ended, trouble, until,
};
use crate::migrations::{MigCtx, MigDb, MigError, Runner, Scheduled, Status};

on_both!(
    two_handles_same_file,
    done_is_final,
    two_databases_same_name,
    guard_released_on_reset_error,
    many_callers_one_run,
);

/// Many callers while the one run takes its time.
fn many_callers_one_run(kind: Kind) {
    for callers in [5, 64] {
        let place = Place::new(kind);
        let runner = Runner::new(place.open());
        let (count, gate, barrier) = (AtomicUsize::new(0), Gate::default(), Barrier::new(callers));
        let count = Arc::new(count);
        let call = || {
            let (count, gate) = (Arc::clone(&count), gate.clone());
            barrier.wait();
            runner.schedule("m", move |_: &mut MigCtx<'_>| -> Result<(), MigError> {
                count.fetch_add(1, Ordering::SeqCst);
                gate.wait();
                Ok(())
            })
        };
        let answers: Vec<_> = thread::scope(|scope| {
            let callers: Vec<_> = (0..callers).map(|_| scope.spawn(call)).collect();
            callers.into_iter().map(|caller| caller.join().unwrap().unwrap()).collect()
        });
        assert_eq!(answers.iter().filter(|answer| **answer == Scheduled::Started).count(), 1);
        assert_eq!(answers.iter().filter(|answer| **answer == Scheduled::InFlightHere).count(), callers - 1);
        gate.open();
        ended(&runner, "m");
        assert_eq!(count.load(Ordering::SeqCst), 1);
    }
}

#[test]
fn same_name_concurrent_once() {
    const ROUNDS: usize = 10_000;
    let runner = Runner::new(Memory::new());
    let counts: Arc<Vec<AtomicUsize>> = Arc::new((0..ROUNDS).map(|_| AtomicUsize::new(0)).collect());
    let barrier = Barrier::new(3);
    let call = || {
        for round in 0..ROUNDS {
            let counts = Arc::clone(&counts);
            barrier.wait();
            let f = move |_: &mut MigCtx<'_>| -> Result<(), MigError> {
                counts[round].fetch_add(1, Ordering::SeqCst);
                Ok(())
            };
            runner.schedule(&format!("m{round}"), f).unwrap();
        }
    };
    thread::scope(|scope| (0..3).for_each(|_| drop(scope.spawn(call))));
    runner.wait_all(LIMIT).unwrap();
    let twice = counts.iter().filter(|count| count.load(Ordering::SeqCst) != 1).count();
    assert_eq!(twice, 0, "migrations did not run once");
    assert!(runner.list().unwrap().iter().all(|row| row.status == Status::Done && row.attempt == 1));
}

fn two_handles_same_file(kind: Kind) {
    let place = Place::new(kind);
    let runners = [Runner::new(place.open()), Runner::new(place.open())];
    let (count, gate) = (Arc::new(AtomicUsize::new(0)), Gate::default());
    let f = || {
        let (count, gate) = (Arc::clone(&count), gate.clone());
        move |_: &mut MigCtx<'_>| -> Result<(), MigError> {
            count.fetch_add(1, Ordering::SeqCst);
            gate.wait();
            Ok(())
        }
    };
    assert_eq!(runners[0].schedule("m", f()).unwrap(), Scheduled::Started);
    assert_eq!(runners[1].schedule("m", f()).unwrap(), Scheduled::InFlightHere);
    gate.open();
    assert_eq!(ended(&runners[1], "m").status, Status::Done);
    assert_eq!(count.load(Ordering::SeqCst), 1);
}

/// One caller is held up after the first it hears from the store, until another has had its run, or been turned away.
fn done_is_final(kind: Kind) {
    let place = Place::new(kind);
    let (heard, go_on) = (Gate::default(), Gate::default());
    let slow = {
        let (heard, go_on) = (heard.clone(), go_on.clone());
        Heard::new(place.open(), move |when| {
            if matches!(when, When::After(_)) && !heard.is_open() {
                heard.open();
                go_on.wait();
            }
            Ok(())
        })
    };
    let (slow, quick) = (Runner::new(slow), Runner::new(place.open()));
    let count = Arc::new(AtomicUsize::new(0));
    let f = || {
        let count = Arc::clone(&count);
        move |_: &mut MigCtx<'_>| -> Result<(), MigError> {
            count.fetch_add(1, Ordering::SeqCst);
            Ok(())
        }
    };
    thread::scope(|scope| {
        let held_up = scope.spawn(|| slow.schedule("m", f()).unwrap());
        heard.wait();
        if quick.schedule("m", f()).unwrap() == Scheduled::Started {
            ended(&quick, "m");
        }
        go_on.open();
        held_up.join().unwrap();
    });
    assert_eq!(ended(&quick, "m").status, Status::Done);
    assert_eq!(quick.schedule("m", f()).unwrap(), Scheduled::AlreadyDone);
    assert_eq!(count.load(Ordering::SeqCst), 1);
}

fn two_databases_same_name(kind: Kind) {
    let places = [Place::new(kind), Place::new(kind)];
    let runners = places.each_ref().map(|place| Runner::new(place.open()));
    let gate = Gate::default();
    for runner in &runners {
        let gate = gate.clone();
        let f = move |ctx: &mut MigCtx<'_>| {
            gate.wait();
            ctx.write(|_, changes| {
                changes.put("audit:ran", "here");
                Ok(())
            })
        };
        assert_eq!(runner.schedule("m", f).unwrap(), Scheduled::Started);
    }
    gate.open();
    for (place, runner) in places.iter().zip(&runners) {
        assert_eq!(ended(runner, "m").status, Status::Done);
        assert_eq!(data(&*place.open()).len(), 1);
    }
}

fn guard_released_on_reset_error(kind: Kind) {
    let place = Place::new(kind);
    let planted = Mutex::new(Some(trouble()));
    let db = Heard::new(place.open(), move |_| planted.lock().unwrap().take().map_or(Ok(()), Err));
    let runner = Runner::new(db);
    let f = |_: &mut MigCtx<'_>| -> Result<(), MigError> { Ok(()) };
    assert!(matches!(runner.schedule("m", f), Err(MigError::Store { .. })));
    assert_eq!(runner.schedule("m", f).unwrap(), Scheduled::Started);
    assert_eq!(ended(&runner, "m").status, Status::Done);
    // A panic gives it back too.
    runner.schedule("p", |_: &mut MigCtx<'_>| -> Result<(), MigError> { panic!("planted") }).unwrap();
    ended(&runner, "p");
    assert_eq!(runner.schedule("p", f).unwrap(), Scheduled::Started);
}

#[test]
fn lost_lease_cancels() {
    let place = Place::new(Kind::Shared);
    let lease = Duration::from_secs(30);
    let (old_clock, new_clock) = (ManualClock::new(false), ManualClock::new(false));
    let old = Arc::new(Shared::open(place.dir()).lease(lease));
    let new = Arc::new(Shared::open(place.dir()).lease(lease).of_another_process());
    let old = Runner::with_clock(old, old_clock.clone());
    let new = Runner::with_clock(new.clone(), new_clock.clone());
    let (may_write, tried) = (Gate::default(), Arc::new(Mutex::new(None)));
    let (go, result) = (may_write.clone(), Arc::clone(&tried));
    let f = move |ctx: &mut MigCtx<'_>| -> Result<(), MigError> {
        until("the order to stop", || ctx.cancel().is_cancelled());
        go.wait();
        *result.lock().unwrap() = Some(ctx.write(|_, changes| {
            changes.put("audit:row", "of the old run");
            Ok(())
        }));
        Ok(())
    };
    assert_eq!(old.schedule("m", f).unwrap(), Scheduled::Started);
    let f = |ctx: &mut MigCtx<'_>| {
        ctx.write(|_, changes| {
            changes.put("audit:row", "of the new run");
            Ok(())
        })
    };
    let claimed = new.schedule("m", f).unwrap();
    assert!(matches!(claimed, Scheduled::ClaimedElsewhere { .. }), "{claimed:?}");
    // The old run gives no sign of life for a whole lease.
    new_clock.advance(lease + Duration::from_secs(1));
    assert_eq!(new.schedule("m", f).unwrap(), Scheduled::Started);
    let row = ended(&new, "m");
    assert_eq!((row.status, row.attempt), (Status::Done, 2));
    // It wakes, and learns that it is the old one.
    old_clock.advance(lease);
    may_write.open();
    assert_eq!(ended(&old, "m"), row);
    assert!(matches!(*tried.lock().unwrap(), Some(Err(MigError::LeaseLost { .. }))));
    assert_eq!(data(&Shared::open(place.dir()))[0].1, "of the new run");
}

#[test]
fn live_leases_are_prolonged() {
    let place = Place::new(Kind::Shared);
    let lease = Duration::from_secs(30);
    let clock = ManualClock::new(false);
    let here = Arc::new(Shared::open(place.dir()).lease(lease));
    let there = Arc::new(Shared::open(place.dir()).lease(lease).of_another_process());
    let here = Runner::with_clock(here, clock.clone());
    let there = Runner::with_clock(there as Arc<dyn MigDb>, clock.clone());
    let gate = Gate::default();
    let open = gate.clone();
    let f = move |ctx: &mut MigCtx<'_>| {
        open.wait();
        // Nobody takes over during a long step either.
        ctx.write_long(lease * 10, |_, _| Ok(()))
    };
    here.schedule("m", f).unwrap();
    let until_when = || here.status("m").unwrap().unwrap().lease_until;
    for _ in 0..9 {
        let before = until_when();
        // Once it sleeps again, its time begins to count.
        until("it sleeps", || !clock.slept.lock().unwrap().is_empty());
        clock.slept.lock().unwrap().clear();
        clock.advance(lease / 3);
        until("a sign of life", || until_when() > before);
    }
    let f = |_: &mut MigCtx<'_>| -> Result<(), MigError> { Ok(()) };
    let claimed = there.schedule("m", f).unwrap();
    assert!(matches!(claimed, Scheduled::ClaimedElsewhere { .. }), "{claimed:?}");
    gate.open();
    assert_eq!(ended(&here, "m").status, Status::Done);
}
