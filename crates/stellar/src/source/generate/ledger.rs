//! The bytes of one generated ledger.
//!
//! Two passes: the first draws the transactions and writes their envelopes aside, for their hashes are needed before
//! anything else; the second writes the ledger, the envelopes in the order of their hashes, then what came of each
//! transaction in the order they were applied.

use std::ops::Range;

use icecore_ledger::LedgerSeq;
use sha2::Digest;

use super::{
    Spec,
    out::{Draw, Out, kind},
    tx_set::TxSet,
    values::*,
    world::{ASSETS, World},
};

const ENVELOPE_TX: u32 = 2;
const ENVELOPE_FEE_BUMP: u32 = 5;
const PAYMENT: u32 = 1;
const INVOKE_HOST_FUNCTION: u32 = 24;
const ENTRY_ACCOUNT: u32 = 0;
const CHANGE_STATE: u32 = 3;
const CHANGE_UPDATED: u32 = 1;

/// When ledger 0 would have closed, in seconds since 1970; one follows every five seconds.
const EPOCH: u64 = 1_600_000_000;
const SECONDS_PER_LEDGER: u64 = 5;
pub(super) const BASE_FEE: u64 = 100;
/// Fits any ledger's transactions into the lower bits of an account's sequence number.
const SEQ_NUM_BITS: u32 = 20;
const _: () = assert!(super::MAX_TXS < 1 << SEQ_NUM_BITS);

/// What contracts do.
const FUNCTIONS: [&[u8]; 4] = [b"transfer", b"swap", b"deposit", b"harvest_rewards"];

/// A transaction as drawn.
pub(super) struct Tx {
    pub(super) hash: [u8; 32],
    /// The hash of the transaction inside a fee-bump.
    inner: Option<[u8; 32]>,
    /// Where its envelope is.
    pub(super) envelope: Range<usize>,
    /// The account that pays the fee.
    payer: [u8; 32],
    pub(super) source: [u8; 32],
    action: Action,
    seq_num: u64,
    fee: u64,
}

#[derive(Clone, Copy)]
enum Action {
    Pay { to: [u8; 32], asset: usize, amount: u64 },
    Call { number: u64, contract: [u8; 32], function: &'static [u8] },
}

/// Makes one ledger after the other in the same memory.
pub(super) struct Maker<'a> {
    spec: &'a Spec,
    world: &'a World,
    out: Out,
    envelopes: Out,
    txs: Vec<Tx>,
    draw: Draw,
}

impl<'a> Maker<'a> {
    pub(super) fn new(spec: &'a Spec, world: &'a World) -> Self {
        let draw = Draw::of(0, 0, 0);
        Maker { spec, world, out: Out::default(), envelopes: Out::default(), txs: Vec::new(), draw }
    }

    pub(super) fn ledger(&mut self, seq: LedgerSeq) -> &[u8] {
        self.draw = Draw::of(self.spec.seed, kind::LEDGER, u64::from(seq.0));
        self.out.0.clear();
        self.envelopes.0.clear();
        self.txs.clear();
        for index in 0..self.spec.txs {
            let tx = self.envelope((u64::from(seq.0) << SEQ_NUM_BITS) + index);
            self.txs.push(tx);
        }
        // Ledger meta 1 goes with transaction meta 3, ledger meta 2 with 4; either tells a fee rate.
        self.out.words([if self.v4() { 2 } else { 1 }, 1, 0]);
        self.out.u64(1000);
        self.header(seq);
        self.tx_set(seq);
        let txs = std::mem::take(&mut self.txs);
        self.out.count(txs.len());
        for tx in &txs {
            self.processing(seq, tx);
        }
        self.txs = txs;
        // No upgrades, no consensus messages; the size of the state; nothing evicted.
        self.out.words([0, 0]);
        self.out.u64(1 << 30);
        self.out.u32(0);
        if !self.v4() {
            self.out.u32(0);
        }
        &self.out.0
    }

    fn v4(&self) -> bool {
        self.spec.meta == 4
    }

    fn account(&mut self) -> [u8; 32] {
        let number = self.draw.skewed(self.spec.accounts);
        Draw::of(self.spec.seed, kind::ACCOUNT, number).array()
    }

    fn contract(&self, number: u64) -> [u8; 32] {
        Draw::of(self.spec.seed, kind::CONTRACT, number).array()
    }

    fn holder(&mut self) -> Holder {
        if self.draw.percent(80) {
            return Holder::Account(self.account());
        }
        let number = self.draw.skewed(self.spec.contracts);
        Holder::Contract(self.contract(number))
    }

    fn hash(&self, signed: Range<usize>) -> [u8; 32] {
        self.world.hasher.clone().chain_update(&self.envelopes.0[signed]).finalize().into()
    }

    /// Draws a transaction and writes its envelope. What is signed begins with the envelope's own type, so each hash
    /// is taken over bytes that lie here in one piece.
    fn envelope(&mut self, seq_num: u64) -> Tx {
        let start = self.envelopes.0.len();
        let fee = BASE_FEE + self.draw.below(BASE_FEE);
        let source = self.account();
        let action = self.action();
        if !self.draw.percent(self.spec.fee_bumps) {
            let hash = self.signed_tx(&source, seq_num, fee, action);
            let envelope = start..self.envelopes.0.len();
            return Tx { hash, inner: None, envelope, payer: source, source, action, seq_num, fee };
        }
        let (payer, fee) = (self.account(), 2 * fee);
        self.envelopes.words([ENVELOPE_FEE_BUMP, 0]);
        self.envelopes.bytes(&payer);
        self.envelopes.u64(fee);
        let inner = Some(self.signed_tx(&source, seq_num, fee, action));
        self.envelopes.u32(0);
        let hash = self.hash(start..self.envelopes.0.len());
        self.signature(&payer);
        Tx { hash, inner, envelope: start..self.envelopes.0.len(), payer, source, action, seq_num, fee }
    }

    fn action(&mut self) -> Action {
        if self.draw.percent(self.spec.payments) {
            let asset = self.draw.skewed(ASSETS) as usize;
            return Action::Pay { to: self.account(), asset, amount: self.draw.below(1 << 40) };
        }
        let number = self.draw.skewed(self.spec.contracts);
        let function = FUNCTIONS[self.draw.below(FUNCTIONS.len() as u64) as usize];
        Action::Call { number, contract: self.contract(number), function }
    }

    /// An envelope that is no fee-bump, with its signature; gives its hash.
    fn signed_tx(&mut self, source: &[u8; 32], seq_num: u64, fee: u64, action: Action) -> [u8; 32] {
        let start = self.envelopes.0.len();
        let nonce = self.draw.next();
        let out = &mut self.envelopes;
        out.words([ENVELOPE_TX, 0]);
        out.bytes(source);
        out.u32(fee as u32);
        out.u64(seq_num);
        // No preconditions, no memo, one operation of the same source account.
        out.words([0, 0, 1, 0]);
        match action {
            Action::Pay { to, asset, amount } => {
                out.words([PAYMENT, 0]);
                out.bytes(&to);
                match &self.world.assets[asset].credit {
                    None => out.u32(0),
                    Some((code, issuer)) => {
                        out.u32(1);
                        out.bytes(code);
                        out.u32(0);
                        out.bytes(issuer);
                    }
                }
                out.u64(amount);
                out.u32(0);
            }
            Action::Call { contract, function, .. } => {
                out.words([INVOKE_HOST_FUNCTION, 0, 1]);
                out.bytes(&contract);
                out.string(function);
                out.u32(2);
                out.words([scval::ADDRESS, 0, 0]);
                out.bytes(source);
                out.u32(scval::U64);
                out.u64(nonce);
                // No authorizations; then resources: reads the instance, writes one entry.
                out.words([0, 1, 0, 1]);
                contract_data_key(out, &contract, None);
                out.u32(1);
                contract_data_key(out, &contract, Some(source));
                out.words([4_000_000, 3_000, 600]);
                out.u64(50_000);
            }
        }
        let hash = self.hash(start..self.envelopes.0.len());
        self.signature(source);
        hash
    }

    fn signature(&mut self, by: &[u8; 32]) {
        self.envelopes.u32(1);
        self.envelopes.bytes(&by[28..]);
        let signature = self.draw.array::<64>();
        self.envelopes.string(&signature);
    }

    /// Ledgers are chained by their hashes, which are drawn, not computed: each must be known without the one before.
    fn header_hash(&self, seq: u32) -> [u8; 32] {
        Draw::of(self.spec.seed, kind::HEADER, u64::from(seq)).array()
    }

    fn header(&mut self, seq: LedgerSeq) {
        let (hash, previous) = (self.header_hash(seq.0), self.header_hash(seq.0 - 1));
        let protocol = if self.v4() { 23 } else { 22 };
        let out = &mut self.out;
        out.bytes(&hash);
        out.u32(protocol);
        out.bytes(&previous);
        out.bytes(&self.draw.array::<32>());
        out.u64(EPOCH + SECONDS_PER_LEDGER * u64::from(seq.0));
        // No upgrades; signed by a validator.
        out.words([0, 1, 0]);
        out.bytes(&Draw::of(self.spec.seed, kind::HEADER, u64::MAX).array::<32>());
        out.string(&self.draw.array::<64>());
        out.bytes(&self.draw.array::<32>());
        out.bytes(&self.draw.array::<32>());
        out.u32(seq.0);
        out.u64(1_054_439_020_873_472_865);
        out.u64(u64::from(seq.0) * 20_000);
        out.u32(0);
        out.u64(u64::from(seq.0) * 10);
        out.words([BASE_FEE as u32, 5_000_000, 1_000]);
        out.bytes(&[0; 128]);
        // The header's extension, and that of its place in the history.
        out.words([0, 0]);
    }

    /// Payments in the first phase, contract calls in the second, each in the order of their hashes.
    fn tx_set(&mut self, seq: LedgerSeq) {
        let mut payments = Vec::with_capacity(self.txs.len());
        let mut calls = Vec::with_capacity(self.txs.len());
        for tx in &self.txs {
            let phase = if matches!(tx.action, Action::Pay { .. }) { &mut payments } else { &mut calls };
            phase.push(tx);
        }
        let previous = self.header_hash(seq.0 - 1);
        let v4 = self.v4();
        let mut set = TxSet { out: &mut self.out, envelopes: &self.envelopes.0 };
        set.out.u32(1);
        set.out.bytes(&previous);
        set.out.u32(2);
        set.component_phase(payments);
        if v4 { set.parallel_phase(calls) } else { set.component_phase(calls) }
    }

    fn processing(&mut self, seq: LedgerSeq, tx: &Tx) {
        if self.v4() {
            self.out.u32(0);
        }
        self.result(tx);
        self.account_changes(seq, &tx.payer, tx);
        // Meta of this version, nothing changed before the one operation.
        self.out.words([self.spec.meta as u32, 0, 0, 1]);
        if self.v4() {
            self.out.u32(0);
        }
        match tx.action {
            Action::Pay { to, .. } => self.account_changes(seq, &to, tx),
            Action::Call { contract, .. } => self.contract_data_changes(seq, &contract, tx),
        }
        if self.v4() { self.meta_4(tx) } else { self.meta_3(tx) }
    }

    fn result(&mut self, tx: &Tx) {
        let results = |out: &mut Out| {
            out.words([1, 0]);
            match tx.action {
                Action::Pay { .. } => out.words([PAYMENT, 0]),
                Action::Call { .. } => {
                    out.words([INVOKE_HOST_FUNCTION, 0]);
                    out.bytes(&tx.source);
                }
            }
            out.u32(0);
        };
        let out = &mut self.out;
        out.bytes(&tx.hash);
        out.u64(tx.fee);
        match &tx.inner {
            None => {
                out.u32(0);
                results(out);
            }
            Some(inner) => {
                out.u32(1);
                out.bytes(inner);
                out.u64(0);
                out.u32(0);
                results(out);
                out.u32(0);
            }
        }
    }

    /// What an account was, and what it is now.
    fn account_changes(&mut self, seq: LedgerSeq, account: &[u8; 32], tx: &Tx) {
        let balance = 10_000_000 + self.draw.below(1 << 44);
        self.out.u32(2);
        for (change, modified, balance) in
            [(CHANGE_STATE, seq.0 - 1, balance), (CHANGE_UPDATED, seq.0, balance - tx.fee)]
        {
            self.out.words([change, modified, ENTRY_ACCOUNT, 0]);
            self.out.bytes(account);
            self.out.u64(balance);
            self.out.u64(tx.seq_num);
            // No sub-entries, inflation destination, flags, home domain; master weight 1; no signers, no extensions.
            self.out.words([0, 0, 0, 0, 0x0100_0000, 0, 0, 0]);
        }
    }

    fn contract_data_changes(&mut self, seq: LedgerSeq, contract: &[u8; 32], tx: &Tx) {
        self.out.u32(2);
        for (change, modified) in [(CHANGE_STATE, seq.0 - 1), (CHANGE_UPDATED, seq.0)] {
            self.out.words([change, modified, ENTRY_CONTRACT_DATA, 0]);
            contract_data(&mut self.out, contract, Some(&tx.source));
            let amount = self.draw.below(1 << 50);
            i128(&mut self.out, amount.into());
            self.out.u32(0);
        }
    }

    /// The rest of a `TransactionMetaV3`, from the changes after the operations.
    fn meta_3(&mut self, tx: &Tx) {
        self.out.u32(0);
        let Action::Call { number, contract, .. } = tx.action else { return self.out.u32(0) };
        self.out.words([1, 0]);
        self.call_events(number, &contract);
        self.out.u32(scval::VOID);
        self.diagnostics(tx, &contract);
    }

    /// The rest of a `TransactionMetaV4`, from the events of the one operation, and the changes after the fees.
    fn meta_4(&mut self, tx: &Tx) {
        match tx.action {
            Action::Pay { to, asset, amount } => {
                self.payment_event(tx, to, asset, amount);
                self.out.words([0, 0]);
                self.fee_events(tx, false);
                self.out.u32(0);
            }
            Action::Call { number, contract, .. } => {
                self.call_events(number, &contract);
                self.out.words([0, 1, 0, 1, scval::VOID]);
                self.fee_events(tx, true);
                self.diagnostics(tx, &contract);
            }
        }
        self.out.u32(0);
    }

    fn payment_event(&mut self, tx: &Tx, to: [u8; 32], asset: usize, amount: u64) {
        if self.spec.events == 0 {
            return self.out.u32(0);
        }
        self.out.u32(1);
        let contract = self.contract(asset as u64 % self.spec.contracts);
        event_head(&mut self.out, &contract, 4);
        symbol(&mut self.out, b"transfer");
        address(&mut self.out, Holder::Account(tx.source));
        address(&mut self.out, Holder::Account(to));
        string(&mut self.out, &self.world.assets[asset].name);
        i128(&mut self.out, amount.into());
    }

    fn call_events(&mut self, number: u64, contract: &[u8; 32]) {
        self.out.u32(self.spec.events as u32);
        // A contract has a favourite asset.
        let asset = (number % ASSETS) as usize;
        for _ in 0..self.spec.events {
            // Most events are of the contract called, some of contracts that it calls.
            let emitter = if self.draw.percent(80) {
                *contract
            } else {
                let number = self.draw.skewed(self.spec.contracts);
                self.contract(number)
            };
            self.call_event(&emitter, asset);
        }
    }

    fn call_event(&mut self, emitter: &[u8; 32], asset: usize) {
        let name: &[u8] = match self.draw.below(20) {
            0..13 => b"transfer",
            13..16 => b"mint",
            16..18 => b"burn",
            _ => b"sync",
        };
        let holders = match name {
            b"transfer" => 2,
            b"sync" => 0,
            _ => 1,
        };
        event_head(&mut self.out, emitter, if holders == 0 { 1 } else { 2 + holders });
        symbol(&mut self.out, name);
        for _ in 0..holders {
            let holder = self.holder();
            address(&mut self.out, holder);
        }
        let amount = self.draw.below(1 << 50);
        if holders == 0 {
            self.out.words([scval::VEC, 1, 2]);
            i128(&mut self.out, amount.into());
            i128(&mut self.out, -i128::from(amount));
        } else {
            string(&mut self.out, &self.world.assets[asset].name);
            i128(&mut self.out, amount.into());
        }
    }

    /// The fee of every transaction before all of them; what is given back of a call's after all, or right after it.
    fn fee_events(&mut self, tx: &Tx, call: bool) {
        const BEFORE_ALL_TXS: u32 = 0;
        const AFTER_TX: u32 = 1;
        const AFTER_ALL_TXS: u32 = 2;
        if self.spec.events == 0 {
            return self.out.u32(0);
        }
        let native = self.contract(0);
        let refund = if self.draw.percent(10) { AFTER_TX } else { AFTER_ALL_TXS };
        let fee = i128::from(tx.fee);
        let all = [(BEFORE_ALL_TXS, fee), (refund, -fee / 4)];
        let stages = if call { &all[..] } else { &all[..1] };
        self.out.count(stages.len());
        for (stage, amount) in stages {
            self.out.u32(*stage);
            event_head(&mut self.out, &native, 2);
            symbol(&mut self.out, b"fee");
            address(&mut self.out, Holder::Account(tx.payer));
            i128(&mut self.out, *amount);
        }
    }

    /// Now and then a call was traced.
    fn diagnostics(&mut self, tx: &Tx, contract: &[u8; 32]) {
        const DIAGNOSTIC: u32 = 2;
        if !self.draw.percent(5) {
            return self.out.u32(0);
        }
        // One, of a call that succeeded, emitted by nobody.
        self.out.words([1, 1, 0, 0, DIAGNOSTIC, 0, 2]);
        symbol(&mut self.out, b"fn_call");
        address(&mut self.out, Holder::Contract(*contract));
        address(&mut self.out, Holder::Account(tx.source));
    }
}
