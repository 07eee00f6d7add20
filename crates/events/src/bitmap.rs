//! The ids of the events of one term, written as the portable roaring serialization and read back.
//!
//! ```text
//! (without runs)  u32 12346 │ u32 n                         integers are little-endian
//! (with runs)     u32 12347 | (n-1) << 16 │ ceil(n/8) bytes: bit i = container i has runs
//! n x (u16 key, u16 cardinality-1)
//! n x u32 offset of the container from the start           unless there are runs and n < 4
//! n containers    runs:  u16 count, count x (u16 start, u16 length-1)
//!                 array: cardinality x u16
//!                 bits:  8192 bytes, least significant bit first
//! ```
//!
//! A container covers the ids that share their upper 16 bits, its key. It has runs when `2 + 4 * runs < min(8224,
//! 2 * cardinality)`, else an array up to 4096 values, else bits: the same set always gives the same bytes.

use roaring::RoaringBitmap;

use crate::{Error, Result};

const COOKIE_PLAIN: u32 = 12346;
const COOKIE_RUNS: u32 = 12347;
/// From this many containers on there are offsets even beside runs.
const OFFSETS_FROM: usize = 4;
const MAX_ARRAY: usize = 4096;
const BITS_WORDS: usize = 4096;

/// Writes sets of ids, one after the other. Holds as much memory as the largest of them took.
#[derive(Debug, Default)]
pub(crate) struct Encoder {
    sealed: Vec<Container>,
    /// The sealed containers' bodies as they are written, all of which are whole words; then the open one's values.
    words: Vec<u16>,
    open_at: usize,
    key: u16,
}

#[derive(Debug)]
struct Container {
    key: u16,
    cardinality_less_one: u16,
    is_runs: bool,
    len_words: u32,
}

impl Encoder {
    /// Adds an id to the set, which must be higher than all in it.
    #[inline]
    pub(crate) fn push(&mut self, id: u32) {
        let key = (id >> 16) as u16;
        if key != self.key {
            self.seal();
            self.key = key;
        }
        self.words.push(id as u16);
    }

    /// Puts the open container, if there is one, into its final form.
    fn seal(&mut self) {
        let values = &self.words[self.open_at..];
        let Some(less_one) = values.len().checked_sub(1) else { return };
        let runs = 1 + values.windows(2).filter(|pair| pair[1] - pair[0] != 1).count();
        let is_runs = 2 + 4 * runs < (2 * values.len()).min(8224);
        if is_runs {
            let body = runs_of(values, runs);
            self.words.splice(self.open_at.., body);
        } else if values.len() > MAX_ARRAY {
            let body = bits_of(values);
            self.words.splice(self.open_at.., body);
        }
        self.sealed.push(Container {
            key: self.key,
            cardinality_less_one: less_one as u16,
            is_runs,
            len_words: (self.words.len() - self.open_at) as u32,
        });
        self.open_at = self.words.len();
    }

    /// Appends the portable roaring serialization of the set, which has at least one id, and begins an empty one.
    pub(crate) fn finish(&mut self, out: &mut Vec<u8>) {
        self.seal();
        write_header(&self.sealed, out);
        let begin = out.len();
        out.resize(begin + 2 * self.words.len(), 0);
        let (bytes, _) = out[begin..].as_chunks_mut();
        bytes.iter_mut().zip(&self.words).for_each(|(bytes, word)| *bytes = word.to_le_bytes());
        self.sealed.clear();
        self.words.clear();
        self.open_at = 0;
    }
}

fn runs_of(values: &[u16], count: usize) -> Vec<u16> {
    let mut body = Vec::with_capacity(1 + 2 * count);
    body.push(count as u16);
    for run in values.chunk_by(|a, b| b - a == 1) {
        body.extend([run[0], (run.len() - 1) as u16]);
    }
    body
}

fn bits_of(values: &[u16]) -> Vec<u16> {
    let mut body = vec![0; BITS_WORDS];
    values.iter().for_each(|value| body[usize::from(value >> 4)] |= 1 << (value & 15));
    body
}

/// Appends all that comes before the containers' bodies.
fn write_header(containers: &[Container], out: &mut Vec<u8>) {
    let n = containers.len();
    let with_runs = containers.iter().any(|container| container.is_runs);
    let begin = out.len();
    if with_runs {
        out.extend_from_slice(&(COOKIE_RUNS | ((n - 1) as u32) << 16).to_le_bytes());
        out.extend(containers.chunks(8).map(|eight| {
            let flags = eight.iter().enumerate().map(|(i, container)| u8::from(container.is_runs) << i);
            flags.fold(0, |byte, flag| byte | flag)
        }));
    } else {
        out.extend_from_slice(&COOKIE_PLAIN.to_le_bytes());
        out.extend_from_slice(&(n as u32).to_le_bytes());
    }
    for container in containers {
        out.extend_from_slice(&container.key.to_le_bytes());
        out.extend_from_slice(&container.cardinality_less_one.to_le_bytes());
    }
    if !with_runs || n >= OFFSETS_FROM {
        let mut at = (out.len() - begin + 4 * n) as u32;
        for container in containers {
            out.extend_from_slice(&at.to_le_bytes());
            at += 2 * container.len_words;
        }
    }
}

/// Reads a portable roaring serialization of at least one id.
///
/// # Errors
/// [`Error::BadBitmap`] for bytes that are not exactly one such bitmap.
pub fn decode_bitmap(bytes: &[u8]) -> Result<RoaringBitmap> {
    let bad = |what: String| Error::BadBitmap { len_bytes: bytes.len(), what };
    let header = header_bytes(bytes).ok_or_else(|| bad("it has no bitmap's header".into()))?;
    // Checked before the decoder reserves memory for as many containers as the header promises.
    if header > bytes.len() as u64 {
        return Err(bad("it ends within its header".into()));
    }
    let mut rest = bytes;
    let bitmap = RoaringBitmap::deserialize_from(&mut rest).map_err(|e| bad(e.to_string()))?;
    if !rest.is_empty() {
        return Err(bad(format!("{} bytes follow its last container", rest.len())));
    }
    if bitmap.is_empty() {
        return Err(bad("it is empty".into()));
    }
    Ok(bitmap)
}

/// The bytes that a serialization must have before its first container.
fn header_bytes(bytes: &[u8]) -> Option<u64> {
    let cookie = u32::from_le_bytes(*bytes.first_chunk()?);
    if cookie == COOKIE_PLAIN {
        let n = u32::from_le_bytes(*bytes.get(4..)?.first_chunk()?);
        return Some(8 + 8 * u64::from(n));
    }
    let n = u64::from(cookie >> 16) + 1;
    let offsets = if n >= OFFSETS_FROM as u64 { 4 * n } else { 0 };
    (cookie & 0xFFFF == COOKIE_RUNS).then(|| 4 + n.div_ceil(8) + 4 * n + offsets)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn encode(encoder: &mut Encoder, ids: &[u32]) -> Vec<u8> {
        let mut bytes = Vec::new();
        ids.iter().for_each(|&id| encoder.push(id));
        encoder.finish(&mut bytes);
        bytes
    }

    fn serialized(ids: &[u32]) -> Vec<u8> {
        encode(&mut Encoder::default(), ids)
    }

    fn u16_at(bytes: &[u8], at: usize) -> u16 {
        u16::from_le_bytes([bytes[at], bytes[at + 1]])
    }

    /// The form of every container by the rule, found by counting.
    fn forms(ids: &[u32]) -> Vec<(u16, u32, char, usize)> {
        let chunks = ids.chunk_by(|a, b| a >> 16 == b >> 16);
        chunks
            .map(|chunk| {
                let runs = chunk.chunk_by(|a, b| a + 1 == *b).count();
                let cardinality = chunk.len();
                let (form, len) = if 2 + 4 * runs < (2 * cardinality).min(8224) {
                    ('r', 2 + 4 * runs)
                } else if cardinality <= 4096 {
                    ('a', 2 * cardinality)
                } else {
                    ('b', 8192)
                };
                ((chunk[0] >> 16) as u16, cardinality as u32, form, len)
            })
            .collect()
    }

    fn check(ids: &[u32]) {
        let bytes = serialized(ids);
        let bitmap = decode_bitmap(&bytes).unwrap();
        assert!(bitmap.iter().eq(ids.iter().copied()));
        let forms = forms(ids);
        let with_runs = forms.iter().any(|form| form.2 == 'r');
        let n = forms.len();
        let mut at = if with_runs { 4 + n.div_ceil(8) } else { 8 };
        for (i, form) in forms.iter().enumerate() {
            assert_eq!(
                (u16_at(&bytes, at + 4 * i), u32::from(u16_at(&bytes, at + 4 * i + 2)) + 1),
                (form.0, form.1)
            );
            if with_runs {
                assert_eq!(bytes[4 + i / 8] >> (i % 8) & 1, u8::from(form.2 == 'r'), "container {i}");
            }
        }
        at += 4 * n;
        let offsets = if !with_runs || n >= 4 { 4 * n } else { 0 };
        let mut body = at + offsets;
        for (i, form) in forms.iter().enumerate() {
            if offsets > 0 {
                let offset = bytes[at + 4 * i..].first_chunk().copied().unwrap();
                assert_eq!(u32::from_le_bytes(offset) as usize, body);
            }
            body += form.3;
        }
        assert_eq!(body, bytes.len());
    }

    #[derive(Clone, Debug)]
    enum Part {
        Run(u32),
        Skip(u32),
        Every(u32, u32),
    }

    fn sets() -> impl Strategy<Value = Vec<u32>> {
        let part = prop_oneof![
            (1u32..6000).prop_map(Part::Run),
            (1u32..300).prop_map(Part::Skip),
            (60_000u32..140_000).prop_map(Part::Skip),
            (2u32..40, 1u32..5000).prop_map(|(step, times)| Part::Every(step, times)),
        ];
        (any::<u16>(), prop::collection::vec(part, 1..12)).prop_map(|(start, parts)| {
            let (mut at, mut ids) = (u32::from(start), vec![u32::from(start)]);
            for part in parts {
                match part {
                    Part::Run(length) => ids.extend((0..length).map(|i| at + 1 + i)),
                    Part::Skip(length) => ids.push(at + length),
                    Part::Every(step, times) => ids.extend((1..=times).map(|i| at + i * step)),
                }
                at = *ids.last().unwrap();
            }
            ids
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn any_set_is_read_back_in_the_form_the_rule_asks_for(ids in sets()) {
            check(&ids);
        }
    }

    #[test]
    fn the_rule_at_its_edges() {
        for runs in [2, 2046, 2047, 2048, 2049, 2054, 2055, 2056, 2057, 4095, 4096, 4097] {
            for extra in [0, 1, 2, 3, 4, 5, 6, 9, 4096, 8000] {
                // `runs` runs of two or more, then of one, with `extra` values beyond one a run.
                let mut ids = Vec::new();
                let mut at = 0;
                for run in 0..runs {
                    let length = 1 + extra / runs + u32::from(run < extra % runs);
                    ids.extend(at..at + length);
                    at += length + 1;
                }
                check(&ids);
            }
        }
        check(&[0]);
        check(&[u32::MAX]);
        check(&[u32::MAX - 1, u32::MAX]);
        check(&[0xFFFF, 0x1_0000]);
        check(&(0..0x1_0000).collect::<Vec<_>>());
        check(&(0x1_0000 - 5..0x6_0000).collect::<Vec<_>>());
        check(&(0..0x1_0000).step_by(2).collect::<Vec<_>>());
    }

    #[test]
    fn nothing_of_a_set_is_left_in_the_next() {
        let mut encoder = Encoder::default();
        let sets: [&[u32]; 4] = [&[7, 8, 9, 10, 70_000], &[70_001], &[3], &[0x50_0000, 0x60_0000]];
        for ids in sets {
            assert_eq!(encode(&mut encoder, ids), serialized(ids));
        }
    }

    #[test]
    fn hostile_headers_are_refused_before_memory_is_taken() {
        let refuse =
            |bytes: &[u8]| assert!(matches!(decode_bitmap(bytes), Err(Error::BadBitmap { .. })), "{bytes:?}");
        refuse(&[]);
        refuse(&[0; 3]);
        refuse(&[0; 40]);
        refuse(&[COOKIE_PLAIN.to_le_bytes(), [0; 4]].concat());
        for n in [1, 65_536, 65_537, u32::MAX] {
            for promise in [
                [COOKIE_PLAIN.to_le_bytes(), n.to_le_bytes()].concat(),
                (COOKIE_RUNS | n << 16).to_le_bytes().to_vec(),
            ] {
                let refused = decode_bitmap(&promise);
                assert!(
                    matches!(refused, Err(Error::BadBitmap { what, .. }) if what == "it ends within its header")
                );
            }
        }
        let good =
            serialized(&(0..10_000).chain(70_000..70_010).chain([200_000, 300_000]).collect::<Vec<_>>());
        for cut in 0..good.len() {
            refuse(&good[..cut]);
        }
        refuse(&[good, vec![0]].concat());
        // An array that does not ascend.
        let mut array = serialized(&[3, 9]);
        let end = array.len();
        array.swap(end - 2, end - 4);
        refuse(&array);
    }
}
