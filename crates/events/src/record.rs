//! The event record: one event with its coordinates, the same bytes wherever it is stored.
//!
//! ```text
//! at  size
//!  0     1   version, 1
//!  1    32   transaction hash
//! 33     4   ledger                                  integers are big-endian
//! 37     4   transaction index
//! 41     4   operation index, 0xFFFFFFFF = none
//! 45     8   close time, signed, seconds since 1970
//! 53     4   event index
//! 57     4   body length
//! 61     …   body, to the record's end exactly
//! ```

use std::{fmt::Display, path::Path};

use icecore_ledger::{Event, LedgerSeq, TxHash};

use crate::{Error, Position, Result};

const VERSION: u8 = 1;

/// The bytes of a record before its body.
pub const RECORD_HEADER_BYTES: usize = 61;

const _: () = assert!(RECORD_HEADER_BYTES == 1 + 32 + 4 + 4 + 4 + 8 + 4 + 4);

/// An event as stored. Its body is owned, or borrowed from the bytes it was decoded from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventRecord<B = Vec<u8>> {
    /// The ledger.
    pub ledger: LedgerSeq,
    /// When the ledger closed, in seconds since 1970.
    pub closed_at: i64,
    /// The hash of the transaction that emitted the event.
    pub tx_hash: TxHash,
    /// The transaction's place in the ledger.
    pub tx_index: u32,
    /// The operation's place in the transaction; `u32::MAX` where there is none.
    pub op_index: u32,
    /// The event's place in its (transaction, operation) group.
    pub event_index: u32,
    /// The event itself, in the chain's own encoding.
    pub body: B,
}

impl<B: AsRef<[u8]>> EventRecord<B> {
    /// Where the event stands in the order of all events: what a page resumes after.
    pub fn position(&self) -> Position {
        let &EventRecord { ledger, tx_index, op_index, event_index, .. } = self;
        Position { ledger, tx_index, op_index, event_index }
    }

    /// Appends the record's bytes.
    ///
    /// # Errors
    /// [`Error::TooLarge`] for a body of 2^32 bytes or more; then nothing is appended.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<()> {
        let body = self.body.as_ref();
        let too_large = |_| Error::TooLarge { what: "an event body", size: body.len() as u64 };
        let body_len = u32::try_from(body.len()).map_err(too_large)?;
        out.reserve(RECORD_HEADER_BYTES + body.len());
        out.push(VERSION);
        out.extend_from_slice(&self.tx_hash.0);
        out.extend_from_slice(&self.ledger.0.to_be_bytes());
        out.extend_from_slice(&self.tx_index.to_be_bytes());
        out.extend_from_slice(&self.op_index.to_be_bytes());
        out.extend_from_slice(&self.closed_at.to_be_bytes());
        out.extend_from_slice(&self.event_index.to_be_bytes());
        out.extend_from_slice(&body_len.to_be_bytes());
        out.extend_from_slice(body);
        Ok(())
    }

    /// The same record with a body of its own.
    pub fn into_owned(self) -> EventRecord {
        let EventRecord { ledger, closed_at, tx_hash, tx_index, op_index, event_index, body } = self;
        let body = body.as_ref().to_vec();
        EventRecord { ledger, closed_at, tx_hash, tx_index, op_index, event_index, body }
    }
}

impl<'a> EventRecord<&'a [u8]> {
    /// The record of an event of a ledger.
    pub fn of(ledger: LedgerSeq, closed_at: i64, event: &Event<'a>) -> Self {
        let &Event { tx_hash, tx_index, op_index, event_index, body, .. } = event;
        EventRecord { ledger, closed_at, tx_hash, tx_index, op_index, event_index, body }
    }

    /// Reads a record; its body borrows from `bytes`.
    ///
    /// # Errors
    /// [`Error::BadRecord`] for anything but one whole record and not a byte more.
    pub fn decode(bytes: &'a [u8]) -> Result<Self> {
        let bad = |what| Error::BadRecord { len_bytes: bytes.len(), what };
        let mut rest = bytes;
        let record = Self::parse(&mut rest).ok_or_else(|| bad("it ends within its header"))?;
        let (version, body_len, record) = record;
        if version != VERSION {
            return Err(bad("its version is not 1: written by a newer program, or damaged"));
        }
        if usize::try_from(body_len) != Ok(rest.len()) {
            return Err(bad("its body length does not use up the record exactly"));
        }
        Ok(EventRecord { body: rest, ..record })
    }

    /// Reads the record of an event of a chunk, and checks that it is of the ledger that the chunk's counts say. `path`
    /// is for messages.
    ///
    /// # Errors
    /// [`Error::Corrupt`].
    pub fn decode_at(path: &Path, id: u32, ledger: LedgerSeq, bytes: &'a [u8]) -> Result<Self> {
        let record = Self::decode(bytes).map_err(|e| damaged(path, id, e))?;
        if record.ledger != ledger {
            let what = format!("it says ledger {}, the counts say {ledger}", record.ledger);
            return Err(damaged(path, id, what));
        }
        Ok(record)
    }

    fn parse(rest: &mut &'a [u8]) -> Option<(u8, u32, Self)> {
        let [version] = *take(rest)?;
        let tx_hash = TxHash(*take(rest)?);
        let ledger = LedgerSeq(u32::from_be_bytes(*take(rest)?));
        let tx_index = u32::from_be_bytes(*take(rest)?);
        let op_index = u32::from_be_bytes(*take(rest)?);
        let closed_at = i64::from_be_bytes(*take(rest)?);
        let event_index = u32::from_be_bytes(*take(rest)?);
        let body_len = u32::from_be_bytes(*take(rest)?);
        let body = &[][..];
        Some((
            version,
            body_len,
            EventRecord { ledger, closed_at, tx_hash, tx_index, op_index, event_index, body },
        ))
    }
}

pub(crate) fn damaged(path: &Path, id: u32, what: impl Display) -> Error {
    Error::corrupt(path, format!("event {id}: {what}"))
}

/// An event that is counted, but not there.
pub(crate) fn missing(path: &Path, id: u32) -> Error {
    damaged(path, id, "it is missing")
}

/// Takes the next `N` bytes off the front.
pub(crate) fn take<'a, const N: usize>(rest: &mut &'a [u8]) -> Option<&'a [u8; N]> {
    let (head, tail) = rest.split_first_chunk()?;
    *rest = tail;
    Some(head)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn records() -> impl Strategy<Value = EventRecord> {
        let body = prop::collection::vec(any::<u8>(), 0..200);
        (any::<[u8; 32]>(), any::<[u32; 4]>(), any::<i64>(), body).prop_map(
            |(hash, numbers, closed_at, body)| {
                let [ledger, tx_index, op_index, event_index] = numbers;
                let (ledger, tx_hash) = (LedgerSeq(ledger), TxHash(hash));
                EventRecord { ledger, closed_at, tx_hash, tx_index, op_index, event_index, body }
            },
        )
    }

    fn is_refused(bytes: &[u8]) -> bool {
        matches!(EventRecord::decode(bytes), Err(Error::BadRecord { .. }))
    }

    proptest! {
        #[test]
        fn decoding_undoes_encoding_and_takes_no_other_length(record in records(), extra in any::<u8>()) {
            let mut bytes = b"before".to_vec();
            record.encode(&mut bytes).unwrap();
            let bytes = bytes.split_off(6);
            prop_assert_eq!(EventRecord::decode(&bytes).unwrap().into_owned(), record);
            for cut in 0..bytes.len() {
                prop_assert!(is_refused(&bytes[..cut]));
            }
            let mut longer = bytes.clone();
            longer.push(extra);
            prop_assert!(is_refused(&longer));
            let mut newer = bytes;
            newer[0] = 2;
            prop_assert!(is_refused(&newer));
        }
    }

    #[test]
    fn the_bytes_are_those_of_the_drawing() {
        let record = EventRecord {
            ledger: LedgerSeq(0x0102_0304),
            closed_at: -2,
            tx_hash: TxHash([7; 32]),
            tx_index: 5,
            op_index: u32::MAX,
            event_index: 6,
            body: b"xy",
        };
        let mut bytes = Vec::new();
        record.encode(&mut bytes).unwrap();
        let mut expected = vec![1];
        expected.extend([7; 32]);
        expected.extend([1, 2, 3, 4, 0, 0, 0, 5, 255, 255, 255, 255]);
        expected.extend([255, 255, 255, 255, 255, 255, 255, 254, 0, 0, 0, 6, 0, 0, 0, 2, b'x', b'y']);
        assert_eq!(bytes, expected);
    }
}
