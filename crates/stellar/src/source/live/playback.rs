//! The other side of a framed stream: a stand-in for whoever closes ledgers.

use std::{
    io::{self, Write},
    os::fd::{AsFd, OwnedFd},
    path::Path,
    str::FromStr,
    time::Duration,
};

use icecore_ledger::{Error, LedgerRange, LedgerSeq, RawLedger, Result, Source};
use rustix::{
    event::PollFlags,
    fs::{Mode, OFlags},
    io::Errno,
};

use super::poll::{LOOK_UP, pause, wait};
use crate::{
    source::{io_error, write::frame_head},
    xdr,
};

/// Sends ledgers of a source as a framed stream.
///
/// ```
/// use icecore_ledger::Source;
/// use icecore_stellar::source::{Generator, live::{Playback, Played}};
///
/// let generator: Generator = "gen:ledgers=3,txs=1".parse()?;
/// let playback = Playback { faults: vec!["skip@3".parse()?], ..Playback::of(generator.range()?) };
/// let mut sent = Vec::new();
/// assert_eq!(playback.run(&generator, &mut sent, &mut |_pause| false)?, Played::Whole);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Playback {
    /// The ledgers to send.
    pub ledgers: LedgerRange,
    /// The pause before each ledger but the first.
    pub pace: Duration,
    /// What goes wrong on the way.
    pub faults: Vec<Fault>,
}

/// What goes wrong at a ledger. Reads from `NAME@LEDGER`, as given with each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// `cut@N`: the stream ends in the middle of it.
    Cut(LedgerSeq),
    /// `garbage@N`: bytes that are no frame come before it.
    Garbage(LedgerSeq),
    /// `huge@N`: a frame that says it has 2 GiB comes before it.
    Huge(LedgerSeq),
    /// `damage@N`: the second half of its bytes is turned over.
    Damage(LedgerSeq),
    /// `skip@N` or `skip@N-M`: it is left out, or all of them are.
    Skip(LedgerRange),
    /// `repeat@N`: it is sent twice.
    Repeat(LedgerSeq),
    /// `lie@N:M`: it says that it is M.
    Lie(LedgerSeq, LedgerSeq),
    /// `hang@N`: nothing more comes, but the stream does not end.
    Hang(LedgerSeq),
    /// `exit@N:CODE`: the stream ends before it; whoever runs this should exit with the code.
    Exit(LedgerSeq, u8),
}

/// How a playback ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Played {
    /// All ledgers were sent.
    Whole,
    /// It was told to stop.
    Stopped,
    /// A fault ended it.
    Faulted {
        /// The exit code that goes with the fault.
        code: u8,
    },
}

impl FromStr for Fault {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        const FORMS: &str = "a fault is cut@N, garbage@N, huge@N, damage@N, skip@N, skip@N-M, repeat@N, lie@N:M, \
                             hang@N or exit@N:CODE";
        let refuse = || Error::Config { place: text.chars().take(200).collect(), what: FORMS.to_owned() };
        let (name, at) = text.split_once('@').ok_or_else(refuse)?;
        let seq = |digits: &str| digits.parse::<LedgerSeq>().map_err(|_| refuse());
        let pair = || at.split_once(':').ok_or_else(refuse);
        Ok(match name {
            "cut" => Fault::Cut(seq(at)?),
            "garbage" => Fault::Garbage(seq(at)?),
            "huge" => Fault::Huge(seq(at)?),
            "damage" => Fault::Damage(seq(at)?),
            "repeat" => Fault::Repeat(seq(at)?),
            "hang" => Fault::Hang(seq(at)?),
            "skip" => {
                let (first, last) = at.split_once('-').unwrap_or((at, at));
                Fault::Skip(LedgerRange::new(seq(first)?, seq(last)?)?)
            }
            "lie" => Fault::Lie(seq(pair()?.0)?, seq(pair()?.1)?),
            "exit" => Fault::Exit(seq(pair()?.0)?, pair()?.1.parse().map_err(|_| refuse())?),
            _ => return Err(refuse()),
        })
    }
}

impl Fault {
    fn is_at(&self, seq: LedgerSeq) -> bool {
        match self {
            Fault::Skip(ledgers) => ledgers.contains(seq),
            Fault::Cut(at) | Fault::Garbage(at) | Fault::Huge(at) | Fault::Damage(at) | Fault::Repeat(at) => {
                *at == seq
            }
            Fault::Lie(at, _) | Fault::Hang(at) | Fault::Exit(at, _) => *at == seq,
        }
    }
}

impl Playback {
    /// All ledgers of a range, as fast as they are taken, without a fault.
    pub fn of(ledgers: LedgerRange) -> Self {
        Playback { ledgers, pace: Duration::ZERO, faults: Vec::new() }
    }

    /// Sends the ledgers. `pause` is called to wait for so long, also for no time at all, and says whether to stop.
    ///
    /// # Errors
    /// What `out` fails with, unless `pause` then says to stop; an error of the source inside one of kind
    /// [`Other`](io::ErrorKind::Other).
    pub fn run(
        &self,
        source: &dyn Source,
        out: &mut dyn Write,
        pause: &mut dyn FnMut(Duration) -> bool,
    ) -> io::Result<Played> {
        let mut stream = source.stream(self.ledgers).map_err(io::Error::other)?;
        let mut wait = Duration::ZERO;
        while let Some(ledger) = stream.next_ledger().map_err(io::Error::other)? {
            if pause(std::mem::replace(&mut wait, self.pace)) {
                return Ok(Played::Stopped);
            }
            match self.send(ledger, out, pause) {
                Ok(None) => (),
                Ok(Some(end)) => return Ok(end),
                Err(_) if pause(Duration::ZERO) => return Ok(Played::Stopped),
                Err(error) => return Err(error),
            }
        }
        out.flush().map(|()| Played::Whole)
    }

    /// Sends one ledger, with its faults; says so when that is the end.
    fn send(
        &self,
        ledger: RawLedger<'_>,
        out: &mut dyn Write,
        pause: &mut dyn FnMut(Duration) -> bool,
    ) -> io::Result<Option<Played>> {
        let mut bytes = ledger.bytes.to_vec();
        let mut times = 1;
        for fault in self.faults.iter().filter(|fault| fault.is_at(ledger.seq)) {
            match *fault {
                Fault::Cut(_) => {
                    out.write_all(&frame_head(&bytes)?)?;
                    out.write_all(&bytes[..bytes.len() / 2])?;
                    out.flush()?;
                    return Ok(Some(Played::Faulted { code: 1 }));
                }
                Fault::Garbage(_) => out.write_all(b"this is no frame")?,
                Fault::Huge(_) => out.write_all(&[0xff; 4])?,
                Fault::Damage(_) => {
                    let half = bytes.len() / 2;
                    bytes[half..].iter_mut().for_each(|byte| *byte = !*byte);
                }
                Fault::Skip(_) => times = 0,
                Fault::Repeat(_) => times = 2,
                Fault::Lie(_, says) => xdr::set_ledger_seq(&mut bytes, says).map_err(io::Error::other)?,
                Fault::Hang(_) => {
                    while !pause(Duration::from_secs(1)) {}
                    return Ok(Some(Played::Stopped));
                }
                Fault::Exit(_, code) => return Ok(Some(Played::Faulted { code })),
            }
        }
        for _ in 0..times {
            out.write_all(&frame_head(&bytes)?)?;
            out.write_all(&bytes)?;
        }
        out.flush().map(|()| None)
    }
}

/// What a framed stream is written to: `-` for standard output, `fd:N` for a descriptor that the program was started
/// with, or the path of a named pipe or a file, which is made where there is none. To open a named pipe waits for its
/// reader. Once `stop` says so, opening and writing fail, with kind [`TimedOut`](io::ErrorKind::TimedOut).
///
/// # Errors
/// [`Error::Io`].
pub fn open_sink<'a>(to: &str, stop: &'a dyn Fn() -> bool) -> Result<Box<dyn Write + 'a>> {
    let inherited = match to {
        "-" => Some("1"),
        _ => to.strip_prefix("fd:"),
    };
    // Opened anew, so that not to block is a matter of this descriptor alone.
    let (path, flags) = match inherited {
        Some(n) => (format!("/dev/fd/{n}"), OFlags::APPEND),
        None => (to.to_owned(), OFlags::CREATE | OFlags::TRUNC),
    };
    let flags = flags | OFlags::WRONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let open = || -> io::Result<OwnedFd> {
        loop {
            match rustix::fs::open(Path::new(&path), flags, Mode::from_raw_mode(0o666)) {
                // A pipe without a reader.
                Err(Errno::NXIO) if inherited.is_none() => {
                    if pause(LOOK_UP, stop)? {
                        return Err(io::ErrorKind::TimedOut.into());
                    }
                }
                opened => return Ok(opened?),
            }
        }
    };
    let fd = open().map_err(|error| io_error(to, error))?;
    Ok(Box::new(Sink { fd, stop }))
}

struct Sink<'a> {
    fd: OwnedFd,
    stop: &'a dyn Fn() -> bool,
}

impl Write for Sink<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            match rustix::io::write(&self.fd, bytes) {
                Err(Errno::AGAIN) => (),
                Err(Errno::INTR) => continue,
                written => return Ok(written?),
            }
            if (self.stop)() {
                return Err(io::ErrorKind::TimedOut.into());
            }
            wait([Some(self.fd.as_fd())], PollFlags::OUT, LOOK_UP)?;
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
