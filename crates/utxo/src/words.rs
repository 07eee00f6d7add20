//! The words of this store: who spends what.

use std::fmt;

macro_rules! hash32 {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; 32]);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().take(6).try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }
    };
}

hash32! {
    /// The id of a transaction.
    TxId
}
hash32! {
    /// What an output is: the hash of its value and its condition, which whoever spends it has to name.
    OutputHash
}

/// An output of a transaction, by its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Outpoint {
    /// The transaction that made it.
    pub txid: TxId,
    /// Its number among that transaction's outputs.
    pub vout: u32,
}

impl fmt::Display for Outpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.txid, self.vout)
    }
}

/// Who spends an output: one input of a transaction. The "spending data" of a spent output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Spender {
    /// The transaction that spends.
    pub txid: TxId,
    /// The number of its input.
    pub input: u32,
}

impl fmt::Display for Spender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "input {} of {}", self.input, self.txid)
    }
}

/// The state of one output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slot {
    /// Nothing can ever spend it, so nothing is kept.
    Unspendable,
    /// Free to be spent by whoever names its hash.
    Unspent {
        /// What it is.
        hash: OutputHash,
    },
    /// Spent.
    Spent {
        /// What it is.
        hash: OutputHash,
        /// The input that spends it.
        by: Spender,
    },
    /// Unspent, and not to be spent until somebody thaws it.
    Frozen {
        /// What it is.
        hash: OutputHash,
    },
    /// Unspent, and not to be spent below a height, as after a reassignment.
    Held {
        /// What it is.
        hash: OutputHash,
        /// The first height at which it may be spent.
        until: u32,
    },
}

impl Slot {
    /// What the output is, unless it is unspendable.
    pub fn hash(&self) -> Option<OutputHash> {
        match *self {
            Slot::Unspendable => None,
            Slot::Unspent { hash }
            | Slot::Spent { hash, .. }
            | Slot::Frozen { hash }
            | Slot::Held { hash, .. } => Some(hash),
        }
    }

    /// The input that spends it, if one does.
    pub fn spender(&self) -> Option<Spender> {
        match *self {
            Slot::Spent { by, .. } => Some(by),
            _ => None,
        }
    }
}

/// Where a transaction was mined.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct BlockRef {
    /// The number that names the block; not its height, of which a fork has two.
    pub block_id: u32,
    /// Its height.
    pub height: u32,
    /// The number of the subtree within the block that holds the transaction.
    pub subtree: u32,
}

/// The tip of the chain: one pair, always read and written together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChainState {
    /// Height of the best block; never 0.
    pub height: u32,
    /// The median time past of that block, in seconds since 1970.
    pub median_time: u32,
}
