//! The ordered end of everything.
//!
//! ```text
//!   closing latch ─▶ tier of lowest weight: hook, cancel, join, all together ─▶ next tier ─▶ … ─▶ reap orphans ─▶ report
//!                                                                                          ▲          │ one was parked
//!                                                                                          └──────────┘ meanwhile
//! ```
//!
//! How far it has come is kept in the table, so a shutdown whose future is dropped is taken up where it stopped.

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    Key, WorkerStatus, mutants,
    shared::{IfDropped, Shared},
    status::ShutdownReport,
    table::Closing,
    wait::{Time, join_all},
};

impl<K: Key> Shared<K> {
    /// Sets the closing latch: from now on every start is refused.
    pub(crate) fn close(&self) {
        let since = self.now();
        let closing = || Closing { since, seen: BTreeMap::new(), reaped: Vec::new() };
        self.table().closing.get_or_insert_with(closing);
    }

    pub(crate) async fn shut_down(self: &Arc<Self>, time: Time<'_>) -> ShutdownReport<K> {
        self.close();
        if mutants::on("shutdown_is_not_shared") {
            return self.run_shutdown(time).await;
        }
        self.shutdown.share(time, || self.run_shutdown(time)).await
    }

    async fn run_shutdown(&self, time: Time<'_>) -> ShutdownReport<K> {
        if mutants::on("shutdown_is_not_shared")
            && let Some(closing) = &mut self.table().closing
        {
            closing.seen.clear();
        }
        self.run_tiers(time, None).await;
        loop {
            let reaped = self.reap(time, self.orphan_grace).await;
            let survivors = reaped.iter().any(|(_, status)| status.is_wedged());
            let ended = reaped.into_iter().filter(|(_, status)| !status.is_wedged());
            if let Some(closing) = &mut self.table().closing {
                closing.reaped.extend(ended);
            }
            self.probes.at("reaped");
            if let Some(report) = self.report(survivors) {
                return report;
            }
        }
    }

    /// Quiesces tier after tier of those with a weight below `below`; all if `None`.
    pub(crate) async fn run_tiers(&self, time: Time<'_>, below: Option<i32>) {
        loop {
            let tier = self.table().next_tier(below);
            if tier.is_empty() {
                return;
            }
            if mutants::on("tier_runs_serially") {
                for key in tier {
                    self.quiesce_for_shutdown(time, key).await;
                }
            } else {
                join_all(tier.into_iter().map(|key| self.quiesce_for_shutdown(time, key))).await;
            }
        }
    }

    async fn quiesce_for_shutdown(&self, time: Time<'_>, key: K) {
        let if_dropped =
            if mutants::on("cancelled_shutdown_parks") { IfDropped::Park } else { IfDropped::Keep };
        let status = self.quiesce(time, key, None, if_dropped).await;
        if let Some(closing) = &mut self.table().closing {
            merge(&mut closing.seen, key, &status);
        }
    }

    /// The report, unless there is an orphan that no reap has given its grace.
    fn report(&self, survivors: bool) -> Option<ShutdownReport<K>> {
        let table = self.table();
        let stable = table.orphans.is_empty()
            || (survivors && table.orphans.iter().all(|(_, worker)| !worker.handle.finished()));
        let closing = table.closing.as_ref()?;
        if !stable && !mutants::on("reap_once") {
            return None;
        }
        let surviving = table.orphans.iter().map(|(key, _)| (*key, WorkerStatus::Detached));
        let forgotten = mutants::on("report_without_survivors") || mutants::on("reap_once");
        let orphan_status = closing.reaped.iter().cloned();
        Some(ShutdownReport {
            per_worker: closing.seen.clone(),
            detached: if forgotten { 0 } else { table.orphans.len() },
            orphan_status: if forgotten {
                orphan_status.collect()
            } else {
                orphan_status.chain(surviving).collect()
            },
            gates: BTreeMap::new(),
            elapsed: self.now().saturating_sub(closing.since),
        })
    }
}

/// Adds an answer to those known. Who was joined is not running the next time somebody asks, so the first answer that
/// says more than that stands.
pub(crate) fn merge<K: Key>(known: &mut BTreeMap<K, WorkerStatus>, key: K, status: &WorkerStatus) {
    let entry = known.entry(key).or_insert(WorkerStatus::NotRunning);
    if *entry == WorkerStatus::NotRunning || mutants::on("merge_clobbers") {
        *entry = status.clone();
    }
}
