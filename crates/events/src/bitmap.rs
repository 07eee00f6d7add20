//! The ids of the events of one term: gathered in ascending order, written as the portable roaring serialization.
//!
//! ```text
//! in memory    sealed container │ sealed container │ … │ open container           one allocation per term
//!              key u16, cardinality-1 u16, runs? u8,     up to 2055 runs of (start u16, length-1 u16),
//!              then the container as in the file         from then on 8192 bytes of bits
//!
//! in a file    (without runs)  u32 12346 │ u32 n                         integers are little-endian
//!              (with runs)     u32 12347 | (n-1) << 16 │ ceil(n/8) bytes: bit i = container i has runs
//!              n x (u16 key, u16 cardinality-1)
//!              n x u32 offset of the container from the start           unless there are runs and n < 4
//!              containers      runs:  u16 count, count x (u16 start, u16 length-1)
//!                              array: cardinality x u16
//!                              bits:  8192 bytes, least significant bit first
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
const MAX_ARRAY: u32 = 4096;
const BITS_BYTES: usize = 8192;
/// A container with more runs is never written as runs: 2 + 4 * 2056 is not below 8224.
const MAX_RUNS: u32 = 2055;
const RUN_BYTES: usize = 4;
const SEALED_HEADER_BYTES: usize = 5;

const _: () = assert!(2 + 4 * MAX_RUNS < 8224 && 2 + 4 * (MAX_RUNS + 1) >= 8224);

/// Event ids of one term, never empty, in about the memory that they will take in a file.
#[derive(Clone, Debug)]
pub struct TermIds {
    bytes: Vec<u8>,
    /// Where the open container begins in `bytes`; all containers of 2^16 keys fit well below 2^32 bytes.
    open_at: u32,
    last: u32,
    cardinality: u32,
    runs: u32,
}

/// One container in the form it has in a file.
struct Container<'a> {
    key: u16,
    cardinality_less_one: u16,
    is_runs: bool,
    body: &'a [u8],
}

impl TermIds {
    /// The set of one id.
    pub fn new(id: u32) -> Self {
        let mut ids = TermIds { bytes: Vec::new(), open_at: 0, last: id, cardinality: 0, runs: 0 };
        ids.start_run(id as u16);
        ids
    }

    /// The highest id.
    pub fn last(&self) -> u32 {
        self.last
    }

    /// Adds an id; the highest one again changes nothing.
    ///
    /// # Errors
    /// [`Error::Descending`] for an id below the highest.
    pub fn push(&mut self, id: u32) -> Result<()> {
        let last = self.last;
        if id <= last {
            return if id == last { Ok(()) } else { Err(Error::Descending { last, id }) };
        }
        if id >> 16 != last >> 16 {
            self.seal();
        }
        self.last = id;
        let follows = id - last == 1 && self.cardinality > 0;
        if self.runs > MAX_RUNS {
            self.cardinality += 1;
            self.runs += u32::from(!follows);
            let open = &mut self.bytes[self.open_at as usize..];
            set_bit(open, id as u16);
        } else if follows {
            self.cardinality += 1;
            let end = self.bytes.len();
            let length = &mut self.bytes[end - 2..];
            length.copy_from_slice(&(u16_at(length, 0) + 1).to_le_bytes());
        } else {
            self.start_run(id as u16);
        }
        Ok(())
    }

    fn start_run(&mut self, start: u16) {
        self.reserve(RUN_BYTES);
        self.bytes.extend_from_slice(&start.to_le_bytes());
        self.bytes.extend_from_slice(&[0, 0]);
        self.cardinality += 1;
        self.runs += 1;
        if self.runs > MAX_RUNS {
            let bits = bits_of(&self.bytes[self.open_at as usize..]);
            self.bytes.truncate(self.open_at as usize);
            self.bytes.extend_from_slice(&bits);
        }
    }

    /// Puts the open container into its final form and begins an empty one.
    fn seal(&mut self) {
        let open = self.bytes.split_off(self.open_at as usize);
        self.reserve(SEALED_HEADER_BYTES + open.len().min(BITS_BYTES));
        encode_container(&open, self.last, self.cardinality, self.runs, &mut self.bytes);
        self.open_at = self.bytes.len() as u32;
        self.cardinality = 0;
        self.runs = 0;
    }

    /// Room for more. A long allocation grows by an eighth only, so that it stays near what it holds.
    fn reserve(&mut self, more: usize) {
        if self.bytes.capacity() - self.bytes.len() < more {
            let step = if self.bytes.len() < 256 { 2 } else { 8 };
            self.bytes.reserve_exact(more.max(self.bytes.len() / step));
        }
    }

    /// Appends the portable roaring serialization.
    pub fn serialize(&self, out: &mut Vec<u8>) {
        let (sealed, open) = self.bytes.split_at(self.open_at as usize);
        let mut last = Vec::with_capacity(SEALED_HEADER_BYTES + open.len());
        encode_container(open, self.last, self.cardinality, self.runs, &mut last);
        let containers: Vec<_> = containers(sealed).chain(containers(&last)).collect();
        write_file(&containers, out);
    }

    /// The same set as a bitmap to reckon with.
    pub fn to_bitmap(&self) -> Result<RoaringBitmap> {
        let mut bytes = Vec::new();
        self.serialize(&mut bytes);
        decode_bitmap(&bytes)
    }

    /// The bytes of heap memory held.
    pub fn heap_bytes(&self) -> usize {
        self.bytes.capacity()
    }
}

/// Appends what [`TermIds::serialize`] gives for one id.
pub(crate) fn serialize_one(id: u32, out: &mut Vec<u8>) {
    let body = &(id as u16).to_le_bytes();
    write_file(&[Container { key: (id >> 16) as u16, cardinality_less_one: 0, is_runs: false, body }], out);
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

/// Appends a container's sealed form. `open` has `runs` pairs, or bits where there are more than fit as pairs.
fn encode_container(open: &[u8], last: u32, cardinality: u32, runs: u32, out: &mut Vec<u8>) {
    let is_runs = 2 + 4 * runs < (2 * cardinality).min(8224);
    out.extend_from_slice(&((last >> 16) as u16).to_le_bytes());
    out.extend_from_slice(&((cardinality - 1) as u16).to_le_bytes());
    out.push(u8::from(is_runs));
    if is_runs {
        out.extend_from_slice(&(runs as u16).to_le_bytes());
        out.extend_from_slice(open);
    } else if runs <= MAX_RUNS && cardinality <= MAX_ARRAY {
        let values = run_pairs(open).flat_map(|(start, end)| start..=end);
        values.for_each(|value| out.extend_from_slice(&value.to_le_bytes()));
    } else if runs <= MAX_RUNS {
        out.extend_from_slice(&bits_of(open));
    } else if cardinality <= MAX_ARRAY {
        set_bits(open).for_each(|value| out.extend_from_slice(&value.to_le_bytes()));
    } else {
        out.extend_from_slice(open);
    }
}

fn run_pairs(pairs: &[u8]) -> impl Iterator<Item = (u16, u16)> + '_ {
    pairs.chunks_exact(RUN_BYTES).map(|pair| {
        let start = u16_at(pair, 0);
        (start, start + u16_at(pair, 2))
    })
}

fn bits_of(pairs: &[u8]) -> Vec<u8> {
    let mut bits = vec![0; BITS_BYTES];
    run_pairs(pairs).flat_map(|(start, end)| start..=end).for_each(|value| set_bit(&mut bits, value));
    bits
}

fn set_bit(bits: &mut [u8], value: u16) {
    bits[usize::from(value >> 3)] |= 1 << (value & 7);
}

fn set_bits(bits: &[u8]) -> impl Iterator<Item = u16> + '_ {
    (0..=u16::MAX).filter(|value| bits[usize::from(value >> 3)] & (1 << (value & 7)) != 0)
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

/// Walks sealed containers.
fn containers(mut sealed: &[u8]) -> impl Iterator<Item = Container<'_>> {
    std::iter::from_fn(move || {
        let (header, rest) = sealed.split_at_checked(SEALED_HEADER_BYTES)?;
        let (cardinality_less_one, is_runs) = (u16_at(header, 2), header[4] != 0);
        let len = match u32::from(cardinality_less_one) + 1 {
            _ if is_runs => 2 + RUN_BYTES * usize::from(u16_at(rest, 0)),
            cardinality if cardinality <= MAX_ARRAY => 2 * cardinality as usize,
            _ => BITS_BYTES,
        };
        let (body, rest) = rest.split_at(len);
        sealed = rest;
        Some(Container { key: u16_at(header, 0), cardinality_less_one, is_runs, body })
    })
}

fn write_file(containers: &[Container<'_>], out: &mut Vec<u8>) {
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
            at += container.body.len() as u32;
        }
    }
    containers.iter().for_each(|container| out.extend_from_slice(container.body));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn gather(ids: &[u32]) -> TermIds {
        let mut gathered = TermIds::new(ids[0]);
        ids[1..].iter().for_each(|&id| gathered.push(id).unwrap());
        gathered
    }

    fn serialized(ids: &[u32]) -> Vec<u8> {
        let mut bytes = Vec::new();
        gather(ids).serialize(&mut bytes);
        bytes
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
    fn one_id_needs_no_gathering() {
        for id in [0, 1, 65_535, 65_536, u32::MAX] {
            let mut bytes = Vec::new();
            serialize_one(id, &mut bytes);
            assert_eq!(bytes, serialized(&[id]));
        }
    }

    #[test]
    fn ids_ascend() {
        let mut ids = TermIds::new(5);
        ids.push(5).unwrap();
        assert!(matches!(ids.push(4), Err(Error::Descending { last: 5, id: 4 })));
        ids.push(7).unwrap();
        assert_eq!(ids.last(), 7);
        assert!(ids.to_bitmap().unwrap().iter().eq([5, 7]));
    }

    #[test]
    fn memory_stays_near_the_file() {
        let dense: Vec<u32> = (0..3_000_000).filter(|id| id % 7 < 3).collect();
        let sparse: Vec<u32> = (0..3_000_000).step_by(50).collect();
        let runs: Vec<u32> = (0..3_000_000).filter(|id| id % 1000 < 900).collect();
        for ids in [dense, sparse, runs] {
            let (held, written) = (gather(&ids).heap_bytes(), serialized(&ids).len());
            assert!(held <= written + written / 4 + 2 * BITS_BYTES, "{held} bytes for {written}");
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
