//! Stellar ledgers: where they come from, and what is in them.
//!
//! A ledger's raw form is one `LedgerCloseMeta` in XDR. [`source`] has the places it comes from: framed files, lakes, a
//! generator; [`Replayer`] repeats real ledgers under new sequences with new transaction hashes. [`StellarDecoder`] walks
//! a ledger's bytes once and borrows from them what an engine needs:
//!
//! ```text
//! raw ledger ──▶ walk, checking everything ──▶ sequence, close time
//!                                         ├──▶ transactions: hash, and the inner hash of a fee-bump
//!                                         └──▶ events: coordinates, body, contract, first four topics
//! ```
//!
//! The walk accepts what a full decoder of the protocol's types accepts, in the one form in which that writes it: for
//! versions 0 to 2 of a ledger and 0 to 4 of a transaction's meta. Anything else is an error with its byte offset, never
//! something silently left out. Recursive types may nest 500 deep, and a boolean is 0 or 1.
//!
//! ```
//! use icecore_ledger::{Decoder, Source};
//! use icecore_stellar::{NetworkId, StellarDecoder, find_transaction, source};
//!
//! let opened = source::open("gen:seed=7,ledgers=3")?;
//! let network = NetworkId::of(opened.network_passphrase.as_deref().unwrap_or(icecore_stellar::PUBNET));
//! let mut stream = opened.source.stream(opened.source.range()?)?;
//! while let Some(raw) = stream.next_ledger()? {
//!     let ledger = StellarDecoder.decode(raw.bytes)?;
//!     assert_eq!(ledger.seq, raw.seq);
//!     for hash in ledger.hashes() {
//!         let found = find_transaction(raw.bytes, &hash, &network)?.expect("it was just seen");
//!         assert!(found.hash == hash || found.inner_hash == Some(hash));
//!     }
//! }
//! # Ok::<(), icecore_ledger::Error>(())
//! ```
//!
//! [`find_transaction`] gives one transaction's envelope, result and meta as slices of its ledger; with the feature
//! `json`, `to_json` shows them to people.

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
