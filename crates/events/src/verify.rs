//! Checking a chunk's files: each by itself, against one another, and the index against the events.

use std::{path::Path, sync::Arc};

use icecore_diskio::{Disk, first_difference};
use icecore_ledger::Decoder;

use crate::{
    ChunkEvents, Error, IndexSummary, Options, Position, Result, TermHasher, TermSet,
    bitmap::Encoder,
    query::stored_fields,
    record::damaged,
    writer::{SealedFiles, write_index},
};

/// A contract and four topics.
const MAX_TERMS_PER_EVENT: u64 = 5;
/// So many terms of events are added to the rebuilt index at once.
const POSTINGS_AT_ONCE: usize = 1000;

impl ChunkEvents {
    /// Reads all three files and checks all that can be checked without the chain's decoder: checksums, counts, every
    /// record and its place, every bitmap and its form.
    ///
    /// # Errors
    /// The first damage found, or an I/O error.
    pub fn verify(&self) -> Result<()> {
        let events = self.event_count()?;
        let mut last: Option<Position> = None;
        self.each_event(0..events, |id, record| {
            let position = record.position();
            if last.is_some_and(|last| position <= last) {
                return Err(damaged(&self.paths.events, id, "it does not come after the event before it"));
            }
            last = Some(position);
            Ok(())
        })?;
        self.index()?.verify()?;
        self.verify_bitmaps()?;
        // All records have been read; only a hash of them is left to be checked, where somebody asked for one.
        for pack in [&self.pack, &self.index_pack] {
            if pack.content_hash()?.is_some() {
                pack.verify()?;
            }
        }
        Ok(())
    }

    /// A bitmap of the right ids can have but one form; what the decoder does not look at is compared with that.
    fn verify_bitmaps(&self) -> Result<()> {
        let terms = self.index_pack.item_count()?;
        let mut items = self.index_pack.read_range(0, terms)?;
        let (mut encoder, mut expected) = (Encoder::default(), Vec::new());
        // A few bytes can stand for 2^32 ids, and all are gone through.
        let mut ids_left = MAX_TERMS_PER_EVENT * u64::from(self.event_count()?);
        for rank in 0..terms {
            let corrupt = |what: &str| Error::corrupt(&self.paths.index_pack, format!("term {rank}: {what}"));
            let Some(item) = items.next_item()? else { return Err(corrupt("it is missing")) };
            let (_, bytes) = self.split_term(rank, item)?;
            let bitmap = self.decode_ids(rank, bytes)?;
            ids_left = (ids_left.checked_sub(bitmap.len()))
                .ok_or_else(|| corrupt("with it, there are more ids than the events have terms"))?;
            expected.clear();
            bitmap.iter().for_each(|id| encoder.push(id));
            encoder.finish(&mut expected);
            if expected != bytes {
                return Err(corrupt("its bitmap is not in the form that the format asks for"));
            }
        }
        Ok(())
    }

    /// Writes the two index files anew from the events. When it fails, neither is left.
    ///
    /// # Errors
    /// Damage of the events file, [`Error::Body`] for an event that the decoder refuses, those of the disk.
    pub fn rebuild_index(
        &self,
        decoder: &dyn Decoder,
        disk: &Arc<dyn Disk>,
        hash_path: &Path,
        pack_path: &Path,
        options: Options,
    ) -> Result<IndexSummary> {
        let (mut terms, mut hasher) = (TermSet::new(), TermHasher::default());
        let mut postings = Vec::new();
        self.each_event(0..self.event_count()?, |id, record| {
            let fields = stored_fields(&self.paths.events, id, record.body, decoder)?;
            postings.extend(hasher.keys(&fields).map(|key| (key, id)));
            if postings.len() < POSTINGS_AT_ONCE {
                return Ok(());
            }
            terms.add_all(&postings)?;
            postings.clear();
            Ok(())
        })?;
        terms.add_all(&postings)?;
        write_index(disk, hash_path, pack_path, &terms, options)
    }

    /// Besides [`verify`](ChunkEvents::verify), rebuilds the index at two other paths, compares it byte by byte with
    /// the chunk's own files on the same disk, and removes it again.
    ///
    /// # Errors
    /// As of `verify` and [`rebuild_index`](ChunkEvents::rebuild_index); [`Error::Corrupt`] for an index that is not
    /// that of these events.
    pub fn verify_deep(
        &self,
        decoder: &dyn Decoder,
        disk: &Arc<dyn Disk>,
        hash_path: &Path,
        pack_path: &Path,
        options: Options,
    ) -> Result<()> {
        self.verify()?;
        self.rebuild_index(decoder, disk, hash_path, pack_path, options)?;
        // Removed whatever the comparison says.
        let _rebuilt = SealedFiles::of(disk, [hash_path, pack_path]);
        for (own, rebuilt) in [(&self.paths.index_hash, hash_path), (&self.paths.index_pack, pack_path)] {
            if first_difference(&*disk.open(own)?, &*disk.open(rebuilt)?)?.is_some() {
                return Err(Error::corrupt(own, "it is not the index of these events"));
            }
        }
        Ok(())
    }
}
