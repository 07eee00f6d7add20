use crate::{LedgerSeq, Result, TxHash};

/// How many leading topics of an event are indexed.
pub const MAX_TOPICS: usize = 4;

/// What an engine needs of one ledger, borrowed from its raw bytes.
#[derive(Clone, Debug)]
pub struct Decoded<'a> {
    /// The ledger's own sequence number.
    pub seq: LedgerSeq,
    /// When it closed, in seconds since 1970.
    pub closed_at: i64,
    /// Its transactions, in the order they were applied.
    pub transactions: Vec<Transaction>,
    /// Its events, in the order of their ids.
    pub events: Vec<Event<'a>>,
}

impl Decoded<'_> {
    /// Every hash that finds a transaction of this ledger: outer ones, and the inner ones of wrapped transactions.
    pub fn hashes(&self) -> impl Iterator<Item = TxHash> + '_ {
        self.transactions.iter().flat_map(|tx| std::iter::once(tx.hash).chain(tx.inner_hash))
    }
}

/// The hashes by which one transaction is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transaction {
    /// The transaction's own hash.
    pub hash: TxHash,
    /// For a fee-bump: the hash of the transaction inside it.
    pub inner_hash: Option<TxHash>,
}

/// One event, with the coordinates that fix its place in the order of a ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event<'a> {
    /// The hash of the transaction that emitted it.
    pub tx_hash: TxHash,
    /// The transaction's place in the ledger, from 1; 0 and the largest 20-bit number are ledger-wide stages.
    pub tx_index: u32,
    /// The operation's place in the transaction; `u32::MAX` where there is none.
    pub op_index: u32,
    /// The event's place in its (transaction, operation) group.
    pub event_index: u32,
    /// The event itself, in the chain's own encoding.
    pub body: &'a [u8],
    /// The fields that are indexed, borrowed from the body.
    pub fields: EventFields<'a>,
}

/// The indexed fields of an event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EventFields<'a> {
    /// The 32-byte id of the emitting contract, where there is one.
    pub contract: Option<&'a [u8]>,
    /// The first topics in their raw encoding; filled from the front, then `None`.
    pub topics: [Option<&'a [u8]>; MAX_TOPICS],
}

impl<'a> EventFields<'a> {
    /// The fields that are present as (field number, value): 0 the contract, 1 to 4 the topics.
    pub fn terms(&self) -> impl Iterator<Item = (u8, &'a [u8])> {
        let fields = std::iter::once(self.contract).chain(self.topics);
        fields.zip(0u8..).filter_map(|(value, field)| value.map(|value| (field, value)))
    }
}

/// Reads raw ledgers of one chain.
pub trait Decoder: Send + Sync {
    /// Decodes one ledger; nothing is copied but hashes.
    ///
    /// # Errors
    /// [`Error::Malformed`](crate::Error::Malformed) with the byte offset for bytes that are not one whole ledger.
    fn decode<'a>(&self, raw: &'a [u8]) -> Result<Decoded<'a>>;

    /// The indexed fields of an event body, as [`decode`](Decoder::decode) found them.
    ///
    /// # Errors
    /// [`Error::Malformed`](crate::Error::Malformed) for bytes that are not one whole event.
    fn event_fields<'a>(&self, body: &'a [u8]) -> Result<EventFields<'a>>;
}
