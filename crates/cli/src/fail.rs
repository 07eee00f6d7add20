//! Why a command ends early, and the exit code that tells scripts.

use std::{fmt, process::ExitCode};

use icecore_ledger::Error as Ledger;

/// The end of a command that did not succeed.
#[derive(Debug)]
pub(crate) enum Fail {
    /// Something could not be done.
    Error(Box<dyn std::error::Error>),
    /// Arguments that clap cannot judge make no sense.
    Usage(String),
    /// Stored bytes are damaged.
    Damaged(String),
    /// What was asked for is not there.
    NotFound(String),
    /// The person pressed Ctrl-C.
    Interrupted(String),
}

/// The result of a command.
pub(crate) type Outcome<T = ()> = Result<T, Fail>;

impl Fail {
    pub(crate) fn code(&self) -> ExitCode {
        ExitCode::from(match self {
            Fail::Error(_) => 1,
            Fail::Usage(_) => 2,
            Fail::Damaged(_) => 3,
            Fail::NotFound(_) => 4,
            Fail::Interrupted(_) => 130,
        })
    }

    /// True for a closed pipe on standard output: whoever read has seen enough.
    pub(crate) fn is_broken_pipe(&self) -> bool {
        matches!(self, Fail::Error(e) if e.downcast_ref::<std::io::Error>()
            .is_some_and(|e| e.kind() == std::io::ErrorKind::BrokenPipe))
    }
}

impl fmt::Display for Fail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fail::Error(e) => e.fmt(f),
            Fail::Usage(text) | Fail::Damaged(text) | Fail::NotFound(text) | Fail::Interrupted(text) => {
                f.write_str(text)
            }
        }
    }
}

impl From<std::io::Error> for Fail {
    fn from(e: std::io::Error) -> Self {
        Fail::Error(Box::new(e))
    }
}

impl From<icecore_cold::Error> for Fail {
    fn from(e: icecore_cold::Error) -> Self {
        match e {
            icecore_cold::Error::Cancelled => Fail::Interrupted(e.to_string()),
            icecore_cold::Error::Ledger(
                Ledger::Config { .. } | Ledger::BadRange { .. } | Ledger::BadGeometry { .. },
            ) => Fail::Usage(e.to_string()),
            e if e.is_corrupt() => Fail::Damaged(e.to_string()),
            e => Fail::Error(Box::new(e)),
        }
    }
}

macro_rules! through_cold {
    ($($error:ty),+) => {$(
        impl From<$error> for Fail {
            fn from(e: $error) -> Self {
                icecore_cold::Error::from(e).into()
            }
        }
    )+};
}
through_cold!(
    icecore_diskio::Error,
    icecore_ledger::Error,
    icecore_packfile::Error,
    icecore_txindex::Error,
    icecore_events::Error
);

impl From<icecore_hotchunk::Error> for Fail {
    fn from(e: icecore_hotchunk::Error) -> Self {
        if e.is_corrupt() { Fail::Damaged(e.to_string()) } else { Fail::Error(Box::new(e)) }
    }
}

impl From<icecore_streamhash::Error> for Fail {
    fn from(e: icecore_streamhash::Error) -> Self {
        if e.is_corrupt() { Fail::Damaged(e.to_string()) } else { Fail::Error(Box::new(e)) }
    }
}

impl From<icecore_catalog::Error> for Fail {
    fn from(e: icecore_catalog::Error) -> Self {
        if e.is_corrupt() { Fail::Damaged(e.to_string()) } else { Fail::Error(Box::new(e)) }
    }
}

impl From<icecore_engine::Error> for Fail {
    fn from(e: icecore_engine::Error) -> Self {
        match e {
            icecore_engine::Error::Catalog(e) => e.into(),
            icecore_engine::Error::Cold(e) => e.into(),
            icecore_engine::Error::Cancelled => Fail::Interrupted(e.to_string()),
            e => Fail::Error(Box::new(e)),
        }
    }
}
