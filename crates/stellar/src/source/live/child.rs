//! The program that a live source runs, from its start to the end of all that it started.

use std::{
    io,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::process::CommandExt,
    },
    process::{ChildStderr, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use rustix::{
    event::PollFlags,
    process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid},
};

use super::poll::{read_now, wait};

/// A line of standard error that is longer is told in pieces.
const LINE_BYTES: usize = 8 << 10;

/// What is still read of the last words of a program that has gone.
const LAST_WORDS_BYTES: usize = 64 << 10;

/// How long a program that has ended its stream may take to end itself.
const TO_EXIT: Duration = Duration::from_secs(1);

/// A running program, the head of a process group of its own. Dropped, it is asked to end (SIGTERM), and when it has not
/// after a while, killed with its whole group, and waited for in either case.
#[derive(Debug)]
pub(super) struct Child {
    process: std::process::Child,
    stderr: Option<ChildStderr>,
    command: String,
    line: Vec<u8>,
    /// How long it may take to end when asked.
    grace: Duration,
    status: Option<ExitStatus>,
}

impl Child {
    /// Starts `sh -c command`; gives also the reading end of its standard output, or of its descriptor `fd`.
    pub(super) fn start(command: &str, fd: u32, grace: Duration) -> io::Result<(Child, OwnedFd)> {
        let script = match fd {
            1 => command.to_owned(),
            // The pipe moves to the descriptor asked for; what was standard output becomes text.
            fd => format!("exec {fd}>&1 1>&2\n{command}"),
        };
        let mut process = Command::new("/bin/sh")
            .args(["-c", &script])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()?;
        tracing::info!(command, pid = process.id(), "a program that sends ledgers was started");
        let (stdout, stderr) = (process.stdout.take(), process.stderr.take());
        let (command, line) = (command.to_owned(), Vec::new());
        let child = Child { process, stderr, command, line, grace, status: None };
        let stdout = stdout.ok_or_else(|| io::Error::other("the program has no standard output"))?;
        Ok((child, stdout.into()))
    }

    /// Its standard error, until that has ended.
    pub(super) fn stderr(&self) -> Option<BorrowedFd<'_>> {
        self.stderr.as_ref().map(ChildStderr::as_fd)
    }

    /// Passes on what there is on its standard error. Says how much.
    pub(super) fn forward(&mut self) -> usize {
        let mut words = [0; 4096];
        let read = match self.stderr().map(|fd| read_now(fd, &mut words)) {
            None | Some(Ok(None)) => return 0,
            // Nothing depends on these words.
            Some(Err(_) | Ok(Some(0))) => {
                self.stderr = None;
                self.tell();
                return 0;
            }
            Some(Ok(Some(read))) => read,
        };
        for byte in &words[..read] {
            if *byte == b'\n' || self.line.len() >= LINE_BYTES {
                self.tell();
            }
            if *byte != b'\n' {
                self.line.push(*byte);
            }
        }
        read
    }

    fn tell(&mut self) {
        let line = String::from_utf8_lossy(&self.line);
        if !line.trim().is_empty() {
            tracing::info!(pid = self.process.id(), "{}", line.trim_end());
        }
        self.line.clear();
    }

    /// Waits for its end after that of its stream, and says how it went.
    pub(super) fn finish(&mut self) -> String {
        if !self.has_exited(TO_EXIT) {
            self.end();
            return "it closed its stream and went on; it was stopped".to_owned();
        }
        self.end();
        self.status.map_or_else(|| "its exit status is not known".to_owned(), |status| status.to_string())
    }

    /// True when it has exited; waits so long for that, and passes on its words meanwhile.
    fn has_exited(&mut self, within: Duration) -> bool {
        let began = Instant::now();
        loop {
            // Looked at, not taken away: until then no other process can get its number.
            let look = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
            if !matches!(waitid(WaitId::Pid(Pid::from_child(&self.process)), look), Ok(None)) {
                return true;
            }
            if began.elapsed() >= within {
                return false;
            }
            match wait([self.stderr()], PollFlags::IN, Duration::from_millis(5)) {
                Ok([true]) => drop(self.forward()),
                _ => continue,
            }
        }
    }

    /// Ends it, and everything in its group.
    fn end(&mut self) {
        if self.status.is_some() {
            return;
        }
        let group = Pid::from_child(&self.process);
        if !self.has_exited(Duration::ZERO) {
            // A group that is gone already is what is wanted.
            let _ = kill_process_group(group, Signal::TERM);
            if !self.has_exited(self.grace) {
                tracing::warn!(
                    command = self.command,
                    pid = self.process.id(),
                    "it does not end when asked, and is killed"
                );
            }
        }
        let _ = kill_process_group(group, Signal::KILL);
        self.status = self.process.wait().ok();
        let mut heard = 0;
        while heard < LAST_WORDS_BYTES
            && matches!(wait([self.stderr()], PollFlags::IN, Duration::ZERO), Ok([true]))
        {
            heard += self.forward().max(1);
        }
        self.tell();
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.end();
    }
}
