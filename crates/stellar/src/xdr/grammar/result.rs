//! Results of operations and transactions.

use super::prelude::*;

xdr! {
    struct ClaimOfferAtomV0 {
        seller_ed25519: Uint256, offer_id: Hyper, asset_sold: Asset, amount_sold: Hyper, asset_bought: Asset,
        amount_bought: Hyper,
    }
    struct ClaimOfferAtom {
        seller_id: AccountID, offer_id: Hyper, asset_sold: Asset, amount_sold: Hyper, asset_bought: Asset,
        amount_bought: Hyper,
    }
    struct ClaimLiquidityAtom {
        liquidity_pool_id: PoolID, asset_sold: Asset, amount_sold: Hyper, asset_bought: Asset, amount_bought: Hyper,
    }
    union ClaimAtom { 0 => ClaimOfferAtomV0, 1 => ClaimOfferAtom, 2 => ClaimLiquidityAtom }
    union CreateAccountResult { -4..=0 => Void }
    union PaymentResult { -9..=0 => Void }
    struct SimplePaymentResult { destination: AccountID, asset: Asset, amount: Hyper }
    struct PathPaymentStrictReceiveResultSuccess { offers: List<ClaimAtom>, last: SimplePaymentResult }
    union PathPaymentStrictReceiveResult {
        0 => PathPaymentStrictReceiveResultSuccess, -12..=-10 | -8..=-1 => Void, -9 => Asset,
    }
    struct PathPaymentStrictSendResultSuccess { offers: List<ClaimAtom>, last: SimplePaymentResult }
    union PathPaymentStrictSendResult {
        0 => PathPaymentStrictSendResultSuccess, -12..=-10 | -8..=-1 => Void, -9 => Asset,
    }
    union ManageOfferSuccessResultOffer { 0 | 1 => OfferEntry, 2 => Void }
    struct ManageOfferSuccessResult { offers_claimed: List<ClaimAtom>, offer: ManageOfferSuccessResultOffer }
    union ManageSellOfferResult { 0 => ManageOfferSuccessResult, -12..=-1 => Void }
    union ManageBuyOfferResult { 0 => ManageOfferSuccessResult, -12..=-1 => Void }
    union SetOptionsResult { -10..=0 => Void }
    union ChangeTrustResult { -8..=0 => Void }
    union AllowTrustResult { -6..=0 => Void }
    union AccountMergeResult { 0 => Hyper, -7..=-1 => Void }
    struct InflationPayout { destination: AccountID, amount: Hyper }
    union InflationResult { 0 => List<InflationPayout>, -1 => Void }
    union ManageDataResult { -4..=0 => Void }
    union BumpSequenceResult { -1 | 0 => Void }
    union CreateClaimableBalanceResult { 0 => ClaimableBalanceID, -5..=-1 => Void }
    union ClaimClaimableBalanceResult { -6..=0 => Void }
    union BeginSponsoringFutureReservesResult { -3..=0 => Void }
    union EndSponsoringFutureReservesResult { -1 | 0 => Void }
    union RevokeSponsorshipResult { -5..=0 => Void }
    union ClawbackResult { -4..=0 => Void }
    union ClawbackClaimableBalanceResult { -3..=0 => Void }
    union SetTrustLineFlagsResult { -5..=0 => Void }
    union LiquidityPoolDepositResult { -8..=0 => Void }
    union LiquidityPoolWithdrawResult { -6..=0 => Void }
    union InvokeHostFunctionResult { 0 => Hash, -5..=-1 => Void }
    union ExtendFootprintTTLResult { -3..=0 => Void }
    union RestoreFootprintResult { -3..=0 => Void }
    union OperationResultTr {
        0 => CreateAccountResult, 1 => PaymentResult, 2 => PathPaymentStrictReceiveResult,
        3 | 4 => ManageSellOfferResult, 5 => SetOptionsResult, 6 => ChangeTrustResult, 7 => AllowTrustResult,
        8 => AccountMergeResult, 9 => InflationResult, 10 => ManageDataResult, 11 => BumpSequenceResult,
        12 => ManageBuyOfferResult, 13 => PathPaymentStrictSendResult, 14 => CreateClaimableBalanceResult,
        15 => ClaimClaimableBalanceResult, 16 => BeginSponsoringFutureReservesResult,
        17 => EndSponsoringFutureReservesResult, 18 => RevokeSponsorshipResult, 19 => ClawbackResult,
        20 => ClawbackClaimableBalanceResult, 21 => SetTrustLineFlagsResult, 22 => LiquidityPoolDepositResult,
        23 => LiquidityPoolWithdrawResult, 24 => InvokeHostFunctionResult, 25 => ExtendFootprintTTLResult,
        26 => RestoreFootprintResult,
    }
    union OperationResult { 0 => OperationResultTr, -6..=-1 => Void }
    union InnerTransactionResultResult { -1 | 0 => List<OperationResult>, -18..=-14 | -12..=-2 => Void }
    struct InnerTransactionResult { fee_charged: Hyper, result: InnerTransactionResultResult, ext: ExtensionPoint }
    struct InnerTransactionResultPair { transaction_hash: Hash, result: InnerTransactionResult }
    union TransactionResultResult {
        -13 | 1 => InnerTransactionResultPair, -1 | 0 => List<OperationResult>, -18..=-14 | -12..=-2 => Void,
    }
    struct TransactionResult { fee_charged: Hyper, result: TransactionResultResult, ext: ExtensionPoint }
}
