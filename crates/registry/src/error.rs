use crate::{ComponentStatus, PassRefused};

/// The result of this crate's calls.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Everything that can go wrong, told apart by what a caller can do about it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A shutdown left something running, or something ended badly.
    #[error("the shutdown was not clean: {}", causes.join("; "))]
    Unclean {
        /// One line for each worker, orphan and gate: its key and what is the matter.
        causes: Vec<String>,
    },
    /// A component could not be brought to rest, so its store was **not** wiped: it holds everything it held before.
    ///
    /// Whoever mirrors that store, in memory or on a screen, must not wipe the mirror on this error: it would show
    /// nothing over a full store. The clear may be tried again.
    #[error("{key} was not cleared, its store is untouched ({status}): see what still runs, then try again")]
    ShutdownIncomplete {
        /// The component.
        key: String,
        /// What did not come to rest.
        status: ComponentStatus,
    },
    /// No component of this key was added to the manager.
    #[error("there is no component {key}: add it before it is cleared or destroyed")]
    UnknownComponent {
        /// The key that was asked for.
        key: String,
    },
    /// A pass, or a clear that came to its wipe, was not let through a gate. Nothing was done: the store holds what it held.
    #[error(transparent)]
    Pass(#[from] PassRefused),
}
