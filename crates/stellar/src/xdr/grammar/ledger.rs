//! The parts of a closed ledger, the changes it made, and what consensus left behind.

use super::prelude::*;

pub(crate) type Value = Bytes;
pub(crate) type UpgradeType = Bytes<128>;
pub(crate) type LedgerEntryChanges = List<LedgerEntryChange>;

xdr! {
    struct SCPBallot { counter: Int, value: Value }
    struct SCPNomination { quorum_set_hash: Hash, votes: List<Value>, accepted: List<Value> }
    struct SCPStatementPrepare {
        quorum_set_hash: Hash, ballot: SCPBallot, prepared: Opt<SCPBallot>, prepared_prime: Opt<SCPBallot>,
        n_c: Int, n_h: Int,
    }
    struct SCPStatementConfirm {
        ballot: SCPBallot, n_prepared: Int, n_commit: Int, n_h: Int, quorum_set_hash: Hash,
    }
    struct SCPStatementExternalize { commit: SCPBallot, n_h: Int, commit_quorum_set_hash: Hash }
    union SCPStatementPledges {
        0 => SCPStatementPrepare, 1 => SCPStatementConfirm, 2 => SCPStatementExternalize, 3 => SCPNomination,
    }
    struct SCPStatement { node_id: NodeID, slot_index: Hyper, pledges: SCPStatementPledges }
    struct SCPEnvelope { statement: SCPStatement, signature: Signature }
    struct SCPQuorumSet { threshold: Int, validators: List<NodeID>, inner_sets: List<Nest<SCPQuorumSet>> }
    struct LedgerCloseValueSignature { node_id: NodeID, signature: Signature }
    struct StellarValueProposedValue {
        tx_set_hash: Hash, previous_ledger_hash: Hash, previous_ledger_version: Int,
        lc_value_signature: LedgerCloseValueSignature,
    }
    struct StellarValueSignedMsValue { close_time_ms: TimePointMs, lc_value_signature: LedgerCloseValueSignature }
    struct StellarValueProposedMsValue {
        close_time_ms: TimePointMs, tx_set_hash: Hash, previous_ledger_hash: Hash, previous_ledger_version: Int,
        lc_value_signature: LedgerCloseValueSignature,
    }
    union StellarValueExt {
        0 => Void, 1 => LedgerCloseValueSignature, 2 => StellarValueProposedValue, 3 => StellarValueSignedMsValue,
        4 => StellarValueProposedMsValue,
    }
    struct LedgerHeaderExtensionV1 { flags: Int, ext: ExtensionPoint }
    union LedgerHeaderExt { 0 => Void, 1 => LedgerHeaderExtensionV1 }
    struct LedgerHeaderTail {
        total_coins: Hyper, fee_pool: Hyper, inflation_seq: Int, id_pool: Hyper, base_fee: Int, base_reserve: Int,
        max_tx_set_size: Int, skip_list: Opaque<{ 4 * 32 }>, ext: LedgerHeaderExt,
    }
    struct ConfigUpgradeSetKey { contract_id: ContractID, content_hash: Hash }
    union LedgerUpgrade { 1..=5 | 7 => Int, 6 => ConfigUpgradeSetKey }
    struct LedgerSCPMessages { ledger_seq: Int, messages: List<SCPEnvelope> }
    struct SCPHistoryEntryV0 { quorum_sets: List<SCPQuorumSet>, ledger_messages: LedgerSCPMessages }
    union SCPHistoryEntry { 0 => SCPHistoryEntryV0 }
    union LedgerEntryChange { 0 | 1 | 3 | 4 => LedgerEntry, 2 => LedgerKey }
    struct OperationMeta { changes: LedgerEntryChanges }
    struct TransactionMetaV1 { tx_changes: LedgerEntryChanges, operations: List<OperationMeta> }
    struct TransactionMetaV2 {
        tx_changes_before: LedgerEntryChanges, operations: List<OperationMeta>,
        tx_changes_after: LedgerEntryChanges,
    }
    enum ContractEventType { 0..=2 }
    struct ContractEventV0 { topics: List<SCVal>, data: SCVal }
    union ContractEventBody { 0 => ContractEventV0 }
    struct ContractEvent {
        ext: ExtensionPoint, contract_id: Opt<ContractID>, type: ContractEventType, body: ContractEventBody,
    }
    struct DiagnosticEvent { in_successful_contract_call: Bool, event: ContractEvent }
    struct SorobanTransactionMetaExtV1 {
        ext: ExtensionPoint, total_non_refundable_resource_fee_charged: Hyper,
        total_refundable_resource_fee_charged: Hyper, rent_fee_charged: Hyper,
    }
    union SorobanTransactionMetaExt { 0 => Void, 1 => SorobanTransactionMetaExtV1 }
    struct SorobanTransactionMetaV2 { ext: SorobanTransactionMetaExt, return_value: Opt<SCVal> }
    struct UpgradeEntryMeta { upgrade: LedgerUpgrade, changes: LedgerEntryChanges }
    struct LedgerCloseMetaExtV1 { ext: ExtensionPoint, soroban_fee_write1_kb: Hyper }
    union LedgerCloseMetaExt { 0 => Void, 1 => LedgerCloseMetaExtV1 }
}
