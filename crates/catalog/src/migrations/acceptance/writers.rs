//! Live writers beside migrations.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use super::support::{Gate, Kind, Log, ManualClock, Place, data, ended, put, until};
use crate::migrations::{BackfillSpec, MigCtx, MigError, Runner, Slots, Status, Turn, backfill};

on_both!(long_hold_warned);

#[test]
fn live_writes_during_backfill() {
    const ROWS: usize = 20_000;
    let place = Place::new(Kind::Rocks);
    let db = place.open();
    put(&*db, (0..ROWS).map(|n| (format!("audit:{n:05}"), String::new())));
    let runner = Runner::new(Arc::clone(&db));
    let f = |ctx: &mut MigCtx<'_>| {
        let spec = BackfillSpec {
            chunk_rows: 200,
            pause: Duration::ZERO,
            ..BackfillSpec::row_by_row("audit:", "audit:~")
        };
        let counts = backfill(
            ctx,
            &spec,
            |_, value| value.is_empty(),
            |_, changes, key, _| {
                changes.put(key, "filled");
                Ok(())
            },
        )?;
        if counts.processed == counts.total { Ok(()) } else { Err(MigError::failed("rows are missing")) }
    };
    let over = AtomicBool::new(false);
    let written = thread::scope(|scope| {
        // Each error is a panic.
        let live = scope.spawn(|| {
            let mut written = 0;
            while !over.load(Ordering::SeqCst) {
                put(&*db, [(format!("audit:~live:{written}"), String::new())]);
                written += 1;
            }
            written
        });
        runner.schedule("m", f).unwrap();
        let row = runner.wait("m", super::support::LIMIT).and_then(|_| runner.status("m"));
        over.store(true, Ordering::SeqCst);
        assert_eq!(row.unwrap().unwrap().status, Status::Done);
        live.join().unwrap()
    });
    assert_eq!(
        place.catalog().writers().overtaken(),
        0,
        "a live write waited for more than the step under way"
    );
    assert!(written > 0);
    assert_eq!(data(&*db).iter().filter(|(_, value)| value == "filled").count(), ROWS);
}

fn long_hold_warned(kind: Kind) {
    let place = Place::new(kind);
    let (clock, log) = (ManualClock::new(true), Log::default());
    let runner = Runner::with_clock(place.open(), clock.clone());
    let hold = |seconds, long| {
        let clock = clock.clone();
        move |ctx: &mut MigCtx<'_>| {
            let step = |_: &dyn crate::migrations::Rows, _: &mut crate::migrations::Changes| {
                clock.advance(Duration::from_secs(seconds));
                Ok(())
            };
            if long { ctx.write_long(Duration::from_secs(9), step) } else { ctx.write(step) }
        }
    };
    log.record(|| runner.schedule("short", hold(5, false))).unwrap();
    ended(&runner, "short");
    assert_eq!(log.lines("held up").len(), 0);
    log.record(|| runner.schedule("slow", hold(6, false))).unwrap();
    ended(&runner, "slow");
    let lines = log.lines("held up");
    assert_eq!(lines.len(), 1);
    for part in ["WARN", "name=\"slow\"", "held=6s"] {
        assert!(lines[0].contains(part), "{lines:?}");
    }
    log.record(|| runner.schedule("index", hold(7, true))).unwrap();
    ended(&runner, "index");
    assert_eq!(log.lines("held up").len(), 2);
    assert!(log.lines("takes the slot")[0].contains("estimate=9s"));
    assert!(log.lines("gives the slot back")[0].contains("held=7s"));
}

#[test]
fn fair_slots() {
    let slots = Slots::<()>::default();
    let order = std::sync::Mutex::new(Vec::new());
    let done = Gate::default();
    thread::scope(|scope| {
        let held = slots.take(Turn::Migration);
        let queue = |turn, number: usize| {
            let (slots, order, done) = (&slots, &order, &done);
            scope.spawn(move || {
                let _slot = slots.take(turn);
                order.lock().unwrap().push((turn, number));
                if order.lock().unwrap().len() == 4 {
                    done.open();
                }
            });
        };
        // Migrations ask first, live writers get the slot first.
        queue(Turn::Migration, 0);
        queue(Turn::Migration, 1);
        until("migrations queue", || slots.waiting() == (0, 2));
        queue(Turn::Live, 2);
        queue(Turn::Live, 3);
        until("all queue", || slots.waiting() == (2, 2));
        drop(held);
        done.wait();
    });
    let turns: Vec<_> = order.into_inner().unwrap().into_iter().map(|(turn, _)| turn).collect();
    assert_eq!(turns, [Turn::Live, Turn::Live, Turn::Migration, Turn::Migration]);
}
