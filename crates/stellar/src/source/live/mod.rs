//! Ledgers as they close.
//!
//! | text | source | opening it again |
//! |---|---|---|
//! | `lake:DIR` | a lake whose batches keep appearing | goes on at the ledger asked for |
//! | `pipe:PATH` | a framed stream from a named pipe; writers may come and go between two ledgers | goes on where it was |
//! | `fd:N` | a framed stream from a descriptor that the program was started with | goes on where it was |
//! | `-` | the same from standard input | goes on where it was |
//! | `exec:COMMAND` | starts `sh -c COMMAND`, whose standard output is the framed stream | starts it anew |
//! | `exec,fd=N:COMMAND` | the same with descriptor N, 3 to 9; its standard output is then text, as standard error is | starts it anew |
//!
//! [`open`] reads the text. A framed stream is that of [`FramedFile`](super::FramedFile), plain, and what stellar-core
//! writes to its `METADATA_OUTPUT_STREAM`: `exec,fd=3:stellar-core run` beside `METADATA_OUTPUT_STREAM="fd:3"`.
//!
//! No thread belongs to a source. Whoever waits in [`next_ledger`](icecore_ledger::LiveStream::next_ledger) waits in
//! `poll`, at most 50 milliseconds at a time, for ledgers and for what a program says on its standard error, which goes
//! to `tracing` line by line.
//!
//! [`Playback`] is the other side: it sends ledgers of any [`Source`] as a framed stream, at a pace, with faults.
//!
//! ```
//! use icecore_ledger::{LedgerSeq, LiveSource, Source};
//! use icecore_stellar::source::{self, live};
//!
//! let dir = tempfile::tempdir()?;
//! let file = dir.path().join("ledgers.xdr");
//! let generator: source::Generator = "gen:ledgers=3,txs=1".parse()?;
//! let out = std::fs::File::create(&file)?;
//! source::write_framed(&generator, generator.range()?, out, source::Packing::Plain)?;
//!
//! let opened = live::open(&format!("exec:cat '{}'", file.display()))?;
//! let mut stream = opened.source.open(LedgerSeq(2), &|| false)?;
//! for seq in 2..=4 {
//!     assert_eq!(stream.next_ledger()?.map(|ledger| ledger.seq), Some(LedgerSeq(seq)));
//! }
//! let ended = stream.next_ledger().unwrap_err();
//! assert!(ended.is_retryable() && ended.to_string().contains("exit status: 0"), "{ended}");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::{fmt, fs, os::unix::fs::FileTypeExt, path::Path, str::FromStr};

use icecore_ledger::{Error, LiveSource, Result, Source};

use super::Lake;

mod child;
mod lake;
mod playback;
mod poll;
mod stream;

pub use playback::{Fault, Playback, Played, open_sink};
#[cfg(any(test, feature = "fuzz"))]
pub(super) use stream::assemble;
pub use stream::{FramedInput, FramedLive};

/// A live source, and what came with it.
pub struct OpenedLive {
    /// The source.
    pub source: Box<dyn LiveSource>,
    /// The same place as a bulk source, where it is one: a lake.
    pub bulk: Option<Box<dyn Source>>,
    /// The passphrase of the ledgers' network, where the source knows it.
    pub network_passphrase: Option<String>,
}

impl fmt::Debug for OpenedLive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.source.describe();
        let mut opened = f.debug_struct("OpenedLive");
        opened.field("source", &name).field("bulk", &self.bulk.is_some());
        opened.field("network", &self.network_passphrase).finish()
    }
}

/// Opens the live source that `text` names, by the table above. Nothing is started, and nothing read but the
/// configuration of a lake.
///
/// # Errors
/// [`Error::Config`] for a text that names none, with what may have been meant; those of [`Lake::open`].
pub fn open(text: &str) -> Result<OpenedLive> {
    if let Some(dir) = text.strip_prefix("lake:") {
        let lake = Lake::open(dir)?;
        let network_passphrase = lake.network_passphrase().map(str::to_owned);
        let bulk: Option<Box<dyn Source>> = Some(Box::new(lake.clone()));
        return Ok(OpenedLive { source: Box::new(lake), bulk, network_passphrase });
    }
    let source = Box::new(FramedLive::new(text.parse()?));
    Ok(OpenedLive { source, bulk: None, network_passphrase: None })
}

impl FromStr for FramedInput {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let refuse = |what: String| Error::Config { place: text.chars().take(200).collect(), what };
        if text == "-" {
            return Ok(FramedInput::Stdin);
        }
        let (scheme, rest) = text.split_once(':').ok_or_else(|| refuse(meant(text)))?;
        match (scheme, rest) {
            ("pipe" | "fd" | "exec", rest) if rest.trim().is_empty() => {
                Err(refuse(format!("what comes after {scheme}: is missing")))
            }
            ("pipe", path) => Ok(FramedInput::Pipe(path.into())),
            ("fd", n) => match n.parse() {
                Ok(n) if n <= i32::MAX as u32 => Ok(FramedInput::Fd(n)),
                _ => Err(refuse(format!("{n:?} is not the number of a descriptor"))),
            },
            ("exec", command) => Ok(FramedInput::Exec { command: command.to_owned(), fd: 1 }),
            _ => {
                let Some(n) = scheme.strip_prefix("exec,fd=") else { return Err(refuse(meant(text))) };
                // A shell reads one digit before a redirection.
                let fd = n.parse().ok().filter(|n| *n == 1 || (3..=9).contains(n));
                let fd =
                    fd.ok_or_else(|| refuse(format!("descriptor {n:?}: one of 1 and 3 to 9 is expected")))?;
                match rest.trim() {
                    "" => Err(refuse("the command is missing".to_owned())),
                    _ => Ok(FramedInput::Exec { command: rest.to_owned(), fd }),
                }
            }
        }
    }
}

impl fmt::Display for FramedInput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FramedInput::Pipe(path) => write!(f, "pipe:{}", path.display()),
            FramedInput::Fd(n) => write!(f, "fd:{n}"),
            FramedInput::Stdin => f.write_str("-"),
            FramedInput::Exec { command, fd: 1 } => write!(f, "exec:{command}"),
            FramedInput::Exec { command, fd } => write!(f, "exec,fd={fd}:{command}"),
        }
    }
}

/// What to say of a text that names no live source.
fn meant(text: &str) -> String {
    const FORMS: &str = "a live source is lake:DIR, pipe:PATH, fd:N, - (standard input), exec:COMMAND or \
                         exec,fd=N:COMMAND";
    match fs::metadata(Path::new(text)).map(|found| found.file_type()) {
        Ok(found) if found.is_dir() => format!("this is a directory; say lake:{text} for a lake that grows"),
        Ok(found) if found.is_fifo() => format!("this is a named pipe; say pipe:{text}"),
        Ok(_) => format!("this is a file, which is a bulk source; {FORMS}"),
        Err(_) => FORMS.to_owned(),
    }
}
