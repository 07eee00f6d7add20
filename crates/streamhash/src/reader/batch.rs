//! Many keys at once, for sources in memory: a batch goes through the memory accesses of a lookup one after the other,
//! so that the cache misses of its keys overlap instead of adding up.

use std::hint::black_box;

use icecore_diskio::ReadAt;

use super::{Block, Hit, Index};
use crate::{Result, key::Key};

/// Keys in flight; more than the misses that a core keeps outstanding.
const BATCH: usize = 32;

impl<S: ReadAt> Index<S> {
    /// Looks up many keys: clears `out` and fills it with what [`lookup`](Index::lookup) gives for each.
    ///
    /// # Errors
    /// Those of [`lookup`](Index::lookup); `out` then holds what came before.
    pub fn lookup_batch(&self, keys: &[impl AsRef<[u8]>], out: &mut Vec<Option<Hit>>) -> Result<()> {
        out.clear();
        out.reserve(keys.len());
        let Some(bytes) = self.source.as_bytes() else {
            for key in keys {
                out.push(self.lookup(key.as_ref())?);
            }
            return Ok(());
        };
        let mut pending = Vec::with_capacity(BATCH);
        for keys in keys.chunks(BATCH) {
            pending.clear();
            for key in keys {
                let key = Key::new(key.as_ref())?;
                pending.push((key, self.block(key.block(self.header.blocks))));
            }
            self.lookup_staged(bytes, &pending, out)?;
        }
        Ok(())
    }

    fn lookup_staged(&self, bytes: &[u8], keys: &[(Key, Block)], out: &mut Vec<Option<Hit>>) -> Result<()> {
        let at = |at: u64| bytes.get(at as usize).copied().unwrap_or(0);
        black_box(keys.iter().fold(0, |seen, (_, block)| seen ^ at(block.blob_at)));
        let algorithm = self.header.algorithm;
        let touch = |(key, block): &(Key, Block)| {
            let blob = bytes.get(block.blob_at as usize..).and_then(|tail| tail.get(..block.blob_bytes));
            algorithm.touch(blob.unwrap_or_default(), block.keys, *key)
        };
        black_box(keys.iter().fold(0, |seen, pending| seen ^ touch(pending)));
        let mut ranks = [None; BATCH];
        for (rank, (key, block)) in ranks.iter_mut().zip(keys) {
            if block.keys > 0 {
                *rank = self.rank_in(block, &self.blob(block)?, *key)?;
            }
        }
        let entry_bytes = self.header.entry_bytes() as u64;
        black_box(
            ranks
                .iter()
                .flatten()
                .fold(0, |seen, rank| seen ^ at(self.layout.payload_at + rank * entry_bytes)),
        );
        for (rank, (key, _)) in ranks.iter().zip(keys) {
            out.push(rank.map_or(Ok(None), |rank| self.hit(*key, rank))?);
        }
        Ok(())
    }
}
