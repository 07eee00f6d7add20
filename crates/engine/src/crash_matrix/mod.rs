//! Every durable step of every operation, with every fault: after a restart and one run everything is settled, nothing that
//! was acknowledged is lost, reads are those of a run without faults, and so are the files, byte by byte.
//!
//! A sample is run each time, all of it when `ICECORE_MATRIX` is set (`cargo xtask matrix`) or a mutant is to be caught.

pub(crate) mod world;

use std::{collections::BTreeMap, env, panic::AssertUnwindSafe, path::PathBuf};

use icecore_catalog::{Artifact, FileState, RecoveryPlan, State};
use icecore_diskio::Fault;
use icecore_ledger::{LedgerSeq, WindowId};
use icecore_registry::CancelToken;
use world::{Process, World};

use crate::{
    Result, STEPS,
    common::{first_of, last_of, until},
    executor::execute,
    lifecycle::RunReport,
    plan::Plan,
};

/// About how many cases of an operation a sample has.
const SAMPLE: u64 = 12;

/// All frozen files by their paths.
type Files = BTreeMap<PathBuf, Vec<u8>>;

/// What goes wrong at a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trouble {
    /// The process ends; what it wrote is there.
    Killed,
    /// The machine stops; what was not made durable is not there.
    PowerLost,
    /// The step fails once, the process goes on.
    Fails(Fault),
}

const TROUBLES: [Trouble; 5] = [
    Trouble::Killed,
    Trouble::PowerLost,
    Trouble::Fails(Fault::Io),
    Trouble::Fails(Fault::ShortWrite),
    Trouble::Fails(Fault::DiskFull),
];

/// An operation, what comes before it, and what is there in the end.
struct Operation {
    name: &'static str,
    /// Makes the store that it begins with.
    before: fn(&World) -> Result<()>,
    /// How the process is opened that does it; `None` where opening is part of it.
    open: Option<fn(&World) -> Result<Process>>,
    act: fn(&World, Option<&Process>) -> Result<()>,
    retention_chunks: u32,
    floor_chunk: u32,
    /// The ledger that the history is brought to in the end.
    latest: u32,
    /// Whether it makes distrusted what was acknowledged.
    forgets: bool,
    /// What holds at every moment.
    always: fn(&State) -> bool,
}

impl Operation {
    /// Runs a sample of its cases and prints how many those were.
    fn run(&self) {
        let template = World::new();
        (self.before)(&template).unwrap();
        let template = template.next(false);
        let (steps, reference) = self.without_faults(&template);
        let full = env::var_os("ICECORE_MATRIX").is_some() || env::var_os("ICECORE_MUTANT").is_some();
        let cases = steps * TROUBLES.len() as u64;
        let stride = if full { 1 } else { (cases / SAMPLE).max(1) | 1 };
        let mut run = 0;
        for case in (0..cases).step_by(stride as usize) {
            let trouble = TROUBLES[(case % TROUBLES.len() as u64) as usize];
            self.case(&template, case / TROUBLES.len() as u64, trouble, &reference);
            run += 1;
        }
        println!("crash matrix: {}: {steps} steps, {run} of {cases} cases", self.name);
    }

    /// Counts the steps of the operation, and gives the files that are there in the end.
    fn without_faults(&self, template: &World) -> (u64, Files) {
        let world = template.copy();
        let process = self.open.map(|open| open(&world).unwrap());
        let begun = world.disk.operations();
        (self.act)(&world, process.as_ref()).unwrap();
        let steps = world.disk.operations() - begun;
        for label in world.disk.labels() {
            let name = label.strip_prefix("before ").or_else(|| label.strip_prefix("after "));
            let is_known = |name| STEPS.iter().chain(icecore_catalog::STEPS).any(|step| step.name == name);
            assert!(name.is_none_or(is_known), "{label:?} is in no table of steps");
        }
        drop(process);
        (steps, self.finish(world, 0, &Files::new()))
    }

    fn case(&self, template: &World, step: u64, trouble: Trouble, reference: &Files) {
        let world = template.copy();
        let process = self.open.map(|open| open(&world).unwrap());
        let at = world.disk.operations() + step;
        let fault = match trouble {
            Trouble::Killed | Trouble::PowerLost => Fault::PowerCut,
            Trouble::Fails(fault) => fault,
        };
        world.disk.fail_at(at, fault);
        let label = || world.disk.labels().get(at as usize).cloned().unwrap_or_default();
        let describe = format!("{}, step {step}, {trouble:?}", self.name);
        let outcome = std::panic::catch_unwind(AssertUnwindSafe(|| {
            let mut acknowledged = 0;
            let acted = (self.act)(&world, process.as_ref());
            if let Some(process) = &process {
                if matches!(trouble, Trouble::Fails(_)) {
                    process.check_no_wrong_answer(self.latest);
                    // The process goes on, and needs no restart to be right.
                    if acted.is_err() {
                        (self.act)(&world, Some(process)).unwrap();
                    }
                    process.check_no_wrong_answer(self.latest);
                }
                acknowledged = process.engine.view().latest().map_or(0, |seq| seq.0);
            }
            acknowledged
        }));
        drop(process);
        let label = label();
        let outcome = outcome.and_then(|acknowledged| {
            std::panic::catch_unwind(AssertUnwindSafe(|| {
                let world = world.next(trouble == Trouble::PowerLost);
                let files = self.finish(world, if self.forgets { 0 } else { acknowledged }, reference);
                assert!(files == *reference, "files differ from those of a run without faults");
            }))
        });
        if let Err(panic) = outcome {
            eprintln!("crash matrix: {describe}, at {label:?}");
            std::panic::resume_unwind(panic);
        }
    }

    /// The next start, and one run: everything must be right. Gives all files.
    fn finish(&self, world: World, acknowledged: u32, reference: &Files) -> Files {
        world.check_protocol(reference, self.always);
        let process = world.open(self.latest, self.retention_chunks).unwrap();
        let found = process.engine.view().latest().map_or(0, |seq| seq.0);
        assert!(found >= acknowledged, "ledger {acknowledged} was acknowledged, {found} is the last one");
        process.check_no_wrong_answer(self.latest);
        process.live(self.latest).unwrap();
        process.check(&world, self.floor_chunk, self.latest);
        drop(process);
        world.files()
    }
}

/// Opens a store whose chain has come so far, ingests up to there, and settles unless told otherwise.
fn lived(world: &World, through: u32, settles: bool) -> Result<()> {
    let process = world.open(through, 0)?;
    process.ingest(through)?;
    if settles {
        process.engine.settle()?;
    }
    Ok(())
}

fn of(process: Option<&Process>) -> &Process {
    process.expect("a process that has the store open")
}

#[test]
fn matrix_first_start() {
    Operation {
        name: "first start",
        before: |_| Ok(()),
        open: None,
        act: |world, _| world.open(last_of(1) + 1, 0)?.live(last_of(1) + 1),
        retention_chunks: 0,
        floor_chunk: 0,
        latest: last_of(1) + 2,
        forgets: false,
        always: |_| true,
    }
    .run();
}

#[test]
fn matrix_commit() {
    Operation {
        name: "commit",
        before: |world| lived(world, first_of(1), true),
        open: Some(|world| world.open(last_of(1), 0)),
        act: |_, process| of(process).ingest(last_of(1) - 1),
        retention_chunks: 0,
        floor_chunk: 0,
        latest: last_of(1) - 1,
        forgets: false,
        always: |_| true,
    }
    .run();
}

#[test]
fn matrix_roll_over() {
    Operation {
        name: "roll-over",
        before: |world| lived(world, first_of(1), true),
        open: Some(|world| world.open(last_of(1), 0)),
        act: |_, process| {
            of(process).chain.grow_to(last_of(1) + 1);
            of(process).ingest(last_of(1) + 1)
        },
        retention_chunks: 0,
        floor_chunk: 0,
        latest: last_of(1) + 1,
        forgets: false,
        always: |_| true,
    }
    .run();
}

/// A store with a complete hot chunk 1 that nothing was done about.
fn complete_hot(world: &World) -> Result<()> {
    lived(world, first_of(1), true)?;
    let process = world.open(last_of(1), 0)?;
    process.ingest(last_of(1))
}

fn execute_part(process: &Process, part: fn(Plan) -> Plan) -> Result<()> {
    let shared = &process.engine.shared;
    let plan = shared.scope().resolve(&shared.state(), shared.published.target());
    let mut done = execute(shared, part(plan), &CancelToken::new());
    done.failed.pop().map_or(Ok(()), |(_, error)| Err(error))
}

#[test]
fn matrix_freeze() {
    Operation {
        name: "freeze",
        before: complete_hot,
        open: Some(|world| world.open(last_of(1), 0)),
        act: |_, process| execute_part(of(process), |plan| Plan { indexes: Vec::new(), ..plan }),
        retention_chunks: 0,
        floor_chunk: 0,
        latest: last_of(1) + 1,
        forgets: false,
        always: |_| true,
    }
    .run();
}

#[test]
fn matrix_rebuild() {
    Operation {
        name: "rebuild",
        // Terminal: the predecessor and the runs go with the commit.
        before: |world| {
            lived(world, last_of(1), true)?;
            let process = world.open(last_of(2), 0)?;
            process.ingest(last_of(2))?;
            execute_part(&process, |plan| Plan { indexes: Vec::new(), ..plan })
        },
        open: Some(|world| world.open(last_of(2), 0)),
        act: |_, process| {
            execute_part(of(process), |plan| plan)?;
            of(process).clock.advance(std::time::Duration::from_secs(3600));
            stage(process, |lifecycle, report| lifecycle.destroy(report))?;
            of(process).clock.advance(std::time::Duration::from_secs(3600));
            stage(process, |lifecycle, report| lifecycle.destroy(report))
        },
        retention_chunks: 0,
        floor_chunk: 0,
        latest: last_of(2) + 1,
        forgets: false,
        // A window never loses the index that it has.
        always: |state| state.frozen_index(WindowId(0)).is_some(),
    }
    .run();
}

fn stage(process: Option<&Process>, act: fn(&crate::lifecycle::Lifecycle<'_>, &mut RunReport)) -> Result<()> {
    let mut report = RunReport::default();
    of(process).lifecycle(|lifecycle| act(lifecycle, &mut report));
    report.failed.pop().map_or(Ok(()), |(_, error)| Err(error))
}

#[test]
fn matrix_discard() {
    Operation {
        name: "discard",
        before: complete_hot,
        open: Some(|world| {
            let process = world.open(last_of(1), 0)?;
            process.ingest(last_of(1))?;
            execute_part(&process, |plan| plan)?;
            Ok(process)
        }),
        act: |_, process| stage(process, |lifecycle, report| lifecycle.discard(report)),
        retention_chunks: 0,
        floor_chunk: 0,
        latest: last_of(1) + 1,
        forgets: false,
        always: |_| true,
    }
    .run();
}

#[test]
fn matrix_prune() {
    Operation {
        name: "prune",
        before: |world| lived(world, last_of(5) + 1, true),
        open: Some(|world| world.open(last_of(5) + 1, 2)),
        act: |_, process| {
            stage(process, |lifecycle, report| lifecycle.demote(report))?;
            for _ in 0..2 {
                stage(process, |lifecycle, report| lifecycle.destroy(report))?;
                of(process).clock.advance(std::time::Duration::from_secs(3600));
            }
            Ok(())
        },
        retention_chunks: 2,
        floor_chunk: 4,
        latest: last_of(5) + 1,
        forgets: false,
        always: |_| true,
    }
    .run();
}

#[test]
fn matrix_recover() {
    Operation {
        name: "recover",
        before: |world| lived(world, last_of(3) + 2, true),
        open: None,
        act: |world, _| {
            {
                let process = world.open(last_of(3) + 2, 0)?;
                let catalog = process.engine.catalog();
                let (from, to) = (LedgerSeq(first_of(1)), LedgerSeq(last_of(3) + 1));
                let plan = RecoveryPlan::for_range(
                    &catalog.state(),
                    &catalog.pins().geometry,
                    from,
                    to,
                    true,
                    true,
                )?;
                plan.apply(catalog)?;
                let state = catalog.state();
                let tainted = state.artifacts.iter().filter(|((chunk, _), _)| chunk.0 >= 1);
                assert!(tainted.clone().all(|(_, file)| *file == FileState::Freezing));
                assert!(tainted.count() >= 3 * (Artifact::ALL.len() - 1));
            }
            // What was distrusted is made again.
            world.open(last_of(3) + 2, 0)?.live(last_of(3) + 2)
        },
        retention_chunks: 0,
        floor_chunk: 0,
        latest: last_of(3) + 2,
        forgets: true,
        always: |_| true,
    }
    .run();
}

#[test]
fn matrix_shutdown() {
    Operation {
        name: "shutdown",
        before: |world| lived(world, first_of(2), true),
        open: Some(|world| world.open(last_of(4) + 2, 0)),
        act: |_, process| {
            let Process { engine, disk, .. } = of(process);
            // Told to end in the middle of whatever it does by then; it is the second call that finds it ended already.
            let begun = disk.operations();
            if engine.start().is_ok() {
                until("it is at work", || {
                    disk.operations() > begun + 20
                        || engine.status().restarts > 0
                        || engine.status().fatal.is_some()
                });
            }
            let report = engine.shutdown();
            assert!(report.require_clean().is_ok(), "{report}");
            Ok(())
        },
        retention_chunks: 0,
        floor_chunk: 0,
        latest: last_of(4) + 2,
        forgets: false,
        always: |_| true,
    }
    .run();
}
