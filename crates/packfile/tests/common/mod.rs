//! What the behaviour tests share.
#![allow(clippy::unwrap_used, dead_code)]

use std::{path::Path, sync::Arc};

use icecore_diskio::{Disk, FaultyDisk, ReadAt};
use icecore_packfile::{BoxError, Codec, Options, RecordCodec, Result, Summary, Writer};

/// Writes all items as a file.
pub(crate) fn write(disk: &FaultyDisk, path: &Path, options: Options, items: &[Vec<u8>]) -> Result<Summary> {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    let mut writer = Writer::create_on(&disk, path, options)?;
    for item in items {
        writer.append(item)?;
    }
    writer.finish(b"app data")
}

/// The bytes of the file that holds the items.
pub(crate) fn build(options: Options, items: &[Vec<u8>]) -> Vec<u8> {
    let (disk, path) = (FaultyDisk::new(), Path::new("f"));
    write(&disk, path, options, items).unwrap();
    disk.open(path).unwrap().as_bytes().unwrap().to_vec()
}

/// A codec of one's own: every byte doubled.
pub(crate) struct Doubled;

impl RecordCodec for Doubled {
    fn encode(&self, payload: &[u8], out: &mut Vec<u8>) -> Result<(), BoxError> {
        payload.iter().for_each(|&byte| out.extend([byte, byte]));
        Ok(())
    }

    fn decode(&self, encoded: &[u8], max_bytes: u64, out: &mut Vec<u8>) -> Result<(), BoxError> {
        if encoded.len() as u64 / 2 > max_bytes || encoded.chunks(2).any(|pair| pair.first() != pair.last()) {
            return Err("not doubled".into());
        }
        out.extend(encoded.iter().step_by(2));
        Ok(())
    }
}

pub(crate) fn codec(number: usize) -> Codec {
    match number % 3 {
        0 => Codec::None,
        1 => Codec::Zstd,
        _ => Codec::Custom(Arc::new(Doubled)),
    }
}

/// A source that counts its reads and must be read to be seen.
#[derive(Default)]
pub(crate) struct Counted {
    pub(crate) bytes: Vec<u8>,
    pub(crate) reads: std::sync::atomic::AtomicUsize,
    pub(crate) largest: std::sync::atomic::AtomicUsize,
}

impl ReadAt for Counted {
    fn len_bytes(&self) -> u64 {
        self.bytes.len_bytes()
    }

    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> icecore_diskio::Result<()> {
        use std::sync::atomic::Ordering::Relaxed;
        self.reads.fetch_add(1, Relaxed);
        self.largest.fetch_max(buf.len(), Relaxed);
        self.bytes.read_exact_at(buf, offset)
    }
}
