//! Network settings.

use super::prelude::*;

pub(crate) type EncodedLedgerKey = Bytes;
pub(crate) type ContractCostParams = List<ContractCostParamEntry, 1024>;

xdr! {
    struct ConfigSettingContractExecutionLanesV0 { ledger_max_tx_count: Int }
    struct ConfigSettingContractComputeV0 {
        ledger_max_instructions: Hyper, tx_max_instructions: Hyper, fee_rate_per_instructions_increment: Hyper,
        tx_memory_limit: Int,
    }
    struct ConfigSettingContractParallelComputeV0 { ledger_max_dependent_tx_clusters: Int }
    struct ConfigSettingContractLedgerCostV0 {
        ledger_max_disk_read_entries: Int, ledger_max_disk_read_bytes: Int, ledger_max_write_ledger_entries: Int,
        ledger_max_write_bytes: Int, tx_max_disk_read_entries: Int, tx_max_disk_read_bytes: Int,
        tx_max_write_ledger_entries: Int, tx_max_write_bytes: Int, fee_disk_read_ledger_entry: Hyper,
        fee_write_ledger_entry: Hyper, fee_disk_read1_kb: Hyper, soroban_state_target_size_bytes: Hyper,
        rent_fee1_kb_soroban_state_size_low: Hyper, rent_fee1_kb_soroban_state_size_high: Hyper,
        soroban_state_rent_fee_growth_factor: Int,
    }
    struct ConfigSettingContractLedgerCostExtV0 { tx_max_footprint_entries: Int, fee_write1_kb: Hyper }
    struct ConfigSettingContractHistoricalDataV0 { fee_historical1_kb: Hyper }
    struct ConfigSettingContractEventsV0 { tx_max_contract_events_size_bytes: Int, fee_contract_events1_kb: Hyper }
    struct ConfigSettingContractBandwidthV0 {
        ledger_max_txs_size_bytes: Int, tx_max_size_bytes: Int, fee_tx_size1_kb: Hyper,
    }
    struct ContractCostParamEntry { ext: ExtensionPoint, const_term: Hyper, linear_term: Hyper }
    struct StateArchivalSettings {
        max_entry_ttl: Int, min_temporary_ttl: Int, min_persistent_ttl: Int,
        persistent_rent_rate_denominator: Hyper, temp_rent_rate_denominator: Hyper, max_entries_to_archive: Int,
        live_soroban_state_size_window_sample_size: Int, live_soroban_state_size_window_sample_period: Int,
        eviction_scan_size: Int, starting_eviction_scan_level: Int,
    }
    struct EvictionIterator { bucket_list_level: Int, is_curr_bucket: Bool, bucket_file_offset: Hyper }
    struct ConfigSettingSCPTiming {
        ledger_target_close_time_milliseconds: Int, nomination_timeout_initial_milliseconds: Int,
        nomination_timeout_increment_milliseconds: Int, ballot_timeout_initial_milliseconds: Int,
        ballot_timeout_increment_milliseconds: Int,
    }
    struct FrozenLedgerKeys { keys: List<EncodedLedgerKey> }
    struct FrozenLedgerKeysDelta {
        keys_to_freeze: List<EncodedLedgerKey>, keys_to_unfreeze: List<EncodedLedgerKey>,
    }
    struct FreezeBypassTxs { tx_hashes: List<Hash> }
    struct FreezeBypassTxsDelta { add_txs: List<Hash>, remove_txs: List<Hash> }
    enum ConfigSettingID { 0..=20 }
    union ConfigSettingEntry {
        0 | 8 | 9 => Int, 1 => ConfigSettingContractComputeV0, 2 => ConfigSettingContractLedgerCostV0,
        3 => ConfigSettingContractHistoricalDataV0, 4 => ConfigSettingContractEventsV0,
        5 => ConfigSettingContractBandwidthV0, 6 | 7 => ContractCostParams, 10 => StateArchivalSettings,
        11 => ConfigSettingContractExecutionLanesV0, 12 => List<Hyper>, 13 => EvictionIterator,
        14 => ConfigSettingContractParallelComputeV0, 15 => ConfigSettingContractLedgerCostExtV0,
        16 => ConfigSettingSCPTiming, 17 => FrozenLedgerKeys, 18 => FrozenLedgerKeysDelta, 19 => FreezeBypassTxs,
        20 => FreezeBypassTxsDelta,
    }
}
