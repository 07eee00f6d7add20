//! A gate that lets one pass through at a time, and none while it is held.
//!
//! ```text
//!                 a pass                                a teardown
//!          1  busy: false → true (CAS)           1  raised += 1, or closed = true
//!          2  ── fence(SeqCst) ──                2  ── fence(SeqCst) ──
//!          3  raised > 0 or closed?              3  busy?
//!             yes: busy = false, refuse             yes: wait until the pass ends
//!             no:  work, then busy = false          no:  at rest
//! ```
//!
//! Each side writes, then reads what the other writes. Without one order over all four steps both could read the
//! old value, and a pass would work in a store that is being torn down; acquire and release do not give that order,
//! the two fences do, as sequentially consistent accesses would; fences are what the model checker knows too, so that it
//! checks the code that runs. `models.rs` has the proof by exhaustion, and its failure without the fences.
//!
//! `raised` is a count, so nobody's drop lowers somebody else's barrier. `closed` never goes back.

use std::{sync::Arc, time::Duration};

use crate::{
    mutants,
    probes::Probes,
    signal::Signal,
    sync::{AtomicBool, AtomicUsize, Ordering, fence},
    wait::{Look, Time, wait},
};

/// Why a pass may not begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PassRefused {
    /// Another pass is under way: wait for it, or let it do the work.
    #[error("another pass is under way")]
    Busy,
    /// The gate is held, by a clear or a quiesce: try again later.
    #[error("the gate is held: a clear or a quiesce is under way, try again later")]
    Gated,
    /// The gate was closed for good, by a shutdown.
    #[error("the gate is closed for good: the component was shut down")]
    Closed,
}

/// The gate of one component. Clones are the same gate.
#[derive(Clone, Default)]
pub struct PassGate {
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    busy: AtomicBool,
    raised: AtomicUsize,
    closed: AtomicBool,
    signal: Signal,
    probes: Probes,
}

impl PassGate {
    /// An open gate.
    pub fn new() -> Self {
        Self::default()
    }

    /// Begins a pass. It ends when the guard is dropped, also by a panic.
    ///
    /// # Errors
    ///
    /// [`PassRefused`] if the gate is closed or held, or another pass is under way.
    pub fn begin_pass(&self) -> Result<PassGuard, PassRefused> {
        // Decides nothing, but who is refused anyway must not look like a pass to a teardown that waits for the last one.
        if let Some(refusal) = self.refusal() {
            return Err(refusal);
        }
        if mutants::on("look_before_claim") {
            self.inner.probes.at("between_claim_and_look");
            return self.claim().ok_or(PassRefused::Busy);
        }
        let pass = self.claim().ok_or(PassRefused::Busy)?;
        self.inner.probes.at("between_claim_and_look");
        order_write_before_read();
        // On refusal the guard's drop gives the claim back, and wakes a teardown that saw it.
        self.refusal().map_or(Ok(pass), Err)
    }

    /// Does `work` as a pass.
    ///
    /// # Errors
    ///
    /// As for [`begin_pass`](Self::begin_pass); then nothing was done.
    pub fn pass<T>(&self, work: impl FnOnce() -> T) -> Result<T, PassRefused> {
        if mutants::on("pass_skips_the_gate") {
            return Ok(work());
        }
        let _pass = self.begin_pass()?;
        Ok(work())
    }

    /// Raises the gate: until the guard is dropped no pass begins. One that is under way goes on.
    #[must_use = "the gate is up for as long as the guard lives"]
    pub fn hold(&self) -> GateGuard {
        self.inner.raised.fetch_add(1, Ordering::AcqRel);
        order_write_before_read();
        GateGuard { gate: self.clone() }
    }

    /// Closes the gate for good.
    pub fn close(&self) {
        self.inner.closed.store(true, Ordering::Release);
        order_write_before_read();
    }

    /// Whether a pass is under way. Says something about the next moment only to a holder of the gate.
    pub fn is_busy(&self) -> bool {
        self.inner.busy.load(Ordering::Acquire)
    }

    /// Whether somebody holds the gate.
    pub fn is_raised(&self) -> bool {
        self.inner.raised.load(Ordering::Acquire) > 0
    }

    /// Whether the gate was closed for good.
    pub fn is_closed(&self) -> bool {
        self.inner.closed.load(Ordering::Acquire)
    }

    /// Waits until no pass is under way, until `deadline`; tells whether that came. The caller holds the gate.
    pub(crate) async fn drain(&self, time: Time<'_>, deadline: Option<Duration>) -> bool {
        wait(&self.inner.signal, time, deadline, || if self.is_busy() { Look::Later } else { Look::Done(()) })
            .await
            .is_some()
    }

    /// Waits for the gate's one pass and takes it, until `deadline`. For a holder of the gate, whom it does not stop,
    /// unless it is closed.
    pub(crate) async fn take_pass(
        &self,
        time: Time<'_>,
        deadline: Duration,
        _held: &GateGuard,
    ) -> Option<Result<PassGuard, PassRefused>> {
        let take = || {
            let Some(pass) = self.claim() else { return Look::Later };
            order_write_before_read();
            Look::Done(if self.is_closed() { Err(PassRefused::Closed) } else { Ok(pass) })
        };
        wait(&self.inner.signal, time, Some(deadline), take).await
    }

    /// Whether the other is a clone of this one.
    pub(crate) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.inner, &other.inner)
    }

    fn claim(&self) -> Option<PassGuard> {
        let claimed = self.inner.busy.compare_exchange(false, true, Ordering::AcqRel, Ordering::Acquire);
        claimed.is_ok().then(|| PassGuard { gate: self.clone() })
    }

    fn refusal(&self) -> Option<PassRefused> {
        if self.is_closed() {
            Some(PassRefused::Closed)
        } else {
            self.is_raised().then_some(PassRefused::Gated)
        }
    }

    /// What a gate that is one flag does when its owner is done: lower it, whoever else holds it.
    pub(crate) fn lower_whoever_holds(&self) {
        self.inner.raised.store(0, Ordering::Release);
    }

    #[cfg(all(test, not(loom)))]
    pub(crate) fn probes(&self) -> &Probes {
        &self.inner.probes
    }
}

impl std::fmt::Debug for PassGate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let inner = &self.inner;
        f.debug_struct("PassGate")
            .field("busy", &inner.busy.load(Ordering::Relaxed))
            .field("raised", &inner.raised.load(Ordering::Relaxed))
            .field("closed", &inner.closed.load(Ordering::Relaxed))
            .finish()
    }
}

/// A broken variant that shows under the model checker only, and so is in no table of tests.
const WITHOUT_FENCES: &str = "gate_without_fences";

/// The fence between a side's write and its read.
fn order_write_before_read() {
    if !mutants::on(WITHOUT_FENCES) {
        fence(Ordering::SeqCst);
    }
}

/// A pass under way; its drop ends it.
#[derive(Debug)]
#[must_use = "the pass ends when the guard is dropped"]
pub struct PassGuard {
    gate: PassGate,
}

impl Drop for PassGuard {
    fn drop(&mut self) {
        if mutants::on("pass_leaks_on_panic") && std::thread::panicking() {
            return;
        }
        self.gate.inner.busy.store(false, Ordering::Release);
        self.gate.inner.signal.wake_all();
    }
}

/// One holder's share in a raised gate; its drop gives that share back.
#[derive(Debug)]
pub struct GateGuard {
    gate: PassGate,
}

impl Drop for GateGuard {
    fn drop(&mut self) {
        if mutants::on("gate_is_a_flag") {
            return self.gate.lower_whoever_holds();
        }
        self.gate.inner.raised.fetch_sub(1, Ordering::AcqRel);
    }
}
