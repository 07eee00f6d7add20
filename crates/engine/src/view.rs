//! What a request sees: one moment of the store, kept to its end.
//!
//! ```text
//! load  latest ─▶ hot chunks ─▶ catalog state ─▶ floor        in this order: see `shared`
//! chunk, kind  ─▶ frozen: cold wins │ a ready hot chunk │ not here yet        nothing in any other state is read
//! ```

use std::sync::Arc;

use icecore_catalog::{Artifact, HotState, State};
use icecore_hotchunk::HotChunk;
use icecore_ledger::{ChunkId, LedgerRange, LedgerSeq};

use crate::{
    Error, Result,
    ages::Generation,
    mutants,
    plan::Scope,
    shared::{HotMap, Shared},
};

/// One moment of the store. Take one for each request and drop it at its end: it keeps hot chunks from going, and what was
/// demoted since is destroyed after the grace.
pub struct View {
    pub(crate) shared: Arc<Shared>,
    pub(crate) hot: Arc<HotMap>,
    pub(crate) state: Arc<State>,
    scope: Scope,
    floor: ChunkId,
    latest: Option<LedgerSeq>,
    _held: Arc<Generation>,
}

/// Which kind of store answers for a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Frozen files.
    Cold,
    /// A hot chunk.
    Hot,
}

/// What a chunk is read from.
pub(crate) enum Serving<'a> {
    Cold,
    Hot(&'a HotChunk),
}

impl Serving<'_> {
    pub(crate) fn place(&self) -> Place {
        match self {
            Serving::Cold => Place::Cold,
            Serving::Hot(_) => Place::Hot,
        }
    }
}

impl View {
    pub(crate) fn take(shared: &Arc<Shared>) -> View {
        let _held = shared.ages.enter(shared.clock.now());
        let latest = shared.published.latest();
        let hot = shared.hot.load_full();
        let state = shared.state();
        let scope = shared.scope();
        let floor = scope.floor(shared.published.complete());
        View { shared: Arc::clone(shared), hot, state, scope, floor, latest, _held }
    }

    /// The last ledger; `None` before the first one.
    pub fn latest(&self) -> Option<LedgerSeq> {
        self.latest
    }

    /// The first chunk that is kept.
    pub fn floor(&self) -> ChunkId {
        self.floor
    }

    /// The catalog's state.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// The ledgers that are kept, from the floor to the latest; some may still be on their way, see
    /// [`available`](View::available).
    ///
    /// # Errors
    /// [`Error::Empty`].
    pub fn range(&self) -> Result<LedgerRange> {
        let (latest, first) = (self.latest.ok_or(Error::Empty)?, self.shared.ledgers_of(self.floor)?.first);
        LedgerRange::new(first, latest).map_err(|_| Error::Empty)
    }

    /// The ledgers that can be read now, as the longest ranges without a hole.
    pub fn available(&self) -> Vec<LedgerRange> {
        let Ok(range) = self.range() else { return Vec::new() };
        let mut found: Vec<LedgerRange> = Vec::new();
        for chunk in self.chunks(range) {
            let ledgers = self.shared.ledgers_of(chunk).ok().and_then(|ledgers| ledgers.intersect(range));
            let held = match self.serving(chunk, Artifact::Ledgers) {
                Some(Serving::Cold) => ledgers,
                Some(Serving::Hot(hot)) => {
                    let held = hot.view().ok().and_then(|view| view.range());
                    held.zip(ledgers).and_then(|(held, ledgers)| held.intersect(ledgers))
                }
                None => None,
            };
            match (found.last_mut(), held) {
                (_, None) => {}
                (Some(last), Some(next)) if u64::from(last.last.0) + 1 == u64::from(next.first.0) => {
                    last.last = next.last;
                }
                (_, Some(next)) => found.push(next),
            }
        }
        found
    }

    /// The chunks of some ledgers, in order.
    pub(crate) fn chunks(&self, ledgers: LedgerRange) -> impl DoubleEndedIterator<Item = ChunkId> + use<> {
        let of = |seq| self.scope.geometry.chunk_of(seq).unwrap_or(ChunkId(0));
        (of(ledgers.first).0..=of(ledgers.last).0).map(ChunkId)
    }

    /// The one decision of what is read: frozen files win, then a hot chunk that is ready, and nothing else.
    pub(crate) fn serving(&self, chunk: ChunkId, artifact: Artifact) -> Option<Serving<'_>> {
        let indexed = || artifact == Artifact::TxHash && self.state.covered(chunk);
        if self.state.has(chunk, artifact) || indexed() {
            return Some(Serving::Cold);
        }
        self.ready(chunk).map(Serving::Hot)
    }

    /// A hot chunk that may be read.
    pub(crate) fn ready(&self, chunk: ChunkId) -> Option<&HotChunk> {
        let ready = self.state.hot(chunk) == Some(HotState::Ready) || mutants::on("read_any_hot");
        self.hot.get(&chunk).filter(|_| ready).map(|hot| &**hot)
    }

    /// Checks that a ledger is kept, and gives its chunk.
    pub(crate) fn locate(&self, asked: LedgerSeq) -> Result<ChunkId> {
        let available = self.range()?;
        if !available.contains(asked) && !mutants::on("serve_below_floor") {
            return Err(Error::OutOfBounds { asked, available });
        }
        self.scope.geometry.chunk_of(asked).ok_or(Error::OutOfBounds { asked, available })
    }

    /// Why something that is kept cannot be read.
    pub(crate) fn not_yet(&self, chunk: ChunkId, asked: LedgerSeq) -> Error {
        match self.range() {
            Ok(available) => Error::NotYet { asked, chunk, available },
            Err(error) => error,
        }
    }
}

impl std::fmt::Debug for View {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let hot: Vec<_> = self.hot.keys().collect();
        f.debug_struct("View")
            .field("latest", &self.latest)
            .field("floor", &self.floor)
            .field("hot", &hot)
            .finish()
    }
}

#[cfg(test)]
#[path = "view_tests.rs"]
mod tests;
