//! Damaged files: an error that says so, or the very same items.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use common::{Counted, build, codec};
use icecore_packfile::{Error, Options, Place, Reader};
use icecore_testkit::SplitMix64;

fn is_damage(e: &Error) -> bool {
    e.is_corrupt() || matches!(e, Error::Version { .. })
}

struct Sample {
    bytes: Vec<u8>,
    items: Vec<Vec<u8>>,
    codec: usize,
    per_record: u32,
    hashed: bool,
}

fn samples() -> Vec<Sample> {
    let mut rng = SplitMix64::new(5);
    let mut out = Vec::new();
    for codec_number in 0..3 {
        for per_record in [1, 2, 128] {
            for hashed in [false, true] {
                let items: Vec<_> = (0..9).map(|i| rng.item(if i % 4 == 0 { 0 } else { 24 })).collect();
                let options = Options::new().codec(codec(codec_number)).items_per_record(per_record);
                let bytes = build(options.content_hash(hashed), &items);
                out.push(Sample { bytes, items, codec: codec_number, per_record, hashed });
            }
        }
    }
    out
}

impl Sample {
    /// Where the records end and the app data stands, both from the file's own trailer.
    fn regions(&self) -> (usize, std::ops::Range<usize>) {
        let reader = Reader::from_source(self.bytes.clone()).unwrap();
        let info = reader.info().unwrap();
        let app_end = self.bytes.len() - 76;
        let app_at = app_end - info.app_data_bytes as usize;
        (app_at - info.index_bytes as usize, app_at..app_end)
    }

    /// All items that can be read, each `None` where it cannot; `None` where the file does not open.
    fn read(&self, bytes: Vec<u8>) -> Option<(Vec<Option<Vec<u8>>>, bool)> {
        let reader = match Reader::from_source(bytes.clone()) {
            Ok(reader) => reader.with_codec(codec(self.codec)),
            Err(e) => {
                assert!(is_damage(&e), "{e:?}");
                return None;
            }
        };
        let keep = |item: Result<Vec<u8>, Error>| item.inspect_err(|e| assert!(is_damage(e), "{e:?}")).ok();
        let items: Vec<_> = (0..reader.item_count().unwrap()).map(|i| keep(reader.read_item(i))).collect();
        let verified = reader.verify().inspect_err(|e| assert!(is_damage(e), "{e:?}")).is_ok();
        let unmapped = Reader::from_source(Counted { bytes, ..Counted::default() }).unwrap();
        let unmapped = unmapped.with_codec(codec(self.codec));
        for (i, item) in items.iter().enumerate() {
            assert_eq!(&keep(unmapped.read_item(i as u32)), item);
        }
        Some((items, verified))
    }
}

#[test]
fn every_flipped_bit_is_noticed_where_it_can_be() {
    for sample in samples() {
        let (index_at, app_data) = sample.regions();
        for at in 0..sample.bytes.len() {
            for bit in 0..8 {
                let mut bytes = sample.bytes.clone();
                bytes[at] ^= 1 << bit;
                let Some((items, verified)) = sample.read(bytes) else {
                    assert!(at >= index_at && !app_data.contains(&at), "records are not read on opening");
                    continue;
                };
                assert!(at < index_at || app_data.contains(&at), "byte {at} has a checksum");
                assert_eq!(items.len(), sample.items.len());
                let readable =
                    items.iter().zip(&sample.items).all(|(read, item)| read.as_ref() == Some(item));
                if app_data.contains(&at) {
                    assert!(readable && verified);
                }
                // Records without a codec have no checksum of their own but for the item sizes, and a codec may have
                // bits that do not matter.
                if sample.hashed || sample.codec == 1 {
                    assert!(!verified || readable, "byte {at}, bit {bit}, {} per record", sample.per_record);
                }
                if sample.codec == 1 {
                    let same =
                        |(read, item): (&Option<Vec<u8>>, _)| read.as_ref().is_none_or(|read| read == item);
                    assert!(
                        items.iter().zip(&sample.items).all(same),
                        "a frame with a wrong checksum was read"
                    );
                }
            }
        }
    }
}

#[test]
fn every_truncation_is_noticed() {
    for sample in samples() {
        for len in 0..sample.bytes.len() {
            assert!(sample.read(sample.bytes[..len].to_vec()).is_none(), "{len} bytes");
        }
        let longer = [&[0], sample.bytes.as_slice()].concat();
        assert!(sample.read(longer).is_none());
    }
}

#[test]
fn a_file_read_with_another_codec_is_an_error_not_a_panic() {
    for sample in samples() {
        for other in (0..3).filter(|&other| other != sample.codec) {
            let reader = Reader::from_source(sample.bytes.clone()).unwrap().with_codec(codec(other));
            for position in 0..9 {
                if let Err(e) = reader.read_item(position) {
                    assert!(is_damage(&e), "{e:?}");
                }
            }
            if sample.hashed {
                assert!(reader.verify().is_err());
            }
        }
    }
}

/// A file put together by hand, every checksum right: one record, and a trailer that claims what it is told to.
struct Forged {
    record: Vec<u8>,
    record_count: u32,
    item_count: u32,
    items_per_record: u32,
    index_bytes: Option<u32>,
    app_data_bytes: u32,
}

/// A FOR group of `count` equal values with its CRC32C.
fn equal_sizes(value: u32, count: usize) -> Vec<u8> {
    let mut group = vec![0; count.div_ceil(8)];
    group.push(1);
    group.extend(value.to_le_bytes());
    let crc = crc32c::crc32c(&group);
    group.extend(crc.to_le_bytes());
    group
}

impl Forged {
    fn honest(record: Vec<u8>, items_per_record: u32) -> Self {
        Forged {
            record,
            record_count: 1,
            item_count: 1,
            items_per_record,
            index_bytes: None,
            app_data_bytes: 0,
        }
    }

    fn open(self) -> Result<Reader, Error> {
        let index = equal_sizes(self.record.len() as u32, 1);
        let mut trailer = Vec::new();
        trailer.extend(0x4843_4C53u32.to_le_bytes());
        trailer.extend([1, 0, 0, 0]);
        let index_bytes = self.index_bytes.unwrap_or(index.len() as u32);
        for field in [0, self.record_count, self.item_count, self.items_per_record, 128, index_bytes] {
            trailer.extend(field.to_le_bytes());
        }
        trailer.extend(self.app_data_bytes.to_le_bytes());
        trailer.extend([0; 36]);
        let crc = crc32c::crc32c(&trailer);
        trailer.extend(crc.to_le_bytes());
        assert_eq!(trailer.len(), 76);
        Reader::from_source([self.record, index, trailer].concat())
    }
}

#[test]
fn a_trailer_that_lies_is_refused_before_anything_is_allocated() {
    let honest = || Forged::honest(b"item".to_vec(), 1);
    assert_eq!(honest().open().unwrap().with_codec(codec(0)).read_item(0).unwrap(), b"item");
    let all = u32::MAX;
    for lie in [
        Forged { record_count: all, item_count: all, ..honest() },
        Forged { record_count: 129, item_count: 129, ..honest() },
        Forged { record_count: 2, item_count: 2, ..honest() },
        Forged { record_count: 0, item_count: 0, ..honest() },
        Forged { record_count: 2, ..honest() },
        Forged { items_per_record: 0, ..honest() },
        Forged { index_bytes: Some(all), ..honest() },
        Forged { index_bytes: Some(3), ..honest() },
        Forged { index_bytes: Some(14), ..honest() },
        Forged { app_data_bytes: all, ..honest() },
        Forged { app_data_bytes: 1, ..honest() },
    ] {
        let e = lie.open().err().unwrap();
        assert!(e.is_corrupt(), "{e:?}");
    }
}

#[test]
fn item_sizes_are_checked_before_they_are_used() {
    for at in 0..10 {
        let mut record = [b"item".to_vec(), equal_sizes(4, 1)].concat();
        record[4 + at] ^= 2;
        let reader = Forged::honest(record, 2).open().unwrap().with_codec(codec(0));
        let e = reader.read_item(0).unwrap_err();
        assert!(matches!(e, Error::Checksum { place: Place::Record(0), .. }), "{at}: {e:?}");
    }
}

#[test]
fn a_record_that_lies_is_refused_before_anything_is_allocated() {
    // Four gibibytes of content in a frame of one empty block.
    let mut frame = vec![0x28, 0xB5, 0x2F, 0xFD, 0xE4];
    frame.extend((u64::from(u32::MAX) * 2).to_le_bytes());
    frame.extend([1, 0, 0, 0, 0, 0, 0]);
    let lies = [
        // One item per record: the frame's word alone.
        Forged::honest(frame.clone(), 1),
        // Two items of the largest size, and a frame that agrees; then one that is empty.
        Forged { item_count: 2, ..Forged::honest([frame, equal_sizes(u32::MAX, 2)].concat(), 2) },
        Forged { item_count: 2, ..Forged::honest(equal_sizes(u32::MAX, 2), 2) },
        // More items than there are bits for.
        Forged { item_count: u32::MAX, ..Forged::honest(equal_sizes(0, 8), u32::MAX) },
        Forged::honest(b"short".to_vec(), 2),
    ];
    for lie in lies {
        let reader = lie.open().unwrap();
        for error in [reader.read_item(0).err(), reader.verify().err()] {
            assert!(error.unwrap().is_corrupt());
        }
    }
}
