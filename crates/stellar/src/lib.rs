//! Placeholder; the story is told here.

pub mod decode;
mod network;
mod replay;
pub mod source;
mod transaction;
pub mod xdr;

pub use decode::StellarDecoder;
pub use network::{FUTURENET, NetworkId, PASSPHRASES, PUBNET, SELF_TEST, STANDALONE, TESTNET};
pub use replay::{Replayer, SECONDS_PER_LEDGER};
pub use transaction::{TransactionParts, find_transaction};
