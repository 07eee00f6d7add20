//! The types of a closed ledger, in the order and with the names of the protocol's own definitions.
//!
//! What [`crate::decode`] reads for its contents is walked by hand there, and missing here.

mod config;
mod contract;
mod entry;
mod ledger;
mod result;
mod transaction;
mod types;

pub(crate) use config::*;
pub(crate) use contract::*;
pub(crate) use entry::*;
pub(crate) use ledger::*;
pub(crate) use result::*;
pub(crate) use transaction::*;
pub(crate) use types::*;

/// What every file of the grammar is written with.
mod prelude {
    pub(super) use super::*;
    pub(super) use crate::xdr::shape::*;
    pub(super) use crate::xdr::{Cursor, Step};
}
