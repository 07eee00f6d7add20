//! Framed files: one ledger after the other, each behind its length.
//!
//! ```text
//! file    frame*                          plain, or all of it in zstd: the first bytes tell, not the name
//! frame   u32 BE  0x8000_0000 | length    then `length` bytes: one LedgerCloseMeta
//! ```
//!
//! Sequences ascend by one. Nothing that the file says is believed before it was read: a frame's body is read as far
//! as it goes, never allocated by its length.

use std::{
    fs::File,
    io::{self, BufReader, Cursor, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
};

use icecore_ledger::{Error, LedgerRange, LedgerSeq, LedgerStream, RawLedger, Result, Source};

use super::io_error;
use crate::xdr;

/// Marks a length word: every ledger is sent in one fragment.
pub(super) const LAST_FRAGMENT: u32 = 1 << 31;

/// No sequence number lies deeper in a ledger than this: the header before it has at most some 1100 bytes.
pub(super) const HEAD_BYTES: u32 = 2048;

/// Ledgers longer than this are refused unless told otherwise: 256 MiB.
pub const MAX_LEDGER_BYTES: u32 = 256 << 20;

/// A file of framed ledgers, plain or zstd.
///
/// The first call of [`range`](Source::range) reads through the file once: a plain one from header to header, a zstd
/// one whole. A file with a gap has no range, but the parts before and after the gap can be streamed.
///
/// ```
/// use icecore_ledger::{LedgerRange, LedgerSeq, Source};
/// use icecore_stellar::source::{FramedFile, Generator, Packing, write_framed};
///
/// let ledgers = LedgerRange::new(LedgerSeq(2), LedgerSeq(9))?;
/// let mut bytes = Vec::new();
/// write_framed(&"gen:ledgers=8,txs=1".parse::<Generator>()?, ledgers, &mut bytes, Packing::Plain)?;
///
/// let file = FramedFile::from_bytes("eight ledgers", bytes);
/// assert_eq!(file.range()?, ledgers);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct FramedFile {
    place: String,
    input: Input,
    packed: bool,
    max_ledger_bytes: u32,
    scan: OnceLock<Scan>,
}

#[derive(Clone, Debug)]
enum Input {
    Path(PathBuf),
    Bytes(Arc<[u8]>),
}

impl Input {
    fn open(&self) -> io::Result<Box<dyn ReadSeek>> {
        Ok(match self {
            Input::Path(path) => Box::new(File::open(path)?),
            Input::Bytes(bytes) => Box::new(Cursor::new(bytes.clone())),
        })
    }
}

trait ReadSeek: Read + Seek + Send {}
impl<T: Read + Seek + Send> ReadSeek for T {}

/// What one pass over the file found.
#[derive(Debug, Default)]
struct Scan {
    /// From the first to the last ledger that is whole, gaps or not.
    has: Option<LedgerRange>,
    /// The first thing wrong. After a gap the pass goes on, after anything else it cannot.
    defect: Option<Error>,
    /// For a plain file: every ledger's sequence, and where its frame begins.
    seqs: Vec<LedgerSeq>,
    starts_at: Vec<u64>,
}

impl FramedFile {
    /// The file at `path`.
    ///
    /// # Errors
    /// [`Error::Io`] when it cannot be opened or read.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let place = path.display().to_string();
        let mut magic = Vec::new();
        let read = File::open(path).and_then(|file| file.take(4).read_to_end(&mut magic));
        read.map_err(|error| io_error(&place, error))?;
        Ok(Self::new(place, Input::Path(path.to_owned()), &magic))
    }

    /// The same from memory; `place` names it in messages.
    pub fn from_bytes(place: impl Into<String>, bytes: impl Into<Arc<[u8]>>) -> Self {
        let bytes = bytes.into();
        Self::new(place.into(), Input::Bytes(bytes.clone()), &bytes)
    }

    fn new(place: String, input: Input, bytes: &[u8]) -> Self {
        let packed = is_zstd(bytes);
        FramedFile { place, input, packed, max_ledger_bytes: MAX_LEDGER_BYTES, scan: OnceLock::new() }
    }

    /// Refuses ledgers longer than this many bytes, in place of [`MAX_LEDGER_BYTES`].
    pub fn max_ledger_bytes(mut self, bytes: u32) -> Self {
        self.max_ledger_bytes = bytes;
        self
    }

    fn frames(&self, from: u64) -> Result<Frames<'_>> {
        let open = || -> io::Result<Unpacked> {
            let mut file = self.input.open()?;
            if self.packed {
                return Ok(Unpacked::Zstd(zstd::Decoder::new(file)?));
            }
            let end = file.seek(SeekFrom::End(0))?;
            file.seek(SeekFrom::Start(from))?;
            Ok(Unpacked::Plain { file: BufReader::new(file), end })
        };
        let input = open().map_err(|error| io_error(&self.place, error))?;
        Ok(Frames { file: self, input, at: from, start: from, left: 0 })
    }

    fn scan(&self) -> Result<&Scan> {
        if let Some(scan) = self.scan.get() {
            return Ok(scan);
        }
        // What failed to be read may be there the next time, so that is not remembered.
        let scan = self.read_through()?;
        Ok(self.scan.get_or_init(|| scan))
    }

    fn read_through(&self) -> Result<Scan> {
        let mut frames = self.frames(0)?;
        let mut scan = Scan::default();
        let mut head = Vec::new();
        let defect = loop {
            let seq = match frames.next(&mut head).and_then(|seq| frames.skip().map(|()| seq)) {
                Ok(Some(seq)) => seq,
                Ok(None) => break None,
                Err(error) if error.is_retryable() => return Err(error),
                Err(error) => break Some(error),
            };
            match scan.has.map(|has| self.order(has.last, seq)) {
                Some(Err(repeat @ Error::Repeat { .. })) => break Some(repeat),
                Some(Err(gap)) => drop(scan.defect.get_or_insert(gap)),
                _ => {}
            }
            scan.has = Some(LedgerRange { first: scan.has.map_or(seq, |has| has.first), last: seq });
            if !self.packed {
                scan.seqs.push(seq);
                scan.starts_at.push(frames.start);
            }
        };
        scan.defect = scan.defect.or(defect);
        Ok(scan)
    }

    /// That `found` comes right after `last`.
    fn order(&self, last: LedgerSeq, found: LedgerSeq) -> Result<()> {
        let (place, expected) = (self.place.clone(), LedgerSeq(last.0.saturating_add(1)));
        match found {
            _ if found <= last => Err(Error::Repeat { place, expected, found }),
            _ if found != expected => Err(Error::Gap { place, expected, found }),
            _ => Ok(()),
        }
    }

    /// Why a range cannot be had, as far as a scan tells.
    fn refuse(&self, scan: &Scan, wanted: LedgerRange) -> Result<()> {
        let Some(has) = scan.has else {
            let place = self.place.clone();
            return Err(scan.defect.clone().unwrap_or(Error::Empty { place }));
        };
        if has.contains(wanted.first) && has.contains(wanted.last) {
            return Ok(());
        }
        match &scan.defect {
            Some(defect) if !matches!(defect, Error::Gap { .. }) => Err(defect.clone()),
            _ => Err(Error::OutOfRange { place: self.place.clone(), has, wanted }),
        }
    }
}

impl Source for FramedFile {
    fn describe(&self) -> String {
        self.place.clone()
    }

    fn range(&self) -> Result<LedgerRange> {
        let scan = self.scan()?;
        match &scan.defect {
            Some(defect) => Err(defect.clone()),
            None => scan.has.ok_or_else(|| Error::Empty { place: self.place.clone() }),
        }
    }

    fn random_access(&self) -> bool {
        !self.packed
    }

    fn stream(&self, ledgers: LedgerRange) -> Result<Box<dyn LedgerStream + '_>> {
        let mut from = 0;
        // To look a plain file over costs little and gives its table; a zstd one would be unpacked twice.
        if !self.packed || self.scan.get().is_some() {
            let scan = self.scan()?;
            self.refuse(scan, ledgers)?;
            let before = scan.seqs.partition_point(|seq| *seq <= ledgers.first);
            from = before.checked_sub(1).and_then(|i| scan.starts_at.get(i)).copied().unwrap_or(0);
        }
        let frames = self.frames(from)?;
        Ok(Box::new(Stream { frames, ledgers, seen: None, ledger: Vec::new(), over: false }))
    }
}

struct Stream<'a> {
    frames: Frames<'a>,
    ledgers: LedgerRange,
    /// The ledgers passed so far, those before the range included.
    seen: Option<LedgerRange>,
    /// The current ledger; its memory serves the next one too.
    ledger: Vec<u8>,
    over: bool,
}

impl Stream<'_> {
    fn advance(&mut self) -> Result<LedgerSeq> {
        loop {
            let Some(seq) = self.frames.next(&mut self.ledger)? else { return Err(self.ended()) };
            let file = self.frames.file;
            match self.seen {
                Some(seen) if seq <= seen.last || seen.last >= self.ledgers.first => {
                    file.order(seen.last, seq)?
                }
                // The range begins in a gap, or before the file does.
                Some(_) if seq > self.ledgers.first => {
                    let (place, expected) = (file.place.clone(), self.ledgers.first);
                    return Err(Error::Gap { place, expected, found: seq });
                }
                None if seq > self.ledgers.first => {
                    let scan = file.scan()?;
                    file.refuse(scan, self.ledgers)?;
                    let (place, expected) = (file.place.clone(), self.ledgers.first);
                    return Err(Error::Foreign { place, expected, found: seq });
                }
                _ => {}
            }
            self.seen = Some(LedgerRange { first: self.seen.map_or(seq, |seen| seen.first), last: seq });
            if seq >= self.ledgers.first {
                self.frames.read_rest(&mut self.ledger)?;
                return Ok(seq);
            }
            self.frames.skip()?;
        }
    }

    fn ended(&self) -> Error {
        let (place, wanted) = (self.frames.file.place.clone(), self.ledgers);
        self.seen.map_or(Error::Empty { place: place.clone() }, |has| Error::OutOfRange {
            place,
            has,
            wanted,
        })
    }
}

impl LedgerStream for Stream<'_> {
    fn next_ledger(&mut self) -> Result<Option<RawLedger<'_>>> {
        if self.over || self.seen.is_some_and(|seen| seen.last >= self.ledgers.last) {
            return Ok(None);
        }
        // Only a whole ledger undoes this.
        self.over = true;
        let seq = self.advance()?;
        self.over = false;
        Ok(Some(RawLedger { seq, bytes: &self.ledger }))
    }
}

/// The frames of a file, one by one. After [`next`](Frames::next) comes [`skip`](Frames::skip) or
/// [`read_rest`](Frames::read_rest).
struct Frames<'a> {
    file: &'a FramedFile,
    input: Unpacked,
    /// The offset in the unpacked bytes.
    at: u64,
    /// Where the current frame begins.
    start: u64,
    /// How much of the current frame was not read yet.
    left: u32,
}

enum Unpacked {
    Plain { file: BufReader<Box<dyn ReadSeek>>, end: u64 },
    Zstd(zstd::Decoder<'static, BufReader<Box<dyn ReadSeek>>>),
}

impl Read for Unpacked {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Unpacked::Plain { file, .. } => file.read(buf),
            Unpacked::Zstd(file) => file.read(buf),
        }
    }
}

impl Frames<'_> {
    /// Puts the head of the next frame's ledger into `head` and gives its sequence; `None` where the file ends.
    fn next(&mut self, head: &mut Vec<u8>) -> Result<Option<LedgerSeq>> {
        self.start = self.at;
        head.clear();
        self.read(4, head, "a frame's length")?;
        let Ok(word) = <[u8; 4]>::try_from(&head[..]) else {
            return if head.is_empty() { Ok(None) } else { Err(self.truncated("a frame's length")) };
        };
        let length = frame_length(u32::from_be_bytes(word), self.file.max_ledger_bytes);
        let length = length.map_err(|what| self.corrupt(0, what))?;
        head.clear();
        self.left = length;
        self.fill(length.min(HEAD_BYTES), head)?;
        xdr::ledger_seq(head).map(Some).map_err(|error| match error {
            Error::Malformed { what, offset, why } => {
                self.corrupt(4 + offset, format!("not a valid {what}: {why}"))
            }
            other => other,
        })
    }

    /// Appends what [`next`](Frames::next) left of the ledger.
    fn read_rest(&mut self, ledger: &mut Vec<u8>) -> Result<()> {
        self.fill(self.left, ledger)
    }

    /// Goes past what [`next`](Frames::next) left of the ledger.
    fn skip(&mut self) -> Result<()> {
        let wanted = std::mem::take(&mut self.left);
        let skipped = match &mut self.input {
            Unpacked::Plain { file, end } => {
                let skipped = u64::from(wanted).min(end.saturating_sub(self.at));
                file.seek_relative(i64::try_from(skipped).unwrap_or(i64::MAX)).map(|()| skipped)
            }
            Unpacked::Zstd(file) => io::copy(&mut file.take(wanted.into()), &mut io::sink()),
        };
        let skipped = skipped.map_err(|error| self.failed(error, "a ledger"))?;
        self.at += skipped;
        if skipped < u64::from(wanted) { Err(self.truncated("a ledger")) } else { Ok(()) }
    }

    /// Appends exactly `n` bytes of the current ledger.
    fn fill(&mut self, n: u32, to: &mut Vec<u8>) -> Result<()> {
        self.left -= n;
        if self.read(n, to, "a ledger")? < u64::from(n) { Err(self.truncated("a ledger")) } else { Ok(()) }
    }

    /// Appends up to `n` bytes; memory grows with what is there.
    fn read(&mut self, n: u32, to: &mut Vec<u8>, what: &str) -> Result<u64> {
        let read = (&mut self.input).take(n.into()).read_to_end(to);
        let read = read.map_err(|error| self.failed(error, what))? as u64;
        self.at += read;
        Ok(read)
    }

    fn failed(&self, error: io::Error, what: &str) -> Error {
        // The system's errors have a number; the rest is what the unpacking found.
        match &self.input {
            Unpacked::Zstd(_) if error.kind() == io::ErrorKind::UnexpectedEof => self.truncated(what),
            Unpacked::Zstd(_) if error.raw_os_error().is_none() => {
                self.corrupt(self.at - self.start, format!("it cannot be unpacked: {error}"))
            }
            _ => io_error(&self.file.place, error),
        }
    }

    fn truncated(&self, what: &str) -> Error {
        Error::Truncated { place: self.file.place.clone(), offset: self.at, what: what.to_owned() }
    }

    /// Damage at `offset` in the current frame.
    fn corrupt(&self, offset: u64, what: String) -> Error {
        Error::Corrupt { place: self.file.place.clone(), offset: self.start + offset, what }
    }
}

/// The length that a frame begins with, or what is wrong with it.
pub(super) fn frame_length(word: u32, max_ledger_bytes: u32) -> Result<u32, String> {
    let (last_fragment, length) = (word & LAST_FRAGMENT != 0, word & !LAST_FRAGMENT);
    if !last_fragment {
        return Err(format!("{word:#010x} is not a frame's length: the top bit must be set"));
    }
    if length > max_ledger_bytes {
        return Err(format!("a ledger of {length} bytes, where at most {max_ledger_bytes} are allowed"));
    }
    Ok(length)
}

/// True for bytes that begin as zstd does, with a frame or a skippable one.
pub(super) fn is_zstd(bytes: &[u8]) -> bool {
    let magic = bytes.first_chunk().map(|magic| u32::from_le_bytes(*magic));
    magic.is_some_and(|magic| magic == 0xFD2F_B528 || magic & !0xF == 0x184D_2A50)
}
