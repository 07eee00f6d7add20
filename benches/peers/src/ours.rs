//! Our own index, through its file.

use std::time::Instant;

use icecore_diskio::{IfExists, Mmap, ReadAt};
use icecore_streamhash::{Algorithm, Hit, Index, Options, SortedBuilder, UnsortedBuilder};

use crate::{
    Any,
    contender::{Builder, Built, How, Lookup, Order},
    keys::{FINGERPRINT_BYTES, Key, PAYLOAD_BYTES, payloads},
};

/// Keys that one call takes: enough that its beginning and end, when little is under way, do not count.
const BATCH: usize = 4096;

pub(crate) struct Ours {
    algorithm: Algorithm,
    checkpoints: bool,
    mapped: bool,
}

impl Ours {
    pub(crate) fn new(algorithm: Algorithm) -> Self {
        Ours { algorithm, checkpoints: false, mapped: false }
    }

    pub(crate) fn checkpoints(self) -> Self {
        Ours { checkpoints: true, ..self }
    }

    pub(crate) fn mapped(self) -> Self {
        Ours { mapped: true, ..self }
    }
}

impl Builder for Ours {
    type Structure = Read;

    fn build(&self, keys: &[Key], how: &How) -> Any<Built<Read>> {
        let path = how.dir.join("index");
        let options = Options::new().algorithm(self.algorithm).if_exists(IfExists::Replace);
        let options = options.payload_bytes(PAYLOAD_BYTES).fingerprint_bytes(FINGERPRINT_BYTES);
        let (count, payloads) = (keys.len() as u64, payloads(keys.len()));
        let options = options.workers(how.workers).max_payload(u64::from(payloads) - 1);
        let start = Instant::now();
        match how.order {
            Order::Sorted => {
                let mut builder = SortedBuilder::create(&path, count, options)?;
                for key in keys {
                    builder.add(&key.0, key.payload(payloads).into())?;
                }
                builder.finish()?;
            }
            Order::Unsorted => {
                let mut builder = UnsortedBuilder::create(&path, count, options)?;
                for key in keys {
                    builder.add(&key.0, key.payload(payloads).into())?;
                }
                builder.finish()?;
            }
        }
        let seconds = start.elapsed().as_secs_f64();
        let bytes = std::fs::metadata(&path)?.len();
        let structure = if self.mapped {
            Read::Mapped(Index::from_source(Mmap::open(&path)?)?)
        } else {
            let index = Index::from_source(std::fs::read(&path)?)?;
            Read::Memory(if self.checkpoints { index.with_checkpoints()? } else { index })
        };
        Ok(Built { structure, seconds, bytes, function: None })
    }
}

pub(crate) enum Read {
    Memory(Index<Vec<u8>>),
    Mapped(Index<Mmap>),
}

impl Lookup for Read {
    #[inline(always)]
    fn get(&self, key: &Key) -> Option<u32> {
        match self {
            Read::Memory(index) => payload(index, key),
            Read::Mapped(index) => payload(index, key),
        }
    }

    fn batch(&self, keys: &[Key]) -> Option<u64> {
        match self {
            Read::Memory(index) => batch(index, keys),
            Read::Mapped(index) => batch(index, keys),
        }
    }

    fn stream(&self, keys: &[Key]) -> Option<u64> {
        match self {
            Read::Memory(index) => stream(index, keys),
            Read::Mapped(index) => stream(index, keys),
        }
    }
}

#[inline(always)]
fn payload<S: ReadAt>(index: &Index<S>, key: &Key) -> Option<u32> {
    match index.lookup(&key.0) {
        Ok(Some(hit)) => Some(hit.payload as u32),
        _ => None,
    }
}

fn batch<S: ReadAt>(index: &Index<S>, keys: &[Key]) -> Option<u64> {
    let mut hits: Vec<Option<Hit>> = Vec::with_capacity(BATCH);
    let mut sum = 0;
    for keys in keys.chunks(BATCH) {
        index.lookup_batch(keys, &mut hits).ok()?;
        sum += hits.iter().flatten().map(|hit| hit.payload).sum::<u64>();
    }
    Some(sum)
}

fn stream<S: ReadAt>(index: &Index<S>, keys: &[Key]) -> Option<u64> {
    let mut sum = 0;
    for hit in index.lookup_stream(keys) {
        sum += hit.ok()?.map_or(0, |hit| hit.payload);
    }
    Some(sum)
}
