//! The `icecore` program: parse, call, print.

mod admin;
mod args;
mod build;
mod config;
mod daemon;
mod demo;
mod fail;
mod file;
mod get;
mod history;
mod ingest;
mod inspect;
mod log;
mod manage;
mod output;
mod progress;
mod replay;
mod utxo;
mod verify;

use std::{
    io::{IsTerminal, Write},
    process::ExitCode,
    sync::{
        Arc,
        mpsc::{Receiver, Sender, channel},
    },
};

use args::{Cli, Command, Get, Utxo};
use clap::Parser;
use fail::Outcome;
use icecore_cold::Control;
use output::Output;

fn main() -> ExitCode {
    let cli = Cli::parse();
    raise_file_limit();
    match run(cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(fail) if fail.is_broken_pipe() => ExitCode::SUCCESS,
        Err(fail) => {
            let mut stderr = std::io::stderr();
            let colour = stderr.is_terminal() && std::env::var_os("NO_COLOR").is_none();
            let label = if colour { "\x1b[31micecore:\x1b[0m" } else { "icecore:" };
            // Nothing is left to do where even this cannot be written.
            let _ = writeln!(stderr, "{label} {fail}");
            fail.code()
        }
    }
}

/// Databases, and builds out of a thousand runs, keep many files open: takes as many as the system lets this process have.
fn raise_file_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // With fewer files all works as well, and opens some of them again and again.
    let _ = setrlimit(Resource::Nofile, limit);
}

fn run(command: Command) -> Outcome {
    match command {
        Command::Build(args) => build::run(&args, &Output::new(args.json)),
        Command::Ingest(args) => ingest::run(&args, &Output::new(args.json)),
        Command::Get(Get::Ledger(args)) => get::ledger(&args, &Output::new(args.answer.json)),
        Command::Get(Get::Tx(args)) => get::transaction(&args, &Output::new(args.answer.json)),
        Command::Get(Get::Events(args)) => get::events(&args, &Output::new(args.answer.json)),
        Command::Ls(args) => inspect::ls(&args, &Output::new(args.json)),
        Command::Stat(args) => inspect::stat(&args, &Output::new(args.json)),
        Command::Cat(args) => inspect::cat(&args, &Output::new(args.json)),
        Command::Verify(args) => verify::run(&args, &Output::new(args.json)),
        Command::Utxo(Utxo::Bench(args)) => utxo::bench(&args, &Output::new(args.json)),
        Command::Daemon(args) => daemon::run(&args, &Output::new(false)),
        Command::Status(args) => manage::status(&args, &Output::new(args.json)),
        Command::Plan(args) => manage::plan(&args, &Output::new(args.json)),
        Command::Retention(args) => manage::retention(&args, &Output::new(args.json)),
        Command::Adopt(args) => manage::adopt(&args, &Output::new(args.json)),
        Command::Audit(args) => manage::audit(&args, &Output::new(args.json)),
        Command::Recover(args) => manage::recover(&args, &Output::new(args.json)),
        Command::Backup(args) => manage::backup(&args, &Output::new(args.json)),
        Command::Restore(args) => manage::restore(&args, &Output::new(args.json)),
        Command::Config(args) => config::run(&args, &Output::new(false)),
        Command::Replay(args) => replay::run(&args),
        Command::Demo(args) => demo::run(&args, &Output::new(false)),
    }
}

/// A [`Control`] that Ctrl-C (or SIGTERM) cancels.
fn cancellable() -> Outcome<Arc<Control>> {
    Ok(stoppable()?.0)
}

/// A [`Control`] that Ctrl-C (or SIGTERM) cancels, and what is told then, for those who wait.
fn stoppable() -> Outcome<(Arc<Control>, Receiver<()>)> {
    let control = Arc::new(Control::default());
    let on_signal = Arc::clone(&control);
    let (tell, told) = channel();
    let handler = move || {
        on_signal.cancel();
        // Whoever does not wait does not listen.
        let _ = tell.send(());
    };
    ctrlc::set_handler(handler).map_err(|e| fail::Fail::Error(Box::new(e)))?;
    Ok((control, told))
}

/// A channel into which Ctrl-C and SIGTERM send, and whoever else has a reason to stop.
fn stops() -> Outcome<(Sender<()>, Receiver<()>)> {
    let (tell, told) = channel();
    let on_signal = tell.clone();
    // Where nobody listens any more, it is ending already.
    ctrlc::set_handler(move || _ = on_signal.send(())).map_err(|e| fail::Fail::Error(Box::new(e)))?;
    Ok((tell, told))
}

/// A word on the side, on standard error so that answers stay clean.
fn warn(text: &str) {
    // A warning that cannot be shown must not fail the command that succeeded.
    let _ = writeln!(std::io::stderr(), "icecore: {text}");
}

/// The processor cores of this machine.
fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}
