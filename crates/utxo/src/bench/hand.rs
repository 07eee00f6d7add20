//! By hand: one loop over the operations, so many at a time: read what they change, change it, write one batch.

use std::{
    collections::BTreeMap,
    path::Path,
    time::{Duration, Instant},
};

use super::{
    Plan, Side,
    script::{DUE, HEIGHT, NOW_MS, Op, PAGE_SIZE, Script, spending, txid},
};
use crate::{
    Backend, Batch, CreateOptions, Error, Family, Result, RocksBackend, Slot, Spender, TxId,
    ops::{Rules, create},
    record::{Due, DueKey, Master, StoreFacts, Stored, TxFacts},
};

const RULES: Rules =
    Rules { retention_blocks: DUE - HEIGHT, coinbase_maturity_blocks: 100, tip: None, now_ms: NOW_MS };

fn put<R: Stored>(batch: &mut Batch, key: &R::Key, record: &R) {
    let key = R::key(key);
    let value = record.encode(&key);
    batch.changes.push((R::FAMILY, key, Some(value)));
}

fn due_line(txid: TxId) -> Vec<u8> {
    DueKey { due: Due::Delete, height: DUE, txid }.encode()
}

fn store(batch: &mut Batch, script: &Script, n: u64, due: bool) -> Result<()> {
    let options = if due { Script::create_options(true) } else { CreateOptions::default() };
    let mut records = create::build(&RULES, PAGE_SIZE, &script.tx(n, due), HEIGHT, &options)?;
    let txid = txid(n);
    if due {
        records.master.page.delete_at_height = Some(DUE);
        batch.changes.push((Family::Due, due_line(txid), Some(Vec::new())));
    }
    put::<TxFacts>(batch, &txid, &records.facts);
    put::<Master>(batch, &txid, &records.master);
    Ok(())
}

/// The master records that these operations change.
fn read(backend: &dyn Backend, ops: &[Op]) -> Result<BTreeMap<TxId, Master>> {
    let mut txids: Vec<_> = ops
        .iter()
        .filter_map(|op| match op {
            Op::Spend(n, _) | Op::Lock(n) => Some(txid(*n)),
            Op::Create(_) | Op::Delete(_) => None,
        })
        .collect();
    txids.sort_unstable();
    txids.dedup();
    let keys: Vec<_> = txids.iter().map(Master::key).collect();
    let mut masters = BTreeMap::new();
    for (txid, found) in txids.into_iter().zip(backend.read(Family::Master, &keys)) {
        let bytes = found?.ok_or(Error::TxNotFound { txid })?;
        masters.insert(txid, Master::decode(&txid, PAGE_SIZE, &bytes)?);
    }
    Ok(masters)
}

fn apply(backend: &dyn Backend, script: &Script, ops: &[Op]) -> Result<()> {
    let mut batch = Batch::default();
    let mut masters = read(backend, ops)?;
    for op in ops {
        match *op {
            Op::Create(n) => store(&mut batch, script, n, false)?,
            Op::Spend(n, vout) => {
                let by = Spender { txid: spending(n, vout).txid, input: 0 };
                let page = masters.get_mut(&txid(n)).map(|master| &mut master.page);
                let page = page.ok_or(Error::TxNotFound { txid: txid(n) })?;
                if let Some(&Slot::Unspent { hash }) = page.slots().get(vout as usize) {
                    page.set(vout as usize, Slot::Spent { hash, by });
                }
            }
            Op::Lock(n) => {
                masters.entry(txid(n)).and_modify(|master| master.page.locked = true);
            }
            Op::Delete(n) => {
                let key = txid(n).0.to_vec();
                batch.changes.push((Family::Due, due_line(txid(n)), None));
                batch.changes.push((Family::Facts, key.clone(), None));
                batch.changes.push((Family::Master, key, None));
            }
        }
    }
    masters.iter().for_each(|(txid, master)| put(&mut batch, txid, master));
    backend.commit(batch)
}

pub(super) fn run(dir: &Path, plan: &Plan, script: &Script) -> Result<Side> {
    icecore_diskio::Disk::create_dir_all(&icecore_diskio::RealDisk, dir)?;
    let backend = RocksBackend::open(dir.join("records"), &Default::default())?;
    let mut batch = Batch::default();
    put(&mut batch, &(), &StoreFacts { page_size: PAGE_SIZE });
    backend.commit(batch)?;
    for (numbers, due) in [(&script.alive, false), (&script.due, true)] {
        for numbers in numbers.chunks(plan.batch) {
            let mut batch = Batch::default();
            numbers.iter().try_for_each(|n| store(&mut batch, script, *n, due))?;
            backend.commit(batch)?;
        }
    }
    let started = Instant::now();
    let mut latencies: [Vec<Duration>; 4] = Default::default();
    for ops in script.ops.chunks(plan.batch) {
        let since = Instant::now();
        if plan.limit.is_some_and(|limit| since - started >= limit) {
            break;
        }
        apply(&backend, script, ops)?;
        let took = since.elapsed();
        ops.iter().for_each(|op| latencies[op.kind()].push(took));
    }
    let took = started.elapsed();
    backend.close()?;
    Ok(Side::new(took, latencies))
}
