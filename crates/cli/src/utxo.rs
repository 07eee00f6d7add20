//! `icecore utxo bench`

use std::time::Duration;

use icecore_utxo::bench::{Mix, Plan, Side, run};
use serde_json::{Value, json};

use crate::{
    args::UtxoBench,
    fail::{Fail, Outcome},
    output::Output,
};

pub(crate) fn bench(args: &UtxoBench, out: &Output) -> Outcome {
    let mix = Mix { create: args.create, spend: args.spend, lock: args.lock, delete_at_height: args.delete };
    if mix.create == 0 {
        return Err(Fail::Usage(
            "--create 0: nothing can be spent, locked or deleted that was not created".into(),
        ));
    }
    let plan = Plan {
        mix,
        operations: args.operations,
        limit: args.seconds.map(Duration::from_secs),
        threads: usize::from(args.threads),
        window: args.window as usize,
        batch: args.batch as usize,
        outputs: args.outputs,
    };
    let temporary = tempfile::tempdir()?;
    let dir = args.dir.clone().unwrap_or_else(|| temporary.path().join("utxo"));
    let report = run(&dir, &plan).map_err(|e| Fail::Error(Box::new(e)))?;
    if out.json {
        let ratio = report.ratio();
        let (store, by_hand) = (side(&report.store), side(&report.by_hand));
        return Ok(out.value(&json!({ "store": store, "by_hand": by_hand, "ratio": ratio }))?);
    }
    Ok(out.line(report.to_string())?)
}

fn side(side: &Side) -> Value {
    let lines = side.lines.iter().map(|line| {
        let [p50, p90, p99, max] = line.latency.map(|latency| latency.as_micros() as u64);
        json!({
            "kind": line.kind, "operations": line.operations, "p50_us": p50, "p90_us": p90, "p99_us": p99,
            "max_us": max,
        })
    });
    json!({
        "per_second": side.per_second(), "seconds": side.took.as_secs_f64(), "kinds": lines.collect::<Vec<_>>(),
    })
}
