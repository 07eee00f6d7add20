//! Ledger entries and their keys.

use super::prelude::*;

pub(crate) type Thresholds = Opaque<4>;
pub(crate) type String32 = Bytes<32>;
pub(crate) type String64 = Bytes<64>;
pub(crate) type SequenceNumber = Hyper;
pub(crate) type DataValue = Bytes<64>;
pub(crate) type AssetCode4 = Opaque<4>;
pub(crate) type AssetCode12 = Opaque<12>;
pub(crate) type SponsorshipDescriptor = Opt<AccountID>;

xdr! {
    union AssetCode { 1 => AssetCode4, 2 => AssetCode12 }
    struct AlphaNum4 { asset_code: AssetCode4, issuer: AccountID }
    struct AlphaNum12 { asset_code: AssetCode12, issuer: AccountID }
    union Asset { 0 => Void, 1 => AlphaNum4, 2 => AlphaNum12 }
    struct Price { n: Int, d: Int }
    struct Liabilities { buying: Hyper, selling: Hyper }
    struct Signer { key: SignerKey, weight: Int }
    struct AccountEntryExtensionV3 { ext: ExtensionPoint, seq_ledger: Int, seq_time: TimePoint }
    union AccountEntryExtensionV2Ext { 0 => Void, 3 => AccountEntryExtensionV3 }
    struct AccountEntryExtensionV2 {
        num_sponsored: Int, num_sponsoring: Int, signer_sponsoring_ids: List<SponsorshipDescriptor, 20>,
        ext: AccountEntryExtensionV2Ext,
    }
    union AccountEntryExtensionV1Ext { 0 => Void, 2 => AccountEntryExtensionV2 }
    struct AccountEntryExtensionV1 { liabilities: Liabilities, ext: AccountEntryExtensionV1Ext }
    union AccountEntryExt { 0 => Void, 1 => AccountEntryExtensionV1 }
    struct AccountEntry {
        account_id: AccountID, balance: Hyper, seq_num: SequenceNumber, num_sub_entries: Int,
        inflation_dest: Opt<AccountID>, flags: Int, home_domain: String32, thresholds: Thresholds,
        signers: List<Signer, 20>, ext: AccountEntryExt,
    }
    union TrustLineAsset { 0 => Void, 1 => AlphaNum4, 2 => AlphaNum12, 3 => PoolID }
    struct TrustLineEntryExtensionV2 { liquidity_pool_use_count: Int, ext: ExtensionPoint }
    union TrustLineEntryV1Ext { 0 => Void, 2 => TrustLineEntryExtensionV2 }
    struct TrustLineEntryV1 { liabilities: Liabilities, ext: TrustLineEntryV1Ext }
    union TrustLineEntryExt { 0 => Void, 1 => TrustLineEntryV1 }
    struct TrustLineEntry {
        account_id: AccountID, asset: TrustLineAsset, balance: Hyper, limit: Hyper, flags: Int,
        ext: TrustLineEntryExt,
    }
    struct OfferEntry {
        seller_id: AccountID, offer_id: Hyper, selling: Asset, buying: Asset, amount: Hyper, price: Price,
        flags: Int, ext: ExtensionPoint,
    }
    struct DataEntry { account_id: AccountID, data_name: String64, data_value: DataValue, ext: ExtensionPoint }
    union ClaimPredicate {
        0 => Void, 1 | 2 => List<Nest<ClaimPredicate>, 2>, 3 => Opt<Nest<ClaimPredicate>>, 4 | 5 => Hyper,
    }
    struct ClaimantV0 { destination: AccountID, predicate: ClaimPredicate }
    union Claimant { 0 => ClaimantV0 }
    struct ClaimableBalanceEntryExtensionV1 { ext: ExtensionPoint, flags: Int }
    union ClaimableBalanceEntryExt { 0 => Void, 1 => ClaimableBalanceEntryExtensionV1 }
    struct ClaimableBalanceEntry {
        balance_id: ClaimableBalanceID, claimants: List<Claimant, 10>, asset: Asset, amount: Hyper,
        ext: ClaimableBalanceEntryExt,
    }
    struct LiquidityPoolConstantProductParameters { asset_a: Asset, asset_b: Asset, fee: Int }
    struct LiquidityPoolEntryConstantProduct {
        params: LiquidityPoolConstantProductParameters, reserve_a: Hyper, reserve_b: Hyper,
        total_pool_shares: Hyper, pool_shares_trust_line_count: Hyper,
    }
    union LiquidityPoolEntryBody { 0 => LiquidityPoolEntryConstantProduct }
    struct LiquidityPoolEntry { liquidity_pool_id: PoolID, body: LiquidityPoolEntryBody }
    enum ContractDataDurability { 0 | 1 }
    struct ContractDataEntry {
        ext: ExtensionPoint, contract: SCAddress, key: SCVal, durability: ContractDataDurability, val: SCVal,
    }
    struct ContractCodeCostInputs {
        ext: ExtensionPoint, n_instructions: Int, n_functions: Int, n_globals: Int, n_table_entries: Int,
        n_types: Int, n_data_segments: Int, n_elem_segments: Int, n_imports: Int, n_exports: Int,
        n_data_segment_bytes: Int,
    }
    struct ContractCodeEntryV1 { ext: ExtensionPoint, cost_inputs: ContractCodeCostInputs }
    union ContractCodeEntryExt { 0 => Void, 1 => ContractCodeEntryV1 }
    struct ContractCodeEntry { ext: ContractCodeEntryExt, hash: Hash, code: Bytes }
    struct TTLEntry { key_hash: Hash, live_until_ledger_seq: Int }
    struct LedgerEntryExtensionV1 { sponsoring_id: SponsorshipDescriptor, ext: ExtensionPoint }
    union LedgerEntryData {
        0 => AccountEntry, 1 => TrustLineEntry, 2 => OfferEntry, 3 => DataEntry, 4 => ClaimableBalanceEntry,
        5 => LiquidityPoolEntry, 6 => ContractDataEntry, 7 => ContractCodeEntry, 8 => ConfigSettingEntry,
        9 => TTLEntry,
    }
    union LedgerEntryExt { 0 => Void, 1 => LedgerEntryExtensionV1 }
    struct LedgerEntry { last_modified_ledger_seq: Int, data: LedgerEntryData, ext: LedgerEntryExt }
    struct LedgerKeyAccount { account_id: AccountID }
    struct LedgerKeyTrustLine { account_id: AccountID, asset: TrustLineAsset }
    struct LedgerKeyOffer { seller_id: AccountID, offer_id: Hyper }
    struct LedgerKeyData { account_id: AccountID, data_name: String64 }
    struct LedgerKeyClaimableBalance { balance_id: ClaimableBalanceID }
    struct LedgerKeyLiquidityPool { liquidity_pool_id: PoolID }
    struct LedgerKeyContractData { contract: SCAddress, key: SCVal, durability: ContractDataDurability }
    struct LedgerKeyContractCode { hash: Hash }
    struct LedgerKeyConfigSetting { config_setting_id: ConfigSettingID }
    struct LedgerKeyTtl { key_hash: Hash }
    union LedgerKey {
        0 => LedgerKeyAccount, 1 => LedgerKeyTrustLine, 2 => LedgerKeyOffer, 3 => LedgerKeyData,
        4 => LedgerKeyClaimableBalance, 5 => LedgerKeyLiquidityPool, 6 => LedgerKeyContractData,
        7 => LedgerKeyContractCode, 8 => LedgerKeyConfigSetting, 9 => LedgerKeyTtl,
    }
}
