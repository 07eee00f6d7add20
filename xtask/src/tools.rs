//! Programs that must be there before cargo can build: installed where that can be done without asking.

use std::process::Command;

use crate::shell::{Result, output, run, works};

/// A program, and the Debian package that has it.
pub(crate) type Tool = (&'static str, &'static str);

/// What building needs: zstd is compiled from C.
pub(crate) const BUILD: &[Tool] = &[("cc", "build-essential")];
/// What fuzzing needs: the fuzzing engine is compiled from C++.
pub(crate) const FUZZ: &[Tool] = &[("c++", "build-essential")];

/// Makes sure that every program is there: as root with apt-get; anyone else is told what to type.
pub(crate) fn require(tools: &[Tool]) -> Result {
    let missing: Vec<&Tool> =
        tools.iter().filter(|(tool, _)| !works(Command::new(tool).arg("--version"))).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let packages: Vec<&str> = missing.iter().map(|(_, package)| *package).collect();
    let is_root = output(Command::new("id").arg("-u")).is_ok_and(|id| id.trim() == "0");
    if !is_root || !works(Command::new("apt-get").arg("--version")) {
        let names: Vec<&str> = missing.iter().map(|(tool, _)| *tool).collect();
        let packages = packages.join(" ");
        return Err(format!(
            "{} missing; on Debian or Ubuntu: sudo apt-get install {packages}",
            names.join(", ")
        ));
    }
    run(Command::new("apt-get").arg("update"))?;
    run(Command::new("apt-get").args(["install", "--yes", "--no-install-recommends"]).args(packages))
}
