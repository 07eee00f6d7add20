//! `icecore replay`: sends ledgers as a framed stream, as whoever closes ledgers does.

use std::{sync::Arc, time::Duration};

use icecore_ledger::{LedgerRange, Source};
use icecore_stellar::source::{
    self,
    live::{Playback, Played, open_sink},
};

use crate::{
    args::Replay,
    fail::{Fail, Outcome},
    progress::Progress,
};

pub(crate) fn run(args: &Replay) -> Outcome {
    let opened = source::open(&args.source)?;
    let faults = args.fault.iter().map(|fault| fault.parse()).collect::<Result<_, _>>()?;
    let ledgers = range(args, &*opened.source)?;
    let (control, stopped) = crate::stoppable()?;
    let stop = || control.is_cancelled();
    let interrupted = || Fail::Interrupted("stopped on request".to_owned());
    let sink = open_sink(&args.to_sink, &stop);
    let mut out = sink.map_err(|e| if stop() { interrupted() } else { e.into() })?;
    let mut pause = |time: Duration| {
        // Whoever waits for no time at all only wants to know.
        !time.is_zero() && stopped.recv_timeout(time).is_ok() || control.is_cancelled()
    };
    let playback = Playback { ledgers, pace: Duration::from_millis(args.pace), faults };
    match playback.run(&*opened.source, &mut out, &mut pause)? {
        Played::Whole => Ok(()),
        Played::Stopped => Err(interrupted()),
        // The code is part of the fault, and none of ours.
        Played::Faulted { code } => std::process::exit(code.into()),
    }
}

/// The range asked for; what was not said is the source's own.
fn range(args: &Replay, source: &dyn Source) -> Outcome<LedgerRange> {
    if let (Some(from), Some(to)) = (args.from, args.to) {
        return Ok(LedgerRange::new(from, to)?);
    }
    // A compressed file must be read to its end to know.
    let _progress = Progress::watch(&Arc::default(), "looking through the source");
    let has = source.range()?;
    Ok(LedgerRange::new(args.from.unwrap_or(has.first), args.to.unwrap_or(has.last))?)
}
