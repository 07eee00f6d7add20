//! Harness functions: each takes any bytes and panics when a property breaks.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::{fmt::Debug, path, sync::Arc};

use icecore_diskio::{Disk, FaultyDisk, ReadAt};

use crate::{
    Algorithm, Error, Fill, Hit, Index, KeyRange, Options, Path, Places, RangeBuilder, Result, SortedBuilder,
    UnsortedBuilder, format::max_payload, key::Key, phast::trial,
};

/// Bytes to draw choices from; zeros follow their end.
struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn byte(&mut self) -> u8 {
        let (first, rest) = self.0.split_first().unwrap_or((&0, &[]));
        self.0 = rest;
        *first
    }

    fn word(&mut self) -> u64 {
        u64::from_le_bytes(std::array::from_fn(|_| self.byte()))
    }
}

/// A generator of words, so that a few bytes of input make many keys (SplitMix64).
struct Words(u64);

impl Words {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ self.0 >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ z >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ z >> 31
    }
}

type Entries = Vec<([u8; 16], u64)>;

/// What to build, drawn from an input.
struct Recipe {
    options: Options,
    entries: Entries,
}

impl Recipe {
    fn draw(input: &mut Input<'_>) -> Self {
        let algorithm = Algorithm::ALL[usize::from(input.byte()) % Algorithm::ALL.len()];
        let (payload_bytes, fingerprint_bytes) = (input.byte() % 9, input.byte() % 5);
        let metadata = vec![0xA5; usize::from(input.byte() % 20)];
        let mut options = Options::new().algorithm(algorithm).user_metadata(metadata);
        options = options.payload_bytes(payload_bytes).fingerprint_bytes(fingerprint_bytes);
        if input.byte().is_multiple_of(4) {
            options = options.global_seed(input.word());
        }
        let mut max_payload = max_payload(payload_bytes);
        if input.byte().is_multiple_of(4) {
            max_payload &= input.word();
            options = options.max_payload(max_payload);
        }
        Recipe { options, entries: Self::draw_entries(input, max_payload) }
    }

    /// Mostly uniform keys; some sets crowd into few blocks, few buckets, or repeat a key.
    fn draw_entries(input: &mut Input<'_>, max_payload: u64) -> Entries {
        let count = u16::from_le_bytes([input.byte(), input.byte()]);
        let mask = |choice: u8| [0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x3F, 0x0F, 0x03][usize::from(choice % 8)];
        let (block_mask, bucket_mask) = (mask(input.byte()), mask(input.byte()));
        // More keys in the sixteen buckets that the narrowest mask leaves have no seeds, and take long to be given up.
        let count = usize::from(count % if bucket_mask == 0x03 { 128 } else { 700 });
        let twins = input.byte() == 7;
        let mut words = Words(input.word());
        let mut entry = |_| {
            let mut key = [0; 16];
            key[..8].copy_from_slice(&words.next().to_le_bytes());
            key[8..].copy_from_slice(&words.next().to_le_bytes());
            key[0] &= block_mask;
            key[7] &= bucket_mask;
            (key, (u128::from(words.next()) % (u128::from(max_payload) + 1)) as u64)
        };
        let mut entries: Entries = (0..count).map(&mut entry).collect();
        if twins && count >= 2 {
            entries[count - 1] = entries[0];
        }
        entries
    }

    fn build(&self, how: How, workers: usize) -> Result<Vec<u8>> {
        let faulty = FaultyDisk::new();
        let disk: Arc<dyn Disk> = Arc::new(faulty.clone());
        let (path, count) = (path::Path::new("index"), self.entries.len() as u64);
        let options = self.options.clone().workers(workers).memory_bytes(1).range_keys(1);
        let built = match how {
            How::Sorted => {
                let mut entries = self.entries.clone();
                entries.sort();
                let mut builder = SortedBuilder::create_on(&disk, path, count, options)?;
                let added = entries.iter().try_for_each(|(key, payload)| builder.add(key, *payload));
                added.and_then(|()| builder.finish())
            }
            How::Unsorted => {
                let mut builder = UnsortedBuilder::create_on(&disk, path, count, options)?;
                let added = self.entries.iter().try_for_each(|(key, payload)| builder.add(key, *payload));
                added.and_then(|()| builder.finish())
            }
            How::Ranges => RangeBuilder::create_on(&disk, path, count, options)?.build(|| self),
        };
        if let Err(error) = built {
            assert!(faulty.paths().is_empty(), "a failed build left {:?}", faulty.paths());
            return Err(error);
        }
        let file = disk.open(path)?;
        let mut bytes = vec![0; file.len_bytes() as usize];
        file.read_exact_at(&mut bytes, 0)?;
        Ok(bytes)
    }
}

impl Fill for &Recipe {
    type Error = Error;

    fn fill(&mut self, range: &KeyRange, places: &mut Places) -> Result<()> {
        for (key, payload) in self.entries.iter().filter(|(key, _)| range.contains(key)) {
            places.add(key, *payload);
        }
        Ok(())
    }
}

#[derive(Clone, Copy, Debug)]
enum How {
    Sorted,
    Unsorted,
    Ranges,
}

/// Bytes that are read at a position and nothing else, as a file is.
struct NotInMemory<'a>(&'a [u8]);

impl ReadAt for NotInMemory<'_> {
    fn len_bytes(&self) -> u64 {
        self.0.len_bytes()
    }

    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> icecore_diskio::Result<()> {
        self.0.read_exact_at(buf, offset)
    }
}

/// Asks an index of any origin about some keys, in every way: answers are inside it and agree.
fn read_all<S: ReadAt>(index: &Index<S>, keys: &[[u8; 16]]) -> Vec<Option<Option<Hit>>> {
    let singles: Vec<_> = keys.iter().map(|key| index.lookup(key).ok()).collect();
    let mut batched = Vec::new();
    if index.lookup_batch(keys, &mut batched).is_ok() {
        assert_eq!(singles, batched.iter().copied().map(Some).collect::<Vec<_>>());
    } else {
        assert!(singles.contains(&None), "a batch fails where no single lookup does");
    }
    let streamed: Vec<_> = index.lookup_stream(keys).map(Result::ok).collect();
    assert_eq!(singles, streamed);
    for (key, hit) in keys.iter().zip(&singles) {
        if let Some(Some(hit)) = hit {
            let Some(rank) = hit.rank else {
                assert!(matches!(index.rank(key), Err(Error::NoRanks { .. })));
                continue;
            };
            assert_eq!(index.rank(key).unwrap(), Some(rank));
            assert_eq!(index.payload(rank).unwrap(), hit.payload);
            assert!(rank < index.key_count());
        }
    }
    let beyond = index.payload(index.key_count());
    assert!(matches!(beyond, Err(Error::RankOutOfRange { .. } | Error::NoRanks { .. })));
    singles
}

/// What [`read_all`] reads from an index is also what it reads with nothing but portable code, and from checkpoints
/// where there are any.
fn read_both(file: &[u8], keys: &[[u8; 16]]) -> Vec<Option<Option<Hit>>> {
    let open = || Index::from_source(file).unwrap();
    let all = read_all(&open(), keys);
    assert_eq!(all, read_all(&open().into_portable(), keys));
    if let Ok(index) = open().with_checkpoints() {
        assert_eq!(all, read_all(&index, keys));
        assert_eq!(all, read_all(&index.into_portable(), keys));
    }
    all
}

/// Opens any bytes as an index, in memory and not, and reads all that can be read.
pub fn open_and_read(data: &[u8]) {
    let opened = Index::from_source(data);
    let apart = Index::from_source(NotInMemory(data));
    assert_eq!(opened.is_ok(), apart.is_ok());
    let (Ok(index), Ok(apart)) = (opened, apart) else { return };
    let mut words = Words(data.len() as u64);
    let keys: Vec<[u8; 16]> = (0..50)
        .map(|_| (u128::from(words.next()) << 64 | u128::from(words.next())).to_le_bytes())
        .chain(data.as_chunks::<16>().0.iter().take(50).copied())
        .collect();
    assert_eq!(read_both(data, &keys), read_all(&apart, &keys));
    assert_eq!(index.verify().is_ok(), apart.verify().is_ok());
}

/// Builds what the bytes say in every way and by all instructions there are, which must agree; every key must be found.
pub fn round_trip(data: &[u8]) {
    let recipe = Recipe::draw(&mut Input(data));
    let first = recipe.build(How::Sorted, 1);
    let agrees = |other: Result<Vec<u8>>, what: &dyn Debug| match (&first, other) {
        (Ok(first), Ok(other)) => assert!(*first == other, "{what:?}"),
        (Err(first), Err(other)) => assert_eq!(format!("{first:?}"), format!("{other:?}"), "{what:?}"),
        (first, other) => panic!("{:?} against {:?}: {what:?}", first.as_ref().err(), other.err()),
    };
    // A hopeless search takes as long as a thousand others: once more, by other instructions, is enough.
    let hopeless = first.as_ref().is_err_and(|error| !matches!(error, Error::BlockOverflow { .. }));
    let (ways, paths) = (
        [(How::Sorted, 2), (How::Unsorted, 1), (How::Unsorted, 2), (How::Ranges, 1), (How::Ranges, 2)],
        Path::all(),
    );
    let (ways, paths) = match hopeless {
        false => (&ways[..], &paths[..]),
        true => (&ways[..0], std::slice::from_ref(&paths[data.len() % paths.len()])),
    };
    for &(how, workers) in ways {
        agrees(recipe.build(how, workers), &(how, workers));
    }
    let how = [How::Sorted, How::Unsorted, How::Ranges][data.len() % 3];
    for &path in paths {
        let options = recipe.options.clone().path(path);
        agrees(Recipe { options, entries: recipe.entries.clone() }.build(how, 1 + data.len() % 2), &path);
    }
    let Ok(file) = first else { return };
    Index::from_source(file.as_slice()).unwrap().verify().unwrap();
    let keys: Vec<_> = recipe.entries.iter().map(|(key, _)| *key).collect();
    let mut seen = vec![false; keys.len()];
    for (hit, (_, payload)) in read_both(&file, &keys).into_iter().zip(&recipe.entries) {
        let hit = hit.flatten().unwrap();
        assert_eq!(hit.payload, *payload);
        if let Some(rank) = hit.rank {
            assert!(!std::mem::replace(&mut seen[rank as usize], true), "a rank occurs twice");
        }
    }
}

/// Builds what the bytes say, then changes the file where they say, and reads it.
pub fn mutate(data: &[u8]) {
    let mut input = Input(data);
    let recipe = Recipe::draw(&mut input);
    let Ok(mut file) = recipe.build(How::Sorted, 1) else { return };
    for _ in 0..1 + input.byte() % 4 {
        let at = (input.word() % file.len() as u64) as usize;
        match input.byte() % 6 {
            0 => file.truncate(at.max(1)),
            1 => file[at] = input.byte(),
            2 => file[at] ^= 1 << (input.byte() % 8),
            3 => overwrite_blob(&mut file, &mut input),
            // The table and what is before it are where damage does most.
            _ => {
                let at = at % file.len().min(160);
                file[at] = input.byte();
            }
        }
    }
    let keys: Vec<_> = recipe.entries.iter().map(|(key, _)| *key).collect();
    if Index::from_source(file.as_slice()).is_ok() {
        read_both(&file, &keys);
    }
    open_and_read(&file);
}

/// Solves a large block of the algorithm "fast" by all instructions there are, which must agree, finds its keys, then
/// changes the blob where the bytes say, and asks it.
pub fn fast_block(data: &[u8]) {
    let mut input = Input(data);
    let count = (u16::from_le_bytes([input.byte(), input.byte()]) % 12_000) as usize;
    // Bits of the place among the buckets, and of what decides about the slot.
    let (place_mask, slot_mask) = ((1u64 << (input.byte() % 64)) - 1, (1u64 << (input.byte() % 64)) - 1);
    let (crowded, twins, seed) = (input.byte(), input.byte() == 7, input.word());
    let mut words = Words(input.word());
    let mut key = |i: usize| {
        let (k0, k1) = (words.next() >> 1, words.next());
        let in_crowd = i % 8 < usize::from(crowded % 9);
        match in_crowd && crowded > 100 {
            true => Key { k0: (k0 & place_mask).swap_bytes(), k1: k1 & slot_mask },
            false => Key { k0: k0.swap_bytes(), k1 },
        }
    };
    let mut keys: Vec<Key> = (0..count).map(&mut key).collect();
    if twins && count > 1 {
        keys[count - 1] = keys[0];
    }
    if input.byte().is_multiple_of(2) {
        keys.sort_unstable_by_key(|key| key.k0.swap_bytes());
    }
    let Ok((mut blob, _)) = trial::round_trip(&keys, seed) else { return };
    for _ in 0..1 + input.byte() % 4 {
        let from_end =
            input.word() % (blob.len() as u64).min([16, 2000, 1 << 20][usize::from(input.byte() % 3)]);
        let at = blob.len() - 1 - from_end as usize;
        blob[at] ^= input.byte();
    }
    let asked: Vec<Key> = keys.iter().copied().step_by(7).chain((0..40).map(key)).collect();
    trial::ask(&blob, count as u32, &asked, seed);
}

/// Puts other bytes into a block's blob: at its beginning, at its end, or anywhere.
fn overwrite_blob(file: &mut [u8], input: &mut Input<'_>) {
    let Ok(index) = Index::from_source(&*file) else { return };
    let (at, len) = index.blob_range(usize::from(input.byte()));
    let count = usize::from(1 + input.byte() % 16).min(len);
    let skipped = match input.byte() % 3 {
        0 => 0,
        1 => len - count,
        _ => (input.word() % (len - count + 1) as u64) as usize,
    };
    file[at + skipped..][..count].fill_with(|| input.byte());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seeded(harness: fn(&[u8]), count: u64, len: usize) {
        for seed in 0..count {
            let mut words = Words(seed);
            let data: Vec<u8> = (0..len).map(|_| words.next() as u8).collect();
            harness(&data);
        }
    }

    #[test]
    fn nothing_opens_from_noise() {
        seeded(open_and_read, 300, 200);
        open_and_read(&[]);
    }

    #[test]
    fn round_trips() {
        seeded(round_trip, 150, 40);
        round_trip(&[]);
    }

    #[test]
    fn fast_blocks() {
        seeded(fast_block, 60, 60);
        fast_block(&[]);
    }

    #[test]
    fn mutations() {
        seeded(mutate, 400, 120);
    }
}
