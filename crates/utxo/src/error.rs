use std::{fmt, sync::Arc};

use crate::{Family, Outpoint, Spender, TxId};

/// Everything that can go wrong with an operation, told apart by what a caller can do about it; the same on every
/// backend for the same cause.
///
/// [`is_invalid_tx`](Error::is_invalid_tx): the transaction itself is refused, for good. [`is_retryable`]: the same call
/// may succeed later. [`is_corrupt`](Error::is_corrupt): what is stored contradicts itself.
///
/// [`is_retryable`]: Error::is_retryable
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is no such transaction.
    #[error("transaction {txid} is not in the store")]
    TxNotFound {
        /// The one that is missing.
        txid: TxId,
    },
    /// The transaction has no such output, or none that could be spent.
    #[error("output {outpoint} is not in the store")]
    OutputNotFound {
        /// The one that is missing.
        outpoint: Outpoint,
    },
    /// The transaction is stored already.
    #[error("transaction {txid} is in the store already")]
    TxExists {
        /// The one that is there.
        txid: TxId,
    },
    /// The transaction is not wholly stored yet: create it again, or mine it, to complete it.
    #[error("transaction {txid} is not wholly stored: create it again to complete it")]
    Creating {
        /// The incomplete one.
        txid: TxId,
    },
    /// The transaction is locked: its outputs cannot be spent until it is unlocked.
    #[error("transaction {txid} is locked")]
    Locked {
        /// The locked one.
        txid: TxId,
    },
    /// The transaction lost a double spend: its outputs cannot be spent.
    #[error("transaction {txid} is in conflict with another one")]
    Conflicting {
        /// The one in conflict.
        txid: TxId,
    },
    /// The output is frozen.
    #[error("output {outpoint} is frozen")]
    Frozen {
        /// The frozen one.
        outpoint: Outpoint,
    },
    /// The output is held back.
    #[error("output {outpoint} cannot be spent below height {height}")]
    FrozenUntil {
        /// The one held back.
        outpoint: Outpoint,
        /// The first height at which it may be spent.
        height: u32,
    },
    /// The output is of a coinbase that is too young.
    #[error("coinbase {txid} cannot be spent below height {height}")]
    CoinbaseImmature {
        /// The coinbase.
        txid: TxId,
        /// The first height at which it may be spent.
        height: u32,
    },
    /// The output is spent.
    #[error("output {outpoint} is spent by {by}")]
    Spent {
        /// The output.
        outpoint: Outpoint,
        /// The spender on record.
        by: Spender,
    },
    /// The spender on record was deleted since; spending again would bring it back.
    #[error("output {outpoint} was spent by {by}, which is deleted: it cannot be spent again")]
    InvalidSpend {
        /// The output.
        outpoint: Outpoint,
        /// The spender on record, and the one that asked.
        by: Spender,
    },
    /// The caller names another output than the one that is stored.
    #[error("output {outpoint} has another hash than the one given")]
    HashMismatch {
        /// The output.
        outpoint: Outpoint,
    },
    /// Some inputs of a transaction could not be spent.
    #[error(transparent)]
    Spend(Arc<SpendError>),
    /// The caller asks for what makes no sense.
    #[error("{what}")]
    Invalid {
        /// What is wrong with it.
        what: &'static str,
    },
    /// The database was made with another page size: every output would be looked for in another place.
    #[error("the database has page size {stored}, not {configured}: open it with {stored}")]
    PageSize {
        /// The one it was made with.
        stored: u32,
        /// The one asked for.
        configured: u32,
    },
    /// What is stored contradicts itself.
    #[error("damaged {family} record {key}: {what}; restore the database from a copy")]
    Damaged {
        /// The kind of record.
        family: Family,
        /// Its key, in hex.
        key: String,
        /// The contradiction.
        what: &'static str,
    },
    /// The body of a transaction is missing or not what was stored.
    #[error("damaged body of {txid}: {what}; restore its file, or delete and create the transaction again")]
    DamagedBody {
        /// The transaction.
        txid: TxId,
        /// The contradiction.
        what: &'static str,
    },
    /// Not now: the same call may succeed later. Nothing of it is stored, but for the first records of a transaction of
    /// several, which wait for that.
    #[error("not available now, try again: {what}")]
    Unavailable {
        /// Why.
        what: String,
    },
    /// The storage below failed. As little of the call is stored.
    #[error("storage failed: {what}")]
    Storage {
        /// Its words.
        what: String,
    },
    /// The blob store's disk refused.
    #[error(transparent)]
    Blob(#[from] icecore_diskio::Error),
    /// The store is closed, or closing.
    #[error("the store is closed")]
    Closed,
    /// The work was taken on and never answered for: what became of it is unknown until it is read back.
    #[error("outcome unknown: {what}")]
    Unknown {
        /// What happened to the work.
        what: String,
    },
}

/// How the inputs of one transaction fared, where not all could be spent.
#[derive(Clone, Debug)]
pub struct SpendError {
    /// The transaction that wanted to spend.
    pub txid: TxId,
    /// The result of each input, in order. Where the transaction is invalid, none of them is spent by it any more.
    pub inputs: Vec<Result<()>>,
}

impl SpendError {
    /// How many errors the text shows at most.
    pub const SHOWN: usize = 10;

    /// The errors, each with the number of its input.
    pub fn errors(&self) -> impl Iterator<Item = (usize, &Error)> {
        self.inputs.iter().enumerate().filter_map(|(input, result)| Some((input, result.as_ref().err()?)))
    }

    /// True where an input shows that the transaction itself can never be valid.
    pub fn is_invalid_tx(&self) -> bool {
        self.errors().any(|(_, error)| error.is_invalid_tx())
    }
}

impl std::error::Error for SpendError {}

impl fmt::Display for SpendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let failed = self.errors().count();
        write!(f, "{failed} of {} inputs of {} cannot be spent: ", self.inputs.len(), self.txid)?;
        for (n, (input, error)) in self.errors().take(Self::SHOWN).enumerate() {
            write!(f, "{}input {input}: {error}", if n == 0 { "" } else { "; " })?;
        }
        if failed > Self::SHOWN { write!(f, "; and {} more", failed - Self::SHOWN) } else { Ok(()) }
    }
}

impl Error {
    /// True where the transaction itself is refused, so that what it had spent is given back.
    pub fn is_invalid_tx(&self) -> bool {
        use Error::*;
        match self {
            Spent { .. }
            | Conflicting { .. }
            | Frozen { .. }
            | HashMismatch { .. }
            | OutputNotFound { .. } => true,
            Spend(error) => error.is_invalid_tx(),
            _ => false,
        }
    }

    /// True where the same call may succeed later with nothing changed but the machine's state.
    pub fn is_retryable(&self) -> bool {
        match self {
            Error::Unavailable { .. } => true,
            Error::Blob(error) => error.is_retryable(),
            Error::Spend(error) => error.errors().all(|(_, error)| error.is_retryable()),
            _ => false,
        }
    }

    /// True where what is stored is at fault.
    pub fn is_corrupt(&self) -> bool {
        matches!(self, Error::Damaged { .. } | Error::DamagedBody { .. })
    }

    /// True where the storage below failed, not the request.
    pub(crate) fn is_unwritten(&self) -> bool {
        use Error::*;
        match self {
            Spend(error) => !error.is_invalid_tx() && error.errors().any(|(_, error)| error.is_unwritten()),
            _ => matches!(self, Unavailable { .. } | Storage { .. } | Blob(_) | Unknown { .. }),
        }
    }

    pub(crate) fn damaged(family: Family, key: &[u8], what: &'static str) -> Self {
        let key = key.iter().map(|byte| format!("{byte:02x}")).collect();
        Error::Damaged { family, key, what }
    }
}

/// The result of an operation.
pub type Result<T, E = Error> = std::result::Result<T, E>;
