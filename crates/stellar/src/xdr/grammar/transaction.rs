//! Transactions and their operations.

use super::prelude::*;

xdr! {
    union LiquidityPoolParameters { 0 => LiquidityPoolConstantProductParameters }
    struct MuxedAccountMed25519 { id: Hyper, ed25519: Uint256 }
    union MuxedAccount { 0 => Uint256, 256 => MuxedAccountMed25519 }
    struct DecoratedSignature { hint: SignatureHint, signature: Signature }
    struct CreateAccountOp { destination: AccountID, starting_balance: Hyper }
    struct PaymentOp { destination: MuxedAccount, asset: Asset, amount: Hyper }
    struct PathPaymentStrictReceiveOp {
        send_asset: Asset, send_max: Hyper, destination: MuxedAccount, dest_asset: Asset, dest_amount: Hyper,
        path: List<Asset, 5>,
    }
    struct PathPaymentStrictSendOp {
        send_asset: Asset, send_amount: Hyper, destination: MuxedAccount, dest_asset: Asset, dest_min: Hyper,
        path: List<Asset, 5>,
    }
    struct ManageSellOfferOp { selling: Asset, buying: Asset, amount: Hyper, price: Price, offer_id: Hyper }
    struct ManageBuyOfferOp { selling: Asset, buying: Asset, buy_amount: Hyper, price: Price, offer_id: Hyper }
    struct CreatePassiveSellOfferOp { selling: Asset, buying: Asset, amount: Hyper, price: Price }
    struct SetOptionsOp {
        inflation_dest: Opt<AccountID>, clear_flags: Opt<Int>, set_flags: Opt<Int>, master_weight: Opt<Int>,
        low_threshold: Opt<Int>, med_threshold: Opt<Int>, high_threshold: Opt<Int>, home_domain: Opt<String32>,
        signer: Opt<Signer>,
    }
    union ChangeTrustAsset { 0 => Void, 1 => AlphaNum4, 2 => AlphaNum12, 3 => LiquidityPoolParameters }
    struct ChangeTrustOp { line: ChangeTrustAsset, limit: Hyper }
    struct AllowTrustOp { trustor: AccountID, asset: AssetCode, authorize: Int }
    struct ManageDataOp { data_name: String64, data_value: Opt<DataValue> }
    struct BumpSequenceOp { bump_to: SequenceNumber }
    struct CreateClaimableBalanceOp { asset: Asset, amount: Hyper, claimants: List<Claimant, 10> }
    struct ClaimClaimableBalanceOp { balance_id: ClaimableBalanceID }
    struct BeginSponsoringFutureReservesOp { sponsored_id: AccountID }
    struct RevokeSponsorshipOpSigner { account_id: AccountID, signer_key: SignerKey }
    union RevokeSponsorshipOp { 0 => LedgerKey, 1 => RevokeSponsorshipOpSigner }
    struct ClawbackOp { asset: Asset, from: MuxedAccount, amount: Hyper }
    struct ClawbackClaimableBalanceOp { balance_id: ClaimableBalanceID }
    struct SetTrustLineFlagsOp { trustor: AccountID, asset: Asset, clear_flags: Int, set_flags: Int }
    struct LiquidityPoolDepositOp {
        liquidity_pool_id: PoolID, max_amount_a: Hyper, max_amount_b: Hyper, min_price: Price, max_price: Price,
    }
    struct LiquidityPoolWithdrawOp {
        liquidity_pool_id: PoolID, amount: Hyper, min_amount_a: Hyper, min_amount_b: Hyper,
    }
    struct ContractIDPreimageFromAddress { address: SCAddress, salt: Uint256 }
    union ContractIDPreimage { 0 => ContractIDPreimageFromAddress, 1 => Asset }
    struct CreateContractArgs { contract_id_preimage: ContractIDPreimage, executable: ContractExecutable }
    struct CreateContractArgsV2 {
        contract_id_preimage: ContractIDPreimage, executable: ContractExecutable, constructor_args: List<SCVal>,
    }
    struct InvokeContractArgs { contract_address: SCAddress, function_name: SCSymbol, args: List<SCVal> }
    union HostFunction { 0 => InvokeContractArgs, 1 => CreateContractArgs, 2 => Bytes, 3 => CreateContractArgsV2 }
    union SorobanAuthorizedFunction { 0 => InvokeContractArgs, 1 => CreateContractArgs, 2 => CreateContractArgsV2 }
    struct SorobanAuthorizedInvocation {
        function: SorobanAuthorizedFunction, sub_invocations: List<Nest<SorobanAuthorizedInvocation>>,
    }
    struct SorobanAddressCredentials {
        address: SCAddress, nonce: Hyper, signature_expiration_ledger: Int, signature: SCVal,
    }
    struct SorobanDelegateSignature {
        address: SCAddress, signature: SCVal, nested_delegates: List<Nest<SorobanDelegateSignature>>,
    }
    struct SorobanAddressCredentialsWithDelegates {
        address_credentials: SorobanAddressCredentials, delegates: List<SorobanDelegateSignature>,
    }
    union SorobanCredentials {
        0 => Void, 1 | 2 => SorobanAddressCredentials, 3 => SorobanAddressCredentialsWithDelegates,
    }
    struct SorobanAuthorizationEntry {
        credentials: SorobanCredentials, root_invocation: SorobanAuthorizedInvocation,
    }
    struct InvokeHostFunctionOp { host_function: HostFunction, auth: List<SorobanAuthorizationEntry> }
    struct ExtendFootprintTTLOp { ext: ExtensionPoint, extend_to: Int }
    struct RestoreFootprintOp { ext: ExtensionPoint }
    union OperationBody {
        0 => CreateAccountOp, 1 => PaymentOp, 2 => PathPaymentStrictReceiveOp, 3 => ManageSellOfferOp,
        4 => CreatePassiveSellOfferOp, 5 => SetOptionsOp, 6 => ChangeTrustOp, 7 => AllowTrustOp, 8 => MuxedAccount,
        9 | 17 => Void, 10 => ManageDataOp, 11 => BumpSequenceOp, 12 => ManageBuyOfferOp,
        13 => PathPaymentStrictSendOp, 14 => CreateClaimableBalanceOp, 15 => ClaimClaimableBalanceOp,
        16 => BeginSponsoringFutureReservesOp, 18 => RevokeSponsorshipOp, 19 => ClawbackOp,
        20 => ClawbackClaimableBalanceOp, 21 => SetTrustLineFlagsOp, 22 => LiquidityPoolDepositOp,
        23 => LiquidityPoolWithdrawOp, 24 => InvokeHostFunctionOp, 25 => ExtendFootprintTTLOp,
        26 => RestoreFootprintOp,
    }
    struct Operation { source_account: Opt<MuxedAccount>, body: OperationBody }
    union Memo { 0 => Void, 1 => Bytes<28>, 2 => Hyper, 3 | 4 => Hash }
    struct TimeBounds { min_time: TimePoint, max_time: TimePoint }
    struct LedgerBounds { min_ledger: Int, max_ledger: Int }
    struct PreconditionsV2 {
        time_bounds: Opt<TimeBounds>, ledger_bounds: Opt<LedgerBounds>, min_seq_num: Opt<SequenceNumber>,
        min_seq_age: Duration, min_seq_ledger_gap: Int, extra_signers: List<SignerKey, 2>,
    }
    union Preconditions { 0 => Void, 1 => TimeBounds, 2 => PreconditionsV2 }
    struct LedgerFootprint { read_only: List<LedgerKey>, read_write: List<LedgerKey> }
    struct SorobanResources {
        footprint: LedgerFootprint, instructions: Int, disk_read_bytes: Int, write_bytes: Int,
    }
    struct SorobanResourcesExtV0 { archived_soroban_entries: List<Int> }
    union SorobanTransactionDataExt { 0 => Void, 1 => SorobanResourcesExtV0 }
    struct SorobanTransactionData {
        ext: SorobanTransactionDataExt, resources: SorobanResources, resource_fee: Hyper,
    }
    struct TransactionV0 {
        source_account_ed25519: Uint256, fee: Int, seq_num: SequenceNumber, time_bounds: Opt<TimeBounds>,
        memo: Memo, operations: List<Operation, 100>, ext: ExtensionPoint,
    }
    struct TransactionV0Envelope { tx: TransactionV0, signatures: List<DecoratedSignature, 20> }
    union TransactionExt { 0 => Void, 1 => SorobanTransactionData }
    struct Transaction {
        source_account: MuxedAccount, fee: Int, seq_num: SequenceNumber, cond: Preconditions, memo: Memo,
        operations: List<Operation, 100>, ext: TransactionExt,
    }
    struct TransactionV1Envelope { tx: Transaction, signatures: List<DecoratedSignature, 20> }
    union FeeBumpTransactionInnerTx { 2 => TransactionV1Envelope }
    struct FeeBumpTransaction {
        fee_source: MuxedAccount, fee: Hyper, inner_tx: FeeBumpTransactionInnerTx, ext: ExtensionPoint,
    }
    struct FeeBumpTransactionEnvelope { tx: FeeBumpTransaction, signatures: List<DecoratedSignature, 20> }
    union TransactionEnvelope {
        0 => TransactionV0Envelope, 2 => TransactionV1Envelope, 5 => FeeBumpTransactionEnvelope,
    }
}
