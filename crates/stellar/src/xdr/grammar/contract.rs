//! Contract values.

use super::prelude::*;

pub(crate) type SCBytes = Bytes;
pub(crate) type SCString = Bytes;
pub(crate) type SCSymbol = Bytes<32>;
pub(crate) type SCVec = List<Nest<SCVal>>;
pub(crate) type SCMap = List<Nest<SCMapEntry>>;

xdr! {
    enum SCErrorCode { 0..=9 }
    union SCError { 0 => Int, 1..=9 => SCErrorCode }
    struct UInt128Parts { hi: Hyper, lo: Hyper }
    struct Int128Parts { hi: Hyper, lo: Hyper }
    struct UInt256Parts { hi_hi: Hyper, hi_lo: Hyper, lo_hi: Hyper, lo_lo: Hyper }
    struct Int256Parts { hi_hi: Hyper, hi_lo: Hyper, lo_hi: Hyper, lo_lo: Hyper }
    struct MuxedEd25519Account { id: Hyper, ed25519: Uint256 }
    struct MuxedContract { id: Hyper, contract_id: ContractID }
    union SCAddress {
        0 => AccountID, 1 => ContractID, 2 => MuxedEd25519Account, 3 => ClaimableBalanceID, 4 => PoolID,
        5 => MuxedContract,
    }
    struct ContractExecutableExternalRef { executable_owner: SCAddress, tag: SCString }
    union ContractExecutable { 0 => Hash, 1 => Void, 2 => ContractExecutableExternalRef }
    struct SCNonceKey { nonce: Hyper }
    struct SCContractInstance { executable: ContractExecutable, storage: Opt<SCMap> }
    union SCVal {
        0 => Bool, 1 | 20 => Void, 2 => SCError, 3 | 4 => Int, 5 | 6 => Hyper, 7 => TimePoint, 8 => Duration,
        9 => UInt128Parts, 10 => Int128Parts, 11 => UInt256Parts, 12 => Int256Parts, 13 => SCBytes,
        14 | 22 => SCString, 15 => SCSymbol, 16 => Opt<SCVec>, 17 => Opt<SCMap>, 18 => SCAddress,
        19 => SCContractInstance, 21 => SCNonceKey,
    }
    struct SCMapEntry { key: SCVal, val: SCVal }
}
