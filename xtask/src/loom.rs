//! Model checking: every interleaving of the hand-written handshakes, up to loom's bound on preemptions.

use crate::shell::{Result, cargo, root, run};

/// The crates with models, and what the names of those tests contain.
const MODELLED: &[(&str, &str)] = &[("registry", "loom"), ("batcher", "loom"), ("events", "model")];

/// Runs the models of every crate that has some, in a build of their own: the whole crate is compiled on loom's types.
pub(crate) fn check() -> Result {
    let target = root().join("target/loom");
    for (name, models) in MODELLED {
        let package = format!("icecore-{name}");
        run(cargo()
            .args(["test", "--package", &package, "--lib", "--release", "--target-dir"])
            .arg(&target)
            .args(["--", models])
            .env("RUSTFLAGS", "--cfg loom"))?;
    }
    Ok(())
}
