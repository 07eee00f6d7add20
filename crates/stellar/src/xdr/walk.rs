//! One walk over a closed ledger, in the order of its bytes, telling a visitor what is met on the way.
//!
//! ```text
//! LedgerCloseMeta   version 0            version 1            version 2
//!                   ·                    ext                  ext
//!                   header               header               header             sequence, close time
//!                   transaction set      generalized set      generalized set    envelopes, not in apply order
//!                   result metas         result metas         result metas V1    results, metas, events: in apply order
//!                   upgrades, SCP        upgrades, SCP        upgrades, SCP
//!                   ·                    state size, evicted keys …              skipped
//! ```

use icecore_ledger::{EventFields, LedgerSeq};

use super::*;

/// What a walk tells, in the order of the bytes.
pub(crate) trait Visitor<'a> {
    /// An envelope of the transaction set, which starts at this offset.
    fn envelope(&mut self, _at: usize, _xdr: &'a [u8]) {}

    /// So many transactions were applied (at most: the bytes may end early).
    fn applied(&mut self, _count: usize) {}

    /// The next applied transaction.
    fn result(&mut self, _result: TxResult<'a>) {}

    /// An event of the transaction last told of.
    ///
    /// # Errors
    /// Where it has no place among the ledger's events.
    fn event(&mut self, _origin: Origin, _event: RawEvent<'a>) -> Step {
        Ok(())
    }

    /// The `TransactionMeta` of the transaction last told of.
    fn meta(&mut self, _meta: &'a [u8]) {}
}

/// Looks at nothing: a walk only checks.
#[cfg(feature = "json")]
pub(crate) struct Nothing;

#[cfg(feature = "json")]
impl Visitor<'_> for Nothing {}

/// The head of a ledger: what its header says, and where in the ledger it says so.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Head {
    pub(crate) version: u32,
    pub(crate) seq: LedgerSeq,
    pub(crate) seq_at: usize,
    pub(crate) closed_at: i64,
    pub(crate) closed_at_at: usize,
}

/// A transaction's result, by hash and inner hash, each with its offset in the ledger.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TxResult<'a> {
    pub(crate) hash: &'a [u8; 32],
    pub(crate) hash_at: usize,
    pub(crate) inner: Option<(&'a [u8; 32], usize)>,
    /// The `TransactionResult` as XDR.
    pub(crate) xdr: &'a [u8],
}

/// What emitted an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    Operation(usize),
    BeforeAllTxs,
    AfterTx,
    AfterAllTxs,
}

/// A `ContractEvent` as XDR, and its indexed fields.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RawEvent<'a> {
    pub(crate) body: &'a [u8],
    pub(crate) fields: EventFields<'a>,
}

/// Walks one ledger; nothing may follow it.
pub(crate) fn ledger<'a>(c: &mut Cursor<'a>, visitor: &mut impl Visitor<'a>) -> Step<Head> {
    let head = next_ledger(c, visitor)?;
    c.end()?;
    Ok(head)
}

/// Walks the ledger that begins here, up to and with its last byte.
pub(crate) fn next_ledger<'a>(c: &mut Cursor<'a>, visitor: &mut impl Visitor<'a>) -> Step<Head> {
    let head = head(c)?;
    match head.version {
        0 => {
            Hash::skip(c)?;
            envelopes(c, visitor)?;
        }
        _ => generalized_set(c, visitor)?,
    }
    let count = c.count(u32::MAX)?;
    visitor.applied(count.min(c.left() / MIN_RESULT_META));
    for _ in 0..count {
        result_meta(c, head.version, visitor)?;
    }
    List::<UpgradeEntryMeta>::skip(c)?;
    List::<SCPHistoryEntry>::skip(c)?;
    if head.version >= 1 {
        Hyper::skip(c)?; // bytes of live contract state
        List::<LedgerKey>::skip(c)?; // evicted
    }
    if head.version == 1 {
        List::<LedgerEntry>::skip(c)?; // unused
    }
    Ok(head)
}

/// `TransactionResultCode`s that come with the result of an inner transaction.
const FEE_BUMP_INNER_SUCCESS: i32 = 1;
const FEE_BUMP_INNER_FAILED: i32 = -13;

/// Bytes of a transaction's result meta at the least: hash, fee, code, ext, no changes, version and length of its meta.
const MIN_RESULT_META: usize = 32 + 8 + 4 + 4 + 4 + 4 + 4;

fn head(c: &mut Cursor<'_>) -> Step<Head> {
    let head = open_head(c)?;
    LedgerHeaderTail::skip(c)?;
    ExtensionPoint::skip(c)?; // of the history entry around the header
    Ok(head)
}

/// Reads a ledger's start, up to and with the sequence in its header.
pub(crate) fn open_head(c: &mut Cursor<'_>) -> Step<Head> {
    let version = c.u32()?;
    match version {
        0 => (),
        1 | 2 => LedgerCloseMetaExt::skip(c)?,
        _ => return c.back(4, "not a version of LedgerCloseMeta"),
    }
    Hash::skip(c)?; // of this header
    Int::skip(c)?; // protocol version
    Hash::skip(c)?; // of the ledger before
    Hash::skip(c)?; // of the transaction set
    let closed_at_at = c.offset();
    let closed_at = c.hyper()?;
    List::<UpgradeType, 6>::skip(c)?;
    StellarValueExt::skip(c)?;
    Hash::skip(c)?; // of the results
    Hash::skip(c)?; // of the bucket list
    let seq_at = c.offset();
    let seq = LedgerSeq(c.u32()?);
    Ok(Head { version, seq, seq_at, closed_at, closed_at_at })
}

fn generalized_set<'a>(c: &mut Cursor<'a>, visitor: &mut impl Visitor<'a>) -> Step {
    if c.u32()? != 1 {
        return c.back(4, "not a version of GeneralizedTransactionSet");
    }
    Hash::skip(c)?; // of the ledger before
    for _ in 0..c.count(u32::MAX)? {
        match c.u32()? {
            0 => components(c, visitor)?,
            1 => parallel(c, visitor)?,
            _ => return c.back(4, "not a version of TransactionPhase"),
        }
    }
    Ok(())
}

fn components<'a>(c: &mut Cursor<'a>, visitor: &mut impl Visitor<'a>) -> Step {
    for _ in 0..c.count(u32::MAX)? {
        if c.u32()? != 0 {
            return c.back(4, "not a type of TxSetComponent");
        }
        Opt::<Hyper>::skip(c)?; // base fee
        envelopes(c, visitor)?;
    }
    Ok(())
}

fn parallel<'a>(c: &mut Cursor<'a>, visitor: &mut impl Visitor<'a>) -> Step {
    Opt::<Hyper>::skip(c)?; // base fee
    for _stage in 0..c.count(u32::MAX)? {
        for _cluster in 0..c.count(u32::MAX)? {
            envelopes(c, visitor)?;
        }
    }
    Ok(())
}

fn envelopes<'a>(c: &mut Cursor<'a>, visitor: &mut impl Visitor<'a>) -> Step {
    for _ in 0..c.count(u32::MAX)? {
        let start = c.offset();
        TransactionEnvelope::skip(c)?;
        visitor.envelope(start, c.since(start));
    }
    Ok(())
}

fn result_meta<'a>(c: &mut Cursor<'a>, version: u32, visitor: &mut impl Visitor<'a>) -> Step {
    if version == 2 {
        ExtensionPoint::skip(c)?;
    }
    visitor.result(result_pair(c)?);
    LedgerEntryChanges::skip(c)?; // fee
    let start = c.offset();
    meta(c, visitor)?;
    visitor.meta(c.since(start));
    if version == 2 {
        LedgerEntryChanges::skip(c)?; // fee, after all transactions
    }
    Ok(())
}

fn result_pair<'a>(c: &mut Cursor<'a>) -> Step<TxResult<'a>> {
    let hash_at = c.offset();
    let hash = c.array()?;
    let start = c.offset();
    let mut ahead = c.clone();
    Hyper::skip(&mut ahead)?; // fee charged
    let inner = match ahead.int()? {
        FEE_BUMP_INNER_SUCCESS | FEE_BUMP_INNER_FAILED => Some((ahead.array()?, ahead.offset() - 32)),
        _ => None,
    };
    TransactionResult::skip(c)?;
    Ok(TxResult { hash, hash_at, inner, xdr: c.since(start) })
}

/// Walks one `TransactionMeta`.
pub(crate) fn meta<'a>(c: &mut Cursor<'a>, visitor: &mut impl Visitor<'a>) -> Step {
    match c.u32()? {
        0 => List::<OperationMeta>::skip(c),
        1 => TransactionMetaV1::skip(c),
        2 => TransactionMetaV2::skip(c),
        3 => meta_v3(c, visitor),
        4 => meta_v4(c, visitor),
        _ => c.back(4, "not a version of TransactionMeta"),
    }
}

fn meta_v3<'a>(c: &mut Cursor<'a>, visitor: &mut impl Visitor<'a>) -> Step {
    ExtensionPoint::skip(c)?;
    TransactionMetaV2::skip(c)?;
    if c.flag()? {
        SorobanTransactionMetaExt::skip(c)?;
        events(c, Origin::Operation(0), visitor)?;
        SCVal::skip(c)?; // return value
        List::<DiagnosticEvent>::skip(c)?;
    }
    Ok(())
}

fn meta_v4<'a>(c: &mut Cursor<'a>, visitor: &mut impl Visitor<'a>) -> Step {
    ExtensionPoint::skip(c)?;
    LedgerEntryChanges::skip(c)?;
    for operation in 0..c.count(u32::MAX)? {
        ExtensionPoint::skip(c)?;
        LedgerEntryChanges::skip(c)?;
        events(c, Origin::Operation(operation), visitor)?;
    }
    LedgerEntryChanges::skip(c)?;
    Opt::<SorobanTransactionMetaV2>::skip(c)?;
    for _ in 0..c.count(u32::MAX)? {
        let origin = match c.u32()? {
            0 => Origin::BeforeAllTxs,
            1 => Origin::AfterTx,
            2 => Origin::AfterAllTxs,
            _ => return c.back(4, "not a TransactionEventStage"),
        };
        visitor.event(origin, event(c)?)?;
    }
    List::<DiagnosticEvent>::skip(c)
}

fn events<'a>(c: &mut Cursor<'a>, origin: Origin, visitor: &mut impl Visitor<'a>) -> Step {
    for _ in 0..c.count(u32::MAX)? {
        visitor.event(origin, event(c)?)?;
    }
    Ok(())
}

/// Reads one `ContractEvent`.
pub(crate) fn event<'a>(c: &mut Cursor<'a>) -> Step<RawEvent<'a>> {
    let start = c.offset();
    let mut fields = EventFields::default();
    ExtensionPoint::skip(c)?;
    if c.flag()? {
        fields.contract = Some(c.array::<32>()?);
    }
    ContractEventType::skip(c)?;
    if c.u32()? != 0 {
        return c.back(4, "not a version of a contract event's body");
    }
    for i in 0..c.count(u32::MAX)? {
        let start = c.offset();
        SCVal::skip(c)?;
        if let Some(topic) = fields.topics.get_mut(i) {
            *topic = Some(c.since(start));
        }
    }
    SCVal::skip(c)?; // data
    Ok(RawEvent { body: c.since(start), fields })
}
