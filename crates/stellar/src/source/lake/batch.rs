//! The object of a batch.
//!
//! ```text
//! object                  zstd( LedgerCloseMetaBatch )
//! LedgerCloseMetaBatch    u32 BE first │ u32 BE last │ u32 BE count │ LedgerCloseMeta × count
//! ```
//!
//! Ledgers have no lengths: where one ends is known by walking it.

use std::io::{self, Read};

use icecore_ledger::{Error, LedgerSeq, RawLedger, Result};

use super::BatchName;
use crate::xdr::{self, walk};

const HEADER_BYTES: usize = 12;

/// An unpacked batch that holds what its name says.
#[derive(Debug)]
pub(crate) struct Batch {
    bytes: Vec<u8>,
    first: LedgerSeq,
    /// Where each ledger ends.
    ends: Vec<usize>,
}

impl Batch {
    /// Unpacks the object of the batch `name`; `place` names it in messages.
    pub(crate) fn unpack(place: &str, name: BatchName, object: &[u8], max_bytes: u64) -> Result<Batch> {
        let mut bytes = Vec::new();
        let unpack =
            || zstd::Decoder::with_buffer(object)?.take(max_bytes.saturating_add(1)).read_to_end(&mut bytes);
        let unpacked = { unpack }();
        let at = Place { place, offset: bytes.len() as u64 };
        match unpacked {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                Err(at.truncated("the packed batch"))
            }
            Err(error) => Err(at.corrupt(format!("it cannot be unpacked: {error}"))),
            Ok(read) if read as u64 > max_bytes => {
                Err(at.corrupt(format!("it unpacks to more than the {max_bytes} bytes allowed")))
            }
            Ok(_) => Batch::split(place, name, bytes),
        }
    }

    fn split(place: &str, name: BatchName, bytes: Vec<u8>) -> Result<Batch> {
        let (first, last) = name.content();
        let count = Batch::check_header(place, name, &bytes)?;
        let mut ends = Vec::new();
        let mut end = HEADER_BYTES;
        for expected in (first.0..=last.0).take(count) {
            let rest = bytes.get(end..).unwrap_or_default();
            let (found, length) = walk_ledger(rest).map_err(|error| match error {
                Error::Malformed { what, offset, why } => Place { place, offset: end as u64 + offset }
                    .corrupt(format!("not a valid {what} (ledger {expected}): {why}")),
                other => other,
            })?;
            if found.0 != expected {
                return Err(Error::Foreign { place: place.to_owned(), expected: LedgerSeq(expected), found });
            }
            end += length;
            ends.push(end);
        }
        if end != bytes.len() {
            let trailing = format!("{} bytes after the last ledger", bytes.len() - end);
            return Err(Place { place, offset: end as u64 }.corrupt(trailing));
        }
        Ok(Batch { bytes, first, ends })
    }

    /// The number of ledgers, when the header agrees with the name.
    fn check_header(place: &str, name: BatchName, bytes: &[u8]) -> Result<usize> {
        let (first, last) = name.content();
        let word = |i: usize| {
            let word =
                bytes.get(4 * i..).and_then(|rest| rest.first_chunk()).map(|word| u32::from_be_bytes(*word));
            word.ok_or_else(|| Place { place, offset: bytes.len() as u64 }.truncated("the batch's header"))
        };
        let (found_first, found_last, count) = (word(0)?, word(1)?, word(2)?);
        if found_first != first.0 {
            return Err(Error::Foreign {
                place: place.to_owned(),
                expected: first,
                found: LedgerSeq(found_first),
            });
        }
        if found_last != last.0 {
            let what = format!("the batch ends with ledger {found_last} where {last} is expected");
            return Err(Place { place, offset: 4 }.corrupt(what));
        }
        let promised = u64::from(last.0) - u64::from(first.0) + 1;
        if u64::from(count) != promised {
            let what = format!("{count} ledgers where {first}..={last} are {promised}");
            return Err(Place { place, offset: 8 }.corrupt(what));
        }
        usize::try_from(count).map_err(|_| Place { place, offset: 8 }.corrupt("too many ledgers".into()))
    }

    /// The ledger `seq`, when it is one of these.
    pub(crate) fn ledger(&self, seq: LedgerSeq) -> Option<RawLedger<'_>> {
        let i = usize::try_from(seq.0.checked_sub(self.first.0)?).ok()?;
        let start = i.checked_sub(1).map_or(Some(HEADER_BYTES), |before| self.ends.get(before).copied())?;
        let bytes = self.bytes.get(start..*self.ends.get(i)?)?;
        Some(RawLedger { seq, bytes })
    }

    /// What it occupies.
    pub(crate) fn size_bytes(&self) -> u64 {
        (self.bytes.capacity() + self.ends.capacity() * size_of::<usize>()) as u64
    }
}

/// The sequence and the length of the ledger that `bytes` begin with.
fn walk_ledger(bytes: &[u8]) -> Result<(LedgerSeq, usize)> {
    struct Nothing;
    impl walk::Visitor<'_> for Nothing {}
    xdr::read("ledger", bytes, |c| Ok((walk::next_ledger(c, &mut Nothing)?.seq, c.offset())))
}

struct Place<'a> {
    place: &'a str,
    offset: u64,
}

impl Place<'_> {
    fn corrupt(self, what: String) -> Error {
        Error::Corrupt { place: self.place.to_owned(), offset: self.offset, what }
    }

    fn truncated(self, what: &str) -> Error {
        Error::Truncated { place: self.place.to_owned(), offset: self.offset, what: what.to_owned() }
    }
}
