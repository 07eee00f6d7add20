//! Names of batches and partitions, and how a layout places a ledger.
//!
//! ```text
//! batch       FFFFFFBF--64-127.xdr.zst      hexadecimal: 0xFFFFFFFF - first, so that the newest is listed first
//!             FFFFFFBF--64.xdr.zst          one ledger to a batch
//! partition   FFFFFFFF--0-63999/            none where it would hold one batch
//! ```

use std::{fmt, num::NonZeroU32, str::FromStr};

use icecore_ledger::{GENESIS, LedgerSeq};

/// The name of a batch: the ledgers that belong into it. Formatting and parsing are inverse.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchName {
    /// Its first ledger.
    pub first: LedgerSeq,
    /// Its last one.
    pub last: LedgerSeq,
}

/// The name of a partition: the ledgers whose batches belong into it. Formatting and parsing are inverse.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartitionName {
    /// Its first ledger.
    pub first: LedgerSeq,
    /// Its last one.
    pub last: LedgerSeq,
}

/// A name that is not one of a batch, or of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a name as the standard writes it")]
pub struct NotAName;

const BATCH_SUFFIX: &str = ".xdr.zst";

impl BatchName {
    /// The ledgers inside: as named, but no chain has any before [`GENESIS`].
    pub(crate) fn content(self) -> (LedgerSeq, LedgerSeq) {
        (self.first.max(GENESIS), self.last.max(GENESIS))
    }
}

impl fmt::Display for BatchName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let BatchName { first, last } = self;
        write!(f, "{:08X}--{first}", u32::MAX - first.0)?;
        if last != first {
            write!(f, "-{last}")?;
        }
        f.write_str(BATCH_SUFFIX)
    }
}

impl fmt::Display for PartitionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let PartitionName { first, last } = self;
        write!(f, "{:08X}--{first}-{last}", u32::MAX - first.0)
    }
}

/// The numbers of `HEX--first[-last]`, the last one where it is there.
fn numbers(name: &str) -> Result<(LedgerSeq, Option<LedgerSeq>), NotAName> {
    let (_, ledgers) = name.split_once("--").ok_or(NotAName)?;
    let number = |digits: &str| digits.parse().map_err(|_| NotAName);
    match ledgers.split_once('-') {
        None => Ok((number(ledgers)?, None)),
        Some((first, last)) => Ok((number(first)?, Some(number(last)?))),
    }
}

/// Only what would be written the same way is a name: no signs, no leading zeros, no other hexadecimal number.
fn canonical<T: fmt::Display>(value: T, name: &str) -> Result<T, NotAName> {
    if value.to_string() == name { Ok(value) } else { Err(NotAName) }
}

impl FromStr for BatchName {
    type Err = NotAName;

    fn from_str(name: &str) -> Result<Self, NotAName> {
        let (first, last) = numbers(name.strip_suffix(BATCH_SUFFIX).ok_or(NotAName)?)?;
        let last = last.unwrap_or(first);
        if last < first { Err(NotAName) } else { canonical(BatchName { first, last }, name) }
    }
}

impl FromStr for PartitionName {
    type Err = NotAName;

    fn from_str(name: &str) -> Result<Self, NotAName> {
        let (first, last) = numbers(name)?;
        let last = last.filter(|last| *last >= first).ok_or(NotAName)?;
        canonical(PartitionName { first, last }, name)
    }
}

/// How ledgers are spread over batches, and batches over partitions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Ledgers to a batch.
    pub ledgers_per_batch: NonZeroU32,
    /// Batches to a partition; with 1 there are no partitions.
    pub batches_per_partition: NonZeroU32,
}

impl Layout {
    /// The batch that a ledger belongs to.
    pub fn batch_of(&self, seq: LedgerSeq) -> BatchName {
        let (first, last) = Self::span(seq, self.ledgers_per_batch.get());
        BatchName { first, last }
    }

    /// The partition that a ledger belongs to, where there are any.
    pub fn partition_of(&self, seq: LedgerSeq) -> Option<PartitionName> {
        let ledgers = self.ledgers_per_batch.saturating_mul(self.batches_per_partition).get();
        let (first, last) = Self::span(seq, ledgers);
        (self.batches_per_partition.get() > 1).then_some(PartitionName { first, last })
    }

    /// The object of a batch, in the folder that holds the ledgers.
    pub fn object_name(&self, batch: BatchName) -> String {
        match self.partition_of(batch.first) {
            Some(partition) => format!("{partition}/{batch}"),
            None => batch.to_string(),
        }
    }

    fn span(seq: LedgerSeq, ledgers: u32) -> (LedgerSeq, LedgerSeq) {
        let first = seq.0 - seq.0 % ledgers;
        (LedgerSeq(first), LedgerSeq(first.saturating_add(ledgers - 1)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn names_format_and_parse_back(first: u32, more in prop_oneof![Just(0), 1u32..100_000, any::<u32>()]) {
            let (first, last) = (LedgerSeq(first), LedgerSeq(first.saturating_add(more)));
            let batch = BatchName { first, last };
            prop_assert_eq!(batch.to_string().parse(), Ok(batch));
            let partition = PartitionName { first, last };
            prop_assert_eq!(partition.to_string().parse(), Ok(partition));
        }

        #[test]
        fn what_parses_formats_back(
            first in 0u32..300, more in 0u32..300, at: prop::sample::Index, other in "[0-9A-Fa-f+. -]", insert: bool,
        ) {
            let (first, last) = (LedgerSeq(first), LedgerSeq(first + more));
            for name in [BatchName { first, last }.to_string(), PartitionName { first, last }.to_string()] {
                let mut changed = name.clone();
                let at = at.index(name.len());
                changed.replace_range(at..if insert { at } else { at + 1 }, &other);
                if let Ok(batch) = changed.parse::<BatchName>() {
                    prop_assert_eq!(batch.to_string(), changed.clone());
                }
                if let Ok(partition) = changed.parse::<PartitionName>() {
                    prop_assert_eq!(partition.to_string(), changed);
                }
            }
        }

        #[test]
        fn a_ledger_lies_in_its_batch_and_that_in_its_partition(
            seq: u32, per_batch in 1u32..200, per_partition in 1u32..100_000,
        ) {
            let Some(batches_per_partition) = NonZeroU32::new(per_partition) else { return Ok(()) };
            let ledgers_per_batch = NonZeroU32::new(per_batch).unwrap();
            let layout = Layout { ledgers_per_batch, batches_per_partition };
            let (seq, batch) = (LedgerSeq(seq), layout.batch_of(LedgerSeq(seq)));
            prop_assert!(batch.first <= seq && seq <= batch.last);
            prop_assert_eq!(layout.batch_of(batch.first), batch);
            prop_assert_eq!(layout.batch_of(batch.last), batch);
            if let Some(partition) = layout.partition_of(seq) {
                prop_assert!(partition.first <= batch.first && batch.first <= partition.last);
                prop_assert_eq!(layout.partition_of(batch.first), Some(partition));
            }
        }
    }

    #[test]
    fn names_are_those_of_the_standard() {
        let name = |first, last| BatchName { first: LedgerSeq(first), last: LedgerSeq(last) }.to_string();
        assert_eq!(name(2, 3), "FFFFFFFD--2-3.xdr.zst");
        assert_eq!(name(2, 2), "FFFFFFFD--2.xdr.zst");
        assert_eq!(name(53_312_000, 53_312_000), "FCD285FF--53312000.xdr.zst");
        let layout = Layout {
            ledgers_per_batch: NonZeroU32::new(2).unwrap(),
            batches_per_partition: NonZeroU32::new(8).unwrap(),
        };
        let object = layout.object_name(layout.batch_of(LedgerSeq(19)));
        assert_eq!(object, "FFFFFFEF--16-31/FFFFFFED--18-19.xdr.zst");
        for bad in [
            "FFFFFFFD--2-2.xdr.zst",
            "fffffffd--2.xdr.zst",
            "FFFFFFFE--2.xdr.zst",
            "FFFFFFFD--2",
            "--.xdr.zst",
        ] {
            assert_eq!(bad.parse::<BatchName>(), Err(NotAName), "{bad}");
        }
        assert_eq!("FFFFFFFD--3-2".parse::<PartitionName>(), Err(NotAName));
    }
}
