//! The decoder: one walk over a ledger's bytes, borrowing what an engine needs.
//!
//! Events come in the order of their ids, which is that of (transaction index, operation index, event index):
//!
//! ```text
//! emitted            transaction index   operation index   event index counts
//! before all txs     0                   0                 across the ledger
//! by operation o     1 + apply order     o, from 0         in the operation
//! after its tx       1 + apply order     4095              in the transaction
//! after all txs      1 048 575           0                 across the ledger
//! ```

use icecore_ledger::{Decoded, Decoder, Event, EventFields, Result, Transaction, TxHash};

use crate::xdr::{
    Cursor, Step, read,
    walk::{self, Origin, RawEvent, TxResult, Visitor},
};

/// The largest 20-bit number: the transaction index of what happened after all transactions.
const AFTER_ALL_TXS: u32 = (1 << 20) - 1;
/// The largest 12-bit number: the operation index of what happened after a transaction's operations.
const AFTER_TX: u32 = (1 << 12) - 1;

/// Decodes `LedgerCloseMeta` of every version.
#[derive(Clone, Copy, Debug, Default)]
pub struct StellarDecoder;

impl Decoder for StellarDecoder {
    fn decode<'a>(&self, raw: &'a [u8]) -> Result<Decoded<'a>> {
        let mut found = Found::default();
        let head = read("ledger", raw, |c| walk::ledger(c, &mut found))?;
        let Found { transactions, mut events, .. } = found;
        let place = |event: &Event<'_>| (event.tx_index, event.op_index, event.event_index);
        if !events.is_sorted_by_key(place) {
            events.sort_unstable_by_key(place);
        }
        Ok(Decoded { seq: head.seq, closed_at: head.closed_at, transactions, events })
    }

    fn event_fields<'a>(&self, body: &'a [u8]) -> Result<EventFields<'a>> {
        read("contract event", body, |c: &mut Cursor<'a>| {
            let event = walk::event(c)?;
            c.end()?;
            Ok(event.fields)
        })
    }
}

/// What a walk has found so far.
#[derive(Default)]
struct Found<'a> {
    transactions: Vec<Transaction>,
    events: Vec<Event<'a>>,
    before_all: u32,
    after_all: u32,
    after_tx: u32,
    /// The operation that emitted last, and how many events it has.
    operation: (u32, u32),
}

impl Found<'_> {
    /// The coordinates of the next event from `origin`.
    fn place(&mut self, origin: Origin) -> Step<(u32, u32, u32)> {
        let next = |counter: &mut u32| std::mem::replace(counter, counter.wrapping_add(1));
        let tx_index = u32::try_from(self.transactions.len()).ok().filter(|&tx| tx < AFTER_ALL_TXS);
        let tx_index = || tx_index.ok_or("more transactions than event ids can tell apart");
        Ok(match origin {
            Origin::BeforeAllTxs => (0, 0, next(&mut self.before_all)),
            Origin::AfterAllTxs => (AFTER_ALL_TXS, 0, next(&mut self.after_all)),
            Origin::AfterTx => (tx_index()?, AFTER_TX, next(&mut self.after_tx)),
            Origin::Operation(operation) => {
                let operation = u32::try_from(operation).ok().filter(|&op| op < AFTER_TX);
                let operation = operation.ok_or("more operations than event ids can tell apart")?;
                if self.operation.0 != operation {
                    self.operation = (operation, 0);
                }
                (tx_index()?, operation, next(&mut self.operation.1))
            }
        })
    }
}

impl<'a> Visitor<'a> for Found<'a> {
    fn applied(&mut self, count: usize) {
        self.transactions.reserve(count);
    }

    fn result(&mut self, result: TxResult<'a>) {
        let inner_hash = result.inner.map(|(hash, _)| TxHash(*hash));
        self.transactions.push(Transaction { hash: TxHash(*result.hash), inner_hash });
        self.operation = (0, 0);
        self.after_tx = 0;
    }

    fn event(&mut self, origin: Origin, event: RawEvent<'a>) -> Step {
        let (tx_index, op_index, event_index) = self.place(origin)?;
        let tx_hash = self.transactions.last().map_or(TxHash([0; 32]), |tx| tx.hash);
        let RawEvent { body, fields } = event;
        self.events.push(Event { tx_hash, tx_index, op_index, event_index, body, fields });
        Ok(())
    }
}

#[cfg(test)]
mod tests;
