use std::path::PathBuf;

use crate::{Key, Owner};

/// Everything that the catalog can refuse, told apart by what a caller can do about it; see [`class`](Error::class).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file or directory could not be read or written.
    #[error(transparent)]
    Disk(#[from] icecore_diskio::Error),
    /// The database refused.
    #[error(transparent)]
    Rock(#[from] icecore_rockstore::Error),
    /// The layout or `icecore.json` is not as asked.
    #[error(transparent)]
    Cold(#[from] icecore_cold::Error),
    /// The directory above is not there, and is not made silently.
    #[error("{} does not exist: create it, or check the path for a mistake", path.display())]
    NoParent {
        /// The directory that is missing.
        path: PathBuf,
    },
    /// There is no catalog at the path.
    #[error("{} holds no catalog: start the daemon on it once, or name another directory", path.display())]
    NoCatalog {
        /// The directory.
        path: PathBuf,
    },
    /// There are files of chunks, and no catalog that says what they are worth: it was lost, or never was one.
    #[error(
        "{} has files, such as {}, and no catalog: restore a backup of it with `icecore restore`, or move the files into \
         another directory, with icecore.json, and take them in from there with `icecore adopt`",
        path.display(), file.display()
    )]
    FilesWithoutCatalog {
        /// The directory.
        path: PathBuf,
        /// One of the files.
        file: PathBuf,
    },
    /// Everybody may put files there.
    #[error("{} can be written by everybody (mode {mode:o}): chmod o-w it, or name another directory", path.display())]
    WritableByOthers {
        /// The directory.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// This process has the catalog open already, by this or another spelling of its path.
    #[error("{} is open in this process already", path.display())]
    AlreadyOpen {
        /// The path under which it is open.
        path: PathBuf,
    },
    /// Another process has the catalog open.
    #[error("{} is in use by {holder}: stop that one, or name another directory", path.display())]
    Locked {
        /// The directory.
        path: PathBuf,
        /// Who has it.
        holder: Owner,
    },
    /// A database that is not a catalog.
    #[error("{} is not a catalog: {what}; name another directory", path.display())]
    NotACatalog {
        /// The database.
        path: PathBuf,
        /// What it lacks.
        what: String,
    },
    /// Written by a later version of this program.
    #[error("{} has {name} {found}, this program knows {known}: use a newer one", path.display())]
    Newer {
        /// The database.
        path: PathBuf,
        /// What is newer.
        name: &'static str,
        /// Its version.
        found: u32,
        /// The highest version that this program knows.
        known: u32,
    },
    /// A pin that was set at the first start is another one now.
    #[error("{}: {name} was set to {found} at the first start, {asked} is asked for: {todo}", path.display())]
    PinChanged {
        /// The database.
        path: PathBuf,
        /// Which one.
        name: &'static str,
        /// What it is.
        found: String,
        /// What was asked for.
        asked: String,
        /// What to do.
        todo: &'static str,
    },
    /// Pins that no store can have.
    #[error("{name} cannot be {value}: {what}")]
    BadPin {
        /// Which one.
        name: &'static str,
        /// What was asked for.
        value: String,
        /// Why not, and what would do.
        what: String,
    },
    /// A row that is not as this crate writes it.
    #[error("{}: row {key:?}: {what}; restore the catalog from a backup", path.display())]
    Malformed {
        /// The database.
        path: PathBuf,
        /// The row's key, cut short.
        key: String,
        /// What is wrong with it.
        what: String,
    },
    /// A row's value that is larger than any may be.
    #[error("{}: row {key:?} has {len_bytes} bytes, at most {limit_bytes} are allowed", path.display())]
    ValueTooLarge {
        /// The database.
        path: PathBuf,
        /// The row's key, cut short.
        key: String,
        /// The length.
        len_bytes: u64,
        /// The limit.
        limit_bytes: u64,
    },
    /// A key that this store's history cannot have: a mistake of the caller. Nothing was written.
    #[error("{key} is no key of this store: {what}")]
    BadKey {
        /// The key.
        key: Key,
        /// Why not.
        what: String,
    },
    /// A step that the write protocol does not have: a mistake of the caller. Nothing was written.
    #[error("{key} cannot become {to}: it is {from}")]
    Illegal {
        /// The key.
        key: Key,
        /// What it is: a state's name, or `none`.
        from: &'static str,
        /// What it was to be.
        to: &'static str,
    },
    /// A key says something else than when a repair of it was found right. Nothing was changed.
    #[error("{key} was {found} when it was audited, and is {now}: audit again")]
    ChangedSince {
        /// The key.
        key: Key,
        /// What it was: a state's name, or `none`.
        found: &'static str,
        /// What it is.
        now: &'static str,
    },
    /// An index was to take the place of another one that leads to more: how much is kept has changed while it was built. Nothing
    /// was changed; the next plan wants another one.
    #[error("{key} cannot take the place of {other}: chunk {chunk} is kept, and it does not cover it")]
    Narrower {
        /// The new one.
        key: Key,
        /// The one that is there.
        other: Key,
        /// The first chunk that would be led to no more.
        chunk: icecore_ledger::ChunkId,
    },
    /// A key was to vouch for a file that is not there: a mistake of the caller. Nothing was written.
    #[error("{key} cannot be frozen: {} is not there", path.display())]
    FileMissing {
        /// The key.
        key: Key,
        /// The file.
        path: PathBuf,
    },
    /// A key was to be deleted before its directory: a mistake of the caller. Nothing was written.
    #[error("{key} cannot be deleted: {} is still there", path.display())]
    StillThere {
        /// The key.
        key: Key,
        /// The directory.
        path: PathBuf,
    },
    /// The destination of a backup is taken.
    #[error("{} exists already: name another destination", path.display())]
    BackupDestinationExists {
        /// The destination.
        path: PathBuf,
    },
    /// A copy that does not say what the original says; it was removed.
    #[error("the copy at {} differs from the catalog: {what}; try again, or check the disk", path.display())]
    CopyDiffers {
        /// The copy.
        path: PathBuf,
        /// How.
        what: String,
    },
    /// What was to be restored is not a backup that this program can use. Nothing was changed.
    #[error("{} cannot be restored: {what}", path.display())]
    NotABackup {
        /// The source.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// A backup of another store. Nothing was changed.
    #[error("{}: its {name} is {found}, this store's is {asked}: it is a backup of another store", path.display())]
    ForeignBackup {
        /// The source.
        path: PathBuf,
        /// What differs.
        name: &'static str,
        /// What the backup has.
        found: String,
        /// What the store has.
        asked: String,
    },
    /// The store to be restored is in use. Nothing was changed.
    #[error("{} cannot be restored, it is in use by {holder}: stop that one", path.display())]
    RestoreDestinationLocked {
        /// The directory.
        path: PathBuf,
        /// Who has it.
        holder: Owner,
    },
    /// A restore was recorded and could be neither finished nor taken back.
    #[error("the restore of {} is recorded, but not finished: {source}; opening the store finishes it", path.display())]
    RestoreUnfinished {
        /// The directory.
        path: PathBuf,
        /// What went wrong.
        source: Box<Error>,
    },
    /// The catalog is being replaced, or a restore was cut short.
    #[error("{} is being restored: wait, or, if nobody is at it, open it for writing to finish that", path.display())]
    RestorePending {
        /// The directory.
        path: PathBuf,
    },
    /// A recovery that makes no sense.
    #[error("cannot recover ledgers {from} to {to}: {what}")]
    BadRecovery {
        /// The first ledger.
        from: u32,
        /// The last.
        to: u32,
        /// Why not.
        what: &'static str,
    },
}

/// What can be done about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// The same call may succeed later, with nothing changed but the machine's state.
    Transient,
    /// The request does not fit what is there: ask for something else.
    Constraint,
    /// What is stored, or the program, is wrong: neither time nor another request helps.
    Fatal,
}

impl Class {
    /// A word for logs and metrics that stays the same.
    pub const fn tag(self) -> &'static str {
        match self {
            Class::Transient => "transient",
            Class::Constraint => "constraint",
            Class::Fatal => "fatal",
        }
    }
}

impl Error {
    /// What can be done about it.
    pub fn class(&self) -> Class {
        // Without a wildcard: whoever adds a variant says what can be done about it.
        match self {
            Error::Disk(e) if e.is_retryable() => Class::Transient,
            Error::Disk(_) => Class::Constraint,
            Error::Rock(e) if e.is_retryable() => Class::Transient,
            Error::Rock(_) => Class::Fatal,
            Error::Cold(e) if e.is_retryable() => Class::Transient,
            Error::Cold(e) if e.is_corrupt() => Class::Fatal,
            Error::Cold(_) => Class::Constraint,
            Error::Locked { .. } | Error::RestoreDestinationLocked { .. } | Error::RestorePending { .. } => {
                Class::Transient
            }
            // The same build would come out the same; another plan does not ask for it.
            Error::Narrower { .. } => Class::Constraint,
            Error::CopyDiffers { .. } => Class::Transient,
            Error::ChangedSince { .. } => Class::Constraint,
            Error::RestoreUnfinished { source, .. } => source.class(),
            Error::NoParent { .. }
            | Error::NoCatalog { .. }
            | Error::FilesWithoutCatalog { .. }
            | Error::WritableByOthers { .. }
            | Error::AlreadyOpen { .. }
            | Error::PinChanged { .. }
            | Error::BadPin { .. }
            | Error::BackupDestinationExists { .. }
            | Error::NotABackup { .. }
            | Error::ForeignBackup { .. }
            | Error::BadRecovery { .. } => Class::Constraint,
            Error::NotACatalog { .. }
            | Error::Newer { .. }
            | Error::Malformed { .. }
            | Error::ValueTooLarge { .. }
            | Error::BadKey { .. }
            | Error::Illegal { .. }
            | Error::FileMissing { .. }
            | Error::StillThere { .. } => Class::Fatal,
        }
    }

    /// True where the same call may succeed later with nothing changed but the machine's state.
    pub fn is_retryable(&self) -> bool {
        self.class() == Class::Transient
    }

    /// True where stored bytes are damaged: a backup can help.
    pub fn is_corrupt(&self) -> bool {
        match self {
            Error::Rock(e) => e.is_corrupt(),
            Error::Cold(e) => e.is_corrupt(),
            Error::Malformed { .. } | Error::ValueTooLarge { .. } | Error::NotACatalog { .. } => true,
            _ => false,
        }
    }
}

/// The result of anything done with the catalog.
pub type Result<T, E = Error> = std::result::Result<T, E>;

#[cfg(test)]
mod tests {
    use icecore_diskio::{Error as DiskError, Op};

    use super::*;

    #[test]
    fn errors_say_what_can_be_done() {
        let path = PathBuf::from("/p");
        let full = || Error::Disk(DiskError::DiskFull { op: Op::Write, path: path.clone() });
        let locked = icecore_rockstore::Error::Closed { path: path.clone() };
        for (error, class, tag) in [
            (full(), Class::Transient, "transient"),
            (
                Error::RestoreUnfinished { path: path.clone(), source: Box::new(full()) },
                Class::Transient,
                "transient",
            ),
            (Error::Locked { path: path.clone(), holder: Owner::default() }, Class::Transient, "transient"),
            (Error::AlreadyOpen { path: path.clone() }, Class::Constraint, "constraint"),
            (Error::Disk(DiskError::Exists { path: path.clone() }), Class::Constraint, "constraint"),
            (Error::Rock(locked), Class::Fatal, "fatal"),
            (Error::Newer { path: path.clone(), name: "it", found: 2, known: 1 }, Class::Fatal, "fatal"),
        ] {
            assert_eq!((error.class(), error.class().tag()), (class, tag), "{error}");
            assert_eq!(error.is_retryable(), class == Class::Transient);
        }
    }
}
