//! The acceptance tests, by the names of the table in docs/acceptance/utxo.md; each runs on every backend.

mod crash;
mod draining;
mod mining;
mod model;
mod refusals;
mod settling;
mod spending;
mod storing;
pub(crate) mod support;

/// Makes each test a test of every backend that keeps what it is given.
macro_rules! on_every_backend {
    ($($test:ident),* $(,)?) => {
        mod memory {
            $(#[test]
            fn $test() {
                super::$test(&crate::acceptance::support::Bed::memory());
            })*
        }

        #[cfg(feature = "rocksdb")]
        mod rocksdb {
            $(#[test]
            fn $test() {
                super::$test(&crate::acceptance::support::Bed::rocksdb());
            })*
        }
    };
}
use on_every_backend;
