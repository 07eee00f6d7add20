//! The chain's encoding: a checked cursor, the types as a grammar that steps over them, and a look at a ledger's head.

mod cursor;
mod grammar;
mod shape;
#[cfg(test)]
mod tests;
pub(crate) mod walk;

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

/// The sequence and the close time (in seconds since 1970) of a raw ledger; reads its head only.
///
/// # Errors
/// [`Error::Malformed`] when the bytes do not begin as a ledger.
pub fn peek_header(raw: &[u8]) -> Result<(LedgerSeq, i64)> {
    read("ledger", raw, walk::open_head).map(|head| (head.seq, head.closed_at))
}

/// The sequence of a raw ledger; reads its head only.
///
/// # Errors
/// [`Error::Malformed`] when the bytes do not begin as a ledger.
pub fn ledger_seq(raw: &[u8]) -> Result<LedgerSeq> {
    peek_header(raw).map(|(seq, _)| seq)
}

/// Gives a raw ledger another sequence in its header.
///
/// # Errors
/// [`Error::Malformed`] when the bytes do not begin as a ledger.
pub(crate) fn set_ledger_seq(raw: &mut [u8], seq: LedgerSeq) -> Result<()> {
    let at = read("ledger", raw, walk::open_head)?.seq_at;
    if let Some(field) = raw.get_mut(at..at + 4) {
        field.copy_from_slice(&seq.0.to_be_bytes());
    }
    Ok(())
}
