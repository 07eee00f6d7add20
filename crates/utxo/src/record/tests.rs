use icecore_testkit::SplitMix64;

use super::*;

const PAGE_SIZE: u32 = 8;

fn bytes32(random: &mut SplitMix64) -> [u8; 32] {
    let (a, b) = (random.key(), random.key());
    std::array::from_fn(|i| if i < 16 { a[i] } else { b[i - 16] })
}

fn maybe(random: &mut SplitMix64) -> Option<u32> {
    (random.below(2) == 1).then(|| random.next_u64() as u32)
}

fn slot(random: &mut SplitMix64) -> Slot {
    let hash = OutputHash(bytes32(random));
    match random.below(5) {
        0 => Slot::Unspendable,
        1 => Slot::Unspent { hash },
        2 => {
            Slot::Spent { hash, by: Spender { txid: TxId(bytes32(random)), input: random.next_u64() as u32 } }
        }
        3 => Slot::Frozen { hash },
        _ => Slot::Held { hash, until: random.next_u64() as u32 },
    }
}

fn page(random: &mut SplitMix64, slots: u64) -> Page {
    let mut page = Page::new((0..slots).map(|_| slot(random)).collect());
    (page.locked, page.conflicting) = (random.below(2) == 1, random.below(2) == 1);
    (page.creating, page.spending_height) = (random.below(2) == 1, maybe(random));
    page.delete_at_height = maybe(random);
    page
}

fn txids(random: &mut SplitMix64) -> Vec<TxId> {
    (0..random.below(3)).map(|_| TxId(bytes32(random))).collect()
}

fn master(random: &mut SplitMix64) -> Master {
    let full = random.below(2) == 1;
    let slots = if full { u64::from(PAGE_SIZE) } else { 1 + random.below(u64::from(PAGE_SIZE)) };
    let total_extra = if full { random.below(4) as u32 } else { 0 };
    let block =
        |random: &mut SplitMix64| BlockRef { block_id: 1, height: random.next_u64() as u32, subtree: 3 };
    Master {
        page: page(random, slots),
        blocks: (0..random.below(3)).map(|_| block(random)).collect(),
        total_extra,
        spent_extra: random.below(u64::from(total_extra) + 1) as u32,
        unmined_since: maybe(random),
        preserve_until: maybe(random),
        external: random.below(2) == 1,
        conflicting_children: txids(random),
        deleted_children: txids(random),
        created_at_ms: random.next_u64(),
    }
}

fn extra(random: &mut SplitMix64) -> Extra {
    let slots = 1 + random.below(u64::from(PAGE_SIZE));
    Extra { page: page(random, slots), last_all_spent: random.below(2) == 1 }
}

fn facts(random: &mut SplitMix64) -> TxFacts {
    let outpoint = |random: &mut SplitMix64| Outpoint { txid: TxId(bytes32(random)), vout: 7 };
    TxFacts {
        version: random.next_u64() as u32,
        lock_time: random.next_u64() as u32,
        fee: random.next_u64(),
        size_bytes: random.next_u64(),
        coinbase: random.below(2) == 1,
        inpoints: (0..random.below(4)).map(|_| outpoint(random)).collect(),
        body: (random.below(2) == 1).then(|| random.item(40)),
    }
}

fn intent(random: &mut SplitMix64) -> Intent {
    let lists = (txids(random), txids(random), txids(random));
    let (winners, losers, parents) = lists;
    Intent { marked: random.below(2) == 1, block_id: 4, height: 5, winners, losers, parents }
}

/// Writes, reads, and then reads every truncation, every changed byte, a trailing byte, and the value under another key.
fn holds<R: Stored + PartialEq + std::fmt::Debug>(record: &R, key: &R::Key, other: Option<&R::Key>) {
    let bytes = record.encode(&R::key(key));
    assert_eq!(&R::decode(key, PAGE_SIZE, &bytes).unwrap(), record);
    let refused = |key: &R::Key, bytes: &[u8]| {
        assert!(R::decode(key, PAGE_SIZE, bytes).unwrap_err().is_corrupt());
    };
    for at in 0..bytes.len() {
        refused(key, &bytes[..at]);
        let mut changed = bytes.clone();
        changed[at] ^= 0x10;
        refused(key, &changed);
    }
    refused(key, &[&bytes[..], &[0]].concat());
    if let Some(other) = other {
        refused(other, &bytes);
    }
    // Behind a right checksum: what is left must still read as one record, or be refused, and never panic.
    let body = &bytes[..bytes.len() - 4];
    let forged = |body: &[u8]| {
        let mut value = body.to_vec();
        seal(R::FAMILY, &R::key(key), &mut value);
        value
    };
    refused(key, &forged(&[body, &[0, 0]].concat()[..]).split_last().map(|(_, rest)| rest.to_vec()).unwrap());
    for at in 0..body.len() {
        for with in [0, 1, 0x7F, 0xFF] {
            let mut changed = body.to_vec();
            changed[at] = with;
            if let Ok(read) = R::decode(key, PAGE_SIZE, &forged(&changed)) {
                assert_eq!(read.encode(&R::key(key)), forged(&changed), "there is one way to write a record");
            }
        }
    }
}

#[test]
fn every_kind_of_record_is_read_back_and_every_damage_is_noticed() {
    let mut random = SplitMix64::new(1);
    let (txid, other) = (TxId([1; 32]), TxId([2; 32]));
    for _ in 0..8 {
        holds(&master(&mut random), &txid, Some(&other));
        holds(&extra(&mut random), &(txid, 1), Some(&(txid, 2)));
        holds(&facts(&mut random), &txid, Some(&other));
        holds(&Lock { expires_at_ms: random.next_u64(), owner: 5 }, &txid, Some(&other));
        let intent = intent(&mut random);
        holds(&intent, &intent.id(), Some(&[9; 32]));
    }
    let owed = |owed| FollowUpKey { txid, owed };
    let (count, mirror) = (owed(Owed::Count { record: 3 }), owed(Owed::Mirror));
    holds(&FollowUp { delta: -1, height: 9 }, &count, Some(&owed(Owed::Count { record: 4 })));
    holds(&FollowUp::default(), &mirror, Some(&owed(Owed::RemoveBody)));
    holds(&StoreFacts { page_size: 128 }, &(), None);
}

#[test]
fn keys_are_read_back_and_others_refused() {
    let txid = TxId([7; 32]);
    for owed in [Owed::Count { record: 1 }, Owed::Count { record: u32::MAX }, Owed::Mirror, Owed::RemoveBody]
    {
        let key = FollowUpKey { txid, owed };
        let bytes = FollowUp::key(&key);
        assert_eq!(FollowUpKey::decode(&bytes), Ok(key));
        (0..bytes.len()).for_each(|at| assert!(FollowUpKey::decode(&bytes[..at]).is_err()));
        assert!(FollowUpKey::decode(&[&bytes[..], &[0]].concat()).is_err());
    }
    let key = DueKey { due: Due::Preserve, height: 258, txid };
    assert_eq!(DueKey::decode(&key.encode()), Ok(key));
    assert!(DueKey::decode(&key.encode()[1..]).is_err());
    assert!(key.encode() < DueKey { height: 259, ..key }.encode());
    let nothing = |what: u8, record: u32| [&txid.0[..], &[what], &record.to_be_bytes()].concat();
    for (what, record) in [(0, 0), (1, 1), (2, 1), (3, 0)] {
        assert!(FollowUpKey::decode(&nothing(what, record)).is_err());
    }
}

#[test]
fn contradictions_behind_a_right_checksum_are_named() {
    let mut random = SplitMix64::new(2);
    let txid = TxId([1; 32]);
    let named = |page_size: u32, change: &dyn Fn(&mut Vec<u8>)| {
        let mut record = master(&mut SplitMix64::new(3));
        record.page = Page::new(vec![Slot::Unspendable, Slot::Unspent { hash: OutputHash([1; 32]) }]);
        (record.total_extra, record.spent_extra, record.unmined_since, record.preserve_until) =
            (0, 0, None, None);
        let mut bytes = Vec::new();
        record.write(&mut bytes);
        change(&mut bytes);
        seal(Family::Master, &Master::key(&txid), &mut bytes);
        match Master::decode(&txid, page_size, &bytes) {
            Err(Error::Damaged { what, .. }) => what,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(named(8, &|b| b[0] = 2), "unknown version");
    assert_eq!(named(8, &|b| b[1] = 1), "a record of another kind");
    assert_eq!(named(8, &|b| b[3] |= 0x80), "unknown flags");
    assert_eq!(named(8, &|b| b[2] |= 32), "unknown flags");
    assert_eq!(named(8, &|b| b[4] = 0), "no outputs");
    assert_eq!(named(1, &|_| ()), "more outputs than a page holds");
    assert_eq!(named(u32::MAX, &|b| b[4..8].fill(0xFF)), "more outputs than bytes");
    assert_eq!(named(8, &|b| b[8] = 2), "the counts are not those of the outputs");
    assert_eq!(named(8, &|b| b[16] = 1), "a number where its flag says there is none");
    assert_eq!(named(8, &|b| b[24] = 9), "unknown state of an output");
    let tail = 24 + 1 + 33;
    assert_eq!(named(8, &|b| b[tail + 4] = 1), "more extra records spent than there are");
    assert_eq!(named(8, &|b| b[tail] = 1), "extra records behind a page that is not full");
    assert_eq!(named(2, &|b| b[tail + 3] = 0x80), "more outputs than can be numbered");
    assert_eq!(named(8, &|b| b[tail + 24..tail + 28].fill(0xFF)), "cut short");
    let facts = facts(&mut random).encode(&TxFacts::key(&txid));
    assert!(Master::decode(&txid, 8, &facts).unwrap_err().is_corrupt());
}

/// The bytes of version 1 stay what they are.
#[test]
fn the_bytes_do_not_change() {
    let mut random = SplitMix64::new(4);
    let txid = TxId([3; 32]);
    let mut crc = 0;
    for _ in 0..16 {
        crc = crc32c::crc32c_append(crc, &master(&mut random).encode(&Master::key(&txid)));
        crc = crc32c::crc32c_append(crc, &extra(&mut random).encode(&Extra::key(&(txid, 1))));
        crc = crc32c::crc32c_append(crc, &facts(&mut random).encode(&TxFacts::key(&txid)));
        let intent = intent(&mut random);
        crc = crc32c::crc32c_append(crc, &intent.encode(&intent.id()));
    }
    assert_eq!(format!("{crc:08x}"), "f02deb6b");
}
