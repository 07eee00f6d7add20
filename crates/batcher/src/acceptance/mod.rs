//! The numbered tests of the requirements, each of which fails under the mutants named for it in
//! `docs/acceptance/batcher.md`.

mod close;
mod dedup;
mod door;
mod group;
mod metrics;
mod pool;
mod results;
mod shutdown;
mod spans;
mod support;
mod trigger;
