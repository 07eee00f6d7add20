use std::{io::Read, sync::Arc};

use zstd::{
    bulk::{Compressor, Decompressor},
    zstd_safe::{self, CParameter},
};

use crate::{error::BoxError, pool::Pool};

/// How the items of a record become bytes in the file. A file does not say which codec it was written with: give its
/// readers the same one, or let them choose by the file's format number.
#[derive(Clone, Default)]
pub enum Codec {
    /// Verbatim: for items that are compressed already, or too small to gain.
    None,
    /// One Zstandard frame per record, level 3, with a checksum.
    #[default]
    Zstd,
    /// The caller's own.
    Custom(Arc<dyn RecordCodec>),
}

impl std::fmt::Debug for Codec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Codec::None => "None",
            Codec::Zstd => "Zstd",
            Codec::Custom(_) => "Custom",
        })
    }
}

impl Codec {
    /// The codec to call, where there is one.
    pub(crate) fn start(&self) -> Option<Arc<dyn RecordCodec>> {
        match self {
            Codec::None => None,
            Codec::Zstd => Some(Arc::new(Zstd::default())),
            Codec::Custom(codec) => Some(Arc::clone(codec)),
        }
    }
}

/// Encodes and decodes whole records, from many threads at once. The encoding must be a function of the payload
/// alone, or files would differ from run to run.
pub trait RecordCodec: Send + Sync {
    /// Appends the encoding of `payload` to `out` and leaves what is there before it alone.
    ///
    /// # Errors
    /// Any reason; the writer reports it as [`Error::Encode`](crate::Error::Encode).
    fn encode(&self, payload: &[u8], out: &mut Vec<u8>) -> Result<(), BoxError>;

    /// Appends the payload of `encoded` to `out`, which is empty.
    ///
    /// The bytes may be hostile: whatever size they claim, fail rather than decode more than `max_bytes`, and
    /// allocate in proportion to what is there, not to what is claimed.
    ///
    /// # Errors
    /// Any reason; the reader reports it as [`Error::Decode`](crate::Error::Decode).
    fn decode(&self, encoded: &[u8], max_bytes: u64, out: &mut Vec<u8>) -> Result<(), BoxError>;
}

const LEVEL: i32 = 3;
/// Up to this size, or this many times the frame's, a claimed size is allocated at once; beyond, as much as is decoded.
const PLAIN_BYTES: u64 = 4 << 20;
const PLAIN_RATIO: u64 = 64;
/// Level 3 needs 21; more than this many bits of window is not from any writer of ours.
const MAX_WINDOW_LOG: u32 = 24;

/// The Zstandard codec. Its contexts are costly to make, so they are pooled.
#[derive(Default)]
struct Zstd {
    compressors: Pool<Compressor<'static>>,
    decompressors: Pool<Decompressor<'static>>,
}

fn new_compressor() -> std::io::Result<Compressor<'static>> {
    let mut compressor = Compressor::new(LEVEL)?;
    compressor.set_parameter(CParameter::ChecksumFlag(true))?;
    compressor.set_parameter(CParameter::ContentSizeFlag(true))?;
    Ok(compressor)
}

impl RecordCodec for Zstd {
    fn encode(&self, payload: &[u8], out: &mut Vec<u8>) -> Result<(), BoxError> {
        if payload.is_empty() {
            return Ok(());
        }
        let mut compressor = self.compressors.take().map_or_else(new_compressor, Ok)?;
        let at = out.len();
        out.try_reserve(zstd_safe::compress_bound(payload.len()))?;
        let mut end = std::io::Cursor::new(out);
        end.set_position(at as u64);
        compressor.compress_to_buffer(payload, &mut end)?;
        self.compressors.put(compressor);
        Ok(())
    }

    fn decode(&self, encoded: &[u8], max_bytes: u64, out: &mut Vec<u8>) -> Result<(), BoxError> {
        if encoded.is_empty() {
            return Ok(());
        }
        let size = match zstd_safe::get_frame_content_size(encoded) {
            Ok(Some(0)) => return Err("an empty frame, where nothing belongs".into()),
            Ok(Some(size)) => size,
            _ => return Err("not a Zstandard frame that tells its content size".into()),
        };
        if size > max_bytes {
            return Err("the frame's content size is more than it may be".into());
        }
        if zstd_safe::find_frame_compressed_size(encoded) != Ok(encoded.len()) {
            return Err("not one whole Zstandard frame".into());
        }
        if size <= PLAIN_BYTES.max(encoded.len() as u64 * PLAIN_RATIO) {
            let mut decompressor = self.decompressors.take().map_or_else(Decompressor::new, Ok)?;
            out.try_reserve_exact(usize::try_from(size)?)?;
            decompressor.decompress_to_buffer(encoded, out)?;
            self.decompressors.put(decompressor);
        } else {
            let mut decoder = zstd::Decoder::with_buffer(encoded)?;
            decoder.window_log_max(MAX_WINDOW_LOG)?;
            decoder.take(size + 1).read_to_end(out)?;
        }
        if out.len() as u64 != size {
            return Err("the frame's content size is wrong".into());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(payload: &[u8]) -> Vec<u8> {
        let mut out = b"before".to_vec();
        Zstd::default().encode(payload, &mut out).unwrap();
        assert!(out.starts_with(b"before"));
        out.split_off(6)
    }

    fn decoded(frame: &[u8], max_bytes: u64) -> Result<Vec<u8>, BoxError> {
        let mut out = Vec::new();
        Zstd::default().decode(frame, max_bytes, &mut out).map(|()| out)
    }

    #[test]
    fn plain_and_streamed_payloads_come_back() {
        assert!(encoded(b"").is_empty());
        for len in [0, 1, 1000, PLAIN_BYTES as usize, PLAIN_BYTES as usize + 1, 3 * PLAIN_BYTES as usize] {
            let payload = vec![7; len];
            assert_eq!(decoded(&encoded(&payload), len as u64).unwrap(), payload);
            if len > 0 {
                assert!(decoded(&encoded(&payload), len as u64 - 1).is_err());
            }
        }
    }

    #[test]
    fn claims_are_not_believed() {
        // A single-segment frame of four gibibytes less one, with an eight-byte content size, in a few bytes.
        let mut bomb = vec![0x28, 0xB5, 0x2F, 0xFD, 0b1110_0000];
        bomb.extend(u64::from(u32::MAX).to_le_bytes());
        bomb.extend([0x03, 0, 0x10, 0]);
        let mut out = Vec::new();
        assert!(Zstd::default().decode(&bomb, u64::MAX, &mut out).is_err());
        assert!(out.capacity() as u64 <= PLAIN_BYTES);
    }

    #[test]
    fn only_one_whole_frame_is_a_record() {
        let frame = encoded(b"some bytes");
        let twice = [frame.as_slice(), &frame].concat();
        let skippable = [0x50, 0x2A, 0x4D, 0x18, 1, 0, 0, 0, 9];
        let before = [&skippable, frame.as_slice()].concat();
        let after = [frame.as_slice(), &skippable].concat();
        let empty = [0x28, 0xB5, 0x2F, 0xFD, 0x20, 0, 1, 0, 0];
        for bad in [&twice[..], &before, &after, &frame[..frame.len() - 1], &empty, b"short"] {
            assert!(decoded(bad, 1000).is_err());
        }
    }
}
