//! Properties of the sources under arbitrary bytes. Each function panics when one breaks.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::{collections::BTreeMap, io, num::NonZeroU32, sync::Arc};

use icecore_ledger::{Error, LedgerRange, LedgerSeq, RawLedger, Source};

use super::{
    BatchName, FramedFile, Generator, Lake, LakeOptions, Layout, ObjectStore, Packing, PartitionName,
    live::assemble, write_framed,
};
use crate::xdr;

/// Small, so that the limit is met.
const MAX_BYTES: u32 = 1 << 20;

/// Arbitrary bytes as a framed file: its range and its streams agree, and what a stream gives can be written and read
/// back, plain and packed.
pub fn framed(data: &[u8]) {
    let file = FramedFile::from_bytes("fuzz", data).max_ledger_bytes(MAX_BYTES);
    // Before the file was looked through, and after it.
    let early = drain(&file, LedgerRange { first: LedgerSeq(0), last: LedgerSeq(u32::MAX) });
    let range = match file.range() {
        Ok(range) => range,
        Err(error) => {
            assert!(!error.is_retryable(), "memory does not fail: {error}");
            if let Error::Gap { expected, .. } = error {
                let before = LedgerSeq(expected.0 - 1);
                let (ledgers, end) = drain(&file, LedgerRange { first: before, last: before });
                assert!(
                    ledgers.len() == 1 && end.is_ok(),
                    "the ledger before the gap cannot be had: {end:?}"
                );
            }
            return;
        }
    };
    assert!(
        matches!(early.1, Err(Error::OutOfRange { has, .. }) if has == range) || range.count() == 1 << 32
    );
    let (ledgers, end) = drain(&file, range);
    end.unwrap();
    assert_eq!(ledgers.len() as u64, range.count());
    let (last, end) = drain(&file, LedgerRange { first: range.last, ..range });
    end.unwrap();
    assert_eq!(last, ledgers[ledgers.len() - 1..]);
    for packing in [Packing::Plain, Packing::Zstd(1)] {
        let mut bytes = Vec::new();
        write_framed(&file, range, &mut bytes, packing).unwrap();
        let again = FramedFile::from_bytes("again", bytes);
        assert_eq!(again.range().unwrap(), range);
        assert_eq!(drain(&again, range).0, ledgers);
    }
}

/// Arbitrary bytes as a live stream that arrives in parts of any length: the same ledgers come, whatever the parts; they are
/// those that a simple reading finds; and no more memory is held than twice what has arrived.
pub fn live(data: &[u8]) {
    let Some((part, bytes)) = data.split_first() else { return };
    let (ledgers, end, held) = assemble(bytes, usize::from(*part) + 1, MAX_BYTES);
    let (whole, whole_end, _) = assemble(bytes, usize::MAX, MAX_BYTES);
    assert_eq!(ledgers, whole);
    assert_eq!(end.as_ref().map(Error::to_string), whole_end.as_ref().map(Error::to_string));
    assert!(held <= 2 * bytes.len() + 64, "{held} bytes are held of {}", bytes.len());
    let mut rest = bytes;
    for (seq, ledger) in &ledgers {
        let (word, after) = rest.split_first_chunk().unwrap();
        assert_eq!(u32::from_be_bytes(*word), (1 << 31) | ledger.len() as u32);
        let (body, after) = after.split_at(ledger.len());
        assert_eq!((body, xdr::ledger_seq(body).unwrap()), (&ledger[..], *seq));
        rest = after;
    }
    // What was not given is cut short, or damaged where the error says.
    let damaged = |word: u32| word >> 31 == 0 || word & !(1 << 31) > MAX_BYTES;
    match (end, rest.first_chunk().map(|word| u32::from_be_bytes(*word))) {
        (None, None) => (),
        (None, Some(word)) => assert!(!damaged(word) && rest.len() < 4 + (word & !(1 << 31)) as usize),
        (Some(Error::Corrupt { offset, .. }), Some(word)) => {
            let at = (bytes.len() - rest.len()) as u64;
            assert!(if damaged(word) { offset == at } else { offset >= at + 4 });
        }
        (Some(error), _) => panic!("{error}"),
    }
}

/// Arbitrary bytes as the object of a batch, and as the configuration of a lake: what is accepted holds exactly the
/// ledgers that it is named by.
pub fn lake_batch(data: &[u8]) {
    let (ledgers, object) =
        data.split_first().map_or((1, data), |(first, rest)| (u32::from(first % 4) + 1, rest));
    let layout = Layout {
        ledgers_per_batch: NonZeroU32::new(ledgers).unwrap(),
        batches_per_partition: NonZeroU32::MIN,
    };
    // Its first ledger, read as the batch itself says it.
    let claimed = zstd::stream::decode_all(object.get(..object.len().min(1 << 16)).unwrap_or_default());
    let first = claimed.ok().and_then(|bytes| bytes.first_chunk().map(|first| u32::from_be_bytes(*first)));
    let name = layout.batch_of(LedgerSeq(first.unwrap_or(2).max(2)));
    let (first, last) = name.content();
    let store = Arc::new(Objects(BTreeMap::from([(name.to_string(), object.to_vec())])));
    let options = LakeOptions {
        layout: Some(layout),
        threads: 1,
        max_batch_bytes: MAX_BYTES.into(),
        ..Default::default()
    };
    let lake = Lake::with_store(store, options).unwrap();
    let range = lake.range().unwrap();
    assert_eq!((range.first, range.last), (first, last));
    match drain(&lake, range) {
        (ledgers, Ok(())) => assert_eq!(ledgers.len() as u64, range.count()),
        (ledgers, Err(error)) => {
            assert!(ledgers.is_empty(), "part of a bad batch was handed over");
            assert!(error.is_corrupt(), "{error}");
        }
    }

    let config = Arc::new(Objects(BTreeMap::from([(".config.json".to_owned(), data.to_vec())])));
    match Lake::with_store(config, LakeOptions::default()) {
        Ok(lake) => assert!(matches!(lake.range(), Err(Error::Empty { .. }))),
        Err(error) => assert!(matches!(error, Error::Config { .. }), "{error}"),
    }
}

/// Arbitrary text as a generator's description, and as names in a lake: what is understood prints in one way, and
/// reads back.
pub fn generator_spec(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(batch) = text.parse::<BatchName>() {
        assert_eq!(batch.to_string(), text);
    }
    if let Ok(partition) = text.parse::<PartitionName>() {
        assert_eq!(partition.to_string(), text);
    }
    let generator = match text.parse::<Generator>() {
        Ok(generator) => generator,
        Err(error) => return assert!(matches!(error, Error::Config { .. }), "{error}"),
    };
    let printed = generator.to_string();
    assert_eq!(printed.parse::<Generator>().unwrap().to_string(), printed);
    let range = generator.range().unwrap();
    // Large ledgers would only make it slow.
    if data.len() < 40 {
        let first = LedgerRange { last: range.first, ..range };
        let (ledgers, end) = drain(&generator, first);
        end.unwrap();
        assert_eq!(ledgers.len(), 1);
    }
}

/// What a stream gives, and how it ends. After an error it must be over.
fn drain(source: &dyn Source, ledgers: LedgerRange) -> (Vec<Vec<u8>>, Result<(), Error>) {
    let mut all = Vec::new();
    let mut stream = match source.stream(ledgers) {
        Ok(stream) => stream,
        Err(error) => return (all, Err(error)),
    };
    let end = loop {
        match stream.next_ledger() {
            Ok(Some(RawLedger { seq, bytes })) => {
                assert_eq!(u64::from(seq.0), u64::from(ledgers.first.0) + all.len() as u64);
                assert_eq!(xdr::ledger_seq(bytes).unwrap(), seq);
                all.push(bytes.to_vec());
            }
            Ok(None) => break Ok(()),
            Err(error) => break Err(error),
        }
    };
    assert!(matches!(stream.next_ledger(), Ok(None)), "it goes on after its end");
    (all, end)
}

/// An object store in memory.
struct Objects(BTreeMap<String, Vec<u8>>);

impl ObjectStore for Objects {
    fn describe(&self) -> String {
        "fuzz".to_owned()
    }

    fn list(&self, folder: &str) -> io::Result<Vec<String>> {
        let here = self.0.keys().filter_map(|name| name.strip_prefix(folder));
        Ok(here.filter_map(|name| name.split('/').next()).map(str::to_owned).collect())
    }

    fn get(&self, name: &str, max_bytes: u64) -> io::Result<Vec<u8>> {
        match self.0.get(name) {
            None => Err(io::ErrorKind::NotFound.into()),
            Some(bytes) if bytes.len() as u64 > max_bytes => Err(io::ErrorKind::FileTooLarge.into()),
            Some(bytes) => Ok(bytes.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use icecore_testkit::SplitMix64;

    use super::*;

    /// The input, and copies of it with a few bytes changed, cut, doubled or inserted.
    fn mutations(input: &[u8], rng: &mut SplitMix64, count: usize) -> Vec<Vec<u8>> {
        let mut all = vec![input.to_vec()];
        for _ in 0..count {
            let mut bytes = input.to_vec();
            for _ in 0..=rng.below(3) {
                let at = rng.below(bytes.len() as u64 + 1) as usize;
                let to = (at + rng.below(64) as usize).min(bytes.len());
                match rng.below(6) {
                    0 => bytes.truncate(at),
                    1 => drop(bytes.drain(at..to)),
                    2 => bytes.extend_from_within(at..to),
                    3 => bytes.insert(at, rng.next_u64() as u8),
                    // Where numbers are that matter.
                    4 => bytes
                        .iter_mut()
                        .take(at % 100)
                        .skip(at % 97)
                        .for_each(|byte| *byte = rng.next_u64() as u8),
                    _ => bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 1 << rng.below(8)),
                }
            }
            all.push(bytes);
        }
        all
    }

    fn random(rng: &mut SplitMix64, count: usize) -> Vec<Vec<u8>> {
        (0..count).map(|_| (0..rng.below(200)).map(|_| rng.next_u64() as u8).collect()).collect()
    }

    fn generated(ledgers: u32) -> Vec<u8> {
        let generator: Generator = format!("gen:ledgers={ledgers},txs=2").parse().unwrap();
        let mut bytes = Vec::new();
        write_framed(&generator, generator.range().unwrap(), &mut bytes, Packing::Plain).unwrap();
        bytes
    }

    #[test]
    fn framed_files_hold() {
        let mut rng = SplitMix64::new(1);
        let plain = generated(5);
        let packed = zstd::bulk::compress(&plain, 1).unwrap();
        // The third ledger is missing, or is the first again.
        let length =
            |at: usize| 4 + (u32::from_be_bytes(*plain[at..].first_chunk().unwrap()) & !(1 << 31)) as usize;
        let second = length(0);
        let third = second + length(second);
        let fourth = third + length(third);
        let gap = [&plain[..third], &plain[fourth..]].concat();
        let repeat = [&plain[..third], &plain[..second]].concat();
        framed(&gap);
        framed(&repeat);
        framed(&zstd::bulk::compress(&gap, 1).unwrap());
        let inputs =
            [mutations(&plain, &mut rng, 300), mutations(&packed, &mut rng, 100), random(&mut rng, 100)];
        inputs.concat().iter().for_each(|data| framed(data));
        let damaged = mutations(&plain, &mut rng, 100)
            .into_iter()
            .map(|bytes| zstd::bulk::compress(&bytes, 1).unwrap());
        damaged.for_each(|data| framed(&data));
    }

    #[test]
    fn live_streams_hold() {
        let mut rng = SplitMix64::new(4);
        let plain = generated(5);
        let (five, end, _) = assemble(&plain, 7, MAX_BYTES);
        assert_eq!((five.len(), end.is_none()), (5, true));
        let mut inputs = mutations(&plain, &mut rng, 300);
        inputs.extend(random(&mut rng, 100));
        inputs.iter().for_each(|data| live(&[&[rng.next_u64() as u8], &data[..]].concat()));
    }

    #[test]
    fn lake_batches_hold() {
        let mut rng = SplitMix64::new(2);
        for count in 1..=4u32 {
            let first = 4 * count;
            let generator: Generator = format!("gen:from={first},ledgers={count},txs=2").parse().unwrap();
            let mut batch: Vec<u8> =
                [first, first + count - 1, count].iter().flat_map(|word| word.to_be_bytes()).collect();
            drain(&generator, generator.range().unwrap()).0.iter().for_each(|ledger| batch.extend(ledger));
            for bytes in mutations(&batch, &mut rng, 60) {
                let object = zstd::bulk::compress(&bytes, 1).unwrap();
                lake_batch(&[&[count as u8 - 1], &object[..]].concat());
            }
            let object = zstd::bulk::compress(&batch, 1).unwrap();
            mutations(&object, &mut rng, 30).iter().for_each(|object| lake_batch(object));
        }
        random(&mut rng, 100).iter().for_each(|data| lake_batch(data));
        let config = br#"{"networkPassphrase":"x","ledgersPath":"/a/b","compression":"zstd","ledgersPerBatch":2,"batchesPerPartition":8}"#;
        mutations(config, &mut rng, 200).iter().for_each(|data| lake_batch(data));
    }

    #[test]
    fn descriptions_hold() {
        let mut rng = SplitMix64::new(3);
        for text in [
            "gen:",
            "gen:seed=7,txs=3",
            "gen:meta=3,payments=40,txs=9",
            "FFFFFFEF--16-31",
            "FFFFFFFD--2.xdr.zst",
        ] {
            mutations(text.as_bytes(), &mut rng, 200).iter().for_each(|data| generator_spec(data));
        }
    }
}
