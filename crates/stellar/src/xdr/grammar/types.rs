//! What every other file uses.

use super::prelude::*;

pub(crate) type Hash = Opaque<32>;
pub(crate) type Uint256 = Opaque<32>;
pub(crate) type TimePoint = Hyper;
pub(crate) type Duration = Hyper;
pub(crate) type TimePointMs = Hyper;
pub(crate) type Signature = Bytes<64>;
pub(crate) type SignatureHint = Opaque<4>;
pub(crate) type NodeID = PublicKey;
pub(crate) type AccountID = PublicKey;
pub(crate) type ContractID = Hash;
pub(crate) type PoolID = Hash;

xdr! {
    union ExtensionPoint { 0 => Void }
    union PublicKey { 0 => Uint256 }
    struct SignerKeyEd25519SignedPayload { ed25519: Uint256, payload: Bytes<64> }
    union SignerKey { 0..=2 => Uint256, 3 => SignerKeyEd25519SignedPayload }
    union ClaimableBalanceID { 0 => Hash }
}
