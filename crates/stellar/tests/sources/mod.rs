//! What the tests of sources share.

use icecore_ledger::{LedgerRange, LedgerSeq, Result, Source};

pub(crate) fn range(first: u32, last: u32) -> LedgerRange {
    LedgerRange::new(LedgerSeq(first), LedgerSeq(last)).unwrap()
}

/// All ledgers of a range. After its end or an error the stream must be over.
pub(crate) fn drain(source: &dyn Source, ledgers: LedgerRange) -> Result<Vec<Vec<u8>>> {
    let mut stream = source.stream(ledgers)?;
    let mut all = Vec::new();
    let end = loop {
        match stream.next_ledger() {
            Ok(Some(ledger)) => {
                assert_eq!(u64::from(ledger.seq.0), u64::from(ledgers.first.0) + all.len() as u64);
                all.push(ledger.bytes.to_vec());
            }
            Ok(None) => break Ok(()),
            Err(error) => break Err(error),
        }
    };
    assert!(matches!(stream.next_ledger(), Ok(None)), "it goes on after its end");
    assert!(end.is_err() || all.len() as u64 == ledgers.count());
    end.map(|()| all)
}
