//! The numbered tests of the requirements, each of which fails under the mutants named for it in
//! `docs/acceptance/migrations.md`. Those of the runner run on two stores, which both must conform: RocksDB, and one that
//! several processes share.

/// Runs tests on both kinds of store.
macro_rules! on_both {
    ($($test:ident),* $(,)?) => {
        mod rocks {
            $(#[test] fn $test() { super::$test(crate::migrations::acceptance::support::Kind::Rocks); })*
        }
        mod shared {
            $(#[test] fn $test() { super::$test(crate::migrations::acceptance::support::Kind::Shared); })*
        }
    };
}

mod backfills;
mod ends;
mod guards;
mod old_store;
mod processes;
mod progress;
mod runs;
mod shutdowns;
mod support;
mod writers;
