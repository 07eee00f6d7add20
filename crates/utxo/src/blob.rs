//! Bodies too large for a record, one file each.
//!
//! ```text
//! DIR/ab/abcd….blob    the body | u64 its length | u32 CRC32C of txid and body | u32 magic number and version
//! ```
//!
//! A file appears under its name only when it is whole and durable ([`PendingFile`]), and is never changed.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use icecore_diskio::{Disk, IfExists, PendingFile};

use crate::{Error, Result, TxId};

const TRAILER_BYTES: usize = 16;
/// "IBL" and version 1.
const MAGIC: u32 = 0x014C_4249;

/// The files of one store.
pub(crate) struct Blobs {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    closed: AtomicBool,
}

impl Blobs {
    pub(crate) fn new(disk: Arc<dyn Disk>, dir: PathBuf) -> Self {
        Blobs { disk, dir, closed: AtomicBool::new(false) }
    }

    /// Ends all use of the files.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Release);
    }

    fn path(&self, txid: &TxId) -> Result<PathBuf> {
        if self.closed.load(Ordering::Acquire) {
            return Err(Error::Closed);
        }
        let name = txid.to_string();
        Ok(self.dir.join(name.get(..2).unwrap_or_default()).join(format!("{name}.blob")))
    }

    /// Stores a body, durably. One that is there already is left as it is: a body belongs to its txid for ever.
    pub(crate) fn put(&self, txid: &TxId, body: &[u8]) -> Result<()> {
        let path = self.path(txid)?;
        if let Some(dir) = path.parent() {
            self.disk.create_dir_all(dir)?;
        }
        let file = match PendingFile::create(&self.disk, &path, IfExists::Fail) {
            // Whoever made it may have been killed before its name was durable.
            Err(icecore_diskio::Error::Exists { .. }) => {
                return Ok(self.disk.sync_dir(path.parent().unwrap_or(&path))?);
            }
            file => file?,
        };
        let body_bytes = body.len() as u64;
        file.write_all_at(body, 0)?;
        file.write_all_at(&trailer(txid, body), body_bytes)?;
        Ok(file.commit()?)
    }

    /// The body of a transaction that has one here.
    pub(crate) fn get(&self, txid: &TxId) -> Result<Vec<u8>> {
        let path = self.path(txid)?;
        let damaged = |what| Error::DamagedBody { txid: *txid, what };
        let Some(file_bytes) = self.disk.file_len(&path)? else { return Err(damaged("its file is missing")) };
        let file_bytes = usize::try_from(file_bytes).map_err(|_| damaged("its file is too large"))?;
        let body_bytes = file_bytes.checked_sub(TRAILER_BYTES).ok_or(damaged("its file is cut short"))?;
        let mut bytes = Vec::new();
        bytes
            .try_reserve_exact(file_bytes)
            .map_err(|_| damaged("its file is too large for the memory there is"))?;
        bytes.resize(file_bytes, 0);
        self.disk.open(&path)?.read_exact_at(&mut bytes, 0)?;
        let found = bytes.split_off(body_bytes);
        if found == trailer(txid, &bytes) { Ok(bytes) } else { Err(damaged("checksum mismatch")) }
    }

    /// Removes a body, if there is one.
    pub(crate) fn remove(&self, txid: &TxId) -> Result<()> {
        self.remove_file(&self.path(txid)?)
    }

    /// Removes a body, and what a process left that was killed while it wrote one. Nobody writes it now.
    pub(crate) fn discard(&self, txid: &TxId) -> Result<()> {
        let mut partial = self.path(txid)?.into_os_string();
        partial.push(PendingFile::SUFFIX);
        self.remove_file(partial.as_ref())?;
        self.remove(txid)
    }

    fn remove_file(&self, path: &Path) -> Result<()> {
        match self.disk.remove(path) {
            Err(error) if error.is_not_found() => Ok(()),
            removed => Ok(removed?),
        }
    }
}

fn trailer(txid: &TxId, body: &[u8]) -> [u8; TRAILER_BYTES] {
    let crc = crc32c::crc32c_append(crc32c::crc32c(&txid.0), body);
    let mut out = [0; TRAILER_BYTES];
    out[..8].copy_from_slice(&(body.len() as u64).to_le_bytes());
    out[8..12].copy_from_slice(&crc.to_le_bytes());
    out[12..].copy_from_slice(&MAGIC.to_le_bytes());
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use icecore_diskio::{Fault, FaultyDisk};

    const TXID: TxId = TxId([0xAB; 32]);

    fn blobs(disk: &FaultyDisk) -> Blobs {
        Blobs::new(Arc::new(disk.clone()), PathBuf::from("/blobs"))
    }

    #[test]
    fn a_body_comes_back_and_can_be_removed_twice() {
        let blobs = blobs(&FaultyDisk::new());
        blobs.put(&TXID, b"body").unwrap();
        blobs.put(&TXID, b"body").unwrap();
        assert_eq!(blobs.get(&TXID).unwrap(), b"body");
        blobs.remove(&TXID).unwrap();
        blobs.remove(&TXID).unwrap();
        assert!(blobs.get(&TXID).unwrap_err().is_corrupt());
        blobs.close();
        assert!(matches!(blobs.get(&TXID), Err(Error::Closed)));
        assert!(matches!(blobs.put(&TXID, b""), Err(Error::Closed)));
        assert!(matches!(blobs.remove(&TXID), Err(Error::Closed)));
    }

    #[test]
    fn every_changed_or_missing_byte_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let blobs = Blobs::new(Arc::new(icecore_diskio::RealDisk), dir.path().to_path_buf());
        blobs.put(&TXID, b"some body").unwrap();
        let path = blobs.path(&TXID).unwrap();
        let whole = std::fs::read(&path).unwrap();
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            std::fs::write(&path, &bytes).unwrap();
            assert!(blobs.get(&TXID).unwrap_err().is_corrupt());
            std::fs::write(&path, &whole[..at]).unwrap();
            assert!(blobs.get(&TXID).unwrap_err().is_corrupt());
        }
        let other = TxId([0xAC; 32]);
        std::fs::create_dir_all(blobs.path(&other).unwrap().parent().unwrap()).unwrap();
        std::fs::write(blobs.path(&other).unwrap(), &whole).unwrap();
        assert!(blobs.get(&other).unwrap_err().is_corrupt());
    }

    #[test]
    fn after_a_fault_at_any_step_there_is_the_whole_body_or_none() {
        let clean = FaultyDisk::new();
        blobs(&clean).put(&TXID, b"body").unwrap();
        for at in 0..clean.operations() {
            for fault in [Fault::Io, Fault::DiskFull, Fault::ShortWrite, Fault::PowerCut] {
                let disk = FaultyDisk::new();
                disk.fail_at(at, fault);
                assert!(blobs(&disk).put(&TXID, b"body").is_err());
                let disk = if fault == Fault::PowerCut { disk.after_crash() } else { disk };
                let path = blobs(&disk).path(&TXID).unwrap();
                assert_eq!(disk.file_len(&path).unwrap(), None);
                assert!(fault == Fault::PowerCut || no_partial(&disk, path.parent().unwrap()));
                blobs(&disk).put(&TXID, b"body").unwrap();
                assert_eq!(blobs(&disk).get(&TXID).unwrap(), b"body");
            }
        }
    }

    #[test]
    fn a_body_found_there_survives_a_loss_of_power() {
        let disk = FaultyDisk::new();
        blobs(&disk).put(&TXID, b"body").unwrap();
        // As a process leaves it that is killed between the last two steps: the name is given, and not synced.
        let path = blobs(&disk).path(&TXID).unwrap();
        let aside = path.with_extension("aside");
        disk.rename(&path, &aside, IfExists::Fail).unwrap();
        disk.sync_dir(path.parent().unwrap()).unwrap();
        disk.rename(&aside, &path, IfExists::Fail).unwrap();
        assert!(blobs(&disk.after_crash()).get(&TXID).is_err());
        blobs(&disk).put(&TXID, b"body").unwrap();
        assert_eq!(blobs(&disk.after_crash()).get(&TXID).unwrap(), b"body");
    }

    fn no_partial(disk: &FaultyDisk, dir: &Path) -> bool {
        disk.list(dir).unwrap().iter().all(|name| !name.ends_with(PendingFile::SUFFIX))
    }
}
