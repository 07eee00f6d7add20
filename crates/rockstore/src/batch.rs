//! Rows to be written together, in the form in which RocksDB logs them, so that a batch is one flat buffer that can be
//! refilled, written again after a failure, and measured.
//!
//! ```text
//!  0   8  sequence number, filled in by RocksDB
//!  8   4  u32 LE  number of rows
//! 12   …  rows    5 ‖ family ‖ key ‖ value        put
//!                 4 ‖ family ‖ key                delete
//!                14 ‖ family ‖ from ‖ to          delete from..to
//!                family: varint; keys and values: varint length ‖ bytes
//! ```

use crate::FamilyId;

const HEADER_BYTES: usize = 12;
const PUT: u8 = 5;
const DELETE: u8 = 4;
const DELETE_RANGE: u8 = 14;

/// Rows that are written all or none. Later rows of a batch win over earlier ones.
///
/// A batch is only bytes: it knows no store, and one buffer serves for many writes.
#[derive(Clone, Debug)]
pub struct Batch {
    bytes: Vec<u8>,
    rows: u64,
    /// The highest family that a row is of.
    last_family: usize,
    too_large: bool,
}

impl Default for Batch {
    fn default() -> Self {
        Batch { bytes: vec![0; HEADER_BYTES], rows: 0, last_family: 0, too_large: false }
    }
}

impl Batch {
    /// An empty batch.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets a row.
    pub fn put(&mut self, family: FamilyId, key: &[u8], value: &[u8]) {
        self.begin(PUT, family);
        self.append(key);
        self.append(value);
    }

    /// Removes a row, where there is one.
    pub fn delete(&mut self, family: FamilyId, key: &[u8]) {
        self.begin(DELETE, family);
        self.append(key);
    }

    /// Removes all rows with `from <= key < to`.
    pub fn delete_range(&mut self, family: FamilyId, from: &[u8], to: &[u8]) {
        self.begin(DELETE_RANGE, family);
        self.append(from);
        self.append(to);
    }

    /// Empties the batch and keeps its memory.
    pub fn clear(&mut self) {
        self.bytes.truncate(HEADER_BYTES);
        self.bytes.fill(0);
        (self.rows, self.last_family) = (0, 0);
        self.too_large = false;
    }

    /// How many rows it sets and removes.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// The bytes that a write of it logs.
    pub fn len_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// True when there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    pub(crate) fn last_family(&self) -> FamilyId {
        FamilyId(self.last_family)
    }

    /// RocksDB's batch; `None` when it is too large for one.
    pub(crate) fn to_rocksdb(&self) -> Option<rocksdb::WriteBatch> {
        (!self.too_large && self.bytes.len() <= u32::MAX as usize)
            .then(|| rocksdb::WriteBatch::from_data(&self.bytes))
    }

    fn begin(&mut self, tag: u8, family: FamilyId) {
        self.rows += 1;
        self.last_family = self.last_family.max(family.0);
        match u32::try_from(self.rows) {
            Ok(rows) => self.bytes[8..HEADER_BYTES].copy_from_slice(&rows.to_le_bytes()),
            Err(_) => self.too_large = true,
        }
        self.bytes.push(tag);
        // RocksDB's own family "default" is number 0 and stays unused.
        self.varint((family.0 as u64).saturating_add(1));
    }

    fn append(&mut self, bytes: &[u8]) {
        self.too_large |= u32::try_from(bytes.len()).is_err();
        self.varint(bytes.len() as u64);
        self.bytes.extend_from_slice(bytes);
    }

    fn varint(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.bytes.push(number as u8 | 0x80);
            number >>= 7;
        }
        self.bytes.push(number as u8);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{Family, Reads, Span, Store, StoreOptions};

    /// Number 0 puts, 1 deletes, 2 deletes a range.
    type Op = (u8, usize, Vec<u8>, Vec<u8>);

    fn ops() -> impl Strategy<Value = Vec<Op>> {
        let bytes = || {
            prop_oneof![
                prop::collection::vec(any::<u8>(), 0..4),
                prop::collection::vec(any::<u8>(), 120..300)
            ]
        };
        prop::collection::vec((0..3u8, 0..2usize, bytes(), bytes()), 0..200)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(8))]

        #[test]
        fn the_bytes_are_those_that_rocksdb_makes(ops in ops()) {
            let dir = tempfile::tempdir().unwrap();
            let families = [Family::new("a"), Family::new("b")];
            let store = Store::create(dir.path().join("s"), &families, &StoreOptions::default()).unwrap();
            // Opened a second time for reading, to get at families through RocksDB's own interface.
            let rocksdb = rocksdb::DB::open_cf_for_read_only(
                &rocksdb::Options::default(), store.path(), ["a", "b"], false).unwrap();
            let handles = ["a", "b"].map(|name| rocksdb.cf_handle(name).unwrap());
            let (mut ours, mut theirs) = (Batch::new(), rocksdb::WriteBatch::new());
            ours.put(FamilyId(0), b"something", b"that is cleared");
            ours.clear();
            for (kind, family, key, other) in &ops {
                match kind {
                    0 => { ours.put(FamilyId(*family), key, other); theirs.put_cf(handles[*family], key, other) }
                    1 => { ours.delete(FamilyId(*family), key); theirs.delete_cf(handles[*family], key) }
                    _ => {
                        let (from, to) = (key.min(other), key.max(other));
                        ours.delete_range(FamilyId(*family), from, to);
                        theirs.delete_range_cf(handles[*family], from, to);
                    }
                }
            }
            prop_assert_eq!(&ours.bytes, theirs.data());
            prop_assert_eq!((ours.rows(), ours.len_bytes()), (ops.len() as u64, theirs.size_in_bytes()));
            prop_assert!(store.write(&ours).is_ok());
            prop_assert!(store.reader().unwrap().rows(FamilyId(1), Span::all()).is_ok());
        }
    }

    #[test]
    fn a_family_that_is_not_there_is_refused_whole() {
        let dir = tempfile::tempdir().unwrap();
        let store =
            Store::create(dir.path().join("s"), &[Family::new("a")], &StoreOptions::default()).unwrap();
        let mut batch = Batch::new();
        batch.put(FamilyId(0), b"k", b"v");
        batch.put(FamilyId(1), b"k", b"v");
        assert!(matches!(store.write(&batch), Err(crate::Error::NoFamily { family: 1, .. })));
        assert_eq!(store.get(FamilyId(0), b"k").unwrap(), None);
        // Nothing was tried, so there is nothing to settle, and nothing of it in the log.
        assert_eq!(store.recover().unwrap(), crate::Settled::NothingToDo);
        store.close();
        let store = Store::open(store.path(), &[Family::new("a")], &StoreOptions::default()).unwrap();
        assert_eq!(store.get(FamilyId(0), b"k").unwrap(), None);
        batch.clear();
        batch.put(FamilyId(usize::MAX), b"k", b"v");
        assert!(matches!(store.write(&batch), Err(crate::Error::NoFamily { .. })));
        batch.clear();
        batch.put(FamilyId(0), b"k", b"v");
        store.write(&batch).unwrap();
        assert!(matches!(store.get(FamilyId(1), b"k"), Err(crate::Error::NoFamily { family: 1, .. })));
    }
}
