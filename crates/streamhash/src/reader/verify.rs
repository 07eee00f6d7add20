use icecore_diskio::ReadAt;
use xxhash_rust::xxh64::Xxh64;

use super::Index;
use crate::{Result, algorithm::Damage};

/// Bytes read at a time where the source is not in memory.
const CHUNK_BYTES: usize = 1 << 20;

impl<S: ReadAt> Index<S> {
    /// Reads the whole file: both hashes of the footer must be right, and every block must decode to the end.
    ///
    /// The format has no hash over the table nor, but for [`Compact`](crate::Algorithm::Compact), over header and user
    /// metadata; those are checked against one another when the file is opened.
    ///
    /// # Errors
    /// [`Error::Corrupt`](crate::Error::Corrupt) with the place of the first damage found, and those of the disk.
    pub fn verify(&self) -> Result<()> {
        let mut payload_hash = Xxh64::new(0);
        let mut metadata_hash = Xxh64::new(0);
        let entry_bytes = self.header.entry_bytes() as u64;
        let mut chunk = Vec::new();
        for &block in &self.blocks {
            let blob = self.blob(self.source.as_bytes(), block)?;
            metadata_hash.update(&blob);
            let checked = self.decoder.check(&blob, block.keys());
            checked.map_err(|Damage(what)| self.corrupt(block.blob_at(), what))?;
            let at = self.layout.payload_at + block.keys_before() * entry_bytes;
            let hash = self.hash(at, u64::from(block.keys()) * entry_bytes, &mut chunk)?;
            payload_hash.update(&hash.to_le_bytes());
        }
        if metadata_hash.digest() != self.footer.metadata_hash {
            return Err(self.corrupt(self.layout.metadata_at, "the metadata's hash is not the footer's"));
        }
        if payload_hash.digest() != self.footer.payload_hash {
            return Err(self.corrupt(self.layout.payload_at, "the payload's hash is not the footer's"));
        }
        Ok(())
    }

    fn hash(&self, mut at: u64, mut len: u64, chunk: &mut Vec<u8>) -> Result<u64> {
        let mut hash = Xxh64::new(0);
        while len > 0 {
            let step = len.min(CHUNK_BYTES as u64);
            chunk.resize(step as usize, 0);
            self.source.read_exact_at(chunk, at)?;
            hash.update(chunk);
            at += step;
            len -= step;
        }
        Ok(hash.digest())
    }
}
