//! Placeholder; the story is told here.

pub mod decode;
#[cfg(any(test, feature = "fuzz"))]
pub mod fuzz;
#[cfg(test)]
mod grow;
#[cfg(feature = "json")]
mod json;
mod network;
mod replay;
pub mod source;
pub mod text;
mod transaction;
pub mod xdr;

pub use decode::StellarDecoder;
#[cfg(feature = "json")]
pub use json::{MAX_JSON_XDR_BYTES, XdrKind, to_json};
pub use network::{
    APPLY_LOAD, FUTURENET, LOAD_TEST, NetworkId, PASSPHRASES, PUBNET, SELF_TEST, STANDALONE, TESTNET,
};
pub use replay::{Replayer, SECONDS_PER_LEDGER};
pub use transaction::{TransactionParts, find_transaction};
