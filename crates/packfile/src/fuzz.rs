//! Harnesses for fuzzing: functions that panic when a property breaks, whatever bytes they are given.
#![allow(clippy::panic, clippy::unwrap_used)]

use std::{path::Path, sync::Arc};

use icecore_diskio::{Disk, FaultyDisk, IfExists, ReadAt};

use crate::{BoxError, Codec, Error, Options, Reader, RecordCodec, Writer};

/// So many items of a file are read one by one; the rest are only verified.
const MAX_ITEMS: u32 = 500;

/// Bytes that must be read to be seen, as those of a file must.
struct Unmapped(Vec<u8>);

impl ReadAt for Unmapped {
    fn len_bytes(&self) -> u64 {
        self.0.len_bytes()
    }

    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> icecore_diskio::Result<()> {
        self.0.read_exact_at(buf, offset)
    }
}

/// A codec of a caller's own: a byte in front, all others inverted.
struct Invert;

impl RecordCodec for Invert {
    fn encode(&self, payload: &[u8], out: &mut Vec<u8>) -> Result<(), BoxError> {
        out.push(b'~');
        out.extend(payload.iter().map(|byte| !byte));
        Ok(())
    }

    fn decode(&self, encoded: &[u8], _: u64, out: &mut Vec<u8>) -> Result<(), BoxError> {
        let payload = encoded.strip_prefix(b"~").ok_or("no mark")?;
        out.extend(payload.iter().map(|byte| !byte));
        Ok(())
    }
}

fn codecs() -> [Codec; 3] {
    [Codec::None, Codec::Zstd, Codec::Custom(Arc::new(Invert))]
}

/// Takes any bytes for a file: nothing panics, all errors blame the file, all ways to read agree.
pub fn open_and_read(data: &[u8]) {
    for codec in codecs() {
        match (Reader::from_source(data.to_vec()), Reader::from_source(Unmapped(data.to_vec()))) {
            (Ok(mapped), Ok(unmapped)) => {
                let (mapped, unmapped) =
                    (mapped.with_codec(codec.clone()), unmapped.with_codec(codec.clone()));
                assert_eq!(mapped.info().unwrap(), unmapped.info().unwrap());
                assert_eq!(mapped.app_data().unwrap(), unmapped.app_data().unwrap());
                let all = readable(&mapped);
                assert_eq!(all, readable(&unmapped));
                assert_eq!(verified(&mapped), verified(&unmapped));
                if verified(&mapped) {
                    assert_eq!(all.len() as u32, mapped.item_count().unwrap().min(MAX_ITEMS));
                }
            }
            (Err(a), Err(b)) => {
                assert_eq!(a.to_string(), b.to_string());
                blames_the_file(&a);
            }
            (a, b) => panic!("only one of two sources opens: {:?} {:?}", a.err(), b.err()),
        }
    }
}

fn blames_the_file(e: &Error) {
    assert!(e.is_corrupt() || matches!(e, Error::Version { .. }), "{e:?}");
}

fn verified(reader: &Reader) -> bool {
    reader.verify().inspect_err(blames_the_file).is_ok()
}

/// The items up to the first that cannot be read, by every way of reading.
fn readable(reader: &Reader) -> Vec<Vec<u8>> {
    let count = reader.item_count().unwrap().min(MAX_ITEMS);
    let mut items = Vec::new();
    let mut range = reader.read_range(0, count).unwrap();
    for position in 0..count {
        let alone = reader.read_item(position);
        match range.next_item() {
            Ok(item) => assert_eq!(alone.unwrap(), item.unwrap()),
            Err(e) => {
                assert_eq!(alone.unwrap_err().to_string(), e.to_string());
                blames_the_file(&e);
                break;
            }
        }
        items.push(reader.read_item(position).unwrap());
    }
    let whole = items.len() as u32 == count;
    assert!(range.next_item().unwrap().is_none());
    let positions: Vec<u32> = (0..count).collect();
    for threads in [1, 2] {
        match reader.read_items(&positions, threads) {
            Ok(batch) => assert!(whole && batch == items),
            Err(e) => assert!(!whole && e.is_corrupt(), "{e:?}"),
        }
        assert_eq!(reader.read_items(&positions[..items.len()], threads).unwrap(), items);
    }
    items
}

/// Bytes, taken from the front; zeros when there are no more.
struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    fn byte(&mut self) -> u8 {
        self.take(1).first().copied().unwrap_or_default()
    }

    fn take(&mut self, len: usize) -> Vec<u8> {
        let (taken, rest) = self.0.split_at(len.min(self.0.len()));
        self.0 = rest;
        taken.to_vec()
    }
}

/// Lets the bytes choose options and items: the same file at any concurrency, and the same items back from it.
pub fn round_trip(data: &[u8]) {
    let mut bytes = Bytes(data);
    let items_per_record = [1, 1, 2, 3, 7, 128, 1000, u32::MAX][usize::from(bytes.byte() % 8)];
    let codec = codecs()[usize::from(bytes.byte() % 3)].clone();
    let hashed = bytes.byte();
    let app_len = bytes.byte().into();
    let app_data = bytes.take(app_len);
    let mut items = Vec::new();
    while !bytes.0.is_empty() {
        let len = usize::from(bytes.byte());
        // One in sixteen is repeated until it is large.
        let times = if len % 16 == 9 { 300 } else { 1 };
        items.push(bytes.take(len % 64).repeat(times));
    }
    let mut options = Options::new().items_per_record(items_per_record).codec(codec.clone());
    let backward = |item: &[u8], out: &mut Vec<u8>| {
        out.extend(item.iter().rev());
        Ok(())
    };
    match hashed % 3 {
        0 => {}
        1 => options = options.content_hash(true),
        _ => options = options.hash_extract(backward),
    }
    let file = build(options.clone(), &items, &app_data);
    assert_eq!(file, build(options.clone().concurrency(3).bytes_per_sync(100), &items, &app_data));

    let reader = Reader::from_source(file).unwrap().with_codec(codec.clone());
    assert_eq!(reader.app_data().unwrap(), app_data);
    assert_eq!(reader.content_hash().unwrap().is_some(), hashed % 3 != 0);
    assert_eq!(reader.item_count().unwrap() as usize, items.len());
    assert_eq!(readable(&reader), items[..items.len().min(MAX_ITEMS as usize)]);
    match hashed % 3 {
        2 => reader.verify_with(backward).unwrap(),
        _ => reader.verify().unwrap(),
    }
}

fn build(options: Options, items: &[Vec<u8>], app_data: &[u8]) -> Vec<u8> {
    let disk: Arc<dyn Disk> = Arc::new(FaultyDisk::new());
    let path = Path::new("f");
    let mut writer = Writer::create_on(&disk, path, options.if_exists(IfExists::Replace)).unwrap();
    for (i, item) in items.iter().enumerate() {
        let (front, back) = item.split_at(item.len() / 2);
        match i % 3 {
            0 => writer.append_parts(&[front, back]).unwrap(),
            _ => writer.append(item).unwrap(),
        }
    }
    writer.finish(app_data).unwrap();
    disk.open(path).unwrap().as_bytes().unwrap().to_vec()
}

#[cfg(test)]
mod tests {
    use icecore_testkit::SplitMix64;

    use super::*;

    fn random(rng: &mut SplitMix64, max_len: u64) -> Vec<u8> {
        (0..rng.below(max_len + 1)).map(|_| rng.next_u64() as u8).collect()
    }

    #[test]
    fn round_trips() {
        let mut rng = SplitMix64::new(1);
        for size in [0, 1, 5, 100, 1000, 5000] {
            for _ in 0..40 {
                round_trip(&random(&mut rng, size));
            }
        }
    }

    /// A trailer for the last bytes of `file`, so that what is wrong in them is met behind it.
    fn sealed(mut file: Vec<u8>) -> Vec<u8> {
        let at = file.len() - 4;
        let crc = crc32c::crc32c(&file[at - 72..at]);
        file[at..].copy_from_slice(&crc.to_le_bytes());
        file
    }

    #[test]
    fn arbitrary_and_damaged_files() {
        let mut rng = SplitMix64::new(2);
        for _ in 0..200 {
            open_and_read(&random(&mut rng, 300));
        }
        for round in 0..400u64 {
            let items: Vec<_> = (0..rng.below(20)).map(|_| rng.item(40)).collect();
            let codec = codecs()[(round % 3) as usize].clone();
            let options =
                Options::new().items_per_record([1, 2, 5, 128][(round / 3 % 4) as usize]).codec(codec);
            let mut file = build(options, &items, b"app");
            open_and_read(&file);
            for _ in 0..=rng.below(3) {
                let at = rng.below(file.len() as u64) as usize;
                file[at] = rng.next_u64() as u8;
            }
            open_and_read(&file);
            open_and_read(&sealed(file));
        }
    }
}
