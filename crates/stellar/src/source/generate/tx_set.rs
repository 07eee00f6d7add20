use super::{
    ledger::{BASE_FEE, Tx},
    out::Out,
};

/// The writer of a generalized transaction set's phases.
pub(super) struct TxSet<'a> {
    pub(super) out: &'a mut Out,
    pub(super) envelopes: &'a [u8],
}

impl TxSet<'_> {
    /// One component without a discount, or none at all.
    pub(super) fn component_phase(&mut self, txs: Vec<&Tx>) {
        self.out.u32(0);
        if txs.is_empty() {
            return self.out.u32(0);
        }
        self.out.words([1, 0]);
        self.base_fee();
        self.txs(txs);
    }

    /// One stage of clusters that could run at the same time.
    pub(super) fn parallel_phase(&mut self, txs: Vec<&Tx>) {
        const CLUSTERS: usize = 4;
        self.out.u32(1);
        self.base_fee();
        if txs.is_empty() {
            return self.out.u32(0);
        }
        let mut clusters: [Vec<&Tx>; CLUSTERS] = Default::default();
        for tx in txs {
            clusters[usize::from(tx.source[31]) % CLUSTERS].push(tx);
        }
        self.out.u32(1);
        self.out.count(clusters.iter().filter(|cluster| !cluster.is_empty()).count());
        for cluster in clusters.into_iter().filter(|cluster| !cluster.is_empty()) {
            self.txs(cluster);
        }
    }

    fn base_fee(&mut self) {
        self.out.u32(1);
        self.out.u64(BASE_FEE);
    }

    fn txs(&mut self, mut txs: Vec<&Tx>) {
        txs.sort_unstable_by_key(|tx| tx.hash);
        self.out.count(txs.len());
        for tx in txs {
            self.out.bytes(&self.envelopes[tx.envelope.clone()]);
        }
    }
}
