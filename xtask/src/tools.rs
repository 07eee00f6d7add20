//! What must be there before cargo can build: installed where that can be done without asking.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::shell::{Result, output, run, works};

/// Something that building needs, and how to tell that it is there.
#[derive(Clone, Copy)]
pub(crate) enum Tool {
    /// A program, which answers `--version`.
    Program(&'static str),
    /// The library by which Rust declarations are made from C headers.
    Libclang,
}

use Tool::{Libclang, Program};

/// What building needs, and the Debian package that has it: zstd and lz4 are compiled from C, RocksDB from C++, and
/// its declarations are made from its header.
pub(crate) const BUILD: &[(Tool, &str)] =
    &[(Program("cc"), "build-essential"), (Program("c++"), "build-essential"), (Libclang, "libclang-dev")];
/// What fuzzing needs: the fuzzing engine is compiled from C++.
pub(crate) const FUZZ: &[(Tool, &str)] = &[(Program("c++"), "build-essential")];

impl Tool {
    fn name(self) -> &'static str {
        match self {
            Program(name) => name,
            Libclang => "libclang",
        }
    }

    fn is_there(self) -> bool {
        match self {
            Program(name) => works(Command::new(name).arg("--version")),
            Libclang => {
                // Elsewhere it comes with the compiler, and the build itself says where it looked.
                !cfg!(target_os = "linux") || library_dirs().iter().any(|dir| has_libclang(dir))
            }
        }
    }
}

/// Where libclang is looked for when the declarations are made.
fn library_dirs() -> Vec<PathBuf> {
    let mut dirs: Vec<PathBuf> = env::var_os("LIBCLANG_PATH").map(PathBuf::from).into_iter().collect();
    if let Ok(prefix) = output(Command::new("llvm-config").arg("--libdir")) {
        dirs.push(prefix.trim().into());
    }
    let fixed = ["/usr/lib", "/usr/lib64", "/usr/local/lib", "/usr/local/lib64", "/usr/local/llvm/lib"];
    dirs.extend(fixed.map(PathBuf::from));
    // Debian keeps a folder for each version, and one for each architecture.
    for entry in fs::read_dir("/usr/lib").into_iter().flatten().flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with("llvm") {
            dirs.push(entry.path().join("lib"));
        } else if name.ends_with("-linux-gnu") {
            dirs.push(entry.path());
        }
    }
    dirs
}

/// `libclang.so` and its numbered kin; `libclang-cpp` is another library.
fn has_libclang(dir: &Path) -> bool {
    let is_it = |name: &str| {
        name.strip_prefix("libclang")
            .is_some_and(|rest| rest.starts_with(".so") || (rest.starts_with('-') && rest.contains(".so")))
            && !name.starts_with("libclang-cpp")
    };
    dir.is_file() && dir.file_name().is_some_and(|name| is_it(&name.to_string_lossy()))
        || fs::read_dir(dir).into_iter().flatten().flatten().any(|e| is_it(&e.file_name().to_string_lossy()))
}

/// Makes sure that everything is there: as root with apt-get; anyone else is told what to type.
pub(crate) fn require(tools: &[(Tool, &str)]) -> Result {
    let missing: Vec<_> = tools.iter().filter(|(tool, _)| !tool.is_there()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let mut packages: Vec<&str> = missing.iter().map(|(_, package)| *package).collect();
    packages.dedup();
    let is_root = output(Command::new("id").arg("-u")).is_ok_and(|id| id.trim() == "0");
    if !is_root || !works(Command::new("apt-get").arg("--version")) {
        let names: Vec<&str> = missing.iter().map(|(tool, _)| tool.name()).collect();
        let packages = packages.join(" ");
        return Err(format!(
            "{} missing; on Debian or Ubuntu: sudo apt-get install {packages}",
            names.join(", ")
        ));
    }
    run(Command::new("apt-get").arg("update"))?;
    run(Command::new("apt-get").args(["install", "--yes", "--no-install-recommends"]).args(packages))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libclang_is_told_from_its_neighbours() {
        let dir = env::temp_dir().join(format!("icecore-xtask-libclang-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        for (file, expected) in [
            ("libclang-cpp.so.14", false),
            ("libclangBasic.a", false),
            ("libclang.a", false),
            ("libclang-14.so.1", true),
        ] {
            fs::write(dir.join(file), b"").unwrap();
            assert_eq!(has_libclang(&dir), expected, "{file}");
        }
        fs::remove_dir_all(&dir).unwrap();
    }
}
