//! The chain's encoding: a checked cursor, the types as a grammar that steps over them, and a look at a ledger's head.

mod cursor;
mod grammar;
mod shape;

use icecore_ledger::{Error, LedgerSeq, Result};

pub(crate) use cursor::{Cursor, Step};
pub(crate) use grammar::*;
pub(crate) use shape::{Hyper, Int, List, Opt, Xdr};

/// Runs `read` over all of `bytes`; a refusal tells where.
pub(crate) fn read<'a, T>(
    what: &'static str,
    bytes: &'a [u8],
    read: impl FnOnce(&mut Cursor<'a>) -> Step<T>,
) -> Result<T> {
    let mut c = Cursor::new(bytes);
    read(&mut c).map_err(|why| Error::Malformed { what, offset: c.offset() as u64, why: why.into() })
}

/// The head of a ledger: what its header says, and where in the ledger it says so.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Head {
    /// Version of the whole ledger: 0, 1 or 2.
    pub(crate) version: u32,
    pub(crate) seq: LedgerSeq,
    pub(crate) seq_at: usize,
    pub(crate) closed_at: i64,
    pub(crate) closed_at_at: usize,
}

/// Reads a ledger's start up to and with the sequence in its header.
fn open_head(c: &mut Cursor<'_>) -> Step<Head> {
    let version = c.u32()?;
    match version {
        0 => (),
        1 | 2 => LedgerCloseMetaExt::skip(c)?,
        _ => return c.back(4, "not a version of LedgerCloseMeta"),
    }
    Hash::skip(c)?; // of the header
    Int::skip(c)?; // protocol version
    Hash::skip(c)?; // of the previous ledger
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

/// The sequence and the close time (in seconds since 1970) of a raw ledger; reads its head only.
///
/// # Errors
/// [`Error::Malformed`] when the bytes do not begin as a ledger.
pub fn peek_header(raw: &[u8]) -> Result<(LedgerSeq, i64)> {
    read("ledger", raw, open_head).map(|head| (head.seq, head.closed_at))
}

/// The sequence of a raw ledger; reads its head only.
///
/// # Errors
/// [`Error::Malformed`] when the bytes do not begin as a ledger.
pub fn ledger_seq(raw: &[u8]) -> Result<LedgerSeq> {
    peek_header(raw).map(|(seq, _)| seq)
}
