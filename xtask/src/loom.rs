//! Model checking: every interleaving of the hand-written handshakes, up to loom's bound on preemptions.

use crate::shell::{Result, cargo, root, run};

/// The crates with models: tests of the library whose names contain `loom`, compiled under `cfg(loom)`.
const MODELLED: &[&str] = &["registry", "batcher"];

/// Runs the models of every crate that has some, in a build of their own: the whole crate is compiled on loom's types.
pub(crate) fn check() -> Result {
    let target = root().join("target/loom");
    for name in MODELLED {
        let package = format!("icecore-{name}");
        run(cargo()
            .args(["test", "--package", &package, "--lib", "--release", "--target-dir"])
            .arg(&target)
            .args(["--", "loom"])
            .env("RUSTFLAGS", "--cfg loom"))?;
    }
    Ok(())
}
