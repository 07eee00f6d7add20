//! Fuzz harnesses: each panics when a property breaks.

use crate::{
    TxId,
    record::{Extra, FollowUp, FollowUpKey, Intent, Lock, Master, Owed, StoreFacts, Stored, TxFacts, seal},
};

/// The first byte chooses the kind of record, the second whether the rest gets a right checksum. Whatever the bytes,
/// reading ends in a record, which is then written with the same bytes, or in an error that calls them damaged.
pub fn record(data: &[u8]) {
    let Some(([kind, forge], bytes)) = data.split_first_chunk().map(|(head, rest)| (*head, rest)) else {
        return;
    };
    let (txid, forge) = (TxId([7; 32]), forge % 2 == 1);
    match kind % 8 {
        0 => read::<Master>(&txid, bytes, forge),
        1 => read::<Extra>(&(txid, 3), bytes, forge),
        2 => read::<TxFacts>(&txid, bytes, forge),
        3 => read::<Lock>(&txid, bytes, forge),
        4 => read::<FollowUp>(&FollowUpKey { txid, owed: Owed::Count { record: 3 } }, bytes, forge),
        5 => read::<FollowUp>(&FollowUpKey { txid, owed: Owed::Mirror }, bytes, forge),
        6 => read::<StoreFacts>(&(), bytes, forge),
        _ => read::<Intent>(&[7; 32], bytes, forge),
    }
}

fn read<R: Stored>(key: &R::Key, bytes: &[u8], forge: bool) {
    let key_bytes = R::key(key);
    let mut value = bytes.to_vec();
    if forge {
        seal(R::FAMILY, &key_bytes, &mut value);
    }
    match R::decode(key, 16, &value) {
        Ok(record) => assert!(record.encode(&key_bytes) == value, "there is one way to write a record"),
        Err(error) => assert!(error.is_corrupt()),
    }
}

#[cfg(test)]
mod tests {
    use icecore_testkit::SplitMix64;

    /// Heads that are nearly right get further than noise.
    #[test]
    fn seeds() {
        let mut random = SplitMix64::new(1);
        for round in 0..600u64 {
            let mut data = vec![(round % 8) as u8, (round / 8 % 2) as u8, 1, u8::from(round % 8 == 1), 0, 0];
            for n in [random.below(4), random.below(4), random.below(2), 0, 0] {
                data.extend((n as u32).to_le_bytes());
            }
            data.extend((0..random.below(300)).map(|_| random.below(6) as u8));
            super::record(&data);
        }
    }
}
