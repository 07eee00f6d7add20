//! Framed streams from descriptors: pipes, standard input, programs.

use std::{
    io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::fs::FileTypeExt,
    },
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use icecore_ledger::{Error, LedgerSeq, LiveSource, LiveStream, RawLedger, Result};
use rustix::{
    event::PollFlags,
    fs::{Mode, OFlags},
};

use super::{
    child::Child,
    poll::{LOOK_UP, read_now, wait},
};
use crate::{
    source::{
        MAX_LEDGER_BYTES,
        framed::{HEAD_BYTES, frame_length},
        io_error,
    },
    xdr,
};

/// How much is read at a time: what a pipe holds.
const READ_BYTES: usize = 64 << 10;

/// Where a framed stream comes from. Reads from and prints as the text that [`open`](super::open) takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FramedInput {
    /// A named pipe.
    Pipe(PathBuf),
    /// A descriptor that this process was started with: a pipe, a terminal or a file, but no socket.
    Fd(u32),
    /// Standard input.
    Stdin,
    /// A program.
    Exec {
        /// What a shell is given.
        command: String,
        /// The descriptor that the program sends ledgers to: 1, its standard output, or 3 to 9.
        fd: u32,
    },
}

/// A framed stream as a live source.
///
/// It holds one ledger at a time, in memory that grows as the ledger arrives, to less than twice the largest allowed.
/// Stopped in the middle of a ledger and opened again, it goes on in the middle of that ledger, unless it runs a
/// program, which is ended with the stream and started with the next one.
#[derive(Debug)]
pub struct FramedLive {
    input: FramedInput,
    max_ledger_bytes: u32,
    grace: Duration,
    place: Mutex<Place>,
}

/// What is between two streams of a source.
#[derive(Debug)]
enum Place {
    Fresh,
    Kept(Box<Channel>),
    Taken,
    /// Lost for good: nobody can tell where the next ledger begins.
    Broken(Error),
}

impl FramedLive {
    /// The source of an input; a program gets 5 seconds to end when asked.
    pub fn new(input: FramedInput) -> Self {
        let grace = Duration::from_secs(5);
        FramedLive { input, max_ledger_bytes: MAX_LEDGER_BYTES, grace, place: Mutex::new(Place::Fresh) }
    }

    /// Refuses ledgers longer than this many bytes, in place of [`MAX_LEDGER_BYTES`].
    pub fn max_ledger_bytes(mut self, bytes: u32) -> Self {
        self.max_ledger_bytes = bytes;
        self
    }

    /// How long a program may take to end when asked; after that it is killed.
    pub fn grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    fn place(&self) -> MutexGuard<'_, Place> {
        self.place.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn config(&self, what: String) -> Error {
        Error::Config { place: self.describe(), what }
    }

    fn connect(&self) -> Result<Channel> {
        let io = |error| io_error(&self.describe(), error);
        let (data, child) = match &self.input {
            FramedInput::Pipe(path) => (self.open_pipe(path)?, None),
            FramedInput::Fd(n) => (self.open_fd(*n)?, None),
            FramedInput::Stdin => (io::stdin().as_fd().try_clone_to_owned().map_err(io)?, None),
            FramedInput::Exec { command, fd } => {
                let (child, data) = Child::start(command, *fd, self.grace).map_err(io)?;
                (data, Some(child))
            }
        };
        Ok(Channel { data, child, frame: Frame::default(), scratch: vec![0; READ_BYTES] })
    }

    /// Opens a named pipe without waiting for a writer.
    fn open_pipe(&self, path: &Path) -> Result<OwnedFd> {
        let found = std::fs::metadata(path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => self.config("there is no such pipe; mkfifo makes one".to_owned()),
            _ => io_error(&self.describe(), error),
        })?;
        if !found.file_type().is_fifo() {
            return Err(self.config("this is no named pipe".to_owned()));
        }
        open_reading(path).map_err(|error| io_error(&self.describe(), error))
    }

    /// Opens an inherited descriptor anew: to take it as it is, nobody else may own it, which nobody can check.
    fn open_fd(&self, n: u32) -> Result<OwnedFd> {
        open_reading(format!("/dev/fd/{n}").as_ref()).map_err(|error| match error.raw_os_error() {
            Some(code) if code == rustix::io::Errno::NXIO.raw_os_error() => {
                self.config("this is a socket; a pipe, a terminal or a file is expected".to_owned())
            }
            _ if error.kind() == io::ErrorKind::NotFound => {
                self.config(format!("the program was started without a descriptor {n}"))
            }
            _ => io_error(&self.describe(), error),
        })
    }
}

fn open_reading(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, Mode::empty())?)
}

impl LiveSource for FramedLive {
    fn describe(&self) -> String {
        self.input.to_string()
    }

    /// The stream begins where the input is, whatever ledger that is.
    ///
    /// # Errors
    /// [`Error::Config`] when there is no such pipe or descriptor, or a stream is open; [`Error::Io`]; for a descriptor
    /// that gave garbage once, the same [`Error::Corrupt`] again.
    fn open<'a>(
        &'a self,
        _from: LedgerSeq,
        stop: &'a (dyn Fn() -> bool + Sync),
    ) -> Result<Box<dyn LiveStream + 'a>> {
        let mut place = self.place();
        let channel = match std::mem::replace(&mut *place, Place::Taken) {
            Place::Taken => return Err(self.config("a stream of it is open already".to_owned())),
            Place::Broken(error) => {
                *place = Place::Broken(error.clone());
                return Err(error);
            }
            Place::Kept(channel) => channel,
            Place::Fresh => match self.connect() {
                Ok(channel) => Box::new(channel),
                Err(error) => {
                    *place = Place::Fresh;
                    return Err(error);
                }
            },
        };
        Ok(Box::new(Stream { source: self, channel: Some(channel), broken: None, stop }))
    }
}

struct Stream<'a> {
    source: &'a FramedLive,
    /// `None` after an error.
    channel: Option<Box<Channel>>,
    broken: Option<Error>,
    stop: &'a (dyn Fn() -> bool + Sync),
}

impl LiveStream for Stream<'_> {
    fn next_ledger(&mut self) -> Result<Option<RawLedger<'_>>> {
        let Some(mut channel) = self.channel.take() else {
            let how = "it failed before, and must be opened again".to_owned();
            return Err(Error::Ended { place: self.source.describe(), how });
        };
        let seq = match channel.advance(self.source, self.stop) {
            Ok(seq) => seq,
            Err(error) => {
                self.broken = Some(error.clone());
                return Err(error);
            }
        };
        let channel = self.channel.insert(channel);
        Ok(seq.map(|seq| RawLedger { seq, bytes: channel.frame.ledger() }))
    }
}

impl Drop for Stream<'_> {
    fn drop(&mut self) {
        let kept = self.channel.take().filter(|channel| channel.child.is_none());
        let inherited = matches!(self.source.input, FramedInput::Fd(_) | FramedInput::Stdin);
        *self.source.place() = match (kept, self.broken.take()) {
            (Some(channel), _) => Place::Kept(channel),
            // A new writer of a pipe, or a new program, begins with a whole ledger; the same writer does not.
            (None, Some(error)) if inherited && error.is_corrupt() => Place::Broken(error),
            _ => Place::Fresh,
        };
    }
}

/// An open input, and the frame that is arriving.
#[derive(Debug)]
struct Channel {
    data: OwnedFd,
    child: Option<Child>,
    frame: Frame,
    scratch: Vec<u8>,
}

/// What arrived of a frame.
#[derive(Debug, Default)]
struct Frame {
    bytes: Vec<u8>,
    /// The sequence, once enough is there to tell it.
    seq: Option<LedgerSeq>,
    /// True once the ledger was handed out.
    given: bool,
    /// Where the frame begins, counted from the start of the stream.
    start: u64,
}

enum Arrived {
    Bytes,
    End,
    Stopped,
}

impl Channel {
    /// Waits for the next whole ledger; `None` when told to stop.
    fn advance(&mut self, source: &FramedLive, stop: &dyn Fn() -> bool) -> Result<Option<LedgerSeq>> {
        self.frame.begin();
        loop {
            let missing = self.frame.missing(source)?;
            if let (0, Some(seq)) = (missing, self.frame.seq) {
                self.frame.given = true;
                return Ok(Some(seq));
            }
            match self.read(missing, stop).map_err(|error| io_error(&source.describe(), error))? {
                Arrived::Bytes => (),
                Arrived::Stopped => return Ok(None),
                Arrived::End => match &source.input {
                    // The next writer may be there already: what it has written stays while the pipe is open.
                    FramedInput::Pipe(path) if self.frame.bytes.is_empty() => {
                        self.data = source.open_pipe(path)?;
                    }
                    _ => return Err(self.ended(source)),
                },
            }
        }
    }

    /// Reads at most `wanted` bytes, once some are there.
    fn read(&mut self, wanted: usize, stop: &dyn Fn() -> bool) -> io::Result<Arrived> {
        while !stop() {
            let stderr = self.child.as_ref().and_then(Child::stderr);
            let [data, words] = wait([Some(self.data.as_fd()), stderr], PollFlags::IN, LOOK_UP)?;
            if words && let Some(child) = &mut self.child {
                child.forward();
            }
            if !data {
                continue;
            }
            let room = wanted.min(READ_BYTES);
            match read_now(self.data.as_fd(), &mut self.scratch[..room])? {
                None => continue,
                Some(0) => return Ok(Arrived::End),
                Some(read) => self.frame.bytes.extend_from_slice(&self.scratch[..read]),
            }
            return Ok(Arrived::Bytes);
        }
        Ok(Arrived::Stopped)
    }

    fn ended(&mut self, source: &FramedLive) -> Error {
        let end = self.frame.start + self.frame.bytes.len() as u64;
        let at = match (self.frame.bytes.is_empty(), self.frame.seq) {
            (true, _) => "between two ledgers".to_owned(),
            (false, None) => format!("at byte {end}, in the head of a ledger"),
            (false, Some(seq)) => format!("at byte {end}, in the middle of ledger {seq}"),
        };
        let how = match &mut self.child {
            Some(child) => format!("{at}; {}", child.finish()),
            None => at,
        };
        Error::Ended { place: source.describe(), how }
    }
}

impl Frame {
    /// Makes room for the next frame, when the one before was handed out.
    fn begin(&mut self) {
        if std::mem::take(&mut self.given) {
            self.start += self.bytes.len() as u64;
            self.bytes.clear();
            self.seq = None;
        }
    }

    /// How many bytes are to come: of the length, then of the ledger.
    fn missing(&mut self, source: &FramedLive) -> Result<usize> {
        let corrupt = |offset: u64, what: String| Error::Corrupt {
            place: source.describe(),
            offset: self.start + offset,
            what,
        };
        let Some(word) = self.bytes.first_chunk::<4>() else { return Ok(4 - self.bytes.len()) };
        let length = frame_length(u32::from_be_bytes(*word), source.max_ledger_bytes);
        let length = length.map_err(|what| corrupt(0, what))? as usize;
        let arrived = self.ledger();
        if self.seq.is_none() && arrived.len() >= length.min(HEAD_BYTES as usize) {
            self.seq = Some(xdr::ledger_seq(arrived).map_err(|error| match error {
                Error::Malformed { what, offset, why } => {
                    corrupt(4 + offset, format!("not a valid {what}: {why}"))
                }
                other => other,
            })?);
        }
        Ok(length.saturating_sub(self.ledger().len()))
    }

    fn ledger(&self) -> &[u8] {
        self.bytes.get(4..).unwrap_or_default()
    }
}

/// A ledger's sequence and bytes.
#[cfg(any(test, feature = "fuzz"))]
type Given = (LedgerSeq, Vec<u8>);

/// What frames give of bytes that arrive in parts: the ledgers, the error that ends them, and the bytes held at the most.
#[cfg(any(test, feature = "fuzz"))]
pub(crate) fn assemble(
    mut bytes: &[u8],
    part: usize,
    max_ledger_bytes: u32,
) -> (Vec<Given>, Option<Error>, usize) {
    let source = FramedLive::new(FramedInput::Stdin).max_ledger_bytes(max_ledger_bytes);
    let (mut frame, mut ledgers, mut held) = (Frame::default(), Vec::new(), 0);
    loop {
        frame.begin();
        held = held.max(frame.bytes.capacity());
        match (frame.missing(&source), frame.seq) {
            (Err(error), _) => return (ledgers, Some(error), held),
            (Ok(0), Some(seq)) => {
                ledgers.push((seq, frame.ledger().to_vec()));
                frame.given = true;
            }
            (Ok(missing), _) => {
                let Some((arrived, rest)) = bytes.split_at_checked(missing.min(part).min(bytes.len())) else {
                    break;
                };
                if arrived.is_empty() {
                    break;
                }
                frame.bytes.extend_from_slice(arrived);
                bytes = rest;
            }
        }
    }
    (ledgers, None, held)
}
