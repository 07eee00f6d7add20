//! The small records beside the transactions: what the database is, what is under way, what is owed.

use sha2::{Digest, Sha256};

use super::{Cursor, Found, Stored, VERSION, check, put_list};
use crate::{Family, TxId};

fn read_version(bytes: &mut Cursor<'_>) -> Found<()> {
    let [version] = bytes.take()?;
    check(version == VERSION, "unknown version")
}

/// What the database was made with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StoreFacts {
    pub(crate) page_size: u32,
}

impl Stored for StoreFacts {
    type Key = ();
    const FAMILY: Family = Family::Store;

    fn key((): &()) -> Vec<u8> {
        b"store".to_vec()
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.push(VERSION);
        out.extend(self.page_size.to_le_bytes());
    }

    fn read((): &(), _: u32, bytes: &mut Cursor<'_>) -> Found<Self> {
        read_version(bytes)?;
        let page_size = bytes.u32()?;
        check(page_size > 0, "page size 0")?;
        Ok(StoreFacts { page_size })
    }
}

/// Why a height matters to a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Due {
    /// From then on it may be deleted.
    Delete = 0,
    /// Until then it is preserved.
    Preserve = 1,
}

/// A line of the index of what falls due; it has no value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct DueKey {
    pub(crate) due: Due,
    pub(crate) height: u32,
    pub(crate) txid: TxId,
}

impl DueKey {
    pub(crate) fn encode(&self) -> Vec<u8> {
        [&[self.due as u8], self.height.to_be_bytes().as_slice(), &self.txid.0].concat()
    }

    pub(crate) fn decode(key: &[u8]) -> Found<Self> {
        let mut key = Cursor(key);
        let due = match key.take()? {
            [0] => Due::Delete,
            [1] => Due::Preserve,
            _ => return Err("unknown cause"),
        };
        let (height, txid) = (u32::from_be_bytes(key.take()?), TxId(key.take()?));
        check(key.0.is_empty(), "bytes follow its end")?;
        Ok(DueKey { due, height, txid })
    }
}

/// Somebody is creating a transaction of several records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Lock {
    pub(crate) expires_at_ms: u64,
    pub(crate) owner: u64,
}

impl Stored for Lock {
    type Key = TxId;
    const FAMILY: Family = Family::Lock;

    fn key(key: &TxId) -> Vec<u8> {
        key.0.to_vec()
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.push(VERSION);
        [self.expires_at_ms, self.owner].iter().for_each(|n| out.extend(n.to_le_bytes()));
    }

    fn read(_: &TxId, _: u32, bytes: &mut Cursor<'_>) -> Found<Self> {
        read_version(bytes)?;
        let (expires_at_ms, owner) = (u64::from_le_bytes(bytes.take()?), u64::from_le_bytes(bytes.take()?));
        Ok(Lock { expires_at_ms, owner })
    }
}

/// What a committed change still owes another record. Written with the change, removed with what it asks for: each is
/// done exactly once, whatever happens between the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Owed {
    /// The master is to count that an extra record became wholly spent, or no longer is.
    Count { record: u32 },
    /// The extra records are to take over the master's delete-at-height.
    Mirror,
    /// The body of a deleted transaction is to leave the blob store.
    RemoveBody,
}

/// To whom something is owed, and what.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct FollowUpKey {
    pub(crate) txid: TxId,
    pub(crate) owed: Owed,
}

impl FollowUpKey {
    pub(crate) fn decode(key: &[u8]) -> Found<Self> {
        let mut key = Cursor(key);
        let (txid, [what]) = (TxId(key.take()?), key.take()?);
        let record = u32::from_be_bytes(key.take()?);
        check(key.0.is_empty(), "bytes follow its end")?;
        let owed = match (what, record) {
            (0, 1..) => Owed::Count { record },
            (1, 0) => Owed::Mirror,
            (2, 0) => Owed::RemoveBody,
            _ => return Err("nothing that could be owed"),
        };
        Ok(FollowUpKey { txid, owed })
    }
}

/// How much is owed, and at which height it came about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct FollowUp {
    pub(crate) delta: i8,
    pub(crate) height: u32,
}

impl Stored for FollowUp {
    type Key = FollowUpKey;
    const FAMILY: Family = Family::FollowUp;

    fn key(key: &FollowUpKey) -> Vec<u8> {
        let (what, record) = match key.owed {
            Owed::Count { record } => (0, record),
            Owed::Mirror => (1, 0),
            Owed::RemoveBody => (2, 0),
        };
        [key.txid.0.as_slice(), &[what], &record.to_be_bytes()].concat()
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.push(VERSION);
        out.extend(self.delta.to_le_bytes());
        out.extend(self.height.to_le_bytes());
    }

    fn read(key: &FollowUpKey, _: u32, bytes: &mut Cursor<'_>) -> Found<Self> {
        read_version(bytes)?;
        let (delta, height) = (i8::from_le_bytes(bytes.take()?), bytes.u32()?);
        let fits = match key.owed {
            Owed::Count { .. } => delta == 1 || delta == -1,
            Owed::Mirror | Owed::RemoveBody => delta == 0,
        };
        check(fits, "a count that cannot be owed")?;
        Ok(FollowUp { delta, height })
    }
}

/// The name of an intent: SHA-256 of its kind, block, height and sorted transactions.
pub(crate) type IntentId = [u8; 32];

/// What a run over several transactions is about to do: written before its first change, removed after its last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Intent {
    /// False while the losers are being found and marked, true once `losers` and `parents` are complete.
    pub(crate) marked: bool,
    pub(crate) block_id: u32,
    pub(crate) height: u32,
    /// The transactions that win, sorted.
    pub(crate) winners: Vec<TxId>,
    /// Those that lose.
    pub(crate) losers: Vec<TxId>,
    /// What is locked meanwhile.
    pub(crate) parents: Vec<TxId>,
}

impl Intent {
    pub(crate) fn id(&self) -> IntentId {
        let mut hash = Sha256::new();
        hash.update(b"process_conflicting");
        hash.update(self.block_id.to_le_bytes());
        hash.update(self.height.to_le_bytes());
        self.winners.iter().for_each(|txid| hash.update(txid.0));
        hash.finalize().into()
    }
}

impl Stored for Intent {
    type Key = IntentId;
    const FAMILY: Family = Family::Intent;

    fn key(key: &IntentId) -> Vec<u8> {
        key.to_vec()
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.extend([VERSION, u8::from(self.marked)]);
        [self.block_id, self.height].iter().for_each(|n| out.extend(n.to_le_bytes()));
        [&self.winners, &self.losers, &self.parents]
            .iter()
            .for_each(|list| put_list(list, out, |txid, out| out.extend(txid.0)));
    }

    fn read(key: &IntentId, _: u32, bytes: &mut Cursor<'_>) -> Found<Self> {
        read_version(bytes)?;
        let marked = match bytes.take()? {
            [0] => false,
            [1] => true,
            _ => return Err("unknown step"),
        };
        let (block_id, height) = (bytes.u32()?, bytes.u32()?);
        let mut txids = || bytes.list(32, |b| Ok(TxId(b.take()?)));
        let (winners, losers, parents) = (txids()?, txids()?, txids()?);
        let intent = Intent { marked, block_id, height, winners, losers, parents };
        check(intent.id() == *key, "the key is not the hash of its contents")?;
        Ok(intent)
    }
}
