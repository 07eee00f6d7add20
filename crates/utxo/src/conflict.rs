//! Settling double spends: the transactions of a block win, whatever spends the same outputs loses.
//!
//! ```text
//! intent     what is about to be done, durable before the first change
//! mark       the losers and all that descends from them are marked; then nothing new can descend from them,
//!            and the intent is written again with all of them, and the parents whose outputs are freed
//! free       the parents are locked, and what the losers spent is given back
//! spend      the winners spend it, locked or not
//! settle     the winners are no longer in conflict, the parents are unlocked, the intent goes
//! ```
//!
//! Every step can be done again, so an intent that is found when a store opens is carried out from the start, with the
//! losers that are in it and those that came since. A loser need not be stored: what it took is freed all the same.

use std::collections::BTreeSet;

use crate::{
    BlockRef, Error, Fields, Outpoint, OutputHash, Result, SpendFlags, SpendInput, SpendTx, Spender, TxId,
    Unspend, UtxoStore,
    engine::{Change, Found, MISMATCH, Read},
    mutants,
    record::Intent,
    store::{all, done},
};

impl UtxoStore {
    /// Settles the double spends that `winners`, the transactions of a block, have won. Returns the losers, which stay
    /// in the store, marked.
    ///
    /// # Errors
    /// [`Error::TxNotFound`] where a winner is not stored; [`Error::Spend`] where a winner cannot spend. Then the intent
    /// stays, and [`replay_intents`](UtxoStore::replay_intents) goes on with it.
    pub fn process_conflicting(&self, winners: &[TxId], block: &BlockRef) -> Result<Vec<TxId>> {
        let winners: Vec<_> = winners.iter().copied().collect::<BTreeSet<_>>().into_iter().collect();
        let (block_id, height) = (block.block_id, block.height);
        let (losers, parents) = (Vec::new(), Vec::new());
        // Nothing is begun that could not go on.
        self.get_many(&winners, Fields::default()).into_iter().try_for_each(|tx| tx.map(|_| ()))?;
        let intent = Intent { marked: false, block_id, height, winners, losers, parents };
        self.put_intent(&intent)?;
        self.carry_out(intent)
    }

    /// Carries out what was begun and not ended when the store was closed or killed; what was begun for a block that is
    /// no longer on the chain (by its id and height) is dropped. Belongs at the start of a program, before other work.
    /// Returns how many were carried out.
    ///
    /// # Errors
    /// Those of [`process_conflicting`](UtxoStore::process_conflicting).
    pub fn replay_intents(&self, on_chain: impl Fn(u32, u32) -> bool) -> Result<usize> {
        let Found::Intents(intents) = self.read(Read::Intents)? else { return Err(MISMATCH) };
        let mut replayed = 0;
        for intent in intents {
            if on_chain(intent.block_id, intent.height) {
                self.carry_out(intent)?;
                replayed += 1;
            } else {
                self.set_locked_where_stored(&intent.parents, false)?;
                self.remove_intent(&intent)?;
            }
        }
        Ok(replayed)
    }

    fn carry_out(&self, begun: Intent) -> Result<Vec<TxId>> {
        // Also where all were marked before: others may have taken what the winners spend since.
        let contested = self.contested(&begun.winners)?;
        let mut losers = self.mark_losers(contested.iter().map(|(_, by)| by.txid), &begun.winners)?;
        losers.extend(&begun.losers);
        let mut intent = Intent { marked: true, losers: losers.iter().copied().collect(), ..begun.clone() };
        let freed = [self.inputs(&intent.losers)?, contested].concat();
        let mut parents: BTreeSet<_> = freed.iter().map(|(outpoint, _)| outpoint.txid).collect();
        parents.extend(&begun.parents);
        intent.parents = parents.difference(&losers).copied().collect();
        if intent != begun {
            self.put_intent(&intent)?;
        }
        self.set_locked_where_stored(&intent.parents, true)?;
        let freed: Vec<_> = freed.into_iter().map(|(outpoint, by)| Unspend { outpoint, by }).collect();
        for freed in self.unspend(&freed, None) {
            where_stored(freed)?;
        }
        self.spend_winners(&intent)?;
        for settled in self.set_conflicting(&intent.winners, false) {
            settled?;
        }
        self.set_locked_where_stored(&intent.parents, false)?;
        self.remove_intent(&intent)?;
        Ok(intent.losers)
    }

    /// What the winners spend and others have, with these: they need not be stored.
    fn contested(&self, winners: &[TxId]) -> Result<Vec<(Outpoint, Spender)>> {
        let outpoints: Vec<_> = self.inputs(winners)?.into_iter().map(|(outpoint, _)| outpoint).collect();
        let mut contested = Vec::new();
        for (outpoint, state) in outpoints.iter().zip(self.outputs(&outpoints)) {
            let spender = where_stored(state)?.and_then(|state| state.spender());
            contested.extend(spender.filter(|by| !winners.contains(&by.txid)).map(|by| (*outpoint, by)));
        }
        Ok(contested)
    }

    /// Marks these, and all that descends from them; tells which of them are stored.
    fn mark_losers(&self, first: impl Iterator<Item = TxId>, winners: &[TxId]) -> Result<BTreeSet<TxId>> {
        let mut next: BTreeSet<_> = first.collect();
        let mut losers = BTreeSet::new();
        while !next.is_empty() {
            let marking: Vec<_> = next.into_iter().collect();
            let mut found = BTreeSet::new();
            for (txid, children) in marking.iter().zip(self.set_conflicting(&marking, true)) {
                if let Some(children) = where_stored(children)? {
                    losers.insert(*txid);
                    found.extend(children);
                }
            }
            next =
                found.into_iter().filter(|txid| !losers.contains(txid) && !winners.contains(txid)).collect();
        }
        Ok(losers)
    }

    fn spend_winners(&self, intent: &Intent) -> Result<()> {
        let flags = SpendFlags { ignore_conflicting: true, ignore_locked: true };
        for winner in &intent.winners {
            let outpoints: Vec<_> =
                self.inputs(std::slice::from_ref(winner))?.into_iter().map(|i| i.0).collect();
            let mut inputs = Vec::with_capacity(outpoints.len());
            for (&outpoint, state) in outpoints.iter().zip(self.outputs(&outpoints)) {
                // The parent of a stored transaction may be gone; then its hash is not asked for.
                let hash = where_stored(state)?.and_then(|state| state.hash()).unwrap_or(OutputHash([0; 32]));
                inputs.push(SpendInput { outpoint, hash });
            }
            self.spend(SpendTx { txid: *winner, inputs }, intent.height, flags)?;
        }
        Ok(())
    }

    /// What these transactions spend, as far as they are stored, and by which input.
    fn inputs(&self, txids: &[TxId]) -> Result<Vec<(Outpoint, Spender)>> {
        let mut inputs = Vec::new();
        for tx in self.get_many(txids, Fields { facts: true, ..Fields::default() }) {
            let Some(tx) = where_stored(tx)? else { continue };
            let inpoints = tx.facts.map(|facts| facts.inpoints).unwrap_or_default();
            inputs.extend(
                (0..).zip(inpoints).map(|(input, outpoint)| (outpoint, Spender { txid: tx.txid, input })),
            );
        }
        Ok(inputs)
    }

    fn set_locked_where_stored(&self, txids: &[TxId], locked: bool) -> Result<()> {
        self.set_locked(txids, locked).into_iter().try_for_each(|locked| where_stored(locked).map(|_| ()))
    }

    fn put_intent(&self, intent: &Intent) -> Result<()> {
        if mutants::on("intent_not_written") {
            return Ok(());
        }
        let put = Change::PutIntent(Box::new(intent.clone()));
        all(&self.queues.locked, vec![put]).into_iter().try_for_each(done)
    }

    fn remove_intent(&self, intent: &Intent) -> Result<()> {
        all(&self.queues.locked, vec![Change::RemoveIntent(intent.id())]).into_iter().try_for_each(done)
    }
}

/// Nothing, where the record was deleted before.
fn where_stored<T>(answer: Result<T>) -> Result<Option<T>> {
    match answer {
        Err(Error::TxNotFound { .. } | Error::OutputNotFound { .. }) => Ok(None),
        answer => answer.map(Some),
    }
}
