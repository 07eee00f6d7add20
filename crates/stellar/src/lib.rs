//! Placeholder; the story is told here.

pub mod decode;
pub mod source;
pub mod xdr;

pub use decode::StellarDecoder;
