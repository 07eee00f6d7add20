//! Values of contracts: addresses, symbols, numbers, and what is made of them.

use super::out::Out;

pub(super) mod scval {
    pub(in super::super) const VOID: u32 = 1;
    pub(in super::super) const U64: u32 = 5;
    pub(in super::super) const I128: u32 = 10;
    pub(in super::super) const STRING: u32 = 14;
    pub(in super::super) const SYMBOL: u32 = 15;
    pub(in super::super) const VEC: u32 = 16;
    pub(in super::super) const ADDRESS: u32 = 18;
}

/// The type of entries that hold what contracts store.
pub(super) const ENTRY_CONTRACT_DATA: u32 = 6;

/// Who holds something.
#[derive(Clone, Copy)]
pub(super) enum Holder {
    Account([u8; 32]),
    Contract([u8; 32]),
}

/// A contract's event of this many topics; the topics and the data follow.
pub(super) fn event_head(out: &mut Out, contract: &[u8; 32], topics: u32) {
    const CONTRACT: u32 = 1;
    out.words([0, 1]);
    out.bytes(contract);
    out.words([CONTRACT, 0, topics]);
}

pub(super) fn contract_data_key(out: &mut Out, contract: &[u8; 32], owner: Option<&[u8; 32]>) {
    out.u32(ENTRY_CONTRACT_DATA);
    contract_data(out, contract, owner);
}

/// The contract, the key of its instance or of an owner's balance, and that it is persistent.
pub(super) fn contract_data(out: &mut Out, contract: &[u8; 32], owner: Option<&[u8; 32]>) {
    const INSTANCE_KEY: u32 = 20;
    const PERSISTENT: u32 = 1;
    out.u32(1);
    out.bytes(contract);
    match owner {
        None => out.u32(INSTANCE_KEY),
        Some(owner) => {
            out.words([scval::VEC, 1, 2]);
            symbol(out, b"Balance");
            address(out, Holder::Account(*owner));
        }
    }
    out.u32(PERSISTENT);
}

pub(super) fn symbol(out: &mut Out, name: &[u8]) {
    out.u32(scval::SYMBOL);
    out.string(name);
}

pub(super) fn string(out: &mut Out, text: &str) {
    out.u32(scval::STRING);
    out.string(text.as_bytes());
}

pub(super) fn address(out: &mut Out, holder: Holder) {
    match holder {
        Holder::Account(key) => {
            out.words([scval::ADDRESS, 0, 0]);
            out.bytes(&key);
        }
        Holder::Contract(id) => {
            out.words([scval::ADDRESS, 1]);
            out.bytes(&id);
        }
    }
}

pub(super) fn i128(out: &mut Out, value: i128) {
    out.u32(scval::I128);
    out.bytes(&value.to_be_bytes());
}
