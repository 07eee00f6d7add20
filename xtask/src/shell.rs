//! Running other programs, and saying so.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

/// What a task ends in: nothing to say, or what went wrong, for a person.
pub(crate) type Result<T = (), E = String> = std::result::Result<T, E>;

/// The root of the checkout.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap_or_else(|_| PathBuf::from("."))
}

/// The cargo that runs this program, in the root of the checkout.
pub(crate) fn cargo() -> Command {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(root());
    cargo
}

/// A command as one would type it.
pub(crate) fn line(command: &Command) -> String {
    let program = Path::new(command.get_program()).file_name().unwrap_or(command.get_program());
    let env = command.get_envs().filter_map(|(name, value)| {
        Some(format!("{}={:?}", name.to_string_lossy(), value?.to_string_lossy()))
    });
    let words =
        std::iter::once(program).chain(command.get_args()).map(|word| word.to_string_lossy().into_owned());
    env.chain(words).collect::<Vec<_>>().join(" ")
}

/// Prints a command, runs it in the foreground, and fails where it fails.
pub(crate) fn run(command: &mut Command) -> Result {
    println!("$ {}", line(command));
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("`{}` failed: {status}", line(command))),
        Err(e) => Err(format!("cannot run `{}`: {e}", line(command))),
    }
}

/// True where a command exists and succeeds, whatever it prints.
pub(crate) fn works(command: &mut Command) -> bool {
    command.output().is_ok_and(|output| output.status.success())
}

/// The standard output of a command.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let output = command.output().map_err(|e| format!("cannot run `{}`: {e}", line(command)))?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        return Err(format!("`{}` failed: {}\n{stderr}", line(command), output.status));
    }
    String::from_utf8(output.stdout).map_err(|e| format!("`{}`: {e}", line(command)))
}

/// How many things to do at once.
pub(crate) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}
