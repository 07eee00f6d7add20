//! What is done, the same for both ways.

use crate::{
    BlockRef, CreateOptions, Error, NewTx, Options, Outpoint, OutputHash, Result, SpendInput, SpendTx, TxId,
};

use super::{Mix, Plan};

pub(super) const KINDS: [&str; 4] = ["create", "spend", "lock", "delete at height"];
/// The height of everything.
pub(super) const HEIGHT: u32 = 1000;
const RETENTION: u32 = 10;
/// By then everything that may be deleted has fallen due.
pub(super) const DUE: u32 = HEIGHT + RETENTION;
pub(super) const PAGE_SIZE: u32 = 128;
pub(super) const NOW_MS: u64 = 1_700_000_000_000;

/// The numbers of the transactions whose outputs are spent begin here; the others are those of the operations.
const SPENT_FROM: u64 = 1 << 40;

/// One operation, on the transaction of a number.
#[derive(Clone, Copy)]
pub(super) enum Op {
    Create(u64),
    Spend(u64, u32),
    Lock(u64),
    Delete(u64),
}

impl Op {
    pub(super) fn kind(self) -> usize {
        match self {
            Op::Create(_) => 0,
            Op::Spend(..) => 1,
            Op::Lock(_) => 2,
            Op::Delete(_) => 3,
        }
    }
}

/// The operations, in order, and what has to be stored before them.
pub(super) struct Script {
    pub(super) ops: Vec<Op>,
    /// To be spent from and to be locked.
    pub(super) alive: Vec<u64>,
    /// Stored so that they are to be deleted.
    pub(super) due: Vec<u64>,
    outputs: u32,
}

impl Script {
    pub(super) fn new(plan: &Plan) -> Result<Self> {
        let Mix { create, spend, lock, delete_at_height } = plan.mix;
        let shares = [create, spend, lock, delete_at_height].map(u64::from);
        let whole: u64 = shares.iter().sum();
        let counts = [plan.threads, plan.window, plan.batch, plan.outputs as usize];
        if whole == 0 || plan.operations == 0 || counts.contains(&0) {
            return Err(Error::Invalid {
                what: "a plan without shares, operations, threads, window, batch or outputs",
            });
        }
        if plan.outputs > PAGE_SIZE {
            return Err(Error::Invalid { what: "a plan is for transactions of one record" });
        }
        let mut script =
            Script { ops: Vec::new(), alive: Vec::new(), due: Vec::new(), outputs: plan.outputs };
        // All first outputs before any second one: what is spent together was rarely made together.
        let spends = plan.operations.div_ceil(whole) * u64::from(spend);
        let spent_from = spends.div_ceil(u64::from(plan.outputs)).max(1);
        let mut spent = 0;
        for number in 1..=plan.operations {
            // Evenly mixed, the same in every run.
            let at = number % whole;
            let upto = |kinds: usize| shares.iter().take(kinds).sum::<u64>();
            let op = match (1..=4).position(|kinds| at < upto(kinds)) {
                Some(0) => Op::Create(number),
                Some(1) => {
                    let (n, vout) = (SPENT_FROM + spent % spent_from, spent / spent_from);
                    if vout == 0 {
                        script.alive.push(n);
                    }
                    spent += 1;
                    Op::Spend(n, vout as u32)
                }
                Some(2) => {
                    script.alive.push(number);
                    Op::Lock(number)
                }
                _ => {
                    script.due.push(number);
                    Op::Delete(number)
                }
            };
            script.ops.push(op);
        }
        Ok(script)
    }

    pub(super) fn options(&self) -> Options {
        Options::new().page_size(PAGE_SIZE).retention_blocks(RETENTION).clock_ms(|| NOW_MS)
    }

    /// The transaction of a number; one that is due has nothing to spend.
    pub(super) fn tx(&self, n: u64, due: bool) -> NewTx {
        let output = |vout| (!due).then(|| hash(n, vout));
        NewTx { body: vec![n as u8; 200], ..NewTx::new(txid(n), (0..self.outputs).map(output).collect()) }
    }

    pub(super) fn create_options(due: bool) -> CreateOptions {
        let block = BlockRef { block_id: 1, height: HEIGHT, subtree: 0 };
        CreateOptions { mined: if due { vec![block] } else { vec![] }, ..CreateOptions::default() }
    }
}

/// Scattered like hashes.
pub(super) fn txid(n: u64) -> TxId {
    let mut id = [0; 32];
    let scattered = n.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ (n >> 7);
    id[..8].copy_from_slice(&scattered.to_be_bytes());
    id[8..16].copy_from_slice(&n.to_be_bytes());
    id[16..24].copy_from_slice(&scattered.rotate_left(17).to_be_bytes());
    TxId(id)
}

fn hash(n: u64, vout: u32) -> OutputHash {
    let mut hash = txid(n).0;
    hash[24..28].copy_from_slice(&vout.to_be_bytes());
    OutputHash(hash)
}

/// The transaction that spends an output.
pub(super) fn spending(n: u64, vout: u32) -> SpendTx {
    let outpoint = Outpoint { txid: txid(n), vout };
    let id = txid(n ^ (1 << 60) ^ (u64::from(vout) << 48));
    SpendTx { txid: id, inputs: vec![SpendInput { outpoint, hash: hash(n, vout) }] }
}
