//! `icecore build`

use std::{sync::Arc, time::Instant};

use icecore_cold::{BuildReport, Builder, Layout, Manifest};
use icecore_diskio::{Disk, RealDisk};
use icecore_ledger::{LedgerRange, Source};
use icecore_stellar::{StellarDecoder, source::OpenedSource};
use serde_json::json;

use crate::{
    args::Build,
    fail::Outcome,
    output::{Output, human_bytes, human_count},
    progress::Progress,
};

pub(crate) fn run(args: &Build, out: &Output) -> Outcome {
    let OpenedSource { source, network_passphrase } = icecore_stellar::source::open(&args.source)?;
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let layout = Layout::new(&args.out);
    crate::daemon::refuse_kept(&layout)?;
    let geometry = Manifest::geometry_for(&*disk, &layout, args.ledgers_per_chunk, args.chunks_per_window)?;
    let range = range(args, &*source)?;
    // From here on Ctrl-C has something to tidy up.
    let control = crate::cancellable()?;
    let builder = Builder {
        disk,
        layout,
        manifest: Manifest { geometry, network: args.network.clone().or(network_passphrase) },
        source: &*source,
        decoder: &StellarDecoder,
        workers: args.workers.map_or_else(crate::cores, usize::from),
        control: &control,
    };
    let began = Instant::now();
    let progress = Progress::watch(&control, "building");
    let report = builder.build_with_index(range, args.index);
    drop(progress);
    print(&report?, began.elapsed().as_secs_f64(), out)
}

/// The range asked for; what was not said is the source's own.
fn range(args: &Build, source: &dyn Source) -> Outcome<LedgerRange> {
    Ok(match (args.from, args.to) {
        (Some(from), Some(to)) => LedgerRange::new(from, to)?,
        (from, to) => {
            // A compressed file must be read to its end to know.
            let _progress = Progress::watch(&Arc::default(), "looking through the source");
            let has = source.range()?;
            LedgerRange::new(from.unwrap_or(has.first), to.unwrap_or(has.last))?
        }
    })
}

pub(crate) fn print(report: &BuildReport, seconds: f64, out: &Output) -> Outcome {
    let counts = &report.counts;
    if out.json {
        let indexes = report.indexes_built.iter().map(|(coverage, keys)| {
            json!({ "window": coverage.window.0, "first_chunk": coverage.first.0, "last_chunk": coverage.last.0, "keys": keys })
        });
        return Ok(out.value(&json!({
            "first_chunk": report.chunks.map(|(first, _)| first.0),
            "last_chunk": report.chunks.map(|(_, last)| last.0),
            "chunks_built": report.chunks_built,
            "ledgers": counts.ledgers,
            "transactions": counts.transactions,
            "events": counts.events,
            "raw_bytes": counts.raw_bytes,
            "indexes_built": indexes.collect::<Vec<_>>(),
            "seconds": seconds,
        }))?);
    }
    let Some((first, last)) = report.chunks else { return Ok(()) };
    if report.chunks_built == 0 && report.indexes_built.is_empty() {
        return Ok(out.line(format!("chunks {first} to {last} are there already, nothing to do"))?);
    }
    out.line(format!(
        "{} chunks {first} to {last}: {} built in {seconds:.1} s from {} ledgers ({}), {} transactions, {} events",
        out.green("done"),
        report.chunks_built,
        human_count(counts.ledgers),
        human_bytes(counts.raw_bytes),
        human_count(counts.transactions),
        human_count(counts.events),
    ))?;
    for (coverage, keys) in &report.indexes_built {
        let chunks = format!("{} to {}", coverage.first, coverage.last);
        out.line(format!(
            "     index of window {}: chunks {chunks}, {} hashes",
            coverage.window,
            human_count(*keys)
        ))?;
    }
    Ok(())
}
