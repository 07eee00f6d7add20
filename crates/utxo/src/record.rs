//! The bytes of every record, version 1. Integers are little-endian, those in keys big-endian so that keys sort.
//!
//! A transaction is one master record and, where it has more outputs than a page holds, extra records: output `v` is
//! slot `v % page_size` of record `v / page_size`, record 0 being the master.
//!
//! ```text
//! family     key                                value
//! store      "store"                            u8 version | u32 page size
//! master     txid                               page | master
//! extra      txid | u32 record ≥ 1              page
//! facts      txid                               facts
//! due        u8 why | u32 height | txid         nothing: 0 = deleted at that height, 1 = preserved until it
//! lock       txid                               u8 version | u64 expiry, ms since 1970 | u64 owner
//! follow_up  txid | u8 what | u32 record        u8 version | i8 delta | u32 height
//! intent     SHA-256 of what it is about        u8 version | u8 step | u32 block | u32 height | 3 × (u32 n, n × txid)
//!
//! page       0  u8  version 1               4  u32 slots                 16  u32 spending height
//!            1  u8  0 master, 1 extra       8  u32 spendable slots       20  u32 delete-at-height
//!            2  u16 flags                  12  u32 spent slots           24  the slots
//!
//! flags      1 locked   2 conflicting   4 creating   8 has spending height   16 has delete-at-height
//!            32 all spent, as counted (extra)   64 body in the blob store   128 unmined since   256 preserved (master)
//!
//! slot       u8 0                                     unspendable
//!            u8 1 | 32 hash                           unspent
//!            u8 2 | 32 hash | 32 txid | u32 input     spent by that input
//!            u8 3 | 32 hash                           frozen
//!            u8 4 | 32 hash | u32 height              held until that height
//!
//! master     u32 extra records | u32 of them wholly spent | u32 unmined since | u32 preserve until | u64 created, ms
//!            u32 n, n × (u32 block id | u32 height | u32 subtree)    the blocks, in the order they were told
//!            u32 n, n × txid    conflicting children
//!            u32 n, n × txid    deleted children
//!
//! facts      u8 version 1 | u8 flags: 1 coinbase, 2 body follows | u32 tx version | u32 lock time | u64 fee | u64 size
//!            u32 n, n × (32 txid | u32 vout)    what it spends | the body, to the end
//! ```
//!
//! Every value but the empty ones ends in the u32 CRC32C of its family's name, its key and itself: a record that turns
//! up under another key is as damaged as one with a flipped bit. What a flag says is absent is written as zero, so that
//! there is one way to write a record.

mod notes;
mod wire;

pub(crate) use notes::{Due, DueKey, FollowUp, FollowUpKey, Intent, IntentId, Lock, Owed, StoreFacts};
pub(crate) use wire::{Cursor, Found, put_list, seal, unseal};

use crate::{BlockRef, Error, Family, Outpoint, OutputHash, Result, Slot, Spender, TxId};

pub(crate) const VERSION: u8 = 1;
const HEAD_BYTES: usize = 24;
const SLOT_BYTES: [usize; 5] = [1, 33, 69, 33, 37];

const LOCKED: u16 = 1;
const CONFLICTING: u16 = 2;
const CREATING: u16 = 4;
const HAS_SPENDING_HEIGHT: u16 = 8;
const HAS_DAH: u16 = 16;
const ALL_SPENT: u16 = 32;
const EXTERNAL: u16 = 64;
const UNMINED: u16 = 128;
const PRESERVED: u16 = 256;
const PAGE_FLAGS: u16 = LOCKED | CONFLICTING | CREATING | HAS_SPENDING_HEIGHT | HAS_DAH;
const MASTER_FLAGS: u16 = PAGE_FLAGS | EXTERNAL | UNMINED | PRESERVED;
const EXTRA_FLAGS: u16 = PAGE_FLAGS | ALL_SPENT;

const FACTS_COINBASE: u8 = 1;
const FACTS_BODY: u8 = 2;

/// A kind of record: its family, its keys, its bytes.
pub(crate) trait Stored: Sized + Clone {
    /// What tells one record of the kind from another.
    type Key: Ord + Clone;
    const FAMILY: Family;

    fn key(key: &Self::Key) -> Vec<u8>;
    /// The value without its checksum.
    fn write(&self, out: &mut Vec<u8>);
    /// Reads what [`write`](Stored::write) wrote, to the last byte; the error says what is wrong with it.
    fn read(key: &Self::Key, page_size: u32, bytes: &mut Cursor<'_>) -> Found<Self>;
    /// Under which heights the record is to be found again.
    fn due(&self) -> [Option<u32>; 2] {
        [None, None]
    }

    /// The key in the index of what falls due, for the kinds that do.
    fn due_key(_key: &Self::Key, _due: Due, _height: u32) -> Option<DueKey> {
        None
    }

    fn encode(&self, key: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        self.write(&mut out);
        seal(Self::FAMILY, key, &mut out);
        out
    }

    fn decode(key: &Self::Key, page_size: u32, bytes: &[u8]) -> Result<Self> {
        let key_bytes = Self::key(key);
        let damaged = |what| Error::damaged(Self::FAMILY, &key_bytes, what);
        let mut cursor = Cursor(unseal(Self::FAMILY, &key_bytes, bytes).map_err(damaged)?);
        let record = Self::read(key, page_size, &mut cursor).map_err(damaged)?;
        if cursor.0.is_empty() { Ok(record) } else { Err(damaged("bytes follow its end")) }
    }
}

/// A run of outputs and what holds for all of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    slots: Vec<Slot>,
    record_utxos: u32,
    spent_utxos: u32,
    /// Its outputs cannot be spent until it is unlocked.
    pub locked: bool,
    /// Its transaction lost a double spend.
    pub conflicting: bool,
    /// Not all records of the transaction are stored yet.
    pub creating: bool,
    /// The first height at which a coinbase's outputs may be spent.
    pub spending_height: Option<u32>,
    /// The height at which the record may be deleted.
    pub delete_at_height: Option<u32>,
}

impl Page {
    pub(crate) fn new(slots: Vec<Slot>) -> Self {
        let (record_utxos, spent_utxos) = count(&slots);
        let (locked, conflicting, creating) = (false, false, false);
        let (spending_height, delete_at_height) = (None, None);
        Page {
            slots,
            record_utxos,
            spent_utxos,
            locked,
            conflicting,
            creating,
            spending_height,
            delete_at_height,
        }
    }

    /// The outputs, in order.
    pub fn slots(&self) -> &[Slot] {
        &self.slots
    }

    /// How many outputs could ever be spent.
    pub fn record_utxos(&self) -> u32 {
        self.record_utxos
    }

    /// How many outputs are spent.
    pub fn spent_utxos(&self) -> u32 {
        self.spent_utxos
    }

    /// True where nothing is left to spend.
    pub fn all_spent(&self) -> bool {
        self.spent_utxos == self.record_utxos
    }

    /// Puts an output into another state, of the same hash. Out of range, nothing happens.
    pub(crate) fn set(&mut self, slot: usize, state: Slot) {
        if let Some(old) = self.slots.get_mut(slot) {
            self.spent_utxos -= u32::from(old.spender().is_some());
            self.spent_utxos += u32::from(state.spender().is_some());
            *old = state;
        }
    }

    fn flags(&self) -> u16 {
        flag(LOCKED, self.locked)
            | flag(CONFLICTING, self.conflicting)
            | flag(CREATING, self.creating)
            | flag(HAS_SPENDING_HEIGHT, self.spending_height.is_some())
            | flag(HAS_DAH, self.delete_at_height.is_some())
    }

    fn write(&self, kind: u8, more_flags: u16, out: &mut Vec<u8>) {
        out.reserve(HEAD_BYTES + self.slots.len() * SLOT_BYTES[2]);
        out.extend_from_slice(&[VERSION, kind]);
        out.extend_from_slice(&(self.flags() | more_flags).to_le_bytes());
        let slots = self.slots.len() as u32; // at most a page size, which is a u32
        let numbers = [slots, self.record_utxos, self.spent_utxos];
        let heights = [self.spending_height.unwrap_or(0), self.delete_at_height.unwrap_or(0)];
        numbers.iter().chain(&heights).for_each(|n| out.extend_from_slice(&n.to_le_bytes()));
        self.slots.iter().for_each(|slot| write_slot(slot, out));
    }

    /// Reads a page and the flags that belong to what follows it.
    fn read(kind: u8, known_flags: u16, page_size: u32, bytes: &mut Cursor<'_>) -> Found<(Page, u16)> {
        let [version, found_kind] = bytes.take()?;
        check(version == VERSION, "unknown version")?;
        check(found_kind == kind, "a record of another kind")?;
        let flags = u16::from_le_bytes(bytes.take()?);
        check(flags & !known_flags == 0, "unknown flags")?;
        let slot_count = bytes.u32()?;
        let counts = (bytes.u32()?, bytes.u32()?);
        let spending_height = bytes.optional(flags & HAS_SPENDING_HEIGHT != 0)?;
        let delete_at_height = bytes.optional(flags & HAS_DAH != 0)?;
        check(slot_count >= 1, "no outputs")?;
        check(slot_count <= page_size, "more outputs than a page holds")?;
        check(slot_count as usize <= bytes.0.len(), "more outputs than bytes")?;
        let mut slots = Vec::with_capacity(slot_count as usize);
        for _ in 0..slot_count {
            slots.push(read_slot(bytes)?);
        }
        let mut page = Page::new(slots);
        check(counts == (page.record_utxos, page.spent_utxos), "the counts are not those of the outputs")?;
        page.locked = flags & LOCKED != 0;
        page.conflicting = flags & CONFLICTING != 0;
        page.creating = flags & CREATING != 0;
        page.spending_height = spending_height;
        page.delete_at_height = delete_at_height;
        Ok((page, flags))
    }
}

fn count(slots: &[Slot]) -> (u32, u32) {
    let spendable = slots.iter().filter(|slot| !matches!(slot, Slot::Unspendable)).count();
    let spent = slots.iter().filter(|slot| slot.spender().is_some()).count();
    (spendable as u32, spent as u32) // at most a page size
}

fn flag(bit: u16, on: bool) -> u16 {
    if on { bit } else { 0 }
}

pub(crate) fn check(holds: bool, what: &'static str) -> Found<()> {
    if holds { Ok(()) } else { Err(what) }
}

fn write_slot(slot: &Slot, out: &mut Vec<u8>) {
    let mut put = |tag: u8, hash: &OutputHash| {
        out.push(tag);
        out.extend_from_slice(&hash.0);
    };
    match slot {
        Slot::Unspendable => out.push(0),
        Slot::Unspent { hash } => put(1, hash),
        Slot::Spent { hash, by } => {
            put(2, hash);
            out.extend_from_slice(&by.txid.0);
            out.extend_from_slice(&by.input.to_le_bytes());
        }
        Slot::Frozen { hash } => put(3, hash),
        Slot::Held { hash, until } => {
            put(4, hash);
            out.extend_from_slice(&until.to_le_bytes());
        }
    }
}

fn read_slot(bytes: &mut Cursor<'_>) -> Found<Slot> {
    let [tag] = bytes.take()?;
    if tag == 0 {
        return Ok(Slot::Unspendable);
    }
    let hash = OutputHash(bytes.take()?);
    Ok(match tag {
        1 => Slot::Unspent { hash },
        2 => Slot::Spent { hash, by: Spender { txid: TxId(bytes.take()?), input: bytes.u32()? } },
        3 => Slot::Frozen { hash },
        4 => Slot::Held { hash, until: bytes.u32()? },
        _ => return Err("unknown state of an output"),
    })
}

/// The master record of a transaction: its first page, and what changes in its life.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Master {
    /// The first outputs.
    pub page: Page,
    /// The blocks that hold it.
    pub blocks: Vec<BlockRef>,
    /// How many extra records it has.
    pub total_extra: u32,
    /// How many of those are wholly spent.
    pub spent_extra: u32,
    /// Since which height it waits to be mined on the longest chain.
    pub unmined_since: Option<u32>,
    /// It is kept until this height, whatever else holds.
    pub preserve_until: Option<u32>,
    /// Its body is in the blob store.
    pub external: bool,
    /// Transactions in conflict that spend its outputs.
    pub conflicting_children: Vec<TxId>,
    /// Transactions that spent its outputs and are deleted since.
    pub deleted_children: Vec<TxId>,
    /// When it was stored, in milliseconds since 1970.
    pub created_at_ms: u64,
}

impl Stored for Master {
    type Key = TxId;
    const FAMILY: Family = Family::Master;

    fn key(key: &TxId) -> Vec<u8> {
        key.0.to_vec()
    }

    fn write(&self, out: &mut Vec<u8>) {
        let flags = flag(EXTERNAL, self.external)
            | flag(UNMINED, self.unmined_since.is_some())
            | flag(PRESERVED, self.preserve_until.is_some());
        self.page.write(0, flags, out);
        let heights = [self.unmined_since.unwrap_or(0), self.preserve_until.unwrap_or(0)];
        [self.total_extra, self.spent_extra].iter().chain(&heights).for_each(|n| out.extend(n.to_le_bytes()));
        out.extend(self.created_at_ms.to_le_bytes());
        put_list(&self.blocks, out, |block, out| {
            [block.block_id, block.height, block.subtree].iter().for_each(|n| out.extend(n.to_le_bytes()));
        });
        put_list(&self.conflicting_children, out, |child, out| out.extend(child.0));
        put_list(&self.deleted_children, out, |child, out| out.extend(child.0));
    }

    fn read(_: &TxId, page_size: u32, bytes: &mut Cursor<'_>) -> Found<Self> {
        let (page, flags) = Page::read(0, MASTER_FLAGS, page_size, bytes)?;
        let (total_extra, spent_extra) = (bytes.u32()?, bytes.u32()?);
        check(spent_extra <= total_extra, "more extra records spent than there are")?;
        check(
            total_extra == 0 || page.slots.len() as u32 == page_size,
            "extra records behind a page that is not full",
        )?;
        let outputs = u64::from(total_extra).saturating_mul(u64::from(page_size));
        check(outputs <= u64::from(u32::MAX), "more outputs than can be numbered")?;
        let unmined_since = bytes.optional(flags & UNMINED != 0)?;
        let preserve_until = bytes.optional(flags & PRESERVED != 0)?;
        let created_at_ms = u64::from_le_bytes(bytes.take()?);
        let blocks =
            bytes.list(12, |b| Ok(BlockRef { block_id: b.u32()?, height: b.u32()?, subtree: b.u32()? }))?;
        let conflicting_children = bytes.list(32, |b| Ok(TxId(b.take()?)))?;
        let deleted_children = bytes.list(32, |b| Ok(TxId(b.take()?)))?;
        let external = flags & EXTERNAL != 0;
        Ok(Master {
            page,
            blocks,
            total_extra,
            spent_extra,
            unmined_since,
            preserve_until,
            external,
            conflicting_children,
            deleted_children,
            created_at_ms,
        })
    }

    fn due(&self) -> [Option<u32>; 2] {
        [self.page.delete_at_height, self.preserve_until]
    }

    fn due_key(key: &TxId, due: Due, height: u32) -> Option<DueKey> {
        Some(DueKey { due, height, txid: *key })
    }
}

/// A further page of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extra {
    /// The outputs.
    pub page: Page,
    /// Whether the page was wholly spent when that was last counted for the master.
    pub last_all_spent: bool,
}

impl Stored for Extra {
    type Key = (TxId, u32);
    const FAMILY: Family = Family::Extra;

    fn key((txid, record): &(TxId, u32)) -> Vec<u8> {
        [txid.0.as_slice(), &record.to_be_bytes()].concat()
    }

    fn write(&self, out: &mut Vec<u8>) {
        self.page.write(1, flag(ALL_SPENT, self.last_all_spent), out);
    }

    fn read(_: &(TxId, u32), page_size: u32, bytes: &mut Cursor<'_>) -> Found<Self> {
        let (page, flags) = Page::read(1, EXTRA_FLAGS, page_size, bytes)?;
        Ok(Extra { page, last_all_spent: flags & ALL_SPENT != 0 })
    }
}

/// The half of a transaction that never changes; kept apart, so that a spend does not write it again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TxFacts {
    /// The version it declares.
    pub version: u32,
    /// The lock time it declares.
    pub lock_time: u32,
    /// Its fee.
    pub fee: u64,
    /// Its size.
    pub size_bytes: u64,
    /// It makes new coins.
    pub coinbase: bool,
    /// What its inputs spend, in order.
    pub inpoints: Vec<Outpoint>,
    /// Its body, unless that is in the blob store.
    pub body: Option<Vec<u8>>,
}

impl Stored for TxFacts {
    type Key = TxId;
    const FAMILY: Family = Family::Facts;

    fn key(key: &TxId) -> Vec<u8> {
        key.0.to_vec()
    }

    fn write(&self, out: &mut Vec<u8>) {
        let flags =
            if self.coinbase { FACTS_COINBASE } else { 0 } | if self.body.is_some() { FACTS_BODY } else { 0 };
        out.extend([VERSION, flags]);
        [self.version, self.lock_time].iter().for_each(|n| out.extend(n.to_le_bytes()));
        [self.fee, self.size_bytes].iter().for_each(|n| out.extend(n.to_le_bytes()));
        put_list(&self.inpoints, out, |inpoint, out| {
            out.extend(inpoint.txid.0);
            out.extend(inpoint.vout.to_le_bytes());
        });
        out.extend_from_slice(self.body.as_deref().unwrap_or_default());
    }

    fn read(_: &TxId, _: u32, bytes: &mut Cursor<'_>) -> Found<Self> {
        let [version, flags] = bytes.take()?;
        check(version == VERSION, "unknown version")?;
        check(flags & !(FACTS_COINBASE | FACTS_BODY) == 0, "unknown flags")?;
        let (tx_version, lock_time) = (bytes.u32()?, bytes.u32()?);
        let (fee, size_bytes) = (u64::from_le_bytes(bytes.take()?), u64::from_le_bytes(bytes.take()?));
        let inpoints = bytes.list(36, |b| Ok(Outpoint { txid: TxId(b.take()?), vout: b.u32()? }))?;
        let body = (flags & FACTS_BODY != 0).then(|| bytes.rest().to_vec());
        let coinbase = flags & FACTS_COINBASE != 0;
        Ok(TxFacts { version: tx_version, lock_time, fee, size_bytes, coinbase, inpoints, body })
    }
}

#[cfg(test)]
mod tests;
