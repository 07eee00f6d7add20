//! Random operations against a model that knows nothing of records, pages, queues or follow-ups (43).

use std::collections::BTreeMap;

use icecore_testkit::SplitMix64;
use proptest::prelude::*;

use super::{on_every_backend, support::*};
use crate::*;

on_every_backend! { model_check }

#[derive(Clone, Debug, Default, PartialEq)]
struct ModelTx {
    /// Who spends each output.
    outputs: Vec<Option<Spender>>,
    inputs: Vec<(u64, u32)>,
    locked: bool,
    conflicting: bool,
    blocks: Vec<BlockRef>,
    unmined_since: Option<u32>,
    dah: Option<u32>,
    preserve_until: Option<u32>,
    deleted_children: Vec<TxId>,
    conflicting_children: Vec<TxId>,
}

/// Every operation as it would be if everything were one map.
#[derive(Default)]
struct Model {
    txs: BTreeMap<u64, ModelTx>,
    tip: u32,
}

/// The outcome of an operation, as far as it is told: the name of the error, for each input if there are any.
type Told = Result<(), Vec<String>>;

fn word(error: &Error) -> String {
    let text = format!("{error:?}");
    text.split([' ', '{', '(']).next().unwrap_or_default().to_string()
}

fn told(result: Result<()>) -> Told {
    result.map_err(|error| match &error {
        Error::Spend(spend) => {
            spend.inputs.iter().map(|input| input.as_ref().err().map(word).unwrap_or_default()).collect()
        }
        error => vec![word(error)],
    })
}

fn refuse<T>(word: &str) -> Result<T, String> {
    Err(word.to_string())
}

impl Model {
    fn evaluate(&mut self, n: u64, height: u32) {
        let Some(tx) = self.txs.get_mut(&n) else { return };
        let due = height + RETENTION;
        if tx.preserve_until.is_some() {
        } else if tx.conflicting {
            tx.dah = tx.dah.or(Some(due));
        } else if tx.outputs.iter().all(Option::is_some)
            && !tx.blocks.is_empty()
            && tx.unmined_since.is_none()
        {
            tx.dah = tx.dah.max(Some(due));
        } else {
            tx.dah = None;
        }
    }

    fn create(
        &mut self,
        n: u64,
        outputs: u32,
        inputs: &[(u64, u32)],
        height: u32,
        options: &CreateOptions,
    ) -> Told {
        if self.txs.contains_key(&n) {
            return Err(vec!["TxExists".into()]);
        }
        let tx = ModelTx {
            outputs: vec![None; outputs as usize],
            inputs: inputs.to_vec(),
            locked: options.locked,
            conflicting: options.conflicting,
            blocks: options.mined.clone(),
            unmined_since: options.mined.is_empty().then_some(height),
            ..ModelTx::default()
        };
        self.txs.insert(n, tx);
        if options.conflicting {
            self.tell_parents(n, true);
        }
        self.evaluate(n, options.mined.iter().map(|block| block.height).max().unwrap_or(height));
        Ok(())
    }

    fn tell_parents(&mut self, n: u64, conflicting: bool) {
        let inputs = self.txs[&n].inputs.clone();
        for (parent, _) in inputs {
            let Some(parent) = self.txs.get_mut(&parent) else { continue };
            parent.conflicting_children.retain(|child| conflicting || *child != txid(n));
            if conflicting && !parent.conflicting_children.contains(&txid(n)) {
                parent.conflicting_children.push(txid(n));
            }
        }
    }

    fn spend_one(
        &mut self,
        (parent, vout): (u64, u32),
        by: (u64, Spender),
        height: u32,
    ) -> Result<(), String> {
        let blessed = self.txs.contains_key(&by.0);
        let Some(tx) = self.txs.get_mut(&parent) else {
            return if blessed { Ok(()) } else { refuse("TxNotFound") };
        };
        // Whether there is a record at all is asked before whether it may be spent.
        let record_is_there = (vout / PAGE_SIZE) as usize * (PAGE_SIZE as usize) < tx.outputs.len();
        if !record_is_there {
            return refuse("OutputNotFound");
        }
        if tx.conflicting {
            return refuse("Conflicting");
        }
        if tx.locked {
            return refuse("Locked");
        }
        let deleted = tx.deleted_children.contains(&by.1.txid);
        match tx.outputs.get_mut(vout as usize) {
            None => refuse("OutputNotFound"),
            Some(Some(on_record)) if *on_record == by.1 => {
                if deleted {
                    refuse("InvalidSpend")
                } else {
                    Ok(())
                }
            }
            Some(Some(_)) => refuse("Spent"),
            Some(free) => {
                *free = Some(by.1);
                self.evaluate(parent, height);
                Ok(())
            }
        }
    }

    fn spend(&mut self, n: u64, inputs: &[(u64, u32)], height: u32) -> Told {
        let by = |input: usize| Spender { txid: txid(n), input: input as u32 };
        let results: Vec<_> =
            inputs.iter().enumerate().map(|(i, input)| self.spend_one(*input, (n, by(i)), height)).collect();
        if results.iter().all(Result::is_ok) {
            return Ok(());
        }
        let words: Vec<_> = results.iter().map(|result| result.clone().err().unwrap_or_default()).collect();
        let invalid = ["Spent", "Conflicting", "OutputNotFound"];
        if words.iter().any(|word| invalid.contains(&word.as_str())) {
            for (i, input) in inputs.iter().enumerate().filter(|(i, _)| results[*i].is_ok()) {
                let _ = self.unspend(*input, by(i), height);
            }
        }
        Err(words)
    }

    fn unspend(&mut self, (parent, vout): (u64, u32), by: Spender, height: u32) -> Told {
        let output = self.txs.get_mut(&parent).and_then(|tx| tx.outputs.get_mut(vout as usize));
        let Some(output) = output else { return Err(vec!["OutputNotFound".into()]) };
        let changed = *output == Some(by);
        if changed {
            *output = None;
        }
        // An output beyond the first page that does not change says nothing of its transaction.
        if changed || vout < PAGE_SIZE {
            self.evaluate(parent, height);
        }
        Ok(())
    }

    fn change(&mut self, n: u64, change: impl FnOnce(&mut ModelTx)) -> Told {
        let Some(tx) = self.txs.get_mut(&n) else { return Err(vec!["TxNotFound".into()]) };
        change(tx);
        Ok(())
    }

    fn delete(&mut self, n: u64) {
        let Some(gone) = self.txs.remove(&n) else { return };
        for (parent, _) in gone.inputs {
            let Some(parent) = self.txs.get_mut(&parent) else { continue };
            if !parent.deleted_children.contains(&txid(n)) {
                parent.deleted_children.push(txid(n));
            }
        }
    }
}

/// What the store says of a transaction, in the words of the model.
fn seen(stored: &StoredTx, inputs: Vec<(u64, u32)>) -> ModelTx {
    let master = &stored.master;
    let pages = || std::iter::once(&master.page).chain(stored.extras.iter().map(|extra| &extra.page));
    assert!(
        pages().all(|page| page.locked == master.page.locked && page.conflicting == master.page.conflicting)
    );
    assert!(pages().all(|page| page.delete_at_height == master.page.delete_at_height && !page.creating));
    let spent = stored.extras.iter().filter(|extra| extra.page.all_spent()).count();
    assert_eq!((master.spent_extra as usize, master.total_extra as usize), (spent, stored.extras.len()));
    ModelTx {
        outputs: pages().flat_map(Page::slots).map(Slot::spender).collect(),
        inputs,
        locked: master.page.locked,
        conflicting: master.page.conflicting,
        blocks: master.blocks.clone(),
        unmined_since: master.unmined_since,
        dah: master.page.delete_at_height,
        preserve_until: master.preserve_until,
        deleted_children: master.deleted_children.clone(),
        conflicting_children: master.conflicting_children.clone(),
    }
}

fn same(store: &UtxoStore, model: &Model) {
    assert_eq!(store.txids().unwrap(), model.txs.keys().map(|n| txid(*n)).collect::<Vec<_>>());
    for (n, tx) in &model.txs {
        assert_eq!(&seen(&store.all_of(*n), tx.inputs.clone()), tx, "transaction {n}");
    }
}

/// One operation on both.
fn step(store: &UtxoStore, model: &mut Model, random: &mut SplitMix64, height: u32) {
    const TXS: u64 = 6;
    let n = random.below(TXS);
    let inputs: Vec<_> =
        (0..1 + random.below(3)).map(|_| (random.below(TXS), random.below(7) as u32)).collect();
    let inputs: Vec<_> = inputs.into_iter().filter(|(parent, _)| *parent != n).collect();
    let one = &[txid(n)];
    let only = |mut results: Vec<Result<()>>| told(results.pop().unwrap());
    match random.below(13) {
        0 | 1 => {
            let options = CreateOptions {
                mined: if random.below(2) == 0 { vec![block(height, height)] } else { vec![] },
                conflicting: random.below(8) == 0,
                locked: random.below(8) == 0,
                frozen: false,
            };
            let outputs = 1 + random.below(6) as u32;
            let result = store.create(child(n, outputs, &inputs), height, options.clone());
            assert_eq!(told(result), model.create(n, outputs, &inputs, height, &options));
        }
        2..=5 => {
            // Often whole transactions, so that something is wholly spent now and then.
            let outputs =
                model.txs.get(&inputs.first().map_or(n, |i| i.0)).map_or(0, |tx| tx.outputs.len() as u32);
            let whole = random.below(2) == 0 && !inputs.is_empty() && outputs > 0;
            let inputs = if whole { (0..outputs).map(|v| (inputs[0].0, v)).collect() } else { inputs };
            assert_eq!(
                told(store.take(n, &inputs, height)),
                model.spend(n, &inputs, height),
                "{n} {inputs:?}"
            );
        }
        6 => {
            for (i, input) in inputs.iter().enumerate() {
                let by = Spender { txid: txid(n), input: i as u32 };
                let result = store.unspend(&[unspend(input.0, input.1, by)], None);
                assert_eq!(only(result), model.unspend(*input, by, model.tip));
            }
        }
        7 => {
            let locked = random.below(2) == 0;
            let expected = model.change(n, |tx| {
                tx.locked = locked;
                tx.dah = tx.dah.filter(|_| !locked);
            });
            if !locked {
                model.evaluate(n, model.tip);
            }
            assert_eq!(only(store.set_locked(one, locked)), expected);
        }
        8 | 9 => {
            let info = MinedInfo { block: block(height / 3, height), on_longest_chain: random.below(3) > 0 };
            let expected = model.change(n, |tx| {
                if tx.blocks.iter().all(|block| block.block_id != info.block.block_id) {
                    tx.blocks.push(info.block);
                }
                tx.unmined_since = tx.unmined_since.filter(|_| !info.on_longest_chain);
                tx.locked = false;
            });
            model.evaluate(n, height);
            assert_eq!(told(store.set_mined(one, info).map(|_| ())), expected);
        }
        10 => {
            let gone = block(height / 3, height);
            let tip = model.tip;
            let _ = model.change(n, |tx| {
                tx.blocks.retain(|block| block.block_id != gone.block_id);
                if tx.blocks.is_empty() {
                    tx.unmined_since = tx.unmined_since.or(Some(tip));
                }
            });
            model.evaluate(n, tip);
            store.unset_mined(one, gone).pop().unwrap().unwrap();
        }
        11 => {
            let kept = model.txs.get_mut(&n).filter(|tx| tx.dah.is_some() || tx.preserve_until.is_some());
            let expected = kept.map(|tx| (tx.preserve_until, tx.dah) = (Some(height + 2), None)).is_some();
            assert_eq!(store.preserve(one, height + 2).pop().unwrap().unwrap(), expected);
        }
        _ => {
            let due = |at: Option<u32>| at.is_some_and(|at| at <= height);
            let expired: Vec<_> =
                model.txs.iter().filter(|(_, tx)| due(tx.preserve_until)).map(|(n, _)| *n).collect();
            for n in &expired {
                let _ = model.change(*n, |tx| tx.preserve_until = None);
                model.evaluate(*n, height);
            }
            assert_eq!(store.process_expired(height).unwrap(), expired.len() as u64);
            let gone = model.txs.iter().filter(|(_, tx)| due(tx.dah));
            let mut gone: Vec<_> = gone.map(|(n, tx)| (tx.dah, *n)).collect();
            gone.sort_unstable();
            gone.iter().for_each(|(_, n)| model.delete(*n));
            assert_eq!(store.delete_due(height).unwrap(), gone.len() as u64);
        }
    }
}

fn model_check(bed: &Bed) {
    let kind = bed;
    let cases = if kind.is_memory() { 48 } else { 12 };
    let config = ProptestConfig {
        cases,
        max_shrink_iters: 16,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    proptest!(config, |(seed: u64, steps in 20u32..160, reopen_every in 10u32..80)| {
        let bed = kind.fresh();
        let mut random = SplitMix64::new(seed);
        let (mut store, mut model) = (bed.open(), Model::default());
        for number in 1..=steps {
            model.tip = number;
            store.set_tip(ChainState { height: number, median_time: 0 }).unwrap();
            step(&store, &mut model, &mut random, number);
            if number % reopen_every == 0 {
                store = bed.reopen(store);
                same(&store, &model);
            }
        }
        store = bed.reopen(store);
        same(&store, &model);
        store.close(GUARD).unwrap();
    });
}
