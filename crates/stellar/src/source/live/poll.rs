//! Waiting for descriptors without blocking on them.

use std::{io, os::fd::BorrowedFd, time::Duration};

use rustix::event::{PollFd, PollFlags, Timespec};

/// The longest wait in one go, so that whoever wants to stop is heard soon.
pub(super) const LOOK_UP: Duration = Duration::from_millis(50);

/// Waits until something can be done with one of `fds`, or an end or an error be had from it, but no longer than
/// `within`; says of which. May give up early. With no descriptors, it just waits.
pub(super) fn wait<const N: usize>(
    fds: [Option<BorrowedFd<'_>>; N],
    what: PollFlags,
    within: Duration,
) -> io::Result<[bool; N]> {
    let mut polled: Vec<PollFd<'_>> =
        fds.iter().flatten().map(|fd| PollFd::from_borrowed_fd(*fd, what)).collect();
    let timeout = Timespec::try_from(within).unwrap_or(Timespec { tv_sec: 1, tv_nsec: 0 });
    match rustix::event::poll(&mut polled, Some(&timeout)) {
        Ok(_) => (),
        Err(rustix::io::Errno::INTR) => return Ok([false; N]),
        Err(error) => return Err(error.into()),
    }
    let mut found = polled.iter().map(|fd| !fd.revents().is_empty());
    Ok(fds.map(|fd| fd.is_some() && found.next().unwrap_or(false)))
}

/// Reads what is there, at most as much as fits; `None` where nothing is after all.
pub(super) fn read_now(fd: BorrowedFd<'_>, into: &mut [u8]) -> io::Result<Option<usize>> {
    match rustix::io::read(fd, into) {
        Ok(read) => Ok(Some(read)),
        Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Waits in vain for as long as `time`, or until `stop`; says whether that was it.
pub(super) fn pause(time: Duration, stop: &dyn Fn() -> bool) -> io::Result<bool> {
    let began = std::time::Instant::now();
    loop {
        let left = time.saturating_sub(began.elapsed());
        if stop() || left.is_zero() {
            return Ok(stop());
        }
        wait([], PollFlags::empty(), left.min(LOOK_UP))?;
    }
}
