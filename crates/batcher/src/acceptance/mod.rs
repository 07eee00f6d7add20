//! The numbered tests of the requirements, each of which fails under the mutants named for it in
//! `docs/acceptance/batcher.md`.

mod group;
mod pool;
mod shutdown;
mod support;
