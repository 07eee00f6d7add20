//! Model checking: every interleaving of the hand-written handshakes, up to loom's bound on preemptions.

use crate::shell::{Result, cargo, line, output, root};

/// The crates with models, and what the names of those tests contain.
const MODELLED: &[(&str, &str)] = &[("registry", "loom"), ("batcher", "models"), ("events", "model")];

/// Runs the models of every crate that has some, in a build of their own: the whole crate is compiled on loom's types.
pub(crate) fn check() -> Result {
    let target = root().join("target/loom");
    for (name, models) in MODELLED {
        let package = format!("icecore-{name}");
        let mut command = cargo();
        command.args(["test", "--package", &package, "--lib", "--release", "--target-dir"]);
        command.arg(&target).args(["--", models]).env("RUSTFLAGS", "--cfg loom");
        println!("$ {}", line(&command));
        let report = output(&mut command)?;
        print!("{report}");
        if report.contains("running 0 tests") {
            return Err(format!("{package} has no models with {models:?} in their names"));
        }
    }
    Ok(())
}
